//! VLANs seen from outside: raw frames in and out of access and trunk ports, tagged internal ports over a trunk that is a
//! tunnel, and what is said of settings that contradict each other.

use std::collections::BTreeSet;
use vswitch_tests::netns::{Lab, Running, Space};
use vswitch_tests::process::eventually;

const FRAMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/frames.py");

/// A broadcast frame of the experimental ethertype, tagged with `vlan` if there is one; `id` tells it from others.
fn frame(sender: u8, vlan: Option<u16>, id: u8) -> String {
    let tag = vlan.map(|v| format!("8100{v:04x}")).unwrap_or_default();
    format!("ffffffffffff0200000000{sender:02x}{tag}88b5{id:02x}{}", "00".repeat(59))
}

/// A pod and what it hears.
struct Station {
    number: u8,
    pod: Space,
    heard: Running,
}

impl Station {
    fn send(&self, vlan: Option<u16>, id: u8) {
        self.pod.run(&format!("python3 {FRAMES} send eth0 {}", frame(self.number, vlan, id)));
    }

    /// (VLAN, id) of the frames that arrived.
    fn heard(&self) -> BTreeSet<(Option<u16>, u8)> {
        let byte = |line: &str, at: usize| u8::from_str_radix(&line[2 * at..2 * at + 2], 16).expect("hexadecimal");
        let frames = self.heard.log();
        let frames = frames.lines().filter(|l| l.starts_with("ffff"));
        frames
            .map(|l| match &l[24..28] {
                "8100" => (Some(u16::from_be_bytes([byte(l, 14), byte(l, 15)])), byte(l, 18)),
                _ => (None, byte(l, 14)),
            })
            .collect()
    }
}

#[test]
fn access_and_trunk_ports_keep_vlans_apart() {
    let Some(lab) = Lab::open() else { return };
    let host = lab.host("host");
    host.vsctl("add-br br0");
    let stations: Vec<Station> = ["tag=10", "tag=10", "tag=20", "", "trunks=10,30"]
        .iter()
        .zip(1..)
        .map(|(vlans, number)| {
            let pod = lab.pod(&format!("pod{number}"), &host, &format!("p{number}"), &format!("10.0.0.{number}/24"));
            host.vsctl(&format!("add-port br0 p{number} {vlans}"));
            let heard = pod.spawn(&format!("python3 {FRAMES} listen eth0"), &lab.dir().join(format!("heard{number}")));
            Station { number, pod, heard }
        })
        .collect();
    for s in &stations {
        eventually("the listeners", || s.heard.log().starts_with("ready").then_some(()).ok_or_else(|| s.heard.log()));
    }

    let [access10, _, access20, trunk, some] = [0, 1, 2, 3, 4].map(|i| &stations[i]);
    access10.send(None, 1); // the same VLAN untagged, the trunks tagged
    access10.send(Some(10), 2); // nobody: an access port takes no tags
    access20.send(None, 3);
    trunk.send(Some(20), 4);
    trunk.send(Some(30), 5); // only the other trunk
    trunk.send(None, 6); // VLAN 0, which nobody else carries
    some.send(Some(20), 7); // nobody: this trunk doesn't carry 20
    some.send(Some(10), 8);
    trunk.send(Some(10), 9); // the last frames: whoever has one of them has seen all before it
    trunk.send(Some(20), 10);

    let expected: [&[(Option<u16>, u8)]; 5] = [
        &[(None, 8), (None, 9)],
        &[(None, 1), (None, 8), (None, 9)],
        &[(None, 4), (None, 10)],
        &[(Some(10), 1), (Some(20), 3), (Some(10), 8)],
        &[(Some(10), 1), (Some(30), 5), (Some(10), 9)],
    ];
    for (station, expected) in stations.iter().zip(expected) {
        let expected: BTreeSet<_> = expected.iter().copied().collect();
        eventually(&format!("frames at station {}", station.number), || {
            let heard = station.heard();
            if heard.is_superset(&expected) { Ok(()) } else { Err(format!("{heard:?}, expected {expected:?}")) }
        });
    }
    for (station, expected) in stations.iter().zip(expected) {
        assert_eq!(station.heard(), expected.iter().copied().collect(), "station {}", station.number);
    }
}

#[test]
fn tagged_internal_ports_meet_over_a_trunk_in_a_tunnel() {
    let Some(lab) = Lab::open() else { return };
    let hosts = [1, 2].map(|n| lab.host(&format!("host{n}")));
    lab.cable(&hosts[0], "eth0", &hosts[1], "eth0");
    for (host, (own, remote)) in hosts.iter().zip([(1, 2), (2, 1)]) {
        host.run(&format!("ip addr add 192.0.2.{own}/24 dev eth0"));
        host.vsctl(&format!("add-br br0 -- add-port br0 vx0 type=vxlan key=5000 remote_ip=192.0.2.{remote}"));
        for vlan in [10, 20] {
            host.vsctl(&format!("add-port br0 v{vlan} tag={vlan} type=internal"));
            host.run(&format!("ip addr add 10.0.{vlan}.{own}/24 dev v{vlan}"));
            host.run(&format!("ip link set v{vlan} up"));
        }
    }
    hosts[0].reaches("10.0.10.2");
    hosts[1].reaches("10.0.20.1");
    hosts[1].vsctl("set port v10 tag=20 -- set port v20 tag=10");
    assert!(!hosts[0].pings("10.0.10.2"), "VLANs 10 and 20 have met");
    hosts[1].vsctl("set port v10 tag=10");
    hosts[0].reaches("10.0.10.2");
}

#[test]
fn settings_that_contradict_each_other_are_told_with_a_way_out() {
    let Some(lab) = Lab::open() else { return };
    let host = lab.host("host");
    host.vsctl("add-br br0 -- add-port br0 p1 type=internal");
    for (settings, code, words) in [
        ("vlan_mode=dot1q-tunnel", 65, "vlan_mode=dot1q-tunnel with no tag"),
        ("tag=10", 0, ""),
        ("cvlans=20", 0, "'vsctl set Open_vSwitch . other_config:vlan-limit=2' lets the switch see it"),
        ("vlan_mode=access", 0, "cvlans=20 has no effect without vlan_mode=dot1q-tunnel"),
        ("other_config:priority-tags=maybe", 0, "priority-tags=maybe is neither never, if-nonzero nor always"),
    ] {
        let done = host.try_vsctl(&format!("set port p1 {settings}"));
        assert_eq!(done.code, code, "{done}");
        assert!(done.stderr.contains(words) && done.stderr.is_empty() == words.is_empty(), "{done}");
    }
    host.vsctl("clear port p1 cvlans other_config -- set Open_vSwitch . other_config:vlan-limit=2");
    let done = host.try_vsctl("set port p1 vlan_mode=dot1q-tunnel cvlans=20 protected=true");
    assert!(done.ok() && done.stderr.is_empty(), "{done}");
}
