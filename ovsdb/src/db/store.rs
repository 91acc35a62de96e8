//! A database and its file.
//!
//! Opening reads the file into a [`Database`]; afterwards every transaction goes to the file before it is
//! applied. A file that another version of the switch, or Open vSwitch, has written is brought to
//! our schema once, its old content kept beside it. Single owner, no threads; may block on the disk.

use super::load::{LoadError, Loaded, load};
use super::log::{Durability, Log, LogError};
use super::{Changes, Database, Prepared};
use crate::error::OpError;
use crate::io_error_text;
use crate::schema::DatabaseSchema;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Why a database could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The file.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Its schema record is not a schema.
    #[error("{}: bad schema record: {source}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: OpError,
    },
    /// It is a database, but for something else.
    #[error("{}: holds the database {found}, not {expected}", path.display())]
    OtherDatabase {
        /// The file.
        path: PathBuf,
        /// The name in it.
        found: String,
        /// Our name.
        expected: String,
    },
    /// A record does not fit the schema.
    #[error("{}: {source}", path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// Which one, and why.
        source: LoadError,
    },
    /// The rows contradict each other: a reference to a row that is not there, a name used twice.
    #[error("{}: {source}", path.display())]
    Integrity {
        /// The file.
        path: PathBuf,
        /// Which, and how.
        source: OpError,
    },
}

/// The file behind a database.
#[derive(Debug)]
pub struct Store {
    log: Log,
    schema: Value,
}

impl Store {
    /// Opens or creates the database at `path`. What had to be repaired or converted is logged as warnings.
    /// `date` is the wall clock in ms since 1970.
    pub fn open(path: &Path, schema: DatabaseSchema, date: i64) -> Result<(Store, Database), OpenError> {
        let schema_json = schema.to_json();
        let opened = Log::open(path, &schema_json)?;
        let path = opened.log.path().to_owned();
        if let Some(torn) = &opened.torn {
            tracing::warn!("{}: {torn}", path.display());
        }
        let (found, records) = opened.records.split_first().unwrap_or((&schema_json, &[]));
        let found =
            DatabaseSchema::from_json(found).map_err(|source| OpenError::Schema { path: path.clone(), source })?;
        if found.name != schema.name {
            return Err(OpenError::OtherDatabase { path, found: found.name, expected: schema.name });
        }
        let loaded = load(&schema, records).map_err(|source| OpenError::Load { path: path.clone(), source })?;
        let same_schema = DatabaseSchema { cksum: schema.cksum.clone(), ..found.clone() } == schema;
        let mut store = Store { log: opened.log, schema: schema_json };
        let unknown = loaded.unknown.iter().cloned().collect::<Vec<_>>().join(", ");
        let rows: usize = loaded.rows.values().map(BTreeMap::len).sum();
        let database = fill(Database::new(schema), loaded)
            .map_err(|source| OpenError::Integrity { path: path.clone(), source })?;
        let kept: usize = database.contents().0.values().map(BTreeMap::len).sum();
        if kept < rows {
            tracing::warn!("{}: left out {} rows that nothing refers to", path.display(), rows - kept);
        }
        if !same_schema {
            store.convert(&database, &found, &unknown, date)?;
        }
        Ok((store, database))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.log.path()
    }

    /// The schema as it stands in the file.
    pub fn schema(&self) -> &Value {
        &self.schema
    }

    /// Adds a transaction to the file, unless it touches nothing that is kept on disk. On an error the file
    /// is as before, and the transaction must not be applied.
    pub fn write(
        &mut self,
        schema: &DatabaseSchema,
        prepared: &Prepared,
        durability: Durability,
        date: i64,
    ) -> Result<(), OpError> {
        if !prepared.changes.has_persistent(schema) {
            return Ok(());
        }
        let record = record(&prepared.changes, schema, prepared.comment.as_deref(), date);
        self.log.append(&record, durability).map_err(|e| {
            let path = self.path().display();
            OpError::new("I/O error", format!("{path}: {}; the transaction was not applied", io_error_text(&e)))
        })
    }

    /// Rewrites the file as one record if that pays. Trouble is logged: the long file is as good.
    pub fn compact_if_due(&mut self, database: &Database, date: i64) {
        if self.log.compaction_due()
            && let Err(e) = self.rewrite(database, "compacting database online", date)
        {
            tracing::warn!("cannot compact the database: {e}");
        }
    }

    fn convert(
        &mut self,
        database: &Database,
        found: &DatabaseSchema,
        unknown: &str,
        date: i64,
    ) -> Result<(), LogError> {
        let cksum = found.cksum.split(' ').next().unwrap_or_default();
        let kept = self.log.keep_as(&format!(".backup{}-{cksum}", found.version))?;
        self.rewrite(database, &format!("converting from schema {}", found.version), date)?;
        let (path, kept) = (self.path().display(), kept.display());
        tracing::warn!("{path}: converted from schema {}; the original is kept as {kept}", found.version);
        if !unknown.is_empty() {
            tracing::warn!("{path}: left out what this schema does not have: {unknown}");
        }
        Ok(())
    }

    fn rewrite(&mut self, database: &Database, comment: &str, date: i64) -> Result<(), LogError> {
        let everything = record(&database.contents(), database.schema(), Some(comment), date);
        self.log.replace(&[self.schema.clone(), everything])
    }
}

fn record(changes: &Changes, schema: &DatabaseSchema, comment: Option<&str>, date: i64) -> Value {
    let mut record = changes.to_log(schema);
    record["_date"] = json!(date);
    if let Some(comment) = comment {
        record["_comment"] = json!(comment);
    }
    record
}

/// Fills an empty database, in one transaction: everything in it is checked.
fn fill(mut database: Database, loaded: Loaded) -> Result<Database, OpError> {
    let mut txn = database.begin();
    for (table, rows) in &loaded.rows {
        for (uuid, columns) in rows {
            let columns = columns.iter().map(|(name, datum)| (name.as_str(), datum.clone()));
            txn.insert_as(table, *uuid, columns)?;
        }
    }
    let prepared = txn.finish()?;
    database.apply(prepared);
    Ok(database)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vswitch_schema::vswitch_schema;
    use std::fs;

    const B: &str = "9db4da3e-1f95-4dc6-bdad-7f1b192e7e8b";
    const O: &str = "3e2e346c-6546-43ab-997c-3c5d1b766415";

    /// A database file with these records after a schema record made from ours.
    fn file(change: impl FnOnce(&mut Value), records: &[Value]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("conf.db");
        let mut schema = vswitch_schema().to_json();
        change(&mut schema);
        let mut log = Log::open(&path, &schema).expect("new").log;
        for record in records {
            log.append(record, Durability::Buffered).expect("room");
        }
        (dir, path)
    }

    fn open(path: &Path) -> Result<(Store, Database), OpenError> {
        Store::open(path, vswitch_schema(), 5)
    }

    fn bridge() -> Value {
        json!({"Open_vSwitch": {O: {"bridges": ["uuid", B]}}, "Bridge": {B: {"name": "br0"}}})
    }

    #[test]
    fn the_file_of_another_version_is_converted_and_its_original_kept() {
        let change = |schema: &mut Value| {
            schema["version"] = json!("8.9.0");
            schema["cksum"] = json!("123 456");
            schema["tables"]["Bridge"]["columns"]["colour"] = json!({"type": "string"});
        };
        let mut record = bridge();
        record["Bridge"][B]["colour"] = json!("red");
        let (_dir, path) = file(change, &[record]);
        let before = fs::read(&path).expect("there");
        let (store, database) = open(&path).expect("convertible");
        assert_eq!(database.rows("Bridge").next().and_then(|(_, row)| row.str("name")), Some("br0"));
        drop(store);
        assert_eq!(fs::read(path.with_file_name("conf.db.backup8.9.0-123")).expect("kept"), before);
        let opened = Log::open(&path, &json!({})).expect("good");
        assert_eq!((opened.records.len(), &opened.records[0]), (2, &vswitch_schema().to_json()));
        let mut expected = bridge();
        expected["_date"] = json!(5);
        expected["_comment"] = json!("converting from schema 8.9.0");
        assert_eq!(opened.records[1], expected);
    }

    #[test]
    fn a_check_sum_makes_no_other_schema() {
        let (dir, path) = file(|schema| schema["cksum"] = json!("1 2"), &[bridge()]);
        drop(open(&path).expect("good"));
        assert_eq!(fs::read_dir(dir.path()).expect("there").count(), 2, "database and lock");
    }

    #[test]
    fn what_cannot_be_served_is_refused_by_name() {
        let error = |change: fn(&mut Value), records: &[Value]| {
            let (_dir, path) = file(change, records);
            let before = fs::read(&path).expect("there");
            let error = open(&path).expect_err("refused").to_string();
            assert_eq!(fs::read(&path).expect("there"), before, "left alone");
            error.split_once("conf.db: ").map(|(_, text)| text.to_owned()).unwrap_or(error)
        };
        let text = error(|schema| schema["name"] = json!("OVN_Southbound"), &[]);
        assert_eq!(text, "holds the database OVN_Southbound, not Open_vSwitch");
        let text = error(|schema| *schema = json!({"a": 1}), &[]);
        assert!(text.starts_with("bad schema record: syntax error"), "{text}");
        let text = error(|_| (), &[bridge(), json!({"Bridge": {B: {"name": 5}}})]);
        assert!(text.starts_with(&format!("record 2: table Bridge, row {B}: column name: ")), "{text}");
        let text = error(|_| (), &[json!({"Open_vSwitch": {O: {"bridges": ["uuid", B]}}})]);
        assert!(text.starts_with("referential integrity violation: Table Open_vSwitch column bridges"), "{text}");
    }

    #[test]
    fn rows_without_reference_are_left_out() {
        let (_dir, path) = file(|_| (), &[json!({"Bridge": {B: {"name": "br0"}}})]);
        let (_, database) = open(&path).expect("good");
        assert_eq!(database.rows("Bridge").count(), 0);
    }

    #[test]
    fn compaction_keeps_everything_and_shortens_the_file() {
        let (_dir, path) = file(|_| (), &[bridge()]);
        let (mut store, database) = open(&path).expect("good");
        let long = json!({"Bridge": {B: {"external_ids": ["map", [["k", "v".repeat(11 << 20)]]]}}});
        store.log.append(&long, Durability::Buffered).expect("room");
        store.compact_if_due(&database, 6);
        assert!(fs::metadata(&path).expect("there").len() < 30_000);
        drop(store);
        let (_, again) = open(&path).expect("good");
        assert_eq!(again.contents(), database.contents());
    }

    #[test]
    fn ephemeral_changes_stay_out_of_the_file() {
        let (_dir, path) = file(|_| (), &[bridge()]);
        let (mut store, mut database) = open(&path).expect("good");
        let length = fs::metadata(&path).expect("there").len();
        let set = |column: &str, row: Value| json!({"op": "update", "table": "Bridge", "where": [["name", "==", "br0"]], "row": {column: row}});
        let status = database.execute(&[set("status", json!(["map", [["k", "v"]]]))]).prepared.expect("a change");
        store.write(database.schema(), &status, Durability::Synced, 7).expect("room");
        database.apply(status);
        assert_eq!(fs::metadata(&path).expect("there").len(), length);
        let both = [set("status", json!(["map", []])), set("fail_mode", json!("secure"))];
        let both = database.execute(&both).prepared.expect("a change");
        store.write(database.schema(), &both, Durability::Synced, 7).expect("room");
        let text = fs::read_to_string(&path).expect("text");
        let last = text.lines().last().expect("a record");
        assert_eq!(last, format!(r#"{{"Bridge":{{"{B}":{{"fail_mode":"secure"}}}},"_date":7}}"#));
    }
}
