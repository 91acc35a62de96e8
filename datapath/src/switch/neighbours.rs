//! Which hardware address an IPv4 address on a bridge has, and the packets that wait to know it.
//!
//! Pure: it says when to ask, the router does. What is heard of an address that was asked for, or that asks for the
//! router itself, is kept; of others only what is known already is kept true (RFC 826). Heard of again before it is half
//! as old as it may get, an address costs nothing; after that it is asked for while it goes on being used.
//!
//! Somebody at the far end of a tunnel may send packets for any number of addresses that do not exist: how many are asked
//! for at a time, how many packets wait for one and for all are bounded. Somebody on the bridge may claim any addresses:
//! the table keeps the ones used last.

use super::verdict::DropReason;
use crate::packet::Frame;
use crate::time::{Duration, Instant};
use crate::types::{BridgeId, MacAddr, PortId, VlanId};
use foldhash::fast::RandomState;
use lru::LruCache;
use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::num::NonZeroUsize;

/// Addresses that are kept.
const MAX_KNOWN: NonZeroUsize = NonZeroUsize::new(8192).unwrap();
/// Addresses that are asked for at a time.
const MAX_ASKED: usize = 256;
/// Packets that wait for one of them.
const MAX_FRAMES: usize = 8;
/// How long an address is used after it was heard of.
const KEEP: Duration = Duration::from_secs(60);
/// After how much of that it is asked for again.
const CONFIRM: Duration = Duration::from_secs(30);
/// How long an answer is waited for before it is asked again.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is asked before the packets are given up.
const TRIES: u8 = 3;

/// An address on a bridge.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    /// The bridge.
    pub bridge: BridgeId,
    /// The VLAN.
    pub vlan: VlanId,
    /// The address.
    pub ip: Ipv4Addr,
}

#[derive(Debug)]
struct Known {
    mac: MacAddr,
    heard: Instant,
    asked: Instant,
}

/// Packets for an address that is asked for; the queue of these is in the order of `asked`.
#[derive(Debug)]
struct Waiting {
    key: Key,
    asked: Instant,
    tries: u8,
    /// At least one.
    frames: Vec<Frame>,
}

/// What is known of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// Its hardware address.
    Known(MacAddr),
    /// The same, and it is to be asked whether that is still so.
    Confirm(MacAddr),
    /// Nothing.
    Unknown,
}

/// What became of a packet whose address is unknown.
#[derive(Debug)]
pub enum Hold {
    /// It waits, the first one for this address, which is to be asked for.
    Ask,
    /// It waits like others before it.
    Wait,
    /// Too many wait.
    Refuse(Frame, DropReason),
}

/// What is to be done about an address that has not answered in time.
#[derive(Debug)]
pub enum Overdue {
    /// To ask again, for packets out of this port.
    Ask(Key, PortId),
    /// To drop the packets for it.
    GiveUp(Vec<Frame>),
}

/// All of one bridge.
#[derive(Debug)]
pub struct Neighbours {
    known: LruCache<Key, Known, RandomState>,
    waiting: VecDeque<Waiting>,
}

impl Default for Neighbours {
    fn default() -> Self {
        let known = LruCache::with_hasher(MAX_KNOWN, RandomState::default());
        Self { known, waiting: VecDeque::new() }
    }
}

impl Neighbours {
    /// Looks an address up, for a packet that is sent to it.
    pub fn lookup(&mut self, key: &Key, now: Instant) -> Lookup {
        let Some(known) = self.known.get_mut(key) else { return Lookup::Unknown };
        let age = now - known.heard;
        if age >= KEEP {
            self.known.pop(key);
            return Lookup::Unknown;
        }
        if age >= CONFIRM && now - known.asked >= PATIENCE {
            known.asked = now;
            return Lookup::Confirm(known.mac);
        }
        Lookup::Known(known.mac)
    }

    /// Keeps a packet until its address is known.
    pub fn hold(&mut self, key: Key, frame: Frame, now: Instant) -> Hold {
        if let Some(waiting) = self.waiting.iter_mut().find(|waiting| waiting.key == key) {
            if waiting.frames.len() >= MAX_FRAMES {
                return Hold::Refuse(frame, DropReason::ArpQueueFull);
            }
            waiting.frames.push(frame);
            return Hold::Wait;
        }
        if self.waiting.len() >= MAX_ASKED {
            return Hold::Refuse(frame, DropReason::ArpQueueFull);
        }
        self.waiting.push_back(Waiting { key, asked: now, tries: 1, frames: vec![frame] });
        Hold::Ask
    }

    /// Learns what an ARP packet says of its sender; `wanted`: even if nobody has asked. The packets that have waited for
    /// it, in order.
    pub fn hear(&mut self, key: Key, mac: MacAddr, wanted: bool, now: Instant) -> Vec<Frame> {
        let asked = self.waiting.iter().position(|waiting| waiting.key == key);
        if let Some(known) = self.known.get_mut(&key) {
            (known.mac, known.heard) = (mac, now);
        } else if wanted || asked.is_some() {
            self.known.put(key, Known { mac, heard: now, asked: now });
        }
        asked.and_then(|at| self.waiting.remove(at)).map(|waiting| waiting.frames).unwrap_or_default()
    }

    /// When [`Neighbours::overdue`] has something to say.
    #[inline]
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.waiting.front().map(|waiting| waiting.asked + PATIENCE)
    }

    /// The next address that has not answered until `now`.
    pub fn overdue(&mut self, now: Instant) -> Option<Overdue> {
        self.due().filter(|due| *due <= now)?;
        let mut waiting = self.waiting.pop_front()?;
        if waiting.tries >= TRIES {
            return Some(Overdue::GiveUp(waiting.frames));
        }
        let port = waiting.frames.first()?.meta.ingress.port;
        let again = Overdue::Ask(waiting.key, port);
        (waiting.asked, waiting.tries) = (now, waiting.tries + 1);
        self.waiting.push_back(waiting);
        Some(again)
    }

    /// Takes out the packets that wait and came out of ports that are `gone`.
    pub fn without(&mut self, gone: impl Fn(PortId) -> bool) -> Vec<Frame> {
        let out_of_it = |frame: &mut Frame| gone(frame.meta.ingress.port);
        let frames = self.waiting.iter_mut().flat_map(|waiting| waiting.frames.extract_if(.., out_of_it)).collect();
        self.waiting.retain(|waiting| !waiting.frames.is_empty());
        frames
    }

    /// How many packets wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.iter().map(|waiting| waiting.frames.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Place;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xaa]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xbb]);
    const PORT: PortId = PortId(1);

    fn key(last: u32) -> Key {
        Key { bridge: BridgeId(0), vlan: VlanId::UNTAGGED, ip: Ipv4Addr::from_bits(0x0a00_0000 + last) }
    }

    fn at(secs: u64) -> Instant {
        Instant::from_secs(1000 + secs)
    }

    fn hold(n: &mut Neighbours, last: u32, now: Instant) -> &'static str {
        let mut frame = Frame::from_bytes(&[last as u8]);
        frame.meta.ingress = Place::of(PORT);
        match n.hold(key(last), frame, now) {
            Hold::Ask => "ask",
            Hold::Wait => "wait",
            Hold::Refuse(_, reason) => reason.name(),
        }
    }

    #[test]
    fn an_address_is_kept_confirmed_and_forgotten() {
        let mut n = Neighbours::default();
        n.hear(key(1), MAC, false, at(0));
        assert_eq!(n.lookup(&key(1), at(0)), Lookup::Unknown, "nobody has asked");
        n.hear(key(1), MAC, true, at(0));
        assert_eq!(n.lookup(&key(1), at(29)), Lookup::Known(MAC));
        assert_eq!(n.lookup(&key(1), at(30)), Lookup::Confirm(MAC));
        assert_eq!(n.lookup(&key(1), at(30)), Lookup::Known(MAC), "asked just now");
        assert_eq!(n.lookup(&key(1), at(31)), Lookup::Confirm(MAC));
        n.hear(key(1), OTHER, false, at(32));
        assert_eq!(n.lookup(&key(1), at(61)), Lookup::Known(OTHER), "it has moved");
        assert_eq!(n.lookup(&key(1), at(92)), Lookup::Unknown);
        assert_eq!(n.lookup(&key(2), at(0)), Lookup::Unknown);
    }

    #[test]
    fn packets_wait_for_an_answer_in_order() {
        let mut n = Neighbours::default();
        assert_eq!([hold(&mut n, 1, at(0)), hold(&mut n, 2, at(0)), hold(&mut n, 1, at(0))], ["ask", "ask", "wait"]);
        assert_eq!((n.waiting(), n.due()), (3, Some(at(1))));
        let ready: Vec<_> = n.hear(key(1), MAC, false, at(0)).iter().map(|frame| frame.bytes()[0]).collect();
        assert_eq!((n.lookup(&key(1), at(0)), ready, n.waiting()), (Lookup::Known(MAC), vec![1, 1], 1));
    }

    #[test]
    fn who_does_not_answer_is_asked_again_and_then_given_up() {
        let mut n = Neighbours::default();
        assert_eq!(hold(&mut n, 1, at(0)), "ask");
        for secs in [1, 2] {
            assert!(n.overdue(at(secs - 1)).is_none());
            assert!(matches!(n.overdue(at(secs)), Some(Overdue::Ask(asked, PORT)) if asked == key(1)));
            assert!(n.overdue(at(secs)).is_none());
        }
        assert!(matches!(n.overdue(at(3)), Some(Overdue::GiveUp(frames)) if frames.len() == 1));
        assert_eq!((n.due(), n.waiting()), (None, 0));
        assert_eq!(hold(&mut n, 1, at(3)), "ask", "it may have come up");
    }

    #[test]
    fn what_came_out_of_a_port_that_is_gone_does_not_wait() {
        let mut n = Neighbours::default();
        hold(&mut n, 1, at(0));
        let mut other = Frame::from_bytes(&[7]);
        other.meta.ingress = Place::of(PortId(2));
        assert!(matches!(n.hold(key(1), other, at(0)), Hold::Wait));
        assert_eq!((n.without(|port| port == PORT).len(), n.waiting()), (1, 1));
        assert!(matches!(n.overdue(at(1)), Some(Overdue::Ask(_, PortId(2)))));
        assert_eq!((n.without(|_| true).len(), n.due()), (1, None));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut n = Neighbours::default();
        let of_one: Vec<_> = (0..10).map(|_| hold(&mut n, 0, at(0))).collect();
        assert_eq!(of_one[8..], ["arp_queue_full"; 2]);
        let of_all: Vec<_> = (1..=256).map(|last| hold(&mut n, last, at(0))).collect();
        assert_eq!((of_all[254], of_all[255]), ("ask", "arp_queue_full"));
        assert_eq!(n.waiting(), 8 + 255);
        (0..10_000).for_each(|last| drop(n.hear(key(last), MAC, true, at(1))));
        let known = (0..10_000).filter(|last| n.lookup(&key(*last), at(1)) != Lookup::Unknown).count();
        assert_eq!(known, 8192);
    }
}
