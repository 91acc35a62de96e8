//! Transactions against the Open_vSwitch schema: the reply has a place for each operation, what failed has no effect, what
//! succeeded leaves a sound database, and both a monitor and the log say exactly what has changed.
//!
//! Input is lines of JSON, each the operations of one transaction. At the start there is a switch with one bridge.

use ovsdb::db::load::load;
use ovsdb::db::{Commit, Database, Executed, Monitor, MonitorVersion};
use ovsdb::schema::{BaseType, TableSchema};
use ovsdb::value::{Atom, Datum, Uuid};
use ovsdb::vswitch_schema::vswitch_schema;
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

/// Transactions, one a line.
pub fn check(input: &[u8]) {
    let mut db = Cow::Borrowed(start());
    let mut commits = Vec::new();
    for line in input.split(|byte| *byte == b'\n') {
        let Ok(Value::Array(operations)) = serde_json::from_slice(line) else { continue };
        let executed = db.execute(&operations);
        check_reply(&operations, &executed);
        if let Some(prepared) = executed.prepared {
            commits.push(db.to_mut().apply(prepared));
            check_rows(&db);
        }
    }
    if !commits.is_empty() {
        check_monitor(&db, &commits);
        check_log(&db, &commits);
    }
}

/// A switch with the bridge `br0`, whose rows have the identifiers 1 to 4.
fn start() -> &'static Database {
    static START: OnceLock<Database> = OnceLock::new();
    START.get_or_init(|| {
        let mut db = Database::new(vswitch_schema());
        let id = |n: u128| Uuid::from_u128(n).to_string();
        let insert =
            |n: u128, table: &str, row: Value| json!({"op": "insert", "table": table, "uuid": id(n), "row": row});
        let operations = [
            insert(1, "Open_vSwitch", json!({"bridges": ["uuid", id(2)]})),
            insert(2, "Bridge", json!({"name": "br0", "ports": ["uuid", id(3)]})),
            insert(3, "Port", json!({"name": "br0", "interfaces": ["uuid", id(4)]})),
            insert(4, "Interface", json!({"name": "br0", "type": "internal"})),
        ];
        let executed = db.execute(&operations);
        db.apply(executed.prepared.expect("all right"));
        db
    })
}

/// RFC 7047 §4.1.3: results, then perhaps an error, then nulls; or all results and one error more.
fn check_reply(operations: &[Value], executed: &Executed) {
    let reply = executed.reply.as_array().expect("an array");
    let good = reply.iter().take_while(|result| result.is_object() && result.get("error").is_none());
    let good = good.zip(operations).map(|(result, operation)| check_result(operation, result)).count();
    let Some(error) = reply.get(good) else {
        assert_eq!(good, operations.len(), "{reply:?}");
        return assert!(executed.blocked.is_none(), "blocked, but without an error");
    };
    assert!(error["error"].is_string(), "{error}");
    assert!(reply[good + 1..].iter().all(Value::is_null), "{reply:?}");
    assert_eq!(reply.len(), operations.len().max(good + 1), "{reply:?}");
    assert!(executed.prepared.is_none(), "failed, but has an effect");
    assert!(executed.blocked.is_none() || error["error"] == "timed out", "{error}");
}

fn check_result(operation: &Value, result: &Value) {
    let members: Vec<&str> = result.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
    let right = match operation["op"].as_str().unwrap_or_default() {
        "insert" => members == ["uuid"] && result["uuid"][0] == "uuid",
        "select" => members == ["rows"] && result["rows"].is_array(),
        "update" | "mutate" | "delete" => members == ["count"] && result["count"].is_u64(),
        _ => members.is_empty(),
    };
    assert!(right, "{operation} → {result}");
}

/// Every row keeps to its schema, whoever wrote it.
fn check_rows(db: &Database) {
    for (name, table) in &db.schema().tables {
        let count = db.rows(name).count() as u64;
        assert!(table.max_rows.is_none_or(|max| count <= max), "{count} rows in {name}");
        for (_, row) in db.rows(name) {
            for (column, datum) in row.columns() {
                let ty = &table.columns[column].ty;
                assert!(ty.admits(datum) && ty.check(datum).is_ok(), "{name}.{column}: {datum:?}");
                check_references(db, &ty.key, datum.atoms().chain(datum.pairs().map(|(key, _)| key)));
                if let Some(value) = &ty.value {
                    check_references(db, value, datum.pairs().map(|(_, value)| value));
                }
            }
        }
        check_unique(db, name, table);
    }
}

fn check_references<'d>(db: &Database, base: &BaseType, atoms: impl Iterator<Item = &'d Atom>) {
    let Some(target) = &base.ref_table else { return };
    for atom in atoms {
        let Atom::Uuid(uuid) = atom else { panic!("{atom:?} as a reference to {target}") };
        assert!(db.row(target, uuid).is_some(), "a reference to {uuid}, which is not in {target}");
    }
}

fn check_unique(db: &Database, name: &str, table: &TableSchema) {
    for index in &table.indexes {
        let mut seen = BTreeSet::new();
        for (_, row) in db.rows(name) {
            let key: Vec<Option<&Datum>> = index.iter().map(|column| row.get(column)).collect();
            assert!(seen.insert(key.clone()), "{name}: twice {key:?}");
        }
    }
}

/// What a client of `monitor` knows: table and row, with its columns.
#[derive(Debug, Default, PartialEq)]
struct Replica(BTreeMap<(String, String), Value>);

impl Replica {
    fn follow(&mut self, updates: &Value) {
        for (table, rows) in updates.as_object().expect("tables") {
            for (uuid, change) in rows.as_object().expect("rows") {
                let key = (table.clone(), uuid.clone());
                match change.get("new") {
                    Some(new) => drop(self.0.insert(key, new.clone())),
                    None => assert!(self.0.remove(&key).is_some(), "gone, but never there: {key:?}"),
                }
            }
        }
    }
}

/// A client that followed every commit knows what one does that comes now.
fn check_monitor(db: &Database, commits: &[Commit]) {
    let all = db.schema().tables.keys().map(|table| (table.clone(), json!({}))).collect::<Map<_, _>>();
    let monitor = Monitor::new(MonitorVersion::V1, &Value::Object(all), db).expect("tables of the schema");
    let (mut old, mut new) = (Replica::default(), Replica::default());
    old.follow(&monitor.initial(start()));
    commits.iter().for_each(|commit| old.follow(&monitor.update(commit).expect("something changed")));
    new.follow(&monitor.initial(db));
    assert_eq!(old, new);
}

/// The log holds what the database holds, but for columns that are never written to it.
fn check_log(db: &Database, commits: &[Commit]) {
    let first = start().contents();
    let changes = std::iter::once(&first).chain(commits.iter().map(|commit| &*commit.changes));
    let written = changes.map(|changes| changes.to_log(db.schema()).to_string());
    let records: Vec<Value> = written.map(|text| serde_json::from_str(&text).expect("JSON")).collect();
    let loaded = load(db.schema(), &records).expect("own records");
    assert!(loaded.unknown.is_empty(), "{:?}", loaded.unknown);
    for (name, table) in &db.schema().tables {
        let read = loaded.rows.get(name).into_iter().flatten();
        assert_eq!(read.clone().count(), db.rows(name).count(), "{name}");
        for ((uuid, read), (held_uuid, held)) in read.zip(db.rows(name)) {
            assert_eq!(uuid, held_uuid, "{name}");
            for (column, datum) in held.columns().filter(|(column, _)| !table.columns[*column].ephemeral) {
                assert_eq!(read.get(column), Some(datum), "{name}.{column}");
            }
        }
    }
}
