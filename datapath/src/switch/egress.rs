//! The way out: the tag that the egress port wants, what fits it ([`super::mtu`]), its rate limit, segments put together
//! ([`super::gather`]), then whatever its device cannot do for itself.
//!
//! An ordinary device gets the frame as it is when its `Caps` allow that; otherwise a super-frame is cut into segments
//! and an unfinished checksum is finished, here, unless its device cuts into memory of its own. A frame for a tunnel becomes
//! the datagrams that carry it, one for a patch port waits to be received at the other end. What cannot leave is counted at
//! the port that it could not leave by, a copy at its mirror.

use super::flow_cache::Slot;
use super::gather::Gathered;
use super::mtu::Tellers;
use super::patch;
use super::shape::{Direction, Limit, Offer};
use super::shared::Shared;
use super::state::{Port, Snapshot};
use super::tx::TxQueues;
use super::verdict::DropReason;
use super::vlan::{self, Tagging};
use crate::offload::gso;
use crate::packet::{Frame, Pool};
use crate::stats::{DropCounters, PortCounters, WorkerCounters};
use crate::time::Instant;
use crate::tunnel::{self, Tunnel};
use crate::types::RemoteIndex;
use std::net::IpAddr;
use std::num::NonZeroU8;

/// Where frames end: in a transmit queue, or dropped and counted.
pub struct Egress<'a> {
    /// What is forwarded by.
    pub snap: &'a Snapshot,
    /// Where their memory comes from and goes to.
    pub pool: &'a mut Pool,
    /// Where copies and segments are counted.
    pub counters: &'a WorkerCounters,
    /// Where they wait to be sent.
    pub tx: &'a mut TxQueues,
    /// What became of the frame under way; empty between frames.
    pub pieces: &'a mut Vec<Frame>,
    /// What waits until the end of the batch, for segments to be merged into it ([`super::gather`]).
    pub gathered: &'a mut Vec<Gathered>,
    /// What has left by a patch port and is still to be received at its peer.
    pub crossing: &'a mut Vec<Frame>,
    /// What all workers have in common.
    pub shared: &'a Shared,
    /// Whether the home worker has to be called for what waits there.
    pub call: &'a mut bool,
    /// How often senders have been told that their packets are too big.
    pub tellers: &'a mut Tellers,
    /// Whether that of the frame under way has been.
    pub told: bool,
    /// The time of this round.
    pub now: Instant,
}

impl Egress<'_> {
    /// A second frame like `frame`, for one more port.
    #[inline]
    pub fn copy(&mut self, frame: &Frame) -> Frame {
        self.counters.copied.add(1);
        self.pool.copy(frame)
    }

    /// Sends the frame of a known flow out by `port`, where that goes.
    #[inline]
    pub fn send_known(&mut self, port: &Port, mut frame: Frame, known: &Slot) {
        if !known.is_as_it_came() {
            return self.send(port, frame, known.verdict().tagging, Some(known.remote()));
        }
        frame.meta.remote = Some(known.remote());
        if port.is_exceeded_by(&frame) {
            return self.fit(port, frame, known.verdict().tagging);
        }
        self.leave(port, frame);
    }

    /// Sends the frame out by `port`, which is up; by a tunnel with several remote ends to that one, or to all.
    #[inline(never)]
    pub fn send(&mut self, port: &Port, mut frame: Frame, tagging: Tagging, remote: Option<RemoteIndex>) {
        self.pool.make_room(&mut frame, vlan::ROOM);
        if let Err(reason) = vlan::egress(&port.vlan, port.rules.priority_tags, &mut frame, tagging) {
            return self.discard(frame, &port.counters, reason);
        }
        frame.meta.remote = remote;
        self.send_tagged(port, frame, tagging);
    }

    /// Sends a frame that has the tag that it leaves with, made to fit what the port carries.
    pub fn send_tagged(&mut self, port: &Port, frame: Frame, tagging: Tagging) {
        if port.is_exceeded_by(&frame) { self.fit(port, frame, tagging) } else { self.leave(port, frame) }
    }

    /// Sends a frame that the port carries, as soon as its rate limit allows.
    #[inline]
    pub fn leave(&mut self, port: &Port, frame: Frame) {
        match &port.limits.egress {
            None => self.transmit(port, frame),
            Some(limit) => self.leave_in_turn(port, limit, frame),
        }
    }

    #[inline(never)]
    fn leave_in_turn(&mut self, port: &Port, limit: &Limit, frame: Frame) {
        match self.offer(port, Direction::Out, limit, frame) {
            Offer::Pass(frame) => self.transmit(port, frame),
            Offer::Wait => {}
            Offer::Refuse(frame, reason) => self.refuse(port, frame, reason),
        }
    }

    /// Has a frame meet the rate limit of a port.
    pub(super) fn offer(&mut self, port: &Port, direction: Direction, limit: &Limit, frame: Frame) -> Offer {
        let mut shapers = self.shared.shapers();
        let offer = shapers.offer(port, direction, limit, frame, self.now);
        if matches!(offer, Offer::Wait) {
            *self.call |= self.shared.frames_due.put(shapers.due());
        }
        offer
    }

    /// Nothing more is decided: the frame crosses to the peer, or goes to the port's device.
    #[inline(always)] // Its callers are few, and one of them is the way of nearly all frames.
    pub fn transmit(&mut self, port: &Port, frame: Frame) {
        match port.peer {
            Some(peer) => patch::cross(port, peer, frame, self.crossing),
            None if self.may_gather(port, &frame) => self.gather(port, frame),
            None => self.hand_over(port, frame),
        }
    }

    /// The last step: the frame becomes what the port's device sends.
    #[inline]
    pub(super) fn hand_over(&mut self, port: &Port, mut frame: Frame) {
        frame.meta.egress = port.id;
        frame.meta.device = port.device;
        match &port.tunnel {
            None if port.caps.take(&frame.meta) => self.tx.push(frame),
            None => self.finish(port, frame),
            Some(tunnel) => self.encapsulate(port, tunnel, frame),
        }
    }

    /// Does for a device what it cannot do.
    #[inline(never)]
    fn finish(&mut self, port: &Port, mut frame: Frame) {
        if port.caps.cuts
            && frame.meta.gso.is_some()
            && let Ok(segments @ 2..) = gso::settle(&mut frame)
        {
            self.counters.split.add(u64::from(segments) - 1);
            return self.tx.push(frame);
        }
        match gso::segment(frame, None, self.pool, self.pieces) {
            Ok(segments) => self.queue_pieces(segments),
            Err(reason) => port.counters.drops.add(reason, 1),
        }
    }

    #[inline(never)]
    fn encapsulate(&mut self, port: &Port, tunnel: &Tunnel, frame: Frame) {
        let to = match &tunnel.remotes {
            None => Some(tunnel.remote.ip()),
            Some(remotes) => match *remotes.addressees(frame.meta.remote) {
                [one] => Some(one),
                _ => None,
            },
        };
        // Most frames become one datagram to one end.
        if let Some(to) = to
            && tunnel::fits_whole(&frame, tunnel)
        {
            return match tunnel::encap_whole(frame, tunnel, to, self.pool) {
                Ok(datagram) => self.tx.push(datagram),
                Err((frame, reason)) => self.refuse(port, frame, reason),
            };
        }
        self.encapsulate_pieces(port, tunnel, frame);
    }

    /// The same for what becomes several datagrams, or one to several ends.
    #[inline(never)]
    fn encapsulate_pieces(&mut self, port: &Port, tunnel: &Tunnel, frame: Frame) {
        let remote = frame.meta.remote;
        match tunnel::encap(frame, tunnel, self.pool, self.pieces) {
            Ok(encapped) => {
                if let Some(remotes) = &tunnel.remotes {
                    self.address(remotes.addressees(remote), encapped.segments);
                }
                self.queue_pieces(encapped.segments);
            }
            Err((frame, reason)) => self.refuse(port, frame, reason),
        }
    }

    /// Drops a frame that cannot leave by the port.
    pub fn refuse(&mut self, port: &Port, frame: Frame, reason: DropReason) {
        self.drops(port, frame.meta.mirror).add(reason, 1);
        self.pool.recycle(frame);
    }

    /// Where it is counted that a frame, or a copy for a mirror, could not leave by the port.
    pub(super) fn drops<'p>(&'p self, port: &'p Port, mirror: Option<NonZeroU8>) -> &'p DropCounters {
        self.snap.mirror(port.id, mirror).map_or(&port.counters.drops, |mirror| &mirror.counters.drops)
    }

    /// Addresses what one frame has become, and counts as `packets`, to the last of `addressees`; to those before it goes
    /// a copy each, of what was cut and encapsulated once.
    fn address(&mut self, addressees: &[IpAddr], packets: u32) {
        let Some((last, others)) = addressees.split_last() else { return };
        let redirect = |piece: &mut Frame, end: &IpAddr| {
            if let Some(outer) = &mut piece.meta.outer {
                outer.remote = *end;
            }
        };
        for end in others {
            self.counters.copied.add(1);
            self.counters.split.add(u64::from(packets) - 1);
            for piece in self.pieces.iter() {
                let mut copy = self.pool.copy(piece);
                redirect(&mut copy, end);
                self.tx.push(copy);
            }
        }
        self.pieces.iter_mut().for_each(|piece| redirect(piece, last));
    }

    /// Queues what one frame has become, which counts as `packets`.
    fn queue_pieces(&mut self, packets: u32) {
        self.counters.split.add(u64::from(packets) - 1);
        self.pieces.drain(..).for_each(|piece| self.tx.push(piece));
    }

    /// Drops a frame at the port that these counters belong to.
    #[inline]
    pub fn discard(&mut self, frame: Frame, at: &PortCounters, reason: DropReason) {
        at.drops.add(reason, 1);
        self.pool.recycle(frame);
    }

    /// Drops what came in as so many `frames` and belongs to no port.
    pub fn lose(&mut self, frame: Frame, reason: DropReason, frames: u32) {
        self.counters.portless.add(reason, frames.into());
        self.pool.recycle(frame);
    }
}
