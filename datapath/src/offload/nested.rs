//! TCP super-frames that somebody has put into a tunnel before they came here: a container with a GRE device, or with a
//! switch like this one.
//!
//! The kernel hands such a frame over as a TCP super-frame, without a word about the headers before TCP's packet, and it
//! would send it on as one that it then cannot cut, and drops. So it is known here for what it is, and cut before it leaves.
//! That takes a tunnel whose header may stand before every segment as it is: IP in IP, or GRE without a checksum and a
//! sequence number.

use crate::wire::parse::{Network, network_at, parse};
use crate::wire::{be16, ethernet, gre, ipv4, ipv6, tcp};

/// The packet in `outer`, if that is of a tunnel.
pub(crate) fn inside(outer: &Network, bytes: &[u8]) -> Option<Network> {
    if outer.fragment {
        return None;
    }
    match outer.proto {
        ipv4::IN_IP => network_at(ethernet::IPV4, outer.l4_offset, bytes),
        ipv6::IN_IP => network_at(ethernet::IPV6, outer.l4_offset, bytes),
        gre::PROTOCOL => in_gre(usize::from(outer.l4_offset), bytes),
        _ => None,
    }
}

/// The packet after a GRE header that is at `at`.
fn in_gre(at: usize, bytes: &[u8]) -> Option<Network> {
    let after = at + gre::repeatable_len(bytes.get(at..)?)?;
    let (ethertype, l3) = match be16(bytes, at + 2) {
        ethernet::BRIDGED => {
            let headers = parse(bytes.get(after..)?).ok()?;
            (headers.ethertype, after + usize::from(headers.l3_offset))
        }
        ethertype => (ethertype, after),
    };
    network_at(ethertype, u16::try_from(l3).ok()?, bytes)
}

/// Whether a TCP super-frame whose TCP header is at `l4` is one in a tunnel.
pub(crate) fn is_tunnelled(bytes: &[u8], l4: u16) -> bool {
    let outer = parse(bytes).ok().and_then(|headers| headers.network(bytes));
    let inner = outer.filter(|outer| outer.proto != tcp::PROTOCOL).and_then(|outer| inside(&outer, bytes));
    inner.is_some_and(|inner| inner.proto == tcp::PROTOCOL && inner.l4_offset == l4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::offload::gso::segment;
    use crate::packet::{ChecksumState, Frame, GsoKind, Pool};
    use crate::types::TunnelKey;
    use crate::wire::checksum::Sum;
    use crate::wire::fixtures::Packet;
    use crate::wire::put16;

    /// What carries `inner` by this protocol, from the tunnel's header on.
    fn wrapped(protocol: u8, inner: &[u8]) -> Vec<u8> {
        let payload = match protocol {
            gre::PROTOCOL => {
                let len = gre::header_len(TunnelKey(7), false);
                let mut packet = [&vec![0; len][..], inner].concat();
                gre::write_header(&mut packet, TunnelKey(7), false);
                packet
            }
            _ => inner[ethernet::HEADER_LEN..].to_vec(),
        };
        let [high, low] = (20 + payload.len() as u16).to_be_bytes();
        let mut ip = [0x45, 3, high, low, 0, 5, 0x40, 0, 9, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
        ipv4::fill_checksum(&mut ip);
        [&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8, 8, 0][..], &ip, &payload].concat()
    }

    /// The frame as the kernel hands it over.
    fn super_frame(protocol: u8, packet: &Packet) -> Frame {
        let inner = packet.super_frame(1400);
        let mut frame = Frame::from_bytes(&wrapped(protocol, inner.bytes()));
        let moved = frame.len() - inner.len();
        (frame.meta.csum, frame.meta.gso) = (inner.meta.csum, inner.meta.gso);
        frame.shift_offsets(moved as i16);
        frame
    }

    #[test]
    fn it_is_known_and_cut_with_all_headers_before_each_segment() {
        for (protocol, packet) in [
            (gre::PROTOCOL, Packet::tcp4(3000)),
            (gre::PROTOCOL, Packet::tcp6(3000).tagged(5)),
            (ipv4::IN_IP, Packet::tcp4(3000)),
            (ipv6::IN_IP, Packet::tcp6(3000)),
        ] {
            let mut frame = super_frame(protocol, &packet);
            let ChecksumState::Partial { start, .. } = frame.meta.csum else { panic!() };
            assert!(is_tunnelled(frame.bytes(), start) && !is_tunnelled(frame.bytes(), start + 1));
            frame.meta.gso.iter_mut().for_each(|gso| gso.kind = GsoKind::Tunnelled);
            let (mut pool, mut inner, mut segments) = (Pool::new(4), Vec::new(), Vec::new());
            segment(packet.super_frame(1400), None, &mut pool, &mut inner).unwrap();
            assert_eq!(segment(frame, None, &mut pool, &mut segments), Ok(3), "{protocol}");
            for (i, (segment, inner)) in segments.iter().zip(&inner).enumerate() {
                let mut expected = wrapped(protocol, inner.bytes());
                put16(&mut expected, 14 + ipv4::ID, 5 + i as u16);
                ipv4::fill_checksum(&mut expected[14..34]);
                assert_eq!(segment.bytes(), expected);
                assert!(Sum::of(&expected[14..34]).verifies());
            }
        }
    }

    #[test]
    fn what_cannot_stand_before_each_segment_is_not() {
        let packet = Packet::tcp4(3000);
        let plain = packet.super_frame(1400);
        assert!(!is_tunnelled(plain.bytes(), packet.l4() as u16));
        let mut frame = super_frame(gre::PROTOCOL, &packet);
        let ChecksumState::Partial { start, .. } = frame.meta.csum else { panic!() };
        for (at, byte) in [(34, 0xa0), (34, 0x30), (35, 1), (36, 0), (20, 0x20)] {
            let before = std::mem::replace(&mut frame.bytes_mut()[at], byte);
            assert!(!is_tunnelled(frame.bytes(), start), "{byte:#x} at {at}");
            frame.bytes_mut()[at] = before;
        }
        assert!(!is_tunnelled(&frame.bytes()[..40], start));
    }
}
