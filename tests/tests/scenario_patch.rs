//! Patch ports: chains of bridges, the VLAN rules of both ends, and bridges that are joined in a loop.

use vswitch_tests::lab::DropReason::{BridgeSecure, Hairpin, HopLimit, NoOutput, VlanNotAllowed};
use vswitch_tests::lab::*;

/// br0 with p0 and br1 with p1, joined.
fn pair() -> Lab {
    Lab::new([port("p0"), patch("pa", "pb"), port("p1").on("br1"), patch("pb", "pa").on("br1")])
}

#[test]
fn a_packet_crosses_is_learned_on_both_bridges_and_its_answer_comes_back() {
    let mut lab = pair();
    let (ping, pong) = (eth("aa→bb").udp(64), eth("bb→aa").udp(65));
    lab.send("p0", ping.clone());
    lab.expect([through("pa", "pb", &ping), to("p1", ping)]);
    lab.send("p1", pong.clone());
    lab.expect([through("pb", "pa", &pong), to("p0", pong)]);
    assert_eq!(lab.fdb("br0"), ["0 aa p0", "0 bb pa"]);
    assert_eq!(lab.fdb("br1"), ["0 aa pb", "0 bb p1"]);
}

#[test]
fn unfinished_frames_cross_as_they_are() {
    let mut lab = pair();
    lab.add_port(port("plain").on("br1").caps(Caps::NONE));
    let whole = eth("aa→ff").tcp(30_000).super_frame(1448);
    let pieces = whole.segments();
    lab.send("p0", whole.clone());
    lab.expect([
        through("pa", "pb", &whole),
        to("p1", whole),
        copied(1),
        split(pieces.len() as u64 - 1),
        to_each("plain", pieces),
    ]);
}

#[test]
fn the_vlan_rules_of_both_ends_apply() {
    // What leaves br0 by the access port pa is untagged, and in VLAN 20 on br1.
    let mut lab = Lab::new([
        port("t0"),
        patch("pa", "pb").access(10),
        port("t1").on("br1"),
        patch("pb", "pa").access(20).on("br1"),
    ]);
    let packet = || eth("aa→ff").udp(40);
    lab.send("t0", packet().vlan(10));
    lab.expect([through("pa", "pb", &packet()), to("t1", packet().vlan(20))]);
    lab.send("t0", packet().vlan(11));
    lab.expect([dropped("t0", NoOutput, 1)]);
    // A trunk there sends tagged frames, which an access port here refuses.
    lab.set_port("pa", |p| *p = p.clone().trunk([10, 11]));
    for vlan in [10, 11] {
        lab.send("t0", packet().vlan(vlan));
        lab.expect([through("pa", "pb", &packet().vlan(vlan)), dropped("pb", VlanNotAllowed, 1)]);
    }
    lab.set_port("pb", |p| *p = p.clone().native_untagged(5, [11]));
    lab.send("t0", packet().priority(5, 11));
    lab.expect([through("pa", "pb", &packet().priority(5, 11)), to("t1", packet().priority(5, 11))]);
    lab.send("t0", packet().vlan(10));
    lab.expect([through("pa", "pb", &packet().vlan(10)), dropped("pb", VlanNotAllowed, 1)]);
}

#[test]
fn both_ends_on_one_bridge_join_two_vlans() {
    let mut lab = Lab::new([
        port("a").access(10),
        port("b").access(20),
        patch("pa", "pb").access(10),
        patch("pb", "pa").access(20),
    ]);
    lab.send("a", eth("aa→bb"));
    lab.expect([through("pa", "pb", &eth("aa→bb")), to("b", eth("aa→bb"))]);
    lab.send("b", eth("bb→aa"));
    lab.expect([through("pb", "pa", &eth("bb→aa")), to("a", eth("bb→aa"))]);
}

/// Bridges br0 to br9, each joined to the next, with a port on the first and on the last.
fn chain() -> (Lab, [(&'static str, &'static str); 9]) {
    let links = [
        ("r0", "l1"),
        ("r1", "l2"),
        ("r2", "l3"),
        ("r3", "l4"),
        ("r4", "l5"),
        ("r5", "l6"),
        ("r6", "l7"),
        ("r7", "l8"),
        ("r8", "l9"),
    ];
    let bridges = ["br0", "br1", "br2", "br3", "br4", "br5", "br6", "br7", "br8", "br9"];
    let mut lab = Lab::new([port("first"), port("last").on("br9")]);
    for (i, (right, left)) in links.into_iter().enumerate() {
        lab.add_port(patch(right, left).on(bridges[i]));
        lab.add_port(patch(left, right).on(bridges[i + 1]));
    }
    (lab, links)
}

#[test]
fn a_chain_of_ten_bridges_is_passed_both_ways() {
    let (mut lab, links) = chain();
    for (from, packet, back) in [("first", eth("aa→bb").udp(9), false), ("last", eth("bb→aa").udp(8), true)] {
        lab.send(from, packet.clone());
        let hops = links.map(|(r, l)| if back { through(l, r, &packet) } else { through(r, l, &packet) });
        let out = to(if back { "first" } else { "last" }, packet);
        lab.expect(hops.into_iter().chain([out]));
    }
    assert_eq!(lab.fdb("br5"), ["0 aa l5", "0 bb r5"]);
}

#[test]
fn a_patch_whose_other_end_is_missing_or_names_another_is_down() {
    let mut lab = Lab::new([port("p0"), port("p2"), patch("pa", "pb")]);
    let flooded = [to("p2", eth("aa→ff"))];
    lab.send("p0", eth("aa→ff"));
    lab.expect(flooded.clone());
    lab.add_port(port("p1").on("br1"));
    lab.add_port(patch("pb", "px").on("br1"));
    lab.send("p0", eth("aa→ff"));
    lab.expect(flooded.clone());
    lab.send("p1", eth("aa→ff"));
    lab.expect([dropped("p1", NoOutput, 1)]);
    lab.set_port("pb", |p| p.peer = Some("pa"));
    lab.send("p0", eth("aa→ff"));
    lab.expect([to("p2", eth("aa→ff")), copied(1), through("pa", "pb", &eth("aa→ff")), to("p1", eth("aa→ff"))]);
    lab.send("p1", eth("bb→ff"));
    lab.expect([through("pb", "pa", &eth("bb→ff")), flood(["p0", "p2"], eth("bb→ff"))]);
    lab.remove_port("pb");
    assert_eq!(lab.fdb("br0"), ["0 aa p0"], "nobody is behind the patch any more");
    lab.send("p0", eth("aa→ff"));
    lab.expect(flooded);
}

#[test]
fn what_is_refused_at_the_peer_is_counted_there() {
    let mut lab = pair();
    lab.set_bridge("br1", |b| b.secure = true);
    lab.send("p0", eth("aa→bb"));
    lab.expect([through("pa", "pb", &eth("aa→bb")), dropped("pb", BridgeSecure, 1)]);
    lab.set_bridge("br1", |b| b.secure = false);
    lab.remove_port("p1");
    lab.send("p0", eth("aa→bb"));
    lab.expect([through("pa", "pb", &eth("aa→bb")), dropped("pb", NoOutput, 1)]);
    // Someone in br0 sends to somebody whom br1 knows to be in br0, too.
    lab.send("p0", eth("cc→aa"));
    lab.expect([dropped("p0", Hairpin, 1)]);
}

#[test]
fn a_loop_of_bridges_ends_by_the_hop_limit() {
    // Two connections between the same bridges: each frame goes round both ways.
    let mut lab = pair();
    lab.add_port(patch("pc", "pd"));
    lab.add_port(patch("pd", "pc").on("br1"));
    lab.send("p0", eth("aa→ff"));
    let out = lab.ignore();
    let at = |port: &str| out.iter().filter(|(name, _)| *name == port).count();
    // 32 hops each way; every second one ends on br1, the others on br0, where it came from.
    assert_eq!((at("p1"), at("p0")), (32, 32));
    lab.send("p0", eth("bb→ff"));
    let limit = lab.drops(HopLimit);
    lab.ignore();
    assert_eq!(limit, ["pb 2", "pd 2"], "one copy each way, both times");
}

#[test]
fn a_loop_that_branches_ends_by_the_budget_of_crossings() {
    let mut lab = pair();
    for (a, b) in [("pc", "pd"), ("pe", "pf"), ("pg", "ph")] {
        lab.add_port(patch(a, b));
        lab.add_port(patch(b, a).on("br1"));
    }
    lab.send("p0", eth("aa→ff"));
    let out = lab.ignore().len();
    assert!(out > 1000 && out <= 4096, "{out} copies");
    // And the next frame has a budget of its own.
    lab.send("p0", eth("aa→ff"));
    assert_eq!(lab.ignore().len(), out);
}
