//! Frames on their way out, by device, until the worker hands them to the devices.

use crate::packet::Frame;
use crate::types::DeviceId;

/// What one round of [`super::Switch::process`] wants sent; order is kept for each device.
#[derive(Debug, Default)]
pub struct TxQueues {
    /// Indexed by device; the memory of a queue stays for the next round.
    queues: Vec<Vec<Frame>>,
    /// Devices whose queue is not empty.
    ready: Vec<DeviceId>,
}

impl TxQueues {
    /// No frames.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a frame to the queue of `frame.meta.device`.
    #[inline]
    pub fn push(&mut self, frame: Frame) {
        let device = frame.meta.device;
        match self.queues.get_mut(device.0 as usize) {
            Some(queue) if !queue.is_empty() => queue.push(frame),
            _ => self.push_first(device, frame),
        }
    }

    /// Begins the queue of a device.
    #[inline(never)]
    fn push_first(&mut self, device: DeviceId, frame: Frame) {
        let at = device.0 as usize;
        if at >= self.queues.len() {
            self.queues.resize_with(at + 1, Vec::new);
        }
        self.ready.push(device);
        self.queues[at].push(frame);
    }

    /// A device with frames to send, and its queue, which the caller empties; `None` when all have had their turn.
    pub fn next_ready(&mut self) -> Option<(DeviceId, &mut Vec<Frame>)> {
        let device = self.ready.pop()?;
        Some((device, &mut self.queues[device.0 as usize]))
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(device: u32, byte: u8) -> Frame {
        let mut frame = Frame::from_bytes(&[byte]);
        frame.meta.device = DeviceId(device);
        frame
    }

    #[test]
    fn every_device_gets_its_frames_in_order_once() {
        let mut tx = TxQueues::new();
        for (device, byte) in [(2, 1), (0, 2), (2, 3)] {
            tx.push(frame(device, byte));
        }
        let mut seen = Vec::new();
        while let Some((device, frames)) = tx.next_ready() {
            seen.push((device.0, frames.drain(..).map(|f| f.bytes()[0]).collect::<Vec<_>>()));
        }
        seen.sort();
        assert_eq!(seen, [(0, vec![2]), (2, vec![1, 3])]);
        assert!(tx.is_empty());
        tx.push(frame(2, 4));
        assert_eq!(tx.next_ready().map(|(d, f)| (d.0, f.len())), Some((2, 1)));
    }
}
