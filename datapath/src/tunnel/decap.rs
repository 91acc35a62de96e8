//! Decapsulation: received runs of datagrams → the frames in them.
//!
//! What the kernel hands over as one run (`UDP_GRO`) becomes super-frames again, and so do datagrams that came one by one
//! but in one batch. An attacker on the underlay may send any bytes: a datagram that is none of the tunnel's is refused,
//! and what is inside is as untrusted as a frame from any other port.

use super::{Protocol, ipip};
use crate::offload::gro::Merge;
use crate::packet::{Frame, Meta, Outer, Pool};
use crate::switch::verdict::DropReason;
use crate::types::TunnelKey;
use crate::wire::{TunnelHeader, ethernet};
use std::ops::Range;

/// A frame that came out of a tunnel, with no port yet.
#[derive(Debug)]
pub struct Inner {
    /// The key it came with.
    pub key: TunnelKey,
    /// Who sent the datagrams it was in, all alike.
    pub outer: Outer,
    /// The frame, `meta.outer` no longer set.
    pub frame: Frame,
    /// How many received frames it stands for.
    pub frames: u32,
}

/// Takes the frames of one batch out of the runs of datagrams that they came in, TCP segments that follow each other merged
/// into super-frames. Their order stays as it was.
#[derive(Debug)]
pub struct Decap {
    protocol: Protocol,
    open: Option<Open>,
}

/// The last frame so far, which the next run's first may be merged into.
#[derive(Debug)]
struct Open {
    key: TunnelKey,
    outer: Outer,
    /// The run that it came in, which it keeps the memory of.
    run: Frame,
    merge: Merge,
}

impl Decap {
    /// Begins a batch of runs of this protocol.
    #[must_use]
    pub const fn new(protocol: Protocol) -> Self {
        Self { protocol, open: None }
    }

    /// Takes the frames out of the next run and appends those to `out` that nothing more can be merged into. `refuse` is
    /// told of each datagram that holds none, and why.
    pub fn take(&mut self, mut run: Frame, pool: &mut Pool, out: &mut Vec<Inner>, mut refuse: impl FnMut(DropReason)) {
        let Some(outer) = run.meta.outer else {
            refuse(DropReason::TunnelMalformed);
            return pool.recycle(run);
        };
        if self.protocol.is_layer3() {
            ipip::push_ethernet(&mut run);
        }
        let len = run.len();
        let datagram = outer.segment.map_or(len, usize::from).max(1);
        let outer = Outer { segment: None, ..outer };
        if len == 0 {
            refuse(DropReason::TunnelMalformed);
        }
        // The last frame in this run; while there is none, the last one is `self.open`.
        let mut last: Option<(TunnelKey, Merge)> = None;
        for start in (0..len).step_by(datagram) {
            let (key, inner) = match self.inner(run.bytes(), start..len.min(start + datagram)) {
                Ok(found) => found,
                Err(reason) => {
                    refuse(reason);
                    continue;
                }
            };
            let merged = match (&mut last, &mut self.open) {
                (Some((of, merge)), _) => *of == key && merge.append(run.bytes_mut(), inner.clone()),
                (None, Some(open)) => open.append(key, &outer, &run.bytes()[inner.clone()]),
                (None, None) => false,
            };
            if !merged {
                self.finish(out);
                if let Some((key, merge)) = last.replace((key, Merge::begin(run.bytes(), inner))) {
                    out.push(copied(key, outer, merge, &mut run, pool));
                }
            }
        }
        match last {
            // It keeps the buffer: for a run that became one super-frame nothing is copied.
            Some((key, merge)) => self.open = Some(Open { key, outer, run, merge }),
            None => pool.recycle(run),
        }
    }

    /// Appends what is left of the batch to `out`.
    pub fn finish(&mut self, out: &mut Vec<Inner>) {
        let Some(Open { key, outer, run: mut frame, merge }) = self.open.take() else { return };
        let merged = merge.finish(frame.bytes_mut());
        frame.set_len(merged.range.end);
        frame.pop_front(merged.range.start);
        frame.meta = Meta { csum: merged.csum, gso: merged.gso, ..Meta::default() };
        out.push(Inner { key, outer, frame, frames: merged.count });
    }

    /// The key of the datagram at `at`, and where the frame in it is.
    fn inner(&self, run: &[u8], at: Range<usize>) -> Result<(TunnelKey, Range<usize>), DropReason> {
        let TunnelHeader { key, len } = self.protocol.parse(&run[at.clone()])?;
        let inner = at.start + len..at.end;
        if inner.len() < ethernet::HEADER_LEN { Err(DropReason::TunnelMalformed) } else { Ok((key, inner)) }
    }
}

impl Open {
    /// Merges the first frame of the next run, or returns `false`. Marks of the outer header belong to every frame that was
    /// behind it, so frames of datagrams that differ in it stay apart.
    fn append(&mut self, key: TunnelKey, outer: &Outer, frame: &[u8]) -> bool {
        (self.key, &self.outer) == (key, outer) && self.merge.append_from(&mut self.run, frame)
    }
}

/// A frame in a run that others follow in, which gets its own memory.
fn copied(key: TunnelKey, outer: Outer, merge: Merge, run: &mut Frame, pool: &mut Pool) -> Inner {
    let merged = merge.finish(run.bytes_mut());
    let mut frame = pool.alloc();
    frame.set_len(merged.range.len());
    frame.bytes_mut().copy_from_slice(&run.bytes()[merged.range]);
    frame.meta = Meta { csum: merged.csum, gso: merged.gso, ..Meta::default() };
    Inner { key, outer, frame, frames: merged.count }
}
