//! A database file that cannot grow: what does not fit is refused and taken back, and everything goes on.
//!
//! The limit on file size (RLIMIT_FSIZE) plays the full disk: writing beyond it stores what fits and then
//! fails. It holds for a whole process, so each test runs itself again in one of its own, under a shell that
//! sets it.

use ovsdb::db::log::{Durability, Log};
use ovsdb::jsonrpc::Message;
use ovsdb::server::{Now, OutboxReader, Server, SessionEvent, SessionId, outbox};
use ovsdb::vswitch_schema::vswitch_schema;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;

const PATH: &str = "OVSDB_TEST_LOG_FULL";

/// Runs `body` on a new database path, in a process that may write at most `kib` KiB to a file.
fn with_limit(test: &str, kib: u32, body: fn(&Path)) {
    if let Some(path) = std::env::var_os(PATH) {
        return body(&PathBuf::from(path));
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let myself = std::env::current_exe().expect("known");
    let blocks = 2 * kib; // of 512 bytes, says POSIX
    // Through pipes: the limit would hold for a file that our output goes to, too.
    let done = Command::new("sh")
        .args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" --exact {test}")])
        .arg(myself)
        .env(PATH, dir.path().join("conf.db"))
        .output()
        .expect("sh runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(done.status.success(), "{}{}", text(&done.stdout), text(&done.stderr));
}

#[test]
fn a_record_that_does_not_fit_is_taken_back() {
    with_limit("a_record_that_does_not_fit_is_taken_back", 8, |path| {
        let schema = json!({"name": "D", "tables": {}});
        let mut log = Log::open(path, &schema).expect("small").log;
        let record = json!({"x": "y".repeat(3000)});
        let mut fitted = 0;
        while log.append(&record, Durability::Synced).is_ok() {
            fitted += 1;
            assert!(fitted < 10, "the limit holds");
        }
        assert_eq!(fitted, 2);
        let size = std::fs::metadata(path).expect("there").len();
        assert!(size < 7000, "the part that was written is cut off again: {size}");
        log.append(&json!({"small": 1}), Durability::Synced).expect("a small one still fits");
        let full = log.replace(&[schema.clone(), record.clone(), record.clone(), record.clone()]);
        assert!(full.expect_err("too large").to_string().contains("write the database file: File too large"));
        log.append(&json!({"small": 2}), Durability::Synced).expect("the old file is in use again");
        drop(log);
        let opened = Log::open(path, &schema).expect("good");
        assert_eq!(opened.torn, None);
        assert_eq!(opened.records, [schema, record.clone(), record, json!({"small": 1}), json!({"small": 2})]);
        assert_eq!(std::fs::read_dir(path.parent().expect("dir")).expect("dir").count(), 2, "no temporary file left");
    });
}

/// Calls `transact`: the reply's `result`, and whether something was committed.
fn transact(server: &mut Server, replies: &mut OutboxReader, operation: Value) -> (Value, bool) {
    let params = vec![json!("Open_vSwitch"), operation];
    let message = Message::Request { id: json!(1), method: "transact".into(), params };
    let commit = server.handle(SessionEvent::Message { session: SessionId::first(), message }, Now::read());
    let reply: Value = serde_json::from_slice(&replies.try_next().expect("a reply")).expect("JSON");
    (reply["result"].clone(), !commit.is_empty())
}

#[test]
fn a_transaction_that_does_not_fit_is_refused() {
    with_limit("a_transaction_that_does_not_fit_is_refused", 40, |path| {
        let mut server = Server::open(path, vswitch_schema(), 0).expect("small");
        let (out, mut replies) = outbox(1 << 20);
        server.handle(SessionEvent::Opened { session: SessionId::first(), peer: "test".into(), out }, Now::read());
        let mut transact = |operation| transact(&mut server, &mut replies, operation);
        let insert = json!({"op": "insert", "table": "Open_vSwitch", "row": {"system_type": "small"}});
        assert!(transact(insert).1);
        let update =
            |text: &str| json!({"op": "update", "table": "Open_vSwitch", "where": [], "row": {"system_type": text}});
        let (result, committed) = transact(update(&"x".repeat(30_000)));
        assert!(!committed);
        assert_eq!((&result[0], &result[1]["error"]), (&json!({"count": 1}), &json!("I/O error")));
        let details = result[1]["details"].as_str().expect("text");
        assert!(details.ends_with("conf.db: File too large; the transaction was not applied"), "{details}");
        let select = json!({"op": "select", "table": "Open_vSwitch", "where": [], "columns": ["system_type"]});
        assert_eq!(transact(select.clone()).0, json!([{"rows": [{"system_type": "small"}]}]));
        assert_eq!(transact(update("fits")), (json!([{"count": 1}]), true));
        drop(server);
        let server = Server::open(path, vswitch_schema(), 0).expect("good");
        let rows: Vec<_> = server.database().rows("Open_vSwitch").map(|(_, row)| row.str("system_type")).collect();
        assert_eq!(rows, [Some("fits")]);
    });
}
