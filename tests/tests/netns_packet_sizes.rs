//! Packets of all sizes around every limit between pods and hosts, with DF and without: which arrive whole, which in
//! fragments, and whose sender is told which MTU.
//!
//! The network, and each cell of the tables, is that of a published report on the MTUs of two clusters, one on VXLAN (canal),
//! the other on IP in IP (calico). What is expected of a cell follows from the MTUs on the way ([`expected`]);
//! [`Flow::reported`] is what the report measured there.
//!
//! ```text
//!  pod a 1450 ─┐ br0 1450              br0 1450 ┌─ pod c 1450      VXLAN: one network, the tunnel carries 1450
//!  pod b 1450 ─┤  host a                 host b ┘
//!  wide  1500 ─┘   ║ 1500                  ║ 1500
//!                  ╠═══════════════════════╣
//!  pod p 1500 ─┐   ║ 1500                  ║ 1500
//!  pod q 1500 ─┤  host p                 host r ┐                 IP in IP: a network a host, the tunnel carries 1440
//!              ┘ br0 1500              br0 1500 └─ pod r 1500
//! ```
//!
//! `wide` is a pod that nobody told of the tunnel. Pods reach hosts by those hosts' own addresses, so not in a tunnel, and
//! are masqueraded there; from the other cluster they are reached by a port of a host (NodePort), in the IP-in-IP cluster one
//! that the pod is not on. The way from a host to a pod of another one is the tunnel.
//!
//! Cells of the report that can't be as they stand there:
//! - The tables give the containers on IP in IP an MTU of 1440, and have packets of 1441 to 1500 bytes not fragmented on one
//!   host. The report says elsewhere that 1440 is the tunnel's alone and all the others are 1500; so they are here.
//! - From another host to a container in IP in IP a packet of 1440 bytes is fragmented, the only table where one is that
//!   fits the tunnel exactly ([`OFF_BY_ONE`]).
//! - From a host on IP in IP to a container on VXLAN, packets of 1421 to 1423 bytes of data are said to have 1439 to 1441
//!   with their headers; they have 28 more, and what is said of them is right for those sizes.
//! - To a container on IP in IP by a NodePort, packets of 1441 bytes are fragmented, from a host with 1500 all the way to the
//!   port's. That is so only if the container is on yet another host, behind the tunnel.
//! - Reachability is one column for both, packets that may be fragmented and packets that may not, and always YES. For the
//!   latter it can't be so where fragments are needed, and its conclusion says as much; here they are told.

use std::fmt;
use std::thread::sleep;
use std::time::Duration;
use vswitch_tests::accounts::check_drops_are;
use vswitch_tests::netns::{Host, Lab, Running, Space};
use vswitch_tests::process::eventually;

const PROBES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/mtu_probes.py");
/// Sizes of packets, around each limit.
const SIZES: [u32; 9] = [1439, 1440, 1441, 1449, 1450, 1451, 1499, 1500, 1501];
/// What a NodePort is not.
const DIRECT: u16 = 6666;

/// Packets from one place to another.
struct Flow {
    from: &'static str,
    to: &'static str,
    address: &'static str,
    port: u16,
    /// Where they come in.
    device: &'static str,
    /// MTUs on the way, the sender's own first.
    path: &'static [u32],
    /// The smallest packet that the report has fragmented.
    reported: Option<u32>,
}

const fn flow(
    from: &'static str,
    to: &'static str,
    (address, device): (&'static str, &'static str),
    path: &'static [u32],
    reported: Option<u32>,
) -> Flow {
    Flow { from, to, address, port: DIRECT, device, path, reported }
}

const FLOWS: &[Flow] = &[
    // On one host.
    flow("pod a", "host a", ("10.210.33.107", "br0"), &[1450, 1450], Some(1451)),
    flow("host a", "pod a", ("10.244.24.63", "eth0"), &[1450, 1450], Some(1451)),
    flow("pod a", "pod b", ("10.244.24.64", "eth0"), &[1450, 1450], Some(1451)),
    flow("wide", "host a", ("10.210.33.107", "br0"), &[1500, 1450], None),
    flow("wide", "pod a", ("10.244.24.63", "eth0"), &[1500, 1450], None),
    // Between hosts; by the underlay, and in the tunnel.
    flow("pod a", "host b", ("10.210.33.106", "eth0"), &[1450, 1450, 1500], Some(1451)),
    flow("pod a", "host b", ("10.244.2.1", "br0"), &[1450, 1450, 1450], None),
    flow("host b", "pod a", ("10.244.24.63", "eth0"), &[1450, 1450, 1450], Some(1451)),
    flow("pod a", "pod c", ("10.244.2.134", "eth0"), &[1450, 1450, 1450], Some(1451)),
    flow("wide", "host b", ("10.244.2.1", "br0"), &[1500, 1450, 1450], None),
    flow("wide", "pod c", ("10.244.2.134", "eth0"), &[1500, 1450, 1450], None),
    // The same where the tunnel is IP in IP.
    flow("pod p", "host p", ("10.210.10.136", "br0"), &[1500, 1500], Some(1501)),
    flow("host p", "pod p", ("200.20.234.11", "eth0"), &[1500, 1500], Some(1501)),
    flow("pod p", "pod q", ("200.20.234.12", "eth0"), &[1500, 1500], Some(1501)),
    flow("pod p", "host r", ("10.210.10.84", "eth0"), &[1500, 1500, 1500], Some(1501)),
    flow("pod p", "host r", ("200.20.172.1", "br0"), &[1500, 1440, 1500], None),
    flow("host r", "pod p", ("200.20.234.11", "eth0"), &[1500, 1440, 1500], Some(OFF_BY_ONE)),
    flow("pod p", "pod r", ("200.20.172.14", "eth0"), &[1500, 1440, 1500], Some(1441)),
    // Between the clusters.
    flow("pod a", "host p", ("10.210.10.136", "eth0"), &[1450, 1450, 1500], Some(1451)),
    flow("host p", "pod a", ("10.210.33.107", "eth0"), &[1500, 1450, 1450], Some(1451)).by_node_port(31829),
    flow("pod p", "host a", ("10.210.33.107", "eth0"), &[1500, 1500, 1500], Some(1501)),
    flow("host a", "pod r", ("10.210.10.136", "eth0"), &[1500, 1500, 1440, 1500], Some(1441)).by_node_port(30681),
    flow("pod a", "pod r", ("10.210.10.136", "eth0"), &[1450, 1450, 1500, 1440, 1500], Some(1441)).by_node_port(30681),
    flow("pod p", "pod a", ("10.210.33.107", "eth0"), &[1500, 1500, 1450, 1450], Some(1451)).by_node_port(31829),
];
/// What the report has fragmented though it fits 1440.
const OFF_BY_ONE: u32 = 1440;

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cell {
    /// It arrives as it was sent, and is answered.
    Whole,
    /// It arrives in fragments, and is answered.
    Fragments,
    /// It does not arrive, and its sender is told the MTU.
    Told(u32),
    /// What may not be.
    Wrong,
}

/// What becomes of a packet on a path of these MTUs.
fn expected(size: u32, dont_fragment: bool, path: &[u32]) -> Cell {
    match path.iter().find(|&&mtu| size > mtu) {
        None => Cell::Whole,
        Some(&mtu) if dont_fragment => Cell::Told(mtu),
        Some(_) => Cell::Fragments,
    }
}

/// A probe of a flow.
struct Probe {
    protocol: &'static str,
    size: u32,
    number: usize,
}

impl Probe {
    fn expected(&self, flow: &Flow) -> Cell {
        expected(self.size, self.protocol.ends_with("-df"), flow.path)
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{},{},{}", self.protocol, self.size, self.number)
    }
}

impl Flow {
    /// By a port of a host that leads to the pod.
    const fn by_node_port(self, port: u16) -> Self {
        Self { port, ..self }
    }

    fn probes(&self, index: usize) -> Vec<Probe> {
        // A NodePort is one of UDP.
        let protocols =
            if self.port == DIRECT { &["icmp", "icmp-df", "udp", "udp-df"][..] } else { &["udp", "udp-df"] };
        let kinds = protocols.iter().flat_map(|protocol| SIZES.map(|size| (*protocol, size)));
        kinds.enumerate().map(|(n, (protocol, size))| Probe { protocol, size, number: 100 * index + n }).collect()
    }
}

/// The lengths of what came of a probe by a device, and whether as fragments.
fn arrivals(log: &str, device: &str, number: usize) -> Vec<(u32, bool)> {
    let begin = format!("{device} {number} ");
    let lines = log.lines().filter_map(|line| line.strip_prefix(&begin)?.split_once(' '));
    lines.map(|(length, kind)| (length.parse().expect("a length"), kind == "fragment")).collect()
}

/// What became of a probe, by what its sender and its receiver say.
fn observed(probe: &Probe, flow: &Flow, sender: &str, receiver: &str) -> Cell {
    let begin = format!("{} ", probe.number);
    let outcome = sender.lines().find_map(|line| line.strip_prefix(&begin)).unwrap_or("nothing");
    let came = arrivals(receiver, flow.device, probe.number);
    let payload: u32 = came.iter().map(|(length, _)| length - 20).sum();
    // A probe that was sent again has come again.
    let complete = payload > 0 && payload.is_multiple_of(probe.size - 20);
    let narrow = flow.path.iter().min().is_some_and(|mtu| came.iter().all(|(length, _)| length <= mtu));
    match outcome.strip_prefix("told ").map(str::parse) {
        Some(Ok(mtu)) if came.is_empty() => Cell::Told(mtu),
        None if outcome == "answered" && complete && narrow => {
            match came.iter().filter(|(_, fragment)| *fragment).count() {
                0 => Cell::Whole,
                n if n == came.len() => Cell::Fragments,
                _ => Cell::Wrong,
            }
        }
        _ => Cell::Wrong,
    }
}

/// The probes of a flow that did not end as the MTUs have it, each in a sentence.
fn wrong_cells(probes: &[Probe], flow: &Flow, sender: &str, receiver: &str) -> Vec<String> {
    let told = |probe: &Probe| {
        let (expected, observed) = (probe.expected(flow), observed(probe, flow, sender, receiver));
        let outcome = sender.lines().find(|line| line.starts_with(&format!("{} ", probe.number)));
        let came = arrivals(receiver, flow.device, probe.number);
        let ways = format!("{} → {} {}", flow.from, flow.to, flow.address);
        let told = format!("{observed:?}, not {expected:?}; sender: {outcome:?}, receiver: {came:?}");
        (expected != observed).then(|| format!("{ways}, {} of {} bytes: {told}", probe.protocol, probe.size))
    };
    probes.iter().filter_map(told).collect()
}

/// A namespace that sends and listens.
struct Place {
    name: &'static str,
    space: Space,
    listener: Running,
}

/// The network: its hosts, and all places.
struct World {
    places: Vec<Place>,
    hosts: Vec<Host>,
    net: Space,
    lab: Lab,
}

impl World {
    fn open() -> Option<Self> {
        let lab = Lab::open()?;
        let net = lab.space("net");
        net.run("ip link add net type bridge");
        net.run("ip link set net up");
        Some(Self { places: vec![], hosts: vec![], net, lab })
    }

    /// A host on the net, with `br0`.
    fn host(&self, name: &str, address: &str) -> Host {
        let host = self.lab.host(name);
        let port = format!("to-{name}");
        self.lab.cable(&self.net, &port, &host, "eth0");
        self.net.run(&format!("ip link set {port} master net"));
        host.run(&format!("ip addr add {address}/16 dev eth0"));
        host.run("sysctl -qw net.ipv4.ip_forward=1");
        host.vsctl("add-br br0");
        host
    }

    /// A pod on a host's `br0`, with an MTU at both ends and its gateway.
    fn pod(&mut self, name: &'static str, host: &Host, port: &str, (address, gateway): (&str, &str), mtu: u32) {
        let pod = self.lab.pod(port, host, port, address);
        for (space, device) in [(&**host, port), (&pod, "eth0")] {
            space.run(&format!("ip link set {device} mtu {mtu}"));
        }
        pod.run(&format!("ip route add default via {gateway}"));
        host.vsctl(&format!("add-port br0 {port}"));
        self.listen(name, &pod, "eth0");
    }

    /// `space` listens at these devices, and may send pings without being root.
    fn listen(&mut self, name: &'static str, space: &Space, devices: &str) {
        space.run("sysctl -qw net.ipv4.ping_group_range=0\u{a0}0");
        let log = self.lab.dir().join(name);
        let listener = space.spawn(&format!("python3 {PROBES} listen {devices}"), &log);
        self.places.push(Place { name, space: space.clone(), listener });
    }

    /// The cluster of the report whose hosts are joined by VXLAN.
    fn vxlan_cluster(&mut self) {
        let hosts = [self.host("a", "10.210.33.107"), self.host("b", "10.210.33.106")];
        for (host, (gateway, remote)) in
            hosts.iter().zip([("10.244.24.1", "10.210.33.106"), ("10.244.2.1", "10.210.33.107")])
        {
            host.vsctl(&format!("add-port br0 t0 type=vxlan key=1 remote_ip={remote}"));
            host.run(&format!("ip addr add {gateway}/16 dev br0"));
            host.run("ip link set br0 up");
            host.run("iptables -t nat -A POSTROUTING -o eth0 -s 10.244.0.0/16 -j MASQUERADE");
        }
        self.pod("pod a", &hosts[0], "pod-a", ("10.244.24.63/16", "10.244.24.1"), 1450);
        self.pod("pod b", &hosts[0], "pod-b", ("10.244.24.64/16", "10.244.24.1"), 1450);
        self.pod("wide", &hosts[0], "wide", ("10.244.24.65/16", "10.244.24.1"), 1500);
        self.pod("pod c", &hosts[1], "pod-c", ("10.244.2.134/16", "10.244.2.1"), 1450);
        node_port(&hosts[0], 31829, "10.244.24.63");
        self.take(["host a", "host b"], hosts);
    }

    /// The one whose hosts are joined by IP in IP.
    fn ipip_cluster(&mut self) {
        let hosts = [self.host("p", "10.210.10.136"), self.host("r", "10.210.10.84")];
        let routes = "200.20.234.0/24\u{a0}via\u{a0}10.57.4.20,200.20.172.0/24\u{a0}via\u{a0}10.57.4.21";
        for (host, (end, gateway, other)) in hosts
            .iter()
            .zip([("10.57.4.20", "200.20.234.1", "200.20.172.0/24"), ("10.57.4.21", "200.20.172.1", "200.20.234.0/24")])
        {
            host.run(&format!("ip addr add {end}/32 dev eth0"));
            // 20 bytes more than the report gives its tunnel.
            host.run(&format!("ip route add 10.57.4.0/24 dev eth0 src {end} mtu 1460"));
            host.vsctl("set interface br0 mtu_request=1500");
            host.vsctl(&format!("add-port br0 t0 type=ipip remote_ip=flow routes={routes}"));
            host.run(&format!("ip addr add {gateway}/24 dev br0"));
            host.run("ip link set br0 up");
            host.run(&format!("ip route add {other} dev br0 src {gateway}"));
            host.run("iptables -t nat -A POSTROUTING -o eth0 -s 200.20.0.0/16 -j MASQUERADE");
        }
        self.pod("pod p", &hosts[0], "pod-p", ("200.20.234.11/24", "200.20.234.1"), 1500);
        self.pod("pod q", &hosts[0], "pod-q", ("200.20.234.12/24", "200.20.234.1"), 1500);
        self.pod("pod r", &hosts[1], "pod-r", ("200.20.172.14/24", "200.20.172.1"), 1500);
        node_port(&hosts[0], 30681, "200.20.172.14");
        self.take(["host p", "host r"], hosts);
    }

    /// Both hosts of a cluster listen, too.
    fn take(&mut self, names: [&'static str; 2], hosts: [Host; 2]) {
        for (name, host) in names.into_iter().zip(&hosts) {
            self.listen(name, host, "br0 eth0");
        }
        self.hosts.extend(hosts);
    }

    fn place(&self, name: &str) -> &Place {
        let place = self.places.iter().find(|place| place.name == name).unwrap_or_else(|| panic!("no {name}"));
        eventually(&format!("{name} listens"), || {
            let log = place.listener.log();
            if log.starts_with("ready\n") { Ok(()) } else { Err(log) }
        });
        place
    }

    /// Sends the probes of a flow; what is not as expected.
    fn run(&self, index: usize, flow: &Flow) -> Vec<String> {
        let (from, to) = (self.place(flow.from), self.place(flow.to));
        let probes = flow.probes(index);
        let words: Vec<_> = probes.iter().map(Probe::to_string).collect();
        let sender =
            from.space.run(&format!("python3 {PROBES} send {} {} {}", flow.address, flow.port, words.join(" ")));
        let check = || wrong_cells(&probes, flow, &sender, &to.listener.log());
        // The listener may be some lines behind.
        let behind = || {
            sleep(Duration::from_millis(20));
            check()
        };
        (0..100).map(|_| behind()).find(Vec::is_empty).unwrap_or_else(check)
    }
}

/// What comes to the host's UDP port from outside is the pod's, which answers by the host.
fn node_port(host: &Host, port: u16, pod: &str) {
    host.run(&format!("iptables -t nat -A PREROUTING -i eth0 -p udp --dport {port} -j DNAT --to {pod}:{DIRECT}"));
    host.run("iptables -t nat -A POSTROUTING -o br0 -m conntrack --ctstate DNAT -j MASQUERADE");
}

#[test]
fn each_cell_is_as_the_mtus_have_it() {
    let Some(mut world) = World::open() else { return };
    world.vxlan_cluster();
    world.ipip_cluster();
    let wrong: Vec<_> = FLOWS.iter().enumerate().flat_map(|(index, flow)| world.run(index, flow)).collect();
    assert!(wrong.is_empty(), "{} cells:\n{}", wrong.len(), wrong.join("\n"));
    // With IP in IP a switch answers ARP, and asks itself.
    let (vxlan, ipip) = world.hosts.split_at(2);
    vxlan.iter().for_each(|host| check_drops_are(host, &["mtu_told"]));
    ipip.iter().for_each(|host| check_drops_are(host, &["mtu_told", "arp_taken", "arp_queue_full"]));
}

#[test]
fn the_report_says_what_the_mtus_say() {
    for flow in FLOWS {
        let Some(reported) = flow.reported else { continue };
        let first = SIZES.into_iter().find(|&size| expected(size, false, flow.path) == Cell::Fragments);
        let reported = if reported == OFF_BY_ONE { OFF_BY_ONE + 1 } else { reported };
        assert_eq!(first, Some(reported), "{} → {}", flow.from, flow.to);
    }
}
