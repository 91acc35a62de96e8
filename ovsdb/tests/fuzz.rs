//! Random requests against the server core: it never panics, what it tells a monitor of each dialect adds up to the
//! database, and the file holds the same.

use ovsdb::db::log::Durability;
use ovsdb::jsonrpc::Message;
use ovsdb::schema::{BaseType, ColumnType, DatabaseSchema, TableSchema, UNLIMITED};
use ovsdb::server::{Now, OutboxReader, Server, SessionEvent, SessionId, outbox};
use ovsdb::value::{AtomType, Datum, NoSymbols};
use ovsdb::vswitch_schema::vswitch_schema;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use tempfile::TempDir;

const TABLES: [&str; 7] = ["Open_vSwitch", "Bridge", "Port", "Interface", "Mirror", "QoS", "Queue"];

const WORDS: [&str; 12] = ["uuid", "named-uuid", "set", "map", "==", "Bridge", "name", "r1", "op", "x", "", "\u{0}é"];

/// Any JSON made of words that mean something somewhere.
fn noise() -> BoxedStrategy<Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        select(&WORDS[..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 20, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((select(&WORDS[..]), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
    .boxed()
}

fn atom(ty: AtomType) -> BoxedStrategy<Value> {
    match ty {
        AtomType::Integer => select(vec![0, 1, 2, 4095, 4096, -1, i64::MAX, i64::MIN]).prop_map(Value::from).boxed(),
        AtomType::Real => any::<f64>().prop_map(Value::from).boxed(),
        AtomType::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        AtomType::String => select(vec!["a", "b", "", "access", "secure", "internal"]).prop_map(Value::from).boxed(),
        AtomType::Uuid => select(vec!["r0", "r1", "r2", "r3"]).prop_map(|name| json!(["named-uuid", name])).boxed(),
    }
}

/// A value that mostly fits a column.
fn datum(ty: &ColumnType) -> BoxedStrategy<Value> {
    let key = atom(ty.key.ty);
    let fitting = match &ty.value {
        Some(value) => prop::collection::vec((key, atom(value.ty)), 0..3)
            .prop_map(|pairs| json!(["map", pairs.into_iter().map(|(k, v)| json!([k, v])).collect::<Vec<_>>()]))
            .boxed(),
        None => prop_oneof![
            4 => key.clone(),
            2 => prop::collection::vec(key, 0..4).prop_map(|members| json!(["set", members])),
        ]
        .boxed(),
    };
    prop_oneof![20 => fitting, 1 => noise()].boxed()
}

/// A table, and some of its columns with a value for each.
fn row(schema: &DatabaseSchema) -> BoxedStrategy<(String, Map<String, Value>)> {
    let table = |name: &str| {
        let columns: Vec<_> = schema.tables[name].columns.iter().map(|(n, c)| (n.clone(), datum(&c.ty))).collect();
        let row = prop::sample::subsequence(columns, 0..4).prop_flat_map(|columns| {
            let (names, values): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
            values.prop_map(move |values| names.clone().into_iter().zip(values).collect::<Map<_, _>>())
        });
        (Just(name.to_owned()), row).boxed()
    };
    prop::strategy::Union::new(TABLES.iter().map(|name| table(name))).boxed()
}

fn operation(schema: &DatabaseSchema) -> BoxedStrategy<Value> {
    let functions = vec!["==", "!=", "includes", "excludes", "<", ">="];
    let mutators = vec!["+=", "-=", "*=", "/=", "%=", "insert", "delete"];
    let parts = (row(schema), row(schema), select(functions), select(mutators), 0..4, any::<bool>(), 0..10);
    let valid = parts.prop_map(|((table, row), (_, other), function, mutator, name, everywhere, kind)| {
        let conditions: Vec<Value> = if everywhere {
            Vec::new()
        } else {
            row.iter().map(|(column, value)| json!([column, function, value])).collect()
        };
        let changes: Vec<Value> = row.iter().map(|(column, value)| json!([column, mutator, value])).collect();
        let columns: Vec<&String> = row.keys().collect();
        match kind {
            0..=3 => json!({"op": "insert", "table": table, "uuid-name": format!("r{name}"), "row": row}),
            4 => json!({"op": "update", "table": table, "where": [], "row": row}),
            5 => json!({"op": "mutate", "table": table, "where": [], "mutations": changes}),
            6 => json!({"op": "delete", "table": table, "where": conditions}),
            7 => json!({"op": "select", "table": table, "where": conditions, "columns": columns}),
            8 => json!({"op": "wait", "table": table, "where": conditions, "columns": columns, "until": "!=",
                        "rows": [other], "timeout": 0}),
            _ => json!({"op": "comment", "comment": table}),
        }
    });
    let broken = (valid.clone(), noise(), 0usize..5).prop_map(|(mut operation, noise, at)| {
        if let Some(member) = operation.as_object_mut().and_then(|members| members.values_mut().nth(at)) {
            *member = noise;
        }
        operation
    });
    prop_oneof![15 => valid, 1 => broken, 1 => noise()].boxed()
}

/// Transactions, each of which also hangs the first bridge below the root so that not all is garbage.
fn transactions() -> BoxedStrategy<Vec<Vec<Value>>> {
    let schema = vswitch_schema();
    let hang = json!({"op": "mutate", "table": "Open_vSwitch", "where": [],
        "mutations": [["bridges", "insert", ["set", [["named-uuid", "r0"]]]]]});
    let bridge = json!({"op": "insert", "table": "Bridge", "uuid-name": "r0", "row": {"name": "b"}});
    let framed = prop::collection::vec(operation(&schema), 1..5).prop_flat_map(move |operations| {
        let (bridge, hang) = (bridge.clone(), hang.clone());
        any::<bool>().prop_map(move |frame| {
            let mut all = operations.clone();
            if frame {
                all.insert(0, bridge.clone());
                all.push(hang.clone());
            }
            all
        })
    });
    prop::collection::vec(framed, 1..8).boxed()
}

struct Lab {
    server: Server,
    replies: OutboxReader,
    dir: TempDir,
}

impl Lab {
    fn new() -> Lab {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut server = Server::open(&dir.path().join("conf.db"), vswitch_schema(), 0).expect("new");
        let insert = |table: &str, row: Value| json!({"op": "insert", "table": table, "uuid-name": table, "row": row});
        let bridge = [
            insert("Open_vSwitch", json!({"bridges": ["named-uuid", "Bridge"]})),
            insert("Bridge", json!({"name": "br0", "ports": ["named-uuid", "Port"]})),
            insert("Port", json!({"name": "br0", "interfaces": ["named-uuid", "Interface"]})),
            insert("Interface", json!({"name": "br0"})),
        ];
        let prepared = server.database().execute(&bridge).prepared.expect("a change");
        server.commit(prepared, Durability::Buffered, 0).expect("room");
        let (out, replies) = outbox(usize::MAX);
        server.handle(SessionEvent::Opened { session: SessionId::first(), peer: "fuzz".into(), out }, Now::read());
        Lab { server, replies, dir }
    }

    /// Calls a method: the notifications that came before its reply, and the reply.
    fn call(&mut self, method: &str, params: Vec<Value>) -> (Vec<Value>, Value) {
        let message = Message::Request { id: json!(1), method: method.to_owned(), params };
        self.server.handle(SessionEvent::Message { session: SessionId::first(), message }, Now::read());
        let mut sent: Vec<Value> = std::iter::from_fn(|| self.replies.try_next())
            .map(|message| serde_json::from_slice(&message).expect("JSON"))
            .collect();
        let reply = sent.pop().expect("a reply");
        assert_eq!(reply["id"], 1, "the reply comes last");
        (sent, reply)
    }

    /// Starts a monitor of everything by the dialect `method`. Returns its first reply: all rows.
    fn everything(&mut self, method: &str, id: &str) -> Value {
        let tables = self.server.database().schema().tables.keys();
        let all: Map<String, Value> = tables.map(|table| (table.clone(), json!({}))).collect();
        let (_, reply) = self.call(method, vec![json!("Open_vSwitch"), json!(id), Value::Object(all)]);
        if method == "monitor_cond_since" { reply["result"][2].clone() } else { reply["result"].clone() }
    }
}

/// What a client knows: table and row, with its columns.
type Replica = BTreeMap<(String, String), Map<String, Value>>;

/// The dialects, and the method of their notifications.
const DIALECTS: [(&str, &str); 3] =
    [("monitor", "update"), ("monitor_cond", "update2"), ("monitor_cond_since", "update3")];

/// Brings a client's picture up to date (RFC 7047 §4.1.6, ovsdb-server(7) §4.1.14).
fn follow(replica: &mut Replica, updates: &Value, schema: &DatabaseSchema) {
    for (table, rows) in updates.as_object().expect("tables") {
        for (uuid, change) in rows.as_object().expect("rows") {
            let key = (table.clone(), uuid.clone());
            // "new" comes before "old".
            let (event, columns) = change.as_object().and_then(|change| change.iter().next()).expect("an event");
            match (event.as_str(), columns) {
                ("new" | "initial" | "insert", Value::Object(row)) => drop(replica.insert(key, row.clone())),
                ("modify", Value::Object(differences)) => {
                    let row = replica.get_mut(&key).expect("a row that was told of");
                    differences.iter().for_each(|(name, value)| modify(row, &schema.tables[table], name, value));
                }
                ("old" | "delete", _) => assert!(replica.remove(&key).is_some(), "deleted, but never seen: {key:?}"),
                _ => panic!("{change}"),
            }
        }
    }
}

/// Applies a difference to a column; one at its default is not in the row.
fn modify(row: &mut Map<String, Value>, table: &TableSchema, name: &str, difference: &Value) {
    let Some(column) = table.column(name) else {
        row.insert(name.to_owned(), difference.clone()); // _version
        return;
    };
    let ty = &column.ty;
    let value = ty.value.as_ref().map(|value| BaseType::any(value.ty));
    let any = ColumnType { key: BaseType::any(ty.key.ty), value, min: 0, max: UNLIMITED };
    let read = |value: &Value| Datum::from_json(&any, value, &mut NoSymbols).expect("a value");
    let old = row.remove(name).map_or_else(|| ty.default_datum(), |value| read(&value));
    let new = ty.apply_diff(&old, &read(difference));
    if !ty.is_default(&new) {
        row.insert(name.to_owned(), new.to_json());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_database_its_monitors_and_its_file_agree(transactions in transactions()) {
        let mut lab = Lab::new();
        let schema = vswitch_schema();
        let mut replicas = DIALECTS.map(|(method, _)| {
            let mut replica = Replica::new();
            follow(&mut replica, &lab.everything(method, method), &schema);
            replica
        });
        for operations in transactions {
            let count = operations.len();
            let (updates, reply) = lab.call("transact", [vec![json!("Open_vSwitch")], operations].concat());
            let results = reply["result"].as_array().expect("an array");
            prop_assert!(results.len() == count || results.len() == count + 1 || results.len() == 1, "{results:?}");
            for update in updates {
                let dialect = DIALECTS.iter().position(|(_, told)| update["method"] == *told).expect("known");
                let params = update["params"].as_array().expect("an array");
                prop_assert_eq!(&params[0], DIALECTS[dialect].0);
                follow(&mut replicas[dialect], params.last().expect("rows"), &schema);
            }
        }
        for ((method, _), replica) in DIALECTS.iter().zip(replicas) {
            let mut fresh = Replica::new();
            follow(&mut fresh, &lab.everything(method, &format!("{method} again")), &schema);
            prop_assert_eq!(replica, fresh);
        }
        let before = lab.server.database().contents().to_log(&schema);
        let Lab { server, dir, .. } = lab;
        drop(server);
        let server = Server::open(&dir.path().join("conf.db"), vswitch_schema(), 0).expect("good");
        prop_assert_eq!(server.database().contents().to_log(&schema), before);
    }

    #[test]
    fn no_request_makes_the_server_panic(
        method in select(vec!["transact", "monitor", "monitor_cond", "monitor_cond_since", "monitor_cancel", "get_schema",
            "list_dbs", "echo", "lock", "steal", "unlock", "monitor_cond_change", "set_db_change_aware"]),
        db in prop_oneof![Just(json!("Open_vSwitch")), Just(json!("_Server")), noise()],
        rest in prop::collection::vec(noise(), 0..4),
    ) {
        let mut lab = Lab::new();
        let (_, reply) = lab.call(method, [vec![db], rest].concat());
        prop_assert!(reply["result"].is_null() != reply["error"].is_null(), "one of the two: {}", reply);
    }

    #[test]
    fn no_monitor_request_makes_the_server_panic(
        version in select(vec!["monitor", "monitor_cond", "monitor_cond_since"]),
        table in select(&TABLES[..]),
        columns in prop_oneof![Just(json!(["name"])), noise()],
        select in prop_oneof![Just(json!({"initial": false})), noise()],
        condition in prop_oneof![Just(json!([true])), Just(json!([["name", "==", "b"]])), noise()],
    ) {
        let mut lab = Lab::new();
        let request = json!({"columns": columns, "select": select, "where": condition});
        lab.call(version, vec![json!("Open_vSwitch"), json!("m"), json!({table: request})]);
        let bridge = json!({"op": "insert", "table": "Bridge", "uuid-name": "b", "row": {"name": "b"}});
        let hang = json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"bridges": ["named-uuid", "b"]}});
        let (_, reply) = lab.call("transact", vec![json!("Open_vSwitch"), bridge, hang]);
        prop_assert_eq!(&reply["result"][1], &json!({"count": 1}));
    }
}
