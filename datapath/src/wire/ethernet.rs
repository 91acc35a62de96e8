//! Ethernet II (IEEE 802.3 §3.1.1): destination, source, type.

use super::put16;
use crate::types::MacAddr;

/// Bytes of a header without tags.
pub const HEADER_LEN: usize = 14;
/// Where the source address is, after the destination.
pub const SOURCE: usize = 6;
/// Where the type is, or the first tag's TPID.
pub const ETHERTYPE: usize = 12;

/// IPv4 (RFC 894).
pub const IPV4: u16 = 0x0800;
/// ARP (RFC 826).
pub const ARP: u16 = 0x0806;
/// IPv6 (RFC 2464).
pub const IPV6: u16 = 0x86dd;
/// A whole Ethernet frame, in a tunnel whose header says what it carries (transparent Ethernet bridging, RFC 1701).
pub const BRIDGED: u16 = 0x6558;

/// Writes a header without tags to the front of `frame`, which is long enough.
pub fn write(frame: &mut [u8], dst: MacAddr, src: MacAddr, ethertype: u16) {
    write_addresses(frame, dst, src);
    put16(frame, ETHERTYPE, ethertype);
}

/// Writes the addresses of a frame that has a header.
pub fn write_addresses(frame: &mut [u8], dst: MacAddr, src: MacAddr) {
    frame[..SOURCE].copy_from_slice(&dst.0);
    frame[SOURCE..ETHERTYPE].copy_from_slice(&src.0);
}
