//! IP in IP (RFC 2003): an IPv4 packet right after the outer IP header, with no header of the tunnel's own.
//!
//! Inside the switch such a packet has an Ethernet header like any other frame: it is taken off last on the way into the
//! tunnel, and put on first on the way out of it, without addresses, which the bridge's router then writes.

use crate::packet::Frame;
use crate::switch::verdict::DropReason;
use crate::types::{MacAddr, TunnelKey};
use crate::wire::{TunnelHeader, be16, ethernet, ipv4};
use std::net::Ipv4Addr;

/// IP protocol number.
pub const PROTOCOL: u8 = 4;

/// Puts an Ethernet header without addresses before a received packet, whose outer IP header has left room for it.
pub fn push_ethernet(packet: &mut Frame) {
    let frame = packet.push_front(ethernet::HEADER_LEN);
    ethernet::write(frame, MacAddr::ZERO, MacAddr::ZERO, ethernet::IPV4);
}

/// Whether a frame can be carried: it is untagged IPv4.
pub fn check(frame: &[u8]) -> Result<(), DropReason> {
    let ipv4 = frame.len() >= ethernet::HEADER_LEN && be16(frame, ethernet::ETHERTYPE) == ethernet::IPV4;
    if ipv4 { Ok(()) } else { Err(DropReason::NotRouted) }
}

/// Reads a received packet that has got its Ethernet header: IPv4 from one host to another, whole as its header says.
#[inline]
pub fn parse(frame: &[u8]) -> Result<TunnelHeader, DropReason> {
    let packet = frame.get(ethernet::HEADER_LEN..).unwrap_or_default();
    if packet.first().is_some_and(|first| first >> 4 != 4) {
        return Err(DropReason::TunnelPayload);
    }
    if packet.len() < ipv4::MIN_HEADER_LEN {
        return Err(DropReason::TunnelMalformed);
    }
    let header_len = usize::from(packet[0] & 0x0f) * 4;
    let total_len = usize::from(be16(packet, ipv4::TOTAL_LEN));
    if header_len < ipv4::MIN_HEADER_LEN || total_len < header_len || total_len > packet.len() {
        return Err(DropReason::TunnelMalformed);
    }
    if !ipv4::addresses(packet).into_iter().all(is_host) {
        return Err(DropReason::TunnelPayload);
    }
    Ok(TunnelHeader { key: TunnelKey(0), len: 0 })
}

/// Whether an address may be a host's that a router knows a way to: link-local ones stay on their link (RFC 3927 §7).
#[must_use]
pub fn is_host(address: Ipv4Addr) -> bool {
    let one = !address.is_unspecified() && !address.is_multicast() && !address.is_broadcast();
    one && !address.is_loopback() && !address.is_link_local()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixtures::Packet;

    fn received(packet: &[u8]) -> Result<(), DropReason> {
        let mut frame = Frame::from_bytes(packet);
        push_ethernet(&mut frame);
        assert_eq!(frame.bytes()[..14], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
        parse(frame.bytes()).map(|header| assert_eq!((header.key, header.len), (TunnelKey(0), 0)))
    }

    #[test]
    fn a_packet_from_host_to_host_is_taken() {
        let packet = Packet::tcp4(100).bytes().split_off(14);
        assert_eq!(received(&packet), Ok(()));
        assert_eq!(received(&[&packet[..], &[0; 9]].concat()), Ok(()), "with padding");
        let damaged = |at: usize, value: u8| {
            let mut packet = packet.clone();
            packet[at] = value;
            received(&packet)
        };
        for (at, value, reason) in [
            (0, 0x44, DropReason::TunnelMalformed),
            (0, 0x65, DropReason::TunnelPayload),
            (2, 0xff, DropReason::TunnelMalformed),
            (16, 224, DropReason::TunnelPayload),
            (12, 127, DropReason::TunnelPayload),
            (12, 239, DropReason::TunnelPayload),
        ] {
            assert_eq!(damaged(at, value), Err(reason), "byte {at}");
        }
        assert_eq!(received(&packet[..19]), Err(DropReason::TunnelMalformed));
        assert_eq!(received(&[]), Err(DropReason::TunnelMalformed));
        assert_eq!(received(&Packet::tcp6(100).bytes()[14..]), Err(DropReason::TunnelPayload));
    }

    #[test]
    fn only_untagged_ipv4_is_carried() {
        assert_eq!(check(&Packet::tcp4(9).bytes()), Ok(()));
        for frame in [Packet::tcp6(9).bytes(), Packet::tcp4(9).tagged(7).bytes(), vec![0; 13]] {
            assert_eq!(check(&frame), Err(DropReason::NotRouted));
        }
    }
}
