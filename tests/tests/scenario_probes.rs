//! Probes through tunnels: what is sent and answered, that nothing of it is forwarded, and tunnel packets of nobody.

use vswitch_tests::lab::DropReason::{Probe, ReservedGroup, UnknownVni};
use vswitch_tests::lab::*;

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";
const C: &str = "192.0.2.3";

type Kind = fn(&'static str, u32, &str) -> PortSpec;
const KINDS: [(Kind, Protocol); 3] = [(vxlan, Protocol::Vxlan), (geneve, Protocol::Geneve), (gre, Protocol::Gre)];

/// Two hosts with a port and a tunnel each, which is said to carry so much.
fn two_hosts(kind: Kind, [a, b]: [u32; 2]) -> (Lab, Lab) {
    (Lab::at(A, [port("p1"), kind("t0", 5000, B).mtu(a)]), Lab::at(B, [port("p2"), kind("t0", 5000, A).mtu(b)]))
}

/// The three probes of an end. No two of equal length follow each other, as these would leave in one run.
fn requests(first_id: u64, len: usize) -> [Packet; 3] {
    [request(first_id + 1, len, 60), request(first_id, 60, 60), request(first_id + 2, len, len as u16)]
}

#[test]
fn a_length_that_passes_both_ways() {
    for (kind, _) in KINDS {
        let (mut a, mut b) = two_hosts(kind, [1450, 1450]);
        a.probe("t0", 7);
        a.run();
        assert_eq!(a.probed(), ["0 1450: - - -"]);
        a.expect([to_each("t0", requests(7, 1464)), generated(3)]);
        a.carry_to(&mut b);
        let answers = [answer(8, 60, 1464), answer(7, 60, 60), answer(9, 1464, 1464)];
        b.expect([to_each("t0", answers), generated(3), dropped("t0", Probe, 3)]);
        b.carry_to(&mut a);
        a.expect([dropped("t0", Probe, 3)]);
        assert_eq!(a.probed(), ["0 1450: 60/60 1464/60 1464/1464"]);
        assert!(a.fdb("br0").is_empty() && b.fdb("br0").is_empty(), "nothing is learned from probes");
    }
}

#[test]
fn an_end_that_can_answer_with_less_does() {
    let (mut a, mut b) = two_hosts(vxlan, [1450, 1350]);
    a.probe("t0", 1);
    a.run();
    a.expect([to_each("t0", requests(1, 1464)), generated(3)]);
    a.carry_to(&mut b);
    let answers = [answer(2, 60, 1464), answer(1, 60, 60), answer(3, 1364, 1464)];
    b.expect([to_each("t0", answers), generated(3), dropped("t0", Probe, 3)]);
    b.carry_to(&mut a);
    a.expect([dropped("t0", Probe, 3)]);
    assert_eq!(a.probed(), ["0 1450: 60/60 1464/60 1464/1364"]);
}

#[test]
fn what_is_changed_on_the_way_is_told() {
    let (mut a, mut b) = two_hosts(vxlan, [1450, 1450]);
    a.probe("t0", 1);
    a.run();
    a.expect([to_each("t0", requests(1, 1464)), generated(3)]);
    let mut long = datagram(5000, &request(2, 1464, 60));
    *long.last_mut().expect("bytes") ^= 1;
    b.arrive_by(Protocol::Vxlan, A, &long);
    b.run();
    let sent = b.ignore();
    assert_eq!(sent[0].1.bytes()[22..26], [1, 2, 0x05, 0xb8], "1464 bytes, changed");
    b.carry_to(&mut a);
    a.expect([dropped("t0", Probe, 1)]);
    assert_eq!(a.probed(), ["0 1450: - 1464/60 changed -"]);
}

#[test]
fn every_end_of_several_is_probed_by_itself() {
    let mut a = Lab::at(A, [port("p1"), multipoint("t0", 5000, [B, C]).mtu(1450)]);
    let mut b = Lab::at(B, [port("p2"), vxlan("t0", 5000, A).mtu(1450)]);
    a.probe("t0", 1);
    a.run();
    a.expect([to_each("t0@192.0.2.2", requests(1, 1464)), to_each("t0@192.0.2.3", requests(4, 1464)), generated(6)]);
    a.carry_to(&mut b);
    assert_eq!(b.ignore().len(), 3);
    b.carry_to(&mut a);
    a.expect([dropped("t0", Probe, 3)]);
    assert_eq!(a.probed(), ["0 1450: 60/60 1464/60 1464/1464", "1 1450: - - -"]);
    // An answer from another end than was asked is not believed.
    a.arrive(C.parse().expect("an address"), None, &datagram(5000, &answer(1, 60, 61)));
    a.run();
    a.expect([dropped("t0", Probe, 1)]);
    assert_eq!(a.probed()[0], "0 1450: 60/60 1464/60 1464/1464");
}

#[test]
fn an_end_is_answered_ten_times_a_second() {
    let (_, mut b) = two_hosts(vxlan, [1450, 1450]);
    let storm = |b: &mut Lab, n: u64| {
        for id in 0..n {
            b.arrive_by(Protocol::Vxlan, A, &datagram(5000, &request(id, 60, 9000)));
        }
        b.run();
        b.ignore().len()
    };
    assert_eq!(storm(&mut b, 50), 10);
    b.advance(1);
    assert_eq!(storm(&mut b, 50), 10);
    assert_eq!(b.drops(Probe), ["t0 100"]);
}

#[test]
fn what_is_not_understood_is_neither_answered_nor_forwarded() {
    let (_, mut b) = two_hosts(vxlan, [1450, 1450]);
    for (at, byte) in [(6, 0x03), (22, 9), (23, 9)] {
        let mut bytes = datagram(5000, &request(1, 60, 60));
        bytes[8 + at] = byte;
        b.arrive_by(Protocol::Vxlan, A, &bytes);
        b.run();
        b.expect([dropped("t0", Probe, 1)]);
    }
    // Experiments of others pass.
    b.arrive_by(Protocol::Vxlan, A, &datagram(5000, &eth("aa→ff")));
    b.run();
    b.expect([to("p2", eth("aa→ff"))]);
}

#[test]
fn no_station_can_send_a_probe_through_a_bridge() {
    let (mut a, _) = two_hosts(vxlan, [1450, 1450]);
    a.send("p1", request(1, 60, 60));
    a.expect([dropped("p1", ReservedGroup, 1)]);
}

#[test]
fn a_tunnel_that_is_down_or_has_no_way_is_not_probed_and_does_not_answer() {
    let mut lab = Lab::at(A, [port("p1"), vxlan("t0", 5000, B)]);
    lab.probe("t0", 1);
    lab.run();
    lab.expect_nothing();
    assert!(lab.probed().is_empty());
    lab.set_port("t0", |p| {
        *p = p.clone().mtu(1450);
        p.up = false;
    });
    lab.probe("t0", 1);
    lab.arrive_by(Protocol::Vxlan, B, &datagram(5000, &request(1, 60, 60)));
    lab.run();
    lab.expect([dropped("t0", DropReason::PortDown, 1)]);
}

#[test]
fn tunnel_packets_of_nobody_are_told_by_key_and_sender() {
    for (kind, protocol) in KINDS {
        let mut lab = Lab::at(A, [port("p1"), kind("t0", 5000, B)]);
        for (key, remote) in [(5001, B), (5001, B), (5000, C)] {
            lab.arrive_by(protocol, remote, &datagram_of(protocol, key, &eth("bb→aa")));
        }
        lab.run();
        lab.expect([lost(UnknownVni, 3)]);
        assert_eq!(lab.unclaimed(), ["5000 192.0.2.3 1", "5001 192.0.2.2 2"]);
        lab.set_port("t0", |p| p.tunnel.as_mut().expect("a tunnel").in_key.0 = 5001);
        assert_eq!(lab.unclaimed(), ["5000 192.0.2.3 1"], "the other has a port now");
        lab.advance(60);
        assert!(lab.unclaimed().is_empty());
    }
}
