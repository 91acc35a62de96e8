//! Which tunnels send TCP super-frames whole, for the kernel to cut, and what is told of those that do not. Pure.

use super::desired::{Desired, path};
use crate::config::Config;
use crate::netlink::link::LinkTable;
use crate::netlink::route::{Route, Routes};
use datapath::control::PortKind;
use datapath::tunnel::{Tunnel, WayOut};
use std::net::IpAddr;

/// The loopback device, by which they leave the switch.
const LOOPBACK: u32 = 1;
/// Where an interface's status tells who cuts super-frames.
const SEGMENTATION: &str = "segmentation";

impl Desired {
    /// Whether there are tunnels that can send super-frames whole, if nothing is in the way.
    #[must_use]
    pub fn may_send_whole(&self) -> bool {
        self.specs.ports.values().any(|spec| matches!(&spec.kind, PortKind::Tunnel(tunnel) if tunnel.may_send_whole()))
    }

    /// Has tunnels send super-frames whole that can; `rules` is what would not see them.
    pub fn set_ways_out(&mut self, config: &Config, links: &LinkTable, routes: &Routes, rules: Option<&str>) {
        for (_, interface) in config.interfaces() {
            let Some(spec) = self.specs.ports.get_mut(&interface.name) else { continue };
            let PortKind::Tunnel(tunnel) = &mut spec.kind else { continue };
            if tunnel.protocol.udp_port().is_some() {
                continue;
            }
            let way_out = way_out(tunnel, links, routes, rules);
            let told = match &way_out {
                Ok(_) => "kernel".to_owned(),
                Err(why) => format!("vswitch, which is slower: {why}"),
            };
            tunnel.way_out = way_out.ok();
            self.notes.entry(interface.uuid).or_default().insert(SEGMENTATION.to_owned(), told);
        }
    }
}

/// The way that a tunnel's super-frames take out of the host, or why they take none.
fn way_out(tunnel: &Tunnel, links: &LinkTable, routes: &Routes, rules: Option<&str>) -> Result<WayOut, String> {
    if !tunnel.may_send_whole() {
        return Err(why_never(tunnel).to_owned());
    }
    let Some(Route::Via { ifindex, source, .. }) = routes.get(&path(tunnel, tunnel.remote.ip())) else {
        return Err("there is no way to the other end".to_owned());
    };
    let (Some(IpAddr::V4(source)), Some(link)) = (tunnel.local.or(*source), links.by_index(*ifindex)) else {
        return Err("the route tells no source address".to_owned());
    };
    if let Some(rules) = rules {
        return Err(format!("{rules} would not see what the kernel cuts"));
    }
    if !link.ethernet {
        return Err(format!("{} carries no Ethernet frames", link.name));
    }
    if !links.by_index(LOOPBACK).is_some_and(|lo| lo.admin_up) {
        return Err("lo is down; 'ip link set lo up' helps".to_owned());
    }
    Ok(WayOut { ifindex: *ifindex, source })
}

/// Why the kernel cannot cut for such a tunnel, whatever the way.
fn why_never(tunnel: &Tunnel) -> &'static str {
    if tunnel.remote.is_ipv6() {
        "over IPv6"
    } else if tunnel.remotes.is_some() {
        "it has several other ends"
    } else if tunnel.dont_fragment {
        "csum=true"
    } else {
        "df_default=false"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::link::tests::veth;
    use datapath::tunnel::{Protocol, Remotes};
    use datapath::types::TunnelKey;
    use rtnetlink::packet_route::RouteNetlinkMessage;
    use rtnetlink::packet_route::link::LinkFlags;

    fn links(lo: bool) -> LinkTable {
        let mut table = LinkTable::default();
        let mut loopback = veth(1, "lo");
        loopback.header.flags = if lo { LinkFlags::Up | LinkFlags::LowerUp } else { LinkFlags::empty() };
        for m in [loopback, veth(4, "eth0")] {
            table.apply(&RouteNetlinkMessage::NewLink(m));
        }
        table
    }

    fn of(protocol: Protocol, remote: &str) -> Tunnel {
        Tunnel::new(protocol, (remote.parse::<IpAddr>().unwrap(), 0).into(), TunnelKey(0))
    }

    #[test]
    fn the_route_tells_the_device_and_the_source() {
        let source = |last| IpAddr::from([192, 0, 2, last]);
        let found = |tunnel: &Tunnel, source, lo, rules| {
            let route = Route::Via { ifindex: 4, mtu: None, source };
            let routes = [(path(tunnel, tunnel.remote.ip()), route)].into();
            way_out(tunnel, &links(lo), &routes, rules)
        };
        let gre = of(Protocol::Gre, "192.0.2.2");
        let expected = WayOut { ifindex: 4, source: [192, 0, 2, 1].into() };
        assert_eq!(found(&gre, Some(source(1)), true, None), Ok(expected));
        assert_eq!(found(&of(Protocol::Ipip, "192.0.2.2"), Some(source(1)), true, None), Ok(expected));
        let named = Tunnel { local: Some(source(9)), ..gre.clone() };
        assert_eq!(found(&named, None, true, None).unwrap().source, source(9));
        assert_eq!(found(&gre, Some(source(1)), false, None).unwrap_err(), "lo is down; 'ip link set lo up' helps");
        let why = found(&gre, Some(source(1)), true, Some("1 IPsec policies")).unwrap_err();
        assert_eq!(why, "1 IPsec policies would not see what the kernel cuts");
        assert_eq!(found(&gre, None, true, None).unwrap_err(), "the route tells no source address");
        for (tunnel, why) in [
            (of(Protocol::Gre, "2001:db8::2"), "over IPv6"),
            (Tunnel { checksum: true, ..gre.clone() }, "csum=true"),
            (Tunnel { dont_fragment: false, ..gre.clone() }, "df_default=false"),
            (
                Tunnel { remotes: Some(Remotes::new([source(2)])), ..of(Protocol::Ipip, "192.0.2.2") },
                "several other ends",
            ),
        ] {
            let told = found(&tunnel, Some(source(1)), true, None).unwrap_err();
            assert!(told.contains(why), "{told}");
        }
        let unreachable = [(path(&gre, source(2)), Route::None("no".into()))].into();
        assert!(way_out(&gre, &links(true), &unreachable, None).is_err());
    }
}
