//! Whole transactions against a whole database.

use super::*;
use crate::error::OpError;
use crate::value::{Atom, Datum, parse_uuid};
use crate::vswitch_schema::vswitch_schema;
use serde_json::json;

/// Replaces, in order of appearance, the identifiers that the server chose by `<0>`, `<1>`…;
/// those that the requests chose begin with zeros and stay.
fn anonymous(reply: &Value) -> String {
    let mut text = reply.to_string();
    let mut count = 0;
    let mut at = 0;
    while at + 36 <= text.len() {
        let found = text.get(at..at + 36).filter(|s| !s.starts_with("00000000-")).and_then(parse_uuid);
        if let Some(uuid) = found {
            text = text.replace(&uuid.to_string(), &format!("<{count}>"));
            count += 1;
        }
        at += 1;
    }
    text
}

/// Runs operations and applies what comes out.
fn transact(db: &mut Database, ops: &Value) -> (Value, Option<Commit>) {
    let executed = db.execute(ops.as_array().unwrap());
    (executed.reply, executed.prepared.map(|p| db.apply(p)))
}

fn commit(db: &mut Database, ops: Value) -> Commit {
    let (reply, commit) = transact(db, &ops);
    commit.unwrap_or_else(|| panic!("no commit: {reply}"))
}

fn id(n: u128) -> Uuid {
    Uuid::from_u128(n)
}

fn uuid(n: u128) -> Value {
    json!(["uuid", id(n).to_string()])
}

const BRIDGE: u128 = 0xb;
const PORT: u128 = 0xa;
const INTERFACE: u128 = 0xc;
const MIRROR: u128 = 0xd;

/// The Open_vSwitch row, a bridge `b1` with a port `p1`, and a mirror that sends to it.
fn switch() -> Database {
    let mut db = Database::new(vswitch_schema());
    commit(
        &mut db,
        json!([
            {"op": "insert", "table": "Open_vSwitch", "row": {"bridges": uuid(BRIDGE)}},
            {"op": "insert", "table": "Bridge", "uuid": id(BRIDGE).to_string(),
             "row": {"name": "b1", "ports": uuid(PORT), "mirrors": uuid(MIRROR)}},
            {"op": "insert", "table": "Port", "uuid": id(PORT).to_string(),
             "row": {"name": "p1", "interfaces": uuid(INTERFACE)}},
            {"op": "insert", "table": "Interface", "uuid": id(INTERFACE).to_string(), "row": {"name": "p1"}},
            {"op": "insert", "table": "Mirror", "uuid": id(MIRROR).to_string(),
             "row": {"name": "m", "output_port": uuid(PORT)}}
        ]),
    );
    db
}

/// `golden.txt` is a dialogue with ovsdb-server 3.1: what it answered, we answer.
#[test]
fn replies_of_the_real_server() {
    let mut db = Database::new(vswitch_schema());
    let lines: Vec<&str> = include_str!("golden.txt").lines().filter(|l| !l.starts_with('#')).collect();
    assert!(lines.len() > 200);
    let mut wrong = Vec::new();
    for pair in lines.chunks(2) {
        let [request, expected] = pair else { panic!("an unpaired line") };
        let ops = serde_json::from_str(request.strip_prefix("> ").unwrap()).unwrap();
        let (reply, _) = transact(&mut db, &ops);
        if anonymous(&reply) != *expected {
            wrong.push(format!("{request}\n  expected {expected}\n  got      {}", anonymous(&reply)));
        }
    }
    assert!(wrong.is_empty(), "{} replies differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Garbage collection and lost weak references are changes like any other: monitors and log see them.
#[test]
fn changes_are_complete() {
    let mut db = switch();
    let commit =
        commit(&mut db, json!([{"op": "update", "table": "Bridge", "where": [], "row": {"ports": ["set", []]}}]));
    let changes = &commit.changes;
    assert_eq!(changes.0.keys().collect::<Vec<_>>(), ["Bridge", "Interface", "Mirror", "Port"]);
    let bridge = changes.row("Bridge", &id(BRIDGE)).unwrap();
    assert_eq!(bridge.columns().collect::<Vec<_>>(), [("ports", &Datum::uuid(id(PORT)), &Datum::empty_set())]);
    assert!(changes.row("Port", &id(PORT)).is_some_and(|c| c.old.is_some() && c.new.is_none()));
    assert_eq!(
        changes.to_log(db.schema()),
        json!({"Bridge": {id(BRIDGE).to_string(): {"ports": ["set", []]}},
               "Interface": {id(INTERFACE).to_string(): null},
               "Mirror": {id(MIRROR).to_string(): {"output_port": ["set", []]}},
               "Port": {id(PORT).to_string(): null}})
    );
    assert_eq!(db.rows("Port").count(), 0);
}

#[test]
fn log_records_leave_out_defaults_and_ephemeral_columns() {
    let mut db = switch();
    let update = |row: Value| json!([{"op": "update", "table": "Interface", "where": [], "row": row}]);
    let first = commit(&mut db, update(json!({"link_state": "up", "mtu": 1500})));
    assert!(!first.changes.has_persistent(db.schema()));
    assert_eq!(first.changes.to_log(db.schema()), json!({}));
    let second = commit(&mut db, update(json!({"link_state": "down", "type": "internal"})));
    assert!(second.changes.has_persistent(db.schema()));
    let interface = id(INTERFACE).to_string();
    assert_eq!(second.changes.to_log(db.schema()), json!({"Interface": {&interface: {"type": "internal"}}}));
    let all = db.contents().to_log(db.schema());
    assert_eq!(all["Interface"], json!({interface: {"name": "p1", "type": "internal"}}));
    assert_eq!(all["Mirror"], json!({id(MIRROR).to_string(): {"name": "m", "output_port": uuid(PORT)}}));
}

/// As ovs-vsctl does: the port refers to an interface that a later operation inserts, and a later
/// operation looks for the interface by its name within the transaction.
#[test]
fn named_uuids_work_before_their_insert_and_in_conditions() {
    let mut db = switch();
    let (reply, commit) = transact(
        &mut db,
        &json!([
            {"op": "insert", "table": "Port", "uuid-name": "port",
             "row": {"name": "p2", "interfaces": ["named-uuid", "interface"]}},
            {"op": "mutate", "table": "Bridge", "where": [],
             "mutations": [["ports", "insert", ["named-uuid", "port"]]]},
            {"op": "insert", "table": "Interface", "uuid-name": "interface", "row": {"name": "p2"}},
            {"op": "mutate", "table": "Interface", "where": [["_uuid", "==", ["named-uuid", "interface"]]],
             "mutations": [["options", "insert", ["map", [["key", "5"]]]]]}
        ]),
    );
    assert_eq!(reply[3], json!({"count": 1}));
    assert!(commit.is_some());
    let interface = parse_uuid(reply[2]["uuid"][1].as_str().unwrap()).unwrap();
    let port = parse_uuid(reply[0]["uuid"][1].as_str().unwrap()).unwrap();
    assert_eq!(db.row("Interface", &interface).unwrap().map_str("options", "key"), Some("5"));
    assert_eq!(db.row("Port", &port).unwrap().uuid("interfaces"), Some(interface));
    assert!(db.row("Bridge", &id(BRIDGE)).unwrap().uuids("ports").any(|p| p == port));
}

/// Rows are found by the columns of an index as they are at that point of the transaction.
#[test]
fn conditions_on_an_index_see_the_transaction() {
    let mut db = switch();
    let select = |target: &str| json!({"op": "select", "table": "Manager", "where": [["target", "==", target]], "columns": ["target"]});
    let insert = |name: &str, target: &str| json!({"op": "insert", "table": "Manager", "uuid-name": name, "row": {"target": target}});
    let rows = |reply: &Value| reply["rows"].as_array().unwrap().len();
    let keep = json!({"op": "update", "table": "Open_vSwitch", "where": [],
                      "row": {"manager_options": ["set", [["named-uuid", "a"], ["named-uuid", "b"]]]}});
    let (reply, _) = transact(&mut db, &json!([insert("a", "x"), insert("b", "y"), select("x"), keep]));
    assert_eq!(rows(&reply[2]), 1);
    let rename = |from: &str, to: &str| json!({"op": "update", "table": "Manager", "where": [["target", "==", from]], "row": {"target": to}});
    let ops = [select("x"), rename("x", "y"), select("x"), select("y"), rename("y", "z"), select("y"), select("z")];
    let found: Vec<_> =
        db.execute(&ops).reply.as_array().unwrap().iter().filter(|r| r["rows"].is_array()).map(rows).collect();
    assert_eq!(found, [1, 0, 2, 0, 2]);
    let delete = json!({"op": "delete", "table": "Manager", "where": [["target", "==", "y"]]});
    let both =
        json!({"op": "select", "table": "Manager", "where": [["target", "==", "x"], ["inactivity_probe", "==", 5]]});
    let reply = db.execute(&[delete, select("y"), both, select("x")]).reply;
    assert_eq!([rows(&reply[1]), rows(&reply[2]), rows(&reply[3])], [0, 0, 1]);
}

/// A chosen identifier holds for the name too, wherever the name is used.
#[test]
fn a_named_row_may_choose_its_uuid() {
    let mut db = switch();
    let chosen = id(0x99);
    commit(
        &mut db,
        json!([
            {"op": "mutate", "table": "Bridge", "where": [],
             "mutations": [["mirrors", "insert", ["named-uuid", "m"]]]},
            {"op": "insert", "table": "Mirror", "uuid-name": "m", "uuid": chosen.to_string(), "row": {"name": "m2"}}
        ]),
    );
    assert_eq!(db.row("Mirror", &chosen).unwrap().str("name"), Some("m2"));
}

#[test]
fn a_failed_transaction_has_no_effect() {
    let mut db = switch();
    let before = db.contents();
    let (reply, commit) = transact(
        &mut db,
        &json!([
            {"op": "update", "table": "Bridge", "where": [], "row": {"ports": ["set", []]}},
            {"op": "insert", "table": "QoS", "row": {"type": "x"}},
            {"op": "update", "table": "Port", "where": [], "row": {"tag": 4096}},
            {"op": "select", "table": "Port", "where": []}
        ]),
    );
    assert_eq!(reply[0], json!({"count": 1}));
    assert_eq!((&reply[2]["error"], &reply[3]), (&json!("constraint violation"), &Value::Null));
    assert!(commit.is_none());
    assert_eq!(db.contents(), before);
}

#[test]
fn what_changes_nothing_is_no_commit() {
    let mut db = switch();
    for ops in [
        json!([]),
        json!([{"op": "comment", "comment": "x"}, {"op": "commit", "durable": true}]),
        json!([{"op": "update", "table": "Bridge", "where": [], "row": {"datapath_type": ""}}]),
        json!([{"op": "update", "table": "Bridge", "where": [], "row": {"datapath_type": "x"}},
               {"op": "update", "table": "Bridge", "where": [], "row": {"datapath_type": ""}}]),
        json!([{"op": "insert", "table": "QoS", "row": {}}, {"op": "delete", "table": "QoS", "where": []}]),
        json!([{"op": "insert", "table": "Mirror", "row": {}}]),
    ] {
        let (reply, commit) = transact(&mut db, &ops);
        assert!(commit.is_none(), "{ops} → {reply}");
        assert!(reply.as_array().unwrap().iter().all(|r| r.get("error").is_none()), "{reply}");
    }
}

#[test]
fn versions_change_with_rows() {
    let mut db = switch();
    let version = |db: &Database| db.row("Bridge", &id(BRIDGE)).unwrap().version();
    let first = version(&db);
    commit(&mut db, json!([{"op": "update", "table": "Port", "where": [], "row": {"tag": 1}}]));
    assert_eq!(version(&db), first);
    commit(&mut db, json!([{"op": "update", "table": "Bridge", "where": [], "row": {"datapath_type": "x"}}]));
    assert_ne!(version(&db), first);
    let ops = json!([{"op": "select", "table": "Bridge", "where": [["_version", "==", ["uuid", first.to_string()]]]}]);
    assert_eq!(transact(&mut db, &ops).0, json!([{"rows": []}]));
}

/// A wait that is not met yet can be put aside with its whole transaction.
#[test]
fn waits_block_as_long_as_they_say() {
    let mut db = switch();
    let ops = |timeout: Value| {
        let mut wait = json!({"op": "wait", "table": "Interface", "where": [["name", "==", "p1"]],
                              "columns": ["ofport"], "until": "!=", "rows": [{"ofport": ["set", []]}]});
        if !timeout.is_null() {
            wait["timeout"] = timeout;
        }
        [wait, json!({"op": "select", "table": "Interface", "where": [], "columns": ["ofport"]})]
    };
    for (timeout, blocked) in
        [(json!(0), None), (json!(800), Some(Duration::from_millis(800))), (Value::Null, Some(Duration::MAX))]
    {
        let executed = db.execute(&ops(timeout));
        assert_eq!(executed.blocked, blocked);
        assert_eq!(executed.reply, json!([{"error": "timed out", "details": "\"where\" clause test failed"}, null]));
    }
    commit(&mut db, json!([{"op": "update", "table": "Interface", "where": [], "row": {"ofport": 7}}]));
    let executed = db.execute(&ops(json!(800)));
    assert_eq!((executed.blocked, executed.reply), (None, json!([{}, {"rows": [{"ofport": 7}]}])));
}

#[test]
fn index_values_can_be_swapped() {
    let mut db = switch();
    let manager = |n: u128, target: &str| json!({"op": "insert", "table": "Manager", "uuid": id(n).to_string(), "row": {"target": target}});
    commit(
        &mut db,
        json!([manager(1, "a"), manager(2, "b"), {"op": "update", "table": "Open_vSwitch", "where": [],
               "row": {"manager_options": ["set", [uuid(1), uuid(2)]]}}]),
    );
    let rename = |n: u128, target: &str| json!({"op": "update", "table": "Manager", "where": [["_uuid", "==", uuid(n)]], "row": {"target": target}});
    commit(&mut db, json!([rename(1, "b"), rename(2, "a")]));
    let (reply, _) = transact(&mut db, &json!([rename(2, "b")]));
    assert_eq!(reply[1]["error"], "constraint violation");
    commit(&mut db, json!([rename(1, "c"), rename(2, "b")]));
}

/// A column that must not be empty does not lose its last weak reference: the deletion is refused.
#[test]
fn a_weak_reference_that_must_not_go() {
    let schema = json!({"name": "T", "version": "1.0.0", "tables": {
        "A": {"columns": {"name": {"type": "string"}}, "isRoot": true},
        "B": {"columns": {"one": {"type": {"key": {"type": "uuid", "refTable": "A", "refType": "weak"}}}},
              "isRoot": true}}});
    let mut db = Database::new(DatabaseSchema::from_json(&schema).unwrap());
    commit(
        &mut db,
        json!([{"op": "insert", "table": "A", "uuid": id(1).to_string(), "row": {}},
               {"op": "insert", "table": "B", "uuid": id(2).to_string(), "row": {"one": uuid(1)}}]),
    );
    let (reply, commit) = transact(&mut db, &json!([{"op": "delete", "table": "A", "where": []}]));
    assert_eq!(reply[1]["error"], "constraint violation");
    assert!(reply[1]["details"].as_str().unwrap().contains(&id(2).to_string()), "{reply}");
    assert!(commit.is_none());
}

#[test]
fn transactions_of_the_process_itself() {
    let mut db = Database::new(vswitch_schema());
    let mut txn = db.begin();
    let interface = txn.insert("Interface", [("name", Datum::string("p"))]).unwrap();
    let port = txn.insert("Port", [("name", Datum::string("p")), ("interfaces", Datum::uuid(interface))]).unwrap();
    let bridge = txn.insert("Bridge", [("name", Datum::string("b")), ("ports", Datum::uuid(port))]).unwrap();
    let root = txn.insert("Open_vSwitch", [("bridges", Datum::uuid(bridge))]).unwrap();
    txn.set("Port", &port, "tag", Datum::integer(5)).unwrap();
    assert_eq!(txn.row("Port", &port).unwrap().integer("tag"), Some(5));
    assert_eq!(txn.rows("Port").count(), 1);
    txn.comment("first");
    let prepared = txn.finish().unwrap();
    assert_eq!(prepared.comment.as_deref(), Some("first"));
    assert!(db.row("Port", &port).is_none());
    db.apply(prepared);
    assert_eq!(db.row("Port", &port).unwrap().integer("tag"), Some(5));

    let mut txn = db.begin();
    txn.set("Port", &port, "tag", Datum::integer(5)).unwrap();
    txn.set("Port", &port, "name", Datum::string("p")).unwrap();
    assert!(txn.finish().unwrap().changes.is_empty(), "the same values change nothing");

    let mut txn = db.begin();
    let error = |result: Result<(), OpError>| result.unwrap_err().to_string();
    let set = |txn: &mut Txn<'_>, column: &str, datum| error(txn.set("Port", &port, column, datum));
    assert_eq!(
        set(&mut txn, "tag", Datum::integer(5000)),
        "constraint violation: 5000 is not in the valid range 0 to 4095 (inclusive)"
    );
    assert_eq!(
        set(&mut txn, "tag", Datum::string("x")),
        "constraint violation: \"x\" in column tag of table Port, which holds set of up to 1 integers"
    );
    assert!(set(&mut txn, "tag", Datum::empty_map()).starts_with("constraint violation"));
    assert!(set(&mut txn, "tag", Datum::set_of([1, 2].map(Atom::Integer))).starts_with("syntax error"));
    assert_eq!(
        set(&mut txn, "name", Datum::string("q")),
        "constraint violation: Cannot update immutable column name in table Port."
    );
    assert_eq!(set(&mut txn, "nope", Datum::integer(1)), "unknown column: No column nope in table Port.");
    assert_eq!(error(txn.delete("Nope", &port)), "syntax error: No table named Nope.");
    assert_eq!(error(txn.delete("Port", &bridge)), format!("not found: No row {bridge} in table Port."));
    assert!(error(txn.insert_as("Port", port, [])).starts_with("duplicate uuid"));
    txn.delete("Open_vSwitch", &root).unwrap();
    db.apply(txn.finish().unwrap());
    assert!(db.contents().is_empty(), "all was garbage without its root");
}

/// A thousand ports and as many waits: only the rows that are written become changes.
#[test]
fn a_transaction_touches_what_it_writes() {
    let mut db = switch();
    let interface = |i: u32| json!({"op": "insert", "table": "Interface", "uuid-name": format!("i{i}"), "row": {"name": format!("x{i}")}});
    let port = |i: u32| {
        json!({"op": "insert", "table": "Port", "uuid-name": format!("p{i}"),
               "row": {"name": format!("x{i}"), "interfaces": ["named-uuid", format!("i{i}")]}})
    };
    let mut ops: Vec<Value> = (0..1000).flat_map(|i| [interface(i), port(i)]).collect();
    let names: Vec<Value> = (0..1000).map(|i| json!(["named-uuid", format!("p{i}")])).collect();
    ops.push(json!({"op": "mutate", "table": "Bridge", "where": [],
                    "mutations": [["ports", "insert", ["set", names]]]}));
    commit(&mut db, Value::Array(ops));
    let mut ops: Vec<Value> = db
        .rows("Port")
        .map(|(port, row)| {
            json!({"op": "wait", "table": "Port", "where": [["_uuid", "==", ["uuid", port.to_string()]]],
                   "columns": ["interfaces"], "until": "==", "timeout": 0,
                   "rows": [{"interfaces": row.get("interfaces").unwrap().to_json()}]})
        })
        .collect();
    ops.push(json!({"op": "update", "table": "Port", "where": [["name", "==", "x7"]], "row": {"tag": 7}}));
    let executed = db.execute(&ops);
    let prepared = executed.prepared.unwrap();
    assert_eq!(prepared.changes.0.values().map(BTreeMap::len).sum::<usize>(), 1);
}
