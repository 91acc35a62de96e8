//! What is done to the bytes of every frame: reading its headers, sums.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use datapath::packet::Frame;
use datapath::wire::checksum::Sum;
use datapath::wire::parse::{flow_hash, parse};
use std::hint::black_box;
use vswitch_benches::frames::{MSS, small, station, tcp};

/// UDP over IPv6 from station 1 to station 2.
fn udp6() -> Frame {
    let mut frame = small(station(2), station(1), 66);
    let bytes = frame.bytes_mut();
    bytes[12..14].copy_from_slice(&[0x86, 0xdd]);
    bytes[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, 12, 17, 64]);
    bytes[22..54].copy_from_slice(&[0xfd; 32]);
    bytes[54..62].copy_from_slice(&[0, 7, 0, 7, 0, 12, 1, 2]);
    frame
}

fn parsing(c: &mut Criterion) {
    let mut tagged = tcp(10);
    assert!(tagged.push_vlan(0x8100, 20), "room for a tag");
    let mut group = c.benchmark_group("parse");
    for (name, frame) in [
        ("no IP", small(station(2), station(1), 64)),
        ("TCP over IPv4", tcp(10)),
        ("the same with a VLAN tag", tagged),
        ("UDP over IPv6", udp6()),
    ] {
        group.bench_function(name, |b| b.iter(|| parse(black_box(frame.bytes()))));
    }
    let frame = tcp(10);
    let headers = parse(frame.bytes()).expect("a frame");
    group.bench_function("hash of a flow", |b| b.iter(|| flow_hash(black_box(&headers), black_box(frame.bytes()))));
}

fn sums(c: &mut Criterion) {
    let mut group = c.benchmark_group("checksum");
    for (name, len) in [("an IPv4 header", 20), ("a small packet", 64), ("a segment", MSS), ("64 KiB", 1 << 16)] {
        let bytes: Vec<u8> = (0..len).map(|n| n as u8).collect();
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(name, |b| b.iter(|| Sum::of(black_box(&bytes)).complement()));
    }
}

criterion_group!(benches, parsing, sums);
criterion_main!(benches);
