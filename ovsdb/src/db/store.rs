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
        let database = fill(Database::new(schema), loaded).map_err(|source| OpenError::Integrity { path, source })?;
        if !same_schema {
            store.convert(&database, &found, &unknown, date)?;
        }
        Ok((store, database))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.log.path()
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
