//! Ethernet II (IEEE 802.3 §3.1.1): destination, source, type.

/// Bytes of a header without tags.
pub const HEADER_LEN: usize = 14;
/// Where the type is, or the first tag's TPID.
pub const ETHERTYPE: usize = 12;

/// IPv4 (RFC 894).
pub const IPV4: u16 = 0x0800;
/// IPv6 (RFC 2464).
pub const IPV6: u16 = 0x86dd;
/// A whole Ethernet frame, in a tunnel whose header says what it carries (transparent Ethernet bridging, RFC 1701).
pub const BRIDGED: u16 = 0x6558;
