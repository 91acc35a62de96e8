//! What the sockets below tunnels do alike: send to many remote ends as each tunnel asks for, and tell of what is
//! received who sent it, to which address, and with which marks.
//!
//! Owned by one worker thread. Anybody who can reach the port may send any bytes: they are handed on as payload, and the
//! tunnel's decapsulation judges them. Outer packets have "don't fragment" unless the tunnel says otherwise: fragments
//! would be lost silently more often than not, and a loop of tunnels through the host feeds on them. The sockets are
//! unconnected and do not ask for ICMP errors, so no error of an earlier packet fails a later one; a learned path MTU
//! answers EMSGSIZE directly, which the worker tells control of.

use super::cmsg::{self, Control, Name, take};
use super::sys::{Messages, Outgoing, set_option};
use super::tx::send_all;
use super::{SOCKET_BUFFER, Unsent, Unsupported};
use crate::packet::{Frame, Outer, Pool};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A socket that never blocks.
pub fn socket(kind: SocketType, protocol: Option<Protocol>, ipv6: bool) -> io::Result<OwnedFd> {
    let family = if ipv6 { AddressFamily::INET6 } else { AddressFamily::INET };
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, protocol)?)
}

/// Makes a socket tell what [`finish`] reads, and gives it room.
pub fn prepare_receiving(fd: BorrowedFd<'_>, ipv6: bool) -> io::Result<()> {
    let (level, packet_info, tos) = if ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, libc::IPV6_RECVTCLASS)
    } else {
        (libc::IPPROTO_IP, libc::IP_PKTINFO, libc::IP_RECVTOS)
    };
    set_option(fd, level, packet_info, 1)?;
    set_option(fd, level, tos, 1)?;
    give_room(fd)
}

/// Has the kernel hold as much for a socket until it is read as we want it to.
pub fn give_room(fd: BorrowedFd<'_>) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, SOCKET_BUFFER)
}

/// Completes a received payload: who sent it, to which address, how it was marked, and whether it is a run of datagrams.
pub fn finish(messages: &Messages, i: usize, frame: &mut Frame) -> Result<(), Unsupported> {
    let remote = cmsg::parse_name(messages.name(i)).ok_or(Unsupported)?;
    let mut outer = Outer::to(remote);
    for message in cmsg::parse(messages.control(i)) {
        match message.kind {
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let size = take(message.data, 0).map(libc::c_int::from_ne_bytes);
                let size = size.and_then(|s| u16::try_from(s).ok()).filter(|&s| s > 0);
                outer.segment = size.filter(|&s| usize::from(s) < frame.len());
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => outer.local = take::<4>(message.data, 8).map(IpAddr::from),
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => outer.local = take::<16>(message.data, 0).map(IpAddr::from),
            (libc::IPPROTO_IP, libc::IP_TOS) => outer.tos = message.data.first().copied().unwrap_or_default(),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                let class = take(message.data, 0).map(libc::c_int::from_ne_bytes).unwrap_or_default();
                outer.tos = u8::try_from(class).unwrap_or_default();
            }
            _ => {}
        }
    }
    frame.meta.outer = Some(outer);
    Ok(())
}

/// What the kernel takes for a socket and not for a single packet. One socket serves all tunnels, and its mode is changed
/// between two sends where they differ: with the defaults never.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Mode {
    dont_fragment: bool,
    checksum: bool,
}

/// A sending socket, which may be receiving too.
#[derive(Debug)]
struct Source {
    fd: OwnedFd,
    mode: Mode,
}

/// The sending side: a few sockets, over which the flows are spread.
pub struct Sender {
    sources: Vec<Source>,
    messages: Messages,
    ipv6: bool,
}

impl Sender {
    /// A sender over these sockets of one kind.
    pub fn new(sockets: Vec<OwnedFd>, ipv6: bool) -> io::Result<Self> {
        let mode = Mode { dont_fragment: true, checksum: true };
        let (level, ttl) =
            if ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) } else { (libc::IPPROTO_IP, libc::IP_TTL) };
        for fd in &sockets {
            set_dont_fragment(fd.as_fd(), ipv6, mode.dont_fragment)?;
            set_option(fd.as_fd(), level, ttl, libc::c_int::from(Outer::TTL))?;
            set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SOCKET_BUFFER)?;
        }
        let sources = sockets.into_iter().map(|fd| Source { fd, mode }).collect();
        Ok(Self { sources, messages: Messages::new(), ipv6 })
    }

    /// Sends all frames, those of each inner flow in order; see [`super::Device::send`].
    pub fn send(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>, unsent: &mut Unsent) -> u64 {
        let Self { sources, messages, ipv6 } = self;
        let count = sources.len();
        // Stable, so the order within each inner flow is kept.
        frames.sort_by_key(|frame| way_of(frame, count));
        send_all(pool, frames, unsent, 0, |frames| {
            let Some(way) = frames.first().map(|frame| way_of(frame, count)) else { return Ok(0) };
            let source = &mut sources[way.0];
            source.become_mode(way.1, *ipv6)?;
            let alike = frames.iter().take_while(|frame| way_of(frame, count) == way);
            messages.send(source.fd.as_fd(), alike.map(|frame| outgoing(frame, *ipv6)))
        })
    }
}

impl Source {
    fn become_mode(&mut self, mode: Mode, ipv6: bool) -> io::Result<()> {
        if mode.dont_fragment != self.mode.dont_fragment {
            set_dont_fragment(self.fd.as_fd(), ipv6, mode.dont_fragment)?;
            self.mode.dont_fragment = mode.dont_fragment;
        }
        if mode.checksum != self.mode.checksum {
            let (level, no_checksum) =
                if ipv6 { (libc::SOL_UDP, UDP_NO_CHECK6_TX) } else { (libc::SOL_SOCKET, libc::SO_NO_CHECK) };
            set_option(self.fd.as_fd(), level, no_checksum, libc::c_int::from(!mode.checksum))?;
            self.mode.checksum = mode.checksum;
        }
        Ok(())
    }
}

/// linux/udp.h.
const UDP_NO_CHECK6_TX: libc::c_int = 101;

fn set_dont_fragment(fd: BorrowedFd<'_>, ipv6: bool, dont_fragment: bool) -> io::Result<()> {
    let (level, name, never, maybe) = if ipv6 {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO, libc::IPV6_PMTUDISC_DONT)
    } else {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO, libc::IP_PMTUDISC_DONT)
    };
    set_option(fd, level, name, if dont_fragment { never } else { maybe })
}

/// Which of `sources` sockets a frame takes, the same for all frames of an inner flow, and in which mode.
fn way_of(frame: &Frame, sources: usize) -> (usize, Mode) {
    frame.meta.outer.map_or((0, Mode { dont_fragment: true, checksum: true }), |outer| {
        let mode = Mode { dont_fragment: outer.dont_fragment, checksum: outer.checksum };
        (usize::from(outer.entropy) % sources.max(1), mode)
    })
}

fn outgoing(frame: &Frame, ipv6: bool) -> Outgoing<'_> {
    let mut control = Control::default();
    if let Some(outer) = frame.meta.outer {
        outer.local.into_iter().for_each(|ip| control.source(ip));
        outer.segment.filter(|&s| usize::from(s) < frame.len()).into_iter().for_each(|s| control.segment(s));
        if outer.tos != 0 {
            control.tos(outer.tos, ipv6);
        }
        if outer.ttl != Outer::TTL {
            control.ttl(outer.ttl, ipv6);
        }
    }
    Outgoing {
        bytes: frame.bytes(),
        to: frame.meta.outer.map(|o| Name::from(SocketAddr::new(o.remote, o.remote_port))),
        control: Some(control),
    }
}
