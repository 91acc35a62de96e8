//! What fits where, and why: the MTU that a tunnel leaves to the frames inside it.

use crate::netlink::link::LinkTable;
use crate::netlink::route::Route;
use datapath::tunnel::Tunnel;
use datapath::types::L3Mtu;
use datapath::wire::{ethernet, ipv4, ipv6, udp};

/// Bytes that the tunnel takes from the underlay's MTU: the inner Ethernet header, its own, UDP's if there is one, and
/// the outer IP header. Every VLAN tag that an inner frame carries takes 4 more.
#[must_use]
pub fn overhead(tunnel: &Tunnel) -> u32 {
    let udp = if tunnel.protocol.udp_port().is_some() { udp::HEADER_LEN } else { 0 };
    let ip = if tunnel.remote.is_ipv4() { ipv4::MIN_HEADER_LEN } else { ipv6::HEADER_LEN };
    u32::try_from(ethernet::HEADER_LEN + tunnel.header_len() + udp + ip).unwrap_or(u32::MAX)
}

/// The largest layer-3 packet that the tunnel carries unfragmented: the MTU of the way to its remote end less the
/// overhead. `None` while there is no way, or none that is wide enough for anything.
#[must_use]
pub fn of_tunnel(tunnel: &Tunnel, route: &Route, links: &LinkTable) -> Option<L3Mtu> {
    let Route::Via { ifindex, mtu } = route else { return None };
    let link = links.by_index(*ifindex).map(|l| l.mtu).filter(|&m| m > 0);
    let underlay = match (link, *mtu) {
        (Some(link), Some(route)) => link.min(route),
        (Some(one), None) | (None, Some(one)) => one,
        (None, None) => return None,
    };
    underlay.checked_sub(overhead(tunnel)).filter(|&m| m > 0).map(L3Mtu)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::link::tests::veth;
    use datapath::tunnel::Protocol;
    use datapath::types::TunnelKey;
    use rtnetlink::packet_route::RouteNetlinkMessage;

    fn of(protocol: Protocol, remote: &str) -> Tunnel {
        let ip = remote.parse::<std::net::IpAddr>().unwrap();
        Tunnel::new(protocol, (ip, protocol.udp_port().unwrap_or(0)).into(), TunnelKey(0))
    }

    fn tunnel(remote: &str) -> Tunnel {
        of(Protocol::Vxlan, remote)
    }

    #[test]
    fn the_cost_of_every_encapsulation() {
        let keyed = |t: Tunnel| Tunnel { out_key: TunnelKey(7), ..t };
        let summed = |t: Tunnel| Tunnel { checksum: true, ..t };
        let gre = |remote| of(Protocol::Gre, remote);
        for (remote, udp, plain) in [("192.0.2.2", 50, 38), ("2001:db8::2", 70, 58)] {
            assert_eq!(overhead(&of(Protocol::Vxlan, remote)), udp);
            assert_eq!(overhead(&of(Protocol::Geneve, remote)), udp);
            assert_eq!(overhead(&gre(remote)), plain);
            assert_eq!(overhead(&keyed(gre(remote))), plain + 4);
            assert_eq!(overhead(&summed(gre(remote))), plain + 4);
            assert_eq!(overhead(&summed(keyed(gre(remote)))), plain + 8);
        }
    }

    #[test]
    fn the_smaller_of_route_and_link_less_the_overhead() {
        let mut links = LinkTable::default();
        links.apply(&RouteNetlinkMessage::NewLink(veth(4, "eth0"))); // MTU 1500
        let (v4, v6) = (tunnel("192.0.2.2"), tunnel("2001:db8::2"));
        let via = |mtu| Route::Via { ifindex: 4, mtu };
        assert_eq!(of_tunnel(&v4, &via(None), &links), Some(L3Mtu(1450)));
        assert_eq!(of_tunnel(&v6, &via(None), &links), Some(L3Mtu(1430)));
        assert_eq!(of_tunnel(&v4, &via(Some(1400)), &links), Some(L3Mtu(1350)));
        assert_eq!(of_tunnel(&v4, &via(Some(9000)), &links), Some(L3Mtu(1450)));
        assert_eq!(of_tunnel(&v4, &via(Some(50)), &links), None);
        let unknown = Route::Via { ifindex: 5, mtu: None };
        assert_eq!(of_tunnel(&v4, &unknown, &links), None);
        assert_eq!(of_tunnel(&v4, &Route::Local, &links), None);
        assert_eq!(of_tunnel(&v4, &Route::None("Network is unreachable".into()), &links), None);
    }
}
