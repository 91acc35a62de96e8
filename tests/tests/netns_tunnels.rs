//! Tunnels of every kind between two hosts with real daemons: what is on the wire, and what comes through.

use vswitch_tests::netns::{Host, Lab, Running, Space};
use vswitch_tests::process::eventually;
use vswitch_tests::tunnel_pair::{PODS, Underlay, check_drops, check_pods, near_end, send_marked, underlay_cable};

/// Two hosts with a tunnel.
struct Pair {
    hosts: [Host; 2],
    pods: [Space; 2],
    lab: Lab,
}

impl Pair {
    fn open(underlay: Underlay, options: &str) -> Option<Self> {
        let lab = Lab::open()?;
        let hosts = [lab.host("host1"), lab.host("host2")];
        underlay_cable(&lab, &hosts[0], &hosts[1]);
        let pods = [0, 1].map(|n| {
            underlay.set(&hosts[n], n, "eth0");
            near_end(&lab, &hosts[n], n, underlay, options)
        });
        Some(Self { hosts, pods, lab })
    }
}

/// A tcpdump that listens.
fn tcpdump(lab: &Lab, space: &Space, options: &str) -> Running {
    let wire = space.spawn(&format!("tcpdump -nn -l {options}"), &lab.dir().join("wire"));
    eventually("tcpdump listens", || wire.log().contains("listening on").then_some(()).ok_or_else(|| wire.log()));
    wire
}

#[test]
fn every_kind_carries_pings_and_tcp_over_either_ip_version() {
    for underlay in [Underlay::V4, Underlay::V6] {
        for options in ["type=vxlan key=5000", "type=geneve key=5000", "type=gre key=5000 csum=true", "type=gre"] {
            let Some(pair) = Pair::open(underlay, options) else { return };
            check_pods([&pair.pods[0], &pair.pods[1]], &format!("{options} over {underlay:?}"));
            pair.hosts.iter().for_each(|host| check_drops(host, "t0"));
            // 1600 less inner Ethernet, the header, UDP's for some, and IP's.
            let header = match options {
                "type=gre" => 4,
                "type=gre key=5000 csum=true" => 12,
                _ => 16,
            };
            let mtu = 1600 - 14 - header - if underlay.is_v6() { 40 } else { 20 };
            assert_eq!(pair.hosts[0].vsctl("get interface t0 mtu").trim(), mtu.to_string(), "{options}");
        }
    }
}

#[test]
fn tcpdump_reads_the_outer_headers_and_finds_nothing_wrong() {
    for (underlay, options, expected) in [
        (
            Underlay::V4,
            "type=vxlan key=5000",
            &["tos 0x0, ttl 64", "flags [DF]", "VXLAN, flags [I] (0x08), vni 5000"][..],
        ),
        (Underlay::V4, "type=vxlan key=5000 csum=false", &["[no cksum] VXLAN"]),
        (
            Underlay::V4,
            "type=geneve key=5000 tos=0xb8 ttl=9",
            &["tos 0xb8, ttl 9", "[udp sum ok] Geneve", "vni 0x1388"],
        ),
        (Underlay::V4, "type=geneve key=5000 df_default=false", &["flags [none]", "Geneve"]),
        (Underlay::V4, "type=geneve key=5000 tos=inherit ttl=inherit", &["tos 0x20, ttl 33", "Geneve"]),
        (
            Underlay::V4,
            "type=gre key=5000",
            &["proto GRE (47)", "flags [DF]", "GREv0, Flags [key present], key=0x1388"],
        ),
        (
            Underlay::V4,
            "type=gre key=5000 csum=true tos=4 ttl=7",
            &["tos 0x4, ttl 7", "GREv0, Flags [checksum present, key present]"],
        ),
        (Underlay::V6, "type=vxlan key=5000 tos=0xb8 ttl=9", &["class 0xb8", "hlim 9", "[udp sum ok] VXLAN"]),
        // Not csum=false here: tcpdump knows no UDP without a checksum over IPv6 (RFC 6935).
        (Underlay::V6, "type=geneve key=5000", &["hlim 64", "[udp sum ok] Geneve"]),
        (Underlay::V6, "type=gre tos=inherit ttl=inherit", &["class 0x20", "hlim 33", "GREv0, Flags [none]"]),
    ] {
        let Some(pair) = Pair::open(underlay, options) else { return };
        // A network card would fill the checksums in that a veth pair leaves to nobody.
        for host in &pair.hosts {
            host.run("ethtool -K eth0 tx off");
        }
        pair.pods[0].reaches(PODS[1]);
        let address = underlay.0[0];
        let wire = tcpdump(&pair.lab, &pair.hosts[1], &format!("-vv -i eth0 src host {address} and not icmp6"));
        pair.pods[0].run(&format!("ping -c 2 -i 0.2 -W 2 -Q 0x20 -t 33 {}", PODS[1]));
        eventually("two requests on the wire", || {
            let text = wire.log();
            // The outer packet is described on the lines before that of the inner one.
            let requests: Vec<&str> = text.split("ICMP echo request").collect();
            if requests.len() < 3 {
                return Err(text);
            }
            for wrong in ["bad", "wrong", "incorrect", "[|", "truncated"] {
                assert!(!text.contains(wrong), "{options}: {wrong}: {text}");
            }
            for part in expected {
                assert!(requests[0].contains(part), "{options}: no '{part}' in: {text}");
            }
            Ok(())
        });
    }
}

#[test]
fn what_is_too_large_is_fragmented_where_it_may_be() {
    for underlay in [Underlay::V4, Underlay::V6] {
        for kind in ["vxlan", "geneve", "gre"] {
            let Some(pair) = Pair::open(underlay, &format!("type={kind} key=5000")) else { return };
            pair.hosts.iter().for_each(|host| drop(host.run("ip link set eth0 mtu 1500")));
            pair.pods[0].reaches(PODS[1]);
            let whole = format!("ping -M do -c 2 -i 0.2 -W 1 -s 1472 {}", PODS[1]);
            assert!(!pair.pods[0].try_run(&whole).ok(), "{kind} over {underlay:?}: it cannot fit");
            eventually("the one that was sent is counted: its sender is told", || {
                let statistics = pair.hosts[0].vsctl("get interface t0 statistics");
                if statistics.contains("drop_mtu_told=1,") { Ok(()) } else { Err(statistics) }
            });
            pair.pods[0].run("ip route flush cache");
            for host in &pair.hosts {
                host.vsctl("set interface t0 options:df_default=false");
            }
            pair.pods[0].run(&whole);
            // TCP is cut all the same, so that nothing has to be put together again.
            let rate = pair.pods[0].tcp(&pair.pods[1], PODS[1], 1);
            assert!(rate > 1e6, "{kind} over {underlay:?}: {:.1} Mbit/s", rate / 1e6);
        }
    }
}

#[test]
fn a_tunnel_is_sent_from_its_local_address() {
    for (underlay, other, length) in [(Underlay::V4, "10.2.7.210", 24), (Underlay::V6, "2001:db8::210", 64)] {
        for kind in ["vxlan", "gre"] {
            let Some(pair) = Pair::open(underlay, &format!("type={kind} key=5000")) else { return };
            let [near, far] = &pair.hosts;
            near.run(&format!("ip addr add {other}/{length} dev eth0 {}", if underlay.is_v6() { "nodad" } else { "" }));
            near.vsctl(&format!("set interface t0 options:local_ip=\"{other}\""));
            assert!(!pair.pods[0].pings(PODS[1]), "{kind} over {underlay:?}: the other end expects another sender");
            far.vsctl(&format!("set interface t0 options:remote_ip=\"{other}\""));
            pair.pods[0].reaches(PODS[1]);
        }
    }
}

/// The address of the underlay is on the own port of a bridge that holds the network card, as Open vSwitch's userspace
/// datapath wants it.
#[test]
fn the_underlay_s_address_may_be_on_a_bridge_of_ours() {
    for kind in ["vxlan", "geneve", "gre"] {
        let Some(lab) = Lab::open() else { return };
        let hosts = [lab.host("host1"), lab.host("host2")];
        underlay_cable(&lab, &hosts[0], &hosts[1]);
        let pods = [0, 1].map(|n| {
            hosts[n].vsctl("add-br br-phy -- add-port br-phy eth0");
            hosts[n].run("ip link set br-phy mtu 1600 up");
            Underlay::V4.set(&hosts[n], n, "br-phy");
            near_end(&lab, &hosts[n], n, Underlay::V4, &format!("type={kind} key=5000"))
        });
        check_pods([&pods[0], &pods[1]], &format!("{kind} over br-phy"));
        hosts.iter().for_each(|host| check_drops(host, "t0"));
        assert!(hosts[0].vsctl("get interface t0 status").contains("tunnel_egress_iface=br-phy"));
        // On the underlay's own bridge its packets would come back to it.
        let remote = Underlay::V4.0[1];
        let refused = hosts[0].try_vsctl(&format!("add-port br-phy t1 type={kind} key=6000 remote_ip={remote}"));
        assert_eq!(refused.code, 65, "{refused}");
        assert!(refused.stderr.contains("leaves by br-phy, a port of the same bridge br-phy"), "{refused}");
    }
}

/// A frame for the pod in hexadecimal: IPv4 with the type of service `tos`, UDP to a port where nobody is.
fn inner_frame(pod: &Space, tos: u8) -> String {
    let mac = pod.run("cat /sys/class/net/eth0/address").trim().replace(':', "");
    let mut header = vec![0x45, tos, 0, 28, 0, 1, 0x40, 0, 64, 17, 0, 0, 192, 168, 60, 12, 192, 168, 60, 11];
    let words = header.chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let sum = words.sum::<u32>();
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header.extend([0, 7, 0, 9, 0, 8, 0, 0]);
    let hex: String = header.iter().map(|b| format!("{b:02x}")).collect();
    format!("{mac}0200000000010800{hex}")
}

#[test]
fn congestion_on_the_way_reaches_the_pod_or_is_counted() {
    for underlay in [Underlay::V4, Underlay::V6] {
        for (kind, port, header) in [("vxlan", 4789, "0800000000138800"), ("gre", 0, "2000655800001388")] {
            let Some(pair) = Pair::open(underlay, &format!("type={kind} key=5000")) else { return };
            let heard = tcpdump(&pair.lab, &pair.pods[0], "-v -i eth0 udp port 9");
            // Two ways of telling the sender, and a sender that cannot be told.
            for tos in [2, 1, 0] {
                let payload = format!("{header}{}", inner_frame(&pair.pods[0], tos));
                send_marked(&pair.hosts[1], underlay.0[0], port, 3, &payload);
            }
            let unmarked = format!("{header}{}", inner_frame(&pair.pods[0], 0xb8));
            send_marked(&pair.hosts[1], underlay.0[0], port, 0, &unmarked);
            eventually(&format!("{kind} over {underlay:?}: three frames in the pod, marked"), || {
                let text = heard.log();
                let marks = |tos: &str| text.matches(tos).count();
                if (marks("tos 0x3,CE"), marks("tos 0xb8"), marks("tos 0x")) == (2, 1, 3) { Ok(()) } else { Err(text) }
            });
            eventually("the fourth is counted", || {
                let statistics = pair.hosts[0].vsctl("get interface t0 statistics");
                if statistics.contains("drop_tunnel_ecn=1,") { Ok(()) } else { Err(statistics) }
            });
        }
    }
}
