//! ICMP and ICMPv6 (RFC 792, RFC 4443): the one message that a switch sends, that a packet is too big for its way.
//!
//! It goes to the packet's sender in the name of its destination, since the switch has no address of its own there, and
//! quotes as much of the packet as a router may, by which its sender knows whose it was. Whoever forges packets could
//! have strangers told: so nobody is told of what no honest host expects an answer to ([`is_answerable`]).

use super::checksum::Sum;
use super::parse::{IpVersion, Network};
use super::{be16, ipv4, ipv6, put16, put32};
use crate::types::L3Mtu;

/// IP protocol number of ICMP.
pub const PROTOCOL: u8 = 1;
/// IP protocol number of ICMPv6.
pub const PROTOCOL_V6: u8 = 58;
/// Bytes before what is quoted.
pub const HEADER_LEN: usize = 8;

/// "Destination unreachable", and of that "fragmentation needed and DF set".
const TOO_BIG_V4: [u8; 2] = [3, 4];
/// "Packet too big".
const TOO_BIG_V6: [u8; 2] = [2, 0];
/// The largest message over IPv4 (RFC 1812 §4.3.2.3), and over IPv6 (RFC 4443 §2.4(c)), IP header included.
const LARGEST: [usize; 2] = [576, 1280];
/// IPv4's type of service of messages between routers (RFC 1812 §4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
const HOPS: u8 = 64;
const CHECKSUM: usize = 2;
/// Where the MTU is: 16 bits of ICMP (RFC 1191 §4), 32 bits of ICMPv6.
const MTU_V4: usize = 6;
const MTU_V6: usize = 4;

/// Whether the sender of the packet may be told of its fate (RFC 1122 §3.2.2, RFC 4443 §2.4(e)): not of an ICMP error nor
/// of a later fragment, and only if its source and its destination are one host each.
#[must_use]
pub fn is_answerable(network: &Network, bytes: &[u8]) -> bool {
    let (source, destination) = network.addresses(bytes).split_at(network.address_len());
    let (proto, message) = authenticated(network.proto, &bytes[usize::from(network.l4_offset)..network.end]);
    let is_error = match (network.version, proto, message.first()) {
        (IpVersion::V4, PROTOCOL, kind) => kind.is_none_or(|kind| !is_query(*kind)),
        (IpVersion::V6, PROTOCOL_V6, kind) => kind.is_none_or(|&kind| kind < 128 || kind == REDIRECT_V6),
        // What is behind so many extension headers may be an error.
        (_, AUTHENTICATION, _) => true,
        (IpVersion::V6, proto, _) => ipv6::is_extension(proto),
        _ => false,
    };
    !is_error && network.fragment_offset(bytes) == 0 && is_one_host(source) && is_one_host(destination)
}

/// IP protocol number of the authentication header (RFC 4302).
const AUTHENTICATION: u8 = 51;

/// What an authentication header stands before, if there is one.
fn authenticated(proto: u8, payload: &[u8]) -> (u8, &[u8]) {
    match *payload {
        [next, len, ..] if proto == AUTHENTICATION => {
            (next, payload.get((usize::from(len) + 2) * 4..).unwrap_or_default())
        }
        _ => (proto, payload),
    }
}

/// Types of ICMP that are no errors: echo, router discovery left out, timestamp, information, mask, extended echo.
fn is_query(kind: u8) -> bool {
    matches!(kind, 0 | 8 | 13..=18 | 42 | 43)
}

/// ICMPv6's redirect, which is told of like an error.
const REDIRECT_V6: u8 = 137;

/// Whether an address can be that of one host on a network.
fn is_one_host(address: &[u8]) -> bool {
    match *address {
        [first, _, _, _] => !matches!(first, 0 | 127 | 224..),
        [0xff, ..] => false,
        [ref zeros @ .., last] => last > 1 || zeros.iter().any(|&byte| byte != 0),
        [] => false,
    }
}

/// Bytes of the IP packet that [`write_too_big`] makes.
#[must_use]
pub fn too_big_len(network: &Network) -> usize {
    let (ip_header, largest) = match network.version {
        IpVersion::V4 => (ipv4::MIN_HEADER_LEN, LARGEST[0]),
        IpVersion::V6 => (ipv6::HEADER_LEN, LARGEST[1]),
    };
    largest.min(ip_header + HEADER_LEN + network.packet_len())
}

/// Writes the IP packet that tells the sender of the packet in the frame `bytes` that `mtu` is the most that goes its way;
/// `out` is [`too_big_len`] bytes long.
pub fn write_too_big(network: &Network, bytes: &[u8], mtu: L3Mtu, out: &mut [u8]) {
    let packet = &bytes[usize::from(network.l3_offset)..network.end];
    let ip_header = match network.version {
        IpVersion::V4 => ipv4::MIN_HEADER_LEN,
        IpVersion::V6 => ipv6::HEADER_LEN,
    };
    let (ip, message) = out.split_at_mut(ip_header);
    let (head, quote) = message.split_at_mut(HEADER_LEN);
    quote.copy_from_slice(&packet[..quote.len()]);
    head.fill(0);
    ip.fill(0);
    let (source, destination) = network.addresses(bytes).split_at(network.address_len());
    let pseudo = match network.version {
        IpVersion::V4 => {
            head[..2].copy_from_slice(&TOO_BIG_V4);
            put16(head, MTU_V4, mtu.0.min(u16::MAX.into()) as u16);
            ip[0] = 0x45;
            ip[ipv4::TOS] = INTERNETWORK_CONTROL;
            put16(ip, ipv4::TOTAL_LEN, (ip_header + HEADER_LEN + quote.len()) as u16);
            // As unique as that of the packet, of which there is one.
            put16(ip, ipv4::ID, be16(packet, ipv4::ID));
            (ip[ipv4::TTL], ip[ipv4::PROTOCOL]) = (HOPS, PROTOCOL);
            ip[ipv4::SOURCE..][..ipv4::ADDRESS_LEN].copy_from_slice(destination);
            ip[ipv4::SOURCE + ipv4::ADDRESS_LEN..].copy_from_slice(source);
            ipv4::fill_checksum(ip);
            Sum::default()
        }
        IpVersion::V6 => {
            head[..2].copy_from_slice(&TOO_BIG_V6);
            put32(head, MTU_V6, mtu.0);
            ip[0] = 0x60;
            let len = (HEADER_LEN + quote.len()) as u16;
            put16(ip, ipv6::PAYLOAD_LEN, len);
            (ip[ipv6::NEXT_HEADER], ip[ipv6::HOP_LIMIT]) = (PROTOCOL_V6, HOPS);
            ip[ipv6::SOURCE..][..ipv6::ADDRESS_LEN].copy_from_slice(destination);
            ip[ipv6::SOURCE + ipv6::ADDRESS_LEN..].copy_from_slice(source);
            Sum::of(&ip[ipv6::SOURCE..]).word(len).word(PROTOCOL_V6.into())
        }
    };
    let sum = pseudo.and(Sum::of(message)).complement();
    put16(message, CHECKSUM, sum);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixtures::{Packet, slow_sum};
    use crate::wire::parse::parse;
    use proptest::prelude::*;

    fn network(frame: &[u8]) -> Network {
        parse(frame).unwrap().network(frame).unwrap()
    }

    fn too_big(frame: &[u8], mtu: u32) -> Vec<u8> {
        let network = network(frame);
        let mut out = vec![0xaa; too_big_len(&network)];
        write_too_big(&network, frame, L3Mtu(mtu), &mut out);
        out
    }

    /// 28 bytes of an IPv4 packet from 10.0.0.1 to 10.0.0.2 with DF: a UDP header and no more.
    const PING4: [u8; 42] = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 28, 0xbe, 0xef, 0x40, 0, 64, 17, 0x67, 0xdf, 10, 0, 0, 1,
        10, 0, 0, 2, 0x9c, 0x40, 0, 53, 0, 8, 0, 0,
    ];

    #[test]
    fn a_message_over_ipv4_has_these_bytes() {
        let expected = [
            // Laid out by RFC 791 and RFC 1191, and summed by other means.
            &[0x45, 0xc0, 0, 56, 0xbe, 0xef, 0, 0, 64, 1, 0xa7, 0x13, 10, 0, 0, 2, 10, 0, 0, 1][..],
            &[3, 4, 0x5a, 0xd4, 0, 0, 0x05, 0xaa],
            &PING4[14..],
        ]
        .concat();
        assert_eq!(too_big(&PING4, 1450), expected);
    }

    #[test]
    fn a_message_over_ipv6_has_these_bytes() {
        let address = |last| [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        let packet = [&[0x60, 0, 0, 0, 0, 4, 59, 64][..], &address(1), &address(2), &[1, 2, 3, 4]].concat();
        let frame = [&PING4[..12], &[0x86, 0xdd], &packet].concat();
        let expected = [
            &[0x60, 0, 0, 0, 0, 52, 58, 64][..],
            &address(2),
            &address(1),
            &[2, 0, 0x64, 0xa7, 0, 0, 0x05, 0x96],
            &packet,
        ]
        .concat();
        assert_eq!(too_big(&frame, 1430), expected);
    }

    /// The sum over an ICMPv6 message with its pseudo-header, or over an ICMP message.
    fn sum_of(message: &[u8]) -> u16 {
        if message[0] >> 4 == 4 {
            return slow_sum(&message[20..]);
        }
        let len = (message.len() - 40) as u16;
        slow_sum(&[&message[8..40], &len.to_be_bytes(), &[0, 58], &message[40..]].concat())
    }

    #[test]
    fn as_much_is_quoted_as_a_router_may() {
        for (packet, largest) in [(Packet::tcp4(3000), 576), (Packet::tcp6(3000).tagged(7), 1280)] {
            let message = too_big(&packet.bytes(), 1400);
            assert_eq!(message.len(), largest);
            let headers = if largest == 576 { 28 } else { 48 };
            let l3 = packet.bytes().len() - packet.payload.len() - 32 - packet.net.header_len();
            assert_eq!(message[headers..], packet.bytes()[l3..][..largest - headers]);
            assert_eq!(sum_of(&message), 0xffff);
        }
        assert_eq!(slow_sum(&too_big(&Packet::tcp4(3000).bytes(), 1400)[..20]), 0xffff, "of the IPv4 header");
        let whole = too_big(&Packet::tcp4(100).bytes(), 1400);
        assert_eq!(whole[28..], Packet::tcp4(100).bytes()[14..]);
    }

    #[test]
    fn a_larger_mtu_than_ipv4_can_say_is_its_largest() {
        assert_eq!(too_big(&PING4, 70_000)[26..28], [0xff, 0xff]);
        assert_eq!(too_big(&Packet::tcp6(3000).bytes(), 70_000)[44..48], [0, 1, 0x11, 0x70]);
    }

    fn answerable(frame: &[u8]) -> bool {
        is_answerable(&network(frame), frame)
    }

    /// The frame with these bytes from an offset of its packet on.
    fn with(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut frame = frame.to_vec();
        frame[14 + at..][..bytes.len()].copy_from_slice(bytes);
        frame
    }

    #[test]
    fn errors_of_icmp_are_not_answered_and_queries_are() {
        let icmp4 = |kind: u8| answerable(&with(&with(&PING4, 9, &[1]), 20, &[kind]));
        let answered: Vec<u8> = (0..=255).filter(|&kind| icmp4(kind)).collect();
        assert_eq!(answered, [0, 8, 13, 14, 15, 16, 17, 18, 42, 43]);
        let packet = Packet::tcp6(100).bytes();
        let icmp6 = |kind: u8| answerable(&with(&with(&packet, 6, &[58]), 40, &[kind]));
        let refused: Vec<u8> = (0..=255).filter(|&kind| !icmp6(kind)).collect();
        assert_eq!(refused, (0..128).chain([137]).collect::<Vec<_>>());
        // A type that is not there any more could be that of an error.
        let short = with(&with(&PING4, 9, &[1]), 2, &[0, 20]);
        assert!(!answerable(&short));
    }

    #[test]
    fn later_fragments_are_not_answered() {
        for (field, expected) in [([0x40, 0], true), ([0x20, 0], true), ([0x20, 1], false), ([0, 185], false)] {
            assert_eq!(answerable(&with(&PING4, 6, &field)), expected, "{field:?}");
        }
        let mut packet = Packet::tcp6(100).bytes();
        packet.splice(54..54, [6, 0, 0, 0, 0, 0, 0, 9]);
        packet[14 + 6] = 44;
        packet[14 + 5] += 8;
        assert!(answerable(&packet));
        assert!(answerable(&with(&packet, 42, &[0, 1])), "more fragments follow the first");
        assert!(!answerable(&with(&packet, 42, &[0, 8])));
    }

    #[test]
    fn only_one_host_is_told_and_only_on_behalf_of_one() {
        for at in [12, 16] {
            for (address, expected) in [
                ([10, 0, 0, 9], true),
                ([0, 0, 0, 0], false),
                ([127, 0, 0, 1], false),
                ([224, 0, 0, 1], false),
                ([240, 0, 0, 1], false),
                ([255; 4], false),
            ] {
                assert_eq!(answerable(&with(&PING4, at, &address)), expected, "{address:?} at {at}");
            }
        }
        let packet = Packet::tcp6(100).bytes();
        let of = |first: u8, last: u8| [first, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        for at in [8, 24] {
            for (address, expected) in
                [(of(0xfe, 1), true), (of(0, 2), true), (of(0, 0), false), (of(0, 1), false), (of(0xff, 2), false)]
            {
                assert_eq!(answerable(&with(&packet, at, &address)), expected, "{address:?} at {at}");
            }
        }
    }

    #[test]
    fn what_is_behind_too_many_extension_headers_is_not_answered() {
        let mut packet = Packet::tcp6(0).bytes();
        packet.splice(54.., std::iter::repeat_n([60, 0, 1, 4, 0, 0, 0, 0], 9).flatten());
        packet[14 + 6] = 60;
        packet[14 + 5] = 72;
        assert!(!answerable(&packet));
    }

    #[test]
    fn what_is_behind_an_authentication_header_is_looked_at() {
        let authentication = |next: u8| [&[next, 4][..], &[0; 22]].concat();
        let v4 = |next, kind: u8| {
            let mut packet = Packet::tcp4(100).bytes();
            packet.splice(34..58, authentication(next));
            (packet[14 + 9], packet[58]) = (51, kind);
            answerable(&packet)
        };
        let v6 = |next, kind: u8| {
            let mut packet = Packet::tcp6(100).bytes();
            packet.splice(54..78, authentication(next));
            (packet[14 + 6], packet[78]) = (51, kind);
            answerable(&packet)
        };
        assert_eq!([v4(17, 3), v4(1, 8), v4(1, 3), v4(51, 3)], [true, true, false, false]);
        assert_eq!([v6(17, 2), v6(58, 128), v6(58, 2), v6(60, 0)], [true, true, false, false]);
    }

    proptest! {
        #[test]
        fn every_packet_gets_a_message_with_right_checksums(
            len in 0usize..3000, six in any::<bool>(), mtu in any::<u32>(), noise in prop::collection::vec(any::<u8>(), 12),
        ) {
            let packet = if six { Packet::tcp6(len) } else { Packet::tcp4(len) };
            let mut bytes = packet.bytes();
            let l4 = packet.l4();
            bytes[l4..l4 + 12].copy_from_slice(&noise);
            let message = too_big(&bytes, mtu);
            let largest = if six { 1280 } else { 576 };
            prop_assert!(message.len() <= largest);
            prop_assert_eq!(sum_of(&message), 0xffff);
        }
    }
}
