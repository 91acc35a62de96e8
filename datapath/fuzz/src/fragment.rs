//! Fragments: together they are the packet that they were made of, and each fits.

use super::{split, sum};
use datapath::offload::fragment::fragment;
use datapath::packet::{ChecksumState, Frame, Pool};
use datapath::wire::parse::parse;

/// An MTU whose highest bit says whether the checksum is unfinished, and a frame.
pub fn check(input: &[u8]) {
    let Some((number, bytes)) = split(input) else { return };
    let mtu = usize::from(number & 0x7fff);
    let mut pool = Pool::new(2);
    let mut frame = pool.alloc();
    if bytes.len() > frame.tailroom() {
        return;
    }
    frame.set_len(bytes.len());
    frame.bytes_mut().copy_from_slice(bytes);
    let network = parse(bytes).ok().and_then(|headers| headers.network(bytes)).filter(|_| number & 0x8000 != 0);
    if let Some(network) = network {
        frame.meta.csum = ChecksumState::Partial { start: network.l4_offset, offset: 6 };
    }
    let mut pieces = Vec::new();
    match fragment(frame, mtu, &mut pool, &mut pieces) {
        Ok(count) => {
            assert_eq!(count as usize, pieces.len());
            fit_together(bytes, mtu, &pieces, network.is_some());
        }
        Err(_) => assert_eq!((pool.spare(), pieces.len()), (1, 0), "nothing is left of it"),
    }
}

fn fit_together(bytes: &[u8], mtu: usize, pieces: &[Frame], unfinished: bool) {
    let whole = parse(bytes).expect("fragmented").network(bytes).expect("fragmented");
    let (l3, l4) = (usize::from(whole.l3_offset), usize::from(whole.l4_offset));
    let word = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[l3 + at], bytes[l3 + at + 1]]);
    let (id, field) = (word(bytes, 4), word(bytes, 6));
    let mut payload = Vec::new();
    for (i, piece) in pieces.iter().enumerate() {
        let piece = piece.bytes();
        assert!(piece.len() - l3 <= mtu && usize::from(word(piece, 2)) == piece.len() - l3);
        assert_eq!((sum(&piece[l3..l4]), word(piece, 4)), (0xffff, id));
        assert_eq!(piece[..l3], bytes[..l3], "addresses and tags");
        assert_eq!(piece[l3 + 8..l3 + 10], bytes[l3 + 8..l3 + 10], "time to live and protocol");
        assert_eq!(piece[l3 + 12..l3 + 20], bytes[l3 + 12..l3 + 20], "addresses");
        assert_eq!(usize::from(word(piece, 6) & 0x1fff), usize::from(field & 0x1fff) + payload.len() / 8);
        let more = i + 1 < pieces.len();
        assert_eq!(word(piece, 6) & 0x2000 != 0, more || field & 0x2000 != 0);
        assert!(!more || (piece.len() - l4) % 8 == 0);
        payload.extend_from_slice(&piece[l4..]);
    }
    assert_eq!(payload.len(), whole.end - l4);
    if !unfinished {
        assert_eq!(payload, bytes[l4..whole.end]);
    }
}
