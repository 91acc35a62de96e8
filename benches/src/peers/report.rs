//! The results as text and as JSON.

use super::load::Workload;
use super::results::Results;
use super::{Group, PEERS, Peer};
use crate::table;
use serde_json::{Value, json};

/// The groups in the order of the report.
pub const GROUPS: [Group; 4] = [Group::OneHost, Group::Mirrored, Group::Vxlan, Group::Gre];

/// Every table, then what could not be measured.
#[must_use]
pub fn text(results: &Results) -> String {
    let mut out = String::new();
    for workload in Workload::ALL {
        for group in GROUPS {
            let peers: Vec<&Peer> = results.measured(group, workload).collect();
            if !peers.is_empty() {
                out += &format!("{}, {}\n", workload.title(), group.title());
                out += &table(&rows(results, workload, &peers));
                out.push('\n');
            }
        }
    }
    let is_marked = |peer: &Peer| Workload::ALL.iter().any(|&w| results.is_limited_by_generator(peer, w));
    if PEERS.iter().any(is_marked) {
        out += "* the generator reaches less than 1.5 times this: the figure may be the generator's\n\n";
    }
    for missing in &results.missing {
        let what = missing.workload.map_or("left out".to_owned(), |workload| format!("{}: failed", workload.title()));
        out += &format!("{}: {what}: {}\n", missing.peer, missing.why.trim());
    }
    out
}

/// A head and a line for each peer. The first metric with its spread and ours to theirs, the others by their medians.
fn rows(results: &Results, workload: Workload, peers: &[&Peer]) -> Vec<Vec<String>> {
    let (first, others) = (&workload.metrics()[0], &workload.metrics()[1..]);
    let mut head = vec![String::new(), first.unit.to_owned(), "from – to".to_owned(), "vswitch : it".to_owned()];
    head.extend(others.iter().map(|metric| format!("{}, {}", metric.title, metric.unit)));
    if workload == Workload::Latency {
        head[1] = format!("{}, {}", first.title, first.unit);
    }
    let mut rows = vec![head];
    for peer in peers {
        let Some(main) = results.summary(peer, workload, 0) else { continue };
        let mark = if results.is_limited_by_generator(peer, workload) { "*" } else { "" };
        let spread = format!("{} – {}", number(main.min), number(main.max));
        let ratio = main.ratio.map_or("–".to_owned(), |ratio| format!("{ratio:.2}"));
        let mut row = vec![peer.title.to_owned(), format!("{}{mark}", number(main.median)), spread, ratio];
        let medians = (1..=others.len()).map(|n| results.summary(peer, workload, n).map(|s| s.median));
        row.extend(medians.map(|median| median.map_or("–".to_owned(), number)));
        rows.push(row);
    }
    rows
}

/// A number with three digits that count.
#[must_use]
pub fn number(x: f64) -> String {
    match x.abs() {
        0.0 => "0".to_owned(),
        a if a < 1.0 => format!("{x:.3}"),
        a if a < 10.0 => format!("{x:.2}"),
        a if a < 100.0 => format!("{x:.1}"),
        _ => format!("{x:.0}"),
    }
}

/// All figures of all rounds, with `head` telling where they come from.
#[must_use]
pub fn json(results: &Results, head: &[(&str, String)]) -> Value {
    let mut rows = Vec::new();
    for workload in Workload::ALL {
        for peer in GROUPS.into_iter().flat_map(|group| results.measured(group, workload)) {
            for (n, metric) in workload.metrics().iter().enumerate() {
                let Some(summary) = results.summary(peer, workload, n) else { continue };
                rows.push(json!({
                    "peer": peer.name, "title": peer.title, "group": peer.group.title(),
                    "workload": workload.name(), "metric": metric.key, "unit": metric.unit,
                    "rounds": results.rounds(peer.name, workload, n),
                    "median": summary.median, "min": summary.min, "max": summary.max, "vswitch_to_it": summary.ratio,
                    "limited_by_generator": results.is_limited_by_generator(peer, workload),
                }));
            }
        }
    }
    let missing = results
        .missing
        .iter()
        .map(|m| json!({ "peer": m.peer, "workload": m.workload.map(Workload::name), "why": m.why }));
    let head: serde_json::Map<String, Value> = head.iter().map(|(k, v)| ((*k).to_owned(), json!(v))).collect();
    let offloads: serde_json::Map<String, Value> =
        results.offloads.iter().map(|(peer, told)| ((*peer).to_owned(), json!(told))).collect();
    json!({ "head": head, "offloads": offloads, "rows": rows, "missing": missing.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::super::results::tests::results;
    use super::*;

    #[test]
    fn tables_marks_and_what_is_missing() {
        let expected = "\
frames of 64 B, one flow, two pods on one host
                             Mpps       from – to   vswitch : it   CPU of the switch, s/Mpkt   CPU of softirqs, s/Mpkt   CPU of the machine, s/Mpkt
vswitch                     0.200   0.180 – 0.220           1.00                        2.00                      1.00                         4.00
no switch: one veth pair    0.900   0.880 – 0.920           0.22                           –                      1.00                         4.00
Linux bridge               0.700*   0.680 – 0.720           0.29                           –                      1.00                         4.00
OVS userspace, AF_PACKET    0.100   0.080 – 0.120           2.00                        2.00                      1.00                         4.00

* the generator reaches less than 1.5 times this: the figure may be the generator's

ovs: TCP, 1 flow: failed: TCP stalls
testpmd: left out: no dpdk-testpmd
";
        assert_eq!(text(&results()), expected);
    }

    #[test]
    fn numbers_have_three_digits() {
        assert_eq!([0.0, 0.01234, 1.234, 12.34, 1234.5].map(number), ["0", "0.012", "1.23", "12.3", "1234"]);
    }

    #[test]
    fn json_holds_every_round() {
        let json = json(&results(), &[("kernel", "6.18".to_owned())]);
        assert_eq!(json["head"]["kernel"], "6.18");
        let row = &json["rows"][0];
        assert_eq!((&row["peer"], &row["metric"]), (&"vswitch".into(), &"rate".into()));
        assert_eq!(row["rounds"].as_array().map(Vec::len), Some(3));
        assert_eq!(json["rows"].as_array().map(Vec::len), Some(14), "no CPU time of processes for the kernel's");
        assert_eq!(json["missing"][1]["why"], "no dpdk-testpmd");
    }
}
