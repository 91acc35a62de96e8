//! Putting TCP segments together again: what arrives from a tunnel as a run of datagrams leaves as one super-frame.
//!
//! The rules are those of the kernel's GRO: segments of one flow with the same headers and consecutive sequence numbers,
//! of equal size except the last, until FIN, PSH or a shorter segment ends the run. What is merged can be cut again
//! into the same segments. IP options, IPv6 extension headers, fragments, SYN, RST and URG are never merged.
//!
//! A merged frame carries an unfinished checksum, which would hide an error on the way here: so every segment's checksums
//! are verified before it is merged, and a segment with a wrong one stays as it came, for its receiver to refuse.
//!
//! Merging is done inside the buffer that the segments arrived in: payload moves towards the front over the headers
//! that are no longer needed. The first segment's header is the template; a later header is not parsed but compared
//! with it, all of it except lengths, checksums, identification and sequence number.

use super::checksum::partial_state;
use crate::packet::{ChecksumState, Frame, Gso, GsoKind};
use crate::types::L3Mtu;
use crate::wire::checksum::Sum;
use crate::wire::parse::{Headers, IpVersion, Network, parse};
use crate::wire::{be16, be32, ethernet, ipv4, ipv6, put16, tcp};
use std::ops::Range;

/// The largest IP packet that a merge makes: what an IPv4 total length can say.
const MAX_PACKET: usize = 65_535;
/// The segment size for a super-frame whose own is not known, where no MTU is known either.
const USUAL_MTU: usize = 1500;

/// A frame in a buffer that later frames in the same buffer may be merged into.
#[derive(Debug)]
pub(crate) struct Merge {
    /// Where the frame lies in the buffer.
    range: Range<usize>,
    /// How many frames it is made of; more than one only with `flow`.
    count: u32,
    /// `None`: nothing can be merged into this frame.
    flow: Option<Flow>,
}

/// What is known of the segments merged so far. Offsets count from the start of the frame.
#[derive(Debug)]
struct Flow {
    /// Of the first segment, but its end grows with every segment.
    network: Network,
    header_len: usize,
    /// Payload bytes of every segment but the last.
    size: usize,
    next_sequence: u32,
    /// The pseudo-header's sum without the length, as soon as the first segment's checksums have been verified.
    pseudo: Option<Sum>,
    /// The last segment has been seen.
    ended: bool,
}

/// What came of a [`Merge`].
#[derive(Debug)]
pub(crate) struct Merged {
    /// Where the frame lies in the buffer.
    pub(crate) range: Range<usize>,
    /// How many frames it stands for.
    pub(crate) count: u32,
    /// The state of its checksum.
    pub(crate) csum: ChecksumState,
    /// Set when it stands for more than one.
    pub(crate) gso: Option<Gso>,
}

impl Merge {
    /// Begins with the frame at `range` in `buf`.
    pub(crate) fn begin(buf: &[u8], range: Range<usize>) -> Self {
        Self { flow: Flow::of(&buf[range.clone()]), range, count: 1 }
    }

    /// Merges the frame at `next`, which lies after everything merged before, or returns `false` and changes no byte.
    pub(crate) fn append(&mut self, buf: &mut [u8], next: Range<usize>) -> bool {
        let Some(flow) = self.flow.as_mut().filter(|flow| !flow.ended) else { return false };
        let (first, segment) = (&buf[self.range.clone()], &buf[next.clone()]);
        let Some(payload) = flow.continues(first, segment, self.count) else { return false };
        if flow.pseudo.is_none() && !flow.verify_first(first) {
            self.flow = None;
            return false;
        }
        if !flow.verify(&segment[..payload.end]) {
            return false;
        }
        let flags = segment[usize::from(flow.network.l4_offset) + tcp::FLAGS] & (tcp::FIN | tcp::PSH);
        buf[self.range.start + usize::from(flow.network.l4_offset) + tcp::FLAGS] |= flags;
        let tail = self.range.start + flow.network.end;
        buf.copy_within(next.start + payload.start..next.start + payload.end, tail);
        flow.network.end += payload.len();
        flow.next_sequence = flow.next_sequence.wrapping_add(payload.len() as u32);
        flow.ended = flags != 0 || payload.len() < flow.size;
        self.range.end = self.range.start + flow.network.end;
        self.count += 1;
        true
    }

    /// Ends the merge: what stands for several segments gets the headers of a super-frame.
    pub(crate) fn finish(self, buf: &mut [u8]) -> Merged {
        let Self { range, count, flow } = self;
        let (csum, gso) = match flow.filter(|_| count > 1) {
            Some(flow) => {
                let frame = &mut buf[range.clone()];
                let ecn = frame[usize::from(flow.network.l4_offset) + tcp::FLAGS] & tcp::CWR != 0;
                write_packet_len(frame, &flow.network);
                become_super_frame(frame, &flow.network, flow.header_len, flow.size, ecn)
            }
            None => (ChecksumState::None, None),
        };
        Merged { range, count, csum, gso }
    }
}

impl Flow {
    /// What may follow `frame`; `None` when nothing may.
    fn of(frame: &[u8]) -> Option<Self> {
        let network = parse(frame).ok()?.network(frame).filter(|network| network.proto == tcp::PROTOCOL)?;
        let header_len = network.header_len(frame)?;
        let plain_header = match network.version {
            IpVersion::V4 => ipv4::MIN_HEADER_LEN,
            IpVersion::V6 => ipv6::HEADER_LEN,
        };
        let l4 = usize::from(network.l4_offset);
        let flags = frame[l4 + tcp::FLAGS] & !(tcp::ECE | tcp::CWR);
        let size = network.end - header_len;
        if network.l4_offset - network.l3_offset != plain_header as u16 || flags != tcp::ACK || size == 0 {
            return None;
        }
        let next_sequence = be32(frame, l4 + tcp::SEQUENCE).wrapping_add(size as u32);
        Some(Self { network, header_len, size, next_sequence, pseudo: None, ended: false })
    }

    /// Where the payload of `segment` is, if that is the next segment by its headers; `first` holds the first one's
    /// header. Checksums are not looked at.
    fn continues(&self, first: &[u8], segment: &[u8], count: u32) -> Option<Range<usize>> {
        if segment.len() <= self.header_len {
            return None;
        }
        let l3 = usize::from(self.network.l3_offset);
        let l4 = usize::from(self.network.l4_offset);
        let same = |range: Range<usize>| first[range.clone()] == segment[range];
        let (packet_len, same_ip) = match self.network.version {
            IpVersion::V4 => {
                let id = be16(first, l3 + ipv4::ID).wrapping_add(count as u16);
                (
                    usize::from(be16(segment, l3 + ipv4::TOTAL_LEN)),
                    // Addresses and ports are compared in one piece.
                    same(0..l3 + ipv4::TOTAL_LEN)
                        && same(l3 + ipv4::FRAGMENT..l3 + ipv4::CHECKSUM)
                        && same(l3 + ipv4::SOURCE..l4 + tcp::SEQUENCE)
                        // The identification of a packet that nobody may fragment means nothing (RFC 6864 §4.1).
                        && (self.network.dont_fragment || id == be16(segment, l3 + ipv4::ID)),
                )
            }
            IpVersion::V6 => (
                usize::from(be16(segment, l3 + ipv6::PAYLOAD_LEN)) + ipv6::HEADER_LEN,
                same(0..l3 + ipv6::PAYLOAD_LEN) && same(l3 + ipv6::NEXT_HEADER..l4 + tcp::SEQUENCE),
            ),
        };
        let same_tcp = same(l4 + tcp::ACKNOWLEDGEMENT..l4 + tcp::FLAGS)
            && segment[l4 + tcp::FLAGS] & !(tcp::FIN | tcp::PSH) == first[l4 + tcp::FLAGS] & !tcp::CWR
            && same(l4 + tcp::WINDOW..l4 + tcp::CHECKSUM)
            && same(l4 + tcp::URGENT..self.header_len)
            && be32(segment, l4 + tcp::SEQUENCE) == self.next_sequence;
        let end = l3 + packet_len;
        if !same_ip || !same_tcp || end > segment.len() || end <= self.header_len {
            return None;
        }
        let payload = self.header_len..end;
        (payload.len() <= self.size && self.network.packet_len() + payload.len() <= MAX_PACKET).then_some(payload)
    }

    /// Verifies the checksums of the first segment, whose frame is `first`.
    fn verify_first(&mut self, first: &[u8]) -> bool {
        self.pseudo = Some(self.network.pseudo_header(first));
        self.verify(&first[..self.network.end])
    }

    /// Verifies the checksums of a segment of the flow, from its Ethernet header to the end of its payload.
    fn verify(&self, segment: &[u8]) -> bool {
        let (l3, l4) = (usize::from(self.network.l3_offset), usize::from(self.network.l4_offset));
        let (header, segment) = (&segment[l3..l4], &segment[l4..]);
        (self.network.version == IpVersion::V6 || Sum::of(header).verifies())
            && self.pseudo.is_some_and(|sum| sum.word(segment.len() as u16).and(Sum::of(segment)).verifies())
    }
}

/// Stores the length of the IP packet in its header.
fn write_packet_len(frame: &mut [u8], network: &Network) {
    let l3 = usize::from(network.l3_offset);
    match network.version {
        IpVersion::V4 => {
            put16(frame, l3 + ipv4::TOTAL_LEN, network.packet_len() as u16);
            ipv4::fill_checksum(&mut frame[l3..network.l4_offset.into()]);
        }
        IpVersion::V6 => put16(frame, l3 + ipv6::PAYLOAD_LEN, (network.packet_len() - ipv6::HEADER_LEN) as u16),
    }
}

/// Leaves the pseudo-header's sum in the checksum field of a TCP frame; the metadata that says so.
fn become_super_frame(
    frame: &mut [u8],
    network: &Network,
    header_len: usize,
    size: usize,
    ecn: bool,
) -> (ChecksumState, Option<Gso>) {
    let l4 = usize::from(network.l4_offset);
    let sum = network.pseudo_header(frame).word((network.end - l4) as u16).fold();
    put16(frame, l4 + tcp::CHECKSUM, sum);
    let kind = match network.version {
        IpVersion::V4 => GsoKind::TcpV4,
        IpVersion::V6 => GsoKind::TcpV6,
    };
    let csum = ChecksumState::Partial { start: network.l4_offset, offset: tcp::CHECKSUM as u16 };
    (csum, Some(Gso { kind, size: size as u16, header_len: header_len as u16, ecn }))
}

/// Finds out what a frame from a tunnel is still owed, after its port, and so the tunnel's `mtu`, is known.
///
/// A kernel tunnel device on the same machine, with no network card in between, sends frames as its own senders left
/// them: checksums unfinished, and TCP super-frames whole. Such a frame is marked as what it is. The size of its
/// segments is lost; it gets the one that fits the tunnel, as does any single TCP segment that is too long for it.
pub fn adopt(frame: &mut Frame, headers: &Headers, mtu: Option<L3Mtu>) {
    if frame.meta.gso.is_some() || frame.meta.csum != ChecksumState::None {
        return;
    }
    let Some(network) = headers.network(frame.bytes()) else { return };
    let partial = partial_state(frame.bytes(), &network);
    if let Some(csum) = partial {
        frame.set_len(network.end);
        frame.meta.csum = csum;
    }
    let limit = ethernet::HEADER_LEN + mtu.map_or(USUAL_MTU, |mtu| mtu.0 as usize);
    if network.proto == tcp::PROTOCOL && network.end > limit {
        adopt_long(frame, &network, limit, partial.is_some());
    }
}

/// Marks a TCP frame that is longer than `limit` as a super-frame, if its headers and its checksum allow it.
fn adopt_long(frame: &mut Frame, network: &Network, limit: usize, partial: bool) {
    let l4 = usize::from(network.l4_offset);
    let Some(header_len) = network.header_len(frame.bytes()) else { return };
    let header = &frame.bytes()[l4..header_len];
    let size = limit.saturating_sub(header_len);
    if size == 0 || network.routed || !tcp::is_repeatable(header) {
        return;
    }
    let ecn = header[tcp::FLAGS] & tcp::CWR != 0;
    let segment = &frame.bytes()[l4..network.end];
    let sum = network.pseudo_header(frame.bytes()).word(segment.len() as u16).and(Sum::of(segment));
    if partial || sum.verifies() {
        frame.set_len(network.end);
        let bytes = frame.bytes_mut();
        (frame.meta.csum, frame.meta.gso) = become_super_frame(bytes, network, header_len, size, ecn);
    }
}
