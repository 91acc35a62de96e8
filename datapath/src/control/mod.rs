//! The only way to change the datapath: actions in, one new snapshot out.
//!
//! [`Datapath`] belongs to one control thread. It opens devices there (in that thread's network namespace), hands them
//! to the worker together with the snapshot that refers to them, and waits until the worker forwards by it, so that
//! "applied" means done. The worker never waits for control.

mod books;
mod devices;
mod spec;

pub use spec::{Action, Applied, ApplyError, BridgeSpec, DatapathEvent, PortKind, PortSpec, PortStats, Totals};

use crate::stats::{DropCounters, PortCounters, WorkerCounters};
use crate::switch::mac_table::FdbEntry;
use crate::switch::verdict::DropReason;
use crate::time::Duration;
use crate::types::BridgeId;
use crate::worker::{Command, Remote, Worker};
use books::{Books, PortRecord};
use devices::Devices;
use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// How long a change waits for the worker before it goes on and says so in the log. A round of the worker takes
/// microseconds, so this only passes when the machine is badly overloaded.
const PATIENCE: Duration = Duration::from_secs(1);

/// Settings of the datapath as a whole.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatapathConfig {
    /// Unused frame buffers that a worker keeps (64 KiB of address space each; memory only once they were written to).
    pub spare_buffers: usize,
}

impl Default for DatapathConfig {
    fn default() -> Self {
        Self { spare_buffers: 256 }
    }
}

/// The datapath as seen by its control thread. Dropping it ends the worker and closes all devices; TAP interfaces stay.
#[derive(Debug)]
pub struct Datapath {
    books: Books,
    devices: Devices,
    worker: Remote,
    counters: Arc<WorkerCounters>,
    events: Option<mpsc::Receiver<DatapathEvent>>,
    /// `None` when the caller drives the worker itself: then nothing is waited for.
    thread: Option<JoinHandle<()>>,
}

impl Datapath {
    /// Starts the worker thread.
    pub fn start(config: &DatapathConfig) -> io::Result<Self> {
        let (mut datapath, worker) = Self::without_thread(config)?;
        let thread = std::thread::Builder::new().name("worker-0".to_owned()).spawn(move || worker.run())?;
        datapath.thread = Some(thread);
        Ok(datapath)
    }

    /// A datapath whose worker the caller drives by [`Worker::poll_once`], which also takes over what was applied.
    pub fn without_thread(config: &DatapathConfig) -> io::Result<(Self, Worker)> {
        let (events_in, events) = mpsc::channel();
        let (worker, remote) = Worker::new(config.spare_buffers, events_in)?;
        let counters = worker.counters();
        let (books, devices) = (Books::default(), Devices::default());
        Ok((Self { books, devices, worker: remote, counters, events: Some(events), thread: None }, worker))
    }

    /// Performs all actions in order and then publishes the result at once. A failed action changes nothing and leaves
    /// the others intact; the results are in the order of the actions.
    pub fn apply(&mut self, actions: Vec<Action>) -> Vec<Result<Applied, ApplyError>> {
        let results = actions.into_iter().map(|action| self.perform(action)).collect();
        let (added, removed) = self.devices.take_changes();
        let (done, acknowledged) = mpsc::sync_channel(1);
        let snapshot = Arc::new(self.books.snapshot());
        self.worker.send(Command::Adopt { snapshot, added, removed, done });
        self.wait(&acknowledged, "a new configuration");
        results
    }

    /// The counters of a port.
    #[must_use]
    pub fn port_stats(&self, name: &str) -> Option<PortStats> {
        self.books.ports.get(name).map(|port| PortStats::of(&port.counters))
    }

    /// The counters that belong to no single port.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let c = &self.counters;
        Totals {
            copied: c.copied.get(),
            generated: c.generated.get(),
            split: c.split.get(),
            merged: c.merged.get(),
            portless: seen(&c.portless),
        }
    }

    /// The addresses that a bridge has learned.
    #[must_use]
    pub fn fdb(&self, bridge: &str) -> Option<Vec<FdbEntry>> {
        let (reply, answer) = mpsc::sync_channel(1);
        self.worker.send(Command::Fdb { bridge: self.bridge_id(bridge)?, reply });
        self.wait(&answer, "the learned addresses")
    }

    /// Forgets the addresses that a bridge has learned; `false` if there is no such bridge.
    pub fn flush_fdb(&self, bridge: &str) -> bool {
        let Some(bridge) = self.bridge_id(bridge) else { return false };
        let (done, acknowledged) = mpsc::sync_channel(1);
        self.worker.send(Command::Flush { bridge, done });
        self.wait(&acknowledged, "a flush");
        true
    }

    /// What happens by itself, from now on; `None` when somebody has taken it already.
    pub fn events(&mut self) -> Option<mpsc::Receiver<DatapathEvent>> {
        self.events.take()
    }

    /// The name of a port by its identifier, as found in [`FdbEntry`].
    #[must_use]
    pub fn port_name(&self, id: crate::types::PortId) -> Option<&str> {
        self.books.ports.values().find(|p| p.id == id).map(|p| p.spec.name.as_str())
    }

    fn bridge_id(&self, name: &str) -> Option<BridgeId> {
        self.books.bridges.get(name).map(|b| b.id)
    }

    fn wait<T>(&self, answer: &mpsc::Receiver<T>, what: &str) -> Option<T> {
        self.thread.as_ref()?;
        let taken = answer.recv_timeout(PATIENCE);
        if taken.is_err() {
            tracing::error!("the worker has not answered within {} s: {what}", PATIENCE.as_secs());
        }
        taken.ok()
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
        Ok(Applied::default())
    }

    fn add_port(&mut self, spec: PortSpec) -> Result<Applied, ApplyError> {
        if self.books.ports.contains_key(&spec.name) {
            return Err(ApplyError::Exists(spec.name));
        }
        self.books.check(&spec)?;
        let opened = self.devices.open(&spec, || self.books.new_device_id())?;
        let id = self.books.new_port_id();
        let (device, caps, counters) = (opened.device, opened.caps, Arc::default());
        self.books.ports.insert(spec.name.clone(), PortRecord { id, spec, device, caps, counters });
        Ok(opened.applied)
    }

    fn set_port(&mut self, spec: PortSpec) -> Result<Applied, ApplyError> {
        let Some(old) = self.books.ports.get(&spec.name) else { return Err(ApplyError::NoSuchPort(spec.name)) };
        let (same_kind, same_bridge) = (old.spec.kind == spec.kind, old.spec.bridge == spec.bridge);
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
        if let Some(record) = self.books.ports.get_mut(&spec.name) {
            record.id = moved_id.unwrap_or(record.id);
            (record.device, record.caps, record.spec) = (opened.device, opened.caps, spec);
        }
        Ok(opened.applied)
    }
}

impl Drop for Datapath {
    fn drop(&mut self) {
        self.worker.send(Command::Stop);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the worker thread ended by a panic");
        }
    }
}

impl PortStats {
    fn of(c: &PortCounters) -> Self {
        Self {
            rx_packets: c.rx_packets.get(),
            rx_bytes: c.rx_bytes.get(),
            tx_packets: c.tx_packets.get(),
            tx_bytes: c.tx_bytes.get(),
            drops: seen(&c.drops),
        }
    }
}

fn seen(drops: &DropCounters) -> Vec<(DropReason, u64)> {
    drops.nonzero().collect()
}
