//! What may move the frames of a port: our own rings, or those of the crate `afxdp`. Everything else of a port — program,
//! modes, the host's share, status — is the same for both.

use super::queue::Sent;
use crate::packet::{Batch, Frame, Pool};
use crate::port::Unsent;
use crate::switch::verdict::DropReason;
use std::os::fd::BorrowedFd;

/// Who moves the frames.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Backend {
    /// The rings of this crate, in memory that all ports share.
    #[default]
    Own,
    /// The crate `afxdp`: frames are copied, none is larger than a page.
    #[cfg(feature = "afxdp")]
    Afxdp,
}

impl Backend {
    /// Those that are built in.
    pub const ALL: &[Self] = &[
        Self::Own,
        #[cfg(feature = "afxdp")]
        Self::Afxdp,
    ];

    /// Its name, as in `options:xdp-backend`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Own => "own",
            #[cfg(feature = "afxdp")]
            Self::Afxdp => "afxdp",
        }
    }

    /// Whether it is [`Self::Own`]: the other knows neither frames in several pieces nor transmit metadata, and gives its
    /// sockets to the program that it finds on the device.
    pub(super) const fn is_own(self) -> bool {
        matches!(self, Self::Own)
    }
}

/// One queue of a port, owned by a worker.
pub(super) trait QueueIo: Send {
    /// Readable when frames have come in.
    fn fd(&self) -> BorrowedFd<'_>;

    /// Whether frames have come in, as far as that can be seen without asking the kernel; `None`: it cannot.
    fn has_frames(&self) -> Option<bool>;

    /// Whether the device reads and writes the memory itself.
    fn zero_copy(&self) -> bool;

    /// Whether unfinished checksums can be handed over.
    fn fills_checksums(&self) -> bool;

    /// Whether super-frames can be handed over, to be cut.
    fn cuts(&self) -> bool;

    /// The kernel's word for what is wrong with the socket, 0 if nothing.
    fn error(&self) -> i32;

    /// Frames that the kernel had to drop since this was asked last.
    fn newly_lost(&mut self) -> u64;

    /// Fills the rest of `batch`; whether there may be more.
    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, lost: &mut Vec<(DropReason, u64)>) -> bool;

    /// Sends all frames in order; those that could not be sent go to `unsent`. How many went, and how it ended.
    fn send(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>, unsent: &mut Unsent) -> (u64, Sent);

    /// Has the kernel send what waits.
    fn kick(&mut self, pool: &mut Pool, unsent: &mut Unsent) -> Sent;

    /// Whether something waits that the kernel did not take.
    fn is_stalled(&self) -> bool;
}
