//! Bytes → where the headers are, once per frame.
//!
//! [`parse`] reads the Ethernet header and its tags: all that a bridge needs. [`Headers::network`] goes on to IP and
//! finds layer 4, for those who segment, coalesce, encapsulate or finish checksums; it answers only for a packet whose
//! lengths agree with each other and with the frame, so its offsets may be relied on. A frame that is no such packet is
//! still forwarded as it is: what does not concern a bridge does not make a frame malformed.
//!
//! An attacker may stack tags and extension headers: both are counted up to a limit, past which the frame is opaque.

use super::checksum::Sum;
use super::vlan::{self, Tag};
use super::{Malformed, be16, be32, ethernet, ipv4, ipv6, tcp, udp};
use crate::types::MacAddr;

/// Tags that are looked through.
const MAX_TAGS: u8 = 4;
/// IPv6 extension headers that are looked through.
const MAX_EXTENSIONS: u8 = 8;

/// The Ethernet side of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Headers {
    /// Destination address.
    pub dst: MacAddr,
    /// Source address.
    pub src: MacAddr,
    /// The outermost tag.
    pub vlan: Option<Tag>,
    /// Tags after the outermost one.
    pub inner_vlans: u8,
    /// Ethernet type after the tags; below 0x600 an 802.3 length.
    pub ethertype: u16,
    /// Where layer 3 begins, in bytes from the start of the frame.
    pub l3_offset: u16,
}

/// Which IP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// The IP packet in a frame. All offsets are bytes from the start of the frame and inside it, in the order
/// `l3_offset < l4_offset <= end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network {
    /// Which IP.
    pub version: IpVersion,
    /// Where the IP header begins.
    pub l3_offset: u16,
    /// Where layer 4 begins, after IPv4 options or IPv6 extension headers.
    pub l4_offset: u16,
    /// Where the packet ends by its own length; padding may follow.
    pub end: usize,
    /// What layer 4 is (IANA protocol number); that of an extension header which could not be looked through.
    pub proto: u8,
    /// One fragment of several, or an IPv6 packet with a fragment header: layer 4 is not all here.
    pub fragment: bool,
    /// Routers may not fragment it: DF, or IPv6.
    pub dont_fragment: bool,
    /// An IPv6 routing header has hops to go: checksums cover another destination than the header's.
    pub routed: bool,
}

/// Reads the Ethernet header and tags.
#[inline]
pub fn parse(bytes: &[u8]) -> Result<Headers, Malformed> {
    let head: &[u8; ethernet::HEADER_LEN] = bytes.first_chunk().ok_or(Malformed)?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *head;
    let mut headers = Headers {
        dst: MacAddr([d0, d1, d2, d3, d4, d5]),
        src: MacAddr([s0, s1, s2, s3, s4, s5]),
        vlan: None,
        inner_vlans: 0,
        ethertype: u16::from_be_bytes([t0, t1]),
        l3_offset: 14,
    };
    while vlan::is_tpid(headers.ethertype) && headers.inner_vlans < MAX_TAGS {
        let at = usize::from(headers.l3_offset);
        let tag = bytes.get(at..at + vlan::TAG_LEN).ok_or(Malformed)?;
        if headers.vlan.is_some() {
            headers.inner_vlans += 1;
        } else {
            headers.vlan = Some(Tag { tpid: headers.ethertype, tci: be16(tag, 0) });
        }
        headers.ethertype = be16(tag, 2);
        headers.l3_offset += 4;
    }
    Ok(headers)
}

impl Headers {
    /// The IP packet of the frame that these headers were read from; `None` when it holds none, or one whose headers
    /// contradict each other.
    #[must_use]
    pub fn network(&self, bytes: &[u8]) -> Option<Network> {
        let packet = bytes.get(usize::from(self.l3_offset)..)?;
        match self.ethertype {
            ethernet::IPV4 => ipv4_network(packet, self.l3_offset),
            ethernet::IPV6 => ipv6_network(packet, self.l3_offset),
            _ => None,
        }
    }
}

fn ipv4_network(packet: &[u8], l3_offset: u16) -> Option<Network> {
    let header: &[u8; ipv4::MIN_HEADER_LEN] = packet.first_chunk()?;
    let header_len = usize::from(header[0] & 0x0f) * 4;
    let total_len = usize::from(be16(header, ipv4::TOTAL_LEN));
    if header[0] >> 4 != 4 || header_len < ipv4::MIN_HEADER_LEN || total_len < header_len || total_len > packet.len() {
        return None;
    }
    let fragment = be16(header, ipv4::FRAGMENT);
    Some(Network {
        version: IpVersion::V4,
        l3_offset,
        l4_offset: l3_offset + u16::try_from(header_len).ok()?,
        end: usize::from(l3_offset) + total_len,
        proto: header[ipv4::PROTOCOL],
        fragment: fragment & (ipv4::MORE_FRAGMENTS | ipv4::OFFSET) != 0,
        dont_fragment: fragment & ipv4::DONT_FRAGMENT != 0,
        routed: false,
    })
}

fn ipv6_network(packet: &[u8], l3_offset: u16) -> Option<Network> {
    let header: &[u8; ipv6::HEADER_LEN] = packet.first_chunk()?;
    let total_len = ipv6::HEADER_LEN + usize::from(be16(header, ipv6::PAYLOAD_LEN));
    if header[0] >> 4 != 6 || total_len > packet.len() {
        return None;
    }
    let mut network = Network {
        version: IpVersion::V6,
        l3_offset,
        l4_offset: 0,
        end: usize::from(l3_offset) + total_len,
        proto: header[ipv6::NEXT_HEADER],
        fragment: false,
        dont_fragment: true,
        routed: false,
    };
    let mut at = ipv6::HEADER_LEN;
    for _ in 0..MAX_EXTENSIONS {
        if !matches!(network.proto, ipv6::HOP_BY_HOP | ipv6::ROUTING | ipv6::FRAGMENT | ipv6::DESTINATION) {
            break;
        }
        // Past a first fragment header there is only a piece of what follows.
        let Some(extension) = packet[..total_len].get(at..at + 8).filter(|_| !network.fragment) else { break };
        let len = match network.proto {
            ipv6::FRAGMENT => 8,
            _ => (usize::from(extension[1]) + 1) * 8,
        };
        if at + len > total_len {
            break;
        }
        network.fragment |= network.proto == ipv6::FRAGMENT;
        network.routed |= network.proto == ipv6::ROUTING && extension[ipv6::SEGMENTS_LEFT] > 0;
        network.proto = extension[0];
        at += len;
    }
    network.l4_offset = l3_offset + u16::try_from(at).ok()?;
    Some(network)
}

impl Network {
    /// Bytes of the IP packet.
    #[inline]
    #[must_use]
    pub fn packet_len(&self) -> usize {
        self.end - usize::from(self.l3_offset)
    }

    /// Bytes of all headers up to the payload of TCP or UDP; `None` for anything else, for fragments, and when the
    /// layer-4 header does not fit the packet.
    #[inline]
    #[must_use]
    pub fn header_len(&self, bytes: &[u8]) -> Option<usize> {
        let l4 = usize::from(self.l4_offset);
        let segment = bytes.get(l4..self.end).filter(|_| !self.fragment)?;
        match self.proto {
            tcp::PROTOCOL => tcp::header_len(segment).map(|n| l4 + n),
            udp::PROTOCOL if segment.len() >= udp::HEADER_LEN => Some(l4 + udp::HEADER_LEN),
            _ => None,
        }
    }

    /// Source and destination address, in one piece.
    #[inline]
    pub(crate) fn addresses<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let l3 = usize::from(self.l3_offset);
        match self.version {
            IpVersion::V4 => &bytes[l3 + ipv4::SOURCE..l3 + ipv4::SOURCE + 2 * ipv4::ADDRESS_LEN],
            IpVersion::V6 => &bytes[l3 + ipv6::SOURCE..l3 + ipv6::SOURCE + 2 * ipv6::ADDRESS_LEN],
        }
    }

    /// The sum of the pseudo-header (RFC 9293 §3.1, RFC 8200 §8.1) without the length, which the caller adds.
    #[inline]
    pub(crate) fn pseudo_header(&self, bytes: &[u8]) -> Sum {
        Sum::of(self.addresses(bytes)).word(u16::from(self.proto))
    }
}

/// 16 bits that are the same for all frames of a flow and well spread over flows, for the outer source port of a tunnel
/// (RFC 7348 §5): of addresses, protocol and ports; without ports for fragments; of the Ethernet header for the rest.
#[must_use]
pub fn flow_hash(headers: &Headers, bytes: &[u8]) -> u16 {
    let Some(network) = headers.network(bytes) else {
        let pair = headers.dst.0.into_iter().chain(headers.src.0);
        return finish_hash(pair.fold(u64::from(headers.ethertype), |hash, byte| mix(hash, u64::from(byte))));
    };
    let mut hash = u64::from(network.proto);
    for word in network.addresses(bytes).chunks_exact(4) {
        hash = mix(hash, u64::from(be32(word, 0)));
    }
    if network.header_len(bytes).is_some() {
        hash = mix(hash, u64::from(be32(bytes, usize::from(network.l4_offset))));
    }
    finish_hash(hash)
}

/// One step of a multiply-and-fold hash.
#[inline]
fn mix(hash: u64, value: u64) -> u64 {
    let product = u128::from(hash ^ value ^ 0x9e37_79b9_7f4a_7c15) * 0xa076_1d64_78bd_642f;
    product as u64 ^ (product >> 64) as u64
}

fn finish_hash(hash: u64) -> u16 {
    (hash ^ hash >> 16 ^ hash >> 32 ^ hash >> 48) as u16
}
