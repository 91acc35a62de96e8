//! Tunnels whose other end is not ours: the kernel's VXLAN, and Open vSwitch's userspace datapath for Geneve and GRE
//! (which kernels without the modules `ip_gre` and `geneve` lack).

use vswitch_tests::netns::{Host, Lab, Space};
use vswitch_tests::ovs::Ovs;
use vswitch_tests::tunnel_pair::{OvsEnd, PODS, Underlay, check_drops, check_pods, near_end, underlay_cable};

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
            check_drops(&host, "t0");
            let told = host.vsctl("get interface t0 status");
            assert_eq!(told.contains("csum=\"off: "), !checksum, "{told}");
        }
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
        let peer = lab.space("peer");
        underlay_cable(&lab, &host, &peer);
        // As a network card would: packets of wire size with their checksums.
        host.run("ethtool -K eth0 tx off");
        let far = OvsEnd::new(&lab, &ovs, &peer, 1, underlay, theirs);
        underlay.set(&host, 0, "eth0");
        let near = near_end(&lab, &host, 0, underlay, ours);
        check_pods([&near, &far.pod], &format!("{ours} over {underlay:?}"));
        check_drops(&host, "t0");
    }
}
