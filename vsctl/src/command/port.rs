//! Ports and their interfaces: `add-port`, `del-port`, `list-ports`, `port-to-br`, `list-ifaces`,
//! `iface-to-br`.

use super::bridge::{forget_port, insert_port, why_taken};
use super::{Command, Context, Family, Opt, needs_topology, short_form};
use crate::error::{Result, fail, failed};
use crate::grammar::Parsed;
use crate::topology::{self, Taken, Topology};
use ovsdb::value::Datum;

pub(super) static FAMILY: Family = Family { title: "Ports", commands: &COMMANDS };

static COMMANDS: [Command; 6] = [
    Command {
        name: "add-port",
        args: "BRIDGE PORT [SETTING=VALUE]...",
        count: (2, usize::MAX),
        options: &[Opt { name: "--may-exist", value: None, help: "do nothing if the bridge has such a port already" }],
        summary: "add a network device, tunnel or internal port to a bridge",
        help: "\
Without a type, PORT is a network device of this host, such as eth1 or one end of a veth pair. The
switch then receives all that arrives there, so an address on that device is no longer reachable;
it belongs on the bridge's own port.

SETTING is, in this order,
  a column of Port        tag trunks vlan_mode external_ids:KEY other_config:KEY …
  a column of Interface   type mtu_request ofport_request ingress_policing_rate
                          ingress_policing_burst options:KEY …
  an option of tunnels    key remote_ip local_ip in_key out_key dst_port tos ttl df_default csum
                          learning remote_ips mtu-policy routes
  of patch ports          peer
  of network devices      io

type is internal (a new device for this host) or the kind of a tunnel, such as vxlan;
'vsctl get open_vswitch . iface_types' prints what the switch supports.

Everything else that a port can be given is set in the same transaction by 'set' after '--'.",
        examples: &[
            "vsctl add-port br0 eth1",
            "vsctl add-port br0 veth0 tag=10",
            "vsctl add-port br0 vx0 type=vxlan key=5000 remote_ip=192.0.2.2",
            "vsctl add-port br0 ip0 type=ipip remote_ip=192.0.2.2 routes=192.168.11.0/24",
            "vsctl add-port br0 vx0 -- set interface vx0 type=vxlan options:remote_ip=192.0.2.2",
            "vsctl add-port br0 host0 type=internal mtu_request=1450",
        ],
        related: &["del-port", "set", "list-ports", "show"],
        needs: |args, schema, needs| {
            topology::need_for(args.args.iter().take(2), needs);
            short_form::need(schema, &short_form::read(schema, args.args_from(2))?, needs)
        },
        run: add_port,
    },
    Command {
        name: "del-port",
        args: "[BRIDGE] PORT",
        count: (1, 2),
        options: &[
            Opt { name: "--if-exists", value: None, help: "do nothing if there is no such port" },
            Opt { name: "--with-iface", value: None, help: "PORT may also be an interface of the port" },
        ],
        summary: "delete a port from its bridge",
        help: "\
A network device stays on the host; a tunnel or an internal port is gone. With BRIDGE, the port must
be on that bridge.",
        examples: &["vsctl del-port eth1", "vsctl --if-exists del-port br0 eth1"],
        related: &["add-port", "del-br"],
        needs: |args, _, needs| {
            // Any port may have the interface.
            match args.has("--with-iface") {
                true => topology::need(needs),
                false => topology::need_for(&args.args, needs),
            }
            Ok(())
        },
        run: del_port,
    },
    Command {
        name: "list-ports",
        args: "BRIDGE",
        count: (1, 1),
        options: &[],
        summary: "print the names of a bridge's ports",
        help: "The bridge's own port is not among them.",
        examples: &["vsctl list-ports br0"],
        related: &["list-ifaces", "port-to-br", "show"],
        needs: needs_topology,
        run: |cx, args| {
            let all = Topology::of(cx.model);
            all.ports_of(&all.bridge(args.arg(0))?)?.iter().for_each(|port| cx.line(&port.name));
            Ok(())
        },
    },
    Command {
        name: "port-to-br",
        args: "PORT",
        count: (1, 1),
        options: &[],
        summary: "print the bridge that a port is on",
        help: "",
        examples: &["vsctl port-to-br eth1"],
        related: &["iface-to-br", "list-ports"],
        needs: needs_topology,
        run: |cx, args| {
            let port = Topology::of(cx.model).port(args.arg(0))?;
            cx.line(&port.bridge.name);
            Ok(())
        },
    },
    Command {
        name: "list-ifaces",
        args: "BRIDGE",
        count: (1, 1),
        options: &[],
        summary: "print the names of the interfaces of a bridge's ports",
        help: "Only a bond has interfaces that are not called what their port is called.",
        examples: &["vsctl list-ifaces br0"],
        related: &["list-ports", "iface-to-br"],
        needs: needs_topology,
        run: list_ifaces,
    },
    Command {
        name: "iface-to-br",
        args: "IFACE",
        count: (1, 1),
        options: &[],
        summary: "print the bridge that an interface is on",
        help: "",
        examples: &["vsctl iface-to-br eth1"],
        related: &["port-to-br", "list-ifaces"],
        needs: needs_topology,
        run: |cx, args| {
            match Topology::of(cx.model).port_of_interface(args.arg(0))? {
                Some(port) => cx.line(&port.bridge.name),
                None => fail!("no interface named {} on any bridge; see 'vsctl show'", args.arg(0)),
            }
            Ok(())
        },
    },
];

fn add_port(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let (bridge, name) = (args.arg(0), args.arg(1));
    if name.is_empty() {
        fail!("the name of a port cannot be empty");
    }
    let settings = short_form::read(cx.model.schema(), args.args_from(2))?;
    match (Topology::of(cx.model).taken(name)?, args.has("--may-exist")) {
        (Some(Taken::Port(there)), true) => {
            let on = &there.bridge.name;
            if on != bridge {
                fail!("port {name} exists, but on bridge {on}, not on {bridge}");
            }
            let [(own, interface)] = &there.interfaces[..] else {
                fail!("port {name} exists on bridge {on}, but is a bond");
            };
            if own != name {
                fail!("port {name} exists on bridge {on}, but its interface is {own}");
            }
            for word in short_form::not_so(cx, &settings, there.row, *interface)? {
                cx.notes.push(format!(
                    "port {name} exists already and is not changed: {word} does not hold; \
                     'vsctl set' changes it"
                ));
            }
            return Ok(());
        }
        (Some(taken), _) => fail!("cannot add port {name}: {}", why_taken(name, &taken)),
        (None, _) => {}
    }
    let bridge = Topology::of(cx.model).bridge(bridge)?;
    let port = insert_port(cx, name, "")?;
    if let Some(of) = &bridge.vlan_of {
        cx.model.set("Port", &port, "tag", Datum::integer(of.vlan))?;
    }
    let interface = cx.model.get("Port", &port, "interfaces")?.as_uuid();
    let interface = interface.ok_or_else(|| failed!("port {name} has no interface"))?;
    short_form::apply(cx, &settings, port, interface)?;
    cx.model.add_to("Bridge", &bridge.row, "ports", Datum::uuid(port))
}

fn del_port(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let (on, name) = match args.args_from(0) {
        [on, name] => (Some(on.as_str()), name.as_str()),
        _ => (None, args.arg(0)),
    };
    let all = Topology::of(cx.model);
    let found = match all.port_if_any(name)? {
        None if args.has("--with-iface") => all.port_of_interface(name)?,
        found => found,
    };
    let port = match found {
        Some(port) => port,
        None if args.has("--if-exists") => return Ok(()),
        None if all.bridge_if_any(name)?.is_some() => {
            fail!("{name} is its bridge's own port; 'vsctl del-br {name}' deletes the bridge")
        }
        None => all.port(name)?,
    };
    let on = on.map(|on| all.bridge(on)).transpose()?;
    if let Some(on) = on.filter(|on| *on != port.bridge) {
        fail!("port {name} is on bridge {}, not on {}", port.bridge.name, on.name);
    }
    forget_port(cx, &port.row)?;
    cx.model.take_from("Bridge", &port.bridge.row, "ports", Datum::uuid(port.row))
}

fn list_ifaces(cx: &mut Context<'_, '_>, args: &Parsed) -> Result<()> {
    let all = Topology::of(cx.model);
    let ports = all.ports_of(&all.bridge(args.arg(0))?)?;
    let mut names: Vec<&str> = ports.iter().flat_map(|port| &port.interfaces).map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.iter().for_each(|name| cx.line(name));
    Ok(())
}
