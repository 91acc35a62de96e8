//! What fits where, and why: the MTU that a tunnel leaves to the frames inside it.

use crate::netlink::link::LinkTable;
use crate::netlink::route::Route;
use datapath::tunnel::{Vxlan, vxlan};
use datapath::types::L3Mtu;

/// Bytes that the tunnel adds between the underlay's layer 3 and the inner frame's.
#[must_use]
pub fn overhead(tunnel: &Vxlan) -> u32 {
    if tunnel.remote.is_ipv4() { vxlan::OVERHEAD_V4 } else { vxlan::OVERHEAD_V6 }
}

/// The largest layer-3 packet that the tunnel carries unfragmented: the MTU of the way to its remote end less the
/// overhead. `None` while there is no way, or none that is wide enough for anything.
#[must_use]
pub fn of_tunnel(tunnel: &Vxlan, route: &Route, links: &LinkTable) -> Option<L3Mtu> {
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
    use rtnetlink::packet_route::RouteNetlinkMessage;

    fn tunnel(remote: &str) -> Vxlan {
        Vxlan {
            out_vni: Default::default(),
            in_vni: Default::default(),
            remote: (remote.parse::<std::net::IpAddr>().unwrap(), 4789).into(),
            local: None,
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
