//! Several workers: what one learns, the others know; what one makes wrong, the others forget; what waits is let go by
//! the first. Ports are received from by workers in turn.

use std::time::Duration;
use vswitch_tests::lab::*;

/// Three ports, each of another worker's.
fn lab() -> Lab {
    Lab::with_workers(3, "192.0.2.1", [port("p1"), port("p2"), port("p3")])
}

#[test]
fn a_station_that_one_has_heard_the_others_know() {
    let mut lab = lab();
    lab.send("p1", eth("aa→bb").udp(64));
    lab.expect([flood(["p2", "p3"], eth("aa→bb").udp(64))]);
    for from in ["p2", "p3"] {
        lab.send(from, eth("bb→aa").udp(64));
        lab.expect([to("p1", eth("bb→aa").udp(64))]);
    }
    assert_eq!(lab.fdb("br0"), ["0 aa p1", "0 bb p3"]);
    let stats = TableStats { entries: 2, learned: 2, moves: 1, ..TableStats::default() };
    assert_eq!(lab.table_stats("br0"), stats);
}

#[test]
fn a_station_that_moves_to_another_workers_port_is_followed_at_once() {
    let mut lab = lab();
    let there = || eth("aa→bb").udp(64);
    lab.send("p2", eth("bb→aa").udp(64));
    lab.ignore();
    // Stored as a flow of the first worker.
    for _ in 0..2 {
        lab.send("p1", there());
        lab.expect([to("p2", there())]);
    }
    lab.send("p3", eth("bb→aa").udp(64));
    lab.expect([to("p1", eth("bb→aa").udp(64))]);
    lab.send("p1", there());
    lab.expect([to("p3", there())]);
    // And where it has expired, it is unknown to all.
    lab.advance(301);
    lab.send("p1", there());
    lab.expect([flood(["p2", "p3"], there())]);
}

#[test]
fn a_port_that_goes_is_forgotten_by_all() {
    let mut lab = lab();
    lab.send("p3", eth("cc→bb").udp(64));
    lab.ignore();
    for from in ["p1", "p2"] {
        lab.send(from, eth("bb→cc").udp(64));
        lab.expect([to("p3", eth("bb→cc").udp(64))]);
    }
    lab.set_port("p3", |port| port.up = false);
    for (from, other) in [("p1", "p2"), ("p2", "p1")] {
        lab.send(from, eth("bb→cc").udp(64));
        lab.expect([to(other, eth("bb→cc").udp(64))]);
    }
    lab.remove_port("p3");
    lab.send("p1", eth("aa→cc").udp(64));
    lab.expect([to("p2", eth("aa→cc").udp(64))]);
}

#[test]
fn frames_of_several_workers_share_a_rate_limit() {
    let limit = Limit { bits: Some(Tokens { rate: 8_000_000, burst: 16_000 }), packets: None, queue: 3000 };
    let spec = port("p3").egress(limit);
    let mut lab = Lab::with_workers(2, "192.0.2.1", [port("p1"), port("p2"), spec]);
    let packet = |from: &str, flow| eth(&format!("{from}→cc")).udp(958).flow(flow);
    lab.send("p3", eth("cc→aa").udp(64));
    lab.ignore();
    // Two pass, three wait, one is too many; whose they are makes no difference.
    for (flow, (port, from)) in (0..).zip([("p1", "aa"), ("p2", "bb")].into_iter().cycle().take(6)) {
        lab.send(port, packet(from, flow));
        match flow {
            0 | 1 => lab.expect([to("p3", packet(from, flow))]),
            2..5 => lab.expect_nothing(),
            _ => lab.expect([dropped("p3", DropReason::EgressRate, 1)]),
        }
    }
    // The first worker lets them go, in order.
    for (flow, from) in [(2, "aa"), (3, "bb"), (4, "aa")] {
        assert_eq!(lab.due_in(), Some(Duration::from_millis(1)));
        lab.advance_by(Duration::from_millis(1));
        lab.run();
        lab.expect([to("p3", packet(from, flow))]);
    }
    assert_eq!(lab.due_in(), None);
    // What waits for a port that goes is counted once.
    lab.send_all("p2", (0..3).map(|flow| packet("bb", flow)));
    lab.expect_nothing();
    lab.remove_port("p3");
    lab.run();
    lab.expect([dropped("p3", DropReason::PortDown, 3)]);
}

#[test]
fn an_answer_to_arp_may_reach_another_worker_than_the_one_that_asked() {
    const HERE: &str = "192.168.10.10";
    // The tunnel is the second worker's, p1 the first one's.
    let routes = [("192.168.11.0/24", "192.0.2.2")];
    let mut lab = Lab::with_workers(2, "192.0.2.1", [port("p1"), port("br0"), ipip_by_routes("ip0", routes)]);
    let inside = "00:00:00:00:00:00→00:00:00:00:00:00";
    let packet = |flow| eth(inside).ips(&format!("192.168.11.10→{HERE}")).udp(64).flow(flow);
    let request = arp_request("fe", "0.0.0.0", HERE);
    for flow in 0..2 {
        lab.arrive_by(Protocol::Ipip, "192.0.2.2", &datagram_of(Protocol::Ipip, 0, &packet(flow)));
    }
    lab.run();
    let generated = || Expect::Count("generated".to_owned(), 1);
    lab.expect([flood(["p1", "br0"], request.clone()), generated()]);
    // Nobody answers at first: the first worker asks again.
    assert_eq!(lab.due_in(), Some(Duration::from_secs(1)));
    lab.advance(1);
    lab.run();
    lab.expect([flood(["p1", "br0"], request), generated()]);
    lab.send("p1", arp_reply("aa→fe", HERE, "0.0.0.0"));
    let delivered = (0..2).map(|flow| packet(flow).between("fe→aa").ttl(63));
    lab.expect([to_each("p1", delivered), dropped("p1", DropReason::ArpTaken, 1)]);
}

#[test]
fn copies_of_several_workers_reach_the_output_of_a_mirror() {
    let mut lab = Lab::with_workers(3, "192.0.2.1", [port("p1"), port("p2"), port("mon")]);
    lab.set_bridge("br0", |b| b.mirrors = vec![mirror("m", "mon").arriving("p1").arriving("p2")]);
    for (from, other, packet) in [("p1", "p2", eth("aa→bb").udp(64)), ("p2", "p1", eth("bb→aa").udp(64))] {
        let bytes = packet.frame().len() as u64;
        lab.send(from, packet.clone());
        let counts = [("copied", 1), ("m.copies", 1), ("m.copy_bytes", bytes)];
        let counts = Expect::All(counts.map(|(name, n)| Expect::Count(name.to_owned(), n)).into());
        lab.expect([to(other, packet.clone()), to("mon", packet), counts]);
    }
}

#[test]
fn a_patch_leads_from_one_workers_bridge_to_anothers() {
    let ends = [patch("a", "b").on("br0"), patch("b", "a").on("br1")];
    let [a, b] = ends;
    let mut lab = Lab::with_workers(2, "192.0.2.1", [port("p1").on("br0"), port("p2").on("br1"), a, b]);
    for (from, other, packet) in [("p1", "p2", eth("aa→bb").udp(64)), ("p2", "p1", eth("bb→aa").udp(64))] {
        lab.send(from, packet.clone());
        let bytes = packet.frame().len() as u64;
        let (out, into) = if from == "p1" { ("a", "b") } else { ("b", "a") };
        let counts = [("tx", out), ("rx", into)]
            .into_iter()
            .flat_map(|(way, end)| [(format!("{end}.{way}_packets"), 1), (format!("{end}.{way}_bytes"), bytes)]);
        let counts = Expect::All(counts.map(|(name, n)| Expect::Count(name, n)).collect());
        lab.expect([to(other, packet), counts]);
    }
    assert_eq!(
        (lab.fdb("br0"), lab.fdb("br1")),
        (vec!["0 aa p1".into(), "0 bb a".into()], vec!["0 aa b".into(), "0 bb p2".into()])
    );
}
