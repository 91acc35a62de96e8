//! The database: tables of rows, changed by atomic transactions.
//!
//! ```text
//!  JSON operations ── execute ─┐                              ┌─ log
//!                              ├─► Txn ── finish ─► Prepared ─┤
//!  the daemon's own ── begin ──┘                              └─ apply ─► Commit ─► monitors
//! ```
//!
//! Invariants between two commits: every value keeps to its column's type and constraints, strong
//! references hold, no weak reference dangles, indexes are unique, no table exceeds its `maxRows`,
//! no garbage is left. A transaction either establishes them again or has no effect.
//!
//! One owner, one thread: nothing here locks. A prepared transaction is only good for the state
//! it was made from.

mod changes;
mod column;
mod condition;
mod disk;
mod execute;
#[cfg(test)]
pub(crate) mod faults;
pub mod load;
pub mod lock;
pub mod log;
mod monitor;
mod mutation;
mod record;
mod refs;
pub mod store;
mod table;
mod txn;
mod unique;

#[cfg(test)]
mod crash_test;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod tests;

pub use changes::{Change, Changes};
pub use execute::Caller;
pub use monitor::{Monitor, MonitorVersion};
pub use table::Row;
pub use txn::Txn;

use crate::schema::{DatabaseSchema, RefType, TableSchema};
use crate::value::Uuid;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use table::{Table, index_key};

/// A database of one schema.
#[derive(Clone, Debug)]
pub struct Database {
    schema: DatabaseSchema,
    tables: BTreeMap<String, Table>,
    /// Counts commits.
    generation: u64,
}

/// What became of a list of operations.
#[derive(Debug)]
pub struct Executed {
    /// The `result` array of the reply.
    pub reply: Value,
    /// The effects, to be logged and applied; `None` if the transaction failed or changed nothing.
    pub prepared: Option<Prepared>,
    /// A `commit` operation asked for durability.
    pub durable: bool,
    /// The transaction failed at a `wait` that may still come true: its operations may be executed
    /// again after a later commit, until this much time has passed since they were executed first
    /// ([`Duration::MAX`]: that wait has no timeout).
    pub blocked: Option<Duration>,
}

/// A transaction that is checked and complete, but not yet in effect.
#[derive(Debug)]
pub struct Prepared {
    /// All effects.
    pub changes: Changes,
    /// Its `comment` operations, one a line.
    pub comment: Option<String>,
    /// The generation that it was made from.
    base: u64,
}

/// A transaction in effect.
#[derive(Clone, Debug)]
pub struct Commit {
    /// All effects.
    pub changes: Arc<Changes>,
    /// Its `comment` operations, one a line.
    pub comment: Option<String>,
}

impl Database {
    /// An empty database.
    pub fn new(schema: DatabaseSchema) -> Database {
        let tables = schema.tables.iter().map(|(name, table)| (name.clone(), Table::new(table))).collect();
        Database { schema, tables, generation: 0 }
    }

    /// Its schema.
    pub fn schema(&self) -> &DatabaseSchema {
        &self.schema
    }

    /// A row; `None` if there is no such row or table.
    pub fn row(&self, table: &str, uuid: &Uuid) -> Option<&Row> {
        self.tables.get(table)?.rows.get(uuid).map(|row| &**row)
    }

    /// The rows of a table in the order of their identifiers; none if there is no such table.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = (&Uuid, &Row)> {
        let rows = self.tables.get(table).map(|t| &t.rows);
        rows.into_iter().flatten().map(|(uuid, row)| (uuid, &**row))
    }

    /// Runs operations of RFC 7047 §5.2, that is, the parameters of `transact` after the database's
    /// name. The database stays as it is until the result is applied.
    pub fn execute(&self, ops: &[Value]) -> Executed {
        self.execute_for(ops, Caller::NOBODY)
    }

    /// The same for a certain client.
    pub fn execute_for(&self, ops: &[Value], caller: Caller<'_>) -> Executed {
        execute::execute(self, ops, caller)
    }

    /// Starts a transaction of the process itself.
    pub fn begin(&self) -> Txn<'_> {
        Txn::new(self)
    }

    /// Makes a prepared transaction the state.
    ///
    /// It must have been prepared from this very state: nothing was applied in between.
    pub fn apply(&mut self, prepared: Prepared) -> Commit {
        debug_assert_eq!(prepared.base, self.generation, "a transaction outdated by another");
        self.generation += 1;
        let Prepared { changes, comment, .. } = prepared;
        // All old rows out before the new ones come in: two rows may have swapped index values.
        for (table, uuid, change) in each(&changes) {
            if let Some(old) = &change.old {
                self.remove(table, uuid, old);
            }
        }
        for (table, uuid, change) in each(&changes) {
            if let Some(new) = &change.new {
                self.put(table, uuid, new.clone());
            }
        }
        Commit { changes: Arc::new(changes), comment }
    }

    /// The whole content as the insertion of every row, for a new log or for whoever starts late.
    pub fn contents(&self) -> Changes {
        let change = |row: &Arc<Row>| Change { old: None, new: Some(row.clone()) };
        let rows = |table: &Table| table.rows.iter().map(|(uuid, row)| (*uuid, change(row))).collect();
        let tables = self.tables.iter().filter(|(_, table)| !table.rows.is_empty());
        Changes(tables.map(|(name, table)| (name.clone(), rows(table))).collect())
    }

    /// A table's name (as long-lived as the database), schema and contents.
    fn table(&self, name: &str) -> Option<(&str, &TableSchema, &Table)> {
        let (name, schema) = self.schema.tables.get_key_value(name)?;
        Some((name, schema, self.tables.get(name)?))
    }

    fn remove(&mut self, name: &str, uuid: &Uuid, row: &Row) {
        let (Some(table), Some(schema)) = (self.tables.get_mut(name), self.schema.tables.get(name)) else { return };
        table.rows.remove(uuid);
        for (map, index) in table.unique.iter_mut().zip(&schema.indexes) {
            map.remove(&index_key(index, row));
        }
        for (target, ty, to) in references(table, row) {
            let Some(target) = self.tables.get_mut(&target) else { continue };
            match ty {
                RefType::Strong => {
                    if let Some(count) = target.strong.get_mut(&to) {
                        *count -= 1;
                        if *count == 0 {
                            target.strong.remove(&to);
                        }
                    }
                }
                RefType::Weak => {
                    if let Some(from) = target.weak.get_mut(&to) {
                        from.remove(&(name.to_owned(), *uuid));
                        if from.is_empty() {
                            target.weak.remove(&to);
                        }
                    }
                }
            }
        }
    }

    fn put(&mut self, name: &str, uuid: &Uuid, row: Arc<Row>) {
        let (Some(table), Some(schema)) = (self.tables.get_mut(name), self.schema.tables.get(name)) else { return };
        for (map, index) in table.unique.iter_mut().zip(&schema.indexes) {
            map.insert(index_key(index, &row), *uuid);
        }
        let references = references(table, &row);
        table.rows.insert(*uuid, row);
        for (target, ty, to) in references {
            let Some(target) = self.tables.get_mut(&target) else { continue };
            match ty {
                RefType::Strong => *target.strong.entry(to).or_default() += 1,
                RefType::Weak => {
                    target.weak.entry(to).or_default().insert((name.to_owned(), *uuid));
                }
            }
        }
    }
}

fn each(changes: &Changes) -> impl Iterator<Item = (&str, &Uuid, &Change)> {
    changes.0.iter().flat_map(|(table, rows)| rows.iter().map(move |(uuid, change)| (table.as_str(), uuid, change)))
}

/// All that `row` of `table` refers to: table, kind, row.
fn references(table: &Table, row: &Row) -> Vec<(String, RefType, Uuid)> {
    let all = table.references.iter().flat_map(|r| r.targets(row).map(|to| (r.target.clone(), r.ty, to)));
    all.collect()
}
