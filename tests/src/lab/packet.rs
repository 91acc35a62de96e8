//! Packets as tests write them down: `eth("aa→bb").vlan(10).udp(64)`.
//!
//! They are built with `etherparse`, and cut into segments here by the plain rules, so that nothing of the code under
//! test vouches for itself.

use datapath::packet::{ChecksumState, Frame, Gso, GsoKind};
use datapath::types::MacAddr;
use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{
    Ethernet2Header, Icmpv4Header, Icmpv4Type, Icmpv6Header, Icmpv6Type, IpDscp, IpEcn, IpFragOffset, IpHeaders,
    IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6FlowLabel, Ipv6Header, PacketBuilder, TcpHeader,
    TcpOptionElement, TransportHeader, UdpHeader,
};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;

const ETHERNET: usize = 14;
const TCP_OPTIONS: [TcpOptionElement; 3] =
    [TcpOptionElement::Noop, TcpOptionElement::Noop, TcpOptionElement::Timestamp(7, 9)];

/// A packet between two stations; what is not said is filled in the same way every time.
#[derive(Clone, Debug)]
pub struct Packet {
    dst: MacAddr,
    src: MacAddr,
    /// Outermost first.
    tags: Vec<(u16, u16)>,
    body: Body,
    v6: bool,
    /// IPv4 addresses, if they are not those that go with the stations.
    addresses: Option<(Ipv4Addr, Ipv4Addr)>,
    tos: u8,
    ttl: u8,
    payload: Vec<u8>,
    flow: u16,
    sequence: u32,
    identification: u16,
    dont_fragment: bool,
    push: bool,
    unfinished: bool,
    /// Payload bytes of a segment, on a super-frame.
    segment: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Body {
    Udp,
    Tcp,
    /// This type of ICMP, or of ICMPv6.
    Icmp(u8),
    /// This Ethernet type, and the payload as it is.
    Raw(u16),
}

/// A packet from the first station to the second, as `"aa→bb"` or `"aa->bb"`: two hexadecimal digits stand for the
/// station `02:00:00:00:00:XX`, `ff` for everybody, and a whole address for itself. It carries 46 zeros of an
/// experimental Ethernet type until it is told otherwise.
///
/// # Panics
/// If an address does not read so.
#[must_use]
pub fn eth(addresses: &str) -> Packet {
    let (src, dst) = addresses.split_once('→').or_else(|| addresses.split_once("->")).expect("'aa→bb'");
    Packet {
        dst: mac(dst),
        src: mac(src),
        tags: vec![],
        body: Body::Raw(0x88b5),
        v6: false,
        addresses: None,
        tos: 0,
        ttl: 64,
        payload: vec![0; 46],
        flow: 0,
        sequence: 1_000_000,
        identification: 100,
        dont_fragment: true,
        push: true,
        unfinished: false,
        segment: None,
    }
}

/// The address of a station; see [`eth`].
///
/// # Panics
/// If it does not read so.
#[must_use]
pub fn mac(text: &str) -> MacAddr {
    match (text, u8::from_str_radix(text, 16)) {
        ("ff", _) => MacAddr::BROADCAST,
        (_, Ok(last)) if text.len() == 2 => MacAddr([2, 0, 0, 0, 0, last]),
        _ => text.parse().expect("two hexadecimal digits or a whole address"),
    }
}

/// Tags, the outermost first, each a TPID and its control information, from a text: `"S10+20p3"` is a service tag of VLAN
/// 10 and a tag of VLAN 20 with priority 3. A `d` at the end of a tag sets its drop-eligible bit; `"-"` is no tag.
///
/// # Panics
/// If the text does not read so.
#[must_use]
pub fn tags(text: &str) -> Vec<(u16, u16)> {
    let tag = |text: &str| {
        let (tpid, text) = text.strip_prefix('S').map_or((0x8100, text), |rest| (0x88a8, rest));
        let (drop_eligible, text) = text.strip_suffix('d').map_or((0, text), |rest| (0x1000, rest));
        let (vlan, priority) = text.split_once('p').unwrap_or((text, "0"));
        let [vlan, priority] = [vlan, priority].map(|n| n.parse::<u16>().expect("a tag like 'S10p3d'"));
        (tpid, priority << 13 | drop_eligible | vlan)
    };
    text.split('+').filter(|&text| text != "-").map(tag).collect()
}

impl Packet {
    /// With an 802.1Q tag of this VLAN before those it has.
    #[must_use]
    pub fn vlan(self, vlan: u16) -> Self {
        self.tag(0x8100, vlan)
    }

    /// With an 802.1Q tag of this priority and VLAN.
    #[must_use]
    pub fn priority(self, priority: u16, vlan: u16) -> Self {
        self.tag(0x8100, priority << 13 | vlan)
    }

    /// With any tag.
    #[must_use]
    pub fn tag(mut self, tpid: u16, tci: u16) -> Self {
        self.tags.insert(0, (tpid, tci));
        self
    }

    /// With the tags of a text; see [`tags`].
    #[must_use]
    pub fn tagged(mut self, text: &str) -> Self {
        self.tags.splice(0..0, tags(text));
        self
    }

    /// A UDP datagram with so many bytes of payload.
    #[must_use]
    pub fn udp(self, payload: usize) -> Self {
        self.with(Body::Udp, payload)
    }

    /// A TCP segment with so many bytes of payload.
    #[must_use]
    pub fn tcp(self, payload: usize) -> Self {
        self.with(Body::Tcp, payload)
    }

    /// An ICMP message of a type, or one of ICMPv6, with so many bytes after its header of 8 bytes.
    #[must_use]
    pub fn icmp(self, kind: u8, payload: usize) -> Self {
        self.with(Body::Icmp(kind), payload)
    }

    /// An Ethernet type and what follows.
    #[must_use]
    pub fn raw(mut self, ethertype: u16, payload: Vec<u8>) -> Self {
        (self.body, self.payload) = (Body::Raw(ethertype), payload);
        self
    }

    fn with(mut self, body: Body, payload: usize) -> Self {
        self.body = body;
        self.payload = (0..payload).map(|i| (i * 7 + i / 256) as u8).collect();
        self
    }

    /// Over IPv6.
    #[must_use]
    pub fn v6(mut self) -> Self {
        self.v6 = true;
        self
    }

    /// One that routers may fragment.
    #[must_use]
    pub fn may_fragment(mut self) -> Self {
        self.dont_fragment = false;
        self
    }

    /// From an IPv4 address to another, as `"192.168.10.10→192.168.11.10"`.
    ///
    /// # Panics
    /// If it does not read so.
    #[must_use]
    pub fn ips(mut self, addresses: &str) -> Self {
        let (src, dst) = addresses.split_once('→').expect("'address→address'");
        let [src, dst] = [src, dst].map(|address| address.parse().expect("an IPv4 address"));
        self.addresses = Some((src, dst));
        self
    }

    /// Between other stations.
    #[must_use]
    pub fn between(mut self, stations: &str) -> Self {
        let other = eth(stations);
        self.addresses = Some(self.ipv4_addresses());
        (self.src, self.dst) = (other.src, other.dst);
        self
    }

    /// With so many hops still to make.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// With this type of service, or traffic class.
    #[must_use]
    pub fn tos(mut self, tos: u8) -> Self {
        self.tos = tos;
        self
    }

    /// From another port, so another flow.
    #[must_use]
    pub fn flow(mut self, flow: u16) -> Self {
        self.flow = flow;
        self
    }

    /// With the checksum left to whoever sends it on the wire.
    #[must_use]
    pub fn unfinished(mut self) -> Self {
        self.unfinished = true;
        self
    }

    /// A super-frame of segments with so many bytes of payload; its checksum is unfinished, as always with these.
    #[must_use]
    pub fn super_frame(mut self, segment: u16) -> Self {
        (self.segment, self.unfinished) = (Some(segment), true);
        self
    }

    /// How many segments a super-frame stands for.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.segment.map_or(1, |n| self.payload.len().div_ceil(n.into()))
    }

    /// Some of the segments of a super-frame, as one; finished if it is just one.
    ///
    /// # Panics
    /// If it is no super-frame, or a segment of it has no length.
    #[must_use]
    pub fn cut(&self, segments: Range<usize>) -> Self {
        let size = usize::from(self.segment.expect("a super-frame"));
        let bytes = segments.start * size..(segments.end * size).min(self.payload.len());
        let mut part = self.clone();
        part.payload = self.payload[bytes.clone()].to_vec();
        part.sequence = self.sequence.wrapping_add(bytes.start as u32);
        part.identification = self.identification.wrapping_add(segments.start as u16);
        part.push = self.push && segments.end == self.segment_count();
        if segments.len() == 1 {
            (part.segment, part.unfinished) = (None, false);
        }
        part
    }

    /// Every segment of a super-frame, finished.
    #[must_use]
    pub fn segments(&self) -> Vec<Self> {
        (0..self.segment_count()).map(|i| self.cut(i..i + 1)).collect()
    }

    /// As a frame that a device has received.
    #[must_use]
    pub fn frame(&self) -> Frame {
        let l3 = ETHERNET + 4 * self.tags.len();
        let l4 = l3 + if self.v6 { 40 } else { 20 };
        let mut bytes = self.finished();
        let mut frame = Frame::from_bytes(&bytes);
        if self.unfinished {
            let (offset, kind) = match (self.body, self.v6) {
                (Body::Tcp, false) => (16, GsoKind::TcpV4),
                (Body::Tcp, true) => (16, GsoKind::TcpV6),
                (Body::Udp, _) => (6, GsoKind::Udp),
                (Body::Raw(_) | Body::Icmp(_), _) => panic!("no checksum to leave unfinished"),
            };
            let sum = self.pseudo_header_sum(bytes.len() - l4);
            bytes[l4 + offset..l4 + offset + 2].copy_from_slice(&sum.to_be_bytes());
            frame = Frame::from_bytes(&bytes);
            frame.meta.csum = ChecksumState::Partial { start: l4 as u16, offset: offset as u16 };
            let header_len = (bytes.len() - self.payload.len()) as u16;
            frame.meta.gso = self.segment.map(|size| Gso { kind, size, header_len, ecn: false });
        }
        frame
    }

    /// The bytes, all checksums done.
    fn finished(&self) -> Vec<u8> {
        let ethernet = |ether_type: u16| Ethernet2Header {
            source: self.src.0,
            destination: self.dst.0,
            ether_type: ether_type.into(),
        };
        let mut bytes = match self.body {
            Body::Raw(ether_type) => [ethernet(ether_type).to_bytes().as_slice(), &self.payload].concat(),
            _ => {
                let (ip, ether_type) = self.ip();
                let l4 = self.transport(&ip);
                let head = ethernet(ether_type).to_bytes();
                let mut bytes = head.to_vec();
                ip.write(&mut bytes).expect("a vector takes everything");
                bytes.extend(l4);
                bytes
            }
        };
        let tags = self.tags.iter().flat_map(|(tpid, tci)| [tpid.to_be_bytes(), tci.to_be_bytes()]).flatten();
        bytes.splice(12..12, tags);
        bytes
    }

    fn ip(&self) -> (IpHeaders, u16) {
        let (proto, l4_header) = match self.body {
            Body::Tcp => (IpNumber::TCP, 32),
            Body::Icmp(_) if self.v6 => (IpNumber::IPV6_ICMP, 8),
            Body::Icmp(_) => (IpNumber::ICMP, 8),
            _ => (IpNumber::UDP, 8),
        };
        let len = (l4_header + self.payload.len()) as u16;
        if self.v6 {
            let header = Ipv6Header {
                traffic_class: self.tos,
                flow_label: Ipv6FlowLabel::default(),
                payload_length: len,
                next_header: proto,
                hop_limit: self.ttl,
                source: Self::ipv6(self.src).octets(),
                destination: Self::ipv6(self.dst).octets(),
            };
            return (IpHeaders::Ipv6(header, Ipv6Extensions::default()), 0x86dd);
        }
        let (src, dst) = self.ipv4_addresses();
        let (src, dst) = (src.octets(), dst.octets());
        let mut header = Ipv4Header::new(len, self.ttl, proto, src, dst).expect("fits an IPv4 packet");
        header.identification = self.identification;
        header.dont_fragment = self.dont_fragment;
        header.dscp = IpDscp::try_new(self.tos >> 2).expect("six bits");
        header.ecn = IpEcn::try_new(self.tos & 3).expect("two bits");
        header.header_checksum = header.calc_header_checksum();
        (IpHeaders::Ipv4(header, Ipv4Extensions::default()), 0x0800)
    }

    fn transport(&self, ip: &IpHeaders) -> Vec<u8> {
        let mut header = match self.body {
            Body::Tcp => {
                let mut tcp = TcpHeader::new(10_000 + self.flow, 80, self.sequence, 512);
                (tcp.ack, tcp.acknowledgment_number, tcp.psh) = (true, 42, self.push);
                tcp.set_options(&TCP_OPTIONS).expect("fit");
                TransportHeader::Tcp(tcp)
            }
            Body::Icmp(kind) => return self.icmp_message(kind, ip),
            _ => TransportHeader::Udp(UdpHeader {
                source_port: 10_000 + self.flow,
                destination_port: 53,
                length: (8 + self.payload.len()) as u16,
                checksum: 0,
            }),
        };
        match ip {
            IpHeaders::Ipv4(ip, _) => header.update_checksum_ipv4(ip, &self.payload).expect("fits"),
            IpHeaders::Ipv6(ip, _) => header.update_checksum_ipv6(ip, &self.payload).expect("fits"),
        }
        let mut bytes = vec![];
        header.write(&mut bytes).expect("a vector takes everything");
        bytes.extend(&self.payload);
        bytes
    }

    fn icmp_message(&self, kind: u8, ip: &IpHeaders) -> Vec<u8> {
        let identifier_and_number = [0, 7, 0, 1];
        let header = match ip {
            IpHeaders::Ipv4(..) => {
                let kind = Icmpv4Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: identifier_and_number };
                Icmpv4Header::with_checksum(kind, &self.payload).to_bytes().to_vec()
            }
            IpHeaders::Ipv6(ip, _) => {
                let kind = Icmpv6Type::Unknown { type_u8: kind, code_u8: 0, bytes5to8: identifier_and_number };
                let header = Icmpv6Header::with_checksum(kind, ip.source, ip.destination, &self.payload);
                header.expect("fits").to_bytes().to_vec()
            }
        };
        [header, self.payload.clone()].concat()
    }

    /// The IP packet as it is in the frame.
    fn packet(&self) -> Vec<u8> {
        self.frame().bytes()[ETHERNET + 4 * self.tags.len()..].to_vec()
    }

    /// The message that tells its sender that at most `mtu` bytes go its way, with the same tags (RFC 1191, RFC 4443).
    ///
    /// # Panics
    /// If the IP packet is none.
    #[must_use]
    pub fn too_big(&self, mtu: u16) -> Self {
        let (packet, mut bytes) = (self.packet(), vec![]);
        let ethertype = if self.v6 {
            let quote = &packet[..packet.len().min(1280 - 48)];
            let kind = Icmpv6Type::PacketTooBig { mtu: mtu.into() };
            let (from, to) = (Self::ipv6(self.dst).octets(), Self::ipv6(self.src).octets());
            PacketBuilder::ipv6(from, to, 64).icmpv6(kind).write(&mut bytes, quote).expect("fits");
            0x86dd
        } else {
            let quote = &packet[..packet.len().min(576 - 28)];
            let kind = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
            let (to, from) = self.ipv4_addresses();
            let (from, to) = (from.octets(), to.octets());
            let len = (8 + quote.len()) as u16;
            let mut header = Ipv4Header::new(len, 64, IpNumber::ICMP, from, to).expect("fits");
            header.identification = u16::from_be_bytes([packet[4], packet[5]]);
            header.dont_fragment = false;
            header.dscp = IpDscp::try_new(48).expect("six bits");
            header.header_checksum = header.calc_header_checksum();
            bytes.extend(header.to_bytes());
            bytes.extend(Icmpv4Header::with_checksum(Icmpv4Type::DestinationUnreachable(kind), quote).to_bytes());
            bytes.extend(quote);
            0x0800
        };
        let back = Self { dst: self.src, src: self.dst, tags: self.tags.clone(), ..eth("aa→bb") };
        back.raw(ethertype, bytes)
    }

    /// The fragments that a router makes of an IPv4 packet, finished, for a link of this MTU (RFC 791).
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn fragments(&self, mtu: usize) -> Vec<Self> {
        let packet = &self.finished()[ETHERNET + 4 * self.tags.len()..];
        let (mut header, payload) = Ipv4Header::from_slice(packet).expect("an IPv4 packet");
        let size = (mtu - 20) / 8 * 8;
        let (begin, more) = (header.fragment_offset.value(), header.more_fragments);
        let parts: Vec<&[u8]> = payload.chunks(size).collect();
        let mut fragment = |i: usize, part: &[u8]| {
            header.total_len = (20 + part.len()) as u16;
            header.more_fragments = more || i + 1 < parts.len();
            header.fragment_offset = IpFragOffset::try_new(begin + (i * size / 8) as u16).expect("in a packet");
            header.header_checksum = header.calc_header_checksum();
            self.clone().raw(0x0800, [&header.to_bytes(), part].concat())
        };
        parts.iter().enumerate().map(|(i, part)| fragment(i, part)).collect()
    }

    /// The folded sum of the pseudo-header, which the field of an unfinished checksum holds.
    fn pseudo_header_sum(&self, l4_len: usize) -> u16 {
        let proto: u8 = if self.body == Body::Tcp { 6 } else { 17 };
        let addresses: Vec<u8> = match self.v6 {
            true => [Self::ipv6(self.src).octets(), Self::ipv6(self.dst).octets()].concat(),
            false => [self.ipv4_addresses().0.octets(), self.ipv4_addresses().1.octets()].concat(),
        };
        let words = addresses.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let mut sum = words.sum::<u32>() + u32::from(proto) + l4_len as u32;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    fn ipv4_addresses(&self) -> (Ipv4Addr, Ipv4Addr) {
        self.addresses.unwrap_or((Self::ipv4(self.src), Self::ipv4(self.dst)))
    }

    fn ipv4(mac: MacAddr) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, mac.0[5])
    }

    fn ipv6(mac: MacAddr) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, mac.0[5].into())
    }
}
