//! The in-memory lab: a switch with memory ports, in which a test plays the network.
//!
//! ```
//! use vswitch_tests::lab::*;
//!
//! let mut lab = Lab::new([port("p1").access(10), port("p2").trunk([10, 20]), port("p3").access(20)]);
//! lab.send("p1", eth("aa→bb").udp(64));
//! lab.expect([to("p2", eth("aa→bb").vlan(10).udp(64))]);
//! lab.send("p2", eth("bb→aa").vlan(10).udp(64));
//! lab.expect([to("p1", eth("bb→aa").udp(64))]);
//! ```
//!
//! [`Lab::expect`] compares everything that happened since the last one: every byte of every packet that left, what is
//! still owed to it (checksum, segmentation), and every counter. What a port is sent counts as received there and what is
//! listed as leaving counts as sent; any other change of a counter must be listed. After every step the accounting
//! identity of [`datapath::stats`] must hold. A lab whose last step was not looked at fails its test.

mod arp;
mod compare;
mod describe;
mod engine;
mod expect;
mod packet;
mod probe;
mod spec;
mod underlay;

pub use arp::{arp_reply, arp_request};
pub use datapath::port::Caps;
pub use datapath::switch::bucket::Tokens;
pub use datapath::switch::mac_table::TableStats;
pub use datapath::switch::mtu::MtuPolicy;
pub use datapath::switch::shape::{Limit, Limits};
pub use datapath::switch::state::PriorityTags;
pub use datapath::switch::verdict::DropReason;
pub use datapath::tunnel::{Field, Protocol};
pub use expect::*;
pub use packet::{Packet, eth, mac, tags};
pub use probe::{answer, request};
pub use spec::{
    BridgeSpec, MirrorSpec, PortSpec, geneve, gre, ipip, ipip_by_routes, mirror, mirror_to_vlan, multipoint, patch,
    port, vlan_id, vxlan,
};
pub use underlay::{datagram, datagram_of};

use datapath::control::DatapathEvent;
use datapath::packet::Frame;
use datapath::port::memory::MemoryPort;
use datapath::stats::{MirrorCounters, PerWorker, PortCounters};
use datapath::switch::learned::SharedLearned;
use datapath::switch::mac_table::{FdbEntry, StaticEntry};
use datapath::switch::mirror::{Mirror, Output, PortMirrors, Select};
use datapath::switch::routes::Router;
use datapath::switch::state::{Attachment, Bridge, Port, Snapshot};
use datapath::time::{Duration, Instant};
use datapath::tunnel::Endpoint;
use datapath::types::{BridgeId, DeviceId, Place, PortId};
use describe::station;
use engine::Engine;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The protocols of tunnels; all tunnels of one share the device whose number is its index here.
const PROTOCOLS: [Protocol; 4] = [Protocol::Vxlan, Protocol::Geneve, Protocol::Gre, Protocol::Ipip];

/// A port that is or was.
struct Member {
    id: PortId,
    spec: PortSpec,
    present: bool,
    device: DeviceId,
    memory: MemoryPort,
    counters: PerWorker<PortCounters>,
}

/// One switch and everything around it.
pub struct Lab {
    engine: Engine,
    now: Instant,
    members: Vec<Member>,
    bridges: Vec<(&'static str, BridgeSpec)>,
    /// What they have learned.
    learned: Vec<SharedLearned>,
    /// The counters of mirrors that are or were, by name.
    mirrors: BTreeMap<&'static str, PerWorker<MirrorCounters>>,
    address: IpAddr,
    /// The devices of [`PROTOCOLS`].
    tunnels: [MemoryPort; PROTOCOLS.len()],
    generation: u64,
    /// What has been put in and taken out in all.
    put_in: u64,
    taken_out: u64,
    /// Datagrams that have been expected and are on their way.
    underlay: Vec<Frame>,
    /// Counters when the last step was looked at, and what is known to have been added since.
    before: BTreeMap<String, u64>,
    received: BTreeMap<String, u64>,
    unchecked: bool,
}

impl Lab {
    /// A switch with these ports, on bridge `br0` or whatever they say, at the underlay address 192.0.2.1. It has one worker,
    /// or as many as `VSWITCH_LAB_WORKERS` says.
    #[must_use]
    pub fn new<const N: usize>(ports: [PortSpec; N]) -> Self {
        Self::at("192.0.2.1", ports)
    }

    /// The same at another underlay address.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn at<const N: usize>(address: &str, ports: [PortSpec; N]) -> Self {
        Self::with_workers(default_workers(), address, ports)
    }

    /// The same with several workers, which receive from the ports in turn: the first from the first port, and so on.
    ///
    /// # Panics
    /// If the address is none.
    #[must_use]
    pub fn with_workers<const N: usize>(workers: usize, address: &str, ports: [PortSpec; N]) -> Self {
        let mut lab = Self {
            engine: Engine::new(workers),
            now: Instant::from_secs(1000),
            members: vec![],
            bridges: vec![],
            learned: vec![],
            mirrors: BTreeMap::new(),
            address: address.parse().expect("an IP address"),
            tunnels: PROTOCOLS.map(|_| memory(Caps::ALL)),
            generation: 0,
            put_in: 0,
            taken_out: 0,
            underlay: vec![],
            before: BTreeMap::new(),
            received: BTreeMap::new(),
            unchecked: false,
        };
        let devices: Vec<_> = (0..).map(DeviceId).zip(lab.tunnels.iter().cloned()).collect();
        lab.engine.adopt(vec![Arc::default(); workers], &devices, &[], lab.now);
        ports.into_iter().for_each(|p| lab.add_port(p));
        lab
    }

    /// Adds a port, and its bridge if it is the first there.
    pub fn add_port(&mut self, spec: PortSpec) {
        let index = self.members.len() as u32;
        if !self.bridges.iter().any(|(name, _)| *name == spec.bridge) {
            self.bridges.push((spec.bridge, BridgeSpec::default()));
            self.learned.push(SharedLearned::default());
        }
        let own = DeviceId(PROTOCOLS.len() as u32 + index);
        let (device, memory, added) = match (&spec.tunnel, spec.peer) {
            (Some(tunnel), _) => {
                let device = of(tunnel.protocol);
                (device, self.tunnels[device.0 as usize].clone(), vec![])
            }
            (None, Some(_)) => (own, memory(spec.caps), vec![]),
            (None, None) => {
                let memory = memory(spec.caps);
                (own, memory.clone(), vec![(own, memory)])
            }
        };
        let counters = PerWorker::default();
        self.members.push(Member { id: PortId(index), spec, present: true, device, memory, counters });
        self.publish(&added, &[]);
    }

    /// Changes a port.
    pub fn set_port(&mut self, name: &str, change: impl FnOnce(&mut PortSpec)) {
        let index = self.index(name);
        let Member { spec, memory, .. } = &mut self.members[index];
        change(spec);
        memory.set_caps(spec.caps);
        self.publish(&[], &[]);
    }

    /// Takes a port away.
    pub fn remove_port(&mut self, name: &str) {
        let index = self.index(name);
        let member = &mut self.members[index];
        member.present = false;
        let removed = if member.spec.tunnel.is_none() { vec![member.device] } else { vec![] };
        self.publish(&[], &removed);
    }

    /// Changes a bridge.
    ///
    /// # Panics
    /// If there is none of this name.
    pub fn set_bridge(&mut self, name: &str, change: impl FnOnce(&mut BridgeSpec)) {
        change(&mut self.bridges.iter_mut().find(|(n, _)| *n == name).expect("a bridge").1);
        self.publish(&[], &[]);
    }

    /// The port's device refuses to send from now on, for this reason.
    pub fn refuse(&mut self, name: &str, reason: DropReason) {
        self.members[self.index(name)].memory.set_refuse(Some(reason));
    }

    /// The port's device goes away, with the operating system's error number; what the worker tells of it.
    pub fn kill(&mut self, name: &str, errno: i32) -> Vec<DatapathEvent> {
        self.members[self.index(name)].memory.kill(errno);
        let unchecked = self.unchecked;
        self.run();
        self.unchecked = unchecked;
        self.engine.events()
    }

    /// Addresses that keep moving, as the worker has told since the last time: a sentence each.
    pub fn flaps(&self) -> Vec<String> {
        let sentence = |event| match event {
            DatapathEvent::AddressFlaps(f) => {
                let ([a, b], f) = (f.between, f.flap);
                let (mac, secs) = (station(f.mac), f.over.as_secs_f64());
                format!("VLAN {} {mac}: {a} {b}, {} moves in {secs:.1} s, {} others", f.vlan, f.moves, f.others)
            }
            other => panic!("not asked for: {other:?}"),
        };
        self.engine.events().into_iter().map(sentence).collect()
    }

    /// Lets time pass.
    pub fn advance(&mut self, secs: u64) {
        self.advance_by(Duration::from_secs(secs));
    }

    /// The same, as exactly as one likes; [`Lab::run`] then lets the frames go that have waited.
    pub fn advance_by(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// How long until the worker has something to do by itself; `None`: it may sleep.
    #[must_use]
    pub fn due_in(&self) -> Option<Duration> {
        self.engine.switch().due().map(|due| due - self.now)
    }

    /// One packet arrives at a port, and is switched.
    pub fn send(&mut self, port: &str, packet: Packet) {
        self.send_all(port, [packet]);
    }

    /// Packets arrive at a port in one batch, and are switched.
    pub fn send_all(&mut self, port: &str, packets: impl IntoIterator<Item = Packet>) {
        packets.into_iter().for_each(|p| self.inject(port, p.frame()));
        self.run();
    }

    /// A frame as it is arrives at a port; [`Lab::run`] switches it.
    pub fn inject(&mut self, port: &str, frame: Frame) {
        self.count_received(port, 1, frame.len());
        self.members[self.index(port)].memory.inject(frame);
        self.put_in += 1;
    }

    fn count_received(&mut self, port: &str, packets: u64, bytes: usize) {
        *self.received.entry(format!("{port}.rx_packets")).or_default() += packets;
        *self.received.entry(format!("{port}.rx_bytes")).or_default() += bytes as u64;
    }

    /// Switches everything that has arrived, and checks the accounting.
    ///
    /// # Panics
    /// If it does not come out even.
    #[track_caller]
    pub fn run(&mut self) {
        self.unchecked = true;
        self.engine.run(self.now);
        let counters = self.counters();
        let sum = |what: &[&str]| sum(&counters, what);
        let received = sum(&["rx_packets"]) + self.engine.counters().map(|c| c.portless.total()).sum::<u64>();
        let came = received + sum(&["copied", "generated", "split"]);
        let went = sum(&["tx_packets", "merged", "drop_"]) + self.engine.switch().waiting() as u64;
        let identity = "received + copied + generated + split = transmitted + merged + dropped (+ waiting)";
        assert_eq!(came, went, "{identity}: {counters:#?}");
        let put_in = self.put_in + self.crossed();
        assert_eq!(received, put_in, "everything that was put in has been received: {counters:#?}");
    }

    /// Checks that exactly this has happened since the last look.
    ///
    /// # Panics
    /// With every difference, if not.
    #[track_caller]
    pub fn expect(&mut self, expected: impl IntoIterator<Item = Expect>) {
        let mut packets: BTreeMap<&str, Vec<Packet>> = BTreeMap::new();
        let mut counts = std::mem::take(&mut self.received);
        let mut todo: Vec<_> = expected.into_iter().collect();
        todo.reverse();
        while let Some(item) = todo.pop() {
            match item {
                Expect::Out(port, out) => packets.entry(port).or_default().extend(out),
                Expect::Count(name, n) => *counts.entry(name).or_default() += n,
                Expect::All(items) => todo.extend(items.into_iter().rev()),
            }
        }
        for (port, out) in &packets {
            let port = port_of(port);
            *counts.entry(format!("{port}.tx_packets")).or_default() += out.len() as u64;
            let bytes = out.iter().map(|p| p.frame().len() as u64).sum::<u64>();
            *counts.entry(format!("{port}.tx_bytes")).or_default() += bytes;
        }
        let mut differences = self.compare_packets(&packets);
        differences.extend(self.compare_counters(&counts));
        self.unchecked = false;
        assert!(differences.is_empty(), "\n{}\n", differences.join("\n"));
    }

    /// Checks that nothing happened but that what was sent was received.
    #[track_caller]
    pub fn expect_nothing(&mut self) {
        self.expect([]);
    }

    /// Does not look at what the last steps brought; their accounting has been checked. What left, by port.
    pub fn ignore(&mut self) -> Vec<(&'static str, Frame)> {
        let out = self.take_outgoing();
        self.received.clear();
        self.before = self.counters();
        self.unchecked = false;
        out
    }

    /// The known addresses as `"VLAN station port"`, sorted; behind a static one it says so.
    #[must_use]
    pub fn fdb(&self, bridge: &str) -> Vec<String> {
        let mut entries = self.engine.switch().fdb(self.bridge_id(bridge), self.now);
        entries.sort();
        let name = |port: PortId| self.members[port.0 as usize].spec.name;
        let remotes = |port: PortId| self.members[port.0 as usize].spec.tunnel.as_ref()?.remotes.as_ref();
        let end = |place: Place| remotes(place.port)?.get(place.remote).map(|end| format!("@{end}"));
        let kind = |age: Option<Duration>| if age.is_none() { " static" } else { "" };
        let line = |e: &FdbEntry| {
            let (port, end) = (name(e.place.port), end(e.place).unwrap_or_default());
            format!("{} {} {port}{end}{}", e.vlan, station(e.mac), kind(e.age))
        };
        entries.iter().map(line).collect()
    }

    /// A counter by its name, as in [`Expect::Count`]; 0 if there is none.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        self.counters().get(name).copied().unwrap_or_default()
    }

    /// How many packets each port has dropped for a reason so far, as `"port number"`.
    #[must_use]
    pub fn drops(&self, reason: DropReason) -> Vec<String> {
        let dropped = |m: &Member| m.counters.all().map(|c| c.drops.get(reason)).sum::<u64>();
        let seen = self.members.iter().map(|m| (m.spec.name, dropped(m)));
        seen.filter(|(_, n)| *n > 0).map(|(name, n)| format!("{name} {n}")).collect()
    }

    /// How full the table of learned addresses is and what it went through.
    #[must_use]
    pub fn table_stats(&self, bridge: &str) -> TableStats {
        self.engine.switch().table_stats(self.bridge_id(bridge))
    }

    fn bridge_id(&self, bridge: &str) -> BridgeId {
        let found = self.bridges.iter().position(|(name, _)| *name == bridge);
        BridgeId(found.unwrap_or_else(|| panic!("no bridge '{bridge}' in the lab")) as u32)
    }

    /// Everything that has left, by port; datagrams go on to the underlay and are shown as the frames in them.
    fn take_outgoing(&mut self) -> Vec<(&'static str, Frame)> {
        let ordinary = self.members.iter().filter(|m| m.spec.tunnel.is_none());
        let mut out: Vec<_> =
            ordinary.flat_map(|m| m.memory.drain().into_iter().map(|frame| (m.spec.name, frame))).collect();
        for run in self.tunnels.iter().flat_map(MemoryPort::drain) {
            out.extend(self.open_datagrams(&run));
            self.underlay.push(run);
        }
        self.taken_out += out.len() as u64;
        let counters = self.counters();
        let sent = sum(&counters, &["tx_packets"]) - self.crossed();
        assert_eq!(sent, self.taken_out, "what is counted as sent was sent: {counters:#?}");
        out
    }

    /// All counters by name.
    fn counters(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        let mut put = |name: String, n| *all.entry(name).or_insert(0) += n;
        for Member { spec: PortSpec { name, .. }, counters, .. } in &self.members {
            for c in counters.all() {
                put(format!("{name}.rx_packets"), c.rx_packets.get());
                put(format!("{name}.rx_bytes"), c.rx_bytes.get());
                put(format!("{name}.tx_packets"), c.tx_packets.get());
                put(format!("{name}.tx_bytes"), c.tx_bytes.get());
                c.drops.nonzero().for_each(|(reason, n)| put(format!("{name}.drop_{}", reason.name()), n));
            }
        }
        for (name, c) in self.mirrors.iter().flat_map(|(name, counters)| counters.all().map(move |c| (name, c))) {
            put(format!("{name}.copies"), c.tx_packets.get());
            put(format!("{name}.copy_bytes"), c.tx_bytes.get());
            c.drops.nonzero().for_each(|(reason, n)| put(format!("{name}.drop_{}", reason.name()), n));
        }
        for worker in self.engine.counters() {
            put("copied".to_owned(), worker.copied.get());
            put("generated".to_owned(), worker.generated.get());
            put("split".to_owned(), worker.split.get());
            put("merged".to_owned(), worker.merged.get());
            put("static_none_move".to_owned(), worker.static_none_move.get());
            put("headroom_moved".to_owned(), worker.headroom_copied.get());
            worker.portless.nonzero().for_each(|(reason, n)| put(format!("drop_{}", reason.name()), n));
        }
        all
    }

    fn index(&self, name: &str) -> usize {
        let name = port_of(name);
        let found = self.members.iter().position(|m| m.present && m.spec.name == name);
        found.unwrap_or_else(|| panic!("no port '{name}' in the lab"))
    }

    /// Builds the next snapshot and has it adopted.
    fn publish(&mut self, added: &[(DeviceId, MemoryPort)], removed: &[DeviceId]) {
        self.generation += 1;
        let snapshots = (0..self.engine.workers()).map(|worker| Arc::new(self.snapshot(worker))).collect();
        self.engine.adopt(snapshots, added, removed, self.now);
    }

    /// That of a worker.
    fn snapshot(&mut self, worker: usize) -> Snapshot {
        let mut snap = Snapshot { generation: self.generation, ..Snapshot::default() };
        let endpoint = |protocol: Protocol| {
            let (port, ipv6) = (protocol.udp_port().unwrap_or(0), self.address.is_ipv6());
            Endpoint { protocol, port, ipv6 }
        };
        snap.attachments = PROTOCOLS.map(|protocol| Some(Attachment::Tunnels(endpoint(protocol)))).to_vec();
        snap.attachments.extend(self.members.iter().map(|_| None));
        let bridges = self.bridges.clone();
        let mirrors: Vec<_> = bridges.iter().map(|(name, spec)| self.bridge_mirrors(name, spec, worker)).collect();
        let counters: Vec<_> = self.members.iter_mut().map(|member| member.counters.of(worker)).collect();
        for (member, counters) in self.members.iter().zip(counters) {
            let mirrors = PortMirrors::of(member.id, &mirrors[self.bridge_id(member.spec.bridge).0 as usize]);
            snap.ports.push(member.present.then(|| Arc::new(self.port(member, mirrors, counters))));
            match &member.spec.tunnel {
                _ if !member.present || member.spec.peer.is_some() => {}
                None => snap.attachments[member.device.0 as usize] = Some(Attachment::Port(member.id)),
                Some(tunnel) => assert_eq!(snap.demux.insert(tunnel, member.id), None),
            }
        }
        for ((i, (name, spec)), mirrors) in self.bridges.iter().enumerate().zip(mirrors) {
            let ports = self.members.iter().filter(|m| m.present && m.spec.bridge == *name).map(|m| m.id).collect();
            let statics = spec.statics.iter().filter_map(|s| self.static_entry(name, s)).collect();
            let members = || snap.ports.iter().flatten().filter(|p| p.bridge == BridgeId(i as u32)).map(AsRef::as_ref);
            let router = Router::of(&spec.gateway, members().find(|port| *port.name == **name), members());
            let BridgeSpec { mac_aging, mac_table_size, secure, vlans, .. } = spec.clone();
            let (id, name) = (BridgeId(i as u32), Arc::from(*name));
            let learned = self.learned[i].clone();
            let bridge =
                Bridge { id, name, ports, mac_aging, mac_table_size, statics, secure, vlans, mirrors, router, learned };
            snap.bridges.push(Some(Arc::new(bridge)));
        }
        snap
    }

    /// `(VLAN, station, port)` or `(VLAN, station, port@end)` as an entry, if the bridge has the port.
    fn static_entry(&self, bridge: &str, &(vlan, station, at): &(u16, &str, &str)) -> Option<StaticEntry> {
        let port = port_of(at);
        let member = self.members.iter().find(|m| m.present && m.spec.name == port && m.spec.bridge == bridge)?;
        let mut place = Place::of(member.id);
        if let Some((_, end)) = at.split_once('@') {
            let remotes = member.spec.tunnel.as_ref().and_then(|tunnel| tunnel.remotes.as_ref());
            place.remote = remotes.and_then(|r| r.index_of(end.parse().ok()?)).expect("a remote end of the tunnel");
        }
        Some(StaticEntry { vlan: vlan_id(vlan), mac: mac(station), place })
    }

    fn bridge_mirrors(&mut self, bridge: &str, spec: &BridgeSpec, worker: usize) -> Vec<Mirror> {
        let id = |port: &&str| self.members.iter().find(|m| m.present && m.spec.name == *port).map(|m| m.id);
        let mut mirrors = vec![];
        for m in &spec.mirrors {
            let output = match &m.output {
                Ok(port) => Output::Port(id(port).unwrap_or_else(|| panic!("{bridge}: no port '{port}' to mirror to"))),
                Err(vlan) => Output::Vlan(vlan_id(*vlan)),
            };
            let select = Select {
                all: m.all,
                arriving: m.arriving.iter().filter_map(id).collect(),
                leaving: m.leaving.iter().filter_map(id).collect(),
                vlans: m.vlans.iter().copied().map(vlan_id).collect(),
            };
            let counters = self.mirrors.entry(m.name).or_default().of(worker);
            mirrors.push(Mirror { name: m.name.into(), select, output, snaplen: m.snaplen, counters });
        }
        mirrors
    }

    fn port(&self, member: &Member, mirrors: PortMirrors, counters: Arc<PortCounters>) -> Port {
        let (spec, peer) = (&member.spec, self.peer(&member.spec));
        Port {
            id: member.id,
            name: Arc::from(spec.name),
            bridge: self.bridge_id(spec.bridge),
            vlan: spec.vlan.clone(),
            rules: spec.rules,
            up: spec.up && peer.is_some() == spec.peer.is_some(),
            device: member.device,
            caps: spec.caps,
            tunnel: spec.tunnel.clone(),
            peer,
            mirrors,
            mtu: spec.mtu,
            mtu_policy: spec.mtu_policy,
            limits: spec.limits,
            assisted: None,
            counters,
        }
    }
}

impl Lab {
    /// The other end of a patch port, if each names the other.
    fn peer(&self, spec: &PortSpec) -> Option<PortId> {
        let other = self.members.iter().find(|m| m.present && Some(m.spec.name) == spec.peer)?;
        (other.spec.peer == Some(spec.name)).then_some(other.id)
    }

    /// Frames that have gone through patch ports, checking that each has come out of the other end.
    fn crossed(&self) -> u64 {
        let patches = || self.members.iter().filter(|m| m.spec.peer.is_some()).flat_map(|m| m.counters.all());
        let sent = patches().map(|c| c.tx_packets.get()).sum();
        assert_eq!(
            sent,
            patches().map(|c| c.rx_packets.get()).sum::<u64>(),
            "sent by patch ports and received by them"
        );
        sent
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        assert!(!self.unchecked || std::thread::panicking(), "nobody looked at what the last step brought");
    }
}

/// How many workers a lab has that does not say: `VSWITCH_LAB_WORKERS`, or 1. Whatever a scenario says must hold for any.
fn default_workers() -> usize {
    std::env::var("VSWITCH_LAB_WORKERS").map_or(1, |n| n.parse().expect("VSWITCH_LAB_WORKERS is a number"))
}

/// The device that tunnels of a protocol share.
fn of(protocol: Protocol) -> DeviceId {
    DeviceId(PROTOCOLS.iter().position(|p| *p == protocol).expect("one of them") as u32)
}

/// The port in `PORT@END`.
fn port_of(place: &str) -> &str {
    place.split('@').next().unwrap_or(place)
}

/// The sum of all counters with one of these words in their name.
fn sum(counters: &BTreeMap<String, u64>, words: &[&str]) -> u64 {
    counters.iter().filter(|(name, _)| words.iter().any(|w| name.contains(w))).map(|(_, n)| n).sum()
}

fn memory(caps: Caps) -> MemoryPort {
    MemoryPort::new(caps).expect("a file descriptor")
}
