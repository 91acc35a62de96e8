//! Decapsulation: a received run of datagrams → the frames in it.
//!
//! What the kernel hands over as one run (`UDP_GRO`) becomes super-frames again. An attacker on the underlay may send any
//! bytes: a datagram that is none of the tunnel's is refused, and what is inside is as untrusted as a frame from any
//! other port.

use super::{Protocol, ipip};
use crate::offload::gro::Merge;
use crate::packet::{Frame, Meta, Pool};
use crate::switch::verdict::DropReason;
use crate::types::TunnelKey;
use crate::wire::{TunnelHeader, ethernet};

/// A frame that came out of a tunnel, with no port yet.
#[derive(Debug)]
pub struct Inner {
    /// The key it came with.
    pub key: TunnelKey,
    /// The frame, `meta.outer` no longer set.
    pub frame: Frame,
    /// How many received frames it stands for.
    pub frames: u32,
}

/// Takes the frames out of a received run of datagrams and appends them to `out`, TCP segments that follow each other
/// merged into super-frames. `refuse` is told of each datagram that holds none, and why. Who sent the run is in its
/// `meta.outer`, which the caller reads before.
pub fn decap(
    mut run: Frame,
    protocol: Protocol,
    pool: &mut Pool,
    out: &mut Vec<Inner>,
    mut refuse: impl FnMut(DropReason),
) {
    if protocol.is_layer3() {
        ipip::push_ethernet(&mut run);
    }
    let len = run.len();
    let datagram = run.meta.outer.and_then(|outer| outer.segment).map_or(len, usize::from).max(1);
    if len == 0 {
        refuse(DropReason::TunnelMalformed);
    }
    let mut open: Option<(TunnelKey, Merge)> = None;
    for start in (0..len).step_by(datagram) {
        let end = len.min(start + datagram);
        let TunnelHeader { key, len } = match protocol.parse(&run.bytes()[start..end]) {
            Ok(header) => header,
            Err(reason) => {
                refuse(reason);
                continue;
            }
        };
        let inner = start + len..end;
        if inner.len() < ethernet::HEADER_LEN {
            refuse(DropReason::TunnelMalformed);
            continue;
        }
        if let Some((of, merge)) = &mut open
            && *of == key
            && merge.append(run.bytes_mut(), inner.clone())
        {
            continue;
        }
        if let Some((key, merge)) = open.replace((key, Merge::begin(run.bytes(), inner))) {
            let merged = merge.finish(run.bytes_mut());
            let mut frame = pool.alloc();
            frame.set_len(merged.range.len());
            frame.bytes_mut().copy_from_slice(&run.bytes()[merged.range.clone()]);
            frame.meta = Meta { csum: merged.csum, gso: merged.gso, ..Meta::default() };
            out.push(Inner { key, frame, frames: merged.count });
        }
    }
    match open {
        // The last frame keeps the buffer: for a run that became one super-frame nothing is copied.
        Some((key, merge)) => {
            let merged = merge.finish(run.bytes_mut());
            run.set_len(merged.range.end);
            run.pop_front(merged.range.start);
            run.meta = Meta { csum: merged.csum, gso: merged.gso, ..Meta::default() };
            out.push(Inner { key, frame: run, frames: merged.count });
        }
        None => pool.recycle(run),
    }
}
