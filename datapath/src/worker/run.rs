//! The worker's loop: wait, then one batch from every ready device through the switch and out, again and again.
//!
//! Fairness: a round takes one batch from each ready device, so a flood on one port delays another by a batch, no more.
//! Copies for mirrors come last ([`super::copies`]).
//! A device that reports its end is dropped at once: it can never make the loop spin.

use super::Worker;
use super::devices::queue_of;
use super::spin::Spin;
use crate::control::{AddressFlaps, DatapathEvent};
use crate::port::Rx;
use crate::switch::state::Attachment;
use crate::time::{Duration, Instant};
use crate::types::{DeviceId, Place, RxQueue};
use std::io;

/// The poller's token of the wake-up for commands; queues have theirs.
pub const COMMANDS: u64 = u64::MAX;
/// What a frame costs besides its bytes, in bytes: a super-frame costs several times what a small one does.
const FRAME_COST: u64 = 8192;

impl Worker {
    /// Forwards until it is told to stop; `false`: it cannot go on. This is the only place where the datapath reads a clock.
    #[must_use]
    pub fn run(mut self) -> bool {
        let team = self.team.clone();
        let clock = || team.now();
        let (mut spin, mut tokens) = (Spin::default(), Vec::new());
        while !self.stopped {
            let timeout = self.patience(&spin, clock);
            // What is looked at again soon need not wake anybody.
            if spin.looks() && timeout == Some(Duration::ZERO) {
                self.devices.look_at_rings(&self.poller);
            } else {
                self.devices.watch_rings(&self.poller);
            }
            if let Err(e) = self.poller.wait(timeout, &mut tokens) {
                tracing::error!("a worker cannot wait for its devices and ends: {e}");
                return false;
            }
            let now = clock();
            for token in tokens.drain(..) {
                match queue_of(token) {
                    Some(id) => self.devices.mark_ready(id),
                    None => self.take_commands(now),
                }
            }
            spin.note(self.poll_ready(now, &clock), now);
        }
        self.send_all_copies(clock());
        true
    }

    /// How long to wait for something to happen: until a frame or a copy that waits for its turn may go, for ever if none
    /// does.
    fn patience(&mut self, spin: &Spin, clock: impl Fn() -> Instant) -> Option<Duration> {
        if self.devices.any_ready() {
            return Some(Duration::ZERO);
        }
        let now = clock();
        self.charge(now);
        let due = || {
            let dues = [self.switch.due().map(|due| due - now), self.until_copies(), self.until_assist(now)];
            dues.into_iter().flatten().min()
        };
        spin.patience(now).or_else(due)
    }

    /// Takes over what control has asked for and runs one round over all devices; whether any frame was received.
    pub fn poll_once(&mut self, now: Instant) -> bool {
        self.take_commands(now);
        self.devices.mark_all_ready();
        self.poll_ready(now, &|| now) > 0
    }

    /// What waited until now, and one batch from each device that has something; how many bytes came in.
    pub(super) fn poll_ready(&mut self, now: Instant, clock: &dyn Fn() -> Instant) -> u64 {
        if self.switch.due().is_some_and(|due| due <= now) {
            self.switch.release(now, &self.snapshot, &mut self.pool, &self.counters, &mut self.tx);
            self.flush();
            self.switch.settle(now);
            self.take_notices(now);
        }
        self.heed_others(now);
        self.assist_look(now);
        self.charge(now);
        let mut round = std::mem::take(&mut self.round);
        self.devices.take_ready(&mut round);
        let bytes = round.iter().map(|&id| self.poll_queue(id, now)).sum();
        self.round = round;
        if self.switch.has_copies() {
            self.send_copies(clock);
        }
        for remote in self.transmit.too_big.take(now) {
            let _ = self.team.events.send(DatapathEvent::TooBig { remote });
        }
        if self.switch.take_call() {
            self.team.home.ring();
        }
        bytes
    }

    /// Hands everything that waits in the queues to the devices.
    pub(super) fn flush(&mut self) {
        while let Some((device, frames)) = self.tx.next_ready() {
            let (devices, pool) = (&mut self.devices, &mut self.pool);
            self.transmit.send(devices, device, frames, pool, &self.snapshot, &self.counters);
        }
        self.counters.headroom_copied.add(self.pool.take_relocated());
    }

    /// One batch: receive, switch, send.
    fn poll_queue(&mut self, id: RxQueue, now: Instant) -> u64 {
        let Some((queue, load)) = self.devices.queue(id) else { return 0 };
        let rx = queue.receive(&mut self.pool, &mut self.batch, &mut self.lost);
        load.frames.add(self.batch.len() as u64);
        self.count_lost(id.device);
        let bytes = self.batch.iter().map(|frame| frame.len() as u64).sum();
        if !self.batch.is_empty() {
            self.work.push((id, bytes + FRAME_COST * self.batch.len() as u64));
            let (batch, pool, tx) = (&mut self.batch, &mut self.pool, &mut self.tx);
            self.switch.process(now, &self.snapshot, id.device, batch, pool, &self.counters, tx);
            self.flush();
            self.tell_flaps();
            self.take_notices(now);
        }
        self.assist_after(id, rx == Rx::Empty && bytes == 0, now);
        match rx {
            Rx::Empty => {}
            Rx::More => self.devices.mark_ready(id),
            Rx::Dead(errno) => self.bury(id.device, errno),
        }
        bytes
    }

    /// Charges the queues of the last round for the time that it took until `now`.
    fn charge(&mut self, now: Instant) {
        let spent = u64::try_from((now - self.began).as_nanos()).unwrap_or(u64::MAX);
        self.began = now;
        let all: u64 = self.work.iter().map(|(_, work)| work).sum();
        for (id, work) in self.work.drain(..) {
            if let Some((_, load)) = self.devices.queue(id) {
                load.busy.add(spent.saturating_mul(work) / all.max(1));
            }
        }
    }

    /// Tells control of addresses that keep moving; nearly always there are none.
    fn tell_flaps(&mut self) {
        for (bridge, flap) in self.switch.flaps().drain(..) {
            let name = |place: Place| self.snapshot.port(place.port).map(|port| port.name.to_string());
            let (Some(bridge), Some(from), Some(to)) = (self.snapshot.bridge(bridge), name(flap.from), name(flap.to))
            else {
                continue;
            };
            let flaps = AddressFlaps { bridge: bridge.name.to_string(), between: [from, to], flap };
            let _ = self.team.events.send(DatapathEvent::AddressFlaps(Box::new(flaps)));
        }
    }

    /// Counts what the kernel lost before we could read it: received, then dropped.
    fn count_lost(&mut self, id: DeviceId) {
        let port = match self.snapshot.attachment(id) {
            Some(Attachment::Port(port)) => self.snapshot.port(port),
            _ => None,
        };
        for (reason, n) in self.lost.drain(..) {
            match port {
                Some(port) => {
                    port.counters.rx_packets.add(n);
                    port.counters.drops.add(reason, n);
                }
                None => self.counters.portless.add(reason, n),
            }
        }
    }

    /// Drops a device that has reported its end, and tells control which ports have lost it.
    fn bury(&mut self, id: DeviceId, errno: i32) {
        drop(self.devices.remove(&self.poller, id));
        for port in self.snapshot.ports.iter().flatten().filter(|p| p.device == id) {
            let died = DatapathEvent::DeviceDied { port: port.name.to_string(), errno };
            tracing::warn!("{}: device lost: {}", port.name, io::Error::from_raw_os_error(errno));
            // Nobody may be listening; the log has said it then.
            let _ = self.team.events.send(died);
        }
    }
}
