//! The worker's loop: wait, then one batch from every ready device through the switch and out, again and again.
//!
//! Fairness: a round takes one batch from each ready device, so a flood on one port delays another by a batch, no more.
//! Copies for mirrors come last ([`super::copies`]).
//! A device that reports its end is dropped at once: it can never make the loop spin.

use super::Worker;
use super::spin::Spin;
use crate::control::{AddressFlaps, DatapathEvent};
use crate::port::Rx;
use crate::switch::state::Attachment;
use crate::time::{Duration, Instant};
use crate::types::{DeviceId, Place};
use std::io;

/// The poller's token of the wake-up for commands; devices have their identifiers.
pub const COMMANDS: u64 = u64::MAX;

impl Worker {
    /// Forwards until it is told to stop. This is the only place where the datapath reads a clock.
    pub fn run(mut self) {
        let origin = std::time::Instant::now();
        let clock = || Instant::from_nanos(u64::try_from(origin.elapsed().as_nanos()).unwrap_or(u64::MAX));
        let (mut spin, mut tokens) = (Spin::default(), Vec::new());
        while !self.stopped {
            let timeout = self.patience(&spin, clock);
            if let Err(e) = self.poller.wait(timeout, &mut tokens) {
                tracing::error!("the worker cannot wait for its devices and ends: {e}");
                return;
            }
            let now = clock();
            for token in tokens.drain(..) {
                match u32::try_from(token) {
                    Ok(id) => self.devices.mark_ready(DeviceId(id)),
                    Err(_) => self.take_commands(now),
                }
            }
            spin.note(self.poll_ready(now, &clock), now);
        }
    }

    /// How long to wait for something to happen: until a frame or a copy that waits for its turn may go, for ever if none
    /// does.
    fn patience(&self, spin: &Spin, clock: impl Fn() -> Instant) -> Option<Duration> {
        if self.devices.any_ready() {
            return Some(Duration::ZERO);
        }
        let now = clock();
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
            self.take_notices(now);
        }
        self.assist_look(now);
        let mut round = std::mem::take(&mut self.round);
        self.devices.take_ready(&mut round);
        let bytes = round.iter().map(|&id| self.poll_device(id, now)).sum();
        self.round = round;
        if self.switch.has_copies() {
            self.send_copies(clock);
        }
        for remote in self.transmit.too_big.take(now) {
            let _ = self.events.send(DatapathEvent::TooBig { remote });
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
    fn poll_device(&mut self, id: DeviceId, now: Instant) -> u64 {
        let Some(device) = self.devices.get(id) else { return 0 };
        let rx = device.receive(&mut self.pool, &mut self.batch, &mut self.lost);
        self.count_lost(id);
        let bytes = self.batch.iter().map(|frame| frame.len() as u64).sum();
        if !self.batch.is_empty() {
            let (batch, pool, tx) = (&mut self.batch, &mut self.pool, &mut self.tx);
            self.switch.process(now, &self.snapshot, id, batch, pool, &self.counters, tx);
            self.flush();
            self.tell_flaps();
            self.take_notices(now);
        }
        self.assist_after(id, rx == Rx::Empty && bytes == 0, now);
        match rx {
            Rx::Empty => {}
            Rx::More => self.devices.mark_ready(id),
            Rx::Dead(errno) => self.bury(id, errno),
        }
        bytes
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
            let _ = self.events.send(DatapathEvent::AddressFlaps(Box::new(flaps)));
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
            let _ = self.events.send(died);
        }
    }
}
