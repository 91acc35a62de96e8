//! What the kernel has: a cable, its bridge, macvlan, routes, and its VXLAN.

use super::{MONITOR, Stage, monitor, two_pods};
use datapath::types::MacAddr;
use vswitch_tests::netns::{Lab, Space};
use vswitch_tests::tunnel_pair::{PODS, Underlay, underlay_cable};

/// No switch: the ends hold the two ends of one veth pair.
pub fn cable(lab: &Lab) -> Result<Stage, String> {
    let ends = [1, 2].map(|n| lab.space(&format!("pod{n}")));
    lab.cable(&ends[0], "eth0", &ends[1], "eth0");
    for (n, end) in ends.iter().enumerate() {
        end.run(&format!("ip addr add 10.0.0.{}/24 dev eth0", n + 1));
    }
    Ok(Stage::new(ends, "10.0.0.2", vec![], ()))
}

/// Two pods on a Linux bridge.
pub fn bridge(lab: &Lab) -> Result<Stage, String> {
    let host = lab.space("host");
    add_bridge(&host);
    let ends = two_pods(lab, &host, "bridge");
    for port in ["p1", "p2"] {
        host.run(&format!("ip link set {port} master br0"));
    }
    Ok(Stage::new(ends, "10.0.0.2", vec![], ()))
}

/// The same while tc copies what the first pod sends and gets to a third device.
pub fn mirrored(lab: &Lab) -> Result<Stage, String> {
    let host = lab.space("host");
    add_bridge(&host);
    let ends = two_pods(lab, &host, "bridge");
    monitor(lab, &host);
    host.run("tc qdisc add dev p1 clsact");
    for way in ["ingress", "egress"] {
        let all = "protocol all u32 match u32 0 0";
        host.run(&format!("tc filter add dev p1 {way} {all} action mirred egress mirror dev {MONITOR}"));
    }
    for port in ["p1", "p2"] {
        host.run(&format!("ip link set {port} master br0"));
    }
    Ok(Stage::new(ends, "10.0.0.2", vec![], ()))
}

/// A Linux bridge br0 that netfilter keeps out of.
pub fn add_bridge(host: &Space) {
    host.run("ip link add br0 type bridge");
    host.run("ip link set br0 up");
    // Where the module isn't loaded there is nothing to switch off.
    let _ = host.try_run("sysctl -qw net.bridge.bridge-nf-call-iptables=0");
}

/// Two macvlan devices over one end of a veth pair.
pub fn macvlan(lab: &Lab) -> Result<Stage, String> {
    let host = lab.space("host");
    lab.cable(&host, "up0", &host, "up1");
    let ends = [1, 2].map(|n| lab.space(&format!("pod{n}")));
    for (n, end) in ends.iter().enumerate() {
        let made = host.try_run(&format!("ip link add link up0 name m{n} type macvlan mode bridge"));
        if !made.ok() {
            return Err(format!("this kernel has no macvlan: {}", made.stderr.trim()));
        }
        host.run(&format!("ip link set m{n} netns {} name eth0", end.name));
        end.run(&format!("ip addr add 10.0.0.{}/24 dev eth0", n + 1));
        end.run("ip link set eth0 up");
    }
    // It passes on only what is for the device's own address.
    let target = mac(&ends[1], "eth0")?;
    Ok(Stage { target, ..Stage::new(ends, "10.0.0.2", vec![], ()) })
}

/// Two pods in subnets of their own, the host routes between them.
pub fn routed(lab: &Lab) -> Result<Stage, String> {
    let host = lab.space("host");
    host.run("sysctl -qw net.ipv4.ip_forward=1");
    let ends = [1, 2].map(|n| {
        let pod = lab.pod(&format!("pod{n}"), &host, &format!("p{n}"), &format!("10.0.{n}.2/24"));
        host.run(&format!("ip addr add 10.0.{n}.1/24 dev p{n}"));
        pod.run(&format!("ip route add default via 10.0.{n}.1"));
        pod
    });
    // What the generator sends to 10.0.2.9 arrives at the station's address, as on the switches.
    host.run(&format!("ip neigh add 10.0.2.9 lladdr {} dev p2", super::STATION));
    let target = mac(&host, "p1")?;
    Ok(Stage { target, ..Stage::new(ends, "10.0.2.2", vec![], ()) })
}

/// A pod on each of two hosts with a bridge and a VXLAN device each.
pub fn vxlan(lab: &Lab) -> Result<Stage, String> {
    let hosts = [1, 2].map(|n| lab.space(&format!("host{n}")));
    underlay_cable(lab, &hosts[0], &hosts[1]);
    let ends = vxlan_hosts(lab, &hosts);
    Ok(Stage::new(ends, PODS[1], vec![], ()))
}

/// A bridge and a VXLAN device on each of two hosts that are connected by their `eth0`; a pod of each.
#[must_use]
pub fn vxlan_hosts(lab: &Lab, hosts: &[Space; 2]) -> [Space; 2] {
    [0, 1].map(|n: usize| {
        let (host, [local, remote]) = (&hosts[n], [Underlay::V4.0[n], Underlay::V4.0[1 - n]]);
        Underlay::V4.set(host, n, "eth0");
        add_bridge(host);
        let vxlan = format!("type vxlan id 5000 local {local} remote {remote} dstport 4789");
        host.run(&format!("ip link add vx0 mtu 1500 {vxlan}"));
        host.run("ip link set vx0 master br0 up");
        let pod = lab.pod(&format!("kernel-pod{n}"), host, "p0", &format!("{}/24", PODS[n]));
        host.run("ip link set p0 master br0");
        pod
    })
}

/// The Ethernet address of a device.
fn mac(space: &Space, device: &str) -> Result<MacAddr, String> {
    let text = space.run(&format!("cat /sys/class/net/{device}/address"));
    text.trim().parse().map_err(|e| format!("the address of {device}: {e:?}"))
}
