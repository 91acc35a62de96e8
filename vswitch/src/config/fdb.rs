//! Static addresses of a bridge, kept in its `other_config`: `fdb-VLAN-MAC=PORT`, or `PORT@REMOTE` at a tunnel. Pure.

use super::bridge::unicast;
use super::{Bridge, Options};
use datapath::control::{PortKind, PortSpec, StaticSpec};
use datapath::types::{MacAddr, VlanId};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;

/// What the keys begin with.
const PREFIX: &str = "fdb-";

/// The key of an address.
#[must_use]
pub fn key(vlan: VlanId, mac: MacAddr) -> String {
    format!("{PREFIX}{vlan}-{mac}")
}

/// Whether a key of `other_config` is meant to be one of an address.
#[must_use]
pub fn is_key(key: &str) -> bool {
    key.starts_with(PREFIX)
}

/// The address that a key is of.
pub fn address(key: &str) -> Result<(VlanId, MacAddr), String> {
    let (vlan, mac) = key.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).ok_or_else(|| {
        format!("{key} is no address; write it as fdb-VLAN-MAC, such as {PREFIX}10-02:00:00:00:00:01")
    })?;
    let number = vlan.parse().ok().and_then(VlanId::new);
    let vlan = number.ok_or_else(|| format!("{key}: '{vlan}' is no VLAN; it is a number from 0 to 4095"))?;
    Ok((vlan, unicast(mac).map_err(|why| format!("{key}: {why}"))?))
}

/// A port's name, and the remote end behind the last `@` if that is an IP address.
#[must_use]
pub fn place(text: &str) -> (&str, Option<IpAddr>) {
    let split = text.rsplit_once('@').and_then(|(port, remote)| Some((port, remote.parse().ok()?)));
    split.map_or((text, None), |(port, remote)| (port, Some(remote)))
}

/// The static addresses in `other_config`, in order; what is wrong is added to `wrong`.
pub(super) fn statics(other_config: &Options<'_>, wrong: &mut Vec<String>) -> Vec<StaticSpec> {
    let mut found = BTreeMap::new();
    for (&key, &value) in other_config.iter().filter(|(key, _)| is_key(key)) {
        let (port, remote) = place(value);
        match address(key) {
            Ok(_) if port.is_empty() => wrong.push(format!("{key}= names no port; left out")),
            Ok((vlan, mac)) => match found.entry((vlan, mac)) {
                Entry::Occupied(_) => {
                    wrong.push(format!("{key}={value} is the second entry of that address; left out"));
                }
                Entry::Vacant(entry) => {
                    entry.insert(StaticSpec { vlan, mac, port: port.to_owned(), remote });
                }
            },
            Err(why) => wrong.push(format!("{why}; left out")),
        }
    }
    found.into_values().collect()
}

/// What to tell of a bridge's static addresses that have no effect now. `attached` gives the ports that are.
#[must_use]
pub fn without_effect<'a>(bridge: &Bridge, attached: impl Fn(&str) -> Option<&'a PortSpec>) -> Vec<String> {
    let size = bridge.settings.mac_table_size;
    let full = (bridge.settings.statics.len() >= size)
        .then(|| format!("mac-table-size={size} leaves no room beside the static addresses: none is learned"));
    let told = bridge.settings.statics.iter().filter_map(|entry| {
        let (key, port) = (key(entry.vlan, entry.mac), &entry.port);
        let there = bridge.interfaces.iter().any(|i| i.name == *port);
        let soon = "it takes effect as soon as the port is there";
        let remote = entry.remote.map(|remote| format!("@{remote}")).unwrap_or_default();
        let why = match (there, attached(port)) {
            (true, Some(spec)) => remote_end(&spec.kind, port, entry.remote)?,
            (true, None) => format!("{port} is not attached ('vsctl get interface {port} error' tells why); {soon}"),
            (false, _) => format!("bridge {} has no port {port}; {soon}", bridge.name),
        };
        Some(format!("{key}={port}{remote} has no effect yet: {why}"))
    });
    told.chain(full).collect()
}

/// What is wrong with the remote end of a static address, or that there is none.
fn remote_end(kind: &PortKind, port: &str, remote: Option<IpAddr>) -> Option<String> {
    if kind.remote_index(remote).is_some() {
        return None;
    }
    Some(match (kind, remote) {
        (PortKind::Tunnel(_), None) => format!("{port} has several remote ends; write {port}@REMOTE"),
        (PortKind::Tunnel(t), Some(end)) if t.remotes.is_none() => {
            format!("{port} leads to {} only, not to {end}", t.remote.ip())
        }
        (PortKind::Tunnel(_), Some(end)) => {
            format!("{end} is an address of this host, or not of the IP version of {port}'s remote ends")
        }
        _ => format!("{port} is no tunnel and has no remote ends; write {port} alone"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&'static str, &'static str)]) -> (Vec<StaticSpec>, Vec<String>) {
        let mut wrong = Vec::new();
        (statics(&options.iter().copied().collect(), &mut wrong), wrong)
    }

    #[test]
    fn addresses_with_their_ports_and_remote_ends() {
        let (found, wrong) = read(&[
            ("fdb-10-02:00:00:00:00:AB", "p1"),
            ("fdb-0-02:00:00:00:00:01", "vx0@192.0.2.2"),
            ("fdb-4095-02:00:00:00:00:01", "vx0@2001:db8::2"),
            ("fdb-7-02:00:00:00:00:01", "odd@name"),
            ("mac-aging-time", "60"),
        ]);
        assert!(wrong.is_empty(), "{wrong:?}");
        let text = |s: &StaticSpec| {
            let remote = s.remote.map(|r| r.to_string()).unwrap_or_default();
            format!("{} {} {remote}", key(s.vlan, s.mac), s.port)
        };
        assert_eq!(
            found.iter().map(text).collect::<Vec<_>>(),
            [
                "fdb-0-02:00:00:00:00:01 vx0 192.0.2.2",
                "fdb-7-02:00:00:00:00:01 odd@name ",
                "fdb-10-02:00:00:00:00:ab p1 ",
                "fdb-4095-02:00:00:00:00:01 vx0 2001:db8::2",
            ]
        );
    }

    #[test]
    fn a_remote_end_must_be_one_of_the_ports() {
        use datapath::tunnel::{Protocol, Remotes, Tunnel};
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        let one = Tunnel::new(Protocol::Vxlan, (ip(2), 4789).into(), datapath::types::TunnelKey(5));
        let several = Tunnel { remotes: Some(Remotes::new([ip(2), ip(3)])), ..one.clone() };
        let (one, several) = (PortKind::Tunnel(one), PortKind::Tunnel(several));
        for (kind, remote, wrong) in [
            (&one, None, None),
            (&one, Some(2), None),
            (&one, Some(3), Some("p leads to 192.0.2.2 only, not to 192.0.2.3")),
            (&several, Some(3), None),
            (&several, None, Some("p has several remote ends; write p@REMOTE")),
            (
                &several,
                Some(9),
                Some("192.0.2.9 is an address of this host, or not of the IP version of p's remote ends"),
            ),
            (&PortKind::Internal, None, None),
            (&PortKind::Internal, Some(2), Some("p is no tunnel and has no remote ends; write p alone")),
        ] {
            assert_eq!(remote_end(kind, "p", remote.map(ip)).as_deref(), wrong);
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_left_out() {
        let (found, wrong) = read(&[
            ("fdb-02:00:00:00:00:01", "p1"),
            ("fdb-4096-02:00:00:00:00:01", "p1"),
            ("fdb-0-01:00:00:00:00:01", "p1"),
            ("fdb-0-02:00:00:00:00:01", ""),
            ("fdb-0-02:00:00:00:00:AA", "p1"),
            ("fdb-0-02:00:00:00:00:aa", "p2"),
        ]);
        assert_eq!((found.len(), found[0].port.as_str()), (1, "p1"));
        assert_eq!(
            wrong,
            [
                "fdb-0-01:00:00:00:00:01: a group address or all zeros, which no device can have; left out",
                "fdb-0-02:00:00:00:00:01= names no port; left out",
                "fdb-0-02:00:00:00:00:aa=p2 is the second entry of that address; left out",
                "fdb-02:00:00:00:00:01 is no address; write it as fdb-VLAN-MAC, such as fdb-10-02:00:00:00:00:01; left out",
                "fdb-4096-02:00:00:00:00:01: '4096' is no VLAN; it is a number from 0 to 4095; left out",
            ]
        );
    }
}
