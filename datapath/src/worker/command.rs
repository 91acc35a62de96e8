//! What control may ask of a worker, and how it reaches it. Commands are taken between two rounds, in order.

use super::Worker;
use super::assist::{AssistedFlow, LeftOut};
use super::devices::{DeviceChanges, GivenUp};
use super::poller::Wake;
use crate::port::assist::Table;
use crate::switch::Switch;
use crate::switch::state::Snapshot;
use crate::time::Instant;
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender, TryRecvError};

/// Something to do with what a switch has learned, at this time.
pub type Work = Box<dyn FnOnce(&mut Switch, Instant) + Send>;

/// A request to a worker. Answers go into channels with room for one, so that the worker never waits.
pub enum Command {
    /// Forward by this snapshot from now on, with other devices.
    Adopt {
        /// What to forward by: this worker's own of its generation.
        snapshot: Arc<Snapshot>,
        /// Devices to take over and to give up.
        devices: DeviceChanges,
        /// The flows that the kernel forwards by itself; `None`: none that this worker is to see to.
        flow_table: Option<Arc<Table>>,
        /// Told when it is done, with what was given up: closing a socket may take the kernel milliseconds, during which a
        /// worker has better things to do.
        done: SyncSender<GivenUp>,
    },
    /// Do this with what the switch has learned, at once: nothing is forwarded meanwhile.
    Switch(Work),
    /// Bring the counters of ports up to date, and say so.
    CountAssisted(SyncSender<()>),
    /// Tell what the kernel forwards by itself, and what it doesn't.
    ReportAssisted(SyncSender<Option<(Vec<AssistedFlow>, Vec<LeftOut>)>>),
    /// End the loop, when what waits here alone has been sent.
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
            Command::Adopt { snapshot, devices, flow_table, done } => {
                let given_up = self.devices.change(&self.poller, devices);
                self.switch.adopt(&snapshot, now);
                // What the kernel forwards is forgotten before any device goes.
                self.take_notices(now);
                self.use_table(flow_table);
                self.snapshot = snapshot;
                // Whoever needs them now takes them again.
                self.pool.give_back_chunks();
                let _ = done.send(given_up);
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
