//! One queue of a port: chunks lent to the kernel and taken back, frames made of them and sent from them.
//!
//! A chunk that the kernel has is in [`Queue::lent`] as the frame that owns it, under its number: exactly one place, so
//! none is lost and none is used twice. What the kernel gives back is looked up there, and is refused if it was not lent.
//!
//! By copying sockets the kernel sends during the system call, so that what became of a frame is known when it ends; a
//! device that reads the region itself sends when it likes.

use super::backend::QueueIo;
use super::rings::{CONTINUED, Desc, HAS_METADATA};
use super::socket::{METADATA, RING, Socket};
use crate::offload::gro;
use crate::offload::gso::Cut;
use crate::packet::frame::{HEADROOM, MAX_FRAME};
use crate::packet::{Batch, CHUNK, ChecksumState, Frame, Meta, Pool, Region};
use crate::port::Unsent;
use crate::switch::verdict::DropReason;
use crate::types::L3Mtu;
use crate::wire::parse::parse;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

/// Bytes of a frame that a chunk of ours takes.
const PIECE: usize = CHUNK - HEADROOM;
/// Pieces that the kernel takes of one frame (`CONFIG_MAX_SKB_FRAGS` and one).
const MAX_PIECES: usize = 18;
/// Descriptors that wait before the kernel is woken: what it copies is not far away then, and its receivers are not woken
/// for a few frames each. 64 cost TCP a fifth more CPU, and so did a whole batch of super-frames in one of two runs.
const KICK: u32 = 256;
/// Have the checksum filled in (`XDP_TXMD_FLAGS_CHECKSUM`).
const FILL_CHECKSUM: u64 = 1 << 1;

/// How sending ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent {
    /// Everything is on its way.
    All,
    /// The device takes no more for now: [`QueueIo::kick`] again later.
    Stalled,
    /// The device is down or gone.
    Down,
    /// The socket refuses for good.
    Broken(i32),
}

/// One queue of a port.
#[derive(Debug)]
pub struct Queue {
    /// Dropped before the chunks that the kernel has: they are free then.
    socket: Socket,
    /// The frames whose chunks the kernel has, by chunk.
    lent: Vec<Option<Frame>>,
    region: Arc<Region>,
    /// How many there are in `lent`, now and when that was told last.
    held: [u32; 2],
    /// How many of those are for receiving.
    receiving: u32,
    /// A frame whose last pieces have not come yet.
    unfinished: Option<Frame>,
    /// Whether frames may be in several pieces.
    frags: bool,
    /// What is larger and TCP is a super-frame whose segment size is lost.
    largest: L3Mtu,
    /// Entries of the transmit ring that the kernel has dealt with; it publishes that late.
    taken: u32,
    /// Entries that were in the transmit ring when the kernel looked there last.
    seen: u32,
    /// Chunks of frames that the kernel has dropped instead of sending, and not yet given back.
    refused: Vec<u32>,
    /// Entries ever put into the transmit ring.
    queued: u32,
    /// What each entry of the transmit ring is, for those the kernel says nothing about but "the last one".
    frame_ends: Vec<(u32, bool)>,
}

impl QueueIo for Queue {
    fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn has_frames(&self) -> Option<bool> {
        Some(!self.socket.rx.is_empty())
    }

    fn zero_copy(&self) -> bool {
        self.socket.zero_copy
    }

    fn fills_checksums(&self) -> bool {
        self.socket.metadata
    }

    fn cuts(&self) -> bool {
        true
    }

    fn error(&self) -> i32 {
        error_of(self.socket.as_fd())
    }

    fn newly_lost(&mut self) -> u64 {
        self.socket.newly_lost()
    }

    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, lost: &mut Vec<(DropReason, u64)>) -> bool {
        let (before, from) = (self.receiving, batch.len());
        self.look_ahead(batch.room());
        while !batch.is_full() {
            let Some(desc) = self.socket.rx.pop() else { break };
            let (start, len) = (desc.addr as usize % CHUNK, desc.len as usize);
            let Some(mut frame) = self.take_back(desc.addr) else {
                lost.push((DropReason::RxUnsupported, 1));
                continue;
            };
            self.receiving -= 1;
            if frame.set_span(start, len) {
                self.received(frame, desc.options, pool, batch, lost);
            } else {
                lost.push((DropReason::RxUnsupported, 1));
                pool.recycle(frame);
            }
        }
        if self.receiving != before {
            self.socket.rx.release();
            self.refill(pool);
            self.tell_held();
            look_into(batch, from, self.largest);
        }
        !self.socket.rx.is_empty()
    }

    fn send(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>, unsent: &mut Unsent) -> (u64, Sent) {
        let before = unsent.len();
        let (count, mut how) = (frames.len(), Sent::All);
        self.complete(pool, unsent);
        for frame in frames.drain(..) {
            let waiting = self.queued.wrapping_sub(self.taken);
            if how == Sent::All && (waiting >= KICK || self.socket.tx.room() < descriptors(&frame)) {
                how = self.kick(pool, unsent);
            }
            let queued = match how {
                Sent::Down | Sent::Broken(_) => Err((frame, DropReason::PortDown)),
                _ if frame.meta.gso.is_some() => self.enqueue_segments(pool, frame, unsent),
                _ => self.enqueue(pool, frame),
            };
            queued.unwrap_or_else(|refused| unsent.push(refused));
        }
        if self.taken != self.queued {
            how = self.kick(pool, unsent);
        }
        (count.saturating_sub(unsent.len() - before) as u64, how)
    }

    fn kick(&mut self, pool: &mut Pool, unsent: &mut Unsent) -> Sent {
        self.socket.tx.publish();
        let how = loop {
            if self.taken == self.queued || !self.socket.tx.needs_wakeup() {
                break Sent::All;
            }
            let before = self.taken;
            let result = send(self.socket.sender(), &[], SendFlags::DONTWAIT);
            let published = self.queued.wrapping_sub(self.socket.tx.pending());
            if published.wrapping_sub(self.taken) <= self.queued.wrapping_sub(self.taken) {
                self.taken = published;
            }
            if !matches!(result, Err(Errno::NETDOWN | Errno::NXIO | Errno::NODEV)) {
                self.seen = self.queued;
            }
            match result {
                Ok(_) if self.socket.zero_copy => {
                    self.taken = self.queued;
                    break Sent::All;
                }
                Ok(_) | Err(Errno::INTR) if self.taken != before => {}
                // The kernel has dropped one frame, and stopped there.
                Err(Errno::BUSY) => self.refuse_last(before),
                Err(Errno::AGAIN) if self.taken != before => {}
                // It may want room among what is sent, and we have not looked there since.
                Ok(_) | Err(Errno::AGAIN | Errno::INTR | Errno::NOBUFS | Errno::NOMEM) => {
                    if !self.complete(pool, unsent) {
                        break Sent::Stalled;
                    }
                }
                Err(Errno::NETDOWN | Errno::NXIO | Errno::NODEV) => {
                    self.withdraw(pool, unsent);
                    break Sent::Down;
                }
                Err(errno) => break Sent::Broken(errno.raw_os_error()),
            }
        };
        self.complete(pool, unsent);
        how
    }

    fn is_stalled(&self) -> bool {
        self.taken != self.queued
    }
}

impl Queue {
    /// Takes the socket over and lends it chunks to receive into.
    pub fn new(socket: Socket, region: Arc<Region>, frags: bool, largest: L3Mtu) -> Self {
        let lent = std::iter::repeat_with(|| None).take(region.chunks() as usize).collect();
        let frame_ends = vec![(0, true); RING as usize];
        let mut queue = Self {
            socket,
            lent,
            region,
            held: [0; 2],
            receiving: 0,
            unfinished: None,
            frags,
            largest,
            taken: 0,
            seen: 0,
            refused: vec![],
            queued: 0,
            frame_ends,
        };
        let region = Arc::clone(&queue.region);
        for chunk in region.take(RING as usize) {
            queue.lend_for_receiving(Frame::new(chunk, HEADROOM));
        }
        queue.socket.fill.publish();
        queue.tell_held();
        queue
    }

    /// Has what belongs to the next frames brought near: it is spread over more memory than is near, and each look there
    /// waits for the one before it only in the loop that takes them.
    fn look_ahead(&self, count: usize) {
        let chunks = self.socket.rx.waiting().take(count).map(|desc| desc.addr as usize / CHUNK);
        let frames = chunks.filter_map(|chunk| self.lent.get(chunk)?.as_ref());
        std::hint::black_box(frames.fold(0, |all, frame| all ^ frame.capacity()));
    }

    /// A piece of a frame has come in; nearly always it is the whole.
    fn received(
        &mut self,
        piece: Frame,
        options: u32,
        pool: &mut Pool,
        batch: &mut Batch,
        lost: &mut Vec<(DropReason, u64)>,
    ) {
        let last = options & CONTINUED == 0;
        let frame = match self.unfinished.take() {
            None if last => piece,
            None => {
                let mut whole = pool.alloc();
                append(&mut whole, piece, pool);
                whole
            }
            Some(mut whole) => {
                append(&mut whole, piece, pool);
                whole
            }
        };
        if !last {
            self.unfinished = Some(frame);
            return;
        }
        if frame.len() > MAX_FRAME {
            lost.push((DropReason::RxUnsupported, 1));
            return pool.recycle(frame);
        }
        if let Err(frame) = batch.push(frame) {
            pool.recycle(frame);
        }
    }

    /// Lends the kernel chunks for those that it has used.
    fn refill(&mut self, pool: &mut Pool) {
        let wanted = (RING - self.receiving).min(self.socket.fill.room());
        for _ in 0..wanted {
            let Some(frame) = pool.alloc_chunk(&self.region) else { break };
            self.lend_for_receiving(frame);
        }
        self.socket.fill.publish();
        if self.socket.zero_copy && self.socket.fill.needs_wakeup() {
            // Wakes the driver; there is nothing to receive in this way.
            let _ = recv(&self.socket, &mut [0_u8; 0][..], RecvFlags::DONTWAIT);
        }
    }

    fn lend_for_receiving(&mut self, frame: Frame) {
        let Some(chunk) = frame.chunk_in(&self.region) else { return };
        self.lend(chunk, frame);
        self.socket.fill.push(u64::from(chunk) * CHUNK as u64);
        self.receiving += 1;
    }

    /// The frame whose chunk the kernel gives back.
    fn take_back(&mut self, addr: u64) -> Option<Frame> {
        let frame = self.lent.get_mut(usize::try_from(addr).ok()? / CHUNK)?.take();
        self.held[0] -= u32::from(frame.is_some());
        frame
    }

    fn lend(&mut self, chunk: u32, frame: Frame) {
        self.lent[chunk as usize] = Some(frame);
        self.held[0] += 1;
    }

    /// Tells the region how many chunks are lent.
    fn tell_held(&mut self) {
        let [now, told] = self.held;
        self.region.note_lent(now, told);
        self.held[1] = now;
    }

    /// Puts a frame into the transmit ring, in a chunk of our region or in several.
    fn enqueue(&mut self, pool: &mut Pool, frame: Frame) -> Result<(), (Frame, DropReason)> {
        let (len, room) = (frame.len(), self.socket.tx.room() as usize);
        let in_place = frame.chunk_in(&self.region).is_some() && frame.headroom() >= METADATA;
        let pieces = if in_place { 1 } else { len.div_ceil(PIECE).max(1) };
        if pieces > MAX_PIECES || pieces > 1 && !self.frags {
            return Err((frame, DropReason::TxTooBig));
        }
        if let ChecksumState::Partial { start, offset } = frame.meta.csum
            && usize::from(start) + usize::from(offset) + 2 > len.min(PIECE)
        {
            return Err((frame, DropReason::Malformed));
        }
        if pieces > room {
            return Err((frame, DropReason::TxQueueFull));
        }
        if in_place {
            self.submit(frame, true);
            return Ok(());
        }
        let mut copies = std::iter::repeat_with(|| pool.alloc_chunk(&self.region)).take(pieces);
        let first = copies.next().flatten();
        let rest: Option<Vec<Frame>> = copies.collect();
        let (Some(first), Some(rest)) = (first, rest) else { return Err((frame, DropReason::TxQueueFull)) };
        let parts = frame.bytes().chunks(PIECE);
        for (i, (mut piece, part)) in std::iter::once(first).chain(rest).zip(parts).enumerate() {
            piece.set_len(part.len());
            piece.bytes_mut().copy_from_slice(part);
            piece.meta = frame.meta;
            if i > 0 {
                piece.meta.csum = ChecksumState::None;
            }
            self.submit(piece, i + 1 == pieces);
        }
        pool.recycle(frame);
        Ok(())
    }

    /// Cuts a super-frame into chunks of our region and puts all its segments into the transmit ring, or none.
    fn enqueue_segments(
        &mut self,
        pool: &mut Pool,
        frame: Frame,
        unsent: &mut Unsent,
    ) -> Result<(), (Frame, DropReason)> {
        let planned = Cut::of(&frame).and_then(|cut| cut.segments().map(|segments| (cut, segments)));
        let (mut cut, segments) = match planned {
            Ok(planned) => planned,
            Err(reason) => return Err((frame, reason)),
        };
        let chunks = segments * cut.segment_len(0).div_ceil(PIECE);
        if self.socket.tx.room() < chunks as u32 || !pool.reserve_chunks(&self.region, chunks) {
            return Err((frame, DropReason::TxQueueFull));
        }
        let csum = if self.socket.metadata { cut.leave_checksums() } else { ChecksumState::None };
        for i in 0..segments {
            // What takes several chunks is put together first.
            let chunk = if chunks == segments { pool.alloc_chunk(&self.region) } else { None };
            let mut segment = chunk.unwrap_or_else(|| pool.alloc());
            segment.set_len(cut.segment_len(i));
            cut.write(frame.bytes(), i, segment.bytes_mut());
            segment.meta = Meta { csum, gso: None, ..frame.meta };
            self.enqueue(pool, segment).unwrap_or_else(|refused| unsent.push(refused));
        }
        pool.recycle(frame);
        Ok(())
    }

    /// Hands a chunk to the kernel to send, the last or only one of a frame.
    fn submit(&mut self, mut frame: Frame, last: bool) {
        let Some(chunk) = frame.chunk_in(&self.region) else { return };
        let mut options = if last { 0 } else { CONTINUED };
        if let ChecksumState::Partial { start, offset } = frame.meta.csum {
            options |= HAS_METADATA;
            let metadata = &mut frame.with_header(METADATA)[..METADATA];
            metadata.fill(0);
            metadata[..8].copy_from_slice(&FILL_CHECKSUM.to_ne_bytes());
            metadata[8..10].copy_from_slice(&start.to_ne_bytes());
            metadata[10..12].copy_from_slice(&offset.to_ne_bytes());
        }
        let addr = u64::from(chunk) * CHUNK as u64 + frame.headroom() as u64;
        self.socket.tx.push(Desc { addr, len: frame.len() as u32, options });
        self.frame_ends[(self.queued % RING) as usize] = (chunk, last);
        self.queued = self.queued.wrapping_add(1);
        self.lend(chunk, frame);
    }

    /// Takes out of the transmit ring what the kernel has not even looked at, since the device is down or gone. What it
    /// has looked at stays there: it may remember that.
    fn withdraw(&mut self, pool: &mut Pool, unsent: &mut Unsent) {
        while self.queued != self.seen && self.queued != self.taken {
            self.queued = self.queued.wrapping_sub(1);
            self.socket.tx.unpush();
            let (chunk, last) = self.frame_ends[(self.queued % RING) as usize];
            match self.take_back(u64::from(chunk) * CHUNK as u64) {
                Some(frame) if last => unsent.push((frame, DropReason::PortDown)),
                piece => piece.into_iter().for_each(|piece| pool.recycle(piece)),
            }
        }
        self.socket.tx.publish();
    }

    /// Notes the frame that the kernel has dropped: the last that it took, but where it took nothing else it has not
    /// published even that.
    fn refuse_last(&mut self, before: u32) {
        if self.taken == before {
            while !self.frame_ends[(self.taken % RING) as usize].1 {
                self.taken = self.taken.wrapping_add(1);
            }
            self.taken = self.taken.wrapping_add(1);
        }
        self.refused.push(self.frame_ends[(self.taken.wrapping_sub(1) % RING) as usize].0);
    }

    /// Takes back the chunks of frames that are sent; whether there were any.
    pub fn complete(&mut self, pool: &mut Pool, unsent: &mut Unsent) -> bool {
        let mut any = false;
        while let Some(addr) = self.socket.completion.pop() {
            any = true;
            let Some(frame) = self.take_back(addr) else { continue };
            if !self.refused.is_empty() {
                let chunk = frame.chunk_in(&self.region);
                if let Some(at) = self.refused.iter().position(|&refused| Some(refused) == chunk) {
                    self.refused.swap_remove(at);
                    unsent.push((frame, DropReason::TxQueueFull));
                    continue;
                }
            }
            pool.recycle(frame);
        }
        if any {
            self.socket.completion.release();
        }
        self.tell_held();
        any
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.region.note_lent(0, self.held[1]);
    }
}

/// The kernel's word for what is wrong with a socket, 0 if nothing.
pub fn error_of(socket: BorrowedFd<'_>) -> i32 {
    rustix::net::sockopt::socket_error(socket)
        .map_or_else(Errno::raw_os_error, |error| error.err().map_or(0, Errno::raw_os_error))
}

/// How many descriptors a frame may take.
fn descriptors(frame: &Frame) -> u32 {
    match frame.meta.gso {
        None => MAX_PIECES as u32,
        Some(gso) => {
            let pieces = (usize::from(gso.header_len) + usize::from(gso.size)).div_ceil(PIECE);
            (frame.wire_size().0 as u32).saturating_mul(pieces as u32)
        }
    }
}

/// Finds out what the frames of a batch, from this one on, are still owed. What is larger than `largest` and TCP is a
/// super-frame whose segment size is lost.
pub fn look_into(batch: &mut Batch, from: usize, largest: L3Mtu) {
    // Another core has written them, so the first look waits for memory: that for all of them at once, since no look
    // depends on another.
    let first_bytes = batch.iter().skip(from).filter_map(|frame| frame.bytes().first());
    std::hint::black_box(first_bytes.fold(0, |all, byte| all ^ byte));
    for frame in batch.iter_mut().skip(from) {
        if let Ok(headers) = parse(frame.bytes()) {
            gro::adopt(frame, &headers, Some(largest));
        }
    }
}

/// Appends a piece to a frame that has room for the largest; what is more makes it too long, and is left out.
fn append(whole: &mut Frame, piece: Frame, pool: &mut Pool) {
    let (at, n) = (whole.len(), piece.len().min(whole.tailroom()));
    whole.set_len(at + n);
    whole.bytes_mut()[at..].copy_from_slice(&piece.bytes()[..n]);
    pool.recycle(piece);
}
