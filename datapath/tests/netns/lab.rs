//! Network namespaces around datapaths that run in this process: pods, hosts and the cables between them.
//!
//! A namespace belongs to its [`Space`] and goes with it. The machine's own devices are never touched.

use datapath::control::{
    Action, Applied, BridgeSpec, Datapath, DatapathConfig, MtuPolicy, PortKind, PortSpec, PortStats,
};
use datapath::switch::shape::Limits;
use datapath::switch::state::{BridgeVlans, PortRules, Trunks, VlanMode};
use datapath::time::Duration;
use datapath::types::L3Mtu;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

/// Whether a test that needs root can run; says by name which one is skipped, and why.
pub fn root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        assert!(std::env::var("VSWITCH_REQUIRE_ALL").as_deref() != Ok("1"), "{test}: needs root");
        eprintln!("skipped: {test}: needs root");
    }
    is_root
}

fn run(line: &str) -> Output {
    let mut words = line.split_whitespace();
    Command::new(words.next().unwrap()).args(words).output().unwrap_or_else(|e| panic!("{line}: {e}"))
}

/// A network namespace.
pub struct Space {
    name: String,
}

impl Space {
    pub fn new(name: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let space = Self { name: format!("dpio-{}-{number}-{name}", std::process::id()) };
        let made = run(&format!("ip netns add {}", space.name));
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        space.ip("link set lo up");
        // No router solicitations and the like: only frames that a test sends.
        space.exec("sysctl -qw net.ipv6.conf.default.router_solicitations=0 net.ipv6.conf.default.dad_transmits=0");
        space
    }

    /// Runs a program in the namespace; it must succeed.
    pub fn exec(&self, line: &str) -> String {
        let done = run(&format!("ip netns exec {} {line}", self.name));
        let text = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{line}: {text}{}", String::from_utf8_lossy(&done.stderr));
        text
    }

    /// Whether a program in the namespace succeeds.
    pub fn succeeds(&self, line: &str) -> bool {
        run(&format!("ip netns exec {} {line}", self.name)).status.success()
    }

    pub fn ip(&self, line: &str) {
        let done = run(&format!("ip -n {} {line}", self.name));
        assert!(done.status.success(), "ip {line}: {}", String::from_utf8_lossy(&done.stderr));
    }

    pub fn pings(&self, to: &str) -> bool {
        self.succeeds(&format!("ping -c 2 -i 0.1 -w 3 {to}"))
    }

    /// Runs `f` on a thread of its own inside the namespace.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let run = || {
            let file = File::open(format!("/run/netns/{}", self.name)).unwrap();
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            f()
        };
        std::thread::scope(|s| s.spawn(run).join().unwrap_or_else(|e| std::panic::resume_unwind(e)))
    }

    /// A veth pair from here to `other`; both ends up, our index.
    pub fn cable(&self, ours: &str, other: &Space, theirs: &str) -> u32 {
        self.ip(&format!("link add {ours} type veth peer name {theirs} netns {}", other.name));
        self.ip(&format!("link set {ours} up"));
        other.ip(&format!("link set {theirs} up"));
        self.index(ours)
    }

    pub fn index(&self, device: &str) -> u32 {
        let text = self.exec(&format!("cat /sys/class/net/{device}/ifindex"));
        text.trim().parse().unwrap()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        run(&format!("ip netns del {}", self.name));
    }
}

/// A namespace with a datapath: a host of the underlay.
pub struct Host {
    pub space: Space,
    pub datapath: Datapath,
}

impl Host {
    /// With the bridge `br0`.
    pub fn new(name: &str) -> Self {
        let space = Space::new(name);
        let datapath = Datapath::start(&DatapathConfig::default()).unwrap();
        let mut host = Self { space, datapath };
        host.apply(Action::AddBridge(bridge("br0"))).unwrap();
        host
    }

    /// Applies one action in the host's namespace; an error as people read it.
    pub fn apply(&mut self, action: Action) -> Result<Applied, String> {
        let datapath = &mut self.datapath;
        let mut results = self.space.inside(|| datapath.apply(vec![action]));
        assert_eq!(results.len(), 1);
        results.remove(0).map_err(|e| e.to_string())
    }

    pub fn add(&mut self, name: &str, kind: PortKind) -> Applied {
        self.apply(Action::AddPort(port(name, kind))).unwrap()
    }

    /// A new pod behind a port of `br0`, with `address` on its `eth0`.
    pub fn pod(&mut self, name: &str, address: &str) -> Space {
        let pod = Space::new(name);
        let ifindex = self.space.cable(name, &pod, "eth0");
        pod.ip(&format!("addr add {address} dev eth0 nodad"));
        self.add(name, PortKind::Netdev { ifindex });
        pod
    }

    pub fn stats(&self, port: &str) -> PortStats {
        self.datapath.port_stats(port).unwrap()
    }

    /// Whether every frame is accounted for; `ports` are all of the host's. While frames are under way it may not be.
    pub fn adds_up(&self, ports: &[&str]) -> bool {
        let totals = self.datapath.totals();
        let stats: Vec<_> = ports.iter().map(|p| self.stats(p)).collect();
        let sum = |f: fn(&PortStats) -> u64| stats.iter().map(f).sum::<u64>();
        let dropped = stats.iter().flat_map(|s| &s.drops).chain(&totals.portless).map(|(_, n)| n).sum::<u64>();
        sum(|s| s.rx_packets) + totals.copied + totals.generated + totals.split
            == sum(|s| s.tx_packets) + totals.merged + dropped
    }
}

/// Whether `f` becomes true within ten seconds.
pub fn eventually(mut f: impl FnMut() -> bool) -> bool {
    let start = std::time::Instant::now();
    while !f() {
        if start.elapsed() > Duration::from_secs(10) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}

pub fn bridge(name: &str) -> BridgeSpec {
    BridgeSpec {
        name: name.to_owned(),
        mac_aging: Duration::from_secs(300),
        mac_table_size: 1024,
        statics: vec![],
        secure: false,
        vlans: BridgeVlans::default(),
        mirrors: vec![],
        gateway: None,
    }
}

/// A trunk port of `br0` that carries everything.
pub fn port(name: &str, kind: PortKind) -> PortSpec {
    let mtu = match &kind {
        PortKind::Tunnel(_) => Some(L3Mtu(1450)),
        _ => None,
    };
    PortSpec {
        mtu_policy: MtuPolicy::default(),
        name: name.to_owned(),
        bridge: "br0".to_owned(),
        kind,
        vlan: VlanMode::Trunk(Trunks::All),
        rules: PortRules::default(),
        up: true,
        mtu,
        limits: Limits::default(),
        assist: false,
    }
}

/// Sends `megabytes` from one namespace to `address` in another over TCP, and checks that each byte arrives as it was.
pub fn transfer(from: &Space, to: &Space, address: &str, megabytes: usize) {
    let block: Vec<u8> = (0..1_000_003_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let address: SocketAddr = address.parse().unwrap();
    let listener = to.inside(|| TcpListener::bind(address)).unwrap();
    let receive = || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut got = vec![0; block.len()];
        for i in 0..megabytes {
            stream.read_exact(&mut got).unwrap_or_else(|e| panic!("block {i}: {e}"));
            assert!(got == block, "block {i} differs");
        }
        assert_eq!(stream.read(&mut got).unwrap(), 0, "more than was sent");
    };
    std::thread::scope(|s| {
        let receiver = s.spawn(receive);
        let timeout = Duration::from_secs(5);
        let mut stream = from.inside(|| TcpStream::connect_timeout(&address, timeout)).expect("a connection");
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        (0..megabytes).for_each(|_| stream.write_all(&block).unwrap());
        drop(stream);
        receiver.join().unwrap_or_else(|e| std::panic::resume_unwind(e));
    });
}
