//! Encapsulation: a frame → the datagrams that carry it.
//!
//! A super-frame leaves as runs of datagrams of equal size, which one `UDP_SEGMENT` send takes whole. Without that, TCP
//! through a tunnel is five times slower.
//!
//! That a frame fits the tunnel was seen to before, by the switch.

use super::{Tunnel, WayOut, ipip};
use crate::offload::checksum;
use crate::offload::gso::Cut;
use crate::packet::{ChecksumState, Frame, Gso, GsoKind, Meta, Outer, Pool};
use crate::switch::verdict::DropReason;
use crate::wire::{ipv4, udp};
use std::net::IpAddr;

/// Datagrams in one run: what every kernel's `UDP_SEGMENT` takes.
const MAX_RUN: usize = 64;

/// Super-frames up to this size are cut here, also where the kernel could. Only a packet that is sent by itself is refused when
/// the way has become narrower (EMSGSIZE), and that is how it is noticed; when larger ones are lost, TCP sends one segment
/// again, and even one of 9000 bytes comes here as a super-frame if it has to be cut for the tunnel.
const CUT_HERE: usize = 10_000;

/// What became of an encapsulated frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Encapped {
    /// Datagrams that the far end will receive.
    pub segments: u32,
    /// Frames that they were appended to `out` in, each one a run of datagrams.
    pub runs: u32,
}

/// Whether `frame` becomes one datagram of `tunnel`, in its own memory, as [`encap_whole`] makes it.
#[inline]
#[must_use]
pub fn fits_whole(frame: &Frame, tunnel: &Tunnel) -> bool {
    frame.meta.gso.is_none() && frame.len() <= udp::MAX_PAYLOAD - tunnel.header_len() && !tunnel.protocol.is_layer3()
}

/// Turns an Ethernet frame into datagrams' payloads for `tunnel`, appended to `out` with `meta.outer` set.
///
/// Checksums are finished, super-frames are cut. What is too large for any datagram is handed back as
/// [`DropReason::MtuExceeded`], unchanged but for its checksum state.
pub fn encap(
    mut frame: Frame,
    tunnel: &Tunnel,
    pool: &mut Pool,
    out: &mut Vec<Frame>,
) -> Result<Encapped, (Frame, DropReason)> {
    if tunnel.protocol.is_layer3()
        && let Err(reason) = ipip::check(frame.bytes())
    {
        return Err((frame, reason));
    }
    if let Some(whole) = keep_whole(&mut frame, tunnel, pool) {
        out.push(frame);
        return Ok(whole);
    }
    let cut = match fit(&mut frame, udp::MAX_PAYLOAD - tunnel.header_len()) {
        Ok(cut) => cut,
        Err(reason) => return Err((frame, reason)),
    };
    match cut {
        None => {
            out.push(encap_whole(frame, tunnel, tunnel.remote.ip(), pool)?);
            Ok(Encapped { segments: 1, runs: 1 })
        }
        Some((cut, segments)) => Ok(encap_cut(frame, tunnel, &cut, segments, pool, out)),
    }
}

/// Turns a frame that fits into the payload of one datagram to `remote`, its checksum finished; handed back where that
/// cannot be.
#[inline(always)] // A call would have the frame and the addresses written to memory and read back.
pub fn encap_whole(
    mut frame: Frame,
    tunnel: &Tunnel,
    remote: IpAddr,
    pool: &mut Pool,
) -> Result<Frame, (Frame, DropReason)> {
    if let Err(reason) = checksum::finish(&mut frame) {
        return Err((frame, reason));
    }
    tunnel.set_outer(&mut frame, remote);
    wrap(&mut frame, tunnel, pool);
    Ok(frame)
}

/// Turns a TCP super-frame, in its own memory, into a datagram that the kernel cuts, if it can; otherwise `None`, and the
/// frame is as it was.
fn keep_whole(frame: &mut Frame, tunnel: &Tunnel, pool: &mut Pool) -> Option<Encapped> {
    let WayOut { ifindex, source } = tunnel.way_out.filter(|_| tunnel.may_send_whole())?;
    let gso = frame.meta.gso.filter(|_| !frame.meta.outer_may_fragment)?;
    if !matches!(gso.kind, GsoKind::TcpV4 | GsoKind::TcpV6) {
        return None;
    }
    let cut = Cut::of(frame).ok()?;
    let segments = cut.segments().ok().filter(|&n| n > 1)?;
    let header_len = tunnel.header_len();
    let packet = ipv4::MIN_HEADER_LEN + header_len + cut.end() - tunnel.stripped_len();
    if frame.meta.csum != cut.unfinished_tcp() || !(CUT_HERE..=ipv4::MAX_PACKET).contains(&packet) {
        return None;
    }
    frame.set_len(cut.end());
    frame.meta.gso = Some(Gso { header_len: cut.header_len() as u16, ..gso });
    tunnel.set_outer(frame, tunnel.remote.ip());
    frame.meta.outer = frame.meta.outer.map(|outer| Outer { ifindex, local: Some(source.into()), ..outer });
    wrap(frame, tunnel, pool);
    frame.shift_offsets(header_len as i16 - tunnel.stripped_len() as i16);
    Some(Encapped { segments: segments as u32, runs: 1 })
}

/// Takes off what the tunnel does not carry, and puts its header before the rest.
#[inline]
fn wrap(frame: &mut Frame, tunnel: &Tunnel, pool: &mut Pool) {
    let header_len = tunnel.header_len();
    frame.pop_front(tunnel.stripped_len());
    pool.make_room(frame, header_len);
    tunnel.write_header(frame.push_front(header_len));
}

/// Turns a frame into as many datagrams as `cut` has segments, in runs of as many as the kernel takes.
fn encap_cut(
    mut frame: Frame,
    tunnel: &Tunnel,
    cut: &Cut,
    segments: usize,
    pool: &mut Pool,
    out: &mut Vec<Frame>,
) -> Encapped {
    tunnel.set_outer(&mut frame, tunnel.remote.ip());
    let header_len = tunnel.header_len();
    let datagram = header_len + cut.segment_len(0);
    let per_run = if tunnel.sends_runs() { MAX_RUN.min(udp::MAX_PAYLOAD / datagram) } else { 1 };
    let mut runs = 0;
    for first in (0..segments).step_by(per_run) {
        let last = segments.min(first + per_run) - 1;
        let mut run = pool.alloc();
        run.set_len((last - first) * datagram + header_len + cut.segment_len(last));
        for (i, bytes) in (first..=last).zip(run.bytes_mut().chunks_mut(datagram)) {
            cut.write(frame.bytes(), i, &mut bytes[header_len..]);
            tunnel.write_header(bytes);
        }
        let segment = (last > first).then_some(datagram as u16);
        let outer = frame.meta.outer.map(|outer| Outer { segment, ..outer });
        // Nothing that is stripped is sent in runs of several.
        run.pop_front(tunnel.stripped_len());
        run.meta = Meta { csum: ChecksumState::None, gso: None, outer, ..frame.meta };
        out.push(run);
        runs += 1;
    }
    pool.recycle(frame);
    Encapped { segments: segments as u32, runs }
}

/// How `frame` is to be cut so that no piece is longer than `limit`, and into how many; `None`: not at all.
fn fit(frame: &mut Frame, limit: usize) -> Result<Option<(Cut, usize)>, DropReason> {
    let single = frame.meta.gso.is_none();
    if single && frame.len() <= limit {
        return Ok(None);
    }
    let too_long = |reason| if single { DropReason::MtuExceeded } else { reason };
    let mut cut = Cut::of(frame).map_err(too_long)?;
    cut.limit_segment_len(limit)?;
    let segments = cut.segments().map_err(too_long)?;
    if segments > 1 {
        return Ok(Some((cut, segments)));
    }
    frame.set_len(cut.end());
    frame.meta.gso = None;
    Ok(None)
}
