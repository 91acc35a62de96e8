//! `vsctl doctor`, `mtu` and `drops` between two real switches: healthy, and with one thing wrong at a time.

use serde_json::{Value, json};
use vswitch_tests::accounts::check_accounts;
use vswitch_tests::netns::{Host, Lab, Space, is_about_packet_sockets};
use vswitch_tests::process::{Done, eventually};
use vswitch_tests::rpc::Rpc;

/// Two hosts with a pod each, joined by a tunnel over one cable.
struct Pair {
    hosts: [Host; 2],
    pods: [Space; 2],
    lab: Lab,
}

impl Pair {
    fn open() -> Option<Self> {
        let lab = Lab::open()?;
        let hosts = [lab.host("one"), lab.host("two")];
        lab.cable(&hosts[0], "eth0", &hosts[1], "eth0");
        let pods = [0, 1].map(|at| {
            let (host, other) = (&hosts[at], 2 - at);
            host.run(&format!("ip addr add 192.0.2.{}/24 dev eth0", at + 1));
            let pod = lab.pod(&format!("pod{at}"), host, "p1", &format!("10.0.0.{}/24", at + 1));
            // Everything fits from the start.
            host.run("ip link set p1 mtu 1450");
            pod.run("ip link set eth0 mtu 1450");
            host.vsctl("add-br br0 -- add-port br0 p1");
            host.vsctl(&format!("add-port br0 vx0 type=vxlan key=5000 remote_ip=192.0.2.{other}"));
            host.run("ip link set br0 mtu 1450");
            pod
        });
        Some(Self { hosts, pods, lab })
    }

    fn doctor(&self, at: usize) -> Done {
        self.hosts[at].try_vsctl("doctor br0")
    }

    /// Nothing is wrong at either host.
    fn healthy(&self) {
        for (at, other) in [(0, 2), (1, 1)] {
            eventually("the doctor finds nothing", || {
                let told = self.doctor(at);
                let fine = format!("note: vx0: 192.0.2.{other} answers, MTU 1450 passes both ways\nnothing found\n");
                if told.ok() && told.stdout == fine { Ok(()) } else { Err(told.to_string()) }
            });
        }
    }

    /// The doctor of a host finds this, and ends with 1.
    fn finds(&self, at: usize, expected: &[&str]) -> String {
        eventually(&format!("the doctor finds {expected:?}"), || {
            let told = self.doctor(at);
            let all = expected.iter().all(|text| told.stdout.contains(text));
            if told.code == 1 && told.stderr.is_empty() && all { Ok(told.stdout) } else { Err(told.to_string()) }
        })
    }
}

#[test]
fn a_healthy_pair_and_one_thing_wrong_at_a_time() {
    if is_about_packet_sockets("the host goes on using a device that it has addresses on") {
        return;
    }
    let Some(pair) = Pair::open() else { return };
    let [one, two] = &pair.hosts;
    pair.pods[0].reaches("10.0.0.2");
    pair.healthy();
    let told: Value = serde_json::from_str(&one.vsctl("doctor -f json")).expect("JSON");
    assert_eq!(told["headings"], json!(["kind", "at", "what", "remedy"]));
    assert_eq!(told["data"][0][0], "note");

    // The other end's device takes less than ours: large packets vanish in between, and nobody says so.
    two.run("ip link set eth0 mtu 1400");
    let told = pair.finds(0, &["vx0: packets of 1450 bytes do not get to 192.0.2.2, though small ones do"]);
    assert!(told.contains("'tracepath -n 192.0.2.2' shows where"), "{told}");
    two.run("ip link set eth0 mtu 1500");
    pair.healthy();

    // An address on an attached device.
    one.run("ip addr add 10.9.9.9/24 dev p1");
    let told =
        pair.finds(0, &["p1: 10.9.9.9/24 on p1 cannot be reached", "\nip addr add 10.9.9.9/24 dev br0\n", "1 finding"]);
    assert!(told.contains("note: vx0: 192.0.2.2 answers"), "{told}");
    one.run("ip addr del 10.9.9.9/24 dev p1");
    pair.healthy();

    // No way to the other end, and a way where nobody answers.
    one.run("ip route add unreachable 192.0.2.2/32");
    pair.finds(0, &["vx0: no way to remote_ip=192.0.2.2", "see 'ip route get 192.0.2.2'"]);
    one.run("ip route del unreachable 192.0.2.2/32");
    pair.healthy();
    one.run("ip route add 192.0.2.2/32 via 192.0.2.77 dev eth0");
    pair.finds(0, &["vx0: 192.0.2.77, the next hop to 192.0.2.2, does not answer ARP on eth0, so nothing gets there"]);
    one.run("ip route del 192.0.2.2/32 via 192.0.2.77 dev eth0");
    two.run("ip link set eth0 arp off");
    one.run("ip neigh flush dev eth0");
    pair.finds(0, &["vx0: 192.0.2.2 does not answer ARP on eth0", "'ip neigh show dev eth0'"]);
    two.run("ip link set eth0 arp on");
    two.run("ip link set eth0 down");
    pair.finds(0, &["vx0: its packets leave by eth0, which is down; 'ip link set eth0 up'"]);
    two.run("ip link set eth0 up");

    // A port whose device is not there.
    assert!(!one.try_vsctl("add-port br0 nosuch0").ok());
    pair.finds(0, &["nosuch0: could not open network device nosuch0 (No such device)"]);
    one.vsctl("del-port br0 nosuch0");
    pair.healthy();

    // Another key at the other end: its packets arrive here and belong to nobody.
    two.vsctl("set interface vx0 options:key=5001");
    let _ = pair.doctor(1);
    let told = pair.finds(0, &["192.0.2.2: vxlan packets with key 5001 come from there and no port takes them"]);
    assert!(told.contains("'vsctl set interface vx0 options:key=5001' here, or key=5000 there"), "{told}");
    assert!(told.contains("note: vx0: 192.0.2.2 does not answer probes; "), "{told}");
    pair.hosts.iter().for_each(accounted);
}

/// Probes are counted as frames that the switch has made, and as taken where they arrive; the accounts are even.
fn accounted(host: &Host) {
    check_accounts(host);
    let mut control = Rpc::connect(&host.socket().with_file_name("db.ctl"));
    let shown = control.call("coverage/show", &json!([]));
    let text = shown["result"].as_str().unwrap_or_default();
    for counter in ["generated ", "drop_probe "] {
        assert!(text.lines().any(|line| line.starts_with(counter) && !line.ends_with(" 0")), "{counter}: {text}");
    }
}

#[test]
fn the_other_end_is_no_vswitch() {
    let Some(lab) = Lab::open() else { return };
    let host = lab.host("host");
    let kernel = lab.space("kernel");
    lab.cable(&host, "eth0", &kernel, "eth0");
    host.run("ip addr add 192.0.2.1/24 dev eth0");
    kernel.run("ip addr add 192.0.2.2/24 dev eth0");
    kernel.run("ip link add vx0 type vxlan id 5000 local 192.0.2.2 remote 192.0.2.1 dstport 4789 dev eth0");
    kernel.run("ip link add br0 type bridge");
    kernel.run("ip link set vx0 master br0 up");
    kernel.run("ip link set br0 up");
    // Whatever comes out of the tunnel and is forwarded would come out here.
    let pod = lab.pod("pod", &kernel, "p1", "10.0.0.2/24");
    kernel.run("ip link set p1 master br0");
    let heard = pod.spawn("tcpdump -l -e -n -i eth0 ether proto 0x88b5", &lab.dir().join("heard"));
    eventually("tcpdump listens", || heard.log().contains("listening on").then_some(()).ok_or_else(|| heard.log()));
    host.vsctl("add-br br0 -- add-port br0 vx0 type=vxlan key=5000 remote_ip=192.0.2.2");
    host.run("ip link set br0 mtu 1450");
    let told = host.try_vsctl("doctor");
    let note =
        "note: vx0: 192.0.2.2 does not answer probes; if it is a vswitch, 'vsctl doctor' there tells what arrives\n";
    assert!(told.ok() && told.stdout == format!("{note}nothing found\n"), "{told}");
    assert!(!heard.log().contains("0x88b5"), "a bridge forwards no probe: {}", heard.log());
}

#[test]
fn drops_are_told_at_once_and_followed() {
    let Some(pair) = Pair::open() else { return };
    let [one, _] = &pair.hosts;
    let log = pair.lab.dir().join("followed");
    let vsctl = vswitch_tests::process::program("vsctl");
    let follow = one.spawn(&format!("{} --socket {} drops --follow", vsctl.display(), one.socket().display()), &log);
    // Nobody takes what comes with this key.
    pair.hosts[1].vsctl("set interface vx0 options:key=5001");
    eventually("the drops are followed", || {
        let _ = pair.hosts[1].try_vsctl("doctor");
        let text = follow.log();
        let told =
            text.contains(" more, ") && text.contains("no port: ") && text.contains(": unknown_vni: A tunnel packet");
        if told { Ok(()) } else { Err(text) }
    });
    let text = one.vsctl("drops");
    assert!(text.lines().any(|line| line.trim_start().starts_with("unknown_vni ")), "{text}");
    assert!(!one.vsctl("drops br0").contains("unknown_vni"), "it belongs to no bridge");
}

#[test]
fn a_tunnel_that_is_too_small_for_the_pods_is_told_when_it_is_added() {
    let Some(lab) = Lab::open() else { return };
    let host = lab.host("host");
    let other = lab.space("other");
    lab.cable(&host, "eth0", &other, "eth0");
    host.run("ip addr add 192.0.2.1/24 dev eth0");
    let _pod = lab.pod("pod", &host, "p1", "10.0.0.1/24");
    host.vsctl("add-br br0 -- add-port br0 p1");
    let told = host.try_vsctl("add-port br0 vx0 type=vxlan key=5000 remote_ip=192.0.2.2");
    let warning = "p1: MTU 1500 is more than vx0 carries (1450)";
    let command = "\nvsctl set interface p1 mtu_request=1450\n";
    assert!(told.ok() && told.stdout.is_empty(), "{told}");
    assert!(told.stderr.starts_with(&format!("vsctl: warning: {warning}")) && told.stderr.contains(command), "{told}");
    let shown = host.vsctl("mtu br0");
    for line in [
        "br0    p1   system   1500                               no",
        "br0    vx0  vxlan    1450         eth0     1500         yes  1500 (eth0, way to 192.0.2.2) less 50 for VXLAN",
        "br0: packets of up to 1450 bytes get everywhere, no larger ones by vx0",
        warning,
    ] {
        assert!(shown.lines().any(|shown| shown.starts_with(line)), "{line}: {shown}");
    }
    assert!(shown.contains(command), "{shown}");
    let told = host.try_vsctl("doctor");
    assert!(told.code == 1 && told.stdout.contains(warning) && told.stdout.contains(command), "{told}");
    let told = host.try_vsctl("set interface p1 mtu_request=1450");
    assert!(!told.stderr.contains(warning), "{told}");
    assert!(!host.vsctl("mtu").contains(warning));
}

#[test]
fn a_router_with_a_smaller_mtu_is_seen() {
    let Some(lab) = Lab::open() else { return };
    let (one, two, router) = (lab.host("one"), lab.host("two"), lab.space("router"));
    lab.cable(&one, "eth0", &router, "to1");
    lab.cable(&two, "eth0", &router, "to2");
    router.run("sysctl -q -w net.ipv4.ip_forward=1");
    for (host, n) in [(&one, 1), (&two, 2)] {
        host.run(&format!("ip addr add 192.0.{n}.1/24 dev eth0"));
        router.run(&format!("ip addr add 192.0.{n}.254/24 dev to{n}"));
        host.run(&format!("ip route add default via 192.0.{n}.254"));
        let other = 3 - n;
        host.vsctl(&format!("add-br br0 -- add-port br0 vx0 type=vxlan key=5000 remote_ip=192.0.{other}.1"));
    }
    let says = |at: &Host, line: &str| {
        eventually(line, || {
            let told = at.try_vsctl("doctor");
            if told.stdout.lines().any(|told| told == line) { Ok(()) } else { Err(told.to_string()) }
        });
    };
    says(&one, "note: vx0: 192.0.2.1 answers, MTU 1450 passes both ways");
    router.run("ip link set to2 mtu 1400");
    two.run("ip link set eth0 mtu 1400");
    // The router says so, to the probe as to any other packet.
    says(&one, "note: vx0: 192.0.2.1 answers, MTU 1350 passes both ways");
    says(&two, "note: vx0: 192.0.1.1 answers, MTU 1350 passes both ways");
}
