//! TCP segments that leave one after the other go as one super-frame, where their port's device takes that: segments that
//! came one by one, as they do by AF_XDP, then cost little more than those that came together. A tunnel would only cut them
//! again; its datagrams are sent together anyway.
//!
//! The first of them waits until the batch that it came in ends, for those that follow ([`crate::offload::gro`]). One
//! frame waits at a port, and goes before the next that it cannot be merged with: so frames leave in the order in which
//! they came. All that is done to a frame is done before it waits.

use super::egress::Egress;
use super::state::Port;
use super::verdict::DropReason;
use crate::offload::gro::{self, Merge};
use crate::packet::{Frame, Meta, Pool};
use crate::types::PortId;

/// A frame that waits for what follows it.
#[derive(Debug)]
pub struct Gathered {
    port: PortId,
    frame: Frame,
    merge: Merge,
}

impl Gathered {
    /// Merges a frame that leaves by the same port into this one, or returns `false` with nothing changed.
    fn take(&mut self, next: &Frame, pool: &mut Pool) -> bool {
        // Whatever else is known of a frame holds for every segment of it.
        let alike = Meta { csum: self.frame.meta.csum, ..next.meta } == self.frame.meta;
        alike && self.merge.append_frame(&mut self.frame, next, pool)
    }

    /// What has become of it.
    fn finish(mut self) -> Frame {
        self.merge.finish(&mut self.frame);
        self.frame
    }
}

impl Port {
    /// Whether super-frames leave by it as they are.
    #[inline]
    fn takes_super_frames(&self) -> bool {
        self.caps.tso && self.caps.partial_csum && self.tunnel.is_none()
    }
}

impl Egress<'_> {
    /// Whether a frame has to go by [`Egress::gather`]: small ones do not while nothing waits.
    #[inline]
    pub(super) fn may_gather(&self, port: &Port, frame: &Frame) -> bool {
        (frame.len() >= gro::WORTH_MERGING || !self.gathered.is_empty()) && port.takes_super_frames()
    }

    /// Sends a frame out by a port that takes super-frames: merged into the one before, or after it.
    #[inline(never)]
    pub(super) fn gather(&mut self, port: &Port, frame: Frame) {
        if let Some(at) = self.gathered.iter().position(|gathered| gathered.port == port.id) {
            if self.gathered[at].take(&frame, self.pool) {
                self.counters.merged.add(1);
                return self.pool.recycle(frame);
            }
            let before = self.gathered.swap_remove(at).finish();
            self.hand_over(port, before);
        }
        // A copy for a mirror is what the wire would carry.
        if gro::may_lead(&frame) && frame.meta.mirror.is_none() {
            self.gathered.push(Gathered { port: port.id, merge: Merge::of(&frame), frame });
        } else {
            self.hand_over(port, frame);
        }
    }

    /// Sends what still waits: the batch is at its end.
    #[inline]
    pub(super) fn send_gathered(&mut self) {
        while let Some(gathered) = self.gathered.pop() {
            let (port, frame) = (self.snap.port(gathered.port), gathered.finish());
            match port {
                Some(port) => self.hand_over(port, frame),
                None => self.lose(frame, DropReason::PortDown, 1),
            }
        }
    }
}
