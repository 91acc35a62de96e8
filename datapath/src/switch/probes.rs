//! Probes through tunnels ([`crate::tunnel::probe`]): sent when control asks, answered at the other end, never forwarded.
//!
//! Three go to each remote end, so that what comes back tells which way a length does not pass: a short one, one of the
//! length that the tunnel is said to carry with a short answer, and one with an answer of that length, too. An end is
//! answered ten times a second at most, whatever it sends, and only with what itself was able to send.

use super::bucket::{Bucket, Tokens};
use super::pipeline::Walk;
use super::state::{Port, Snapshot};
use super::verdict::DropReason;
use crate::packet::Frame;
use crate::time::Instant;
use crate::tunnel::probe::{self, Kind, MIN_LEN, Probe};
use crate::types::{L3Mtu, Place, PortId};
use crate::wire::ethernet;
use std::collections::HashMap;

/// Answers to one remote end, a second and at once.
const ANSWERS: Tokens = Tokens { rate: 10, burst: 10 };
/// The most remote ends that are probed at once.
pub const MAX_ENDS: usize = 256;

/// What came back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The bytes that arrived at the other end.
    pub received: u16,
    /// The bytes of the answer.
    pub len: u16,
    /// Whether both arrived unchanged.
    pub intact: bool,
}

/// What is known of the way to one remote end, which frames of `len` bytes are to pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probed {
    /// The end.
    pub place: Place,
    /// What the tunnel is said to carry.
    pub mtu: L3Mtu,
    /// The same as the length of a frame.
    pub len: u16,
    /// The answers to the short probe, to the long one, and to the long one with a long answer.
    pub answers: [Option<Answer>; 3],
}

/// The answers that workers have got to the same probes, put together.
#[must_use]
pub fn merge(workers: impl IntoIterator<Item = Vec<Probed>>) -> Vec<Probed> {
    let mut workers = workers.into_iter();
    let mut all = workers.next().unwrap_or_default();
    for other in workers.flatten() {
        for end in all.iter_mut().filter(|end| end.place == other.place) {
            end.answers.iter_mut().zip(other.answers).for_each(|(answer, other)| *answer = answer.or(other));
        }
    }
    all
}

/// The probes of one worker.
#[derive(Debug, Default)]
pub struct Probes {
    /// Of the last request: the number of its first probe, three for each end.
    first_id: u64,
    ends: Vec<Probed>,
    /// How many of `ends`, the first ones, are still to be sent theirs.
    unsent: usize,
    answered: HashMap<Place, Bucket>,
}

impl Probes {
    /// Has the remote ends of these ports probed as soon as possible, under numbers from `first_id` on: by this worker if
    /// it is to `send`, else its part is to take answers. Forgets what came of the last time.
    pub fn order(&mut self, snap: &Snapshot, ports: &[PortId], first_id: u64, send: bool) {
        let ends = ports.iter().filter_map(|&port| snap.port(port)).flat_map(|port| ends(port));
        self.ends = ends.take(MAX_ENDS).collect();
        (self.first_id, self.unsent) = (first_id, if send { self.ends.len() } else { 0 });
    }

    /// What came of the last order so far.
    #[must_use]
    pub fn results(&self) -> &[Probed] {
        &self.ends
    }

    /// Whether some are still to be sent.
    #[must_use]
    pub fn wait(&self) -> bool {
        self.unsent > 0
    }

    /// Forgets the ends that are gone.
    pub fn adopt(&mut self, snap: &Snapshot) {
        self.answered.retain(|place, _| snap.port(place.port).is_some());
    }

    fn may_answer(&mut self, place: Place, now: Instant) -> bool {
        self.answered.entry(place).or_insert_with(|| Bucket::new(ANSWERS, now)).pass(1, now)
    }

    /// Takes note of an answer to one of ours that came from where it was sent to.
    fn note(&mut self, place: Place, id: u64, answer: Answer) {
        let number = usize::try_from(id.wrapping_sub(self.first_id)).unwrap_or(usize::MAX);
        if let Some(end) = self.ends.get_mut(number / 3).filter(|end| end.place == place) {
            end.answers[number % 3] = Some(answer);
        }
    }
}

/// The remote ends of a tunnel whose MTU is known.
fn ends(port: &Port) -> impl Iterator<Item = Probed> {
    // A layer-3 tunnel carries no frames, so no probes.
    let tunnel = port.tunnel.as_ref().zip(port.mtu).filter(|_| port.up && !port.is_layer3());
    tunnel.into_iter().flat_map(move |(tunnel, mtu)| {
        let len = frame_len(mtu);
        tunnel.ends().map(move |(remote, _)| Probed {
            place: Place { port: port.id, remote },
            mtu,
            len,
            answers: [None; 3],
        })
    })
}

/// The length of the longest frame that carries packets of this size, as far as a probe can have it.
fn frame_len(mtu: L3Mtu) -> u16 {
    u16::try_from(mtu.0 as usize + ethernet::HEADER_LEN).unwrap_or(u16::MAX).max(MIN_LEN as u16)
}

impl Walk<'_> {
    /// Sends the probes that were asked for, to one end at a time. Equal datagrams that leave one after the other leave in
    /// one run, which passes where each alone does not; so the short one goes between the long ones, and the next end's
    /// with the next batch.
    pub(super) fn send_probes(&mut self) {
        let Some(at) = self.probes.unsent.checked_sub(1) else { return };
        self.probes.unsent = at;
        let Probed { place, len, .. } = self.probes.ends[at];
        let first_id = self.probes.first_id.wrapping_add(3 * at as u64);
        let short = MIN_LEN as u16;
        for (n, len, answer) in [(1, len, short), (0, short, short), (2, len, len)] {
            self.send_probe(place, len, first_id.wrapping_add(n), Kind::Request { answer });
        }
    }

    /// Takes a probe off a tunnel: what it tells is noted, what it asks is answered into the same tunnel.
    pub(super) fn take_probe(&mut self, place: Place, frame: Frame, frames: u32) {
        let Some(port) = self.snap.port(place.port) else {
            return self.out.lose(frame, DropReason::PortDown, frames);
        };
        port.counters.count_received(&frame, frames);
        self.out.counters.merged.add(u64::from(frames) - 1);
        let (probe, len) = (probe::read(frame.bytes()), u16::try_from(frame.len()).unwrap_or(u16::MAX));
        self.out.discard(frame, &port.counters, if port.up { DropReason::Probe } else { DropReason::PortDown });
        match probe.filter(|_| port.up) {
            Some(Probe { id, kind: Kind::Request { answer }, intact }) if self.probes.may_answer(place, self.now) => {
                // No longer than what has arrived, nor than what the tunnel carries, so that something comes back.
                let answer = answer.min(len).min(port.mtu.map_or(u16::MAX, frame_len)).max(MIN_LEN as u16);
                self.send_probe(place, answer, id, Kind::Answer { received: len, intact });
            }
            Some(Probe { id, kind: Kind::Answer { received, intact: there }, intact: back }) => {
                self.probes.note(place, id, Answer { received, len, intact: there && back });
            }
            _ => {}
        }
    }

    fn send_probe(&mut self, place: Place, len: u16, id: u64, kind: Kind) {
        let Some(port) = self.snap.port(place.port).filter(|port| port.up) else { return };
        let mut frame = self.out.pool.alloc();
        frame.set_len(len.into());
        probe::write(frame.bytes_mut(), id, kind);
        frame.meta.remote = Some(place.remote);
        self.out.counters.generated.add(1);
        self.out.transmit(port, frame);
    }
}
