//! Received tunnel packet → port.
//!
//! Most specific first, as Open vSwitch does: a tunnel that names its own address before one that does not. The key and
//! the remote end are always matched; different protocols and UDP ports never meet.

use super::{Endpoint, Tunnel};
use crate::types::{PortId, TunnelKey};
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
    /// That of the packets that `tunnel` receives.
    #[must_use]
    pub const fn of(tunnel: &Tunnel) -> Self {
        Self { endpoint: tunnel.endpoint(), key: tunnel.in_key, remote: tunnel.remote.ip(), local: tunnel.local }
    }
}

/// All tunnels.
#[derive(Clone, Debug, Default)]
pub struct Demux {
    ports: HashMap<DemuxKey, PortId, foldhash::fast::RandomState>,
}

impl Demux {
    /// Adds a tunnel; the port that has the same key already, if any, and then nothing is changed.
    pub fn insert(&mut self, key: DemuxKey, port: PortId) -> Option<PortId> {
        match self.ports.entry(key) {
            Entry::Occupied(e) => Some(*e.get()),
            Entry::Vacant(e) => {
                e.insert(port);
                None
            }
        }
    }

    /// The port for a packet received at `local`.
    #[must_use]
    pub fn find(&self, endpoint: Endpoint, key: TunnelKey, remote: IpAddr, local: Option<IpAddr>) -> Option<PortId> {
        let key = |local| DemuxKey { endpoint, key, remote, local };
        local.and_then(|l| self.ports.get(&key(Some(l)))).or_else(|| self.ports.get(&key(None))).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::Protocol;

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
        assert_eq!(d.insert(DemuxKey::of(&any), PortId(1)), None);
        assert_eq!(d.insert(DemuxKey::of(&named), PortId(2)), None);
        assert_eq!(d.insert(DemuxKey::of(&any), PortId(3)), Some(PortId(1)));
        let find = |endpoint, key, local| d.find(endpoint, TunnelKey(key), REMOTE.into(), local);
        assert_eq!(find(any.endpoint(), 5000, Some(LOCAL.into())), Some(PortId(2)));
        assert_eq!(find(any.endpoint(), 5000, Some([192, 0, 2, 9].into())), Some(PortId(1)));
        assert_eq!(find(any.endpoint(), 5000, None), Some(PortId(1)));
        assert_eq!(find(any.endpoint(), 6000, Some(LOCAL.into())), None);
        assert_eq!(find(Endpoint { port: 8472, ..any.endpoint() }, 5000, None), None);
        assert_eq!(d.find(any.endpoint(), TunnelKey(5000), LOCAL.into(), None), None);
    }

    #[test]
    fn different_protocols_never_meet() {
        let protocols = [Protocol::Vxlan, Protocol::Geneve, Protocol::Gre];
        let mut d = Demux::default();
        for (protocol, port) in protocols.into_iter().zip(1..) {
            // One UDP port for all would not make a difference.
            let tunnel = Tunnel { remote: (REMOTE, 4789).into(), ..tunnel(protocol) };
            assert_eq!(d.insert(DemuxKey::of(&tunnel), PortId(port)), None);
        }
        for (protocol, port) in protocols.into_iter().zip(1..) {
            let endpoint = Endpoint { protocol, port: 4789, ipv6: false };
            assert_eq!(d.find(endpoint, TunnelKey(5000), REMOTE.into(), None), Some(PortId(port)));
        }
    }
}
