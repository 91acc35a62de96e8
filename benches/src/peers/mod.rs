//! Us and others, each in a lab of its own, under the same loads: what `make bench-peers` runs.
//!
//! - a [`Peer`] is a row of [`PEERS`]: a name and how its lab is built, in [`linux`], [`ours`], [`ovs`] and [`testpmd`];
//! - a [`Stage`] is a lab that is ready for loads: two ends, and the processes of the switch between them;
//! - [`load`] puts the workloads on a stage, [`cpu`] tells what that took;
//! - [`results`] keeps the figures, [`report`] prints them, [`svg`] draws them.
//!
//! A peer that isn't there, or that the load breaks, is a line of the report, never the end of the run.

pub mod cpu;
pub mod linux;
pub mod load;
pub mod ours;
pub mod ovs;
pub mod report;
pub mod results;
pub mod svg;
mod sys;
pub mod testpmd;

use datapath::types::MacAddr;
use load::Workload;
use std::any::Any;
use std::fs::File;
use std::{io, thread};
use vswitch_tests::netns::{Lab, Space};

/// What is compared with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Two pods on one host.
    OneHost,
    /// The same, while all that the first of them sends and gets is copied to a third port.
    Mirrored,
    /// A pod on each of two hosts, VXLAN between the hosts.
    Vxlan,
    /// The same over GRE.
    Gre,
}

impl Group {
    /// The words of the report.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::OneHost => "two pods on one host",
            Self::Mirrored => "two pods on one host, mirrored",
            Self::Vxlan => "VXLAN between two hosts",
            Self::Gre => "GRE between two hosts",
        }
    }
}

type Build = fn(&Lab) -> Result<Stage, String>;

/// Something that joins two pods.
pub struct Peer {
    /// The word that chooses it on the command line.
    pub name: &'static str,
    /// What it is, for tables.
    pub title: &'static str,
    /// What it is compared within.
    pub group: Group,
    /// Whether it runs in processes, not in the kernel.
    pub has_processes: bool,
    /// Whether it has an XDP program on the devices.
    pub by_xdp: bool,
    /// Builds its lab; why it can't be had here, if it can't.
    pub build: Build,
}

impl Peer {
    const fn process(name: &'static str, title: &'static str, group: Group, build: Build) -> Self {
        Self { name, title, group, has_processes: true, by_xdp: false, build }
    }

    const fn by_xdp(name: &'static str, title: &'static str, build: Build) -> Self {
        Self { by_xdp: true, ..Self::process(name, title, Group::OneHost, build) }
    }

    const fn in_kernel(name: &'static str, title: &'static str, group: Group, build: Build) -> Self {
        Self { name, title, group, has_processes: false, by_xdp: false, build }
    }

    /// Whether the workload tells something of it: where it isn't the point, what a switch does elsewhere is measured once.
    #[must_use]
    pub fn takes(&self, workload: Workload) -> bool {
        match workload {
            Workload::Tcp | Workload::Packets => true,
            Workload::Tcp8 | Workload::Latency => self.group != Group::Mirrored,
            Workload::Flood => self.group == Group::OneHost,
            Workload::Overload => self.by_xdp,
            Workload::Idle => self.has_processes && self.group != Group::Mirrored,
        }
    }

    /// Whether it is the one that the others of its group are compared with under the workload.
    #[must_use]
    pub fn is_ours(&self, workload: Workload) -> bool {
        if workload == Workload::Overload { self.name == "afxdp" } else { self.name.starts_with("vswitch") }
    }
}

/// The cable without a switch, which tells what the generators and the ends reach by themselves.
pub const CABLE: &str = "cable";

/// All of them, in the order of the report.
pub const PEERS: &[Peer] = &[
    Peer::process("vswitch", "vswitch", Group::OneHost, ours::one_host),
    Peer::process("assist", "vswitch, assist=true", Group::OneHost, ours::assisted),
    Peer::by_xdp("afxdp", "vswitch, AF_XDP", ours::af_xdp),
    Peer::by_xdp("afxdp-crate", "vswitch, AF_XDP by the afxdp crate", ours::afxdp_crate),
    Peer::in_kernel(CABLE, "no switch: one veth pair", Group::OneHost, linux::cable),
    Peer::in_kernel("bridge", "Linux bridge", Group::OneHost, linux::bridge),
    Peer::in_kernel("macvlan", "macvlan, bridge mode", Group::OneHost, linux::macvlan),
    Peer::in_kernel("routed", "routed veth pairs", Group::OneHost, linux::routed),
    Peer::process("ovs", "OVS userspace, AF_PACKET", Group::OneHost, ovs::packet),
    Peer::process("ovs-tso", "OVS userspace, userspace-tso", Group::OneHost, ovs::tso),
    Peer::by_xdp("ovs-afxdp", "OVS userspace, AF_XDP", ovs::af_xdp),
    Peer::by_xdp("testpmd", "DPDK testpmd, net_af_xdp", testpmd::af_xdp),
    Peer::process("vswitch-mirror", "vswitch", Group::Mirrored, ours::mirrored),
    Peer::in_kernel("bridge-mirror", "Linux bridge, tc mirred", Group::Mirrored, linux::mirrored),
    Peer::process("ovs-mirror", "OVS userspace, AF_PACKET", Group::Mirrored, ovs::mirrored),
    Peer::process("vswitch-vxlan", "vswitch", Group::Vxlan, ours::vxlan),
    Peer::in_kernel("kernel-vxlan", "kernel VXLAN, Linux bridge", Group::Vxlan, linux::vxlan),
    Peer::process("ovs-vxlan", "OVS userspace, AF_PACKET", Group::Vxlan, ovs::vxlan),
    Peer::process("vswitch-gre", "vswitch", Group::Gre, ours::gre),
    Peer::process("ovs-gre", "OVS userspace, AF_PACKET", Group::Gre, ovs::gre),
];

/// The address that the generator sends to: of nobody, so that the far end's stack drops what arrives at once. The switches
/// have learned that it is there.
pub const STATION: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xee]);

/// A lab that is ready for loads.
pub struct Stage {
    /// The near end, which sends, and the far one. Each has the device `eth0`.
    pub ends: [Space; 2],
    /// The far end's address.
    pub address: String,
    /// What small frames are addressed to.
    pub target: MacAddr,
    /// The processes of the switch; none for the kernel's.
    pub switch: Vec<u32>,
    /// What must live as long as the stage.
    _held: Box<dyn Any>,
}

impl Stage {
    /// Waits until the far end answers.
    fn new(ends: [Space; 2], address: &str, switch: Vec<u32>, held: impl Any) -> Self {
        ends[0].reaches(address);
        Self { ends, address: address.to_owned(), target: STATION, switch, _held: Box::new(held) }
    }

    /// Has new connections of the ends use this congestion control. It matters: BBR, which paces by a timer what it sends,
    /// halves what a switch on the same cores lets through.
    pub fn set_congestion(&self, name: &str) {
        let set = |end: &Space| end.run(&format!("sysctl -qw net.ipv4.tcp_congestion_control={name}"));
        self.ends.iter().for_each(|end| drop(set(end)));
    }

    /// The offloads of an end that matter here, as `ethtool -k` tells them.
    #[must_use]
    pub fn offloads(&self) -> String {
        let told = self.ends[0].try_run("ethtool -k eth0").stdout;
        let of = |name: &str| told.lines().find_map(|line| line.trim().strip_prefix(name)?.split_whitespace().next());
        [("checksums", "tx-checksumming:"), ("tso", "tx-tcp-segmentation:"), ("gro", "generic-receive-offload:")]
            .map(|(short, name)| format!("{short} {}", of(name).unwrap_or("?")))
            .join(", ")
    }
}

/// Two pods, 10.0.0.1 and 10.0.0.2, on the devices p1 and p2 of `host`; their names begin with `name`.
#[must_use]
pub fn two_pods(lab: &Lab, host: &Space, name: &str) -> [Space; 2] {
    [1, 2].map(|n| lab.pod(&format!("{name}-pod{n}"), host, &format!("p{n}"), &format!("10.0.0.{n}/24")))
}

/// The device that copies go to in labs with a mirror.
pub const MONITOR: &str = "mon";
/// How Open vSwitch and we are told of the mirror.
pub const MIRROR: &str = "-- --id=@p1 get port p1 -- --id=@mon get port mon -- --id=@m create mirror name=m0 \
     select_src_port=@p1 select_dst_port=@p1 output_port=@mon -- set bridge br0 mirrors=@m";

/// Gives `host` the [`MONITOR`], at whose far end nobody reads.
pub fn monitor(lab: &Lab, host: &Space) {
    lab.cable(host, MONITOR, &lab.space("watcher"), "eth0");
}

/// Does `work` in a thread inside the namespace.
fn inside<T: Send>(space: &Space, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
    use std::os::fd::AsFd as _;
    let namespace = File::open(format!("/run/netns/{}", space.name))?;
    thread::scope(|scope| {
        let entered = scope.spawn(move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        });
        entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_ours_is_in_each_group() {
        let names: BTreeSet<&str> = PEERS.iter().map(|peer| peer.name).collect();
        assert_eq!(names.len(), PEERS.len());
        for group in report::GROUPS {
            let ours = PEERS.iter().filter(|peer| peer.group == group && peer.is_ours(Workload::Tcp)).count();
            assert_eq!(ours, 1, "{}", group.title());
        }
    }
}
