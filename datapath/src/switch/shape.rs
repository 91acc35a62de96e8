//! Rate limits of ports: what is in excess waits in a short queue, and is dropped where that is full.
//!
//! A port may have a limit on the way in and one on the way out, each a [`Bucket`] of bits, of packets, or both. Frames
//! are charged their size on the wire, from the Ethernet header on, without encapsulation: a super-frame is charged as
//! its segments. A frame that finds no tokens waits behind those that wait already, and goes on with
//! [`super::Switch::release`], which the home worker calls at [`Shapers::due`]: nothing here reads a clock or spins. A port
//! without a limit costs one branch a frame.
//!
//! Any worker may offer frames ([`super::shared`] has the lock). While a frame that was released is not sent yet, the
//! others of its port wait, too, so that none overtakes it.
//!
//! An attacker may send at any rate: a queue is bounded in bytes and in frames, and what it has no room for is counted.

use super::bucket::{Bucket, Tokens};
use super::mirror::{self, Mirror};
use super::state::{Port, Snapshot};
use super::verdict::DropReason;
use crate::packet::Frame;
use crate::time::{Duration, Instant};
use crate::types::{PortId, RemoteIndex};
use std::collections::VecDeque;
use std::fmt;

/// Frames that wait at most, however small they are: as Linux's `txqueuelen`.
const MAX_WAITING: usize = 1000;
/// A worker that comes so late to release a frame, on a machine that has too much to do, takes nothing of the port's rate.
const MAX_LATE: Duration = Duration::from_millis(100);

/// The way through a port that a limit is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// Into the bridge.
    In,
    /// Out of it.
    Out,
}

impl Direction {
    /// Why a frame is dropped that is in excess.
    fn excess(self) -> DropReason {
        match self {
            Self::In => DropReason::IngressRate,
            Self::Out => DropReason::EgressRate,
        }
    }
}

/// How much may pass; with both, the tighter one counts.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Limit {
    /// Bits a second.
    pub bits: Option<Tokens>,
    /// Packets a second.
    pub packets: Option<Tokens>,
    /// How many bytes may wait; 0: what is in excess is dropped at once.
    pub queue: u64,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.bits, self.packets) {
            (Some(bits), Some(packets)) => write!(f, "{} bit/s and {} packets/s", bits.rate, packets.rate),
            (Some(bits), None) => write!(f, "{} bit/s", bits.rate),
            (None, Some(packets)) => write!(f, "{} packets/s", packets.rate),
            (None, None) => f.write_str("any rate"),
        }
    }
}

/// A port's limits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Limits {
    /// Of what comes in by it.
    pub ingress: Option<Limit>,
    /// Of what leaves by it.
    pub egress: Option<Limit>,
}

impl Limits {
    fn get(&self, direction: Direction) -> Option<&Limit> {
        match direction {
            Direction::In => self.ingress.as_ref(),
            Direction::Out => self.egress.as_ref(),
        }
    }
}

/// What becomes of a frame that meets a limit.
#[derive(Debug)]
pub enum Offer {
    /// It may pass.
    Pass(Frame),
    /// It waits for its turn.
    Wait,
    /// It is in excess, and there is no room to wait.
    Refuse(Frame, DropReason),
}

/// One limit at work.
#[derive(Debug)]
struct Shaper {
    /// `None`: lifted, and what waits may go.
    limit: Option<Limit>,
    bits: Option<Bucket>,
    packets: Option<Bucket>,
    queue: VecDeque<Frame>,
    /// Bytes in the queue, as on the wire.
    waiting: u64,
    /// When the first of the queue may go, or might have gone.
    due: Option<Instant>,
    /// Whether it is in [`Shapers::busy`].
    busy: bool,
    /// Whether it is in [`Shapers::released`]: frames have been taken from the queue that are still to be sent.
    released: bool,
}

impl Shaper {
    fn new(limit: &Limit, now: Instant) -> Self {
        let bucket = |tokens| Bucket::new(tokens, now);
        let (bits, packets) = (limit.bits.map(bucket), limit.packets.map(bucket));
        let queue = VecDeque::new();
        Self { limit: Some(*limit), bits, packets, queue, waiting: 0, due: None, busy: false, released: false }
    }

    /// Another limit, or none; what waits goes on waiting, for as long as that takes now.
    fn configure(&mut self, limit: Option<&Limit>, now: Instant) {
        let set = |bucket: &mut Option<Bucket>, tokens: Option<Tokens>| match (bucket.as_mut(), tokens) {
            (Some(bucket), Some(tokens)) => bucket.configure(tokens, now),
            (_, tokens) => *bucket = tokens.map(|tokens| Bucket::new(tokens, now)),
        };
        set(&mut self.bits, limit.and_then(|l| l.bits));
        set(&mut self.packets, limit.and_then(|l| l.packets));
        self.limit = limit.copied();
        self.due = None;
    }

    /// How long something of this size has to wait; zero: it may go.
    fn wait(&mut self, (packets, bytes): (u64, u64), now: Instant) -> Duration {
        let late = self.due.map_or(Duration::ZERO, |due| now - due).min(MAX_LATE);
        let mut wait = Duration::ZERO;
        for (bucket, cost) in [(&mut self.bits, 8 * bytes), (&mut self.packets, packets)] {
            if let Some(bucket) = bucket {
                bucket.fill(now, late);
                wait = wait.max(bucket.wait(cost));
            }
        }
        wait
    }

    /// Pays for something of this size that goes.
    fn pay(&mut self, (packets, bytes): (u64, u64)) {
        self.bits.iter_mut().for_each(|bucket| bucket.take(8 * bytes));
        self.packets.iter_mut().for_each(|bucket| bucket.take(packets));
    }

    /// Lets a frame pass, or wait, or neither.
    fn offer(&mut self, frame: Frame, direction: Direction, now: Instant) -> Offer {
        let size = frame.wire_size();
        if self.queue.is_empty() && !self.released && self.wait(size, now).is_zero() {
            self.pay(size);
            return Offer::Pass(frame);
        }
        let room = self.limit.map_or(0, |limit| limit.queue);
        if self.queue.len() < MAX_WAITING && self.waiting + size.1 <= room {
            self.waiting += size.1;
            self.queue.push_back(frame);
            return Offer::Wait;
        }
        Offer::Refuse(frame, direction.excess())
    }

    /// Drops what waits for nothing any more: all of it if its `port` is gone, and the copies of mirrors that are gone.
    fn sort_out(&mut self, was: &[Mirror], is: &[Mirror], gone: Option<&Port>) {
        self.queue.retain_mut(|frame| mirror::renumber(frame, was, is));
        if let Some(port) = gone {
            port.counters.drops.add(DropReason::PortDown, self.queue.len() as u64);
            self.queue.clear();
        }
        self.waiting = self.queue.iter().map(|frame| frame.wire_size().1).sum();
    }

    /// Has what waits follow the remote ends of its tunnel, `index` being an end's new place in the list. What was for
    /// one that is gone is for all; what came from one is of no port any more.
    fn follow_remotes(
        &mut self,
        port: &Port,
        direction: Direction,
        index: impl Fn(RemoteIndex) -> Option<RemoteIndex>,
    ) {
        let counters = &port.counters;
        self.queue.retain_mut(|frame| match direction {
            Direction::Out => {
                frame.meta.remote = frame.meta.remote.and_then(&index);
                true
            }
            Direction::In => match index(frame.meta.ingress.remote) {
                Some(remote) => {
                    frame.meta.ingress.remote = remote;
                    true
                }
                None => {
                    counters.drops.add(DropReason::UnknownVni, 1);
                    false
                }
            },
        });
        self.waiting = self.queue.iter().map(|frame| frame.wire_size().1).sum();
    }

    /// How long the first of the queue has to wait; `None`: there is none.
    fn head_waits(&mut self, now: Instant) -> Option<Duration> {
        let size = self.queue.front()?.wire_size();
        let wait = self.wait(size, now);
        if !wait.is_zero() {
            self.due = Some(now + wait);
        }
        Some(wait)
    }

    /// Takes the first of the queue, which pays.
    fn pop(&mut self) -> Option<Frame> {
        let frame = self.queue.pop_front()?;
        let size = frame.wire_size();
        self.waiting -= size.1;
        self.pay(size);
        if self.queue.is_empty() {
            self.due = None;
        }
        Some(frame)
    }
}

/// All limits that workers apply.
#[derive(Debug, Default)]
pub struct Shapers {
    /// The generation of the newest snapshot that a worker has taken over.
    generation: u64,
    /// By [`PortId`]: the way in, the way out. One is made when its first frame comes.
    ports: Vec<[Option<Box<Shaper>>; 2]>,
    /// Those with frames that wait.
    busy: Vec<(PortId, Direction)>,
    /// Whose turn it is in `busy`, while frames are released.
    turn: usize,
    /// When the first of the waiting frames may go; never too late.
    due: Option<Instant>,
    /// When those may go that have been asked in this release.
    due_later: Option<Instant>,
    /// Those with frames that have been released and are still to be sent.
    released: Vec<(PortId, Direction)>,
}

impl Shapers {
    /// When there is something to release; `None`: no frame waits.
    #[inline]
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// How many frames wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.ports.iter().flatten().flatten().map(|shaper| shaper.queue.len()).sum()
    }

    /// A frame on its way through a port that has this limit.
    pub fn offer(&mut self, port: &Port, direction: Direction, limit: &Limit, frame: Frame, now: Instant) -> Offer {
        let index = port.id.0 as usize;
        if index >= self.ports.len() {
            self.ports.resize_with(index + 1, Default::default);
        }
        let slot = &mut self.ports[index][direction as usize];
        let shaper = slot.get_or_insert_with(|| Box::new(Shaper::new(limit, now)));
        let first = shaper.queue.is_empty();
        let offer = shaper.offer(frame, direction, now);
        if first && let Some(wait) = shaper.head_waits(now) {
            if !std::mem::replace(&mut shaper.busy, true) {
                self.busy.push((port.id, direction));
            }
            earlier(&mut self.due, now + wait);
        }
        offer
    }

    /// The next frame that may go as of `now`, with where it waited; `None` when there is no more.
    pub fn release(&mut self, now: Instant) -> Option<(PortId, Direction, Frame)> {
        if self.due.is_none_or(|due| due > now) {
            return None;
        }
        while let Some(&(port, direction)) = self.busy.get(self.turn) {
            let shaper = self.ports.get_mut(port.0 as usize).and_then(|both| both[direction as usize].as_mut());
            let Some(shaper) = shaper else {
                self.busy.swap_remove(self.turn);
                continue;
            };
            let Some(wait) = shaper.head_waits(now) else {
                shaper.busy = false;
                self.busy.swap_remove(self.turn);
                continue;
            };
            if wait.is_zero() {
                if !std::mem::replace(&mut shaper.released, true) {
                    self.released.push((port, direction));
                }
                return shaper.pop().map(|frame| (port, direction, frame));
            }
            earlier(&mut self.due_later, now + wait);
            self.turn += 1;
        }
        self.turn = 0;
        self.due = self.due_later.take();
        None
    }

    /// What was released has been sent.
    pub fn settle(&mut self, now: Instant) {
        for (port, direction) in self.released.drain(..) {
            let shaper = self.ports.get_mut(port.0 as usize).and_then(|both| both[direction as usize].as_mut());
            let Some(shaper) = shaper else { continue };
            shaper.released = false;
            if let Some(wait) = shaper.head_waits(now) {
                earlier(&mut self.due, now + wait);
            }
        }
    }

    /// Goes over from the limits in `was` to those in `snap`, unless another worker has done so. What waits for a port that
    /// is gone is dropped there and counted; so are copies for a mirror that is gone. When there is something to release.
    pub fn adopt(&mut self, was: &Snapshot, snap: &Snapshot, now: Instant) -> Option<Instant> {
        if self.generation >= snap.generation {
            return self.due;
        }
        self.generation = snap.generation;
        self.busy.clear();
        for (index, shapers) in self.ports.iter_mut().enumerate() {
            let id = PortId(u32::try_from(index).unwrap_or(u32::MAX));
            let (port_was, port) = (was.port(id), snap.port(id));
            for direction in [Direction::In, Direction::Out] {
                let slot = &mut shapers[direction as usize];
                let Some(shaper) = slot else { continue };
                // A port that is in neither was gone before this frame came, from a worker that did not know yet: with
                // no limit left, it is released and finds no port.
                let gone = port_was.filter(|_| port.is_none()).map(AsRef::as_ref);
                shaper.sort_out(mirrors(was, id), mirrors(snap, id), gone);
                if let Some((was, is)) = port_was.zip(port)
                    && let Some((had, has)) = super::learned::other_remotes(was, is)
                {
                    shaper.follow_remotes(is, direction, |index| has.index_of(had.get(index)?));
                }
                shaper.configure(port.and_then(|port| port.limits.get(direction)), now);
                shaper.busy = !shaper.queue.is_empty();
                if shaper.busy {
                    self.busy.push((id, direction));
                } else if shaper.limit.is_none() {
                    *slot = None;
                }
            }
        }
        self.turn = 0;
        self.due = (!self.busy.is_empty()).then_some(now);
        self.due
    }
}

/// The mirrors of the port's bridge.
fn mirrors(snap: &Snapshot, port: PortId) -> &[Mirror] {
    let bridge = snap.port(port).and_then(|port| snap.bridge(port.bridge));
    bridge.map_or(&[], |bridge| &bridge.mirrors)
}

/// Makes it this instant, unless it is an earlier one.
fn earlier(due: &mut Option<Instant>, at: Instant) {
    *due = Some(due.map_or(at, |other| other.min(at)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Caps;
    use crate::types::{BridgeId, DeviceId};
    use std::sync::Arc;

    const START: Instant = Instant::from_secs(7);

    /// 8 Mbit/s, which is a byte a microsecond, in bursts of 1,000 bytes.
    fn limit(queue: u64) -> Limit {
        Limit { bits: Some(Tokens { rate: 8_000_000, burst: 8_000 }), packets: None, queue }
    }

    fn port(id: u32, limits: Limits) -> Port {
        Port { limits, ..Port::new(PortId(id), BridgeId(0), DeviceId(id), Caps::ALL) }
    }

    fn at(micros: u64) -> Instant {
        START + Duration::from_micros(micros)
    }

    /// A frame of so many bytes, the first of which tells it apart.
    fn frame(number: u8, len: usize) -> Frame {
        Frame::from_bytes(&[&[number][..], &vec![0; len - 1]].concat())
    }

    /// "pass", "wait" or the reason.
    fn offer(shapers: &mut Shapers, port: &Port, direction: Direction, number: u8, now: Instant) -> &'static str {
        let limit = port.limits.get(direction).unwrap();
        match shapers.offer(port, direction, limit, frame(number, 500), now) {
            Offer::Pass(_) => "pass",
            Offer::Wait => "wait",
            Offer::Refuse(_, reason) => reason.name(),
        }
    }

    /// What is released, as port and number, and sent at once.
    fn released(shapers: &mut Shapers, now: Instant) -> Vec<(u32, u8)> {
        let released =
            std::iter::from_fn(|| shapers.release(now)).map(|(port, _, frame)| (port.0, frame.bytes()[0])).collect();
        shapers.settle(now);
        released
    }

    #[test]
    fn what_is_in_excess_waits_its_turn_and_no_longer() {
        let mut shapers = Shapers::default();
        let port = port(0, Limits { egress: Some(limit(1500)), ..Limits::default() });
        let offers: Vec<_> = (0..6).map(|n| offer(&mut shapers, &port, Direction::Out, n, START)).collect();
        assert_eq!(offers, ["pass", "pass", "wait", "wait", "wait", "egress_rate"]);
        assert_eq!((shapers.due(), shapers.waiting()), (Some(at(500)), 3));
        assert_eq!(released(&mut shapers, at(499)), []);
        assert_eq!(released(&mut shapers, at(500)), [(0, 2)]);
        assert_eq!(shapers.due(), Some(at(1000)));
        assert_eq!(offer(&mut shapers, &port, Direction::Out, 6, at(500)), "wait", "behind those that wait");
        assert_eq!(released(&mut shapers, at(1500)), [(0, 3), (0, 4)]);
        assert_eq!(released(&mut shapers, at(2000)), [(0, 6)]);
        assert_eq!((shapers.due(), shapers.waiting()), (None, 0));
        assert_eq!(offer(&mut shapers, &port, Direction::Out, 7, at(2500)), "pass");
    }

    #[test]
    fn both_directions_and_all_ports_are_limited_by_themselves() {
        let mut shapers = Shapers::default();
        let limits = Limits { ingress: Some(limit(0)), egress: Some(limit(500)) };
        let ports = [port(0, limits), port(5, limits)];
        for port in &ports {
            let ins: Vec<_> = (0..3).map(|n| offer(&mut shapers, port, Direction::In, n, START)).collect();
            assert_eq!(ins, ["pass", "pass", "ingress_rate"]);
            let outs: Vec<_> = (0..4).map(|n| offer(&mut shapers, port, Direction::Out, n, START)).collect();
            assert_eq!(outs, ["pass", "pass", "wait", "egress_rate"]);
        }
        assert_eq!(released(&mut shapers, at(500)), [(0, 2), (5, 2)]);
    }

    /// Two workers: what the home worker has taken out of the queue and not sent yet is not overtaken.
    #[test]
    fn nothing_overtakes_what_was_released() {
        let mut shapers = Shapers::default();
        let port = port(0, Limits { egress: Some(limit(5000)), ..Limits::default() });
        let offers: Vec<_> = (0..3).map(|n| offer(&mut shapers, &port, Direction::Out, n, START)).collect();
        assert_eq!(offers, ["pass", "pass", "wait"]);
        assert!(shapers.release(at(5000)).is_some() && shapers.release(at(5000)).is_none());
        assert_eq!(offer(&mut shapers, &port, Direction::Out, 3, at(5000)), "wait", "there are tokens for it");
        shapers.settle(at(5000));
        assert_eq!(shapers.due(), Some(at(5000)));
        assert_eq!(released(&mut shapers, at(5000)), [(0, 3)]);
        assert_eq!(offer(&mut shapers, &port, Direction::Out, 4, at(9000)), "pass");
        assert_eq!((shapers.due(), shapers.waiting()), (None, 0));
    }

    #[test]
    fn packets_are_limited_too_and_the_tighter_limit_counts() {
        let mut shapers = Shapers::default();
        let packets = Some(Tokens { rate: 1000, burst: 1 });
        let port = port(0, Limits { ingress: Some(Limit { packets, ..limit(5000) }), ..Limits::default() });
        let offers: Vec<_> = (0..3).map(|n| offer(&mut shapers, &port, Direction::In, n, START)).collect();
        assert_eq!(offers, ["pass", "wait", "wait"]);
        assert_eq!(shapers.due(), Some(at(1000)));
        assert_eq!(released(&mut shapers, at(1000)), [(0, 1)]);
    }

    #[test]
    fn tiny_frames_do_not_fill_the_memory() {
        let mut shapers = Shapers::default();
        let port = port(0, Limits { egress: Some(limit(u64::MAX / 2)), ..Limits::default() });
        let waits = (0..3000).filter(|_| offer(&mut shapers, &port, Direction::Out, 0, START) == "wait").count();
        assert_eq!(waits, MAX_WAITING);
    }

    #[test]
    fn a_new_limit_holds_at_once_and_without_one_everything_goes() {
        let mut shapers = Shapers::default();
        let limits = |limit| Limits { egress: limit, ..Limits::default() };
        let mut generation = 0;
        let mut snap = |port: Option<Port>| {
            generation += 1;
            Snapshot { generation, ports: vec![port.map(Arc::new)], ..Snapshot::default() }
        };
        let (was, slow) = (Snapshot::default(), port(0, limits(Some(limit(50_000)))));
        for number in 0..8 {
            offer(&mut shapers, &slow, Direction::Out, number, START);
        }
        assert_eq!(shapers.waiting(), 6);
        let fast = Limit { bits: Some(Tokens { rate: 16_000_000, burst: 8_000 }), ..limit(500) };
        shapers.adopt(&was, &snap(Some(port(0, limits(Some(fast))))), START);
        assert_eq!(released(&mut shapers, START), []);
        assert_eq!(shapers.due(), Some(at(250)), "twice as fast");
        assert_eq!(released(&mut shapers, at(250)), [(0, 2)]);
        shapers.adopt(&was, &snap(Some(port(0, limits(None)))), at(250));
        assert_eq!(shapers.due(), Some(at(250)));
        assert_eq!(released(&mut shapers, at(250)), [(0, 3), (0, 4), (0, 5), (0, 6), (0, 7)]);
        assert_eq!(shapers.due(), None);
        shapers.adopt(&was, &snap(Some(port(0, limits(None)))), at(251));
        assert!(shapers.ports[0].iter().all(Option::is_none), "forgotten");
    }

    #[test]
    fn what_waits_for_a_port_that_goes_is_counted() {
        let mut shapers = Shapers::default();
        let port = port(0, Limits { ingress: Some(limit(5000)), ..Limits::default() });
        for number in 0..5 {
            offer(&mut shapers, &port, Direction::In, number, START);
        }
        let was = Snapshot { generation: 1, ports: vec![Some(Arc::new(port.clone()))], ..Snapshot::default() };
        shapers.adopt(&was, &Snapshot { generation: 2, ..Snapshot::default() }, START);
        assert_eq!(port.counters.drops.get(DropReason::PortDown), 3);
        assert_eq!((shapers.waiting(), shapers.due()), (0, None));
        assert_eq!(released(&mut shapers, at(10_000)), []);
    }
}
