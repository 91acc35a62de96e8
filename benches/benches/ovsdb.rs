//! The database alone, without disk and sockets: what adding a port costs, and telling a client of it, by how many ports
//! are there already.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ovsdb::db::{Commit, Database, Monitor, MonitorVersion};
use ovsdb::vswitch_schema::vswitch_schema;
use serde_json::{Value, json};
use std::hint::black_box;
use vswitch_benches::frames::time_of;

const SIZES: [usize; 2] = [10, 1000];

/// One bridge with so many ports.
fn database(ports: usize) -> Database {
    let mut db = Database::new(vswitch_schema());
    let bridge = json!({ "op": "insert", "table": "Bridge", "row": { "name": "br0" }, "uuid-name": "br" });
    let root = json!({ "bridges": ["set", [["named-uuid", "br"]]] });
    commit(&mut db, &[bridge, json!({ "op": "insert", "table": "Open_vSwitch", "row": root })]);
    for n in 0..ports {
        commit(&mut db, &add_port(&format!("p{n}")));
    }
    db
}

/// What `add-port` sends.
fn add_port(name: &str) -> [Value; 3] {
    [
        json!({ "op": "insert", "table": "Interface", "row": { "name": name }, "uuid-name": "interface" }),
        json!({
            "op": "insert", "table": "Port", "uuid-name": "port",
            "row": { "name": name, "interfaces": ["set", [["named-uuid", "interface"]]] }
        }),
        json!({
            "op": "mutate", "table": "Bridge", "where": [["name", "==", "br0"]],
            "mutations": [["ports", "insert", ["set", [["named-uuid", "port"]]]]]
        }),
    ]
}

fn commit(db: &mut Database, ops: &[Value]) -> (Commit, Value) {
    let done = db.execute(ops);
    let prepared = done.prepared.unwrap_or_else(|| panic!("no effect: {}", done.reply));
    (db.apply(prepared), done.reply)
}

/// Takes away the port whose adding had this reply; its interface goes with it.
fn remove(db: &mut Database, reply: &Value) {
    let port = &reply[1]["uuid"];
    let ops = json!([{
        "op": "mutate", "table": "Bridge", "where": [["name", "==", "br0"]],
        "mutations": [["ports", "delete", ["set", [port]]]]
    }]);
    commit(db, ops.as_array().expect("operations"));
}

fn transactions(c: &mut Criterion) {
    let mut group = c.benchmark_group("add a port");
    for ports in SIZES {
        let mut db = database(ports);
        let ops = add_port("new");
        group.bench_function(BenchmarkId::new("to", ports), |b| {
            b.iter_custom(|rounds| {
                let after = |db: &mut Database, (_, reply)| remove(db, &reply);
                time_of(rounds, &mut db, |_| (), |db, ()| commit(db, &ops), after)
            });
        });
        assert_eq!(db.rows("Interface").count(), ports, "each was taken away again");
    }
}

fn monitors(c: &mut Criterion) {
    let mut group = c.benchmark_group("tell a client");
    for ports in SIZES {
        let mut db = database(ports);
        let requests = json!({ "Open_vSwitch": {}, "Bridge": {}, "Port": {}, "Interface": {} });
        for (name, version) in [("monitor", MonitorVersion::V1), ("monitor_cond", MonitorVersion::V2)] {
            let monitor = Monitor::new(version, &requests, &db).expect("a monitor");
            let (added, reply) = commit(&mut db, &add_port("new"));
            assert!(monitor.update(&added).is_some_and(|told| told["Port"].is_object()));
            group.bench_function(BenchmarkId::new(format!("of a port more, {name}"), ports), |b| {
                b.iter(|| black_box(monitor.update(&added)));
            });
            group.bench_function(BenchmarkId::new(format!("of all, {name}"), ports), |b| {
                b.iter(|| black_box(monitor.initial(&db)));
            });
            remove(&mut db, &reply);
        }
    }
}

criterion_group!(benches, transactions, monitors);
criterion_main!(benches);
