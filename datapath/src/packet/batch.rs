//! Up to [`Batch::CAPACITY`] frames that pass through a stage together.

use super::Frame;

/// A short queue of frames with a fixed capacity, so that no stage works for long before the next gets its turn.
#[derive(Debug)]
pub struct Batch {
    frames: Vec<Frame>,
}

impl Batch {
    /// Frames in a full batch: past 32 the cost of a system call per frame no longer falls.
    pub const CAPACITY: usize = 32;

    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self { frames: Vec::with_capacity(Self::CAPACITY) }
    }

    /// Appends a frame, or hands it back when the batch is full.
    pub fn push(&mut self, frame: Frame) -> Result<(), Frame> {
        if self.is_full() {
            return Err(frame);
        }
        self.frames.push(frame);
        Ok(())
    }

    /// Frames in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether the next push would be refused.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.frames.len() >= Self::CAPACITY
    }

    /// How many more frames it takes.
    #[must_use]
    pub fn room(&self) -> usize {
        Self::CAPACITY - self.frames.len()
    }

    /// The frames in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Frame> {
        self.frames.iter()
    }

    /// The frames in order, to change.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Frame> {
        self.frames.iter_mut()
    }

    /// Takes all frames out, first in first out.
    pub fn drain(&mut self) -> std::vec::Drain<'_, Frame> {
        self.frames.drain(..)
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_batch_hands_the_frame_back() {
        let mut batch = Batch::new();
        for i in 0..Batch::CAPACITY {
            assert!(batch.push(Frame::from_bytes(&[u8::try_from(i).unwrap()])).is_ok());
        }
        let refused = batch.push(Frame::from_bytes(&[77])).unwrap_err();
        assert_eq!(refused.bytes(), &[77]);
        assert!(batch.drain().enumerate().all(|(i, f)| usize::from(f.bytes()[0]) == i));
        assert!(batch.is_empty());
    }
}
