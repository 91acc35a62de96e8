//! Cutting a super-frame, or one TCP segment that is too long for its way, into segments that stand alone.
//!
//! The headers are copied to every segment; changed are the IP length and IPv4 identification, TCP's sequence number and
//! flags (FIN and PSH on the last segment only, CWR on the first only), UDP's length, and the checksums.
//!
//! Headers are read anew: what a vnet header says about them is only a hint of its sender. A frame that is not what its
//! metadata says, a fragment, or a TCP segment whose header cannot be repeated (SYN, RST, URG, a signature) is refused,
//! and so is one that would fall into more than [`MAX_SEGMENTS`], with which a sender could keep the switch busy.

use super::checksum::{self, field_offset, nonzero};
use super::nested;
use crate::packet::frame::MAX_HEADERS;
use crate::packet::{ChecksumState, Frame, Gso, GsoKind, MAX_SEGMENTS, Meta, Pool};
use crate::switch::verdict::DropReason;
use crate::wire::checksum::Sum;
use crate::wire::parse::{IpVersion, Network, parse};
use crate::wire::{be16, be32, ipv4, ipv6, put16, put32, tcp, udp};

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

/// Makes a TCP super-frame one whose segments, headers included, have at most `len` bytes; `false`, with nothing changed:
/// it cannot be cut so.
pub(crate) fn limit_segments(frame: &mut Frame, len: usize) -> bool {
    let (Some(gso), Ok(mut cut)) = (frame.meta.gso, Cut::of(frame)) else { return false };
    if cut.limit_segment_len(len).is_err() || cut.segments().is_err() {
        return false;
    }
    frame.meta.gso = Some(Gso { size: cut.size as u16, header_len: cut.header_len as u16, ..gso });
    true
}

/// Makes the metadata of a super-frame say what its headers say, and takes its padding off, so that it counts as what it
/// will be cut into ([`crate::packet::frame::Body::wire_size`]), wherever that is; how many segments. One, or an error:
/// nothing is changed.
pub(crate) fn settle(frame: &mut Frame) -> Result<u32, DropReason> {
    let cut = Cut::of(frame)?;
    let count = cut.segments()?;
    if cut.header_len > MAX_HEADERS {
        return Err(DropReason::Unsegmentable);
    }
    if let Some(gso) = frame.meta.gso.filter(|_| count > 1) {
        frame.set_len(cut.end());
        frame.meta.gso = Some(Gso { size: cut.size as u16, header_len: cut.header_len as u16, ..gso });
    }
    Ok(count as u32)
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
    /// The packet that carries this one, if it is in a tunnel.
    carrier: Option<Network>,
    /// Bytes of all headers.
    header_len: usize,
    /// Payload bytes of every segment but the last.
    size: usize,
    /// The pseudo-header's sum without the length; `None`: UDP without a checksum.
    pseudo: Option<Sum>,
    /// Whether the headers may stand before more than one segment.
    repeatable: bool,
    /// Whether checksums are left to the device.
    unfinished: bool,
}

impl Cut {
    /// How to cut `frame`: as its metadata says, or, for a TCP frame that is no super-frame, into one piece.
    pub(crate) fn of(frame: &Frame) -> Result<Self, DropReason> {
        let bytes = frame.bytes();
        let outermost = parse(bytes)?.network(bytes).ok_or(DropReason::Unsegmentable)?;
        let (network, carrier) = match frame.meta.gso.map(|gso| gso.kind) {
            Some(GsoKind::Tunnelled) => {
                (nested::inside(&outermost, bytes).ok_or(DropReason::Unsegmentable)?, Some(outermost))
            }
            _ => (outermost, None),
        };
        let header_len = network.header_len(bytes).ok_or(DropReason::Unsegmentable)?;
        let (proto, version) = (network.proto, network.version);
        let (fits, size) = match frame.meta.gso {
            Some(gso) => (
                match gso.kind {
                    GsoKind::TcpV4 => proto == tcp::PROTOCOL && version == IpVersion::V4,
                    GsoKind::TcpV6 => proto == tcp::PROTOCOL && version == IpVersion::V6,
                    GsoKind::Tunnelled => proto == tcp::PROTOCOL,
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
        let pseudo = pseudo_header(frame, &network)?;
        Ok(Self { network, carrier, header_len, size, pseudo, repeatable, unfinished: false })
    }

    /// Leaves the checksums of segments unfinished, with the pseudo-header's sum in their place: the state that they are in.
    pub(crate) fn leave_checksums(&mut self) -> ChecksumState {
        self.unfinished = true;
        match field_offset(self.network.proto).filter(|_| self.pseudo.is_some()) {
            Some(offset) => ChecksumState::Partial { start: self.network.l4_offset, offset },
            None => ChecksumState::None,
        }
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

    /// Bytes of all headers.
    pub(crate) fn header_len(&self) -> usize {
        self.header_len
    }

    /// The state of a TCP frame's checksum that is left to whoever cuts it.
    pub(crate) fn unfinished_tcp(&self) -> ChecksumState {
        ChecksumState::Partial { start: self.network.l4_offset, offset: tcp::CHECKSUM as u16 }
    }

    /// Writes segment `i` of the frame `whole`; `out` is [`Cut::segment_len`] bytes long.
    pub(crate) fn write(&self, whole: &[u8], i: usize, out: &mut [u8]) {
        let from = self.header_len + i * self.size;
        let to = from + out.len() - self.header_len;
        out[..self.header_len].copy_from_slice(&whole[..self.header_len]);
        out[self.header_len..].copy_from_slice(&whole[from..to]);
        self.carrier.iter().for_each(|carrier| write_ip(carrier, i, out));
        write_ip(&self.network, i, out);
        let segment = &mut out[usize::from(self.network.l4_offset)..];
        if self.network.proto == tcp::PROTOCOL {
            self.write_tcp(i, to == self.network.end, segment);
        } else {
            self.write_udp(segment);
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
        let sum = self.checksum(tcp::CHECKSUM, segment).unwrap_or_default();
        put16(segment, tcp::CHECKSUM, sum);
    }

    fn write_udp(&self, segment: &mut [u8]) {
        let len = segment.len() as u16;
        put16(segment, udp::LENGTH, len);
        let sum = self.checksum(udp::CHECKSUM, segment).map_or(0, nonzero);
        put16(segment, udp::CHECKSUM, sum);
    }

    /// The checksum of a segment whose field for it is at `field`.
    fn checksum(&self, field: usize, segment: &mut [u8]) -> Option<u16> {
        put16(segment, field, 0);
        let pseudo = self.pseudo?.word(segment.len() as u16);
        Some(if self.unfinished { pseudo.fold() } else { pseudo.and(Sum::of(segment)).complement() })
    }
}

/// Writes what differs in the IP header of segment `i`.
fn write_ip(network: &Network, i: usize, out: &mut [u8]) {
    let l3 = usize::from(network.l3_offset);
    let packet_len = out.len() - l3;
    match network.version {
        IpVersion::V4 => {
            let header = &mut out[l3..network.l4_offset.into()];
            put16(header, ipv4::TOTAL_LEN, packet_len as u16);
            put16(header, ipv4::ID, be16(header, ipv4::ID).wrapping_add(i as u16));
            ipv4::fill_checksum(header);
        }
        IpVersion::V6 => put16(out, l3 + ipv6::PAYLOAD_LEN, (packet_len - ipv6::HEADER_LEN) as u16),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixtures::{Packet, verified};
    use etherparse::{IpHeaders, TransportHeader};
    use proptest::prelude::*;

    fn cut(frame: Frame, mss: Option<u16>) -> Result<Vec<Frame>, DropReason> {
        let (mut pool, mut out) = (Pool::new(1), Vec::new());
        let count = segment(frame, mss, &mut pool, &mut out)?;
        assert_eq!(count as usize, out.len());
        Ok(out)
    }

    /// Segment `i` of `whole` as its sender would have made it without help of a device.
    fn expected(whole: &Packet, size: usize, i: usize) -> Packet {
        let mut packet = whole.clone();
        let parts: Vec<&[u8]> = whole.payload.chunks(size).collect();
        packet.payload = parts[i].to_vec();
        if let IpHeaders::Ipv4(header, _) = &mut packet.net {
            header.identification = header.identification.wrapping_add(i as u16);
        }
        if let TransportHeader::Tcp(header) = &mut packet.transport {
            header.sequence_number = header.sequence_number.wrapping_add((i * size) as u32);
            header.cwr &= i == 0;
            header.fin &= i + 1 == parts.len();
            header.psh &= i + 1 == parts.len();
        }
        packet
    }

    fn all_flags(mut packet: Packet) -> Packet {
        let header = packet.tcp();
        (header.fin, header.psh, header.cwr, header.ece) = (true, true, true, true);
        packet
    }

    #[test]
    fn segments_are_what_the_sender_would_have_sent() {
        let mut options = Packet::tcp4(5001);
        options.ipv4().options = [1, 1, 1, 0].into();
        options.ipv4().dont_fragment = false;
        for packet in [
            all_flags(Packet::tcp4(5000)),
            all_flags(Packet::tcp6(4999).tagged(7)),
            options,
            Packet::tcp4(5003).udp(),
            Packet::tcp6(5002).udp().tagged(4094),
        ] {
            let mut frame = packet.super_frame(1001);
            frame.meta.egress = crate::types::PortId(9);
            let segments = cut(frame, None).unwrap();
            assert_eq!(segments.len(), 5);
            for (i, segment) in segments.iter().enumerate() {
                assert_eq!(segment.bytes(), expected(&packet, 1001, i).bytes(), "segment {i}");
                verified(segment.bytes());
                let meta = Meta { egress: crate::types::PortId(9), ..Meta::default() };
                assert_eq!(segment.meta, meta);
            }
        }
    }

    #[test]
    fn a_device_is_left_the_checksums_of_segments_that_it_can_finish() {
        for packet in [all_flags(Packet::tcp4(5000)), Packet::tcp6(4999).tagged(7), Packet::tcp4(5003).udp()] {
            let whole = packet.super_frame(1001);
            let mut cut = Cut::of(&whole).unwrap();
            let csum = cut.leave_checksums();
            for i in 0..5 {
                let mut segment = Frame::from_bytes(&vec![0; cut.segment_len(i)]);
                cut.write(whole.bytes(), i, segment.bytes_mut());
                segment.meta.csum = csum;
                let sent = expected(&packet, 1001, i);
                assert_eq!((segment.bytes(), csum), (sent.partial().bytes(), sent.partial().meta.csum), "segment {i}");
                checksum::finish(&mut segment).unwrap();
                assert_eq!(segment.bytes(), sent.bytes(), "segment {i}");
            }
        }
        let mut none = Packet::tcp4(3000).udp().super_frame(1000);
        none.meta.csum = ChecksumState::None;
        none.bytes_mut()[40..42].fill(0);
        let mut cut = Cut::of(&none).unwrap();
        assert_eq!(cut.leave_checksums(), ChecksumState::None);
        let mut segment = vec![0; cut.segment_len(0)];
        cut.write(none.bytes(), 0, &mut segment);
        assert_eq!(segment[40..42], [0, 0]);
    }

    #[test]
    fn a_settled_super_frame_counts_as_what_it_is_cut_into() {
        for packet in [Packet::tcp4(5000), Packet::tcp6(4999).tagged(7), Packet::tcp4(5003).udp()] {
            let mut frame = packet.super_frame(1001);
            // What a sender says of its headers is a hint, and padding may follow.
            let padded = frame.len() + 9;
            frame.set_len(padded);
            frame.meta.gso = frame.meta.gso.map(|gso| Gso { header_len: 9, ..gso });
            assert_eq!(settle(&mut frame), Ok(5));
            assert_eq!((frame.bytes(), frame.meta), (packet.super_frame(1001).bytes(), packet.super_frame(1001).meta));
            let size = frame.wire_size();
            let segments = cut(frame, None).unwrap();
            assert_eq!(size, (5, segments.iter().map(|segment| segment.len() as u64).sum()));
        }
        let mut small = Packet::tcp4(9).super_frame(1000);
        let meta = small.meta;
        assert_eq!((settle(&mut small), small.meta), (Ok(1), meta));
        assert_eq!(settle(&mut Frame::from_bytes(&[3; 900])), Err(DropReason::Unsegmentable));
    }

    #[test]
    fn a_smaller_mss_overrules_and_a_larger_one_does_not() {
        let packet = Packet::tcp4(3000);
        let lengths = |mss| -> Vec<usize> {
            let segments = cut(packet.super_frame(1448), mss).unwrap();
            segments.iter().map(|segment| verified(segment.bytes()).payload.len()).collect()
        };
        assert_eq!(lengths(Some(1400)), [1400, 1400, 200]);
        assert_eq!(lengths(Some(1500)), [1448, 1448, 104]);
        assert_eq!(lengths(None), [1448, 1448, 104]);
    }

    #[test]
    fn a_tcp_segment_is_split_and_padding_is_not_sent_as_data() {
        let packet = all_flags(Packet::tcp6(1448));
        for mut frame in [packet.frame(), packet.partial()] {
            let padded = frame.len() + 5;
            frame.set_len(padded);
            let segments = cut(frame, Some(1000)).unwrap();
            assert_eq!(segments.len(), 2);
            for (i, segment) in segments.iter().enumerate() {
                assert_eq!(segment.bytes(), expected(&packet, 1000, i).bytes());
            }
        }
    }

    #[test]
    fn what_needs_no_cutting_is_finished_and_stays_whole() {
        for packet in [Packet::tcp4(1400), Packet::tcp4(0), Packet::tcp6(1400).udp()] {
            for frame in [packet.partial(), packet.frame(), packet.super_frame(1448)] {
                let segments = cut(frame, Some(1400)).unwrap();
                assert_eq!(segments.len(), 1);
                assert_eq!(segments[0].bytes(), packet.bytes());
                assert_eq!(segments[0].meta, Meta::default());
            }
        }
        let other = cut(Frame::from_bytes(&[3; 900]), Some(100)).unwrap();
        assert_eq!(other[0].bytes(), [3; 900]);
    }

    #[test]
    fn udp_over_ipv4_may_go_without_a_checksum() {
        let mut frame = Packet::tcp4(3000).udp().super_frame(1000);
        frame.meta.csum = ChecksumState::None;
        frame.bytes_mut()[14 + 20 + 6..][..2].fill(0);
        for segment in cut(frame, None).unwrap() {
            assert_eq!(segment.bytes()[40..42], [0, 0]);
        }
        // A sender that leaves the checksum to the device wants one, whatever it left in the field.
        let mut frame = Packet::tcp4(3000).udp().super_frame(1000);
        frame.bytes_mut()[40..42].fill(0);
        cut(frame, None).unwrap().iter().for_each(|segment| drop(verified(segment.bytes())));
    }

    #[test]
    fn datagrams_keep_their_size() {
        let frame = Packet::tcp4(3000).udp().super_frame(1000);
        assert_eq!(cut(frame, Some(900)).unwrap_err(), DropReason::MtuExceeded);
    }

    #[test]
    fn a_packet_with_hops_to_go_keeps_the_destination_that_its_checksum_covers() {
        // The unfinished sum is that of the last hop's address, which only the sender of the frame knows.
        let tcp6 = Packet::tcp6(2000);
        let routing = [6, 0, 4, 1, 0, 0, 0, 0];
        let mut bytes = tcp6.partial().bytes().to_vec();
        bytes.splice(54..54, routing);
        bytes[20] = 43;
        bytes[18..20].copy_from_slice(&(2000u16 + 32 + 8).to_be_bytes());
        bytes[38..54].fill(0xaa);
        let mut frame = Frame::from_bytes(&bytes);
        frame.meta = tcp6.super_frame(1200).meta;
        frame.meta.csum = ChecksumState::Partial { start: 62, offset: 16 };
        let segments = cut(frame, None).unwrap();
        let first = expected(&tcp6, 1200, 0).bytes();
        assert_eq!(segments[0].bytes()[62..], first[54..]);

        let mut frame = Frame::from_bytes(&bytes);
        frame.meta.gso = tcp6.super_frame(1200).meta.gso;
        assert_eq!(cut(frame, None).unwrap_err(), DropReason::Unsegmentable, "nobody knows the pseudo-header");
    }

    #[test]
    fn a_super_frame_that_is_not_what_it_says_is_refused() {
        let refused = |change: &dyn Fn(&mut Packet), meta: &dyn Fn(&mut Gso)| {
            let mut packet = Packet::tcp4(3000);
            change(&mut packet);
            let mut frame = packet.super_frame(1448);
            meta(frame.meta.gso.as_mut().unwrap());
            cut(frame, None).map(|_| ()).unwrap_err()
        };
        let same: &dyn Fn(&mut Packet) = &|_| ();
        let as_is: &dyn Fn(&mut Gso) = &|_| ();
        let reasons = [
            refused(same, &|gso| gso.kind = GsoKind::TcpV6),
            refused(same, &|gso| gso.kind = GsoKind::Udp),
            refused(&|packet| *packet = Packet::tcp6(3000), &|gso| gso.kind = GsoKind::TcpV4),
            refused(&|packet| packet.payload.truncate(500), &|gso| gso.size = 0),
            refused(same, &|gso| gso.size = 2),
            refused(&|packet| packet.transport = Packet::tcp4(0).udp().transport, &|gso| gso.kind = GsoKind::TcpV4),
            refused(&|packet| packet.tcp().syn = true, as_is),
            refused(&|packet| packet.tcp().rst = true, as_is),
            refused(&|packet| packet.tcp().urg = true, as_is),
            refused(&|packet| packet.tcp().set_options_raw(&[1, 1, 19, 2]).unwrap(), as_is),
            refused(&|packet| packet.ipv4().more_fragments = true, as_is),
        ];
        assert_eq!(reasons, [DropReason::Unsegmentable; 11]);
    }

    #[test]
    fn an_error_gives_the_memory_back() {
        let (mut pool, mut out) = (Pool::new(4), Vec::new());
        let mut frame = pool.alloc();
        frame.set_len(60);
        frame.bytes_mut().fill(0);
        frame.meta.gso = Some(Gso { kind: GsoKind::Udp, size: 9, header_len: 42, ecn: false });
        assert_eq!(segment(frame, None, &mut pool, &mut out), Err(DropReason::Unsegmentable));
        assert_eq!((pool.spare(), out.len()), (1, 0));
        let mut frame = pool.alloc();
        let packet = Packet::tcp4(3000).super_frame(1448);
        frame.set_len(packet.len());
        frame.bytes_mut().copy_from_slice(packet.bytes());
        frame.meta = packet.meta;
        assert_eq!(segment(frame, None, &mut pool, &mut out), Ok(3));
        assert_eq!((pool.spare(), out.len()), (1, 3));
    }

    fn any_gso() -> impl Strategy<Value = Option<Gso>> {
        let kind = prop_oneof![Just(GsoKind::TcpV4), Just(GsoKind::TcpV6), Just(GsoKind::Udp)];
        prop::option::of(
            (kind, any::<u16>(), any::<u16>(), any::<bool>()).prop_map(|(kind, size, header_len, ecn)| Gso {
                kind,
                size: size >> (header_len % 16),
                header_len,
                ecn,
            }),
        )
    }

    fn any_csum() -> impl Strategy<Value = ChecksumState> {
        prop_oneof![
            Just(ChecksumState::None),
            Just(ChecksumState::Valid),
            (0u16..200, 0u16..200).prop_map(|(start, offset)| ChecksumState::Partial { start, offset }),
        ]
    }

    proptest! {
        #[test]
        fn no_bytes_and_no_metadata_make_it_panic(
            mut bytes in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..300),
                (0usize..300).prop_map(|n| Packet::tcp4(n).bytes()),
                (0usize..300).prop_map(|n| Packet::tcp6(n).tagged(1).bytes()),
                (0usize..300).prop_map(|n| Packet::tcp6(n).udp().bytes()),
            ],
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
            gso in any_gso(),
            csum in any_csum(),
            mss in prop::option::of(any::<u16>()),
        ) {
            for (at, value) in damage {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len().min(80));
                    bytes[at] = value;
                }
            }
            let mut frame = Frame::from_bytes(&bytes);
            (frame.meta.gso, frame.meta.csum) = (gso, csum);
            if let Ok(segments) = cut(frame, mss) {
                prop_assert!(segments.iter().all(|segment| segment.len() <= bytes.len() && segment.meta.gso.is_none()));
            }
        }

        #[test]
        fn no_payload_is_lost_or_made(len in 1usize..20_000, size in 64u16..9000, mss in prop::option::of(64u16..3000)) {
            let packet = Packet::tcp4(len);
            let segments = cut(packet.super_frame(size), mss).unwrap();
            let size = mss.map_or(size, |mss| size.min(mss)).into();
            prop_assert_eq!(segments.len(), len.div_ceil(size));
            let parts: Vec<_> = segments.iter().map(|segment| verified(segment.bytes()).payload).collect();
            prop_assert!(parts[..parts.len() - 1].iter().all(|part| part.len() == size));
            prop_assert_eq!(parts.concat(), packet.payload);
        }
    }
}
