//! Verdicts that hold for the next frame, too: same place, same addresses, same tag.
//!
//! Most frames are like one that came just before. For those, one look into a slot replaces parsing, admission and two
//! look-ups in the MAC table. A verdict is stored only where nothing but these fields made it: the destination was known,
//! no mirror copied the frame.
//!
//! Whatever may make a stored verdict wrong forgets all of them at once ([`FlowCache::forget`]): another snapshot, a
//! flush, an address that moved or made room while a verdict rested on it. What only passes with time is a time in the
//! slot: it ends when the sender's entry wants to be renewed or the destination's expires.
//!
//! It begins small and grows while flows push each other out, so that a few flows stay in the core's own cache.
//!
//! An attacker who varies addresses misses every time, which costs a look, and overwrites slots, which costs others the
//! long way; what he can make it grow to is bounded.

use super::patch::MAX_HOPS;
use super::state::Port;
use super::vlan::{Stack, Tagging};
use crate::packet::Frame;
use crate::time::Instant;
use crate::types::{Place, PortId, RemoteIndex, VlanId};
use crate::wire::vlan;

/// Sets of two slots of 64 bytes that it begins with, and that it has at most: 128 KB and 16 MB.
const FEWEST: usize = 1 << 10;
const MOST: usize = 1 << 17;
/// With more sets, not all of them are in the core's own cache.
const NEAR: usize = 1 << 12;

/// The fields of a frame that a stored verdict depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// Where it came in.
    place: Place,
    /// Both addresses, and the outermost tag, if there is one. In two words: a larger one would have the slot padded.
    head: [u64; 2],
}

impl Flow {
    /// That of a frame which came in at `place`, by `ingress`; `None` where more than a flow holds has to be looked at. What
    /// comes out of a layer-3 tunnel has no addresses yet.
    #[inline]
    #[must_use]
    pub fn of(ingress: &Port, place: Place, frame: &Frame) -> Option<Self> {
        if frame.meta.hops > MAX_HOPS || ingress.is_layer3() {
            return None;
        }
        Self::read(place, frame.bytes())
    }

    /// The fields of a frame; `None` for one that is too short to tell, or has more than one tag.
    #[inline]
    fn read(place: Place, bytes: &[u8]) -> Option<Self> {
        let head: &[u8; 18] = bytes.first_chunk()?;
        let is_tag = |at: usize| vlan::is_tpid(u16::from_be_bytes([head[at], head[at + 1]]));
        let fields = match (is_tag(12), is_tag(16)) {
            (true, true) => return None,
            (true, false) => u128::MAX,
            (false, _) => u128::MAX << 32,
        };
        let head = u128::from_be_bytes(*head.first_chunk()?) & fields;
        Some(Self { place, head: [(head >> 64) as u64, head as u64] })
    }

    /// In which of so many sets it is stored, a power of two.
    #[inline]
    fn set(self, sets: usize) -> usize {
        let [high, low] = self.head;
        let Place { port, remote } = self.place;
        let place = (u64::from(port.0) << 16 | u64::from(remote.0)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let product = u128::from(high ^ place) * u128::from(low ^ 0xd6e8_feb8_6659_fd93);
        (((product >> 64) as u64 ^ product as u64) as usize) & (sets - 1)
    }
}

/// Where a frame goes: to one place, or nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Its VLAN and tag.
    pub tagging: Tagging,
    /// The port that it leaves by.
    pub egress: PortId,
    /// To which of that port's remote ends.
    pub remote: RemoteIndex,
}

/// One line of the core's cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Slot {
    flow: Flow,
    verdict: Verdict,
    /// Until when it holds.
    until: Instant,
    /// The cache's when it was stored.
    epoch: u32,
}

impl Slot {
    /// One that belongs to no flow, as no cache is in epoch 0.
    const EMPTY: Self = {
        let tagging = Tagging { vlan: VlanId::UNTAGGED, tag: None, stack: Stack::Plain, below: 0 };
        let verdict = Verdict { tagging, egress: PortId(0), remote: RemoteIndex(0) };
        Self {
            flow: Flow { place: Place::of(PortId(0)), head: [0; 2] },
            verdict,
            until: Instant::from_nanos(0),
            epoch: 0,
        }
    };

    #[inline]
    fn holds(&self, epoch: u32, now: Instant) -> bool {
        self.epoch == epoch && now <= self.until
    }
}

/// The verdicts of one worker.
#[derive(Debug)]
pub struct FlowCache {
    sets: Vec<[Slot; 2]>,
    epoch: u32,
    /// Verdicts stored since it was last considered to grow, and how many of them pushed out one that held.
    stored: usize,
    pushed_out: usize,
}

impl Default for FlowCache {
    fn default() -> Self {
        Self { sets: vec![[Slot::EMPTY; 2]; FEWEST], epoch: 1, stored: 0, pushed_out: 0 }
    }
}

impl FlowCache {
    /// What is known of frames of `flow`.
    #[inline]
    #[must_use]
    pub fn find(&self, flow: Flow, now: Instant) -> Option<&Verdict> {
        let set = &self.sets[flow.set(self.sets.len())];
        set.iter().find(|slot| slot.flow == flow && slot.holds(self.epoch, now)).map(|slot| &slot.verdict)
    }

    /// Fetches what is known of these frames from memory, for all of them at the same time: one after the other, each
    /// would wait for its own.
    pub fn fetch<'a>(&self, ingress: &Port, frames: impl Iterator<Item = &'a Frame>) {
        if self.sets.len() > NEAR {
            let place = Place::of(ingress.id);
            let epochs = frames.filter_map(|frame| Flow::of(ingress, place, frame)).map(|flow| {
                let [one, other] = &self.sets[flow.set(self.sets.len())];
                one.epoch ^ other.epoch
            });
            std::hint::black_box(epochs.fold(0, |all, one| all ^ one));
        }
    }

    /// Has frames of `flow` go the same way until then.
    pub fn store(&mut self, flow: Flow, verdict: Verdict, now: Instant, until: Instant) {
        let (sets, epoch) = (self.sets.len(), self.epoch);
        let set = &mut self.sets[flow.set(sets)];
        let free = set.iter().position(|slot| slot.flow == flow || !slot.holds(epoch, now));
        if free.is_none() {
            set[1] = set[0];
            self.pushed_out += 1;
        }
        set[free.unwrap_or(0)] = Slot { flow, verdict, until, epoch };
        self.stored += 1;
        if self.stored >= sets {
            self.consider_growing();
        }
    }

    /// Doubles if too many flows share sets, and begins to count anew.
    #[cold]
    fn consider_growing(&mut self) {
        if self.pushed_out > self.stored / 16 && self.sets.len() < MOST {
            *self = Self { sets: vec![[Slot::EMPTY; 2]; 2 * self.sets.len()], ..Self::default() };
        }
        (self.stored, self.pushed_out) = (0, 0);
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    const THEN: Instant = Instant::from_secs(9);

    fn flow(port: u32, rest: [u8; 6]) -> Flow {
        Flow::read(Place::of(PortId(port)), &[&ADDRESSES[..], &rest].concat()).unwrap()
    }

    fn verdict(egress: u32) -> Verdict {
        Verdict { egress: PortId(egress), ..Slot::EMPTY.verdict }
    }

    #[test]
    fn a_flow_is_port_addresses_and_tag() {
        let untagged = flow(1, [8, 0, 0x45, 0, 0, 60]);
        assert_eq!(untagged, flow(1, [8, 6, 0, 1, 8, 0]), "the same way for every protocol");
        assert_ne!(untagged, flow(2, [8, 0, 0x45, 0, 0, 60]));
        let other_end = Place { port: PortId(1), remote: RemoteIndex(1) };
        assert_ne!(untagged, Flow { place: other_end, ..untagged });
        let tagged = flow(1, [0x81, 0, 0x20, 10, 8, 0]);
        assert_eq!(tagged, flow(1, [0x81, 0, 0x20, 10, 8, 6]));
        for other in [[0x81, 0, 0x20, 11, 8, 0], [0x81, 0, 0x40, 10, 8, 0], [0x88, 0xa8, 0x20, 10, 8, 0]] {
            assert_ne!(tagged, flow(1, other));
        }
        assert_eq!(Flow::read(Place::of(PortId(1)), &ADDRESSES), None);
        let two_tags = [&ADDRESSES[..], &[0x81, 0, 0x20, 10, 0x81, 0]].concat();
        assert_eq!(Flow::read(Place::of(PortId(1)), &two_tags), None);
    }

    #[test]
    fn a_verdict_holds_until_its_time_or_until_all_are_forgotten() {
        let (mut cache, one) = (FlowCache::default(), flow(1, [8, 0, 0, 0, 0, 0]));
        assert_eq!(cache.find(one, Instant::default()), None);
        // What no slot may be taken for: an empty one.
        assert_eq!(cache.find(Flow { place: Place::of(PortId(0)), head: [0; 2] }, Instant::default()), None);
        cache.store(one, verdict(7), Instant::default(), THEN);
        assert_eq!(cache.find(one, THEN), Some(&verdict(7)));
        assert_eq!(cache.find(one, Instant::from_secs(10)), None);
        assert_eq!(cache.find(flow(2, [8, 0, 0, 0, 0, 0]), THEN), None);
        cache.forget();
        assert_eq!(cache.find(one, THEN), None);
        cache.epoch = u32::MAX;
        cache.store(one, verdict(7), Instant::default(), THEN);
        cache.forget();
        assert_eq!(cache.find(one, THEN), None, "epochs begin again with empty slots");
    }

    #[test]
    fn it_grows_only_while_flows_push_each_other_out() {
        let mut cache = FlowCache::default();
        let mut pass = |flows: u32| {
            for n in (0..flows).cycle().take(400_000) {
                let flow = flow(n, [8, 0, 0, 0, 0, 0]);
                match cache.find(flow, THEN) {
                    Some(found) => assert_eq!(*found, verdict(n)),
                    None => cache.store(flow, verdict(n), Instant::default(), THEN),
                }
            }
            let hits = (0..flows).filter(|&n| cache.find(flow(n, [8, 0, 0, 0, 0, 0]), THEN).is_some()).count();
            (cache.sets.len(), hits * 100 / flows as usize)
        };
        let (sets, hits) = pass(100);
        assert!(sets <= 2 * FEWEST && hits >= 97, "{sets} sets, {hits} % hits");
        let (sets, hits) = pass(20_000);
        assert!(sets > FEWEST && sets < MOST && hits >= 90, "{sets} sets, {hits} % hits");
        let (sets, _) = pass(400_000);
        assert_eq!(sets, MOST, "no more than that");
    }

    #[test]
    fn a_slot_is_a_line_of_the_cache() {
        assert_eq!(size_of::<Slot>(), 64);
    }
}
