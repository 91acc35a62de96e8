//! What a transaction changed, row by row.

use super::table::Row;
use crate::schema::{DatabaseSchema, TableSchema};
use crate::value::{Datum, Uuid};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The effects of one transaction, garbage collection and lost weak references included:
/// table → row → change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes(pub BTreeMap<String, BTreeMap<Uuid, Change>>);

/// One row before and after. An inserted row has no `old`, a deleted one no `new`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The row before; `None` if the transaction inserted it.
    pub old: Option<Arc<Row>>,
    /// The row after; `None` if the transaction deleted it.
    pub new: Option<Arc<Row>>,
}

impl Change {
    /// The columns that differ, with the old and new value: none for an insertion or deletion.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Datum, &Datum)> {
        let both = self.old.as_deref().zip(self.new.as_deref());
        both.into_iter()
            .flat_map(|(old, new)| old.columns().zip(new.columns()).map(|((name, old), (_, new))| (name, old, new)))
            .filter(|(_, old, new)| old != new)
    }

    /// Is there anything in it that belongs on disk?
    fn is_persistent(&self, schema: &TableSchema) -> bool {
        match (&self.old, &self.new) {
            (Some(_), Some(_)) => self.columns().any(|(name, ..)| on_disk(schema, name)),
            _ => true,
        }
    }

    /// A `<row-txn>` of ovsdb(5): `null`, or the columns of an inserted row that are not at their
    /// default, or the columns that changed.
    fn to_log(&self, schema: &TableSchema) -> Value {
        let Some(new) = &self.new else { return Value::Null };
        let said = |name: &str, new: &Datum| match &self.old {
            None => schema.column(name).is_some_and(|c| !c.ty.is_default(new)),
            Some(old) => old.get(name) != Some(new),
        };
        let columns = new.columns().filter(|&(name, datum)| on_disk(schema, name) && said(name, datum));
        Value::Object(columns.map(|(name, datum)| (name.to_owned(), datum.to_json())).collect())
    }
}

fn on_disk(schema: &TableSchema, column: &str) -> bool {
    schema.column(column).is_some_and(|c| !c.ephemeral)
}

impl Changes {
    /// Did nothing change?
    pub fn is_empty(&self) -> bool {
        self.0.values().all(BTreeMap::is_empty)
    }

    /// Did anything change that outlives the process, that is, other than ephemeral columns?
    pub fn has_persistent(&self, schema: &DatabaseSchema) -> bool {
        self.each(schema).any(|(_, table, _, change)| change.is_persistent(table))
    }

    /// The body of a log record (ovsdb(5), standalone format, plain values), without `_date` and
    /// `_comment`. An empty object if nothing persistent changed.
    pub fn to_log(&self, schema: &DatabaseSchema) -> Value {
        let mut record: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
        for (name, table, uuid, change) in self.each(schema).filter(|(_, t, _, c)| c.is_persistent(t)) {
            record.entry(name).or_default().insert(uuid.to_string(), change.to_log(table));
        }
        Value::Object(record.into_iter().map(|(name, rows)| (name.to_owned(), Value::Object(rows))).collect())
    }

    /// The change of a row, if it changed.
    pub fn row(&self, table: &str, uuid: &Uuid) -> Option<&Change> {
        self.0.get(table)?.get(uuid)
    }

    /// The changes of a table.
    pub fn table(&self, table: &str) -> impl Iterator<Item = (&Uuid, &Change)> {
        self.0.get(table).into_iter().flatten()
    }

    fn each<'a>(
        &'a self,
        schema: &'a DatabaseSchema,
    ) -> impl Iterator<Item = (&'a str, &'a TableSchema, &'a Uuid, &'a Change)> {
        self.0
            .iter()
            .filter_map(|(name, rows)| Some((name.as_str(), schema.table(name)?, rows)))
            .flat_map(|(name, table, rows)| rows.iter().map(move |(uuid, change)| (name, table, uuid, change)))
    }
}
