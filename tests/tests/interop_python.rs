//! Python clients from PyPI: Open vSwitch's own library follows the daemon's database, and OpenStack's `ovsdbapp` drives
//! it as Neutron and os-vif do.

use serde_json::{Value, json};
use vswitch_tests::netns::{Host, Lab, Running};
use vswitch_tests::ovs::Ovs;
use vswitch_tests::process::eventually;
use vswitch_tests::python::Python;
use vswitch_tests::text::without_uuids;

/// Starts `follow.py`.
fn follow(python: &Python, host: &Host, lab: &Lab, name: &str, arguments: &str) -> Running {
    let arguments = format!("unix:{} {arguments}", host.socket().display());
    host.spawn(&python.script("follow", &arguments), &lab.dir().join(name))
}

/// Waits until the last that it saw is this.
fn sees(session: &Running, expected: &Value) {
    eventually("the session sees it", || {
        let log = session.log();
        let last = log.lines().last().unwrap_or_default();
        let seen = serde_json::from_str::<Value>(last).map_err(|e| format!("{e}: {log}"))?;
        if seen == *expected { Ok(()) } else { Err(format!("{seen}\nwanted: {expected}")) }
    });
}

/// A bridge, a port or an interface without settings, as `follow.py` shows it.
fn bridge(name: &str, ports: &[&str]) -> Value {
    json!([name, ports, {}, []])
}

fn port(name: &str, tag: Value, trunks: Value) -> Value {
    json!([name, [name], tag, trunks])
}

fn interface(name: &str, kind: &str, options: Value) -> Value {
    json!([name, kind, options, []])
}

fn a_session_follows(packages: &str) {
    let (Some(python), Some(lab)) = (Python::find(packages), Lab::open()) else { return };
    let mut host = lab.host("host");
    let all = follow(&python, &host, &lab, "all", "");
    let one = follow(&python, &host, &lab, "one", "br1");
    let nothing = json!({"Bridge": [], "Port": [], "Interface": []});
    sees(&all, &nothing);

    host.vsctl("add-br br0");
    let internal = |name: &str| interface(name, "internal", json!({}));
    let br0 = json!({"Bridge": [bridge("br0", &["br0"])], "Port": [port("br0", json!([]), json!([]))],
        "Interface": [internal("br0")]});
    sees(&all, &br0);
    host.vsctl(
        "add-port br0 vx0 tag=7 trunks=10,20 -- set interface vx0 type=vxlan options:remote_ip=10.0.0.9 options:key=5",
    );
    host.vsctl("set bridge br0 external_ids:a=b external_ids:c=d fail_mode=secure");
    host.vsctl("remove bridge br0 external_ids a -- remove port vx0 trunks 10 -- set interface vx0 options:key=6");
    let vxlan = interface("vx0", "vxlan", json!({"remote_ip": "10.0.0.9", "key": "6"}));
    let configured = json!({"Bridge": [["br0", ["br0", "vx0"], {"c": "d"}, ["secure"]]],
        "Port": [port("br0", json!([]), json!([])), port("vx0", json!([7]), json!([20]))],
        "Interface": [internal("br0"), vxlan]});
    sees(&all, &configured);

    // With a condition, only what it lets through; the rest of the tables is whole.
    let mut but_br0 = configured.clone();
    but_br0["Bridge"] = json!([]);
    sees(&one, &but_br0);
    host.vsctl("add-br br1");
    eventually("the other session sees br1", || {
        let log = one.log();
        if log.contains(r#""Bridge": [["br1", ["br1"], {}, []]]"#) { Ok(()) } else { Err(log) }
    });
    assert!(!one.log().contains(r#""Bridge": [["br0""#), "a bridge that the condition keeps out: {}", one.log());
    host.vsctl("del-br br1");
    sees(&all, &configured);

    // The daemon goes and comes back: the sessions find it again, with what has changed.
    assert_eq!(host.stop(), 0);
    host.start();
    host.vsctl("del-port vx0 -- clear bridge br0 external_ids fail_mode");
    sees(&all, &br0);
    host.vsctl("del-br br0");
    sees(&all, &nothing);
    sees(&one, &nothing);
}

#[test]
fn a_session_of_today_s_library_follows_changes() {
    a_session_follows("ovsdbapp");
}

#[test]
fn a_session_of_the_library_of_3_1_follows_changes() {
    a_session_follows("ovs-3.1");
}

/// What is the same for any two databases. Where a transaction breaks two indexes, either may be named.
fn comparable(printed: &str) -> Vec<String> {
    let cut = |line: &str| match line.split_once("Transaction causes multiple rows in") {
        Some((before, after)) => {
            assert!(
                after.contains("identical values (vx1) for index on column") && after.contains("constraint violation")
            );
            before.to_owned()
        }
        None => line.to_owned(),
    };
    without_uuids(printed).lines().map(cut).collect()
}

/// Some of the lines that must be there, so that both can't be wrong in the same way.
const EXPECTED: [&str; 14] = [
    "add_br: [Bridge br0]",
    "plug: [None, None, Port vx1]",
    "list_ports: [to-br1, vx1]",
    "db_get options: {dst_port: 4790, key: 7, remote_ip: 10.0.0.9}",
    "db_find map: [{name: vx1}]",
    "db_find type: [{name: to-br0, options: {peer: to-br1}}, {name: to-br1, options: {peer: to-br0}}]",
    "br_get_external_id: br-int",
    "get_controller: [ptcp:6654:127.0.0.1, tcp:127.0.0.1:6653]",
    "fail_mode: secure",
    "trunks: [10, 30]",
    "nothing done: []",
    "del_br: [None, None]",
    "nothing left: []",
    "no Interface: []",
];

/// The same script on us and on Open vSwitch.
#[test]
fn ovsdbapp_does_on_us_what_it_does_on_open_vswitch() {
    let (Some(python), Some(ovs), Some(lab)) = (Python::find("ovsdbapp"), Ovs::find(), Lab::open()) else { return };
    let host = lab.host("host");
    let beside = lab.space("theirs");
    let theirs = ovs.server(lab.dir());
    let _switch = ovs.vswitchd(&beside, &theirs);
    let [ours, theirs] = [&host.socket(), &theirs.socket].map(|socket| {
        let done = host.try_run(&python.script("ovsdbapp_api", &format!("unix:{}", socket.display())));
        assert!(done.ok() && done.stderr.is_empty(), "{done}");
        comparable(&done.stdout)
    });
    assert_eq!(ours, theirs);
    for line in EXPECTED {
        assert!(ours.iter().any(|l| l == line), "{line}: not among\n{}", ours.join("\n"));
    }
    let refused: Vec<&String> = ours.iter().filter(|line| line.contains("raised RuntimeError: OVSDB Error")).collect();
    assert_eq!(refused.len(), 3, "{refused:?}");
}
