//! `monitor_cond_change` as clients see it.

use super::*;

/// Five rows of QoS, t0 to t4. Returns their identifiers.
fn five(lab: &mut Lab, peer: &mut Peer) -> Vec<String> {
    let uuids: Vec<String> = (0..5).map(|n| format!("11111111-1111-1111-1111-11111111111{n}")).collect();
    let insert = |(n, uuid): (usize, &String)| json!({"op": "insert", "table": "QoS", "uuid": uuid, "row": {"type": format!("t{n}")}});
    let operations: Vec<Value> =
        [json!("Open_vSwitch")].into_iter().chain(uuids.iter().enumerate().map(insert)).collect();
    let reply = lab.call(peer, "transact", Value::Array(operations));
    assert_eq!(reply["result"][4], json!({"uuid": ["uuid", uuids[4]]}));
    uuids
}

/// The messages are those of ovsdb-server 3.1.
#[test]
fn rows_come_and_go_with_the_condition() {
    let nil = "00000000-0000-0000-0000-000000000000";
    for (method, notification) in [("monitor_cond", "update2"), ("monitor_cond_since", "update3")] {
        let mut lab = Lab::new();
        let mut peer = lab.connect(1 << 20);
        let uuids = five(&mut lab, &mut peer);
        let request = json!({"QoS": {"columns": ["type", "external_ids"], "where": [["type", "==", "t0"]]}});
        lab.call(&mut peer, method, json!(["Open_vSwitch", "m", request]));
        let mut change = |id: &str, new: &str, where_: Value| {
            lab.say(&peer, json!(1), "monitor_cond_change", json!([id, new, {"QoS": [{"where": where_}]}]));
            peer.take()
        };
        let update = |id: &str, rows: Value| {
            let rows = json!({ "QoS": rows });
            let params = if method == "monitor_cond" { json!([id, rows]) } else { json!([id, nil, rows]) };
            json!({"id": null, "method": notification, "params": params})
        };
        let done = json!({"id": 1, "result": {}, "error": null});
        let more = change("m", "m", json!([["type", "==", "t1"], ["type", "==", "t0"]]));
        assert_eq!(more, [update("m", json!({&uuids[1]: {"insert": {"type": "t1"}}})), done.clone()]);
        let other =
            json!({&uuids[0]: {"delete": null}, &uuids[1]: {"delete": null}, &uuids[2]: {"insert": {"type": "t2"}}});
        assert_eq!(change("m", "new", json!([["type", "==", "t2"]])), [update("new", other), done.clone()]);
        let unknown = json!({"error": "syntax error", "details": "unknown monitor session", "syntax": "\"m\""});
        assert_eq!(change("m", "m", json!([])), [json!({"id": 1, "result": null, "error": unknown})]);
        let same = change("new", "new", json!([["type", "==", "t2"]]));
        assert_eq!(same, vec![done.clone()], "no other rows than before");
        let none = json!({&uuids[2]: {"delete": null}});
        assert_eq!(change("new", "new", json!([false])), [update("new", none), done]);
        lab.say(&peer, json!(2), "transact", json!(["Open_vSwitch", {"op": "delete", "table": "QoS", "where": []}]));
        assert_eq!(peer.take().len(), 1, "nothing is monitored any more");
    }
}

#[test]
fn the_new_condition_holds_for_later_commits() {
    let mut lab = Lab::new();
    let mut peer = lab.connect(1 << 20);
    let uuids = five(&mut lab, &mut peer);
    lab.call(&mut peer, "monitor_cond", json!(["Open_vSwitch", 1, {"QoS": {"columns": ["type"], "where": [false]}}]));
    lab.say(&peer, json!(1), "monitor_cond_change", json!([1, 2, {"QoS": [{"where": [["type", "==", "x"]]}]}]));
    assert_eq!(peer.take().len(), 1);
    let rename = json!({"op": "update", "table": "QoS", "where": [["type", "==", "t3"]], "row": {"type": "x"}});
    lab.say(&peer, json!(2), "transact", json!(["Open_vSwitch", rename]));
    assert_eq!(peer.take()[0]["params"], json!([2, {"QoS": {&uuids[3]: {"insert": {"type": "x"}}}}]));
}

/// The answers are those of ovsdb-server 3.1.
#[test]
fn a_change_that_makes_no_sense_changes_nothing() {
    let mut lab = Lab::new();
    let mut peer = lab.connect(1 << 20);
    five(&mut lab, &mut peer);
    for id in ["m", "n"] {
        lab.call(&mut peer, "monitor_cond", json!(["Open_vSwitch", id, {"QoS": {"where": [false]}, "Queue": {}}]));
    }
    let mut error = |new: &str, requests: Value| {
        lab.call(&mut peer, "monitor_cond_change", json!(["m", new, requests]))["error"].clone()
    };
    let syntax = |details: &str| json!({"error": "syntax error", "details": details});
    let at = |details: &str, at: Value| json!({"error": "syntax error", "details": details, "syntax": at.to_string()});
    assert_eq!(error("m", json!(5)), syntax("monitor-cond-change-requests must be object"));
    assert_eq!(error("m", json!({"Nope": []})), syntax("no table named Nope"));
    assert_eq!(error("m", json!({"Bridge": []})), syntax("no table named Bridge in monitor session"));
    assert_eq!(error("m", json!({"QoS": {}})), syntax("table QoS no monitor-cond-change JSON array"));
    assert_eq!(error("m", json!({"QoS": [5]})), syntax("Parsing table QoS failed: Object expected."));
    let columns = json!({"columns": ["type"]});
    assert_eq!(error("m", json!({"QoS": [columns]})), at("changing columns is unsupported", columns));
    let select = json!({"select": {}});
    let not_allowed = "Parsing table QoS failed: Member 'select' is present but not allowed here.";
    assert_eq!(error("m", json!({"QoS": [select]})), at(not_allowed, select));
    assert_eq!(error("n", json!({})), at("duplicate monitor ID", json!("n")));
    let unknown =
        json!({"error": "unknown column", "details": "No column x in table Queue.", "syntax": "[\"x\",\"==\",1]"});
    assert_eq!(error("m", json!({"QoS": [{"where": [true]}], "Queue": [{"where": [["x", "==", 1]]}]})), unknown);
    assert_eq!(error("m", json!({"QoS": []})), Value::Null);
    assert_eq!(error("m", json!({})), Value::Null);
    assert_eq!(error("m", json!({"QoS": [{"where": [false]}, {"where": [["type", "==", "t9"]]}]})), Value::Null);
}

#[test]
fn old_monitors_have_no_condition_to_change() {
    let mut lab = Lab::new();
    let mut peer = lab.connect(1 << 20);
    five(&mut lab, &mut peer);
    lab.call(&mut peer, "monitor", json!(["Open_vSwitch", 1, {"QoS": {}}]));
    let change = json!([1, 1, {"QoS": [{"where": [false]}]}]);
    assert_eq!(lab.call(&mut peer, "monitor_cond_change", change)["result"], json!({}));
}

/// As ovsdb-server 3.1: a client that asked for no insertions gets none from this either.
#[test]
fn select_says_what_is_told_of_a_change() {
    let mut lab = Lab::new();
    let mut peer = lab.connect(1 << 20);
    let uuids = five(&mut lab, &mut peer);
    let request = json!({"QoS": {"columns": ["type"], "where": [false], "select": {"insert": false}}});
    lab.call(&mut peer, "monitor_cond", json!(["Open_vSwitch", 1, request]));
    let mut change = |clause: Value| {
        lab.say(&peer, json!(2), "monitor_cond_change", json!([1, 1, {"QoS": [{"where": [clause]}]}]));
        peer.take()
    };
    assert_eq!(change(json!(true)).len(), 1);
    assert_eq!(change(json!(["type", "!=", "t3"]))[0]["params"][1], json!({"QoS": {&uuids[3]: {"delete": null}}}));
}
