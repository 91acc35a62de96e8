//! What a bridge has learned: which port an address is behind, and which hardware address an IPv4 address has.
//!
//! One for each bridge, behind a lock, shared by all workers. A worker takes the lock for a frame of no known flow, for a
//! table look-up or two, and gives it back before the frame leaves; frames of known flows go by the worker's own
//! [`super::flow_cache`]. Whatever may make another worker's cache wrong is told to all of them by [`super::shared`].
//!
//! Workers take a new snapshot over one after the other. The first one brings this up to date; until the others have
//! followed, they teach it nothing, for where a port was may be wrong by now.

use super::mac_table::{Lesson, MacTable};
use super::neighbours::Neighbours;
use super::state::{Bridge, Port, Snapshot};
use super::verdict::DropReason;
use crate::time::{Duration, Instant};
use crate::tunnel::Remotes;
use crate::types::{MacAddr, Place, VlanId};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What one bridge has learned.
#[derive(Debug)]
pub struct Learned {
    /// The generation of the newest snapshot that a worker has taken over.
    generation: u64,
    /// Where addresses are.
    pub table: MacTable,
    /// What the bridge's router knows of stations, and the packets that wait to know it.
    pub neighbours: Neighbours,
}

impl Default for Learned {
    fn default() -> Self {
        // The first snapshot says how large the table may be, and how long what is in it holds.
        Self { generation: 0, table: MacTable::new(Duration::ZERO, 0), neighbours: Neighbours::default() }
    }
}

/// The handle that the snapshots' bridges have on it; it stays the same from snapshot to snapshot.
#[derive(Clone, Debug, Default)]
pub struct SharedLearned(Arc<Mutex<Learned>>);

impl SharedLearned {
    /// Nobody else looks or learns until the guard is dropped. A panic elsewhere leaves the tables usable.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, Learned> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Learned {
    /// Whether another worker forwards by a newer snapshot than `snap`.
    #[inline]
    #[must_use]
    pub fn is_ahead_of(&self, snap: &Snapshot) -> bool {
        self.generation > snap.generation
    }

    /// Takes note that `mac` sent in `vlan` from `place`, as it is in `snap`.
    #[inline]
    pub fn learn(&mut self, snap: &Snapshot, vlan: VlanId, mac: MacAddr, place: Place, now: Instant) -> Lesson {
        if self.is_ahead_of(snap) { Lesson::Fine } else { self.table.learn(vlan, mac, place, now) }
    }

    /// Goes over from `was` to `snap`, unless another worker has had it do so: forgets the addresses of ports that are gone,
    /// down, or no longer lead where they led, and applies new limits.
    pub(super) fn follow(&mut self, bridge: &Bridge, was: &Snapshot, snap: &Snapshot, now: Instant) {
        if self.generation >= snap.generation {
            return;
        }
        self.generation = snap.generation;
        let table = &mut self.table;
        if was.bridge(bridge.id).is_some_and(|was| was.vlans != bridge.vlans) {
            table.flush();
        }
        table.flush_ports(|port| !same_place(was.port(port), snap.port(port)));
        for port in bridge.ports.iter().filter_map(|&id| snap.port(id)) {
            follow_remotes(table, was.port(port.id), port);
        }
        table.configure(bridge.mac_aging, bridge.mac_table_size);
        if was.bridge(bridge.id).is_none_or(|was| was.statics != bridge.statics) {
            table.set_statics(&bridge.statics);
        }
        table.sweep(now);
    }

    /// Drops the packets that wait for an answer to ARP and came in by ports that are not in `snap`; they are counted
    /// where they came in.
    pub(super) fn drop_waiting(&mut self, was: &Snapshot, snap: &Snapshot) {
        for frame in self.neighbours.without(|port| snap.port(port).is_none()) {
            if let Some(port) = was.port(frame.meta.ingress.port) {
                port.counters.drops.add(DropReason::PortDown, 1);
            }
        }
    }
}

/// Whether addresses learned at the port as it was are still right for the port as it is.
fn same_place(was: Option<&Arc<Port>>, is: Option<&Arc<Port>>) -> bool {
    let (Some(was), Some(is)) = (was, is) else { return false };
    let same_tunnel = match (&was.tunnel, &is.tunnel) {
        (None, None) => true,
        (Some(was), Some(is)) => was.is_same_but_for_ends(is),
        _ => false,
    };
    is.is_open() && was.bridge == is.bridge && was.vlan == is.vlan && same_tunnel && was.peer == is.peer
}

/// Has what was learned at a tunnel follow its remote ends when there are others.
fn follow_remotes(table: &mut MacTable, was: Option<&Arc<Port>>, is: &Port) {
    if let Some((was, is_now)) = was.and_then(|was| other_remotes(was, is)) {
        table.renumber(is.id, |index| is_now.index_of(was.get(index)?));
    }
}

/// The remote ends that a tunnel had and those that it has, when they are others.
pub(super) fn other_remotes<'a>(was: &'a Port, is: &'a Port) -> Option<(&'a Remotes, &'a Remotes)> {
    let remotes = |port: &'a Port| port.tunnel.as_ref()?.remotes.as_ref();
    remotes(was).zip(remotes(is)).filter(|(was, is)| was != is)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Caps;
    use crate::types::{BridgeId, DeviceId, PortId};

    const STATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 7]);
    const NOW: Instant = Instant::from_secs(1);

    fn snapshot(generation: u64, up: bool) -> Snapshot {
        let port = Port { up, ..Port::new(PortId(0), BridgeId(0), DeviceId(0), Caps::ALL) };
        let bridge = Bridge { ports: vec![PortId(0)], ..Bridge::new(BridgeId(0)) };
        let (ports, bridges) = (vec![Some(Arc::new(port))], vec![Some(Arc::new(bridge))]);
        Snapshot { generation, ports, bridges, ..Snapshot::default() }
    }

    #[test]
    fn who_forwards_by_an_older_snapshot_teaches_nothing() {
        let (old, new) = (snapshot(1, true), snapshot(2, false));
        let bridge = old.bridge(BridgeId(0)).unwrap();
        let mut learned = Learned::default();
        let known = |learned: &Learned| learned.table.lookup(VlanId::UNTAGGED, STATION, NOW).is_some();
        let teach = |learned: &mut Learned, by: &Snapshot| {
            _ = learned.learn(by, VlanId::UNTAGGED, STATION, Place::of(PortId(0)), NOW);
        };
        learned.follow(bridge, &Snapshot::default(), &old, NOW);
        teach(&mut learned, &old);
        assert!(known(&learned) && !learned.is_ahead_of(&old));
        // The first worker takes the port for down; the second does not know yet, and has frames of it.
        learned.follow(bridge, &old, &new, NOW);
        assert!(!known(&learned) && learned.is_ahead_of(&old));
        teach(&mut learned, &old);
        assert!(!known(&learned));
        // That the second follows, or a third begins, changes nothing.
        let newer = snapshot(3, true);
        learned.follow(bridge, &new, &newer, NOW);
        teach(&mut learned, &newer);
        learned.follow(bridge, &new, &newer, NOW);
        learned.follow(bridge, &Snapshot::default(), &newer, NOW);
        assert!(known(&learned));
    }
}
