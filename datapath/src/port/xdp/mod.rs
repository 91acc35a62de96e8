//! A network device through AF_XDP sockets: packets per second, for whoever asks (`options:io=af_xdp`).
//!
//! ```text
//!  device ── program ─┬─ socket of queue 0 ─ rings ─┐
//!            (pass?)  ├─ socket of queue 1 ─ rings ─┼─ chunks of one region ── the switch
//!               │     └─ …                          │
//!             host ······· packet socket ···········┘ frames to groups, where the host uses the device, too
//! ```
//!
//! Frames are chunks of a [`Region`] that the kernel is lent and gives back, so one that goes from port to port is not
//! copied by us; the room before it takes tags, tunnel headers and transmit metadata. A device knows no super-frames
//! here, and does not tell of unfinished checksums, so these are recognised and finished.
//!
//! Owned by one worker thread. Whoever is on the device may send any bytes. The kernel's descriptors are checked
//! against what it was lent. Program and sockets go with the process.
//!
//! Frames may also be moved by the crate `afxdp`, for comparison: see [`Backend`].

#[cfg(feature = "afxdp")]
mod afxdp;
mod backend;
mod program;
mod queue;
mod rings;
mod socket;
mod sys;

use super::packet::{self, PacketSocket};
use super::sys::receive_queues;
use super::{Caps, Device, OpenError, Rx, Status, Unsent};
use crate::packet::{Batch, Frame, Pool, Region};
use crate::switch::verdict::DropReason;
use crate::types::{L3Mtu, MacAddr};
pub use backend::Backend;
use backend::QueueIo;
use program::{Program, Wanted};
use queue::{Queue, Sent};
use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{AddressFamily, SocketType, socket as any_socket};
use socket::{Binding, RING, Socket};
use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Chunks of a region (64 MiB) and queues that share one: what they receive into is three quarters of it, the rest is
/// for frames on their way.
const REGION_CHUNKS: u32 = 16 * 1024;
const QUEUES_OF_REGION: usize = (REGION_CHUNKS / RING * 3 / 4) as usize;

/// How often what is busy is tried, and after how long again: for a third of a second, as others wait for this one. Where
/// it is surely we who had it, as long as a kernel that is busy with other devices may take.
const BUSY_ATTEMPTS: u32 = 30;
const BUSY_ATTEMPTS_OF_OURS: u32 = 400;
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// How the kernel is to hand frames over, in Open vSwitch's words.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Mode {
    /// The first of the others that works, in their order.
    #[default]
    BestEffort,
    /// By the device's driver, into our memory.
    NativeWithZeroCopy,
    /// By the device's driver, copied by the kernel.
    Native,
    /// By the kernel's generic hook, which any device has.
    Generic,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::BestEffort, Self::NativeWithZeroCopy, Self::Native, Self::Generic];

    /// Its name, as in `options:xdp-mode`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::BestEffort => "best-effort",
            Self::NativeWithZeroCopy => "native-with-zerocopy",
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

/// What is asked of an AF_XDP port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct XdpSpec {
    /// The device, in the network namespace of the caller.
    pub ifindex: u32,
    /// How frames are handed over.
    pub mode: Mode,
    /// Who moves them.
    pub backend: Backend,
    /// How many of the device's queues to expect; `None`: as many as it has.
    pub queues: Option<u32>,
    /// For how long system calls may poll the device themselves, in µs; 0: not at all.
    pub busy_poll: u32,
    /// The addresses of the host on a device that it goes on using; none: the device is the switch's alone.
    pub host: Vec<MacAddr>,
    /// The device's MTU, where it is known.
    pub mtu: Option<L3Mtu>,
}

/// The memory of all AF_XDP ports: regions, each shared by a few queues. Kept for the next ports when they go.
#[derive(Debug, Default)]
pub struct Umem {
    regions: Vec<Arc<Region>>,
    /// For each queue in use its region; dead once the port is gone.
    users: Vec<(std::sync::Weak<()>, usize)>,
    /// Devices of which an AF_XDP port was closed and none has been opened since.
    just_closed: BTreeSet<u32>,
}

impl Umem {
    /// A region for a port of so many queues, which uses it as long as it keeps the second value.
    fn region_for(&mut self, queues: usize) -> io::Result<(Arc<Region>, Arc<()>)> {
        self.users.retain(|(user, _)| user.strong_count() > 0);
        let used = |region: usize| self.users.iter().filter(|(_, r)| *r == region).count();
        let roomy = (0..self.regions.len()).find(|&r| used(r) == 0 || used(r) + queues <= QUEUES_OF_REGION);
        let at = match roomy {
            Some(at) => at,
            None => {
                self.regions.push(Region::new(REGION_CHUNKS)?);
                self.regions.len() - 1
            }
        };
        let user = Arc::new(());
        self.users.extend(std::iter::repeat_n((Arc::downgrade(&user), at), queues));
        Ok((Arc::clone(&self.regions[at]), user))
    }

    /// An AF_XDP port on this device is being closed.
    pub fn note_closed(&mut self, ifindex: u32) {
        self.just_closed.insert(ifindex);
    }

    /// How often to try to open this device.
    fn patience_with(&self, ifindex: u32) -> u32 {
        if self.just_closed.contains(&ifindex) { BUSY_ATTEMPTS_OF_OURS } else { BUSY_ATTEMPTS }
    }

    /// The regions there are.
    #[must_use]
    pub fn regions(&self) -> &[Arc<Region>] {
        &self.regions
    }
}

/// Where the frames of a port are.
#[derive(Clone, Debug)]
enum Memory {
    /// In a region, which is in use as long as there is the second value.
    Region(Arc<Region>, #[expect(dead_code, reason = "its being there is its use")] Arc<()>),
    /// In that of the crate.
    #[cfg(feature = "afxdp")]
    OfCrate,
}

impl Memory {
    fn of(backend: Backend, queues: u32, umem: &mut Umem) -> io::Result<Self> {
        match backend {
            Backend::Own => umem.region_for(queues as usize).map(|(region, user)| Self::Region(region, user)),
            #[cfg(feature = "afxdp")]
            Backend::Afxdp => Ok(Self::OfCrate),
        }
    }
}

/// One way to open a port.
#[derive(Clone, Copy, Debug)]
struct Way {
    mode: Mode,
    frags: bool,
}

impl Way {
    /// The ways to try, the best first.
    fn all(mode: Mode, backend: Backend) -> impl Iterator<Item = Self> {
        let modes = [Mode::NativeWithZeroCopy, Mode::Native, Mode::Generic];
        let wanted = move |m: &Mode| mode == Mode::BestEffort || *m == mode;
        let ways = modes.into_iter().filter(wanted).flat_map(|mode| [true, false].map(|frags| Self { mode, frags }));
        ways.filter(move |way| !way.frags || backend.is_own())
    }
}

/// Opens the device `name`, with what to say about it.
pub(crate) fn open(name: &str, spec: &XdpSpec, umem: &mut Umem) -> Result<(Box<dyn Device>, Status), OpenError> {
    let failed = |call, source, hint: &str| OpenError { device: name.to_owned(), call, source, hint: hint.to_owned() };
    let has = queues_of(name);
    let queues = spec.queues.unwrap_or(has);
    if queues != has {
        let source = io::Error::from_raw_os_error(libc::EINVAL);
        let hint = format!(
            "n_rxq={queues}, and the device has {has}: frames of other queues would be lost; leave n_rxq out, or \
             'ethtool -L {name} combined {queues}' (of a veth: rx {queues} tx {queues})"
        );
        return Err(failed("taking its queues", source, &hint));
    }
    let memory = Memory::of(spec.backend, queues, umem);
    let memory = memory.map_err(|e| failed("making memory for frames", e, "is there enough?"))?;
    let mut refusals: Vec<(Way, (&'static str, io::Error))> = Vec::new();
    for way in Way::all(spec.mode, spec.backend) {
        match patiently(umem.patience_with(spec.ifindex), || XdpPort::open(name, spec, way, queues, &memory)) {
            Ok(port) => {
                umem.just_closed.remove(&spec.ifindex);
                let status = port.status(spec.backend, way, &refusals);
                return Ok((Box::new(port), status));
            }
            Err(why) => refusals.push((way, why)),
        }
        // It would be so in any other way.
        if refusals.last().is_some_and(|(_, (_, e))| e.raw_os_error() == Some(libc::EBUSY)) {
            break;
        }
    }
    let (way, (call, source)) = refusals
        .pop()
        .unwrap_or_else(|| (Way { mode: spec.mode, frags: false }, ("opening it", io::ErrorKind::Unsupported.into())));
    let hint = hint(name, spec, way, &source);
    Err(failed(call, source, &hint))
}

/// Tries again so often where something is busy: the kernel gives up what a closed socket held in the background, and the
/// one before may have been closed just now, or have ended with its process.
fn patiently<T>(attempts: u32, mut attempt: impl FnMut() -> Result<T, Refusal>) -> Result<T, Refusal> {
    for _ in 1..attempts {
        match attempt() {
            Err((_, e)) if e.raw_os_error() == Some(libc::EBUSY) => std::thread::sleep(BUSY_PAUSE),
            done => return done,
        }
    }
    attempt()
}

/// How many queues a device receives by: one where its driver cannot tell.
fn queues_of(name: &str) -> u32 {
    let any = any_socket(AddressFamily::INET, SocketType::DGRAM, None).map_err(io::Error::from);
    any.and_then(|any| receive_queues(any.as_fd(), name)).unwrap_or(1).max(1)
}

/// What to do about a refusal.
fn hint(name: &str, spec: &XdpSpec, way: Way, error: &io::Error) -> String {
    let mode = way.mode.name();
    match error.raw_os_error().unwrap_or(0) {
        libc::EBUSY | libc::EEXIST => format!(
            "another XDP program or AF_XDP socket has it: 'ip link show {name}' and 'ip link set {name} xdp off' (and \
             'xdpgeneric off')"
        ),
        libc::EPERM | libc::EACCES => "it needs CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF, or CAP_SYS_ADMIN".to_owned(),
        libc::ENODEV => "is the device still there?".to_owned(),
        libc::EOPNOTSUPP if spec.mode != Mode::BestEffort => {
            format!("its driver does not know xdp-mode={mode}; xdp-mode=best-effort takes what it knows")
        }
        #[cfg(feature = "afxdp")]
        libc::ERANGE if !spec.backend.is_own() => {
            let most = afxdp::MAX_MTU.0;
            format!("its MTU is too large for xdp-backend=afxdp, which takes {most}; lower it or use xdp-backend=own")
        }
        libc::ERANGE => format!("its MTU is too large for xdp-mode={mode}; lower it or use io=packet"),
        _ => format!("in xdp-mode={mode}; io=packet does without AF_XDP"),
    }
}

/// A device by AF_XDP.
struct XdpPort {
    /// Takes the program off the device; before the sockets are closed, so that no frame is lost to a missing socket.
    _link: OwnedFd,
    queues: Vec<Box<dyn QueueIo>>,
    program: Program,
    /// Has the device take frames for any station, and on one that the host uses receives those to groups.
    beside: Beside,
    /// Readable while frames wait that the device did not take.
    retry: OwnedFd,
    /// Frames that the kernel dropped while it went on with what waited; told with the next that are sent.
    late: Unsent,
    /// Why nothing can be sent any more.
    broken: Option<i32>,
    /// Whether the kernel may have dropped frames since it was last asked.
    was_full: bool,
    _memory: Memory,
}

/// The packet socket beside the AF_XDP sockets.
enum Beside {
    Promiscuous(#[expect(dead_code, reason = "its being open is its use")] OwnedFd),
    Groups(Box<PacketSocket>),
}

type Refusal = (&'static str, io::Error);

fn attach(program: &Program, wanted: &Wanted<'_>) -> Result<OwnedFd, Refusal> {
    program.attach(wanted).map_err(|e| ("attaching its program", e))
}

/// Opens a socket on one of the device's queues.
#[cfg_attr(not(feature = "afxdp"), expect(unused_variables, reason = "the crate takes a device's name"))]
fn open_queue(
    name: &str,
    spec: &XdpSpec,
    way: Way,
    queue: u32,
    memory: &Memory,
    program: &Program,
) -> Result<Box<dyn QueueIo>, Refusal> {
    // Only the generic hook is given super-frames, without what they are to be cut into.
    let largest = if way.mode == Mode::Generic { spec.mtu.unwrap_or(L3Mtu(1500)) } else { L3Mtu(u32::MAX) };
    let zero_copy = way.mode == Mode::NativeWithZeroCopy;
    let binding = Binding { ifindex: spec.ifindex, queue, zero_copy, frags: way.frags, busy_poll: spec.busy_poll };
    match memory {
        Memory::Region(region, _) => {
            let socket = Socket::open(region, binding)?;
            program.add(queue, socket.as_fd()).map_err(|e| ("giving it its socket", e))?;
            Ok(Box::new(Queue::new(socket, Arc::clone(region), way.frags, largest)))
        }
        #[cfg(feature = "afxdp")]
        Memory::OfCrate => Ok(Box::new(afxdp::Queue::open(name, binding, spec.mtu, largest)?)),
    }
}

impl XdpPort {
    fn open(name: &str, spec: &XdpSpec, way: Way, queues: u32, memory: &Memory) -> Result<Self, Refusal> {
        let (ifindex, native) = (spec.ifindex, way.mode != Mode::Generic);
        let wanted = Wanted { ifindex, native, frags: way.frags, host: &spec.host };
        let program = Program::load(&wanted, queues).map_err(|e| ("loading its program", e))?;
        // The crate would bring a program of its own, which stays behind, if it did not find ours on the device.
        let early = (!spec.backend.is_own()).then(|| attach(&program, &wanted)).transpose()?;
        let open = |queue| open_queue(name, spec, way, queue, memory, &program);
        let queues = (0..queues).map(open).collect::<Result<Vec<_>, Refusal>>()?;
        let index = libc::c_int::try_from(ifindex).unwrap_or(0);
        let beside = match spec.host.is_empty() {
            true => packet::socket(index).map(Beside::Promiscuous),
            false => PacketSocket::of_groups(ifindex).map(|socket| Beside::Groups(Box::new(socket))),
        };
        let beside = beside.map_err(|e| ("having it take all frames", e))?;
        let retry =
            eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| ("making an eventfd", e.into()))?;
        // Last: from here on frames come in.
        let link = early.map_or_else(|| attach(&program, &wanted), Ok)?;
        Ok(Self {
            _link: link,
            queues,
            program,
            beside,
            retry,
            late: vec![],
            broken: None,
            was_full: false,
            _memory: memory.clone(),
        })
    }

    /// What is in use, and what was refused before.
    fn status(&self, backend: Backend, way: Way, refusals: &[(Way, Refusal)]) -> Status {
        let copying = if self.queues.iter().all(|q| q.zero_copy()) { "zero-copy" } else { "copied by the kernel" };
        let n = self.queues.len();
        let what = if way.mode == Mode::Generic { "generic" } else { "native" };
        let mut status = vec![
            ("io".to_owned(), format!("af_xdp ({what}, {copying}, {n} queue{})", if n == 1 { "" } else { "s" })),
            ("xdp-backend".to_owned(), backend.name().to_owned()),
            ("xdp-mode".to_owned(), way.mode.name().to_owned()),
            ("n_rxq".to_owned(), n.to_string()),
        ];
        let mut say = |key: &str, text: &str| status.push((key.to_owned(), text.to_owned()));
        // Each mode once, by what was in the way of its plainest form.
        let plainest = refusals.iter().filter(|(w, _)| !w.frags && w.mode != way.mode);
        let refused: Vec<_> = plainest.map(|(w, (call, e))| format!("{}: {call}: {e}", w.mode.name())).collect();
        if !refused.is_empty() {
            say("xdp_refused", &refused.join("; "));
        }
        if !backend.is_own() && way.mode == Mode::Generic {
            say("xdp_frags", "off: xdp-backend=afxdp knows no frame larger than a page; super-frames of TCP are lost");
        } else if !backend.is_own() {
            say("xdp_frags", "off: xdp-backend=afxdp knows no frame larger than a page");
        } else if !way.frags {
            say("xdp_frags", "off: the kernel or the driver takes no frame larger than a page");
        }
        if !self.program.sees_tags {
            say(
                "xdp_vlan_warning",
                "VLAN tags that the device takes out of frames are lost here (seeing them needs Linux 6.8, a driver \
                 that tells and a native mode): have them left in, by 'ethtool -K DEVICE rxvlan off', of a veth 'txvlan \
                 off' at its far end",
            );
        }
        if !backend.is_own() {
            say("xdp_tx_checksum", "finished by the switch: xdp-backend=afxdp knows no transmit metadata");
        } else if !self.fills_checksums() {
            say("xdp_tx_checksum", "finished by the switch: the kernel takes no transmit metadata before Linux 6.8");
        }
        if let Beside::Groups(_) = self.beside {
            say("host", "keeps its addresses on the device: frames to these go to it, those to groups to both");
        }
        status
    }

    fn fills_checksums(&self) -> bool {
        self.queues.iter().all(|q| q.fills_checksums())
    }

    /// Counts what the kernel has dropped; asked only after frames came in faster than they were taken.
    fn count_lost(&mut self, lost: &mut Vec<(DropReason, u64)>) {
        if std::mem::take(&mut self.was_full) {
            let n = self.queues.iter_mut().map(|q| q.newly_lost()).sum();
            if n > 0 {
                lost.push((DropReason::RxOverflow, n));
            }
        }
    }

    /// Notes how sending ended, to go on with what waits, or to report the end.
    fn note(&mut self, how: Sent) {
        if let Sent::Broken(errno) = how {
            self.broken = Some(errno);
        }
        if matches!(how, Sent::Stalled | Sent::Broken(_)) {
            // A full counter is readable already.
            let _ = rustix::io::write(&self.retry, &1_u64.to_ne_bytes());
        }
    }

    /// Woken without a frame: goes on with what the device did not take before; the error if it is gone.
    fn go_on(&mut self, pool: &mut Pool) -> Option<i32> {
        let _ = rustix::io::read(&self.retry, &mut [0; 8]);
        for at in 0..self.queues.len() {
            if self.queues[at].is_stalled() {
                let how = self.queues[at].kick(pool, &mut self.late);
                self.note(how);
            }
        }
        let error = self.queues.iter().map(|q| q.error()).find(|&errno| errno != 0);
        self.broken.or(error.map(|errno| if errno == libc::ENETDOWN { libc::ENODEV } else { errno }))
    }
}

impl Device for XdpPort {
    fn caps(&self) -> Caps {
        Caps { partial_csum: self.fills_checksums(), ..Caps::NONE }
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let mut all: Vec<_> = self.queues.iter().map(|q| q.fd()).collect();
        all.push(self.retry.as_fd());
        if let Beside::Groups(socket) = &self.beside {
            all.extend(socket.descriptors());
        }
        all
    }

    fn receive(&mut self, pool: &mut Pool, batch: &mut Batch, lost: &mut Vec<(DropReason, u64)>) -> Rx {
        let before = batch.len();
        let mut more = false;
        for at in 0..self.queues.len() {
            more |= self.queues[at].receive(pool, batch, lost);
        }
        if let Beside::Groups(socket) = &mut self.beside
            && !batch.is_full()
        {
            match socket.receive(pool, batch, lost) {
                Rx::More => more = true,
                Rx::Empty => {}
                dead @ Rx::Dead(_) => return dead,
            }
        }
        self.was_full |= more;
        if more {
            return Rx::More;
        }
        self.count_lost(lost);
        if batch.len() == before {
            // Woken for nothing: to go on sending, or because the device is gone.
            if let Some(errno) = self.go_on(pool) {
                return Rx::Dead(errno);
            }
        }
        Rx::Empty
    }

    fn send(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>, unsent: &mut Unsent) -> u64 {
        // One worker sends, so one queue keeps frames in order.
        unsent.append(&mut self.late);
        let (sent, how) = self.queues[0].send(pool, frames, unsent);
        self.note(how);
        sent
    }
}

#[cfg(test)]
mod tests;
