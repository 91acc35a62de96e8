//! A TAP interface of the host: the host's own port into a bridge.
//!
//! Super-frames and unfinished checksums pass both ways in the virtio-net header. The interface is persistent: addresses,
//! MTU and MAC survive a restart of the switch, and it is taken up again by name. It is removed only with its port
//! ([`TapHandle::remove`]), never by the end of the process.
//!
//! Owned by one worker thread; control keeps a second reference to the descriptor for the removal. One frame per system
//! call: the kernel offers no more here.

use super::rx::BATCH_BYTES;
use super::tx::send_all;
use super::{Caps, Device, OpenError, Rx, Status, Unsent, Unsupported, sys, vnet};
use crate::packet::{Batch, Frame, Pool};
use crate::switch::verdict::DropReason;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, netdevice::name_to_index, socket};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

const FLAGS: libc::c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
const TCP_OFFLOADS: libc::c_uint = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;
const UDP_OFFLOADS: libc::c_uint = libc::TUN_F_USO4 | libc::TUN_F_USO6;

/// A TAP queue.
pub struct Tap {
    fd: Arc<OwnedFd>,
    caps: Caps,
}

/// Control's hold on a TAP, to remove it or to take it up again.
#[derive(Debug)]
pub struct TapHandle {
    fd: Arc<OwnedFd>,
    ifindex: u32,
}

impl TapHandle {
    /// The interface's index.
    #[must_use]
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// Whether the interface still exists.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        sys::tun_flags(self.fd.as_fd()).is_ok()
    }

    /// Lets the interface go from the host as soon as its device is closed too.
    pub fn remove(self) -> io::Result<()> {
        match sys::tun_set_persist(self.fd.as_fd(), false) {
            Err(e) if e.raw_os_error() == Some(libc::EBADFD) => Ok(()),
            result => result,
        }
    }
}

impl Tap {
    /// Takes up the TAP interface `name` in the caller's network namespace, or makes it.
    pub fn open(name: &str) -> Result<(Self, TapHandle, Status), OpenError> {
        let error =
            |call, hint: String| move |source: io::Error| OpenError { device: name.to_owned(), call, source, hint };
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = rustix::fs::open("/dev/net/tun", flags, Mode::empty()).map_err(io::Error::from);
        let fd = fd.map_err(error("opening /dev/net/tun", "load the module 'tun' or allow the device".to_owned()))?;
        sys::tun_attach(fd.as_fd(), name, FLAGS).map_err(|e| {
            let hint = attach_hint(name, &e);
            error("making or taking up the TAP interface", hint)(e)
        })?;
        let interface = sys::tun_flags(fd.as_fd()).and_then(|flags| {
            let is_ours = flags & FLAGS == FLAGS && flags & libc::IFF_MULTI_QUEUE == 0;
            if is_ours { index_of(name) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) }
        });
        let hint = || format!("the interface is no TAP with vnet headers; remove it with 'ip link del {name}'");
        let ifindex = interface.map_err(error("checking the TAP interface", hint()))?;
        let handle = TapHandle { fd: Arc::new(fd), ifindex };
        let (tap, status) = Self::configure(&handle).map_err(error("setting up the TAP interface", hint()))?;
        Ok((tap, handle, status))
    }

    /// A new device on the interface of a port that is being replaced.
    pub fn reopen(name: &str, handle: TapHandle) -> Result<(Self, TapHandle, Status), OpenError> {
        let call = "setting up the TAP interface again";
        let error = |source| OpenError { device: name.to_owned(), call, source, hint: String::new() };
        let (tap, status) = Self::configure(&handle).map_err(error)?;
        Ok((tap, handle, status))
    }

    fn configure(handle: &TapHandle) -> io::Result<(Self, Status)> {
        let fd = handle.fd.as_fd();
        sys::tun_set_header_len(fd, vnet::LEN as libc::c_int)?;
        sys::tun_set_persist(fd, true)?;
        let mut status = vec![("io".to_owned(), "tap".to_owned())];
        let uso = sys::tun_set_offload(fd, TCP_OFFLOADS | UDP_OFFLOADS);
        if let Err(e) = &uso {
            sys::tun_set_offload(fd, TCP_OFFLOADS)?;
            status.push(("uso".to_owned(), format!("off: the kernel refused it ({e}); it needs Linux 6.2")));
        }
        Ok((Self { fd: Arc::clone(&handle.fd), caps: Caps { uso: uso.is_ok(), ..Caps::ALL } }, status))
    }
}

fn index_of(name: &str) -> io::Result<u32> {
    let any = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    Ok(name_to_index(any, name)?)
}

/// What is in the way of the interface `name`.
fn attach_hint(name: &str, error: &io::Error) -> String {
    let driver = socket(AddressFamily::INET, SocketType::DGRAM, None)
        .map_err(io::Error::from)
        .and_then(|any| sys::driver_of(any.as_fd(), name));
    match (error.raw_os_error(), driver) {
        (Some(libc::EBUSY), _) => "another process has it open: another switch or a virtual machine?".to_owned(),
        (Some(libc::EINVAL), Ok(driver)) if driver == "tun" => {
            format!("a TUN or multi-queue TAP of this name exists; remove it with 'ip link del {name}'")
        }
        (Some(libc::EINVAL), Ok(driver)) => {
            format!(
                "a '{driver}' interface of this name exists; remove it with 'ip link del {name}' or use another name"
            )
        }
        (Some(libc::EPERM), _) => "it needs CAP_NET_ADMIN".to_owned(),
        _ => "an interface name has 1 to 15 bytes, without '/' and spaces".to_owned(),
    }
}

impl Device for Tap {
    fn caps(&self) -> Caps {
        self.caps
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        vec![(*self.fd).as_fd()]
    }

    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, lost: &mut Vec<(DropReason, u64)>) -> Rx {
        let mut bytes = 0;
        while !batch.is_full() && bytes < BATCH_BYTES {
            let mut frame = pool.alloc();
            let refused = match rustix::io::read(&*self.fd, frame.receive_space(vnet::LEN)) {
                Ok(len) => {
                    bytes += len;
                    match received(len, &mut frame) {
                        Ok(()) => batch.push(frame).err(),
                        Err(Unsupported) => Some(frame),
                    }
                }
                Err(errno) => {
                    pool.recycle(frame);
                    match errno {
                        Errno::AGAIN => return Rx::Empty,
                        Errno::INTR => continue,
                        // A super-frame that the vnet header cannot express; the kernel has dropped it.
                        Errno::INVAL => {
                            lost.push((DropReason::RxUnsupported, 1));
                            continue;
                        }
                        _ => return Rx::Dead(errno.raw_os_error()),
                    }
                }
            };
            if let Some(frame) = refused {
                lost.push((DropReason::RxUnsupported, 1));
                pool.recycle(frame);
            }
        }
        Rx::More
    }

    fn send(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>, unsent: &mut Unsent) -> u64 {
        vnet::prepend(frames, pool);
        send_all(pool, frames, unsent, vnet::LEN, |frames| {
            let Some(frame) = frames.first() else { return Ok(0) };
            rustix::io::write(&*self.fd, frame.bytes())?;
            Ok(1)
        })
    }
}

fn received(len: usize, frame: &mut Frame) -> Result<(), Unsupported> {
    frame.set_received(len.checked_sub(vnet::LEN).ok_or(Unsupported)?);
    vnet::decode_received(frame)
}
