//! What comes in one batch and follows each other is put together again, however it came.

use super::*;
use crate::offload::gso;
use crate::packet::{Gso, GsoKind};

/// The datagrams that carry `frame` in `tunnel`, each by itself.
fn singly(tunnel: &Tunnel, frame: Frame) -> Vec<Frame> {
    let (_, runs) = encapped_by(tunnel, frame).unwrap();
    assert!(runs.iter().all(|run| run.meta.outer.unwrap().segment.is_none()));
    // In memory as it is received into, with room behind.
    runs.iter().map(|run| Pool::new(0).copy(run)).collect()
}

#[test]
fn what_came_one_by_one_in_a_batch_is_put_together_again() {
    let plain = |protocol| Tunnel { checksum: false, ..of(protocol) };
    let tunnels = [
        of(Protocol::Gre),
        Tunnel { checksum: true, ..of(Protocol::Gre) },
        plain(Protocol::Vxlan),
        plain(Protocol::Geneve),
        of(Protocol::Ipip),
    ];
    for tunnel in tunnels {
        for packet in [Packet::tcp4(40_001), Packet::tcp6(40_001), Packet::tcp4(40_001).tagged(7)] {
            let layer3 = tunnel.protocol.is_layer3();
            if layer3 && (packet.vlan.is_some() || packet.bytes()[12..14] != [8, 0]) {
                continue;
            }
            let datagrams = singly(&tunnel, packet.super_frame(1300));
            assert_eq!(datagrams.len(), 31);
            let (mut inner, refused) = batch_decapped_by(tunnel.protocol, datagrams);
            assert_eq!((inner.len(), refused), (1, vec![]), "{tunnel:?}");
            let (inner, sent) = (inner.remove(0), packet.super_frame(1300));
            assert_eq!((inner.frames, inner.frame.meta), (31, sent.meta));
            let addresses = if layer3 { 12 } else { 0 };
            assert_eq!(inner.frame.bytes()[addresses..], sent.bytes()[addresses..], "{tunnel:?}");
        }
    }
}

#[test]
fn two_packets_become_one_byte_for_byte() {
    const GRE: [u8; 8] = [0x20, 0, 0x65, 0x58, 0, 0, 0x13, 0x88];
    const ETHERNET: [u8; 14] = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    let ip = |len, id, sum: [u8; 2]| [0x45, 0, 0, len, 0, id, 0x40, 0, 64, 6, sum[0], sum[1], 10, 0, 0, 1, 10, 0, 0, 2];
    let tcp = |sequence, flags, sum: [u8; 2]| {
        [0, 1, 0, 2, 0, 0, 0, sequence, 0, 0, 0, 5, 0x50, flags, 1, 0, sum[0], sum[1], 0, 0]
    };
    let (ack, push) = (0x10, 0x18);
    let packets = [
        [&GRE[..], &ETHERNET, &ip(42, 1, [0x26, 0xcb]), &tcp(7, ack, [0x39, 0x5f]), b"ab"].concat(),
        [&GRE[..], &ETHERNET, &ip(41, 2, [0x26, 0xcb]), &tcp(9, push, [0x37, 0xb8]), b"c"].concat(),
    ];
    let merged = [&ETHERNET[..], &ip(43, 1, [0x26, 0xca]), &tcp(7, push, [0x14, 0x20]), b"abc"].concat();
    let (inner, refused) = batch_decapped_by(Protocol::Gre, packets.map(|packet| run(&[&packet])));
    assert_eq!((inner.len(), inner[0].key, inner[0].frames, refused), (1, TunnelKey(5000), 2, vec![]));
    assert_eq!(inner[0].frame.bytes(), merged);
    let meta = inner[0].frame.meta;
    assert_eq!(meta.csum, ChecksumState::Partial { start: 34, offset: 16 });
    assert_eq!(meta.gso, Some(Gso { kind: GsoKind::TcpV4, size: 2, header_len: 54, ecn: false }));
}

#[test]
fn frames_of_a_batch_keep_their_order_and_merge_only_with_the_next() {
    let first = Packet::tcp4(400);
    let mut other = Packet::tcp4(400);
    other.tcp().source_port = 9;
    let second = following(&first);
    let third = following(&second);
    let mut pushed = second.clone();
    pushed.tcp().psh = true;
    let seen = |packets: &[&Packet]| -> Vec<u32> {
        let datagrams: Vec<_> =
            packets.iter().map(|packet| singly(&of(Protocol::Gre), packet.frame()).remove(0)).collect();
        let (inner, refused) = batch_decapped_by(Protocol::Gre, datagrams);
        assert!(refused.is_empty());
        let mut at = 0;
        for inner in &inner {
            let ports = |frame: &[u8]| frame[34..38].to_vec();
            assert_eq!(ports(inner.frame.bytes()), ports(&packets[at].bytes()));
            at += inner.frames as usize;
        }
        inner.iter().map(|inner| inner.frames).collect()
    };
    assert_eq!(seen(&[&first, &second, &third]), [3]);
    assert_eq!(seen(&[&first, &third, &second]), [1, 1, 1], "out of order");
    assert_eq!(seen(&[&first, &other, &second, &following(&other)]), [1, 1, 1, 1], "interleaved");
    assert_eq!(seen(&[&first, &second, &other, &following(&other), &third]), [2, 2, 1]);
    assert_eq!(seen(&[&first, &pushed, &third]), [2, 1], "PSH is the last");
}

#[test]
fn datagrams_that_differ_outside_stay_apart_and_what_is_none_does_no_harm() {
    let merged = |change: &dyn Fn(&mut Frame)| {
        let mut datagrams = singly(&of(Protocol::Gre), Packet::tcp4(900).super_frame(300));
        change(&mut datagrams[1]);
        let (inner, refused) = batch_decapped_by(Protocol::Gre, datagrams);
        (inner.iter().map(|inner| (inner.outer.tos, inner.frames)).collect::<Vec<_>>(), refused)
    };
    let tos = |frame: &mut Frame| frame.meta.outer = frame.meta.outer.map(|outer| Outer { tos: 3, ..outer });
    assert_eq!(merged(&|_| {}), (vec![(0, 3)], vec![]));
    assert_eq!(merged(&tos), (vec![(0, 1), (3, 1), (0, 1)], vec![]), "a mark belongs to its packets");
    let remote = |frame: &mut Frame| frame.meta.outer = Some(Outer::to(([192, 0, 2, 9], 0).into()));
    assert_eq!(merged(&remote), (vec![(0, 1), (0, 1), (0, 1)], vec![]));
    let key = |frame: &mut Frame| frame.bytes_mut()[7] ^= 1;
    assert_eq!(merged(&key), (vec![(0, 1), (0, 1), (0, 1)], vec![]));
    let checksum = |frame: &mut Frame| frame.bytes_mut()[100] ^= 1;
    assert_eq!(merged(&checksum), (vec![(0, 1), (0, 1), (0, 1)], vec![]));
    let nobody = |frame: &mut Frame| frame.meta.outer = None;
    assert_eq!(merged(&nobody), (vec![(0, 1), (0, 1)], vec![DropReason::TunnelMalformed]));
    let flags = |frame: &mut Frame| frame.bytes_mut()[0] = 0x60;
    assert_eq!(merged(&flags), (vec![(0, 1), (0, 1)], vec![DropReason::TunnelMalformed]));
}

#[test]
fn runs_of_a_batch_join() {
    // The 64 KiB super-frame that Linux makes goes in two runs and comes out whole.
    let packet = Packet::tcp4(45 * 1448);
    let (_, runs) = encapped(packet.super_frame(1448)).unwrap();
    assert_eq!(runs.len(), 2);
    let (inner, _) = batch_decapped_by(Protocol::Vxlan, runs);
    assert_eq!((inner.len(), inner[0].frames), (1, 45));
    assert_eq!(inner[0].frame.bytes(), packet.super_frame(1448).bytes());
    // What does not begin where the last one ended is not joined.
    let (_, runs) = encapped(packet.super_frame(1448)).unwrap();
    let (inner, _) = batch_decapped_by(Protocol::Vxlan, runs.into_iter().rev());
    assert_eq!(inner.iter().map(|inner| inner.frames).collect::<Vec<_>>(), [2, 43]);
}

proptest! {
    #[test]
    fn a_batch_falls_apart_into_what_came(
        steps in prop::collection::vec((0u16..3, 0usize..300, any::<bool>()), 1..32),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 8usize..300), 0..3),
        six in any::<bool>(),
        per_run in 1usize..4,
    ) {
        let mut flows = [0, 1, 2].map(|port| {
            let mut packet = if six { Packet::tcp6(0) } else { Packet::tcp4(0) };
            packet.tcp().source_port = port;
            packet
        });
        let mut came: Vec<Vec<u8>> = steps.iter().map(|&(flow, len, psh)| {
            let packet = &mut flows[usize::from(flow)];
            *packet = following(packet);
            packet.payload = vec![len as u8; len - len % 100 + 40];
            packet.tcp().psh = psh;
            packet.bytes()
        }).collect();
        for (i, at) in damage {
            let frame = &mut came[i.index(steps.len())];
            if let Some(byte) = frame.get_mut(at + 54) {
                *byte ^= 1;
            }
        }
        let datagrams: Vec<_> = came.iter().map(|frame| [header(Protocol::Vxlan), frame].concat()).collect();
        let equal = |a: &Vec<u8>, b: &Vec<u8>| a.len() == b.len();
        let runs = datagrams.chunk_by(equal).flat_map(|alike| alike.chunks(per_run));
        let batch = runs.map(|alike| Pool::new(0).copy(&run(&alike.iter().map(Vec::as_slice).collect::<Vec<_>>())));
        let (inner, refused) = batch_decapped_by(Protocol::Vxlan, batch);
        prop_assert!(refused.is_empty());
        let mut goes = Vec::new();
        for Came { frame, frames, .. } in inner {
            let before = goes.len();
            gso::segment(frame, None, &mut Pool::new(1), &mut goes).unwrap();
            prop_assert_eq!(goes.len() - before, frames as usize);
        }
        let from_tcp = |frame: &[u8]| frame[if six { 54 } else { 34 }..].to_vec();
        let goes: Vec<_> = goes.iter().map(|frame| from_tcp(frame.bytes())).collect();
        prop_assert_eq!(goes, came.iter().map(|frame| from_tcp(frame)).collect::<Vec<_>>());
    }
}
