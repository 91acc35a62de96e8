//! Every command of the recording of Open vSwitch 3.1, run in its order on a daemon with real devices, by the real
//! `ovs-vsctl` and again by `vsctl`: exit code and output as recorded, but for what is listed here with its reason.
//!
//! Whoever makes one of the reasons go away (bonds) must take it from the list: what is listed and does not differ fails
//! as well.

use std::collections::BTreeSet;
use vswitch_tests::capture::{Recorded, comparable, recorded};
use vswitch_tests::netns::{Host, Lab};
use vswitch_tests::ovs::Ovs;
use vswitch_tests::process::Done;

/// Text of a recorded output that is other text here.
struct Output {
    lines: &'static [&'static str],
    recorded: &'static str,
    here: &'static str,
    why: &'static str,
}

const VXLAN: &[&str] = &["list interface vx0", "find interface type=vxlan"];

const OUTPUTS: [Output; 5] = [
    Output {
        lines: &["show"],
        recorded: "            Interface p1\n",
        here: "            Interface p1\n    ovs_version: \"vswitch 0.1.0\"\n",
        why: "the switch that was recorded had no version",
    },
    Output {
        lines: &["show"],
        recorded: "\"No usable peer 'pb' exists in 'system' datapath.\"",
        here: "\"No usable peer 'pb' exists in 'netdev' datapath. There is no interface pb; \
            'vsctl add-port BRIDGE pb type=patch peer=pa' adds it to a bridge\"",
        why: "our datapath has another name, and our errors name a way out",
    },
    Output {
        lines: VXLAN,
        recorded: "\"aa:55:aa:55:00:12\"",
        here: "[]",
        why: "a dummy device was recorded; a tunnel in user space has no address",
    },
    Output {
        lines: VXLAN,
        recorded: "mtu                 : 1500\n",
        here: "mtu                 : 1450\n",
        why: "a tunnel's MTU is what fits through it",
    },
    Output {
        lines: VXLAN,
        recorded: "status              : {}\n",
        here: "status              : {io=udp, mtu_reason=\"1500 (under, way to 10.0.0.2) less 50 for VXLAN over IPv4\", \
               tunnel_egress_iface=under, tunnel_egress_iface_carrier=up, tunnel_egress_iface_mtu=\"1500\", \
               worker=\"0\"}\n",
        why: "a dummy device was recorded",
    },
];

/// Columns whose values are not compared: counters, of which the recorded device had others.
const COUNTERS: &str = "statistics          : ";

/// Lines with which vsctl ends otherwise than recorded, and what to run instead for those that follow.
const VSCTL_ENDS: [(&str, i32, &str, &str); 3] = [
    (
        "add-port br0 doesnotexist0 -- set interface doesnotexist0 type=bogus",
        65,
        "",
        "a port that could not be set up is no success; ovs-vsctl says so only from 3.6 on, with this code",
    ),
    ("add-bond br0 bond0 e1 e2", 65, "", "bonds come with a later version"),
    (
        "add-br br0.10 br0 10",
        1,
        "add-port br0 br0.10 tag=10 -- set port br0.10 fake_bridge=true -- set interface br0.10 type=internal",
        "VLAN bridges are not made, since a port with a tag does what they are for; those that are stored are read",
    ),
];

/// The recorded output as it is to be here.
fn expected(line: &str, recorded: &str) -> String {
    let mut out = recorded.to_owned();
    for output in OUTPUTS.iter().filter(|output| output.lines.contains(&line)) {
        assert!(out.contains(output.recorded), "{line}: {:?} was not recorded ({})", output.recorded, output.why);
        out = out.replace(output.recorded, output.here);
    }
    out
}

fn without_counters(line: &str, out: &str) -> Vec<String> {
    let kept: Vec<&str> = out.lines().filter(|text| !text.starts_with(COUNTERS)).collect();
    comparable(line, &kept.join("\n"))
}

/// Runs all lines; `ends` are those that may end otherwise. Returns what is neither as recorded nor as listed.
fn differences(ends: &[(&str, i32, &str, &str)], run: impl Fn(&str) -> Done) -> Vec<String> {
    let mut differences = Vec::new();
    for Recorded { line, code, out } in recorded() {
        let done = run(line);
        // A program that SIGALRM ended has no exit code; a shell says 142.
        let ended = if done.code == -1 { 142 } else { done.code };
        let end = ends.iter().find(|end| end.0 == line);
        let (code, out) = end.map_or((code, expected(line, &out)), |end| (end.1, String::new()));
        if ended != code || without_counters(line, &done.stdout) != without_counters(line, &out) {
            differences.push(format!("{line}\n  expected: {code}\n{out}\n  ran: {done}"));
        }
        if let Some((_, _, instead, _)) = end.filter(|end| !end.2.is_empty()) {
            let _ = run(instead).output();
        }
    }
    differences
}

/// A daemon with the devices of the recording, and a way to the tunnel's far end.
fn host(lab: &Lab) -> Host {
    let host = lab.host("host");
    for device in ["p1", "p2", "p3", "e1", "e2", "under"] {
        host.run(&format!("ip link add {device} type veth peer name x{device}"));
        host.run(&format!("ip link set {device} up"));
        host.run(&format!("ip link set x{device} up"));
    }
    host.run("ip addr add 10.0.0.1/24 dev under");
    host
}

#[test]
fn ovs_vsctl_does_as_recorded() {
    let (Some(ovs), Some(lab)) = (Ovs::find(), Lab::open()) else { return };
    let host = host(&lab);
    let differences = differences(&[], |line| ovs.vsctl(&host.socket(), line));
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn vsctl_does_as_recorded() {
    let Some(lab) = Lab::open() else { return };
    let host = host(&lab);
    let differences = differences(&VSCTL_ENDS, |line| host.try_vsctl(line));
    assert!(differences.is_empty(), "{} differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn all_that_is_listed_was_recorded() {
    let recorded = recorded();
    assert_eq!(recorded.len(), 64);
    let lines: BTreeSet<&str> = recorded.iter().map(|run| run.line).collect();
    let listed = OUTPUTS.iter().flat_map(|output| output.lines).chain(VSCTL_ENDS.iter().map(|end| &end.0));
    for line in listed {
        assert!(lines.contains(line), "{line}");
    }
}
