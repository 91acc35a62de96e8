//! Two hosts and two tenants that use the same addresses: the lab of the demo, for tests.
//!
//! ```text
//!  a1 192.168.60.11 ─ vmA1-sw ┐                                    ┌ vmA2-sw ─ a2 192.168.60.12
//!                             host1 10.2.7.200 ══ 10.2.7.201 host2
//!  b1 192.168.60.11 ─ vmB1-sw ┘         MTU 1500 everywhere        └ vmB2-sw ─ b2 192.168.60.12
//! ```

use crate::netns::{Host, Lab, Space};

/// The lab: hosts with a running but unconfigured `vswitch`, and their pods.
pub struct TwoHosts {
    /// host1 and host2.
    pub hosts: [Host; 2],
    /// Tenant A's pods, on host1 and on host2.
    pub a: [Space; 2],
    /// Tenant B's pods.
    pub b: [Space; 2],
    /// Last, so that it is dropped last.
    pub lab: Lab,
}

impl TwoHosts {
    /// Builds it; `None` where [`Lab::open`] says so.
    #[must_use]
    pub fn open() -> Option<Self> {
        let lab = Lab::open()?;
        let hosts = [lab.host("host1"), lab.host("host2")];
        lab.cable(&hosts[0], "eth0", &hosts[1], "eth0");
        hosts[0].run("ip addr add 10.2.7.200/24 dev eth0");
        hosts[1].run("ip addr add 10.2.7.201/24 dev eth0");
        let pods = |tenant: &str| {
            [1, 2].map(|n| {
                let (name, port) = (format!("pod{tenant}{n}"), format!("vm{tenant}{n}-sw"));
                lab.pod(&name, &hosts[n - 1], &port, &format!("192.168.60.1{n}/24"))
            })
        };
        Some(Self { a: pods("A"), b: pods("B"), hosts, lab })
    }

    /// The commands that configure host `n` (0 or 1), as arguments of `ovs-vsctl` and so of `vsctl`.
    #[must_use]
    pub fn commands(n: usize) -> Vec<String> {
        let remote = ["10.2.7.201", "10.2.7.200"][n];
        let tenant = |name: &str, key: u32| {
            let set = format!("set interface vxlan{name} type=vxlan options:remote_ip={remote} options:key={key}");
            [
                format!("add-br tenant{name}"),
                format!("add-port tenant{name} vm{name}{}-sw", n + 1),
                format!("add-port tenant{name} vxlan{name} -- {set}"),
            ]
        };
        [tenant("A", 5000), tenant("B", 6000)].concat()
    }

    /// Configures both hosts with `vsctl`.
    pub fn configure(&self) {
        for (n, host) in self.hosts.iter().enumerate() {
            for command in Self::commands(n) {
                host.vsctl(&command);
            }
        }
    }

    /// Both tenants' pods reach their own other half, and nobody else has answered for it.
    ///
    /// # Panics
    /// If not.
    pub fn check_tenants(&self) {
        for [near, far] in [&self.a, &self.b] {
            near.reaches("192.168.60.12");
            let owner = far.run("cat /sys/class/net/eth0/address");
            let learned = near.run("ip neigh show 192.168.60.12");
            assert!(learned.contains(owner.trim()), "{} learned {learned}, not {owner}", near.name);
        }
    }
}
