//! What operations and monitors may name in a row: its columns, `_uuid` and `_version`.

use super::table::Row;
use crate::error::OpError;
use crate::schema::{BaseType, ColumnType, TableSchema};
use crate::value::{AtomType, Datum, Uuid};
use serde_json::Value;
use std::borrow::Cow;

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

/// Reads a list of column names; `expected` says what it should have been.
pub(super) fn named_columns<'v, C>(
    list: &'v Value,
    expected: &str,
    find: impl Fn(&'v str) -> Option<C>,
) -> Result<Vec<C>, OpError> {
    let unexpected = || OpError::syntax(list, expected);
    let column = |name: &'v Value| {
        let name = name.as_str().ok_or_else(unexpected)?;
        find(name).ok_or_else(|| OpError::syntax(list, format!("{name} is not a valid column name")))
    };
    list.as_array().ok_or_else(unexpected)?.iter().map(column).collect()
}
