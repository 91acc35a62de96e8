//! Unique indexes: no two rows of a table with the same values in an index's columns.

use super::table::index_key;
use super::txn::{Edit, Txn};
use crate::error::OpError;
use crate::schema::TableSchema;
use crate::value::{Datum, Uuid};
use std::collections::{BTreeMap, HashMap};

/// Checks all indexes of the tables that the transaction touched.
pub(super) fn check(txn: &Txn<'_>) -> Result<(), OpError> {
    for (&name, edits) in &txn.edits {
        let (_, schema, base) = txn.table(name)?;
        for (index, committed) in schema.indexes.iter().zip(&base.unique) {
            let clash = Clash { table: name, schema, index, edits };
            let mut mine: HashMap<Vec<Datum>, Uuid> = HashMap::new();
            for (uuid, edit) in edits {
                let Some(row) = &edit.new else { continue };
                let key = index_key(index, row);
                // A committed row that this transaction edits is compared as it is now.
                if let Some(other) = committed.get(&key).filter(|other| !edits.contains_key(other)) {
                    return Err(clash.error(&key, other, uuid));
                }
                if let Some(other) = mine.get(&key) {
                    return Err(clash.error(&key, other, uuid));
                }
                mine.insert(key, *uuid);
            }
        }
    }
    Ok(())
}

struct Clash<'t> {
    table: &'t str,
    schema: &'t TableSchema,
    index: &'t [String],
    edits: &'t BTreeMap<Uuid, Edit>,
}

impl Clash<'_> {
    fn error(&self, key: &[Datum], first: &Uuid, second: &Uuid) -> OpError {
        let names: Vec<String> = self.index.iter().map(|name| format!("\"{name}\"")).collect();
        OpError::constraint(format!(
            "Transaction causes multiple rows in \"{}\" table to have identical values ({}) for index on {} {}.  \
             First row, with UUID {first}, {}.  Second row, with UUID {second}, {}.",
            self.table,
            self.values(key),
            if names.len() == 1 { "column" } else { "columns" },
            names.join(" and "),
            self.story(key, first),
            self.story(key, second),
        ))
    }

    /// How the row came to clash.
    fn story(&self, key: &[Datum], uuid: &Uuid) -> String {
        let Some(edit) = self.edits.get(uuid) else {
            return "existed in the database before this transaction and was not modified by the transaction".into();
        };
        match edit.old.as_ref().map(|old| index_key(self.index, old)) {
            None => "was inserted by this transaction".into(),
            Some(before) if before == key => "existed in the database before this transaction, which modified some of \
                                              the row's columns but not any columns in this index"
                .into(),
            Some(before) => {
                format!("had the following index values before the transaction: {}", self.values(&before))
            }
        }
    }

    fn values(&self, key: &[Datum]) -> String {
        let columns = self.index.iter().filter_map(|name| self.schema.column(name));
        let text: Vec<String> = columns.zip(key).map(|(column, datum)| column.ty.to_text(datum)).collect();
        text.join(" and ")
    }
}
