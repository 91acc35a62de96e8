//! Open vSwitch's real, unmodified tools drive us, and see what they would see of Open vSwitch.

use serde_json::Value;
use std::fs;
use vswitch_tests::netns::Lab;
use vswitch_tests::ovs::Ovs;
use vswitch_tests::process::eventually;
use vswitch_tests::two_hosts::TwoHosts;

/// The set-up of the two hosts, each command as a person would type it, and traffic in both tenants.
#[test]
fn ovs_vsctl_builds_the_two_hosts() {
    let Some(ovs) = Ovs::find() else { return };
    let Some(lab) = TwoHosts::open() else { return };
    for (n, host) in lab.hosts.iter().enumerate() {
        for command in TwoHosts::commands(n) {
            let done = ovs.vsctl(&host.socket(), &command);
            assert!(done.ok() && done.stderr.is_empty(), "{done}");
        }
    }
    lab.check_tenants();
    let rate = lab.a[0].tcp(&lab.a[1], "192.168.60.12", 1);
    assert!(rate > 1e6, "{:.1} Mbit/s", rate / 1e6);
}

/// `show` as lines without what differs between any two databases: the identifier, the version, and the order of rows.
fn normal(show: &str) -> Vec<String> {
    let mut lines: Vec<String> = show.lines().skip(1).map(str::to_owned).collect();
    lines.retain(|l| !l.trim().starts_with("ovs_version:"));
    lines.sort();
    lines
}

/// The same commands on us and on a real ovsdb-server: the same `show`.
#[test]
fn ovs_vsctl_show_prints_what_it_prints_for_open_vswitch() {
    let Some(ovs) = Ovs::find() else { return };
    let Some(lab) = TwoHosts::open() else { return };
    let host = &lab.hosts[0];
    let theirs = ovs.server(lab.lab.dir());
    for command in TwoHosts::commands(0) {
        let _ = ovs.vsctl(&host.socket(), &command).output();
        let _ = ovs.vsctl(&theirs.socket, &format!("--no-wait {command}")).output();
    }
    let ours = ovs.vsctl(&host.socket(), "show").output();
    assert_eq!(normal(&ours), normal(&ovs.vsctl(&theirs.socket, "show").output()));
    assert!(ours.contains("ovs_version: \"vswitch "), "{ours}");
    assert_eq!(normal(&host.vsctl("show")), normal(&ours), "vsctl show and ovs-vsctl show differ");
}

/// One sequence of commands, the exit codes and outputs compared one by one.
#[test]
fn commands_answer_as_on_open_vswitch() {
    let Some(ovs) = Ovs::find() else { return };
    let Some(lab) = Lab::open() else { return };
    let host = lab.host("host");
    let _pod = lab.pod("pod", &host, "p1", "10.0.0.1/24");
    let theirs = ovs.server(lab.dir());
    for command in [
        "add-br br0",
        "--may-exist add-br br0",
        "add-br br0",
        "br-exists br0",
        "br-exists nope",
        "list-br",
        "add-port br0 p1 tag=20",
        "--may-exist add-port br0 p1",
        "list-ports br0",
        "list-ports nope",
        "port-to-br p1",
        "iface-to-br p1",
        "get port p1 tag",
        "set port p1 tag=30 external_ids:who=me",
        "get port p1 external_ids",
        "get port p1 external_ids:who",
        "get port p1 external_ids:nobody",
        "set port p1 tag=5000",
        "set port p1 vlan_mode=access trunks=1,2,3",
        "remove port p1 trunks 2",
        "get port p1 trunks",
        "clear port p1 trunks tag",
        "--columns=name,tag list port p1",
        "set port p1 nonsense=1",
        "-- --id=@m create mirror name=m0 select-all=true -- set bridge br0 mirrors=@m",
        "--columns=name,select_all find mirror select_all=true",
        "clear bridge br0 mirrors",
        "--columns=name list mirror",
        "br-set-external-id br0 a b",
        "br-get-external-id br0",
        "set bridge br0 fail_mode=standalone other_config:mac-aging-time=60",
        "get bridge br0 other_config",
        "--format=csv --no-headings --columns=name,fail_mode list bridge",
        "set-fail-mode br0 secure",
        "get-fail-mode br0",
        "del-fail-mode br0",
        "--if-exists del-port nope",
        "del-port nope",
        "del-port p1",
        "--columns=name find interface name=p1",
        "del-br br0",
        "list-br",
    ] {
        let us = ovs.vsctl(&host.socket(), command);
        let them = ovs.vsctl(&theirs.socket, &format!("--no-wait {command}"));
        // `create` prints a fresh identifier.
        if !command.contains("create") {
            assert_eq!(us.stdout, them.stdout, "{command}: standard output");
        }
        let stripped = |text: &str, socket: &str| text.replace(socket, "SOCKET");
        assert_eq!(
            stripped(&us.stderr, &host.socket().display().to_string()),
            stripped(&them.stderr, &theirs.socket.display().to_string()),
            "{command}: standard error"
        );
        assert_eq!(us.code, them.code, "{command}: exit code");
    }
}

#[test]
fn ovsdb_client_dumps_monitors_and_transacts() {
    let Some(ovs) = Ovs::find() else { return };
    let Some(lab) = Lab::open() else { return };
    let host = lab.host("host");
    host.vsctl("add-br br0");
    let db = format!("unix:{}", host.socket().display());

    let names = ovs.run("ovsdb-client", &format!("list-dbs {db}")).output();
    assert_eq!(names.split_whitespace().collect::<Vec<_>>(), ["Open_vSwitch", "_Server"]);
    let dump = ovs.run("ovsdb-client", &format!("dump {db} Open_vSwitch Bridge name datapath_type")).output();
    assert!(dump.contains("br0"), "{dump}");
    let everything = ovs.run("ovsdb-client", &format!("dump {db}")).output();
    assert!(everything.contains("Open_vSwitch table"), "{everything}");
    let schema = ovs.run("ovsdb-client", &format!("get-schema {db} Open_vSwitch")).output();
    let schema: Value = serde_json::from_str(&schema).expect("a schema in JSON");
    assert_eq!(schema["name"], "Open_vSwitch");

    // A monitor sees what a raw transaction does.
    let log = lab.dir().join("monitor");
    let monitor = format!("timeout 60 {} monitor {db} Bridge external_ids", ovs.path("ovsdb-client"));
    let monitor = host.spawn(&monitor, &log);
    eventually("the monitor's first rows", || monitor.log().contains("initial").then_some(()).ok_or(monitor.log()));
    let request = serde_json::json!(["Open_vSwitch", {"op": "mutate", "table": "Bridge",
        "where": [["name", "==", "br0"]], "mutations": [["external_ids", "insert", ["map", [["colour", "green"]]]]]}]);
    let transact = format!("transact {db} {}", request.to_string().replace(' ', "\u{a0}"));
    let reply = ovs.run("ovsdb-client", &transact).output();
    assert_eq!(reply.trim(), r#"[{"count":1}]"#);
    eventually("the monitor sees the change", || monitor.log().contains("green").then_some(()).ok_or(monitor.log()));
}

/// A database that Open vSwitch wrote is taken over as it is.
#[test]
fn a_database_of_open_vswitch_is_taken_over() {
    let Some(ovs) = Ovs::find() else { return };
    let Some(lab) = TwoHosts::open() else { return };
    let [mut host, _other] = lab.hosts;
    assert_eq!(host.stop(), 0);
    fs::remove_file(host.db()).expect("our own database is there");
    let theirs = ovs.server(lab.lab.dir());
    for command in TwoHosts::commands(0) {
        let _ = ovs.vsctl(&theirs.socket, &format!("--no-wait {command}")).output();
    }
    let show = ovs.vsctl(&theirs.socket, "show").output();
    drop(theirs);
    fs::copy(lab.lab.dir().join("ovs.db"), host.db()).expect("their database in our place");
    host.start();
    assert_eq!(normal(&ovs.vsctl(&host.socket(), "show").output()), normal(&show));
}
