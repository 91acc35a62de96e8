//! How long to look again before going to sleep.

use crate::time::{Duration, Instant};

/// Decides how the loop waits.
#[derive(Debug, Default)]
pub struct Spin;

impl Spin {
    /// Sleeps at once.
    pub fn new() -> Self {
        Self
    }

    /// How long the next wait may take; `None`: until something happens.
    pub fn patience(&self, _now: Instant) -> Option<Duration> {
        None
    }

    /// Learns whether the last round had anything to do.
    pub fn note(&mut self, _worked: bool, _now: Instant) {}
}
