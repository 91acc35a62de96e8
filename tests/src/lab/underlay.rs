//! The network between two labs: what leaves one by a tunnel arrives at the other as the kernel would hand it over.
//!
//! The headers of tunnels are written and read here byte by byte (RFC 7348 §5, RFC 8926 §3.4, RFC 2784 and 2890), not by
//! the code under test.

use super::{Lab, Packet, PortSpec, Protocol, of};
use datapath::packet::{Frame, Outer, Pool};
use datapath::tunnel::Tunnel;
use std::net::{IpAddr, SocketAddr};

/// A VXLAN datagram's payload.
#[must_use]
pub fn datagram(vni: u32, packet: &Packet) -> Vec<u8> {
    datagram_of(Protocol::Vxlan, vni, packet)
}

/// The same of any protocol.
#[must_use]
pub fn datagram_of(protocol: Protocol, key: u32, packet: &Packet) -> Vec<u8> {
    [header(protocol, key), packet.frame().bytes()[stripped(protocol)..].to_vec()].concat()
}

/// A tunnel's header, without a checksum.
fn header(protocol: Protocol, key: u32) -> Vec<u8> {
    match protocol {
        Protocol::Vxlan => [[0x08, 0, 0, 0], (key << 8).to_be_bytes()].concat(),
        Protocol::Geneve => [[0, 0, 0x65, 0x58], (key << 8).to_be_bytes()].concat(),
        Protocol::Gre if key == 0 => vec![0, 0, 0x65, 0x58],
        Protocol::Gre => [[0x20, 0, 0x65, 0x58], key.to_be_bytes()].concat(),
        Protocol::Ipip => vec![],
    }
}

/// Bytes of the Ethernet header, where the tunnel does not carry it.
fn stripped(protocol: Protocol) -> usize {
    if protocol == Protocol::Ipip { 14 } else { 0 }
}

/// The header of a frame that `tunnel` sends in `datagram`.
fn sent_header(tunnel: &Tunnel, datagram: &[u8]) -> Vec<u8> {
    let mut header = header(tunnel.protocol, tunnel.out_key.0);
    if tunnel.protocol == Protocol::Gre && tunnel.checksum {
        header[0] |= 0x80;
        header.splice(4..4, [0; 4]);
        let mut summed = [&header, &datagram[header.len()..]].concat();
        summed.resize(summed.len().next_multiple_of(2), 0);
        let words = summed.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
        let sum = words.fold(0, |sum, word| (sum + word) % 0xffff);
        // A sum of zero is written as the other zero.
        header[4..6].copy_from_slice(&(!(if sum == 0 { 0xffff } else { sum as u16 })).to_be_bytes());
    }
    header
}

/// The datagrams in a run.
fn datagrams(run: &Frame) -> std::slice::Chunks<'_, u8> {
    let segment = run.meta.outer.and_then(|o| o.segment).map_or(run.len(), usize::from);
    run.bytes().chunks(segment.max(1))
}

impl Lab {
    /// Hands the datagrams that were expected here to the lab that they are addressed to. Those of a tunnel with several
    /// remote ends to others stay on their way.
    ///
    /// # Panics
    /// If there are none, or one of another tunnel is addressed to somebody else.
    #[track_caller]
    pub fn carry_to(&mut self, other: &mut Self) {
        self.carry_marked(other, |tos| tos);
    }

    /// The same, over routers that change the outer type of service.
    ///
    /// # Panics
    /// As [`Lab::carry_to`].
    #[track_caller]
    pub fn carry_marked(&mut self, other: &mut Self, mark: impl Fn(u8) -> u8) {
        let to = |run: &Frame| run.meta.outer.expect("set by the tunnel").remote;
        let (runs, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.underlay).into_iter().partition(|r| to(r) == other.address);
        assert!(!runs.is_empty(), "no datagrams on their way");
        for run in &rest {
            let tunnel = self.members[run.meta.egress.0 as usize].spec.tunnel.as_ref();
            assert!(tunnel.is_some_and(|t| t.remotes.is_some()), "addressed to somebody else: {}", to(run));
        }
        self.underlay = rest;
        for run in runs {
            let outer = run.meta.outer.expect("set by the tunnel");
            let tunnel = self.members[run.meta.egress.0 as usize].spec.tunnel.as_ref().expect("sent by a tunnel");
            let (protocol, tos) = (tunnel.protocol, mark(outer.tos));
            other.arrive_with(protocol, Outer { segment: outer.segment, tos, ..from(self.address) }, run.bytes());
        }
        other.run();
    }

    /// Takes the datagrams that were expected here off the wire.
    #[must_use]
    pub fn intercept(&mut self) -> Vec<Frame> {
        std::mem::take(&mut self.underlay)
    }

    /// A run of VXLAN datagrams arrives from `remote`; [`Lab::run`] switches it.
    pub fn arrive(&mut self, remote: IpAddr, segment: Option<u16>, bytes: &[u8]) {
        self.arrive_with(Protocol::Vxlan, Outer { segment, ..from(remote) }, bytes);
    }

    /// A datagram of any protocol arrives from `remote`; [`Lab::run`] switches it.
    pub fn arrive_by(&mut self, protocol: Protocol, remote: &str, bytes: &[u8]) {
        self.arrive_with(protocol, from(remote.parse().expect("an IP address")), bytes);
    }

    /// The same with a datagram that no tunnel takes.
    pub fn lose_by(&mut self, protocol: Protocol, remote: &str, bytes: &[u8]) {
        let mut frame = received(bytes);
        frame.meta.outer = Some(Outer { local: Some(self.address), ..from(remote.parse().expect("an IP address")) });
        self.put_in += 1;
        self.tunnels[of(protocol).0 as usize].inject(frame);
        self.run();
    }

    /// A run of datagrams of any protocol arrives with this outer header; [`Lab::run`] switches it. By default it was sent
    /// to the lab's own address.
    pub fn arrive_with(&mut self, protocol: Protocol, outer: Outer, bytes: &[u8]) {
        let mut run = received(bytes);
        let local = outer.local.unwrap_or(self.address);
        run.meta.outer = Some(Outer { local: Some(local), ..outer });
        self.put_in += datagrams(&run).count().max(1) as u64;
        for datagram in datagrams(&run) {
            if let Some((port, header)) = self.taker(protocol, outer.remote, local, datagram) {
                self.count_received(port, 1, datagram.len() - header + stripped(protocol));
            }
        }
        self.tunnels[of(protocol).0 as usize].inject(run);
    }

    /// The port that takes a datagram from a sender, and the length of the header before the frame.
    fn taker(
        &self,
        protocol: Protocol,
        remote: IpAddr,
        local: IpAddr,
        datagram: &[u8],
    ) -> Option<(&'static str, usize)> {
        let (key, header) =
            key_of(protocol, datagram).filter(|(_, header)| datagram.len() + stripped(protocol) >= header + 14)?;
        let takes = |spec: &PortSpec, named: bool| {
            let Some(tunnel) = &spec.tunnel else { return false };
            let here = if named { tunnel.local == Some(local) } else { tunnel.local.is_none() };
            tunnel.protocol == protocol && tunnel.in_key.0 == key && tunnel.ends().any(|(_, end)| end == remote) && here
        };
        let present = || self.members.iter().filter(|m| m.present).map(|m| &m.spec);
        let named = present().find(|spec| takes(spec, true)).or_else(|| present().find(|spec| takes(spec, false)));
        named.map(|spec| (spec.name, header))
    }

    /// The frames in a run of datagrams that has left, with the port that sent it.
    pub(super) fn open_datagrams(&self, run: &Frame) -> Vec<(&'static str, Frame)> {
        let member = &self.members[run.meta.egress.0 as usize];
        let tunnel = member.spec.tunnel.as_ref().expect("sent by a tunnel");
        let outer = run.meta.outer.expect("set by the tunnel");
        let end = tunnel.ends().map(|(_, end)| end).find(|end| *end == outer.remote);
        assert_eq!((end, outer.local), (Some(outer.remote), tunnel.local), "{}", member.spec.name);
        assert_eq!(outer.remote_port, tunnel.remote.port(), "{}", member.spec.name);
        let name = match tunnel.remotes {
            // A test has a few such names, and names are for ever.
            Some(_) => format!("{}@{}", member.spec.name, outer.remote).leak(),
            None => member.spec.name,
        };
        let frame = |datagram: &[u8]| {
            let expected = sent_header(tunnel, datagram);
            assert_eq!(datagram[..expected.len()], expected, "header of {}", member.spec.name);
            // What is not carried is shown as an Ethernet header without addresses.
            let ethernet = &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0][..stripped(tunnel.protocol)];
            (name, Frame::from_bytes(&[ethernet, &datagram[expected.len()..]].concat()))
        };
        datagrams(run).map(frame).collect()
    }
}

/// A frame in memory as the worker receives into, with room behind it.
fn received(bytes: &[u8]) -> Frame {
    Pool::new(0).copy(&Frame::from_bytes(bytes))
}

/// What is received from a sender, unless something else is said.
fn from(remote: IpAddr) -> Outer {
    Outer::to(SocketAddr::new(remote, 50_000))
}

/// The key of a datagram, and the length of the header, if that is one which a tunnel takes.
fn key_of(protocol: Protocol, datagram: &[u8]) -> Option<(u32, usize)> {
    let word = |at: usize| Some(u32::from_be_bytes(*datagram.get(at..)?.first_chunk()?));
    let first = word(0)?;
    match protocol {
        Protocol::Vxlan => (first & 0x0800_0000 != 0).then_some((word(4)? >> 8, 8)),
        Protocol::Geneve => {
            let options = (first >> 24 & 0x3f) as usize * 4;
            (first & 0xc0c0_ffff == 0x6558).then_some((word(4)? >> 8, 8 + options))
        }
        Protocol::Gre => {
            // Labs send each other right checksums; what arrives by hand has none.
            let [checksum, key, sequence] = [0x8000_0000, 0x2000_0000, 0x1000_0000].map(|flag| first & flag != 0);
            let key_at = if checksum { 8 } else { 4 };
            let len = key_at + if key { 4 } else { 0 } + if sequence { 4 } else { 0 };
            (first & 0x4c07_ffff == 0x6558).then_some((if key { word(key_at)? } else { 0 }, len))
        }
        Protocol::Ipip => (first >> 28 == 4).then_some((0, 0)),
    }
}
