//! The table of learned addresses alone: finding and learning, by how many addresses it holds.
//!
//! Times are of 32 addresses, in an order that no cache foresees; drawing them is part of it, a nanosecond each.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use datapath::switch::mac_table::MacTable;
use datapath::time::{Duration, Instant};
use datapath::types::{MacAddr, Place, PortId, VlanId};
use std::hint::black_box;
use vswitch_benches::frames::station;

const NOW: Instant = Instant::from_secs(1);
const SIZES: [u32; 3] = [1, 1 << 10, 1 << 16];

/// A table that has learned `stations` and has room for more, up to `capacity`.
fn table(stations: u32, capacity: u32) -> MacTable {
    let mut table = MacTable::new(Duration::from_secs(300), capacity as usize);
    for n in 0..stations {
        let _ = table.learn(vlan(), station(n), place(n), NOW);
    }
    assert_eq!(table.stats().entries, stations as usize);
    table
}

fn vlan() -> VlanId {
    VlanId::new(1).expect("a VLAN")
}

/// Stations are behind four ports.
fn place(n: u32) -> Place {
    Place::of(PortId(n % 4))
}

/// The next 32 of `first..first + count`, drawn by a linear congruential generator.
fn draw(state: &mut u32, first: u32, count: u32) -> [(MacAddr, Place); 32] {
    std::array::from_fn(|_| {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let n = first + (*state >> 8) % count;
        (station(n), place(n))
    })
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("32 lookups");
    group.throughput(Throughput::Elements(32));
    for stations in SIZES {
        let table = table(stations, 1 << 18);
        for (name, first, found) in [("hit", 0, true), ("miss", 1 << 20, false)] {
            let mut state = 1;
            group.bench_function(BenchmarkId::new(name, stations), |b| {
                b.iter(|| {
                    for (mac, _) in draw(&mut state, first, stations) {
                        assert_eq!(black_box(table.lookup(vlan(), mac, NOW)).is_some(), found);
                    }
                });
            });
        }
    }
}

fn learn(c: &mut Criterion) {
    let mut group = c.benchmark_group("32 senders");
    group.throughput(Throughput::Elements(32));
    for stations in SIZES {
        let mut table = table(stations, 1 << 18);
        let mut state = 1;
        group.bench_function(BenchmarkId::new("known", stations), |b| {
            b.iter(|| {
                for (mac, place) in draw(&mut state, 0, stations) {
                    black_box(table.learn(vlan(), mac, place, NOW));
                }
            });
        });
        assert_eq!(table.stats().entries, stations as usize, "nobody was new");
    }
    // Each new one pushes another out.
    for stations in SIZES {
        let mut table = table(stations, stations);
        let mut next = stations;
        group.bench_function(BenchmarkId::new("new, into a full table", stations), |b| {
            b.iter(|| {
                for _ in 0..32 {
                    next += 1;
                    black_box(table.learn(vlan(), station(next), place(next), NOW));
                }
            });
        });
        assert_eq!(table.stats().entries, stations as usize, "it is still full");
    }
}

criterion_group!(benches, lookup, learn);
criterion_main!(benches);
