//! The rows of a table, and what is derived from them: unique indexes and who refers to whom.
//!
//! Invariants, at any time between two commits: a row has every column of its table; the derived
//! maps say exactly what the rows say. Rows are shared ([`Arc`]) with changes and never modified
//! in place.

use crate::schema::{BaseType, RefType, TableSchema};
use crate::value::{Atom, Datum, Uuid};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// One row: a value for every column of its table.
///
/// Two rows are equal if their columns are; the version does not count.
#[derive(Clone, Debug)]
pub struct Row {
    version: Uuid,
    columns: BTreeMap<Arc<str>, Datum>,
}

impl PartialEq for Row {
    fn eq(&self, other: &Row) -> bool {
        self.columns == other.columns
    }
}
impl Eq for Row {}

impl Row {
    /// The row that has every column at its default.
    pub(super) fn template(schema: &TableSchema) -> Row {
        let column = |(name, column): (&String, &crate::schema::ColumnSchema)| {
            (Arc::from(name.as_str()), column.ty.default_datum())
        };
        Row { version: Uuid::nil(), columns: schema.columns.iter().map(column).collect() }
    }

    /// A copy to be modified: the same columns under a version of its own.
    pub(super) fn fork(&self) -> Row {
        Row { version: Uuid::new_v4(), columns: self.columns.clone() }
    }

    /// Gives `column`, which must be one of the table's, a new value.
    pub(super) fn set(&mut self, column: &str, datum: Datum) {
        if let Some(slot) = self.columns.get_mut(column) {
            *slot = datum;
        }
    }

    /// What `_version` shows: another one after every change of the row.
    pub fn version(&self) -> Uuid {
        self.version
    }

    /// The value of `column`; `None` if the table has no such column.
    pub fn get(&self, column: &str) -> Option<&Datum> {
        self.columns.get(column)
    }

    /// Columns and values in the order of their names.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &Datum)> {
        self.columns.iter().map(|(name, datum)| (&**name, datum))
    }

    /// The string in `column`, if there is exactly one.
    pub fn str(&self, column: &str) -> Option<&str> {
        self.get(column)?.as_str()
    }

    /// The integer in `column`, if there is exactly one.
    pub fn integer(&self, column: &str) -> Option<i64> {
        self.get(column)?.as_i64()
    }

    /// The boolean in `column`, if there is exactly one.
    pub fn boolean(&self, column: &str) -> Option<bool> {
        self.get(column)?.as_bool()
    }

    /// The identifier in `column`, if there is exactly one.
    pub fn uuid(&self, column: &str) -> Option<Uuid> {
        self.get(column)?.as_uuid()
    }

    /// The identifiers in the set `column`.
    pub fn uuids(&self, column: &str) -> impl Iterator<Item = Uuid> {
        self.get(column).into_iter().flat_map(Datum::uuids)
    }

    /// The strings in the set `column`.
    pub fn strings(&self, column: &str) -> impl Iterator<Item = &str> {
        self.get(column).into_iter().flat_map(Datum::strings)
    }

    /// The value of `key` in `column`, a map from strings to strings.
    pub fn map_str(&self, column: &str, key: &str) -> Option<&str> {
        self.get(column)?.get_str(key)
    }
}

/// A column, or one side of a map column, that refers to rows of a table.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub column: Arc<str>,
    pub target: String,
    pub ty: RefType,
    side: Side,
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Key,
    Value,
}

impl Reference {
    /// All references that rows of a table can hold.
    pub fn of_table(schema: &TableSchema) -> Vec<Reference> {
        let mut references = Vec::new();
        for (column, schema) in &schema.columns {
            let mut side = |base: &BaseType, side| {
                if let Some(target) = &base.ref_table {
                    let (column, target) = (Arc::from(column.as_str()), target.clone());
                    references.push(Reference { column, target, ty: base.ref_type, side });
                }
            };
            side(&schema.ty.key, Side::Key);
            if let Some(value) = &schema.ty.value {
                side(value, Side::Value);
            }
        }
        references
    }

    /// The rows that `row` refers to by this; in a map's values one may come up more than once.
    pub fn targets<'r>(&self, row: &'r Row) -> impl Iterator<Item = Uuid> + use<'r> {
        let side = self.side;
        let datum = row.get(&self.column);
        let keys = datum.into_iter().flat_map(Datum::atoms);
        let pairs = datum.into_iter().flat_map(Datum::pairs);
        keys.chain(pairs.map(move |(k, v)| if matches!(side, Side::Key) { k } else { v })).filter_map(as_uuid)
    }

    /// The column's value in `row` without the members or pairs that refer to what `lost` says.
    pub fn without(&self, row: &Row, lost: impl Fn(&Uuid) -> bool) -> Option<Datum> {
        let keep = |atom: &Atom| !as_uuid(atom).is_some_and(|u| lost(&u));
        Some(match row.get(&self.column)? {
            Datum::Set(set) => Datum::Set(set.iter().filter(|a| keep(a)).cloned().collect()),
            Datum::Map(map) => {
                let by_key = matches!(self.side, Side::Key);
                let kept = map.iter().filter(|(k, v)| keep(if by_key { k } else { v }));
                Datum::Map(kept.map(|(k, v)| (k.clone(), v.clone())).collect())
            }
        })
    }
}

fn as_uuid(atom: &Atom) -> Option<Uuid> {
    match atom {
        Atom::Uuid(u) => Some(*u),
        _ => None,
    }
}

/// A table's rows with all that can be looked up about them.
#[derive(Clone, Debug)]
pub(super) struct Table {
    pub rows: BTreeMap<Uuid, Arc<Row>>,
    /// A row with every column at its default.
    pub template: Row,
    pub references: Vec<Reference>,
    /// For each of the schema's indexes: the row that has these values in the index's columns.
    pub unique: Vec<HashMap<Vec<Datum>, Uuid>>,
    /// How many strong references there are to a row of this table; no entry for none.
    pub strong: HashMap<Uuid, usize>,
    /// Table and identifier of the rows with weak references to a row of this table.
    pub weak: HashMap<Uuid, BTreeSet<(String, Uuid)>>,
}

impl Table {
    pub fn new(schema: &TableSchema) -> Table {
        Table {
            rows: BTreeMap::new(),
            template: Row::template(schema),
            references: Reference::of_table(schema),
            unique: vec![HashMap::new(); schema.indexes.len()],
            strong: HashMap::new(),
            weak: HashMap::new(),
        }
    }
}

/// What `row` has in the columns of `index`.
pub(super) fn index_key(index: &[String], row: &Row) -> Vec<Datum> {
    index.iter().filter_map(|column| row.get(column)).cloned().collect()
}
