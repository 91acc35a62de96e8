//! Anything into any configuration: nothing panics, and every frame is accounted for (the lab checks it at every step).

use datapath::packet::{ChecksumState, Frame, Gso, GsoKind, Outer};
use datapath::switch::state::{BridgeVlans, PortRules};
use datapath::tunnel::Tunnel;
use proptest::prelude::*;
use std::time::Duration;
use vswitch_tests::lab::*;

const NAMES: [&str; 9] = ["p0", "p1", "p2", "p3", "vx0", "gnv0", "gre0", "mp0", "ip0"];
/// All ports of the bridge br0, and those of br1, to which a patch leads.
const HERE: [&str; 10] = ["p0", "p1", "p2", "p3", "vx0", "gnv0", "gre0", "mp0", "ip0", "pa"];
const BEYOND: [&str; 3] = ["pb", "q", "r"];
const REMOTE: &str = "192.0.2.2";

/// What happens to the lab.
#[derive(Clone, Debug)]
enum Step {
    Send(usize, Vec<Sent>),
    Arrive { protocol: Protocol, tos: u8, segment: Option<u16>, bytes: Vec<u8> },
    Set(usize, Box<PortSpec>),
    Bridge(BridgeSpec),
    Mirrors(&'static str, Vec<MirrorSpec>),
    Advance(Duration),
    Refuse(usize),
}

/// A frame, as a device may report it.
#[derive(Clone, Debug)]
struct Sent {
    bytes: Vec<u8>,
    csum: ChecksumState,
    gso: Option<Gso>,
}

fn vlan() -> impl Strategy<Value = u16> {
    prop_oneof![Just(0), Just(10), Just(20), 0..4096u16]
}

fn station() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (1..6u8).prop_map(|n| format!("{n:02x}")),
        // The router of a bridge.
        1 => Just("fe".to_owned()),
        1 => Just("ff".to_owned()),
        1 => Just("01:80:c2:00:00:03".to_owned()),
        1 => Just("00:00:00:00:00:00".to_owned()),
    ]
}

/// A packet that makes sense.
fn packet() -> BoxedStrategy<Packet> {
    let tags = proptest::collection::vec((prop_oneof![Just(0x8100), Just(0x88a8)], vlan(), 0..16u16), 0..3);
    (station(), station(), tags, 0..4000usize, 1..1500u16, any::<[bool; 5]>())
        .prop_map(|(src, dst, tags, len, size, [tcp, v6, unfinished, super_frame, may_fragment])| {
            let mut packet = eth(&format!("{src}→{dst}"));
            for (tpid, vlan, bits) in tags {
                packet = packet.tag(tpid, bits << 12 | vlan);
            }
            packet = if tcp { packet.tcp(len) } else { packet.udp(len) };
            if v6 {
                packet = packet.v6();
            }
            if may_fragment {
                packet = packet.may_fragment();
            }
            if unfinished {
                packet = packet.unfinished();
            }
            if super_frame { packet.super_frame(size) } else { packet }
        })
        .boxed()
}

/// One whose bytes or metadata may have been tampered with, or that is noise.
fn sent() -> BoxedStrategy<Sent> {
    let arp = (1..6u8, 1..6u8, any::<bool>()).prop_map(|(from, other, asks)| {
        let ip = |n| format!("10.0.0.{n}");
        match asks {
            true => arp_request(&format!("{from:02x}"), &ip(from), "169.254.1.1"),
            false => arp_reply(&format!("{from:02x}→fe"), &ip(other), "0.0.0.0"),
        }
    });
    let honest = prop_oneof![9 => packet(), 1 => arp].prop_map(|p| {
        let frame = p.frame();
        Sent { bytes: frame.bytes().to_vec(), csum: frame.meta.csum, gso: frame.meta.gso }
    });
    let kind = prop_oneof![Just(GsoKind::TcpV4), Just(GsoKind::TcpV6), Just(GsoKind::Udp)];
    let gso = (kind, any::<u16>(), any::<u16>(), any::<bool>());
    let gso = gso.prop_map(|(kind, size, header_len, ecn)| Gso { kind, size, header_len, ecn });
    let partial = (0..200u16, 0..40u16).prop_map(|(start, offset)| ChecksumState::Partial { start, offset });
    let csum = prop_oneof![Just(ChecksumState::None), Just(ChecksumState::Valid), partial];
    let noise = proptest::collection::vec(any::<u8>(), 0..200);
    let bytes = prop_oneof![
        noise,
        (packet(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(p, at, byte)| {
            let mut bytes = p.frame().bytes().to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
        (packet(), any::<prop::sample::Index>()).prop_map(|(p, len)| {
            let bytes = p.frame().bytes().to_vec();
            bytes[..len.index(bytes.len())].to_vec()
        }),
    ];
    let tampered = (bytes, csum, proptest::option::of(gso)).prop_map(|(bytes, csum, gso)| Sent { bytes, csum, gso });
    prop_oneof![3 => honest, 2 => tampered].boxed()
}

fn caps() -> impl Strategy<Value = Caps> {
    let caps =
        |[partial_csum, tso, uso, cuts]: [bool; 4]| Caps { partial_csum, tso: tso && !cuts, uso: uso && !cuts, cuts };
    any::<[bool; 4]>().prop_map(caps)
}

fn rules() -> impl Strategy<Value = PortRules> {
    use PriorityTags::{Always, IfNonzero, Never};
    let tags = prop_oneof![3 => Just(Never), 1 => Just(IfNonzero), 1 => Just(Always)];
    (tags, any::<bool>()).prop_map(|(priority_tags, protected)| PortRules { priority_tags, protected })
}

/// None most of the time.
fn limit() -> impl Strategy<Value = Option<Limit>> {
    let tokens = || {
        let tokens = (1..10_000_000u64, 1..100_000u64).prop_map(|(rate, burst)| Tokens { rate, burst });
        proptest::option::of(tokens)
    };
    let limit = (tokens(), tokens(), 0..100_000u64).prop_map(|(bits, packets, queue)| Limit { bits, packets, queue });
    prop_oneof![3 => Just(None), 1 => limit.prop_map(Some)]
}

/// In a box: what it draws from is too large to stand on a test's stack once for each port.
fn port_spec(name: &'static str) -> BoxedStrategy<PortSpec> {
    let limits = (limit(), limit()).prop_map(|(ingress, egress)| Limits { ingress, egress });
    (unlimited_port_spec(name), limits).prop_map(|(spec, limits)| PortSpec { limits, ..spec }).boxed()
}

fn outer_header() -> impl Strategy<Value = (Field, Field, bool, bool)> {
    let field = || prop_oneof![Just(Field::Inherit), Just(Field::Fixed(0x20))];
    (field(), field(), any::<bool>(), any::<bool>())
}

fn unlimited_port_spec(name: &'static str) -> impl Strategy<Value = PortSpec> {
    let up = prop_oneof![9 => Just(true), 1 => Just(false)];
    let policy = prop_oneof![2 => Just(MtuPolicy::Fit), 1 => Just(MtuPolicy::Icmp), 1 => Just(MtuPolicy::Drop)];
    let rest = (up, proptest::option::of((68..3000u32, policy)), outer_header(), rules());
    (0..7u8, vlan(), vlan(), caps(), rest).prop_map(move |(mode, a, b, caps, (up, mtu, outer, rules))| {
        let spec = match name {
            "vx0" => vxlan(name, 5000, REMOTE),
            "gnv0" => geneve(name, 5000, REMOTE),
            "gre0" => gre(name, 5000, REMOTE),
            // The key of what is not for vx0; the order of its ends changes.
            "mp0" if a % 2 == 0 => multipoint(name, 5256, ["192.0.2.9", REMOTE]),
            "mp0" => multipoint(name, 5256, [REMOTE, "192.0.2.8"]),
            "ip0" => ipip(name, REMOTE),
            _ => port(name),
        };
        let change = |t: &mut Tunnel| (t.tos, t.ttl, t.dont_fragment, t.checksum) = outer;
        let spec = if spec.tunnel.is_some() { spec.tunnel_with(change) } else { spec };
        let spec = PortSpec { up, rules, ..spec.caps(caps) };
        let spec = match mtu {
            Some((mtu, policy)) => spec.mtu(mtu).mtu_policy(policy),
            None => spec,
        };
        match mode {
            0 => spec.access(a),
            1 => spec.trunk([]),
            2 => spec.trunk([a, b]),
            3 => spec.native_tagged(a, [b]),
            4 => spec.native_untagged(a, [b]),
            5 => spec.dot1q_tunnel(a, []),
            _ => spec.dot1q_tunnel(a, [b]),
        }
    })
}

/// A mirror of a bridge with these ports, which may well harm: the daemon makes none that does.
fn mirror_spec(names: &'static [&'static str]) -> BoxedStrategy<MirrorSpec> {
    let port = || (0..names.len()).prop_map(|i| names[i]);
    let ports = || proptest::collection::vec(port(), 0..3);
    let output = prop_oneof![4 => port().prop_map(Ok), 1 => vlan().prop_map(Err)];
    let name = prop_oneof![Just("m0"), Just("m1"), Just("m2")];
    let rest = (proptest::collection::vec(vlan(), 0..2), output, proptest::option::of(14..2000u16));
    (name, any::<bool>(), ports(), ports(), rest)
        .prop_map(|(name, all, arriving, leaving, (vlans, output, snaplen))| MirrorSpec {
            name,
            all,
            arriving,
            leaving,
            vlans,
            output,
            snaplen,
        })
        .boxed()
}

fn step() -> BoxedStrategy<Step> {
    let protocol =
        prop_oneof![Just(Protocol::Vxlan), Just(Protocol::Geneve), Just(Protocol::Gre), Just(Protocol::Ipip)];
    let datagrams = proptest::collection::vec((any::<bool>(), sent()), 1..4);
    let arrive = (protocol, any::<u8>(), datagrams).prop_map(|(protocol, tos, datagrams)| {
        let header = |ours: bool| {
            let key = if ours { 0x13 } else { 0x14 };
            match protocol {
                Protocol::Vxlan => vec![8, 0, 0, 0, 0, key, 0x88, 0],
                Protocol::Geneve => vec![0, 0, 0x65, 0x58, 0, key, 0x88, 0],
                Protocol::Gre => vec![0x20, 0, 0x65, 0x58, 0, 0, key, 0x88],
                Protocol::Ipip => vec![],
            }
        };
        if protocol == Protocol::Ipip {
            // Packets without Ethernet headers, one at a time.
            let bytes = datagrams[0].1.bytes.iter().skip(14).copied().collect();
            return Step::Arrive { protocol, tos, segment: None, bytes };
        }
        let all: Vec<_> = datagrams.iter().map(|(ours, s)| [&header(*ours)[..], &s.bytes].concat()).collect();
        Step::Arrive { protocol, tos, segment: Some(all[0].len() as u16), bytes: all.concat() }
    });
    let secure = prop_oneof![9 => Just(false), 1 => Just(true)];
    let vlans = (proptest::collection::vec(vlan(), 0..2), any::<bool>())
        .prop_map(|(flood, two_tags)| BridgeVlans { flood: flood.into_iter().map(vlan_id).collect(), two_tags });
    let bridge = (0..400u64, 0..20usize, secure, vlans).prop_map(|(secs, size, secure, vlans)| BridgeSpec {
        mac_aging: Duration::from_secs(secs),
        mac_table_size: size,
        secure,
        vlans,
        ..BridgeSpec::default()
    });
    let mirrors = |bridge, names| {
        proptest::collection::vec(mirror_spec(names), 0..4).prop_map(move |mirrors| Step::Mirrors(bridge, mirrors))
    };
    let mirrors = prop_oneof![3 => mirrors("br0", &HERE), 1 => mirrors("br1", &BEYOND)].boxed();
    prop_oneof![
        2 => mirrors,
        10 => (0..4usize, proptest::collection::vec(sent(), 1..5)).prop_map(|(port, frames)| Step::Send(port, frames)).boxed(),
        4 => arrive.boxed(),
        2 => (0..NAMES.len()).prop_flat_map(|i| port_spec(NAMES[i]).prop_map(move |spec| Step::Set(i, Box::new(spec)))).boxed(),
        1 => bridge.prop_map(Step::Bridge).boxed(),
        1 => (0..400u64).prop_map(|secs| Step::Advance(Duration::from_secs(secs))).boxed(),
        1 => (0..100_000u64).prop_map(|micros| Step::Advance(Duration::from_micros(micros))).boxed(),
        1 => (0..4usize).prop_map(Step::Refuse).boxed(),
    ]
    .boxed()
}

fn take(lab: &mut Lab, step: Step) {
    match step {
        Step::Send(port, frames) => {
            for Sent { bytes, csum, gso } in frames {
                let mut frame = Frame::from_bytes(&bytes);
                (frame.meta.csum, frame.meta.gso) = (csum, gso);
                lab.inject(NAMES[port], frame);
            }
            lab.run();
            lab.ignore();
        }
        Step::Arrive { protocol, tos, segment, bytes } => {
            let remote = std::net::SocketAddr::new(REMOTE.parse().unwrap(), 50_000);
            lab.arrive_with(protocol, Outer { segment, tos, ..Outer::to(remote) }, &bytes);
            lab.run();
            lab.ignore();
        }
        Step::Set(port, spec) => lab.set_port(NAMES[port], |p| *p = *spec),
        Step::Mirrors(bridge, mirrors) => lab.set_bridge(bridge, |b| b.mirrors = mirrors),
        Step::Bridge(spec) => lab.set_bridge("br0", |b| *b = spec),
        Step::Advance(time) => {
            lab.advance_by(time);
            lab.run();
            lab.ignore();
        }
        Step::Refuse(port) => lab.refuse(NAMES[port], DropReason::TxQueueFull),
    }
}

proptest! {
    #[test]
    fn any_frames_into_any_ports_are_accounted_for(
        ports in NAMES.map(port_spec),
        steps in proptest::collection::vec(step(), 1..30),
    ) {
        let mut lab = Lab::new(ports);
        for beyond in [patch("pa", "pb"), patch("pb", "pa").on("br1"), port("q").on("br1"), port("r").on("br1")] {
            lab.add_port(beyond);
        }
        for step in steps {
            take(&mut lab, step);
        }
    }
}
