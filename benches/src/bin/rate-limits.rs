//! TCP through rate limits: what a flow gets of 100 and of 200 Mbit/s, with default bursts, on every kind of port, in both
//! directions: policed on the way in, shaped and policed on the way out.
//!
//! Usage: `rate-limits [SECONDS [WORD…]]`, by default 10 seconds after one that does not count; with words, only the lines
//! that have all of them.
#![allow(clippy::print_stdout, reason = "a program that prints its results")]

use vswitch_benches::table;
use vswitch_tests::netns::{Host, Lab, Space};
use vswitch_tests::two_hosts::TwoHosts;

/// How a port is limited.
#[derive(Clone, Copy)]
enum Limit {
    IngressPolicing,
    Htb,
    EgressPolicer,
}

impl Limit {
    const ALL: [Self; 3] = [Self::IngressPolicing, Self::Htb, Self::EgressPolicer];

    fn name(self) -> &'static str {
        match self {
            Self::IngressPolicing => "in, ingress_policing_rate",
            Self::Htb => "out, linux-htb",
            Self::EgressPolicer => "out, egress-policer",
        }
    }

    fn set(self, host: &Host, port: &str, mbit: u32) {
        let qos = |qos: &str| host.vsctl(&format!("set port {port} qos=@q -- --id=@q create qos {qos}"));
        let _ = match self {
            Self::IngressPolicing => host.vsctl(&format!("set interface {port} ingress_policing_rate={mbit}000")),
            Self::Htb => qos(&format!("type=linux-htb other-config:max-rate={mbit}000000")),
            Self::EgressPolicer => qos(&format!("type=egress-policer other-config:cir={}", mbit * 125_000)),
        };
    }

    fn clear(self, host: &Host, port: &str) {
        let _ = match self {
            Self::IngressPolicing => host.vsctl(&format!("set interface {port} ingress_policing_rate=0")),
            Self::Htb | Self::EgressPolicer => host.vsctl(&format!("clear port {port} qos -- --all destroy qos")),
        };
    }
}

/// A port and the flows through it: into the bridge by it, and out of the bridge by it.
struct Place<'a> {
    kind: &'static str,
    host: &'a Host,
    port: &'static str,
    behind: (&'a Space, &'static str),
    beyond: (&'a Space, &'static str),
}

fn main() {
    let mut args = std::env::args().skip(1);
    let seconds = args.next().map_or(10, |s| s.parse().expect("usage: rate-limits [SECONDS [WORD…]]"));
    let words: Vec<String> = args.collect();
    let (Some(lab), Some(two)) = (Lab::open(), TwoHosts::open()) else { std::process::exit(1) };
    let host = lab.host("host");
    let one = lab.pod("one", &host, "p1", "10.0.0.1/24");
    let other = lab.pod("two", &host, "p2", "10.0.0.2/24");
    for command in ["add-br br0", "add-port br0 p1", "add-port br0 p2", "add-port br0 in0 type=internal"] {
        host.vsctl(command);
    }
    host.run("ip addr add 10.0.0.3/24 dev in0");
    host.run("ip link set in0 up");
    two.configure();
    two.check_tenants();
    let (near, far) = ((&two.a[0], "192.168.60.11"), (&two.a[1], "192.168.60.12"));
    let places = [
        Place { kind: "veth", host: &host, port: "p1", behind: (&one, "10.0.0.1"), beyond: (&other, "10.0.0.2") },
        Place { kind: "internal", host: &host, port: "in0", behind: (&host, "10.0.0.3"), beyond: (&other, "10.0.0.2") },
        Place { kind: "tunnel", host: &two.hosts[0], port: "vxlanA", behind: far, beyond: near },
    ];
    println!("TCP for {seconds} s through a limit, after 1 s, in Mbit/s as iperf3 received it (headers are 4.4 %)\n");
    let mut rows = vec![["", "100 Mbit/s", "200 Mbit/s"].map(str::to_owned).to_vec()];
    for place in &places {
        for limit in Limit::ALL {
            let name = format!("{}, {}", place.kind, limit.name());
            if words.iter().all(|word| name.contains(word)) {
                let rates = [100, 200].map(|mbit| measure(place, limit, mbit, seconds));
                rows.push([name].into_iter().chain(rates.map(|r| format!("{r:.1}"))).collect());
            }
        }
    }
    println!("{}", table(&rows));
}

/// What a flow gets through the limit.
fn measure(place: &Place<'_>, limit: Limit, mbit: u32, seconds: u32) -> f64 {
    limit.set(place.host, place.port, mbit);
    let (from, to) = match limit {
        Limit::IngressPolicing => (place.behind, place.beyond),
        Limit::Htb | Limit::EgressPolicer => (place.beyond, place.behind),
    };
    let rate = from.0.tcp_after(to.0, to.1, 1, seconds);
    limit.clear(place.host, place.port);
    rate / 1e6
}
