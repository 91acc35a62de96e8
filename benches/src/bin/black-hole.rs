//! TCP through a tunnel that is too small for the pods: 1500 bytes in the pods and on the underlay, no ICMP heard, against
//! the same with pods that fit. Open vSwitch's userspace datapath beside it.
//!
//! A sender that ignores ICMP, or a switch that sends none, makes a black hole: the connection opens, and nothing large
//! comes through. `vswitch` cuts TCP to fit, which should leave it 80 % of the throughput at least.
//!
//! Open vSwitch runs from the unpacked Debian packages (`tests/setup.sh test`), with offloads off in its pods, without which
//! no TCP connects. Usage: `black-hole [ROUNDS [SECONDS]]`, by default 5 rounds of 2-second transfers.
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use vswitch_benches::{Pair, median, table};
use vswitch_tests::netns::{Lab, Space};
use vswitch_tests::ovs::Ovs;
use vswitch_tests::tunnel_pair::{OvsEnd, PODS, PODS6, Underlay, tight_pair};

/// The tunnels: name, settings as words of `add-port`, the same for Open vSwitch's Interface, and what they carry.
const TUNNELS: [(&str, &str, &str, u32); 2] =
    [("VXLAN", "type=vxlan key=5000", "type=vxlan options:key=5000", 1450), ("GRE", "type=gre", "type=gre", 1462)];

fn main() {
    let mut numbers = std::env::args().skip(1).map(|a| a.parse::<u32>().expect("usage: black-hole [ROUNDS [SECONDS]]"));
    let (rounds, seconds) = (numbers.next().unwrap_or(5) as usize, numbers.next().unwrap_or(2));
    let Some(ovs) = Ovs::find() else { std::process::exit(1) };
    println!("TCP in Gbit/s, {rounds} rounds of {seconds} s each; medians\n");
    let mut rows = vec![["", "too large", "fitting", "ratio", "its rounds", "the others"].map(str::to_owned).to_vec()];
    for (name, ours, theirs, mtu) in TUNNELS {
        let Some((_hosts, pods, _lab)) = tight_pair(Underlay::V4, ours) else { std::process::exit(1) };
        for (version, address) in [("IPv4", PODS[1]), ("IPv6", PODS6[1])] {
            let pair = compare(&pods, address, mtu, rounds, seconds);
            rows.push(row(&format!("vswitch, {version} in {name}"), &pair));
        }
        let Some(lab) = Lab::open() else { std::process::exit(1) };
        let hosts = [lab.space("ovs1"), lab.space("ovs2")];
        lab.cable(&hosts[0], "eth0", &hosts[1], "eth0");
        let ends = [0, 1].map(|n| OvsEnd::new(&lab, &ovs, &hosts[n], n, Underlay::V4, theirs));
        let pods = ends.each_ref().map(|end| end.pod.clone());
        pods[0].reaches(PODS[1]);
        // What is 0 needs no median.
        rows.push(row(&format!("Open vSwitch, IPv4 in {name}"), &compare(&pods, PODS[1], mtu, 1, seconds)));
    }
    println!("{}", table(&rows));
}

/// TCP between pods that are too large, and between the same pods at `mtu`, in turns. Neither hears ICMP.
fn compare(pods: &[Space; 2], address: &str, mtu: u32, rounds: usize, seconds: u32) -> Pair {
    for pod in pods {
        pod.run("iptables -A INPUT -p icmp -j DROP");
        pod.run("ip6tables -A INPUT -p icmpv6 --icmpv6-type packet-too-big -j DROP");
    }
    let at = |mtu: u32| {
        for pod in pods {
            pod.run(&format!("ip link set eth0 mtu {mtu}"));
        }
        pods[0].tcp(&pods[1], address, seconds) / 1e9
    };
    Pair::in_turns(rounds, || at(1500), || at(mtu))
}

/// A line of the table.
fn row(what: &str, pair: &Pair) -> Vec<String> {
    let number = |x: f64| format!("{x:.2}");
    let all = |values: &[f64]| values.iter().map(|&x| number(x)).collect::<Vec<_>>().join(" ");
    let (large, fitting) = (number(median(&pair.ours)), number(median(&pair.theirs)));
    vec![what.to_owned(), large, fitting, number(pair.ratio()), all(&pair.ours), all(&pair.theirs)]
}
