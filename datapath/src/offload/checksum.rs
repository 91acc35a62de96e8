//! Finishing checksums that a sender on this host left to its device.

use crate::packet::{ChecksumState, Frame};
use crate::switch::verdict::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::parse::{Headers, Network};
use crate::wire::{be16, put16, tcp, udp};

/// Finishes the checksum of a frame that is [`ChecksumState::Partial`]; any other frame is left alone.
///
/// A super-frame has no checksum of its own and is refused as [`DropReason::Unsegmentable`]; offsets that point outside
/// the frame, which only a broken sender gives, as [`DropReason::Malformed`].
#[inline]
pub fn finish(frame: &mut Frame) -> Result<(), DropReason> {
    match frame.meta.csum {
        ChecksumState::Partial { start, offset } => finish_from(frame, start, offset),
        ChecksumState::None | ChecksumState::Valid => Ok(()),
    }
}

fn finish_from(frame: &mut Frame, start: u16, offset: u16) -> Result<(), DropReason> {
    if frame.meta.gso.is_some() {
        return Err(DropReason::Unsegmentable);
    }
    let covered = frame.bytes_mut().get_mut(usize::from(start)..).ok_or(DropReason::Malformed)?;
    let field = usize::from(offset);
    if field + 2 > covered.len() {
        return Err(DropReason::Malformed);
    }
    let mut sum = Sum::of(covered).complement();
    if field == udp::CHECKSUM {
        sum = nonzero(sum);
    }
    put16(covered, field, sum);
    frame.meta.csum = ChecksumState::None;
    Ok(())
}

/// A UDP checksum as it is sent: zero would mean that there is none, so its other representation is (RFC 768).
pub(super) const fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// Where the checksum field of a TCP or UDP header is, from the start of that header.
pub(super) const fn field_offset(proto: u8) -> Option<u16> {
    match proto {
        tcp::PROTOCOL => Some(tcp::CHECKSUM as u16),
        udp::PROTOCOL => Some(udp::CHECKSUM as u16),
        _ => None,
    }
}

/// Whether a frame from a tunnel has an unfinished checksum: a kernel tunnel device on the same machine, with no real
/// network card in between, sends the field with just the pseudo-header's sum in it.
///
/// A finished checksum can look the same by chance; finishing it again then gives the same value.
#[inline]
#[must_use]
pub fn looks_partial(inner: &[u8], headers: &Headers) -> bool {
    headers.network(inner).is_some_and(|network| partial_state(inner, &network).is_some())
}

/// The state of a frame that [`looks_partial`].
#[inline(always)] // A call would have the network written to memory and read back in other pieces.
pub(super) fn partial_state(inner: &[u8], network: &Network) -> Option<ChecksumState> {
    let offset = field_offset(network.proto).filter(|_| !network.routed)?;
    network.header_len(inner)?;
    let l4 = usize::from(network.l4_offset);
    let len = u16::try_from(network.end - l4).ok()?;
    let pseudo = network.pseudo_header(inner).word(len).fold();
    (be16(inner, l4 + usize::from(offset)) == pseudo)
        .then_some(ChecksumState::Partial { start: network.l4_offset, offset })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixtures::{Packet, slow_sum, verified};
    use crate::wire::parse::parse;

    fn looks(frame: &Frame) -> bool {
        looks_partial(frame.bytes(), &parse(frame.bytes()).unwrap())
    }

    #[test]
    fn finishing_gives_what_the_sender_would_have_sent() {
        for packet in [Packet::tcp4(99), Packet::tcp6(100).tagged(3), Packet::tcp4(1).udp(), Packet::tcp6(0).udp()] {
            let mut frame = packet.partial();
            assert!(looks(&frame) && !looks(&packet.frame()));
            finish(&mut frame).unwrap();
            assert_eq!(frame.bytes(), packet.bytes());
            assert_eq!(frame.meta.csum, ChecksumState::None);
            verified(frame.bytes());
        }
    }

    #[test]
    fn other_states_are_left_alone() {
        for state in [ChecksumState::None, ChecksumState::Valid] {
            let mut frame = Packet::tcp4(9).partial();
            let before = frame.bytes().to_vec();
            frame.meta.csum = state;
            finish(&mut frame).unwrap();
            assert_eq!((frame.bytes(), frame.meta.csum), (&before[..], state));
        }
    }

    #[test]
    fn a_sum_of_zero_is_sent_as_its_other_representation() {
        let mut packet = Packet::tcp4(2).udp();
        packet.payload = vec![0, 0];
        let checksum = packet.bytes()[40..42].to_vec();
        packet.payload = checksum;
        let mut frame = packet.partial();
        finish(&mut frame).unwrap();
        assert_eq!(frame.bytes()[40..42], [0xff, 0xff]);
        verified(frame.bytes());
    }

    #[test]
    fn offsets_outside_the_frame_and_super_frames_are_refused() {
        for (start, offset) in [(0, 58), (59, 0), (60, 0), (61, 0), (u16::MAX, u16::MAX)] {
            let mut frame = Frame::from_bytes(&[1; 60]);
            frame.meta.csum = ChecksumState::Partial { start, offset };
            let expected = if (start, offset) == (0, 58) { Ok(()) } else { Err(DropReason::Malformed) };
            assert_eq!(finish(&mut frame), expected, "{start} + {offset}");
        }
        assert_eq!(finish(&mut Packet::tcp4(3000).super_frame(1448)), Err(DropReason::Unsegmentable));
    }

    #[test]
    fn a_fragment_or_a_routed_packet_never_looks_partial() {
        let mut fragment = Packet::tcp4(30).partial();
        assert!(looks(&fragment));
        fragment.bytes_mut()[20] |= 0x20;
        assert!(!looks(&fragment));

        let mut bytes = Packet::tcp6(30).partial().bytes().to_vec();
        bytes.splice(54..54, [6, 0, 4, 0, 0, 0, 0, 0]);
        bytes[20] = 43;
        bytes[19] += 8;
        let mut routed = Frame::from_bytes(&bytes);
        assert!(looks(&routed), "the last hop is reached");
        routed.bytes_mut()[54 + 3] = 1;
        assert!(!looks(&routed));
    }

    #[test]
    fn looking_partial_by_chance_does_no_harm() {
        let mut packet = Packet::tcp4(2);
        packet.payload = vec![0, 0];
        let field = packet.l4() + 16;
        let [finished, unfinished] = [packet.frame(), packet.partial()].map(|f| be16(f.bytes(), field));
        // With this payload the finished checksum is the pseudo-header's sum.
        packet.payload =
            slow_sum(&[(!unfinished).to_be_bytes(), finished.to_be_bytes()].concat()).to_be_bytes().to_vec();
        let mut frame = packet.frame();
        assert_eq!(be16(frame.bytes(), field), unfinished);
        assert!(looks(&frame));
        frame.meta.csum = ChecksumState::Partial { start: packet.l4() as u16, offset: 16 };
        finish(&mut frame).unwrap();
        assert_eq!(frame.bytes(), packet.bytes());
    }
}
