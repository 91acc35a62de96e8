//! Tunnels whose other end is not ours: the kernel's VXLAN, and Open vSwitch's userspace datapath for Geneve and GRE
//! (which kernels without the modules `ip_gre` and `geneve` lack).

use vswitch_tests::netns::{Host, Lab, Running, Space};
use vswitch_tests::ovs::{Ovs, OvsdbServer};
use vswitch_tests::process::eventually;
use vswitch_tests::tunnel_pair::{PODS, UNDERLAY_MTU, Underlay, check_drops, check_pods, near_end, underlay_cable};

/// The other end is the kernel's own VXLAN device, with a pod behind it on a bridge. Over a veth underlay it sends inner
/// super-frames whole, with unfinished checksums.
fn kernel_vxlan(lab: &Lab, underlay: Underlay, checksum: bool) -> (Host, [Space; 2], Space) {
    let (host, kernel) = (lab.host("host"), lab.space("kernel"));
    underlay_cable(lab, &host, &kernel);
    underlay.set(&host, 0, "eth0");
    underlay.set(&kernel, 1, "eth0");
    let sums = match (underlay.is_v6(), checksum) {
        (false, true) => "udpcsum",
        (false, false) => "noudpcsum",
        (true, true) => "noudp6zerocsumtx noudp6zerocsumrx",
        (true, false) => "udp6zerocsumtx udp6zerocsumrx",
    };
    let [remote, local] = underlay.0;
    kernel
        .run(&format!("ip link add vx0 type vxlan id 5000 local {local} remote {remote} dstport 4789 dev eth0 {sums}"));
    kernel.run("ip link set vx0 mtu 1500 up");
    kernel.run("ip link add br0 type bridge");
    kernel.run("ip link set vx0 master br0");
    let far = lab.pod("far", &kernel, "far-sw", &format!("{}/24", PODS[1]));
    kernel.run("ip link set far-sw master br0");
    kernel.run("ip link set br0 up");
    let near = near_end(lab, &host, 0, underlay, &format!("type=vxlan key=5000 csum={checksum}"));
    (host, [near, far], kernel)
}

#[test]
fn the_kernel_s_vxlan() {
    for underlay in [Underlay::V4, Underlay::V6] {
        for checksum in [true, false] {
            let Some(lab) = Lab::open() else { return };
            let (host, [near, far], _kernel) = kernel_vxlan(&lab, underlay, checksum);
            check_pods([&near, &far], &format!("vxlan over {underlay:?}, csum={checksum}"));
            check_drops(&host);
            let told = host.vsctl("get interface t0 status");
            assert_eq!(told.contains("csum=\"off: "), !checksum, "{told}");
        }
    }
}

/// Open vSwitch on the other side: its own underlay bridge, which holds the address, and an integration bridge.
struct Peer {
    space: Space,
    pod: Space,
    server: OvsdbServer,
    _daemon: Running,
}

impl Peer {
    fn new(lab: &Lab, ovs: &Ovs, underlay: Underlay, host: &Host, tunnel: &str) -> Self {
        let space = lab.space("peer");
        underlay_cable(lab, host, &space);
        // As a network card would: packets of wire size with their checksums.
        host.run("ethtool -K eth0 tx off");
        let dir = lab.dir().join("ovs");
        std::fs::create_dir(&dir).expect("a directory");
        let server = ovs.server(&dir);
        let daemon = ovs.vswitchd(&space, &server);
        let pod = lab.pod("far", &space, "far-sw", &format!("{}/24", PODS[1]));
        pod.run("ethtool -K eth0 tx off");
        let run = |args: &str| ovs.vsctl(&server.socket, args).output();
        run("add-br br-phy -- set bridge br-phy datapath_type=netdev -- add-port br-phy eth0");
        run("add-br br-int -- set bridge br-int datapath_type=netdev -- add-port br-int far-sw");
        space.run(&format!("ip link set br-phy mtu {UNDERLAY_MTU} up"));
        underlay.set(&space, 1, "br-phy");
        run(&format!("add-port br-int t0 -- set interface t0 {tunnel} options:remote_ip={}", underlay.0[0]));
        Self { space, pod, server, _daemon: daemon }
    }
}

#[test]
fn open_vswitch_s_gre_geneve_and_vxlan() {
    let Some(ovs) = Ovs::find() else { return };
    for (underlay, ours, theirs) in [
        (Underlay::V4, "type=gre", "type=gre"),
        (Underlay::V4, "type=gre key=70000 csum=true", "type=gre options:key=70000 options:csum=true"),
        (Underlay::V4, "type=gre key=0x80000001", "type=gre options:key=2147483649 options:seq=true"),
        (Underlay::V6, "type=gre key=7", "type=gre options:key=7"),
        (Underlay::V4, "type=geneve key=5000", "type=geneve options:key=5000"),
        (Underlay::V4, "type=geneve key=5000 csum=false", "type=geneve options:key=5000 options:csum=true"),
        (Underlay::V6, "type=geneve key=5000", "type=geneve options:key=5000 options:csum=true"),
        (Underlay::V4, "type=vxlan key=5000 tos=inherit ttl=9", "type=vxlan options:key=5000"),
    ] {
        let Some(lab) = Lab::open() else { return };
        let host = lab.host("host");
        let peer = Peer::new(&lab, &ovs, underlay, &host, theirs);
        underlay.set(&host, 0, "eth0");
        let near = near_end(&lab, &host, 0, underlay, ours);
        eventually("Open vSwitch has the tunnel", || {
            let error = ovs.vsctl(&peer.server.socket, "get interface t0 ofport error").output();
            if error.starts_with(|c: char| c.is_ascii_digit()) { Ok(()) } else { Err(error) }
        });
        check_pods([&near, &peer.pod], &format!("{ours} over {underlay:?} in {}", peer.space.name));
        check_drops(&host);
    }
}
