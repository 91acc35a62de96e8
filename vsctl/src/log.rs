//! What vsctl tells besides its output: on the console, which is standard error, and with `--log-file` in a file, one
//! line an event, as `ovs-vsctl -v` and `--log-file` do. Nothing goes to syslog.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::error::{Result, fail, failed};

/// The file of `--log-file` without a name.
pub(crate) const DEFAULT_LOG_FILE: &str = "/var/log/vswitch/vsctl.log";

/// How much it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Off,
    Emer,
    Err,
    Warn,
    Info,
    Dbg,
}

const LEVELS: [(&str, Level); 6] = [
    ("off", Level::Off),
    ("emer", Level::Emer),
    ("err", Level::Err),
    ("warn", Level::Warn),
    ("info", Level::Info),
    ("dbg", Level::Dbg),
];

/// Which part tells it; each has levels of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Module {
    Vsctl,
    Jsonrpc,
}

/// Modules of ovs-vsctl that scripts set levels for and that have nothing to tell here.
const SILENT_MODULES: [&str; 14] = [
    "db_ctl_base",
    "dns_resolve",
    "fatal_signal",
    "ovsdb_cs",
    "ovsdb_idl",
    "poll_loop",
    "reconnect",
    "socket_util",
    "stream",
    "stream_ssl",
    "stream_unix",
    "timeval",
    "util",
    "vlog",
];

/// Levels of the two modules.
type Levels = [Level; 2];

/// Where messages go, and which.
#[derive(Debug)]
pub(crate) struct Log {
    console: Levels,
    file: Levels,
    sink: Option<RefCell<Sink>>,
}

#[derive(Debug)]
struct Sink {
    file: File,
    lines: u32,
}

impl Log {
    /// A log with the levels that each `--verbose=SPEC` sets, in this order.
    pub(crate) fn new(specs: &[&str], file: Option<PathBuf>) -> Result<Log> {
        let mut log = Log { console: [Level::Warn; 2], file: [Level::Info; 2], sink: None };
        specs.iter().try_for_each(|spec| log.set(spec))?;
        if let Some(path) = file {
            match open(&path) {
                Ok(file) => log.sink = Some(RefCell::new(Sink { file, lines: 0 })),
                Err(error) => log.warn(&format!("no log: {}: {error}", path.display())),
            }
        }
        Ok(log)
    }

    /// Reads words such as `console:jsonrpc:dbg`, at most one of each kind.
    fn set(&mut self, spec: &str) -> Result<()> {
        if ["PATTERN:", "FACILITY:"].iter().any(|prefix| spec.starts_with(prefix)) {
            return Ok(()); // The pattern of the lines is fixed, and facilities are syslog's.
        }
        let (mut level, mut destination, mut module) = (None, None, None);
        for word in spec.split([' ', ',', ':']).filter(|word| !word.is_empty()) {
            let lower = word.to_ascii_lowercase().replace('-', "_");
            let twice = match lower.as_str() {
                "any" => None,
                "console" | "file" | "syslog" => destination.replace(lower),
                "vsctl" | "jsonrpc" => module.replace(lower),
                silent if SILENT_MODULES.contains(&silent) => module.replace(lower),
                name => match LEVELS.iter().find(|(known, _)| *known == name) {
                    Some((_, known)) => level.replace(*known).map(|_| lower),
                    None => fail!("--verbose={spec}: '{word}' is no level, destination or module"),
                },
            };
            if let Some(other) = twice {
                fail!("--verbose={spec}: '{word}' and '{other}' do not go together");
            }
        }
        let level = level.unwrap_or(Level::Dbg);
        for (name, levels) in [("console", &mut self.console), ("file", &mut self.file)] {
            if destination.as_deref().is_none_or(|wanted| wanted == name) {
                for (name, one) in ["vsctl", "jsonrpc"].into_iter().zip(levels) {
                    if module.as_deref().is_none_or(|wanted| wanted == name) {
                        *one = level;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether messages to and from the switch are told anywhere.
    pub(crate) fn traces(&self) -> bool {
        let at = Module::Jsonrpc as usize;
        self.console[at] == Level::Dbg || (self.sink.is_some() && self.file[at] == Level::Dbg)
    }

    /// A message to or from the switch.
    pub(crate) fn trace(&self, text: &str) {
        self.tell(Module::Jsonrpc, Level::Dbg, text);
    }

    /// For the record.
    pub(crate) fn info(&self, text: &str) {
        self.tell(Module::Vsctl, Level::Info, text);
    }

    /// All went well, but.
    pub(crate) fn warn(&self, text: &str) {
        self.tell(Module::Vsctl, Level::Warn, text);
    }

    /// Why the run failed. The console shows it whatever its level: it is the answer.
    pub(crate) fn error(&self, text: &str) {
        print_error(text);
        text.lines().for_each(|line| self.write(Module::Vsctl, Level::Err, line));
    }

    fn tell(&self, module: Module, level: Level, text: &str) {
        if self.console[module as usize] >= level {
            eprintln!("vsctl: {text}");
        }
        self.write(module, level, text);
    }

    fn write(&self, module: Module, level: Level, text: &str) {
        let Some(sink) = self.sink.as_ref().filter(|_| self.file[module as usize] >= level) else { return };
        let Ok(mut sink) = sink.try_borrow_mut() else { return };
        sink.lines += 1;
        let line = line(SystemTime::now(), sink.lines, module, level, text);
        // A full disk must not keep anybody from changing the switch.
        let _ = sink.file.write_all(line.as_bytes());
    }
}

/// Prints an error, each of its lines after the program's name.
pub(crate) fn print_error(text: &str) {
    text.lines().for_each(|line| eprintln!("vsctl: {line}"));
}

fn open(path: &Path) -> Result<File> {
    let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path);
    file.map_err(|error| failed!("{error}"))
}

/// `2026-11-21T07:09:15.054Z|00001|vsctl|INFO|text`
fn line(time: SystemTime, number: u32, module: Module, level: Level, text: &str) -> String {
    let module = match module {
        Module::Vsctl => "vsctl",
        Module::Jsonrpc => "jsonrpc",
    };
    let level = LEVELS.iter().find(|(_, known)| *known == level).map_or("", |(name, _)| name).to_ascii_uppercase();
    format!("{}|{number:05}|{module}|{level}|{text}\n", utc(time))
}

/// A time of the Gregorian calendar in UTC, to the millisecond (ISO 8601).
fn utc(time: SystemTime) -> String {
    let since_1970 = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (secs, millis) = (since_1970.as_secs(), since_1970.subsec_millis());
    let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
    // Years that begin in March have their leap day last, and 400 of them have 146,097 days.
    let day = secs / 86_400 + 719_468;
    let (era, day) = (day / 146_097, day % 146_097);
    let year_of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = 400 * era + year_of_era + carry;
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times() {
        for (secs, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000Z"),
            (1_795_244_955, "2026-11-21T07:09:15.000Z"),
            (1_798_761_600, "2027-01-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(utc(SystemTime::UNIX_EPOCH + Duration::from_secs(secs)), text);
        }
        let time = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_244_955_054);
        let text = line(time, 1, Module::Vsctl, Level::Info, "called as vsctl show");
        assert_eq!(text, "2026-11-21T07:09:15.054Z|00001|vsctl|INFO|called as vsctl show\n");
    }

    #[test]
    fn levels() {
        let read = |specs: &[&str]| Log::new(specs, None).map(|log| (log.console, log.file));
        use Level::{Dbg, Err, Info, Off, Warn};
        for (specs, console, file) in [
            (&[][..], [Warn, Warn], [Info, Info]),
            (&["dbg"], [Dbg, Dbg], [Dbg, Dbg]),
            (&["console"], [Dbg, Dbg], [Info, Info]),
            (&["ANY:file:off"], [Warn, Warn], [Off, Off]),
            (&["jsonrpc,info"], [Warn, Info], [Info, Info]),
            (&["console:err", "vsctl console info"], [Info, Err], [Info, Info]),
            (&["syslog:dbg", "ovsdb-idl:off"], [Warn, Warn], [Info, Info]),
            (&["PATTERN:console:%m", "FACILITY:daemon"], [Warn, Warn], [Info, Info]),
        ] {
            assert_eq!(read(specs), Ok((console, file)), "{specs:?}");
        }
        let refused = |spec| read(&[spec]).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(refused("xyz"), "--verbose=xyz: 'xyz' is no level, destination or module");
        assert_eq!(refused("dbg:info"), "--verbose=dbg:info: 'info' and 'info' do not go together");
        assert!(refused("console:file").contains("do not go together"));
    }
}
