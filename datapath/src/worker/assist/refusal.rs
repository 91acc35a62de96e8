//! Why flows are not in the kernel's table: remembered for people, the last ones only.

use crate::switch::flow_cache::Flow;
use crate::switch::notices::SteadyFlow;
use crate::time::{Duration, Instant};
use crate::types::{MacAddr, PortId, VlanId};
use std::collections::VecDeque;

/// Flows remembered.
const MOST: usize = 64;

/// Why the kernel does not forward a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// The port is no network device that the kernel forwards for.
    NoDevice(PortId),
    /// The port has a rate limit.
    RateLimit(PortId),
    /// It is not known what the port carries.
    UnknownMtu(PortId),
    /// It has more tags than one, or priority tags that are kept.
    Tags,
    /// Its places in the table are taken.
    NoRoom,
    /// Too many flows were new at the same time; it will be tried again.
    TooMany,
}

/// A flow that goes through user space, for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftOut {
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
    /// Why.
    pub why: Why,
    /// How long ago that was found.
    pub age: Duration,
}

/// The last flows that were refused, the oldest first.
#[derive(Debug, Default)]
pub struct Refusals(VecDeque<(SteadyFlow, Why, Instant)>);

impl Refusals {
    pub fn note(&mut self, flow: &SteadyFlow, why: Why, now: Instant) {
        self.forget(flow);
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back((*flow, why, now));
    }

    /// The flow is refused no more.
    pub fn forget(&mut self, flow: &SteadyFlow) {
        let is_it = |known: Flow| known == flow.flow;
        if let Some(at) = self.0.iter().position(|(known, ..)| is_it(known.flow)) {
            self.0.remove(at);
        }
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    pub fn report(&self, now: Instant) -> Vec<LeftOut> {
        let left_out = |&(flow, why, at): &(SteadyFlow, Why, Instant)| LeftOut {
            ingress: flow.flow.port(),
            egress: flow.verdict.egress,
            vlan: flow.verdict.tagging.vlan,
            src: flow.src,
            dst: flow.dst,
            why,
            age: now - at,
        };
        self.0.iter().map(left_out).collect()
    }
}
