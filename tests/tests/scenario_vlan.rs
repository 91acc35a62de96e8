//! VLANs: every port mode, on the way in and out, as Open vSwitch's NORMAL action has it.

use vswitch_tests::lab::DropReason::VlanNotAllowed;
use vswitch_tests::lab::*;

/// A packet with tags as [`tags`] reads them, where `P` is the priority under test, and `~` a tag of VLAN 0 and that
/// priority, or none if it is 0.
fn tagged(tags: &str, priority: u16) -> Packet {
    let priority_tag = if priority == 0 { "-" } else { "0pP" };
    packet().tagged(&tags.replace('~', priority_tag).replace('P', &priority.to_string()))
}

fn packet() -> Packet {
    eth("aa→bb").udp(40)
}

/// One of every mode, to see what comes out.
fn one_of_each() -> [PortSpec; 8] {
    [
        port("a10").access(10),
        port("a20").access(20),
        port("all").trunk([]),
        port("some").trunk([10, 20]),
        port("nt").native_tagged(10, [20]),
        port("nu").native_untagged(10, [20]),
        port("q").dot1q_tunnel(10, []),
        port("qc").dot1q_tunnel(10, [20]),
    ]
}

fn among(outputs: &[PortSpec], ingress: PortSpec, two_tags: bool) -> Lab {
    let mut lab = Lab::new([ingress]);
    outputs.iter().for_each(|port| lab.add_port(port.clone()));
    lab.set_bridge("br0", |bridge| bridge.vlans.two_tags = two_tags);
    lab
}

/// Where a frame leaves: ports, and the tags that it has there.
type Leaves = [(&'static str, &'static str)];

/// The frame comes in by the first port of the lab, at each priority, and is to leave so.
fn check(lab: &mut Lab, sent: &str, leaves: Option<&Leaves>) {
    for priority in if sent.contains('P') { 0..8 } else { 0..1 } {
        let mut expected = vec![];
        for (ports, tags) in leaves.into_iter().flatten() {
            expected.extend(ports.split(' ').map(|port| to(port, tagged(tags, priority))));
        }
        match (leaves, expected.len() as u64) {
            (None, _) => expected.push(dropped("in", VlanNotAllowed, 1)),
            (Some(_), 0) => expected.push(dropped("in", DropReason::NoOutput, 1)),
            (Some(_), n) => expected.push(copied(n - 1)),
        }
        eprintln!("  {sent} at priority {priority}");
        lab.send("in", tagged(sent, priority));
        lab.expect(expected);
    }
}

/// Where a frame leaves, by what it is inside the switch. What stands after `|` is payload there.
const LEAVES: [(&str, &Leaves); 26] = [
    ("-", &[("all", "-")]),
    ("0pP", &[("all", "~")]),
    ("0pP|20", &[("all", "~+20")]),
    ("10", &[("a10 nu q", "-"), ("all some nt", "10")]),
    ("10pP", &[("a10 nu q", "-"), ("all some nt", "10pP")]),
    ("S10pP", &[("a10 nu q", "-"), ("all some nt", "S10pP")]),
    ("10pP|20", &[("a10 nu q", "20"), ("all some nt", "10pP+20")]),
    ("S10pP|20", &[("a10 nu q", "20"), ("all some nt", "S10pP+20")]),
    ("20pP", &[("a20", "-"), ("all some nt nu", "20pP")]),
    ("20pP|30", &[("a20", "30"), ("all some nt nu", "20pP+30")]),
    ("30pP", &[("all", "30pP")]),
    ("S10", &[("a10 nu q", "-"), ("all some nt", "S10")]),
    ("S10+0pP", &[("a10", "-"), ("nu q", "~"), ("all some nt", "S10+~")]),
    ("S10+0pP|20", &[("a10", "20"), ("nu q", "~+20"), ("all some nt", "S10+~+20")]),
    ("S10+10pP", &[("nu q", "10pP"), ("all some nt", "S10+10pP")]),
    ("S10+S10pP", &[("nu q", "S10pP"), ("all some nt", "S10+S10pP")]),
    ("S10+S10pP|20", &[("nu q", "S10pP+20"), ("all some nt", "S10+S10pP+20")]),
    ("S10+S10pP|30", &[("nu q", "S10pP+30"), ("all some nt", "S10+S10pP+30")]),
    ("S10+S10pP|0p5", &[("nu q", "S10pP+0p5"), ("all some nt", "S10+S10pP+0p5")]),
    ("S10+20pP", &[("nu q qc", "20pP"), ("all some nt", "S10+20pP")]),
    ("S10+20pP|30", &[("nu q qc", "20pP+30"), ("all some nt", "S10+20pP+30")]),
    ("S10+30pP", &[("nu q", "30pP"), ("all some nt", "S10+30pP")]),
    // Only where two tags are looked at:
    ("S10pP+20", &[("nu q qc", "20"), ("all some nt", "S10pP+20")]),
    ("S10pP+30", &[("nu q", "30"), ("all some nt", "S10pP+30")]),
    ("S10pP+0p5", &[("a10", "-"), ("nu q", "0p5"), ("all some nt", "S10pP+0p5")]),
    ("20pP+30", &[("all some nt nu", "20pP+30")]),
];

/// Sends what each row begins with into a port of each mode; the others of the row are what it is inside then, or "".
fn every_mode<const N: usize>(two_tags: bool, table: [(&str, [&str; 8]); N]) {
    let modes = [
        port("in").access(10),
        port("in").trunk([]),
        port("in").trunk([10, 20]),
        port("in").native_tagged(10, [20]),
        port("in").native_untagged(10, [20]),
        port("in").native_untagged(10, []),
        port("in").dot1q_tunnel(10, []),
        port("in").dot1q_tunnel(10, [20]),
    ];
    for (i, mode) in modes.into_iter().enumerate() {
        eprintln!("{:?}", mode.vlan);
        let mut lab = among(&one_of_each(), mode, two_tags);
        for (sent, inside) in table {
            let inside = inside[i];
            let leaves = LEAVES.iter().find(|(what, _)| *what == inside).map(|(_, leaves)| *leaves);
            assert_eq!(leaves.is_none(), inside.is_empty(), "{inside} is in the table");
            check(&mut lab, sent, leaves);
        }
    }
}

#[test]
fn every_mode_with_every_kind_of_tag() {
    every_mode(
        false,
        [
            // sent      access      trunk       trunk 10,20 nat. tagged nat. untag. … of all    tunnel    tunnel of 20
            ("-", ["10", "-", "", "10", "10", "10", "S10", ""]),
            ("0pP", ["10pP", "0pP", "", "10pP", "10pP", "10pP", "S10+0pP", ""]),
            ("10pP", ["", "10pP", "10pP", "10pP", "10pP", "10pP", "S10+10pP", ""]),
            ("20pP", ["", "20pP", "20pP", "20pP", "20pP", "20pP", "S10+20pP", "S10+20pP"]),
            ("30pP", ["", "30pP", "", "", "", "30pP", "S10+30pP", ""]),
            ("S10pP", ["", "S10pP", "S10pP", "S10pP", "S10pP", "S10pP", "S10+S10pP", ""]),
            ("0pP+20", ["10pP|20", "0pP|20", "", "10pP|20", "10pP|20", "10pP|20", "S10+0pP|20", ""]),
            ("S10pP+20", ["", "S10pP|20", "S10pP|20", "S10pP|20", "S10pP|20", "S10pP|20", "S10+S10pP|20", ""]),
            ("20pP+30", ["", "20pP|30", "20pP|30", "20pP|30", "20pP|30", "20pP|30", "S10+20pP|30", "S10+20pP|30"]),
        ],
    );
}

#[test]
fn every_mode_where_two_tags_are_looked_at() {
    every_mode(
        true,
        [
            ("-", ["10", "-", "", "10", "10", "10", "S10", ""]),
            ("20pP", ["", "20pP", "20pP", "20pP", "20pP", "20pP", "S10+20pP", "S10+20pP"]),
            ("S10pP+20", ["", "S10pP+20", "S10pP+20", "S10pP+20", "S10pP+20", "S10pP+20", "S10+S10pP|20", ""]),
            ("S10pP+30", ["", "S10pP+30", "S10pP+30", "S10pP+30", "S10pP+30", "S10pP+30", "S10+S10pP|30", ""]),
            ("S10pP+0p5", ["", "S10pP+0p5", "S10pP+0p5", "S10pP+0p5", "S10pP+0p5", "S10pP+0p5", "S10+S10pP|0p5", ""]),
            ("20pP+30", ["", "20pP+30", "20pP+30", "20pP+30", "20pP+30", "20pP+30", "S10+20pP|30", "S10+20pP|30"]),
        ],
    );
}

#[test]
fn priority_tags_leave_as_the_port_has_it() {
    use PriorityTags::{Always, IfNonzero};
    let outputs = [
        port("a10i").access(10).priority_tags(IfNonzero),
        port("a10w").access(10).priority_tags(Always),
        port("ti").priority_tags(IfNonzero),
        port("tw").priority_tags(Always),
        port("ntw").native_tagged(10, []).priority_tags(Always),
        port("nui").native_untagged(10, []).priority_tags(IfNonzero),
        port("nuw").native_untagged(10, []).priority_tags(Always),
        port("qi").dot1q_tunnel(10, []).priority_tags(IfNonzero),
        port("qw").dot1q_tunnel(10, []).priority_tags(Always),
    ];
    let untagging = "a10i a10w nui nuw qi qw";
    let table: [(PortSpec, &[(&str, &Leaves)]); 3] = [
        (
            port("in").access(10),
            &[("-", &[(untagging, "-"), ("ti tw ntw", "10")]), ("0pP", &[(untagging, "~"), ("ti tw ntw", "10pP")])],
        ),
        (
            port("in"),
            &[
                ("-", &[("ti tw", "-")]),
                ("0pP", &[("ti", "~"), ("tw", "0pP")]),
                ("10pP", &[(untagging, "~"), ("ti tw ntw", "10pP")]),
                ("S10pP", &[(untagging, "~"), ("ti tw ntw", "S10pP")]),
                ("20pP", &[("ti tw ntw nui nuw", "20pP")]),
                ("S10pP+20p3", &[(untagging, "~+20p3"), ("ti tw ntw", "S10pP+20p3")]),
            ],
        ),
        (
            port("in").dot1q_tunnel(10, []),
            &[
                ("-", &[(untagging, "-"), ("ti tw ntw", "S10")]),
                ("0pP", &[("a10i a10w nui qi", "~"), ("nuw qw", "0pP"), ("ti", "S10pP+~"), ("tw ntw", "S10pP+0pP")]),
                ("20pP", &[("nui nuw qi qw", "20pP"), ("ti tw ntw", "S10pP+20pP")]),
            ],
        ),
    ];
    for (ingress, rows) in table {
        eprintln!("{:?}", ingress.vlan);
        let mut lab = among(&outputs, ingress, false);
        rows.iter().for_each(|(sent, leaves)| check(&mut lab, sent, Some(leaves)));
    }
}

/// The service tag's kind is the tunnel's, and a super-frame keeps what is owed to it.
#[test]
fn a_super_frame_goes_through_a_tunnel_port_in_one_piece() {
    let data = || eth("aa→bb").tcp(5000).super_frame(1448);
    let mut lab = Lab::new([port("q").dot1q_tunnel(10, []), port("t"), port("a10").access(10)]);
    lab.send("q", data().vlan(20));
    lab.expect([to("t", data().vlan(20).tag(0x88a8, 10))]);
    lab.send("t", data().vlan(20).tag(0x88a8, 10));
    lab.expect([to("q", data().vlan(20)), to("a10", data().vlan(20)), copied(1)]);
    lab.set_port("q", |q| {
        if let datapath::switch::state::VlanMode::Dot1qTunnel(service) = &mut q.vlan {
            service.tpid = 0x8100;
        }
    });
    lab.send("q", data());
    lab.expect([to("t", data().vlan(10)), to("a10", data()), copied(1)]);
}

/// Open vSwitch hands the customer's frame to whoever has the address, its tag taken off or not; we keep to cvlans.
#[test]
fn a_known_address_gets_only_frames_of_customers_that_its_port_takes() {
    let ports = [port("q").dot1q_tunnel(10, []), port("qc").dot1q_tunnel(10, [20]), port("a10").access(10), port("t")];
    let mut lab = Lab::new(ports);
    lab.send("qc", eth("cc→ff").vlan(20));
    lab.send("a10", eth("bb→ff"));
    lab.ignore();
    lab.send("q", eth("aa→cc").vlan(20));
    lab.expect([to("qc", eth("aa→cc").vlan(20))]);
    lab.send("q", eth("aa→cc").vlan(30));
    lab.expect([dropped("q", VlanNotAllowed, 1)]);
    lab.send("q", eth("aa→bb"));
    lab.expect([to("a10", eth("aa→bb"))]);
    lab.send("q", eth("aa→bb").vlan(20));
    lab.expect([dropped("q", VlanNotAllowed, 1)]);
    // What comes by the trunk counts as untagged, until the second tag is looked at.
    lab.send("t", eth("dd→cc").vlan(20).tag(0x88a8, 10));
    lab.expect([dropped("t", VlanNotAllowed, 1)]);
    lab.set_bridge("br0", |bridge| bridge.vlans.two_tags = true);
    lab.send("qc", eth("cc→ff").vlan(20));
    lab.ignore();
    lab.send("t", eth("dd→cc").vlan(20).tag(0x88a8, 10));
    lab.expect([to("qc", eth("dd→cc").vlan(20))]);
}

#[test]
fn a_flooded_vlan_learns_nothing_and_others_do() {
    let mut lab = Lab::new([port("p1"), port("p2"), port("p3")]);
    lab.set_bridge("br0", |bridge| bridge.vlans.flood = [vlan_id(20)].into_iter().collect());
    lab.send("p1", eth("aa→ff").vlan(10));
    lab.send("p1", eth("aa→ff").vlan(20));
    lab.ignore();
    assert_eq!(lab.fdb("br0"), ["10 aa p1"]);
    lab.send("p2", eth("bb→aa").vlan(10));
    lab.expect([to("p1", eth("bb→aa").vlan(10))]);
    lab.send("p2", eth("bb→aa").vlan(20));
    lab.expect([flood(["p1", "p3"], eth("bb→aa").vlan(20))]);
    // Another set: what was learned may be wrong by now.
    lab.set_bridge("br0", |bridge| bridge.vlans.flood = [vlan_id(10)].into_iter().collect());
    assert_eq!(lab.fdb("br0"), Vec::<String>::new());
    lab.send("p2", eth("bb→aa").vlan(10));
    lab.expect([flood(["p1", "p3"], eth("bb→aa").vlan(10))]);
}

#[test]
fn protected_ports_reach_others_but_not_each_other() {
    let mut lab = Lab::new([port("p1").protected(), port("p2").protected(), port("up")]);
    for (from, packet) in [("p1", eth("aa→ff")), ("p2", eth("bb→ff"))] {
        lab.send(from, packet.clone());
        lab.expect([to("up", packet)]);
    }
    lab.send("p1", eth("aa→bb"));
    lab.expect([dropped("p1", DropReason::Protected, 1)]);
    lab.send("up", eth("cc→ff"));
    lab.expect([flood(["p1", "p2"], eth("cc→ff"))]);
    lab.send("up", eth("cc→aa"));
    lab.expect([to("p1", eth("cc→aa"))]);
    lab.send("p1", eth("aa→cc"));
    lab.expect([to("up", eth("aa→cc"))]);
    lab.set_port("up", |up| up.rules.protected = true);
    lab.send("p1", eth("aa→ff"));
    lab.expect([dropped("p1", DropReason::NoOutput, 1)]);
}

#[test]
fn a_service_tag_goes_through_a_tunnel() {
    let mut lab = Lab::new([port("q").dot1q_tunnel(10, []), vxlan("vx0", 5000, "192.0.2.2")]);
    lab.send("q", eth("aa→bb").priority(3, 20).udp(64));
    lab.expect([to("vx0", eth("aa→bb").priority(3, 20).udp(64).tag(0x88a8, 10))]);
    lab.arrive("192.0.2.2".parse().unwrap(), None, &datagram(5000, &eth("bb→aa").priority(5, 20).tag(0x88a8, 10)));
    lab.run();
    lab.expect([to("q", eth("bb→aa").priority(5, 20))]);
}

#[test]
fn a_known_destination_gets_the_tag_of_its_port() {
    let mut lab = among(&one_of_each(), port("in").access(10), false);
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
