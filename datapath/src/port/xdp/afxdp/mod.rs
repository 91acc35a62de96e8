//! One queue of a port by the crate `afxdp` 0.4 (cargo feature `afxdp`), to compare with our own rings.
//!
//! Each queue has memory of its own, of which the crate makes buffers without room before the frame; frames are copied in
//! and out. The crate takes up the program that is attached already, since its map has the name that it looks for, so
//! the program goes with the process as ever.
//!
//! The crate has the kernel send as it queues frames, and keeps the kernel's answer to itself (some answers make it
//! panic). The kernel's statistics tell whether it got to the end of the ring. Where it did not, it is asked again on the
//! socket's descriptor, which the crate hides, too, except from `Debug`.

mod sys;

use super::Refusal;
use super::backend::QueueIo;
use super::queue::{Sent, look_into};
use super::socket::{Binding, RING, settings};
use crate::packet::{Batch, CHUNK, Frame, Pool};
use crate::port::Unsent;
use crate::switch::verdict::DropReason;
use crate::types::L3Mtu;
use ::afxdp::PENDING_LEN;
use ::afxdp::buf::Buf;
use ::afxdp::buf_mmap::BufMmap;
use ::afxdp::mmap_area::{MmapArea, MmapAreaOptions};
use ::afxdp::socket::SocketNewError;
use ::afxdp::umem::{Umem, UmemCompletionQueue, UmemFillQueue, UmemNewError};
use arraydeque::{ArrayDeque, Wrapping};
use rustix::io::Errno;
use rustix::net::sockopt::{socket_domain, xdp_options, xdp_statistics};
use rustix::net::xdp::XdpOptionsFlags;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, recv, send};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use sys::Halves;

type Buffer = BufMmap<'static, ()>;
/// What the crate exchanges buffers in.
type Buffers = Box<ArrayDeque<[Buffer; PENDING_LEN], Wrapping>>;

/// Frames that a kernel before 6.17 takes of the ring in one call; a newer one is told to take them all.
const TAKEN_AT_ONCE: usize = 32;

/// The largest layer-3 packet that a buffer takes, after the bytes that the crate reserves and Ethernet with two tags.
pub const MAX_MTU: L3Mtu = L3Mtu(CHUNK as u32 - 256 - 14 - 8);

/// One queue of a port.
pub struct Queue {
    /// The socket's descriptor, duplicated.
    fd: OwnedFd,
    /// Dropped before the two below: it reads their rings.
    halves: Halves,
    fill: UmemFillQueue<'static, ()>,
    completion: UmemCompletionQueue<'static, ()>,
    /// Buffers that the kernel does not have.
    spare: Vec<Buffer>,
    /// Received, and to be sent: empty between calls.
    received: Buffers,
    leaving: Buffers,
    /// Buffers taken back from the completion ring in one call.
    done: Vec<Buffer>,
    /// Where the buffers are. After them: they are slices of it.
    area: Arc<MmapArea<'static, ()>>,
    /// Buffers that the kernel has, to receive into and to send.
    receiving: u32,
    sending: u32,
    /// Frames that the kernel may not have taken yet, by the buffer each was copied to, in order.
    waiting: VecDeque<(usize, Frame)>,
    zero_copy: bool,
    largest: L3Mtu,
    /// Frames that the kernel had lost when it was asked last.
    lost: u64,
    /// The socket has lost its device.
    gone: bool,
}

impl Queue {
    /// Opens a socket on a queue of the device whose program is attached already, and lends it buffers to receive into.
    pub fn open(device: &str, how: Binding, mtu: Option<L3Mtu>, largest: L3Mtu) -> Result<Self, Refusal> {
        if mtu > Some(MAX_MTU) {
            return Err(("taking its MTU", io::Error::from_raw_os_error(libc::ERANGE)));
        }
        let (area, mut spare) = MmapArea::new(2 * RING as usize, CHUNK, MmapAreaOptions { huge_tlb: false })
            .map_err(|_| ("making memory for frames", io::Error::last_os_error()))?;
        let (umem, completion, mut fill) =
            Umem::new(Arc::clone(&area), RING, RING).map_err(|e| ("registering its memory", of_umem(e)))?;
        let halves = Halves::open(umem, device, how.queue, RING, how.zero_copy)
            .map_err(|e| ("opening an AF_XDP socket by the crate", of_socket(e)))?;
        let fd = descriptor(&halves).map_err(|e| ("finding its descriptor, which the crate hides", e))?;
        settings(fd.as_fd(), how.busy_poll).map_err(|e| ("setting it up", e))?;
        let zero_copy = xdp_options(&fd).is_ok_and(|o| o.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY));
        let receiving = fill.fill(&mut spare, RING as usize).unwrap_or(0) as u32;
        Ok(Self {
            fd,
            halves,
            fill,
            completion,
            spare,
            received: Box::default(),
            leaving: Box::default(),
            done: Vec::with_capacity(RING as usize),
            area,
            receiving,
            sending: 0,
            waiting: VecDeque::new(),
            zero_copy,
            largest,
            lost: 0,
            gone: false,
        })
    }

    /// Lends the kernel buffers for those that it has used.
    fn refill(&mut self) {
        let wanted = ((RING - self.receiving) as usize).min(self.spare.len());
        self.receiving += self.fill.fill(&mut self.spare, wanted).unwrap_or(0) as u32;
        if self.zero_copy && self.fill.needs_wakeup() {
            let _ = recv(&self.fd, &mut [0_u8; 0][..], RecvFlags::DONTWAIT);
        }
    }

    /// Copies a frame to a buffer that is to leave.
    fn enqueue(&mut self, frame: Frame) -> Result<(), (Frame, DropReason)> {
        if self.sending + self.leaving.len() as u32 == RING {
            return Err((frame, DropReason::TxQueueFull));
        }
        let Some(mut buffer) = self.spare.pop() else { return Err((frame, DropReason::TxQueueFull)) };
        let Some(room) = buffer.get_data_mut().get_mut(..frame.len()) else {
            self.spare.push(buffer);
            return Err((frame, DropReason::TxTooBig));
        };
        room.copy_from_slice(frame.bytes());
        buffer.set_len(frame.len() as u16);
        self.waiting.push_back((self.number(&buffer), frame));
        self.leaving.push_back(buffer);
        Ok(())
    }

    /// Which of the area's buffers it is.
    fn number(&self, buffer: &Buffer) -> usize {
        (buffer.get_data().as_ptr() as usize - self.area.get_ptr() as usize) / CHUNK
    }

    /// Hands what is to leave to the crate, which has the kernel send it.
    fn submit(&mut self, pool: &mut Pool, unsent: &mut Unsent) -> Sent {
        let (count, before) = (self.leaving.len(), self.times_emptied());
        let (tx, leaving) = (&mut self.halves.tx, &mut self.leaving);
        // It panics after the frames are in the ring, at what the kernel says; we ask the kernel ourselves.
        let queued = catch_unwind(AssertUnwindSafe(|| tx.try_send(leaving, count).unwrap_or(0))).unwrap_or(count);
        self.sending += queued as u32;
        if queued < count {
            let kept = self.waiting.len() - (count - queued);
            unsent.extend(self.waiting.drain(kept..).map(|(_, frame)| (frame, DropReason::TxQueueFull)));
            self.spare.extend(self.leaving.drain(..));
            return self.kick(pool, unsent);
        }
        if self.zero_copy || self.times_emptied() != before {
            self.all_taken(pool);
            return Sent::All;
        }
        // The kernel stopped: at a frame that it dropped, or because it cannot go on, and then it cannot now either.
        let last = self.complete();
        let answer = self.ask();
        if matches!(answer, Ok(()) | Err(Errno::BUSY)) {
            self.refuse(last, pool, unsent);
        }
        self.go_on(answer, pool, unsent)
    }

    /// How often the kernel has got to the end of the transmit ring. Old kernels do not tell, and then it is always asked.
    fn times_emptied(&self) -> u64 {
        xdp_statistics(&self.fd).ok().and_then(|told| told.tx_ring_empty_descs).unwrap_or(0)
    }

    /// Has the kernel send what is in the ring.
    fn ask(&self) -> Result<(), Errno> {
        send(&self.fd, &[], SendFlags::DONTWAIT).map(drop)
    }

    /// After an answer of the kernel, has it go on until it has taken everything or cannot.
    fn go_on(&mut self, mut answer: Result<(), Errno>, pool: &mut Pool, unsent: &mut Unsent) -> Sent {
        let mut patience = self.waiting.len() / TAKEN_AT_ONCE;
        loop {
            match answer {
                Ok(()) => {
                    self.all_taken(pool);
                    return Sent::All;
                }
                Err(Errno::BUSY) => {
                    let last = self.complete();
                    self.refuse(last, pool, unsent);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if patience > 0 => patience -= 1,
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM) => return Sent::Stalled,
                // What is in the ring stays there and is sent when the device is up again.
                Err(Errno::NETDOWN) => return Sent::Down,
                Err(errno) => {
                    self.gone = true;
                    unsent.extend(self.waiting.drain(..).map(|(_, frame)| (frame, DropReason::PortDown)));
                    let removed = matches!(errno, Errno::NXIO | Errno::NODEV);
                    return if removed { Sent::Down } else { Sent::Broken(errno.raw_os_error()) };
                }
            }
            answer = self.ask();
        }
    }

    fn all_taken(&mut self, pool: &mut Pool) {
        self.waiting.drain(..).for_each(|(_, frame)| pool.recycle(frame));
    }

    /// The kernel has dropped one frame and stopped there: the one at `last`, the last that it has completed.
    fn refuse(&mut self, last: Option<usize>, pool: &mut Pool, unsent: &mut Unsent) {
        let at = last.unwrap_or(0);
        self.waiting.drain(..at.min(self.waiting.len())).for_each(|(_, frame)| pool.recycle(frame));
        unsent.extend(self.waiting.pop_front().map(|(_, frame)| (frame, DropReason::TxQueueFull)));
    }

    /// Takes back the buffers of frames that are sent; the place of the last of them in `waiting`, if one is there.
    fn complete(&mut self) -> Option<usize> {
        let count = self.completion.service(&mut self.done, RING as usize).unwrap_or(0);
        self.sending = self.sending.saturating_sub(count as u32);
        let numbers: Vec<usize> = match self.waiting.is_empty() {
            true => vec![],
            false => self.done.iter().map(|buffer| self.number(buffer)).collect(),
        };
        self.spare.append(&mut self.done);
        self.waiting.iter().rposition(|(number, _)| numbers.contains(number))
    }
}

impl QueueIo for Queue {
    fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn has_frames(&self) -> Option<bool> {
        None
    }

    fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    fn fills_checksums(&self) -> bool {
        false
    }

    fn cuts(&self) -> bool {
        false
    }

    fn error(&self) -> i32 {
        super::queue::error_of(self.fd.as_fd())
    }

    fn newly_lost(&mut self) -> u64 {
        super::socket::newly_lost(self.fd.as_fd(), &mut self.lost)
    }

    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, lost: &mut Vec<(DropReason, u64)>) -> bool {
        let from = batch.len();
        let room = Batch::CAPACITY - from;
        let count = self.halves.rx.try_recv(&mut self.received, room, ()).unwrap_or(0);
        for buffer in self.received.drain(..) {
            match buffer.get_data().get(..usize::from(buffer.get_len())) {
                Some(bytes) => {
                    let mut frame = pool.alloc();
                    frame.set_len(bytes.len());
                    frame.bytes_mut().copy_from_slice(bytes);
                    if let Err(frame) = batch.push(frame) {
                        pool.recycle(frame);
                    }
                }
                None => lost.push((DropReason::RxUnsupported, 1)),
            }
            self.spare.push(buffer);
        }
        self.receiving -= count as u32;
        look_into(batch, from, self.largest);
        if count > 0 {
            self.refill();
        }
        count == room
    }

    fn send(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>, unsent: &mut Unsent) -> (u64, Sent) {
        let (before, count) = (unsent.len(), frames.len());
        self.complete();
        let mut how = match (self.gone, self.waiting.is_empty()) {
            (true, _) => Sent::Down,
            (false, true) => Sent::All,
            (false, false) => self.kick(pool, unsent),
        };
        for frame in frames.drain(..) {
            match how {
                Sent::Down | Sent::Broken(_) => unsent.push((frame, DropReason::PortDown)),
                _ => self.enqueue(frame).unwrap_or_else(|refused| unsent.push(refused)),
            }
        }
        if !self.leaving.is_empty() {
            how = self.submit(pool, unsent);
        }
        (count.saturating_sub(unsent.len() - before) as u64, how)
    }

    fn kick(&mut self, pool: &mut Pool, unsent: &mut Unsent) -> Sent {
        self.complete();
        let answer = self.ask();
        self.go_on(answer, pool, unsent)
    }

    fn is_stalled(&self) -> bool {
        !self.waiting.is_empty()
    }
}

/// A duplicate of the socket's descriptor, whose number only `Debug` of the receiving half tells.
fn descriptor(halves: &Halves) -> io::Result<OwnedFd> {
    let shown = format!("{:?}", *halves.rx);
    let number = shown.rsplit_once(", fd: ").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
    let number = number.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, shown.clone()))?;
    let fd = pidfd_getfd(pidfd_open(getpid(), PidfdFlags::empty())?, number, PidfdGetfdFlags::empty())?;
    if socket_domain(&fd)? != AddressFamily::XDP {
        return Err(io::Error::new(io::ErrorKind::InvalidData, shown));
    }
    Ok(fd)
}

/// The C library's error numbers are negative, and the crate leaves them so.
fn right_sign(error: &io::Error) -> io::Error {
    io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO).abs())
}

fn of_umem(error: UmemNewError) -> io::Error {
    match error {
        UmemNewError::Create(e) => right_sign(&e),
        other => io::Error::other(other),
    }
}

fn of_socket(error: SocketNewError) -> io::Error {
    match error {
        SocketNewError::Create(e) => right_sign(&e),
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_c_library_get_their_sign_back() {
        let busy = of_socket(SocketNewError::Create(io::Error::from_raw_os_error(-libc::EBUSY)));
        assert_eq!(busy.raw_os_error(), Some(libc::EBUSY));
        let memory = of_umem(UmemNewError::Create(io::Error::from_raw_os_error(-libc::ENOBUFS)));
        assert_eq!(memory.raw_os_error(), Some(libc::ENOBUFS));
        assert!(of_umem(UmemNewError::RingNotPowerOfTwo).to_string().contains("power of two"));
    }
}
