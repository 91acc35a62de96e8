//! Geneve (RFC 8926 §3.4): eight bytes and options between the UDP header and the inner Ethernet frame.
//!
//! We send no options and know none: those that a receiver may ignore are skipped, a packet with one that it must not
//! ignore is refused.

use super::{TunnelHeader, be16, be32, ethernet};
use crate::switch::verdict::DropReason;
use crate::types::TunnelKey;

/// Bytes of a header without options.
pub const HEADER_LEN: usize = 8;
/// UDP port (§3.3).
pub const PORT: u16 = 6081;

/// In the first byte: the version, of which there is 0.
const VERSION: u8 = 0xc0;
/// In the first byte: the length of the options in units of 4 bytes.
const OPTIONS_LEN: u8 = 0x3f;
/// In the second byte: a control message for the tunnel's end, which must not be forwarded.
const CONTROL: u8 = 0x80;
/// In the second byte: there are options that must be understood.
const CRITICAL: u8 = 0x40;
/// What the payload is, as an Ethernet type.
const PROTOCOL: usize = 2;

/// The header for a frame of the network `vni`, of which 24 bits count.
#[must_use]
pub fn header(vni: TunnelKey) -> [u8; HEADER_LEN] {
    let ([p0, p1], [_, a, b, c]) = (ethernet::BRIDGED.to_be_bytes(), vni.0.to_be_bytes());
    [0, 0, p0, p1, a, b, c, 0]
}

/// Reads the header of a datagram.
#[inline]
pub fn parse(datagram: &[u8]) -> Result<TunnelHeader, DropReason> {
    if datagram.len() < HEADER_LEN || datagram[0] & VERSION != 0 {
        return Err(DropReason::TunnelMalformed);
    }
    let len = HEADER_LEN + usize::from(datagram[0] & OPTIONS_LEN) * 4;
    if datagram.len() < len {
        return Err(DropReason::TunnelMalformed);
    }
    if datagram[1] & CRITICAL != 0 {
        return Err(DropReason::TunnelOption);
    }
    if datagram[1] & CONTROL != 0 || be16(datagram, PROTOCOL) != ethernet::BRIDGED {
        return Err(DropReason::TunnelPayload);
    }
    Ok(TunnelHeader { key: TunnelKey(be32(datagram, 4) >> 8), len })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_that_of_the_rfc() {
        assert_eq!(header(TunnelKey(0x12_3456)), [0, 0, 0x65, 0x58, 0x12, 0x34, 0x56, 0]);
        let read = TunnelHeader { key: TunnelKey(0x12_3456), len: 8 };
        assert_eq!(parse(&[0, 0, 0x65, 0x58, 0x12, 0x34, 0x56, 0xff, 1]), Ok(read));
    }

    #[test]
    fn options_are_skipped_unless_they_must_be_understood() {
        // One option of class 0x0102, type 1, with 4 bytes of data.
        let mut with_option = [2, 0, 0x65, 0x58, 0, 0, 7, 0, 1, 2, 1, 1, 9, 9, 9, 9];
        assert_eq!(parse(&with_option), Ok(TunnelHeader { key: TunnelKey(7), len: 16 }));
        assert_eq!(parse(&with_option[..15]), Err(DropReason::TunnelMalformed), "options past the end");
        // The critical bits of the header and of the option's type.
        (with_option[1], with_option[10]) = (0x40, 0x81);
        assert_eq!(parse(&with_option), Err(DropReason::TunnelOption));
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for (datagram, reason) in [
            (&[0, 0, 0x65, 0x58, 0, 0, 7][..], DropReason::TunnelMalformed),
            (&[0x40, 0, 0x65, 0x58, 0, 0, 7, 0], DropReason::TunnelMalformed),
            (&[0, 0x80, 0x65, 0x58, 0, 0, 7, 0], DropReason::TunnelPayload),
            (&[0, 0, 0x08, 0x00, 0, 0, 7, 0], DropReason::TunnelPayload),
        ] {
            assert_eq!(parse(datagram), Err(reason), "{datagram:?}");
        }
    }
}
