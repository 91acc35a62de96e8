//! A TAP interface of the host: the host's own port into a bridge.
//!
//! Super-frames and unfinished checksums pass both ways in the virtio-net header. The interface is persistent: addresses,
//! MTU and MAC survive a restart of the switch, and it is taken up again by name. It is removed only with its port
//! ([`TapHandle::remove`]), never by the end of the process.
//!
//! With several workers each has a queue of its own, where the interface was made with several (`multi_queue`): the kernel
//! decides once whether it has 1 or up to 256, and keeps a qdisc for each of the 256, so one
//! that is made for one worker has one. Where there are fewer queues than workers, the others send by one of theirs.
//!
//! A queue is owned by one worker thread; control keeps a second reference to the descriptor for the removal. One frame per
//! system call: the kernel offers no more here.

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
    /// Whether it is received from here, or only sent by.
    receives: bool,
}

/// Control's hold on a TAP, to remove it or to take it up again.
#[derive(Debug)]
pub struct TapHandle {
    /// Its queues, at least one.
    queues: Vec<Arc<OwnedFd>>,
    ifindex: u32,
    caps: Caps,
    /// Whether it may have more than one queue.
    multi_queue: bool,
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
        self.queues.first().is_some_and(|fd| sys::tun_flags(fd.as_fd()).is_ok())
    }

    /// Attaches a queue more, for a worker more; `None`: the interface was made with one.
    pub fn add_queue(&mut self, name: &str) -> Option<Result<Tap, OpenError>> {
        self.multi_queue.then(|| {
            let fd = attach(name, FLAGS | libc::IFF_MULTI_QUEUE)?;
            self.queues.push(Arc::new(fd));
            Ok(self.queue(self.queues.len() - 1))
        })
    }

    /// What a worker sends by that has no queue.
    #[must_use]
    pub fn sender(&self) -> Tap {
        Tap { receives: false, ..self.queue(0) }
    }

    fn queue(&self, number: usize) -> Tap {
        Tap { fd: Arc::clone(&self.queues[number]), caps: self.caps, receives: true }
    }

    /// Lets the interface go from the host as soon as its device is closed too.
    pub fn remove(self) -> io::Result<()> {
        let Some(fd) = self.queues.first() else { return Ok(()) };
        match sys::tun_set_persist(fd.as_fd(), false) {
            Err(e) if e.raw_os_error() == Some(libc::EBADFD) => Ok(()),
            result => result,
        }
    }
}

/// What a TAP interface is opened as: its queues, control's hold on it, and what to report.
pub type OpenedTap = (Vec<Tap>, TapHandle, Status);

impl Tap {
    /// Takes up the TAP interface `name` in the caller's network namespace, or makes it, with that many queues: as many as
    /// there can be, if it is there already.
    pub fn open(name: &str, queues: usize) -> Result<OpenedTap, OpenError> {
        let several = FLAGS | libc::IFF_MULTI_QUEUE;
        let (wanted, other) = if queues > 1 { (several, FLAGS) } else { (FLAGS, several) };
        // One that is there is of the other kind, or none that we can use.
        let fd = match attach_first(name, wanted) {
            Err(e) if e.source.raw_os_error() == Some(libc::EINVAL) => match attach_first(name, other) {
                Err(again) if again.source.raw_os_error() == Some(libc::EINVAL) => Err(e)?,
                attached => attached?,
            },
            attached => attached?,
        };
        let interface = sys::tun_flags(fd.as_fd()).and_then(|flags| {
            let is_ours = flags & FLAGS == FLAGS;
            let found = if is_ours { index_of(name) } else { Err(io::Error::from_raw_os_error(libc::EINVAL)) };
            found.map(|ifindex| (ifindex, flags & libc::IFF_MULTI_QUEUE != 0))
        });
        let hint = || format!("the interface is no TAP with vnet headers; remove it with 'ip link del {name}'");
        let (ifindex, multi_queue) = interface.map_err(error(name, "checking the TAP interface", hint()))?;
        let handle = TapHandle { queues: vec![Arc::new(fd)], ifindex, caps: Caps::ALL, multi_queue };
        Self::configure(name, handle, queues, &hint())
    }

    /// New devices on the interface of a port that is being replaced.
    pub fn reopen(name: &str, handle: TapHandle, queues: usize) -> Result<OpenedTap, OpenError> {
        Self::configure(name, handle, queues, "")
    }

    fn configure(name: &str, mut handle: TapHandle, queues: usize, hint: &str) -> Result<OpenedTap, OpenError> {
        let status = handle.configure().map_err(error(name, "setting up the TAP interface", hint.to_owned()))?;
        let mut taps: Vec<_> = (0..handle.queues.len()).map(|number| handle.queue(number)).collect();
        while taps.len() < queues
            && let Some(more) = handle.add_queue(name)
        {
            taps.push(more?);
        }
        Ok((taps, handle, status))
    }
}

impl TapHandle {
    fn configure(&mut self) -> io::Result<Status> {
        let fd = self.queues.first().ok_or(io::ErrorKind::NotFound)?.as_fd();
        sys::tun_set_header_len(fd, vnet::LEN as libc::c_int)?;
        sys::tun_set_persist(fd, true)?;
        let mut status = vec![("io".to_owned(), "tap".to_owned())];
        let uso = sys::tun_set_offload(fd, TCP_OFFLOADS | UDP_OFFLOADS);
        if let Err(e) = &uso {
            sys::tun_set_offload(fd, TCP_OFFLOADS)?;
            status.push(("uso".to_owned(), format!("off: the kernel refused it ({e}); it needs Linux 6.2")));
        }
        self.caps.uso = uso.is_ok();
        Ok(status)
    }
}

/// Attaches the first queue of ours. The kernel refuses that beside another process only where there can be but one.
fn attach_first(name: &str, flags: libc::c_int) -> Result<OwnedFd, OpenError> {
    let any = || socket(AddressFamily::INET, SocketType::DGRAM, None).map_err(io::Error::from);
    if flags & libc::IFF_MULTI_QUEUE != 0 && any().is_ok_and(|any| sys::has_link(any.as_fd(), name).unwrap_or(false)) {
        let (busy, call) = (io::Error::from_raw_os_error(libc::EBUSY), "taking up the TAP interface");
        let hint = attach_hint(name, &busy);
        return Err(error(name, call, hint)(busy));
    }
    attach(name, flags)
}

/// Attaches a queue to the interface, which is made if it does not exist.
fn attach(name: &str, flags: libc::c_int) -> Result<OwnedFd, OpenError> {
    let open = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::open("/dev/net/tun", open, Mode::empty()).map_err(io::Error::from);
    let hint = "load the module 'tun' or allow the device".to_owned();
    let fd = fd.map_err(error(name, "opening /dev/net/tun", hint))?;
    sys::tun_attach(fd.as_fd(), name, flags).map_err(|e| {
        let hint = attach_hint(name, &e);
        error(name, "making or taking up the TAP interface", hint)(e)
    })?;
    Ok(fd)
}

fn error(name: &str, call: &'static str, hint: String) -> impl FnOnce(io::Error) -> OpenError {
    let device = name.to_owned();
    move |source| OpenError { device, call, source, hint }
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
            format!("a TUN interface of this name exists; remove it with 'ip link del {name}'")
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
        if self.receives { vec![(*self.fd).as_fd()] } else { vec![] }
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
