//! The difference between what is and what should be, as actions. Pure.
//!
//! Deletions come first, so that what they free (a name, a tunnel's key, a device) can be taken again in the same plan;
//! carried out, a plan leaves nothing to plan.

use datapath::control::{Action, BridgeSpec, PortSpec};
use std::collections::{BTreeMap, BTreeSet};

/// Bridges and ports by name.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Specs {
    /// The bridges.
    pub bridges: BTreeMap<String, BridgeSpec>,
    /// The ports.
    pub ports: BTreeMap<String, PortSpec>,
}

/// What to do to get from `current` to `desired`; the ports in `broken` are opened anew.
#[must_use]
pub fn plan(current: &Specs, desired: &Specs, broken: &BTreeSet<String>) -> Vec<Action> {
    let mut actions = Vec::new();
    let stays = |old: &PortSpec| {
        let same =
            |new: &&PortSpec| old.kind.may_become(&new.kind) && new.bridge == old.bridge && !broken.contains(&old.name);
        desired.ports.get(&old.name).filter(same)
    };
    for old in current.ports.values() {
        if stays(old).is_none() {
            actions.push(Action::RemovePort { name: old.name.clone() });
        }
    }
    for name in current.bridges.keys() {
        if !desired.bridges.contains_key(name) {
            actions.push(Action::RemoveBridge { name: name.clone() });
        }
    }
    for (name, new) in &desired.bridges {
        match current.bridges.get(name) {
            None => actions.push(Action::AddBridge(new.clone())),
            Some(old) if old != new => actions.push(Action::SetBridge(new.clone())),
            Some(_) => {}
        }
    }
    for (name, new) in &desired.ports {
        match current.ports.get(name).filter(|old| stays(old).is_some()) {
            None => actions.push(Action::AddPort(new.clone())),
            Some(old) if old != new => actions.push(Action::SetPort(new.clone())),
            Some(_) => {}
        }
    }
    actions
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use datapath::control::PortKind;
    use datapath::switch::shape::Limits;
    use datapath::switch::state::{BridgeVlans, PortRules, Trunks, VlanMode};
    use datapath::time::Duration;
    use datapath::tunnel::{Protocol, Remotes, Tunnel};
    use datapath::types::{TunnelKey, VlanId};

    pub(crate) fn bridge(name: &str) -> BridgeSpec {
        BridgeSpec {
            name: name.to_owned(),
            mac_aging: Duration::from_secs(300),
            mac_table_size: 8192,
            statics: vec![],
            secure: false,
            vlans: BridgeVlans::default(),
            mirrors: vec![],
            gateway: None,
        }
    }

    pub(crate) fn netdev(name: &str, bridge: &str, ifindex: u32) -> PortSpec {
        PortSpec {
            name: name.to_owned(),
            bridge: bridge.to_owned(),
            kind: PortKind::Netdev { ifindex },
            vlan: VlanMode::Trunk(Trunks::All),
            rules: PortRules::default(),
            up: true,
            mtu: None,
            mtu_policy: datapath::control::MtuPolicy::default(),
            limits: Limits::default(),
            assist: false,
        }
    }

    pub(crate) fn specs(bridges: &[BridgeSpec], ports: &[PortSpec]) -> Specs {
        Specs {
            bridges: bridges.iter().map(|b| (b.name.clone(), b.clone())).collect(),
            ports: ports.iter().map(|p| (p.name.clone(), p.clone())).collect(),
        }
    }

    /// What `actions` make of `current`, and that each of them may be done when its turn comes.
    fn carry_out(current: &Specs, actions: &[Action]) -> Specs {
        let mut s = current.clone();
        for action in actions {
            match action.clone() {
                Action::RemovePort { name } => assert!(s.ports.remove(&name).is_some()),
                Action::RemoveBridge { name } => {
                    assert!(s.ports.values().all(|p| p.bridge != name), "{name} still has ports");
                    assert!(s.bridges.remove(&name).is_some());
                }
                Action::AddBridge(b) => assert!(s.bridges.insert(b.name.clone(), b).is_none()),
                Action::SetBridge(b) => assert!(s.bridges.insert(b.name.clone(), b).is_some()),
                Action::AddPort(p) => {
                    assert!(s.bridges.contains_key(&p.bridge));
                    assert!(s.ports.insert(p.name.clone(), p).is_none());
                }
                Action::SetPort(p) => {
                    let old = s.ports.insert(p.name.clone(), p.clone()).unwrap();
                    assert_eq!((old.kind, old.bridge), (p.kind, p.bridge));
                }
            }
        }
        s
    }

    fn arrives(current: &Specs, desired: &Specs) -> Vec<Action> {
        let actions = plan(current, desired, &BTreeSet::new());
        let reached = carry_out(current, &actions);
        assert_eq!(&reached, desired);
        assert_eq!(plan(&reached, desired, &BTreeSet::new()), [], "a second plan has nothing to do");
        actions
    }

    #[test]
    fn every_plan_arrives_and_leaves_nothing_to_do() {
        let mut aged = bridge("br0");
        aged.mac_aging = Duration::from_secs(60);
        let mut tagged = netdev("p1", "br0", 3);
        tagged.vlan = VlanMode::Access(VlanId::new(7).unwrap());
        let states = [
            specs(&[], &[]),
            specs(&[bridge("br0")], &[]),
            specs(&[bridge("br0")], &[netdev("p1", "br0", 3), netdev("p2", "br0", 4)]),
            specs(&[aged], &[tagged]),
            specs(&[bridge("br0"), bridge("br1")], &[netdev("p1", "br1", 3)]),
            specs(&[bridge("br1")], &[netdev("p1", "br1", 9), netdev("p3", "br1", 5)]),
        ];
        for from in &states {
            for to in &states {
                arrives(from, to);
            }
        }
    }

    #[test]
    fn only_what_differs_is_touched() {
        let mut down = netdev("p1", "br0", 3);
        down.up = false;
        let from = specs(&[bridge("br0")], &[netdev("p1", "br0", 3), netdev("p2", "br0", 4)]);
        let to = specs(&[bridge("br0")], &[down.clone(), netdev("p2", "br0", 4)]);
        assert_eq!(arrives(&from, &to), [Action::SetPort(down)]);
    }

    #[test]
    fn a_port_with_another_device_or_bridge_is_replaced() {
        let from = specs(&[bridge("br0"), bridge("br1")], &[netdev("p1", "br0", 3)]);
        for new in [netdev("p1", "br0", 9), netdev("p1", "br1", 3)] {
            let to = specs(&[bridge("br0"), bridge("br1")], std::slice::from_ref(&new));
            assert_eq!(arrives(&from, &to), [Action::RemovePort { name: "p1".into() }, Action::AddPort(new)]);
        }
    }

    #[test]
    fn a_tunnel_with_other_remote_ends_stays_the_same_port() {
        let port = |ends: &[u8], key| {
            let ends = ends.iter().map(|last| [192, 0, 2, *last].into());
            let tunnel = Tunnel::new(Protocol::Vxlan, ([192, 0, 2, 2], 4789).into(), TunnelKey(key));
            let tunnel = Tunnel { remotes: Some(Remotes::new(ends)), ..tunnel };
            PortSpec { kind: PortKind::Tunnel(tunnel), ..netdev("vx0", "br0", 0) }
        };
        let plan_to = |new: PortSpec| {
            let from = specs(&[bridge("br0")], &[port(&[2, 3], 5)]);
            plan(&from, &specs(&[bridge("br0")], &[new]), &BTreeSet::new())
        };
        assert_eq!(plan_to(port(&[2, 3, 4], 5)), [Action::SetPort(port(&[2, 3, 4], 5))]);
        assert_eq!(plan_to(port(&[2, 3], 6)).len(), 2, "removed and added");
    }

    #[test]
    fn a_broken_port_is_opened_anew() {
        let s = specs(&[bridge("br0")], &[netdev("p1", "br0", 3), netdev("p2", "br0", 4)]);
        assert_eq!(
            plan(&s, &s, &BTreeSet::from(["p1".to_owned()])),
            [Action::RemovePort { name: "p1".into() }, Action::AddPort(netdev("p1", "br0", 3))]
        );
    }
}
