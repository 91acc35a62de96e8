//! From the records of a database file to rows.
//!
//! A record is one transaction: `{"_date": ms, "_comment": text, TABLE: {UUID: {COLUMN: VALUE} | null}}`.
//! A row seen for the first time is inserted, its missing columns at their defaults; `null` deletes.
//! Under `"_is_diff": true`, as Open vSwitch writes, the value of a column that is not at its default is
//! the difference to it ([`ColumnType::apply_diff`]); otherwise it is the new value. We write plain values
//! and read both.
//!
//! The file may come from another version of the switch or from Open vSwitch: tables and columns that our
//! schema lacks are left out and listed, for the caller to report. A value that does not fit its column is
//! an error: the record's checksum was right, so it was written on purpose, and dropping it would
//! change the configuration behind its owner's back.

use crate::schema::{BaseType, ColumnType, DatabaseSchema, TableSchema, UNLIMITED};
use crate::value::{Datum, NoSymbols, Uuid, parse_uuid};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use thiserror::Error;

/// A row's columns, complete.
pub type Columns = BTreeMap<String, Datum>;

/// The content of a file.
#[derive(Debug, Default, PartialEq)]
pub struct Loaded {
    /// All rows by table.
    pub rows: BTreeMap<String, BTreeMap<Uuid, Columns>>,
    /// Tables (`T`) and columns (`T.c`) of the file that the schema does not have.
    pub unknown: BTreeSet<String>,
}

/// A record that makes no sense under the schema.
#[derive(Debug, Error, PartialEq)]
#[error("record {record}: {details}")]
pub struct LoadError {
    /// Its number as `ovsdb-tool show-log` counts; the schema is record 0.
    pub record: usize,
    /// What is wrong with it.
    pub details: String,
}

/// Replays `records` (without the schema record) over an empty database.
pub fn load(schema: &DatabaseSchema, records: &[Value]) -> Result<Loaded, LoadError> {
    let mut loaded = Loaded::default();
    for (index, record) in records.iter().enumerate() {
        loaded.replay(schema, record).map_err(|details| LoadError { record: index + 1, details })?;
    }
    Ok(loaded)
}

impl Loaded {
    fn replay(&mut self, schema: &DatabaseSchema, record: &Value) -> Result<(), String> {
        let record = record.as_object().ok_or("not a JSON object")?;
        let is_diff = record.get("_is_diff") == Some(&Value::Bool(true));
        for (name, rows) in record.iter().filter(|(name, _)| !name.starts_with('_')) {
            let Some(table) = schema.table(name) else {
                self.unknown.insert(name.clone());
                continue;
            };
            let rows = rows.as_object().ok_or_else(|| format!("table {name}: not a JSON object"))?;
            for (uuid, columns) in rows {
                self.replay_row(name, table, uuid, columns, is_diff)
                    .map_err(|why| format!("table {name}, row {uuid}: {why}"))?;
            }
        }
        Ok(())
    }

    fn replay_row(
        &mut self,
        name: &str,
        table: &TableSchema,
        uuid: &str,
        columns: &Value,
        is_diff: bool,
    ) -> Result<(), String> {
        let uuid = parse_uuid(uuid).ok_or("not a UUID")?;
        let rows = self.rows.entry(name.to_owned()).or_default();
        match columns {
            Value::Null => drop(rows.remove(&uuid)),
            Value::Object(columns) => {
                let row = rows.entry(uuid).or_insert_with(|| defaults(table));
                let unknown = set_columns(row, table, columns, is_diff)?;
                self.unknown.extend(unknown.iter().map(|column| format!("{name}.{column}")));
            }
            other => return Err(format!("neither an object nor null: {other}")),
        }
        Ok(())
    }
}

fn defaults(table: &TableSchema) -> Columns {
    table.columns.iter().map(|(name, column)| (name.clone(), column.ty.default_datum())).collect()
}

/// Returns the columns that the table does not have.
fn set_columns<'a>(
    row: &mut Columns,
    table: &TableSchema,
    columns: &'a Map<String, Value>,
    is_diff: bool,
) -> Result<Vec<&'a str>, String> {
    let mut unknown = Vec::new();
    for (name, value) in columns {
        let Some(column) = table.column(name) else {
            unknown.push(name.as_str());
            continue;
        };
        let old = row.get(name).filter(|old| is_diff && !column.ty.is_default(old));
        let new = new_value(&column.ty, old, value).map_err(|why| format!("column {name}: {why}"))?;
        row.insert(name.clone(), new);
    }
    Ok(unknown)
}

/// `value` as it stands, or as a difference to `old`.
fn new_value(ty: &ColumnType, old: Option<&Datum>, value: &Value) -> Result<Datum, String> {
    let Some(old) = old else {
        return Datum::from_json(ty, value, &mut NoSymbols).map_err(|e| e.to_string());
    };
    let diff = Datum::from_json(&unconstrained(ty), value, &mut NoSymbols).map_err(|e| e.to_string())?;
    let new = ty.apply_diff(old, &diff);
    ty.check(&new).map_err(|e| e.to_string())?;
    Ok(new)
}

/// The type of differences: as many elements as there are, and any, since some are on their way out.
fn unconstrained(ty: &ColumnType) -> ColumnType {
    ColumnType {
        key: BaseType::any(ty.key.ty),
        value: ty.value.as_ref().map(|value| BaseType::any(value.ty)),
        min: 0,
        max: UNLIMITED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vswitch_schema::vswitch_schema;
    use serde_json::json;

    const P: &str = "21cb839b-c01f-48ad-8139-67cf0df9ee00";
    const I: &str = "9c41fc23-10dc-4543-b974-0239caef36ac";

    fn column(loaded: &Loaded, table: &str, uuid: &str, column: &str) -> Value {
        let uuid = parse_uuid(uuid).expect("a UUID");
        loaded.rows[table][&uuid][column].to_json()
    }

    #[test]
    fn plain_records_replace_values() {
        let records = [
            json!({"Port": {P: {"name": "p", "interfaces": ["uuid", I], "trunks": ["set", [1, 2]]}}, "_date": 1}),
            json!({"Port": {P: {"trunks": ["set", [2, 3]], "tag": 5}}, "_comment": "c"}),
            json!({"Port": {P: {"tag": ["set", []]}}}),
        ];
        let loaded = load(&vswitch_schema(), &records).expect("fits");
        assert_eq!(column(&loaded, "Port", P, "trunks"), json!(["set", [2, 3]]));
        assert_eq!(column(&loaded, "Port", P, "tag"), json!(["set", []]));
        assert_eq!(column(&loaded, "Port", P, "fake_bridge"), json!(false), "a default");
    }

    /// As `ovsdb-server` 3.1 wrote it.
    #[test]
    fn differences_apply_to_what_is_not_at_its_default() {
        let records = [
            json!({"_is_diff": true, "Port": {P: {"name": "p1", "interfaces": ["uuid", I]}}}),
            json!({"_is_diff": true, "Interface": {I: {"name": "p1", "options": ["map", [["a", "1"], ["b", "2"]]]}}}),
            json!({"_is_diff": true, "Interface": {I: {"options": ["map", [["c", "3"]]]}}}),
            json!({"_is_diff": true, "Interface": {I: {"options": ["map", [["a", "1"], ["b", "9"]]]}}}),
            json!({"_is_diff": true, "Port": {P: {"trunks": ["set", [1, 2, 3]]}}}),
            json!({"_is_diff": true, "Port": {P: {"trunks": ["set", [1, 4]], "tag": 5}}}),
            json!({"_is_diff": true, "Port": {P: {"tag": 6}}}),
        ];
        let loaded = load(&vswitch_schema(), &records).expect("fits");
        assert_eq!(column(&loaded, "Port", P, "trunks"), json!(["set", [2, 3, 4]]));
        assert_eq!(column(&loaded, "Port", P, "tag"), json!(6));
        assert_eq!(column(&loaded, "Interface", I, "options"), json!(["map", [["b", "9"], ["c", "3"]]]));
        let gone = json!({"_is_diff": true, "Interface": {I: null}, "Port": {P: {"tag": ["set", []]}}});
        let loaded = load(&vswitch_schema(), &[&records[..], &[gone]].concat()).expect("fits");
        assert!(loaded.rows["Interface"].is_empty());
        assert_eq!(column(&loaded, "Port", P, "tag"), json!(["set", []]));
    }

    #[test]
    fn what_the_schema_lacks_is_left_out_and_listed() {
        let records = [json!({"Port": {P: {"colour": "red", "interfaces": ["uuid", I]}}, "Moon": {P: {}}})];
        let loaded = load(&vswitch_schema(), &records).expect("the rest fits");
        assert_eq!(loaded.unknown, BTreeSet::from(["Moon".to_owned(), "Port.colour".to_owned()]));
        assert_eq!(column(&loaded, "Port", P, "interfaces"), json!(["uuid", I]));
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_names_the_place() {
        let error = |record: Value| load(&vswitch_schema(), &[json!({}), record]).expect_err("wrong").to_string();
        let text = error(json!({"Port": {P: {"tag": 4096}}}));
        assert!(text.starts_with(&format!("record 2: table Port, row {P}: column tag: constraint violation: 4096")));
        assert_eq!(error(json!([])), "record 2: not a JSON object");
        assert_eq!(error(json!({"Port": []})), "record 2: table Port: not a JSON object");
        assert_eq!(error(json!({"Port": {"x": {}}})), "record 2: table Port, row x: not a UUID");
        assert!(error(json!({"Port": {P: 5}})).ends_with("neither an object nor null: 5"));
        assert!(error(json!({"_is_diff": true, "Port": {P: {"trunks": "x"}}})).contains("column trunks: syntax error"));
    }
}
