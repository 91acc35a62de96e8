//! Verdicts that hold for the next frame, too: same place, same addresses, same tag.
//!
//! Most frames are like one that came just before. For those, one look into a slot replaces parsing, admission and two
//! look-ups in the MAC table. A verdict is stored only where nothing but these fields made it: the destination was known,
//! no mirror copied the frame.
//!
//! Whatever may make a stored verdict wrong forgets all of them at once, here ([`FlowCache::forget`]: another snapshot) or
//! at all workers ([`FlowCache::forget_everywhere`]: a flush, an address that moved or made room while a verdict rested on
//! it). The others hear of it with their next batch, for one look at a number that is shared ([`FlowCache::catch_up`]).
//! What only passes with time is a time in the slot: it ends when the sender's entry wants to be renewed or the
//! destination's expires.
//!
//! It begins small and grows while flows push each other out, so that a few flows stay in the core's own cache. With many
//! of them what counts is how much memory each touches: two slots are one line of it, so times in them are coarse.
//!
//! An attacker who varies addresses misses every time, which costs a look, and overwrites slots, which costs others the
//! long way; what he can make it grow to is bounded.

use super::patch::MAX_HOPS;
use super::state::Port;
use super::vlan::{Stack, Tagging};
use crate::packet::Frame;
use crate::time::{Duration, Instant};
use crate::types::{Place, PortId, RemoteIndex, VlanId};
use crate::wire::vlan::{self, CUSTOMER, SERVICE, Tag};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};

/// Slots that a flow may be in.
const WAYS: usize = 2;
/// Sets of two slots of 32 bytes that it begins with, and that it has at most: 64 KB and 16 MB.
const FEWEST: usize = 1 << 10;
const MOST: usize = 1 << 18;
/// With more sets, not all of them are in the core's own cache.
const NEAR: usize = 1 << 13;

/// For how many [`Tick`]s a verdict holds at most: 17 seconds. Twice as many ahead could be told from the past.
const LONGEST: u16 = 1 << 14;
/// The bits of nanoseconds that a tick leaves out.
const TICK: u32 = 20;

/// The fields of a frame that a stored verdict depends on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flow {
    /// The port it came in by.
    port: PortId,
    /// Both addresses, the remote end that it came from (14 bits) and the outermost tag: which kind (0: none,
    /// 1: a customer's, 2: a service tag), and what it says. In two words: a larger one would have the slot padded.
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

    /// The fields of a frame; `None` for one that is too short to tell, or has more than one tag, or came from one of very
    /// many remote ends.
    #[inline]
    fn read(Place { port, remote }: Place, bytes: &[u8]) -> Option<Self> {
        let head: &[u8; 18] = bytes.first_chunk()?;
        let [first, second] = [0, 8].map(|at| u64::from_be_bytes(*head[at..].first_chunk().expect("18 bytes")));
        let (tpid, tci) = ((second >> 16) as u16, second & 0xffff);
        let tag = match tpid {
            CUSTOMER => 1 << 16 | tci,
            SERVICE => 2 << 16 | tci,
            _ => 0,
        };
        if remote.0 >= 1 << 14 || tag != 0 && vlan::is_tpid(u16::from_be_bytes([head[16], head[17]])) {
            return None;
        }
        Some(Self { port, head: [first, second >> 32 << 32 | u64::from(remote.0) << 18 | tag] })
    }

    /// The port it came in by.
    #[must_use]
    pub fn port(self) -> PortId {
        self.port
    }

    /// Both addresses and the outermost tag as on the wire; zeros in the place of a tag that there is not.
    #[must_use]
    pub fn on_wire(self) -> [u8; 16] {
        let [high, low] = self.head;
        let tag = self.tag().map_or(0, |tag| u64::from(tag.tpid) << 16 | u64::from(tag.tci));
        (u128::from(high) << 64 | u128::from(low >> 32 << 32 | tag)).to_be_bytes()
    }

    /// The tag among them.
    #[inline]
    fn tag(self) -> Option<Tag> {
        let tpid = match self.head[1] >> 16 & 0b11 {
            0 => return None,
            1 => CUSTOMER,
            _ => SERVICE,
        };
        Some(Tag { tpid, tci: self.head[1] as u16 })
    }

    /// In which of so many sets it is stored, a power of two.
    #[inline]
    fn set(self, sets: usize) -> usize {
        let [high, low] = self.head;
        let port = u64::from(self.port.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let product = u128::from(high ^ port) * u128::from(low ^ 0xd6e8_feb8_6659_fd93);
        (((product >> 64) as u64 ^ product as u64) as usize) & (sets - 1)
    }
}

/// Where a frame goes: to one place, or nowhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Its VLAN and tag.
    pub tagging: Tagging,
    /// Whether it leaves with the tags that it came with, so that nothing has to be done about them.
    pub as_it_came: bool,
    /// The port that it leaves by.
    pub egress: PortId,
    /// To which of that port's remote ends.
    pub remote: RemoteIndex,
}

/// Time in milliseconds (2^20 ns), which begins anew every minute or so.
#[derive(Clone, Copy, Debug)]
struct Tick(u16);

impl Tick {
    #[inline]
    const fn of(time: Instant) -> Self {
        Self((time.nanos() >> TICK) as u16)
    }

    /// That of `until`, but no later than [`LONGEST`] from `now`.
    fn within_reach(until: Instant, now: Instant) -> Self {
        let ahead = (until.nanos() >> TICK).saturating_sub(now.nanos() >> TICK).min(u64::from(LONGEST));
        Self(Self::of(now).0.wrapping_add(ahead as u16))
    }

    #[inline]
    const fn is_before(self, other: Self) -> bool {
        (self.0.wrapping_sub(other.0) as i16) < 0
    }
}

/// The VLAN of a frame that has no tags but the one in its flow, the service tag that it was put into, if it was, and
/// whether it leaves as it came.
#[derive(Clone, Copy, Debug)]
struct PackedTagging(u16);

impl PackedTagging {
    const CUSTOMER: u16 = 1 << 12;
    const SERVICE: u16 = 2 << 12;
    const AS_IT_CAME: u16 = 1 << 14;

    /// `None` for what a frame with one tag at most doesn't have.
    fn pack(Verdict { tagging, as_it_came, .. }: Verdict) -> Option<Self> {
        let service = match tagging.stack {
            _ if tagging.below > 0 => return None,
            Stack::Plain => 0,
            Stack::Service(CUSTOMER) => Self::CUSTOMER,
            Stack::Service(SERVICE) => Self::SERVICE,
            Stack::Service(_) | Stack::Second(_) => return None,
        };
        let as_it_came = if as_it_came { Self::AS_IT_CAME } else { 0 };
        Some(Self(tagging.vlan.get() | service | as_it_came))
    }

    #[inline]
    const fn is_as_it_came(self) -> bool {
        self.0 & Self::AS_IT_CAME != 0
    }

    #[inline]
    fn unpack(self, tag: Option<Tag>) -> Tagging {
        let stack = match self.0 & (Self::CUSTOMER | Self::SERVICE) {
            0 => Stack::Plain,
            Self::CUSTOMER => Stack::Service(CUSTOMER),
            _ => Stack::Service(SERVICE),
        };
        Tagging { vlan: VlanId::of_tci(self.0), tag, stack, below: 0 }
    }
}

/// A verdict as it is stored: half a line of the core's cache.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    /// The fields of its [`Flow`]; as such, they would take more room.
    port: PortId,
    head: [u64; 2],
    egress: PortId,
    remote: RemoteIndex,
    tagging: PackedTagging,
    /// When it ends.
    until: Tick,
    /// The cache's when it was stored.
    epoch: u16,
}

impl Slot {
    /// One that belongs to no flow, as no cache is in epoch 0.
    const EMPTY: Self = Self {
        port: PortId(0),
        head: [0; 2],
        egress: PortId(0),
        remote: RemoteIndex(0),
        tagging: PackedTagging(0),
        until: Tick(0),
        epoch: 0,
    };

    #[inline]
    fn is_of(&self, flow: Flow) -> bool {
        Flow { port: self.port, head: self.head } == flow
    }

    #[inline]
    fn holds(&self, epoch: u16, now: Tick) -> bool {
        self.epoch == epoch && now.is_before(self.until)
    }

    /// The port that frames of the flow leave by.
    #[inline]
    #[must_use]
    pub fn egress(&self) -> PortId {
        self.egress
    }

    /// To which of that port's remote ends.
    #[inline]
    #[must_use]
    pub fn remote(&self) -> RemoteIndex {
        self.remote
    }

    /// See [`Verdict::as_it_came`].
    #[inline]
    #[must_use]
    pub fn is_as_it_came(&self) -> bool {
        self.tagging.is_as_it_came()
    }

    /// The whole verdict; most frames need no more than the parts of it above.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let Self { port, head, egress, remote, tagging, .. } = *self;
        let as_it_came = tagging.is_as_it_came();
        Verdict { tagging: tagging.unpack(Flow { port, head }.tag()), as_it_came, egress, remote }
    }
}

/// Those that a flow may be in: a line of the core's cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Set([Slot; WAYS]);

impl Set {
    const EMPTY: Self = Self([Slot::EMPTY; WAYS]);
}

/// The verdicts of one worker.
#[derive(Debug)]
pub struct FlowCache {
    sets: Vec<Set>,
    epoch: u16,
    /// When the epoch began, as far as [`FlowCache::keep_time`] knows.
    since: Instant,
    /// Counts what all workers have to forget verdicts for, and how far that was when this one last did.
    changes: Arc<AtomicU64>,
    seen: u64,
    /// Verdicts stored since it was last considered to grow, and how many of them pushed out one that held.
    stored: usize,
    pushed_out: usize,
}

impl FlowCache {
    /// An empty one, whose verdicts hold as long as `changes` stays the same.
    #[must_use]
    pub fn new(changes: Arc<AtomicU64>) -> Self {
        let seen = changes.load(Acquire);
        let (sets, since) = (vec![Set::EMPTY; FEWEST], Instant::default());
        Self { sets, epoch: 1, since, changes, seen, stored: 0, pushed_out: 0 }
    }

    /// What is known of frames of `flow`.
    #[inline]
    #[must_use]
    pub fn find(&self, flow: Flow, now: Instant) -> Option<&Slot> {
        let Set(slots) = &self.sets[flow.set(self.sets.len())];
        slots.iter().find(|slot| slot.is_of(flow) && slot.holds(self.epoch, Tick::of(now)))
    }

    /// Fetches what is known of these frames from memory, for all of them at the same time: one after the other, each
    /// would wait for its own.
    pub fn fetch<'a>(&self, ingress: &Port, frames: impl Iterator<Item = &'a Frame>) {
        if self.sets.len() > NEAR {
            let place = Place::of(ingress.id);
            let sets = frames.filter_map(|frame| Flow::of(ingress, place, frame)).map(|flow| flow.set(self.sets.len()));
            std::hint::black_box(sets.fold(0, |all, set| all ^ self.sets[set].0[0].epoch));
        }
    }

    /// Whether there was a verdict about `flow` lately, if only one that was forgotten.
    #[must_use]
    pub fn remembers(&self, flow: Flow) -> bool {
        self.sets[flow.set(self.sets.len())].0.iter().any(|slot| slot.is_of(flow))
    }

    /// Has frames of `flow` go the same way until then.
    pub fn store(&mut self, flow: Flow, verdict: Verdict, now: Instant, until: Instant) {
        let Some(tagging) = PackedTagging::pack(verdict) else { return };
        let (Flow { port, head }, Verdict { egress, remote, .. }) = (flow, verdict);
        let (sets, epoch, tick) = (self.sets.len(), self.epoch, Tick::of(now));
        let Set(slots) = &mut self.sets[flow.set(sets)];
        let free = slots.iter().position(|slot| slot.is_of(flow) || !slot.holds(epoch, tick));
        if free.is_none() {
            slots.copy_within(..WAYS - 1, 1);
            self.pushed_out += 1;
        }
        let until = Tick::within_reach(until, now);
        slots[free.unwrap_or(0)] = Slot { port, head, egress, remote, tagging, until, epoch };
        self.stored += 1;
        if self.stored >= sets {
            self.consider_growing();
        }
    }

    /// Doubles if too many flows share sets, and begins to count anew.
    #[cold]
    fn consider_growing(&mut self) {
        if self.pushed_out > self.stored / 16 && self.sets.len() < MOST {
            (self.sets, self.epoch) = (vec![Set::EMPTY; 2 * self.sets.len()], 1);
        }
        (self.stored, self.pushed_out) = (0, 0);
    }

    /// Forgets everything.
    pub fn forget(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        if self.epoch == 0 {
            self.sets.fill(Set::EMPTY);
            self.epoch = 1;
        }
    }

    /// Forgets everything before a time that has passed is taken for one to come; to be called before what is stored is
    /// asked for, however long ago it was stored.
    pub fn keep_time(&mut self, now: Instant) {
        if now - self.since > Duration::from_nanos(u64::from(LONGEST) << TICK) {
            self.forget();
            self.since = now;
        }
    }

    /// Has all workers forget everything.
    pub fn forget_everywhere(&mut self) {
        self.forget();
        let before = self.changes.fetch_add(1, AcqRel);
        // What another worker has changed meanwhile is still to be heard of.
        if before == self.seen {
            self.seen += 1;
        }
    }

    /// Forgets everything if another worker has said so; whether one has. To be called before what verdicts rest on is
    /// looked at.
    #[inline]
    pub fn catch_up(&mut self) -> bool {
        let changes = self.changes.load(Acquire);
        let behind = changes != self.seen;
        if behind {
            self.seen = changes;
            self.forget();
        }
        behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    const JUST_BEFORE: Instant = Instant::from_nanos(8_998_000_000);
    const THEN: Instant = Instant::from_secs(9);

    fn flow(port: u32, rest: [u8; 6]) -> Flow {
        Flow::read(Place::of(PortId(port)), &[&ADDRESSES[..], &rest].concat()).unwrap()
    }

    fn verdict(egress: u32) -> Verdict {
        Verdict { egress: PortId(egress), ..Slot::EMPTY.verdict() }
    }

    fn found(cache: &FlowCache, flow: Flow, now: Instant) -> Option<Verdict> {
        cache.find(flow, now).map(Slot::verdict)
    }

    #[test]
    fn a_flow_is_port_addresses_and_tag() {
        let untagged = flow(1, [8, 0, 0x45, 0, 0, 60]);
        assert_eq!(untagged, flow(1, [8, 6, 0, 1, 8, 0]), "the same way for every protocol");
        assert_ne!(untagged, flow(2, [8, 0, 0x45, 0, 0, 60]));
        let from_end = |n| {
            let place = Place { port: PortId(1), remote: RemoteIndex(n) };
            Flow::read(place, &[&ADDRESSES[..], &[8, 0, 0x45, 0, 0, 60]].concat())
        };
        assert_ne!(from_end(1), Some(untagged));
        assert_ne!(from_end(1), from_end(0x3fff));
        assert_eq!(from_end(0x4000), None);
        let tagged = flow(1, [0x81, 0, 0x20, 10, 8, 0]);
        assert_eq!(tagged, flow(1, [0x81, 0, 0x20, 10, 8, 6]));
        let on_wire = |rest: &[u8]| [&ADDRESSES[..], rest].concat();
        assert_eq!((tagged.port(), tagged.on_wire().to_vec()), (PortId(1), on_wire(&[0x81, 0, 0x20, 10])));
        assert_eq!(from_end(1).unwrap().on_wire().to_vec(), on_wire(&[0; 4]));
        let service = [0x88, 0xa8, 0xff, 0xff];
        assert_eq!(flow(1, [0x88, 0xa8, 0xff, 0xff, 8, 0]).on_wire().to_vec(), on_wire(&service));
        for other in [[0x81, 0, 0x20, 11, 8, 0], [0x81, 0, 0x40, 10, 8, 0], [0x88, 0xa8, 0x20, 10, 8, 0]] {
            assert_ne!(tagged, flow(1, other));
        }
        assert_eq!(Flow::read(Place::of(PortId(1)), &ADDRESSES), None);
        let two_tags = [&ADDRESSES[..], &[0x81, 0, 0x20, 10, 0x81, 0]].concat();
        assert_eq!(Flow::read(Place::of(PortId(1)), &two_tags), None);
    }

    #[test]
    fn a_verdict_holds_until_its_time_or_until_all_are_forgotten() {
        let (mut cache, one) = (FlowCache::new(Arc::default()), flow(1, [8, 0, 0, 0, 0, 0]));
        assert_eq!(found(&cache, one, Instant::default()), None);
        // What no slot may be taken for: an empty one.
        assert_eq!(found(&cache, Flow { port: PortId(0), head: [0; 2] }, Instant::default()), None);
        assert!(!cache.remembers(one));
        cache.store(one, verdict(7), Instant::default(), THEN);
        assert_eq!(found(&cache, one, JUST_BEFORE), Some(verdict(7)));
        assert_eq!(found(&cache, one, THEN), None);
        assert_eq!(found(&cache, flow(2, [8, 0, 0, 0, 0, 0]), THEN), None);
        cache.forget();
        assert_eq!(found(&cache, one, JUST_BEFORE), None);
        assert!(cache.remembers(one), "though not what about it");
        cache.epoch = u16::MAX;
        cache.store(one, verdict(7), Instant::default(), THEN);
        cache.forget();
        assert_eq!(found(&cache, one, THEN), None, "epochs begin again with empty slots");
    }

    #[test]
    fn it_grows_only_while_flows_push_each_other_out() {
        let mut cache = FlowCache::new(Arc::default());
        let mut pass = |flows: u32| {
            for n in (0..flows).cycle().take(400_000) {
                let flow = flow(n, [8, 0, 0, 0, 0, 0]);
                match found(&cache, flow, JUST_BEFORE) {
                    Some(found) => assert_eq!(found, verdict(n)),
                    None => cache.store(flow, verdict(n), Instant::default(), THEN),
                }
            }
            let hits = (0..flows).filter(|&n| cache.find(flow(n, [8, 0, 0, 0, 0, 0]), JUST_BEFORE).is_some()).count();
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
    fn a_verdict_is_kept_as_it_was() {
        let mut cache = FlowCache::new(Arc::default());
        let rest = [0x81, 0, 0x60, 10, 8, 0];
        let second = Tag { tpid: CUSTOMER, tci: 0x600a };
        let tag = Some(second);
        let vlan = VlanId::of_tci(4095);
        let (egress, remote) = (PortId(u32::MAX), RemoteIndex(u16::MAX));
        for stack in [Stack::Plain, Stack::Service(CUSTOMER), Stack::Service(SERVICE)] {
            let as_it_came = stack == Stack::Plain;
            let verdict = Verdict { tagging: Tagging { vlan, tag, stack, below: 0 }, as_it_came, egress, remote };
            cache.store(flow(1, rest), verdict, Instant::default(), THEN);
            assert_eq!(found(&cache, flow(1, rest), JUST_BEFORE), Some(verdict));
        }
        let other = |stack, below| Tagging { vlan, tag, stack, below };
        cache.forget();
        for tagging in [other(Stack::Second(second), 0), other(Stack::Plain, 1), other(Stack::Service(1), 0)] {
            cache.store(
                flow(1, rest),
                Verdict { tagging, as_it_came: false, egress, remote },
                Instant::default(),
                THEN,
            );
            assert_eq!(found(&cache, flow(1, rest), JUST_BEFORE), None, "none rather than another");
        }
    }

    #[test]
    fn what_is_past_stays_so() {
        let (mut cache, one) = (FlowCache::new(Arc::default()), flow(1, [8, 0, 0, 0, 0, 0]));
        let second = Duration::from_secs(1);
        // A whole turn of the ticks in steps that fit no power of two, from a moment at which they are at their end.
        let (start, step) = (Instant::from_nanos(0xffff << TICK), Duration::from_micros(7_777));
        cache.keep_time(start);
        cache.store(one, verdict(7), start, start + second);
        let mut now = start;
        for _ in 0..20_000 {
            cache.keep_time(now);
            let (age, holds) = (now - start, cache.find(one, now).is_some());
            assert!(holds == (age < second) || second - age < Duration::from_millis(2), "{age:?}");
            now = now + step;
        }
        cache.keep_time(now);
        cache.store(one, verdict(7), now, Instant::from_nanos(u64::MAX));
        assert!(cache.find(one, now + 16 * second).is_some(), "for ever");
        assert!(cache.find(one, now + 18 * second).is_none(), "but asked for again");
    }

    #[test]
    fn what_one_worker_has_forgotten_the_others_hear_of_with_their_next_batch() {
        let changes = Arc::new(AtomicU64::new(0));
        let mut caches = [0, 1].map(|_| FlowCache::new(Arc::clone(&changes)));
        let one = flow(1, [8, 0, 0, 0, 0, 0]);
        let known = |caches: &[FlowCache; 2]| caches.each_ref().map(|cache| cache.find(one, JUST_BEFORE).is_some());
        let store = |caches: &mut [FlowCache; 2]| {
            caches.iter_mut().for_each(|cache| cache.store(one, verdict(7), Instant::default(), THEN));
        };
        store(&mut caches);
        caches[0].forget_everywhere();
        assert_eq!(known(&caches), [false, true]);
        caches[0].store(one, verdict(8), Instant::default(), THEN);
        caches.iter_mut().for_each(|cache| _ = cache.catch_up());
        assert_eq!(known(&caches), [true, false], "the first has forgotten once");
        store(&mut caches);
        // Both at the same time: each has the other's still to hear of.
        caches.iter_mut().for_each(FlowCache::forget_everywhere);
        store(&mut caches);
        caches.iter_mut().for_each(|cache| _ = cache.catch_up());
        assert_eq!(known(&caches), [false, false]);
    }

    #[test]
    fn a_set_is_a_line_of_the_cache() {
        assert_eq!((size_of::<Slot>(), size_of::<Set>()), (32, 64));
    }
}
