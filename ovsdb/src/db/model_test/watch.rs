//! Monitors, in the model: they compare two whole databases.

use super::clause::Clause;
use super::state::{Row, State};
use super::value::{Column, ROWS, Word, uuid};
use crate::db::MonitorVersion;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Occasions to tell of a row, and their places in [`Request::select`].
pub const OCCASIONS: [&str; 4] = ["initial", "insert", "delete", "modify"];
const INITIAL: usize = 0;
const INSERT: usize = 1;
const DELETE: usize = 2;
const MODIFY: usize = 3;

/// What a client asks of a table, in one of several requests.
#[derive(Clone, Debug)]
pub struct Request {
    pub columns: Vec<&'static Column>,
    pub select: [bool; 4],
    pub rows: Option<Vec<Clause>>,
}

#[derive(Clone, Debug)]
pub struct Watch {
    pub version: MonitorVersion,
    pub tables: BTreeMap<&'static str, Vec<Request>>,
}

/// New conditions: for each table those of several requests.
pub type Conditions = BTreeMap<&'static str, Vec<Option<Vec<Clause>>>>;

fn clauses_json(clauses: &[Clause]) -> Value {
    clauses.iter().map(Clause::to_json).collect()
}

pub fn conditions_json(conditions: &Conditions) -> Value {
    let one = |rows: &Option<Vec<Clause>>| rows.as_ref().map_or(json!({}), |rows| json!({"where": clauses_json(rows)}));
    let table = |(name, list): (&&str, &Vec<_>)| ((*name).to_owned(), list.iter().map(one).collect());
    Value::Object(conditions.iter().map(table).collect())
}

impl Request {
    fn to_json(&self) -> Value {
        let select: Map<String, Value> =
            OCCASIONS.iter().zip(self.select).map(|(name, asked)| ((*name).to_owned(), json!(asked))).collect();
        let mut json = json!({"columns": self.columns.iter().map(|c| c.name).collect::<Value>(), "select": select});
        if let Some(rows) = &self.rows {
            json["where"] = clauses_json(rows);
        }
        json
    }

    fn sees(&self, n: u8, row: &Row) -> bool {
        self.rows.as_ref().is_none_or(|rows| rows.is_empty() || rows.iter().any(|clause| clause.holds(n, row)))
    }
}

impl Watch {
    pub fn to_json(&self) -> Value {
        let table =
            |(name, list): (&&str, &Vec<Request>)| ((*name).to_owned(), list.iter().map(Request::to_json).collect());
        Value::Object(self.tables.iter().map(table).collect())
    }

    pub fn check(&self) -> Result<(), Word> {
        self.tables.values().flatten().filter_map(|r| r.rows.as_ref()).flatten().try_for_each(Clause::check)
    }

    pub fn initial(&self, state: &State) -> Option<Value> {
        self.updates(&State::new(), self, state, INITIAL)
    }

    /// What the client is told when `before` becomes `after`.
    pub fn update(&self, before: &State, after: &State) -> Option<Value> {
        self.updates(before, self, after, INSERT)
    }

    /// Takes new conditions; returns what the client is told.
    pub fn change(&mut self, conditions: &Conditions, state: &State) -> Result<Option<Value>, Word> {
        let mut new = self.clone();
        for (table, list) in conditions {
            let requests = new.tables.get_mut(table).ok_or("syntax error")?;
            list.iter().flatten().flatten().try_for_each(Clause::check)?;
            if list.is_empty() || self.version == MonitorVersion::V1 {
                continue;
            }
            let some = list.iter().map(|rows| rows.clone().filter(|rows| !rows.is_empty()));
            let all: Option<Vec<Vec<Clause>>> = some.collect();
            requests.iter_mut().for_each(|r| r.rows = all.as_ref().map(|all| all.concat()));
        }
        let old = std::mem::replace(self, new);
        // Of a row that is seen before and after, nothing has changed.
        Ok(old.updates(state, self, state, INSERT))
    }

    /// What changes for a client that saw `before` by `self` and sees `after` by `watch`. `arrival`: what it is called
    /// if a row is new to it.
    fn updates(&self, before: &State, watch: &Watch, after: &State, arrival: usize) -> Option<Value> {
        let mut updates = Map::new();
        for (table, requests) in &self.tables {
            let mut rows = Map::new();
            for n in ROWS {
                let seen = |state: &'_ State, requests: &[Request]| {
                    state.get(&(*table, n)).filter(|row| requests.iter().any(|r| r.sees(n, row))).cloned()
                };
                let (old, new) = (seen(before, requests), seen(after, &watch.tables[table]));
                if let Some(update) = self.tell(requests, n, old.as_ref(), new.as_ref(), arrival) {
                    rows.insert(uuid(n), update);
                }
            }
            if !rows.is_empty() {
                updates.insert((*table).to_owned(), Value::Object(rows));
            }
        }
        (!updates.is_empty()).then_some(Value::Object(updates))
    }

    fn tell(&self, requests: &[Request], n: u8, old: Option<&Row>, new: Option<&Row>, arrival: usize) -> Option<Value> {
        let occasion = match (old, new) {
            (None, None) => return None,
            (None, Some(_)) => arrival,
            (Some(_), None) => DELETE,
            (Some(_), Some(_)) => MODIFY,
        };
        let asked: Vec<&Request> = requests.iter().filter(|r| r.select[occasion]).collect();
        if asked.is_empty() {
            return None;
        }
        let columns = || asked.iter().flat_map(|r| r.columns.iter().copied());
        let full = |row: &Row| row.to_json(n, columns());
        let changed =
            |old: &Row, new: &Row| -> Vec<&Column> { columns().filter(|c| old.get(n, c) != new.get(n, c)).collect() };
        let v1 = self.version == MonitorVersion::V1;
        Some(match (old, new) {
            (Some(old), Some(new)) => {
                let changed = changed(old, new);
                if changed.is_empty() {
                    return None;
                }
                let difference =
                    |c: &&Column| (c.name.to_owned(), c.to_json(&c.difference(&old.get(n, c), &new.get(n, c))));
                match v1 {
                    true => json!({"old": old.to_json(n, changed), "new": full(new)}),
                    false => json!({"modify": changed.iter().map(difference).collect::<Map<_, _>>()}),
                }
            }
            (Some(old), None) if v1 => json!({"old": full(old)}),
            (_, None) => json!({"delete": null}),
            (None, Some(new)) if v1 => json!({"new": full(new)}),
            (None, Some(new)) => {
                let said = columns().filter(|c| c.name == "_uuid" || new.get(n, c) != c.default());
                json!({OCCASIONS[arrival]: new.to_json(n, said)})
            }
        })
    }
}
