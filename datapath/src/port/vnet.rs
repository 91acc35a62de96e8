//! The virtio-net header that AF_PACKET (`PACKET_VNET_HDR`) and TAP (`IFF_VNET_HDR`) put before every frame.
//!
//! Ten bytes in the machine's byte order (`struct virtio_net_hdr`, linux/virtio_net.h; virtio 1.2 §5.1.6 without the
//! later fields). It says what of a frame is unfinished. On receive its offsets count from the first byte *in the data*:
//! a VLAN tag that the kernel has moved to ancillary data is not counted, and must be put back after decoding, so that
//! [`Frame::push_vlan`] moves the offsets with it. TAP leaves the tag in the data and counts it.
//!
//! The kernel writes this header from what a sender in a container or VM asked for, so offsets are checked against the
//! frame before anybody uses them.

use super::Unsupported;
use crate::offload::nested;
use crate::packet::{ChecksumState, Frame, Gso, GsoKind, Pool};

/// Bytes of the header.
pub const LEN: usize = 10;

const F_NEEDS_CSUM: u8 = 1;
const F_DATA_VALID: u8 = 2;
const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

/// Sets the metadata of a received frame from the header just before it.
pub fn decode_received(frame: &mut Frame) -> Result<(), Unsupported> {
    let header = *frame.with_header(LEN).first_chunk().ok_or(Unsupported)?;
    decode(header, frame)
}

/// Puts each frame's header before it.
pub fn prepend(frames: &mut [Frame], pool: &mut Pool) {
    for frame in frames {
        pool.make_room(frame, LEN);
        let header = encode(frame);
        frame.push_front(LEN)[..LEN].copy_from_slice(&header);
    }
}

fn decode(header: [u8; LEN], frame: &mut Frame) -> Result<(), Unsupported> {
    let [flags, kind, _, _, s0, s1, c0, c1, o0, o1] = header;
    let (size, start) = (u16::from_ne_bytes([s0, s1]), u16::from_ne_bytes([c0, c1]));
    let offset = u16::from_ne_bytes([o0, o1]);
    frame.meta.csum = if flags & F_NEEDS_CSUM != 0 {
        if usize::from(start) + usize::from(offset) + 2 > frame.len() {
            return Err(Unsupported);
        }
        ChecksumState::Partial { start, offset }
    } else if flags & F_DATA_VALID != 0 {
        ChecksumState::Valid
    } else {
        ChecksumState::None
    };
    frame.meta.gso = match kind & !GSO_ECN {
        GSO_NONE => None,
        // Without a checksum offset it is not known where the headers end (hdr_len only says how the sender's memory
        // was laid out). Linux always gives one; drivers with hardware LRO may not.
        _ if flags & F_NEEDS_CSUM == 0 || size == 0 => return Err(Unsupported),
        kind => Some(gso(kind, size, start, header[1] & GSO_ECN != 0, frame.bytes())?),
    };
    Ok(())
}

fn gso(kind: u8, size: u16, start: u16, ecn: bool, bytes: &[u8]) -> Result<Gso, Unsupported> {
    let l4 = bytes.get(usize::from(start)..).ok_or(Unsupported)?;
    let (kind, l4_len) = match kind {
        GSO_TCPV4 | GSO_TCPV6 => {
            let data_offset = u16::from(*l4.get(12).ok_or(Unsupported)? >> 4) * 4;
            let kind = match kind {
                _ if nested::is_tunnelled(bytes, start) => GsoKind::Tunnelled,
                GSO_TCPV4 => GsoKind::TcpV4,
                _ => GsoKind::TcpV6,
            };
            (kind, data_offset.max(20))
        }
        GSO_UDP_L4 => (GsoKind::Udp, 8),
        _ => return Err(Unsupported),
    };
    let header_len = start.checked_add(l4_len).filter(|&n| usize::from(n) <= bytes.len()).ok_or(Unsupported)?;
    Ok(Gso { kind, size, header_len, ecn })
}

fn encode(frame: &Frame) -> [u8; LEN] {
    let (flags, start, offset) = match frame.meta.csum {
        ChecksumState::Partial { start, offset } => (F_NEEDS_CSUM, start, offset),
        // DATA_VALID is the receiving side's to say.
        ChecksumState::Valid | ChecksumState::None => (0, 0, 0),
    };
    let (kind, size, header_len) = match frame.meta.gso {
        None => (GSO_NONE, 0, 0),
        Some(gso) => {
            let kind = match gso.kind {
                // One in a tunnel does not come here: no device takes it.
                GsoKind::TcpV4 | GsoKind::Tunnelled => GSO_TCPV4,
                GsoKind::TcpV6 => GSO_TCPV6,
                GsoKind::Udp => GSO_UDP_L4,
            };
            (kind | if gso.ecn { GSO_ECN } else { 0 }, gso.size, gso.header_len)
        }
    };
    let mut header = [flags, kind, 0, 0, 0, 0, 0, 0, 0, 0];
    for (at, value) in [(2, header_len), (4, size), (6, start), (8, offset)] {
        header[at..at + 2].copy_from_slice(&value.to_ne_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Meta;

    /// An Ethernet + IPv4 + TCP frame as far as this module looks: 66 bytes of headers (12 of TCP options), then payload.
    fn tcp(payload: usize) -> Frame {
        let mut frame = Frame::from_bytes(&vec![0; 66 + payload]);
        frame.bytes_mut()[34 + 12] = 8 << 4;
        frame
    }

    fn header(flags: u8, kind: u8, fields: [u16; 4]) -> [u8; LEN] {
        let mut h = [flags, kind, 0, 0, 0, 0, 0, 0, 0, 0];
        for (i, v) in fields.iter().enumerate() {
            h[2 + 2 * i..4 + 2 * i].copy_from_slice(&v.to_ne_bytes());
        }
        h
    }

    fn meta(csum: ChecksumState, gso: Option<Gso>) -> Meta {
        Meta { csum, gso, ..Meta::default() }
    }

    const TCP_CSUM: ChecksumState = ChecksumState::Partial { start: 34, offset: 16 };

    #[test]
    #[cfg(target_endian = "little")]
    fn a_super_frame_has_these_bytes() {
        let mut frame = tcp(64_000);
        let golden = [1, 1, 66, 0, 0xa8, 0x05, 34, 0, 16, 0];
        decode(golden, &mut frame).unwrap();
        let gso = Gso { kind: GsoKind::TcpV4, size: 1448, header_len: 66, ecn: false };
        assert_eq!(frame.meta, meta(TCP_CSUM, Some(gso)));
        assert_eq!(encode(&frame), golden);
    }

    #[test]
    fn every_kind_survives_the_round_trip() {
        for (bits, kind, header_len) in
            [(1, GsoKind::TcpV4, 66), (4, GsoKind::TcpV6, 66), (5, GsoKind::Udp, 42), (0x81, GsoKind::TcpV4, 66)]
        {
            let mut frame = tcp(3000);
            let h = header(1, bits, [header_len, 1200, 34, 16]);
            decode(h, &mut frame).unwrap();
            assert_eq!(frame.meta.gso, Some(Gso { kind, size: 1200, header_len, ecn: bits & 0x80 != 0 }));
            assert_eq!(encode(&frame), h);
        }
    }

    #[test]
    fn header_length_is_found_in_the_frame_because_the_field_is_a_hint() {
        let mut frame = tcp(3000);
        decode(header(1, 1, [3000, 1448, 34, 16]), &mut frame).unwrap();
        assert_eq!(frame.meta.gso.unwrap().header_len, 66);
    }

    #[test]
    fn plain_frames_tell_their_checksum_state() {
        for (flags, csum) in [(0, ChecksumState::None), (2, ChecksumState::Valid), (1, TCP_CSUM), (3, TCP_CSUM)] {
            let mut frame = tcp(10);
            decode(header(flags, 0, [0, 0, 34, 16]), &mut frame).unwrap();
            assert_eq!(frame.meta, meta(csum, None));
        }
        let mut valid = tcp(10);
        valid.meta.csum = ChecksumState::Valid;
        assert_eq!(encode(&valid), [0; LEN]);
    }

    #[test]
    fn a_tag_put_back_moves_the_offsets() {
        let mut frame = tcp(3000);
        decode(header(1, 1, [66, 1448, 34, 16]), &mut frame).unwrap();
        assert!(frame.push_vlan(0x8100, 10));
        assert_eq!(encode(&frame), header(1, 1, [70, 1448, 38, 16]));
    }

    #[test]
    fn contradictions_and_unknown_kinds_are_refused() {
        for bad in [
            header(1, 0, [0, 0, 34, 31]),         // checksum field past the end
            header(1, 0, [0, 0, 0xffff, 0xffff]), // far past it
            header(1, 3, [42, 1448, 34, 6]),      // UDP fragmentation, long gone from Linux
            header(1, 1, [66, 0, 34, 16]),        // no segment size
            header(2, 1, [66, 1448, 0, 0]),       // no checksum offset to find the headers by
            header(1, 1, [66, 1448, 60, 2]),      // TCP header cut off
        ] {
            assert_eq!(decode(bad, &mut tcp(0)), Err(Unsupported), "{bad:?}");
        }
    }
}
