//! Probes: marked frames by which one switch asks the other end of a tunnel whether a length gets there and back.
//!
//! ```text
//!  0            6         12     14      22  23   24      26           28      36
//!  | 01:80:c2…0e | source | 88b5 | magic | v | kind | answer | received | id … | pattern …
//! ```
//!
//! The destination is a group that no bridge forwards (IEEE 802.1Q table 8-1), so that no station can send one through a
//! bridge, and one that gets to a switch that knows no probes goes no further. The EtherType is for local experiments
//! (IEEE 802). Whoever is on the underlay may forge one, as he may any other packet of the tunnel: what it says is
//! believed by nobody but the operator who reads it, and an answer is never longer than what asked for it.

use crate::types::MacAddr;
use crate::wire::ethernet;

/// Nearest bridge.
const TO: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
/// Locally administered; the same for all, for nothing is ever sent to it.
const FROM: [u8; 6] = [0x02, 0, 0, 0, 0x88, 0xb5];
/// The EtherType with which a probe begins, and what tells it from other experiments.
const MARK: [u8; 10] = *b"\x88\xb5vswprobe";
const VERSION: u8 = 1;
const REQUEST: u8 = 1;
const ANSWER: u8 = 2;
/// Of an answer: the pattern that it answers to was as it should be.
const INTACT: u8 = 0x80;
/// Where the pattern begins.
const PATTERN: usize = 36;
/// The shortest probe, Ethernet's shortest frame.
pub const MIN_LEN: usize = 60;

/// What a probe says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Which request it is, or answers.
    pub id: u64,
    /// Which of the two it is.
    pub kind: Kind,
    /// Whether its pattern is as it should be.
    pub intact: bool,
}

/// A request or an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// It asks for an answer of so many bytes.
    Request {
        /// With its Ethernet header.
        answer: u16,
    },
    /// It tells what came of a request.
    Answer {
        /// The bytes that arrived.
        received: u16,
        /// Whether their pattern was as it should be.
        intact: bool,
    },
}

/// Whether a frame is a probe, perhaps of a kind that is not known.
#[inline]
#[must_use]
pub fn is_probe(frame: &[u8]) -> bool {
    frame.get(ethernet::ETHERTYPE..ethernet::ETHERTYPE + MARK.len()) == Some(&MARK[..]) && frame.starts_with(&TO)
}

/// Writes a probe that fills `frame`, which has [`MIN_LEN`] bytes or more.
pub fn write(frame: &mut [u8], id: u64, kind: Kind) {
    let (what, length) = match kind {
        Kind::Request { answer } => (REQUEST, answer),
        Kind::Answer { received, intact: true } => (ANSWER | INTACT, received),
        Kind::Answer { received, intact: false } => (ANSWER, received),
    };
    frame[..6].copy_from_slice(&TO);
    frame[6..12].copy_from_slice(&FROM);
    frame[12..22].copy_from_slice(&MARK);
    frame[22..24].copy_from_slice(&[VERSION, what]);
    frame[24..26].copy_from_slice(&length.to_be_bytes());
    frame[26..28].fill(0);
    frame[28..36].copy_from_slice(&id.to_be_bytes());
    frame[PATTERN..].iter_mut().zip(pattern()).for_each(|(byte, expected)| *byte = expected);
}

/// What a frame says that [`is_probe`]; `None` if it is not understood.
#[must_use]
pub fn read(frame: &[u8]) -> Option<Probe> {
    let rest = frame.get(PATTERN..).filter(|_| frame.len() >= MIN_LEN)?;
    let source = MacAddr(*frame[6..].first_chunk()?);
    if source.is_group() || frame[22] != VERSION {
        return None;
    }
    let length = u16::from_be_bytes([frame[24], frame[25]]);
    let kind = match (frame[23] & !INTACT, frame[23] & INTACT != 0) {
        (REQUEST, false) => Kind::Request { answer: length },
        (ANSWER, intact) => Kind::Answer { received: length, intact },
        _ => return None,
    };
    let intact = rest.iter().zip(pattern()).all(|(byte, expected)| *byte == expected);
    Some(Probe { id: u64::from_be_bytes(*frame[28..].first_chunk()?), kind, intact })
}

/// Bytes none of which is like the next, with a period that is no power of two.
fn pattern() -> impl Iterator<Item = u8> {
    (1..=251).cycle()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(len: usize, id: u64, kind: Kind) -> Vec<u8> {
        let mut frame = vec![0; len];
        write(&mut frame, id, kind);
        frame
    }

    #[test]
    fn golden_bytes() {
        let frame = written(60, 0x0102_0304_0506_0708, Kind::Request { answer: 1464 });
        let mut expected = vec![0x01, 0x80, 0xc2, 0, 0, 0x0e, 0x02, 0, 0, 0, 0x88, 0xb5, 0x88, 0xb5];
        expected.extend(b"vswprobe");
        expected.extend([1, 1, 0x05, 0xb8, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        expected.extend(1..=24);
        assert_eq!(frame, expected);
        assert_eq!(written(60, 1, Kind::Answer { received: 60, intact: true })[22..26], [1, 0x82, 0, 60]);
    }

    #[test]
    fn what_is_written_is_read() {
        let kinds = [
            Kind::Request { answer: 60 },
            Kind::Answer { received: 9000, intact: true },
            Kind::Answer { received: 60, intact: false },
        ];
        for (len, kind) in [60, 61, 1464, 9014].into_iter().flat_map(|len| kinds.map(|kind| (len, kind))) {
            let mut frame = written(len, 77, kind);
            assert!(is_probe(&frame));
            assert_eq!(read(&frame), Some(Probe { id: 77, kind, intact: true }));
            *frame.last_mut().unwrap() ^= 1;
            assert_eq!(read(&frame), Some(Probe { id: 77, kind, intact: false }), "a byte of the pattern has changed");
        }
    }

    #[test]
    fn what_is_none_or_not_understood() {
        let good = written(60, 1, Kind::Request { answer: 60 });
        let with = |at: usize, byte: u8| {
            let mut frame = good.clone();
            frame[at] = byte;
            (is_probe(&frame), read(&frame).is_some())
        };
        assert_eq!((with(0, 0), with(5, 0).0, with(12, 8).0, with(21, 0).0), ((false, true), false, false, false));
        assert_eq!([with(6, 1), with(22, 2), with(23, 3), with(23, 0x81)], [(true, false); 4]);
        for len in 0..60 {
            assert_eq!((is_probe(&good[..len]), read(&good[..len])), (len >= 22, None));
        }
    }
}
