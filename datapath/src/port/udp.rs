//! The underlay side of all tunnels of one UDP port and IP version, through the kernel's UDP sockets.
//!
//! One socket receives, on any local address; a few others send, because a socket is one source port and the underlay
//! spreads flows by it (RFC 7348 §5). With several workers each has all of these, and the kernel spreads what arrives by
//! addresses and ports (`SO_REUSEPORT`). The first socket is bound without that, so that a port that another program has is
//! refused, whatever that program would share. A run of equal datagrams is sent as one super-frame (`UDP_SEGMENT`) and received as
//! one (`UDP_GRO`). The host's routing, neighbours, firewall and path MTU apply as to any program.
//!
//! What an attacker may try is told in [`super::underlay`].

use super::rx::Receiver;
use super::sys::set_option;
use super::underlay::{Sender, finish, prepare_receiving, socket};
use super::{Caps, Device, OpenError, Rx, Status, Unsent};
use crate::packet::{Batch, Frame, Pool};
use crate::switch::verdict::DropReason;
use rustix::net::{SocketType, bind};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Sending sockets of a worker, each a source port.
const SOURCES: usize = 16;

/// The sockets of one worker.
pub struct UdpEndpoint {
    /// `None`: it only sends.
    receiving: Option<OwnedFd>,
    receiver: Receiver,
    sender: Sender,
}

/// Control's hold on an endpoint, to give one to another worker, too.
#[derive(Debug)]
pub struct UdpHandle {
    first: OwnedFd,
    port: u16,
    ipv6: bool,
}

impl UdpEndpoint {
    /// Opens the sockets in the caller's network namespace.
    pub fn open(port: u16, ipv6: bool) -> Result<(Self, UdpHandle, Status), OpenError> {
        let opened = receiving_socket(ipv6).and_then(|receiving| {
            bind_to(&receiving, port, ipv6)?;
            let first = receiving.try_clone()?;
            Ok((Self::with(Some(receiving), ipv6)?, UdpHandle { first, port, ipv6 }))
        });
        let (endpoint, handle) = opened.map_err(error(port, ipv6))?;
        Ok((endpoint, handle, vec![("io".to_owned(), "udp".to_owned())]))
    }

    fn with(receiving: Option<OwnedFd>, ipv6: bool) -> io::Result<Self> {
        let sources = (0..SOURCES).map(|_| sending_socket(ipv6)).collect::<io::Result<_>>()?;
        Ok(Self { receiving, receiver: Receiver::new(), sender: Sender::new(sources, ipv6)? })
    }
}

impl UdpHandle {
    /// The same for a worker more, in the network namespace of the first.
    pub fn another(&self) -> Result<UdpEndpoint, OpenError> {
        let share = |fd: &OwnedFd| set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEPORT, 1);
        let opened = receiving_socket(self.ipv6).and_then(|receiving| {
            share(&self.first)?;
            share(&receiving)?;
            bind_to(&receiving, self.port, self.ipv6)?;
            UdpEndpoint::with(Some(receiving), self.ipv6)
        });
        opened.map_err(error(self.port, self.ipv6))
    }

    /// The same for a worker that only sends.
    pub fn sender(&self) -> Result<UdpEndpoint, OpenError> {
        UdpEndpoint::with(None, self.ipv6).map_err(error(self.port, self.ipv6))
    }
}

fn error(port: u16, ipv6: bool) -> impl FnOnce(io::Error) -> OpenError {
    move |source| {
        let hint = match source.raw_os_error() {
            Some(libc::EADDRINUSE) => format!(
                "a kernel tunnel device or another switch holds the port; 'ip -d link show type vxlan' (or geneve) and \
                 'ss -ulpn sport = :{port}' tell which; remove it or use another options:dst_port"
            ),
            Some(libc::EAFNOSUPPORT) => "this host has no IPv6; use an IPv4 remote_ip".to_owned(),
            _ => String::new(),
        };
        let device = format!("UDP port {port} ({})", if ipv6 { "IPv6" } else { "IPv4" });
        OpenError { device, call: "opening the tunnels' sockets", source, hint }
    }
}

/// A socket to receive by, which is still to be bound.
fn receiving_socket(ipv6: bool) -> io::Result<OwnedFd> {
    let fd = socket(SocketType::DGRAM, None, ipv6)?;
    prepare_receiving(fd.as_fd(), ipv6)?;
    if ipv6 {
        // Or else it would take IPv4's packets too.
        set_option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
    }
    set_option(fd.as_fd(), libc::SOL_UDP, libc::UDP_GRO, 1)?;
    // Peers may leave the outer checksum out over IPv6 too (RFC 6935); the inner frame has its own.
    set_option(fd.as_fd(), libc::SOL_UDP, libc::UDP_NO_CHECK6_RX, 1)?;
    Ok(fd)
}

fn bind_to(fd: &OwnedFd, port: u16, ipv6: bool) -> io::Result<()> {
    let any: IpAddr = if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() };
    Ok(bind(fd, &SocketAddr::new(any, port))?)
}

fn sending_socket(ipv6: bool) -> io::Result<OwnedFd> {
    let fd = socket(SocketType::DGRAM, None, ipv6)?;
    // Nobody is meant to send to these; what comes nevertheless is never read and must not take up memory.
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 0)?;
    Ok(fd)
}

impl Device for UdpEndpoint {
    fn caps(&self) -> Caps {
        Caps::NONE
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.receiving.iter().map(AsFd::as_fd).collect()
    }

    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, lost: &mut Vec<(DropReason, u64)>) -> Rx {
        let Some(receiving) = &self.receiving else { return Rx::Empty };
        match self.receiver.receive(receiving.as_fd(), 0, pool, batch, lost, finish) {
            Ok(rx) => rx,
            Err(e) => Rx::Dead(e.raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    fn send(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>, unsent: &mut Unsent) -> u64 {
        self.sender.send(pool, frames, unsent)
    }
}
