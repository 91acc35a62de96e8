//! IPv6 (RFC 8200): offsets of fields from the start of the header, and the extension headers before layer 4.

/// Bytes of the fixed header.
pub const HEADER_LEN: usize = 40;
/// Bytes after the fixed header, extension headers included.
pub const PAYLOAD_LEN: usize = 4;
/// What comes after the fixed header.
pub const NEXT_HEADER: usize = 6;
/// Hops that it may still make.
pub const HOP_LIMIT: usize = 7;
/// Source address; the destination follows.
pub const SOURCE: usize = 8;
/// Bytes of one address.
pub const ADDRESS_LEN: usize = 16;

/// Extension header: options for every hop.
pub const HOP_BY_HOP: u8 = 0;
/// Extension header: routing.
pub const ROUTING: u8 = 43;
/// Extension header: fragment, always 8 bytes.
pub const FRAGMENT: u8 = 44;
/// Extension header: options for the destination.
pub const DESTINATION: u8 = 60;

/// Whether a protocol number is that of an extension header before layer 4.
#[must_use]
pub const fn is_extension(proto: u8) -> bool {
    matches!(proto, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
}

/// In a routing header: hops that are still to come.
pub const SEGMENTS_LEFT: usize = 3;
/// In a fragment header: offset in units of 8 bytes in the upper 13 bits.
pub const OFFSET: usize = 2;
/// What the payload of an IP packet is called that is such a packet (RFC 4213).
pub const IN_IP: u8 = 41;
