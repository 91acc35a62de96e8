//! The database file: OVSDB's own log format (ovsdb(5) "File Formats", standalone), so that `ovsdb-tool`
//! reads our file and we read Open vSwitch's.
//!
//! Record 0 is the schema, every other record one transaction; `record.rs` has the format of one. The file
//! only grows, or is rewritten by write-new-then-rename ([`Log::replace`]), so that at any moment a
//! complete database is on disk. A record that a crash left incomplete is cut off at the next start, with
//! the cut bytes kept beside the file. A record that cannot be written is taken back, and the file stays
//! usable.
//!
//! Owned by one thread of one process (see [`FileLock`]).

use super::disk;
use super::lock::{FileLock, LockError};
use super::record::{encode, parse};
use crate::io_error_text;
use serde_json::Value;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// A log below this size is not worth rewriting.
const COMPACT_MIN_BYTES: u64 = 10 << 20;
/// A log is rewritten when it has grown to this multiple of its size after the last rewrite.
const COMPACT_FACTOR: u64 = 4;

/// Why a database file could not be opened or rewritten.
#[derive(Debug, Error)]
pub enum LogError {
    /// Somebody else has it open.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The file is there but is not ours to touch.
    #[error("{}: not an OVSDB database: {why}", path.display())]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        why: String,
    },
    /// The kernel refused.
    #[error("{}: {action}: {}", path.display(), io_error_text(source))]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

impl LogError {
    fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> LogError {
        let path = path.to_owned();
        move |source| LogError::Io { path, action, source }
    }
}

/// How far a transaction has to get before it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Handed to the kernel: survives a crash of this process.
    Buffered,
    /// On disk (fsync): survives a crash of the machine.
    Synced,
}

/// The unreadable end of a file, cut off when it was opened.
#[derive(Debug, PartialEq, Eq)]
pub struct Torn {
    /// Offset of the first byte that was cut.
    pub at: u64,
    /// Number of bytes cut.
    pub bytes: u64,
    /// What was wrong there.
    pub why: String,
    /// Where the bytes were saved, unless that failed too.
    pub saved: Option<PathBuf>,
}

impl fmt::Display for Torn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Torn { at, bytes, why, saved } = self;
        write!(f, "cut off {bytes} bytes at offset {at} that are no intact record ({why}); ")?;
        match saved {
            Some(path) => write!(f, "they are kept in {}", path.display()),
            None => f.write_str("they could not be kept"),
        }
    }
}

/// What [`Log::open`] found.
#[derive(Debug)]
pub struct Opened {
    /// The log, ready for [`Log::append`].
    pub log: Log,
    /// All complete records; at least one, the schema.
    pub records: Vec<Value>,
    /// What had to be cut off, to be reported.
    pub torn: Option<Torn>,
}

/// An open, locked database file.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    /// Length of the good records; where the next one goes.
    end: u64,
    /// Length after the last rewrite, the yardstick of [`Log::compaction_due`].
    base: u64,
    /// Bytes of a refused record may still lie beyond `end`.
    tail_is_dirty: bool,
    /// fsync failed once: what was only buffered before that may be lost though it reads back well.
    suspect: bool,
    /// The file's name is not known to be on disk: after a crash another file, or none, might be found under it.
    /// So it is after opening, whoever made the file, and for as long as the directory cannot be synced.
    nameless: bool,
    _lock: FileLock,
}

impl Log {
    /// Opens the database at `path`, or creates it (and its directory) with `schema` as the first
    /// record. The file is locked first; a torn end is cut off.
    pub fn open(path: &Path, schema: &Value) -> Result<Opened, LogError> {
        let path = resolve(path)?;
        let lock = FileLock::acquire(&path)?;
        let metadata = fs::metadata(&path);
        if metadata.as_ref().is_ok_and(|m| !m.is_file()) {
            let why = "not a regular file".to_owned();
            return Err(LogError::NotADatabase { path, why });
        }
        // An empty file is what `touch` or `mktemp` leaves; our own creation is atomic.
        let absent = metadata.as_ref().is_ok_and(|m| m.len() == 0)
            || metadata.as_ref().is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
        let mut file = if absent {
            write_new(&path, std::slice::from_ref(schema))?.0
        } else {
            disk::options().open(&path).map_err(LogError::io(&path, "open"))?
        };
        let mut bytes = Vec::new();
        file.rewind().and_then(|()| file.read_to_end(&mut bytes)).map_err(LogError::io(&path, "read"))?;
        let parsed = parse(&bytes);
        if parsed.records.is_empty() {
            let why = parsed.fault.unwrap_or_else(|| "no record in it".to_owned());
            return Err(LogError::NotADatabase { path, why });
        }
        let end = parsed.end as u64;
        let torn = match parsed.fault {
            Some(why) => Some(cut(&path, &file, bytes.get(parsed.end..).unwrap_or_default(), end, why)?),
            None => None,
        };
        let log = Log {
            path,
            file,
            end,
            base: parsed.base as u64,
            tail_is_dirty: false,
            suspect: false,
            nameless: true,
            _lock: lock,
        };
        Ok(Opened { log, records: parsed.records, torn })
    }

    /// The file, symbolic links resolved.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Adds one record. On an error the file ends where it ended before, and the record does not count.
    pub fn append(&mut self, record: &Value, durability: Durability) -> io::Result<()> {
        if self.tail_is_dirty {
            disk::truncate(&self.file, self.end)?;
            self.tail_is_dirty = false;
        }
        if durability == Durability::Synced && self.nameless {
            disk::sync_directory(directory(&self.path))?;
            self.nameless = false;
        }
        let bytes = encode(record);
        let written = disk::write(&self.file, &bytes, self.end).and_then(|()| match durability {
            Durability::Buffered => Ok(()),
            Durability::Synced => disk::sync(&self.file).inspect_err(|_| self.suspect = true),
        });
        match written {
            Ok(()) => self.end += bytes.len() as u64,
            Err(_) => self.tail_is_dirty = disk::truncate(&self.file, self.end).is_err(),
        }
        written
    }

    /// Could a refused record not be taken back?
    #[cfg(test)]
    pub(super) fn is_dirty(&self) -> bool {
        self.tail_is_dirty
    }

    /// True when rewriting the file as one snapshot would pay, or would restore trust in it.
    pub fn compaction_due(&self) -> bool {
        self.suspect || self.end > COMPACT_MIN_BYTES.max(self.base.saturating_mul(COMPACT_FACTOR))
    }

    /// Replaces the whole content, atomically and synced. On an error the old content stays.
    pub fn replace(&mut self, records: &[Value]) -> Result<(), LogError> {
        // Should this fail, size alone calls for another attempt only after further growth.
        self.base = self.end;
        let (file, end) = write_new(&self.path, records)?;
        self.file = file;
        (self.end, self.base) = (end, end);
        self.tail_is_dirty = false;
        self.suspect = false;
        self.nameless = true;
        sync_directory(&self.path)?;
        self.nameless = false;
        Ok(())
    }

    /// Keeps the present content under another name in the same directory (a hard link), before
    /// [`Log::replace`] changes it for good. Returns that name.
    pub fn keep_as(&self, suffix: &str) -> Result<PathBuf, LogError> {
        let kept = beside(&self.path, suffix);
        let linked = disk::remove(&kept).and_then(|()| disk::link(&self.path, &kept));
        linked.map_err(LogError::io(&kept, "keep a copy of the database"))?;
        Ok(kept)
    }
}

/// Cuts the file off at `at`, keeping the cut bytes in a file beside it if that is possible.
fn cut(path: &Path, file: &File, tail: &[u8], at: u64, why: String) -> Result<Torn, LogError> {
    let saved = beside(path, &format!(".torn-{at}"));
    let saved = save(&saved, tail).is_ok().then_some(saved);
    let cut = disk::truncate(file, at).and_then(|()| disk::sync(file));
    cut.map_err(LogError::io(path, "cut off a torn record"))?;
    Ok(Torn { at, bytes: tail.len() as u64, why, saved })
}

fn save(path: &Path, bytes: &[u8]) -> io::Result<()> {
    disk::remove(path)?;
    let file = disk::create(path)?;
    disk::write(&file, bytes, 0)?;
    disk::sync(&file)
}

/// Writes a complete database under a temporary name and moves it to `path`. Returns it open, with its
/// length. The move itself is on disk only after [`sync_directory`].
fn write_new(path: &Path, records: &[Value]) -> Result<(File, u64), LogError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.new"));
    let write = || -> io::Result<(File, u64)> {
        disk::remove(&temporary)?;
        let file = disk::create(&temporary)?;
        let mut length = 0;
        for record in records {
            let bytes = encode(record);
            disk::write(&file, &bytes, length)?;
            length += bytes.len() as u64;
        }
        disk::sync(&file)?;
        disk::rename(&temporary, path)?;
        Ok((file, length))
    };
    write().map_err(|source| {
        // It may not exist; what matters is the first error.
        let _ = disk::remove(&temporary);
        LogError::io(path, "write the database file")(source)
    })
}

fn sync_directory(path: &Path) -> Result<(), LogError> {
    let dir = directory(path);
    disk::sync_directory(dir).map_err(LogError::io(dir, "sync the directory"))
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// The absolute path of the database with symbolic links resolved (a rename must replace the file, not
/// the link); creates its directory.
fn resolve(path: &Path) -> Result<PathBuf, LogError> {
    match fs::canonicalize(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        found => return found.map_err(LogError::io(path, "open")),
    }
    let Some(name) = path.file_name() else {
        return Err(LogError::NotADatabase { path: path.to_owned(), why: "no file name".into() });
    };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    disk::create_directory(dir).map_err(LogError::io(path, "create its directory"))?;
    Ok(fs::canonicalize(dir).map_err(LogError::io(path, "open its directory"))?.join(name))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(suffix);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    fn schema() -> Value {
        json!({"name": "D", "version": "1.0.0", "tables": {}})
    }

    fn open(path: &Path) -> Opened {
        Log::open(path, &schema()).expect("opens")
    }

    #[test]
    fn a_new_database_is_created_with_its_directory_and_comes_back() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("a/b/conf.db");
        let mut opened = open(&path);
        assert_eq!(opened.records, [schema()]);
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o640);
        opened.log.append(&json!({"_date": 1}), Durability::Synced).expect("room");
        opened.log.append(&json!({"_date": 2}), Durability::Buffered).expect("room");
        drop(opened);
        let opened = open(&path);
        assert_eq!(opened.records, [schema(), json!({"_date": 1}), json!({"_date": 2})]);
        assert_eq!(opened.torn, None);
    }

    #[test]
    fn a_torn_tail_is_cut_and_kept_beside() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("conf.db");
        open(&path).log.append(&json!({"n": 1}), Durability::Synced).expect("room");
        let good = fs::metadata(&path).expect("there").len();
        let torn = &encode(&json!({"n": 2}))[..60];
        OpenOptions::new().append(true).open(&path).and_then(|mut f| f.write_all(torn)).expect("room");
        let mut opened = open(&path);
        assert_eq!(opened.records, [schema(), json!({"n": 1})]);
        let saved = dir.path().canonicalize().expect("there").join(format!("conf.db.torn-{good}"));
        assert_eq!(fs::read(&saved).expect("saved"), torn);
        let why = "8 bytes announced, 6 there".to_owned();
        assert_eq!(opened.torn, Some(Torn { at: good, bytes: 60, why, saved: Some(saved) }));
        opened.log.append(&json!({"n": 3}), Durability::Synced).expect("room");
        drop(opened);
        let opened = open(&path);
        assert_eq!((opened.records.len(), opened.torn), (3, None));
    }

    #[test]
    fn what_is_no_database_is_left_alone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("conf.db");
        for (content, why) in [
            (&b"hello\n"[..], "bad header \"hello\""),
            (b"OVSDB CLUSTER 3 x\n{}\n", "clustered"),
            (b"OVSDB JSON 99999999999999999999999 aa\n", "bad header"),
            (b"OVSDB JSON 18446744073709551615 aa\n", "18446744073709551615 bytes announced, 0 there"),
        ] {
            fs::write(&path, content).expect("room");
            let error = Log::open(&path, &schema()).expect_err("refused").to_string();
            assert!(error.contains("conf.db: not an OVSDB database: ") && error.contains(why), "{error}");
            assert_eq!(fs::read(&path).expect("there"), content);
        }
        fs::remove_file(&path).and_then(|()| fs::create_dir(&path)).expect("possible");
        let error = Log::open(&path, &schema()).expect_err("refused").to_string();
        assert!(error.ends_with("not a regular file"), "{error}");
    }

    #[test]
    fn an_empty_file_becomes_a_database() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("conf.db");
        File::create(&path).expect("room");
        assert_eq!(open(&path).records, [schema()]);
    }

    #[test]
    fn replacing_goes_through_symbolic_links_and_keeps_the_lock() {
        let dir = tempfile::tempdir().expect("tempdir");
        let (real, link) = (dir.path().join("real.db"), dir.path().join("link.db"));
        drop(open(&real));
        std::os::unix::fs::symlink(&real, &link).expect("possible");
        let mut opened = open(&link);
        opened.log.append(&json!({"n": 1}), Durability::Synced).expect("room");
        let kept = opened.log.keep_as(".backup").expect("room");
        opened.log.replace(&[schema(), json!({"n": "all"})]).expect("room");
        opened.log.append(&json!({"n": 2}), Durability::Synced).expect("room");
        assert!(Log::open(&real, &schema()).is_err(), "still locked");
        drop(opened);
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert_eq!(open(&real).records, [schema(), json!({"n": "all"}), json!({"n": 2})]);
        assert_eq!(open(&kept).records, [schema(), json!({"n": 1})]);
    }

    #[test]
    fn compaction_is_due_after_growth_or_a_failed_fsync() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut log = open(&dir.path().join("conf.db")).log;
        assert!(!log.compaction_due());
        log.append(&json!({"x": "y".repeat(11 << 20)}), Durability::Buffered).expect("room");
        assert!(log.compaction_due());
        log.replace(&[schema()]).expect("room");
        assert!(!log.compaction_due());
        log.suspect = true;
        assert!(log.compaction_due());
        log.replace(&[schema(), json!({"x": "y".repeat(3 << 20)})]).expect("room");
        log.append(&json!({"x": "y".repeat(8 << 20)}), Durability::Buffered).expect("room");
        assert!(!log.compaction_due(), "less than four times the rows");
        let path = log.path().to_owned();
        drop(log);
        let mut log = open(&path).log;
        assert!(!log.compaction_due());
        log.append(&json!({"x": "y".repeat(2 << 20)}), Durability::Buffered).expect("room");
        assert!(log.compaction_due(), "a restart does not make the growth forgotten");
    }
}
