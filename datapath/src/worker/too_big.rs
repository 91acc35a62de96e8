//! Which remote ends of tunnels the kernel has refused packets for as larger than the way there. Pure.
//!
//! The kernel tells nobody that it has learned of a narrow place on the way; a refused packet does. Each end is told of
//! at most once in [`PAUSE`], however many packets are refused: whoever hears of it asks the kernel.

use crate::time::{Duration, Instant};
use std::net::IpAddr;

/// How long nothing more is told of an end.
const PAUSE: Duration = Duration::from_millis(20);
/// How many ends are told of in that time.
const MOST: usize = 64;

/// The ends that were told of lately.
#[derive(Default)]
pub struct TooBig {
    refused: Vec<IpAddr>,
    told: Vec<(IpAddr, Instant)>,
}

impl TooBig {
    /// A packet to `remote` was refused.
    pub fn note(&mut self, remote: IpAddr) {
        if self.refused.len() < MOST && !self.refused.contains(&remote) {
            self.refused.push(remote);
        }
    }

    /// The ends to tell of now.
    pub fn take(&mut self, now: Instant) -> impl Iterator<Item = IpAddr> {
        let Self { refused, told } = self;
        told.retain(|(_, at)| now - *at < PAUSE);
        refused.drain(..).filter(move |remote| {
            let is_news = told.len() < MOST && told.iter().all(|(other, _)| other != remote);
            if is_news {
                told.push((*remote, now));
            }
            is_news
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_is_told_of_once_in_a_while() {
        let at = |ms: u64| Instant::from_nanos(ms * 1_000_000);
        let end = |last: u8| IpAddr::from([192, 0, 2, last]);
        let mut it = TooBig::default();
        let mut after = |notes: &[u8], now| -> Vec<IpAddr> {
            notes.iter().for_each(|last| it.note(end(*last)));
            it.take(now).collect()
        };
        assert!(after(&[], at(0)).is_empty());
        assert_eq!(after(&[1, 2, 1], at(1)), [end(1), end(2)]);
        assert_eq!(after(&[2, 3], at(15)), [end(3)]);
        assert!(after(&[], at(30)).is_empty(), "what was left out is not told of later");
        assert_eq!(after(&[2, 3], at(30)), [end(2)]);
        let many: Vec<u8> = (0..200).collect();
        assert_eq!(after(&many, at(100)).len(), MOST);
        assert!(after(&[201], at(110)).is_empty(), "so many are enough");
    }
}
