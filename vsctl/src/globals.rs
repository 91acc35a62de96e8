//! The options before the first command. They are ovs-vsctl's, and `--socket`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};
use ovsdb::address::Address;

use crate::command;
use crate::error::{Error, Result, failed, nearest};
use crate::log::{DEFAULT_LOG_FILE, Log};
use crate::output::{Data, Format, Style};

/// Where the switch listens unless told otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/vswitch/db.sock";
/// How long to wait in all unless told otherwise.
const DEFAULT_TIMEOUT_SECS: &str = "10";

/// Options of ovs-vsctl that scripts may give and that change nothing here: their long and short names, and whether
/// they take a value. vsctl writes nothing to syslog, talks to one server and not to a cluster, and speaks no TLS.
pub(crate) const WITHOUT_EFFECT: [(&str, Option<char>, bool); 14] = [
    ("no-syslog", None, false),
    ("syslog-method", None, true),
    ("syslog-target", None, true),
    ("leader-only", None, false),
    ("no-leader-only", None, false),
    ("shuffle-remotes", None, false),
    ("no-shuffle-remotes", None, false),
    ("private-key", Some('p'), true),
    ("certificate", Some('c'), true),
    ("ca-cert", Some('C'), true),
    ("bootstrap-ca-cert", None, true),
    ("peer-ca-cert", None, true),
    ("ssl-protocols", None, true),
    ("ssl-ciphers", None, true),
];

/// A global option, for people.
pub(crate) struct GlobalOption {
    /// Without its dashes.
    pub long: String,
    /// One letter.
    pub short: Option<char>,
    /// What its value is, if it takes one.
    pub value: Option<String>,
    /// It may be given without.
    pub value_is_optional: bool,
    /// What it changes, and its default.
    pub help: String,
}

impl GlobalOption {
    /// What there is to tell of an option that is shown.
    pub(crate) fn of(arg: &Arg) -> Option<GlobalOption> {
        let default = match (arg.get_env(), arg.get_default_values()) {
            (Some(env), _) => format!(" [{}, else {DEFAULT_SOCKET}]", env.display()),
            (None, [value]) => format!(" [{}]", value.display()),
            (None, _) => String::new(),
        };
        let value = arg.get_value_names().filter(|_| arg.get_action().takes_values());
        Some(GlobalOption {
            long: arg.get_long().filter(|_| !arg.is_hide_set())?.to_owned(),
            short: arg.get_short(),
            value: value.map(|names| names.join(" ")),
            value_is_optional: arg.is_require_equals_set(),
            help: format!("{}{default}", arg.get_help().map(ToString::to_string).unwrap_or_default()),
        })
    }
}

/// The global options.
#[derive(Debug)]
pub(crate) struct Globals {
    /// Where the switch is; each is tried in turn.
    pub remotes: Vec<Address>,
    /// Wait for the switch to act on what was committed.
    pub wait: bool,
    /// Patience for the whole run; `None` waits for ever.
    pub timeout: Option<Duration>,
    /// Keep trying to connect.
    pub retry: bool,
    /// Commit nothing.
    pub dry_run: bool,
    /// One line of output for each command.
    pub oneline: bool,
    /// How tables are printed.
    pub style: Style,
    /// What is told besides the output.
    pub log: Log,
}

/// The options every command has in common, for clap, which also knows the commands' own so that the first command's
/// may stand among them.
pub(crate) fn grammar() -> clap::Command {
    let flag = |name: &'static str, help: &'static str| Arg::new(name).long(name).action(ArgAction::Count).help(help);
    let valued = |name: &'static str, value: &'static str, help: &'static str| {
        Arg::new(name).long(name).value_name(value).action(ArgAction::Append).help(help)
    };
    let option = |name, value, help| valued(name, value, help).action(ArgAction::Set).overrides_with(name);
    let optional = |arg: Arg, default| arg.num_args(0..=1).require_equals(true).default_missing_value(default);
    let grammar = clap::Command::new("vsctl")
        .no_binary_name(true)
        .infer_long_args(true)
        .disable_help_flag(true)
        .disable_version_flag(true)
        .args([
            option("socket", "PATH", "the switch's socket").env("VSWITCH_SOCKET"),
            option("db", "SERVER", "the same as unix:PATH; or a switch elsewhere, tcp:HOST:PORT"),
            option("timeout", "SECS", "give up after SECS seconds; 0 waits for ever")
                .short('t')
                .default_value(DEFAULT_TIMEOUT_SECS),
            flag("no-wait", "do not wait until the switch has acted on the change"),
            flag("retry", "keep trying to connect until the timeout"),
            flag("dry-run", "do everything but commit"),
            flag("oneline", "one line of output for each command"),
            option("format", "FORMAT", "tables as list, table, html, csv or json").short('f').default_value("list"),
            option("data", "FORMAT", "cells as string, bare or json").short('d').default_value("string"),
            flag("no-headings", "tables without their headings"),
            flag("pretty", "indent JSON"),
            flag("bare", "short for --format=list --data=bare --no-headings"),
            option("max-column-width", "BYTES", "cut what is longer, with --format=table"),
            optional(valued("verbose", "SPEC", "log SPEC; without it, all there is to and from the switch"), "dbg")
                .short('v'),
            optional(option("log-file", "FILE", "log to FILE as well"), DEFAULT_LOG_FILE),
            flag("help", "commands and options; 'vsctl help COMMAND' tells more").short('h'),
            flag("version", "the version").short('V'),
            Arg::new("words").num_args(0..).trailing_var_arg(true).hide(true),
        ]);
    let hidden = |grammar: clap::Command, name: &'static str, short: Option<char>, takes_value: bool| {
        let action = if takes_value { ArgAction::Append } else { ArgAction::Count };
        let arg = Arg::new(name).long(name.trim_start_matches('-')).action(action).hide(true);
        grammar.arg(match short {
            Some(short) => arg.short(short),
            None => arg,
        })
    };
    let grammar = WITHOUT_EFFECT.iter().fold(grammar, |g, (name, short, takes)| hidden(g, name, *short, *takes));
    command::option_names().into_iter().fold(grammar, |g, (name, takes)| hidden(g, name, None, takes))
}

/// Reads the options in front of the first command, and leaves the rest as `words`.
pub(crate) fn parse(words: Vec<String>) -> Result<ArgMatches> {
    grammar().try_get_matches_from(spell_out_verbose(words)).map_err(|e| usage(&e))
}

/// `-vSPEC`, which clap cannot tell from a row of short options, becomes `--verbose=SPEC`.
fn spell_out_verbose(mut words: Vec<String>) -> Vec<String> {
    let grammar = grammar();
    let mut is_value = false;
    for word in &mut words {
        if std::mem::take(&mut is_value) {
            continue;
        }
        if word == "--" || !word.starts_with('-') {
            break;
        }
        match word.strip_prefix("-v") {
            Some("") => *word = "--verbose".to_owned(),
            Some(spec) => *word = format!("--verbose={spec}"),
            None => is_value = needs_next_word(&grammar, word),
        }
    }
    words
}

/// Whether the value of an option is the word behind it.
pub(crate) fn needs_next_word(grammar: &clap::Command, word: &str) -> bool {
    let takes_value = |arg: &Arg| arg.get_action().takes_values() && !arg.is_require_equals_set();
    let mut args = grammar.get_arguments();
    match word.strip_prefix("--") {
        Some(long) => args.any(|a| a.get_long().is_some_and(|l| l.starts_with(long)) && takes_value(a)),
        None => {
            let mut letters = word.chars().skip(1);
            let first = letters.next();
            letters.next().is_none() && args.any(|a| a.get_short() == first && first.is_some() && takes_value(a))
        }
    }
}

/// clap's complaint as one line of ours.
fn usage(error: &clap::Error) -> Error {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let unknown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(option)) if error.kind() == ErrorKind::UnknownArgument => option,
        _ => {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            return failed!("{}; see 'vsctl --help'", first.strip_prefix("error: ").unwrap_or(first));
        }
    };
    let known: Vec<String> =
        grammar().get_arguments().filter_map(|arg| arg.get_long()).map(|long| format!("--{long}")).collect();
    match nearest(unknown, known.iter().map(String::as_str)) {
        Some(near) => failed!("there is no option {unknown}; did you mean {near}?"),
        None => failed!("there is no option {unknown}; see 'vsctl --help'"),
    }
}

/// What the options at the beginning of a line say, if they can be read.
pub(crate) fn of_line(words: &[String]) -> Option<Globals> {
    read(&parse(words.to_vec()).ok()?, false).ok()
}

/// What the options say. The commands of a `patient` line may take their time unless told otherwise.
pub(crate) fn read(matches: &ArgMatches, patient: bool) -> Result<Globals> {
    use clap::parser::ValueSource::CommandLine;
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let flag = |name: &str| matches.get_count(name) > 0;
    let explicit = |name: &str| matches.value_source(name) == Some(CommandLine);
    let bare_at = matches.indices_of("bare").into_iter().flatten().next_back();
    // As in ovs-vsctl the later one wins; a default has no place on the line.
    let bare_wins = |name: &str| flag("bare") && (!explicit(name) || matches.index_of(name) < bare_at);
    let specs: Vec<&str> = matches.get_many::<String>("verbose").into_iter().flatten().map(String::as_str).collect();
    Ok(Globals {
        remotes: remotes(matches.get_one::<String>("db"), text("socket"))?,
        wait: !flag("no-wait"),
        timeout: if patient && !explicit("timeout") { None } else { timeout(text("timeout"))? },
        retry: flag("retry"),
        dry_run: flag("dry-run"),
        oneline: flag("oneline"),
        style: Style {
            format: if bare_wins("format") { Format::List } else { Format::parse(text("format"))? },
            asked_for: explicit("format") || flag("bare"),
            data: if bare_wins("data") { Data::Bare } else { Data::parse(text("data"))? },
            headings: !(flag("no-headings") || flag("bare")),
            pretty: flag("pretty"),
            max_width: matches.get_one("max-column-width").map(max_width).transpose()?.flatten(),
        },
        log: Log::new(&specs, matches.get_one::<String>("log-file").map(PathBuf::from))?,
    })
}

fn remotes(db: Option<&String>, socket: &str) -> Result<Vec<Address>> {
    match db {
        Some(db) => {
            let parse = |one: &str| Address::parse(one.trim()).map_err(|why| failed!("--db={db}: {why}"));
            db.split(',').map(parse).collect()
        }
        None if socket.is_empty() => Ok(vec![Address::Unix(DEFAULT_SOCKET.into())]),
        None => Ok(vec![Address::Unix(socket.into())]),
    }
}

fn timeout(secs: &str) -> Result<Option<Duration>> {
    match secs.parse::<u32>() {
        Ok(0) => Ok(None),
        Ok(secs) => Ok(Some(Duration::from_secs(secs.into()))),
        Err(_) => Err(failed!("--timeout={secs}: not a number of seconds")),
    }
}

/// Zero is no limit.
fn max_width(bytes: &String) -> Result<Option<usize>> {
    let width: usize = bytes.parse().map_err(|_| failed!("--max-column-width={bytes}: not a number of bytes"))?;
    Ok((width > 0).then_some(width))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_line(line: &str) -> Result<Globals> {
        read(&parse(line.split_whitespace().map(str::to_owned).collect())?, false)
    }

    fn refused(line: &str) -> String {
        read_line(line).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn places_of_the_switch() {
        let remotes = |line: &str| read_line(line).unwrap().remotes.iter().map(Address::to_string).collect::<Vec<_>>();
        assert_eq!(remotes("--db=unix:/a list-br"), ["/a"]);
        assert_eq!(remotes("--db tcp:h:1,tcp:[::1],unix:/b list-br"), ["tcp:h:1", "tcp:[::1]:6640", "/b"]);
        assert_eq!(remotes("--socket /b list-br"), ["/b"]);
        assert_eq!(remotes("--socket=/b --db=unix:/c list-br"), ["/c"]);
        assert_eq!(remotes("list-br").len(), 1);
        for (line, text) in [
            ("--db=/a", "--db=/a: expected unix:FILE or tcp:HOST:PORT"),
            ("--db=ssl:h:1", "--db=ssl:h:1: TLS is not spoken here; use unix:FILE, or tcp:HOST:PORT through a tunnel"),
            (
                "--db=punix:/a",
                "--db=punix:/a: that waits to be called, while here a server is called: unix:FILE or tcp:HOST:PORT",
            ),
            ("--db=tcp:", "--db=tcp:: the host is missing; expected tcp:HOST:PORT"),
        ] {
            assert_eq!(refused(line), text);
        }
    }

    #[test]
    fn levels_of_logging() {
        for line in [
            "-v list-br",
            "-vdbg list-br",
            "-vjsonrpc:console:dbg list-br",
            "--verbose list-br",
            "--verbose=dbg list-br",
            "-vconsole:err -v list-br",
            "-t 5 -vdbg list-br",
            "--format csv -vdbg list-br",
        ] {
            assert!(read_line(line).unwrap().log.traces(), "{line}");
        }
        for line in [
            "list-br",
            "-voff list-br",
            "-v -vconsole:off list-br",
            "list-br -vdbg",
            "-- list-br -v",
            "-v -voff -vvsctl:dbg",
        ] {
            assert!(!read_line(line).unwrap().log.traces(), "{line}");
        }
        let words = |line: &str| -> Vec<String> {
            let matches = parse(line.split(' ').map(str::to_owned).collect()).unwrap();
            matches.get_many::<String>("words").unwrap().cloned().collect()
        };
        assert_eq!(words("-v comment -vdbg"), ["comment", "-vdbg"]);
        assert_eq!(words("-vdbg -- comment -v"), ["comment", "-v"]);
        assert_eq!(refused("-vxyz list-br"), "--verbose=xyz: 'xyz' is no level, destination or module");
    }

    #[test]
    fn options_without_effect() {
        let line = "--no-syslog --syslog-method=null --syslog-target 1.2.3.4:5 --no-leader-only -p a -c b -Cnone \
                    --ssl-protocols=TLSv1.2 --peer-ca-cert=x list-br";
        assert!(read_line(line).is_ok());
        assert!(refused("--no-syslog=1 list-br").contains("--no-syslog"));
    }

    #[test]
    fn widths() {
        let width = |line: &str| read_line(line).unwrap().style.max_width;
        assert_eq!(width("list-br"), None);
        assert_eq!(width("--max-column-width=0 list-br"), None);
        assert_eq!(width("--max-column-width=7 list-br"), Some(7));
        assert_eq!(refused("--max-column-width=x"), "--max-column-width=x: not a number of bytes");
    }
}
