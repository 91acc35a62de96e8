//! Bridges: `add-br`, `del-br`, `list-br`, `br-exists`, `br-to-vlan`, `br-to-parent`.

use ovsdb::value::{Atom, Datum, Uuid};

use super::{Command, Context, Family, Opt, needs_topology};
use crate::error::{Error, Result, fail};
use crate::grammar::Parsed;
use crate::topology::{Bridge, Taken, Topology};

pub(super) static FAMILY: Family = Family { title: "Bridges", commands: &COMMANDS };

static COMMANDS: [Command; 6] = [
    Command {
        name: "add-br",
        args: "BRIDGE [PARENT VLAN]",
        count: (1, 3),
        options: &[Opt { name: "--may-exist", value: None, help: "do nothing if there is such a bridge already" }],
        summary: "add a bridge",
        help: "\
Adds a bridge and its own port, a network device of the host with the bridge's name: give it an
address, set it up, and the host is on the bridge.

With PARENT and VLAN it becomes a VLAN bridge: another name for that VLAN of PARENT. Ports added to
it get the VLAN as their tag.",
        examples: &["vsctl add-br br0", "vsctl --may-exist add-br br0", "vsctl add-br br0.10 br0 10"],
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
        run: |cx, args| match Topology::read(cx.model)?.bridge_if_any(args.arg(0)) {
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
            let vlan = Topology::read(cx.model)?.bridge(args.arg(0))?.vlan_of.clone();
            cx.line(&vlan.map_or(0, |(_, vlan)| vlan).to_string());
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
            let bridge = Topology::read(cx.model)?.bridge(args.arg(0))?.clone();
            cx.line(&bridge.vlan_of.map_or(bridge.name, |(parent, _)| parent));
            Ok(())
        },
    },
];

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
    let all = Topology::read(cx.model)?;
    match (all.taken(name), args.has("--may-exist")) {
        (Some(Taken::Bridge(there)), true) => return check_same(&there, parent),
        (Some(taken), _) => fail!("cannot add bridge {name}: {}", why_taken(&all, name, &taken)?),
        (None, _) => {}
    }
    match parent {
        None => add_real(cx, name),
        Some((parent, vlan)) => add_vlan_bridge(cx, &all, name, all.bridge(parent)?, vlan),
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
        (Some((parent, vlan)), Some(wanted)) if (parent.as_str(), *vlan) == wanted => Ok(()),
        (None, Some(_)) => fail!("{name} exists, but is no VLAN bridge"),
        (Some((parent, vlan)), _) => {
            fail!("{name} exists, but is the VLAN bridge of VLAN {vlan} of {parent}")
        }
    }
}

/// What a name that is to be given is already.
pub(super) fn why_taken(all: &Topology, name: &str, taken: &Taken) -> Result<String> {
    Ok(match taken {
        Taken::Bridge(_) => format!("a bridge of that name exists (del-br {name} deletes it)"),
        Taken::Port(port) => {
            format!("a port of that name exists on bridge {}", all.bridge_of(port)?.name)
        }
        Taken::Interface(port) => {
            format!("port {} on bridge {} has an interface of that name", port.name, all.bridge_of(port)?.name)
        }
    })
}

fn add_real(cx: &mut Context<'_, '_>, name: &str) -> Result<()> {
    let port = insert_port(cx, name, "internal")?;
    let bridge = cx.model.insert("Bridge", Uuid::new_v4())?;
    cx.model.set("Bridge", &bridge, "name", Datum::string(name))?;
    cx.model.set("Bridge", &bridge, "ports", Datum::uuid(port))?;
    let switch = cx.switch()?;
    cx.model.change("Open_vSwitch", &switch, "bridges", |set| insert_uuid(set, bridge))
}

fn add_vlan_bridge(cx: &mut Context<'_, '_>, all: &Topology, name: &str, parent: &Bridge, vlan: i64) -> Result<()> {
    if parent.vlan_of.is_some() {
        fail!("cannot add VLAN bridge {name} to {}: that is a VLAN bridge itself", parent.name);
    }
    let wanted = Some((parent.name.clone(), vlan));
    if let Some(other) = all.bridges().into_iter().find(|b| b.vlan_of == wanted) {
        fail!("cannot add VLAN bridge {name}: VLAN {vlan} of {} has {} already", parent.name, other.name);
    }
    let port = insert_port(cx, name, "internal")?;
    cx.model.set("Port", &port, "fake_bridge", Datum::boolean(true))?;
    cx.model.set("Port", &port, "tag", Datum::integer(vlan))?;
    cx.model.change("Bridge", &parent.row, "ports", |set| insert_uuid(set, port))
}

/// Adds a Port row with one Interface, both called `name`; puts it on no bridge yet.
pub(super) fn insert_port(cx: &mut Context<'_, '_>, name: &str, ty: &str) -> Result<Uuid> {
    let interface = cx.model.insert("Interface", Uuid::new_v4())?;
    cx.model.set("Interface", &interface, "name", Datum::string(name))?;
    cx.model.set("Interface", &interface, "type", Datum::string(ty))?;
    let port = cx.model.insert("Port", Uuid::new_v4())?;
    cx.model.set("Port", &port, "name", Datum::string(name))?;
    cx.model.set("Port", &port, "interfaces", Datum::uuid(interface))?;
    Ok(port)
}

/// Adds a reference.
pub(super) fn insert_uuid(set: &mut Datum, uuid: Uuid) {
    if let Datum::Set(set) = set {
        set.insert(Atom::Uuid(uuid));
    }
}

/// Takes references away; the switch deletes the rows that nothing refers to any more.
pub(super) fn remove_uuids(set: &mut Datum, uuids: &[Uuid]) {
    if let Datum::Set(set) = set {
        set.retain(|atom| !matches!(atom, Atom::Uuid(uuid) if uuids.contains(uuid)));
    }
}

fn del_br(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let all = Topology::read(cx.model)?;
    let name = args.arg(0);
    if args.has("--if-exists") && all.bridge_if_any(name).is_none() {
        return Ok(());
    }
    let bridge = all.bridge(name)?;
    let row = bridge.row;
    let ports: Vec<Uuid> = cx.model.get("Bridge", &row, "ports")?.uuids().collect();
    if bridge.vlan_of.is_none() {
        ports.iter().try_for_each(|port| forget_port(cx, port))?;
        cx.model.forget("Bridge", &row)?;
        let switch = cx.switch()?;
        return cx.model.change("Open_vSwitch", &switch, "bridges", |set| remove_uuids(set, &[row]));
    }
    let mut gone: Vec<Uuid> = all.ports_of(bridge).map(|port| port.row).collect();
    for port in ports {
        if cx.model.text("Port", &port, "name")? == name {
            gone.push(port);
        }
    }
    gone.iter().try_for_each(|port| forget_port(cx, port))?;
    cx.model.change("Bridge", &row, "ports", |set| remove_uuids(set, &gone))
}

/// Takes a port that is on no bridge any more, and its interfaces, out of sight.
pub(super) fn forget_port(cx: &mut Context<'_, '_>, port: &Uuid) -> Result<()> {
    let interfaces: Vec<Uuid> = cx.model.get("Port", port, "interfaces")?.uuids().collect();
    interfaces.iter().try_for_each(|interface| cx.model.forget("Interface", interface))?;
    cx.model.forget("Port", port)
}

fn list_br(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let (real, fake) = (args.has("--real"), args.has("--fake"));
    for bridge in Topology::read(cx.model)?.bridges() {
        let shown = if bridge.vlan_of.is_some() { !real } else { !fake };
        if shown || (real && fake) {
            cx.line(&bridge.name);
        }
    }
    Ok(())
}
