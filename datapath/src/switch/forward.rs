//! Where a frame goes: to the one port that its destination is behind, or to all that carry its VLAN.

use super::mac_table::MacTable;
use super::state::{Bridge, Port, Snapshot};
use super::verdict::DropReason;
use super::vlan::{self, Tagging};
use crate::time::Instant;
use crate::types::{MacAddr, PortId, RemoteIndex, VlanId};

/// The ports that a frame leaves by: at least one, all of them up, and never the one it came from; from a protected port
/// never another one.
#[derive(Clone, Debug)]
pub struct Targets<'a> {
    /// The first, often the only one.
    pub first: &'a Port,
    /// The only remote end that it is for, at a tunnel that has several; `None`: all of them.
    pub remote: Option<RemoteIndex>,
    /// The others, when the frame is flooded.
    pub rest: Flood<'a>,
}

impl<'a> Targets<'a> {
    /// One port alone.
    #[inline]
    #[must_use]
    pub fn only(snap: &'a Snapshot, first: &'a Port, remote: RemoteIndex) -> Self {
        let (ingress, vlan) = (first.id, VlanId::UNTAGGED);
        let rest = Flood { snap, ports: [].iter(), ingress, protected: false, vlan, customer: vlan };
        Self { first, remote: Some(remote), rest }
    }
}

/// Every port of a bridge that is up, carries the VLAN and may be reached from the one that the frame came from.
#[derive(Clone, Debug)]
pub struct Flood<'a> {
    snap: &'a Snapshot,
    ports: std::slice::Iter<'a, PortId>,
    ingress: PortId,
    /// Whether that is protected.
    protected: bool,
    vlan: VlanId,
    customer: VlanId,
}

impl<'a> Iterator for Flood<'a> {
    type Item = &'a Port;

    #[inline]
    fn next(&mut self) -> Option<&'a Port> {
        let (snap, ingress, protected) = (self.snap, self.ingress, self.protected);
        let (vlan, customer) = (self.vlan, self.customer);
        let others = self.ports.by_ref().filter(|&&id| id != ingress).filter_map(|&id| snap.port(id));
        others.map(AsRef::as_ref).find(|port| {
            port.is_flooded() && vlan::carries(&port.vlan, vlan, customer) && !(protected && port.rules.protected)
        })
    }
}

/// Finds the ports for a frame to `dst`; its sender has been learned.
#[inline]
pub fn forward<'a>(
    snap: &'a Snapshot,
    bridge: &'a Bridge,
    table: &MacTable,
    ingress: &Port,
    tagging: &Tagging,
    dst: MacAddr,
    now: Instant,
) -> Result<Targets<'a>, DropReason> {
    let (vlan, customer, protected) = (tagging.vlan, tagging.customer(), ingress.rules.protected);
    let flooded = dst.is_group() || bridge.vlans.flood.contains(vlan);
    let known = if flooded { None } else { table.lookup(vlan, dst, now) };
    match known {
        Some(place) if place.port == ingress.id => Err(DropReason::Hairpin),
        Some(place) => {
            let first = snap.port(place.port).filter(|port| port.up).ok_or(DropReason::PortDown)?;
            if first.mirrors.output {
                return Err(DropReason::MirrorOutput);
            }
            if protected && first.rules.protected {
                return Err(DropReason::Protected);
            }
            // The address was learned in this VLAN, but perhaps with another customer's below it.
            if !vlan::carries(&first.vlan, vlan, customer) {
                return Err(DropReason::VlanNotAllowed);
            }
            // A static address may be there, but nothing that is bridged fits.
            if first.is_layer3() {
                return Err(DropReason::NotRouted);
            }
            Ok(Targets::only(snap, first, place.remote))
        }
        None => {
            let (ports, ingress) = (bridge.ports.iter(), ingress.id);
            let mut rest = Flood { snap, ports, ingress, protected, vlan, customer };
            let first = rest.next().ok_or(DropReason::NoOutput)?;
            Ok(Targets { first, remote: None, rest })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{Service, Trunks, VlanMode};
    use super::super::vlan::Stack;
    use super::*;
    use crate::port::Caps;
    use crate::types::{BridgeId, DeviceId, Place};
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
        table.learn(VlanId::UNTAGGED, STATION, Place::of(PortId(1)), NOW);
        (snap, bridge, table)
    }

    fn targets(up: &[bool], dst: MacAddr) -> Result<Vec<u32>, DropReason> {
        let (snap, bridge, table) = world(up);
        let port = Port { up: true, ..snap.ports[0].as_deref().unwrap().clone() };
        from(&port, (&snap, &bridge, &table), Stack::Plain, dst)
    }

    /// The ports that a frame in VLAN 0 goes to.
    fn from(
        port: &Port,
        (snap, bridge, table): (&Snapshot, &Bridge, &MacTable),
        stack: Stack,
        dst: MacAddr,
    ) -> Result<Vec<u32>, DropReason> {
        let tagging = Tagging { vlan: VlanId::UNTAGGED, tag: None, stack, below: 0 };
        let targets = forward(snap, bridge, table, port, &tagging, dst, NOW)?;
        Ok(std::iter::once(targets.first).chain(targets.rest).map(|port| port.id.0).collect())
    }

    fn change(snap: &mut Snapshot, port: usize, change: impl FnOnce(&mut Port)) {
        change(Arc::make_mut(snap.ports[port].as_mut().unwrap()));
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

    #[test]
    fn protected_ports_do_not_reach_each_other() {
        let (mut snap, bridge, table) = world(&[true; 4]);
        for port in [0, 1, 2] {
            change(&mut snap, port, |p| p.rules.protected = true);
        }
        let reached = |ingress: u32, dst| {
            let port = snap.port(PortId(ingress)).unwrap();
            from(port, (&snap, &bridge, &table), Stack::Plain, dst)
        };
        assert_eq!(reached(0, MacAddr::BROADCAST), Ok(vec![3]));
        assert_eq!(reached(0, STATION), Err(DropReason::Protected));
        assert_eq!(reached(3, MacAddr::BROADCAST), Ok(vec![0, 1, 2]));
        assert_eq!(reached(3, STATION), Ok(vec![1]));
    }

    #[test]
    fn in_a_flooded_vlan_a_known_address_is_flooded() {
        let (snap, mut bridge, table) = world(&[true; 3]);
        bridge.vlans.flood.insert(VlanId::UNTAGGED);
        let port = snap.port(PortId(0)).unwrap();
        assert_eq!(from(port, (&snap, &bridge, &table), Stack::Plain, STATION), Ok(vec![1, 2]));
    }

    #[test]
    fn a_known_address_gets_only_what_its_port_has_of_the_customer() {
        let (mut snap, bridge, table) = world(&[true; 3]);
        let customers = Trunks::Only([VlanId::new(7).unwrap()].into_iter().collect());
        let service = Service { vlan: VlanId::UNTAGGED, customers, tpid: 0x88a8 };
        change(&mut snap, 1, |p| p.vlan = VlanMode::Dot1qTunnel(service));
        let port = snap.port(PortId(0)).unwrap();
        let below = |vlan| Stack::Second(crate::wire::vlan::Tag { tpid: 0x8100, tci: vlan });
        assert_eq!(from(port, (&snap, &bridge, &table), below(7), STATION), Ok(vec![1]));
        assert_eq!(from(port, (&snap, &bridge, &table), below(8), STATION), Err(DropReason::VlanNotAllowed));
        assert_eq!(from(port, (&snap, &bridge, &table), Stack::Plain, STATION), Err(DropReason::VlanNotAllowed));
        assert_eq!(from(port, (&snap, &bridge, &table), below(8), MacAddr::BROADCAST), Ok(vec![2]));
    }
}
