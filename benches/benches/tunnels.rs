//! Into each kind of tunnel and out again, without the switch: 32 small frames, and a TCP super-frame of 64 KB, as a
//! container hands it over, with its checksums and segments.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datapath::packet::{Frame, Pool};
use datapath::tunnel::{Decap, Inner, Protocol, Tunnel, encap};
use datapath::types::TunnelKey;
use std::net::SocketAddr;
use vswitch_benches::frames::{SUPER, tcp, time_of};
use vswitch_benches::walk::REMOTE;

const PROTOCOLS: [Protocol; 4] = [Protocol::Vxlan, Protocol::Geneve, Protocol::Gre, Protocol::Ipip];

fn tunnel(protocol: Protocol) -> Tunnel {
    // IP in IP has no key.
    let key = if protocol.is_layer3() { 0 } else { 5000 };
    Tunnel::new(protocol, SocketAddr::new(REMOTE, protocol.udp_port().unwrap_or(0)), TunnelKey(key))
}

/// So many copies of a frame.
fn copies(pool: &mut Pool, of: &Frame, count: usize) -> Vec<Frame> {
    (0..count).map(|_| pool.copy(of)).collect()
}

fn into(tunnel: &Tunnel, pool: &mut Pool, frames: Vec<Frame>) -> Vec<Frame> {
    let mut sent = Vec::with_capacity(64);
    for frame in frames {
        encap(frame, tunnel, pool, &mut sent).expect("it fits");
    }
    sent
}

fn out_of(tunnel: &Tunnel, pool: &mut Pool, runs: Vec<Frame>) -> Vec<Inner> {
    let (mut decap, mut received) = (Decap::new(tunnel.protocol), Vec::with_capacity(64));
    for run in runs {
        decap.take(run, pool, &mut received, |why| panic!("refused: {why:?}"));
    }
    decap.finish(&mut received);
    received
}

fn both_ways(c: &mut Criterion, name: &str, frame: &Frame, count: usize, each: Throughput) {
    let mut group = c.benchmark_group(name);
    group.throughput(each);
    for protocol in PROTOCOLS {
        let tunnel = tunnel(protocol);
        let recycle = |pool: &mut Pool, frames: Vec<Frame>| frames.into_iter().for_each(|frame| pool.recycle(frame));
        let mut pool = Pool::new(256);
        group.bench_function(BenchmarkId::new("encapsulate", protocol.name()), |b| {
            b.iter_custom(|rounds| {
                let before = |pool: &mut Pool| copies(pool, frame, count);
                time_of(rounds, &mut pool, before, |pool, frames| into(&tunnel, pool, frames), recycle)
            });
        });
        let frames = copies(&mut pool, frame, count);
        let sent = into(&tunnel, &mut pool, frames);
        group.bench_function(BenchmarkId::new("decapsulate", protocol.name()), |b| {
            b.iter_custom(|rounds| {
                let before = |pool: &mut Pool| sent.iter().map(|run| pool.copy(run)).collect();
                let after = |pool: &mut Pool, received: Vec<Inner>| {
                    let frames: u32 = received.iter().map(|inner| inner.frames).sum();
                    assert!(frames as usize >= count, "nothing is lost");
                    recycle(pool, received.into_iter().map(|inner| inner.frame).collect());
                };
                time_of(rounds, &mut pool, before, |pool, runs| out_of(&tunnel, pool, runs), after)
            });
        });
    }
}

fn suites(c: &mut Criterion) {
    both_ways(c, "32 frames of 64 B and a tunnel", &tcp(10), 32, Throughput::Elements(32));
    let whole = tcp(SUPER);
    both_ways(c, "a 64 KB TCP frame and a tunnel", &whole, 1, Throughput::Bytes(whole.len() as u64));
}

criterion_group!(benches, suites);
criterion_main!(benches);
