//! Mirrors: what is selected, what a copy looks like, and that nothing happens to the frames themselves.

use vswitch_tests::lab::DropReason::*;
use vswitch_tests::lab::*;

/// Two stations, known to the switch, on p1 and p2; a port for copies; mirrors.
fn lab<const N: usize>(mirrors: [MirrorSpec; N]) -> Lab {
    let mut lab = Lab::new([port("p1"), port("p2"), port("mon")]);
    set(&mut lab, mirrors);
    for (name, packet) in [("p1", eth("aa→ff")), ("p2", eth("bb→ff"))] {
        lab.send(name, packet);
        lab.ignore();
    }
    lab
}

fn set<const N: usize>(lab: &mut Lab, mirrors: [MirrorSpec; N]) {
    lab.set_bridge("br0", |b| b.mirrors = mirrors.to_vec());
}

fn ping() -> Packet {
    eth("aa→bb").udp(64)
}

fn pong() -> Packet {
    eth("bb→aa").udp(65)
}

#[test]
fn each_way_of_a_port_is_selected_by_itself() {
    for (selects, asked, answered) in [
        (mirror("m", "mon").arriving("p1"), true, false),
        (mirror("m", "mon").leaving("p1"), false, true),
        (mirror("m", "mon").of("p1"), true, true),
        (mirror("m", "mon").arriving("p1").leaving("p2"), true, false),
        (mirror("m", "mon").all(), true, true),
        (mirror("m", "mon"), false, false),
    ] {
        eprintln!("{selects:?}");
        let mut lab = lab([selects]);
        for (name, out, packet, copied) in [("p1", "p2", ping(), asked), ("p2", "p1", pong(), answered)] {
            lab.send(name, packet.clone());
            let copy = copied.then(|| copy_to("m", "mon", packet.clone()));
            lab.expect([to(out, packet)].into_iter().chain(copy));
        }
    }
}

#[test]
fn one_copy_for_each_output_however_many_select_it() {
    let mut lab = lab([
        mirror("m0", "mon").of("p1").of("p2"),
        mirror("m1", "mon").all(),
        mirror("m2", "mon").all(),
        mirror_to_vlan("m3", 99).arriving("p1"),
        mirror_to_vlan("m4", 99).leaving("p2"),
    ]);
    let tagged = ping().vlan(99);
    let bytes = 2 * tagged.frame().len() as u64;
    let once = vec![
        to("p2", ping()),
        copy_to("m0", "mon", ping()),
        to("p1", tagged.clone()),
        to("p2", tagged),
        copied(2),
        Expect::Count("m3.copies".into(), 2),
        Expect::Count("m3.copy_bytes".into(), bytes),
    ];
    lab.send("p1", ping());
    lab.expect(once.clone());
    // With an output of its own it has a copy of its own.
    lab.add_port(port("mon2"));
    lab.set_bridge("br0", |b| b.mirrors[2].output = Ok("mon2"));
    lab.send("p1", ping());
    lab.expect(once.into_iter().chain([copy_to("m2", "mon2", ping())]));
}

#[test]
fn a_mirror_of_vlans_copies_only_what_is_in_them() {
    let mut lab = Lab::new([port("p1").access(10), port("p2").access(20), port("t"), port("mon")]);
    set(&mut lab, [mirror("m", "mon").all().vlan(10).vlan(30)]);
    lab.send("p1", eth("aa→ff"));
    lab.expect([to("t", eth("aa→ff").vlan(10)), copy_to("m", "mon", eth("aa→ff").vlan(10))]);
    lab.send("p2", eth("bb→ff"));
    lab.expect([to("t", eth("bb→ff").vlan(20))]);
    lab.send("t", eth("cc→ff").vlan(30));
    lab.expect([copy_to("m", "mon", eth("cc→ff").vlan(30)), dropped("t", NoOutput, 1)]);
}

/// As Open vSwitch has it: the copy is in the frame's VLAN, and has the tag that the output port gives to that.
#[test]
fn a_copy_has_the_tag_of_its_output_port() {
    for (mon, tagged) in [(port("mon"), true), (port("mon").access(10), false), (port("mon").access(77), false)] {
        let mut lab = Lab::new([port("p1").access(10), port("t"), mon]);
        set(&mut lab, [mirror("m", "mon").of("p1")]);
        let copy = |p: Packet| copy_to("m", "mon", p);
        lab.send("p1", ping());
        lab.expect([to("t", ping().vlan(10)), copy(if tagged { ping().vlan(10) } else { ping() })]);
        lab.send("t", pong().priority(5, 10));
        lab.expect([to("p1", pong()), copy(if tagged { pong().priority(5, 10) } else { pong() })]);
    }
}

#[test]
fn what_goes_no_further_is_copied_where_it_arrives() {
    let mut lab = lab([mirror("m", "mon").of("p1")]);
    let bpdu = eth("aa→01:80:c2:00:00:00");
    for (packet, why) in [(bpdu, ReservedGroup), (eth("cc→aa"), Hairpin), (eth("01:00:5e:00:00:01→bb"), SourceGroup)]
    {
        lab.send("p1", packet.clone());
        lab.expect([copy_to("m", "mon", packet), dropped("p1", why, 1)]);
    }
    lab.set_port("p1", |p| *p = p.clone().access(10));
    lab.send("p1", eth("aa→bb").vlan(10));
    lab.expect([dropped("p1", VlanNotAllowed, 1)]);
    lab.set_bridge("br0", |b| b.secure = true);
    lab.send("p1", eth("aa→bb"));
    lab.expect([copy_to("m", "mon", eth("aa→bb").vlan(10)), dropped("p1", BridgeSecure, 1)]);
}

#[test]
fn the_output_port_carries_nothing_else() {
    let mut lab = lab([]);
    lab.send("mon", eth("cc→ff"));
    lab.ignore();
    assert_eq!(lab.fdb("br0"), ["0 aa p1", "0 bb p2", "0 cc mon"]);
    set(&mut lab, [mirror("m", "mon").arriving("p2")]);
    assert_eq!(lab.fdb("br0"), ["0 aa p1", "0 bb p2"], "nobody is behind it any more");
    for packet in [eth("aa→cc"), eth("aa→ff")] {
        lab.send("p1", packet.clone());
        lab.expect([to("p2", packet)]);
    }
    lab.send("mon", eth("cc→aa"));
    lab.expect([dropped("mon", MirrorOutput, 1)]);
    // As soon as it is no output, it is a port again.
    set(&mut lab, []);
    lab.send("p1", eth("aa→ff"));
    lab.expect([flood(["p2", "mon"], eth("aa→ff"))]);
}

#[test]
fn a_mirror_is_in_force_from_the_next_frame_and_out_of_force_as_soon() {
    let mut lab = lab([]);
    for _ in 0..3 {
        lab.send("p1", ping());
        lab.expect([to("p2", ping())]);
        set(&mut lab, [mirror("m", "mon").of("p1")]);
        lab.send("p1", ping());
        lab.expect([to("p2", ping()), copy_to("m", "mon", ping())]);
        set(&mut lab, []);
    }
    lab.send("p1", ping());
    lab.expect([to("p2", ping())]);
}

#[test]
fn an_output_vlan_is_flooded_with_the_tag_replaced() {
    let mut lab = Lab::new([port("a").access(10), port("t"), port("r").access(99), port("no").trunk([10, 20])]);
    set(&mut lab, [mirror_to_vlan("m", 99).arriving("a").arriving("t")]);
    let counted = |p: &Packet, n: u64, untagged: &Packet| {
        let bytes = (n - 1) * p.frame().len() as u64 + untagged.frame().len() as u64;
        [Expect::Count("m.copies".into(), n), Expect::Count("m.copy_bytes".into(), bytes), copied(n)]
    };
    let packet = || eth("aa→ff").udp(40);
    lab.send("a", packet());
    let out = [to_each("t", [packet().vlan(10), packet().vlan(99)]), to("r", packet()), to("no", packet().vlan(10))];
    lab.expect(out.into_iter().chain(counted(&packet().vlan(99), 2, &packet())).chain([copied(1)]));
    // The copy goes out where the frame came from, too (as Open vSwitch does); its priority stays.
    lab.send("t", packet().priority(5, 10));
    let out =
        [to("a", packet()), to("no", packet().priority(5, 10)), to("t", packet().priority(5, 99)), to("r", packet())];
    lab.expect(out.into_iter().chain(counted(&packet().vlan(99), 2, &packet())).chain([copied(1)]));
    // What is in the VLAN already and what no bridge forwards is not.
    lab.send("t", packet().vlan(99));
    lab.expect([to("r", packet())]);
    lab.send("t", eth("aa→01:80:c2:00:00:00"));
    lab.expect([dropped("t", ReservedGroup, 1)]);
}

#[test]
fn a_copy_is_finished_and_as_the_wire_would_have_it() {
    let mut lab = lab([mirror("m", "mon").arriving("p1")]);
    for whole in [
        eth("aa→bb").tcp(30_000).super_frame(1448),
        eth("aa→bb").tcp(5000).v6().super_frame(1428),
        eth("aa→bb").udp(5000).super_frame(1000),
    ] {
        let segments = whole.segments();
        let n = segments.len() as u64;
        let bytes = segments.iter().map(|s| s.frame().len() as u64).sum();
        lab.send("p1", whole.clone());
        lab.expect([
            to("p2", whole),
            copied(1),
            split(n - 1),
            Expect::Count("m.copies".into(), n),
            Expect::Count("m.copy_bytes".into(), bytes),
            to_each("mon", segments),
        ]);
    }
    let single = eth("aa→bb").tcp(100);
    lab.send("p1", single.clone().unfinished());
    lab.expect([to("p2", single.clone().unfinished()), copy_to("m", "mon", single)]);
}

#[test]
fn a_copy_that_cannot_be_finished_is_counted_at_the_mirror() {
    use datapath::packet::{ChecksumState, Frame};
    let mut lab = lab([mirror("m", "mon").arriving("p1")]);
    let mut liar = Frame::from_bytes(eth("aa→bb").frame().bytes());
    liar.meta.csum = ChecksumState::Partial { start: 5000, offset: 16 };
    lab.inject("p1", liar);
    lab.run();
    assert_eq!(lab.count("m.drop_malformed"), 1);
    assert_eq!((lab.count("p2.tx_packets"), lab.count("mon.drop_malformed")), (2, 0), "the frame itself has left");
    lab.ignore();
}

#[test]
fn a_snaplen_cuts_copies_not_frames() {
    let mut lab = lab([mirror("m", "mon").arriving("p1").snaplen(64)]);
    let whole = eth("aa→bb").tcp(3000).super_frame(1448);
    for packet in [eth("aa→bb").udp(500), whole.clone()] {
        lab.send("p1", packet.clone());
        let out = lab.ignore();
        let copies: Vec<_> = out.iter().filter(|(name, _)| *name == "mon").map(|(_, f)| f.bytes().to_vec()).collect();
        let segments = if packet.segment_count() > 1 { packet.segments() } else { vec![packet.clone()] };
        let cut: Vec<_> = segments.iter().map(|s| s.frame().bytes()[..64].to_vec()).collect();
        assert_eq!(copies, cut);
        assert!(out.iter().any(|(name, f)| *name == "p2" && f.bytes() == packet.frame().bytes()), "whole");
    }
    assert_eq!((lab.count("m.copies"), lab.count("m.copy_bytes")), (5, 60 + 4 * 64), "the first is that of the set-up");
    // A frame that is shorter stays as it is.
    lab.send("p1", eth("aa→bb"));
    lab.expect([to("p2", eth("aa→bb")), copy_to("m", "mon", eth("aa→bb"))]);
}

#[test]
fn what_the_output_does_not_take_is_counted_at_the_mirror() {
    let mut lab = lab([mirror("m", "mon").of("p1")]);
    lab.refuse("mon", TxQueueFull);
    lab.send("p1", ping());
    lab.expect([to("p2", ping()), copied(1), dropped("m", TxQueueFull, 1)]);
    lab.set_port("mon", |p| p.up = false);
    lab.send("p1", ping());
    lab.expect([to("p2", ping()), copied(1), dropped("m", PortDown, 1)]);
    // Copies in a VLAN leave by ports that have traffic of their own: what they drop of the copies is not theirs.
    set(&mut lab, [mirror_to_vlan("m", 99).leaving("p2")]);
    lab.refuse("p1", TxQueueFull);
    lab.send("p1", ping());
    let tagged = ping().vlan(99);
    lab.expect([to("p2", ping()), copy_to("m", "p2", tagged), copied(1), dropped("m", TxQueueFull, 1)]);
    lab.send("p2", pong());
    lab.expect([dropped("p1", TxQueueFull, 1)]);
    set(&mut lab, [mirror_to_vlan("m", 99).leaving("p2")]);
    for name in ["p1", "p2"] {
        lab.set_port(name, |p| *p = p.clone().trunk([0]));
    }
    lab.send("p1", ping());
    lab.expect([to("p2", ping()), copied(1), dropped("m", NoOutput, 1)]);
}

#[test]
fn more_copies_than_may_wait_are_dropped_at_the_mirror_alone() {
    let mut lab = Lab::new([port("p1"), port("p2"), port("m1"), port("m2"), port("m3")]);
    set(&mut lab, [mirror("a", "m1").of("p1"), mirror("b", "m2").of("p1"), mirror("c", "m3").of("p1")]);
    // A batch of these, three times, is 6 MB; 4 MiB may wait.
    let whole = eth("aa→bb").tcp(64_000).super_frame(1448);
    lab.send_all("p1", vec![whole.clone(); 32]);
    let out = lab.ignore();
    assert_eq!(out.iter().filter(|(name, _)| *name == "p2").count(), 32, "every frame leaves");
    let refused: u64 = ["a", "b", "c"].iter().map(|m| lab.count(&format!("{m}.drop_mirror_overload"))).sum();
    let made: u64 = ["a", "b", "c"].iter().map(|m| lab.count(&format!("{m}.copies"))).sum();
    assert_eq!(made, (96 - refused) * whole.segment_count() as u64);
    assert_eq!(refused, 96 - (4 << 20) / whole.frame().len() as u64);
    // What waited has gone: there is room again.
    lab.send("p1", ping());
    let copies = [copy_to("a", "m1", ping()), copy_to("b", "m2", ping()), copy_to("c", "m3", ping())];
    lab.expect([to("p2", ping())].into_iter().chain(copies));
}

#[test]
fn patch_ports_are_mirrored_like_others() {
    let mut lab = Lab::new([port("p0"), patch("pa", "pb"), port("mon")]);
    for p in [port("p1").on("br1"), patch("pb", "pa").on("br1"), port("mon1").on("br1")] {
        lab.add_port(p);
    }
    set(&mut lab, [mirror("m0", "mon").of("pa")]);
    lab.set_bridge("br1", |b| b.mirrors = vec![mirror("m1", "mon1").arriving("pb")]);
    lab.send("p0", ping());
    let one = [copy_to("m0", "mon", ping()), copy_to("m1", "mon1", ping())];
    lab.expect([through("pa", "pb", &ping()), to("p1", ping())].into_iter().chain(one));
    lab.send("p1", pong());
    lab.expect([through("pb", "pa", &pong()), to("p0", pong()), copy_to("m0", "mon", pong())]);
}

#[test]
fn a_patch_port_takes_copies_to_another_bridge() {
    let mut lab = lab([]);
    for p in [patch("pa", "pb"), patch("pb", "pa").on("br1"), port("far").on("br1")] {
        lab.add_port(p);
    }
    set(&mut lab, [mirror("m", "pa").of("p1").snaplen(70)]);
    let short = eth("aa→bb");
    lab.send("p1", short.clone());
    lab.expect([
        to("p2", short.clone()),
        copied_for("m", &short),
        through("pa", "pb", &short),
        to("far", short.clone()),
    ]);
    // There it is traffic like any other: what becomes of it is counted there.
    lab.remove_port("far");
    lab.send("p1", short.clone());
    lab.expect([
        to("p2", short.clone()),
        copied_for("m", &short),
        through("pa", "pb", &short),
        dropped("pb", NoOutput, 1),
    ]);
    // And nothing comes back by it.
    lab.add_port(port("far2").on("br1"));
    lab.send("far2", eth("cc→ff"));
    lab.expect([through("pb", "pa", &eth("cc→ff")), dropped("pa", MirrorOutput, 1)]);
}

#[test]
fn copies_go_into_a_tunnel_and_those_of_a_tunnel_elsewhere() {
    const REMOTE: &str = "192.0.2.2";
    let mut lab = lab([]);
    lab.add_port(vxlan("vx0", 5000, REMOTE).mtu(1450));
    set(&mut lab, [mirror("m", "vx0").of("p1")]);
    lab.send("p1", ping());
    lab.expect([to("p2", ping()), copy_to("m", "vx0", ping())]);
    let whole = eth("aa→bb").tcp(5000).super_frame(1398);
    let bytes = whole.segments().iter().map(|s| s.frame().len() as u64).sum();
    lab.send("p1", whole.clone());
    lab.expect([
        to("p2", whole.clone()),
        copied(1),
        split(3),
        to_each("vx0", whole.segments()),
        Expect::Count("m.copies".into(), 4),
        Expect::Count("m.copy_bytes".into(), bytes),
    ]);
    lab.send("p1", eth("aa→bb").udp(1450));
    lab.expect([to("p2", eth("aa→bb").udp(1450)), copied(1), dropped("m", MtuExceeded, 1)]);
    // The other way round.
    set(&mut lab, [mirror("m", "mon").of("vx0")]);
    lab.arrive(REMOTE.parse().unwrap(), None, &datagram(5000, &eth("dd→aa")));
    lab.run();
    lab.expect([to("p1", eth("dd→aa")), copy_to("m", "mon", eth("dd→aa"))]);
    lab.send("p1", eth("aa→dd"));
    lab.expect([to("vx0", eth("aa→dd")), copy_to("m", "mon", eth("aa→dd"))]);
}
