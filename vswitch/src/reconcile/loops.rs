//! Tunnels whose packets would come back to them. Pure.
//!
//! Packets that leave the host by an internal port are frames of that port's bridge. Where they may be flooded into the
//! tunnel that sent them, on the same bridge or through patch ports on another, one frame becomes thousands.

use crate::config::interface::{Kind, Wanted};
use crate::config::{Bridge, Config, Refusal};
use datapath::switch::state::{Trunks, VlanMode};
use datapath::switch::vlan;
use datapath::types::VlanId;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use uuid::Uuid;

/// What the packets of a tunnel may be in, by bridge.
type Reach = BTreeMap<Uuid, BTreeSet<VlanId>>;

/// Refuses a tunnel on `bridge` that is `wanted` if what it sends to `remote`, by the device `egress`, comes back to it.
pub fn refuse(config: &Config, bridge: &Bridge, wanted: &Wanted, remote: IpAddr, egress: &str) -> Result<(), Refusal> {
    let own = config.interfaces().find(|(_, i)| i.name == egress && i.is_internal());
    let Some((from, Ok(port))) = own.map(|(b, i)| (b, &i.wanted)) else { return Ok(()) };
    let reached = if from.uuid == bridge.uuid {
        vlans().filter(|&vlan| carries(&port.vlan, vlan)).collect()
    } else {
        reach(config, from.uuid, &port.vlan).remove(&bridge.uuid).unwrap_or_default()
    };
    if !reached.into_iter().any(|vlan| carries(&wanted.vlan, vlan)) {
        return Ok(());
    }
    let place = match from.uuid == bridge.uuid {
        true => format!("a port of the same bridge {}", bridge.name),
        false => format!("a port of {}, which patch ports join to {}", from.name, bridge.name),
    };
    Err(format!(
        "the way to remote_ip={remote} leaves by {egress}, {place}: its packets would loop; put the tunnel or the underlay \
         on another bridge, or in different VLANs"
    ))
}

/// Where the frames get through patch ports that come in by a port of this mode on this bridge.
fn reach(config: &Config, bridge: Uuid, port: &VlanMode) -> Reach {
    let patches = patches(config);
    let mut reach = Reach::new();
    let mut todo: Vec<_> = vlans().filter(|&vlan| carries(port, vlan)).map(|vlan| (bridge, vlan)).collect();
    while let Some((bridge, vlan)) = todo.pop() {
        if reach.entry(bridge).or_default().insert(vlan) {
            let here = patches.iter().filter(|patch| patch.from == bridge);
            todo.extend(here.filter_map(|patch| Some((patch.to, across(patch.out, patch.into, vlan)?))));
        }
    }
    reach
}

/// The bridges that patch ports join, as groups by bridge: those count that are trunks of all VLANs at both ends, through
/// which every frame gets as it is.
pub fn joined(config: &Config) -> BTreeMap<Uuid, usize> {
    let mut group: BTreeMap<_, _> = config.bridges.iter().map(|b| b.uuid).zip(0..).collect();
    let whole = |mode: &VlanMode| *mode == VlanMode::Trunk(Trunks::All);
    for patch in patches(config).iter().filter(|patch| whole(patch.out) && whole(patch.into)) {
        if let (Some(&from), Some(&to)) = (group.get(&patch.from), group.get(&patch.to))
            && from != to
        {
            group.values_mut().filter(|g| **g == to).for_each(|g| *g = from);
        }
    }
    group
}

/// One direction of a pair of patch ports.
struct Patch<'a> {
    from: Uuid,
    to: Uuid,
    out: &'a VlanMode,
    into: &'a VlanMode,
}

/// All pairs of patch ports that name each other, each in both directions.
fn patches(config: &Config) -> Vec<Patch<'_>> {
    let ends = config.interfaces().filter_map(|(bridge, interface)| match &interface.wanted {
        Ok(Wanted { kind: Kind::Patch { peer }, vlan, .. }) => Some((&interface.name, (bridge.uuid, peer, vlan))),
        _ => None,
    });
    let ends: BTreeMap<_, _> = ends.collect();
    let far = |name: &String, peer: &String| ends.get(peer).filter(|(_, back, _)| *back == name);
    let pairs = ends.iter().filter_map(|(name, &(from, peer, out))| {
        let &(to, _, into) = far(name, peer)?;
        Some(Patch { from, to, out, into })
    });
    pairs.collect()
}

/// The VLAN at the far end of a patch of a frame of `vlan`; `None`: it does not get there. A customer's tag that a
/// dot1q-tunnel port has put below is not followed.
fn across(out: &VlanMode, into: &VlanMode, vlan: VlanId) -> Option<VlanId> {
    if !carries(out, vlan) {
        return None;
    }
    let tagged = leaves_tagged(out, vlan);
    let far = match into {
        VlanMode::Dot1qTunnel(service) => {
            let customer = if tagged { vlan } else { VlanId::UNTAGGED };
            return service.customers.carries(customer).then_some(service.vlan);
        }
        VlanMode::Access(_) if tagged => return None,
        _ if tagged => vlan,
        VlanMode::Access(own) | VlanMode::NativeTagged(own, _) | VlanMode::NativeUntagged(own, _) => *own,
        VlanMode::Trunk(_) => VlanId::UNTAGGED,
    };
    carries(into, far).then_some(far)
}

/// Whether frames of `vlan` leave by a port of this mode with a tag of that VLAN.
pub fn leaves_tagged(mode: &VlanMode, vlan: VlanId) -> bool {
    match mode {
        VlanMode::Access(_) | VlanMode::Dot1qTunnel(_) => false,
        VlanMode::NativeUntagged(own, _) => *own != vlan,
        VlanMode::Trunk(_) | VlanMode::NativeTagged(..) => vlan != VlanId::UNTAGGED,
    }
}

/// Whether frames of `vlan` come and go by a port of this mode, with whatever VLAN of a customer below.
fn carries(mode: &VlanMode, vlan: VlanId) -> bool {
    match mode {
        VlanMode::Dot1qTunnel(service) => service.vlan == vlan,
        _ => vlan::carries(mode, vlan, VlanId::UNTAGGED),
    }
}

fn vlans() -> impl Iterator<Item = VlanId> {
    (0..4096).filter_map(VlanId::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::database;
    use datapath::switch::state::Service;
    use serde_json::{Value, json};

    fn named(name: &str) -> Value {
        json!(["named-uuid", name])
    }

    /// A bridge in a database, with these ports: name, Port columns, Interface columns.
    fn bridge(name: &str, ports: &[(&str, Value, Value)]) -> Vec<Value> {
        let list: Vec<_> = ports.iter().map(|(port, ..)| named(&format!("p_{port}"))).collect();
        let row = json!({"name": name, "ports": ["set", list]});
        let mut ops = vec![json!({"op": "insert", "table": "Bridge", "uuid-name": name, "row": row})];
        for (port, columns, interface) in ports {
            let (mut columns, mut interface) = (columns.clone(), interface.clone());
            (columns["name"], columns["interfaces"]) = (json!(port), named(&format!("i_{port}")));
            interface["name"] = json!(port);
            let (p, i) = (format!("p_{port}"), format!("i_{port}"));
            ops.push(json!({"op": "insert", "table": "Port", "uuid-name": p, "row": columns}));
            ops.push(json!({"op": "insert", "table": "Interface", "uuid-name": i, "row": interface}));
        }
        ops
    }

    fn patch(peer: &str) -> Value {
        json!({"type": "patch", "options": ["map", [["peer", peer]]]})
    }

    /// Whether the tunnel t0 of br_int, with these columns, is refused, where its packets leave by br_phy's own port and
    /// patch ports with these columns join the two bridges by way of a third.
    fn refused(tunnel: Value, [a, b, c, d]: [(Value, &str); 4]) -> Option<String> {
        let internal = || json!({"type": "internal"});
        let options = json!({"type": "vxlan", "options": ["map", [["remote_ip", "192.0.2.2"]]]});
        let bridges = [named("br_int"), named("br_mid"), named("br_phy")];
        let root = json!({"op": "insert", "table": "Open_vSwitch", "row": {"bridges": ["set", bridges]}});
        let ops = [
            vec![root],
            bridge("br_int", &[("br_int", json!({}), internal()), ("t0", tunnel, options), ("a", a.0, patch(a.1))]),
            bridge("br_mid", &[("br_mid", json!({}), internal()), ("b", b.0, patch(b.1)), ("c", c.0, patch(c.1))]),
            bridge("br_phy", &[("br_phy", json!({}), internal()), ("d", d.0, patch(d.1))]),
        ];
        let config = Config::read(&database(&ops.concat()));
        let (bridge, t0) = config.interfaces().find(|(_, i)| i.name == "t0").unwrap();
        refuse(&config, bridge, t0.wanted.as_ref().unwrap(), [192, 0, 2, 2].into(), "br_phy").err()
    }

    #[test]
    fn a_loop_through_patch_ports_is_found_and_told() {
        let plain = |peers: [&'static str; 4]| peers.map(|peer| (json!({}), peer));
        assert_eq!(
            refused(json!({}), plain(["b", "a", "d", "c"])).unwrap(),
            "the way to remote_ip=192.0.2.2 leaves by br_phy, a port of br_phy, which patch ports join to br_int: its \
             packets would loop; put the tunnel or the underlay on another bridge, or in different VLANs"
        );
        for unjoined in [["x", "a", "d", "c"], ["b", "a", "b", "c"], ["b", "y", "z", "c"]] {
            assert_eq!(refused(json!({}), plain(unjoined)), None, "{unjoined:?}");
        }
    }

    #[test]
    fn vlans_may_keep_the_bridges_apart() {
        let by = |a: Value, b: Value, c: Value, d: Value| [(a, "b"), (b, "a"), (c, "d"), (d, "c")];
        let (all, tag) = (|| json!({}), |n: u16| json!({"tag": n}));
        let trunks = |n: u16| json!({"trunks": n});
        // The frames of br_phy are in VLAN 7 at most when they have come to br_int.
        for (tunnel, loops) in [(tag(7), true), (all(), true), (tag(8), false), (trunks(8), false)] {
            assert_eq!(refused(tunnel.clone(), by(all(), all(), trunks(7), all())).is_some(), loops, "{tunnel}");
        }
        // Between access ports a VLAN changes its number, and a tag gets in by none of them.
        assert!(refused(tag(8), by(tag(8), tag(7), trunks(7), all())).is_some());
        assert!(refused(tag(7), by(tag(8), tag(7), trunks(7), all())).is_none());
        assert!(refused(all(), by(tag(8), trunks(7), trunks(7), all())).is_none());
        let native = json!({"tag": 9, "vlan_mode": "native-untagged", "trunks": 7});
        assert!(refused(tag(0), by(all(), native, trunks(9), all())).is_some(), "9 leaves untagged");
    }

    #[test]
    fn a_service_vlan_is_followed_across_a_patch() {
        let vlan = |n| VlanId::new(n).unwrap();
        let tunnel = |customers| {
            VlanMode::Dot1qTunnel(Service { vlan: vlan(10), customers, tpid: datapath::wire::vlan::SERVICE })
        };
        let (any, of_20) = (tunnel(Trunks::All), tunnel(Trunks::Only([vlan(20)].into_iter().collect())));
        let trunk = VlanMode::Trunk(Trunks::All);
        assert_eq!(across(&trunk, &any, vlan(20)), Some(vlan(10)));
        assert_eq!(across(&trunk, &of_20, vlan(20)), Some(vlan(10)));
        assert_eq!(across(&trunk, &of_20, vlan(30)), None);
        assert_eq!(across(&trunk, &of_20, vlan(0)), None, "untagged");
        assert_eq!(across(&of_20, &trunk, vlan(10)), Some(vlan(0)));
        assert_eq!(across(&of_20, &trunk, vlan(20)), None, "its customer's VLAN is none of the switch's");
    }
}
