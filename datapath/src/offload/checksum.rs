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
pub fn finish(frame: &mut Frame) -> Result<(), DropReason> {
    let ChecksumState::Partial { start, offset } = frame.meta.csum else { return Ok(()) };
    if frame.meta.gso.is_some() {
        return Err(DropReason::Unsegmentable);
    }
    let covered = frame.bytes_mut().get_mut(usize::from(start)..).ok_or(DropReason::Malformed)?;
    let field = usize::from(offset);
    if field + 2 > covered.len() {
        return Err(DropReason::Malformed);
    }
    let sum = Sum::of(covered).complement();
    put16(covered, field, nonzero(sum));
    frame.meta.csum = ChecksumState::None;
    Ok(())
}

/// Zero means "no checksum" to UDP; its other representation is as good to TCP too (RFC 768).
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
#[must_use]
pub fn looks_partial(inner: &[u8], headers: &Headers) -> bool {
    headers.network(inner).is_some_and(|network| partial_state(inner, &network).is_some())
}

/// The state of a frame that [`looks_partial`].
pub(super) fn partial_state(inner: &[u8], network: &Network) -> Option<ChecksumState> {
    let offset = field_offset(network.proto).filter(|_| !network.routed)?;
    network.header_len(inner)?;
    let l4 = usize::from(network.l4_offset);
    let len = u16::try_from(network.end - l4).ok()?;
    let pseudo = network.pseudo_header(inner).word(len).fold();
    (be16(inner, l4 + usize::from(offset)) == pseudo)
        .then_some(ChecksumState::Partial { start: network.l4_offset, offset })
}
