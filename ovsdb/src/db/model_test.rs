//! Random transactions, against a model that knows no layers, counters or indexes: it copies the
//! whole database, applies the operations, and looks at everything.

use super::*;
use crate::db::load::load;
use crate::value::Datum;
use proptest::prelude::*;
use serde_json::json;
use std::collections::BTreeSet;

/// Two tables whose rows refer to `N` strongly (`kids`) and to `R` weakly (`friends`).
fn schema() -> DatabaseSchema {
    let table = |is_root: bool| {
        let set = |to: &str, ty: &str| json!({"type": {"key": {"type": "uuid", "refTable": to, "refType": ty}, "min": 0, "max": "unlimited"}});
        json!({"columns": {"name": {"type": "string"}, "kids": set("N", "strong"), "friends": set("R", "weak")},
               "indexes": [["name"]], "isRoot": is_root})
    };
    let schema = json!({"name": "T", "version": "1.0.0", "tables": {"R": table(true), "N": table(false)}});
    DatabaseSchema::from_json(&schema).unwrap()
}

#[derive(Clone, Debug, PartialEq)]
struct Node {
    name: u8,
    kids: BTreeSet<u8>,
    friends: BTreeSet<u8>,
}

type Model = BTreeMap<(bool, u8), Node>;

#[derive(Clone, Debug)]
enum Op {
    Insert(bool, u8, Node),
    Update(bool, u8, Node),
    Delete(bool, u8),
}

fn name(root: bool) -> &'static str {
    if root { "R" } else { "N" }
}

fn uuid(n: u8) -> String {
    Uuid::from_u128(n.into()).to_string()
}

impl Node {
    fn to_json(&self) -> Value {
        let set =
            |ids: &BTreeSet<u8>| json!(["set", ids.iter().map(|n| json!(["uuid", uuid(*n)])).collect::<Vec<_>>()]);
        json!({"name": self.name.to_string(), "kids": set(&self.kids), "friends": set(&self.friends)})
    }
}

impl Op {
    fn to_json(&self) -> Value {
        let is = |n: u8| json!([["_uuid", "==", ["uuid", uuid(n)]]]);
        match self {
            Op::Insert(root, n, node) => {
                json!({"op": "insert", "table": name(*root), "uuid": uuid(*n), "row": node.to_json()})
            }
            Op::Update(root, n, node) => {
                json!({"op": "update", "table": name(*root), "where": is(*n), "row": node.to_json()})
            }
            Op::Delete(root, n) => json!({"op": "delete", "table": name(*root), "where": is(*n)}),
        }
    }
}

/// The state after `ops`, or nothing if they fail.
fn run(before: &Model, ops: &[Op]) -> Option<Model> {
    let mut after = before.clone();
    for op in ops {
        match op {
            Op::Insert(root, n, node) => {
                let key = (*root, *n);
                if before.contains_key(&key) || after.contains_key(&key) {
                    return None;
                }
                after.insert(key, node.clone());
            }
            Op::Update(root, n, node) => {
                if let Some(old) = after.get_mut(&(*root, *n)) {
                    *old = node.clone();
                }
            }
            Op::Delete(root, n) => drop(after.remove(&(*root, *n))),
        }
    }
    let kid_exists = |model: &Model, n: &u8| model.contains_key(&(false, *n));
    if !after.values().flat_map(|node| &node.kids).all(|n| kid_exists(&after, n)) {
        return None;
    }
    loop {
        let used: BTreeSet<u8> = after.values().flat_map(|node| node.kids.clone()).collect();
        let count = after.len();
        after.retain(|(root, n), _| *root || used.contains(n));
        if after.len() == count {
            break;
        }
    }
    let roots: BTreeSet<u8> = after.keys().filter(|(root, _)| *root).map(|(_, n)| *n).collect();
    after.values_mut().for_each(|node| node.friends.retain(|n| roots.contains(n)));
    let names: BTreeSet<(bool, u8)> = after.iter().map(|((root, _), node)| (*root, node.name)).collect();
    (names.len() == after.len()).then_some(after)
}

/// The database as a model.
fn observe(db: &Database) -> Model {
    let small = |u: Uuid| u8::try_from(u.as_u128()).unwrap();
    let mut model = Model::new();
    for root in [true, false] {
        for (uuid, row) in db.rows(name(root)) {
            let node = Node {
                name: row.str("name").unwrap().parse().unwrap(),
                kids: row.uuids("kids").map(small).collect(),
                friends: row.uuids("friends").map(small).collect(),
            };
            model.insert((root, small(*uuid)), node);
        }
    }
    model
}

/// Counters and indexes are what a database built anew from the same rows has.
fn assert_derived(db: &Database) {
    let mut anew = Database::new(schema());
    anew.apply(Prepared { changes: db.contents(), comment: None, base: 0 });
    for (table, anew) in db.tables.values().zip(anew.tables.values()) {
        assert_eq!(table.unique, anew.unique);
        assert_eq!(table.strong, anew.strong);
        assert_eq!(table.weak, anew.weak);
    }
}

fn ops() -> impl Strategy<Value = Vec<Vec<Op>>> {
    let ids = || proptest::collection::btree_set(0..5_u8, 0..3);
    let node = || (0..8_u8, ids(), ids()).prop_map(|(name, kids, friends)| Node { name, kids, friends });
    let op = prop_oneof![
        3 => (any::<bool>(), 0..5_u8, node()).prop_map(|(root, n, node)| Op::Insert(root, n, node)),
        2 => (any::<bool>(), 0..5_u8, node()).prop_map(|(root, n, node)| Op::Update(root, n, node)),
        1 => (any::<bool>(), 0..5_u8).prop_map(|(root, n)| Op::Delete(root, n)),
    ];
    proptest::collection::vec(proptest::collection::vec(op, 1..6), 1..12)
}

proptest! {
    #[test]
    fn transactions_do_what_the_model_does(transactions in ops()) {
        let mut db = Database::new(schema());
        let mut model = Model::new();
        let mut log = Vec::new();
        for ops in &transactions {
            let json: Vec<Value> = ops.iter().map(Op::to_json).collect();
            let executed = db.execute(&json);
            let failed = executed.reply.as_array().unwrap().iter().any(|r| r.get("error").is_some());
            match run(&model, ops) {
                Some(after) => {
                    prop_assert!(!failed, "{:?} → {}", ops, executed.reply);
                    prop_assert_eq!(executed.prepared.is_some(), after != model);
                    model = after;
                }
                None => prop_assert!(failed && executed.prepared.is_none(), "{:?} → {}", ops, executed.reply),
            }
            if let Some(prepared) = executed.prepared {
                log.push(db.apply(prepared).changes.to_log(db.schema()));
            }
            prop_assert_eq!(&observe(&db), &model);
            assert_derived(&db);
        }
        // What the log says of all this is the database again.
        let loaded = load(db.schema(), &log).unwrap();
        for root in [true, false] {
            let rows: BTreeMap<Uuid, BTreeMap<String, Datum>> = db.rows(name(root))
                .map(|(uuid, row)| (*uuid, row.columns().map(|(c, d)| (c.to_owned(), d.clone())).collect()))
                .collect();
            prop_assert_eq!(loaded.rows.get(name(root)).cloned().unwrap_or_default(), rows);
        }
    }
}
