//! A pod on each of two hosts and one tunnel between the hosts, for tests of tunnels.
//!
//! ```text
//!  pod1 192.168.60.11 ─ pod1-sw ┐ br0                br0 ┌ pod2-sw ─ pod2 192.168.60.12
//!                               host1 eth0 ══ eth0 host2
//!        MTU 1500                     MTU 1600                        MTU 1500
//! ```

use crate::netns::{Host, Lab, Space};
use crate::process::eventually;
use std::time::Duration;

/// The underlay's MTU: room for the pods' 1500 bytes and any header.
pub const UNDERLAY_MTU: u32 = 1600;
/// The pods' addresses.
pub const PODS: [&str; 2] = ["192.168.60.11", "192.168.60.12"];

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
        assert!(rate > 10e6, "{what}: TCP from pod {from}: {:.1} Mbit/s", rate / 1e6);
    }
}

/// Nothing has been dropped at the tunnel, but for what a full queue on a busy machine costs TCP.
///
/// # Panics
/// If anything has.
pub fn check_drops(host: &Host) {
    // Statistics are written ten times a second: they are up to date when they have stopped changing.
    let read = || host.vsctl("get interface t0 statistics");
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
