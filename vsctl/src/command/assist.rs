//! `assist show`: the flows that the kernel forwards by itself, and why others go through user space.

use ovsdb::value::AtomType;
use serde_json::Value;

use super::{Command, needs_topology, number, table_of, text};
use crate::output::Table;
use crate::topology::Topology;

pub(super) const COMMAND: Command = Command {
    name: "assist show",
    args: "[BRIDGE]",
    count: (0, 1),
    options: &[],
    summary: "print the flows that the kernel forwards by itself",
    help: "\
With other_config:assist=true in the table Open_vSwitch, frames between network devices whose way is
known do not come to user space any more; needs Linux 6.6. Of each flow: where it comes in and
leaves, how many packets and bytes the kernel has forwarded (of super-frames each counts once), and
for how many seconds. Behind them the last flows that it does not forward, each with the reason.

Broadcast, ARP, neighbour discovery and what is larger than a port carries always take the way
through user space, and so does each flow in its first tenth of a second.",
    examples: &["vsctl set open_vswitch . other_config:assist=true", "vsctl assist show br0"],
    related: &["fdb show", "drops"],
    needs: needs_topology,
    run: |cx, args| {
        let bridge = match args.arg(0) {
            "" => None,
            name => Some(Topology::of(cx.model).bridge(name)?.real_name().to_owned()),
        };
        let flows = cx.control.rows("assist/list", bridge.as_deref().as_slice())?;
        cx.table = Some(table(&flows));
        Ok(())
    },
};

fn table(flows: &[Value]) -> Table {
    use AtomType::{Integer, String};
    let columns = [
        ("bridge", String),
        ("in", String),
        ("vlan", Integer),
        ("src", String),
        ("dst", String),
        ("out", String),
        ("packets", Integer),
        ("bytes", Integer),
        ("age", Integer),
        ("why", String),
    ];
    let cell = |flow: &Value, (column, ty): (&str, AtomType)| match ty {
        Integer => number(&flow[column]),
        _ => text(&flow[column]),
    };
    let rows = flows.iter().map(|flow| columns.iter().map(|column| cell(flow, *column)).collect()).collect();
    table_of(columns, rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::{Data, Format, Style};
    use serde_json::json;

    #[test]
    fn flows_with_counters_or_a_reason() {
        let flows = [
            json!({"bridge": "br0", "in": "p1", "out": "p2", "vlan": 0, "src": "a", "dst": "b", "packets": 7, "bytes": 700,
                "age": 9, "idle": 0, "why": null}),
            json!({"bridge": "br0", "in": "p2", "out": "br0", "vlan": 5, "src": "b", "dst": "c", "packets": null,
                "bytes": null, "age": 1, "idle": null, "why": "Slow."}),
        ];
        let style = Style {
            format: Format::List,
            asked_for: false,
            data: Data::String,
            headings: true,
            pretty: false,
            max_width: None,
        };
        let expected = "\
bridge in vlan src dst out packets bytes age why
------ -- ---- --- --- --- ------- ----- --- -----
br0    p1 0    a   b   p2  7       700   9
br0    p2 5    b   c   br0               1   Slow.
";
        let printed: String =
            table(&flows).print(&style).lines().map(|line| line.trim_end().to_owned() + "\n").collect();
        assert_eq!(printed, expected);
    }
}
