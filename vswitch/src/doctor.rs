//! What `vsctl doctor` cannot read from rows: what came of the probes of tunnels, neighbours that do not answer, tunnel
//! packets that no port takes, devices whose offloads harm what is forwarded. Each finding is a sentence with its remedy.

use crate::config::interface::{Interface, Kind, Wanted};
use crate::config::{Bridge, Config};
use crate::netlink::link::LinkTable;
use crate::netlink::neighbour::Hop;
use crate::netlink::route::Path;
use datapath::control::Datapath;
use datapath::switch::probes::{Answer, MAX_ENDS, Probed};
use datapath::switch::unclaimed::Stray;
use datapath::tunnel::Tunnel;
use datapath::types::L3Mtu;
use datapath::wire::ethernet;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use uuid::Uuid;

/// Something that is worth a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Whether it is in order, and only told.
    pub fine: bool,
    /// The port, or the sender.
    pub at: String,
    /// What there is.
    pub what: String,
    /// What to do about it, if anything.
    pub remedy: String,
}

impl Finding {
    fn of(at: &str, what: String, remedy: String) -> Finding {
        Finding { fine: false, at: at.to_owned(), what, remedy }
    }

    fn note(at: &str, what: String, remedy: &str) -> Finding {
        Finding { fine: true, at: at.to_owned(), what, remedy: remedy.to_owned() }
    }
}

/// The next hop to each remote end, and whether it is mute.
pub type Hops = BTreeMap<Path, (Hop, bool)>;

/// The bridges with these rows.
fn chosen<'a>(config: &'a Config, rows: &[Uuid]) -> impl Iterator<Item = &'a Bridge> {
    config.bridges.iter().filter(move |bridge| rows.contains(&bridge.uuid))
}

/// The tunnels on the bridges with these rows.
pub fn tunnels<'a>(config: &'a Config, rows: &[Uuid]) -> impl Iterator<Item = (&'a Interface, &'a Tunnel)> {
    let interfaces = chosen(config, rows).flat_map(|bridge| &bridge.interfaces).map(AsRef::as_ref);
    interfaces.filter_map(|interface: &Interface| match &interface.wanted {
        Ok(Wanted { kind: Kind::Tunnel(tunnel), .. }) => Some((interface, tunnel)),
        _ => None,
    })
}

/// The devices that are ports of the bridges with these rows.
pub fn devices<'a>(config: &'a Config, rows: &[Uuid]) -> impl Iterator<Item = &'a str> {
    let interfaces = chosen(config, rows).flat_map(|bridge| &bridge.interfaces);
    let attached = interfaces.filter(|i| matches!(&i.wanted, Ok(Wanted { kind: Kind::Netdev(_), .. })));
    attached.map(|interface| interface.name.as_str())
}

/// The ways to the remote ends of these tunnels.
pub fn paths(config: &Config, rows: &[Uuid]) -> Vec<Path> {
    let of = |tunnel: &Tunnel| tunnel.ends().map(|(_, remote)| (remote, tunnel.local)).collect::<Vec<_>>();
    tunnels(config, rows).flat_map(|(_, t)| of(t)).map(|(remote, local)| Path { remote, local }).collect()
}

/// What the host's network says.
#[derive(Debug)]
pub struct Host<'a> {
    /// Its devices.
    pub links: &'a LinkTable,
    /// The next hops of the bridges' tunnels.
    pub hops: Hops,
    /// The devices that merge what they receive.
    pub merging: Vec<String>,
}

/// All that is found at the bridges with these rows, in JSON.
pub fn report(config: &Config, datapath: &Datapath, host: &Host<'_>, rows: &[Uuid]) -> Value {
    let mut findings: Vec<_> = host.merging.iter().map(|device| merging(device)).collect();
    let probed = datapath.probed().unwrap_or_default();
    let name = |end: &Probed| Some((datapath.port_name(end.place.port)?, end.place.remote));
    let probed: BTreeMap<_, _> = probed.iter().filter_map(|end| Some((name(end)?, end))).collect();
    let ends = || tunnels(config, rows).flat_map(|(i, tunnel)| tunnel.ends().map(move |end| (i, tunnel, end)));
    for (interface, tunnel, (index, remote)) in ends() {
        let name = interface.name.as_str();
        let mute_hop = host.hops.get(&Path { remote, local: tunnel.local }).filter(|(_, mute)| *mute);
        let end = probed.get(&(name, index)).filter(|_| mute_hop.is_none());
        findings.extend(mute_hop.map(|(hop, _)| mute(name, remote, hop, host.links)));
        findings.extend(end.map(|end| of_probe(name, remote, end)));
    }
    let all = ends().count();
    if all > MAX_ENDS {
        let what = format!("{all} remote ends, of which {MAX_ENDS} were probed");
        findings.push(Finding::note("tunnels", what, "'vsctl doctor BRIDGE' probes those of one bridge"));
    }
    findings.extend(strays(config, datapath, rows));
    let object = |f: &Finding| json!({"fine": f.fine, "at": f.at, "what": f.what, "remedy": f.remedy});
    findings.iter().map(object).collect()
}

/// Tunnel packets that no port takes; those from remote ends of these bridges, if not all bridges are asked about.
fn strays(config: &Config, datapath: &Datapath, rows: &[Uuid]) -> Vec<Finding> {
    let all = rows.len() == config.bridges.len();
    let known = |remote: IpAddr| tunnels(config, rows).any(|(_, tunnel)| tunnel.ends().any(|(_, end)| end == remote));
    let mut strays = datapath.unclaimed().unwrap_or_default();
    strays.retain(|(stray, ..)| all || known(stray.remote));
    strays.sort();
    strays.iter().map(|(stray, frames, ago)| unclaimed(config, rows, stray, (*frames, *ago))).collect()
}

/// A device that merges what it receives.
fn merging(device: &str) -> Finding {
    Finding::of(
        device,
        "large receive offload is on: what it merges cannot be forwarded as it was sent".to_owned(),
        format!("'ethtool -K {device} lro off'"),
    )
}

fn mute(name: &str, remote: IpAddr, hop: &Hop, links: &LinkTable) -> Finding {
    let device = links.by_index(hop.ifindex).map_or("?", |link| link.name.as_str());
    let question = if remote.is_ipv4() { "ARP" } else { "neighbour discovery" };
    let whose = if hop.address == remote { String::new() } else { format!(", the next hop to {remote},") };
    let Hop { address, .. } = hop;
    Finding::of(
        name,
        format!("{address}{whose} does not answer {question} on {device}, so nothing gets there"),
        format!("see that it is up and on that link ('ip neigh show dev {device}', 'ip route get {remote}')"),
    )
}

/// What the answers to the probes of one end tell.
fn of_probe(name: &str, remote: IpAddr, end: &Probed) -> Finding {
    let (mtu, [short, there, back]) = (end.mtu, end.answers);
    if end.answers.iter().flatten().any(|answer| !answer.intact) {
        return Finding::of(
            name,
            format!("what goes to {remote} and back is changed on the way"),
            "a device on the way has broken checksum offload: try 'ethtool -K DEVICE rx off tx off' at both ends"
                .to_owned(),
        );
    }
    if short.is_none() && there.is_none() && back.is_none() {
        let help = "if it is a vswitch, 'vsctl doctor' there tells what arrives";
        return Finding::note(name, format!("{remote} does not answer probes"), help);
    }
    let carries =
        |answer: Option<Answer>| answer.map(|answer| L3Mtu(u32::from(answer.len) - ethernet::HEADER_LEN as u32));
    let search = format!("'tracepath -n {remote}' shows where; raise the MTU there, or lower it on the route to");
    match (there, carries(back)) {
        (_, Some(back)) if back >= mtu => {
            Finding::note(name, format!("{remote} answers, MTU {mtu} passes both ways"), "")
        }
        (None, None) => Finding::of(
            name,
            format!(
                "packets of {mtu} bytes do not get to {remote}, though small ones do: they are too large somewhere on the way"
            ),
            format!("{search} {remote} ('ip route' with mtu)"),
        ),
        (_, Some(back)) => Finding::of(
            name,
            format!("packets of {mtu} bytes get to {remote}, but its own tunnel sends back {back} at most"),
            format!("'vsctl mtu' at {remote} tells what makes its MTU smaller"),
        ),
        (Some(_), None) => Finding::of(
            name,
            format!("packets of {mtu} bytes get to {remote}, but not back from there"),
            format!("run 'vsctl doctor' at {remote}: something on its way to this host carries less than it thinks"),
        ),
    }
}

fn unclaimed(config: &Config, rows: &[Uuid], stray: &Stray, (frames, ago): (u64, Duration)) -> Finding {
    let Stray { endpoint, key, remote } = stray;
    let (protocol, at) = (endpoint.protocol.name(), remote.to_string());
    let kin = |tunnel: &Tunnel| tunnel.endpoint() == *endpoint;
    let same_end = tunnels(config, rows).find(|(_, t)| kin(t) && t.ends().any(|(_, end)| end == *remote));
    let same_key = tunnels(config, rows).find(|(_, t)| kin(t) && t.in_key == *key);
    let what = format!(
        "{protocol} packets with key {key} come from there and no port takes them ({frames}, the last {} s ago)",
        ago.as_secs()
    );
    match (same_end, same_key) {
        (Some((interface, tunnel)), _) => {
            let name = &interface.name;
            let expected = tunnel.in_key;
            let remedy = format!(
                "give both ends one key: {name} expects {expected}; 'vsctl set interface {name} options:key={key}' here, or \
                 key={expected} there"
            );
            Finding::of(&at, what, remedy)
        }
        (None, Some((interface, tunnel))) => {
            let (name, ip) = (&interface.name, tunnel.remote.ip());
            let remedy = format!(
                "{name} has that key, but from {ip}; if it is meant, 'vsctl set interface {name} options:remote_ip={remote}'"
            );
            Finding::of(&at, what, remedy)
        }
        (None, None) => {
            let remedy = format!(
                "'vsctl add-port BRIDGE PORT type={protocol} key={key} remote_ip={remote}' takes them; or have the sender \
                 stop"
            );
            Finding::of(&at, what, remedy)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{br0_p1, database};
    use datapath::tunnel::{Endpoint, Protocol};
    use datapath::types::{Place, PortId, TunnelKey};

    const REMOTE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn answer(received: u16, len: u16) -> Option<Answer> {
        Some(Answer { received, len, intact: true })
    }

    fn probe(answers: [Option<Answer>; 3]) -> Finding {
        let place = Place::of(PortId(1));
        of_probe("vx0", REMOTE, &Probed { place, mtu: L3Mtu(1450), len: 1464, answers })
    }

    #[test]
    fn what_probes_tell() {
        let short = answer(60, 60);
        let there = answer(1464, 60);
        for (answers, fine, what) in [
            ([short, there, answer(1464, 1464)], true, "192.0.2.2 answers, MTU 1450 passes both ways"),
            ([None, None, answer(1464, 1464)], true, "192.0.2.2 answers, MTU 1450 passes both ways"),
            ([None; 3], true, "192.0.2.2 does not answer probes"),
            (
                [short, None, None],
                false,
                "packets of 1450 bytes do not get to 192.0.2.2, though small ones do: they are too large somewhere on the way",
            ),
            ([short, there, None], false, "packets of 1450 bytes get to 192.0.2.2, but not back from there"),
            (
                [short, there, answer(1464, 1414)],
                false,
                "packets of 1450 bytes get to 192.0.2.2, but its own tunnel sends back 1400 at most",
            ),
            (
                [short, Some(Answer { received: 1464, len: 60, intact: false }), None],
                false,
                "what goes to 192.0.2.2 and back is changed on the way",
            ),
        ] {
            let finding = probe(answers);
            assert_eq!((finding.fine, finding.what.as_str()), (fine, what));
            assert!(fine || !finding.remedy.is_empty());
        }
    }

    #[test]
    fn who_is_mute() {
        let told =
            |hop: [u8; 4]| mute("vx0", REMOTE, &Hop { address: hop.into(), ifindex: 9 }, &LinkTable::default()).what;
        assert_eq!(told([192, 0, 2, 2]), "192.0.2.2 does not answer ARP on ?, so nothing gets there");
        assert_eq!(
            told([10, 0, 0, 1]),
            "10.0.0.1, the next hop to 192.0.2.2, does not answer ARP on ?, so nothing gets there"
        );
    }

    #[test]
    fn devices_that_merge() {
        let config = Config::read(&database(&br0_p1(json!({}), json!({}), json!({}), json!({}))));
        let rows = [config.bridges[0].uuid];
        assert_eq!(
            devices(&config, &rows).collect::<Vec<_>>(),
            ["p1"],
            "the bridge's own port is no device of the host"
        );
        assert_eq!(merging("eth1").remedy, "'ethtool -K eth1 lro off'");
    }

    #[test]
    fn whose_packets_nobody_takes() {
        let vxlan = json!({"type": "vxlan", "options": ["map", [["remote_ip", "192.0.2.2"], ["key", "5000"]]]});
        let config = Config::read(&database(&br0_p1(json!({}), json!({}), json!({}), vxlan)));
        let rows = [config.bridges[0].uuid];
        let told = |key, remote: [u8; 4]| {
            let endpoint = Endpoint { protocol: Protocol::Vxlan, port: 4789, ipv6: false };
            unclaimed(
                &config,
                &rows,
                &Stray { endpoint, key: TunnelKey(key), remote: remote.into() },
                (12, Duration::from_secs(3)),
            )
        };
        let other_key = told(5001, [192, 0, 2, 2]);
        assert_eq!(other_key.at, "192.0.2.2");
        assert_eq!(
            other_key.what,
            "vxlan packets with key 5001 come from there and no port takes them (12, the last 3 s ago)"
        );
        assert_eq!(
            other_key.remedy,
            "give both ends one key: p1 expects 5000; 'vsctl set interface p1 options:key=5001' here, or key=5000 there"
        );
        let other_end = told(5000, [192, 0, 2, 9]).remedy;
        assert!(
            other_end.starts_with("p1 has that key, but from 192.0.2.2; if it is meant, 'vsctl set"),
            "{other_end}"
        );
        let stranger = told(7, [192, 0, 2, 9]).remedy;
        assert!(
            stranger.starts_with("'vsctl add-port BRIDGE PORT type=vxlan key=7 remote_ip=192.0.2.9'"),
            "{stranger}"
        );
        assert_eq!(devices(&config, &rows).count(), 0);
        assert_eq!(paths(&config, &rows), [Path { remote: REMOTE, local: None }]);
        assert!(paths(&config, &[]).is_empty());
    }
}
