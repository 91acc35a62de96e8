//! An Interface and its Port → what to attach, or the reason why not.

use super::bridge::{BridgeSettings, unicast};
use super::io::{self, Io};
use super::mtu_policy::MtuPolicy;
use super::{Columns, Notes, Options, Refusal, VlanSettings, bridge, limits, listed, routes, tunnel, unsupported};
use datapath::switch::shape::{Limit, Limits};
use datapath::switch::state::{PortRules, VlanMode};
use datapath::tunnel::Tunnel;
use datapath::types::MacAddr;
use uuid::Uuid;

/// The values of `Interface:type` that work, as told in `Open_vSwitch:iface_types`.
pub const TYPES: [&str; 9] = ["afxdp", "geneve", "gre", "internal", "ipip", "patch", "system", "tap", "vxlan"];

/// An interface of a port of a bridge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its row.
    pub uuid: Uuid,
    /// The row of the port that it belongs to.
    pub port: Uuid,
    /// Its name, which is also its device's.
    pub name: String,
    /// Whether it is the bridge's own port.
    pub own: bool,
    /// The OpenFlow port number that the row has; −1 after an error.
    pub ofport: Option<i64>,
    /// The one asked for.
    pub ofport_request: Option<u16>,
    /// What to attach.
    pub wanted: Result<Wanted, Refusal>,
    /// For its `status`.
    pub notes: Notes,
}

impl Interface {
    /// Whether it is a TAP of ours, if it can be tried.
    #[must_use]
    pub fn is_internal(&self) -> bool {
        matches!(&self.wanted, Ok(wanted) if matches!(wanted.kind, Kind::Internal { .. }))
    }
}

/// A port that can be tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// What it is.
    pub kind: Kind,
    /// How it treats VLANs.
    pub vlan: VlanMode,
    /// How it treats what leaves by it otherwise.
    pub rules: PortRules,
    /// How fast frames may come and go.
    pub limits: Limits,
    /// The MTU asked for.
    pub mtu: Option<u32>,
    /// What becomes of packets that are larger than it carries.
    pub mtu_policy: MtuPolicy,
}

/// What a port is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A network device of the host that has the interface's name.
    Netdev(Io),
    /// A TAP of ours.
    Internal {
        /// The hardware address it gets when it is made.
        mac: MacAddr,
        /// Whether it must have that address later on, too.
        keep: bool,
    },
    /// A tunnel.
    Tunnel(Tunnel),
    /// One end of a patch.
    Patch {
        /// The interface at the other end.
        peer: String,
    },
}

/// Where an interface belongs.
pub(super) struct Place<'a> {
    pub port_row: Uuid,
    pub port: &'a Columns<'a>,
    /// What the port's VLAN settings mean.
    pub vlans: VlanSettings,
    /// How many interfaces the port has.
    pub members: usize,
    pub bridge: &'a str,
    pub bridge_row: Uuid,
    pub settings: &'a BridgeSettings,
    /// Why the bridge cannot be made.
    pub refused: Option<&'a str>,
    /// How fast frames may leave by the port.
    pub egress: Option<Limit>,
}

pub(super) fn read(uuid: Uuid, row: &Columns<'_>, place: &Place<'_>) -> Interface {
    let name = row.text("name").unwrap_or_default().to_owned();
    let port = place.port;
    let own = name == place.bridge;
    let mut notes = Notes::new();
    let wanted = if let Some(why) = place.refused {
        Err(why.to_owned())
    } else if place.members > 1 {
        Err(format!(
            "port {} has {} interfaces: bonds are not supported by this version; keep one interface a port",
            port.text("name").unwrap_or_default(),
            place.members
        ))
    } else {
        wanted(uuid, &name, row, place, &mut notes)
    };
    unsupported::note(row, unsupported::INTERFACE, &mut notes);
    unsupported::note_other_config(row, &[], &mut notes);
    if let (Some(mac), Ok(wanted)) = (row.text("mac"), &wanted) {
        let why = match wanted.kind {
            Kind::Internal { .. } => None,
            Kind::Netdev(_) => {
                Some(format!("the device keeps its own; 'ip link set dev {name} address {mac}' sets it"))
            }
            Kind::Tunnel(_) => Some("a tunnel has no hardware address".to_owned()),
            Kind::Patch { .. } => Some("a patch port has no hardware address".to_owned()),
        };
        if let Some(why) = why {
            notes.insert(unsupported::key("mac"), format!("mac={mac} has no effect: {why}"));
        }
    }
    if let (Some(mtu), Ok(wanted)) = (row.integer("mtu_request"), &wanted) {
        let why = match wanted.kind {
            Kind::Internal { .. } | Kind::Netdev(_) => None,
            Kind::Tunnel(_) => Some("a tunnel's MTU is what its way leaves, see status:mtu_reason"),
            Kind::Patch { .. } => Some("a patch port takes packets of any size"),
        };
        if let Some(why) = why {
            notes.insert(unsupported::key("mtu_request"), format!("mtu_request={mtu} has no effect: {why}"));
        }
    }
    let ofport_request = row.integer("ofport_request").and_then(|n| u16::try_from(n).ok());
    Interface { uuid, port: place.port_row, name, own, ofport: row.integer("ofport"), ofport_request, wanted, notes }
}

fn wanted(uuid: Uuid, name: &str, row: &Columns<'_>, place: &Place<'_>, notes: &mut Notes) -> Result<Wanted, Refusal> {
    let (mut vlan, rules) = place.vlans.clone()?;
    let own = name == place.bridge;
    let options = row.options("options");
    let mut mtu_policy = place.settings.mtu_policy;
    // A bridge's own port is internal, whatever its type says.
    let kind = match row.text("type").unwrap_or_default() {
        "internal" | "tap" => internal(uuid, row, name, place, notes)?,
        _ if own => internal(uuid, row, name, place, notes)?,
        ty @ ("" | "system" | "afxdp" | "afxdp-nonpmd") => {
            device_name(name)?;
            Kind::Netdev(io::read(ty, &options, notes)?)
        }
        "patch" => Kind::Patch { peer: peer(name, &options)? },
        other => match tunnel::protocol(other) {
            Some(protocol) => {
                let tunnel = tunnel::tunnel(protocol, &options, notes);
                let mut tunnel = tunnel.map_err(|why| format!("{name}: {why}"))?;
                mtu_policy =
                    tunnel::mtu_policy(&options).map_err(|why| format!("{name}: {why}"))?.unwrap_or(mtu_policy);
                tunnel::know_statics(&mut tunnel, name, &place.settings.statics);
                if protocol.is_layer3() {
                    vlan = routes::one_vlan(name, vlan)?;
                }
                Kind::Tunnel(tunnel)
            }
            None => {
                let types = TYPES.join(", ");
                return Err(format!("type={other} is not supported by this version; {types} are"));
            }
        },
    };
    let limits = Limits { ingress: limits::ingress(row), egress: place.egress };
    let mtu = row.integer("mtu_request").and_then(|n| u32::try_from(n).ok());
    Ok(Wanted { kind, vlan, rules, limits, mtu, mtu_policy })
}

fn internal(uuid: Uuid, row: &Columns<'_>, name: &str, place: &Place<'_>, notes: &mut Notes) -> Result<Kind, Refusal> {
    device_name(name)?;
    note_options(&row.options("options"), &[], notes);
    let own = name == place.bridge;
    let mut asked = place.settings.hwaddr.filter(|_| own);
    if let Some(text) = row.text("mac") {
        match unicast(text) {
            Ok(mac) => asked = asked.or(Some(mac)),
            Err(why) => {
                notes.insert("mac_warning".to_owned(), format!("mac={text}: {why}; left out"));
            }
        }
    }
    let made = bridge::mac_of(if own { place.bridge_row } else { uuid });
    Ok(Kind::Internal { mac: asked.unwrap_or(made), keep: asked.is_some() })
}

/// Linux's rules for names of devices (`dev_valid_name`).
fn device_name(name: &str) -> Result<(), Refusal> {
    if name.is_empty() || name.len() > 15 {
        return Err(format!(
            "'{name}' cannot be a device's name: it has {} bytes, and Linux takes 1 to 15; use a shorter name",
            name.len()
        ));
    }
    if name == "." || name == ".." || name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace()) {
        return Err(format!("'{name}' cannot be a device's name: Linux takes no '/', ':' and spaces in one"));
    }
    Ok(())
}

/// The other end of a patch; Open vSwitch's words.
fn peer(name: &str, options: &Options<'_>) -> Result<String, Refusal> {
    if let Some(list) = listed(options.iter().filter(|(k, _)| **k != "peer")) {
        return Err(format!("{name}: patch type takes only a 'peer' argument; remove {list} from its options"));
    }
    match options.get("peer").copied() {
        None | Some("") => Err(format!(
            "{name}: patch type requires valid 'peer' argument; 'vsctl set interface {name} options:peer=NAME' names the \
             patch port at the other end"
        )),
        Some(peer) if peer == name => {
            Err(format!("{name}: patch peer must not be self; name the patch port at the other end by options:peer"))
        }
        Some(peer) => Ok(peer.to_owned()),
    }
}

pub(super) fn note_options(options: &Options<'_>, known: &[&str], notes: &mut Notes) {
    if let Some(list) = listed(options.iter().filter(|(k, _)| !known.contains(k))) {
        let takes = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        notes.insert("options_warning".to_owned(), format!("unknown, left out: {list} (this type takes {takes})"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::tests::{br0_p1, database};
    use super::*;
    use datapath::switch::state::Trunks;
    use datapath::types::VlanId;
    use serde_json::{Value, json};

    fn read(port: Value, interface: Value) -> Interface {
        let config = Config::read(&database(&br0_p1(json!({}), json!({}), port, interface)));
        Interface::clone(&config.bridges[0].interfaces[1])
    }

    #[test]
    fn types() {
        let tunnel =
            |kind: &str| json!({"type": kind, "options": ["map", [["remote_ip", "192.0.2.2"], ["key", "5000"]]]});
        for (row, works) in [
            (json!({}), true),
            (json!({"type": "system"}), true),
            (json!({"options": ["map", [["io", "packet"]]]}), true),
            (json!({"type": "internal"}), true),
            (json!({"type": "tap"}), true),
            (tunnel("vxlan"), true),
            (tunnel("geneve"), true),
            (tunnel("gre"), true),
            (tunnel("ipip"), false),
            (tunnel("ip6gre"), false),
            (json!({"type": "vxlan"}), false),
            (json!({"type": "afxdp"}), true),
            (json!({"type": "gre"}), false),
            (json!({"type": "patch"}), false),
            (json!({"type": "patch", "options": ["map", [["peer", "p2"]]]}), true),
            (json!({"type": "patch", "options": ["map", [["peer", "p1"]]]}), false),
            (json!({"type": "patch", "options": ["map", [["peer", "p2"], ["key", "5"]]]}), false),
            (json!({"type": "bogus"}), false),
            (json!({"options": ["map", [["io", "af_xdp"]]]}), true),
            (json!({"options": ["map", [["io", "dpdk"]]]}), false),
        ] {
            let i = read(json!({}), row.clone());
            assert_eq!(i.wanted.is_ok(), works, "{row}: {:?}", i.wanted);
            if works {
                assert_eq!((i.wanted.unwrap().vlan, i.notes), (VlanMode::Trunk(Trunks::All), Notes::new()), "{row}");
            }
        }
    }

    #[test]
    fn refusals_name_the_value_and_a_way_out() {
        for (row, text) in [
            (
                json!({"type": "stt"}),
                "type=stt is not supported by this version; afxdp, geneve, gre, internal, ipip, patch, system, tap, vxlan are",
            ),
            (json!({"type": "patch"}), "p1: patch type requires valid 'peer' argument; 'vsctl set interface p1"),
            (json!({"type": "vxlan"}), "p1: remote_ip is missing"),
            (json!({"options": ["map", [["io", "fast"]]]}), "io=fast is unknown; use auto, packet or af_xdp"),
        ] {
            let refusal = read(json!({}), row).wanted.unwrap_err();
            assert!(refusal.contains(text), "{refusal}");
        }
        for (name, good) in [("eth0", true), ("123456789012345", true), ("1234567890123456", false), ("", false)] {
            assert_eq!(device_name(name).is_ok(), good, "{name}");
        }
        for bad in ["a/b", "a b", "a:b", ".", ".."] {
            assert!(device_name(bad).unwrap_err().contains(bad));
        }
    }

    #[test]
    fn a_bond_is_refused_at_every_member() {
        let mut ops = br0_p1(json!({}), json!({}), json!({}), json!({}));
        ops[4]["row"]["interfaces"] = json!(["set", [["named-uuid", "i"], ["named-uuid", "j"]]]);
        ops.push(json!({"op": "insert", "table": "Interface", "uuid-name": "j", "row": {"name": "p2"}}));
        let config = Config::read(&database(&ops));
        for i in &config.bridges[0].interfaces[1..] {
            assert!(i.wanted.as_ref().unwrap_err().contains("port p1 has 2 interfaces: bonds"), "{i:?}");
        }
    }

    #[test]
    fn what_is_left_out_is_told() {
        let port = json!({"tag": 5, "trunks": 6, "protected": true});
        let interface = json!({"mtu_request": 1400, "lldp": ["map", [["enable", "true"]]], "ofport_request": 9, "options": ["map", [["speed", "fast"]]],
            "other_config": ["map", [["x", "y"]]]});
        let i = read(port, interface);
        assert_eq!(i.ofport_request, Some(9));
        let wanted = i.wanted.unwrap();
        assert_eq!((wanted.vlan, wanted.mtu), (VlanMode::Access(VlanId::new(5).unwrap()), Some(1400)));
        assert_eq!(
            i.notes.keys().map(String::as_str).collect::<Vec<_>>(),
            ["options_warning", "unsupported_lldp", "unsupported_other_config"]
        );
    }

    #[test]
    fn an_mtu_is_asked_for_where_there_is_a_device_to_have_it() {
        let told = |mut row: Value| {
            row["mtu_request"] = json!(1400);
            read(json!({}), row).notes.get("unsupported_mtu_request").cloned().unwrap_or_default()
        };
        assert_eq!([told(json!({})), told(json!({"type": "internal"}))], ["", ""]);
        let tunnel = told(json!({"type": "vxlan", "options": ["map", [["remote_ip", "192.0.2.2"]]]}));
        assert!(tunnel.starts_with("mtu_request=1400 has no effect: a tunnel's MTU"), "{tunnel}");
        assert!(told(json!({"type": "patch", "options": ["map", [["peer", "p2"]]]})).contains("has no effect"));
    }

    #[test]
    fn the_hardware_address_of_an_internal_port() {
        let mac = |row: Value| match read(json!({}), row).wanted.unwrap().kind {
            Kind::Internal { mac, keep } => (mac.to_string(), keep),
            other => panic!("{other:?}"),
        };
        assert!(!mac(json!({"type": "internal"})).1);
        let asked = json!({"type": "internal", "mac": "02:00:00:00:00:09"});
        assert_eq!(mac(asked), ("02:00:00:00:00:09".to_owned(), true));
        let bad = json!({"type": "internal", "mac": "01:00:00:00:00:09"});
        assert!(!mac(bad.clone()).1);
        assert!(read(json!({}), bad).notes["mac_warning"].contains("mac=01:00:00:00:00:09"));
    }
}
