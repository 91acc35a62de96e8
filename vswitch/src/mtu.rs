//! The MTU contract: what fits where, and why. Pure.
//!
//! A tunnel's MTU is what the way to its other end leaves ([`of_tunnel`]); what a bridge's ports make of each other's,
//! which MTU each gets from us and what to warn of, is settled in [`settle`].

pub mod limits;
pub mod settle;
pub mod strict;
pub mod warning;

use crate::netlink::link::LinkTable;
use crate::netlink::route::Route;
use datapath::tunnel::{Protocol, Tunnel};
use datapath::types::L3Mtu;
use datapath::wire::{ethernet, ipv4, ipv6, udp};
use std::net::IpAddr;

/// Bytes that the tunnel takes from the underlay's MTU: the inner Ethernet header if it carries that, its own, UDP's if
/// there is one, and the outer IP header. Every VLAN tag that an inner frame carries takes 4 more.
#[must_use]
pub fn overhead(tunnel: &Tunnel) -> u32 {
    let udp = if tunnel.protocol.udp_port().is_some() { udp::HEADER_LEN } else { 0 };
    let ip = if tunnel.remote.is_ipv4() { ipv4::MIN_HEADER_LEN } else { ipv6::HEADER_LEN };
    let ethernet = ethernet::HEADER_LEN - tunnel.stripped_len();
    u32::try_from(ethernet + tunnel.header_len() + udp + ip).unwrap_or(u32::MAX)
}

/// The largest layer-3 packet that the tunnel carries unfragmented: the MTU of the way to its remote end less the
/// overhead. `None` while there is no way, or none that is wide enough for anything.
#[must_use]
pub fn of_tunnel(tunnel: &Tunnel, route: &Route, links: &LinkTable) -> Option<L3Mtu> {
    underlay(route, links)?.checked_sub(overhead(tunnel)).filter(|&m| m > 0).map(L3Mtu)
}

/// The MTU of a way: the smaller of the route's own, set by hand or learned, and the device's.
fn underlay(route: &Route, links: &LinkTable) -> Option<u32> {
    let Route::Via { ifindex, mtu, .. } = route else { return None };
    let link = links.by_index(*ifindex).map(|l| l.mtu).filter(|&m| m > 0);
    link.into_iter().chain(*mtu).min()
}

/// Where the tunnel's MTU comes from, which the way to `end` decides.
#[must_use]
pub fn reason(tunnel: &Tunnel, end: IpAddr, route: &Route, links: &LinkTable) -> String {
    let Route::Via { ifindex, .. } = route else { return String::new() };
    let (underlay, link) = (underlay(route, links).unwrap_or_default(), links.by_index(*ifindex));
    let way = match link {
        Some(link) if link.mtu > underlay => {
            format!("path MTU to {end} by {}, whose own is {}", link.name, link.mtu)
        }
        Some(link) => format!("{}, way to {end}", link.name),
        None => format!("way to {end}"),
    };
    let ends = match tunnel.ends().count() {
        0 | 1 => String::new(),
        ends => format!(", the least of {ends} ways"),
    };
    let protocol = match tunnel.protocol {
        Protocol::Geneve => "Geneve".to_owned(),
        other => other.name().to_uppercase(),
    };
    let ip = if tunnel.remote.is_ipv4() { "IPv4" } else { "IPv6" };
    format!("{underlay} ({way}{ends}) less {} for {protocol} over {ip}", overhead(tunnel))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::link::tests::veth;
    use datapath::tunnel::Remotes;
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
            assert_eq!(overhead(&of(Protocol::Ipip, remote)), plain - 18);
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
        let via = |mtu| Route::Via { ifindex: 4, mtu, source: None };
        assert_eq!(of_tunnel(&v4, &via(None), &links), Some(L3Mtu(1450)));
        assert_eq!(of_tunnel(&v6, &via(None), &links), Some(L3Mtu(1430)));
        assert_eq!(of_tunnel(&v4, &via(Some(1400)), &links), Some(L3Mtu(1350)));
        assert_eq!(of_tunnel(&v4, &via(Some(9000)), &links), Some(L3Mtu(1450)));
        assert_eq!(of_tunnel(&v4, &via(Some(50)), &links), None);
        let unknown = Route::Via { ifindex: 5, mtu: None, source: None };
        assert_eq!(of_tunnel(&v4, &unknown, &links), None);
        assert_eq!(of_tunnel(&v4, &Route::Local, &links), None);
        assert_eq!(of_tunnel(&v4, &Route::None("Network is unreachable".into()), &links), None);
    }

    #[test]
    fn a_reason_names_the_way_and_the_cost() {
        let mut links = LinkTable::default();
        links.apply(&RouteNetlinkMessage::NewLink(veth(4, "eth0")));
        let told = |tunnel: &Tunnel, mtu| {
            reason(tunnel, tunnel.remote.ip(), &Route::Via { ifindex: 4, mtu, source: None }, &links)
        };
        let v4 = tunnel("192.0.2.2");
        assert_eq!(told(&v4, None), "1500 (eth0, way to 192.0.2.2) less 50 for VXLAN over IPv4");
        assert_eq!(
            told(&of(Protocol::Gre, "2001:db8::2"), Some(1400)),
            "1400 (path MTU to 2001:db8::2 by eth0, whose own is 1500) less 58 for GRE over IPv6"
        );
        let several = Remotes::new((2..4u8).map(|last| [192, 0, 2, last].into()));
        let several = Tunnel { remotes: Some(several), ..of(Protocol::Vxlan, "192.0.2.2") };
        assert_eq!(
            told(&several, Some(1500)),
            "1500 (eth0, way to 192.0.2.2, the least of 2 ways) less 50 for VXLAN over IPv4"
        );
    }
}
