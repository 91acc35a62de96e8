//! The model's database: all rows, in one map.

use super::value::{Atom, COLUMNS, Column, ID, MAX_ROOTS, Val, Word, uuid};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, PartialEq)]
pub struct Row(BTreeMap<&'static str, Val>);

/// Rows by table and number.
pub type State = BTreeMap<(&'static str, u8), Row>;

impl Row {
    pub fn new() -> Row {
        Row(COLUMNS.iter().map(|c| (c.name, c.default())).collect())
    }

    pub fn get(&self, n: u8, column: &Column) -> Val {
        if *column == ID { Val::from([(Atom::Row(n), None)]) } else { self.0[column.name].clone() }
    }

    pub fn set(&mut self, column: &Column, value: Val) {
        self.0.insert(column.name, value);
    }

    /// These columns as JSON.
    pub fn to_json<'c>(&self, n: u8, columns: impl IntoIterator<Item = &'c Column>) -> Value {
        let member = |c: &Column| (c.name.to_owned(), c.to_json(&self.get(n, c)));
        Value::Object(columns.into_iter().map(member).collect())
    }

    fn kids(&self) -> impl Iterator<Item = u8> {
        self.0["kids"].keys().map(|kid| if let Atom::Row(n) = kid { *n } else { panic!("{kid:?} as a kid") })
    }
}

/// Table → identifier → row.
pub fn to_json(state: &State) -> Value {
    let mut tables = Map::new();
    for ((table, n), row) in state {
        let rows = tables.entry(*table).or_insert_with(|| Value::Object(Map::new()));
        rows[uuid(*n)] = row.to_json(*n, &COLUMNS);
    }
    Value::Object(tables)
}

/// The end of a transaction: what becomes of the rows, or why that may not be.
pub fn settle(mut state: State) -> Result<State, Word> {
    let kids = |state: &State| state.values().flat_map(Row::kids).collect::<BTreeSet<u8>>();
    if !kids(&state).iter().all(|kid| state.contains_key(&("N", *kid))) {
        return Err("referential integrity violation");
    }
    loop {
        let (used, count) = (kids(&state), state.len());
        state.retain(|(table, n), _| *table == "R" || used.contains(n));
        if state.len() == count {
            break;
        }
    }
    let roots: BTreeSet<u8> = state.keys().filter(|(table, _)| *table == "R").map(|(_, n)| *n).collect();
    if roots.len() > MAX_ROOTS {
        return Err("constraint violation");
    }
    let alive = |atom: &Atom| matches!(atom, Atom::Row(n) if roots.contains(n));
    for Row(columns) in state.values_mut() {
        columns.get_mut("friends").unwrap().retain(|friend, _| alive(friend));
        columns.get_mut("peers").unwrap().retain(|_, peer| alive(peer.as_ref().unwrap()));
    }
    let names: BTreeSet<_> = state.iter().map(|((table, _), row)| (table, &row.0["name"])).collect();
    if names.len() == state.len() { Ok(state) } else { Err("constraint violation") }
}
