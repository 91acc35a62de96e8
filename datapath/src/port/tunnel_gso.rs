//! TCP super-frames into tunnels over IP (GRE, IP in IP): the kernel, or the network card, cuts them after encapsulation.
//!
//! No socket takes such a packet as one. But a program on a device's way out may tell the kernel that what it sends is
//! encapsulated (`bpf_skb_adjust_room`), and then what a tunnel device of the kernel's own sends and this does look alike:
//!
//! ```text
//!  [note, outer IP, tunnel header, super-frame] ─▶ packet socket on lo ─▶ program on lo's way out
//!      headers off and on again, "this is a tunnel" ─▶ bpf_redirect_neigh ─▶ neighbour ─▶ qdisc ─▶ device: cut there
//! ```
//!
//! The kernel finds the neighbour, and so do changes of it take effect at once. The device and our own address come with
//! the frame, from the route that control follows. Only what the switch sends by its packet socket is touched, known by a
//! mark that is drawn when the program is loaded and taken off again; everything else that leaves by `lo` goes on as it was.
//! The program is gone with its descriptors.
//!
//! What the neighbour's queue or the device drops is in their own statistics: a redirection tells nobody what became of it.
//!
//! The packet never passes the host's own way out: no firewall (netfilter's output and postrouting) and no IPsec policy
//! sees it. Whether there is any, control knows, and has frames cut in user space and sent by the raw socket then.
//!
//! Needs tcx links (Linux 6.6). What an attacker may try: what is inside is a frame like any other, whose headers were read
//! before it came here and are read anew by the kernel (`SKB_GSO_DODGY`).

use super::bpf::sys::{self, Kind, link_tcx_egress};
use super::bpf::{FP, Helper, If, Instruction, Op, Program, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, Size};
use super::packet;
use super::{Device, Unsent, vnet};
use crate::packet::{Frame, GsoKind, Outer, Pool};
use crate::tunnel::ipip;
use crate::wire::parse::parse;
use crate::wire::{ethernet, gre, ipv4, put16};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// As `bpftool` shows it.
const NAME: &str = "vswitch_tunnel";
/// The loopback device, the same in every network namespace.
const LOOPBACK: u32 = 1;

/// Bytes before the tunnel's header while the frame is on its way to the program: a note where an Ethernet header would
/// be, and the outer IP header.
const BEFORE: usize = ethernet::HEADER_LEN + ipv4::MIN_HEADER_LEN;

/// More than the headers that the program takes off and puts on: outer IP, GRE with all fields, Ethernet, two tags.
const HEADERS_MASK: i32 = 63;

/// Offsets in `struct __sk_buff` (linux/bpf.h).
const MARK: i16 = 8;
// What a classifier says.
const TCX_NEXT: i32 = -1;
const TC_ACT_SHOT: i32 = 2;
// `BPF_ADJ_ROOM_MAC`, and flags of `bpf_skb_adjust_room`.
const BEHIND_ETHERNET: i32 = 1;
const FIXED_GSO: i32 = 1 << 0;
const ENCAP_L3_IPV4: i32 = 1 << 1;
const ENCAP_L4_GRE: i32 = 1 << 3;
const ENCAP_L2_ETH: i32 = 1 << 6;

/// The program of one kind of tunnel, on until the last sender is gone.
#[derive(Debug)]
pub struct TunnelGso {
    protocol: u8,
    mark: i32,
    _link: OwnedFd,
}

impl TunnelGso {
    /// Loads and attaches the program for tunnels of an IP protocol, in the caller's network namespace.
    pub fn open(protocol: u8) -> io::Result<Self> {
        let mark = (RandomState::new().hash_one(protocol) as i32 & i32::MAX).max(1);
        let program = sys::load(Kind::Classifier, &encapsulate(protocol, mark), NAME)?;
        let link = link_tcx_egress(program.as_fd(), LOOPBACK)?;
        Ok(Self { protocol, mark, _link: link })
    }

    /// What a worker sends by.
    pub fn sender(self: &Arc<Self>) -> io::Result<SuperFrames> {
        let packets = packet::Sender::open_marked(LOOPBACK, self.mark)?;
        Ok(SuperFrames { packets, id: 0, program: Arc::clone(self) })
    }
}

/// Sends super-frames that have got their tunnel's header.
pub struct SuperFrames {
    packets: packet::Sender,
    /// Identification of the next packet.
    id: u16,
    program: Arc<TunnelGso>,
}

impl SuperFrames {
    /// Sends all, in order; see [`Device::send`].
    pub fn send(&mut self, pool: &mut Pool, frames: &mut Vec<Frame>, unsent: &mut Unsent) -> u64 {
        for frame in frames.iter_mut() {
            self.id = self.id.wrapping_add(1);
            pool.make_room(frame, BEFORE + vnet::LEN);
            prepend(frame, self.program.protocol, self.id);
        }
        let already = unsent.len();
        let sent = self.packets.send(pool, frames, unsent);
        for (frame, _) in &mut unsent[already..] {
            frame.pop_front(BEFORE);
            frame.shift_offsets(-(BEFORE as i16));
        }
        sent
    }
}

/// Puts the outer IP header before a frame, and before that the note for the program: how many bytes the inner Ethernet
/// header has (in the topmost byte), how many bytes of headers follow the note up to the inner packet's IP header, and the
/// device that it leaves by; then the inner packet's type. The first byte is even in either byte order: where it is not,
/// the frame would be one to a group, which the kernel does not redirect.
fn prepend(frame: &mut Frame, protocol: u8, id: u16) {
    let Some(outer) = frame.meta.outer else { return };
    let is_v6 = frame.meta.gso.is_some_and(|gso| gso.kind == GsoKind::TcpV6);
    let (tunnel, l2) = headers_before_ip(protocol, frame.bytes());
    let bytes = frame.push_front(BEFORE);
    bytes[..4].copy_from_slice(&((l2 as u32) << 24).to_ne_bytes());
    bytes[4..8].copy_from_slice(&((ipv4::MIN_HEADER_LEN + tunnel + l2) as u32).to_ne_bytes());
    bytes[8..12].copy_from_slice(&outer.ifindex.to_ne_bytes());
    put16(bytes, ethernet::ETHERTYPE, if is_v6 { ethernet::IPV6 } else { ethernet::IPV4 });
    write_ip(&mut bytes[ethernet::HEADER_LEN..], &outer, protocol, id);
    frame.shift_offsets(BEFORE as i16);
}

/// Bytes of a tunnel's header, and of the Ethernet header after it with its tags.
fn headers_before_ip(protocol: u8, packet: &[u8]) -> (usize, usize) {
    if protocol == ipip::PROTOCOL {
        return (0, 0);
    }
    let tunnel = gre::parse(packet).map_or(gre::BASE_LEN, |header| header.len);
    let l2 = parse(&packet[tunnel..]).map_or(ethernet::HEADER_LEN, |headers| headers.l3_offset.into());
    (tunnel, l2)
}

/// Writes the outer IP header, for all of `packet`.
fn write_ip(packet: &mut [u8], outer: &Outer, protocol: u8, id: u16) {
    let address = |ip| match ip {
        Some(IpAddr::V4(ip)) => ip,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let len = packet.len();
    let header = &mut packet[..ipv4::MIN_HEADER_LEN];
    header.fill(0);
    (header[0], header[ipv4::TOS], header[ipv4::TTL], header[ipv4::PROTOCOL]) = (0x45, outer.tos, outer.ttl, protocol);
    put16(header, ipv4::TOTAL_LEN, len as u16);
    put16(header, ipv4::ID, id);
    put16(header, ipv4::FRAGMENT, if outer.dont_fragment { ipv4::DONT_FRAGMENT } else { 0 });
    for (at, ip) in [(ipv4::SOURCE, outer.local), (ipv4::SOURCE + ipv4::ADDRESS_LEN, Some(outer.remote))] {
        header[at..at + ipv4::ADDRESS_LEN].copy_from_slice(&address(ip).octets());
    }
    ipv4::fill_checksum(header);
}

/// The program: takes the headers off and has the kernel put them on again, as those of a tunnel.
fn encapsulate(protocol: u8, mark: i32) -> Vec<Instruction> {
    const NOTE: i16 = -16;
    const HEADERS: i16 = -16 - 64;
    let is_gre = protocol == gre::PROTOCOL;
    let kind = FIXED_GSO | ENCAP_L3_IPV4 | if is_gre { ENCAP_L4_GRE | ENCAP_L2_ETH } else { 0 };
    let mut p = Program::new();
    let (next, drop) = (p.label(), p.label());
    p.copy(R6, R1).load(Size::Word, R1, R6, MARK).jump_if(R1, If::NotEqual, mark, next);
    p.set(R1, 0).store(Size::Word, R6, MARK, R1);
    // The note: the length of the inner Ethernet header to R9, of all headers to R8, the device to R7.
    p.copy(R1, R6).set(R2, 0).copy(R3, FP).op(R3, Op::Add, NOTE.into()).set(R4, 12);
    p.call(Helper::SkbLoadBytes).jump_if(R0, If::NotEqual, 0, drop);
    p.load(Size::Word, R9, FP, NOTE).load(Size::Word, R8, FP, NOTE + 4).load(Size::Word, R7, FP, NOTE + 8);
    p.op(R8, Op::And, HEADERS_MASK).jump_if(R8, If::Equal, 0, drop);
    p.copy(R1, R6).set(R2, ethernet::HEADER_LEN as i32).copy(R3, FP).op(R3, Op::Add, HEADERS.into()).copy(R4, R8);
    p.call(Helper::SkbLoadBytes).jump_if(R0, If::NotEqual, 0, drop);
    p.copy(R1, R6).copy(R2, R8).op(R2, Op::Mul, -1).set(R3, BEHIND_ETHERNET).set(R4, FIXED_GSO);
    p.call(Helper::SkbAdjustRoom).jump_if(R0, If::NotEqual, 0, drop);
    p.copy(R1, R6).copy(R2, R8).set(R3, BEHIND_ETHERNET);
    p.copy(R4, R9).op(R4, Op::ShiftLeft, 32).op(R4, Op::Or, kind);
    p.call(Helper::SkbAdjustRoom).jump_if(R0, If::NotEqual, 0, drop);
    p.copy(R1, R6).set(R2, ethernet::HEADER_LEN as i32).copy(R3, FP).op(R3, Op::Add, HEADERS.into()).copy(R4, R8);
    p.set(R5, 0).call(Helper::SkbStoreBytes).jump_if(R0, If::NotEqual, 0, drop);
    p.copy(R1, R7).set(R2, 0).set(R3, 0).set(R4, 0).call(Helper::RedirectNeigh).exit();
    p.place(drop).set(R0, TC_ACT_SHOT).exit();
    p.place(next).set(R0, TCX_NEXT).exit();
    p.finish()
}

#[cfg(test)]
mod tests {
    use super::super::bpf::sys::trial;
    use super::*;
    use crate::types::TunnelKey;
    use crate::wire::checksum::Sum;
    use crate::wire::fixtures::Packet;

    const TC_ACT_REDIRECT: i32 = 7;
    // Words of `struct __sk_buff`.
    const MARK_WORD: usize = 2;

    /// A super-frame with the tunnel's header, as the switch hands it over.
    fn encapsulated(protocol: u8, packet: &Packet) -> Frame {
        let mut frame = packet.super_frame(1400);
        if protocol == gre::PROTOCOL {
            let len = gre::header_len(TunnelKey(7), false);
            gre::write_header(frame.push_front(len), TunnelKey(7), false);
            frame.shift_offsets(len as i16);
        } else {
            frame.pop_front(ethernet::HEADER_LEN);
            frame.shift_offsets(-(ethernet::HEADER_LEN as i16));
        }
        let local = Some([192, 0, 2, 1].into());
        frame.meta.outer =
            Some(Outer { local, ifindex: 0x0103, tos: 3, ttl: 9, ..Outer::to(([192, 0, 2, 2], 0).into()) });
        frame
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn what_is_before_the_tunnel_s_header_has_these_bytes() {
        for (protocol, packet, headers, l2, version) in [
            (gre::PROTOCOL, Packet::tcp4(3000), 20 + 8 + 14, 14, [8, 0]),
            (gre::PROTOCOL, Packet::tcp6(3000).tagged(5), 20 + 8 + 18, 18, [0x86, 0xdd]),
            (ipip::PROTOCOL, Packet::tcp4(3000), 20, 0, [8, 0]),
        ] {
            let mut frame = encapsulated(protocol, &packet);
            let (payload, before) = (frame.bytes().to_vec(), frame.meta);
            prepend(&mut frame, protocol, 5);
            let note = [0, 0, 0, l2, headers, 0, 0, 0, 3, 1, 0, 0];
            assert_eq!(frame.bytes()[..14], [&note[..], &version].concat());
            let [high, low] = (20 + payload.len() as u16).to_be_bytes();
            let mut ip = [0x45, 3, high, low, 0, 5, 0x40, 0, 9, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2];
            ipv4::fill_checksum(&mut ip);
            assert_eq!(frame.bytes()[14..34], ip);
            assert!(Sum::of(&ip).verifies());
            assert_eq!(frame.bytes()[34..], payload);
            assert_eq!(frame.meta.gso.unwrap().header_len, before.gso.unwrap().header_len + 34);
        }
    }

    #[test]
    fn only_what_has_the_mark_is_touched_and_sent_on_with_its_headers() {
        let name = "only_what_has_the_mark_is_touched_and_sent_on_with_its_headers";
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var("VSWITCH_REQUIRE_ALL").as_deref() != Ok("1"), "{name}: needs root");
            eprintln!("skipped: {name}: needs root");
            return;
        }
        for protocol in [gre::PROTOCOL, ipip::PROTOCOL] {
            let program = sys::load(Kind::Classifier, &encapsulate(protocol, 99), "test").unwrap();
            let mut frame = encapsulated(protocol, &Packet::tcp4(3000));
            prepend(&mut frame, protocol, 5);
            let run = |mark, bytes: &[u8]| {
                let mut skb = [0; trial::SKB_WORDS];
                // Not a super-frame: the kernel would not know which kind of one it is.
                skb[MARK_WORD] = mark;
                (trial::run(program.as_fd(), bytes, &mut skb).unwrap(), skb[MARK_WORD])
            };
            assert_eq!(run(98, frame.bytes()), (TCX_NEXT, 98));
            assert_eq!(run(99, frame.bytes()), (TC_ACT_REDIRECT, 0));
            frame.bytes_mut()[4..8].fill(0);
            assert_eq!(run(99, frame.bytes()).0, TC_ACT_SHOT, "no headers");
        }
    }
}
