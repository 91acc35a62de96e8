//! Devices that come and go, overload, and what an idle switch costs.

use crate::lab::{Host, Space, bridge, eventually, port, root};
use datapath::control::{Action, Datapath, DatapathConfig, DatapathEvent, PortKind};
use datapath::switch::verdict::DropReason;
use datapath::time::{Duration, Instant};
use datapath::tunnel::{Protocol, Tunnel};
use datapath::types::TunnelKey;
use std::net::UdpSocket;

/// The thread of each worker in this process.
fn workers() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|t| t.unwrap().file_name().into_string().unwrap());
    let is_worker = |t: &String| {
        std::fs::read_to_string(format!("/proc/self/task/{t}/comm")).is_ok_and(|name| name.trim() == "worker-0")
    };
    tasks.filter(is_worker).collect()
}

/// A worker's nanoseconds of CPU, and how often it was put on a CPU, until now.
fn scheduled(worker: &str) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/self/task/{worker}/schedstat")).unwrap();
    let numbers: Vec<u64> = text.split_whitespace().map(|n| n.parse().unwrap()).collect();
    (numbers[0], numbers[2])
}

/// A host whose worker's thread is known.
fn host_and_worker() -> (Host, String) {
    use std::sync::Mutex;
    static STARTING: Mutex<()> = Mutex::new(());
    let _alone = STARTING.lock();
    let before = workers();
    let host = Host::new("host");
    let worker = workers().into_iter().find(|w| !before.contains(w));
    (host, worker.expect("a new worker thread"))
}

#[test]
fn nothing_to_do_costs_nothing() {
    if !root("nothing_to_do_costs_nothing") {
        return;
    }
    let (mut host, worker) = host_and_worker();
    let (a, _b) = (host.pod("p1", "10.1.0.1/24"), host.pod("p2", "10.1.0.2/24"));
    host.add("br0", PortKind::Internal);
    for (name, protocol, remote) in [("vx0", Protocol::Vxlan, "192.0.2.2:4789"), ("g0", Protocol::Gre, "192.0.2.2:0")] {
        host.add(name, PortKind::Tunnel(Tunnel::new(protocol, remote.parse().unwrap(), TunnelKey(1))));
    }
    assert!(a.pings("10.1.0.2"));
    // A down link and a deleted TAP are error conditions on their descriptors.
    host.space.ip("link set p2 down");
    host.space.ip("link del br0");
    let received = |host: &Host| ["p1", "p2"].map(|p| host.stats(p).rx_packets);
    // The pods' own IPv6 stacks may still have something to say: look at a while without frames.
    let quiet = eventually(|| {
        let (before, (cpu, runs)) = (received(&host), scheduled(&worker));
        std::thread::sleep(Duration::from_millis(500));
        let (cpu_after, runs_after) = scheduled(&worker);
        received(&host) == before && runs_after - runs <= 1 && cpu_after - cpu < 500_000
    });
    assert!(quiet, "the worker never rests: {:?}", scheduled(&worker));
}

#[test]
fn a_link_that_goes_down_and_up_needs_no_new_port() {
    if !root("a_link_that_goes_down_and_up_needs_no_new_port") {
        return;
    }
    let mut host = Host::new("host");
    let (a, _b) = (host.pod("p1", "10.1.0.1/24"), host.pod("p2", "10.1.0.2/24"));
    assert!(a.pings("10.1.0.2"));
    host.space.ip("link set p2 down");
    assert!(!a.succeeds("ping -c 1 -W 1 10.1.0.2"));
    let drops = host.stats("p2").drops;
    assert!(drops.iter().any(|&(r, n)| r == DropReason::PortDown && n > 0), "{drops:?}");
    host.space.ip("link set p2 up");
    assert!(a.pings("10.1.0.2"));
}

#[test]
fn a_deleted_tap_is_reported_and_made_anew() {
    if !root("a_deleted_tap_is_reported_and_made_anew") {
        return;
    }
    let mut host = Host::new("host");
    let events = host.datapath.events().unwrap();
    let pod = host.pod("p1", "10.1.0.1/24");
    host.add("br0", PortKind::Internal);
    host.space.ip("link del br0");
    let died = events.recv_timeout(Duration::from_secs(5)).unwrap();
    assert_eq!(died, DatapathEvent::DeviceDied { port: "br0".to_owned(), errno: libc::EBADFD });
    host.apply(Action::RemovePort { name: "br0".to_owned() }).unwrap();
    host.add("br0", PortKind::Internal);
    host.space.ip("addr add 10.1.0.254/24 dev br0");
    host.space.ip("link set br0 up");
    assert!(pod.pings("10.1.0.254"));
}

#[test]
fn a_deleted_netdev_does_not_keep_the_worker_busy_or_its_name() {
    if !root("a_deleted_netdev_does_not_keep_the_worker_busy_or_its_name") {
        return;
    }
    let (mut host, worker) = host_and_worker();
    let pod = host.pod("p1", "10.1.0.1/24");
    let _other = host.pod("p2", "10.1.0.2/24");
    assert!(pod.pings("10.1.0.2"));
    host.space.ip("link del p1");
    let resting = eventually(|| {
        let (cpu, _) = scheduled(&worker);
        std::thread::sleep(Duration::from_millis(100));
        scheduled(&worker).0 - cpu < 100_000
    });
    assert!(resting);
    host.apply(Action::RemovePort { name: "p1".to_owned() }).unwrap();
    drop(pod);
    let pod = host.pod("p1", "10.1.0.1/24");
    assert!(pod.pings("10.1.0.2"));
}

#[test]
fn an_internal_port_outlives_the_switch_but_not_its_removal() {
    if !root("an_internal_port_outlives_the_switch_but_not_its_removal") {
        return;
    }
    let mut host = Host::new("host");
    host.add("br0", PortKind::Internal);
    host.space.ip("addr add 10.1.0.254/24 dev br0");
    let address = |space: &Space| space.exec("ip -o addr show br0").contains("10.1.0.254/24");
    // Replaced within one change, the interface stays.
    let (datapath, space) = (&mut host.datapath, &host.space);
    let replace = vec![
        Action::RemovePort { name: "br0".to_owned() },
        Action::RemoveBridge { name: "br0".to_owned() },
        Action::AddBridge(bridge("br0")),
        Action::AddPort(port("br0", PortKind::Internal)),
    ];
    assert!(space.inside(|| datapath.apply(replace)).iter().all(Result::is_ok));
    assert!(address(&host.space));
    // The switch ends and starts again.
    host.datapath = Datapath::start(&DatapathConfig::default()).unwrap();
    host.apply(Action::AddBridge(bridge("br0"))).unwrap();
    assert!(address(&host.space));
    host.add("br0", PortKind::Internal);
    assert!(address(&host.space));
    let pod = host.pod("p1", "10.1.0.1/24");
    host.space.ip("link set br0 up");
    assert!(pod.pings("10.1.0.254"));
    // Its port is removed.
    host.apply(Action::RemovePort { name: "br0".to_owned() }).unwrap();
    assert!(!host.space.succeeds("ip link show br0"));
}

#[test]
fn what_the_kernel_drops_in_an_overload_is_counted() {
    if !root("what_the_kernel_drops_in_an_overload_is_counted") {
        return;
    }
    let (host, pod) = (Space::new("host"), Space::new("pod"));
    let ifindex = host.cable("p1", &pod, "eth0");
    pod.ip("addr add 10.1.0.1/24 dev eth0");
    pod.ip("neigh add 10.1.0.2 lladdr 02:00:00:00:00:02 dev eth0");
    let (mut datapath, mut worker) = Datapath::without_thread(&DatapathConfig::default()).unwrap();
    let actions = vec![Action::AddBridge(bridge("br0")), Action::AddPort(port("p1", PortKind::Netdev { ifindex }))];
    assert!(host.inside(|| datapath.apply(actions)).iter().all(Result::is_ok));
    let now = Instant::from_secs(1);
    while worker.poll_once(now) {}
    let before = datapath.port_stats("p1").unwrap().rx_packets;
    // The worker stands still while more is sent than a socket holds.
    let socket = pod.inside(|| UdpSocket::bind("10.1.0.1:0")).unwrap();
    let sent = 30_000;
    (0..sent).for_each(|_| drop(socket.send_to(&[0; 64], "10.1.0.2:9")));
    while worker.poll_once(now) {}
    let stats = datapath.port_stats("p1").unwrap();
    let overflow = stats.drops.iter().find(|(r, _)| *r == DropReason::RxOverflow).map_or(0, |d| d.1);
    assert!(overflow > 0 && overflow < sent, "{stats:?}");
    // The pod's stack may have sent a few more of its own.
    let counted = stats.rx_packets - before;
    assert!((sent..sent + 20).contains(&counted), "{counted} of {sent}: {stats:?}");
    assert_eq!(stats.rx_packets, stats.drops.iter().map(|d| d.1).sum::<u64>(), "no other port, so all are dropped");
}
