//! Worker threads: they join devices to the switch, and alone read the clock.
//!
//! Each thread owns everything in its [`Worker`]: receive queues and what it sends by, frame memory, flows; nothing in the
//! walk of a known flow takes a lock. What is forwarded by is an immutable snapshot, replaced between two rounds together
//! with the devices it refers to. What bridges learn and what waits for a rate limit is shared ([`Team`]); the first
//! worker is the home of what waits.

pub mod assign;
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
pub use devices::{DeviceChanges, GivenUp};

use crate::control::DatapathEvent;
use crate::packet::{Batch, Pool};
use crate::stats::WorkerCounters;
use crate::switch::shared::Shared;
use crate::switch::state::Snapshot;
use crate::switch::verdict::DropReason;
use crate::switch::{Switch, TxQueues};
use crate::time::Instant;
use crate::types::RxQueue;
use devices::DeviceTable;
use poller::{Poller, Wake};
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use transmit::Transmit;

/// What the workers of one datapath have in common.
#[derive(Clone, Debug)]
pub struct Team {
    shared: Arc<Shared>,
    events: Sender<DatapathEvent>,
    /// Wakes the home worker.
    home: Wake,
    /// The origin of every worker's time.
    origin: std::time::Instant,
    spare_buffers: usize,
}

impl Team {
    /// A team without workers, each of which is to keep up to `spare_buffers` frame buffers.
    pub fn new(spare_buffers: usize, events: Sender<DatapathEvent>) -> io::Result<Self> {
        let (shared, home, origin) = (Arc::default(), Wake::new()?, std::time::Instant::now());
        Ok(Self { shared, events, home, origin, spare_buffers })
    }

    /// The worker of this number, without devices, and control's end of it; the first, 0, is the home worker, and needs to
    /// be there as long as any other.
    pub fn worker(&self, number: usize, counters: Arc<WorkerCounters>) -> io::Result<(Worker, Remote)> {
        Worker::new(self, number, counters)
    }

    /// The time now.
    fn now(&self) -> Instant {
        Instant::from_nanos(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// One forwarding thread's state. [`Worker::run`] is its loop; [`Worker::poll_once`] is one round, for whoever drives it
/// without a thread.
pub struct Worker {
    team: Team,
    devices: DeviceTable,
    poller: Poller,
    wake: Wake,
    commands: Receiver<Command>,
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
    /// The queues of the round under way, and what its frames and bytes were at each.
    round: Vec<RxQueue>,
    work: Vec<(RxQueue, u64)>,
    /// When it began.
    began: Instant,
    stopped: bool,
}

impl Worker {
    fn new(team: &Team, number: usize, counters: Arc<WorkerCounters>) -> io::Result<(Self, Remote)> {
        let (commands_in, commands) = channel();
        let is_home = number == 0;
        let (poller, wake) = (Poller::new()?, if is_home { team.home.clone() } else { Wake::new()? });
        poller.watch(wake.as_fd(), run::COMMANDS)?;
        let remote = Remote { commands: commands_in, wake: wake.clone() };
        let worker = Self {
            team: team.clone(),
            devices: DeviceTable::default(),
            poller,
            wake,
            commands,
            snapshot: Arc::default(),
            switch: Switch::new(Arc::clone(&team.shared), is_home),
            pool: Pool::new(team.spare_buffers),
            batch: Batch::new(),
            lost: Vec::new(),
            tx: TxQueues::new(),
            transmit: Transmit::default(),
            copy_credit: copies::Credit::default(),
            assist: None,
            counters,
            round: Vec::new(),
            work: Vec::new(),
            began: Instant::default(),
            stopped: false,
        };
        Ok((worker, remote))
    }

    /// The engine, to look into.
    #[must_use]
    pub fn switch(&self) -> &Switch {
        &self.switch
    }
}
