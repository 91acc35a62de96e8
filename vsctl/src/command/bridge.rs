//! Bridges: `add-br`, `del-br`, `list-br`, `br-exists`, `br-to-vlan`, `br-to-parent`, `br-set-external-id`,
//! `br-get-external-id`.

use ovsdb::schema::DatabaseSchema;
use ovsdb::value::{Atom, Datum, Uuid};

use super::{Command, Context, Family, Opt, needs_topology};
use crate::error::{Error, Result, fail};
use crate::grammar::Parsed;
use crate::model::Needs;
use crate::topology::{Bridge, Taken, Topology, VlanOf};

pub(super) static FAMILY: Family = Family { title: "Bridges", commands: &COMMANDS };

static COMMANDS: [Command; 8] = [
    Command {
        name: "add-br",
        args: "BRIDGE [PARENT VLAN]",
        count: (1, 3),
        options: &[Opt { name: "--may-exist", value: None, help: "do nothing if there is such a bridge already" }],
        summary: "add a bridge",
        help: "\
Adds a bridge and its own port, a network device of the host with the bridge's name: give it an
address, set it up, and the host is on the bridge.

PARENT and VLAN, with which ovs-vsctl makes a VLAN of PARENT pass for a bridge, are refused: an
internal port with that tag does the same (vsctl add-port PARENT BRIDGE tag=VLAN type=internal).",
        examples: &["vsctl add-br br0", "vsctl --may-exist add-br br0"],
        related: &["del-br", "add-port", "list-br"],
        needs: needs_topology,
        run: add_br,
    },
    Command {
        name: "del-br",
        args: "BRIDGE",
        count: (1, 1),
        options: &[Opt { name: "--if-exists", value: None, help: "do nothing if there is no such bridge" }],
        summary: "delete a bridge and all its ports",
        help: "\
The devices that were its ports stay on the host; only its own port and its tunnels go with it.
VLAN bridges of it go too.",
        examples: &["vsctl del-br br0", "vsctl --if-exists del-br br0"],
        related: &["add-br", "del-port"],
        needs: needs_topology,
        run: del_br,
    },
    Command {
        name: "list-br",
        args: "",
        count: (0, 0),
        options: &[
            Opt { name: "--real", value: None, help: "no VLAN bridges" },
            Opt { name: "--fake", value: None, help: "only VLAN bridges" },
        ],
        summary: "print the names of all bridges",
        help: "",
        examples: &["vsctl list-br"],
        related: &["show", "br-exists", "list-ports"],
        needs: needs_topology,
        run: list_br,
    },
    Command {
        name: "br-exists",
        args: "BRIDGE",
        count: (1, 1),
        options: &[],
        summary: "exit 0 if the bridge is there, 2 if not",
        help: "Prints nothing. Meant for scripts; exit code 1 still means an error.",
        examples: &["vsctl br-exists br0"],
        related: &["list-br"],
        needs: needs_topology,
        run: |cx, args| match Topology::of(cx.model).bridge_if_any(args.arg(0))? {
            Some(_) => Ok(()),
            None => Err(Error::Absent),
        },
    },
    Command {
        name: "br-to-vlan",
        args: "BRIDGE",
        count: (1, 1),
        options: &[],
        summary: "print the VLAN that a VLAN bridge stands for",
        help: "Prints 0 for an ordinary bridge.",
        examples: &["vsctl br-to-vlan br0.10"],
        related: &["br-to-parent", "add-br"],
        needs: needs_topology,
        run: |cx, args| {
            let bridge = Topology::of(cx.model).bridge(args.arg(0))?;
            cx.line(&bridge.vlan_of.map_or(0, |of| of.vlan).to_string());
            Ok(())
        },
    },
    Command {
        name: "br-to-parent",
        args: "BRIDGE",
        count: (1, 1),
        options: &[],
        summary: "print the bridge that a VLAN bridge is part of",
        help: "Prints an ordinary bridge's own name.",
        examples: &["vsctl br-to-parent br0.10"],
        related: &["br-to-vlan", "add-br"],
        needs: needs_topology,
        run: |cx, args| {
            let bridge = Topology::of(cx.model).bridge(args.arg(0))?;
            cx.line(&bridge.vlan_of.map_or(bridge.name, |of| of.parent));
            Ok(())
        },
    },
    Command {
        name: "br-set-external-id",
        args: "BRIDGE KEY [VALUE]",
        count: (2, 3),
        options: &[],
        summary: "note something about a bridge, or take the note back",
        help: "\
External ids mean nothing to the switch; they are for whoever manages it. Without VALUE the key is
removed. 'vsctl set bridge br0 external_ids:KEY=VALUE' does the same.",
        examples: &["vsctl br-set-external-id br0 owner bo", "vsctl br-set-external-id br0 owner"],
        related: &["br-get-external-id", "set"],
        needs: external_ids_needs,
        run: |cx, args| {
            let bridge = Topology::of(cx.model).bridge(args.arg(0))?;
            let (table, row, prefix) = external_ids_of(&bridge);
            let key = format!("{prefix}{}", args.arg(1));
            match args.args_from(2) {
                [value] => {
                    let pair = Datum::map_of_strings([(key, value)]);
                    cx.model.add_to(table, &row, "external_ids", pair)
                }
                _ => cx.model.take_from(table, &row, "external_ids", Datum::string(key)),
            }
        },
    },
    Command {
        name: "br-get-external-id",
        args: "BRIDGE [KEY]",
        count: (1, 2),
        options: &[],
        summary: "print what is noted about a bridge",
        help: "Prints the value of KEY, if it is there, or KEY=VALUE of all keys, one a line.",
        examples: &["vsctl br-get-external-id br0", "vsctl br-get-external-id br0 owner"],
        related: &["br-set-external-id", "get"],
        needs: external_ids_needs,
        run: |cx, args| {
            let bridge = Topology::of(cx.model).bridge(args.arg(0))?;
            let (table, row, prefix) = external_ids_of(&bridge);
            let ids = cx.model.get(table, &row, "external_ids")?.clone();
            for (key, value) in ids.string_pairs() {
                match (key.strip_prefix(prefix), args.args_from(1)) {
                    (Some(key), [wanted]) if key == wanted => cx.line(value),
                    (Some(key), []) => cx.line(&format!("{key}={value}")),
                    _ => {}
                }
            }
            cx.model.rely_on(table, &row, "external_ids")
        },
    },
];

fn external_ids_needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    needs.column("Bridge", "external_ids");
    needs.column("Port", "external_ids");
    needs_topology(args, schema, needs)
}

/// Where a bridge's external ids are, and what their keys begin with there.
fn external_ids_of(bridge: &Bridge) -> (&'static str, Uuid, &'static str) {
    match &bridge.vlan_of {
        None => ("Bridge", bridge.row, ""),
        Some(of) => ("Port", of.port, "fake-bridge-"),
    }
}

fn add_br(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let name = args.arg(0);
    if name.is_empty() {
        fail!("the name of a bridge cannot be empty");
    }
    let parent = match args.args_from(1) {
        [] => None,
        [parent, vlan] => Some((parent.as_str(), parse_vlan(vlan)?)),
        _ => fail!("add-br takes BRIDGE, or BRIDGE PARENT VLAN"),
    };
    let taken = Topology::of(cx.model).taken(name)?;
    match (taken, args.has("--may-exist"), parent) {
        (Some(Taken::Bridge(there)), true, _) => check_same(&there, parent),
        (Some(taken), ..) => fail!("cannot add bridge {name}: {}", why_taken(name, &taken)),
        (None, _, None) => add_real(cx, name),
        (None, _, Some((parent, vlan))) => {
            let parent = Topology::of(cx.model).bridge(parent)?.name;
            fail!(
                "no VLAN bridges are made: bridges here know VLANs themselves, and a VLAN needs no bridge of its own\n\
                 'vsctl add-port {parent} {name} tag={vlan} type=internal' gives the host a port of that name in VLAN \
                 {vlan}; other ports are put into it by tag={vlan}."
            )
        }
    }
}

fn parse_vlan(word: &str) -> Result<i64> {
    match word.parse() {
        Ok(vlan @ 0..=4095) => Ok(vlan),
        _ => fail!("VLAN {word}: expected a number from 0 to 4095"),
    }
}

/// With `--may-exist` the bridge that is there must be the one that was asked for.
fn check_same(there: &Bridge, parent: Option<(&str, i64)>) -> Result<()> {
    let name = &there.name;
    match (&there.vlan_of, parent) {
        (None, None) => Ok(()),
        (Some(of), Some(wanted)) if (of.parent.as_str(), of.vlan) == wanted => Ok(()),
        (None, Some(_)) => fail!("{name} exists, but is no VLAN bridge"),
        (Some(VlanOf { parent, vlan, .. }), _) => {
            fail!("{name} exists, but is the VLAN bridge of VLAN {vlan} of {parent}")
        }
    }
}

/// What a name that is to be given is already.
pub(super) fn why_taken(name: &str, taken: &Taken) -> String {
    match taken {
        Taken::Bridge(bridge) if bridge.vlan_of.is_some() => "a VLAN bridge of that name exists".to_owned(),
        Taken::Bridge(_) => format!("a bridge of that name exists (del-br {name} deletes it)"),
        Taken::Port(port) => format!("a port of that name exists on bridge {}", port.bridge.name),
        Taken::Interface(port) => {
            format!("port {} on bridge {} has an interface of that name", port.name, port.bridge.name)
        }
    }
}

fn add_real(cx: &mut Context<'_, '_>, name: &str) -> Result<()> {
    let port = insert_port(cx, name, "internal")?;
    let bridge = cx.model.insert("Bridge")?;
    cx.model.set("Bridge", &bridge, "name", Datum::string(name))?;
    cx.model.set("Bridge", &bridge, "ports", Datum::uuid(port))?;
    let switch = cx.switch()?;
    cx.model.add_to("Open_vSwitch", &switch, "bridges", Datum::uuid(bridge))
}

/// Adds a Port row with one Interface, both called `name`; puts it on no bridge yet.
pub(super) fn insert_port(cx: &mut Context<'_, '_>, name: &str, ty: &str) -> Result<Uuid> {
    let interface = insert_interface(cx, name, ty)?;
    let port = cx.model.insert("Port")?;
    cx.model.set("Port", &port, "name", Datum::string(name))?;
    cx.model.set("Port", &port, "interfaces", Datum::uuid(interface))?;
    Ok(port)
}

/// Adds an Interface row.
pub(super) fn insert_interface(cx: &mut Context<'_, '_>, name: &str, ty: &str) -> Result<Uuid> {
    let interface = cx.model.insert("Interface")?;
    cx.model.set("Interface", &interface, "name", Datum::string(name))?;
    cx.model.set("Interface", &interface, "type", Datum::string(ty))?;
    Ok(interface)
}

fn del_br(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let all = Topology::of(cx.model);
    let name = args.arg(0);
    if args.has("--if-exists") && all.bridge_if_any(name)?.is_none() {
        return Ok(());
    }
    let Bridge { row, vlan_of, .. } = all.bridge(name)?;
    if let Some(of) = vlan_of {
        let ports = all.ports_of(&all.bridge(name)?)?;
        let gone: Vec<Uuid> = ports.iter().map(|port| port.row).chain([of.port]).collect();
        gone.iter().try_for_each(|port| forget_port(cx, port))?;
        return cx.model.take_from("Bridge", &row, "ports", Datum::set_of(gone.into_iter().map(Atom::Uuid)));
    }
    let ports: Vec<Uuid> = cx.model.get("Bridge", &row, "ports")?.uuids().collect();
    ports.iter().try_for_each(|port| forget_port(cx, port))?;
    cx.model.forget("Bridge", &row)?;
    let switch = cx.switch()?;
    cx.model.take_from("Open_vSwitch", &switch, "bridges", Datum::uuid(row))
}

/// Takes a port that is on no bridge any more, and its interfaces, out of sight.
pub(super) fn forget_port(cx: &mut Context<'_, '_>, port: &Uuid) -> Result<()> {
    let interfaces: Vec<Uuid> = cx.model.get("Port", port, "interfaces")?.uuids().collect();
    interfaces.iter().try_for_each(|interface| cx.model.forget("Interface", interface))?;
    cx.model.forget("Port", port)
}

fn list_br(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let (real, fake) = (args.has("--real"), args.has("--fake"));
    for bridge in Topology::of(cx.model).bridges()? {
        let shown = if bridge.vlan_of.is_some() { !real } else { !fake };
        if shown || (real && fake) {
            cx.line(&bridge.name);
        }
    }
    Ok(())
}
