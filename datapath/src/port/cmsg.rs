//! Socket addresses and control messages as the kernel lays them out (`struct sockaddr_in`, `sockaddr_in6`, `cmsghdr`),
//! read and written as bytes, so that only the system calls themselves need `unsafe`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of the longest address, a `struct sockaddr_in6`.
pub const NAME: usize = 28;
/// Bytes for control messages, each way: packet information and one or two numbers.
pub const CONTROL: usize = 128;

/// Alignment of control messages, and the size of their length field.
const WORD: usize = size_of::<usize>();
/// Bytes of `struct cmsghdr`: length, level, type.
const HEADER: usize = WORD + 8;

/// An address as `struct sockaddr_in` or `sockaddr_in6`.
#[derive(Clone, Copy, Debug)]
pub struct Name {
    bytes: [u8; NAME],
    len: usize,
}

impl Name {
    /// The bytes for the kernel.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl From<SocketAddr> for Name {
    fn from(addr: SocketAddr) -> Self {
        let mut bytes = [0; NAME];
        bytes[2..4].copy_from_slice(&addr.port().to_be_bytes());
        let (family, len) = match addr {
            SocketAddr::V4(a) => {
                bytes[4..8].copy_from_slice(&a.ip().octets());
                (libc::AF_INET, 16)
            }
            SocketAddr::V6(a) => {
                bytes[4..8].copy_from_slice(&a.flowinfo().to_be_bytes());
                bytes[8..24].copy_from_slice(&a.ip().octets());
                bytes[24..28].copy_from_slice(&a.scope_id().to_ne_bytes());
                (libc::AF_INET6, 28)
            }
        };
        bytes[..2].copy_from_slice(&u16::try_from(family).unwrap_or_default().to_ne_bytes());
        Self { bytes, len }
    }
}

/// The address that the kernel wrote, if it is IPv4 or IPv6.
pub fn parse_name(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(take(bytes, 2)?);
    match libc::c_int::from(u16::from_ne_bytes(take(bytes, 0)?)) {
        libc::AF_INET => Some((Ipv4Addr::from(take::<4>(bytes, 4)?), port).into()),
        libc::AF_INET6 => Some((Ipv6Addr::from(take::<16>(bytes, 8)?), port).into()),
        _ => None,
    }
}

/// The `N` bytes at `at`.
pub fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// One received control message.
#[derive(Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// Protocol level and type, such as `(SOL_UDP, UDP_GRO)`.
    pub kind: (libc::c_int, libc::c_int),
    /// What it says.
    pub data: &'a [u8],
}

/// The control messages in what the kernel wrote.
pub fn parse(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let len = usize::from_ne_bytes(take(bytes, 0)?);
        let level = libc::c_int::from_ne_bytes(take(bytes, WORD)?);
        let kind = libc::c_int::from_ne_bytes(take(bytes, WORD + 4)?);
        let data = bytes.get(HEADER..len)?;
        bytes = bytes.get(len.next_multiple_of(WORD)..).unwrap_or_default();
        Some(Received { kind: (level, kind), data })
    })
}

/// Control messages to send.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    bytes: [u8; CONTROL],
    len: usize,
}

impl Default for Control {
    fn default() -> Self {
        Self { bytes: [0; CONTROL], len: 0 }
    }
}

impl Control {
    /// The bytes for the kernel.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Sends from this address (`IP_PKTINFO`, `IPV6_PKTINFO`).
    pub fn source(&mut self, local: IpAddr) {
        match local {
            IpAddr::V4(ip) => {
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&ip.octets());
                self.push((libc::IPPROTO_IP, libc::IP_PKTINFO), &info);
            }
            IpAddr::V6(ip) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&ip.octets());
                self.push((libc::IPPROTO_IPV6, libc::IPV6_PKTINFO), &info);
            }
        }
    }

    /// Cuts the payload into datagrams of `size` bytes (`UDP_SEGMENT`).
    pub fn segment(&mut self, size: u16) {
        self.push((libc::SOL_UDP, libc::UDP_SEGMENT), &size.to_ne_bytes());
    }

    /// Sends with this type of service (`IP_TOS`, `IPV6_TCLASS`).
    pub fn tos(&mut self, tos: u8, ipv6: bool) {
        let v6 = (libc::IPPROTO_IPV6, libc::IPV6_TCLASS);
        let kind = if ipv6 { v6 } else { (libc::IPPROTO_IP, libc::IP_TOS) };
        self.push(kind, &libc::c_int::from(tos).to_ne_bytes());
    }

    /// Sends with this time to live (`IP_TTL`, `IPV6_HOPLIMIT`).
    pub fn ttl(&mut self, ttl: u8, ipv6: bool) {
        let v6 = (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT);
        let kind = if ipv6 { v6 } else { (libc::IPPROTO_IP, libc::IP_TTL) };
        self.push(kind, &libc::c_int::from(ttl).to_ne_bytes());
    }

    fn push(&mut self, (level, kind): (libc::c_int, libc::c_int), data: &[u8]) {
        let len = HEADER + data.len();
        let room = &mut self.bytes[self.len..][..len.next_multiple_of(WORD)];
        room[..WORD].copy_from_slice(&len.to_ne_bytes());
        room[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        room[WORD + 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
        room[HEADER..len].copy_from_slice(data);
        self.len += room.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["192.0.2.1:4789", "[2001:db8::1]:8472"] {
            let addr: SocketAddr = text.parse().unwrap();
            assert_eq!(parse_name(Name::from(addr).bytes()), Some(addr));
        }
        assert_eq!(parse_name(&[0; 28]), None, "AF_UNSPEC");
        let v6 = Name::from("[::1]:1".parse::<SocketAddr>().unwrap());
        assert_eq!(parse_name(&v6.bytes()[..20]), None, "cut short");
    }

    #[test]
    #[cfg(all(target_endian = "little", target_pointer_width = "64"))]
    fn control_messages_have_these_bytes() {
        let mut c = Control::default();
        c.segment(1450);
        c.source("192.0.2.1".parse().unwrap());
        let golden = [
            18, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 103, 0, 0, 0, 0xaa, 5, 0, 0, 0, 0, 0, 0, // UDP_SEGMENT 1450
            28, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(c.bytes(), golden);
        let seen: Vec<_> = parse(c.bytes()).map(|m| (m.kind, m.data.len())).collect();
        assert_eq!(seen, [((17, 103), 2), ((0, 8), 12)]);
    }

    #[test]
    fn the_longest_combination_fits() {
        let mut c = Control::default();
        c.source("2001:db8::1".parse().unwrap());
        c.segment(1450);
        c.tos(0xb8, true);
        c.ttl(9, true);
        let seen: Vec<_> = parse(c.bytes()).map(|m| (m.kind, m.data.len())).collect();
        assert_eq!(seen, [((41, 50), 20), ((17, 103), 2), ((41, 67), 4), ((41, 52), 4)]);
    }

    #[test]
    fn impossible_lengths_end_the_list() {
        for len in [0, HEADER - 1, 1000, usize::MAX] {
            let mut bytes = [0; 64];
            bytes[..WORD].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(parse(&bytes).count(), 0, "{len}");
        }
    }
}
