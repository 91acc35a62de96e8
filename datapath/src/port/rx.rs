//! What the socket ports do alike when they receive: lend frames to recvmmsg, a batch at a time, and notice overflow.

use super::sys::{Messages, option};
use super::{Rx, Unsupported};
use crate::packet::{Batch, Frame, Pool};
use crate::switch::verdict::DropReason;
use std::io;
use std::os::fd::BorrowedFd;

/// Frames prepared for a call at least; otherwise twice what the last one brought.
const FEW: usize = 4;
/// Bytes received before they are sent on, about: eight super-frames. Fewer pay for more calls and wake-ups; more no
/// longer fit the core's cache between being written and being read again, and keep the receiver waiting (measured: four
/// super-frames, or 32, cost 9 % more of the CPU that the switch takes for a byte).
pub const BATCH_BYTES: usize = 512 << 10;
/// Where `SO_MEMINFO` tells the frames dropped by the socket so far (`SK_MEMINFO_DROPS`, linux/sock_diag.h), and how
/// many numbers it tells.
const DROPS: usize = 8;
const SO_MEMINFO: libc::c_int = 55;

/// The receiving side of one socket.
pub struct Receiver {
    messages: Messages,
    /// Frames lent to a call; empty between calls.
    slots: Vec<Frame>,
    expected: usize,
    /// A call was full since the last look at the drops: the kernel's queue was not empty and may have overflowed.
    was_full: bool,
    drops_seen: u32,
}

impl Receiver {
    pub fn new() -> Self {
        let slots = Vec::with_capacity(Batch::CAPACITY);
        Self { messages: Messages::new(), slots, expected: FEW, was_full: false, drops_seen: 0 }
    }

    /// Fills the rest of `batch`. Every message comes with `before` bytes of header, which are placed ahead of the frame;
    /// `finish` gets the message's length without it and makes the metadata. What it refuses is counted as lost.
    pub fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        before: usize,
        pool: &mut Pool,
        batch: &mut Batch,
        lost: &mut Vec<(DropReason, u64)>,
        finish: impl Fn(&Messages, usize, &mut Frame) -> Result<(), Unsupported>,
    ) -> io::Result<Rx> {
        let wanted = self.expected.min(Batch::CAPACITY - batch.len());
        self.slots.extend(std::iter::repeat_with(|| pool.alloc()).take(wanted));
        let result = self.messages.receive(fd, &mut self.slots, before);
        let got = *result.as_ref().unwrap_or(&0);
        // Unused buffers go back so that the most recently used one is the next to be filled.
        self.slots.drain(got..).rev().for_each(|unused| pool.recycle(unused));
        let mut bytes = 0;
        for (i, mut frame) in self.slots.drain(..).enumerate() {
            let (len, truncated) = self.messages.received(i);
            bytes += len;
            let finished = match len.checked_sub(before) {
                Some(len) if !truncated => {
                    frame.set_received(len);
                    finish(&self.messages, i, &mut frame)
                }
                _ => Err(Unsupported),
            };
            let refused = match finished {
                Ok(()) => batch.push(frame).err(),
                Err(Unsupported) => Some(frame),
            };
            if let Some(frame) = refused {
                lost.push((DropReason::RxUnsupported, 1));
                pool.recycle(frame);
            }
        }
        self.expected = (2 * got).min(BATCH_BYTES * got / bytes.max(1)).clamp(FEW, Batch::CAPACITY);
        self.was_full |= got == wanted;
        match result {
            Ok(got) if got == wanted => return Ok(Rx::More),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(Rx::More),
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
            _ => {}
        }
        self.read_drops(fd, lost);
        Ok(Rx::Empty)
    }

    /// Counts what the kernel dropped because the queue was full; only asked after the queue was longer than
    /// a call.
    fn read_drops(&mut self, fd: BorrowedFd<'_>, lost: &mut Vec<(DropReason, u64)>) {
        if std::mem::take(&mut self.was_full)
            && let Ok(info) = option::<[u32; DROPS + 1]>(fd, libc::SOL_SOCKET, SO_MEMINFO)
        {
            let new = info[DROPS].wrapping_sub(std::mem::replace(&mut self.drops_seen, info[DROPS]));
            if new > 0 {
                lost.push((DropReason::RxOverflow, new.into()));
            }
        }
    }
}
