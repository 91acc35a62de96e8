//! What drives the switch under test: the workers of the product, without their threads and clock.

use datapath::control::DatapathEvent;
use datapath::port::memory::MemoryPort;
use datapath::stats::{PerWorker, WorkerCounters};
use datapath::switch::Switch;
use datapath::switch::state::Snapshot;
use datapath::time::Instant;
use datapath::types::{DeviceId, RxQueue};
use datapath::worker::{Command, DeviceChanges, Remote, Team, Worker};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel, sync_channel};

/// Workers that do a round in turn when they are told to.
pub struct Engine {
    workers: Vec<(Worker, Remote)>,
    counters: PerWorker<WorkerCounters>,
    events: Receiver<DatapathEvent>,
}

impl Engine {
    /// So many workers, without devices.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let (sender, events) = channel();
        let (team, mut counters) = (Team::new(8, sender).expect("file descriptors"), PerWorker::default());
        let worker = |n| team.worker(n, counters.of(n)).expect("file descriptors");
        Self { workers: (0..workers).map(worker).collect(), counters, events }
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Has each worker take over its snapshot, and the devices that come and go with it: one of the workers receives, all
    /// send.
    pub fn adopt(
        &mut self,
        snapshots: Vec<Arc<Snapshot>>,
        added: &[(DeviceId, MemoryPort)],
        removed: &[DeviceId],
        now: Instant,
    ) {
        let all = self.workers.len();
        for ((n, (worker, remote)), snapshot) in self.workers.iter_mut().enumerate().zip(snapshots) {
            let mut devices = DeviceChanges { removed: removed.to_vec(), ..DeviceChanges::default() };
            for (device, port) in added {
                if device.0 as usize % all == n {
                    let queue = RxQueue { device: *device, number: 0 };
                    devices.queues.push((queue, port.device(), Arc::default()));
                } else {
                    devices.senders.push((*device, port.sender()));
                }
            }
            let (done, taken) = sync_channel(1);
            remote.send(Command::Adopt { snapshot, devices, flow_table: None, done });
            worker.poll_once(now);
            taken.try_recv().expect("a worker takes commands before it polls");
        }
    }

    /// Forwards until all devices are empty.
    pub fn run(&mut self, now: Instant) {
        while self.workers.iter_mut().fold(false, |any, (worker, _)| worker.poll_once(now) | any) {}
        // What the last of them has made the first one's business.
        self.workers[0].0.poll_once(now);
    }

    /// Has all workers do something with their switches in the next round.
    pub fn work(&self, work: impl Fn(&mut Switch) + Clone + Send + 'static) {
        for (_, remote) in &self.workers {
            let work = work.clone();
            remote.send(Command::Switch(Box::new(move |switch, _| work(switch))));
        }
    }

    /// Each worker's, for what is its own.
    pub fn switches(&self) -> impl Iterator<Item = &Switch> {
        self.workers.iter().map(|(worker, _)| worker.switch())
    }

    /// The first worker's, for what all share.
    #[must_use]
    pub fn switch(&self) -> &Switch {
        self.workers[0].0.switch()
    }

    /// What is counted for no port.
    pub fn counters(&self) -> impl Iterator<Item = &WorkerCounters> + Clone {
        self.counters.all()
    }

    /// What the workers have told since the last time.
    pub fn events(&self) -> Vec<DatapathEvent> {
        self.events.try_iter().collect()
    }
}
