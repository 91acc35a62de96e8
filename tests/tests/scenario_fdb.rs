//! Static addresses, addresses that flap, and a flood of a million of them.

use vswitch_tests::lab::DropReason::{Hairpin, PortDown};
use vswitch_tests::lab::*;

/// Three ports, and station dd behind p3 for good.
fn three() -> Lab {
    let mut lab = Lab::new([port("p1"), port("p2"), port("p3")]);
    lab.set_bridge("br0", |b| b.statics = vec![(0, "dd", "p3")]);
    lab
}

#[test]
fn a_static_address_is_known_without_being_heard() {
    let mut lab = three();
    assert_eq!(lab.fdb("br0"), ["0 dd p3 static"]);
    lab.send("p1", eth("aa→dd").udp(64));
    lab.expect([to("p3", eth("aa→dd").udp(64))]);
    // In its VLAN only.
    lab.send("p1", eth("aa→dd").vlan(5));
    lab.expect([flood(["p2", "p3"], eth("aa→dd").vlan(5))]);
    lab.send("p3", eth("bb→dd"));
    lab.expect([dropped("p3", Hairpin, 1)]);
}

#[test]
fn a_static_address_is_moved_by_nobody_who_uses_it() {
    let mut lab = three();
    lab.send("p3", eth("dd→ff"));
    lab.expect([flood(["p1", "p2"], eth("dd→ff"))]);
    lab.send_all("p2", [eth("dd→ff"), eth("dd→ff")]);
    lab.expect([flood(["p1", "p3"], eth("dd→ff")), flood(["p1", "p3"], eth("dd→ff")), misplaced(2)]);
    lab.send("p1", eth("aa→dd"));
    lab.expect([to("p3", eth("aa→dd"))]);
    assert_eq!(lab.table_stats("br0").moves, 0);
    lab.advance(100_000);
    lab.send("p1", eth("aa→dd"));
    lab.expect([to("p3", eth("aa→dd"))]);
}

#[test]
fn what_was_learned_gives_way_to_what_is_configured_and_the_other_way_round() {
    let mut lab = three();
    lab.send("p1", eth("ee→ff"));
    lab.expect([flood(["p2", "p3"], eth("ee→ff"))]);
    lab.set_bridge("br0", |b| b.statics = vec![(0, "ee", "p2")]);
    assert_eq!(lab.fdb("br0"), ["0 ee p2 static"]);
    lab.set_bridge("br0", |b| b.statics = vec![]);
    assert!(lab.fdb("br0").is_empty());
    lab.send("p1", eth("ee→dd"));
    lab.expect([flood(["p2", "p3"], eth("ee→dd"))]);
    assert_eq!(lab.fdb("br0"), ["0 ee p1"]);
}

#[test]
fn a_static_address_waits_for_its_port_and_stays_when_that_goes_down() {
    let mut lab = Lab::new([port("p1"), port("p2"), port("q1").on("br1")]);
    lab.set_bridge("br0", |b| b.statics = vec![(0, "dd", "p9")]);
    lab.send("p1", eth("aa→dd"));
    lab.expect([to("p2", eth("aa→dd"))]);
    lab.add_port(port("p9"));
    lab.send("p1", eth("aa→dd"));
    lab.expect([to("p9", eth("aa→dd"))]);
    lab.set_port("p9", |p| p.up = false);
    lab.send("p1", eth("aa→dd"));
    lab.expect([dropped("p1", PortDown, 1)]);
    assert_eq!(lab.fdb("br0"), ["0 aa p1", "0 dd p9 static"]);
    lab.set_port("p9", |p| p.bridge = "br1");
    assert_eq!(lab.fdb("br0"), ["0 aa p1"]);
}

#[test]
fn an_address_that_flaps_is_told_once_an_interval() {
    let mut lab = three();
    let mut flaps = Vec::new();
    for second in 0..25 {
        for station in if second < 12 { ["aa", "bb"] } else { ["aa", "aa"] } {
            for port in ["p1", "p2", "p1"] {
                lab.send(port, eth(&format!("{station}→ff")));
                lab.ignore();
            }
        }
        flaps.extend(lab.flaps().into_iter().map(|told| format!("{second}: {told}")));
        lab.advance(1);
    }
    assert_eq!(
        flaps,
        [
            "3: VLAN 0 bb: p2 p1, 6 moves in 2.0 s, 1 others",
            "13: VLAN 0 aa: p2 p1, 22 moves in 9.0 s, 1 others",
            "23: VLAN 0 aa: p2 p1, 40 moves in 9.0 s, 0 others"
        ]
    );
}

#[test]
fn a_station_that_moves_once_is_no_news() {
    let mut lab = three();
    for port in ["p1", "p2"] {
        lab.send(port, eth("aa→ff"));
        lab.ignore();
        lab.advance(2);
    }
    lab.send("p2", eth("aa→ff"));
    lab.ignore();
    assert!(lab.flaps().is_empty());
}

/// From one port come a million random senders; two thirds of the table are those who talk at the others.
#[test]
fn a_flood_of_a_million_addresses_takes_nothing_from_those_who_talk() {
    let mut lab = three();
    let station = |n: usize| format!("02:bb:00:00:{:02x}:{:02x}", n / 256, n % 256);
    for _ in 0..2 {
        for (port, range) in [("p2", 0..3500), ("p3", 3500..6000)] {
            lab.send_all(port, range.map(|n| eth(&format!("{}→dd", station(n)))));
            lab.ignore();
        }
        lab.advance(2);
    }
    assert_eq!(lab.table_stats("br0").entries, 6001);
    for high in 0..250u32 {
        let sender = |n: u32| {
            let [_, a, b, c] = (high * 4000 + n).wrapping_mul(2_654_435_769).to_be_bytes();
            let [_, d, e, f] = (high * 4000 + n).to_be_bytes();
            eth(&format!("{:02x}:{a:02x}:{b:02x}:{d:02x}:{e:02x}:{f:02x}→dd", 2 | c << 2))
        };
        lab.send_all("p1", (0..4000).map(sender));
        let _ = lab.ignore();
    }
    let stats = lab.table_stats("br0");
    assert_eq!((stats.entries, stats.learned, stats.evicted), (8192, 1_006_000, 1_000_000 - (8192 - 6001)));
    let known = lab.fdb("br0");
    assert_eq!(known.iter().filter(|line| line.ends_with("p2") || line.ends_with("p3")).count(), 6000);
    // And everyone of them is still reached, and only he.
    for (n, port) in [(0, "p2"), (3499, "p2"), (3500, "p3"), (5999, "p3")] {
        lab.send("p1", eth(&format!("aa→{}", station(n))));
        lab.expect([to(port, eth(&format!("aa→{}", station(n))))]);
    }
}
