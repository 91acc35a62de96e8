//! The grid: between any two kinds of port, TCP flows both ways with default offloads, and every checksum is right.
//!
//! ```text
//!  veth:     end ── v0 ┐                    ┌ vxlan0 ══ far0: br-vxlan ── end
//!                      ├ sw: br0 (vswitch) ─┤                              each twice, so that a kind meets itself
//!  internal: end ─ in0 ┘                    └ …
//! ```
//!
//! Everyone is in one network. Each end is a namespace with an ordinary `eth0`, whose cable's near end finishes what the
//! end receives (see [`vswitch_tests::checksums`]); an internal port, which has no cable, is moved to a namespace of its
//! own and bridged to one there.

use vswitch_tests::checksums::{self, Watch};
use vswitch_tests::netns::{Host, Lab, Space};

/// A kind of port, and how an end is attached to `br0` of the grid's host by one.
struct Kind {
    name: &'static str,
    attach: fn(&Grid, n: usize, address: &str) -> Space,
}

const KINDS: &[Kind] = &[
    Kind { name: "veth", attach: veth },
    Kind { name: "af_xdp", attach: af_xdp },
    Kind { name: "internal", attach: internal },
    Kind { name: "patch", attach: patch },
    Kind { name: "vxlan", attach: |grid, n, address| tunnel(grid, n, address, "vxlan") },
    Kind { name: "geneve", attach: |grid, n, address| tunnel(grid, n, address, "geneve") },
    Kind { name: "gre", attach: |grid, n, address| tunnel(grid, n, address, "gre") },
];

/// The host in the middle, and two others beyond tunnels.
struct Grid {
    far: [Host; 2],
    sw: Host,
    lab: Lab,
}

impl Grid {
    fn open() -> Option<Self> {
        let lab = Lab::open()?;
        let (sw, far) = (lab.host("sw"), [lab.host("far0"), lab.host("far1")]);
        sw.vsctl("add-br br0");
        for (n, far) in far.iter().enumerate() {
            lab.cable(&sw, &format!("under{n}"), far, "eth0");
            sw.run(&format!("ip addr add 192.0.2.{}/31 dev under{n}", 2 * n));
            far.run(&format!("ip addr add 192.0.2.{}/31 dev eth0", 2 * n + 1));
        }
        Some(Self { far, sw, lab })
    }

    /// An end on the device `port` of `space`, which finishes what it sends there.
    fn end(&self, space: &Space, port: &str, address: &str) -> Space {
        let end = self.lab.pod(&format!("end-{port}"), space, port, address);
        checksums::finish(space, port);
        end
    }
}

fn veth(grid: &Grid, n: usize, address: &str) -> Space {
    let port = format!("v{n}");
    let end = grid.end(&grid.sw, &port, address);
    grid.sw.vsctl(&format!("add-port br0 {port}"));
    end
}

fn af_xdp(grid: &Grid, n: usize, address: &str) -> Space {
    let port = format!("x{n}");
    let end = grid.end(&grid.sw, &port, address);
    grid.sw.vsctl(&format!("add-port br0 {port} type=afxdp"));
    end
}

fn internal(grid: &Grid, n: usize, address: &str) -> Space {
    let (port, to_end) = (format!("in{n}"), format!("c{n}"));
    let space = grid.lab.space(&port);
    let end = grid.end(&space, &to_end, address);
    grid.sw.vsctl(&format!("add-port br0 {port} -- set interface {port} type=internal"));
    grid.sw.run(&format!("ip link set {port} netns {}", space.name));
    space.run("ip link add join type bridge");
    for device in [&port, &to_end] {
        space.run(&format!("ip link set {device} master join up"));
    }
    space.run("ip link set join up");
    end
}

/// An end on a bridge of its own, which a patch cable joins to `br0`.
fn patch(grid: &Grid, n: usize, address: &str) -> Space {
    let (bridge, port) = (format!("br-patch{n}"), format!("b{n}"));
    let end = grid.end(&grid.sw, &port, address);
    let joined = format!(
        "add-port br0 to-b{n} -- set interface to-b{n} type=patch options:peer=to-br0{n} -- \
         add-port {bridge} to-br0{n} -- set interface to-br0{n} type=patch options:peer=to-b{n}"
    );
    grid.sw.vsctl(&format!("add-br {bridge} -- add-port {bridge} {port} -- {joined}"));
    end
}

fn tunnel(grid: &Grid, n: usize, address: &str, ty: &str) -> Space {
    let (port, to_end) = (format!("{ty}{n}"), format!("e-{ty}{n}"));
    let far = &grid.far[n];
    let end = grid.end(far, &to_end, address);
    for (host, bridge, remote) in [(&grid.sw, "br0", 2 * n + 1), (far, &*format!("br-{ty}"), 2 * n)] {
        host.vsctl(&format!("--may-exist add-br {bridge}"));
        host.vsctl(&format!(
            "add-port {bridge} {port} -- set interface {port} type={ty} options:remote_ip=192.0.2.{remote} options:key=7"
        ));
    }
    far.vsctl(&format!("add-port br-{ty} {to_end}"));
    end
}

#[test]
fn every_pair_of_port_kinds_carries_tcp_with_right_checksums() {
    let Some(grid) = Grid::open() else { return };
    let address = |kind: usize, n: usize| format!("10.0.{kind}.{}", n + 1);
    let attach =
        |(at, kind): (usize, &Kind)| [0, 1].map(|n| (kind.attach)(&grid, n, &format!("{}/16", address(at, n))));
    let ends: Vec<[Space; 2]> = KINDS.iter().enumerate().map(attach).collect();
    for (a, kind_a) in KINDS.iter().enumerate() {
        for (b, kind_b) in KINDS.iter().enumerate().skip(a) {
            let (one, other) = (&ends[a][0], &ends[b][1]);
            one.reaches(&address(b, 1));
            for (from, to, address) in [(one, other, address(b, 1)), (other, one, address(a, 0))] {
                let what = format!("{} and {}, from {} to {}", kind_a.name, kind_b.name, from.name, to.name);
                let watch = Watch::start(to, "eth0", &grid.lab.dir().join("watch"));
                let rate = from.tcp(to, &address, 1);
                watch.check(&what);
                eprintln!("{what}: {:.0} Mbit/s", rate / 1e6);
                assert!(rate > 1e6, "{what}: {:.1} Mbit/s", rate / 1e6);
            }
        }
    }
}
