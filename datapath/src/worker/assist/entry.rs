//! One flow in the kernel's table: what it may be, and how it is counted.

use super::{Address, AssistedFlow, Why};
use crate::port::assist::{Action, Counts, Key, Retag, Slot, Table};
use crate::switch::notices::SteadyFlow;
use crate::switch::state::{Port, Snapshot};
use crate::switch::verdict::DropReason;
use crate::switch::vlan;
use crate::time::Instant;
use crate::wire::vlan::{TAG_LEN, Tag};
use std::sync::Arc;

/// A flow that is, or was, in a slot.
pub struct Entry {
    pub flow: SteadyFlow,
    pub key: Key,
    pub action: Action,
    ingress: Arc<Port>,
    egress: Arc<Port>,
    /// Bytes of its tag where it comes in and where it leaves.
    tag_lens: [u64; 2],
    /// What the slot had counted when it was put in, and when it was counted last.
    first: Counts,
    counted: Counts,
    since: Instant,
    /// When frames were noticed last.
    pub heard: Instant,
    /// Whether frames were noticed that the switch does not know of.
    unheard_of: bool,
    /// When it was taken out.
    pub gone: Option<Instant>,
}

/// The ports and the change of tags of a flow that the kernel may forward.
pub struct Way<'a> {
    ingress: (&'a Arc<Port>, u32),
    egress: (&'a Arc<Port>, u32),
    tags: [Option<Tag>; 2],
    mtu: crate::types::L3Mtu,
}

/// Whether the kernel may forward the flow, and how.
pub fn judge<'a>(flow: &SteadyFlow, snap: &'a Snapshot) -> Result<Way<'a>, Why> {
    let device = |id| {
        let port = snap.port(id).ok_or(Why::NoDevice(id))?;
        Ok((port, port.assisted.ok_or(Why::NoDevice(id))?))
    };
    let (ingress, egress) = (device(flow.flow.port())?, device(flow.verdict.egress)?);
    if ingress.0.limits.ingress.is_some() {
        return Err(Why::RateLimit(ingress.0.id));
    }
    if egress.0.limits.egress.is_some() {
        return Err(Why::RateLimit(egress.0.id));
    }
    let mtu = egress.0.mtu.ok_or(Why::UnknownMtu(egress.0.id))?;
    let tagging = &flow.verdict.tagging;
    let leaves_with = vlan::leaves_with(&egress.0.vlan, egress.0.rules.priority_tags, tagging).ok_or(Why::Tags)?;
    Ok(Way { ingress, egress, tags: [tagging.tag, leaves_with], mtu })
}

/// The addresses that a flow's verdict rests on.
pub fn addresses(flow: &SteadyFlow) -> [Address; 2] {
    [flow.src, flow.dst].map(|mac| (flow.bridge, flow.verdict.tagging.vlan, mac))
}

impl Entry {
    pub fn new(flow: &SteadyFlow, snap: &Snapshot, now: Instant) -> Result<Self, Why> {
        let Way { ingress, egress, tags: [comes, leaves], mtu } = judge(flow, snap)?;
        let retag = match (comes, leaves) {
            (comes, leaves) if comes == leaves => Retag::default(),
            (comes, leaves) => Retag { pop: comes.is_some(), push: leaves },
        };
        let tag_lens = [comes, leaves].map(|tag| tag.map_or(0, |_| TAG_LEN as u64));
        Ok(Self {
            flow: *flow,
            key: Key { ifindex: ingress.1, head: flow.flow.on_wire() },
            action: Action { ifindex: egress.1, mtu, retag },
            ingress: Arc::clone(ingress.0),
            egress: Arc::clone(egress.0),
            tag_lens,
            first: Counts::default(),
            counted: Counts::default(),
            since: now,
            heard: now,
            unheard_of: false,
            gone: None,
        })
    }

    pub fn addresses(&self) -> [Address; 2] {
        addresses(&self.flow)
    }

    /// Frames go this way from now on.
    pub fn start(&mut self, slot: Slot, table: &Table) {
        self.first = table.counts(slot);
        self.counted = self.first;
        table.put(slot, &self.key, &self.action);
    }

    /// Adds what is new to the counters of both ports; whether there was anything.
    pub fn count(&mut self, slot: Slot, table: &Table) -> bool {
        let counts = table.counts(slot);
        let new = counts.since(self.counted);
        let (Counts { packets, bytes, .. }, lost) = (new, new.lost_packets());
        self.counted = counts;
        let [tag_in, tag_out] = self.tag_lens;
        let (at, to) = (&self.ingress.counters, &self.egress.counters);
        at.rx_packets.add(packets);
        at.rx_bytes.add(bytes + packets * tag_in);
        let sent = packets.saturating_sub(lost);
        to.tx_packets.add(sent);
        to.tx_bytes.add(bytes.saturating_sub(new.lost_bytes()) + sent * tag_out);
        to.drops.add(DropReason::TxError, lost);
        self.unheard_of |= packets > 0;
        packets > 0
    }

    /// Whether frames have passed since this was asked last.
    pub fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.unheard_of)
    }

    /// For people; `None` once it is gone.
    pub fn report(&self, now: Instant) -> Option<AssistedFlow> {
        let Counts { packets, bytes, .. } = self.counted.since(self.first);
        self.gone.is_none().then(|| AssistedFlow {
            ingress: self.ingress.id,
            egress: self.egress.id,
            vlan: self.flow.verdict.tagging.vlan,
            src: self.flow.src,
            dst: self.flow.dst,
            packets,
            bytes: bytes + packets * self.tag_lens[0],
            age: now - self.since,
            idle: now - self.heard,
        })
    }
}
