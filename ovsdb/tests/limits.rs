//! What one client may cost: each limit is named to it, and nobody else notices.

mod common;

use common::TestServer;
use ovsdb::client::Client;
use ovsdb::jsonrpc::Limits;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

async fn client(server: &TestServer) -> Client {
    Client::connect(server.socket()).await.expect("listening")
}

async fn is_alive(bystander: &mut Client) {
    assert_eq!(bystander.call("echo", vec![json!("?")]).await.expect("untouched"), json!(["?"]));
}

/// Sends the same bytes again and again until the server has had enough; returns its last words.
fn flood(server: &TestServer, bytes: &[u8]) -> Value {
    let mut stream = UnixStream::connect(server.socket()).expect("listening");
    let mut sent = 0;
    while stream.write_all(bytes).is_ok() {
        sent += bytes.len();
        assert!(sent < 2 * Limits::SERVER.message_bytes, "nothing stops it");
    }
    let mut answer = Vec::new();
    // What was not read of ours makes the end of the connection a reset.
    let _ = stream.read_to_end(&mut answer);
    serde_json::from_slice(&answer).expect("one whole message")
}

#[tokio::test]
async fn a_message_without_end_is_refused_by_size() {
    let server = TestServer::start();
    let mut bystander = client(&server).await;
    let text = [br#"{"id":1,"method":"echo","params":[""#.to_vec(), vec![b'x'; 1 << 20]].concat();
    let answer = flood(&server, &text);
    let details = answer["error"]["details"].as_str().expect("text");
    assert_eq!(details, "byte 0: message is longer than the limit of 16777216 bytes");
    is_alive(&mut bystander).await;
}

#[tokio::test]
async fn the_largest_message_is_not_too_large() {
    let server = TestServer::start();
    let mut client = client(&server).await;
    let text = "x".repeat(Limits::SERVER.message_bytes - r#"{"id":1,"method":"echo","params":[""]}"#.len());
    assert_eq!(client.call("echo", vec![json!(text)]).await.expect("fits")[0].as_str().map(str::len), Some(text.len()));
}

#[tokio::test]
async fn brackets_without_end_are_refused_by_depth() {
    let server = TestServer::start();
    let mut bystander = client(&server).await;
    let answer = flood(&server, &br#"{"a":"#.repeat(1000));
    let details = answer["error"]["details"].as_str().expect("text");
    assert_eq!(details, "byte 500: message is nested deeper than the limit of 100 levels");
    is_alive(&mut bystander).await;
}

/// A monitor that is not read: dropped when more waits for it than its outbox holds, while another sees everything.
#[tokio::test]
async fn a_monitor_that_lags_too_far_behind_is_dropped() {
    let server = TestServer::start();
    let (mut author, mut watcher) = (client(&server).await, client(&server).await);
    let request = json!({"Open_vSwitch": {"columns": ["external_ids"]}});
    let monitor = json!({"id": 1, "method": "monitor", "params": ["Open_vSwitch", "m", request]});
    let mut deaf = UnixStream::connect(server.socket()).expect("listening");
    deaf.write_all(monitor.to_string().as_bytes()).expect("open");
    watcher.call("monitor", vec![json!("Open_vSwitch"), json!("m"), request]).await.expect("valid");
    let text = "x".repeat(1 << 20);
    // Old and new value: 2 MiB each time, and the outbox holds 32.
    for n in 0..24 {
        let row = json!({"external_ids": ["map", [["n", n.to_string()], ["x", text]]]});
        let update = json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": row});
        let results = author.transact("Open_vSwitch", vec![update]).await.expect("nobody waits for the deaf");
        assert_eq!(results, [json!({"count": 1})]);
        let rows = watcher.notification().await.expect("told").params.remove(1);
        let row = rows["Open_vSwitch"].as_object().and_then(|rows| rows.values().next()).expect("a row");
        assert_eq!(row["new"]["external_ids"][1][0], json!(["n", n.to_string()]));
    }
    let mut told = Vec::new();
    let _ = deaf.read_to_end(&mut told);
    assert!(told.len() < 40 << 20, "it was cut off: {} bytes", told.len());
    assert!(told.starts_with(br#"{"error":null,"id":1,"#));
}

#[tokio::test]
async fn waiting_transactions_are_limited_per_client() {
    let server = TestServer::start();
    let mut bystander = client(&server).await;
    let wait = |n: usize| {
        let wait = json!({"op": "wait", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"], "until": "==",
                          "rows": [{"next_cfg": 7}]});
        json!({"id": n, "method": "transact", "params": ["Open_vSwitch", wait]}).to_string()
    };
    let mut greedy = UnixStream::connect(server.socket()).expect("listening");
    greedy.write_all((0..65).map(wait).collect::<String>().as_bytes()).expect("open");
    let mut answers = serde_json::Deserializer::from_reader(&greedy).into_iter::<Value>();
    let mut next = || answers.next().expect("an answer").expect("JSON");
    let refused = next();
    assert_eq!(refused["id"], 64);
    assert_eq!(
        refused["error"],
        json!({"error": "resources exhausted", "details": "a session may have 64 transactions waiting; cancel one first"})
    );
    let update = json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"next_cfg": 7}});
    bystander.transact("Open_vSwitch", vec![update]).await.expect("valid");
    for n in 0..64 {
        assert_eq!(next(), json!({"id": n, "result": [{}], "error": null}));
    }
}
