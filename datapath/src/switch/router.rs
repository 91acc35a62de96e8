//! The router of a bridge: how IPv4 packets get into layer-3 tunnels and out of them.
//!
//! ```text
//!  station ─▶ frame to the bridge's own MAC ─▶ longest prefix ─▶ one hop less ─▶ tunnel (or the bridge's own port)
//!  tunnel ─▶ packet ─▶ whose MAC? (ARP) ─▶ one hop less ─▶ frame from the bridge's own MAC ─▶ station
//! ```
//!
//! As with the kernel's ipip devices each end is a router: it takes one hop from the time to live on the way in and one on
//! the way out, none for packets to the host itself. A packet that has run out is dropped and nobody told.
//!
//! Layer-3 tunnels take no part in flooding. What stations ask for that is behind one is answered here; what the switch
//! has to ask for, it asks in the tunnel's VLAN, on all ports.

use super::forward::Targets;
use super::learned::Learned;
use super::neighbours::{Hold, Key, Lookup, Overdue};
use super::pipeline::Walk;
use super::routes::{NextHop, Router, native};
use super::state::{Bridge, Port};
use super::verdict::DropReason;
use super::vlan::{self, Stack, Tagging};
use crate::packet::Frame;
use crate::tunnel::ipip;
use crate::types::{MacAddr, Place, PortId, VlanId};
use crate::wire::arp::{Arp, Operation};
use crate::wire::parse::Headers;
use crate::wire::{arp, ethernet, ipv4};

impl<'a> Walk<'a> {
    /// Where a frame goes that concerns the bridge's router; `None`: it is a frame like others.
    #[allow(clippy::too_many_arguments)] // What `decide` has found out so far.
    pub(super) fn route(
        &mut self,
        bridge: &'a Bridge,
        router: &Router,
        learned: &mut Learned,
        ingress: &Port,
        frame: &mut Frame,
        headers: &Headers,
        tagging: &Tagging,
    ) -> Result<Option<Targets<'a>>, DropReason> {
        if !router.serves(tagging.vlan) || tagging.customer() != VlanId::UNTAGGED || tagging.below > 0 {
            return Ok(None);
        }
        if headers.ethertype == ethernet::ARP {
            self.take_arp(bridge, router, learned, ingress, frame, headers, tagging)?;
        }
        if headers.dst != router.mac() {
            return Ok(None);
        }
        let hop = match headers.ethertype {
            ethernet::IPV4 => {
                let network = headers.network(frame.bytes()).ok_or(DropReason::Malformed)?;
                // Padding is the link's, not the packet's.
                frame.set_len(network.end);
                let ends = ipv4::addresses(&frame.bytes()[network.l3_offset.into()..]);
                ends.into_iter().all(ipip::is_host).then(|| router.next_hop(tagging.vlan, ends[1])).flatten()
            }
            _ => None,
        };
        let (port, remote) = match hop {
            Some(NextHop::Tunnel(place)) => (place.port, Some(place.remote)),
            Some(NextHop::Host) | None => (router.own().ok_or(DropReason::NoRoute)?, None),
        };
        let first = self.snap.port(port).ok_or(DropReason::PortDown)?;
        let led = remote.is_some() || port != ingress.id;
        if !led || !first.is_open() || !vlan::carries(&first.vlan, tagging.vlan, tagging.customer()) {
            return Err(DropReason::NoRoute);
        }
        if ingress.rules.protected && first.rules.protected {
            return Err(DropReason::Protected);
        }
        if remote.is_some() && !ipv4::pass_hop(&mut frame.bytes_mut()[headers.l3_offset.into()..]) {
            return Err(DropReason::TtlExpired);
        }
        Ok(Some(Targets::only(self.snap, first, remote.unwrap_or_default())))
    }

    /// Learns from an ARP packet, and answers it if it asks for what is behind a layer-3 tunnel.
    #[allow(clippy::too_many_arguments)] // As above.
    fn take_arp(
        &mut self,
        bridge: &Bridge,
        router: &Router,
        learned: &mut Learned,
        ingress: &Port,
        frame: &Frame,
        headers: &Headers,
        tagging: &Tagging,
    ) -> Result<(), DropReason> {
        let Some(arp) = Arp::parse(&frame.bytes()[headers.l3_offset.into()..]) else { return Ok(()) };
        let (vlan, (mac, ip), target) = (tagging.vlan, arp.sender, arp.target.1);
        let a_host = ipip::is_host(ip) && !mac.is_group() && mac != MacAddr::ZERO && mac != router.mac();
        let to_us = headers.dst.is_group() || headers.dst == router.mac();
        // Who asks for its own address, or as nobody, wants to know whether that is free: it is.
        let answered = arp.operation == Operation::Request
            && to_us
            && ip != target
            && !ip.is_unspecified()
            && router.answers_for(vlan, target);
        if a_host {
            let key = Key { bridge: bridge.id, vlan, ip };
            self.answered.extend(learned.neighbours.hear(key, mac, answered, self.now));
        }
        if answered {
            self.answer(router, ingress, frame, headers, &arp);
            return Err(DropReason::ArpTaken);
        }
        // The answer to a request that named no sender can be for nobody else.
        let ours = arp.operation == Operation::Reply && headers.dst == router.mac() && target.is_unspecified();
        if ours { Err(DropReason::ArpTaken) } else { Ok(()) }
    }

    /// Answers a request with the router's own hardware address, tagged as it came.
    fn answer(&mut self, router: &Router, ingress: &Port, request: &Frame, headers: &Headers, arp: &Arp) {
        let l3 = usize::from(headers.l3_offset);
        let reply = Arp { operation: Operation::Reply, sender: (router.mac(), arp.target.1), target: arp.sender };
        let mut frame = self.out.pool.alloc();
        frame.set_len(l3 + arp::LEN);
        let bytes = frame.bytes_mut();
        bytes[..l3].copy_from_slice(&request.bytes()[..l3]);
        ethernet::write_addresses(bytes, headers.src, router.mac());
        bytes[l3..].copy_from_slice(&reply.bytes());
        self.out.counters.generated.add(1);
        (frame.meta.hops, frame.meta.remote) = (request.meta.hops, Some(request.meta.ingress.remote));
        self.out.leave(ingress, frame);
    }

    /// Addresses a packet that came out of a layer-3 tunnel to its station on the bridge; `None`: it waits for that
    /// station's address, or has been dropped.
    pub(super) fn emerge(&mut self, ingress: &Port, mut frame: Frame) -> Option<Frame> {
        let bridge = self.snap.bridge(ingress.bridge);
        let Some((bridge, router)) = bridge.and_then(|bridge| Some((bridge, bridge.router.as_ref()?))) else {
            self.out.discard(frame, &ingress.counters, DropReason::PortDown);
            return None;
        };
        if !ingress.is_open() || bridge.secure {
            // Refused on admission, whatever its addresses are.
            return Some(frame);
        }
        let (vlan, packet) = (native(&ingress.vlan), &frame.bytes()[ethernet::HEADER_LEN..]);
        let [_, destination] = ipv4::addresses(packet);
        let elsewhere = |hop| hop != NextHop::Host && hop != NextHop::Tunnel(frame.meta.ingress);
        let onward = router.next_hop(vlan, destination).is_some_and(elsewhere);
        if onward || router.is_own(destination) {
            ethernet::write_addresses(frame.bytes_mut(), router.mac(), router.mac());
            return Some(frame);
        }
        if packet[ipv4::TTL] <= 1 {
            self.out.discard(frame, &ingress.counters, DropReason::TtlExpired);
            return None;
        }
        let key = Key { bridge: bridge.id, vlan, ip: destination };
        let mut learned = bridge.learned.lock();
        let mac = match learned.neighbours.lookup(&key, self.now) {
            Lookup::Known(mac) => mac,
            Lookup::Confirm(mac) => {
                self.ask(bridge, router, &learned, ingress, key, mac);
                mac
            }
            Lookup::Unknown => {
                match learned.neighbours.hold(key, frame, self.now) {
                    Hold::Ask => {
                        *self.out.call |= self.out.shared.answers_due.set(learned.neighbours.due());
                        self.ask(bridge, router, &learned, ingress, key, MacAddr::BROADCAST);
                    }
                    Hold::Wait => {}
                    Hold::Refuse(frame, reason) => self.out.discard(frame, &ingress.counters, reason),
                }
                return None;
            }
        };
        drop(learned);
        let bytes = frame.bytes_mut();
        ethernet::write_addresses(bytes, mac, router.mac());
        let passed = ipv4::pass_hop(&mut bytes[ethernet::HEADER_LEN..]);
        debug_assert!(passed, "it has hops left");
        Some(frame)
    }

    /// Asks who has an address, for packets that came out of `port`: the station that had it, or all.
    fn ask(&mut self, bridge: &'a Bridge, router: &Router, learned: &Learned, port: &Port, key: Key, whom: MacAddr) {
        let request = Arp {
            operation: Operation::Request,
            sender: (router.mac(), router.asks_from(key.ip)),
            target: (MacAddr::ZERO, key.ip),
        };
        let mut frame = self.out.pool.alloc();
        frame.set_len(ethernet::HEADER_LEN + arp::LEN);
        ethernet::write(frame.bytes_mut(), whom, router.mac(), ethernet::ARP);
        frame.bytes_mut()[ethernet::HEADER_LEN..].copy_from_slice(&request.bytes());
        frame.meta.ingress = Place::of(port.id);
        self.out.counters.generated.add(1);
        let tagging = Tagging { vlan: key.vlan, tag: None, stack: Stack::Plain, below: 0 };
        match self.targets(bridge, learned, port, &tagging, whom) {
            Ok(targets) => self.deliver(frame, tagging, targets),
            Err(reason) => self.out.discard(frame, &port.counters, reason),
        }
    }

    /// Deals with addresses that have not answered in time, on any bridge.
    pub(super) fn pursue(&mut self) {
        for bridge in self.snap.bridges.iter().flatten() {
            let mut learned = bridge.learned.lock();
            while let Some(overdue) = learned.neighbours.overdue(self.now) {
                match overdue {
                    Overdue::Ask(key, port) => self.ask_again(bridge, &learned, key, port),
                    Overdue::GiveUp(frames) => frames.into_iter().for_each(|frame| self.give_up(frame)),
                }
            }
            self.out.shared.answers_due.set(learned.neighbours.due());
        }
    }

    fn ask_again(&mut self, bridge: &'a Bridge, learned: &Learned, key: Key, port: PortId) {
        // Without them the packets are given up later on.
        if let (Some(port), Some(router)) = (self.snap.port(port), &bridge.router) {
            self.ask(bridge, router, learned, port, key, MacAddr::BROADCAST);
        }
    }

    fn give_up(&mut self, frame: Frame) {
        match self.snap.port(frame.meta.ingress.port) {
            Some(port) => self.out.discard(frame, &port.counters, DropReason::ArpTimeout),
            None => self.out.lose(frame, DropReason::PortDown, 1),
        }
    }
}
