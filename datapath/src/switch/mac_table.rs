//! Which port an address is behind, as learned from the source addresses of frames.
//!
//! One table per bridge, owned by one worker thread; an entry is found by VLAN and address. An address that turns up at
//! another port has moved, and the entry is rewritten at once. One that is silent for the ageing time is forgotten:
//! [`MacTable::lookup`] no longer finds it, and [`MacTable::sweep`] frees it.
//!
//! The hot path is a hash lookup without a write: an entry's time is coarse, and refreshed only when it is older than a
//! grain. Everything else is O(1) but for the choice of a victim, which is O(log ports).
//!
//! An attacker may send from random addresses to push others out. So the table is bounded, and when it is full, room is
//! made at the port that has the most entries, by its least recently heard one: a flood from one port soon competes only
//! with itself, and a port that has fewer entries than the flooding one loses none.

use crate::time::{Duration, Instant};
use crate::types::{MacAddr, PortId, VlanId};
use foldhash::fast::RandomState;
use lru::LruCache;
use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeSet, HashMap};

/// The coarsest refresh of an entry's time.
const MAX_GRAIN: Duration = Duration::from_secs(1);
/// Entries that one sweep frees at most, so that no frame waits long for it.
const SWEEP_LIMIT: usize = 256;

/// One learned address, for people and the control plane.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FdbEntry {
    /// The VLAN it is in.
    pub vlan: VlanId,
    /// The address.
    pub mac: MacAddr,
    /// The port it is behind.
    pub port: PortId,
    /// How long ago it was last heard from, give or take a second.
    pub age: Duration,
}

/// How full a table is and what it went through.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TableStats {
    /// Entries, expired ones that are not yet freed included.
    pub entries: usize,
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
struct Key(u64);

impl Key {
    #[inline]
    fn new(vlan: VlanId, mac: MacAddr) -> Self {
        let [a, b, c, d, e, f] = mac.0;
        Self(u64::from(vlan.get()) << 48 | u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
    }

    fn parts(self) -> (VlanId, MacAddr) {
        let [v0, v1, a, b, c, d, e, f] = self.0.to_be_bytes();
        (VlanId::of_tci(u16::from_be_bytes([v0, v1])), MacAddr([a, b, c, d, e, f]))
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    port: PortId,
    seen: Instant,
}

/// The learned addresses of one bridge.
///
/// Invariants: every entry is in the recency list of its port, in the order of `seen`; `by_size` holds every port that
/// has a list, with its length; no list is empty.
#[derive(Debug)]
pub struct MacTable {
    entries: HashMap<Key, Entry, RandomState>,
    recency: HashMap<PortId, LruCache<Key, (), RandomState>, RandomState>,
    by_size: BTreeSet<(usize, PortId)>,
    aging: Duration,
    grain: Duration,
    capacity: usize,
    learned: u64,
    expired: u64,
    moves: u64,
    evicted: u64,
}

impl MacTable {
    /// An empty table that forgets what is silent for longer than `aging` and holds up to `capacity` entries.
    #[must_use]
    pub fn new(aging: Duration, capacity: usize) -> Self {
        Self {
            entries: HashMap::default(),
            recency: HashMap::default(),
            by_size: BTreeSet::new(),
            aging,
            grain: grain(aging),
            capacity,
            learned: 0,
            expired: 0,
            moves: 0,
            evicted: 0,
        }
    }

    /// Applies other limits; entries that no longer fit go.
    pub fn configure(&mut self, aging: Duration, capacity: usize) {
        (self.aging, self.grain, self.capacity) = (aging, grain(aging), capacity);
        while self.entries.len() > self.capacity {
            self.evict(None);
        }
    }

    /// The port that `mac` is behind in `vlan`.
    #[inline]
    #[must_use]
    pub fn lookup(&self, vlan: VlanId, mac: MacAddr, now: Instant) -> Option<PortId> {
        self.entries.get(&Key::new(vlan, mac)).filter(|e| now - e.seen <= self.aging).map(|e| e.port)
    }

    /// Takes note that `mac` sent in `vlan` through `port`. Whoever calls has refused group addresses.
    #[inline]
    pub fn learn(&mut self, vlan: VlanId, mac: MacAddr, port: PortId, now: Instant) {
        let key = Key::new(vlan, mac);
        match self.entries.get(&key) {
            Some(entry) if entry.port == port && now - entry.seen < self.grain => {}
            Some(&entry) => self.refresh(key, entry, port, now),
            None => self.insert(key, port, now),
        }
    }

    /// Renews an entry, and moves it if it was another port's.
    fn refresh(&mut self, key: Key, was: Entry, port: PortId, now: Instant) {
        self.entries.insert(key, Entry { port, seen: now });
        let expired = now - was.seen > self.aging;
        if expired {
            self.expired += 1;
            self.learned += 1;
        }
        if was.port == port {
            if let Some(list) = self.recency.get_mut(&port) {
                list.promote(&key);
            }
            return;
        }
        if !expired {
            self.moves += 1;
        }
        self.unlist(key, was.port);
        self.enlist(key, port);
    }

    #[cold]
    fn insert(&mut self, key: Key, port: PortId, now: Instant) {
        if self.capacity == 0 {
            return;
        }
        if self.entries.len() >= self.capacity {
            self.evict(Some(port));
        }
        self.learned += 1;
        self.entries.insert(key, Entry { port, seen: now });
        self.enlist(key, port);
    }

    /// Makes room at the port with the most entries: at `learner`, if none has more.
    fn evict(&mut self, learner: Option<PortId>) {
        let Some(&(most, mut victim)) = self.by_size.last() else { return };
        if let Some(learner) = learner.filter(|&l| self.by_size.contains(&(most, l))) {
            victim = learner;
        }
        self.forget_oldest(victim);
        self.evicted += 1;
    }

    /// Frees entries that have expired; whether some may be left for another sweep.
    pub fn sweep(&mut self, now: Instant) -> bool {
        let ports: Vec<_> = self.recency.keys().copied().collect();
        let mut budget = SWEEP_LIMIT;
        for port in ports {
            while self.oldest(port).is_some_and(|e| now - e.seen > self.aging) {
                if budget == 0 {
                    return true;
                }
                budget -= 1;
                self.expired += 1;
                self.forget_oldest(port);
            }
        }
        false
    }

    /// Forgets every entry.
    pub fn flush(&mut self) {
        self.entries.clear();
        self.recency.clear();
        self.by_size.clear();
    }

    /// Forgets the entries of every port that `gone` says so of.
    pub fn flush_ports(&mut self, gone: impl Fn(PortId) -> bool) {
        for port in self.recency.keys().copied().filter(|&p| gone(p)).collect::<Vec<_>>() {
            let Some(list) = self.recency.remove(&port) else { continue };
            self.by_size.remove(&(list.len(), port));
            for (key, ()) in &list {
                self.entries.remove(key);
            }
        }
    }

    /// What is known at `now`.
    pub fn entries(&self, now: Instant) -> impl Iterator<Item = FdbEntry> + '_ {
        self.entries.iter().filter_map(move |(&key, entry)| {
            let (vlan, mac) = key.parts();
            let age = now - entry.seen;
            (age <= self.aging).then_some(FdbEntry { vlan, mac, port: entry.port, age })
        })
    }

    /// How full it is and what it went through.
    #[must_use]
    pub fn stats(&self) -> TableStats {
        let &Self { learned, expired, moves, evicted, .. } = self;
        TableStats { entries: self.entries.len(), learned, expired, moves, evicted }
    }

    /// The same as far as anybody can see at `now`: what has expired is no entry, freed or not.
    #[must_use]
    pub fn stats_at(&self, now: Instant) -> TableStats {
        let entries = self.entries(now).count();
        let unfreed = (self.entries.len() - entries) as u64;
        TableStats { entries, expired: self.expired + unfreed, ..self.stats() }
    }

    fn oldest(&self, port: PortId) -> Option<&Entry> {
        let (key, ()) = self.recency.get(&port)?.peek_lru()?;
        self.entries.get(key)
    }

    /// Forgets the least recently heard entry of `port`.
    fn forget_oldest(&mut self, port: PortId) {
        let Some((&key, ())) = self.recency.get(&port).and_then(LruCache::peek_lru) else { return };
        self.unlist(key, port);
        self.entries.remove(&key);
    }

    /// Puts `key` first on the list of `port`.
    fn enlist(&mut self, key: Key, port: PortId) {
        let list = match self.recency.entry(port) {
            Slot::Occupied(list) => list.into_mut(),
            Slot::Vacant(slot) => slot.insert(LruCache::unbounded_with_hasher(RandomState::default())),
        };
        self.by_size.remove(&(list.len(), port));
        list.push(key, ());
        self.by_size.insert((list.len(), port));
    }

    /// Takes `key` off the list of `port`.
    fn unlist(&mut self, key: Key, port: PortId) {
        let Some(list) = self.recency.get_mut(&port) else { return };
        self.by_size.remove(&(list.len(), port));
        list.pop(&key);
        match list.len() {
            0 => drop(self.recency.remove(&port)),
            len => drop(self.by_size.insert((len, port))),
        }
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
    const P1: PortId = PortId(1);
    const P2: PortId = PortId(2);

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

    /// The invariants in the type's documentation.
    fn check(t: &MacTable) {
        assert_eq!(t.recency.values().map(LruCache::len).sum::<usize>(), t.entries.len());
        let sizes: BTreeSet<_> = t.recency.iter().map(|(&port, list)| (list.len(), port)).collect();
        assert_eq!(sizes, t.by_size);
        for (port, list) in &t.recency {
            assert!(!list.is_empty());
            let seen: Vec<_> = list.iter().map(|(key, ())| t.entries[key]).collect();
            assert!(seen.iter().all(|e| e.port == *port));
            assert!(seen.is_sorted_by(|a, b| a.seen >= b.seen), "most recent first");
        }
        assert!(t.entries.len() <= t.capacity);
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
        let stats = TableStats { entries: 1, learned: 2, expired: 1, moves: 1, evicted: 0 };
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
        let seen: Vec<_> = t.entries(at(301)).map(|e| (e.mac, e.age.as_secs())).collect();
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
        (0..600).for_each(|i| t.learn(vlan(0), mac(i), PortId(i % 3), at(0)));
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
        (0..40).for_each(|i| t.learn(vlan(0), mac(i), P2, at(0)));
        (1000..5000).for_each(|i| t.learn(vlan(0), mac(i), P1, at(1)));
        assert!((0..40).all(|i| t.lookup(vlan(0), mac(i), at(1)) == Some(P2)));
        assert_eq!(t.stats(), TableStats { entries: 100, learned: 4040, evicted: 4000 - 60, ..TableStats::default() });
        assert_eq!(t.lookup(vlan(0), mac(4999), at(1)), Some(P1), "the newest are in");
        assert_eq!(t.lookup(vlan(0), mac(4939), at(1)), None, "the oldest are out");
        check(&t);
    }

    #[test]
    fn a_full_table_is_shared_by_halves_and_then_stays_so() {
        let mut t = MacTable::new(AGING, 100);
        (0..100).for_each(|i| t.learn(vlan(0), mac(i), P2, at(0)));
        (1000..5000).for_each(|i| t.learn(vlan(0), mac(i), P1, at(1)));
        let of = |port| t.entries(at(1)).filter(|e| e.port == port).count();
        assert_eq!((of(P1), of(P2)), (50, 50));
        assert!((50..100).all(|i| t.lookup(vlan(0), mac(i), at(1)) == Some(P2)), "the least recent went");
        check(&t);
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
        (0..10).for_each(|i| t.learn(vlan(0), mac(i), PortId(i % 2), at(0)));
        t.configure(AGING, 3);
        assert_eq!(t.stats().entries, 3);
        check(&t);
        t.configure(AGING, 0);
        t.learn(vlan(0), mac(1), P1, at(0));
        assert_eq!(t.stats().entries, 0);
        check(&t);
    }

    #[test]
    fn ports_are_flushed_alone() {
        let mut t = MacTable::new(AGING, 10);
        (0..6).for_each(|i| t.learn(vlan(0), mac(i), PortId(i % 2), at(0)));
        t.flush_ports(|p| p == PortId(0));
        assert_eq!(t.lookup(vlan(0), mac(0), at(0)), None);
        assert_eq!(t.lookup(vlan(0), mac(1), at(0)), Some(PortId(1)));
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
                    1 => { t.sweep(at(now)); }
                    2 => t.configure(AGING, 4 + port as usize * 2),
                    _ => {
                        t.learn(vlan(0), mac(address), PortId(port), at(now));
                        proptest::prop_assert_eq!(t.lookup(vlan(0), mac(address), at(now)), Some(PortId(port)));
                    }
                }
                check(&t);
            }
        }
    }
}
