//! Whose entries a MAC table holds: for each port, the keys in the order of their last frame, and which port has the most.
//!
//! Everything is O(1) but for a change of a port's size, which is O(log ports).

use super::mac_table::Key;
use crate::types::PortId;
use foldhash::fast::RandomState;
use lru::LruCache;
use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeSet, HashMap};

/// Keys by port.
///
/// Invariants: `by_size` holds every port that has a list, with its length; no list is empty; `total` is the sum of
/// their lengths.
#[derive(Debug, Default)]
pub(super) struct Shares {
    recency: HashMap<PortId, LruCache<Key, (), RandomState>, RandomState>,
    by_size: BTreeSet<(usize, PortId)>,
    total: usize,
}

impl Shares {
    /// How many keys there are.
    pub(super) fn len(&self) -> usize {
        self.total
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The ports that have any.
    pub(super) fn ports(&self) -> Vec<PortId> {
        self.recency.keys().copied().collect()
    }

    /// The list of `port`, the most recent first.
    pub(super) fn keys(&self, port: PortId) -> impl Iterator<Item = Key> {
        self.recency.get(&port).into_iter().flat_map(|list| list.iter().map(|(&key, ())| key))
    }

    /// The port that has the most; of several, `favourite` if it is among them.
    pub(super) fn largest(&self, favourite: Option<PortId>) -> Option<PortId> {
        let &(most, port) = self.by_size.last()?;
        favourite.filter(|&f| self.by_size.contains(&(most, f))).or(Some(port))
    }

    /// Puts `key`, which is nowhere yet, first on the list of `port`.
    pub(super) fn add(&mut self, port: PortId, key: Key) {
        let list = match self.recency.entry(port) {
            Slot::Occupied(list) => list.into_mut(),
            Slot::Vacant(slot) => slot.insert(LruCache::unbounded_with_hasher(RandomState::default())),
        };
        self.by_size.remove(&(list.len(), port));
        list.push(key, ());
        self.by_size.insert((list.len(), port));
        self.total += 1;
    }

    /// Puts `key`, which is on the list of `port`, first there.
    pub(super) fn renew(&mut self, port: PortId, key: Key) {
        if let Some(list) = self.recency.get_mut(&port) {
            list.promote(&key);
        }
    }

    /// Takes `key` off the list of `port`.
    pub(super) fn remove(&mut self, port: PortId, key: Key) {
        let Some(list) = self.recency.get_mut(&port) else { return };
        let before = list.len();
        if list.pop(&key).is_some() {
            self.shortened(port, before);
        }
    }

    /// The last on the list of `port`.
    pub(super) fn oldest(&self, port: PortId) -> Option<Key> {
        self.recency.get(&port)?.peek_lru().map(|(&key, ())| key)
    }

    /// Takes the last off the list of `port`.
    pub(super) fn take_oldest(&mut self, port: PortId) -> Option<Key> {
        let list = self.recency.get_mut(&port)?;
        let before = list.len();
        let (key, ()) = list.pop_lru()?;
        self.shortened(port, before);
        Some(key)
    }

    /// Takes all off the list of `port`.
    pub(super) fn take_all(&mut self, port: PortId) -> Vec<Key> {
        let Some(list) = self.recency.remove(&port) else { return Vec::new() };
        self.by_size.remove(&(list.len(), port));
        self.total -= list.len();
        list.iter().map(|(&key, ())| key).collect()
    }

    /// The list of `port` had `before` keys and has one less.
    fn shortened(&mut self, port: PortId, before: usize) {
        self.total -= 1;
        self.by_size.remove(&(before, port));
        if before > 1 {
            self.by_size.insert((before - 1, port));
        } else {
            self.recency.remove(&port);
        }
    }
}

#[cfg(test)]
impl Shares {
    /// The invariants in the type's documentation.
    pub(super) fn check(&self) {
        let sizes: BTreeSet<_> = self.recency.iter().map(|(&port, list)| (list.len(), port)).collect();
        assert_eq!(sizes, self.by_size);
        assert!(self.recency.values().all(|list| !list.is_empty()));
        assert_eq!(self.recency.values().map(LruCache::len).sum::<usize>(), self.total);
    }
}
