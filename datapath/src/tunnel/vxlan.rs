//! VXLAN (RFC 7348): frames → UDP payloads, and back.
//!
//! A super-frame leaves as runs of datagrams of equal size, which one `UDP_SEGMENT` send takes whole, and a received run
//! (`UDP_GRO`) becomes super-frames again. Without that, TCP through a tunnel is five times slower.
//!
//! What the tunnel cannot carry is cut to fit if it is TCP, whose senders may not listen to ICMP, and refused if not.
//! An attacker on the underlay may send any bytes: a datagram that is no VXLAN is counted, and what is inside is as
//! untrusted as a frame from any other port.

use super::Vxlan;
use crate::offload::checksum;
use crate::offload::gro::Merge;
use crate::offload::gso::Cut;
use crate::packet::{ChecksumState, Frame, Meta, Outer, Pool};
use crate::switch::verdict::DropReason;
use crate::types::{L3Mtu, Vni};
use crate::wire::parse::{flow_hash, parse};
use crate::wire::{ethernet, udp, vxlan};

/// Bytes that a tunnel over IPv4 takes from the underlay's MTU: inner Ethernet, VXLAN, UDP, IPv4. Every VLAN tag that
/// an inner frame carries takes 4 more.
pub const OVERHEAD_V4: u32 = 14 + 8 + 8 + 20;
/// The same over IPv6.
pub const OVERHEAD_V6: u32 = 14 + 8 + 8 + 40;

/// Datagrams in one run: what every kernel's `UDP_SEGMENT` takes.
const MAX_RUN: usize = 64;

/// What became of an encapsulated frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Encapped {
    /// Datagrams that the far end will receive.
    pub segments: u32,
    /// Frames that they were appended to `out` in, each one a run of datagrams.
    pub runs: u32,
}

/// A frame that came out of a tunnel, with no port yet.
#[derive(Debug)]
pub struct Inner {
    /// Its network.
    pub vni: Vni,
    /// The frame, `meta.outer` no longer set.
    pub frame: Frame,
    /// How many received frames it stands for.
    pub frames: u32,
}

/// Turns an Ethernet frame into UDP payloads for `tunnel`, appended to `out` with `meta.outer` set.
///
/// `mtu` is the largest inner packet that the tunnel carries; tags of the inner frame count against it. Checksums are
/// finished, super-frames are cut, TCP also to fit `mtu`; anything else that is too large is handed back as
/// [`DropReason::MtuExceeded`], unchanged but for its checksum state.
pub fn encap(
    mut frame: Frame,
    tunnel: &Vxlan,
    mtu: Option<L3Mtu>,
    pool: &mut Pool,
    out: &mut Vec<Frame>,
) -> Result<Encapped, (Frame, DropReason)> {
    let cut = match prepare(&mut frame, mtu) {
        Ok(cut) => cut,
        Err(reason) => return Err((frame, reason)),
    };
    let outer = Outer { remote: tunnel.remote, local: tunnel.local, segment: None, entropy: entropy(&frame) };
    let header = vxlan::header(tunnel.out_vni);
    let Some((cut, segments)) = cut else {
        frame.push_front(vxlan::HEADER_LEN)[..vxlan::HEADER_LEN].copy_from_slice(&header);
        frame.meta.outer = Some(outer);
        out.push(frame);
        return Ok(Encapped { segments: 1, runs: 1 });
    };
    let datagram = vxlan::HEADER_LEN + cut.segment_len(0);
    let per_run = MAX_RUN.min(udp::MAX_PAYLOAD / datagram);
    let mut runs = 0;
    for first in (0..segments).step_by(per_run) {
        let last = segments.min(first + per_run) - 1;
        let mut run = pool.alloc();
        run.set_len((last - first) * datagram + vxlan::HEADER_LEN + cut.segment_len(last));
        for (i, bytes) in (first..=last).zip(run.bytes_mut().chunks_mut(datagram)) {
            let (prefix, segment) = bytes.split_at_mut(vxlan::HEADER_LEN);
            prefix.copy_from_slice(&header);
            cut.write(frame.bytes(), i, segment);
        }
        let segment = (last > first).then_some(datagram as u16);
        let outer = Some(Outer { segment, ..outer });
        run.meta = Meta { csum: ChecksumState::None, gso: None, outer, ..frame.meta };
        out.push(run);
        runs += 1;
    }
    pool.recycle(frame);
    Ok(Encapped { segments: segments as u32, runs })
}

/// Makes `frame` fit to be the payload of one datagram, or says how it must be cut, and into how many.
fn prepare(frame: &mut Frame, mtu: Option<L3Mtu>) -> Result<Option<(Cut, usize)>, DropReason> {
    let largest = udp::MAX_PAYLOAD - vxlan::HEADER_LEN;
    let limit = mtu.map_or(largest, |mtu| largest.min(ethernet::HEADER_LEN + mtu.0 as usize));
    if frame.meta.gso.is_some() || frame.len() > limit {
        let single = frame.meta.gso.is_none();
        let too_long = |reason| if single { DropReason::MtuExceeded } else { reason };
        let mut cut = Cut::of(frame).map_err(too_long)?;
        cut.limit_segment_len(limit)?;
        let segments = cut.segments().map_err(too_long)?;
        if segments > 1 {
            return Ok(Some((cut, segments)));
        }
        frame.set_len(cut.end());
        frame.meta.gso = None;
    }
    if frame.headroom() < vxlan::HEADER_LEN {
        return Err(DropReason::Headroom);
    }
    checksum::finish(frame).map(|()| None)
}

/// What spreads the flows over outer source ports.
fn entropy(frame: &Frame) -> u16 {
    parse(frame.bytes()).map_or(0, |headers| flow_hash(&headers, frame.bytes()))
}

/// Takes the frames out of a received run of datagrams and appends them to `out`, TCP segments that follow each other
/// merged into super-frames. Returns how many datagrams were no VXLAN, to be counted as
/// [`DropReason::TunnelMalformed`]. Who sent the run is in its `meta.outer`, which the caller reads before.
pub fn decap(mut run: Frame, pool: &mut Pool, out: &mut Vec<Inner>) -> u32 {
    let len = run.len();
    let datagram = run.meta.outer.and_then(|outer| outer.segment).map_or(len, usize::from).max(1);
    let mut malformed = u32::from(len == 0);
    let mut open: Option<(Vni, Merge)> = None;
    for start in (0..len).step_by(datagram) {
        let end = len.min(start + datagram);
        let inner = start + vxlan::HEADER_LEN..end;
        let Some(vni) = vxlan::vni(&run.bytes()[start..end]).filter(|_| inner.len() >= ethernet::HEADER_LEN) else {
            malformed += 1;
            continue;
        };
        if let Some((of, merge)) = &mut open
            && *of == vni
            && merge.append(run.bytes_mut(), inner.clone())
        {
            continue;
        }
        if let Some((vni, merge)) = open.replace((vni, Merge::begin(run.bytes(), inner))) {
            let merged = merge.finish(run.bytes_mut());
            let mut frame = pool.alloc();
            frame.set_len(merged.range.len());
            frame.bytes_mut().copy_from_slice(&run.bytes()[merged.range.clone()]);
            frame.meta = Meta { csum: merged.csum, gso: merged.gso, ..Meta::default() };
            out.push(Inner { vni, frame, frames: merged.count });
        }
    }
    match open {
        // The last frame keeps the buffer: for a run that became one super-frame nothing is copied.
        Some((vni, merge)) => {
            let merged = merge.finish(run.bytes_mut());
            run.set_len(merged.range.end);
            run.pop_front(merged.range.start);
            run.meta = Meta { csum: merged.csum, gso: merged.gso, ..Meta::default() };
            out.push(Inner { vni, frame: run, frames: merged.count });
        }
        None => pool.recycle(run),
    }
    malformed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::fixtures::{Packet, verified};
    use std::net::SocketAddr;

    const MTU: Option<L3Mtu> = Some(L3Mtu(1450));

    fn tunnel() -> Vxlan {
        let vni = Vni::new(5000).unwrap();
        Vxlan { out_vni: vni, in_vni: vni, remote: SocketAddr::from(([192, 0, 2, 2], 4789)), local: None }
    }

    fn encapped(frame: Frame, mtu: Option<L3Mtu>) -> Result<(Encapped, Vec<Frame>), DropReason> {
        let (mut pool, mut out) = (Pool::new(4), Vec::new());
        match encap(frame, &tunnel(), mtu, &mut pool, &mut out) {
            Ok(encapped) => Ok((encapped, out)),
            Err((_, reason)) => Err(reason),
        }
    }

    /// The datagrams of a run, without their VXLAN headers.
    fn datagrams(run: &Frame) -> Vec<&[u8]> {
        let size = run.meta.outer.unwrap().segment.map_or(run.len(), usize::from);
        run.bytes()
            .chunks(size)
            .map(|datagram| datagram.strip_prefix(&[8, 0, 0, 0, 0, 0x13, 0x88, 0]).unwrap())
            .collect()
    }

    fn decapped(run: Frame) -> (Vec<Inner>, u32) {
        let (mut pool, mut out) = (Pool::new(4), Vec::new());
        let malformed = decap(run, &mut pool, &mut out);
        (out, malformed)
    }

    #[test]
    fn a_super_frame_travels_as_runs_and_comes_out_as_it_went_in() {
        for packet in [Packet::tcp4(40_001), Packet::tcp6(40_001).tagged(7)] {
            let (encapped, runs) = encapped(packet.super_frame(1300), MTU).unwrap();
            assert_eq!(encapped, Encapped { segments: 31, runs: 1 });
            let segments = datagrams(&runs[0]);
            assert_eq!(segments.len(), 31);
            segments.into_iter().for_each(|segment| drop(verified(segment)));
            let (inner, malformed) = decapped(runs.into_iter().next().unwrap());
            let [inner] = <[Inner; 1]>::try_from(inner).unwrap();
            assert_eq!((inner.vni.get(), inner.frames, malformed), (5000, 31, 0));
            let sent = packet.super_frame(1300);
            assert_eq!(inner.frame.bytes(), sent.bytes());
            assert_eq!(inner.frame.meta, sent.meta);
        }
    }

    #[test]
    fn tcp_that_is_too_long_is_cut_to_fit_and_anything_else_refused() {
        let (encapped_to, runs) = encapped(Packet::tcp4(1448).frame(), MTU).unwrap();
        assert_eq!(encapped_to, Encapped { segments: 2, runs: 1 });
        let lengths: Vec<_> = datagrams(&runs[0]).into_iter().map(|segment| verified(segment).payload.len()).collect();
        assert_eq!(lengths, [1398, 50]);
        assert_eq!(encapped(Packet::tcp4(1448).udp().frame(), MTU).unwrap_err(), DropReason::MtuExceeded);
    }
}
