//! THE WALK: what happens to each frame, from the batch of a device to the queues of others.
//!
//! ```text
//!  batch ─▶ (decapsulate) ─▶ receive ─▶ decide: parse → admit → learn → forward ─▶ egress, port by port ─▶ TxQueues
//! ```
//!
//! Frames go one after the other, so the second of a batch sees what the first has taught. Every frame that comes in is
//! counted as received, and ends in a transmit queue or under one drop reason: at the port it came from when it goes
//! nowhere, at the port it could not leave by otherwise.

use super::admit::admit;
use super::egress::Egress;
use super::forward::{Targets, forward};
use super::state::{Attachment, Port, Snapshot};
use super::verdict::DropReason;
use super::vlan::Tagging;
use super::{Switch, Tables, TxQueues};
use crate::packet::{Batch, Frame, Pool};
use crate::stats::WorkerCounters;
use crate::time::Instant;
use crate::types::{DeviceId, PortId};
use crate::wire::parse::parse;

impl Switch {
    /// Switches the frames that `device` has received; afterwards the batch is empty and what is to be sent is in `tx`.
    /// `snap` is the one last adopted.
    #[allow(clippy::too_many_arguments)] // Everything a frame meets, each thing with its own owner in the worker.
    pub fn process(
        &mut self,
        now: Instant,
        snap: &Snapshot,
        device: DeviceId,
        batch: &mut Batch,
        pool: &mut Pool,
        counters: &WorkerCounters,
        tx: &mut TxQueues,
    ) {
        self.sweep(now);
        let out = Egress { pool, counters, tx, pieces: &mut self.pieces };
        let mut walk = Walk { now, snap, tables: &mut self.tables, out };
        for frame in batch.drain() {
            match snap.attachment(device) {
                Some(Attachment::Port(port)) => walk.receive(port, frame),
                Some(Attachment::Tunnels { udp_port }) => walk.decapsulate(udp_port, frame),
                None => walk.out.discard(frame, &counters.portless, DropReason::PortDown),
            }
        }
    }
}

/// Everything that a frame meets on its way.
struct Walk<'a> {
    now: Instant,
    snap: &'a Snapshot,
    tables: &'a mut Tables,
    out: Egress<'a>,
}

impl<'a> Walk<'a> {
    /// Each frame in a run of datagrams is received by the port that its VNI and its sender belong to.
    fn decapsulate(&mut self, udp_port: u16, datagrams: Frame) {
        let _ = udp_port;
        self.out.discard(datagrams, &self.out.counters.portless, DropReason::UnknownVni);
    }

    /// A frame that came in by `port`, to wherever it goes.
    fn receive(&mut self, port: PortId, mut frame: Frame) {
        let Some(ingress) = self.snap.port(port) else {
            return self.out.discard(frame, &self.out.counters.portless, DropReason::PortDown);
        };
        frame.meta.ingress = port;
        ingress.counters.rx_packets.add(1);
        ingress.counters.rx_bytes.add(frame.len() as u64);
        match self.decide(ingress, &frame) {
            Ok((tagging, targets)) => self.deliver(frame, tagging, targets),
            Err(reason) => self.out.discard(frame, &ingress.counters.drops, reason),
        }
    }

    /// Where the frame goes, and what its sender teaches.
    fn decide(&mut self, ingress: &Port, frame: &Frame) -> Result<(Tagging, Targets<'a>), DropReason> {
        let bridge = self.snap.bridge(ingress.bridge).ok_or(DropReason::PortDown)?;
        let headers = parse(frame.bytes())?;
        let tagging = admit(bridge, ingress, &headers)?;
        let table = self.tables.of(bridge);
        table.learn(tagging.vlan, headers.src, ingress.id, self.now);
        let targets = forward(self.snap, bridge, table, ingress.id, tagging.vlan, headers.dst, self.now)?;
        Ok((tagging, targets))
    }

    /// To the last port goes the frame itself, to those before it a copy each.
    fn deliver(&mut self, frame: Frame, tagging: Tagging, targets: Targets<'a>) {
        let mut port = targets.first;
        for next in targets.rest {
            let copy = self.out.copy(&frame);
            self.out.send(port, copy, tagging);
            port = next;
        }
        self.out.send(port, frame, tagging);
    }
}
