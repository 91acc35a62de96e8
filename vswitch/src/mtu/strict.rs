//! `mtu-policy=strict`: what does not fit a tunnel is refused. Pure.
//!
//! The port that does not fit is in error. But a tunnel without a port number, because it is new or was refused before,
//! gives way to ports that have one: who adds a tunnel does not take the others' ports away.

use super::limits::{Limit, Limits};
use super::settle::{Member, members};
use crate::config::interface::{Interface, Kind, Wanted};
use crate::config::mtu_policy::MtuPolicy;
use crate::config::{Bridge, Refusal};
use crate::netlink::link::LinkTable;
use datapath::control::PortSpec;
use std::collections::BTreeMap;

/// What `bridge` refuses of those of its `ports` that could be attached.
#[must_use]
pub fn refused<'a>(
    bridge: &'a Bridge,
    links: &'a LinkTable,
    ports: &BTreeMap<String, PortSpec>,
) -> Vec<(&'a Interface, Refusal)> {
    let strict = |wanted: &Wanted| matches!(wanted.kind, Kind::Tunnel(_)) && wanted.mtu_policy == MtuPolicy::Strict;
    // Nearly always there is nothing to look at.
    if !bridge.interfaces.iter().any(|interface| interface.wanted.as_ref().is_ok_and(strict)) {
        return Vec::new();
    }
    let members = members(bridge, links, ports);
    let (tunnels, others): (Vec<_>, Vec<_>) = members.iter().filter(|m| m.mtu.is_some()).partition(|m| m.is_tunnel());
    let numbered = |m: &Member<'_>| m.interface.ofport.is_some_and(|ofport| ofport > 0);
    let mut refused = Vec::new();
    let mut kept = Vec::new();
    for tunnel in tunnels.into_iter().filter(|tunnel| strict(tunnel.wanted)) {
        let alone = Limits::of(tunnel.way(bridge));
        let in_the_way =
            others.iter().filter(|m| numbered(m)).find_map(|m| exceeded(m, &alone).map(|limit| (m, limit)));
        match in_the_way.filter(|_| !numbered(tunnel)) {
            Some((port, limit)) => refused.push((tunnel.interface, too_narrow(port, &limit))),
            None => kept.extend(tunnel.way(bridge)),
        }
    }
    let limits = Limits::of(kept);
    let too_large = others.iter().filter_map(|m| Some((m.interface, too_large(m, &exceeded(m, &limits)?))));
    refused.extend(too_large);
    refused
}

/// What the port's packets are too large for.
fn exceeded<'a>(port: &Member<'_>, limits: &Limits<'a>) -> Option<Limit<'a>> {
    limits.of_port(&port.wanted.vlan).filter(|limit| port.mtu.is_some_and(|mtu| mtu > limit.mtu))
}

fn too_large(port: &Member<'_>, limit: &Limit<'_>) -> Refusal {
    let (name, mtu, Limit { mtu: least, tunnel, .. }) = (port.name(), port.mtu.unwrap_or_default(), limit);
    format!(
        "{name}: MTU {mtu} cannot cross {tunnel} (limit {least}), and mtu-policy=strict refuses what does not fit; lower it \
         with 'vsctl set interface {name} mtu_request={least}'"
    )
}

fn too_narrow(port: &Member<'_>, limit: &Limit<'_>) -> Refusal {
    let (name, mtu, Limit { mtu: least, tunnel, .. }) = (port.name(), port.mtu.unwrap_or_default(), limit);
    format!(
        "{tunnel}: MTU {mtu} of {name} cannot cross it (limit {least}), and mtu-policy=strict refuses what does not fit; \
         lower it with 'vsctl set interface {name} mtu_request={least}'"
    )
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::config::tests::{br0_p1, database};
    use crate::netlink::link::LinkTable;
    use crate::netlink::link::tests::veth;
    use crate::netlink::route::Route;
    use crate::reconcile::desired::{desired, paths};
    use rtnetlink::packet_route::RouteNetlinkMessage;
    use serde_json::{Value, json};
    use std::collections::BTreeMap;

    /// What is in error of p1, whose device has 1500 bytes, and vx0, which carries 1450, with these columns.
    fn errors(policy: &str, p1: Value, vx0: Value) -> BTreeMap<String, String> {
        let bridge = json!({"other_config": ["map", [["mtu-policy", policy]]]});
        let mut ops = br0_p1(json!({}), bridge, json!({}), p1);
        let mut tunnel = json!({"name": "vx0", "type": "vxlan", "options": ["map", [["remote_ip", "192.0.2.2"]]]});
        vx0.as_object().unwrap().iter().for_each(|(column, value)| tunnel[column] = value.clone());
        let ports = ["own", "p", "q"].map(|name| json!(["named-uuid", name]));
        ops[1]["row"]["ports"] = json!(["set", ports]);
        ops.push(json!({"op": "insert", "table": "Port", "uuid-name": "q",
            "row": {"name": "vx0", "interfaces": ["named-uuid", "j"]}}));
        ops.push(json!({"op": "insert", "table": "Interface", "uuid-name": "j", "row": tunnel}));
        let config = Config::read(&database(&ops));
        let mut links = LinkTable::default();
        for (ifindex, name) in [(3, "p1"), (4, "eth0")] {
            links.apply(&RouteNetlinkMessage::NewLink(veth(ifindex, name)));
        }
        let routes = paths(&config).map(|path| (path, Route::Via { ifindex: 4, mtu: None, source: None })).collect();
        let desired = desired(&config, &links, &routes);
        let refused =
            config.interfaces().filter_map(|(_, i)| Some((i.name.clone(), desired.refused.get(&i.uuid)?.clone())));
        let refused: BTreeMap<_, _> = refused.collect();
        assert!(refused.keys().all(|name| !desired.specs.ports.contains_key(name)));
        refused
    }

    fn which(policy: &str, p1: Value, vx0: Value) -> String {
        errors(policy, p1, vx0).into_keys().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_port_that_does_not_fit_is_in_error_but_for_one_that_was_there_first() {
        let (new, numbered, failed) = (|| json!({}), || json!({"ofport": 1}), || json!({"ofport": -1}));
        for (p1, vx0, expected) in [
            (new(), new(), "p1"),
            (new(), numbered(), "p1"),
            (numbered(), numbered(), "p1"),
            (failed(), numbered(), "p1"),
            (failed(), failed(), "p1"),
            (numbered(), new(), "vx0"),
            (numbered(), failed(), "vx0"),
            (json!({"mtu_request": 1450}), new(), ""),
            (json!({"mtu_request": 1450, "ofport": -1}), numbered(), ""),
            (json!({"mtu_request": 1451, "ofport": 1}), numbered(), "p1"),
        ] {
            assert_eq!(which("strict", p1.clone(), vx0.clone()), expected, "{p1} and {vx0}");
            for policy in ["fit", "icmp", "drop"] {
                assert_eq!(which(policy, p1.clone(), vx0.clone()), "", "{policy}");
            }
        }
    }

    #[test]
    fn a_tunnel_may_be_strict_or_not_by_itself() {
        let vx0 = |policy| json!({"options": ["map", [["remote_ip", "192.0.2.2"], ["mtu-policy", policy]]]});
        assert_eq!(which("fit", json!({}), vx0("strict")), "p1");
        assert_eq!(which("strict", json!({}), vx0("drop")), "");
    }

    #[test]
    fn errors_say_what_to_lower() {
        let p1 = errors("strict", json!({}), json!({}));
        assert_eq!(
            p1["p1"],
            "p1: MTU 1500 cannot cross vx0 (limit 1450), and mtu-policy=strict refuses what does not fit; lower it with \
             'vsctl set interface p1 mtu_request=1450'"
        );
        let vx0 = errors("strict", json!({"ofport": 1}), json!({}));
        assert_eq!(
            vx0["vx0"],
            "vx0: MTU 1500 of p1 cannot cross it (limit 1450), and mtu-policy=strict refuses what does not fit; lower it \
             with 'vsctl set interface p1 mtu_request=1450'"
        );
    }
}
