//! Many clients at once.

mod common;

use common::{TestServer, run_tool};
use ovsdb::client::Client;
use serde_json::{Value, json};
use std::process::Command;
use vswitch_tests::ovs;

const WATCHERS: usize = 10;
const AUTHORS: usize = 4;
const COMMITS: usize = 150;

fn increment() -> Value {
    json!({"op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]]})
}

/// The new value of `next_cfg` in a notification of any of the three kinds, if it tells of one.
fn next_cfg(method: &str, mut params: Vec<Value>) -> Option<i64> {
    let rows = params.pop().expect("rows");
    let (_, row) = rows["Open_vSwitch"].as_object().and_then(|rows| rows.iter().next()).expect("a row");
    let changed = match method {
        "update" if row["old"].get("next_cfg").is_none() => &Value::Null,
        "update" => &row["new"],
        "update2" | "update3" => &row["modify"],
        other => panic!("{other}"),
    };
    changed["next_cfg"].as_i64()
}

/// Every change, once, in order: whatever the dialect, and whoever else is connected.
#[tokio::test(flavor = "multi_thread")]
async fn ten_monitors_see_each_of_hundreds_of_commits_in_order() {
    let server = TestServer::start();
    let mut tasks = Vec::new();
    for n in 0..WATCHERS {
        let mut client = Client::connect(server.socket()).await.expect("listening");
        let method = ["monitor", "monitor_cond", "monitor_cond_since"][n % 3];
        // Everything there is, as `ovsdb-client monitor ALL` asks.
        let all: serde_json::Map<String, Value> =
            ovsdb::vswitch_schema::vswitch_schema().tables.keys().map(|table| (table.clone(), json!({}))).collect();
        client.call(method, vec![json!("Open_vSwitch"), json!(n), Value::Object(all)]).await.expect("valid");
        tasks.push(tokio::spawn(async move {
            let mut seen = Vec::new();
            while seen.last() != Some(&((AUTHORS * COMMITS) as i64)) {
                let notification = client.notification().await.expect("told");
                seen.extend(next_cfg(&notification.method, notification.params));
            }
            seen
        }));
    }
    let mut authors = Vec::new();
    for _ in 0..AUTHORS {
        let mut client = Client::connect(server.socket()).await.expect("listening");
        authors.push(tokio::spawn(async move {
            for _ in 0..COMMITS {
                let results = client.transact("Open_vSwitch", vec![increment()]).await.expect("valid");
                assert_eq!(results, [json!({"count": 1})]);
            }
        }));
    }
    for author in authors {
        author.await.expect("no panic");
    }
    let expected: Vec<i64> = (1..=(AUTHORS * COMMITS) as i64).collect();
    for task in tasks {
        assert_eq!(task.await.expect("no panic"), expected);
    }
}

/// Thirty `ovs-vsctl add-port` at the same time: each retries until nobody was in between, and all succeed.
#[test]
fn thirty_clients_add_ports_at_once() {
    let server = TestServer::start();
    let Some(vsctl) = ovs::program("ovs-vsctl") else { return };
    let run = |line: &str| {
        let mut command = Command::new(&vsctl);
        run_tool(command.arg(format!("--db=unix:{}", server.socket().display())).args(line.split(' ')))
    };
    assert_eq!(run("add-br br0").0, 0);
    std::thread::scope(|scope| {
        for n in 0..30 {
            let run = &run;
            scope.spawn(move || {
                let done = run(&format!("--timeout=60 add-port br0 p{n} tag={n}"));
                assert_eq!(done, (0, String::new(), String::new()), "p{n}");
            });
        }
    });
    let (_, ports, _) = run("list-ports br0");
    assert_eq!(ports.lines().count(), 30, "{ports}");
    let (_, numbered, _) = run("--bare --columns=name find interface ofport>0");
    assert_eq!(numbered.lines().filter(|line| !line.is_empty()).count(), 31, "{numbered}");
}
