//! Worker threads: they join devices to the switch, and alone read the clock.
//!
//! One thread owns everything in a [`Worker`]: devices, frame memory, learned addresses; nothing in the walk takes a lock.
//! What is forwarded by is an immutable snapshot, replaced between two rounds together with the devices it refers to.

pub mod assist;
mod command;
mod copies;
mod devices;
mod poller;
mod run;
mod spin;
mod too_big;
mod transmit;

pub use command::{Command, Remote};

use crate::control::DatapathEvent;
use crate::packet::{Batch, Pool};
use crate::stats::WorkerCounters;
use crate::switch::state::Snapshot;
use crate::switch::verdict::DropReason;
use crate::switch::{Switch, TxQueues};
use crate::types::DeviceId;
use devices::DeviceTable;
use poller::{Poller, Wake};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use transmit::Transmit;

/// One forwarding thread's state. [`Worker::run`] is its loop; [`Worker::poll_once`] is one round, for whoever drives it
/// without a thread.
pub struct Worker {
    devices: DeviceTable,
    poller: Poller,
    wake: Wake,
    commands: Receiver<Command>,
    events: Sender<DatapathEvent>,
    snapshot: Arc<Snapshot>,
    switch: Switch,
    pool: Pool,
    batch: Batch,
    lost: Vec<(DropReason, u64)>,
    tx: TxQueues,
    transmit: Transmit,
    copy_credit: copies::Credit,
    /// Set while the kernel forwards flows by itself.
    assist: Option<assist::Assist>,
    counters: Arc<WorkerCounters>,
    /// The devices of the round under way.
    round: Vec<DeviceId>,
    stopped: bool,
}

impl Worker {
    /// A worker without devices, keeping up to `spare_buffers` frame buffers, and control's end of it.
    pub fn new(spare_buffers: usize, events: Sender<DatapathEvent>) -> io::Result<(Self, Remote)> {
        let (commands_in, commands) = channel();
        let (poller, wake) = (Poller::new()?, Wake::new()?);
        poller.watch(wake.as_fd(), run::COMMANDS)?;
        let remote = Remote { commands: commands_in, wake: wake.clone() };
        let worker = Self {
            devices: DeviceTable::default(),
            poller,
            wake,
            commands,
            events,
            snapshot: Arc::default(),
            switch: Switch::new(),
            pool: Pool::new(spare_buffers),
            batch: Batch::new(),
            lost: Vec::new(),
            tx: TxQueues::new(),
            transmit: Transmit::default(),
            copy_credit: copies::Credit::default(),
            assist: None,
            counters: Arc::default(),
            round: Vec::new(),
            stopped: false,
        };
        Ok((worker, remote))
    }

    /// The counters that this worker writes.
    #[must_use]
    pub fn counters(&self) -> Arc<WorkerCounters> {
        Arc::clone(&self.counters)
    }

    /// The engine, to look into.
    #[must_use]
    pub fn switch(&self) -> &Switch {
        &self.switch
    }
}
