//! The switch as a whole: `init`, `show`.

use ovsdb::schema::DatabaseSchema;
use ovsdb::value::Uuid;

use super::{Command, Context, Family};
use crate::error::Result;
use crate::grammar::Parsed;
use crate::model::{Model, Needs};

pub(super) static FAMILY: Family = Family { title: "The switch", commands: &COMMANDS };

static COMMANDS: [Command; 2] = [
    Command {
        name: "show",
        args: "",
        count: (0, 0),
        options: &[],
        summary: "print bridges, ports and interfaces as a tree",
        help: "\
Prints the switch's UUID, then every bridge with its ports, their VLANs, and their interfaces with
type, options and error. Settings at their defaults are left out.",
        examples: &["vsctl show"],
        related: &["list-br", "list-ports", "list"],
        needs: show_needs,
        run: show,
    },
    Command {
        name: "init",
        args: "",
        count: (0, 0),
        options: &[],
        summary: "fill an empty database with what every switch has",
        help: "\
A running vswitch has done this already, and so does any other command, so you will hardly need it.",
        examples: &["vsctl --no-wait init"],
        related: &["show"],
        needs: |_, _, _| Ok(()),
        run: |_, _| Ok(()),
    },
];

/// The tree: of each table the column that names a row, and the columns shown below it.
const SHOWN: &[(&str, &str, &[&str])] = &[
    ("Open_vSwitch", "", &["manager_options", "bridges", "ovs_version"]),
    ("Manager", "target", &["is_connected"]),
    ("Bridge", "name", &["controller", "fail_mode", "datapath_type", "ports"]),
    ("Controller", "target", &["is_connected"]),
    ("Port", "name", &["tag", "trunks", "interfaces"]),
    ("Interface", "name", &["type", "options", "error", "bfd_status"]),
];

fn shown(table: &str) -> Option<&'static (&'static str, &'static str, &'static [&'static str])> {
    SHOWN.iter().find(|(shown, ..)| *shown == table)
}

fn show_needs(_: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    for (table, name, columns) in SHOWN {
        let there = |column: &str| schema.tables.get(*table).is_some_and(|t| t.columns.contains_key(column));
        columns.iter().chain([name]).filter(|c| there(c)).for_each(|c| needs.column(table, c));
    }
    Ok(())
}

fn show(cx: &mut Context<'_, '_>, _: &Parsed) -> Result<()> {
    let switch = cx.switch()?;
    cx.line(&switch.to_string());
    let mut text = String::new();
    show_columns(cx.model, "Open_vSwitch", switch, 1, &mut text)?;
    cx.out += &text;
    Ok(())
}

fn show_row(model: &Model<'_>, table: &str, row: Uuid, depth: usize, text: &mut String) -> Result<()> {
    let name = match shown(table) {
        Some((_, column, _)) => model.get(table, &row, column)?.as_atom().map(ToString::to_string),
        None => None,
    };
    *text += &format!("{}{table} {}\n", indent(depth), name.unwrap_or_default());
    show_columns(model, table, row, depth + 1, text)
}

fn show_columns(model: &Model<'_>, table: &str, row: Uuid, depth: usize, text: &mut String) -> Result<()> {
    for column in shown(table).map_or(&[][..], |(_, _, columns)| columns) {
        let schema = model.schema().tables.get(table);
        let Some(ty) = schema.and_then(|t| t.columns.get(*column)).map(|c| &c.ty) else {
            continue;
        };
        let value = model.get(table, &row, column)?;
        match ty.key.ref_table.as_deref() {
            Some(child) if shown(child).is_some() => {
                for uuid in value.uuids().filter(|uuid| model.has_row(child, uuid)) {
                    show_row(model, child, uuid, depth, text)?;
                }
            }
            _ if ty.is_default(value) => {}
            _ => *text += &format!("{}{column}: {}\n", indent(depth), ty.to_text(value)),
        }
    }
    Ok(())
}

fn indent(depth: usize) -> String {
    "    ".repeat(depth)
}
