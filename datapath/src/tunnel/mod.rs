//! Tunnels: which headers go before a frame and come off again.
//!
//! Pure: bytes and addresses in, bytes and addresses out. The kernel's sockets add and remove what is before the tunnel's
//! own header, so the underlay's routing, ARP and firewall apply as to any other traffic; where there is no firewall, TCP
//! super-frames may go a shorter way ([`WayOut`]). Most tunnels carry Ethernet frames, a layer-3 tunnel ([`ipip`]) the IP
//! packets in them.
//!
//! ```text
//!  encap: frame ─▶ cut to fit ─▶ [header, segment] … in runs ─▶ port/{udp,raw_ip}
//!  decap: port/{udp,raw_ip} ─▶ header off, key ─▶ segments merged ─▶ demux: which port
//! ```
//!
//! An attacker on the underlay may send any bytes to the tunnel port: a packet is taken only when its key *and* its
//! sender belong to a configured port, everything else is counted and dropped.

mod decap;
mod demux;
pub mod ecn;
mod encap;
pub mod ipip;
pub mod probe;
mod remotes;
#[cfg(test)]
mod tests;

pub use decap::{Decap, Inner};
pub use demux::{Demux, DemuxKey, Finder};
pub use encap::{Encapped, encap, encap_whole, fits_whole};
pub use remotes::Remotes;

use crate::packet::{Frame, Outer};
use crate::switch::verdict::DropReason;
use crate::types::{Ipv4Prefix, RemoteIndex, TunnelKey};
use crate::wire::parse::{Service, flow_hash, parse};
use crate::wire::plain::PlainIpv4;
use crate::wire::{TunnelHeader, ethernet, geneve, gre, vxlan};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Which header stands before the frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// VXLAN (RFC 7348), over UDP.
    Vxlan,
    /// Geneve (RFC 8926), over UDP.
    Geneve,
    /// GRE (RFC 2784, RFC 2890) with Ethernet frames.
    Gre,
    /// IPv4 packets right after the outer IP header (RFC 2003).
    Ipip,
}

impl Protocol {
    /// Its name as an interface's type.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Vxlan => "vxlan",
            Self::Geneve => "geneve",
            Self::Gre => "gre",
            Self::Ipip => "ipip",
        }
    }

    /// The UDP port that it has by default; `None`: it is not over UDP.
    #[must_use]
    pub const fn udp_port(self) -> Option<u16> {
        match self {
            Self::Vxlan => Some(vxlan::PORT),
            Self::Geneve => Some(geneve::PORT),
            Self::Gre | Self::Ipip => None,
        }
    }

    /// Whether it carries IP packets without Ethernet headers.
    #[must_use]
    pub const fn is_layer3(self) -> bool {
        matches!(self, Self::Ipip)
    }

    /// Reads the header of a received datagram.
    #[inline]
    fn parse(self, datagram: &[u8]) -> Result<TunnelHeader, DropReason> {
        match self {
            Self::Vxlan => vxlan::parse(datagram),
            Self::Geneve => geneve::parse(datagram),
            Self::Gre => gre::parse(datagram),
            Self::Ipip => ipip::parse(datagram),
        }
    }
}

/// What a tunnel's packets are received on; tunnels of one endpoint are told apart by [`Demux`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint {
    /// Which header they have.
    pub protocol: Protocol,
    /// The UDP port, the same at both ends; 0: not over UDP.
    pub port: u16,
    /// Over IPv6.
    pub ipv6: bool,
}

/// A field of the outer IP header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Field {
    /// Always this.
    Fixed(u8),
    /// That of the inner packet; if it is no IP packet, as if nothing was asked for.
    Inherit,
}

/// Where a layer-3 tunnel takes packets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Route {
    /// Those for these addresses,
    pub to: Ipv4Prefix,
    /// to this remote end.
    pub via: IpAddr,
}

/// The way out of this host to a tunnel's remote end, as the kernel's routes have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WayOut {
    /// Index of the device that its packets leave by.
    pub ifindex: u32,
    /// The address that they are from.
    pub source: Ipv4Addr,
}

/// The settings of a tunnel port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// Which header it puts before its frames.
    pub protocol: Protocol,
    /// The other end's address and UDP port; port 0: not over UDP. Of several ends, any one.
    pub remote: SocketAddr,
    /// Set if it has several other ends.
    pub remotes: Option<Remotes>,
    /// Of a layer-3 tunnel: which packets it carries, each to one of its other ends; empty: all, to its only one.
    pub routes: Vec<Route>,
    /// Whether addresses are learned from its frames.
    pub learning: bool,
    /// Our own address; `None`: any, and the route decides what is sent from.
    pub local: Option<IpAddr>,
    /// Key of frames sent.
    pub out_key: TunnelKey,
    /// Key of frames accepted.
    pub in_key: TunnelKey,
    /// DSCP of the outer header, in its place among 8 bits. ECN is not a setting: see [`ecn`].
    pub tos: Field,
    /// Hops that the outer packet may make.
    pub ttl: Field,
    /// The outer packet may not be fragmented.
    pub dont_fragment: bool,
    /// The checksum of UDP or GRE is sent.
    pub checksum: bool,
    /// Set if TCP super-frames may be sent whole, past the host's own way out, for the kernel to cut
    /// ([`Tunnel::may_send_whole`]).
    pub way_out: Option<WayOut>,
}

impl Tunnel {
    /// A tunnel with the same key both ways and everything else at its default.
    #[must_use]
    pub const fn new(protocol: Protocol, remote: SocketAddr, key: TunnelKey) -> Self {
        Self {
            protocol,
            remote,
            remotes: None,
            routes: Vec::new(),
            learning: !protocol.is_layer3(),
            local: None,
            out_key: key,
            in_key: key,
            tos: Field::Fixed(0),
            ttl: Field::Fixed(Outer::TTL),
            dont_fragment: true,
            checksum: protocol.udp_port().is_some(),
            way_out: None,
        }
    }

    /// Whether the kernel can cut the super-frames of such a tunnel: over IPv4 but not UDP, to one other end, without a
    /// checksum over what is cut, and without fragments.
    #[must_use]
    pub fn may_send_whole(&self) -> bool {
        let plain = self.protocol.udp_port().is_none() && self.remote.is_ipv4() && self.remotes.is_none();
        plain && self.dont_fragment && !self.checksum
    }

    /// What its packets are received on.
    #[must_use]
    pub const fn endpoint(&self) -> Endpoint {
        Endpoint { protocol: self.protocol, port: self.remote.port(), ipv6: self.remote.is_ipv6() }
    }

    /// Its other ends with their indexes.
    pub fn ends(&self) -> impl Iterator<Item = (RemoteIndex, IpAddr)> + '_ {
        let one = self.remotes.is_none().then(|| self.remote.ip());
        let several = self.remotes.iter().flat_map(Remotes::ends).copied();
        (0..).map(RemoteIndex).zip(one.into_iter().chain(several))
    }

    /// Whether it is the same as `other` but perhaps for which several ends it has, and for the way out.
    #[must_use]
    pub fn is_same_but_for_ends(&self, other: &Self) -> bool {
        let other = &Self { way_out: self.way_out, ..other.clone() };
        let both_have_several = self.remotes.is_some() && other.remotes.is_some();
        let routes = || self.routes.clone();
        let same_ends =
            || Self { remote: self.remote, remotes: self.remotes.clone(), routes: routes(), ..other.clone() };
        self == other || (both_have_several && self.endpoint() == other.endpoint() && *self == same_ends())
    }

    /// Which packets a layer-3 tunnel carries, and to which of its other ends; those to an end that it does not have are
    /// left out.
    pub fn routes(&self) -> impl Iterator<Item = (Ipv4Prefix, RemoteIndex)> + '_ {
        let all = self.protocol.is_layer3() && self.routes.is_empty();
        let ends = self.ends().filter(|_| !self.routes.is_empty());
        let indexes: HashMap<_, _> = ends.map(|(index, end)| (end, index)).collect();
        let some = self.routes.iter().filter_map(move |route| Some((route.to, *indexes.get(&route.via)?)));
        all.then_some((Ipv4Prefix::ALL, RemoteIndex(0))).into_iter().chain(some)
    }

    /// Bytes of a frame's Ethernet header that it does not carry.
    #[inline]
    #[must_use]
    pub const fn stripped_len(&self) -> usize {
        if self.protocol.is_layer3() { ethernet::HEADER_LEN } else { 0 }
    }

    /// Bytes of the tunnel's own header before every frame sent.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        match self.protocol {
            Protocol::Vxlan => vxlan::HEADER_LEN,
            Protocol::Geneve => geneve::HEADER_LEN,
            Protocol::Gre => gre::header_len(self.out_key, self.checksum),
            Protocol::Ipip => 0,
        }
    }

    /// Writes its own header to the front of `datagram`, whose payload is in its place already.
    #[inline(always)] // As what calls it.
    fn write_header(&self, datagram: &mut [u8]) {
        match self.protocol {
            Protocol::Vxlan => datagram[..vxlan::HEADER_LEN].copy_from_slice(&vxlan::header(self.out_key)),
            Protocol::Geneve => datagram[..geneve::HEADER_LEN].copy_from_slice(&geneve::header(self.out_key)),
            Protocol::Gre => gre::write_header(datagram, self.out_key, self.checksum),
            Protocol::Ipip => {}
        }
    }

    /// Whether the kernel takes several datagrams in one send: not over anything but UDP, nor without its checksum.
    const fn sends_runs(&self) -> bool {
        self.protocol.udp_port().is_some() && self.checksum
    }

    /// Says of a frame how the datagrams that carry it are to be sent, to `remote`.
    #[inline(always)] // As what calls it.
    fn set_outer(&self, frame: &mut Frame, remote: IpAddr) {
        let (entropy, tos, ttl) = self.marks(frame.bytes());
        frame.meta.outer = Some(Outer {
            remote,
            remote_port: self.remote.port(),
            local: self.local,
            ifindex: 0,
            segment: None,
            entropy,
            tos,
            ttl,
            dont_fragment: self.dont_fragment && !frame.meta.outer_may_fragment,
            checksum: self.checksum || self.protocol.udp_port().is_none(),
        });
    }

    /// Flow entropy, type of service and time to live of what carries `frame`.
    #[inline]
    fn marks(&self, frame: &[u8]) -> (u16, u8, u8) {
        let (entropy, service) = match PlainIpv4::of(frame) {
            Some(packet) => (packet.flow_hash(), Some(packet.service())),
            None => entropy_and_service(frame),
        };
        (entropy, self.tos_for(service), self.ttl_for(service))
    }

    #[inline]
    fn tos_for(&self, inner: Option<Service>) -> u8 {
        let dscp = match self.tos {
            Field::Fixed(tos) => tos,
            Field::Inherit => inner.map_or(0, |inner| inner.tos),
        };
        dscp & !ecn::MASK | inner.map_or(0, |inner| ecn::encap(inner.tos))
    }

    #[inline]
    fn ttl_for(&self, inner: Option<Service>) -> u8 {
        match self.ttl {
            Field::Fixed(ttl) => ttl,
            // No packet is sent with 0.
            Field::Inherit => inner.map_or(Outer::TTL, |inner| inner.ttl.max(1)),
        }
    }
}

/// Flow entropy of any frame, and how the IP packet in it wants to be served.
#[inline(never)]
fn entropy_and_service(frame: &[u8]) -> (u16, Option<Service>) {
    parse(frame).map_or((0, None), |headers| (flow_hash(&headers, frame), headers.service(frame)))
}
