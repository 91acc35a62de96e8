//! Open vSwitch with its userspace datapath, from the unpacked Debian packages, private to the lab.
//!
//! Without `userspace-tso` it passes unfinished checksums on as they are, so its pods finish them (`ethtool -K eth0 tx off`).

use super::{MIRROR, MONITOR, Stage, monitor, two_pods};
use vswitch_tests::netns::Lab;
use vswitch_tests::ovs::Ovs;
use vswitch_tests::process::eventually;
use vswitch_tests::tunnel_pair::{OvsEnd, PODS, Underlay, underlay_cable};

const MISSING: &str = "no Open vSwitch; fetch it with: tests/setup.sh peers";
const TSO: &str = "userspace-tso-enable=true";

/// Two pods on one bridge, every device by AF_PACKET.
pub fn packet(lab: &Lab) -> Result<Stage, String> {
    one_host(lab, Settings::default())
}

/// The same with super-frames and unfinished checksums passed on, which is experimental there.
pub fn tso(lab: &Lab) -> Result<Stage, String> {
    one_host(lab, Settings { of_the_switch: Some(TSO), ..Settings::default() })
}

/// Every device by AF_XDP, with one polling thread on the first core.
pub fn af_xdp(lab: &Lab) -> Result<Stage, String> {
    let of_devices = Some("type=afxdp options:xdp-mode=native options:n_rxq=1");
    one_host(lab, Settings { of_the_switch: Some("pmd-cpu-mask=0x1"), of_devices, mirrored: false })
}

/// AF_PACKET with a mirror of all that the first pod sends and gets.
pub fn mirrored(lab: &Lab) -> Result<Stage, String> {
    one_host(lab, Settings { mirrored: true, ..Settings::default() })
}

/// What differs from a bridge as anybody would set it up.
#[derive(Clone, Copy, Default)]
struct Settings {
    /// One of `other_config`, which must be there before the daemon starts.
    of_the_switch: Option<&'static str>,
    /// What is set for each device.
    of_devices: Option<&'static str>,
    /// Whether there is a mirror.
    mirrored: bool,
}

/// A bridge with two pods.
fn one_host(lab: &Lab, settings: Settings) -> Result<Stage, String> {
    let ovs = Ovs::find().ok_or(MISSING)?;
    let host = lab.space("host");
    let ends = two_pods(lab, &host, "ovs");
    if settings.of_the_switch != Some(TSO) {
        for end in &ends {
            end.run("ethtool -K eth0 tx off");
        }
    }
    let server = ovs.server(lab.dir());
    let vsctl = |args: &str| ovs.vsctl(&server.socket, args).output();
    if let Some(setting) = settings.of_the_switch {
        vsctl(&format!("--no-wait set open_vswitch . other_config:{setting}"));
    }
    let daemon = ovs.vswitchd(&host, &server);
    vsctl("add-br br0 -- set bridge br0 datapath_type=netdev");
    if settings.mirrored {
        monitor(lab, &host);
    }
    let ports = if settings.mirrored { &["p1", "p2", MONITOR][..] } else { &["p1", "p2"] };
    for port in ports {
        let set = settings.of_devices.map(|settings| format!("-- set interface {port} {settings}")).unwrap_or_default();
        vsctl(&format!("add-port br0 {port} {set}"));
        eventually(&format!("Open vSwitch opens {port}"), || {
            let told = vsctl(&format!("get interface {port} ofport error"));
            if told.starts_with(|c: char| c.is_ascii_digit()) { Ok(()) } else { Err(told) }
        });
    }
    if settings.mirrored {
        vsctl(MIRROR);
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
