//! The two programs. What each does is in [`super`]; fields and constants: linux/bpf.h (`struct __sk_buff`),
//! linux/pkt_cls.h.

use super::super::bpf::{FP, Helper, If, Instruction, Label, Op, Program, R0, R1, R2, R3, R4, R6, R7, R8, R9, Size};
use super::table::{self, WAYS};
use crate::wire::vlan::{CUSTOMER, SERVICE};
use crate::wire::{ethernet, icmp, ipv4, tcp, udp};
use std::os::fd::BorrowedFd;

/// Offsets in `struct __sk_buff`.
mod skb {
    pub const LEN: i16 = 0;
    pub const VLAN_PRESENT: i16 = 20;
    pub const VLAN_TCI: i16 = 24;
    pub const VLAN_PROTO: i16 = 28;
    pub const IFINDEX: i16 = 40;
    pub const GSO_SIZE: i16 = 176;
    // `cb`, where the filter says what is to become of a frame: that it does, by which device, with which change of its
    // tag, and the slot that says so.
    pub const MARK: i16 = 48;
    pub const DEVICE_OUT: i16 = 52;
    pub const RETAG: i16 = 56;
    pub const SLOT: i16 = 60;
}

// What a socket filter says.
const KEEP_FROM_SOCKET: i32 = 0;
const GIVE_TO_SOCKET: i32 = -1;
// What a classifier says.
const TCX_NEXT: i32 = -1;
const TC_ACT_SHOT: i32 = 2;

// Numbers of neighbour discovery (RFC 4861): 133 to 137.
const ND_FIRST: i32 = 133;
const ND_LAST: i32 = 137;

// Where headers have what, in bytes from the frame's start or the header's.
const L3: i32 = ethernet::HEADER_LEN as i32;
const IPV4_PROTOCOL: i32 = L3 + ipv4::PROTOCOL as i32;
const IPV6_NEXT: i32 = L3 + 6;
const IPV6_LEN: i32 = 40;
const TCP_DATA_OFFSET: i32 = tcp::DATA_OFFSET as i32;
const UDP_LEN: i32 = udp::HEADER_LEN as i32;

// The filter's stack: destination, source and tag; what it loads a byte into; the frame's type; the slot under its eyes.
const HEAD: i16 = -16;
const TAG: i16 = HEAD + 12;
const BYTE: i16 = -24;
const TYPE: i16 = -32;
const SLOT: i16 = -40;

/// What the programs work with.
pub struct Maps<'a> {
    /// The slots.
    pub flows: BorrowedFd<'a>,
    /// The generation.
    pub state: BorrowedFd<'a>,
    /// Mixed into addresses.
    pub seed: u64,
    /// What a mark of ours begins with; positive.
    pub mark: i32,
}

/// Decides: for each frame that a packet socket on the device is about to receive.
pub fn filter(maps: &Maps<'_>) -> Vec<Instruction> {
    let mut p = Program::new();
    let (user_space, found) = (p.label(), p.label());
    p.copy(R6, R1);
    read_head(&mut p, user_space);
    read_tag(&mut p);
    find(&mut p, maps, found, user_space);
    p.place(found);
    measure(&mut p, user_space);
    p.load(Size::Word, R1, R7, table::LIMIT).jump_if_reg(R8, If::Above, R1, user_space);
    // It is decided: counted and marked.
    p.set(R1, 1).add_atomically(R7, table::FRAMES, R1);
    p.load(Size::Word, R1, R6, skb::LEN).add_atomically(R7, table::BYTES, R1);
    p.load(Size::Word, R1, R7, table::DEVICE_OUT).store(Size::Word, R6, skb::DEVICE_OUT, R1);
    p.load(Size::Word, R1, R7, table::RETAG).store(Size::Word, R6, skb::RETAG, R1);
    p.load(Size::Word, R1, FP, SLOT).store(Size::Word, R6, skb::SLOT, R1);
    p.set(R1, maps.mark).store(Size::Word, R6, skb::MARK, R1);
    p.set(R0, KEEP_FROM_SOCKET).exit();
    p.place(user_space).set(R0, GIVE_TO_SOCKET).exit();
    p.finish()
}

/// Loads the addresses; what has more tags than one, ARP and neighbour discovery are for user space.
fn read_head(p: &mut Program, user_space: Label) {
    let (checked, ipv6) = (p.label(), p.label());
    load_bytes(p, 0, HEAD, L3, user_space);
    p.load(Size::Half, R2, FP, TAG).store(Size::Half, FP, TYPE, R2);
    for ethertype in [ethernet::ARP, CUSTOMER, SERVICE] {
        p.jump_if(R2, If::Equal, on_the_wire(ethertype), user_space);
    }
    p.jump_if(R2, If::Equal, on_the_wire(ethernet::IPV6), ipv6).jump(checked);
    p.place(ipv6);
    load_byte(p, IPV6_NEXT, user_space);
    p.jump_if(R1, If::NotEqual, icmp::PROTOCOL_V6.into(), checked);
    load_byte(p, L3 + IPV6_LEN, user_space);
    p.jump_if(R1, If::Above, ND_LAST, checked).jump_if(R1, If::Above, ND_FIRST - 1, user_space);
    p.place(checked);
}

/// Puts the tag, which the kernel keeps beside the frame, where it is on the wire.
fn read_tag(p: &mut Program) {
    let (tagged, done) = (p.label(), p.label());
    p.load(Size::Word, R1, R6, skb::VLAN_PRESENT).jump_if(R1, If::NotEqual, 0, tagged);
    p.store_number(Size::Word, FP, TAG, 0).jump(done);
    p.place(tagged).load(Size::Word, R1, R6, skb::VLAN_PROTO).store(Size::Half, FP, TAG, R1);
    p.load(Size::Word, R1, R6, skb::VLAN_TCI).swap_to_network_order(R1).store(Size::Half, FP, TAG + 2, R1);
    p.place(done);
}

/// Finds the slot of the flow, which is then at [`R7`].
fn find(p: &mut Program, maps: &Maps<'_>, found: Label, not_found: Label) {
    // As in `table::mix`.
    p.load(Size::Double, R8, FP, HEAD).load(Size::Double, R9, FP, HEAD + 8);
    p.set_wide(R1, maps.seed).op_reg(R1, Op::Xor, R8).set_wide(R2, table::MIX[0]).op_reg(R1, Op::Mul, R2);
    p.copy(R2, R1).op(R2, Op::ShiftRight, table::MIX_SHIFT).op_reg(R1, Op::Xor, R2).op_reg(R1, Op::Xor, R9);
    p.load(Size::Word, R2, R6, skb::IFINDEX).op_reg(R1, Op::Add, R2);
    p.set_wide(R2, table::MIX[1]).op_reg(R1, Op::Mul, R2).op(R1, Op::ShiftRight, table::MIX_SHIFT);
    p.op(R1, Op::And, table::SET_MASK).op(R1, Op::ShiftLeft, table::WAYS_SHIFT).store(Size::Word, FP, SLOT, R1);
    for way in 0..WAYS {
        let other = p.label();
        if way > 0 {
            p.load(Size::Word, R1, FP, SLOT).op(R1, Op::Add, 1).store(Size::Word, FP, SLOT, R1);
        }
        look_up(p, maps, SLOT, not_found);
        p.copy(R7, R0);
        p.load(Size::Double, R1, R7, table::HEAD[0]).jump_if_reg(R1, If::NotEqual, R8, other);
        p.load(Size::Double, R1, R7, table::HEAD[1]).jump_if_reg(R1, If::NotEqual, R9, other);
        p.load(Size::Word, R1, R7, table::DEVICE_IN).load(Size::Word, R2, R6, skb::IFINDEX);
        p.jump_if_reg(R1, If::NotEqual, R2, other);
        p.set_map_value(R2, maps.state).load(Size::Double, R2, R2, 0);
        p.load(Size::Double, R1, R7, table::GENERATION).jump_if_reg(R1, If::Equal, R2, found);
        p.place(other);
    }
    p.jump(not_found);
}

/// Bytes of the largest frame that this one stands for, without its outermost tag, to [`R8`].
fn measure(p: &mut Program, user_space: Label) {
    let (measured, v4, transport, is_tcp, is_udp) = (p.label(), p.label(), p.label(), p.label(), p.label());
    let super_frame = p.label();
    p.load(Size::Word, R8, R6, skb::GSO_SIZE).jump_if(R8, If::NotEqual, 0, super_frame);
    p.load(Size::Word, R8, R6, skb::LEN).jump(measured);
    // A segment is its payload and all headers: Ethernet, IP (its length to R9), TCP or UDP.
    p.place(super_frame).load(Size::Half, R1, FP, TYPE);
    p.jump_if(R1, If::Equal, on_the_wire(ethernet::IPV4), v4);
    p.jump_if(R1, If::NotEqual, on_the_wire(ethernet::IPV6), user_space);
    p.set(R9, L3 + IPV6_LEN);
    load_byte(p, IPV6_NEXT, user_space);
    p.jump(transport);
    p.place(v4);
    load_byte(p, L3, user_space);
    p.copy(R9, R1).op(R9, Op::And, 0x0f).op(R9, Op::ShiftLeft, 2).op(R9, Op::Add, L3);
    load_byte(p, IPV4_PROTOCOL, user_space);
    p.place(transport).op_reg(R8, Op::Add, R9);
    p.jump_if(R1, If::Equal, tcp::PROTOCOL.into(), is_tcp).jump_if(R1, If::Equal, udp::PROTOCOL.into(), is_udp);
    p.jump(user_space);
    p.place(is_udp).op(R8, Op::Add, UDP_LEN).jump(measured);
    p.place(is_tcp).copy(R2, R9).op(R2, Op::Add, TCP_DATA_OFFSET);
    load_byte_at(p, user_space);
    p.op(R1, Op::ShiftRight, 4).op(R1, Op::ShiftLeft, 2).op_reg(R8, Op::Add, R1);
    p.place(measured);
}

/// Does what was decided: for each frame that comes in by the device, after the socket's filter.
pub fn forward(maps: &Maps<'_>) -> Vec<Instruction> {
    let mut p = Program::new();
    let (next, lost, drop) = (p.label(), p.label(), p.label());
    let (pop, popped, push, typed, redirect) = (p.label(), p.label(), p.label(), p.label(), p.label());
    p.copy(R6, R1).load(Size::Word, R1, R6, skb::MARK).jump_if(R1, If::NotEqual, maps.mark, next);
    p.set(R1, 0).store(Size::Word, R6, skb::MARK, R1);
    p.load(Size::Word, R7, R6, skb::RETAG).jump_if(R7, If::AnyBitOf, table::POP, pop).jump(popped);
    p.place(pop).copy(R1, R6).call(Helper::VlanPop).jump_if(R0, If::NotEqual, 0, lost);
    p.place(popped).jump_if(R7, If::AnyBitOf, table::PUSH, push).jump(redirect);
    p.place(push).copy(R3, R7).op(R3, Op::And, 0xffff).set(R2, on_the_wire(SERVICE));
    p.jump_if(R7, If::AnyBitOf, table::PUSH_SERVICE, typed).set(R2, on_the_wire(CUSTOMER));
    p.place(typed).copy(R1, R6).call(Helper::VlanPush).jump_if(R0, If::NotEqual, 0, lost);
    p.place(redirect).load(Size::Word, R1, R6, skb::DEVICE_OUT).set(R2, 0).call(Helper::Redirect).exit();
    p.place(lost).load(Size::Word, R1, R6, skb::SLOT).store(Size::Word, FP, SLOT, R1);
    look_up(&mut p, maps, SLOT, drop);
    p.set_wide(R1, table::ONE_LOST).load(Size::Word, R2, R6, skb::LEN).op_reg(R1, Op::Add, R2);
    p.add_atomically(R0, table::LOST, R1);
    p.place(drop).set(R0, TC_ACT_SHOT).exit();
    p.place(next).set(R0, TCX_NEXT).exit();
    p.finish()
}

/// The slot whose number is on the stack at `number`, to [`R0`].
fn look_up(p: &mut Program, maps: &Maps<'_>, number: i16, none: Label) {
    p.set_map(R1, maps.flows).copy(R2, FP).op(R2, Op::Add, number.into());
    p.call(Helper::MapLookup).jump_if(R0, If::Equal, 0, none);
}

/// So many bytes of the frame, from `offset` on, to the stack at `to`.
fn load_bytes(p: &mut Program, offset: i32, to: i16, len: i32, too_short: Label) {
    p.copy(R1, R6).set(R2, offset).copy(R3, FP).op(R3, Op::Add, to.into()).set(R4, len);
    p.call(Helper::SkbLoadBytes).jump_if(R0, If::NotEqual, 0, too_short);
}

/// The byte of the frame at `offset`, to [`R1`].
fn load_byte(p: &mut Program, offset: i32, too_short: Label) {
    p.set(R2, offset);
    load_byte_at(p, too_short);
}

/// The byte of the frame at the offset in [`R2`], to [`R1`].
fn load_byte_at(p: &mut Program, too_short: Label) {
    p.copy(R1, R6).copy(R3, FP).op(R3, Op::Add, BYTE.into()).set(R4, 1);
    p.call(Helper::SkbLoadBytes).jump_if(R0, If::NotEqual, 0, too_short).load(Size::Byte, R1, FP, BYTE);
}

/// An Ethernet type as a program loads it from the frame.
fn on_the_wire(ethertype: u16) -> i32 {
    ethertype.to_be().into()
}
