//! `workers`: which worker of the switch receives from which port, and how busy that keeps it.

use ovsdb::value::AtomType::{Integer, String};

use super::{Command, number, table_of, text};

pub(super) const COMMAND: Command = Command {
    name: "workers",
    args: "",
    count: (0, 0),
    options: &[],
    summary: "print which worker receives from which port",
    help: "\
The switch forwards with one worker thread, or with one on each CPU of the mask in
other_config:pmd-cpu-mask of Open_vSwitch. Of each receive queue: the worker that has it, the CPU
that this one is kept on (none: it may run on any), the port, the number of the queue, how much of
the worker's time it took lately (in percent), and how many packets have come by it. A queue moves
when its worker has much to do and another one little.",
    examples: &["vsctl workers", "vsctl set open . other_config:pmd-cpu-mask=0x3", "vsctl workers -f json"],
    related: &["drops", "doctor"],
    needs: |_, _, _| Ok(()),
    run: |cx, _| {
        let rows = cx.control.rows("workers/list", &[])?;
        let row = |queue: &serde_json::Value| {
            let [worker, cpu, number_of] = ["worker", "cpu", "queue"].map(|member| number(&queue[member]));
            let [usage, packets] = ["usage", "packets"].map(|member| number(&queue[member]));
            vec![worker, cpu, text(&queue["port"]), number_of, usage, packets]
        };
        let columns = [
            ("worker", Integer),
            ("cpu", Integer),
            ("port", String),
            ("queue", Integer),
            ("usage", Integer),
            ("packets", Integer),
        ];
        cx.table = Some(table_of(columns, rows.iter().map(row).collect()));
        Ok(())
    },
};
