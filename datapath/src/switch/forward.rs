//! Where a frame goes: to the one port that its destination is behind, or to all that carry its VLAN.

use super::mac_table::MacTable;
use super::state::{Bridge, Port, Snapshot};
use super::verdict::DropReason;
use super::vlan;
use crate::time::Instant;
use crate::types::{MacAddr, PortId, VlanId};

/// The ports that a frame leaves by: at least one, and never the one it came from.
#[derive(Clone, Debug)]
pub struct Targets<'a> {
    /// The first, often the only one.
    pub first: &'a Port,
    /// The others, when the frame is flooded.
    pub rest: Flood<'a>,
}

/// Every port of a bridge that is up and carries the VLAN, but for the one that the frame came from.
#[derive(Clone, Debug)]
pub struct Flood<'a> {
    snap: &'a Snapshot,
    ports: std::slice::Iter<'a, PortId>,
    ingress: PortId,
    vlan: VlanId,
}

impl<'a> Iterator for Flood<'a> {
    type Item = &'a Port;

    #[inline]
    fn next(&mut self) -> Option<&'a Port> {
        let (snap, ingress, vlan) = (self.snap, self.ingress, self.vlan);
        let others = self.ports.by_ref().filter(|&&id| id != ingress).filter_map(|&id| snap.port(id));
        others.map(AsRef::as_ref).find(|port| port.up && vlan::carries(&port.vlan, vlan))
    }
}

/// Finds the ports for a frame to `dst` in `vlan`; its sender has been learned.
#[inline]
pub fn forward<'a>(
    snap: &'a Snapshot,
    bridge: &'a Bridge,
    table: &MacTable,
    ingress: PortId,
    vlan: VlanId,
    dst: MacAddr,
    now: Instant,
) -> Result<Targets<'a>, DropReason> {
    let known = if dst.is_group() { None } else { table.lookup(vlan, dst, now) };
    match known {
        Some(port) if port == ingress => Err(DropReason::Hairpin),
        Some(port) => {
            let first = snap.port(port).ok_or(DropReason::PortDown)?;
            Ok(Targets { first, rest: Flood { snap, ports: [].iter(), ingress, vlan } })
        }
        None => {
            let mut rest = Flood { snap, ports: bridge.ports.iter(), ingress, vlan };
            let first = rest.next().ok_or(DropReason::NoOutput)?;
            Ok(Targets { first, rest })
        }
    }
}
