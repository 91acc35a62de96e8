//! What the file holds whatever call fails, and wherever the machine stops: all that was acknowledged.
//!
//! A log of numbers: each record adds one, a snapshot holds all.

use super::disk::Call;
use super::faults::{self, watch};
use super::log::{Durability, Log};
use super::record::parse;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

type Numbers = BTreeSet<i64>;

fn schema() -> Value {
    json!({"name": "D", "version": "1.0.0", "tables": {}})
}

fn numbers(records: &[Value]) -> Numbers {
    let mut numbers = Numbers::new();
    for record in records.iter().skip(1) {
        if let Some(all) = record["all"].as_array() {
            numbers = all.iter().filter_map(Value::as_i64).collect();
        }
        numbers.extend(record["n"].as_i64());
    }
    numbers
}

/// What the log is told to do, and what it said became of it.
struct Writer {
    path: PathBuf,
    log: Log,
    /// In the file for whoever reads it now.
    written: Numbers,
    /// On disk.
    acknowledged: Rc<RefCell<Numbers>>,
}

impl Writer {
    fn open(path: &Path, acknowledged: &Rc<RefCell<Numbers>>) -> Option<Writer> {
        let opened = Log::open(path, &schema()).ok()?;
        Some(Writer {
            path: path.to_owned(),
            log: opened.log,
            written: numbers(&opened.records),
            acknowledged: acknowledged.clone(),
        })
    }

    fn append(&mut self, n: i64, durability: Durability) {
        // Of different lengths.
        let record = json!({"n": n, "text": "x".repeat(usize::try_from(n * 37 % 200).expect("positive"))});
        if self.log.append(&record, durability).is_ok() {
            self.written.insert(n);
            if durability == Durability::Synced {
                *self.acknowledged.borrow_mut() = self.written.clone();
            }
        }
        self.check();
    }

    fn compact(&mut self) {
        if self.log.replace(&[schema(), json!({ "all": self.written })]).is_ok() {
            *self.acknowledged.borrow_mut() = self.written.clone();
        }
        self.check();
    }

    /// The file is what the log says, unless what was refused could not be taken back either: then the next process may
    /// find it, or a part of it.
    fn check(&self) {
        let content = fs::read(&self.path).expect("there");
        let parsed = parse(&content);
        let found = numbers(&parsed.records);
        assert!(found.is_superset(&self.written), "{found:?} and not {:?}", self.written);
        if !self.log.is_dirty() {
            assert_eq!((found, parsed.fault), (self.written.clone(), None));
        }
    }
}

/// Everything a log can be told, twice over, with a restart in between. True if a process left behind what it could not
/// take back.
fn work(path: &Path, acknowledged: &Rc<RefCell<Numbers>>) -> bool {
    let mut dirty = false;
    for round in [0, 100] {
        let Some(mut writer) = Writer::open(path, acknowledged) else { continue };
        writer.append(round + 1, Durability::Synced);
        writer.append(round + 2, Durability::Buffered);
        writer.append(round + 3, Durability::Synced);
        writer.append(round + 4, Durability::Buffered);
        writer.compact();
        writer.append(round + 5, Durability::Buffered);
        writer.append(round + 6, Durability::Synced);
        let _ = writer.log.keep_as(".backup");
        writer.compact();
        writer.append(round + 7, Durability::Synced);
        if writer.log.compaction_due() {
            writer.compact();
        }
        writer.append(round + 8, Durability::Buffered);
        dirty |= writer.log.is_dirty();
    }
    dirty
}

#[test]
fn whatever_call_fails_the_log_says_the_truth_and_goes_on() {
    let dir = tempfile::tempdir().expect("tempdir");
    let calls = faults::count(|| assert!(!work(&dir.path().join("conf.db"), &Rc::default())));
    assert!(calls > 60, "{calls}");
    for first in 0..calls {
        for length in [1, 2, 3, 7, usize::MAX] {
            let dir = tempfile::tempdir().expect("tempdir");
            let path = dir.path().join("conf.db");
            let acknowledged = Rc::default();
            let broken = faults::fail(first, first.saturating_add(length));
            let dirty = work(&path, &acknowledged);
            assert!(!dirty || length > 1, "call {first}: what was refused was not taken back");
            drop(broken);
            let opened = Log::open(&path, &schema()).unwrap_or_else(|e| panic!("call {first} to +{length}: {e}"));
            let found = numbers(&opened.records);
            let missing: Vec<_> = acknowledged.borrow().difference(&found).copied().collect();
            assert!(missing.is_empty(), "calls {first} to +{length}: lost {missing:?}");
        }
    }
}

/// A change that a stop of the machine can undo.
#[derive(Clone, Debug)]
enum Change {
    Create(PathBuf, u64),
    Write(u64, u64, Vec<u8>),
    Truncate(u64, u64),
    Sync(u64),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    Link(PathBuf, PathBuf),
    SyncDirectory,
}

impl Change {
    fn of(call: &Call<'_>) -> Change {
        let id = |file: &File| file.metadata().expect("open").ino();
        match call {
            Call::Create(path) => Change::Create(path.to_path_buf(), fs::metadata(path).expect("created").ino()),
            Call::Write { file, bytes, at } => Change::Write(id(file), *at, bytes.to_vec()),
            Call::Truncate { file, length } => Change::Truncate(id(file), *length),
            Call::Sync(file) => Change::Sync(id(file)),
            Call::Rename { from, to } => Change::Rename(from.to_path_buf(), to.to_path_buf()),
            Call::Remove(path) => Change::Remove(path.to_path_buf()),
            Call::Link { from, to } => Change::Link(from.to_path_buf(), to.to_path_buf()),
            Call::SyncDirectory(_) => Change::SyncDirectory,
        }
    }
}

/// A disk with its cache: names and contents that are on it for good, and the changes that are not yet.
#[derive(Clone, Default)]
struct Machine {
    names: BTreeMap<PathBuf, u64>,
    new_names: Vec<Change>,
    contents: BTreeMap<u64, Vec<u8>>,
    new_contents: BTreeMap<u64, Vec<Change>>,
}

impl Machine {
    fn take(&mut self, change: Change) {
        match &change {
            Change::Write(file, ..) | Change::Truncate(file, _) => {
                self.new_contents.entry(*file).or_default().push(change);
            }
            Change::Sync(file) => {
                let changes = self.new_contents.remove(file).unwrap_or_default();
                let content = self.contents.entry(*file).or_default();
                changes.iter().for_each(|change| alter(content, change));
            }
            Change::SyncDirectory => {
                let changes = std::mem::take(&mut self.new_names);
                changes.iter().for_each(|change| rename(&mut self.names, change));
            }
            // A new file may have the number of one that is gone.
            Change::Create(_, file) => {
                self.contents.remove(file);
                self.new_contents.remove(file);
                self.new_names.push(change);
            }
            _ => self.new_names.push(change),
        }
    }

    /// All that the database file may be found to hold if the power fails now; None: it is not there.
    fn after_power_failure(&self, path: &Path) -> BTreeSet<Option<Vec<u8>>> {
        let mut found = BTreeSet::new();
        for known_names in 0..=self.new_names.len() {
            let mut names = self.names.clone();
            self.new_names[..known_names].iter().for_each(|change| rename(&mut names, change));
            let Some(file) = names.get(path) else {
                found.insert(None);
                continue;
            };
            let on_disk = self.contents.get(file).cloned().unwrap_or_default();
            let changes = self.new_contents.get(file).map(Vec::as_slice).unwrap_or_default();
            for known in 0..=changes.len() {
                let mut content = on_disk.clone();
                changes[..known].iter().for_each(|change| alter(&mut content, change));
                found.insert(Some(content.clone()));
                // The next change: half of it, or the length without the bytes.
                if let Some(Change::Write(file, at, bytes)) = changes.get(known) {
                    for bytes in [bytes[..bytes.len() / 2].to_vec(), vec![0; bytes.len()]] {
                        let mut torn = content.clone();
                        alter(&mut torn, &Change::Write(*file, *at, bytes));
                        found.insert(Some(torn));
                    }
                }
            }
        }
        found
    }
}

fn alter(content: &mut Vec<u8>, change: &Change) {
    match change {
        Change::Write(_, at, bytes) => {
            let at = usize::try_from(*at).expect("small");
            content.resize(content.len().max(at + bytes.len()), 0);
            content[at..at + bytes.len()].copy_from_slice(bytes);
        }
        Change::Truncate(_, length) => content.resize(usize::try_from(*length).expect("small"), 0),
        other => panic!("{other:?}"),
    }
}

fn rename(names: &mut BTreeMap<PathBuf, u64>, change: &Change) {
    match change {
        Change::Create(path, file) => drop(names.insert(path.clone(), *file)),
        Change::Rename(from, to) => {
            if let Some(file) = names.remove(from) {
                names.insert(to.clone(), file);
            }
        }
        Change::Remove(path) => drop(names.remove(path)),
        Change::Link(from, to) => {
            if let Some(file) = names.get(from).copied() {
                names.insert(to.clone(), file);
            }
        }
        other => panic!("{other:?}"),
    }
}

/// What was acknowledged when a change was made, and the change.
type History = Vec<(Numbers, Change)>;

/// The history of [`work`], in which the call number `failing` fails.
fn history(path: &Path, failing: Option<usize>) -> History {
    let acknowledged: Rc<RefCell<Numbers>> = Rc::default();
    let history: Rc<RefCell<History>> = Rc::default();
    let note = {
        let (history, acknowledged) = (history.clone(), acknowledged.clone());
        move |call: &Call<'_>| history.borrow_mut().push((acknowledged.borrow().clone(), Change::of(call)))
    };
    let (mut count, note_half) = (0, note.clone());
    let fail = move |call: &Call<'_>| {
        count += 1;
        if failing != Some(count - 1) {
            return Ok(());
        }
        if let Call::Write { file, bytes, at } = call {
            let bytes = &bytes[..bytes.len() / 2];
            file.write_all_at(bytes, *at)?;
            note_half(&Call::Write { file, bytes, at: *at });
        }
        Err(io::ErrorKind::StorageFull.into())
    };
    let watched = watch(fail, note);
    work(path, &acknowledged);
    drop(watched);
    history.take()
}

/// Returns the number of states looked at.
fn assert_nothing_is_lost(path: &Path, history: &History, failing: Option<usize>) -> usize {
    let mut machine = Machine::default();
    let mut states = 0;
    for (acknowledged, change) in history {
        // What was acknowledged before this change was made must outlive a failure after it, too.
        machine.take(change.clone());
        for content in machine.after_power_failure(path) {
            states += 1;
            let place = || format!("call {failing:?} failed, the power after {change:?}");
            let Some(content) = content else {
                assert!(acknowledged.is_empty(), "{}: no file", place());
                continue;
            };
            let records = parse(&content).records;
            assert_eq!(records.first(), Some(&schema()), "{}: unreadable", place());
            let found = numbers(&records);
            let missing: Vec<_> = acknowledged.difference(&found).collect();
            assert!(missing.is_empty(), "{}: lost {missing:?}", place());
        }
    }
    states
}

#[test]
fn wherever_the_power_fails_nothing_acknowledged_is_lost() {
    let new = || tempfile::tempdir().expect("tempdir");
    let calls = {
        let dir = new();
        faults::count(|| assert!(!work(&dir.path().join("conf.db"), &Rc::default())))
    };
    let mut states = 0;
    for failing in std::iter::once(None).chain((0..calls).map(Some)) {
        let dir = new();
        let path = dir.path().canonicalize().expect("there").join("conf.db");
        states += assert_nothing_is_lost(&path, &history(&path, failing), failing);
    }
    assert!(states > 100 * calls, "{states} of {calls} calls");
}
