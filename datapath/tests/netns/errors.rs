//! What cannot be opened is refused with the value, the cause and a way out, and changes nothing.

use crate::lab::{Host, Space, port, root};
use datapath::control::{Action, PortKind};
use datapath::tunnel::{Protocol, Tunnel};
use datapath::types::TunnelKey;
use std::net::IpAddr;

fn tunnel(remote: &str) -> PortKind {
    PortKind::Tunnel(Tunnel::new(Protocol::Vxlan, remote.parse().unwrap(), TunnelKey(7)))
}

#[test]
fn a_taken_udp_port_names_the_likely_holder() {
    if !root("a_taken_udp_port_names_the_likely_holder") {
        return;
    }
    let mut host = Host::new("host");
    host.space.ip("link add k0 type vxlan id 1 dstport 4789 remote 192.0.2.9 dev lo");
    host.space.ip("link set k0 up");
    let error = host.apply(Action::AddPort(port("vx0", tunnel("192.0.2.2:4789")))).unwrap_err();
    for part in ["UDP port 4789 (IPv4)", "in use", "kernel tunnel device or another switch", "dst_port"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(host.datapath.port_stats("vx0"), None);
    host.apply(Action::AddPort(port("vx0", tunnel("192.0.2.2:4790")))).unwrap();
    host.space.ip("link del k0");
    host.apply(Action::AddPort(port("vx1", tunnel("192.0.2.2:4789")))).unwrap();
    let error = host.apply(Action::AddPort(port("vx2", tunnel("192.0.2.2:4789")))).unwrap_err();
    assert!(error.contains("'vx2'") && error.contains("port 'vx1'") && error.contains("key 7"), "{error}");
}

#[test]
fn shared_sockets_close_with_the_last_tunnel() {
    if !root("shared_sockets_close_with_the_last_tunnel") {
        return;
    }
    let mut host = Host::new("host");
    let listening = |space: &Space| space.exec("ss -Huln sport = :4789").lines().count();
    host.add("vx1", tunnel("192.0.2.1:4789"));
    host.add("vx2", tunnel("192.0.2.2:4789"));
    host.add("vx6", tunnel("[2001:db8::2]:4789"));
    assert_eq!(listening(&host.space), 2, "one for each IP version");
    for (port, left) in [("vx1", 2), ("vx2", 1), ("vx6", 0)] {
        host.apply(Action::RemovePort { name: port.to_owned() }).unwrap();
        assert_eq!(listening(&host.space), left, "after {port}");
    }
}

#[test]
fn a_raw_socket_is_shared_and_closed_with_the_last_tunnel() {
    if !root("a_raw_socket_is_shared_and_closed_with_the_last_tunnel") {
        return;
    }
    let mut host = Host::new("host");
    let gre = |remote: &str, key| {
        PortKind::Tunnel(Tunnel::new(Protocol::Gre, (remote.parse::<IpAddr>().unwrap(), 0).into(), TunnelKey(key)))
    };
    // /proc/net/raw has a line of headings, and says which protocol after the slot's number and the local address.
    let open = |space: &Space, file: &str| space.exec(&format!("cat /proc/net/{file}")).matches(":002F ").count();
    for (name, remote, key) in [("g1", "192.0.2.1", 1), ("g2", "192.0.2.1", 2), ("g6", "2001:db8::2", 1)] {
        host.add(name, gre(remote, key));
    }
    assert_eq!((open(&host.space, "raw"), open(&host.space, "raw6")), (1, 2), "for IPv6 one to learn");
    for (port, left) in [("g1", (1, 2)), ("g6", (1, 0)), ("g2", (0, 0))] {
        host.apply(Action::RemovePort { name: port.to_owned() }).unwrap();
        assert_eq!((open(&host.space, "raw"), open(&host.space, "raw6")), left, "after {port}");
    }
}

#[test]
fn an_interface_in_the_way_of_an_internal_port_is_named() {
    if !root("an_interface_in_the_way_of_an_internal_port_is_named") {
        return;
    }
    let mut host = Host::new("host");
    host.space.ip("link add dev0 type veth peer name dev1");
    host.space.ip("tuntap add mode tun name tun0");
    for (name, part) in [
        ("dev0", "a 'veth' interface of this name exists"),
        ("tun0", "a TUN interface of this name exists"),
        ("a-name-of-16-byt", "an interface name has 1 to 15 bytes"),
    ] {
        let error = host.apply(Action::AddPort(port(name, PortKind::Internal))).unwrap_err();
        assert!(error.starts_with(name) && error.contains(part), "{error}");
    }
    host.space.exec("ip link show dev0");
    let mut other = Host::new("other");
    other.add("br0", PortKind::Internal);
    // One that could have more than one queue, and does have one of ours.
    other.space.ip("tuntap add mode tap name tap0 multi_queue vnet_hdr");
    other.add("tap0", PortKind::Internal);
    other.space.ip("link set tap0 up");
    // A second datapath in the same namespace.
    let mut second = datapath::control::Datapath::start(&datapath::control::DatapathConfig::default()).unwrap();
    let add = |name| Action::AddPort(port(name, PortKind::Internal));
    let actions = vec![Action::AddBridge(crate::lab::bridge("br0")), add("br0"), add("tap0")];
    let results = other.space.inside(|| second.apply(actions));
    for result in &results[1..] {
        let error = result.as_ref().unwrap_err().to_string();
        assert!(error.contains("another process has it open"), "{error}");
    }
}

#[test]
fn a_missing_device_is_refused() {
    if !root("a_missing_device_is_refused") {
        return;
    }
    let mut host = Host::new("host");
    let error = host.apply(Action::AddPort(port("p1", PortKind::Netdev { ifindex: 9999 }))).unwrap_err();
    assert!(error.starts_with("p1: ") && error.contains("No such device"), "{error}");
    assert_eq!(host.datapath.port_stats("p1"), None);
}
