//! What operations and monitors may name in a row: its columns, `_uuid` and `_version`.

use super::table::Row;
use crate::error::OpError;
use crate::schema::{BaseType, ColumnType, TableSchema};
use crate::value::{AtomType, Datum, Uuid};
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashSet;

/// A column that a request names.
#[derive(Clone, Debug)]
pub(super) enum Column {
    /// `_uuid`
    Uuid,
    /// `_version`
    Version,
    Named(String),
}

impl Column {
    /// The column `name` of a table and its type.
    pub fn find(schema: &TableSchema, name: &str) -> Option<(Column, ColumnType)> {
        let uuid = || ColumnType::scalar(BaseType::any(AtomType::Uuid));
        match name {
            "_uuid" => Some((Column::Uuid, uuid())),
            "_version" => Some((Column::Version, uuid())),
            _ => Some((Column::Named(name.to_owned()), schema.column(name)?.ty.clone())),
        }
    }

    /// What `row` has in this column.
    pub fn value<'r>(&self, uuid: &Uuid, row: &'r Row) -> Cow<'r, Datum> {
        match self {
            Column::Uuid => Cow::Owned(Datum::uuid(*uuid)),
            Column::Version => Cow::Owned(Datum::uuid(row.version())),
            Column::Named(name) => row.get(name).map_or_else(|| Cow::Owned(Datum::empty_set()), Cow::Borrowed),
        }
    }
}

/// Reads a list of distinct column names.
pub(super) fn named_columns<'v, C>(list: &'v Value, find: impl Fn(&'v str) -> Option<C>) -> Result<Vec<C>, OpError> {
    let indistinct = || OpError::syntax(list, "array of distinct column names expected");
    let mut seen = HashSet::new();
    let mut columns = Vec::new();
    for name in list.as_array().ok_or_else(indistinct)? {
        let name = name.as_str().ok_or_else(indistinct)?;
        columns.push(find(name).ok_or_else(|| OpError::syntax(list, format!("{name} is not a valid column name")))?);
        if !seen.insert(name) {
            return Err(indistinct());
        }
    }
    Ok(columns)
}
