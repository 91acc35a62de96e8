//! What was measured: for each peer and workload, the figures of every round.

use super::load::Workload;
use super::{CABLE, Group, PEERS, Peer};
use crate::median;

/// The figures of one peer under one workload.
struct Row {
    peer: &'static str,
    workload: Workload,
    /// One of each metric for every round.
    rounds: Vec<Vec<f64>>,
}

/// Something that could not be measured.
#[derive(Debug, PartialEq)]
pub struct Missing {
    /// The peer's name.
    pub peer: &'static str,
    /// The workload; `None` where the peer isn't there at all.
    pub workload: Option<Workload>,
    /// Why.
    pub why: String,
}

/// A metric of one peer over the rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// What ours is to this one, as the ratio of the medians; `None` where it tells nothing.
    pub ratio: Option<f64>,
}

/// Everything measured so far.
#[derive(Default)]
pub struct Results {
    rows: Vec<Row>,
    /// What could not be, each once.
    pub missing: Vec<Missing>,
    /// The offloads of each peer's ends.
    pub offloads: Vec<(&'static str, String)>,
}

impl Results {
    /// Notes the outcome of a round.
    pub fn add(&mut self, peer: &'static Peer, workload: Workload, outcome: Result<Vec<f64>, String>) {
        match outcome {
            Ok(figures) => match self.rows.iter_mut().find(|row| row.peer == peer.name && row.workload == workload) {
                Some(row) => row.rounds.push(figures),
                None => self.rows.push(Row { peer: peer.name, workload, rounds: vec![figures] }),
            },
            Err(why) => self.miss(peer, Some(workload), why),
        }
    }

    /// Notes that something could not be measured, once however often it is said.
    pub fn miss(&mut self, peer: &'static Peer, workload: Option<Workload>, why: String) {
        let known = self.missing.iter().any(|m| m.peer == peer.name && m.workload == workload);
        if !known {
            self.missing.push(Missing { peer: peer.name, workload, why });
        }
    }

    /// Whether the peer could not be had.
    #[must_use]
    pub fn lacks(&self, peer: &Peer) -> bool {
        self.missing.iter().any(|m| m.peer == peer.name && m.workload.is_none())
    }

    /// The peers of a group that have figures of the workload.
    pub fn measured(&self, group: Group, workload: Workload) -> impl Iterator<Item = &'static Peer> {
        PEERS.iter().filter(move |peer| peer.group == group && !self.rounds(peer.name, workload, 0).is_empty())
    }

    /// The figures of a metric, by its place among the workload's, round by round.
    #[must_use]
    pub fn rounds(&self, peer: &str, workload: Workload, metric: usize) -> Vec<f64> {
        let row = self.rows.iter().find(|row| row.peer == peer && row.workload == workload);
        row.iter().flat_map(|row| &row.rounds).filter_map(|figures| figures.get(metric).copied()).collect()
    }

    /// The same in short; `None` where there is nothing, such as the CPU time of processes where a switch has none.
    #[must_use]
    pub fn summary(&self, peer: &Peer, workload: Workload, metric: usize) -> Option<Summary> {
        if workload.metrics()[metric].of_processes && !peer.has_processes {
            return None;
        }
        let values = self.rounds(peer.name, workload, metric);
        let (min, max) = (values.iter().copied().reduce(f64::min)?, values.iter().copied().reduce(f64::max)?);
        let ours = PEERS.iter().find(|other| other.group == peer.group && other.is_ours(workload))?;
        let (ours, median) = (median(&self.rounds(ours.name, workload, metric)), median(&values));
        let ratio = (ours > 0.0 && median > 0.0).then(|| ours / median);
        Some(Summary { median, min, max, ratio })
    }

    /// Whether a peer's packet rate is so near that of the generator that it may be the generator's: what that reached in
    /// the same rounds where this was counted, else what arrives without a switch.
    #[must_use]
    pub fn is_limited_by_generator(&self, peer: &Peer, workload: Workload) -> bool {
        let offered = workload.metrics().iter().position(|metric| metric.key == "offered");
        let figure = |name, metric| median(&self.rounds(name, workload, metric));
        let generator = match (workload, offered) {
            (_, Some(offered)) => figure(peer.name, offered),
            (Workload::Packets | Workload::Flood, None) if peer.name != CABLE => figure(CABLE, 0),
            _ => return false,
        };
        figure(peer.name, 0) * 1.5 > generator
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn peer(name: &str) -> &'static Peer {
        PEERS.iter().find(|peer| peer.name == name).expect("a peer")
    }

    /// Three rounds of packets: ours twice as fast as Open vSwitch, the bridge near the generator.
    pub fn results() -> Results {
        let mut results = Results::default();
        for round in [0.0, 0.02, -0.02] {
            for (name, rate) in [("vswitch", 0.2), (CABLE, 0.9), ("bridge", 0.7), ("ovs", 0.1)] {
                results.add(peer(name), Workload::Packets, Ok(vec![rate + round, 2.0, 1.0, 4.0]));
            }
            results.add(peer("ovs"), Workload::Tcp, Err("TCP stalls".to_owned()));
        }
        results.miss(peer("testpmd"), None, "no dpdk-testpmd".to_owned());
        results
    }

    #[test]
    fn medians_spread_and_ratios() {
        let results = results();
        let ovs = results.summary(peer("ovs"), Workload::Packets, 0).expect("figures");
        assert_eq!((ovs.median, ovs.min, ovs.max), (0.1, 0.1 - 0.02, 0.1 + 0.02));
        assert_eq!(ovs.ratio.map(|r| (r * 10.0).round()), Some(20.0));
        assert_eq!(results.summary(peer("vswitch"), Workload::Tcp, 0), None);
        let names: Vec<&str> = results.measured(Group::OneHost, Workload::Packets).map(|p| p.name).collect();
        assert_eq!(names, ["vswitch", CABLE, "bridge", "ovs"]);
    }

    #[test]
    fn what_fails_is_told_once() {
        let results = results();
        let missing: Vec<_> = results.missing.iter().map(|m| (m.peer, m.workload)).collect();
        assert_eq!(missing, [("ovs", Some(Workload::Tcp)), ("testpmd", None)]);
        assert!(results.lacks(peer("testpmd")) && !results.lacks(peer("ovs")));
    }

    #[test]
    fn the_generator_s_limit_is_marked() {
        let results = results();
        let marked = ["vswitch", CABLE, "bridge", "ovs"]
            .map(|name| results.is_limited_by_generator(peer(name), Workload::Packets));
        assert_eq!(marked, [false, false, true, false]);
        let mut results = Results::default();
        for (name, offered) in [("afxdp", 1.6), ("testpmd", 1.4)] {
            results.add(peer(name), Workload::Overload, Ok(vec![1.0, 1.0, 1.0, 2.0, offered]));
        }
        let marked = ["afxdp", "testpmd"].map(|name| results.is_limited_by_generator(peer(name), Workload::Overload));
        assert_eq!(marked, [false, true], "by what the generator offered to each");
    }
}
