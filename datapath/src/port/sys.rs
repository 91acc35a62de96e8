//! The system calls that no safe wrapper covers: recvmmsg and sendmmsg into frames, socket options and addresses of
//! AF_PACKET, the ioctls of TAP. Thin: each function is one call with safe arguments; what to call when is decided
//! by the ports.
#![allow(unsafe_code)]

use super::cmsg::{CONTROL, Control, NAME, Name};
use crate::packet::{Batch, Frame};
use std::io;
use std::mem::{MaybeUninit, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Messages of one call at most, and frames in them.
const MESSAGES: usize = Batch::CAPACITY;
const PARTS: usize = 8 * MESSAGES;

/// Turns the -1 of a system call into its error.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn socklen(len: usize) -> libc::socklen_t {
    libc::socklen_t::try_from(len).unwrap_or(libc::socklen_t::MAX)
}

#[repr(C, align(8))]
struct Aligned<const N: usize>([u8; N]);

/// Memory for the headers of up to [`Batch::CAPACITY`] messages, used again for every call.
pub struct Messages {
    /// Written before each call by us, during it by the kernel; the pointers in it are only good during the call.
    headers: Box<[libc::mmsghdr; MESSAGES]>,
    parts: Box<[libc::iovec; PARTS]>,
    names: Box<[Aligned<32>; MESSAGES]>,
    controls: Box<[Aligned<CONTROL>; MESSAGES]>,
}

// SAFETY: the raw pointers in `headers` and `parts` are set anew at the start of each call, from borrows that outlive it,
// and nobody follows them at any other time.
unsafe impl Send for Messages {}

/// One message to send.
pub struct Outgoing<'a> {
    /// The payload: the bytes of these, [`PARTS`] at most, one after the other.
    pub frames: &'a [Frame],
    /// Where to; `None` for a bound or connected socket.
    pub to: Option<Name>,
    /// What to say to the kernel about it.
    pub control: Option<Control>,
}

impl Messages {
    pub fn new() -> Self {
        // SAFETY: all-zero bytes are valid values of these C structures: null pointers, zero lengths.
        let (headers, parts) = unsafe { (Box::new(zeroed()), Box::new(zeroed())) };
        let names = Box::new([const { Aligned([0; 32]) }; MESSAGES]);
        Self { headers, parts, names, controls: Box::new([const { Aligned([0; CONTROL]) }; MESSAGES]) }
    }

    /// Receives one message into each frame, `before` bytes ahead of its start, without waiting; how many were received.
    /// The frames' lengths are the caller's to set.
    pub fn receive(&mut self, fd: BorrowedFd<'_>, frames: &mut [Frame], before: usize) -> io::Result<usize> {
        let n = frames.len().min(MESSAGES);
        for (i, frame) in frames.iter_mut().take(n).enumerate() {
            let space = frame.receive_space(before);
            self.parts[i] = libc::iovec { iov_base: space.as_mut_ptr().cast(), iov_len: space.len() };
            let header = &mut self.headers[i].msg_hdr;
            header.msg_name = self.names[i].0.as_mut_ptr().cast();
            header.msg_namelen = socklen(NAME);
            header.msg_iov = &raw mut self.parts[i];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[i].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
            header.msg_flags = 0;
        }
        let (headers, count) = (self.headers.as_mut_ptr(), n as libc::c_uint);
        // SAFETY: the first `n` headers point to memory of the stated sizes, in `self` and in `frames`, all of it borrowed
        // exclusively until the call returns.
        let got = unsafe { libc::recvmmsg(fd.as_raw_fd(), headers, count, libc::MSG_DONTWAIT, std::ptr::null_mut()) };
        Ok(usize::try_from(check(got)?).unwrap_or(0).min(n))
    }

    /// Bytes of the `i`th message received, and whether the frame was too small for it.
    pub fn received(&self, i: usize) -> (usize, bool) {
        let header = &self.headers[i];
        (header.msg_len as usize, header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0)
    }

    /// Control messages of the `i`th message received.
    pub fn control(&self, i: usize) -> &[u8] {
        let len = self.headers[i].msg_hdr.msg_controllen;
        self.controls[i].0.get(..len).unwrap_or_default()
    }

    /// Sender of the `i`th message received.
    pub fn name(&self, i: usize) -> &[u8] {
        self.names[i].0.get(..self.headers[i].msg_hdr.msg_namelen as usize).unwrap_or_default()
    }

    /// Sends up to [`Batch::CAPACITY`] messages without waiting; how many frames went out in them. The error is that of
    /// the first message.
    pub fn send<'a>(&mut self, fd: BorrowedFd<'_>, out: impl Iterator<Item = Outgoing<'a>>) -> io::Result<usize> {
        let (mut n, mut used) = (0, 0);
        for (i, message) in out.take(MESSAGES).enumerate() {
            let Some(parts) = self.parts.get_mut(used..used + message.frames.len()) else { break };
            used += parts.len();
            for (part, frame) in parts.iter_mut().zip(message.frames) {
                let bytes = frame.bytes();
                *part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            }
            let header = &mut self.headers[i].msg_hdr;
            // SAFETY: all-zero bytes are a valid msghdr: no name, no parts, no control.
            *header = unsafe { zeroed() };
            header.msg_iov = parts.as_mut_ptr();
            header.msg_iovlen = parts.len() as _;
            if let Some(name) = &message.to {
                self.names[i].0[..name.bytes().len()].copy_from_slice(name.bytes());
                header.msg_name = self.names[i].0.as_mut_ptr().cast();
                header.msg_namelen = socklen(name.bytes().len());
            }
            if let Some(control) = message.control.as_ref().map(Control::bytes).filter(|c| !c.is_empty()) {
                self.controls[i].0[..control.len()].copy_from_slice(control);
                header.msg_control = self.controls[i].0.as_mut_ptr().cast();
                header.msg_controllen = control.len() as _;
            }
            n = i + 1;
        }
        let (headers, flags) = (self.headers.as_mut_ptr(), libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        // SAFETY: the first `n` headers point to memory in `self` and to payloads that `'a` keeps alive; sendmmsg only
        // reads the payloads, for which `cast_mut` above is no more than the C prototype's wish.
        let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), headers, n as libc::c_uint, flags) };
        let sent = usize::try_from(check(sent)?).unwrap_or(0).min(n);
        Ok(self.headers[..sent].iter().map(|header| header.msg_hdr.msg_iovlen).sum())
    }
}

/// Values that may be read from and written to the kernel as bytes.
///
/// # Safety
/// Any bytes are a valid value, and there is no padding.
pub unsafe trait Plain: Copy {}

// SAFETY: an integer: any bytes are a valid value.
unsafe impl Plain for libc::c_int {}
// SAFETY: as above.
unsafe impl<const N: usize> Plain for [u32; N] {}
// SAFETY: `struct packet_mreq` holds integers only, and its fields leave no gap.
unsafe impl Plain for PacketMembership {}

/// `struct packet_mreq` (linux/if_packet.h).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PacketMembership {
    pub ifindex: libc::c_int,
    pub kind: u16,
    pub address_len: u16,
    pub address: [u8; 8],
}

/// Sets a socket option.
pub fn set_option<T: Plain>(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: T) -> io::Result<()> {
    let (fd, at, len) = (fd.as_raw_fd(), (&raw const value).cast(), socklen(size_of::<T>()));
    // SAFETY: `value` lives until the call returns and is `len` bytes long.
    check(unsafe { libc::setsockopt(fd, level, name, at, len) }).map(drop)
}

/// Reads a socket option.
pub fn option<T: Plain>(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int) -> io::Result<T> {
    let (mut value, mut len) = (MaybeUninit::<T>::zeroed(), socklen(size_of::<T>()));
    // SAFETY: `value` is `len` bytes long; zeroed before and written by the kernel, it is valid because T is `Plain`.
    unsafe {
        check(libc::getsockopt(fd.as_raw_fd(), level, name, value.as_mut_ptr().cast(), &raw mut len))?;
        Ok(value.assume_init())
    }
}

/// Binds a packet socket to an interface, for frames of `protocol` (host byte order).
pub fn bind_packet(fd: BorrowedFd<'_>, ifindex: libc::c_int, protocol: u16) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).unwrap_or_default();
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = ifindex;
    let (at, len) = ((&raw const address).cast(), socklen(size_of::<libc::sockaddr_ll>()));
    // SAFETY: `address` lives until the call returns and is `len` bytes long.
    check(unsafe { libc::bind(fd.as_raw_fd(), at, len) }).map(drop)
}

/// Lets a socket receive only what a classic BPF program accepts (`SO_ATTACH_FILTER`).
pub fn attach_filter(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let len = libc::c_ushort::try_from(program.len()).unwrap_or(libc::c_ushort::MAX);
    let filter = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let (at, size) = ((&raw const filter).cast(), socklen(size_of::<libc::sock_fprog>()));
    // SAFETY: the program lives until the call returns and is `len` instructions long; the kernel copies it.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, at, size) }).map(drop)
}

/// The interface a packet socket is bound to; -1 once it has gone.
pub fn bound_interface(fd: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // SAFETY: all-zero bytes are a valid sockaddr_ll.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    let mut len = socklen(size_of::<libc::sockaddr_ll>());
    // SAFETY: `address` is `len` bytes long and borrowed until the call returns.
    check(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &raw mut len) })?;
    Ok(address.sll_ifindex)
}

/// A request structure of network device ioctls for the interface `name`. Interface names are shorter than 16 bytes.
fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.bytes().any(|b| b == 0) {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed() as libc::c_char;
    }
    Ok(request)
}

/// `TUNSETIFF`: attaches an open `/dev/net/tun` to the interface `name`, made if it does not exist.
pub fn tun_attach(fd: BorrowedFd<'_>, name: &str, flags: libc::c_int) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives until the call returns.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) }).map(drop)
}

/// `TUNGETIFF`: the flags of the attached interface.
pub fn tun_flags(fd: BorrowedFd<'_>) -> io::Result<libc::c_int> {
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { zeroed() };
    // SAFETY: TUNGETIFF writes one ifreq, which lives until the call returns.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNGETIFF as _, &raw mut request) })?;
    // SAFETY: the kernel has set the flags member of the union.
    Ok(libc::c_int::from(unsafe { request.ifr_ifru.ifru_flags }.cast_unsigned()))
}

/// `TUNSETPERSIST`: whether the interface outlives its descriptors.
pub fn tun_set_persist(fd: BorrowedFd<'_>, persist: bool) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST takes its argument by value.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETPERSIST as _, libc::c_ulong::from(persist)) }).map(drop)
}

/// `TUNSETOFFLOAD`: what the interface may hand over unfinished (`TUN_F_…`).
pub fn tun_set_offload(fd: BorrowedFd<'_>, offloads: libc::c_uint) -> io::Result<()> {
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETOFFLOAD as _, libc::c_ulong::from(offloads)) }).map(drop)
}

/// `TUNSETVNETHDRSZ`: bytes of the header before each frame.
pub fn tun_set_header_len(fd: BorrowedFd<'_>, len: libc::c_int) -> io::Result<()> {
    // SAFETY: TUNSETVNETHDRSZ reads one int, which lives until the call returns.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETVNETHDRSZ as _, &raw const len) }).map(drop)
}

/// `ETHTOOL_GDRVINFO`: the driver of the interface `name` in the socket's network namespace ("veth", "bridge", …).
pub fn driver_of(socket: BorrowedFd<'_>, name: &str) -> io::Result<String> {
    const GDRVINFO: u32 = 3;
    // `struct ethtool_drvinfo`; the driver's name is 32 bytes after the 4 of the command.
    let info = ethtool::<196>(socket, name, GDRVINFO)?;
    let driver: Vec<u8> = info[4..36].iter().copied().take_while(|&b| b != 0).collect();
    Ok(String::from_utf8_lossy(&driver).into_owned())
}

/// `ETHTOOL_GLINK`: whether the interface `name` is up and has a carrier; a TAP has one while a process has it open.
pub fn has_link(socket: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    const GLINK: u32 = 10;
    // `struct ethtool_value`: the command, then the answer.
    Ok(ethtool::<8>(socket, name, GLINK)?[4..] != [0; 4])
}

/// How many queues an interface has.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct QueueCounts {
    /// It receives by.
    pub receive: u32,
    /// It sends by.
    pub transmit: u32,
}

/// `ETHTOOL_GCHANNELS`: how many queues the interface has.
pub fn queue_counts(socket: BorrowedFd<'_>, name: &str) -> io::Result<QueueCounts> {
    const GCHANNELS: u32 = 0x3c;
    // `struct ethtool_channels`: the command, four maxima, then receive, transmit, other and combined queues.
    let channels = ethtool::<36>(socket, name, GCHANNELS)?;
    let field = |at: usize| u32::from_ne_bytes([channels[at], channels[at + 1], channels[at + 2], channels[at + 3]]);
    Ok(QueueCounts { receive: field(20) + field(32), transmit: field(24) + field(32) })
}

/// An ethtool command that fills a structure of `LEN` bytes, which begins with the command.
fn ethtool<const LEN: usize>(socket: BorrowedFd<'_>, name: &str, command: u32) -> io::Result<[u8; LEN]> {
    let (mut info, mut request) = (Aligned([0_u8; LEN]), request(name)?);
    info.0[..4].copy_from_slice(&command.to_ne_bytes());
    request.ifr_ifru.ifru_data = info.0.as_mut_ptr().cast();
    // SAFETY: the request and the structure that it points to live until the call returns; the callers give the size
    // that the kernel writes for the command.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) })?;
    Ok(info.0)
}
