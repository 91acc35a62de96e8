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
use super::tx::send_together;
use super::{SOCKET_BUFFER, Unsent, Unsupported};
use crate::packet::{Frame, Outer, Pool};
use crate::wire::udp;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Datagrams in one run: what every kernel's `UDP_SEGMENT` takes.
const MAX_RUN: usize = 64;

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
        send_together(
            pool,
            frames,
            unsent,
            0,
            |frames| run_len(frames, count),
            |frames| {
                let Some(way) = frames.first().map(|frame| way_of(frame, count)) else { return Ok(0) };
                let source = &mut sources[way.0];
                source.become_mode(way.1, *ipv6)?;
                let alike = frames.iter().take_while(|frame| way_of(frame, count) == way).count();
                let fd = source.fd.as_fd();
                match messages.send(fd, runs(&frames[..alike], count).map(|run| outgoing(run, *ipv6))) {
                    // So older kernels say of a run that its datagrams are too large; of one alone they say EMSGSIZE.
                    Err(e) if e.raw_os_error() == Some(libc::EINVAL) && run_len(frames, count) > 1 => {
                        messages.send(fd, std::iter::once(outgoing(&frames[..1], *ipv6)))
                    }
                    sent => sent,
                }
            },
        )
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

/// The frames in the runs that they leave in.
fn runs(mut frames: &[Frame], sources: usize) -> impl Iterator<Item = &[Frame]> {
    std::iter::from_fn(move || {
        let (run, rest) = frames.split_at(run_len(frames, sources));
        frames = rest;
        Some(run).filter(|run| !run.is_empty())
    })
}

/// How many frames leave together with the first one, in one run: datagrams of the same size, to the same end, marked
/// alike. What the kernel may have to fragment leaves alone, for it fragments no run.
fn run_len(frames: &[Frame], sources: usize) -> usize {
    let Some((first, rest)) = frames.split_first() else { return 0 };
    let Some(outer) = first.meta.outer.as_ref().filter(|outer| takes_runs(outer)) else { return 1 };
    let (size, way) = (datagram_len(first, outer), way_of(first, sources));
    let longest = udp::MAX_PAYLOAD.min(MAX_RUN * size);
    let mut len = first.len();
    let joins = |frame: &&Frame| {
        let whole = len.is_multiple_of(size);
        len += frame.len();
        whole
            && len <= longest
            && frame.meta.outer.as_ref().is_some_and(|next| {
                takes_runs(next)
                    && datagram_len(frame, next) == size
                    && (next.remote, next.remote_port) == (outer.remote, outer.remote_port)
                    && (next.local, next.tos, next.ttl) == (outer.local, outer.tos, outer.ttl)
                    && way_of(frame, sources) == way
            })
    };
    1 + rest.iter().take_while(joins).count()
}

/// Whether the kernel takes a datagram in a run: over UDP, with a checksum.
fn takes_runs(outer: &Outer) -> bool {
    outer.remote_port != 0 && outer.checksum && (outer.dont_fragment || outer.segment.is_some())
}

/// Bytes of the first datagram in a frame.
fn datagram_len(frame: &Frame, outer: &Outer) -> usize {
    outer.segment.map_or(frame.len(), usize::from).max(1)
}

/// A run of datagrams that leave together.
fn outgoing(run: &[Frame], ipv6: bool) -> Outgoing<'_> {
    let (mut control, mut to) = (Control::default(), None);
    if let Some((first, outer)) = run.first().and_then(|first| Some((first, first.meta.outer.as_ref()?))) {
        to = Some(Name::from(SocketAddr::new(outer.remote, outer.remote_port)));
        outer.local.into_iter().for_each(|ip| control.source(ip));
        let size = datagram_len(first, outer);
        if size < run.iter().map(|frame| frame.len()).sum() {
            control.segment(size as u16);
        }
        if outer.tos != 0 {
            control.tos(outer.tos, ipv6);
        }
        if outer.ttl != Outer::TTL {
            control.ttl(outer.ttl, ipv6);
        }
    }
    Outgoing { frames: run, to, control: Some(control) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of `n` datagrams of `size` bytes, the last one perhaps shorter.
    fn run(n: usize, size: usize, last: usize) -> Frame {
        let mut frame = Pool::new(0).alloc();
        frame.set_len((n - 1) * size + last);
        let segment = (n > 1).then_some(size as u16);
        frame.meta.outer = Some(Outer { segment, ..Outer::to(([192, 0, 2, 2], 4789).into()) });
        frame
    }

    fn lengths(frames: &[Frame]) -> Vec<usize> {
        runs(frames, 16).map(<[Frame]>::len).collect()
    }

    #[test]
    fn equal_datagrams_leave_together_up_to_what_one_send_takes() {
        let single = |size| run(1, size, size);
        assert_eq!(lengths(&[]), Vec::<usize>::new());
        assert_eq!(lengths(&[single(100), single(100), single(100)]), [3]);
        assert_eq!(lengths(&[single(100), single(101), single(101), single(100)]), [1, 2, 1]);
        let many: Vec<_> = (0..130).map(|_| single(72)).collect();
        assert_eq!(lengths(&many), [64, 64, 2]);
        // 43 datagrams of 1506 bytes.
        let whole = || run(8, 1506, 1506);
        assert_eq!(lengths(&[whole(), whole(), whole(), whole(), whole(), whole()]), [5, 1]);
        assert_eq!(lengths(&[whole(), single(1506), run(8, 1506, 9), whole()]), [3, 1], "a shorter one is the last");
        assert_eq!(lengths(&[whole(), single(1505), whole()]), [1, 1, 1], "a frame of another size is none of it");
        let frames = [whole(), single(1506)];
        let control = outgoing(&frames, false).control.unwrap();
        let mut expected = Control::default();
        expected.segment(1506);
        assert_eq!(control.bytes(), expected.bytes());
        assert!(outgoing(&frames[1..], false).control.unwrap().bytes().is_empty(), "one datagram is no run");
    }

    #[test]
    fn what_differs_outside_or_may_be_fragmented_leaves_apart() {
        let pair = |change: fn(&mut Outer)| {
            let mut frames = [run(1, 100, 100), run(1, 100, 100)];
            frames[1].meta.outer.iter_mut().for_each(change);
            lengths(&frames)
        };
        assert_eq!(pair(|_| {}), [2]);
        assert_eq!(pair(|outer| outer.entropy = 16), [2], "another flow by the same socket");
        assert_eq!(pair(|outer| outer.entropy = 1), [1, 1]);
        assert_eq!(pair(|outer| outer.remote = [192, 0, 2, 3].into()), [1, 1]);
        assert_eq!(pair(|outer| outer.remote_port = 4790), [1, 1]);
        assert_eq!(pair(|outer| outer.local = Some([192, 0, 2, 9].into())), [1, 1]);
        assert_eq!(pair(|outer| outer.tos = 3), [1, 1]);
        assert_eq!(pair(|outer| outer.ttl = 9), [1, 1]);
        let both = |change: fn(&mut Outer)| {
            let mut frames = [run(1, 100, 100), run(1, 100, 100)];
            frames.iter_mut().flat_map(|frame| &mut frame.meta.outer).for_each(change);
            lengths(&frames)
        };
        assert_eq!(both(|outer| outer.dont_fragment = false), [1, 1]);
        assert_eq!(both(|outer| outer.checksum = false), [1, 1]);
        assert_eq!(both(|outer| outer.remote_port = 0), [1, 1], "no UDP");
    }
}
