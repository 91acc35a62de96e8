//! What a client that monitors tables is told: `monitor` (RFC 7047 §4.1.5) and its successors
//! `monitor_cond` and `monitor_cond_since` (ovsdb-server(7)).
//!
//! A monitor is read from its request once and immutable from then on. It holds no state about the
//! client: what to tell of a commit follows from the commit alone. So every client sees every
//! commit whole, in order, or not at all.

use super::column::{Column, named_columns};
use super::condition::Condition;
use super::table::Row;
use super::{Commit, Database};
use crate::error::OpError;
use crate::members::Members;
use crate::schema::{ColumnType, TableSchema};
use crate::value::{NoSymbols, Uuid};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The three dialects of monitoring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MonitorVersion {
    /// `monitor`: rows before and after.
    V1,
    /// `monitor_cond`: differences, and conditions on rows.
    V2,
    /// `monitor_cond_since`: as V2, with transaction identifiers in the envelope.
    V3,
}

/// One monitor of one client.
#[derive(Clone, Debug)]
pub struct Monitor {
    version: MonitorVersion,
    tables: BTreeMap<String, Watch>,
}

/// What is monitored of a table.
#[derive(Clone, Debug)]
struct Watch {
    columns: Vec<WatchedColumn>,
    /// What any of its requests asks for.
    select: Select,
    /// Rows for which none of these holds do not exist for the client.
    condition: Condition,
}

#[derive(Clone, Debug)]
struct WatchedColumn {
    name: String,
    column: Column,
    ty: ColumnType,
    select: Select,
}

/// `<monitor-select>`: on which occasions.
#[derive(Clone, Copy, Debug, Default)]
struct Select {
    initial: bool,
    insert: bool,
    delete: bool,
    modify: bool,
}

/// An occasion to tell of a row.
#[derive(Clone, Copy, Debug)]
enum Event<'r> {
    Initial(&'r Row),
    Insert(&'r Row),
    Delete(&'r Row),
    Modify(&'r Row, &'r Row),
}

impl Select {
    fn from_json(v: Option<&Value>, table: &str) -> Result<Select, OpError> {
        let Some(v) = v else { return Ok(Select { initial: true, insert: true, delete: true, modify: true }) };
        let select = Members::of(v, format!("table {table} select"))?;
        select.only(&["initial", "insert", "delete", "modify"])?;
        let flag = |name| Ok::<_, OpError>(select.optional(name, Value::as_bool)?.unwrap_or(true));
        Ok(Select {
            initial: flag("initial")?,
            insert: flag("insert")?,
            delete: flag("delete")?,
            modify: flag("modify")?,
        })
    }

    fn or(self, other: Select) -> Select {
        Select {
            initial: self.initial || other.initial,
            insert: self.insert || other.insert,
            delete: self.delete || other.delete,
            modify: self.modify || other.modify,
        }
    }

    fn has(self, event: Event<'_>) -> bool {
        match event {
            Event::Initial(_) => self.initial,
            Event::Insert(_) => self.insert,
            Event::Delete(_) => self.delete,
            Event::Modify(..) => self.modify,
        }
    }
}

impl Monitor {
    /// Reads `<monitor-requests>` (V1) or `<monitor-cond-requests>`: per table one request or
    /// several, each about columns of its own.
    pub fn new(version: MonitorVersion, requests: &Value, db: &Database) -> Result<Monitor, OpError> {
        let by_table =
            requests.as_object().ok_or_else(|| OpError::syntax(requests, "monitor-requests must be object"))?;
        let mut tables = BTreeMap::new();
        for (name, requests) in by_table {
            let schema = db.schema().table(name);
            let schema = schema.ok_or_else(|| OpError::new("syntax error", format!("no table named {name}")))?;
            let requests = requests.as_array().map_or(std::slice::from_ref(requests), Vec::as_slice);
            tables.insert(name.clone(), Watch::from_json(version, name, schema, requests)?);
        }
        Ok(Monitor { version, tables })
    }

    /// Its dialect.
    pub fn version(&self) -> MonitorVersion {
        self.version
    }

    /// `<table-updates>` or `<table-updates2>` with the rows that are there now.
    pub fn initial(&self, db: &Database) -> Value {
        let mut updates = Map::new();
        for (name, watch) in &self.tables {
            let here = db.rows(name).filter(|(uuid, row)| watch.condition.any(uuid, row));
            let rows: Map<String, Value> = here
                .filter_map(|(uuid, row)| {
                    Some((uuid.to_string(), watch.tell(self.version, uuid, Event::Initial(row))?))
                })
                .collect();
            if !rows.is_empty() {
                updates.insert(name.clone(), Value::Object(rows));
            }
        }
        Value::Object(updates)
    }

    /// `<table-updates>` or `<table-updates2>` with what `commit` changed; `None` if that is
    /// nothing to this client.
    pub fn update(&self, commit: &Commit) -> Option<Value> {
        let mut updates = Map::new();
        for (name, watch) in &self.tables {
            let mut rows = Map::new();
            for (uuid, change) in commit.changes.table(name) {
                let visible = |row: &&Row| watch.condition.any(uuid, row);
                let event = match (change.old.as_deref().filter(visible), change.new.as_deref().filter(visible)) {
                    (Some(old), Some(new)) => Event::Modify(old, new),
                    (None, Some(new)) => Event::Insert(new),
                    (Some(old), None) => Event::Delete(old),
                    (None, None) => continue,
                };
                if let Some(update) = watch.tell(self.version, uuid, event) {
                    rows.insert(uuid.to_string(), update);
                }
            }
            if !rows.is_empty() {
                updates.insert(name.clone(), Value::Object(rows));
            }
        }
        (!updates.is_empty()).then_some(Value::Object(updates))
    }
}

impl Watch {
    fn from_json(
        version: MonitorVersion,
        table: &str,
        schema: &TableSchema,
        requests: &[Value],
    ) -> Result<Watch, OpError> {
        let mut watch = Watch { columns: Vec::new(), select: Select::default(), condition: Condition::default() };
        let mut clauses = Vec::new();
        let mut every_row = false;
        for request in requests {
            let request = Members::of(request, format!("table {table}"))?;
            if version == MonitorVersion::V1 {
                request.only(&["columns", "select"])?;
            } else {
                request.only(&["columns", "select", "where"])?;
            }
            let select = Select::from_json(request.optional("select", Some)?, table)?;
            let watched = |name: &str| {
                let (column, ty) = Column::find(schema, name)?;
                Some(WatchedColumn { name: name.to_owned(), column, ty, select })
            };
            let list = request.optional("columns", |v| v.is_array().then_some(v))?;
            let added = match list {
                Some(list) => named_columns(list, watched)?,
                // RFC 7047 §4.1.5: all but _uuid, which is there as the key.
                None => schema.columns.keys().map(String::as_str).chain(["_version"]).filter_map(watched).collect(),
            };
            for column in added {
                if watch.columns.iter().any(|c| c.name == column.name) {
                    let details = format!("column {} mentioned more than once", column.name);
                    return Err(OpError::syntax(list.unwrap_or(request.json()), details));
                }
                watch.columns.push(column);
            }
            watch.select = watch.select.or(select);
            match request.optional("where", Value::as_array)? {
                Some(list) if !list.is_empty() => clauses.extend_from_slice(list),
                _ => every_row = true,
            }
        }
        let condition = Condition::from_json(table, schema, &clauses, &mut NoSymbols)?;
        if !every_row {
            watch.condition = condition;
        }
        Ok(watch)
    }

    /// The `<row-update>` or `<row-update2>` for `event`; `None` if the client did not ask for it.
    fn tell(&self, version: MonitorVersion, uuid: &Uuid, event: Event<'_>) -> Option<Value> {
        if !self.select.has(event) {
            return None;
        }
        let asked = || self.columns.iter().filter(|c| c.select.has(event));
        let full = |row: &Row| -> Value {
            asked().map(|c| (c.name.clone(), c.column.value(uuid, row).to_json())).collect::<Map<_, _>>().into()
        };
        if version == MonitorVersion::V1 {
            return Some(match event {
                Event::Initial(new) | Event::Insert(new) => json!({ "new": full(new) }),
                Event::Delete(old) => json!({ "old": full(old) }),
                Event::Modify(before, new) => {
                    let changed = asked().filter(|c| c.column.value(uuid, before) != c.column.value(uuid, new));
                    let old: Map<_, _> =
                        changed.map(|c| (c.name.clone(), c.column.value(uuid, before).to_json())).collect();
                    if old.is_empty() {
                        return None;
                    }
                    json!({ "old": old, "new": full(new) })
                }
            });
        }
        let brief = |row: &Row| -> Value {
            let values = asked().map(|c| (c, c.column.value(uuid, row)));
            let said = values.filter(|(c, value)| !c.ty.is_default(value));
            said.map(|(c, value)| (c.name.clone(), value.to_json())).collect::<Map<_, _>>().into()
        };
        Some(match event {
            Event::Initial(new) => json!({ "initial": brief(new) }),
            Event::Insert(new) => json!({ "insert": brief(new) }),
            Event::Delete(_) => json!({ "delete": null }),
            Event::Modify(old, new) => {
                let values = asked().map(|c| (c, c.column.value(uuid, old), c.column.value(uuid, new)));
                let changed = values.filter(|(_, old, new)| old != new);
                let diff: Map<_, _> =
                    changed.map(|(c, old, new)| (c.name.clone(), c.ty.diff(&old, &new).to_json())).collect();
                if diff.is_empty() {
                    return None;
                }
                json!({ "modify": diff })
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vswitch_schema::vswitch_schema;

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
            error(V1, json!({"Queue": {"where": []}})),
            syntax("Parsing table Queue failed: Member 'where' is present but not allowed here.", json!({"where": []}))
        );
        assert_eq!(
            error(V2, json!({"Queue": {"where": 5}})),
            syntax("Parsing table Queue failed: Type mismatch for member 'where'.", json!({"where": 5}))
        );
        assert_eq!(
            error(V2, json!({"Bridge": [{"select": {"zz": true}}]})),
            syntax(
                "Parsing table Bridge select failed: Member 'zz' is present but not allowed here.",
                json!({"zz": true})
            )
        );
        assert_eq!(
            error(V2, json!({"Queue": [{"where": [["zz", "==", 1]]}]})),
            json!({"error": "unknown column", "details": "No column zz in table Queue.", "syntax": "[\"zz\",\"==\",1]"})
        );
    }
}
