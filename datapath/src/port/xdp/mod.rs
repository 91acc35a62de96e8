//! A network device through AF_XDP sockets: packets per second, for whoever asks (`options:io=af_xdp`).
//!
//! ```text
//!  device ── program ─┬─ socket of queue 0 ─ rings ─ chunks of a region ── worker 0
//!            (pass?)  ├─ socket of queue 1 ─ rings ─ chunks of a region ── worker 1
//!               │     └─ …                                                  ┊
//!             host ······· packet socket, for frames to groups ········ of queue 0, where the host uses the device, too
//! ```
//!
//! Frames are chunks of a [`Region`] that the kernel is lent and gives back, so one that goes from port to port is not
//! copied by us; the room before it takes tags, tunnel headers and transmit metadata. A device knows no super-frames
//! here, and does not tell of unfinished checksums, so these are recognised and finished.
//!
//! Each queue is a [`Device`] of its own, with its own rings, which one worker thread at a time owns and both receives
//! and sends by; nothing of it is shared with other workers but the list of free chunks, taken from many at a time. Control
//! keeps what they have in common ([`XdpHandle`]). Whoever is on the device may send any bytes. The kernel's descriptors are
//! checked against what it was lent. Program and sockets go with the process.
//!
//! Frames may also be moved by the crate `afxdp`, for comparison: see [`Backend`].

#[cfg(feature = "afxdp")]
mod afxdp;
mod backend;
mod device;
mod program;
mod queue;
mod rings;
mod socket;
mod sys;
mod umem;

use super::packet::{self, PacketSocket};
use super::sys::{QueueCounts, queue_counts};
use super::{Device, OpenError, Status};
use crate::types::{L3Mtu, MacAddr};
pub use backend::Backend;
use backend::QueueIo;
use device::XdpQueue;
use program::{Program, Wanted};
use queue::Queue;
use rustix::net::{AddressFamily, SocketType, socket as any_socket};
use socket::{Binding, Socket};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;
use umem::Memory;
pub use umem::Umem;

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

/// A device that was opened: its queues, each for a worker, control's hold on it, and what to say about it.
pub(crate) type OpenedXdp = (Vec<Box<dyn Device>>, XdpHandle, Status);

/// Opens the device `name`.
pub(crate) fn open(name: &str, spec: &XdpSpec, umem: &mut Umem) -> Result<OpenedXdp, OpenError> {
    let failed = |call, source, hint: &str| OpenError { device: name.to_owned(), call, source, hint: hint.to_owned() };
    let has = queues_of(name);
    let queues = spec.queues.unwrap_or(has.receive);
    if queues != has.receive {
        let source = io::Error::from_raw_os_error(libc::EINVAL);
        let hint = format!(
            "n_rxq={queues}, and the device has {}: frames of other queues would be lost; leave n_rxq out, or \
             'ethtool -L {name} combined {queues}' (of a veth: rx {queues} tx {queues})",
            has.receive
        );
        return Err(failed("taking its queues", source, &hint));
    }
    let memories: io::Result<Vec<_>> = (0..queues).map(|_| Memory::of(spec.backend, umem)).collect();
    let memories = memories.map_err(|e| failed("making memory for frames", e, "is there enough?"))?;
    let mut refusals: Vec<(Way, Refusal)> = Vec::new();
    for way in Way::all(spec.mode, spec.backend) {
        let open = || XdpPort::open(name, spec, way, has.transmit, &memories);
        match patiently(umem.patience_with(spec.ifindex), open) {
            Ok(port) => {
                umem.note_opened(spec.ifindex);
                let status = port.status(spec, way, &refusals);
                let queues = port.queues.into_iter().map(|queue| Box::new(queue) as _).collect();
                return Ok((queues, port.handle, status));
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

/// How many queues a device has: one where its driver cannot tell.
fn queues_of(name: &str) -> QueueCounts {
    let any = any_socket(AddressFamily::INET, SocketType::DGRAM, None).map_err(io::Error::from);
    let counts = any.and_then(|any| queue_counts(any.as_fd(), name)).unwrap_or_default();
    QueueCounts { receive: counts.receive.max(1), transmit: counts.transmit.max(1) }
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

/// Control's hold on a device whose queues workers have.
#[derive(Debug)]
pub struct XdpHandle {
    name: String,
    ifindex: u32,
    /// Takes the program off the device; to be dropped before the queues, so that no frame is lost to a missing socket.
    _link: OwnedFd,
    /// Has the device take frames for any station.
    _promiscuous: Option<OwnedFd>,
}

impl XdpHandle {
    /// The device's index.
    pub(crate) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// What a worker sends by that has no queue: rings have one owner.
    pub(crate) fn sender(&self) -> Result<packet::Sender, OpenError> {
        packet::Sender::open(&self.name, self.ifindex)
    }
}

/// A device that has been opened in one way.
struct XdpPort {
    queues: Vec<XdpQueue>,
    handle: XdpHandle,
    /// Whether it puts VLAN tags back.
    sees_tags: bool,
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
    /// Opens it with a queue for each of `memories`, of which it can send by `senders`.
    fn open(name: &str, spec: &XdpSpec, way: Way, senders: u32, memories: &[Memory]) -> Result<Self, Refusal> {
        let (ifindex, native) = (spec.ifindex, way.mode != Mode::Generic);
        let wanted = Wanted { ifindex, native, frags: way.frags, host: &spec.host };
        let program = Program::load(&wanted, memories.len() as u32).map_err(|e| ("loading its program", e))?;
        // The crate would bring a program of its own, which stays behind, if it did not find ours on the device.
        let early = (!spec.backend.is_own()).then(|| attach(&program, &wanted)).transpose()?;
        let open = |(queue, memory): (u32, &Memory)| {
            let io = open_queue(name, spec, way, queue, memory, &program)?;
            let sender = (queue >= senders).then(|| packet::Sender::open(name, ifindex)).transpose();
            XdpQueue::new(io, memory.clone(), sender.map_err(|e| (e.call, e.source))?)
        };
        let mut queues = (0..).zip(memories).map(open).collect::<Result<Vec<_>, Refusal>>()?;
        let failed = |e| ("having it take all frames", e);
        let promiscuous = match (queues.first_mut(), spec.host.is_empty()) {
            (Some(first), false) => {
                first.add_groups(PacketSocket::of_groups(ifindex).map_err(failed)?);
                None
            }
            _ => Some(packet::socket(libc::c_int::try_from(ifindex).unwrap_or(0)).map_err(failed)?),
        };
        // Last: from here on frames come in.
        let link = early.map_or_else(|| attach(&program, &wanted), Ok)?;
        let handle = XdpHandle { name: name.to_owned(), ifindex, _link: link, _promiscuous: promiscuous };
        Ok(Self { queues, handle, sees_tags: program.sees_tags })
    }

    /// What is in use, and what was refused before.
    fn status(&self, spec: &XdpSpec, way: Way, refusals: &[(Way, Refusal)]) -> Status {
        let copying = if self.queues.iter().all(XdpQueue::zero_copy) { "zero-copy" } else { "copied by the kernel" };
        let (n, backend) = (self.queues.len(), spec.backend);
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
        if !self.sees_tags {
            say(
                "xdp_vlan_warning",
                "VLAN tags that the device takes out of frames are lost here (seeing them needs Linux 6.8, a driver \
                 that tells and a native mode): have them left in, by 'ethtool -K DEVICE rxvlan off', of a veth 'txvlan \
                 off' at its far end",
            );
        }
        if !backend.is_own() {
            say("xdp_tx_checksum", "finished by the switch: xdp-backend=afxdp knows no transmit metadata");
        } else if !self.queues.iter().all(XdpQueue::fills_checksums) {
            say("xdp_tx_checksum", "finished by the switch: the kernel takes no transmit metadata before Linux 6.8");
        }
        let by_packet = self.queues.iter().filter(|queue| queue.sends_by_packet()).count();
        if by_packet > 0 {
            let text = format!(
                "the device can be sent to by {} of its {n} queues only, and workers of the others send by packet sockets, \
                 slower; 'ethtool -L DEVICE tx {n}', then add the port anew",
                n - by_packet
            );
            say("xdp_tx_warning", &text);
        }
        if !spec.host.is_empty() {
            say("host", "keeps its addresses on the device: frames to these go to it, those to groups to both");
        }
        status
    }
}

#[cfg(test)]
mod tests;
