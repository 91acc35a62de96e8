//! IPv4 (RFC 791): offsets of fields from the start of the header.

use super::checksum::Sum;
use super::{be16, put16};
use std::net::Ipv4Addr;

/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Bytes of the largest packet.
pub const MAX_PACKET: usize = 65_535;
/// Type of service: DSCP and ECN.
pub const TOS: usize = 1;
/// Bytes of header and payload.
pub const TOTAL_LEN: usize = 2;
/// Identification, for the fragments of one packet.
pub const ID: usize = 4;
/// Flags and fragment offset.
pub const FRAGMENT: usize = 6;
/// Time to live.
pub const TTL: usize = 8;
/// What the payload is.
pub const PROTOCOL: usize = 9;
/// Header checksum.
pub const CHECKSUM: usize = 10;
/// Source address; the destination follows.
pub const SOURCE: usize = 12;
/// What the payload is called that is such a packet (RFC 2003).
pub const IN_IP: u8 = 4;
/// Bytes of one address.
pub const ADDRESS_LEN: usize = 4;

/// In [`FRAGMENT`]: routers must not fragment it.
pub const DONT_FRAGMENT: u16 = 0x4000;
/// In [`FRAGMENT`]: more fragments follow.
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// In [`FRAGMENT`]: offset in units of 8 bytes.
pub const OFFSET: u16 = 0x1fff;

/// Kinds of options (RFC 791 §3.1).
pub mod option {
    /// The end of the options.
    pub const END: u8 = 0;
    /// Nothing, of one byte.
    pub const NOP: u8 = 1;
    /// In a kind: it is in every fragment.
    pub const COPIED: u8 = 0x80;
}

/// Stores the checksum of `header`, which is exactly the header, at least [`MIN_HEADER_LEN`] bytes.
pub fn fill_checksum(header: &mut [u8]) {
    put16(header, CHECKSUM, 0);
    let sum = Sum::of(header).complement();
    put16(header, CHECKSUM, sum);
}

/// The source and the destination of a packet that has a header.
#[must_use]
pub fn addresses(packet: &[u8]) -> [Ipv4Addr; 2] {
    [SOURCE, SOURCE + ADDRESS_LEN].map(|at| Ipv4Addr::new(packet[at], packet[at + 1], packet[at + 2], packet[at + 3]))
}

/// What a router does to a packet on its way: takes one hop from its time to live, and keeps its header's checksum true.
/// `false`, with nothing changed: it had no more hops to make.
#[must_use]
pub fn pass_hop(packet: &mut [u8]) -> bool {
    if packet[TTL] <= 1 {
        return false;
    }
    let sum = Sum::default().word(!be16(packet, CHECKSUM)).without(be16(packet, TTL));
    packet[TTL] -= 1;
    let sum = sum.word(be16(packet, TTL)).complement();
    put16(packet, CHECKSUM, sum);
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixtures::Packet;

    #[test]
    fn a_hop_keeps_the_checksum_true_and_the_last_one_is_refused() {
        let mut packet = Packet::tcp4(10).bytes().split_off(14);
        assert_eq!(addresses(&packet), [[10, 0, 0, 1], [10, 0, 0, 2]].map(Ipv4Addr::from));
        for hops in (1..=64).rev() {
            assert_eq!(packet[TTL], hops);
            assert!(Sum::of(&packet[..MIN_HEADER_LEN]).verifies());
            assert_eq!(pass_hop(&mut packet), hops > 1);
        }
        packet[TTL] = 0;
        assert!(!pass_hop(&mut packet));
    }
}
