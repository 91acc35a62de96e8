//! Opening and closing of devices on the control side: who owns one, who shares one, which worker receives from which of
//! their queues, what a closed TAP leaves behind.

use super::spec::{Applied, ApplyError, PortKind, PortSpec, PortWorkers};
use crate::packet::Region;
use crate::port::assist::{Attached, Programs, Table};
use crate::port::keep_out::KeepOuts;
use crate::port::memory::MemoryPort;
use crate::port::packet::{self, PacketHandle, PacketSocket};
use crate::port::raw_ip::{RawIp, RawIpHandle};
use crate::port::tap::{OpenedTap, Tap, TapHandle};
use crate::port::udp::{UdpEndpoint, UdpHandle};
use crate::port::xdp::{self, Umem, XdpHandle};
use crate::port::{Caps, Device, OpenError, Status};
use crate::stats::QueueLoad;
use crate::tunnel::{Endpoint, Protocol, ipip};
use crate::types::{DeviceId, RxQueue};
use crate::wire::gre;
use crate::worker::DeviceChanges;
use crate::worker::assign::{self, Assigned};
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// The facts of `Interface:status` that tell whether the kernel forwards for a port, and why not if it was to.
const ASSIST: &str = "assist";
const NO_ASSIST: &str = "assist_warning";

/// What a port learns of its device.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Its identity.
    pub device: DeviceId,
    /// What it takes unfinished.
    pub caps: Caps,
    /// What to report.
    pub applied: Applied,
}

/// What is kept of an open device, to give more workers a part of it.
#[derive(Debug)]
enum Kind {
    /// An identifier only: a patch port.
    None,
    Packet {
        name: String,
        handle: PacketHandle,
        assisted: Option<Attached>,
    },
    Xdp(XdpHandle),
    Tap {
        name: String,
        handle: TapHandle,
    },
    Memory(MemoryPort),
    Shared {
        endpoint: Endpoint,
        users: usize,
        handle: EndpointHandle,
    },
}

/// What is kept of a tunnels' endpoint.
#[derive(Debug)]
enum EndpointHandle {
    Udp(UdpHandle),
    RawIp(RawIpHandle),
}

/// One of the queues that a device is received from by.
#[derive(Clone, Debug)]
pub struct Queue {
    /// Its place among those of the device.
    pub number: u16,
    /// Whose it is.
    pub worker: usize,
    /// What it costs.
    pub load: Arc<QueueLoad>,
    /// What it had cost, in nanoseconds, when loads were looked at last, and how much of the worker's time, in parts of
    /// 1000, it took before that.
    seen: u64,
    pub share: u32,
}

#[derive(Debug)]
struct Record {
    opened: Opened,
    kind: Kind,
    queues: Vec<Queue>,
}

/// A device's receive queues when it is opened.
type Parts = Vec<Box<dyn Device>>;

/// All open devices.
#[derive(Default)]
pub struct Devices {
    records: HashMap<DeviceId, Record>,
    /// What the change under way means for each worker.
    changes: Vec<DeviceChanges>,
    /// TAPs whose port was removed in the change under way: taken up again by a new port of the same name, so that a
    /// port that is replaced keeps its interface and addresses, or else removed from the host.
    parked: HashMap<String, TapHandle>,
    keep_outs: KeepOuts,
    /// Set while a device has, or was to have, frames forwarded in the kernel.
    programs: Option<Programs>,
    /// AF_XDP devices that the workers have not given up yet: there is one owner of an interface at a time.
    closing_xdp: Vec<XdpHandle>,
    /// The memory of AF_XDP ports.
    umem: Umem,
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices").field("records", &self.records).finish_non_exhaustive()
    }
}

impl Devices {
    /// None, for so many workers.
    pub fn new(workers: usize) -> Self {
        let mut devices = Self::default();
        devices.changes.resize_with(workers, DeviceChanges::default);
        devices
    }

    /// What a port on this open device learned when it was opened.
    pub fn current(&self, device: DeviceId) -> Option<Opened> {
        self.records.get(&device).map(|r| r.opened.clone())
    }

    /// Opens the device that `spec` asks for, or joins the users of a shared one.
    pub fn open(&mut self, spec: &PortSpec, new_id: impl FnOnce() -> DeviceId) -> Result<Opened, ApplyError> {
        let (workers, name) = (self.changes.len(), spec.name.clone());
        let (parts, kind, applied): (Parts, _, _) = match &spec.kind {
            PortKind::Netdev { ifindex } => {
                let (socket, handle, status) = PacketSocket::open(&name, *ifindex, &mut self.keep_outs)?;
                let applied = Applied { status, ifindex: Some(*ifindex) };
                (vec![Box::new(socket)], Kind::Packet { name, handle, assisted: None }, applied)
            }
            PortKind::Xdp(xdp) => {
                let (queues, handle, status) = xdp::open(&name, xdp, &mut self.umem)?;
                let applied = Applied { status, ifindex: Some(xdp.ifindex) };
                (queues, Kind::Xdp(handle), applied)
            }
            PortKind::Internal => {
                let (taps, handle, status) = self.open_tap(&name, workers)?;
                let applied = Applied { status, ifindex: Some(handle.ifindex()) };
                (taps.into_iter().map(|tap| Box::new(tap) as _).collect(), Kind::Tap { name, handle }, applied)
            }
            PortKind::Tunnel(tunnel) => {
                let endpoint = tunnel.endpoint();
                if let Some(opened) = self.join(endpoint) {
                    return Ok(opened);
                }
                let (parts, handle, status) = open_endpoint(endpoint, workers)?;
                (parts, Kind::Shared { endpoint, users: 1, handle }, Applied { status, ifindex: None })
            }
            PortKind::Patch { .. } => return Ok(self.without_device(new_id())),
            PortKind::Memory(port) => {
                let status = vec![("io".to_owned(), "memory".to_owned())];
                (vec![port.device()], Kind::Memory(port.clone()), Applied { status, ifindex: None })
            }
        };
        let caps = parts.first().map_or(Caps::NONE, |part| part.caps());
        let device = new_id();
        let senders = (0..workers.saturating_sub(parts.len())).map(|_| kind.sender()).collect::<Result<Vec<_>, _>>()?;
        let queues = self.hand_out(device, parts, senders.into_iter().flatten().collect());
        let opened = Opened { device, caps, applied };
        self.records.insert(device, Record { opened: opened.clone(), kind, queues });
        Ok(opened)
    }

    /// Has the kernel forward for the device, or no longer; the status tells what came of it. Its interface index, if the
    /// kernel does.
    pub fn assist(&mut self, device: DeviceId, wanted: bool) -> Option<u32> {
        let Record { opened, kind, .. } = self.records.get_mut(&device)?;
        let status = &mut opened.applied.status;
        status.retain(|(fact, _)| ![ASSIST, NO_ASSIST].contains(&fact.as_str()));
        let done = match kind {
            Kind::Packet { assisted, .. } if !wanted => {
                *assisted = None;
                return None;
            }
            _ if !wanted => return None,
            Kind::Packet { handle, assisted: Some(_), .. } => Ok(handle.ifindex()),
            Kind::Packet { handle, assisted, .. } => {
                attach(&mut self.programs, handle).map_err(|e| without_assist(&e)).map(|done| {
                    *assisted = Some(done);
                    handle.ifindex()
                })
            }
            _ => Err("its frames do not come by a packet socket".to_owned()),
        };
        status.push((ASSIST.to_owned(), if done.is_ok() { "on" } else { "off" }.to_owned()));
        done.map_err(|why| status.push((NO_ASSIST.to_owned(), format!("the kernel forwards nothing by itself: {why}"))))
            .ok()
    }

    /// The flows that the kernel forwards.
    pub fn flow_table(&self) -> Option<Arc<Table>> {
        self.programs.as_ref().map(Programs::table)
    }

    /// Gives each queue a worker, and each worker that has none a sender.
    fn hand_out(&mut self, device: DeviceId, parts: Parts, mut senders: Vec<Box<dyn Device>>) -> Vec<Queue> {
        let mut queues: Vec<Queue> = Vec::new();
        for (number, part) in (0..).zip(parts) {
            // With a queue for each worker, each gets one; else the least busy of those that have none of this device.
            let taken: Vec<_> = queues.iter().map(|queue| queue.worker).collect();
            let heavy = (0..self.changes.len()).filter(|w| taken.contains(w)).map(|worker| Assigned {
                device,
                worker,
                load: 10_000,
            });
            let all: Vec<_> = self.assigned().map(|(_, assigned)| assigned).chain(heavy).collect();
            let worker = assign::place(all.iter().copied(), self.changes.len());
            let load = Arc::<QueueLoad>::default();
            self.changes[worker].queues.push((RxQueue { device, number }, part, Arc::clone(&load)));
            queues.push(Queue { number, worker, load, seen: 0, share: 0 });
        }
        for (worker, changes) in self.changes.iter_mut().enumerate() {
            if queues.iter().all(|queue| queue.worker != worker) {
                changes.senders.extend(senders.pop().map(|sender| (device, sender)));
            }
        }
        queues
    }

    /// Gives a port's device up; a shared one is closed when nobody uses it any more.
    pub fn close(&mut self, device: DeviceId, port: &str) {
        if let Some(Record { kind: Kind::Shared { users, .. }, .. }) = self.records.get_mut(&device) {
            *users = users.saturating_sub(1);
            return;
        }
        match self.records.remove(&device).map(|record| record.kind) {
            Some(Kind::Tap { handle, .. }) => drop(self.parked.insert(port.to_owned(), handle)),
            Some(Kind::Xdp(handle)) => {
                self.umem.note_closed(handle.ifindex());
                self.closing_xdp.push(handle);
            }
            _ => {}
        }
        self.take_away(device);
    }

    /// Has no worker have the device any more.
    fn take_away(&mut self, device: DeviceId) {
        for changes in &mut self.changes {
            let before = changes.queues.len() + changes.senders.len();
            changes.queues.retain(|(queue, ..)| queue.device != device);
            changes.senders.retain(|(id, _)| *id != device);
            let opened_just_now = changes.queues.len() + changes.senders.len() < before;
            if !opened_just_now {
                changes.removed.push(device);
            }
        }
    }

    /// The memory of AF_XDP ports.
    pub fn umem(&self) -> &[Arc<Region>] {
        self.umem.regions()
    }

    /// Whether the device of `kind` can only be opened when the change so far has ended.
    pub fn is_held_by_closing(&self, kind: &PortKind) -> bool {
        matches!(kind, PortKind::Xdp(xdp) if self.closing_xdp.iter().any(|handle| handle.ifindex() == xdp.ifindex))
    }

    /// Ends a change: TAPs that nobody took up again go, shared devices without users are closed. What that means for each
    /// worker.
    pub fn take_changes(&mut self) -> Vec<DeviceChanges> {
        for (name, tap) in self.parked.drain() {
            if let Err(e) = tap.remove() {
                tracing::warn!("{name}: the interface stays: {e}; remove it with 'ip link del {name}'");
            }
        }
        self.closing_xdp.clear();
        let unused = |r: &Record| matches!(r.kind, Kind::Shared { users: 0, .. });
        let closed: Vec<_> = self.records.iter().filter(|(_, r)| unused(r)).map(|(id, _)| *id).collect();
        for device in closed {
            self.records.remove(&device);
            self.take_away(device);
        }
        let is_assisted = |r: &Record| matches!(r.kind, Kind::Packet { assisted: Some(_), .. });
        if !self.records.values().any(is_assisted) {
            self.programs = None;
        }
        self.changes.iter_mut().map(std::mem::take).collect()
    }

    /// What a worker more is to have: a sender or, where there may be more queues and are not enough, a queue of each
    /// device.
    pub fn add_worker(&mut self) -> DeviceChanges {
        let (worker, mut changes) = (self.changes.len(), DeviceChanges::default());
        for (&device, record) in &mut self.records {
            let number = u16::try_from(record.queues.len()).unwrap_or(u16::MAX);
            let enough = record.queues.len() > worker;
            let part = match if enough { None } else { record.kind.another_queue() } {
                Some(queue) => queue.map(|queue| Some((queue, true))),
                None => record.kind.sender().map(|sender| sender.map(|sender| (sender, false))),
            };
            match part {
                Ok(Some((queue, true))) => {
                    let load = Arc::<QueueLoad>::default();
                    changes.queues.push((RxQueue { device, number }, queue, Arc::clone(&load)));
                    record.queues.push(Queue { number, worker, load, seen: 0, share: 0 });
                }
                Ok(Some((sender, false))) => changes.senders.push((device, sender)),
                Ok(None) => {}
                Err(e) => tracing::error!("worker {worker} cannot send by it, and drops what is for it: {e}"),
            }
        }
        self.changes.push(DeviceChanges::default());
        changes
    }

    /// Takes the last worker off the list: the moves of its queues to those that stay.
    pub fn remove_worker(&mut self) -> Vec<Move> {
        self.changes.pop();
        let (from, mut moves) = (self.changes.len(), Vec::new());
        let queues: Vec<_> =
            self.assigned().filter(|(_, assigned)| assigned.worker == from).map(|(id, _)| id).collect();
        for queue in queues {
            let stay: Vec<_> = self.assigned().map(|(_, a)| a).filter(|a| a.worker != from).collect();
            let to = assign::place(stay.iter().copied(), from);
            self.give(queue, to);
            moves.push(Move { queue, from, to, sender: None });
        }
        moves
    }

    /// The queue that had better be another worker's, by what each has cost in the `nanos` since this was asked last.
    pub fn rebalance(&mut self, nanos: u64) -> Option<Move> {
        for queue in self.records.values_mut().flat_map(|record| &mut record.queues) {
            let busy = queue.load.busy.get();
            let spent = busy.saturating_sub(std::mem::replace(&mut queue.seen, busy));
            queue.share = u32::try_from(spent.saturating_mul(1000) / nanos.max(1)).unwrap_or(u32::MAX).min(1000);
        }
        self.move_by(assign::improve)
    }

    /// The moves that give a new worker its part.
    pub fn spread(&mut self) -> Vec<Move> {
        std::iter::from_fn(|| self.move_by(assign::spread)).collect()
    }

    fn move_by(&mut self, choose: assign::Choice) -> Option<Move> {
        let all: Vec<_> = self.assigned().collect();
        let assigned: Vec<_> = all.iter().map(|(_, assigned)| *assigned).collect();
        let (at, to) = choose(&assigned, self.changes.len())?;
        let (queue, Assigned { worker: from, .. }) = all[at];
        let record = self.records.get(&queue.device)?;
        let others = record.queues.iter().any(|q| q.worker == from && q.number != queue.number);
        let sender = if others { None } else { record.kind.sender().unwrap_or_default() };
        // Without a sender in its place it stays.
        if !others && sender.is_none() {
            return None;
        }
        self.give(queue, to);
        Some(Move { queue, from, to, sender })
    }

    /// A queue's load, as the worker writes it.
    pub fn load(&self, id: RxQueue) -> Option<Arc<QueueLoad>> {
        self.records.get(&id.device)?.queues.iter().find(|q| q.number == id.number).map(|q| Arc::clone(&q.load))
    }

    /// The queues of a device.
    pub fn queues(&self, device: DeviceId) -> &[Queue] {
        self.records.get(&device).map_or(&[], |record| &record.queues)
    }

    /// The workers that have to do with a device.
    pub fn workers_of(&self, device: DeviceId) -> PortWorkers {
        let Some(record) = self.records.get(&device) else { return PortWorkers::default() };
        let receives = |worker: &usize| record.queues.iter().any(|queue| queue.worker == *worker);
        let (receiving, others) = (0..self.changes.len()).partition(receives);
        let by_packet = if matches!(record.kind, Kind::Xdp(_)) { others } else { Vec::new() };
        PortWorkers { receiving, by_packet }
    }

    fn give(&mut self, id: RxQueue, worker: usize) {
        let queues = self.records.get_mut(&id.device).map(|record| &mut record.queues);
        queues.into_iter().flatten().filter(|queue| queue.number == id.number).for_each(|queue| queue.worker = worker);
    }

    /// All queues, with whose they are and how busy.
    fn assigned(&self) -> impl Iterator<Item = (RxQueue, Assigned)> {
        let of = |(&device, record): (&DeviceId, &Record)| {
            let queue = move |q: &Queue| {
                (RxQueue { device, number: q.number }, Assigned { device, worker: q.worker, load: q.share })
            };
            record.queues.iter().map(queue).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = self.records.iter().flat_map(of).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all.into_iter()
    }

    fn without_device(&mut self, device: DeviceId) -> Opened {
        let opened = Opened { device, caps: Caps::ALL, applied: Applied::default() };
        self.records.insert(device, Record { opened: opened.clone(), kind: Kind::None, queues: vec![] });
        opened
    }

    fn join(&mut self, wanted: Endpoint) -> Option<Opened> {
        self.records.values_mut().find_map(|r| match &mut r.kind {
            Kind::Shared { endpoint, users, .. } if *endpoint == wanted => {
                *users += 1;
                Some(r.opened.clone())
            }
            _ => None,
        })
    }

    fn open_tap(&mut self, name: &str, queues: usize) -> Result<OpenedTap, OpenError> {
        match self.parked.remove(name).filter(TapHandle::is_alive) {
            Some(handle) => Tap::reopen(name, handle, queues),
            None => Tap::open(name, queues),
        }
    }
}

/// Attaches the programs, which are loaded for the first device that wants them.
fn attach(programs: &mut Option<Programs>, handle: &PacketHandle) -> io::Result<Attached> {
    let programs = match programs {
        Some(loaded) => loaded,
        None => programs.insert(Programs::load()?),
    };
    handle.assist(programs)
}

/// Why the kernel does not forward, for people.
fn without_assist(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EINVAL) => format!("this kernel has no tcx links ({error}); it needs Linux 6.6 or later"),
        Some(libc::EPERM | libc::EACCES) => format!("{error}; it needs CAP_BPF and CAP_NET_ADMIN, or CAP_SYS_ADMIN"),
        _ => error.to_string(),
    }
}

/// A queue on its way from one worker to another.
pub struct Move {
    /// Which.
    pub queue: RxQueue,
    /// Whose it was.
    pub from: usize,
    /// Whose it is to be.
    pub to: usize,
    /// What the first is to send by.
    pub sender: Option<Box<dyn Device>>,
}

impl Kind {
    /// What a worker sends by that has no queue of the device; `None` if there is nothing to send by.
    fn sender(&self) -> Result<Option<Box<dyn Device>>, OpenError> {
        Ok(Some(match self {
            Self::None => return Ok(None),
            Self::Packet { name, handle, .. } => Box::new(packet::Sender::open(name, handle.ifindex())?),
            Self::Xdp(handle) => Box::new(handle.sender()?),
            Self::Tap { handle, .. } => Box::new(handle.sender()),
            Self::Memory(port) => port.sender(),
            Self::Shared { handle: EndpointHandle::Udp(udp), .. } => Box::new(udp.sender()?),
            Self::Shared { handle: EndpointHandle::RawIp(socket), .. } => Box::new(socket.sender()?),
        }))
    }

    /// One more receive queue; `None` if there can be none.
    fn another_queue(&mut self) -> Option<Result<Box<dyn Device>, OpenError>> {
        match self {
            Self::Tap { name, handle } => Some(handle.add_queue(name)?.map(|tap| Box::new(tap) as _)),
            Self::Shared { handle: EndpointHandle::Udp(udp), .. } => {
                Some(udp.another().map(|endpoint| Box::new(endpoint) as _))
            }
            _ => None,
        }
    }
}

/// The queues of a tunnel's endpoint: one for each worker over UDP, one over raw IP.
fn open_endpoint(endpoint: Endpoint, workers: usize) -> Result<(Parts, EndpointHandle, Status), OpenError> {
    let Endpoint { protocol, port, ipv6 } = endpoint;
    match protocol {
        Protocol::Vxlan | Protocol::Geneve => {
            let (first, handle, status) = UdpEndpoint::open(port, ipv6)?;
            let mut parts: Parts = vec![Box::new(first)];
            for _ in 1..workers {
                parts.push(Box::new(handle.another()?));
            }
            Ok((parts, EndpointHandle::Udp(handle), status))
        }
        Protocol::Gre | Protocol::Ipip => {
            let (socket, handle, status) = RawIp::open(number_of(protocol), ipv6)?;
            Ok((vec![Box::new(socket)], EndpointHandle::RawIp(handle), status))
        }
    }
}

/// The IP protocol that a tunnel without UDP is.
fn number_of(protocol: Protocol) -> u8 {
    if protocol.is_layer3() { ipip::PROTOCOL } else { gre::PROTOCOL }
}
