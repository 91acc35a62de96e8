//! Explicit congestion notification through tunnels (RFC 6040): a router on the underlay that marks the outer packet has
//! marked the inner one.

use crate::packet::Frame;
use crate::switch::verdict::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::parse::{Headers, IpVersion};
use crate::wire::{be16, ipv4, put16};

/// The two bits of ECN in a type of service.
pub const MASK: u8 = 0x03;
/// The sender does not understand ECN.
const NOT_ECT: u8 = 0;
/// It does, in the first of two ways.
const ECT_0: u8 = 2;
/// It does, in the second.
const ECT_1: u8 = 1;
/// Congestion was experienced.
const CE: u8 = 3;

/// The outer header's ECN bits for an inner type of service (§4.1, normal mode).
#[must_use]
pub const fn encap(inner: u8) -> u8 {
    inner & MASK
}

/// The inner header's ECN bits on leaving the tunnel (§4.2, figure 4); `None`: the packet must be dropped.
const fn combined(inner: u8, outer: u8) -> Option<u8> {
    match (inner & MASK, outer & MASK) {
        (NOT_ECT, CE) => None,
        (ECT_0 | ECT_1, CE) => Some(CE),
        (ECT_0, ECT_1) => Some(ECT_1),
        (inner, _) => Some(inner),
    }
}

/// Whether [`decap`] leaves an inner packet with this type of service as it is.
#[inline]
#[must_use]
pub const fn leaves_alone(outer: u8, inner: u8) -> bool {
    outer & MASK == NOT_ECT || outer & MASK == inner & MASK
}

/// Tells the inner packet of a frame what happened to the outer one, which came with the type of service `outer`.
#[inline]
pub fn decap(outer: u8, frame: &mut Frame, headers: &Headers) -> Result<(), DropReason> {
    if outer & MASK == NOT_ECT {
        return Ok(());
    }
    let Some(service) = headers.service(frame.bytes()) else { return Ok(()) };
    let ecn = combined(service.tos, outer).ok_or(DropReason::TunnelEcn)?;
    if ecn != service.tos & MASK {
        store(service.version, ecn, &mut frame.bytes_mut()[headers.l3_offset.into()..]);
    }
    Ok(())
}

/// Changes the ECN bits of an IP packet, and the header checksum with them.
fn store(version: IpVersion, ecn: u8, packet: &mut [u8]) {
    match version {
        IpVersion::V4 => {
            let sum = Sum::default().word(!be16(packet, ipv4::CHECKSUM)).without(be16(packet, 0));
            packet[ipv4::TOS] = packet[ipv4::TOS] & !MASK | ecn;
            let sum = sum.word(be16(packet, 0)).complement();
            put16(packet, ipv4::CHECKSUM, sum);
        }
        // The traffic class lies across two bytes.
        IpVersion::V6 => packet[1] = packet[1] & !(MASK << 4) | ecn << 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixtures::{Packet, verified};
    use crate::wire::parse::parse;

    /// The inner ECN bits after a way through the tunnel on which the outer ones became `outer`.
    fn after(packet: &Packet, inner: u8, outer: u8) -> Result<u8, DropReason> {
        let mut frame = packet.frame();
        let headers = parse(frame.bytes()).unwrap();
        let l3 = usize::from(headers.l3_offset);
        let version = headers.service(frame.bytes()).unwrap().version;
        store(version, inner, &mut frame.bytes_mut()[l3..]);
        verified(frame.bytes());
        decap(0xb8 | outer, &mut frame, &headers)?;
        // Neither the checksum nor the rest of the byte has suffered.
        verified(frame.bytes());
        let service = headers.service(frame.bytes()).unwrap();
        assert_eq!(service.tos & !MASK, 0);
        Ok(service.tos & MASK)
    }

    #[test]
    fn figure_4_of_rfc_6040() {
        let drop = Err(DropReason::TunnelEcn);
        let figure = [
            (NOT_ECT, [Ok(NOT_ECT), Ok(NOT_ECT), Ok(NOT_ECT), drop]),
            (ECT_0, [Ok(ECT_0), Ok(ECT_0), Ok(ECT_1), Ok(CE)]),
            (ECT_1, [Ok(ECT_1), Ok(ECT_1), Ok(ECT_1), Ok(CE)]),
            (CE, [Ok(CE), Ok(CE), Ok(CE), Ok(CE)]),
        ];
        for packet in [Packet::tcp4(100), Packet::tcp6(100), Packet::tcp4(100).tagged(7)] {
            for (inner, row) in figure {
                for (outer, expected) in [NOT_ECT, ECT_0, ECT_1, CE].into_iter().zip(row) {
                    assert!(!leaves_alone(0xb8 | outer, inner) || expected == Ok(inner));
                    assert_eq!(after(&packet, inner, outer), expected, "inner {inner}, outer {outer}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_ip_packet_passes() {
        let mut arp = Frame::from_bytes(&[&[0xff; 12][..], &[8, 6], &[0; 46]].concat());
        let before = arp.bytes().to_vec();
        let headers = parse(arp.bytes()).unwrap();
        assert_eq!(decap(CE, &mut arp, &headers), Ok(()));
        assert_eq!(arp.bytes(), before);
    }
}
