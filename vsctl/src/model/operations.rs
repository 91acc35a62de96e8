//! The transaction that makes the switch agree with the model.

use ovsdb::value::{Atom, Datum, Uuid};
use serde_json::{Map, Value, json};

use super::{Gone, Model, Row};

/// Operations that carry out the changes.
#[derive(Debug, Default)]
pub(crate) struct Operations {
    /// RFC 7047 §5.2.
    pub list: Vec<Value>,
    /// Where in `list` rows are inserted, and what the model calls them.
    pub inserts: Vec<(usize, Uuid)>,
}

impl Model<'_> {
    /// The operations that carry out the changes; `None` if there is nothing to do.
    pub(crate) fn operations(&self) -> Option<Operations> {
        let all = || self.tables.iter().flat_map(|(name, table)| table.rows.iter().map(move |r| (name, r)));
        if !all().any(|(_, (_, row))| row.is_changed()) {
            return None;
        }
        let mut ops = Operations::default();
        ops.list.extend(all().filter_map(|(table, (uuid, row))| self.guard(table, uuid, row)));
        let inserted = |row: &Row| row.inserted && row.gone.is_none();
        for (table, (uuid, row)) in all().filter(|(_, (_, row))| inserted(row)) {
            ops.inserts.push((ops.list.len(), *uuid));
            let mut insert = json!({"op": "insert", "table": table, "row": self.non_default(table, row)});
            match row.chosen {
                true => insert["uuid"] = json!(uuid.to_string()),
                false => insert["uuid-name"] = json!(row_name(uuid)),
            }
            ops.list.push(insert);
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
        let is_new = |uuid| self.tables.values().any(|t| t.rows.get(uuid).is_some_and(|r| r.inserted && !r.chosen));
        match atom {
            Atom::Uuid(uuid) if is_new(uuid) => json!(["named-uuid", row_name(uuid)]),
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
