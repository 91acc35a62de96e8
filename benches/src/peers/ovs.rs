//! Open vSwitch with its userspace datapath, from the unpacked Debian packages, private to the lab.
//!
//! Without `userspace-tso` it passes unfinished checksums on as they are, so its pods finish them (`ethtool -K eth0 tx off`).

use super::{Stage, two_pods};
use std::fs;
use vswitch_tests::netns::{Lab, Running, Space};
use vswitch_tests::ovs::{Ovs, OvsdbServer};
use vswitch_tests::process::eventually;
use vswitch_tests::tunnel_pair::{PODS, UNDERLAY_MTU, Underlay, underlay_cable};

/// Two pods on one bridge, every device by AF_PACKET.
pub fn packet(lab: &Lab) -> Result<Stage, String> {
    one_host(lab, None, "")
}

/// The same with super-frames and unfinished checksums passed on, which is experimental there.
pub fn tso(lab: &Lab) -> Result<Stage, String> {
    one_host(lab, Some("userspace-tso-enable=true"), "")
}

/// Every device by AF_XDP, with one polling thread on the first core.
pub fn af_xdp(lab: &Lab) -> Result<Stage, String> {
    one_host(lab, Some("pmd-cpu-mask=0x1"), "type=afxdp options:xdp-mode=native options:n_rxq=1")
}

fn one_host(lab: &Lab, setting: Option<&str>, interface: &str) -> Result<Stage, String> {
    let host = lab.space("host");
    let ends = two_pods(lab, &host, "ovs");
    let segments = setting.is_some_and(|setting| setting.starts_with("userspace-tso"));
    for end in ends.iter().filter(|_| !segments) {
        end.run("ethtool -K eth0 tx off");
    }
    let ovs = Instance::start(lab, host, "ovs", setting)?;
    ovs.vsctl("add-br br0 -- set bridge br0 datapath_type=netdev")?;
    for port in ["p1", "p2"] {
        let set = if interface.is_empty() { String::new() } else { format!("-- set interface {port} {interface}") };
        ovs.vsctl(&format!("add-port br0 {port} {set}"))?;
        ovs.is_open(port);
    }
    let switch = ovs.processes();
    Ok(Stage::new(ends, "10.0.0.2", switch, ovs))
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
    let spaces = ["host1", "host2"].map(|name| lab.space(name));
    underlay_cable(lab, &spaces[0], &spaces[1]);
    let (mut ends, mut hosts) = (Vec::new(), Vec::new());
    for (n, space) in spaces.into_iter().enumerate() {
        let pod = lab.pod(&format!("pod{n}"), &space, "p0", &format!("{}/24", PODS[n]));
        pod.run("ethtool -K eth0 tx off");
        let ovs = Instance::start(lab, space, &format!("ovs{n}"), None)?;
        // The underlay's address is that of a bridge's own port, or Open vSwitch finds no way to the other end.
        ovs.vsctl("add-br br-phy -- set bridge br-phy datapath_type=netdev -- add-port br-phy eth0")?;
        ovs.space.run(&format!("ip link set br-phy mtu {UNDERLAY_MTU} up"));
        Underlay::V4.set(&ovs.space, n, "br-phy");
        ovs.vsctl("add-br br-int -- set bridge br-int datapath_type=netdev -- add-port br-int p0")?;
        let options = format!("options:remote_ip={} options:key=5000", Underlay::V4.0[1 - n]);
        ovs.vsctl(&format!("add-port br-int t0 -- set interface t0 type={kind} {options}"))?;
        ovs.is_open("t0");
        ends.push(pod);
        hosts.push(ovs);
    }
    let switch = hosts.iter().flat_map(Instance::processes).collect();
    let ends = <[Space; 2]>::try_from(ends).map_err(|_| "not two ends".to_owned())?;
    Ok(Stage::new(ends, PODS[1], switch, hosts))
}

/// The two daemons of an Open vSwitch.
struct Instance {
    ovs: Ovs,
    space: Space,
    server: OvsdbServer,
    daemon: Running,
}

impl Instance {
    /// Starts them in `space`, with a setting of `other_config` that must be there before.
    fn start(lab: &Lab, space: Space, name: &str, setting: Option<&str>) -> Result<Self, String> {
        let ovs = Ovs::find().ok_or("no Open vSwitch; fetch it with: tests/setup.sh peers")?;
        let dir = lab.dir().join(name);
        fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let server = ovs.server(&dir);
        if let Some(setting) = setting {
            let set = format!("--no-wait set open_vswitch . other_config:{setting}");
            let _ = ovs.vsctl(&server.socket, &set).output();
        }
        let daemon = ovs.vswitchd(&space, &server);
        Ok(Self { ovs, space, server, daemon })
    }

    /// What Open vSwitch says, if it refuses.
    fn vsctl(&self, args: &str) -> Result<String, String> {
        let done = self.ovs.vsctl(&self.server.socket, args);
        if done.ok() { Ok(done.stdout) } else { Err(format!("{done}\n{}", self.daemon.log())) }
    }

    /// Waits until it has opened the port.
    fn is_open(&self, port: &str) {
        eventually(&format!("Open vSwitch opens {port}"), || {
            let told = self.vsctl(&format!("get interface {port} ofport error"))?;
            if told.starts_with(|c: char| c.is_ascii_digit()) { Ok(()) } else { Err(told) }
        });
    }

    fn processes(&self) -> Vec<u32> {
        vec![self.daemon.pid(), self.server.pid()]
    }
}
