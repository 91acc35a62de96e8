//! Frames through real devices, with the offloads that a veth has when nobody touches it.

use crate::lab::{Host, Space, eventually, port, root, transfer};
use datapath::control::{Action, PortKind, PortSpec};
use datapath::packet::{ChecksumState, Frame, Gso, GsoKind};
use datapath::port::Caps;
use datapath::port::memory::MemoryPort;
use datapath::switch::state::VlanMode;
use datapath::switch::verdict::DropReason;
use datapath::tunnel::{Protocol, Tunnel};
use datapath::types::{TunnelKey, VlanId};
use std::net::IpAddr;

/// Frames larger than a device would send by itself: the sender's super-frames were carried whole.
fn carried_whole(host: &Host, port: &str) -> bool {
    let stats = host.stats(port);
    stats.tx_bytes / stats.tx_packets.max(1) > 3000
}

#[test]
fn two_pods_ping_and_transfer_with_default_offloads() {
    if !root("two_pods_ping_and_transfer_with_default_offloads") {
        return;
    }
    let mut host = Host::new("host");
    let (a, b) = (host.pod("p1", "10.1.0.1/24"), host.pod("p2", "10.1.0.2/24"));
    a.ip("addr add fd00::1/64 dev eth0 nodad");
    b.ip("addr add fd00::2/64 dev eth0 nodad");
    assert!(a.pings("10.1.0.2") && b.pings("10.1.0.1") && a.pings("fd00::2"));
    transfer(&a, &b, "10.1.0.2:5000", 50);
    assert!(carried_whole(&host, "p2"), "{:?}", host.stats("p2"));
    transfer(&b, &a, "[fd00::1]:5000", 50);
    assert!(carried_whole(&host, "p1"), "{:?}", host.stats("p1"));
    for port in ["p1", "p2"] {
        let drops = host.stats(port).drops;
        let harmless = |r| matches!(r, DropReason::NoOutput | DropReason::Hairpin);
        assert!(drops.iter().all(|&(r, _)| harmless(r)), "{port}: {drops:?}");
    }
}

/// Two hosts whose bridges are joined by a cable between trunk ports `t0`.
fn joined_hosts() -> (Host, Host) {
    let (mut h1, mut h2) = (Host::new("h1"), Host::new("h2"));
    let ifindex = h1.space.cable("t0", &h2.space, "t0");
    h1.add("t0", PortKind::Netdev { ifindex });
    h2.add("t0", PortKind::Netdev { ifindex: h2.space.index("t0") });
    (h1, h2)
}

#[test]
fn super_frames_cross_a_tagged_trunk() {
    if !root("super_frames_cross_a_tagged_trunk") {
        return;
    }
    let (mut h1, mut h2) = joined_hosts();
    let (p1, p2) = (h1.pod("p1", "10.1.0.1/24"), h2.pod("p1", "10.1.0.2/24"));
    for host in [&mut h1, &mut h2] {
        let vlan = VlanMode::Access(VlanId::new(10).unwrap());
        let kind = PortKind::Netdev { ifindex: host.space.index("p1") };
        host.apply(Action::SetPort(PortSpec { vlan, ..port("p1", kind) })).unwrap();
    }
    assert!(p1.pings("10.1.0.2"));
    transfer(&p1, &p2, "10.1.0.2:5000", 30);
    transfer(&p2, &p1, "10.1.0.1:5000", 30);
    for host in [&h1, &h2] {
        assert!(carried_whole(host, "t0") && carried_whole(host, "p1"));
    }
}

/// Ethernet, these tags, then IPv4 and TCP with `payload` bytes and an unfinished checksum; a super-frame if it is long.
fn tcp_frame(tags: &[(u16, u16)], payload: u16) -> Frame {
    let mut bytes = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    for (tpid, tci) in tags {
        bytes.extend([tpid.to_be_bytes(), tci.to_be_bytes()].concat());
    }
    let l3 = bytes.len() + 2;
    let total = (40 + payload).to_be_bytes();
    let ip = [8, 0, 0x45, 0, total[0], total[1], 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2];
    let tcp = [0x13, 0x88, 0x13, 0x89, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0];
    bytes.extend([&ip[..], &tcp].concat());
    bytes.extend((0..payload).map(|i| i as u8));
    let mut frame = Frame::from_bytes(&bytes);
    let start = (l3 + 20) as u16;
    frame.meta.csum = ChecksumState::Partial { start, offset: 16 };
    frame.meta.gso =
        (payload > 1460).then_some(Gso { kind: GsoKind::TcpV4, size: 1448, header_len: start + 20, ecn: false });
    frame
}

#[test]
fn tags_and_what_is_unfinished_survive_a_cable() {
    if !root("tags_and_what_is_unfinished_survive_a_cable") {
        return;
    }
    let (mut h1, mut h2) = joined_hosts();
    let (m1, m2) = (MemoryPort::new(Caps::ALL).unwrap(), MemoryPort::new(Caps::ALL).unwrap());
    h1.add("m", PortKind::Memory(m1.clone()));
    h2.add("m", PortKind::Memory(m2.clone()));
    let tags: [&[(u16, u16)]; 4] = [&[], &[(0x8100, 0x600a)], &[(0x88a8, 20)], &[(0x88a8, 20), (0x8100, 5)]];
    for tags in tags {
        for payload in [10, 1400, 30_000] {
            let sent = tcp_frame(tags, payload);
            m1.inject(tcp_frame(tags, payload));
            let mut seen = vec![];
            let arrived = eventually(|| {
                // The host's own IPv6 chatter on the cable comes through too.
                seen.extend(m2.drain().into_iter().filter(|f| f.bytes()[6..12] == sent.bytes()[6..12]));
                !seen.is_empty()
            });
            assert!(arrived, "{tags:x?}, {payload} bytes: lost; {:?}", h1.stats("t0"));
            assert!(seen[0].bytes() == sent.bytes(), "{tags:x?}, {payload} bytes: changed");
            assert_eq!((seen[0].meta.csum, seen[0].meta.gso), (sent.meta.csum, sent.meta.gso), "{tags:x?}, {payload}");
        }
    }
}

#[test]
fn the_host_reaches_its_pods_through_its_own_port() {
    if !root("the_host_reaches_its_pods_through_its_own_port") {
        return;
    }
    let mut host = Host::new("host");
    let pod = host.pod("p1", "10.1.0.1/24");
    let applied = host.add("br0", PortKind::Internal);
    assert_eq!(applied.ifindex, Some(host.space.index("br0")));
    assert_eq!(applied.status, [("io".to_owned(), "tap".to_owned())]);
    host.space.ip("addr add 10.1.0.254/24 dev br0");
    host.space.ip("link set br0 up");
    assert!(pod.pings("10.1.0.254") && host.space.pings("10.1.0.1"));
    transfer(&host.space, &pod, "10.1.0.1:5000", 30);
    transfer(&pod, &host.space, "10.1.0.254:5000", 30);
    assert!(carried_whole(&host, "p1") && carried_whole(&host, "br0"));
}

#[test]
fn the_hosts_own_stack_sees_nothing_of_an_attached_device() {
    if !root("the_hosts_own_stack_sees_nothing_of_an_attached_device") {
        return;
    }
    let mut host = Host::new("host");
    let pod = host.pod("p1", "10.1.0.1/24");
    host.space.ip("addr add 10.1.0.99/24 dev p1");
    assert!(!pod.succeeds("ping -c 1 -W 1 10.1.0.99"), "the host answered behind the switch's back");
    host.apply(Action::RemovePort { name: "p1".to_owned() }).unwrap();
    assert!(pod.pings("10.1.0.99"), "the device is the host's again");
}

/// Two hosts with an underlay cable (`ul`), a pod each at 10.1.0.1 and .2 behind `br0`, and a VXLAN port between them.
fn two_hosts(underlay: [&str; 2]) -> (Host, Host, Space, Space) {
    let (mut h1, mut h2) = (Host::new("h1"), Host::new("h2"));
    h1.space.cable("ul", &h2.space, "ul");
    let (p1, p2) = (h1.pod("p1", "10.1.0.1/24"), h2.pod("p1", "10.1.0.2/24"));
    for (host, own, remote) in [(&mut h1, underlay[0], underlay[1]), (&mut h2, underlay[1], underlay[0])] {
        let length = if own.contains(':') { 64 } else { 24 };
        host.space.ip(&format!("addr add {own}/{length} dev ul nodad"));
        host.space.ip("link set ul mtu 1600");
        host.add("vx0", PortKind::Tunnel(vxlan(5000, remote, None)));
    }
    (h1, h2, p1, p2)
}

fn vxlan(vni: u32, remote: &str, local: Option<&str>) -> Tunnel {
    let remote: IpAddr = remote.parse().unwrap();
    let local = local.map(|l| l.parse().unwrap());
    Tunnel { local, ..Tunnel::new(Protocol::Vxlan, (remote, 4789).into(), TunnelKey(vni)) }
}

#[test]
fn pods_of_two_hosts_talk_over_vxlan() {
    if !root("pods_of_two_hosts_talk_over_vxlan") {
        return;
    }
    for underlay in [["192.0.2.1", "192.0.2.2"], ["2001:db8::1", "2001:db8::2"]] {
        let (h1, h2, p1, p2) = two_hosts(underlay);
        assert!(p1.pings("10.1.0.2"), "over {underlay:?}");
        transfer(&p1, &p2, "10.1.0.2:5000", 30);
        transfer(&p2, &p1, "10.1.0.1:5000", 30);
        for host in [&h1, &h2] {
            assert!(carried_whole(host, "p1"), "coalesced again: {:?}", host.stats("p1"));
            assert_eq!(host.stats("vx0").drops, []);
            assert!(
                eventually(|| host.adds_up(&["p1", "vx0"])),
                "{:?} {:?}",
                host.stats("vx0"),
                host.datapath.totals()
            );
        }
    }
}

#[test]
fn a_kernel_vxlan_device_is_a_good_peer() {
    if !root("a_kernel_vxlan_device_is_a_good_peer") {
        return;
    }
    let (mut host, peer) = (Host::new("host"), Space::new("peer"));
    host.space.cable("ul", &peer, "ul");
    for (space, address) in [(&host.space, "192.0.2.1/24"), (&peer, "192.0.2.2/24")] {
        space.ip(&format!("addr add {address} dev ul"));
        space.ip("link set ul mtu 1600");
    }
    peer.ip("link add vx0 type vxlan id 5000 dstport 4789 remote 192.0.2.1 dev ul");
    peer.ip("addr add 10.1.0.2/24 dev vx0");
    peer.ip("link set vx0 mtu 1450 up");
    let pod = host.pod("p1", "10.1.0.1/24");
    pod.ip("link set eth0 mtu 1450");
    host.add("vx0", PortKind::Tunnel(vxlan(5000, "192.0.2.2", None)));
    assert!(pod.pings("10.1.0.2"));
    // Nothing on a veth underlay finishes or segments: the kernel's super-frames come as they are.
    transfer(&peer, &pod, "10.1.0.1:5000", 50);
    assert!(carried_whole(&host, "p1"), "{:?}", host.stats("p1"));
    transfer(&pod, &peer, "10.1.0.2:5000", 50);
    assert_eq!(host.stats("vx0").drops, []);
    assert!(eventually(|| host.adds_up(&["p1", "vx0"])), "{:?} {:?}", host.stats("vx0"), host.datapath.totals());
}

#[test]
fn a_tunnel_is_used_from_its_local_address_and_by_its_vni_only() {
    if !root("a_tunnel_is_used_from_its_local_address_and_by_its_vni_only") {
        return;
    }
    let (mut h1, mut h2, p1, _p2) = two_hosts(["192.0.2.1", "192.0.2.2"]);
    h1.space.ip("addr add 192.0.2.11/24 dev ul");
    let set = |host: &mut Host, tunnel| host.apply(Action::SetPort(port("vx0", PortKind::Tunnel(tunnel)))).unwrap();
    set(&mut h1, vxlan(5000, "192.0.2.2", Some("192.0.2.11")));
    assert!(!p1.succeeds("ping -c 1 -W 1 10.1.0.2"), "h2 expects another sender");
    set(&mut h2, vxlan(5000, "192.0.2.11", None));
    assert!(p1.pings("10.1.0.2"));
    set(&mut h2, vxlan(6000, "192.0.2.11", None));
    assert!(!p1.succeeds("ping -c 1 -W 1 10.1.0.2"), "another network");
    assert!(h2.datapath.totals().portless.iter().any(|&(r, n)| r == DropReason::UnknownVni && n > 0));
}

#[test]
fn an_unreachable_remote_is_counted() {
    if !root("an_unreachable_remote_is_counted") {
        return;
    }
    let mut host = Host::new("host");
    let pod = host.pod("p1", "10.1.0.1/24");
    host.add("vx0", PortKind::Tunnel(vxlan(5000, "198.51.100.1", None)));
    assert!(!pod.succeeds("ping -c 1 -W 1 10.1.0.2"));
    let drops = host.stats("vx0").drops;
    assert!(drops.iter().any(|&(r, n)| r == DropReason::TxNoRoute && n > 0), "{drops:?}");
}

#[test]
fn a_remote_that_does_not_listen_spoils_no_later_frame() {
    if !root("a_remote_that_does_not_listen_spoils_no_later_frame") {
        return;
    }
    let (mut host, peer) = (Host::new("host"), Space::new("peer"));
    host.space.cable("ul", &peer, "ul");
    for (space, address) in [(&host.space, "192.0.2.1/24"), (&peer, "192.0.2.2/24")] {
        space.ip(&format!("addr add {address} dev ul"));
        space.ip("link set ul mtu 1600");
    }
    let pod = host.pod("p1", "10.1.0.1/24");
    host.add("vx0", PortKind::Tunnel(vxlan(5000, "192.0.2.2", None)));
    // Each is answered by an ICMP error.
    assert!(!pod.succeeds("ping -c 3 -i 0.2 -W 1 10.1.0.2"));
    let stats = host.stats("vx0");
    assert!(stats.tx_packets >= 3 && stats.drops.is_empty(), "{stats:?}");
    // What does not fit the way there is refused by the kernel, and counted.
    host.space.ip("link set ul mtu 1400");
    pod.ip("neigh replace 10.1.0.2 lladdr 02:00:00:00:00:02 dev eth0");
    assert!(!pod.succeeds("ping -s 1372 -c 1 -W 1 10.1.0.2"));
    assert_eq!(host.stats("vx0").drops, [(DropReason::TxTooBig, 1)]);
}

#[test]
fn a_far_end_with_a_smaller_mtu_costs_its_frames_and_no_others() {
    if !root("a_far_end_with_a_smaller_mtu_costs_its_frames_and_no_others") {
        return;
    }
    let mut host = Host::new("host");
    let (a, b) = (host.pod("p1", "10.1.0.1/24"), host.pod("p2", "10.1.0.2/24"));
    b.ip("link set eth0 mtu 1400");
    assert!(a.pings("10.1.0.2"));
    assert!(!a.succeeds("ping -M do -s 1460 -c 1 -W 1 10.1.0.2"));
    let drops = host.stats("p2").drops;
    assert!(drops.iter().any(|&(r, n)| r == DropReason::TxQueueFull && n > 0), "{drops:?}");
    host.space.ip("link set p2 mtu 1300");
    assert!(!a.succeeds("ping -M do -s 1380 -c 1 -W 1 10.1.0.2"));
    let drops = host.stats("p2").drops;
    assert!(drops.iter().any(|&(r, n)| r == DropReason::TxTooBig && n > 0), "{drops:?}");
    assert!(a.pings("10.1.0.2"));
}
