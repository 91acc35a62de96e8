//! A walk-through that people follow with Open vSwitch, replayed command by command on `vswitch`: two hosts, two tenants,
//! tunnels, an internal port, a mirror, patch ports, GRE. Every command is typed as it stands there, with the real `ovs-vsctl` and with
//! `vsctl` in its place; pings, listings and what is on the underlay are what is shown there.
//!
//! The addresses of the "virtual machines" are on the hosts themselves, as there.

use std::path::Path;
use vswitch_tests::netns::{Host, Lab};
use vswitch_tests::ovs::Ovs;
use vswitch_tests::process::{Done, eventually, program};

/// The two hosts and the tool in hand.
struct Tour {
    hosts: [Host; 2],
    tool: &'static str,
    path: String,
    lab: Lab,
}

/// k8s01 and k8s02.
const K8S01: usize = 0;
const K8S02: usize = 1;

impl Tour {
    fn open(tool: &'static str) -> Option<Self> {
        let (lab, ovs) = (Lab::open()?, Ovs::find()?);
        let hosts = [lab.host("k8s01"), lab.host("k8s02")];
        lab.cable(&hosts[0], "eth0", &hosts[1], "eth0");
        for (n, host) in hosts.iter().enumerate() {
            host.run(&format!("ip addr add 10.2.7.20{n}/24 dev eth0"));
        }
        let dir = |path: &Path| path.parent().map(|d| d.display().to_string()).unwrap_or_default();
        let path = format!("{}:{}", dir(&program("vsctl")), dir(Path::new(&ovs.path("ovs-vsctl"))));
        Some(Self { hosts, tool, path, lab })
    }

    /// Types a line into the shell of a host; where it says `ovs-vsctl`, the tool in hand is used. Both find the switch
    /// by their environment.
    fn try_typed(&self, at: usize, line: &str) -> Done {
        let host = &self.hosts[at];
        let socket = host.socket();
        let rundir = socket.parent().unwrap_or(Path::new("/")).display();
        let line = line.replace("ovs-vsctl", self.tool);
        let environment = format!(
            "OVS_RUNDIR={rundir} VSWITCH_SOCKET={} PATH={}:/usr/sbin:/usr/bin:/sbin:/bin",
            socket.display(),
            self.path
        );
        host.try_run(&format!("env {environment} bash -c {}", line.replace(' ', "\u{a0}")))
    }

    /// The same for one that must succeed; its output.
    fn typed(&self, at: usize, line: &str) -> String {
        self.try_typed(at, line).output()
    }

    /// `ping -c 2` at a host is answered: both, once the first has found its way.
    fn pings(&self, at: usize, address: &str) {
        self.hosts[at].reaches(address);
        let text = self.typed(at, &format!("ping -c 2 -i 0.3 {address}"));
        assert!(
            text.contains("2 received, 0% packet loss") && text.contains(&format!("from {address}: icmp_seq=2")),
            "{text}"
        );
    }

    /// It is not, and the host says so as there.
    fn pings_nobody(&self, at: usize, address: &str) {
        let done = self.try_typed(at, &format!("ping -c 2 {address}"));
        assert!(!done.ok() && done.stdout.contains("Destination Host Unreachable"), "{done}");
        assert!(done.stdout.contains("0 received, +2 errors, 100% packet loss"), "{done}");
    }

    /// What `ovs-vsctl show` says, besides the database's name and the version: the lines of the walk-through, which
    /// come in no certain order.
    fn shows(&self, at: usize, expected: &str) {
        let text = self.typed(at, "ovs-vsctl show");
        let lines = |text: &str| {
            let mut lines: Vec<String> =
                text.lines().map(|l| l.trim().replace('"', "")).filter(|l| !l.is_empty()).collect();
            lines.sort();
            lines
        };
        let shown: Vec<&str> = text.lines().skip(1).filter(|l| !l.trim().starts_with("ovs_version")).collect();
        assert_eq!(lines(&shown.join("\n")), lines(expected), "{text}");
        assert!(text.contains("ovs_version: \"vswitch "), "{text}");
    }

    /// What tcpdump shows at a host's device while `pinger` pings `address`: its first `count` lines with `word`.
    fn watched(&self, at: usize, tcpdump: &str, word: &str, count: usize, (pinger, address): (usize, &str)) -> String {
        let log = self.lab.dir().join("tcpdump");
        let wire = self.hosts[at].spawn(&format!("{tcpdump} -l"), &log);
        eventually("tcpdump listens", || wire.log().contains("listening on").then_some(()).ok_or_else(|| wire.log()));
        let _ping = self.hosts[pinger].spawn(&format!("ping -i 0.3 {address}"), Path::new("/dev/null"));
        eventually(&format!("{count} lines with {word}"), || {
            let text = wire.log();
            if text.lines().filter(|l| l.contains(word)).count() >= count { Ok(text) } else { Err(text) }
        })
    }

    /// Veth pairs as virtual machines, bridges as virtual switches, the ones plugged into the others.
    fn bridges_and_ports(&self) {
        for at in [K8S01, K8S02] {
            let n = at + 1;
            for (vm, net) in [("vmA", 60), ("vmB", 70)] {
                self.typed(at, &format!("ip link add dev {vm}{n}-sw type veth peer name {vm}{n}"));
                self.typed(at, &format!("ip link set {vm}{n}-sw up"));
                self.typed(at, &format!("ip link set {vm}{n} up"));
                self.typed(at, &format!("ip addr add 192.168.{net}.1{n}/24 dev {vm}{n}"));
            }
            for line in ["ovs-vsctl add-br tenantA", "ovs-vsctl add-br tenantB"] {
                assert_eq!(self.typed(at, line), "");
            }
            for tenant in ["A", "B"] {
                assert_eq!(self.typed(at, &format!("ovs-vsctl add-port tenant{tenant} vm{tenant}{n}-sw")), "");
            }
            self.shows(at, &format!("{}{}", tenant("A", n, ""), tenant("B", n, "")));
        }
        self.pings_nobody(K8S02, "192.168.60.11");
        self.pings_nobody(K8S02, "192.168.70.11");
    }

    fn tunnels(&self) {
        for (at, remote) in [(K8S01, "10.2.7.201"), (K8S02, "10.2.7.200")] {
            let mut blocks = String::new();
            for (name, key) in [("A", 5000), ("B", 6000)] {
                let set = format!("set interface vxlan{name} type=vxlan options:remote_ip={remote} options:key={key}");
                assert_eq!(self.typed(at, &format!("ovs-vsctl add-port tenant{name} vxlan{name} -- {set}")), "");
                blocks += &tenant(name, at + 1, &vxlan(name, remote, key));
            }
            self.shows(at, &blocks);
        }
        self.pings(K8S02, "192.168.60.11");
        self.pings(K8S02, "192.168.70.11");
    }

    /// `list bridge`: all columns with what they hold there.
    fn listings(&self) {
        let both = self.typed(K8S01, "ovs-vsctl list bridge");
        assert_eq!(both.lines().filter(|l| l.starts_with("_uuid ")).count(), 2, "{both}");
        let text = self.typed(K8S01, "ovs-vsctl list bridge tenantA");
        let rows: Vec<(&str, &str)> =
            text.lines().filter_map(|l| l.split_once(':')).map(|(c, v)| (c.trim(), v.trim())).collect();
        let expected = "_uuid auto_attach=[] controller=[] datapath_id datapath_type=\"\" datapath_version external_ids={} \
             fail_mode=[] flood_vlans=[] flow_tables={} ipfix=[] mcast_snooping_enable=false mirrors=[] name=tenantA \
             netflow=[] other_config={} ports protocols=[] rstp_enable=false rstp_status={} sflow=[] status={} \
             stp_enable=false";
        for ((column, value), expected) in rows.iter().zip(expected.split_whitespace()) {
            match expected.split_once('=') {
                Some((name, held)) => assert_eq!((*column, *value), (name, held)),
                None => assert!(*column == expected && value.len() > 3, "{column}: {value}"),
            }
        }
        assert_eq!(rows.len(), expected.split_whitespace().count(), "{text}");
        let ports = rows.iter().find(|(column, _)| *column == "ports").map(|(_, ports)| ports.split(',').count());
        assert_eq!(ports, Some(3), "{text}");
    }

    fn internal_port(&self) {
        assert_eq!(
            self.typed(K8S01, "ovs-vsctl add-port tenantA internalPort -- set interface internalPort type=internal"),
            ""
        );
        self.typed(K8S01, "ip addr add 192.168.60.50/24 dev internalPort");
        self.typed(K8S01, "ip link set internalPort up");
        self.pings(K8S02, "192.168.60.50");
        let internal = "Port internalPort\nInterface internalPort\ntype: internal\n";
        let a = vxlan("A", "10.2.7.201", 5000) + internal;
        let b = vxlan("B", "10.2.7.201", 6000);
        self.shows(K8S01, &(tenant("A", 1, &a) + &tenant("B", 1, &b)));
        let links = self.typed(K8S01, "ip link | grep tenant");
        let lines: Vec<&str> = links.lines().collect();
        assert_eq!(lines.len(), 2, "{links}");
        // There it is 1500, more than the tunnels carry; here what they do.
        for (line, name) in lines.iter().zip(["tenantA", "tenantB"]) {
            assert!(
                line.contains(&format!(" {name}: <BROADCAST,MULTICAST> mtu 1450")) && line.contains("state DOWN"),
                "{line}"
            );
        }
    }

    /// A mirror of all that a virtual machine sends and receives, and an end of it.
    fn mirror(&self) {
        self.typed(K8S01, "ovs-vsctl add-port tenantA mirrorPort -- set interface mirrorPort type=internal");
        let made = self.typed(
            K8S01,
            "ovs-vsctl --id=@vmA1-sw get port vmA1-sw -- \\\n\
             --id=@mirrorPort get port mirrorPort -- \\\n\
             --id=@mirror create mirror name=mirror \\\n\
             select-dst-port=@vmA1-sw select-src-port=@vmA1-sw output-port=@mirrorPort -- \\\n\
             set bridge tenantA mirrors=@mirror",
        );
        let made = made.trim();
        assert!(made.len() == 36 && made.split('-').map(str::len).eq([8, 4, 4, 4, 12]), "{made}");
        self.typed(K8S01, "ip link set mirrorPort up");
        let command = "tcpdump -n -c 6 -i mirrorPort icmp";
        let text = self.watched(K8S01, command, "ICMP echo", 6, (K8S02, "192.168.60.11"));
        let asked = text.matches("IP 192.168.60.12 > 192.168.60.11: ICMP echo request").count();
        let answered = text.matches("IP 192.168.60.11 > 192.168.60.12: ICMP echo reply").count();
        assert_eq!((asked, answered), (3, 3), "each packet once: {text}");
        self.typed(K8S01, "ovs-vsctl clear bridge tenantA mirrors");
        self.typed(K8S01, "ovs-vsctl del-port mirrorPort");
        assert_eq!(self.typed(K8S01, "ovs-vsctl list mirror"), "");
        self.pings(K8S02, "192.168.60.11");
    }

    /// Another bridge on each host, joined to tenant A's by a patch cable; a port of it in a VLAN.
    fn patch_ports(&self) {
        for at in [K8S01, K8S02] {
            self.typed(at, "ovs-vsctl add-br tenantC");
            self.typed(at, &format!("ip addr add 192.168.80.1{}/24 dev tenantC", at + 1));
            self.typed(at, "ip link set tenantC up");
        }
        self.pings_nobody(K8S02, "192.168.80.11");
        for at in [K8S01, K8S02] {
            let line = "ovs-vsctl add-port tenantC patchC -- \\\n\
                 add-port tenantA patchA -- \\\n\
                 set interface patchC type=patch options:peer=patchA -- \\\n\
                 set interface patchA type=patch options:peer=patchC";
            assert_eq!(self.typed(at, line), "");
        }
        self.pings(K8S02, "192.168.80.11");
        for at in [K8S01, K8S02] {
            let set = "set interface vlanPortC type=internal";
            self.typed(at, &format!("ovs-vsctl add-port tenantC vlanPortC tag=10 -- \\\n{set}"));
            self.typed(at, &format!("ip addr add 192.168.90.1{}/24 dev vlanPortC", at + 1));
            self.typed(at, "ip link set vlanPortC up");
        }
        self.pings(K8S02, "192.168.90.11");
        let echo = "192.168.90.12 > 192.168.90.11: ICMP echo request";
        let text = self.watched(K8S01, "tcpdump -i eth0 -n", echo, 2, (K8S02, "192.168.90.11"));
        let lines: Vec<&str> = text.lines().collect();
        let outer: Vec<_> = lines.windows(2).filter(|w| w[1].contains(echo)).map(|w| w[0]).collect();
        assert!(outer.iter().all(|l| l.ends_with("VXLAN, flags [I] (0x08), vni 5000")), "{text}");
        for at in [K8S01, K8S02] {
            self.typed(at, "ovs-vsctl del-port patchC");
            self.typed(at, "ovs-vsctl del-port patchA");
        }
        self.hosts[K8S02].run("ip neigh flush all");
        self.pings_nobody(K8S02, "192.168.90.11");
    }

    /// What joined the bridges by patch ports and tenant A's tunnel is joined by GRE.
    fn gre(&self) {
        for (at, remote) in [(K8S01, "10.2.7.201"), (K8S02, "10.2.7.200")] {
            let set = format!("set interface greC type=gre options:remote_ip={remote}");
            assert_eq!(self.typed(at, &format!("ovs-vsctl add-port tenantC greC -- {set}")), "");
        }
        self.pings(K8S02, "192.168.90.11");
        let echo = "192.168.90.12 > 192.168.90.11: ICMP echo request";
        let text = self.watched(K8S01, "tcpdump -n -i eth0", echo, 2, (K8S02, "192.168.90.11"));
        let requests: Vec<_> = text.lines().filter(|l| l.contains(echo)).collect();
        let outer = "IP 10.2.7.201 > 10.2.7.200: GREv0, length 106: IP ";
        assert!(requests.iter().all(|l| l.contains(outer)), "{text}");
    }

    /// What goes over eth0 is VXLAN with the tenant's key.
    fn on_the_underlay(&self) {
        let command = "tcpdump -i eth0 host 10.2.7.201 -n";
        let text = self.watched(K8S01, command, "ICMP echo", 4, (K8S02, "192.168.60.11"));
        let lines: Vec<&str> = text.lines().collect();
        let pairs: Vec<_> = lines.windows(2).filter(|w| w[1].contains("ICMP echo")).collect();
        for (outer, inner) in pairs.iter().map(|w| (w[0], w[1])) {
            let request = inner.contains("IP 192.168.60.12 > 192.168.60.11: ICMP echo request");
            let (from, to) =
                if request { ("10.2.7.201.", "> 10.2.7.200.4789:") } else { ("10.2.7.200.", "> 10.2.7.201.4789:") };
            assert!(request || inner.contains("IP 192.168.60.11 > 192.168.60.12: ICMP echo reply"), "{text}");
            assert!(outer.contains(from) && outer.contains(to), "{text}");
            assert!(outer.ends_with("VXLAN, flags [I] (0x08), vni 5000"), "{text}");
        }
    }
}

/// A bridge in `show`, with what else it has.
fn tenant(name: &str, n: usize, more: &str) -> String {
    format!(
        "Bridge tenant{name}\nPort tenant{name}\nInterface tenant{name}\ntype: internal\n\
         Port \"vm{name}{n}-sw\"\nInterface \"vm{name}{n}-sw\"\n{more}"
    )
}

fn vxlan(name: &str, remote: &str, key: u32) -> String {
    format!(
        "Port vxlan{name}\nInterface vxlan{name}\ntype: vxlan\noptions: {{key=\"{key}\", remote_ip=\"{remote}\"}}\n"
    )
}

fn replay(tool: &'static str) {
    let Some(tour) = Tour::open(tool) else { return };
    tour.bridges_and_ports();
    tour.tunnels();
    tour.listings();
    tour.internal_port();
    tour.mirror();
    tour.on_the_underlay();
    tour.patch_ports();
    tour.gre();
}

#[test]
fn with_ovs_vsctl() {
    replay("ovs-vsctl");
}

#[test]
fn with_vsctl() {
    replay("vsctl");
}
