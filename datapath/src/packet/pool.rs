//! Frame memory, one pool per worker: allocate, copy explicitly, recycle.
//!
//! Every buffer holds the largest frame plus headroom, so any received frame fits any buffer; memory that was never
//! written to costs address space only. A pool never refuses: when its spare buffers are used up it allocates, and it
//! keeps at most `spare_limit` when they come back.

use super::frame::{Frame, HEADROOM, MAX_FRAME};
use super::sys::Region;
use std::sync::Arc;

/// Bytes of one buffer: headroom, the largest frame, and slack so that a coalesced run of tunnel datagrams fits too.
pub const BUFFER: usize = HEADROOM + MAX_FRAME + 499;

/// Spare chunks of a region that a worker keeps; more go back to the region, where other workers find them.
const SPARE_CHUNKS: usize = 1024;
/// Chunks that are taken from a region at a time.
const REFILL: usize = 64;

/// Recycled frames of one worker.
#[derive(Debug)]
pub struct Pool {
    spare: Vec<Frame>,
    spare_limit: usize,
    relocated: u64,
    /// Frames on chunks of regions, by region; there are few.
    chunks: Vec<(Arc<Region>, Vec<Frame>)>,
}

impl Pool {
    /// A pool that keeps up to `spare_limit` unused buffers of [`BUFFER`] bytes.
    #[must_use]
    pub fn new(spare_limit: usize) -> Self {
        Self { spare: Vec::with_capacity(spare_limit), spare_limit, relocated: 0, chunks: Vec::new() }
    }

    /// An empty frame with the usual headroom and room for [`MAX_FRAME`] bytes.
    pub fn alloc(&mut self) -> Frame {
        let Some(mut frame) = self.spare.pop() else { return Frame::new(vec![0; BUFFER].into_boxed_slice(), HEADROOM) };
        frame.reset(HEADROOM);
        frame
    }

    /// A second frame with the same bytes and metadata; the caller counts it.
    pub fn copy(&mut self, of: &Frame) -> Frame {
        let mut copy = self.alloc();
        copy.set_len(of.len());
        copy.bytes_mut().copy_from_slice(of.bytes());
        copy.meta = of.meta;
        copy
    }

    /// Sees to it that `n` bytes, [`HEADROOM`] at most, are free before the frame: it is copied where there are not.
    #[inline]
    pub fn make_room(&mut self, frame: &mut Frame, n: usize) {
        if frame.headroom() < n {
            self.relocate(frame);
        }
    }

    #[cold]
    fn relocate(&mut self, frame: &mut Frame) {
        self.enlarge(frame);
        self.relocated += 1;
    }

    /// Moves a frame to memory with the usual headroom and room for [`MAX_FRAME`] bytes.
    pub fn enlarge(&mut self, frame: &mut Frame) {
        let roomy = self.copy(frame);
        let tight = std::mem::replace(frame, roomy);
        self.recycle(tight);
    }

    /// How many frames have been copied for want of room before them, since this was asked last.
    pub fn take_relocated(&mut self) -> u64 {
        std::mem::take(&mut self.relocated)
    }

    /// Takes the memory of a frame that is finished with; the caller has counted where it went.
    pub fn recycle(&mut self, frame: Frame) {
        if frame.capacity() == BUFFER {
            if self.spare.len() < self.spare_limit {
                self.spare.push(frame);
            }
        } else if let Some(region) = frame.region() {
            // A region of which no chunk was taken here is not kept alive by this pool.
            let own = self.chunks.iter_mut().find(|(own, _)| Arc::ptr_eq(own, region));
            if let Some((_, spare)) = own.filter(|(_, spare)| spare.len() < SPARE_CHUNKS) {
                spare.push(frame);
            }
        }
    }

    /// An empty frame on a chunk of `region`, with the usual headroom; `None` when all its chunks are in use.
    #[inline]
    pub fn alloc_chunk(&mut self, region: &Arc<Region>) -> Option<Frame> {
        let spare = self.chunks_of(region);
        if spare.is_empty() {
            spare.extend(region.take(REFILL).map(|chunk| Frame::new(chunk, HEADROOM)));
        }
        let mut frame = spare.pop()?;
        frame.reset(HEADROOM);
        Some(frame)
    }

    /// Sees to it that `n` chunks of `region` are at hand; `false` when not so many are free.
    pub fn reserve_chunks(&mut self, region: &Arc<Region>, n: usize) -> bool {
        let spare = self.chunks_of(region);
        let missing = n.saturating_sub(spare.len());
        if missing > 0 {
            spare.extend(region.take(missing).map(|chunk| Frame::new(chunk, HEADROOM)));
        }
        spare.len() >= n
    }

    /// Gives all spare chunks back to their regions, and forgets these.
    pub fn give_back_chunks(&mut self) {
        self.chunks.clear();
    }

    /// The spare frames on chunks of `region`.
    #[inline]
    fn chunks_of(&mut self, region: &Arc<Region>) -> &mut Vec<Frame> {
        let at = self.chunks.iter().position(|(own, _)| Arc::ptr_eq(own, region)).unwrap_or_else(|| {
            self.chunks.push((Arc::clone(region), Vec::with_capacity(SPARE_CHUNKS)));
            self.chunks.len() - 1
        });
        &mut self.chunks[at].1
    }

    /// Spare frames on chunks of `region`.
    #[must_use]
    pub fn spare_chunks(&self, region: &Arc<Region>) -> usize {
        self.chunks.iter().find(|(own, _)| Arc::ptr_eq(own, region)).map_or(0, |(_, spare)| spare.len())
    }

    /// Unused buffers at hand.
    #[must_use]
    pub fn spare(&self) -> usize {
        self.spare.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_bytes_and_metadata_and_its_own_memory() {
        let mut pool = Pool::new(4);
        let mut a = pool.alloc();
        a.set_len(3);
        a.bytes_mut().copy_from_slice(&[1, 2, 3]);
        a.meta.ingress = crate::types::Place::of(crate::types::PortId(7));
        let b = pool.copy(&a);
        a.bytes_mut()[0] = 9;
        assert_eq!(b.bytes(), &[1, 2, 3]);
        assert_eq!(b.meta, a.meta);
    }

    #[test]
    fn a_frame_without_room_before_it_is_copied_and_counted() {
        let mut pool = Pool::new(4);
        let mut frame = pool.alloc();
        frame.set_len(3);
        frame.bytes_mut().copy_from_slice(&[1, 2, 3]);
        frame.meta.hops = 7;
        let front = HEADROOM - 8;
        frame.push_front(front).fill(9);
        let before = (frame.bytes().to_vec(), frame.meta);
        pool.make_room(&mut frame, 8);
        assert_eq!((frame.headroom(), pool.take_relocated()), (8, 0));
        pool.make_room(&mut frame, 9);
        assert_eq!((frame.headroom(), pool.spare()), (HEADROOM, 1));
        assert_eq!((frame.bytes().to_vec(), frame.meta), before);
        assert_eq!([pool.take_relocated(), pool.take_relocated()], [1, 0]);
    }

    #[test]
    fn chunks_are_used_again_and_none_is_lost() {
        let (region, mut pool) = (Region::new(100).unwrap(), Pool::new(1));
        let mut frames: Vec<_> = std::iter::from_fn(|| pool.alloc_chunk(&region)).collect();
        assert_eq!((frames.len(), region.free(), frames[0].headroom()), (100, 0, HEADROOM));
        frames[0].set_len(9);
        frames[0].meta.hops = 3;
        let first = frames[0].chunk_in(&region);
        pool.recycle(frames.swap_remove(0));
        assert_eq!(pool.spare_chunks(&region), 1);
        let again = pool.alloc_chunk(&region).unwrap();
        assert_eq!((again.chunk_in(&region), again.len(), again.meta), (first, 0, crate::packet::Meta::default()));
        pool.recycle(again);
        pool.give_back_chunks();
        assert_eq!((pool.spare_chunks(&region), region.free()), (0, 1));
        drop(frames);
        assert!(pool.reserve_chunks(&region, 70) && pool.reserve_chunks(&region, 60));
        assert_eq!((pool.spare_chunks(&region), region.free()), (70, 30));
        assert!(pool.reserve_chunks(&region, 100) && !pool.reserve_chunks(&region, 101));
        pool.give_back_chunks();
        // Of a region that a pool takes no chunks from it keeps none either.
        let (other, mut stranger) = (Region::new(1).unwrap(), Pool::new(1));
        stranger.recycle(Frame::new(other.take(1).next().unwrap(), HEADROOM));
        assert_eq!((other.free(), stranger.spare_chunks(&other)), (1, 0));
    }

    #[test]
    fn recycled_buffers_are_used_again_up_to_the_limit() {
        let mut pool = Pool::new(1);
        let (a, b) = (pool.alloc(), pool.alloc());
        pool.recycle(a);
        pool.recycle(b);
        assert_eq!(pool.spare(), 1);
        let mut again = pool.alloc();
        assert_eq!((pool.spare(), again.len(), again.headroom()), (0, 0, HEADROOM));
        again.set_len(MAX_FRAME);
        pool.recycle(Frame::from_bytes(&[0; 60]));
        assert_eq!(pool.spare(), 0, "a foreign buffer size is not kept");
    }
}
