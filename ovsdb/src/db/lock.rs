//! One process per database file.
//!
//! The lock is a POSIX record lock on `.NAME.~lock~` beside the file, which is what Open vSwitch's own
//! tools take: `ovsdb-tool` and `ovsdb-server` refuse to write to a database that we hold, and we one
//! that they hold. The kernel drops it when the process ends, however it ends; the empty file stays.
//!
//! Such a lock does not exclude its own process, and closing *any* descriptor of the lock file would
//! release it; hence `HELD`, which is asked before the lock file is opened.

use crate::io_error_text;
use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::process::{Flock, FlockType, fcntl_getlk};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use thiserror::Error;

/// Lock files held by this process.
static HELD: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Why a database could not be locked.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another process (or another part of this one) has the database open.
    #[error("{}: already in use by {}; only one process may open a database", db.display(), show_pid(*pid))]
    Held {
        /// The database file.
        db: PathBuf,
        /// Its user, unless that lives in another PID namespace.
        pid: Option<u32>,
    },
    /// The lock file cannot be opened or locked at all.
    #[error("{}: cannot lock: {}", path.display(), io_error_text(source))]
    Io {
        /// The lock file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

fn show_pid(pid: Option<u32>) -> String {
    pid.map_or_else(|| "a process outside this PID namespace".to_owned(), |pid| format!("process {pid}"))
}

/// Exclusive use of one database file, until dropped.
#[derive(Debug)]
pub struct FileLock {
    path: PathBuf,
    _file: File,
}

impl FileLock {
    /// Locks `db`, which need not exist; its directory must. Never waits.
    pub fn acquire(db: &Path) -> Result<FileLock, LockError> {
        let path = lock_path(db);
        let io = |source: io::Error| LockError::Io { path: path.clone(), source };
        if !held().insert(path.clone()) {
            return Err(LockError::Held { db: db.to_owned(), pid: Some(std::process::id()) });
        }
        let release = |error| {
            held().remove(&path);
            error
        };
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| release(io(e)))?;
        match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(FileLock { path, _file: file }),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::ACCESS) => {
                Err(release(LockError::Held { db: db.to_owned(), pid: holder(&file) }))
            }
            Err(e) => Err(release(io(e.into()))),
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        held().remove(&self.path);
    }
}

/// `dir/name` → `dir/.name.~lock~`.
fn lock_path(db: &Path) -> PathBuf {
    let name = db.file_name().unwrap_or_default().to_string_lossy();
    db.with_file_name(format!(".{name}.~lock~"))
}

fn held() -> std::sync::MutexGuard<'static, BTreeSet<PathBuf>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn holder(file: &File) -> Option<u32> {
    let blocking = fcntl_getlk(file, &Flock::from(FlockType::WriteLock)).ok()??;
    blocking.pid.and_then(|pid| u32::try_from(pid.as_raw_nonzero().get()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_user_in_this_process_is_refused_until_the_first_is_gone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let db = dir.path().join("conf.db");
        let first = FileLock::acquire(&db).expect("free");
        let second = FileLock::acquire(&db).expect_err("held").to_string();
        let me = std::process::id();
        assert_eq!(
            second,
            format!("{}: already in use by process {me}; only one process may open a database", db.display())
        );
        assert!(dir.path().join(".conf.db.~lock~").exists());
        drop(first);
        FileLock::acquire(&db).expect("free again");
    }

    #[test]
    fn a_missing_directory_is_named() {
        let error = FileLock::acquire(Path::new("/nonexistent/x/conf.db")).expect_err("no directory").to_string();
        assert!(error.contains("/nonexistent/x/.conf.db.~lock~: cannot lock: No such file"), "{error}");
        let again = FileLock::acquire(Path::new("/nonexistent/x/conf.db")).expect_err("no directory").to_string();
        assert_eq!(error, again, "the failed attempt holds nothing");
    }
}
