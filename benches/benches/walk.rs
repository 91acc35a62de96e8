//! The walk of a frame through the switch, alone: no kernel, no device, one core.
//!
//! Batches of 32 small frames, some through a tunnel, some beside a port from which a flood of new senders comes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datapath::offload::checksum;
use datapath::packet::Frame;
use datapath::types::MacAddr;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use vswitch_benches::frames::{small, station, tcp};
use vswitch_benches::walk::Lab;

fn forward(c: &mut Criterion) {
    let mut lab = Lab::new(2);
    let _ = lab.pass(1, [small(MacAddr::BROADCAST, station(2), 64)]);
    let mut frames: Vec<Frame> = (0..32).map(|_| small(station(2), station(1), 64)).collect();
    let mut group = c.benchmark_group("32 frames of 64 B");
    group.throughput(Throughput::Elements(32));
    group.bench_function("forward", |b| {
        b.iter(|| {
            frames = lab.pass(0, frames.drain(..));
            assert_eq!(frames.len(), 32, "all are forwarded, none is copied");
        });
    });
    let mut lab = Lab::new(10);
    group.bench_function("flood to 9 ports and a tunnel", |b| {
        b.iter(|| {
            let received: Vec<Frame> = (0..32).map(|_| lab.pool.copy(&frames[0])).collect();
            let sent = lab.pass(0, received);
            assert_eq!(sent.len(), 320, "one for each port but that of the sender");
            for frame in sent {
                lab.pool.recycle(frame);
            }
        });
    });
}

/// Two switches with a VXLAN tunnel between them: the way into it by the one, and out of it by the other, each alone.
fn through_a_tunnel(c: &mut Criterion) {
    let (mut near, mut far) = (Lab::new(1), Lab::new(1));
    let hello = far.pass(0, [small(MacAddr::BROADCAST, station(2), 64)]);
    let _ = near.pass(1, hello.into_iter().map(arrived));
    let mut frames: Vec<Frame> = (0..32).map(|_| tcp(10)).collect();
    frames.iter_mut().for_each(|frame| checksum::finish(frame).expect("a checksum"));
    let mut group = c.benchmark_group("32 frames of 64 B");
    group.throughput(Throughput::Elements(32));
    for (name, measured) in [("forward into a tunnel", 0), ("forward out of a tunnel", 1)] {
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let mut spent = [Duration::ZERO; 2];
                for _ in 0..rounds {
                    let start = Instant::now();
                    let mut runs = near.pass(0, frames.drain(..));
                    spent[0] += start.elapsed();
                    assert_eq!(runs.len(), 32, "a datagram each");
                    runs = runs.into_iter().map(arrived).collect();
                    let start = Instant::now();
                    frames = far.pass(1, runs);
                    spent[1] += start.elapsed();
                    assert_eq!(frames.len(), 32, "nothing is merged or lost");
                }
                spent[measured]
            });
        });
    }
}

/// A datagram as the other end's socket hands it over.
fn arrived(mut run: Frame) -> Frame {
    if let Some(outer) = &mut run.meta.outer {
        outer.local = Some(Ipv4Addr::new(10, 2, 7, 200).into());
    }
    run
}

/// What a port that floods the table with senders costs those who talk: only their frames are timed, a batch of the
/// others' before each; and what one of those costs itself.
fn flood_of_senders(c: &mut Criterion) {
    let mut group = c.benchmark_group("32 frames of 64 B");
    group.throughput(Throughput::Elements(32));
    for (name, new) in [("forward beside known senders", false), ("forward beside a flood of new senders", true)] {
        let mut lab = Lab::new(3);
        let mut senders = Senders::default();
        let _ = lab.pass(1, [small(MacAddr::BROADCAST, station(2), 64)]);
        let mut frames: Vec<Frame> = (0..32).map(|_| small(station(2), station(1), 64)).collect();
        let mut others: Vec<Frame> = (0..32).map(|_| small(station(2), station(3), 64)).collect();
        // The table is full before anything is timed.
        for _ in 0..1000 {
            senders.renew(&mut others, new);
            others = lab.pass(2, others.drain(..));
        }
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    senders.renew(&mut others, new);
                    others = lab.pass(2, others.drain(..));
                    let start = Instant::now();
                    frames = lab.pass(0, frames.drain(..));
                    spent += start.elapsed();
                    assert_eq!((frames.len(), others.len()), (32, 32), "nobody is flooded to");
                }
                spent
            });
        });
        if new {
            group.bench_function("from new senders into a full table", |b| {
                b.iter(|| {
                    senders.renew(&mut others, true);
                    others = lab.pass(2, others.drain(..));
                });
            });
        }
    }
}

/// Source addresses that nobody has used yet.
#[derive(Default)]
struct Senders(u64);

impl Senders {
    /// Gives each frame a new one, or leaves them as they are.
    fn renew(&mut self, frames: &mut [Frame], new: bool) {
        for frame in frames.iter_mut().filter(|_| new) {
            self.0 += 1;
            let [_, _, a, b, c, d, e, f] = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            frame.bytes_mut()[6..12].copy_from_slice(&[a & 0xfc | 2, b, c, d, e, f]);
        }
    }
}

criterion_group!(benches, forward, through_a_tunnel, flood_of_senders);
criterion_main!(benches);
