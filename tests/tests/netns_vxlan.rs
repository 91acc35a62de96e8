//! VXLAN between two hosts, in network namespaces, with real daemons.

use std::path::Path;
use vswitch_tests::netns::Lab;
use vswitch_tests::process::eventually;
use vswitch_tests::two_hosts::TwoHosts;

#[test]
fn tenants_with_the_same_addresses_reach_their_own_and_nobody_else() {
    let Some(lab) = TwoHosts::open() else { return };
    lab.configure();
    lab.check_tenants();

    // An address that exists in tenant A only, on a port of host1 itself.
    let host1 = &lab.hosts[0];
    host1.vsctl("add-port tenantA internalPort type=internal");
    host1.run("ip addr add 192.168.60.50/24 dev internalPort");
    host1.run("ip link set internalPort up");
    lab.a[1].reaches("192.168.60.50");
    assert!(!lab.b[1].pings("192.168.60.50"), "tenant B reaches into tenant A across the hosts");
    assert!(!lab.b[0].pings("192.168.60.50"), "tenant B reaches into tenant A on one host");
}

#[test]
fn each_tenant_s_frames_carry_its_vni_on_the_underlay() {
    let Some(lab) = TwoHosts::open() else { return };
    lab.configure();
    for (pods, vni) in [(&lab.a, 5000), (&lab.b, 6000)] {
        pods[0].reaches("192.168.60.12");
        let log = lab.lab.dir().join(format!("wire-{vni}"));
        let wire = lab.hosts[1].spawn("tcpdump -nn -l -i eth0 udp port 4789", &log);
        eventually("tcpdump listens", || wire.log().contains("listening on").then_some(()).ok_or_else(|| wire.log()));
        pods[0].run("ping -c 2 -i 0.2 -W 2 192.168.60.12");
        // tcpdump prints the outer packet on one line and the inner one on the next.
        eventually("two requests and two replies on the wire", || {
            let text = wire.log();
            let lines: Vec<&str> = text.lines().collect();
            let pings: Vec<_> = lines.windows(2).filter(|w| w[1].contains("ICMP echo")).collect();
            assert!(pings.iter().all(|w| w[0].ends_with(&format!("vni {vni}"))), "{text}");
            if pings.len() == 4 { Ok(()) } else { Err(text) }
        });
    }
}

#[test]
fn tcp_crosses_although_the_tunnel_is_50_bytes_too_small() {
    let Some(lab) = TwoHosts::open() else { return };
    lab.configure();
    lab.check_tenants();
    for (from, to, address) in [(0, 1, "192.168.60.12"), (1, 0, "192.168.60.11")] {
        let rate = lab.a[from].tcp(&lab.a[to], address, 2);
        assert!(rate > 1e6, "pod {from} to pod {to}: {:.1} Mbit/s", rate / 1e6);
    }
}

/// The other end is the kernel's own VXLAN: what we send it takes, what it sends we take, super-frames included.
#[test]
fn the_kernel_s_vxlan_understands_us() {
    let Some(lab) = Lab::open() else { return };
    let host = lab.host("host");
    let kernel = lab.space("kernel");
    lab.cable(&host, "eth0", &kernel, "eth0");
    host.run("ip addr add 10.2.7.200/24 dev eth0");
    kernel.run("ip addr add 10.2.7.201/24 dev eth0");
    kernel.run("ip link add vx0 type vxlan id 5000 local 10.2.7.201 remote 10.2.7.200 dstport 4789 dev eth0");
    kernel.run("ip addr add 192.168.60.12/24 dev vx0");
    kernel.run("ip link set vx0 up");
    let pod = lab.pod("pod", &host, "vm-sw", "192.168.60.11/24");
    host.vsctl("add-br br0");
    host.vsctl("add-port br0 vm-sw");
    host.vsctl("add-port br0 vx0 type=vxlan key=5000 remote_ip=10.2.7.201");
    pod.reaches("192.168.60.12");
    for (from, to, address) in [(&pod, &kernel, "192.168.60.12"), (&kernel, &pod, "192.168.60.11")] {
        let rate = from.tcp(to, address, 2);
        assert!(rate > 1e6, "to {address}: {:.1} Mbit/s", rate / 1e6);
    }
}

/// What comes out at the far end is what went in, byte for byte.
#[test]
fn a_file_arrives_unchanged() {
    let Some(lab) = TwoHosts::open() else { return };
    lab.configure();
    lab.check_tenants();
    let (sent, dir) = (lab.lab.dir().join("sent"), lab.lab.dir());
    let noise: Vec<u8> = (0..8_000_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    std::fs::write(&sent, &noise).expect("a file to send");
    let serve = format!("python3 -m http.server --directory {} 8000", dir.display());
    let _server = lab.a[1].spawn(&serve, Path::new("/dev/null"));
    let fetch = "import urllib.request as r,hashlib; \
                 print(hashlib.sha256(r.urlopen('http://192.168.60.12:8000/sent',timeout=20).read()).hexdigest())";
    let fetch = format!("python3 -c {}", fetch.replace(' ', "\u{a0}"));
    let received = eventually("the file is fetched", || {
        let done = lab.a[0].try_run(&fetch);
        if done.ok() { Ok(done.stdout) } else { Err(done.stderr) }
    });
    let original = lab.a[0].run(&format!("sha256sum {}", sent.display()));
    assert_eq!(received.trim(), original.split(' ').next().unwrap_or_default());
}
