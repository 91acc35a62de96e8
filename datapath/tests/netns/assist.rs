//! Flows that the kernel forwards by itself: seen from outside like any other, but for their speed.

use crate::lab::{Host, Space, bridge, eventually, port, root, transfer};
use datapath::control::{Action, PortKind, PortSpec};
use datapath::switch::state::VlanMode;
use datapath::types::{L3Mtu, VlanId};

/// A port for whose known flows the kernel forwards.
fn assisted(name: &str, ifindex: u32) -> PortSpec {
    PortSpec { assist: true, mtu: Some(L3Mtu(1500)), ..port(name, PortKind::Netdev { ifindex }) }
}

/// A pod behind an assisted port of `br0`; the device's index, too.
fn pod(host: &mut Host, name: &str, address: &str) -> (Space, u32) {
    let pod = Space::new(name);
    let ifindex = host.space.cable(name, &pod, "eth0");
    pod.ip(&format!("addr add {address} dev eth0 nodad"));
    let applied = host.apply(Action::AddPort(assisted(name, ifindex))).unwrap();
    assert!(applied.status.contains(&("assist".to_owned(), "on".to_owned())), "{applied:?}");
    (pod, ifindex)
}

/// Packets that the kernel has forwarded so far, by the flows that it forwards now.
fn taken(host: &Host) -> Vec<u64> {
    let (flows, _) = host.datapath.assisted().expect("it is on");
    flows.iter().map(|flow| flow.packets).collect()
}

/// Keeps two pods talking until the kernel forwards both ways.
fn settle(host: &Host, from: &Space, to: &str) {
    let both = || {
        from.pings(to);
        taken(host).len() == 2
    };
    assert!(eventually(both), "{:?}", host.datapath.assisted());
}

#[test]
fn the_kernel_takes_known_flows_and_each_frame_arrives_once() {
    if !root("the_kernel_takes_known_flows_and_each_frame_arrives_once") {
        return;
    }
    let mut host = Host::new("taken");
    let ((a, _), (b, _)) = (pod(&mut host, "p1", "10.9.0.1/24"), pod(&mut host, "p2", "10.9.0.2/24"));
    settle(&host, &a, "10.9.0.2");
    let before = taken(&host);
    let said = a.exec("ping -q -c 500 -i 0.002 10.9.0.2");
    assert!(said.contains(" 500 received") && !said.contains("duplicates"), "{said}");
    let after = taken(&host);
    assert!(after.iter().zip(&before).all(|(after, before)| after - before >= 500), "{before:?} {after:?}");
    let (_, first) = (taken(&host), ["p1", "p2"].map(|port| host.stats(port)));
    transfer(&a, &b, "10.9.0.2:9000", 100);
    assert!(eventually(|| host.datapath.count_assisted() && host.adds_up(&["p1", "p2"])));
    let (rx, tx) = (host.stats("p1").rx_bytes - first[0].rx_bytes, host.stats("p2").tx_bytes - first[1].tx_bytes);
    assert!(rx > 100_000_000, "super-frames are counted whole: {rx}");
    assert_eq!(rx, tx);
}

#[test]
fn a_frame_arrives_once_whatever_becomes_of_the_table_meanwhile() {
    if !root("a_frame_arrives_once_whatever_becomes_of_the_table_meanwhile") {
        return;
    }
    let mut host = Host::new("storm");
    let ((a, _), (_b, _)) = (pod(&mut host, "p1", "10.9.0.1/24"), pod(&mut host, "p2", "10.9.0.2/24"));
    settle(&host, &a, "10.9.0.2");
    let ping = || a.exec("ping -q -c 3000 -i 0.001 10.9.0.2");
    let said = std::thread::scope(|s| {
        let pinging = s.spawn(ping);
        while !pinging.is_finished() {
            host.apply(Action::SetBridge(bridge("br0"))).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(3));
        }
        pinging.join().unwrap()
    });
    assert!(said.contains(" 3000 received") && !said.contains("duplicates"), "{said}");
    assert!(eventually(|| host.datapath.count_assisted() && host.adds_up(&["p1", "p2"])));
}

/// Two hosts with a trunk between them: tags come and go, and what one host's kernel has marked is nothing to the other.
#[test]
fn tags_change_as_in_user_space() {
    if !root("tags_change_as_in_user_space") {
        return;
    }
    let (mut left, mut right) = (Host::new("left"), Host::new("right"));
    let ((a, a_index), (b, b_index)) = (pod(&mut left, "p1", "10.9.0.1/24"), pod(&mut right, "p1", "10.9.0.2/24"));
    let ifindex = left.space.cable("t0", &right.space, "t0");
    // The hosts' own frames on it would be counted, too.
    for host in [&left, &right] {
        host.space.exec("sysctl -qw net.ipv6.conf.t0.disable_ipv6=1");
    }
    left.apply(Action::AddPort(assisted("t0", ifindex))).unwrap();
    let ifindex = right.space.index("t0");
    right.apply(Action::AddPort(assisted("t0", ifindex))).unwrap();
    let access = VlanMode::Access(VlanId::new(20).unwrap());
    for (host, ifindex) in [(&mut left, a_index), (&mut right, b_index)] {
        host.apply(Action::SetPort(PortSpec { vlan: access.clone(), ..assisted("p1", ifindex) })).unwrap();
    }
    for host in [&left, &right] {
        settle(host, &a, "10.9.0.2");
    }
    let before = [taken(&left), taken(&right)];
    let first = [&left, &right].map(|host| ["p1", "t0"].map(|port| host.stats(port)));
    let said = a.exec("ping -q -c 200 -i 0.002 10.9.0.2");
    assert!(said.contains(" 200 received") && !said.contains("duplicates"), "{said}");
    let after = [taken(&left), taken(&right)];
    let grown = |(after, before): (&u64, &u64)| after - before >= 200;
    assert!(after.iter().flatten().zip(before.iter().flatten()).all(grown), "{before:?} {after:?}");
    transfer(&a, &b, "10.9.0.2:9000", 50);
    transfer(&b, &a, "10.9.0.1:9000", 50);
    for (host, [pod_was, trunk_was]) in [&left, &right].into_iter().zip(first) {
        assert!(eventually(|| host.datapath.count_assisted() && host.adds_up(&["p1", "t0"])));
        let (pod, trunk) = (host.stats("p1"), host.stats("t0"));
        let packets = pod.tx_packets - pod_was.tx_packets;
        assert_eq!(packets, trunk.rx_packets - trunk_was.rx_packets, "{pod:?} {trunk:?} {pod_was:?} {trunk_was:?}");
        let tags = (trunk.rx_bytes - trunk_was.rx_bytes) - (pod.tx_bytes - pod_was.tx_bytes);
        assert_eq!(tags, 4 * packets, "a tag on each frame of the trunk");
    }
}
