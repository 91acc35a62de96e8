//! What can be asked of the datapath, and what comes back. Plain values: the daemon compares them to plan a change.

pub use crate::port::xdp::{Backend as XdpBackend, Mode as XdpMode, XdpSpec};
pub use crate::switch::mirror::MAX_MIRRORS;
pub use crate::switch::mtu::MtuPolicy;

use crate::port::OpenError;
use crate::port::memory::MemoryPort;
use crate::switch::moves::Flap;
use crate::switch::routes::Gateway;
use crate::switch::shape::Limits;
use crate::switch::state::{BridgeVlans, PortRules, VlanMode};
use crate::switch::verdict::DropReason;
use crate::time::Duration;
use crate::tunnel::Tunnel;
use crate::types::{Ipv4Prefix, L3Mtu, MacAddr, RemoteIndex, VlanId};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// One change of the datapath.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Takes a port out and closes its device; an internal port's interface disappears from the host.
    RemovePort {
        /// The port's name.
        name: String,
    },
    /// Takes out a bridge that has no ports left.
    RemoveBridge {
        /// The bridge's name.
        name: String,
    },
    /// Adds a bridge.
    AddBridge(BridgeSpec),
    /// Changes the settings of a bridge.
    SetBridge(BridgeSpec),
    /// Opens a device and adds it to a bridge as a port.
    AddPort(PortSpec),
    /// Changes a port; its device is opened anew only when its kind differs. Counters go on.
    SetPort(PortSpec),
}

/// The settings of a bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeSpec {
    /// Its name, unique in the datapath.
    pub name: String,
    /// How long a learned address stays without being heard from.
    pub mac_aging: Duration,
    /// How many addresses are kept at most.
    pub mac_table_size: usize,
    /// Addresses that are where they are configured to be.
    pub statics: Vec<StaticSpec>,
    /// `fail_mode=secure` without a controller: nothing is forwarded.
    pub secure: bool,
    /// How it treats VLANs.
    pub vlans: BridgeVlans,
    /// Its mirrors, each with a name of its own; [`MAX_MIRRORS`] at most. One whose output port does not exist copies
    /// nothing.
    pub mirrors: Vec<MirrorSpec>,
    /// What it is known by as a router, if it is to have a layer-3 tunnel.
    pub gateway: Option<Gateway>,
}

/// The settings of a mirror. Ports are those of the same bridge; those that do not exist are left out until they do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MirrorSpec {
    /// Its name; as long as that and its bridge stay, its counters go on.
    pub name: String,
    /// Whether every port is selected, but for those that are outputs of mirrors.
    pub all: bool,
    /// Ports whose arriving frames are copied.
    pub arriving: BTreeSet<String>,
    /// Ports whose leaving frames are copied.
    pub leaving: BTreeSet<String>,
    /// The VLANs that frames must be in; empty: any.
    pub vlans: BTreeSet<VlanId>,
    /// Where copies go.
    pub output: MirrorOutput,
    /// Bytes of a frame that are copied at most.
    pub snaplen: Option<u16>,
}

/// Where a mirror's copies go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MirrorOutput {
    /// A port of the bridge, which carries nothing else from then on.
    Port(String),
    /// All ports that carry this VLAN, in this VLAN.
    Vlan(VlanId),
}

/// An address that is where it is configured to be, as soon as there is such a port on its bridge.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StaticSpec {
    /// The VLAN it is in.
    pub vlan: VlanId,
    /// The address.
    pub mac: MacAddr,
    /// The name of the port it is behind.
    pub port: String,
    /// Which of a tunnel's remote ends it is behind.
    pub remote: Option<IpAddr>,
}

/// The settings of a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortSpec {
    /// Its name, unique in the datapath.
    pub name: String,
    /// The bridge it belongs to.
    pub bridge: String,
    /// What its frames come from and go to.
    pub kind: PortKind,
    /// How it treats VLANs.
    pub vlan: VlanMode,
    /// How it treats what leaves by it otherwise.
    pub rules: PortRules,
    /// Whether frames may pass.
    pub up: bool,
    /// The largest layer-3 packet it carries, where known (for a tunnel: after encapsulation).
    pub mtu: Option<L3Mtu>,
    /// What becomes of larger ones.
    pub mtu_policy: MtuPolicy,
    /// How fast frames may come and go.
    pub limits: Limits,
    /// Whether the kernel is to forward frames of known flows by itself ([`crate::port::assist`]); of effect between
    /// network devices.
    pub assist: bool,
}

/// What a port's frames come from and go to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PortKind {
    /// A network device of the host, through an AF_PACKET socket.
    Netdev {
        /// Its interface index in the network namespace of the caller.
        ifindex: u32,
    },
    /// A network device of the host, through AF_XDP sockets.
    Xdp(XdpSpec),
    /// A TAP interface of the host with the port's name, made if it does not exist.
    Internal,
    /// A tunnel.
    Tunnel(Tunnel),
    /// One end of a patch between two bridges; while there is no other end that names this one, the port is down.
    Patch {
        /// The port's name at the other end.
        peer: String,
    },
    /// Frames that a test or benchmark puts in and takes out.
    Memory(MemoryPort),
}

impl PortKind {
    /// Whether a port may become `new` and stay the same port on the same device.
    #[must_use]
    pub fn may_become(&self, new: &Self) -> bool {
        match (self, new) {
            (Self::Tunnel(old), Self::Tunnel(new)) => old.is_same_but_for_ends(new),
            // Frames that are larger than it once was are cut again where they leave.
            (Self::Xdp(old), Self::Xdp(new)) => XdpSpec { mtu: new.mtu, ..old.clone() } == *new,
            (old, new) => old == new,
        }
    }

    /// The index of a remote end that is named where it must be: at a tunnel that has several.
    #[must_use]
    pub fn remote_index(&self, remote: Option<IpAddr>) -> Option<RemoteIndex> {
        match (self, remote) {
            (Self::Tunnel(tunnel), Some(remote)) => {
                tunnel.ends().find(|(_, end)| *end == remote).map(|(index, _)| index)
            }
            (Self::Tunnel(Tunnel { remotes: Some(_), .. }), None) | (_, Some(_)) => None,
            _ => Some(RemoteIndex::default()),
        }
    }
}

/// What a successful action has to say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// Facts for `Interface:status`: what I/O is in use, and what the kernel refused and why.
    pub status: Vec<(String, String)>,
    /// Interface index of the port's device, if it has one.
    pub ifindex: Option<u32>,
}

/// Why an action was refused; nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// An action names a bridge that does not exist.
    #[error("there is no bridge '{0}' in the datapath; add the bridge first")]
    NoSuchBridge(String),
    /// An action names a port that does not exist.
    #[error("there is no port '{0}' in the datapath; add the port first")]
    NoSuchPort(String),
    /// The name is taken.
    #[error("'{0}' exists in the datapath already; use another name or remove it first")]
    Exists(String),
    /// The bridge still has ports.
    #[error("bridge '{bridge}' still has ports ({ports}); remove them first")]
    BridgeInUse {
        /// The bridge's name.
        bridge: String,
        /// Their names.
        ports: String,
    },
    /// Received packets could not be told apart.
    #[error(
        "'{port}' would receive the same tunnel packets as port '{other}' ({over}, remote {remote}, local {local}); \
         give one of them another {}remote_ip or local_ip",
        if *.keyed { "key, " } else { "" }
    )]
    SameTunnel {
        /// The refused port.
        port: String,
        /// The port that has them already.
        other: String,
        /// What both are received on, and with which key.
        over: String,
        /// Remote end of both.
        remote: IpAddr,
        /// Local address of both, or `any`.
        local: String,
        /// Whether another key could tell such tunnels apart.
        keyed: bool,
    },
    /// Two layer-3 tunnels that would carry the same packets.
    #[error(
        "'{port}' would carry the same packets as port '{other}' (route {to}); give each routes of its own, or put them in \
         different VLANs"
    )]
    SameRoute {
        /// The refused port.
        port: String,
        /// The port that carries them already.
        other: String,
        /// Which packets.
        to: Ipv4Prefix,
    },
    /// Tunnels of different protocols on one UDP port.
    #[error("'{port}': UDP port {dst_port} is that of port '{other}', a {protocol} tunnel; use another dst_port")]
    SameUdpPort {
        /// The refused port.
        port: String,
        /// The port that has it already.
        other: String,
        /// What that one speaks.
        protocol: &'static str,
        /// The UDP port.
        dst_port: u16,
    },
    /// One end is IPv4, the other IPv6.
    #[error("'{port}': remote_ip {remote} and local_ip {local} are of different IP versions; use one version for both")]
    MixedFamilies {
        /// The refused port.
        port: String,
        /// The tunnel's remote end.
        remote: IpAddr,
        /// The tunnel's own address.
        local: IpAddr,
    },
    /// The device could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
}

/// Something that happened to the datapath by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DatapathEvent {
    /// A port's device is gone or broken for good. The port stays and drops what it is given, until it is removed; added
    /// again it gets a new device.
    DeviceDied {
        /// The port's name.
        port: String,
        /// The operating system's error number.
        errno: i32,
    },
    /// An address keeps moving from port to port: two stations have it, or there is a loop.
    AddressFlaps(Box<AddressFlaps>),
    /// The kernel has refused a tunnel's packet as larger than the way to its remote end: it may have learned of a narrow
    /// place on it.
    TooBig {
        /// The remote end.
        remote: IpAddr,
    },
    /// A worker has ended by itself, and with it the forwarding of what it received.
    WorkerEnded {
        /// Its number.
        worker: usize,
    },
}

/// What there is to tell of an address that keeps moving.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AddressFlaps {
    /// The bridge's name.
    pub bridge: String,
    /// Where it was before its last move, and where it was then: ports' names.
    pub between: [String; 2],
    /// The rest.
    pub flap: Flap,
}

/// A port's counters at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortStats {
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes of those.
    pub rx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
    /// Bytes of those.
    pub tx_bytes: u64,
    /// Dropped frames by reason, those seen so far.
    pub drops: Vec<(DropReason, u64)>,
}

/// A mirror's counters at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MirrorStats {
    /// Copies that have left.
    pub tx_packets: u64,
    /// Bytes of those.
    pub tx_bytes: u64,
    /// Copies that have not, by reason, those seen so far.
    pub drops: Vec<(DropReason, u64)>,
}

/// A region of the memory of AF_XDP ports at one moment. What is neither free nor the kernel's is spare or on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UmemStats {
    /// Chunks that it has.
    pub chunks: u32,
    /// Those that are free.
    pub free: u32,
    /// Those that the kernel has, to receive into or to send.
    pub lent: u32,
}

/// The workers that have to do with a port, by their numbers.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PortWorkers {
    /// Those that receive from it; none for a patch port.
    pub receiving: Vec<usize>,
    /// Those that have no queue of an AF_XDP port, and send to it by packet sockets.
    pub by_packet: Vec<usize>,
}

/// What a receive queue is and costs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct QueueStats {
    /// The worker that receives from it.
    pub worker: usize,
    /// The ports whose frames come by it: one, or the tunnels of a kind.
    pub ports: Vec<String>,
    /// Its place among the queues of its device, from 0.
    pub number: u16,
    /// How much of the worker's time it took lately, in parts of 1000.
    pub share: u32,
    /// Frames received by it.
    pub frames: u64,
    /// The worker's time that it has taken in all.
    pub busy: Duration,
}

/// Counters that belong to no single port, at one moment; see [`crate::stats`] for the identity they complete.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// Extra frames made by flooding and mirroring.
    pub copied: u64,
    /// Frames that the switch originated.
    pub generated: u64,
    /// Extra frames made by segmentation.
    pub split: u64,
    /// Frames that vanished into a coalesced one.
    pub merged: u64,
    /// Frames whose sender a static entry says to be elsewhere.
    pub static_none_move: u64,
    /// Frames that were copied since there was no room before them for another header.
    pub headroom_copied: u64,
    /// Frames received and dropped before any port was known.
    pub portless: Vec<(DropReason, u64)>,
}
