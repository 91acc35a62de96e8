//! Options of layer-3 tunnels that others do not have: routes → which packets go to which remote end. Pure.

use super::tunnel::{MAX_ENDS, host, remote_ip};
use super::{Options, Refusal};
use datapath::switch::state::{Trunks, VlanMode};
use datapath::tunnel::{Protocol, Remotes, Route};
use datapath::types::{Ipv4Prefix, VlanId};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What `routes` may look like.
const EXAMPLE: &str = "routes=\"192.168.11.0/24 via 192.0.2.2,192.168.12.0/24 via 192.0.2.3\"";

/// Where a layer-3 tunnel leads.
pub struct Ways {
    /// The other end, or the first of several.
    pub remote: IpAddr,
    /// Set if routes name the ends.
    pub remotes: Option<Remotes>,
    /// Which packets go where.
    pub routes: Vec<Route>,
}

/// Reads where a layer-3 tunnel leads: to its `remote_ip`, or with `remote_ip=flow` wherever its `routes` say.
pub fn ways(options: &Options) -> Result<Ways, Refusal> {
    let flow = options.get("remote_ip") == Some(&"flow");
    let one = if flow { None } else { Some(remote_ip(options)?) };
    let words = options.get("routes").copied().unwrap_or_default().split(',').map(str::trim);
    let routes = words.filter(|word| !word.is_empty()).map(|word| route(word, one)).collect::<Result<Vec<_>, _>>()?;
    let mut seen = BTreeSet::new();
    if let Some(twice) = routes.iter().find(|route| !seen.insert(route.to)) {
        return Err(format!("routes: {} is there twice; leave one out", twice.to));
    }
    if routes.len() > MAX_ENDS {
        return Err(format!("routes has {} entries; {MAX_ENDS} are the most", routes.len()));
    }
    let Some(remote) = one.or_else(|| routes.first().map(|route| route.via)) else {
        return Err(format!("remote_ip=flow: routes are missing, which say where to; write them as {EXAMPLE}"));
    };
    if let Some(other) = routes.iter().find(|route| route.via.is_ipv4() != remote.is_ipv4()) {
        return Err(format!("routes: {remote} and {} are of different IP versions; use one for all", other.via));
    }
    let remotes = flow.then(|| Remotes::new(routes.iter().map(|route| route.via)));
    Ok(Ways { remote, remotes, routes })
}

/// `PREFIX via ADDRESS`; of a tunnel with `one` other end only, `PREFIX` as well.
fn route(text: &str, one: Option<IpAddr>) -> Result<Route, Refusal> {
    let words: Vec<_> = text.split_whitespace().collect();
    let (to, via) = match (words[..].split_first(), one) {
        (Some((to, [])), Some(one)) => (to, one),
        (Some((to, ["via", via])), _) => (to, host("routes", via)?),
        (Some((to, [])), None) => {
            return Err(format!("routes: {to} does not say where to; write it as {to} via 192.0.2.2"));
        }
        _ => return Err(format!("routes: '{text}' is no route; write them as {EXAMPLE}")),
    };
    if let Some(one) = one.filter(|one| *one != via) {
        return Err(format!("routes: {to} via {via}, but remote_ip={one}; several ends need remote_ip=flow"));
    }
    let to: Ipv4Prefix = to.parse().map_err(|why| format!("routes: {why}"))?;
    Ok(Route { to, via })
}

/// Refuses options that tell apart tunnels in a way that a layer-3 tunnel cannot.
pub fn refuse_keys(protocol: Protocol, options: &Options) -> Result<(), Refusal> {
    match ["key", "in_key", "out_key"].into_iter().find_map(|key| Some((key, options.get(key)?))) {
        Some((key, value)) => Err(format!(
            "{key}={value}: {} has no key; remove it: such tunnels are told apart by remote_ip and local_ip",
            protocol.name()
        )),
        None => Ok(()),
    }
}

/// The one VLAN that a layer-3 tunnel is in.
pub fn one_vlan(port: &str, vlan: VlanMode) -> Result<VlanMode, Refusal> {
    match vlan {
        VlanMode::Access(_) => Ok(vlan),
        VlanMode::Trunk(Trunks::All) => Ok(VlanMode::Access(VlanId::UNTAGGED)),
        _ => Err(format!(
            "{port}: a layer-3 tunnel is in one VLAN, by its tag, or in VLAN 0; \
             'vsctl clear port {port} vlan_mode trunks cvlans' leaves it that"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(remote_ip: &str, routes: &str) -> Result<Ways, Refusal> {
        ways(&[("remote_ip", remote_ip), ("routes", routes)].into())
    }

    #[test]
    fn routes_name_the_ends_or_are_all_to_one() {
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        let route = |to: &str, last| Route { to: to.parse().unwrap(), via: ip(last) };
        let w =
            read("flow", "192.168.11.0/24 via 192.0.2.2, 10.0.0.0/8  via 192.0.2.3,10.1.0.1 via 192.0.2.2").unwrap();
        assert_eq!((w.remote, w.remotes), (ip(2), Some(Remotes::new([ip(2), ip(3)]))));
        assert_eq!(w.routes, [route("192.168.11.0/24", 2), route("10.0.0.0/8", 3), route("10.1.0.1/32", 2)]);
        let w = read("192.0.2.2", "192.168.11.0/24,192.168.12.0/24 via 192.0.2.2").unwrap();
        assert_eq!((w.remote, w.remotes), (ip(2), None));
        assert_eq!(w.routes, [route("192.168.11.0/24", 2), route("192.168.12.0/24", 2)]);
        let w = ways(&[("remote_ip", "2001:db8::2")].into()).unwrap();
        assert!(w.remote.is_ipv6() && w.remotes.is_none() && w.routes.is_empty());
    }

    #[test]
    fn what_is_refused_is_named_with_a_way_out() {
        for (remote_ip, routes, text) in [
            ("flow", "", "remote_ip=flow: routes are missing, which say where to; write them as routes=\"192."),
            ("flow", "10.0.0.0/8", "10.0.0.0/8 does not say where to; write it as 10.0.0.0/8 via 192.0.2.2"),
            ("flow", "10.0.0.0/8 by 192.0.2.2", "'10.0.0.0/8 by 192.0.2.2' is no route"),
            ("flow", "10.0.0.0/8 via", "is no route"),
            (
                "flow",
                "10.0.0.1/8 via 192.0.2.2",
                "'10.0.0.1/8' is an address within a prefix; the prefix is 10.0.0.0/8",
            ),
            ("flow", "ten via 192.0.2.2", "'ten' is not an IPv4 prefix"),
            ("flow", "10.0.0.0/8 via there", "routes=there is not an IP address"),
            ("flow", "10.0.0.0/8 via 239.1.1.1", "routes=239.1.1.1: multicast"),
            ("flow", "10.0.0.0/8 via 192.0.2.2,10.0.0.0/8 via 192.0.2.3", "10.0.0.0/8 is there twice"),
            ("flow", "10.0.0.0/8 via 192.0.2.2,11.0.0.0/8 via 2001:db8::2", "different IP versions"),
            ("192.0.2.2", "10.0.0.0/8 via 192.0.2.3", "but remote_ip=192.0.2.2; several ends need remote_ip=flow"),
            ("peer", "10.0.0.0/8", "remote_ip=peer is not an IP address"),
        ] {
            let refusal = read(remote_ip, routes).err().unwrap();
            assert!(refusal.contains(text), "{remote_ip} {routes}: {refusal}");
        }
    }

    #[test]
    fn it_is_in_one_vlan() {
        let vlan = |id| VlanId::new(id).unwrap();
        assert_eq!(one_vlan("ip0", VlanMode::Trunk(Trunks::All)), Ok(VlanMode::Access(vlan(0))));
        assert_eq!(one_vlan("ip0", VlanMode::Access(vlan(7))), Ok(VlanMode::Access(vlan(7))));
        for mode in [
            VlanMode::NativeTagged(vlan(7), Trunks::All),
            VlanMode::Trunk(Trunks::Only([vlan(7)].into_iter().collect())),
        ] {
            assert!(one_vlan("ip0", mode).unwrap_err().contains("vsctl clear port ip0 vlan_mode trunks cvlans"));
        }
    }
}
