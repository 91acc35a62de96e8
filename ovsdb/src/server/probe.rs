//! Is a silent client still there? Pure.
//!
//! A connection on which nothing arrived for one interval gets an `echo` request; one that stays silent for
//! another interval is given up (ovsdb-server(1), `inactivity_probe`).

use std::time::{Duration, Instant};

/// What a deadline brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Send an `echo`.
    Ask,
    /// It was not answered.
    GiveUp,
}

/// The patience with one client.
#[derive(Debug)]
pub(super) struct Probe {
    /// None: endless.
    interval: Option<Duration>,
    /// When something arrived last.
    heard: Instant,
    /// An `echo` was sent since.
    asked: bool,
}

impl Probe {
    pub fn new(interval: Option<Duration>, now: Instant) -> Probe {
        Probe { interval, heard: now, asked: false }
    }

    /// Something arrived.
    pub fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.asked = false;
    }

    /// Changes the patience; the time of silence so far does not count.
    pub fn set(&mut self, interval: Option<Duration>, now: Instant) {
        *self = Probe::new(interval, now);
    }

    /// When [`Probe::due`] is to be asked.
    pub fn deadline(&self) -> Option<Instant> {
        self.heard.checked_add(self.interval? * if self.asked { 2 } else { 1 })
    }

    /// What is to be done at `now`; it is then taken to be done.
    pub fn due(&mut self, now: Instant) -> Option<Due> {
        self.deadline().filter(|deadline| *deadline <= now)?;
        if std::mem::replace(&mut self.asked, true) { Some(Due::GiveUp) } else { Some(Due::Ask) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_asked_about_and_then_given_up() {
        let at = |seconds| Duration::from_secs(seconds);
        let start = Instant::now();
        let mut probe = Probe::new(Some(at(5)), start);
        assert_eq!((probe.deadline(), probe.due(start + at(4))), (Some(start + at(5)), None));
        probe.hear(start + at(4));
        assert_eq!(probe.due(start + at(8)), None);
        assert_eq!(probe.due(start + at(9)), Some(Due::Ask));
        assert_eq!((probe.deadline(), probe.due(start + at(13))), (Some(start + at(14)), None));
        probe.hear(start + at(13));
        assert_eq!(probe.due(start + at(18)), Some(Due::Ask));
        assert_eq!(probe.due(start + at(23)), Some(Due::GiveUp));
        probe.set(Some(at(1)), start + at(23));
        assert_eq!(probe.due(start + at(24)), Some(Due::Ask));
        probe.set(None, start + at(24));
        assert_eq!((probe.deadline(), probe.due(start + at(1 << 30))), (None, None));
    }

    #[test]
    fn endless_patience_is_no_overflow() {
        let start = Instant::now();
        let mut probe = Probe::new(Some(Duration::from_millis(u64::MAX)), start);
        assert_eq!(probe.due(start), None);
    }
}
