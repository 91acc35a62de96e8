//! What is too large for a tunnel or for the host's own port, with real kernels: its sender learns the MTU from the first
//! packet, and everything else gets through.

use vswitch_tests::accounts::{check_accounts, check_drops_are};
use vswitch_tests::netns::{Lab, Space};
use vswitch_tests::process::eventually;
use vswitch_tests::tunnel_pair::{PODS, PODS6, Underlay, tight_pair};

/// The one packet that is a byte too large is answered, and the answer says the MTU.
fn told_at_once(pod: &Space, address: &str, mtu: u32) {
    let (headers, expected) = match address.contains(':') {
        false => (28, format!("Frag needed and DF set (mtu = {mtu})")),
        true => (48, format!("Packet too big: mtu={mtu}")),
    };
    let ping = |size: u32| pod.try_run(&format!("ping -M do -c 1 -W 2 -s {} {address}", size - headers));
    let fits = ping(mtu);
    assert!(fits.ok(), "{fits}");
    let told = ping(mtu + 1);
    assert!(told.stdout.contains(&format!("From {address} icmp_seq=1 {expected}")), "{told}");
}

/// Nothing is known of paths any more.
fn forget(pod: &Space) {
    pod.run("ip route flush cache");
    pod.run("ip -6 route flush cache");
}

#[test]
fn a_pod_learns_the_mtu_of_a_tunnel_from_its_first_packet() {
    for (underlay, options, mtu) in [
        (Underlay::V4, "type=vxlan key=5000", 1450),
        (Underlay::V4, "type=gre", 1462),
        (Underlay::V4, "type=gre key=7", 1458),
        (Underlay::V6, "type=vxlan key=5000", 1430),
        (Underlay::V6, "type=gre", 1442),
        (Underlay::V6, "type=gre key=7", 1438),
    ] {
        let Some((hosts, pods, _lab)) = tight_pair(underlay, options) else { return };
        for (near, far) in [(0, 1), (1, 0)] {
            for address in [PODS[far], PODS6[far]] {
                told_at_once(&pods[near], address, mtu);
                forget(&pods[near]);
                let found = pods[near].run(&format!("tracepath -n {address}"));
                assert!(found.contains(&format!("Resume: pmtu {mtu} hops 1")), "{options}: {found}");
            }
            // Nothing of this is known to who asks for no such thing; fragments go both ways.
            forget(&pods[near]);
            pods[near].run(&format!("ping -M dont -c 2 -i 0.2 -W 2 -s 2000 {}", PODS[far]));
        }
        hosts.iter().for_each(|host| check_drops_are(host, &["mtu_told"]));
    }
}

#[test]
fn tcp_gets_through_a_tunnel_that_is_too_small_and_needs_no_icmp_for_it() {
    for (underlay, options) in
        [(Underlay::V4, "type=vxlan key=5000"), (Underlay::V4, "type=gre"), (Underlay::V6, "type=vxlan key=5000")]
    {
        let Some((hosts, pods, _lab)) = tight_pair(underlay, options) else { return };
        let flows = |what: &str| {
            for address in [PODS[1], PODS6[1]] {
                let rate = pods[0].tcp(&pods[1], address, 1) / 1e6;
                eprintln!("{options}, {what}: TCP to {address}: {rate:.0} Mbit/s");
                assert!(rate > 1.0, "{options}, {what}: TCP to {address}: {rate:.1} Mbit/s");
            }
        };
        flows("pods that would listen");
        for pod in &pods {
            pod.run("sysctl -qw net.ipv4.tcp_mtu_probing=0");
            pod.run("iptables -A INPUT -p icmp -j DROP");
            pod.run("ip6tables -A INPUT -p icmpv6 --icmpv6-type packet-too-big -j DROP");
        }
        flows("pods that hear no ICMP");
        // Not even told in vain.
        hosts.iter().for_each(|host| check_drops_are(host, &[]));
    }
}

#[test]
fn other_policies_are_followed_and_changed_while_traffic_flows() {
    let Some((hosts, pods, _lab)) = tight_pair(Underlay::V4, "type=vxlan key=5000") else { return };
    let dropped = |reason: &str| {
        let column = format!("get interface t0 statistics:drop_{reason}");
        hosts[0].try_vsctl(&column).stdout.trim().parse().unwrap_or(0)
    };
    hosts[0].vsctl("set bridge br0 other_config:mtu-policy=drop");
    let lost = pods[0].try_run(&format!("ping -M do -c 2 -i 0.2 -W 1 -s 1423 {}", PODS[1]));
    assert!(lost.stdout.contains("2 packets transmitted, 0 received, 100% packet loss"), "{lost}");
    eventually("both are counted", || match dropped("mtu_exceeded") {
        2 => Ok(()),
        n => Err(format!("{n}")),
    });
    // A tunnel's own policy comes first; TCP that is told goes on with segments that fit.
    hosts[0].vsctl("set interface t0 options:mtu-policy=icmp");
    told_at_once(&pods[0], PODS[1], 1450);
    pods[0].run("ip route flush cache");
    let before = dropped("mtu_told");
    let rate = pods[0].tcp(&pods[1], PODS[1], 1);
    assert!(rate > 1e6, "{:.1} Mbit/s", rate / 1e6);
    eventually("TCP was told", || if dropped("mtu_told") > before { Ok(()) } else { Err(String::new()) });
    let learned = pods[0].run(&format!("ip route get {}", PODS[1]));
    assert!(learned.contains("mtu 1450"), "{learned}");
    check_accounts(&hosts[0]);
}

#[test]
fn the_host_s_own_port_and_a_narrow_device_are_no_black_holes() {
    let Some(lab) = Lab::open() else { return };
    let host = lab.host("host");
    let wide = lab.pod("wide", &host, "wide-sw", "192.168.60.1/24");
    let narrow = lab.pod("narrow", &host, "narrow-sw", "192.168.60.2/24");
    for (space, device) in [(&*host, "narrow-sw"), (&narrow, "eth0")] {
        space.run(&format!("ip link set {device} mtu 1300"));
    }
    host.vsctl("set open_vswitch . other_config:stats-update-interval=100");
    host.vsctl("add-br br0 -- add-port br0 wide-sw -- add-port br0 narrow-sw -- set interface br0 mtu_request=1400");
    host.run("ip addr add 192.168.60.254/24 dev br0");
    host.run("ip link set br0 up");
    for (address, mtu) in [("192.168.60.2", 1300), ("192.168.60.254", 1400)] {
        wide.reaches(address);
        told_at_once(&wide, address, mtu);
        wide.run("ip route flush cache");
        wide.run(&format!("ping -M dont -c 2 -i 0.2 -W 2 -s 4000 {address}"));
    }
    for (server, address) in [(&narrow, "192.168.60.2"), (&*host, "192.168.60.254")] {
        let rate = wide.tcp(server, address, 1);
        assert!(rate > 1e6, "TCP to {address}: {:.1} Mbit/s", rate / 1e6);
    }
    check_accounts(&host);
}
