//! What drives the switch under test: the worker of the product, without its thread and clock.

use datapath::control::DatapathEvent;
use datapath::port::Device;
use datapath::stats::WorkerCounters;
use datapath::switch::Switch;
use datapath::switch::state::Snapshot;
use datapath::time::Instant;
use datapath::types::DeviceId;
use datapath::worker::{Command, Remote, Worker};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel, sync_channel};

/// A worker that does a round when it is told to.
pub struct Engine {
    worker: Worker,
    remote: Remote,
    events: Receiver<DatapathEvent>,
}

impl Engine {
    /// One without devices.
    #[must_use]
    pub fn new() -> Self {
        let (sender, events) = channel();
        let (worker, remote) = Worker::new(8, sender).expect("file descriptors");
        Self { worker, remote, events }
    }

    /// Takes over a snapshot, and the devices that come and go with it.
    pub fn adopt(
        &mut self,
        snapshot: Arc<Snapshot>,
        added: Vec<(DeviceId, Box<dyn Device>)>,
        removed: Vec<DeviceId>,
        now: Instant,
    ) {
        let (done, taken) = sync_channel(1);
        self.remote.send(Command::Adopt { snapshot, added, removed, flow_table: None, done });
        self.worker.poll_once(now);
        taken.try_recv().expect("a worker takes commands before it polls");
    }

    /// Forwards until all devices are empty.
    pub fn run(&mut self, now: Instant) {
        while self.worker.poll_once(now) {}
    }

    /// Has the worker do something with its switch in the next round.
    pub fn work(&self, work: impl FnOnce(&mut Switch) + Send + 'static) {
        self.remote.send(Command::Switch(Box::new(|switch, _| work(switch))));
    }

    /// What the switch has learned.
    #[must_use]
    pub fn switch(&self) -> &Switch {
        self.worker.switch()
    }

    /// What is counted for no port.
    #[must_use]
    pub fn counters(&self) -> Arc<WorkerCounters> {
        self.worker.counters()
    }

    /// What the worker has told since the last time.
    pub fn events(&self) -> Vec<DatapathEvent> {
        self.events.try_iter().collect()
    }
}
