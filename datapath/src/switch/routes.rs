//! Where a bridge's router sends IPv4 packets. Pure.
//!
//! A bridge that has a layer-3 tunnel is a router at its own hardware address, in the VLANs that such tunnels are in: the
//! longest prefix decides between the tunnels' routes and the host behind the bridge's own port, which also gets whatever
//! no route leads to.

use super::state::{Port, VlanMode};
use super::vlan_set::VlanSet;
use crate::types::{Ipv4Prefix, MacAddr, Place, PortId, VlanId};
use foldhash::fast::RandomState;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;

/// What stations without a route to anything else take for their router, in any network.
pub const ANYCAST: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// What a bridge's router is known by: the addresses of the bridge's own port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gateway {
    /// The hardware address.
    pub mac: MacAddr,
    /// The IPv4 addresses, each with the number of bits of its network.
    pub addresses: Vec<(Ipv4Addr, u8)>,
}

/// Where a packet goes next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NextHop {
    /// To the bridge's own port.
    Host,
    /// Into a layer-3 tunnel.
    Tunnel(Place),
}

/// Routes with prefixes of one length, by VLAN and network.
type OfLength = HashMap<(VlanId, Ipv4Addr), NextHop, RandomState>;

/// The router of a bridge.
#[derive(Clone, Debug)]
pub struct Router {
    gateway: Gateway,
    own: Option<PortId>,
    vlans: VlanSet,
    /// By the length of their prefixes, the longest first.
    routes: Vec<(u8, OfLength)>,
}

impl Router {
    /// The router of a bridge with these `ports`, one of which may be its `own`; `None`: no port is a layer-3 tunnel.
    pub fn of<'a>(gateway: &Gateway, own: Option<&Port>, ports: impl Iterator<Item = &'a Port>) -> Option<Self> {
        let mut vlans = VlanSet::default();
        let mut by_length: BTreeMap<u8, OfLength> = BTreeMap::new();
        let mut add = |vlan: VlanId, to: Ipv4Prefix, hop: NextHop| {
            by_length.entry(to.bits()).or_default().entry((vlan, to.network())).or_insert(hop);
        };
        if let Some(own) = own {
            let vlan = native(&own.vlan);
            for &(address, bits) in &gateway.addresses {
                add(vlan, Ipv4Prefix::of(address, 32), NextHop::Host);
                add(vlan, Ipv4Prefix::of(address, bits), NextHop::Host);
            }
        }
        for port in ports {
            let Some(tunnel) = port.tunnel.as_ref().filter(|tunnel| tunnel.protocol.is_layer3()) else { continue };
            vlans.insert(native(&port.vlan));
            for (to, remote) in tunnel.routes() {
                add(native(&port.vlan), to, NextHop::Tunnel(Place { port: port.id, remote }));
            }
        }
        let routes = by_length.into_iter().rev().collect();
        let own = own.map(|own| own.id);
        (!vlans.is_empty()).then(|| Self { gateway: gateway.clone(), own, vlans, routes })
    }

    /// Its hardware address.
    #[inline]
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        self.gateway.mac
    }

    /// The bridge's own port.
    #[must_use]
    pub fn own(&self) -> Option<PortId> {
        self.own
    }

    /// Whether there is a layer-3 tunnel in `vlan`.
    #[inline]
    #[must_use]
    pub fn serves(&self, vlan: VlanId) -> bool {
        self.vlans.contains(vlan)
    }

    /// Where a packet in `vlan` for `destination` goes; `None`: no route leads there.
    #[inline]
    #[must_use]
    pub fn next_hop(&self, vlan: VlanId, destination: Ipv4Addr) -> Option<NextHop> {
        self.find(vlan, destination).map(|(_, hop)| hop)
    }

    fn find(&self, vlan: VlanId, destination: Ipv4Addr) -> Option<(u8, NextHop)> {
        self.routes.iter().find_map(|(bits, routes)| {
            Some((*bits, *routes.get(&(vlan, Ipv4Prefix::of(destination, *bits).network()))?))
        })
    }

    /// Whether a packet is for the bridge's own port itself.
    #[must_use]
    pub fn is_own(&self, address: Ipv4Addr) -> bool {
        self.gateway.addresses.iter().any(|(own, _)| *own == address)
    }

    /// Whether it answers in `vlan` to a request for `address`: [`ANYCAST`], and what is behind a layer-3 tunnel by a
    /// route that says where. A default route is none that does: what it leads to may as well be on the bridge.
    #[must_use]
    pub fn answers_for(&self, vlan: VlanId, address: Ipv4Addr) -> bool {
        let behind = || self.find(vlan, address).is_some_and(|(bits, hop)| bits > 0 && hop != NextHop::Host);
        !self.is_own(address) && (address == ANYCAST || behind())
    }

    /// The address that it asks for `target` from: of the bridge's own addresses the one in the same network, else any;
    /// 0.0.0.0 if there is none. Stations answer that as well, and learn nothing wrong from it.
    #[must_use]
    pub fn asks_from(&self, target: Ipv4Addr) -> Ipv4Addr {
        let near = |&(own, bits): &(Ipv4Addr, u8)| Ipv4Prefix::of(own, bits).contains(target);
        let addresses = &self.gateway.addresses;
        let found = addresses.iter().copied().find(near).or_else(|| addresses.first().copied());
        found.map_or(Ipv4Addr::UNSPECIFIED, |(own, _)| own)
    }
}

/// The VLAN of a port's untagged frames. A layer-3 tunnel has no others.
#[must_use]
pub fn native(mode: &VlanMode) -> VlanId {
    match mode {
        VlanMode::Access(vlan) | VlanMode::NativeTagged(vlan, _) | VlanMode::NativeUntagged(vlan, _) => *vlan,
        VlanMode::Trunk(_) => VlanId::UNTAGGED,
        VlanMode::Dot1qTunnel(service) => service.vlan,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Caps;
    use crate::tunnel::{Protocol, Remotes, Route, Tunnel};
    use crate::types::{BridgeId, DeviceId, RemoteIndex, TunnelKey};
    use std::net::IpAddr;

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn tunnel(id: u32, vlan: u16, routes: &[(&str, &str)]) -> Port {
        let mut tunnel = Tunnel::new(Protocol::Ipip, "192.0.2.2:0".parse().unwrap(), TunnelKey(0));
        if !routes.is_empty() {
            tunnel.remotes = Some(Remotes::new(["192.0.2.2", "192.0.2.3"].map(|end| end.parse().unwrap())));
        }
        let route = |(to, via): &(&str, &str)| Route { to: to.parse().unwrap(), via: via.parse::<IpAddr>().unwrap() };
        tunnel.routes = routes.iter().map(route).collect();
        let vlan = VlanMode::Access(VlanId::new(vlan).unwrap());
        Port { tunnel: Some(tunnel), vlan, ..Port::new(PortId(id), BridgeId(0), DeviceId(0), Caps::NONE) }
    }

    fn own() -> Port {
        Port::new(PortId(0), BridgeId(0), DeviceId(1), Caps::ALL)
    }

    fn router(addresses: &[(&str, u8)], ports: &[Port]) -> Option<Router> {
        let addresses = addresses.iter().map(|(address, bits)| (ip(address), *bits)).collect();
        Router::of(&Gateway { mac: MacAddr([2, 0, 0, 0, 0, 0xfe]), addresses }, Some(&own()), ports.iter())
    }

    fn through(port: u32, remote: u16) -> Option<NextHop> {
        Some(NextHop::Tunnel(Place { port: PortId(port), remote: RemoteIndex(remote) }))
    }

    const V0: VlanId = VlanId::UNTAGGED;

    #[test]
    fn the_longest_prefix_decides_and_ends_that_are_not_there_are_left_out() {
        let routes = [
            ("192.168.0.0/16", "192.0.2.2"),
            ("192.168.11.0/24", "192.0.2.3"),
            ("192.168.11.7", "192.0.2.2"),
            ("10.0.0.0/8", "192.0.2.9"),
        ];
        let ports = [tunnel(1, 0, &routes), tunnel(2, 7, &[("10.0.0.0/8", "192.0.2.3")])];
        let r = router(&[("192.168.10.1", 24)], &ports).unwrap();
        for (destination, hop) in [
            ("192.168.12.1", through(1, 0)),
            ("192.168.11.1", through(1, 1)),
            ("192.168.11.7", through(1, 0)),
            ("192.168.10.1", Some(NextHop::Host)),
            ("192.168.10.99", Some(NextHop::Host)),
            ("10.0.0.1", None),
        ] {
            assert_eq!(r.next_hop(V0, ip(destination)), hop, "{destination}");
        }
        let v7 = VlanId::new(7).unwrap();
        assert_eq!(r.next_hop(v7, ip("10.0.0.1")), through(2, 1));
        assert_eq!(r.next_hop(v7, ip("192.168.10.1")), None, "the bridge's own port is not there");
        assert_eq!([V0, v7, VlanId::new(8).unwrap()].map(|vlan| r.serves(vlan)), [true, true, false]);
    }

    #[test]
    fn without_routes_everything_goes_to_the_one_end_but_for_what_is_the_hosts() {
        let r = router(&[("192.168.10.1", 24)], &[tunnel(1, 0, &[])]).unwrap();
        assert_eq!(r.next_hop(V0, ip("8.8.8.8")), through(1, 0));
        assert_eq!(r.next_hop(V0, ip("192.168.10.2")), Some(NextHop::Host));
        let answers = ["169.254.1.1", "8.8.8.8", "192.168.10.1"].map(|address| r.answers_for(V0, ip(address)));
        assert_eq!(answers, [true, false, false]);
        assert!(router(&[("192.168.10.1", 24)], &[own()]).is_none(), "no layer-3 tunnel, no router");
    }

    #[test]
    fn it_answers_for_what_its_routes_name() {
        let routes = [("192.168.0.0/16", "192.0.2.2"), ("0.0.0.0/0", "192.0.2.3")];
        let r = router(&[("192.168.10.1", 24)], &[tunnel(1, 0, &routes)]).unwrap();
        let answers = |address| r.answers_for(V0, ip(address));
        assert!(answers("192.168.11.10") && answers("169.254.1.1"));
        assert!(!answers("192.168.10.10") && !answers("192.168.10.1") && !answers("8.8.8.8"));
    }

    #[test]
    fn it_asks_from_the_nearest_of_its_addresses() {
        let tunnels = [tunnel(1, 0, &[])];
        let r = router(&[("10.0.0.1", 8), ("192.168.10.1", 24)], &tunnels).unwrap();
        assert_eq!(
            [ip("192.168.10.9"), ip("172.16.0.1")].map(|t| r.asks_from(t)),
            [ip("192.168.10.1"), ip("10.0.0.1")]
        );
        assert_eq!(router(&[], &tunnels).unwrap().asks_from(ip("10.0.0.9")), Ipv4Addr::UNSPECIFIED);
    }
}
