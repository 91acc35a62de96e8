//! What must hold for any frame that is larger than its way out carries: one function for each thing that is done to it.
//!
//! Each takes bytes and panics if something does not hold. libFuzzer looks for such bytes (`make fuzz`, by way of
//! `targets/`); `datapath/tests/corpus.rs` calls the same functions with those of `corpus/`.

pub mod fragment;
pub mod too_big;

/// The first two bytes of an input as a number, and the rest as a frame.
fn split(input: &[u8]) -> Option<(u16, &[u8])> {
    let (number, frame) = input.split_first_chunk()?;
    Some((u16::from_be_bytes(*number), frame))
}

/// A one's complement sum word by word.
fn sum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
