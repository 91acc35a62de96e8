//! VXLAN (RFC 7348): frames → UDP payloads, and back.
//!
//! A super-frame leaves as runs of datagrams of equal size, which one `UDP_SEGMENT` send takes whole, and a received run
//! (`UDP_GRO`) becomes super-frames again. Without that, TCP through a tunnel is five times slower.
//!
//! What the tunnel cannot carry is cut to fit if it is TCP, whose senders may not listen to ICMP, and refused if not.
//! An attacker on the underlay may send any bytes: a datagram that is no VXLAN is counted, and what is inside is as
//! untrusted as a frame from any other port.

use super::Vxlan;
use crate::offload::checksum;
use crate::offload::gro::Merge;
use crate::offload::gso::Cut;
use crate::packet::{ChecksumState, Frame, Meta, Outer, Pool};
use crate::switch::verdict::DropReason;
use crate::types::{L3Mtu, Vni};
use crate::wire::parse::{flow_hash, parse};
use crate::wire::{ethernet, udp, vxlan};

/// Bytes that a tunnel over IPv4 takes from the underlay's MTU: inner Ethernet, VXLAN, UDP, IPv4. Every VLAN tag that
/// an inner frame carries takes 4 more.
pub const OVERHEAD_V4: u32 = 14 + 8 + 8 + 20;
/// The same over IPv6.
pub const OVERHEAD_V6: u32 = 14 + 8 + 8 + 40;

/// Datagrams in one run: what every kernel's `UDP_SEGMENT` takes.
const MAX_RUN: usize = 64;

/// What became of an encapsulated frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Encapped {
    /// Datagrams that the far end will receive.
    pub segments: u32,
    /// Frames that they were appended to `out` in, each one a run of datagrams.
    pub runs: u32,
}

/// A frame that came out of a tunnel, with no port yet.
#[derive(Debug)]
pub struct Inner {
    /// Its network.
    pub vni: Vni,
    /// The frame, `meta.outer` no longer set.
    pub frame: Frame,
    /// How many received frames it stands for.
    pub frames: u32,
}

/// Turns an Ethernet frame into UDP payloads for `tunnel`, appended to `out` with `meta.outer` set.
///
/// `mtu` is the largest inner packet that the tunnel carries; tags of the inner frame count against it. Checksums are
/// finished, super-frames are cut, TCP also to fit `mtu`; anything else that is too large is handed back as
/// [`DropReason::MtuExceeded`], unchanged but for its checksum state.
pub fn encap(
    mut frame: Frame,
    tunnel: &Vxlan,
    mtu: Option<L3Mtu>,
    pool: &mut Pool,
    out: &mut Vec<Frame>,
) -> Result<Encapped, (Frame, DropReason)> {
    let cut = match prepare(&mut frame, mtu) {
        Ok(cut) => cut,
        Err(reason) => return Err((frame, reason)),
    };
    let outer = Outer { remote: tunnel.remote, local: tunnel.local, segment: None, entropy: entropy(&frame) };
    let header = vxlan::header(tunnel.out_vni);
    let Some((cut, segments)) = cut else {
        frame.push_front(vxlan::HEADER_LEN)[..vxlan::HEADER_LEN].copy_from_slice(&header);
        frame.meta.outer = Some(outer);
        out.push(frame);
        return Ok(Encapped { segments: 1, runs: 1 });
    };
    let datagram = vxlan::HEADER_LEN + cut.segment_len(0);
    let per_run = MAX_RUN.min(udp::MAX_PAYLOAD / datagram);
    let mut runs = 0;
    for first in (0..segments).step_by(per_run) {
        let last = segments.min(first + per_run) - 1;
        let mut run = pool.alloc();
        run.set_len((last - first) * datagram + vxlan::HEADER_LEN + cut.segment_len(last));
        for (i, bytes) in (first..=last).zip(run.bytes_mut().chunks_mut(datagram)) {
            let (prefix, segment) = bytes.split_at_mut(vxlan::HEADER_LEN);
            prefix.copy_from_slice(&header);
            cut.write(frame.bytes(), i, segment);
        }
        let segment = (last > first).then_some(datagram as u16);
        let outer = Some(Outer { segment, ..outer });
        run.meta = Meta { csum: ChecksumState::None, gso: None, outer, ..frame.meta };
        out.push(run);
        runs += 1;
    }
    pool.recycle(frame);
    Ok(Encapped { segments: segments as u32, runs })
}

/// Makes `frame` fit to be the payload of one datagram, or says how it must be cut, and into how many.
fn prepare(frame: &mut Frame, mtu: Option<L3Mtu>) -> Result<Option<(Cut, usize)>, DropReason> {
    let largest = udp::MAX_PAYLOAD - vxlan::HEADER_LEN;
    let limit = mtu.map_or(largest, |mtu| largest.min(ethernet::HEADER_LEN + mtu.0 as usize));
    if frame.meta.gso.is_some() || frame.len() > limit {
        let single = frame.meta.gso.is_none();
        let too_long = |reason| if single { DropReason::MtuExceeded } else { reason };
        let mut cut = Cut::of(frame).map_err(too_long)?;
        cut.limit_segment_len(limit)?;
        let segments = cut.segments().map_err(too_long)?;
        if segments > 1 {
            return Ok(Some((cut, segments)));
        }
        frame.set_len(cut.end());
        frame.meta.gso = None;
    }
    if frame.headroom() < vxlan::HEADER_LEN {
        return Err(DropReason::Headroom);
    }
    checksum::finish(frame).map(|()| None)
}

/// What spreads the flows over outer source ports.
fn entropy(frame: &Frame) -> u16 {
    parse(frame.bytes()).map_or(0, |headers| flow_hash(&headers, frame.bytes()))
}

/// Takes the frames out of a received run of datagrams and appends them to `out`, TCP segments that follow each other
/// merged into super-frames. Returns how many datagrams were no VXLAN, to be counted as
/// [`DropReason::TunnelMalformed`]. Who sent the run is in its `meta.outer`, which the caller reads before.
pub fn decap(mut run: Frame, pool: &mut Pool, out: &mut Vec<Inner>) -> u32 {
    let len = run.len();
    let datagram = run.meta.outer.and_then(|outer| outer.segment).map_or(len, usize::from).max(1);
    let mut malformed = u32::from(len == 0);
    let mut open: Option<(Vni, Merge)> = None;
    for start in (0..len).step_by(datagram) {
        let end = len.min(start + datagram);
        let inner = start + vxlan::HEADER_LEN..end;
        let Some(vni) = vxlan::vni(&run.bytes()[start..end]).filter(|_| inner.len() >= ethernet::HEADER_LEN) else {
            malformed += 1;
            continue;
        };
        if let Some((of, merge)) = &mut open
            && *of == vni
            && merge.append(run.bytes_mut(), inner.clone())
        {
            continue;
        }
        if let Some((vni, merge)) = open.replace((vni, Merge::begin(run.bytes(), inner))) {
            let merged = merge.finish(run.bytes_mut());
            let mut frame = pool.alloc();
            frame.set_len(merged.range.len());
            frame.bytes_mut().copy_from_slice(&run.bytes()[merged.range.clone()]);
            frame.meta = Meta { csum: merged.csum, gso: merged.gso, ..Meta::default() };
            out.push(Inner { vni, frame, frames: merged.count });
        }
    }
    match open {
        // The last frame keeps the buffer: for a run that became one super-frame nothing is copied.
        Some((vni, merge)) => {
            let merged = merge.finish(run.bytes_mut());
            run.set_len(merged.range.end);
            run.pop_front(merged.range.start);
            run.meta = Meta { csum: merged.csum, gso: merged.gso, ..Meta::default() };
            out.push(Inner { vni, frame: run, frames: merged.count });
        }
        None => pool.recycle(run),
    }
    malformed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::PortId;
    use crate::wire::fixtures::{Packet, verified};
    use proptest::prelude::*;
    use std::net::SocketAddr;

    const MTU: Option<L3Mtu> = Some(L3Mtu(1450));

    fn tunnel() -> Vxlan {
        let vni = Vni::new(5000).unwrap();
        Vxlan { out_vni: vni, in_vni: vni, remote: SocketAddr::from(([192, 0, 2, 2], 4789)), local: None }
    }

    fn encapped(frame: Frame, mtu: Option<L3Mtu>) -> Result<(Encapped, Vec<Frame>), DropReason> {
        let (mut pool, mut out) = (Pool::new(4), Vec::new());
        match encap(frame, &tunnel(), mtu, &mut pool, &mut out) {
            Ok(encapped) => Ok((encapped, out)),
            Err((_, reason)) => Err(reason),
        }
    }

    /// The datagrams of a run, without their VXLAN headers.
    fn datagrams(run: &Frame) -> Vec<&[u8]> {
        let size = run.meta.outer.unwrap().segment.map_or(run.len(), usize::from);
        run.bytes()
            .chunks(size)
            .map(|datagram| datagram.strip_prefix(&[8, 0, 0, 0, 0, 0x13, 0x88, 0]).unwrap())
            .collect()
    }

    /// A datagram of VNI 5000.
    fn datagram(packet: &Packet) -> Vec<u8> {
        [&[8, 0, 0, 0, 0, 0x13, 0x88, 0][..], &packet.bytes()].concat()
    }

    /// What a UDP socket delivers for these datagrams.
    fn run(datagrams: &[&[u8]]) -> Frame {
        let mut run = Frame::from_bytes(&datagrams.concat());
        let segment = u16::try_from(datagrams[0].len()).ok();
        run.meta.outer = Some(Outer { remote: tunnel().remote, local: None, segment, entropy: 0 });
        run
    }

    /// The segment after `packet` in its flow.
    fn following(packet: &Packet) -> Packet {
        let mut next = packet.clone();
        let len = packet.payload.len() as u32;
        next.tcp().sequence_number = next.tcp().sequence_number.wrapping_add(len);
        next
    }

    fn decapped(run: Frame) -> (Vec<Inner>, u32) {
        let (mut pool, mut out) = (Pool::new(4), Vec::new());
        let malformed = decap(run, &mut pool, &mut out);
        (out, malformed)
    }

    #[test]
    fn a_super_frame_travels_as_runs_and_comes_out_as_it_went_in() {
        for packet in [Packet::tcp4(40_001), Packet::tcp6(40_001).tagged(7)] {
            let (encapped, runs) = encapped(packet.super_frame(1300), MTU).unwrap();
            assert_eq!(encapped, Encapped { segments: 31, runs: 1 });
            let segments = datagrams(&runs[0]);
            assert_eq!(segments.len(), 31);
            segments.into_iter().for_each(|segment| drop(verified(segment)));
            let (inner, malformed) = decapped(runs.into_iter().next().unwrap());
            let [inner] = <[Inner; 1]>::try_from(inner).unwrap();
            assert_eq!((inner.vni.get(), inner.frames, malformed), (5000, 31, 0));
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
        let (encapped, out) = encapped(frame, MTU).unwrap();
        assert_eq!(encapped, Encapped { segments: 1, runs: 1 });
        assert_eq!(out[0].bytes(), [&[8, 0, 0, 0, 0, 0x13, 0x88, 0][..], &arp].concat());
        assert_eq!(out[0].bytes()[8..].as_ptr(), before, "nothing was copied");
        let outer = out[0].meta.outer.unwrap();
        assert_eq!((outer.remote, outer.local, outer.segment), (tunnel().remote, None, None));
        assert_eq!(out[0].meta, Meta { egress: PortId(3), outer: Some(outer), ..Meta::default() });
    }

    #[test]
    fn what_the_tunnel_cannot_carry_is_refused_unless_it_is_tcp() {
        let payloads = |frame: Frame| -> Result<Vec<usize>, DropReason> {
            let (_, runs) = encapped(frame, MTU)?;
            Ok(runs.iter().flat_map(datagrams).map(|segment| verified(segment).payload.len()).collect())
        };
        let headers = 20 + 32;
        assert_eq!(payloads(Packet::tcp4(1450 - headers).partial()), Ok(vec![1398]));
        assert_eq!(payloads(Packet::tcp4(1448).frame()), Ok(vec![1398, 50]));
        assert_eq!(payloads(Packet::tcp6(1448).partial()), Ok(vec![1378, 70]));
        assert_eq!(payloads(Packet::tcp4(1448).tagged(5).frame()), Ok(vec![1394, 54]), "a tag counts");
        assert_eq!(payloads(Packet::tcp4(3000).super_frame(1448)), Ok(vec![1398, 1398, 204]));
        assert_eq!(payloads(Packet::tcp4(1000).super_frame(1448)), Ok(vec![1000]));
        assert_eq!(payloads(Packet::tcp4(2500).udp().super_frame(1000)), Ok(vec![1000, 1000, 500]));
        assert_eq!(payloads(Packet::tcp4(1422).udp().partial()), Ok(vec![1422]));
        let mut padded = Packet::tcp4(1398).frame();
        padded.set_len(padded.len() + 40);
        assert_eq!(payloads(padded), Ok(vec![1398]), "padding needs no second segment");

        let mut syn = Packet::tcp4(1448);
        syn.tcp().syn = true;
        for frame in [Packet::tcp4(1423).udp().frame(), syn.frame(), Packet::tcp4(5000).udp().super_frame(1448)] {
            assert_eq!(payloads(frame), Err(DropReason::MtuExceeded));
        }
        assert_eq!(payloads(Frame::from_bytes(&[0x88; 1465])), Err(DropReason::MtuExceeded));
        assert_eq!(payloads(syn.super_frame(1000)), Err(DropReason::Unsegmentable));
        assert_eq!(encapped(Packet::tcp4(100).frame(), Some(L3Mtu(50))).unwrap_err(), DropReason::MtuExceeded);
    }

    #[test]
    fn no_run_is_larger_than_one_send_takes() {
        // The 64 KiB super-frame that Linux makes: 45 segments, of which 43 fit one send.
        let packet = Packet::tcp4(45 * 1448);
        let (of_64k, runs) = encapped(packet.super_frame(1448), None).unwrap();
        assert_eq!(of_64k, Encapped { segments: 45, runs: 2 });
        assert_eq!(runs.iter().map(|run| datagrams(run).len()).collect::<Vec<_>>(), [43, 2]);
        let payload: Vec<u8> = runs.iter().flat_map(datagrams).flat_map(|segment| verified(segment).payload).collect();
        assert_eq!(payload, packet.payload);
        // Small segments: 64 to a run; the single one that is left is no run.
        let (of_small, runs) = encapped(Packet::tcp4(129 * 100).super_frame(100), MTU).unwrap();
        assert_eq!(of_small, Encapped { segments: 129, runs: 3 });
        assert_eq!(runs.iter().map(|run| datagrams(run).len()).collect::<Vec<_>>(), [64, 64, 1]);
        let sizes: Vec<_> = runs.iter().map(|run| run.meta.outer.unwrap().segment).collect();
        assert_eq!(sizes, [Some(174), Some(174), None]);
    }

    #[test]
    fn all_segments_of_a_flow_leave_by_one_source_port() {
        let entropy = |frame| encapped(frame, MTU).unwrap().1[0].meta.outer.unwrap().entropy;
        let of_flow = entropy(Packet::tcp4(1).frame());
        assert_eq!(entropy(Packet::tcp4(60_000).super_frame(1448)), of_flow);
        assert_eq!(entropy(Packet::tcp4(1448).frame()), of_flow);
        assert_ne!(entropy(Packet::tcp6(1).frame()), of_flow);
    }

    #[test]
    fn without_headroom_or_sense_the_frame_is_handed_back() {
        let mut tight = Frame::new(vec![0; 60].into_boxed_slice(), 7);
        tight.set_len(53);
        assert_eq!(encapped(tight, MTU).unwrap_err(), DropReason::Headroom);
        let mut broken = Frame::from_bytes(&[0; 60]);
        broken.meta.csum = ChecksumState::Partial { start: 60, offset: 0 };
        assert_eq!(encapped(broken, MTU).unwrap_err(), DropReason::Malformed);
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
        let found: Vec<_> = inner.iter().map(|inner| (inner.vni.get(), inner.frames)).collect();
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
        ) {
            let mut frame = Frame::from_bytes(&bytes);
            for (at, value) in damage {
                if !bytes.is_empty() {
                    frame.bytes_mut()[at.index(bytes.len())] = value;
                }
            }
            frame.meta.outer = Some(Outer { remote: tunnel().remote, local: None, segment, entropy: 0 });
            let datagrams = bytes.len().div_ceil(segment.map_or(bytes.len(), usize::from).max(1)).max(1);
            let (inner, malformed) = decapped(frame);
            let frames: u32 = inner.iter().map(|inner| inner.frames).sum();
            prop_assert_eq!((frames + malformed) as usize, datagrams, "every datagram is counted once");
        }

        #[test]
        fn whatever_goes_in_comes_out(
            len in 1usize..20_000, size in 64u16..3000, six in any::<bool>(), tag in prop::option::of(0u16..4095), mtu in 200u32..9000,
        ) {
            let mut packet = if six { Packet::tcp6(len) } else { Packet::tcp4(len) };
            packet.vlan = tag;
            packet.tcp().psh = true;
            let (encapped, runs) = encapped(packet.super_frame(size), Some(L3Mtu(mtu))).unwrap();
            let mut payload = Vec::new();
            let mut frames = 0;
            for run in runs {
                prop_assert!(run.len() <= udp::MAX_PAYLOAD && datagrams(&run).len() <= MAX_RUN);
                prop_assert!(datagrams(&run).iter().all(|inner| inner.len() <= 14 + mtu as usize));
                let (inner, malformed) = decapped(run);
                prop_assert_eq!((inner.len(), malformed), (1, 0));
                frames += inner[0].frames;
                payload.extend_from_slice(&inner[0].frame.bytes()[packet.header_len()..]);
            }
            prop_assert_eq!(frames, encapped.segments);
            prop_assert_eq!(payload, packet.payload);
        }
    }
}
