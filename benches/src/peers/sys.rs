//! The system calls of the generators: a packet socket on a device and batches of frames into it; frames that the kernel
//! makes for the XDP program at the far end of a cable (bpf(2), Documentation/bpf/bpf_prog_run.rst).
#![allow(unsafe_code)]

use rustix::net::{
    AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketFlags, SocketType, sendmmsg, socket_with,
};
use std::ffi::CString;
use std::io::{self, IoSlice};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::thread;

// linux/if_packet.h
const SOL_PACKET: libc::c_int = 263;
const PACKET_QDISC_BYPASS: libc::c_int = 20;

// linux/bpf.h
const PROG_LOAD: libc::c_int = 5;
const PROG_TEST_RUN: libc::c_int = 10;
const PROG_TYPE_XDP: u32 = 6;
const TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// Frames that one call sends.
pub const BATCH: usize = 64;

/// A socket that sends raw frames by one device.
pub struct Sender(OwnedFd);

impl Sender {
    /// Opens the device of that name in the thread's network namespace. Nothing is received.
    pub fn open(device: &str) -> io::Result<Self> {
        let socket = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        let index = index_of(device)?;
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

/// A program that redirects what it is run on to a device, as if that sent it: `bpf_redirect(ifindex, 0)`.
pub struct Injector(OwnedFd);

impl Injector {
    /// For the device of that name in the thread's network namespace.
    pub fn open(device: &str) -> io::Result<Self> {
        // struct bpf_insn: the operation, registers, an offset, a number.
        let index = u64::from(index_of(device)?);
        let program: [u64; 4] = [0x01b4 | index << 32, 0x02b4, 0x85 | 23 << 32, 0x95];
        let load = Load {
            kind: PROG_TYPE_XDP,
            count: 4,
            program: (&raw const program) as u64,
            license: c"GPL".as_ptr() as u64,
            ..Load::default()
        };
        // SAFETY: `load` points to a program and a string, which live until the call is over.
        let fd = unsafe { bpf(PROG_LOAD, &load) }?;
        // SAFETY: the call has made this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Has the kernel make so many copies of the frame. Linux 5.18 and later.
    pub fn inject(&self, frame: &[u8], copies: u32) -> io::Result<()> {
        let run = TestRun {
            program: self.0.as_raw_fd().cast_unsigned(),
            size: frame.len() as u32,
            data: frame.as_ptr() as u64,
            repeat: copies,
            flags: TEST_XDP_LIVE_FRAMES,
            batch_size: BATCH as u32,
            ..TestRun::default()
        };
        // SAFETY: `run` points to a frame of that size, which lives until the call is over and is not written to.
        unsafe { bpf(PROG_TEST_RUN, &run) }.map(drop)
    }
}

/// What `BPF_PROG_LOAD` is given (`union bpf_attr`, linux/bpf.h), as far as it is needed.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    program: u64,
    license: u64,
    log: [u64; 3],
}

/// What `BPF_PROG_TEST_RUN` is given.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    result: u32,
    size: u32,
    size_out: u32,
    data: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_sizes: [u32; 2],
    contexts: [u64; 2],
    flags: u32,
    cpu: u32,
    batch_size: u32,
    padding: u32,
}

/// # Safety
/// What `attributes` refers to lives until the call is over, and is as large as it says.
unsafe fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<libc::c_int> {
    // SAFETY: the kernel reads `attributes`, which are this large, and what the caller vouches for.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw const *attributes, size_of::<T>()) };
    check(result as libc::c_int)?;
    Ok(result as libc::c_int)
}

/// The index of a device in the thread's network namespace.
fn index_of(device: &str) -> io::Result<libc::c_uint> {
    let name = CString::new(device)?;
    // SAFETY: `name` is a string that ends with a null character.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
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
