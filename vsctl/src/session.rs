//! The conversation with the switch: its schema, a snapshot, one transaction, and the wait until
//! the switch has acted on it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::time::Duration;

use ovsdb::address::Address;
use ovsdb::client::{Client, ClientError, Notification};
use ovsdb::error::OpError;
use ovsdb::schema::DatabaseSchema;
use ovsdb::value::{Datum, NoSymbols, Uuid, parse_uuid};
use serde_json::{Value, json};

use crate::error::{Result, fail, failed};
use crate::globals::Globals;
use crate::log::Log;
use crate::model::{Model, Needs, Operations};

const DB: &str = "Open_vSwitch";
/// Names of monitors.
const WATCH: &str = "watch";
const OUTCOME: &str = "outcome";
/// Between attempts to connect, with `--retry`.
const RETRY_AFTER: Duration = Duration::from_millis(200);

/// What a run is doing, for the message when its patience runs out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nobody has answered yet.
    Connecting,
    /// Nothing is changed yet.
    Reading,
    /// `wait-until` waits, because this is so.
    Until(String),
    /// Everything is done; what happens is printed.
    Following,
    /// The transaction is on its way.
    Committing,
    /// Everything is committed.
    Waiting {
        /// What `cur_cfg` must reach.
        wanted: i64,
        /// What it is.
        reached: i64,
    },
}

/// The outcome of a transaction.
pub(crate) enum Outcome {
    /// Done. What the model called the new rows, and their UUIDs; `next_cfg`, if it was raised.
    Committed { rows: BTreeMap<Uuid, Uuid>, next_cfg: Option<i64> },
    /// Somebody else was faster; a new snapshot is needed.
    Overtaken,
    /// The switch refuses it.
    Refused(OpError),
}

/// A connection to the switch.
pub(crate) struct Session<'a> {
    client: Client,
    log: &'a Log,
    stage: &'a RefCell<Stage>,
    /// Since it was asked to tell: how far the switch has acted; `None` before.
    reached: Option<i64>,
}

/// What the `status` of interfaces was before this run's transaction, and what it is.
pub(crate) type News = BTreeMap<Uuid, (Datum, State)>;

impl<'a> Session<'a> {
    /// Connects.
    pub(crate) async fn connect(globals: &'a Globals, stage: &'a RefCell<Stage>) -> Result<Session<'a>> {
        let client = loop {
            match reach(globals).await {
                Err(_) if globals.retry => tokio::time::sleep(RETRY_AFTER).await,
                reached => break reached?,
            }
        };
        stage.replace(Stage::Reading);
        Ok(Session { client, log: &globals.log, stage, reached: None })
    }

    async fn call(&mut self, method: &str, params: Vec<Value>) -> Result<Value> {
        if self.log.traces() {
            self.log.trace(&format!("> {method} {}", Value::from(params.clone())));
        }
        let result = self.client.call(method, params).await;
        if self.log.traces() {
            self.log.trace(&match &result {
                Ok(_) if method == "get_schema" => "< (the schema)".to_owned(),
                Ok(result) => format!("< {result}"),
                Err(error) => format!("< {error}"),
            });
        }
        result.map_err(|error| failed!("{error}"))
    }

    /// The schema that the switch serves.
    pub(crate) async fn schema(&mut self) -> Result<DatabaseSchema> {
        let schema = self.call("get_schema", vec![json!(DB)]).await?;
        DatabaseSchema::from_json(&schema).map_err(|e| failed!("the switch's schema: {e}"))
    }

    /// The results of the operations; the second half is the first error among them.
    async fn transact(&mut self, mut ops: Vec<Value>) -> Result<(Vec<Value>, Option<OpError>)> {
        ops.insert(0, json!(DB));
        match self.call("transact", ops).await? {
            Value::Array(results) => {
                let error = results.iter().find_map(OpError::from_json);
                Ok((results, error))
            }
            other => fail!("the switch answered a transaction with {other}"),
        }
    }

    /// Reads the tables that the commands need, all at the same moment.
    pub(crate) async fn snapshot<'s>(&mut self, schema: &'s DatabaseSchema, needs: &Needs) -> Result<Model<'s>> {
        let (mut selects, mut of) = (Vec::new(), Vec::new());
        for (table, columns, conditions) in needs.tables() {
            let named: Vec<&str> = columns.iter().map(String::as_str).chain(["_uuid"]).collect();
            for condition in conditions {
                selects.push(json!({"op": "select", "table": table, "where": condition, "columns": named}));
                of.push((table, columns));
            }
        }
        let (results, error) = self.transact(selects).await?;
        if let Some(error) = error {
            fail!("reading the switch's database: {error}");
        }
        let mut tables: BTreeMap<String, BTreeMap<_, _>> = BTreeMap::new();
        for ((table, columns), result) in of.into_iter().zip(&results) {
            let rows = tables.entry(table.clone()).or_default();
            for row in result["rows"].as_array().into_iter().flatten() {
                let mut values = BTreeMap::new();
                for column in columns {
                    values.insert(column.clone(), value_of(schema, table, column, row)?);
                }
                rows.insert(uuid_of(&row["_uuid"])?, values);
            }
        }
        Ok(Model::new(schema, tables))
    }

    /// Has the switch tell of every change to what the commands look at.
    pub(crate) async fn watch(&mut self, needs: &Needs) -> Result<()> {
        let table = |(table, columns, _): (&String, &BTreeSet<String>, _)| {
            let mut request = json!({"select": {"initial": false}});
            request["columns"] = columns.iter().cloned().collect();
            (table.clone(), json!([request]))
        };
        let tables: serde_json::Map<String, Value> = needs.tables().map(table).collect();
        self.call("monitor", vec![json!(DB), json!(WATCH), tables.into()]).await.map(|_| ())
    }

    /// Waits until something changes, after [`Session::watch`], while `not_yet` is so.
    pub(crate) async fn change(&mut self, not_yet: String) -> Result<()> {
        self.stage.replace(Stage::Until(not_yet));
        self.notification().await.map_err(|e| failed!("the switch went away while vsctl waited: {e}"))?;
        self.stage.replace(Stage::Reading);
        Ok(())
    }

    async fn notification(&mut self) -> std::result::Result<Notification, ClientError> {
        let next = self.client.notification().await?;
        if self.log.traces() {
            self.log.trace(&format!("< {} {}", next.method, Value::from(next.params.clone())));
        }
        Ok(next)
    }

    /// Commits. With `raise` the switch's row raises its `next_cfg`, to be waited for.
    pub(crate) async fn commit(&mut self, ops: Operations, raise: Option<Value>, comment: &str) -> Result<Outcome> {
        if raise.is_some() && self.reached.is_none() {
            self.watch_outcome().await?;
        }
        let Operations { mut list, inserts } = ops;
        let select_at = list.len() + 1;
        if let Some(at) = &raise {
            let mutations = json!([["next_cfg", "+=", 1]]);
            list.push(json!({"op": "mutate", "table": DB, "where": at, "mutations": mutations}));
            list.push(json!({"op": "select", "table": DB, "where": at, "columns": ["next_cfg"]}));
        }
        list.push(json!({"op": "comment", "comment": comment}));
        self.stage.replace(Stage::Committing);
        let (results, error) = self.transact(list).await?;
        self.stage.replace(Stage::Reading);
        match error {
            Some(error) if error.error == "timed out" => return Ok(Outcome::Overtaken),
            Some(error) => return Ok(Outcome::Refused(error)),
            None => {}
        }
        let mut rows = BTreeMap::new();
        for (at, own) in inserts {
            rows.insert(own, uuid_of(&results.get(at).unwrap_or(&Value::Null)["uuid"])?);
        }
        let next_cfg = match raise {
            Some(_) => {
                let next_cfg = results.get(select_at).and_then(|r| r["rows"][0]["next_cfg"].as_i64());
                Some(next_cfg.ok_or_else(|| failed!("committed, but the switch did not say next_cfg"))?)
            }
            None => None,
        };
        Ok(Outcome::Committed { rows, next_cfg })
    }

    /// Has the switch tell, from before the transaction on, how far it has acted and what it says of interfaces.
    async fn watch_outcome(&mut self) -> Result<()> {
        let changes = json!({"initial": false, "insert": true, "delete": false, "modify": true});
        let interfaces = json!([{"columns": ["name", "status", "ofport", "error"], "select": changes}]);
        let tables = json!({ DB: [{"columns": ["cur_cfg"]}], "Interface": interfaces });
        let initial = self.call("monitor", vec![json!(DB), json!(OUTCOME), tables]).await?;
        self.reached = Some(cur_cfg(&initial).unwrap_or_default());
        Ok(())
    }

    /// Waits until `cur_cfg` is at least `wanted`; what is new at interfaces then.
    pub(crate) async fn wait_for(&mut self, schema: &DatabaseSchema, wanted: i64) -> Result<News> {
        let mut news = News::new();
        let mut reached = self.reached.unwrap_or_default();
        while reached < wanted {
            self.stage.replace(Stage::Waiting { wanted, reached });
            let lost = |e| failed!("committed, but the switch went away before it had acted on it: {e}");
            let mut params = self.notification().await.map_err(lost)?.params.into_iter();
            if params.next() == Some(json!(OUTCOME)) {
                let update = params.next().unwrap_or_default();
                add_news(schema, &update, &mut news)?;
                reached = cur_cfg(&update).unwrap_or(reached);
            }
        }
        self.reached = Some(reached);
        Ok(news)
    }

    /// What the switch says about bridges, ports and interfaces; `None` for those that are no longer there.
    pub(crate) async fn states(
        &mut self,
        schema: &DatabaseSchema,
        rows: &[(&str, Uuid)],
    ) -> Result<Vec<Option<State>>> {
        let select = |(table, uuid): &(&str, Uuid)| {
            let columns: &[&str] = match *table {
                "Interface" => &["name", "status", "ofport", "error"],
                "Port" => &["name", "status", "interfaces"],
                _ => &["name", "status"],
            };
            let at = json!([["_uuid", "==", ["uuid", uuid.to_string()]]]);
            json!({"op": "select", "table": table, "where": at, "columns": columns})
        };
        let (results, error) = self.transact(rows.iter().map(select).collect()).await?;
        if let Some(error) = error {
            fail!("committed, but what came of it cannot be read: {error}");
        }
        let state = |(table, result): (&str, &Value)| match result["rows"].get(0) {
            Some(row) => state_of(schema, table, row).map(Some),
            None => Ok(None),
        };
        rows.iter().map(|(table, _)| *table).zip(&results).map(state).collect()
    }

    /// What the switch says about the mirrors of all bridges.
    pub(crate) async fn mirrors(&mut self, schema: &DatabaseSchema) -> Result<Vec<MirrorState>> {
        let select = |table, columns: &[&str]| json!({"op": "select", "table": table, "where": [], "columns": columns});
        let tables =
            vec![select("Bridge", &["_uuid", "name", "mirrors", "status"]), select("Mirror", &["_uuid", "name"])];
        let (results, error) = self.transact(tables).await?;
        if let Some(error) = error {
            fail!("committed, but what came of it cannot be read: {error}");
        }
        let rows = |at: usize| results.get(at).and_then(|r| r["rows"].as_array()).into_iter().flatten();
        let mut names = BTreeMap::new();
        for row in rows(1) {
            let name = value_of(schema, "Mirror", "name", row)?;
            names.insert(uuid_of(&row["_uuid"])?, name.as_str().unwrap_or_default().to_owned());
        }
        let mut states = Vec::new();
        for row in rows(0) {
            let value = |column| value_of(schema, "Bridge", column, row);
            let (status, bridge_row) = (value("status")?, uuid_of(&row["_uuid"])?);
            let bridge = value("name")?.as_str().unwrap_or_default().to_owned();
            for mirror in value("mirrors")?.uuids() {
                let Some(name) = names.get(&mirror).cloned() else { continue };
                let told =
                    |key: String| status.string_pairs().find(|(k, _)| *k == key).map(|(_, text)| text.to_owned());
                let (error, warning) = (told(format!("mirror_{name}")), told(format!("mirror_{name}_warning")));
                states.push(MirrorState { row: mirror, name, bridge_row, bridge: bridge.clone(), error, warning });
            }
        }
        Ok(states)
    }
}

/// The newest `cur_cfg` in what a monitor tells.
fn cur_cfg(update: &Value) -> Option<i64> {
    let rows = update[DB].as_object().into_iter().flatten();
    rows.filter_map(|(_, row)| row["new"]["cur_cfg"].as_i64()).max()
}

/// Adds what a monitor tells of interfaces whose `status` has changed.
fn add_news(schema: &DatabaseSchema, update: &Value, news: &mut News) -> Result<()> {
    for (uuid, row) in update["Interface"].as_object().into_iter().flatten() {
        let Some(uuid) = parse_uuid(uuid) else { continue };
        let state = state_of(schema, "Interface", &row["new"])?;
        match news.get_mut(&uuid) {
            Some((_, is)) => *is = state,
            None => {
                let was = if row["old"]["status"].is_null() { &row["new"] } else { &row["old"] };
                let was = if row["old"].is_null() {
                    Datum::empty_map()
                } else {
                    value_of(schema, "Interface", "status", was)?
                };
                news.insert(uuid, (was, state));
            }
        }
    }
    Ok(())
}

/// What a row in `table` says.
fn state_of(schema: &DatabaseSchema, table: &str, row: &Value) -> Result<State> {
    let value = |column| value_of(schema, table, column, row);
    let (ofport, error) = match table {
        "Interface" => (value("ofport")?.as_i64(), value("error")?.as_str().map(str::to_owned)),
        _ => (None, None),
    };
    let name = value("name")?.as_str().unwrap_or_default().to_owned();
    let interfaces = if table == "Port" { value("interfaces")?.uuids().collect() } else { vec![] };
    Ok(State { name, ofport, error, status: value("status")?, interfaces })
}

/// What the switch says about a mirror, in the `status` of its bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MirrorState {
    /// The mirror's row.
    pub row: Uuid,
    /// Its name.
    pub name: String,
    /// The bridge's row.
    pub bridge_row: Uuid,
    /// The bridge's name.
    pub bridge: String,
    /// Why it copies nothing.
    pub error: Option<String>,
    /// What it does not do as asked.
    pub warning: Option<String>,
}

/// What the switch says about a bridge, a port or an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct State {
    /// Its name.
    pub name: String,
    /// An interface's number, -1 where it could not be set up.
    pub ofport: Option<i64>,
    /// Why an interface could not be set up.
    pub error: Option<String>,
    /// What else there is to say.
    pub status: Datum,
    /// A port's interfaces.
    pub interfaces: Vec<Uuid>,
}

/// What is in these tables, if the switch says so within `patience`. Tells no errors.
pub(crate) fn look<'s>(
    globals: &Globals,
    schema: &'s DatabaseSchema,
    needs: &Needs,
    patience: Duration,
) -> Option<Model<'s>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    let stage = RefCell::new(Stage::Connecting);
    let seen = runtime.block_on(async {
        let snapshot = async { Session::connect(globals, &stage).await.ok()?.snapshot(schema, needs).await.ok() };
        tokio::time::timeout(patience, snapshot).await.ok()?
    });
    runtime.shutdown_background();
    seen
}

/// Calls each place in turn.
async fn reach(globals: &Globals) -> Result<Client> {
    let mut failures = Vec::new();
    for at in &globals.remotes {
        match Client::connect_to(at.clone()).await {
            Ok(client) => return Ok(client),
            Err(error) => failures.push(unreachable_switch(&error)),
        }
    }
    fail!("{}", failures.join("\n"))
}

fn unreachable_switch(error: &ClientError) -> String {
    let ClientError::Connect { at, source } = error else {
        return error.to_string();
    };
    let elsewhere = "name its socket with --socket PATH or VSWITCH_SOCKET";
    match (at, source.kind()) {
        (Address::Tcp { port, .. }, ErrorKind::ConnectionRefused) => format!(
            "cannot reach the switch: nobody listens on {at}\n\
             On its host, 'vsctl set-manager ptcp:{port}' has it listen there."
        ),
        (Address::Unix(_), ErrorKind::NotFound) => format!(
            "cannot reach the switch: {at} does not exist\n\
             Start the daemon ('vswitch', as root), or {elsewhere}."
        ),
        (Address::Unix(_), ErrorKind::ConnectionRefused) => format!(
            "cannot reach the switch: nobody listens on {at}\n\
             The daemon has ended; start it again ('vswitch', as root), or {elsewhere}."
        ),
        (Address::Unix(_), ErrorKind::PermissionDenied) => format!(
            "cannot reach the switch: no permission to use {at}\n\
             Run vsctl as root or as a member of the socket's group."
        ),
        _ => format!("cannot reach the switch: {error}"),
    }
}

fn uuid_of(value: &Value) -> Result<Uuid> {
    let text = (value[0] == "uuid").then(|| value[1].as_str()).flatten();
    text.and_then(parse_uuid).ok_or_else(|| failed!("the switch sent {value} for a UUID"))
}

fn value_of(schema: &DatabaseSchema, table: &str, column: &str, row: &Value) -> Result<Datum> {
    let ty = schema.tables.get(table).and_then(|t| t.columns.get(column)).map(|c| &c.ty);
    let ty = ty.ok_or_else(|| failed!("the switch's {table} has no column {column}"))?;
    let read = |value| Datum::from_json(ty, value, &mut NoSymbols);
    match row.get(column) {
        Some(value) => read(value).map_err(|e| failed!("the switch's {table} column {column}: {e}")),
        None => Ok(ty.default_datum()),
    }
}
