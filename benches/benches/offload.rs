//! What network cards do for others: cutting super-frames, joining segments again, finishing checksums.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datapath::offload::{checksum, fragment::fragment, gso};
use datapath::packet::{Frame, Pool};
use datapath::tunnel::{Decap, Protocol, Tunnel, encap};
use datapath::types::TunnelKey;
use std::net::SocketAddr;
use vswitch_benches::frames::{HEADERS, MSS, tcp, time_of};
use vswitch_benches::walk::REMOTE;

/// Super-frames of so many segments; more than 43 are more than one run through a tunnel.
const SEGMENTS: [usize; 3] = [2, 10, 43];

fn recycle(pool: &mut Pool, frames: Vec<Frame>) {
    frames.into_iter().for_each(|frame| pool.recycle(frame));
}

fn cut(c: &mut Criterion) {
    let mut group = c.benchmark_group("cut");
    for segments in SEGMENTS {
        let (whole, mut pool) = (tcp(segments * MSS), Pool::new(256));
        group.throughput(Throughput::Bytes(whole.len() as u64));
        group.bench_function(BenchmarkId::new("TCP into segments", segments), |b| {
            b.iter_custom(|rounds| {
                let work = |pool: &mut Pool, frame| {
                    let mut out = Vec::with_capacity(64);
                    assert_eq!(gso::segment(frame, None, pool, &mut out), Ok(segments as u32));
                    out
                };
                time_of(rounds, &mut pool, |pool| pool.copy(&whole), work, recycle)
            });
        });
    }
    let (segment, mut pool) = (tcp(MSS), Pool::new(256));
    group.throughput(Throughput::Bytes(segment.len() as u64));
    group.bench_function("an IPv4 packet into two fragments", |b| {
        b.iter_custom(|rounds| {
            let work = |pool: &mut Pool, mut frame: Frame| {
                frame.bytes_mut()[20] = 0;
                let mut out = Vec::with_capacity(2);
                assert_eq!(fragment(frame, 1450, pool, &mut out), Ok(2));
                out
            };
            time_of(rounds, &mut pool, |pool| pool.copy(&segment), work, recycle)
        });
    });
}

/// Segments are joined as they come out of a tunnel, in one run.
fn join(c: &mut Criterion) {
    let tunnel = Tunnel::new(Protocol::Vxlan, SocketAddr::new(REMOTE, 4789), TunnelKey(5000));
    let mut group = c.benchmark_group("join");
    for segments in SEGMENTS {
        let (mut pool, mut runs) = (Pool::new(256), Vec::new());
        encap(tcp(segments * MSS), &tunnel, &mut pool, &mut runs).expect("it fits");
        let [run] = &runs[..] else { panic!("{} runs", runs.len()) };
        group.throughput(Throughput::Bytes(run.len() as u64));
        group.bench_function(BenchmarkId::new("segments of TCP", segments), |b| {
            b.iter_custom(|rounds| {
                let work = |pool: &mut Pool, run| {
                    let (mut decap, mut out) = (Decap::new(tunnel.protocol), Vec::with_capacity(2));
                    decap.take(run, pool, &mut out, |why| panic!("refused: {why:?}"));
                    decap.finish(&mut out);
                    out
                };
                time_of(
                    rounds,
                    &mut pool,
                    |pool| pool.copy(run),
                    work,
                    |pool, out| {
                        assert_eq!(out.len(), 1, "all are joined");
                        recycle(pool, out.into_iter().map(|inner| inner.frame).collect());
                    },
                )
            });
        });
    }
}

fn finish(c: &mut Criterion) {
    let mut group = c.benchmark_group("finish the checksum");
    for (name, payload) in [("64 B", 64 - HEADERS), ("a segment", MSS)] {
        let (frame, mut pool) = (tcp(payload), Pool::new(4));
        group.throughput(Throughput::Bytes(frame.len() as u64));
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let work = |_: &mut Pool, mut frame: Frame| {
                    checksum::finish(&mut frame).expect("a checksum");
                    frame
                };
                time_of(rounds, &mut pool, |pool| pool.copy(&frame), work, Pool::recycle)
            });
        });
    }
}

criterion_group!(benches, cut, join, finish);
criterion_main!(benches);
