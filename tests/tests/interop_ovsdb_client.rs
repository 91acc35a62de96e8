//! Every command of the real `ovsdb-client` on the daemon and on an `ovsdb-server` that holds the same rows.
//!
//! What it prints must be the same, but for the order of lines: it goes through hash tables, whose order is that of the
//! order in which things were put in.

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use vswitch_tests::netns::{Host, Lab, Running};
use vswitch_tests::ovs::{Ovs, OvsdbServer};
use vswitch_tests::process::{Done, eventually, run};
use vswitch_tests::text::{sorted_lines, without_uuids};

/// A daemon and an `ovsdb-server` with the same rows.
struct Twins {
    ovs: Ovs,
    theirs: OvsdbServer,
    ours: Host,
    /// Last, so that it is dropped last.
    lab: Lab,
}

impl Twins {
    fn start() -> Option<Twins> {
        let ovs = Ovs::find()?;
        let lab = Lab::open()?;
        let ours = lab.host("host");
        let vxlan = "set interface vx0 type=vxlan options:remote_ip=10.0.0.9 options:key=5 options:dst_port=4790";
        ours.vsctl(&format!("add-br br0 -- add-port br0 vx0 -- {vxlan} -- set port vx0 tag=7 external_ids:a=b"));
        let theirs = ovs.server_on_copy(lab.dir(), &ours.db());
        Some(Twins { ovs, theirs, ours, lab })
    }

    /// Both sockets, ours first, each with the name that stands for it in `said`.
    fn sockets(&self) -> [String; 2] {
        [self.ours.socket().as_path(), &self.theirs.socket].map(|socket| format!("unix:{}", socket.display()))
    }

    /// The command line, `@` in it being the server.
    fn command(&self, arguments: &[&str], server: &str) -> Vec<String> {
        let mut command = vec![self.ovs.path("ovsdb-client")];
        command.extend(arguments.iter().map(|word| if *word == "@" { server.to_owned() } else { (*word).to_owned() }));
        command
    }

    /// Runs it on ours and on theirs.
    fn ask(&self, arguments: &[&str]) -> [Done; 2] {
        self.sockets().map(|server| {
            let mut done = run(&self.command(arguments, &server));
            done.stdout = done.stdout.replace(&server, "SERVER");
            done.stderr = done.stderr.replace(&server, "SERVER");
            done
        })
    }

    /// Starts it on ours and on theirs.
    fn spawn(&self, name: &str, arguments: &[&str]) -> [Running; 2] {
        let run = |which: usize, server: String| {
            let command = self.command(arguments, &server).join("\u{1}").replace(' ', "\u{a0}").replace('\u{1}', " ");
            self.ours.spawn(&command, &self.lab.dir().join(format!("{name}.{which}")))
        };
        let [ours, theirs] = self.sockets();
        [run(0, ours), run(1, theirs)]
    }

    /// Runs a transaction on both; both must answer the same.
    fn transact(&self, operations: Value) {
        let mut params = vec![json!("Open_vSwitch")];
        params.extend(operations.as_array().cloned().expect("operations"));
        let [ours, theirs] = self.ask(&["transact", "@", &Value::Array(params).to_string()]);
        assert_eq!(ours.output(), theirs.output(), "{operations}");
    }
}

/// Lines in alphabetical order, the dates of log lines taken off.
fn lines(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().map(|line| line.split_once("Z|").map_or(line, |(_, rest)| rest)).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn reading_commands_print_the_same() {
    let Some(twins) = Twins::start() else { return };
    let schema = twins.ovs.schema().display().to_string();
    let newer = twins.lab.dir().join("newer.ovsschema");
    let mut text: Value = serde_json::from_str(&fs::read_to_string(&schema).expect("the schema")).expect("JSON");
    text["version"] = json!("9.0.0");
    text["cksum"].take();
    text.as_object_mut().expect("an object").remove("cksum");
    fs::write(&newer, text.to_string()).expect("room");
    let newer = newer.display().to_string();
    let bridges = r#"["Open_vSwitch",{"op":"select","table":"Bridge","where":[],"columns":["name"]}]"#;
    let delete = r#"["Open_vSwitch",{"op":"delete","table":"Bridge","where":[]}]"#;
    let server = r#"["_Server",{"op":"select","table":"Database","where":[["name","==","Open_vSwitch"]],"columns":["connected","leader","model","cid","sid","index"]}]"#;
    for arguments in [
        &["list-dbs", "@"][..],
        &["get-schema", "@"],
        &["get-schema", "@", "Open_vSwitch"],
        &["get-schema", "@", "_Server"],
        &["get-schema", "@", "Nope"],
        &["get-schema-version", "@"],
        &["get-schema-version", "@", "_Server"],
        &["get-schema-cksum", "@"],
        &["get-schema-cksum", "@", "_Server"],
        &["list-tables", "@"],
        &["list-tables", "@", "_Server"],
        &["list-columns", "@"],
        &["list-columns", "@", "Open_vSwitch"],
        &["list-columns", "@", "Open_vSwitch", "Interface"],
        &["list-columns", "@", "_Server", "Database"],
        &["list-columns", "@", "Open_vSwitch", "Nope"],
        &["needs-conversion", "@", &schema],
        &["needs-conversion", "@", &newer],
        &["dump", "@", "Open_vSwitch", "Bridge", "_uuid", "name", "ports", "other_config", "stp_enable"],
        &["dump", "@", "Open_vSwitch", "Port", "_uuid", "name", "tag", "trunks", "external_ids", "interfaces"],
        &["dump", "@", "Open_vSwitch", "Interface", "_uuid", "name", "type", "options", "ofport", "mtu_request"],
        &["dump", "@", "Open_vSwitch", "Open_vSwitch", "_uuid", "bridges", "next_cfg", "cur_cfg", "ovs_version"],
        &["--format=json", "dump", "@", "Open_vSwitch", "Port", "name", "tag", "external_ids"],
        &["--format=csv", "--no-headings", "--data=bare", "dump", "@", "Open_vSwitch", "Port", "name", "tag"],
        &["--format=html", "--data=json", "dump", "@", "Open_vSwitch", "Interface", "name", "options"],
        &["--format=list", "dump", "@", "Open_vSwitch", "Interface", "name", "options"],
        &["dump", "@", "Open_vSwitch", "QoS"],
        &["dump", "@", "_Server", "Database", "name", "model", "connected", "leader"],
        &["dump", "@", "Open_vSwitch", "Nope"],
        &["dump", "@", "Open_vSwitch", "Port", "nope"],
        &["query", "@", bridges],
        &["query", "@", delete],
        &["query", "@", server],
        &["query", "@", r#"["Open_vSwitch",{"op":"frob","table":"Bridge","where":[]}]"#],
        &["query", "@", r#"["Open_vSwitch",{"op":"select","table":"Bridge"}]"#],
        &["query", "@", r#"["Nope",{"op":"select","table":"Bridge","where":[]}]"#],
        &["query", "@", "[5]"],
        &["transact", "@", r#"["Open_vSwitch"]"#],
        &["transact", "@", r#"["Open_vSwitch",{"op":"select","table":"Nope","where":[]}]"#],
        &["transact", "@", r#"["_Server",{"op":"update","table":"Database","where":[],"row":{"leader":false}}]"#],
        &["transact", "@", r#"["_Server",{"op":"delete","table":"Database","where":[]}]"#],
        // Transactions that wait: a wait that is over, one that cannot be, and one whose time runs out.
        &[
            "transact",
            "@",
            r#"["Open_vSwitch",{"op":"wait","table":"Port","where":[["name","==","vx0"]],"columns":["tag"],"until":"==","rows":[{"tag":7}]}]"#,
        ],
        &[
            "transact",
            "@",
            r#"["Open_vSwitch",{"op":"wait","timeout":0,"table":"Port","where":[["name","==","vx0"]],"columns":["tag"],"until":"!=","rows":[{"tag":7}]}]"#,
        ],
        &["wait", "@", "Open_vSwitch", "added"],
        &["wait", "@", "Open_vSwitch", "connected"],
        &["wait", "@", "Nope", "removed"],
        &["monitor", "@", "Open_vSwitch", "Nope"],
        &["monitor", "@", "Open_vSwitch", "Port", "nope"],
        &["monitor-cond", "@", "Open_vSwitch", r#"[["name","=","br0"]]"#, "Bridge"],
        &["monitor-cond", "@", "Open_vSwitch", r#"[["nope","==","br0"]]"#, "Bridge", "name"],
    ] {
        let [ours, theirs] = twins.ask(arguments);
        assert_eq!(lines(&ours.stdout), lines(&theirs.stdout), "{arguments:?}: standard output\n{ours}\n{theirs}");
        assert_eq!(lines(&ours.stderr), lines(&theirs.stderr), "{arguments:?}: standard error\n{ours}\n{theirs}");
        assert_eq!(ours.code, theirs.code, "{arguments:?}: exit code");
    }
    // And a dump of everything names every table that has rows.
    let [ours, _] = twins.ask(&["dump", "@"]);
    let tables: Vec<String> =
        ours.output().lines().filter_map(|line| line.strip_suffix(" table").map(str::to_owned)).collect();
    assert_eq!(tables.len(), 19, "{tables:?}");
}

/// Each block of what a monitor printed, its rows in alphabetical order.
fn blocks(printed: &str) -> Vec<Vec<&str>> {
    printed.split("\n\n").map(lines).collect()
}

/// A condition on bridges.
const SEEN: &str = r#"[["external_ids","includes",["map",[["seen","yes"]]]]]"#;

const MONITORS: [&[&str]; 8] = [
    &["monitor", "@", "Open_vSwitch", "Bridge", "name,external_ids"],
    &["monitor", "@", "Open_vSwitch", "Bridge", "name,external_ids,!modify"],
    &["--format=json", "monitor", "@", "Open_vSwitch", "Bridge", "name,external_ids,flood_vlans"],
    &["--format=csv", "--no-headings", "monitor", "@", "Open_vSwitch", "Port", "name,tag,trunks"],
    &["monitor-cond", "@", "Open_vSwitch", "[true]", "Bridge", "name,external_ids,flood_vlans"],
    &["monitor-cond", "@", "Open_vSwitch", SEEN, "Bridge", "name,external_ids"],
    &["monitor-cond-since", "@", "Open_vSwitch", SEEN, "Bridge", "name,external_ids"],
    &[
        "monitor-cond-since",
        "@",
        "Open_vSwitch",
        "5e9c1a3a-0f5c-4a3e-9c0a-5b6a7b8c9d0e",
        SEEN,
        "Bridge",
        "name,external_ids",
    ],
];

/// Transactions, each of which one monitor or another has something to say about.
fn changes() -> Vec<Value> {
    let br0 = json!([["name", "==", "br0"]]);
    let row = "8d9fcd3e-5a3c-4d8a-bb3f-3a3f0c1f2e01";
    vec![
        json!([{"op": "mutate", "table": "Bridge", "where": br0,
            "mutations": [["external_ids", "insert", ["map", [["n", "2"]]]], ["flood_vlans", "insert", ["set", [1, 2]]]]}]),
        json!([{"op": "mutate", "table": "Bridge", "where": br0, "mutations": [["flood_vlans", "delete", 1]]},
            {"op": "mutate", "table": "Bridge", "where": br0, "mutations": [["external_ids", "insert", ["map", [["n3", "3"]]]]]}]),
        json!([{"op": "insert", "table": "Bridge", "uuid": row, "uuid-name": "b",
                "row": {"name": "br1", "external_ids": ["map", [["seen", "yes"], ["n4", ""]]]}},
            {"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["bridges", "insert", ["named-uuid", "b"]]]}]),
        json!([{"op": "update", "table": "Port", "where": [["name", "==", "vx0"]], "row": {"tag": 8, "trunks": ["set", [5, 6]]}},
            {"op": "mutate", "table": "Bridge", "where": br0, "mutations": [["external_ids", "delete", ["set", ["n", "n3"]]]]}]),
        // It leaves the conditions' sight, then comes back.
        json!([{"op": "mutate", "table": "Bridge", "where": br0, "mutations": [["external_ids", "delete", "seen"],
            ["external_ids", "insert", ["map", [["n6", "6"]]]]]}]),
        json!([{"op": "update", "table": "Bridge", "where": br0, "row": {"external_ids": ["map", [["seen", "yes"], ["n7", "7"]]]}}]),
        json!([{"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["bridges", "delete", ["uuid", row]]]}]),
    ]
}

/// Changes made one by one, each seen by all monitors before the next: every monitor prints the same on both.
#[test]
fn monitors_print_the_same() {
    let Some(twins) = Twins::start() else { return };
    twins.transact(
        json!([{"op": "update", "table": "Bridge", "where": [], "row": {"external_ids": ["map", [["seen", "yes"]]]}}]),
    );
    let monitors: Vec<[Running; 2]> =
        MONITORS.iter().enumerate().map(|(n, words)| twins.spawn(&format!("monitor{n}"), words)).collect();
    let all_the_same = |what: &str| {
        for pair in &monitors {
            let [ours, theirs] = [pair[0].log(), pair[1].log()];
            if blocks(&ours) != blocks(&theirs) {
                return Err(format!("{what}\nours:\n{ours}\ntheirs:\n{theirs}"));
            }
        }
        Ok(())
    };
    let silent = || monitors.iter().flatten().any(|monitor| monitor.log().is_empty());
    eventually("the first rows", || if silent() { Err("nothing yet".to_owned()) } else { all_the_same("at first") });
    let server = twins.spawn("server", &["monitor", "@", "_Server", "Database", "name,model,connected,leader"]);
    let databases = || [&server[0], &server[1]].map(|monitor| sorted_lines(&without_uuids(&monitor.log())));
    eventually("the databases", || {
        let [ours, theirs] = databases();
        let same = ours == theirs && ours.iter().any(|line| line.contains("Open_vSwitch"));
        same.then_some(()).ok_or_else(|| format!("{ours:?} {theirs:?}"))
    });
    for (n, operations) in changes().into_iter().enumerate() {
        let before = monitors[0][0].log().len();
        twins.transact(operations);
        eventually(&format!("change {n}"), || match monitors[0][0].log().len() > before {
            true => all_the_same(&format!("change {n}")),
            false => Err("nothing new".to_owned()),
        });
    }
    for (monitor, actions) in
        [(0, &["initial", "insert", "old", "new", "delete"][..]), (5, &["initial", "insert", "modify", "delete"])]
    {
        let printed = monitors[monitor][0].log();
        for action in actions {
            assert!(printed.contains(action), "no {action} in:\n{printed}");
        }
    }
    assert!(monitors[6][0].log().starts_with("found: false, last_id: 00000000-0000-0000-0000-000000000000\n"));
}

#[test]
fn locks_are_granted_and_stolen_the_same() {
    let Some(twins) = Twins::start() else { return };
    let says = |pair: &[Running; 2], said: &str| {
        eventually(said, || {
            let [ours, theirs] = [pair[0].log(), pair[1].log()];
            let done = ours == theirs && ours == said;
            done.then_some(()).ok_or_else(|| format!("ours:\n{ours}theirs:\n{theirs}"))
        });
    };
    let first = twins.spawn("first", &["lock", "@", "l"]);
    says(&first, "{\"locked\":true}\n");
    let second = twins.spawn("second", &["lock", "@", "l"]);
    says(&second, "{\"locked\":false}\n");
    let other = twins.spawn("other", &["lock", "@", "another"]);
    says(&other, "{\"locked\":true}\n");
    let thief = twins.spawn("thief", &["steal", "@", "l"]);
    says(&thief, "{\"locked\":true}\n");
    says(&first, "{\"locked\":true}\nstolen\n[\"l\"]\n");
    drop(thief);
    says(&first, "{\"locked\":true}\nstolen\n[\"l\"]\nlocked\n[\"l\"]\n");
    drop(first);
    says(&second, "{\"locked\":false}\nlocked\n[\"l\"]\n");
}

/// What `ovsdb-client backup` writes is a database for `ovsdb-tool`, and `restore` brings it back.
#[test]
fn a_backup_is_a_database_and_can_be_restored() {
    let Some(twins) = Twins::start() else { return };
    let [ours, theirs] = twins.ask(&["backup", "@"]).map(Done::output);
    let file = |name: &str, text: &str| {
        let path = twins.lab.dir().join(name);
        fs::write(&path, text).expect("room");
        path
    };
    let (ours, theirs) = (file("ours.backup", &ours), file("theirs.backup", &theirs));
    let tool = |command: &str, path: &Path, rest: &str| {
        let line = format!("{command} {} {rest}", path.display());
        twins.ovs.run("ovsdb-tool", &line).output()
    };
    for command in ["db-version", "db-cksum", "db-name"] {
        assert_eq!(tool(command, &ours, ""), tool(command, &theirs, ""), "{command}");
    }
    let select = |table: &str, columns: &str| {
        format!(r#"["Open_vSwitch",{{"op":"select","table":"{table}","where":[],"columns":{columns}}}]"#)
    };
    for query in [
        select("Bridge", r#"["_uuid","name","ports"]"#),
        select("Port", r#"["_uuid","name","tag","external_ids","interfaces"]"#),
        select("Interface", r#"["_uuid","name","type","options","ofport"]"#),
        select("Open_vSwitch", r#"["bridges","next_cfg","cur_cfg"]"#),
    ] {
        assert_eq!(rows(&tool("query", &ours, &query)), rows(&tool("query", &theirs, &query)), "{query}");
    }

    twins.ours.vsctl("del-port vx0 -- add-br br1 -- set bridge br0 other_config:mac-aging-time=60");
    let backup = ours.display();
    let restore =
        format!("{} restore unix:{} <{backup}", twins.ovs.path("ovsdb-client"), twins.ours.socket().display());
    let _ = run(&["sh".to_owned(), "-c".to_owned(), restore]).output();
    assert_eq!(twins.ours.vsctl("list-br"), "br0\n");
    assert_eq!(twins.ours.vsctl("list-ports br0"), "vx0\n");
    assert_eq!(twins.ours.vsctl("get port vx0 tag external_ids"), "7\n{a=b}\n");
    assert_eq!(twins.ours.vsctl("get bridge br0 other_config"), "{}\n");
    eventually("the switch has the port again", || {
        let ofport = twins.ours.vsctl("get interface vx0 ofport");
        if ofport.trim().parse::<u16>().is_ok() { Ok(()) } else { Err(ofport) }
    });
}

fn rows(reply: &str) -> Vec<String> {
    let reply: Value = serde_json::from_str(reply).unwrap_or_else(|e| panic!("{e}: {reply}"));
    let mut rows: Vec<String> = reply[0]["rows"].as_array().expect("rows").iter().map(Value::to_string).collect();
    rows.sort();
    rows
}

/// The schema is part of the program here: converting to another is refused, with a reason, and changes nothing.
#[test]
fn convert_is_refused_with_a_reason() {
    let Some(twins) = Twins::start() else { return };
    let before = twins.ours.vsctl("show");
    let schema = twins.ovs.schema().display().to_string();
    let [ours, _] = twins.ask(&["convert", "@", &schema]);
    assert_eq!((ours.code, ours.stdout.as_str()), (1, ""));
    assert!(ours.stderr.contains("not supported") && ours.stderr.contains("not converted online"), "{ours}");
    assert_eq!(twins.ours.vsctl("show"), before);
}
