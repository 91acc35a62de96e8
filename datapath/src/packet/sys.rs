//! Where the bytes of a frame are: on the heap, or in a chunk of a [`Region`], memory that the kernel can be lent.
//!
//! A [`Buffer`] owns its bytes alone. A chunk is either in its region's list of free ones, or one buffer's; whoever lends
//! it to the kernel keeps the buffer and does not look into it until the kernel has given it back. Any thread may take
//! chunks and drop buffers; workers keep spare ones ([`super::Pool`]), so that they meet at the lock once a batch.
#![allow(unsafe_code)]

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use std::io;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of a chunk: a page, the most that AF_XDP takes everywhere.
pub const CHUNK: usize = 4096;

/// Memory that is cut into chunks of [`CHUNK`] bytes, each for one frame.
#[derive(Debug)]
pub struct Region {
    base: NonNull<u8>,
    chunks: u32,
    free: Mutex<Vec<u32>>,
    /// How many the kernel has: counted by those who lend them to it, a batch at a time.
    lent: AtomicU32,
}

// SAFETY: the memory is reached only through buffers, each of which owns its chunk; the list is behind a lock.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// So many chunks, all free.
    pub fn new(chunks: u32) -> io::Result<Arc<Self>> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: a new anonymous mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe { mmap_anonymous(std::ptr::null_mut(), chunks as usize * CHUNK, protection, flags) }?;
        // Every frame is on a page of its own; in huge ones, addresses are found faster. A kernel without them goes on.
        // SAFETY: as large as was mapped just now, and nothing but how it is mapped changes.
        let _ = unsafe { madvise(base, chunks as usize * CHUNK, Advice::LinuxHugepage) };
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Arc::new(Self { base, chunks, free: Mutex::new((0..chunks).rev().collect()), lent: AtomicU32::new(0) }))
    }

    /// How many chunks there are.
    #[must_use]
    pub fn chunks(&self) -> u32 {
        self.chunks
    }

    /// How many are free.
    #[must_use]
    pub fn free(&self) -> usize {
        self.list().len()
    }

    /// How many the kernel has.
    #[must_use]
    pub fn lent(&self) -> u32 {
        self.lent.load(Relaxed)
    }

    /// Somebody has lent the kernel so many more, or taken back so many.
    pub fn note_lent(&self, more: u32, fewer: u32) {
        if more != fewer {
            self.lent.fetch_add(more.wrapping_sub(fewer), Relaxed);
        }
    }

    /// Its address and length in bytes, for the kernel.
    #[must_use]
    pub fn span(&self) -> (u64, u64) {
        (self.base.as_ptr() as u64, self.chunks as u64 * CHUNK as u64)
    }

    /// Takes up to `n` free chunks, as buffers.
    pub fn take(self: &Arc<Self>, n: usize) -> impl Iterator<Item = Buffer> {
        let mut free = self.list();
        let keep = free.len().saturating_sub(n);
        let taken = free.split_off(keep);
        drop(free);
        taken.into_iter().map(|index| {
            // SAFETY: the index is below `chunks`, so the address is inside the mapping.
            let at = unsafe { self.base.add(index as usize * CHUNK) };
            Buffer { at, len: CHUNK, region: Some(Arc::clone(self)) }
        })
    }

    /// The list; a panic elsewhere leaves it usable, every change being a single step.
    fn list(&self) -> MutexGuard<'_, Vec<u32>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the mapping is this region's, and every buffer in it has a share of the region: there is none left.
        // Failing would leave it mapped, which harms nobody.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.chunks as usize * CHUNK) };
    }
}

/// The memory of one frame.
#[derive(Debug)]
pub struct Buffer {
    at: NonNull<u8>,
    len: usize,
    /// Whose chunk it is; `None`: on the heap.
    region: Option<Arc<Region>>,
}

// SAFETY: the buffer owns what it points to.
unsafe impl Send for Buffer {}
// SAFETY: shared, its bytes can only be read.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// The region whose chunk it is.
    #[inline]
    #[must_use]
    pub fn region(&self) -> Option<&Arc<Region>> {
        self.region.as_ref()
    }

    /// Which chunk of `region` it is.
    #[inline]
    #[must_use]
    pub fn chunk_in(&self, region: &Arc<Region>) -> Option<u32> {
        let own = self.region.as_ref().filter(|own| Arc::ptr_eq(own, region))?;
        Some(((self.at.as_ptr() as usize - own.base.as_ptr() as usize) / CHUNK) as u32)
    }
}

impl From<Box<[u8]>> for Buffer {
    fn from(bytes: Box<[u8]>) -> Self {
        let len = bytes.len();
        Self { at: NonNull::from(Box::leak(bytes)).cast(), len, region: None }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        // SAFETY: `at` is the start of `len` bytes that this buffer owns, initialised by their allocation.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(self.at.as_ptr(), self.len) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        match self.region.take() {
            Some(region) => {
                let index = (self.at.as_ptr() as usize - region.base.as_ptr() as usize) / CHUNK;
                region.list().push(index as u32);
            }
            None => {
                let bytes = std::ptr::slice_from_raw_parts_mut(self.at.as_ptr(), self.len);
                // SAFETY: made by `Box::leak` of a box of this length, and given back once.
                drop(unsafe { Box::from_raw(bytes) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_apart_and_come_back() {
        let region = Region::new(4).unwrap();
        let mut taken: Vec<_> = region.take(3).collect();
        assert_eq!((taken.len(), region.free()), (3, 1));
        for (i, buffer) in taken.iter_mut().enumerate() {
            assert_eq!((buffer.len(), buffer.chunk_in(&region)), (CHUNK, Some(2 - i as u32)));
            buffer.fill(i as u8);
        }
        assert!(taken.iter().enumerate().all(|(i, b)| b.iter().all(|&byte| byte == i as u8)));
        assert_eq!(region.take(9).count(), 1, "as many as there are; given back at once");
        taken.remove(1);
        assert_eq!(region.free(), 2);
        let again: Vec<_> = region.take(1).map(|b| b.chunk_in(&region)).collect();
        assert_eq!(again, [Some(1)]);
    }

    #[test]
    fn a_buffer_keeps_its_region_and_knows_strangers() {
        let (one, other) = (Region::new(2).unwrap(), Region::new(2).unwrap());
        let mut buffer = one.take(1).next().unwrap();
        assert_eq!(buffer.chunk_in(&other), None);
        drop(one);
        buffer[CHUNK - 1] = 7;
        assert_eq!(buffer.region().unwrap().free(), 1);
        let heap = Buffer::from(vec![1, 2, 3].into_boxed_slice());
        assert_eq!((&*heap, heap.region().is_none(), heap.chunk_in(&other)), (&[1, 2, 3][..], true, None));
    }
}
