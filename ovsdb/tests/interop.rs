//! The unmodified tools of Open vSwitch against our server and our file.

mod common;

use common::{TestServer, output_of, run_tool};
use ovsdb::db::log::LogError;
use ovsdb::db::store::OpenError;
use ovsdb::server::Server;
use ovsdb::vswitch_schema::vswitch_schema;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use vswitch_tests::ovs;

fn ovsdb_client(server: &TestServer, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(ovs::program("ovsdb-client")?);
    let (method, rest) = arguments.split_first().expect("a command");
    command.arg(method).arg(format!("unix:{}", server.socket().display())).args(rest);
    Some(output_of(&mut command))
}

/// An ovs-vsctl command line, split at spaces.
fn ovs_vsctl(server: &TestServer, line: &str) -> Option<(i32, String, String)> {
    let mut command = Command::new(ovs::program("ovs-vsctl")?);
    command.arg(format!("--db=unix:{}", server.socket().display())).args(line.split(' '));
    Some(run_tool(&mut command))
}

#[test]
fn ovsdb_client_reads_the_schema() {
    let server = TestServer::start();
    let Some(databases) = ovsdb_client(&server, &["list-dbs"]) else { return };
    assert_eq!(databases, "Open_vSwitch\n_Server\n");
    let schema = ovsdb_client(&server, &["get-schema", "Open_vSwitch"]).expect("installed");
    assert!(schema.contains("\"version\":\"8.3.1\""), "{schema}");
    let tables = ovsdb_client(&server, &["list-tables", "Open_vSwitch"]).expect("installed");
    assert_eq!(tables.lines().skip(2).count(), 19, "{tables}");
    let columns = ovsdb_client(&server, &["list-columns", "Open_vSwitch", "Port"]).expect("installed");
    assert!(columns.lines().any(|line| line.starts_with("trunks") && line.contains("\"max\":4096")), "{columns}");
}

#[test]
fn ovsdb_client_transacts_dumps_and_monitors() {
    let server = TestServer::start();
    let Some(client) = ovs::program("ovsdb-client") else { return };
    let mut monitor = Command::new(client)
        .arg("monitor")
        .arg(format!("unix:{}", server.socket().display()))
        .args(["Open_vSwitch", "Bridge", "name", "--format=csv", "--no-headings"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("installed");
    let mut seen = BufReader::new(monitor.stdout.take().expect("piped")).lines();
    let insert = r#"["Open_vSwitch",
        {"op":"insert","table":"Bridge","uuid-name":"b","row":{"name":"br0"}},
        {"op":"mutate","table":"Open_vSwitch","where":[],"mutations":[["bridges","insert",["named-uuid","b"]]]}]"#;
    let result = ovsdb_client(&server, &["transact", insert]).expect("installed");
    assert!(result.starts_with("[{\"uuid\":[\"uuid\",\"") && result.ends_with("},{\"count\":1}]\n"), "{result}");
    let line = loop {
        let line = seen.next().expect("still running").expect("text");
        if line.contains("br0") {
            break line;
        }
    };
    assert!(line.ends_with(",insert,br0") || line.ends_with(",initial,br0"), "{line}");
    monitor.kill().and_then(|()| monitor.wait()).expect("running");
    let dump = ovsdb_client(&server, &["dump", "Open_vSwitch", "Bridge", "name"]).expect("installed");
    assert_eq!(dump, "Bridge table\nname\n----\nbr0\n");
    let dump = ovsdb_client(&server, &["dump", "_Server", "Database", "name", "model", "connected"]);
    assert!(dump.expect("installed").contains("Open_vSwitch"));
}

#[test]
fn ovs_vsctl_builds_and_removes_a_bridge() {
    let server = TestServer::start();
    let expect = |line: &str, output: &str| {
        if let Some((code, out, err)) = ovs_vsctl(&server, line) {
            assert_eq!((code, out.as_str(), err.as_str()), (0, output, ""), "{line}");
        }
    };
    expect("--no-wait init", "");
    expect("--no-wait add-br br0", "");
    expect("list-br", "br0\n");
    expect(
        "--no-wait add-port br0 p1 tag=10 -- set interface p1 type=vxlan options:remote_ip=192.0.2.2 options:key=5000",
        "",
    );
    expect("list-ports br0", "p1\n");
    expect("get interface p1 options:key type", "\"5000\"\nvxlan\n");
    expect("--no-wait set interface p1 options:key=6000", "");
    expect("get interface p1 options", "{key=\"6000\", remote_ip=\"192.0.2.2\"}\n");
    expect("--no-wait set port p1 trunks=1,2,3", "");
    expect("--no-wait remove port p1 trunks 2", "");
    expect("get port p1 trunks tag", "[1, 3]\n10\n");
    expect("--no-wait clear port p1 tag", "");
    expect("get port p1 tag", "[]\n");
    expect("--no-wait set-controller br0 tcp:127.0.0.1:6653 -- set-fail-mode br0 secure", "");
    expect("get-controller br0", "tcp:127.0.0.1:6653\n");
    expect("port-to-br p1", "br0\n");
    expect("--bare --columns=name find interface type=vxlan", "p1\n");
    if let Some((_, shown, _)) = ovs_vsctl(&server, "show") {
        let expected = r#"
    Bridge br0
        Controller "tcp:127.0.0.1:6653"
        fail_mode: secure
        Port p1
            trunks: [1, 3]
            Interface p1
                type: vxlan
                options: {key="6000", remote_ip="192.0.2.2"}
        Port br0
            Interface br0
                type: internal
"#;
        // The first line is the UUID of the one Open_vSwitch row; ports come in the order of theirs.
        let sorted = |text: &str| {
            let mut lines: Vec<String> = text.lines().skip(1).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        assert_eq!(sorted(&shown), sorted(expected));
    }
    expect("--no-wait del-port p1", "");
    expect("--no-wait --if-exists del-port p1", "");
    expect("--no-wait del-br br0", "");
    expect("list-br", "");
    for table in ["Bridge", "Port", "Interface", "Controller"] {
        expect(&format!("list {table}"), "");
    }
}

#[test]
fn ovs_vsctl_waits_for_the_switch_and_reports_errors() {
    let server = TestServer::start();
    let Some(added) = ovs_vsctl(&server, "--timeout=10 add-br br0 -- add-port br0 p1") else { return };
    assert_eq!(added, (0, String::new(), String::new()));
    let (_, ofport, _) = ovs_vsctl(&server, "get interface p1 ofport").expect("installed");
    assert!(ofport.trim().parse::<u32>().is_ok(), "{ofport}");
    assert_eq!(ovs_vsctl(&server, "br-exists nope").expect("installed").0, 2);
    let (code, _, err) = ovs_vsctl(&server, "add-br br0").expect("installed");
    assert_eq!((code, err.contains("a bridge named br0 already exists")), (1, true), "{err}");
    let (code, _, err) = ovs_vsctl(&server, "set port p1 tag=5000").expect("installed");
    assert_eq!((code, err.contains("constraint violation")), (1, true), "{err}");
    let (code, _, err) =
        ovs_vsctl(&server, "--id=@m create mirror name=m0 -- set bridge br0 mirrors=@m").expect("installed");
    assert_eq!((code, err.as_str()), (0, ""));
    assert_eq!(ovs_vsctl(&server, "--bare get mirror m0 name").expect("installed").1, "m0\n");
}

#[test]
fn ovsdb_tool_reads_our_file() {
    let server = TestServer::start();
    let Some(tool) = ovs::program("ovsdb-tool") else { return };
    let run = |arguments: &[&str], file: &Path, more: &[&str]| {
        output_of(Command::new(&tool).args(arguments).arg(file).args(more))
    };
    if ovs_vsctl(&server, "--no-wait add-br br0 -- set bridge br0 other_config:a=1").is_some() {
        let log = run(&["show-log", "-m"], &server.db(), &[]);
        assert!(log.contains("add-br br0") && log.contains("insert row"), "{log}");
    }
    assert_eq!(run(&["db-version"], &server.db(), &[]), "8.3.1\n");
    assert_eq!(run(&["db-name"], &server.db(), &[]), "Open_vSwitch\n");
    let (code, _, err) = run_tool(Command::new(&tool).args(["compact"]).arg(server.db()));
    assert!(code != 0 && err.contains(&format!("locked by pid {}", std::process::id())), "{err}");
    let dir = server.stop();
    let file = dir.path().join("conf.db");
    let query = r#"["Open_vSwitch",{"op":"select","table":"Open_vSwitch","where":[],"columns":["next_cfg"]}]"#;
    assert_eq!(run(&["query"], &file, &[query]), "[{\"rows\":[{\"next_cfg\":0}]}]\n");
    run(&["compact"], &file, &[]);
    drop(TestServer::on(dir));
}

/// A database made by `ovsdb-server` and `ovs-vsctl`, in Open vSwitch's style of differences.
#[test]
fn a_database_of_open_vswitch_is_taken_over() {
    let (Some(tool), Some(daemon), Some(vsctl)) =
        (ovs::program("ovsdb-tool"), ovs::program("ovsdb-server"), ovs::program("ovs-vsctl"))
    else {
        return;
    };
    let dir = tempfile::tempdir().expect("tempdir");
    let at = |name: &str| dir.path().join(name);
    let schema = vswitch_schema().to_json();
    std::fs::write(at("schema"), schema.to_string()).expect("room");
    output_of(Command::new(tool).arg("create").args([at("conf.db"), at("schema")]));
    let mut foreign = Command::new(daemon)
        .arg(at("conf.db"))
        .arg(format!("--remote=punix:{}", at("theirs.sock").display()))
        .arg(format!("--unixctl={}", at("theirs.ctl").display()))
        .stderr(Stdio::null())
        .spawn()
        .expect("installed");
    let ours = |line: &str| {
        let db = format!("--db=unix:{}", at("theirs.sock").display());
        output_of(Command::new(&vsctl).args([&db, "--no-wait", "--timeout=10", "--retry"]).args(line.split(' ')))
    };
    ours("init");
    ours("add-br br0 -- add-port br0 p1 -- set interface p1 options:a=1 options:b=2");
    ours("set interface p1 options:c=3 -- set port p1 trunks=1,2,3");
    ours("remove interface p1 options a -- set port p1 trunks=2,3,4 tag=5");

    let error = Server::open(&at("conf.db"), vswitch_schema(), 0).expect_err("in use");
    assert!(matches!(error, OpenError::Log(LogError::Lock(_))), "{error}");
    assert!(error.to_string().contains(&format!("already in use by process {};", foreign.id())), "{error}");
    foreign.kill().and_then(|()| foreign.wait().map(drop)).expect("running");

    let server = TestServer::on(dir);
    let get = |line| ovs_vsctl(&server, line).expect("installed").1;
    assert_eq!(get("get interface p1 options"), "{b=\"2\", c=\"3\"}\n");
    assert_eq!(get("get port p1 trunks tag"), "[2, 3, 4]\n5\n");
    assert_eq!(get("list-ports br0"), "p1\n");
}
