//! When to try again what failed: soon at first, then less and less often. Pure.

use std::time::{Duration, Instant};

/// The first pause: a predecessor that is just ending needs some milliseconds to let go of a device.
const SHORTEST: Duration = Duration::from_millis(20);
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(5);

/// The time of the next attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retry {
    at: Option<Instant>,
    pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { at: None, pause: SHORTEST }
    }
}

impl Retry {
    /// Something failed: there will be an attempt.
    pub fn plan(&mut self, now: Instant) {
        if self.at.is_none() {
            self.at = Some(now + self.pause);
            self.pause = (self.pause * 2).min(LONGEST);
        }
    }

    /// When the next attempt is due, if there is one.
    #[must_use]
    pub fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Whether an attempt is due; it is then taken to be made.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let due = self.at.is_some_and(|at| at <= now);
        if due {
            self.at = None;
        }
        due
    }

    /// Nothing has failed for a while: the next pause is short again.
    pub fn relax(&mut self) {
        if self.at.is_none() {
            self.pause = SHORTEST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_until_all_is_well() {
        let start = Instant::now();
        let (mut retry, mut now, mut pauses) = (Retry::default(), start, Vec::new());
        for _ in 0..10 {
            retry.plan(now);
            retry.plan(now + Duration::from_secs(1)); // does not put it off
            let at = retry.at().unwrap();
            pauses.push((at - now).as_millis());
            assert!(!retry.is_due(at - Duration::from_millis(1)));
            now = at;
            assert!(retry.is_due(now) && !retry.is_due(now));
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1280, 2560, 5000, 5000]);
        retry.plan(now);
        retry.relax(); // not while an attempt is planned
        assert!(retry.is_due(now + LONGEST));
        retry.relax();
        retry.plan(now);
        assert_eq!(retry.at(), Some(now + SHORTEST));
    }
}
