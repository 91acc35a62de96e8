//! THE WALK: what happens to each frame, from the batch of a device to the queues of others.
//!
//! ```text
//!  batch ─▶ (decapsulate) ─▶ receive ─▶ decide: parse → admit → learn → forward ─▶ egress, port by port ─▶ TxQueues
//!                               ▲       ▲                                          │ ▲
//!                               │       └─ release ─ what waited for a rate limit ─│─┘
//!                               └──────────────── at the peer ◀─ patch ports ◀─────┘
//! ```
//!
//! Most frames are of a flow that was decided on just before: they go to egress at once ([`super::flow_cache`]). For the
//! others, `decide` locks what their bridge has learned ([`super::learned`]), until it is clear where the frame goes.
//!
//! A bridge with a layer-3 tunnel is a router, too ([`super::router`]): packets out of that tunnel get their addresses first.
//!
//! What a mirror selects, where it arrives or where it leaves, is copied on the way; copies wait ([`super::mirror`]) until
//! the worker has sent the frames themselves and asks for them ([`Switch::send_copies`]).
//!
//! What is larger than its way out carries is cut, fragmented or told of ([`super::mtu`]); an answer leaves by the port that
//! the frame came in by.
//!
//! Frames go one after the other, so the second of a batch sees what the first has taught. Every frame that comes in is
//! counted as received, and ends in a transmit queue or under one drop reason: at the port it came from when it goes
//! nowhere, at the port it could not leave by otherwise.

use super::admit::admit;
use super::egress::Egress;
use super::flow_cache::{Flow, FlowCache, Verdict};
use super::forward::{Targets, forward};
use super::learned::Learned;
use super::mac_table::Lesson;
use super::mirror::Copies;
use super::notices::{Notice, Notices, SteadyFlow};
use super::patch;
use super::probes::Probes;
use super::shape::{Direction, Limit, Offer};
use super::state::{Attachment, Bridge, Port, Snapshot};
use super::unclaimed::{Stray, Unclaimed};
use super::verdict::DropReason;
use super::vlan::{self, Tagging};
use super::{Switch, TxQueues};
use crate::offload::gro;
use crate::packet::{Batch, Frame, Pool};
use crate::stats::WorkerCounters;
use crate::time::Instant;
use crate::tunnel::probe::is_probe;
use crate::tunnel::{Decap, Endpoint, Finder, Inner, ecn};
use crate::types::{DeviceId, MacAddr, Place, PortId};
use crate::wire::parse::parse;
use crate::wire::plain::PlainIpv4;
use std::collections::VecDeque;

/// Bytes of copies after which [`Switch::send_copies`] lets its caller look at the clock.
const COPY_BYTES: usize = 48 << 10;

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
        self.heed_others();
        self.sweep(now);
        let (mut walk, inner) = self.walk(now, snap, pool, counters, tx);
        match snap.attachment(device) {
            Some(Attachment::Port(port)) => walk.receive_batch(port, batch),
            Some(Attachment::Tunnels(endpoint)) => walk.decapsulate(endpoint, batch, inner),
            None => walk.lose_batch(batch),
        }
        walk.out.send_gathered();
    }

    /// Lets the frames go on that have waited for a rate limit until `now`, and probes that were asked for; asks again, or
    /// gives up the packets, where no station has answered to its address; to be called when [`Switch::due`] says, and
    /// before [`Switch::process`], so that order is kept, and to be followed by [`Switch::settle`]. `snap` is the one last
    /// adopted.
    pub fn release(
        &mut self,
        now: Instant,
        snap: &Snapshot,
        pool: &mut Pool,
        counters: &WorkerCounters,
        tx: &mut TxQueues,
    ) {
        self.heed_others();
        self.flows.keep_time(now);
        let (mut walk, _) = self.walk(now, snap, pool, counters, tx);
        if walk.out.shared.frames_due.take(now) {
            walk.release_frames();
        }
        if walk.out.shared.answers_due.take(now) {
            walk.pursue();
            walk.cross_patches();
        }
        walk.send_probes();
        walk.out.send_gathered();
    }

    /// To be called when what [`Switch::release`] has let go has been sent: only now may others overtake it.
    pub fn settle(&mut self, now: Instant) {
        let mut shapers = self.shared.shapers();
        shapers.settle(now);
        self.shared.frames_due.put(shapers.due());
    }

    /// Finishes a few of the copies for mirrors that wait: a batch of small ones, one super-frame, or what is left.
    pub fn send_copies(
        &mut self,
        now: Instant,
        snap: &Snapshot,
        pool: &mut Pool,
        counters: &WorkerCounters,
        tx: &mut TxQueues,
    ) {
        let (mut walk, _) = self.walk(now, snap, pool, counters, tx);
        let mut bytes = 0;
        for _ in 0..Batch::CAPACITY {
            bytes += walk.send_next_copy().unwrap_or(COPY_BYTES);
            if bytes >= COPY_BYTES {
                break;
            }
        }
        walk.out.send_gathered();
    }

    fn walk<'a>(
        &'a mut self,
        now: Instant,
        snap: &'a Snapshot,
        pool: &'a mut Pool,
        counters: &'a WorkerCounters,
        tx: &'a mut TxQueues,
    ) -> (Walk<'a>, &'a mut Vec<Inner>) {
        let (pieces, gathered, crossing) = (&mut self.pieces, &mut self.gathered, &mut self.crossing);
        let (shared, call, tellers) = (&*self.shared, &mut self.call, &mut self.tellers);
        let out =
            Egress { snap, pool, counters, tx, pieces, gathered, crossing, shared, call, tellers, told: false, now };
        let (flows, copies, answered) = (&mut self.flows, &mut self.copies, &mut self.answered);
        let (probes, unclaimed) = (&mut self.probes, &mut self.unclaimed);
        let notices = &mut self.notices;
        (Walk { now, snap, flows, copies, answered, probes, unclaimed, notices, out }, &mut self.inner)
    }
}

/// Everything that a frame meets on its way.
pub(super) struct Walk<'a> {
    pub(super) now: Instant,
    pub(super) snap: &'a Snapshot,
    pub(super) flows: &'a mut FlowCache,
    pub(super) copies: &'a mut Copies,
    pub(super) answered: &'a mut VecDeque<Frame>,
    pub(super) probes: &'a mut Probes,
    pub(super) unclaimed: &'a mut Unclaimed,
    pub(super) notices: &'a mut Notices,
    pub(super) out: Egress<'a>,
}

impl<'a> Walk<'a> {
    /// Lets the frames go on whose rate limit has room for them.
    fn release_frames(&mut self) {
        loop {
            let released = self.out.shared.shapers().release(self.now);
            let Some((port, direction, frame)) = released else { return };
            self.out.told = false;
            match (self.snap.port(port), direction) {
                (Some(port), Direction::In) => self.switch(port, frame),
                (Some(port), Direction::Out) if port.up => self.out.transmit(port, frame),
                (Some(port), Direction::Out) => self.out.refuse(port, frame, DropReason::PortDown),
                (None, _) => self.out.lose(frame, DropReason::PortDown, 1),
            }
            self.cross_patches();
        }
    }

    /// Each frame in the runs of datagrams of a batch, in order, to the port that it belongs to.
    fn decapsulate(&mut self, endpoint: Endpoint, batch: &mut Batch, inner: &mut Vec<Inner>) {
        let (mut decap, refused) = (Decap::new(endpoint.protocol), &self.out.counters.portless);
        let mut finder = self.snap.demux.finder(endpoint);
        let (mut runs, mut more) = (batch.drain(), true);
        while more {
            // Not one run at a time: most hold one frame.
            while more && inner.len() < Batch::CAPACITY {
                match runs.next() {
                    Some(run) => decap.take(run, self.out.pool, inner, |reason| refused.add(reason, 1)),
                    None => {
                        decap.finish(inner);
                        more = false;
                    }
                }
            }
            inner.drain(..).for_each(|inner| self.claim(&mut finder, inner));
        }
    }

    /// A frame out of a tunnel is received by the port that its key and its sender belong to; a probe ends here.
    #[inline]
    fn claim(&mut self, finder: &mut Finder, inner: Inner) {
        let Inner { key, mut frame, frames } = inner;
        let Some(outer) = &frame.meta.outer else { return self.out.lose(frame, DropReason::TunnelMalformed, frames) };
        let (place, tos) = (finder.find(key, outer), outer.tos);
        if place.is_none() {
            let stray = Stray { endpoint: finder.endpoint(), key, remote: outer.remote };
            self.unclaimed.note(stray, outer.local, frames, self.now);
        }
        (frame.meta.outer, frame.meta.outer_tos) = (None, tos);
        match place {
            Some(place) if is_probe(frame.bytes()) => self.take_probe(place, frame, frames),
            Some(place) => self.receive(place, frame, frames),
            None => self.out.lose(frame, DropReason::UnknownVni, frames),
        }
    }

    /// The frames that came in by a port with a device of its own, one after the other to wherever they go.
    fn receive_batch(&mut self, port: PortId, batch: &mut Batch) {
        let Some(ingress) = self.snap.port(port) else { return self.lose_batch(batch) };
        self.flows.fetch(ingress, batch.iter());
        ingress.counters.count_batch(batch.iter());
        for frame in batch.drain() {
            self.out.told = false;
            self.pass_limit(ingress, Place::of(port), frame);
            self.finish_crossing();
        }
    }

    fn lose_batch(&mut self, batch: &mut Batch) {
        batch.drain().for_each(|frame| self.out.lose(frame, DropReason::PortDown, 1));
    }

    /// A frame that came in from `place`, as so many `frames` of the wire, to wherever it goes.
    #[inline]
    fn receive(&mut self, place: Place, frame: Frame, frames: u32) {
        self.out.told = false;
        self.enter(place, frame, frames);
        self.finish_crossing();
    }

    /// What one frame has led to, too: through patch ports from bridge to bridge, one after the other.
    #[inline]
    fn finish_crossing(&mut self) {
        if !self.out.crossing.is_empty() || !self.answered.is_empty() {
            self.cross_patches();
        }
    }

    /// What has left by patch ports is received at their peers, until nothing is between two; and what waited for a
    /// station's address goes on where that was heard.
    pub(super) fn cross_patches(&mut self) {
        let mut crossings = 0;
        loop {
            if let Some(mut frame) = self.out.crossing.pop() {
                crossings += 1;
                patch::ration(&mut frame, crossings);
                self.enter(frame.meta.ingress, frame, 1);
            } else if let Some(frame) = self.answered.pop_front() {
                self.out.told = false;
                match self.snap.port(frame.meta.ingress.port) {
                    Some(ingress) => self.switch(ingress, frame),
                    None => self.out.lose(frame, DropReason::PortDown, 1),
                }
            } else {
                return;
            }
        }
    }

    /// Counts a frame that came in from `place`, and lets it in.
    #[inline(always)] // One of its two callers is the way of nearly all frames out of tunnels.
    fn enter(&mut self, place: Place, frame: Frame, frames: u32) {
        let Some(ingress) = self.snap.port(place.port) else {
            return self.out.lose(frame, DropReason::PortDown, frames);
        };
        ingress.counters.count_received(&frame, frames);
        if frames > 1 {
            self.out.counters.merged.add(u64::from(frames) - 1);
        }
        self.pass_limit(ingress, place, frame);
    }

    /// A frame that came in from `place`, in as far as its port's rate limit allows.
    #[inline]
    fn pass_limit(&mut self, ingress: &Port, place: Place, mut frame: Frame) {
        frame.meta.ingress = place;
        match &ingress.limits.ingress {
            None => self.switch(ingress, frame),
            Some(limit) => self.pass_in_turn(ingress, limit, frame),
        }
    }

    #[inline(never)]
    fn pass_in_turn(&mut self, ingress: &Port, limit: &Limit, frame: Frame) {
        match self.out.offer(ingress, Direction::In, limit, frame) {
            Offer::Pass(frame) => self.switch(ingress, frame),
            Offer::Wait => {}
            Offer::Refuse(frame, reason) => self.out.discard(frame, &ingress.counters, reason),
        }
    }

    /// A frame that is in by `ingress`, to the ports of its bridge that it leaves by.
    fn switch(&mut self, ingress: &Port, mut frame: Frame) {
        if ingress.tunnel.is_some()
            && let Err(reason) = surface(ingress, &mut frame)
        {
            return self.out.discard(frame, &ingress.counters, reason);
        }
        let flow = Flow::of(ingress, frame.meta.ingress, &frame);
        if let Some(known) = flow.and_then(|flow| self.flows.find(flow, self.now))
            && let Some(port) = self.snap.port(known.egress())
        {
            return self.out.send_known(port, frame, known);
        }
        self.switch_unknown(ingress, flow, frame);
    }

    /// The same for a frame of no known flow.
    #[inline(never)] // What all others need is to stay in a few registers.
    fn switch_unknown(&mut self, ingress: &Port, flow: Option<Flow>, frame: Frame) {
        let emerged = if ingress.is_layer3() { self.emerge(ingress, frame) } else { Some(frame) };
        let Some(mut frame) = emerged else { return };
        match self.decide(ingress, flow, &mut frame) {
            Ok((tagging, targets)) => self.deliver(frame, tagging, targets),
            Err(reason) => self.out.discard(frame, &ingress.counters, reason),
        }
    }

    /// Where a frame of no known flow goes, and what its sender teaches.
    fn decide(
        &mut self,
        ingress: &Port,
        flow: Option<Flow>,
        frame: &mut Frame,
    ) -> Result<(Tagging, Targets<'a>), DropReason> {
        if frame.meta.hops > patch::MAX_HOPS {
            return Err(DropReason::HopLimit);
        }
        let bridge = self.snap.bridge(ingress.bridge).ok_or(DropReason::PortDown)?;
        let headers = parse(frame.bytes())?;
        let mirrored = !bridge.mirrors.is_empty();
        let served = if mirrored { self.copy_arriving(bridge, ingress, frame, &headers) } else { 0 };
        let tagging = admit(bridge, ingress, &headers)?;
        let mut learned = bridge.learned.lock();
        let learning = ingress.tunnel.as_ref().is_none_or(|tunnel| tunnel.learning);
        let mut lesson = Lesson::Fine;
        if learning && !bridge.vlans.flood.contains(tagging.vlan) {
            lesson = learned.learn(self.snap, tagging.vlan, headers.src, frame.meta.ingress, self.now);
        }
        match lesson {
            Lesson::Fine => {}
            Lesson::Elsewhere => self.out.counters.static_none_move.add(1),
            Lesson::Changed(vlan, mac) => {
                self.flows.forget_everywhere();
                self.notices.add(Notice::Moved(bridge.id, vlan, mac));
                // The home worker may have told somebody who forwards for the switch.
                *self.out.call = true;
            }
        }
        let routed = match &bridge.router {
            Some(router) => self.route(bridge, router, &mut learned, ingress, frame, &headers, &tagging)?,
            None => None,
        };
        let (targets, flow) = match routed {
            // Where it goes depends on more than a flow holds.
            Some(targets) => (targets, None),
            None => (self.targets(bridge, &learned, ingress, &tagging, headers.dst)?, flow),
        };
        if !mirrored
            && let (Some(flow), Some(remote)) = (flow, targets.remote)
            && lesson != Lesson::Elsewhere
            && let Some(until) = learned.table.rely_on(tagging.vlan, headers.src, headers.dst)
        {
            let (first, src, dst) = (targets.first, headers.src, headers.dst);
            let as_it_came = vlan::leaves_as_it_came(&first.vlan, first.rules.priority_tags, &tagging);
            let verdict = Verdict { tagging, as_it_came, egress: first.id, remote };
            let steady = SteadyFlow { flow, verdict, bridge: bridge.id, src, dst };
            let until =
                self.notices.consider(steady, self.flows.remembers(flow), self.now).map_or(until, |t| t.min(until));
            self.flows.store(flow, verdict, self.now, until);
        }
        drop(learned);
        if mirrored {
            self.copy_leaving(bridge, served, frame, headers.dst, tagging, targets.clone());
        }
        Ok((tagging, targets))
    }

    /// The ports for a frame to `dst`.
    pub(super) fn targets(
        &self,
        bridge: &'a Bridge,
        learned: &Learned,
        ingress: &Port,
        tagging: &Tagging,
        dst: MacAddr,
    ) -> Result<Targets<'a>, DropReason> {
        let mut targets = forward(self.snap, bridge, &learned.table, ingress, tagging, dst, self.now)?;
        // The table has the numbers of a newer snapshot's remote ends then; they are to be followed in a moment.
        if learned.is_ahead_of(self.snap) && targets.first.tunnel.as_ref().is_some_and(|t| t.remotes.is_some()) {
            targets.remote = None;
        }
        Ok(targets)
    }

    /// To the last port goes the frame itself, to those before it a copy each.
    pub(super) fn deliver(&mut self, frame: Frame, tagging: Tagging, targets: Targets<'a>) {
        let mut port = targets.first;
        for next in targets.rest {
            let copy = self.out.copy(&frame);
            self.out.send(port, copy, tagging, targets.remote);
            port = next;
        }
        self.out.send(port, frame, tagging, targets.remote);
    }
}

/// What a tunnel's frame needs to be as one of any other port: it is marked with the congestion that what carried it met,
/// and with what is left to be done for it.
#[inline]
fn surface(ingress: &Port, frame: &mut Frame) -> Result<(), DropReason> {
    if let Some(packet) = PlainIpv4::of(frame.bytes())
        && ecn::leaves_alone(frame.meta.outer_tos, packet.service().tos)
        && gro::leaves_alone(frame, &packet, ingress.mtu)
    {
        return Ok(());
    }
    surface_changed(ingress, frame)
}

/// The same for a frame that may have to be changed, or is none of the ordinary ones.
#[inline(never)]
fn surface_changed(ingress: &Port, frame: &mut Frame) -> Result<(), DropReason> {
    let headers = parse(frame.bytes())?;
    ecn::decap(frame.meta.outer_tos, frame, &headers)?;
    gro::adopt(frame, &headers, ingress.mtu);
    Ok(())
}
