//! What the datapath should look like: the configuration, made concrete by the devices and routes that there are.
//! Pure.

use super::plan::Specs;
use crate::config::interface::{Interface, Kind, Wanted};
use crate::config::{Bridge, Config, Notes, Refusal};
use crate::mtu;
use crate::netlink::link::{Link, LinkTable};
use crate::netlink::route::{Path, Route, Routes};
use datapath::control::{BridgeSpec, PortKind, PortSpec};
use datapath::switch::state::{Trunks, VlanMode};
use datapath::tunnel::Vxlan;
use datapath::types::VlanId;
use std::collections::BTreeMap;
use uuid::Uuid;

/// What should be, and what cannot.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Desired {
    /// What the datapath should look like.
    pub specs: Specs,
    /// Why an interface cannot be attached now, by its row.
    pub refused: BTreeMap<Uuid, Refusal>,
    /// What to tell in an interface's `status`, by its row.
    pub notes: BTreeMap<Uuid, Notes>,
}

/// The paths that `config`'s tunnels take.
pub fn paths(config: &Config) -> impl Iterator<Item = Path> {
    config.interfaces().filter_map(|(_, i)| match &i.wanted {
        Ok(Wanted { kind: Kind::Vxlan(tunnel), .. }) => Some(path(tunnel)),
        _ => None,
    })
}

fn path(tunnel: &Vxlan) -> Path {
    Path { remote: tunnel.remote.ip(), local: tunnel.local }
}

/// Makes `config` concrete.
#[must_use]
pub fn desired(config: &Config, links: &LinkTable, routes: &Routes) -> Desired {
    let mut desired = Desired::default();
    for bridge in &config.bridges {
        desired.specs.bridges.insert(bridge.name.clone(), bridge_spec(bridge));
        for interface in &bridge.interfaces {
            let mut notes = interface.notes.clone();
            match port_spec(config, bridge, interface, links, routes, &mut notes) {
                Ok(spec) => {
                    desired.specs.ports.insert(spec.name.clone(), spec);
                }
                Err(why) => {
                    desired.refused.insert(interface.uuid, why);
                }
            }
            desired.notes.insert(interface.uuid, notes);
        }
    }
    desired
}

fn bridge_spec(bridge: &Bridge) -> BridgeSpec {
    BridgeSpec {
        name: bridge.name.clone(),
        mac_aging: bridge.settings.mac_aging,
        mac_table_size: bridge.settings.mac_table_size,
        secure: bridge.secure,
    }
}

fn port_spec(
    config: &Config,
    bridge: &Bridge,
    interface: &Interface,
    links: &LinkTable,
    routes: &Routes,
    notes: &mut Notes,
) -> Result<PortSpec, Refusal> {
    let wanted = interface.wanted.as_ref().map_err(Clone::clone)?;
    let (kind, up, mtu) = match &wanted.kind {
        Kind::Netdev => {
            let link = netdev(&interface.name, links)?;
            warn_of_addresses(link, links, &bridge.name, notes);
            (PortKind::Netdev { ifindex: link.ifindex }, link.is_up(), None)
        }
        Kind::Internal { .. } => {
            let link = internal(&interface.name, links)?;
            (PortKind::Internal, link.is_some_and(Link::is_up), None)
        }
        Kind::Vxlan(tunnel) => {
            let route = routes.get(&path(tunnel));
            let mtu = route.and_then(|r| mtu::of_tunnel(tunnel, r, links));
            if let Some(route) = route {
                underlay(&interface.name, tunnel, route, links, notes)?;
                refuse_loop(config, bridge, wanted, route, links)?;
            }
            (PortKind::Vxlan(tunnel.clone()), true, mtu)
        }
    };
    let (name, bridge) = (interface.name.clone(), bridge.name.clone());
    Ok(PortSpec { name, bridge, kind, vlan: wanted.vlan.clone(), up, mtu })
}

/// The host's device of that name, if it can be attached.
fn netdev<'a>(name: &str, links: &'a LinkTable) -> Result<&'a Link, Refusal> {
    let Some(link) = links.by_name(name) else {
        return Err(format!(
            "could not open network device {name} (No such device); it is attached as soon as it appears"
        ));
    };
    if !link.ethernet {
        return Err(format!("{name} carries no Ethernet frames; attach an Ethernet device"));
    }
    if let Some(master) = link.master {
        let master = links.by_index(master).map_or_else(|| format!("interface {master}"), |l| l.name.clone());
        return Err(format!("{name} belongs to {master}; release it with 'ip link set dev {name} nomaster'"));
    }
    Ok(link)
}

/// Our TAP of that name, if it exists already.
fn internal<'a>(name: &str, links: &'a LinkTable) -> Result<Option<&'a Link>, Refusal> {
    let Some(link) = links.by_name(name) else { return Ok(None) };
    match link.kind.as_deref() {
        Some("tun") if link.ethernet => Ok(Some(link)),
        kind => Err(format!(
            "could not add {name} as an internal port (File exists): the host has a device of that name ({}); \
             use another name or rename the device",
            kind.unwrap_or("hardware")
        )),
    }
}

/// Tells of addresses that stop working because the switch takes the device's frames.
fn warn_of_addresses(link: &Link, links: &LinkTable, bridge: &str, notes: &mut Notes) {
    let device = &link.name;
    let (mut list, mut commands) = (Vec::new(), Vec::new());
    for address in links.addresses(link.ifindex) {
        list.push(address.to_string());
        commands.push(format!("ip addr del {address} dev {device}; ip addr add {address} dev {bridge}"));
    }
    if list.is_empty() {
        return;
    }
    let text = format!(
        "{} on {device} cannot be reached while {device} is a port of {bridge}; move it to the bridge's own port: \
         {}; ip link set {bridge} up (routes by {device} go with it: see 'ip route show dev {device}' before)",
        list.join(" and "),
        commands.join("; ")
    );
    notes.insert("address_warning".to_owned(), text);
}

/// What to tell of the way to the tunnel's remote end.
fn underlay(name: &str, tunnel: &Vxlan, route: &Route, links: &LinkTable, notes: &mut Notes) -> Result<(), Refusal> {
    let remote = tunnel.remote.ip();
    match route {
        Route::Local => {
            Err(format!("{name}: remote_ip={remote} is an address of this host; give the other end's address"))
        }
        Route::None(why) => {
            let from = tunnel.local.map(|l| format!(" from {l}")).unwrap_or_default();
            let text = format!("no way to remote_ip={remote}{from} ({why}); see 'ip route get {remote}{from}'");
            notes.insert("underlay_warning".to_owned(), text);
            Ok(())
        }
        Route::Via { ifindex, .. } => {
            if let Some(link) = links.by_index(*ifindex) {
                notes.insert("tunnel_egress_iface".to_owned(), link.name.clone());
                let carrier = if link.is_up() { "up" } else { "down" };
                notes.insert("tunnel_egress_iface_carrier".to_owned(), carrier.to_owned());
            }
            Ok(())
        }
    }
}

/// Refuses a tunnel whose packets would come back to it: those that leave by an internal port of its own bridge are
/// frames of that bridge, and flooded into the tunnel again.
fn refuse_loop(
    config: &Config,
    bridge: &Bridge,
    wanted: &Wanted,
    route: &Route,
    links: &LinkTable,
) -> Result<(), Refusal> {
    let Route::Via { ifindex, .. } = route else { return Ok(()) };
    let Some(egress) = links.by_index(*ifindex) else { return Ok(()) };
    let meets = |(b, i): &(&Bridge, &Interface)| {
        let same = b.uuid == bridge.uuid && i.name == egress.name;
        same && matches!(&i.wanted, Ok(w) if matches!(w.kind, Kind::Internal { .. }) && share_a_vlan(&w.vlan, &wanted.vlan))
    };
    if config.interfaces().any(|pair| meets(&pair)) {
        let (Kind::Vxlan(Vxlan { remote, .. }), own) = (&wanted.kind, &egress.name) else { return Ok(()) };
        return Err(format!(
            "the way to remote_ip={} leaves by {own}, a port of the same bridge {}: its packets would loop; put the \
             tunnel or the underlay on another bridge, or in different VLANs",
            remote.ip(),
            bridge.name
        ));
    }
    Ok(())
}

fn share_a_vlan(a: &VlanMode, b: &VlanMode) -> bool {
    (0..4096).filter_map(VlanId::new).any(|vlan| carries(a, vlan) && carries(b, vlan))
}

fn carries(mode: &VlanMode, vlan: VlanId) -> bool {
    let trunk = |trunks: &Trunks| trunks.carries(vlan);
    match mode {
        VlanMode::Access(own) => *own == vlan,
        VlanMode::Trunk(trunks) => trunk(trunks),
        VlanMode::NativeTagged(native, trunks) | VlanMode::NativeUntagged(native, trunks) => {
            *native == vlan || trunk(trunks)
        }
    }
}
