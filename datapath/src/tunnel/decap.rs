//! Decapsulation: received runs of datagrams → the frames in them.
//!
//! What the kernel hands over as one run (`UDP_GRO`) becomes super-frames again, and so do datagrams that came one by one
//! but in one batch. An attacker on the underlay may send any bytes: a datagram that is none of the tunnel's is refused,
//! and what is inside is as untrusted as a frame from any other port.

use super::{Protocol, ipip};
use crate::offload::gro::Merge;
use crate::packet::{Frame, Pool};
use crate::switch::verdict::DropReason;
use crate::types::TunnelKey;
use crate::wire::{TunnelHeader, ethernet};
use std::ops::Range;

/// A frame that came out of a tunnel, with no port yet.
#[derive(Debug)]
pub struct Inner {
    /// The key it came with.
    pub key: TunnelKey,
    /// How many received frames it stands for.
    pub frames: u32,
    /// The frame; `meta.outer` tells who sent the datagrams that it was in, all alike.
    pub frame: Frame,
}

/// Takes the frames of one batch out of the runs of datagrams that they came in, TCP segments that follow each other merged
/// into super-frames. Their order stays as it was.
#[derive(Debug)]
pub struct Decap {
    protocol: Protocol,
    /// The last frame so far, which the next may be merged into,
    last: Merge,
    /// its key,
    key: TunnelKey,
    /// and the run that it came in, if that is not the one being taken. It keeps the memory of it.
    earlier: Option<Frame>,
}

impl Decap {
    /// Begins a batch of runs of this protocol.
    #[must_use]
    pub const fn new(protocol: Protocol) -> Self {
        Self { protocol, last: Merge::begin(0..0), key: TunnelKey(0), earlier: None }
    }

    /// Takes the frames out of the next run and appends those to `out` that nothing more can be merged into. `refuse` is
    /// told of each datagram that holds none, and why.
    #[inline]
    pub fn take(&mut self, mut run: Frame, pool: &mut Pool, out: &mut Vec<Inner>, mut refuse: impl FnMut(DropReason)) {
        let Some(outer) = &mut run.meta.outer else {
            refuse(DropReason::TunnelMalformed);
            return pool.recycle(run);
        };
        let segment = outer.segment.take();
        if self.protocol.is_layer3() {
            ipip::push_ethernet(&mut run);
        }
        match segment {
            None => self.take_datagram(run, pool, out, refuse),
            Some(size) => self.take_run(run, usize::from(size).max(1), pool, out, refuse),
        }
    }

    /// The same of one datagram.
    #[inline]
    fn take_datagram(&mut self, run: Frame, pool: &mut Pool, out: &mut Vec<Inner>, mut refuse: impl FnMut(DropReason)) {
        let (key, inner) = match self.inner(run.bytes(), 0..run.len()) {
            Ok(found) => found,
            Err(reason) => {
                refuse(reason);
                return pool.recycle(run);
            }
        };
        if self.append_to_earlier(key, &run, inner.clone()) {
            return pool.recycle(run);
        }
        self.finish(out);
        (self.last, self.key, self.earlier) = (Merge::begin(inner), key, Some(run));
    }

    /// The same of a run of datagrams of this size.
    fn take_run(
        &mut self,
        mut run: Frame,
        datagram: usize,
        pool: &mut Pool,
        out: &mut Vec<Inner>,
        mut refuse: impl FnMut(DropReason),
    ) {
        let len = run.len();
        if len == 0 {
            refuse(DropReason::TunnelMalformed);
        }
        // Whether the last frame is in this run.
        let mut here = false;
        let mut at = 0..0;
        while at.end < len {
            at = at.end..len.min(at.end + datagram);
            let (key, inner) = match self.inner(run.bytes(), at.clone()) {
                Ok(found) => found,
                Err(reason) => {
                    refuse(reason);
                    continue;
                }
            };
            let merged = if here {
                self.key == key && self.last.append(run.bytes_mut(), inner.clone())
            } else {
                self.append_to_earlier(key, &run, inner.clone())
            };
            if merged {
                continue;
            }
            if here {
                out.push(self.copied(&run, pool));
            } else {
                self.finish(out);
            }
            (self.last, self.key, here) = (Merge::begin(inner), key, true);
        }
        // The last frame keeps the buffer: for a run that became one super-frame nothing is copied.
        if here {
            self.earlier = Some(run);
        } else {
            pool.recycle(run);
        }
    }

    /// Appends what is left of the batch to `out`.
    #[inline(always)] // Called for every datagram, too.
    pub fn finish(&mut self, out: &mut Vec<Inner>) {
        if let Some(mut frame) = self.earlier.take() {
            let frames = self.last.finish(&mut frame);
            out.push(Inner { key: self.key, frames, frame });
        }
    }

    /// The key of the datagram at `at`, and where the frame in it is.
    #[inline]
    fn inner(&self, run: &[u8], at: Range<usize>) -> Result<(TunnelKey, Range<usize>), DropReason> {
        let TunnelHeader { key, len } = self.protocol.parse(&run[at.clone()])?;
        let inner = at.start + len..at.end;
        if inner.len() < ethernet::HEADER_LEN { Err(DropReason::TunnelMalformed) } else { Ok((key, inner)) }
    }

    /// Merges the first frame of the next run into the last one, or returns `false`. Marks of the outer header belong to
    /// every frame that was behind it, so frames of datagrams that differ in it stay apart.
    #[inline]
    fn append_to_earlier(&mut self, key: TunnelKey, run: &Frame, inner: Range<usize>) -> bool {
        let Some(earlier) = &mut self.earlier else { return false };
        let (first, next) = (&earlier.bytes()[self.last.range()], &run.bytes()[inner]);
        // First what says no of most.
        self.last.may_be_followed_by(first, next)
            && self.key == key
            && earlier.meta.outer == run.meta.outer
            && self.last.append_from(earlier, next)
    }

    /// The last frame, which is in a run that others follow in, with memory of its own.
    fn copied(&self, run: &Frame, pool: &mut Pool) -> Inner {
        let mut frame = pool.alloc();
        let range = self.last.range();
        frame.set_len(range.end);
        frame.bytes_mut()[range.clone()].copy_from_slice(&run.bytes()[range]);
        frame.meta.outer = run.meta.outer;
        let frames = self.last.finish(&mut frame);
        Inner { key: self.key, frames, frame }
    }
}
