//! One bridge on one host, in network namespaces, with a real daemon.

use std::thread;
use std::time::{Duration, Instant};
use vswitch_tests::netns::{Host, Lab, Space, is_about_packet_sockets};
use vswitch_tests::process::eventually;

/// A host with bridge br0 and two pods on it, 10.0.0.1 and 10.0.0.2, on the ports p1 and p2.
fn two_pods(lab: &Lab) -> (Host, Space, Space) {
    let host = lab.host("host");
    let one = lab.pod("one", &host, "p1", "10.0.0.1/24");
    let two = lab.pod("two", &host, "p2", "10.0.0.2/24");
    for command in ["add-br br0", "add-port br0 p1", "add-port br0 p2"] {
        host.vsctl(command);
    }
    (host, one, two)
}

#[test]
fn tcp_flows_with_default_offloads() {
    let Some(lab) = Lab::open() else { return };
    let (_host, one, two) = two_pods(&lab);
    one.reaches("10.0.0.2");
    let rate = one.tcp(&two, "10.0.0.2", 2);
    assert!(rate > 1e6, "{:.1} Mbit/s", rate / 1e6);
}

#[test]
fn a_device_that_vanishes_is_reported_and_taken_back() {
    let Some(lab) = Lab::open() else { return };
    let (host, one, _two) = two_pods(&lab);
    one.reaches("10.0.0.2");

    let start = Instant::now();
    host.run("ip link del p2");
    let error = eventually("p2's error", || {
        let error = host.vsctl("get interface p2 error");
        if error.contains("p2") { Ok(error) } else { Err(error) }
    });
    eprintln!("the error after {:?}, vsctl's runs included: {}", start.elapsed(), error.trim());

    let back = lab.pod("back", &host, "p2", "10.0.0.2/24");
    let start = Instant::now();
    eventually("p2's error is gone", || {
        let error = host.vsctl("get interface p2 error");
        if error.trim() == "[]" { Ok(()) } else { Err(error) }
    });
    eprintln!("attached again after {:?}, vsctl's runs included", start.elapsed());
    one.run("ip neigh flush dev eth0");
    one.reaches("10.0.0.2");
    back.reaches("10.0.0.1");
}

/// The address of an attached device isn't reachable any more; the warning says how to move it, and that works.
#[test]
fn an_address_on_an_attached_device_is_reported_with_what_to_do() {
    if is_about_packet_sockets("the host goes on using a device that it has addresses on") {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let host = lab.host("host");
    let pod = lab.pod("pod", &host, "p1", "10.0.0.1/24");
    host.run("ip addr add 10.0.0.254/24 dev p1");
    pod.reaches("10.0.0.254");

    host.vsctl("add-br br0");
    let told = host.try_vsctl("add-port br0 p1");
    assert!(told.ok(), "{told}");
    let warning = format!("{}{}", told.stdout, told.stderr);
    assert!(warning.contains("10.0.0.254"), "no warning about the address: {told}");
    let status = host.vsctl("get interface p1 status");
    assert!(status.contains("10.0.0.254"), "status doesn't tell of the address: {status}");
    assert!(!pod.pings("10.0.0.254"), "the host's stack still answers on an attached device");

    // The commands stand in the warning, to be copied: run exactly those.
    let commands: Vec<&str> = warning.lines().map(str::trim).filter(|l| l.starts_with("ip ")).collect();
    assert!(!commands.is_empty(), "no commands in: {warning}");
    for command in commands {
        host.run(command);
    }
    pod.reaches("10.0.0.254");
    eventually("status is quiet again", || {
        let status = host.vsctl("get interface p1 status");
        if status.contains("10.0.0.254") { Err(status) } else { Ok(()) }
    });
}

#[test]
fn killed_and_started_again_it_forwards_without_a_command() {
    let Some(lab) = Lab::open() else { return };
    let (mut host, one, _two) = two_pods(&lab);
    host.vsctl("add-port br0 inner type=internal");
    host.run("ip addr add 10.0.0.50/24 dev inner");
    host.run("ip link set inner up");
    one.reaches("10.0.0.50");
    let before = host.vsctl("show");

    host.kill();
    host.start();
    let start = Instant::now();
    one.reaches("10.0.0.2");
    one.reaches("10.0.0.50");
    eprintln!("traffic {:?} after the start", start.elapsed());
    assert_eq!(host.vsctl("show"), before);
}

#[test]
fn sigterm_ends_it_cleanly_and_gives_the_devices_back() {
    if is_about_packet_sockets("the host goes on using a device that it has addresses on") {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let (mut host, one, _two) = two_pods(&lab);
    host.run("ip addr add 10.0.0.254/24 dev p1");
    one.reaches("10.0.0.2");
    assert!(!one.pings("10.0.0.254"), "the host's stack answers on an attached device");
    assert_eq!(host.stop(), 0, "exit code");
    assert!(!host.socket().exists(), "the socket is left behind");
    one.reaches("10.0.0.254");
}

#[test]
fn an_idle_switch_uses_no_cpu() {
    let Some(lab) = Lab::open() else { return };
    let (mut host, one, two) = two_pods(&lab);
    one.reaches("10.0.0.2");
    let _ = one.tcp(&two, "10.0.0.2", 1);
    // Anything that follows traffic (a spin, a status update) may end first.
    thread::sleep(Duration::from_secs(1));
    let before = host.cpu_ticks();
    thread::sleep(Duration::from_secs(10));
    let used = host.cpu_ticks() - before;
    // 1000 ticks in 10 s: 1 % is 10.
    assert!(used < 10, "{used} ticks of 10 ms in 10 s");
}

#[test]
fn ports_come_and_go_while_traffic_flows() {
    let Some(lab) = Lab::open() else { return };
    let (host, one, _two) = two_pods(&lab);
    one.reaches("10.0.0.2");
    host.vsctl("del-port br0 p2");
    assert!(!one.pings("10.0.0.2"), "a removed port still forwards");
    host.vsctl("-- add-port br0 p2 -- set port p2 tag=7");
    assert!(!one.pings("10.0.0.2"), "another VLAN is reached");
    host.vsctl("clear port p2 tag");
    one.reaches("10.0.0.2");
    host.vsctl("del-br br0");
    assert!(!one.pings("10.0.0.2"), "a removed bridge still forwards");
    assert!(!host.try_run("ip link show br0").ok(), "a removed bridge leaves its device behind");
}

#[test]
fn what_the_switch_knows_is_in_the_interface_row() {
    let Some(lab) = Lab::open() else { return };
    let (host, one, _two) = two_pods(&lab);
    one.reaches("10.0.0.2");
    let get = |column: &str| host.vsctl(&format!("get interface p1 {column}")).trim().trim_matches('"').to_owned();
    let sys = |file: &str| host.run(&format!("cat /sys/class/net/p1/{file}")).trim().to_owned();
    assert_eq!(get("mac_in_use"), sys("address"));
    assert_eq!(get("ifindex"), sys("ifindex"));
    assert_eq!(get("mtu"), sys("mtu"));
    assert_eq!(get("admin_state"), "up");
    assert_eq!(get("link_state"), "up");
    assert_eq!(get("error"), "[]");
    assert!(get("ofport").parse::<u32>().is_ok_and(|n| n > 0), "ofport {}", get("ofport"));
    assert!(get("status").contains("io="), "status {}", get("status"));
    eventually("the counters arrive", || {
        let statistics = get("statistics");
        let seen = ["rx_packets", "rx_bytes", "tx_packets", "tx_bytes"]
            .iter()
            .all(|name| statistics.contains(&format!("{name}=")) && !statistics.contains(&format!("{name}=0")));
        if seen { Ok(()) } else { Err(statistics) }
    });
}
