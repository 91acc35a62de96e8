//! The commands, one row each, and the words in which Open vSwitch refuses what is not among them.

use super::coverage::{self, Coverage};
use super::edit::Edit;
use super::{View, assist, doctor, drops, fdb, umem, vlog, workers};
use crate::log::Log;
use crate::status;
use serde_json::Value;
use std::fmt::Write;
use uuid::Uuid;

/// What a command works on.
pub struct Context<'a> {
    /// What it looks at.
    pub view: View<'a>,
    /// What is logged.
    pub log: &'a mut Log,
    /// What is counted.
    pub coverage: &'a Coverage,
    /// Set if the daemon is to end.
    pub exit: Option<Exit>,
    /// Set if the configuration is to change.
    pub edit: Option<Edit>,
    /// Set if bridges, with these rows, are to be examined.
    pub examine: Option<Vec<Uuid>>,
}

/// A request to end the daemon.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    /// Whether ports are detached and internal interfaces removed from the host first.
    pub cleanup: bool,
}

type Run = fn(&mut Context<'_>, &[&str]) -> Result<String, String>;

/// One command.
struct Command {
    name: &'static str,
    usage: &'static str,
    /// The least and the most arguments; `usize::MAX`: any number.
    arguments: (usize, usize),
    run: Run,
}

const fn row(name: &'static str, usage: &'static str, arguments: (usize, usize), run: Run) -> Command {
    Command { name, usage, arguments, run }
}

/// All of them, by name.
const COMMANDS: [Command; 24] = [
    row("assist/list", "[bridge]", (0, 1), assist::list),
    row("coverage/read-counter", "COUNTER", (1, 1), coverage::read_counter),
    row("coverage/show", "", (0, 0), coverage::show),
    row("doctor/list", "[bridge]", (0, 1), doctor::list),
    row("doctor/start", "[bridge]", (0, 1), doctor::start),
    row("doctor/waiting", "", (0, 0), doctor::waiting),
    row("dpif-netdev/pmd-rxq-show", "[-pmd core] [-secs secs] [dp]", (0, 5), workers::rxq_show),
    row("dpif-netdev/pmd-stats-show", "[-pmd core] [dp]", (0, 3), workers::stats_show),
    row("drops/list", "[bridge]", (0, 1), drops::list),
    row("exit", "[--cleanup]", (0, 1), exit),
    row("fdb/add", "bridge port vlan mac", (4, 4), fdb::add),
    row("fdb/del", "bridge vlan mac", (3, 3), fdb::del),
    row("fdb/flush", "[bridge]", (0, 1), fdb::flush),
    row("fdb/list", "bridge", (1, 1), fdb::list),
    row("fdb/moves", "bridge", (1, 1), fdb::moves),
    row("fdb/show", "bridge", (1, 1), fdb::show),
    row("fdb/stats-clear", "[bridge]", (0, 1), fdb::stats_clear),
    row("fdb/stats-show", "bridge", (1, 1), fdb::stats_show),
    row("list-commands", "", (0, 0), list_commands),
    row("umem/show", "", (0, 0), umem::show),
    row("version", "", (0, 0), version),
    row("vlog/list", "", (0, 0), vlog::list),
    row("vlog/set", "{spec | filter}...", (0, usize::MAX), vlog::set),
    row("workers/list", "", (0, 0), workers::list),
];

/// Carries out a request.
pub fn run(cx: &mut Context<'_>, method: &str, params: &[Value]) -> Result<String, String> {
    let Some(command) = COMMANDS.iter().find(|c| c.name == method) else {
        return Err(format!(
            "\"{method}\" is not a valid command (use \"list-commands\" to see a list of valid commands)"
        ));
    };
    let (least, most) = command.arguments;
    if params.len() < least {
        return Err(format!("\"{method}\" command requires at least {least} arguments"));
    }
    if params.len() > most {
        return Err(format!("\"{method}\" command takes at most {most} arguments"));
    }
    let words: Option<Vec<_>> = params.iter().map(Value::as_str).collect();
    let words = words.ok_or_else(|| format!("\"{method}\" command has non-string argument"))?;
    (command.run)(cx, &words)
}

fn list_commands(_: &mut Context<'_>, _: &[&str]) -> Result<String, String> {
    let mut text = "The available commands are:\n".to_owned();
    for command in &COMMANDS {
        let _ = writeln!(text, "  {:<23} {}", command.name, command.usage);
    }
    Ok(text)
}

fn version(_: &mut Context<'_>, _: &[&str]) -> Result<String, String> {
    Ok(status::VERSION.to_owned())
}

fn exit(cx: &mut Context<'_>, args: &[&str]) -> Result<String, String> {
    match args.first() {
        None => cx.exit = Some(Exit { cleanup: false }),
        Some(&"--cleanup") => cx.exit = Some(Exit { cleanup: true }),
        Some(other) => return Err(format!("exit: '{other}' is unknown; --cleanup also detaches all ports")),
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::config::tests::{br0_p1, database};
    use crate::log::Filter;
    use datapath::control::Datapath;
    use datapath::control::StaticSpec;
    use datapath::control::{Action, BridgeSpec, DatapathConfig, PortKind, PortSpec};
    use datapath::packet::Frame;
    use datapath::port::Caps;
    use datapath::port::memory::MemoryPort;
    use datapath::switch::shape::Limits;
    use datapath::switch::state::{PortRules, Trunks, VlanMode};
    use datapath::types::VlanId;
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::time::Instant;

    /// A bridge br0 with its own port and p1 (number 7), in memory.
    struct Switch {
        config: Config,
        datapath: Datapath,
        ofports: BTreeMap<Uuid, u16>,
        log: Log,
        _filter: Filter,
        coverage: Coverage,
        memory: [MemoryPort; 2],
    }

    impl Switch {
        fn new() -> Switch {
            let config = Config::read(&database(&br0_p1(json!({}), json!({}), json!({}), json!({}))));
            let [own, p1] = &config.bridges[0].interfaces[..] else { panic!("{config:?}") };
            let ofports = BTreeMap::from([(own.uuid, 65_534), (p1.uuid, 7)]);
            let mut datapath = Datapath::start(&DatapathConfig::default()).unwrap();
            let memory = [0, 1].map(|_| MemoryPort::new(Caps::ALL).unwrap());
            let mac_aging = config.bridges[0].settings.mac_aging;
            let bridge = BridgeSpec {
                name: "br0".to_owned(),
                mac_aging,
                mac_table_size: 8192,
                statics: vec![],
                secure: false,
                vlans: config.bridges[0].vlans.clone(),
                mirrors: vec![],
                gateway: None,
            };
            let mut actions = vec![Action::AddBridge(bridge)];
            for (name, port) in ["br0", "p1"].into_iter().zip(&memory) {
                actions.push(Action::AddPort(PortSpec {
                    name: name.to_owned(),
                    bridge: "br0".to_owned(),
                    kind: PortKind::Memory(port.clone()),
                    vlan: VlanMode::Trunk(Trunks::All),
                    rules: PortRules::default(),
                    up: true,
                    mtu: None,
                    mtu_policy: datapath::control::MtuPolicy::default(),
                    limits: Limits::default(),
                    assist: false,
                }));
            }
            assert!(datapath.apply(actions).iter().all(Result::is_ok));
            let (log, _filter) = Log::new("info").unwrap();
            let coverage = Coverage::new(Instant::now());
            Switch { config, datapath, ofports, log, _filter, coverage, memory }
        }

        fn run(&mut self, method: &str, params: &[Value]) -> (Result<String, String>, Option<Exit>) {
            let view = View { config: &self.config, datapath: &self.datapath, ofports: &self.ofports };
            let mut cx =
                Context { view, log: &mut self.log, coverage: &self.coverage, exit: None, edit: None, examine: None };
            let result = run(&mut cx, method, params);
            (result, cx.exit)
        }

        /// A command line's result, or its error.
        fn says(&mut self, line: &str) -> String {
            let words: Vec<_> = line.split(' ').map(|word| json!(word)).collect();
            let (result, exit) = self.run(words[0].as_str().unwrap(), &words[1..]);
            assert_eq!(exit, None);
            result.unwrap_or_else(|error| format!("error: {error}"))
        }

        /// A broadcast of the station `last` at a port; waits until the other has it.
        fn send(&self, port: usize, last: u8) {
            let mut frame = vec![0xff; 6];
            frame.extend([2, 0, 0, 0, 0, last, 0x08, 0x06]);
            frame.resize(60, 0);
            self.memory[port].inject(Frame::from_bytes(&frame));
            while self.memory[1 - port].drain().is_empty() {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn the_table_is_sorted_and_listed() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        let listed = Switch::new().says("list-commands");
        assert!(listed.starts_with("The available commands are:\n  assist/list             [bridge]\n"), "{listed}");
        assert!(
            listed.contains("\n  fdb/show                bridge\n  fdb/stats-clear         [bridge]\n"),
            "{listed}"
        );
        assert_eq!(listed.lines().count(), 1 + COMMANDS.len());
    }

    #[test]
    fn what_is_refused_is_refused_in_open_vswitchs_words() {
        let mut switch = Switch::new();
        for (line, error) in [
            ("nosuch", "\"nosuch\" is not a valid command (use \"list-commands\" to see a list of valid commands)"),
            ("fdb/show", "\"fdb/show\" command requires at least 1 arguments"),
            ("fdb/show br0 br1", "\"fdb/show\" command takes at most 1 arguments"),
            ("version x", "\"version\" command takes at most 0 arguments"),
            ("assist/list br1", "no such bridge"),
            (
                "assist/list",
                "other_config:assist is not true, so the kernel forwards nothing by itself; 'vsctl set open_vswitch . \
                 other_config:assist=true' turns it on",
            ),
            ("fdb/show br1", "no such bridge"),
            ("fdb/flush br1", "no such bridge"),
            ("fdb/stats-show br1", "no such bridge"),
            ("fdb/stats-clear br1", "no such bridge"),
            ("fdb/list br1", "no such bridge"),
            ("fdb/moves br1", "no such bridge"),
            ("drops/list br1", "no such bridge"),
            ("doctor/start br1", "no such bridge"),
            ("doctor/list br1", "no such bridge"),
            ("fdb/add br1 p1 0 02:00:00:00:00:01", "no such bridge"),
            ("fdb/add br0 p1", "\"fdb/add\" command requires at least 4 arguments"),
            ("fdb/add br0 p9 0 02:00:00:00:00:01", "no port 'p9' on bridge br0; it has br0, p1"),
            ("fdb/add br0 p1 4096 02:00:00:00:00:01", "bad VLAN '4096': a number from 0 to 4095"),
            ("fdb/add br0 p1 0 02:00", "bad MAC address"),
            ("fdb/add br0 p1 0 01:00:00:00:00:01", "bad MAC address: 01:00:00:00:00:01 is no station's"),
            ("fdb/del br1 0 02:00:00:00:00:01", "no such bridge"),
            ("fdb/del br0 0 02:00:00:00:00:01", "could not find static mac entry"),
            ("coverage/read-counter x", "No such counter"),
            ("vlog/set foo", "no destination, level, or module \"foo\""),
            ("exit now", "exit: 'now' is unknown; --cleanup also detaches all ports"),
        ] {
            assert_eq!(switch.says(line), format!("error: {error}"));
        }
        let (result, _) = switch.run("fdb/show", &[json!(5)]);
        assert_eq!(result.unwrap_err(), "\"fdb/show\" command has non-string argument");
    }

    #[test]
    fn learned_addresses() {
        let mut switch = Switch::new();
        let head = " port  VLAN  MAC                Age\n";
        assert_eq!(switch.says("fdb/show br0"), head);
        switch.send(1, 9);
        switch.send(0, 3);
        let both = format!("{head}    7     0  02:00:00:00:00:09    0\nLOCAL     0  02:00:00:00:00:03    0\n");
        assert_eq!(switch.says("fdb/show br0"), both);
        switch.send(0, 9);
        let stats = |now, learned, moved| {
            format!(
                "Statistics for bridge \"br0\":\n  Current/maximum MAC entries in the table: {now}/8192\n  \
                 Current static MAC entries in the table : 0\n  Total number of learned MAC entries     : {learned}\n  \
                 Total number of expired MAC entries     : 0\n  Total number of evicted MAC entries     : 0\n  \
                 Total number of port moved MAC entries  : {moved}\n"
            )
        };
        assert_eq!(switch.says("fdb/stats-show br0"), stats(2, 2, 1));
        assert_eq!(switch.says("fdb/flush br0"), "table successfully flushed");
        assert_eq!(switch.says("fdb/show br0"), head);
        switch.send(1, 4);
        assert_eq!(switch.says("fdb/flush"), "table successfully flushed");
        assert_eq!(switch.says("fdb/stats-show br0"), stats(0, 3, 1));
        let listed = |text: String| serde_json::from_str::<Value>(&text).unwrap();
        let moved = listed(switch.says("fdb/moves br0"));
        assert_eq!(moved[0]["mac"], "02:00:00:00:00:09");
        assert_eq!((&moved[0]["from"], &moved[0]["to"], &moved[0]["moves"]), (&json!("p1"), &json!("br0"), &json!(1)));
        assert_eq!(switch.says("fdb/stats-clear br0"), "statistics successfully cleared");
        assert_eq!(switch.says("fdb/stats-clear"), "statistics successfully cleared");
        assert_eq!(switch.says("fdb/stats-show br0"), stats(0, 0, 0));
        switch.send(1, 4);
        let entry = json!([{"port": "p1", "remote": null, "vlan": 0, "mac": "02:00:00:00:00:04", "age": 0}]);
        assert_eq!(listed(switch.says("fdb/list br0")), entry);
    }

    #[test]
    fn static_addresses() {
        let mut switch = Switch::new();
        let edit = |switch: &mut Switch, line: &str| {
            let words: Vec<_> = line.split(' ').collect();
            let view = View { config: &switch.config, datapath: &switch.datapath, ofports: &switch.ofports };
            let (log, coverage) = (&mut switch.log, &switch.coverage);
            let mut cx = Context { view, log, coverage, exit: None, edit: None, examine: None };
            let params: Vec<_> = words[1..].iter().map(|word| json!(word)).collect();
            let says = run(&mut cx, words[0], &params).unwrap();
            (says, cx.edit.map(|e| (e.vlan.get(), e.mac.to_string(), e.place)))
        };
        let mac = "02:00:00:00:00:0a".to_owned();
        let added = (String::new(), Some((5, mac.clone(), Some("p1".to_owned()))));
        assert_eq!(edit(&mut switch, "fdb/add br0 p1 5 02:00:00:00:00:0A"), added);
        let (vlan, address) = (VlanId::new(5).unwrap(), mac.parse().unwrap());
        let entry = StaticSpec { vlan, mac: address, port: "p1".to_owned(), remote: None };
        switch.config.bridges[0].settings.statics = vec![entry];
        assert_eq!(edit(&mut switch, "fdb/add br0 p1 5 02:00:00:00:00:0A"), added, "again");
        let moved = (
            "Overriding already existing static entry on 7".to_owned(),
            Some((5, mac.clone(), Some("br0".to_owned()))),
        );
        assert_eq!(edit(&mut switch, "fdb/add br0 br0 5 02:00:00:00:00:0a"), moved);
        assert_eq!(edit(&mut switch, "fdb/del br0 5 02:00:00:00:00:0a"), (String::new(), Some((5, mac, None))));
        // As the datapath has it.
        let bridge = &switch.config.bridges[0];
        let spec = BridgeSpec {
            name: "br0".to_owned(),
            mac_aging: bridge.settings.mac_aging,
            mac_table_size: bridge.settings.mac_table_size,
            statics: bridge.settings.statics.clone(),
            secure: false,
            vlans: bridge.vlans.clone(),
            mirrors: vec![],
            gateway: None,
        };
        assert!(switch.datapath.apply(vec![Action::SetBridge(spec)])[0].is_ok());
        switch.send(1, 9);
        let shown = switch.says("fdb/show br0");
        let head = " port  VLAN  MAC                Age\n";
        assert_eq!(
            shown,
            format!("{head}    7     5  02:00:00:00:00:0a  static\n    7     0  02:00:00:00:00:09    0\n")
        );
        assert!(switch.says("fdb/stats-show br0").contains("Current static MAC entries in the table : 1\n"));
        let listed: Value = serde_json::from_str(&switch.says("fdb/list br0")).unwrap();
        assert_eq!((&listed[0]["age"], &listed[0]["port"], &listed[1]["age"]), (&Value::Null, &json!("p1"), &json!(0)));
    }

    #[test]
    fn a_bridge_that_the_datapath_lacks_is_told_as_such() {
        let mut switch = Switch::new();
        switch.config.bridges[0].name = "br9".to_owned();
        for command in ["fdb/show", "fdb/flush", "fdb/stats-show", "fdb/stats-clear", "fdb/list", "fdb/moves"] {
            let command = &format!("{command} br9");
            assert_eq!(switch.says(command), "error: the datapath tells nothing about br9; see the daemon's log");
        }
    }

    #[test]
    fn counters() {
        let mut switch = Switch::new();
        assert_eq!(switch.says("coverage/read-counter drop_malformed"), "0");
        switch.memory[0].inject(Frame::from_bytes(&[0; 6]));
        while switch.says("coverage/read-counter drop_malformed") != "1" {
            std::thread::yield_now();
        }
        let shown = switch.says("coverage/show");
        assert!(shown.contains("\nrx_packets "), "{shown}");
        assert!(shown.contains("\ndrop_malformed             0.0/sec     0.000/sec        0.0000/sec   total: 1\n"));
        let listed: Value = serde_json::from_str(&switch.says("drops/list br0")).unwrap();
        let text = "The frame is too short or its headers contradict each other.";
        let runt =
            json!({"bridge": "br0", "port": "br0", "mirror": null, "reason": "malformed", "count": 1, "text": text});
        assert_eq!(listed, json!([runt]));
        assert_eq!(switch.says("drops/list"), listed.to_string());
    }

    #[test]
    fn workers_and_their_queues() {
        let mut switch = Switch::new();
        switch.send(1, 9);
        // The number is written before the frame leaves.
        let shown = switch.says("dpif-netdev/pmd-rxq-show");
        let port = |name| format!("  port: {name:<16}  queue-id:  0 (enabled)   pmd usage:  0 %\n");
        assert_eq!(shown, format!("worker 0 core_id any:\n{}{}", port("br0"), port("p1")));
        let stats = switch.says("dpif-netdev/pmd-stats-show");
        assert!(stats.starts_with("worker 0 core_id any:\n  packets received: 1\n  busy: "), "{stats}");
        assert_eq!(switch.says("dpif-netdev/pmd-rxq-show -pmd 5 netdev@ovs-netdev"), "");
        for (line, error) in [
            ("dpif-netdev/pmd-rxq-show -pmd x", "-pmd: 'x' is no number of a CPU"),
            ("dpif-netdev/pmd-rxq-show -secs 5", "-secs: what is shown is of the last stats-update-interval, no other"),
            ("dpif-netdev/pmd-stats-show other", "please specify an existing datapath"),
        ] {
            assert_eq!(switch.says(line), format!("error: {error}"));
        }
        let listed: Value = serde_json::from_str(&switch.says("workers/list")).unwrap();
        let queue =
            |port, packets| json!({"worker": 0, "cpu": null, "port": port, "queue": 0, "usage": 0, "packets": packets});
        assert_eq!(listed, json!([queue("br0", 0), queue("p1", 1)]));
        // Three of them share two queues, so one has nothing to receive from.
        let Some(cpu) = [0, 1].into_iter().find(|&cpu| switch.datapath.set_workers(&[cpu]).is_ok()) else { return };
        switch.datapath.set_workers(&[cpu; 3]).unwrap();
        let listed: Value = serde_json::from_str(&switch.says("workers/list")).unwrap();
        let ports: Vec<_> = (0..3).map(|at| (&listed[at]["worker"], &listed[at]["cpu"], &listed[at]["port"])).collect();
        let cpu = &json!(cpu);
        assert_eq!(
            ports,
            [(&json!(0), cpu, &json!("p1")), (&json!(1), cpu, &json!("br0")), (&json!(2), cpu, &Value::Null)]
        );
    }

    #[test]
    fn log_levels() {
        let mut switch = Switch::new();
        let listed = switch.says("vlog/list");
        let head = "                 console    syslog    file\n                 -------    ------    ------\n";
        assert!(listed.starts_with(&format!("{head}appctl            INFO        OFF        OFF\n")), "{listed}");
        assert_eq!(switch.says("vlog/set ovsdb:console:err appctl:off any:file:off"), "");
        let listed = switch.says("vlog/list");
        for line in [
            "appctl             OFF        OFF        OFF",
            "daemon            INFO        OFF        OFF",
            "ovsdb              ERR        OFF        OFF",
            "ovsdb_server       ERR        OFF        OFF",
        ] {
            assert!(listed.contains(&format!("\n{line}\n")), "{listed}");
        }
        assert_eq!(switch.says("vlog/set warn,netlink_proto=trace"), "");
        let listed = switch.says("vlog/list");
        assert!(listed.contains("\nappctl            WARN "), "{listed}");
        assert!(listed.ends_with("\nnetlink_proto     TRACE        OFF        OFF\n"), "{listed}");
        assert!(switch.says("vlog/set ovsdb=loud").starts_with("error: 'ovsdb=loud'"));
    }

    #[test]
    fn the_end() {
        let mut switch = Switch::new();
        assert_eq!(switch.run("exit", &[]), (Ok(String::new()), Some(Exit { cleanup: false })));
        assert_eq!(switch.run("exit", &[json!("--cleanup")]), (Ok(String::new()), Some(Exit { cleanup: true })));
    }
}
