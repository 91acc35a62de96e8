//! The only way to change the datapath: actions in, one new snapshot out.
//!
//! [`Datapath`] belongs to one control thread. It opens devices there (in that thread's network namespace), hands them
//! to the workers together with the snapshot that refers to them, and waits until all forward by it, so that "applied"
//! means done. Workers never wait for control.

mod books;
mod devices;
mod spec;
mod workers;

pub use spec::{
    Action, AddressFlaps, Applied, ApplyError, BridgeSpec, DatapathEvent, MAX_MIRRORS, MirrorOutput, MirrorSpec,
    MirrorStats, MtuPolicy, PortKind, PortSpec, PortStats, PortWorkers, QueueStats, StaticSpec, Totals, UmemStats,
    XdpBackend, XdpMode, XdpSpec,
};
pub use workers::WorkersError;

use crate::packet::Region;
use crate::stats::{Counter, DropCounters, PerWorker, PortCounters, WorkerCounters};
use crate::switch::Switch;
use crate::switch::mac_table::{FdbEntry, TableStats};
use crate::switch::moves::RecentMove;
use crate::switch::probes::{self, Probed};
use crate::switch::unclaimed::{self, Stray};
use crate::switch::verdict::DropReason;
use crate::time::{Duration, Instant};
use crate::types::{BridgeId, Place};
use crate::worker::assist::{AssistedFlow, LeftOut};
use crate::worker::{Command, DeviceChanges, GivenUp, Worker};
use books::{Books, PortRecord};
use devices::{Devices, Move, Opened};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::mpsc;
use workers::Workers;

/// Settings of the datapath as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatapathConfig {
    /// Unused frame buffers that a worker keeps (64 KiB of address space each; memory only once they were written to).
    pub spare_buffers: usize,
}

impl Default for DatapathConfig {
    fn default() -> Self {
        // A full batch flooded to 30 ports. Beyond it every copy maps and unmaps memory, at 20 times the cost.
        Self { spare_buffers: 1024 }
    }
}

/// The datapath as seen by its control thread. Dropping it ends the workers and closes all devices; TAP interfaces stay.
#[derive(Debug)]
pub struct Datapath {
    books: Books,
    devices: Devices,
    workers: Workers,
    events: Option<mpsc::Receiver<DatapathEvent>>,
    /// The counters of ports that the change under way removes: they count until the workers have taken it over.
    leaving: Vec<PerWorker<PortCounters>>,
    /// What ports counted that are gone.
    retired: PortStats,
}

impl Datapath {
    /// Starts one worker thread.
    pub fn start(config: &DatapathConfig) -> io::Result<Self> {
        let mut datapath = Self::without_workers(config, 1)?;
        datapath.workers.add_thread(None).map_err(io::Error::other)?;
        Ok(datapath)
    }

    /// A datapath whose worker the caller drives by [`Worker::poll_once`], which also takes over what was applied.
    pub fn without_thread(config: &DatapathConfig) -> io::Result<(Self, Worker)> {
        let mut datapath = Self::without_workers(config, 1)?;
        let worker = datapath.workers.add_driven()?;
        Ok((datapath, worker))
    }

    /// One that is still to get so many.
    fn without_workers(config: &DatapathConfig, workers: usize) -> io::Result<Self> {
        let (books, devices) = (Books::default(), Devices::new(workers));
        let (workers, events) = Workers::new(config.spare_buffers)?;
        let (events, leaving, retired) = (Some(events), Vec::new(), PortStats::default());
        Ok(Self { books, devices, workers, events, leaving, retired })
    }

    /// Performs all actions in order and then publishes the result at once. A failed action changes nothing and leaves
    /// the others intact; the results are in the order of the actions.
    pub fn apply(&mut self, actions: Vec<Action>) -> Vec<Result<Applied, ApplyError>> {
        let results = actions.into_iter().map(|action| self.perform(action)).collect();
        self.publish();
        results
    }

    /// Has the workers take over what has changed, and closes what they give up.
    fn publish(&mut self) {
        let changes = self.devices.take_changes();
        let snapshots = self.books.publish(self.workers.len());
        let orders = (0..).zip(snapshots).zip(changes).map(|((worker, snap), changes)| (worker, snap, changes));
        drop(self.workers.adopt(orders.collect(), self.devices.flow_table()));
        for counters in self.leaving.drain(..) {
            self.retired.add(&PortStats::of(&counters));
        }
    }

    /// Adds what the kernel has forwarded by itself until now to the counters of ports, which lag by up to half a second
    /// otherwise. `false` if the worker does not answer.
    pub fn count_assisted(&self) -> bool {
        self.devices.flow_table().is_none()
            || self.workers.command("what the kernel has forwarded", Command::CountAssisted).is_some()
    }

    /// The flows that the kernel forwards by itself, and those that it doesn't with the reason; `None`: it is to forward
    /// none, or the worker does not answer.
    #[must_use]
    pub fn assisted(&self) -> Option<(Vec<AssistedFlow>, Vec<LeftOut>)> {
        self.workers.command("the flows that the kernel forwards", Command::ReportAssisted)?
    }

    /// Has a worker on each of these CPUs, or one that may run on any, if there are none. What they have learned and what
    /// waits stays; no frame is lost.
    pub fn set_workers(&mut self, cpus: &[usize]) -> Result<(), WorkersError> {
        self.workers.check(cpus)?;
        let wanted: Vec<_> = if cpus.is_empty() { vec![None] } else { cpus.iter().copied().map(Some).collect() };
        let were: Vec<_> = self.workers.cpus().collect();
        if were == wanted {
            return Ok(());
        }
        let done = self.fit_workers(&wanted);
        if done.is_err() {
            // As it was before; that has worked, so it does again.
            let _ = self.fit_workers(&were);
        }
        done
    }

    fn fit_workers(&mut self, cpus: &[Option<usize>]) -> Result<(), WorkersError> {
        while self.workers.len() > cpus.len() {
            self.end_last_worker();
        }
        for (worker, &cpu) in cpus.iter().enumerate() {
            if worker < self.workers.len() {
                self.workers.pin(worker, cpu)?;
            } else {
                self.workers.add_thread(cpu)?;
                let (snapshot, devices) = (Arc::new(self.books.snapshot(worker)), self.devices.add_worker());
                self.workers.adopt(vec![(worker, snapshot, devices)], self.devices.flow_table());
                let moves = self.devices.spread();
                self.carry_out(moves);
            }
        }
        Ok(())
    }

    /// Has the others take over what the last worker receives, then ends it.
    fn end_last_worker(&mut self) {
        let moves = self.devices.remove_worker();
        self.carry_out(moves);
        self.workers.remove();
    }

    /// Has receive queues change their workers: those that give up, then those that take over. Frames wait in the queues
    /// meanwhile.
    fn carry_out(&mut self, moves: Vec<Move>) {
        let places: HashMap<_, _> = moves.iter().map(|m| (m.queue, m.to)).collect();
        let mut orders: BTreeMap<usize, DeviceChanges> = BTreeMap::new();
        for Move { queue, from, sender, .. } in moves {
            let changes = orders.entry(from).or_default();
            changes.given_up.push(queue);
            changes.senders.extend(sender.map(|sender| (queue.device, sender)));
        }
        let given_up = self.order(orders).queues;
        let mut orders: BTreeMap<usize, DeviceChanges> = BTreeMap::new();
        for (queue, device) in given_up {
            if let (Some(&to), Some(load)) = (places.get(&queue), self.devices.load(queue)) {
                orders.entry(to).or_default().queues.push((queue, device, load));
            }
        }
        self.order(orders);
    }

    /// Has workers change their devices and nothing else.
    fn order(&mut self, orders: BTreeMap<usize, DeviceChanges>) -> GivenUp {
        let order = |(worker, changes)| (worker, Arc::new(self.books.snapshot(worker)), changes);
        let orders = orders.into_iter().map(order).collect();
        self.workers.adopt(orders, self.devices.flow_table())
    }

    /// Gives a receive queue of a busy worker to one that has less to do, where that clearly helps: to be called now and
    /// then, with the time since the last call. Whether any has moved.
    pub fn rebalance(&mut self, since: Duration) -> bool {
        let nanos = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        let Some(one) = self.devices.rebalance(nanos) else { return false };
        self.carry_out(vec![one]);
        true
    }

    /// On which CPU each worker is kept; `None`: it may run on any.
    #[must_use]
    pub fn worker_cpus(&self) -> Vec<Option<usize>> {
        self.workers.cpus().collect()
    }

    /// The workers that have to do with a port; none if there is no such port.
    #[must_use]
    pub fn workers_of(&self, port: &str) -> PortWorkers {
        self.books.ports.get(port).map_or_else(PortWorkers::default, |record| self.devices.workers_of(record.device))
    }

    /// All receive queues, by worker.
    #[must_use]
    pub fn queues(&self) -> Vec<QueueStats> {
        let mut all: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for (name, record) in &self.books.ports {
            all.entry(record.device).or_default().push(name.clone());
        }
        let of_device = |(device, ports): (_, Vec<String>)| {
            let queue = |q: &devices::Queue| QueueStats {
                worker: q.worker,
                ports: ports.clone(),
                number: q.number,
                share: q.share,
                frames: q.load.frames.get(),
                busy: Duration::from_nanos(q.load.busy.get()),
            };
            self.devices.queues(device).iter().map(queue).collect::<Vec<_>>()
        };
        let mut queues: Vec<_> = all.into_iter().flat_map(of_device).collect();
        queues.sort();
        queues
    }

    /// The counters of a port; see [`Datapath::count_assisted`].
    #[must_use]
    pub fn port_stats(&self, name: &str) -> Option<PortStats> {
        self.books.ports.get(name).map(|port| PortStats::of(&port.counters))
    }

    /// The counters of all ports added up, of those that are gone, too: none of it ever decreases.
    #[must_use]
    pub fn all_ports(&self) -> PortStats {
        let mut sum = self.retired.clone();
        self.books.ports.values().for_each(|port| sum.add(&PortStats::of(&port.counters)));
        sum
    }

    /// The counters of a mirror of a bridge.
    #[must_use]
    pub fn mirror_stats(&self, bridge: &str, mirror: &str) -> Option<MirrorStats> {
        let counters = self.books.bridges.get(bridge)?.mirrors.get(mirror)?;
        Some(MirrorStats {
            tx_packets: counters.all().map(|c| c.tx_packets.get()).sum(),
            tx_bytes: counters.all().map(|c| c.tx_bytes.get()).sum(),
            drops: seen(counters.all().map(|c| &c.drops)),
        })
    }

    /// The counters that belong to no single port.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let sum = |of: fn(&WorkerCounters) -> &Counter| self.workers.counters().map(|c| of(c).get()).sum();
        Totals {
            copied: sum(|c| &c.copied),
            generated: sum(|c| &c.generated),
            split: sum(|c| &c.split),
            merged: sum(|c| &c.merged),
            static_none_move: sum(|c| &c.static_none_move),
            headroom_copied: sum(|c| &c.headroom_copied),
            portless: seen(self.workers.counters().map(|c| &c.portless)),
        }
    }

    /// The memory of AF_XDP ports, a region each.
    #[must_use]
    pub fn umem(&self) -> Vec<UmemStats> {
        let stats = |r: &Arc<Region>| UmemStats { chunks: r.chunks(), free: r.free() as u32, lent: r.lent() };
        self.devices.umem().iter().map(stats).collect()
    }

    /// The addresses that a bridge knows, learned and static.
    #[must_use]
    pub fn fdb(&self, bridge: &str) -> Option<Vec<FdbEntry>> {
        self.ask(bridge, "the learned addresses", |switch, bridge, now| switch.fdb(bridge, now))
    }

    /// The addresses of a bridge that have moved lately, the last one first.
    #[must_use]
    pub fn recent_moves(&self, bridge: &str) -> Option<Vec<RecentMove>> {
        self.ask(bridge, "the addresses that have moved", |switch, bridge, now| switch.recent_moves(bridge, now))
    }

    /// How full the table of a bridge is and what it went through.
    #[must_use]
    pub fn table_stats(&self, bridge: &str) -> Option<TableStats> {
        self.ask(bridge, "the size of a table", |switch, bridge, now| switch.table_stats_at(bridge, now))
    }

    /// Counts from zero again what the table of a bridge goes through; `false` if there is no such bridge.
    pub fn clear_table_stats(&self, bridge: &str) -> bool {
        self.ask(bridge, "zero counters", |switch, bridge, _| switch.clear_table_stats(bridge)).is_some()
    }

    /// Forgets the addresses that a bridge has learned; `false` if there is no such bridge.
    pub fn flush_fdb(&self, bridge: &str) -> bool {
        self.ask(bridge, "a flush", |switch, bridge, _| switch.flush(bridge)).is_some()
    }

    /// Has a worker look after the addresses of a bridge; `None` if there is no such bridge, or no answer.
    fn ask<T: Send + 'static>(
        &self,
        bridge: &str,
        what: &str,
        question: impl FnOnce(&mut Switch, BridgeId, Instant) -> T + Send + 'static,
    ) -> Option<T> {
        let bridge = self.bridge_id(bridge)?;
        self.workers.ask(0, what, move |switch, now| question(switch, bridge, now))
    }

    /// Has all remote ends of these tunnel ports probed, under numbers from `first_id` on; `false` if a worker does not
    /// answer.
    pub fn probe<'a>(&self, ports: impl IntoIterator<Item = &'a str>, first_id: u64) -> bool {
        let id = |name: &str| self.books.ports.get(name).map(|port| port.id);
        let ports: Vec<_> = ports.into_iter().filter_map(id).collect();
        // The first worker sends them, so it is told last: an answer may reach any.
        (0..self.workers.len()).rev().all(|worker| {
            let ports = ports.clone();
            self.workers.ask(worker, "probes of tunnels", move |switch, _| switch.probe(&ports, first_id)).is_some()
        })
    }

    /// What came of the last [`Datapath::probe`] so far.
    #[must_use]
    pub fn probed(&self) -> Option<Vec<Probed>> {
        let ask = |worker| self.workers.ask(worker, "what came of probes", |switch, _| switch.probed().to_vec());
        (0..self.workers.len()).map(ask).collect::<Option<Vec<_>>>().map(probes::merge)
    }

    /// Whose tunnel packets have arrived in the last minute that no port takes, how many, and how long ago the last.
    #[must_use]
    pub fn unclaimed(&self) -> Option<Vec<(Stray, u64, Duration)>> {
        let ask = |worker| self.workers.ask(worker, "unclaimed tunnel packets", |switch, now| switch.unclaimed(now));
        (0..self.workers.len()).map(ask).collect::<Option<Vec<_>>>().map(unclaimed::merge)
    }

    /// What happens by itself, from now on; `None` when somebody has taken it already. It ends with the datapath.
    pub fn events(&mut self) -> Option<mpsc::Receiver<DatapathEvent>> {
        self.events.take()
    }

    /// The name of a port by its identifier, as found in [`FdbEntry`].
    #[must_use]
    pub fn port_name(&self, id: crate::types::PortId) -> Option<&str> {
        self.books.ports.values().find(|p| p.id == id).map(|p| p.spec.name.as_str())
    }

    /// Which remote end a place is, at a tunnel that has several.
    #[must_use]
    pub fn remote_of(&self, place: Place) -> Option<IpAddr> {
        match &self.books.ports.values().find(|p| p.id == place.port)?.spec.kind {
            PortKind::Tunnel(tunnel) => tunnel.remotes.as_ref()?.get(place.remote),
            _ => None,
        }
    }

    fn bridge_id(&self, name: &str) -> Option<BridgeId> {
        self.books.bridges.get(name).map(|b| b.id)
    }

    fn perform(&mut self, action: Action) -> Result<Applied, ApplyError> {
        match action {
            Action::RemovePort { name } => self.remove_port(&name),
            Action::RemoveBridge { name } => self.books.remove_bridge(&name).map(|()| Applied::default()),
            Action::AddBridge(spec) => self.books.add_bridge(spec).map(|()| Applied::default()),
            Action::SetBridge(spec) => self.books.set_bridge(spec).map(|()| Applied::default()),
            Action::AddPort(spec) => self.add_port(spec),
            Action::SetPort(spec) => self.set_port(spec),
        }
    }

    fn remove_port(&mut self, name: &str) -> Result<Applied, ApplyError> {
        let record = self.books.ports.remove(name).ok_or_else(|| ApplyError::NoSuchPort(name.to_owned()))?;
        self.devices.close(record.device, &record.spec.name);
        self.leaving.push(record.counters);
        Ok(Applied::default())
    }

    fn add_port(&mut self, spec: PortSpec) -> Result<Applied, ApplyError> {
        if self.books.ports.contains_key(&spec.name) {
            return Err(ApplyError::Exists(spec.name));
        }
        self.books.check(&spec)?;
        if self.devices.is_held_by_closing(&spec.kind) {
            self.publish();
        }
        let opened = self.devices.open(&spec, || self.books.new_device_id())?;
        let id = self.books.new_port_id();
        let (device, caps, counters) = (opened.device, opened.caps, PerWorker::default());
        let (assisted, applied) = self.assist(opened, spec.assist);
        self.books.ports.insert(spec.name.clone(), PortRecord { id, spec, device, caps, assisted, counters });
        Ok(applied)
    }

    fn set_port(&mut self, spec: PortSpec) -> Result<Applied, ApplyError> {
        let Some(old) = self.books.ports.get(&spec.name) else { return Err(ApplyError::NoSuchPort(spec.name)) };
        let (same_kind, same_bridge) = (old.spec.kind.may_become(&spec.kind), old.spec.bridge == spec.bridge);
        let old_device = old.device;
        self.books.check(&spec)?;
        let opened = match self.devices.current(old_device).filter(|_| same_kind) {
            Some(opened) => opened,
            None => {
                let opened = self.devices.open(&spec, || self.books.new_device_id())?;
                self.devices.close(old_device, &spec.name);
                opened
            }
        };
        let moved_id = (!same_bridge).then(|| self.books.new_port_id());
        let (device, caps) = (opened.device, opened.caps);
        let (assisted, applied) = self.assist(opened, spec.assist);
        if let Some(record) = self.books.ports.get_mut(&spec.name) {
            record.id = moved_id.unwrap_or(record.id);
            (record.device, record.caps, record.assisted, record.spec) = (device, caps, assisted, spec);
        }
        Ok(applied)
    }

    /// Has the kernel forward for a device, or not: its interface index if it does, and what to tell of the device.
    fn assist(&mut self, opened: Opened, wanted: bool) -> (Option<u32>, Applied) {
        let assisted = self.devices.assist(opened.device, wanted);
        let applied = self.devices.current(opened.device).map_or(opened.applied, |now| now.applied);
        (assisted, applied)
    }
}

impl PortStats {
    fn of(counters: &PerWorker<PortCounters>) -> Self {
        let sum = |of: fn(&PortCounters) -> &Counter| counters.all().map(|c| of(c).get()).sum();
        Self {
            rx_packets: sum(|c| &c.rx_packets),
            rx_bytes: sum(|c| &c.rx_bytes),
            tx_packets: sum(|c| &c.tx_packets),
            tx_bytes: sum(|c| &c.tx_bytes),
            drops: seen(counters.all().map(|c| &c.drops)),
        }
    }

    fn add(&mut self, other: &Self) {
        self.rx_packets += other.rx_packets;
        self.rx_bytes += other.rx_bytes;
        self.tx_packets += other.tx_packets;
        self.tx_bytes += other.tx_bytes;
        for &(reason, n) in &other.drops {
            match self.drops.iter_mut().find(|(r, _)| *r == reason) {
                Some((_, sum)) => *sum += n,
                None => self.drops.push((reason, n)),
            }
        }
    }
}

/// All reasons that any worker has seen, with the sums of their counts.
fn seen<'a>(drops: impl Iterator<Item = &'a DropCounters> + Clone) -> Vec<(DropReason, u64)> {
    let sum = |&reason: &DropReason| (reason, drops.clone().map(|d| d.get(reason)).sum());
    DropReason::ALL.iter().map(sum).filter(|(_, n)| *n > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Caps;
    use crate::port::memory::MemoryPort;
    use crate::switch::shape::Limits;
    use crate::switch::state::{BridgeVlans, PortRules, Trunks, VlanMode};
    use crate::tunnel::{Protocol, Tunnel};
    use crate::types::TunnelKey;

    fn bridge(name: &str) -> BridgeSpec {
        BridgeSpec {
            name: name.to_owned(),
            mac_aging: Duration::from_secs(300),
            mac_table_size: 8,
            statics: vec![],
            secure: false,
            vlans: BridgeVlans::default(),
            mirrors: vec![],
            gateway: None,
        }
    }

    fn port(name: &str, bridge: &str, kind: PortKind) -> PortSpec {
        let (name, bridge) = (name.to_owned(), bridge.to_owned());
        PortSpec {
            name,
            bridge,
            kind,
            vlan: VlanMode::Trunk(Trunks::All),
            rules: PortRules::default(),
            up: true,
            mtu: None,
            mtu_policy: MtuPolicy::default(),
            limits: Limits::default(),
            assist: false,
        }
    }

    fn memory() -> PortKind {
        PortKind::Memory(MemoryPort::new(Caps::ALL).unwrap())
    }

    fn error(result: &Result<Applied, ApplyError>) -> String {
        result.as_ref().unwrap_err().to_string()
    }

    #[test]
    fn a_failed_action_leaves_the_others_intact() {
        let (mut datapath, _worker) = Datapath::without_thread(&DatapathConfig::default()).unwrap();
        let results = datapath.apply(vec![
            Action::AddBridge(bridge("br0")),
            Action::AddPort(port("p1", "br1", memory())),
            Action::AddPort(port("p2", "br0", memory())),
            Action::AddPort(port("p2", "br0", memory())),
            Action::RemoveBridge { name: "br0".to_owned() },
            Action::SetBridge(bridge("br1")),
            Action::SetPort(port("p3", "br0", memory())),
            Action::RemovePort { name: "p3".to_owned() },
        ]);
        assert!(results[0].is_ok() && results[2].is_ok());
        assert_eq!(error(&results[1]), "there is no bridge 'br1' in the datapath; add the bridge first");
        assert_eq!(error(&results[3]), "'p2' exists in the datapath already; use another name or remove it first");
        assert_eq!(error(&results[4]), "bridge 'br0' still has ports (p2); remove them first");
        assert_eq!(error(&results[5]), error(&results[1]));
        assert_eq!(error(&results[6]), "there is no port 'p3' in the datapath; add the port first");
        assert_eq!(error(&results[7]), error(&results[6]));
        assert_eq!(datapath.port_stats("p1"), None);
        assert_eq!(datapath.port_stats("p2"), Some(PortStats::default()));
    }

    #[test]
    fn identifiers_are_never_used_again() {
        let mut books = Books::default();
        let mut add = |name: &str| {
            books.add_bridge(bridge(name)).unwrap();
            let id = books.bridges[name].id;
            books.remove_bridge(name).unwrap();
            (id, books.new_port_id(), books.new_device_id(), books.publish(1)[0].generation)
        };
        let (first, second) = (add("br0"), add("br0"));
        assert!(first.0 < second.0 && first.1 < second.1 && first.2 < second.2 && first.3 < second.3);
    }

    #[test]
    fn a_patch_port_is_up_while_each_end_names_the_other() {
        let (mut datapath, _worker) = Datapath::without_thread(&DatapathConfig::default()).unwrap();
        let patch =
            |name: &str, bridge: &str, peer: &str| port(name, bridge, PortKind::Patch { peer: peer.to_owned() });
        let seen = |datapath: &mut Datapath, actions| {
            assert!(datapath.apply(actions).iter().all(Result::is_ok));
            let snap = datapath.books.snapshot(0);
            let port = |p: &Arc<crate::switch::state::Port>| (p.name.to_string(), p.up, p.peer.map(|id| id.0));
            snap.ports.iter().flatten().map(port).collect::<Vec<_>>()
        };
        let (a, b) = (patch("a", "br0", "b"), patch("b", "br1", "a"));
        let bridges = vec![Action::AddBridge(bridge("br0")), Action::AddBridge(bridge("br1"))];
        let alone = seen(&mut datapath, [bridges, vec![Action::AddPort(a)]].concat());
        assert_eq!(alone, [("a".to_owned(), false, None)]);
        let joined = [("a".to_owned(), true, Some(1)), ("b".to_owned(), true, Some(0))];
        assert_eq!(seen(&mut datapath, vec![Action::AddPort(b.clone())]), joined);
        let apart = [("a".to_owned(), false, None), ("b".to_owned(), false, None)];
        assert_eq!(seen(&mut datapath, vec![Action::SetPort(patch("b", "br1", "c"))]), apart);
        assert_eq!(seen(&mut datapath, vec![Action::SetPort(patch("b", "br1", "b"))]), apart, "not its own other end");
        assert_eq!(seen(&mut datapath, vec![Action::SetPort(b)]), joined);
        assert_eq!(seen(&mut datapath, vec![Action::RemovePort { name: "b".to_owned() }]), alone);
    }

    #[test]
    fn tunnels_that_would_take_each_others_packets_are_refused() {
        let of = |protocol, remote: &str, local: Option<&str>| {
            let tunnel = Tunnel::new(protocol, remote.parse().unwrap(), TunnelKey(5000));
            PortKind::Tunnel(Tunnel { local: local.map(|l| l.parse().unwrap()), ..tunnel })
        };
        let tunnel = |remote: &str, local| of(Protocol::Vxlan, remote, local);
        let mut books = Books::default();
        books.add_bridge(bridge("br0")).unwrap();
        let spec = port("vx0", "br0", tunnel("192.0.2.2:4789", None));
        enter(&mut books, &spec);
        assert!(books.check(&spec).is_ok(), "it does not clash with itself");
        let clash = books.check(&port("vx1", "br0", tunnel("192.0.2.2:4789", None))).unwrap_err().to_string();
        assert_eq!(
            clash,
            "'vx1' would receive the same tunnel packets as port 'vx0' (vxlan on UDP port 4789, key 5000, \
             remote 192.0.2.2, local any); give one of them another key, remote_ip or local_ip"
        );
        assert!(books.check(&port("vx1", "br0", tunnel("192.0.2.2:4789", Some("192.0.2.1")))).is_ok());
        assert!(books.check(&port("vx1", "br0", tunnel("192.0.2.3:4789", None))).is_ok());
        let mixed = books.check(&port("vx1", "br0", tunnel("192.0.2.3:4789", Some("::1")))).unwrap_err().to_string();
        assert!(mixed.contains("remote_ip 192.0.2.3 and local_ip ::1"), "{mixed}");
        // Another protocol is no clash, unless it wants the same UDP port.
        assert!(books.check(&port("gre0", "br0", of(Protocol::Gre, "192.0.2.2:0", None))).is_ok());
        assert!(books.check(&port("gnv0", "br0", of(Protocol::Geneve, "192.0.2.2:6081", None))).is_ok());
        assert!(books.check(&port("gnv0", "br0", of(Protocol::Geneve, "[2001:db8::2]:4789", None))).is_ok());
        let clash = books.check(&port("gnv0", "br0", of(Protocol::Geneve, "192.0.2.9:4789", None))).unwrap_err();
        let told = "'gnv0': UDP port 4789 is that of port 'vx0', a vxlan tunnel; use another dst_port";
        assert_eq!(clash.to_string(), told);
    }

    /// Enters a port into the books as if its device had been opened.
    fn enter(books: &mut Books, spec: &PortSpec) {
        let (id, device, counters) = (books.new_port_id(), books.new_device_id(), PerWorker::default());
        let record = PortRecord { id, spec: spec.clone(), device, caps: Caps::NONE, assisted: None, counters };
        books.ports.insert(spec.name.clone(), record);
    }

    #[test]
    fn layer_3_tunnels_that_would_carry_the_same_packets_are_refused() {
        let ipip = |name: &str, remote: &str, routes: &[&str], vlan: u16| {
            let remote: std::net::SocketAddr = remote.parse().unwrap();
            let route = |to: &&str| crate::tunnel::Route { to: to.parse().unwrap(), via: remote.ip() };
            let routes = routes.iter().map(route).collect();
            let tunnel = Tunnel { routes, ..Tunnel::new(Protocol::Ipip, remote, TunnelKey(0)) };
            let vlan = VlanMode::Access(crate::types::VlanId::new(vlan).unwrap());
            PortSpec { vlan, ..port(name, "br0", PortKind::Tunnel(tunnel)) }
        };
        let mut books = Books::default();
        books.add_bridge(bridge("br0")).unwrap();
        let spec = ipip("ip0", "192.0.2.2:0", &["192.168.11.0/24"], 0);
        enter(&mut books, &spec);
        assert!(books.check(&spec).is_ok(), "it does not clash with itself");
        let clash = books.check(&ipip("ip1", "192.0.2.3:0", &["192.168.11.0/24"], 0)).unwrap_err().to_string();
        assert_eq!(
            clash,
            "'ip1' would carry the same packets as port 'ip0' (route 192.168.11.0/24); give each routes of its own, or \
             put them in different VLANs"
        );
        for (routes, vlan) in [(&["192.168.11.0/24"][..], 7), (&["192.168.0.0/16"], 0), (&[], 0)] {
            assert!(books.check(&ipip("ip1", "192.0.2.3:0", routes, vlan)).is_ok(), "{routes:?} {vlan}");
        }
    }

    /// Broadcasts from the station `last` at a port, until the others have it.
    fn broadcast(ports: &[MemoryPort], from: usize, last: u8) {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, last, 0x08, 0x06]);
        frame.resize(60, 0);
        ports[from].inject(crate::packet::Frame::from_bytes(&frame));
        for (_, to) in ports.iter().enumerate().filter(|(to, _)| *to != from) {
            while to.drain().is_empty() {
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn workers_come_and_go_and_share_the_ports() {
        let mut datapath = Datapath::start(&DatapathConfig::default()).unwrap();
        let Some(cpu) = (0..64).find(|&cpu| datapath.set_workers(&[cpu]).is_ok()) else { panic!("a CPU to run on") };
        let ports: Vec<_> = (0..4).map(|_| MemoryPort::new(Caps::ALL).unwrap()).collect();
        let names = ["p0", "p1", "p2", "p3"];
        let add = |(name, port): (&&str, &MemoryPort)| {
            Action::AddPort(super::tests::port(name, "br0", PortKind::Memory(port.clone())))
        };
        let actions = std::iter::once(Action::AddBridge(bridge("br0"))).chain(names.iter().zip(&ports).map(add));
        assert!(datapath.apply(actions.collect()).iter().all(Result::is_ok));
        let workers = |datapath: &Datapath| names.map(|name| datapath.workers_of(name).receiving[0]);
        for (last, (cpus, expected)) in
            (1..).zip([(vec![cpu; 2], [1, 1, 0, 0]), (vec![], [0; 4]), (vec![cpu; 3], [1, 1, 2, 0])])
        {
            datapath.set_workers(&cpus).unwrap();
            assert_eq!(workers(&datapath), expected, "{cpus:?}");
            (0..4).for_each(|from| broadcast(&ports, from, 10 * last + from as u8));
            assert_eq!(datapath.fdb("br0").unwrap().len(), 8.min(4 * usize::from(last)), "what was known stays known");
        }
        let all = datapath.all_ports();
        assert_eq!((all.rx_packets, all.tx_packets, datapath.totals().copied), (12, 36, 24));
        // What cannot be changes nothing.
        let told = datapath.set_workers(&[cpu, 5000]).unwrap_err().to_string();
        assert!(told.starts_with("CPU 5000 does not exist"), "{told}");
        assert_eq!(datapath.worker_cpus(), [Some(cpu); 3]);
        // What has come by p0 and p1 since then was, so it seems, all that their worker did.
        assert!(!datapath.rebalance(Duration::from_secs(3600)), "nobody has much to do");
        (0..100).for_each(|n| broadcast(&ports, n % 2, 30));
        assert!(datapath.rebalance(Duration::from_nanos(1)));
        assert_eq!(workers(&datapath).iter().filter(|&&worker| worker == 1).count(), 1, "{:?}", workers(&datapath));
        (0..4).for_each(|from| broadcast(&ports, from, 31));
    }

    #[test]
    fn a_running_worker_acknowledges_forwards_and_answers() {
        let mut datapath = Datapath::start(&DatapathConfig::default()).unwrap();
        let (a, b) = (MemoryPort::new(Caps::ALL).unwrap(), MemoryPort::new(Caps::ALL).unwrap());
        let events = datapath.events().unwrap();
        assert!(datapath.events().is_none(), "taken");
        let results = datapath.apply(vec![
            Action::AddBridge(bridge("br0")),
            Action::AddPort(port("a", "br0", PortKind::Memory(a.clone()))),
            Action::AddPort(port("b", "br0", PortKind::Memory(b.clone()))),
        ]);
        assert!(results.iter().all(Result::is_ok));
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, 1, 0x08, 0x06]);
        frame.resize(60, 0);
        a.inject(crate::packet::Frame::from_bytes(&frame));
        let got = loop {
            match b.drain().pop() {
                Some(got) => break got,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!(got.bytes(), frame);
        let fdb = datapath.fdb("br0").unwrap();
        assert_eq!(fdb.len(), 1);
        assert_eq!(datapath.port_name(fdb[0].place.port), Some("a"));
        // A runt: dropped, and counted for good.
        a.inject(crate::packet::Frame::from_bytes(&[0; 6]));
        while datapath.all_ports().drops.is_empty() {
            std::thread::yield_now();
        }
        let before = datapath.all_ports();
        assert_eq!((before.rx_packets, before.tx_packets, before.rx_bytes, before.tx_bytes), (2, 1, 66, 60));
        assert_eq!(before.drops, [(DropReason::Malformed, 1)]);
        datapath.apply(vec![Action::RemovePort { name: "b".to_owned() }]);
        assert_eq!(datapath.all_ports(), before, "what a port counted stays when it goes");
        datapath.apply(vec![Action::AddPort(port("b", "br0", memory()))]);
        assert_eq!(datapath.all_ports(), before);
        let stats = TableStats { entries: 1, learned: 1, ..TableStats::default() };
        assert_eq!((datapath.table_stats("br0"), datapath.table_stats("br1")), (Some(stats), None));
        assert!(datapath.flush_fdb("br0") && !datapath.flush_fdb("br1"));
        assert_eq!(datapath.fdb("br0"), Some(vec![]));
        a.kill(libc::EBADFD);
        assert_eq!(events.recv(), Ok(DatapathEvent::DeviceDied { port: "a".to_owned(), errno: libc::EBADFD }));
        drop(datapath);
        assert!(events.recv().is_err(), "the worker has ended");
    }
}
