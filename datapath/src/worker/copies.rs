//! When copies for mirrors are sent: after the frames themselves, in a part of the time that these have taken.
//!
//! A mirror's copies are cut to what the wire would carry, so they can cost many times what their frame did. They must
//! not cost the frames more than their share of the worker's time: what has no room to wait for its turn is dropped, at
//! the mirror ([`crate::switch::mirror`]). In a round without frames copies are sent as fast as they go.

use super::Worker;
use crate::time::{Duration, Instant};

/// Copies get one part of the time for every so many that the frames take.
const FRAMES_PER_COPY: u32 = 3;
/// In a round without frames copies get this much, before devices are looked at again.
const QUIET: Duration = Duration::from_micros(50);

/// The time that copies may take, in nanoseconds; below 0 after they have taken more.
#[derive(Clone, Copy, Default, Debug)]
pub struct Credit(i64);

impl Credit {
    /// A round has spent so much time on frames.
    fn earn(&mut self, frames: Duration) {
        self.0 = self.0.saturating_add(nanos(frames / FRAMES_PER_COPY));
    }

    fn spend(&mut self, copies: Duration) {
        self.0 = self.0.saturating_sub(nanos(copies));
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

impl Worker {
    /// Sends what waits and may be sent in the round that began at `began`; `busy`: it had frames.
    #[cold]
    pub(super) fn send_copies(&mut self, began: Instant, busy: bool, clock: &dyn Fn() -> Instant) {
        let mut at = clock();
        match busy {
            true => self.copy_credit.earn(at - began),
            false => self.copy_credit = Credit(nanos(QUIET)),
        }
        while self.copy_credit.0 >= 0 && self.switch.has_copies() {
            let (pool, tx) = (&mut self.pool, &mut self.tx);
            self.switch.send_copies(began, &self.snapshot, pool, &self.counters, tx);
            self.flush();
            let now = clock();
            self.copy_credit.spend(now - at);
            at = now;
        }
        // What was not needed is not saved up: a burst of copies would then hold up frames.
        self.copy_credit.0 = self.copy_credit.0.min(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Action, BridgeSpec, Datapath, DatapathConfig, MirrorOutput, MirrorSpec, PortKind, PortSpec};
    use crate::packet::Frame;
    use crate::port::Caps;
    use crate::port::memory::MemoryPort;
    use crate::switch::shape::Limits;
    use crate::switch::state::{BridgeVlans, PortRules, Trunks, VlanMode};
    use std::cell::Cell;
    use std::collections::BTreeSet;

    /// Frames come first, then copies for a third of the time that the frames took; the rest waits for quieter rounds.
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
        let vlans = BridgeVlans::default();
        let bridge = BridgeSpec { name, mac_aging, mac_table_size: 8, secure: false, vlans, mirrors: vec![mirror] };
        let add = |(name, port): &(&str, MemoryPort)| {
            let (name, bridge, vlan) = ((*name).to_owned(), "br0".to_owned(), VlanMode::Trunk(Trunks::All));
            let (kind, rules, limits) = (PortKind::Memory(port.clone()), PortRules::default(), Limits::default());
            Action::AddPort(PortSpec { name, bridge, kind, vlan, rules, up: true, mtu: None, limits })
        };
        let actions = std::iter::once(Action::AddBridge(bridge)).chain(ports.iter().map(add)).collect();
        assert!(datapath.apply(actions).iter().all(Result::is_ok));
        worker.poll_once(Instant::default());

        let [(_, input), (_, output), (_, mon)] = &ports;
        let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1, 0x88, 0xb5], &[0; 46]].concat();
        let mut round = |frames: usize, step: u64| {
            (0..frames).for_each(|_| input.inject(Frame::from_bytes(&frame)));
            worker.devices.mark_all_ready();
            let ticks = Cell::new(0);
            let clock = || Instant::from_nanos(ticks.replace(ticks.get() + step));
            // The first reading is the start of the round, so its frames have taken one step.
            let now = clock();
            worker.poll_ready(now, &clock);
            (output.drain().len(), mon.drain().len(), worker.switch.has_copies())
        };
        // Every look at the clock takes 3 µs, which is what the frames of a round take: 1 µs for copies, so a batch of
        // them leaves a debt of 2.
        assert_eq!(round(32, 3000), (32, 32, false));
        assert_eq!(round(32, 3000), (32, 0, true));
        assert_eq!(round(32, 3000), (32, 32, true));
        assert_eq!(round(32, 3000), (32, 0, true));
        assert_eq!(round(32, 3000), (32, 0, true));
        // A quiet round forgives that, and lasts 50 µs.
        assert_eq!(round(0, 3000), (0, 96, false));
        assert_eq!(round(32, 0), (32, 32, false));
    }
}
