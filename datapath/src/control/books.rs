//! The control side's record of bridges, ports and devices, from which every snapshot is built. Pure: no I/O.
//!
//! Identifiers count up and are never reused, so a stale one can name nothing else.

use super::spec::{ApplyError, BridgeSpec, MAX_MIRRORS, MirrorOutput, MirrorSpec, PortKind, PortSpec, StaticSpec};
use crate::port::Caps;
use crate::stats::{MirrorCounters, PerWorker, PortCounters};
use crate::switch::learned::SharedLearned;
use crate::switch::mac_table::StaticEntry;
use crate::switch::mirror::{Mirror, Output, PortMirrors, Select};
use crate::switch::routes::{Router, native};
use crate::switch::state::{Attachment, Bridge, Port, Snapshot};
use crate::tunnel::{Demux, DemuxKey, Endpoint, Tunnel};
use crate::types::{BridgeId, DeviceId, Place, PortId, TunnelKey};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// A bridge as recorded.
#[derive(Debug)]
pub struct BridgeRecord {
    /// Its identity.
    pub id: BridgeId,
    /// Its settings.
    pub spec: BridgeSpec,
    /// The counters of its mirrors, by name.
    pub mirrors: BTreeMap<String, PerWorker<MirrorCounters>>,
    /// What it has learned, the same for its whole life.
    pub learned: SharedLearned,
}

/// A port as recorded.
#[derive(Debug)]
pub struct PortRecord {
    /// Its identity; a new one when the port moves to another bridge, so that nothing learned there stays with it.
    pub id: PortId,
    /// Its settings.
    pub spec: PortSpec,
    /// What it sends through.
    pub device: DeviceId,
    /// What that takes unfinished.
    pub caps: Caps,
    /// Index of its network device, if the kernel may forward from and to it.
    pub assisted: Option<u32>,
    /// Its counters, the same for its whole life.
    pub counters: PerWorker<PortCounters>,
}

/// Everything configured, by name.
#[derive(Debug, Default)]
pub struct Books {
    /// The bridges.
    pub bridges: BTreeMap<String, BridgeRecord>,
    /// The ports.
    pub ports: BTreeMap<String, PortRecord>,
    generation: u64,
    next_bridge: u32,
    next_port: u32,
    next_device: u32,
}

impl Books {
    /// An identifier for a new port.
    pub fn new_port_id(&mut self) -> PortId {
        self.next_port += 1;
        PortId(self.next_port - 1)
    }

    /// An identifier for a new device.
    pub fn new_device_id(&mut self) -> DeviceId {
        self.next_device += 1;
        DeviceId(self.next_device - 1)
    }

    /// Records a new bridge.
    pub fn add_bridge(&mut self, spec: BridgeSpec) -> Result<(), ApplyError> {
        if self.bridges.contains_key(&spec.name) {
            return Err(ApplyError::Exists(spec.name));
        }
        let id = BridgeId(self.next_bridge);
        self.next_bridge += 1;
        let mirrors = mirror_counters(&spec, BTreeMap::new());
        self.bridges.insert(spec.name.clone(), BridgeRecord { id, spec, mirrors, learned: SharedLearned::default() });
        Ok(())
    }

    /// Changes a bridge's settings.
    pub fn set_bridge(&mut self, spec: BridgeSpec) -> Result<(), ApplyError> {
        match self.bridges.get_mut(&spec.name) {
            Some(record) => {
                record.mirrors = mirror_counters(&spec, std::mem::take(&mut record.mirrors));
                record.spec = spec;
            }
            None => return Err(ApplyError::NoSuchBridge(spec.name)),
        }
        Ok(())
    }

    /// Takes out an empty bridge.
    pub fn remove_bridge(&mut self, name: &str) -> Result<(), ApplyError> {
        if !self.bridges.contains_key(name) {
            return Err(ApplyError::NoSuchBridge(name.to_owned()));
        }
        let ports: Vec<_> = self.ports.values().filter(|p| p.spec.bridge == name).map(|p| &*p.spec.name).collect();
        if !ports.is_empty() {
            return Err(ApplyError::BridgeInUse { bridge: name.to_owned(), ports: ports.join(", ") });
        }
        self.bridges.remove(name);
        Ok(())
    }

    /// Whether a port could be as `spec` says, next to all the others.
    pub fn check(&self, spec: &PortSpec) -> Result<(), ApplyError> {
        if !self.bridges.contains_key(&spec.bridge) {
            return Err(ApplyError::NoSuchBridge(spec.bridge.clone()));
        }
        match &spec.kind {
            PortKind::Tunnel(tunnel) => {
                self.check_tunnel(&spec.name, tunnel)?;
                self.check_routes(spec, tunnel)
            }
            _ => Ok(()),
        }
    }

    fn check_tunnel(&self, port: &str, tunnel: &Tunnel) -> Result<(), ApplyError> {
        let port = port.to_owned();
        if let Some(local) = tunnel.local.filter(|l| l.is_ipv4() != tunnel.remote.is_ipv4()) {
            return Err(ApplyError::MixedFamilies { port, remote: tunnel.remote.ip(), local });
        }
        let (endpoint, keys) = (tunnel.endpoint(), DemuxKey::of(tunnel).map(|(key, _)| key).collect::<HashSet<_>>());
        for record in self.ports.values().filter(|other| other.spec.name != port) {
            let PortKind::Tunnel(other) = &record.spec.kind else { continue };
            let name = record.spec.name.clone();
            if let Some(key) = DemuxKey::of(other).map(|(key, _)| key).find(|key| keys.contains(key)) {
                let local = key.local.map_or_else(|| "any".to_owned(), |l| l.to_string());
                let (over, remote, keyed) = (over(endpoint, key.key), key.remote, !endpoint.protocol.is_layer3());
                return Err(ApplyError::SameTunnel { port, other: name, over, remote, local, keyed });
            }
            let same_port = Endpoint { protocol: other.protocol, ..endpoint } == other.endpoint();
            if same_port && other.protocol != tunnel.protocol && endpoint.port != 0 {
                let (protocol, dst_port) = (other.protocol.name(), endpoint.port);
                return Err(ApplyError::SameUdpPort { port, other: name, protocol, dst_port });
            }
        }
        Ok(())
    }

    /// Whether no other layer-3 tunnel of the bridge has one of its routes.
    fn check_routes(&self, spec: &PortSpec, tunnel: &Tunnel) -> Result<(), ApplyError> {
        if !tunnel.protocol.is_layer3() {
            return Ok(());
        }
        let routes: HashSet<_> = tunnel.routes().map(|(to, _)| to).collect();
        let others = self.ports.values().map(|record| &record.spec).filter(|other| {
            other.name != spec.name && other.bridge == spec.bridge && native(&other.vlan) == native(&spec.vlan)
        });
        for other in others {
            let PortKind::Tunnel(tunnel) = &other.kind else { continue };
            if let Some((to, _)) = tunnel.routes().find(|(to, _)| routes.contains(to)) {
                return Err(ApplyError::SameRoute { port: spec.name.clone(), other: other.name.clone(), to });
            }
        }
        Ok(())
    }

    /// The other end of a patch port, if each names the other.
    fn peer(&self, record: &PortRecord) -> Option<PortId> {
        let PortKind::Patch { peer } = &record.spec.kind else { return None };
        let other = self.ports.get(peer).filter(|other| other.id != record.id)?;
        matches!(&other.spec.kind, PortKind::Patch { peer } if *peer == record.spec.name).then_some(other.id)
    }

    /// The mirrors of a bridge that have an output, with the counters of a worker.
    fn mirrors(&mut self, bridge: &str, worker: usize) -> Vec<Mirror> {
        let Some(record) = self.bridges.get_mut(bridge) else { return Vec::new() };
        let (ports, counters) = (&self.ports, &mut record.mirrors);
        let id = |port: &String| ports.get(port).filter(|p| p.spec.bridge == bridge).map(|p| p.id);
        let mirror = |spec: &MirrorSpec| {
            let output = match &spec.output {
                MirrorOutput::Port(port) => Output::Port(id(port)?),
                MirrorOutput::Vlan(vlan) => Output::Vlan(*vlan),
            };
            let arriving = spec.arriving.iter().filter_map(id).collect();
            let leaving = spec.leaving.iter().filter_map(id).collect();
            let select = Select { all: spec.all, arriving, leaving, vlans: spec.vlans.clone() };
            let counters = counters.get_mut(&spec.name)?.of(worker);
            Some(Mirror { name: spec.name.as_str().into(), select, output, snaplen: spec.snaplen, counters })
        };
        record.spec.mirrors.iter().filter_map(mirror).take(MAX_MIRRORS).collect()
    }

    /// What is configured now as snapshots of a new generation, for so many workers.
    pub fn publish(&mut self, workers: usize) -> Vec<Arc<Snapshot>> {
        self.generation += 1;
        (0..workers).map(|worker| Arc::new(self.snapshot(worker))).collect()
    }

    /// The snapshot of the generation last published, for a worker: it counts in the counters of that one.
    pub fn snapshot(&mut self, worker: usize) -> Snapshot {
        let mut snap = Snapshot {
            generation: self.generation,
            bridges: vec![None; self.next_bridge as usize],
            ports: vec![None; self.next_port as usize],
            attachments: vec![None; self.next_device as usize],
            demux: Demux::default(),
        };
        let names: Vec<_> = self.bridges.keys().cloned().collect();
        let mirrors: HashMap<_, _> =
            names.into_iter().map(|name| (name.clone(), self.mirrors(&name, worker))).collect();
        let counters = self.ports.values_mut().map(|record| record.counters.of(worker)).collect::<Vec<_>>();
        for (record, counters) in self.ports.values().zip(counters) {
            let Some(bridge) = self.bridges.get(&record.spec.bridge) else { continue };
            let mirrors = PortMirrors::of(record.id, &mirrors[record.spec.bridge.as_str()]);
            let port = record.port(bridge.id, self.peer(record), mirrors, counters);
            snap.ports[record.id.0 as usize] = Some(Arc::new(port));
            snap.attachments[record.device.0 as usize] = match &record.spec.kind {
                PortKind::Tunnel(tunnel) => {
                    snap.demux.insert(tunnel, record.id);
                    Some(Attachment::Tunnels(tunnel.endpoint()))
                }
                PortKind::Patch { .. } => None,
                _ => Some(Attachment::Port(record.id)),
            };
        }
        for record in self.bridges.values() {
            let of_bridge = self.ports.values().filter(|p| p.spec.bridge == record.spec.name);
            let mut ports: Vec<_> = of_bridge.map(|p| p.id).collect();
            ports.sort_unstable();
            let mirrors = mirrors[record.spec.name.as_str()].clone();
            let statics = record.spec.statics.iter().filter_map(|spec| self.static_entry(record, spec)).collect();
            let router = record.router(&snap, &ports);
            let bridge = Bridge { statics, router, ..record.bridge(ports, mirrors) };
            snap.bridges[record.id.0 as usize] = Some(Arc::new(bridge));
        }
        snap
    }

    /// A static address of `bridge`; `None` while the bridge has no such port, or that has no such remote end.
    fn static_entry(&self, bridge: &BridgeRecord, spec: &StaticSpec) -> Option<StaticEntry> {
        let port = self.ports.get(&spec.port).filter(|port| port.spec.bridge == bridge.spec.name)?;
        let remote = port.spec.kind.remote_index(spec.remote)?;
        Some(StaticEntry { vlan: spec.vlan, mac: spec.mac, place: Place { port: port.id, remote } })
    }
}

impl BridgeRecord {
    fn bridge(&self, ports: Vec<PortId>, mirrors: Vec<Mirror>) -> Bridge {
        let s = &self.spec;
        let (mac_aging, mac_table_size, secure, vlans) = (s.mac_aging, s.mac_table_size, s.secure, s.vlans.clone());
        let (id, name, statics, router) = (self.id, s.name.as_str().into(), vec![], None);
        let learned = self.learned.clone();
        Bridge { id, name, ports, mac_aging, mac_table_size, statics, secure, vlans, mirrors, router, learned }
    }

    /// Its router, if it has a layer-3 tunnel among its `ports`; its own port is the one that has its name.
    fn router(&self, snap: &Snapshot, ports: &[PortId]) -> Option<Router> {
        let ports = || ports.iter().filter_map(|&id| snap.port(id)).map(AsRef::as_ref);
        Router::of(self.spec.gateway.as_ref()?, ports().find(|port| *port.name == *self.spec.name), ports())
    }
}

impl PortRecord {
    fn port(&self, bridge: BridgeId, peer: Option<PortId>, mirrors: PortMirrors, counters: Arc<PortCounters>) -> Port {
        let tunnel = match &self.spec.kind {
            PortKind::Tunnel(tunnel) => {
                Some(Tunnel { way_out: tunnel.way_out.filter(|_| self.caps.tso), ..tunnel.clone() })
            }
            _ => None,
        };
        Port {
            id: self.id,
            name: self.spec.name.as_str().into(),
            bridge,
            vlan: self.spec.vlan.clone(),
            rules: self.spec.rules,
            up: self.spec.up && (peer.is_some() || !matches!(self.spec.kind, PortKind::Patch { .. })),
            device: self.device,
            caps: self.caps,
            tunnel,
            peer,
            mirrors,
            mtu: self.spec.mtu,
            mtu_policy: self.spec.mtu_policy,
            limits: self.spec.limits,
            assisted: self.assisted,
            counters,
        }
    }
}

/// The counters of the mirrors in `spec`: those that it `had` go on.
fn mirror_counters(
    spec: &BridgeSpec,
    mut had: BTreeMap<String, PerWorker<MirrorCounters>>,
) -> BTreeMap<String, PerWorker<MirrorCounters>> {
    spec.mirrors.iter().map(|m| (m.name.clone(), had.remove(&m.name).unwrap_or_default())).collect()
}

/// What a tunnel's packets are received on and with which key, in words.
fn over(Endpoint { protocol, port, .. }: Endpoint, key: TunnelKey) -> String {
    let name = protocol.name();
    match port {
        _ if protocol.is_layer3() => name.to_owned(),
        0 => format!("{name}, key {key}"),
        port => format!("{name} on UDP port {port}, key {key}"),
    }
}
