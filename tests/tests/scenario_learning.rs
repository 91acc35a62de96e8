//! Learning, ageing, flooding, and what a bridge does not forward.

use datapath::control::DatapathEvent;
use vswitch_tests::lab::DropReason::{
    BridgeSecure, Hairpin, Malformed, NoOutput, PortDown, ReservedGroup, SourceGroup,
};
use vswitch_tests::lab::*;

fn three() -> Lab {
    Lab::new([port("p1"), port("p2"), port("p3")])
}

#[test]
fn an_unknown_destination_is_flooded_and_a_known_one_is_not() {
    let mut lab = three();
    lab.send("p1", eth("aa→bb").udp(64));
    lab.expect([flood(["p2", "p3"], eth("aa→bb").udp(64))]);
    lab.send("p2", eth("bb→aa").udp(64));
    lab.expect([to("p1", eth("bb→aa").udp(64))]);
    lab.send("p1", eth("aa→bb").udp(64));
    lab.expect([to("p2", eth("aa→bb").udp(64))]);
    assert_eq!(lab.fdb("br0"), ["0 aa p1", "0 bb p2"]);
}

#[test]
fn broadcast_and_multicast_are_flooded_but_not_learned() {
    let mut lab = three();
    for dst in ["ff", "01:00:5e:00:00:01", "33:33:00:00:00:01"] {
        let packet = eth(&format!("aa→{dst}")).udp(10);
        lab.send("p1", packet.clone());
        lab.expect([flood(["p2", "p3"], packet)]);
    }
    assert_eq!(lab.fdb("br0"), ["0 aa p1"]);
}

#[test]
fn the_second_packet_of_a_batch_sees_what_the_first_has_taught() {
    let mut lab = three();
    lab.send("p2", eth("bb→ff"));
    lab.expect([flood(["p1", "p3"], eth("bb→ff"))]);
    // Behind one port: two stations, the first of which answers the other.
    lab.send_all("p1", [eth("aa→bb"), eth("cc→aa")]);
    lab.expect([to("p2", eth("aa→bb")), dropped("p1", Hairpin, 1)]);
}

#[test]
fn a_destination_behind_the_port_it_came_from_goes_nowhere() {
    let mut lab = three();
    lab.send_all("p1", [eth("aa→ff"), eth("bb→ff")]);
    lab.expect([flood(["p2", "p3"], eth("aa→ff")), flood(["p2", "p3"], eth("bb→ff"))]);
    lab.send("p1", eth("aa→bb"));
    lab.expect([dropped("p1", Hairpin, 1)]);
}

#[test]
fn silence_makes_an_address_unknown_again() {
    let mut lab = three();
    lab.send("p2", eth("bb→ff"));
    lab.expect([flood(["p1", "p3"], eth("bb→ff"))]);
    lab.advance(299);
    lab.send("p1", eth("aa→bb"));
    lab.expect([to("p2", eth("aa→bb"))]);
    lab.advance(2);
    assert_eq!(lab.fdb("br0"), ["0 aa p1"]);
    lab.send("p1", eth("aa→bb"));
    lab.expect([flood(["p2", "p3"], eth("aa→bb"))]);
}

#[test]
fn a_shorter_ageing_time_applies_to_what_is_known() {
    let mut lab = three();
    lab.send("p2", eth("bb→ff"));
    lab.expect([flood(["p1", "p3"], eth("bb→ff"))]);
    lab.advance(20);
    lab.set_bridge("br0", |b| b.mac_aging = std::time::Duration::from_secs(15));
    assert!(lab.fdb("br0").is_empty());
    assert_eq!(lab.table_stats("br0").entries, 0, "freed as well");
}

#[test]
fn expired_addresses_are_freed_even_if_nobody_asks_for_them() {
    let mut lab = three();
    lab.send_all("p1", (0..10).map(|i| eth(&format!("{i:02x}→ff"))));
    lab.ignore();
    lab.advance(400);
    lab.send("p1", eth("aa→ff"));
    lab.expect([flood(["p2", "p3"], eth("aa→ff"))]);
    assert_eq!(lab.table_stats("br0").entries, 1);
}

#[test]
fn many_expired_addresses_are_freed_over_several_batches() {
    let mut lab = three();
    lab.send_all("p1", (0..600).map(|i| eth(&format!("02:00:00:01:{:02x}:{:02x}→ff", i / 256, i % 256))));
    lab.ignore();
    lab.advance(400);
    let left = [1, 2, 3].map(|_| {
        lab.send("p1", eth("aa→ff"));
        lab.ignore();
        lab.table_stats("br0").entries
    });
    assert!(left[0] > 300, "{left:?}: not all at once");
    assert_eq!(left[2], 1, "{left:?}: but without waiting");
}

#[test]
fn a_frame_keeps_saying_where_it_came_from() {
    let mut lab = three();
    lab.send("p2", eth("aa→ff"));
    let ingress: Vec<_> = lab.ignore().into_iter().map(|(port, frame)| (port, frame.meta.ingress.port.0)).collect();
    assert_eq!(ingress, [("p1", 1), ("p3", 1)]);
}

#[test]
fn a_station_that_moves_is_followed_at_once() {
    let mut lab = three();
    lab.send("p1", eth("aa→ff"));
    lab.expect([flood(["p2", "p3"], eth("aa→ff"))]);
    lab.send("p3", eth("aa→ff"));
    lab.expect([flood(["p1", "p2"], eth("aa→ff"))]);
    lab.send("p2", eth("bb→aa"));
    lab.expect([to("p3", eth("bb→aa"))]);
    assert_eq!(lab.table_stats("br0").moves, 1);
}

#[test]
fn a_flood_of_addresses_from_one_port_evicts_no_other_ports() {
    let mut lab = three();
    lab.set_bridge("br0", |b| b.mac_table_size = 100);
    let own: Vec<_> = (0..30).map(|i| eth(&format!("02:bb:00:00:00:{i:02x}→ff"))).collect();
    lab.send_all("p2", own);
    lab.ignore();
    for high in 0..20 {
        lab.send_all("p1", (0..=255).map(|low| eth(&format!("02:aa:00:00:{high:02x}:{low:02x}→ff"))));
        lab.ignore();
    }
    assert_eq!(
        lab.table_stats("br0"),
        TableStats { entries: 100, learned: 30 + 20 * 256, evicted: 20 * 256 - 70, ..Default::default() }
    );
    let of_p2 = lab.fdb("br0").iter().filter(|line| line.ends_with("p2")).count();
    assert_eq!(of_p2, 30);
    lab.send("p3", eth("cc→02:bb:00:00:00:00"));
    lab.expect([to("p2", eth("cc→02:bb:00:00:00:00"))]);
}

#[test]
fn reserved_group_addresses_stay_on_their_link() {
    let mut lab = three();
    for last in 0..16 {
        lab.send("p1", eth(&format!("aa→01:80:c2:00:00:{last:02x}")));
        lab.expect([dropped("p1", ReservedGroup, 1)]);
    }
    assert!(lab.fdb("br0").is_empty(), "nor do they teach");
    let next = eth("aa→01:80:c2:00:00:10");
    lab.send("p1", next.clone());
    lab.expect([flood(["p2", "p3"], next)]);
}

#[test]
fn a_group_address_as_source_is_refused() {
    let mut lab = three();
    for src in ["ff", "01:00:5e:00:00:01", "00"] {
        let src = if src == "00" { "00:00:00:00:00:00" } else { src };
        lab.send("p1", eth(&format!("{src}→bb")));
        lab.expect([dropped("p1", SourceGroup, 1)]);
    }
    assert!(lab.fdb("br0").is_empty());
}

#[test]
fn what_is_too_short_is_malformed() {
    let mut lab = three();
    for bytes in [&[][..], &[2; 13], &[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x81, 0, 0]] {
        lab.inject("p1", datapath::packet::Frame::from_bytes(bytes));
        lab.run();
        lab.expect([dropped("p1", Malformed, 1)]);
    }
}

#[test]
fn a_lonely_port_has_no_way_out() {
    let mut lab = Lab::new([port("p1"), port("p2").on("br1")]);
    lab.send("p1", eth("aa→bb"));
    lab.expect([dropped("p1", NoOutput, 1)]);
}

#[test]
fn bridges_do_not_see_each_other() {
    let mut lab = Lab::new([port("p1"), port("p2"), port("q1").on("br1"), port("q2").on("br1")]);
    lab.send("p2", eth("bb→aa"));
    lab.expect([to("p1", eth("bb→aa"))]);
    lab.send("q1", eth("aa→bb"));
    lab.expect([to("q2", eth("aa→bb"))]);
    assert_eq!((lab.fdb("br0"), lab.fdb("br1")), (vec!["0 bb p2".to_owned()], vec!["0 aa q1".to_owned()]));
}

#[test]
fn a_secure_bridge_without_controller_forwards_nothing() {
    let mut lab = three();
    lab.set_bridge("br0", |b| b.secure = true);
    lab.send("p1", eth("aa→bb"));
    lab.expect([dropped("p1", BridgeSecure, 1)]);
    lab.set_bridge("br0", |b| b.secure = false);
    lab.send("p1", eth("aa→bb"));
    lab.expect([flood(["p2", "p3"], eth("aa→bb"))]);
}

#[test]
fn a_port_that_is_down_takes_nothing_and_gets_nothing() {
    let mut lab = three();
    lab.send("p3", eth("cc→ff"));
    lab.expect([flood(["p1", "p2"], eth("cc→ff"))]);
    lab.set_port("p3", |p| p.up = false);
    lab.send("p3", eth("cc→ff"));
    lab.expect([dropped("p3", PortDown, 1)]);
    assert!(lab.fdb("br0").is_empty(), "what was behind it may be elsewhere by now");
    lab.send("p1", eth("aa→cc"));
    lab.expect([to("p2", eth("aa→cc"))]);
    lab.set_port("p3", |p| p.up = true);
    lab.send("p1", eth("aa→cc"));
    lab.expect([flood(["p2", "p3"], eth("aa→cc"))]);
}

#[test]
fn a_device_that_refuses_is_accounted_for() {
    let mut lab = three();
    lab.refuse("p2", DropReason::TxQueueFull);
    lab.send("p1", eth("aa→ff"));
    lab.expect([to("p3", eth("aa→ff")), copied(1), dropped("p2", DropReason::TxQueueFull, 1)]);
}

#[test]
fn a_device_that_dies_is_reported_and_what_is_meant_for_it_counted() {
    let mut lab = three();
    let died = DatapathEvent::DeviceDied { port: "p2".to_owned(), errno: 19 };
    assert_eq!(lab.kill("p2", 19), [died]);
    lab.send("p1", eth("aa→ff"));
    lab.expect([to("p3", eth("aa→ff")), copied(1), dropped("p2", PortDown, 1)]);
}

#[test]
fn a_port_that_goes_takes_its_addresses_along() {
    let mut lab = three();
    lab.send("p3", eth("cc→ff"));
    lab.expect([flood(["p1", "p2"], eth("cc→ff"))]);
    lab.remove_port("p3");
    assert!(lab.fdb("br0").is_empty());
    lab.send("p1", eth("aa→cc"));
    lab.expect([to("p2", eth("aa→cc"))]);
    lab.add_port(port("p3"));
    lab.send("p1", eth("aa→cc"));
    lab.expect([flood(["p2", "p3"], eth("aa→cc"))]);
}

#[test]
fn a_port_that_changes_its_bridge_leaves_its_addresses_behind_to_nobody() {
    let mut lab = Lab::new([port("p1"), port("p2"), port("p3"), port("q1").on("br1")]);
    lab.send("p3", eth("cc→ff"));
    lab.expect([flood(["p1", "p2"], eth("cc→ff"))]);
    lab.set_port("p3", |p| p.bridge = "br1");
    lab.send("p1", eth("aa→cc"));
    lab.expect([to("p2", eth("aa→cc"))]);
    lab.send("q1", eth("aa→cc"));
    lab.expect([to("p3", eth("aa→cc"))]);
}

#[test]
fn a_port_with_other_vlans_forgets_its_addresses_and_others_do_not() {
    let mut lab = three();
    lab.send("p2", eth("bb→ff"));
    lab.ignore();
    lab.send("p3", eth("cc→ff"));
    lab.ignore();
    lab.set_port("p3", |p| *p = p.clone().trunk([0, 5]));
    assert_eq!(lab.fdb("br0"), ["0 bb p2"]);
}

#[test]
fn the_lab_notices_what_a_test_does_not_list() {
    let failure = |expected: Vec<Expect>| {
        let mut lab = three();
        lab.send("p1", eth("aa→bb").udp(64));
        let run = std::panic::AssertUnwindSafe(|| lab.expect(expected));
        let panic = std::panic::catch_unwind(run).expect_err("the test should have failed");
        panic.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    let text = failure(vec![to("p2", eth("aa→bb").udp(64))]);
    assert!(text.contains("p3, packet 0: unlisted: aa→bb IPv4 id 100 UDP 10000→53"), "{text}");
    assert!(text.contains("counter copied: expected +0, got +1"), "{text}");
    assert!(text.contains("counter p3.tx_packets: expected +0, got +1"), "{text}");
    let text = failure(vec![flood(["p2", "p3"], eth("aa→bb").udp(64)), dropped("p1", Hairpin, 1)]);
    assert!(text.contains("counter p1.drop_hairpin: expected +1, got +0"), "{text}");
    let text = failure(vec![flood(["p2", "p3"], eth("aa→bb").udp(64).unfinished())]);
    assert!(text.contains("p2, packet 0: expected aa→bb"), "{text}");
    assert!(text.contains("checksum unfinished from 34 at +6"), "{text}");
}
