//! Several workers, in network namespaces, with the real daemon: pinned where they were asked for, traffic in both
//! directions among ports of all of them, in order, with exact counters, also while workers come and go.
//!
//! Where this machine has one CPU only, two workers cannot be pinned to two; then the test is skipped by name.

use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;
use vswitch_tests::accounts::{check_accounts, check_drops_are, counters};
use vswitch_tests::netns::{Host, Lab, Space};
use vswitch_tests::process::{eventually, two_cpus};
use vswitch_tests::rpc::Rpc;
use vswitch_tests::two_hosts::TwoHosts;

const MASK: &str = "set Open_vSwitch . other_config:pmd-cpu-mask=";

/// Four pods on bridge br0, 10.0.0.1 to 10.0.0.4 on p1 to p4.
fn four_pods(lab: &Lab) -> (Host, Vec<Space>) {
    let host = lab.host("host");
    host.vsctl("add-br br0");
    let pods = (1..=4).map(|n| {
        let pod = lab.pod(&format!("pod{n}"), &host, &format!("p{n}"), &format!("10.0.0.{n}/24"));
        host.vsctl(&format!("add-port br0 p{n}"));
        pod
    });
    let pods = pods.collect();
    (host, pods)
}

/// The CPUs that each worker thread of the daemon may run on, by the thread's name.
fn places(host: &mut Host) -> BTreeMap<String, String> {
    let tasks = format!("/proc/{}/task", host.daemon().pid());
    // The daemon is the child of `ip netns exec`, which has become it.
    let read = |entry: fs::DirEntry| {
        let name = fs::read_to_string(entry.path().join("comm")).ok()?.trim().to_owned();
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let cpus = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"))?.trim().to_owned();
        name.starts_with("worker-").then_some((name, cpus))
    };
    fs::read_dir(tasks).expect("threads").filter_map(|entry| read(entry.ok()?)).collect()
}

fn pinned(cpus: &[&str]) -> BTreeMap<String, String> {
    cpus.iter().enumerate().map(|(n, cpu)| (format!("worker-{n}"), (*cpu).to_owned())).collect()
}

fn worker_of(host: &Host, port: &str) -> String {
    host.vsctl(&format!("get interface {port} status:worker")).trim().trim_matches('"').to_owned()
}

/// All pods ping each other at the same time, each ping in order and none lost.
fn all_ping_each_other(lab: &Lab, pods: &[Space], count: u32) {
    let mut pings = Vec::new();
    for (from, pod) in pods.iter().enumerate() {
        for to in (0..pods.len()).filter(|&to| to != from) {
            let log = lab.dir().join(format!("ping-{from}-{to}"));
            let line = format!("ping -n -i 0.01 -c {count} -W 5 10.0.0.{}", to + 1);
            pings.push((pod.spawn(&line, &log), format!("from {from} to {to}")));
        }
    }
    for (mut ping, what) in pings {
        eventually(&format!("the ping {what} ends"), || if ping.alive() { Err(ping.log()) } else { Ok(()) });
        let log = ping.log();
        let numbers = log.lines().filter_map(|l| l.split("icmp_seq=").nth(1)?.split(' ').next()?.parse::<u32>().ok());
        assert_eq!(numbers.collect::<Vec<_>>(), (1..=count).collect::<Vec<_>>(), "{what}: {log}");
    }
}

#[test]
fn two_workers_share_the_ports_and_forward_in_order() {
    if !two_cpus("two_workers_share_the_ports_and_forward_in_order") {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let (mut host, pods) = four_pods(&lab);
    assert_eq!(places(&mut host).len(), 1, "one worker at first");
    host.vsctl(&format!("{MASK}0x3"));
    assert_eq!(places(&mut host), pinned(&["0", "1"]));
    let ports = ["br0", "p1", "p2", "p3", "p4"];
    let served = |by: &str| ports.iter().filter(|port| worker_of(&host, port) == by).count();
    assert_eq!((served("0"), served("1")), (3, 2), "shared out among the new");
    for (n, pod) in pods.iter().enumerate() {
        pod.reaches(&format!("10.0.0.{}", (n + 1) % 4 + 1));
    }
    all_ping_each_other(&lab, &pods, 100);
    check_drops_are(&host, &[]);
    // Streams in both directions at once, between ports of the same worker and of different ones.
    let rate = pods[0].try_tcp(&pods[1], "10.0.0.2", "--bidir --time 2").expect("a transfer");
    assert!(rate > 0.0);
    check_accounts(&host);
    // Every frame that a worker has received is a frame that a port has received.
    let mut control = Rpc::connect(&host.socket().with_file_name("db.ctl"));
    let listed = control.call("workers/list", &json!([]))["result"].as_str().expect("text").to_owned();
    let queues: Vec<serde_json::Value> = serde_json::from_str(&listed).expect("JSON");
    let by_queue: u64 = queues.iter().map(|queue| queue["packets"].as_u64().expect("a number")).sum();
    assert!(by_queue > 1000 && queues.iter().all(|queue| queue["cpu"].is_u64()), "{listed}");
    let shown = control.call("dpif-netdev/pmd-rxq-show", &json!([]))["result"].as_str().expect("text").to_owned();
    assert!(shown.contains("worker 0 core_id 0:\n") && shown.contains("worker 1 core_id 1:\n"), "{shown}");
    assert!(host.vsctl("workers").contains("p4"));
}

#[test]
fn workers_come_and_go_under_traffic_and_nothing_is_lost() {
    if !two_cpus("workers_come_and_go_under_traffic_and_nothing_is_lost") {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let (mut host, pods) = four_pods(&lab);
    for (n, pod) in pods.iter().enumerate() {
        pod.reaches(&format!("10.0.0.{}", (n + 1) % 4 + 1));
    }
    let before = host.vsctl("fdb show br0");
    let log = lab.dir().join("stream");
    let _sink = pods[1].iperf3_server();
    // As fast as it can it would overrun the queues of a switch that has no CPU for a while, as any would be.
    let mut stream = pods[0].spawn("iperf3 --client 10.0.0.2 --time 4 --bitrate 300M", &log);
    let ping = pods[2].spawn("ping -n -i 0.01 -c 300 -W 5 10.0.0.4", &lab.dir().join("ping"));
    for (mask, cpus) in [("0x3", &["0", "1"][..]), ("0x2", &["1"]), ("0x3", &["0", "1"]), ("0x1", &["0"])] {
        host.vsctl(&format!("{MASK}{mask}"));
        assert_eq!(places(&mut host), pinned(cpus), "{mask}");
        // Ports that come while there are two, some of which the second has when it goes.
        for port in ["x1", "x2"] {
            host.vsctl(&format!("--if-exists del-port {port} -- add-port br0 {port} type=internal"));
        }
        std::thread::sleep(Duration::from_millis(300));
    }
    host.vsctl("remove Open_vSwitch . other_config pmd-cpu-mask");
    assert_eq!(places(&mut host).len(), 1);
    let mut ping = ping;
    eventually("the ping ends", || if ping.alive() { Err(ping.log()) } else { Ok(()) });
    assert!(ping.log().contains(" 0% packet loss"), "{}", ping.log());
    eventually("the stream ends", || if stream.alive() { Err(stream.log()) } else { Ok(()) });
    assert!(stream.log().contains("receiver"), "{}", stream.log());
    let after = host.vsctl("fdb show br0");
    let addresses = |shown: &str| {
        let mac = |line: &str| line.split_whitespace().find(|word| word.matches(':').count() == 5).map(str::to_owned);
        shown.lines().filter_map(mac).collect::<Vec<_>>()
    };
    let missing: Vec<_> = addresses(&before).into_iter().filter(|mac| !addresses(&after).contains(mac)).collect();
    assert!(missing.is_empty(), "{missing:?}: {after}");
    check_drops_are(&host, &[]);
}

#[test]
fn a_mask_that_cannot_be_leaves_the_workers_and_says_so() {
    let Some(lab) = Lab::open() else { return };
    let mut host = lab.host("host");
    host.vsctl("add-br br0");
    let before = places(&mut host);
    let missing = format!("0x1{}", "0".repeat(200));
    for (mask, why) in [("0x0", "names no CPU"), ("many", "is no hexadecimal number"), (missing.as_str(), "CPU 800")] {
        host.vsctl(&format!("{MASK}{mask}"));
        assert_eq!(places(&mut host), before, "{mask}");
        let told = host.vsctl("get bridge br0 status:pmd-cpu-mask_error");
        assert!(told.contains(why), "{mask}: {told}");
        assert!(host.log().contains(why), "{}", host.log());
    }
    host.vsctl("remove Open_vSwitch . other_config pmd-cpu-mask");
    let status = host.vsctl("get bridge br0 status");
    assert!(!status.contains("pmd-cpu-mask"), "{status}");
}

#[test]
fn an_internal_port_has_a_queue_for_each_worker() {
    if !two_cpus("an_internal_port_has_a_queue_for_each_worker") {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let (mut host, pods) = four_pods(&lab);
    assert_eq!(worker_of(&host, "br0"), "0");
    host.vsctl(&format!("{MASK}3 -- add-port br0 in0 type=internal"));
    assert_eq!(worker_of(&host, "in0"), "0,1");
    assert!(!worker_of(&host, "br0").contains(','), "it was made for one worker");
    host.run("ip addr add 10.0.0.9/24 dev in0");
    host.run("ip link set in0 up");
    pods[0].reaches("10.0.0.9");
    for options in ["-P 8 --time 2", "-P 8 --time 2 --reverse"] {
        let rate = pods[0].try_tcp(&host, "10.0.0.9", options).expect("a transfer");
        assert!(rate > 0.0);
    }
    check_accounts(&host);
    // Back to one worker, which reads both queues; and the interface is taken up again by the next daemon.
    host.vsctl(&format!("{MASK}1"));
    assert_eq!(worker_of(&host, "in0"), "0");
    let rate = pods[1].try_tcp(&host, "10.0.0.9", "-P 8 --time 1 --reverse").expect("a transfer");
    assert!(rate > 0.0);
    check_accounts(&host);
    assert_eq!(host.stop(), 0);
    host.start();
    // An answer means that the ports are attached: until then the host itself may answer to ARP by them.
    assert_eq!(worker_of(&host, "in0"), "0");
    pods[2].reaches("10.0.0.9");
    host.vsctl(&format!("{MASK}3"));
    assert_eq!(worker_of(&host, "in0"), "0,1");
    pods[2].reaches("10.0.0.9");
}

#[test]
fn tunnels_are_received_by_all_workers() {
    if !two_cpus("tunnels_are_received_by_all_workers") {
        return;
    }
    let Some(lab) = TwoHosts::open() else { return };
    // One is configured before there are two workers, the other after.
    lab.hosts[0].vsctl(&format!("{MASK}3"));
    lab.configure();
    lab.hosts[1].vsctl(&format!("{MASK}3"));
    lab.check_tenants();
    for host in &lab.hosts {
        assert_eq!(worker_of(host, "vxlanA"), "0,1");
    }
    for options in ["-P 8 --time 2", "-P 8 --time 2 --reverse"] {
        let rate = lab.a[0].try_tcp(&lab.a[1], "192.168.60.12", options).expect("a transfer");
        assert!(rate > 0.0);
    }
    for host in &lab.hosts {
        let packets = counters(host).into_iter().find(|(name, _)| name == "rx_packets").expect("a counter").1;
        assert!(packets > 100);
        let listed = host.vsctl("workers");
        assert_eq!(listed.lines().filter(|line| line.contains("vxlanA,vxlanB")).count(), 2, "{listed}");
        host.vsctl(&format!("{MASK}2"));
    }
    lab.check_tenants();
    // A port that another daemon has is refused as before, though we share it among ourselves.
    let refused = lab.hosts[0].try_vsctl("doctor tenantA");
    assert!(!refused.stdout.contains("port 4789"), "{refused}");
}
