//! Inputs that fuzzing found interesting (`fuzz/corpus`), through the functions that it found them with.

#[path = "../fuzz/src/lib.rs"]
mod fuzz;

use std::path::Path;

/// Feeds every file of a target's corpus to it.
fn replay(target: &str, check: fn(&[u8])) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let files = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<_> = files.map(|file| file.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{}: no input in it", dir.display());
    for path in paths {
        let input = std::fs::read(&path).expect("readable");
        if std::panic::catch_unwind(|| check(&input)).is_err() {
            panic!("{} fails as printed above", path.display());
        }
    }
}

#[test]
fn too_big() {
    replay("too_big", fuzz::too_big::check);
}

#[test]
fn fragment() {
    replay("fragment", fuzz::fragment::check);
}
