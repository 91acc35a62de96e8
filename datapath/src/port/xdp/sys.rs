//! The memory of a ring, as the kernel and we share it: two positions, flags and entries (Documentation/networking/
//! af_xdp.rst, "Rings"); and bpf(2) for XDP programs (linux/bpf.h).
#![allow(unsafe_code)]

use super::rings::Desc;
use crate::port::bpf::Instruction;
use crate::port::bpf::sys::{bpf, create_map};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use rustix::net::xdp::XdpRingOffset;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// What a ring may hold.
///
/// # Safety
/// Any bytes are a valid value.
pub unsafe trait Entry: Copy {}

// SAFETY: a number.
unsafe impl Entry for u64 {}
// SAFETY: `Desc` holds numbers only, and has the kernel's layout.
unsafe impl Entry for Desc {}

/// A ring of a power of two entries, unmapped when it is dropped.
#[derive(Debug)]
pub struct RingMemory<T> {
    mapping: NonNull<u8>,
    mapped: usize,
    offsets: XdpRingOffset,
    mask: u32,
    entries: PhantomData<T>,
}

// SAFETY: the mapping belongs to this value alone on our side; the kernel's side meets it in atomics only.
unsafe impl<T: Entry> Send for RingMemory<T> {}

impl<T: Entry> RingMemory<T> {
    /// Maps the ring of `count` entries, a power of two, that a socket has at this `offset` in its file.
    pub fn map(fd: BorrowedFd<'_>, offset: u64, offsets: XdpRingOffset, count: u32) -> io::Result<Self> {
        let mapped = offsets.desc as usize + count as usize * size_of::<T>();
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let at = unsafe { mmap(std::ptr::null_mut(), mapped, protection, flags, fd, offset) }?;
        let mapping = NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { mapping, mapped, offsets, mask: count - 1, entries: PhantomData })
    }

    /// A ring without a kernel, for tests.
    #[cfg(test)]
    pub fn alone(count: u32) -> Self {
        let offsets = XdpRingOffset { producer: 0, consumer: 4, flags: Some(8), desc: 64 };
        let mapped = 64 + count as usize * size_of::<T>();
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE);
        // SAFETY: as in `map`.
        let at = unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), mapped, protection, flags) }.unwrap();
        let mapping = NonNull::new(at.cast()).unwrap();
        Self { mapping, mapped, offsets, mask: count - 1, entries: PhantomData }
    }

    /// A second view of the same ring, as the kernel has it: for tests.
    #[cfg(test)]
    pub fn word(&self, which: char) -> &AtomicU32 {
        match which {
            'p' => self.atomic(self.offsets.producer),
            'c' => self.atomic(self.offsets.consumer),
            _ => self.atomic(self.offsets.flags.unwrap()),
        }
    }

    /// How many entries there are.
    #[inline]
    pub fn len(&self) -> u32 {
        self.mask + 1
    }

    fn atomic(&self, offset: u64) -> &AtomicU32 {
        debug_assert!(offset as usize + 4 <= self.mapped);
        // SAFETY: the kernel gave the offset of an aligned 32-bit number inside the mapping, which lives as long as
        // `self`; both sides access it atomically.
        unsafe { &*self.mapping.as_ptr().add(offset as usize).cast::<AtomicU32>() }
    }

    /// How many entries have ever been put in, modulo 2³². Written by the producing side.
    #[inline]
    pub fn produced(&self) -> u32 {
        self.atomic(self.offsets.producer).load(Ordering::Acquire)
    }

    /// How many entries have ever been taken out, modulo 2³². Written by the consuming side.
    #[inline]
    pub fn consumed(&self) -> u32 {
        self.atomic(self.offsets.consumer).load(Ordering::Acquire)
    }

    /// Publishes entries: for the producing side.
    #[inline]
    pub fn set_produced(&mut self, count: u32) {
        self.atomic(self.offsets.producer).store(count, Ordering::Release);
    }

    /// Gives entries free: for the consuming side.
    #[inline]
    pub fn set_consumed(&mut self, count: u32) {
        self.atomic(self.offsets.consumer).store(count, Ordering::Release);
    }

    /// What the kernel asks for (`XDP_RING_…`). Written by the kernel.
    #[inline]
    pub fn flags(&self) -> u32 {
        self.offsets.flags.map_or(0, |offset| self.atomic(offset).load(Ordering::Relaxed))
    }

    /// The entry that is the `count`th ever.
    #[inline]
    pub fn read(&self, count: u32) -> T {
        // SAFETY: masked, the entry is inside the mapping, and any bytes are a valid one. Volatile, since the kernel
        // writes there, though not at the same time: positions are exchanged before.
        unsafe { self.entry(count).read_volatile() }
    }

    /// Sets the entry that is the `count`th ever.
    #[inline]
    pub fn write(&mut self, count: u32, entry: T) {
        // SAFETY: as in `read`.
        unsafe { self.entry(count).write_volatile(entry) }
    }

    fn entry(&self, count: u32) -> *mut T {
        let at = self.offsets.desc as usize + (count & self.mask) as usize * size_of::<T>();
        // SAFETY: `mapped` covers all entries.
        unsafe { self.mapping.as_ptr().add(at).cast() }
    }
}

impl<T> Drop for RingMemory<T> {
    fn drop(&mut self) {
        // SAFETY: mapped by `map`, and nobody else has the address. Failing would leave it mapped, which harms nobody.
        let _ = unsafe { munmap(self.mapping.as_ptr().cast(), self.mapped) };
    }
}

const MAP_UPDATE: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;

/// How an XDP program is loaded.
#[derive(Clone, Copy, Debug)]
pub struct Loading {
    /// `BPF_F_…`
    pub flags: u32,
    /// The device that it is bound to, where the flags bind it to one.
    pub ifindex: u32,
    /// Whether it calls functions of the kernel by type, which takes a licence that is compatible with its own.
    pub calls_kernel: bool,
    /// Its name, as `bpftool prog` shows it.
    pub name: [u8; 16],
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
    ifindex: u32,
    expected_attach_type: u32,
}

/// The fields of `union bpf_attr` for `BPF_LINK_CREATE` of an XDP program.
#[repr(C)]
struct LinkCreate {
    program: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// The fields of `union bpf_attr` for `BPF_MAP_UPDATE_ELEM`.
#[repr(C)]
struct MapUpdate {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Loads an XDP program. What the verifier has against it goes to the log at level debug.
pub fn load(program: &[Instruction], how: &Loading) -> io::Result<OwnedFd> {
    let license = if how.calls_kernel { c"Dual MIT/GPL" } else { c"MIT" };
    let mut attr = ProgramLoad {
        kind: PROG_TYPE_XDP,
        instruction_count: u32::try_from(program.len()).unwrap_or(u32::MAX),
        instructions: program.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
        kernel_version: 0,
        flags: how.flags,
        name: how.name,
        ifindex: how.ifindex,
        expected_attach_type: ATTACH_XDP,
    };
    // SAFETY: the instructions and the license live until the call returns; the kernel copies and verifies them.
    let loaded = unsafe { bpf(PROG_LOAD, &mut attr) };
    if loaded.is_err() && tracing::enabled!(tracing::Level::DEBUG) {
        let mut log = vec![0_u8; 1 << 16];
        (attr.log_level, attr.log_size, attr.log) = (1, 1 << 16, log.as_mut_ptr() as u64);
        // SAFETY: as above, and the log is as long as stated.
        drop(unsafe { bpf(PROG_LOAD, &mut attr) });
        let text: Vec<u8> = log.into_iter().take_while(|&b| b != 0).collect();
        tracing::debug!("the kernel's verifier on an XDP program: {}", String::from_utf8_lossy(&text));
    }
    loaded
}

/// Attaches an XDP program to a device (`XDP_FLAGS_…`); it stays until the link is closed.
pub fn link(program: BorrowedFd<'_>, ifindex: u32, flags: u32) -> io::Result<OwnedFd> {
    let program = program.as_raw_fd().cast_unsigned();
    let mut attr = LinkCreate { program, target_ifindex: ifindex, attach_type: ATTACH_XDP, flags };
    // SAFETY: there are no addresses in it.
    unsafe { bpf(LINK_CREATE, &mut attr) }
}

/// Makes a map of AF_XDP sockets, by queue.
pub fn socket_map(entries: u32, name: [u8; 16]) -> io::Result<OwnedFd> {
    create_map(MAP_TYPE_XSKMAP, 4, entries, 0, name)
}

/// Sets the socket of a queue in a map of [`socket_map`].
pub fn set_socket(map: BorrowedFd<'_>, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
    let (key, value) = (queue, socket.as_raw_fd());
    let (at_key, at_value) = (&raw const key as u64, &raw const value as u64);
    let map = map.as_raw_fd().cast_unsigned();
    let attr = MapUpdate { map, padding: 0, key: at_key, value: at_value, flags: 0 };
    // SAFETY: key and value live until the call returns, and have the four bytes that such a map's have.
    let done = unsafe { libc::syscall(libc::SYS_bpf, MAP_UPDATE, &raw const attr, size_of::<MapUpdate>()) };
    if done < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Attaches a classifier to what leaves a device (`BPF_TCX_EGRESS`): for tests.
#[cfg(test)]
pub fn link_tcx_egress(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    let program = program.as_raw_fd().cast_unsigned();
    let mut attr = LinkCreate { program, target_ifindex: ifindex, attach_type: 47, flags: 0 };
    // SAFETY: there are no addresses in it.
    unsafe { bpf(LINK_CREATE, &mut attr) }
}
