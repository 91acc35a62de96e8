//! Bytes on the wire: where fields are and what they mean, one header a file. Knows only [`crate::types`] and the
//! reasons for a drop.
//!
//! [`parse`] looks at a frame once and says where its headers are; everything after it may rely on those offsets.
//! An attacker may send any bytes: only `parse` meets them unchecked, and it never reads past their end.

pub mod arp;
pub mod checksum;
pub mod ethernet;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod geneve;
pub mod gre;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod parse;
pub mod plain;
pub mod tcp;
pub mod udp;
pub mod vlan;
pub mod vxlan;

/// The header of a tunnel, as read from a received packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TunnelHeader {
    /// Whose frame follows.
    pub key: crate::types::TunnelKey,
    /// Bytes before that frame.
    pub len: usize,
}

/// The bytes are too short for the headers that they announce.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

/// The two bytes at `at`, whose presence the caller has checked, as a number.
#[inline]
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// The four bytes at `at`, whose presence the caller has checked, as a number.
#[inline]
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Stores `value` at `at`, whose presence the caller has checked.
#[inline]
pub(crate) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Stores `value` at `at`, whose presence the caller has checked.
#[inline]
pub(crate) fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}
