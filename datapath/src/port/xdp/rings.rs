//! The four rings of an AF_XDP socket, seen from our side: we produce into the fill and transmit rings and consume from
//! the receive and completion rings. Positions only ever grow, modulo 2³²; ours are kept privately and published a batch
//! at a time.
//!
//! What is in a ring is checked by whoever takes it out: the kernel writes there.

use super::sys::{Entry, RingMemory};

/// The frame goes on in the next descriptor (`XDP_PKT_CONTD`).
pub const CONTINUED: u32 = 1;
/// Transmit metadata stand before the frame (`XDP_TX_METADATA`).
pub const HAS_METADATA: u32 = 1 << 1;
/// The kernel must be woken to look at the ring (`XDP_RING_NEED_WAKEUP`).
const NEED_WAKEUP: u32 = 1;

/// A frame in a region, or a part of one (`struct xdp_desc`).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Desc {
    /// Where it begins, from the start of the region.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// [`CONTINUED`], [`HAS_METADATA`].
    pub options: u32,
}

/// A ring that we put entries into.
#[derive(Debug)]
pub struct Producer<T> {
    memory: RingMemory<T>,
    /// Entries put in, those not yet published included.
    next: u32,
}

impl<T: Entry> Producer<T> {
    /// On a new ring.
    pub fn new(memory: RingMemory<T>) -> Self {
        Self { next: memory.produced(), memory }
    }

    /// Room for so many entries.
    #[inline]
    pub fn room(&self) -> u32 {
        self.memory.len() - self.pending()
    }

    /// Entries that the kernel has not taken yet.
    #[inline]
    pub fn pending(&self) -> u32 {
        self.next.wrapping_sub(self.memory.consumed())
    }

    /// Puts an entry in; the caller has seen that there is room.
    #[inline]
    pub fn push(&mut self, entry: T) {
        debug_assert!(self.room() > 0, "the ring is full");
        self.memory.write(self.next, entry);
        self.next = self.next.wrapping_add(1);
    }

    /// Takes the last entry out again; the caller knows that the kernel has not looked at it.
    pub fn unpush(&mut self) {
        self.next = self.next.wrapping_sub(1);
    }

    /// Lets the kernel see what was put in.
    #[inline]
    pub fn publish(&mut self) {
        self.memory.set_produced(self.next);
    }

    /// Whether the kernel looks only when it is woken.
    #[inline]
    pub fn needs_wakeup(&self) -> bool {
        self.memory.flags() & NEED_WAKEUP != 0
    }
}

/// A ring that we take entries out of.
#[derive(Debug)]
pub struct Consumer<T> {
    memory: RingMemory<T>,
    /// Entries taken out, those not yet given free included.
    next: u32,
    /// Entries that the kernel had put in when we looked last.
    seen: u32,
}

impl<T: Entry> Consumer<T> {
    /// On a new ring.
    pub fn new(memory: RingMemory<T>) -> Self {
        let next = memory.consumed();
        Self { next, seen: next, memory }
    }

    /// Takes an entry out.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.next == self.seen {
            self.seen = self.memory.produced();
            if self.next == self.seen {
                return None;
            }
        }
        let entry = self.memory.read(self.next);
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// The entries that can be taken out now, in order.
    pub fn waiting(&self) -> impl Iterator<Item = T> {
        let count = self.memory.produced().wrapping_sub(self.next).min(self.memory.len());
        (0..count).map(|i| self.memory.read(self.next.wrapping_add(i)))
    }

    /// Lets the kernel use the room of what was taken out.
    #[inline]
    pub fn release(&mut self) {
        self.memory.set_consumed(self.next);
    }

    /// Whether there was nothing in it just now.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.next == self.memory.produced()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::Ordering::Relaxed;

    #[test]
    fn the_kernel_sees_what_is_published_and_frees_what_it_takes() {
        let memory = RingMemory::<u64>::alone(4);
        // Positions wrap around.
        for which in ['p', 'c'] {
            memory.word(which).store(u32::MAX - 1, Relaxed);
        }
        let mut ring = Producer::new(memory);
        assert_eq!((ring.room(), ring.pending(), ring.needs_wakeup()), (4, 0, false));
        (10..14).for_each(|entry| ring.push(entry));
        assert_eq!((ring.room(), ring.memory.produced()), (0, u32::MAX - 1));
        ring.publish();
        assert_eq!(ring.memory.produced(), 2);
        ring.memory.word('c').store(1, Relaxed);
        ring.memory.word('f').store(1, Relaxed);
        assert_eq!((ring.room(), ring.pending(), ring.needs_wakeup()), (3, 1, true));
    }

    #[test]
    fn what_the_kernel_puts_in_comes_out_in_order_and_once() {
        let memory = RingMemory::<Desc>::alone(4);
        let mut ring = Consumer::new(memory);
        assert_eq!(ring.pop(), None);
        let desc = |len| Desc { addr: 4096, len, options: 0 };
        (0..3).for_each(|i| ring.memory.write(i, desc(i)));
        assert!(ring.is_empty());
        ring.memory.word('p').store(3, Relaxed);
        assert!(!ring.is_empty());
        let got: Vec<_> = std::iter::from_fn(|| ring.pop()).map(|d| d.len).collect();
        assert_eq!(got, [0, 1, 2]);
        assert_eq!(ring.memory.consumed(), 0, "not yet free");
        ring.release();
        assert_eq!((ring.memory.consumed(), ring.is_empty()), (3, true));
    }
}
