//! One VXLAN port with several remote ends: who gets what, what is learned, and what is not taken.

use vswitch_tests::lab::DropReason::{Hairpin, MtuExceeded, UnknownVni};
use vswitch_tests::lab::*;

const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";
const C: &str = "192.0.2.3";

/// Three hosts, each with a port of its own and a tunnel to the two others.
fn three_hosts() -> [Lab; 3] {
    [
        Lab::at(A, [port("p1"), multipoint("vx0", 5000, [B, C])]),
        Lab::at(B, [port("p2"), multipoint("vx0", 5000, [A, C])]),
        Lab::at(C, [port("p3"), multipoint("vx0", 5000, [A, B])]),
    ]
}

#[test]
fn what_is_for_all_goes_to_each_end_and_an_answer_to_one() {
    let [mut a, mut b, mut c] = three_hosts();
    let (call, answer) = (eth("aa→ff").udp(64), eth("bb→aa").udp(64));
    a.send("p1", call.clone());
    a.expect([to("vx0@192.0.2.2", call.clone()), to("vx0@192.0.2.3", call.clone()), copied(1)]);
    a.carry_to(&mut b);
    b.expect([to("p2", call.clone())]);
    a.carry_to(&mut c);
    // Each end has had it from the sender itself: nobody passes it on to another.
    c.expect([to("p3", call)]);
    assert_eq!(
        (b.fdb("br0"), c.fdb("br0")),
        (vec!["0 aa vx0@192.0.2.1".to_owned()], vec!["0 aa vx0@192.0.2.1".to_owned()])
    );
    b.send("p2", answer.clone());
    b.expect([to("vx0@192.0.2.1", answer.clone())]);
    b.carry_to(&mut a);
    a.expect([to("p1", answer)]);
    assert_eq!(a.fdb("br0"), ["0 aa p1", "0 bb vx0@192.0.2.2"]);
    a.send("p1", eth("aa→bb"));
    a.expect([to("vx0@192.0.2.2", eth("aa→bb"))]);
    let _ = a.intercept();
    // Nobody known.
    a.send("p1", eth("aa→dd"));
    a.expect([to("vx0@192.0.2.2", eth("aa→dd")), to("vx0@192.0.2.3", eth("aa→dd")), copied(1)]);
}

#[test]
fn nothing_goes_from_one_end_to_another() {
    let [mut a, mut b, mut c] = three_hosts();
    for (lab, station) in [(&mut b, "bb"), (&mut c, "cc")] {
        let port = if station == "bb" { "p2" } else { "p3" };
        lab.send(port, eth(&format!("{station}→ff")));
        lab.ignore();
        lab.carry_to(&mut a);
        a.expect([to("p1", eth(&format!("{station}→ff")))]);
    }
    // B thinks that cc is behind A.
    a.arrive(B.parse().unwrap(), None, &datagram(5000, &eth("bb→cc")));
    a.run();
    a.expect([dropped("vx0", Hairpin, 1)]);
    a.arrive(B.parse().unwrap(), None, &datagram(5000, &eth("bb→dd")));
    a.run();
    a.expect([to("p1", eth("bb→dd"))]);
}

#[test]
fn only_its_ends_are_taken_from() {
    let [mut a, ..] = three_hosts();
    a.arrive("192.0.2.9".parse().unwrap(), None, &datagram(5000, &eth("dd→ff")));
    a.run();
    a.expect([lost(UnknownVni, 1)]);
    // A static address behind the end makes it one.
    a.set_port("vx0", |p| p.tunnel.as_mut().unwrap().remotes.as_mut().unwrap().know("192.0.2.9".parse().unwrap()));
    a.set_bridge("br0", |b| b.statics = vec![(0, "dd", "vx0@192.0.2.9")]);
    a.arrive("192.0.2.9".parse().unwrap(), None, &datagram(5000, &eth("dd→ff")));
    a.run();
    a.expect([to("p1", eth("dd→ff"))]);
    a.send("p1", eth("aa→dd"));
    a.expect([to("vx0@192.0.2.9", eth("aa→dd"))]);
    // But it is not on the flood list.
    a.send("p1", eth("aa→ff"));
    a.expect([to("vx0@192.0.2.2", eth("aa→ff")), to("vx0@192.0.2.3", eth("aa→ff")), copied(1)]);
}

#[test]
fn a_station_that_moves_to_another_end_is_followed() {
    let [mut a, ..] = three_hosts();
    for end in [B, C] {
        a.arrive(end.parse().unwrap(), None, &datagram(5000, &eth("dd→ff")));
        a.run();
        a.expect([to("p1", eth("dd→ff"))]);
    }
    assert_eq!((a.fdb("br0"), a.table_stats("br0").moves), (vec!["0 dd vx0@192.0.2.3".to_owned()], 1));
    a.send("p1", eth("aa→dd"));
    a.expect([to("vx0@192.0.2.3", eth("aa→dd"))]);
}

#[test]
fn a_static_address_holds_against_another_end() {
    let [mut a, ..] = three_hosts();
    a.set_bridge("br0", |b| b.statics = vec![(0, "dd", "vx0@192.0.2.2")]);
    a.arrive(C.parse().unwrap(), None, &datagram(5000, &eth("dd→ff")));
    a.run();
    a.expect([to("p1", eth("dd→ff")), misplaced(1)]);
    a.send("p1", eth("aa→dd"));
    a.expect([to("vx0@192.0.2.2", eth("aa→dd"))]);
}

#[test]
fn without_learning_only_what_is_configured_is_known() {
    let [mut a, ..] = three_hosts();
    a.set_port("vx0", |p| p.tunnel.as_mut().unwrap().learning = false);
    a.set_bridge("br0", |b| b.statics = vec![(0, "dd", "vx0@192.0.2.2")]);
    a.arrive(C.parse().unwrap(), None, &datagram(5000, &eth("ee→ff")));
    a.run();
    a.expect([to("p1", eth("ee→ff"))]);
    assert_eq!(a.fdb("br0"), ["0 dd vx0@192.0.2.2 static"]);
    a.send("p1", eth("aa→ee"));
    a.expect([to("vx0@192.0.2.2", eth("aa→ee")), to("vx0@192.0.2.3", eth("aa→ee")), copied(1)]);
    a.send("p1", eth("aa→dd"));
    a.expect([to("vx0@192.0.2.2", eth("aa→dd"))]);
}

#[test]
fn other_ends_leave_what_is_known_of_those_that_stay() {
    let [mut a, ..] = three_hosts();
    for (end, station) in [(B, "bb"), (C, "cc")] {
        a.arrive(end.parse().unwrap(), None, &datagram(5000, &eth(&format!("{station}→ff"))));
    }
    a.run();
    a.ignore();
    // B goes, two come: C has another place in the list.
    a.set_port("vx0", |p| p.tunnel = multipoint("vx0", 5000, ["192.0.2.8", "192.0.2.7", C]).tunnel);
    assert_eq!(a.fdb("br0"), ["0 cc vx0@192.0.2.3"]);
    a.send("p1", eth("aa→cc"));
    a.expect([to("vx0@192.0.2.3", eth("aa→cc"))]);
    a.send("p1", eth("aa→bb"));
    let ends = ["vx0@192.0.2.8", "vx0@192.0.2.7", "vx0@192.0.2.3"];
    a.expect([flood(ends, eth("aa→bb"))]);
}

#[test]
fn a_super_frame_is_cut_once_and_counted_for_each_end() {
    let [mut a, mut b, mut c] = three_hosts();
    let whole = eth("aa→ff").tcp(14_480).super_frame(1448);
    let n = whole.segment_count() as u64;
    a.send("p1", whole.clone());
    a.expect([
        to_each("vx0@192.0.2.2", whole.segments()),
        to_each("vx0@192.0.2.3", whole.segments()),
        copied(1),
        split(2 * (n - 1)),
    ]);
    for (far, port) in [(&mut b, "p2"), (&mut c, "p3")] {
        a.carry_to(far);
        far.expect([to(port, whole.clone()), merged(n - 1)]);
    }
}

#[test]
fn what_fits_no_end_is_dropped_once() {
    let [mut a, ..] = three_hosts();
    a.set_port("vx0", |p| *p = p.clone().mtu(1450));
    a.send("p1", eth("aa→ff").udp(1450));
    a.expect([dropped("vx0", MtuExceeded, 1)]);
}

#[test]
fn a_flood_reaches_other_ports_and_every_end() {
    let mut a = Lab::at(A, [port("p1"), port("p2"), multipoint("vx0", 5000, [B, C])]);
    a.send("p1", eth("aa→ff"));
    a.expect([flood(["p2", "vx0@192.0.2.2", "vx0@192.0.2.3"], eth("aa→ff"))]);
}

#[test]
fn a_mirror_s_copies_go_to_every_end() {
    let mut a = Lab::at(A, [port("p1"), port("p2"), multipoint("vx0", 5000, [B, C])]);
    a.send("p2", eth("bb→ff"));
    a.ignore();
    a.set_bridge("br0", |b| b.mirrors = vec![mirror("m0", "vx0").arriving("p1")]);
    let whole = eth("aa→bb").tcp(4000).super_frame(1000);
    a.send("p1", whole.clone());
    let ends = ["vx0@192.0.2.2", "vx0@192.0.2.3"].map(|end| to_each(end, whole.segments()));
    let bytes = whole.segments().iter().map(|p| p.frame().len() as u64).sum::<u64>();
    // Each end's is counted: that is what leaves.
    let mut expected = vec![
        Expect::Count("m0.copies".into(), 2 * 4),
        Expect::Count("m0.copy_bytes".into(), 2 * bytes),
        to("p2", whole),
        copied(2),
        split(2 * 3),
    ];
    expected.extend(ends);
    a.expect(expected);
}

/// What waits for its turn keeps the end that it is for, or that it came from.
#[test]
fn a_rate_limit_delays_and_changes_no_end() {
    let limit = || Limit { bits: Some(Tokens { rate: 8_000_000, burst: 8000 }), packets: None, queue: 3000 };
    let wait = |lab: &mut Lab| {
        for _ in 0..2 {
            lab.advance_by(std::time::Duration::from_millis(2));
            lab.run();
        }
    };
    let mut a = Lab::at(A, [port("p1"), multipoint("vx0", 5000, [B, C]).egress(limit()).ingress(limit())]);
    let from_c = |flow| eth("cc→aa").udp(958).flow(flow);
    for flow in [1, 2] {
        a.arrive(C.parse().unwrap(), None, &datagram(5000, &from_c(flow)));
    }
    a.run();
    a.expect([to("p1", from_c(1))]);
    a.arrive(B.parse().unwrap(), None, &datagram(5000, &eth("bb→aa").udp(10)));
    a.run();
    a.expect_nothing();
    wait(&mut a);
    a.expect([to_each("p1", [from_c(2), eth("bb→aa").udp(10)])]);
    assert_eq!(a.fdb("br0"), ["0 bb vx0@192.0.2.2", "0 cc vx0@192.0.2.3"]);
    let to_c = |flow| eth("aa→cc").udp(958).flow(flow);
    a.send_all("p1", [to_c(1), to_c(2), eth("aa→bb")]);
    a.expect([to("vx0@192.0.2.3", to_c(1))]);
    wait(&mut a);
    a.expect([to("vx0@192.0.2.3", to_c(2)), to("vx0@192.0.2.2", eth("aa→bb"))]);
}
