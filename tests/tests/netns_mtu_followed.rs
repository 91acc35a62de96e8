//! A tunnel's MTU follows what happens on its way, while TCP goes on: the underlay's link, another route, a router with a
//! narrower link behind it.
//!
//! ```text
//!  pod1 ─ host1 eth0 ══ left  router right ══ eth0 host2 ─ pod2        MTU 1500 everywhere
//!               eth1 ══ other
//! ```

use std::time::Instant;
use vswitch_tests::accounts::check_accounts;
use vswitch_tests::netns::{Host, Lab, Space};
use vswitch_tests::process::eventually;

/// Addresses of an underlay: host1's on its two links, the router's there, the router's beside host2, and host2's.
struct Underlay {
    prefix: u8,
    host1: [&'static str; 2],
    router: [&'static str; 3],
    host2: &'static str,
    /// What the tunnel costs.
    overhead: u32,
}

const V4: Underlay = Underlay {
    prefix: 24,
    host1: ["10.1.0.1", "10.3.0.1"],
    router: ["10.1.0.254", "10.3.0.254", "10.2.0.254"],
    host2: "10.2.0.2",
    overhead: 50,
};
const V6: Underlay = Underlay {
    prefix: 64,
    host1: ["2001:db8:1::1", "2001:db8:3::1"],
    router: ["2001:db8:1::254", "2001:db8:3::254", "2001:db8:2::254"],
    host2: "2001:db8:2::2",
    overhead: 70,
};

struct Way {
    hosts: [Host; 2],
    router: Space,
    pods: [Space; 2],
    lab: Lab,
}

impl Way {
    fn open(underlay: &Underlay, options: &str) -> Option<Self> {
        let lab = Lab::open()?;
        let hosts = [lab.host("host1"), lab.host("host2")];
        let router = lab.space("router");
        lab.cable(&hosts[0], "eth0", &router, "left");
        lab.cable(&hosts[0], "eth1", &router, "other");
        lab.cable(&hosts[1], "eth0", &router, "right");
        router.run("sysctl -qw net.ipv4.ip_forward=1");
        router.run("sysctl -qw net.ipv6.conf.all.forwarding=1");
        let Underlay { prefix, host1, router: gateways, host2, .. } = underlay;
        let nodad = if host2.contains(':') { " nodad" } else { "" };
        let give = |space: &Space, address: &str, device: &str| {
            space.run(&format!("ip addr add {address}/{prefix} dev {device}{nodad}"));
        };
        give(&hosts[0], host1[0], "eth0");
        give(&hosts[0], host1[1], "eth1");
        give(&hosts[1], host2, "eth0");
        for (gateway, device) in gateways.iter().zip(["left", "other", "right"]) {
            give(&router, gateway, device);
        }
        hosts[1].run(&format!("ip route add {} via {}", host1[0], gateways[2]));
        let pods = [1, 2].map(|n| lab.pod(&format!("pod{n}"), &hosts[n - 1], "p1", &format!("10.0.0.{n}/24")));
        let way = Self { hosts, router, pods, lab };
        way.route(underlay, 0);
        for (n, host) in way.hosts.iter().enumerate() {
            let (remote, local) = if n == 0 { (*host2, host1[0]) } else { (host1[0], *host2) };
            // Nothing below is to be found by asking from time to time.
            host.vsctl("set open_vswitch . other_config:stats-update-interval=600000");
            host.vsctl("add-br br0 -- add-port br0 p1");
            host.vsctl(&format!("add-port br0 t0 {options} remote_ip={remote} local_ip={local}"));
        }
        way.pods[0].reaches("10.0.0.2");
        Some(way)
    }

    /// Sends what goes to host2 by the first or the second link.
    fn route(&self, underlay: &Underlay, link: usize) {
        self.hosts[0].run(&format!("ip route replace {} via {}", underlay.host2, underlay.router[link]));
    }

    fn received(&self) -> u64 {
        self.pods[1].run("cat /sys/class/net/eth0/statistics/rx_bytes").trim().parse().expect("a number")
    }

    /// Does `change` and waits until the tunnel has this MTU and TCP goes on.
    fn follows(&self, what: &str, mtu: u32, change: impl FnOnce()) {
        change();
        let start = Instant::now();
        eventually(&format!("{what}: MTU {mtu}"), || {
            let has = self.hosts[0].vsctl("get interface t0 mtu");
            if has.trim() == mtu.to_string() { Ok(()) } else { Err(has) }
        });
        eprintln!("{what}: MTU {mtu} after {} ms", start.elapsed().as_millis());
        let before = self.received();
        eventually(&format!("{what}: TCP goes on"), || {
            let more = self.received() - before;
            if more > 1_000_000 { Ok(()) } else { Err(format!("{more} bytes")) }
        });
    }
}

fn follow(underlay: &Underlay, options: &str) {
    let Some(way) = Way::open(underlay, options) else { return };
    let sink = way.pods[1].iperf3_server();
    let log = way.lab.dir().join("iperf3");
    let mut flow = way.pods[0].spawn("iperf3 --client 10.0.0.2 --bitrate 200M --time 30", &log);
    let [host1, router] = [&*way.hosts[0], &way.router];
    let fits = |mtu: u32| mtu - underlay.overhead;
    way.follows("at first", fits(1500), || {});
    way.follows("the link is lowered", fits(1400), || drop(host1.run("ip link set eth0 mtu 1400")));
    way.follows("the link is raised", fits(1500), || drop(host1.run("ip link set eth0 mtu 1500")));
    host1.run("ip link set eth1 mtu 1300");
    way.follows("the route is moved to another link", fits(1300), || way.route(underlay, 1));
    way.follows("and back", fits(1500), || way.route(underlay, 0));
    way.follows("a router with a narrower link behind", fits(1350), || drop(router.run("ip link set right mtu 1350")));
    router.run("ip link set right mtu 1500");
    // But that: the kernel tells nobody.
    way.hosts.iter().for_each(|host| drop(host.vsctl("set open_vswitch . other_config:stats-update-interval=100")));
    let flush = if underlay.host2.contains(':') { "ip -6 route flush cache" } else { "ip route flush cache" };
    way.follows("what was learned is forgotten", fits(1500), || drop(host1.run(flush)));
    assert!(flow.alive(), "{}", flow.log());
    flow.kill();
    drop(sink);
    way.hosts.iter().for_each(check_accounts);
}

#[test]
fn vxlan_over_ipv4() {
    follow(&V4, "type=vxlan key=5000");
}

#[test]
fn vxlan_over_ipv6() {
    follow(&V6, "type=vxlan key=5000");
}

#[test]
fn gre_over_ipv4() {
    follow(&Underlay { overhead: 38, ..V4 }, "type=gre");
}

#[test]
fn gre_over_ipv6() {
    follow(&Underlay { overhead: 58, ..V6 }, "type=gre");
}
