//! The flow table that a worker shares with the kernel: where a flow comes in, what it is, where it goes, how often.
//!
//! Sets of a few slots; a flow is in one of those of its set. A slot is eight words:
//!
//! | word | halves                           | written by            |
//! |------|----------------------------------|-----------------------|
//! | 0    | generation in which it holds; 0: none | the worker       |
//! | 1, 2 | addresses and tag, as on the wire | the worker, while it does not hold |
//! | 3    | index of the device in; largest frame | the same         |
//! | 4    | index of the device out; what becomes of the tag | the same |
//! | 5, 6 | frames and bytes taken, ever     | the filter, atomically |
//! | 7    | frames lost after that (upper 16 bits) and their bytes, ever | the other program, atomically |
//!
//! A slot holds while its generation is the table's, so one store empties the table. The filter may still be at a frame
//! with a slot that has just ceased to hold: whoever uses a slot again for another flow waits before ([`super::super`]'s
//! callers: a second). Counters only grow, also from one flow of a slot to the next.

use super::super::bpf::sys::Shared;
use crate::types::L3Mtu;
use crate::wire::ethernet;
use crate::wire::vlan::{SERVICE, TAG_LEN, Tag};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Slots that a flow may be in.
pub(super) const WAYS: u32 = 4;
const SETS: u32 = 2048;
/// All slots: 512 KB.
pub(super) const SLOTS: u32 = SETS * WAYS;
const WORDS: usize = 8;
/// Bytes of a slot, and of what belongs to the whole table: its generation.
pub(super) const SLOT_LEN: u32 = 64;
pub(super) const STATE_LEN: u32 = 8;

// Where things are in a slot, in bytes.
pub(super) const GENERATION: i16 = 0;
pub(super) const HEAD: [i16; 2] = [8, 16];
pub(super) const DEVICE_IN: i16 = 24;
pub(super) const LIMIT: i16 = 28;
pub(super) const DEVICE_OUT: i16 = 32;
pub(super) const RETAG: i16 = 36;
pub(super) const FRAMES: i16 = 40;
pub(super) const BYTES: i16 = 48;
pub(super) const LOST: i16 = 56;
/// One frame in the word of what was lost; its bytes are added to that.
pub(super) const ONE_LOST: u64 = 1 << 48;

// What becomes of the tag; in the lower half the new one's control information.
pub(super) const POP: i32 = 1 << 16;
pub(super) const PUSH: i32 = 1 << 17;
pub(super) const PUSH_SERVICE: i32 = 1 << 18;

// How addresses are mixed to find a set (odd numbers with as many bits set as not).
pub(super) const MIX: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93];
pub(super) const MIX_SHIFT: i32 = 32;
pub(super) const SET_MASK: i32 = (SETS - 1) as i32;
pub(super) const WAYS_SHIFT: i32 = WAYS.trailing_zeros() as i32;

/// The frames that are of one flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    /// Index of the device that they come in by.
    pub ifindex: u32,
    /// Destination, source and outermost tag as on the wire; without a tag zeros in its place.
    pub head: [u8; 16],
}

/// What becomes of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Action {
    /// Index of the device that they leave by.
    pub ifindex: u32,
    /// What that carries; larger frames are not taken.
    pub mtu: L3Mtu,
    /// How their tag changes.
    pub retag: Retag,
}

/// How the tags of a frame change that has one at most before and after.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retag {
    /// The one it has goes.
    pub pop: bool,
    /// It gets this one.
    pub push: Option<Tag>,
}

/// What a slot has counted, ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Frames that were taken; a super-frame counts once.
    pub packets: u64,
    /// Bytes of those, without their outermost tag.
    pub bytes: u64,
    /// Frames among them that were lost, since their tag could not be changed, and their bytes.
    pub(super) lost: u64,
}

impl Counts {
    /// What came on top of `before`. Of the lost it tells how many there are if there are fewer than 65,536.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            packets: self.packets.wrapping_sub(before.packets),
            bytes: self.bytes.wrapping_sub(before.bytes),
            lost: self.lost.wrapping_sub(before.lost),
        }
    }

    /// Frames among them that were lost, since their tag could not be changed.
    #[must_use]
    pub fn lost_packets(self) -> u64 {
        self.lost / ONE_LOST
    }

    /// Bytes of those.
    #[must_use]
    pub fn lost_bytes(self) -> u64 {
        self.lost % ONE_LOST
    }
}

/// A place in the table.
pub type Slot = usize;

/// The table. Any thread may read counters; one alone, a worker, puts flows in and takes them out.
#[derive(Debug)]
pub struct Table {
    slots: Shared,
    state: Shared,
    /// Mixed into addresses, so that nobody outside knows which flows share a set.
    seed: u64,
}

impl Table {
    pub(super) fn new(flows: BorrowedFd<'_>, state: BorrowedFd<'_>) -> io::Result<Self> {
        let table =
            Self { slots: Shared::map(flows, SLOTS as usize * WORDS)?, state: Shared::map(state, 1)?, seed: random() };
        table.forget();
        Ok(table)
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// How many places it has.
    pub const LEN: usize = SLOTS as usize;

    /// The places that a flow may be in.
    #[must_use]
    pub fn places(&self, key: &Key) -> Range<Slot> {
        let set = mix(words(key), key.ifindex, self.seed) as usize & SET_MASK as usize;
        set << WAYS_SHIFT..(set + 1) << WAYS_SHIFT
    }

    /// Has frames of a flow go their way from now on. The slot must be one of its places, and not have held another flow
    /// for a while.
    pub fn put(&self, slot: Slot, key: &Key, action: &Action) {
        let [first, second] = words(key);
        let limit = ethernet::HEADER_LEN as u32 + action.mtu.0 - action.retag.counted_len();
        let fields = [first, second, halves(key.ifindex, limit), halves(action.ifindex, action.retag.encode())];
        let line = self.line(slot);
        for (word, value) in line[1..].iter().zip(fields) {
            word.store(value, Relaxed);
        }
        line[0].store(self.state[0].load(Relaxed), Release);
    }

    /// Has no frame go by this slot from now on.
    pub fn remove(&self, slot: Slot) {
        self.line(slot)[0].store(0, Release);
    }

    /// Has no frame go by any slot from now on.
    pub fn forget(&self) {
        // 0 stands for no generation; there are enough for 500 years of one a nanosecond.
        self.state[0].store(self.state[0].load(Relaxed) + 1, Release);
    }

    /// What the slot has counted, ever.
    #[must_use]
    pub fn counts(&self, slot: Slot) -> Counts {
        let [.., packets, bytes, lost] = self.line(slot) else { return Counts::default() };
        // First, so that there are never more than were taken.
        let lost = lost.load(Acquire);
        Counts { packets: packets.load(Relaxed), bytes: bytes.load(Relaxed), lost }
    }

    fn line(&self, slot: Slot) -> &[AtomicU64] {
        &self.slots[slot * WORDS..][..WORDS]
    }
}

impl Retag {
    /// As the programs read it.
    fn encode(self) -> u32 {
        let push = self.push.map_or(0, |tag| {
            let service = if tag.tpid == SERVICE { PUSH_SERVICE } else { 0 };
            PUSH | service | i32::from(tag.tci)
        });
        (push | if self.pop { POP } else { 0 }).cast_unsigned()
    }

    /// Bytes of the new tag that count where the device's MTU is looked at: Linux lets a customer's tag pass beyond it.
    fn counted_len(self) -> u32 {
        if self.push.is_some_and(|tag| tag.tpid == SERVICE) { TAG_LEN as u32 } else { 0 }
    }
}

/// The words of a key, as a program loads them.
fn words(key: &Key) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, rest @ ..] = key.head;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes(rest)]
}

/// A word whose halves a program loads, one at the lower address.
fn halves(lower: u32, upper: u32) -> u64 {
    let ([a, b, c, d], [e, f, g, h]) = (lower.to_ne_bytes(), upper.to_ne_bytes());
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// What tells in which set a flow is; [`super::program`] does the same.
fn mix([first, second]: [u64; 2], ifindex: u32, seed: u64) -> u64 {
    let h = (first ^ seed).wrapping_mul(MIX[0]);
    let h = (h ^ (h >> MIX_SHIFT) ^ second).wrapping_add(ifindex.into()).wrapping_mul(MIX[1]);
    h >> MIX_SHIFT
}

/// A number that nobody can guess.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(0_u64)
}

/// For tests elsewhere: a table that no program knows.
#[cfg(test)]
impl Table {
    /// In memory that is shared with nobody.
    pub fn alone() -> Self {
        use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
        use std::os::fd::AsFd;
        let memory = |len: u32| {
            let memory = memfd_create("table", MemfdFlags::CLOEXEC).unwrap();
            ftruncate(&memory, len.into()).unwrap();
            memory
        };
        Self::new(memory(SLOTS * SLOT_LEN).as_fd(), memory(STATE_LEN).as_fd()).unwrap()
    }

    /// Whether the filter would go by this slot.
    pub fn holds(&self, slot: Slot) -> bool {
        self.line(slot)[0].load(Relaxed) == self.state[0].load(Relaxed)
    }

    /// As if frames had come by this slot, of which some were lost.
    pub fn pretend(&self, slot: Slot, [packets, bytes]: [u64; 2], [lost_packets, lost_bytes]: [u64; 2]) {
        for (word, n) in [(5, packets), (6, bytes), (7, lost_packets * ONE_LOST + lost_bytes)] {
            self.line(slot)[word].fetch_add(n, Relaxed);
        }
    }
}
