//! What the log asks of the file system: a function for each call that changes something.
//!
//! All such calls go through here, so that tests can watch them and let each of them fail (`faults`).

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

/// A call that is about to be made.
#[derive(Debug)]
#[allow(dead_code)] // only tests look into it
pub(super) enum Call<'a> {
    Create(&'a Path),
    Write { file: &'a File, bytes: &'a [u8], at: u64 },
    Truncate { file: &'a File, length: u64 },
    Sync(&'a File),
    Rename { from: &'a Path, to: &'a Path },
    Remove(&'a Path),
    Link { from: &'a Path, to: &'a Path },
    SyncDirectory(&'a Path),
}

fn make<T>(call: &Call<'_>, run: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    #[cfg(test)]
    super::faults::before(call)?;
    let result = run();
    #[cfg(test)]
    super::faults::after(call, result.is_ok());
    #[cfg(not(test))]
    let _ = call;
    result
}

/// Options of a file that is read and written.
pub(super) fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    options
}

/// Creates a file that must not exist.
pub(super) fn create(path: &Path) -> io::Result<File> {
    make(&Call::Create(path), || options().create_new(true).mode(0o640).open(path))
}

/// Writes all of `bytes` at the offset `at`. On an error some may be written.
pub(super) fn write(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    make(&Call::Write { file, bytes, at }, || file.write_all_at(bytes, at))
}

/// Cuts a file to `length` bytes.
pub(super) fn truncate(file: &File, length: u64) -> io::Result<()> {
    make(&Call::Truncate { file, length }, || file.set_len(length))
}

/// Puts a file's content on disk.
pub(super) fn sync(file: &File) -> io::Result<()> {
    make(&Call::Sync(file), || file.sync_data())
}

/// Gives a file another name, in place of whatever has it. On disk after [`sync_directory`], as all names.
pub(super) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    make(&Call::Rename { from, to }, || fs::rename(from, to))
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match make(&Call::Remove(path), || fs::remove_file(path)) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Gives a file a second name.
pub(super) fn link(from: &Path, to: &Path) -> io::Result<()> {
    make(&Call::Link { from, to }, || fs::hard_link(from, to))
}

/// Puts the names of the files in `dir` on disk.
pub(super) fn sync_directory(dir: &Path) -> io::Result<()> {
    make(&Call::SyncDirectory(dir), || File::open(dir).and_then(|dir| dir.sync_all()))
}

/// Creates a directory with those above it, and puts their names on disk.
pub(super) fn create_directory(dir: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    for dir in missing {
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}
