//! Tunnels: which headers go before a frame and come off again, and what they cost.
//!
//! Pure: bytes and addresses in, bytes and addresses out. The kernel's UDP sockets add and remove Ethernet, IP and UDP,
//! so the underlay's routing, ARP and firewall apply as to any other traffic.
//!
//! An attacker on the underlay may send any bytes to the tunnel port: a packet is taken only when its VNI *and* its
//! sender belong to a configured port, everything else is counted and dropped.

pub mod vxlan;

use crate::types::{PortId, Vni};
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

/// The settings of a tunnel port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tunnel {
    /// VXLAN (RFC 7348).
    Vxlan(Vxlan),
}

impl Tunnel {
    /// Bytes of encapsulation before the inner frame in every datagram.
    #[must_use]
    pub const fn header_len(&self) -> usize {
        match self {
            Self::Vxlan(_) => crate::wire::vxlan::HEADER_LEN,
        }
    }
}

/// A VXLAN tunnel to one remote end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vxlan {
    /// Network identifier of frames sent.
    pub out_vni: Vni,
    /// Network identifier of frames accepted.
    pub in_vni: Vni,
    /// The other end's address and UDP port (IANA: 4789).
    pub remote: SocketAddr,
    /// Our own address; `None`: any, and the route decides what is sent from.
    pub local: Option<IpAddr>,
}

/// UDP port of VXLAN (RFC 7348 §8.1).
pub const VXLAN_PORT: u16 = 4789;

/// What identifies the tunnel port of a received packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DemuxKey {
    /// The UDP port it was received on.
    pub port: u16,
    /// Its network identifier.
    pub vni: Vni,
    /// Who sent it.
    pub remote: IpAddr,
    /// The address it was sent to, when the tunnel names one.
    pub local: Option<IpAddr>,
}

/// Received tunnel packet → port; most specific first (with local address, then without).
#[derive(Clone, Debug, Default)]
pub struct Demux {
    ports: HashMap<DemuxKey, PortId, foldhash::fast::RandomState>,
}

impl Demux {
    /// Adds a tunnel; the port that has the same key already, if any, and then nothing is changed.
    pub fn insert(&mut self, key: DemuxKey, port: PortId) -> Option<PortId> {
        match self.ports.entry(key) {
            std::collections::hash_map::Entry::Occupied(e) => Some(*e.get()),
            std::collections::hash_map::Entry::Vacant(e) => {
                e.insert(port);
                None
            }
        }
    }

    /// The port for a packet received on UDP port `port` at `local`.
    #[must_use]
    pub fn find(&self, port: u16, vni: Vni, remote: IpAddr, local: Option<IpAddr>) -> Option<PortId> {
        let key = |local| DemuxKey { port, vni, remote, local };
        local.and_then(|l| self.ports.get(&key(Some(l)))).or_else(|| self.ports.get(&key(None))).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_tunnel_wins_and_a_second_claim_is_refused() {
        let (remote, local) = ("192.0.2.2".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let vni = Vni::new(5000).unwrap();
        let key = |local| DemuxKey { port: VXLAN_PORT, vni, remote, local };
        let mut d = Demux::default();
        assert_eq!(d.insert(key(None), PortId(1)), None);
        assert_eq!(d.insert(key(Some(local)), PortId(2)), None);
        assert_eq!(d.insert(key(None), PortId(3)), Some(PortId(1)));
        assert_eq!(d.find(VXLAN_PORT, vni, remote, Some(local)), Some(PortId(2)));
        assert_eq!(d.find(VXLAN_PORT, vni, remote, None), Some(PortId(1)));
        assert_eq!(d.find(VXLAN_PORT, Vni::new(6000).unwrap(), remote, Some(local)), None);
        assert_eq!(d.find(8472, vni, remote, Some(local)), None);
    }
}
