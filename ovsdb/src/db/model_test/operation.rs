//! Operations, and a transaction of them, in the model.

use super::clause::{Clause, Mutation};
use super::state::{Row, State, settle};
use super::value::{COLUMNS, Column, ID, Val, Word, uuid};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Columns with values, in the order of their names, as in JSON.
pub type Columns = BTreeMap<&'static str, (&'static Column, Val)>;

#[derive(Clone, Debug)]
pub struct Op {
    pub table: &'static str,
    pub rows: Vec<Clause>,
    pub what: What,
}

#[derive(Clone, Debug)]
pub enum What {
    /// With a number and perhaps a name, which is then how the transaction calls the row.
    Insert(u8, bool, Columns),
    Update(Columns),
    Mutate(Vec<Mutation>),
    Delete,
    /// Columns, or all.
    Select(Option<Vec<&'static Column>>),
    Wait {
        columns: Vec<&'static Column>,
        equal: bool,
        expected: Vec<Columns>,
        timeout: Option<u64>,
    },
    Comment(&'static str),
    Commit(bool),
    Abort,
    Assert(&'static str),
    Broken(Value, Word),
}

/// The lock that the client holds.
pub const LOCK: &str = "mine";

fn columns_json(columns: &Columns) -> Value {
    Value::Object(columns.iter().map(|(name, (c, value))| ((*name).to_owned(), c.to_json(value))).collect())
}

fn names(columns: &[&Column]) -> Value {
    columns.iter().map(|c| c.name).collect()
}

fn check_columns(columns: &Columns) -> Result<(), Word> {
    columns.values().try_for_each(|(c, value)| c.check(value, c.min, c.max))
}

impl Op {
    fn to_json(&self) -> Value {
        let Op { table, rows, what } = self;
        let of = |op: &str, members: Value| {
            let mut json = json!({"op": op, "table": table});
            json.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            json
        };
        let rows: Value = rows.iter().map(Clause::to_json).collect();
        match what {
            What::Insert(n, named, row) => {
                let mut op = of("insert", json!({"uuid": uuid(*n), "row": columns_json(row)}));
                if *named {
                    op["uuid-name"] = json!(format!("n{n}"));
                }
                op
            }
            What::Update(row) => of("update", json!({"where": rows, "row": columns_json(row)})),
            What::Mutate(mutations) => of(
                "mutate",
                json!({"where": rows, "mutations": mutations.iter().map(Mutation::to_json).collect::<Value>()}),
            ),
            What::Delete => of("delete", json!({"where": rows})),
            What::Select(None) => of("select", json!({"where": rows})),
            What::Select(Some(columns)) => of("select", json!({"where": rows, "columns": names(columns)})),
            What::Wait { columns, equal, expected, timeout } => {
                let expected: Value = expected.iter().map(columns_json).collect();
                let until = if *equal { "==" } else { "!=" };
                let mut op =
                    of("wait", json!({"where": rows, "columns": names(columns), "until": until, "rows": expected}));
                if let Some(ms) = timeout {
                    op["timeout"] = json!(ms);
                }
                op
            }
            What::Comment(text) => json!({"op": "comment", "comment": text}),
            What::Commit(durable) => json!({"op": "commit", "durable": durable}),
            What::Abort => json!({"op": "abort"}),
            What::Assert(lock) => json!({"op": "assert", "lock": lock}),
            What::Broken(json, _) => json.clone(),
        }
    }
}

/// The operations of one transaction.
pub fn to_json(ops: &[Op]) -> Vec<Value> {
    let mut text = ops.iter().map(Op::to_json).collect::<Value>().to_string();
    for op in ops {
        if let What::Insert(n, true, _) = op.what {
            text = text
                .replace(&json!(["uuid", uuid(n)]).to_string(), &json!(["named-uuid", format!("n{n}")]).to_string());
        }
    }
    serde_json::from_str(&text).unwrap()
}

/// What may be said of a failure, since rows have no order: one of several words.
#[derive(Debug)]
pub struct Failure {
    pub words: BTreeSet<Word>,
    /// How long the transaction may wait.
    pub blocked: Option<Duration>,
}

impl From<Word> for Failure {
    fn from(word: Word) -> Failure {
        Failure { words: BTreeSet::from([word]), blocked: None }
    }
}

/// A transaction of the model.
pub struct Run<'s> {
    before: &'s State,
    now: State,
    names: BTreeSet<u8>,
    /// The results of the operations that went well.
    pub results: Vec<Value>,
    pub comments: Vec<&'static str>,
    pub durable: bool,
}

impl<'s> Run<'s> {
    pub fn new(before: &'s State) -> Run<'s> {
        let (now, names) = (before.clone(), BTreeSet::new());
        Run { before, now, names, results: Vec::new(), comments: Vec::new(), durable: false }
    }

    /// The state after all operations.
    pub fn all(&mut self, ops: &[Op]) -> Result<State, Failure> {
        for op in ops {
            let result = self.one(op)?;
            self.results.push(result);
        }
        Ok(settle(self.now.clone())?)
    }

    fn one(&mut self, op: &Op) -> Result<Value, Failure> {
        match &op.what {
            What::Insert(n, named, row) => Ok(self.insert((op.table, *n), *named, row)?),
            What::Update(row) => Ok(self.update(op, row)?),
            What::Mutate(mutations) => self.mutate(op, mutations),
            What::Delete => {
                let found = self.find(op)?;
                found.iter().for_each(|key| drop(self.now.remove(key)));
                Ok(json!({"count": found.len()}))
            }
            What::Select(columns) => {
                let found = self.find(op)?;
                let all = || COLUMNS.iter().chain([&ID]).collect();
                let columns: Vec<_> = columns.clone().unwrap_or_else(all);
                let rows = found.iter().map(|key| self.now[key].to_json(key.1, columns.iter().copied()));
                Ok(json!({"rows": rows.collect::<Vec<_>>()}))
            }
            What::Wait { columns, equal, expected, timeout } => {
                self.wait(op, columns, *equal, expected, timeout.map_or(Duration::MAX, Duration::from_millis))
            }
            What::Comment(text) => {
                self.comments.push(text);
                Ok(json!({}))
            }
            What::Commit(durable) => {
                self.durable |= durable;
                Ok(json!({}))
            }
            What::Abort => Err("aborted".into()),
            What::Assert(lock) if *lock == LOCK => Ok(json!({})),
            What::Assert(_) => Err("not owner".into()),
            What::Broken(_, word) => Err((*word).into()),
        }
    }

    fn insert(&mut self, key: (&'static str, u8), named: bool, columns: &Columns) -> Result<Value, Word> {
        if self.before.contains_key(&key) || self.now.contains_key(&key) {
            return Err("duplicate uuid");
        }
        if named && !self.names.insert(key.1) {
            return Err("duplicate uuid-name");
        }
        check_columns(columns)?;
        let mut row = Row::new();
        columns.values().for_each(|(column, value)| row.set(column, value.clone()));
        self.now.insert(key, row);
        Ok(json!({"uuid": ["uuid", uuid(key.1)]}))
    }

    fn update(&mut self, op: &Op, columns: &Columns) -> Result<Value, Word> {
        check_columns(columns)?;
        if columns.values().any(|(column, _)| !column.mutable) {
            return Err("constraint violation");
        }
        let found = self.find(op)?;
        for key in &found {
            let row = self.now.get_mut(key).unwrap();
            columns.values().for_each(|(column, value)| row.set(column, value.clone()));
        }
        Ok(json!({"count": found.len()}))
    }

    fn mutate(&mut self, op: &Op, mutations: &[Mutation]) -> Result<Value, Failure> {
        mutations.iter().try_for_each(Mutation::check)?;
        let found = self.find(op)?;
        let mut words = BTreeSet::new();
        for key in &found {
            let row = self.now.get_mut(key).unwrap();
            let mut change = |m: &Mutation| m.apply(&row.get(key.1, m.column)).map(|value| row.set(m.column, value));
            words.extend(mutations.iter().try_for_each(&mut change).err());
        }
        if words.is_empty() { Ok(json!({"count": found.len()})) } else { Err(Failure { words, blocked: None }) }
    }

    fn wait(
        &self,
        op: &Op,
        columns: &[&Column],
        equal: bool,
        expected: &[Columns],
        timeout: Duration,
    ) -> Result<Value, Failure> {
        let found = self.find(op)?;
        expected.iter().try_for_each(check_columns)?;
        let actual: BTreeSet<Vec<Val>> =
            found.iter().map(|key| columns.iter().map(|c| self.now[key].get(key.1, c)).collect()).collect();
        let said =
            |given: &Columns, c: &Column| given.get(c.name).map_or_else(|| c.default(), |(_, value)| value.clone());
        let expected = expected.iter().map(|given| columns.iter().map(|c| said(given, c)).collect()).collect();
        if (actual == expected) == equal {
            return Ok(json!({}));
        }
        Err(Failure { words: BTreeSet::from(["timed out"]), blocked: Some(timeout).filter(|t| !t.is_zero()) })
    }

    /// The rows that the operation is about.
    fn find(&self, op: &Op) -> Result<Vec<(&'static str, u8)>, Word> {
        op.rows.iter().try_for_each(Clause::check)?;
        let all = |(key, row): &(&(&'static str, u8), &Row)| {
            key.0 == op.table && op.rows.iter().all(|clause| clause.holds(key.1, row))
        };
        Ok(self.now.iter().filter(all).map(|(key, _)| *key).collect())
    }
}

/// A result in which rows stand in a certain order, and without versions, which nobody can foretell.
pub fn normal(result: &Value) -> Value {
    let Some(rows) = result.get("rows").and_then(Value::as_array) else { return result.clone() };
    let plain = |row: &Value| {
        let mut row: Map<String, Value> = row.as_object().unwrap().clone();
        row.remove("_version");
        Value::Object(row)
    };
    let mut rows: Vec<Value> = rows.iter().map(plain).collect();
    rows.sort_by_key(Value::to_string);
    json!({"rows": rows})
}
