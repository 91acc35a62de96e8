//! VXLAN between two labs, and what arrives at a tunnel that should not.

use datapath::types::VlanId;
use vswitch_tests::lab::DropReason::{TunnelMalformed, UnknownVni};
use vswitch_tests::lab::*;

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";

/// Two hosts with one tenant: a port and a tunnel each.
fn two_hosts() -> (Lab, Lab) {
    let a = Lab::at(A, [port("p1"), vxlan("vx0", 5000, B)]);
    let b = Lab::at(B, [port("p2"), vxlan("vx0", 5000, A)]);
    (a, b)
}

#[test]
fn a_packet_crosses_and_its_answer_comes_back() {
    let (mut a, mut b) = two_hosts();
    let (ping, pong) = (eth("aa→bb").udp(64), eth("bb→aa").udp(64));
    a.send("p1", ping.clone());
    a.expect([to("vx0", ping.clone())]);
    a.carry_to(&mut b);
    b.expect([to("p2", ping)]);
    b.send("p2", pong.clone());
    b.expect([to("vx0", pong.clone())]);
    b.carry_to(&mut a);
    a.expect([to("p1", pong)]);
    assert_eq!(a.fdb("br0"), ["0 aa p1", "0 bb vx0"]);
    assert_eq!(b.fdb("br0"), ["0 aa vx0", "0 bb p2"]);
}

#[test]
fn a_flood_goes_into_the_tunnel_and_never_back_out_of_it() {
    let mut a = Lab::at(A, [port("p1"), port("p2"), vxlan("vx0", 5000, B)]);
    let mut b = Lab::at(B, [port("p3"), port("p4"), vxlan("vx0", 5000, A)]);
    a.send("p1", eth("aa→ff"));
    a.expect([flood(["p2", "vx0"], eth("aa→ff"))]);
    a.carry_to(&mut b);
    b.expect([flood(["p3", "p4"], eth("aa→ff"))]);
}

#[test]
fn the_same_stations_in_two_networks_stay_apart() {
    let host = |address, remote| {
        let tenant_a = [port("a1").on("tenantA"), vxlan("vxA", 5000, remote).on("tenantA")];
        let mut lab = Lab::at(address, tenant_a);
        lab.add_port(port("b1").on("tenantB"));
        lab.add_port(vxlan("vxB", 6000, remote).on("tenantB"));
        lab
    };
    let (mut a, mut b) = (host(A, B), host(B, A));
    for (port, tunnel, len) in [("a1", "vxA", 10), ("b1", "vxB", 20)] {
        a.send(port, eth("aa→bb").udp(len));
        a.expect([to(tunnel, eth("aa→bb").udp(len))]);
        a.carry_to(&mut b);
        b.expect([to(port, eth("aa→bb").udp(len))]);
        b.send(port, eth("bb→aa").udp(len));
        b.expect([to(tunnel, eth("bb→aa").udp(len))]);
        b.carry_to(&mut a);
        a.expect([to(port, eth("bb→aa").udp(len))]);
    }
    assert_eq!(a.fdb("tenantA"), ["0 aa a1", "0 bb vxA"]);
    assert_eq!(a.fdb("tenantB"), ["0 aa b1", "0 bb vxB"]);
}

#[test]
fn a_network_that_no_port_has_is_dropped_and_counted() {
    let (mut a, mut b) = two_hosts();
    b.remove_port("vx0");
    b.add_port(vxlan("vx1", 5001, A));
    a.send("p1", eth("aa→bb"));
    a.expect([to("vx0", eth("aa→bb"))]);
    a.carry_to(&mut b);
    b.expect([lost(UnknownVni, 1)]);
    assert!(b.fdb("br0").is_empty());
}

#[test]
fn a_sender_that_no_port_has_is_dropped_and_counted() {
    let (_, mut b) = two_hosts();
    b.arrive("192.0.2.9".parse().unwrap(), None, &datagram(5000, &eth("aa→bb")));
    b.run();
    b.expect([lost(UnknownVni, 1)]);
    // As the other end it would have been taken.
    b.arrive(A.parse().unwrap(), None, &datagram(5000, &eth("aa→bb")));
    b.run();
    b.expect([to("p2", eth("aa→bb"))]);
}

#[test]
fn a_tunnel_with_a_local_address_takes_only_what_is_sent_there() {
    let mut lab = Lab::at(A, [port("p1"), vxlan("vx0", 5000, B).local("192.0.2.77")]);
    lab.arrive(B.parse().unwrap(), None, &datagram(5000, &eth("bb→aa")));
    lab.run();
    lab.expect([lost(UnknownVni, 1)]);
    lab.set_port("vx0", |p| *p = p.clone().local(A));
    lab.arrive(B.parse().unwrap(), None, &datagram(5000, &eth("bb→aa")));
    lab.run();
    lab.expect([to("p1", eth("bb→aa"))]);
}

#[test]
fn what_is_no_vxlan_is_counted() {
    let (_, mut b) = two_hosts();
    let good = datagram(5000, &eth("aa→bb"));
    let mut no_flag = good.clone();
    no_flag[0] = 0;
    for bytes in [&[][..], &good[..7], &good[..8 + 13], &no_flag] {
        b.arrive(A.parse().unwrap(), None, bytes);
        b.run();
        b.expect([lost(TunnelMalformed, 1)]);
    }
}

#[test]
fn a_bad_datagram_in_a_run_costs_only_itself() {
    let (_, mut b) = two_hosts();
    let mut bytes = vec![];
    for (i, vni) in [(1, 5000), (2, 5000), (3, 7000), (4, 5000)] {
        bytes.extend(datagram(vni, &eth("aa→bb").raw(0x88b5, vec![i; 46])));
    }
    let segment = bytes.len() / 4;
    bytes[segment] = 0;
    b.arrive(A.parse().unwrap(), Some(segment as u16), &bytes);
    b.run();
    b.expect([
        to("p2", eth("aa→bb").raw(0x88b5, vec![1; 46])),
        to("p2", eth("aa→bb").raw(0x88b5, vec![4; 46])),
        lost(TunnelMalformed, 1),
        lost(UnknownVni, 1),
    ]);
}

#[test]
fn a_super_frame_crosses_whole() {
    for whole in [eth("aa→bb").tcp(30_000).super_frame(1448), eth("aa→bb").tcp(30_000).v6().super_frame(1428)] {
        let (mut a, mut b) = two_hosts();
        let n = whole.segment_count() as u64;
        a.send("p1", whole.clone());
        a.expect([to_each("vx0", whole.segments()), split(n - 1)]);
        a.carry_to(&mut b);
        b.expect([to("p2", whole), merged(n - 1)]);
    }
}

#[test]
fn the_largest_super_frame_crosses_in_two_and_is_one_again() {
    let (mut a, mut b) = two_hosts();
    let whole = eth("aa→bb").tcp(64_000).super_frame(1448);
    assert_eq!(whole.segment_count(), 45);
    a.send("p1", whole.clone());
    // A run of datagrams is a UDP packet for the kernel, so of at most 43 × (8 + 14 + 52 + 1448) bytes.
    a.expect([to_each("vx0", whole.segments()), split(44)]);
    a.carry_to(&mut b);
    b.expect([to("p2", whole), merged(44)]);
}

#[test]
fn what_was_merged_is_cut_again_for_a_port_that_cannot() {
    let (mut a, mut b) = two_hosts();
    b.add_port(port("plain").caps(Caps::NONE));
    let whole = eth("aa→ff").tcp(5000).super_frame(1448);
    a.send("p1", whole.clone());
    a.expect([to_each("vx0", whole.segments()), split(3)]);
    a.carry_to(&mut b);
    b.expect([to_each("plain", whole.segments()), to("p2", whole), merged(3), copied(1), split(3)]);
}

#[test]
fn merged_frames_of_an_unknown_network_count_as_they_came() {
    let (mut a, mut b) = two_hosts();
    b.remove_port("vx0");
    let whole = eth("aa→bb").tcp(5000).super_frame(1448);
    a.send("p1", whole.clone());
    a.expect([to_each("vx0", whole.segments()), split(3)]);
    a.carry_to(&mut b);
    b.expect([lost(UnknownVni, 4)]);
}

#[test]
fn tcp_too_long_for_the_tunnel_is_cut_to_fit() {
    let (mut a, mut b) = two_hosts();
    a.set_port("vx0", |p| *p = p.clone().mtu(1450));
    // 1450 less 20 of IPv4 and 32 of TCP.
    let (payload, single) = (eth("aa→bb").tcp(14_480), eth("aa→bb").tcp(1448));
    a.send("p1", payload.clone().super_frame(1448));
    let fits = payload.super_frame(1398);
    let n = fits.segment_count() as u64;
    a.expect([to_each("vx0", fits.segments()), split(n - 1)]);
    a.carry_to(&mut b);
    b.expect([to("p2", fits), merged(n - 1)]);

    a.send("p1", single.clone());
    a.expect([to_each("vx0", single.super_frame(1398).segments()), split(1)]);
}

#[test]
fn of_anything_else_too_long_for_the_tunnel_the_sender_is_told() {
    let (mut a, _) = two_hosts();
    a.set_port("vx0", |p| *p = p.clone().mtu(1450));
    a.send("p1", eth("aa→bb").udp(1450 - 28));
    a.expect([to("vx0", eth("aa→bb").udp(1450 - 28))]);
    for (packet, fits) in [(eth("aa→bb").udp(1450 - 27), 1450), (eth("aa→bb").vlan(7).udp(1450 - 28), 1446)] {
        a.send("p1", packet.clone());
        a.expect([told("p1", &packet, "vx0", fits)]);
    }
    a.send("p1", eth("aa→bb").vlan(7).udp(1450 - 32));
    a.expect([to("vx0", eth("aa→bb").vlan(7).udp(1450 - 32))]);
}

#[test]
fn an_unfinished_checksum_is_finished_before_the_tunnel() {
    let (mut a, _) = two_hosts();
    for finished in [eth("aa→bb").udp(100), eth("aa→bb").tcp(100).v6()] {
        a.send("p1", finished.clone().unfinished());
        a.expect([to("vx0", finished)]);
    }
}

#[test]
fn an_unfinished_checksum_out_of_a_tunnel_is_recognised() {
    let mut b = Lab::at(B, [port("able"), port("plain").caps(Caps::NONE), vxlan("vx0", 5000, A)]);
    let finished = eth("aa→ff").tcp(100);
    // What a kernel's tunnel device on the same machine sends.
    b.arrive(A.parse().unwrap(), None, &datagram(5000, &finished.clone().unfinished()));
    b.run();
    b.expect([to("able", finished.clone().unfinished()), to("plain", finished), copied(1)]);
}

#[test]
fn tags_travel_in_the_tunnel_as_its_mode_says() {
    let mut a = Lab::at(A, [port("p10").access(10), port("p20").access(20), vxlan("vx0", 5000, B).trunk([10, 20])]);
    let mut b = Lab::at(B, [port("p10").access(10), port("p20").access(20), vxlan("vx0", 5000, A).trunk([10, 20])]);
    for vlan in [10, 20] {
        let port = if vlan == 10 { "p10" } else { "p20" };
        a.send(port, eth("aa→ff"));
        a.expect([to("vx0", eth("aa→ff").vlan(vlan))]);
        a.carry_to(&mut b);
        b.expect([to(port, eth("aa→ff"))]);
    }
    let vlans: Vec<_> = b.fdb("br0").iter().map(|line| line[..2].parse().ok().and_then(VlanId::new)).collect();
    assert_eq!(vlans, [VlanId::new(10), VlanId::new(20)]);
}

#[test]
fn a_flow_keeps_its_entropy_and_flows_differ() {
    let (mut a, _) = two_hosts();
    let mut entropy = |flow: u16, len: usize| {
        a.send("p1", eth("aa→bb").flow(flow).udp(len));
        a.expect([to("vx0", eth("aa→bb").flow(flow).udp(len))]);
        a.intercept()[0].meta.outer.unwrap().entropy
    };
    assert_eq!(entropy(1, 10), entropy(1, 500));
    let different: std::collections::HashSet<_> = (0..100).map(|flow| entropy(flow, 10)).collect();
    assert!(different.len() > 90, "{} of 100", different.len());
}

#[test]
fn a_tunnel_with_another_remote_forgets_who_was_behind_it() {
    let (mut a, mut b) = two_hosts();
    b.send("p2", eth("bb→ff"));
    b.expect([to("vx0", eth("bb→ff"))]);
    b.carry_to(&mut a);
    a.expect([to("p1", eth("bb→ff"))]);
    a.set_port("vx0", |p| p.tunnel = vxlan("vx0", 5000, "192.0.2.3").tunnel);
    assert!(a.fdb("br0").is_empty());
}

#[test]
fn a_super_frame_that_a_tunnel_carried_whole_is_one_again() {
    let mut b = Lab::at(B, [port("able"), port("plain").caps(Caps::NONE), vxlan("vx0", 5000, A).mtu(1450)]);
    let whole = eth("aa→ff").tcp(20_000).super_frame(1448);
    b.arrive(A.parse().unwrap(), None, &datagram(5000, &whole));
    b.run();
    // Which size its segments had is not in the datagram: it gets what fits the tunnel.
    let fits = eth("aa→ff").tcp(20_000).super_frame(1398);
    b.expect([to_each("plain", fits.segments()), split(fits.segment_count() as u64 - 1), to("able", fits), copied(1)]);
}
