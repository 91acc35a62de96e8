//! Controllers and what to do without one: `get-controller`, `set-controller`, `del-controller`, `get-fail-mode`,
//! `set-fail-mode`, `del-fail-mode`. The switch stores them; it does not speak OpenFlow.

use ovsdb::schema::DatabaseSchema;
use ovsdb::value::Datum;

use super::{Command, Context, Family, INACTIVITY_PROBE, needs_topology, targets};
use crate::error::{Result, fail};
use crate::grammar::Parsed;
use crate::model::Needs;
use crate::topology::Topology;

pub(super) static FAMILY: Family = Family { title: "Controllers", commands: &COMMANDS };

static COMMANDS: [Command; 6] = [
    Command {
        name: "get-controller",
        args: "BRIDGE",
        count: (1, 1),
        options: &[],
        summary: "print the controllers set for a bridge",
        help: "Prints the targets, one a line, whether or not anybody has ever connected to them.",
        examples: &["vsctl get-controller br0"],
        related: &["set-controller", "del-controller"],
        needs: controller_needs,
        run: |cx, args| {
            let row = Topology::of(cx.model).bridge(args.arg(0))?.row;
            targets::print(cx, CONTROLLERS, &row)
        },
    },
    Command {
        name: "set-controller",
        args: "BRIDGE TARGET...",
        count: (1, usize::MAX),
        options: &[INACTIVITY_PROBE],
        summary: "set the controllers of a bridge",
        help: "\
The controllers are stored for tools that look for them, and their status says that nobody calls
them: this switch has no OpenFlow. With the fail mode 'secure' the bridge forwards nothing.

TARGET is tcp:HOST[:PORT], ssl:HOST[:PORT], unix:FILE, ptcp:[PORT][:HOST], pssl:[PORT][:HOST] or
punix:FILE.",
        examples: &["vsctl set-controller br0 tcp:192.0.2.1:6653"],
        related: &["get-controller", "del-controller", "set-fail-mode"],
        needs: controller_needs,
        run: |cx, args| {
            let row = Topology::of(cx.model).real_bridge(args.arg(0))?.row;
            targets::replace(cx, CONTROLLERS, &row, args.args_from(1), args.value("--inactivity-probe"))
        },
    },
    Command {
        name: "del-controller",
        args: "BRIDGE",
        count: (1, 1),
        options: &[],
        summary: "delete the controllers of a bridge",
        help: "",
        examples: &["vsctl del-controller br0"],
        related: &["set-controller"],
        needs: controller_needs,
        run: |cx, args| {
            let row = Topology::of(cx.model).real_bridge(args.arg(0))?.row;
            targets::replace(cx, CONTROLLERS, &row, &[], None)
        },
    },
    Command {
        name: "get-fail-mode",
        args: "BRIDGE",
        count: (1, 1),
        options: &[],
        summary: "print what a bridge does without a controller",
        help: "Prints nothing where it is not set, which means 'standalone'.",
        examples: &["vsctl get-fail-mode br0"],
        related: &["set-fail-mode", "del-fail-mode"],
        needs: fail_mode_needs,
        run: |cx, args| {
            let row = Topology::of(cx.model).bridge(args.arg(0))?.row;
            if let Some(mode) = cx.model.get("Bridge", &row, "fail_mode")?.as_str().map(str::to_owned) {
                cx.line(&mode);
            }
            cx.model.rely_on("Bridge", &row, "fail_mode")
        },
    },
    Command {
        name: "set-fail-mode",
        args: "BRIDGE standalone|secure",
        count: (2, 2),
        options: &[],
        summary: "say what a bridge does without a controller",
        help: "\
A 'standalone' bridge, the default, learns addresses and forwards. A 'secure' one waits for a
controller's flows, which never come here: it forwards nothing, and its status says so.",
        examples: &["vsctl set-fail-mode br0 standalone"],
        related: &["get-fail-mode", "del-fail-mode", "set-controller"],
        needs: fail_mode_needs,
        run: |cx, args| match args.arg(1) {
            mode @ ("standalone" | "secure") => set_fail_mode(cx, args.arg(0), Datum::string(mode)),
            mode => fail!("fail mode {mode}: there are standalone and secure"),
        },
    },
    Command {
        name: "del-fail-mode",
        args: "BRIDGE",
        count: (1, 1),
        options: &[],
        summary: "go back to the default fail mode, standalone",
        help: "",
        examples: &["vsctl del-fail-mode br0"],
        related: &["set-fail-mode"],
        needs: fail_mode_needs,
        run: |cx, args| set_fail_mode(cx, args.arg(0), Datum::empty_set()),
    },
];

const CONTROLLERS: targets::Kind = targets::Kind { of: "Bridge", column: "controller", table: "Controller" };

fn controller_needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    CONTROLLERS.need(needs);
    needs_topology(args, schema, needs)
}

fn fail_mode_needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    needs.column("Bridge", "fail_mode");
    needs_topology(args, schema, needs)
}

fn set_fail_mode(cx: &mut Context<'_, '_>, bridge: &str, mode: Datum) -> Result<()> {
    let row = Topology::of(cx.model).real_bridge(bridge)?.row;
    cx.model.set("Bridge", &row, "fail_mode", mode)
}
