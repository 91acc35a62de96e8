//! What a client that monitors tables is told: `monitor` (RFC 7047 §4.1.5) and its successors
//! `monitor_cond` and `monitor_cond_since` (ovsdb-server(7)).
//!
//! A monitor is read from its request once; only its conditions may change later, by
//! `monitor_cond_change`. It holds no state about the client: what to tell of a commit follows from the
//! commit alone. So every client sees every commit whole, in order, or not at all.

mod change;
#[cfg(test)]
mod tests;

use super::column::{Column, named_columns};
use super::condition::Condition;
use super::table::Row;
use super::{Commit, Database};
use crate::error::OpError;
use crate::members::Members;
use crate::schema::{ColumnType, TableSchema};
use crate::value::{NoSymbols, Uuid, object};
use serde_json::{Map, Value};
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
            let select = Select::from_json(request.optional("select", |v| v.is_object().then_some(v))?, table)?;
            let watched = |name: &str| {
                let (column, ty) = Column::find(schema, name)?;
                Some(WatchedColumn { name: name.to_owned(), column, ty, select })
            };
            let list = request.optional("columns", |v| v.is_array().then_some(v))?;
            let added = match list {
                Some(list) => named_columns(list, "array of column names expected", watched)?,
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
                Event::Initial(new) | Event::Insert(new) => object([("new", full(new))]),
                Event::Delete(old) => object([("old", full(old))]),
                Event::Modify(before, new) => {
                    let changed = asked().filter(|c| c.column.value(uuid, before) != c.column.value(uuid, new));
                    let old: Map<_, _> =
                        changed.map(|c| (c.name.clone(), c.column.value(uuid, before).to_json())).collect();
                    if old.is_empty() {
                        return None;
                    }
                    object([("old", old.into()), ("new", full(new))])
                }
            });
        }
        let brief = |row: &Row| -> Value {
            let values = asked().map(|c| (c, c.column.value(uuid, row)));
            let said = values.filter(|(c, value)| !c.ty.is_default(value));
            said.map(|(c, value)| (c.name.clone(), value.to_json())).collect::<Map<_, _>>().into()
        };
        Some(match event {
            Event::Initial(new) => object([("initial", brief(new))]),
            Event::Insert(new) => object([("insert", brief(new))]),
            Event::Delete(_) => object([("delete", Value::Null)]),
            Event::Modify(old, new) => {
                let values = asked().map(|c| (c, c.column.value(uuid, old), c.column.value(uuid, new)));
                let changed = values.filter(|(_, old, new)| old != new);
                let diff: Map<_, _> =
                    changed.map(|(c, old, new)| (c.name.clone(), c.ty.diff(&old, &new).to_json())).collect();
                if diff.is_empty() {
                    return None;
                }
                object([("modify", diff.into())])
            }
        })
    }
}
