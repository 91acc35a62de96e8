//! Rows found by what their columns hold, so that a line of a thousand commands does not look at every row a
//! thousand times.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::value::{Atom, Datum, Uuid};

/// Columns of names, and of references that are followed backwards.
const INDEXED: &[(&str, &[&str])] = &[
    ("Open_vSwitch", &["bridges"]),
    ("Bridge", &["name", "ports"]),
    ("Port", &["name", "interfaces", "fake_bridge"]),
    ("Interface", &["name"]),
    ("Mirror", &["name"]),
    ("Flow_Table", &["name"]),
    ("Manager", &["target"]),
];

/// Of some columns of a table, which rows hold an atom.
#[derive(Debug, Default)]
pub(super) struct Indexes(BTreeMap<&'static str, BTreeMap<Atom, BTreeSet<Uuid>>>);

impl Indexes {
    /// Empty ones for a table.
    pub(super) fn of(table: &str) -> Indexes {
        let columns = INDEXED.iter().filter(|(indexed, _)| *indexed == table).flat_map(|(_, columns)| *columns);
        Indexes(columns.map(|column| (*column, BTreeMap::new())).collect())
    }

    /// The rows that hold `atom`; `None` if that column has no index.
    pub(super) fn holders(&self, column: &str, atom: &Atom) -> Option<Vec<Uuid>> {
        let index = self.0.get(column)?;
        Some(index.get(atom).into_iter().flatten().copied().collect())
    }

    /// Notes that a row's column now holds the members of a set.
    pub(super) fn add(&mut self, column: &str, row: Uuid, members: &Datum) {
        if let Some(index) = self.0.get_mut(column) {
            for atom in members.atoms() {
                index.entry(atom.clone()).or_default().insert(row);
            }
        }
    }

    /// Notes that it no longer does.
    pub(super) fn take(&mut self, column: &str, row: Uuid, members: &Datum) {
        if let Some(index) = self.0.get_mut(column) {
            for atom in members.atoms() {
                if let Some(rows) = index.get_mut(atom) {
                    rows.remove(&row);
                }
            }
        }
    }
}
