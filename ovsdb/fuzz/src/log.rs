//! The database file: whatever is in it, the records at its start stay, the rest is cut off and kept beside, and a file
//! that opened opens again with the same rows.
//!
//! Input is the file, but for lines that begin with `=`: each stands for a record with the right length and check sum and
//! the line's rest as its body (none: the schema), since no fuzzer would ever guess a SHA-1.

use ovsdb::db::Database;
use ovsdb::db::log::{Durability, Log, Opened};
use ovsdb::schema::DatabaseSchema;
use ovsdb::server::Server;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// A file.
pub fn check(input: &[u8]) {
    let file = FileBytes::of(input);
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("conf.db");
    fs::write(&path, &file.bytes).expect("room");
    let kept = check_log(&path, &file);
    match Server::open(&path, schema().clone(), 0) {
        Ok(server) => check_server(&path, server),
        Err(_) => assert_eq!(fs::read(&path).expect("there"), kept, "refused, but changed"),
    }
}

/// Two tables with a column of each kind.
fn schema() -> &'static DatabaseSchema {
    static SCHEMA: OnceLock<DatabaseSchema> = OnceLock::new();
    SCHEMA.get_or_init(|| {
        let set = |key: Value| json!({"type": {"key": key, "min": 0, "max": "unlimited"}});
        let schema = json!({"name": "D", "version": "1.0.0", "tables": {
            "R": {"isRoot": true, "maxRows": 3, "indexes": [["name"]], "columns": {
                "name": {"type": "string"},
                "tag": {"type": {"key": {"type": "integer", "minInteger": 0, "maxInteger": 9}, "min": 0}},
                "map": {"type": {"key": "string", "value": "real", "min": 0, "max": "unlimited"}},
                "temp": {"type": "boolean", "ephemeral": true},
                "kids": set(json!({"type": "uuid", "refTable": "N"})),
                "friends": set(json!({"type": "uuid", "refTable": "R", "refType": "weak"}))}},
            "N": {"columns": {"x": set(json!("integer"))}}}});
        DatabaseSchema::from_json(&schema).expect("a schema")
    })
}

struct FileBytes {
    bytes: Vec<u8>,
    /// The records that it certainly starts with, and their length.
    records: Vec<Value>,
    good: usize,
}

impl FileBytes {
    fn of(input: &[u8]) -> FileBytes {
        let mut file = FileBytes { bytes: Vec::new(), records: Vec::new(), good: 0 };
        for line in input.split_inclusive(|byte| *byte == b'\n') {
            let Some(body) = line.strip_prefix(b"=") else {
                file.bytes.extend_from_slice(line);
                continue;
            };
            let body = body.strip_suffix(b"\n").unwrap_or(body);
            let body = if body.is_empty() { schema().to_json().to_string().into_bytes() } else { body.to_vec() };
            let intact = file.good == file.bytes.len();
            file.bytes.extend(record(&body));
            if let (true, Ok(record)) = (intact, serde_json::from_slice(&body)) {
                file.records.push(record);
                file.good = file.bytes.len();
            }
        }
        file
    }
}

fn record(body: &[u8]) -> Vec<u8> {
    let body = [body, b"\n"].concat();
    let sum: String = Sha1::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    [format!("OVSDB JSON {} {sum}\n", body.len()).as_bytes(), &body].concat()
}

/// Returns what is in the file afterwards.
fn check_log(path: &Path, file: &FileBytes) -> Vec<u8> {
    let Ok(Opened { records, torn, log }) = Log::open(path, &schema().to_json()) else {
        assert!(file.records.is_empty(), "refused");
        let left = fs::read(path).expect("there");
        assert_eq!(left, file.bytes, "refused, but changed");
        return left;
    };
    drop(log);
    let left = fs::read(path).expect("there");
    if !file.bytes.is_empty() {
        assert!(records.starts_with(&file.records) && left.len() >= file.good, "lost a good record");
        assert!(file.bytes.starts_with(&left), "changed a good record");
        let cut = &file.bytes[left.len()..];
        assert_eq!(torn.is_some(), !cut.is_empty(), "cut in silence, or nothing");
        if let Some(torn) = torn {
            assert_eq!((torn.at, torn.bytes), (left.len() as u64, cut.len() as u64));
            assert_eq!(fs::read(torn.saved.expect("room")).expect("saved"), cut);
        }
    }
    let again = Log::open(path, &schema().to_json()).expect("good");
    assert_eq!((again.records, again.torn), (records, None), "opened again");
    left
}

/// The server takes transactions, and what it has is what the next one finds.
fn check_server(path: &Path, mut server: Server) {
    let insert = json!({"op": "insert", "table": "R", "row": {"name": "new", "tag": 1}});
    if let Some(prepared) = server.database().execute(&[insert]).prepared {
        server.commit(prepared, Durability::Buffered, 1).expect("room");
    }
    let before = contents(server.database());
    drop(server);
    let server = Server::open(path, schema().clone(), 2).expect("own file");
    assert_eq!(contents(server.database()), before);
}

/// Everything that is kept on disk.
fn contents(db: &Database) -> Value {
    db.contents().to_log(db.schema())
}
