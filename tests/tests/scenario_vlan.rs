//! VLANs: every port mode, on the way in and out, as Open vSwitch's NORMAL action has it.

use vswitch_tests::lab::DropReason::VlanNotAllowed;
use vswitch_tests::lab::*;

/// A port under test, and one of every mode to see what comes out.
fn among_all(ingress: PortSpec) -> Lab {
    Lab::new([
        ingress,
        port("a10").access(10),
        port("a20").access(20),
        port("all").trunk([]),
        port("some").trunk([10, 20]),
        port("nt").native_tagged(10, [20]),
        port("nu").native_untagged(10, [20]),
    ])
}

fn packet() -> Packet {
    eth("aa→bb").udp(40)
}

/// Where a frame of a VLAN leaves, and with which tag, which carries this priority.
fn leaves(vlan: u16, priority: u16) -> Vec<Expect> {
    let (plain, tagged) = (packet(), packet().priority(priority, vlan));
    match vlan {
        0 => vec![to("all", plain)],
        10 => vec![
            to("a10", plain.clone()),
            to("all", tagged.clone()),
            to("some", tagged.clone()),
            to("nt", tagged),
            to("nu", plain),
            copied(4),
        ],
        20 => vec![
            to("a20", plain),
            to("all", tagged.clone()),
            to("some", tagged.clone()),
            to("nt", tagged.clone()),
            to("nu", tagged),
            copied(4),
        ],
        _ => vec![to("all", tagged)],
    }
}

#[test]
fn every_mode_with_every_kind_of_tag() {
    let modes = [
        port("in").access(10),
        port("in").trunk([]),
        port("in").trunk([10, 20]),
        port("in").native_tagged(10, [20]),
        port("in").native_untagged(10, [20]),
        port("in").native_untagged(10, []),
    ];
    let untagged = packet();
    let [priority, ten, twenty, thirty] = [0, 10, 20, 30].map(|vlan| packet().priority(5, vlan));
    // The VLAN that the frame is in, by mode.
    let table = [
        ("untagged", untagged, 0, [Some(10), Some(0), None, Some(10), Some(10), Some(10)]),
        ("priority", priority, 5, [Some(10), Some(0), None, Some(10), Some(10), Some(10)]),
        ("VLAN 10", ten, 5, [None, Some(10), Some(10), Some(10), Some(10), Some(10)]),
        ("VLAN 20", twenty, 5, [None, Some(20), Some(20), Some(20), Some(20), Some(20)]),
        ("VLAN 30", thirty, 5, [None, Some(30), None, None, None, Some(30)]),
    ];
    for (name, sent, priority, vlans) in table {
        for (mode, vlan) in modes.iter().zip(vlans) {
            eprintln!("{name} into {:?}", mode.vlan);
            let mut lab = among_all(mode.clone());
            lab.send("in", sent.clone());
            lab.expect(vlan.map_or(vec![dropped("in", VlanNotAllowed, 1)], |vlan| leaves(vlan, priority)));
        }
    }
}

#[test]
fn a_known_destination_gets_the_tag_of_its_port() {
    let mut lab = among_all(port("in").access(10));
    for (out, reply, tagged) in [
        ("a10", eth("bb→aa"), false),
        ("some", eth("bb→aa").vlan(10), true),
        ("nt", eth("bb→aa"), true),
        ("nu", eth("bb→aa"), false),
        ("nu", eth("bb→aa").vlan(10), false),
    ] {
        lab.send("in", eth("aa→ff"));
        lab.ignore();
        lab.send(out, reply);
        lab.expect([to("in", eth("bb→aa"))]);
        lab.send("in", packet());
        lab.expect([to(out, if tagged { packet().vlan(10) } else { packet() })]);
    }
}

#[test]
fn an_address_is_learned_per_vlan() {
    let mut lab = Lab::new([port("t1"), port("t2"), port("a10").access(10), port("a20").access(20)]);
    lab.send("t1", eth("bb→ff").vlan(10));
    lab.ignore();
    lab.send("t2", eth("bb→ff").vlan(20));
    lab.ignore();
    assert_eq!(lab.fdb("br0"), ["10 bb t1", "20 bb t2"]);
    assert_eq!(lab.table_stats("br0").moves, 0);
    lab.send("a10", eth("aa→bb"));
    lab.expect([to("t1", eth("aa→bb").vlan(10))]);
    lab.send("a20", eth("aa→bb"));
    lab.expect([to("t2", eth("aa→bb").vlan(20))]);
}

#[test]
fn tenants_on_access_ports_are_apart() {
    let ports = [port("a1").access(10), port("a2").access(10), port("b1").access(20), port("b2").access(20)];
    let mut lab = Lab::new(ports);
    lab.send("a1", eth("aa→ff"));
    lab.expect([to("a2", eth("aa→ff"))]);
    lab.send("b1", eth("aa→ff"));
    lab.expect([to("b2", eth("aa→ff"))]);
    lab.send("a2", eth("cc→aa"));
    lab.expect([to("a1", eth("cc→aa"))]);
}

#[test]
fn only_the_outermost_tag_counts_and_its_kind_is_kept() {
    let mut lab = Lab::new([port("t1"), port("t2"), port("a10").access(10)]);
    let inner = || eth("aa→bb").vlan(99).udp(40);
    lab.send("t1", inner().tag(0x88a8, 10));
    lab.expect([to("t2", inner().tag(0x88a8, 10)), to("a10", inner()), copied(1)]);
    lab.send("a10", inner());
    lab.expect([dropped("a10", VlanNotAllowed, 1)]);
}

#[test]
fn the_drop_eligible_bit_stays_with_the_tag() {
    let mut lab = Lab::new([port("t1"), port("t2")]);
    lab.send("t1", packet().tag(0x8100, 0xf00a));
    lab.expect([to("t2", packet().tag(0x8100, 0xf00a))]);
}

#[test]
fn a_vlan_that_nobody_else_carries_has_no_way_out() {
    let mut lab = Lab::new([port("p1").access(10), port("p2").access(20), port("p3").trunk([20])]);
    lab.send("p1", packet());
    lab.expect([dropped("p1", DropReason::NoOutput, 1)]);
}
