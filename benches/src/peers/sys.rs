//! The system calls of the generator: a packet socket on a device, batches of frames into it.
#![allow(unsafe_code)]

use rustix::net::{
    AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, sendmmsg, socket_with,
};
use std::ffi::CString;
use std::io::{self, IoSlice};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

// linux/if_packet.h
const SOL_PACKET: libc::c_int = 263;
const PACKET_QDISC_BYPASS: libc::c_int = 20;

/// Frames that one call sends.
pub const BATCH: usize = 64;

/// A socket that sends raw frames by one device.
pub struct Sender(OwnedFd);

impl Sender {
    /// Opens the device of that name in the thread's network namespace. Nothing is received.
    pub fn open(device: &str) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        let name = CString::new(device)?;
        // SAFETY: `name` is a string that ends with a null character.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: all-zero bytes are a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index.cast_signed();
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: `address` is a sockaddr_ll of that length.
        check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) })?;
        let (yes, len): (libc::c_int, _) = (1, size_of::<libc::c_int>() as libc::socklen_t);
        let value = (&raw const yes).cast();
        // SAFETY: `value` points to an integer of that length.
        check(unsafe { libc::setsockopt(socket.as_raw_fd(), SOL_PACKET, PACKET_QDISC_BYPASS, value, len) })?;
        Ok(Self(socket))
    }

    /// Sends a batch of the frames.
    pub fn send<const LEN: usize>(&mut self, frames: &[[u8; LEN]; BATCH]) -> io::Result<()> {
        let parts = frames.each_ref().map(|frame| [IoSlice::new(frame)]);
        let mut controls: [SendAncillaryBuffer<'_, '_, '_>; BATCH] =
            std::array::from_fn(|_| SendAncillaryBuffer::default());
        let mut messages: Vec<MMsgHdr<'_>> =
            parts.iter().zip(&mut controls).map(|(part, none)| MMsgHdr::new(part, none)).collect();
        match sendmmsg(&self.0, &mut messages, SendFlags::empty()) {
            // The queue of the device is full: what is lost by that is no error of a generator.
            Ok(_) | Err(rustix::io::Errno::NOBUFS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// Turns the -1 of a system call into its error.
fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Keeps this thread on the machine's last core, away from switches that poll on the first.
pub fn stay_on_last_core() -> io::Result<()> {
    let mut cores = rustix::thread::CpuSet::new();
    cores.set(thread::available_parallelism()?.get() - 1);
    Ok(rustix::thread::sched_setaffinity(None, &cores)?)
}
