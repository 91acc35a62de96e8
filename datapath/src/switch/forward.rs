//! Where a frame goes: to the one port that its destination is behind, or to all that carry its VLAN.

use super::mac_table::MacTable;
use super::state::{Bridge, Port, Snapshot};
use super::verdict::DropReason;
use super::vlan;
use crate::time::Instant;
use crate::types::{MacAddr, PortId, VlanId};

/// The ports that a frame leaves by: at least one, all of them up, and never the one it came from.
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
        others.map(AsRef::as_ref).find(|port| port.is_open() && vlan::carries(&port.vlan, vlan))
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
            let first = snap.port(port).filter(|port| port.up).ok_or(DropReason::PortDown)?;
            if first.mirrors.output {
                return Err(DropReason::MirrorOutput);
            }
            Ok(Targets { first, rest: Flood { snap, ports: [].iter(), ingress, vlan } })
        }
        None => {
            let mut rest = Flood { snap, ports: bridge.ports.iter(), ingress, vlan };
            let first = rest.next().ok_or(DropReason::NoOutput)?;
            Ok(Targets { first, rest })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Caps;
    use crate::types::{BridgeId, DeviceId};
    use std::sync::Arc;

    const NOW: Instant = Instant::from_secs(1);
    const STATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);

    /// A bridge with a port for each of `up`, and a station that was last heard behind port 1.
    fn world(up: &[bool]) -> (Snapshot, Bridge, MacTable) {
        let port = |id, up| Port { up, ..Port::new(PortId(id), BridgeId(0), DeviceId(id), Caps::ALL) };
        let mut snap = Snapshot::default();
        snap.ports.extend((0..).zip(up).map(|(id, &up)| Some(Arc::new(port(id, up)))));
        let ports = snap.ports.iter().flatten().map(|p| p.id).collect();
        let bridge = Bridge { ports, ..Bridge::new(BridgeId(0)) };
        let mut table = MacTable::new(bridge.mac_aging, bridge.mac_table_size);
        table.learn(VlanId::UNTAGGED, STATION, PortId(1), NOW);
        (snap, bridge, table)
    }

    fn targets(up: &[bool], dst: MacAddr) -> Result<Vec<u32>, DropReason> {
        let (snap, bridge, table) = world(up);
        let targets = forward(&snap, &bridge, &table, PortId(0), VlanId::UNTAGGED, dst, NOW)?;
        Ok(std::iter::once(targets.first).chain(targets.rest).map(|port| port.id.0).collect())
    }

    #[test]
    fn only_ports_that_are_up_are_targets() {
        assert_eq!(targets(&[true, true, true], STATION), Ok(vec![1]));
        assert_eq!(targets(&[true, true, true], MacAddr::BROADCAST), Ok(vec![1, 2]));
        assert_eq!(targets(&[true, false, true], MacAddr::BROADCAST), Ok(vec![2]));
        assert_eq!(targets(&[true, false, false], MacAddr::BROADCAST), Err(DropReason::NoOutput));
        // Adopting a snapshot forgets who was behind a port that went; until then, nothing goes there.
        assert_eq!(targets(&[true, false, true], STATION), Err(DropReason::PortDown));
        assert_eq!(targets(&[true], STATION), Err(DropReason::PortDown));
    }
}
