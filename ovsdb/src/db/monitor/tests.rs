//! What clients are told, in all dialects.

use super::*;
use crate::vswitch_schema::vswitch_schema;
use serde_json::json;

const B: &str = "00000000-0000-0000-0000-00000000000b";
const E: &str = "00000000-0000-0000-0000-00000000000e";

/// A database with one Queue: `dscp` 5, `other_config` a=1, b=2.
fn database() -> Database {
    let mut db = Database::new(vswitch_schema());
    let row = json!({"dscp": 5, "other_config": ["map", [["a", "1"], ["b", "2"]]]});
    commit(&mut db, json!({"op": "insert", "table": "Queue", "uuid": B, "row": row}));
    db
}

fn commit(db: &mut Database, op: Value) -> Commit {
    let prepared = db.execute(&[op]).prepared.expect("a change");
    db.apply(prepared)
}

fn monitor(version: MonitorVersion, db: &Database, queue: Value) -> Monitor {
    Monitor::new(version, &json!({ "Queue": queue }), db).unwrap()
}

fn update(row: Value) -> Value {
    json!({"op": "update", "table": "Queue", "where": [], "row": row})
}

fn insert(row: Value) -> Value {
    json!({"op": "insert", "table": "Queue", "uuid": E, "row": row})
}

fn delete() -> Value {
    json!({"op": "delete", "table": "Queue", "where": [["_uuid", "==", ["uuid", E]]]})
}

fn of(uuid: &str, row: Value) -> Option<Value> {
    Some(json!({"Queue": {uuid: row}}))
}

/// As ovsdb-server 3.1 tells it.
#[test]
fn v1_tells_old_columns_and_new_rows() {
    let mut db = database();
    let m = monitor(MonitorVersion::V1, &db, json!([{"columns": ["dscp", "other_config"]}]));
    let config = json!(["map", [["a", "1"], ["b", "2"]]]);
    assert_eq!(Some(m.initial(&db)), of(B, json!({"new": {"dscp": 5, "other_config": config}})));
    let c = commit(&mut db, update(json!({"dscp": 20})));
    assert_eq!(m.update(&c), of(B, json!({"old": {"dscp": 5}, "new": {"dscp": 20, "other_config": config}})));
    let c = commit(&mut db, insert(json!({"dscp": 2})));
    assert_eq!(m.update(&c), of(E, json!({"new": {"dscp": 2, "other_config": ["map", []]}})));
    let c = commit(&mut db, delete());
    assert_eq!(m.update(&c), of(E, json!({"old": {"dscp": 2, "other_config": ["map", []]}})));
    let c = commit(&mut db, update(json!({"external_ids": ["map", [["x", "y"]]]})));
    assert_eq!(m.update(&c), None, "a column that is not monitored");
}

/// As ovsdb-server 3.1 tells it.
#[test]
fn v2_tells_differences_and_omits_defaults() {
    let mut db = database();
    let m = monitor(MonitorVersion::V2, &db, json!([{"columns": ["dscp", "other_config"]}]));
    let config = json!(["map", [["a", "1"], ["b", "2"]]]);
    assert_eq!(Some(m.initial(&db)), of(B, json!({"initial": {"dscp": 5, "other_config": config}})));
    let c = commit(&mut db, update(json!({"dscp": 20})));
    assert_eq!(m.update(&c), of(B, json!({"modify": {"dscp": 20}})));
    let c = commit(&mut db, update(json!({"other_config": ["map", [["a", "1"], ["q", "z"]]]})));
    assert_eq!(m.update(&c), of(B, json!({"modify": {"other_config": ["map", [["b", "2"], ["q", "z"]]]}})));
    let c = commit(&mut db, update(json!({"dscp": ["set", []]})));
    assert_eq!(m.update(&c), of(B, json!({"modify": {"dscp": ["set", []]}})), "an optional that is cleared");
    let c = commit(&mut db, insert(json!({"dscp": 2})));
    assert_eq!(m.update(&c), of(E, json!({"insert": {"dscp": 2}})));
    let c = commit(&mut db, delete());
    assert_eq!(m.update(&c), of(E, json!({"delete": null})));
}

/// As ovsdb-server 3.1 tells it: the clauses are alternatives.
#[test]
fn rows_move_in_and_out_of_a_condition() {
    let mut db = database();
    let clauses = json!([["dscp", "==", 10], ["dscp", "==", 3]]);
    let m = monitor(MonitorVersion::V3, &db, json!({"columns": ["dscp", "other_config"], "where": clauses}));
    assert_eq!(m.initial(&db), json!({}));
    let c = commit(&mut db, update(json!({"dscp": 10})));
    let config = json!(["map", [["a", "1"], ["b", "2"]]]);
    assert_eq!(m.update(&c), of(B, json!({"insert": {"dscp": 10, "other_config": config}})));
    let c = commit(&mut db, update(json!({"dscp": 3})));
    assert_eq!(m.update(&c), of(B, json!({"modify": {"dscp": 3}})));
    let c = commit(&mut db, update(json!({"dscp": 7})));
    assert_eq!(m.update(&c), of(B, json!({"delete": null})));
    let c = commit(&mut db, update(json!({"other_config": ["map", []]})));
    assert_eq!(m.update(&c), None);
    assert_eq!(m.initial(&db), json!({}));
}

#[test]
fn constant_conditions() {
    let db = database();
    let initial =
        |where_: Value| monitor(MonitorVersion::V2, &db, json!({"columns": [], "where": where_})).initial(&db);
    let here = json!({"Queue": {B: {"initial": {}}}});
    assert_eq!(initial(json!([])), here);
    assert_eq!(initial(json!([true])), here);
    assert_eq!(initial(json!([false, true])), here);
    assert_eq!(initial(json!([false])), json!({}));
}

#[test]
fn select_says_when_and_each_request_for_its_columns() {
    let mut db = database();
    let requests = json!([{"columns": ["dscp"]}, {"columns": ["other_config"],
        "select": {"initial": false, "insert": false, "delete": false}}]);
    let m = monitor(MonitorVersion::V1, &db, requests);
    assert_eq!(Some(m.initial(&db)), of(B, json!({"new": {"dscp": 5}})));
    let c = commit(&mut db, update(json!({"other_config": ["map", []]})));
    let old = json!({"other_config": ["map", [["a", "1"], ["b", "2"]]]});
    assert_eq!(m.update(&c), of(B, json!({"old": old, "new": {"dscp": 5, "other_config": ["map", []]}})));
    let c = commit(&mut db, insert(json!({})));
    assert_eq!(m.update(&c), of(E, json!({"new": {"dscp": ["set", []]}})));
    for version in [MonitorVersion::V1, MonitorVersion::V2] {
        let none = json!({"select": {"initial": false, "insert": false, "delete": false, "modify": false}});
        let m = monitor(version, &db, none);
        assert_eq!(m.initial(&db), json!({}));
        assert_eq!(m.update(&c), None);
    }
}

/// All columns but `_uuid`, if none is named.
#[test]
fn unnamed_columns() {
    let db = database();
    let version =
        ["uuid".to_owned(), db.row("Queue", &crate::value::parse_uuid(B).unwrap()).unwrap().version().to_string()];
    let row = json!({"_version": version, "dscp": 5, "external_ids": ["map", []],
                     "other_config": ["map", [["a", "1"], ["b", "2"]]]});
    assert_eq!(Some(monitor(MonitorVersion::V1, &db, json!({})).initial(&db)), of(B, json!({ "new": row })));
    let asked = json!([{"columns": ["_uuid", "dscp"]}]);
    let row = json!({"_uuid": ["uuid", B], "dscp": 5});
    assert_eq!(Some(monitor(MonitorVersion::V2, &db, asked).initial(&db)), of(B, json!({ "initial": row })));
}

/// As ovsdb-server 3.1 answers.
#[test]
fn refusals() {
    let db = database();
    let error = |version, requests: Value| Monitor::new(version, &requests, &db).unwrap_err().to_json();
    let syntax = |details: &str, syntax: Value| json!({"error": "syntax error", "details": details, "syntax": syntax.to_string()});
    use MonitorVersion::{V1, V2};
    assert_eq!(error(V1, json!(5)), syntax("monitor-requests must be object", json!(5)));
    assert_eq!(error(V1, json!({"Nope": {}})), json!({"error": "syntax error", "details": "no table named Nope"}));
    assert_eq!(
        error(V1, json!({"Bridge": [5]})),
        json!({"error": "syntax error", "details": "Parsing table Bridge failed: Object expected."})
    );
    assert_eq!(
        error(V1, json!({"Bridge": [{"columns": ["x"]}]})),
        syntax("x is not a valid column name", json!(["x"]))
    );
    assert_eq!(
        error(V1, json!({"Bridge": [{"columns": ["name"]}, {"columns": ["name"]}]})),
        syntax("column name mentioned more than once", json!(["name"]))
    );
    assert_eq!(
        error(V1, json!({"Bridge": {"columns": ["ports", "ports"]}})),
        syntax("column ports mentioned more than once", json!(["ports", "ports"]))
    );
    assert_eq!(
        error(V1, json!({"Bridge": {"columns": ["name", 5]}})),
        syntax("array of column names expected", json!(["name", 5]))
    );
    assert_eq!(
        error(V2, json!({"Bridge": {"select": []}})),
        syntax("Parsing table Bridge failed: Type mismatch for member 'select'.", json!({"select": []}))
    );
    assert_eq!(
        error(V1, json!({"Queue": {"where": []}})),
        syntax("Parsing table Queue failed: Member 'where' is present but not allowed here.", json!({"where": []}))
    );
    assert_eq!(
        error(V2, json!({"Queue": {"where": 5}})),
        syntax("Parsing table Queue failed: Type mismatch for member 'where'.", json!({"where": 5}))
    );
    assert_eq!(
        error(V2, json!({"Bridge": [{"select": {"zz": true}}]})),
        syntax("Parsing table Bridge select failed: Member 'zz' is present but not allowed here.", json!({"zz": true}))
    );
    assert_eq!(
        error(V2, json!({"Queue": [{"where": [["zz", "==", 1]]}]})),
        json!({"error": "unknown column", "details": "No column zz in table Queue.", "syntax": "[\"zz\",\"==\",1]"})
    );
}
