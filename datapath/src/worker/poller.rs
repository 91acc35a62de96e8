//! Waiting for descriptors: a thin layer over epoll, level-triggered, and the eventfd that interrupts it.

use crate::time::Duration;
use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Most descriptors reported by one wait; the rest come with the next.
const EVENTS: usize = 64;

/// A set of watched descriptors, each with a token that names it.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
}

impl Poller {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(epoll::CreateFlags::CLOEXEC)? })
    }

    /// Watches a descriptor for readability; errors and hang-ups are reported too.
    pub fn watch(&self, fd: BorrowedFd<'_>, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(token), epoll::EventFlags::IN)?)
    }

    /// Stops watching a descriptor. One that is not watched is no error: nothing is left to do then.
    pub fn forget(&self, fd: BorrowedFd<'_>) {
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Waits up to `timeout` (`None`: for ever) and appends the tokens of what is ready.
    pub fn wait(&self, timeout: Option<Duration>, ready: &mut Vec<u64>) -> io::Result<()> {
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        let mut events = [const { MaybeUninit::uninit() }; EVENTS];
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => ready.extend(events.iter().map(|e| e.data.u64())),
            Err(Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(())
    }
}

/// Interrupts a wait from another thread.
#[derive(Clone, Debug)]
pub struct Wake(Arc<OwnedFd>);

impl Wake {
    /// A new one, to be watched by the poller.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)))
    }

    /// Makes the descriptor readable. A counter that is full is readable already.
    pub fn ring(&self) {
        let _ = rustix::io::write(&*self.0, &1_u64.to_ne_bytes());
    }

    /// Makes the descriptor unreadable; it may be so already.
    pub fn quiet(&self) {
        let _ = rustix::io::read(&*self.0, &mut [0; 8]);
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wake_is_reported_by_its_token_until_it_is_quieted() {
        let (poller, wake) = (Poller::new().unwrap(), Wake::new().unwrap());
        poller.watch(wake.as_fd(), 7).unwrap();
        let poll = |ready: &mut Vec<u64>| poller.wait(Some(Duration::ZERO), ready).unwrap();
        let mut ready = vec![];
        poll(&mut ready);
        assert!(ready.is_empty());
        wake.ring();
        wake.ring();
        poll(&mut ready);
        poll(&mut ready);
        assert_eq!(ready, [7, 7], "level-triggered: reported again while it is readable");
        wake.quiet();
        ready.clear();
        poll(&mut ready);
        assert!(ready.is_empty());
        poller.forget(wake.as_fd());
        poller.forget(wake.as_fd());
    }
}
