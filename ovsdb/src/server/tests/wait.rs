//! Transactions that wait. The replies are those of ovsdb-server 3.1, but for `cancel`, which it leaves unanswered.

use super::super::parked::MAX_OF_SESSION;
use super::*;

/// A `wait` until `next_cfg` is `n`, in ms at most.
fn wait(n: i64, timeout: Option<u64>) -> Value {
    let mut wait = json!({"op": "wait", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"], "until": "==",
                          "rows": [{"next_cfg": n}]});
    if let Some(timeout) = timeout {
        wait["timeout"] = json!(timeout);
    }
    wait
}

fn set(n: i64) -> Value {
    set_next_cfg(n)[1].clone()
}

fn transaction(operations: &[Value]) -> Value {
    Value::Array([&[json!("Open_vSwitch")], operations].concat())
}

impl Lab {
    fn transact(&mut self, peer: &Peer, id: i64, operations: &[Value]) -> usize {
        self.say(peer, json!(id), "transact", transaction(operations)).len()
    }
}

fn ids(messages: &[Value]) -> Vec<&Value> {
    messages.iter().map(|m| if m["id"].is_null() { &m["method"] } else { &m["id"] }).collect()
}

#[test]
fn a_wait_that_comes_true_goes_on_with_the_update_before_its_reply() {
    let mut lab = Lab::new();
    let (mut a, mut b) = (lab.connect(1 << 20), lab.connect(1 << 20));
    lab.call(&mut a, "monitor", json!(["Open_vSwitch", "m", {"Open_vSwitch": {"columns": ["next_cfg"]}}]));
    let select = json!({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"]});
    assert_eq!(lab.transact(&a, 1, &[wait(5, Some(3000)), select]), 0);
    assert_eq!(lab.call(&mut a, "echo", json!([]))["result"], json!([]), "the session goes on");
    lab.sleep(2999);
    assert!(a.take().is_empty());
    assert_eq!(lab.transact(&b, 2, &[set(5)]), 1);
    assert_eq!(ids(&b.take()), [&json!(2)]);
    let told = a.take();
    assert_eq!(ids(&told), [&json!("update"), &json!(1)]);
    assert_eq!(told[1], json!({"id": 1, "result": [{}, {"rows": [{"next_cfg": 5}]}], "error": null}));
    assert_eq!(lab.server.next_deadline(), None);
}

#[test]
fn the_time_of_a_wait_is_over_when_it_says() {
    let mut lab = Lab::new();
    let mut peer = lab.connect(1 << 20);
    let comment = json!({"op": "comment", "comment": "x"});
    lab.transact(&peer, 1, &[comment.clone(), wait(99, Some(800)), comment]);
    assert_eq!(lab.server.next_deadline(), Some(lab.now.monotonic + Duration::from_millis(800)));
    lab.sleep(799);
    assert!(peer.take().is_empty());
    lab.sleep(2);
    let error = json!({"details": "\"wait\" timed out after 801 ms", "error": "timed out"});
    assert_eq!(peer.take(), [json!({"id": 1, "result": [{}, error, null], "error": null})]);

    // Both count from the start; only the second holds things up.
    lab.transact(&peer, 2, &[wait(0, Some(100)), wait(99, Some(300))]);
    lab.sleep(299);
    assert!(peer.take().is_empty());
    lab.sleep(1);
    let error = json!({"details": "\"wait\" timed out after 300 ms", "error": "timed out"});
    assert_eq!(peer.take()[0]["result"], json!([{}, error]));

    // It had come true, but what stands behind it has not, and has no time left.
    lab.transact(&peer, 3, &[wait(1, Some(500)), wait(2, Some(10))]);
    lab.sleep(200);
    assert_eq!(lab.transact(&peer, 4, &[set(1)]), 1);
    let error = json!({"details": "\"wait\" timed out after 200 ms", "error": "timed out"});
    assert_eq!(peer.take()[1]["result"], json!([{}, error]));
}

#[test]
fn without_a_timeout_a_wait_has_no_end() {
    let mut lab = Lab::new();
    let mut peer = lab.connect(1 << 20);
    lab.transact(&peer, 1, &[wait(9, None)]);
    lab.transact(&peer, 2, &[wait(9, Some(i64::MAX as u64))]);
    assert_eq!(lab.server.next_deadline().filter(|at| *at < lab.now.monotonic + Duration::from_secs(1 << 30)), None);
    lab.sleep(1 << 40);
    assert!(peer.take().is_empty());
    lab.transact(&peer, 3, &[set(9)]);
    assert_eq!(ids(&peer.take()), [&json!(3), &json!(1), &json!(2)]);
}

#[test]
fn who_waits_may_release_others_in_the_order_they_came() {
    let mut lab = Lab::new();
    let (mut a, mut b) = (lab.connect(1 << 20), lab.connect(1 << 20));
    lab.transact(&b, 1, &[wait(12, Some(2000)), set(13)]);
    lab.transact(&a, 1, &[wait(11, Some(2000)), set(12)]);
    lab.transact(&b, 2, &[wait(11, Some(2000)), set(99)]);
    assert_eq!(lab.transact(&b, 3, &[set(11)]), 3, "all that came of it");
    assert_eq!(ids(&a.take()), [&json!(1)]);
    assert_eq!(ids(&b.take()), [&json!(3), &json!(1)], "the second for 11 came too late");
    lab.sleep(2000);
    assert_eq!(ids(&b.take()), [&json!(2)]);
    assert_eq!(
        lab.server.database().rows("Open_vSwitch").next().and_then(|(_, row)| row.integer("next_cfg")),
        Some(13)
    );
}

#[test]
fn what_the_daemon_writes_counts_at_the_next_tick() {
    let mut lab = Lab::new();
    let mut peer = lab.connect(1 << 20);
    lab.transact(&peer, 1, &[wait(5, Some(100)), set(6)]);
    let prepared = lab.server.database().execute(&[set(5)]).prepared.expect("a change");
    lab.server.commit(prepared, Durability::Buffered, 0).expect("room");
    assert!(peer.take().is_empty());
    assert!(lab.server.next_deadline().is_some_and(|at| at <= lab.now.monotonic), "at once");
    assert_eq!(lab.sleep(0).len(), 1);
    assert_eq!(ids(&peer.take()), [&json!(1)]);
    assert_eq!(lab.server.next_deadline(), None);
}

#[test]
fn a_wait_can_be_canceled_by_its_client() {
    let mut lab = Lab::new();
    let (mut a, mut b) = (lab.connect(1 << 20), lab.connect(1 << 20));
    lab.transact(&a, 10, &[wait(9, None)]);
    lab.transact(&b, 10, &[wait(8, None)]);
    let again = transaction(&[wait(7, None)]);
    lab.say(&a, json!(10), "transact", again.clone());
    let duplicate =
        json!({"error": "syntax error", "details": "transact: duplicate request ID", "syntax": again.to_string()});
    assert_eq!(a.take(), [json!({"id": 10, "result": null, "error": duplicate})]);
    for params in [json!([11]), json!([]), json!([10, 10])] {
        lab.tell(&a, "cancel", params);
    }
    assert!(a.take().is_empty());
    lab.tell(&a, "cancel", json!([10]));
    assert_eq!(a.take(), [json!({"id": 10, "result": null, "error": "canceled"})]);
    lab.transact(&a, 10, &[set(8)]);
    assert_eq!((ids(&a.take()), ids(&b.take())), (vec![&json!(10)], vec![&json!(10)]));
}

#[test]
fn who_goes_away_waits_no_longer() {
    let mut lab = Lab::new();
    let (gone, mut other) = (lab.connect(1 << 20), lab.connect(1 << 20));
    lab.transact(&gone, 1, &[wait(1, Some(100)), set(2)]);
    lab.handle(SessionEvent::Closed { session: gone.session });
    assert_eq!(lab.server.next_deadline(), None);
    assert_eq!(lab.transact(&other, 1, &[set(1)]), 1);
    assert_eq!(ids(&other.take()), [&json!(1)]);
}

/// A client is dropped by the update for a transaction that waited before its own.
#[test]
fn who_is_dropped_while_waits_come_true_commits_nothing_more() {
    let mut lab = Lab::new();
    let (mut quick, mut slow) = (lab.connect(1 << 20), lab.connect(300));
    lab.call(&mut slow, "monitor", json!(["Open_vSwitch", 1, {"Open_vSwitch": {"columns": ["next_cfg"]}}]));
    for (id, peer) in [(1, &quick), (2, &quick), (3, &quick), (4, &slow)] {
        lab.transact(peer, id, &[wait(id, Some(1000)), set(id + 1)]);
    }
    assert_eq!(lab.transact(&quick, 0, &[set(1)]), 4);
    assert_eq!(ids(&quick.take()), [&json!(0), &json!(1), &json!(2), &json!(3)]);
    assert_eq!(lab.server.sessions(), 1);
    let root = lab.server.database().rows("Open_vSwitch").next();
    assert_eq!(root.and_then(|(_, row)| row.integer("next_cfg")), Some(4));
}

#[test]
fn the_number_of_waits_is_limited_and_only_their_client_pays() {
    let mut lab = Lab::new();
    let (mut greedy, mut other) = (lab.connect(1 << 20), lab.connect(1 << 20));
    for id in 0..=MAX_OF_SESSION {
        lab.transact(&greedy, id as i64, &[wait(99, None)]);
    }
    let reply = greedy.take();
    assert_eq!((reply.len(), &reply[0]["error"]["error"]), (1, &json!("resources exhausted")));
    lab.transact(&other, 1, &[wait(0, None)]);
    lab.transact(&other, 2, &[wait(99, None)]);
    lab.transact(&other, 3, &[set(99)]);
    assert_eq!(ids(&other.take()), [&json!(1), &json!(3), &json!(2)]);
    assert_eq!(greedy.take().len(), MAX_OF_SESSION);
}

/// The `_Server` database never changes, but its waits have their time.
#[test]
fn waits_on_the_server_database() {
    let mut lab = Lab::new();
    let mut peer = lab.connect(1 << 20);
    let wait = json!({"op": "wait", "table": "Database", "where": [], "columns": ["name"], "until": "==", "rows": [],
                      "timeout": 200});
    lab.say(&peer, json!(1), "transact", json!(["_Server", wait]));
    lab.transact(&peer, 2, &[set(1)]);
    lab.sleep(204);
    let error = json!({"details": "\"wait\" timed out after 204 ms", "error": "timed out"});
    assert_eq!(peer.take()[1], json!({"id": 1, "result": [error], "error": null}));
}
