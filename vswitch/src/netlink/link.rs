//! What is known about the kernel's network interfaces: a table kept true by rtnetlink messages.
//!
//! Pure: messages in, table out; nothing here talks to the kernel. The table is this network namespace's only.
//!
//! What others may try: anybody who may configure the network can create, rename and remove devices at any rate; the
//! table holds one small entry a device and nothing else grows.

use super::ethtool::LinkMode;
use datapath::types::MacAddr;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;

/// One network interface.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// The kernel's number of it, in this namespace.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its layer-3 MTU in bytes; 0 if unknown.
    pub mtu: u32,
    /// Its hardware address.
    pub mac: Option<MacAddr>,
    /// `IFF_UP`: somebody wants it up.
    pub admin_up: bool,
    /// `IFF_LOWER_UP`: it has a carrier.
    pub carrier: bool,
    /// Its driver's name for its kind (`veth`, `tun`, …); `None` for hardware.
    pub kind: Option<String>,
    /// Whether it carries Ethernet frames.
    pub ethernet: bool,
    /// The device it is enslaved to (a Linux bridge, a bond).
    pub master: Option<u32>,
    /// The other end of a veth.
    pub peer: Option<Peer>,
    /// The device in this namespace that it is on top of (a VLAN's, a macvlan's).
    pub lower: Option<u32>,
    /// How often the carrier has come or gone since the device was first seen.
    pub link_resets: u32,
    /// The kernel's count of that when the device was first seen.
    carrier_changes: Option<u32>,
}

impl Link {
    /// Whether frames can pass.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.admin_up && self.carrier
    }
}

/// The other end of a veth, by number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Peer {
    /// Its ifindex, in its own namespace.
    pub ifindex: u32,
    /// The kernel's number of that namespace in ours; `None`: it is ours.
    pub space: Option<i32>,
}

/// The other end of a veth, as far as it can be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FarEnd {
    /// Its name.
    pub name: String,
    /// Its MTU.
    pub mtu: u32,
    /// The namespace it is in; `None`: ours.
    pub space: Option<i32>,
}

/// An address of an interface, as `ip` writes it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Address {
    /// The address.
    pub ip: IpAddr,
    /// Bits of its network.
    pub prefix_len: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.prefix_len)
    }
}

/// The interfaces by number and by name, and their addresses.
#[derive(Clone, Default, Debug)]
pub struct LinkTable {
    links: BTreeMap<u32, Link>,
    names: HashMap<String, u32>,
    addresses: BTreeMap<u32, BTreeSet<Address>>,
    modes: BTreeMap<u32, LinkMode>,
    /// Those in other namespaces, by our end; `None`: it cannot be read.
    far_ends: BTreeMap<u32, Option<FarEnd>>,
}

impl LinkTable {
    /// The interface called `name`.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.links.get(self.names.get(name)?)
    }

    /// The interface numbered `ifindex`.
    #[must_use]
    pub fn by_index(&self, ifindex: u32) -> Option<&Link> {
        self.links.get(&ifindex)
    }

    /// The interface's addresses that hosts may be talking to: all but link-local ones, which every device that is up
    /// has by itself.
    pub fn addresses(&self, ifindex: u32) -> impl Iterator<Item = &Address> {
        self.addresses.get(&ifindex).into_iter().flatten()
    }

    /// The devices on top of an interface.
    pub fn on_top_of(&self, ifindex: u32) -> impl Iterator<Item = &Link> {
        self.links.values().filter(move |link| link.lower == Some(ifindex))
    }

    /// The interface's link mode, if somebody has asked for it since the interface last changed.
    #[must_use]
    pub fn mode(&self, ifindex: u32) -> Option<LinkMode> {
        self.modes.get(&ifindex).copied()
    }

    /// Keeps an interface's link mode until the interface changes.
    pub fn set_mode(&mut self, ifindex: u32, mode: LinkMode) {
        if self.links.contains_key(&ifindex) {
            self.modes.insert(ifindex, mode);
        }
    }

    /// The other end of a veth, where it is in this namespace or somebody has asked for it.
    #[must_use]
    pub fn far_end(&self, link: &Link) -> Option<Cow<'_, FarEnd>> {
        match link.peer? {
            Peer { space: Some(_), .. } => self.far_ends.get(&link.ifindex)?.as_ref().map(Cow::Borrowed),
            Peer { ifindex, space: None } => {
                let far = self.links.get(&ifindex)?;
                Some(Cow::Owned(FarEnd { name: far.name.clone(), mtu: far.mtu, space: None }))
            }
        }
    }

    /// Whether the other end of a veth is in another namespace and nobody has asked for it since our end last changed.
    #[must_use]
    pub fn is_far_end_unknown(&self, link: &Link) -> bool {
        link.peer.is_some_and(|peer| peer.space.is_some()) && !self.far_ends.contains_key(&link.ifindex)
    }

    /// The veths whose other end has been asked for, from behind `ifindex` on in the order of their numbers.
    pub fn far_ends_after(&self, ifindex: u32) -> impl Iterator<Item = (u32, Peer)> {
        let asked = self.far_ends.range(ifindex + 1..).map(|(ifindex, _)| *ifindex);
        asked.filter_map(|ifindex| Some((ifindex, self.links.get(&ifindex)?.peer?)))
    }

    /// Keeps the other end of a veth until our end changes; whether it is news.
    pub fn set_far_end(&mut self, ifindex: u32, far: Option<FarEnd>) -> bool {
        self.links.contains_key(&ifindex) && self.far_ends.insert(ifindex, far.clone()) != Some(far)
    }

    /// Takes a message in; whether anything changed.
    pub fn apply(&mut self, message: &RouteNetlinkMessage) -> bool {
        match message {
            RouteNetlinkMessage::NewLink(m) => self.link_is(m),
            RouteNetlinkMessage::DelLink(m) => self.link_gone(m),
            RouteNetlinkMessage::NewAddress(m) => match address_of(m) {
                Some(a) => self.addresses.entry(m.header.index).or_default().insert(a),
                None => false,
            },
            RouteNetlinkMessage::DelAddress(m) => match (address_of(m), self.addresses.get_mut(&m.header.index)) {
                (Some(a), Some(set)) => set.remove(&a),
                _ => false,
            },
            _ => false,
        }
    }

    fn link_is(&mut self, m: &LinkMessage) -> bool {
        // A Linux bridge tells about its ports in messages of its own family, which say nothing about the device.
        if m.header.interface_family != AddressFamily::Unspec {
            return false;
        }
        let ifindex = m.header.index;
        let old = self.links.remove(&ifindex);
        let new = merge(old.clone(), m);
        let changed = old.as_ref() != Some(&new);
        if changed {
            self.modes.remove(&ifindex);
            self.far_ends.remove(&ifindex);
        }
        if let Some(old) = old.filter(|old| old.name != new.name)
            && self.names.get(&old.name) == Some(&ifindex)
        {
            self.names.remove(&old.name);
        }
        self.names.insert(new.name.clone(), ifindex);
        self.links.insert(ifindex, new);
        changed
    }

    fn link_gone(&mut self, m: &LinkMessage) -> bool {
        if m.header.interface_family != AddressFamily::Unspec {
            return false;
        }
        let ifindex = m.header.index;
        self.addresses.remove(&ifindex);
        self.modes.remove(&ifindex);
        self.far_ends.remove(&ifindex);
        let Some(old) = self.links.remove(&ifindex) else { return false };
        if self.names.get(&old.name) == Some(&ifindex) {
            self.names.remove(&old.name);
        }
        true
    }
}

/// The link as `m` tells it; what `m` leaves out stays as it was.
fn merge(old: Option<Link>, m: &LinkMessage) -> Link {
    let mut link = old.unwrap_or_else(|| Link {
        ifindex: m.header.index,
        name: String::new(),
        mtu: 0,
        mac: None,
        admin_up: false,
        carrier: false,
        kind: None,
        ethernet: false,
        master: None,
        peer: None,
        lower: None,
        link_resets: 0,
        carrier_changes: None,
    });
    link.admin_up = m.header.flags.contains(LinkFlags::Up);
    link.carrier = m.header.flags.contains(LinkFlags::LowerUp);
    link.ethernet = m.header.link_layer_type == LinkLayerType::Ether;
    // A full message tells of a device that leaves its master by leaving the attribute out.
    let full = m.attributes.iter().any(|a| matches!(a, LinkAttribute::Mtu(_)));
    let (mut below, mut space) = (None, None);
    if full {
        link.master = None;
    }
    for attribute in &m.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(mac) => link.mac = <[u8; 6]>::try_from(mac.as_slice()).ok().map(MacAddr),
            LinkAttribute::Controller(master) => link.master = Some(*master).filter(|&m| m != 0),
            LinkAttribute::Link(ifindex) => below = Some(*ifindex),
            LinkAttribute::LinkNetNsId(id) => space = Some(*id),
            LinkAttribute::CarrierChanges(n) => {
                link.link_resets = n.saturating_sub(*link.carrier_changes.get_or_insert(*n));
            }
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    if let LinkInfo::Kind(kind) = info {
                        link.kind = Some(kind.to_string());
                    }
                }
            }
            _ => {}
        }
    }
    // Of other kinds, IFLA_LINK is the device below.
    if full {
        let veth = link.kind.as_deref() == Some("veth");
        link.peer = below.filter(|_| veth).map(|ifindex| Peer { ifindex, space });
        link.lower = below.filter(|_| !veth && space.is_none());
    }
    link
}

/// The address in `m`, if it is one that [`LinkTable::addresses`] lists.
fn address_of(m: &AddressMessage) -> Option<Address> {
    if m.header.scope == AddressScope::Link {
        return None;
    }
    let mut ip = None;
    for attribute in &m.attributes {
        match attribute {
            // IFA_LOCAL is ours; IFA_ADDRESS is the far end's on a point-to-point link, and ours elsewhere.
            AddressAttribute::Local(a) => ip = Some(*a),
            AddressAttribute::Address(a) => ip = ip.or(Some(*a)),
            _ => {}
        }
    }
    Some(Address { ip: ip?, prefix_len: m.header.prefix_len })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rtnetlink::packet_route::link::InfoKind;

    /// A NEWLINK message of a veth that is up.
    pub(crate) fn veth(ifindex: u32, name: &str) -> LinkMessage {
        let mut m = LinkMessage::default();
        m.header.index = ifindex;
        m.header.link_layer_type = LinkLayerType::Ether;
        m.header.flags = LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running;
        m.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Mtu(1500),
            LinkAttribute::Address(vec![2, 0, 0, 0, 0, u8::try_from(ifindex).unwrap()]),
            LinkAttribute::CarrierChanges(2),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]),
        ];
        m
    }

    /// A message that adds an address.
    pub(crate) fn address(ifindex: u32, ip: &str, prefix_len: u8, scope: AddressScope) -> AddressMessage {
        let mut m = AddressMessage::default();
        m.header.index = ifindex;
        m.header.prefix_len = prefix_len;
        m.header.scope = scope;
        m.attributes = vec![AddressAttribute::Address(ip.parse().unwrap())];
        m
    }

    #[test]
    fn a_link_comes_changes_is_renamed_and_goes() {
        let mut t = LinkTable::default();
        assert!(t.apply(&RouteNetlinkMessage::NewLink(veth(3, "p1"))));
        assert!(!t.apply(&RouteNetlinkMessage::NewLink(veth(3, "p1"))), "the same again changes nothing");
        let link = t.by_name("p1").unwrap();
        assert_eq!((link.ifindex, link.mtu, link.kind.as_deref(), link.is_up()), (3, 1500, Some("veth"), true));
        assert_eq!(link.mac, Some(MacAddr([2, 0, 0, 0, 0, 3])));

        let mut down = veth(3, "p1");
        down.header.flags = LinkFlags::Up;
        assert!(t.apply(&RouteNetlinkMessage::NewLink(down)));
        assert!(!t.by_name("p1").unwrap().is_up(), "up without a carrier is down");

        assert!(t.apply(&RouteNetlinkMessage::NewLink(veth(3, "p2"))));
        assert!(t.by_name("p1").is_none() && t.by_name("p2").is_some());
        assert!(t.apply(&RouteNetlinkMessage::DelLink(veth(3, "p2"))));
        assert!(t.by_name("p2").is_none() && t.by_index(3).is_none());
        assert!(!t.apply(&RouteNetlinkMessage::DelLink(veth(3, "p2"))));
    }

    #[test]
    fn link_resets_count_from_when_the_device_was_first_seen() {
        let mut t = LinkTable::default();
        let message = |changes| {
            let mut m = veth(3, "p1");
            m.attributes.retain(|a| !matches!(a, LinkAttribute::CarrierChanges(_)));
            m.attributes.extend(changes);
            RouteNetlinkMessage::NewLink(m)
        };
        for (changes, resets) in [(None, 0), (Some(7), 0), (Some(9), 2), (None, 2), (Some(10), 3)] {
            t.apply(&message(changes.map(LinkAttribute::CarrierChanges)));
            assert_eq!(t.by_name("p1").unwrap().link_resets, resets, "{changes:?}");
        }
        t.apply(&RouteNetlinkMessage::DelLink(veth(3, "p1")));
        t.apply(&message(Some(LinkAttribute::CarrierChanges(20))));
        assert_eq!(t.by_name("p1").unwrap().link_resets, 0, "another device");
    }

    #[test]
    fn a_link_mode_is_known_until_the_device_changes() {
        let mut t = LinkTable::default();
        let mode = LinkMode { speed: Some(10_000_000_000), full_duplex: Some(true) };
        t.set_mode(3, mode);
        t.apply(&RouteNetlinkMessage::NewLink(veth(3, "p1")));
        assert_eq!(t.mode(3), None, "there was no such device");
        t.set_mode(3, mode);
        t.apply(&RouteNetlinkMessage::NewLink(veth(3, "p1")));
        assert_eq!(t.mode(3), Some(mode));
        let mut down = veth(3, "p1");
        down.header.flags = LinkFlags::Up;
        t.apply(&RouteNetlinkMessage::NewLink(down));
        assert_eq!(t.mode(3), None, "with its carrier, its speed may have changed");
        t.set_mode(3, mode);
        t.apply(&RouteNetlinkMessage::DelLink(veth(3, "p1")));
        assert_eq!(t.mode(3), None);
    }

    #[test]
    fn the_other_end_of_a_veth_is_found_here_or_kept_until_ours_changes() {
        let mut t = LinkTable::default();
        let cable = |ifindex, name, peer, space: Option<i32>| {
            let mut m = veth(ifindex, name);
            m.attributes.push(LinkAttribute::Link(peer));
            m.attributes.extend(space.map(LinkAttribute::LinkNetNsId));
            RouteNetlinkMessage::NewLink(m)
        };
        t.apply(&cable(3, "a", 4, None));
        assert_eq!(t.far_end(t.by_name("a").unwrap()), None, "not there yet");
        t.apply(&cable(4, "b", 3, None));
        let far = FarEnd { name: "b".to_owned(), mtu: 1500, space: None };
        assert_eq!(t.far_end(t.by_name("a").unwrap()).as_deref(), Some(&far));

        t.apply(&cable(5, "p1", 2, Some(7)));
        let p1 = t.by_name("p1").unwrap().clone();
        assert!(t.is_far_end_unknown(&p1) && !t.is_far_end_unknown(t.by_name("a").unwrap()));
        let far = FarEnd { name: "eth0".to_owned(), mtu: 1400, space: Some(7) };
        assert!(t.set_far_end(5, Some(far.clone())) && !t.set_far_end(5, Some(far.clone())));
        assert_eq!((t.far_end(&p1).as_deref(), t.is_far_end_unknown(&p1)), (Some(&far), false));
        assert!(!t.set_far_end(9, None), "there is no such device");
        t.apply(&cable(5, "p1", 2, Some(8)));
        assert!(t.is_far_end_unknown(t.by_name("p1").unwrap()));
        // Of a VLAN device it is the device below.
        let mut vlan = veth(6, "v6");
        vlan.attributes.extend([LinkAttribute::Link(3), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vlan)])]);
        t.apply(&RouteNetlinkMessage::NewLink(vlan));
        assert_eq!(t.by_name("v6").unwrap().peer, None);
    }

    #[test]
    fn a_name_taken_over_by_a_new_device_stays_with_it() {
        let mut t = LinkTable::default();
        t.apply(&RouteNetlinkMessage::NewLink(veth(3, "p1")));
        t.apply(&RouteNetlinkMessage::NewLink(veth(9, "p1")));
        t.apply(&RouteNetlinkMessage::DelLink(veth(3, "p1")));
        assert_eq!(t.by_name("p1").map(|l| l.ifindex), Some(9));
    }

    #[test]
    fn messages_about_a_linux_bridges_port_are_not_about_the_device() {
        let mut t = LinkTable::default();
        t.apply(&RouteNetlinkMessage::NewLink(veth(3, "p1")));
        let mut left_bridge = veth(3, "p1");
        left_bridge.header.interface_family = AddressFamily::Bridge;
        assert!(!t.apply(&RouteNetlinkMessage::DelLink(left_bridge)));
        assert!(t.by_name("p1").is_some());
    }

    #[test]
    fn a_short_message_keeps_what_it_does_not_say_and_a_full_one_ends_enslavement() {
        let mut t = LinkTable::default();
        let mut enslaved = veth(3, "p1");
        enslaved.attributes.push(LinkAttribute::Controller(7));
        t.apply(&RouteNetlinkMessage::NewLink(enslaved));
        assert_eq!(t.by_index(3).unwrap().master, Some(7));
        let mut short = veth(3, "p1");
        short.attributes = vec![LinkAttribute::IfName("p1".to_owned())];
        assert!(!t.apply(&RouteNetlinkMessage::NewLink(short)));
        assert!(t.apply(&RouteNetlinkMessage::NewLink(veth(3, "p1"))));
        assert_eq!(t.by_index(3).unwrap().master, None);
    }

    #[test]
    fn addresses_come_and_go_and_link_local_ones_do_not_count() {
        let mut t = LinkTable::default();
        t.apply(&RouteNetlinkMessage::NewLink(veth(3, "p1")));
        let v4 = || address(3, "192.0.2.1", 24, AddressScope::Universe);
        assert!(t.apply(&RouteNetlinkMessage::NewAddress(v4())));
        assert!(!t.apply(&RouteNetlinkMessage::NewAddress(address(3, "fe80::1", 64, AddressScope::Link))));
        assert_eq!(t.addresses(3).map(Address::to_string).collect::<Vec<_>>(), ["192.0.2.1/24"]);
        assert!(t.apply(&RouteNetlinkMessage::DelAddress(v4())));
        assert_eq!(t.addresses(3).count(), 0);
        t.apply(&RouteNetlinkMessage::NewAddress(v4()));
        t.apply(&RouteNetlinkMessage::DelLink(veth(3, "p1")));
        assert_eq!(t.addresses(3).count(), 0);
    }
}
