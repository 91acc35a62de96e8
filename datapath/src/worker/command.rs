//! What control may ask of a worker, and how it reaches it. Commands are taken between two rounds, in order.

use super::Worker;
use super::assist::{AssistedFlow, LeftOut};
use super::poller::Wake;
use crate::port::Device;
use crate::port::assist::Table;
use crate::switch::Switch;
use crate::switch::state::Snapshot;
use crate::time::Instant;
use crate::types::DeviceId;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, TryRecvError};

/// Something to do with what a switch has learned, at this time.
pub type Work = Box<dyn FnOnce(&mut Switch, Instant) + Send>;

/// A request to a worker. Answers go into channels with room for one, so that the worker never waits.
pub enum Command {
    /// Forward by this snapshot from now on, with these devices more and those fewer.
    Adopt {
        /// What to forward by.
        snapshot: Arc<Snapshot>,
        /// Devices to take over.
        added: Vec<(DeviceId, Box<dyn Device>)>,
        /// Devices to give up.
        removed: Vec<DeviceId>,
        /// The flows that the kernel forwards by itself; `None`: none.
        flow_table: Option<Arc<Table>>,
        /// Told when it is done, with the devices given up: closing a socket may take the kernel milliseconds, during
        /// which a worker has better things to do.
        done: SyncSender<Vec<Box<dyn Device>>>,
    },
    /// Do this with what the switch has learned, at once: nothing is forwarded meanwhile.
    Switch(Work),
    /// Bring the counters of ports up to date, and say so.
    CountAssisted(SyncSender<()>),
    /// Tell what the kernel forwards by itself, and what it doesn't.
    ReportAssisted(SyncSender<Option<(Vec<AssistedFlow>, Vec<LeftOut>)>>),
    /// End the loop.
    Stop,
}

/// Control's end of a worker.
#[derive(Debug)]
pub struct Remote {
    pub(super) commands: Sender<Command>,
    pub(super) wake: Wake,
}

impl Remote {
    /// Hands a command over and wakes the worker. A worker that has ended drops it; whoever waits for an answer sees that.
    pub fn send(&self, command: Command) {
        if self.commands.send(command).is_ok() {
            self.wake.ring();
        }
    }
}

impl Worker {
    /// Does everything that control has asked for since the last time.
    pub(super) fn take_commands(&mut self, now: Instant) {
        self.wake.quiet();
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.obey(command, now),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.stopped = true;
                    return;
                }
            }
        }
    }

    /// Answers are sent last; whoever has stopped waiting for one does not need it.
    fn obey(&mut self, command: Command, now: Instant) {
        match command {
            Command::Adopt { snapshot, added, removed, flow_table, done } => {
                // Removed first: a TAP that changes its port comes with the same descriptor.
                let closed = removed.into_iter().filter_map(|id| self.devices.remove(&self.poller, id)).collect();
                added.into_iter().for_each(|(id, device)| self.devices.add(&self.poller, id, device));
                self.switch.adopt(&snapshot, now);
                // What the kernel forwards is forgotten before any device goes.
                self.take_notices(now);
                self.use_table(flow_table);
                self.snapshot = snapshot;
                // Whoever needs them now takes them again.
                self.pool.give_back_chunks();
                let _ = done.send(closed);
            }
            Command::Switch(work) => {
                work(&mut self.switch, now);
                self.take_notices(now);
            }
            Command::CountAssisted(done) => {
                self.count_assisted(now);
                let _ = done.send(());
            }
            Command::ReportAssisted(report) => drop(report.send(self.assist_report(now))),
            Command::Stop => self.stopped = true,
        }
    }
}
