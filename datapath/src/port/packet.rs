//! Any network device of the host, through an AF_PACKET socket with virtio-net headers.
//!
//! The header carries super-frames and unfinished checksums both ways, so a container's 64 KiB TCP frame passes as it
//! is. Frames are received straight into pool memory and sent straight from it, a batch per system call. The kernel
//! moves an outer VLAN tag to ancillary data; it is put back here. The host's own stack is kept out of the device.
//!
//! Owned by one worker thread. Whoever is on the device may send any bytes: nothing here looks into a frame beyond what
//! the header says, and that is checked against its length. A link that goes down and up again is no end: the same
//! socket goes on. The socket cannot tell reliably that its device was deleted (netlink can); it says so when it learns.
//!
//! One worker receives; every other one sends by a socket of its own, which the kernel gives no frames ([`Sender`]).

use super::assist::{Attached, Programs};
use super::cmsg::{self, take};
use super::keep_out::{KeepOut, KeepOuts};
use super::rx::Receiver;
use super::sys::{self, Messages, Outgoing, PacketMembership, set_option};
use super::tx::send_all;
use super::{Caps, Device, OpenError, Rx, SOCKET_BUFFER, Status, Unsent, Unsupported, vnet};
use crate::packet::{Batch, Frame, Pool};
use crate::switch::verdict::DropReason;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::slice::from_ref;
use std::sync::Arc;

// linux/if_packet.h; libc lacks some of them.
const SOL_PACKET: libc::c_int = 263;
const PACKET_ADD_MEMBERSHIP: libc::c_int = 1;
const PACKET_AUXDATA: libc::c_int = 8;
const PACKET_VNET_HDR: libc::c_int = 15;
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
const PACKET_MR_PROMISC: u16 = 1;
const TP_STATUS_VLAN_VALID: u32 = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID: u32 = 1 << 6;
const ETH_P_ALL: u16 = 3;
const ETH_P_8021Q: u16 = 0x8100;

/// A packet socket on one device.
pub struct PacketSocket {
    sender: Sender,
    ifindex: libc::c_int,
    /// Frees the device for the host's stack when it is dropped; `None`: the host goes on using it.
    _keep_out: Option<Arc<KeepOut>>,
    receiver: Receiver,
}

/// A packet socket that only sends.
pub struct Sender {
    fd: Arc<OwnedFd>,
    sending: Messages,
}

impl Sender {
    /// Opens the device with this index in the caller's network namespace; `name` is for messages.
    pub(crate) fn open(name: &str, ifindex: u32) -> Result<Self, OpenError> {
        let index = libc::c_int::try_from(ifindex).unwrap_or(0);
        // Bound to no protocol, it receives nothing.
        let fd = sending_socket().and_then(|fd| sys::bind_packet(fd.as_fd(), index, 0).map(|()| fd));
        let fd = fd.map_err(|source| {
            let (device, call) = (name.to_owned(), "opening a packet socket to send by");
            OpenError { device, call, source, hint: "is the device still there?".to_owned() }
        })?;
        Ok(Self { fd: Arc::new(fd), sending: Messages::new() })
    }

    /// The same, with a mark on all that is sent, for programs to know it by.
    pub(super) fn open_marked(ifindex: u32, mark: libc::c_int) -> io::Result<Self> {
        let fd = sending_socket()?;
        set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_MARK, mark)?;
        sys::bind_packet(fd.as_fd(), libc::c_int::try_from(ifindex).unwrap_or(0), 0)?;
        Ok(Self { fd: Arc::new(fd), sending: Messages::new() })
    }
}

impl PacketSocket {
    /// Opens the device with this index in the caller's network namespace; `name` is for messages.
    pub(crate) fn open(
        name: &str,
        ifindex: u32,
        keep_outs: &mut KeepOuts,
    ) -> Result<(Self, PacketHandle, Status), OpenError> {
        let error = |call, hint: &str| {
            let (device, hint) = (name.to_owned(), hint.to_owned());
            move |source: io::Error| OpenError { device, call, source, hint }
        };
        let index = libc::c_int::try_from(ifindex).unwrap_or(0);
        let fd = socket(index).map_err(error("opening a packet socket", "it needs CAP_NET_RAW"))?;
        let needs = "it needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN";
        let (keep_out, by) = keep_outs.attach(ifindex).map_err(error("keeping the host's stack out of it", needs))?;
        let status = [("io", "packet"), ("keep_out", by)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let gone = "is the device still there?";
        sys::bind_packet(fd.as_fd(), index, ETH_P_ALL).map_err(error("binding a packet socket to it", gone))?;
        let (fd, keep_out) = (Arc::new(fd), Arc::new(keep_out));
        let handle = PacketHandle { fd: Arc::clone(&fd), keep_out: Arc::clone(&keep_out), ifindex };
        let sender = Sender { fd, sending: Messages::new() };
        let port = Self { sender, ifindex: index, _keep_out: Some(keep_out), receiver: Receiver::new() };
        Ok((port, handle, status.into()))
    }

    /// A socket beside AF_XDP sockets on a device that the host goes on using, for what both get: frames to groups.
    pub(crate) fn of_groups(ifindex: u32) -> io::Result<Self> {
        let index = libc::c_int::try_from(ifindex).unwrap_or(0);
        let fd = socket(index)?;
        sys::attach_filter(fd.as_fd(), &GROUPS_ONLY)?;
        sys::bind_packet(fd.as_fd(), index, ETH_P_ALL)?;
        let sender = Sender { fd: Arc::new(fd), sending: Messages::new() };
        Ok(Self { sender, ifindex: index, _keep_out: None, receiver: Receiver::new() })
    }

    fn receive_error(&mut self, error: &io::Error, lost: &mut Vec<(DropReason, u64)>) -> Rx {
        match error.raw_os_error().unwrap_or(0) {
            // The kernel could not express the frame in a vnet header (SCTP super-frames, say) and has dropped it.
            libc::EINVAL => {
                lost.push((DropReason::RxUnsupported, 1));
                Rx::More
            }
            libc::ENETDOWN if sys::bound_interface(self.sender.fd.as_fd()).is_ok_and(|i| i == self.ifindex) => {
                Rx::Empty
            }
            libc::ENETDOWN => Rx::Dead(libc::ENODEV),
            errno => Rx::Dead(errno),
        }
    }
}

/// Control's hold on a packet socket that a worker has.
pub(crate) struct PacketHandle {
    fd: Arc<OwnedFd>,
    keep_out: Arc<KeepOut>,
    ifindex: u32,
}

impl std::fmt::Debug for PacketHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PacketHandle").field("ifindex", &self.ifindex).finish_non_exhaustive()
    }
}

impl PacketHandle {
    /// Has frames of known flows forwarded in the kernel.
    pub(crate) fn assist(&self, programs: &Programs) -> io::Result<Attached> {
        programs.attach(Arc::clone(&self.fd), self.ifindex, &self.keep_out)
    }

    /// The device's index.
    pub(crate) fn ifindex(&self) -> u32 {
        self.ifindex
    }
}

/// Takes frames whose destination has the group bit, in classic BPF (linux/filter.h): `ldb [0]; jset #1; ret all; ret 0`.
const GROUPS_ONLY: [libc::sock_filter; 4] = [
    libc::sock_filter { code: 0x30, jt: 0, jf: 0, k: 0 },
    libc::sock_filter { code: 0x45, jt: 0, jf: 1, k: 1 },
    libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: u32::MAX },
    libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 },
];

/// A packet socket that receives nothing.
fn sending_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    set_option(fd.as_fd(), SOL_PACKET, PACKET_VNET_HDR, 1)?;
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SOCKET_BUFFER)?;
    Ok(fd)
}

/// A packet socket that receives nothing before it is bound, and has the device take frames for any station.
pub(super) fn socket(ifindex: libc::c_int) -> io::Result<OwnedFd> {
    let fd = sending_socket()?;
    for name in [PACKET_AUXDATA, PACKET_IGNORE_OUTGOING] {
        set_option(fd.as_fd(), SOL_PACKET, name, 1)?;
    }
    set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, SOCKET_BUFFER)?;
    let promiscuous = PacketMembership { ifindex, kind: PACKET_MR_PROMISC, address_len: 0, address: [0; 8] };
    set_option(fd.as_fd(), SOL_PACKET, PACKET_ADD_MEMBERSHIP, promiscuous)?;
    Ok(fd)
}

/// Completes a received frame: what its header says, and the tag that the kernel took out.
fn finish(messages: &Messages, i: usize, frame: &mut Frame) -> Result<(), Unsupported> {
    vnet::decode_received(frame)?;
    match cmsg::parse(messages.control(i)).find(|m| m.kind == (SOL_PACKET, PACKET_AUXDATA)).and_then(vlan_tag) {
        Some((tpid, tci)) if !frame.push_vlan(tpid, tci) => Err(Unsupported),
        _ => Ok(()),
    }
}

/// Protocol and control information of the tag in a `struct tpacket_auxdata` (status, two lengths, two offsets, TCI, TPID).
fn vlan_tag(aux: cmsg::Received<'_>) -> Option<(u16, u16)> {
    let status = u32::from_ne_bytes(take(aux.data, 0)?);
    let (tci, tpid) = (u16::from_ne_bytes(take(aux.data, 16)?), u16::from_ne_bytes(take(aux.data, 18)?));
    // A priority tag may have TCI 0, so only the status tells whether there is one.
    let tpid = if status & TP_STATUS_VLAN_TPID_VALID != 0 { tpid } else { ETH_P_8021Q };
    (status & TP_STATUS_VLAN_VALID != 0).then_some((tpid, tci))
}

impl Device for PacketSocket {
    fn caps(&self) -> Caps {
        Caps::ALL
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![self.sender.fd.as_fd()]
    }

    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, lost: &mut Vec<(DropReason, u64)>) -> Rx {
        let received = self.receiver.receive(self.sender.fd.as_fd(), vnet::LEN, pool, batch, lost, finish);
        received.unwrap_or_else(|e| self.receive_error(&e, lost))
    }

    fn send(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>, unsent: &mut Unsent) -> u64 {
        self.sender.send(pool, frames, unsent)
    }
}

impl Device for Sender {
    fn caps(&self) -> Caps {
        Caps::ALL
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![]
    }

    fn receive(&mut self, _: &mut Pool, _: &mut Batch, _: &mut Vec<(DropReason, u64)>) -> Rx {
        Rx::Empty
    }

    fn send(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>, unsent: &mut Unsent) -> u64 {
        vnet::prepend(frames, pool);
        send_all(pool, frames, unsent, vnet::LEN, |frames| {
            let out = frames.iter().map(|frame| Outgoing { frames: from_ref(frame), to: None, control: None });
            self.sending.send(self.fd.as_fd(), out)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tag in a `struct tpacket_auxdata` with these fields.
    fn tag(status: u32, tci: u16, tpid: u16) -> Option<(u16, u16)> {
        let mut aux = [0; 20];
        aux[..4].copy_from_slice(&status.to_ne_bytes());
        aux[16..18].copy_from_slice(&tci.to_ne_bytes());
        aux[18..].copy_from_slice(&tpid.to_ne_bytes());
        vlan_tag(cmsg::Received { kind: (SOL_PACKET, PACKET_AUXDATA), data: &aux })
    }

    #[test]
    fn the_status_tells_whether_there_is_a_tag() {
        assert_eq!(tag(1 | 16 | 64, 0x600a, 0x88a8), Some((0x88a8, 0x600a)));
        assert_eq!(tag(1 | 16, 10, 0), Some((0x8100, 10)), "kernels that do not tell the protocol");
        assert_eq!(tag(1 | 16 | 64, 0, 0x8100), Some((0x8100, 0)), "a priority tag");
        assert_eq!(tag(1, 0, 0), None);
        let short = cmsg::Received { kind: (SOL_PACKET, PACKET_AUXDATA), data: &[0xff; 19] };
        assert_eq!(vlan_tag(short), None);
    }
}
