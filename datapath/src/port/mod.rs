//! The contract between the worker and whatever moves frames in and out of the process.
//!
//! A [`Device`] is one worker's part of a kernel interface (an AF_PACKET socket, a TAP queue, a pool of UDP sockets) or its
//! stand-in for tests: a receive queue, which may be sent by, too, or something to send by only, for a worker that has
//! no receive queue of the interface. It is owned by one worker thread, never blocks, and is woken through its file
//! descriptors. What it cannot send it hands back with a reason; it never loses a frame silently.

use crate::packet::{Batch, ChecksumState, Frame, GsoKind, Meta, Pool};
use crate::switch::verdict::DropReason;
use std::os::fd::BorrowedFd;

pub mod assist;
#[allow(dead_code, reason = "an assembler also has instructions that no program needs yet")]
mod bpf;
mod clsact;
mod cmsg;
pub(crate) mod keep_out;
pub mod memory;
pub mod packet;
pub mod raw_ip;
mod rx;
mod sys;
pub mod tap;
mod tunnel_gso;
mod tx;
pub mod udp;
mod underlay;
mod vnet;
pub mod xdp;

/// Bytes of frames that may wait in the kernel for or from a socket: about a hundred super-frames.
const SOCKET_BUFFER: libc::c_int = 8 << 20;

/// Facts for `Interface:status`, as name and value.
pub type Status = Vec<(String, String)>;

/// The kernel delivered something that the switch does not take, or that contradicts itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unsupported;

/// What a device takes as it is; what it does not take is finished in software before (see `switch::egress`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caps {
    /// Unfinished checksums ([`crate::packet::ChecksumState::Partial`]).
    pub partial_csum: bool,
    /// TCP super-frames, IPv4 and IPv6.
    pub tso: bool,
    /// UDP super-frames, IPv4 and IPv6.
    pub uso: bool,
    /// Instead of the last two, super-frames of any kind, which it cuts itself: they count as their segments.
    pub cuts: bool,
}

impl Caps {
    /// A device behind a virtio-net header: everything passes as it is.
    pub const ALL: Self = Self { partial_csum: true, tso: true, uso: true, cuts: false };
    /// A device that takes nothing but finished frames of wire size.
    pub const NONE: Self = Self { partial_csum: false, tso: false, uso: false, cuts: false };
}

impl Caps {
    /// Whether a frame with these metadata may be handed over as it is.
    #[inline]
    #[must_use]
    pub fn take(self, meta: &Meta) -> bool {
        let finished = !matches!(meta.csum, ChecksumState::Partial { .. });
        let whole = match meta.gso.map(|gso| gso.kind) {
            None => true,
            Some(GsoKind::TcpV4 | GsoKind::TcpV6) => self.tso && self.partial_csum,
            Some(GsoKind::Udp) => self.uso && self.partial_csum,
            Some(GsoKind::Tunnelled) => false,
        };
        whole && (finished || self.partial_csum)
    }
}

/// How a receive call ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rx {
    /// Nothing more is waiting.
    Empty,
    /// The batch is full or the device may have more.
    More,
    /// The device is gone or broken for good; it must not be polled again. The operating system's error number.
    Dead(i32),
}

/// Why a device could not be opened: what, the cause, and a way out.
#[derive(Debug, thiserror::Error)]
#[error("{device}: {call}: {source}{}{hint}", if .hint.is_empty() { "" } else { "; " })]
pub struct OpenError {
    /// The device's name, or what packets are received on (`UDP port N`).
    pub device: String,
    /// What was tried.
    pub call: &'static str,
    /// How the operating system answered.
    pub source: std::io::Error,
    /// What to do about it; empty when there is nothing to say.
    pub hint: String,
}

/// Frames that could not be sent, each with the reason; the worker counts them against `meta.egress`.
pub type Unsent = Vec<(Frame, DropReason)>;

/// Something that frames are received from and sent to, in batches.
pub trait Device: Send {
    /// What it takes unfinished.
    fn caps(&self) -> Caps;

    /// Descriptors whose readability means that [`Device::receive`] has something to do; none: it only sends.
    fn descriptors(&self) -> Vec<BorrowedFd<'_>>;

    /// Those of the descriptors that say no more than [`Device::has_frames`], which costs neither a system call nor whoever
    /// sends: somebody who asks that need not watch them meanwhile.
    fn rings(&self) -> Vec<BorrowedFd<'_>> {
        vec![]
    }

    /// Whether there are frames in memory that is shared with the kernel.
    fn has_frames(&self) -> bool {
        false
    }

    /// Appends received frames to `batch`, with checksum, GSO and tunnel metadata set; `ingress` is the worker's to set.
    /// Frames the kernel lost or that could not be taken are added to `lost` by reason.
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, lost: &mut Vec<(DropReason, u64)>) -> Rx;

    /// Sends all frames in order, returning their memory to the pool, and the unsent ones in `unsent`.
    /// Returns how many frames went out. Empties `frames`.
    fn send(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>, unsent: &mut Unsent) -> u64;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Gso;

    #[test]
    fn a_frame_passes_where_all_that_it_is_owed_can_be_done() {
        let csum = Caps { partial_csum: true, ..Caps::NONE };
        let tso = Caps { tso: true, ..csum };
        let uso = Caps { uso: true, ..csum };
        let nonsense = Caps { partial_csum: false, ..Caps::ALL };
        let caps = [Caps::NONE, csum, tso, uso, Caps::ALL, nonsense];

        let mut meta = Meta::default();
        let takes = |meta: &Meta| caps.map(|caps| caps.take(meta));
        assert_eq!(takes(&meta), [true; 6]);
        meta.csum = ChecksumState::Partial { start: 34, offset: 16 };
        assert_eq!(takes(&meta), [false, true, true, true, true, false]);
        for (kind, expected) in [
            (GsoKind::TcpV4, [false, false, true, false, true, false]),
            (GsoKind::TcpV6, [false, false, true, false, true, false]),
            (GsoKind::Udp, [false, false, false, true, true, false]),
            (GsoKind::Tunnelled, [false; 6]),
        ] {
            meta.gso = Some(Gso { kind, size: 1000, header_len: 54, ecn: false });
            for state in [meta.csum, ChecksumState::Valid] {
                assert_eq!(takes(&Meta { csum: state, ..meta }), expected, "{kind:?}, {state:?}");
            }
        }
    }
}
