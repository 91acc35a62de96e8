//! 1,000 veth ports added one at a time, by `vsctl` to `vswitch` and by `ovs-vsctl` to Open vSwitch's userspace datapath,
//! in turns of a hundred: how long a command takes, whether that grows with the ports that are there already, and how much
//! memory the daemons have then.
//!
//! Open vSwitch runs from the unpacked Debian packages (`tests/setup.sh test`), private to a namespace of its own.
//! Usage: `add-ports [HUNDREDS]`, by default 10.
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use std::fs;
use std::time::Instant;
use vswitch_benches::{percentile, resident_mib};
use vswitch_tests::netns::{Lab, Space};
use vswitch_tests::ovs::Ovs;
use vswitch_tests::process::{program, run, words};

fn main() {
    let hundreds: usize = std::env::args().nth(1).map_or(10, |n| n.parse().expect("usage: add-ports [HUNDREDS]"));
    let (Some(lab), Some(ovs)) = (Lab::open(), Ovs::find()) else { std::process::exit(1) };

    let mut host = lab.host("ours");
    veths(&lab, &host, hundreds * 100);
    host.vsctl("add-br br0");
    let ours = format!("{} --socket {}", program("vsctl").display(), host.socket().display());

    let theirs = lab.space("ovs");
    veths(&lab, &theirs, hundreds * 100);
    let server = ovs.server(lab.dir());
    let vswitchd = ovs.vswitchd(&theirs, &server);
    let _ = ovs.vsctl(&server.socket, "add-br br0 -- set bridge br0 datapath_type=netdev").output();
    let theirs = format!("{} --db=unix:{}", ovs.path("ovs-vsctl"), server.socket.display());

    println!("One add-port of a veth, in ms, by the number of ports (p99 of 100: the second slowest)\n");
    println!(
        "{:<13}{:>11}{:>8}{:>8}{:>15}{:>8}{:>8}",
        "ports", "vsctl p50", "p99", "max", "ovs-vsctl p50", "p99", "max"
    );
    for hundred in 0..hundreds {
        let measure = |client: &str| {
            let times: Vec<f64> = (1..=100).map(|n| add_port(client, hundred * 100 + n)).collect();
            [50.0, 99.0, 100.0].map(|p| percentile(&times, p))
        };
        let ([a, b, c], [d, e, f]) = (measure(&ours), measure(&theirs));
        let ports = format!("{} to {}", hundred * 100 + 1, hundred * 100 + 100);
        println!("{ports:<13}{a:>11.1}{b:>8.1}{c:>8.1}{d:>15.1}{e:>8.1}{f:>8.1}");
    }
    println!("\nResident memory then, in MiB");
    for (daemon, pid) in
        [("vswitch", host.daemon().pid()), ("ovs-vswitchd", vswitchd.pid()), ("ovsdb-server", server.pid())]
    {
        println!("{daemon:<13}{:>11.0}", resident_mib(pid));
    }
}

/// So many veth pairs, both ends up.
fn veths(lab: &Lab, space: &Space, count: usize) {
    let batch = lab.dir().join("batch");
    // A thousand far ends in one namespace, each listening to every neighbour solicitation of the others, would be what
    // is measured: IPv6 stays off.
    space.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
    let lines = (1..=count).map(|n| format!("link add p{n} up type veth peer name q{n}\nlink set q{n} up\n"));
    fs::write(&batch, lines.collect::<String>()).expect("a file of commands");
    space.run(&format!("ip -batch {}", batch.display()));
}

/// Adds a port; how long the command took, in ms.
fn add_port(client: &str, n: usize) -> f64 {
    let command = words(&format!("{client} --timeout=30 add-port br0 p{n}"));
    let start = Instant::now();
    let done = run(&command);
    let took = start.elapsed();
    let _ = done.output();
    took.as_secs_f64() * 1000.0
}
