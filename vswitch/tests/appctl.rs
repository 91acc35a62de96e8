//! The daemon's program in a network namespace of its own, looked into by Open vSwitch's own `ovs-appctl`. Needs root.

use ovsdb::client::Client;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Shutdown, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use vswitch_tests::{ovs, process::skip};

/// Bounds a failure; measures nothing.
const PATIENCE: Duration = Duration::from_secs(15);

fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn ip(line: &str) -> String {
    let done = Command::new("ip").args(line.split_whitespace()).output().expect("iproute2 is installed");
    assert!(done.status.success(), "ip {line}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// A running daemon in its own namespace, with files of its own.
struct Daemon {
    appctl: PathBuf,
    space: String,
    dir: tempfile::TempDir,
    child: Child,
}

impl Daemon {
    /// `None`, said by name, where something is missing.
    fn start(test: &str) -> Option<Daemon> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let appctl = ovs::program("ovs-appctl")?;
        if !rustix::process::geteuid().is_root() {
            skip(&format!("{test}: needs root"));
            return None;
        }
        let space = format!("vswc-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        ip(&format!("netns add {space}"));
        let dir = tempfile::tempdir().unwrap();
        let child = Daemon::spawn(&space, dir.path());
        let daemon = Daemon { appctl, space, dir, child };
        daemon.wait_for_start();
        Some(daemon)
    }

    fn spawn(space: &str, dir: &Path) -> Child {
        let log = File::options().create(true).append(true).open(dir.join("log")).unwrap();
        Command::new("ip")
            .args(["netns", "exec", space, env!("CARGO_BIN_EXE_vswitch"), "--log", "info"])
            .arg("--socket")
            .arg(dir.join("db.sock"))
            .arg("--db")
            .arg(dir.join("conf.db"))
            .env_remove("VSWITCH_LOG")
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the daemon starts")
    }

    fn wait_for_start(&self) {
        let ready = || self.log().contains("ready:").then_some(());
        eventually("the daemon is ready", ready);
    }

    fn restart(&mut self) {
        fs::write(self.dir.path().join("log"), "").unwrap();
        self.child = Daemon::spawn(&self.space, self.dir.path());
        self.wait_for_start();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    fn ip(&self, line: &str) -> String {
        ip(&format!("-n {} {line}", self.space))
    }

    /// Whether any packet socket is open in the namespace (packet(7)).
    fn has_packet_sockets(&self) -> bool {
        ip(&format!("netns exec {} cat /proc/net/packet", self.space)).lines().count() > 1
    }

    /// Exit code, standard output, standard error.
    fn appctl(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(&self.appctl);
        let done = command.arg("-t").arg(self.path("db.ctl")).args(args).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (done.status.code().unwrap_or(-1), text(done.stdout), text(done.stderr))
    }

    /// What a command that succeeds prints.
    fn says(&self, line: &str) -> String {
        let (code, out, err) = self.appctl(&line.split(' ').collect::<Vec<_>>());
        assert_eq!((code, err.as_str()), (0, ""), "{line}");
        out
    }

    /// Runs a transaction that must succeed, and waits until it is carried out.
    fn transact(&self, mut operations: Vec<Value>) {
        let next = json!([["next_cfg", "+=", 1]]);
        operations.push(json!({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": next}));
        operations.push(json!({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]}));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut client = Client::connect(self.path("db.sock")).await.unwrap();
            let results = client.transact("Open_vSwitch", operations).await.unwrap();
            assert!(results.iter().all(|r| r.get("error").is_none()), "{results:?}");
            let wanted = results.last().unwrap()["rows"][0]["next_cfg"].as_i64();
            let select = json!({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["cur_cfg"]});
            loop {
                let results = client.transact("Open_vSwitch", vec![select.clone()]).await.unwrap();
                if results[0]["rows"][0]["cur_cfg"].as_i64() >= wanted {
                    return;
                }
            }
        });
    }

    /// A bridge br0 with a port p1, and an address on the device at its far end.
    fn bridge(&self) {
        for line in [
            "link add p1 type veth peer name far",
            "link set p1 up",
            "link set far up",
            "addr add 192.0.2.1/24 dev far",
        ] {
            self.ip(line);
        }
        let insert =
            |table: &str, id: &str, row: Value| json!({"op": "insert", "table": table, "uuid-name": id, "row": row});
        let reference = |id: &str| json!(["named-uuid", id]);
        self.transact(vec![
            insert("Interface", "i0", json!({"name": "br0", "type": "internal"})),
            insert("Port", "p0", json!({"name": "br0", "interfaces": reference("i0")})),
            insert("Interface", "i1", json!({"name": "p1"})),
            insert("Port", "p1", json!({"name": "p1", "interfaces": reference("i1")})),
            insert("Bridge", "b", json!({"name": "br0", "ports": ["set", [reference("p0"), reference("p1")]]})),
            json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"bridges": reference("b")}}),
        ]);
    }

    /// Sends an ARP request into p1.
    fn knock(&self) {
        std::thread::scope(|s| {
            s.spawn(|| {
                let file = File::open(format!("/run/netns/{}", self.space)).unwrap();
                move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                let socket = UdpSocket::bind("192.0.2.1:0").unwrap();
                socket.send_to(b"anybody there?", "192.0.2.2:9").unwrap();
            });
        });
    }

    /// Sends `bytes` and returns all that comes back until the daemon closes the connection.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(self.path("db.ctl")).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    fn ends_well(&mut self) {
        let status = eventually("the daemon ends", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", self.log());
        for name in ["db.ctl", "db.sock"] {
            assert!(!self.path(name).exists(), "{name} is left behind");
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        ip(&format!("netns del {}", self.space));
    }
}

#[test]
fn ovs_appctl_is_answered_as_by_open_vswitch() {
    let Some(daemon) = Daemon::start("ovs_appctl_is_answered_as_by_open_vswitch") else { return };
    daemon.bridge();
    assert_eq!(daemon.says("version"), concat!("vswitch ", env!("CARGO_PKG_VERSION"), "\n"));
    let listed = daemon.says("list-commands");
    assert!(listed.starts_with("The available commands are:\n  "), "{listed}");
    for command in
        ["coverage/show", "exit", "fdb/flush", "fdb/show", "fdb/stats-show", "version", "vlog/list", "vlog/set"]
    {
        assert!(listed.contains(&format!("\n  {command:<23} ")), "{listed}");
    }
    let ctl = daemon.path("db.ctl");
    for (args, why) in [
        (&["nosuch"][..], "\"nosuch\" is not a valid command (use \"list-commands\" to see a list of valid commands)"),
        (&["fdb/show"], "\"fdb/show\" command requires at least 1 arguments"),
        (&["fdb/show", "a", "b"], "\"fdb/show\" command takes at most 1 arguments"),
        (&["fdb/show", "br1"], "no such bridge"),
        (&["vlog/set", "foo"], "no destination, level, or module \"foo\""),
    ] {
        let err = format!("{why}\novs-appctl: {}: server returned an error\n", ctl.display());
        assert_eq!(daemon.appctl(args), (2, String::new(), err));
    }
}

#[test]
fn addresses_and_counters_are_shown() {
    let Some(daemon) = Daemon::start("addresses_and_counters_are_shown") else { return };
    daemon.bridge();
    let show = daemon.ip("-o link show dev far");
    let mac = show.split_once("link/ether ").unwrap().1.split(' ').next().unwrap();
    daemon.says("fdb/flush br0");
    daemon.knock();
    let line = format!("    1     0  {mac}  ");
    let shown = eventually("the address is learned", || {
        Some(daemon.says("fdb/show br0")).filter(|text| text.lines().any(|l| l.starts_with(&line)))
    });
    assert!(shown.starts_with(" port  VLAN  MAC                Age\n"), "{shown}");
    let stats = daemon.says("fdb/stats-show br0");
    assert!(
        stats.starts_with("Statistics for bridge \"br0\":\n  Current/maximum MAC entries in the table: "),
        "{stats}"
    );
    assert!(stats.contains("/8192\n") && !stats.contains("learned MAC entries     : 0\n"), "{stats}");
    let coverage = daemon.says("coverage/show");
    let head = "Event coverage, avg rate over last: 5 seconds, last minute, last hour,  hash=";
    assert!(coverage.starts_with(head) && coverage.ends_with(" events never hit\n"), "{coverage}");
    assert!(coverage.contains("\ndb_commit  ") && coverage.contains("\nrx_packets  "), "{coverage}");
    assert_eq!(daemon.says("fdb/flush"), "table successfully flushed\n");
}

/// The same lines, the same words as from ovs-vswitchd 3.1; and a restart forgets nothing, as it would there.
#[test]
fn static_addresses_as_with_open_vswitch() {
    let Some(mut daemon) = Daemon::start("static_addresses_as_with_open_vswitch") else { return };
    daemon.bridge();
    let head = " port  VLAN  MAC                Age\n";
    assert_eq!(daemon.says("fdb/add br0 p1 10 50:54:00:00:00:05"), "");
    assert_eq!(daemon.says("fdb/add br0 p1 10 50:54:00:00:00:05"), "");
    assert_eq!(daemon.says("fdb/add br0 br0 10 50:54:00:00:00:05"), "Overriding already existing static entry on 1\n");
    assert_eq!(daemon.says("fdb/add br0 p1 0 50:54:00:00:00:06"), "");
    daemon.says("fdb/flush br0");
    let statics =
        |text: String| text.lines().filter(|l| l.ends_with("static")).map(|l| l.to_owned() + "\n").collect::<String>();
    let both = "    1     0  50:54:00:00:00:06  static\nLOCAL    10  50:54:00:00:00:05  static\n";
    let shown = daemon.says("fdb/show br0");
    assert!(shown.starts_with(head), "{shown}");
    assert_eq!(statics(shown), both);
    assert!(daemon.says("fdb/stats-show br0").contains("  Current static MAC entries in the table : 2\n"));
    assert_eq!(daemon.says("fdb/stats-clear br0"), "statistics successfully cleared\n");
    for (args, why) in [
        (&["fdb/del", "br0", "0", "50:54:00:00:00:05"][..], "could not find static mac entry"),
        (&["fdb/add", "br9", "p1", "0", "50:54:00:00:00:05"], "no such bridge"),
        (&["fdb/add", "br0", "p1", "0", "50:54"], "bad MAC address"),
    ] {
        let (code, _, err) = daemon.appctl(args);
        assert!(code == 2 && err.starts_with(&format!("{why}\n")), "{err}");
    }
    daemon.says("exit");
    daemon.ends_well();
    daemon.restart();
    assert_eq!(statics(daemon.says("fdb/show br0")), both);
    assert_eq!(daemon.says("fdb/del br0 10 50:54:00:00:00:05"), "");
    assert_eq!(statics(daemon.says("fdb/show br0")), both[..both.find("LOCAL").unwrap()]);
}

#[test]
fn drops_and_the_doctor_are_answered_in_json() {
    let Some(daemon) = Daemon::start("drops_and_the_doctor_are_answered_in_json") else { return };
    daemon.bridge();
    let listed = |line: &str| serde_json::from_str::<Value>(&daemon.says(line)).unwrap();
    // The bridge's own port is down, so there is nowhere to go.
    daemon.knock();
    let drop = eventually("a drop is listed", || listed("drops/list br0").as_array()?.first().cloned());
    let text = "No other port of the bridge carries the frame's VLAN.";
    let named = json!({"bridge": "br0", "port": "p1", "mirror": null, "reason": "no_output", "text": text});
    let named = |key: &str| (drop[key].clone(), named[key].clone());
    for (is, wanted) in ["bridge", "port", "mirror", "reason", "text"].map(named) {
        assert_eq!(is, wanted, "{drop}");
    }
    assert!(drop["count"].as_u64() > Some(0), "{drop}");
    // A tunnel to an address where nobody is.
    daemon.ip("link add u1 type veth peer name u2");
    daemon.ip("link set u1 up");
    daemon.ip("link set u2 up");
    daemon.ip("addr add 198.51.100.1/24 dev u1");
    let options = json!(["map", [["remote_ip", "198.51.100.2"]]]);
    let interface = json!({"name": "vx0", "type": "vxlan", "options": options});
    let port = json!({"name": "vx0", "interfaces": ["named-uuid", "i2"]});
    let more = json!([["ports", "insert", ["set", [["named-uuid", "p2"]]]]]);
    daemon.transact(vec![
        json!({"op": "insert", "table": "Interface", "uuid-name": "i2", "row": interface}),
        json!({"op": "insert", "table": "Port", "uuid-name": "p2", "row": port}),
        json!({"op": "mutate", "table": "Bridge", "where": [], "mutations": more}),
    ]);
    assert_eq!(daemon.says("doctor/start br0"), "");
    let found = eventually("nobody answers", || {
        let found = listed("doctor/list br0");
        found.as_array()?.iter().any(|finding| finding["fine"] == false).then_some(found)
    });
    assert_eq!(daemon.says("doctor/waiting"), "3\n");
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    let finding = &found[0];
    assert_eq!(finding["at"], "vx0");
    assert_eq!(finding["what"], "198.51.100.2 does not answer ARP on u1, so nothing gets there");
}

#[test]
fn log_levels_change_while_it_runs() {
    let Some(daemon) = Daemon::start("log_levels_change_while_it_runs") else { return };
    assert!(daemon.says("vlog/list").contains("\nappctl            INFO        OFF        OFF\n"));
    daemon.says("list-commands");
    assert!(!daemon.log().contains("list-commands"), "{}", daemon.log());
    assert_eq!(daemon.says("vlog/set appctl:console:dbg"), "");
    daemon.says("list-commands");
    assert!(daemon.log().contains("DEBUG vswitch::appctl: session#3: list-commands []"), "{}", daemon.log());
    daemon.says("vlog/set warn");
    let before = daemon.log();
    daemon.says("vlog/set vswitch=info");
    assert_eq!(daemon.log().strip_prefix(&before).map(|l| l.lines().count()), Some(1), "{}", daemon.log());
    assert!(daemon.says("vlog/list").contains("\novsdb              OFF        OFF        OFF\n"));
}

#[test]
fn it_ends_when_told_to_and_says_when_it_has() {
    let Some(mut daemon) = Daemon::start("it_ends_when_told_to_and_says_when_it_has") else { return };
    daemon.bridge();
    assert!(daemon.has_packet_sockets());
    let (code, _, err) = daemon.appctl(&["exit", "now"]);
    assert!(code == 2 && err.contains("'now' is unknown"), "{err}");
    assert_eq!(daemon.says("exit"), "");
    assert!(!daemon.path("db.ctl").exists() && !daemon.path("db.sock").exists(), "gone before it said so");
    assert!(!daemon.has_packet_sockets(), "devices are let go of before it says so");
    daemon.ends_well();
    daemon.ip("link show dev br0");

    daemon.restart();
    daemon.says("exit --cleanup");
    let left = daemon.ip("-o link show");
    assert!(!left.contains("br0") && left.contains("p1"), "{left}");
    daemon.ends_well();

    // Nothing is forgotten, and a signal leaves no file behind either.
    daemon.restart();
    daemon.says("fdb/show br0");
    let pid = rustix::process::Pid::from_raw(i32::try_from(daemon.child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    daemon.ends_well();
}

#[test]
fn what_is_no_request_ends_the_connection_and_nothing_else() {
    let Some(daemon) = Daemon::start("what_is_no_request_ends_the_connection_and_nothing_else") else { return };
    let version = concat!("\"vswitch ", env!("CARGO_PKG_VERSION"), "\\n\"");
    let request = |id: u32| format!(r#"{{"id":{id},"method":"version","params":[]}}"#);
    let reply = |id: u32| format!(r#"{{"error":null,"id":{id},"result":{version}}}"#);
    assert_eq!(daemon.raw((request(1) + &request(2)).as_bytes()), reply(1) + &reply(2));
    for nonsense in [
        r#"{"id":null,"method":"version","params":[]}"#,
        r#"{"id":3,"method":"version"}"#,
        r#"{"id":3,"result":"x","error":null}"#,
        "hello",
    ] {
        let said = daemon.raw((request(1) + nonsense + &request(2)).as_bytes());
        assert_eq!(said, reply(1), "{nonsense}");
    }
    let error = r#"{"error":"\"version\" command takes at most 0 arguments\n","id":"x","result":null}"#;
    assert_eq!(daemon.raw(br#"{"id":"x","method":"version","params":[5]}"#), error);
    daemon.says("version");
}
