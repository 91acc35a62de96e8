//! Timeouts of connection tracking, and what a datapath can do: `add-zone-tp`, `del-zone-tp`, `list-zone-tp`,
//! `list-dp-cap`. Stored; the switch tracks no connections.

use ovsdb::schema::DatabaseSchema;
use ovsdb::value::{Atom, Datum, Uuid};

use super::{Command, Context, Family, Opt};
use crate::columns::find_table;
use crate::error::{Result, fail, failed, listing};
use crate::grammar::Parsed;
use crate::model::Needs;
use crate::text::{parse_atom, parse_datum};

pub(super) static FAMILY: Family = Family { title: "Datapaths", commands: &COMMANDS };

static COMMANDS: [Command; 4] = [
    Command {
        name: "add-zone-tp",
        args: "DATAPATH zone=ZONE POLICY=SECS...",
        count: (3, usize::MAX),
        options: &[Opt { name: "--may-exist", value: None, help: "replace the timeouts that the zone has" }],
        summary: "store the timeouts of a zone of tracked connections",
        help: "\
POLICY is icmp_first, icmp_reply, udp_first, udp_single, udp_multiple, tcp_syn_sent, tcp_established
and so on; 'vsctl list ct_timeout' shows what is stored. DATAPATH is a key of column datapaths of
Open_vSwitch. The switch itself tracks no connections.",
        examples: &["vsctl add-zone-tp netdev zone=1 icmp_first=30 icmp_reply=60"],
        related: &["list-zone-tp", "del-zone-tp"],
        needs: zone_needs,
        run: add_zone,
    },
    Command {
        name: "del-zone-tp",
        args: "DATAPATH zone=ZONE",
        count: (2, 2),
        options: &[Opt { name: "--if-exists", value: None, help: "do nothing if the zone has no timeouts" }],
        summary: "forget the timeouts of a zone",
        help: "",
        examples: &["vsctl del-zone-tp netdev zone=1"],
        related: &["list-zone-tp", "add-zone-tp"],
        needs: zone_needs,
        run: del_zone,
    },
    Command {
        name: "list-zone-tp",
        args: "DATAPATH",
        count: (1, 1),
        options: &[],
        summary: "print the timeouts of all zones",
        help: "",
        examples: &["vsctl list-zone-tp netdev"],
        related: &["add-zone-tp", "del-zone-tp"],
        needs: zone_needs,
        run: list_zones,
    },
    Command {
        name: "list-dp-cap",
        args: "DATAPATH",
        count: (1, 1),
        options: &[],
        summary: "print what a datapath says that it can do",
        help: "",
        examples: &["vsctl list-dp-cap netdev"],
        related: &["list-zone-tp"],
        needs: |args, schema, needs| {
            needs.column("Datapath", "capabilities");
            zone_needs(args, schema, needs)
        },
        run: |cx, args| {
            let datapath = datapath(cx, args)?;
            cx.model.rely_on("Datapath", &datapath, "capabilities")?;
            let text = pairs(cx.model.get("Datapath", &datapath, "capabilities")?);
            cx.line(&text);
            Ok(())
        },
    },
];

fn zone_needs(_: &Parsed, _: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    needs.column("Open_vSwitch", "datapaths");
    needs.column("Datapath", "ct_zones");
    needs.column("CT_Zone", "timeout_policy");
    needs.column("CT_Timeout_Policy", "timeouts");
    Ok(())
}

/// The row of the datapath that the first argument names.
fn datapath(cx: &Context<'_, '_>, args: &Parsed) -> Result<Uuid> {
    let (switch, name) = (cx.switch()?, args.arg(0));
    let datapaths = cx.model.get("Open_vSwitch", &switch, "datapaths")?;
    let names =
        || datapaths.pairs().filter_map(|(key, _)| if let Atom::String(key) = key { Some(key.as_str()) } else { None });
    let found = datapaths.pairs().find_map(|pair| match pair {
        (Atom::String(key), Atom::Uuid(uuid)) if key == name => Some(*uuid),
        _ => None,
    });
    found.filter(|uuid| cx.model.has_row("Datapath", uuid)).ok_or_else(|| match listing(names()) {
        none if none.is_empty() => failed!("no datapath named {name}; column datapaths of Open_vSwitch is empty"),
        there => failed!("no datapath named {name}; there are: {there}"),
    })
}

/// The zone that `zone=ZONE` names.
fn zone(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<Atom> {
    let word = args.arg(1);
    let Some(zone) = word.strip_prefix("zone=") else { fail!("{word}: expected zone=ZONE, a number from 0 to 65535") };
    let (_, column) = find_table(cx.model.schema(), "Datapath")?.column("ct_zones")?;
    parse_atom(&column.ty.key, zone, cx.names).map_err(|e| e.at(word))
}

/// The row of a zone, if it has one.
fn zone_row(cx: &Context<'_, '_>, datapath: &Uuid, zone: &Atom) -> Result<Option<Uuid>> {
    let zones = cx.model.get("Datapath", datapath, "ct_zones")?;
    Ok(zones.pairs().find_map(|pair| match pair {
        (key, Atom::Uuid(uuid)) if key == zone => Some(*uuid),
        _ => None,
    }))
}

fn add_zone(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let (datapath, zone) = (datapath(cx, args)?, zone(cx, args)?);
    let (_, column) = find_table(cx.model.schema(), "CT_Timeout_Policy")?.column("timeouts")?;
    let timeouts = parse_datum(&column.ty, &args.args_from(2).join(","), cx.names)?;
    let there = zone_row(cx, &datapath, &zone)?;
    if there.is_some() && !args.has("--may-exist") {
        fail!("zone {zone} has timeouts already; 'vsctl list-zone-tp {}' prints them", args.arg(0));
    }
    let policy = match same_policy(cx, &timeouts)? {
        Some(policy) => policy,
        None => {
            let policy = cx.model.insert("CT_Timeout_Policy")?;
            cx.model.set("CT_Timeout_Policy", &policy, "timeouts", timeouts)?;
            policy
        }
    };
    if let Some(row) = there {
        return cx.model.set("CT_Zone", &row, "timeout_policy", Datum::uuid(policy));
    }
    let row = cx.model.insert("CT_Zone")?;
    cx.model.set("CT_Zone", &row, "timeout_policy", Datum::uuid(policy))?;
    cx.model.add_to("Datapath", &datapath, "ct_zones", Datum::Map([(zone, Atom::Uuid(row))].into()))
}

/// Zones with the same timeouts share a row.
fn same_policy(cx: &mut Context<'_, '_>, timeouts: &Datum) -> Result<Option<Uuid>> {
    for policy in cx.model.rows("CT_Timeout_Policy").collect::<Vec<_>>() {
        if cx.model.get("CT_Timeout_Policy", &policy, "timeouts")? == timeouts {
            cx.model.rely_on("CT_Timeout_Policy", &policy, "timeouts")?;
            return Ok(Some(policy));
        }
    }
    Ok(None)
}

fn del_zone(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let (datapath, zone) = (datapath(cx, args)?, zone(cx, args)?);
    match zone_row(cx, &datapath, &zone)? {
        Some(row) => {
            cx.model.forget("CT_Zone", &row)?;
            cx.model.take_from("Datapath", &datapath, "ct_zones", Datum::set_of([zone]))
        }
        None if args.has("--if-exists") => Ok(()),
        None => fail!("zone {zone} of datapath {} has no timeouts", args.arg(0)),
    }
}

fn list_zones(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let datapath = datapath(cx, args)?;
    let zones = cx.model.get("Datapath", &datapath, "ct_zones")?.clone();
    for (zone, row) in zones.pairs() {
        let Atom::Uuid(row) = row else { continue };
        let policy = cx.model.get("CT_Zone", row, "timeout_policy")?.as_uuid();
        let timeouts = match policy {
            Some(policy) => pairs(cx.model.get("CT_Timeout_Policy", &policy, "timeouts")?),
            None => "system default".to_owned(),
        };
        cx.line(&format!("Zone:{zone}, Timeout Policies: {timeouts}"));
    }
    Ok(())
}

fn pairs(map: &Datum) -> String {
    crate::text::show_bare(map)
}
