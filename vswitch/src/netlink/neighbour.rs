//! The next hop on the way to a tunnel's remote end, and whether it answers to ARP or neighbour discovery.
//!
//! Asked for when somebody wants to know, never followed.

use super::route::{Path, question};
use futures::TryStreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Where packets to a remote end are handed to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Hop {
    /// The gateway, or the end itself if it is on the link.
    pub address: IpAddr,
    /// The device that they leave by.
    pub ifindex: u32,
}

/// The next hops of those of `paths` that have one, with whether the kernel has asked for their hardware address in vain.
pub async fn hops(
    handle: &Handle,
    paths: impl IntoIterator<Item = Path>,
) -> Result<BTreeMap<Path, (Hop, bool)>, rtnetlink::Error> {
    let mut mute = Vec::new();
    let mut neighbours = std::pin::pin!(handle.neighbours().get().execute());
    while let Some(message) = neighbours.try_next().await? {
        mute.extend(mute_hop(&message));
    }
    let mut hops = BTreeMap::new();
    for path in paths {
        let mut replies = std::pin::pin!(handle.route().get(question(path)).execute());
        // Without a way there is no hop; that is told elsewhere.
        if let Ok(Some(message)) = replies.try_next().await
            && let Some(hop) = hop(path.remote, &message)
        {
            hops.insert(path, (hop, mute.contains(&hop)));
        }
    }
    Ok(hops)
}

/// The neighbour in a message if it does not answer. One that was asked for a moment ago and has not answered yet looks
/// the same.
fn mute_hop(message: &NeighbourMessage) -> Option<Hop> {
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })?;
    let mute = matches!(message.header.state, NeighbourState::Incomplete | NeighbourState::Failed);
    mute.then_some(Hop { address, ifindex: message.header.ifindex })
}

fn hop(remote: IpAddr, message: &RouteMessage) -> Option<Hop> {
    let (mut address, mut ifindex) = (remote, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => address = (*ip).into(),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => address = (*ip).into(),
            RouteAttribute::Oif(index) => ifindex = Some(*index),
            _ => {}
        }
    }
    Some(Hop { address, ifindex: ifindex? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer() {
        let neighbour = |state| {
            let mut message = NeighbourMessage::default();
            (message.header.state, message.header.ifindex) = (state, 4);
            let address = NeighbourAddress::Inet([192, 0, 2, 2].into());
            message.attributes.push(NeighbourAttribute::Destination(address));
            mute_hop(&message)
        };
        let hop = Hop { address: [192, 0, 2, 2].into(), ifindex: 4 };
        assert_eq!(neighbour(NeighbourState::Failed), Some(hop));
        assert_eq!(neighbour(NeighbourState::Incomplete), Some(hop));
        assert_eq!(neighbour(NeighbourState::Stale), None);
        assert_eq!(mute_hop(&NeighbourMessage::default()), None);
    }

    #[test]
    fn the_gateway_or_the_end_itself() {
        let route = |attributes: Vec<RouteAttribute>| {
            let mut message = RouteMessage::default();
            message.attributes = attributes;
            hop([192, 0, 2, 2].into(), &message).map(|hop| (hop.address.to_string(), hop.ifindex))
        };
        let gateway = RouteAttribute::Gateway(RouteAddress::Inet([10, 0, 0, 1].into()));
        assert_eq!(route(vec![RouteAttribute::Oif(4)]), Some(("192.0.2.2".to_owned(), 4)));
        assert_eq!(route(vec![gateway, RouteAttribute::Oif(4)]), Some(("10.0.0.1".to_owned(), 4)));
        assert_eq!(route(vec![]), None);
    }
}
