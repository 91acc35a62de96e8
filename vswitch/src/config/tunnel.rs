//! Tunnel options → a checked tunnel, or the reason why not.
//!
//! An option that changes what the tunnel means and is not supported is refused; one that tunes it is left out and
//! reported. Pure.

use super::mtu_policy::MtuPolicy;
use super::routes::{self, Ways};
use super::{Notes, Options, Refusal, listed};
use datapath::control::StaticSpec;
use datapath::tunnel::{Field, Protocol, Remotes, Tunnel, ecn};
use datapath::types::TunnelKey;
use std::net::{IpAddr, SocketAddr};

/// Options that every kind of tunnel takes that carries Ethernet frames.
const COMMON: [&str; 11] =
    ["remote_ip", "local_ip", "key", "in_key", "out_key", "tos", "ttl", "df_default", "csum", "learning", "mtu-policy"];
/// Options that layer-3 tunnels take.
const LAYER3: [&str; 7] = ["remote_ip", "local_ip", "tos", "ttl", "df_default", "mtu-policy", "routes"];

/// The most remote ends of one tunnel; everything unknown is copied to each.
pub const MAX_ENDS: usize = 4096;

/// Options that Open vSwitch knows, that only tune a tunnel, and that we do not honour.
const TUNING: [&str; 5] = ["seq", "pkt_mark", "egress_pkt_mark", "dst_mac", "local_mac"];

/// The kind of tunnel that `Interface:type` names.
pub fn protocol(interface_type: &str) -> Option<Protocol> {
    let all = [Protocol::Vxlan, Protocol::Geneve, Protocol::Gre, Protocol::Ipip];
    all.into_iter().find(|protocol| protocol.name() == interface_type)
}

/// A tunnel from an Interface's options; `notes` gets what there is to tell about them.
pub fn tunnel(protocol: Protocol, options: &Options, notes: &mut Notes) -> Result<Tunnel, Refusal> {
    if let Some(value) = options.get("exts") {
        return Err(format!("exts={value}: extensions are not supported by this version"));
    }
    let layer3 = protocol.is_layer3();
    let (packets, carried) = if layer3 { ("legacy_l3", "IPv4 packets") } else { ("legacy_l2", "Ethernet frames") };
    if let Some(value) = options.get("packet_type").filter(|v| **v != packets) {
        return Err(format!("packet_type={value}: {} carries {carried}; remove the option", protocol.name()));
    }
    if layer3 {
        routes::refuse_keys(protocol, options)?;
    }
    let Ways { remote, remotes, routes } = ways(protocol, options)?;
    let both = key(protocol, options, "key")?.unwrap_or_default();
    let default = Tunnel::new(protocol, SocketAddr::new(remote, dst_port(protocol, options)?), both);
    let tunnel = Tunnel {
        remotes,
        routes,
        learning: boolean(options, "learning")?.filter(|_| !layer3).unwrap_or(default.learning),
        local: local_ip(options, remote)?,
        out_key: key(protocol, options, "out_key")?.unwrap_or(both),
        in_key: key(protocol, options, "in_key")?.unwrap_or(both),
        tos: tos(options)?.unwrap_or(default.tos),
        ttl: ttl(options)?.unwrap_or(default.ttl),
        dont_fragment: boolean(options, "df_default")?.unwrap_or(default.dont_fragment),
        checksum: boolean(options, "csum")?.unwrap_or(default.checksum),
        ..default
    };
    if protocol.udp_port().is_some() && !tunnel.checksum {
        let mut text =
            "off: every datagram is sent by itself, several times slower than csum=true, the default".to_owned();
        if remote.is_ipv6() {
            text.push_str(
                "; over IPv6 the other end may have to be told to accept it (the kernel's vxlan: udp6zerocsumrx)",
            );
        }
        notes.insert("csum".to_owned(), text);
    }
    if let Some(told) = leftover(protocol, options) {
        notes.insert("options_warning".to_owned(), told);
    }
    Ok(tunnel)
}

/// What becomes of packets that are too large for the tunnel, if it has a policy of its own.
pub fn mtu_policy(options: &Options) -> Result<Option<MtuPolicy>, Refusal> {
    let Some(&value) = options.get("mtu-policy") else { return Ok(None) };
    let policy = MtuPolicy::of(value);
    policy.map(Some).ok_or_else(|| format!("mtu-policy={value} is unknown; it is {}", MtuPolicy::WORDS))
}

/// The other ends.
fn ways(protocol: Protocol, options: &Options) -> Result<Ways, Refusal> {
    let remotes = remotes(protocol, options)?;
    if protocol.is_layer3() {
        return routes::ways(options);
    }
    let remote = match remotes.as_ref().and_then(|remotes| remotes.ends().first()) {
        Some(first) => *first,
        None => remote_ip(options)?,
    };
    Ok(Ways { remote, remotes, routes: Vec::new() })
}

/// The only other end.
pub fn remote_ip(options: &Options) -> Result<IpAddr, Refusal> {
    let Some(&value) = options.get("remote_ip") else {
        return Err("remote_ip is missing: set the other end's address, as in options:remote_ip=192.0.2.2".to_owned());
    };
    host("remote_ip", value)
}

/// The flood list of a tunnel with several remote ends.
fn remotes(protocol: Protocol, options: &Options) -> Result<Option<Remotes>, Refusal> {
    let Some(&value) = options.get("remote_ips") else { return Ok(None) };
    if protocol != Protocol::Vxlan {
        let instead = if protocol.is_layer3() { "remote_ip=flow and routes" } else { "remote_ip" };
        return Err(format!("remote_ips={value}: only vxlan floods to several remote ends; give {instead}"));
    }
    if let Some(one) = options.get("remote_ip") {
        return Err(format!("remote_ip={one} beside remote_ips={value}: give one of them; remote_ips is a flood list"));
    }
    let words = value.split(',').map(str::trim).filter(|word| !word.is_empty());
    let ends = words.map(|word| host("remote_ips", word)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = ends.first() else {
        return Err("remote_ips is empty; write it as remote_ips=192.0.2.2,192.0.2.3".to_owned());
    };
    if let Some(other) = ends.iter().find(|end| end.is_ipv4() != first.is_ipv4()) {
        return Err(format!("remote_ips: {first} and {other} are of different IP versions; use one for all"));
    }
    if ends.len() > MAX_ENDS {
        return Err(format!("remote_ips has {} ends; {MAX_ENDS} are the most", ends.len()));
    }
    Ok(Some(Remotes::new(ends)))
}

/// Has a tunnel with several remote ends know those that static addresses of its bridge are behind.
pub fn know_statics(tunnel: &mut Tunnel, port: &str, statics: &[StaticSpec]) {
    let Tunnel { remote, remotes: Some(remotes), .. } = tunnel else { return };
    let ends = statics.iter().filter(|entry| entry.port == port).filter_map(|entry| entry.remote);
    ends.filter(|end| end.is_ipv4() == remote.is_ipv4()).take(MAX_ENDS).for_each(|end| remotes.know(end));
}

/// The address of another host.
pub fn host(option: &str, value: &str) -> Result<IpAddr, Refusal> {
    let ip = address(option, value)?;
    if ip.is_multicast() {
        return Err(format!(
            "{option}={value}: multicast tunnels are not supported by this version; give the other end's own address"
        ));
    }
    if ip.is_unspecified() || ip == IpAddr::from([255; 4]) {
        return Err(format!("{option}={value} is no host's address; give the other end's own address"));
    }
    Ok(ip)
}

fn local_ip(options: &Options, remote: IpAddr) -> Result<Option<IpAddr>, Refusal> {
    let Some(&value) = options.get("local_ip") else { return Ok(None) };
    let ip = address("local_ip", value)?;
    if ip.is_ipv4() != remote.is_ipv4() {
        return Err(format!("local_ip={value} and remote_ip={remote} are of different IP versions; use one for both"));
    }
    if ip.is_multicast() || ip.is_unspecified() {
        return Err(format!("local_ip={value} is no host's address; give an address of this host, or leave it out"));
    }
    Ok(Some(ip))
}

fn address(key: &str, value: &str) -> Result<IpAddr, Refusal> {
    if value == "flow" {
        return Err(format!("{key}=flow: tunnels set by flows need OpenFlow, which is not supported; give an address"));
    }
    let ip: IpAddr = value
        .parse()
        .map_err(|_| format!("{key}={value} is not an IP address; write it as 192.0.2.2 or 2001:db8::2"))?;
    if let IpAddr::V6(v6) = ip
        && v6.is_unicast_link_local()
    {
        return Err(format!("{key}={value}: link-local addresses are not supported; use a routable one"));
    }
    Ok(ip)
}

/// A number as people write it: decimal, or hexadecimal after 0x.
fn number(value: &str) -> Option<u32> {
    match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => value.parse().ok(),
    }
}

fn key(protocol: Protocol, options: &Options, name: &str) -> Result<Option<TunnelKey>, Refusal> {
    let Some(&value) = options.get(name) else { return Ok(None) };
    if value == "flow" {
        return Err(format!("{name}=flow: keys set by flows need OpenFlow, which is not supported; give a number"));
    }
    let max = if protocol == Protocol::Gre { u32::MAX } else { (1 << 24) - 1 };
    let found = number(value).filter(|&n| n <= max).map(TunnelKey);
    found
        .map(Some)
        .ok_or_else(|| format!("{name}={value} is not a key of {}; it is a number from 0 to {max}", protocol.name()))
}

fn dst_port(protocol: Protocol, options: &Options) -> Result<u16, Refusal> {
    // A tunnel that is not over UDP has none, and says so with the other options that it does not take.
    let Some(default) = protocol.udp_port() else { return Ok(0) };
    let Some(&value) = options.get("dst_port") else { return Ok(default) };
    value.parse().ok().filter(|&port| port != 0).ok_or_else(|| {
        format!("dst_port={value} is not a UDP port; it is a number from 1 to 65535, {default} if left out")
    })
}

fn tos(options: &Options) -> Result<Option<Field>, Refusal> {
    field(options, "tos", |n| n & u32::from(ecn::MASK) == 0).map_err(|value| {
        format!(
            "tos={value} is not a type of service; it is inherit or a multiple of 4 from 0 to 252, since the two lowest \
             bits tell of congestion"
        )
    })
}

fn ttl(options: &Options) -> Result<Option<Field>, Refusal> {
    field(options, "ttl", |n| n > 0)
        .map_err(|value| format!("ttl={value} is not a time to live; it is inherit or a number from 1 to 255"))
}

/// A field of the outer header; what it must not be comes back as the error.
fn field<'a>(options: &Options<'a>, name: &str, allowed: impl Fn(u32) -> bool) -> Result<Option<Field>, &'a str> {
    match options.get(name).copied() {
        None => Ok(None),
        Some("inherit") => Ok(Some(Field::Inherit)),
        Some(value) => {
            let fits = number(value).filter(|&n| allowed(n)).and_then(|n| u8::try_from(n).ok());
            fits.map(|n| Some(Field::Fixed(n))).ok_or(value)
        }
    }
}

fn boolean(options: &Options, name: &str) -> Result<Option<bool>, Refusal> {
    match options.get(name).copied() {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(format!("{name}={other}: say true or false")),
    }
}

/// What to tell about the options that are not honoured.
fn leftover(protocol: Protocol, options: &Options) -> Option<String> {
    let mut takes = if protocol.is_layer3() { LAYER3.to_vec() } else { COMMON.to_vec() };
    takes.extend(protocol.udp_port().map(|_| "dst_port"));
    takes.extend((protocol == Protocol::Vxlan).then_some("remote_ips"));
    let rest = || options.iter().filter(|(k, _)| !takes.contains(k) && **k != "packet_type");
    let unsupported = listed(rest().filter(|(k, _)| TUNING.contains(k)));
    let unknown = listed(rest().filter(|(k, _)| !TUNING.contains(k)));
    let mut texts = Vec::new();
    if let Some(list) = unsupported {
        texts.push(format!("not supported by this version, left out: {list}"));
    }
    if let Some(list) = unknown {
        texts.push(format!("unknown, left out: {list} ({} takes {})", protocol.name(), takes.join(", ")));
    }
    (!texts.is_empty()).then(|| texts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_as(protocol: Protocol, options: &[(&'static str, &'static str)]) -> Result<(Tunnel, Notes), Refusal> {
        let mut notes = Notes::new();
        tunnel(protocol, &options.iter().copied().collect(), &mut notes).map(|tunnel| (tunnel, notes))
    }

    fn read(options: &[(&'static str, &'static str)]) -> Result<(Tunnel, Notes), Refusal> {
        read_as(Protocol::Vxlan, options)
    }

    #[test]
    fn what_is_accepted() {
        let (t, notes) = read(&[("remote_ip", "192.0.2.2"), ("key", "5000")]).unwrap();
        assert_eq!(t, Tunnel::new(Protocol::Vxlan, "192.0.2.2:4789".parse().unwrap(), TunnelKey(5000)));
        assert_eq!(notes, Notes::new());

        let (t, _) = read(&[("remote_ip", "2001:db8::2")]).unwrap();
        assert_eq!((t.out_key, t.in_key), (TunnelKey(0), TunnelKey(0)), "without a key, 0");

        let (t, notes) = read(&[
            ("remote_ip", "192.0.2.2"),
            ("local_ip", "192.0.2.1"),
            ("key", "1"),
            ("in_key", "0x10"),
            ("out_key", "16777215"),
            ("dst_port", "8472"),
            ("tos", "0xb8"),
            ("ttl", "9"),
            ("df_default", "false"),
            ("csum", "true"),
            ("packet_type", "legacy_l2"),
        ])
        .unwrap();
        let expected = Tunnel {
            local: Some("192.0.2.1".parse().unwrap()),
            out_key: TunnelKey(0xff_ffff),
            in_key: TunnelKey(16),
            tos: Field::Fixed(0xb8),
            ttl: Field::Fixed(9),
            dont_fragment: false,
            ..Tunnel::new(Protocol::Vxlan, "192.0.2.2:8472".parse().unwrap(), TunnelKey(1))
        };
        assert_eq!((t, notes), (expected, Notes::new()));

        let (t, notes) =
            read(&[("remote_ip", "192.0.2.2"), ("tos", "inherit"), ("ttl", "inherit"), ("csum", "false")]).unwrap();
        assert_eq!((t.tos, t.ttl, t.checksum), (Field::Inherit, Field::Inherit, false));
        assert!(notes["csum"].starts_with("off: ") && !notes["csum"].contains("IPv6"), "{notes:?}");
        let (_, notes) = read(&[("remote_ip", "2001:db8::2"), ("csum", "false")]).unwrap();
        assert!(notes["csum"].ends_with("udp6zerocsumrx)"), "{notes:?}");
    }

    #[test]
    fn several_remote_ends_and_those_of_static_addresses() {
        let (mut t, notes) = read(&[("remote_ips", "192.0.2.2, 192.0.2.3,192.0.2.2"), ("learning", "false")]).unwrap();
        let ip = |last| IpAddr::from([192, 0, 2, last]);
        assert_eq!((t.remote.ip(), t.learning, notes), (ip(2), false, Notes::new()));
        let entry = |port: &str, remote: &str| StaticSpec {
            vlan: datapath::types::VlanId::UNTAGGED,
            mac: datapath::types::MacAddr([2, 0, 0, 0, 0, 1]),
            port: port.to_owned(),
            remote: Some(remote.parse().unwrap()),
        };
        let statics = [entry("vx0", "192.0.2.9"), entry("vx1", "192.0.2.8"), entry("vx0", "2001:db8::9")];
        know_statics(&mut t, "vx0", &statics);
        let remotes = t.remotes.unwrap();
        assert_eq!((remotes.flood_list(), remotes.ends()), (&[ip(2), ip(3)][..], &[ip(2), ip(3), ip(9)][..]));
        let refused = read_as(Protocol::Geneve, &[("remote_ips", "192.0.2.2")]).unwrap_err();
        assert!(refused.contains("only vxlan floods to several remote ends"), "{refused}");
    }

    #[test]
    fn each_kind_has_its_own_port_and_keys() {
        let remote = ("remote_ip", "192.0.2.2");
        let (geneve, _) = read_as(Protocol::Geneve, &[remote, ("key", "7")]).unwrap();
        assert_eq!((geneve.remote.port(), geneve.checksum), (6081, true));
        assert!(read_as(Protocol::Geneve, &[remote, ("key", "16777216")]).unwrap_err().contains("a key of geneve"));

        let (gre, notes) = read_as(Protocol::Gre, &[remote, ("key", "0xffffffff")]).unwrap();
        assert_eq!((gre.remote.port(), gre.in_key, gre.checksum), (0, TunnelKey(u32::MAX), false));
        assert_eq!(notes, Notes::new());
        assert!(read_as(Protocol::Gre, &[remote, ("key", "4294967296")]).unwrap_err().contains("a key of gre"));
        assert!(read_as(Protocol::Gre, &[remote, ("csum", "true")]).unwrap().0.checksum);
        let (_, notes) = read_as(Protocol::Gre, &[remote, ("dst_port", "1"), ("csum", "false")]).unwrap();
        assert!(
            notes["options_warning"].starts_with("unknown, left out: dst_port=1 (gre takes remote_ip"),
            "{notes:?}"
        );
        assert_eq!(notes.get("csum"), None, "GRE needs none");
    }

    #[test]
    fn ip_in_ip_has_routes_and_no_keys() {
        let ipip = |options: &[(&'static str, &'static str)]| read_as(Protocol::Ipip, options);
        let remote = ("remote_ip", "192.0.2.2");
        let (t, notes) = ipip(&[remote, ("ttl", "inherit"), ("packet_type", "legacy_l3")]).unwrap();
        let plain = Tunnel::new(Protocol::Ipip, "192.0.2.2:0".parse().unwrap(), TunnelKey(0));
        assert_eq!((t, notes), (Tunnel { ttl: Field::Inherit, ..plain }, Notes::new()));
        let flow = ("remote_ip", "flow");
        let (t, _) = ipip(&[flow, ("routes", "10.0.0.0/8 via 192.0.2.3"), ("local_ip", "192.0.2.1")]).unwrap();
        assert_eq!((t.remote.to_string(), t.routes.len(), t.remotes.is_some()), ("192.0.2.3:0".to_owned(), 1, true));
        let (t, notes) = ipip(&[remote, ("learning", "true")]).unwrap();
        assert!(!t.learning, "its packets come from no station");
        assert_eq!(
            notes["options_warning"],
            "unknown, left out: learning=true (ipip takes remote_ip, local_ip, tos, ttl, df_default, mtu-policy, routes)"
        );
        for (options, text) in [
            (vec![remote, ("key", "7")], "key=7: ipip has no key; remove it"),
            (vec![remote, ("in_key", "7")], "in_key=7"),
            (vec![("remote_ips", "192.0.2.2")], "give remote_ip=flow and routes"),
            (vec![remote, ("packet_type", "legacy_l2")], "packet_type=legacy_l2: ipip carries IPv4 packets"),
            (vec![flow], "remote_ip=flow: routes are missing"),
        ] {
            let refusal = ipip(&options).unwrap_err();
            assert!(refusal.contains(text), "{options:?}: {refusal}");
        }
    }

    #[test]
    fn what_is_refused_is_named_with_a_way_out() {
        let remote = ("remote_ip", "192.0.2.2");
        for (options, text) in [
            (vec![], "remote_ip is missing"),
            (vec![("remote_ip", "peer1")], "remote_ip=peer1 is not an IP address"),
            (vec![("remote_ip", "flow")], "remote_ip=flow"),
            (vec![("remote_ip", "0.0.0.0")], "remote_ip=0.0.0.0"),
            (vec![("remote_ip", "255.255.255.255")], "remote_ip=255.255.255.255"),
            (vec![("remote_ip", "239.1.1.1")], "remote_ip=239.1.1.1: multicast"),
            (vec![("remote_ip", "ff02::1")], "remote_ip=ff02::1: multicast"),
            (vec![("remote_ip", "fe80::1")], "remote_ip=fe80::1: link-local"),
            (vec![remote, ("local_ip", "2001:db8::1")], "different IP versions"),
            (vec![remote, ("local_ip", "flow")], "local_ip=flow"),
            (vec![remote, ("key", "flow")], "key=flow"),
            (vec![remote, ("key", "16777216")], "key=16777216"),
            (vec![remote, ("key", "-1")], "key=-1"),
            (vec![remote, ("key", "")], "key= is not"),
            (vec![remote, ("in_key", "0xg")], "in_key=0xg"),
            (vec![remote, ("dst_port", "0")], "dst_port=0"),
            (vec![remote, ("dst_port", "65536")], "dst_port=65536"),
            (vec![remote, ("tos", "3")], "tos=3 is not a type of service"),
            (vec![remote, ("tos", "256")], "tos=256"),
            (vec![remote, ("tos", "high")], "tos=high"),
            (vec![remote, ("ttl", "0")], "ttl=0 is not a time to live"),
            (vec![remote, ("ttl", "256")], "ttl=256"),
            (vec![remote, ("df_default", "maybe")], "df_default=maybe: say true or false"),
            (vec![remote, ("csum", "on")], "csum=on: say true or false"),
            (vec![remote, ("exts", "gbp")], "exts=gbp"),
            (vec![("remote_ips", "192.0.2.2,192.0.2.3"), remote], "remote_ip=192.0.2.2 beside remote_ips=192.0.2.2,"),
            (vec![("remote_ips", " , ")], "remote_ips is empty"),
            (vec![("remote_ips", "192.0.2.2,2001:db8::2")], "remote_ips: 192.0.2.2 and 2001:db8::2 are of different"),
            (vec![("remote_ips", "192.0.2.2,peer3")], "remote_ips=peer3 is not an IP address"),
            (vec![("remote_ips", "239.1.1.1")], "remote_ips=239.1.1.1: multicast"),
            (vec![remote, ("learning", "perhaps")], "learning=perhaps: say true or false"),
            (vec![remote, ("packet_type", "ptap")], "packet_type=ptap"),
        ] {
            let refusal = read(&options).unwrap_err();
            assert!(refusal.contains(text), "{options:?}: {refusal}");
        }
    }

    #[test]
    fn a_policy_of_its_own_for_what_is_too_large() {
        let of = |value| mtu_policy(&[("mtu-policy", value)].into());
        assert_eq!(mtu_policy(&Options::new()), Ok(None));
        assert_eq!(of("drop"), Ok(Some(MtuPolicy::Drop)));
        assert_eq!(of("Drop").unwrap_err(), "mtu-policy=Drop is unknown; it is fit, icmp, drop or strict");
    }

    #[test]
    fn what_is_left_out_is_told() {
        let (_, notes) =
            read(&[("remote_ip", "192.0.2.2"), ("dst_mac", "x"), ("df_default", "true"), ("tll", "8")]).unwrap();
        assert_eq!(
            notes["options_warning"],
            "not supported by this version, left out: dst_mac=x; unknown, left out: tll=8 \
             (vxlan takes remote_ip, local_ip, key, in_key, out_key, tos, ttl, df_default, csum, learning, mtu-policy, \
             dst_port, remote_ips)"
        );
    }
}
