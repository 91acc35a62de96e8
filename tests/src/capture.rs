//! What `ovs-vsctl` 3.1 did on Open vSwitch 3.1, recorded: 64 command lines, their exit codes, their standard output.
//!
//! The recording lost blank lines at the end of an output; that of `--if-exists get` is put back.

use crate::text::{sorted_records, without_uuids};

/// `$ WORDS [=> EXIT CODE]`, then what it printed.
const CAPTURE: &str = include_str!("capture.txt");

/// A recorded run.
pub struct Recorded {
    /// The words of the command.
    pub line: &'static str,
    /// The exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
}

/// All of them, in the order in which they were run.
///
/// # Panics
/// If the recording is damaged.
#[must_use]
pub fn recorded() -> Vec<Recorded> {
    let mut runs: Vec<Recorded> = Vec::new();
    for text in CAPTURE.lines() {
        match (text.strip_prefix("$ "), runs.last_mut()) {
            (Some(command), _) => {
                let (line, code) = command.split_once(" => ").unwrap_or((command, "0"));
                runs.push(Recorded { line, code: code.parse().expect("an exit code"), out: String::new() });
            }
            (None, Some(run)) => run.out += &format!("{text}\n"),
            (None, None) => panic!("{text}: output before the first command"),
        }
    }
    runs
}

/// The output of a line without UUIDs, and without their order: that of ports in `show`, and of a table's rows.
#[must_use]
pub fn comparable(line: &str, out: &str) -> Vec<String> {
    let out = without_uuids(out);
    match line {
        "show" => {
            let (version, rest): (Vec<&str>, Vec<&str>) = out.lines().partition(|l| l.starts_with("    ovs_version: "));
            let mut ports: Vec<String> = rest.join("\n").split("\n        Port ").map(str::to_owned).collect();
            ports[1..].sort();
            ports.push(version.concat());
            ports
        }
        line if line.contains("list ") || line.contains("find ") => sorted_records(&out),
        _ => vec![out],
    }
}
