//! `monitor_cond_change` (ovsdb-server(7) §4.1.13): other conditions for a monitor.

use super::{Event, Monitor, MonitorVersion};
use crate::db::Database;
use crate::db::condition::Condition;
use crate::error::OpError;
use crate::members::Members;
use crate::schema::TableSchema;
use crate::value::NoSymbols;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

impl Monitor {
    /// Replaces the conditions of the tables in `<monitor-cond-update-requests>`; all or, on an error, none.
    /// Returns `<table-updates2>` with the rows that thereby come and go for the client, if there are any.
    /// A V1 monitor has no conditions and keeps having none.
    pub fn change_conditions(&mut self, requests: &Value, db: &Database) -> Result<Option<Value>, OpError> {
        let by_table = requests
            .as_object()
            .ok_or_else(|| OpError::new("syntax error", "monitor-cond-change-requests must be object"))?;
        let mut conditions = BTreeMap::new();
        for (name, requests) in by_table {
            let schema = db.schema().table(name);
            let schema = schema.ok_or_else(|| OpError::new("syntax error", format!("no table named {name}")))?;
            if !self.tables.contains_key(name) {
                return Err(OpError::new("syntax error", format!("no table named {name} in monitor session")));
            }
            if let Some(condition) = read(name, schema, requests)? {
                conditions.insert(name, condition);
            }
        }
        if self.version == MonitorVersion::V1 {
            return Ok(None);
        }
        let mut updates = Map::new();
        for (name, condition) in conditions {
            let rows = self.change_condition(name, condition, db);
            if !rows.is_empty() {
                updates.insert(name.clone(), Value::Object(rows));
            }
        }
        Ok((!updates.is_empty()).then_some(Value::Object(updates)))
    }

    fn change_condition(&mut self, name: &str, condition: Condition, db: &Database) -> Map<String, Value> {
        let mut rows = Map::new();
        let Some(watch) = self.tables.get_mut(name) else { return rows };
        let old = std::mem::replace(&mut watch.condition, condition);
        for (uuid, row) in db.rows(name) {
            let event = match (old.any(uuid, row), watch.condition.any(uuid, row)) {
                (false, true) => Event::Insert(row),
                (true, false) => Event::Delete(row),
                _ => continue,
            };
            if let Some(update) = watch.tell(self.version, uuid, event) {
                rows.insert(uuid.to_string(), update);
            }
        }
        rows
    }
}

/// The condition that several requests for a table make together; `None` if there is no request.
fn read(table: &str, schema: &TableSchema, requests: &Value) -> Result<Option<Condition>, OpError> {
    let list = requests
        .as_array()
        .ok_or_else(|| OpError::new("syntax error", format!("table {table} no monitor-cond-change JSON array")))?;
    let (mut clauses, mut every_row) = (Vec::new(), false);
    for request in list {
        let request = Members::of(request, format!("table {table}"))?;
        request.only(&["columns", "where"])?;
        if request.optional("columns", Value::as_array)?.is_some() {
            return Err(OpError::syntax(request.json(), "changing columns is unsupported"));
        }
        match request.optional("where", Value::as_array)? {
            Some(list) if !list.is_empty() => clauses.extend_from_slice(list),
            _ => every_row = true,
        }
    }
    let condition = Condition::from_json(table, schema, &clauses, &mut NoSymbols)?;
    Ok((!list.is_empty()).then(|| if every_row { Condition::default() } else { condition }))
}
