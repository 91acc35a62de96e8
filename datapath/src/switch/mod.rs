//! The switch: what happens to a frame between the device it came from and the devices it leaves by. No I/O, no clock.
//!
//! [`Switch`] belongs to one worker thread and is the only thing here that remembers anything from frame to frame: the
//! learned addresses, what waits for a rate limit or an answer to ARP, and how often senders were told something. Everything else it needs comes with the call: the immutable [`state::Snapshot`] to forward by, the
//! time, the memory, the counters. The walk itself is in [`pipeline`], each of its stages in a file of that name.
//!
//! What an attacker may try: any bytes in a frame (parsed once, by `wire::parse`), any number of source addresses
//! (bounded and shared fairly between ports, by [`mac_table`]), group addresses as source, tags of VLANs that the port
//! does not carry (refused by [`admit`]), any rate (bounded by [`shape`] where a limit is set), packets for any number of
//! stations that do not exist (bounded by [`neighbours`]).

pub mod admit;
pub mod bucket;
pub mod egress;
pub mod flow_cache;
pub mod forward;
pub mod mac_table;
pub mod mirror;
pub mod moves;
pub mod mtu;
pub mod neighbours;
pub mod notices;
pub mod patch;
pub mod pipeline;
pub mod probes;
mod qinq;
mod router;
pub mod routes;
pub mod shape;
mod shares;
pub mod state;
pub mod tx;
pub mod unclaimed;
pub mod verdict;
pub mod vlan;
pub mod vlan_set;

use crate::packet::Frame;
use crate::time::{Duration, Instant};
use crate::tunnel::{Inner, Remotes};
use crate::types::{BridgeId, PortId};
use flow_cache::FlowCache;
use mac_table::{FdbEntry, MacTable, TableStats};
use mirror::Copies;
use moves::{Flap, RecentMove};
use mtu::Tellers;
use neighbours::Neighbours;
use notices::{Notice, Notices};
use probes::{Probed, Probes};
use shape::Shapers;
use state::{Bridge, Port, Snapshot};
use std::sync::Arc;
pub use tx::TxQueues;
use unclaimed::{Stray, Unclaimed};
use verdict::DropReason;

/// How often expired addresses are cleared away.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The engine of one worker.
#[derive(Debug, Default)]
pub struct Switch {
    adopted: Arc<Snapshot>,
    flows: FlowCache,
    tables: Tables,
    copies: Copies,
    probes: Probes,
    unclaimed: Unclaimed,
    next_sweep: Instant,
    shapers: Shapers,
    tellers: Tellers,
    neighbours: Neighbours,
    flaps: Vec<(BridgeId, Flap)>,
    notices: Notices,
    /// Memory of the walk: what one frame became on its way out, what is between two patch ports, and what came out of
    /// one run of datagrams.
    pieces: Vec<Frame>,
    crossing: Vec<Frame>,
    inner: Vec<Inner>,
}

impl Switch {
    /// A switch that has learned nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes over a new snapshot: to be called before the first [`Switch::process`] with it. Forgets the addresses of
    /// bridges and ports that are gone, down, or no longer lead where they led, and applies new limits. What waits for
    /// its turn at a port goes on waiting; at a port that is gone it is dropped.
    pub fn adopt(&mut self, snap: &Arc<Snapshot>, now: Instant) {
        self.flows.forget();
        self.notices.add(Notice::AllChanged);
        self.tables.0.resize_with(snap.bridges.len(), || None);
        for (table, bridge) in self.tables.0.iter_mut().zip(&snap.bridges) {
            let Some(bridge) = bridge else {
                *table = None;
                continue;
            };
            let Some(known) = table else {
                *table = (!bridge.statics.is_empty()).then(|| new_table(bridge));
                continue;
            };
            if self.adopted.bridge(bridge.id).is_some_and(|was| was.vlans != bridge.vlans) {
                known.flush();
            }
            known.flush_ports(|port| !same_place(self.adopted.port(port), snap.port(port)));
            for port in bridge.ports.iter().filter_map(|&id| snap.port(id)) {
                follow_remotes(known, self.adopted.port(port.id), port);
            }
            if self.adopted.bridge(bridge.id).is_none_or(|was| was.statics != bridge.statics) {
                known.set_statics(&bridge.statics);
            }
            known.configure(bridge.mac_aging, bridge.mac_table_size);
            known.sweep(now);
        }
        self.probes.adopt(snap);
        self.tellers.adopt(snap);
        self.copies.adopt(&self.adopted.bridges, &snap.bridges);
        self.shapers.adopt(&self.adopted, snap, now);
        for frame in self.neighbours.without(|port| snap.port(port).is_none()) {
            if let Some(port) = self.adopted.port(frame.meta.ingress.port) {
                port.counters.drops.add(DropReason::PortDown, 1);
            }
        }
        self.adopted = Arc::clone(snap);
    }

    /// The addresses that `bridge` has learned and not yet forgotten at `now`, in no particular order.
    #[must_use]
    pub fn fdb(&self, bridge: BridgeId, now: Instant) -> Vec<FdbEntry> {
        self.tables.get(bridge).map(|t| t.entries(now).collect()).unwrap_or_default()
    }

    /// Whether copies for mirrors wait to be sent.
    #[must_use]
    pub fn has_copies(&self) -> bool {
        !self.copies.is_empty()
    }

    /// How full the table of `bridge` is and what it went through.
    #[must_use]
    pub fn table_stats(&self, bridge: BridgeId) -> TableStats {
        self.tables.get(bridge).map(MacTable::stats).unwrap_or_default()
    }

    /// The same as far as anybody can see at `now`: what has expired is no entry, freed or not.
    #[must_use]
    pub fn table_stats_at(&self, bridge: BridgeId, now: Instant) -> TableStats {
        self.tables.get(bridge).map(|t| t.stats_at(now)).unwrap_or_default()
    }

    /// The addresses of `bridge` that have moved lately.
    #[must_use]
    pub fn recent_moves(&self, bridge: BridgeId, now: Instant) -> Vec<RecentMove> {
        self.tables.get(bridge).map(|t| t.recent_moves(now)).unwrap_or_default()
    }

    /// Forgets all addresses that `bridge` has learned.
    pub fn flush(&mut self, bridge: BridgeId) {
        self.flows.forget();
        self.notices.add(Notice::AllChanged);
        if let Some(Some(table)) = self.tables.0.get_mut(bridge.0 as usize) {
            table.flush();
        }
    }

    /// When [`Switch::release`] has something to do; `None`: no frame waits.
    #[inline]
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        let timed = || [self.shapers.due(), self.neighbours.due()].into_iter().flatten().min();
        if self.probes.wait() { Some(Instant::default()) } else { timed() }
    }

    /// Has the remote ends of these ports probed, under numbers from `first_id` on.
    pub fn probe(&mut self, ports: &[PortId], first_id: u64) {
        self.probes.order(&self.adopted, ports, first_id);
    }

    /// What came of that so far.
    #[must_use]
    pub fn probed(&self) -> &[Probed] {
        self.probes.results()
    }

    /// Whose tunnel packets have arrived lately that no port takes, how many, and how long ago the last.
    #[must_use]
    pub fn unclaimed(&self, now: Instant) -> Vec<(Stray, u64, Duration)> {
        let claimed =
            |stray: &Stray, local| self.adopted.demux.find(stray.endpoint, stray.key, stray.remote, local).is_some();
        self.unclaimed.recent(now, claimed).collect()
    }

    /// How many frames wait for a rate limit or for an answer to ARP: received, and not yet sent or dropped.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shapers.waiting() + self.neighbours.waiting()
    }

    /// Counts from zero again what the table of `bridge` goes through.
    pub fn clear_table_stats(&mut self, bridge: BridgeId) {
        if let Some(Some(table)) = self.tables.0.get_mut(bridge.0 as usize) {
            table.clear_stats();
        }
    }

    /// Addresses that keep moving and were not told of yet.
    pub fn flaps(&mut self) -> &mut Vec<(BridgeId, Flap)> {
        &mut self.flaps
    }

    /// Clears expired addresses away when it is time again, a limited number between two batches, and looks for those
    /// that keep moving.
    fn sweep(&mut self, now: Instant) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_EVERY;
        self.flows.keep_time(now);
        for (id, table) in (0..).zip(&mut self.tables.0) {
            let Some(table) = table else { continue };
            if table.sweep(now) {
                self.next_sweep = now;
            }
            self.flaps.extend(table.flapping(now).map(|flap| (BridgeId(id), flap)));
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
fn other_remotes<'a>(was: &'a Port, is: &'a Port) -> Option<(&'a Remotes, &'a Remotes)> {
    let remotes = |port: &'a Port| port.tunnel.as_ref()?.remotes.as_ref();
    remotes(was).zip(remotes(is)).filter(|(was, is)| was != is)
}

/// The MAC tables, indexed by [`BridgeId`].
#[derive(Debug, Default)]
struct Tables(Vec<Option<MacTable>>);

impl Tables {
    fn get(&self, bridge: BridgeId) -> Option<&MacTable> {
        self.0.get(bridge.0 as usize)?.as_ref()
    }

    fn get_mut(&mut self, bridge: BridgeId) -> Option<&mut MacTable> {
        self.0.get_mut(bridge.0 as usize)?.as_mut()
    }

    /// The table of `bridge`, made on first use.
    #[inline]
    fn of(&mut self, bridge: &Bridge) -> &mut MacTable {
        let id = bridge.id.0 as usize;
        if id >= self.0.len() {
            self.0.resize_with(id + 1, || None);
        }
        self.0[id].get_or_insert_with(|| new_table(bridge))
    }
}

#[cold]
fn new_table(bridge: &Bridge) -> MacTable {
    let mut table = MacTable::new(bridge.mac_aging, bridge.mac_table_size);
    table.set_statics(&bridge.statics);
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{MacAddr, Place, VlanId};

    #[test]
    fn the_addresses_of_a_bridge_go_with_it() {
        let now = Instant::from_secs(1);
        let bridge = |id| Bridge::new(BridgeId(id));
        let mut switch = Switch::new();
        for id in 0..3 {
            let table = switch.tables.of(&bridge(id));
            table.learn(VlanId::UNTAGGED, MacAddr([2, 0, 0, 0, 0, 1]), Place::of(PortId(0)), now);
        }
        assert_eq!([0, 1, 2].map(|id| switch.fdb(BridgeId(id), now).len()), [1, 1, 1]);
        switch.flush(BridgeId(1));
        assert_eq!([0, 1, 2].map(|id| switch.fdb(BridgeId(id), now).len()), [1, 0, 1]);
        let without_0 = Snapshot { bridges: vec![None, Some(Arc::new(bridge(1)))], ..Snapshot::default() };
        switch.adopt(&Arc::new(without_0), now);
        assert!(switch.tables.get(BridgeId(0)).is_none());
        assert!(switch.tables.get(BridgeId(2)).is_none());
        assert_eq!(switch.table_stats(BridgeId(0)), TableStats::default());
    }
}
