//! Unfinished checksums and super-frames: carried on where the way out can take them, finished where it cannot.

use datapath::packet::{ChecksumState, Frame, Gso, GsoKind};
use vswitch_tests::lab::*;

/// What sends unfinished frames, what takes them, and what takes none.
fn lab() -> Lab {
    let mut lab = Lab::new([port("vm"), port("able"), port("plain").caps(Caps::NONE)]);
    lab.send("able", eth("ab→ff"));
    lab.ignore();
    lab.send("plain", eth("cd→ff"));
    lab.ignore();
    lab
}

#[test]
fn unfinished_frames_pass_unchanged_between_able_ports() {
    let mut lab = lab();
    for packet in [
        eth("aa→ab").udp(100).unfinished(),
        eth("aa→ab").tcp(100).v6().unfinished(),
        eth("aa→ab").tcp(64_000).super_frame(1448),
        eth("aa→ab").tcp(64_000).v6().super_frame(1428),
        eth("aa→ab").udp(60_000).super_frame(1200),
    ] {
        lab.send("vm", packet.clone());
        lab.expect([to("able", packet)]);
    }
}

#[test]
fn a_checksum_is_finished_for_a_port_that_cannot() {
    let mut lab = lab();
    for finished in [
        eth("aa→cd").udp(100),
        eth("aa→cd").udp(101).v6(),
        eth("aa→cd").tcp(333),
        eth("aa→cd").tcp(0).v6(),
        eth("aa→cd").vlan(7).tcp(10),
    ] {
        lab.send("plain", eth("cd→aa").vlan(7));
        lab.ignore();
        lab.send("vm", finished.clone().unfinished());
        lab.expect([to("plain", finished)]);
    }
}

#[test]
fn a_super_frame_is_cut_for_a_port_that_cannot() {
    let mut lab = lab();
    for packet in [
        eth("aa→cd").tcp(64_000).super_frame(1448),
        eth("aa→cd").tcp(2 * 1448).super_frame(1448),
        eth("aa→cd").tcp(30_001).v6().super_frame(1428),
        eth("aa→cd").udp(60_000).super_frame(1200),
        eth("aa→cd").udp(5000).v6().super_frame(999),
    ] {
        lab.send("vm", packet.clone());
        lab.expect([split(packet.segment_count() as u64 - 1), to_each("plain", packet.segments())]);
    }
}

#[test]
fn a_device_that_cuts_is_given_super_frames_and_they_count_as_their_segments() {
    let cuts = Caps { partial_csum: true, cuts: true, ..Caps::NONE };
    let mut lab = Lab::new([port("vm"), port("xdp").caps(cuts)]);
    for packet in [
        eth("aa→ff").tcp(64_000).super_frame(1448),
        eth("aa→ff").tcp(30_001).v6().vlan(7).super_frame(1428),
        eth("aa→ff").udp(60_000).super_frame(1200),
    ] {
        lab.send("vm", packet.clone());
        lab.expect([to_each("xdp", packet.segments()), split(packet.segment_count() as u64 - 1)]);
    }
    assert_eq!(lab.count("xdp.tx_packets"), 45 + 22 + 50);
    let bytes = |payload: u64, segments: u64, headers: u64| payload + segments * headers;
    assert_eq!(lab.count("xdp.tx_bytes"), bytes(64_000, 45, 66) + bytes(30_001, 22, 90) + bytes(60_000, 50, 42));
    let packet = eth("aa→ff").tcp(64_000).super_frame(1448);
    lab.refuse("xdp", DropReason::TxQueueFull);
    lab.send("vm", packet);
    lab.expect([split(44), dropped("xdp", DropReason::TxQueueFull, 45)]);
}

/// What comes in as it does by AF_XDP, where a pod's super-frames are cut and its checksums are left to the device.
fn one_by_one(whole: &Packet) -> Vec<Packet> {
    whole.segments().into_iter().map(Packet::unfinished).collect()
}

#[test]
fn segments_that_follow_each_other_go_as_one_where_that_is_taken() {
    for whole in
        [eth("aa→ab").tcp(31 * 1448 + 9).super_frame(1448), eth("aa→ab").vlan(7).tcp(30_001).v6().super_frame(1428)]
    {
        let mut lab = lab();
        lab.send("able", eth("ab→ff").vlan(7));
        lab.ignore();
        let n = whole.segment_count() as u64;
        lab.send_all("vm", one_by_one(&whole));
        lab.expect([to("able", whole.clone()), merged(n - 1)]);
        // Whose checksums are finished, too, but for one that is wrong.
        lab.send_all("vm", whole.segments());
        lab.expect([to("able", whole.clone()), merged(n - 1)]);
        let mut frames: Vec<_> = whole.segments().iter().map(Packet::frame).collect();
        frames[2].bytes_mut()[100] ^= 1;
        frames.into_iter().for_each(|frame| lab.inject("vm", frame));
        lab.run();
        let left: Vec<_> = lab.ignore().into_iter().map(|(_, frame)| frame.meta.gso.is_some()).collect();
        assert_eq!(left, [true, false, true]);
    }
}

#[test]
fn segments_stay_as_they_are_where_super_frames_would_be_cut() {
    let cuts = Caps { partial_csum: true, cuts: true, ..Caps::NONE };
    for caps in [Caps::NONE, Caps { partial_csum: true, ..Caps::NONE }, cuts] {
        let mut lab = Lab::new([port("vm"), port("out").caps(caps)]);
        let whole = eth("aa→ff").tcp(9000).super_frame(1448);
        lab.send_all("vm", whole.segments());
        lab.expect([to_each("out", whole.segments())]);
    }
}

#[test]
fn nothing_overtakes_what_waits_for_its_next_segment() {
    let mut lab = lab();
    let whole = eth("aa→ab").tcp(10 * 1448).super_frame(1448);
    let [ack, ping, other] = [eth("aa→ab").tcp(0), eth("aa→ab").udp(1000), eth("ac→ab").tcp(1448).flow(9)];
    let mut sent = one_by_one(&whole);
    sent.insert(7, other.clone());
    sent.insert(4, ping.clone());
    sent.insert(2, ack.clone());
    lab.send_all("vm", sent);
    lab.expect([
        to_each("able", [whole.cut(0..2), ack, whole.cut(2..4), ping, whole.cut(4..7), other, whole.cut(7..10)]),
        merged(6),
    ]);
}

#[test]
fn segments_for_two_ports_are_merged_for_each() {
    let mut lab = Lab::new([port("in"), port("p1").access(1), port("p2").access(2)]);
    lab.send("p1", eth("ab→ff"));
    lab.send("p2", eth("ac→ff"));
    lab.ignore();
    let [one, two] = ["aa→ab", "aa→ac"].map(|to| eth(to).tcp(7000).super_frame(1000));
    let mixed = one_by_one(&one).into_iter().zip(one_by_one(&two)).flat_map(|(a, b)| [a.vlan(1), b.vlan(2)]);
    lab.send_all("in", mixed);
    lab.expect([to("p1", one), to("p2", two), merged(12)]);
}

#[test]
fn a_mirror_shows_segments_and_not_what_they_are_merged_into() {
    let mut lab = lab();
    lab.add_port(port("mon"));
    lab.set_bridge("br0", |b| b.mirrors = vec![mirror("m", "mon").all()]);
    lab.send("able", eth("ab→ff"));
    lab.ignore();
    let whole = eth("aa→ab").tcp(9000).super_frame(1000);
    lab.send_all("vm", one_by_one(&whole));
    let segments = whole.segments();
    let copies = segments.iter().map(|segment| copied_for("m", segment)).collect();
    lab.expect([to("able", whole), to_each("mon", segments), Expect::All(copies), merged(8)]);
}

#[test]
fn each_ability_counts_by_itself() {
    let ports = [
        port("vm"),
        port("csum").caps(Caps { partial_csum: true, ..Caps::NONE }),
        port("tso").caps(Caps { partial_csum: true, tso: true, ..Caps::NONE }),
    ];
    let mut lab = Lab::new(ports);
    let (tcp, udp) = (eth("aa→ff").tcp(3000).super_frame(1000), eth("aa→ff").udp(3000).super_frame(1000));
    lab.send("vm", tcp.clone());
    lab.expect([to_each("csum", tcp.segments()), to("tso", tcp), split(2), copied(1)]);
    lab.send("vm", udp.clone());
    lab.expect([to_each("csum", udp.segments()), to_each("tso", udp.segments()), split(4), copied(1)]);
    let one = eth("aa→ff").udp(100).unfinished();
    lab.send("vm", one.clone());
    lab.expect([flood(["csum", "tso"], one)]);
}

#[test]
fn a_tag_that_comes_or_goes_moves_what_is_unfinished() {
    let ports = [port("a1").access(10), port("t1"), port("a2").access(10), port("plain").caps(Caps::NONE)];
    let mut lab = Lab::new(ports);
    let packet = || eth("aa→ff").tcp(4000).super_frame(1448);
    lab.send("a1", packet());
    lab.expect([
        to("t1", packet().vlan(10)),
        to("a2", packet()),
        to_each("plain", packet().vlan(10).segments()),
        copied(2),
        split(2),
    ]);
    lab.send("t1", packet().vlan(10));
    lab.expect([
        to("a1", packet()),
        to("a2", packet()),
        to_each("plain", packet().vlan(10).segments()),
        copied(2),
        split(2),
    ]);
}

/// A frame whose metadata promise what its bytes do not hold.
fn liar(packet: &Packet, csum: ChecksumState, gso: Option<Gso>) -> Frame {
    let mut frame = packet.frame();
    (frame.meta.csum, frame.meta.gso) = (csum, gso);
    frame
}

#[test]
fn a_frame_that_cannot_be_finished_is_counted_where_it_cannot_leave() {
    let mut lab = lab();
    let raw = eth("aa→cd").raw(0x88b5, vec![1; 3000]);
    let gso = Gso { kind: GsoKind::TcpV4, size: 1000, header_len: 54, ecn: false };
    let partial = ChecksumState::Partial { start: 34, offset: 16 };
    lab.inject("vm", liar(&raw, partial, Some(gso)));
    lab.run();
    lab.expect([dropped("plain", DropReason::Unsegmentable, 1)]);
    lab.inject("vm", liar(&raw, ChecksumState::Partial { start: 3020, offset: 16 }, None));
    lab.run();
    lab.expect([dropped("plain", DropReason::Malformed, 1)]);
}

#[test]
fn the_lab_itself_tells_a_wrong_segment_from_a_right_one() {
    let whole = eth("aa→bb").tcp(2896).super_frame(1448);
    let [first, last] = whole.segments().try_into().expect("two");
    let read = |p: &Packet| {
        let frame = p.frame();
        let packet = etherparse::SlicedPacket::from_ethernet(frame.bytes()).expect("a packet");
        let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net else { panic!("IPv4") };
        let Some(etherparse::TransportSlice::Tcp(tcp)) = packet.transport else { panic!("TCP") };
        let good = tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination());
        assert_eq!(good, Ok(tcp.checksum()));
        (ip.header().identification(), tcp.sequence_number(), tcp.psh(), tcp.payload().len())
    };
    assert_eq!(read(&first), (100, 1_000_000, false, 1448));
    assert_eq!(read(&last), (101, 1_001_448, true, 1448));
}
