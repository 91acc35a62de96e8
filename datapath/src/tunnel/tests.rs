//! Encapsulation and decapsulation held against each other and against bytes.

use super::*;
use crate::packet::{ChecksumState, Meta, Pool};
use crate::types::PortId;
use crate::wire::fixtures::{Packet, verified};
use crate::wire::udp;
use proptest::prelude::*;

mod batches;

/// Those that carry Ethernet frames.
const ALL: [Protocol; 3] = [Protocol::Vxlan, Protocol::Geneve, Protocol::Gre];

fn of(protocol: Protocol) -> Tunnel {
    Tunnel::new(protocol, (([192, 0, 2, 2]), protocol.udp_port().unwrap_or(0)).into(), TunnelKey(5000))
}

fn tunnel() -> Tunnel {
    of(Protocol::Vxlan)
}

/// The header of every frame of the tunnel, byte for byte; GRE with a checksum excepted.
fn header(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Vxlan => &[8, 0, 0, 0, 0, 0x13, 0x88, 0],
        Protocol::Geneve => &[0, 0, 0x65, 0x58, 0, 0x13, 0x88, 0],
        Protocol::Gre => &[0x20, 0, 0x65, 0x58, 0, 0, 0x13, 0x88],
        Protocol::Ipip => &[],
    }
}

fn encapped_by(tunnel: &Tunnel, frame: Frame) -> Result<(Encapped, Vec<Frame>), DropReason> {
    let (mut pool, mut out) = (Pool::new(4), Vec::new());
    match encap(frame, tunnel, &mut pool, &mut out) {
        Ok(encapped) => Ok((encapped, out)),
        Err((_, reason)) => Err(reason),
    }
}

fn encapped(frame: Frame) -> Result<(Encapped, Vec<Frame>), DropReason> {
    encapped_by(&tunnel(), frame)
}

/// The datagrams of a run, without their headers.
fn datagrams_of<'a>(run: &'a Frame, header: &[u8]) -> Vec<&'a [u8]> {
    let size = run.meta.outer.unwrap().segment.map_or(run.len(), usize::from);
    run.bytes().chunks(size).map(|datagram| datagram.strip_prefix(header).unwrap()).collect()
}

fn datagrams(run: &Frame) -> Vec<&[u8]> {
    datagrams_of(run, header(Protocol::Vxlan))
}

/// A datagram of VNI 5000.
fn datagram(packet: &Packet) -> Vec<u8> {
    [header(Protocol::Vxlan), &packet.bytes()].concat()
}

/// What a UDP socket delivers for these datagrams.
fn run(datagrams: &[&[u8]]) -> Frame {
    let mut run = Frame::from_bytes(&datagrams.concat());
    run.meta.outer = Some(Outer { segment: u16::try_from(datagrams[0].len()).ok(), ..Outer::to(tunnel().remote) });
    run
}

/// The segment after `packet` in its flow.
fn following(packet: &Packet) -> Packet {
    let mut next = packet.clone();
    let len = packet.payload.len() as u32;
    next.tcp().sequence_number = next.tcp().sequence_number.wrapping_add(len);
    next
}

/// A frame that came out of a tunnel, and what it came in.
#[derive(Debug)]
struct Came {
    key: TunnelKey,
    outer: Outer,
    frame: Frame,
    frames: u32,
}

impl From<Inner> for Came {
    fn from(Inner { key, frames, mut frame }: Inner) -> Self {
        let outer = frame.meta.outer.take().expect("a sender");
        Self { key, outer, frame, frames }
    }
}

/// The frames in a batch of runs, and why datagrams of it were refused.
fn batch_decapped_by(protocol: Protocol, batch: impl IntoIterator<Item = Frame>) -> (Vec<Came>, Vec<DropReason>) {
    let (mut pool, mut out, mut refused) = (Pool::new(4), Vec::new(), Vec::new());
    let mut decap = Decap::new(protocol);
    for run in batch {
        decap.take(run, &mut pool, &mut out, |reason| refused.push(reason));
    }
    decap.finish(&mut out);
    (out.into_iter().map(Came::from).collect(), refused)
}

/// The frames in a run, and why datagrams of it were refused.
fn decapped_by(protocol: Protocol, run: Frame) -> (Vec<Came>, Vec<DropReason>) {
    batch_decapped_by(protocol, [run])
}

fn decapped(run: Frame) -> (Vec<Came>, usize) {
    let (inner, refused) = decapped_by(Protocol::Vxlan, run);
    assert!(refused.iter().all(|&reason| reason == DropReason::TunnelMalformed), "{refused:?}");
    (inner, refused.len())
}

#[test]
fn the_length_that_is_told_is_the_length_that_is_written() {
    for protocol in ALL {
        for (out_key, checksum) in [(0, false), (0, true), (7, false), (7, true)] {
            let tunnel = Tunnel { out_key: TunnelKey(out_key), checksum, ..of(protocol) };
            let mut datagram = [0; 40];
            tunnel.write_header(&mut datagram);
            let read = TunnelHeader { key: tunnel.out_key, len: tunnel.header_len() };
            assert_eq!(protocol.parse(&datagram), Ok(read), "{tunnel:?}");
        }
    }
}

fn outer_of(tunnel: &Tunnel, mut frame: Frame) -> Outer {
    tunnel.set_outer(&mut frame, tunnel.remote.ip());
    frame.meta.outer.unwrap()
}

#[test]
fn the_outer_header_is_as_asked_for_and_tells_of_congestion() {
    let outer = |tunnel: &Tunnel, tos: u8, ttl: u8| {
        let (mut four, mut six) = (Packet::tcp4(1).frame(), Packet::tcp6(1).frame());
        (four.bytes_mut()[15], four.bytes_mut()[22]) = (tos, ttl);
        (six.bytes_mut()[14], six.bytes_mut()[15], six.bytes_mut()[21]) = (0x60 | tos >> 4, tos << 4, ttl);
        let [of_four, of_six] = [four, six].map(|frame| outer_of(tunnel, frame));
        assert_eq!((of_four.tos, of_four.ttl), (of_six.tos, of_six.ttl));
        (of_four.tos, of_four.ttl)
    };
    let plain = tunnel();
    assert_eq!(outer(&plain, 0xb8, 9), (0, 64), "neither is the inner packet's unless asked for");
    assert_eq!(outer(&plain, 0xb9, 9), (1, 64), "but ECN is");
    let fixed = Tunnel { tos: Field::Fixed(0x20), ttl: Field::Fixed(3), ..plain.clone() };
    assert_eq!(outer(&fixed, 0xbb, 9), (0x23, 3));
    let inherit = Tunnel { tos: Field::Inherit, ttl: Field::Inherit, ..plain };
    assert_eq!(outer(&inherit, 0xba, 9), (0xba, 9));
    assert_eq!(outer(&inherit, 0, 0), (0, 1));
    let other = outer_of(&inherit, Frame::from_bytes(&[0x88; 60]));
    assert_eq!((other.tos, other.ttl), (0, 64), "what is no IP packet has none");
}

#[test]
fn a_super_frame_travels_as_runs_and_comes_out_as_it_went_in() {
    for packet in [Packet::tcp4(40_001), Packet::tcp6(40_001).tagged(7)] {
        let (encapped, runs) = encapped(packet.super_frame(1300)).unwrap();
        assert_eq!(encapped, Encapped { segments: 31, runs: 1 });
        assert_eq!(datagrams(&runs[0]).len(), 31);
        runs.iter().flat_map(datagrams).for_each(|segment| drop(verified(segment)));
        let (inner, refused) = batch_decapped_by(Protocol::Vxlan, runs);
        let [inner] = <[Came; 1]>::try_from(inner).unwrap();
        assert_eq!((inner.key.0, inner.frames, refused), (5000, 31, vec![]));
        let sent = packet.super_frame(1300);
        assert_eq!(inner.frame.bytes(), sent.bytes());
        assert_eq!(inner.frame.meta, sent.meta);
    }
}

#[test]
fn an_arp_request_as_it_is_on_the_underlay() {
    let mut arp = vec![0xff; 6];
    arp.extend_from_slice(&[2, 0, 0, 0, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 1]);
    arp.extend_from_slice(&[0, 0, 0, 0, 0, 0, 10, 0, 0, 2]);
    let mut frame = Frame::from_bytes(&arp);
    frame.meta.egress = PortId(3);
    let before = frame.bytes().as_ptr();
    let (encapped, out) = encapped(frame).unwrap();
    assert_eq!(encapped, Encapped { segments: 1, runs: 1 });
    assert_eq!(out[0].bytes(), [&[8, 0, 0, 0, 0, 0x13, 0x88, 0][..], &arp].concat());
    assert_eq!(out[0].bytes()[8..].as_ptr(), before, "nothing was copied");
    let outer = out[0].meta.outer.unwrap();
    assert_eq!((outer.remote, outer.remote_port), (tunnel().remote.ip(), 4789));
    assert_eq!((outer.local, outer.segment), (None, None));
    assert_eq!(out[0].meta, Meta { egress: PortId(3), outer: Some(outer), ..Meta::default() });
}

#[test]
fn a_super_frame_is_cut_as_it_says_and_everything_else_stays_whole() {
    let payloads = |frame: Frame| -> Result<Vec<usize>, DropReason> {
        let (_, runs) = encapped(frame)?;
        Ok(runs.iter().flat_map(datagrams).map(|segment| verified(segment).payload.len()).collect())
    };
    assert_eq!(payloads(Packet::tcp4(1448).frame()), Ok(vec![1448]));
    assert_eq!(payloads(Packet::tcp4(1000).super_frame(1448)), Ok(vec![1000]));
    assert_eq!(payloads(Packet::tcp4(2500).udp().super_frame(1000)), Ok(vec![1000, 1000, 500]));
    assert_eq!(payloads(Packet::tcp4(1422).udp().partial()), Ok(vec![1422]));
    let mut syn = Packet::tcp4(1448);
    syn.tcp().syn = true;
    assert_eq!(payloads(syn.super_frame(1000)), Err(DropReason::Unsegmentable));
    assert_eq!(payloads(Packet::tcp4(65_480).udp().partial()), Err(DropReason::MtuExceeded), "more than a datagram");
}

#[test]
fn no_run_is_larger_than_one_send_takes() {
    // The 64 KiB super-frame that Linux makes: 45 segments, of which 43 fit one send.
    let packet = Packet::tcp4(45 * 1448);
    let (of_64k, runs) = encapped(packet.super_frame(1448)).unwrap();
    assert_eq!(of_64k, Encapped { segments: 45, runs: 2 });
    assert_eq!(runs.iter().map(|run| datagrams(run).len()).collect::<Vec<_>>(), [43, 2]);
    let payload: Vec<u8> = runs.iter().flat_map(datagrams).flat_map(|segment| verified(segment).payload).collect();
    assert_eq!(payload, packet.payload);
    // Small segments: 64 to a run; the single one that is left is no run.
    let (of_small, runs) = encapped(Packet::tcp4(129 * 100).super_frame(100)).unwrap();
    assert_eq!(of_small, Encapped { segments: 129, runs: 3 });
    assert_eq!(runs.iter().map(|run| datagrams(run).len()).collect::<Vec<_>>(), [64, 64, 1]);
    let sizes: Vec<_> = runs.iter().map(|run| run.meta.outer.unwrap().segment).collect();
    assert_eq!(sizes, [Some(174), Some(174), None]);
}

#[test]
fn all_segments_of_a_flow_leave_by_one_source_port() {
    let entropy = |frame| encapped(frame).unwrap().1[0].meta.outer.unwrap().entropy;
    let of_flow = entropy(Packet::tcp4(1).frame());
    assert_eq!(entropy(Packet::tcp4(60_000).super_frame(1448)), of_flow);
    assert_eq!(entropy(Packet::tcp4(1448).frame()), of_flow);
    assert_ne!(entropy(Packet::tcp6(1).frame()), of_flow);
}

#[test]
fn a_frame_without_headroom_is_copied_and_one_without_sense_handed_back() {
    let packet = Packet::tcp4(9).bytes();
    let mut tight = Frame::new([&[0; 7][..], &packet].concat().into_boxed_slice(), 7);
    tight.set_len(packet.len());
    let (_, out) = encapped(tight).unwrap();
    assert_eq!(datagrams(&out[0]), [packet]);
    let mut broken = Frame::from_bytes(&[0; 60]);
    broken.meta.csum = ChecksumState::Partial { start: 60, offset: 0 };
    assert_eq!(encapped(broken).unwrap_err(), DropReason::Malformed);
}

#[test]
fn what_is_no_vxlan_is_counted_and_the_rest_goes_on() {
    let good = [&[8, 0, 0, 0, 0, 0x13, 0x88, 0][..], &[7; 14]].concat();
    let no_vni = [&[0; 8][..], &[7; 14]].concat();
    let (inner, malformed) = decapped(run(&[&good, &no_vni, &good, &good[..21]]));
    assert_eq!((inner.len(), malformed), (2, 2));
    assert!(inner.iter().all(|inner| inner.frame.bytes() == [7; 14] && inner.frames == 1));
    for bad in [&[][..], &good[..7], &no_vni] {
        let (inner, malformed) = decapped(run(&[bad]));
        assert_eq!((inner.len(), malformed), (0, 1), "{bad:?}");
    }
}

#[test]
fn frames_of_two_networks_in_one_run_are_not_mixed() {
    let (first, second) = (Packet::tcp4(500), following(&Packet::tcp4(500)));
    let mut other = datagram(&second);
    other[6] = 0x89;
    let (inner, _) = decapped(run(&[&datagram(&first), &other]));
    let found: Vec<_> = inner.iter().map(|inner| (inner.key.0, inner.frames)).collect();
    assert_eq!(found, [(5000, 1), (5001, 1)]);
    assert_eq!(inner[1].frame.bytes(), second.bytes());
    assert_eq!(inner[0].frame.bytes(), first.bytes());
}

#[test]
fn several_flows_in_one_run_come_out_in_order() {
    let first = Packet::tcp4(400);
    let mut other = Packet::tcp4(400);
    other.tcp().source_port = 9;
    let packets = [first.clone(), following(&first), other.clone(), following(&other), other.clone().udp()];
    let datagrams: Vec<_> = packets.iter().map(datagram).collect();
    let (inner, malformed) = decapped(run(&datagrams.iter().map(Vec::as_slice).collect::<Vec<_>>()));
    assert_eq!((inner.iter().map(|inner| inner.frames).collect::<Vec<_>>(), malformed), (vec![2, 2, 1], 0));
    assert_eq!(inner[0].frame.meta.gso.map(|gso| gso.size), Some(400));
    assert_eq!(inner[1].frame.bytes()[34..36], [0, 9]);
    assert_eq!(inner[2].frame.bytes(), packets[4].bytes());
    assert_eq!(inner[2].frame.meta, Meta::default());
}

#[test]
fn every_protocol_carries_what_it_is_given() {
    for protocol in ALL {
        let packet = Packet::tcp6(5000);
        let (encapped, runs) = encapped_by(&of(protocol), packet.super_frame(1300)).unwrap();
        // The kernel takes runs of UDP datagrams only.
        let expected = if protocol == Protocol::Gre { 4 } else { 1 };
        assert_eq!(encapped, Encapped { segments: 4, runs: expected });
        let segments: Vec<_> = runs.iter().flat_map(|run| datagrams_of(run, header(protocol))).collect();
        let payload: Vec<u8> = segments.iter().flat_map(|segment| verified(segment).payload).collect();
        assert_eq!(payload, packet.payload);
        for run in runs {
            let (inner, refused) = decapped_by(protocol, run);
            assert!(refused.is_empty() && inner.iter().all(|inner| inner.key.0 == 5000));
        }
    }
}

#[test]
fn a_checksum_of_gre_is_that_of_each_packet() {
    let tunnel = Tunnel { checksum: true, ..of(Protocol::Gre) };
    let (_, runs) = encapped_by(&tunnel, Packet::tcp4(3000).super_frame(1300)).unwrap();
    for run in runs {
        assert_eq!(run.bytes()[..4], [0xa0, 0, 0x65, 0x58]);
        assert!(run.meta.outer.unwrap().checksum, "there is no other checksum to leave out");
        let mut damaged = Pool::new(0).copy(&run);
        damaged.bytes_mut()[100] ^= 1;
        assert_eq!(decapped_by(Protocol::Gre, damaged).1, [DropReason::TunnelChecksum]);
        let (inner, _) = decapped_by(Protocol::Gre, run);
        verified(inner[0].frame.bytes());
    }
}

#[test]
fn ip_in_ip_carries_packets_without_their_ethernet_headers() {
    let packet = Packet::tcp4(3000);
    let (encapped, runs) = encapped_by(&of(Protocol::Ipip), packet.super_frame(1300)).unwrap();
    assert_eq!(encapped, Encapped { segments: 3, runs: 3 });
    let mut payload = Vec::new();
    for run in runs {
        assert!(run.meta.outer.unwrap().checksum && run.bytes()[0] == 0x45 && run.len() <= 1450);
        let (mut inner, refused) = decapped_by(Protocol::Ipip, run);
        assert_eq!((inner.len(), inner[0].key, refused), (1, TunnelKey(0), vec![]));
        let frame = inner.remove(0).frame;
        assert_eq!(frame.bytes()[..14], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0]);
        payload.extend(verified(frame.bytes()).payload);
    }
    assert_eq!(payload, packet.payload);
    // A single frame keeps its memory.
    let (_, runs) = encapped_by(&of(Protocol::Ipip), packet.clone().udp().frame()).unwrap();
    assert_eq!(runs[0].bytes(), &packet.clone().udp().bytes()[14..]);
    for other in [Packet::tcp6(9).frame(), Packet::tcp4(9).tagged(7).frame()] {
        assert_eq!(encapped_by(&of(Protocol::Ipip), other).unwrap_err(), DropReason::NotRouted);
    }
}

#[test]
fn without_the_checksum_of_udp_datagrams_go_one_by_one() {
    let tunnel = Tunnel { checksum: false, ..tunnel() };
    let (encapped, runs) = encapped_by(&tunnel, Packet::tcp4(3000).super_frame(1000)).unwrap();
    assert_eq!(encapped, Encapped { segments: 3, runs: 3 });
    let outer: Vec<_> = runs.iter().map(|run| run.meta.outer.unwrap()).collect();
    assert!(outer.iter().all(|outer| !outer.checksum && outer.segment.is_none()), "{outer:?}");
}

#[test]
fn the_underlay_may_fragment_what_the_tunnel_or_the_frame_says() {
    for (tunnel_says, frame_says, dont_fragment) in [(true, false, true), (false, false, false), (true, true, false)] {
        let mut frame = Packet::tcp4(3000).udp().frame();
        frame.meta.outer_may_fragment = frame_says;
        let (_, runs) = encapped_by(&Tunnel { dont_fragment: tunnel_says, ..tunnel() }, frame).unwrap();
        assert_eq!(runs[0].meta.outer.unwrap().dont_fragment, dont_fragment);
    }
}

proptest! {
    #[test]
    fn no_datagram_makes_decap_panic(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..600),
            (1usize..8, 0usize..300).prop_map(|(n, len)| {
                let flow = std::iter::successors(Some(Packet::tcp4(len)), |last| Some(following(last)));
                flow.take(n).flat_map(|packet| datagram(&packet)).collect()
            }),
        ],
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        segment in prop::option::of(0u16..700),
        protocol in prop::sample::select(ALL.to_vec()),
    ) {
        let mut frame = Frame::from_bytes(&bytes);
        for (at, value) in damage {
            if !bytes.is_empty() {
                frame.bytes_mut()[at.index(bytes.len())] = value;
            }
        }
        frame.meta.outer = Some(Outer { segment, ..Outer::to(tunnel().remote) });
        let datagrams = bytes.len().div_ceil(segment.map_or(bytes.len(), usize::from).max(1)).max(1);
        let (inner, refused) = decapped_by(protocol, frame);
        let frames: u32 = inner.iter().map(|inner| inner.frames).sum();
        prop_assert_eq!(frames as usize + refused.len(), datagrams, "every datagram is counted once");
    }

    #[test]
    fn no_packet_makes_decap_panic(
        mut bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            (0usize..300).prop_map(|len| Packet::tcp4(len).bytes().split_off(14)),
        ],
        damage in prop::collection::vec((0usize..24, any::<u8>()), 0..3),
    ) {
        for (at, value) in damage {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
        let mut packet = Frame::from_bytes(&bytes);
        packet.meta.outer = Some(Outer::to(tunnel().remote));
        let (inner, refused) = decapped_by(Protocol::Ipip, packet);
        prop_assert_eq!(inner.len() + refused.len(), 1);
    }

    #[test]
    fn whatever_goes_in_comes_out(
        len in 1usize..20_000, size in 64u16..3000, six in any::<bool>(), tag in prop::option::of(0u16..4095),
    ) {
        let mut packet = if six { Packet::tcp6(len) } else { Packet::tcp4(len) };
        packet.vlan = tag;
        packet.tcp().psh = true;
        let (encapped, runs) = encapped(packet.super_frame(size)).unwrap();
        let mut payload = Vec::new();
        let mut frames = 0;
        for run in runs {
            prop_assert!(run.len() <= udp::MAX_PAYLOAD && datagrams(&run).len() <= 64);
            let (inner, malformed) = decapped(run);
            prop_assert_eq!((inner.len(), malformed), (1, 0));
            frames += inner[0].frames;
            payload.extend_from_slice(&inner[0].frame.bytes()[packet.header_len()..]);
        }
        prop_assert_eq!(frames, encapped.segments);
        prop_assert_eq!(payload, packet.payload);
    }
}

/// Where the kernel cuts, a super-frame leaves as one datagram, which is to be cut into what is sent otherwise.
#[test]
fn a_super_frame_leaves_whole_where_the_kernel_cuts_it() {
    let way_out = Some(WayOut { ifindex: 7, source: [192, 0, 2, 1].into() });
    for (protocol, packet) in [
        (Protocol::Gre, Packet::tcp4(12_000)),
        (Protocol::Gre, Packet::tcp6(12_000)),
        (Protocol::Gre, Packet::tcp4(12_000).tagged(5)),
        (Protocol::Ipip, Packet::tcp4(12_000)),
    ] {
        let tunnel = Tunnel { way_out, tos: Field::Fixed(0x20), ..of(protocol) };
        let (cut_here, datagrams) =
            encapped_by(&Tunnel { way_out: None, ..tunnel.clone() }, packet.super_frame(1400)).unwrap();
        let (whole, mut runs) = encapped_by(&tunnel, packet.super_frame(1400)).unwrap();
        assert_eq!((whole.segments, whole.runs, runs.len()), (cut_here.segments, 1, 1));
        let mut run = runs.remove(0);
        let outer = run.meta.outer.unwrap();
        assert_eq!((outer.ifindex, outer.local, outer.segment), (7, Some([192, 0, 2, 1].into()), None));
        assert_eq!((outer.tos, outer.ttl, outer.dont_fragment), (0x20, 64, true));
        let on_the_wire: usize = datagrams.iter().map(|datagram| datagram.len()).sum();
        assert_eq!(run.wire_size(), (datagrams.len() as u64, on_the_wire as u64));
        // As the kernel does it: the tunnel's header again before each segment.
        let header = header(protocol);
        run.meta.outer = None;
        run.pop_front(header.len());
        run.shift_offsets(-(header.len() as i16));
        if tunnel.protocol.is_layer3() {
            ipip::push_ethernet(&mut run);
            run.shift_offsets(14);
        }
        let (mut pool, mut segments) = (Pool::new(4), Vec::new());
        crate::offload::gso::segment(run, None, &mut pool, &mut segments).unwrap();
        for (segment, datagram) in segments.iter().zip(&datagrams) {
            let inner = &segment.bytes()[tunnel.stripped_len()..];
            assert_eq!([header, inner].concat(), datagram.bytes());
        }
    }
}

#[test]
fn what_the_kernel_cannot_cut_is_cut_here() {
    let way_out = Some(WayOut { ifindex: 7, source: [192, 0, 2, 1].into() });
    let gre = Tunnel { way_out, ..of(Protocol::Gre) };
    let runs = |tunnel: &Tunnel, frame| encapped_by(tunnel, frame).unwrap().0.runs;
    let long = || Packet::tcp4(12_000).super_frame(1400);
    assert_eq!(runs(&gre, long()), 1);
    assert_eq!(runs(&Tunnel { checksum: true, ..gre.clone() }, long()), 9);
    assert_eq!(runs(&Tunnel { dont_fragment: false, ..gre.clone() }, long()), 9);
    assert_eq!(
        runs(&Tunnel { remote: ("2001:db8::2".parse::<IpAddr>().unwrap(), 0).into(), ..gre.clone() }, long()),
        9
    );
    assert_eq!(runs(&gre, Packet::tcp4(12_000).udp().super_frame(1400)), 9, "datagrams");
    let mut finished = long();
    finished.meta.csum = ChecksumState::Valid;
    assert_eq!(runs(&gre, finished), 9, "nothing is left to whoever cuts");
    let mut exempt = long();
    exempt.meta.outer_may_fragment = true;
    assert_eq!(runs(&gre, exempt), 9);
    assert_eq!(runs(&gre, Packet::tcp4(9000).super_frame(1400)), 7, "it is to be refused if the way is too narrow");
    // 20 of IP, 8 of GRE, 14 of Ethernet and 52 of headers before the payload are 65,535 at most.
    let largest = 65_535 - 20 - 8 - 14 - 52;
    assert_eq!(runs(&gre, Packet::tcp4(largest).super_frame(1400)), 1);
    assert_eq!(runs(&gre, Packet::tcp4(largest + 1).super_frame(1400)), 47, "larger than any packet");
    let Encapped { segments, runs } = encapped_by(&gre, Packet::tcp4(1000).super_frame(1400)).unwrap().0;
    assert_eq!((segments, runs), (1, 1), "one segment is no super-frame");
}
