//! Which way the kernel sends packets to a tunnel's remote end.
//!
//! The kernel tells nobody when it learns or forgets a path MTU, nor of IPv4 routes that go with their link; so routes
//! are asked for again whenever anything about links, addresses or routes changes, and from time to time.

use futures::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

/// Where a tunnel goes: its remote end, and its own address where it names one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Path {
    /// The remote end.
    pub remote: IpAddr,
    /// Our own address, if the tunnel names one.
    pub local: Option<IpAddr>,
}

/// The kernel's answer for a [`Path`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Route {
    /// Out of an interface.
    Via {
        /// The interface it leaves by.
        ifindex: u32,
        /// The route's own MTU where it is smaller than the interface's (set by hand, or learned).
        mtu: Option<u32>,
        /// The address that packets are from, where they name none.
        source: Option<IpAddr>,
    },
    /// The remote end is this host.
    Local,
    /// There is no way, in the kernel's words.
    None(String),
}

/// The routes of the paths in use.
pub type Routes = BTreeMap<Path, Route>;

/// Asks the kernel.
pub async fn lookup(handle: &Handle, path: Path) -> Route {
    let mut replies = std::pin::pin!(handle.route().get(question(path)).execute());
    match replies.try_next().await {
        Ok(Some(m)) => answer(&m),
        Ok(None) => Route::None("the kernel gave no answer".to_owned()),
        Err(rtnetlink::Error::NetlinkError(e)) => Route::None(plain(&e.to_io())),
        Err(e) => Route::None(e.to_string()),
    }
}

/// The text of an error of the operating system, without its number.
fn plain(e: &io::Error) -> String {
    let text = e.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// The question for a path.
pub(super) fn question(path: Path) -> RouteMessage {
    let mut m = RouteMessage::default();
    let bits = if path.remote.is_ipv4() { 32 } else { 128 };
    m.header.address_family = if path.remote.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    m.header.destination_prefix_length = bits;
    m.attributes.push(RouteAttribute::Destination(path.remote.into()));
    if let Some(local) = path.local {
        m.header.source_prefix_length = bits;
        m.attributes.push(RouteAttribute::Source(local.into()));
    }
    m
}

fn answer(m: &RouteMessage) -> Route {
    let (mut oif, mut mtu, mut source) = (None, None, None);
    for attribute in &m.attributes {
        match attribute {
            RouteAttribute::Oif(ifindex) => oif = Some(*ifindex),
            RouteAttribute::PrefSource(RouteAddress::Inet(ip)) => source = Some((*ip).into()),
            RouteAttribute::PrefSource(RouteAddress::Inet6(ip)) => source = Some((*ip).into()),
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|m| match m {
                    RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    match (m.header.kind, oif) {
        (RouteType::Local, _) => Route::Local,
        (RouteType::Unicast, Some(ifindex)) => Route::Via { ifindex, mtu, source },
        (kind, _) => Route::None(format!("the route is of type {kind:?}").to_lowercase()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(kind: RouteType, attributes: Vec<RouteAttribute>) -> RouteMessage {
        let mut m = RouteMessage::default();
        m.header.kind = kind;
        m.attributes = attributes;
        m
    }

    #[test]
    fn answers() {
        let oif = || RouteAttribute::Oif(4);
        let mtu = RouteAttribute::Metrics(vec![RouteMetric::Hoplimit(9), RouteMetric::Mtu(1400)]);
        assert_eq!(answer(&reply(RouteType::Unicast, vec![oif()])), Route::Via { ifindex: 4, mtu: None, source: None });
        assert_eq!(
            answer(&reply(RouteType::Unicast, vec![oif(), mtu])),
            Route::Via { ifindex: 4, mtu: Some(1400), source: None }
        );
        assert_eq!(answer(&reply(RouteType::Local, vec![oif()])), Route::Local);
        assert_eq!(
            answer(&reply(RouteType::BlackHole, vec![])),
            Route::None("the route is of type blackhole".to_owned())
        );
    }

    #[test]
    fn the_question_names_the_source_only_when_the_tunnel_does() {
        let path = Path { remote: "192.0.2.2".parse().unwrap(), local: None };
        assert_eq!(question(path).attributes.len(), 1);
        let path = Path { local: Some("192.0.2.1".parse().unwrap()), ..path };
        let m = question(path);
        assert_eq!((m.header.destination_prefix_length, m.header.source_prefix_length), (32, 32));
        assert_eq!(m.attributes.len(), 2);
    }
}
