//! What all workers of a datapath have in common, besides what bridges learn ([`super::learned`]).
//!
//! Rate limits, behind a lock that only frames of ports with a limit take. When something that waits is due: the home
//! worker, one of them, sees to that for all, so that nothing here waits for a worker that sleeps. And how often
//! something has changed that verdicts rest on, which each worker looks at once a batch ([`super::flow_cache`]).

use super::shape::Shapers;
use crate::time::Instant;
use std::sync::atomic::{AtomicU64, Ordering::AcqRel, Ordering::Acquire};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One for each datapath.
#[derive(Debug, Default)]
pub struct Shared {
    /// Counts changes that make stored verdicts wrong.
    pub changes: Arc<AtomicU64>,
    /// When a frame that waits for a rate limit may go; written by who has the lock on them.
    pub frames_due: Due,
    /// When a station should have answered to ARP, if it has not.
    pub answers_due: Due,
    shapers: Mutex<Shapers>,
}

impl Shared {
    /// The rate limits of all ports. A panic elsewhere leaves them usable.
    pub fn shapers(&self) -> MutexGuard<'_, Shapers> {
        self.shapers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When the home worker has something to do; `None`: nothing waits.
    #[inline]
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        [self.frames_due.get(), self.answers_due.get()].into_iter().flatten().min()
    }
}

/// A time that any worker may make earlier, and the home worker takes out when it has come; never too late.
#[derive(Debug)]
pub struct Due(AtomicU64);

impl Default for Due {
    fn default() -> Self {
        Self(AtomicU64::new(Self::NEVER))
    }
}

impl Due {
    /// What stands for "never".
    const NEVER: u64 = u64::MAX;

    /// When; `None`: never.
    #[inline]
    #[must_use]
    pub fn get(&self) -> Option<Instant> {
        let nanos = self.0.load(Acquire);
        (nanos != Self::NEVER).then_some(Instant::from_nanos(nanos))
    }

    /// Makes it that time; whether it was later.
    pub fn put(&self, at: Option<Instant>) -> bool {
        let nanos = at.map_or(Self::NEVER, Instant::nanos);
        nanos < self.0.swap(nanos, AcqRel)
    }

    /// Makes it that time unless it is an earlier one; whether it was later.
    pub fn set(&self, at: Option<Instant>) -> bool {
        let nanos = at.map_or(Self::NEVER, Instant::nanos);
        nanos < self.0.fetch_min(nanos, AcqRel)
    }

    /// Whether it has come; then it is never, until it is set again.
    #[must_use]
    pub fn take(&self, now: Instant) -> bool {
        let has_come = self.get().is_some_and(|due| due <= now);
        if has_come {
            self.0.swap(Self::NEVER, AcqRel);
        }
        has_come
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_due_time_only_becomes_earlier_until_it_is_taken() {
        let (due, at) = (Due::default(), Instant::from_secs);
        assert!(!due.set(None) && due.get().is_none() && !due.take(at(9)));
        assert!(due.set(Some(at(5))) && due.set(Some(at(3))));
        assert!(!due.set(Some(at(4))) && !due.set(Some(at(3))) && !due.set(None));
        assert!(!due.take(at(2)) && due.get() == Some(at(3)));
        assert!(due.take(at(3)) && due.get().is_none());
        assert!(due.put(Some(at(5))) && !due.put(Some(at(6))) && due.get() == Some(at(6)) && !due.put(None));
    }
}
