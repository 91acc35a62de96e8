//! The AF_XDP sockets on one queue of a device: opened, their four rings mapped, bound.
//!
//! There are two, one to receive by and one to send by. The worker sleeps on the first only: the kernel tells whoever may
//! sleep on a socket of each frame that is sent by it, which cost 6 % of a small frame.
//!
//! Every queue registers the region of its port as a UMEM of its own. It is the same memory each time, so a frame that
//! came in by one queue goes out by another where it lies, and no queue depends on another's life.

use super::rings::{Consumer, Desc, Producer};
use super::sys::RingMemory;
use crate::packet::{CHUNK, Region};
use crate::port::SOCKET_BUFFER;
use crate::port::sys::set_option;
use rustix::net::sockopt::{
    set_xdp_rx_ring_size, set_xdp_tx_ring_size, set_xdp_umem_completion_ring_size, set_xdp_umem_fill_ring_size,
    set_xdp_umem_reg, xdp_mmap_offsets, xdp_options, xdp_statistics,
};
use rustix::net::xdp::{
    SocketAddrXdp, SocketAddrXdpFlags as Flags, SocketAddrXdpWithSharedUmem, XDP_PGOFF_RX_RING, XDP_PGOFF_TX_RING,
    XDP_UMEM_PGOFF_COMPLETION_RING, XDP_UMEM_PGOFF_FILL_RING, XdpOptionsFlags, XdpUmemReg, XdpUmemRegFlags,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Entries of each ring: what may come in while the worker is kept waiting, a few milliseconds of small frames.
pub const RING: u32 = 2048;
/// Bytes of transmit metadata before a frame (`struct xsk_tx_metadata`, linux/if_xdp.h).
pub const METADATA: usize = 24;

// linux/if_xdp.h; rustix lacks them.
const SOL_XDP: libc::c_int = 283;
const MAX_TX_SKB_BUDGET: libc::c_int = 9;
const UMEM_TX_METADATA_LEN: u32 = 1 << 2;
// asm-generic/socket.h
const SO_PREFER_BUSY_POLL: libc::c_int = 69;
const SO_BUSY_POLL_BUDGET: libc::c_int = 70;

/// How a socket is to be bound.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The device.
    pub ifindex: u32,
    /// Its queue.
    pub queue: u32,
    /// Whether the device is to read and write the region itself; otherwise the kernel copies.
    pub zero_copy: bool,
    /// Whether frames may be in several chunks.
    pub frags: bool,
    /// How long system calls may poll the device themselves, in µs; 0: interrupts do.
    pub busy_poll: u32,
}

/// The two AF_XDP sockets of a queue; as a descriptor, the one to receive by.
#[derive(Debug)]
pub struct Socket {
    sender: OwnedFd,
    fd: OwnedFd,
    /// Frames that have come in.
    pub rx: Consumer<Desc>,
    /// Frames to send.
    pub tx: Producer<Desc>,
    /// Chunks for frames that come in.
    pub fill: Producer<u64>,
    /// Chunks whose frames are sent.
    pub completion: Consumer<u64>,
    /// Whether the device reads and writes the region itself.
    pub zero_copy: bool,
    /// Whether unfinished checksums can be handed over, in transmit metadata.
    pub metadata: bool,
    lost: u64,
}

impl Socket {
    /// Opens one; on an error, what was tried.
    pub fn open(region: &Region, how: Binding) -> Result<Self, (&'static str, io::Error)> {
        let at = |call| move |e| (call, io::Error::from(e));
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let open = || socket_with(AddressFamily::XDP, SocketType::RAW, flags, None);
        let (fd, sender) = open().and_then(|fd| Ok((fd, open()?))).map_err(at("opening an AF_XDP socket"))?;
        let metadata = register(&fd, region).map_err(|e| ("registering its memory", e))?;
        let sizes = || {
            set_xdp_umem_fill_ring_size(&fd, RING)?;
            set_xdp_umem_completion_ring_size(&fd, RING)?;
            set_xdp_rx_ring_size(&fd, RING)?;
            set_xdp_tx_ring_size(&sender, RING)
        };
        sizes().map_err(at("making its rings"))?;
        settings(fd.as_fd(), how.busy_poll).map_err(|e| ("setting it up", e))?;
        settings(sender.as_fd(), how.busy_poll).map_err(|e| ("setting it up", e))?;
        let offsets = xdp_mmap_offsets(&fd).map_err(at("mapping its rings"))?;
        let rings = || {
            let rx = Consumer::new(RingMemory::map(fd.as_fd(), XDP_PGOFF_RX_RING, offsets.rx, RING)?);
            let tx = Producer::new(RingMemory::map(sender.as_fd(), XDP_PGOFF_TX_RING, offsets.tx, RING)?);
            let fill = Producer::new(RingMemory::map(fd.as_fd(), XDP_UMEM_PGOFF_FILL_RING, offsets.fr, RING)?);
            let completed = RingMemory::map(fd.as_fd(), XDP_UMEM_PGOFF_COMPLETION_RING, offsets.cr, RING)?;
            Ok((rx, tx, fill, Consumer::new(completed)))
        };
        let (rx, tx, fill, completion) = rings().map_err(|e| ("mapping its rings", e))?;
        let mut flags = Flags::XDP_USE_NEED_WAKEUP;
        flags |= if how.zero_copy { Flags::XDP_ZEROCOPY } else { Flags::XDP_COPY };
        flags.set(Flags::XDP_USE_SG, how.frags);
        bind(&fd, &SocketAddrXdp::new(flags, how.ifindex, how.queue)).map_err(at("binding it to the queue"))?;
        // It takes its settings from the first, and its completions come by the ring of that.
        let beside = SocketAddrXdpWithSharedUmem {
            addr: SocketAddrXdp::new(Flags::XDP_SHARED_UMEM, how.ifindex, how.queue),
            shared_umem_fd: fd.as_fd(),
        };
        bind(&sender, &beside).map_err(at("binding its sender to the queue"))?;
        let zero_copy = xdp_options(&fd).is_ok_and(|o| o.contains(XdpOptionsFlags::XDP_OPTIONS_ZEROCOPY));
        Ok(Self { sender, fd, rx, tx, fill, completion, zero_copy, metadata, lost: 0 })
    }

    /// The one to send by.
    pub fn sender(&self) -> BorrowedFd<'_> {
        self.sender.as_fd()
    }

    /// Frames that the kernel had to drop since this was asked last, for want of room or of chunks.
    pub fn newly_lost(&mut self) -> u64 {
        newly_lost(self.fd.as_fd(), &mut self.lost)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Frames that the kernel had to drop in all, less those already `told`.
pub fn newly_lost(socket: BorrowedFd<'_>, told: &mut u64) -> u64 {
    let Ok(now) = xdp_statistics(socket) else { return 0 };
    let lost = now.rx_dropped + now.rx_ring_full.unwrap_or_default();
    lost - std::mem::replace(told, lost)
}

/// Registers the region; whether the kernel takes transmit metadata (Linux 6.8).
fn register(fd: &OwnedFd, region: &Region) -> io::Result<bool> {
    let (addr, len) = region.span();
    let with = |metadata: usize| {
        let flags = XdpUmemRegFlags::from_bits_retain(if metadata > 0 { UMEM_TX_METADATA_LEN } else { 0 });
        let (chunk_size, tx_metadata_len) = (CHUNK as u32, metadata as u32);
        set_xdp_umem_reg(fd, XdpUmemReg { addr, len, chunk_size, headroom: 0, flags, tx_metadata_len })
    };
    match with(METADATA) {
        Err(rustix::io::Errno::INVAL) => with(0).map(|()| false).map_err(Into::into),
        done => done.map(|()| true).map_err(Into::into),
    }
}

/// Settings of a socket that frames do not depend on.
pub fn settings(fd: BorrowedFd<'_>, busy_poll: u32) -> io::Result<()> {
    set_option(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SOCKET_BUFFER)?;
    // Frames that one system call sends; older kernels send 32 and are called again.
    let _ = set_option(fd, SOL_XDP, MAX_TX_SKB_BUDGET, RING as libc::c_int);
    if busy_poll > 0 {
        set_option(fd, libc::SOL_SOCKET, SO_PREFER_BUSY_POLL, 1)?;
        set_option(
            fd,
            libc::SOL_SOCKET,
            libc::SO_BUSY_POLL,
            libc::c_int::try_from(busy_poll).unwrap_or(libc::c_int::MAX),
        )?;
        set_option(fd, libc::SOL_SOCKET, SO_BUSY_POLL_BUDGET, 64)?;
    }
    Ok(())
}
