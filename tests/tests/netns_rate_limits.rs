//! Rate limits, in network namespaces, with real daemons: ours on every kind of port, and those of `tc` beside us.
//!
//! How exact they are is measured by `rate-limits` in `benches`; here a flow must stay far below what it would get
//! otherwise, which no load of the machine can fake, and what is in excess must be counted.

use std::path::Path;
use std::thread;
use std::time::Duration;
use vswitch_tests::netns::{Host, Lab, Space, is_about_packet_sockets};
use vswitch_tests::process::eventually;
use vswitch_tests::two_hosts::TwoHosts;

/// What a flow through a limit of 5 Mbit/s may get at most: burst and rate of two seconds are 9 Mbit/s.
const LIMITED: f64 = 15e6;
/// What it gets at least without: a debug build on a busy machine does several times as much.
const FREE: f64 = 20e6;

const INGRESS: &str = "ingress_policing_rate=5000";
const HTB: &str = "type=linux-htb other-config:max-rate=5000000";
const POLICER: &str = "type=egress-policer other-config:cir=625000";

/// A host with bridge br0 and two pods on it, 10.0.0.1 and 10.0.0.2, on the ports p1 and p2.
fn two_pods(lab: &Lab) -> (Host, Space, Space) {
    let host = lab.host("host");
    let one = lab.pod("one", &host, "p1", "10.0.0.1/24");
    let two = lab.pod("two", &host, "p2", "10.0.0.2/24");
    for command in ["add-br br0", "add-port br0 p1", "add-port br0 p2"] {
        host.vsctl(command);
    }
    one.reaches("10.0.0.2");
    (host, one, two)
}

/// A counter of an interface, once it is above 0.
fn counted(host: &Host, interface: &str, counter: &str) -> u64 {
    eventually(&format!("{counter} of {interface}"), || {
        let done = host.try_vsctl(&format!("get interface {interface} statistics:{counter}"));
        done.stdout.trim().parse().ok().filter(|&n| n > 0).ok_or_else(|| done.to_string())
    })
}

/// Every limit of a port in turn: flows into the bridge by it and out of it get no more, and without a limit they do.
fn limits(host: &Host, port: &str, behind: (&Space, &str), beyond: (&Space, &str)) {
    let limited = |what: &str, from: &Space, (to, address): (&Space, &str)| {
        let rate = from.tcp(to, address, 2);
        assert!(rate < LIMITED, "{port}, {what}: {:.1} Mbit/s", rate / 1e6);
    };
    host.vsctl(&format!("set interface {port} {INGRESS}"));
    limited(INGRESS, behind.0, beyond);
    counted(host, port, "drop_ingress_rate");
    host.vsctl(&format!("set interface {port} ingress_policing_rate=0"));
    for qos in [HTB, POLICER] {
        host.vsctl(&format!("set port {port} qos=@q -- --id=@q create qos {qos}"));
        limited(qos, beyond.0, behind);
        counted(host, port, "drop_egress_rate");
        host.vsctl(&format!("clear port {port} qos -- --all destroy qos"));
    }
    for (from, to) in [(behind.0, beyond), (beyond.0, behind)] {
        let rate = from.tcp(to.0, to.1, 1);
        assert!(rate > FREE, "{port} without limits: {:.1} Mbit/s", rate / 1e6);
    }
}

#[test]
fn a_veth_port_is_limited_in_both_directions() {
    let Some(lab) = Lab::open() else { return };
    let (host, one, two) = two_pods(&lab);
    limits(&host, "p1", (&one, "10.0.0.1"), (&two, "10.0.0.2"));
}

#[test]
fn an_internal_port_is_limited_in_both_directions() {
    let Some(lab) = Lab::open() else { return };
    let (host, one, _two) = two_pods(&lab);
    host.vsctl("add-port br0 in0 type=internal");
    host.run("ip addr add 10.0.0.3/24 dev in0");
    host.run("ip link set in0 up");
    one.reaches("10.0.0.3");
    limits(&host, "in0", (&host, "10.0.0.3"), (&one, "10.0.0.1"));
}

#[test]
fn a_tunnel_is_limited_in_both_directions() {
    let Some(lab) = TwoHosts::open() else { return };
    lab.configure();
    lab.check_tenants();
    limits(&lab.hosts[0], "vxlanA", (&lab.a[1], "192.168.60.12"), (&lab.a[0], "192.168.60.11"));
}

/// A limit takes hold of a flow that runs, and lets go of it.
#[test]
fn set_and_clear_apply_to_running_flows() {
    let Some(lab) = Lab::open() else { return };
    let (host, one, two) = two_pods(&lab);
    host.vsctl("set Open_vSwitch . other_config:stats-update-interval=100");
    let _sink = two.iperf3_server();
    let _flow = one.spawn("iperf3 --client 10.0.0.2 --time 40", Path::new("/dev/null"));
    let bytes = || counted(&host, "p1", "rx_bytes");
    eventually("the flow runs", || if bytes() > 20_000_000 { Ok(()) } else { Err(format!("{} bytes", bytes())) });
    host.vsctl(&format!("set interface p1 {INGRESS}"));
    counted(&host, "p1", "drop_ingress_rate");
    // What had come in by then is out of the counters.
    thread::sleep(Duration::from_millis(500));
    let before = host.run("cat /sys/class/net/p2/statistics/tx_bytes").trim().parse::<f64>().expect("a number");
    thread::sleep(Duration::from_secs(1));
    let after = host.run("cat /sys/class/net/p2/statistics/tx_bytes").trim().parse::<f64>().expect("a number");
    let mbit = (after - before) * 8.0 / 1e6;
    assert!(mbit < 100.0, "{mbit:.1} Mbit in the second after the limit was set");
    let limited = bytes();
    host.vsctl("set interface p1 ingress_policing_rate=0");
    eventually("the flow runs again", || {
        let now = bytes();
        if now > limited + 50_000_000 { Ok(()) } else { Err(format!("{} bytes more", now - limited)) }
    });
}

/// The worker sleeps between two releases: a slow flow costs next to nothing, a queue that waits is no busy loop.
#[test]
fn a_shaped_flow_keeps_no_core_busy() {
    let Some(lab) = Lab::open() else { return };
    let (mut host, one, two) = two_pods(&lab);
    host.vsctl("set port p2 qos=@q -- --id=@q create qos type=linux-htb other-config:max-rate=2000000");
    let before = host.cpu_ticks();
    let rate = one.tcp(&two, "10.0.0.2", 5);
    let used = host.cpu_ticks() - before;
    eprintln!("{:.2} Mbit/s, {used} ticks of 10 ms in 5 s", rate / 1e6);
    assert!(rate < 4e6, "{:.2} Mbit/s", rate / 1e6);
    assert!(used < 50, "{used} ticks of 10 ms in 5 s");
}

/// A token bucket filter that somebody puts on an attached device goes on working, whether super-frames fit its burst
/// or have to be cut by it.
#[test]
fn a_tbf_on_an_attached_device_goes_on_working() {
    if is_about_packet_sockets("frames pass by the device's queueing discipline") {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let (host, one, two) = two_pods(&lab);
    for (tbf, at_most) in [
        // As it is typed most often: the first 12.5 MB pass at once.
        ("rate 100mbit burst 100mbit limit 100mbit", 250e6),
        ("rate 5mbit burst 10kb latency 50ms", LIMITED),
    ] {
        host.run(&format!("tc qdisc add dev p1 root tbf {tbf}"));
        let rate = two.tcp(&one, "10.0.0.1", 2);
        assert!(rate < at_most, "{tbf}: {:.1} Mbit/s", rate / 1e6);
        assert!(rate > 1e6, "{tbf}: {:.1} Mbit/s", rate / 1e6);
        let other_way = one.tcp(&two, "10.0.0.2", 1);
        assert!(other_way > FREE, "{tbf}, the other way: {:.1} Mbit/s", other_way / 1e6);
        host.run("tc qdisc del dev p1 root");
        let rate = two.tcp(&one, "10.0.0.1", 1);
        assert!(rate > FREE, "after {tbf}: {:.1} Mbit/s", rate / 1e6);
    }
}
