//! The devices of a worker: what it sends by, and the receive queues that are its own, registered with the poller, marked
//! ready by it, dropped when they report their end.

use super::poller::Poller;
use crate::port::Device;
use crate::stats::QueueLoad;
use crate::types::{DeviceId, RxQueue};
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Devices that a worker takes over or gives up.
#[derive(Default)]
pub struct DeviceChanges {
    /// Devices to give up.
    pub removed: Vec<DeviceId>,
    /// Receive queues to give up; they are handed back.
    pub given_up: Vec<RxQueue>,
    /// Receive queues to take over; the first one of a device is sent by, too.
    pub queues: Vec<(RxQueue, Box<dyn Device>, Arc<QueueLoad>)>,
    /// What to send by to devices that have no receive queue here.
    pub senders: Vec<(DeviceId, Box<dyn Device>)>,
}

/// What a worker has given up: the receive queues that it was to hand back, and what is to be closed.
#[derive(Default)]
pub struct GivenUp {
    /// For another worker.
    pub queues: Vec<(RxQueue, Box<dyn Device>)>,
    /// For nobody.
    pub closed: Vec<Box<dyn Device>>,
}

struct Queue {
    number: u16,
    device: Box<dyn Device>,
    load: Arc<QueueLoad>,
    /// Whether it is in [`DeviceTable::ready`].
    queued: bool,
}

/// One device as far as this worker has it.
#[derive(Default)]
struct Slot {
    sender: Option<Box<dyn Device>>,
    queues: Vec<Queue>,
}

/// All devices of one worker, by identifier, and which queues have something to receive.
#[derive(Default)]
pub struct DeviceTable {
    slots: Vec<Slot>,
    ready: Vec<RxQueue>,
    /// Queues with rings, which can be looked at.
    rings: Vec<RxQueue>,
    /// Whether they are, and the poller doesn't tell of them.
    looking: bool,
}

impl DeviceTable {
    /// Takes over and gives up; what is removed goes first, for a TAP that changes its port comes with the same descriptor.
    pub fn change(&mut self, poller: &Poller, changes: DeviceChanges) -> GivenUp {
        self.watch_rings(poller);
        let mut given_up = GivenUp::default();
        for id in changes.removed {
            given_up.closed.extend(self.remove(poller, id));
        }
        for id in changes.given_up {
            given_up.queues.extend(self.give_up(poller, id).map(|device| (id, device)));
        }
        for (id, sender) in changes.senders {
            given_up.closed.extend(self.slot(id).sender.replace(sender));
        }
        for (id, device, load) in changes.queues {
            self.add(poller, id, device, load);
        }
        given_up
    }

    fn slot(&mut self, id: DeviceId) -> &mut Slot {
        let index = id.0 as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, Slot::default);
        }
        &mut self.slots[index]
    }

    /// Takes a queue over and polls it first thing, for what arrived before it was watched.
    fn add(&mut self, poller: &Poller, id: RxQueue, device: Box<dyn Device>, load: Arc<QueueLoad>) {
        device.descriptors().into_iter().for_each(|fd| watch(poller, fd, id));
        self.rings.retain(|&ring| ring != id);
        if !device.rings().is_empty() {
            self.rings.push(id);
        }
        self.slot(id.device).queues.push(Queue { number: id.number, device, load, queued: false });
        self.mark_ready(id);
    }

    /// Gives a queue up; `None` when it has died before.
    fn give_up(&mut self, poller: &Poller, id: RxQueue) -> Option<Box<dyn Device>> {
        let queues = &mut self.slots.get_mut(id.device.0 as usize)?.queues;
        let queue = queues.remove(queues.iter().position(|queue| queue.number == id.number)?);
        queue.device.descriptors().into_iter().for_each(|fd| poller.forget(fd));
        Some(queue.device)
    }

    /// Gives a device up; nothing when it has died before.
    pub fn remove(&mut self, poller: &Poller, id: DeviceId) -> impl Iterator<Item = Box<dyn Device>> + use<> {
        let slot = self.slots.get_mut(id.0 as usize).map(std::mem::take).unwrap_or_default();
        let queues = slot.queues.into_iter().map(|queue| queue.device);
        let all: Vec<_> = queues.inspect(|device| forget(poller, device.as_ref())).chain(slot.sender).collect();
        all.into_iter()
    }

    /// What to send by, unless the device was removed or has died.
    pub fn sender(&mut self, id: DeviceId) -> Option<&mut dyn Device> {
        let Slot { sender, queues } = self.slots.get_mut(id.0 as usize)?;
        Some(&mut **queues.first_mut().map(|queue| &mut queue.device).or(sender.as_mut())?)
    }

    /// A queue to receive from, and what that costs, unless it was given up or has died.
    pub fn queue(&mut self, id: RxQueue) -> Option<(&mut dyn Device, &QueueLoad)> {
        let queue = self.find(id)?;
        Some((&mut *queue.device, &queue.load))
    }

    #[inline]
    fn find(&mut self, id: RxQueue) -> Option<&mut Queue> {
        self.slots.get_mut(id.device.0 as usize)?.queues.iter_mut().find(|queue| queue.number == id.number)
    }

    /// Polls the queue in the next round.
    pub fn mark_ready(&mut self, id: RxQueue) {
        if let Some(queue) = self.find(id)
            && !std::mem::replace(&mut queue.queued, true)
        {
            self.ready.push(id);
        }
    }

    /// Polls every queue in the next round.
    pub fn mark_all_ready(&mut self) {
        let ids = (0..).map(DeviceId).zip(&self.slots);
        let queues = |(device, slot): (DeviceId, &Slot)| {
            slot.queues.iter().map(move |queue| RxQueue { device, number: queue.number }).collect::<Vec<_>>()
        };
        ids.flat_map(queues).collect::<Vec<_>>().into_iter().for_each(|id| self.mark_ready(id));
    }

    /// Marks the queues in whose rings there is something, and from now on relies on that alone: where the poller is to tell
    /// of a ring, whoever sends a frame pays for that.
    pub fn look_at_rings(&mut self, poller: &Poller) {
        if !std::mem::replace(&mut self.looking, true) {
            self.each_ring(|device, _| device.rings().into_iter().for_each(|fd| poller.forget(fd)));
        }
        for at in 0..self.rings.len() {
            let id = self.rings[at];
            if self.find(id).is_some_and(|queue| !queue.queued && queue.device.has_frames()) {
                self.mark_ready(id);
            }
        }
    }

    /// Has the poller tell of rings again, of what is in them now, too.
    pub fn watch_rings(&mut self, poller: &Poller) {
        if std::mem::take(&mut self.looking) {
            self.each_ring(|device, id| device.rings().into_iter().for_each(|fd| watch(poller, fd, id)));
        }
    }

    /// For each queue with rings that is still there.
    fn each_ring(&mut self, mut work: impl FnMut(&dyn Device, RxQueue)) {
        let mut rings = std::mem::take(&mut self.rings);
        rings.retain(|&id| self.find(id).map(|queue| work(queue.device.as_ref(), id)).is_some());
        self.rings = rings;
    }

    /// Whether the next round has something to do.
    pub fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Moves the queues of this round to `round`; what is marked from now on belongs to the next.
    pub fn take_ready(&mut self, round: &mut Vec<RxQueue>) {
        round.clear();
        std::mem::swap(&mut self.ready, round);
        for &id in &*round {
            if let Some(queue) = self.find(id) {
                queue.queued = false;
            }
        }
    }
}

fn watch(poller: &Poller, fd: BorrowedFd<'_>, id: RxQueue) {
    if let Err(e) = poller.watch(fd, token(id)) {
        tracing::error!("device {}: cannot be polled, so nothing is received from it: {e}", id.device.0);
    }
}

fn forget(poller: &Poller, device: &dyn Device) {
    device.descriptors().into_iter().for_each(|fd| poller.forget(fd));
}

/// The poller's token of a queue.
fn token(id: RxQueue) -> u64 {
    u64::from(id.device.0) << 16 | u64::from(id.number)
}

/// Whose token that is; `None`: of no queue.
pub fn queue_of(token: u64) -> Option<RxQueue> {
    let device = DeviceId(u32::try_from(token >> 16).ok()?);
    Some(RxQueue { device, number: (token & 0xffff) as u16 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Frame;
    use crate::port::Caps;
    use crate::port::memory::MemoryPort;

    fn queue(device: u32, number: u16) -> RxQueue {
        RxQueue { device: DeviceId(device), number }
    }

    #[test]
    fn tokens_name_queues() {
        for id in [queue(0, 0), queue(7, 3), queue(u32::MAX, u16::MAX)] {
            assert_eq!(queue_of(token(id)), Some(id));
        }
        assert_eq!(queue_of(u64::MAX), None, "of the wake-up for commands");
    }

    #[test]
    fn rings_are_looked_at_or_watched() {
        let (poller, mut table) = (Poller::new().unwrap(), DeviceTable::default());
        let port = MemoryPort::new(Caps::ALL).unwrap();
        let (id, other) = (queue(2, 0), queue(3, 0));
        let queues = vec![(id, port.device(), Arc::default())];
        table.change(&poller, DeviceChanges { queues, ..DeviceChanges::default() });
        let (mut round, mut told) = (Vec::new(), Vec::new());
        table.take_ready(&mut round);
        let mut told_of = |poller: &Poller| {
            told.clear();
            poller.wait(Some(crate::time::Duration::ZERO), &mut told).unwrap();
            told.clone()
        };

        table.look_at_rings(&poller);
        assert!(!table.any_ready(), "there is nothing in it");
        port.inject(Frame::from_bytes(&[0; 60]));
        assert_eq!(told_of(&poller), [], "nobody is told");
        table.look_at_rings(&poller);
        table.look_at_rings(&poller);
        table.take_ready(&mut round);
        assert_eq!(round, [id], "seen, and once");
        table.watch_rings(&poller);
        table.watch_rings(&poller);
        assert_eq!(told_of(&poller), [token(id)], "of what came meanwhile, too");

        // What comes while rings are looked at is watched and looked at like the rest; what goes is forgotten.
        table.look_at_rings(&poller);
        table.take_ready(&mut round);
        let second = MemoryPort::new(Caps::ALL).unwrap();
        let queues = vec![(other, second.device(), Arc::default())];
        table.change(&poller, DeviceChanges { queues, removed: vec![id.device], ..DeviceChanges::default() });
        second.inject(Frame::from_bytes(&[0; 60]));
        assert_eq!(told_of(&poller), [token(other)]);
        table.look_at_rings(&poller);
        assert_eq!(told_of(&poller), []);
        table.take_ready(&mut round);
        assert_eq!(round, [other]);
    }

    #[test]
    fn a_queue_goes_and_the_worker_still_sends() {
        let (poller, mut table) = (Poller::new().unwrap(), DeviceTable::default());
        let port = MemoryPort::new(Caps::ALL).unwrap();
        let id = queue(2, 0);
        let queues = vec![(id, port.device(), Arc::default())];
        table.change(&poller, DeviceChanges { queues, ..DeviceChanges::default() });
        let mut round = Vec::new();
        table.take_ready(&mut round);
        assert_eq!(round, [id], "polled first thing");
        assert!(table.sender(id.device).is_some() && table.queue(id).is_some());
        let changes =
            DeviceChanges { given_up: vec![id], senders: vec![(id.device, port.sender())], ..DeviceChanges::default() };
        let given_up = table.change(&poller, changes);
        assert_eq!((given_up.queues.len(), given_up.queues[0].0, given_up.closed.len()), (1, id, 0));
        assert!(table.sender(id.device).is_some() && table.queue(id).is_none());
        table.mark_ready(id);
        table.mark_all_ready();
        assert!(!table.any_ready());
        assert_eq!(table.remove(&poller, id.device).count(), 1);
        assert!(table.sender(id.device).is_none());
    }
}
