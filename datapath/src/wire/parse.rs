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
    /// The tag after it.
    pub second_vlan: Option<Tag>,
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
        second_vlan: None,
        inner_vlans: 0,
        ethertype: u16::from_be_bytes([t0, t1]),
        l3_offset: 14,
    };
    while vlan::is_tpid(headers.ethertype) && headers.inner_vlans < MAX_TAGS {
        let at = usize::from(headers.l3_offset);
        let field = bytes.get(at..at + vlan::TAG_LEN).ok_or(Malformed)?;
        let tag = Tag { tpid: headers.ethertype, tci: be16(field, 0) };
        if headers.vlan.is_none() {
            headers.vlan = Some(tag);
        } else {
            headers.second_vlan.get_or_insert(tag);
            headers.inner_vlans += 1;
        }
        headers.ethertype = be16(field, 2);
        headers.l3_offset += 4;
    }
    Ok(headers)
}

impl Headers {
    /// The IP packet of the frame that these headers were read from; `None` when it holds none, or one whose headers
    /// contradict each other.
    #[inline]
    #[must_use]
    pub fn network(&self, bytes: &[u8]) -> Option<Network> {
        network_at(self.ethertype, self.l3_offset, bytes)
    }
}

/// The same of a packet whose place is known.
#[inline]
#[must_use]
pub fn network_at(ethertype: u16, l3_offset: u16, bytes: &[u8]) -> Option<Network> {
    let packet = bytes.get(usize::from(l3_offset)..)?;
    match ethertype {
        ethernet::IPV4 => ipv4_network(packet, l3_offset),
        ethernet::IPV6 => ipv6_network(packet, l3_offset),
        _ => None,
    }
}

/// What routers look at in an IP packet besides its addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Service {
    /// Which IP.
    pub version: IpVersion,
    /// Type of service, or traffic class: DSCP in the upper 6 bits, ECN in the lower 2 (RFC 2474, RFC 3168).
    pub tos: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
}

impl Headers {
    /// How the IP packet of the frame that these headers were read from wants to be served; `None` when it holds none.
    #[inline]
    #[must_use]
    pub fn service(&self, bytes: &[u8]) -> Option<Service> {
        let packet = bytes.get(usize::from(self.l3_offset)..)?;
        let version = packet.first()? >> 4;
        match self.ethertype {
            ethernet::IPV4 if version == 4 && packet.len() >= ipv4::MIN_HEADER_LEN => {
                Some(Service { version: IpVersion::V4, tos: packet[ipv4::TOS], ttl: packet[ipv4::TTL] })
            }
            ethernet::IPV6 if version == 6 && packet.len() >= ipv6::HEADER_LEN => {
                let tos = packet[0] << 4 | packet[1] >> 4;
                Some(Service { version: IpVersion::V6, tos, ttl: packet[ipv6::HOP_LIMIT] })
            }
            _ => None,
        }
    }
}

#[inline]
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
        if !ipv6::is_extension(network.proto) {
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

    /// Where in its packet a fragment begins, in units of 8 bytes; 0 of what is none.
    #[must_use]
    pub fn fragment_offset(&self, bytes: &[u8]) -> u16 {
        match self.version {
            IpVersion::V4 => be16(bytes, usize::from(self.l3_offset) + ipv4::FRAGMENT) & ipv4::OFFSET,
            // The fragment header is the last that was looked through.
            IpVersion::V6 if self.fragment => be16(bytes, usize::from(self.l4_offset) - 8 + ipv6::OFFSET) >> 3,
            IpVersion::V6 => 0,
        }
    }

    /// Bytes of one of its addresses.
    #[inline]
    pub(crate) const fn address_len(&self) -> usize {
        match self.version {
            IpVersion::V4 => ipv4::ADDRESS_LEN,
            IpVersion::V6 => ipv6::ADDRESS_LEN,
        }
    }

    /// Source and destination address, in one piece.
    #[inline]
    pub(crate) fn addresses<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let source = match self.version {
            IpVersion::V4 => ipv4::SOURCE,
            IpVersion::V6 => ipv6::SOURCE,
        };
        &bytes[usize::from(self.l3_offset) + source..][..2 * self.address_len()]
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
    let ports = network.header_len(bytes).map(|_| be32(bytes, usize::from(network.l4_offset)));
    let mut words = [0; 2 * ipv6::ADDRESS_LEN / 8];
    let addresses = network.addresses(bytes).as_chunks::<8>().0;
    for (word, bytes) in words.iter_mut().zip(addresses) {
        *word = u64::from_be_bytes(*bytes);
    }
    hash_of(network.proto, &words[..addresses.len()], ports)
}

/// The hash of a packet of this protocol with these addresses (of IPv4 both in one word) and ports.
#[inline]
pub(super) fn hash_of(proto: u8, addresses: &[u64], ports: Option<u32>) -> u16 {
    let hash = addresses.iter().fold(u64::from(proto), |hash, word| mix(hash, *word));
    finish_hash(ports.map_or(hash, |ports| mix(hash, ports.into())))
}

/// One step of a multiply-and-fold hash.
#[inline]
fn mix(hash: u64, value: u64) -> u64 {
    let product = u128::from(hash ^ value ^ 0x9e37_79b9_7f4a_7c15) * 0xa076_1d64_78bd_642f;
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn finish_hash(hash: u64) -> u16 {
    (hash ^ hash >> 16 ^ hash >> 32 ^ hash >> 48) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixtures::Packet;
    use proptest::prelude::*;

    const ADDRESSES: [u8; 12] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];

    fn frame(after_addresses: &[u8]) -> Vec<u8> {
        [&ADDRESSES[..], after_addresses].concat()
    }

    fn network(bytes: &[u8]) -> Option<Network> {
        parse(bytes).unwrap().network(bytes)
    }

    fn hash(packet: &Packet) -> u16 {
        let bytes = packet.bytes();
        flow_hash(&parse(&bytes).unwrap(), &bytes)
    }

    #[test]
    fn an_arp_request_as_it_is_on_the_wire() {
        let request =
            frame(&[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
        let headers = parse(&request).unwrap();
        assert_eq!(
            headers,
            Headers {
                dst: MacAddr([2, 0, 0, 0, 0, 2]),
                src: MacAddr([2, 0, 0, 0, 0, 1]),
                vlan: None,
                second_vlan: None,
                inner_vlans: 0,
                ethertype: 0x0806,
                l3_offset: 14,
            }
        );
        assert_eq!(headers.network(&request), None);
    }

    #[test]
    fn tags_are_counted_and_the_outermost_is_kept() {
        let qinq = parse(&frame(&[0x88, 0xa8, 0xe0, 0x0a, 0x81, 0x00, 0x00, 0x14, 0x08, 0x00])).unwrap();
        let outer = Tag { tpid: vlan::SERVICE, tci: 0xe00a };
        assert_eq!((qinq.vlan, qinq.inner_vlans, qinq.ethertype, qinq.l3_offset), (Some(outer), 1, ethernet::IPV4, 22));
        assert_eq!((outer.vlan().get(), outer.priority()), (10, 7));
        assert_eq!(qinq.second_vlan, Some(Tag { tpid: vlan::CUSTOMER, tci: 20 }));
        let three = parse(&frame(&[0x81, 0, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 8, 0])).unwrap();
        assert_eq!([three.vlan, three.second_vlan].map(|t| t.map(|t| t.tci)), [Some(1), Some(2)]);
    }

    #[test]
    fn past_the_limit_of_tags_a_frame_is_opaque() {
        let headers = parse(&frame(&[0x81, 0, 0, 1].repeat(200))).unwrap();
        assert_eq!((headers.inner_vlans, headers.ethertype, headers.l3_offset), (4, vlan::CUSTOMER, 34));
    }

    #[test]
    fn a_frame_too_short_for_its_header_or_tag_is_malformed() {
        for short in [&[][..], &ADDRESSES, &frame(&[8]), &frame(&[0x81, 0, 0, 1]), &frame(&[0x81, 0, 0, 1, 8])] {
            assert_eq!(parse(short), Err(Malformed), "{short:?}");
        }
        assert!(parse(&frame(&[8, 0])).is_ok());
    }

    #[test]
    fn ip_options_and_padding_are_stepped_over() {
        let mut packet = Packet::tcp4(10);
        packet.ipv4().options = [1, 1, 1, 0].into();
        let mut bytes = packet.bytes();
        bytes.extend_from_slice(&[0; 30]);
        let found = network(&bytes).unwrap();
        assert_eq!((found.l3_offset, found.l4_offset, found.end), (14, 38, bytes.len() - 30));
        assert_eq!((found.proto, found.fragment, found.dont_fragment), (tcp::PROTOCOL, false, true));
        assert_eq!(found.header_len(&bytes), Some(packet.header_len()));
    }

    #[test]
    fn ip_that_contradicts_itself_is_no_ip() {
        let bytes = Packet::tcp4(10).tagged(7).bytes();
        assert!(network(&bytes).is_some());
        for (at, value) in [(18, 0x65), (18, 0x44), (20, 0xff), (21, 19), (18, 0x4f)] {
            let mut wrong = bytes.clone();
            wrong[at] = value;
            if (at, value) == (18, 0x4f) {
                wrong.truncate(18 + 59);
                wrong[21] = 59;
            }
            assert_eq!(network(&wrong), None, "byte {at} = {value:#x}");
        }
        assert_eq!(network(&bytes[..bytes.len() - 1]), None, "cut short");
        let bytes = Packet::tcp6(10).bytes();
        assert_eq!(network(&bytes[..bytes.len() - 1]), None, "cut short");
        let mut wrong = bytes;
        wrong[14] = 0x40;
        assert_eq!(network(&wrong), None);
    }

    #[test]
    fn ipv4_fragments_are_known_as_such() {
        for (field, fragment) in [([0x40, 0], false), ([0x20, 0], true), ([0x00, 9], true), ([0x80, 0], false)] {
            let mut bytes = Packet::tcp4(100).bytes();
            bytes[20..22].copy_from_slice(&field);
            let found = network(&bytes).unwrap();
            assert_eq!(found.fragment, fragment, "{field:?}");
            assert_eq!(found.header_len(&bytes).is_none(), fragment, "{field:?}");
        }
    }

    /// An IPv6 frame with extension headers, each given as (own number, bytes without the first, next-header byte).
    fn extended(chain: &[(u8, &[u8])], last: u8, l4: &[u8]) -> Vec<u8> {
        let mut payload = Vec::new();
        for (i, (_, rest)) in chain.iter().enumerate() {
            payload.push(chain.get(i + 1).map_or(last, |next| next.0));
            payload.extend_from_slice(rest);
        }
        payload.extend_from_slice(l4);
        let mut bytes = frame(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, u8::try_from(payload.len()).unwrap()]);
        bytes.push(chain.first().map_or(last, |first| first.0));
        bytes.push(64);
        bytes.extend_from_slice(&[0xfd; 32]);
        bytes.extend_from_slice(&payload);
        bytes
    }

    #[test]
    fn ipv6_extension_headers_are_looked_through() {
        let udp = [0, 53, 0, 53, 0, 8, 0, 0];
        let hop = (ipv6::HOP_BY_HOP, &[0, 1, 4, 0, 0, 0, 0][..]);
        let long = (ipv6::DESTINATION, &[1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0][..]);
        let arrived = (ipv6::ROUTING, &[0, 4, 0, 0, 0, 0, 0][..]);
        let bytes = extended(&[hop, long, arrived], udp::PROTOCOL, &udp);
        let found = network(&bytes).unwrap();
        assert_eq!((found.proto, found.l4_offset, found.routed), (udp::PROTOCOL, 14 + 40 + 8 + 16 + 8, false));
        assert_eq!(found.header_len(&bytes), Some(bytes.len()));

        let on_its_way = (ipv6::ROUTING, &[0, 4, 1, 0, 0, 0, 0][..]);
        assert!(network(&extended(&[on_its_way], udp::PROTOCOL, &udp)).unwrap().routed);
    }

    #[test]
    fn past_an_ipv6_fragment_header_nothing_is_looked_at() {
        let fragment = (ipv6::FRAGMENT, &[0, 0, 1, 0, 0, 0, 9][..]);
        let hop = (ipv6::DESTINATION, &[0, 1, 4, 0, 0, 0, 0][..]);
        let bytes = extended(&[fragment, hop], udp::PROTOCOL, &[0; 8]);
        let found = network(&bytes).unwrap();
        assert_eq!((found.proto, found.l4_offset, found.fragment), (ipv6::DESTINATION, 14 + 40 + 8, true));
        assert_eq!(found.header_len(&bytes), None);
    }

    #[test]
    fn an_endless_or_broken_chain_of_extensions_ends_somewhere() {
        let hop = (ipv6::DESTINATION, &[0, 1, 4, 0, 0, 0, 0][..]);
        let found = network(&extended(&[hop; 20], udp::PROTOCOL, &[0; 8])).unwrap();
        assert_eq!((found.proto, found.l4_offset), (ipv6::DESTINATION, 14 + 40 + 64));
        let too_long = (ipv6::DESTINATION, &[9, 1, 4, 0, 0, 0, 0][..]);
        let bytes = extended(&[too_long], udp::PROTOCOL, &[0; 8]);
        let found = network(&bytes).unwrap();
        assert_eq!((found.proto, found.l4_offset), (ipv6::DESTINATION, 14 + 40));
        assert_eq!(found.header_len(&bytes), None);
    }

    #[test]
    fn layer_4_must_fit_the_packet() {
        let mut bytes = Packet::tcp4(0).bytes();
        bytes[14 + 20 + 12] = 0xf0;
        assert_eq!(network(&bytes).unwrap().header_len(&bytes), None);
        let mut bytes = Packet::tcp4(0).udp().bytes();
        bytes[17] = 27;
        assert_eq!(network(&bytes).unwrap().header_len(&bytes), None, "seven bytes of UDP");
    }

    #[test]
    fn the_flow_hash_depends_on_the_flow_and_on_nothing_else() {
        for packet in [Packet::tcp4(100), Packet::tcp6(100).tagged(5), Packet::tcp4(9).udp()] {
            let mut later = packet.clone();
            later.payload = vec![9; 700];
            if let etherparse::TransportHeader::Tcp(header) = &mut later.transport {
                header.sequence_number += 5;
                header.fin = true;
            }
            assert_eq!(hash(&packet), hash(&later));
        }
        let mut ports = Packet::tcp4(0);
        let flows: std::collections::HashSet<u16> = (0..1000)
            .map(|port| {
                ports.tcp().source_port = port;
                hash(&ports)
            })
            .collect();
        assert!(flows.len() > 950, "1000 flows have only {} values", flows.len());
    }

    #[test]
    fn fragments_of_one_packet_hash_alike_and_other_protocols_by_their_addresses() {
        let mut first = Packet::tcp4(100).bytes();
        first[20] = 0x20;
        let mut second = Packet::tcp4(50).bytes();
        second[20..22].copy_from_slice(&[0, 13]);
        second[34..38].copy_from_slice(&[7; 4]);
        let of = |bytes: &[u8]| flow_hash(&parse(bytes).unwrap(), bytes);
        assert_eq!(of(&first), of(&second));
        let (mut arp, mut other) = (frame(&[8, 6, 1]), frame(&[8, 6, 2]));
        assert_eq!(of(&arp), of(&other));
        arp[11] = 9;
        assert_ne!(of(&arp), of(&other));
        other[11] = 9;
        assert_eq!(of(&arp), of(&other));
    }

    /// Bytes that get past the first checks: an Ethernet header of a known type, with anything after it.
    fn plausible() -> impl Strategy<Value = Vec<u8>> {
        let tags = prop::collection::vec(any::<[u8; 2]>(), 0..4);
        let l3 = prop_oneof![Just(0x45u8), Just(0x46), Just(0x60), any::<u8>()];
        (tags, any::<bool>(), l3, prop::collection::vec(any::<u8>(), 0..120)).prop_map(|(tags, v4, l3, rest)| {
            let mut bytes = ADDRESSES.to_vec();
            for [a, b] in tags {
                bytes.extend_from_slice(&[0x81, 0, a, b]);
            }
            bytes.extend_from_slice(&if v4 { [8, 0] } else { [0x86, 0xdd] });
            bytes.push(l3);
            bytes.extend_from_slice(&rest);
            bytes
        })
    }

    proptest! {
        #[test]
        fn offsets_stay_inside_whatever_comes(bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..100), plausible()]) {
            if let Ok(headers) = parse(&bytes) {
                prop_assert!(usize::from(headers.l3_offset) <= bytes.len());
                let _ = flow_hash(&headers, &bytes);
                if let Some(found) = headers.network(&bytes) {
                    prop_assert!(headers.l3_offset == found.l3_offset && found.l3_offset < found.l4_offset);
                    prop_assert!(usize::from(found.l4_offset) <= found.end && found.end <= bytes.len());
                    if let Some(header_len) = found.header_len(&bytes) {
                        prop_assert!(usize::from(found.l4_offset) < header_len && header_len <= found.end);
                    }
                }
            }
        }

        #[test]
        fn parsing_agrees_with_another_parser(bytes in plausible()) {
            let Ok(theirs) = etherparse::SlicedPacket::from_ethernet(&bytes) else { return Ok(()) };
            let ours = parse(&bytes).unwrap();
            prop_assert_eq!(ours.vlan.map(|tag| tag.vlan().get()), theirs.vlan_ids().first().map(|id| id.value()));
            if let Some(etherparse::NetSlice::Ipv4(ip)) = &theirs.net {
                let found = ours.network(&bytes).unwrap();
                prop_assert_eq!(found.packet_len(), usize::from(ip.header().total_len()));
                prop_assert_eq!(found.fragment, ip.is_payload_fragmented());
                prop_assert_eq!(found.proto, ip.header().protocol().0);
            }
        }
    }
}
