//! Which mirrors can be made, and why the others cannot: a mirror that would harm traffic is left out. Pure.
//!
//! Of two mirrors that cannot be in force together, the one whose bridge and name come first is.

use super::desired::is_layer3;
use super::plan::Specs;
use crate::config::mirror::Mirror;
use crate::config::{Bridge, Config, Refusal};
use datapath::control::{MAX_MIRRORS, MirrorOutput, MirrorSpec, PortKind};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// What became of the mirrors.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Mirrors {
    /// Why one is not in force, by its row.
    pub refused: BTreeMap<Uuid, Refusal>,
    /// The interface that one in force copies to, by its row.
    pub outputs: BTreeMap<Uuid, Uuid>,
}

/// Puts into `specs` the mirrors that can be made. `broken`: interfaces that carry nothing, and why.
pub fn place(config: &Config, specs: &mut Specs, broken: &BTreeMap<Uuid, Refusal>) -> Mirrors {
    let mut done = Mirrors::default();
    for bridge in config.bridges.iter().filter(|b| b.refused.is_none()) {
        for mirror in &bridge.mirrors {
            match check(config, specs, broken, bridge, mirror) {
                Ok((spec, output)) => {
                    done.outputs.extend(output.map(|interface| (mirror.uuid, interface)));
                    if let Some(b) = specs.bridges.get_mut(&bridge.name) {
                        b.mirrors.push(spec);
                    }
                }
                Err(why) => {
                    done.refused.insert(mirror.uuid, why);
                }
            }
        }
    }
    done
}

type Placed = (MirrorSpec, Option<Uuid>);

fn check(
    config: &Config,
    specs: &Specs,
    broken: &BTreeMap<Uuid, Refusal>,
    bridge: &Bridge,
    mirror: &Mirror,
) -> Result<Placed, Refusal> {
    let (name, own) = (&mirror.name, &specs.bridges[&bridge.name].mirrors);
    if own.iter().any(|m| m.name == *name) {
        return Err(format!(
            "another mirror of the bridge has this name; rename one: 'vsctl set mirror {} name=OTHER'",
            mirror.uuid
        ));
    }
    if own.len() >= MAX_MIRRORS {
        return Err(format!("a bridge has {MAX_MIRRORS} mirrors at most; remove another one"));
    }
    // Open vSwitch overlooks the lists, too, where everything is selected.
    let selects =
        |ports: &BTreeSet<Uuid>| if mirror.all { Ok(BTreeSet::new()) } else { interfaces(config, bridge, ports) };
    let (arriving, leaving) = (selects(&mirror.arriving)?, selects(&mirror.leaving)?);
    if !mirror.all && arriving.is_empty() && leaving.is_empty() {
        return Err(format!(
            "no port is selected, so nothing is copied; 'vsctl set mirror {name} select_all=true' selects all, \
             select_src_port and select_dst_port select some"
        ));
    }
    let (output, interface) = match (mirror.output_port, mirror.output_vlan) {
        (Some(port), _) => {
            let (interface, port) = output(config, specs, broken, bridge, port)?;
            (MirrorOutput::Port(port), Some(interface))
        }
        (None, Some(vlan)) => (MirrorOutput::Vlan(vlan), None),
        (None, None) => {
            return Err(format!(
                "no output: it has none, or the port is gone; 'vsctl -- --id=@p get port PORT -- set mirror {name} \
                 output_port=@p' sets one"
            ));
        }
    };
    let all = mirror.all;
    let (vlans, snaplen) = (mirror.vlans.clone(), mirror.snaplen);
    let spec = MirrorSpec { name: name.clone(), all, arriving, leaving, vlans, output, snaplen };
    refuse_selected_output(&spec, own)?;
    refuse_loop(specs, &bridge.name, &spec)?;
    Ok((spec, interface))
}

/// The interfaces of ports of the bridge.
fn interfaces(config: &Config, bridge: &Bridge, ports: &BTreeSet<Uuid>) -> Result<BTreeSet<String>, Refusal> {
    if let Some(port) = ports.iter().find(|uuid| bridge.ports.iter().all(|p| p.uuid != **uuid)) {
        return Err(format!(
            "port {} is not on bridge {}; select ports of the bridge",
            describe(config, *port),
            bridge.name
        ));
    }
    Ok(bridge.interfaces.iter().filter(|i| ports.contains(&i.port)).map(|i| i.name.clone()).collect())
}

/// A port that is on some bridge.
fn describe(config: &Config, port: Uuid) -> String {
    let ports = config.bridges.iter().flat_map(|b| b.ports.iter().map(move |p| (b, p)));
    let found = ports.filter(|(_, p)| p.uuid == port).map(|(b, p)| format!("{} of bridge {}", p.name, b.name)).next();
    found.unwrap_or_else(|| port.to_string())
}

/// The interface of an output port: its row and its name.
fn output(
    config: &Config,
    specs: &Specs,
    broken: &BTreeMap<Uuid, Refusal>,
    bridge: &Bridge,
    port: Uuid,
) -> Result<(Uuid, String), Refusal> {
    let Some(interface) = bridge.interfaces.iter().find(|i| i.port == port) else {
        let port = describe(config, port);
        return Err(format!(
            "output_port: port {port} is not on bridge {}; copies leave by its own ports",
            bridge.name
        ));
    };
    match broken.get(&interface.uuid) {
        Some(why) => Err(format!("output_port: {why}")),
        None if !specs.ports.contains_key(&interface.name) => {
            Err(format!("output_port: {0} is in error; 'vsctl get interface {0} error' tells why", interface.name))
        }
        None if is_layer3(interface) => Err(format!(
            "output_port: {} carries IPv4 packets for its routes only; choose a port that carries Ethernet frames",
            interface.name
        )),
        None => Ok((interface.uuid, interface.name.clone())),
    }
}

fn selected(mirror: &MirrorSpec, port: &str) -> bool {
    mirror.arriving.contains(port) || mirror.leaving.contains(port)
}

fn port(output: &MirrorOutput) -> Option<&str> {
    match output {
        MirrorOutput::Port(port) => Some(port),
        MirrorOutput::Vlan(_) => None,
    }
}

/// An output port carries copies only: one that is selected would lose its own traffic.
fn refuse_selected_output(spec: &MirrorSpec, others: &[MirrorSpec]) -> Result<(), Refusal> {
    if let Some(port) = port(&spec.output) {
        let lost = "as an output it would carry nothing but copies; choose another port as output_port";
        if selected(spec, port) {
            return Err(format!("output_port {port} is also selected: {lost}"));
        }
        if let Some(other) = others.iter().find(|m| selected(m, port)) {
            return Err(format!("output_port {port} is selected by mirror {}: {lost}", other.name));
        }
    }
    for other in others {
        if let Some(port) = port(&other.output).filter(|port| selected(spec, port)) {
            return Err(format!(
                "port {port} is selected, but as the output of mirror {} it carries nothing but copies",
                other.name
            ));
        }
    }
    Ok(())
}

/// Copies that come back to the bridge that they were made on would be traffic there, and copied again.
fn refuse_loop(specs: &Specs, bridge: &str, spec: &MirrorSpec) -> Result<(), Refusal> {
    match &spec.output {
        MirrorOutput::Port(port) => {
            let Some((_, peer)) = patches(specs).find(|(end, _)| end == port) else { return Ok(()) };
            let beyond = specs.ports[peer].bridge.as_str();
            match reached(specs, beyond, port).contains(bridge) {
                false => Ok(()),
                true => Err(format!(
                    "a loop: what leaves by patch port {port} to bridge {beyond} comes back to bridge {bridge} by other \
                     patch ports; remove those, or choose another output_port"
                )),
            }
        }
        MirrorOutput::Vlan(vlan) => {
            let joined = reached(specs, bridge, "");
            let elsewhere = specs.bridges.iter().filter(|(name, _)| *name != bridge && joined.contains(name.as_str()));
            for (name, other) in elsewhere {
                let differs = |m: &&MirrorSpec| matches!(&m.output, MirrorOutput::Vlan(v) if v != vlan);
                if let Some(other) = other.mirrors.iter().find(differs) {
                    return Err(format!(
                        "a loop: mirror {} of bridge {name}, which patch ports join to this one, has another output_vlan, \
                         so each would copy the copies of the other; use the same output_vlan {vlan} for both",
                        other.name
                    ));
                }
            }
            Ok(())
        }
    }
}

/// The ends of patches that have another end, each with that.
fn patches(specs: &Specs) -> impl Iterator<Item = (&str, &str)> {
    let peer = |port: &str| match &specs.ports.get(port)?.kind {
        PortKind::Patch { peer } => Some(peer.as_str()),
        _ => None,
    };
    let ends = specs.ports.keys().filter_map(move |end| Some((end.as_str(), peer(end)?)));
    ends.filter(move |(end, other)| peer(other) == Some(end))
}

/// The bridges that one comes to from `start` by patch ports, itself included, without the patch that has `end`.
fn reached<'a>(specs: &'a Specs, start: &'a str, end: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::from([start]);
    let mut todo = vec![start];
    while let Some(bridge) = todo.pop() {
        for (from, to) in patches(specs).filter(|(from, to)| *from != end && *to != end) {
            let (from, to) = (&specs.ports[from].bridge, specs.ports[to].bridge.as_str());
            if from == bridge && seen.insert(to) {
                todo.push(to);
            }
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::database;
    use crate::netlink::link::LinkTable;
    use crate::reconcile::desired::{Desired, desired};
    use serde_json::{Value, json};

    fn named(names: &[&str]) -> Value {
        json!(["set", names.iter().map(|name| json!(["named-uuid", name])).collect::<Vec<_>>()])
    }

    /// The operations for bridges with ports, each an internal one or, with "a=b", a patch port a with peer b; and for
    /// mirrors of bridges. Their ports are named by `p_NAME`.
    fn ops(bridges: &[(&str, &[&str])], mirrors: &[(&str, &str, Value)]) -> Vec<Value> {
        let names: Vec<_> = bridges.iter().map(|(name, _)| *name).collect();
        let mut ops = vec![json!({"op": "insert", "table": "Open_vSwitch", "row": {"bridges": named(&names)}})];
        for (bridge, ports) in bridges {
            let mut rows = Vec::new();
            for port in *ports {
                let (name, row) = match port.split_once('=') {
                    Some((name, peer)) => (name, json!({"type": "patch", "options": ["map", [["peer", peer]]]})),
                    None if *port == "ip0" => {
                        (*port, json!({"type": "ipip", "options": ["map", [["remote_ip", "192.0.2.2"]]]}))
                    }
                    None => (*port, json!({"type": "internal"})),
                };
                let mut row = row;
                row["name"] = json!(name);
                rows.push(format!("p_{name}"));
                ops.push(json!({"op": "insert", "table": "Interface", "uuid-name": format!("i_{name}"), "row": row}));
                ops.push(json!({"op": "insert", "table": "Port", "uuid-name": format!("p_{name}"),
                    "row": {"name": name, "interfaces": ["named-uuid", format!("i_{name}")]}}));
            }
            let rows: Vec<_> = rows.iter().map(String::as_str).collect();
            let of_bridge = mirrors.iter().enumerate().filter(|(_, (b, ..))| b == bridge);
            let of_bridge: Vec<_> = of_bridge.map(|(i, _)| format!("m{i}")).collect();
            let of_bridge: Vec<_> = of_bridge.iter().map(String::as_str).collect();
            ops.push(json!({"op": "insert", "table": "Bridge", "uuid-name": bridge,
                "row": {"name": bridge, "ports": named(&rows), "mirrors": named(&of_bridge)}}));
        }
        for (i, (_, name, row)) in mirrors.iter().enumerate() {
            let mut row = row.clone();
            row["name"] = json!(name);
            ops.push(json!({"op": "insert", "table": "Mirror", "uuid-name": format!("m{i}"), "row": row}));
        }
        ops
    }

    fn read(bridges: &[(&str, &[&str])], mirrors: &[(&str, &str, Value)]) -> (Config, Desired) {
        let config = Config::read(&database(&ops(bridges, mirrors)));
        let desired = desired(&config, &LinkTable::default(), &BTreeMap::new());
        (config, desired)
    }

    /// What becomes of mirrors: for each that is in force nothing, else why.
    fn told(bridges: &[(&str, &[&str])], mirrors: &[(&str, &str, Value)]) -> Vec<String> {
        let (config, desired) = read(bridges, mirrors);
        let refused = |m: &Mirror| desired.mirrors.refused.get(&m.uuid).cloned().unwrap_or_default();
        config.mirrors().map(|(_, m)| refused(m)).collect()
    }

    const ONE: &[(&str, &[&str])] = &[("br0", &["br0", "a", "b", "mon"])];

    fn to(output: &str, sources: &[&str]) -> Value {
        json!({"select_src_port": named(sources), "output_port": ["named-uuid", output]})
    }

    #[test]
    fn a_mirror_becomes_what_the_datapath_takes() {
        let row = json!({
            "select_src_port": named(&["p_a", "p_b"]),
            "select_dst_port": ["named-uuid", "p_b"],
            "select_vlan": ["set", [5, 7]],
            "output_port": ["named-uuid", "p_mon"],
            "snaplen": 100,
        });
        let rspan = json!({"select_all": true, "output_vlan": 99, "select_dst_port": ["named-uuid", "p_b"]});
        let (_, desired) = read(ONE, &[("br0", "m", row), ("br0", "r", rspan)]);
        let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<BTreeSet<_>>();
        let vlan = |n| datapath::types::VlanId::new(n).unwrap();
        let m = MirrorSpec {
            name: "m".to_owned(),
            all: false,
            arriving: words(&["a", "b"]),
            leaving: words(&["b"]),
            vlans: [5, 7].map(vlan).into(),
            output: MirrorOutput::Port("mon".to_owned()),
            snaplen: Some(100),
        };
        let r = MirrorSpec {
            name: "r".to_owned(),
            all: true,
            arriving: words(&[]),
            leaving: words(&[]),
            vlans: BTreeSet::new(),
            output: MirrorOutput::Vlan(vlan(99)),
            snaplen: None,
        };
        assert_eq!(desired.specs.bridges["br0"].mirrors, [m, r]);
        assert_eq!((desired.mirrors.refused.len(), desired.mirrors.outputs.len()), (0, 1));
    }

    #[test]
    fn mirrors_that_would_harm_or_do_nothing_are_refused() {
        for (row, why) in [
            (
                json!({"select_all": true}),
                "no output: it has none, or the port is gone; 'vsctl -- --id=@p get port PORT",
            ),
            (to("p_a", &["p_a"]), "output_port a is also selected: as an output it would carry nothing but copies"),
            (to("p_mon", &[]), "no port is selected, so nothing is copied; 'vsctl set mirror m select_all=true'"),
            (
                to("p_far", &["p_a"]),
                "output_port: port far of bridge br1 is not on bridge br0; copies leave by its own",
            ),
            (to("p_mon", &["p_far"]), "port far of bridge br1 is not on bridge br0; select ports of the bridge"),
            (
                to("p_ip0", &["p_a"]),
                "output_port: ip0 carries IPv4 packets for its routes only; choose a port that carries Ethernet frames",
            ),
            (
                to("p_x", &["p_a"]),
                "output_port: No usable peer 'nobody' exists in 'netdev' datapath. There is no inter",
            ),
        ] {
            let bridges: &[(&str, &[&str])] = &[("br0", &["a", "b", "mon", "ip0", "x=nobody"]), ("br1", &["far"])];
            let told = told(bridges, &[("br0", "m", row)]);
            assert!(told.len() == 1 && told[0].starts_with(why), "{told:?}");
        }
        // Where everything is selected, the output itself is not.
        let mut all = to("p_mon", &["p_mon"]);
        all["select_all"] = json!(true);
        assert_eq!(told(ONE, &[("br0", "m", all)]), [""]);
    }

    #[test]
    fn of_two_mirrors_that_exclude_each_other_the_first_is_in_force() {
        let selected = told(ONE, &[("br0", "m1", to("p_mon", &["p_a"])), ("br0", "m2", to("p_a", &["p_b"]))]);
        assert!(selected[0].is_empty() && selected[1].starts_with("output_port a is selected by mirror m1: "));
        let output = told(ONE, &[("br0", "m1", to("p_mon", &["p_a"])), ("br0", "m2", to("p_b", &["p_mon"]))]);
        assert!(
            output[0].is_empty() && output[1].starts_with("port mon is selected, but as the output of mirror m1 it")
        );
        let same_name = told(ONE, &[("br0", "m", to("p_mon", &["p_a"])), ("br0", "m", to("p_mon", &["p_b"]))]);
        assert!(same_name[0].is_empty() && same_name[1].starts_with("another mirror of the bridge has this name"));
        let shared = told(ONE, &[("br0", "m1", to("p_mon", &["p_a"])), ("br0", "m2", to("p_mon", &["p_b"]))]);
        assert_eq!(shared, ["", ""]);
        let many: Vec<_> = (0..34).map(|i| ("br0", format!("m{i:02}"))).collect();
        let many: Vec<_> = many.iter().map(|(b, name)| (*b, name.as_str(), to("p_mon", &["p_a"]))).collect();
        let told = told(ONE, &many);
        assert!(told[..32].iter().all(String::is_empty), "{told:?}");
        assert_eq!(told[32..], ["a bridge has 32 mirrors at most; remove another one"; 2].map(str::to_owned));
    }

    #[test]
    fn a_loop_through_patch_ports_is_refused() {
        let chain: &[(&str, &[&str])] =
            &[("br0", &["a", "r0=l1", "x=y"]), ("br1", &["l1=r0", "r1=l2"]), ("br2", &["l2=r1", "b"])];
        assert_eq!(told(chain, &[("br0", "m", to("p_r0", &["p_a"]))]), [""]);
        let ring: &[(&str, &[&str])] =
            &[("br0", &["a", "r0=l1", "x=y"]), ("br1", &["l1=r0", "r1=l2"]), ("br2", &["l2=r1", "y=x"])];
        let looped = told(ring, &[("br0", "m", to("p_r0", &["p_a"]))]);
        assert!(looped[0].starts_with("a loop: what leaves by patch port r0 to bridge br1 comes back to bridge br0"));
        let own: &[(&str, &[&str])] = &[("br0", &["a", "x=y", "y=x"])];
        assert!(told(own, &[("br0", "m", to("p_x", &["p_a"]))])[0].starts_with("a loop: "));
    }

    #[test]
    fn bridges_that_would_copy_each_other_s_copies_are_refused() {
        let pair: &[(&str, &[&str])] = &[("br0", &["a", "x=y"]), ("br1", &["y=x", "b"])];
        let all = |vlan: u16| json!({"select_all": true, "output_vlan": vlan});
        assert_eq!(told(pair, &[("br0", "m0", all(99)), ("br1", "m1", all(99))]), ["", ""]);
        let looped = told(pair, &[("br0", "m0", all(99)), ("br1", "m1", all(98))]);
        assert!(
            looped[0].is_empty() && looped[1].starts_with("a loop: mirror m0 of bridge br0, which patch ports join")
        );
        let apart: &[(&str, &[&str])] = &[("br0", &["a"]), ("br1", &["b"])];
        assert_eq!(told(apart, &[("br0", "m0", all(99)), ("br1", "m1", all(98))]), ["", ""]);
    }
}
