//! What drives the switch under test: every device polled in turn until nothing is left to do.

use datapath::packet::{Batch, Pool};
use datapath::port::{Device, Unsent};
use datapath::stats::WorkerCounters;
use datapath::switch::state::Snapshot;
use datapath::switch::{Switch, TxQueues};
use datapath::time::Instant;
use datapath::types::DeviceId;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A worker without a thread.
pub struct Engine {
    /// The engine under test.
    pub switch: Switch,
    /// What it counts for no port.
    pub counters: Arc<WorkerCounters>,
    snapshot: Arc<Snapshot>,
    devices: BTreeMap<DeviceId, Box<dyn Device>>,
    pool: Pool,
}

impl Engine {
    /// One without devices.
    #[must_use]
    pub fn new() -> Self {
        Self {
            switch: Switch::new(),
            counters: Arc::default(),
            snapshot: Arc::default(),
            devices: BTreeMap::new(),
            pool: Pool::new(8),
        }
    }

    /// Takes over a snapshot and the devices that are new with it.
    pub fn adopt(&mut self, snapshot: Arc<Snapshot>, added: Vec<(DeviceId, Box<dyn Device>)>, now: Instant) {
        self.devices.extend(added);
        self.switch.adopt(&snapshot, now);
        self.snapshot = snapshot;
    }

    /// Forwards until all devices are empty.
    pub fn run(&mut self, now: Instant) {
        let ids: Vec<_> = self.devices.keys().copied().collect();
        while ids.iter().fold(false, |worked, &id| self.poll(id, now) || worked) {}
    }

    fn poll(&mut self, id: DeviceId, now: Instant) -> bool {
        let (mut batch, mut lost, mut tx) = (Batch::new(), vec![], TxQueues::new());
        let Some(device) = self.devices.get_mut(&id) else { return false };
        device.receive(&mut self.pool, &mut batch, &mut lost);
        let worked = !batch.is_empty();
        self.switch.process(now, &self.snapshot, id, &mut batch, &mut self.pool, &self.counters, &mut tx);
        while let Some((device, frames)) = tx.next_ready() {
            self.send(device, frames);
        }
        worked
    }

    fn send(&mut self, device: DeviceId, frames: &mut Vec<datapath::packet::Frame>) {
        let device = self.devices.get_mut(&device).expect("a device of the snapshot");
        let port = |id| self.snapshot.port(id).expect("a port of the snapshot");
        let mut unsent = Unsent::new();
        for frame in frames.iter() {
            let port = port(frame.meta.egress);
            let (packets, bytes) = port.weigh(frame);
            port.counters.tx_packets.add(packets);
            port.counters.tx_bytes.add(bytes);
        }
        device.send(&mut self.pool, frames, &mut unsent);
        for (frame, reason) in unsent {
            let port = port(frame.meta.egress);
            let (packets, bytes) = port.weigh(&frame);
            port.counters.tx_packets.add(packets.wrapping_neg());
            port.counters.tx_bytes.add(bytes.wrapping_neg());
            port.counters.drops.add(reason, packets);
        }
    }
}

impl Default for Engine {
    fn default() -> Self {
        Self::new()
    }
}
