//! The XDP program of a port: which frames the switch gets.
//!
//! Every frame of a device that is the switch's alone; of one that the host goes on using, those to single stations that
//! are not the host. The host's own and those to groups go on to the host as if there were no program (those to groups
//! reach the switch by a packet socket as well, see [`super::shared`]).
//!
//! A device may take a VLAN tag out of the frame and keep it beside (veth always does). The program puts it back, where
//! the kernel has the function that tells it (Linux 6.8, and a driver that knows); without it the switch would take a
//! tagged frame for an untagged one, so the status says whether it is there.
//!
//! The program is attached by a link: it goes with the process, however that ends.

use super::sys::{self, Loading};
use crate::port::bpf::sys::padded;
use crate::port::bpf::{
    FP, Helper, If, Instruction, Label, Op, Program as Assembler, R0, R1, R2, R3, R4, R5, R6, R7, Size, btf,
};
use crate::types::MacAddr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

/// As shown by `ip link show`.
const NAME: &str = "vswitch_xdp";

// enum xdp_action
const DROP: i32 = 1;
const PASS: i32 = 2;
// struct xdp_md
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const QUEUE: i16 = 16;
// linux/bpf.h
const HAS_FRAGS: u32 = 1 << 5;
const DEVICE_BOUND: u32 = 1 << 6;
// linux/if_link.h
const FLAG_GENERIC: u32 = 1 << 1;
const FLAG_NATIVE: u32 = 1 << 2;

/// What a program is made for.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The device.
    pub ifindex: u32,
    /// Before the device's driver hands frames to the stack (native), or just after (generic).
    pub native: bool,
    /// Whether frames may be in several pieces.
    pub frags: bool,
    /// The addresses of the host on a device that it goes on using; none: the device is the switch's alone.
    pub host: &'a [MacAddr],
}

/// A program on a device. Dropping it takes it off.
#[derive(Debug)]
pub struct Program {
    sockets: OwnedFd,
    program: OwnedFd,
    /// Whether it puts VLAN tags back.
    pub sees_tags: bool,
}

impl Program {
    /// Loads the program and makes the map of its sockets, one for each of so many queues.
    pub fn load(wanted: &Wanted<'_>, queues: u32) -> io::Result<Self> {
        let sockets = sys::socket_map(queues, padded("xsks_map"))?;
        let frags = if wanted.frags { HAS_FRAGS } else { 0 };
        let load = |flags, tag_of: Option<i32>| {
            let ifindex = wanted.ifindex * u32::from(tag_of.is_some());
            let how = Loading { flags, ifindex, calls_kernel: tag_of.is_some(), name: padded(NAME) };
            sys::load(&assemble(&sockets, wanted.host, tag_of), &how)
        };
        // Only a program that is bound to a driver may ask it for tags; the generic hook takes none of those.
        let bound = tag_function().filter(|_| wanted.native).and_then(|f| load(frags | DEVICE_BOUND, Some(f)).ok());
        let sees_tags = bound.is_some();
        let program = match bound {
            Some(program) => program,
            None => load(frags, None)?,
        };
        Ok(Self { sockets, program, sees_tags })
    }

    /// Gives frames of a queue to a socket.
    pub fn add(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        sys::set_socket(self.sockets.as_fd(), queue, socket)
    }

    /// Attaches it; it stays until the link is closed.
    pub fn attach(&self, wanted: &Wanted<'_>) -> io::Result<OwnedFd> {
        let mode = if wanted.native { FLAG_NATIVE } else { FLAG_GENERIC };
        sys::link(self.program.as_fd(), wanted.ifindex, mode)
    }
}

/// The kernel's function that tells the tag of a frame, as programs call it.
fn tag_function() -> Option<i32> {
    static FUNCTION: OnceLock<Option<i32>> = OnceLock::new();
    *FUNCTION.get_or_init(|| btf::function(&std::fs::read(btf::KERNEL).ok()?, "bpf_xdp_metadata_rx_vlan_tag"))
}

/// Where the program ends: what becomes of the frame.
#[derive(Clone, Copy)]
struct Ends {
    take: Label,
    pass: Label,
    drop: Label,
}

fn assemble(sockets: &OwnedFd, host: &[MacAddr], tag_function: Option<i32>) -> Vec<Instruction> {
    let mut p = Assembler::new();
    let ends = Ends { take: p.label(), pass: p.label(), drop: p.label() };
    p.copy(R6, R1);
    if !host.is_empty() {
        leave_to_host(&mut p, host, ends);
    }
    if let Some(function) = tag_function {
        put_tag_back(&mut p, function, ends);
    }
    p.place(ends.take).load(Size::Word, R2, R6, QUEUE).set_map(R1, sockets.as_fd());
    // What to do where there is no socket for the queue.
    p.set(R3, DROP).call(Helper::RedirectMap).exit();
    if !host.is_empty() {
        p.place(ends.pass).set(R0, PASS).exit();
    }
    if tag_function.is_some() {
        p.place(ends.drop).set(R0, DROP).exit();
    }
    p.finish()
}

/// Leaves runts and frames that are for groups or for the host.
fn leave_to_host(p: &mut Assembler, host: &[MacAddr], ends: Ends) {
    p.load(Size::Word, R2, R6, DATA).load(Size::Word, R3, R6, DATA_END);
    p.copy(R4, R2).op(R4, Op::Add, 14).jump_if_reg(R4, If::Above, R3, ends.pass);
    p.load(Size::Byte, R4, R2, 0).jump_if(R4, If::AnyBitOf, 1, ends.pass);
    let words = [(R4, 0), (R5, 2), (R7, 4)];
    for (register, offset) in words {
        p.load(Size::Half, register, R2, offset);
    }
    for MacAddr([m0, m1, m2, m3, m4, m5]) in host.iter().copied() {
        let other = p.label();
        for ((register, _), word) in words.into_iter().zip([[m0, m1], [m2, m3], [m4, m5]]) {
            p.jump_if(register, If::NotEqual, u16::from_ne_bytes(word).into(), other);
        }
        p.jump(ends.pass).place(other);
    }
}

/// Where a tag was taken out, moves the addresses four bytes to the front and writes it behind them.
fn put_tag_back(p: &mut Assembler, function: i32, ends: Ends) {
    const PROTOCOL: i16 = -8;
    const TCI: i16 = -16;
    for (register, offset) in [(R2, PROTOCOL), (R3, TCI)] {
        p.store_number(Size::Double, FP, offset, 0).copy(register, FP).op(register, Op::Add, offset.into());
    }
    p.copy(R1, R6).call_typed(function).jump_if(R0, If::NotEqual, 0, ends.take);
    p.copy(R1, R6).set(R2, -4).call(Helper::XdpAdjustHead).jump_if(R0, If::NotEqual, 0, ends.drop);
    p.load(Size::Word, R2, R6, DATA).load(Size::Word, R3, R6, DATA_END);
    p.copy(R4, R2).op(R4, Op::Add, 16).jump_if_reg(R4, If::Above, R3, ends.drop);
    for offset in [0, 4, 8] {
        p.load(Size::Word, R5, R2, offset + 4).store(Size::Word, R2, offset, R5);
    }
    p.load(Size::Half, R5, FP, PROTOCOL).store(Size::Half, R2, 12, R5);
    p.load(Size::Half, R5, FP, TCI).swap_to_network_order(R5).store(Size::Half, R2, 14, R5);
}
