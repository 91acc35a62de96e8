//! Random transactions and monitors, against a model that knows no layers, counters or indexes: it copies the whole
//! database, applies the operations, and looks at everything.
//!
//! Every reply, every row and everything that a monitor is told must be the same, and what the log says of it all.

mod clause;
mod generate;
mod operation;
mod state;
mod value;
mod watch;

use super::load::{self, load};
use super::*;
use operation::{Failure, LOCK, Op, Run};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, json};
use state::State;
use value::TABLES;
use watch::{Conditions, Watch};

#[derive(Clone, Debug)]
enum Step {
    Transact(Vec<Op>),
    Watch(Watch),
    /// Other conditions for one of the monitors.
    Change(Index, Conditions),
}

struct Test {
    db: Database,
    model: State,
    monitors: Vec<(Monitor, Watch)>,
    log: Vec<Value>,
}

impl Test {
    fn step(&mut self, step: &Step) {
        match step {
            Step::Transact(ops) => self.transact(ops),
            Step::Watch(watch) => self.watch(watch),
            Step::Change(at, conditions) if !self.monitors.is_empty() => {
                let at = at.index(self.monitors.len());
                let (monitor, watch) = &mut self.monitors[at];
                let told = monitor.change_conditions(&watch::conditions_json(conditions), &self.db);
                assert_eq!(told.map_err(|e| e.error), watch.change(conditions, &self.model).map_err(str::to_owned));
            }
            Step::Change(..) => {}
        }
    }

    fn watch(&mut self, watch: &Watch) {
        let monitor = Monitor::new(watch.version, &watch.to_json(), &self.db);
        assert_eq!(monitor.as_ref().map(|_| ()).map_err(|e| e.error.as_str()), watch.check());
        if let Ok(monitor) = monitor {
            assert_eq!(monitor.initial(&self.db), watch.initial(&self.model).unwrap_or_else(|| json!({})));
            self.monitors.push((monitor, watch.clone()));
        }
    }

    fn transact(&mut self, ops: &[Op]) {
        let caller = Caller { holds: &|lock| lock == LOCK, ..Caller::NOBODY };
        let executed = self.db.execute_for(&operation::to_json(ops), caller);
        let mut run = Run::new(&self.model);
        let end = run.all(ops);
        assert_reply(&executed.reply, ops.len(), &run.results, end.as_ref().err());
        assert_eq!(executed.blocked, end.as_ref().err().and_then(|failure| failure.blocked));
        assert_eq!(executed.durable, run.durable && end.is_ok());
        let comments = (!run.comments.is_empty()).then(|| run.comments.join("\n"));
        let after = end.unwrap_or_else(|_| self.model.clone());
        assert_eq!(executed.prepared.is_some(), after != self.model, "an effect");
        if let Some(prepared) = executed.prepared {
            assert_eq!(prepared.comment, comments);
            let commit = self.db.apply(prepared);
            for (monitor, watch) in &self.monitors {
                assert_eq!(monitor.update(&commit), watch.update(&self.model, &after), "{watch:?}");
            }
            self.log.push(commit.changes.to_log(self.db.schema()));
        }
        self.model = after;
        assert_eq!(contents(&self.db), state::to_json(&self.model));
        assert_derived(&self.db);
    }
}

/// The results, and if the transaction failed one of these words in the place after them, and nulls.
fn assert_reply(reply: &Value, operations: usize, results: &[Value], failure: Option<&Failure>) {
    let normal = |list: &[Value]| list.iter().map(operation::normal).collect::<Vec<_>>();
    let reply = reply.as_array().unwrap();
    let (good, rest) = reply.split_at_checked(results.len()).unwrap_or((reply, &[]));
    assert_eq!(normal(good), normal(results));
    match (failure, rest) {
        (None, []) => {}
        (Some(failure), [error, rest @ ..]) => {
            let word = error["error"].as_str().unwrap();
            assert!(failure.words.contains(word), "{error}, not one of {:?}", failure.words);
            let left = operations.saturating_sub(results.len() + 1);
            assert_eq!(rest, vec![Value::Null; left]);
        }
        _ => panic!("{reply:?}, not {failure:?}"),
    }
}

/// Table → identifier → row.
fn contents(db: &Database) -> Value {
    let mut tables = Map::new();
    for (table, rows) in db.contents().0 {
        let row = |change: &Change| {
            let row = change.new.clone().unwrap();
            row.columns().map(|(name, datum)| (name.to_owned(), datum.to_json())).collect::<Value>()
        };
        tables.insert(table, rows.iter().map(|(uuid, change)| (uuid.to_string(), row(change))).collect());
    }
    Value::Object(tables)
}

/// Counters and indexes are what a database built anew from the same rows has.
fn assert_derived(db: &Database) {
    let mut anew = Database::new(db.schema().clone());
    anew.apply(Prepared { changes: db.contents(), comment: None, base: 0 });
    for (table, anew) in db.tables.values().zip(anew.tables.values()) {
        assert_eq!(table.unique, anew.unique);
        assert_eq!(table.strong, anew.strong);
        assert_eq!(table.weak, anew.weak);
    }
}

/// What the log says of all this is the database again.
fn assert_logged(db: &Database, log: &[Value]) {
    let loaded = load(db.schema(), log).unwrap();
    for table in TABLES {
        let rows: BTreeMap<Uuid, load::Columns> = db
            .rows(table)
            .map(|(uuid, row)| (*uuid, row.columns().map(|(c, d)| (c.to_owned(), d.clone())).collect()))
            .collect();
        assert_eq!(loaded.rows.get(table).cloned().unwrap_or_default(), rows);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn everything_is_as_in_the_model(steps in generate::steps()) {
        let db = Database::new(value::schema());
        let mut test = Test { db, model: State::new(), monitors: Vec::new(), log: Vec::new() };
        steps.iter().for_each(|step| test.step(step));
        assert_logged(&test.db, &test.log);
    }
}
