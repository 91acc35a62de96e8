//! An in-memory device: frames put in by a test or benchmark, frames taken out by it.
//!
//! [`MemoryPort`] is the hand of whoever plays the network; [`MemoryPort::device`] is what a worker polls. Both may be
//! on different threads. Frames move, they are not copied, so a benchmark over memory ports measures the switch alone.

use super::{Caps, Device, Rx, Unsent};
use crate::offload::gso;
use crate::packet::{Batch, Frame, Pool};
use crate::switch::verdict::DropReason;
use rustix::event::{EventfdFlags, eventfd};
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A handle on an in-memory device; clones, and every device made from it, are the same port.
#[derive(Clone)]
pub struct MemoryPort {
    shared: Arc<Shared>,
}

struct Shared {
    /// Readable while frames wait to be received.
    wake: OwnedFd,
    state: Mutex<State>,
}

struct State {
    caps: Caps,
    waiting: VecDeque<Frame>,
    sent: Vec<Frame>,
    refuse: Option<DropReason>,
    dead: Option<i32>,
}

impl Shared {
    /// The state; a panic elsewhere leaves it usable, every change being a single step.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryPort {
    /// A port that takes what `caps` allow.
    ///
    /// # Errors
    /// When the process has no file descriptor left.
    pub fn new(caps: Caps) -> std::io::Result<Self> {
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let state = State { caps, waiting: VecDeque::new(), sent: Vec::new(), refuse: None, dead: None };
        Ok(Self { shared: Arc::new(Shared { wake, state: Mutex::new(state) }) })
    }

    /// The device for a worker to poll.
    #[must_use]
    pub fn device(&self) -> Box<dyn Device> {
        Box::new(MemoryDevice { shared: Arc::clone(&self.shared), receives: true })
    }

    /// A device for a worker that only sends.
    #[must_use]
    pub fn sender(&self) -> Box<dyn Device> {
        Box::new(MemoryDevice { shared: Arc::clone(&self.shared), receives: false })
    }

    /// Puts a frame in, as if it came from the wire; its metadata are what the device reports.
    pub fn inject(&self, frame: Frame) {
        self.shared.lock().waiting.push_back(frame);
        self.shared.ring();
    }

    /// Takes out everything that was sent since the last call, in order.
    #[must_use]
    pub fn drain(&self) -> Vec<Frame> {
        std::mem::take(&mut self.shared.lock().sent)
    }

    /// What the device takes unfinished, now.
    #[must_use]
    pub fn caps(&self) -> Caps {
        self.shared.lock().caps
    }

    /// Changes what the device takes unfinished; a switch hears of it with its next snapshot.
    pub fn set_caps(&self, caps: Caps) {
        self.shared.lock().caps = caps;
    }

    /// From now on refuses to send, for `reason`; `None` sends again.
    pub fn set_refuse(&self, reason: Option<DropReason>) {
        self.shared.lock().refuse = reason;
    }

    /// Ends the device as if its interface had gone, with the operating system's error number.
    pub fn kill(&self, errno: i32) {
        self.shared.lock().dead = Some(errno);
        self.shared.ring();
    }
}

impl PartialEq for MemoryPort {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for MemoryPort {}

impl fmt::Debug for MemoryPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPort").field("wake", &self.shared.wake.as_raw_fd()).finish_non_exhaustive()
    }
}

impl Shared {
    /// Makes the descriptor readable. A full counter is readable already, so its refusal is no loss.
    fn ring(&self) {
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable; it may be so already.
    fn quiet(&self) {
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
    }
}

struct MemoryDevice {
    shared: Arc<Shared>,
    receives: bool,
}

impl Device for MemoryDevice {
    fn caps(&self) -> Caps {
        self.shared.lock().caps
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        if self.receives { vec![self.shared.wake.as_fd()] } else { vec![] }
    }

    fn rings(&self) -> Vec<BorrowedFd<'_>> {
        self.descriptors()
    }

    fn has_frames(&self) -> bool {
        !self.shared.lock().waiting.is_empty()
    }

    fn receive(&mut self, _pool: &mut Pool, batch: &mut Batch, _lost: &mut Vec<(DropReason, u64)>) -> Rx {
        let mut state = self.shared.lock();
        if let Some(errno) = state.dead {
            return Rx::Dead(errno);
        }
        while !batch.is_full() {
            let Some(frame) = state.waiting.pop_front() else {
                self.shared.quiet();
                return Rx::Empty;
            };
            if let Err(frame) = batch.push(frame) {
                state.waiting.push_front(frame);
                break;
            }
        }
        Rx::More
    }

    fn send(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>, unsent: &mut Unsent) -> u64 {
        let mut state = self.shared.lock();
        let refuse = state.dead.map(|_| DropReason::PortDown).or(state.refuse);
        if let Some(reason) = refuse {
            unsent.extend(frames.drain(..).map(|f| (f, reason)));
            return 0;
        }
        let sent = frames.len() as u64;
        let State { caps, sent: out, .. } = &mut *state;
        for frame in frames.drain(..) {
            if caps.cuts && frame.meta.gso.is_some() {
                // The switch has found out before that it can be cut.
                let _ = gso::segment(frame, None, pool, out);
            } else {
                out.push(frame);
            }
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readable(port: &MemoryPort) -> bool {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        let mut fds = [PollFd::new(&port.shared.wake, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    fn receive(device: &mut dyn Device) -> (Vec<u8>, Rx) {
        let (mut pool, mut batch) = (Pool::new(0), Batch::new());
        let rx = device.receive(&mut pool, &mut batch, &mut Vec::new());
        (batch.drain().map(|f| f.bytes()[0]).collect(), rx)
    }

    #[test]
    fn frames_come_out_in_order_and_the_descriptor_tells() {
        let port = MemoryPort::new(Caps::NONE).unwrap();
        let mut device = port.device();
        assert!(!readable(&port));
        for i in 0..40 {
            port.inject(Frame::from_bytes(&[i]));
        }
        assert!(readable(&port));
        assert_eq!(receive(device.as_mut()), ((0..32).collect(), Rx::More));
        assert!(readable(&port), "frames still wait");
        assert_eq!(receive(device.as_mut()), ((32..40).collect(), Rx::Empty));
        assert!(!readable(&port));
    }

    #[test]
    fn sent_frames_are_kept_refused_ones_come_back_with_the_reason() {
        let port = MemoryPort::new(Caps::ALL).unwrap();
        let (mut device, mut pool, mut unsent) = (port.device(), Pool::new(0), Unsent::new());
        let two = || vec![Frame::from_bytes(&[1]), Frame::from_bytes(&[2])];
        assert_eq!(device.send(&mut pool, &mut two(), &mut unsent), 2);
        assert_eq!(port.drain().iter().map(|f| f.bytes()[0]).collect::<Vec<_>>(), [1, 2]);

        port.set_refuse(Some(DropReason::TxQueueFull));
        assert_eq!(device.send(&mut pool, &mut two(), &mut unsent), 0);
        assert_eq!(unsent.iter().map(|(_, r)| *r).collect::<Vec<_>>(), [DropReason::TxQueueFull; 2]);

        port.kill(19);
        assert!(readable(&port));
        assert_eq!(receive(device.as_mut()), (vec![], Rx::Dead(19)));
        assert!(port.drain().is_empty());
    }

    #[test]
    fn a_port_equals_its_clones_only() {
        let port = MemoryPort::new(Caps::ALL).unwrap();
        assert_eq!(port, port.clone());
        assert_ne!(port, MemoryPort::new(Caps::ALL).unwrap());
    }
}
