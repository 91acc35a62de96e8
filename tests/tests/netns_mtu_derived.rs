//! MTUs on real interfaces: what is asked for is set, what follows from tunnels and ports follows them, and what does not
//! fit is told with commands that mend it.

use vswitch_tests::netns::{Host, Lab, Space};
use vswitch_tests::process::eventually;

fn mtu(space: &Space, device: &str) -> String {
    space.run(&format!("cat /sys/class/net/{device}/mtu")).trim().to_owned()
}

fn get(host: &Host, interface: &str, column: &str) -> String {
    host.vsctl(&format!("--if-exists get interface {interface} {column}")).trim().trim_matches('"').to_owned()
}

/// Waits until a column has a value that `is` what is wanted.
fn becomes(host: &Host, interface: &str, column: &str, is: impl Fn(&str) -> bool) -> String {
    eventually(&format!("{column} of {interface}"), || {
        let value = get(host, interface, column);
        if is(&value) { Ok(value) } else { Err(value) }
    })
}

/// A host with an underlay, and br0 with its pod on p1.
fn host_with_pod(lab: &Lab) -> (Host, Space) {
    let host = lab.host("host");
    let world = lab.space("world");
    lab.cable(&host, "eth0", &world, "eth0");
    host.run("ip addr add 192.0.2.1/24 dev eth0");
    let pod = lab.pod("pod", &host, "p1", "10.0.0.1/24");
    host.vsctl("set open_vswitch . other_config:stats-update-interval=100");
    host.vsctl("add-br br0 -- add-port br0 p1");
    (host, pod)
}

/// The lines of a warning that are commands.
fn commands(warning: &str) -> Vec<String> {
    warning.split("\\n").skip(1).map(str::to_owned).collect()
}

const ADD_VX0: &str = "add-port br0 vx0 type=vxlan key=5000 remote_ip=192.0.2.2";

#[test]
fn what_is_asked_for_is_set_before_the_command_returns_and_refusals_are_told() {
    let Some(lab) = Lab::open() else { return };
    let (host, _pod) = host_with_pod(&lab);
    host.vsctl("add-port br0 in0 type=internal");
    for (port, asked) in [("p1", "1400"), ("in0", "1300"), ("br0", "1200")] {
        host.vsctl(&format!("set interface {port} mtu_request={asked}"));
        assert_eq!((mtu(&host, port).as_str(), get(&host, port, "mtu").as_str()), (asked, asked), "{port}");
        assert_eq!(get(&host, port, "status:mtu_reason"), "mtu_request");
    }
    // As in Open vSwitch, who asked for it has it.
    host.run("ip link set p1 mtu 1450");
    eventually("the MTU is set back", || if mtu(&host, "p1") == "1400" { Ok(()) } else { Err(mtu(&host, "p1")) });
    // One that nobody asked for is as it is.
    host.vsctl("clear interface p1 mtu_request");
    assert_eq!(mtu(&host, "p1"), "1400");
    assert!(get(&host, "p1", "status:mtu_reason").starts_with("a former mtu_request"));
    host.run("ip link set p1 mtu 1450");
    becomes(&host, "p1", "mtu", |mtu| mtu == "1450");
    host.vsctl("clear interface in0 mtu_request -- clear interface br0 mtu_request");
    assert_eq!([mtu(&host, "in0"), mtu(&host, "br0")], ["1450", "1450"]);

    // More than a TAP takes.
    let told = host.try_vsctl("set interface in0 mtu_request=65535");
    assert!(told.stderr.contains("the kernel refuses MTU 65535 (mtu_request) for in0, which keeps 1450"), "{told}");
    let error = get(&host, "in0", "error");
    assert!(error.contains("(os error 22)") && error.contains("minmtu"), "{error}");
    host.vsctl("set interface in0 mtu_request=1500");
    assert_eq!((mtu(&host, "in0").as_str(), get(&host, "in0", "error").as_str()), ("1500", "[]"));

    let told = host.try_vsctl(&format!("{ADD_VX0} mtu_request=1400"));
    assert!(told.ok() && told.stderr.contains("mtu_request=1400 has no effect: a tunnel's MTU is"), "{told}");
}

#[test]
fn internal_ports_follow_tunnels_routes_links_and_membership_up_and_down() {
    let Some(lab) = Lab::open() else { return };
    let (host, _pod) = host_with_pod(&lab);
    host.vsctl("add-port br0 in0 type=internal -- add-port br0 in5 tag=5 type=internal");
    let have = |what: &str, expected: [&str; 3]| {
        eventually(what, || {
            let have = ["br0", "in0", "in5"].map(|port| mtu(&host, port));
            if have == expected { Ok(()) } else { Err(format!("{have:?}")) }
        });
    };
    have("at first", ["1500"; 3]);
    host.vsctl(ADD_VX0);
    assert_eq!(get(&host, "vx0", "status:mtu_reason"), "1500 (eth0, way to 192.0.2.2) less 50 for VXLAN over IPv4");
    // In the tunnel, which is a trunk, the frames of VLAN 5 carry its tag.
    have("a tunnel comes", ["1450", "1450", "1446"]);
    assert_eq!(get(&host, "in0", "status:mtu_reason"), "min of the bridge's ports: vx0");
    host.run("ip link set eth0 mtu 1400");
    have("the underlay's link gets smaller", ["1350", "1350", "1346"]);
    host.run("ip route add 192.0.2.2/32 dev eth0 mtu 1300");
    have("the route gets an MTU", ["1250", "1250", "1246"]);
    host.vsctl("set interface vx0 type=gre");
    have("another encapsulation", ["1258", "1258", "1254"]);
    host.run("ip route del 192.0.2.2/32");
    host.run("ip link set eth0 mtu 1500");
    have("and back", ["1458", "1458", "1454"]);
    host.vsctl("set port vx0 tag=5");
    have("an access port, which takes the tag off", ["1458"; 3]);
    host.vsctl("del-port vx0");
    have("it goes", ["1500"; 3]);
    host.run("ip link set p1 mtu 1400");
    have("a port's device gets smaller", ["1400"; 3]);
    host.vsctl("del-port p1");
    have("no other ports", ["1500"; 3]);

    let log = host.log();
    let changes = log.lines().filter(|line| line.contains("port in0: MTU ")).count();
    assert_eq!(changes, 9, "each change once: {log}");
    assert!(log.contains("port in0: MTU 1500 → 1450: min of the bridge's ports: vx0"), "{log}");
}

#[test]
fn a_warning_names_both_ends_and_its_commands_mend_it() {
    let Some(lab) = Lab::open() else { return };
    let (host, pod) = host_with_pod(&lab);
    host.vsctl(ADD_VX0);
    let warning = get(&host, "p1", "status:mtu_warning");
    assert!(warning.starts_with("MTU 1500 is more than vx0 carries (1450): "), "{warning}");
    let mend = commands(&warning);
    assert_eq!(
        mend,
        [
            "vsctl set interface p1 mtu_request=1450".to_owned(),
            format!("ip netns exec {} ip link set dev eth0 mtu 1450", pod.name)
        ]
    );
    host.vsctl(mend[0].trim_start_matches("vsctl "));
    let warning = get(&host, "p1", "status:mtu_warning");
    assert!(warning.starts_with("the ends of the veth differ, 1450 here and 1500 at eth0 in "), "{warning}");
    assert_eq!(commands(&warning), mend[1..]);
    host.run(&mend[1]);
    becomes(&host, "p1", "status", |status| !status.contains("mtu_warning"));
    pod.run("ip link set eth0 mtu 1400");
    becomes(&host, "p1", "status", |status| status.contains("1450 here and 1400 at eth0"));
}

/// Pods keep the MTU that they got for a tunnel when their bridge has none any more: nothing that the switch set does.
#[test]
fn a_bridge_without_its_tunnel_keeps_nothing_that_we_set_and_warns_of_what_others_set() {
    let Some(lab) = Lab::open() else { return };
    let (host, pod) = host_with_pod(&lab);
    host.vsctl("add-port br0 in0 type=internal");
    // The pod first: the kernel tells of our end only, which has the switch look at the other.
    pod.run("ip link set eth0 mtu 1450");
    host.run("ip link set p1 mtu 1450");
    host.vsctl(ADD_VX0);
    assert_eq!([mtu(&host, "br0"), mtu(&host, "in0")], ["1450", "1450"]);
    // Plain: the uplink itself is the bridge's port.
    host.vsctl("del-port vx0 -- add-port br0 eth0");
    becomes(&host, "p1", "status", |status| status.contains("MTU 1450 fitted vx0, which bounds the bridge no longer"));
    let warning = get(&host, "p1", "status:mtu_warning");
    assert_eq!(get(&host, "in0", "status:mtu_reason"), "min of the bridge's ports: p1");
    let mend = commands(&warning);
    assert_eq!(mend.len(), 2, "{warning}");
    host.vsctl(mend[0].trim_start_matches("vsctl "));
    host.run(&mend[1]);
    becomes(&host, "p1", "status", |status| !status.contains("mtu_warning"));
    assert_eq!(["p1", "br0", "in0", "eth0"].map(|port| mtu(&host, port)), ["1500"; 4]);
}

#[test]
fn a_strict_bridge_refuses_whichever_comes_last() {
    let Some(lab) = Lab::open() else { return };
    let (host, pod) = host_with_pod(&lab);
    host.vsctl("set bridge br0 other_config:mtu-policy=strict");
    let add_vx0 = || host.try_vsctl(ADD_VX0);
    let refused = add_vx0();
    assert_eq!(refused.code, 65, "{refused}");
    assert!(refused.stderr.contains("vx0: MTU 1500 of p1 cannot cross it (limit 1450)"), "{refused}");
    assert_eq!(get(&host, "p1", "error"), "[]", "who is there is left in peace");
    host.vsctl("set interface p1 mtu_request=1450");
    becomes(&host, "vx0", "error", |error| error == "[]");
    pod.run("ip link set eth0 mtu 1450");

    let raised = host.try_vsctl("set interface p1 mtu_request=1500");
    assert_eq!(raised.code, 65, "{raised}");
    assert!(raised.stderr.contains("p1: MTU 1500 cannot cross vx0 (limit 1450)"), "{raised}");
    assert_eq!((mtu(&host, "p1").as_str(), get(&host, "vx0", "error").as_str()), ("1450", "[]"));
    host.vsctl("set interface p1 mtu_request=1400");
    assert_eq!((mtu(&host, "p1").as_str(), get(&host, "p1", "error").as_str()), ("1400", "[]"));
    host.vsctl("clear bridge br0 other_config -- set interface p1 mtu_request=1500");
    assert!(get(&host, "p1", "status:mtu_warning").starts_with("MTU 1500 is more than vx0 carries"));
}
