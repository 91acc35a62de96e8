//! Frames for tests, made and judged by `etherparse` and by sums word by word: nothing here shares code with what it
//! tests.

use crate::packet::{ChecksumState, Frame, Gso, GsoKind};
use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, NetHeaders, PacketBuilder, PacketHeaders,
    TcpHeader, TransportHeader, UdpHeader, VlanId,
};

/// What a TCP or UDP test frame is made of.
#[derive(Clone)]
pub(crate) struct Packet {
    pub(crate) vlan: Option<u16>,
    pub(crate) net: IpHeaders,
    pub(crate) transport: TransportHeader,
    pub(crate) payload: Vec<u8>,
}

/// `n` bytes that no shift of the same bytes equals.
pub(crate) fn payload(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i.wrapping_mul(31) ^ (i >> 8)) as u8).collect()
}

impl Packet {
    /// A TCP segment over IPv4 with timestamps, ACK and DF, as Linux sends them.
    pub(crate) fn tcp4(bytes: usize) -> Self {
        let mut header = Ipv4Header::new(0, 64, IpNumber::TCP, [10, 0, 0, 1], [10, 0, 0, 2]).unwrap();
        header.identification = 0xfff0;
        header.dont_fragment = true;
        Self { vlan: None, net: IpHeaders::Ipv4(header, Default::default()), transport: tcp(), payload: payload(bytes) }
    }

    /// The same over IPv6.
    pub(crate) fn tcp6(bytes: usize) -> Self {
        let address = |last| [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        let header = Ipv6Header {
            traffic_class: 0,
            flow_label: Ipv6FlowLabel::try_new(0xbeef5).unwrap(),
            payload_length: 0,
            next_header: IpNumber::TCP,
            hop_limit: 64,
            source: address(1),
            destination: address(2),
        };
        Self { vlan: None, net: IpHeaders::Ipv6(header, Default::default()), transport: tcp(), payload: payload(bytes) }
    }

    /// The same frame with UDP in it.
    pub(crate) fn udp(mut self) -> Self {
        self.transport = TransportHeader::Udp(UdpHeader::without_ipv4_checksum(40_000, 53, 0).unwrap());
        self
    }

    /// The same frame with a tag.
    pub(crate) fn tagged(mut self, vlan: u16) -> Self {
        self.vlan = Some(vlan);
        self
    }

    pub(crate) fn tcp(&mut self) -> &mut TcpHeader {
        match &mut self.transport {
            TransportHeader::Tcp(header) => header,
            _ => panic!("not TCP"),
        }
    }

    pub(crate) fn ipv4(&mut self) -> &mut Ipv4Header {
        match &mut self.net {
            IpHeaders::Ipv4(header, _) => header,
            IpHeaders::Ipv6(..) => panic!("not IPv4"),
        }
    }

    pub(crate) fn ipv6(&mut self) -> &mut Ipv6Header {
        match &mut self.net {
            IpHeaders::Ipv6(header, _) => header,
            IpHeaders::Ipv4(..) => panic!("not IPv6"),
        }
    }

    /// The frame with finished checksums.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let builder = match self.vlan {
            Some(vlan) => builder.single_vlan(VlanId::try_new(vlan).unwrap()).ip(self.net.clone()),
            None => builder.ip(self.net.clone()),
        };
        let mut bytes = Vec::new();
        match &self.transport {
            TransportHeader::Tcp(header) => builder.tcp_header(header.clone()).write(&mut bytes, &self.payload),
            TransportHeader::Udp(header) => {
                builder.udp(header.source_port, header.destination_port).write(&mut bytes, &self.payload)
            }
            _ => panic!("neither TCP nor UDP"),
        }
        .unwrap();
        bytes
    }

    /// The frame with finished checksums, and nothing known about it.
    pub(crate) fn frame(&self) -> Frame {
        Frame::from_bytes(&self.bytes())
    }

    /// Where layer 4 begins.
    pub(crate) fn l4(&self) -> usize {
        14 + self.vlan.map_or(0, |_| 4) + self.net.header_len()
    }

    /// Bytes of all headers.
    pub(crate) fn header_len(&self) -> usize {
        self.l4() + self.transport.header_len()
    }

    /// The frame with the checksum left to the device.
    pub(crate) fn partial(&self) -> Frame {
        let mut frame = self.frame();
        let (l4, proto, offset) = match self.transport {
            TransportHeader::Tcp(_) => (self.l4(), 6, 16),
            _ => (self.l4(), 17, 6),
        };
        let len = u32::try_from(frame.len() - l4).unwrap();
        let mut pseudo = match &self.net {
            IpHeaders::Ipv4(header, _) => [header.source, header.destination].concat(),
            IpHeaders::Ipv6(header, _) => [header.source, header.destination].concat(),
        };
        pseudo.extend_from_slice(&len.to_be_bytes());
        pseudo.extend_from_slice(&[0, proto]);
        let field = l4 + offset;
        frame.bytes_mut()[field..field + 2].copy_from_slice(&slow_sum(&pseudo).to_be_bytes());
        frame.meta.csum = ChecksumState::Partial { start: l4 as u16, offset: offset as u16 };
        frame
    }

    /// The frame as a super-frame with segments of `size`, checksum left to the device.
    pub(crate) fn super_frame(&self, size: u16) -> Frame {
        let mut frame = self.partial();
        let (kind, ecn) = match (&self.transport, &self.net) {
            (TransportHeader::Tcp(tcp), IpHeaders::Ipv4(..)) => (GsoKind::TcpV4, tcp.cwr),
            (TransportHeader::Tcp(tcp), IpHeaders::Ipv6(..)) => (GsoKind::TcpV6, tcp.cwr),
            _ => (GsoKind::Udp, false),
        };
        frame.meta.gso = Some(Gso { kind, size, header_len: self.header_len() as u16, ecn });
        frame
    }
}

fn tcp() -> TransportHeader {
    let mut header = TcpHeader::new(40_000, 5201, 0xffff_fff0, 512);
    header.ack = true;
    header.acknowledgment_number = 77;
    header.set_options_raw(&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]).unwrap();
    TransportHeader::Tcp(header)
}

/// A one's complement sum word by word.
pub(crate) fn slow_sum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// Reads a frame strictly and checks its lengths and checksums; what it holds.
pub(crate) fn verified(bytes: &[u8]) -> Packet {
    let read = PacketHeaders::from_ethernet_slice(bytes).unwrap();
    let payload = read.payload.slice().to_vec();
    let vlan = read.vlan_ids().first().map(|id| id.value());
    let transport = read.transport.unwrap();
    let net = match read.net.unwrap() {
        NetHeaders::Ipv4(header, extensions) => {
            assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 header checksum");
            assert_eq!(header.fragment_offset, IpFragOffset::ZERO);
            let mut right = transport.clone();
            right.update_checksum_ipv4(&header, &payload).unwrap();
            assert_eq!(right, transport, "layer-4 checksum");
            IpHeaders::Ipv4(header, extensions)
        }
        NetHeaders::Ipv6(header, extensions) => {
            let mut right = transport.clone();
            right.update_checksum_ipv6(&header, &payload).unwrap();
            assert_eq!(right, transport, "layer-4 checksum");
            IpHeaders::Ipv6(header, extensions)
        }
        NetHeaders::Arp(_) => panic!("ARP"),
    };
    let packet = Packet { vlan, net, transport, payload };
    assert_eq!(packet.header_len() + packet.payload.len(), bytes.len(), "no byte is left over");
    packet
}
