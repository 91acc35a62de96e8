//! A token bucket: what passes in any time is at most the burst and what the rate brings in that time.
//!
//! It starts full, fills at its rate, and never holds more than its burst. A frame takes what it costs. One that costs
//! more than the bucket holds passes when it is full, and leaves a debt: small buckets and super-frames get along, and the
//! rate holds in the long run. So the bound is the burst or the largest frame, whichever is more, and rate × time.

use crate::time::{Duration, Instant};

/// Nanoseconds in a second: what a rate is divided by.
const SECOND: i128 = 1_000_000_000;

/// How fast a bucket fills, and how much it holds; bits, or packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tokens {
    /// Per second; not 0.
    pub rate: u64,
    /// At most.
    pub burst: u64,
}

/// One bucket. Levels are in tokens × nanoseconds, so that nothing is ever rounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    tokens: Tokens,
    level: i128,
    at: Instant,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn new(tokens: Tokens, now: Instant) -> Self {
        Self { tokens, level: i128::from(tokens.burst) * SECOND, at: now }
    }

    /// Goes on with another rate and burst; what is in it, and a debt, stay.
    pub fn configure(&mut self, tokens: Tokens, now: Instant) {
        self.fill(now, Duration::ZERO);
        self.tokens = tokens;
        self.level = self.level.min(i128::from(tokens.burst) * SECOND);
    }

    /// Brings the level up to `now`. What somebody was `late` to take is still there, beyond the burst.
    #[inline]
    pub fn fill(&mut self, now: Instant, late: Duration) {
        let (rate, elapsed) = (i128::from(self.tokens.rate), (now - self.at).as_nanos() as i128);
        let full = i128::from(self.tokens.burst) * SECOND + late.as_nanos() as i128 * rate;
        self.level = full.min(self.level.saturating_add(elapsed.saturating_mul(rate)));
        self.at = self.at.max(now);
    }

    /// How long until something that costs so much may pass, as of the last [`Bucket::fill`]; zero: now.
    #[inline]
    #[must_use]
    pub fn wait(&self, cost: u64) -> Duration {
        let missing = i128::from(cost.min(self.tokens.burst)) * SECOND - self.level;
        let nanos = if missing > 0 { (missing as u128).div_ceil(self.tokens.rate.max(1).into()) } else { 0 };
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Whether something that costs so much may pass now; it has paid then.
    pub fn pass(&mut self, cost: u64, now: Instant) -> bool {
        self.fill(now, Duration::ZERO);
        let passes = self.wait(cost).is_zero();
        if passes {
            self.take(cost);
        }
        passes
    }

    /// Takes the cost of something that passes.
    #[inline]
    pub fn take(&mut self, cost: u64) {
        self.level = self.level.saturating_sub(i128::from(cost) * SECOND);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const START: Instant = Instant::from_secs(5);

    #[test]
    fn it_starts_full_and_fills_at_its_rate_up_to_its_burst() {
        let mut bucket = Bucket::new(Tokens { rate: 1000, burst: 500 }, START);
        assert!(bucket.pass(500, START));
        assert!(!bucket.pass(1, START));
        assert_eq!(bucket.wait(1), Duration::from_millis(1));
        assert!(bucket.pass(1, START + Duration::from_millis(1)));
        let later = START + Duration::from_secs(1000);
        assert!(bucket.pass(500, later));
        assert_eq!(bucket.wait(500), Duration::from_millis(500));
        bucket.fill(START, Duration::ZERO);
        assert_eq!(bucket.wait(500), Duration::from_millis(500), "time never runs backwards");
    }

    #[test]
    fn what_is_larger_than_the_bucket_passes_when_it_is_full_and_is_paid_for() {
        let mut bucket = Bucket::new(Tokens { rate: 1000, burst: 100 }, START);
        assert!(bucket.pass(2000, START));
        assert_eq!(bucket.wait(2000), Duration::from_secs(2));
        assert!(!bucket.pass(2000, START + Duration::from_millis(1999)));
        assert!(bucket.pass(2000, START + Duration::from_secs(2)));
    }

    #[test]
    fn a_debt_survives_another_rate_and_a_smaller_burst_takes_effect_at_once() {
        let mut bucket = Bucket::new(Tokens { rate: 1000, burst: 100 }, START);
        assert!(bucket.pass(1100, START));
        bucket.configure(Tokens { rate: 10_000, burst: 100 }, START);
        assert_eq!(bucket.wait(100), Duration::from_millis(110));
        let later = START + Duration::from_secs(1);
        bucket.configure(Tokens { rate: 1000, burst: 10 }, later);
        assert!(bucket.pass(10, later));
        assert_eq!(bucket.wait(1), Duration::from_millis(1));
    }

    #[test]
    fn what_somebody_was_late_to_take_is_there_until_it_is_not_asked_for() {
        let mut bucket = Bucket::new(Tokens { rate: 1000, burst: 100 }, START);
        bucket.take(100);
        let later = START + Duration::from_secs(1);
        bucket.fill(later, Duration::from_millis(300));
        bucket.take(400);
        assert_eq!(bucket.wait(1), Duration::from_millis(1));
        bucket.fill(later + Duration::from_secs(1), Duration::from_millis(300));
        assert!(bucket.pass(100, later + Duration::from_secs(1)));
        assert_eq!(bucket.wait(1), Duration::from_millis(1));
    }

    #[test]
    fn huge_numbers_do_not_overflow() {
        let mut bucket = Bucket::new(Tokens { rate: u64::MAX, burst: u64::MAX }, Instant::from_nanos(0));
        assert!(bucket.pass(u64::MAX, Instant::from_nanos(0)));
        assert!(bucket.pass(u64::MAX, Instant::from_nanos(u64::MAX)));
        let mut slow = Bucket::new(Tokens { rate: 1, burst: u64::MAX }, START);
        slow.take(u64::MAX);
        slow.take(u64::MAX);
        assert_eq!(slow.wait(u64::MAX), Duration::from_nanos(u64::MAX));
    }

    proptest! {
        /// In no stretch of time does more pass than the bucket or the largest frame, and what the rate brings.
        #[test]
        fn never_more_than_burst_and_rate(
            rate in 1..10_000_000_000u64,
            burst in 1..1_000_000u64,
            steps in proptest::collection::vec((0..20_000_000u64, 1..600_000u64), 1..200),
        ) {
            let mut bucket = Bucket::new(Tokens { rate, burst }, START);
            let (mut now, mut passed) = (START, vec![]);
            for (gap, cost) in steps {
                now = now + Duration::from_nanos(gap);
                if bucket.pass(cost, now) {
                    passed.push((now, cost));
                }
            }
            for (i, (from, _)) in passed.iter().enumerate() {
                let (mut sum, mut largest) = (0u128, 0);
                for (at, cost) in &passed[i..] {
                    sum += u128::from(*cost);
                    largest = largest.max(*cost);
                    let brought = u128::from(rate) * (*at - *from).as_nanos() / SECOND as u128 + 1;
                    let bound = u128::from(burst.max(largest)) + brought;
                    prop_assert!(sum <= bound, "{sum} in {:?}, at most {bound}", *at - *from);
                }
            }
        }

        /// Whoever always sends as soon as allowed gets the rate, whatever the sizes.
        #[test]
        fn never_less_than_the_rate_when_asked_in_time(
            rate in 1_000_000..10_000_000_000u64,
            burst in 1..1_000_000u64,
            costs in proptest::collection::vec(1..600_000u64, 1..200),
        ) {
            let mut bucket = Bucket::new(Tokens { rate, burst }, START);
            let (mut now, mut sum) = (START, 0u128);
            for cost in &costs {
                bucket.fill(now, Duration::ZERO);
                now = now + bucket.wait(*cost);
                prop_assert!(bucket.pass(*cost, now), "allowed after the wait");
                sum += u128::from(*cost);
            }
            let needed = sum * SECOND as u128 / u128::from(rate) + costs.len() as u128;
            prop_assert!((now - START).as_nanos() <= needed);
        }
    }
}
