//! Sending what the switch has decided, and counting what became of it.

use super::devices::DeviceTable;
use super::too_big::TooBig;
use crate::packet::{Frame, Pool};
use crate::port::Unsent;
use crate::stats::WorkerCounters;
use crate::switch::state::Snapshot;
use crate::switch::verdict::DropReason;
use crate::types::{DeviceId, PortId};
use std::net::IpAddr;
use std::num::NonZeroU8;

/// What was handed to a device on behalf of one port.
struct Tally {
    port: PortId,
    /// Whose copies they were, if they were.
    mirror: Option<NonZeroU8>,
    packets: u64,
    bytes: u64,
}

/// Scratch memory of sending.
#[derive(Default)]
pub struct Transmit {
    tallies: Vec<Tally>,
    unsent: Unsent,
    /// Ends of tunnels that packets were too large for.
    pub too_big: TooBig,
}

impl Transmit {
    /// Sends `frames`, which must all be for `device`, and counts each at its egress port: as sent, or as dropped with
    /// the device's reason; the drop of a copy at its mirror. Their memory goes back to the pool.
    pub fn send(
        &mut self,
        devices: &mut DeviceTable,
        device: DeviceId,
        frames: &mut Vec<Frame>,
        pool: &mut Pool,
        snapshot: &Snapshot,
        counters: &WorkerCounters,
    ) {
        self.tallies.clear();
        frames.iter().for_each(|frame| self.count(snapshot, frame));
        match devices.sender(device) {
            Some(device) => {
                device.send(pool, frames, &mut self.unsent);
            }
            None => self.unsent.extend(frames.drain(..).map(|frame| (frame, DropReason::PortDown))),
        }
        for (frame, reason) in self.unsent.drain(..) {
            let (packets, bytes) = weigh(snapshot, &frame);
            let (port, mirror) = (frame.meta.egress, frame.meta.mirror);
            if reason == DropReason::TxTooBig {
                remote(snapshot, &frame).into_iter().for_each(|remote| self.too_big.note(remote));
            }
            if let Some(tally) = self.tallies.iter_mut().find(|t| (t.port, t.mirror) == (port, mirror)) {
                tally.packets = tally.packets.saturating_sub(packets);
                tally.bytes = tally.bytes.saturating_sub(bytes);
            }
            match (snapshot.mirror(port, mirror), snapshot.port(port)) {
                (Some(mirror), _) => mirror.counters.drops.add(reason, packets),
                (None, Some(port)) => port.counters.drops.add(reason, packets),
                (None, None) => counters.portless.add(reason, packets),
            }
            pool.recycle(frame);
        }
        for tally in &self.tallies {
            if let Some(port) = snapshot.port(tally.port) {
                port.counters.tx_packets.add(tally.packets);
                port.counters.tx_bytes.add(tally.bytes);
            }
            if let Some(mirror) = snapshot.mirror(tally.port, tally.mirror) {
                mirror.counters.count_sent(tally.packets, tally.bytes);
            }
        }
    }

    fn count(&mut self, snapshot: &Snapshot, frame: &Frame) {
        let (port, mirror, (packets, bytes)) = (frame.meta.egress, frame.meta.mirror, weigh(snapshot, frame));
        // A device has one port, or a few tunnels whose frames come in runs: the last tally is nearly always the one.
        match self.tallies.iter_mut().rev().find(|t| (t.port, t.mirror) == (port, mirror)) {
            Some(tally) => {
                tally.packets += packets;
                tally.bytes += bytes;
            }
            None => self.tallies.push(Tally { port, mirror, packets, bytes }),
        }
    }
}

/// The end of the tunnel that a frame was sent into.
fn remote(snapshot: &Snapshot, frame: &Frame) -> Option<IpAddr> {
    let tunnel = snapshot.port(frame.meta.egress)?.tunnel.is_some();
    frame.meta.outer.filter(|_| tunnel).map(|outer| outer.remote)
}

/// Packets and bytes that a frame counts as at its egress port.
fn weigh(snapshot: &Snapshot, frame: &Frame) -> (u64, u64) {
    snapshot.port(frame.meta.egress).map_or((1, frame.len() as u64), |port| port.weigh(frame))
}
