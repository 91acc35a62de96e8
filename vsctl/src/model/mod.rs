//! What the commands of one run see and change: a snapshot of the tables they need, the rows and
//! columns changed so far on top of it, and the transaction that makes the switch agree.
//!
//! Later commands see what earlier ones did. Sets and maps that a command changed element by
//! element are sent as mutations, so that runs at the same time do not undo one another and need
//! not be repeated. Every row that is written must still exist, and every value that a command
//! printed or decided on must still be the same ([`Model::rely_on`]), when the transaction
//! arrives; else the switch refuses it and the run starts over with a new snapshot.

use std::collections::{BTreeMap, BTreeSet};

use ovsdb::schema::{ColumnType, DatabaseSchema};
use ovsdb::value::{Atom, Datum, Uuid};
use serde_json::{Value, json};

use crate::error::{Result, fail, failed};

mod index;
mod operations;

use index::Indexes;
pub(crate) use operations::Operations;

/// What to read before the commands run.
#[derive(Debug, Default)]
pub(crate) struct Needs {
    /// Columns by table.
    columns: BTreeMap<String, BTreeSet<String>>,
    /// Tables whose rows are needed all.
    whole: BTreeSet<String>,
    /// Of other tables, conditions (RFC 7047 §5.1); a row that meets one of them is needed.
    few: BTreeMap<String, Vec<Value>>,
}

impl Needs {
    /// Asks for a column of all rows.
    pub(crate) fn column(&mut self, table: &str, column: &str) {
        self.table(table);
        self.also(table, column);
    }

    /// Asks for a table's rows, if only to know which exist.
    pub(crate) fn table(&mut self, table: &str) {
        self.columns.entry(table.to_owned()).or_default();
        self.whole.insert(table.to_owned());
    }

    /// Asks for a column of whatever rows are asked for otherwise.
    pub(crate) fn also(&mut self, table: &str, column: &str) {
        self.columns.entry(table.to_owned()).or_default().insert(column.to_owned());
    }

    /// Asks for the rows that have `value` in `column`.
    pub(crate) fn rows(&mut self, table: &str, column: &str, value: impl Into<Value>) {
        self.also(table, column);
        self.few.entry(table.to_owned()).or_default().push(json!([[column, "==", value.into()]]));
    }

    /// All of it: tables, their columns, and a condition for each `select` that brings their rows.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&String, &BTreeSet<String>, Vec<Value>)> {
        self.columns.iter().map(|(table, columns)| {
            let few = self.few.get(table).filter(|_| !self.whole.contains(table)).cloned();
            (table, columns, few.unwrap_or_else(|| vec![json!([])]))
        })
    }

    /// Asks for all rows of all tables; whether that is more than before.
    pub(crate) fn widen(&mut self) -> bool {
        let before = self.whole.len();
        self.whole.extend(self.few.keys().cloned());
        self.whole.len() > before
    }
}

/// Why the commands do not see a row any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gone {
    /// It is to be deleted.
    Deleted,
    /// Nothing refers to it any more, so the switch will delete it without being asked.
    Unreferenced,
}

/// A row as the commands see it.
#[derive(Debug, Default)]
struct Row {
    inserted: bool,
    /// Inserted under a UUID that the user chose; others get theirs from the switch.
    chosen: bool,
    gone: Option<Gone>,
    /// The values now.
    now: BTreeMap<String, Datum>,
    /// The values that the switch had, of the columns written.
    before: BTreeMap<String, Datum>,
    /// Columns written as a whole; the others written are changed element by element.
    whole: BTreeSet<String>,
    /// Columns that must still be what they were.
    relied_on: BTreeSet<String>,
}

impl Row {
    fn is_changed(&self) -> bool {
        match (self.inserted, self.gone) {
            (true, gone) => gone.is_none(),
            (false, None) => self.before.keys().any(|column| self.sets(column)),
            (false, Some(gone)) => gone == Gone::Deleted,
        }
    }

    /// Whether the column has a value that the switch did not have.
    fn sets(&self, column: &str) -> bool {
        self.inserted || self.before.get(column).is_some_and(|old| self.now.get(column) != Some(old))
    }
}

/// The rows of a table.
#[derive(Debug)]
struct Table {
    rows: BTreeMap<Uuid, Row>,
    indexes: Indexes,
}

impl Table {
    fn new(name: &str, rows: BTreeMap<Uuid, Row>) -> Table {
        let mut indexes = Indexes::of(name);
        for (uuid, row) in &rows {
            row.now.iter().for_each(|(column, value)| indexes.add(column, *uuid, value));
        }
        Table { rows, indexes }
    }
}

/// The snapshot and what was changed on top of it.
#[derive(Debug)]
pub(crate) struct Model<'s> {
    schema: &'s DatabaseSchema,
    tables: BTreeMap<String, Table>,
}

impl<'s> Model<'s> {
    /// A model of a switch with these rows.
    pub(crate) fn new(
        schema: &'s DatabaseSchema,
        rows: BTreeMap<String, BTreeMap<Uuid, BTreeMap<String, Datum>>>,
    ) -> Model<'s> {
        let row = |(uuid, now)| (uuid, Row { now, ..Row::default() });
        let table = |(name, rows): (String, BTreeMap<_, _>)| {
            let table = Table::new(&name, rows.into_iter().map(row).collect());
            (name, table)
        };
        Model { schema, tables: rows.into_iter().map(table).collect() }
    }

    /// The switch's schema.
    pub(crate) fn schema(&self) -> &'s DatabaseSchema {
        self.schema
    }

    /// The rows of a table that was asked for.
    pub(crate) fn rows(&self, table: &str) -> impl Iterator<Item = Uuid> {
        let rows = self.tables.get(table).into_iter().flat_map(|table| &table.rows);
        rows.filter(|(_, row)| row.gone.is_none()).map(|(uuid, _)| *uuid)
    }

    /// The rows of a table whose set in `column` holds `atom`.
    pub(crate) fn holders(&self, table: &str, column: &str, atom: &Atom) -> Vec<Uuid> {
        let Some(rows) = self.tables.get(table) else { return Vec::new() };
        let mut found = rows.indexes.holders(column, atom).unwrap_or_else(|| {
            let holds = |row: &Row| row.now.get(column).is_some_and(|value| value.atoms().any(|a| a == atom));
            rows.rows.iter().filter(|(_, row)| holds(row)).map(|(uuid, _)| *uuid).collect()
        });
        found.retain(|uuid| self.has_row(table, uuid));
        found
    }

    /// Whether the row is there.
    pub(crate) fn has_row(&self, table: &str, uuid: &Uuid) -> bool {
        self.row(table, uuid).is_ok()
    }

    fn row(&self, table: &str, uuid: &Uuid) -> Result<&Row> {
        let row = self.tables.get(table).and_then(|table| table.rows.get(uuid));
        row.filter(|row| row.gone.is_none()).ok_or_else(|| failed!("there is no row {uuid} in {table}"))
    }

    fn row_mut(&mut self, table: &str, uuid: &Uuid) -> Result<&mut Row> {
        let row = self.tables.get_mut(table).and_then(|table| table.rows.get_mut(uuid));
        row.filter(|row| row.gone.is_none()).ok_or_else(|| failed!("there is no row {uuid} in {table}"))
    }

    fn ty(&self, table: &str, column: &str) -> Result<&'s ColumnType> {
        let table_schema = self.schema.tables.get(table);
        let column_schema = table_schema.and_then(|t| t.columns.get(column));
        column_schema.map(|c| &c.ty).ok_or_else(|| failed!("the switch's {table} has no column {column}"))
    }

    /// A column's value.
    pub(crate) fn get(&self, table: &str, uuid: &Uuid, column: &str) -> Result<&Datum> {
        let value = self.row(table, uuid)?.now.get(column);
        value.ok_or_else(|| failed!("{table} column {column} has not been read"))
    }

    /// The string in a column, or the empty string.
    pub(crate) fn text(&self, table: &str, uuid: &Uuid, column: &str) -> Result<&str> {
        Ok(self.get(table, uuid, column)?.as_str().unwrap_or_default())
    }

    /// Demands at commit that the column is what it was in the snapshot.
    pub(crate) fn rely_on(&mut self, table: &str, uuid: &Uuid, column: &str) -> Result<()> {
        self.get(table, uuid, column)?;
        let row = self.row_mut(table, uuid)?;
        if !row.inserted {
            row.relied_on.insert(column.to_owned());
        }
        Ok(())
    }

    /// Replaces a column's value.
    pub(crate) fn set(&mut self, table: &str, uuid: &Uuid, column: &str, to: Datum) -> Result<()> {
        self.write(table, uuid, column, true, |value| {
            let old = std::mem::replace(value, to.clone());
            (old, to)
        })
    }

    /// Adds members to a set, or pairs to a map (of a key that is there, the new value holds). What else is in the
    /// column stays what it is when this is committed.
    pub(crate) fn add_to(&mut self, table: &str, uuid: &Uuid, column: &str, more: Datum) -> Result<()> {
        let whole = self.ty(table, column)?.is_scalar();
        self.write(table, uuid, column, whole, |value| {
            match (value, &more) {
                (Datum::Set(set), Datum::Set(more)) => set.extend(more.iter().cloned()),
                (Datum::Map(map), Datum::Map(more)) => {
                    map.extend(more.iter().map(|(key, value)| (key.clone(), value.clone())));
                }
                _ => {}
            }
            (Datum::empty_set(), more)
        })
    }

    /// Takes members from a set; from a map, the pairs or, given a set, those with the keys in it.
    pub(crate) fn take_from(&mut self, table: &str, uuid: &Uuid, column: &str, less: Datum) -> Result<()> {
        let whole = self.ty(table, column)?.is_scalar();
        self.write(table, uuid, column, whole, |value| {
            match (value, &less) {
                (Datum::Set(set), Datum::Set(less)) => {
                    for atom in less {
                        set.remove(atom);
                    }
                }
                (Datum::Map(map), Datum::Set(less)) => {
                    for key in less {
                        map.remove(key);
                    }
                }
                (Datum::Map(map), Datum::Map(less)) => {
                    for (key, value) in less {
                        if map.get(key) == Some(value) {
                            map.remove(key);
                        }
                    }
                }
                _ => {}
            }
            (less, Datum::empty_set())
        })
    }

    /// Lets `change` have the value; it says which members it took and which it added.
    fn write(
        &mut self,
        table: &str,
        uuid: &Uuid,
        column: &str,
        whole: bool,
        change: impl FnOnce(&mut Datum) -> (Datum, Datum),
    ) -> Result<()> {
        self.ty(table, column)?;
        let row = self.row_mut(table, uuid)?;
        let Some(value) = row.now.get_mut(column) else { fail!("{table} column {column} has not been read") };
        if !row.inserted && !row.before.contains_key(column) {
            row.before.insert(column.to_owned(), value.clone());
        }
        let (less, more) = change(value);
        if whole && !row.inserted {
            row.whole.insert(column.to_owned());
        }
        if let Some(table) = self.tables.get_mut(table) {
            table.indexes.take(column, *uuid, &less);
            table.indexes.add(column, *uuid, &more);
        }
        Ok(())
    }

    /// Adds a row, all its columns at their defaults.
    pub(crate) fn insert(&mut self, table: &str) -> Result<Uuid> {
        let uuid = Uuid::new_v4();
        self.insert_row(table, uuid, false).map(|()| uuid)
    }

    /// The same under a UUID that was promised by an `@name`; the switch will choose another.
    pub(crate) fn insert_promised(&mut self, table: &str, uuid: Uuid) -> Result<()> {
        self.insert_row(table, uuid, false)
    }

    /// The same under a UUID that the switch must use.
    pub(crate) fn insert_chosen(&mut self, table: &str, uuid: Uuid) -> Result<()> {
        match self.tables.values().any(|table| table.rows.contains_key(&uuid)) {
            true => fail!("there is a row {uuid} already"),
            false => self.insert_row(table, uuid, true),
        }
    }

    fn insert_row(&mut self, name: &str, uuid: Uuid, chosen: bool) -> Result<()> {
        let Some(schema) = self.schema.tables.get(name) else { fail!("the switch has no table {name}") };
        let now = schema.columns.iter().map(|(name, c)| (name.clone(), c.ty.default_datum())).collect();
        let row = Row { inserted: true, chosen, now, ..Row::default() };
        let table = self.tables.entry(name.to_owned()).or_insert_with(|| Table::new(name, BTreeMap::new()));
        row.now.iter().for_each(|(column, value)| table.indexes.add(column, uuid, value));
        table.rows.insert(uuid, row);
        Ok(())
    }

    /// Deletes a row.
    pub(crate) fn delete(&mut self, table: &str, uuid: &Uuid) -> Result<()> {
        self.row_mut(table, uuid)?.gone = Some(Gone::Deleted);
        Ok(())
    }

    /// Takes a row out of sight that the switch will delete by itself, since what referred to it
    /// does so no longer.
    pub(crate) fn forget(&mut self, table: &str, uuid: &Uuid) -> Result<()> {
        self.row_mut(table, uuid)?.gone = Some(Gone::Unreferenced);
        Ok(())
    }

    /// Whether a column of a row has a value that the switch did not have.
    pub(crate) fn sets(&self, table: &str, uuid: &Uuid, column: &str) -> bool {
        self.tables.get(table).and_then(|table| table.rows.get(uuid)).is_some_and(|row| row.sets(column))
    }

    /// Rows of a table that were inserted or changed.
    pub(crate) fn touched(&self, table: &str) -> Vec<Uuid> {
        let rows = self.tables.get(table).into_iter().flat_map(|table| &table.rows);
        let here = rows.filter(|(_, row)| row.is_changed() && row.gone.is_none());
        here.map(|(uuid, _)| *uuid).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::vswitch_schema::vswitch_schema;
    use serde_json::{Value, json};

    fn uuid(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn json_uuid(n: u128) -> Value {
        json!(["uuid", uuid(n).to_string()])
    }

    fn columns<const N: usize>(columns: [(&str, Datum); N]) -> BTreeMap<String, Datum> {
        columns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The switch, row 1, with bridge br0, row 2, that has no ports.
    fn model(schema: &DatabaseSchema) -> Model<'_> {
        let switch = columns([("bridges", Datum::uuid(uuid(2))), ("ovs_version", Datum::string("1"))]);
        let ids = Datum::map_of_strings([("a", "1"), ("b", "2")]);
        let bridge = columns([
            ("name", Datum::string("br0")),
            ("ports", Datum::empty_set()),
            ("external_ids", ids),
            ("fail_mode", Datum::empty_set()),
            ("stp_enable", Datum::boolean(false)),
        ]);
        let rows = BTreeMap::from([
            ("Open_vSwitch".to_owned(), BTreeMap::from([(uuid(1), switch)])),
            ("Bridge".to_owned(), BTreeMap::from([(uuid(2), bridge)])),
        ]);
        Model::new(schema, rows)
    }

    fn guard(table: &str, n: u128) -> Value {
        json!({"op": "wait", "timeout": 0, "table": table, "where": [["_uuid", "==", json_uuid(n)]],
            "columns": ["_uuid"], "until": "==", "rows": [{"_uuid": json_uuid(n)}]})
    }

    #[test]
    fn what_is_as_it_was_needs_no_transaction() {
        let schema = vswitch_schema();
        let mut model = model(&schema);
        assert!(model.operations().is_none());
        model.set("Bridge", &uuid(2), "stp_enable", Datum::boolean(false)).unwrap();
        model.rely_on("Bridge", &uuid(2), "name").unwrap();
        model.insert_promised("Port", uuid(3)).unwrap();
        model.delete("Port", &uuid(3)).unwrap();
        model.forget("Bridge", &uuid(2)).unwrap();
        assert!(model.operations().is_none());
        assert!(!model.has_row("Bridge", &uuid(2)));
    }

    #[test]
    fn new_rows_and_references_to_them() {
        let schema = vswitch_schema();
        let mut model = model(&schema);
        let port = uuid(3);
        model.insert_promised("Port", port).unwrap();
        model.set("Port", &port, "name", Datum::string("p1")).unwrap();
        model.set("Port", &port, "tag", Datum::empty_set()).unwrap();
        model.add_to("Bridge", &uuid(2), "ports", Datum::uuid(port)).unwrap();
        let ops = model.operations().unwrap();
        let name = "row00000000000000000000000000000003";
        assert_eq!(
            ops.list,
            [
                guard("Bridge", 2),
                json!({"op": "insert", "table": "Port", "uuid-name": name, "row": {"name": "p1"}}),
                json!({"op": "mutate", "table": "Bridge", "where": [["_uuid", "==", json_uuid(2)]],
                    "mutations": [["ports", "insert", ["named-uuid", name]]]}),
            ]
        );
        assert_eq!(ops.inserts, [(1, uuid(3))]);
        assert_eq!(model.touched("Port"), [uuid(3)]);
    }

    #[test]
    fn elements_are_mutated_and_whole_columns_updated() {
        let schema = vswitch_schema();
        let mut model = model(&schema);
        model.add_to("Bridge", &uuid(2), "external_ids", Datum::map_of_strings([("b", "3"), ("c", "4")])).unwrap();
        model.set("Bridge", &uuid(2), "fail_mode", Datum::string("secure")).unwrap();
        model.set("Bridge", &uuid(2), "stp_enable", Datum::boolean(true)).unwrap();
        let at = json!([["_uuid", "==", json_uuid(2)]]);
        assert_eq!(
            model.operations().unwrap().list,
            [
                guard("Bridge", 2),
                json!({"op": "update", "table": "Bridge", "where": at, "row": {"fail_mode": "secure", "stp_enable": true}}),
                json!({"op": "mutate", "table": "Bridge", "where": at, "mutations": [
                    ["external_ids", "delete", "b"],
                    ["external_ids", "insert", ["map", [["b", "3"], ["c", "4"]]]],
                ]}),
            ]
        );
    }

    #[test]
    fn what_was_relied_on_must_still_hold() {
        let schema = vswitch_schema();
        let mut model = model(&schema);
        model.rely_on("Open_vSwitch", &uuid(1), "ovs_version").unwrap();
        model.set("Open_vSwitch", &uuid(1), "ovs_version", Datum::string("2")).unwrap();
        model.delete("Bridge", &uuid(2)).unwrap();
        let at = |n| json!([["_uuid", "==", json_uuid(n)]]);
        assert_eq!(
            model.operations().unwrap().list,
            [
                guard("Bridge", 2),
                json!({"op": "wait", "timeout": 0, "table": "Open_vSwitch", "where": at(1), "until": "==",
                    "columns": ["_uuid", "ovs_version"], "rows": [{"_uuid": json_uuid(1), "ovs_version": "1"}]}),
                json!({"op": "delete", "table": "Bridge", "where": at(2)}),
                json!({"op": "update", "table": "Open_vSwitch", "where": at(1), "row": {"ovs_version": "2"}}),
            ]
        );
    }

    #[test]
    fn columns_that_were_not_read_are_an_error_not_a_default() {
        let schema = vswitch_schema();
        let mut model = model(&schema);
        let error = model.get("Bridge", &uuid(2), "status").unwrap_err().to_string();
        assert_eq!(error, "Bridge column status has not been read");
        assert!(model.set("Bridge", &uuid(2), "status", Datum::empty_map()).is_err());
        assert!(model.set("Bridge", &uuid(9), "name", Datum::string("x")).is_err());
        assert!(model.set("Bridge", &uuid(2), "nosuch", Datum::string("x")).is_err());
    }

    #[test]
    fn our_own_server_takes_the_operations() {
        use ovsdb::db::Database;
        let schema = vswitch_schema();
        let mut db = Database::new(schema.clone());
        let commit = |db: &mut Database, ops: &[Value]| {
            let done = db.execute(ops);
            done.prepared.into_iter().for_each(|prepared| drop(db.apply(prepared)));
            done.reply
        };
        let row = json!({"name": "br0", "external_ids": ["map", [["a", "1"], ["b", "2"]]]});
        let made = commit(
            &mut db,
            &[
                json!({"op": "insert", "table": "Bridge", "row": row, "uuid-name": "b"}),
                json!({"op": "insert", "table": "Open_vSwitch", "row": {"bridges": ["named-uuid", "b"]}}),
            ],
        );
        let bridge: Uuid = made[0]["uuid"][1].as_str().and_then(|text| text.parse().ok()).unwrap();
        let values = db.row("Bridge", &bridge).unwrap();
        let read = |column: &str| (column.to_owned(), values.get(column).unwrap().clone());
        let columns = ["name", "ports", "external_ids", "fail_mode"].map(read).into();
        let rows = BTreeMap::from([("Bridge".to_owned(), BTreeMap::from([(bridge, columns)]))]);
        let mut model = Model::new(&schema, rows);
        let port = uuid(3);
        model.insert_promised("Port", port).unwrap();
        let interface = uuid(4);
        model.insert_promised("Interface", interface).unwrap();
        model.set("Interface", &interface, "name", Datum::string("p1")).unwrap();
        model.set("Port", &port, "name", Datum::string("p1")).unwrap();
        model.set("Port", &port, "interfaces", Datum::uuid(interface)).unwrap();
        model.add_to("Bridge", &bridge, "ports", Datum::uuid(port)).unwrap();
        let ids = Datum::map_of_strings([("b", "3"), ("c", "4")]);
        model.add_to("Bridge", &bridge, "external_ids", ids.clone()).unwrap();
        model.take_from("Bridge", &bridge, "external_ids", Datum::string("a")).unwrap();
        model.rely_on("Bridge", &bridge, "fail_mode").unwrap();
        let ops = model.operations().unwrap().list;
        let reply = commit(&mut db, &ops);
        assert!(reply.as_array().unwrap().iter().all(|result| result.get("error").is_none()), "{reply}");
        let after = db.row("Bridge", &bridge).unwrap();
        assert_eq!((after.get("ports").unwrap().len(), after.get("external_ids").unwrap()), (1, &ids));

        let at = model.at(&bridge);
        commit(&mut db, &[json!({"op": "update", "table": "Bridge", "where": at, "row": {"fail_mode": "secure"}})]);
        assert_eq!(db.execute(&ops).reply[0]["error"], "timed out");
    }
}
