//! Conditions and mutations, in the model.

use super::state::Row;
use super::value::{Atom, Column, Kind, UNLIMITED, Val, Word};
use serde_json::{Value, json};
use std::cmp::Ordering;

#[derive(Clone, Debug)]
pub enum Clause {
    Constant(bool),
    Test(&'static Column, &'static str, Val),
    /// With a column or function that nobody knows.
    Broken(Value, Word),
}

pub const FUNCTIONS: [&str; 8] = ["==", "!=", "includes", "excludes", "<", "<=", ">", ">="];

impl Clause {
    pub fn to_json(&self) -> Value {
        match self {
            Clause::Constant(constant) => json!(constant),
            Clause::Test(column, function, arg) => json!([column.name, function, column.to_json(arg)]),
            Clause::Broken(json, _) => json.clone(),
        }
    }

    pub fn check(&self) -> Result<(), Word> {
        let (column, function, arg) = match self {
            Clause::Constant(_) => return Ok(()),
            Clause::Test(column, function, arg) => (column, *function, arg),
            Clause::Broken(_, word) => return Err(word),
        };
        match function {
            "==" | "!=" => column.check(arg, column.min, column.max),
            "includes" | "excludes" if column.is_scalar() => column.check(arg, 1, 1),
            "includes" => column.check(arg, 0, column.max),
            "excludes" => column.check(arg, 0, UNLIMITED),
            _ if column.key == Kind::Int && column.value.is_none() && column.max == 1 => column.check(arg, 1, 1),
            _ => Err("syntax error"),
        }
    }

    pub fn holds(&self, n: u8, row: &Row) -> bool {
        let Clause::Test(column, function, arg) = self else { return matches!(self, Clause::Constant(true)) };
        let value = row.get(n, column);
        let order = value.keys().next().zip(arg.keys().next()).map(|(value, arg)| value.cmp(arg));
        match *function {
            "==" => value == *arg,
            "!=" => value != *arg,
            "includes" => arg.iter().all(|(k, v)| value.get(k) == Some(v)),
            "excludes" => arg.iter().all(|(k, v)| value.get(k) != Some(v)),
            "<" => order.is_some_and(Ordering::is_lt),
            "<=" => order.is_some_and(Ordering::is_le),
            ">" => order.is_some_and(Ordering::is_gt),
            _ => order.is_some_and(Ordering::is_ge),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Mutation {
    pub column: &'static Column,
    pub mutator: &'static str,
    pub arg: Val,
}

pub const ARITHMETIC: [&str; 5] = ["+=", "-=", "*=", "/=", "%="];

impl Mutation {
    pub fn to_json(&self) -> Value {
        json!([self.column.name, self.mutator, self.column.to_json(&self.arg)])
    }

    pub fn check(&self) -> Result<(), Word> {
        let Mutation { column, mutator, arg } = self;
        match *mutator {
            _ if !column.mutable => Err("constraint violation"),
            "insert" if !column.is_scalar() => column.check(arg, 0, column.max),
            "delete" if !column.is_scalar() => column.check(arg, 0, UNLIMITED),
            "=" => Err("unknown mutator"),
            "insert" | "delete" => Err("syntax error"),
            _ if column.key == Kind::Int && column.value.is_none() => Ok(()),
            _ => Err("syntax error"),
        }
    }

    pub fn apply(&self, value: &Val) -> Result<Val, Word> {
        let mut new = value.clone();
        match self.mutator {
            "insert" => new = self.arg.clone().into_iter().chain(new).collect(),
            "delete" => new.retain(|k, v| self.arg.get(k).is_none_or(|gone| gone.is_some() && gone != v)),
            _ => new = self.calculate(value)?,
        }
        let legal = self.column.check(&new, self.column.min, self.column.max);
        legal.map(|()| new).map_err(|_| "constraint violation")
    }

    fn calculate(&self, value: &Val) -> Result<Val, Word> {
        let Some(Atom::Int(y)) = self.arg.keys().next() else { panic!("{:?}", self.arg) };
        let mut new = Val::new();
        for x in value.keys() {
            let Atom::Int(x) = x else { panic!("{value:?}") };
            let result = match self.mutator {
                "+=" => x.checked_add(*y),
                "-=" => x.checked_sub(*y),
                "*=" => x.checked_mul(*y),
                _ if *y == 0 => return Err("domain error"),
                "/=" => x.checked_div(*y),
                _ => x.checked_rem(*y),
            };
            new.insert(Atom::Int(result.ok_or("range error")?), None);
        }
        if new.len() == value.len() { Ok(new) } else { Err("constraint violation") }
    }
}
