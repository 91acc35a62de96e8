//! Every kind of tunnel: what its header says, whose packets it takes, and what the outer IP header is told.

use std::collections::BTreeSet;
use vswitch_tests::lab::DropReason::{
    TunnelChecksum, TunnelEcn, TunnelMalformed, TunnelOption, TunnelPayload, UnknownVni,
};
use vswitch_tests::lab::*;

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";
const C: &str = "192.0.2.3";

type Kind = fn(&'static str, u32, &str) -> PortSpec;
const KINDS: [(Kind, Protocol); 3] = [(vxlan, Protocol::Vxlan), (geneve, Protocol::Geneve), (gre, Protocol::Gre)];

/// Two hosts with a port and a tunnel each.
fn two_hosts(kind: Kind, [a, b]: [&str; 2]) -> (Lab, Lab) {
    (Lab::at(a, [port("p1"), kind("t0", 5000, b)]), Lab::at(b, [port("p2"), kind("t0", 5000, a)]))
}

#[test]
fn every_kind_crosses_over_either_ip_version() {
    for (kind, _) in KINDS {
        for underlay in [[A, B], ["2001:db8::1", "2001:db8::2"]] {
            let (mut a, mut b) = two_hosts(kind, underlay);
            let (ping, pong) = (eth("aa→bb").udp(64), eth("bb→aa").v6().udp(64));
            a.send("p1", ping.clone());
            a.expect([to("t0", ping.clone())]);
            a.carry_to(&mut b);
            b.expect([to("p2", ping)]);
            b.send("p2", pong.clone());
            b.expect([to("t0", pong.clone())]);
            b.carry_to(&mut a);
            a.expect([to("p1", pong)]);
        }
    }
}

#[test]
fn one_remote_with_many_keys_and_one_key_with_many_remotes() {
    for (kind, protocol) in KINDS {
        let mut lab = Lab::new([]);
        let tunnels: [(&str, &str, &str, u32, &str); 4] = [
            ("br1", "p1", "t1", 1, B),
            ("br2", "p2", "t2", 2, B),
            ("br3", "p3", "t3", 1, C),
            ("br4", "p4", "t4", 0, C),
        ];
        for (bridge, name, tunnel, key, remote) in tunnels {
            lab.add_port(port(name).on(bridge));
            lab.add_port(kind(tunnel, key, remote).on(bridge));
        }
        for (_, name, tunnel, key, remote) in tunnels {
            lab.send(name, eth("aa→bb").udp(9));
            lab.expect([to(tunnel, eth("aa→bb").udp(9))]);
            lab.arrive_by(protocol, remote, &datagram_of(protocol, key, &eth("bb→aa").udp(9)));
            lab.run();
            lab.expect([to(name, eth("bb→aa").udp(9))]);
        }
        for (key, remote) in [(3, B), (0, B), (2, C), (1, "192.0.2.9")] {
            lab.arrive_by(protocol, remote, &datagram_of(protocol, key, &eth("bb→aa").udp(9)));
            lab.run();
            lab.expect([lost(UnknownVni, 1)]);
        }
    }
}

#[test]
fn kinds_with_the_same_key_and_remote_do_not_meet() {
    let mut lab = Lab::new([]);
    let names = [("br1", "p1", "t1"), ("br2", "p2", "t2"), ("br3", "p3", "t3")];
    for ((kind, _), (bridge, name, tunnel)) in KINDS.into_iter().zip(names) {
        lab.add_port(port(name).on(bridge));
        lab.add_port(kind(tunnel, 7, B).on(bridge));
    }
    for ((_, protocol), (_, name, _)) in KINDS.into_iter().zip(names) {
        lab.arrive_by(protocol, B, &datagram_of(protocol, 7, &eth("bb→aa")));
        lab.run();
        lab.expect([to(name, eth("bb→aa"))]);
    }
}

#[test]
fn the_tunnel_that_names_the_address_it_was_sent_to_comes_first() {
    for (kind, protocol) in KINDS {
        let mut lab = Lab::at(A, [port("p1").on("br1"), kind("any", 7, B).on("br1")]);
        lab.add_port(port("p2").on("br2"));
        lab.add_port(kind("named", 7, B).local(A).on("br2"));
        for (step, expected) in [("both", "p2"), ("the other address", "p1"), ("only one", "p1")] {
            match step {
                "the other address" => lab.set_port("named", |p| *p = p.clone().local("192.0.2.77")),
                "only one" => lab.remove_port("named"),
                _ => {}
            }
            lab.arrive_by(protocol, B, &datagram_of(protocol, 7, &eth("bb→aa")));
            lab.run();
            lab.expect([to(expected, eth("bb→aa"))]);
        }
    }
}

#[test]
fn in_key_and_out_key_may_differ() {
    for (kind, protocol) in KINDS {
        let mut lab = Lab::at(A, [port("p1"), kind("t0", 1, B).tunnel_with(|t| t.out_key.0 = 2)]);
        lab.send("p1", eth("aa→bb"));
        lab.expect([to("t0", eth("aa→bb"))]);
        for (key, expected) in [(1, to("p1", eth("bb→aa"))), (2, lost(UnknownVni, 1))] {
            lab.arrive_by(protocol, B, &datagram_of(protocol, key, &eth("bb→aa")));
            lab.run();
            lab.expect([expected]);
        }
    }
}

#[test]
fn tcp_is_cut_to_fit_every_kind() {
    for (kind, _) in KINDS {
        let (mut a, mut b) = two_hosts(kind, [A, B]);
        a.set_port("t0", |p| *p = p.clone().mtu(1400));
        a.send("p1", eth("aa→bb").tcp(14_480).super_frame(1448));
        // 1400 less 20 of IPv4 and 32 of TCP.
        let fits = eth("aa→bb").tcp(14_480).super_frame(1348);
        let n = fits.segment_count() as u64;
        a.expect([to_each("t0", fits.segments()), split(n - 1)]);
        a.carry_to(&mut b);
        // The kernel has no runs of GRE: it is what comes in one batch that is merged.
        b.expect([to("p2", fits), merged(n - 1)]);
        a.send("p1", eth("aa→bb").udp(1400));
        a.expect([told("p1", &eth("aa→bb").udp(1400), "t0", 1400)]);
        a.set_port("t0", |p| *p = p.clone().tunnel_with(|t| t.dont_fragment = false));
        a.send("p1", eth("aa→bb").udp(1400));
        a.expect([to("t0", eth("aa→bb").udp(1400))]);
        assert!(!a.intercept()[0].meta.outer.unwrap().dont_fragment);
    }
}

#[test]
fn datagrams_that_come_one_by_one_are_merged_within_a_batch_and_counted() {
    for (kind, protocol) in KINDS {
        let (_, mut b) = two_hosts(kind, [A, B]);
        let (whole, other) =
            (eth("aa→bb").tcp(60_000).super_frame(1448), eth("aa→bb").v6().tcp(3000).super_frame(1428));
        let one_by_one = |b: &mut Lab, packets: &[Packet]| {
            packets.iter().for_each(|packet| b.arrive_by(protocol, A, &datagram_of(protocol, 5000, packet)));
            b.run();
        };
        // More than a batch: 42 datagrams in 32 and 10.
        one_by_one(&mut b, &whole.segments());
        b.expect([to_each("p2", [whole.cut(0..32), whole.cut(32..42)]), merged(40)]);
        // Two flows, and something between.
        let [small, large] = [eth("aa→bb").udp(9), eth("aa→bb").udp(1400)];
        one_by_one(
            &mut b,
            &[other.segments(), vec![small.clone()], whole.cut(0..2).segments(), vec![large.clone()]].concat(),
        );
        b.expect([to_each("p2", [other.clone(), small, whole.cut(0..2), large]), merged(3)]);
        // A frame of nobody's between two that leave one after the other.
        let [first, last] = [whole.cut(0..1), whole.cut(1..2)];
        b.arrive_by(protocol, A, &datagram_of(protocol, 5000, &first));
        b.arrive_by(protocol, A, &datagram_of(protocol, 7000, &last));
        b.arrive_by(protocol, A, &datagram_of(protocol, 5000, &last));
        b.run();
        b.expect([to("p2", whole.cut(0..2)), merged(1), lost(UnknownVni, 1)]);
    }
}

#[test]
fn gre_with_a_checksum_is_understood_and_a_wrong_one_counted() {
    let summed = |name, key, remote: &str| gre(name, key, remote).tunnel_with(|t| t.checksum = true);
    for (key, header) in [(0, 8), (5000, 12)] {
        let mut a = Lab::at(A, [port("p1"), summed("t0", key, B)]);
        let mut b = Lab::at(B, [port("p2"), gre("t0", key, A)]);
        for packet in [eth("aa→bb").udp(64), eth("aa→bb").udp(63)] {
            a.send("p1", packet.clone());
            a.expect([to("t0", packet.clone())]);
            let [sent] = <[_; 1]>::try_from(a.intercept()).unwrap();
            b.arrive_by(Protocol::Gre, A, sent.bytes());
            b.run();
            b.expect([to("p2", packet)]);
            let mut damaged = sent.bytes().to_vec();
            damaged[header + 20] ^= 0x40;
            b.lose_by(Protocol::Gre, A, &damaged);
            b.expect([lost(TunnelChecksum, 1)]);
        }
    }
}

#[test]
fn gre_without_a_key_is_key_0_and_numbers_are_read_over() {
    let mut lab = Lab::at(A, [port("p1"), gre("t0", 0, B), gre("t7", 7, B).on("br7")]);
    lab.add_port(port("p7").on("br7"));
    let frame = eth("bb→aa").frame();
    for (header, expected) in [
        (&[0, 0, 0x65, 0x58][..], "p1"),
        (&[0x20, 0, 0x65, 0x58, 0, 0, 0, 0], "p1"),
        (&[0x10, 0, 0x65, 0x58, 9, 9, 9, 9], "p1"),
        (&[0x20, 0, 0x65, 0x58, 0, 0, 0, 7], "p7"),
        (&[0x30, 0, 0x65, 0x58, 0, 0, 0, 7, 9, 9, 9, 9], "p7"),
    ] {
        lab.arrive_by(Protocol::Gre, B, &[header, frame.bytes()].concat());
        lab.run();
        lab.expect([to(expected, eth("bb→aa"))]);
    }
}

#[test]
fn options_of_geneve_are_skipped_unless_they_are_critical() {
    let (_, mut b) = two_hosts(geneve, [A, B]);
    let frame = eth("aa→bb").frame();
    let mut header = vec![3, 0, 0x65, 0x58, 0, 0x13, 0x88, 0];
    header.extend([1, 2, 1, 2, 9, 9, 9, 9, 9, 9, 9, 9]);
    b.arrive_by(Protocol::Geneve, A, &[&header, frame.bytes()].concat());
    b.run();
    b.expect([to("p2", eth("aa→bb"))]);
    (header[1], header[10]) = (0x40, 0x81);
    b.lose_by(Protocol::Geneve, A, &[&header, frame.bytes()].concat());
    b.expect([lost(TunnelOption, 1)]);
}

#[test]
fn what_is_no_frame_of_the_tunnel_s_is_counted_by_its_reason() {
    for (protocol, bytes, reason) in [
        (Protocol::Geneve, &[0, 0x80, 0x65, 0x58, 0, 0x13, 0x88, 0][..], TunnelPayload),
        (Protocol::Geneve, &[0, 0, 0x08, 0x00, 0, 0x13, 0x88, 0], TunnelPayload),
        (Protocol::Geneve, &[0x40, 0, 0x65, 0x58, 0, 0x13, 0x88, 0], TunnelMalformed),
        (Protocol::Gre, &[0x20, 0, 0x08, 0x00, 0, 0, 0x13, 0x88], TunnelPayload),
        (Protocol::Gre, &[0x20, 1, 0x65, 0x58, 0, 0, 0x13, 0x88], TunnelMalformed),
        (Protocol::Vxlan, &[0, 0, 0, 0, 0, 0x13, 0x88, 0], TunnelMalformed),
    ] {
        let mut lab = Lab::at(B, [port("p2"), vxlan("v", 5000, A), geneve("g", 5000, A), gre("r", 5000, A)]);
        lab.lose_by(protocol, A, &[bytes, eth("aa→bb").frame().bytes()].concat());
        lab.expect([lost(reason, 1)]);
        // Nor is a header with half a frame behind it one.
        lab.lose_by(protocol, A, &datagram_of(protocol, 5000, &eth("aa→bb"))[..20]);
        lab.expect([lost(TunnelMalformed, 1)]);
    }
}

#[test]
fn congestion_on_the_underlay_reaches_the_inner_packet() {
    const CE: u8 = 3;
    for (kind, _) in KINDS {
        for inner in [eth("aa→bb").udp(64), eth("aa→bb").v6().udp(64), eth("aa→bb").vlan(7).udp(64)] {
            for (ecn, marked, expected) in [
                (0, 0, Some(0)),
                (1, CE, Some(CE)),
                (2, CE, Some(CE)),
                (CE, CE, Some(CE)),
                (2, 2, Some(2)),
                (2, 1, Some(1)),
                (0, 2, Some(0)),
                (0, CE, None),
            ] {
                let (mut a, mut b) = two_hosts(kind, [A, B]);
                // The DSCP inside stays what it is.
                let packet = |ecn| inner.clone().tos(0xb8 | ecn);
                a.send("p1", packet(ecn));
                a.expect([to("t0", packet(ecn))]);
                a.carry_marked(&mut b, |tos| {
                    assert_eq!(tos, ecn, "the outer header has the inner marks");
                    marked
                });
                match expected {
                    Some(ecn) => b.expect([to("p2", packet(ecn))]),
                    None => b.expect([dropped("t0", TunnelEcn, 1)]),
                }
            }
        }
    }
}

#[test]
fn frames_of_a_known_flow_are_no_exception() {
    for (kind, _) in KINDS {
        let (mut a, mut b) = two_hosts(kind, [A, B]);
        b.send("p2", eth("bb→aa").udp(9));
        b.expect([to("t0", eth("bb→aa").udp(9))]);
        b.carry_to(&mut a);
        a.expect([to("p1", eth("bb→aa").udp(9))]);
        let packet = |ecn| eth("aa→bb").tos(ecn).udp(64);
        for (ecn, marked, expected) in
            [(2, 2, Some(2)), (2, 2, Some(2)), (2, 3, Some(3)), (0, 3, None), (0, 0, Some(0))]
        {
            a.send("p1", packet(ecn));
            a.expect([to("t0", packet(ecn))]);
            a.carry_marked(&mut b, |_| marked);
            match expected {
                Some(ecn) => b.expect([to("p2", packet(ecn))]),
                None => b.expect([dropped("t0", TunnelEcn, 1)]),
            }
        }
    }
}

#[test]
fn a_whole_super_frame_hears_of_congestion() {
    let (mut a, mut b) = two_hosts(vxlan, [A, B]);
    let whole = |tos| eth("aa→bb").tos(tos).tcp(10_000).super_frame(1448);
    let n = whole(2).segment_count() as u64;
    for (tos, expected) in [(2, to("p2", whole(3))), (0, dropped("t0", TunnelEcn, 1))] {
        a.send("p1", whole(tos));
        a.expect([to_each("t0", whole(tos).segments()), split(n - 1)]);
        a.carry_marked(&mut b, |_| 3);
        b.expect([expected, merged(n - 1)]);
    }
}

#[test]
fn tos_and_ttl_of_the_outer_header_are_as_asked_for() {
    for (kind, _) in KINDS {
        let mut a = Lab::at(A, [port("p1"), kind("t0", 7, B)]);
        let mut outer = |change: fn(&mut datapath::tunnel::Tunnel), packet: Packet| {
            a.set_port("t0", |p| *p = kind("t0", 7, B).tunnel_with(change));
            a.send("p1", packet.clone());
            a.expect([to("t0", packet)]);
            let outer = a.intercept()[0].meta.outer.unwrap();
            (outer.tos, outer.ttl)
        };
        let packet = || eth("aa→bb").tos(0xb9).udp(9);
        assert_eq!(outer(|_| {}, packet()), (0x01, 64));
        assert_eq!(outer(|t| (t.tos, t.ttl) = (Field::Fixed(0x20), Field::Fixed(5)), packet()), (0x21, 5));
        assert_eq!(outer(|t| (t.tos, t.ttl) = (Field::Inherit, Field::Inherit), packet().v6()), (0xb9, 64));
        assert_eq!(outer(|t| (t.tos, t.ttl) = (Field::Inherit, Field::Inherit), eth("aa→bb")), (0, 64));
    }
}

#[test]
fn flows_are_spread_over_source_ports_where_there_are_some() {
    for (kind, _) in KINDS {
        let mut a = Lab::at(A, [port("p1"), kind("t0", 7, B)]);
        let mut entropy = |flow: u16| {
            a.send("p1", eth("aa→bb").flow(flow).udp(9));
            a.expect([to("t0", eth("aa→bb").flow(flow).udp(9))]);
            a.intercept()[0].meta.outer.unwrap().entropy
        };
        let different: BTreeSet<_> = (0..50).map(&mut entropy).collect();
        assert!(different.len() > 45, "{} of 50", different.len());
    }
}
