//! `vswitch`, configured as a user would: nothing but bridges, ports and tunnels.

use super::{MIRROR, Stage, monitor, two_pods};
use vswitch_tests::netns::Lab;
use vswitch_tests::process::eventually;
use vswitch_tests::tunnel_pair::{PODS, Underlay, near_end, underlay_cable};

/// Two pods on one bridge.
pub fn one_host(lab: &Lab) -> Result<Stage, String> {
    pods(lab, "")
}

/// The same, every device by AF_XDP.
pub fn af_xdp(lab: &Lab) -> Result<Stage, String> {
    pods(lab, "type=afxdp")
}

/// The same by the crate `afxdp`, as far as the daemon has it.
pub fn afxdp_crate(lab: &Lab) -> Result<Stage, String> {
    pods(lab, "type=afxdp xdp-backend=afxdp")
}

/// Two pods, their devices attached with these settings.
fn pods(lab: &Lab, settings: &str) -> Result<Stage, String> {
    let mut host = lab.host("host");
    let ends = two_pods(lab, &host, "ours");
    let added = host.try_vsctl(&format!("add-br br0 -- add-port br0 p1 {settings} -- add-port br0 p2 {settings}"));
    if added.stderr.contains("built without the cargo feature") {
        return Err(
            "this vswitch was built without the cargo feature 'afxdp'; 'make bench-peers' builds it in".to_owned()
        );
    }
    let _ = added.output();
    let switch = vec![host.daemon().pid()];
    Ok(Stage::new(ends, "10.0.0.2", switch, host))
}

/// The same with a mirror of all that the first pod sends and gets, to a device whose far end nobody reads.
pub fn mirrored(lab: &Lab) -> Result<Stage, String> {
    let mut host = lab.host("host");
    let ends = two_pods(lab, &host, "ours");
    monitor(lab, &host);
    host.vsctl("add-br br0 -- add-port br0 p1 -- add-port br0 p2 -- add-port br0 mon");
    host.vsctl(MIRROR);
    let switch = vec![host.daemon().pid()];
    Ok(Stage::new(ends, "10.0.0.2", switch, host))
}

/// The same with the kernel forwarding known flows by itself; both ways are known when it is ready.
pub fn assisted(lab: &Lab) -> Result<Stage, String> {
    let mut host = lab.host("host");
    let ends = two_pods(lab, &host, "assisted");
    host.vsctl("set open_vswitch . other_config:assist=true -- add-br br0 -- add-port br0 p1 -- add-port br0 p2");
    for port in ["p1", "p2"] {
        let state = host.vsctl(&format!("get interface {port} status:assist"));
        if state.trim() != "on" {
            return Err(format!("status:assist of {port} is {}", state.trim()));
        }
    }
    eventually("the kernel forwards both ways", || {
        ends[0].reaches("10.0.0.2");
        let flows = host.vsctl("--no-headings -f csv -- assist show br0").lines().count();
        if flows == 2 { Ok(()) } else { Err(format!("{flows} flows")) }
    });
    let switch = vec![host.daemon().pid()];
    Ok(Stage::new(ends, "10.0.0.2", switch, host))
}

/// A pod on each of two hosts, VXLAN between them.
pub fn vxlan(lab: &Lab) -> Result<Stage, String> {
    tunnel(lab, "type=vxlan key=5000")
}

/// The same with GRE.
pub fn gre(lab: &Lab) -> Result<Stage, String> {
    tunnel(lab, "type=gre key=5000")
}

fn tunnel(lab: &Lab, options: &str) -> Result<Stage, String> {
    let mut hosts = ["host1", "host2"].map(|name| lab.host(name));
    underlay_cable(lab, &hosts[0], &hosts[1]);
    for (n, host) in hosts.iter().enumerate() {
        Underlay::V4.set(host, n, "eth0");
    }
    let ends = [0, 1].map(|n| near_end(lab, &hosts[n], n, Underlay::V4, options));
    for host in &hosts {
        // Tests want statistics more often than users do.
        host.vsctl("remove open_vswitch . other_config stats-update-interval");
    }
    let switch = hosts.iter_mut().map(|host| host.daemon().pid()).collect();
    Ok(Stage::new(ends, PODS[1], switch, hosts))
}
