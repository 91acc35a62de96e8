//! Small frames through the switch alone: no kernel, no device, one core. Times are of batches of 32 frames of 64 bytes.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datapath::packet::Frame;
use datapath::types::MacAddr;
use std::time::Instant;
use vswitch_benches::frames::{small, station};
use vswitch_benches::walk::Lab;

/// Frames from port 0 to `stations` behind port 1, from as many; `out` come out for each.
fn known(c: &mut Criterion, name: &str, mut lab: impl FnMut() -> Lab, stations: u32, out: usize) {
    let mut group = c.benchmark_group("32 frames of 64 B");
    group.throughput(Throughput::Elements(32));
    group.bench_function(name, |b| {
        let (mut lab, mut flows) = (lab(), Flows { stations, state: 1 });
        for n in 0..stations {
            for (device, from) in [(0, n), (1, stations + n)] {
                let frames = lab.pass(device, [small(MacAddr::BROADCAST, station(from), 64)]);
                frames.into_iter().for_each(|frame| lab.pool.recycle(frame));
            }
        }
        let mut frames: Vec<Frame> = (0..32).map(|_| small(station(0), station(0), 64)).collect();
        let mut round = || {
            flows.address(&mut frames);
            let start = Instant::now();
            let mut sent = lab.pass(0, frames.drain(..));
            let spent = start.elapsed();
            assert_eq!(sent.len(), 32 * out, "all go where they should");
            frames.extend(sent.drain(..32));
            sent.into_iter().for_each(|copy| lab.pool.recycle(copy));
            spent
        };
        // Every sample has a lab of its own, which has to know all flows first.
        (0..8 * stations.div_ceil(32)).for_each(|_| _ = round());
        b.iter_custom(|rounds| (0..rounds).map(|_| round()).sum());
    });
}

/// Which two stations the next frame is of: all of them, in an order that no cache foresees.
struct Flows {
    stations: u32,
    state: u32,
}

impl Flows {
    fn address(&mut self, frames: &mut [Frame]) {
        for frame in frames {
            // A full cycle of a linear congruential generator.
            self.state = self.state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let n = (self.state >> 8) % self.stations;
            if frame.len() > 64 {
                assert!(frame.pop_vlan(), "it left with a tag");
            }
            let bytes = frame.bytes_mut();
            bytes[..6].copy_from_slice(&station(self.stations + n).0);
            bytes[6..12].copy_from_slice(&station(n).0);
        }
    }
}

fn suites(c: &mut Criterion) {
    for (name, stations) in [("known, 1 station", 1), ("known, 1k stations", 1 << 10), ("known, 64k stations", 1 << 16)]
    {
        known(c, name, || Lab::new(2), stations, 1);
    }
    known(c, "into a VLAN's tag", Lab::with_vlan, 1, 1);
    known(c, "copied by a mirror", Lab::with_mirror, 1, 2);
    known(c, "through a patch", Lab::with_patch, 1, 1);
}

criterion_group!(benches, suites);
criterion_main!(benches);
