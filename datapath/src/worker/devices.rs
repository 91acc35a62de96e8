//! The devices of a worker: registered with the poller, marked ready by it, dropped when they report their end.

use super::poller::Poller;
use crate::port::Device;
use crate::types::DeviceId;

struct Slot {
    device: Box<dyn Device>,
    /// Whether it is in [`DeviceTable::ready`].
    queued: bool,
}

/// All devices of one worker, by identifier, and which of them have something to receive.
#[derive(Default)]
pub struct DeviceTable {
    slots: Vec<Option<Slot>>,
    ready: Vec<DeviceId>,
}

impl DeviceTable {
    /// Takes a device over and polls it first thing, for what arrived before it was watched.
    pub fn add(&mut self, poller: &Poller, id: DeviceId, device: Box<dyn Device>) {
        for fd in device.descriptors() {
            if let Err(e) = poller.watch(fd, u64::from(id.0)) {
                tracing::error!("device {}: cannot be polled, so nothing is received from it: {e}", id.0);
            }
        }
        let index = id.0 as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        self.slots[index] = Some(Slot { device, queued: false });
        self.mark_ready(id);
    }

    /// Gives a device up; `None` when it has died before.
    pub fn remove(&mut self, poller: &Poller, id: DeviceId) -> Option<Box<dyn Device>> {
        let slot = self.slots.get_mut(id.0 as usize)?.take()?;
        slot.device.descriptors().into_iter().for_each(|fd| poller.forget(fd));
        Some(slot.device)
    }

    /// The device, unless it was removed or has died.
    pub fn get(&mut self, id: DeviceId) -> Option<&mut dyn Device> {
        Some(&mut *self.slots.get_mut(id.0 as usize)?.as_mut()?.device)
    }

    /// Polls the device in the next round.
    pub fn mark_ready(&mut self, id: DeviceId) {
        if let Some(Some(slot)) = self.slots.get_mut(id.0 as usize)
            && !std::mem::replace(&mut slot.queued, true)
        {
            self.ready.push(id);
        }
    }

    /// Polls every device in the next round.
    pub fn mark_all_ready(&mut self) {
        (0..self.slots.len()).for_each(|i| self.mark_ready(DeviceId(u32::try_from(i).unwrap_or(u32::MAX))));
    }

    /// Whether the next round has something to do.
    pub fn any_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Moves the devices of this round to `round`; what is marked from now on belongs to the next.
    pub fn take_ready(&mut self, round: &mut Vec<DeviceId>) {
        round.clear();
        std::mem::swap(&mut self.ready, round);
        for id in &*round {
            if let Some(Some(slot)) = self.slots.get_mut(id.0 as usize) {
                slot.queued = false;
            }
        }
    }
}
