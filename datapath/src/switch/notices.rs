//! What somebody who forwards for the switch has to know: which flows go one way, whatever is in their frames, and when
//! that is over. Frames that he takes are never seen here, so he says now and then which flows go on ([`Switch::renew`]).
//!
//! A flow is told of when it is decided on for the second time: it has gone on for longer than [`TRIAL`], or was known before
//! everything was forgotten. So of a flood of addresses nothing is told.

use super::Switch;
use super::flow_cache::{Flow, Verdict};
use super::mac_table::Lesson;
use crate::time::{Duration, Instant};
use crate::types::{BridgeId, MacAddr, Place, VlanId};

/// How long a new flow goes by its first verdict, if somebody wants to know of those that go on.
const TRIAL: Duration = Duration::from_millis(100);

/// A flow that goes one way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SteadyFlow {
    /// Its frames.
    pub flow: Flow,
    /// Their way.
    pub verdict: Verdict,
    /// The bridge that they cross.
    pub bridge: BridgeId,
    /// Who sends them.
    pub src: MacAddr,
    /// Who they are for.
    pub dst: MacAddr,
}

/// Something to know, in the order in which it happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// A flow goes one way, from now on.
    Steady(SteadyFlow),
    /// What rests on where this address is does not hold any more.
    Moved(BridgeId, VlanId, MacAddr),
    /// Nothing holds any more.
    AllChanged,
}

/// Those that nobody has taken yet.
#[derive(Debug, Default)]
pub struct Notices {
    /// Whether anybody wants any.
    wanted: bool,
    waiting: Vec<Notice>,
}

impl Notices {
    pub(super) fn add(&mut self, notice: Notice) {
        if self.wanted {
            self.waiting.push(notice);
        }
    }

    /// Tells of a flow that was decided on before; a new one is to be decided on again at the time that this returns.
    pub(super) fn consider(&mut self, flow: SteadyFlow, known: bool, now: Instant) -> Option<Instant> {
        if known {
            self.add(Notice::Steady(flow));
        }
        (self.wanted && !known).then(|| now + TRIAL)
    }
}

impl Switch {
    /// From now on somebody wants to know, or nobody does.
    pub fn want_notices(&mut self, wanted: bool) {
        self.notices = Notices { wanted, waiting: Vec::new() };
    }

    /// What there is to know since the last time; to be taken after every call that may change anything.
    pub fn notices(&mut self) -> &mut Vec<Notice> {
        &mut self.notices.waiting
    }

    /// Takes note that a flow that was told of goes on, if its sender was `heard` since the last time. Until when it holds;
    /// `None`: it does not any more.
    pub fn renew(&mut self, steady: &SteadyFlow, heard: bool, now: Instant) -> Option<Instant> {
        let SteadyFlow { flow, verdict, bridge, src, dst, .. } = *steady;
        let (vlan, from) = (verdict.tagging.vlan, Place::of(flow.port()));
        let to = Place { port: verdict.egress, remote: verdict.remote };
        let table = &mut self.learned(bridge)?.table;
        let until = table.go_on_relying(vlan, (src, from), (dst, to), now)?;
        if heard && table.learn(vlan, src, from, now) != Lesson::Fine {
            return None;
        }
        Some(until)
    }
}
