//! What is larger than its way out carries: cut, fragmented, told of, or dropped and counted.

use datapath::packet::Frame;
use datapath::time::Duration;
use vswitch_tests::lab::DropReason::{MtuExceeded, MtuTold, MtuUntold};
use vswitch_tests::lab::*;

const B: &str = "192.0.2.2";

/// A pod, a tunnel that station `bb` is behind, and a device with a small MTU that `cc` is behind.
fn lab() -> Lab {
    let mut lab = Lab::new([port("p1"), vxlan("vx0", 5000, B).mtu(1450), port("small").mtu(1000)]);
    lab.arrive(B.parse().unwrap(), None, &datagram(5000, &eth("bb→ff")));
    lab.run();
    lab.send("small", eth("cc→ff"));
    lab.send("p1", eth("aa→ff"));
    lab.ignore();
    drop(lab.intercept());
    lab
}

/// The two ways out of [`lab`]: port, station, MTU.
const WAYS: [(&str, &str, usize); 2] = [("vx0", "bb", 1450), ("small", "cc", 1000)];

/// From the pod to a station.
fn from_pod(station: &str) -> Packet {
    eth(&format!("aa→{station}"))
}

fn set_policy(lab: &mut Lab, policy: MtuPolicy) {
    for (port, ..) in WAYS {
        lab.set_port(port, |spec| spec.mtu_policy = policy);
    }
}

#[test]
fn what_fits_exactly_passes_under_every_policy() {
    let mut lab = lab();
    for policy in [MtuPolicy::Fit, MtuPolicy::Icmp, MtuPolicy::Drop] {
        set_policy(&mut lab, policy);
        for (port, station, mtu) in WAYS {
            for packet in [
                from_pod(station).udp(mtu - 28),
                from_pod(station).v6().udp(mtu - 48),
                from_pod(station).may_fragment().icmp(8, mtu - 28),
                from_pod(station).tcp(mtu - 52),
                from_pod(station).raw(0x88b5, vec![1; mtu]),
            ] {
                lab.send("p1", packet.clone());
                lab.expect([to(port, packet)]);
            }
        }
    }
}

#[test]
fn one_byte_more_is_told_to_whoever_asked_not_to_be_fragmented() {
    let mut lab = lab();
    for policy in [MtuPolicy::Fit, MtuPolicy::Icmp] {
        set_policy(&mut lab, policy);
        for (port, station, mtu) in WAYS {
            for packet in [
                from_pod(station).udp(mtu - 27),
                from_pod(station).udp(mtu - 27).unfinished(),
                from_pod(station).icmp(8, mtu - 27),
                from_pod(station).udp(9000).super_frame(mtu as u16 - 27),
            ] {
                lab.send("p1", packet.clone());
                lab.expect([told("p1", &packet, port, mtu)]);
                lab.advance(1);
            }
        }
        for packet in [
            from_pod("bb").v6().udp(1450 - 47),
            from_pod("bb").v6().icmp(128, 1450 - 47),
            from_pod("bb").v6().udp(9000).super_frame(1450 - 47),
        ] {
            lab.send("p1", packet.clone());
            lab.expect([told("p1", &packet, "vx0", 1450)]);
        }
    }
}

#[test]
fn packets_that_may_be_fragmented_are() {
    let mut lab = lab();
    for policy in [MtuPolicy::Fit, MtuPolicy::Icmp] {
        set_policy(&mut lab, policy);
        for (port, station, mtu) in WAYS {
            for packet in [
                from_pod(station).may_fragment().udp(2000),
                from_pod(station).may_fragment().icmp(8, mtu - 27),
                from_pod(station).may_fragment().udp(3001),
            ] {
                lab.send("p1", packet.clone());
                lab.expect([in_fragments(port, &packet, mtu)]);
            }
            // A checksum that was left to the device is finished: the device sees no whole datagram.
            lab.send("p1", from_pod(station).may_fragment().udp(2000).unfinished());
            lab.expect([in_fragments(port, &from_pod(station).may_fragment().udp(2000), mtu)]);
        }
    }
}

#[test]
fn fragments_are_fragmented_again_and_a_fragment_that_may_not_be_is_dropped() {
    let mut lab = lab();
    let packet = from_pod("cc").may_fragment().udp(4000);
    for fragment in packet.fragments(1500) {
        lab.send("p1", fragment.clone());
        lab.expect([in_fragments("small", &fragment, 1000)]);
    }
    // The same with DF, of the first and of a later one: only the first may be answered (RFC 1122 §3.2.2).
    let [first, later, _] = <[Packet; 3]>::try_from(packet.fragments(1500)).unwrap();
    let with_df = |fragment: &Packet| {
        let mut bytes = fragment.frame().bytes()[14..].to_vec();
        bytes[6] |= 0x40;
        from_pod("cc").raw(0x0800, bytes)
    };
    lab.send("p1", with_df(&first));
    lab.expect([told("p1", &with_df(&first), "small", 1000)]);
    lab.send("p1", with_df(&later));
    lab.expect([dropped("small", MtuExceeded, 1)]);
}

#[test]
fn a_super_frame_of_datagrams_that_may_be_fragmented_is_cut_twice() {
    let mut lab = lab();
    let whole = from_pod("cc").may_fragment().udp(2500).super_frame(1200);
    lab.send("p1", whole.clone());
    let pieces: Vec<_> = whole.segments().iter().flat_map(|datagram| datagram.fragments(1000)).collect();
    assert_eq!(pieces.len(), 2 + 2 + 1);
    lab.expect([to_each("small", pieces), split(4)]);
}

#[test]
fn tcp_is_cut_to_fit_or_told_as_the_policy_says() {
    let mut lab = lab();
    for v6 in [false, true] {
        let tcp = |station, n| if v6 { from_pod(station).v6().tcp(n) } else { from_pod(station).tcp(n) };
        let headers = if v6 { 72 } else { 52 };
        for (single, segments) in [(true, tcp("bb", 1448)), (false, tcp("bb", 14_480).super_frame(1448))] {
            set_policy(&mut lab, MtuPolicy::Fit);
            let fits = segments.clone().super_frame(1450 - headers);
            lab.send("p1", segments.clone());
            lab.expect([to_each("vx0", fits.segments()), split(fits.segment_count() as u64 - 1)]);
            set_policy(&mut lab, MtuPolicy::Icmp);
            lab.send("p1", segments.clone());
            lab.expect([told("p1", &segments, "vx0", 1450)]);
            set_policy(&mut lab, MtuPolicy::Drop);
            lab.send("p1", segments.clone());
            lab.expect([dropped("vx0", MtuExceeded, 1)]);
            assert_eq!(single, segments.segment_count() == 1);
        }
        // A device that takes super-frames whole cuts them itself, into segments that fit.
        set_policy(&mut lab, MtuPolicy::Fit);
        for whole in [tcp("cc", 14_480).super_frame(1448), tcp("cc", 1448)] {
            lab.send("p1", whole.clone());
            lab.expect([to("small", whole.super_frame(1000 - headers))]);
        }
        lab.set_port("small", |spec| spec.caps = Caps::NONE);
        for whole in [tcp("cc", 14_480).super_frame(1448), tcp("cc", 1448)] {
            let fits = whole.clone().super_frame(1000 - headers);
            lab.send("p1", whole);
            lab.expect([split(fits.segment_count() as u64 - 1), to_each("small", fits.segments())]);
        }
        lab.set_port("small", |spec| spec.caps = Caps::ALL);
    }
}

#[test]
fn under_drop_everything_too_large_is_dropped_and_counted() {
    let mut lab = lab();
    set_policy(&mut lab, MtuPolicy::Drop);
    for (port, station, _) in WAYS {
        for packet in [
            from_pod(station).udp(2000),
            from_pod(station).may_fragment().udp(2000),
            from_pod(station).v6().udp(2000),
            from_pod(station).tcp(30_000).super_frame(1448),
            from_pod(station).udp(9000).super_frame(1448),
            from_pod(station).raw(0x88b5, vec![1; 2000]),
        ] {
            lab.send("p1", packet);
            lab.expect([dropped(port, MtuExceeded, 1)]);
        }
    }
}

#[test]
fn what_nobody_can_be_told_of_is_dropped_and_counted() {
    let mut lab = lab();
    // No IP; an ICMP error; ICMPv6 errors; groups; IPv6 where no less can be told.
    for (out, packet) in [
        ("vx0", from_pod("bb").raw(0x88b5, vec![1; 1451])),
        ("vx0", from_pod("bb").icmp(3, 2000)),
        ("vx0", from_pod("bb").icmp(11, 2000)),
        ("vx0", from_pod("bb").v6().icmp(2, 2000)),
        ("vx0", from_pod("bb").v6().icmp(3, 2000)),
        ("small", from_pod("cc").v6().udp(1280 - 48)),
    ] {
        lab.send("p1", packet);
        lab.expect([dropped(out, MtuExceeded, 1)]);
    }
    for packet in
        [eth("aa→ff").udp(2000), eth("aa→01:00:5e:00:00:05").udp(2000), eth("aa→33:33:00:00:00:05").v6().udp(2000)]
    {
        lab.send("p1", packet);
        lab.expect([copied(1), dropped("vx0", MtuExceeded, 1), dropped("small", MtuExceeded, 1)]);
    }
}

#[test]
fn ipv6_is_carried_where_the_tunnel_is_smaller_than_a_link_may_be() {
    let mut lab = lab();
    lab.set_port("vx0", |spec| *spec = spec.clone().mtu(1200));
    let large = from_pod("bb").v6().udp(1281 - 48);
    lab.send("p1", large.clone());
    lab.expect([told("p1", &large, "vx0", 1280)]);
    let least = from_pod("bb").v6().udp(1280 - 48);
    lab.send("p1", least.clone());
    lab.expect([to("vx0", least)]);
    assert!(!lab.intercept()[0].meta.outer.unwrap().dont_fragment, "the underlay fragments what carries it");
    let fits = from_pod("bb").v6().udp(1200 - 48);
    lab.send("p1", fits.clone());
    lab.expect([to("vx0", fits)]);
    assert!(lab.intercept()[0].meta.outer.unwrap().dont_fragment);
}

#[test]
fn a_sender_beyond_a_tunnel_is_told_through_it() {
    let mut lab = lab();
    let packet = eth("bb→cc").udp(1200);
    lab.arrive(B.parse().unwrap(), None, &datagram(5000, &packet));
    lab.run();
    lab.expect([told("vx0", &packet, "small", 1000)]);
    // Of several remote ends only the one that it came from.
    let mut lab = Lab::new([multipoint("vx0", 5000, ["192.0.2.3", B]), port("small").mtu(1000)]);
    lab.send("small", eth("cc→ff"));
    lab.ignore();
    lab.arrive(B.parse().unwrap(), None, &datagram(5000, &packet));
    lab.run();
    lab.expect([told("vx0@192.0.2.2", &packet, "small", 1000)]);
}

#[test]
fn a_sender_on_another_bridge_is_told_through_the_patch() {
    let mut lab =
        Lab::new([port("p1"), patch("pa", "pb"), patch("pb", "pa").on("br1"), port("small").mtu(1000).on("br1")]);
    lab.send("small", eth("cc→aa"));
    lab.ignore();
    let packet = from_pod("cc").vlan(7).udp(1200);
    lab.send("small", eth("cc→aa").vlan(7));
    lab.ignore();
    lab.send("p1", packet.clone());
    let answer = packet.too_big(1000);
    lab.expect([
        through("pa", "pb", &packet),
        dropped("small", MtuTold, 1),
        generated(1),
        through("pb", "pa", &answer),
        to("p1", answer),
    ]);
    assert!(lab.fdb("br0").contains(&"7 cc pa".to_owned()), "and cc is still where it was: {:?}", lab.fdb("br0"));
}

#[test]
fn an_answer_has_the_tags_that_the_packet_came_with() {
    let tunnel = |lab: &mut Lab, tagged: &str| {
        lab.arrive(B.parse().unwrap(), None, &datagram(5000, &eth("bb→ff").tagged(tagged)));
        lab.run();
        lab.ignore();
    };
    for (spec, came, in_tunnel, two_tags) in [
        // Untagged into an access port: a tag more in the tunnel.
        (port("p1").access(10), "-", "10", false),
        (port("p1").trunk([10]), "10", "10", false),
        (port("p1").trunk([10]), "10p5", "10p5", false),
        (port("p1").trunk([10]), "S10+20", "S10+20", false),
        (port("p1").trunk([10]), "S10+20", "S10+20", true),
        (port("p1").trunk([10]), "S10+20+30", "S10+20+30", true),
        (port("p1").native_untagged(10, [20]), "-", "10", false),
        (port("p1").native_untagged(10, [20]), "20", "20", false),
        (port("p1").access(10), "0p3", "10p3", false),
        (port("p1").dot1q_tunnel(10, []), "20", "S10+20", true),
        (port("p1").dot1q_tunnel(10, []), "-", "S10", true),
        (port("p1").dot1q_tunnel(10, []), "20+30", "S10+20+30", true),
    ] {
        let mut lab = Lab::new([spec, vxlan("vx0", 5000, B).mtu(1450)]);
        lab.set_bridge("br0", |bridge| bridge.vlans.two_tags = two_tags);
        tunnel(&mut lab, in_tunnel);
        let tags_inside = tags(in_tunnel).len();
        let fits = 1450 - 4 * tags_inside;
        let packet = |n: usize| eth("aa→bb").tagged(came).udp(n - 28);
        lab.send("p1", packet(fits));
        lab.expect([to("vx0", eth("aa→bb").tagged(in_tunnel).udp(fits - 28))]);
        lab.send("p1", packet(fits + 1));
        lab.expect([told("p1", &packet(fits + 1), "vx0", fits)]);
    }
}

#[test]
fn an_answer_to_what_leaves_without_its_tag_has_it() {
    let mut lab = Lab::new([port("p1"), port("small").access(10).mtu(1000)]);
    lab.send("small", eth("cc→ff"));
    lab.ignore();
    let packet = from_pod("cc").vlan(10).udp(1000 - 27);
    lab.send("p1", packet.clone());
    lab.expect([told("p1", &packet, "small", 1000)]);
}

#[test]
fn a_device_takes_one_tag_for_free() {
    let mut lab = Lab::new([port("p1"), port("small").mtu(1000)]);
    for (tags, fits) in [("10", 1000), ("10+20", 996), ("S10", 996)] {
        lab.send("small", eth("cc→ff").tagged(tags));
        lab.ignore();
        let packet = |n: usize| from_pod("cc").tagged(tags).udp(n - 28);
        lab.send("p1", packet(fits));
        lab.expect([to("small", packet(fits))]);
        lab.send("p1", packet(fits + 1));
        lab.expect([told("p1", &packet(fits + 1), "small", fits)]);
    }
}

#[test]
fn of_a_frame_that_goes_many_ways_its_sender_is_told_once() {
    let mut lab = Lab::new([port("p1"), port("p2"), port("s1").mtu(1000), port("s2").mtu(900), port("s3").mtu(800)]);
    let packet = eth("aa→dd").udp(950 - 28);
    lab.send("p1", packet.clone());
    lab.expect([
        to("p2", packet.clone()),
        to("s1", packet.clone()),
        told("p1", &packet, "s2", 900),
        dropped("s3", MtuTold, 1),
        copied(3),
    ]);
    // The next one is another frame.
    lab.send("p1", packet.clone());
    lab.expect([
        to("p2", packet.clone()),
        to("s1", packet.clone()),
        told("p1", &packet, "s2", 900),
        dropped("s3", MtuTold, 1),
        copied(3),
    ]);
}

#[test]
fn nobody_is_told_of_a_mirrors_copy() {
    let mut lab = Lab::new([port("p1"), port("p2"), port("mon").mtu(1000)]);
    lab.send("p2", eth("bb→ff"));
    lab.ignore();
    for spec in [patch("pa", "pb"), patch("pb", "pa").on("br1"), port("far").on("br1").mtu(1000)] {
        lab.add_port(spec);
    }
    let packet = eth("aa→bb").udp(1200);
    lab.set_bridge("br0", |bridge| bridge.mirrors = vec![mirror("m", "mon").arriving("p1")]);
    lab.send("p1", packet.clone());
    lab.expect([to("p2", packet.clone()), copied(1), dropped("m", MtuExceeded, 1)]);
    // Nor where it is a frame like others, on another bridge.
    lab.set_bridge("br0", |bridge| bridge.mirrors = vec![mirror("m", "pa").arriving("p1")]);
    lab.send("p1", packet.clone());
    lab.expect([
        to("p2", packet.clone()),
        copied_for("m", &packet),
        through("pa", "pb", &packet),
        dropped("far", MtuExceeded, 1),
    ]);
}

#[test]
fn in_a_storm_so_many_are_told_as_the_limit_allows_and_all_are_counted() {
    let mut lab = lab();
    lab.add_port(port("p2"));
    lab.send("p2", eth("dd→aa"));
    lab.ignore();
    let storm = |lab: &mut Lab, port: &'static str, from: &str, n: u64| {
        let packet = eth(&format!("{from}→cc")).udp(1200);
        lab.send_all(port, (0..n).map(|_| packet.clone()));
        packet.too_big(1000)
    };
    let answer = storm(&mut lab, "p1", "aa", 200);
    let told = |port, answer: &Packet, told: usize, untold| {
        Expect::All(vec![
            to_each(port, vec![answer.clone(); told]),
            generated(told as u64),
            dropped("small", MtuTold, told as u64),
            dropped("small", MtuUntold, untold),
        ])
    };
    lab.expect([told("p1", &answer, 20, 180)]);
    // Who is behind another port has a limit of its own.
    let answer = storm(&mut lab, "p2", "dd", 30);
    lab.expect([told("p2", &answer, 20, 10)]);
    for _ in 0..10 {
        lab.advance_by(Duration::from_millis(100));
        let answer = storm(&mut lab, "p1", "aa", 100);
        lab.expect([told("p1", &answer, 10, 90)]);
    }
}

#[test]
fn an_answer_waits_for_the_rate_limit_of_the_port_that_it_leaves_by() {
    let mut lab = lab();
    let limit = Limit { packets: Some(Tokens { rate: 10, burst: 1 }), queue: 10_000, ..Limit::default() };
    lab.set_port("p1", |spec| *spec = spec.clone().egress(limit));
    let packet = from_pod("cc").udp(1200);
    lab.send_all("p1", [packet.clone(), packet.clone()]);
    lab.expect([to("p1", packet.too_big(1000)), generated(2), dropped("small", MtuTold, 2)]);
    lab.advance_by(Duration::from_millis(100));
    lab.run();
    lab.expect([to("p1", packet.too_big(1000))]);
}

#[test]
fn forged_frames_are_dropped_and_counted_and_nothing_else() {
    let mut lab = lab();
    let udp = from_pod("cc").may_fragment().udp(1200);
    let bytes = udp.frame().bytes()[14..].to_vec();
    let forged = |changes: &[(usize, u8)]| {
        let mut bytes = bytes.clone();
        changes.iter().for_each(|&(at, value)| bytes[at] = value);
        from_pod("cc").raw(0x0800, bytes)
    };
    // Lengths that contradict the frame, a header that is longer than the packet, and one that is too short: no IP.
    for packet in
        [forged(&[(2, 0xff)]), forged(&[(0, 0x4f), (2, 0), (3, 40)]), forged(&[(0, 0x44)]), forged(&[(0, 0x65)])]
    {
        lab.send("p1", packet);
        lab.expect([dropped("small", MtuExceeded, 1)]);
    }
    // A fragment that would end after the largest packet (a "ping of death").
    lab.send("p1", forged(&[(6, 0x1f), (7, 0xff)]));
    lab.expect([dropped("small", DropReason::Malformed, 1)]);
    // Fragments that overlap are two packets to a switch.
    for packet in [forged(&[(6, 0x20), (7, 0)]), forged(&[(6, 0x20), (7, 10)])] {
        lab.send("p1", packet.clone());
        lab.expect([in_fragments("small", &packet, 1000)]);
    }
    // Shorter than it says: the rest is padding, or the reader's.
    lab.send("p1", forged(&[(2, 0), (3, 100)]));
    let mut short = bytes[..100].to_vec();
    (short[2], short[3]) = (0, 100);
    lab.expect([to("small", from_pod("cc").raw(0x0800, short))]);
    // A sender that cannot be one is not told.
    for source in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [255, 255, 255, 255]] {
        let mut bytes = from_pod("cc").udp(1200).frame().bytes()[14..].to_vec();
        bytes[12..16].copy_from_slice(&source);
        lab.send("p1", from_pod("cc").raw(0x0800, bytes));
        lab.expect([dropped("small", MtuExceeded, 1)]);
    }
}

#[test]
fn the_largest_frames_are_dealt_with() {
    let mut lab = lab();
    let largest = from_pod("cc").may_fragment().udp(65_507);
    lab.send("p1", largest.clone());
    lab.expect([in_fragments("small", &largest, 1000)]);
    // Into more pieces than a super-frame may have it is not cut.
    lab.set_port("small", |spec| *spec = spec.clone().mtu(68));
    lab.send("p1", largest);
    lab.expect([dropped("small", MtuExceeded, 1)]);
    let mut oversized = Frame::from_bytes(&vec![0x55; 65_535 + 14]);
    oversized.bytes_mut()[..14].copy_from_slice(&from_pod("cc").frame().bytes()[..14]);
    lab.inject("p1", oversized);
    lab.run();
    lab.expect([dropped("small", MtuExceeded, 1)]);
}

#[test]
fn a_frame_without_room_for_headers_is_copied() {
    let mut lab = Lab::new([port("p1").access(10), vxlan("vx0", 5000, B)]);
    let packet = eth("aa→ff").udp(100);
    let bytes = packet.frame().bytes().to_vec();
    // It needs 4 bytes for a tag, of the 8 that there are to be, and then 8 for the tunnel's header.
    for (room, moved) in [(12, 0), (11, 1), (8, 1), (7, 1), (0, 1)] {
        let mut tight = Frame::new([vec![0; room], bytes.clone()].concat().into_boxed_slice(), room);
        tight.set_len(bytes.len());
        lab.inject("p1", tight);
        lab.run();
        lab.expect([to("vx0", packet.clone().vlan(10)), Expect::Count("headroom_moved".to_owned(), moved)]);
    }
}
