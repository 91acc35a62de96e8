//! Bonds, ports of several interfaces: `add-bond`, `add-bond-iface`, `del-bond-iface`.

use ovsdb::schema::DatabaseSchema;
use ovsdb::value::{Atom, Datum, Uuid};

use super::bridge::{insert_interface, why_taken};
use super::edit::assign;
use super::{Command, Context, Family, Opt, needs_topology};
use crate::columns::{Spec, find_table};
use crate::error::{Result, fail, listing};
use crate::grammar::Parsed;
use crate::model::Needs;
use crate::topology::{Port, Taken, Topology};

pub(super) static FAMILY: Family = Family { title: "Bonds", commands: &COMMANDS };

static COMMANDS: [Command; 3] = [
    Command {
        name: "add-bond",
        args: "BRIDGE PORT IFACE IFACE... [SETTING=VALUE]...",
        count: (4, usize::MAX),
        options: &[
            Opt { name: "--may-exist", value: None, help: "do nothing if the bridge has such a bond already" },
            Opt { name: "--fake-iface", value: None, help: "set bond_fake_iface, which has no effect here" },
        ],
        summary: "add a port of several interfaces to a bridge",
        help: "\
The bond is stored; whether the switch can set it up is told as of any port. SETTING is a column of
Port, such as bond_mode, lacp or tag.",
        examples: &["vsctl add-bond br0 bond0 eth1 eth2 bond_mode=active-backup"],
        related: &["add-bond-iface", "del-bond-iface", "add-port", "del-port"],
        needs: bond_needs,
        run: add_bond,
    },
    Command {
        name: "add-bond-iface",
        args: "BOND IFACE",
        count: (2, 2),
        options: &[Opt { name: "--may-exist", value: None, help: "do nothing if IFACE is in BOND already" }],
        summary: "add an interface to a port",
        help: "A port with one interface becomes a bond by that.",
        examples: &["vsctl add-bond-iface bond0 eth3"],
        related: &["del-bond-iface", "add-bond"],
        needs: needs_topology,
        run: add_bond_iface,
    },
    Command {
        name: "del-bond-iface",
        args: "[BOND] IFACE",
        count: (1, 2),
        options: &[Opt { name: "--if-exists", value: None, help: "do nothing if there is no such interface" }],
        summary: "take an interface out of a bond",
        help: "The last interface of a port stays; 'del-port' deletes the port.",
        examples: &["vsctl del-bond-iface eth3"],
        related: &["add-bond-iface", "del-port"],
        needs: needs_topology,
        run: del_bond_iface,
    },
];

/// Interfaces come first, settings begin with the first word that has a `=`.
fn split(words: &[String]) -> (&[String], &[String]) {
    let settings = words.iter().position(|word| word.contains('=')).unwrap_or(words.len());
    words.split_at(settings)
}

fn bond_needs(args: &Parsed, schema: &DatabaseSchema, needs: &mut Needs) -> Result<()> {
    let port = find_table(schema, "Port")?;
    for word in split(args.args_from(2)).1 {
        let column = port.column(&Spec::assignment(word)?.column).map_err(|e| e.at(word))?;
        needs.column("Port", column.0);
    }
    needs_topology(args, schema, needs)
}

fn add_bond(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let (bridge, name) = (args.arg(0), args.arg(1));
    let (interfaces, settings) = split(args.args_from(2));
    if name.is_empty() || interfaces.iter().any(String::is_empty) {
        fail!("the name of a port or an interface cannot be empty");
    }
    if interfaces.len() < 2 {
        fail!("a bond has at least two interfaces before its settings, not {}", interfaces.len());
    }
    let taken = Topology::of(cx.model).taken(name)?;
    match (taken, args.has("--may-exist")) {
        (Some(Taken::Port(there)), true) => return check_same(&there, bridge, interfaces),
        (Some(taken), _) => fail!("cannot add bond {name}: {}", why_taken(name, &taken)),
        (None, _) => {}
    }
    let bridge = Topology::of(cx.model).bridge(bridge)?;
    let mut rows = Vec::new();
    for interface in interfaces {
        check_free(cx, interface)?;
        rows.push(Atom::Uuid(insert_interface(cx, interface, "")?));
    }
    let port = cx.model.insert("Port")?;
    cx.model.set("Port", &port, "name", Datum::string(name))?;
    cx.model.set("Port", &port, "interfaces", Datum::set_of(rows))?;
    cx.model.set("Port", &port, "bond_fake_iface", Datum::boolean(args.has("--fake-iface")))?;
    if let Some(of) = &bridge.vlan_of {
        cx.model.set("Port", &port, "tag", Datum::integer(of.vlan))?;
    }
    for word in settings {
        let table = find_table(cx.model.schema(), "Port")?;
        assign(cx, table, port, &Spec::assignment(word)?).map_err(|e| e.at(word))?;
    }
    cx.model.add_to("Bridge", &bridge.row, "ports", Datum::uuid(port))
}

/// With `--may-exist` the bond that is there must be the one that was asked for.
fn check_same(there: &Port, bridge: &str, interfaces: &[String]) -> Result<()> {
    let (name, on) = (&there.name, &there.bridge.name);
    if on != bridge {
        fail!("port {name} exists, but on bridge {on}, not on {bridge}");
    }
    let mut wanted: Vec<&String> = interfaces.iter().collect();
    wanted.sort();
    if !there.interfaces.iter().map(|(name, _)| name).eq(wanted) {
        fail!("port {name} exists on bridge {on}, but its interfaces are {}", interfaces_of(there));
    }
    Ok(())
}

fn interfaces_of(port: &Port) -> String {
    listing(port.interfaces.iter().map(|(name, _)| name.as_str()))
}

fn check_free(cx: &Context<'_, '_>, interface: &str) -> Result<()> {
    match Topology::of(cx.model).taken(interface)? {
        None => Ok(()),
        Some(taken) => fail!("cannot add interface {interface}: {}", why_taken(interface, &taken)),
    }
}

fn add_bond_iface(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let (bond, interface) = (args.arg(0), args.arg(1));
    let port = Topology::of(cx.model).port(bond)?;
    if args.has("--may-exist")
        && let Some(on) = Topology::of(cx.model).port_of_interface(interface)?
    {
        match on.row == port.row {
            true => return Ok(()),
            false => fail!("interface {interface} exists, but in port {}, not in {bond}", on.name),
        }
    }
    check_free(cx, interface)?;
    let row = insert_interface(cx, interface, "")?;
    cx.model.add_to("Port", &port.row, "interfaces", Datum::uuid(row))
}

fn del_bond_iface(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let (bond, interface) = match args.args_from(0) {
        [bond, interface] => (Some(bond.as_str()), interface.as_str()),
        _ => (None, args.arg(0)),
    };
    let Some(port) = Topology::of(cx.model).port_of_interface(interface)? else {
        match args.has("--if-exists") {
            true => return Ok(()),
            false => fail!("no interface named {interface} in any port; see 'vsctl show'"),
        }
    };
    if let Some(bond) = bond {
        let bond = Topology::of(cx.model).port(bond)?;
        if bond.row != port.row {
            fail!("interface {interface} is in port {}, not in {}", port.name, bond.name);
        }
    }
    if port.interfaces.len() < 2 {
        let name = port.name;
        fail!("{interface} is the last interface of port {name}; 'vsctl del-port {name}' deletes the port");
    }
    let Some(row) = port.interfaces.iter().find(|(name, _)| name == interface).map(|(_, row): &(_, Uuid)| *row) else {
        fail!("port {} has no interface named {interface}", port.name)
    };
    cx.model.forget("Interface", &row)?;
    cx.model.take_from("Port", &port.row, "interfaces", Datum::uuid(row))
}
