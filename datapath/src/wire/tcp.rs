//! TCP (RFC 9293): offsets of fields from the start of the header, and flags.

/// IP protocol number.
pub const PROTOCOL: u8 = 6;
/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Sequence number.
pub const SEQUENCE: usize = 4;
/// Acknowledgement number.
pub const ACKNOWLEDGEMENT: usize = 8;
/// Header length in the high nibble, in units of 4 bytes.
pub const DATA_OFFSET: usize = 12;
/// The eight classic flags.
pub const FLAGS: usize = 13;
/// Window.
pub const WINDOW: usize = 14;
/// Checksum.
pub const CHECKSUM: usize = 16;
/// Urgent pointer, meaningful with [`URG`].
pub const URGENT: usize = 18;

/// No more data from the sender.
pub const FIN: u8 = 0x01;
/// Synchronise sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset.
pub const RST: u8 = 0x04;
/// Push.
pub const PSH: u8 = 0x08;
/// The acknowledgement number is valid.
pub const ACK: u8 = 0x10;
/// The urgent pointer is valid.
pub const URG: u8 = 0x20;
/// ECN echo (RFC 3168).
pub const ECE: u8 = 0x40;
/// Congestion window reduced (RFC 3168).
pub const CWR: u8 = 0x80;

/// Bytes of the header, by its own word; `None` when that contradicts `segment`, which is header and payload.
#[inline]
#[must_use]
pub fn header_len(segment: &[u8]) -> Option<usize> {
    let len = usize::from(segment.get(DATA_OFFSET)? >> 4) * 4;
    (len >= MIN_HEADER_LEN && len <= segment.len()).then_some(len)
}

/// Whether `header`, options included, may stand before each part of a payload that is cut in two: not when a flag
/// applies to one of them only, nor when an option signs the segment (MD5, RFC 2385; TCP-AO, RFC 5925).
#[must_use]
pub fn is_repeatable(header: &[u8]) -> bool {
    if header.len() < MIN_HEADER_LEN || header[FLAGS] & (SYN | RST | URG) != 0 {
        return false;
    }
    let mut options = &header[MIN_HEADER_LEN..];
    loop {
        options = match *options {
            [] | [option::END, ..] => return true,
            [option::NOP, ref rest @ ..] => rest,
            [option::MD5 | option::AUTHENTICATION, ..] => return false,
            // Options that do not parse are the receiver's to judge.
            [_, len, ..] if len >= 2 => options.get(usize::from(len)..).unwrap_or_default(),
            _ => return true,
        };
    }
}

/// Kinds of options (IANA).
mod option {
    pub const END: u8 = 0;
    pub const NOP: u8 = 1;
    pub const MD5: u8 = 19;
    pub const AUTHENTICATION: u8 = 29;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(flags: u8, options: &[u8]) -> Vec<u8> {
        let mut header = vec![0; MIN_HEADER_LEN];
        header[FLAGS] = flags;
        header.extend_from_slice(options);
        header
    }

    #[test]
    fn the_header_length_must_fit_the_segment() {
        let mut segment = [0; 24];
        for (word, len) in [(0x50, Some(20)), (0x60, Some(24)), (0x70, None), (0x40, None)] {
            segment[DATA_OFFSET] = word;
            assert_eq!(header_len(&segment), len, "{word:#x}");
        }
        assert_eq!(header_len(&segment[..12]), None);
    }

    #[test]
    fn what_applies_to_one_segment_only_is_not_repeated() {
        let timestamps = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];
        for flags in [ACK, ACK | PSH | FIN, ACK | CWR | ECE] {
            assert!(is_repeatable(&header(flags, &timestamps)));
        }
        for flags in [SYN, RST, ACK | URG] {
            assert!(!is_repeatable(&header(flags, &timestamps)));
        }
        assert!(!is_repeatable(&header(ACK, &[1, 1, 19, 18, 0, 0])));
        assert!(!is_repeatable(&header(ACK, &[29, 4, 0, 0])));
        assert!(is_repeatable(&header(ACK, &[1, 0, 19, 18])), "after the end of options there is none");
        for broken in [&[8][..], &[8, 0], &[8, 1, 1], &[8, 200]] {
            assert!(is_repeatable(&header(ACK, broken)));
        }
    }
}
