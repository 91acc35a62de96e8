//! `<mutation>`s (RFC 7047 §5.1): changes relative to what a column holds.

use super::condition::mismatch;
use super::txn::no_column;
use crate::error::OpError;
use crate::schema::{ColumnType, Limits, TableSchema, UNLIMITED};
use crate::value::{Atom, AtomType, Datum, Real, Symbols};
use serde_json::Value;
use std::collections::BTreeSet;

/// One mutation of one column.
pub(super) struct Mutation<'s> {
    pub column: String,
    ty: &'s ColumnType,
    mutator: Mutator,
    arg: Datum,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mutator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Insert,
    Delete,
}

impl Mutator {
    fn from_name(name: &str) -> Option<Mutator> {
        Some(match name {
            "+=" => Mutator::Add,
            "-=" => Mutator::Subtract,
            "*=" => Mutator::Multiply,
            "/=" => Mutator::Divide,
            "%=" => Mutator::Remainder,
            "insert" => Mutator::Insert,
            "delete" => Mutator::Delete,
            _ => return None,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Mutator::Add => "+=",
            Mutator::Subtract => "-=",
            Mutator::Multiply => "*=",
            Mutator::Divide => "/=",
            Mutator::Remainder => "%=",
            Mutator::Insert => "insert",
            Mutator::Delete => "delete",
        }
    }

    /// The type of the argument for a column of type `ty`; `None` if they do not go together.
    fn arg_type(self, ty: &ColumnType, arg: &Value) -> Option<ColumnType> {
        let mut arg_type = ty.clone();
        match self {
            Mutator::Insert if !ty.is_scalar() => arg_type.min = 0,
            Mutator::Delete if !ty.is_scalar() => {
                (arg_type.min, arg_type.max) = (0, UNLIMITED);
                // A map's pairs may be deleted by their keys alone.
                if !is_map(arg) {
                    arg_type.value = None;
                }
            }
            Mutator::Insert | Mutator::Delete => return None,
            _ => {
                let fits = match ty.key.ty {
                    AtomType::Integer => true,
                    AtomType::Real => self != Mutator::Remainder,
                    _ => false,
                };
                if ty.is_map() || !fits {
                    return None;
                }
                arg_type = ColumnType::scalar(ty.key.clone());
                // The limits bind the result, not the step.
                arg_type.key.limits = Limits::None;
            }
        }
        Some(arg_type)
    }

    fn integers(self, x: i64, y: i64) -> Result<i64, OpError> {
        let result = match self {
            Mutator::Add => x.checked_add(y),
            Mutator::Subtract => x.checked_sub(y),
            Mutator::Multiply => x.checked_mul(y),
            _ if y == 0 => return Err(OpError::new("domain error", "Division by zero.")),
            Mutator::Divide => x.checked_div(y),
            _ => x.checked_rem(y),
        };
        result.ok_or_else(|| self.out_of_range())
    }

    fn reals(self, x: f64, y: f64) -> Result<f64, OpError> {
        let result = match self {
            Mutator::Add => x + y,
            Mutator::Subtract => x - y,
            Mutator::Multiply => x * y,
            _ if y == 0.0 => return Err(OpError::new("domain error", "Division by zero.")),
            _ => x / y,
        };
        if result.is_finite() { Ok(result) } else { Err(self.out_of_range()) }
    }

    fn out_of_range(self) -> OpError {
        OpError::new("range error", format!("Result of \"{}\" operation is out of range.", self.name()))
    }
}

fn is_map(v: &Value) -> bool {
    matches!(v.as_array().map(Vec::as_slice), Some([Value::String(tag), _]) if tag == "map")
}

impl<'s> Mutation<'s> {
    /// Reads a mutation of rows of the table `name`.
    pub fn from_json(
        name: &str,
        schema: &'s TableSchema,
        v: &Value,
        symbols: &mut dyn Symbols,
    ) -> Result<Mutation<'s>, OpError> {
        let Some([Value::String(column), Value::String(mutator), arg]) = v.as_array().map(Vec::as_slice) else {
            return Err(OpError::syntax(v, "Parse error in mutation."));
        };
        let immutable =
            || OpError::constraint(format!("Cannot mutate immutable column {column} in table {name}.")).at(v);
        let ty = match schema.column(column) {
            Some(found) if found.mutable => &found.ty,
            None if column != "_uuid" && column != "_version" => return Err(no_column(name, column).at(v)),
            _ => return Err(immutable()),
        };
        let mutator = Mutator::from_name(mutator)
            .ok_or_else(|| OpError::new("unknown mutator", format!("No mutator named {mutator}.")))?;
        let arg_type = mutator.arg_type(ty, arg).ok_or_else(|| mismatch(v, column, ty))?;
        let arg = Datum::from_json(&arg_type, arg, symbols)?;
        Ok(Mutation { column: column.clone(), ty, mutator, arg })
    }

    /// The column's value after this mutation.
    pub fn apply(&self, value: &Datum) -> Result<Datum, OpError> {
        let result = match (self.mutator, value, &self.arg) {
            (Mutator::Insert, Datum::Set(value), Datum::Set(arg)) => Datum::Set(value | arg),
            (Mutator::Insert, Datum::Map(value), Datum::Map(arg)) => {
                // A key that is there keeps its value.
                let mut map = arg.clone();
                map.extend(value.clone());
                Datum::Map(map)
            }
            (Mutator::Delete, Datum::Set(value), Datum::Set(arg)) => Datum::Set(value - arg),
            (Mutator::Delete, Datum::Map(value), arg) => {
                let mut map = value.clone();
                map.retain(|k, v| match arg {
                    Datum::Set(keys) => !keys.contains(k),
                    Datum::Map(pairs) => pairs.get(k) != Some(v),
                });
                Datum::Map(map)
            }
            (_, Datum::Set(value), arg) => self.arithmetic(value, arg)?,
            _ => value.clone(),
        };
        if self.ty.check_len(result.len()).is_err() {
            let details = format!("Attempted to store {} elements in {}.", result.len(), self.ty);
            return Err(OpError::constraint(details));
        }
        self.ty.check(&result)?;
        Ok(result)
    }

    /// Every member of the set with the argument.
    fn arithmetic(&self, value: &BTreeSet<Atom>, arg: &Datum) -> Result<Datum, OpError> {
        let one = |atom: &Atom| {
            Ok(match (atom, arg.as_atom()) {
                (Atom::Integer(x), Some(Atom::Integer(y))) => Atom::Integer(self.mutator.integers(*x, *y)?),
                (Atom::Real(x), Some(Atom::Real(y))) => Atom::Real(Real::new(self.mutator.reals(x.get(), y.get())?)),
                _ => atom.clone(),
            })
        };
        let result = value.iter().map(one).collect::<Result<BTreeSet<Atom>, OpError>>()?;
        if result.len() < value.len() {
            let details = format!("Result of \"{}\" operation contains duplicates.", self.mutator.name());
            return Err(OpError::constraint(details));
        }
        Ok(Datum::Set(result))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::NoSymbols;
    use serde_json::json;

    fn schema() -> TableSchema {
        TableSchema::from_json(&json!({"columns": {
            "n": {"type": "integer"},
            "small": {"type": {"key": {"type": "integer", "minInteger": 0, "maxInteger": 9}, "min": 0, "max": 4}},
            "x": {"type": "real"},
            "word": {"type": {"key": "string", "min": 0}},
            "some": {"type": {"key": "string", "max": "unlimited"}},
            "map": {"type": {"key": "string", "value": "string", "min": 0, "max": "unlimited"}},
            "fixed": {"type": "integer", "mutable": false}}}))
        .unwrap()
    }

    /// The value of `column` after `value` was mutated.
    fn mutate(column: &str, value: Value, mutator: &str, arg: Value) -> Result<Value, OpError> {
        let schema = schema();
        let mutation = json!([column, mutator, arg]);
        let mutation = Mutation::from_json("T", &schema, &mutation, &mut NoSymbols)?;
        let value = Datum::from_json(&schema.columns[column].ty, &value, &mut NoSymbols).unwrap();
        Ok(mutation.apply(&value)?.to_json())
    }

    #[test]
    fn results() {
        let cases = [
            ("n", json!(7), "+=", json!(2), json!(9)),
            ("n", json!(7), "-=", json!(9), json!(-2)),
            ("n", json!(7), "*=", json!(-3), json!(-21)),
            ("n", json!(-7), "/=", json!(2), json!(-3)),
            ("n", json!(-7), "%=", json!(4), json!(-3)),
            ("x", json!(1.5), "/=", json!(2), json!(0.75)),
            ("small", json!(["set", [1, 2]]), "+=", json!(3), json!(["set", [4, 5]])),
            ("small", json!(["set", []]), "+=", json!(3), json!(["set", []])),
            ("word", json!(["set", []]), "insert", json!("a"), json!("a")),
            ("word", json!("a"), "insert", json!("a"), json!("a")),
            ("word", json!("a"), "delete", json!(["set", ["a", "b"]]), json!(["set", []])),
            ("some", json!("a"), "insert", json!(["set", ["b", "c"]]), json!(["set", ["a", "b", "c"]])),
            ("some", json!(["set", ["a", "b"]]), "delete", json!("a"), json!("b")),
            // A key that is there keeps its value; to replace it, it is deleted first.
            (
                "map",
                json!(["map", [["a", "1"]]]),
                "insert",
                json!(["map", [["a", "9"], ["b", "2"]]]),
                json!(["map", [["a", "1"], ["b", "2"]]]),
            ),
            (
                "map",
                json!(["map", [["a", "1"], ["b", "2"]]]),
                "delete",
                json!(["set", ["a", "z"]]),
                json!(["map", [["b", "2"]]]),
            ),
            ("map", json!(["map", [["a", "1"]]]), "delete", json!("a"), json!(["map", []])),
            (
                "map",
                json!(["map", [["a", "1"], ["b", "2"]]]),
                "delete",
                json!(["map", [["a", "9"], ["b", "2"]]]),
                json!(["map", [["a", "1"]]]),
            ),
        ];
        for (column, value, mutator, arg, result) in cases {
            assert_eq!(mutate(column, value, mutator, arg.clone()), Ok(result), "{column} {mutator} {arg}");
        }
    }

    #[test]
    fn refusals() {
        let max = json!(i64::MAX);
        let cases = [
            ("n", json!(1), "+=", max.clone(), "range error", "Result of \"+=\" operation is out of range."),
            ("n", json!(-2), "-=", max.clone(), "range error", "Result of \"-=\" operation is out of range."),
            ("n", json!(2), "*=", max, "range error", "Result of \"*=\" operation is out of range."),
            ("n", json!(i64::MIN), "/=", json!(-1), "range error", "Result of \"/=\" operation is out of range."),
            ("n", json!(1), "/=", json!(0), "domain error", "Division by zero."),
            ("n", json!(1), "%=", json!(0), "domain error", "Division by zero."),
            ("x", json!(1e308), "*=", json!(10), "range error", "Result of \"*=\" operation is out of range."),
            (
                "small",
                json!(5),
                "+=",
                json!(5),
                "constraint violation",
                "10 is not in the valid range 0 to 9 (inclusive)",
            ),
            (
                "small",
                json!(["set", [1, 3]]),
                "%=",
                json!(2),
                "constraint violation",
                "Result of \"%=\" operation contains duplicates.",
            ),
            (
                "word",
                json!("a"),
                "insert",
                json!("b"),
                "constraint violation",
                "Attempted to store 2 elements in set of up to 1 strings.",
            ),
            (
                "some",
                json!("a"),
                "delete",
                json!("a"),
                "constraint violation",
                "Attempted to store 0 elements in set of 1 or more strings.",
            ),
            (
                "n",
                json!(1),
                "insert",
                json!(1),
                "syntax error",
                "Type mismatch: \"insert\" operator may not be applied to column n of type integer.",
            ),
            (
                "x",
                json!(1),
                "%=",
                json!(1),
                "syntax error",
                "Type mismatch: \"%=\" operator may not be applied to column x of type real.",
            ),
            (
                "map",
                json!(["map", []]),
                "+=",
                json!(1),
                "syntax error",
                "Type mismatch: \"+=\" operator may not be applied to column map of type map of (string, string) pairs.",
            ),
            ("map", json!(["map", []]), "insert", json!(["set", ["a"]]), "syntax error", "expected [\"map\", <array>]"),
            (
                "fixed",
                json!(1),
                "+=",
                json!(1),
                "constraint violation",
                "Cannot mutate immutable column fixed in table T.",
            ),
            (
                "_uuid",
                json!(1),
                "+=",
                json!(1),
                "constraint violation",
                "Cannot mutate immutable column _uuid in table T.",
            ),
            ("nope", json!(1), "+=", json!(1), "unknown column", "No column nope in table T."),
            ("n", json!(1), "=", json!(1), "unknown mutator", "No mutator named =."),
        ];
        for (column, value, mutator, arg, word, details) in cases {
            let error = mutate(column, value, mutator, arg.clone()).unwrap_err();
            assert_eq!((error.error.as_str(), error.details.as_str()), (word, details), "{column} {mutator} {arg}");
        }
    }
}
