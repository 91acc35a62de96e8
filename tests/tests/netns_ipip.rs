//! IP in IP between hosts with real daemons, as in a cluster whose pods have a network for each host.
//!
//! ```text
//!  pod1 192.168.10.10 ─ pod1-sw ┐ br0                            br0 ┌ pod2-sw ─ pod2 192.168.11.10
//!                               host1 10.57.4.20 ══ 10.57.4.21 host2
//!                         MTU 1500 everywhere; ip0 carries 1480
//! ```

use vswitch_tests::netns::{Host, Lab, Space};
use vswitch_tests::process::eventually;
use vswitch_tests::tunnel_pair::check_drops;

const UNDERLAY: [&str; 2] = ["10.57.4.20", "10.57.4.21"];
const PODS: [&str; 2] = ["192.168.10.10", "192.168.11.10"];
/// The same for both hosts, each of which leaves its own out.
const ROUTES: &str =
    "remote_ip=flow routes=192.168.10.0/24\u{a0}via\u{a0}10.57.4.20,192.168.11.0/24\u{a0}via\u{a0}10.57.4.21";

/// A host with `br0` and a pod, which takes the switch for its router.
fn host(lab: &Lab, n: usize, host: &Host) -> Space {
    let port = format!("pod{}-sw", n + 1);
    let pod = lab.pod(&format!("pod{}", n + 1), host, &port, &format!("{}/24", PODS[n]));
    pod.run("ip route add 169.254.1.1 dev eth0 scope link");
    pod.run("ip route add default via 169.254.1.1 dev eth0");
    host.run(&format!("ip addr add {}/24 dev eth0", UNDERLAY[n]));
    host.vsctl("set open_vswitch . other_config:stats-update-interval=100");
    host.vsctl("add-br br0");
    host.vsctl(&format!("add-port br0 {port}"));
    pod
}

/// Two hosts with a tunnel of these settings each.
fn pair(tunnels: [&str; 2]) -> Option<(Lab, [Host; 2], [Space; 2])> {
    let lab = Lab::open()?;
    let hosts = [lab.host("host1"), lab.host("host2")];
    lab.cable(&hosts[0], "eth0", &hosts[1], "eth0");
    let pods = [0, 1].map(|n| host(&lab, n, &hosts[n]));
    for (host, tunnel) in hosts.iter().zip(tunnels) {
        host.vsctl(&format!("add-port br0 ip0 type=ipip {tunnel}"));
    }
    Some((lab, hosts, pods))
}

#[test]
fn pods_reach_each_other_by_routes_and_the_wire_shows_ip_in_ip() {
    let Some((lab, hosts, pods)) = pair([ROUTES; 2]) else { return };
    assert_eq!(hosts[0].vsctl("get interface ip0 mtu").trim(), "1480");
    let wire = hosts[1].spawn("tcpdump -nn -l -i eth0 src host 10.57.4.20 and ip proto 4", &lab.dir().join("wire"));
    eventually("tcpdump listens", || wire.log().contains("listening on").then_some(()).ok_or_else(|| wire.log()));
    eventually("a request on the wire", || {
        pods[0].reaches(PODS[1]);
        let text = wire.log();
        let request = "IP 10.57.4.20 > 10.57.4.21: IP 192.168.10.10 > 192.168.11.10: ICMP echo request";
        if text.contains(request) { Ok(()) } else { Err(text) }
    });
    for (from, address) in [(0, PODS[1]), (1, PODS[0])] {
        for size in [56, 1452] {
            eventually(&format!("a ping of {size} bytes from pod {from}"), || {
                let done = pods[from].try_run(&format!("ping -M do -c 3 -i 0.1 -W 2 -s {size} {address}"));
                let answered = done.stdout.contains("3 received, 0% packet loss") && done.stdout.contains("ttl=62");
                if answered { Ok(()) } else { Err(done.to_string()) }
            });
        }
        let rate = pods[from].tcp(&pods[1 - from], address, 1);
        eprintln!("TCP from pod {from}: {:.0} Mbit/s", rate / 1e6);
        assert!(rate > 1e6, "TCP from pod {from}: {:.1} Mbit/s", rate / 1e6);
    }
    hosts.iter().for_each(|host| check_drops(host, "ip0"));
}

#[test]
fn hosts_take_part_by_their_bridges_own_ports() {
    let Some((_lab, hosts, pods)) = pair(["remote_ip=10.57.4.21 routes=192.168.11.0/24", "remote_ip=10.57.4.20"])
    else {
        return;
    };
    for (host, [own, other]) in hosts.iter().zip([["192.168.10.1", "192.168.11"], ["192.168.11.1", "192.168.10"]]) {
        host.run(&format!("ip addr add {own}/24 dev br0"));
        host.run("ip link set br0 up");
        // The far pods are behind the switch, which answers for them, or, without routes, by the address for all.
        match own {
            "192.168.10.1" => host.run(&format!("ip route add {other}.0/24 dev br0 src {own}")),
            _ => host.run(&format!("ip route add {other}.0/24 via 169.254.1.1 dev br0 onlink src {own}")),
        };
    }
    pods[0].run("ip route replace default via 192.168.10.1");
    pods[0].reaches(PODS[1]);
    pods[0].reaches("192.168.10.1");
    for (from, address) in [(0, PODS[1]), (0, "192.168.11.1"), (1, PODS[0]), (1, "192.168.10.1")] {
        hosts[from].reaches(address);
    }
    pods[1].reaches("192.168.10.1");
    let rate = pods[0].tcp(&hosts[1], "192.168.11.1", 1);
    assert!(rate > 1e6, "TCP from pod to host: {:.1} Mbit/s", rate / 1e6);
    hosts.iter().for_each(|host| check_drops(host, "ip0"));
}

#[test]
fn the_underlay_may_be_ipv6() {
    let tunnels = ["remote_ip=2001:db8::21 routes=192.168.11.0/24", "remote_ip=2001:db8::20 routes=192.168.10.0/24"];
    let Some((_lab, hosts, pods)) = pair(tunnels) else { return };
    for (host, address) in hosts.iter().zip(["2001:db8::20", "2001:db8::21"]) {
        host.run(&format!("ip addr add {address}/64 dev eth0 nodad"));
    }
    pods[0].reaches(PODS[1]);
    eventually("the MTU of a way over IPv6", || match hosts[0].vsctl("get interface ip0 mtu").trim() {
        "1460" => Ok(()),
        other => Err(other.to_owned()),
    });
    let rate = pods[1].tcp(&pods[0], PODS[0], 1);
    assert!(rate > 1e6, "TCP over IPv6: {:.1} Mbit/s", rate / 1e6);
}

/// Answers pings that come in IP in IP, with nothing but a raw socket.
const PEER: &str = r"
import socket
def sum16(b):
    s = sum(int.from_bytes(b[i:i+2], 'big') for i in range(0, len(b), 2))
    while s >> 16: s = (s & 0xffff) + (s >> 16)
    return (~s & 0xffff).to_bytes(2, 'big')
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, 4)
while True:
    packet, (sender, _) = s.recvfrom(65535)
    inner = bytearray(packet[(packet[0] & 15) * 4:])
    if inner[0] == 0x45 and inner[9] == 1 and inner[20] == 8 and sum16(inner[:20]) == b'\0\0':
        inner[12:16], inner[16:20] = inner[16:20], inner[12:16]
        inner[8] = 40
        inner[10:12] = b'\0\0'
        inner[10:12] = sum16(inner[:20])
        inner[20] = 0
        inner[22:24] = b'\0\0'
        inner[22:24] = sum16(inner[20:])
        s.sendto(inner, (sender, 0))
";

#[test]
fn the_other_end_may_be_anybody_who_speaks_ip_in_ip() {
    let Some(lab) = Lab::open() else { return };
    let (near, far) = (lab.host("host1"), lab.space("far"));
    lab.cable(&near, "eth0", &far, "eth0");
    far.run(&format!("ip addr add {}/24 dev eth0", UNDERLAY[1]));
    let script = lab.dir().join("peer.py");
    std::fs::write(&script, PEER).expect("the lab's directory can be written to");
    let _peer = far.spawn(&format!("python3 {}", script.display()), &lab.dir().join("peer"));
    let pod = host(&lab, 0, &near);
    // In a VLAN of its own.
    near.vsctl("set port pod1-sw tag=10");
    near.vsctl("add-port br0 ip0 tag=10 type=ipip remote_ip=10.57.4.21");
    pod.reaches(PODS[1]);
    let done = pod.run(&format!("ping -c 3 -i 0.1 -W 2 {}", PODS[1]));
    assert!(done.contains("3 received") && done.contains("ttl=39"), "{done}");
    check_drops(&near, "ip0");
}

#[test]
fn what_is_wrong_with_a_tunnel_is_told() {
    let Some((_lab, hosts, _pods)) = pair([ROUTES; 2]) else { return };
    let host = &hosts[0];
    assert!(host.vsctl("get open_vswitch . iface_types").contains("ipip"));
    assert!(host.vsctl("get interface ip0 status:routes").contains("10.57.4.20: of this host, left out"));
    for (tunnel, told) in [
        ("remote_ip=10.57.4.22 key=7", "key=7: ipip has no key; remove it"),
        ("remote_ip=flow", "remote_ip=flow: routes are missing"),
        ("remote_ip=10.57.4.21 routes=192.168.12.0/24", "give one of them another remote_ip or local_ip"),
        ("remote_ip=10.57.4.22 trunks=10", "'vsctl clear port ip1 vlan_mode trunks cvlans'"),
        ("remote_ip=10.57.4.22 routes=192.168.11.0/24", "'ip1' would carry the same packets as port 'ip0'"),
    ] {
        let done = host.try_vsctl(&format!("add-port br0 ip1 type=ipip {tunnel}"));
        assert!(!done.ok() && done.to_string().contains(told), "{tunnel}: {done}");
        host.vsctl("del-port ip1");
    }
}
