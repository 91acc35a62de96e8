//! Columns, keys and values: `COLUMN[:KEY]=VALUE` and its kin.

use ovsdb::schema::{BaseType, ColumnType, Limits};
use ovsdb::value::{Atom, AtomType, Datum};

use super::offers::table_of;
use super::place::Place;
use super::{Candidate, Switch};
use crate::columns::{Table, find_table};
use crate::command::short_form::{INTERFACE_COLUMNS, OTHER_OPTIONS, TUNNEL_OPTIONS};
use crate::model::Needs;
use crate::records;
use crate::text::{Names, show_bare};

/// Keys of maps that mean something to the switch, besides those of tunnels.
const KNOWN_KEYS: [(&str, &str, &[&str]); 2] = [
    (
        "Bridge",
        "other_config",
        &["hwaddr", "datapath-id", "mac-aging-time", "mac-table-size", "mac-move-action", "mtu-policy"],
    ),
    ("Open_vSwitch", "other_config", &["assist", "pmd-cpu-mask", "stats-update-interval"]),
];

/// What may stand for an argument that has to do with columns.
pub(super) fn offer(what: &str, place: &Place<'_>, before: &[String], switch: &Switch<'_>) -> Vec<Candidate> {
    if what == "SETTING=VALUE" {
        return of_a_port(place, switch);
    }
    let Some(table) = table_of(before, switch) else { return Vec::new() };
    let context = Context { table, record: before.get(1).map(String::as_str), place, switch };
    let named = before.get(2).and_then(|word| table.column(word).ok());
    match (what, named) {
        ("COLUMN", _) => table.schema.columns.keys().map(Candidate::word).collect(),
        ("COLUMN[:KEY]", _) => context.columns(),
        ("COLUMN[:KEY]=VALUE", _) => context.assignments(false),
        ("COLUMN[:KEY]OPERATOR VALUE", _) => context.assignments(true),
        ("[KEY=]VALUE", Some((name, column))) => match column.ty.is_map() {
            true => context.keys(name, &column.ty).into_iter().map(|key| Candidate::open(format!("{key}="))).collect(),
            false => context.values(name, &column.ty.key).into_iter().map(Candidate::word).collect(),
        },
        ("VALUE|KEY|KEY=VALUE", Some((name, _))) => context.there(name).into_iter().map(Candidate::word).collect(),
        _ => Vec::new(),
    }
}

/// A table's columns at the cursor.
#[derive(Clone, Copy)]
struct Context<'a, 's> {
    table: Table<'s>,
    record: Option<&'a str>,
    place: &'a Place<'a>,
    switch: &'a Switch<'s>,
}

impl Context<'_, '_> {
    /// `COLUMN[:KEY]`
    fn columns(&self) -> Vec<Candidate> {
        match self.place.word.split_once(':') {
            Some((column, _)) => {
                self.there(column).into_iter().map(|key| Candidate::word(format!("{column}:{key}"))).collect()
            }
            None => self.table.schema.columns.keys().map(Candidate::word).collect(),
        }
    }

    /// `COLUMN[:KEY]=VALUE`; with `all`, also of columns that the switch writes or that cannot change.
    fn assignments(&self, all: bool) -> Vec<Candidate> {
        let word = self.place.word;
        if let Some(equals) = word.find('=') {
            let left = &word[..=equals];
            return self.values_of(left).into_iter().map(|value| Candidate::word(format!("{left}{value}"))).collect();
        }
        if let Some((name, _)) = word.split_once(':') {
            let Ok((known, column)) = self.table.column(name) else { return Vec::new() };
            let keys = self.keys(known, &column.ty).into_iter();
            return keys.map(|key| Candidate::open(format!("{name}:{key}="))).collect();
        }
        let columns =
            self.table.schema.columns.iter().filter(|(_, column)| all || (column.mutable && !column.ephemeral));
        columns.map(|(name, column)| Candidate::open(format!("{name}{}", sign(&column.ty)))).collect()
    }

    /// Values for `left`, which is `COLUMN=`, `COLUMN:KEY=` or either with another operator.
    fn values_of(&self, left: &str) -> Vec<String> {
        let left = left.trim_end_matches(['=', '!', '<', '>', '{']);
        let (name, key) = left.split_once(':').map_or((left, None), |(name, key)| (name, Some(key)));
        match (self.table.column(name), key) {
            (Ok((name, column)), None) if !column.ty.is_map() => self.values(name, &column.ty.key),
            (Ok((name, column)), Some(_)) => column.ty.value.iter().flat_map(|base| self.values(name, base)).collect(),
            _ => Vec::new(),
        }
    }

    /// Values of one type.
    fn values(&self, column: &str, base: &BaseType) -> Vec<String> {
        match base.ty {
            AtomType::Uuid => self.place.given_names().map(|name| format!("@{name}")).collect(),
            AtomType::Boolean => ["true", "false"].map(str::to_owned).into(),
            AtomType::String if (self.table.name, column) == ("Interface", "type") => self.interface_types(),
            _ => enumerated(base),
        }
    }

    fn interface_types(&self) -> Vec<String> {
        let Ok(table) = find_table(self.switch.schema, "Open_vSwitch") else { return Vec::new() };
        Context { table, record: Some("."), ..*self }.there("iface_types")
    }

    /// Keys that a map may have.
    fn keys(&self, column: &str, ty: &ColumnType) -> Vec<String> {
        let known = KNOWN_KEYS.iter().find(|(table, name, _)| (*table, *name) == (self.table.name, column));
        let mut keys: Vec<String> =
            known.into_iter().flat_map(|(.., keys)| *keys).map(|key| (*key).to_owned()).collect();
        if (self.table.name, column) == ("Interface", "options") {
            keys.extend(TUNNEL_OPTIONS.iter().chain(OTHER_OPTIONS).map(|key| (*key).to_owned()));
        }
        keys.extend(enumerated(&ty.key));
        keys.extend(self.there(column));
        keys
    }

    /// The members or the keys that the record's column has now.
    fn there(&self, column: &str) -> Vec<String> {
        let (Some(record), Ok((column, _))) = (self.record, self.table.column(column)) else { return Vec::new() };
        let mut needs = Needs::default();
        records::need(&mut needs, self.table.name);
        needs.column(self.table.name, column);
        let Some(model) = self.switch.see(&needs) else { return Vec::new() };
        let Ok(Some(row)) = records::find(&model, &Names::default(), self.table.name, record) else {
            return Vec::new();
        };
        let bare = |atom: &Atom| show_bare(&Datum::atom(atom.clone()));
        match model.get(self.table.name, &row, column) {
            Ok(Datum::Set(set)) => set.iter().map(bare).collect(),
            Ok(Datum::Map(map)) => map.keys().map(bare).collect(),
            Err(_) => Vec::new(),
        }
    }
}

/// What follows a column's name in an assignment.
fn sign(ty: &ColumnType) -> char {
    if ty.is_map() { ':' } else { '=' }
}

/// The values that a type lists.
pub(super) fn enumerated(base: &BaseType) -> Vec<String> {
    match &base.limits {
        Limits::Enum(members) => members.iter().map(|atom| show_bare(&Datum::atom(atom.clone()))).collect(),
        _ => Vec::new(),
    }
}

/// What may follow `add-port BRIDGE PORT`.
fn of_a_port(place: &Place<'_>, switch: &Switch<'_>) -> Vec<Candidate> {
    let (Ok(port), Ok(interface)) = (find_table(switch.schema, "Port"), find_table(switch.schema, "Interface")) else {
        return Vec::new();
    };
    let on = |table| Context { table, record: None, place, switch };
    let begun = place.word.split([':', '=']).next().unwrap_or_default();
    if place.word.contains([':', '=']) {
        return match INTERFACE_COLUMNS.contains(&begun) {
            true => on(interface).assignments(false),
            false => on(port).assignments(false),
        };
    }
    let columns = INTERFACE_COLUMNS.iter().filter_map(|name| interface.column(name).ok());
    let columns = columns.map(|(name, column)| format!("{name}{}", sign(&column.ty)));
    let options = TUNNEL_OPTIONS.iter().chain(OTHER_OPTIONS).map(|name| format!("{name}="));
    on(port).assignments(false).into_iter().chain(columns.chain(options).map(Candidate::open)).collect()
}
