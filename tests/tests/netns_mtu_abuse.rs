//! A pod that sends what no honest one would, raw and by the thousand, at a way out that is too narrow: the limits on
//! messages hold, nobody else is told, nothing crashes, every frame is accounted for.
//!
//! ```text
//!  attacker 9000 ─┐ br0
//!  bystander 1500 ┤ host1 ═ 1500 ═ host2, br0 ── far 1500
//!  narrow 1300 ───┘ t0: VXLAN, 1450
//! ```

use std::fmt::Write as _;
use std::fs;
use std::time::Instant;
use vswitch_tests::accounts::{check_drops_are, counters};
use vswitch_tests::lab::{Packet, eth};
use vswitch_tests::netns::{Host, Lab, Space};

const FRAMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/frames.py");
/// What one port may be told at once, and in a second.
const BURST: u64 = 20;
const RATE: f64 = 100.0;
/// Too large for the tunnel and for the narrow pod.
const LARGE: usize = 2000;

const ATTACKER: &str = "192.168.60.1";
const BYSTANDER: &str = "192.168.60.2";
const NARROW: &str = "192.168.60.3";
const FAR: &str = "192.168.60.4";

/// The network.
struct World {
    hosts: [Host; 2],
    attacker: Space,
    bystander: Space,
    /// Hardware and IPv4 addresses behind the two narrow ways out.
    targets: [(String, &'static str); 2],
    /// The attacker's own hardware address.
    own: String,
    lab: Lab,
}

impl World {
    fn open() -> Option<Self> {
        let lab = Lab::open()?;
        let hosts = [lab.host("host1"), lab.host("host2")];
        lab.cable(&hosts[0], "eth0", &hosts[1], "eth0");
        for (host, [own, other]) in hosts.iter().zip([["192.0.2.1", "192.0.2.2"], ["192.0.2.2", "192.0.2.1"]]) {
            host.run(&format!("ip addr add {own}/24 dev eth0"));
            host.vsctl("add-br br0");
            host.vsctl(&format!("add-port br0 t0 type=vxlan key=5000 remote_ip={other}"));
        }
        let pod = |host: &Host, name: &str, address: &str, mtu: u32| {
            let port = format!("{name}-sw");
            let pod = lab.pod(name, host, &port, &format!("{address}/24"));
            host.run(&format!("ip link set {port} mtu {mtu}"));
            pod.run(&format!("ip link set eth0 mtu {mtu}"));
            host.vsctl(&format!("add-port br0 {port}"));
            pod
        };
        let attacker = pod(&hosts[0], "attacker", ATTACKER, 9000);
        let bystander = pod(&hosts[0], "bystander", BYSTANDER, 1500);
        let narrow = pod(&hosts[0], "narrow", NARROW, 1300);
        let far = pod(&hosts[1], "far", FAR, 1500);
        for address in [BYSTANDER, NARROW, FAR] {
            attacker.reaches(address);
        }
        let mac = |space: &Space| space.run("cat /sys/class/net/eth0/address").trim().to_owned();
        let targets = [(mac(&narrow), NARROW), (mac(&far), FAR)];
        Some(Self { own: mac(&attacker), hosts, attacker, bystander, targets, lab })
    }

    /// From the attacker to both targets, in IPv4 with this source.
    fn packets(&self, source: &str) -> Vec<Packet> {
        let to = |(mac, ip): &(String, &str)| eth(&format!("{}→{mac}", self.own)).ips(&format!("{source}→{ip}"));
        self.targets.iter().map(to).collect()
    }

    /// The attacker sends all of these so many times over; they have been dealt with when this returns.
    fn storm(&self, count: usize, frames: &[Vec<u8>]) {
        let mut text = String::new();
        for frame in frames {
            frame.iter().for_each(|byte| write!(text, "{byte:02x}").expect("a string takes all"));
            text.push('\n');
        }
        let file = self.lab.dir().join("storm");
        fs::write(&file, text).expect("the lab's directory can be written to");
        self.attacker.run(&format!("python3 {FRAMES} storm eth0 {count} {}", file.display()));
        // Frames of one port are taken in order.
        self.attacker.reaches(BYSTANDER);
    }

    fn count(&self, name: &str) -> u64 {
        counters(&self.hosts[0]).iter().filter(|(key, _)| key == name).map(|(_, n)| n).sum()
    }

    /// The switches are alive, forward, and have accounted for everything.
    fn check(mut self) {
        for host in &mut self.hosts {
            assert!(host.daemon().alive(), "{}", host.log());
        }
        for address in [NARROW, FAR] {
            self.bystander.reaches(address);
        }
        // A full ring is what a storm is for.
        let expected = ["mtu_told", "mtu_untold", "mtu_exceeded", "malformed", "rx_overflow"];
        self.hosts.iter().for_each(|host| check_drops_are(host, &expected));
    }
}

/// ICMP's "destination unreachable" that a pod's kernel has taken.
fn told(pod: &Space) -> u64 {
    let text = pod.run("nstat -asz IcmpInDestUnreachs");
    text.lines()
        .find_map(|line| line.strip_prefix("IcmpInDestUnreachs")?.split_whitespace().next()?.parse().ok())
        .expect("a counter")
}

/// The frame with bytes from `at` on replaced.
fn with(packet: &Packet, at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = packet.frame().bytes().to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

/// Offsets in a frame of IPv4's version and header length, total length, and fragment fields; of IPv6's next header.
const IHL: usize = 14;
const TOTAL: usize = 16;
const FRAGMENT: usize = 20;
const NEXT_HEADER: usize = 20;

/// What nobody may be told of (RFC 1122 §3.2.2, RFC 4443 §2.4), or can't be.
fn unanswerable(packet: &Packet) -> Vec<Vec<u8>> {
    let udp = packet.clone().udp(LARGE);
    let udp6 = packet.clone().v6().udp(LARGE);
    let errors = [3, 4, 5, 11, 12].map(|kind| packet.clone().icmp(kind, LARGE));
    let errors6 = [1, 2, 3, 4, 137].map(|kind| packet.clone().v6().icmp(kind, LARGE));
    let sources = ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"].map(|source| {
        let destination = "192.168.60.9";
        packet.clone().ips(&format!("{source}→{destination}")).udp(LARGE)
    });
    let to_group = packet.clone().ips("192.168.60.1→224.0.0.5").udp(LARGE);
    let whole = errors.iter().chain(&errors6).chain(&sources).chain([&to_group]).map(|p| p.frame().bytes().to_vec());
    let group6 = [0xff; 16];
    whole
        .chain([
            packet.clone().raw(0x88b5, vec![1; LARGE]).frame().bytes().to_vec(),
            // A later fragment that may not be fragmented, and one that ends beyond the largest packet.
            with(&udp, FRAGMENT, &[0x40, 0x64]),
            with(&udp, FRAGMENT, &[0x1f, 0xff]),
            // Lengths that are longer than the frame, shorter than the header, shorter than possible; another version.
            with(&udp, TOTAL, &[0xff, 0xff]),
            with(&udp, TOTAL, &[0, 19]),
            with(&udp, TOTAL, &[0, 0]),
            with(&udp, IHL, &[0x44]),
            with(&udp, IHL, &[0x55]),
            // From a group, with a payload longer than the frame, with a chain of headers that does not end.
            with(&udp6, IHL + 8, &group6),
            with(&udp6, IHL + 4, &[0xff, 0xff]),
            with(&with_zeros(&udp6), NEXT_HEADER, &[0]),
        ])
        .collect()
}

/// The same with nothing but zeros after the IPv6 header: as extension headers, one after the other.
fn with_zeros(packet: &Packet) -> Packet {
    let mut payload = packet.frame().bytes()[14..].to_vec();
    payload[40..].fill(0);
    packet.clone().raw(0x86dd, payload)
}

/// Fragments that overlap, repeat and contradict each other, larger than the ways out.
fn overlapping(packet: &Packet) -> Vec<Vec<u8>> {
    let udp = packet.clone().may_fragment().udp(1460);
    let fields: [u16; 6] = [0x2000, 0x2000 | 8, 8, 0x2000 | 1, 0x2000, 180];
    fields.iter().map(|field| with(&udp, FRAGMENT, &field.to_be_bytes())).collect()
}

/// Every beginning of a frame, from its addresses and type on.
fn beginnings(packet: &Packet) -> Vec<Vec<u8>> {
    let whole = packet.frame().bytes().to_vec();
    (14..whole.len().min(120)).map(|len| whole[..len].to_vec()).collect()
}

#[test]
fn what_nobody_may_be_told_of_has_nobody_told() {
    let Some(world) = World::open() else { return };
    let frames: Vec<_> = world.packets(ATTACKER).iter().flat_map(unanswerable).collect();
    let refused = || world.count("drop_malformed") + world.count("drop_mtu_exceeded");
    let (told, before) = (world.count("generated"), refused());
    world.storm(1, &frames);
    let dropped = refused() - before;
    assert!(dropped >= frames.len() as u64, "{dropped} of {}: {}", frames.len(), world.hosts[0].vsctl("drops"));
    world.storm(100, &frames);
    assert_eq!(world.count("generated"), told, "{}", world.hosts[0].vsctl("drops"));
    world.check();
}

#[test]
fn storms_of_what_is_too_large_are_answered_within_the_limit_and_to_their_port_only() {
    let Some(world) = World::open() else { return };
    let start = Instant::now();
    let own: Vec<_> = world.packets(ATTACKER).iter().map(|p| p.clone().udp(LARGE).frame().bytes().to_vec()).collect();
    world.storm(1500, &own);
    let (answered, received) = (world.count("drop_mtu_told"), told(&world.attacker));
    assert_eq!(answered, world.count("generated"));
    assert_eq!(answered, received, "the pod's kernel has taken every message");
    // Others are told as before.
    let ping = world.bystander.try_run(&format!("ping -M do -c 1 -W 2 -s 1400 {NARROW}"));
    assert!(ping.stdout.contains("Frag needed and DF set (mtu = 1300)"), "{ping}");
    let before = told(&world.bystander);
    // With somebody else's address, and over IPv6.
    let forged = world.packets(BYSTANDER);
    let kinds = forged.iter().flat_map(|p| [p.clone().udp(LARGE), p.clone().icmp(8, 8000), p.clone().v6().udp(8000)]);
    let forged: Vec<_> = kinds.map(|p| p.frame().bytes().to_vec()).collect();
    world.storm(500, &forged);
    assert_eq!(told(&world.bystander), before, "told of what it did not send");
    let allowed = BURST + (RATE * start.elapsed().as_secs_f64()).ceil() as u64 + 1;
    let all = world.count("generated");
    assert!(
        (BURST..=allowed).contains(&answered) && all > answered + 1 && all <= allowed,
        "{answered}, {all} of {allowed}"
    );
    assert!(world.count("drop_mtu_untold") > 0);
    world.check();
}

#[test]
fn fragments_that_overlap_and_frames_that_end_anywhere_pass_or_are_dropped() {
    let Some(world) = World::open() else { return };
    let packets = world.packets(ATTACKER);
    let kinds = |p: &Packet| {
        [
            p.clone().udp(60),
            p.clone().tcp(60),
            p.clone().v6().tcp(60),
            p.clone().vlan(5).vlan(6).udp(60),
            p.clone().tagged("S1+2+3").tcp(9),
        ]
    };
    let mut frames: Vec<_> = packets.iter().flat_map(overlapping).collect();
    let before = world.count("split");
    world.storm(100, &frames);
    assert!(world.count("split") - before > 100, "they are larger than the way out");
    frames = packets.iter().flat_map(kinds).flat_map(|p| beginnings(&p)).collect();
    // As large as the port takes: segments of TCP that are cut, a datagram that is fragmented.
    frames.extend(packets.iter().flat_map(|p| {
        [p.clone().tcp(8900), p.clone().may_fragment().udp(8900), p.clone().v6().tcp(8900)]
            .map(|p| p.frame().bytes().to_vec())
    }));
    world.storm(5, &frames);
    world.check();
}
