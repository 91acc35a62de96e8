//! What a mirror costs the flow that it copies: TCP between two pods on one bridge, with and without, in turns.
//!
//! The mirror copies both ways of the flow to an internal port, cut to wire size and with finished checksums. It should
//! leave the flow at least two thirds of its throughput; what it cannot copy in its share of the time it drops, and how
//! much that was is told beside the figures.
//! Usage: `mirrored [ROUNDS [SECONDS]]`, by default 5 rounds of 2-second transfers.
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use std::thread;
use std::time::Duration;
use vswitch_benches::{Pair, median, table};
use vswitch_tests::netns::Lab;

fn main() {
    let mut numbers = std::env::args().skip(1).map(|a| a.parse::<u32>().expect("usage: mirrored [ROUNDS [SECONDS]]"));
    let (rounds, seconds) = (numbers.next().unwrap_or(5) as usize, numbers.next().unwrap_or(2));
    let Some(lab) = Lab::open() else { std::process::exit(1) };
    let host = lab.host("host");
    let pods = [1, 2].map(|n| lab.pod(&format!("pod{n}"), &host, &format!("p{n}"), &format!("10.0.0.{n}/24")));
    host.vsctl("add-br br0 -- add-port br0 p1 -- add-port br0 p2 -- add-port br0 mon type=internal");
    host.vsctl("set open_vswitch . other_config:stats-update-interval=500");
    host.run("ip link set mon up");
    pods[0].reaches("10.0.0.2");
    let tcp = || pods[0].tcp(&pods[1], "10.0.0.2", seconds) / 1e9;

    let create = "--id=@p1 get port p1 -- --id=@mon get port mon -- --id=@m create mirror name=m0 \
         select_src_port=@p1 select_dst_port=@p1 output_port=@mon";
    let mut copies = Vec::new();
    let mirrored = || {
        host.vsctl(&format!("-- {create} -- set bridge br0 mirrors=@m"));
        let rate = tcp();
        // Until the last statistics are written.
        thread::sleep(Duration::from_secs(1));
        copies.push(host.vsctl("get mirror m0 statistics").trim().to_owned());
        host.vsctl("clear bridge br0 mirrors");
        rate
    };
    let pair = Pair::in_turns(rounds, mirrored, tcp);
    let number = |x: f64| format!("{x:.1}");
    let all = |values: &[f64]| values.iter().map(|&x| number(x)).collect::<Vec<_>>().join(" ");
    let head = ["", "mirrored", "not", "ratio", "mirrored rounds", "the others"].map(str::to_owned).to_vec();
    let (with, without) = (number(median(&pair.ours)), number(median(&pair.theirs)));
    let what = "TCP on one bridge, Gbit/s".to_owned();
    let row = vec![what, with, without, format!("{:.2}", pair.ratio()), all(&pair.ours), all(&pair.theirs)];
    println!("{}", table(&[head, row]));
    println!("copies of each mirrored round:\n{}", copies.join("\n"));
}
