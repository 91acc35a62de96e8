//! One VXLAN port to several hosts, without a controller: with ourselves at every end, and with the kernel's device.

use vswitch_tests::netns::{Host, Lab, Space};
use vswitch_tests::process::eventually;

/// A wire between namespaces: a switch of the kernel's, so that no daemon of ours is in the way.
fn wire(lab: &Lab, spaces: &[(&Space, &str)]) -> Space {
    let wire = lab.space("wire");
    wire.run("ip link add wire type bridge");
    wire.run("ip link set wire up");
    for (n, (space, address)) in spaces.iter().enumerate() {
        lab.cable(space, "eth0", &wire, &format!("w{n}"));
        wire.run(&format!("ip link set w{n} master wire"));
        space.run(&format!("ip addr add {address}/24 dev eth0"));
    }
    wire
}

/// A pod on the host, and the tunnel to all hosts of the wire; the host's own address in the list does no harm.
fn equip(lab: &Lab, host: &Host, n: u8) -> Space {
    let pod = lab.pod(&format!("pod{n}"), host, "vm-sw", &format!("192.168.60.{n}/24"));
    host.vsctl("add-br br0");
    host.vsctl("add-port br0 vm-sw");
    host.vsctl("add-port br0 vx0 type=vxlan key=5000 remote_ips=10.2.7.1,10.2.7.2,10.2.7.3");
    pod
}

fn mac(space: &Space, device: &str) -> String {
    space.run(&format!("cat /sys/class/net/{device}/address")).trim().to_owned()
}

/// Where the host has learned the address, as vsctl prints it.
fn learned(host: &Host, mac: &str) -> String {
    let shown = host.vsctl("fdb show br0");
    let line = shown.lines().find(|line| line.contains(mac)).unwrap_or_else(|| panic!("{mac} is unknown: {shown}"));
    line.split_whitespace().take(2).collect::<Vec<_>>().join("@")
}

#[test]
fn three_hosts_find_each_other_and_tcp_flows() {
    let Some(lab) = Lab::open() else { return };
    let hosts = [1, 2, 3].map(|n| lab.host(&format!("host{n}")));
    let _wire = wire(&lab, &[(&hosts[0], "10.2.7.1"), (&hosts[1], "10.2.7.2"), (&hosts[2], "10.2.7.3")]);
    let pods = [(&hosts[0], 1), (&hosts[1], 2), (&hosts[2], 3)].map(|(host, n)| equip(&lab, host, n));
    for (from, pod) in pods.iter().enumerate() {
        for to in (1..=3).filter(|to| *to != from + 1) {
            pod.reaches(&format!("192.168.60.{to}"));
        }
    }
    assert_eq!(learned(&hosts[0], &mac(&pods[1], "eth0")), "vx0@10.2.7.2");
    assert_eq!(learned(&hosts[0], &mac(&pods[2], "eth0")), "vx0@10.2.7.3");
    let status = hosts[0].vsctl("get interface vx0 status");
    assert!(status.contains("10.2.7.1: of this host, left out"), "{status}");
    assert_eq!(hosts[0].vsctl("get interface vx0 mtu").trim(), "1450");

    // Known traffic goes to its own end only.
    let log = lab.dir().join("third");
    let third = hosts[2].spawn("tcpdump -nn -l -i eth0 udp port 4789", &log);
    eventually("tcpdump listens", || third.log().contains("listening on").then_some(()).ok_or_else(|| third.log()));
    for (from, to, address) in [(0, 1, "192.168.60.2"), (1, 0, "192.168.60.1")] {
        let rate = pods[from].tcp(&pods[to], address, 2);
        assert!(rate > 1e6, "{address}: {:.1} Mbit/s", rate / 1e6);
    }
    assert!(!third.log().contains("5201"), "host3 got a copy of the TCP flow:\n{}", third.log());

    // An end that goes takes what was behind it along, and one that comes is found; the others are not disturbed.
    hosts[0].vsctl("set interface vx0 options:remote_ips=10.2.7.2");
    assert!(!pods[0].pings("192.168.60.3"), "host3 is no longer an end");
    assert_eq!(learned(&hosts[0], &mac(&pods[1], "eth0")), "vx0@10.2.7.2");
    hosts[0].vsctl("set interface vx0 options:remote_ips=10.2.7.2,10.2.7.3");
    pods[0].reaches("192.168.60.3");
}

#[test]
fn a_static_address_needs_no_learning_and_no_flood_list() {
    let Some(lab) = Lab::open() else { return };
    let hosts = [1, 2, 3].map(|n| lab.host(&format!("host{n}")));
    let _wire = wire(&lab, &[(&hosts[0], "10.2.7.1"), (&hosts[1], "10.2.7.2"), (&hosts[2], "10.2.7.3")]);
    let pods = [(&hosts[0], 1), (&hosts[1], 2), (&hosts[2], 3)].map(|(host, n)| equip(&lab, host, n));
    let macs = [0, 1, 2].map(|n| mac(&pods[n], "eth0"));
    // What flannel's controller does for each node: every address with the end that it is behind.
    for (n, host) in hosts.iter().enumerate() {
        host.vsctl("set interface vx0 options:learning=false");
        for other in (0..3).filter(|other| *other != n) {
            host.vsctl(&format!("fdb add br0 vx0@10.2.7.{} 0 {}", other + 1, macs[other]));
        }
        assert!(!host.vsctl("get bridge br0 status").contains("no effect"), "{}", host.vsctl("get bridge br0 status"));
    }
    pods[0].reaches("192.168.60.2");
    pods[2].reaches("192.168.60.1");
    let shown = hosts[0].vsctl("fdb show br0");
    let at_the_tunnel: Vec<_> = shown.lines().filter(|line| line.starts_with("vx0 ")).collect();
    assert!(at_the_tunnel.len() == 2 && at_the_tunnel.iter().all(|line| line.contains("static")), "{shown}");
    // Host 3 no longer on the list: its static addresses keep it an end, to send to and to take from.
    hosts[0].vsctl("set interface vx0 options:remote_ips=10.2.7.2");
    for pod in [&pods[0], &pods[2]] {
        pod.run("ip neigh flush dev eth0");
    }
    pods[2].reaches("192.168.60.1");
    let told = hosts[0].try_vsctl("fdb add br0 vx0 0 02:00:00:00:00:99");
    assert!(told.ok() && told.stderr.contains("vx0 has several remote ends; write vx0@REMOTE"), "{told}");
}

/// At two ends the kernel's device, set up as in the tutorials: a zero address of its `bridge fdb` for each other end.
#[test]
fn the_kernel_s_device_is_one_of_the_ends() {
    let Some(lab) = Lab::open() else { return };
    let host = lab.host("host1");
    let kernels = [2, 3].map(|n| lab.space(&format!("kernel{n}")));
    let _wire = wire(&lab, &[(&host, "10.2.7.1"), (&kernels[0], "10.2.7.2"), (&kernels[1], "10.2.7.3")]);
    let pod = equip(&lab, &host, 1);
    for (n, kernel) in (2..).zip(&kernels) {
        kernel.run(&format!("ip link add vxlan0 type vxlan id 5000 dstport 4789 local 10.2.7.{n} dev eth0 learning"));
        kernel.run(&format!("ip addr add 192.168.60.{n}/24 dev vxlan0"));
        kernel.run("ip link set vxlan0 up");
        for other in (1..=3).filter(|other| *other != n) {
            kernel.run(&format!("bridge fdb append 00:00:00:00:00:00 dev vxlan0 dst 10.2.7.{other} self permanent"));
        }
    }
    for n in [2, 3] {
        pod.reaches(&format!("192.168.60.{n}"));
        kernels[n - 2].reaches("192.168.60.1");
        assert_eq!(learned(&host, &mac(&kernels[n - 2], "vxlan0")), format!("vx0@10.2.7.{n}"));
    }
    kernels[0].reaches("192.168.60.3");
    for (from, to, address) in [(&pod, &kernels[0], "192.168.60.2"), (&kernels[1], &pod, "192.168.60.1")] {
        let rate = from.tcp(to, address, 2);
        assert!(rate > 1e6, "to {address}: {:.1} Mbit/s", rate / 1e6);
    }
}
