//! Addresses that turn up at one place and then at another: remembered for a while, and told when they keep doing it.
//!
//! One move is a station that was plugged in elsewhere, or a virtual machine that migrated. Many moves in a short time
//! are two stations with one address, or a loop, and somebody should know: once per [`INTERVAL`] and bridge, about the
//! address that moves most, with the number of others. An attacker can make any number of addresses move; memory and
//! reports are bounded.

use super::mac_table::Key;
use crate::time::{Duration, Instant};
use crate::types::{MacAddr, Place, VlanId};
use foldhash::fast::RandomState;
use lru::LruCache;
use std::num::NonZeroUsize;

/// Between two reports, and the time in which more than [`TOLERATED`] moves are flapping.
pub const INTERVAL: Duration = Duration::from_secs(10);
/// Moves in an interval that are nobody's business.
pub const TOLERATED: u32 = 5;
/// Addresses remembered, those that moved last.
pub const REMEMBERED: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// An address that has moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecentMove {
    /// The VLAN it is in.
    pub vlan: VlanId,
    /// The address.
    pub mac: MacAddr,
    /// Where it was before its last move.
    pub from: Place,
    /// Where it was then.
    pub to: Place,
    /// How often it has moved since it is remembered.
    pub moves: u64,
    /// How long it is remembered.
    pub over: Duration,
    /// How long ago its last move was.
    pub age: Duration,
}

/// An address that keeps moving.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Flap {
    /// The VLAN it is in.
    pub vlan: VlanId,
    /// The address.
    pub mac: MacAddr,
    /// Where it was before its last move.
    pub from: Place,
    /// Where it was then.
    pub to: Place,
    /// How often it has moved since it was told last.
    pub moves: u32,
    /// In which time.
    pub over: Duration,
    /// How many other addresses do the same.
    pub others: usize,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    from: Place,
    to: Place,
    first: Instant,
    last: Instant,
    moves: u64,
    /// Those that are counted for the next report, and since when.
    counted: u32,
    since: Instant,
}

/// The moves of one bridge's addresses.
#[derive(Debug)]
pub(super) struct Moves {
    records: LruCache<Key, Record, RandomState>,
    /// Whether a record may be worth a report.
    suspicious: bool,
    /// No report before this.
    quiet_until: Instant,
}

impl Default for Moves {
    fn default() -> Self {
        let records = LruCache::with_hasher(REMEMBERED, RandomState::default());
        Self { records, suspicious: false, quiet_until: Instant::default() }
    }
}

impl Moves {
    /// Takes note that an address was at one place and is at another.
    pub(super) fn note(&mut self, key: Key, from: Place, to: Place, now: Instant) {
        let new = || Record { from, to, first: now, last: now, moves: 0, counted: 0, since: now };
        let record = self.records.get_or_insert_mut(key, new);
        if record.counted <= TOLERATED && now - record.since > INTERVAL {
            (record.counted, record.since) = (0, now);
        }
        (record.from, record.to, record.last) = (from, to, now);
        record.moves += 1;
        record.counted = record.counted.saturating_add(1);
        self.suspicious |= record.counted > TOLERATED;
    }

    /// What is to be told at `now`, if anything is.
    pub(super) fn flapping(&mut self, now: Instant) -> Option<Flap> {
        if !self.suspicious || now < self.quiet_until {
            return None;
        }
        let mut worst: Option<Flap> = None;
        let mut told = 0;
        for (&key, record) in self.records.iter_mut().filter(|(_, r)| r.counted > TOLERATED) {
            told += 1;
            if worst.is_none_or(|w| w.moves < record.counted) {
                let ((vlan, mac), over) = (key.parts(), record.last - record.since);
                let Record { from, to, counted: moves, .. } = *record;
                worst = Some(Flap { vlan, mac, from, to, moves, over, others: 0 });
            }
            (record.counted, record.since) = (0, now);
        }
        self.suspicious = false;
        let worst = worst?;
        self.quiet_until = now + INTERVAL;
        Some(Flap { others: told - 1, ..worst })
    }

    /// All that is remembered, the last one first.
    pub(super) fn recent(&self, now: Instant) -> Vec<RecentMove> {
        let entry = |(&key, r): (&Key, &Record)| {
            let ((vlan, mac), over) = (key.parts(), r.last - r.first);
            RecentMove { vlan, mac, from: r.from, to: r.to, moves: r.moves, over, age: now - r.last }
        };
        self.records.iter().map(entry).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::mac_table::MacTable;
    use super::*;
    use crate::types::PortId;

    const AGING: Duration = Duration::from_secs(300);

    fn mac(n: u16) -> MacAddr {
        let [a, b] = n.to_be_bytes();
        MacAddr([2, 0, 0, 0, a, b])
    }

    fn table() -> MacTable {
        MacTable::new(AGING, 10_000)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }

    /// The address is heard at ports 1 and 2 in turn, `times` in all, with these milliseconds in between.
    fn flap(t: &mut MacTable, address: u16, start: u64, gap: u64, times: u64) {
        for i in 0..times {
            let place = Place::of(PortId(1 + i as u32 % 2));
            t.learn(VlanId::UNTAGGED, mac(address), place, at(start + i * gap));
        }
    }

    #[test]
    fn a_few_moves_are_remembered_and_not_told() {
        let mut t = table();
        flap(&mut t, 7, 0, 1000, 6);
        flap(&mut t, 8, 0, 9000, 2);
        assert_eq!(t.flapping(at(6000)), None);
        let recent = t.recent_moves(at(10_000));
        let told: Vec<_> =
            recent.iter().map(|m| (m.mac, m.from.port.0, m.to.port.0, m.moves, m.age.as_secs())).collect();
        assert_eq!(told, [(mac(8), 1, 2, 1, 1), (mac(7), 1, 2, 5, 5)]);
        assert_eq!(recent[1].over, Duration::from_secs(4));
        // Slow and steady is no flapping either.
        flap(&mut t, 9, 20_000, 3000, 100);
        assert_eq!(t.flapping(at(330_000)), None);
    }

    #[test]
    fn a_flapping_address_is_told_once_an_interval_with_its_rate() {
        let mut t = table();
        let mut told = Vec::new();
        for second in 0..35 {
            flap(&mut t, 7, second * 1000, 100, 10);
            told.extend(t.flapping(at(second * 1000 + 950)).map(|f| (second, f)));
        }
        let seconds: Vec<_> = told.iter().map(|(second, _)| *second).collect();
        assert_eq!(seconds, [0, 10, 20, 30]);
        let [(_, first), (_, second), ..] = told[..] else { panic!("{told:?}") };
        assert_eq!(
            (first.vlan, first.mac, first.from.port, first.to.port),
            (VlanId::UNTAGGED, mac(7), PortId(1), PortId(2))
        );
        assert_eq!((first.moves, first.over, first.others), (9, Duration::from_millis(800), 0));
        assert_eq!((second.moves, second.over.as_secs()), (100, 9), "all since the last report");
    }

    #[test]
    fn of_many_the_worst_is_told_and_memory_is_bounded() {
        let mut t = table();
        (0..1000).for_each(|address| flap(&mut t, address, 0, 1, 10));
        flap(&mut t, 5000, 0, 1, 20);
        let told = t.flapping(at(100)).unwrap();
        assert_eq!((told.mac, told.moves, told.others), (mac(5000), 19, REMEMBERED.get() - 1));
        assert_eq!(t.recent_moves(at(100)).len(), REMEMBERED.get());
        assert_eq!(t.flapping(at(20_000)), None, "told already");
    }
}
