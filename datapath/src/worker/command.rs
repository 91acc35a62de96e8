//! What control may ask of a worker, and how it reaches it. Commands are taken between two rounds, in order.

use super::poller::Wake;
use crate::port::Device;
use crate::switch::mac_table::FdbEntry;
use crate::switch::state::Snapshot;
use crate::types::{BridgeId, DeviceId};
use std::sync::Arc;
use std::sync::mpsc::{Sender, SyncSender};

/// A request to a worker. Answers go into channels with room for one, so that the worker never waits.
pub enum Command {
    /// Forward by this snapshot from now on, with these devices more and those fewer.
    Adopt {
        /// What to forward by.
        snapshot: Arc<Snapshot>,
        /// Devices to take over.
        added: Vec<(DeviceId, Box<dyn Device>)>,
        /// Devices to close.
        removed: Vec<DeviceId>,
        /// Told when it is done.
        done: SyncSender<()>,
    },
    /// Tell the learned addresses of a bridge.
    Fdb {
        /// Which bridge.
        bridge: BridgeId,
        /// Where to.
        reply: SyncSender<Vec<FdbEntry>>,
    },
    /// Forget the learned addresses of a bridge.
    Flush {
        /// Which bridge.
        bridge: BridgeId,
        /// Told when it is done.
        done: SyncSender<()>,
    },
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
