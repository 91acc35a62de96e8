//! Which port an address is behind: as learned from the source addresses of frames, or as configured for good.
//!
//! One table per bridge, owned by one worker thread; an entry is found by VLAN and address. An address that turns up at
//! another port has moved, and the entry is rewritten at once. One that is silent for the ageing time is forgotten:
//! [`MacTable::lookup`] no longer finds it, and [`MacTable::sweep`] frees it. A static entry has been heard at the end of
//! time: it never ages, moves or makes room, and costs the hot path nothing.
//!
//! The hot path is a hash lookup without a write: an entry's time is coarse, and refreshed only when it is older than a
//! grain. Everything else is O(1) but for the choice of a victim, which is O(log ports).
//!
//! An attacker may send from random addresses to push others out. So the table is bounded, and an address that was heard
//! once is a newcomer until it is heard again. When the table is full, newcomers make room first, at the port that has
//! the most of them and by its least recently heard one: a flood from one port competes with itself and with nobody who
//! talks. Only while newcomers hold less than a small part of a full table do they displace those who talk, at the port
//! that has the most, so that a new station always has a chance.

use super::moves::{Flap, Moves, RecentMove};
use super::shares::Shares;
use crate::time::{Duration, Instant};
use crate::types::{MacAddr, Place, PortId, RemoteIndex, VlanId};
use foldhash::fast::RandomState;
use std::collections::HashMap;

/// The coarsest refresh of an entry's time.
const MAX_GRAIN: Duration = Duration::from_secs(1);
/// Entries that one sweep frees at most, so that no frame waits long for it.
const SWEEP_LIMIT: usize = 256;
/// Which part of a full table newcomers may take from those who talk.
const NURSERY: usize = 64;
/// When a static entry was heard last.
const FOREVER: Instant = Instant::from_nanos(u64::MAX);

/// One address, for people and the control plane.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FdbEntry {
    /// The VLAN it is in.
    pub vlan: VlanId,
    /// The address.
    pub mac: MacAddr,
    /// Where it is.
    pub place: Place,
    /// How long ago it was last heard from, give or take a second; `None`: it is static.
    pub age: Option<Duration>,
}

/// An address that is where it is configured to be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StaticEntry {
    /// The VLAN it is in.
    pub vlan: VlanId,
    /// The address.
    pub mac: MacAddr,
    /// Where it is.
    pub place: Place,
}

/// How full a table is and what it went through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TableStats {
    /// Entries, static ones and expired ones that are not yet freed included.
    pub entries: usize,
    /// Static ones among them.
    pub statics: usize,
    /// Addresses that were new.
    pub learned: u64,
    /// Entries that were silent for the ageing time.
    pub expired: u64,
    /// Addresses that turned up at another port.
    pub moves: u64,
    /// Entries that made room for others.
    pub evicted: u64,
}

/// VLAN and address in one word: 12 bits of the one before 48 of the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Key(u64);

impl Key {
    #[inline]
    fn new(vlan: VlanId, mac: MacAddr) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        Self(u64::from(vlan.get()) << 48 | u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    fn changed(self) -> Lesson {
        let (vlan, mac) = self.parts();
        Lesson::Changed(vlan, mac)
    }

    pub(super) fn parts(self) -> (VlanId, MacAddr) {
        let [v0, v1, a, b, c, d, e, f] = self.0.to_be_bytes();
        (VlanId::of_tci(u16::from_be_bytes([v0, v1])), MacAddr([a, b, c, d, e, f]))
    }
}

/// What a frame has taught.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lesson {
    /// Nothing that stored verdicts rest on has changed.
    Fine,
    /// A static entry says that the sender is elsewhere, and goes on saying so.
    Elsewhere,
    /// The entry of this address, which a stored verdict may rest on ([`MacTable::rely_on`]), is another now, or gone.
    Changed(VlanId, MacAddr),
}

/// 16 bytes, so that a hit touches one line of the cache beside the index.
#[derive(Clone, Copy, Debug)]
struct Entry {
    port: PortId,
    remote: RemoteIndex,
    /// Whether it was heard again at its port after it was learned.
    regular: bool,
    /// Whether a stored verdict may rest on it.
    relied_on: bool,
    seen: Instant,
}

impl Entry {
    #[inline]
    fn new(Place { port, remote }: Place, regular: bool, seen: Instant) -> Self {
        Self { port, remote, regular, relied_on: false, seen }
    }

    #[inline]
    fn place(self) -> Place {
        Place { port: self.port, remote: self.remote }
    }

    #[inline]
    fn is_static(self) -> bool {
        self.seen == FOREVER
    }
}

/// The addresses of one bridge.
///
/// Invariants: every entry but the static ones is in one of the shares, newcomers or regulars as it says, at its port and
/// in the order of `seen`.
#[derive(Debug)]
pub struct MacTable {
    entries: HashMap<Key, Entry, RandomState>,
    newcomers: Shares,
    regulars: Shares,
    aging: Duration,
    grain: Duration,
    capacity: usize,
    /// What it went through; its numbers of entries are not kept up.
    stats: TableStats,
    moves: Moves,
}

impl MacTable {
    /// An empty table that forgets what is silent for longer than `aging` and holds up to `capacity` entries.
    #[must_use]
    pub fn new(aging: Duration, capacity: usize) -> Self {
        Self {
            entries: HashMap::default(),
            newcomers: Shares::default(),
            regulars: Shares::default(),
            aging,
            grain: grain(aging),
            capacity,
            stats: TableStats::default(),
            moves: Moves::default(),
        }
    }

    /// Applies other limits; entries that no longer fit go.
    pub fn configure(&mut self, aging: Duration, capacity: usize) {
        (self.aging, self.grain, self.capacity) = (aging, grain(aging), capacity);
        self.shrink();
    }

    /// Makes these the static entries, instead of those there were.
    pub fn set_statics(&mut self, statics: &[StaticEntry]) {
        self.entries.retain(|_, entry| !entry.is_static());
        for &StaticEntry { vlan, mac, place } in statics {
            let key = Key::new(vlan, mac);
            let learned = self.entries.insert(key, Entry::new(place, false, FOREVER));
            if let Some(was) = learned.filter(|was| !was.is_static()) {
                self.shares(was.regular).remove(was.port, key);
            }
        }
        self.shrink();
    }

    /// Where `mac` is in `vlan`.
    #[inline]
    #[must_use]
    pub fn lookup(&self, vlan: VlanId, mac: MacAddr, now: Instant) -> Option<Place> {
        self.entries.get(&Key::new(vlan, mac)).filter(|e| now - e.seen <= self.aging).map(|e| e.place())
    }

    /// Takes note that `mac` sent in `vlan` from `place`. Whoever calls has refused group addresses.
    #[inline]
    pub fn learn(&mut self, vlan: VlanId, mac: MacAddr, place: Place, now: Instant) -> Lesson {
        let key = Key::new(vlan, mac);
        match self.entries.get(&key) {
            Some(entry) if entry.place() == place && now - entry.seen < self.grain => Lesson::Fine,
            Some(entry) if entry.is_static() && entry.place() != place => Lesson::Elsewhere,
            Some(entry) if entry.is_static() => Lesson::Fine,
            Some(&entry) => self.refresh(key, entry, place, now),
            None => self.insert(key, place, now),
        }
    }

    /// How long a verdict holds that rests on where `src` and `dst` are now: both are known.
    pub fn rely_on(&mut self, vlan: VlanId, src: MacAddr, dst: MacAddr) -> Option<Instant> {
        let src = self.entries.get_mut(&Key::new(vlan, src))?;
        src.relied_on = true;
        let renew = src.seen + self.grain;
        let dst = self.entries.get_mut(&Key::new(vlan, dst))?;
        dst.relied_on = true;
        Some(renew.min(dst.seen + self.aging))
    }

    /// The same for one that was relied on before and whose sender goes on sending; `None`: one of the two is elsewhere now,
    /// or unknown.
    #[must_use]
    pub fn go_on_relying(
        &self,
        vlan: VlanId,
        src: (MacAddr, Place),
        dst: (MacAddr, Place),
        now: Instant,
    ) -> Option<Instant> {
        let there = |(mac, place)| self.lookup(vlan, mac, now) == Some(place);
        let dst_entry = self.entries.get(&Key::new(vlan, dst.0)).filter(|_| there(src) && there(dst))?;
        Some(dst_entry.seen + self.aging)
    }

    /// Renews an entry, and moves it if it was elsewhere.
    fn refresh(&mut self, key: Key, was: Entry, place: Place, now: Instant) -> Lesson {
        let expired = now - was.seen > self.aging;
        let moved = was.place() != place;
        if expired {
            self.stats.expired += 1;
            self.stats.learned += 1;
        } else if moved {
            self.stats.moves += 1;
            self.moves.note(key, was.place(), place, now);
        }
        let regular = !expired && was.port == place.port;
        let relied_on = was.relied_on && !moved;
        self.entries.insert(key, Entry { relied_on, ..Entry::new(place, regular, now) });
        if regular && was.regular {
            self.regulars.renew(place.port, key);
        } else {
            self.shares(was.regular).remove(was.port, key);
            self.shares(regular).add(place.port, key);
        }
        if moved && was.relied_on { key.changed() } else { Lesson::Fine }
    }

    #[cold]
    fn insert(&mut self, key: Key, place: Place, now: Instant) -> Lesson {
        let mut lesson = Lesson::Fine;
        if self.entries.len() >= self.capacity {
            match self.evict(Some(place.port)) {
                Some((key, evicted)) if evicted.relied_on => lesson = key.changed(),
                Some(_) => {}
                None => return lesson,
            }
        }
        self.stats.learned += 1;
        self.entries.insert(key, Entry::new(place, false, now));
        self.newcomers.add(place.port, key);
        lesson
    }

    /// Forgets what no longer fits.
    fn shrink(&mut self) {
        while self.entries.len() > self.capacity && self.evict(None).is_some() {}
    }

    /// Makes room at the port with the most entries: at `learner`, if none has more. What went, if there was anything.
    fn evict(&mut self, learner: Option<PortId>) -> Option<(Key, Entry)> {
        let regular = self.newcomers.len() <= self.capacity / NURSERY && !self.regulars.is_empty();
        let victim = self.shares(regular).largest(learner).and_then(|port| self.shares(regular).take_oldest(port))?;
        let evicted = self.entries.remove(&victim);
        self.stats.evicted += 1;
        Some((victim, evicted?))
    }

    /// Frees entries that have expired; whether some may be left for another sweep.
    pub fn sweep(&mut self, now: Instant) -> bool {
        let mut budget = SWEEP_LIMIT;
        for regular in [false, true] {
            for port in self.shares(regular).ports() {
                while self.has_expired(regular, port, now) {
                    if budget == 0 {
                        return true;
                    }
                    budget -= 1;
                    self.stats.expired += 1;
                    if let Some(key) = self.shares(regular).take_oldest(port) {
                        self.entries.remove(&key);
                    }
                }
            }
        }
        false
    }

    /// Whether the least recently heard entry of `port` is silent for too long.
    fn has_expired(&mut self, regular: bool, port: PortId, now: Instant) -> bool {
        let oldest = self.shares(regular).oldest(port);
        oldest.and_then(|key| self.entries.get(&key)).is_some_and(|e| now - e.seen > self.aging)
    }

    /// Forgets every entry but the static ones.
    pub fn flush(&mut self) {
        self.entries.retain(|_, entry| entry.is_static());
        self.newcomers = Shares::default();
        self.regulars = Shares::default();
    }

    /// Forgets what was learned at every port that `gone` says so of.
    pub fn flush_ports(&mut self, gone: impl Fn(PortId) -> bool) {
        for shares in [&mut self.newcomers, &mut self.regulars] {
            for port in shares.ports().into_iter().filter(|&p| gone(p)) {
                for key in shares.take_all(port) {
                    self.entries.remove(&key);
                }
            }
        }
    }

    /// Has what was learned at `port` follow its remote ends, which have other indexes; what `index` has none for is
    /// forgotten.
    pub fn renumber(&mut self, port: PortId, index: impl Fn(RemoteIndex) -> Option<RemoteIndex>) {
        for shares in [&mut self.newcomers, &mut self.regulars] {
            for key in shares.keys(port).collect::<Vec<_>>() {
                let Some(entry) = self.entries.get_mut(&key) else { continue };
                match index(entry.remote) {
                    Some(remote) => entry.remote = remote,
                    None => {
                        self.entries.remove(&key);
                        shares.remove(port, key);
                    }
                }
            }
        }
    }

    /// What is known at `now`.
    pub fn entries(&self, now: Instant) -> impl Iterator<Item = FdbEntry> + '_ {
        self.entries.iter().filter_map(move |(&key, entry)| {
            let (vlan, mac) = key.parts();
            let age = (!entry.is_static()).then(|| now - entry.seen);
            age.is_none_or(|age| age <= self.aging).then_some(FdbEntry { vlan, mac, place: entry.place(), age })
        })
    }

    /// How full it is and what it went through.
    #[must_use]
    pub fn stats(&self) -> TableStats {
        let entries = self.entries.len();
        TableStats { entries, statics: entries - self.newcomers.len() - self.regulars.len(), ..self.stats }
    }

    /// The same as far as anybody can see at `now`: what has expired is no entry, freed or not.
    #[must_use]
    pub fn stats_at(&self, now: Instant) -> TableStats {
        let entries = self.entries(now).count();
        let unfreed = (self.entries.len() - entries) as u64;
        TableStats { entries, expired: self.stats.expired + unfreed, ..self.stats() }
    }

    /// Counts what it goes through from zero again.
    pub fn clear_stats(&mut self) {
        self.stats = TableStats::default();
    }

    /// The addresses that have moved lately, the last one first.
    #[must_use]
    pub fn recent_moves(&self, now: Instant) -> Vec<RecentMove> {
        self.moves.recent(now)
    }

    /// An address that keeps moving, if there is one to be reported at `now`.
    pub fn flapping(&mut self, now: Instant) -> Option<Flap> {
        self.moves.flapping(now)
    }

    fn shares(&mut self, regular: bool) -> &mut Shares {
        if regular { &mut self.regulars } else { &mut self.newcomers }
    }
}

/// How coarse an entry's time is: a small part of the ageing time.
fn grain(aging: Duration) -> Duration {
    MAX_GRAIN.min(aging / 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGING: Duration = Duration::from_secs(300);
    const P1: Place = Place::of(PortId(1));
    const P2: Place = Place::of(PortId(2));

    fn mac(n: u32) -> MacAddr {
        let [a, b, c, d] = n.to_be_bytes();
        MacAddr([2, 0, a, b, c, d])
    }

    fn vlan(n: u16) -> VlanId {
        VlanId::new(n).unwrap()
    }

    fn at(secs: u64) -> Instant {
        Instant::from_secs(secs)
    }

    fn at_port(n: u32) -> Place {
        Place::of(PortId(n))
    }

    fn entry(vlan_id: u16, address: u32, place: Place) -> StaticEntry {
        StaticEntry { vlan: vlan(vlan_id), mac: mac(address), place }
    }

    /// The invariants in the type's documentation.
    fn check(t: &MacTable) {
        let statics = t.entries.values().filter(|e| e.is_static()).count();
        assert_eq!(t.newcomers.len() + t.regulars.len() + statics, t.entries.len());
        for (regular, shares) in [(false, &t.newcomers), (true, &t.regulars)] {
            shares.check();
            for port in shares.ports() {
                let seen: Vec<_> = shares.keys(port).map(|key| t.entries[&key]).collect();
                assert!(seen.iter().all(|e| e.port == port && e.regular == regular && !e.is_static()));
                assert!(seen.is_sorted_by(|a, b| a.seen >= b.seen), "most recent first");
            }
        }
        assert!(t.entries.len() <= t.capacity.max(statics));
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 16);
    }

    #[test]
    fn an_address_is_found_in_its_vlan_only() {
        let mut t = MacTable::new(AGING, 8);
        t.learn(vlan(10), mac(1), P1, at(0));
        assert_eq!(t.lookup(vlan(10), mac(1), at(0)), Some(P1));
        assert_eq!(t.lookup(vlan(11), mac(1), at(0)), None);
        t.learn(vlan(11), mac(1), P2, at(0));
        assert_eq!(t.lookup(vlan(10), mac(1), at(0)), Some(P1));
        assert_eq!(t.stats(), TableStats { entries: 2, learned: 2, ..TableStats::default() });
        check(&t);
    }

    #[test]
    fn an_address_moves_at_once_and_the_move_is_counted() {
        let mut t = MacTable::new(AGING, 8);
        t.learn(vlan(0), mac(1), P1, at(0));
        t.learn(vlan(0), mac(1), P2, at(0));
        assert_eq!(t.lookup(vlan(0), mac(1), at(0)), Some(P2));
        check(&t);
        t.learn(vlan(0), mac(1), P1, at(301));
        let stats = TableStats { entries: 1, learned: 2, expired: 1, moves: 1, ..TableStats::default() };
        assert_eq!(t.stats(), stats, "one that had expired has not moved");
        check(&t);
    }

    #[test]
    fn silence_ages_and_traffic_renews() {
        let mut t = MacTable::new(AGING, 8);
        t.learn(vlan(0), mac(1), P1, at(0));
        t.learn(vlan(0), mac(2), P1, at(0));
        t.learn(vlan(0), mac(1), P1, at(200));
        assert_eq!(t.lookup(vlan(0), mac(2), at(300)), Some(P1));
        assert_eq!(t.lookup(vlan(0), mac(2), at(301)), None);
        assert_eq!(t.lookup(vlan(0), mac(1), at(301)), Some(P1));
        let seen: Vec<_> = t.entries(at(301)).map(|e| (e.mac, e.age.unwrap().as_secs())).collect();
        assert_eq!(seen, [(mac(1), 101)]);
        assert_eq!(t.stats().entries, 2, "found no longer, but not yet freed");
        let stats = TableStats { entries: 1, learned: 2, expired: 1, ..TableStats::default() };
        assert_eq!(t.stats_at(at(301)), stats);
        assert!(!t.sweep(at(301)));
        assert_eq!(t.stats(), stats);
        check(&t);
    }

    #[test]
    fn a_steady_sender_never_ages_however_short_the_time() {
        let mut t = MacTable::new(Duration::from_secs(1), 8);
        for i in 0..100 {
            let now = Instant::from_nanos(i * 900_000_000);
            assert_eq!(t.lookup(vlan(0), mac(1), now).is_some(), i > 0, "round {i}");
            t.learn(vlan(0), mac(1), P1, now);
        }
    }

    #[test]
    fn a_sweep_frees_a_limited_number() {
        let mut t = MacTable::new(AGING, 1000);
        (0..600).for_each(|i| _ = t.learn(vlan(0), mac(i), at_port(i % 3), at(0)));
        assert!(t.sweep(at(400)));
        assert_eq!(t.stats().entries, 600 - SWEEP_LIMIT);
        check(&t);
        assert!(t.sweep(at(400)));
        assert!(!t.sweep(at(400)));
        assert_eq!(t.stats().entries, 0);
        check(&t);
    }

    #[test]
    fn a_flood_of_addresses_competes_with_itself() {
        let mut t = MacTable::new(AGING, 100);
        (0..40).for_each(|i| _ = t.learn(vlan(0), mac(i), P2, at(0)));
        (1000..5000).for_each(|i| _ = t.learn(vlan(0), mac(i), P1, at(1)));
        assert!((0..40).all(|i| t.lookup(vlan(0), mac(i), at(1)) == Some(P2)));
        assert_eq!(t.stats(), TableStats { entries: 100, learned: 4040, evicted: 4000 - 60, ..TableStats::default() });
        assert_eq!(t.lookup(vlan(0), mac(4999), at(1)), Some(P1), "the newest are in");
        assert_eq!(t.lookup(vlan(0), mac(4939), at(1)), None, "the oldest are out");
        check(&t);
    }

    #[test]
    fn what_a_verdict_rests_on_tells_when_it_changes() {
        let rely = |t: &mut MacTable| t.rely_on(vlan(0), mac(1), mac(2));
        let mut t = MacTable::new(AGING, 3);
        t.learn(vlan(0), mac(1), P1, at(0));
        assert_eq!(rely(&mut t), None, "one of them is not known");
        t.learn(vlan(0), mac(2), P2, at(0));
        assert_eq!(rely(&mut t), Some(at(1)), "then the sender is to be heard again");
        // Heard again where it was, it is relied on as before.
        assert_eq!(t.learn(vlan(0), mac(2), P2, at(200)), Lesson::Fine);
        t.learn(vlan(0), mac(1), P1, at(499));
        assert_eq!(rely(&mut t), Some(at(500)), "then the receiver expires, or the sender is to be heard again");
        assert_eq!(t.learn(vlan(0), mac(2), P1, at(499)), Lesson::Changed(vlan(0), mac(2)), "it moved");
        assert_eq!(t.learn(vlan(0), mac(2), P2, at(499)), Lesson::Fine, "nobody has relied on it since");
        let mut t = MacTable::new(AGING, 2);
        (1..3).for_each(|n| _ = t.learn(vlan(0), mac(n), P1, at(0)));
        rely(&mut t);
        assert_eq!(t.learn(vlan(0), mac(3), P1, at(0)), Lesson::Changed(vlan(0), mac(1)), "one of them has made room");
        check(&t);
    }

    #[test]
    fn a_full_table_is_shared_by_halves_and_then_stays_so() {
        let mut t = MacTable::new(AGING, 100);
        (0..100).for_each(|i| _ = t.learn(vlan(0), mac(i), P2, at(0)));
        (1000..5000).for_each(|i| _ = t.learn(vlan(0), mac(i), P1, at(1)));
        let of = |place| t.entries(at(1)).filter(|e| e.place == place).count();
        assert_eq!((of(P1), of(P2)), (50, 50));
        assert!((50..100).all(|i| t.lookup(vlan(0), mac(i), at(1)) == Some(P2)), "the least recent went");
        check(&t);
    }

    #[test]
    fn a_flood_takes_nothing_from_those_who_talk_however_many_they_are() {
        let mut t = MacTable::new(AGING, 6400);
        for (i, secs) in (0..6000).flat_map(|i| [(i, 0), (i, 2)]).collect::<Vec<_>>() {
            t.learn(vlan(0), mac(i), at_port(1 + i % 2), at(secs));
        }
        (10_000..100_000).for_each(|i| _ = t.learn(vlan(0), mac(i), at_port(3), at(3)));
        assert!((0..6000).all(|i| t.lookup(vlan(0), mac(i), at(3)).is_some()));
        check(&t);
        // A table that is full of those who talk: a new station displaces some all the same, the flood not many.
        (7000..7400).for_each(|i| (4..8).step_by(2).for_each(|secs| _ = t.learn(vlan(0), mac(i), P1, at(secs))));
        assert_eq!(t.stats().entries, 6400);
        (100_000..200_000).for_each(|i| _ = t.learn(vlan(0), mac(i), at_port(3), at(8)));
        let known = (0..6000).chain(7000..7400).filter(|&i| t.lookup(vlan(0), mac(i), at(8)).is_some()).count();
        assert_eq!(known, 6400 - 6400 / NURSERY - 1);
        t.learn(vlan(0), mac(9000), P2, at(9));
        (200_000..201_000).for_each(|i| _ = t.learn(vlan(0), mac(i), at_port(3), at(9)));
        assert_eq!(t.lookup(vlan(0), mac(9000), at(9)), Some(P2));
        check(&t);
    }

    #[test]
    fn a_static_entry_stays_whatever_happens() {
        let mut t = MacTable::new(AGING, 4);
        t.learn(vlan(10), mac(1), P2, at(0));
        t.set_statics(&[entry(10, 1, P1), entry(0, 2, P2)]);
        check(&t);
        assert_eq!(t.learn(vlan(10), mac(1), P2, at(1)), Lesson::Elsewhere, "it is elsewhere");
        assert_eq!(t.learn(vlan(10), mac(1), P1, at(1)), Lesson::Fine);
        assert_eq!(t.learn(vlan(11), mac(1), P2, at(1)), Lesson::Fine, "another VLAN");
        (100..200).for_each(|i| _ = t.learn(vlan(0), mac(i), P1, at(1)));
        assert!(!t.sweep(at(5000)));
        t.flush_ports(|_| true);
        t.flush();
        assert_eq!(t.lookup(vlan(10), mac(1), at(5000)), Some(P1));
        let mut known: Vec<_> = t.entries(at(5000)).collect();
        known.sort();
        assert_eq!(
            known.iter().map(|e| (e.mac, e.place, e.age)).collect::<Vec<_>>(),
            [(mac(2), P2, None), (mac(1), P1, None)]
        );
        let stats = t.stats_at(at(5000));
        assert_eq!((stats.entries, stats.statics, stats.moves), (2, 2, 0));
        check(&t);
        t.set_statics(&[entry(0, 2, P1)]);
        assert_eq!((t.lookup(vlan(10), mac(1), at(5000)), t.lookup(vlan(0), mac(2), at(5000))), (None, Some(P1)));
        check(&t);
    }

    #[test]
    fn more_static_entries_than_fit_are_kept_and_nothing_is_learned() {
        let mut t = MacTable::new(AGING, 3);
        (0..3).for_each(|i| _ = t.learn(vlan(0), mac(i), P1, at(0)));
        t.set_statics(&(10..15).map(|i| entry(0, i, P2)).collect::<Vec<_>>());
        t.learn(vlan(0), mac(1), P1, at(0));
        assert_eq!((t.stats().entries, t.stats().statics), (5, 5));
        check(&t);
    }

    #[test]
    fn without_ageing_time_a_static_entry_holds_all_the_same() {
        let mut t = MacTable::new(Duration::ZERO, 3);
        t.set_statics(&[entry(0, 1, P1)]);
        assert_eq!([P1, P2].map(|p| t.learn(vlan(0), mac(1), p, at(9))), [Lesson::Fine, Lesson::Elsewhere]);
        assert_eq!(t.lookup(vlan(0), mac(1), at(9)), Some(P1));
    }

    #[test]
    fn statistics_start_over() {
        let mut t = MacTable::new(AGING, 8);
        t.learn(vlan(0), mac(1), P1, at(0));
        t.learn(vlan(0), mac(1), P2, at(0));
        t.clear_stats();
        assert_eq!(t.stats(), TableStats { entries: 1, ..TableStats::default() });
    }

    #[test]
    fn the_least_recently_heard_goes_first() {
        let mut t = MacTable::new(AGING, 2);
        t.learn(vlan(0), mac(1), P1, at(0));
        t.learn(vlan(0), mac(2), P1, at(5));
        t.learn(vlan(0), mac(1), P1, at(10));
        t.learn(vlan(0), mac(3), P1, at(11));
        assert_eq!(t.lookup(vlan(0), mac(2), at(11)), None);
        assert_eq!(t.lookup(vlan(0), mac(1), at(11)), Some(P1));
        check(&t);
    }

    #[test]
    fn limits_apply_at_once_and_zero_learns_nothing() {
        let mut t = MacTable::new(AGING, 10);
        (0..10).for_each(|i| _ = t.learn(vlan(0), mac(i), at_port(i % 2), at(0)));
        t.configure(AGING, 3);
        assert_eq!(t.stats().entries, 3);
        check(&t);
        t.configure(AGING, 0);
        t.learn(vlan(0), mac(1), P1, at(0));
        assert_eq!(t.stats().entries, 0);
        check(&t);
    }

    #[test]
    fn remote_ends_are_renumbered_and_those_that_go_are_forgotten() {
        let mut t = MacTable::new(AGING, 10);
        let place = |remote| Place { port: PortId(1), remote: RemoteIndex(remote) };
        for (address, remote) in [(1, 0), (2, 1), (3, 2)] {
            t.learn(vlan(0), mac(address), place(remote), at(0));
        }
        t.learn(vlan(0), mac(3), place(2), at(5));
        t.learn(vlan(0), mac(4), P2, at(5));
        t.renumber(PortId(1), |RemoteIndex(i)| [Some(2), None, Some(0)][usize::from(i)].map(RemoteIndex));
        check(&t);
        let found = [1, 2, 3, 4].map(|address| t.lookup(vlan(0), mac(address), at(5)));
        assert_eq!(found, [Some(place(2)), None, Some(place(0)), Some(P2)]);
    }

    #[test]
    fn ports_are_flushed_alone() {
        let mut t = MacTable::new(AGING, 10);
        (0..6).for_each(|i| _ = t.learn(vlan(0), mac(i), at_port(i % 2), at(0)));
        t.flush_ports(|p| p == PortId(0));
        assert_eq!(t.lookup(vlan(0), mac(0), at(0)), None);
        assert_eq!(t.lookup(vlan(0), mac(1), at(0)), Some(P1));
        check(&t);
        t.flush();
        assert_eq!(t.stats().entries, 0);
        check(&t);
    }

    proptest::proptest! {
        /// Whatever happens, the lists agree with the entries, and what was just heard is found.
        #[test]
        fn any_history_keeps_the_invariants(
            steps in proptest::collection::vec((0u32..12, 0u32..3, 0u64..200, 0u8..20), 1..200),
        ) {
            let mut t = MacTable::new(AGING, 8);
            let mut now = 0;
            for (address, port, wait, action) in steps {
                now += wait;
                match action {
                    0 => t.flush_ports(|p| p == PortId(port)),
                    3 => t.set_statics(&[entry(0, address, at_port(port))]),
                    1 => { t.sweep(at(now)); }
                    2 => t.configure(AGING, 4 + port as usize * 2),
                    _ => {
                        let held = t.learn(vlan(0), mac(address), at_port(port), at(now));
                        let found = t.lookup(vlan(0), mac(address), at(now));
                        proptest::prop_assert_eq!(found == Some(at_port(port)), held != Lesson::Elsewhere);
                    }
                }
                check(&t);
            }
        }
    }
}
