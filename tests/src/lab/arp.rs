//! ARP packets (RFC 826) as tests write them down, byte by byte.

use super::{Packet, eth, mac};
use std::net::Ipv4Addr;

/// A station asks everybody, from its address, who has another address.
///
/// # Panics
/// If an address is none.
#[must_use]
pub fn arp_request(station: &str, from: &str, target: &str) -> Packet {
    arp(&format!("{station}→ff"), 1, (station, from), ("00:00:00:00:00:00", target))
}

/// The first station of `"aa→bb"` tells the second, which has asked from the address `to`, that it has the address `from`.
///
/// # Panics
/// If an address is none.
#[must_use]
pub fn arp_reply(stations: &str, from: &str, to: &str) -> Packet {
    let (sender, target) = stations.split_once('→').expect("'aa→bb'");
    arp(stations, 2, (sender, from), (target, to))
}

fn arp(stations: &str, operation: u8, sender: (&str, &str), target: (&str, &str)) -> Packet {
    let ends = [sender, target].map(|(station, ip)| {
        let ip: Ipv4Addr = ip.parse().expect("an IPv4 address");
        [&mac(station).0[..], &ip.octets()].concat()
    });
    eth(stations).raw(0x0806, [&[0, 1, 8, 0, 6, 4, 0, operation][..], &ends.concat()].concat())
}
