//! Network namespaces as machines: pods, hosts with a real `vswitch`, and the cables between them.
//!
//! Everything belongs to a [`Lab`], whose end (also by a panic) kills what runs in its namespaces, by process id, and
//! removes them with all their devices. Names carry the process id of the test, so labs of parallel tests and of other
//! programs don't meet; what a killed test left behind is swept when the next one starts. The machine's own
//! interfaces are never touched: every device is created inside a namespace.

use crate::process::{Done, cpu_ticks, eventually, program, run, skip, words};
use std::cell::RefCell;
use std::env;
use std::fs::{self, File};
use std::ops::Deref;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

const PREFIX: &str = "vswt";

/// A set of namespaces and a directory for their files.
pub struct Lab {
    tag: String,
    dir: tempfile::TempDir,
    names: RefCell<Vec<String>>,
}

impl Lab {
    /// Opens a lab; `None` (said on standard error, or a panic if nothing may be skipped) where namespaces can't be made.
    ///
    /// # Panics
    /// If no directory can be made for it.
    #[must_use]
    pub fn open() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        static SWEEP: Once = Once::new();
        SWEEP.call_once(sweep);
        let tag = format!("{PREFIX}-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let probe = run(&words(&format!("ip netns add {tag}-probe")));
        if !probe.ok() {
            skip(&format!("no network namespaces here: {}", probe.stderr.trim()));
            return None;
        }
        remove(&format!("{tag}-probe"));
        let dir = tempfile::Builder::new().prefix("vswt-").tempdir().expect("a temporary directory");
        Some(Self { tag, dir, names: RefCell::default() })
    }

    /// The lab's own directory, removed with it.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A new namespace, with its loopback up.
    ///
    /// # Panics
    /// If it can't be made.
    #[must_use]
    pub fn space(&self, name: &str) -> Space {
        let full = format!("{}-{name}", self.tag);
        let _ = run(&words(&format!("ip netns add {full}"))).output();
        self.names.borrow_mut().push(full.clone());
        let space = Space { name: full };
        space.run("ip link set lo up");
        space
    }

    /// A new namespace with a `vswitch` running in it, ready to be configured.
    #[must_use]
    pub fn host(&self, name: &str) -> Host {
        let dir = self.dir().join(name);
        fs::create_dir(&dir).expect("a directory for the host");
        let mut host = Host { space: self.space(name), dir, daemon: None };
        host.start();
        host
    }

    /// A cable: a veth pair with `a_name` in `a` and `b_name` in `b`, both ends up.
    pub fn cable(&self, a: &Space, a_name: &str, b: &Space, b_name: &str) {
        a.run(&format!("ip link add {a_name} type veth peer name {b_name} netns {}", b.name));
        a.run(&format!("ip link set {a_name} up"));
        b.run(&format!("ip link set {b_name} up"));
    }

    /// A pod whose `eth0` has `address` (with prefix length) and is plugged into `host` as the device `port`.
    #[must_use]
    pub fn pod(&self, name: &str, host: &Space, port: &str, address: &str) -> Space {
        let pod = self.space(name);
        self.cable(host, port, &pod, "eth0");
        pod.run(&format!("ip addr add {address} dev eth0"));
        pod
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in self.names.borrow().iter() {
            remove(name);
        }
    }
}

/// Kills what runs in the namespace and removes it.
fn remove(name: &str) {
    for _ in 0..50 {
        let pids = run(&words(&format!("ip netns pids {name}"))).stdout;
        if pids.trim().is_empty() {
            break;
        }
        for pid in pids.split_whitespace() {
            let _ = run(&words(&format!("kill -9 {pid}")));
        }
    }
    let gone = run(&words(&format!("ip netns del {name}")));
    if !gone.ok() {
        eprintln!("{gone}");
    }
}

/// Removes the namespaces of test processes that no longer live.
fn sweep() {
    let listed = run(&words("ip netns list")).stdout;
    for name in listed.lines().filter_map(|l| l.split_whitespace().next()) {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-')?.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(name);
        }
    }
}

/// One network namespace.
#[derive(Clone, Debug)]
pub struct Space {
    /// Its name for `ip netns`.
    pub name: String,
}

impl Space {
    fn command(&self, text: &str) -> Vec<String> {
        let mut command = words(&format!("ip netns exec {}", self.name));
        command.extend(words(text));
        command
    }

    /// Runs a command in it, however it ends.
    #[must_use]
    pub fn try_run(&self, text: &str) -> Done {
        run(&self.command(text))
    }

    /// Runs a command that must succeed and returns its output.
    ///
    /// # Panics
    /// With the command's output, if it fails.
    pub fn run(&self, text: &str) -> String {
        self.try_run(text).output()
    }

    /// Starts a command in it that goes on in the background, its output in `log`.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn spawn(&self, text: &str, log: &Path) -> Running {
        let command = self.command(text);
        let file = File::create(log).expect("a log file");
        let child = Command::new(&command[0])
            .args(&command[1..])
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a second handle"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot start {text}: {e}"));
        Running { child, log: log.to_owned() }
    }

    /// Whether one of a few pings, 0.2 s apart, is answered.
    #[must_use]
    pub fn pings(&self, address: &str) -> bool {
        self.try_run(&format!("ping -c 3 -i 0.2 -W 1 {address}")).ok()
    }

    /// Waits until a ping is answered.
    ///
    /// # Panics
    /// If none is, in [`crate::process::PATIENCE`].
    pub fn reaches(&self, address: &str) {
        eventually(&format!("ping from {} to {address}", self.name), || {
            let done = self.try_run(&format!("ping -c 1 -W 0.3 {address}"));
            if done.ok() { Ok(()) } else { Err(done.stdout) }
        });
    }

    /// An iperf3 server for one client, which listens by now.
    ///
    /// # Panics
    /// If it does not come to that.
    #[must_use]
    pub fn iperf3_server(&self) -> Running {
        let server = self.spawn("iperf3 --server --one-off", Path::new("/dev/null"));
        eventually("iperf3's server listens", || {
            let sockets = self.run("ss -Hltn sport = :5201");
            if sockets.is_empty() { Err("nobody on port 5201".to_owned()) } else { Ok(()) }
        });
        server
    }

    /// Sends TCP for `seconds` to the iperf3 server that it starts at `server`, whose address is `address`. In bit/s, as received.
    ///
    /// # Panics
    /// If the transfer fails.
    #[must_use]
    pub fn tcp(&self, server: &Self, address: &str, seconds: u32) -> f64 {
        self.tcp_after(server, address, 0, seconds)
    }

    /// The same after `omit` seconds more that do not count.
    ///
    /// # Panics
    /// If the transfer fails.
    #[must_use]
    pub fn tcp_after(&self, server: &Self, address: &str, omit: u32, seconds: u32) -> f64 {
        let done = self.try_tcp(server, address, &format!("--omit {omit} --time {seconds}"));
        done.unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same with options of `iperf3 --client`; what iperf3 said, if it fails.
    pub fn try_tcp(&self, server: &Self, address: &str, options: &str) -> Result<f64, String> {
        let sink = server.iperf3_server();
        let report = self.try_run(&format!("iperf3 --json --client {address} --connect-timeout 5000 {options}"));
        drop(sink);
        let json: serde_json::Value = serde_json::from_str(&report.stdout).map_err(|e| format!("{e}: {report}"))?;
        json["end"]["sum_received"]["bits_per_second"].as_f64().ok_or_else(|| format!("no result: {report}"))
    }
}

/// A program in the background, killed when dropped.
pub struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it still runs.
    #[must_use]
    pub fn alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends SIGTERM and waits for the end, at most as long as [`eventually`] does.
    pub fn terminate(&mut self) -> ExitStatus {
        let _ = run(&words(&format!("kill -TERM {}", self.pid())));
        eventually("the end after SIGTERM", || self.child.try_wait().ok().flatten().ok_or("still runs".to_owned()))
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A namespace with a `vswitch`.
pub struct Host {
    space: Space,
    dir: PathBuf,
    daemon: Option<Running>,
}

impl Deref for Host {
    type Target = Space;
    fn deref(&self) -> &Space {
        &self.space
    }
}

impl Host {
    /// The OVSDB socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.dir.join("db.sock")
    }

    /// The database file.
    #[must_use]
    pub fn db(&self) -> PathBuf {
        self.dir.join("conf.db")
    }

    /// The command line of a `vswitch` for this host (tests start a second one with it).
    #[must_use]
    pub fn vswitch_command(&self) -> String {
        let vswitch = program("vswitch");
        format!("{} --socket {} --db {}", vswitch.display(), self.socket().display(), self.db().display())
    }

    /// Starts the daemon and waits until it takes connections.
    ///
    /// # Panics
    /// With its log, if it ends or doesn't.
    pub fn start(&mut self) {
        assert!(self.daemon.is_none(), "already started");
        let mut daemon = self.space.spawn(&self.vswitch_command(), &self.dir.join("vswitch.log"));
        eventually("vswitch takes connections", || {
            assert!(daemon.alive(), "vswitch ended at once: {}", daemon.log());
            std::os::unix::net::UnixStream::connect(self.socket())
                .map(drop)
                .map_err(|e| format!("{e}; {}", daemon.log()))
        });
        self.daemon = Some(daemon);
        // The same behaviour is wanted with the kernel's help.
        if std::env::var("VSWITCH_TEST_ASSIST").as_deref() == Ok("1") {
            self.assist();
        }
    }

    /// Has the kernel forward known flows.
    pub fn assist(&self) {
        self.vsctl("set open_vswitch . other_config:assist=true");
    }

    /// The running daemon.
    ///
    /// # Panics
    /// If it was stopped.
    pub fn daemon(&mut self) -> &mut Running {
        self.daemon.as_mut().expect("a running vswitch")
    }

    /// Ends it with SIGTERM; its exit code.
    pub fn stop(&mut self) -> i32 {
        let status = self.daemon().terminate();
        self.daemon = None;
        status.code().unwrap_or_else(|| -status.signal().unwrap_or(0))
    }

    /// Ends it with SIGKILL.
    pub fn kill(&mut self) {
        self.daemon().kill();
        self.daemon = None;
    }

    /// What the daemon has logged.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.as_ref().map(Running::log).unwrap_or_default()
    }

    /// Runs `vsctl` here, however it ends.
    #[must_use]
    pub fn try_vsctl(&self, args: &str) -> Done {
        let args = if by_xdp() { with_xdp(args) } else { args.to_owned() };
        self.try_run(&format!("{} --socket {} {args}", program("vsctl").display(), self.socket().display()))
    }

    /// Runs `vsctl` here; it must succeed.
    ///
    /// # Panics
    /// With its output, if it fails.
    pub fn vsctl(&self, args: &str) -> String {
        self.try_vsctl(args).output()
    }

    /// CPU time that the daemon has used ([`cpu_ticks`]).
    ///
    /// # Panics
    /// If it doesn't run.
    #[must_use]
    pub fn cpu_ticks(&mut self) -> u64 {
        cpu_ticks(self.daemon().pid())
    }
}

/// Whether devices are attached by AF_XDP in this run, where a test does not say how (`VSWITCH_TEST_IO=af_xdp`): how they are
/// must make no difference to whoever is plugged in.
#[must_use]
pub fn by_xdp() -> bool {
    env::var("VSWITCH_TEST_IO").is_ok_and(|io| io == "af_xdp")
}

/// Whether a test is about what packet sockets do and AF_XDP does not, in a run by AF_XDP; says so.
#[must_use]
pub fn is_about_packet_sockets(what: &str) -> bool {
    if by_xdp() {
        eprintln!("not by AF_XDP: {what}");
    }
    by_xdp()
}

/// The commands, with `io=af_xdp` for each port that is added and is a device.
fn with_xdp(args: &str) -> String {
    let commands: Vec<&str> = args.split(" -- ").collect();
    let is_device = |port: &str| {
        let names = |command: &str| command.split(' ').any(|word| word == port);
        let says_how = |command: &str| command.contains("type=") || command.contains("io=");
        !commands.iter().any(|command| names(command) && says_how(command))
    };
    let changed = commands.iter().map(|command| {
        let mut words = command.split(' ').skip_while(|word| word.is_empty() || word.starts_with("--"));
        match (words.next(), words.nth(1)) {
            (Some("add-port"), Some(port)) if is_device(port) => format!("{command} io=af_xdp"),
            _ => (*command).to_owned(),
        }
    });
    changed.collect::<Vec<_>>().join(" -- ")
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("── the log of vswitch in {} ──\n{}", self.space.name, self.log());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_nothing_else_get_af_xdp() {
        let given = "add-br br0 -- --may-exist add-port br0 p1 tag=5 -- add-port br0 in0 -- set interface in0 type=internal \
                     -- add-port br0 vx type=vxlan key=1 -- set port p1 tag=6";
        let expected = "add-br br0 -- --may-exist add-port br0 p1 tag=5 io=af_xdp -- add-port br0 in0 -- set interface in0 \
                        type=internal -- add-port br0 vx type=vxlan key=1 -- set port p1 tag=6";
        assert_eq!(with_xdp(given), expected);
    }
}
