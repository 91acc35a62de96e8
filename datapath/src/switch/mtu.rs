//! What is larger than the way out of a port carries, so that it is never lost in silence.
//!
//! TCP is cut to fit, since a sender may not listen to ICMP: by the size of a super-frame's segments, which costs nothing
//! here. An IPv4 packet that may be fragmented is, as a router does it. The sender of any other IP packet is told (RFC 1191,
//! RFC 8201), by an ICMP message in the name of the packet's destination that goes where the packet came from. The rest is
//! dropped and counted. [`MtuPolicy`] has ports that do less.
//!
//! Over IPv6 nobody can be told of less than 1280 bytes (RFC 8200 §5): a tunnel that carries less has IPv6 packets up to
//! that size carried by packets of the underlay that may be fragmented there.
//!
//! What an attacker may try: to have many ICMP messages sent (each answers one packet of a port, to that port, and there
//! is a limit a second), or to have others told what they did not ask for (see [`icmp::is_answerable`]).

use super::bucket::{Bucket, Tokens};
use super::egress::Egress;
use super::state::{Port, Snapshot};
use super::verdict::DropReason;
use super::vlan::Tagging;
use crate::offload::{fragment, gro, gso};
use crate::packet::{Frame, GsoKind, Pool};
use crate::time::Instant;
use crate::types::{L3Mtu, PortId};
use crate::wire::parse::{Headers, IpVersion, Network, parse};
use crate::wire::{ethernet, icmp, put16, tcp, vlan};
use std::collections::HashMap;

/// Messages that go out by one port: so many a second, and no more than this at once.
const TOLD: Tokens = Tokens { rate: 100, burst: 20 };
/// The least that a link carries of IPv6 (RFC 8200 §5).
const LEAST_V6: usize = 1280;

/// What becomes of frames that are larger than the way out of a port carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MtuPolicy {
    /// TCP is cut, IPv4 fragmented where it may be, and the sender told otherwise.
    #[default]
    Fit,
    /// The same, but senders of TCP are told, too.
    Icmp,
    /// They are dropped.
    Drop,
}

/// What is to be done with a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Remedy {
    /// It goes as it is now.
    Pass,
    /// It is fragmented into packets of so many bytes.
    Fragment(usize),
    /// Its sender is told that packets may have so many bytes.
    Tell(usize),
    /// It is dropped.
    Drop,
}

impl Port {
    /// Whether a frame that has the tags that it leaves with is larger than the port carries.
    #[inline]
    pub(super) fn is_exceeded_by(&self, frame: &Frame) -> bool {
        self.mtu.is_some_and(|mtu| {
            let limit = ethernet::HEADER_LEN + mtu.0 as usize;
            let len = frame.meta.gso.map_or(frame.len(), |gso| usize::from(gso.header_len) + usize::from(gso.size));
            len > limit && len > limit + self.free_tag(frame.bytes())
        })
    }

    /// Bytes of tags that do not count: a device takes an 802.1Q tag beyond its MTU, as Linux has it.
    fn free_tag(&self, bytes: &[u8]) -> usize {
        let tagged =
            bytes.get(ethernet::ETHERTYPE..).is_some_and(|rest| rest.starts_with(&vlan::CUSTOMER.to_be_bytes()));
        if tagged && self.tunnel.is_none() { vlan::TAG_LEN } else { 0 }
    }

    /// Whether what carries its frames may be fragmented on the underlay, all of them.
    fn is_fragmented_outside(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| !tunnel.dont_fragment)
    }

    /// What is to be done with a frame so that this port carries at most `mtu`; TCP is cut here already.
    fn remedy(&self, frame: &mut Frame, mtu: L3Mtu) -> Remedy {
        let Ok(headers) = parse(frame.bytes()) else { return Remedy::Drop };
        let l3 = usize::from(headers.l3_offset);
        let room = (ethernet::HEADER_LEN + mtu.0 as usize + self.free_tag(frame.bytes())).saturating_sub(l3);
        let Some(network) = headers.network(frame.bytes()) else {
            let passes = frame.len() <= l3 + room || self.is_fragmented_outside();
            return if passes { Remedy::Pass } else { Remedy::Drop };
        };
        let largest = largest_packet(frame, &network);
        let is_tcp = network.proto == tcp::PROTOCOL;
        let cut = is_tcp && (self.is_fragmented_outside() || self.mtu_policy == MtuPolicy::Fit);
        if largest <= room {
            // Padding is no part of the packet.
            if frame.meta.gso.is_none() {
                frame.set_len(network.end);
            }
            Remedy::Pass
        } else if (cut && cut_tcp(frame, &network, l3 + room)) || self.is_fragmented_outside() {
            Remedy::Pass
        } else if self.mtu_policy == MtuPolicy::Drop {
            Remedy::Drop
        } else if network.version == IpVersion::V6 && largest <= LEAST_V6 && self.tunnel.is_some() {
            frame.meta.outer_may_fragment = true;
            Remedy::Pass
        } else if !network.dont_fragment {
            Remedy::Fragment(room)
        } else if frame.meta.quiet || headers.dst.is_group() || !icmp::is_answerable(&network, frame.bytes()) {
            Remedy::Drop
        } else if network.version == IpVersion::V6 {
            if largest > LEAST_V6 { Remedy::Tell(room.max(LEAST_V6)) } else { Remedy::Drop }
        } else {
            Remedy::Tell(room)
        }
    }
}

/// Bytes of the largest IP packet that the frame stands for.
fn largest_packet(frame: &Frame, network: &Network) -> usize {
    let Some(gso) = frame.meta.gso else { return network.packet_len() };
    let headers = network.header_len(frame.bytes()).unwrap_or(gso.header_len.into());
    let segment = (headers + usize::from(gso.size)).saturating_sub(network.l3_offset.into());
    network.packet_len().min(segment)
}

/// Has a TCP frame leave as segments of at most `len` bytes each, headers included; `false`: it cannot be cut.
fn cut_tcp(frame: &mut Frame, network: &Network, len: usize) -> bool {
    match frame.meta.gso.map(|gso| gso.kind) {
        Some(GsoKind::TcpV4 | GsoKind::TcpV6) => gso::limit_segments(frame, len),
        Some(GsoKind::Udp | GsoKind::Tunnelled) => false,
        None => gro::become_long(frame, network, len),
    }
}

impl Egress<'_> {
    /// Does with a frame what its port's MTU asks for; what is left of it goes on as [`Egress::leave`] has it.
    #[cold]
    pub(super) fn fit(&mut self, port: &Port, mut frame: Frame, tagging: Tagging) {
        let Some(mtu) = port.mtu else { return self.leave(port, frame) };
        match port.remedy(&mut frame, mtu) {
            Remedy::Pass => self.leave(port, frame),
            Remedy::Fragment(room) => self.fragment(port, frame, room),
            Remedy::Tell(room) => {
                let reason = self.tell(&frame, tagging, L3Mtu(room as u32));
                self.refuse(port, frame, reason);
            }
            Remedy::Drop => self.refuse(port, frame, DropReason::MtuExceeded),
        }
    }

    fn fragment(&mut self, port: &Port, frame: Frame, room: usize) {
        let (mirror, mut fragments) = (frame.meta.mirror, std::mem::take(self.pieces));
        match fragment::fragment(frame, room, self.pool, &mut fragments) {
            Ok(count) => self.counters.split.add(u64::from(count) - 1),
            Err(reason) => self.drops(port, mirror).add(reason, 1),
        }
        fragments.drain(..).for_each(|piece| self.leave(port, piece));
        *self.pieces = fragments;
    }

    /// Tells the sender of a frame that goes no further, unless it has been told of that already; why the frame is dropped.
    fn tell(&mut self, frame: &Frame, tagging: Tagging, mtu: L3Mtu) -> DropReason {
        if self.told {
            return DropReason::MtuTold;
        }
        let place = frame.meta.ingress;
        let Some(ingress) = self.snap.port(place.port).filter(|port| port.up) else { return DropReason::MtuExceeded };
        if !self.tellers.may_tell(ingress.id, self.now) {
            return DropReason::MtuUntold;
        }
        let Some(mut answer) = answer(frame, tagging, mtu, self.pool) else { return DropReason::MtuExceeded };
        self.told = true;
        self.counters.generated.add(1);
        (answer.meta.hops, answer.meta.remote) = (frame.meta.hops, Some(place.remote));
        self.leave(ingress, answer);
        DropReason::MtuTold
    }
}

/// The frame that tells the sender of `frame`, which has the tags that it was to leave with.
fn answer(frame: &Frame, tagging: Tagging, mtu: L3Mtu, pool: &mut Pool) -> Option<Frame> {
    let bytes = frame.bytes();
    let headers = parse(bytes).ok()?;
    let network = headers.network(bytes)?;
    let head = ethernet_header(&headers, bytes, tagging);
    let mut answer = pool.alloc();
    answer.set_len(head.len() + icmp::too_big_len(&network));
    let (ethernet, packet) = answer.bytes_mut().split_at_mut(head.len());
    ethernet.copy_from_slice(&head);
    icmp::write_too_big(&network, bytes, mtu, packet);
    Some(answer)
}

/// The Ethernet header of an answer: with the tags that the frame came with. Those that its VLAN is read from are others
/// by now, those below them are still in `bytes`.
fn ethernet_header(headers: &Headers, bytes: &[u8], tagging: Tagging) -> Vec<u8> {
    let ethertype = usize::from(headers.l3_offset) - 2;
    let below = ethertype.saturating_sub(usize::from(tagging.below) * vlan::TAG_LEN).max(ethernet::ETHERTYPE);
    let mut head = [headers.src.0, headers.dst.0].concat();
    for tag in tagging.on_wire().iter().flatten() {
        let mut bytes = [0; vlan::TAG_LEN];
        put16(&mut bytes, 0, tag.tpid);
        put16(&mut bytes, 2, tag.tci);
        head.extend_from_slice(&bytes);
    }
    head.extend_from_slice(&bytes[below..ethertype + 2]);
    head
}

/// How often senders have been told, by the port that they are behind.
#[derive(Debug, Default)]
pub struct Tellers(HashMap<PortId, Bucket>);

impl Tellers {
    /// Forgets the ports that are gone.
    pub fn adopt(&mut self, snap: &Snapshot) {
        self.0.retain(|port, _| snap.port(*port).is_some());
    }

    /// Whether one more message may go out by the port now; it counts then.
    fn may_tell(&mut self, port: PortId, now: Instant) -> bool {
        self.0.entry(port).or_insert_with(|| Bucket::new(TOLD, now)).pass(1, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::Caps;
    use crate::time::Duration;
    use crate::tunnel::{Protocol, Tunnel};
    use crate::types::{BridgeId, DeviceId, TunnelKey};
    use crate::wire::fixtures::Packet;

    fn device() -> Port {
        Port { mtu: Some(L3Mtu(1450)), ..Port::new(PortId(0), BridgeId(0), DeviceId(0), Caps::ALL) }
    }

    fn tunnel() -> Port {
        let remote = ([192, 0, 2, 2], 4789).into();
        Port { tunnel: Some(Tunnel::new(Protocol::Vxlan, remote, TunnelKey(7))), ..device() }
    }

    fn with_mtu(port: Port, mtu: u32) -> Port {
        Port { mtu: Some(L3Mtu(mtu)), ..port }
    }

    /// What is to be done with a frame, and the size of its segments then.
    fn remedy(port: &Port, mut frame: Frame) -> (Remedy, Option<u16>) {
        if !port.is_exceeded_by(&frame) {
            return (Remedy::Pass, frame.meta.gso.map(|gso| gso.size));
        }
        let remedy = port.remedy(&mut frame, port.mtu.unwrap());
        (remedy, frame.meta.gso.map(|gso| gso.size))
    }

    fn may_be_fragmented(mut packet: Packet) -> Packet {
        packet.ipv4().dont_fragment = false;
        packet
    }

    fn syn() -> Packet {
        let mut packet = Packet::tcp4(1448);
        packet.tcp().syn = true;
        packet
    }

    #[test]
    fn tcp_is_cut_to_fit_whatever_it_goes_out_by() {
        for port in [device(), tunnel()] {
            let size = |frame| match remedy(&port, frame) {
                (Remedy::Pass, size) => size,
                (other, _) => panic!("{other:?}"),
            };
            let headers = 20 + 32;
            assert_eq!(size(Packet::tcp4(1450 - headers).partial()), None);
            assert_eq!(size(Packet::tcp4(1448).frame()), Some(1398));
            assert_eq!(size(Packet::tcp6(1448).partial()), Some(1378));
            assert_eq!(size(Packet::tcp4(3000).super_frame(1448)), Some(1398));
            assert_eq!(size(Packet::tcp4(3000).super_frame(1300)), Some(1300));
            assert_eq!(size(Packet::tcp4(1000).super_frame(1448)), Some(1448), "one segment stays one");
            // An 802.1Q tag is free of charge on a device and not in a tunnel.
            let tagged = if port.tunnel.is_some() { 1394 } else { 1398 };
            assert_eq!(size(Packet::tcp4(1448).tagged(5).frame()), Some(tagged));
            let mut padded = Packet::tcp4(1398).frame();
            let len = padded.len() + 40;
            padded.set_len(len);
            assert_eq!(size(padded), None, "padding is nobody's payload");
        }
    }

    #[test]
    fn who_cannot_be_cut_is_told_or_fragmented_or_dropped() {
        use Remedy::{Drop, Fragment, Pass, Tell};
        let mut damaged = Packet::tcp4(1448).frame();
        damaged.bytes_mut()[100] ^= 1;
        let mut quiet = Packet::tcp4(1423).udp().frame();
        quiet.meta.quiet = true;
        for (frame, expected) in [
            (Packet::tcp4(1422).udp().frame(), Pass),
            (Packet::tcp4(1423).udp().frame(), Tell(1450)),
            (Packet::tcp6(1403).udp().frame(), Tell(1450)),
            (Packet::tcp4(1422).tagged(7).udp().frame(), Tell(1446)),
            (may_be_fragmented(Packet::tcp4(1423).udp()).frame(), Fragment(1450)),
            (may_be_fragmented(Packet::tcp4(1422).tagged(7).udp()).frame(), Fragment(1446)),
            (Packet::tcp4(3000).udp().super_frame(1422), Pass),
            (Packet::tcp4(3000).udp().super_frame(1423), Tell(1450)),
            (Packet::tcp4(1400).udp().super_frame(1423), Pass),
            (may_be_fragmented(Packet::tcp4(3000).udp()).super_frame(1423), Fragment(1450)),
            (syn().frame(), Tell(1450)),
            (syn().super_frame(1440), Tell(1450)),
            (damaged, Tell(1450)),
            (Frame::from_bytes(&[0x88; 1464]), Pass),
            (Frame::from_bytes(&[0x88; 1465]), Drop),
            (quiet, Drop),
        ] {
            let what = format!("{:?}, {} bytes", frame.meta.gso, frame.len());
            assert_eq!(remedy(&tunnel(), frame).0, expected, "{what}");
        }
    }

    #[test]
    fn a_device_takes_one_customer_tag_beyond_its_mtu_and_no_other() {
        let tagged = |tags: &[u16], len| {
            let mut frame = Packet::tcp4(len - 28).udp().frame();
            tags.iter().for_each(|&tpid| assert!(frame.push_vlan(tpid, 7)));
            remedy(&device(), frame).0
        };
        use Remedy::{Pass, Tell};
        for (tags, fits) in [
            (&[][..], 1450),
            (&[vlan::CUSTOMER], 1450),
            (&[vlan::SERVICE], 1446),
            (&[vlan::CUSTOMER, vlan::SERVICE], 1442),
            (&[vlan::CUSTOMER, vlan::CUSTOMER], 1446),
        ] {
            assert_eq!(tagged(tags, fits), Pass, "{tags:?}");
            assert_eq!(tagged(tags, fits + 1), Tell(fits), "{tags:?}");
        }
    }

    #[test]
    fn where_the_underlay_may_fragment_nothing_but_tcp_is_touched() {
        let mut port = tunnel();
        port.tunnel.as_mut().unwrap().dont_fragment = false;
        for policy in [MtuPolicy::Fit, MtuPolicy::Icmp, MtuPolicy::Drop] {
            port.mtu_policy = policy;
            for frame in [Packet::tcp4(3000).udp().partial(), Frame::from_bytes(&[0x88; 2000]), syn().frame()] {
                assert_eq!(remedy(&port, frame), (Remedy::Pass, None));
            }
            assert_eq!(remedy(&port, Packet::tcp4(3000).udp().super_frame(2000)), (Remedy::Pass, Some(2000)));
            assert_eq!(remedy(&port, Packet::tcp4(1448).frame()), (Remedy::Pass, Some(1398)));
        }
    }

    #[test]
    fn other_policies_do_less() {
        let icmp = Port { mtu_policy: MtuPolicy::Icmp, ..tunnel() };
        let drop = Port { mtu_policy: MtuPolicy::Drop, ..tunnel() };
        for frame in [|| Packet::tcp4(1448).frame(), || Packet::tcp6(3000).super_frame(1448)] {
            assert_eq!(remedy(&icmp, frame()).0, Remedy::Tell(1450));
            assert_eq!(remedy(&drop, frame()).0, Remedy::Drop);
        }
        let udp = || may_be_fragmented(Packet::tcp4(1448).udp()).frame();
        assert_eq!(remedy(&icmp, udp()).0, Remedy::Fragment(1450));
        assert_eq!(remedy(&drop, udp()).0, Remedy::Drop);
        assert_eq!(remedy(&drop, Packet::tcp4(1398).frame()).0, Remedy::Pass);
    }

    #[test]
    fn nobody_is_told_less_than_ipv6_carries() {
        let udp6 = |len: usize| Packet::tcp6(len - 48).udp().frame();
        for port in [device(), tunnel()] {
            let is_tunnel = port.tunnel.is_some();
            let port = with_mtu(port, 1000);
            assert_eq!(remedy(&port, udp6(1281)).0, Remedy::Tell(1280));
            let mut frame = udp6(1280);
            let remedy = port.remedy(&mut frame, L3Mtu(1000));
            assert_eq!(remedy, if is_tunnel { Remedy::Pass } else { Remedy::Drop });
            assert_eq!(frame.meta.outer_may_fragment, is_tunnel);
        }
    }

    #[test]
    fn no_more_are_told_than_the_limit_allows() {
        let (mut tellers, mut now) = (Tellers::default(), Instant::from_secs(9));
        let told = |tellers: &mut Tellers, port, now| (0..500).filter(|_| tellers.may_tell(PortId(port), now)).count();
        assert_eq!(told(&mut tellers, 3, now), 20);
        assert_eq!(told(&mut tellers, 1, now), 20, "each port for itself");
        for _ in 0..10 {
            now = now + Duration::from_millis(100);
            assert_eq!(told(&mut tellers, 3, now), 10);
        }
        assert_eq!(told(&mut tellers, 3, now + Duration::from_secs(60)), 20);
    }
}
