//! The operations of `transact` (RFC 7047 §5.2), from JSON to a [`Txn`] and its reply.
//!
//! The first operation that fails ends the transaction: its error stands in its place of the
//! reply, `null` in the places after it. What fails only when the transaction is checked as a
//! whole adds one element to the reply.
//!
//! What an attacker may try: anything JSON can say. Operations are read into typed values before
//! they act; the work is bounded by the request's size times the size of the tables it names.

use super::column::{Column, named_columns};
use super::condition::Condition;
use super::mutation::Mutation;
use super::table::Row;
use super::txn::{Txn, no_column, no_table};
use super::{Database, Executed};
use crate::error::OpError;
use crate::members::{Members, id};
use crate::schema::TableSchema;
use crate::value::{Datum, Symbols, Uuid, object, parse_uuid};
use serde_json::{Map, Value, json};
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

/// Whose transaction it is, as far as its operations can tell.
#[derive(Clone, Copy)]
pub struct Caller<'c> {
    /// Does the client hold this lock? What `assert` asks.
    pub holds: &'c dyn Fn(&str) -> bool,
    /// How long ago the transaction was run for the first time: the time of its `wait` operations
    /// counts from there.
    pub waited: Duration,
    /// May it only look? Then an operation that changes something fails.
    pub read_only: bool,
}

impl Caller<'_> {
    /// Nobody in particular: holds no lock, has not waited, may change everything.
    pub const NOBODY: Caller<'static> = Caller { holds: &|_| false, waited: Duration::ZERO, read_only: false };
}

/// Runs `ops` for `caller` against `db`, which stays as it is.
pub(super) fn execute(db: &Database, ops: &[Value], caller: Caller<'_>) -> Executed {
    let mut run = Run { txn: db.begin(), names: Names::collect(ops), caller, durable: false, blocked: None };
    let mut reply = Vec::with_capacity(ops.len() + 1);
    let failed = |mut reply: Vec<Value>, error: OpError, blocked| {
        reply.push(error.to_json());
        if reply.len() < ops.len() {
            reply.resize(ops.len(), Value::Null);
        }
        Executed { reply: Value::Array(reply), prepared: None, durable: false, blocked }
    };
    for (i, op) in ops.iter().enumerate() {
        let result = Members::of(op, format!("ovsdb operation {} of {}", i + 1, ops.len()))
            .and_then(|members| run.operation(&members));
        match result {
            Ok(value) => reply.push(value),
            Err(error) => return failed(reply, error, run.blocked),
        }
    }
    match run.txn.finish() {
        Ok(prepared) => {
            let prepared = (!prepared.changes.is_empty()).then_some(prepared);
            Executed { reply: Value::Array(reply), prepared, durable: run.durable, blocked: None }
        }
        Err(error) => failed(reply, error, None),
    }
}

/// The `named-uuid`s of a transaction.
struct Names {
    uuids: HashMap<String, Uuid>,
    /// Names whose row has been inserted.
    used: HashSet<String>,
}

impl Names {
    /// Settles the identifiers of all rows that will be inserted under a name, so that operations
    /// before the insertion can refer to them.
    fn collect(ops: &[Value]) -> Names {
        let mut uuids = HashMap::new();
        for op in ops {
            if let Some(name) = op.get("uuid-name").and_then(id) {
                let chosen = op.get("uuid").and_then(Value::as_str).and_then(parse_uuid);
                uuids.entry(name.to_owned()).or_insert_with(|| chosen.unwrap_or_else(Uuid::new_v4));
            }
        }
        Names { uuids, used: HashSet::new() }
    }
}

impl Symbols for Names {
    /// A name that no operation inserts stands for a row that does not exist.
    fn resolve(&mut self, name: &str) -> Option<Uuid> {
        Some(*self.uuids.entry(name.to_owned()).or_insert_with(Uuid::new_v4))
    }
}

/// A transaction being run.
struct Run<'a, 'c> {
    txn: Txn<'a>,
    names: Names,
    caller: Caller<'c>,
    durable: bool,
    blocked: Option<Duration>,
}

impl<'a> Run<'a, '_> {
    fn operation(&mut self, op: &Members<'_>) -> Result<Value, OpError> {
        let name = op.required("op", id)?;
        if self.caller.read_only && matches!(name, "insert" | "update" | "mutate" | "delete") {
            let db = &self.txn.db.schema().name;
            let details = format!("{name} operation not allowed on table in reserved database {db}");
            return Err(OpError::new("not allowed", details));
        }
        match name {
            "insert" => self.insert(op),
            "select" => self.select(op),
            "update" => self.update(op),
            "mutate" => self.mutate(op),
            "delete" => self.delete(op),
            "wait" => self.wait(op),
            "commit" => self.commit(op),
            "abort" => abort(op),
            "comment" => self.comment(op),
            "assert" => self.assert(op),
            unknown => Err(op.error(&format!("No operation \"{unknown}\""))),
        }
    }

    fn insert(&mut self, op: &Members<'_>) -> Result<Value, OpError> {
        op.only(&["op", "table", "row", "uuid", "uuid-name"])?;
        let (table, schema) = self.table(op)?;
        let row = op.required("row", is_object)?;
        let name = op.optional("uuid-name", id)?;
        let chosen = op.optional("uuid", |v| v.as_str().map(|text| (v, text)))?;
        let mut uuid = Uuid::new_v4();
        if let Some((v, text)) = chosen {
            uuid = parse_uuid(text).ok_or_else(|| OpError::syntax(v, "bad uuid"))?;
            self.txn.check_free(table, &uuid).map_err(|error| error.at(v))?;
        }
        if let Some(name) = name {
            if !self.names.used.insert(name.to_owned()) {
                let details = "This \"uuid-name\" appeared on an earlier \"insert\" operation.";
                return Err(OpError::new("duplicate uuid-name", details).at(&json!(name)));
            }
            uuid = self.names.resolve(name).unwrap_or(uuid);
        }
        let columns = self.row_columns(table, schema, row)?;
        // `_uuid` and `_version` are the server's to give, whatever the row says.
        let columns = columns.into_iter().filter(|(name, _)| !name.starts_with('_'));
        self.txn.insert_as(table, uuid, columns)?;
        Ok(json!({"uuid": ["uuid", uuid.to_string()]}))
    }

    fn select(&mut self, op: &Members<'_>) -> Result<Value, OpError> {
        op.only(&["op", "table", "where", "columns"])?;
        let (table, schema) = self.table(op)?;
        let found = self.matches(op, table, schema)?;
        let columns = columns_of(op, schema)?;
        let project = |uuid: &Uuid, row: &Row| {
            let member = |(name, column): &(&str, Column)| ((*name).to_owned(), column.value(uuid, row).to_json());
            Value::Object(columns.iter().map(member).collect::<Map<_, _>>())
        };
        let rows = found.iter().filter_map(|uuid| Some(project(uuid, self.txn.row(table, uuid)?)));
        Ok(object([("rows", rows.collect())]))
    }

    fn update(&mut self, op: &Members<'_>) -> Result<Value, OpError> {
        op.only(&["op", "table", "where", "row"])?;
        let (table, schema) = self.table(op)?;
        let row = op.required("row", is_object)?;
        let condition = op.required("where", Value::as_array)?;
        let columns = self.row_columns(table, schema, row)?;
        if let Some((name, _)) = columns.iter().find(|(name, _)| schema.column(name).is_none_or(|c| !c.mutable)) {
            let details = format!("Cannot update immutable column {name} in table {table}.");
            return Err(OpError::constraint(details).at(op.json()));
        }
        let found = self.search(table, schema, condition)?;
        for uuid in &found {
            for (column, datum) in &columns {
                self.txn.set(table, uuid, column, datum.clone())?;
            }
        }
        Ok(json!({"count": found.len()}))
    }

    fn mutate(&mut self, op: &Members<'_>) -> Result<Value, OpError> {
        op.only(&["op", "table", "where", "mutations"])?;
        let (table, schema) = self.table(op)?;
        let mutations = op.required("mutations", Value::as_array)?;
        let condition = op.required("where", Value::as_array)?;
        let mutations: Vec<Mutation<'_>> = mutations
            .iter()
            .map(|v| Mutation::from_json(table, schema, v, &mut self.names))
            .collect::<Result<_, _>>()?;
        let found = self.search(table, schema, condition)?;
        for uuid in &found {
            for mutation in &mutations {
                let Some(old) = self.txn.row(table, uuid).and_then(|row| row.get(&mutation.column)) else { continue };
                let new = mutation.apply(old)?;
                self.txn.set(table, uuid, &mutation.column, new)?;
            }
        }
        Ok(json!({"count": found.len()}))
    }

    fn delete(&mut self, op: &Members<'_>) -> Result<Value, OpError> {
        op.only(&["op", "table", "where"])?;
        let (table, schema) = self.table(op)?;
        let found = self.matches(op, table, schema)?;
        for uuid in &found {
            self.txn.delete(table, uuid)?;
        }
        Ok(json!({"count": found.len()}))
    }

    /// An unmet wait that has time left marks the run as blocked and fails it, so that the whole
    /// request can be put aside and run again after the next commit.
    fn wait(&mut self, op: &Members<'_>) -> Result<Value, OpError> {
        op.only(&["op", "table", "where", "columns", "until", "rows", "timeout"])?;
        let (table, schema) = self.table(op)?;
        let timeout = op.optional("timeout", |v| v.as_i64().map(|ms| (v, ms)))?;
        let timeout = match timeout {
            None => Duration::MAX,
            Some((v, ms)) => match u64::try_from(ms) {
                Ok(ms) => Duration::from_millis(ms),
                Err(_) => return Err(OpError::syntax(v, "timeout must be nonnegative")),
            },
        };
        let until = op.required("until", |v| v.as_str().map(|text| (v, text)))?;
        let rows = op.required("rows", Value::as_array)?;
        let found = self.matches(op, table, schema)?;
        let columns = columns_of(op, schema)?;
        let equal = match until {
            (_, "==") => true,
            (_, "!=") => false,
            (v, _) => return Err(OpError::syntax(v, "\"until\" must be \"==\" or \"!=\"")),
        };
        let mut expected = BTreeSet::new();
        for row in rows {
            let given: HashMap<&str, Datum> = self.row_columns(table, schema, row)?.into_iter().collect();
            expected.insert(self.expected_row(table, &columns, &given));
        }
        let mut actual = BTreeSet::new();
        for uuid in &found {
            if let Some(row) = self.txn.row(table, uuid) {
                actual.insert(columns.iter().map(|(_, c)| c.value(uuid, row)).collect::<Vec<_>>());
            }
        }
        if (actual == expected) == equal {
            return Ok(json!({}));
        }
        self.blocked = Some(timeout).filter(|timeout| *timeout > self.caller.waited);
        let details = match self.caller.waited.as_millis() {
            0 => "\"where\" clause test failed".to_owned(),
            ms => format!("\"wait\" timed out after {ms} ms"),
        };
        Err(OpError::new("timed out", details))
    }

    /// What a row of a `wait` says about `columns`; a column that it does not mention is at its
    /// default.
    fn expected_row<'r>(
        &self,
        table: &str,
        columns: &[(&str, Column)],
        given: &HashMap<&str, Datum>,
    ) -> Vec<Cow<'r, Datum>> {
        let template = self.txn.db.table(table).map(|(_, _, t)| &t.template);
        let default = |name: &str| {
            let datum = template.and_then(|row| row.get(name)).cloned();
            datum.unwrap_or_else(|| Datum::uuid(Uuid::nil()))
        };
        columns.iter().map(|(name, _)| Cow::Owned(given.get(name).cloned().unwrap_or_else(|| default(name)))).collect()
    }

    fn commit(&mut self, op: &Members<'_>) -> Result<Value, OpError> {
        op.only(&["op", "durable"])?;
        self.durable |= op.required("durable", Value::as_bool)?;
        Ok(json!({}))
    }

    fn comment(&mut self, op: &Members<'_>) -> Result<Value, OpError> {
        op.only(&["op", "comment"])?;
        self.txn.comment(op.required("comment", Value::as_str)?);
        Ok(json!({}))
    }

    fn assert(&mut self, op: &Members<'_>) -> Result<Value, OpError> {
        op.only(&["op", "lock"])?;
        let lock = op.required("lock", id)?;
        if (self.caller.holds)(lock) {
            return Ok(json!({}));
        }
        Err(OpError::new("not owner", format!("Asserted lock {lock} not held.")))
    }

    /// The table that `op` is about.
    fn table(&self, op: &Members<'_>) -> Result<(&'a str, &'a TableSchema), OpError> {
        let name = op.required("table", id)?;
        let found = self.txn.db.table(name).ok_or_else(|| op.error(&no_table(name).details));
        found.map(|(name, schema, _)| (name, schema))
    }

    /// The rows that satisfy the `where` of `op`.
    fn matches(&mut self, op: &Members<'_>, table: &str, schema: &TableSchema) -> Result<Vec<Uuid>, OpError> {
        self.search(table, schema, op.required("where", Value::as_array)?)
    }

    fn search(&mut self, table: &str, schema: &TableSchema, condition: &[Value]) -> Result<Vec<Uuid>, OpError> {
        let condition = Condition::from_json(table, schema, condition, &mut self.names)?;
        let only = condition.only_row().map(|uuid| vec![uuid]);
        if let Some(mut few) = only.or_else(|| self.txn.holders(table, |column| condition.equal(column))) {
            few.retain(|uuid| self.txn.row(table, uuid).is_some_and(|row| condition.all(uuid, row)));
            return Ok(few);
        }
        Ok(self.txn.rows(table).filter(|(uuid, row)| condition.all(uuid, row)).map(|(uuid, _)| *uuid).collect())
    }

    /// Reads a `<row>`: columns with their values.
    fn row_columns<'v>(
        &mut self,
        table: &str,
        schema: &TableSchema,
        row: &'v Value,
    ) -> Result<Vec<(&'v str, Datum)>, OpError> {
        let members = row.as_object().ok_or_else(|| OpError::syntax(row, "row must be JSON object"))?;
        let mut columns = Vec::with_capacity(members.len());
        for (name, value) in members {
            let (_, ty) = Column::find(schema, name).ok_or_else(|| no_column(table, name).at(row))?;
            columns.push((name.as_str(), Datum::from_json(&ty, value, &mut self.names)?));
        }
        Ok(columns)
    }
}

fn abort(op: &Members<'_>) -> Result<Value, OpError> {
    op.only(&["op"])?;
    Err(OpError::new("aborted", "aborted by request"))
}

fn is_object(v: &Value) -> Option<&Value> {
    v.is_object().then_some(v)
}

/// The columns that `op` names; all, if it names none.
fn columns_of<'s>(op: &Members<'s>, schema: &'s TableSchema) -> Result<Vec<(&'s str, Column)>, OpError> {
    let all = || schema.columns.keys().map(String::as_str).chain(["_uuid", "_version"]);
    let find = |name: &'s str| Column::find(schema, name).map(|(column, _)| (name, column));
    let Some(list) = op.optional("columns", |v| v.is_array().then_some(v))? else {
        return Ok(all().filter_map(find).collect());
    };
    const EXPECTED: &str = "array of distinct column names expected";
    let columns = named_columns(list, EXPECTED, find)?;
    let mut seen = HashSet::new();
    match columns.iter().all(|(name, _)| seen.insert(name)) {
        true => Ok(columns),
        false => Err(OpError::syntax(list, EXPECTED)),
    }
}
