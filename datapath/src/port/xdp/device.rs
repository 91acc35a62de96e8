//! One queue of an AF_XDP port as a worker has it: what comes in by it, what the worker sends to the port.
//!
//! Frames are sent by the queue that their worker receives by, so that those of a flow, which come to one worker, keep their
//! order and workers meet at no lock. A queue that moves to another worker takes what waits in its rings along.

use super::Refusal;
use super::backend::QueueIo;
use super::queue::Sent;
use super::umem::Memory;
use crate::packet::{Batch, Frame, Pool};
use crate::port::packet::{self, PacketSocket};
use crate::port::{Caps, Device, Rx, Unsent};
use crate::switch::verdict::DropReason;
use rustix::event::{EventfdFlags, eventfd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// One queue of a port.
pub(super) struct XdpQueue {
    io: Box<dyn QueueIo>,
    /// What is sent by instead, where the device has no queue of this number to send by.
    sender: Option<packet::Sender>,
    /// Receives frames to groups, where the host uses the device, too; of the first queue.
    groups: Option<PacketSocket>,
    /// Readable while frames wait that the device did not take.
    retry: OwnedFd,
    /// Frames that the kernel dropped while it went on with what waited; told with the next that are sent.
    late: Unsent,
    /// Why nothing can be sent any more.
    broken: Option<i32>,
    /// Whether the kernel may have dropped frames since it was last asked.
    was_full: bool,
    /// After the queue, which uses it.
    _memory: Memory,
}

impl XdpQueue {
    pub(super) fn new(io: Box<dyn QueueIo>, memory: Memory, sender: Option<packet::Sender>) -> Result<Self, Refusal> {
        let retry =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| ("making an eventfd", e.into()))?;
        let (groups, late, broken, was_full) = (None, vec![], None, false);
        Ok(Self { io, sender, groups, retry, late, broken, was_full, _memory: memory })
    }

    /// Has it receive by this socket, too.
    pub(super) fn add_groups(&mut self, socket: PacketSocket) {
        self.groups = Some(socket);
    }

    /// Whether the device reads and writes the memory itself.
    pub(super) fn zero_copy(&self) -> bool {
        self.io.zero_copy()
    }

    /// Whether unfinished checksums can be handed over.
    pub(super) fn fills_checksums(&self) -> bool {
        self.io.fills_checksums()
    }

    /// Whether frames are sent by a packet socket.
    pub(super) fn sends_by_packet(&self) -> bool {
        self.sender.is_some()
    }

    /// Counts what the kernel has dropped; asked only after frames came in faster than they were taken.
    fn count_lost(&mut self, lost: &mut Vec<(DropReason, u64)>) {
        if std::mem::take(&mut self.was_full) {
            let n = self.io.newly_lost();
            if n > 0 {
                lost.push((DropReason::RxOverflow, n));
            }
        }
    }

    /// Notes how sending ended, to go on with what waits, or to report the end.
    fn note(&mut self, how: Sent) {
        if let Sent::Broken(errno) = how {
            self.broken = Some(errno);
        }
        if matches!(how, Sent::Stalled | Sent::Broken(_)) {
            // A full counter is readable already.
            let _ = rustix::io::write(&self.retry, &1_u64.to_ne_bytes());
        }
    }

    /// Woken without a frame: goes on with what the device did not take before; the error if it is gone.
    fn go_on(&mut self, pool: &mut Pool) -> Option<i32> {
        let _ = rustix::io::read(&self.retry, &mut [0; 8]);
        if self.io.is_stalled() {
            let how = self.io.kick(pool, &mut self.late);
            self.note(how);
        }
        let error = Some(self.io.error()).filter(|&errno| errno != 0);
        self.broken.or(error.map(|errno| if errno == libc::ENETDOWN { libc::ENODEV } else { errno }))
    }
}

impl Device for XdpQueue {
    fn caps(&self) -> Caps {
        Caps { partial_csum: self.fills_checksums(), cuts: self.io.cuts(), ..Caps::NONE }
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let groups = self.groups.iter().flat_map(Device::descriptors);
        [self.io.fd(), self.retry.as_fd()].into_iter().chain(groups).collect()
    }

    fn rings(&self) -> Vec<BorrowedFd<'_>> {
        self.io.has_frames().map(|_| self.io.fd()).into_iter().collect()
    }

    fn has_frames(&self) -> bool {
        self.io.has_frames() == Some(true)
    }

    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, lost: &mut Vec<(DropReason, u64)>) -> Rx {
        let before = batch.len();
        let mut more = self.io.receive(pool, batch, lost);
        if let Some(socket) = &mut self.groups
            && !batch.is_full()
        {
            match socket.receive(pool, batch, lost) {
                Rx::More => more = true,
                Rx::Empty => {}
                dead @ Rx::Dead(_) => return dead,
            }
        }
        self.was_full |= more;
        if more {
            return Rx::More;
        }
        self.count_lost(lost);
        if batch.len() == before {
            // Woken for nothing: to go on sending, or because the device is gone.
            if let Some(errno) = self.go_on(pool) {
                return Rx::Dead(errno);
            }
        }
        Rx::Empty
    }

    fn send(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>, unsent: &mut Unsent) -> u64 {
        if let Some(sender) = &mut self.sender {
            return sender.send(pool, frames, unsent);
        }
        unsent.append(&mut self.late);
        let (sent, how) = self.io.send(pool, frames, unsent);
        self.note(how);
        sent
    }
}
