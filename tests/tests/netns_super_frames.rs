//! TCP super-frames through tunnels over IP: the kernel cuts them, and nobody who has a say in that is passed by.

use vswitch_tests::netns::{Host, Lab, Space, is_about_packet_sockets};
use vswitch_tests::process::eventually;
use vswitch_tests::tunnel_pair::{PODS, Underlay, check_drops, check_pods, near_end, underlay_cable};

/// Packets of the tunnel, and those among them that are larger than the wire takes.
const TUNNELLED: &str = "ip proto 47";
const WHOLE: &str = "ip proto 47 and greater 2000";

/// Two hosts with a tunnel that has these settings.
fn pair(lab: &Lab, options: &str) -> ([Host; 2], [Space; 2]) {
    let hosts = [lab.host("host1"), lab.host("host2")];
    underlay_cable(lab, &hosts[0], &hosts[1]);
    let pods = [0, 1].map(|n| {
        Underlay::V4.set(&hosts[n], n, "eth0");
        near_end(lab, &hosts[n], n, Underlay::V4, options)
    });
    (hosts, pods)
}

/// Who cuts the super-frames of the tunnel.
fn segmentation(host: &Host) -> String {
    host.vsctl("get interface t0 status:segmentation").trim().trim_matches('"').to_owned()
}

fn expect(host: &Host, expected: &str) {
    eventually("it is told who cuts super-frames", || {
        let told = segmentation(host);
        if told.starts_with(expected) { Ok(()) } else { Err(told) }
    });
}

/// Sends TCP from one pod to the other; how many of the packets by which that left `device` match.
fn seen(lab: &Lab, hosts: &[Host; 2], pods: &[Space; 2], device: &str, filter: &str) -> usize {
    let log = lab.dir().join("wire");
    let mut wire = hosts[1].spawn(&format!("tcpdump -nn -l -i {device} {filter}"), &log);
    eventually("tcpdump listens", || wire.log().contains("listening on").then_some(()).ok_or_else(|| wire.log()));
    let rate = pods[0].tcp(&pods[1], PODS[1], 1);
    assert!(rate > 1e6, "{:.1} Mbit/s", rate / 1e6);
    wire.terminate();
    wire.log().lines().filter(|line| line.contains(" IP ")).count()
}

#[test]
fn the_kernel_cuts_what_the_wire_does_not_take() {
    if is_about_packet_sockets("a pod's super-frames come whole") {
        return;
    }
    for options in ["type=gre", "type=gre key=5000"] {
        let Some(lab) = Lab::open() else { return };
        let (hosts, pods) = pair(&lab, options);
        hosts.iter().for_each(|host| expect(host, "kernel"));
        check_pods([&pods[0], &pods[1]], options);
        // Between two devices of the same machine nobody needs to cut them.
        assert!(seen(&lab, &hosts, &pods, "eth0", WHOLE) > 0, "{options}: none was whole");
        // As with a network card: packets of wire size with their checksums.
        hosts.iter().for_each(|host| drop(host.run("ethtool -K eth0 tx off")));
        assert_eq!(seen(&lab, &hosts, &pods, "eth0", WHOLE), 0, "{options}: larger than the wire takes");
        check_pods([&pods[0], &pods[1]], options);
        hosts.iter().for_each(|host| check_drops(host, "t0"));
    }
}

#[test]
fn ipsec_and_the_firewall_are_not_passed_by() {
    let Some(lab) = Lab::open() else { return };
    let (hosts, pods) = pair(&lab, "type=gre");
    expect(&hosts[0], "kernel");
    let connects = || pods[0].try_tcp(&pods[1], PODS[1], "-t 1 --connect-timeout 1000").is_ok();
    assert!(connects());
    // A policy that lets nothing of the tunnel out.
    let policy = "src 0.0.0.0/0 dst 0.0.0.0/0 proto gre dir out";
    hosts[0].run(&format!("ip xfrm policy add {policy} action block"));
    expect(&hosts[0], "vswitch, which is slower: 1 IPsec policies");
    assert!(!connects());
    hosts[0].run(&format!("ip xfrm policy delete {policy}"));
    expect(&hosts[0], "kernel");
    assert!(connects());
    for (iptables, told) in
        [("iptables-nft", "the firewall's chain 'OUTPUT'"), ("iptables-legacy", "the iptables table 'filter'")]
    {
        hosts[0].run(&format!("{iptables} -A OUTPUT -p gre -j DROP"));
        expect(&hosts[0], &format!("vswitch, which is slower: {told}"));
        assert!(!connects(), "{iptables}");
        hosts[0].run(&format!("{iptables} -F OUTPUT"));
        assert!(connects(), "{iptables}");
    }
}

#[test]
fn a_new_neighbour_or_way_is_taken_at_once() {
    if is_about_packet_sockets("a pod's super-frames come whole") {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let (hosts, pods) = pair(&lab, "type=gre");
    expect(&hosts[0], "kernel");
    assert!(seen(&lab, &hosts, &pods, "eth0", WHOLE) > 0);
    hosts[1].run("ip link set eth0 address 02:00:00:00:aa:aa");
    hosts[0].run("ip neigh flush dev eth0");
    assert!(seen(&lab, &hosts, &pods, "eth0", WHOLE) > 0, "the other end has another hardware address");
    lab.cable(&hosts[0], "eth1", &hosts[1], "eth1");
    hosts
        .iter()
        .for_each(|host| drop(host.run("sysctl -q net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0")));
    let [near, far] = [Underlay::V4.0[0], Underlay::V4.0[1]];
    hosts[0].run(&format!("ip route add {far}/32 dev eth1 src {near}"));
    expect(&hosts[0], "kernel");
    eventually("the tunnel goes by eth1", || {
        let status = hosts[0].vsctl("get interface t0 status:tunnel_egress_iface");
        if status.contains("eth1") { Ok(()) } else { Err(status) }
    });
    assert!(seen(&lab, &hosts, &pods, "eth1", WHOLE) > 0, "by the new way");
    hosts[0].run("ip link set lo down");
    expect(&hosts[0], "vswitch, which is slower: lo is down");
    assert!(seen(&lab, &hosts, &pods, "eth1", TUNNELLED) > 0);
}
