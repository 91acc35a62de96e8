//! Received tunnel packet → port.
//!
//! Most specific first, as Open vSwitch does: a tunnel that names its own address before one that does not. The key and
//! the remote end are always matched; different protocols and UDP ports never meet.

use super::{Endpoint, Tunnel};
use crate::packet::Outer;
use crate::types::{Place, PortId, RemoteIndex, TunnelKey};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;

/// What identifies the tunnel port of a received packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DemuxKey {
    /// What it was received on.
    pub endpoint: Endpoint,
    /// Its key.
    pub key: TunnelKey,
    /// Who sent it.
    pub remote: IpAddr,
    /// The address it was sent to, when the tunnel names one.
    pub local: Option<IpAddr>,
}

impl DemuxKey {
    /// Those of the packets that `tunnel` receives, one for each of its other ends.
    pub fn of(tunnel: &Tunnel) -> impl Iterator<Item = (Self, RemoteIndex)> + '_ {
        let (endpoint, key, local) = (tunnel.endpoint(), tunnel.in_key, tunnel.local);
        tunnel.ends().map(move |(index, remote)| (Self { endpoint, key, remote, local }, index))
    }
}

/// All tunnels.
#[derive(Clone, Debug, Default)]
pub struct Demux {
    places: HashMap<DemuxKey, Place, foldhash::fast::RandomState>,
}

impl Demux {
    /// Adds a tunnel; the port that has one of its keys already, if any, which then keeps it.
    pub fn insert(&mut self, tunnel: &Tunnel, port: PortId) -> Option<PortId> {
        let mut taken = None;
        for (key, remote) in DemuxKey::of(tunnel) {
            match self.places.entry(key) {
                Entry::Occupied(e) => taken = taken.or(Some(e.get().port)),
                Entry::Vacant(e) => drop(e.insert(Place { port, remote })),
            }
        }
        taken
    }

    /// The port for a packet received at `local`, and which of its ends has sent it.
    #[must_use]
    pub fn find(&self, endpoint: Endpoint, key: TunnelKey, remote: IpAddr, local: Option<IpAddr>) -> Option<Place> {
        let key = |local| DemuxKey { endpoint, key, remote, local };
        local.and_then(|l| self.places.get(&key(Some(l)))).or_else(|| self.places.get(&key(None))).copied()
    }

    /// Looks up the packets of a batch, all received on `endpoint`.
    #[must_use]
    pub const fn finder(&self, endpoint: Endpoint) -> Finder<'_> {
        Finder { demux: self, endpoint, last: None }
    }
}

/// Finds the ports of a batch's packets: most are for the port of the one before.
#[derive(Debug)]
pub struct Finder<'a> {
    demux: &'a Demux,
    endpoint: Endpoint,
    last: Option<(DemuxKey, Place)>,
}

impl Finder<'_> {
    /// What the packets were received on.
    #[must_use]
    pub const fn endpoint(&self) -> Endpoint {
        self.endpoint
    }

    /// The port for a packet with this key, and which of its ends has sent it; see [`Demux::find`].
    #[inline]
    pub fn find(&mut self, key: TunnelKey, outer: &Outer) -> Option<Place> {
        if let Some((last, place)) = &self.last
            && (last.key, &last.remote, &last.local) == (key, &outer.remote, &outer.local)
        {
            return Some(*place);
        }
        let Outer { remote, local, .. } = *outer;
        let place = self.demux.find(self.endpoint, key, remote, local)?;
        self.last = Some((DemuxKey { endpoint: self.endpoint, key, remote, local }, place));
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::{Protocol, Remotes};

    const LOCAL: [u8; 4] = [192, 0, 2, 1];
    const REMOTE: [u8; 4] = [192, 0, 2, 2];

    fn tunnel(protocol: Protocol) -> Tunnel {
        Tunnel::new(protocol, (REMOTE, protocol.udp_port().unwrap_or(0)).into(), TunnelKey(5000))
    }

    #[test]
    fn the_most_specific_tunnel_wins_and_a_second_claim_is_refused() {
        let any = tunnel(Protocol::Vxlan);
        let named = Tunnel { local: Some(LOCAL.into()), ..any.clone() };
        let mut d = Demux::default();
        assert_eq!(d.insert(&any, PortId(1)), None);
        assert_eq!(d.insert(&named, PortId(2)), None);
        assert_eq!(d.insert(&any, PortId(3)), Some(PortId(1)));
        let find =
            |endpoint, key, local| d.find(endpoint, TunnelKey(key), REMOTE.into(), local).map(|place| place.port);
        assert_eq!(find(any.endpoint(), 5000, Some(LOCAL.into())), Some(PortId(2)));
        assert_eq!(find(any.endpoint(), 5000, Some([192, 0, 2, 9].into())), Some(PortId(1)));
        assert_eq!(find(any.endpoint(), 5000, None), Some(PortId(1)));
        assert_eq!(find(any.endpoint(), 6000, Some(LOCAL.into())), None);
        let mut finder = d.finder(any.endpoint());
        for (key, local) in [(5000, LOCAL), (5000, LOCAL), (5000, [192, 0, 2, 9]), (6000, LOCAL), (5000, LOCAL)] {
            let outer = Outer { local: Some(local.into()), ..Outer::to((REMOTE, 0).into()) };
            let found = finder.find(TunnelKey(key), &outer);
            assert_eq!(found.map(|place| place.port), find(any.endpoint(), key, Some(local.into())));
        }
        assert_eq!(find(Endpoint { port: 8472, ..any.endpoint() }, 5000, None), None);
        assert_eq!(d.find(any.endpoint(), TunnelKey(5000), LOCAL.into(), None), None);
    }

    #[test]
    fn each_of_several_ends_has_its_index_and_nobody_else_is_taken() {
        let ip = |last| [192, 0, 2, last].into();
        let several = Tunnel { remotes: Some(Remotes::new([2, 3].map(ip))), ..tunnel(Protocol::Vxlan) };
        let mut d = Demux::default();
        assert_eq!(d.insert(&several, PortId(1)), None);
        let find = |last| d.find(several.endpoint(), TunnelKey(5000), ip(last), None);
        let place = |remote| Some(Place { port: PortId(1), remote: RemoteIndex(remote) });
        assert_eq!([2, 3, 4].map(find), [place(0), place(1), None]);
        assert_eq!(d.insert(&tunnel(Protocol::Vxlan), PortId(2)), Some(PortId(1)), "one that is among them");
    }

    #[test]
    fn different_protocols_never_meet() {
        let protocols = [Protocol::Vxlan, Protocol::Geneve, Protocol::Gre];
        let mut d = Demux::default();
        for (protocol, port) in protocols.into_iter().zip(1..) {
            // One UDP port for all would not make a difference.
            let tunnel = Tunnel { remote: (REMOTE, 4789).into(), ..tunnel(protocol) };
            assert_eq!(d.insert(&tunnel, PortId(port)), None);
        }
        for (protocol, port) in protocols.into_iter().zip(1..) {
            let endpoint = Endpoint { protocol, port: 4789, ipv6: false };
            assert_eq!(d.find(endpoint, TunnelKey(5000), REMOTE.into(), None), Some(Place::of(PortId(port))));
        }
    }
}
