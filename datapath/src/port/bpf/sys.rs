//! bpf(2) and what belongs to it: loading, attaching, and memory shared with programs. Thin: each function is one call
//! with safe arguments.
#![allow(unsafe_code)]

use super::Instruction;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

// Commands, types and flags of linux/bpf.h.
const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const MAP_TYPE_ARRAY: u32 = 2;
const MAPPABLE: u32 = 1 << 10;
const TCX_INGRESS: u32 = 46;
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
    let mut attr = LinkCreate {
        program: program.as_raw_fd().cast_unsigned(),
        target_ifindex: ifindex,
        attach_type: TCX_INGRESS,
        flags: BEFORE,
        relative: 0,
        padding: 0,
        expected_revision: 0,
    };
    // SAFETY: there are no addresses in it.
    unsafe { bpf(LINK_CREATE, &mut attr) }
}

/// An array of so many values that can be mapped, so that programs and the process share it without system calls.
pub fn mappable_array(value_size: u32, entries: u32, name: &str) -> io::Result<OwnedFd> {
    let key_size = u32::try_from(size_of::<u32>()).unwrap_or_default();
    let (kind, flags, name) = (MAP_TYPE_ARRAY, MAPPABLE, padded(name));
    let mut attr = MapCreate { kind, key_size, value_size, entries, flags, inner_map: 0, numa_node: 0, name };
    // SAFETY: there are no addresses in it.
    unsafe { bpf(MAP_CREATE, &mut attr) }
}

fn padded(name: &str) -> [u8; 16] {
    let mut padded = [0; 16];
    padded.iter_mut().zip(name.bytes().take(15)).for_each(|(to, from)| *to = from);
    padded
}

/// bpf(2) with a command that answers with a new descriptor; `attr` are the leading fields that the command reads.
///
/// # Safety
/// Addresses in `attr` must be valid for what `command` does with them, and the command must make a descriptor.
unsafe fn bpf<T>(command: libc::c_int, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: `attr` lives until the call returns and its size is stated; what it points to is the caller's promise.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    match libc::c_int::try_from(fd) {
        // SAFETY: the descriptor is new, so nobody else owns it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
