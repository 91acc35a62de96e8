//! Database schemas (RFC 7047 §3.2): tables, columns, their types and constraints.
//!
//! A schema is read once, checked as a whole ([`DatabaseSchema::from_json`]) and immutable from
//! then on, so code behind it may rely on: `1 ≥ min`, `min ≤ max`, an enum's members have the
//! type they restrict, every referenced table and every indexed column exists.

use crate::error::OpError;
use crate::members::{Members, id};
use crate::value::is_id;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub use crate::column_type::{BaseType, ColumnType, Limits, RefType, UNLIMITED};

/// A `<database-schema>`.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseSchema {
    /// The database's name.
    pub name: String,
    /// The schema's version, `x.y.z`.
    pub version: String,
    /// A check sum of the schema's file; nothing interprets it. May be empty.
    pub cksum: String,
    /// Tables by name.
    pub tables: BTreeMap<String, TableSchema>,
}

/// A `<table-schema>`.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSchema {
    /// Columns by name, without `_uuid` and `_version`.
    pub columns: BTreeMap<String, ColumnSchema>,
    /// At most so many rows.
    pub max_rows: Option<u64>,
    /// Rows live on without being referenced.
    pub is_root: bool,
    /// Sets of columns whose values together are unique.
    pub indexes: Vec<Vec<String>>,
}

/// A `<column-schema>`.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnSchema {
    /// What the column holds.
    pub ty: ColumnType,
    /// Never written to disk.
    pub ephemeral: bool,
    /// May change after the row's insertion.
    pub mutable: bool,
}

impl DatabaseSchema {
    /// Reads and checks a `<database-schema>`.
    pub fn from_json(v: &Value) -> Result<DatabaseSchema, OpError> {
        let object = Members::of(v, "database schema")?;
        object.only(&["name", "version", "cksum", "tables"])?;
        let mut schema = DatabaseSchema {
            name: object.required("name", id)?.to_owned(),
            version: object.optional("version", Value::as_str)?.unwrap_or_default().to_owned(),
            cksum: object.optional("cksum", Value::as_str)?.unwrap_or_default().to_owned(),
            tables: BTreeMap::new(),
        };
        for (name, table) in object.required("tables", Value::as_object)? {
            check_name(name, v)?;
            schema.tables.insert(name.clone(), TableSchema::from_json(table)?);
        }
        // RFC 7047 §3.2: a schema that names no root set has no garbage collection.
        if !schema.tables.values().any(|t| t.is_root) {
            schema.tables.values_mut().for_each(|t| t.is_root = true);
        }
        schema.check_references()?;
        Ok(schema)
    }

    /// The `<database-schema>`, everything that equals its default left out.
    pub fn to_json(&self) -> Value {
        let all_roots = self.tables.values().all(|t| t.is_root);
        let tables: Map<String, Value> =
            self.tables.iter().map(|(name, table)| (name.clone(), table.to_json(all_roots))).collect();
        let mut v = json!({"name": self.name, "version": self.version, "tables": tables});
        if !self.cksum.is_empty() {
            v["cksum"] = json!(self.cksum);
        }
        v
    }

    /// The table called `name`.
    pub fn table(&self, name: &str) -> Option<&TableSchema> {
        self.tables.get(name)
    }

    fn check_references(&self) -> Result<(), OpError> {
        for (name, table) in &self.tables {
            for (column, schema) in &table.columns {
                let bases = [Some(&schema.ty.key), schema.ty.value.as_ref()];
                for target in bases.into_iter().flatten().filter_map(|b| b.ref_table.as_ref()) {
                    if !self.tables.contains_key(target) {
                        return Err(OpError::new(
                            "syntax error",
                            format!("column {column} of table {name} refers to undefined table {target}"),
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

impl TableSchema {
    /// Reads a `<table-schema>`.
    pub fn from_json(v: &Value) -> Result<TableSchema, OpError> {
        let object = Members::of(v, "table schema")?;
        object.only(&["columns", "maxRows", "isRoot", "indexes"])?;
        let mut columns = BTreeMap::new();
        for (name, column) in object.required("columns", Value::as_object)? {
            check_name(name, v)?;
            if name.starts_with('_') {
                return Err(OpError::syntax(v, format!("column name {name} begins with an underscore")));
            }
            columns.insert(name.clone(), ColumnSchema::from_json(column)?);
        }
        let max_rows = object.optional("maxRows", |n| n.as_u64().filter(|&n| n > 0))?;
        let indexes = match object.optional("indexes", Some)? {
            None => Vec::new(),
            Some(list) => indexes_from_json(list, &columns)?,
        };
        let is_root = object.optional("isRoot", Value::as_bool)?.unwrap_or(false);
        Ok(TableSchema { columns, max_rows, is_root, indexes })
    }

    /// The `<table-schema>`; `all_roots`: no table of the database needs to say that it is one.
    fn to_json(&self, all_roots: bool) -> Value {
        let columns: Map<String, Value> =
            self.columns.iter().map(|(name, column)| (name.clone(), column.to_json())).collect();
        let mut v = json!({ "columns": columns });
        if let Some(n) = self.max_rows {
            v["maxRows"] = json!(n);
        }
        if self.is_root && !all_roots {
            v["isRoot"] = json!(true);
        }
        if !self.indexes.is_empty() {
            v["indexes"] = json!(self.indexes);
        }
        v
    }

    /// The column called `name`.
    pub fn column(&self, name: &str) -> Option<&ColumnSchema> {
        self.columns.get(name)
    }
}

fn indexes_from_json(v: &Value, columns: &BTreeMap<String, ColumnSchema>) -> Result<Vec<Vec<String>>, OpError> {
    let bad = || OpError::syntax(v, "indexes must be a list of non-empty lists of this table's columns");
    let index = |list: &Value| {
        let names = list.as_array().filter(|l| !l.is_empty()).ok_or_else(bad)?;
        let name = |n: &Value| match n.as_str() {
            Some(n) if columns.contains_key(n) => Ok(n.to_owned()),
            _ => Err(bad()),
        };
        names.iter().map(name).collect()
    };
    v.as_array().ok_or_else(bad)?.iter().map(index).collect()
}

impl ColumnSchema {
    /// Reads a `<column-schema>`.
    pub fn from_json(v: &Value) -> Result<ColumnSchema, OpError> {
        let object = Members::of(v, "column schema")?;
        object.only(&["type", "ephemeral", "mutable"])?;
        Ok(ColumnSchema {
            ty: ColumnType::from_json(object.required("type", Some)?)?,
            ephemeral: object.optional("ephemeral", Value::as_bool)?.unwrap_or(false),
            mutable: object.optional("mutable", Value::as_bool)?.unwrap_or(true),
        })
    }

    /// The `<column-schema>`.
    pub fn to_json(&self) -> Value {
        let mut v = json!({"type": self.ty.to_json()});
        if self.ephemeral {
            v["ephemeral"] = json!(true);
        }
        if !self.mutable {
            v["mutable"] = json!(false);
        }
        v
    }
}

fn check_name(name: &str, at: &Value) -> Result<(), OpError> {
    if is_id(name) { Ok(()) } else { Err(OpError::syntax(at, format!("\"{name}\" is not a valid name"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(tables: Value) -> Result<DatabaseSchema, String> {
        let schema = json!({"name": "T", "version": "1.0.0", "tables": tables});
        DatabaseSchema::from_json(&schema).map_err(|e| e.details)
    }

    /// A schema whose only column has this type.
    fn column(ty: Value) -> Result<ColumnType, String> {
        let mut schema = read(json!({"A": {"columns": {"c": {"type": ty}}}}))?;
        let mut table = schema.tables.remove("A").unwrap();
        Ok(table.columns.remove("c").unwrap().ty)
    }

    #[test]
    fn limits_of_every_type_survive() {
        for ty in [
            json!("real"),
            json!({"key": {"type": "integer", "minInteger": -1}}),
            json!({"key": {"type": "real", "minReal": 0.5, "maxReal": 1.5}, "min": 0}),
            json!({"key": {"type": "string", "minLength": 1, "maxLength": 8}, "max": 3}),
            json!({"key": {"type": "string", "enum": ["set", ["a", "b"]]}, "value": "uuid", "max": "unlimited"}),
            json!({"key": {"type": "uuid", "refTable": "A", "refType": "weak"}, "min": 0, "max": "unlimited"}),
            json!({"key": "boolean", "value": {"type": "uuid", "refTable": "A"}, "min": 0}),
        ] {
            assert_eq!(column(ty.clone()).unwrap().to_json(), ty);
        }
        // What says nothing is not said again.
        let verbose = json!({"key": {"type": "string", "minLength": 0}, "min": 1, "max": 1});
        assert_eq!(column(verbose).unwrap().to_json(), json!("string"));
    }

    #[test]
    fn types_in_words() {
        let words = |ty: Value| column(ty).unwrap().to_string();
        assert_eq!(words(json!("integer")), "integer");
        assert_eq!(words(json!({"key": "integer", "min": 0})), "set of up to 1 integers");
        assert_eq!(words(json!({"key": "string", "max": 3})), "set of 1 to 3 strings");
        assert_eq!(words(json!({"key": "string", "max": "unlimited"})), "set of 1 or more strings");
        let map = json!({"key": "string", "value": "uuid", "min": 0, "max": "unlimited"});
        assert_eq!(words(map), "map of (string, uuid) pairs");
    }

    #[test]
    fn defaults() {
        let default = |ty: Value| {
            let ty = column(ty).unwrap();
            let datum = ty.default_datum();
            assert!(ty.is_default(&datum) && ty.admits(&datum));
            datum.to_json()
        };
        assert_eq!(default(json!("integer")), json!(0));
        assert_eq!(default(json!("real")), json!(0.0));
        assert_eq!(default(json!("boolean")), json!(false));
        assert_eq!(default(json!("string")), json!(""));
        assert_eq!(default(json!("uuid")), json!(["uuid", "00000000-0000-0000-0000-000000000000"]));
        assert_eq!(default(json!({"key": "integer", "min": 0})), json!(["set", []]));
        assert_eq!(default(json!({"key": "integer", "max": 2})), json!(0));
        assert_eq!(default(json!({"key": "integer", "value": "string", "min": 0})), json!(["map", []]));
        assert_eq!(default(json!({"key": "integer", "value": "string"})), json!(["map", [[0, ""]]]));
    }

    /// A schema comes with every database file: whoever wrote it, a wrong one is refused.
    #[test]
    fn refusals() {
        for (ty, complaint) in [
            (json!("colour"), "\"colour\" is not an atomic type"),
            (json!(5), "Object expected"),
            (json!({"min": 0}), "Required 'key' member is missing"),
            (json!({"key": "string", "min": 2, "max": 2}), "'min' must be 0 or 1"),
            (json!({"key": "string", "max": 0}), "'max' at least 1"),
            (json!({"key": "string", "max": "many"}), "Type mismatch for member 'max'"),
            (json!({"key": "string", "mix": 1}), "Member 'mix' is present"),
            (json!({"key": {"type": "integer", "minInteger": 2, "maxInteger": 1}}), "minimum exceeds"),
            (json!({"key": {"type": "string", "minInteger": 2}}), "Member 'minInteger' is present"),
            (json!({"key": {"type": "boolean", "maxLength": 2}}), "Member 'maxLength' is present"),
            (json!({"key": {"type": "string", "enum": ["set", [1]]}}), "expected string"),
            (json!({"key": {"type": "string", "enum": ["set", []]}}), "0 are present"),
            (json!({"key": {"type": "uuid", "refTable": "B"}}), "refers to undefined table B"),
            (json!({"key": {"type": "uuid", "refTable": "A", "refType": "odd"}}), "Type mismatch for member 'refType'"),
            (json!({"key": {"type": "uuid", "refType": "weak"}}), "Member 'refType' is present"),
        ] {
            let error = column(ty.clone()).unwrap_err();
            assert!(error.contains(complaint), "{ty}: {error}");
        }
        for (tables, complaint) in [
            (json!([]), "Type mismatch for member 'tables'"),
            (json!({"a b": {"columns": {}}}), "\"a b\" is not a valid name"),
            (json!({"A": {"columns": {"_c": {"type": "string"}}}}), "begins with an underscore"),
            (json!({"A": {}}), "Required 'columns' member is missing"),
            (json!({"A": {"columns": {}, "maxRows": 0}}), "Type mismatch for member 'maxRows'"),
            (json!({"A": {"columns": {}, "indexes": [["c"]]}}), "indexes must be"),
            (json!({"A": {"columns": {}, "indexes": [[]]}}), "indexes must be"),
        ] {
            let error = read(tables.clone()).unwrap_err();
            assert!(error.contains(complaint), "{tables}: {error}");
        }
    }
}
