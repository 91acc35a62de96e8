//! Mixed load over AF_XDP ports while others come and go every second: nothing stalls, memory stays, and in the end every
//! frame and every chunk of memory is accounted for.
//!
//! Ten seconds in an ordinary run; `make soak` takes ten minutes (`SOAK_SECONDS`).

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs};
use vswitch_tests::accounts::{check_accounts, umem};
use vswitch_tests::netns::{Host, Lab, Space, by_xdp};
use vswitch_tests::process::eventually;

/// Chunks that a port of one queue lends to the kernel to receive into.
const RING: u64 = 2048;
/// How much more memory the daemon may have in the end than after a quarter of the time.
const GROWTH_KB: u64 = 8 << 10;

fn resident_kb(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).expect("a number of kB")
}

/// A port by AF_XDP on a device that is plugged into a namespace of its own; what is done to it in second `n`.
fn churn(host: &Host, far: &Space, n: u64) {
    match n % 6 {
        0 => drop(host.vsctl("add-port br0 churn type=afxdp")),
        1 => drop(host.vsctl("set interface churn options:xdp-mode=generic")),
        2 => drop(host.vsctl("set port churn tag=9")),
        // The device goes from under the port, and comes back.
        3 => drop(far.run("ip link del eth0")),
        4 => {
            far.run(&format!("ip link add eth0 type veth peer name churn netns {}", host.name));
            far.run("ip link set eth0 up");
            host.run("ip link set churn up");
        }
        _ => drop(host.vsctl("del-port br0 churn")),
    }
}

#[test]
fn ports_come_and_go_under_load_and_nothing_is_lost_track_of() {
    let Some(lab) = Lab::open() else { return };
    let seconds: u64 = env::var("SOAK_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let mut host = lab.host("host");
    let pods = [1, 2, 3].map(|n| lab.pod(&format!("pod{n}"), &host, &format!("p{n}"), &format!("10.0.0.{n}/24")));
    let far = lab.space("far");
    lab.cable(&far, "eth0", &host, "churn");
    host.vsctl("add-br br0 -- add-port br0 p1 type=afxdp -- add-port br0 p2 type=afxdp -- add-port br0 p3");
    host.run("ip addr add 10.0.0.254/24 dev br0");
    host.run("ip link set br0 up");
    let [one, two, three] = &pods;
    ["10.0.0.2", "10.0.0.3", "10.0.0.254"].iter().for_each(|to| one.reaches(to));

    let null = Path::new("/dev/null");
    let servers = [(two, 5201), (three, 5202), (&*host, 5203)];
    let _servers = servers.map(|(space, port)| space.spawn(&format!("iperf3 --server --port {port}"), null));
    thread::sleep(Duration::from_millis(300));
    let client = |from: &Space, to: &str, port: u16, rest: &str| {
        from.spawn(&format!("iperf3 --client {to} --port {port} --time {} {rest}", seconds + 5), null)
    };
    let loads = [
        client(one, "10.0.0.2", 5201, "--bitrate 300M"),
        client(one, "10.0.0.3", 5202, "--udp --length 64 --bitrate 10M"),
        client(two, "10.0.0.254", 5203, "--bitrate 200M --bidir"),
    ];
    let pid = host.daemon().pid();
    let (start, mut early) = (Instant::now(), 0);
    for n in 0..seconds {
        churn(&host, &far, n);
        ["10.0.0.2", "10.0.0.3", "10.0.0.254"].iter().for_each(|to| one.reaches(to));
        if n == seconds / 4 {
            early = resident_kb(pid);
        }
        thread::sleep(Duration::from_secs(n + 1).saturating_sub(start.elapsed()));
    }
    let late = resident_kb(pid);
    drop(loads);
    assert!(late <= early + GROWTH_KB, "{early} kB after a quarter of the time, {late} kB in the end");

    let _ = host.try_vsctl("--if-exists del-port br0 churn");
    // The third is by AF_XDP where everything is.
    let ports = if by_xdp() { 3 } else { 2 };
    eventually("every chunk is free or lent for receiving", || {
        // Each change makes workers give their spare ones back.
        host.vsctl("set port p3 trunks=1,2");
        host.vsctl("clear port p3 trunks");
        let [free, kernel, workers] = umem(&host);
        let all = (kernel, workers, free + kernel) == (ports * RING, 0, 16 * 1024);
        if all { Ok(()) } else { Err(format!("free {free}, kernel {kernel}, workers {workers}")) }
    });
    check_accounts(&host);
    host.vsctl("del-port br0 p1 -- del-port br0 p2 -- del-port br0 p3");
    assert_eq!(umem(&host), [16 * 1024, 0, 0]);
}
