//! ARP for IPv4 over Ethernet (RFC 826): 28 bytes after the Ethernet header.

use super::{be16, put16};
use crate::types::MacAddr;
use std::net::Ipv4Addr;

/// Bytes of a packet.
pub const LEN: usize = 28;

/// Hardware type, protocol type and the lengths of their addresses: Ethernet and IPv4.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
/// Where the operation is.
const OPERATION: usize = 6;
/// Where the sender's addresses are, and those of whom it is about.
const SENDER_MAC: usize = 8;
const SENDER_IP: usize = 14;
const TARGET_MAC: usize = 18;
const TARGET_IP: usize = 24;

/// What a packet is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Who has the target's address?
    Request = 1,
    /// The sender has its address.
    Reply = 2,
}

/// A packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arp {
    /// What it is for.
    pub operation: Operation,
    /// Who has sent it; 0.0.0.0 in a probe, which asks whether an address is free (RFC 5227).
    pub sender: (MacAddr, Ipv4Addr),
    /// Whom it asks for, with no hardware address yet, or whom it answers.
    pub target: (MacAddr, Ipv4Addr),
}

impl Arp {
    /// Reads what follows an Ethernet header, padding included; `None`: it is none, or of another kind.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let packet: &[u8; LEN] = payload.first_chunk()?;
        let operation = match be16(packet, OPERATION) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return None,
        };
        let mac = |at: usize| packet[at..].first_chunk().copied().map(MacAddr);
        let ip = |at: usize| packet[at..].first_chunk::<4>().copied().map(Ipv4Addr::from);
        let sender = (mac(SENDER_MAC)?, ip(SENDER_IP)?);
        let target = (mac(TARGET_MAC)?, ip(TARGET_IP)?);
        packet.starts_with(&KIND).then_some(Self { operation, sender, target })
    }

    /// The bytes that follow the Ethernet header.
    #[must_use]
    pub fn bytes(&self) -> [u8; LEN] {
        let mut packet = [0; LEN];
        packet[..KIND.len()].copy_from_slice(&KIND);
        put16(&mut packet, OPERATION, self.operation as u16);
        for (at, mac) in [(SENDER_MAC, self.sender.0), (TARGET_MAC, self.target.0)] {
            packet[at..at + 6].copy_from_slice(&mac.0);
        }
        for (at, ip) in [(SENDER_IP, self.sender.1), (TARGET_IP, self.target.1)] {
            packet[at..at + 4].copy_from_slice(&ip.octets());
        }
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: [u8; LEN] =
        [0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 0xaa, 192, 168, 10, 10, 0, 0, 0, 0, 0, 0, 169, 254, 1, 1];

    #[test]
    fn a_request_as_it_is_on_the_wire() {
        let request = Arp {
            operation: Operation::Request,
            sender: (MacAddr([2, 0, 0, 0, 0, 0xaa]), [192, 168, 10, 10].into()),
            target: (MacAddr::ZERO, [169, 254, 1, 1].into()),
        };
        assert_eq!(Arp::parse(&[&REQUEST[..], &[0; 18]].concat()), Some(request), "padded to 60 bytes");
        assert_eq!(request.bytes(), REQUEST);
        let reply = Arp { operation: Operation::Reply, ..request };
        assert_eq!((reply.bytes()[7], Arp::parse(&reply.bytes())), (2, Some(reply)));
    }

    #[test]
    fn what_is_none_is_not_read() {
        assert_eq!(Arp::parse(&REQUEST[..27]), None);
        // Another hardware, protocol, length of address, and operation.
        for at in [1, 2, 4, 5, 7] {
            let mut other = REQUEST;
            other[at] ^= 0x0c;
            assert_eq!(Arp::parse(&other), None, "byte {at}");
        }
    }
}
