//! Tunnel options → a checked tunnel, or the reason why not.
//!
//! An option that changes what the tunnel means and is not supported is refused; one that tunes it is left out and
//! reported. Pure.

use super::{Options, Refusal, listed};
use datapath::tunnel::{VXLAN_PORT, Vxlan};
use datapath::types::Vni;
use std::net::{IpAddr, SocketAddr};

/// The options of a VXLAN tunnel that are honoured.
const VXLAN: &str = "remote_ip, local_ip, key, in_key, out_key, dst_port";

/// Options that Open vSwitch knows, that only tune a tunnel, and that we do not honour.
const TUNING: [&str; 10] = [
    "tos",
    "ttl",
    "df_default",
    "csum",
    "pkt_mark",
    "egress_pkt_mark",
    "learning",
    "mtu-policy",
    "dst_mac",
    "local_mac",
];

/// A VXLAN tunnel from an Interface's options, and what to tell about those that are not honoured.
pub fn vxlan(options: &Options) -> Result<(Vxlan, Option<String>), Refusal> {
    for (key, why) in [
        ("exts", "VXLAN extensions are not supported by this version"),
        ("remote_ips", "several remote ends are not supported by this version; add one port per remote end"),
    ] {
        if let Some(value) = options.get(key) {
            return Err(format!("{key}={value}: {why}"));
        }
    }
    if let Some(value) = options.get("packet_type").filter(|v| **v != "legacy_l2") {
        return Err(format!("packet_type={value}: VXLAN carries Ethernet frames; remove the option"));
    }
    let remote_ip = remote_ip(options)?;
    let local = local_ip(options, remote_ip)?;
    let both = vni(options, "key")?.unwrap_or_default();
    let tunnel = Vxlan {
        out_vni: vni(options, "out_key")?.unwrap_or(both),
        in_vni: vni(options, "in_key")?.unwrap_or(both),
        remote: SocketAddr::new(remote_ip, dst_port(options)?),
        local,
    };
    Ok((tunnel, leftover(options)))
}

fn remote_ip(options: &Options) -> Result<IpAddr, Refusal> {
    let Some(&value) = options.get("remote_ip") else {
        return Err("remote_ip is missing: set the other end's address, as in options:remote_ip=192.0.2.2".to_owned());
    };
    let ip = address("remote_ip", value)?;
    if ip.is_multicast() {
        return Err(format!(
            "remote_ip={value}: multicast tunnels are not supported by this version; give the other end's own address"
        ));
    }
    if ip.is_unspecified() || ip == IpAddr::from([255; 4]) {
        return Err(format!("remote_ip={value} is no host's address; give the other end's own address"));
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

fn vni(options: &Options, key: &str) -> Result<Option<Vni>, Refusal> {
    let Some(&value) = options.get(key) else { return Ok(None) };
    if value == "flow" {
        return Err(format!("{key}=flow: keys set by flows need OpenFlow, which is not supported; give a number"));
    }
    let number = match value.strip_prefix("0x").or_else(|| value.strip_prefix("0X")) {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => value.parse(),
    };
    number.ok().and_then(Vni::new).map(Some).ok_or_else(|| {
        format!("{key}={value} is not a VXLAN network identifier; it is a number from 0 to {}", (1 << 24) - 1)
    })
}

fn dst_port(options: &Options) -> Result<u16, Refusal> {
    let Some(&value) = options.get("dst_port") else { return Ok(VXLAN_PORT) };
    value.parse().ok().filter(|&port| port != 0).ok_or_else(|| {
        format!("dst_port={value} is not a UDP port; it is a number from 1 to 65535, {VXLAN_PORT} if left out")
    })
}

/// What to tell about the options that are not honoured.
fn leftover(options: &Options) -> Option<String> {
    let honoured = |key: &str, value: &str| match key {
        "remote_ip" | "local_ip" | "key" | "in_key" | "out_key" | "dst_port" | "packet_type" => true,
        // What is done anyway.
        "csum" | "df_default" => value == "true",
        _ => false,
    };
    let rest = || options.iter().filter(|&(k, v)| !honoured(k, v));
    let unsupported = listed(rest().filter(|(k, _)| TUNING.contains(k)));
    let unknown = listed(rest().filter(|(k, _)| !TUNING.contains(k)));
    let mut texts = Vec::new();
    if let Some(list) = unsupported {
        texts.push(format!("not supported by this version, left out: {list}"));
    }
    if let Some(list) = unknown {
        texts.push(format!("unknown, left out: {list} (vxlan takes {VXLAN})"));
    }
    (!texts.is_empty()).then(|| texts.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(options: &[(&'static str, &'static str)]) -> Result<(Vxlan, Option<String>), Refusal> {
        vxlan(&options.iter().copied().collect())
    }

    #[test]
    fn what_is_accepted() {
        let (t, note) = read(&[("remote_ip", "192.0.2.2"), ("key", "5000")]).unwrap();
        let vni = Vni::new(5000).unwrap();
        assert_eq!(t, Vxlan { out_vni: vni, in_vni: vni, remote: "192.0.2.2:4789".parse().unwrap(), local: None });
        assert_eq!(note, None);

        let (t, _) = read(&[("remote_ip", "2001:db8::2")]).unwrap();
        assert_eq!((t.out_vni.get(), t.in_vni.get()), (0, 0), "without a key, 0");

        let (t, note) = read(&[
            ("remote_ip", "192.0.2.2"),
            ("local_ip", "192.0.2.1"),
            ("key", "1"),
            ("in_key", "0x10"),
            ("out_key", "16777215"),
            ("dst_port", "8472"),
            ("csum", "true"),
            ("packet_type", "legacy_l2"),
        ])
        .unwrap();
        assert_eq!((t.out_vni.get(), t.in_vni.get()), (0xff_ffff, 16));
        assert_eq!(t.remote.port(), 8472);
        assert_eq!(t.local, Some("192.0.2.1".parse().unwrap()));
        assert_eq!(note, None);
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
            (vec![remote, ("exts", "gbp")], "exts=gbp"),
            (vec![("remote_ips", "192.0.2.2,192.0.2.3")], "remote_ips=192.0.2.2,192.0.2.3"),
            (vec![remote, ("packet_type", "ptap")], "packet_type=ptap"),
        ] {
            let refusal = read(&options).unwrap_err();
            assert!(refusal.contains(text), "{options:?}: {refusal}");
        }
    }

    #[test]
    fn what_is_left_out_is_told() {
        let (_, note) =
            read(&[("remote_ip", "192.0.2.2"), ("ttl", "9"), ("csum", "false"), ("df_default", "true"), ("tll", "8")])
                .unwrap();
        assert_eq!(
            note.as_deref(),
            Some(
                "not supported by this version, left out: csum=false, ttl=9; unknown, left out: tll=8 \
                 (vxlan takes remote_ip, local_ip, key, in_key, out_key, dst_port)"
            )
        );
    }
}
