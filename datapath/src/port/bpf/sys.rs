//! bpf(2) and what belongs to it: loading, attaching, and memory shared with programs. Thin: each function is one call
//! with safe arguments.
#![allow(unsafe_code)]

use super::Instruction;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

// Commands, types and flags of linux/bpf.h.
const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const MAP_TYPE_ARRAY: u32 = 2;
const MAPPABLE: u32 = 1 << 10;
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;
const BEFORE: u32 = 1 << 3;

/// What a program is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kind {
    /// To say which frames a socket receives (`BPF_PROG_TYPE_SOCKET_FILTER`).
    SocketFilter = 1,
    /// To say what becomes of a frame at a device (`BPF_PROG_TYPE_SCHED_CLS`).
    Classifier = 3,
}

/// The leading fields of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct ProgramLoad {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The leading fields of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
struct MapCreate {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
    inner_map: u32,
    numa_node: u32,
    name: [u8; 16],
}

/// The fields of `union bpf_attr` for `BPF_LINK_CREATE` of a tcx program.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    padding: u32,
    expected_revision: u64,
}

/// Loads a program; `name`, up to 15 letters, digits and underscores, is what `bpftool prog` shows. The error of one that
/// the verifier refuses (EACCES, EINVAL) is all there is: ask `bpftool` or raise the log level for its reasons.
pub fn load(kind: Kind, instructions: &[Instruction], name: &str) -> io::Result<OwnedFd> {
    let mut attr = ProgramLoad {
        kind: kind as u32,
        instruction_count: u32::try_from(instructions.len()).unwrap_or(u32::MAX),
        instructions: instructions.as_ptr() as u64,
        license: c"MIT".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: 0,
        name: padded(name),
    };
    // SAFETY: the instructions and the license live until the call returns; the kernel copies and verifies them.
    unsafe { bpf(PROG_LOAD, &mut attr) }
}

/// Attaches a classifier before all others on receive (`BPF_TCX_INGRESS`); it stays until the link is closed.
pub fn link_tcx_ingress(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    link_tcx(program, ifindex, TCX_INGRESS)
}

/// The same for what the host sends by a device (`BPF_TCX_EGRESS`).
pub fn link_tcx_egress(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    link_tcx(program, ifindex, TCX_EGRESS)
}

fn link_tcx(program: BorrowedFd<'_>, ifindex: u32, attach_type: u32) -> io::Result<OwnedFd> {
    let mut attr = LinkCreate {
        program: program.as_raw_fd().cast_unsigned(),
        target_ifindex: ifindex,
        attach_type,
        flags: BEFORE,
        relative: 0,
        padding: 0,
        expected_revision: 0,
    };
    // SAFETY: there are no addresses in it.
    unsafe { bpf(LINK_CREATE, &mut attr) }
}

/// An array of so many values that can be mapped ([`Shared`]), so that programs and the process share it without system
/// calls.
pub fn mappable_array(value_size: u32, entries: u32, name: &str) -> io::Result<OwnedFd> {
    create_map(MAP_TYPE_ARRAY, value_size, entries, MAPPABLE, padded(name))
}

/// Makes a map of this kind whose keys are numbers.
pub(in crate::port) fn create_map(
    kind: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
    name: [u8; 16],
) -> io::Result<OwnedFd> {
    let key_size = u32::try_from(size_of::<u32>()).unwrap_or_default();
    let mut attr = MapCreate { kind, key_size, value_size, entries, flags, inner_map: 0, numa_node: 0, name };
    // SAFETY: there are no addresses in it.
    unsafe { bpf(MAP_CREATE, &mut attr) }
}

/// The values of an array, as words. Programs and the process read and write them at any time.
#[derive(Debug)]
pub struct Shared {
    at: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: it is memory of its own, and words that anybody may access at any time are what `AtomicU64` is for.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// Maps the first `words` of an array that has at least so many.
    pub fn map(array: BorrowedFd<'_>, words: usize) -> io::Result<Self> {
        let (len, access) = (words * size_of::<u64>(), libc::PROT_READ | libc::PROT_WRITE);
        // SAFETY: a new mapping at an address that the kernel chooses touches nothing that is there.
        let at: *mut libc::c_void =
            unsafe { libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, array.as_raw_fd(), 0) };
        match NonNull::new(at.cast::<AtomicU64>()) {
            Some(words_at) if at != libc::MAP_FAILED => Ok(Self { at: words_at, words }),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

impl Deref for Shared {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is so long, aligned to a page, and lives as long as `self`; any bits are a valid word.
        unsafe { std::slice::from_raw_parts(self.at.as_ptr(), self.words) }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody borrows it any more. There is no way to fail.
        unsafe { libc::munmap(self.at.as_ptr().cast(), self.words * size_of::<u64>()) };
    }
}

pub(in crate::port) fn padded(name: &str) -> [u8; 16] {
    let mut padded = [0; 16];
    padded.iter_mut().zip(name.bytes().take(15)).for_each(|(to, from)| *to = from);
    padded
}

/// bpf(2) with a command that answers with a new descriptor; `attr` are the leading fields that the command reads.
///
/// # Safety
/// Addresses in `attr` must be valid for what `command` does with them, and the command must make a descriptor.
pub(in crate::port) unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: `attr` lives until the call returns and its size is stated; what it points to is the caller's promise.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    match libc::c_int::try_from(fd) {
        // SAFETY: the descriptor is new, so nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Running a program on a frame that came from nowhere, for tests.
#[cfg(test)]
pub mod trial {
    use super::*;

    const PROG_TEST_RUN: libc::c_int = 10;
    /// Words of `struct __sk_buff`.
    pub const SKB_WORDS: usize = 48;

    /// The fields of `union bpf_attr` for `BPF_PROG_TEST_RUN`.
    #[repr(C)]
    struct TestRun {
        program: u32,
        result: u32,
        len_in: u32,
        len_out: u32,
        frame_in: u64,
        frame_out: u64,
        repeat: u32,
        duration: u32,
        skb_len_in: u32,
        skb_len_out: u32,
        skb_in: u64,
        skb_out: u64,
        flags: u32,
        cpu: u32,
        batch: u32,
        padding: u32,
    }

    /// What a classifier says to a frame from the loopback device, whose `struct __sk_buff` it may read and write.
    pub fn run(program: BorrowedFd<'_>, frame: &[u8], skb: &mut [u32; SKB_WORDS]) -> io::Result<i32> {
        let before = *skb;
        let (len, skb_len) = (u32::try_from(frame.len()).unwrap(), u32::try_from(size_of_val(skb)).unwrap());
        let mut attr = TestRun {
            program: program.as_raw_fd().cast_unsigned(),
            result: 0,
            len_in: len,
            len_out: 0,
            frame_in: frame.as_ptr() as u64,
            frame_out: 0,
            repeat: 1,
            duration: 0,
            skb_len_in: skb_len,
            skb_len_out: skb_len,
            skb_in: before.as_ptr() as u64,
            skb_out: skb.as_mut_ptr() as u64,
            flags: 0,
            cpu: 0,
            batch: 0,
            padding: 0,
        };
        let (at, size) = (&raw mut attr, size_of::<TestRun>());
        // SAFETY: the frame and both structures live until the call returns, and their sizes are stated.
        match unsafe { libc::syscall(libc::SYS_bpf, PROG_TEST_RUN, at, size) } {
            0 => Ok(attr.result.cast_signed()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}
