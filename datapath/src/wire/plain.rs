//! The ordinary packet, read where its fields always are: TCP or UDP, whole, in IPv4 without options, in a frame without
//! tags.
//!
//! What [`super::parse`] finds in any frame step by step is here at fixed offsets, which costs a fraction; for what is asked
//! of every frame on its way through a tunnel. Where [`PlainIpv4::of`] says `None`, the caller goes the long way; both ways
//! give the same answers.
//!
//! An attacker may send any bytes: a packet is plain only if its lengths agree with each other and with the frame.

use super::checksum::Sum;
use super::parse::{IpVersion, Service, hash_of};
use super::{be16, be32, ethernet, ipv4, tcp, udp};

/// Where IPv4 begins, and where layer 4 does.
const L3: usize = ethernet::HEADER_LEN;
const L4: usize = L3 + ipv4::MIN_HEADER_LEN;
/// Bytes of all headers with the shorter one of layer 4.
const HEAD: usize = L4 + udp::HEADER_LEN;
/// The first byte of an IPv4 header without options: version 4, five words.
const NO_OPTIONS: u8 = 0x45;

/// An ordinary packet.
#[derive(Clone, Copy, Debug)]
pub struct PlainIpv4<'a> {
    head: &'a [u8; HEAD],
    /// Bytes from layer 4 on.
    l4_len: u16,
    /// Of layer 4.
    checksum: u16,
}

impl<'a> PlainIpv4<'a> {
    /// The one in a frame; `None`: it holds none, or something else has to be looked at.
    #[inline]
    #[must_use]
    pub fn of(frame: &'a [u8]) -> Option<Self> {
        let head: &[u8; HEAD] = frame.first_chunk()?;
        let fragment = be16(head, L3 + ipv4::FRAGMENT) & (ipv4::MORE_FRAGMENTS | ipv4::OFFSET);
        if be16(head, ethernet::ETHERTYPE) != ethernet::IPV4 || head[L3] != NO_OPTIONS || fragment != 0 {
            return None;
        }
        let end = L3 + usize::from(be16(head, L3 + ipv4::TOTAL_LEN));
        let segment = frame.get(L4..end)?;
        let checksum = match head[L3 + ipv4::PROTOCOL] {
            tcp::PROTOCOL => {
                tcp::header_len(segment)?;
                be16(segment.first_chunk::<{ tcp::MIN_HEADER_LEN }>()?, tcp::CHECKSUM)
            }
            udp::PROTOCOL => be16(segment.first_chunk::<{ udp::HEADER_LEN }>()?, udp::CHECKSUM),
            _ => return None,
        };
        Some(Self { head, l4_len: segment.len() as u16, checksum })
    }

    /// How it wants to be served.
    #[inline]
    #[must_use]
    pub fn service(&self) -> Service {
        Service { version: IpVersion::V4, tos: self.head[L3 + ipv4::TOS], ttl: self.head[L3 + ipv4::TTL] }
    }

    /// The same as [`super::parse::flow_hash`].
    #[inline]
    #[must_use]
    pub fn flow_hash(&self) -> u16 {
        let ports = be32(self.head, L4);
        hash_of(self.head[L3 + ipv4::PROTOCOL], &[u64::from_be_bytes(*self.addresses())], Some(ports))
    }

    /// Whether its checksum field holds what one that is unfinished does: the sum of the pseudo-header.
    #[inline]
    #[must_use]
    pub fn looks_partial(&self) -> bool {
        let pseudo = Sum::of(self.addresses()).word(u16::from(self.head[L3 + ipv4::PROTOCOL])).word(self.l4_len);
        pseudo.fold() == self.checksum
    }

    /// Source and destination.
    #[inline]
    fn addresses(&self) -> &[u8; 8] {
        self.head[L3 + ipv4::SOURCE..].first_chunk().expect("the header has both addresses")
    }
}

/// Whether a frame may hold the TCP segment after the one in `first`, whatever else there is to merging them: `false` is
/// certain, and found out without parsing for IPv4 without tags and options.
#[inline]
#[must_use]
pub fn may_follow(first: &[u8], frame: &[u8]) -> bool {
    const TCP: usize = L4 + tcp::MIN_HEADER_LEN;
    let (Some(first), Some(next)) = (first.first_chunk::<TCP>(), frame.first_chunk::<TCP>()) else { return false };
    if be16(first, ethernet::ETHERTYPE) != ethernet::IPV4 || first[L3] != NO_OPTIONS {
        return true;
    }
    let (total, header) = (be16(first, L3 + ipv4::TOTAL_LEN), u32::from(first[L4 + tcp::DATA_OFFSET] >> 4) * 4);
    let payload = u32::from(total).wrapping_sub(ipv4::MIN_HEADER_LEN as u32 + header);
    first[L3 + ipv4::PROTOCOL] == tcp::PROTOCOL
        && be32(next, L4 + tcp::SEQUENCE) == be32(first, L4 + tcp::SEQUENCE).wrapping_add(payload)
}

#[cfg(test)]
mod tests {
    use super::super::parse::{flow_hash, parse};
    use super::*;
    use crate::offload::checksum;
    use crate::wire::fixtures::Packet;
    use proptest::prelude::*;

    /// Fails where a plain packet is read as another than the long way reads it; whether it is one.
    fn same_both_ways(frame: &[u8]) -> bool {
        let Some(plain) = PlainIpv4::of(frame) else { return false };
        let headers = parse(frame).unwrap();
        assert_eq!(Some(plain.service()), headers.service(frame));
        assert_eq!(plain.flow_hash(), flow_hash(&headers, frame));
        assert_eq!(plain.looks_partial(), checksum::looks_partial(frame, &headers));
        true
    }

    #[test]
    fn tcp_and_udp_over_ipv4_are_plain() {
        for packet in [Packet::tcp4(0), Packet::tcp4(1400), Packet::tcp4(0).udp(), Packet::tcp4(9).udp()] {
            for frame in [packet.frame(), packet.partial()] {
                assert!(same_both_ways(frame.bytes()));
                let padded = [frame.bytes(), &[0; 20]].concat();
                assert!(same_both_ways(&padded), "padding is no part of the packet");
            }
            let (finished, unfinished) = (packet.bytes(), packet.partial());
            assert!(!PlainIpv4::of(&finished).unwrap().looks_partial());
            assert!(PlainIpv4::of(unfinished.bytes()).unwrap().looks_partial());
        }
    }

    #[test]
    fn everything_else_goes_the_long_way() {
        let change = |change: &dyn Fn(&mut Packet)| {
            let mut packet = Packet::tcp4(100);
            change(&mut packet);
            packet.bytes()
        };
        let options = change(&|packet| packet.ipv4().options = [1, 1, 1, 0].into());
        let fragment = change(&|packet| packet.ipv4().more_fragments = true);
        let last = change(&|packet| packet.ipv4().fragment_offset = 9.try_into().unwrap());
        for frame in [options, fragment, last, Packet::tcp6(9).bytes(), Packet::tcp4(9).tagged(7).bytes()] {
            assert!(PlainIpv4::of(&frame).is_none());
        }
        // An ICMP message, a total length past the frame and within the header, a TCP header past the packet.
        for (at, value) in [(23, 1), (16, 0xff), (17, 19), (46, 0xf0), (46, 0x40)] {
            let mut frame = Packet::tcp4(1).bytes();
            frame[16] = 0;
            assert!(same_both_ways(&frame));
            frame[at] = value;
            assert!(PlainIpv4::of(&frame).is_none(), "{value} at {at}");
        }
        let whole = Packet::tcp4(0).bytes();
        assert!((0..whole.len()).all(|len| PlainIpv4::of(&whole[..len]).is_none()));
    }

    #[test]
    fn a_segment_may_follow_only_where_the_one_before_ends() {
        let first = Packet::tcp4(100);
        let mut next = first.clone();
        next.tcp().sequence_number = next.tcp().sequence_number.wrapping_add(100);
        let (first, next) = (first.bytes(), next.bytes());
        assert!(may_follow(&first, &next) && !may_follow(&first, &first) && !may_follow(&next, &first));
        assert!(!may_follow(&Packet::tcp4(0).udp().bytes(), &next) && !may_follow(&first, &next[..53]));
        // Of others than plain ones nothing is said.
        for other in [Packet::tcp6(100), Packet::tcp4(100).tagged(7)] {
            assert!(may_follow(&other.bytes(), &other.bytes()));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_the_same_both_ways(
            udp in any::<bool>(), len in 0usize..60, changes in prop::collection::vec((12usize..60, any::<u8>()), 0..4),
        ) {
            let packet = if udp { Packet::tcp4(len).udp() } else { Packet::tcp4(len) };
            let mut frame = packet.bytes();
            for (at, value) in changes {
                let at = at % frame.len();
                frame[at] = value;
            }
            same_both_ways(&frame);
        }
    }
}
