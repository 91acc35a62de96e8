//! The switch as a whole: `show`, `init`, `emer-reset`, `comment`.

use ovsdb::schema::DatabaseSchema;
use ovsdb::value::{Atom, Datum, Uuid};

use super::{Command, Context, Family};
use crate::error::Result;
use crate::grammar::Parsed;
use crate::model::{Model, Needs};

pub(super) static FAMILY: Family = Family { title: "The switch", commands: &COMMANDS };

static COMMANDS: [Command; 4] = [
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
    Command {
        name: "emer-reset",
        args: "",
        count: (0, 0),
        options: &[],
        summary: "undo all settings but bridges, ports and their VLANs",
        help: "\
Deletes controllers, managers, TLS names, mirrors, NetFlow, sFlow, IPFIX, fail modes, flooded VLANs,
ingress policing, and other_config of bridges (but for hwaddr) and ports.",
        examples: &["vsctl emer-reset"],
        related: &["show", "clear"],
        needs: reset_needs,
        run: reset,
    },
    Command {
        name: "comment",
        args: "[WORD]...",
        count: (0, usize::MAX),
        options: &[],
        summary: "do nothing, but be in the database's log",
        help: "\
The log of the database says of each transaction which command line it came from; 'ovsdb-tool
show-log' prints it.",
        examples: &["vsctl comment for ticket 4711 -- set port eth1 tag=10"],
        related: &[],
        needs: |_, _, _| Ok(()),
        run: |_, _| Ok(()),
    },
];

/// What `emer-reset` empties or sets to zero.
const RESET: &[(&str, &[&str])] = &[
    ("Bridge", &["controller", "fail_mode", "flood_vlans", "ipfix", "mirrors", "netflow", "other_config", "sflow"]),
    ("Interface", &["ingress_policing_burst", "ingress_policing_rate"]),
    ("Open_vSwitch", &["manager_options", "ssl"]),
    ("Port", &["other_config"]),
];

fn reset_needs(_: &Parsed, _: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    RESET.iter().for_each(|(table, columns)| columns.iter().for_each(|column| needs.column(table, column)));
    Ok(())
}

fn reset(cx: &mut Context<'_, '_>, _: &Parsed) -> Result<()> {
    for (table, columns) in RESET {
        let Some(schema) = cx.model.schema().tables.get(*table) else { continue };
        for row in cx.model.rows(table).collect::<Vec<_>>() {
            for column in *columns {
                let Some(ty) = schema.columns.get(*column).map(|c| &c.ty) else { continue };
                let mut to = ty.default_datum();
                let hwaddr = Atom::String("hwaddr".to_owned());
                if let (Datum::Map(kept), Datum::Map(now), "Bridge") =
                    (&mut to, cx.model.get(table, &row, column)?, *table)
                {
                    kept.extend(now.get_key_value(&hwaddr).map(|(key, value)| (key.clone(), value.clone())));
                }
                cx.model.set(table, &row, column, to)?;
            }
        }
    }
    Ok(())
}

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
