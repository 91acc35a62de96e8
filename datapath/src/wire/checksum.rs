//! The Internet checksum (RFC 1071): sums of 16-bit words in one's complement arithmetic.

/// A one's complement sum that has not been folded to 16 bits yet.
///
/// Addition is associative, so partial sums of a packet may be made in any order, as long as every part but the last
/// has an even length. Byte order does not matter except for the result's own (RFC 1071 §2(B)): words are added as they
/// lie in memory, and [`Sum::fold`] swaps.
#[derive(Clone, Copy, Default, Debug)]
pub struct Sum(u64);

impl Sum {
    /// The sum of big-endian words; an odd last byte counts as the high half of one.
    #[inline]
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<32>();
        let mut sum = if blocks.is_empty() { 0 } else { sum_of_blocks(blocks) };
        let (words, rest) = rest.as_chunks::<8>();
        for word in words {
            let word = u64::from_ne_bytes(*word);
            sum += (word & 0xffff_ffff) + (word >> 32);
        }
        let (words, rest) = rest.as_chunks::<2>();
        sum += words.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum::<u64>();
        if let [last] = rest {
            sum += u64::from(u16::from_ne_bytes([*last, 0]));
        }
        Self((sum & 0xffff_ffff) + (sum >> 32))
    }

    /// This and another sum.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// This and one more word.
    #[inline]
    #[must_use]
    pub const fn word(self, word: u16) -> Self {
        Self(self.0 + word.to_be() as u64)
    }

    /// This without one word that it contains.
    #[inline]
    #[must_use]
    pub const fn without(self, word: u16) -> Self {
        self.word(!word)
    }

    /// Folded to 16 bits: what an unfinished checksum field holds of the pseudo-header.
    #[inline]
    #[must_use]
    pub const fn fold(self) -> u16 {
        let mut sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        u16::from_be(sum as u16)
    }

    /// The complement of the folded sum: what a finished checksum field holds.
    #[inline]
    #[must_use]
    pub const fn complement(self) -> u16 {
        !self.fold()
    }

    /// Whether bytes that include their checksum field sum up to a right checksum.
    #[inline]
    #[must_use]
    pub const fn verifies(self) -> bool {
        self.fold() == 0xffff
    }
}

/// The sum of words of 32 bits; eight lanes let the compiler use vector registers.
#[inline]
fn sum_of_blocks(blocks: &[[u8; 32]]) -> u64 {
    let mut lanes = [0u64; 8];
    for block in blocks {
        for (lane, word) in lanes.iter_mut().zip(block.as_chunks::<4>().0) {
            *lane += u64::from(u32::from_ne_bytes(*word));
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixtures::slow_sum as slow;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).fold(), 0xddf2);
    }

    #[test]
    fn a_frame_of_all_ones_does_not_overflow() {
        assert_eq!(Sum::of(&vec![0xff; 65_536]).fold(), 0xffff);
        assert!(Sum::of(&vec![0xff; 65_536]).verifies());
    }

    proptest! {
        #[test]
        fn every_length_and_split_gives_the_slow_sum(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0usize..100) {
            prop_assert_eq!(Sum::of(&bytes).fold(), slow(&bytes));
            let at = (at * 2).min(bytes.len() & !1);
            prop_assert_eq!(Sum::of(&bytes[..at]).and(Sum::of(&bytes[at..])).fold(), slow(&bytes));
        }

        #[test]
        fn a_word_can_be_taken_out_again(bytes in prop::collection::vec(any::<u8>(), 2..64), word in any::<u16>()) {
            let sum = Sum::of(&bytes);
            // Zero has two representations in one's complement.
            let one_zero = |sum: u16| if sum == 0xffff { 0 } else { sum };
            prop_assert_eq!(one_zero(sum.word(word).without(word).fold()), one_zero(sum.fold()));
        }
    }
}
