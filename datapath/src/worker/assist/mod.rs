//! Which flows the kernel forwards by itself ([`crate::port::assist`]): put into its table when the switch says that they go
//! one way, taken out when that is over, counted as if they had come by here.
//!
//! A flow waits to be put in until nothing of its port is on its way through user space, so that no frame overtakes
//! another; under a load that never pauses, no longer than [`PATIENCE`]. Every [`LOOK_EVERY`], and whenever
//! somebody reads counters, what the table has counted is added to the ports' counters; a sender that was heard in the
//! kernel is renewed in the MAC table, and what has been silent for a while, or what it rests on is gone, is taken out.
//!
//! Owned by the first worker: of what the others receive the kernel forwards nothing, but what they change it is told at
//! once. What an attacker may try is in [`crate::port::assist`]; for each of his frames that come to
//! user space there are a few look-ups here at most, and no system call.

mod entry;
mod refusal;

pub use refusal::{LeftOut, Why};

use super::Worker;
use crate::port::assist::{Slot, Table};
use crate::switch::Switch;
use crate::switch::notices::{Notice, SteadyFlow};
use crate::switch::state::Snapshot;
use crate::time::{Duration, Instant};
use crate::types::{BridgeId, MacAddr, PortId, RxQueue, VlanId};
use entry::Entry;
use foldhash::fast::RandomState;
use refusal::Refusals;
use std::collections::HashMap;
use std::sync::Arc;

/// How often the table is looked through while it has flows.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a flow may be silent before it leaves the table.
const IDLE: Duration = Duration::from_secs(10);
/// How long a slot stays unused before it is another flow's: longer than the kernel may be at a frame.
const REST: Duration = Duration::from_secs(1);
/// How long a flow waits for a moment in which nothing is on its way.
const PATIENCE: Duration = Duration::from_millis(50);
/// Flows that may wait at the same time.
const MOST_WAITING: usize = 64;

/// A flow that the kernel forwards, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AssistedFlow {
    /// Where it comes in.
    pub ingress: PortId,
    /// Where it leaves.
    pub egress: PortId,
    /// The VLAN it is switched in.
    pub vlan: VlanId,
    /// Who sends.
    pub src: MacAddr,
    /// Who receives.
    pub dst: MacAddr,
    /// Frames that it has taken by this way; a super-frame counts once.
    pub packets: u64,
    /// Bytes of those, as received.
    pub bytes: u64,
    /// How long it has been in the table.
    pub age: Duration,
    /// How long ago frames of it were noticed last.
    pub idle: Duration,
}

/// An address that verdicts rest on.
type Address = (BridgeId, VlanId, MacAddr);

/// The flows that the kernel forwards for one worker.
pub struct Assist {
    table: Arc<Table>,
    /// By slot.
    entries: Vec<Option<Entry>>,
    /// The slots that have an entry.
    used: Vec<Slot>,
    resting_on: HashMap<Address, Vec<Slot>, RandomState>,
    waiting: Vec<(SteadyFlow, Instant)>,
    refusals: Refusals,
    due: Option<Instant>,
}

impl Assist {
    fn new(table: Arc<Table>) -> Self {
        let entries = std::iter::repeat_with(|| None).take(Table::LEN).collect();
        let (used, waiting) = (Vec::with_capacity(Table::LEN), Vec::with_capacity(MOST_WAITING));
        let (resting_on, refusals) = (HashMap::default(), Refusals::default());
        Self { table, entries, used, resting_on, waiting, refusals, due: None }
    }

    /// Takes in what the switch has noticed.
    fn take(&mut self, notice: Notice, snap: &Snapshot, now: Instant) {
        match notice {
            Notice::Steady(flow) => match entry::judge(&flow, snap) {
                Err(why) => self.refusals.note(&flow, why, now),
                Ok(_) if self.knows(&flow) => {}
                Ok(_) if self.waiting.len() < MOST_WAITING => self.waiting.push((flow, now)),
                // It will be told of again.
                Ok(_) => self.refusals.note(&flow, Why::TooMany, now),
            },
            Notice::Moved(bridge, vlan, mac) => self.forget_address((bridge, vlan, mac), now),
            Notice::AllChanged => self.forget_all(now),
        }
    }

    fn knows(&self, flow: &SteadyFlow) -> bool {
        self.waiting.iter().any(|(waiting, _)| waiting.flow == flow.flow)
    }

    /// Puts flows in that wait: those of ports that are drained, and those that have waited for long.
    fn put_waiting(&mut self, drained: impl Fn(PortId) -> bool, snap: &Snapshot, now: Instant) {
        let mut i = 0;
        while let Some(&(flow, since)) = self.waiting.get(i) {
            if drained(flow.flow.port()) || now - since >= PATIENCE {
                self.waiting.swap_remove(i);
                match self.put(&flow, snap, now) {
                    Ok(()) => self.refusals.forget(&flow),
                    Err(why) => self.refusals.note(&flow, why, now),
                }
            } else {
                i += 1;
            }
        }
    }

    /// Puts a flow in, unless it is there.
    fn put(&mut self, flow: &SteadyFlow, snap: &Snapshot, now: Instant) -> Result<(), Why> {
        let mut entry = Entry::new(flow, snap, now)?;
        let places = self.table.places(&entry.key);
        let same = places.clone().find(|&slot| self.entries[slot].as_ref().is_some_and(|e| e.key == entry.key));
        if let Some(old) = same.and_then(|slot| self.entries[slot].as_ref())
            && old.gone.is_none()
        {
            return Ok(());
        }
        // What it was before it may be at once again; a slot of another flow rests first.
        let may_be = |slot: &Slot| match &self.entries[*slot] {
            None => true,
            Some(old) if old.key == entry.key && old.action == entry.action => true,
            Some(old) => old.gone.is_some_and(|gone| now - gone >= REST),
        };
        let slot = same.filter(may_be).or_else(|| places.clone().find(may_be)).ok_or(Why::NoRoom)?;
        match self.entries[slot].take() {
            Some(mut old) => drop(old.count(slot, &self.table)),
            None => self.used.push(slot),
        }
        entry.start(slot, &self.table);
        for address in entry.addresses() {
            self.resting_on.entry(address).or_default().push(slot);
        }
        self.entries[slot] = Some(entry);
        self.due = Some(self.due.map_or(now + LOOK_EVERY, |due| due.min(now + LOOK_EVERY)));
        Ok(())
    }

    /// Takes a flow out; its slot rests.
    fn remove(&mut self, slot: Slot, now: Instant) {
        let Some(entry) = self.entries[slot].as_mut().filter(|entry| entry.gone.is_none()) else { return };
        self.table.remove(slot);
        entry.gone = Some(now);
        for address in entry.addresses() {
            if let Some(slots) = self.resting_on.get_mut(&address) {
                slots.retain(|&other| other != slot);
                if slots.is_empty() {
                    self.resting_on.remove(&address);
                }
            }
        }
    }

    fn forget_address(&mut self, address: Address, now: Instant) {
        self.waiting.retain(|(flow, _)| !entry::addresses(flow).contains(&address));
        for slot in self.resting_on.get(&address).cloned().unwrap_or_default() {
            self.remove(slot, now);
        }
    }

    /// Counts, too, so that a port that goes loses nothing.
    fn forget_all(&mut self, now: Instant) {
        self.table.forget();
        self.waiting.clear();
        self.refusals.clear();
        self.resting_on.clear();
        for &slot in &self.used {
            if let Some(entry) = &mut self.entries[slot] {
                entry.gone.get_or_insert(now);
                entry.count(slot, &self.table);
            }
        }
    }

    /// Adds what the table has counted to the ports' counters.
    fn count(&mut self, now: Instant) {
        for &slot in &self.used {
            if let Some(entry) = &mut self.entries[slot]
                && entry.count(slot, &self.table)
            {
                entry.heard = now;
            }
        }
    }

    /// Looks the table through.
    fn look(&mut self, switch: &mut Switch, now: Instant) {
        let mut due = now + LOOK_EVERY;
        let mut i = 0;
        while let Some(&slot) = self.used.get(i) {
            let Some(entry) = &mut self.entries[slot] else {
                self.used.swap_remove(i);
                continue;
            };
            if entry.count(slot, &self.table) {
                entry.heard = now;
            }
            match entry.gone {
                Some(gone) if now - gone >= REST => {
                    self.entries[slot] = None;
                    self.used.swap_remove(i);
                    continue;
                }
                Some(_) => {}
                None if now - entry.heard >= IDLE => self.remove(slot, now),
                None => {
                    let heard = entry.take_heard();
                    match switch.renew(&entry.flow, heard, now) {
                        Some(until) if now <= until => due = due.min(until),
                        _ => self.remove(slot, now),
                    }
                }
            }
            i += 1;
        }
        self.due = (!self.used.is_empty()).then_some(due);
    }

    /// What is in the table, and what is not.
    fn report(&mut self, now: Instant) -> (Vec<AssistedFlow>, Vec<LeftOut>) {
        self.count(now);
        let flows = self.used.iter().filter_map(|&slot| self.entries[slot].as_ref()?.report(now));
        (flows.collect(), self.refusals.report(now))
    }
}

impl Worker {
    /// Uses this table from now on, or none.
    pub(super) fn use_table(&mut self, table: Option<Arc<Table>>) {
        let same = match (&self.assist, &table) {
            (Some(assist), Some(table)) => Arc::ptr_eq(&assist.table, table),
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.assist = table.map(Assist::new);
            self.switch.want_notices(self.assist.is_some());
        }
    }

    /// Tells the kernel what the switch has noticed; to be called after whatever may have changed anything.
    pub(super) fn take_notices(&mut self, now: Instant) {
        if let Some(assist) = &mut self.assist {
            self.switch.notices().drain(..).for_each(|notice| assist.take(notice, &self.snapshot, now));
        }
    }

    /// Hears of what other workers have changed, without waiting for a frame: what the kernel forwards, nobody here sees.
    pub(super) fn heed_others(&mut self, now: Instant) {
        if self.assist.is_some() {
            self.switch.heed_others();
            self.take_notices(now);
        }
    }

    /// Puts flows in that waited for this device to have nothing more. It is polled once more where some wait.
    pub(super) fn assist_after(&mut self, queue: RxQueue, drained: bool, now: Instant) {
        let device = queue.device;
        let Some(assist) = self.assist.as_mut().filter(|assist| !assist.waiting.is_empty()) else { return };
        let snap = &self.snapshot;
        let of_device = |port| snap.port(port).is_some_and(|port| port.device == device);
        assist.put_waiting(|port| drained && of_device(port), snap, now);
        if assist.waiting.iter().any(|(flow, _)| of_device(flow.flow.port())) {
            self.devices.mark_ready(queue);
        }
    }

    /// Looks through what the kernel forwards, when it is time again.
    pub(super) fn assist_look(&mut self, now: Instant) {
        if let Some(assist) = self.assist.as_mut().filter(|assist| assist.due.is_some_and(|due| due <= now)) {
            assist.look(&mut self.switch, now);
        }
    }

    /// How long the worker may sleep before it looks through that.
    pub(super) fn until_assist(&self, now: Instant) -> Option<Duration> {
        self.assist.as_ref()?.due.map(|due| due - now)
    }

    /// Brings the ports' counters up to date.
    pub(super) fn count_assisted(&mut self, now: Instant) {
        if let Some(assist) = &mut self.assist {
            assist.count(now);
        }
    }

    /// What the kernel forwards, and what it doesn't though it was told of; `None`: it forwards nothing.
    pub(super) fn assist_report(&mut self, now: Instant) -> Option<(Vec<AssistedFlow>, Vec<LeftOut>)> {
        self.assist.as_mut().map(|assist| assist.report(now))
    }
}

#[cfg(test)]
mod tests;
