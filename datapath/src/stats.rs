//! Counters: written by one worker each, read by anyone at any time, never locked. What several workers count is counted by
//! each for itself and added up by who reads it.
//!
//! The identity that always holds when nothing is in flight, in total over all ports and mirrors:
//! received + copied + generated + split = transmitted + merged + dropped. A frame that goes through a patch port is
//! transmitted by one end and received by the other.

use crate::packet::Frame;
use crate::switch::verdict::DropReason;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter with a single writer: adding is a plain load and store, not a locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning worker may call it.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The counters of each worker, by its number. Those of a worker that has ended stay.
#[derive(Clone, Debug)]
pub struct PerWorker<T>(Vec<Arc<T>>);

impl<T> Default for PerWorker<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Default> PerWorker<T> {
    /// Those of a worker, made on first use.
    pub fn of(&mut self, worker: usize) -> Arc<T> {
        while self.0.len() <= worker {
            self.0.push(Arc::default());
        }
        Arc::clone(&self.0[worker])
    }

    /// Those of all workers.
    pub fn all(&self) -> impl Iterator<Item = &T> + Clone {
        self.0.iter().map(AsRef::as_ref)
    }
}

/// What one port has seen.
#[derive(Debug, Default)]
pub struct PortCounters {
    /// Frames received, before anything is decided; every frame of a coalesced run counts.
    pub rx_packets: Counter,
    /// Bytes of those, from the Ethernet header on, without FCS.
    pub rx_bytes: Counter,
    /// Frames handed to the device; a super-frame that the device takes whole counts once.
    pub tx_packets: Counter,
    /// Bytes of those.
    pub tx_bytes: Counter,
    /// Dropped frames by reason: on receive counted at the ingress port, on send at the egress port.
    pub drops: DropCounters,
}

impl PortCounters {
    /// Counts the frames of a batch, each received as it is.
    #[inline]
    pub fn count_batch<'a>(&self, frames: impl ExactSizeIterator<Item = &'a Frame>) {
        self.rx_packets.add(frames.len() as u64);
        self.rx_bytes.add(frames.map(|frame| frame.len() as u64).sum());
    }

    /// Counts a received frame, which stands for so many `frames` of the wire that were coalesced into it.
    #[inline]
    pub fn count_received(&self, frame: &Frame, frames: u32) {
        let headers = frame.meta.gso.map_or(0, |gso| u64::from(gso.header_len));
        self.rx_packets.add(frames.into());
        self.rx_bytes.add(frame.len() as u64 + u64::from(frames.saturating_sub(1)) * headers);
    }
}

/// What became of one mirror's copies.
#[derive(Debug, Default)]
pub struct MirrorCounters {
    /// Copies handed to a device or a patch port; they count as sent at that port, too.
    pub tx_packets: Counter,
    /// Bytes of those.
    pub tx_bytes: Counter,
    /// Copies that did not leave, by reason; at no port.
    pub drops: DropCounters,
}

impl MirrorCounters {
    /// Counts copies that have left.
    pub fn count_sent(&self, packets: u64, bytes: u64) {
        self.tx_packets.add(packets);
        self.tx_bytes.add(bytes);
    }
}

/// One counter per reason.
#[derive(Debug)]
pub struct DropCounters([Counter; DropReason::COUNT]);

impl Default for DropCounters {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }
}

impl DropCounters {
    /// Counts `n` frames dropped for `reason`.
    #[inline]
    pub fn add(&self, reason: DropReason, n: u64) {
        self.0[reason as usize].add(n);
    }

    /// How many were dropped for `reason`.
    #[must_use]
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize].get()
    }

    /// All reasons that have been seen, with their counts.
    pub fn nonzero(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&r| (r, self.get(r))).filter(|&(_, n)| n > 0)
    }

    /// The sum over all reasons.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(Counter::get).sum()
    }
}

/// What a worker has done that belongs to no single port.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    /// Extra frames made by flooding and mirroring.
    pub copied: Counter,
    /// Frames that the switch itself originated.
    pub generated: Counter,
    /// Extra frames made by segmentation: n segments of one frame count n−1.
    pub split: Counter,
    /// Frames that vanished into a coalesced one: n frames made into one count n−1.
    pub merged: Counter,
    /// Frames whose sender a static entry says to be elsewhere; they are forwarded.
    pub static_none_move: Counter,
    /// Frames that were copied since there was no room before them for another header.
    pub headroom_copied: Counter,
    /// Frames received and dropped before any port was known (`rx` of the identity includes them).
    pub portless: DropCounters,
}

/// What a receive queue has cost the worker that has it: it goes with the queue from worker to worker.
#[derive(Debug, Default)]
pub struct QueueLoad {
    /// Nanoseconds of the worker's time, of a round the part that its frames and bytes stand for.
    pub busy: Counter,
    /// Frames received.
    pub frames: Counter,
}
