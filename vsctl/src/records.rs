//! Ways to name a row: its UUID or the beginning of it, `@name`, its name, or what it belongs to.

use ovsdb::value::{Atom, Uuid, parse_uuid};

use crate::error::{Result, fail, listing};
use crate::model::{Model, Needs};
use crate::text::Names;

/// Fewest characters of an abbreviated UUID.
const UUID_PREFIX: usize = 4;

/// How a row of a table is named other than by its UUID.
enum Naming {
    /// By the value of one of its columns.
    Column { table: &'static str, column: &'static str },
    /// By the name of the row whose column refers to it.
    Via { table: &'static str, referrer: &'static str, column: &'static str },
    /// As `.`, as the only row of any table, and never otherwise.
    Only { table: &'static str },
}

use Naming::{Column, Only, Via};

const NAMINGS: &[Naming] = &[
    Only { table: "Open_vSwitch" },
    Only { table: "SSL" },
    Column { table: "Bridge", column: "name" },
    Column { table: "Port", column: "name" },
    Column { table: "Interface", column: "name" },
    Column { table: "Mirror", column: "name" },
    Column { table: "Flow_Table", column: "name" },
    Column { table: "Manager", column: "target" },
    Column { table: "Flow_Sample_Collector_Set", column: "id" },
    Via { table: "Controller", referrer: "Bridge", column: "controller" },
    Via { table: "NetFlow", referrer: "Bridge", column: "netflow" },
    Via { table: "sFlow", referrer: "Bridge", column: "sflow" },
    Via { table: "IPFIX", referrer: "Bridge", column: "ipfix" },
    Via { table: "AutoAttach", referrer: "Bridge", column: "auto_attach" },
    Via { table: "QoS", referrer: "Port", column: "qos" },
];

impl Naming {
    fn table(&self) -> &'static str {
        match self {
            Column { table, .. } | Via { table, .. } | Only { table } => table,
        }
    }
}

fn namings(table: &str) -> impl Iterator<Item = &'static Naming> {
    NAMINGS.iter().filter(move |naming| naming.table() == table)
}

/// The column that people know rows of the table by.
pub(crate) fn name_column(table: &str) -> Option<&'static str> {
    namings(table).find_map(|naming| match naming {
        Column { column, .. } => Some(*column),
        _ => None,
    })
}

/// Asks for what [`find`] looks at.
pub(crate) fn need(needs: &mut Needs, table: &str) {
    needs.table(table);
    for naming in namings(table) {
        match naming {
            Only { .. } => {}
            Column { column, .. } => needs.column(table, column),
            Via { referrer, column, .. } => {
                needs.column(referrer, "name");
                needs.column(referrer, column);
            }
        }
    }
}

/// Finds a row, if it is there.
pub(crate) fn find(model: &Model<'_>, names: &Names, table: &str, record: &str) -> Result<Option<Uuid>> {
    let exact = parse_uuid(record).or_else(|| names.known(record));
    if let Some(uuid) = exact.filter(|uuid| model.has_row(table, uuid)) {
        return Ok(Some(uuid));
    }
    let mut rows = model.rows(table);
    if let (".", Some(uuid), None) = (record, rows.next(), rows.next()) {
        return Ok(Some(uuid));
    }
    for naming in namings(table) {
        let found = match naming {
            Only { .. } => Vec::new(),
            Column { column, .. } => named(model, table, column, record),
            Via { referrer, column, .. } => {
                let mut found = Vec::new();
                for row in named(model, referrer, "name", record) {
                    found.extend(model.get(referrer, &row, column)?.uuids());
                }
                found
            }
        };
        if let Some(uuid) = only(found, table, record)? {
            return Ok(Some(uuid));
        }
    }
    let abbreviation = record.len() >= UUID_PREFIX && record.chars().all(|c| c == '-' || c.is_ascii_hexdigit());
    if !abbreviation {
        return Ok(None);
    }
    let prefix = record.to_ascii_lowercase();
    only(model.rows(table).filter(|u| u.to_string().starts_with(&prefix)).collect(), table, record)
}

fn named(model: &Model<'_>, table: &str, column: &str, record: &str) -> Vec<Uuid> {
    let mut found = model.holders(table, column, &Atom::String(record.to_owned()));
    if let Ok(number) = record.parse() {
        found.extend(model.holders(table, column, &Atom::Integer(number)));
    }
    found
}

fn only(found: Vec<Uuid>, table: &str, record: &str) -> Result<Option<Uuid>> {
    match found.as_slice() {
        [] => Ok(None),
        [uuid] => Ok(Some(*uuid)),
        several => fail!(
            "{} rows in {table} go by '{record}'; name one by its UUID: {}",
            several.len(),
            listing(several.iter().map(Uuid::to_string).collect::<Vec<_>>().iter().map(String::as_str))
        ),
    }
}

/// Like [`find`], but a missing row is an error that lists the rows there are.
pub(crate) fn get(model: &Model<'_>, names: &Names, table: &str, record: &str) -> Result<Uuid> {
    if let Some(uuid) = find(model, names, table, record)? {
        return Ok(uuid);
    }
    let mut there = Vec::new();
    if let Some(column) = name_column(table) {
        for uuid in model.rows(table) {
            there.extend(model.get(table, &uuid, column)?.as_atom().map(Atom::to_string));
        }
    }
    there.sort();
    match there.len() {
        0 if model.rows(table).next().is_none() => fail!("no row '{record}' in {table}, which is empty"),
        0 => fail!("no row '{record}' in {table}; 'vsctl list {table}' shows what is there"),
        _ => fail!("no row '{record}' in {table}; there are: {}", listing(there.iter().map(String::as_str))),
    }
}

/// What people may call the rows of a table, where it has names, else their UUIDs.
pub(crate) fn names(model: &Model<'_>, table: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut is_named = false;
    for naming in namings(table) {
        is_named = true;
        match naming {
            Only { .. } => names.push(".".to_owned()),
            Column { column, .. } => {
                for row in model.rows(table) {
                    names.extend(model.get(table, &row, column)?.as_atom().map(plain));
                }
            }
            Via { referrer, column, .. } => {
                for row in model.rows(referrer) {
                    if !model.get(referrer, &row, column)?.is_empty() {
                        names.push(model.text(referrer, &row, "name")?.to_owned());
                    }
                }
            }
        }
    }
    if !is_named {
        names.extend(model.rows(table).map(|row| row.to_string()));
    }
    Ok(names)
}

fn plain(atom: &Atom) -> String {
    if let Atom::String(name) = atom { name.clone() } else { atom.to_string() }
}
