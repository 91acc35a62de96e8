//! A pod on each of two hosts and one tunnel between the hosts, for tests of tunnels.
//!
//! ```text
//!  pod1 192.168.60.11 ─ pod1-sw ┐ br0                br0 ┌ pod2-sw ─ pod2 192.168.60.12
//!                               host1 eth0 ══ eth0 host2
//!        MTU 1500                     MTU 1600                        MTU 1500
//! ```

use crate::netns::{Host, Lab, Running, Space};
use crate::ovs::{Ovs, OvsdbServer};
use crate::process::eventually;
use std::fs;
use std::time::Duration;

/// The underlay's MTU: room for the pods' 1500 bytes and any header.
pub const UNDERLAY_MTU: u32 = 1600;
/// The pods' addresses.
pub const PODS: [&str; 2] = ["192.168.60.11", "192.168.60.12"];
/// The same over IPv6, in [`tight_pair`].
pub const PODS6: [&str; 2] = ["fd00::11", "fd00::12"];

/// The underlay's addresses.
#[derive(Clone, Copy, Debug)]
pub struct Underlay(pub [&'static str; 2]);

impl Underlay {
    /// Over IPv4.
    pub const V4: Self = Self(["10.2.7.200", "10.2.7.201"]);
    /// Over IPv6.
    pub const V6: Self = Self(["2001:db8::200", "2001:db8::201"]);

    /// Gives `space` its address, on a device that is there.
    pub fn set(self, space: &Space, n: usize, device: &str) {
        let (address, length) = (self.0[n], if self.is_v6() { 64 } else { 24 });
        let nodad = if self.is_v6() { "nodad" } else { "" };
        space.run(&format!("ip addr add {address}/{length} dev {device} {nodad}"));
    }

    /// Whether it is IPv6.
    #[must_use]
    pub fn is_v6(self) -> bool {
        self.0[0].contains(':')
    }
}

/// Connects two hosts' `eth0`, with the underlay's MTU.
pub fn underlay_cable(lab: &Lab, a: &Space, b: &Space) {
    lab.cable(a, "eth0", b, "eth0");
    for space in [a, b] {
        space.run(&format!("ip link set eth0 mtu {UNDERLAY_MTU}"));
    }
}

/// A host with `br0`, a pod on it, and the tunnel `t0` with `options` (words of `vsctl add-port`) to the other one.
pub fn near_end(lab: &Lab, host: &Host, n: usize, underlay: Underlay, options: &str) -> Space {
    let port = format!("pod{}-sw", n + 1);
    let pod = lab.pod(&format!("pod{}", n + 1), host, &port, &format!("{}/24", PODS[n]));
    host.vsctl("set open_vswitch . other_config:stats-update-interval=100");
    host.vsctl("add-br br0");
    host.vsctl(&format!("add-port br0 {port}"));
    host.vsctl(&format!("add-port br0 t0 remote_ip={} {options}", underlay.0[1 - n]));
    pod
}

/// Two hosts with a tunnel, and pods that are too large for it: MTU 1500 everywhere. `None` where [`Lab::open`] says so.
#[must_use]
pub fn tight_pair(underlay: Underlay, options: &str) -> Option<([Host; 2], [Space; 2], Lab)> {
    let lab = Lab::open()?;
    let hosts = [lab.host("host1"), lab.host("host2")];
    lab.cable(&hosts[0], "eth0", &hosts[1], "eth0");
    let pods = [0, 1].map(|n| {
        underlay.set(&hosts[n], n, "eth0");
        let pod = near_end(&lab, &hosts[n], n, underlay, options);
        pod.run(&format!("ip addr add {}/64 dev eth0 nodad", PODS6[n]));
        pod
    });
    pods[0].reaches(PODS[1]);
    pods[0].reaches(PODS6[1]);
    Some((hosts, pods, lab))
}

/// A host with Open vSwitch, its userspace datapath, and a pod.
pub struct OvsEnd {
    /// The pod.
    pub pod: Space,
    server: OvsdbServer,
    daemon: Running,
}

impl OvsEnd {
    /// On `space`, whose `eth0` is the underlay's: a bridge with `eth0` that holds its address, another with the pod and the
    /// tunnel `t0` with `settings` (columns of its Interface).
    ///
    /// # Panics
    /// If Open vSwitch doesn't make it.
    #[must_use]
    pub fn new(lab: &Lab, ovs: &Ovs, space: &Space, n: usize, underlay: Underlay, settings: &str) -> Self {
        let dir = lab.dir().join(format!("ovs{n}"));
        fs::create_dir(&dir).expect("a directory");
        let server = ovs.server(&dir);
        let daemon = ovs.vswitchd(space, &server);
        let pod = lab.pod(&format!("far{n}"), space, "far-sw", &format!("{}/24", PODS[n]));
        pod.run("ethtool -K eth0 tx off");
        let run = |args: &str| ovs.vsctl(&server.socket, args).output();
        run("add-br br-phy -- set bridge br-phy datapath_type=netdev -- add-port br-phy eth0");
        run("add-br br-int -- set bridge br-int datapath_type=netdev -- add-port br-int far-sw");
        let mtu = space.run("cat /sys/class/net/eth0/mtu");
        space.run(&format!("ip link set br-phy mtu {} up", mtu.trim()));
        underlay.set(space, n, "br-phy");
        run(&format!("add-port br-int t0 -- set interface t0 {settings} options:remote_ip={}", underlay.0[1 - n]));
        eventually("Open vSwitch has the tunnel", || {
            let error = run("get interface t0 ofport error");
            if error.starts_with(|c: char| c.is_ascii_digit()) { Ok(()) } else { Err(error) }
        });
        Self { pod, server, daemon }
    }

    /// The process ids of its two daemons.
    #[must_use]
    pub fn processes(&self) -> [u32; 2] {
        [self.daemon.pid(), self.server.pid()]
    }
}

/// Pings and TCP between the pods, both ways: small and large packets, fragments included.
///
/// # Panics
/// If anything doesn't arrive.
pub fn check_pods(pods: [&Space; 2], what: &str) {
    pods[0].reaches(PODS[1]);
    for (from, address) in [(0, PODS[1]), (1, PODS[0])] {
        for size in [56, 1600, 3200] {
            eventually(&format!("{what}: a ping of {size} bytes from pod {from}"), || {
                let done = pods[from].try_run(&format!("ping -c 3 -i 0.1 -W 2 -s {size} {address}"));
                if done.stdout.contains("3 received, 0% packet loss") { Ok(()) } else { Err(done.to_string()) }
            });
        }
        let rate = pods[from].tcp(pods[1 - from], address, 1);
        eprintln!("{what}: TCP from pod {from}: {:.0} Mbit/s", rate / 1e6);
        assert!(rate > 1e6, "{what}: TCP from pod {from}: {:.1} Mbit/s", rate / 1e6);
    }
}

/// Nothing has been dropped at the port `tunnel`, but for what a full queue on a busy machine costs TCP.
///
/// # Panics
/// If anything has.
pub fn check_drops(host: &Host, tunnel: &str) {
    // Statistics are written ten times a second: they are up to date when they have stopped changing.
    let read = || host.vsctl(&format!("get interface {tunnel} statistics"));
    let statistics = eventually("statistics that tell of everything", || {
        let first = read();
        std::thread::sleep(Duration::from_millis(300));
        let second = read();
        if first == second && !second.contains("tx_packets=0") { Ok(second) } else { Err(second) }
    });
    let drops = statistics.split([',', '{', '}']).map(str::trim).filter(|s| s.starts_with("drop_"));
    let unexpected: Vec<_> = drops.filter(|s| !s.starts_with("drop_tx_queue_full=")).collect();
    assert!(unexpected.is_empty(), "{statistics}");
}

/// A UDP, or raw, packet that was not sent by a switch: `payload` in hexadecimal from `space` to `to`, with the type of
/// service `tos`.
pub fn send_marked(space: &Space, to: &str, port: u16, tos: u8, payload: &str) {
    let (family, level, option) = if to.contains(':') { (10, 41, 67) } else { (2, 0, 1) };
    let kind = if port == 0 { "3,47" } else { "2" };
    let script = format!(
        "import socket; s=socket.socket({family},{kind}); s.setsockopt({level},{option},{tos}); \
         s.sendto(bytes.fromhex('{payload}'),('{to}',{port}))"
    );
    space.run(&format!("python3 -c {}", script.replace(' ', "\u{a0}")));
}
