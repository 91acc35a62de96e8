//! The walk of a frame through the switch, alone: no kernel, no device, one core.
//!
//! Batches of 32 small frames, some beside a port from which a flood of new senders comes; `encapsulate` and
//! `decapsulate` move a 64 KB TCP super-frame, as a container hands it over, through VXLAN with its checksums and segments.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datapath::packet::{ChecksumState, Frame, Gso, GsoKind};
use datapath::types::MacAddr;
use std::hint::black_box;
use vswitch_benches::walk::{Lab, REMOTE, small, station};

/// A TCP super-frame with `payload` bytes of data and an unfinished checksum, from station 1 to station 2.
fn super_frame(payload: usize) -> Frame {
    let mut frame = small(station(2), station(1), 54 + payload);
    let total = (40 + payload) as u16;
    let bytes = frame.bytes_mut();
    bytes[12..14].copy_from_slice(&[0x08, 0x00]);
    bytes[14..34].copy_from_slice(&[0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    bytes[16..18].copy_from_slice(&total.to_be_bytes());
    let header = fold(&bytes[14..34], 0);
    bytes[24..26].copy_from_slice(&(!header).to_be_bytes());
    bytes[34..54]
        .copy_from_slice(&[0x9c, 0x40, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0x01, 0xf5, 0, 0, 0, 0]);
    let pseudo = fold(&bytes[26..34], 6 + u32::from(total - 20));
    bytes[50..52].copy_from_slice(&pseudo.to_be_bytes());
    frame.meta.csum = ChecksumState::Partial { start: 34, offset: 16 };
    frame.meta.gso = Some(Gso { kind: GsoKind::TcpV4, size: 1460, header_len: 54, ecn: false });
    frame
}

/// The folded one's complement sum (RFC 1071) of 16-bit words.
fn fold(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start + bytes.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

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
                let mut spent = std::time::Duration::ZERO;
                for _ in 0..rounds {
                    senders.renew(&mut others, new);
                    others = lab.pass(2, others.drain(..));
                    let start = std::time::Instant::now();
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

fn vxlan(c: &mut Criterion) {
    let mut lab = Lab::new(1);
    let whole = super_frame(64_240);
    let mut group = c.benchmark_group("a 64 KB TCP frame through VXLAN");
    group.throughput(Throughput::Bytes(whole.len() as u64));
    group.bench_function("encapsulate", |b| {
        b.iter(|| {
            let frame = lab.pool.copy(&whole);
            for run in black_box(lab.pass(0, [frame])) {
                lab.pool.recycle(run);
            }
        });
    });
    let frame = lab.pool.copy(&whole);
    let mut runs = lab.pass(0, [frame]);
    for run in &mut runs {
        let outer = run.meta.outer.as_mut().expect("a tunnelled datagram");
        assert_eq!(outer.remote, REMOTE);
    }
    // The far end receives what this end sent.
    let mut far = Lab::new(1);
    group.bench_function("decapsulate", |b| {
        b.iter(|| {
            let received: Vec<Frame> = runs.iter().map(|run| far.pool.copy(run)).collect();
            let sent = far.pass(1, received);
            assert!(!sent.is_empty() && sent.len() <= 8, "{} frames: they are coalesced again", sent.len());
            for frame in sent {
                far.pool.recycle(frame);
            }
        });
    });
}

criterion_group!(benches, forward, flood_of_senders, vxlan);
criterion_main!(benches);
