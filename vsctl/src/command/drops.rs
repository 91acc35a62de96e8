//! `drops`: what the switch has dropped and why, port by port, as it is now.
//!
//! The counters and the sentences about them come from the running switch: its rows are a few seconds old, and the list of
//! reasons is its own.

use std::collections::BTreeMap;
use std::time::Duration;

use ovsdb::value::{AtomType, Datum};
use serde_json::Value;

use super::{Command, Opt, Then, needs_topology, table_of, text};
use crate::control::Control;
use crate::error::Result;
use crate::output::{Style, Table};
use crate::topology::Topology;

/// The option to go on.
pub(super) const FOLLOW: &str = "--follow";
/// Between two looks.
const PACE: Duration = Duration::from_secs(1);

pub(super) const COMMAND: Command = Command {
    name: "drops",
    args: "[BRIDGE]",
    count: (0, 1),
    options: &[Opt { name: FOLLOW, value: None, help: "go on: print each second what has been dropped in it" }],
    summary: "print what was dropped, and why",
    help: "\
Of every port and reason: how many packets, and what the reason means. What was received is counted
at the port that it came in by, what could not leave at the port that it was to leave by; copies of
a mirror are counted at the mirror. Without BRIDGE also what belongs to no port, such as tunnel
packets that nobody claims.

With --follow it goes on until it is interrupted, or for as long as --timeout says.",
    examples: &["vsctl drops", "vsctl drops br0 --follow", "vsctl drops br0 -f json"],
    related: &["doctor", "mtu"],
    needs: needs_topology,
    run: |cx, args| {
        let bridge = match args.arg(0) {
            "" => None,
            name => Some(Topology::of(cx.model).bridge(name)?.real_name().to_owned()),
        };
        let seen = look(cx.control, bridge.as_deref())?;
        let follow = args.has(FOLLOW);
        if !follow || !seen.is_empty() {
            cx.table = Some(table(&seen, &BTreeMap::new()));
        }
        cx.then = follow.then(|| Then::Follow(Follow { bridge, before: counts(&seen) }));
        Ok(())
    },
};

/// What identifies a counter: bridge, port, mirror, reason.
type Key = [String; 4];

/// The counters of a bridge, or all.
fn look(control: &Control, bridge: Option<&str>) -> Result<Vec<Value>> {
    control.rows("drops/list", bridge.as_slice())
}

fn key(counter: &Value) -> Key {
    ["bridge", "port", "mirror", "reason"].map(|member| counter[member].as_str().unwrap_or_default().to_owned())
}

fn counts(seen: &[Value]) -> BTreeMap<Key, i64> {
    seen.iter().map(|counter| (key(counter), counter["count"].as_i64().unwrap_or_default())).collect()
}

/// The counters that have grown since `before`, and by how much.
fn table(seen: &[Value], before: &BTreeMap<Key, i64>) -> Table {
    use AtomType::{Integer, String};
    let row = |counter: &Value| {
        let count = counter["count"].as_i64().unwrap_or_default();
        // A counter that is smaller than before began anew.
        let before = before.get(&key(counter)).copied().filter(|before| *before <= count);
        let more = count - before.unwrap_or_default();
        let [bridge, port, mirror, reason] = ["bridge", "port", "mirror", "reason"].map(|m| text(&counter[m]));
        let meaning = text(&counter["text"]);
        (more > 0).then(|| vec![bridge, port, mirror, reason, Datum::integer(count), meaning, Datum::integer(more)])
    };
    let mut rows: Vec<_> = seen.iter().filter_map(row).collect();
    rows.sort();
    let columns = [
        ("bridge", String),
        ("port", String),
        ("mirror", String),
        ("reason", String),
        ("count", Integer),
        ("meaning", String),
        ("more", Integer),
    ];
    Table { details: 1, ..table_of(columns, rows) }
}

/// Goes on looking.
#[derive(Debug)]
pub(crate) struct Follow {
    bridge: Option<String>,
    before: BTreeMap<Key, i64>,
}

impl Follow {
    /// Prints what grows, until nobody reads it any more. For people a line a counter, else a table a second.
    pub(crate) async fn run(mut self, control: &Control, style: &Style) -> Result<()> {
        loop {
            tokio::time::sleep(PACE).await;
            let seen = look(control, self.bridge.as_deref())?;
            let table = table(&seen, &self.before);
            self.before = counts(&seen);
            let text = match table.is_read_by_people(style) {
                true => table.rows.iter().map(|row| sentence(row)).collect(),
                false if table.rows.is_empty() => String::new(),
                false => table.print(style),
            };
            if !text.is_empty() && !crate::put(&text)? {
                return Ok(());
            }
        }
    }
}

/// A counter that has grown, on a line.
fn sentence(row: &[Datum]) -> String {
    let word = |at: usize| row[at].as_str();
    let number = |at: usize| row[at].as_i64().unwrap_or_default();
    let at = match (word(1), word(2)) {
        (Some(port), _) => port.to_owned(),
        (None, Some(mirror)) => format!("mirror {mirror}"),
        (None, None) => "no port".to_owned(),
    };
    let (reason, meaning) = (word(3).unwrap_or_default(), word(5).unwrap_or_default());
    format!("{at}: {} more, {} in all: {reason}: {meaning}\n", number(6), number(4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Data, Format};
    use serde_json::json;

    fn seen(hairpin: i64, lost: i64) -> Vec<Value> {
        vec![
            json!({"bridge": "br0", "port": "p1", "mirror": null, "reason": "hairpin", "count": hairpin, "text": "Back."}),
            json!({"bridge": "br0", "port": null, "mirror": "m0", "reason": "tx_error", "count": 7, "text": "Tight."}),
            json!({"bridge": null, "port": null, "mirror": null, "reason": "unknown_vni", "count": lost, "text": "Whose?"}),
        ]
    }

    fn style(format: Format, asked_for: bool) -> Style {
        Style { format, asked_for, data: Data::String, headings: true, pretty: false, max_width: None }
    }

    #[test]
    fn all_that_was_dropped() {
        let table = table(&seen(3, 2), &BTreeMap::new());
        assert_eq!(
            table.print(&style(Format::List, false)),
            "\
bridge port mirror reason      count meaning
------ ---- ------ ----------- ----- -------
                   unknown_vni 2     Whose?
br0         m0     tx_error    7     Tight.
br0    p1          hairpin     3     Back.
"
        );
        let json = table.print(&style(Format::Json, true));
        assert!(json.contains(r#"["br0","p1",["set",[]],"hairpin",3,"Back.",3]"#), "{json}");
    }

    #[test]
    fn what_has_grown() {
        let before = counts(&seen(3, 2));
        assert!(table(&seen(3, 2), &before).rows.is_empty());
        let grown = table(&seen(5, 1), &before);
        let lines: String = grown.rows.iter().map(|row| sentence(row)).collect();
        assert_eq!(lines, "no port: 1 more, 1 in all: unknown_vni: Whose?\np1: 2 more, 5 in all: hairpin: Back.\n");
    }
}
