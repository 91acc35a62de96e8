//! One Ethernet frame: its bytes, room before them, and what is still owed to it.
//!
//! A frame is owned by exactly one stage at a time and is not `Clone`: a copy is a call of [`super::Pool::copy`] that
//! somebody counts. A host or container hands over 64 KiB TCP frames whose checksum is unfinished; [`Meta`] carries
//! that fact from the port that saw it to the port that must act on it (virtio spec 1.2 §5.1.6 has the same model).
//!
//! ```text
//!  buf: | headroom … | bytes() …… | tailroom … |
//!       0            start        end          buf.len()
//! ```
//!
//! Invariant: `start <= end <= buf.len()`. Offsets in [`Meta`] count from `start`; the methods that move `start`
//! ([`Frame::push_front`], [`Frame::pop_front`]) leave them alone, so whoever adds a header *that stays part of the
//! same frame* shifts them ([`Frame::push_vlan`] does), and whoever encapsulates resolves them first.

use super::sys::{Buffer, Region};
use crate::types::{DeviceId, Place, PortId, RemoteIndex};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// Bytes kept free before a received frame: more than all tags and headers that it gets on its way, the deepest encapsulation
/// included; where they are not enough ([`super::Pool::make_room`]), it is copied.
pub const HEADROOM: usize = 256;
/// The largest frame taken: a 65,535-byte IP packet with Ethernet header and two VLAN tags.
pub const MAX_FRAME: usize = 65_535 + 14 + 8;

/// The most segments of one frame: a 64 KiB super-frame with an MSS of 64.
pub const MAX_SEGMENTS: usize = 1024;
/// More than the headers of any segment that is forwarded.
pub(crate) const MAX_HEADERS: usize = 256;

/// How far the layer-4 checksum of a frame can be trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ChecksumState {
    /// Nobody has looked: it is what the wire brought.
    #[default]
    None,
    /// The device or the kernel has verified it.
    Valid,
    /// Unfinished: the field holds the folded pseudo-header sum; whoever cannot pass this state on must add the sum of
    /// everything from `start` to the end of the frame and store the complement at `start + offset`.
    Partial {
        /// Where summing starts (the layer-4 header), in bytes from the start of the frame.
        start: u16,
        /// Where the checksum field is, in bytes from `start`.
        offset: u16,
    },
}

/// What kind of super-frame it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GsoKind {
    /// TCP over IPv4.
    TcpV4,
    /// TCP over IPv6.
    TcpV6,
    /// TCP over either in a tunnel (`offload::nested`), which no device takes as it is.
    Tunnelled,
    /// UDP datagrams of equal size, IPv4 or IPv6 (Linux `UDP_SEGMENT`).
    Udp,
}

/// A super-frame: one set of headers, many segments' payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gso {
    /// How its segments are made.
    pub kind: GsoKind,
    /// Payload bytes of every segment but the last (TCP: the MSS).
    pub size: u16,
    /// Bytes of all headers, Ethernet to layer 4, counted from the start of the frame.
    pub header_len: u16,
    /// TCP CWR is set on the first segment only (RFC 3168).
    pub ecn: bool,
}

/// The underlay side of a tunnelled datagram; `bytes()` is then its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outer {
    /// The other tunnel end: destination when sending, source when received.
    pub remote: IpAddr,
    /// Its UDP port; 0: not over UDP.
    pub remote_port: u16,
    /// Our own address: the source to send from (`None`: the route decides), or the one it was received on.
    pub local: Option<IpAddr>,
    /// Index of the device that it leaves by; of a super-frame only, for others the route decides, and it is 0.
    pub ifindex: u32,
    /// `bytes()` is a run of datagrams of this size, the last one possibly shorter (`UDP_SEGMENT`, `UDP_GRO`).
    pub segment: Option<u16>,
    /// Flow entropy for the outer source port (RFC 7348 §5).
    pub entropy: u16,
    /// DSCP and ECN of the IP header, to send with or as received.
    pub tos: u8,
    /// Hops that it may make.
    pub ttl: u8,
    /// Nobody on the way may fragment it.
    pub dont_fragment: bool,
    /// UDP's checksum is to be filled in.
    pub checksum: bool,
}

impl Outer {
    /// Hops that a packet may make unless something else is asked for.
    pub const TTL: u8 = 64;

    /// A datagram to `remote`, as most are.
    #[must_use]
    pub const fn to(remote: SocketAddr) -> Self {
        Self {
            remote: remote.ip(),
            remote_port: remote.port(),
            local: None,
            ifindex: 0,
            segment: None,
            entropy: 0,
            tos: 0,
            ttl: Self::TTL,
            dont_fragment: true,
            checksum: true,
        }
    }
}

/// What travels with the bytes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    /// Where it came in.
    pub ingress: Place,
    /// The port it goes out by, from egress on; whom a failed send is counted against.
    pub egress: PortId,
    /// The device it goes out by, from egress on.
    pub device: DeviceId,
    /// What is known of its layer-4 checksum.
    pub csum: ChecksumState,
    /// Where it goes out by a tunnel with several remote ends: to which of them, or to all.
    pub remote: Option<RemoteIndex>,
    /// Set on a super-frame.
    pub gso: Option<Gso>,
    /// Set on a tunnelled datagram.
    pub outer: Option<Outer>,
    /// Set where it goes out by a tunnel that is too small for it: the packets that carry it may be fragmented.
    pub outer_may_fragment: bool,
    /// Set on a frame that came through a tunnel: the type of service of the packet that carried it.
    pub outer_tos: u8,
    /// Patch ports that it has left by.
    pub hops: u8,
    /// Set on a copy for a mirror, also on bridges further on: no sender is told what became of it.
    pub quiet: bool,
    /// Set on a copy for a mirror: which one of the bridge that it leaves from, counted from 1.
    pub mirror: Option<NonZeroU8>,
}

/// An Ethernet frame, or the payload of a tunnelled datagram (then `meta.outer` is set).
///
/// One pointer: a frame is handed from stage to stage a dozen times, and [`Body`] stays where it is.
#[derive(Debug)]
pub struct Frame(Box<Body>);

/// What a [`Frame`] is.
#[derive(Debug)]
pub struct Body {
    buf: Buffer,
    start: u32,
    end: u32,
    /// What travels with the bytes.
    pub meta: Meta,
}

impl Deref for Frame {
    type Target = Body;

    #[inline]
    fn deref(&self) -> &Body {
        &self.0
    }
}

impl DerefMut for Frame {
    #[inline]
    fn deref_mut(&mut self) -> &mut Body {
        &mut self.0
    }
}

impl Frame {
    /// An empty frame on `buf`, its bytes to begin after `headroom`.
    ///
    /// # Panics
    /// If `headroom` exceeds the buffer, or that has 4 GiB.
    #[must_use]
    pub fn new(buf: impl Into<Buffer>, headroom: usize) -> Self {
        let buf = buf.into();
        assert!(headroom <= buf.len() && u32::try_from(buf.len()).is_ok(), "headroom {headroom} of {}", buf.len());
        Self(Box::new(Body { buf, start: headroom as u32, end: headroom as u32, meta: Meta::default() }))
    }

    /// A frame of its own memory, with the usual headroom: for tests and generated packets.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut frame = Self::new(vec![0; HEADROOM + bytes.len() + 64].into_boxed_slice(), HEADROOM);
        frame.set_len(bytes.len());
        frame.bytes_mut().copy_from_slice(bytes);
        frame
    }
}

impl Body {
    /// The frame's bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buf[self.start as usize..self.end as usize]
    }

    /// The frame's bytes, to change.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buf[self.start as usize..self.end as usize]
    }

    /// Length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Whether there is no byte in it.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Packets and bytes that the frame is on the wire: a super-frame is its segments, each with all headers. Senders
    /// give the sizes, so what they may claim is bounded.
    #[inline]
    #[must_use]
    pub fn wire_size(&self) -> (u64, u64) {
        let Some(gso) = self.meta.gso else { return (1, self.len() as u64) };
        let headers = usize::from(gso.header_len).min(self.len()).min(MAX_HEADERS);
        let segments = (self.len() - headers).div_ceil(usize::from(gso.size.max(1))).clamp(1, MAX_SEGMENTS);
        (segments as u64, (self.len() + (segments - 1) * headers) as u64)
    }

    /// Free bytes before the frame.
    #[inline]
    #[must_use]
    pub fn headroom(&self) -> usize {
        self.start as usize
    }

    /// Free bytes after the frame.
    #[inline]
    #[must_use]
    pub fn tailroom(&self) -> usize {
        self.buf.len() - self.end as usize
    }

    /// Makes the frame `len` bytes long, growing into the tailroom (whose content is undefined) or cutting its end.
    ///
    /// # Panics
    /// If the buffer is too small; ask [`Frame::tailroom`] first.
    #[inline]
    pub fn set_len(&mut self, len: usize) {
        assert!(self.headroom() + len <= self.buf.len(), "length {len} at {} of {}", self.start, self.buf.len());
        self.end = self.start + len as u32;
    }

    /// Grows the frame by `n` bytes at its front and returns the whole, for the caller to fill in.
    ///
    /// # Panics
    /// If the headroom is too small; ask [`Frame::headroom`] first.
    #[inline]
    pub fn push_front(&mut self, n: usize) -> &mut [u8] {
        assert!(n <= self.headroom(), "push of {n} into a headroom of {}", self.start);
        self.start -= n as u32;
        self.bytes_mut()
    }

    /// Cuts `n` bytes off the front, or all if there are fewer.
    #[inline]
    pub fn pop_front(&mut self, n: usize) {
        self.start += n.min(self.len()) as u32;
    }

    /// Empties the frame and gives it `headroom` again, metadata cleared.
    pub fn reset(&mut self, headroom: usize) {
        self.start = headroom.min(self.buf.len()) as u32;
        self.end = self.start;
        self.meta = Meta::default();
    }

    /// The whole buffer from `HEADROOM - before` on, for a receive call that puts a header of `before` bytes ahead of
    /// the frame; follow with [`Frame::set_received`].
    ///
    /// # Panics
    /// If `before` exceeds the headroom.
    pub fn receive_space(&mut self, before: usize) -> &mut [u8] {
        &mut self.buf[self.start as usize - before..]
    }

    /// Takes what a receive call left: `len` bytes of frame after the header.
    pub fn set_received(&mut self, len: usize) {
        self.set_len(len);
    }

    /// The `n` bytes just before the frame, for a header that is not part of it (a vnet header), with the frame after.
    ///
    /// # Panics
    /// If the headroom is too small.
    pub fn with_header(&mut self, n: usize) -> &mut [u8] {
        &mut self.buf[self.start as usize - n..self.end as usize]
    }

    /// The region whose chunk the frame's memory is; `None`: it is on the heap.
    #[inline]
    #[must_use]
    pub fn region(&self) -> Option<&Arc<Region>> {
        self.buf.region()
    }

    /// Which chunk of `region` the frame's memory is.
    #[inline]
    #[must_use]
    pub fn chunk_in(&self, region: &Arc<Region>) -> Option<u32> {
        self.buf.chunk_in(region)
    }

    /// Takes what the kernel has written into the memory: `len` bytes from `start` on. `false`, with nothing changed, if
    /// that is not inside it.
    #[inline]
    #[must_use]
    pub fn set_span(&mut self, start: usize, len: usize) -> bool {
        let inside = start.checked_add(len).is_some_and(|end| end <= self.buf.len());
        if inside {
            (self.start, self.end) = (start as u32, (start + len) as u32);
        }
        inside
    }

    /// Inserts an 802.1Q or 802.1ad tag after the addresses and shifts the offsets of the metadata.
    /// `false`, with nothing changed, when the headroom is too small or the frame has no Ethernet header.
    #[must_use]
    pub fn push_vlan(&mut self, tpid: u16, tci: u16) -> bool {
        if self.start < 4 || self.len() < 14 {
            return false;
        }
        let bytes = self.push_front(4);
        bytes.copy_within(4..16, 0);
        bytes[12..14].copy_from_slice(&tpid.to_be_bytes());
        bytes[14..16].copy_from_slice(&tci.to_be_bytes());
        self.shift_offsets(4);
        true
    }

    /// Removes the outermost tag, which the caller knows to be there, and shifts the offsets of the metadata.
    /// `false`, with nothing changed, when the frame is too short to hold one.
    #[must_use]
    pub fn pop_vlan(&mut self) -> bool {
        if self.len() < 18 {
            return false;
        }
        self.bytes_mut().copy_within(0..12, 4);
        self.start += 4;
        self.shift_offsets(-4);
        true
    }

    /// Moves the checksum and GSO offsets with a header that came or went before them.
    pub fn shift_offsets(&mut self, by: i16) {
        if let ChecksumState::Partial { start, .. } = &mut self.meta.csum {
            *start = start.saturating_add_signed(by);
        }
        if let Some(gso) = &mut self.meta.gso {
            gso.header_len = gso.header_len.saturating_add_signed(by);
        }
    }

    /// Bytes of the whole buffer, headroom and tailroom included.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buf.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp_frame() -> Frame {
        let mut f = Frame::from_bytes(&(0..60).collect::<Vec<u8>>());
        f.meta.csum = ChecksumState::Partial { start: 34, offset: 16 };
        f.meta.gso = Some(Gso { kind: GsoKind::TcpV4, size: 1448, header_len: 54, ecn: false });
        f
    }

    #[test]
    fn vlan_push_and_pop_move_bytes_and_offsets() {
        let mut f = tcp_frame();
        assert!(f.push_vlan(0x8100, 0x600a));
        assert_eq!(f.len(), 64);
        assert_eq!(&f.bytes()[..18], &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 0x81, 0, 0x60, 0x0a, 12, 13]);
        assert_eq!(f.meta.csum, ChecksumState::Partial { start: 38, offset: 16 });
        assert_eq!(f.meta.gso.unwrap().header_len, 58);
        assert!(f.pop_vlan());
        assert_eq!(f.bytes(), &(0..60).collect::<Vec<u8>>()[..]);
        assert_eq!(f.meta, tcp_frame().meta);
    }

    #[test]
    fn a_super_frame_is_on_the_wire_what_its_segments_are() {
        let mut f = Frame::from_bytes(&[0; 54 + 3000]);
        assert_eq!(f.wire_size(), (1, 3054));
        for (size, header_len, expected) in [
            (1448, 54, (3, 3000 + 3 * 54)),
            (1500, 54, (2, 3000 + 2 * 54)),
            (3000, 54, (1, 3054)),
            (0, 54, (1024, 3054 + 1023 * 54)),
            (1, 60_000, (1024, 3054 + 1023 * 256)),
        ] {
            f.meta.gso = Some(Gso { kind: GsoKind::TcpV4, size, header_len, ecn: false });
            assert_eq!(f.wire_size(), expected, "{size} after {header_len}");
        }
    }

    #[test]
    fn a_short_frame_or_no_headroom_refuses_the_tag() {
        let mut short = Frame::from_bytes(&[0; 13]);
        assert!(!short.push_vlan(0x8100, 1));
        assert!(!short.pop_vlan());
        let mut tight = Frame::new(vec![0; 60].into_boxed_slice(), 0);
        tight.set_len(60);
        assert!(!tight.push_vlan(0x8100, 1));
    }

    #[test]
    fn front_moves_stay_inside_the_buffer() {
        let mut f = Frame::from_bytes(&[1, 2, 3]);
        f.push_front(2).copy_from_slice(&[8, 9, 1, 2, 3]);
        f.pop_front(1);
        assert_eq!(f.bytes(), &[9, 1, 2, 3]);
        f.pop_front(100);
        assert!(f.is_empty());
    }
}
