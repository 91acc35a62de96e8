//! `vswitch` beside the Linux bridge and the kernel's VXLAN, on the same machine in the same minutes.
//!
//! Pods and hosts are network namespaces joined by veth pairs with their default offloads; nobody runs ethtool. Each
//! comparison takes turns (ours, theirs, ours, theirs …) and reports the medians and their ratio.
//! Usage: `side-by-side [ROUNDS [SECONDS]]`, by default 5 rounds of 2-second transfers.
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use std::fs;
use std::thread;
use std::time::Duration;
use vswitch_benches::peers::cpu::spent_on;
use vswitch_benches::peers::{Stage, linux, ours};
use vswitch_benches::{Pair, median, table};
use vswitch_tests::netns::{Lab, Space};
use vswitch_tests::two_hosts::TwoHosts;

fn main() {
    let mut numbers =
        std::env::args().skip(1).map(|a| a.parse::<u32>().expect("usage: side-by-side [ROUNDS [SECONDS]]"));
    let (rounds, seconds) = (numbers.next().unwrap_or(5) as usize, numbers.next().unwrap_or(2));
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("{cores} cores, Linux {}; {rounds} rounds of {seconds} s each; medians\n", kernel.trim());
    let (Some(lab), Some(other), Some(third)) = (Lab::open(), Lab::open(), Lab::open()) else { std::process::exit(1) };
    let labs = [lab, other, third];

    let mut rows =
        vec![["", "vswitch", "Linux", "ratio", "vswitch's rounds", "Linux's rounds"].map(str::to_owned).to_vec()];
    let [idle, idle_assisted] = one_bridge(&labs, rounds, seconds, &mut rows);
    let Some(ours) = TwoHosts::open() else { std::process::exit(1) };
    two_hosts(&labs[0], &ours, rounds, seconds, &mut rows);
    println!("{}", table(&rows));
    println!("CPU of an idle vswitch over 10 s: {idle:.1} %, with assist=true {idle_assisted:.1} %");
}

/// Two pods on one bridge: TCP, round trips, and what the switch uses when nothing happens (in percent of a core), without
/// and with the kernel forwarding known flows by itself.
fn one_bridge(labs: &[Lab; 3], rounds: usize, seconds: u32, rows: &mut Vec<Vec<String>>) -> [f64; 2] {
    let build = [ours::one_host, ours::assisted, linux::bridge];
    let [plain, assisted, theirs] = std::array::from_fn(|i| build[i](&labs[i]).expect("a lab"));
    let tcp = |stage: &Stage| stage.ends[0].tcp(&stage.ends[1], &stage.address, seconds) / 1e9;
    let ping = |stage: &Stage| round_trip(&stage.ends[0], &stage.address);
    for (ours, how) in [(&plain, ""), (&assisted, ", assist=true")] {
        let pair = Pair::in_turns(rounds, || tcp(ours), || tcp(&theirs));
        rows.push(row(&format!("TCP on one bridge{how}, Gbit/s"), &pair));
        let pair = Pair::in_turns(rounds.min(3), || ping(ours), || ping(&theirs));
        rows.push(row(&format!("ping on one bridge{how}, µs"), &pair));
    }
    thread::sleep(Duration::from_secs(1));
    [plain, assisted].map(|ours| {
        let ((), spent) = spent_on(&ours.switch, || thread::sleep(Duration::from_secs(10)));
        100.0 * spent.switch / 10.0
    })
}

/// A pod on each of two hosts, a tunnel between the hosts.
fn two_hosts(lab: &Lab, ours: &TwoHosts, rounds: usize, seconds: u32, rows: &mut Vec<Vec<String>>) {
    ours.configure();
    let hosts = ["kernel1", "kernel2"].map(|name| lab.space(name));
    lab.cable(&hosts[0], "eth0", &hosts[1], "eth0");
    let theirs = linux::vxlan_hosts(lab, &hosts);
    ours.a[0].reaches("192.168.60.12");
    theirs[0].reaches("192.168.60.12");
    let tcp = |pods: &[Space; 2]| pods[0].tcp(&pods[1], "192.168.60.12", seconds) / 1e9;
    let pair = Pair::in_turns(rounds, || tcp(&ours.a), || tcp(&theirs));
    rows.push(row("TCP over VXLAN, MTU 1500 everywhere, Gbit/s", &pair));
    for pod in ours.a.iter().chain(&theirs) {
        pod.run("ip link set eth0 mtu 1450");
    }
    let pair = Pair::in_turns(rounds, || tcp(&ours.a), || tcp(&theirs));
    rows.push(row("TCP over VXLAN, pods at MTU 1450, Gbit/s", &pair));
    let ping = |pods: &[Space; 2]| round_trip(&pods[0], "192.168.60.12");
    let pair = Pair::in_turns(rounds.min(3), || ping(&ours.a), || ping(&theirs));
    rows.push(row("ping over VXLAN, µs", &pair));
}

/// The mean round trip of 500 pings, in µs.
fn round_trip(from: &Space, address: &str) -> f64 {
    let text = from.run(&format!("ping -q -i 0.002 -c 500 {address}"));
    let mean = text.lines().find_map(|l| l.strip_prefix("rtt ")?.split(['=', '/']).nth(5)?.trim().parse::<f64>().ok());
    1000.0 * mean.unwrap_or_else(|| panic!("no mean in {text}"))
}

/// A line of the table.
fn row(what: &str, pair: &Pair) -> Vec<String> {
    let number = |x: f64| if x < 100.0 { format!("{x:.1}") } else { format!("{x:.0}") };
    let all = |values: &[f64]| values.iter().map(|&x| number(x)).collect::<Vec<_>>().join(" ");
    let (ours, theirs) = (number(median(&pair.ours)), number(median(&pair.theirs)));
    vec![what.to_owned(), ours, theirs, format!("{:.2}", pair.ratio()), all(&pair.ours), all(&pair.theirs)]
}
