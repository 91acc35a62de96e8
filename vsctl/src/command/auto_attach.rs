//! Mappings of Auto Attach, by which LLDP asks a neighbour for a service in a VLAN: `add-aa-mapping`,
//! `del-aa-mapping`, `get-aa-mapping`. Stored; the switch sends no LLDP.

use ovsdb::schema::DatabaseSchema;
use ovsdb::value::{Atom, Datum, Uuid};

use super::{Command, Context, Family, needs_topology};
use crate::columns::find_table;
use crate::error::{Result, failed};
use crate::grammar::Parsed;
use crate::model::Needs;
use crate::text::parse_atom;
use crate::topology::Topology;

pub(super) static FAMILY: Family = Family { title: "Auto Attach", commands: &COMMANDS };

static COMMANDS: [Command; 3] = [
    Command {
        name: "add-aa-mapping",
        args: "BRIDGE I-SID VLAN",
        count: (3, 3),
        options: &[],
        summary: "store the VLAN that a service is wanted in",
        help: "An I-SID that is mapped already keeps its VLAN. The switch itself sends no LLDP.",
        examples: &["vsctl add-aa-mapping br0 1000 10"],
        related: &["get-aa-mapping", "del-aa-mapping"],
        needs: mapping_needs,
        run: add,
    },
    Command {
        name: "del-aa-mapping",
        args: "BRIDGE I-SID VLAN",
        count: (3, 3),
        options: &[],
        summary: "forget the VLAN that a service is wanted in",
        help: "",
        examples: &["vsctl del-aa-mapping br0 1000 10"],
        related: &["get-aa-mapping", "add-aa-mapping"],
        needs: mapping_needs,
        run: |cx, args| {
            let (row, pair) = (row_of(cx, args)?, pair(cx, args)?);
            match row {
                Some(row) => cx.model.take_from("AutoAttach", &row, "mappings", pair),
                None => Ok(()),
            }
        },
    },
    Command {
        name: "get-aa-mapping",
        args: "BRIDGE",
        count: (1, 1),
        options: &[],
        summary: "print I-SIDs and their VLANs, one pair a line",
        help: "",
        examples: &["vsctl get-aa-mapping br0"],
        related: &["add-aa-mapping", "del-aa-mapping"],
        needs: mapping_needs,
        run: |cx, args| {
            let Some(row) = row_of(cx, args)? else { return Ok(()) };
            let mappings = cx.model.get("AutoAttach", &row, "mappings")?.clone();
            mappings.pairs().for_each(|(i_sid, vlan)| cx.line(&format!("{i_sid} {vlan}")));
            cx.model.rely_on("AutoAttach", &row, "mappings")
        },
    },
];

fn mapping_needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    needs.column("Bridge", "auto_attach");
    needs.column("AutoAttach", "mappings");
    needs_topology(args, schema, needs)
}

/// The row in AutoAttach of the bridge that the first argument names.
fn row_of(cx: &Context<'_, '_>, args: &Parsed) -> Result<Option<Uuid>> {
    let bridge = Topology::of(cx.model).bridge(args.arg(0))?.row;
    Ok(cx.model.get("Bridge", &bridge, "auto_attach")?.as_uuid())
}

/// The second argument and the third, as a map.
fn pair(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<Datum> {
    let (_, column) = find_table(cx.model.schema(), "AutoAttach")?.column("mappings")?;
    let value = column.ty.value.as_ref().ok_or_else(|| failed!("AutoAttach column mappings is no map"))?;
    let i_sid = parse_atom(&column.ty.key, args.arg(1), cx.names).map_err(|e| e.at("I-SID"))?;
    let vlan = parse_atom(value, args.arg(2), cx.names).map_err(|e| e.at("VLAN"))?;
    Ok(Datum::Map([(i_sid, vlan)].into()))
}

fn add(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let (row, pair) = (row_of(cx, args)?, pair(cx, args)?);
    let row = match row {
        Some(row) => row,
        None => {
            let bridge = Topology::of(cx.model).bridge(args.arg(0))?.row;
            let row = cx.model.insert("AutoAttach")?;
            cx.model.set("Bridge", &bridge, "auto_attach", Datum::uuid(row))?;
            row
        }
    };
    let there = cx.model.get("AutoAttach", &row, "mappings")?;
    let is_there = |i_sid: &Atom| there.pairs().any(|(key, _)| key == i_sid);
    let keeps_its_vlan = pair.pairs().any(|(i_sid, _)| is_there(i_sid));
    if keeps_its_vlan { Ok(()) } else { cx.model.add_to("AutoAttach", &row, "mappings", pair) }
}
