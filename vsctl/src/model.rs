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
use serde_json::{Map, Value, json};

use crate::error::{Result, failed};

/// Tables and columns to read before the commands run.
#[derive(Debug, Default)]
pub(crate) struct Needs(pub BTreeMap<String, BTreeSet<String>>);

impl Needs {
    /// Asks for a column.
    pub(crate) fn column(&mut self, table: &str, column: &str) {
        self.0.entry(table.to_owned()).or_default().insert(column.to_owned());
    }

    /// Asks for a table's rows, if only to know which exist.
    pub(crate) fn table(&mut self, table: &str) {
        self.0.entry(table.to_owned()).or_default();
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
            (false, None) => self.before.iter().any(|(c, old)| self.now.get(c) != Some(old)),
            (false, Some(gone)) => gone == Gone::Deleted,
        }
    }
}

/// The snapshot and what was changed on top of it.
#[derive(Debug)]
pub(crate) struct Model<'s> {
    schema: &'s DatabaseSchema,
    tables: BTreeMap<String, BTreeMap<Uuid, Row>>,
}

/// Operations that carry out the changes.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    /// RFC 7047 §5.2.
    pub list: Vec<Value>,
    /// Where in `list` rows are inserted, and what the model calls them.
    pub inserts: Vec<(usize, Uuid)>,
}

impl<'s> Model<'s> {
    /// A model of a switch with these rows.
    pub(crate) fn new(
        schema: &'s DatabaseSchema,
        rows: BTreeMap<String, BTreeMap<Uuid, BTreeMap<String, Datum>>>,
    ) -> Model<'s> {
        let row = |(uuid, now)| (uuid, Row { now, ..Row::default() });
        let table = |(name, rows): (String, BTreeMap<_, _>)| (name, rows.into_iter().map(row).collect());
        Model { schema, tables: rows.into_iter().map(table).collect() }
    }

    /// The switch's schema.
    pub(crate) fn schema(&self) -> &'s DatabaseSchema {
        self.schema
    }

    /// The rows of a table that was asked for.
    pub(crate) fn rows(&self, table: &str) -> impl Iterator<Item = Uuid> {
        let rows = self.tables.get(table).into_iter().flatten();
        rows.filter(|(_, row)| row.gone.is_none()).map(|(uuid, _)| *uuid)
    }

    /// Whether the row is there.
    pub(crate) fn has_row(&self, table: &str, uuid: &Uuid) -> bool {
        self.row(table, uuid).is_ok()
    }

    fn row(&self, table: &str, uuid: &Uuid) -> Result<&Row> {
        let row = self.tables.get(table).and_then(|rows| rows.get(uuid));
        row.filter(|row| row.gone.is_none()).ok_or_else(|| failed!("there is no row {uuid} in {table}"))
    }

    fn row_mut(&mut self, table: &str, uuid: &Uuid) -> Result<&mut Row> {
        let row = self.tables.get_mut(table).and_then(|rows| rows.get_mut(uuid));
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
        self.write(table, uuid, column, to, true)
    }

    /// Changes some elements of a column; the others stay what they are when this is committed.
    pub(crate) fn change(
        &mut self,
        table: &str,
        uuid: &Uuid,
        column: &str,
        change: impl FnOnce(&mut Datum),
    ) -> Result<()> {
        let mut to = self.get(table, uuid, column)?.clone();
        change(&mut to);
        let whole = self.ty(table, column)?.is_scalar();
        self.write(table, uuid, column, to, whole)
    }

    fn write(&mut self, table: &str, uuid: &Uuid, column: &str, to: Datum, whole: bool) -> Result<()> {
        self.ty(table, column)?;
        let row = self.row_mut(table, uuid)?;
        let old = row.now.insert(column.to_owned(), to);
        if row.inserted {
            return Ok(());
        }
        let old = old.ok_or_else(|| failed!("{table} column {column} has not been read"))?;
        row.before.entry(column.to_owned()).or_insert(old);
        if whole {
            row.whole.insert(column.to_owned());
        }
        Ok(())
    }

    /// Adds a row, all its columns at their defaults.
    pub(crate) fn insert(&mut self, table: &str, uuid: Uuid) -> Result<Uuid> {
        let columns = match self.schema.tables.get(table) {
            Some(table) => &table.columns,
            None => return Err(failed!("the switch has no table {table}")),
        };
        let now = columns.iter().map(|(name, c)| (name.clone(), c.ty.default_datum())).collect();
        let row = Row { inserted: true, now, ..Row::default() };
        self.tables.entry(table.to_owned()).or_default().insert(uuid, row);
        Ok(uuid)
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

    /// Rows of a table that were inserted or changed.
    pub(crate) fn touched(&self, table: &str) -> Vec<Uuid> {
        let rows = self.tables.get(table).into_iter().flatten();
        let here = rows.filter(|(_, row)| row.is_changed() && row.gone.is_none());
        here.map(|(uuid, _)| *uuid).collect()
    }

    /// The operations that carry out the changes; `None` if there is nothing to do.
    pub(crate) fn operations(&self) -> Option<Operations> {
        let all = || self.tables.iter().flat_map(|(name, rows)| rows.iter().map(move |r| (name, r)));
        if !all().any(|(_, (_, row))| row.is_changed()) {
            return None;
        }
        let mut ops = Operations::default();
        ops.list.extend(all().filter_map(|(table, (uuid, row))| self.guard(table, uuid, row)));
        let inserted = |row: &Row| row.inserted && row.gone.is_none();
        for (table, (uuid, row)) in all().filter(|(_, (_, row))| inserted(row)) {
            ops.inserts.push((ops.list.len(), *uuid));
            let values = self.non_default(table, row);
            ops.list.push(json!({
                "op": "insert", "table": table, "uuid-name": row_name(uuid), "row": values,
            }));
        }
        for (table, (uuid, row)) in all().filter(|(_, (_, row))| !row.inserted) {
            match row.gone {
                Some(Gone::Unreferenced) => {}
                Some(Gone::Deleted) => ops.list.push(json!({
                    "op": "delete", "table": table, "where": self.at(uuid),
                })),
                None => {
                    ops.list.extend(self.update(table, uuid, row));
                    ops.list.extend(self.mutate(table, uuid, row));
                }
            }
        }
        Some(ops)
    }

    /// Fails the transaction if the row is gone or what was relied on has changed.
    fn guard(&self, table: &str, uuid: &Uuid, row: &Row) -> Option<Value> {
        let written = match row.gone {
            None => !row.before.is_empty(),
            Some(gone) => gone == Gone::Deleted,
        };
        if row.inserted || (row.relied_on.is_empty() && !written) {
            return None;
        }
        let mut values = Map::from_iter([("_uuid".to_owned(), self.atom(&Atom::Uuid(*uuid)))]);
        for column in &row.relied_on {
            let old = row.before.get(column).or_else(|| row.now.get(column))?;
            values.insert(column.clone(), self.value(old));
        }
        let columns: Vec<&String> = values.keys().collect();
        Some(json!({
            "op": "wait", "timeout": 0, "table": table, "where": self.at(uuid),
            "columns": columns, "until": "==", "rows": [values],
        }))
    }

    fn non_default(&self, table: &str, row: &Row) -> Map<String, Value> {
        let is_default = |column: &str, value: &Datum| self.ty(table, column).is_ok_and(|ty| ty.is_default(value));
        let set = row.now.iter().filter(|(column, value)| !is_default(column, value));
        set.map(|(column, value)| (column.clone(), self.value(value))).collect()
    }

    fn update(&self, table: &str, uuid: &Uuid, row: &Row) -> Option<Value> {
        let written = row.whole.iter().filter_map(|column| Some((column, row.now.get(column)?)));
        let values: Map<String, Value> = written.map(|(column, value)| (column.clone(), self.value(value))).collect();
        let update = json!({
            "op": "update", "table": table, "where": self.at(uuid), "row": values,
        });
        (!values.is_empty()).then_some(update)
    }

    fn mutate(&self, table: &str, uuid: &Uuid, row: &Row) -> Option<Value> {
        let mut mutations = Vec::new();
        for (column, old) in row.before.iter().filter(|(column, _)| !row.whole.contains(*column)) {
            let (gone, come) = difference(old, row.now.get(column)?);
            if !gone.is_empty() {
                mutations.push(json!([column, "delete", self.value(&gone)]));
            }
            if !come.is_empty() {
                mutations.push(json!([column, "insert", self.value(&come)]));
            }
        }
        let mutate = json!({
            "op": "mutate", "table": table, "where": self.at(uuid), "mutations": mutations,
        });
        (!mutations.is_empty()).then_some(mutate)
    }

    /// The `where` that means this row.
    pub(crate) fn at(&self, uuid: &Uuid) -> Value {
        json!([["_uuid", "==", self.atom(&Atom::Uuid(*uuid))]])
    }

    /// A value for the switch; rows of this transaction by the names it gives them.
    fn value(&self, datum: &Datum) -> Value {
        match datum {
            Datum::Set(set) if set.len() == 1 => set.first().map_or(Value::Null, |a| self.atom(a)),
            Datum::Set(set) => json!(["set", set.iter().map(|a| self.atom(a)).collect::<Vec<_>>()]),
            Datum::Map(map) => {
                let pair = |(k, v): (&Atom, &Atom)| json!([self.atom(k), self.atom(v)]);
                json!(["map", map.iter().map(pair).collect::<Vec<_>>()])
            }
        }
    }

    fn atom(&self, atom: &Atom) -> Value {
        let inserted = |uuid| self.tables.values().any(|rows| rows.get(uuid).is_some_and(|row| row.inserted));
        match atom {
            Atom::Uuid(uuid) if inserted(uuid) => json!(["named-uuid", row_name(uuid)]),
            other => other.to_json(),
        }
    }
}

/// What a transaction calls a row that it inserts: an `<id>`, so without dashes.
fn row_name(uuid: &Uuid) -> String {
    format!("row{}", uuid.simple())
}

/// What to delete from `old` (of a map the keys) and what to insert then, to make it `new`.
fn difference(old: &Datum, new: &Datum) -> (Datum, Datum) {
    match (old, new) {
        (Datum::Set(old), Datum::Set(new)) => {
            (Datum::Set(old.difference(new).cloned().collect()), Datum::Set(new.difference(old).cloned().collect()))
        }
        (Datum::Map(old), Datum::Map(new)) => {
            let gone = old.iter().filter(|(key, value)| new.get(key) != Some(value));
            let come = new.iter().filter(|(key, value)| old.get(key) != Some(value));
            (
                Datum::Set(gone.map(|(key, _)| key.clone()).collect()),
                Datum::Map(come.map(|(key, value)| (key.clone(), value.clone())).collect()),
            )
        }
        (old, new) => (old.clone(), new.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ovsdb::vswitch_schema::vswitch_schema;

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
        model.insert("Port", uuid(3)).unwrap();
        model.delete("Port", &uuid(3)).unwrap();
        model.forget("Bridge", &uuid(2)).unwrap();
        assert!(model.operations().is_none());
        assert!(!model.has_row("Bridge", &uuid(2)));
    }

    #[test]
    fn new_rows_and_references_to_them() {
        let schema = vswitch_schema();
        let mut model = model(&schema);
        let port = model.insert("Port", uuid(3)).unwrap();
        model.set("Port", &port, "name", Datum::string("p1")).unwrap();
        model.set("Port", &port, "tag", Datum::empty_set()).unwrap();
        model.change("Bridge", &uuid(2), "ports", |ports| *ports = Datum::uuid(port)).unwrap();
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
        let change = |datum: &mut Datum| *datum = Datum::map_of_strings([("a", "1"), ("b", "3"), ("c", "4")]);
        model.change("Bridge", &uuid(2), "external_ids", change).unwrap();
        model.set("Bridge", &uuid(2), "fail_mode", Datum::string("secure")).unwrap();
        model.change("Bridge", &uuid(2), "stp_enable", |datum| *datum = Datum::boolean(true)).unwrap();
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
        let port = model.insert("Port", uuid(3)).unwrap();
        let interface = model.insert("Interface", uuid(4)).unwrap();
        model.set("Interface", &interface, "name", Datum::string("p1")).unwrap();
        model.set("Port", &port, "name", Datum::string("p1")).unwrap();
        model.set("Port", &port, "interfaces", Datum::uuid(interface)).unwrap();
        model.change("Bridge", &bridge, "ports", |ports| *ports = Datum::uuid(port)).unwrap();
        let ids = Datum::map_of_strings([("b", "3"), ("c", "4")]);
        model.change("Bridge", &bridge, "external_ids", |map| *map = ids.clone()).unwrap();
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
