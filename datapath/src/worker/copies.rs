//! When copies for mirrors are sent: after the frames themselves, in a part of the worker's time.
//!
//! A mirror's copies are cut to what the wire would carry, so they can cost many times what their frame did, and what
//! they cost is taken from the frames, and from whoever sends and receives those on the same machine. So copies get a
//! sixth of the time, saved up for a millisecond or two of a burst, and a round ends after a slice of it, for the next
//! frames. What has no room to wait for its turn is dropped, at the mirror ([`crate::switch::mirror`]).

use super::Worker;
use crate::time::{Duration, Instant};

/// Copies get one part in this many of the time.
const SHARE: u32 = 6;
/// What may be saved up.
const SAVED: Duration = Duration::from_millis(2);
/// What one round may spend on them before it looks for frames again.
const SLICE: Duration = Duration::from_micros(50);

/// The time that copies may take.
#[derive(Clone, Copy, Default, Debug)]
pub struct Credit {
    /// In nanoseconds; below 0 after they have taken more than they had.
    left: i64,
    /// When it last grew.
    at: Instant,
}

impl Credit {
    fn grow(&mut self, now: Instant) {
        let earned = nanos((now - self.at) / SHARE);
        *self = Self { left: self.left.saturating_add(earned).min(nanos(SAVED)), at: now };
    }

    /// How long until there is some.
    fn wait(&self) -> Duration {
        Duration::from_nanos(self.left.min(0).unsigned_abs()) * SHARE
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

impl Worker {
    /// Sends copies that wait, as far as there is credit.
    #[cold]
    pub(super) fn send_copies(&mut self, clock: &dyn Fn() -> Instant) {
        let began = clock();
        self.copy_credit.grow(began);
        let mut at = began;
        while self.copy_credit.left >= 0 && at - began <= SLICE && self.switch.has_copies() {
            let (pool, tx) = (&mut self.pool, &mut self.tx);
            self.switch.send_copies(began, &self.snapshot, pool, &self.counters, tx);
            self.flush();
            let now = clock();
            self.copy_credit.left -= nanos(now - at);
            at = now;
        }
    }

    /// Sends all copies that wait: the worker ends, and nobody else has them.
    pub(super) fn send_all_copies(&mut self, now: Instant) {
        while self.switch.has_copies() {
            let (pool, tx) = (&mut self.pool, &mut self.tx);
            self.switch.send_copies(now, &self.snapshot, pool, &self.counters, tx);
            self.flush();
        }
    }

    /// How long the worker may sleep before it goes on with copies; `None` when none waits.
    pub(super) fn until_copies(&self) -> Option<Duration> {
        self.switch.has_copies().then(|| self.copy_credit.wait())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{
        Action, BridgeSpec, Datapath, DatapathConfig, MirrorOutput, MirrorSpec, MtuPolicy, PortKind, PortSpec,
    };
    use crate::packet::Frame;
    use crate::port::Caps;
    use crate::port::memory::MemoryPort;
    use crate::switch::shape::Limits;
    use crate::switch::state::{BridgeVlans, PortRules, Trunks, VlanMode};
    use std::cell::Cell;
    use std::collections::BTreeSet;

    /// Frames come first in each round, whatever waits; copies as far as there is credit, and a slice of it at most.
    #[test]
    fn copies_take_no_more_than_their_share_of_the_time() {
        let (mut datapath, mut worker) = Datapath::without_thread(&DatapathConfig::default()).unwrap();
        let ports = ["in", "out", "mon"].map(|name| (name, MemoryPort::new(Caps::ALL).unwrap()));
        let mirror = MirrorSpec {
            name: "m".to_owned(),
            all: true,
            arriving: BTreeSet::new(),
            leaving: BTreeSet::new(),
            vlans: BTreeSet::new(),
            output: MirrorOutput::Port("mon".to_owned()),
            snaplen: None,
        };
        let (name, mac_aging) = ("br0".to_owned(), Duration::from_secs(300));
        let bridge = BridgeSpec {
            name,
            mac_aging,
            mac_table_size: 8,
            statics: vec![],
            secure: false,
            vlans: BridgeVlans::default(),
            mirrors: vec![mirror],
            gateway: None,
        };
        let add = |(name, port): &(&str, MemoryPort)| {
            let (name, bridge, vlan) = ((*name).to_owned(), "br0".to_owned(), VlanMode::Trunk(Trunks::All));
            let (kind, rules, limits) = (PortKind::Memory(port.clone()), PortRules::default(), Limits::default());
            let mtu_policy = MtuPolicy::default();
            Action::AddPort(PortSpec {
                name,
                bridge,
                kind,
                vlan,
                rules,
                up: true,
                mtu: None,
                mtu_policy,
                limits,
                assist: false,
            })
        };
        let actions = std::iter::once(Action::AddBridge(bridge)).chain(ports.iter().map(add)).collect();
        assert!(datapath.apply(actions).iter().all(Result::is_ok));
        worker.poll_once(Instant::default());

        let [(_, input), (_, output), (_, mon)] = &ports;
        let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 0x88, 0xb5], &[0; 46]].concat();
        // A round that begins at a moment, and in which every look at the clock takes so long: frames and copies that
        // left, and how long the worker may sleep before it goes on with copies, if any wait; times in µs.
        let mut round = |frames: usize, at: u64, step: u64| {
            (0..frames).for_each(|_| input.inject(Frame::from_bytes(&frame)));
            worker.devices.mark_all_ready();
            let ticks = Cell::new(at * 1000);
            let clock = || Instant::from_nanos(ticks.replace(ticks.get() + step * 1000));
            let now = clock();
            worker.poll_ready(now, &clock);
            let wait = worker.until_copies().map(|wait| wait.as_micros());
            (output.drain().len(), mon.drain().len(), wait)
        };
        assert_eq!(round(32, 0, 0), (32, 32, None), "copies that cost nothing");
        // Copies of a batch take 100 µs; 2 ms are saved up, and may be overdrawn by one batch.
        let now = 1_000_000;
        for _ in 0..21 {
            assert_eq!(round(32, now, 100), (32, 32, None));
        }
        assert_eq!(round(32, now, 100), (32, 0, Some(600)));
        assert_eq!(round(32, now + 200, 100), (32, 0, Some(400)));
        // When that time is over there is credit again, for one batch of the three that wait.
        assert_eq!(round(32, now + 700, 100), (32, 32, Some(500)));
        // A slice of 50 µs is over after two batches, whatever is left.
        assert_eq!(round(0, now + 100_000, 30), (0, 64, None));
        (0..5).for_each(|_| assert_eq!(round(32, now + 100_000, 5000).0, 32));
        assert_eq!(round(0, now + 200_000, 30), (0, 64, Some(0)));
    }
}
