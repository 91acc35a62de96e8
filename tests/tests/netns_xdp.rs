//! Ports by AF_XDP, with a real daemon: as Open vSwitch's users ask for them, with the offloads that pods have when nobody
//! touches them, on a device that the host goes on using, and what is left when the daemon is killed.

use std::thread;
use std::time::Duration;
use vswitch_tests::checksums::{self, Watch};
use vswitch_tests::netns::{Host, Lab, Space};
use vswitch_tests::process::eventually;
use vswitch_tests::tunnel_pair::{check_drops, underlay_cable};

/// TCP flows at such a rate, in bit/s, and not by retransmissions alone; how fast is not for a busy machine to say.
const FLOWS: f64 = 1e6;

/// A host with bridge br0 and two pods on it, 10.0.0.1 and 10.0.0.2, on the ports p1 and p2, both by AF_XDP.
fn two_pods(lab: &Lab) -> (Host, Space, Space) {
    let host = lab.host("host");
    let one = lab.pod("one", &host, "p1", "10.0.0.1/24");
    let two = lab.pod("two", &host, "p2", "10.0.0.2/24");
    host.vsctl("add-br br0");
    host.vsctl("add-port br0 p1 type=afxdp");
    host.vsctl("add-port br0 p2 io=af_xdp xdp-mode=native");
    (host, one, two)
}

fn status(host: &Host, port: &str, key: &str) -> String {
    host.vsctl(&format!("get interface {port} status:{key}")).trim().trim_matches('"').to_owned()
}

#[test]
fn tcp_flows_with_default_offloads_and_right_checksums() {
    let Some(lab) = Lab::open() else { return };
    let (host, one, two) = two_pods(&lab);
    one.reaches("10.0.0.2");
    assert_eq!(status(&host, "p1", "io"), "af_xdp (native, copied by the kernel, 1 queue)");
    assert_eq!(status(&host, "p1", "xdp-mode"), "native");
    let refused = status(&host, "p1", "xdp_refused");
    assert!(refused.contains("native-with-zerocopy") && refused.contains("not supported"), "{refused}");
    checksums::finish(&host, "p2");
    let watch = Watch::start(&two, "eth0", &lab.dir().join("watch"));
    let rate = one.tcp(&two, "10.0.0.2", 2);
    watch.check("by AF_XDP");
    assert!(rate > FLOWS, "{:.1} Mbit/s", rate / 1e6);
}

/// Towards AF_XDP super-frames are cut, from it they are put together, and nothing is lost but for what full queues of a busy
/// machine cost TCP.
#[test]
fn tcp_flows_between_af_xdp_and_every_other_kind_of_port() {
    let Some(lab) = Lab::open() else { return };
    let (host, beyond) = (lab.host("host"), lab.host("beyond"));
    underlay_cable(&lab, &host, &beyond);
    host.run("ip addr add 192.0.2.1/24 dev eth0");
    beyond.run("ip addr add 192.0.2.2/24 dev eth0");
    let xdp = lab.pod("xdp", &host, "p1", "10.0.0.1/24");
    let veth = lab.pod("veth", &host, "p2", "10.0.0.2/24");
    let far = lab.pod("far", &beyond, "p3", "10.0.0.3/24");
    host.vsctl("set open_vswitch . other_config:stats-update-interval=100");
    host.vsctl("add-br br0 -- add-port br0 p1 type=afxdp -- add-port br0 p2 io=packet");
    host.vsctl("add-port br0 vx0 type=vxlan key=5 remote_ip=192.0.2.2");
    beyond.vsctl("add-br br0 -- add-port br0 p3");
    beyond.vsctl("add-port br0 vx0 type=vxlan key=5 remote_ip=192.0.2.1");
    host.run("ip addr add 10.0.0.4/24 dev br0");
    host.run("ip link set br0 up");
    let ends =
        [("veth", &veth, "10.0.0.2", "p2"), ("vxlan", &far, "10.0.0.3", "vx0"), ("tap", &host, "10.0.0.4", "br0")];
    for (what, end, address, port) in ends {
        xdp.reaches(address);
        let packets = || {
            let count = |port: &str, name: &str| settled(&host, port, name);
            (count("p1", "rx_packets"), count("p1", "tx_packets"), count(port, "rx_packets"), count(port, "tx_packets"))
        };
        let before = packets();
        let rate = xdp.tcp(end, address, 1);
        let there = packets();
        let back = end.tcp(&xdp, "10.0.0.1", 1);
        let after = packets();
        assert!(rate > FLOWS && back > FLOWS, "{what}: {:.1} and {:.1} Mbit/s", rate / 1e6, back / 1e6);
        if what != "vxlan" {
            // A tunnel's packets are counted as those on the wire.
            let (came, went) = (there.0 - before.0, there.3 - before.3);
            assert!(went * 2 < came, "{what}: {came} packets by AF_XDP left as {went}");
            let (came, went) = (after.2 - there.2, after.1 - there.1);
            assert!(went > came * 2, "{what}: {came} packets left by AF_XDP as {went}");
        }
    }
    for port in ["p1", "p2", "vx0", "br0"] {
        check_drops(&host, port);
    }
}

/// A counter of a port, when it has stopped changing: statistics are written ten times a second.
fn settled(host: &Host, port: &str, name: &str) -> u64 {
    let read = || host.vsctl(&format!("get interface {port} statistics:{name}"));
    let text = eventually("a counter at rest", || {
        let first = read();
        thread::sleep(Duration::from_millis(300));
        let second = read();
        if first == second { Ok(second) } else { Err(second) }
    });
    text.trim().parse().unwrap_or_else(|e| panic!("{port}: {name}: {text}: {e}"))
}

/// The generic hook is given super-frames without what they are to be cut into.
#[test]
fn by_the_generic_hook_super_frames_are_cut_to_fit() {
    let Some(lab) = Lab::open() else { return };
    let host = lab.host("host");
    let pods = [1, 2, 3].map(|n| lab.pod(&format!("pod{n}"), &host, &format!("p{n}"), &format!("10.0.0.{n}/24")));
    let generic = "type=afxdp xdp-mode=generic";
    host.vsctl(&format!("add-br br0 -- add-port br0 p1 {generic} -- add-port br0 p2 {generic} -- add-port br0 p3"));
    assert_eq!(status(&host, "p1", "io"), "af_xdp (generic, copied by the kernel, 1 queue)");
    assert!(status(&host, "p1", "xdp_vlan_warning").contains("txvlan off"));
    let [one, two, three] = &pods;
    for port in ["p1", "p2", "p3"] {
        checksums::finish(&host, port);
    }
    for (from, to, address) in [(one, two, "10.0.0.2"), (one, three, "10.0.0.3"), (three, one, "10.0.0.1")] {
        from.reaches(address);
        let watch = Watch::start(to, "eth0", &lab.dir().join("watch"));
        let rate = from.tcp(to, address, 1);
        watch.check(address);
        assert!(rate > FLOWS, "to {address}: {:.1} Mbit/s", rate / 1e6);
    }
}

#[test]
fn jumbo_frames_pass() {
    let Some(lab) = Lab::open() else { return };
    let (host, one, two) = two_pods(&lab);
    for (space, device) in [(&one, "eth0"), (&two, "eth0"), (&*host, "p1"), (&*host, "p2")] {
        space.run(&format!("ip link set {device} mtu 9000"));
    }
    // Told of too small an MTU by then, the pod's kernel would remember it for minutes.
    eventually("the switch knows of the MTUs", || {
        let known = ["p1", "p2"].map(|port| host.vsctl(&format!("get interface {port} mtu")).trim().to_owned());
        if known == ["9000"; 2] { Ok(()) } else { Err(known.join(", ")) }
    });
    eventually("a packet of 9000 bytes", || {
        let done = one.try_run("ping -M do -s 8972 -c 1 -W 0.5 10.0.0.2");
        if done.ok() { Ok(()) } else { Err(done.stdout) }
    });
    let rate = one.tcp(&two, "10.0.0.2", 1);
    assert!(rate > FLOWS, "{:.1} Mbit/s", rate / 1e6);
}

/// A device that the host has an address on: the host goes on using it, and the pods reach the network by it.
#[test]
fn an_uplink_is_shared_with_the_host() {
    let Some(lab) = Lab::open() else { return };
    let (host, net) = (lab.host("host"), lab.space("net"));
    lab.cable(&host, "up0", &net, "eth0");
    net.run("ip addr add 192.0.2.9/24 dev eth0");
    host.run("ip addr add 192.0.2.1/24 dev up0");
    let pod = lab.pod("pod", &host, "p1", "192.0.2.50/24");
    net.reaches("192.0.2.1");
    host.vsctl("add-br br0");
    host.vsctl("add-port br0 p1");
    let told = host.vsctl("add-port br0 up0 type=afxdp");
    assert_eq!(told, "", "there is nothing to warn of");
    assert!(status(&host, "up0", "host").contains("keeps its addresses"));
    // Nobody knows anybody: ARP goes both to the host and to the pod.
    for (from, to) in [(&net, "192.0.2.1"), (&net, "192.0.2.50"), (&*host, "192.0.2.9"), (&pod, "192.0.2.9")] {
        from.run("ip neigh flush all");
        from.reaches(to);
    }
    for (server, address) in [(&*host, "192.0.2.1"), (&pod, "192.0.2.50")] {
        let rate = net.tcp(server, address, 1);
        assert!(rate > FLOWS, "{address}: {:.1} Mbit/s", rate / 1e6);
    }
    // Without its address the device is the switch's alone, and the other way round.
    host.run("ip addr del 192.0.2.1/24 dev up0");
    eventually("the device is the switch's", || {
        let told = host.vsctl("get interface up0 status");
        if told.contains("host=") { Err(told) } else { Ok(()) }
    });
    pod.reaches("192.0.2.9");
}

#[test]
fn killed_it_leaves_no_program_and_the_device_works_for_the_host() {
    let Some(lab) = Lab::open() else { return };
    let (mut host, one, _two) = two_pods(&lab);
    one.reaches("10.0.0.2");
    assert!(host.run("ip link show p1").contains("vswitch_xdp"));
    host.kill();
    // The kernel takes links and sockets of a dead process away in the background.
    eventually("no program is left", || {
        let shown = host.run("ip -d link show");
        if shown.contains("xdp") { Err(shown) } else { Ok(()) }
    });
    host.run("ip addr add 10.0.0.254/24 dev p1");
    one.reaches("10.0.0.254");
    host.run("ip addr del 10.0.0.254/24 dev p1");
    host.start();
    one.reaches("10.0.0.2");
    assert!(host.run("ip link show p1").contains("vswitch_xdp"));
    assert_eq!(host.stop(), 0);
    assert!(!host.run("ip -d link show").contains("xdp"), "a program is left behind");
}

#[test]
fn what_cannot_be_had_is_one_error() {
    let Some(lab) = Lab::open() else { return };
    let (host, _one, _two) = two_pods(&lab);
    let error = |port: &str| host.vsctl(&format!("get interface {port} error"));
    for (setting, why) in [
        ("options:xdp-mode=native-with-zerocopy", "its driver does not know xdp-mode=native-with-zerocopy"),
        ("options:xdp-mode=fast", "xdp-mode=fast is unknown"),
        ("options:n_rxq=3", "n_rxq=3, and the device has 1"),
    ] {
        let done = host.try_vsctl(&format!("set interface p1 {setting}"));
        assert_eq!(done.code, 65, "{done}");
        assert!(error("p1").contains(why), "{setting}: {}", error("p1"));
        let tried = host.log().matches("p1: ").count();
        thread::sleep(Duration::from_millis(700));
        assert_eq!(host.log().matches("p1: ").count(), tried, "tried again and again: {}", host.log());
        host.vsctl(&format!("remove interface p1 options {}", setting.split([':', '=']).nth(1).unwrap_or_default()));
        assert_eq!(error("p1").trim(), "[]");
    }
    // Back to a packet socket, and forth.
    host.vsctl("set interface p1 type=system");
    assert_eq!(status(&host, "p1", "io"), "packet");
    assert!(!host.run("ip link show p1").contains("xdp"));
    host.vsctl("set interface p1 type=afxdp");
    assert!(status(&host, "p1", "io").starts_with("af_xdp"));
}

#[test]
fn an_idle_port_uses_no_cpu() {
    let Some(lab) = Lab::open() else { return };
    let (mut host, one, two) = two_pods(&lab);
    one.reaches("10.0.0.2");
    let _ = one.tcp(&two, "10.0.0.2", 1);
    thread::sleep(Duration::from_secs(1));
    let before = host.cpu_ticks();
    thread::sleep(Duration::from_secs(5));
    let used = host.cpu_ticks() - before;
    // 500 ticks in 5 s: 1 % is 5.
    assert!(used < 5, "{used} ticks of 10 ms in 5 s");
}
