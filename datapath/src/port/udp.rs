//! The underlay side of all tunnels of one UDP port and IP version, through the kernel's UDP sockets.
//!
//! One socket receives, on any local address; a few others send, because a socket is one source port and the underlay
//! spreads flows by it (RFC 7348 §5). A run of equal datagrams is sent as one super-frame (`UDP_SEGMENT`) and received as
//! one (`UDP_GRO`). The host's routing, neighbours, firewall and path MTU apply as to any program.
//!
//! Owned by one worker thread. Anybody who can reach the port may send any bytes: they are handed on as payload, and the
//! tunnel's decapsulation judges them. Outer packets always have "don't fragment": fragments would be lost silently more
//! often than not, and a loop of tunnels through the host feeds on them. The sending sockets are unconnected and do not ask
//! for ICMP errors, so no error of an earlier packet fails a later one; a learned path MTU answers EMSGSIZE directly.

use super::cmsg::{self, Control, Name, take};
use super::rx::Receiver;
use super::sys::{Messages, Outgoing, set_option};
use super::tx::send_all;
use super::{Caps, Device, OpenError, Rx, SOCKET_BUFFER, Status, Unsent, Unsupported};
use crate::packet::{Batch, Frame, Outer, Pool};
use crate::switch::verdict::DropReason;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Sending sockets, each a source port.
const SOURCES: usize = 16;

/// What one [`UdpEndpoint`] serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// The UDP port received on, the same at both ends.
    pub port: u16,
    /// Over IPv6.
    pub ipv6: bool,
}

impl Endpoint {
    /// The endpoint of a tunnel to `remote`.
    #[must_use]
    pub fn of(remote: SocketAddr) -> Self {
        Self { port: remote.port(), ipv6: remote.is_ipv6() }
    }
}

/// The sockets.
pub struct UdpEndpoint {
    receiving: OwnedFd,
    receiver: Receiver,
    sources: Vec<OwnedFd>,
    sending: Messages,
}

impl UdpEndpoint {
    /// Opens the sockets in the caller's network namespace.
    pub fn open(endpoint: Endpoint) -> Result<(Self, Status), OpenError> {
        let Endpoint { port, ipv6 } = endpoint;
        let sockets = receiving_socket(port, ipv6).and_then(|receiving| {
            Ok((receiving, (0..SOURCES).map(|_| sending_socket(ipv6)).collect::<io::Result<_>>()?))
        });
        let (receiving, sources) = sockets.map_err(|source| {
            let hint = match source.raw_os_error() {
                Some(libc::EADDRINUSE) => format!(
                    "a kernel vxlan device or another switch holds the port; 'ip -d link show type vxlan' and \
                     'ss -ulpn sport = :{port}' tell which; remove it or use another options:dst_port"
                ),
                Some(libc::EAFNOSUPPORT) => "this host has no IPv6; use an IPv4 remote_ip".to_owned(),
                _ => String::new(),
            };
            let device = format!("UDP port {port} ({})", if ipv6 { "IPv6" } else { "IPv4" });
            OpenError { device, call: "opening the tunnels' sockets", source, hint }
        })?;
        let (receiver, sending) = (Receiver::new(), Messages::new());
        Ok((Self { receiving, receiver, sources, sending }, vec![("io".to_owned(), "udp".to_owned())]))
    }
}

/// A UDP socket with the settings common to both directions.
fn socket(ipv6: bool) -> io::Result<OwnedFd> {
    let family = if ipv6 { AddressFamily::INET6 } else { AddressFamily::INET };
    let fd = socket_with(family, SocketType::DGRAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    if ipv6 {
        set_option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    Ok(fd)
}

fn receiving_socket(port: u16, ipv6: bool) -> io::Result<OwnedFd> {
    let fd = socket(ipv6)?;
    let (level, packet_info) =
        if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO) } else { (libc::IPPROTO_IP, libc::IP_PKTINFO) };
    set_option(fd.as_fd(), level, packet_info, 1)?;
    set_option(fd.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1)?;
    // Peers may leave the outer checksum out over IPv6 too (RFC 6935); the inner frame has its own.
    set_option(fd.as_fd(), libc::SOL_UDP, libc::UDP_NO_CHECK6_RX, 1)?;
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, SOCKET_BUFFER)?;
    let any: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    bind(&fd, &SocketAddr::new(any, port))?;
    Ok(fd)
}

fn sending_socket(ipv6: bool) -> io::Result<OwnedFd> {
    let fd = socket(ipv6)?;
    let (level, name, dont_fragment) = if ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO)
    };
    set_option(fd.as_fd(), level, name, dont_fragment)?;
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SOCKET_BUFFER)?;
    // Nobody is meant to send to these; what comes nevertheless is never read and must not take up memory.
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 0)?;
    Ok(fd)
}

/// Completes a received payload: who sent it, to which address, and whether it is a run of datagrams.
fn finish(messages: &Messages, i: usize, frame: &mut Frame) -> Result<(), Unsupported> {
    let remote = cmsg::parse_name(messages.name(i)).ok_or(Unsupported)?;
    let mut outer = Outer { remote, local: None, segment: None, entropy: 0 };
    for message in cmsg::parse(messages.control(i)) {
        match message.kind {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let size = take(message.data, 0).map(libc::c_int::from_ne_bytes);
                let size = size.and_then(|s| u16::try_from(s).ok()).filter(|&s| s > 0);
                outer.segment = size.filter(|&s| usize::from(s) < frame.len());
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => outer.local = take::<4>(message.data, 8).map(IpAddr::from),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => outer.local = take::<16>(message.data, 0).map(IpAddr::from),
            _ => {}
        }
    }
    frame.meta.outer = Some(outer);
    Ok(())
}

/// Which sending socket a frame takes: the same for all frames of an inner flow, so that they stay in order.
fn source_of(frame: &Frame) -> usize {
    frame.meta.outer.map_or(0, |o| usize::from(o.entropy) % SOURCES)
}

fn outgoing(frame: &Frame) -> Outgoing<'_> {
    let mut control = Control::default();
    if let Some(outer) = frame.meta.outer {
        outer.local.into_iter().for_each(|ip| control.source(ip));
        outer.segment.filter(|&s| usize::from(s) < frame.len()).into_iter().for_each(|s| control.segment(s));
    }
    Outgoing { bytes: frame.bytes(), to: frame.meta.outer.map(|o| Name::from(o.remote)), control: Some(control) }
}

impl Device for UdpEndpoint {
    fn caps(&self) -> Caps {
        Caps::NONE
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.receiving.as_fd()]
    }

    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, lost: &mut Vec<(DropReason, u64)>) -> Rx {
        match self.receiver.receive(self.receiving.as_fd(), 0, pool, batch, lost, finish) {
            Ok(rx) => rx,
            Err(e) => Rx::Dead(e.raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    fn send(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>, unsent: &mut Unsent) -> u64 {
        // Stable, so the order within each inner flow is kept.
        frames.sort_by_key(source_of);
        let (sources, sending) = (&self.sources, &mut self.sending);
        send_all(pool, frames, unsent, 0, |frames| {
            let Some(source) = frames.first().map(source_of) else { return Ok(0) };
            let alike = frames.iter().take_while(|f| source_of(f) == source);
            sending.send(sources[source].as_fd(), alike.map(outgoing))
        })
    }
}
