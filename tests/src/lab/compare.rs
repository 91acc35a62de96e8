//! What happened against what was expected.

use super::describe::{describe, first_difference};
use super::{Lab, Packet};
use datapath::packet::{ChecksumState, Frame, Gso};
use std::collections::{BTreeMap, BTreeSet};

impl Lab {
    /// Every packet that left against those expected, port by port.
    pub(super) fn compare_packets(&mut self, expected: &BTreeMap<&str, Vec<Packet>>) -> Vec<String> {
        let mut left: BTreeMap<&str, Vec<Frame>> = BTreeMap::new();
        for (port, frame) in self.take_outgoing() {
            left.entry(port).or_default().push(frame);
        }
        let ports: BTreeSet<_> = expected.keys().chain(left.keys()).copied().collect();
        let mut differences = vec![];
        for port in ports {
            let expected: Vec<_> = expected.get(port).into_iter().flatten().map(Packet::frame).collect();
            let tunnel = self.members[self.index(port)].spec.tunnel.is_some();
            compare_port(port, tunnel, &expected, &left.remove(port).unwrap_or_default(), &mut differences);
        }
        differences
    }

    /// Every counter's growth against that expected; from now on growth is counted from here.
    pub(super) fn compare_counters(&mut self, expected: &BTreeMap<String, u64>) -> Vec<String> {
        let now = self.counters();
        let names: BTreeSet<_> = now.keys().chain(expected.keys()).collect();
        let differences = names.into_iter().filter_map(|name| {
            let of = |map: &BTreeMap<String, u64>| map.get(name).copied().unwrap_or_default();
            let (wanted, got) = (of(expected), of(&now) - of(&self.before));
            (wanted != got).then(|| format!("counter {name}: expected +{wanted}, got +{got}"))
        });
        let differences = differences.collect();
        self.before = now;
        differences
    }
}

/// What is owed to a frame that leaves by an ordinary port: what was verified or not is all the same then.
fn owed(frame: &Frame) -> (ChecksumState, Option<Gso>) {
    let csum = if frame.meta.csum == ChecksumState::Valid { ChecksumState::None } else { frame.meta.csum };
    (csum, frame.meta.gso)
}

fn compare_port(port: &str, tunnel: bool, expected: &[Frame], left: &[Frame], differences: &mut Vec<String>) {
    for i in 0..expected.len().max(left.len()) {
        match (expected.get(i), left.get(i)) {
            (Some(e), Some(l)) if e.bytes() == l.bytes() && (tunnel || owed(e) == owed(l)) => {}
            (Some(e), Some(l)) => {
                let (e_line, l_line) = (describe(e), describe(l));
                differences.push(format!("{port}, packet {i}: expected {e_line}"));
                differences.push(format!("{:1$}       got {l_line}", "", port.len() + 6));
                differences.extend(first_difference(e.bytes(), l.bytes()));
            }
            (Some(e), None) => differences.push(format!("{port}, packet {i}: expected {}, got none", describe(e))),
            (None, Some(l)) => differences.push(format!("{port}, packet {i}: unlisted: {}", describe(l))),
            (None, None) => {}
        }
    }
}
