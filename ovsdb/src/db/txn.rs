//! A transaction in the making: a layer of edited rows over the database.
//!
//! Reads see the edits, the database below stays as it is; only rows that are written to are
//! copied. Nothing is shared between threads and nothing is visible to others until
//! [`Database::apply`].

use super::table::{Row, Table};
use super::{Change, Changes, Database, Prepared, refs, unique};
use crate::error::OpError;
use crate::schema::{ColumnSchema, TableSchema};
use crate::value::{Datum, Uuid};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A transaction in the making; see [`Database::begin`].
pub struct Txn<'a> {
    pub(super) db: &'a Database,
    /// Per table, the rows that this transaction touched.
    pub(super) edits: BTreeMap<&'a str, BTreeMap<Uuid, Edit>>,
    comments: Vec<String>,
}

/// A touched row. `old` without `new` is a deletion, `new` without `old` an insertion; neither,
/// a row that this transaction inserted and deleted.
pub(super) struct Edit {
    pub old: Option<Arc<Row>>,
    pub new: Option<Row>,
}

impl<'a> Txn<'a> {
    pub(super) fn new(db: &'a Database) -> Txn<'a> {
        Txn { db, edits: BTreeMap::new(), comments: Vec::new() }
    }

    /// Adds a line to the record of this transaction in the log.
    pub fn comment(&mut self, text: impl Into<String>) {
        self.comments.push(text.into());
    }

    /// A row as this transaction sees it.
    pub fn row(&self, table: &str, uuid: &Uuid) -> Option<&Row> {
        match self.edit(table, uuid) {
            Some(edit) => edit.new.as_ref(),
            None => self.db.row(table, uuid),
        }
    }

    /// A table's rows as this transaction sees them.
    pub fn rows(&self, table: &str) -> impl Iterator<Item = (&Uuid, &Row)> {
        let edits = self.edits.get(table);
        let edited = edits.into_iter().flatten().filter_map(|(uuid, edit)| Some((uuid, edit.new.as_ref()?)));
        let untouched = self.db.rows(table).filter(move |(uuid, _)| edits.is_none_or(|e| !e.contains_key(uuid)));
        untouched.chain(edited)
    }

    /// If `wanted` names a value for each column of one of the table's indexes: the rows that alone can have them, in
    /// the order of [`Txn::rows`]. They are the one that has them in the database, and all that this transaction touched.
    pub(super) fn holders<'d>(&self, table: &str, wanted: impl Fn(&str) -> Option<&'d Datum>) -> Option<Vec<Uuid>> {
        let (name, schema, base) = self.db.table(table)?;
        let (holders, key) = base.unique.iter().zip(&schema.indexes).find_map(|(holders, index)| {
            let key: Option<Vec<Datum>> = index.iter().map(|column| wanted(column).cloned()).collect();
            Some((holders, key?))
        })?;
        let touched = self.edits.get(name).into_iter().flat_map(BTreeMap::keys).copied();
        let before = holders.get(&key).copied().filter(|uuid| self.edit(name, uuid).is_none());
        Some(before.into_iter().chain(touched).collect())
    }

    /// Inserts a row with these columns, all others at their defaults.
    pub fn insert<'c>(
        &mut self,
        table: &str,
        columns: impl IntoIterator<Item = (&'c str, Datum)>,
    ) -> Result<Uuid, OpError> {
        let uuid = Uuid::new_v4();
        self.insert_as(table, uuid, columns)?;
        Ok(uuid)
    }

    /// Inserts a row as `uuid`, which must be in use neither before nor in this transaction.
    pub fn insert_as<'c>(
        &mut self,
        table: &str,
        uuid: Uuid,
        columns: impl IntoIterator<Item = (&'c str, Datum)>,
    ) -> Result<(), OpError> {
        let (name, schema, base) = self.table(table)?;
        self.check_free(name, &uuid)?;
        let mut row = base.template.fork();
        for (column, datum) in columns {
            let ColumnSchema { ty, .. } = column_of(name, schema, column)?;
            if !ty.admits(&datum) {
                return Err(wrong_type(name, column, ty, &datum));
            }
            row.set(column, datum);
        }
        // The defaults too: some columns' constraints do not allow theirs.
        for (column, datum) in row.columns() {
            column_of(name, schema, column)?.ty.check(datum)?;
        }
        self.edits.entry(name).or_default().insert(uuid, Edit { old: None, new: Some(row) });
        Ok(())
    }

    /// May a row be inserted as `uuid`?
    pub(super) fn check_free(&self, table: &str, uuid: &Uuid) -> Result<(), OpError> {
        if self.db.row(table, uuid).is_none() && self.row(table, uuid).is_none() {
            return Ok(());
        }
        Err(OpError::new(
            "duplicate uuid",
            "This UUID would duplicate a UUID already present within the table or deleted within \
             the same transaction.",
        ))
    }

    /// Gives a column of a row a new value. Without effect if it has that value.
    pub fn set(&mut self, table: &str, uuid: &Uuid, column: &str, datum: Datum) -> Result<(), OpError> {
        let (name, schema, _) = self.table(table)?;
        let ColumnSchema { ty, mutable, .. } = column_of(name, schema, column)?;
        if !ty.admits(&datum) {
            return Err(wrong_type(name, column, ty, &datum));
        }
        ty.check(&datum)?;
        let Some(row) = self.row(name, uuid) else { return Err(no_row(name, uuid)) };
        if row.get(column) == Some(&datum) {
            return Ok(());
        }
        let inserted_here = self.edit(name, uuid).is_some_and(|e| e.old.is_none());
        if !mutable && !inserted_here {
            return Err(OpError::constraint(format!("Cannot update immutable column {column} in table {name}.")));
        }
        self.write(name, uuid, column, datum);
        Ok(())
    }

    /// Deletes a row.
    pub fn delete(&mut self, table: &str, uuid: &Uuid) -> Result<(), OpError> {
        let (name, ..) = self.table(table)?;
        if self.row(name, uuid).is_none() {
            return Err(no_row(name, uuid));
        }
        self.remove(name, uuid);
        Ok(())
    }

    /// Ends the transaction: checks it as a whole, collects garbage, and returns all its effects.
    pub fn finish(mut self) -> Result<Prepared, OpError> {
        self.drop_unchanged();
        if !self.edits.is_empty() {
            refs::count_and_collect(&mut self)?;
            self.check_max_rows()?;
            refs::drop_lost_weak(&mut self)?;
            self.drop_unchanged();
            unique::check(&self)?;
        }
        let change = |edit: Edit| Change { old: edit.old, new: edit.new.map(Arc::new) };
        let rows = |edits: BTreeMap<Uuid, Edit>| edits.into_iter().map(|(uuid, e)| (uuid, change(e))).collect();
        let tables = self.edits.into_iter().map(|(name, edits)| (name.to_owned(), rows(edits)));
        let comment = (!self.comments.is_empty()).then(|| self.comments.join("\n"));
        Ok(Prepared { changes: Changes(tables.collect()), comment, base: self.db.generation })
    }

    /// Forgets rows that ended as they began.
    fn drop_unchanged(&mut self) {
        for edits in self.edits.values_mut() {
            edits.retain(|_, edit| edit.old.as_deref() != edit.new.as_ref());
        }
        self.edits.retain(|_, edits| !edits.is_empty());
    }

    fn check_max_rows(&self) -> Result<(), OpError> {
        for (name, edits) in &self.edits {
            let (_, schema, base) = self.table(name)?;
            let Some(max) = schema.max_rows else { continue };
            let inserted = edits.values().filter(|e| e.old.is_none() && e.new.is_some()).count();
            let deleted = edits.values().filter(|e| e.old.is_some() && e.new.is_none()).count();
            let count = base.rows.len() + inserted - deleted;
            if count as u64 > max && inserted > 0 {
                return Err(OpError::constraint(format!(
                    "transaction causes \"{name}\" table to contain {count} rows, \
                     greater than the schema-defined limit of {max} row(s)"
                )));
            }
        }
        Ok(())
    }

    pub(super) fn edit(&self, table: &str, uuid: &Uuid) -> Option<&Edit> {
        self.edits.get(table)?.get(uuid)
    }

    /// Name (as long-lived as the database), schema and committed contents of a table.
    pub(super) fn table(&self, table: &str) -> Result<(&'a str, &'a TableSchema, &'a Table), OpError> {
        self.db.table(table).ok_or_else(|| no_table(table))
    }

    /// Sets a column, unchecked.
    pub(super) fn write(&mut self, table: &'a str, uuid: &Uuid, column: &str, datum: Datum) {
        if let Some(row) = self.open(table, uuid).and_then(|edit| edit.new.as_mut()) {
            row.set(column, datum);
        }
    }

    /// Deletes a row, unchecked.
    pub(super) fn remove(&mut self, table: &'a str, uuid: &Uuid) {
        let base = self.db.tables.get(table).and_then(|t| t.rows.get(uuid)).cloned();
        let edit = self.edits.entry(table).or_default().entry(*uuid).or_insert(Edit { old: base, new: None });
        edit.new = None;
    }

    /// The edit of a row that exists, made at need.
    fn open(&mut self, table: &'a str, uuid: &Uuid) -> Option<&mut Edit> {
        let edits = self.edits.entry(table).or_default();
        if !edits.contains_key(uuid) {
            let base = self.db.tables.get(table)?.rows.get(uuid)?;
            edits.insert(*uuid, Edit { old: Some(base.clone()), new: Some(base.fork()) });
        }
        edits.get_mut(uuid)
    }
}

pub(super) fn no_table(table: &str) -> OpError {
    OpError::new("syntax error", format!("No table named {table}."))
}

pub(super) fn no_column(table: &str, column: &str) -> OpError {
    OpError::new("unknown column", format!("No column {column} in table {table}."))
}

fn no_row(table: &str, uuid: &Uuid) -> OpError {
    OpError::new("not found", format!("No row {uuid} in table {table}."))
}

fn wrong_type(table: &str, column: &str, ty: &crate::schema::ColumnType, datum: &Datum) -> OpError {
    OpError::constraint(format!("{} in column {column} of table {table}, which holds {ty}", datum.to_json()))
}

pub(super) fn column_of<'s>(table: &str, schema: &'s TableSchema, column: &str) -> Result<&'s ColumnSchema, OpError> {
    schema.column(column).ok_or_else(|| no_column(table, column))
}
