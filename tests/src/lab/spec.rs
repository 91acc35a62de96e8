//! What a lab is made of: ports and bridges, in a few words each.

use datapath::port::Caps;
use datapath::switch::mtu::MtuPolicy;
use datapath::switch::routes::Gateway;
use datapath::switch::shape::{Limit, Limits};
use datapath::switch::state::{BridgeVlans, PortRules, PriorityTags, Service, Trunks, VlanMode};
use datapath::time::Duration;
use datapath::tunnel::{Protocol, Remotes, Route, Tunnel};
use datapath::types::{L3Mtu, TunnelKey, VlanId};
use std::net::{IpAddr, SocketAddr};

/// One port to be; by default a trunk of all VLANs on bridge `br0`, up, its device taking everything unfinished.
#[derive(Clone, Debug)]
pub struct PortSpec {
    /// Its name.
    pub name: &'static str,
    /// Its bridge.
    pub bridge: &'static str,
    /// How it treats VLANs.
    pub vlan: VlanMode,
    /// How it treats what leaves by it otherwise.
    pub rules: PortRules,
    /// Whether frames may pass.
    pub up: bool,
    /// What its device takes unfinished.
    pub caps: Caps,
    /// Set on a tunnel.
    pub tunnel: Option<Tunnel>,
    /// Set on a patch port: the other end.
    pub peer: Option<&'static str>,
    /// What it carries at most.
    pub mtu: Option<L3Mtu>,
    /// What becomes of larger packets.
    pub mtu_policy: MtuPolicy,
    /// How fast frames may come and go.
    pub limits: Limits,
}

/// A bridge's settings.
#[derive(Clone, Debug)]
pub struct BridgeSpec {
    /// How long a silent address is kept.
    pub mac_aging: Duration,
    /// How many are.
    pub mac_table_size: usize,
    /// Addresses that are where they are configured to be: VLAN, station, port.
    pub statics: Vec<(u16, &'static str, &'static str)>,
    /// Whether it forwards nothing.
    pub secure: bool,
    /// How it treats VLANs.
    pub vlans: BridgeVlans,
    /// Its mirrors.
    pub mirrors: Vec<MirrorSpec>,
    /// What it is known by as a router; its own port is the one with its name.
    pub gateway: Gateway,
}

impl Default for BridgeSpec {
    fn default() -> Self {
        let (mac_aging, vlans) = (Duration::from_secs(300), BridgeVlans::default());
        let gateway = Gateway { mac: super::mac("fe"), addresses: vec![] };
        Self { mac_aging, mac_table_size: 8192, statics: vec![], secure: false, vlans, mirrors: vec![], gateway }
    }
}

/// One mirror to be; see [`mirror`].
#[derive(Clone, Debug)]
pub struct MirrorSpec {
    /// Its name; its counters go on as long as the lab.
    pub name: &'static str,
    /// Whether it selects every port.
    pub all: bool,
    /// Ports that it copies arriving frames of.
    pub arriving: Vec<&'static str>,
    /// Ports that it copies leaving frames of.
    pub leaving: Vec<&'static str>,
    /// VLANs that it copies.
    pub vlans: Vec<u16>,
    /// The port that it copies to, or else a VLAN.
    pub output: Result<&'static str, u16>,
    /// Bytes that it copies of a frame.
    pub snaplen: Option<u16>,
}

/// A mirror to a port that selects nothing yet.
#[must_use]
pub fn mirror(name: &'static str, output: &'static str) -> MirrorSpec {
    let output = Ok(output);
    MirrorSpec { name, all: false, arriving: vec![], leaving: vec![], vlans: vec![], output, snaplen: None }
}

/// A mirror to a VLAN that selects nothing yet.
#[must_use]
pub fn mirror_to_vlan(name: &'static str, output: u16) -> MirrorSpec {
    MirrorSpec { output: Err(output), ..mirror(name, "") }
}

impl MirrorSpec {
    /// Of every port.
    #[must_use]
    pub fn all(mut self) -> Self {
        self.all = true;
        self
    }

    /// Of what arrives by this port, too.
    #[must_use]
    pub fn arriving(mut self, port: &'static str) -> Self {
        self.arriving.push(port);
        self
    }

    /// Of what leaves by this port, too.
    #[must_use]
    pub fn leaving(mut self, port: &'static str) -> Self {
        self.leaving.push(port);
        self
    }

    /// Of both.
    #[must_use]
    pub fn of(self, port: &'static str) -> Self {
        self.arriving(port).leaving(port)
    }

    /// Only what is in this VLAN, or in another that is named.
    #[must_use]
    pub fn vlan(mut self, vlan: u16) -> Self {
        self.vlans.push(vlan);
        self
    }

    /// Only so many bytes.
    #[must_use]
    pub fn snaplen(mut self, bytes: u16) -> Self {
        self.snaplen = Some(bytes);
        self
    }
}

/// An ordinary port with an in-memory device.
#[must_use]
pub fn port(name: &'static str) -> PortSpec {
    PortSpec {
        name,
        bridge: "br0",
        vlan: VlanMode::Trunk(Trunks::All),
        rules: PortRules::default(),
        up: true,
        caps: Caps::ALL,
        tunnel: None,
        peer: None,
        mtu: None,
        mtu_policy: MtuPolicy::default(),
        limits: Limits::default(),
    }
}

/// A VXLAN port.
///
/// # Panics
/// If the address is none.
#[must_use]
pub fn vxlan(name: &'static str, vni: u32, remote: &str) -> PortSpec {
    tunnel(name, Protocol::Vxlan, vni, remote)
}

/// A VXLAN port with several remote ends. What leaves for one of them is shown at `NAME@END`, as the ends are written here.
///
/// # Panics
/// If an address is none.
#[must_use]
pub fn multipoint<const N: usize>(name: &'static str, vni: u32, ends: [&'static str; N]) -> PortSpec {
    let mut spec = vxlan(name, vni, ends[0]);
    let ends = ends.map(|end| end.parse().expect("an IP address"));
    spec.tunnel.as_mut().expect("a tunnel").remotes = Some(Remotes::new(ends));
    spec
}

/// A Geneve port.
///
/// # Panics
/// If the address is none.
#[must_use]
pub fn geneve(name: &'static str, vni: u32, remote: &str) -> PortSpec {
    tunnel(name, Protocol::Geneve, vni, remote)
}

/// A GRE port; with key 0 it sends none.
///
/// # Panics
/// If the address is none.
#[must_use]
pub fn gre(name: &'static str, key: u32, remote: &str) -> PortSpec {
    tunnel(name, Protocol::Gre, key, remote)
}

/// An IP-in-IP port in VLAN 0, to which everything leads that is not for the bridge's own port.
///
/// # Panics
/// If the address is none.
#[must_use]
pub fn ipip(name: &'static str, remote: &str) -> PortSpec {
    tunnel(name, Protocol::Ipip, 0, remote).access(0)
}

/// An IP-in-IP port in VLAN 0 with these routes, each `(prefix, end)`. What leaves is shown at `NAME@END`.
///
/// # Panics
/// If one is none.
#[must_use]
pub fn ipip_by_routes<const N: usize>(name: &'static str, routes: [(&str, &str); N]) -> PortSpec {
    let route =
        |(to, via): (&str, &str)| Route { to: to.parse().expect("a prefix"), via: via.parse().expect("an end") };
    let routes = routes.map(route).to_vec();
    ipip(name, &routes[0].via.to_string()).tunnel_with(|tunnel| {
        tunnel.remotes = Some(Remotes::new(routes.iter().map(|route| route.via)));
        tunnel.routes = routes;
    })
}

fn tunnel(name: &'static str, protocol: Protocol, key: u32, remote: &str) -> PortSpec {
    let ip: IpAddr = remote.parse().expect("an IP address");
    let remote = SocketAddr::new(ip, protocol.udp_port().unwrap_or(0));
    PortSpec { tunnel: Some(Tunnel::new(protocol, remote, TunnelKey(key))), ..port(name) }
}

/// A patch port, one end of a connection between two bridges.
#[must_use]
pub fn patch(name: &'static str, peer: &'static str) -> PortSpec {
    PortSpec { peer: Some(peer), ..port(name) }
}

/// A VLAN.
///
/// # Panics
/// Above 4095.
#[must_use]
pub fn vlan_id(vlan: u16) -> VlanId {
    VlanId::new(vlan).expect("12 bits")
}

fn only<const N: usize>(vlans: [u16; N]) -> Trunks {
    if vlans.is_empty() { Trunks::All } else { Trunks::Only(vlans.into_iter().map(vlan_id).collect()) }
}

impl PortSpec {
    /// On this bridge.
    #[must_use]
    pub fn on(mut self, bridge: &'static str) -> Self {
        self.bridge = bridge;
        self
    }

    /// An access port.
    #[must_use]
    pub fn access(mut self, vlan: u16) -> Self {
        self.vlan = VlanMode::Access(vlan_id(vlan));
        self
    }

    /// A trunk of these VLANs, or of all if none is named.
    #[must_use]
    pub fn trunk<const N: usize>(mut self, vlans: [u16; N]) -> Self {
        self.vlan = VlanMode::Trunk(only(vlans));
        self
    }

    /// A native-tagged port.
    #[must_use]
    pub fn native_tagged<const N: usize>(mut self, native: u16, trunks: [u16; N]) -> Self {
        self.vlan = VlanMode::NativeTagged(vlan_id(native), only(trunks));
        self
    }

    /// A native-untagged port.
    #[must_use]
    pub fn native_untagged<const N: usize>(mut self, native: u16, trunks: [u16; N]) -> Self {
        self.vlan = VlanMode::NativeUntagged(vlan_id(native), only(trunks));
        self
    }

    /// A dot1q-tunnel port that takes these VLANs of the customer, or all if none is named; its service tags are 802.1ad's.
    #[must_use]
    pub fn dot1q_tunnel<const N: usize>(mut self, service: u16, cvlans: [u16; N]) -> Self {
        let service = Service { vlan: vlan_id(service), customers: only(cvlans), tpid: 0x88a8 };
        self.vlan = VlanMode::Dot1qTunnel(service);
        self
    }

    /// With these rules for priority tags.
    #[must_use]
    pub fn priority_tags(mut self, tags: PriorityTags) -> Self {
        self.rules.priority_tags = tags;
        self
    }

    /// Protected.
    #[must_use]
    pub fn protected(mut self) -> Self {
        self.rules.protected = true;
        self
    }

    /// Down.
    #[must_use]
    pub fn down(mut self) -> Self {
        self.up = false;
        self
    }

    /// With a device that takes only this unfinished.
    #[must_use]
    pub fn caps(mut self, caps: Caps) -> Self {
        self.caps = caps;
        self
    }

    /// Carrying packets up to this size.
    #[must_use]
    pub fn mtu(mut self, mtu: u32) -> Self {
        self.mtu = Some(L3Mtu(mtu));
        self
    }

    /// With this policy for larger packets.
    #[must_use]
    pub fn mtu_policy(mut self, policy: MtuPolicy) -> Self {
        self.mtu_policy = policy;
        self
    }

    /// With a limit on the way in.
    #[must_use]
    pub fn ingress(mut self, limit: Limit) -> Self {
        self.limits.ingress = Some(limit);
        self
    }

    /// With a limit on the way out.
    #[must_use]
    pub fn egress(mut self, limit: Limit) -> Self {
        self.limits.egress = Some(limit);
        self
    }

    /// A tunnel that accepts only what is sent to this address of ours.
    ///
    /// # Panics
    /// If it is no tunnel or no address.
    #[must_use]
    pub fn local(self, local: &str) -> Self {
        let local: IpAddr = local.parse().expect("an IP address");
        self.tunnel_with(|tunnel| tunnel.local = Some(local))
    }

    /// A tunnel with other settings.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn tunnel_with(mut self, change: impl FnOnce(&mut Tunnel)) -> Self {
        change(self.tunnel.as_mut().expect("a tunnel"));
        self
    }
}
