//! The message that a packet is too big: whoever may be told gets one that a strict reader accepts.

use super::{split, sum};
use datapath::types::L3Mtu;
use datapath::wire::icmp;
use datapath::wire::parse::{IpVersion, parse};
use etherparse::{IcmpEchoHeader, Icmpv4Type, Icmpv6Type, NetSlice, SlicedPacket, TransportSlice, icmpv4};

/// An MTU, and a frame.
pub fn check(input: &[u8]) {
    let Some((mtu, frame)) = split(input) else { return };
    let Some(network) = parse(frame).ok().and_then(|headers| headers.network(frame)) else { return };
    let answerable = icmp::is_answerable(&network, frame);
    let mut message = vec![0xaa; icmp::too_big_len(&network)];
    icmp::write_too_big(&network, frame, L3Mtu(mtu.into()), &mut message);

    let packet = &frame[usize::from(network.l3_offset)..network.end];
    let read = SlicedPacket::from_ip(&message).expect("an IP packet");
    let (quote, largest) = match (&read.net, &read.transport) {
        (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Icmpv4(icmp))) => {
            assert_eq!(network.version, IpVersion::V4);
            assert_eq!((ip.header().source(), ip.header().destination()), (at(packet, 16), at(packet, 12)));
            assert_eq!((sum(&message[..20]), sum(&message[20..])), (0xffff, 0xffff));
            let kind = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
            assert_eq!(icmp.icmp_type(), Icmpv4Type::DestinationUnreachable(kind));
            (icmp.payload(), 576)
        }
        (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) => {
            assert_eq!(network.version, IpVersion::V6);
            assert_eq!((ip.header().source(), ip.header().destination()), (at(packet, 24), at(packet, 8)));
            assert!(icmp.is_checksum_valid(ip.header().source(), ip.header().destination()));
            assert_eq!(icmp.icmp_type(), Icmpv6Type::PacketTooBig { mtu: mtu.into() });
            (icmp.payload(), 1280)
        }
        other => panic!("neither ICMP nor ICMPv6: {other:?}"),
    };
    assert!(message.len() <= largest && packet.starts_with(quote));
    assert!(quote.len() == packet.len() || message.len() == largest, "as much as may be is quoted");
    if answerable {
        assert!(!is_error(packet), "an error is not answered");
    }
    // What answers cannot itself be answered.
    let again = [&[2; 12][..], &frame[usize::from(network.l3_offset) - 2..][..2], &message].concat();
    let network = parse(&again).expect("a frame").network(&again).expect("an IP packet");
    assert!(!icmp::is_answerable(&network, &again));
}

/// The address at an offset of a packet.
fn at<const N: usize>(packet: &[u8], offset: usize) -> [u8; N] {
    packet[offset..offset + N].try_into().expect("N bytes")
}

/// Whether a reader that knows nothing of ours sees an ICMP error in a packet; ICMP over IPv6 is none, nor the reverse.
fn is_error(packet: &[u8]) -> bool {
    let Ok(read) = SlicedPacket::from_ip(packet) else { return false };
    match (read.net, read.transport) {
        (Some(NetSlice::Ipv4(_)), Some(TransportSlice::Icmpv4(icmp))) => !matches!(
            icmp.icmp_type(),
            Icmpv4Type::EchoRequest(IcmpEchoHeader { .. })
                | Icmpv4Type::EchoReply(_)
                | Icmpv4Type::TimestampRequest(_)
                | Icmpv4Type::TimestampReply(_)
                | Icmpv4Type::Unknown { .. }
        ),
        (Some(NetSlice::Ipv6(_)), Some(TransportSlice::Icmpv6(icmp))) => icmp.type_u8() < 128,
        _ => false,
    }
}
