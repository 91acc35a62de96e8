//! What was made of rows before, so that with a thousand ports only those that have changed are read anew. Pure.
//!
//! What was made of rows holds as long as each of them is what it was. A reader gets at rows by a [`Source`] alone, which
//! notes them, so that none is overlooked.

use super::Columns;
use ovsdb::db::{Database, Row};
use std::cell::RefCell;
use std::collections::HashMap;
use uuid::Uuid;

/// A database, and what has been looked at in it.
pub struct Source<'d> {
    database: &'d Database,
    seen: RefCell<Vec<Seen>>,
}

/// A row, and its version; `None`: there was no such row.
struct Seen {
    table: &'static str,
    row: Uuid,
    version: Option<Uuid>,
}

impl<'d> Source<'d> {
    /// Nothing has been looked at.
    pub fn new(database: &'d Database) -> Self {
        Self { database, seen: RefCell::default() }
    }

    /// A row, if it is there.
    pub fn row(&self, table: &'static str, uuid: Uuid) -> Option<Columns<'d>> {
        let row = self.database.row(table, &uuid);
        self.seen.borrow_mut().push(Seen { table, row: uuid, version: row.map(Row::version) });
        row.map(Columns)
    }
}

impl Seen {
    fn is_so_in(&self, database: &Database) -> bool {
        database.row(self.table, &self.row).map(Row::version) == self.version
    }
}

/// What was made of rows, each by the row that its reader began with.
pub struct Memo<T> {
    made: HashMap<Uuid, Made<T>>,
    round: u64,
}

struct Made<T> {
    of: Vec<Seen>,
    value: T,
    /// When it was last asked for.
    round: u64,
}

impl<T> Default for Memo<T> {
    fn default() -> Self {
        Self { made: HashMap::new(), round: 0 }
    }
}

impl<T> Memo<T> {
    /// What `read` makes of the row `uuid` and others. It must depend on nothing else that may change.
    pub fn get(&mut self, database: &Database, uuid: Uuid, read: impl FnOnce(&Source<'_>) -> T) -> &T {
        let round = self.round;
        let make = || {
            let source = Source::new(database);
            let value = read(&source);
            Made { of: source.seen.into_inner(), value, round }
        };
        let made = self.made.remove(&uuid).filter(|made| made.of.iter().all(|seen| seen.is_so_in(database)));
        let made = self.made.entry(uuid).insert_entry(made.unwrap_or_else(make)).into_mut();
        made.round = round;
        &made.value
    }

    /// Forgets what has not been asked for since the last time.
    pub fn tidy(&mut self) {
        self.made.retain(|_, made| made.round == self.round);
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{br0_p1, database};
    use super::*;
    use serde_json::{Value, json};

    fn change(database: &mut Database, table: &str, name: &str, row: Value) {
        let done =
            database.execute(&[json!({"op": "update", "table": table, "where": [["name", "==", name]], "row": row})]);
        database.apply(done.prepared.expect("a change"));
    }

    #[test]
    fn only_what_has_changed_is_read_again() {
        let mut database = database(&br0_p1(json!({}), json!({}), json!({}), json!({})));
        let ports: Vec<_> = database.rows("Port").map(|(uuid, _)| *uuid).collect();
        let (mut memo, mut read) = (Memo::default(), Vec::new());
        let mut look = |database: &Database, ports: &[Uuid]| {
            for &uuid in ports {
                memo.get(database, uuid, |source| {
                    let port = source.row("Port", uuid).expect("a port");
                    let names = port.references(source, "interfaces", "Interface");
                    read.extend(names.map(|(_, row)| row.text("name").unwrap_or_default().to_owned()));
                });
            }
            memo.tidy();
            read.sort();
            std::mem::take(&mut read).join(" ")
        };
        assert_eq!(look(&database, &ports), "br0 p1");
        assert_eq!(look(&database, &ports), "");
        change(&mut database, "Port", "p1", json!({"tag": 5}));
        assert_eq!(look(&database, &ports), "p1");
        change(&mut database, "Interface", "br0", json!({"mtu_request": 1400}));
        change(&mut database, "Bridge", "br0", json!({"fail_mode": "secure"}));
        assert_eq!(look(&database, &ports), "br0");
        // What nobody asks for is not kept.
        assert_eq!(look(&database, &[]), "");
        assert_eq!(look(&database, &ports), "br0 p1");
    }
}
