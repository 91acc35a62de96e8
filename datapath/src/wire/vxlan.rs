//! VXLAN (RFC 7348 §5): eight bytes between the UDP header and the inner Ethernet frame.

use super::{TunnelHeader, be32};
use crate::switch::verdict::DropReason;
use crate::types::TunnelKey;

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;
/// UDP port (§8.1).
pub const PORT: u16 = 4789;
/// In the first byte: the VNI is valid.
const VNI_VALID: u8 = 0x08;

/// The header for a frame of the network `vni`, of which 24 bits count; reserved fields are zero.
#[inline]
#[must_use]
pub const fn header(vni: TunnelKey) -> [u8; HEADER_LEN] {
    // One word, as a store of bytes one by one would be waited for by whoever reads them.
    ((VNI_VALID as u64) << 56 | ((vni.0 & 0x00ff_ffff) as u64) << 8).to_be_bytes()
}

/// Reads the header of a datagram. Reserved fields are ignored, as §5 asks.
#[inline]
pub fn parse(datagram: &[u8]) -> Result<TunnelHeader, DropReason> {
    if datagram.len() < HEADER_LEN || datagram[0] & VNI_VALID == 0 {
        return Err(DropReason::TunnelMalformed);
    }
    Ok(TunnelHeader { key: TunnelKey(be32(datagram, 4) >> 8), len: HEADER_LEN })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_that_of_the_rfc() {
        assert_eq!(header(TunnelKey(0x12_3456)), [8, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
    }

    #[test]
    fn reserved_fields_are_ignored_and_a_missing_vni_is_refused() {
        let header = TunnelHeader { key: TunnelKey(5000), len: 8 };
        assert_eq!(parse(&[0xff, 1, 2, 3, 0, 0x13, 0x88, 0xee, 9]), Ok(header));
        assert_eq!(parse(&[0xf7, 0, 0, 0, 0, 0x13, 0x88, 0]), Err(DropReason::TunnelMalformed));
        assert_eq!(parse(&[8, 0, 0, 0, 0, 0x13, 0x88]), Err(DropReason::TunnelMalformed));
    }
}
