//! Running programs, never without a time limit, and waiting for something to come true.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, fmt, fs, thread};

/// How long a single command may take before it is killed, in seconds (`timeout` then exits with 124).
const LIMIT: &str = "40";

/// How long [`eventually`] waits. Generous: it bounds a failure, it measures nothing.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// What a finished program left.
#[derive(Debug, Clone)]
pub struct Done {
    /// The command line, for messages.
    pub command: String,
    /// The exit code; −1 if a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Done {
    /// Exit code 0.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.code == 0
    }

    /// Standard output of a program that must have succeeded.
    ///
    /// # Panics
    /// With the whole output, if the exit code isn't 0.
    #[must_use]
    pub fn output(self) -> String {
        assert!(self.ok(), "{self}");
        self.stdout
    }
}

impl fmt::Display for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ended with {}\n{}{}", self.command, self.code, self.stdout, self.stderr)
    }
}

/// A command from words separated by spaces; an argument that holds spaces is written with `\u{a0}` (no-break space)
/// in their place.
#[must_use]
pub fn words(text: &str) -> Vec<String> {
    text.split(' ').filter(|w| !w.is_empty()).map(|w| w.replace('\u{a0}', " ")).collect()
}

/// Runs it to its end, at most 40 s.
///
/// # Panics
/// If it can't be started.
#[must_use]
pub fn run(command: &[String]) -> Done {
    let out = Command::new("timeout")
        .args(["--kill-after=2", LIMIT])
        .args(command)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|e| panic!("cannot run timeout {}: {e}", command.join(" ")));
    Done {
        command: command.join(" "),
        code: out.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

/// Tries until `attempt` succeeds, and returns what it found.
///
/// # Panics
/// After [`PATIENCE`], with what was awaited and what was seen last.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(found) => return found,
            Err(seen) if Instant::now() > end => panic!("{what}: not within {PATIENCE:?}; at the end: {seen}"),
            Err(_) => thread::sleep(Duration::from_millis(20)),
        }
    }
}

/// The program of this workspace with that name, as built for this run.
///
/// In `VSWITCH_BIN_DIR` if that is set (`make test` builds first and sets it); otherwise it is built now, so that a plain
/// `cargo test` never meets an old one.
///
/// # Panics
/// If it can't be built or isn't there.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let path = DIRECTORY.get_or_init(bin_dir).join(name);
    assert!(path.exists(), "{} is missing: build it with cargo build --workspace --bins", path.display());
    path
}

fn bin_dir() -> PathBuf {
    if let Some(dir) = env::var_os("VSWITCH_BIN_DIR") {
        return dir.into();
    }
    // target/PROFILE/deps/test-1234 for a test, target/PROFILE/name for a program.
    let exe = env::current_exe().expect("the path of this program");
    let mut dir = exe.parent().expect("a directory").to_owned();
    if dir.ends_with("deps") {
        dir.pop();
    }
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--bins", "-p", "vswitch", "-p", "vsctl"]);
    cargo.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if dir.ends_with("release") {
        cargo.arg("--release");
    }
    let built = cargo.status().expect("cargo starts");
    assert!(built.success(), "cargo build of vswitch and vsctl failed");
    dir
}

/// CPU time that a process has used, user and system, in clock ticks (`/proc/PID/stat`, proc_pid_stat(5); 100 a second).
///
/// # Panics
/// If there is no such process.
#[must_use]
pub fn cpu_ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the /proc entry of a process");
    // Fields are counted after the command name, which is in parentheses and may hold spaces.
    let after_name = &stat[stat.rfind(')').expect("a command name") + 2..];
    let fields: Vec<&str> = after_name.split(' ').collect();
    fields[11..13].iter().map(|n| n.parse::<u64>().expect("a number")).sum()
}

/// Whether a test that lacks what it needs must fail (`VSWITCH_REQUIRE_ALL=1`, as `make test` sets) or may be skipped.
#[must_use]
pub fn require_all() -> bool {
    env::var("VSWITCH_REQUIRE_ALL").is_ok_and(|v| v == "1")
}

/// Says that a test is skipped, and why.
///
/// # Panics
/// If nothing may be skipped ([`require_all`]).
pub fn skip(why: &str) {
    assert!(!require_all(), "{why} (VSWITCH_REQUIRE_ALL=1 forbids skipping)");
    eprintln!("skipped: {why}");
}

/// Whether CPUs 0 and 1 are there for us; says that `test` is skipped where they are not.
///
/// # Panics
/// If they are not and nothing may be skipped, or `/proc` is not there.
#[must_use]
pub fn two_cpus(test: &str) -> bool {
    let status = fs::read_to_string("/proc/self/status").expect("the status of this process");
    let mask = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed:")).expect("CPUs").trim().to_owned();
    let low = mask.rsplit(',').next().and_then(|part| u64::from_str_radix(part, 16).ok()).unwrap_or(0);
    if low & 3 != 3 {
        skip(&format!("{test}: CPUs 0 and 1 are not both there"));
    }
    low & 3 == 3
}
