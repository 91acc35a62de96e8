//! Ports by AF_XDP with several queues and several workers, with a real daemon: each worker receives and sends by a queue of
//! its own, flows keep their order, and workers come and go under traffic with nothing lost.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use vswitch_tests::accounts::{check_accounts, check_drops_are, umem};
use vswitch_tests::netns::{Host, Lab, Space};
use vswitch_tests::process::{eventually, two_cpus};
use vswitch_tests::rpc::Rpc;

const MASK: &str = "set Open_vSwitch . other_config:pmd-cpu-mask=";
/// Chunks that a queue lends to the kernel to receive into, and those of a region.
const RING: u64 = 2048;
const REGION: u64 = 16 * 1024;

/// A pod at the device `port` of the host, by a cable with so many queues each way.
fn pod(lab: &Lab, host: &Host, n: usize, queues: usize) -> Space {
    let (pod, port) = (lab.space(&format!("pod{n}")), format!("p{n}"));
    let end = |name: &str| format!("{name} numrxqueues {queues} numtxqueues {queues}");
    host.run(&format!("ip link add {} type veth peer name {} netns {}", end(&port), end("eth0"), pod.name));
    host.run(&format!("ip link set {port} up"));
    pod.run("ip link set eth0 up");
    pod.run(&format!("ip addr add 10.0.0.{n}/24 dev eth0"));
    pod
}

/// A host with bridge br0 and two pods, 10.0.0.1 and 10.0.0.2, on the ports p1 and p2, both by AF_XDP with two queues.
fn two_pods(lab: &Lab) -> (Host, Space, Space) {
    let host = lab.host("host");
    let (one, two) = (pod(lab, &host, 1, 2), pod(lab, &host, 2, 2));
    host.vsctl("add-br br0");
    host.vsctl("add-port br0 p1 type=afxdp n_rxq=2 -- add-port br0 p2 type=afxdp");
    (host, one, two)
}

fn status(host: &Host, port: &str, key: &str) -> String {
    host.vsctl(&format!("--if-exists get interface {port} status:{key}")).trim().trim_matches('"').to_owned()
}

/// The receive queues of a port, each with its worker and how many frames have come by it, by their numbers.
fn queues(host: &Host, port: &str) -> Vec<(u64, u64)> {
    let shown = Rpc::connect(&host.socket().with_file_name("db.ctl")).call("workers/list", &json!([]));
    let rows: Vec<Value> = serde_json::from_str(shown["result"].as_str().expect("text")).expect("JSON");
    let mut queues: Vec<_> = rows.iter().filter(|row| row["port"] == port).collect();
    queues.sort_by_key(|row| row["queue"].as_u64());
    queues.iter().map(|row| (row["worker"].as_u64().expect("one"), row["packets"].as_u64().expect("some"))).collect()
}

/// An iperf3 client's report, of a server that ends with it.
fn iperf(from: &Space, server: &Space, address: &str, options: &str) -> Value {
    let _server = server.iperf3_server();
    let report = from.run(&format!("iperf3 --json --client {address} --connect-timeout 5000 {options}"));
    serde_json::from_str(&report).expect("JSON")
}

/// When all is quiet, so many queues have their rings full, and every other chunk is free.
fn check_umem(host: &Host, queues: u64) {
    eventually("every chunk is free or lent for receiving", || {
        // A change has workers give their spare ones back.
        host.vsctl("set port p2 trunks=0,1");
        host.vsctl("clear port p2 trunks");
        let [free, kernel, workers] = umem(host);
        let all = (kernel, workers, free + kernel) == (queues * RING, 0, REGION);
        if all { Ok(()) } else { Err(format!("free {free}, kernel {kernel}, workers {workers}")) }
    });
}

#[test]
fn each_worker_has_a_queue_and_flows_keep_their_order() {
    if !two_cpus("each_worker_has_a_queue_and_flows_keep_their_order") {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let (host, one, two) = two_pods(&lab);
    assert_eq!(status(&host, "p1", "io"), "af_xdp (native, copied by the kernel, 2 queues)");
    assert_eq!(status(&host, "p1", "worker"), "0", "one worker polls both");
    one.reaches("10.0.0.2");
    host.vsctl(&format!("{MASK}0x3"));
    for port in ["p1", "p2"] {
        assert_eq!(
            (status(&host, port, "worker").as_str(), status(&host, port, "worker_warning").as_str()),
            ("0,1", "")
        );
    }
    let shown = host.vsctl("workers");
    assert_eq!(shown.lines().filter(|line| line.contains("p1")).count(), 2, "a line for each queue: {shown}");
    // Many flows each way; the receiver looks at their order. Slow enough for a busy machine to lose none.
    for (receiver, sender, address) in [(&one, &two, "10.0.0.2"), (&two, &one, "10.0.0.1")] {
        let options = "--udp --length 100 --bitrate 250K --parallel 16 --time 2 --reverse";
        let report = iperf(receiver, sender, address, options);
        let streams = report["end"]["streams"].as_array().expect("streams");
        let count =
            |key: &str| streams.iter().map(|stream| stream["udp"][key].as_u64().expect("a number")).sum::<u64>();
        assert!(streams.len() == 16 && count("packets") > 5000, "{report}");
        assert_eq!(count("out_of_order"), 0, "{report}");
    }
    for port in ["p1", "p2"] {
        let queues = queues(&host, port);
        let workers: BTreeSet<_> = queues.iter().map(|(worker, _)| *worker).collect();
        assert_eq!((queues.len(), workers.len()), (2, 2), "{port}: {queues:?}");
        assert!(queues.iter().all(|(_, frames)| *frames > 500), "{port}: not both are received from: {queues:?}");
    }
    check_drops_are(&host, &[]);
    check_umem(&host, 4);
    host.vsctl("del-port p1");
    check_umem(&host, 2);
}

#[test]
fn workers_come_and_go_under_traffic_and_nothing_is_lost() {
    if !two_cpus("workers_come_and_go_under_traffic_and_nothing_is_lost") {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let (host, one, two) = two_pods(&lab);
    one.reaches("10.0.0.2");
    let log = lab.dir().join("stream");
    let _sink = two.iperf3_server();
    let mut stream = one.spawn("iperf3 --client 10.0.0.2 --time 5 --parallel 4 --bitrate 10M --bidir", &log);
    // Each of another flow, so that some come by either queue.
    let mut pings: Vec<_> = (0..8)
        .map(|n| {
            let line = format!("ping -n -i 0.01 -c 400 -W 5 -e {} 10.0.0.2", 1000 + 77 * n);
            one.spawn(&line, &lab.dir().join(format!("ping-{n}")))
        })
        .collect();
    for _ in 0..3 {
        for (mask, worker) in [("0x3", "0,1"), ("0x2", "0"), ("0x3", "0,1"), ("0x1", "0")] {
            host.vsctl(&format!("{MASK}{mask}"));
            for port in ["p1", "p2"] {
                assert_eq!(status(&host, port, "worker"), worker, "{mask}");
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    for ping in &mut pings {
        eventually("the ping ends", || if ping.alive() { Err(ping.log()) } else { Ok(()) });
        let log = ping.log();
        let numbers = log.lines().filter_map(|l| l.split("icmp_seq=").nth(1)?.split(' ').next()?.parse::<u32>().ok());
        assert_eq!(numbers.collect::<Vec<_>>(), (1..=400).collect::<Vec<_>>(), "{log}");
    }
    eventually("the stream ends", || if stream.alive() { Err(stream.log()) } else { Ok(()) });
    assert!(stream.log().contains("receiver"), "{}", stream.log());
    check_drops_are(&host, &[]);
    check_umem(&host, 4);
}

/// One that has no queue sends by a packet socket, and the row says so as long as it is so.
#[test]
fn with_fewer_queues_than_workers_the_others_send_by_packet_sockets() {
    if !two_cpus("with_fewer_queues_than_workers_the_others_send_by_packet_sockets") {
        return;
    }
    let Some(lab) = Lab::open() else { return };
    let host = lab.host("host");
    let pods = [1, 2, 3, 4].map(|n| pod(&lab, &host, n, 1));
    host.vsctl(&format!("{MASK}0x3"));
    host.vsctl("add-br br0");
    for n in 1..=4 {
        host.vsctl(&format!("add-port br0 p{n} type=afxdp"));
    }
    let workers: BTreeSet<_> = (1..=4).map(|n| status(&host, &format!("p{n}"), "worker")).collect();
    assert_eq!(workers, ["0", "1"].map(str::to_owned).into(), "both have some");
    for n in 1..=4 {
        let (worker, warning) =
            (status(&host, &format!("p{n}"), "worker"), status(&host, &format!("p{n}"), "worker_warning"));
        let other = if worker == "0" { "1" } else { "0" };
        assert!(warning.starts_with(&format!("worker {other} has no queue")), "p{n}: {warning}");
    }
    for (from, pod) in pods.iter().enumerate() {
        (1..=4).filter(|to| *to != from + 1).for_each(|to| pod.reaches(&format!("10.0.0.{to}")));
    }
    check_drops_are(&host, &[]);
    host.vsctl(&format!("{MASK}0x1"));
    assert_eq!((status(&host, "p1", "worker").as_str(), status(&host, "p1", "worker_warning").as_str()), ("0", ""));
    check_accounts(&host);
    check_umem(&host, 4);
}
