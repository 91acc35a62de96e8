//! Open vSwitch with its userspace datapath, from the unpacked Debian packages, private to the lab.
//!
//! Without `userspace-tso` it passes unfinished checksums on as they are, so its pods finish them (`ethtool -K eth0 tx off`).

use super::{Stage, two_pods};
use vswitch_tests::netns::Lab;
use vswitch_tests::ovs::Ovs;
use vswitch_tests::process::eventually;
use vswitch_tests::tunnel_pair::{OvsEnd, PODS, Underlay, underlay_cable};

const MISSING: &str = "no Open vSwitch; fetch it with: tests/setup.sh peers";
const TSO: &str = "userspace-tso-enable=true";

/// Two pods on one bridge, every device by AF_PACKET.
pub fn packet(lab: &Lab) -> Result<Stage, String> {
    one_host(lab, None, None)
}

/// The same with super-frames and unfinished checksums passed on, which is experimental there.
pub fn tso(lab: &Lab) -> Result<Stage, String> {
    one_host(lab, Some(TSO), None)
}

/// Every device by AF_XDP, with one polling thread on the first core.
pub fn af_xdp(lab: &Lab) -> Result<Stage, String> {
    one_host(lab, Some("pmd-cpu-mask=0x1"), Some("type=afxdp options:xdp-mode=native options:n_rxq=1"))
}

/// A bridge with two pods: `setting` is one of `other_config` that must be there before the daemon starts, `interface` what is
/// set for each device.
fn one_host(lab: &Lab, setting: Option<&str>, interface: Option<&str>) -> Result<Stage, String> {
    let ovs = Ovs::find().ok_or(MISSING)?;
    let host = lab.space("host");
    let ends = two_pods(lab, &host, "ovs");
    if setting != Some(TSO) {
        for end in &ends {
            end.run("ethtool -K eth0 tx off");
        }
    }
    let server = ovs.server(lab.dir());
    let vsctl = |args: &str| ovs.vsctl(&server.socket, args).output();
    if let Some(setting) = setting {
        vsctl(&format!("--no-wait set open_vswitch . other_config:{setting}"));
    }
    let daemon = ovs.vswitchd(&host, &server);
    vsctl("add-br br0 -- set bridge br0 datapath_type=netdev");
    for port in ["p1", "p2"] {
        let set = interface.map(|settings| format!("-- set interface {port} {settings}")).unwrap_or_default();
        vsctl(&format!("add-port br0 {port} {set}"));
        eventually(&format!("Open vSwitch opens {port}"), || {
            let told = vsctl(&format!("get interface {port} ofport error"));
            if told.starts_with(|c: char| c.is_ascii_digit()) { Ok(()) } else { Err(told) }
        });
    }
    let switch = vec![daemon.pid(), server.pid()];
    Ok(Stage::new(ends, "10.0.0.2", switch, (daemon, server)))
}

/// A pod on each of two hosts, VXLAN between them.
pub fn vxlan(lab: &Lab) -> Result<Stage, String> {
    tunnel(lab, "vxlan")
}

/// The same with GRE.
pub fn gre(lab: &Lab) -> Result<Stage, String> {
    tunnel(lab, "gre")
}

fn tunnel(lab: &Lab, kind: &str) -> Result<Stage, String> {
    let ovs = Ovs::find().ok_or(MISSING)?;
    let spaces = ["host1", "host2"].map(|name| lab.space(name));
    underlay_cable(lab, &spaces[0], &spaces[1]);
    let settings = format!("type={kind} options:key=5000");
    let hosts = [0, 1].map(|n| OvsEnd::new(lab, &ovs, &spaces[n], n, Underlay::V4, &settings));
    let switch = hosts.iter().flat_map(OvsEnd::processes).collect();
    Ok(Stage::new(hosts.each_ref().map(|host| host.pod.clone()), PODS[1], switch, hosts))
}
