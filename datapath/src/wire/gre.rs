//! GRE (RFC 2784, RFC 2890): four to sixteen bytes between the IP header and, in transparent Ethernet bridging, the
//! inner Ethernet frame.
//!
//! A checksum, which covers all that follows the IP header, is verified. Sequence numbers are read over: a bridge has no
//! more use for them than for those of any other link.

use super::checksum::Sum;
use super::{TunnelHeader, be16, be32, ethernet, put16, put32};
use crate::switch::verdict::DropReason;
use crate::types::TunnelKey;

/// IP protocol number.
pub const PROTOCOL: u8 = 47;
/// Bytes of flags, version and protocol type.
pub const BASE_LEN: usize = 4;
/// Bytes of the checksum and its padding, of the key, and of the sequence number.
pub const FIELD_LEN: usize = 4;

/// A checksum field follows.
const CHECKSUM: u16 = 0x8000;
/// A key follows.
const KEY: u16 = 0x2000;
/// A sequence number follows.
const SEQUENCE: u16 = 0x1000;
/// Bits that a receiver must not ignore (RFC 2784 §2.3): routing, as in RFC 1701, and the version, of which there is 0.
const FORBIDDEN: u16 = 0x4c07;
/// Where the checksum is, if there is one.
const CHECKSUM_AT: usize = BASE_LEN;

/// Bytes of a header that we send: with a key field unless the key is 0, and room for a checksum if there is to be one.
#[must_use]
pub const fn header_len(key: TunnelKey, checksum: bool) -> usize {
    BASE_LEN + if checksum { FIELD_LEN } else { 0 } + if key.0 != 0 { FIELD_LEN } else { 0 }
}

/// Bytes of a header that may stand as it is before every piece of its payload: it has no checksum over that, and no sequence
/// number.
#[must_use]
pub fn repeatable_len(packet: &[u8]) -> Option<usize> {
    if packet.len() < BASE_LEN {
        return None;
    }
    match be16(packet, 0) {
        0 => Some(BASE_LEN),
        KEY => Some(BASE_LEN + FIELD_LEN),
        _ => None,
    }
}

/// Writes the header to the first [`header_len`] bytes of `packet`, whose payload is in its place: a checksum covers it.
pub fn write_header(packet: &mut [u8], key: TunnelKey, checksum: bool) {
    let len = header_len(key, checksum);
    put16(packet, 0, if checksum { CHECKSUM } else { 0 } | if key.0 != 0 { KEY } else { 0 });
    put16(packet, 2, ethernet::BRIDGED);
    if key.0 != 0 {
        put32(packet, len - FIELD_LEN, key.0);
    }
    if checksum {
        put32(packet, CHECKSUM_AT, 0);
        fill_checksum(packet);
    }
}

/// Stores the checksum of `packet`, header and payload, whose header has room for it.
fn fill_checksum(packet: &mut [u8]) {
    put16(packet, CHECKSUM_AT, 0);
    let sum = Sum::of(packet).complement();
    put16(packet, CHECKSUM_AT, sum);
}

/// Reads the header of a packet and verifies its checksum, if it has one.
#[inline]
pub fn parse(packet: &[u8]) -> Result<TunnelHeader, DropReason> {
    if packet.len() < BASE_LEN || be16(packet, 0) & FORBIDDEN != 0 {
        return Err(DropReason::TunnelMalformed);
    }
    let flags = be16(packet, 0);
    let mut len = BASE_LEN;
    let mut field = |flag| {
        let at = len;
        len += if flags & flag != 0 { FIELD_LEN } else { 0 };
        (len > at).then_some(at)
    };
    let (checksum, key, _) = (field(CHECKSUM), field(KEY), field(SEQUENCE));
    if packet.len() < len {
        return Err(DropReason::TunnelMalformed);
    }
    if checksum.is_some() && !Sum::of(packet).verifies() {
        return Err(DropReason::TunnelChecksum);
    }
    if be16(packet, 2) != ethernet::BRIDGED {
        return Err(DropReason::TunnelPayload);
    }
    Ok(TunnelHeader { key: TunnelKey(key.map_or(0, |at| be32(packet, at))), len })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(packet: &[u8]) -> Result<(u32, usize), DropReason> {
        parse(packet).map(|header| (header.key.0, header.len))
    }

    #[test]
    fn the_headers_are_those_of_the_rfcs() {
        let sent = |key, checksum| {
            let mut packet = vec![0xee; header_len(TunnelKey(key), checksum)];
            write_header(&mut packet, TunnelKey(key), checksum);
            packet
        };
        assert_eq!(sent(0, false), [0, 0, 0x65, 0x58]);
        assert_eq!(sent(0x0102_0304, false), [0x20, 0, 0x65, 0x58, 1, 2, 3, 4]);
        assert_eq!(sent(0, true), [0x80, 0, 0x65, 0x58, 0x1a, 0xa7, 0, 0]);
        assert_eq!(sent(0xffff_ffff, true), [0xa0, 0, 0x65, 0x58, 0xfa, 0xa6, 0, 0, 255, 255, 255, 255]);
    }

    #[test]
    fn a_checksum_covers_header_and_payload() {
        let mut packet = [0xa0, 0, 0x65, 0x58, 0xee, 0xee, 0, 0, 0, 0, 0, 9, 0x12, 0x34, 0x56];
        fill_checksum(&mut packet);
        // ~(a000 + 6558 + 0009 + 1234 + 5600), carry added back.
        assert_eq!(packet[4..6], [0x92, 0x69]);
        assert_eq!(read(&packet), Ok((9, 12)));
        for at in [2, 4, 11, 14] {
            let mut damaged = packet;
            damaged[at] ^= 0x10;
            assert_eq!(read(&damaged), Err(DropReason::TunnelChecksum), "byte {at}");
        }
    }

    #[test]
    fn fields_come_in_their_order() {
        assert_eq!(read(&[0, 0, 0x65, 0x58]), Ok((0, 4)));
        assert_eq!(read(&[0x10, 0, 0x65, 0x58, 9, 9, 9, 9]), Ok((0, 8)));
        assert_eq!(read(&[0x30, 0, 0x65, 0x58, 0, 0, 0, 7, 9, 9, 9, 9]), Ok((7, 12)));
        let mut all = [0xb0, 0, 0x65, 0x58, 0, 0, 0, 0, 0, 0, 0, 7, 9, 9, 9, 9];
        fill_checksum(&mut all);
        assert_eq!(read(&all), Ok((7, 16)));
    }

    #[test]
    fn what_cannot_be_a_frame_is_refused() {
        for (packet, reason) in [
            (&[0, 0, 0x65][..], DropReason::TunnelMalformed),
            (&[0x20, 0, 0x65, 0x58, 0, 0, 7], DropReason::TunnelMalformed),
            (&[0x40, 0, 0x65, 0x58, 0, 0, 0, 0], DropReason::TunnelMalformed),
            (&[0, 1, 0x65, 0x58], DropReason::TunnelMalformed),
            (&[0, 0, 0x08, 0x00, 0x45], DropReason::TunnelPayload),
        ] {
            assert_eq!(read(packet), Err(reason), "{packet:?}");
        }
    }
}
