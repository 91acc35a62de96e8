//! The kernel forwards known flows by itself: seen from outside the switch does what it always does, through every change,
//! and nothing is left when it ends.

use serde_json::Value;
use std::thread;
use std::time::Duration;
use vswitch_tests::accounts::check_accounts;
use vswitch_tests::netns::{Host, Lab, Space, is_about_packet_sockets};
use vswitch_tests::process::eventually;

const FRAMES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/frames.py");
const BPF_IDS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bpf_ids.py");

/// A host with br0 and assist, and pods 10.0.0.1 to 10.0.0.3 on its ports p1 to p3.
fn three_pods(lab: &Lab) -> (Host, [Space; 3]) {
    let host = lab.host("host");
    host.assist();
    let pods = [1, 2, 3].map(|n| lab.pod(&format!("pod{n}"), &host, &format!("p{n}"), &format!("10.0.0.{n}/24")));
    host.vsctl("add-br br0 -- add-port br0 p1 -- add-port br0 p2 -- add-port br0 p3");
    for port in ["p1", "p2", "p3"] {
        assert_eq!(host.vsctl(&format!("get interface {port} status:assist")).trim(), "on");
    }
    (host, pods)
}

/// The rows of `vsctl assist show`, by column name.
fn shown(host: &Host) -> Vec<Value> {
    let table: Value = serde_json::from_str(&host.vsctl("assist show br0 -f json")).expect("JSON");
    let headings = table["headings"].as_array().expect("headings").clone();
    let by_name = |row: &Value| {
        let cells = headings.iter().zip(row.as_array().expect("a row"));
        cells.map(|(name, cell)| (name.as_str().expect("a name").to_owned(), cell.clone())).collect()
    };
    table["data"].as_array().expect("rows").iter().map(by_name).collect()
}

/// Packets that the kernel has forwarded of the flows between two ports, each way, if it does both now.
fn taken(host: &Host, a: &str, b: &str) -> Option<[u64; 2]> {
    let rows = shown(host);
    let flow = |from: &str, to: &str| {
        rows.iter().find(|row| row["in"] == from && row["out"] == to).and_then(|row| row["packets"].as_u64())
    };
    Some([flow(a, b)?, flow(b, a)?])
}

/// Reasons why flows are not forwarded by the kernel.
fn reasons(host: &Host) -> Vec<String> {
    shown(host).iter().filter_map(|row| Some(row["why"].as_str()?.to_owned())).collect()
}

/// Waits until what `from` sends to `address` is forwarded by the kernel, and the answers: frames more, not only an entry.
fn is_taken(host: &Host, from: &Space, address: &str, [a, b]: [&str; 2]) {
    eventually("the kernel forwards both ways", || {
        let before = taken(host, a, b);
        from.reaches(address);
        from.reaches(address);
        match (before, taken(host, a, b)) {
            (Some(before), Some(after)) if after[0] > before[0] && after[1] > before[1] => Ok(()),
            _ => Err(host.vsctl("assist show")),
        }
    });
}

/// Waits until a flow is left to user space for a reason with these words, while the pods go on talking.
fn is_left(host: &Host, from: &Space, address: &str, words: &str) {
    eventually(words, || {
        from.reaches(address);
        let found = reasons(host).iter().any(|why| why.contains(words)) && taken(host, "p1", "p2").is_none();
        if found { Ok(()) } else { Err(host.vsctl("assist show")) }
    });
}

/// A lab, unless this is a run by AF_XDP.
fn by_packet_sockets() -> Option<Lab> {
    if is_about_packet_sockets("the kernel forwards known flows between devices") { None } else { Lab::open() }
}

#[test]
fn every_change_takes_hold_of_flows_that_the_kernel_forwards() {
    let Some(lab) = by_packet_sockets() else { return };
    let (host, [one, two, three]) = three_pods(&lab);
    let ports = ["p1", "p2"];
    // All the time there is traffic both ways, pings twice a millisecond.
    let log = lab.dir().join("pings");
    let _traffic = one.spawn("ping -i 0.002 -W 1 10.0.0.2", &log);
    is_taken(&host, &one, "10.0.0.2", ports);

    // Limits: user space has to see what it is to slow down.
    host.vsctl("set interface p1 ingress_policing_rate=100000");
    is_left(&host, &one, "10.0.0.2", "p1 has a rate limit");
    host.vsctl("set interface p1 ingress_policing_rate=0");
    is_taken(&host, &one, "10.0.0.2", ports);
    host.vsctl("set port p2 qos=@q -- --id=@q create qos type=linux-htb other-config:max-rate=100000000");
    is_left(&host, &one, "10.0.0.2", "p2 has a rate limit");
    host.vsctl("clear port p2 qos -- --all destroy qos");
    is_taken(&host, &one, "10.0.0.2", ports);

    // A mirror gets a copy of what passes, at once.
    host.vsctl(
        "-- --id=@out get port p3 -- --id=@m create mirror name=m0 select-all=true output-port=@out -- \
         set bridge br0 mirrors=@m",
    );
    let copies = || three.run("cat /sys/class/net/eth0/statistics/rx_packets").trim().parse::<u64>().expect("a number");
    let before = copies();
    eventually("copies", || if copies() > before + 100 { Ok(()) } else { Err(copies().to_string()) });
    is_left(&host, &one, "10.0.0.2", "mirror");
    host.vsctl("clear bridge br0 mirrors");
    is_taken(&host, &one, "10.0.0.2", ports);

    // VLANs part and join.
    host.vsctl("set port p2 tag=5");
    assert!(!one.pings("10.0.0.2"), "p2 is in another VLAN");
    host.vsctl("set port p1 tag=5");
    is_taken(&host, &one, "10.0.0.2", ports);
    host.vsctl("clear port p1 tag -- clear port p2 tag");
    is_taken(&host, &one, "10.0.0.2", ports);

    // A port that goes down takes nothing.
    host.run("ip link set p2 down");
    assert!(!one.pings("10.0.0.2"));
    host.run("ip link set p2 up");
    is_taken(&host, &one, "10.0.0.2", ports);

    // What no longer fits is told of by user space, what does goes on.
    host.run("ip link set p2 mtu 1000");
    two.run("ip link set eth0 mtu 1000");
    eventually("the MTU is heard of", || {
        let mtu = host.vsctl("get interface p2 mtu");
        if mtu.trim() == "1000" { Ok(()) } else { Err(mtu) }
    });
    is_taken(&host, &one, "10.0.0.2", ports);
    let told = one.try_run("ping -c 1 -W 1 -M do -s 1200 10.0.0.2");
    assert!(!told.ok() && told.stdout.contains("mtu = 1000"), "{told}");
    assert!(one.tcp(&two, "10.0.0.2", 1) > 1e6);
    for (space, device) in [(&*host, "p2"), (&two, "eth0")] {
        space.run(&format!("ip link set {device} mtu 1500"));
    }
    is_taken(&host, &one, "10.0.0.2", ports);

    // What a bridge forgets, nobody remembers.
    host.vsctl("fdb flush br0");
    is_taken(&host, &one, "10.0.0.2", ports);

    // A station that moves is followed with its first frame.
    let mac = two.run("cat /sys/class/net/eth0/address");
    two.run("ip link set eth0 down");
    three.run(&format!("ip link set eth0 address {}", mac.trim()));
    three.run("ip addr add 10.0.0.2/24 dev eth0");
    assert!(three.pings("10.0.0.1"));
    is_taken(&host, &one, "10.0.0.2", ["p1", "p3"]);

    // A port that is gone takes its flows with it.
    host.vsctl("del-port br0 p3");
    assert!(!one.pings("10.0.0.2"));
    assert!(taken(&host, "p1", "p3").is_none());
    let pings = std::fs::read_to_string(&log).expect("what ping said");
    assert!(!pings.contains("DUP!"), "a frame was delivered twice");
    drop(_traffic);
    check_accounts(&host);
}

#[test]
fn it_is_turned_on_and_off_under_traffic() {
    let Some(lab) = by_packet_sockets() else { return };
    let (host, [one, ..]) = three_pods(&lab);
    let log = lab.dir().join("pings");
    let mut traffic = one.spawn("ping -q -i 0.002 -W 1 -c 2000 10.0.0.2", &log);
    let mut turns = 0;
    while traffic.alive() {
        is_taken(&host, &one, "10.0.0.2", ["p1", "p2"]);
        host.vsctl("remove open_vswitch . other_config assist");
        one.reaches("10.0.0.2");
        let refused = host.try_vsctl("assist show");
        assert!(!refused.ok() && refused.stderr.contains("other_config:assist is not true"), "{refused}");
        host.assist();
        turns += 1;
    }
    let said = traffic.log();
    assert!(turns > 1 && said.contains(" 2000 received") && !said.contains("duplicates"), "{turns}: {said}");
    check_accounts(&host);
}

#[test]
fn a_killed_daemon_leaves_nothing_in_the_kernel() {
    let Some(lab) = by_packet_sockets() else { return };
    let (mut host, [one, ..]) = three_pods(&lab);
    is_taken(&host, &one, "10.0.0.2", ["p1", "p2"]);
    let pid = host.daemon().pid();
    let had = host.run(&format!("python3 {BPF_IDS} of {pid}"));
    assert!(["prog", "map", "link"].iter().all(|kind| had.contains(kind)), "{had}");
    let all = had.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(host.run(&format!("python3 {BPF_IDS} alive {all}")), had);
    host.kill();
    assert!(!one.pings("10.0.0.2"), "stale forwarding");
    eventually("the kernel has let go of programs, maps and links", || {
        let left = host.run(&format!("python3 {BPF_IDS} alive {all}"));
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    host.start();
    is_taken(&host, &one, "10.0.0.2", ["p1", "p2"]);
}

#[test]
fn a_flood_of_addresses_leaves_known_flows_alone() {
    let Some(lab) = by_packet_sockets() else { return };
    let (host, [one, two, three]) = three_pods(&lab);
    is_taken(&host, &one, "10.0.0.2", ["p1", "p2"]);
    let before = taken(&host, "p1", "p2").expect("both ways");
    let mac = two.run("cat /sys/class/net/eth0/address");
    let said = thread::scope(|scope| {
        let flood = scope.spawn(|| three.run(&format!("python3 {FRAMES} flood eth0 {} 100000", mac.trim())));
        thread::sleep(Duration::from_millis(200));
        let said = one.run("ping -q -i 0.002 -c 1000 10.0.0.2");
        flood.join().expect("the flood");
        said
    });
    assert!(said.contains(" 1000 received") && !said.contains("duplicates"), "{said}");
    let after = taken(&host, "p1", "p2").expect("both ways still");
    assert!(after.iter().zip(&before).all(|(after, before)| after - before >= 1000), "{before:?} {after:?}");
    let flows = shown(&host).len();
    assert!(flows < 200, "{flows} rows for addresses that were heard once");
    check_accounts(&host);
}
