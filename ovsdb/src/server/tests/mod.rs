//! The server core without sockets: events in, outboxes out.

mod lock;
mod monitor;
mod storage;
mod wait;

use super::*;
use crate::vswitch_schema::vswitch_schema;
use serde_json::from_slice;
use std::time::Duration;
use tempfile::TempDir;

struct Lab {
    server: Server,
    /// What time it is for the server.
    now: Now,
    next: SessionId,
    _dir: TempDir,
}

struct Peer {
    session: SessionId,
    from_server: OutboxReader,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut server = Server::open(&dir.path().join("conf.db"), vswitch_schema(), 0).expect("new");
        let insert = json!({"op": "insert", "table": "Open_vSwitch", "row": {}});
        let prepared = server.database().execute(&[insert]).prepared.expect("a change");
        server.commit(prepared, Durability::Synced, 0).expect("room");
        Lab { server, now: Now::read(), next: SessionId::first(), _dir: dir }
    }

    fn connect(&mut self, limit: usize) -> Peer {
        let session = self.next;
        self.next = session.next();
        let (out, from_server) = outbox(limit);
        assert!(self.handle(SessionEvent::Opened { session, peer: "test".into(), out }).is_empty());
        Peer { session, from_server }
    }

    fn handle(&mut self, event: SessionEvent) -> Vec<Commit> {
        self.server.handle(event, self.now)
    }

    fn say(&mut self, peer: &Peer, id: Value, method: &str, params: Value) -> Vec<Commit> {
        let params = params.as_array().cloned().expect("an array");
        let message = Message::Request { id, method: method.into(), params };
        self.handle(SessionEvent::Message { session: peer.session, message })
    }

    /// Says something that wants no answer.
    fn tell(&mut self, peer: &Peer, method: &str, params: Value) -> Vec<Commit> {
        let params = params.as_array().cloned().expect("an array");
        let message = Message::Notification { method: method.into(), params };
        self.handle(SessionEvent::Message { session: peer.session, message })
    }

    /// Lets time pass.
    fn sleep(&mut self, ms: u64) -> Vec<Commit> {
        self.now.monotonic += Duration::from_millis(ms);
        self.server.tick(self.now)
    }

    /// Calls a method; the reply must be the only thing sent.
    fn call(&mut self, peer: &mut Peer, method: &str, params: Value) -> Value {
        self.say(peer, json!("x"), method, params);
        let messages = peer.take();
        assert_eq!(messages.len(), 1, "{messages:?}");
        assert_eq!(messages[0]["id"], "x");
        messages[0].clone()
    }
}

impl Peer {
    fn take(&mut self) -> Vec<Value> {
        std::iter::from_fn(|| self.from_server.try_next()).map(|m| from_slice(&m).expect("JSON")).collect()
    }
}

fn set_next_cfg(n: i64) -> Value {
    json!(["Open_vSwitch", {"op": "update", "table": "Open_vSwitch", "where": [], "row": {"next_cfg": n}}])
}

#[test]
fn simple_methods() {
    let mut lab = Lab::new();
    let mut peer = lab.connect(1 << 20);
    let mut call = |method, params| lab.call(&mut peer, method, params);
    assert_eq!(call("list_dbs", json!([])), json!({"id": "x", "result": ["Open_vSwitch", "_Server"], "error": null}));
    assert_eq!(call("get_schema", json!(["Open_vSwitch"]))["result"], vswitch_schema().to_json());
    assert_eq!(call("get_schema", json!(["_Server", "u"]))["result"]["name"], "_Server");
    assert_eq!(call("echo", json!([1, {"a": []}]))["result"], json!([1, {"a": []}]));
    assert_eq!(call("set_db_change_aware", json!([true]))["result"], json!({}));
    assert_eq!(call("get_server_id", json!([]))["result"].as_str().map(str::len), Some(36));
    assert_eq!(call("monitor_cancel", json!(["m"])), json!({"id": "x", "result": null, "error": "unknown monitor"}));
    assert_eq!(call("frob", json!([])), json!({"id": "x", "result": null, "error": "unknown method"}));
    let unknown = json!({"error": "unknown database", "syntax": "[\"Nope\"]",
        "details": "get_schema request specifies unknown database Nope"});
    assert_eq!(call("get_schema", json!(["Nope"]))["error"], unknown);
    assert_eq!(call("transact", json!(["Nope"]))["error"]["error"], "unknown database");
    assert_eq!(call("transact", json!(["Open_vSwitch"]))["result"], json!([]));
}

#[test]
fn every_monitor_hears_of_a_commit_before_its_author_gets_the_reply() {
    let mut lab = Lab::new();
    let (mut a, mut b) = (lab.connect(1 << 20), lab.connect(1 << 20));
    let request = json!({"Open_vSwitch": {"columns": ["next_cfg"]}});
    let reply = lab.call(&mut a, "monitor", json!(["Open_vSwitch", null, request]));
    let root = reply["result"]["Open_vSwitch"].as_object().and_then(|rows| rows.keys().next()).expect("one").clone();
    assert_eq!(reply["result"], json!({"Open_vSwitch": {&root: {"new": {"next_cfg": 0}}}}));
    let reply = lab.call(&mut b, "monitor_cond", json!(["Open_vSwitch", ["v", 2], request]));
    assert_eq!(reply["result"], json!({"Open_vSwitch": {&root: {"initial": {}}}}));
    let nil = "00000000-0000-0000-0000-000000000000";
    let reply = lab.call(&mut b, "monitor_cond_since", json!(["Open_vSwitch", ["v", 3], request, nil]));
    assert_eq!(reply["result"], json!([false, nil, {"Open_vSwitch": {&root: {"initial": {}}}}]));

    let commit = lab.say(&a, json!(7), "transact", set_next_cfg(5));
    assert!(commit[0].changes.0.contains_key("Open_vSwitch"));
    let v1 = json!({"Open_vSwitch": {&root: {"old": {"next_cfg": 0}, "new": {"next_cfg": 5}}}});
    let update = json!({"id": null, "method": "update", "params": [null, v1]});
    assert_eq!(a.take(), [update, json!({"id": 7, "result": [{"count": 1}], "error": null})]);
    let v2 = json!({"Open_vSwitch": {&root: {"modify": {"next_cfg": 5}}}});
    let update2 = json!({"id": null, "method": "update2", "params": [["v", 2], v2]});
    let update3 = json!({"id": null, "method": "update3", "params": [["v", 3], nil, v2]});
    assert_eq!(b.take(), [update2, update3]);

    let duplicate = lab.call(&mut b, "monitor", json!(["Open_vSwitch", ["v", 3], request]));
    assert_eq!(duplicate["error"]["details"], "duplicate monitor ID");
    assert_eq!(lab.call(&mut b, "monitor_cancel", json!([["v", 2]]))["result"], json!({}));
    assert_eq!(lab.call(&mut b, "monitor_cancel", json!([["v", 3]]))["result"], json!({}));
    assert!(lab.say(&a, json!(8), "transact", set_next_cfg(5)).is_empty(), "nothing changed");
    assert_eq!(lab.say(&a, json!(9), "transact", set_next_cfg(6)).len(), 1);
    assert_eq!((a.take().len(), b.take().len()), (3, 0));
}

#[test]
fn a_failed_transaction_commits_nothing() {
    let mut lab = Lab::new();
    let peer = &mut lab.connect(1 << 20);
    let orphan_reference = json!(["Open_vSwitch", {"op": "update", "table": "Open_vSwitch", "where": [],
        "row": {"bridges": ["uuid", "00000000-0000-0000-0000-000000000001"]}}]);
    assert!(lab.say(peer, json!(1), "transact", orphan_reference).is_empty());
    let reply = &peer.take()[0]["result"];
    assert_eq!((&reply[0], &reply[1]["error"]), (&json!({"count": 1}), &json!("referential integrity violation")));
}

#[test]
fn the_server_database_describes_both_and_is_read_only() {
    let mut lab = Lab::new();
    let peer = &mut lab.connect(1 << 20);
    let columns = ["name", "model", "connected", "leader", "schema", "cid", "index"];
    let reply = lab.call(peer, "monitor_cond", json!(["_Server", 1, {"Database": [{"columns": columns}]}]));
    let rows = reply["result"]["Database"].as_object().expect("rows");
    let mut names: Vec<_> = rows.values().map(|row| row["initial"]["name"].as_str().expect("a name")).collect();
    names.sort_unstable();
    assert_eq!(names, ["Open_vSwitch", "_Server"]);
    for row in rows.values() {
        let row = row["initial"].as_object().expect("an object");
        assert_eq!(
            (&row["model"], &row["connected"], &row["leader"]),
            (&json!("standalone"), &json!(true), &json!(true))
        );
        let schema: Value = serde_json::from_str(row["schema"].as_str().expect("text")).expect("JSON");
        assert_eq!(schema["name"], row["name"]);
        assert!(!row.contains_key("cid"), "defaults are left out");
    }
    let select = json!(["_Server", {"op": "select", "table": "Database", "where": [], "columns": ["name"]}]);
    assert_eq!(lab.call(peer, "transact", select)["result"][0]["rows"].as_array().map(Vec::len), Some(2));
    let delete = json!(["_Server", {"op": "delete", "table": "Database", "where": []}]);
    let error = json!({"error": "not allowed",
        "details": "delete operation not allowed on table in reserved database _Server"});
    assert_eq!(lab.call(peer, "transact", delete)["result"], json!([error]), "as ovsdb-server 3.1 answers");
}

#[test]
fn garbage_is_answered_and_costs_the_session_only() {
    let mut lab = Lab::new();
    let (mut bad, mut good) = (lab.connect(1 << 20), lab.connect(1 << 20));
    let error = ProtocolError::NotAnObject { at: 0, found: b'h' };
    lab.handle(SessionEvent::Garbage { session: bad.session, error });
    let reply = bad.take();
    assert_eq!((reply.len(), &reply[0]["error"]["error"]), (1, &json!("syntax error")));
    assert_eq!(lab.server.sessions(), 1);
    lab.handle(SessionEvent::Closed { session: bad.session });
    assert_eq!(lab.call(&mut good, "echo", json!([]))["result"], json!([]));
    let reply = Message::Reply { id: json!(1), result: Ok(json!(1)) };
    lab.handle(SessionEvent::Message { session: good.session, message: reply });
    assert_eq!(good.take()[0]["id"], 1);
    assert_eq!(lab.server.sessions(), 0);
}

#[test]
fn a_client_that_does_not_read_is_dropped_and_nobody_else() {
    let mut lab = Lab::new();
    let (mut slow, mut quick) = (lab.connect(500), lab.connect(500));
    for peer in [&mut slow, &mut quick] {
        lab.call(peer, "monitor", json!(["Open_vSwitch", 1, {"Open_vSwitch": {"columns": ["next_cfg"]}}]));
    }
    for n in 1..10 {
        assert!(lab.say(&quick, json!(n), "transact", set_next_cfg(n)).len() == 1);
        assert_eq!(quick.take().len(), 2, "commit {n}");
    }
    assert_eq!(lab.server.sessions(), 1);
    assert!(slow.take().len() < 9);
    assert!(lab.say(&slow, json!(1), "transact", set_next_cfg(99)).is_empty(), "what it still says is not done");
}

#[test]
fn monitors_are_limited_in_number() {
    let mut lab = Lab::new();
    let peer = &mut lab.connect(1 << 20);
    for n in 0..64 {
        let reply = lab.call(peer, "monitor", json!(["Open_vSwitch", n, {"Bridge": {}}]));
        assert_eq!(reply["error"], Value::Null);
    }
    let reply = lab.call(peer, "monitor", json!(["Open_vSwitch", 64, {"Bridge": {}}]));
    assert_eq!(reply["error"]["error"], "resources exhausted");
}

#[test]
fn committed_rows_come_back() {
    let lab = Lab::new();
    let Lab { mut server, _dir: dir, .. } = lab;
    let update = json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"system_type": "t"}});
    let prepared = server.database().execute(&[update, json!({"op": "comment", "comment": "why"})]).prepared;
    server.commit(prepared.expect("a change"), Durability::Buffered, 77).expect("room");
    let path = dir.path().join("conf.db");
    drop(server);
    let text = std::fs::read_to_string(&path).expect("text");
    assert!(text.contains("\"_date\":77") && text.contains("\"_comment\":\"why\""), "{text}");
    let server = Server::open(&path, vswitch_schema(), 0).expect("good");
    let rows: Vec<_> = server.database().rows("Open_vSwitch").collect();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].1.str("system_type"), Some("t"));
}
