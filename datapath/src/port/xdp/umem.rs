//! The memory of all AF_XDP ports: regions, each shared by a few queues of any ports. Control's alone; what workers share of
//! a region is its list of free chunks.

use super::socket::RING;
use super::{BUSY_ATTEMPTS, BUSY_ATTEMPTS_OF_OURS, Backend};
use crate::packet::Region;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Weak};

/// Chunks of a region (64 MiB) and queues that share one: what they receive into is three quarters of it, the rest is
/// for frames on their way.
const REGION_CHUNKS: u32 = 16 * 1024;
const QUEUES_OF_REGION: usize = (REGION_CHUNKS / RING * 3 / 4) as usize;

/// Regions, kept for the next ports when those that use them go.
#[derive(Debug, Default)]
pub struct Umem {
    regions: Vec<Arc<Region>>,
    /// For each queue in use its region; dead once the queue is gone.
    users: Vec<(Weak<()>, usize)>,
    /// Devices of which an AF_XDP port was closed and none has been opened since.
    just_closed: BTreeSet<u32>,
}

impl Umem {
    /// A region for one more queue, which uses it as long as it keeps the second value: one that is in use already, as far as
    /// there is room, for between queues of one region frames are not copied.
    pub(super) fn region_for_queue(&mut self) -> io::Result<(Arc<Region>, Arc<()>)> {
        self.users.retain(|(user, _)| user.strong_count() > 0);
        let used = |region: usize| self.users.iter().filter(|(_, r)| *r == region).count();
        let at = match (0..self.regions.len()).find(|&region| used(region) < QUEUES_OF_REGION) {
            Some(at) => at,
            None => {
                self.regions.push(Region::new(REGION_CHUNKS)?);
                self.regions.len() - 1
            }
        };
        let user = Arc::new(());
        self.users.push((Arc::downgrade(&user), at));
        Ok((Arc::clone(&self.regions[at]), user))
    }

    /// An AF_XDP port on this device is being closed.
    pub fn note_closed(&mut self, ifindex: u32) {
        self.just_closed.insert(ifindex);
    }

    /// One has been opened.
    pub(super) fn note_opened(&mut self, ifindex: u32) {
        self.just_closed.remove(&ifindex);
    }

    /// How often to try to open this device.
    pub(super) fn patience_with(&self, ifindex: u32) -> u32 {
        if self.just_closed.contains(&ifindex) { BUSY_ATTEMPTS_OF_OURS } else { BUSY_ATTEMPTS }
    }

    /// The regions there are.
    #[must_use]
    pub fn regions(&self) -> &[Arc<Region>] {
        &self.regions
    }
}

/// Where the frames of a queue are.
#[derive(Clone, Debug)]
pub(super) enum Memory {
    /// In a region, which is in use as long as there is the second value.
    Region(Arc<Region>, #[expect(dead_code, reason = "its being there is its use")] Arc<()>),
    /// In that of the crate.
    #[cfg(feature = "afxdp")]
    OfCrate,
}

impl Memory {
    /// For one more queue.
    pub(super) fn of(backend: Backend, umem: &mut Umem) -> io::Result<Self> {
        match backend {
            Backend::Own => umem.region_for_queue().map(|(region, user)| Self::Region(region, user)),
            #[cfg(feature = "afxdp")]
            Backend::Afxdp => Ok(Self::OfCrate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_serves_six_queues_and_is_used_again() {
        let mut umem = Umem::default();
        let mut users: Vec<_> = (0..8).map(|_| umem.region_for_queue().unwrap()).collect();
        let of: Vec<_> = users.iter().map(|(region, _)| Arc::ptr_eq(region, &umem.regions()[0])).collect();
        assert_eq!(of, [true, true, true, true, true, true, false, false]);
        // What receiving takes leaves something for frames on their way.
        assert!(QUEUES_OF_REGION as u32 * RING < REGION_CHUNKS);
        users.remove(3);
        let again = umem.region_for_queue().unwrap();
        assert!(Arc::ptr_eq(&again.0, &umem.regions()[0]) && umem.regions().len() == 2);
    }
}
