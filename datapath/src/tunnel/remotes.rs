//! The remote ends of a tunnel that has several.
//!
//! A frame to a station goes to the one remote end that it is behind; one to all, or to nobody known, is copied to every
//! remote end of the flood list (head-end replication). A frame from one remote end goes to no other: each has sent it to
//! all by itself. Only what these remote ends send is taken: each has its own entry in [`super::Demux`].

use crate::types::RemoteIndex;
use std::net::IpAddr;

/// Several remote ends, each at its index; the flood list comes first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Remotes {
    ends: Vec<IpAddr>,
    flooded: usize,
}

impl Remotes {
    /// This flood list, without doubles.
    #[must_use]
    pub fn new(flood_list: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut remotes = Self { ends: Vec::new(), flooded: 0 };
        for end in flood_list {
            remotes.know(end);
        }
        remotes.flooded = remotes.ends.len();
        remotes
    }

    /// One more end, to which only goes what is known to be there.
    pub fn know(&mut self, end: IpAddr) {
        if !self.ends.contains(&end) {
            self.ends.push(end);
        }
    }

    /// Leaves out all ends that `unwanted` says so of.
    pub fn leave_out(&mut self, unwanted: impl Fn(IpAddr) -> bool) {
        self.flooded = self.flood_list().iter().filter(|end| !unwanted(**end)).count();
        self.ends.retain(|end| !unwanted(*end));
    }

    /// All of them, in the order of their indexes.
    #[must_use]
    pub fn ends(&self) -> &[IpAddr] {
        &self.ends
    }

    /// Those that everything unknown is copied to.
    #[must_use]
    pub fn flood_list(&self) -> &[IpAddr] {
        &self.ends[..self.flooded]
    }

    /// The index of `end`.
    #[must_use]
    pub fn index_of(&self, end: IpAddr) -> Option<RemoteIndex> {
        self.ends.iter().position(|e| *e == end).and_then(|i| u16::try_from(i).ok()).map(RemoteIndex)
    }

    /// The end at `index`.
    #[must_use]
    pub fn get(&self, index: RemoteIndex) -> Option<IpAddr> {
        self.ends.get(usize::from(index.0)).copied()
    }

    /// Whom a frame is for: the end at `index`, or without one the flood list.
    #[inline]
    #[must_use]
    pub fn addressees(&self, index: Option<RemoteIndex>) -> &[IpAddr] {
        let one = index.map(|index| usize::from(index.0)).and_then(|i| self.ends.get(i..=i));
        one.unwrap_or_else(|| self.flood_list())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn the_flood_list_comes_first_and_others_are_known() {
        let mut r = Remotes::new([ip(2), ip(3), ip(2)]);
        r.know(ip(9));
        r.know(ip(3));
        assert_eq!((r.ends(), r.flood_list()), (&[ip(2), ip(3), ip(9)][..], &[ip(2), ip(3)][..]));
        assert_eq!((r.index_of(ip(9)), r.index_of(ip(4))), (Some(RemoteIndex(2)), None));
        assert_eq!(r.addressees(Some(RemoteIndex(2))), [ip(9)]);
        assert_eq!(r.addressees(None), [ip(2), ip(3)]);
        r.leave_out(|end| end == ip(2) || end == ip(9));
        assert_eq!((r.ends(), r.flood_list()), (&[ip(3)][..], &[ip(3)][..]));
    }
}
