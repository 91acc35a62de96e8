//! The model's schema and values: elements, each with what a map has for it.

use crate::schema::DatabaseSchema;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use uuid::Uuid;

/// The word of an error.
pub type Word = &'static str;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Atom {
    Int(i64),
    Text(&'static str),
    Row(u8),
}

/// A set's members with nothing, or a map's keys with their values. A scalar is a set of one.
pub type Val = BTreeMap<Atom, Option<Atom>>;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// From 0 to 9.
    Int,
    Text,
    Id,
    /// A reference to a row of `N`.
    Strong,
    /// A reference to a row of `R`.
    Weak,
}

#[derive(PartialEq)]
pub struct Column {
    pub name: &'static str,
    pub key: Kind,
    pub value: Option<Kind>,
    pub min: usize,
    pub max: usize,
    pub mutable: bool,
}

pub const UNLIMITED: usize = usize::MAX;

const fn column(name: &'static str, key: Kind, value: Option<Kind>, min: usize, max: usize) -> Column {
    Column { name, key, value, min, max, mutable: true }
}

/// What the rows of both tables have; `name` is unique in its table.
pub static COLUMNS: [Column; 8] = [
    column("config", Kind::Text, Some(Kind::Int), 0, 3),
    Column { mutable: false, ..column("fixed", Kind::Int, None, 1, 1) },
    column("friends", Kind::Weak, None, 0, UNLIMITED),
    column("kids", Kind::Strong, None, 0, UNLIMITED),
    column("name", Kind::Text, None, 1, 1),
    column("nums", Kind::Int, None, 0, 3),
    column("peers", Kind::Int, Some(Kind::Weak), 0, UNLIMITED),
    column("tag", Kind::Int, None, 0, 1),
];
pub static ID: Column = column("_uuid", Kind::Id, None, 1, 1);

/// Table `R` is a root and holds at most this many rows; rows of `N` live while they are somebody's kids.
pub const MAX_ROOTS: usize = 4;
pub const TABLES: [&str; 2] = ["N", "R"];
/// The numbers of rows.
pub const ROWS: RangeInclusive<u8> = 1..=8;

pub fn schema() -> DatabaseSchema {
    let base = |kind: Kind| match kind {
        Kind::Int => json!({"type": "integer", "minInteger": 0, "maxInteger": 9}),
        Kind::Text => json!("string"),
        Kind::Id => json!("uuid"),
        Kind::Strong => json!({"type": "uuid", "refTable": "N", "refType": "strong"}),
        Kind::Weak => json!({"type": "uuid", "refTable": "R", "refType": "weak"}),
    };
    let max = |max: usize| if max == UNLIMITED { json!("unlimited") } else { json!(max) };
    let column = |c: &Column| {
        let mut ty = json!({"key": base(c.key), "min": c.min, "max": max(c.max)});
        if let Some(value) = c.value {
            ty["value"] = base(value);
        }
        (c.name.to_owned(), json!({"type": ty, "mutable": c.mutable}))
    };
    let columns: serde_json::Map<String, Value> = COLUMNS.iter().map(column).collect();
    let schema = json!({"name": "T", "version": "1.0.0", "tables": {
        "R": {"columns": columns, "indexes": [["name"]], "isRoot": true, "maxRows": MAX_ROOTS},
        "N": {"columns": columns, "indexes": [["name"]]}}});
    DatabaseSchema::from_json(&schema).unwrap()
}

pub fn uuid(n: u8) -> String {
    Uuid::from_u128(n.into()).to_string()
}

impl Atom {
    fn to_json(&self) -> Value {
        match self {
            Atom::Int(i) => json!(i),
            Atom::Text(s) => json!(s),
            Atom::Row(n) => json!(["uuid", uuid(*n)]),
        }
    }
}

impl fmt::Debug for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Column {
    pub fn is_scalar(&self) -> bool {
        self.value.is_none() && self.min == 1 && self.max == 1
    }

    pub fn default(&self) -> Val {
        match self.key {
            _ if self.min == 0 => Val::new(),
            Kind::Int => Val::from([(Atom::Int(0), None)]),
            Kind::Text => Val::from([(Atom::Text(""), None)]),
            Kind::Id | Kind::Strong | Kind::Weak => Val::from([(Atom::Row(0), None)]),
        }
    }

    /// Is `value` written for this column right, if that had from `min` to `max` elements?
    pub fn check(&self, value: &Val, min: usize, max: usize) -> Result<(), Word> {
        if !(min..=max).contains(&value.len()) {
            return Err("syntax error");
        }
        let small = |atom: &Atom| !matches!(atom, Atom::Int(i) if !(0..=9).contains(i));
        let legal = value.iter().all(|(k, v)| small(k) && v.as_ref().is_none_or(small));
        if legal { Ok(()) } else { Err("constraint violation") }
    }

    /// A set of keys is good enough to delete pairs of a map: so it is written if no key has a value.
    pub fn to_json(&self, value: &Val) -> Value {
        let keys = || value.keys().map(Atom::to_json).collect::<Vec<_>>();
        if self.value.is_some() && value.values().all(Option::is_some) {
            let pair = |(k, v): (&Atom, &Option<Atom>)| json!([k.to_json(), v.as_ref().unwrap().to_json()]);
            json!(["map", value.iter().map(pair).collect::<Vec<_>>()])
        } else if let [only] = &keys()[..] {
            only.clone()
        } else {
            json!(["set", keys()])
        }
    }

    /// What `update2` tells of a change.
    pub fn difference(&self, old: &Val, new: &Val) -> Val {
        if self.max == 1 {
            return new.clone();
        }
        let gone = old.iter().filter(|(k, _)| !new.contains_key(k));
        let fresh = new.iter().filter(|(k, v)| old.get(k) != Some(v));
        gone.chain(fresh).map(|(k, v)| (k.clone(), v.clone())).collect()
    }
}
