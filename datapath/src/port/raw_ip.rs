//! The underlay side of all tunnels of one IP protocol and version, through one of the kernel's raw sockets.
//!
//! The kernel writes the outer IP header. It hands IPv4 packets over with theirs, reassembled, and IPv6 packets without;
//! every program with such a socket gets a copy of every packet. Each packet is sent and received by itself, and TCP
//! segments are merged as far as they come in one batch; but TCP super-frames leave whole where the kernel can cut them
//! ([`super::tunnel_gso`]), and arrive whole where nobody had to. Giving up the CPU before each receive call makes batches
//! larger (measured: 30 % less CPU a byte for the receiver), but beside busy programs it costs two thirds of the
//! throughput, so a call takes what there is.
//!
//! One worker receives; every other one sends by a socket of its own, whose copies of what arrives are not kept.
//!
//! What an attacker may try is told in [`super::underlay`].

use super::rx::Receiver;
use super::sys::{Messages, set_option};
use super::tunnel_gso::{SuperFrames, TunnelGso};
use super::underlay::{self, Sender, socket};
use super::{Caps, Device, OpenError, Rx, Status, Unsent, Unsupported};
use crate::packet::{Batch, Frame, Outer, Pool};
use crate::switch::verdict::DropReason;
use crate::wire::ipv4;
use rustix::net::{Protocol, RawProtocol, SocketType};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// The socket, by two descriptors.
pub struct RawIp {
    /// `None`: it only sends.
    receiving: Option<OwnedFd>,
    receiver: Receiver,
    sender: Sender,
    /// What super-frames are sent by; `None`: they come cut.
    super_frames: Option<SuperFrames>,
    /// Frames that leave by one or the other; empty between calls.
    run: Vec<Frame>,
    ipv6: bool,
    /// IPv6 only: lets the kernel learn path MTUs.
    _learning: Option<OwnedFd>,
}

/// Control's hold on a socket, to give one to another worker, too.
#[derive(Debug)]
pub struct RawIpHandle {
    protocol: u8,
    ipv6: bool,
    gso: Option<Arc<TunnelGso>>,
}

impl RawIp {
    /// Opens the socket for an IP protocol in the caller's network namespace.
    pub fn open(protocol: u8, ipv6: bool) -> Result<(Self, RawIpHandle, Status), OpenError> {
        let sockets = number(protocol).and_then(|protocol| {
            let receiving = socket(SocketType::RAW, Some(protocol), ipv6)?;
            if ipv6 {
                underlay::prepare_receiving(receiving.as_fd(), ipv6)?;
            } else {
                underlay::give_room(receiving.as_fd())?;
            }
            let sender = Sender::new(vec![receiving.try_clone()?], ipv6)?;
            let learning = ipv6.then(|| learning_socket(protocol)).transpose()?;
            Ok((receiving, sender, learning))
        });
        let (receiving, sender, learning) = sockets.map_err(error(protocol, ipv6))?;
        let mut status = vec![("io".to_owned(), "raw IP".to_owned())];
        let mut handle = RawIpHandle { protocol, ipv6, gso: None };
        let mut super_frames = None;
        if !ipv6 {
            match TunnelGso::open(protocol).map(Arc::new).and_then(|gso| Ok((gso.sender()?, gso))) {
                Ok((sender, gso)) => (super_frames, handle.gso) = (Some(sender), Some(gso)),
                Err(e) => status.push(("segmentation".to_owned(), without_gso(&e))),
            }
        }
        let (receiving, receiver) = (Some(receiving), Receiver::new());
        let socket = Self { receiving, receiver, sender, super_frames, run: vec![], ipv6, _learning: learning };
        Ok((socket, handle, status))
    }
}

impl RawIpHandle {
    /// The same for a worker that only sends.
    pub fn sender(&self) -> Result<RawIp, OpenError> {
        let Self { protocol, ipv6, .. } = *self;
        let sender = number(protocol).and_then(|number| Sender::new(vec![deaf_socket(number, ipv6)?], ipv6));
        let super_frames = || self.gso.as_ref().map(TunnelGso::sender).transpose();
        let opened = sender.and_then(|sender| Ok((sender, super_frames()?)));
        let ((sender, super_frames), receiver) = (opened.map_err(error(protocol, ipv6))?, Receiver::new());
        Ok(RawIp { receiving: None, receiver, sender, super_frames, run: vec![], ipv6, _learning: None })
    }
}

/// Why the kernel does not cut super-frames, for people.
fn without_gso(error: &io::Error) -> String {
    let why = match error.raw_os_error() {
        Some(libc::EINVAL) => format!("this kernel has no tcx links ({error}); it needs Linux 6.6 or later"),
        Some(libc::EPERM | libc::EACCES) => format!("{error}; it needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN"),
        _ => error.to_string(),
    };
    format!("vswitch, which is slower: {why}")
}

fn error(protocol: u8, ipv6: bool) -> impl FnOnce(io::Error) -> OpenError {
    move |source| {
        let hint = match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => "raw sockets need CAP_NET_RAW; run vswitch as root".to_owned(),
            Some(libc::EAFNOSUPPORT) => "this host has no IPv6; use an IPv4 remote_ip".to_owned(),
            _ => String::new(),
        };
        let device = format!("IP protocol {protocol} ({})", if ipv6 { "IPv6" } else { "IPv4" });
        OpenError { device, call: "opening the tunnels' raw socket", source, hint }
    }
}

/// A socket that is never read or sent by. The kernel takes the word of a router that an IPv6 packet was too big only if
/// it belongs to a raw socket that asks for errors (net/ipv6/raw.c, `rawv6_err`); one that sends must not ask, or an error
/// of one packet would fail the next.
fn learning_socket(protocol: Protocol) -> io::Result<OwnedFd> {
    let fd = deaf_socket(protocol, true)?;
    set_option(fd.as_fd(), libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)?;
    Ok(fd)
}

/// A socket that one packet fills, and that gets no copies from then on.
fn deaf_socket(protocol: Protocol, ipv6: bool) -> io::Result<OwnedFd> {
    let fd = socket(SocketType::RAW, Some(protocol), ipv6)?;
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, 0)?;
    Ok(fd)
}

fn number(protocol: u8) -> io::Result<Protocol> {
    RawProtocol::new(protocol.into()).map(Protocol::from_raw).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Completes a received IPv4 packet, whose IP header comes off. It tells what other sockets have to ask the kernel for,
/// packet by packet.
fn finish_v4(_: &Messages, _: usize, frame: &mut Frame) -> Result<(), Unsupported> {
    let packet = frame.bytes();
    let header_len = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    if header_len < ipv4::MIN_HEADER_LEN || header_len > packet.len() {
        return Err(Unsupported);
    }
    let [remote, local] = ipv4::addresses(packet);
    let (local, tos) = (Some(local.into()), packet[ipv4::TOS]);
    frame.meta.outer = Some(Outer { local, tos, ..Outer::to((remote, 0).into()) });
    frame.pop_front(header_len);
    Ok(())
}

impl Device for RawIp {
    fn caps(&self) -> Caps {
        let whole = self.super_frames.is_some();
        Caps { partial_csum: whole, tso: whole, ..Caps::NONE }
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.receiving.iter().map(AsFd::as_fd).collect()
    }

    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, lost: &mut Vec<(DropReason, u64)>) -> Rx {
        let Some(receiving) = &self.receiving else { return Rx::Empty };
        let finish = if self.ipv6 { underlay::finish } else { finish_v4 };
        match self.receiver.receive(receiving.as_fd(), 0, pool, batch, lost, finish) {
            Ok(rx) => rx,
            Err(e) => Rx::Dead(e.raw_os_error().unwrap_or(libc::EIO)),
        }
    }

    fn send(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>, unsent: &mut Unsent) -> u64 {
        let Some(super_frames) = &mut self.super_frames else { return self.sender.send(pool, frames, unsent) };
        let mut sent = 0;
        while let Some(first) = frames.first() {
            let whole = first.meta.gso.is_some();
            let alike = frames.iter().take_while(|frame| frame.meta.gso.is_some() == whole).count();
            self.run.extend(frames.drain(..alike));
            sent += if whole {
                super_frames.send(pool, &mut self.run, unsent)
            } else {
                self.sender.send(pool, &mut self.run, unsent)
            };
        }
        sent
    }
}
