//! Internal ports: several on a bridge and on several bridges, there for as long as their port is, and as the gateway of
//! pods whose addresses the host translates.

use vswitch_tests::checksums::{self, Watch};
use vswitch_tests::netns::{Host, Lab, Space};
use vswitch_tests::process::eventually;

/// Whether the host has a device of that name.
fn has(host: &Host, device: &str) -> bool {
    host.try_run(&format!("ip link show {device}")).ok()
}

#[test]
fn they_keep_their_addresses_while_the_switch_is_away_and_go_with_their_port() {
    let Some(lab) = Lab::open() else { return };
    let mut host = lab.host("host");
    let pods = [1, 2].map(|n| lab.pod(&format!("pod{n}"), &host, &format!("p{n}"), &format!("10.0.{n}.1/24")));
    for n in [1, 2] {
        host.vsctl(&format!("add-br br{n} -- add-port br{n} p{n}"));
        for (port, address, options) in
            [("a", 11, ""), ("b", 12, ""), ("tagged", 13, "tag=7")].map(|(p, a, o)| (format!("{p}{n}"), a, o))
        {
            host.vsctl(&format!("add-port br{n} {port} {options} -- set interface {port} type=internal"));
            host.run(&format!("ip addr add 10.0.{n}.{address}/32 dev {port}"));
            host.run(&format!("ip link set {port} up"));
        }
        host.run(&format!("ip addr add 10.0.{n}.10/24 dev br{n}"));
        host.run(&format!("ip link set br{n} up"));
    }
    let work = || {
        for (n, pod) in (1..).zip(&pods) {
            for last in [10, 11, 12] {
                pod.reaches(&format!("10.0.{n}.{last}"));
            }
        }
    };
    work();
    // Names and addresses; between them is the state, which varies.
    let addresses = |host: &Host| {
        let text = host.run("ip -brief addr show type tun");
        let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        words.map(|w| [&w[..1], &w[2..]].concat().join(" ")).collect::<Vec<_>>().join("\n")
    };
    let before = addresses(&host);
    assert_eq!(before.lines().count(), 8, "{before}");
    let index = |host: &Host| host.run("cat /sys/class/net/a1/ifindex");
    let first_index = index(&host);

    assert_eq!(host.stop(), 0);
    for address in ["10.0.1.11", "10.0.1.13", "10.0.2.10"] {
        assert!(addresses(&host).contains(address), "{}", addresses(&host));
    }
    host.start();
    work();
    host.kill();
    host.start();
    work();
    assert_eq!((addresses(&host), index(&host)), (before, first_index));

    host.vsctl("del-port a1");
    assert!(!has(&host, "a1") && has(&host, "b1"));
    host.vsctl("del-br br2");
    assert!(["br2", "a2", "b2", "tagged2"].iter().all(|device| !has(&host, device)));
    pods[0].reaches("10.0.1.12");
}

/// What a bridge is to pods elsewhere: their gateway, with addresses translated on the way out and on the way in.
struct Gateway {
    host: Host,
    pods: [Space; 2],
    world: Space,
    lab: Lab,
}

impl Gateway {
    const POD: &str = "192.168.10.10";
    const SERVICE: &str = "10.96.0.100";

    /// Two pods on br0 behind the internal port `gw`, and the world beyond the host's eth0.
    fn open() -> Option<Self> {
        let lab = Lab::open()?;
        let host = lab.host("host");
        let world = lab.space("world");
        lab.cable(&host, "eth0", &world, "eth0");
        host.run("ip addr add 203.0.113.1/24 dev eth0");
        world.run("ip addr add 203.0.113.2/24 dev eth0");
        let pods = [0, 1].map(|n| lab.pod(&format!("pod{n}"), &host, &format!("p{n}"), &format!("192.168.10.1{n}/24")));
        host.vsctl("add-br br0 -- add-port br0 p0 -- add-port br0 p1");
        host.vsctl("add-port br0 gw -- set interface gw type=internal");
        host.run("ip addr add 192.168.10.1/24 dev gw");
        host.run("ip link set gw up");
        for pod in &pods {
            pod.run("ip route add default via 192.168.10.1");
        }
        for command in [
            "sysctl -qw net.ipv4.ip_forward=1",
            "iptables -t nat -A POSTROUTING -s 192.168.10.0/24 -o eth0 -j MASQUERADE",
            "iptables -t nat -A PREROUTING -d 203.0.113.1 -p tcp --dport 5201 -j DNAT --to-destination 192.168.10.10",
            "iptables -t nat -A PREROUTING -d 10.96.0.100 -j DNAT --to-destination 192.168.10.10",
            // Answers to a pod of the same network must come back the same way.
            "iptables -t nat -A POSTROUTING -s 192.168.10.0/24 -d 192.168.10.0/24 -j MASQUERADE",
        ] {
            host.run(command);
        }
        for (near, device) in [(&host, "eth0"), (&host, "p0"), (&host, "p1")] {
            checksums::finish(near, device);
        }
        pods[0].reaches("203.0.113.2");
        pods[1].reaches(Self::POD);
        Some(Self { host, pods, world, lab })
    }

    /// TCP from one to the server at an address that may be translated on the way, every checksum right at both ends.
    fn carries(&self, what: &str, from: &Space, server: &Space, address: &str) {
        let watch = |space: &Space| Watch::start(space, "eth0", &self.lab.dir().join(format!("watch-{}", space.name)));
        let watches = [watch(from), watch(server)];
        let rate = from.tcp(server, address, 1);
        watches.into_iter().for_each(|watch| watch.check(what));
        assert!(rate > 1e6, "{what}: {:.1} Mbit/s", rate / 1e6);
    }
}

#[test]
fn as_gateway_it_carries_what_the_host_masquerades() {
    let Some(it) = Gateway::open() else { return };
    it.carries("a pod to the world", &it.pods[0], &it.world, "203.0.113.2");
    let translated = it.host.run("iptables -t nat -vxnL POSTROUTING");
    let rule = translated.lines().find(|l| l.contains("eth0")).unwrap_or_else(|| panic!("{translated}"));
    assert!(rule.split_whitespace().next() > Some("0"), "nothing was translated: {translated}");
    assert!(!it.world.pings(Gateway::POD), "the world has no way to the pods' own addresses");
}

#[test]
fn as_gateway_it_carries_what_comes_to_a_pod_by_another_address() {
    let Some(it) = Gateway::open() else { return };
    it.carries("the world to a pod, by the host's address", &it.world, &it.pods[0], "203.0.113.1");
    it.carries("a pod to a service on its own bridge", &it.pods[1], &it.pods[0], Gateway::SERVICE);
}

#[test]
fn the_host_itself_and_its_pods_reach_each_other_by_the_gateway() {
    let Some(it) = Gateway::open() else { return };
    let rate = it.host.tcp(&it.pods[0], Gateway::POD, 1);
    assert!(rate > 1e6, "{:.1} Mbit/s", rate / 1e6);
    let rate = it.pods[0].tcp(&it.host, "192.168.10.1", 1);
    assert!(rate > 1e6, "{:.1} Mbit/s", rate / 1e6);
}

/// An internal port that is moved to another namespace is that namespace's port into the bridge.
#[test]
fn one_that_is_moved_to_another_namespace_works_there() {
    let Some(lab) = Lab::open() else { return };
    let host = lab.host("host");
    let pod = lab.pod("pod", &host, "p1", "10.0.0.1/24");
    let other = lab.space("other");
    host.vsctl("add-br br0 -- add-port br0 p1 -- add-port br0 in0 -- set interface in0 type=internal");
    host.run(&format!("ip link set in0 netns {}", other.name));
    other.run("ip addr add 10.0.0.2/24 dev in0");
    other.run("ip link set in0 up");
    pod.reaches("10.0.0.2");
    assert_eq!(host.vsctl("get interface in0 error").trim(), "[]");
    eventually("its status says where it is", || {
        let status = host.vsctl("get interface in0 status");
        if status.contains("another network namespace") { Ok(()) } else { Err(status) }
    });
    assert!(other.tcp(&pod, "10.0.0.1", 1) > 20e6);
    host.vsctl("del-port in0");
    assert!(!other.try_run("ip link show in0").ok(), "it goes with its port, wherever it is");
}
