//! Rate limits, to the byte and the nanosecond: what passes, what waits for how long, what is dropped and where it counts.
//!
//! All rates are 8 Mbit/s, which is a byte a microsecond, and a packet "of 1000" is 1,000 bytes long.

use std::time::Duration;
use vswitch_tests::lab::*;

/// A byte a microsecond in bursts of so many bytes, with room for so many bytes to wait.
fn limit(burst: u64, queue: u64) -> Limit {
    Limit { bits: Some(Tokens { rate: 8_000_000, burst: 8 * burst }), packets: None, queue }
}

/// 1,000 bytes from station aa to bb, in a flow of its own.
fn packet(flow: u16) -> Packet {
    eth("aa→bb").udp(958).flow(flow)
}

fn packets(flows: std::ops::Range<u16>) -> Vec<Packet> {
    flows.map(packet).collect()
}

/// So many microseconds pass, and what waited for them goes on.
fn after(lab: &mut Lab, micros: u64) {
    lab.advance_by(Duration::from_micros(micros));
    lab.run();
}

#[test]
fn a_shaped_port_sends_its_burst_and_then_a_byte_a_microsecond() {
    let mut lab = Lab::new([port("p1"), port("p2").egress(limit(2000, 3000))]);
    lab.send_all("p1", packets(0..7));
    lab.expect([to_each("p2", packets(0..2)), dropped("p2", DropReason::EgressRate, 2)]);
    assert_eq!(lab.due_in(), Some(Duration::from_millis(1)), "the worker sleeps until then");
    after(&mut lab, 999);
    lab.expect_nothing();
    after(&mut lab, 1);
    lab.expect([to("p2", packet(2))]);
    // There is room for one more, and it waits behind those that wait.
    lab.send("p1", packet(7));
    lab.expect_nothing();
    after(&mut lab, 1500);
    lab.expect([to("p2", packet(3))]);
    assert_eq!(lab.due_in(), Some(Duration::from_micros(500)));
    after(&mut lab, 1500);
    lab.expect([to_each("p2", [packet(4), packet(7)])]);
    assert_eq!(lab.due_in(), None);
    // The other direction has no limit.
    lab.send_all("p2", (0..20).map(|flow| eth("bb→aa").udp(958).flow(flow)));
    lab.expect([to_each("p1", (0..20).map(|flow| eth("bb→aa").udp(958).flow(flow)))]);
}

/// On a busy machine the worker may come late, by more than the burst; the port has its rate all the same.
#[test]
fn a_late_release_makes_up_for_what_it_missed() {
    let mut lab = Lab::new([port("p1"), port("p2").egress(limit(1000, 200_000))]);
    lab.send_all("p1", packets(0..160));
    lab.expect([to("p2", packet(0))]);
    after(&mut lab, 4500);
    lab.expect([to_each("p2", packets(1..5))]);
    assert_eq!(lab.due_in(), Some(Duration::from_micros(500)));
    // But it does not make up for more than 100 ms.
    after(&mut lab, 130_500);
    lab.expect([to_each("p2", packets(5..106))]);
    // Nor is anything saved up for what was not there to go.
    lab.set_port("p2", |p| p.limits.egress = None);
    lab.run();
    lab.ignore();
    lab.set_port("p2", |p| p.limits.egress = Some(limit(1000, 9000)));
    lab.send_all("p1", packets(0..2));
    lab.expect([to("p2", packet(0))]);
    after(&mut lab, 50_000);
    lab.expect([to("p2", packet(1))]);
    lab.send_all("p1", packets(2..4));
    lab.expect([to("p2", packet(2))]);
    after(&mut lab, 1000);
    lab.expect([to("p2", packet(3))]);
}

#[test]
fn a_policed_port_drops_what_is_in_excess_and_learns_nothing_from_it() {
    let mut lab = Lab::new([port("p1").ingress(limit(2000, 0)), port("p2")]);
    lab.send_all("p1", packets(0..5));
    lab.expect([to_each("p2", packets(0..2)), dropped("p1", DropReason::IngressRate, 3)]);
    lab.send("p1", eth("cc→bb").udp(958));
    lab.expect([dropped("p1", DropReason::IngressRate, 1)]);
    assert_eq!(lab.fdb("br0"), ["0 aa p1"]);
    after(&mut lab, 1000);
    lab.send_all("p1", packets(5..7));
    lab.expect([to("p2", packet(5)), dropped("p1", DropReason::IngressRate, 1)]);
}

#[test]
fn packets_a_second_are_limited_whatever_their_size() {
    let packets_only = Limit { packets: Some(Tokens { rate: 1000, burst: 3 }), ..Limit::default() };
    let mut lab = Lab::new([port("p1").ingress(packets_only), port("p2")]);
    lab.send_all("p1", (0..5).map(|flow| eth("aa→bb").udp(1).flow(flow)));
    lab.expect([
        to_each("p2", (0..3).map(|flow| eth("aa→bb").udp(1).flow(flow))),
        dropped("p1", DropReason::IngressRate, 2),
    ]);
    after(&mut lab, 1000);
    // A super-frame is as many packets as it has segments; larger than the bucket, it would pass when that is full.
    let whole = eth("aa→bb").tcp(3 * 1448).super_frame(1448);
    lab.send("p1", whole.clone());
    lab.expect([dropped("p1", DropReason::IngressRate, 1)]);
    after(&mut lab, 2000);
    lab.send_all("p1", [whole.clone(), eth("aa→bb").udp(1)]);
    lab.expect([to("p2", whole), dropped("p1", DropReason::IngressRate, 1)]);
}

#[test]
fn a_super_frame_is_charged_every_segment_s_headers() {
    let mut lab = Lab::new([port("p1"), port("p2").egress(limit(1000, 9000))]);
    // 14 + 20 + 32 bytes of headers before each of three segments.
    let whole = eth("aa→bb").tcp(3 * 1448).super_frame(1448);
    lab.send_all("p1", [whole.clone(), packet(0)]);
    lab.expect([to("p2", whole)]);
    assert_eq!(lab.due_in(), Some(Duration::from_micros(3 * (66 + 1448))));
    after(&mut lab, 3 * (66 + 1448));
    lab.expect([to("p2", packet(0))]);
}

#[test]
fn a_super_frame_that_waits_is_cut_when_it_goes() {
    let mut lab = Lab::new([port("p1"), port("p2").caps(Caps::NONE).egress(limit(1000, 9000))]);
    let whole = eth("aa→bb").tcp(2 * 1448).super_frame(1448);
    lab.send_all("p1", [packet(0), whole.clone()]);
    lab.expect([to("p2", packet(0))]);
    after(&mut lab, 1000);
    lab.expect([to_each("p2", whole.segments()), split(1)]);
}

#[test]
fn a_flood_reaches_the_other_ports_at_once() {
    let mut lab = Lab::new([port("p1"), port("p2").egress(limit(1000, 1000)), port("p3")]);
    let all = || (0..3).map(|flow| eth("aa→ff").udp(958).flow(flow));
    lab.send_all("p1", all());
    lab.expect([
        to_each("p2", all().take(1)),
        to_each("p3", all()),
        copied(3),
        dropped("p2", DropReason::EgressRate, 1),
    ]);
    after(&mut lab, 1000);
    lab.expect([to_each("p2", all().skip(1).take(1))]);
}

#[test]
fn tunnels_are_limited_by_what_they_carry_without_encapsulation() {
    let far = vxlan("vx0", 5000, "192.0.2.2").egress(limit(1000, 9000)).ingress(limit(1000, 1000));
    let mut lab = Lab::new([port("p1"), far]);
    lab.send_all("p1", packets(0..2));
    lab.expect([to("vx0", packet(0))]);
    after(&mut lab, 1000);
    lab.expect([to("vx0", packet(1))]);

    let back = |flow| eth("bb→aa").udp(958).flow(flow);
    for flow in 0..3 {
        lab.arrive("192.0.2.2".parse().unwrap(), None, &datagram(5000, &back(flow)));
    }
    lab.run();
    lab.expect([to("p1", back(0)), dropped("vx0", DropReason::IngressRate, 1)]);
    after(&mut lab, 1000);
    lab.expect([to("p1", back(1))]);
}

#[test]
fn both_ends_of_a_way_may_be_limited() {
    let mut lab = Lab::new([port("p1").ingress(limit(1000, 9000)), port("p2").egress(limit(1000, 9000))]);
    lab.send_all("p1", packets(0..3));
    lab.expect([to("p2", packet(0))]);
    // The second leaves the one limit when it may pass the other.
    after(&mut lab, 1000);
    lab.expect([to("p2", packet(1))]);
    after(&mut lab, 500);
    lab.set_port("p2", |p| p.limits.egress = Some(limit(500, 9000)));
    after(&mut lab, 500);
    lab.expect([to("p2", packet(2))]);
}

#[test]
fn a_limit_that_is_lifted_or_changed_loses_nothing_and_keeps_the_order() {
    let mut lab = Lab::new([port("p1"), port("p2").egress(limit(1000, 9000))]);
    lab.send_all("p1", packets(0..6));
    lab.expect([to("p2", packet(0))]);
    lab.set_port("p2", |p| p.limits.egress = Some(Limit { queue: 0, ..limit(1000, 0) }));
    after(&mut lab, 1000);
    lab.expect([to("p2", packet(1))]);
    lab.send("p1", packet(6));
    lab.expect([dropped("p2", DropReason::EgressRate, 1)]);
    lab.set_port("p2", |p| p.limits.egress = None);
    lab.send("p1", packet(7));
    lab.expect([to_each("p2", [packets(2..6), vec![packet(7)]].concat())]);
    // A limit that is set again begins with a full bucket.
    lab.set_port("p2", |p| p.limits.egress = Some(limit(1000, 0)));
    lab.send_all("p1", packets(0..2));
    lab.expect([to("p2", packet(0)), dropped("p2", DropReason::EgressRate, 1)]);
}

#[test]
fn what_waits_comes_in_by_the_port_as_it_is_then() {
    let mut lab =
        Lab::new([port("p1").access(10).ingress(limit(1000, 9000)), port("p2").access(10), port("p3").access(20)]);
    lab.send_all("p1", packets(0..2));
    lab.expect([to("p2", packet(0))]);
    lab.set_port("p1", |p| *p = p.clone().access(20));
    after(&mut lab, 1000);
    lab.expect([to("p3", packet(1))]);
}

#[test]
fn what_waits_for_a_port_that_goes_or_is_down_is_counted_there() {
    let mut lab = Lab::new([port("p1"), port("p2").egress(limit(1000, 9000)).ingress(limit(1000, 9000))]);
    lab.send_all("p1", packets(0..3));
    lab.expect([to("p2", packet(0))]);
    lab.set_port("p2", |p| p.up = false);
    after(&mut lab, 1000);
    lab.expect([dropped("p2", DropReason::PortDown, 1)]);
    lab.set_port("p2", |p| p.up = true);
    lab.send_all("p2", (0..3).map(|flow| eth("bb→aa").udp(958).flow(flow)));
    lab.expect([to("p1", eth("bb→aa").udp(958).flow(0))]);
    lab.remove_port("p2");
    lab.run();
    lab.expect([dropped("p2", DropReason::PortDown, 3)]);
    assert_eq!(lab.due_in(), None);
}

#[test]
fn patch_ports_are_limited_at_either_end() {
    for [a, b] in [
        [patch("pa", "pb").egress(limit(1000, 1000)), patch("pb", "pa")],
        [patch("pa", "pb"), patch("pb", "pa").ingress(limit(1000, 1000))],
    ] {
        let out = a.limits.egress.is_some();
        let mut lab = Lab::new([port("p0"), a, port("p1").on("br1"), b.on("br1")]);
        lab.send_all("p0", packets(0..3));
        let crossed = |packets: &[u16]| packets.iter().map(|&n| through("pa", "pb", &packet(n))).collect::<Vec<_>>();
        if out {
            lab.expect(
                crossed(&[0]).into_iter().chain([to("p1", packet(0)), dropped("pa", DropReason::EgressRate, 1)]),
            );
            after(&mut lab, 1000);
            lab.expect(crossed(&[1]).into_iter().chain([to("p1", packet(1))]));
        } else {
            let one_dropped = dropped("pb", DropReason::IngressRate, 1);
            lab.expect(crossed(&[0, 1, 2]).into_iter().chain([to("p1", packet(0)), one_dropped]));
            after(&mut lab, 1000);
            lab.expect([to("p1", packet(1))]);
        }
    }
}

/// Copies are limited like all that leaves by the port, but what becomes of them is the mirror's.
#[test]
fn copies_for_a_mirror_wait_for_its_output_and_count_at_the_mirror() {
    let mut lab = Lab::new([port("p1"), port("p2"), port("mon").egress(limit(1000, 2000))]);
    let mirrors = [mirror("a", "mon").arriving("p1"), mirror("b", "mon").arriving("p2")];
    lab.set_bridge("br0", |b| b.mirrors = mirrors.to_vec());
    lab.send_all("p1", packets(0..4));
    lab.expect([
        to_each("p2", packets(0..4)),
        copy_to("a", "mon", packet(0)),
        copied(3),
        dropped("a", DropReason::EgressRate, 1),
    ]);
    // What waits stays with its mirror when that has another number, and goes with it.
    lab.set_bridge("br0", |b| b.mirrors = vec![mirror("b", "mon").arriving("p2"), mirror("a", "mon").arriving("p1")]);
    after(&mut lab, 1000);
    let copy = packet(1);
    let bytes = copy.frame().len() as u64;
    lab.expect([to("mon", copy), Expect::Count("a.copies".into(), 1), Expect::Count("a.copy_bytes".into(), bytes)]);
    lab.set_bridge("br0", |b| b.mirrors = vec![mirror("b", "mon").arriving("p2")]);
    lab.run();
    lab.expect([dropped("a", DropReason::PortDown, 1)]);
    assert_eq!(lab.due_in(), None);
}

/// What waits is for the end that it was for, and from the one that it came from, when the list of ends is another.
#[test]
fn what_waits_follows_the_remote_ends_of_its_tunnel() {
    let [a, b, c] = ["192.0.2.2", "192.0.2.3", "192.0.2.4"];
    let ends = |lab: &mut Lab, ends: [&'static str; 2]| {
        lab.set_port("vx0", |p| p.tunnel = multipoint("vx0", 5000, ends).tunnel);
    };
    let from = |flow| eth("bb→aa").udp(958).flow(flow);
    let spec = multipoint("vx0", 5000, [a, b]).egress(limit(1000, 9000)).ingress(limit(1000, 9000));
    let mut lab = Lab::new([port("p1"), spec]);
    let arrive = |lab: &mut Lab, end: &str, flow| {
        lab.arrive(end.parse().unwrap(), None, &datagram(5000, &from(flow)));
        lab.run();
    };
    arrive(&mut lab, b, 0);
    lab.expect([to("p1", from(0))]);
    lab.send_all("p1", packets(0..2));
    lab.expect([to("vx0@192.0.2.3", packet(0))]);
    arrive(&mut lab, b, 1);
    lab.expect_nothing();
    ends(&mut lab, [b, c]);
    after(&mut lab, 1000);
    lab.expect([to("p1", from(1)), to("vx0@192.0.2.3", packet(1))]);
    assert_eq!(lab.fdb("br0"), ["0 aa p1", "0 bb vx0@192.0.2.3"]);

    // An end that goes: what is for it is for all, what came from it is not taken.
    lab.send("p1", packet(2));
    arrive(&mut lab, b, 2);
    lab.expect_nothing();
    ends(&mut lab, [c, a]);
    lab.run();
    lab.expect([dropped("vx0", DropReason::UnknownVni, 1)]);
    after(&mut lab, 1000);
    lab.expect([to("vx0@192.0.2.4", packet(2)), to("vx0@192.0.2.2", packet(2)), copied(1)]);
}
