//! The frames of the criterion suites, and how they are timed without what comes before and after.

use datapath::packet::{ChecksumState, Frame, Gso, GsoKind};
use datapath::types::MacAddr;
use datapath::wire::checksum::Sum;
use datapath::wire::ipv4::fill_checksum;
use std::time::{Duration, Instant};

/// Bytes of Ethernet, IPv4 and TCP headers without options.
pub const HEADERS: usize = 54;
/// The payload of a TCP segment at an MTU of 1500.
pub const MSS: usize = 1460;
/// The payload of the largest super-frame that is whole segments.
pub const SUPER: usize = 44 * MSS;

/// The address of station `n`.
#[must_use]
pub fn station(n: u32) -> MacAddr {
    let [a, b, c, d] = n.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

/// An Ethernet frame of `len` bytes.
#[must_use]
pub fn small(dst: MacAddr, src: MacAddr, len: usize) -> Frame {
    let mut bytes = vec![0; len];
    bytes[..6].copy_from_slice(&dst.0);
    bytes[6..12].copy_from_slice(&src.0);
    bytes[12..14].copy_from_slice(&[0x88, 0xb5]);
    Frame::from_bytes(&bytes)
}

/// A TCP frame with `payload` bytes of data from station 1 to station 2, as a container hands it over: its checksum is
/// unfinished, and one with more data than a segment holds is a super-frame.
#[must_use]
pub fn tcp(payload: usize) -> Frame {
    let mut frame = small(station(2), station(1), HEADERS + payload);
    let total = (HEADERS - 14 + payload) as u16;
    let bytes = frame.bytes_mut();
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    bytes[14..34].copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes[16..18].copy_from_slice(&total.to_be_bytes());
    fill_checksum(&mut bytes[14..34]);
    bytes[34..54]
        .copy_from_slice(&[0x9c, 0x40, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0x01, 0xf5, 0, 0, 0, 0]);
    let pseudo = Sum::of(&bytes[26..34]).word(6).word(total - 20).fold();
    bytes[50..52].copy_from_slice(&pseudo.to_be_bytes());
    frame.meta.csum = ChecksumState::Partial { start: 34, offset: 16 };
    let gso = Gso { kind: GsoKind::TcpV4, size: MSS as u16, header_len: HEADERS as u16, ecn: false };
    frame.meta.gso = (payload > MSS).then_some(gso);
    frame
}

/// The time that `rounds` of `work` take, without making what goes in and without disposing of what comes out.
pub fn time_of<S, I, O>(
    rounds: u64,
    state: &mut S,
    mut before: impl FnMut(&mut S) -> I,
    mut work: impl FnMut(&mut S, I) -> O,
    mut after: impl FnMut(&mut S, O),
) -> Duration {
    let mut spent = Duration::ZERO;
    for _ in 0..rounds {
        let input = before(state);
        let start = Instant::now();
        let output = work(state, input);
        spent += start.elapsed();
        after(state, output);
    }
    spent
}

#[cfg(test)]
mod tests {
    use super::*;
    use datapath::offload::gso;
    use datapath::packet::Pool;

    #[test]
    fn a_super_frame_is_whole_segments() {
        let (mut pool, mut out) = (Pool::new(8), Vec::new());
        assert_eq!(gso::segment(tcp(SUPER), None, &mut pool, &mut out), Ok(44));
        assert!(out.iter().all(|segment| segment.len() == HEADERS + MSS));
        let bytes = out[0].bytes();
        assert!(Sum::of(&bytes[14..34]).verifies(), "IPv4");
        assert!(Sum::of(&bytes[26..]).word(6).word(20 + MSS as u16).verifies(), "TCP");
    }

    #[test]
    fn only_the_work_is_timed() {
        let wait = |_: &mut u32| std::thread::sleep(Duration::from_millis(5));
        let (mut calls, start) = (0, Instant::now());
        let spent = time_of(2, &mut calls, wait, |calls, ()| *calls += 1, |state, ()| wait(state));
        assert!(calls == 2 && spent + 4 * Duration::from_millis(5) <= start.elapsed(), "{spent:?}");
    }
}
