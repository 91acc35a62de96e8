//! `assist show`: the flows that the kernel forwards by itself, and why others go through user space.

use ovsdb::value::AtomType;

use super::{Command, needs_topology, number, table_of, text};
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
        use AtomType::{Integer, String};
        let bridge = match args.arg(0) {
            "" => None,
            name => Some(Topology::of(cx.model).bridge(name)?.real_name().to_owned()),
        };
        let flows = cx.control.rows("assist/list", bridge.as_deref().as_slice())?;
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
        let cell = |flow: &serde_json::Value, (column, ty): (&str, AtomType)| match ty {
            Integer => number(&flow[column]),
            _ => text(&flow[column]),
        };
        let rows = flows.iter().map(|flow| columns.iter().map(|column| cell(flow, *column)).collect());
        let rows = rows.collect();
        cx.table = Some(table_of(columns, rows));
        Ok(())
    },
};
