//! Fragmenting IPv4 packets that their senders allow it for, as a router does (RFC 791 §3.2).
//!
//! Each fragment has the packet's header, with its own length and offset; options that are not to be copied are
//! overwritten in all but the first. A fragment may be fragmented again. The checksum of layer 4 is in one of the
//! fragments only and covers all, so it is finished before.

use super::gso;
use crate::packet::{ChecksumState, Frame, MAX_SEGMENTS, Meta, Pool};
use crate::switch::verdict::DropReason;
use crate::wire::parse::{IpVersion, parse};
use crate::wire::{be16, ipv4, put16};

/// Offsets count in units of so many bytes.
const UNIT: usize = 8;
/// Where the last byte of the largest packet ends.
const MAX_PACKET: usize = 65_535;

/// Replaces `frame`, an IPv4 packet or a super-frame of such, by frames whose packets have at most `mtu` bytes, appended to
/// `out` with finished checksums; returns how many. On an error nothing is appended and the frame's memory is back in the
/// pool.
pub fn fragment(frame: Frame, mtu: usize, pool: &mut Pool, out: &mut Vec<Frame>) -> Result<u32, DropReason> {
    let mut whole = Vec::new();
    gso::segment(frame, None, pool, &mut whole)?;
    let before = out.len();
    let mut result = Ok(());
    for datagram in whole {
        if result.is_ok() {
            result = fragments_of(&datagram, mtu, pool, out);
        }
        pool.recycle(datagram);
    }
    match result {
        Ok(()) => Ok((out.len() - before) as u32),
        Err(reason) => {
            out.drain(before..).for_each(|piece| pool.recycle(piece));
            Err(reason)
        }
    }
}

fn fragments_of(whole: &Frame, mtu: usize, pool: &mut Pool, out: &mut Vec<Frame>) -> Result<(), DropReason> {
    let bytes = whole.bytes();
    let network = parse(bytes)?.network(bytes).filter(|n| n.version == IpVersion::V4).ok_or(DropReason::MtuExceeded)?;
    let (l3, headers) = (usize::from(network.l3_offset), usize::from(network.l4_offset));
    let field = be16(bytes, l3 + ipv4::FRAGMENT);
    let (offset, payload) = (usize::from(field & ipv4::OFFSET), &bytes[headers..network.end]);
    if offset * UNIT + payload.len() > MAX_PACKET {
        return Err(DropReason::Malformed);
    }
    let size = match network.packet_len() <= mtu {
        true => payload.len().max(1),
        false => mtu.saturating_sub(headers - l3) / UNIT * UNIT,
    };
    if size == 0 || payload.len().div_ceil(size) > MAX_SEGMENTS {
        return Err(DropReason::MtuExceeded);
    }
    let count = payload.len().div_ceil(size).max(1);
    for i in 0..count {
        let part = &payload[i * size..payload.len().min((i + 1) * size)];
        let more = if i + 1 < count { ipv4::MORE_FRAGMENTS } else { 0 };
        let mut piece = pool.alloc();
        piece.set_len(headers + part.len());
        let (head, rest) = piece.bytes_mut().split_at_mut(headers);
        head.copy_from_slice(&bytes[..headers]);
        rest.copy_from_slice(part);
        let header = &mut head[l3..];
        put16(header, ipv4::TOTAL_LEN, (headers - l3 + part.len()) as u16);
        put16(header, ipv4::FRAGMENT, (field | more) + (i * size / UNIT) as u16);
        if i > 0 {
            blank_options(&mut header[ipv4::MIN_HEADER_LEN..]);
        }
        ipv4::fill_checksum(header);
        piece.meta = Meta { csum: ChecksumState::None, gso: None, ..whole.meta };
        out.push(piece);
    }
    Ok(())
}

/// Overwrites the options that are in the first fragment only, so that the header keeps its length. What does not parse
/// is the receiver's to judge.
fn blank_options(mut options: &mut [u8]) {
    loop {
        let len = match *options {
            [] | [ipv4::option::END, ..] => return,
            [ipv4::option::NOP, ..] => 1,
            [_, len, ..] if len >= 2 && usize::from(len) <= options.len() => usize::from(len),
            _ => return,
        };
        let (option, rest) = options.split_at_mut(len);
        if option[0] & ipv4::option::COPIED == 0 {
            option.fill(ipv4::option::NOP);
        }
        options = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Gso;
    use crate::wire::fixtures::{Packet, slow_sum, verified};
    use proptest::prelude::*;

    /// A UDP datagram that may be fragmented.
    fn udp(payload: usize) -> Packet {
        let mut packet = Packet::tcp4(payload).udp();
        packet.ipv4().dont_fragment = false;
        packet
    }

    fn fragments(frame: Frame, mtu: usize) -> Result<Vec<Frame>, DropReason> {
        let (mut pool, mut out) = (Pool::new(1), Vec::new());
        let count = fragment(frame, mtu, &mut pool, &mut out)?;
        assert_eq!(count as usize, out.len());
        Ok(out)
    }

    /// The packet that a receiver puts together, by RFC 791's own words, from frames without tags in any order.
    fn reassembled(frames: &[Frame]) -> Vec<u8> {
        let (mut payload, mut first, mut total) = (vec![], vec![], None);
        for frame in frames {
            let bytes = frame.bytes();
            let header_len = usize::from(bytes[14] & 15) * 4;
            assert_eq!(slow_sum(&bytes[14..14 + header_len]), 0xffff, "header checksum");
            assert_eq!(usize::from(be16(bytes, 16)), bytes.len() - 14, "length");
            let field = be16(bytes, 20);
            let (at, part) = (usize::from(field & 0x1fff) * 8, &bytes[14 + header_len..]);
            if field & 0x2000 == 0 {
                total = Some(at + part.len());
            } else {
                assert_eq!(part.len() % 8, 0);
            }
            payload.resize(payload.len().max(at + part.len()), 0);
            payload[at..at + part.len()].copy_from_slice(part);
            if at == 0 {
                first = bytes[..14 + header_len].to_vec();
            }
        }
        assert_eq!(total, Some(payload.len()));
        let len = (first.len() - 14 + payload.len()) as u16;
        put16(&mut first, 16, len);
        let flags = be16(&first, 20) & 0x8000;
        put16(&mut first, 20, flags);
        ipv4::fill_checksum(&mut first[14..]);
        [first, payload].concat()
    }

    #[test]
    fn a_packet_is_cut_in_units_of_eight_bytes() {
        let pieces = fragments(udp(3000).partial(), 1450).unwrap();
        let seen: Vec<_> = pieces.iter().map(|p| (p.len() - 34, be16(p.bytes(), 20), be16(p.bytes(), 18))).collect();
        // 1450 less 20, rounded down: 1424 of the 3008 bytes each, in units of 8 bytes: 178.
        assert_eq!(seen, [(1424, 0x2000, 0xfff0), (1424, 0x2000 | 178, 0xfff0), (160, 356, 0xfff0)]);
        assert!(pieces.iter().all(|piece| piece.meta == Meta::default()));
        assert_eq!(reassembled(&pieces), udp(3000).bytes(), "the checksum of UDP was finished before");
    }

    #[test]
    fn a_fragment_is_cut_again() {
        let pieces = fragments(udp(3000).frame(), 1450).unwrap();
        let again: Vec<Frame> = pieces.into_iter().rev().flat_map(|piece| fragments(piece, 576).unwrap()).collect();
        assert_eq!(again.len(), 3 + 3 + 1);
        assert_eq!(reassembled(&again), udp(3000).bytes());
    }

    #[test]
    fn options_that_are_not_copied_are_in_the_first_fragment_only() {
        let mut packet = udp(1000);
        // Record route (7) is not copied, router alert (148) is.
        packet.ipv4().options = [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 0].into();
        let pieces = fragments(packet.frame(), 600).unwrap();
        assert_eq!(pieces[0].bytes()[34..46], [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0, 0]);
        assert_eq!(pieces[1].bytes()[34..46], [1, 1, 1, 1, 1, 1, 1, 148, 4, 0, 0, 0]);
        assert_eq!(reassembled(&pieces), packet.bytes());
        for broken in [[7, 200, 4, 0], [7, 0, 4, 0], [1, 1, 1, 7]] {
            packet.ipv4().options = broken.into();
            let pieces = fragments(packet.frame(), 600).unwrap();
            assert_eq!(pieces[1].bytes()[34..38], broken, "left as it was");
        }
    }

    #[test]
    fn datagrams_of_a_super_frame_are_cut_each_for_itself() {
        let frame = udp(3500).super_frame(1500);
        let pieces = fragments(frame, 1450).unwrap();
        let lengths: Vec<_> = pieces.iter().map(|piece| piece.len() - 34).collect();
        assert_eq!(lengths, [1424, 84, 1424, 84, 508]);
        let mut first = udp(1500);
        first.payload.copy_from_slice(&udp(3500).payload[..1500]);
        assert_eq!(reassembled(&pieces[..2]), first.bytes());
        verified(pieces[4].bytes());
    }

    #[test]
    fn tags_stay_and_padding_goes() {
        let mut frame = udp(1000).tagged(7).frame();
        let len = frame.len() + 60;
        frame.set_len(len);
        let pieces = fragments(frame, 1020).unwrap();
        assert_eq!(pieces.iter().map(|piece| piece.len()).collect::<Vec<_>>(), [18 + 20 + 1000, 18 + 20 + 8]);
        assert!(pieces.iter().all(|piece| piece.bytes()[..18] == udp(0).tagged(7).bytes()[..18]));
    }

    #[test]
    fn what_cannot_be_cut_gives_its_memory_back() {
        let forged = |field: u16| {
            let mut frame = udp(3000).frame();
            put16(frame.bytes_mut(), 20, field);
            frame
        };
        for (frame, mtu, reason) in [
            (udp(3000).frame(), 27, DropReason::MtuExceeded),
            (udp(3000).frame(), 0, DropReason::MtuExceeded),
            (udp(9000).frame(), 28, DropReason::MtuExceeded),
            (Packet::tcp6(3000).udp().frame(), 1280, DropReason::MtuExceeded),
            (Frame::from_bytes(&[0x88; 2000]), 1450, DropReason::MtuExceeded),
            (forged(8000), 1450, DropReason::Malformed),
            (forged(0x3fff), 1450, DropReason::Malformed),
        ] {
            let (mut pool, mut out) = (Pool::new(4), vec![]);
            let mut own = pool.alloc();
            own.set_len(frame.len());
            own.bytes_mut().copy_from_slice(frame.bytes());
            assert_eq!(fragment(own, mtu, &mut pool, &mut out), Err(reason));
            assert_eq!((pool.spare(), out.len()), (1, 0));
        }
    }

    proptest! {
        #[test]
        fn the_receiver_puts_together_what_was_sent(
            len in 0usize..9000, mtu in 68usize..2000, again in 68usize..1000, options in 0usize..4,
        ) {
            let mut packet = udp(len);
            packet.ipv4().options = [[1u8; 0].as_slice(), &[1; 4], &[1; 8], &[1; 12]][options].try_into().unwrap();
            let once = fragments(packet.partial(), mtu).unwrap();
            prop_assert!(once.iter().all(|piece| piece.len() <= 14 + mtu));
            let twice: Vec<Frame> = once.into_iter().flat_map(|piece| fragments(piece, again).unwrap()).collect();
            prop_assert!(twice.iter().all(|piece| piece.len() <= 14 + again));
            prop_assert_eq!(reassembled(&twice), packet.bytes());
        }

        #[test]
        fn no_bytes_make_it_panic(
            mut bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..300), (0usize..2000).prop_map(|n| udp(n).bytes())],
            damage in prop::collection::vec((0usize..40, any::<u8>()), 0..4),
            mtu in 0usize..1600,
            gso in prop::option::of((any::<u16>(), any::<u16>())),
        ) {
            for (at, value) in damage {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            let mut frame = Frame::from_bytes(&bytes);
            frame.meta.gso =
                gso.map(|(size, header_len)| Gso { kind: crate::packet::GsoKind::Udp, size, header_len, ecn: false });
            if let Ok(pieces) = fragments(frame, mtu) {
                prop_assert!(pieces.iter().all(|piece| piece.len() <= bytes.len()));
            }
        }
    }
}
