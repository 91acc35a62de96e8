//! The switch: what happens to a frame between the device it came from and the devices it leaves by. No I/O, no clock.
//!
//! [`Switch`] belongs to one worker thread. What it remembers from frame to frame is its own: flows, copies for mirrors, how
//! often senders were told something. What all workers must know alike is shared, and locked only where a frame is not of
//! a known flow ([`learned`]) or meets a rate limit ([`shared`]). Everything else comes with the call: the immutable
//! [`state::Snapshot`] to forward by, the time, the memory, the counters. The walk itself is in [`pipeline`], each of its
//! stages in a file of that name.
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
pub mod gather;
pub mod learned;
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
pub mod shared;
mod shares;
pub mod state;
pub mod tx;
pub mod unclaimed;
pub mod verdict;
pub mod vlan;
pub mod vlan_set;

use crate::packet::Frame;
use crate::time::{Duration, Instant};
use crate::tunnel::Inner;
use crate::types::{BridgeId, PortId};
use flow_cache::FlowCache;
use gather::Gathered;
use learned::Learned;
use mac_table::{FdbEntry, TableStats};
use mirror::Copies;
use moves::{Flap, RecentMove};
use mtu::Tellers;
use notices::{Notice, Notices};
use probes::{Probed, Probes};
use shared::Shared;
use state::Snapshot;
use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard};
pub use tx::TxQueues;
use unclaimed::{Stray, Unclaimed};

/// How often expired addresses are cleared away.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The engine of one worker.
#[derive(Debug)]
pub struct Switch {
    adopted: Arc<Snapshot>,
    shared: Arc<Shared>,
    /// Whether it sees to what is due for all workers.
    home: bool,
    /// Whether the home worker has something to do earlier than it may know.
    call: bool,
    flows: FlowCache,
    copies: Copies,
    probes: Probes,
    unclaimed: Unclaimed,
    next_sweep: Instant,
    tellers: Tellers,
    flaps: Vec<(BridgeId, Flap)>,
    notices: Notices,
    /// Packets that have waited for a station's address, which is known now.
    answered: VecDeque<Frame>,
    /// Memory of the walk: what one frame became on its way out, what waits there for segments that follow, what is between
    /// two patch ports, and what came out of one run of datagrams.
    pieces: Vec<Frame>,
    gathered: Vec<Gathered>,
    crossing: Vec<Frame>,
    inner: Vec<Inner>,
}

impl Default for Switch {
    /// The only one of its datapath.
    fn default() -> Self {
        Self::new(Arc::default(), true)
    }
}

impl Switch {
    /// One of those that share `shared`, exactly one of which is the `home` of what waits.
    #[must_use]
    pub fn new(shared: Arc<Shared>, home: bool) -> Self {
        Self {
            adopted: Arc::default(),
            flows: FlowCache::new(Arc::clone(&shared.changes)),
            shared,
            home,
            call: false,
            copies: Copies::default(),
            probes: Probes::default(),
            unclaimed: Unclaimed::default(),
            next_sweep: Instant::default(),
            tellers: Tellers::default(),
            flaps: Vec::new(),
            notices: Notices::default(),
            answered: VecDeque::new(),
            pieces: Vec::new(),
            gathered: Vec::new(),
            crossing: Vec::new(),
            inner: Vec::new(),
        }
    }

    /// Takes over a new snapshot: to be called before the first [`Switch::process`] with it. The first of all workers to do
    /// so also has forgotten what no longer holds, and applies new limits. What waits for its turn at a port goes on
    /// waiting; at a port that is gone it is dropped.
    pub fn adopt(&mut self, snap: &Arc<Snapshot>, now: Instant) {
        let was = std::mem::replace(&mut self.adopted, Arc::clone(snap));
        self.flows.forget();
        self.notices.add(Notice::AllChanged);
        for bridge in was.bridges.iter().flatten() {
            bridge.learned.lock().drop_waiting(&was, snap);
        }
        for bridge in snap.bridges.iter().flatten() {
            bridge.learned.lock().follow(bridge, &was, snap, now);
        }
        self.probes.adopt(snap);
        self.tellers.adopt(snap);
        self.copies.adopt(&was.bridges, &snap.bridges);
        let mut shapers = self.shared.shapers();
        let due = shapers.adopt(&was, snap, now);
        self.call |= self.shared.frames_due.put(due);
    }

    /// What `bridge` has learned.
    fn learned(&self, bridge: BridgeId) -> Option<MutexGuard<'_, Learned>> {
        self.adopted.bridge(bridge).map(|bridge| bridge.learned.lock())
    }

    /// The addresses that `bridge` has learned and not yet forgotten at `now`, in no particular order.
    #[must_use]
    pub fn fdb(&self, bridge: BridgeId, now: Instant) -> Vec<FdbEntry> {
        self.learned(bridge).map(|learned| learned.table.entries(now).collect()).unwrap_or_default()
    }

    /// Whether copies for mirrors wait to be sent.
    #[must_use]
    pub fn has_copies(&self) -> bool {
        !self.copies.is_empty()
    }

    /// How full the table of `bridge` is and what it went through.
    #[must_use]
    pub fn table_stats(&self, bridge: BridgeId) -> TableStats {
        self.learned(bridge).map(|learned| learned.table.stats()).unwrap_or_default()
    }

    /// The same as far as anybody can see at `now`: what has expired is no entry, freed or not.
    #[must_use]
    pub fn table_stats_at(&self, bridge: BridgeId, now: Instant) -> TableStats {
        self.learned(bridge).map(|learned| learned.table.stats_at(now)).unwrap_or_default()
    }

    /// The addresses of `bridge` that have moved lately.
    #[must_use]
    pub fn recent_moves(&self, bridge: BridgeId, now: Instant) -> Vec<RecentMove> {
        self.learned(bridge).map(|learned| learned.table.recent_moves(now)).unwrap_or_default()
    }

    /// Forgets all addresses that `bridge` has learned.
    pub fn flush(&mut self, bridge: BridgeId) {
        if let Some(mut learned) = self.learned(bridge) {
            learned.table.flush();
        }
        self.flows.forget_everywhere();
        self.notices.add(Notice::AllChanged);
    }

    /// When [`Switch::release`] has something to do; `None`: nothing waits that this worker sees to.
    #[inline]
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        if self.probes.wait() {
            return Some(Instant::default());
        }
        if self.home { self.shared.due() } else { None }
    }

    /// Hears of what other workers have changed.
    #[inline]
    pub fn heed_others(&mut self) {
        if self.flows.catch_up() {
            self.notices.add(Notice::AllChanged);
        }
    }

    /// Whether the home worker has to look at [`Switch::due`] again, for what this one has done since this was asked last.
    #[inline]
    pub fn take_call(&mut self) -> bool {
        std::mem::take(&mut self.call) && !self.home
    }

    /// Has the remote ends of these ports probed, under numbers from `first_id` on: by the home worker. The others take
    /// the answers that reach them.
    pub fn probe(&mut self, ports: &[PortId], first_id: u64) {
        self.probes.order(&self.adopted, ports, first_id, self.home);
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

    /// How many frames of all workers wait for a rate limit or for an answer to ARP: received, and not yet sent or dropped.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let bridges = self.adopted.bridges.iter().flatten();
        self.shared.shapers().waiting() + bridges.map(|b| b.learned.lock().neighbours.waiting()).sum::<usize>()
    }

    /// Counts from zero again what the table of `bridge` goes through.
    pub fn clear_table_stats(&mut self, bridge: BridgeId) {
        if let Some(mut learned) = self.learned(bridge) {
            learned.table.clear_stats();
        }
    }

    /// Addresses that keep moving and were not told of yet.
    pub fn flaps(&mut self) -> &mut Vec<(BridgeId, Flap)> {
        &mut self.flaps
    }

    /// Clears expired addresses away when it is time again, a limited number between two batches, and looks for those
    /// that keep moving. Each worker that has something to forward does.
    fn sweep(&mut self, now: Instant) {
        if now < self.next_sweep {
            return;
        }
        self.next_sweep = now + SWEEP_EVERY;
        self.flows.keep_time(now);
        for bridge in self.adopted.bridges.iter().flatten() {
            let mut learned = bridge.learned.lock();
            if learned.table.sweep(now) {
                self.next_sweep = now;
            }
            self.flaps.extend(learned.table.flapping(now).map(|flap| (bridge.id, flap)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::state::Bridge;
    use super::*;
    use crate::types::{MacAddr, Place, VlanId};

    #[test]
    fn the_addresses_of_a_bridge_go_with_it() {
        let now = Instant::from_secs(1);
        let bridges: Vec<_> = (0..3).map(|id| Some(Arc::new(Bridge::new(BridgeId(id))))).collect();
        let snap = Arc::new(Snapshot { generation: 1, bridges, ..Snapshot::default() });
        let mut switch = Switch::default();
        switch.adopt(&snap, now);
        for bridge in snap.bridges.iter().flatten() {
            let table = &mut bridge.learned.lock().table;
            table.learn(VlanId::UNTAGGED, MacAddr([2, 0, 0, 0, 0, 1]), Place::of(PortId(0)), now);
        }
        let known = |switch: &Switch| [0, 1, 2].map(|id| switch.fdb(BridgeId(id), now).len());
        assert_eq!(known(&switch), [1, 1, 1]);
        switch.flush(BridgeId(1));
        assert_eq!(known(&switch), [1, 0, 1]);
        let mut without_0 = Snapshot { generation: 2, ..Snapshot::clone(&snap) };
        without_0.bridges[0] = None;
        switch.adopt(&Arc::new(without_0), now);
        assert_eq!(known(&switch), [0, 0, 0], "port 0 is gone, too");
        assert_eq!(switch.table_stats(BridgeId(0)), TableStats::default());
    }
}
