//! Cutting a super-frame, or one TCP segment that is too long for its way, into segments that stand alone.
//!
//! The headers are copied to every segment; changed are the IP length and IPv4 identification, TCP's sequence number and
//! flags (FIN and PSH on the last segment only, CWR on the first only), UDP's length, and the checksums.
//!
//! Headers are read anew: what a vnet header says about them is only a hint of its sender. A frame that is not what its
//! metadata says, a fragment, or a TCP segment whose header cannot be repeated (SYN, RST, URG, a signature) is refused,
//! and so is one that would fall into more than [`MAX_SEGMENTS`], with which a sender could keep the switch busy.

use super::checksum::{self, field_offset, nonzero};
use crate::packet::{ChecksumState, Frame, GsoKind, Meta, Pool};
use crate::switch::verdict::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::parse::{IpVersion, Network, parse};
use crate::wire::{be16, be32, ipv4, ipv6, put16, put32, tcp, udp};

/// The most segments of one frame: a 64 KiB super-frame with an MSS of 64.
pub const MAX_SEGMENTS: usize = 1024;

/// Replaces `frame` by its segments, appended to `out` with finished checksums; returns how many. `mss`, where it is
/// smaller, replaces the size that a TCP super-frame asks for, and also cuts a TCP frame that is none. A frame that
/// needs no cutting, and one that is neither a super-frame nor TCP, becomes the only segment. On an error nothing is
/// appended and the frame's memory is back in the pool.
pub fn segment(mut frame: Frame, mss: Option<u16>, pool: &mut Pool, out: &mut Vec<Frame>) -> Result<u32, DropReason> {
    let result = segments_of(&mut frame, mss, pool, out);
    match result {
        Ok(1) => out.push(frame),
        _ => pool.recycle(frame),
    }
    result
}

fn segments_of(frame: &mut Frame, mss: Option<u16>, pool: &mut Pool, out: &mut Vec<Frame>) -> Result<u32, DropReason> {
    let mut cut = match Cut::of(frame) {
        Err(_) if frame.meta.gso.is_none() => return checksum::finish(frame).map(|()| 1),
        cut => cut?,
    };
    cut.limit_size(mss.map_or(usize::MAX, usize::from))?;
    let count = cut.segments()?;
    if count == 1 {
        frame.meta.gso = None;
        return checksum::finish(frame).map(|()| 1);
    }
    for i in 0..count {
        let mut segment = pool.alloc();
        segment.set_len(cut.segment_len(i));
        cut.write(frame.bytes(), i, segment.bytes_mut());
        segment.meta = Meta { csum: ChecksumState::None, gso: None, ..frame.meta };
        out.push(segment);
    }
    Ok(count as u32)
}

/// How a frame is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    network: Network,
    /// Bytes of all headers.
    header_len: usize,
    /// Payload bytes of every segment but the last.
    size: usize,
    /// The pseudo-header's sum without the length; `None`: UDP without a checksum.
    pseudo: Option<Sum>,
    /// Whether the headers may stand before more than one segment.
    repeatable: bool,
}

impl Cut {
    /// How to cut `frame`: as its metadata says, or, for a TCP frame that is no super-frame, into one piece.
    pub(crate) fn of(frame: &Frame) -> Result<Self, DropReason> {
        let bytes = frame.bytes();
        let network = parse(bytes)?.network(bytes).ok_or(DropReason::Unsegmentable)?;
        let header_len = network.header_len(bytes).ok_or(DropReason::Unsegmentable)?;
        let (proto, version) = (network.proto, network.version);
        let (fits, size) = match frame.meta.gso {
            Some(gso) => (
                match gso.kind {
                    GsoKind::TcpV4 => proto == tcp::PROTOCOL && version == IpVersion::V4,
                    GsoKind::TcpV6 => proto == tcp::PROTOCOL && version == IpVersion::V6,
                    GsoKind::Udp => proto == udp::PROTOCOL,
                },
                usize::from(gso.size),
            ),
            None => (proto == tcp::PROTOCOL, usize::MAX),
        };
        if !fits || size == 0 {
            return Err(DropReason::Unsegmentable);
        }
        let size = size.min(network.end - header_len);
        let l4 = usize::from(network.l4_offset);
        let repeatable = proto == udp::PROTOCOL || tcp::is_repeatable(&bytes[l4..header_len]);
        Ok(Self { network, header_len, size, pseudo: pseudo_header(frame, &network)?, repeatable })
    }

    /// Makes segments carry at most `size` bytes of payload. The size of UDP datagrams is not ours to change.
    pub(crate) fn limit_size(&mut self, size: usize) -> Result<(), DropReason> {
        if size < self.size {
            if size == 0 || self.network.proto != tcp::PROTOCOL {
                return Err(DropReason::MtuExceeded);
            }
            self.size = size;
        }
        Ok(())
    }

    /// Makes segments, headers included, at most `len` bytes long.
    pub(crate) fn limit_segment_len(&mut self, len: usize) -> Result<(), DropReason> {
        self.limit_size(len.checked_sub(self.header_len).ok_or(DropReason::MtuExceeded)?)
    }

    /// How many segments there will be.
    pub(crate) fn segments(&self) -> Result<usize, DropReason> {
        let count = (self.network.end - self.header_len).div_ceil(self.size.max(1)).max(1);
        match count {
            1 => Ok(1),
            2..=MAX_SEGMENTS if self.repeatable => Ok(count),
            _ => Err(DropReason::Unsegmentable),
        }
    }

    /// Bytes of segment `i`, headers included; the same for all but the last.
    pub(crate) fn segment_len(&self, i: usize) -> usize {
        (self.header_len + self.size).min(self.network.end - i * self.size)
    }

    /// Where the last segment ends in the frame; padding may follow.
    pub(crate) fn end(&self) -> usize {
        self.network.end
    }

    /// Writes segment `i` of the frame `whole`; `out` is [`Cut::segment_len`] bytes long.
    pub(crate) fn write(&self, whole: &[u8], i: usize, out: &mut [u8]) {
        let from = self.header_len + i * self.size;
        let to = from + out.len() - self.header_len;
        out[..self.header_len].copy_from_slice(&whole[..self.header_len]);
        out[self.header_len..].copy_from_slice(&whole[from..to]);
        self.write_ip(i, out);
        let segment = &mut out[usize::from(self.network.l4_offset)..];
        if self.network.proto == tcp::PROTOCOL {
            self.write_tcp(i, to == self.network.end, segment);
        } else {
            self.write_udp(segment);
        }
    }

    fn write_ip(&self, i: usize, out: &mut [u8]) {
        let l3 = usize::from(self.network.l3_offset);
        let packet_len = out.len() - l3;
        match self.network.version {
            IpVersion::V4 => {
                let header = &mut out[l3..self.network.l4_offset.into()];
                put16(header, ipv4::TOTAL_LEN, packet_len as u16);
                put16(header, ipv4::ID, be16(header, ipv4::ID).wrapping_add(i as u16));
                ipv4::fill_checksum(header);
            }
            IpVersion::V6 => put16(out, l3 + ipv6::PAYLOAD_LEN, (packet_len - ipv6::HEADER_LEN) as u16),
        }
    }

    fn write_tcp(&self, i: usize, last: bool, segment: &mut [u8]) {
        let sequence = be32(segment, tcp::SEQUENCE).wrapping_add((i * self.size) as u32);
        put32(segment, tcp::SEQUENCE, sequence);
        if i > 0 {
            segment[tcp::FLAGS] &= !tcp::CWR;
        }
        if !last {
            segment[tcp::FLAGS] &= !(tcp::FIN | tcp::PSH);
        }
        self.write_checksum(tcp::CHECKSUM, segment);
    }

    fn write_udp(&self, segment: &mut [u8]) {
        let len = segment.len() as u16;
        put16(segment, udp::LENGTH, len);
        self.write_checksum(udp::CHECKSUM, segment);
    }

    fn write_checksum(&self, field: usize, segment: &mut [u8]) {
        if let Some(pseudo) = self.pseudo {
            put16(segment, field, 0);
            let sum = pseudo.word(segment.len() as u16).and(Sum::of(segment));
            put16(segment, field, nonzero(sum.complement()));
        }
    }
}

/// The pseudo-header's sum without the length, for the checksums of segments; `None` for UDP that has none.
fn pseudo_header(frame: &Frame, network: &Network) -> Result<Option<Sum>, DropReason> {
    let bytes = frame.bytes();
    let l4 = usize::from(network.l4_offset);
    let offset = field_offset(network.proto).ok_or(DropReason::Unsegmentable)?;
    let field = be16(bytes, l4 + usize::from(offset));
    let partial = frame.meta.csum == ChecksumState::Partial { start: network.l4_offset, offset };
    if network.routed {
        // Only its sender knows the destination that the checksum covers: it is in the unfinished sum.
        let len = (network.end - l4) as u16;
        return if partial {
            Ok(Some(Sum::default().word(field).without(len)))
        } else {
            Err(DropReason::Unsegmentable)
        };
    }
    let none = network.proto == udp::PROTOCOL && network.version == IpVersion::V4 && field == 0 && !partial;
    Ok((!none).then(|| network.pseudo_header(bytes)))
}
