//! Putting TCP segments together again: what arrives one by one, by a tunnel or by AF_XDP, leaves as one super-frame.
//!
//! The rules are those of the kernel's GRO: segments of one flow with the same headers and consecutive sequence numbers,
//! of equal size except the last, until FIN, PSH or a shorter segment ends the run. What is merged can be cut again
//! into the same segments. IP options, IPv6 extension headers, fragments, SYN, RST and URG are never merged.
//!
//! A merged frame carries an unfinished checksum, which would hide an error on the way here: so every segment's checksums
//! are verified before it is merged, and a segment with a wrong one stays as it came, for its receiver to refuse. One that
//! came unfinished, or verified by a device, says so in its metadata and is not summed up.
//!
//! Merging is done inside the buffer that the first segment arrived in: payload moves towards the front over the headers
//! that are no longer needed, and what arrived in another buffer is appended. The first segment's header is the template;
//! a later header is not parsed but compared with it, all of it except lengths, checksums, identification and sequence
//! number.

use super::checksum::{self, partial_state};
use crate::packet::{ChecksumState, Frame, Gso, GsoKind, Pool};
use crate::types::L3Mtu;
use crate::wire::checksum::Sum;
use crate::wire::parse::{Headers, IpVersion, Network, parse};
use crate::wire::plain::{PlainIpv4, may_follow};
use crate::wire::{be16, be32, ethernet, ipv4, ipv6, put16, tcp, vlan};
use std::ops::Range;

/// The largest IP packet that a merge makes: what an IPv4 total length can say.
const MAX_PACKET: usize = 65_535;
/// The segment size for a super-frame whose own is not known, where no MTU is known either.
const USUAL_MTU: usize = 1500;
/// A frame of fewer bytes goes as fast by itself.
pub(crate) const WORTH_MERGING: usize = 256;

/// A frame in a buffer that later frames, of the same buffer or of others, may be merged into.
#[derive(Debug)]
pub(crate) struct Merge {
    /// Where the frame lies in the buffer.
    range: Range<usize>,
    /// How many frames it is made of; more than one only with a [`Flow`].
    count: u32,
    /// What is known of the first one's checksum.
    csum: ChecksumState,
    next: Next,
}

/// What can be merged into a frame.
#[derive(Debug)]
enum Next {
    /// It has not been looked at yet: nothing may come after it.
    Unread,
    /// Nothing.
    Nothing,
    /// The next segment of a flow.
    Segment(Flow),
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

/// What a segment adds to those before it.
struct Part {
    /// Where its payload is in its frame,
    payload: Range<usize>,
    /// where that goes in the buffer of those before,
    tail: usize,
    /// and which of FIN and PSH it has.
    flags: u8,
}

impl Merge {
    /// Begins with the frame at `range` of a buffer.
    #[inline]
    pub(crate) const fn begin(range: Range<usize>) -> Self {
        Self { range, count: 1, csum: ChecksumState::None, next: Next::Unread }
    }

    /// Begins with a whole frame.
    #[inline]
    pub(crate) fn of(frame: &Frame) -> Self {
        Self { csum: frame.meta.csum, ..Self::begin(0..frame.len()) }
    }

    /// Merges the frame at `next`, which lies after everything merged before, or returns `false` and changes no byte.
    pub(crate) fn append(&mut self, buf: &mut [u8], next: Range<usize>) -> bool {
        let (first, segment) = (&buf[self.range.clone()], &buf[next.clone()]);
        let Some(part) = self.accept(first, segment, ChecksumState::None) else { return false };
        buf.copy_within(next.start + part.payload.start..next.start + part.payload.end, part.tail);
        self.take_over(buf, &part);
        true
    }

    /// Merges a frame of another buffer into `frame`, whose bytes are the buffer so far and grow where they end too soon, or
    /// returns `false` and changes no byte.
    pub(crate) fn append_from(&mut self, frame: &mut Frame, next: &[u8]) -> bool {
        let first = &frame.bytes()[self.range.clone()];
        self.accept(first, next, ChecksumState::None).is_some_and(|part| self.copy(frame, next, &part))
    }

    /// The same for a frame `next` of which more is known. `frame` gets memory with room for the largest where its own is
    /// too small.
    pub(crate) fn append_frame(&mut self, frame: &mut Frame, next: &Frame, pool: &mut Pool) -> bool {
        let first = &frame.bytes()[self.range.clone()];
        let Some(part) = self.accept(first, next.bytes(), next.meta.csum) else { return false };
        if part.tail + part.payload.len() > frame.len() + frame.tailroom() {
            pool.enlarge(frame);
        }
        self.copy(frame, next.bytes(), &part)
    }

    /// Copies the payload of `next` behind that of those before, if there is room.
    fn copy(&mut self, frame: &mut Frame, next: &[u8], part: &Part) -> bool {
        let (len, end) = (frame.len(), part.tail + part.payload.len());
        if end > len + frame.tailroom() {
            return false;
        }
        frame.set_len(len.max(end));
        frame.bytes_mut()[part.tail..end].copy_from_slice(&next[part.payload.clone()]);
        self.take_over(frame.bytes_mut(), part);
        true
    }

    /// Whether a segment may be the one that follows what was merged before, which begins with `first`; for nearly all that
    /// are not, the look at a few bytes that says so.
    #[inline]
    pub(crate) fn may_be_followed_by(&self, first: &[u8], segment: &[u8]) -> bool {
        match self.next {
            Next::Unread => may_follow(first, segment),
            Next::Nothing => false,
            Next::Segment(_) => true,
        }
    }

    /// What is to be merged of `segment`, of whose checksum `csum` is known, if that follows what was merged before, which
    /// begins with `first`.
    fn accept(&mut self, first: &[u8], segment: &[u8], csum: ChecksumState) -> Option<Part> {
        if !self.may_be_followed_by(first, segment) {
            return None;
        }
        if let Next::Unread = self.next {
            self.next = Next::after(first);
        }
        let Next::Segment(flow) = &mut self.next else { return None };
        let payload = flow.continues(first, segment, self.count)?;
        if flow.pseudo.is_none() && !flow.verify_first(first, self.csum) {
            self.next = Next::Nothing;
            return None;
        }
        let flags = segment[usize::from(flow.network.l4_offset) + tcp::FLAGS] & (tcp::FIN | tcp::PSH);
        let tail = self.range.start + flow.network.end;
        flow.verify(&segment[..payload.end], csum).then_some(Part { payload, tail, flags })
    }

    /// Counts a segment in whose payload has come to the tail of what was merged before.
    fn take_over(&mut self, buf: &mut [u8], part: &Part) {
        let Next::Segment(flow) = &mut self.next else { return };
        buf[self.range.start + usize::from(flow.network.l4_offset) + tcp::FLAGS] |= part.flags;
        flow.network.end += part.payload.len();
        flow.next_sequence = flow.next_sequence.wrapping_add(part.payload.len() as u32);
        flow.ended = part.flags != 0 || part.payload.len() < flow.size;
        self.range.end = self.range.start + flow.network.end;
        self.count += 1;
    }

    /// Ends the merge: `frame`, whose bytes are the buffer, becomes what was merged, and gets the headers of a super-frame
    /// where that stands for several segments. How many frames it stands for.
    #[inline]
    pub(crate) fn finish(&self, frame: &mut Frame) -> u32 {
        frame.set_len(self.range.end);
        frame.pop_front(self.range.start);
        if self.count > 1 {
            self.finish_headers(frame);
        }
        self.count
    }

    /// Gives the frame the headers of a super-frame.
    fn finish_headers(&self, frame: &mut Frame) {
        if let Next::Segment(flow) = &self.next {
            let bytes = frame.bytes_mut();
            let ecn = bytes[usize::from(flow.network.l4_offset) + tcp::FLAGS] & tcp::CWR != 0;
            write_packet_len(bytes, &flow.network);
            let (csum, gso) = become_super_frame(bytes, &flow.network, flow.header_len, flow.size, ecn);
            (frame.meta.csum, frame.meta.gso) = (csum, gso);
        }
    }

    /// Where the frame lies in the buffer.
    #[inline]
    pub(crate) fn range(&self) -> Range<usize> {
        self.range.clone()
    }
}

impl Next {
    /// What may follow `frame`.
    #[inline]
    fn after(frame: &[u8]) -> Self {
        let Ok(headers) = parse(frame) else { return Self::Nothing };
        let Some(network) = headers.network(frame) else { return Self::Nothing };
        if network.proto != tcp::PROTOCOL {
            return Self::Nothing;
        }
        let Some(header_len) = network.header_len(frame) else { return Self::Nothing };
        let plain_header = match network.version {
            IpVersion::V4 => ipv4::MIN_HEADER_LEN,
            IpVersion::V6 => ipv6::HEADER_LEN,
        };
        let l4 = usize::from(network.l4_offset);
        let flags = frame[l4 + tcp::FLAGS] & !(tcp::ECE | tcp::CWR);
        let size = network.end - header_len;
        if network.l4_offset - network.l3_offset != plain_header as u16 || flags != tcp::ACK || size == 0 {
            return Self::Nothing;
        }
        let next_sequence = be32(frame, l4 + tcp::SEQUENCE).wrapping_add(size as u32);
        Self::Segment(Flow { network, header_len, size, next_sequence, pseudo: None, ended: false })
    }
}

impl Flow {
    /// Where the payload of `segment` is, if that is the next segment by its headers; `first` holds the first one's
    /// header. Checksums are not looked at.
    fn continues(&self, first: &[u8], segment: &[u8], count: u32) -> Option<Range<usize>> {
        let l3 = usize::from(self.network.l3_offset);
        let l4 = usize::from(self.network.l4_offset);
        // First what most frames of other flows differ in.
        if self.ended || segment.len() <= self.header_len || be32(segment, l4 + tcp::SEQUENCE) != self.next_sequence {
            return None;
        }
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
            && same(l4 + tcp::URGENT..self.header_len);
        let end = l3 + packet_len;
        if !same_ip || !same_tcp || end > segment.len() || end <= self.header_len {
            return None;
        }
        let payload = self.header_len..end;
        (payload.len() <= self.size && self.network.packet_len() + payload.len() <= MAX_PACKET).then_some(payload)
    }

    /// Verifies the checksums of the first segment, whose frame is `first`.
    fn verify_first(&mut self, first: &[u8], csum: ChecksumState) -> bool {
        self.pseudo = Some(self.network.pseudo_header(first));
        self.verify(&first[..self.network.end], csum)
    }

    /// Verifies the checksums of a segment of the flow, from its Ethernet header to the end of its payload. Of TCP's nothing
    /// can be wrong yet where it is unfinished.
    fn verify(&self, segment: &[u8], csum: ChecksumState) -> bool {
        let (l3, l4) = (usize::from(self.network.l3_offset), usize::from(self.network.l4_offset));
        let (header, segment) = (&segment[l3..l4], &segment[l4..]);
        let unfinished = ChecksumState::Partial { start: self.network.l4_offset, offset: tcp::CHECKSUM as u16 };
        let right = csum == ChecksumState::Valid
            || csum == unfinished
            || self.pseudo.is_some_and(|sum| sum.word(segment.len() as u16).and(Sum::of(segment)).verifies());
        right && (self.network.version == IpVersion::V6 || Sum::of(header).verifies())
    }
}

/// Whether segments may follow `frame` that are worth merging into it, at a glance: it is long, and TCP.
#[inline]
pub(crate) fn may_lead(frame: &Frame) -> bool {
    if frame.len() < WORTH_MERGING || frame.meta.gso.is_some() {
        return false;
    }
    let bytes = frame.bytes();
    let tag = if be16(bytes, ethernet::ETHERTYPE) == vlan::CUSTOMER { vlan::TAG_LEN } else { 0 };
    let packet = &bytes[ethernet::HEADER_LEN + tag..];
    let proto = match be16(bytes, ethernet::ETHERTYPE + tag) {
        ethernet::IPV4 => packet[ipv4::PROTOCOL],
        ethernet::IPV6 => packet[ipv6::NEXT_HEADER],
        _ => return false,
    };
    proto == tcp::PROTOCOL
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
#[inline]
pub fn adopt(frame: &mut Frame, headers: &Headers, mtu: Option<L3Mtu>) {
    if is_known(frame) {
        return;
    }
    let limit = longest(mtu);
    if frame.len() > limit || checksum::looks_partial(frame.bytes(), headers) {
        adopt_unfinished(frame, headers, limit);
    }
}

/// Whether [`adopt`] leaves a frame that is this packet as it is.
#[inline]
#[must_use]
pub fn leaves_alone(frame: &Frame, packet: &PlainIpv4<'_>, mtu: Option<L3Mtu>) -> bool {
    is_known(frame) || frame.len() <= longest(mtu) && !packet.looks_partial()
}

/// Whether it has been said of a frame what it is owed.
#[inline]
fn is_known(frame: &Frame) -> bool {
    frame.meta.gso.is_some() || frame.meta.csum != ChecksumState::None
}

/// The longest frame that a single packet may be in.
#[inline]
fn longest(mtu: Option<L3Mtu>) -> usize {
    ethernet::HEADER_LEN + mtu.map_or(USUAL_MTU, |mtu| mtu.0 as usize)
}

fn adopt_unfinished(frame: &mut Frame, headers: &Headers, limit: usize) {
    let Some(network) = headers.network(frame.bytes()) else { return };
    if let Some(csum) = partial_state(frame.bytes(), &network) {
        frame.set_len(network.end);
        frame.meta.csum = csum;
    }
    if network.end > limit {
        become_long(frame, &network, limit);
    }
}

/// Marks a TCP frame that is longer than `limit` as a super-frame of segments that are not, if its headers and its checksum
/// allow it; whether they do.
pub(crate) fn become_long(frame: &mut Frame, network: &Network, limit: usize) -> bool {
    let l4 = usize::from(network.l4_offset);
    let Some(header_len) = network.header_len(frame.bytes()).filter(|_| network.proto == tcp::PROTOCOL) else {
        return false;
    };
    let header = &frame.bytes()[l4..header_len];
    let size = limit.saturating_sub(header_len);
    if size == 0 || network.routed || !tcp::is_repeatable(header) {
        return false;
    }
    let ecn = header[tcp::FLAGS] & tcp::CWR != 0;
    let verified = || {
        let segment = &frame.bytes()[l4..network.end];
        network.pseudo_header(frame.bytes()).word(segment.len() as u16).and(Sum::of(segment)).verifies()
    };
    let right = frame.meta.csum != ChecksumState::None || verified();
    if right {
        frame.set_len(network.end);
        let bytes = frame.bytes_mut();
        (frame.meta.csum, frame.meta.gso) = become_super_frame(bytes, network, header_len, size, ecn);
    }
    right
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Meta, Pool};
    use crate::wire::fixtures::{Packet, verified};
    use etherparse::Ipv6FlowLabel;
    use proptest::prelude::*;

    /// Merges frames as a tunnel does; frames, and how many each stands for. It is the same whether they lie one after the
    /// other in a buffer or each in its own.
    fn coalesced(frames: &[Vec<u8>]) -> Vec<(Frame, u32)> {
        let (together, apart) = (coalesced_in_one(frames), coalesced_from_many(frames));
        let seen = |(frame, count): &(Frame, u32)| (frame.bytes().to_vec(), frame.meta, *count);
        assert_eq!(together.iter().map(seen).collect::<Vec<_>>(), apart.iter().map(seen).collect::<Vec<_>>());
        together
    }

    fn coalesced_in_one(frames: &[Vec<u8>]) -> Vec<(Frame, u32)> {
        let mut buf = frames.concat();
        let mut merges: Vec<Merge> = Vec::new();
        let mut at = 0;
        for frame in frames {
            let range = at..at + frame.len();
            at = range.end;
            if !merges.last_mut().is_some_and(|merge| merge.append(&mut buf, range.clone())) {
                merges.push(Merge::begin(range));
            }
        }
        let finish = |merge: Merge| {
            let mut frame = Frame::from_bytes(&buf);
            let count = merge.finish(&mut frame);
            (frame, count)
        };
        merges.into_iter().map(finish).collect()
    }

    /// Every frame is between other bytes, as the tunnel's header before it and what is left of a run behind it.
    fn coalesced_from_many(frames: &[Vec<u8>]) -> Vec<(Frame, u32)> {
        let mut merges: Vec<(Frame, Merge)> = Vec::new();
        for bytes in frames {
            if !merges.last_mut().is_some_and(|(buf, merge)| merge.append_from(buf, bytes)) {
                let mut buf = Pool::new(0).alloc();
                buf.set_len(8 + bytes.len() + 20);
                buf.bytes_mut()[8..8 + bytes.len()].copy_from_slice(bytes);
                merges.push((buf, Merge::begin(8..8 + bytes.len())));
            }
        }
        let finish = |(mut frame, merge): (Frame, Merge)| {
            let count = merge.finish(&mut frame);
            (frame, count)
        };
        merges.into_iter().map(finish).collect()
    }

    /// How many frames each outgoing frame stands for.
    fn counts(packets: &[Packet]) -> Vec<u32> {
        let frames: Vec<_> = packets.iter().map(Packet::bytes).collect();
        coalesced(&frames).into_iter().map(|(_, count)| count).collect()
    }

    /// The segment after `packet` in its flow, with `len` bytes.
    fn next(packet: &Packet, len: usize) -> Packet {
        let mut next = packet.clone();
        let sent = packet.payload.len() as u32;
        next.tcp().sequence_number = next.tcp().sequence_number.wrapping_add(sent);
        next.payload.resize(len, 7);
        if let etherparse::IpHeaders::Ipv4(header, _) = &mut next.net {
            header.identification = header.identification.wrapping_add(1);
        }
        next
    }

    /// The segments of a super-frame, as the far end of a tunnel cuts it.
    fn segments(frame: Frame) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        super::super::gso::segment(frame, None, &mut Pool::new(1), &mut out).unwrap();
        out.iter().map(|frame| frame.bytes().to_vec()).collect()
    }

    #[test]
    fn a_cut_super_frame_becomes_the_same_super_frame() {
        let mut flags = Packet::tcp4(5000);
        let header = flags.tcp();
        (header.psh, header.fin, header.cwr, header.ece) = (true, true, true, true);
        let mut fragmentable = Packet::tcp4(4500).tagged(9);
        fragmentable.ipv4().dont_fragment = false;
        for packet in [flags, fragmentable, Packet::tcp6(4501), Packet::tcp6(65_400)] {
            let sent = packet.super_frame(1000);
            let parts = segments(packet.super_frame(1000));
            let merged = coalesced(&parts);
            assert_eq!(merged.len(), 1);
            assert_eq!(merged[0].1 as usize, parts.len());
            assert_eq!(merged[0].0.bytes(), sent.bytes());
            assert_eq!(merged[0].0.meta, sent.meta);
        }
    }

    /// Merges frames of which more is known than their bytes, as the way out does.
    fn gathered(frames: impl IntoIterator<Item = Frame>) -> Vec<(Frame, u32)> {
        let (mut merges, mut pool) = (Vec::<(Frame, Merge)>::new(), Pool::new(0));
        for frame in frames {
            if !merges.last_mut().is_some_and(|(first, merge)| merge.append_frame(first, &frame, &mut pool)) {
                let merge = Merge::of(&frame);
                merges.push((frame, merge));
            }
        }
        let finish = |(mut frame, merge): (Frame, Merge)| {
            let count = merge.finish(&mut frame);
            (frame, count)
        };
        merges.into_iter().map(finish).collect()
    }

    #[test]
    fn segments_become_a_super_frame_whatever_is_known_of_their_checksums() {
        let unfinished = |packet: &Packet, _| packet.partial();
        let mixed = |packet: &Packet, i| {
            let mut frame = if i % 3 == 0 { packet.partial() } else { packet.frame() };
            if i % 3 == 2 {
                frame.meta.csum = ChecksumState::Valid;
            }
            frame
        };
        for packet in [Packet::tcp4(4500), Packet::tcp6(4501).tagged(9), Packet::tcp4(5000).tagged(3)] {
            let sent = packet.super_frame(1000);
            for state in [unfinished, mixed] {
                let parts = segments(packet.super_frame(1000)).into_iter().enumerate();
                let merged = gathered(parts.map(|(i, bytes)| state(&verified(&bytes), i)));
                assert_eq!((merged.len(), merged[0].1), (1, 5));
                assert_eq!((merged[0].0.bytes(), merged[0].0.meta), (sent.bytes(), sent.meta));
            }
        }
    }

    #[test]
    fn a_checksum_that_is_not_what_it_is_said_to_be_is_left_for_the_receiver_to_find() {
        let first = Packet::tcp4(1000);
        let second = next(&first, 1000);
        let l4 = first.l4() as u16;
        for csum in [
            ChecksumState::None,
            ChecksumState::Partial { start: l4, offset: 6 },
            ChecksumState::Partial { start: l4 - 4, offset: 16 },
        ] {
            for which in 0..2 {
                let mut frames = [first.partial(), second.partial()];
                frames[which].meta.csum = csum;
                let before: Vec<_> = frames.iter().map(|frame| (frame.bytes().to_vec(), frame.meta)).collect();
                let merged = gathered(frames);
                let after: Vec<_> = merged.iter().map(|(frame, _)| (frame.bytes().to_vec(), frame.meta)).collect();
                assert_eq!(after, before, "{csum:?}");
            }
        }
        let mut frames = [first.partial(), second.partial()];
        frames[1].bytes_mut()[14 + ipv4::CHECKSUM] ^= 1;
        assert_eq!(gathered(frames).len(), 2, "a device does not finish the checksum of IPv4's header");
    }

    #[test]
    fn only_long_frames_of_tcp_are_worth_looking_at() {
        let tagged_twice = {
            let mut frame = Packet::tcp4(1000).tagged(3).frame();
            assert!(frame.push_vlan(0x88a8, 5));
            frame
        };
        for (frame, expected) in [
            (Packet::tcp4(1000).frame(), true),
            (Packet::tcp6(1000).tagged(3).partial(), true),
            (Packet::tcp4(100).frame(), false),
            (Packet::tcp4(1000).udp().frame(), false),
            (Packet::tcp6(1000).udp().frame(), false),
            (Packet::tcp4(3000).super_frame(1000), false),
            (tagged_twice, false),
            (Frame::from_bytes(&[8; WORTH_MERGING]), false),
        ] {
            assert_eq!(may_lead(&frame), expected, "{:?}", frame.bytes());
        }
    }

    #[test]
    fn a_single_frame_stays_as_it_is() {
        let mut padded = Packet::tcp4(1).bytes();
        padded.extend_from_slice(&[0; 9]);
        let merged = coalesced(std::slice::from_ref(&padded));
        assert_eq!((merged[0].0.bytes(), merged[0].0.meta, merged[0].1), (&padded[..], Meta::default(), 1));
    }

    #[test]
    fn a_short_segment_or_psh_or_fin_is_the_last() {
        let first = Packet::tcp4(100);
        let second = next(&first, 99);
        assert_eq!(counts(&[first.clone(), second.clone(), next(&second, 99)]), [2, 1]);
        for flag in [|tcp: &mut etherparse::TcpHeader| tcp.psh = true, |tcp: &mut etherparse::TcpHeader| tcp.fin = true]
        {
            let (mut second, mut third) = (next(&first, 100), next(&next(&first, 100), 100));
            flag(second.tcp());
            assert_eq!(counts(&[first.clone(), second, third.clone()]), [2, 1]);
            flag(third.tcp());
            assert_eq!(counts(&[first.clone(), next(&first, 100), third]), [3]);
            let mut ended = first.clone();
            flag(ended.tcp());
            assert_eq!(counts(&[ended.clone(), next(&first, 100)]), [1, 1], "the first is the last already");
        }
    }

    #[test]
    fn padding_is_no_data() {
        let (first, second) = (Packet::tcp4(6), next(&Packet::tcp4(6), 5));
        let mut padded = [first.bytes(), second.bytes()];
        padded.iter_mut().for_each(|frame| frame.extend_from_slice(&[0xee; 13]));
        let (merged, bare) = (coalesced(&padded), coalesced(&[first.bytes(), second.bytes()]));
        assert_eq!(merged[0].1, 2);
        assert_eq!(merged[0].0.bytes(), bare[0].0.bytes());

        let mut acknowledgement = next(&first, 0).bytes();
        acknowledgement.extend_from_slice(&[0; 6]);
        let apart = coalesced(&[first.bytes(), acknowledgement.clone()]);
        assert_eq!(apart[1].0.bytes(), acknowledgement, "a padded ACK carries no data");
    }

    /// A way to make a segment differ from the one before.
    type Change = (&'static str, &'static dyn Fn(&mut Packet));

    #[test]
    fn segments_that_differ_are_not_merged() {
        let different: [Change; 20] = [
            ("VLAN", &|packet| packet.vlan = Some(5)),
            ("source port", &|packet| packet.tcp().source_port += 1),
            ("destination port", &|packet| packet.tcp().destination_port += 1),
            ("sequence number", &|packet| packet.tcp().sequence_number += 1),
            ("acknowledgement", &|packet| packet.tcp().acknowledgment_number += 1),
            ("window", &|packet| packet.tcp().window_size += 1),
            ("timestamp", &|packet| packet.tcp().set_options_raw(&[1, 1, 8, 10, 0, 0, 0, 2, 0, 0, 0, 2]).unwrap()),
            ("no options", &|packet| packet.tcp().set_options_raw(&[]).unwrap()),
            ("NS", &|packet| packet.tcp().ns = true),
            ("ECE", &|packet| packet.tcp().ece = true),
            ("CWR", &|packet| packet.tcp().cwr = true),
            ("SYN", &|packet| packet.tcp().syn = true),
            ("RST", &|packet| packet.tcp().rst = true),
            ("URG", &|packet| packet.tcp().urg = true),
            ("no ACK", &|packet| packet.tcp().ack = false),
            ("urgent pointer", &|packet| packet.tcp().urgent_pointer = 1),
            ("longer", &|packet| packet.payload.push(1)),
            ("empty", &|packet| packet.payload.clear()),
            ("other VLAN", &|packet| packet.vlan = packet.vlan.map(|vlan| vlan + 1).or(Some(0))),
            ("UDP", &|packet| *packet = packet.clone().udp()),
        ];
        for first in [Packet::tcp4(100), Packet::tcp6(100), Packet::tcp4(100).tagged(9)] {
            assert_eq!(counts(&[first.clone(), next(&first, 100)]), [2]);
            for (what, change) in different {
                let mut second = next(&first, 100);
                change(&mut second);
                assert_eq!(counts(&[first.clone(), second]), [1, 1], "{what}");
            }
        }
    }

    #[test]
    fn ip_headers_that_differ_are_not_merged() {
        let different: [Change; 8] = [
            ("TTL", &|packet| packet.ipv4().time_to_live -= 1),
            ("DSCP", &|packet| packet.ipv4().dscp = 8.try_into().unwrap()),
            ("ECN", &|packet| packet.ipv4().ecn = 3.try_into().unwrap()),
            ("DF", &|packet| packet.ipv4().dont_fragment ^= true),
            ("fragment", &|packet| packet.ipv4().more_fragments = true),
            ("source", &|packet| packet.ipv4().source[3] += 1),
            ("destination", &|packet| packet.ipv4().destination[3] += 1),
            ("options", &|packet| packet.ipv4().options = [1, 1, 1, 0].into()),
        ];
        for (what, change) in different {
            let first = Packet::tcp4(100);
            let mut second = next(&first, 100);
            change(&mut second);
            assert_eq!(counts(&[first, second]), [1, 1], "{what}");
        }
        let different: [Change; 4] = [
            ("hop limit", &|packet| packet.ipv6().hop_limit -= 1),
            ("traffic class", &|packet| packet.ipv6().traffic_class = 1),
            ("flow label", &|packet| packet.ipv6().flow_label = Ipv6FlowLabel::ZERO),
            ("source", &|packet| packet.ipv6().source[15] += 9),
        ];
        for (what, change) in different {
            let first = Packet::tcp6(100);
            let mut second = next(&first, 100);
            change(&mut second);
            assert_eq!(counts(&[first, second]), [1, 1], "{what}");
        }
    }

    #[test]
    fn what_is_not_plain_data_begins_no_merge() {
        let changes: [&dyn Fn(&mut Packet); 6] = [
            &|packet| packet.tcp().syn = true,
            &|packet| packet.tcp().rst = true,
            &|packet| packet.tcp().urg = true,
            &|packet| packet.tcp().ack = false,
            &|packet| packet.ipv4().options = [1, 1, 1, 0].into(),
            &|packet| packet.ipv4().more_fragments = true,
        ];
        for change in changes {
            let mut first = Packet::tcp4(100);
            change(&mut first);
            assert_eq!(counts(&[first.clone(), next(&first, 100)]), [1, 1]);
        }
    }

    #[test]
    fn identification_counts_only_where_a_router_may_fragment() {
        for (dont_fragment, expected) in [(true, &[2][..]), (false, &[1, 1])] {
            let mut first = Packet::tcp4(100);
            first.ipv4().dont_fragment = dont_fragment;
            let mut second = next(&first, 100);
            second.ipv4().identification = 5;
            assert_eq!(counts(&[first, second]), expected, "DF {dont_fragment}");
        }
    }

    #[test]
    fn a_wrong_checksum_is_left_for_the_receiver_to_find() {
        let first = Packet::tcp4(100);
        let packets = [first.clone(), next(&first, 100), next(&next(&first, 100), 100)];
        let frames: Vec<_> = packets.iter().map(Packet::bytes).collect();
        // A bit of the first, second and third segment, in the payload, the checksum fields and the TTL.
        for (i, expected) in [(0, &[1, 2][..]), (1, &[1, 1, 1]), (2, &[2, 1])] {
            for at in [100, 24, 14 + 20 + 16] {
                let mut frames = frames.clone();
                frames[i][at] ^= 1;
                let merged = coalesced(&frames);
                assert_eq!(merged.iter().map(|(_, count)| *count).collect::<Vec<_>>(), expected, "{i} {at}");
                let (wrong, _) = merged.iter().find(|(frame, _)| frame.bytes() == frames[i]).unwrap();
                assert_eq!(wrong.meta, Meta::default());
            }
        }
        let mut frames = frames;
        frames.iter_mut().for_each(|frame| frame[22] = 63);
        assert_eq!(coalesced(&frames).len(), 3, "the same TTL in all, the right header checksum in none");
    }

    #[test]
    fn a_merged_packet_is_never_longer_than_ip_can_say() {
        let mut packets = vec![Packet::tcp4(1448)];
        for _ in 1..46 {
            packets.push(next(packets.last().unwrap(), 1448));
        }
        assert_eq!(counts(&packets), [45, 1]);
        let first = Packet::tcp4(65_535 - 20 - 32 - 32_700);
        assert_eq!(counts(&[first.clone(), next(&first, 32_700)]), [2]);
        assert_eq!(counts(&[first.clone(), next(&first, 32_701)]), [1, 1]);
    }

    #[test]
    fn a_buffer_takes_what_it_has_room_for() {
        let first = Packet::tcp4(100);
        let mut buf = first.frame();
        let mut merge = Merge::begin(0..buf.len());
        let room = buf.tailroom();
        assert!(room < 100, "no segment of the flow would be too long for {room} bytes");
        assert!(!merge.append_from(&mut buf, &next(&first, room + 1).bytes()));
        assert_eq!(buf.bytes(), first.bytes());
        assert!(merge.append_from(&mut buf, &next(&first, room).bytes()));
        assert_eq!((buf.len(), buf.tailroom()), (first.bytes().len() + room, 0));
    }

    fn adopted(mut frame: Frame, mtu: Option<u32>) -> Frame {
        frame.meta = Meta::default();
        let headers = parse(frame.bytes()).unwrap();
        let (mtu, before) = (mtu.map(L3Mtu), frame.bytes().to_vec());
        let alone = PlainIpv4::of(&before).map(|packet| leaves_alone(&frame, &packet, mtu));
        adopt(&mut frame, &headers, mtu);
        let same = frame.bytes() == before && frame.meta == Meta::default();
        assert!(alone.is_none_or(|alone| same || !alone), "what is left alone stays as it is");
        frame
    }

    #[test]
    fn a_frame_of_a_kernel_tunnel_is_taken_for_what_it_is() {
        for packet in [Packet::tcp4(30_000), Packet::tcp6(30_000).tagged(4), Packet::tcp4(2)] {
            let frame = adopted(packet.partial(), Some(1450));
            let mut size = 1450 - (packet.header_len() - 14);
            assert_eq!(frame.meta.csum, packet.partial().meta.csum);
            assert_eq!(frame.meta.gso, packet.super_frame(size as u16).meta.gso.filter(|_| packet.payload.len() > 2));
            assert_eq!(frame.bytes(), packet.partial().bytes());
            size = 1500 - (packet.header_len() - 14);
            let frame = adopted(packet.partial(), None);
            assert_eq!(frame.meta.gso, packet.super_frame(size as u16).meta.gso.filter(|_| packet.payload.len() > 2));
        }
        let udp = adopted(Packet::tcp4(9).udp().partial(), Some(1450));
        assert_eq!(udp.meta, Packet::tcp4(9).udp().partial().meta);
    }

    #[test]
    fn a_long_segment_with_a_good_checksum_becomes_a_super_frame_and_with_a_bad_one_not() {
        let packet = Packet::tcp4(5000);
        let frame = adopted(packet.frame(), Some(1450));
        assert_eq!((frame.meta, frame.bytes()), (packet.super_frame(1398).meta, packet.partial().bytes()));
        let mut wrong = packet.frame();
        wrong.bytes_mut()[80] ^= 1;
        let before = wrong.bytes().to_vec();
        let frame = adopted(wrong, Some(1450));
        assert_eq!((frame.meta, frame.bytes()), (Meta::default(), &before[..]));
    }

    #[test]
    fn an_ordinary_frame_is_not_adopted() {
        let mut syn = Packet::tcp4(3000);
        syn.tcp().syn = true;
        for packet in [Packet::tcp4(1398), Packet::tcp6(100).udp(), Packet::tcp4(3000).udp(), syn] {
            assert_eq!(adopted(packet.frame(), Some(1450)).meta, Meta::default());
        }
        assert_eq!(adopted(Packet::tcp4(3000).frame(), Some(20)).meta, Meta::default(), "no room for any payload");
    }

    #[test]
    fn what_is_known_already_is_not_guessed() {
        let mut frame = Packet::tcp4(5000).super_frame(100);
        let (meta, headers) = (frame.meta, parse(frame.bytes()).unwrap());
        adopt(&mut frame, &headers, Some(L3Mtu(1450)));
        assert_eq!(frame.meta, meta);
    }

    #[test]
    fn padding_is_cut_off_before_it_is_summed_up() {
        let packet = Packet::tcp4(2);
        let padded = [packet.partial().bytes(), &[0xee; 9]].concat();
        let mut frame = adopted(Frame::from_bytes(&padded), Some(1450));
        super::super::checksum::finish(&mut frame).unwrap();
        assert_eq!(frame.bytes(), packet.bytes());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_none_are_lost(
            first in 0usize..200,
            sizes in prop::collection::vec(0usize..200, 0..6),
            six in any::<bool>(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut packets = vec![if six { Packet::tcp6(first) } else { Packet::tcp4(first) }];
            for size in sizes {
                packets.push(next(packets.last().unwrap(), size));
            }
            let mut frames: Vec<_> = packets.iter().map(Packet::bytes).collect();
            for (i, at, value) in damage {
                let i = i.index(frames.len());
                let at = at.index(frames[i].len());
                frames[i][at] = value;
            }
            let last = frames.last_mut().unwrap();
            last.truncate(cut.index(last.len() + 1));
            let merged = coalesced(&frames);
            prop_assert_eq!(merged.iter().map(|(_, count)| *count as usize).sum::<usize>(), frames.len());
            // What was merged falls apart into what came; what was not is untouched.
            let mut at = 0;
            for (frame, count) in merged {
                let came = &frames[at..at + count as usize];
                at += count as usize;
                let goes = if count > 1 { segments(frame) } else { vec![frame.bytes().to_vec()] };
                let payload = |frame: &Vec<u8>| -> Vec<u8> {
                    let network = parse(frame).ok().and_then(|headers| headers.network(frame));
                    network.map_or(frame.clone(), |network| frame[network.l4_offset.into()..network.end].to_vec())
                };
                prop_assert_eq!(goes.iter().map(payload).collect::<Vec<_>>(), came.iter().map(payload).collect::<Vec<_>>());
            }
        }

        #[test]
        fn adopting_never_panics(
            bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 14..200),
                (0usize..3000).prop_map(|len| Packet::tcp4(len).partial().bytes().to_vec()),
                (0usize..3000).prop_map(|len| Packet::tcp6(len).frame().bytes().to_vec()),
            ],
            damage in prop::collection::vec((0usize..70, any::<u8>()), 0..3),
            mtu in prop::option::of(0u32..3000),
        ) {
            let mut frame = Frame::from_bytes(&bytes);
            for (at, value) in damage {
                if let Some(byte) = frame.bytes_mut().get_mut(at) {
                    *byte = value;
                }
            }
            if parse(frame.bytes()).is_ok() {
                let frame = adopted(frame, mtu);
                prop_assert!(frame.len() <= bytes.len());
                prop_assert!(frame.meta.gso.is_none_or(|gso| gso.size > 0));
            }
        }
    }
}
