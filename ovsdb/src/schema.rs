//! Database schemas (RFC 7047 §3.2): tables, columns, their types and constraints.
//!
//! A schema is read once, checked as a whole ([`DatabaseSchema::from_json`]) and immutable from
//! then on, so code behind it may rely on: `1 ≥ min`, `min ≤ max`, an enum's members have the
//! type they restrict, every referenced table and every indexed column exists.

use crate::error::OpError;
use crate::value::{Atom, AtomType, Datum, NoSymbols, is_id};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// `"max": "unlimited"`.
pub const UNLIMITED: u32 = u32::MAX;

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

/// A column's `<type>`: a set of `key`, or a map from `key` to `value`.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnType {
    /// Members of the set, keys of the map.
    pub key: BaseType,
    /// Values of the map; a set has none.
    pub value: Option<BaseType>,
    /// Fewest elements: 0 or 1.
    pub min: u32,
    /// Most elements; [`UNLIMITED`] for no limit.
    pub max: u32,
}

/// A `<base-type>`: an atomic type and what narrows it.
#[derive(Clone, Debug, PartialEq)]
pub struct BaseType {
    /// The atomic type.
    pub ty: AtomType,
    /// Which of its values are allowed.
    pub limits: Limits,
    /// For `uuid`: the table that the row must be in.
    pub ref_table: Option<String>,
    /// What a reference does to the row it points to; meaningless without `ref_table`.
    pub ref_type: RefType,
}

/// The allowed values of a base type.
#[derive(Clone, Debug, PartialEq)]
pub enum Limits {
    /// All.
    None,
    /// Only these.
    Enum(BTreeSet<Atom>),
    /// Integers from `min` to `max`.
    Integer {
        /// Least value, `i64::MIN` if unbounded.
        min: i64,
        /// Greatest value, `i64::MAX` if unbounded.
        max: i64,
    },
    /// Reals from `min` to `max`.
    Real {
        /// Least value, negative infinity if unbounded.
        min: f64,
        /// Greatest value, infinity if unbounded.
        max: f64,
    },
    /// Strings of `min` to `max` characters.
    Length {
        /// Fewest characters.
        min: u32,
        /// Most characters, `u32::MAX` if unbounded.
        max: u32,
    },
}

/// What a reference does to the row it points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefType {
    /// Keeps it alive; the row cannot be deleted.
    Strong,
    /// Vanishes with it.
    Weak,
}

impl DatabaseSchema {
    /// Reads and checks a `<database-schema>`.
    pub fn from_json(v: &Value) -> Result<DatabaseSchema, OpError> {
        let object = Members::of(v, "database schema")?;
        object.only(&["name", "version", "cksum", "tables"])?;
        let mut schema = DatabaseSchema {
            name: object.id("name")?,
            version: object.string("version")?.unwrap_or_default(),
            cksum: object.string("cksum")?.unwrap_or_default(),
            tables: BTreeMap::new(),
        };
        for (name, table) in object.object("tables")? {
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
        for (name, column) in object.object("columns")? {
            check_name(name, v)?;
            if name.starts_with('_') {
                return Err(OpError::syntax(v, format!("column name {name} begins with an underscore")));
            }
            columns.insert(name.clone(), ColumnSchema::from_json(column)?);
        }
        let max_rows = match object.get("maxRows") {
            None => None,
            Some(n) => Some(
                n.as_u64()
                    .filter(|&n| n > 0)
                    .ok_or_else(|| OpError::syntax(n, "maxRows must be an integer of at least 1"))?,
            ),
        };
        let indexes = match object.get("indexes") {
            None => Vec::new(),
            Some(list) => indexes_from_json(list, &columns)?,
        };
        let is_root = object.boolean("isRoot")?.unwrap_or(false);
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
            ty: ColumnType::from_json(object.required("type")?)?,
            ephemeral: object.boolean("ephemeral")?.unwrap_or(false),
            mutable: object.boolean("mutable")?.unwrap_or(true),
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

impl ColumnType {
    /// A scalar of type `key`.
    pub fn scalar(key: BaseType) -> ColumnType {
        ColumnType { key, value: None, min: 1, max: 1 }
    }

    /// Reads a `<type>`.
    pub fn from_json(v: &Value) -> Result<ColumnType, OpError> {
        if v.is_string() {
            return Ok(ColumnType::scalar(BaseType::from_json(v)?));
        }
        let object = Members::of(v, "column type")?;
        object.only(&["key", "value", "min", "max"])?;
        let number = |name: &str| match object.get(name) {
            None => Ok(1),
            Some(n) => n
                .as_u64()
                .and_then(|n| u32::try_from(n).ok())
                .ok_or_else(|| OpError::syntax(v, format!("{name} must be a small integer"))),
        };
        let (min, max) = match object.get("max") {
            Some(m) if m == "unlimited" => (number("min")?, UNLIMITED),
            _ => (number("min")?, number("max")?),
        };
        if min > 1 || max < 1 {
            return Err(OpError::syntax(v, "min must be 0 or 1, max at least 1"));
        }
        Ok(ColumnType {
            key: BaseType::from_json(object.required("key")?)?,
            value: object.get("value").map(BaseType::from_json).transpose()?,
            min,
            max,
        })
    }

    /// The `<type>`.
    pub fn to_json(&self) -> Value {
        let key = self.key.to_json();
        if self.is_scalar() && key.is_string() {
            return key;
        }
        let mut v = json!({ "key": key });
        if let Some(value) = &self.value {
            v["value"] = value.to_json();
        }
        if self.min != 1 {
            v["min"] = json!(self.min);
        }
        if self.max == UNLIMITED {
            v["max"] = json!("unlimited");
        } else if self.max != 1 {
            v["max"] = json!(self.max);
        }
        v
    }

    /// A map?
    pub fn is_map(&self) -> bool {
        self.value.is_some()
    }

    /// Exactly one atom?
    pub fn is_scalar(&self) -> bool {
        self.value.is_none() && self.min == 1 && self.max == 1
    }

    /// At most one atom, perhaps none?
    pub fn is_optional(&self) -> bool {
        self.value.is_none() && self.min == 0 && self.max == 1
    }

    /// What the column holds until it is told otherwise (RFC 7047 §5.2.1).
    pub fn default_datum(&self) -> Datum {
        match &self.value {
            None if self.min == 0 => Datum::empty_set(),
            None => Datum::atom(self.key.default_atom()),
            Some(_) if self.min == 0 => Datum::empty_map(),
            Some(value) => Datum::Map([(self.key.default_atom(), value.default_atom())].into()),
        }
    }

    /// Is `datum` what the column holds until it is told otherwise?
    pub fn is_default(&self, datum: &Datum) -> bool {
        match (datum, &self.value) {
            (d, _) if self.min == 0 => d.is_empty(),
            (Datum::Set(set), None) => set.len() == 1 && set.first() == Some(&self.key.default_atom()),
            _ => *datum == self.default_datum(),
        }
    }

    /// May a value have `len` elements?
    pub fn check_len(&self, len: usize) -> Result<(), OpError> {
        let (kind, elements) = match self.value {
            None => ("set", "members"),
            Some(_) => ("map", "pairs"),
        };
        if (self.min as usize..=self.max as usize).contains(&len) {
            return Ok(());
        }
        let details = if self.is_scalar() {
            format!("{kind} must have exactly one member but {len} are present")
        } else {
            let (min, max) = (self.min, self.max);
            format!("{kind} must have {min} to {max} {elements} but {len} are present")
        };
        Err(OpError::new("syntax error", details))
    }

    /// Does `datum`, whose atoms are of this type, keep to the column's constraints?
    pub fn check(&self, datum: &Datum) -> Result<(), OpError> {
        self.check_len(datum.len())?;
        datum.atoms().try_for_each(|a| self.key.check(a))?;
        datum.pairs().try_for_each(|(k, v)| {
            self.key.check(k)?;
            self.value.as_ref().map_or(Ok(()), |base| base.check(v))
        })
    }

    /// Is `datum` of this type at all? (Of values made in process; JSON is checked as it is read.)
    pub fn admits(&self, datum: &Datum) -> bool {
        match (datum, &self.value) {
            (Datum::Set(set), None) => set.iter().all(|a| a.ty() == self.key.ty),
            (Datum::Map(map), Some(value)) => map.iter().all(|(k, v)| k.ty() == self.key.ty && v.ty() == value.ty),
            _ => false,
        }
    }

    /// The difference between two values as `update2` and the log send it: the new value where
    /// the column holds at most one element, else [`Datum::diff`].
    pub fn diff(&self, old: &Datum, new: &Datum) -> Datum {
        if self.max == 1 { new.clone() } else { old.diff(new) }
    }

    /// The new value, from the old one and [`ColumnType::diff`].
    pub fn apply_diff(&self, old: &Datum, diff: &Datum) -> Datum {
        if self.max == 1 { diff.clone() } else { old.apply_diff(diff) }
    }

    /// `datum` written for people: a scalar bare, `[a, b]`, `{k=v}`.
    pub fn to_text(&self, datum: &Datum) -> String {
        let list = |items: Vec<String>| items.join(", ");
        match datum {
            Datum::Set(set) => {
                let text = list(set.iter().map(Atom::to_string).collect());
                if self.max == 1 && set.len() == 1 { text } else { format!("[{text}]") }
            }
            Datum::Map(map) => {
                format!("{{{}}}", list(map.iter().map(|(k, v)| format!("{k}={v}")).collect()))
            }
        }
    }
}

/// The type in words: `integer`, `set of up to 4096 integers`, `map of (string, uuid) pairs`.
impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = self.key.ty.name();
        if self.is_scalar() {
            return f.write_str(key);
        }
        f.write_str(if self.is_map() { "map of " } else { "set of " })?;
        match (self.min, self.max) {
            (0, UNLIMITED) => {}
            (_, UNLIMITED) => f.write_str("1 or more ")?,
            (0, max) => write!(f, "up to {max} ")?,
            (_, max) => write!(f, "1 to {max} ")?,
        }
        match &self.value {
            None => write!(f, "{key}s"),
            Some(value) => write!(f, "({key}, {}) pairs", value.ty.name()),
        }
    }
}

impl BaseType {
    /// The type `ty` without constraints.
    pub fn any(ty: AtomType) -> BaseType {
        BaseType { ty, limits: Limits::None, ref_table: None, ref_type: RefType::Strong }
    }

    /// Reads a `<base-type>`.
    pub fn from_json(v: &Value) -> Result<BaseType, OpError> {
        let atomic = |name: &Value| {
            name.as_str()
                .and_then(AtomType::from_name)
                .ok_or_else(|| OpError::syntax(v, format!("{name} is not an atomic type")))
        };
        if v.is_string() {
            return Ok(BaseType::any(atomic(v)?));
        }
        let object = Members::of(v, "base type")?;
        let ty = atomic(object.required("type")?)?;
        let mut base = BaseType::any(ty);
        if let Some(list) = object.get("enum") {
            object.only(&["type", "enum"])?;
            let set = ColumnType { key: base.clone(), value: None, min: 1, max: UNLIMITED };
            if let Datum::Set(values) = Datum::from_json(&set, list, &mut NoSymbols)? {
                base.limits = Limits::Enum(values);
            }
            return Ok(base);
        }
        match ty {
            AtomType::Uuid => {
                object.only(&["type", "refTable", "refType"])?;
                base.ref_table = object.string("refTable")?;
                base.ref_type = match object.string("refType")?.as_deref() {
                    None | Some("strong") => RefType::Strong,
                    Some("weak") => RefType::Weak,
                    Some(_) => return Err(OpError::syntax(v, "refType must be strong or weak")),
                };
            }
            _ => base.limits = Limits::from_json(ty, &object)?,
        }
        Ok(base)
    }

    /// The `<base-type>`.
    pub fn to_json(&self) -> Value {
        let name = json!(self.ty.name());
        let mut v = json!({ "type": name });
        match &self.limits {
            Limits::None => {}
            Limits::Enum(values) => v["enum"] = Datum::Set(values.clone()).to_json(),
            Limits::Integer { min, max } => {
                set_unless(&mut v, "minInteger", min, &i64::MIN);
                set_unless(&mut v, "maxInteger", max, &i64::MAX);
            }
            Limits::Real { min, max } => {
                set_unless(&mut v, "minReal", min, &f64::NEG_INFINITY);
                set_unless(&mut v, "maxReal", max, &f64::INFINITY);
            }
            Limits::Length { min, max } => {
                set_unless(&mut v, "minLength", min, &0);
                set_unless(&mut v, "maxLength", max, &u32::MAX);
            }
        }
        if let Some(table) = &self.ref_table {
            v["refTable"] = json!(table);
            if self.ref_type == RefType::Weak {
                v["refType"] = json!("weak");
            }
        }
        if v.as_object().is_some_and(|o| o.len() == 1) { name } else { v }
    }

    /// RFC 7047 §5.2.1's default for the atomic type.
    pub fn default_atom(&self) -> Atom {
        self.ty.default_atom()
    }

    /// Is `atom`, which is of this atomic type, one of the allowed values?
    pub fn check(&self, atom: &Atom) -> Result<(), OpError> {
        match (&self.limits, atom) {
            (Limits::Enum(values), _) if !values.contains(atom) => {
                let allowed: Vec<String> = values.iter().map(Atom::to_string).collect();
                Err(OpError::constraint(format!("{atom} is not one of the allowed values ([{}])", allowed.join(", "))))
            }
            (Limits::Integer { min, max }, Atom::Integer(i)) => {
                in_range(i, min..=max, (*min > i64::MIN, *max < i64::MAX))
            }
            (Limits::Real { min, max }, Atom::Real(r)) => {
                in_range(&r.get(), min..=max, (min.is_finite(), max.is_finite()))
            }
            (Limits::Length { min, max }, Atom::String(s)) => {
                let len = s.chars().count();
                let text = Value::from(s.as_str());
                if len < *min as usize {
                    Err(OpError::constraint(format!("{text} length {len} is less than minimum allowed length {min}")))
                } else if len > *max as usize {
                    Err(OpError::constraint(format!(
                        "{text} length {len} is greater than maximum allowed length {max}"
                    )))
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }
}

impl Limits {
    fn from_json(ty: AtomType, object: &Members<'_>) -> Result<Limits, OpError> {
        let bound = |name: &str| match object.get(name) {
            None => Ok(None),
            Some(n) => Atom::from_json(ty, n, &mut NoSymbols).map(Some),
        };
        let limits = match ty {
            AtomType::Integer => {
                object.only(&["type", "minInteger", "maxInteger"])?;
                let integer = |name, default| match bound(name)? {
                    Some(Atom::Integer(i)) => Ok(i),
                    _ => Ok::<_, OpError>(default),
                };
                let (min, max) = (integer("minInteger", i64::MIN)?, integer("maxInteger", i64::MAX)?);
                object.ordered(min <= max)?;
                Limits::Integer { min, max }
            }
            AtomType::Real => {
                object.only(&["type", "minReal", "maxReal"])?;
                let real = |name, default| match bound(name)? {
                    Some(Atom::Real(r)) => Ok(r.get()),
                    _ => Ok::<_, OpError>(default),
                };
                let (min, max) = (real("minReal", f64::NEG_INFINITY)?, real("maxReal", f64::INFINITY)?);
                object.ordered(min <= max)?;
                Limits::Real { min, max }
            }
            AtomType::String => {
                object.only(&["type", "minLength", "maxLength"])?;
                let (min, max) = (object.u32("minLength")?, object.u32("maxLength")?);
                let (min, max) = (min.unwrap_or(0), max.unwrap_or(u32::MAX));
                object.ordered(min <= max)?;
                Limits::Length { min, max }
            }
            AtomType::Boolean | AtomType::Uuid => {
                object.only(&["type"])?;
                Limits::None
            }
        };
        let unbounded = matches!(
            limits,
            Limits::Integer { min: i64::MIN, max: i64::MAX }
                | Limits::Real { min: f64::NEG_INFINITY, max: f64::INFINITY }
                | Limits::Length { min: 0, max: u32::MAX }
        );
        Ok(if unbounded { Limits::None } else { limits })
    }
}

/// `bounded`: is there a lower, is there an upper limit (for the wording)?
fn in_range<T: PartialOrd + fmt::Display>(
    x: &T,
    range: std::ops::RangeInclusive<&T>,
    bounded: (bool, bool),
) -> Result<(), OpError> {
    let (min, max) = (range.start(), range.end());
    if range.contains(&x) {
        return Ok(());
    }
    Err(OpError::constraint(match bounded {
        (true, true) => format!("{x} is not in the valid range {min} to {max} (inclusive)"),
        (true, false) => format!("{x} is less than minimum allowed value {min}"),
        _ => format!("{x} is greater than maximum allowed value {max}"),
    }))
}

fn set_unless<T: PartialEq + serde::Serialize>(v: &mut Value, name: &str, x: &T, default: &T) {
    if x != default {
        v[name] = json!(x);
    }
}

fn check_name(name: &str, at: &Value) -> Result<(), OpError> {
    if is_id(name) { Ok(()) } else { Err(OpError::syntax(at, format!("\"{name}\" is not a valid name"))) }
}

/// A JSON object of a schema, with typed access to its members.
struct Members<'a> {
    what: &'static str,
    json: &'a Value,
    map: &'a Map<String, Value>,
}

impl<'a> Members<'a> {
    fn of(json: &'a Value, what: &'static str) -> Result<Members<'a>, OpError> {
        match json.as_object() {
            Some(map) => Ok(Members { what, json, map }),
            None => Err(OpError::syntax(json, format!("{what}: object expected"))),
        }
    }

    fn error(&self, details: &str) -> OpError {
        OpError::syntax(self.json, format!("{}: {details}", self.what))
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.map.get(name)
    }

    fn required(&self, name: &str) -> Result<&'a Value, OpError> {
        self.get(name).ok_or_else(|| self.error(&format!("member \"{name}\" is missing")))
    }

    fn only(&self, allowed: &[&str]) -> Result<(), OpError> {
        match self.map.keys().find(|k| !allowed.contains(&k.as_str())) {
            Some(k) => Err(self.error(&format!("member \"{k}\" is not known here"))),
            None => Ok(()),
        }
    }

    fn ordered(&self, ok: bool) -> Result<(), OpError> {
        if ok { Ok(()) } else { Err(self.error("minimum exceeds maximum")) }
    }

    fn typed<T>(&self, name: &str, what: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, OpError> {
        let wrong = || self.error(&format!("member \"{name}\" must be {what}"));
        self.get(name).map(|v| read(v).ok_or_else(wrong)).transpose()
    }

    fn string(&self, name: &str) -> Result<Option<String>, OpError> {
        self.typed(name, "a string", |v| v.as_str().map(str::to_owned))
    }

    fn boolean(&self, name: &str) -> Result<Option<bool>, OpError> {
        self.typed(name, "true or false", Value::as_bool)
    }

    fn u32(&self, name: &str) -> Result<Option<u32>, OpError> {
        self.typed(name, "a small integer", |v| v.as_u64().and_then(|n| n.try_into().ok()))
    }

    fn id(&self, name: &str) -> Result<String, OpError> {
        let id = self.typed(name, "an <id>", |v| v.as_str().filter(|s| is_id(s)).map(str::to_owned))?;
        id.ok_or_else(|| self.error(&format!("member \"{name}\" is missing")))
    }

    fn object(&self, name: &str) -> Result<&'a Map<String, Value>, OpError> {
        let map = self.typed(name, "an object", Value::as_object)?;
        map.ok_or_else(|| self.error(&format!("member \"{name}\" is missing")))
    }
}
