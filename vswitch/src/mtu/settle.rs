//! What the ports of a bridge make of each other's MTUs: which each gets from us, why, and what to warn of. Pure.
//!
//! A device gets the MTU that `mtu_request` asks for; without one it keeps its own. An internal port without one gets
//! what goes everywhere: the least of the other ports', and of the tunnels of bridges that patch ports join to its own, up
//! as well as down. What others have set is never changed, only told.

use super::limits::{Limit, Limits, Way};
use super::warning::{Ends, happens};
use crate::config::interface::{Interface, Kind, Wanted};
use crate::config::{Bridge, Config, Notes};
use crate::netlink::far_end::Spaces;
use crate::netlink::link::{Link, LinkTable};
use crate::reconcile::desired::Desired;
use crate::reconcile::loops;
use datapath::control::PortSpec;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Ethernet's, which an internal port has on a bridge without other ports.
const ETHERNET: u32 = 1500;
/// How many MTUs of former tunnels are remembered of a bridge.
const FORMER: usize = 8;

/// An MTU that a device is to be given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// The interface's row.
    pub row: Uuid,
    /// The port.
    pub port: String,
    /// Its device.
    pub ifindex: u32,
    /// The MTU that the device has.
    pub was: u32,
    /// The one that it is to have.
    pub mtu: u32,
    /// Why.
    pub why: String,
}

/// What went before, as far as it matters.
#[derive(Default, Debug)]
pub struct Memory {
    bridges: BTreeMap<Uuid, Past>,
    /// The MTUs that devices had from a `mtu_request`.
    requested: BTreeMap<u32, u32>,
}

/// What bounded a bridge.
#[derive(Default, Debug)]
struct Past {
    last: Option<(u32, String)>,
    /// MTUs that tunnels had which are gone, or carry more now, with their names.
    former: BTreeMap<u32, String>,
}

impl Past {
    fn note(&mut self, now: Option<Limit<'_>>) {
        if let Some((was, tunnel)) = self.last.take()
            && now.is_none_or(|now| now.mtu > was)
        {
            self.former.insert(was, tunnel);
            while self.former.len() > FORMER {
                self.former.pop_first();
            }
        }
        if let Some(now) = now {
            // What is not below the present bound is judged by that.
            drop(self.former.split_off(&now.mtu));
            self.last = Some((now.mtu, now.tunnel.to_owned()));
        }
    }
}

/// Adds to `desired` the MTUs to set, where each comes from, and what to warn of.
pub fn settle(config: &Config, links: &LinkTable, spaces: &Spaces, memory: &mut Memory, desired: &mut Desired) {
    let members = config.bridges.iter().map(|bridge| members(bridge, links, &desired.specs.ports)).collect::<Vec<_>>();
    let groups = loops::joined(config);
    let group = |bridge: &Bridge| groups.get(&bridge.uuid).copied().unwrap_or_default();
    let mut tunnels: BTreeMap<usize, Vec<Way<'_>>> = BTreeMap::new();
    for (bridge, members) in config.bridges.iter().zip(&members) {
        tunnels.entry(group(bridge)).or_default().extend(members.iter().filter_map(|member| member.way(bridge)));
    }
    let limits: BTreeMap<_, _> = tunnels.into_iter().map(|(group, ways)| (group, Limits::of(ways))).collect();
    for (bridge, members) in config.bridges.iter().zip(&members) {
        let Some(limits) = limits.get(&group(bridge)) else { continue };
        let settled = Settled::of(bridge, members, limits, (links, spaces), memory);
        for (row, notes) in settled.notes {
            desired.notes.entry(row).or_default().extend(notes);
        }
        desired.mtus.extend(settled.settings);
        desired.unnamed.extend(settled.unnamed);
    }
    let bridges: BTreeSet<Uuid> = config.bridges.iter().map(|bridge| bridge.uuid).collect();
    memory.bridges.retain(|row, _| bridges.contains(row));
    memory.requested.retain(|ifindex, _| links.by_index(*ifindex).is_some());
}

/// A port that has an MTU.
pub(super) struct Member<'a> {
    pub interface: &'a Interface,
    pub wanted: &'a Wanted,
    /// Its device; a tunnel has none.
    pub link: Option<&'a Link>,
    /// The MTU that it has, or will have when all is done; `None`: it gets what goes everywhere.
    pub mtu: Option<u32>,
}

impl Member<'_> {
    pub fn name(&self) -> &str {
        &self.interface.name
    }

    /// As a way out of its bridge, if it is a tunnel.
    pub fn way<'b>(&'b self, bridge: &'b Bridge) -> Option<Way<'b>> {
        let Kind::Tunnel(tunnel) = &self.wanted.kind else { return None };
        let happens = happens(tunnel.dont_fragment, self.wanted.mtu_policy);
        let (tunnel, mode, bridge) = (self.name(), &self.wanted.vlan, bridge.name.as_str());
        Some(Way { tunnel, bridge, mode, mtu: self.mtu?, happens })
    }

    pub fn is_tunnel(&self) -> bool {
        matches!(self.wanted.kind, Kind::Tunnel(_))
    }

    fn is_internal(&self) -> bool {
        matches!(self.wanted.kind, Kind::Internal { .. })
    }
}

/// The ports of a bridge that count: those that are attached and whose MTU is known.
pub(super) fn members<'a>(
    bridge: &'a Bridge,
    links: &'a LinkTable,
    ports: &BTreeMap<String, PortSpec>,
) -> Vec<Member<'a>> {
    let members = bridge.interfaces.iter().filter_map(|interface| {
        let (wanted, spec) = (interface.wanted.as_ref().ok()?, ports.get(&interface.name)?);
        let link = match wanted.kind {
            Kind::Netdev(_) | Kind::Internal { .. } => Some(links.by_name(&interface.name)?),
            Kind::Tunnel(_) => None,
            Kind::Patch { .. } => return None,
        };
        let mtu = match wanted.kind {
            Kind::Netdev(_) => wanted.mtu.or(link.map(|link| link.mtu)),
            Kind::Internal { .. } => wanted.mtu,
            _ => Some(spec.mtu?.0),
        };
        Some(Member { interface, wanted, link, mtu })
    });
    members.collect()
}

/// What follows for one bridge.
struct Settled<'a> {
    bridge: &'a str,
    limits: &'a Limits<'a>,
    /// The least MTU of the ports that are no tunnels, and whose it is.
    least: Option<(u32, &'a str)>,
    /// The greatest that any of them may need.
    greatest: u32,
    former: BTreeMap<u32, String>,
    links: &'a LinkTable,
    spaces: &'a Spaces,
    notes: BTreeMap<Uuid, Notes>,
    settings: Vec<Setting>,
    unnamed: BTreeSet<i32>,
}

impl<'a> Settled<'a> {
    fn of(
        bridge: &'a Bridge,
        members: &'a [Member<'a>],
        limits: &'a Limits<'a>,
        (links, spaces): (&'a LinkTable, &'a Spaces),
        memory: &mut Memory,
    ) -> Self {
        let others = || members.iter().filter(|m| !m.is_tunnel()).filter_map(|m| Some((m.mtu?, m.name())));
        let bound = limits.least();
        let past = memory.bridges.entry(bridge.uuid).or_default();
        past.note(bound);
        let mut settled = Self {
            bridge: &bridge.name,
            least: others().min(),
            greatest: others().map(|(mtu, _)| mtu).fold(ETHERNET, u32::max).min(bound.map_or(u32::MAX, |b| b.mtu)),
            former: past.former.clone(),
            limits,
            links,
            spaces,
            notes: BTreeMap::new(),
            settings: Vec::new(),
            unnamed: BTreeSet::new(),
        };
        for member in members {
            if let Some(link) = member.link {
                settled.member(member, link, &mut memory.requested);
            }
        }
        settled
    }

    fn member(&mut self, member: &Member<'_>, link: &Link, requested: &mut BTreeMap<u32, u32>) {
        let reason = match member.wanted.mtu {
            Some(mtu) => {
                requested.insert(link.ifindex, mtu);
                self.set(member, link, mtu, "mtu_request");
                Some("mtu_request".to_owned())
            }
            None if member.is_internal() => {
                let (mtu, why) = self.automatic(member);
                self.set(member, link, mtu, &why);
                Some(why)
            }
            None => {
                let left = requested.get(&link.ifindex) == Some(&link.mtu);
                left.then(|| "a former mtu_request; a device keeps its MTU until it is given another".to_owned())
            }
        };
        let warning = member.mtu.and_then(|mtu| self.warning(member, link, mtu));
        if reason.is_some() || warning.is_some() {
            let keys = [("mtu_reason", reason), ("mtu_warning", warning)];
            let notes = keys.into_iter().filter_map(|(key, text)| Some((key.to_owned(), text?)));
            self.notes.insert(member.interface.uuid, notes.collect());
        }
    }

    fn set(&mut self, member: &Member<'_>, link: &Link, mtu: u32, why: &str) {
        if link.mtu != mtu {
            let (row, port) = (member.interface.uuid, member.name().to_owned());
            let (ifindex, was, why) = (link.ifindex, link.mtu, why.to_owned());
            self.settings.push(Setting { row, port, ifindex, was, mtu, why });
        }
    }

    /// The MTU of an internal port that nobody has asked for, and where it comes from.
    fn automatic(&self, member: &Member<'_>) -> (u32, String) {
        let tunnels = [self.limits.of_port(&member.wanted.vlan), self.limits.least()].into_iter().flatten();
        let tunnels = tunnels.map(|limit| (limit.mtu, limit.tunnel, limit.bridge, limit.tagged));
        let other = self.least.map(|(mtu, port)| (mtu, port, self.bridge, false));
        let Some((mtu, port, bridge, tagged)) = tunnels.chain(other).min() else {
            return (ETHERNET, "the bridge has no other ports".to_owned());
        };
        let tag = if tagged { ", with the VLAN tag" } else { "" };
        let beyond = match bridge == self.bridge {
            true => String::new(),
            false => format!(" of {bridge}, beyond patch ports"),
        };
        (mtu, format!("min of the bridge's ports: {port}{beyond}{tag}"))
    }

    fn warning(&mut self, member: &Member<'_>, link: &Link, mtu: u32) -> Option<String> {
        let far = self.links.far_end(link);
        let far = far.as_deref();
        let (requested, internal) = (member.wanted.mtu.is_some(), member.is_internal());
        let ends = Ends { port: member.name(), mtu, requested, internal, far, spaces: self.spaces };
        let text = match self.limits.of_port(&member.wanted.vlan).filter(|limit| limit.mtu < mtu) {
            Some(limit) => ends.too_large(&limit),
            None => ends.unequal().or_else(|| {
                let tunnel = self.former.get(&mtu).filter(|_| mtu < self.greatest)?;
                Some(ends.left_over(tunnel, self.greatest))
            })?,
        };
        let space = far.and_then(|far| far.space);
        self.unnamed.extend(space.filter(|space| self.spaces.name(*space).is_none()));
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{br0_p1, database};
    use crate::netlink::link::tests::veth;
    use crate::netlink::route::Route;
    use crate::reconcile::desired::{desired, paths};
    use rtnetlink::packet_route::RouteNetlinkMessage;
    use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};
    use serde_json::{Value, json};

    /// br0 with p1, `more` ports, and the devices br0 and p1 and eth0, which tunnels leave by.
    struct Host {
        links: LinkTable,
        memory: Memory,
        route: Route,
        row: Uuid,
        /// The ports of br1.
        second: Vec<Value>,
    }

    fn device(ifindex: u32, name: &str, mtu: u32, tun: bool) -> RouteNetlinkMessage {
        let mut m: LinkMessage = veth(ifindex, name);
        m.attributes.retain(|a| !matches!(a, LinkAttribute::Mtu(_) | LinkAttribute::LinkInfo(_)));
        m.attributes.push(LinkAttribute::Mtu(mtu));
        if tun {
            m.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Tun)]));
        }
        RouteNetlinkMessage::NewLink(m)
    }

    /// Adds ports with these interfaces (`tag` is their port's); references to them.
    fn add(ops: &mut Vec<Value>, interfaces: &[Value]) -> Vec<Value> {
        let mut ports = Vec::new();
        for interface in interfaces {
            let (mut interface, n) = (interface.clone(), ops.len());
            let tag = interface.as_object_mut().and_then(|columns| columns.remove("tag"));
            let mut port = json!({"name": interface["name"], "interfaces": ["named-uuid", format!("i{n}")]});
            tag.into_iter().for_each(|tag| port["tag"] = tag);
            ops.push(json!({"op": "insert", "table": "Port", "uuid-name": format!("p{n}"), "row": port}));
            ops.push(json!({"op": "insert", "table": "Interface", "uuid-name": format!("i{n}"), "row": interface}));
            ports.push(json!(["named-uuid", format!("p{n}")]));
        }
        ports
    }

    impl Host {
        fn new() -> Self {
            let mut host = Host {
                links: LinkTable::default(),
                memory: Memory::default(),
                route: Route::Via { ifindex: 4, mtu: None, source: None },
                row: Uuid::nil(),
                second: Vec::new(),
            };
            host.has(4, "eth0", 1500);
            host.links.apply(&device(2, "br0", 1500, true));
            host.has(3, "p1", 1500);
            host
        }

        fn has(&mut self, ifindex: u32, name: &str, mtu: u32) {
            self.links.apply(&device(ifindex, name, mtu, false));
        }

        /// What becomes of it with these columns of the interface p1 and these other ports; the settings are carried out.
        fn settled(&mut self, p1: Value, more: &[Value]) -> Outcome {
            let mut ops = br0_p1(json!({}), json!({}), json!({}), p1);
            let mut ports = vec![json!(["named-uuid", "own"]), json!(["named-uuid", "p"])];
            ports.extend(add(&mut ops, more));
            ops[1]["row"]["ports"] = json!(["set", ports]);
            if !self.second.is_empty() {
                let own = json!({"name": "br1", "type": "internal"});
                let ports = add(&mut ops, &[&self.second[..], &[own]].concat());
                ops.push(json!({"op": "insert", "table": "Bridge", "uuid-name": "c",
                    "row": {"name": "br1", "ports": ["set", ports]}}));
                ops[0]["row"]["bridges"] = json!(["set", [["named-uuid", "b"], ["named-uuid", "c"]]]);
            }
            let config = Config::read(&database(&ops));
            let routes = paths(&config).map(|path| (path, self.route.clone())).collect();
            let mut wanted = desired(&config, &self.links, &routes);
            // The same bridge each time, whatever row a new database gives it.
            let bridge = config.bridges[0].uuid;
            let past = self.memory.bridges.remove(&self.row).map(|past| (bridge, past));
            self.memory.bridges.extend(past);
            self.row = bridge;
            settle(&config, &self.links, &Spaces::default(), &mut self.memory, &mut wanted);
            for set in &wanted.mtus {
                self.links.apply(&device(set.ifindex, &set.port, set.mtu, set.port.starts_with("br")));
            }
            let set = wanted.mtus.iter().map(|s| format!("{} {}→{}: {}", s.port, s.was, s.mtu, s.why)).collect();
            let named = config.interfaces().filter_map(|(_, i)| Some((i.name.clone(), wanted.notes.remove(&i.uuid)?)));
            Outcome { set, notes: named.collect() }
        }
    }

    struct Outcome {
        set: Vec<String>,
        notes: BTreeMap<String, Notes>,
    }

    impl Outcome {
        fn warning(&self, port: &str) -> &str {
            self.notes[port].get("mtu_warning").map_or("", String::as_str)
        }

        fn reason(&self, port: &str) -> &str {
            self.notes[port].get("mtu_reason").map_or("", String::as_str)
        }
    }

    fn vx0() -> Value {
        json!({"name": "vx0", "type": "vxlan", "options": ["map", [["remote_ip", "192.0.2.2"]]]})
    }

    #[test]
    fn an_internal_port_follows_the_least_of_the_others_down_and_up() {
        let mut host = Host::new();
        assert_eq!(host.settled(json!({}), &[]).set, [""; 0], "1500 as p1 has");
        let with = host.settled(json!({}), &[vx0()]);
        assert_eq!(with.set, ["br0 1500→1450: min of the bridge's ports: vx0"]);
        assert_eq!(with.reason("br0"), "min of the bridge's ports: vx0");
        assert_eq!(host.settled(json!({}), &[vx0()]).set, [""; 0], "settled");
        host.route = Route::Via { ifindex: 4, mtu: Some(1400), source: None };
        assert_eq!(host.settled(json!({}), &[vx0()]).set, ["br0 1450→1350: min of the bridge's ports: vx0"]);
        host.route = Route::None("Network is unreachable".into());
        assert_eq!(host.settled(json!({}), &[vx0()]).set, ["br0 1350→1500: min of the bridge's ports: p1"]);
        host.has(3, "p1", 9000);
        assert_eq!(host.settled(json!({}), &[]).set, ["br0 1500→9000: min of the bridge's ports: p1"]);
        let alone = host.settled(json!({"type": "stt"}), &[]);
        assert_eq!(alone.set, ["br0 9000→1500: the bridge has no other ports"]);
    }

    #[test]
    fn what_is_asked_for_is_set_and_counts_for_others() {
        let mut host = Host::new();
        let asked = host.settled(json!({"mtu_request": 1400}), &[]);
        assert_eq!(
            asked.set,
            ["br0 1500→1400: min of the bridge's ports: p1", "p1 1500→1400: mtu_request"],
            "in one go"
        );
        assert_eq!(asked.reason("p1"), "mtu_request");
        host.has(3, "p1", 1300);
        assert_eq!(host.settled(json!({"mtu_request": 1400}), &[]).set, ["p1 1300→1400: mtu_request"], "set back");
        let cleared = host.settled(json!({}), &[]);
        assert_eq!((cleared.set.len(), cleared.reason("p1").starts_with("a former mtu_request")), (0, true));
        host.has(3, "p1", 1500);
        assert_eq!(host.settled(json!({}), &[]).reason("p1"), "");
        let internal = json!({"name": "in0", "type": "internal", "mtu_request": 1200});
        host.links.apply(&device(5, "in0", 1500, true));
        let set = host.settled(json!({}), &[internal]).set;
        assert_eq!(set, ["br0 1500→1200: min of the bridge's ports: in0", "in0 1500→1200: mtu_request"]);
    }

    #[test]
    fn a_port_whose_packets_a_tunnel_does_not_take_is_warned_of() {
        let mut host = Host::new();
        let both = host.settled(json!({}), &[vx0()]);
        assert!(
            both.warning("p1").starts_with("MTU 1500 is more than vx0 carries (1450): "),
            "{both:?}",
            both = both.notes
        );
        assert_eq!((both.warning("br0"), both.warning("vx0")), ("", ""));
        assert_eq!(host.settled(json!({"mtu_request": 1450}), &[vx0()]).warning("p1"), "");
        let internal = json!({"name": "in0", "type": "internal", "mtu_request": 1500});
        host.links.apply(&device(5, "in0", 1500, true));
        let told = host.settled(json!({}), &[vx0(), internal]);
        assert!(
            told.warning("in0").ends_with("Lower it:\nvsctl set interface in0 mtu_request=1450"),
            "{:?}",
            told.notes
        );
    }

    #[test]
    fn what_others_set_for_a_tunnel_that_is_gone_is_told_and_left() {
        let mut host = Host::new();
        host.has(3, "p1", 1450);
        assert_eq!(host.settled(json!({}), &[]).warning("p1"), "", "perhaps it is meant so");
        assert_eq!(host.settled(json!({}), &[vx0()]).warning("p1"), "");
        for _ in 0..2 {
            let plain = host.settled(json!({}), &[]);
            assert!(plain.warning("p1").starts_with("MTU 1450 fitted vx0, "), "{:?}", plain.notes);
            assert!(plain.warning("p1").ends_with("\nvsctl set interface p1 mtu_request=1500"), "{:?}", plain.notes);
        }
        assert_eq!(host.settled(json!({}), &[vx0()]).warning("p1"), "");
        host.has(4, "eth0", 1600);
        assert!(host.settled(json!({}), &[vx0()]).warning("p1").contains("mtu_request=1500"));
        host.has(3, "p1", 1500);
        assert_eq!(host.settled(json!({}), &[vx0()]).warning("p1"), "");
    }

    #[test]
    fn a_tunnel_beyond_patch_ports_counts_unless_they_keep_vlans_back() {
        let mut host = Host::new();
        host.links.apply(&device(7, "br1", 1500, true));
        let patch =
            |name: &str, peer: &str| json!({"name": name, "type": "patch", "options": ["map", [["peer", peer]]]});
        let [mut a, b] = [patch("a", "b"), patch("b", "a")];
        a["tag"] = json!(7);
        host.second = vec![vx0(), b];
        let joined = host.settled(json!({}), &[patch("a", "b")]);
        let why = "min of the bridge's ports: vx0 of br1, beyond patch ports";
        assert_eq!(
            joined.set,
            [format!("br0 1500→1450: {why}"), "br1 1500→1450: min of the bridge's ports: vx0".into()]
        );
        assert!(joined.warning("p1").starts_with("MTU 1500 is more than vx0 carries"), "{:?}", joined.notes);
        assert_eq!(host.settled(json!({}), &[a]).set, ["br0 1450→1500: min of the bridge's ports: p1"]);
    }

    #[test]
    fn veth_ends_that_differ_are_warned_of() {
        let mut host = Host::new();
        let cable = |ifindex, name: &str, peer, mtu| {
            let RouteNetlinkMessage::NewLink(mut m) = device(ifindex, name, mtu, false) else { panic!("a link") };
            m.attributes
                .extend([LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)]), LinkAttribute::Link(peer)]);
            RouteNetlinkMessage::NewLink(m)
        };
        host.links.apply(&cable(3, "p1", 6, 1500));
        host.links.apply(&cable(6, "far", 3, 9000));
        let told = host.settled(json!({}), &[]);
        assert!(told.warning("p1").starts_with("the ends of the veth differ, 1500 here and 9000 at far:"));
        assert!(told.warning("p1").ends_with("\nip link set dev far mtu 1500"), "{:?}", told.notes);
    }
}
