//! The immutable snapshot of bridges and ports that a worker forwards by.
//!
//! Built by `control`, published whole, read by workers; never changed in place. A worker sees either the old or the
//! new snapshot, never a mixture. Each worker has one of its own, which differs from the others' in nothing but where it
//! counts: so no two workers write to the same counter.

use super::learned::SharedLearned;
use super::mac_table::StaticEntry;
use super::mirror::{self, Mirror, PortMirrors};
use super::mtu::MtuPolicy;
use super::routes::Router;
use super::shape::Limits;
use super::vlan_set::VlanSet;
use crate::packet::{Frame, Outer};
use crate::port::Caps;
use crate::stats::PortCounters;
use crate::time::Duration;
use crate::tunnel::{Demux, Endpoint, Tunnel};
use crate::types::{BridgeId, DeviceId, L3Mtu, PortId, VlanId};
use std::num::NonZeroU8;
use std::sync::Arc;

/// How a port treats VLANs; terms and behaviour are Open vSwitch's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VlanMode {
    /// One VLAN, untagged on the wire.
    Access(VlanId),
    /// Many VLANs, tagged on the wire; untagged frames are in VLAN 0.
    Trunk(Trunks),
    /// As trunk; untagged frames are in the native VLAN, which leaves tagged.
    NativeTagged(VlanId, Trunks),
    /// As trunk; untagged frames are in the native VLAN, which leaves untagged.
    NativeUntagged(VlanId, Trunks),
    /// As access, but tagged frames come in, too, and keep their tag below that of the service VLAN.
    Dot1qTunnel(Service),
}

/// What a dot1q-tunnel port puts around its customer's frames.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// The service VLAN.
    pub vlan: VlanId,
    /// The VLANs of the customer that are taken; untagged frames are in 0.
    pub customers: Trunks,
    /// The TPID of the service tag where the frame leaves tagged.
    pub tpid: u16,
}

/// What becomes of a tag that carries no VLAN, only a priority (a priority tag), on the way out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PriorityTags {
    /// It goes, except from trunk to trunk, where it stays for the sake of a priority that is not 0.
    #[default]
    Never,
    /// The frame leaves with one if it came with a priority other than 0.
    IfNonzero,
    /// The same, and one of priority 0 stays if the frame came with it.
    Always,
}

/// How a port treats the frames that leave by it, VLANs aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortRules {
    /// What priority tags there are.
    pub priority_tags: PriorityTags,
    /// Whether it belongs to those that may not reach each other.
    pub protected: bool,
}

/// How a bridge treats VLANs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BridgeVlans {
    /// VLANs in which no address is learned, so that every frame goes to all ports.
    pub flood: VlanSet,
    /// Whether the second tag of a frame is looked at, too (`vlan-limit` other than 1).
    pub two_tags: bool,
}

/// Which VLANs a trunk carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Trunks {
    /// All of them.
    All,
    /// These.
    Only(VlanSet),
}

impl Trunks {
    /// Whether `vlan` is carried.
    #[must_use]
    pub fn carries(&self, vlan: VlanId) -> bool {
        match self {
            Self::All => true,
            Self::Only(set) => set.contains(vlan),
        }
    }
}

/// One port of a bridge.
#[derive(Clone, Debug)]
pub struct Port {
    /// Its index in [`Snapshot::ports`].
    pub id: PortId,
    /// Its name, unique in the datapath.
    pub name: Arc<str>,
    /// The bridge it belongs to.
    pub bridge: BridgeId,
    /// How it treats VLANs.
    pub vlan: VlanMode,
    /// How it treats what leaves by it otherwise.
    pub rules: PortRules,
    /// Whether frames may pass; a port that is down drops what it is given, and counts it.
    pub up: bool,
    /// What it sends through.
    pub device: DeviceId,
    /// What that device takes unfinished.
    pub caps: Caps,
    /// Set on a tunnel port.
    pub tunnel: Option<Tunnel>,
    /// Set on a patch port: where the frames that leave by it are received.
    pub peer: Option<PortId>,
    /// What the mirrors of its bridge mean for it.
    pub mirrors: PortMirrors,
    /// The largest layer-3 packet it carries, where known (for a tunnel: after encapsulation).
    pub mtu: Option<L3Mtu>,
    /// What becomes of larger ones.
    pub mtu_policy: MtuPolicy,
    /// How fast frames may come and go.
    pub limits: Limits,
    /// Index of its network device, if the kernel may forward from and to it ([`super::notices`]).
    pub assisted: Option<u32>,
    /// Where its frames are counted.
    pub counters: Arc<PortCounters>,
}

impl Port {
    /// A port that is up and a trunk of all VLANs, and nothing else.
    #[must_use]
    pub fn new(id: PortId, bridge: BridgeId, device: DeviceId, caps: Caps) -> Self {
        Self {
            id,
            name: format!("p{}", id.0).into(),
            bridge,
            vlan: VlanMode::Trunk(Trunks::All),
            rules: PortRules::default(),
            up: true,
            device,
            caps,
            tunnel: None,
            peer: None,
            mirrors: PortMirrors::default(),
            mtu: None,
            mtu_policy: MtuPolicy::default(),
            limits: Limits::default(),
            assisted: None,
            counters: Arc::default(),
        }
    }

    /// Whether frames of its bridge may leave by it: it is up, and no mirror's output.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.up && !self.mirrors.output
    }

    /// Whether it is a tunnel of IP packets without Ethernet headers: only its bridge's router sends by it.
    #[inline]
    #[must_use]
    pub fn is_layer3(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.protocol.is_layer3())
    }

    /// Whether frames leave by it that are for all ports.
    #[inline]
    #[must_use]
    pub fn is_flooded(&self) -> bool {
        self.is_open() && !self.is_layer3()
    }

    /// What a frame on its way out counts as in [`PortCounters`]: packets, and bytes from their Ethernet headers on.
    /// A run of datagrams counts as the frames in it, without their encapsulation and with the Ethernet headers that they
    /// had before; a super-frame counts once, unless the device cuts it.
    #[inline]
    #[must_use]
    pub fn weigh(&self, frame: &Frame) -> (u64, u64) {
        if self.caps.cuts && self.tunnel.is_none() {
            return frame.wire_size();
        }
        let len = frame.len() as u64;
        let (packets, len) = match frame.meta.outer {
            None => (1, len),
            Some(Outer { segment: Some(size), .. }) => (len.div_ceil(size.max(1).into()), len),
            Some(_) => frame.wire_size(),
        };
        let (header, stripped) = self.tunnel.as_ref().map_or((0, 0), |t| (t.header_len(), t.stripped_len()));
        (packets, (len + packets * stripped as u64).saturating_sub(packets * header as u64))
    }
}

/// One bridge.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// Its identity.
    pub id: BridgeId,
    /// Its name, unique in the datapath.
    pub name: Arc<str>,
    /// Its ports, in flooding order.
    pub ports: Vec<PortId>,
    /// How long a learned address stays without being heard from.
    pub mac_aging: Duration,
    /// How many addresses are kept at most.
    pub mac_table_size: usize,
    /// Addresses that are where they are configured to be.
    pub statics: Vec<StaticEntry>,
    /// `fail_mode=secure` without a controller: nothing is forwarded.
    pub secure: bool,
    /// How it treats VLANs.
    pub vlans: BridgeVlans,
    /// Its mirrors, [`super::mirror::MAX_MIRRORS`] at most.
    pub mirrors: Vec<Mirror>,
    /// Set if it has a layer-3 tunnel.
    pub router: Option<Router>,
    /// What it has learned, for all workers, from snapshot to snapshot.
    pub learned: SharedLearned,
}

impl Bridge {
    /// A bridge with the default settings and no port.
    #[must_use]
    pub fn new(id: BridgeId) -> Self {
        Self {
            id,
            name: format!("br{}", id.0).into(),
            ports: vec![],
            mac_aging: Duration::from_secs(300),
            mac_table_size: 8192,
            statics: vec![],
            secure: false,
            vlans: BridgeVlans::default(),
            mirrors: vec![],
            router: None,
            learned: SharedLearned::default(),
        }
    }
}

/// Whose frames a device receives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Attachment {
    /// All of one port.
    Port(PortId),
    /// Those of many tunnels, told apart by [`Snapshot::demux`].
    Tunnels(Endpoint),
}

/// Everything a worker needs to forward, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Grows with every published snapshot.
    pub generation: u64,
    /// Indexed by [`BridgeId`].
    pub bridges: Vec<Option<Arc<Bridge>>>,
    /// Indexed by [`PortId`].
    pub ports: Vec<Option<Arc<Port>>>,
    /// Indexed by [`DeviceId`].
    pub attachments: Vec<Option<Attachment>>,
    /// Which tunnel port a received tunnel packet belongs to.
    pub demux: Demux,
}

impl Snapshot {
    /// The port, if it exists.
    #[inline]
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&Arc<Port>> {
        self.ports.get(id.0 as usize)?.as_ref()
    }

    /// The bridge, if it exists.
    #[inline]
    #[must_use]
    pub fn bridge(&self, id: BridgeId) -> Option<&Arc<Bridge>> {
        self.bridges.get(id.0 as usize)?.as_ref()
    }

    /// Whose copy a frame is that leaves by `port`, where it is one.
    #[inline]
    #[must_use]
    pub fn mirror(&self, port: PortId, number: Option<NonZeroU8>) -> Option<&Mirror> {
        let number = number?;
        self.bridge(self.port(port)?.bridge)?.mirrors.get(mirror::at(number))
    }

    /// Whose frames the device receives.
    #[inline]
    #[must_use]
    pub fn attachment(&self, id: DeviceId) -> Option<Attachment> {
        *self.attachments.get(id.0 as usize)?
    }
}
