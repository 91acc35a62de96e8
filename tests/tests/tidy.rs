//! The house rules that a machine can check, by reading the sources.
//!
//! What may know what, where `unsafe` may stand, how long a file may be, and what every module must say about itself.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Lines of code (no blank lines, comments or unit tests) that a file may hold.
const MAX_CODE_LINES: usize = 500;

/// Files that may be longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// Modules of `datapath` and the other modules that each may use; those not listed are free.
///
/// `types`, `time` and `switch::verdict` (the reasons for a drop) are words that every module may use, and `port::Caps`
/// (what a port takes unfinished) and `stats` are words that the switch needs.
const LAYERS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("time", &[]),
    ("packet", &[]),
    ("wire", &["packet"]),
    ("offload", &["packet", "wire"]),
    ("tunnel", &["packet", "wire", "offload"]),
    ("port", &["packet", "wire", "offload", "tunnel", "stats"]),
    ("switch", &["packet", "wire", "offload", "tunnel", "stats", "port::Caps"]),
];
const WORDS: &[&str] = &["types", "time", "switch::verdict"];

struct Source {
    /// Relative to the workspace, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The text without what follows `#[cfg(test)]` at the start of a line.
    fn without_tests(&self) -> &str {
        self.text.split("\n#[cfg(test)]\nmod ").next().unwrap_or(&self.text)
    }

    /// Lines that are neither blank nor comment, before the unit tests.
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let code = self.without_tests().lines().enumerate().map(|(i, l)| (i + 1, l.trim()));
        code.filter(|(_, l)| !l.is_empty() && !l.starts_with("//"))
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every `.rs` file of the workspace under the directory.
fn sources(under: &str) -> Vec<Source> {
    fn walk(dir: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display())) {
            let path = entry.expect("a directory entry").path();
            if path.is_dir() {
                walk(&path, out);
            } else if path.extension().is_some_and(|e| e == "rs") {
                out.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    walk(&root().join(under), &mut paths);
    let relative = |p: &Path| p.strip_prefix(root()).expect("inside the workspace").display().to_string();
    paths.iter().map(|p| Source { path: relative(p), text: fs::read_to_string(p).expect("UTF-8 text") }).collect()
}

fn all_sources() -> Vec<Source> {
    ["ovsdb", "datapath", "vswitch", "vsctl", "tests", "benches"].into_iter().flat_map(sources).collect()
}

/// Fails with one line for each finding.
fn none(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// The paths that `text` uses from its own crate: "wire::parse::Headers" for `crate::wire::parse::Headers` and for
/// `use crate::{wire::parse::Headers, …}`.
fn crate_paths(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for after in text.split("crate::").skip(1) {
        if let Some(group) = after.strip_prefix('{') {
            let (mut depth, mut item) = (0, String::new());
            for c in group.chars() {
                match c {
                    '}' if depth == 0 => break,
                    ',' if depth == 0 => found.extend(Some(std::mem::take(&mut item)).filter(|i| !i.is_empty())),
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    c if depth == 0 && !c.is_whitespace() => item.push(c),
                    _ => {}
                }
            }
            found.insert(item);
        } else {
            found.insert(after.chars().take_while(|&c| c.is_alphanumeric() || c == '_' || c == ':').collect());
        }
    }
    found.retain(|path| !path.is_empty());
    found
}

#[test]
fn crate_paths_are_found_in_every_spelling() {
    let text =
        "use crate::wire::parse; use crate::{packet::{Frame, Pool}, types::MacAddr}; let x = crate::port::open();";
    let found: Vec<String> = crate_paths(text).into_iter().collect();
    assert_eq!(found, ["packet::", "port::open", "types::MacAddr", "wire::parse"]);
}

#[test]
fn datapath_modules_know_only_the_layers_below() {
    let within = |path: &str, prefix: &str| path == prefix || path.starts_with(&format!("{prefix}::"));
    let mut found = Vec::new();
    for source in sources("datapath/src") {
        let module = source.path["datapath/src/".len()..].split(['/', '.']).next().unwrap_or_default().to_owned();
        let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == module) else { continue };
        let code: Vec<&str> = source.code_lines().map(|(_, line)| line).collect();
        for path in crate_paths(&code.join("\n")) {
            let free = within(&path, &module) || WORDS.iter().chain(*allowed).any(|a| within(&path, a));
            if !free {
                found.push(format!("{} uses crate::{path}", source.path));
            }
        }
    }
    none("a module knows only the layers below it", &found);
}

#[test]
fn logic_reads_no_clock_and_opens_no_socket() {
    let logic = ["wire", "packet", "offload", "tunnel", "switch"];
    let forbidden =
        ["Instant::now", "SystemTime", "std::net::Udp", "std::net::Tcp", "rustix::net", "std::fs", "libc::"];
    let mut found = Vec::new();
    for source in sources("datapath/src") {
        let path = &source.path["datapath/src/".len()..];
        if !logic.iter().any(|l| path.starts_with(l)) || path.ends_with("sys.rs") {
            continue;
        }
        for (line, text) in source.code_lines() {
            found
                .extend(forbidden.iter().filter(|f| text.contains(*f)).map(|f| format!("{}:{line}: {f}", source.path)));
        }
    }
    none("time is an argument and I/O belongs to ports", &found);
}

#[test]
fn the_plan_is_pure() {
    let Some(plan) = sources("vswitch/src").into_iter().find(|s| s.path == "vswitch/src/reconcile/plan.rs") else {
        panic!("vswitch/src/reconcile/plan.rs is gone: name its successor here");
    };
    let forbidden = ["std::fs", "std::net", "tokio", "rustix", "async ", "Instant::now", "SystemTime", "std::process"];
    let lines = plan.code_lines().filter(|(_, l)| forbidden.iter().any(|f| l.contains(f)));
    none("reconcile/plan.rs does no I/O", &lines.map(|(n, l)| format!("{}:{n}: {l}", plan.path)).collect::<Vec<_>>());
}

#[test]
fn crates_depend_downwards() {
    let manifest = |name: &str| fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
    let mut found = Vec::new();
    for (name, forbidden) in [
        ("ovsdb", &["datapath", "vswitch", "vsctl"][..]),
        ("datapath", &["ovsdb", "vswitch", "vsctl", "tokio"]),
        ("vsctl", &["datapath", "vswitch"]),
        ("vswitch", &["vsctl"]),
    ] {
        for line in manifest(name).lines() {
            let dependency = line.split(['.', ' ', '=']).next().unwrap_or_default();
            found.extend(forbidden.iter().filter(|f| **f == dependency).map(|f| format!("{name} depends on {f}")));
        }
    }
    none("crates depend downwards", &found);
}

#[test]
fn unsafe_stands_only_in_sys_files_and_is_explained() {
    let mut found = Vec::new();
    for source in all_sources() {
        if source.path == "tests/tests/tidy.rs" {
            continue;
        }
        let sys = source.path.ends_with("/sys.rs");
        for (number, line) in source.text.lines().enumerate().map(|(i, l)| (i + 1, l.trim())) {
            let code = line.split("//").next().unwrap_or_default();
            let has = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"].iter().any(|u| code.contains(u));
            if (has || code.contains("allow(unsafe_code)")) && !sys {
                found.push(format!("{}:{number}: {line}", source.path));
            }
        }
        let blocks = source.text.matches("unsafe {").count() + source.text.matches("unsafe impl").count();
        let reasons = source.text.matches("SAFETY:").count();
        if sys && reasons < blocks {
            found.push(format!("{}: {blocks} unsafe blocks, {reasons} SAFETY comments", source.path));
        }
    }
    none("unsafe stands only in files named sys.rs, each block with a SAFETY comment", &found);
}

#[test]
fn every_module_says_what_it_is() {
    let heads = all_sources().into_iter().filter(|s| !s.text.starts_with("//!")).map(|s| s.path);
    none("every file begins with a //! head", &heads.collect::<Vec<_>>());
}

#[test]
fn files_are_short_enough_to_read() {
    let (mut long, mut listed) = (Vec::new(), BTreeSet::new());
    for source in all_sources() {
        let lines = source.code_lines().count();
        if lines > MAX_CODE_LINES {
            listed.insert(source.path.clone());
            if !LONG_FILES.iter().any(|(path, _)| *path == source.path) {
                long.push(format!("{}: {lines} lines of code", source.path));
            }
        }
    }
    none("a file holds one idea: split it, or list it with its reason", &long);
    let stale = LONG_FILES.iter().filter(|(path, _)| !listed.contains(*path)).map(|(path, _)| (*path).to_owned());
    none("listed as long, but isn't", &stale.collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_for_later() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("unimpl", "emented!"), concat!("to", "do!")];
    let mut found = Vec::new();
    for source in all_sources() {
        for (number, line) in source.text.lines().enumerate() {
            found.extend(
                marks.iter().filter(|m| line.contains(*m)).map(|m| format!("{}:{}: {m}", source.path, number + 1)),
            );
        }
    }
    none("nothing is left for later in the code", &found);
}
