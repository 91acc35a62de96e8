//! Mirrors: which frames are copied, and how a copy leaves.
//!
//! A frame is selected where it arrives (whatever becomes of it there, as long as its VLAN may come in) and where it
//! leaves. It is copied once for each output, however many ports and mirrors select it. Behaviour is Open vSwitch's,
//! but for ports that it cannot mirror: patch ports, which are ports like any other here.
//!
//! A copy waits until the frames themselves have been sent ([`Copies`]); the worker then sends as many as leave the
//! frames most of its time. Whatever keeps a copy from leaving is counted at its mirror, never at a port. Copies are
//! finished: a super-frame becomes the frames that its receiver would see on the wire, each with its checksum, so that
//! whoever captures them sees nothing odd.
//!
//! What an attacker may try: to fill memory with copies (what waits is bounded), or to slow down others by traffic that
//! is mirrored (copies have a share of the time).

use super::admit;
use super::forward::Targets;
use super::pipeline::Walk;
use super::state::{Bridge, Port};
use super::verdict::DropReason;
use super::vlan::{self, Tagging};
use crate::offload::gso;
use crate::packet::Frame;
use crate::stats::MirrorCounters;
use crate::types::{BridgeId, MacAddr, PortId, VlanId};
use crate::wire::parse::Headers;
use std::collections::{BTreeSet, VecDeque};
use std::num::NonZeroU8;
use std::sync::Arc;

/// Mirrors of one bridge: a bit for each in [`PortMirrors`], as many as in Open vSwitch.
pub const MAX_MIRRORS: usize = 32;
/// Bytes of copies that may wait.
const ROOM: usize = 4 << 20;
/// What a copy takes of them at least: the memory page that it is in.
const LEAST: usize = 4096;

/// One mirror of a bridge.
#[derive(Clone, Debug)]
pub struct Mirror {
    /// Its name, unique on the bridge.
    pub name: Arc<str>,
    /// What it copies.
    pub select: Select,
    /// Where to.
    pub output: Output,
    /// Bytes of a frame that are copied at most.
    pub snaplen: Option<u16>,
    /// Where its copies are counted.
    pub counters: Arc<MirrorCounters>,
}

/// Which frames a mirror copies: those that arrive or leave by a selected port and are in a selected VLAN.
#[derive(Clone, Debug, Default)]
pub struct Select {
    /// Every port, but for those that are outputs of mirrors.
    pub all: bool,
    /// Ports that frames arrive by.
    pub arriving: BTreeSet<PortId>,
    /// Ports that frames leave by.
    pub leaving: BTreeSet<PortId>,
    /// VLANs; none: all of them.
    pub vlans: BTreeSet<VlanId>,
}

/// Where a mirror's copies go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// One port, which carries nothing else.
    Port(PortId),
    /// All ports that carry a VLAN, in that VLAN.
    Vlan(VlanId),
}

/// What the mirrors of its bridge mean for a port; bit i is the mirror at [`Bridge::mirrors`]`[i]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortMirrors {
    /// Who copies what arrives by it.
    pub arriving: u32,
    /// Who copies what leaves by it.
    pub leaving: u32,
    /// Whether it is the output of one: it takes no other frames, and what arrives by it is dropped.
    pub output: bool,
}

impl PortMirrors {
    /// What `mirrors`, all those of its bridge, mean for `port`.
    #[must_use]
    pub fn of(port: PortId, mirrors: &[Mirror]) -> Self {
        if mirrors.iter().any(|m| m.output == Output::Port(port)) {
            return Self { output: true, ..Self::default() };
        }
        let bits = |selects: &dyn Fn(&Select) -> bool| {
            (0..32).zip(mirrors).filter(|(_, m)| selects(&m.select)).fold(0, |bits, (i, _)| bits | 1 << i)
        };
        Self {
            arriving: bits(&|s| s.all || s.arriving.contains(&port)),
            leaving: bits(&|s| s.all || s.leaving.contains(&port)),
            output: false,
        }
    }
}

impl Mirror {
    /// Whether it copies a frame to `dst` in `vlan`, once a port has selected it. What is in the output VLAN already, and
    /// what no bridge forwards, does not go to an output VLAN.
    fn copies(&self, vlan: VlanId, dst: MacAddr) -> bool {
        let selected = self.select.vlans.is_empty() || self.select.vlans.contains(&vlan);
        selected
            && match self.output {
                Output::Port(_) => true,
                Output::Vlan(output) => vlan != output && !dst.is_reserved_group(),
            }
    }
}

/// A copy that waits; `frame.meta.mirror` says whose it is.
#[derive(Debug)]
struct Waiting {
    frame: Frame,
    tagging: Tagging,
    bridge: BridgeId,
}

/// The copies that wait until the frames that they were made of have been sent.
#[derive(Debug)]
pub struct Copies {
    waiting: VecDeque<Waiting>,
    room: usize,
    /// Memory of [`Walk::send_copy`].
    wire: Vec<Frame>,
}

impl Default for Copies {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), room: ROOM, wire: Vec::new() }
    }
}

impl Copies {
    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn push(&mut self, waiting: Waiting) {
        self.room -= cost(waiting.frame.len());
        self.waiting.push_back(waiting);
    }

    fn pop(&mut self) -> Option<Waiting> {
        let waiting = self.waiting.pop_front()?;
        self.room += cost(waiting.frame.len());
        Some(waiting)
    }

    /// Goes over from the mirrors of the bridges `was` to those that `is`: the copies of a mirror that is gone are dropped.
    pub fn adopt(&mut self, was: &[Option<Arc<Bridge>>], is: &[Option<Arc<Bridge>>]) {
        fn mirrors(bridges: &[Option<Arc<Bridge>>], id: BridgeId) -> &[Mirror] {
            bridges.get(id.0 as usize).and_then(Option::as_ref).map_or(&[], |bridge| &bridge.mirrors)
        }
        for mut copy in std::mem::take(&mut self.waiting) {
            self.room += cost(copy.frame.len());
            if renumber(&mut copy.frame, mirrors(was, copy.bridge), mirrors(is, copy.bridge)) {
                self.push(copy);
            }
        }
    }
}

/// Takes a copy that waits, or any other frame, over from the mirrors `was` of its bridge to those that `is`. `false`: its
/// mirror is gone, and has counted it.
pub fn renumber(frame: &mut Frame, was: &[Mirror], is: &[Mirror]) -> bool {
    let Some(own) = frame.meta.mirror else { return true };
    let Some(old) = was.get(at(own)) else { return false };
    let same = |new: &Mirror| Arc::ptr_eq(&new.counters, &old.counters);
    let new = is.iter().position(same);
    match new {
        Some(new) => frame.meta.mirror = number(new),
        None => old.counters.drops.add(DropReason::PortDown, 1),
    }
    new.is_some()
}

fn cost(len: usize) -> usize {
    len.max(LEAST)
}

/// A mirror's number, from 1, by its place on the bridge.
fn number(at: usize) -> Option<NonZeroU8> {
    u8::try_from(at + 1).ok().and_then(NonZeroU8::new)
}

/// Its place by its number.
pub fn at(number: NonZeroU8) -> usize {
    usize::from(number.get()) - 1
}

impl<'a> Walk<'a> {
    /// Copies a frame that has arrived by `ingress` for all who want it; a bit for each mirror whose output has it now.
    pub(super) fn copy_arriving(&mut self, bridge: &Bridge, ingress: &Port, frame: &Frame, headers: &Headers) -> u32 {
        let wanted = ingress.mirrors.arriving;
        match admit::tagging(bridge, ingress, headers) {
            Some(tagging) if wanted != 0 && ingress.up => self.copy(bridge, wanted, 0, frame, headers.dst, tagging),
            _ => 0,
        }
    }

    /// Copies a frame that leaves by `targets` for all who want it, but for the outputs that have it already.
    pub(super) fn copy_leaving(
        &mut self,
        bridge: &Bridge,
        served: u32,
        frame: &Frame,
        dst: MacAddr,
        tagging: Tagging,
        targets: Targets<'a>,
    ) {
        let wanted = targets.rest.fold(targets.first.mirrors.leaving, |bits, port| bits | port.mirrors.leaving);
        self.copy(bridge, wanted, served, frame, dst, tagging);
    }

    fn copy(
        &mut self,
        bridge: &Bridge,
        wanted: u32,
        mut served: u32,
        frame: &Frame,
        dst: MacAddr,
        tagging: Tagging,
    ) -> u32 {
        for (i, mirror) in bridge.mirrors.iter().enumerate() {
            if (wanted & !served) >> i & 1 == 0 || !mirror.copies(tagging.vlan, dst) {
                continue;
            }
            let same_output = |other: &Mirror| other.output == mirror.output;
            served |= (0..).zip(&*bridge.mirrors).filter(|(_, m)| same_output(m)).fold(0, |bits, (i, _)| bits | 1 << i);
            if cost(frame.len()) > self.copies.room {
                self.out.counters.copied.add(1);
                mirror.counters.drops.add(DropReason::MirrorOverload, 1);
                continue;
            }
            let mut frame = self.out.copy(frame);
            (frame.meta.mirror, frame.meta.quiet) = (number(i), true);
            self.copies.push(Waiting { frame, tagging, bridge: bridge.id });
        }
        served
    }

    /// Sends the copy that has waited longest; its bytes, or `None` if none waits.
    pub(super) fn send_next_copy(&mut self) -> Option<usize> {
        let Waiting { frame, tagging, bridge } = self.copies.pop()?;
        let bytes = frame.len();
        let snap = self.snap;
        let bridge = snap.bridge(bridge);
        let mirror = frame.meta.mirror.zip(bridge).and_then(|(n, bridge)| bridge.mirrors.get(at(n)));
        let (Some(bridge), Some(mirror)) = (bridge, mirror) else {
            // Not after Copies::adopt.
            self.out.lose(frame, DropReason::PortDown, 1);
            return Some(bytes);
        };
        match mirror.output {
            Output::Port(port) => match snap.port(port).filter(|port| port.up) {
                Some(port) => self.send_copy(mirror, port, frame, tagging),
                None => self.drop_copy(mirror, frame, DropReason::PortDown),
            },
            Output::Vlan(vlan) => self.flood_copy(bridge, mirror, frame, Tagging { vlan, ..tagging }),
        }
        self.cross_patches();
        Some(bytes)
    }

    /// To all ports that carry the VLAN, the one that the frame came from included.
    fn flood_copy(&mut self, bridge: &Bridge, mirror: &Mirror, frame: Frame, tagging: Tagging) {
        let ports = bridge.ports.iter().filter_map(|&id| self.snap.port(id));
        let mut ports =
            ports.filter(|port| port.is_flooded() && vlan::carries(&port.vlan, tagging.vlan, tagging.customer()));
        let Some(mut port) = ports.next() else { return self.drop_copy(mirror, frame, DropReason::NoOutput) };
        for next in ports {
            let copy = self.out.copy(&frame);
            self.send_copy(mirror, port, copy, tagging);
            port = next;
        }
        self.send_copy(mirror, port, frame, tagging);
    }

    /// Finishes a copy and sends it out by `port`, which is up.
    fn send_copy(&mut self, mirror: &Mirror, port: &Port, mut frame: Frame, tagging: Tagging) {
        frame.meta.remote = None;
        if let Err(reason) = vlan::egress(&port.vlan, port.rules.priority_tags, &mut frame, tagging) {
            return self.drop_copy(mirror, frame, reason);
        }
        if port.tunnel.is_some() && mirror.snaplen.is_none() {
            // It finishes and segments anyway, and better.
            return self.out.send_tagged(port, frame, tagging);
        }
        let mut wire = std::mem::take(&mut self.copies.wire);
        match gso::segment(frame, None, self.out.pool, &mut wire) {
            Ok(frames) => self.out.counters.split.add(u64::from(frames) - 1),
            Err(reason) => mirror.counters.drops.add(reason, 1),
        }
        for mut frame in wire.drain(..) {
            let len = mirror.snaplen.map_or(frame.len(), |snaplen| frame.len().min(snaplen.into()));
            frame.set_len(len);
            if port.peer.is_some() {
                // It has left; at the peer it is a frame like others.
                mirror.counters.count_sent(1, len as u64);
                frame.meta.mirror = None;
            }
            self.out.send_tagged(port, frame, tagging);
        }
        self.copies.wire = wire;
    }

    fn drop_copy(&mut self, mirror: &Mirror, frame: Frame, reason: DropReason) {
        mirror.counters.drops.add(reason, 1);
        self.out.pool.recycle(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::super::vlan::Stack;
    use super::*;

    fn mirror(name: &str, output: Output, select: Select) -> Mirror {
        Mirror { name: name.into(), select, output, snaplen: None, counters: Arc::default() }
    }

    fn bridges(mirrors: Vec<Mirror>) -> Vec<Option<Arc<Bridge>>> {
        vec![Some(Arc::new(Bridge { mirrors, ..Bridge::new(BridgeId(0)) }))]
    }

    #[test]
    fn ports_know_who_selects_them() {
        let one = |port| BTreeSet::from([PortId(port)]);
        let mirrors = [
            mirror("a", Output::Port(PortId(9)), Select { arriving: one(1), ..Select::default() }),
            mirror(
                "b",
                Output::Vlan(VlanId::UNTAGGED),
                Select { leaving: one(1), arriving: one(2), ..Select::default() },
            ),
            mirror("c", Output::Port(PortId(8)), Select { all: true, ..Select::default() }),
        ];
        let of = |port| PortMirrors::of(PortId(port), &mirrors);
        assert_eq!(of(1), PortMirrors { arriving: 0b101, leaving: 0b110, output: false });
        assert_eq!(of(2), PortMirrors { arriving: 0b110, leaving: 0b100, output: false });
        assert_eq!(of(3), PortMirrors { arriving: 0b100, leaving: 0b100, output: false });
        for output in [8, 9] {
            assert_eq!(of(output), PortMirrors { arriving: 0, leaving: 0, output: true });
        }
    }

    #[test]
    fn copies_that_wait_stay_with_their_mirror_or_go_with_it() {
        let to = |name| mirror(name, Output::Port(PortId(9)), Select::default());
        let (a, b) = (to("a"), to("b"));
        let mut copies = Copies::default();
        for (i, len) in [(0, 60), (1, 9000), (0, 5000)] {
            let mut frame = Frame::from_bytes(&vec![0; len]);
            frame.meta.mirror = number(i);
            let tagging = Tagging { vlan: VlanId::UNTAGGED, tag: None, stack: Stack::Plain, below: 0 };
            copies.push(Waiting { frame, tagging, bridge: BridgeId(0) });
        }
        assert_eq!(copies.room, ROOM - LEAST - 9000 - 5000);
        copies.adopt(&bridges(vec![a.clone(), b.clone()]), &bridges(vec![to("new"), b.clone()]));
        assert_eq!((a.counters.drops.get(DropReason::PortDown), b.counters.drops.total()), (2, 0));
        assert_eq!(copies.room, ROOM - 9000);
        copies.adopt(&bridges(vec![a, b.clone()]), &bridges(vec![b.clone()]));
        let left = copies.pop().unwrap();
        assert_eq!((left.frame.len(), left.frame.meta.mirror), (9000, number(0)), "its number is another one now");
        assert!(copies.is_empty() && copies.room == ROOM);
        copies.push(left);
        copies.adopt(&bridges(vec![b.clone()]), &[None]);
        assert_eq!((b.counters.drops.total(), copies.room), (1, ROOM));
    }
}
