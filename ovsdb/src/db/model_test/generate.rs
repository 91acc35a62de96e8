//! Random transactions and monitors: mostly right, sometimes wrong in a way that has an error word.

use super::Step;
use super::clause::{ARITHMETIC, Clause, FUNCTIONS, Mutation};
use super::operation::{Columns, LOCK, Op, What};
use super::value::{Atom, COLUMNS, Column, ID, Kind, ROWS, TABLES, Val};
use super::watch::{Conditions, Request, Watch};
use crate::db::MonitorVersion;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::json;

/// `right`, or once in a while `wrong`.
fn mostly<T: std::fmt::Debug + 'static>(
    right: impl Strategy<Value = T> + 'static,
    wrong: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    prop_oneof![60 => right, 1 => wrong].boxed()
}

fn columns_where(accept: fn(&Column) -> bool) -> Vec<&'static Column> {
    COLUMNS.iter().filter(|c| accept(c)).collect()
}

fn named(name: &str) -> &'static Column {
    COLUMNS.iter().find(|c| c.name == name).unwrap()
}

fn is_number(column: &Column) -> bool {
    column.key == Kind::Int && column.value.is_none()
}

fn row_number() -> impl Strategy<Value = u8> {
    1..=5_u8
}

fn table() -> impl Strategy<Value = &'static str> {
    select(&TABLES[..])
}

fn atom(kind: Kind) -> BoxedStrategy<Atom> {
    match kind {
        Kind::Int => mostly(0..=9_i64, select(vec![-1, 10])).prop_map(Atom::Int).boxed(),
        Kind::Text => select(&["a", "b", "c", "d", "e", "f", "g", ""][..]).prop_map(Atom::Text).boxed(),
        // Those of `populate`, of which most are there.
        Kind::Id | Kind::Strong | Kind::Weak => mostly(1..=3_u8, row_number()).prop_map(Atom::Row).boxed(),
    }
}

/// A value for a column.
fn value(column: &'static Column) -> BoxedStrategy<Val> {
    let of = |min: usize, max: usize| {
        let element = column.value.map_or(Just(None).boxed(), |kind| atom(kind).prop_map(Some).boxed());
        prop::collection::btree_map(atom(column.key), element, min..=max)
    };
    let max = column.max.min(2);
    mostly(of(column.min, max), of(0, max + 2))
}

/// Values for some columns, mostly such as `accept` says.
fn row(accept: fn(&Column) -> bool) -> impl Strategy<Value = Columns> {
    let some = |columns: Vec<&'static Column>| subsequence(columns, 0..=3);
    mostly(some(columns_where(accept)), some(columns_where(|_| true))).prop_flat_map(|columns| {
        let values: Vec<_> = columns.iter().map(|c| value(c)).collect();
        values.prop_map(move |values| columns.iter().zip(values).map(|(c, value)| (c.name, (*c, value))).collect())
    })
}

fn clause() -> impl Strategy<Value = Clause> {
    let test = |functions: usize| {
        move |column: &'static Column| {
            let parts = (select(&FUNCTIONS[..functions]), value(column));
            parts.prop_map(move |(function, arg)| Clause::Test(column, function, arg))
        }
    };
    let all = FUNCTIONS.len();
    let right = prop_oneof![
        select(columns_where(|_| true)).prop_flat_map(test(4)),
        select(columns_where(|c| is_number(c) && c.max == 1)).prop_flat_map(test(all)),
        row_number().prop_map(|n| Clause::Test(&ID, "==", Val::from([(Atom::Row(n), None)]))),
        any::<bool>().prop_map(Clause::Constant),
    ];
    let broken = select(vec![
        (json!(["zz", "==", 1]), "unknown column"),
        (json!(["name", "=", "a"]), "unknown function"),
        (json!(["name", "=="]), "syntax error"),
    ]);
    let broken = broken.prop_map(|(json, word)| Clause::Broken(json, word));
    mostly(right, prop_oneof![broken, select(columns_where(|_| true)).prop_flat_map(test(all))])
}

fn clauses() -> impl Strategy<Value = Vec<Clause>> {
    prop::collection::vec(clause(), 0..=2)
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let calculate = |columns: Vec<&'static Column>| {
        let number = prop_oneof![20 => 0..4_i64, 1 => Just(i64::MAX)].prop_map(|i| Val::from([(Atom::Int(i), None)]));
        let parts = (select(columns), select(&ARITHMETIC[..]), number);
        parts.prop_map(|(column, mutator, arg)| Mutation { column, mutator, arg })
    };
    let elements = |columns: Vec<&'static Column>, mutators: &'static [&str]| {
        let parts = (select(columns), select(mutators), any::<bool>());
        parts.prop_flat_map(|(column, mutator, keys)| {
            value(column).prop_map(move |mut arg| {
                if keys && mutator == "delete" {
                    arg.values_mut().for_each(|value| *value = None);
                }
                Mutation { column, mutator, arg }
            })
        })
    };
    let all = || columns_where(|_| true);
    let right = prop_oneof![
        1 => calculate(columns_where(|c| is_number(c) && c.mutable)),
        3 => elements(columns_where(|c| !c.is_scalar()), &["insert", "delete"]),
    ];
    mostly(right, prop_oneof![calculate(all()), elements(all(), &["insert", "delete", "="])])
}

fn what() -> impl Strategy<Value = What> {
    let columns = || subsequence(COLUMNS.iter().chain([&ID]).collect::<Vec<_>>(), 0..=4);
    let rows = prop::collection::vec(row(|_| true), 0..=2);
    let wait = (columns(), select(vec![false, false, true]), rows, select(vec![None, Some(0), Some(5)]));
    let right = prop_oneof![
        40 => (prop_oneof![6 => 4..=*ROWS.end(), 1 => row_number()], any::<bool>(), row(|_| true)).prop_map(|(n, named, row)| What::Insert(n, named, row)),
        30 => row(|c| c.mutable && c.name != "name").prop_map(What::Update),
        30 => prop::collection::vec(mutation(), 0..=3).prop_map(What::Mutate),
        12 => Just(What::Delete),
        12 => prop::option::of(columns()).prop_map(What::Select),
        6 => wait.prop_map(|(columns, equal, expected, timeout)| What::Wait { columns, equal, expected, timeout }),
        4 => select(&["x", "y"][..]).prop_map(What::Comment),
        4 => any::<bool>().prop_map(What::Commit),
        4 => Just(What::Assert(LOCK)),
    ];
    let broken = select(vec![
        (json!({"op": "frob"}), "syntax error"),
        (json!({"op": "delete", "table": "Z", "where": []}), "syntax error"),
        (json!({"op": "insert", "table": "R", "row": {"zz": 1}}), "unknown column"),
        (json!({"op": "delete", "table": "R"}), "syntax error"),
    ]);
    let broken = broken.prop_map(|(json, word)| What::Broken(json, word));
    mostly(right, prop_oneof![broken, Just(What::Abort), Just(What::Assert("theirs"))])
}

/// A transaction with which not everything happens to an empty database.
fn populate() -> impl Strategy<Value = Vec<Op>> {
    let row = |table: &'static str, n: u8, name: &'static str, others: Columns| {
        let given = |column: &'static str, atom: Atom| (column, (named(column), Val::from([(atom, None)])));
        let mut row = Columns::from([given("name", Atom::Text(name)), given("kids", Atom::Row(n))]);
        row.extend(others.into_iter().filter(|(name, _)| *name != "name" && *name != "kids"));
        Op { table, rows: Vec::new(), what: What::Insert(n, false, row) }
    };
    let names = ["a", "b", "c"];
    prop::collection::vec(self::row(|_| true), 6).prop_map(move |others| {
        let both = (1..).zip(names).flat_map(|(n, name)| TABLES.map(|table| (table, n, name)));
        both.zip(others).map(|((table, n, name), others)| row(table, n, name, others)).collect()
    })
}

fn transaction() -> impl Strategy<Value = Vec<Op>> {
    let op = (table(), clauses(), what()).prop_map(|(table, rows, what)| Op { table, rows, what });
    prop::collection::vec(op, 1..=4)
}

fn watch() -> impl Strategy<Value = Watch> {
    let columns = || subsequence(COLUMNS.iter().chain([&ID]).collect::<Vec<_>>(), 1..=9);
    let flags = || prop_oneof![3 => Just([true; 4]), 1 => any::<[bool; 4]>()];
    let request = move || (columns(), flags(), prop::option::weighted(0.7, clauses()));
    // A column may not be asked for twice.
    let requests = prop::collection::vec(request(), 1..=2).prop_map(|list| {
        let mut requests: Vec<Request> = Vec::new();
        for (mut columns, select, rows) in list {
            columns.retain(|c| !requests.iter().any(|r| r.columns.contains(c)));
            requests.push(Request { columns, select, rows });
        }
        requests
    });
    let version = select(vec![MonitorVersion::V1, MonitorVersion::V2, MonitorVersion::V3, MonitorVersion::V3]);
    (version, prop::collection::btree_map(table(), requests, 1..=3)).prop_map(|(version, mut tables)| {
        if version == MonitorVersion::V1 {
            tables.values_mut().flatten().for_each(|request| request.rows = None);
        }
        Watch { version, tables }
    })
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let clauses = prop::collection::vec(clause(), 1..=2);
    let list = prop::collection::vec(prop::option::weighted(0.8, clauses), 0..=2);
    prop::collection::btree_map(table(), list, 0..=2)
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let first = (prop::collection::vec(watch(), 0..=2), mostly(populate(), transaction()));
    let step = prop_oneof![
        7 => transaction().prop_map(Step::Transact),
        1 => watch().prop_map(Step::Watch),
        1 => (any::<prop::sample::Index>(), conditions()).prop_map(|(at, conditions)| Step::Change(at, conditions)),
    ];
    (first, prop::collection::vec(step, 1..12)).prop_map(|((watches, populate), steps)| {
        let watches = watches.into_iter().map(Step::Watch);
        watches.chain([Step::Transact(populate)]).chain(steps).collect()
    })
}
