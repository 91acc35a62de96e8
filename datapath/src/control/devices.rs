//! Opening and closing of devices on the control side: who owns one, who shares one, what a closed TAP leaves behind.

use super::spec::{Applied, ApplyError, PortKind, PortSpec};
use crate::packet::Region;
use crate::port::assist::{Attached, Programs, Table};
use crate::port::keep_out::KeepOuts;
use crate::port::packet::{PacketHandle, PacketSocket};
use crate::port::raw_ip::RawIp;
use crate::port::tap::{Tap, TapHandle};
use crate::port::udp::UdpEndpoint;
use crate::port::xdp::{self, Umem};
use crate::port::{Caps, Device, OpenError, Status};
use crate::tunnel::{Endpoint, Protocol, ipip};
use crate::types::DeviceId;
use crate::wire::gre;
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

/// Devices that the worker is to take over, and those it is to close.
pub type Changes = (Vec<(DeviceId, Box<dyn Device>)>, Vec<DeviceId>);

#[derive(Debug)]
enum Kind {
    /// An identifier only: a patch port.
    None,
    Plain,
    Packet(PacketHandle, Option<Attached>),
    /// Of the device with this interface index, which has one such owner at a time.
    Xdp(u32),
    Tap(TapHandle),
    Shared {
        endpoint: Endpoint,
        users: usize,
    },
}

#[derive(Debug)]
struct Record {
    opened: Opened,
    kind: Kind,
}

/// All open devices.
#[derive(Default)]
pub struct Devices {
    records: HashMap<DeviceId, Record>,
    added: Vec<(DeviceId, Box<dyn Device>)>,
    /// TAPs whose port was removed in the change under way: taken up again by a new port of the same name, so that a
    /// port that is replaced keeps its interface and addresses, or else removed from the host.
    parked: HashMap<String, TapHandle>,
    closed: Vec<DeviceId>,
    keep_outs: KeepOuts,
    /// Set while a device has, or was to have, frames forwarded in the kernel.
    programs: Option<Programs>,
    /// Interfaces whose AF_XDP device the worker has not given up yet.
    closing_xdp: Vec<u32>,
    /// The memory of AF_XDP ports.
    umem: Umem,
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices").field("records", &self.records).finish_non_exhaustive()
    }
}

impl Devices {
    /// What a port on this open device learned when it was opened.
    pub fn current(&self, device: DeviceId) -> Option<Opened> {
        self.records.get(&device).map(|r| r.opened.clone())
    }

    /// Opens the device that `spec` asks for, or joins the users of a shared one.
    pub fn open(&mut self, spec: &PortSpec, new_id: impl FnOnce() -> DeviceId) -> Result<Opened, ApplyError> {
        let (device, kind, applied): (Box<dyn Device>, _, _) = match &spec.kind {
            PortKind::Netdev { ifindex } => {
                let (socket, handle, status) = PacketSocket::open(&spec.name, *ifindex, &mut self.keep_outs)?;
                (Box::new(socket), Kind::Packet(handle, None), Applied { status, ifindex: Some(*ifindex) })
            }
            PortKind::Xdp(xdp) => {
                let (device, status) = xdp::open(&spec.name, xdp, &mut self.umem)?;
                (device, Kind::Xdp(xdp.ifindex), Applied { status, ifindex: Some(xdp.ifindex) })
            }
            PortKind::Internal => {
                let (tap, handle, status) = self.open_tap(&spec.name)?;
                let ifindex = Some(handle.ifindex());
                (Box::new(tap), Kind::Tap(handle), Applied { status, ifindex })
            }
            PortKind::Tunnel(tunnel) => {
                let endpoint = tunnel.endpoint();
                if let Some(opened) = self.join(endpoint) {
                    return Ok(opened);
                }
                let (socket, status) = open_endpoint(endpoint)?;
                (socket, Kind::Shared { endpoint, users: 1 }, Applied { status, ifindex: None })
            }
            PortKind::Patch { .. } => return Ok(self.without_device(new_id())),
            PortKind::Memory(port) => {
                let status = vec![("io".to_owned(), "memory".to_owned())];
                (port.device(), Kind::Plain, Applied { status, ifindex: None })
            }
        };
        let opened = Opened { device: new_id(), caps: device.caps(), applied };
        self.added.push((opened.device, device));
        self.records.insert(opened.device, Record { opened: opened.clone(), kind });
        Ok(opened)
    }

    /// Has the kernel forward for the device, or no longer; the status tells what came of it. Its interface index, if the
    /// kernel does.
    pub fn assist(&mut self, device: DeviceId, wanted: bool) -> Option<u32> {
        let Record { opened, kind } = self.records.get_mut(&device)?;
        let status = &mut opened.applied.status;
        status.retain(|(fact, _)| ![ASSIST, NO_ASSIST].contains(&fact.as_str()));
        let done = match kind {
            Kind::Packet(_, attached) if !wanted => {
                *attached = None;
                return None;
            }
            _ if !wanted => return None,
            Kind::Packet(handle, Some(_)) => Ok(handle.ifindex()),
            Kind::Packet(handle, none) => {
                attach(&mut self.programs, handle).map_err(|e| without_assist(&e)).map(|done| {
                    *none = Some(done);
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

    /// Gives a port's device up; a shared one is closed when nobody uses it any more.
    pub fn close(&mut self, device: DeviceId, port: &str) {
        if let Some(Record { kind: Kind::Shared { users, .. }, .. }) = self.records.get_mut(&device) {
            *users = users.saturating_sub(1);
            return;
        }
        match self.records.remove(&device).map(|record| record.kind) {
            Some(Kind::Tap(handle)) => drop(self.parked.insert(port.to_owned(), handle)),
            Some(Kind::Xdp(ifindex)) => self.closing_xdp.push(ifindex),
            _ => {}
        }
        let opened_just_now = self.added.iter().position(|(id, _)| *id == device);
        match opened_just_now {
            Some(at) => drop(self.added.swap_remove(at)),
            None => self.closed.push(device),
        }
    }

    /// The memory of AF_XDP ports.
    pub fn umem(&self) -> &[Arc<Region>] {
        self.umem.regions()
    }

    /// Whether the device of `kind` can only be opened when the change so far has ended.
    pub fn is_held_by_closing(&self, kind: &PortKind) -> bool {
        matches!(kind, PortKind::Xdp(xdp) if self.closing_xdp.contains(&xdp.ifindex))
    }

    /// Ends a change: TAPs that nobody took up again go, shared devices without users are closed.
    pub fn take_changes(&mut self) -> Changes {
        for (name, tap) in self.parked.drain() {
            if let Err(e) = tap.remove() {
                tracing::warn!("{name}: the interface stays: {e}; remove it with 'ip link del {name}'");
            }
        }
        self.closing_xdp.clear();
        let unused = |r: &Record| matches!(r.kind, Kind::Shared { users: 0, .. });
        self.closed.extend(self.records.iter().filter(|(_, r)| unused(r)).map(|(id, _)| *id));
        self.records.retain(|_, r| !unused(r));
        self.added.retain(|(id, _)| self.records.contains_key(id));
        let is_assisted = |r: &Record| matches!(r.kind, Kind::Packet(_, Some(_)));
        if !self.records.values().any(is_assisted) {
            self.programs = None;
        }
        (std::mem::take(&mut self.added), std::mem::take(&mut self.closed))
    }

    fn without_device(&mut self, device: DeviceId) -> Opened {
        let opened = Opened { device, caps: Caps::ALL, applied: Applied::default() };
        self.records.insert(device, Record { opened: opened.clone(), kind: Kind::None });
        opened
    }

    fn join(&mut self, wanted: Endpoint) -> Option<Opened> {
        self.records.values_mut().find_map(|r| match &mut r.kind {
            Kind::Shared { endpoint, users } if *endpoint == wanted => {
                *users += 1;
                Some(r.opened.clone())
            }
            _ => None,
        })
    }

    fn open_tap(&mut self, name: &str) -> Result<(Tap, TapHandle, Status), OpenError> {
        match self.parked.remove(name).filter(TapHandle::is_alive) {
            Some(handle) => Tap::reopen(name, handle),
            None => Tap::open(name),
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

fn open_endpoint(Endpoint { protocol, port, ipv6 }: Endpoint) -> Result<(Box<dyn Device>, Status), OpenError> {
    let raw = |number| RawIp::open(number, ipv6).map(|(d, status)| (Box::new(d) as _, status));
    match protocol {
        Protocol::Vxlan | Protocol::Geneve => {
            UdpEndpoint::open(port, ipv6).map(|(d, status)| (Box::new(d) as _, status))
        }
        Protocol::Gre => raw(gre::PROTOCOL),
        Protocol::Ipip => raw(ipip::PROTOCOL),
    }
}
