//! A database file that cannot grow: the record is taken back, the file stays good.
//!
//! The limit on file size (RLIMIT_FSIZE) plays the full disk: writing beyond it stores what fits and then
//! fails. It holds for a whole process, so the test runs itself again in one of its own, under a shell that
//! sets it.

use ovsdb::db::log::{Durability, Log};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

const PATH: &str = "OVSDB_TEST_LOG_FULL";

#[test]
fn a_record_that_does_not_fit_is_taken_back() {
    if let Some(path) = std::env::var_os(PATH) {
        return fill(&PathBuf::from(path));
    }
    let dir = tempfile::tempdir().expect("tempdir");
    let myself = std::env::current_exe().expect("known");
    let status = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" --exact a_record_that_does_not_fit_is_taken_back"])
        .arg(myself)
        .env(PATH, dir.path().join("conf.db"))
        .status()
        .expect("sh runs");
    assert!(status.success());
}

/// With at most 8 KiB (16 blocks of 512) per file.
fn fill(path: &Path) {
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
}
