//! `<condition>`s (RFC 7047 §5.1): the `where` of operations and of conditional monitors.

use super::column::Column;
use super::table::Row;
use super::txn::no_column;
use crate::error::OpError;
use crate::schema::{ColumnType, TableSchema, UNLIMITED};
use crate::value::{Atom, AtomType, Datum, Symbols, Uuid};
use serde_json::Value;
use std::cmp::Ordering;

/// A list of clauses; how they combine is the user's choice: [`Condition::all`], [`Condition::any`].
#[derive(Clone, Debug, Default)]
pub(super) struct Condition(Vec<Clause>);

#[derive(Clone, Debug)]
enum Clause {
    /// `true` and `false` (ovsdb-server(7)).
    Constant(bool),
    Test {
        column: Column,
        function: Function,
        arg: Datum,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Lt,
    Le,
    Eq,
    Ne,
    Ge,
    Gt,
    Includes,
    Excludes,
}

impl Function {
    fn from_name(name: &str) -> Option<Function> {
        Some(match name {
            "<" => Function::Lt,
            "<=" => Function::Le,
            "==" => Function::Eq,
            "!=" => Function::Ne,
            ">=" => Function::Ge,
            ">" => Function::Gt,
            "includes" => Function::Includes,
            "excludes" => Function::Excludes,
            _ => return None,
        })
    }

    /// The type of the argument beside a column of type `ty`; `None` if they do not go together.
    fn arg_type(self, ty: &ColumnType) -> Option<ColumnType> {
        let mut arg = ty.clone();
        match self {
            Function::Eq | Function::Ne => {}
            Function::Includes | Function::Excludes if ty.is_scalar() => {}
            Function::Includes => arg.min = 0,
            Function::Excludes => (arg.min, arg.max) = (0, UNLIMITED),
            Function::Lt | Function::Le | Function::Ge | Function::Gt => {
                if ty.is_map() || ty.max != 1 || !matches!(ty.key.ty, AtomType::Integer | AtomType::Real) {
                    return None;
                }
                arg.min = 1;
            }
        }
        Some(arg)
    }

    fn test(self, value: &Datum, arg: &Datum) -> bool {
        let order = |accept: fn(Ordering) -> bool| match (value.as_atom(), arg.as_atom()) {
            (Some(value), Some(arg)) => accept(value.cmp(arg)),
            _ => false,
        };
        match self {
            Function::Lt => order(Ordering::is_lt),
            Function::Le => order(Ordering::is_le),
            Function::Ge => order(Ordering::is_ge),
            Function::Gt => order(Ordering::is_gt),
            Function::Eq => value == arg,
            Function::Ne => value != arg,
            Function::Includes => match (value, arg) {
                (Datum::Set(value), Datum::Set(arg)) => arg.is_subset(value),
                (Datum::Map(value), Datum::Map(arg)) => arg.iter().all(|(k, v)| value.get(k) == Some(v)),
                _ => false,
            },
            Function::Excludes => match (value, arg) {
                (Datum::Set(value), Datum::Set(arg)) => arg.is_disjoint(value),
                (Datum::Map(value), Datum::Map(arg)) => arg.iter().all(|(k, v)| value.get(k) != Some(v)),
                _ => true,
            },
        }
    }
}

impl Condition {
    /// Reads a list of conditions on rows of the table `name`.
    pub fn from_json(
        name: &str,
        schema: &TableSchema,
        list: &[Value],
        symbols: &mut dyn Symbols,
    ) -> Result<Condition, OpError> {
        let clauses = list.iter().map(|v| Clause::from_json(name, schema, v, symbols));
        Ok(Condition(clauses.collect::<Result<_, _>>()?))
    }

    /// Do all clauses hold? (No clauses: yes.)
    pub fn all(&self, uuid: &Uuid, row: &Row) -> bool {
        self.0.iter().all(|clause| clause.holds(uuid, row))
    }

    /// Does any clause hold? (No clauses: yes.)
    pub fn any(&self, uuid: &Uuid, row: &Row) -> bool {
        self.0.is_empty() || self.0.iter().any(|clause| clause.holds(uuid, row))
    }

    /// The only row for which all clauses can hold, if a clause says so: saves a search.
    pub fn only_row(&self) -> Option<Uuid> {
        self.0.iter().find_map(|clause| match clause {
            Clause::Test { column: Column::Uuid, function: Function::Eq | Function::Includes, arg } => arg.as_uuid(),
            _ => None,
        })
    }

    /// What a row must have in `column` for all clauses to hold, if a clause says so.
    pub fn equal(&self, column: &str) -> Option<&Datum> {
        self.0.iter().find_map(|clause| match clause {
            Clause::Test { column: Column::Named(name), function: Function::Eq, arg } if name == column => Some(arg),
            _ => None,
        })
    }
}

impl Clause {
    fn from_json(table: &str, schema: &TableSchema, v: &Value, symbols: &mut dyn Symbols) -> Result<Clause, OpError> {
        if let Some(constant) = v.as_bool() {
            return Ok(Clause::Constant(constant));
        }
        let Some([Value::String(name), Value::String(function), arg]) = v.as_array().map(Vec::as_slice) else {
            return Err(OpError::syntax(v, "Parse error in condition."));
        };
        let (column, ty) = Column::find(schema, name).ok_or_else(|| no_column(table, name).at(v))?;
        let function = Function::from_name(function)
            .ok_or_else(|| OpError::new("unknown function", format!("No function named {function}.")))?;
        let arg_type = function.arg_type(&ty).ok_or_else(|| mismatch(v, name, &ty))?;
        let arg = Datum::from_json(&arg_type, arg, symbols)?;
        Ok(Clause::Test { column, function, arg })
    }

    fn holds(&self, uuid: &Uuid, row: &Row) -> bool {
        let is = |value: Uuid, function: &Function, arg: &Datum| {
            let same = arg.as_atom() == Some(&Atom::Uuid(value));
            same == matches!(function, Function::Eq | Function::Includes)
        };
        match self {
            Clause::Constant(constant) => *constant,
            Clause::Test { column: Column::Uuid, function, arg } => is(*uuid, function, arg),
            Clause::Test { column: Column::Version, function, arg } => is(row.version(), function, arg),
            Clause::Test { column: Column::Named(name), function, arg } => {
                row.get(name).is_some_and(|value| function.test(value, arg))
            }
        }
    }
}

/// The function or mutator at `v[1]` does not go with a column of type `ty`.
pub(super) fn mismatch(v: &Value, column: &str, ty: &ColumnType) -> OpError {
    let details = format!("Type mismatch: {} operator may not be applied to column {column} of type {ty}.", v[1]);
    OpError::syntax(v, details)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value::NoSymbols;
    use crate::vswitch_schema::vswitch_schema;
    use serde_json::json;

    fn read(where_: Value) -> Result<Condition, OpError> {
        let schema = vswitch_schema();
        Condition::from_json("Port", &schema.tables["Port"], where_.as_array().unwrap(), &mut NoSymbols)
    }

    /// A Port with name "p", tag 5, trunks 1, 2 and external_ids a=1, b=2.
    fn port() -> (Uuid, Row) {
        let mut row = Row::template(&vswitch_schema().tables["Port"]);
        row.set("name", Datum::string("p"));
        row.set("tag", Datum::integer(5));
        row.set("trunks", Datum::set_of([Atom::Integer(1), Atom::Integer(2)]));
        row.set("external_ids", Datum::map_of_strings([("a", "1"), ("b", "2")]));
        (Uuid::from_u128(7), row)
    }

    #[test]
    fn functions() {
        let (uuid, row) = port();
        let set = |v: Value| json!(["set", v]);
        let map = |v: Value| json!(["map", v]);
        let me = json!(["uuid", uuid.to_string()]);
        let other = json!(["uuid", Uuid::from_u128(8).to_string()]);
        let cases = [
            (json!(["name", "==", "p"]), true),
            (json!(["name", "!=", "p"]), false),
            (json!(["name", "includes", "p"]), true),
            (json!(["name", "excludes", "p"]), false),
            (json!(["tag", "<", 6]), true),
            (json!(["tag", "<", 5]), false),
            (json!(["tag", "<=", 5]), true),
            (json!(["tag", ">=", 6]), false),
            (json!(["tag", ">", 4]), true),
            (json!(["tag", "==", ["set", []]]), false),
            (json!(["tag", "excludes", set(json!([4, 6]))]), true),
            (json!(["bond_fake_iface", "==", false]), true),
            (json!(["trunks", "==", set(json!([2, 1]))]), true),
            (json!(["trunks", "includes", 1]), true),
            (json!(["trunks", "includes", set(json!([]))]), true),
            (json!(["trunks", "includes", set(json!([1, 3]))]), false),
            (json!(["trunks", "excludes", set(json!([1, 3]))]), false),
            (json!(["trunks", "excludes", set(json!([3]))]), true),
            (json!(["external_ids", "includes", map(json!([["a", "1"]]))]), true),
            (json!(["external_ids", "includes", map(json!([["a", "2"]]))]), false),
            (json!(["external_ids", "excludes", map(json!([["a", "2"]]))]), true),
            (json!(["external_ids", "excludes", map(json!([["a", "2"], ["b", "2"]]))]), false),
            (json!(["_uuid", "==", me]), true),
            (json!(["_uuid", "excludes", me]), false),
            (json!(["_uuid", "!=", other]), true),
            (json!(["_version", "==", me]), false),
            (json!(true), true),
            (json!(false), false),
        ];
        for (clause, expected) in cases {
            let condition = read(json!([clause])).unwrap();
            assert_eq!(condition.all(&uuid, &row), expected, "{clause}");
            assert_eq!(condition.any(&uuid, &row), expected, "{clause}");
        }
    }

    /// Order functions on an empty optional are false, all of them.
    #[test]
    fn empty_is_neither_less_nor_more() {
        let (uuid, mut row) = port();
        row.set("tag", Datum::empty_set());
        for function in ["<", "<=", ">", ">="] {
            assert!(!read(json!([["tag", function, 0]])).unwrap().all(&uuid, &row), "{function}");
        }
    }

    #[test]
    fn combinations() {
        let (uuid, row) = port();
        let both = read(json!([["name", "==", "p"], ["tag", "==", 6]])).unwrap();
        assert!(!both.all(&uuid, &row) && both.any(&uuid, &row));
        let none = read(json!([])).unwrap();
        assert!(none.all(&uuid, &row) && none.any(&uuid, &row));
        assert_eq!(none.only_row(), None);
        let one = read(json!([["name", "==", "p"], ["_uuid", "==", ["uuid", uuid.to_string()]]])).unwrap();
        assert_eq!(one.only_row(), Some(uuid));
    }

    #[test]
    fn refusals() {
        let error = |clause: Value| read(json!([clause])).unwrap_err().to_json();
        assert_eq!(
            error(json!(["zz", "==", 1])),
            json!({"error": "unknown column", "details": "No column zz in table Port.", "syntax": "[\"zz\",\"==\",1]"})
        );
        assert_eq!(
            error(json!(["tag", "=", 1])),
            json!({"error": "unknown function", "details": "No function named =."})
        );
        assert_eq!(
            error(json!(["name", "<", "a"])),
            json!({"error": "syntax error", "syntax": "[\"name\",\"<\",\"a\"]", "details":
                "Type mismatch: \"<\" operator may not be applied to column name of type string."})
        );
        assert_eq!(
            error(json!(["external_ids", ">", ["map", []]]))["details"],
            "Type mismatch: \">\" operator may not be applied to column external_ids of type \
             map of (string, string) pairs."
        );
        assert_eq!(
            error(json!(["tag", "<", ["set", []]]))["details"],
            "set must have exactly one member but 0 are present"
        );
        assert_eq!(error(json!(["tag", "==", 5000]))["error"], "constraint violation");
        assert_eq!(error(json!(["tag", "=="]))["details"], "Parse error in condition.");
    }
}
