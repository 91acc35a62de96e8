//! Tunnel packets that no port takes: whose they are, so that somebody can be told.
//!
//! Bounded: whoever sends from many addresses or with many keys pushes the oldest out, nothing else.

use crate::time::{Duration, Instant};
use crate::tunnel::Endpoint;
use crate::types::TunnelKey;
use foldhash::fast::RandomState;
use lru::LruCache;
use std::net::IpAddr;
use std::num::NonZeroUsize;

/// Senders and keys that are kept.
const KEPT: NonZeroUsize = NonZeroUsize::new(64).unwrap();
/// What nothing has come of for so long is over.
const FRESH: Duration = Duration::from_secs(60);

/// What arrives and is dropped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Stray {
    /// What it is received on.
    pub endpoint: Endpoint,
    /// The key that no port has from there.
    pub key: TunnelKey,
    /// Who sends it.
    pub remote: IpAddr,
}

/// How much of it, and to which of our addresses.
#[derive(Clone, Copy, Debug)]
struct Seen {
    frames: u64,
    local: Option<IpAddr>,
    at: Instant,
}

/// All that has arrived lately.
#[derive(Debug)]
pub struct Unclaimed {
    seen: LruCache<Stray, Seen, RandomState>,
}

impl Default for Unclaimed {
    fn default() -> Self {
        Self { seen: LruCache::with_hasher(KEPT, RandomState::default()) }
    }
}

impl Unclaimed {
    /// Takes note of so many frames, sent to `local`.
    pub fn note(&mut self, stray: Stray, local: Option<IpAddr>, frames: u32, now: Instant) {
        let seen = self.seen.get_or_insert_mut(stray, || Seen { frames: 0, local, at: now });
        *seen = Seen { frames: seen.frames + u64::from(frames), local, at: now };
    }

    /// What has arrived in the last minute, with the number of frames and how long ago the last one came; not what
    /// `claimed` says to have a port by now.
    pub fn recent(
        &self,
        now: Instant,
        claimed: impl Fn(&Stray, Option<IpAddr>) -> bool,
    ) -> impl Iterator<Item = (Stray, u64, Duration)> {
        let recent = self.seen.iter().filter(move |(stray, seen)| now - seen.at < FRESH && !claimed(stray, seen.local));
        recent.map(move |(stray, seen)| (*stray, seen.frames, now - seen.at))
    }
}

/// What workers have seen, put together.
#[must_use]
pub fn merge(workers: impl IntoIterator<Item = Vec<(Stray, u64, Duration)>>) -> Vec<(Stray, u64, Duration)> {
    let mut all: Vec<(Stray, u64, Duration)> = Vec::new();
    for (stray, frames, age) in workers.into_iter().flatten() {
        match all.iter_mut().find(|(other, ..)| *other == stray) {
            Some((_, sum, youngest)) => (*sum, *youngest) = (*sum + frames, age.min(*youngest)),
            None => all.push((stray, frames, age)),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tunnel::Protocol;

    fn stray(key: u32) -> Stray {
        let endpoint = Endpoint { protocol: Protocol::Vxlan, port: 4789, ipv6: false };
        Stray { endpoint, key: TunnelKey(key), remote: [192, 0, 2, 2].into() }
    }

    #[test]
    fn counted_by_key_and_sender_until_a_minute_has_passed_or_a_port_is_there() {
        let (mut unclaimed, start) = (Unclaimed::default(), Instant::from_secs(100));
        for (key, frames) in [(1, 2), (2, 1), (1, 3)] {
            unclaimed.note(stray(key), None, frames, start);
        }
        let seen = |now, claimed: u32| {
            let recent = unclaimed.recent(now, move |stray, _| stray.key.0 == claimed);
            let mut keys: Vec<_> = recent.map(|(stray, frames, _)| (stray.key.0, frames)).collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(seen(start, 0), [(1, 5), (2, 1)]);
        assert_eq!(seen(start, 1), [(2, 1)]);
        assert_eq!(seen(start + Duration::from_secs(60), 0), []);
    }

    #[test]
    fn a_storm_of_keys_takes_no_more_room() {
        let mut unclaimed = Unclaimed::default();
        let now = Instant::from_secs(1);
        (0..1000).for_each(|key| unclaimed.note(stray(key), None, 1, now));
        let keys: Vec<_> = unclaimed.recent(now, |_, _| false).map(|(stray, ..)| stray.key.0).collect();
        assert_eq!((keys.len(), keys.iter().min()), (64, Some(&936)));
    }
}
