//! What the datapath should look like: the configuration, made concrete by the devices and routes that there are.
//! Pure.

use super::loops;
use super::mirrors::{self, Mirrors};
use super::plan::Specs;
use crate::config::bridge::mac_of;
use crate::config::interface::{Interface, Kind, Wanted};
use crate::config::io::{Io, Xdp};
use crate::config::{Bridge, Config, Notes, Refusal};
use crate::mtu::{self, settle::Setting};
use crate::netlink::link::{Link, LinkTable};
use crate::netlink::route::{Path, Route, Routes};
use datapath::control::{BridgeSpec, PortKind, PortSpec, XdpSpec};
use datapath::switch::routes::Gateway;
use datapath::tunnel::Tunnel;
use datapath::types::L3Mtu;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use uuid::Uuid;

/// What should be, and what cannot.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Desired {
    /// What the datapath should look like.
    pub specs: Specs,
    /// Why an interface cannot be attached now, by its row.
    pub refused: BTreeMap<Uuid, Refusal>,
    /// Why an interface that can be attached carries nothing yet, by its row.
    pub incomplete: BTreeMap<Uuid, Refusal>,
    /// What became of the mirrors.
    pub mirrors: Mirrors,
    /// What to tell in an interface's `status`, by its row.
    pub notes: BTreeMap<Uuid, Notes>,
    /// The MTUs to give to devices.
    pub mtus: Vec<Setting>,
    /// The network namespaces that a note would name if their names were known.
    pub unnamed: BTreeSet<i32>,
}

/// The paths that `config`'s tunnels take.
pub fn paths(config: &Config) -> impl Iterator<Item = Path> {
    let tunnels = config.interfaces().filter_map(|(_, i)| match &i.wanted {
        Ok(Wanted { kind: Kind::Tunnel(tunnel), .. }) => Some(tunnel),
        _ => None,
    });
    tunnels.flat_map(|tunnel| tunnel.ends().map(|(_, remote)| path(tunnel, remote)))
}

/// The path to one of the tunnel's other ends.
pub(super) fn path(tunnel: &Tunnel, remote: IpAddr) -> Path {
    Path { remote, local: tunnel.local }
}

/// Makes `config` concrete.
#[must_use]
pub fn desired(config: &Config, links: &LinkTable, routes: &Routes) -> Desired {
    let mut desired = Desired::default();
    for bridge in &config.bridges {
        if bridge.refused.is_none() {
            desired.specs.bridges.insert(bridge.name.clone(), bridge_spec(bridge, links));
        }
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
        for (interface, why) in mtu::strict::refused(bridge, links, &desired.specs.ports) {
            desired.specs.ports.remove(&interface.name);
            desired.refused.insert(interface.uuid, why);
        }
    }
    desired.incomplete = patches_without_peer(config, &desired.specs);
    let broken = desired.refused.iter().chain(&desired.incomplete).map(|(row, why)| (*row, why.clone())).collect();
    desired.mirrors = mirrors::place(config, &mut desired.specs, &broken);
    desired
}

/// The patch ports that have no usable other end, each with what to do about it.
fn patches_without_peer(config: &Config, specs: &Specs) -> BTreeMap<Uuid, Refusal> {
    let missing = config.interfaces().filter_map(|(_, interface)| {
        let own = &interface.name;
        let PortKind::Patch { peer } = &specs.ports.get(own)?.kind else { return None };
        let there = config.interfaces().any(|(_, i)| i.name == *peer);
        let why = match specs.ports.get(peer).map(|other| &other.kind) {
            Some(PortKind::Patch { peer: back }) if back == own => return None,
            Some(PortKind::Patch { peer: back }) => {
                format!("{peer} has peer={back}; 'vsctl set interface {peer} options:peer={own}' joins them")
            }
            Some(_) => format!(
                "{peer} is no patch port; 'vsctl set interface {peer} type=patch options:peer={own}' makes it one"
            ),
            None if there => format!("{peer} is in error itself; 'vsctl get interface {peer} error' tells why"),
            None => format!(
                "There is no interface {peer}; 'vsctl add-port BRIDGE {peer} type=patch peer={own}' adds it to a bridge"
            ),
        };
        // Open vSwitch's sentence, which people search for, then ours.
        Some((interface.uuid, format!("No usable peer '{peer}' exists in 'netdev' datapath. {why}")))
    });
    missing.collect()
}

impl Desired {
    /// An internal port that works (`has`) and whose interface is no longer among the links has been moved to another
    /// network namespace, or been renamed: it goes on working there, up as far as anybody can see from here.
    pub fn keep_moved(&mut self, config: &Config, links: &LinkTable, has: impl Fn(&PortSpec) -> bool) {
        for (_, interface) in config.interfaces().filter(|(_, i)| i.is_internal()) {
            let Some(spec) = self.specs.ports.get_mut(&interface.name) else { continue };
            if links.by_name(&spec.name).is_none() && has(spec) {
                spec.up = true;
                let text = "not here under this name: it is in another network namespace, or renamed, and works there";
                let notes = self.notes.entry(interface.uuid).or_default();
                notes.insert("interface".to_owned(), text.to_owned());
                if let Ok(Wanted { mtu: Some(mtu), .. }) = interface.wanted {
                    let text = format!("mtu_request={mtu} has no effect: the interface is not here; set its MTU there");
                    notes.insert("unsupported_mtu_request".to_owned(), text);
                }
            }
        }
    }
}

/// Whether an interface is a layer-3 tunnel.
pub fn is_layer3(interface: &Interface) -> bool {
    matches!(&interface.wanted, Ok(Wanted { kind: Kind::Tunnel(tunnel), .. }) if tunnel.protocol.is_layer3())
}

/// What a bridge that has a layer-3 tunnel is known by as a router: the addresses of its own port.
fn gateway(bridge: &Bridge, links: &LinkTable) -> Option<Gateway> {
    if !bridge.interfaces.iter().any(|interface| is_layer3(interface)) {
        return None;
    }
    let link = links.by_name(&bridge.name);
    let to_be = bridge.interfaces.iter().find(|i| i.own).and_then(|own| match own.wanted {
        Ok(Wanted { kind: Kind::Internal { mac, .. }, .. }) => Some(mac),
        _ => None,
    });
    let mac = link.and_then(|link| link.mac).or(to_be).unwrap_or_else(|| mac_of(bridge.uuid));
    let addresses =
        link.into_iter().flat_map(|link| links.addresses(link.ifindex)).filter_map(|address| match address.ip {
            IpAddr::V4(ip) => Some((ip, address.prefix_len)),
            IpAddr::V6(_) => None,
        });
    Some(Gateway { mac, addresses: addresses.collect() })
}

fn bridge_spec(bridge: &Bridge, links: &LinkTable) -> BridgeSpec {
    BridgeSpec {
        name: bridge.name.clone(),
        mac_aging: bridge.settings.mac_aging,
        mac_table_size: bridge.settings.mac_table_size,
        statics: bridge.settings.statics.clone(),
        secure: bridge.secure,
        vlans: bridge.vlans.clone(),
        // Placed when all ports are known.
        mirrors: Vec::new(),
        gateway: gateway(bridge, links),
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
        Kind::Netdev(io) => {
            let link = netdev(&interface.name, links)?;
            let kind = match io {
                Io::Packet => {
                    warn_of_addresses(link, links, bridge, notes);
                    PortKind::Netdev { ifindex: link.ifindex }
                }
                Io::Xdp(xdp) => PortKind::Xdp(xdp_spec(*xdp, link, links)),
            };
            (kind, link.is_up(), mtu_of(link))
        }
        Kind::Internal { .. } => {
            let link = internal(&interface.name, links)?;
            (PortKind::Internal, link.is_some_and(Link::is_up), link.and_then(mtu_of))
        }
        Kind::Patch { peer } => (PortKind::Patch { peer: peer.clone() }, true, None),
        Kind::Tunnel(tunnel) => {
            let tunnel = without_own_addresses(&interface.name, tunnel, routes, notes)?;
            let ways = || tunnel.ends().filter_map(|(_, end)| Some((end, routes.get(&path(&tunnel, end))?)));
            for (end, route) in ways() {
                underlay(&interface.name, &tunnel, end, route, links, notes)?;
                if let Route::Via { ifindex, .. } = route
                    && let Some(egress) = links.by_index(*ifindex)
                {
                    loops::refuse(config, bridge, wanted, end, &egress.name)?;
                }
            }
            let widths = ways().filter_map(|way| Some((mtu::of_tunnel(&tunnel, way.1, links)?, way)));
            let narrowest = widths.min_by_key(|(mtu, _)| *mtu);
            if let Some((_, (end, route))) = narrowest {
                notes.insert("mtu_reason".to_owned(), mtu::reason(&tunnel, end, route, links));
            }
            let mtu = narrowest.map(|(mtu, _)| mtu);
            (PortKind::Tunnel(tunnel), true, mtu)
        }
    };
    let (name, bridge) = (interface.name.clone(), bridge.name.clone());
    let (vlan, rules, mtu_policy) = (wanted.vlan.clone(), wanted.rules, wanted.mtu_policy.enforced());
    let assist = config.assist && matches!(kind, PortKind::Netdev { .. });
    Ok(PortSpec { name, bridge, kind, vlan, rules, up, mtu, mtu_policy, limits: wanted.limits, assist })
}

/// A device by AF_XDP. One that the host has addresses on goes on being the host's, too: frames to its own hardware
/// address, and to those of devices on top of it, are left to the host.
fn xdp_spec(Xdp { mode, backend, queues, busy_poll }: Xdp, link: &Link, links: &LinkTable) -> XdpSpec {
    let used = links.addresses(link.ifindex).next().is_some() || links.on_top_of(link.ifindex).next().is_some();
    let stations = std::iter::once(link).chain(links.on_top_of(link.ifindex));
    let host: BTreeSet<_> = stations.filter_map(|l| l.mac).filter(|_| used).collect();
    let (ifindex, host, mtu) = (link.ifindex, host.into_iter().collect(), mtu_of(link));
    XdpSpec { ifindex, mode, backend, queues, busy_poll, host, mtu }
}

/// What the device carries, where that is known.
fn mtu_of(link: &Link) -> Option<L3Mtu> {
    (link.mtu > 0).then_some(L3Mtu(link.mtu))
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

/// Tells of addresses that stop working because the switch takes the device's frames. The commands stand on lines of
/// their own, to be copied.
fn warn_of_addresses(link: &Link, links: &LinkTable, bridge: &Bridge, notes: &mut Notes) {
    let (device, own) = (&link.name, &bridge.name);
    let addresses: Vec<_> = links.addresses(link.ifindex).map(ToString::to_string).collect();
    if addresses.is_empty() {
        return;
    }
    let mut text = format!(
        "{} on {device} cannot be reached while {device} is a port of {own}; move it to the bridge's own port \
         (routes by {device} are lost with it: note them by 'ip route show dev {device}' before):",
        addresses.join(" and ")
    );
    for address in &addresses {
        text.push_str(&format!("\nip addr del {address} dev {device}\nip addr add {address} dev {own}"));
    }
    // The neighbours have the address in their caches with this hardware address.
    if let (Some(mac), None) = (link.mac, bridge.settings.hwaddr) {
        text.push_str(&format!("\nip link set {own} address {mac}"));
    }
    text.push_str(&format!("\nip link set {own} up"));
    notes.insert("address_warning".to_owned(), text);
}

/// A tunnel with several remote ends without those that are this host's: the same list, or the same routes, may be given
/// to all hosts.
fn without_own_addresses(name: &str, tunnel: &Tunnel, routes: &Routes, notes: &mut Notes) -> Result<Tunnel, Refusal> {
    let mut tunnel = tunnel.clone();
    let local = tunnel.local;
    let option = if tunnel.protocol.is_layer3() { "routes" } else { "remote_ips" };
    let Some(remotes) = &mut tunnel.remotes else { return Ok(tunnel) };
    let own = |end: IpAddr| matches!(routes.get(&Path { remote: end, local }), Some(Route::Local));
    let left_out: Vec<_> = remotes.ends().iter().filter(|end| own(**end)).map(ToString::to_string).collect();
    if left_out.is_empty() {
        return Ok(tunnel);
    }
    remotes.leave_out(own);
    let Some(first) = remotes.ends().first() else {
        let all = left_out.join(", ");
        return Err(format!("{name}: {option}={all}: all are addresses of this host; give the other ends' addresses"));
    };
    tunnel.remote.set_ip(*first);
    notes.insert(option.to_owned(), format!("{}: of this host, left out", left_out.join(", ")));
    Ok(tunnel)
}

/// What to tell of the way to one of the tunnel's remote ends.
fn underlay(
    name: &str,
    tunnel: &Tunnel,
    remote: IpAddr,
    route: &Route,
    links: &LinkTable,
    notes: &mut Notes,
) -> Result<(), Refusal> {
    match route {
        Route::Local => {
            Err(format!("{name}: remote_ip={remote} is an address of this host; give the other end's address"))
        }
        Route::None(why) => {
            let from = tunnel.local.map(|l| format!(" from {l}")).unwrap_or_default();
            let text = format!("no way to remote_ip={remote}{from} ({why}); see 'ip route get {remote}{from}'");
            let told = notes.entry("underlay_warning".to_owned()).or_default();
            *told = if told.is_empty() { text } else { format!("{told}; {text}") };
            Ok(())
        }
        Route::Via { ifindex, .. } => {
            if let Some(link) = links.by_index(*ifindex) {
                notes.insert("tunnel_egress_iface".to_owned(), link.name.clone());
                notes.insert("tunnel_egress_iface_mtu".to_owned(), link.mtu.to_string());
                let carrier = if link.is_up() { "up" } else { "down" };
                notes.insert("tunnel_egress_iface_carrier".to_owned(), carrier.to_owned());
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{br0_p1, database};
    use crate::netlink::link::tests::{address, veth};
    use datapath::switch::state::VlanMode;
    use datapath::types::VlanId;
    use rtnetlink::packet_route::RouteNetlinkMessage;
    use rtnetlink::packet_route::address::AddressScope;
    use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
    use serde_json::{Value, json};

    fn links(messages: &[LinkMessage]) -> LinkTable {
        let mut table = LinkTable::default();
        for m in messages {
            table.apply(&RouteNetlinkMessage::NewLink(m.clone()));
        }
        table
    }

    /// The TAP of an internal port.
    fn tap(ifindex: u32, name: &str) -> LinkMessage {
        let mut m = veth(ifindex, name);
        m.attributes.pop();
        m.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Tun)]));
        m
    }

    /// What becomes of p1 with these columns.
    fn p1(
        port: Value,
        interface: Value,
        links: &LinkTable,
        routes: &[Route],
    ) -> (Result<PortSpec, Refusal>, Notes, Desired) {
        let config = Config::read(&database(&br0_p1(json!({}), json!({}), port, interface)));
        let routes = paths(&config).zip(routes.iter().cloned()).collect();
        let mut desired = desired(&config, links, &routes);
        let uuid = config.bridges[0].interfaces[1].uuid;
        let result = match desired.refused.remove(&uuid) {
            Some(why) => Err(why),
            None => Ok(desired.specs.ports["p1"].clone()),
        };
        (result, desired.notes.remove(&uuid).unwrap(), desired)
    }

    fn vxlan() -> Value {
        json!({"type": "vxlan", "options": ["map", [["remote_ip", "192.0.2.2"], ["key", "5000"]]]})
    }

    const VIA: Route = Route::Via { ifindex: 4, mtu: None, source: None };

    #[test]
    fn a_bridge_with_a_layer_3_tunnel_is_a_router_at_its_own_ports_addresses() {
        let ipip = || json!({"type": "ipip", "options": ["map", [["remote_ip", "192.0.2.2"]]]});
        let seen = |interface: Value, links: &LinkTable| {
            let (port, _, desired) = p1(json!({}), interface, links, &[VIA]);
            (port.unwrap(), desired.specs.bridges["br0"].gateway.clone())
        };
        let mut table = links(&[veth(4, "eth0"), tap(5, "br0")]);
        for (ip, bits) in [("192.168.10.1", 24), ("fd00::1", 64)] {
            table.apply(&RouteNetlinkMessage::NewAddress(address(5, ip, bits, AddressScope::Universe)));
        }
        let (port, gateway) = seen(ipip(), &table);
        assert_eq!((port.mtu, port.vlan), (Some(L3Mtu(1480)), VlanMode::Access(VlanId::UNTAGGED)));
        let mac = table.by_name("br0").unwrap().mac.unwrap();
        assert_eq!(gateway, Some(Gateway { mac, addresses: vec![([192, 168, 10, 1].into(), 24)] }));
        // Before there is a device, the address that it will have.
        let to_be = seen(ipip(), &links(&[veth(4, "eth0")])).1.unwrap();
        assert!(to_be.mac != mac && to_be.mac.0[0] & 3 == 2 && to_be.addresses.is_empty());
        assert_eq!(seen(vxlan(), &table).1, None);
    }

    #[test]
    fn a_device_is_attached_when_it_is_there_and_up_when_it_is_up() {
        let (none, ..) = p1(json!({}), json!({}), &links(&[]), &[]);
        assert_eq!(
            none.unwrap_err(),
            "could not open network device p1 (No such device); it is attached as soon as it appears"
        );
        let spec = p1(json!({}), json!({}), &links(&[veth(3, "p1")]), &[]).0.unwrap();
        assert_eq!((spec.kind, spec.up, spec.mtu), (PortKind::Netdev { ifindex: 3 }, true, Some(L3Mtu(1500))));
        assert!(!spec.assist);
        let root = json!({"other_config": ["map", [["assist", "true"]]]});
        let config = Config::read(&database(&br0_p1(root, json!({}), json!({}), json!({}))));
        let ports = desired(&config, &links(&[veth(3, "p1")]), &Routes::default()).specs.ports;
        assert_eq!([&ports["p1"], &ports["br0"]].map(|port| port.assist), [true, false], "devices of the host only");
        let mut down = veth(3, "p1");
        down.header.flags = LinkFlags::Up;
        assert!(!p1(json!({}), json!({}), &links(&[down]), &[]).0.unwrap().up);
    }

    #[test]
    fn a_device_that_belongs_to_another_or_carries_no_ethernet_is_refused() {
        let mut enslaved = veth(3, "p1");
        enslaved.attributes.push(LinkAttribute::Controller(8));
        let why = p1(json!({}), json!({}), &links(&[enslaved, veth(8, "virbr0")]), &[]).0.unwrap_err();
        assert_eq!(why, "p1 belongs to virbr0; release it with 'ip link set dev p1 nomaster'");
        let mut tun = veth(3, "p1");
        tun.header.link_layer_type = LinkLayerType::None;
        assert!(p1(json!({}), json!({}), &links(&[tun]), &[]).0.unwrap_err().contains("no Ethernet frames"));
    }

    #[test]
    fn an_address_on_an_attached_device_is_told_with_the_commands_that_move_it() {
        let mut table = links(&[veth(3, "p1")]);
        assert!(p1(json!({}), json!({}), &table, &[]).1.is_empty());
        for (ip, len) in [("192.0.2.1", 24), ("2001:db8::1", 64)] {
            table.apply(&RouteNetlinkMessage::NewAddress(address(3, ip, len, AddressScope::Universe)));
        }
        let (spec, notes, _) = p1(json!({}), json!({}), &table, &[]);
        assert!(spec.is_ok());
        let (told, commands) = notes["address_warning"].split_once('\n').unwrap();
        assert!(told.starts_with("192.0.2.1/24 and 2001:db8::1/64 on p1 cannot be reached"), "{told}");
        assert_eq!(
            commands,
            "ip addr del 192.0.2.1/24 dev p1\nip addr add 192.0.2.1/24 dev br0\n\
             ip addr del 2001:db8::1/64 dev p1\nip addr add 2001:db8::1/64 dev br0\n\
             ip link set br0 address 02:00:00:00:00:03\nip link set br0 up"
        );
    }

    #[test]
    fn an_internal_port_takes_no_foreign_device_of_its_name() {
        let internal = || json!({"type": "internal"});
        let spec = p1(json!({}), internal(), &links(&[]), &[]).0.unwrap();
        assert_eq!((spec.kind, spec.up), (PortKind::Internal, false));
        assert!(p1(json!({}), internal(), &links(&[tap(3, "p1")]), &[]).0.unwrap().up);
        let why = p1(json!({}), internal(), &links(&[veth(3, "p1")]), &[]).0.unwrap_err();
        assert!(why.contains("could not add p1") && why.contains("(veth)"), "{why}");
    }

    #[test]
    fn an_internal_port_whose_interface_was_moved_away_stays_up() {
        let config = Config::read(&database(&br0_p1(json!({}), json!({}), json!({}), json!({"type": "internal"}))));
        let read = |links: &LinkTable, has: bool| {
            let mut all = desired(&config, links, &Routes::new());
            all.keep_moved(&config, links, |spec| has && spec.name == "p1");
            let uuid = config.bridges[0].interfaces[1].uuid;
            (all.specs.ports["p1"].up, all.notes[&uuid].contains_key("interface"), all.specs.ports["br0"].up)
        };
        assert_eq!(read(&links(&[]), true), (true, true, false));
        assert_eq!(read(&links(&[]), false), (false, false, false), "it has not been made yet");
        assert_eq!(read(&links(&[tap(3, "p1")]), true), (true, false, false));
    }

    #[test]
    fn a_tunnel_takes_its_mtu_and_egress_from_the_route() {
        let table = links(&[veth(4, "eth0")]);
        let (spec, notes, _) = p1(json!({}), vxlan(), &table, &[VIA]);
        assert_eq!(spec.unwrap().mtu, Some(L3Mtu(1450)));
        assert_eq!(
            (notes["tunnel_egress_iface"].as_str(), notes["tunnel_egress_iface_carrier"].as_str()),
            ("eth0", "up")
        );
        let (spec, notes, _) = p1(json!({}), vxlan(), &table, &[Route::None("Network is unreachable".into())]);
        assert_eq!(spec.unwrap().mtu, None);
        assert_eq!(
            notes["underlay_warning"],
            "no way to remote_ip=192.0.2.2 (Network is unreachable); see 'ip route get 192.0.2.2'"
        );
        let why = p1(json!({}), vxlan(), &table, &[Route::Local]).0.unwrap_err();
        assert!(why.contains("remote_ip=192.0.2.2 is an address of this host"), "{why}");
    }

    #[test]
    fn a_tunnel_has_its_bridges_policy_or_its_own() {
        use datapath::control::MtuPolicy::{Drop, Fit, Icmp};
        let table = links(&[veth(4, "eth0"), veth(3, "p1")]);
        let own =
            |policy| json!({"type": "vxlan", "options": ["map", [["remote_ip", "192.0.2.2"], ["mtu-policy", policy]]]});
        for (bridge, interface, expected) in [
            ("fit", vxlan(), Fit),
            ("strict", vxlan(), Fit),
            ("icmp", vxlan(), Icmp),
            ("icmp", own("drop"), Drop),
            ("drop", own("strict"), Fit),
            ("drop", json!({}), Drop),
        ] {
            let bridge = json!({"other_config": ["map", [["mtu-policy", bridge]]]});
            let config = Config::read(&database(&br0_p1(json!({}), bridge, json!({}), interface)));
            let routes = paths(&config).map(|path| (path, VIA)).collect();
            let desired = desired(&config, &table, &routes);
            assert_eq!(desired.specs.ports["p1"].mtu_policy, expected);
        }
    }

    #[test]
    fn a_tunnel_with_several_ends_has_the_smallest_mtu_and_leaves_its_own_host_out() {
        let table = links(&[veth(4, "eth0")]);
        let ends = json!({"type": "vxlan", "options": ["map", [["remote_ips", "192.0.2.1,192.0.2.2,192.0.2.3"]]]});
        let ways = [Route::Local, VIA, Route::Via { ifindex: 4, mtu: Some(1400), source: None }];
        let (spec, notes, _) = p1(json!({}), ends.clone(), &table, &ways);
        let spec = spec.unwrap();
        let PortKind::Tunnel(tunnel) = &spec.kind else { panic!("{spec:?}") };
        let left: Vec<_> = tunnel.ends().map(|(_, end)| end.to_string()).collect();
        assert_eq!(
            (left.join(" "), tunnel.remote.ip().to_string()),
            ("192.0.2.2 192.0.2.3".into(), "192.0.2.2".into())
        );
        assert_eq!(spec.mtu, Some(L3Mtu(1350)));
        assert_eq!(notes["remote_ips"], "192.0.2.1: of this host, left out");
        let none = || Route::None("Network is unreachable".into());
        let (_, notes, _) = p1(json!({}), ends.clone(), &table, &[none(), VIA, none()]);
        let told = &notes["underlay_warning"];
        assert!(told.contains("remote_ip=192.0.2.1 ") && told.contains("; no way to remote_ip=192.0.2.3 "), "{told}");
        let why = p1(json!({}), ends, &table, &[Route::Local, Route::Local, Route::Local]).0.unwrap_err();
        assert!(why.contains("all are addresses of this host"), "{why}");
    }

    #[test]
    fn a_tunnel_that_would_loop_is_refused_unless_its_vlans_keep_it_apart() {
        let table = links(&[tap(4, "br0")]);
        let why = p1(json!({}), vxlan(), &table, &[VIA]).0.unwrap_err();
        assert!(why.contains("leaves by br0, a port of the same bridge br0"), "{why}");
        // br0 itself is a trunk of all VLANs: a tag on the tunnel alone does not help.
        assert!(p1(json!({"tag": 5}), vxlan(), &table, &[VIA]).0.is_err());
        let other = links(&[tap(4, "br1")]);
        assert!(p1(json!({}), vxlan(), &other, &[VIA]).0.is_ok(), "another bridge's port is no loop");
    }

    fn patch(peer: &str) -> Value {
        json!({"type": "patch", "options": ["map", [["peer", peer]]]})
    }

    /// What is wrong with the patch port p1, with peer p2, when p2 has these columns.
    fn incomplete(p2: Option<Value>) -> Option<String> {
        let mut ops = br0_p1(json!({}), json!({}), json!({}), patch("p2"));
        if let Some(mut row) = p2 {
            row["name"] = json!("p2");
            let references = |names: [&str; 3]| names.map(|n| json!(["named-uuid", n]));
            ops[1]["row"]["ports"] = json!(["set", references(["own", "p", "q"])]);
            ops.push(json!({"op": "insert", "table": "Port", "uuid-name": "q",
                "row": {"name": "p2", "interfaces": ["named-uuid", "j"]}}));
            ops.push(json!({"op": "insert", "table": "Interface", "uuid-name": "j", "row": row}));
        }
        let config = Config::read(&database(&ops));
        let all = desired(&config, &links(&[veth(3, "p2")]), &Routes::new());
        assert!(all.specs.ports["p1"].up, "attached all the same");
        all.incomplete.get(&config.bridges[0].interfaces[1].uuid).cloned()
    }

    #[test]
    fn a_patch_port_tells_what_is_wrong_with_its_other_end() {
        assert_eq!(incomplete(Some(patch("p1"))), None);
        let gre = Some(json!({"type": "bogus"}));
        for (p2, why) in [
            (None, "There is no interface p2; 'vsctl add-port BRIDGE p2 type=patch peer=p1' adds it to a bridge"),
            (Some(patch("p3")), "p2 has peer=p3; 'vsctl set interface p2 options:peer=p1' joins them"),
            (Some(json!({})), "p2 is no patch port; 'vsctl set interface p2 type=patch options:peer=p1' makes it one"),
            (gre, "p2 is in error itself; 'vsctl get interface p2 error' tells why"),
        ] {
            let told = incomplete(p2);
            assert_eq!(told.unwrap(), format!("No usable peer 'p2' exists in 'netdev' datapath. {why}"));
        }
    }

    #[test]
    fn a_bridge_that_is_refused_is_not_made() {
        let ops = br0_p1(json!({}), json!({"datapath_type": "dpdk"}), json!({}), json!({}));
        let all = desired(&Config::read(&database(&ops)), &links(&[veth(3, "p1")]), &Routes::new());
        assert_eq!((all.specs, all.refused.len()), (Specs::default(), 2));
    }

    #[test]
    fn what_is_refused_leaves_the_rest() {
        let (_, _, all) = p1(json!({}), json!({"type": "stt"}), &links(&[]), &[]);
        assert_eq!(all.specs.bridges.len(), 1);
        assert_eq!(all.specs.ports.keys().collect::<Vec<_>>(), ["br0"]);
    }
}
