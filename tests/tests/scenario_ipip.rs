//! Layer-3 tunnels (IP in IP): routing in and out, ARP on both sides, and what is not carried.

use std::time::Duration;
use vswitch_tests::lab::*;

/// Underlay addresses of two hosts, and of a third.
const A: &str = "192.0.2.1";
const B: &str = "192.0.2.2";
const C: &str = "192.0.2.3";
/// A pod on the bridge here, and one beyond the tunnel.
const HERE: &str = "192.168.10.10";
const THERE: &str = "192.168.11.10";
const TO_THERE: &str = "192.168.10.10→192.168.11.10";
const FROM_THERE: &str = "192.168.11.10→192.168.10.10";
/// The router's own hardware address is fe.
const TO_ROUTER: &str = "aa→fe";
/// How a packet inside a tunnel is shown.
const INSIDE: &str = "00:00:00:00:00:00→00:00:00:00:00:00";
const ROUTES: [(&str, &str); 2] = [("192.168.11.0/24", B), ("192.168.12.0/24", C)];

/// Two pods, the bridge's own port, and a tunnel with [`ROUTES`].
fn lab() -> Lab {
    Lab::new([port("p1"), port("p2"), port("br0"), ipip_by_routes("ip0", ROUTES)])
}

/// The same, with the bridge's own port at an address.
fn lab_at(address: [u8; 4]) -> Lab {
    let mut lab = lab();
    lab.set_bridge("br0", |bridge| bridge.gateway.addresses = vec![(address.into(), 24)]);
    lab
}

fn generated(packets: u64) -> Expect {
    Expect::Count("generated".to_owned(), packets)
}

/// A packet arrives at the tunnel from another host.
fn arrive(lab: &mut Lab, remote: &str, packet: &Packet) {
    lab.arrive_by(Protocol::Ipip, remote, &datagram_of(Protocol::Ipip, 0, packet));
    lab.run();
}

/// The pod at p1 makes itself known by asking for the router.
fn introduce(lab: &mut Lab) {
    lab.send("p1", arp_request("aa", HERE, "169.254.1.1"));
    lab.ignore();
}

#[test]
fn a_packet_to_the_router_goes_into_the_tunnel_by_the_longest_prefix() {
    let mut lab = lab();
    for (destination, end) in [("192.168.11.10", "ip0@192.0.2.2"), ("192.168.12.9", "ip0@192.0.2.3")] {
        let packet = eth(TO_ROUTER).ips(&format!("{HERE}→{destination}")).udp(64);
        lab.send("p1", packet.clone());
        lab.expect([to(end, packet.between(INSIDE).ttl(63))]);
    }
    // The sender has been learned, the router not.
    assert_eq!(lab.fdb("br0"), ["0 aa p1"]);
    // That the router's address is known at the bridge's own port changes nothing, the second time neither.
    lab.send("br0", eth("fe→aa"));
    lab.expect([to("p1", eth("fe→aa"))]);
    for other in [TO_THERE, "192.168.10.10→8.8.8.8", TO_THERE] {
        let packet = eth(TO_ROUTER).ips(other).udp(64);
        lab.send("p1", packet.clone());
        let expected = match other {
            TO_THERE => to("ip0@192.0.2.2", packet.between(INSIDE).ttl(63)),
            _ => to("br0", packet),
        };
        lab.expect([expected]);
    }
}

#[test]
fn what_no_route_leads_to_is_the_hosts_if_that_takes_part() {
    let mut lab = lab();
    let out = eth(TO_ROUTER).ips("192.168.10.10→8.8.8.8").udp(64);
    lab.send("p1", out.clone());
    lab.expect([to("br0", out.clone())]);
    // So is everything else that is for the router's address, and nothing of it is flooded.
    for other in [eth(TO_ROUTER).v6().udp(9), eth(TO_ROUTER)] {
        lab.send("p1", other.clone());
        lab.expect([to("br0", other)]);
    }
    lab.send("br0", eth("fe→fe").ips("192.168.10.1→8.8.8.8").udp(9));
    lab.expect([dropped("br0", DropReason::NoRoute, 1)]);
    lab.set_port("br0", |port| port.up = false);
    lab.send("p1", out);
    lab.expect([dropped("p1", DropReason::NoRoute, 1)]);
}

#[test]
fn a_tunnel_without_routes_takes_all_but_what_is_the_hosts() {
    let mut lab = Lab::new([port("p1"), port("br0"), ipip("ip0", B)]);
    lab.set_bridge("br0", |bridge| bridge.gateway.addresses = vec![([192, 168, 10, 1].into(), 24)]);
    for (destination, tunnelled) in [
        ("8.8.8.8", true),
        ("192.168.10.1", false),
        ("192.168.10.99", false),
        // What no router sends on.
        ("169.254.1.1", false),
        ("224.0.0.5", false),
        ("255.255.255.255", false),
    ] {
        let packet = eth(TO_ROUTER).ips(&format!("{HERE}→{destination}")).udp(64);
        lab.send("p1", packet.clone());
        lab.expect([if tunnelled { to("ip0", packet.between(INSIDE).ttl(63)) } else { to("br0", packet) }]);
    }
}

#[test]
fn nothing_but_ipv4_for_the_router_gets_into_the_tunnel() {
    let mut lab = lab();
    // Neither floods nor frames between stations do.
    for packet in [eth("aa→ff").udp(9), eth("aa→01:00:5e:00:00:05").udp(9), eth("aa→99").ips(TO_THERE).udp(9)] {
        lab.send("p1", packet.clone());
        lab.expect([flood(["p2", "br0"], packet)]);
    }
    // A static address at the tunnel leads nowhere.
    lab.set_bridge("br0", |bridge| bridge.statics = vec![(0, "77", "ip0")]);
    lab.send("p1", eth("aa→77").ips(TO_THERE).udp(9));
    lab.expect([dropped("p1", DropReason::NotRouted, 1)]);
    // A header that contradicts itself is none that can be routed.
    let mut frame = eth(TO_ROUTER).ips(TO_THERE).udp(9).frame();
    frame.bytes_mut()[16] = 0xff;
    lab.inject("p1", frame);
    lab.run();
    lab.expect([dropped("p1", DropReason::Malformed, 1)]);
}

#[test]
fn padding_and_the_last_hop_stay_behind() {
    let mut lab = lab();
    let packet = eth(TO_ROUTER).ips(TO_THERE).udp(4);
    let mut frame = packet.frame();
    frame.set_len(60);
    lab.inject("p1", frame);
    lab.run();
    lab.expect([to("ip0@192.0.2.2", packet.between(INSIDE).ttl(63))]);
    lab.send("p1", eth(TO_ROUTER).ips(TO_THERE).ttl(1).udp(4));
    lab.expect([dropped("p1", DropReason::TtlExpired, 1)]);
    introduce(&mut lab);
    arrive(&mut lab, B, &eth(INSIDE).ips(FROM_THERE).ttl(1).udp(4));
    lab.expect([dropped("ip0", DropReason::TtlExpired, 1)]);
}

#[test]
fn super_frames_are_cut_and_senders_of_big_packets_told() {
    let mut lab = lab();
    lab.set_port("ip0", |port| *port = port.clone().mtu(1480));
    let packet = eth(TO_ROUTER).ips(TO_THERE).tcp(5000).super_frame(1428);
    lab.send("p1", packet.clone());
    lab.expect([to_each("ip0@192.0.2.2", packet.between(INSIDE).ttl(63).segments()), split(3)]);
    let exactly = eth(TO_ROUTER).ips(TO_THERE).udp(1480 - 28);
    lab.send("p1", exactly.clone());
    lab.expect([to("ip0@192.0.2.2", exactly.between(INSIDE).ttl(63))]);
    let longer = eth(TO_ROUTER).ips(TO_THERE).udp(1481 - 28);
    lab.send("p1", longer.clone());
    let told = |port| [generated(1), dropped(port, DropReason::MtuTold, 1)];
    lab.expect([to("p1", longer.ttl(63).too_big(1480))].into_iter().chain(told("ip0")));
    // Who is beyond the tunnel is told through it.
    introduce(&mut lab);
    lab.set_port("p1", |port| *port = port.clone().mtu(1000));
    let back = eth(INSIDE).ips(FROM_THERE).udp(1200);
    arrive(&mut lab, C, &back);
    let answer = back.between("fe→aa").ttl(63).too_big(1000).between(INSIDE);
    lab.expect([to("ip0@192.0.2.3", answer)].into_iter().chain(told("p1")));
}

#[test]
fn a_packet_out_of_the_tunnel_goes_to_its_station() {
    let mut lab = lab();
    introduce(&mut lab);
    let packet = eth(INSIDE).ips(FROM_THERE).tos(0xb8).udp(64);
    for remote in [B, C] {
        arrive(&mut lab, remote, &packet);
        lab.expect([to("p1", packet.clone().between("fe→aa").ttl(63))]);
    }
    // One station's packets go one hop here and one there; none is learned at the tunnel.
    assert_eq!(lab.fdb("br0"), ["0 aa p1"]);
    // Congestion on the underlay is told.
    let marked = datagram_of(Protocol::Ipip, 0, &packet.clone().tos(0xba));
    lab.arrive_with(
        Protocol::Ipip,
        datapath::packet::Outer {
            tos: 3,
            ..datapath::packet::Outer::to((B.parse::<std::net::IpAddr>().unwrap(), 0).into())
        },
        &marked,
    );
    lab.run();
    lab.expect([to("p1", packet.between("fe→aa").ttl(63).tos(0xbb))]);
}

#[test]
fn an_unknown_station_is_asked_for_and_its_packets_wait() {
    for (mut lab, asks_from) in [(lab(), "0.0.0.0"), (lab_at([192, 168, 10, 1]), "192.168.10.1")] {
        let packets: Vec<_> = [1, 2].map(|n| eth(INSIDE).ips(FROM_THERE).udp(n)).into();
        arrive(&mut lab, B, &packets[0]);
        let request = arp_request("fe", asks_from, HERE);
        lab.expect([flood(["p1", "p2", "br0"], request.clone()), generated(1)]);
        arrive(&mut lab, B, &packets[1]);
        lab.expect_nothing();
        // Asked again after a second, answered then.
        assert_eq!(lab.due_in(), Some(Duration::from_secs(1)));
        lab.advance(1);
        lab.run();
        lab.expect([flood(["p1", "p2", "br0"], request), generated(1)]);
        let reply = arp_reply("aa→fe", HERE, asks_from);
        lab.send("p1", reply.clone());
        let delivered = packets.into_iter().map(|packet| packet.between("fe→aa").ttl(63));
        let taken = dropped("p1", DropReason::ArpTaken, 1);
        // An answer to the host's own address may be for the host.
        let told = if asks_from == "0.0.0.0" { taken } else { to("br0", reply) };
        lab.expect([to_each("p1", delivered), told]);
        has_nothing_to_do(&mut lab);
    }
}

#[test]
fn a_station_that_never_answers_costs_its_packets() {
    let mut lab = lab();
    lab.set_port("p2", |port| port.up = false);
    lab.set_port("br0", |port| port.up = false);
    let packet = eth(INSIDE).ips(FROM_THERE).udp(9);
    let request = || to("p1", arp_request("fe", "0.0.0.0", HERE));
    for _ in 0..10 {
        arrive(&mut lab, B, &packet);
    }
    lab.expect([request(), generated(1), dropped("ip0", DropReason::ArpQueueFull, 2)]);
    for _ in 0..2 {
        lab.advance(1);
        lab.run();
        lab.expect([request(), generated(1)]);
    }
    lab.advance(1);
    lab.run();
    lab.expect([dropped("ip0", DropReason::ArpTimeout, 8)]);
    // Nobody to ask: the request itself is what is dropped.
    lab.set_port("p1", |port| port.up = false);
    arrive(&mut lab, B, &packet);
    lab.expect([generated(1), dropped("ip0", DropReason::NoOutput, 1)]);
    // The tunnel goes while a packet waits.
    lab.remove_port("ip0");
    lab.run();
    lab.expect([dropped("ip0", DropReason::PortDown, 1)]);
    has_nothing_to_do(&mut lab);
}

/// The worker looks once more whether the answer has come, and sleeps.
#[track_caller]
fn has_nothing_to_do(lab: &mut Lab) {
    lab.advance(1);
    lab.run();
    lab.expect_nothing();
    assert_eq!(lab.due_in(), None);
}

#[test]
fn a_scan_of_addresses_that_do_not_exist_is_bounded() {
    let mut lab = Lab::new([port("p1"), ipip("ip0", B)]);
    for last in 0..300_u32 {
        let packet = eth(INSIDE).ips(&format!("{THERE}→192.168.{}.{}", 20 + last / 200, 1 + last % 200)).udp(9);
        lab.arrive_by(Protocol::Ipip, B, &datagram_of(Protocol::Ipip, 0, &packet));
    }
    lab.run();
    assert_eq!((lab.count("generated"), lab.drops(DropReason::ArpQueueFull)), (256, vec!["ip0 44".to_owned()]));
    lab.ignore();
    for _ in 0..3 {
        lab.advance(1);
        lab.run();
    }
    assert_eq!((lab.count("generated"), lab.drops(DropReason::ArpTimeout)), (3 * 256, vec!["ip0 256".to_owned()]));
    lab.ignore();
}

#[test]
fn an_address_in_use_is_confirmed_and_followed() {
    let mut lab = lab();
    introduce(&mut lab);
    let packet = eth(INSIDE).ips(FROM_THERE).udp(9);
    lab.advance(30);
    arrive(&mut lab, B, &packet);
    let request = arp_request("fe", "0.0.0.0", HERE).between("fe→aa");
    lab.expect([to_each("p1", [request, packet.clone().between("fe→aa").ttl(63)]), generated(1)]);
    arrive(&mut lab, B, &packet);
    lab.expect([to("p1", packet.clone().between("fe→aa").ttl(63))]);
    // The pod has moved to another port with another hardware address, and says so to all.
    let moved = arp_request("bb", HERE, HERE);
    lab.send("p2", moved.clone());
    lab.expect([flood(["p1", "br0"], moved)]);
    arrive(&mut lab, B, &packet);
    lab.expect([to("p2", packet.between("fe→bb").ttl(63))]);
    // Nobody can claim an address that nobody has asked for.
    lab.send("p1", arp_request("aa", "192.168.10.66", "192.168.10.67"));
    lab.ignore();
    arrive(&mut lab, B, &eth(INSIDE).ips("192.168.11.10→192.168.10.66").udp(9));
    lab.expect([flood(["p1", "p2", "br0"], arp_request("fe", "0.0.0.0", "192.168.10.66")), generated(1)]);
    lab.send("p1", arp_reply("aa→fe", "192.168.10.66", "0.0.0.0"));
    lab.ignore();
}

#[test]
fn requests_for_what_is_behind_the_tunnel_are_answered() {
    let mut lab = lab_at([192, 168, 10, 1]);
    for target in ["169.254.1.1", THERE, "192.168.12.77"] {
        lab.send("p1", arp_request("aa", HERE, target));
        let reply = arp_reply("fe→aa", target, HERE);
        lab.expect([to("p1", reply), generated(1), dropped("p1", DropReason::ArpTaken, 1)]);
    }
    let asked = |lab: &mut Lab, request: Packet| {
        lab.send("p1", request.clone());
        lab.expect([flood(["p2", "br0"], request)]);
    };
    // What is not, is for others to answer.
    for target in ["192.168.10.1", "192.168.10.11", "8.8.8.8"] {
        asked(&mut lab, arp_request("aa", HERE, target));
    }
    // Who looks whether an address is free is not told that it is taken.
    asked(&mut lab, arp_request("aa", "0.0.0.0", THERE));
    asked(&mut lab, arp_request("aa", THERE, THERE));
    // What one station asks another is not ours.
    let other = arp_request("aa", HERE, THERE).between("aa→bb");
    asked(&mut lab, other);
    let broken = eth("aa→ff").raw(0x0806, vec![0; 27]);
    asked(&mut lab, broken);
}

#[test]
fn requests_with_tags_are_answered_with_tags() {
    let mut lab = Lab::new([
        port("p1").access(10),
        port("p2").trunk([10, 20]),
        port("br0").access(20),
        ipip_by_routes("ip0", ROUTES).access(10),
    ]);
    lab.send("p2", arp_request("bb", HERE, THERE).priority(5, 10));
    let reply = arp_reply("fe→bb", THERE, HERE).priority(5, 10);
    lab.expect([to("p2", reply), generated(1), dropped("p2", DropReason::ArpTaken, 1)]);
    // In another VLAN there is no tunnel, nor below a customer's tag.
    let elsewhere = arp_request("bb", HERE, THERE);
    lab.send("p2", elsewhere.clone().vlan(20));
    lab.expect([to("br0", elsewhere)]);
    // Packets go in without their tag, and come out with it where it belongs.
    let out = eth("bb→fe").ips(TO_THERE).udp(9);
    lab.send("p2", out.clone().priority(5, 10));
    lab.expect([to("ip0@192.0.2.2", out.between(INSIDE).ttl(63))]);
    let back = eth(INSIDE).ips(FROM_THERE).udp(9);
    arrive(&mut lab, B, &back);
    lab.expect([to("p2", back.between("fe→bb").ttl(63).vlan(10))]);
    arrive(&mut lab, B, &eth(INSIDE).ips("192.168.11.10→192.168.10.99").udp(9));
    let request = arp_request("fe", "0.0.0.0", "192.168.10.99");
    lab.expect([to("p1", request.clone()), to("p2", request.vlan(10)), copied(1), generated(1)]);
    // The host is in another VLAN.
    lab.send("p1", eth(TO_ROUTER).ips("192.168.10.10→8.8.8.8").udp(9));
    lab.expect([dropped("p1", DropReason::NoRoute, 1)]);
    lab.advance(3);
    lab.run();
    lab.ignore();
}

#[test]
fn the_host_takes_part_by_its_own_port() {
    let mut lab = lab_at([192, 168, 10, 1]);
    // It asks for what it has a route to by its port, and is answered with its own hardware address.
    lab.send("br0", arp_request("fe", "192.168.10.1", THERE));
    lab.expect([
        to("br0", arp_reply("fe→fe", THERE, "192.168.10.1")),
        generated(1),
        dropped("br0", DropReason::ArpTaken, 1),
    ]);
    let out = eth("fe→fe").ips("192.168.10.1→192.168.11.10").udp(9);
    lab.send("br0", out.clone());
    lab.expect([to("ip0@192.0.2.2", out.between(INSIDE).ttl(63))]);
    // To itself no hop is taken.
    let back = eth(INSIDE).ips("192.168.11.10→192.168.10.1").ttl(1).udp(9);
    arrive(&mut lab, B, &back);
    lab.expect([to("br0", back.between("fe→fe"))]);
}

#[test]
fn one_tunnel_leads_into_another_and_to_other_ends_but_not_back() {
    let mut lab = lab();
    lab.add_port(ipip_by_routes("ip1", [("172.16.0.0/12", "192.0.2.4")]));
    for (destination, end) in [("172.16.0.9", "ip1@192.0.2.4"), ("192.168.12.9", "ip0@192.0.2.3")] {
        let packet = eth(INSIDE).ips(&format!("{THERE}→{destination}")).udp(9);
        arrive(&mut lab, B, &packet);
        lab.expect([to(end, packet.between(INSIDE).ttl(63))]);
    }
    // What came from the end that it is for is looked for on the bridge.
    arrive(&mut lab, B, &eth(INSIDE).ips("192.168.11.9→192.168.11.10").udp(9));
    lab.expect([flood(["p1", "p2", "br0"], arp_request("fe", "0.0.0.0", THERE)), generated(1)]);
    lab.advance(3);
    lab.run();
    lab.ignore();
}

#[test]
fn who_is_no_remote_end_and_what_is_no_packet_is_refused() {
    let mut lab = lab();
    introduce(&mut lab);
    let packet = datagram_of(Protocol::Ipip, 0, &eth(INSIDE).ips(FROM_THERE).udp(9));
    lab.lose_by(Protocol::Ipip, "192.0.2.99", &packet);
    lab.expect([lost(DropReason::UnknownVni, 1)]);
    let six = datagram_of(Protocol::Ipip, 0, &eth("aa→bb").v6().udp(9));
    let multicast = datagram_of(Protocol::Ipip, 0, &eth(INSIDE).ips("192.168.11.10→224.0.0.5").udp(9));
    for (bytes, reason) in [
        (&packet[..19], DropReason::TunnelMalformed),
        (&packet[..packet.len() - 1], DropReason::TunnelMalformed),
        (&six, DropReason::TunnelPayload),
        (&multicast, DropReason::TunnelPayload),
    ] {
        lab.lose_by(Protocol::Ipip, B, bytes);
        lab.expect([lost(reason, 1)]);
    }
}

#[test]
fn fragments_pass_as_packets_of_their_own() {
    let mut lab = lab();
    introduce(&mut lab);
    for (at, value) in [(20, 0x20), (21, 0x09)] {
        // More fragments follow; or a later one, whose header says so.
        let packet = eth(TO_ROUTER).ips(TO_THERE).udp(64);
        let change = |mut frame: datapath::packet::Frame| {
            frame.bytes_mut()[at] = value;
            datapath::wire::ipv4::fill_checksum(&mut frame.bytes_mut()[14..34]);
            frame
        };
        let expected = change(packet.clone().between(INSIDE).ttl(63).frame());
        lab.inject("p1", change(packet.frame()));
        lab.run();
        let out = lab.ignore();
        assert_eq!((out.len(), out[0].0), (1, "ip0@192.0.2.2"));
        assert_eq!(out[0].1.bytes(), expected.bytes());
        let back = change(eth(INSIDE).ips(FROM_THERE).udp(64).frame());
        lab.arrive_by(Protocol::Ipip, B, &back.bytes()[14..]);
        lab.run();
        let out = lab.ignore();
        let expected = change(eth("fe→aa").ips(FROM_THERE).ttl(63).udp(64).frame());
        assert_eq!((out.len(), out[0].0, out[0].1.bytes()), (1, "p1", expected.bytes()));
    }
}

#[test]
fn two_hosts_talk_through_the_tunnel() {
    let here = lab();
    let mut here = here;
    let mut there = Lab::at(B, [port("p2"), port("br0"), ipip_by_routes("ip0", [("192.168.10.0/24", A)])]);
    introduce(&mut here);
    there.send("p2", arp_request("bb", THERE, "169.254.1.1"));
    there.ignore();
    let request = eth(TO_ROUTER).ips(TO_THERE).tcp(40_000).super_frame(1400);
    here.send("p1", request.clone());
    let inside = request.clone().between(INSIDE).ttl(63).segments();
    here.expect([to_each("ip0@192.0.2.2", inside.clone()), split(inside.len() as u64 - 1)]);
    here.carry_to(&mut there);
    there.expect([to("p2", request.between("fe→bb").ttl(62)), merged(inside.len() as u64 - 1)]);
    let answer = eth("bb→fe").ips(FROM_THERE).udp(64);
    there.send("p2", answer.clone());
    there.expect([to("ip0@192.0.2.1", answer.clone().between(INSIDE).ttl(63))]);
    there.carry_to(&mut here);
    here.expect([to("p1", answer.between("fe→aa").ttl(62))]);
}

#[test]
fn a_bridge_that_is_secure_and_a_tunnel_that_is_down_ask_for_nobody() {
    let mut lab = lab();
    lab.set_bridge("br0", |bridge| bridge.secure = true);
    let packet = eth(INSIDE).ips(FROM_THERE).udp(9);
    arrive(&mut lab, B, &packet);
    lab.expect([dropped("ip0", DropReason::BridgeSecure, 1)]);
    lab.set_bridge("br0", |bridge| bridge.secure = false);
    lab.set_port("ip0", |port| port.up = false);
    arrive(&mut lab, B, &packet);
    lab.expect([dropped("ip0", DropReason::PortDown, 1)]);
    lab.send("p1", eth(TO_ROUTER).ips(TO_THERE).udp(9));
    lab.expect([dropped("p1", DropReason::NoRoute, 1)]);
}

#[test]
fn protected_ports_do_not_reach_each_other_by_the_router() {
    let mut lab = lab();
    for port in ["p1", "ip0"] {
        lab.set_port(port, |port| *port = port.clone().protected());
    }
    lab.send("p1", eth(TO_ROUTER).ips(TO_THERE).udp(9));
    lab.expect([dropped("p1", DropReason::Protected, 1)]);
}

#[test]
fn mirrors_see_packets_as_frames_and_do_not_flood_into_the_tunnel() {
    let mut lab = Lab::new([port("p1"), port("mon"), ipip_by_routes("ip0", ROUTES)]);
    introduce(&mut lab);
    lab.set_bridge("br0", |bridge| bridge.mirrors = vec![mirror("m", "mon").of("ip0")]);
    let out = eth(TO_ROUTER).ips(TO_THERE).udp(9);
    lab.send("p1", out.clone());
    lab.expect([to("ip0@192.0.2.2", out.clone().between(INSIDE).ttl(63)), copy_to("m", "mon", out.clone().ttl(63))]);
    let back = eth(INSIDE).ips(FROM_THERE).udp(9);
    arrive(&mut lab, B, &back);
    let shown = back.between("fe→aa").ttl(63);
    lab.expect([to("p1", shown.clone()), copy_to("m", "mon", shown)]);
    // Copies in the tunnel's own VLAN do not get into it.
    lab.set_bridge("br0", |bridge| bridge.mirrors = vec![mirror_to_vlan("v", 0).of("p1").vlan(10)]);
    lab.set_port("mon", |port| *port = port.clone().access(10));
    let tagged = eth("aa→bb").udp(9);
    lab.send("p1", tagged.clone().vlan(10));
    lab.expect([to("mon", tagged.clone()), copy_to("v", "p1", tagged)]);
}
