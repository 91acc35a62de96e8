//! What a step is to bring about. Everything that a test does not list must not have happened.

use super::packet::Packet;
use datapath::switch::verdict::DropReason;

/// One thing that is to happen.
#[derive(Clone, Debug)]
pub enum Expect {
    /// These packets leave by a port, in this order.
    Out(&'static str, Vec<Packet>),
    /// A counter grows.
    Count(String, u64),
    /// Several things.
    All(Vec<Expect>),
}

/// The packet leaves by the port, unchanged but for what is written here.
#[must_use]
pub fn to(port: &'static str, packet: Packet) -> Expect {
    Expect::Out(port, vec![packet])
}

/// The packets leave by the port, in this order.
#[must_use]
pub fn to_each(port: &'static str, packets: impl IntoIterator<Item = Packet>) -> Expect {
    Expect::Out(port, packets.into_iter().collect())
}

/// The packet leaves by all these ports, copied for all but one.
#[must_use]
pub fn flood<const N: usize>(ports: [&'static str; N], packet: Packet) -> Expect {
    let mut all: Vec<_> = ports.iter().map(|port| to(port, packet.clone())).collect();
    all.push(copied(N as u64 - 1));
    Expect::All(all)
}

/// A copy for a mirror leaves by a port.
#[must_use]
pub fn copy_to(mirror: &str, port: &'static str, packet: Packet) -> Expect {
    Expect::All(vec![copied_for(mirror, &packet), to(port, packet)])
}

/// A copy is made for a mirror and leaves; where, is listed otherwise.
#[must_use]
pub fn copied_for(mirror: &str, packet: &Packet) -> Expect {
    let bytes = Expect::Count(format!("{mirror}.copy_bytes"), packet.frame().len() as u64);
    Expect::All(vec![Expect::Count(format!("{mirror}.copies"), 1), bytes, copied(1)])
}

/// The packet leaves by the one patch port and is received at the other.
#[must_use]
pub fn through(from: &str, to: &str, packet: &Packet) -> Expect {
    let bytes = packet.frame().len() as u64;
    let count = |name: String, n| Expect::Count(name, n);
    Expect::All(vec![
        count(format!("{from}.tx_packets"), 1),
        count(format!("{from}.tx_bytes"), bytes),
        count(format!("{to}.rx_packets"), 1),
        count(format!("{to}.rx_bytes"), bytes),
    ])
}

/// So many packets are dropped at the port for this reason.
#[must_use]
pub fn dropped(port: &str, reason: DropReason, packets: u64) -> Expect {
    Expect::Count(format!("{port}.drop_{}", reason.name()), packets)
}

/// So many packets are dropped that belong to no port.
#[must_use]
pub fn lost(reason: DropReason, packets: u64) -> Expect {
    Expect::Count(format!("drop_{}", reason.name()), packets)
}

/// So many copies are made.
#[must_use]
pub fn copied(packets: u64) -> Expect {
    Expect::Count("copied".to_owned(), packets)
}

/// So many packets come from a sender that a static entry says to be elsewhere.
#[must_use]
pub fn misplaced(packets: u64) -> Expect {
    Expect::Count("static_none_move".to_owned(), packets)
}

/// The switch itself makes so many packets.
#[must_use]
pub fn generated(packets: u64) -> Expect {
    Expect::Count("generated".to_owned(), packets)
}

/// Cutting makes so many packets more.
#[must_use]
pub fn split(packets: u64) -> Expect {
    Expect::Count("split".to_owned(), packets)
}

/// Merging makes so many packets fewer.
#[must_use]
pub fn merged(packets: u64) -> Expect {
    Expect::Count("merged".to_owned(), packets)
}

/// The packet leaves by the port as the fragments that a router makes of it for this MTU.
#[must_use]
pub fn in_fragments(port: &'static str, packet: &Packet, mtu: usize) -> Expect {
    let fragments = packet.fragments(mtu);
    Expect::All(vec![split(fragments.len() as u64 - 1), to_each(port, fragments)])
}

/// The packet is too big for the port `out`, and its sender, behind the port `back`, is told what goes its way.
#[must_use]
pub fn told(back: &'static str, packet: &Packet, out: &str, mtu: usize) -> Expect {
    Expect::All(vec![to(back, packet.too_big(mtu as u16)), generated(1), dropped(out, DropReason::MtuTold, 1)])
}
