//! How long to look again before going to sleep: a little, and only while that pays.
//!
//! Looking again at once saves the wake-up when the next frame follows within microseconds, as in request and answer
//! (ping's round trip through one switch: 5 instead of 9 µs). But the CPU it takes may be the one that the next sender or
//! another switch waits for (the round trip through two switches on two cores: 39 instead of 13 µs). Which of the two
//! holds shows only in the result, so that is measured: time is cut into epochs, most of them spent in the way that has
//! lately moved more bytes, and now and then one in the other way. Too little traffic to tell means sleeping, so an idle
//! switch costs nothing.

use crate::time::{Duration, Instant};

/// How long to look again after the last frame. From 5 to 50 µs the rate of small frames, the round trip and the CPU when
/// idle were the same within the noise of a 2-core machine.
const LOOK: Duration = Duration::from_micros(20);
/// How long one way is kept up before it is judged.
const EPOCH: Duration = Duration::from_millis(5);
/// One epoch in this many tries the other way.
const TRY_EVERY: u32 = 16;

/// Decides how the loop waits.
#[derive(Debug, Default)]
pub struct Spin {
    /// The way of this epoch: to look again, or to sleep at once.
    looking: bool,
    /// When to stop looking.
    until: Instant,
    epoch_start: Instant,
    epochs: u32,
    /// Bytes received in this epoch.
    bytes: u64,
    /// What sleeping and looking have moved lately, in bytes a microsecond.
    rates: [f64; 2],
}

impl Spin {
    /// Whether it looks again for a while after something has come, rather than to sleep at once.
    pub fn looks(&self) -> bool {
        self.looking
    }

    /// How long the next wait may take; `None`: until something happens.
    pub fn patience(&self, now: Instant) -> Option<Duration> {
        (now < self.until).then_some(Duration::ZERO)
    }

    /// Learns how many bytes the last round has received.
    pub fn note(&mut self, bytes: u64, now: Instant) {
        self.bytes += bytes;
        if bytes > 0 && self.looking {
            self.until = now + LOOK;
        }
        if now - self.epoch_start >= EPOCH {
            self.judge(now);
        }
    }

    /// Ends an epoch and chooses the way of the next.
    fn judge(&mut self, now: Instant) {
        let length = now - self.epoch_start;
        // One that slept on for long says nothing: there was nothing to move.
        if length < 2 * EPOCH {
            let rate = self.bytes as f64 / length.as_micros() as f64;
            let known = &mut self.rates[usize::from(self.looking)];
            *known = if *known == 0.0 { rate } else { *known + (rate - *known) / 4.0 };
        }
        // It costs CPU, so it must be clearly better.
        let pays = self.rates[1] > self.rates[0] * 1.05;
        self.epochs = self.epochs.wrapping_add(1);
        self.looking = pays != self.epochs.is_multiple_of(TRY_EVERY);
        (self.epoch_start, self.bytes) = (now, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs for `seconds` with a round every `gap`, which brings more or less depending on the way of waiting;
    /// the share of rounds after which it kept looking.
    fn share_of_looking(spin: &mut Spin, start: Instant, seconds: u64, gap: Duration, bytes: [u64; 2]) -> f64 {
        let (mut now, end) = (start, start + Duration::from_secs(seconds));
        let (mut rounds, mut looked) = (0_u32, 0_u32);
        while now < end {
            now = now + gap;
            spin.note(bytes[usize::from(spin.looking)], now);
            rounds += 1;
            looked += u32::from(spin.patience(now).is_some());
        }
        f64::from(looked) / f64::from(rounds)
    }

    #[test]
    fn it_looks_again_where_that_moves_more_and_changes_its_mind() {
        let (mut spin, gap) = (Spin::default(), Duration::from_micros(30));
        let start = Instant::from_secs(100);
        assert!(share_of_looking(&mut spin, start, 2, gap, [100, 140]) > 0.8);
        let later = Instant::from_secs(102);
        assert!(share_of_looking(&mut spin, later, 2, gap, [140, 100]) < 0.2);
    }

    #[test]
    fn no_difference_or_little_traffic_means_sleep() {
        let start = Instant::from_secs(100);
        let (same, gap) = ([100, 100], Duration::from_micros(30));
        assert!(share_of_looking(&mut Spin::default(), start, 2, gap, same) < 0.1);
        let rare = Duration::from_millis(20);
        assert!(share_of_looking(&mut Spin::default(), start, 20, rare, [100, 200]) < 0.1);
    }

    #[test]
    fn looking_ends_when_nothing_comes() {
        let now = Instant::from_secs(1);
        let mut spin = Spin { looking: true, epoch_start: now, ..Spin::default() };
        spin.note(60, now);
        assert_eq!(spin.patience(now + LOOK / 2), Some(Duration::ZERO));
        spin.note(0, now + LOOK / 2);
        assert_eq!(spin.patience(now + LOOK), None);
    }
}
