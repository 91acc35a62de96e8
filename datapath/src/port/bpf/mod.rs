//! A small assembler for BPF programs, so that none has to be compiled when the switch is built.
//!
//! A program reads from top to bottom like the kernel's own listings (`bpftool prog dump xlated`): one call, one
//! instruction (two for a 64-bit constant). Jumps go to [`Label`]s, which are made first and placed later; they go forward
//! only, so every program ends. Registers: [`R0`] is the result, [`R1`] to [`R5`] are the arguments of a call and gone after
//! it, [`R6`] to [`R9`] survive calls, [`FP`] is the top of 512 bytes of stack, which are at negative offsets from it.
//!
//! Encoding: Documentation/bpf/standardization/instruction-set.rst; numbers: linux/bpf.h. What is wrong with a program the
//! kernel's verifier says when it is loaded ([`sys::load`]); nothing runs that it has not approved.

pub mod btf;
pub mod sys;

use std::os::fd::{AsRawFd, BorrowedFd};

/// A register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reg(u8);

pub const R0: Reg = Reg(0);
pub const R1: Reg = Reg(1);
pub const R2: Reg = Reg(2);
pub const R3: Reg = Reg(3);
pub const R4: Reg = Reg(4);
pub const R5: Reg = Reg(5);
pub const R6: Reg = Reg(6);
pub const R7: Reg = Reg(7);
pub const R8: Reg = Reg(8);
pub const R9: Reg = Reg(9);
/// The top of the stack.
pub const FP: Reg = Reg(10);

/// How much is loaded or stored at once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Size {
    /// 32 bits.
    Word = 0x00,
    /// 16 bits.
    Half = 0x08,
    /// 8 bits.
    Byte = 0x10,
    /// 64 bits.
    Double = 0x18,
}

/// What is computed; all of it on 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Op {
    Add = 0x00,
    Mul = 0x20,
    Or = 0x40,
    And = 0x50,
    ShiftLeft = 0x60,
    ShiftRight = 0x70,
    Xor = 0xa0,
    Move = 0xb0,
}

/// When a jump is taken: how its register compares with the other, or with a number; unsigned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum If {
    Equal = 0x10,
    Above = 0x20,
    AnyBitOf = 0x40,
    NotEqual = 0x50,
}

/// Functions of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Helper {
    MapLookup = 1,
    SkbStoreBytes = 9,
    VlanPush = 18,
    VlanPop = 19,
    Redirect = 23,
    SkbLoadBytes = 26,
    XdpAdjustHead = 44,
    SkbAdjustRoom = 50,
    RedirectMap = 51,
    RedirectNeigh = 152,
}

/// Somewhere in a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(usize);

// Classes and modes (instruction-set.rst).
const LOAD: u8 = 0x01;
const STORE_NUMBER: u8 = 0x02;
const STORE: u8 = 0x03;
const JUMP: u8 = 0x05;
const COMPUTE: u8 = 0x07;
const BY_REGISTER: u8 = 0x08;
const MEMORY: u8 = 0x60;
const ATOMIC: u8 = 0xc0;
const WIDE: u8 = 0x18;
const CALL: u8 = 0x80;
const EXIT: u8 = 0x90;
const TO_BIG_ENDIAN: u8 = 0xd4 | BY_REGISTER;
/// What a 64-bit constant stands for, instead of itself: a map, or memory of its only value.
const MAP: u8 = 1;
const MAP_VALUE: u8 = 2;
/// What a call goes by, instead of a number: the type of a function (`BPF_PSEUDO_KFUNC_CALL`).
const TYPED: u8 = 2;

/// One instruction, as the kernel takes it.
pub type Instruction = [u8; 8];

/// A program in the making.
#[derive(Clone, Debug, Default)]
pub struct Program {
    code: Vec<Instruction>,
    /// Where each label is, when it is placed.
    labels: Vec<Option<usize>>,
    /// Jumps, and where they go.
    jumps: Vec<(usize, Label)>,
}

impl Program {
    /// A program without instructions.
    pub fn new() -> Self {
        Self::default()
    }

    /// A label for jumps, still to be placed.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// The label is here.
    pub fn place(&mut self, Label(label): Label) -> &mut Self {
        self.labels[label] = Some(self.code.len());
        self
    }

    /// `dst = dst op number`, or `dst = number`; the number is extended with its sign.
    pub fn op(&mut self, dst: Reg, op: Op, number: i32) -> &mut Self {
        self.emit(COMPUTE | op as u8, dst, Reg(0), 0, number)
    }

    /// The same with a register.
    pub fn op_reg(&mut self, dst: Reg, op: Op, src: Reg) -> &mut Self {
        self.emit(COMPUTE | BY_REGISTER | op as u8, dst, src, 0, 0)
    }

    /// `dst = number`.
    pub fn set(&mut self, dst: Reg, number: i32) -> &mut Self {
        self.op(dst, Op::Move, number)
    }

    /// `dst = src`.
    pub fn copy(&mut self, dst: Reg, src: Reg) -> &mut Self {
        self.op_reg(dst, Op::Move, src)
    }

    /// `dst = number`, of 64 bits.
    pub fn set_wide(&mut self, dst: Reg, number: u64) -> &mut Self {
        self.wide(dst, 0, [number as u32, (number >> 32) as u32])
    }

    /// `dst =` the map, for a call.
    pub fn set_map(&mut self, dst: Reg, map: BorrowedFd<'_>) -> &mut Self {
        self.wide(dst, MAP, [map.as_raw_fd().cast_unsigned(), 0])
    }

    /// `dst =` the address of the only value of an array.
    pub fn set_map_value(&mut self, dst: Reg, map: BorrowedFd<'_>) -> &mut Self {
        self.wide(dst, MAP_VALUE, [map.as_raw_fd().cast_unsigned(), 0])
    }

    /// Turns the lower 16 bits around if they are not in network byte order, and clears the others.
    pub fn swap_to_network_order(&mut self, dst: Reg) -> &mut Self {
        self.emit(TO_BIG_ENDIAN, dst, Reg(0), 0, 16)
    }

    /// `dst = *(base + offset)`.
    pub fn load(&mut self, size: Size, dst: Reg, base: Reg, offset: i16) -> &mut Self {
        self.emit(LOAD | MEMORY | size as u8, dst, base, offset, 0)
    }

    /// `*(base + offset) = src`.
    pub fn store(&mut self, size: Size, base: Reg, offset: i16, src: Reg) -> &mut Self {
        self.emit(STORE | MEMORY | size as u8, base, src, offset, 0)
    }

    /// `*(base + offset) = number`.
    pub fn store_number(&mut self, size: Size, base: Reg, offset: i16, number: i32) -> &mut Self {
        self.emit(STORE_NUMBER | MEMORY | size as u8, base, Reg(0), offset, number)
    }

    /// `*(base + offset) += src`, of 64 bits, as one step for all other processors.
    pub fn add_atomically(&mut self, base: Reg, offset: i16, src: Reg) -> &mut Self {
        self.emit(STORE | ATOMIC | Size::Double as u8, base, src, offset, Op::Add as i32)
    }

    /// Goes on at the label.
    pub fn jump(&mut self, to: Label) -> &mut Self {
        self.jumps.push((self.code.len(), to));
        self.emit(JUMP, Reg(0), Reg(0), 0, 0)
    }

    /// Goes on at the label if the register compares so with the number.
    pub fn jump_if(&mut self, reg: Reg, condition: If, number: i32, to: Label) -> &mut Self {
        self.jumps.push((self.code.len(), to));
        self.emit(JUMP | condition as u8, reg, Reg(0), 0, number)
    }

    /// The same with another register.
    pub fn jump_if_reg(&mut self, reg: Reg, condition: If, other: Reg, to: Label) -> &mut Self {
        self.jumps.push((self.code.len(), to));
        self.emit(JUMP | BY_REGISTER | condition as u8, reg, other, 0, 0)
    }

    /// Calls a function of the kernel.
    pub fn call(&mut self, helper: Helper) -> &mut Self {
        self.emit(JUMP | CALL, Reg(0), Reg(0), 0, helper as i32)
    }

    /// Calls a function of the kernel that has no number, by its type ([`btf::function`]).
    pub fn call_typed(&mut self, function: i32) -> &mut Self {
        self.emit(JUMP | CALL, Reg(0), Reg(TYPED), 0, function)
    }

    /// Ends with [`R0`] as the result.
    pub fn exit(&mut self) -> &mut Self {
        self.emit(JUMP | EXIT, Reg(0), Reg(0), 0, 0)
    }

    /// The instructions, with all jumps resolved.
    ///
    /// # Panics
    /// When a label that is jumped to was not placed, or lies behind its jump: a mistake in a program of ours, which a
    /// test that makes it finds.
    pub fn finish(&self) -> Vec<Instruction> {
        let mut code = self.code.clone();
        for &(from, Label(label)) in &self.jumps {
            let distance = self.labels[label].and_then(|to| i16::try_from(to.checked_sub(from + 1)?).ok());
            let distance = distance.expect("a label is placed after the jumps to it");
            code[from][2..4].copy_from_slice(&distance.to_ne_bytes());
        }
        code
    }

    fn wide(&mut self, dst: Reg, what: u8, [low, high]: [u32; 2]) -> &mut Self {
        self.emit(WIDE, dst, Reg(what), 0, low.cast_signed());
        self.emit(0, Reg(0), Reg(0), 0, high.cast_signed())
    }

    /// `struct bpf_insn`: operation; source and destination, four bits each; offset; number.
    fn emit(&mut self, operation: u8, dst: Reg, src: Reg, offset: i16, number: i32) -> &mut Self {
        let registers = if cfg!(target_endian = "big") { dst.0 << 4 | src.0 } else { src.0 << 4 | dst.0 };
        let ([o0, o1], [n0, n1, n2, n3]) = (offset.to_ne_bytes(), number.to_ne_bytes());
        self.code.push([operation, registers, o0, o1, n0, n1, n2, n3]);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As written by clang and shown by `llvm-objdump -d`.
    #[test]
    #[cfg(target_endian = "little")]
    fn instructions_are_encoded_as_by_others() {
        let mut p = Program::new();
        let end = p.label();
        p.copy(R6, R1) // bf 16: r6 = r1
            .set(R0, 2) // b7 00: r0 = 2
            .op(R7, Op::Add, -1) // 07 07: r7 += -1
            .op_reg(R7, Op::Xor, R8) // af 87: r7 ^= r8
            .swap_to_network_order(R2) // dc 02: r2 = be16 r2
            .load(Size::Half, R2, R1, 12) // 69 12: r2 = *(u16 *)(r1 + 12)
            .store(Size::Double, FP, -8, R9) // 7b 9a: *(u64 *)(r10 - 8) = r9
            .store_number(Size::Word, R6, 48, 7) // 62 06: *(u32 *)(r6 + 48) = 7
            .add_atomically(R0, 16, R1) // db 10: lock *(u64 *)(r0 + 16) += r1
            .jump_if(R2, If::NotEqual, 0x0608, end) // 55 02: if r2 != 1544 goto +5
            .jump_if_reg(R1, If::Above, R3, end) // 2d 31: if r1 > r3 goto +4
            .set_wide(R1, 0x1122_3344_5566_7788) // 18 01: r1 = … ll
            .call(Helper::Redirect) // 85: call 23
            .call_typed(70_000) // 85 20: call 70000
            .place(end)
            .exit(); // 95
        let expected: [Instruction; 16] = [
            [0xbf, 0x16, 0, 0, 0, 0, 0, 0],
            [0xb7, 0x00, 0, 0, 2, 0, 0, 0],
            [0x07, 0x07, 0, 0, 0xff, 0xff, 0xff, 0xff],
            [0xaf, 0x87, 0, 0, 0, 0, 0, 0],
            [0xdc, 0x02, 0, 0, 16, 0, 0, 0],
            [0x69, 0x12, 12, 0, 0, 0, 0, 0],
            [0x7b, 0x9a, 0xf8, 0xff, 0, 0, 0, 0],
            [0x62, 0x06, 48, 0, 7, 0, 0, 0],
            [0xdb, 0x10, 16, 0, 0, 0, 0, 0],
            [0x55, 0x02, 5, 0, 0x08, 0x06, 0, 0],
            [0x2d, 0x31, 4, 0, 0, 0, 0, 0],
            [0x18, 0x01, 0, 0, 0x88, 0x77, 0x66, 0x55],
            [0, 0, 0, 0, 0x44, 0x33, 0x22, 0x11],
            [0x85, 0, 0, 0, 23, 0, 0, 0],
            [0x85, 0x20, 0, 0, 0x70, 0x11, 1, 0],
            [0x95, 0, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(p.finish(), expected);
    }

    #[test]
    #[should_panic(expected = "placed after the jumps")]
    fn a_jump_goes_forward() {
        let mut p = Program::new();
        let start = p.label();
        p.place(start).jump(start);
        p.finish();
    }
}
