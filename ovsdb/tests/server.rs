//! The server over real sockets: our own client, and peers that misbehave.

mod common;

use common::TestServer;
use ovsdb::client::{Client, ClientError};
use ovsdb::server::MAX_CONNECTIONS;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

/// Sends bytes, and reads what the server says until it closes the connection.
fn say(server: &TestServer, bytes: &[u8]) -> String {
    let mut stream = UnixStream::connect(server.socket()).expect("listening");
    stream.write_all(bytes).expect("open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer
}

async fn client(server: &TestServer) -> Client {
    Client::connect(server.socket()).await.expect("listening")
}

async fn is_alive(server: &TestServer) {
    assert_eq!(client(server).await.call("echo", vec![json!("?")]).await.expect("alive"), json!(["?"]));
}

fn set_next_cfg(n: i64) -> Value {
    json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"next_cfg": n}})
}

#[tokio::test]
async fn our_client_transacts_and_monitors() {
    let server = TestServer::start();
    let (mut author, mut watcher) = (client(&server).await, client(&server).await);
    let request = json!({"Open_vSwitch": {"columns": ["next_cfg", "cur_cfg"]}});
    let initial = watcher.call("monitor", vec![json!("Open_vSwitch"), json!("m"), request]).await.expect("valid");
    assert_eq!(initial["Open_vSwitch"].as_object().map(serde_json::Map::len), Some(1));
    let results = author.transact("Open_vSwitch", vec![set_next_cfg(7)]).await.expect("valid");
    assert_eq!(results, [json!({"count": 1})]);
    // First what the client wrote, then what the switch answered.
    for (column, value) in [("next_cfg", 7), ("cur_cfg", 7)] {
        let update = watcher.notification().await.expect("told");
        assert_eq!((update.method.as_str(), &update.params[0]), ("update", &json!("m")));
        let rows = update.params[1]["Open_vSwitch"].as_object().expect("a table");
        let row = rows.values().next().expect("a row");
        assert_eq!(row["new"][column], value);
        assert_eq!(row["old"].as_object().map(serde_json::Map::len), Some(1), "{row}");
    }
    let error = author.transact("Nope", vec![]).await.expect_err("no such database");
    assert!(matches!(error, ClientError::Refused { .. }));
    assert_eq!(error.to_string(), "transact: unknown database: transact request specifies unknown database Nope");
}

#[tokio::test]
async fn garbage_is_answered_and_costs_its_own_connection_only() {
    let server = TestServer::start();
    let mut bystander = client(&server).await;
    for (garbage, why) in [
        (&b"hello\n"[..], "a JSON-RPC message starts with '{', found 'h'"),
        (b"\x16\x03\x01\x02\x00", "found 0x16"),
        (b"{\"id\":1,\"method\":\"echo\",}", "not valid JSON"),
        (b"{\"id\":1}", "neither"),
        (&b"{\"a\":".repeat(200), "nested deeper than the limit of 100 levels"),
    ] {
        let answer: Value = serde_json::from_str(&say(&server, garbage)).expect("JSON");
        assert_eq!(answer["error"]["error"], "syntax error");
        let details = answer["error"]["details"].as_str().expect("text");
        assert!(details.contains(why), "{details}");
    }
    assert_eq!(bystander.call("echo", vec![]).await.expect("untouched"), json!([]));
}

#[test]
fn what_came_before_the_garbage_is_answered_first() {
    let server = TestServer::start();
    let answer = say(&server, br#"{"id":1,"method":"echo","params":[]}{"id":2,"method":"echo","params":[]}oops"#);
    let mut answers = serde_json::Deserializer::from_str(&answer).into_iter::<Value>();
    let mut next = || answers.next().expect("an answer").expect("JSON");
    assert_eq!((&next()["id"], &next()["id"]), (&json!(1), &json!(2)));
    assert!(next()["error"]["details"].as_str().expect("text").contains("byte 72"));
}

#[tokio::test]
async fn a_client_that_stops_sending_still_gets_its_answers() {
    let server = TestServer::start();
    let mut stream = UnixStream::connect(server.socket()).expect("listening");
    stream.write_all(br#"{"id":1,"method":"get_schema","params":["Open_vSwitch"]}"#).expect("open");
    stream.shutdown(Shutdown::Write).expect("open");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    let answer: Value = serde_json::from_str(&answer).expect("one whole message");
    assert_eq!(answer["result"]["name"], "Open_vSwitch");
    is_alive(&server).await;
}

#[tokio::test]
async fn half_a_message_and_away_is_no_trouble() {
    let server = TestServer::start();
    for _ in 0..20 {
        let mut stream = UnixStream::connect(server.socket()).expect("listening");
        stream.write_all(br#"{"id":1,"method":"transact","params":["Open_vSwitch",{"op":"#).expect("open");
    }
    is_alive(&server).await;
}

#[tokio::test]
async fn connections_are_limited_and_the_refused_are_told() {
    let server = TestServer::start();
    let mut clients = Vec::new();
    for _ in 0..MAX_CONNECTIONS {
        clients.push(client(&server).await);
    }
    for open in &mut clients {
        open.call("echo", vec![]).await.expect("within the limit");
    }
    let answer: Value = serde_json::from_str(&say(&server, b"")).expect("JSON");
    assert_eq!(answer["error"]["error"], "resources exhausted");
    let error = client(&server).await.call("echo", vec![]).await.expect_err("beyond the limit").to_string();
    assert!(error.contains("the server closed the connection: resources exhausted"), "{error}");
    clients.pop();
    // The place is free once the server has seen the client go.
    loop {
        let mut next = client(&server).await;
        if next.call("echo", vec![]).await.is_ok() {
            break;
        }
    }
}

/// Both ends of the connection stay open while a third client fills the outbox of one that does not read.
#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let server = TestServer::start();
    let mut slow = UnixStream::connect(server.socket()).expect("listening");
    slow.set_write_timeout(Some(std::time::Duration::from_secs(60))).expect("possible");
    let request = json!({"id": 1, "method": "echo", "params": ["x".repeat(4 << 20)]}).to_string();
    // 4 MiB an answer: far more than socket and outbox hold in all. Then its requests fall on deaf ears.
    let mut sent = 0;
    while sent < 40 && slow.write_all(request.as_bytes()).is_ok() {
        sent += 1;
    }
    assert!((5..40).contains(&sent), "cut off after {sent} requests");
    is_alive(&server).await;
}

#[tokio::test]
async fn a_large_transaction_goes_through() {
    let server = TestServer::start();
    let mut client = client(&server).await;
    let mut operations = Vec::new();
    let mut bridges = Vec::new();
    for n in 0..1000 {
        let row = json!({"name": format!("br{n}"), "external_ids": ["map", [["k", "v".repeat(500)]]]});
        operations.push(json!({"op": "insert", "table": "Bridge", "uuid-name": format!("b{n}"), "row": row}));
        bridges.push(json!(["named-uuid", format!("b{n}")]));
    }
    let row = json!({"bridges": ["set", bridges]});
    operations.push(json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": row}));
    let results = client.transact("Open_vSwitch", operations).await.expect("valid");
    assert_eq!((results.len(), &results[1000]), (1001, &json!({"count": 1})));
    let select = json!({"op": "select", "table": "Bridge", "where": [], "columns": ["name"]});
    let results = client.transact("Open_vSwitch", vec![select]).await.expect("valid");
    assert_eq!(results[0]["rows"].as_array().map(Vec::len), Some(1000));
}

/// As Antrea waits for the number of its port: the switch answers in a commit of its own.
#[tokio::test]
async fn a_transaction_waits_for_the_switch() {
    let server = TestServer::start();
    let (mut waiting, mut author) = (client(&server).await, client(&server).await);
    let is = json!([["name", "==", "p1"]]);
    let wait = |timeout: u64| {
        json!({"op": "wait", "table": "Interface", "where": is, "columns": ["ofport"], "until": "!=",
               "rows": [], "timeout": timeout})
    };
    let results = waiting.transact("Open_vSwitch", vec![wait(30)]).await.expect("valid");
    let details = results[0]["details"].as_str().expect("text");
    assert!(details.starts_with("\"wait\" timed out after "), "{details}");
    let select = json!({"op": "select", "table": "Interface", "where": is, "columns": ["ofport"]});
    let wait = json!({"op": "wait", "table": "Interface", "where": is, "columns": ["name", "ofport"], "until": "==",
                      "rows": [{"name": "p1", "ofport": 1}]});
    let hang = [
        json!({"op": "insert", "table": "Interface", "uuid-name": "i", "row": {"name": "p1"}}),
        json!({"op": "insert", "table": "Port", "uuid-name": "p",
               "row": {"name": "p1", "interfaces": ["named-uuid", "i"]}}),
        json!({"op": "insert", "table": "Bridge", "uuid-name": "b", "row": {"name": "br0", "ports": ["named-uuid", "p"]}}),
        json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"bridges": ["named-uuid", "b"]}}),
    ];
    let (results, added) = tokio::join!(
        waiting.transact("Open_vSwitch", vec![wait, select]),
        author.transact("Open_vSwitch", hang.into())
    );
    assert_eq!(added.expect("valid")[3], json!({"count": 1}));
    assert_eq!(results.expect("valid"), [json!({}), json!({"rows": [{"ofport": 1}]})]);
}

/// What a client was told is done is in the file, whatever becomes of the server.
#[tokio::test]
async fn a_reply_means_it_is_in_the_file() {
    let server = TestServer::start();
    let mut client = client(&server).await;
    client.transact("Open_vSwitch", vec![set_next_cfg(42)]).await.expect("valid");
    let file = std::fs::read_to_string(server.db()).expect("text");
    assert!(file.contains(r#""next_cfg":42"#), "{file}");
    let copy = tempfile::tempdir().expect("tempdir");
    std::fs::copy(server.db(), copy.path().join("conf.db")).expect("room");
    let second = TestServer::on(copy);
    let mut client = self::client(&second).await;
    let select = json!({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]});
    let results = client.transact("Open_vSwitch", vec![select]).await.expect("valid");
    assert_eq!(results[0]["rows"], json!([{"next_cfg": 42}]));
}
