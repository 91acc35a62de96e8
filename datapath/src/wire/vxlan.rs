//! VXLAN (RFC 7348 §5): eight bytes between the UDP header and the inner Ethernet frame.

use super::be32;
use crate::types::Vni;

/// Bytes of a header.
pub const HEADER_LEN: usize = 8;
/// In the first byte: the VNI is valid.
const VNI_VALID: u8 = 0x08;

/// The header for a frame of `vni`; reserved fields are zero.
#[must_use]
pub fn header(vni: Vni) -> [u8; HEADER_LEN] {
    let [_, a, b, c] = vni.get().to_be_bytes();
    [VNI_VALID, 0, 0, 0, a, b, c, 0]
}

/// The VNI of a datagram; `None` when it is too short or has none. Reserved fields are ignored, as §5 asks.
#[inline]
#[must_use]
pub fn vni(datagram: &[u8]) -> Option<Vni> {
    if datagram.len() < HEADER_LEN || datagram[0] & VNI_VALID == 0 {
        return None;
    }
    Vni::new(be32(datagram, 4) >> 8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_that_of_the_rfc() {
        assert_eq!(header(Vni::new(0x12_3456).unwrap()), [8, 0, 0, 0, 0x12, 0x34, 0x56, 0]);
    }

    #[test]
    fn reserved_fields_are_ignored_and_a_missing_vni_is_refused() {
        assert_eq!(vni(&[0xff, 1, 2, 3, 0, 0x13, 0x88, 0xee, 9]), Vni::new(5000));
        assert_eq!(vni(&[0xf7, 0, 0, 0, 0, 0x13, 0x88, 0]), None);
        assert_eq!(vni(&[8, 0, 0, 0, 0, 0x13, 0x88]), None);
    }
}
