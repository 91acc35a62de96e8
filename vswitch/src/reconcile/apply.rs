//! Carrying out plans, and remembering how it went: what the datapath has, what it said about it, what it refused.

use super::plan::{Specs, plan};
use datapath::control::{Action, Applied, ApplyError, MtuPolicy, PortKind, PortSpec};
use datapath::switch::shape::Limit;
use datapath::switch::state::{PortRules, PriorityTags, Trunks, VlanMode};
use datapath::tunnel::Tunnel;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use tracing::{error, info, warn};

/// What the datapath has been told, and what came of it.
#[derive(Default)]
pub struct Applier {
    current: Specs,
    facts: BTreeMap<String, Applied>,
    failed: BTreeMap<String, (PortSpec, String)>,
    broken: BTreeSet<String>,
}

impl Applier {
    /// What the datapath said about a port that it has.
    #[must_use]
    pub fn facts(&self, port: &str) -> Option<&Applied> {
        self.facts.get(port)
    }

    /// Why the datapath has not made a port as it should be.
    #[must_use]
    pub fn failure(&self, port: &str) -> Option<&str> {
        self.failed.get(port).map(|(_, why)| why.as_str())
    }

    /// Whether the datapath has the port.
    #[must_use]
    pub fn has(&self, port: &str) -> bool {
        self.current.ports.contains_key(port)
    }

    /// Whether the datapath has a port of this name, kind and bridge, and its device has not died.
    #[must_use]
    pub fn has_as(&self, port: &PortSpec) -> bool {
        let same = |has: &PortSpec| has.kind == port.kind && has.bridge == port.bridge;
        self.current.ports.get(&port.name).is_some_and(same) && !self.broken.contains(&port.name)
    }

    /// Whether anything waits for another try.
    #[must_use]
    pub fn has_failures(&self) -> bool {
        !self.failed.is_empty()
    }

    /// A port's device has died by itself; the next plan opens it anew.
    pub fn broke(&mut self, port: String) {
        if self.has(&port) {
            self.broken.insert(port);
        }
    }

    /// Brings the datapath to `desired`; whether it changed. What failed before is tried again only if `retry` is set
    /// or it has changed.
    pub fn apply(
        &mut self,
        desired: &Specs,
        retry: bool,
        carry_out: impl FnOnce(Vec<Action>) -> Vec<Result<Applied, ApplyError>>,
    ) -> bool {
        self.failed.retain(|name, (spec, _)| !retry && desired.ports.get(name) == Some(spec));
        let mut attempted = Cow::Borrowed(desired);
        for name in self.failed.keys() {
            let ports = &mut attempted.to_mut().ports;
            match self.current.ports.get(name) {
                Some(old) => ports.insert(name.clone(), old.clone()),
                None => ports.remove(name),
            };
        }
        let actions = plan(&self.current, &attempted, &self.broken);
        self.broken.clear();
        if actions.is_empty() {
            return false;
        }
        let results = carry_out(actions.clone());
        let mut changed = false;
        for (action, result) in actions.into_iter().zip(results) {
            changed |= self.record(action, result);
        }
        changed
    }

    fn record(&mut self, action: Action, result: Result<Applied, ApplyError>) -> bool {
        match result {
            Ok(applied) => {
                self.succeeded(action, applied);
                true
            }
            Err(why) => {
                self.refused(action, &why);
                false
            }
        }
    }

    fn succeeded(&mut self, action: Action, applied: Applied) {
        match action {
            Action::RemovePort { name } => {
                let bridge = self.current.ports.remove(&name).map(|p| p.bridge).unwrap_or_default();
                self.facts.remove(&name);
                info!("port {name} detached from bridge {bridge}");
            }
            Action::RemoveBridge { name } => {
                self.current.bridges.remove(&name);
                info!("bridge {name} removed");
            }
            Action::AddBridge(spec) | Action::SetBridge(spec) => {
                let done = if self.current.bridges.contains_key(&spec.name) { "changed" } else { "added" };
                info!(
                    "bridge {} {done}: mac-aging-time {} s, mac-table-size {}, static addresses {}{}{}",
                    spec.name,
                    spec.mac_aging.as_secs(),
                    spec.mac_table_size,
                    spec.statics.len(),
                    if spec.secure { ", secure: forwards nothing" } else { "" },
                    spec.mirrors.iter().map(|m| format!(", mirror {}", m.name)).collect::<String>()
                );
                self.current.bridges.insert(spec.name.clone(), spec);
            }
            Action::AddPort(spec) => {
                let facts = applied.status.iter().map(|(k, v)| format!(", {k} {v}")).collect::<String>();
                info!("port {} attached to bridge {}: {}{facts}", spec.name, spec.bridge, describe(&spec));
                self.facts.insert(spec.name.clone(), applied);
                self.current.ports.insert(spec.name.clone(), spec);
            }
            Action::SetPort(spec) => {
                info!("port {} of bridge {} changed: {}", spec.name, spec.bridge, describe(&spec));
                self.facts.insert(spec.name.clone(), applied);
                self.current.ports.insert(spec.name.clone(), spec);
            }
        }
    }

    fn refused(&mut self, action: Action, why: &ApplyError) {
        match action {
            Action::AddPort(spec) | Action::SetPort(spec) => {
                self.failed.insert(spec.name.clone(), (spec, why.to_string()));
            }
            // The datapath knows no such thing: then it is as planned.
            Action::RemovePort { name } => {
                warn!("removing port {name}: {why}");
                self.current.ports.remove(&name);
                self.facts.remove(&name);
            }
            Action::RemoveBridge { name } => {
                warn!("removing bridge {name}: {why}");
                self.current.bridges.remove(&name);
            }
            Action::AddBridge(spec) | Action::SetBridge(spec) => error!("bridge {}: {why}", spec.name),
        }
    }
}

/// A port in a log line.
fn describe(spec: &PortSpec) -> String {
    let kind = match &spec.kind {
        PortKind::Netdev { ifindex } => format!("device with ifindex {ifindex}"),
        PortKind::Xdp(xdp) => format!("device with ifindex {} by AF_XDP", xdp.ifindex),
        PortKind::Internal => "internal".to_owned(),
        PortKind::Tunnel(t) => tunnel(t),
        PortKind::Patch { peer } => format!("patch to {peer}"),
        PortKind::Memory(_) => "memory".to_owned(),
    };
    let trunks = |t: &Trunks| match t {
        Trunks::All => "all".to_owned(),
        Trunks::Only(set) => set.to_string(),
    };
    let vlan = match &spec.vlan {
        VlanMode::Access(vlan) => format!("access VLAN {vlan}"),
        VlanMode::Trunk(t) => format!("trunk of VLANs {}", trunks(t)),
        VlanMode::NativeTagged(native, t) => format!("native-tagged VLAN {native}, VLANs {}", trunks(t)),
        VlanMode::NativeUntagged(native, t) => format!("native-untagged VLAN {native}, VLANs {}", trunks(t)),
        VlanMode::Dot1qTunnel(s) => {
            format!(
                "dot1q-tunnel of service VLAN {} (TPID {:#06x}), customer VLANs {}",
                s.vlan,
                s.tpid,
                trunks(&s.customers)
            )
        }
    };
    let rules = rules(spec.rules);
    let beyond = match spec.mtu_policy {
        MtuPolicy::Fit => "",
        MtuPolicy::Icmp => " (TCP is told, too)",
        MtuPolicy::Drop => " (what is larger is dropped)",
    };
    let mtu = spec.mtu.map(|m| format!(", MTU {m}{beyond}")).unwrap_or_default();
    let limit = |way: &str, limit: Option<Limit>| limit.map(|l| format!(", {way} at most {l}")).unwrap_or_default();
    let limits = limit("in", spec.limits.ingress) + &limit("out", spec.limits.egress);
    format!("{kind}, {vlan}{rules}{mtu}{limits}, {}", if spec.up { "up" } else { "down" })
}

/// A tunnel in a log line.
fn tunnel(t: &Tunnel) -> String {
    let to = if t.remote.port() == 0 { t.remote.ip().to_string() } else { t.remote.to_string() };
    let others = match t.remotes.as_ref().map_or(0, |remotes| remotes.ends().len()) {
        0 | 1 => String::new(),
        ends => format!(" and {} other ends", ends - 1),
    };
    let told_apart = match (t.in_key, t.out_key) {
        _ if t.protocol.is_layer3() => format!(" routes {}", t.routes().count()),
        (one, both) if one == both => format!(" key {both}"),
        (in_key, out_key) => format!(" in_key {in_key} out_key {out_key}"),
    };
    format!("{} to {to}{others}{told_apart}", t.protocol.name())
}

fn rules(PortRules { priority_tags, protected }: PortRules) -> String {
    let tags = match priority_tags {
        PriorityTags::Never => "",
        PriorityTags::IfNonzero => ", priority tags if nonzero",
        PriorityTags::Always => ", priority tags always",
    };
    format!("{tags}{}", if protected { ", protected" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::super::plan::tests::{bridge, netdev, specs};
    use super::*;

    /// A datapath that refuses the ports in `refuse`.
    fn datapath<'a>(
        refuse: &'a [&'a str],
        seen: &'a mut Vec<Action>,
    ) -> impl FnOnce(Vec<Action>) -> Vec<Result<Applied, ApplyError>> + 'a {
        move |actions| {
            seen.clone_from(&actions);
            let result = |action: &Action| match action {
                Action::AddPort(p) | Action::SetPort(p) if refuse.contains(&p.name.as_str()) => {
                    Err(ApplyError::Exists(p.name.clone()))
                }
                _ => Ok(Applied::default()),
            };
            actions.iter().map(result).collect()
        }
    }

    #[test]
    fn the_same_again_does_nothing() {
        let want = specs(&[bridge("br0")], &[netdev("p1", "br0", 3)]);
        let (mut applier, mut seen) = (Applier::default(), Vec::new());
        assert!(applier.apply(&want, true, datapath(&[], &mut seen)));
        assert_eq!(seen.len(), 2);
        assert!(!applier.apply(&want, true, |_| panic!("nothing to do")));
    }

    #[test]
    fn what_failed_leaves_the_others_and_is_tried_again_when_asked() {
        let want = specs(&[bridge("br0")], &[netdev("p1", "br0", 3), netdev("p2", "br0", 4)]);
        let (mut applier, mut seen) = (Applier::default(), Vec::new());
        applier.apply(&want, true, datapath(&["p1"], &mut seen));
        assert!(applier.has("p2") && !applier.has("p1") && applier.has_failures());
        assert!(applier.failure("p1").unwrap().contains("p1"), "{:?}", applier.failure("p1"));
        assert!(!applier.apply(&want, false, |_| panic!("not without being asked")));
        assert!(applier.failure("p1").is_some());
        assert!(applier.apply(&want, true, datapath(&[], &mut seen)));
        assert_eq!(seen, [Action::AddPort(netdev("p1", "br0", 3))]);
        assert_eq!(applier.failure("p1"), None);
    }

    #[test]
    fn what_failed_is_tried_again_when_it_changes() {
        let (mut applier, mut seen) = (Applier::default(), Vec::new());
        applier.apply(&specs(&[bridge("br0")], &[netdev("p1", "br0", 3)]), true, datapath(&["p1"], &mut seen));
        applier.apply(&specs(&[bridge("br0")], &[netdev("p1", "br0", 5)]), false, datapath(&[], &mut seen));
        assert_eq!(seen, [Action::AddPort(netdev("p1", "br0", 5))]);
        applier.apply(&specs(&[bridge("br0")], &[]), false, datapath(&[], &mut seen));
        assert_eq!(seen, [Action::RemovePort { name: "p1".into() }]);
        assert!(!applier.has_failures());
    }

    #[test]
    fn a_port_that_broke_is_opened_anew_once() {
        let want = specs(&[bridge("br0")], &[netdev("p1", "br0", 3)]);
        let (mut applier, mut seen) = (Applier::default(), Vec::new());
        applier.apply(&want, true, datapath(&[], &mut seen));
        applier.broke("p1".to_owned());
        applier.broke("unknown".to_owned());
        assert!(applier.apply(&want, true, datapath(&[], &mut seen)));
        assert_eq!(seen, [Action::RemovePort { name: "p1".into() }, Action::AddPort(netdev("p1", "br0", 3))]);
        assert!(!applier.apply(&want, true, |_| panic!("nothing to do")));
    }
}
