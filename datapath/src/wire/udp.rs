//! UDP (RFC 768): offsets of fields from the start of the header.

/// IP protocol number.
pub const PROTOCOL: u8 = 17;
/// Bytes of a header.
pub const HEADER_LEN: usize = 8;
/// Bytes of header and payload.
pub const LENGTH: usize = 4;
/// Checksum; 0 over IPv4: none.
pub const CHECKSUM: usize = 6;
/// The largest payload over IPv4, and a little less than the largest over IPv6.
pub const MAX_PAYLOAD: usize = 65_507;
