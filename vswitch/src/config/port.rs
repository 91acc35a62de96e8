//! A Port's VLAN settings → how the datapath treats its VLANs, with Open vSwitch's defaults: a tag alone makes an access
//! port, no tag a trunk. Pure.

use super::{Columns, Notes, Options, Refusal};
use datapath::switch::state::{PortRules, PriorityTags, Service, Trunks, VlanMode};
use datapath::switch::vlan_set::VlanSet;
use datapath::types::VlanId;
use datapath::wire::vlan::{CUSTOMER, SERVICE};

/// Reads a Port. What contradicts itself is told in `notes`.
pub(super) fn read(row: &Columns<'_>, two_tags: bool, notes: &mut Notes) -> Result<(VlanMode, PortRules), Refusal> {
    let other_config = row.options("other_config");
    let vlans = Vlans {
        tag: row.vlans("tag").next(),
        trunks: row.vlans("trunks").collect(),
        cvlans: row.vlans("cvlans").collect(),
        mode: row.text("vlan_mode"),
        ethertype: other_config.get("qinq-ethtype").copied(),
        two_tags,
    };
    let mut told = Vec::new();
    let mode = vlan_mode(vlans, &mut told);
    let rules = rules(&other_config, row.boolean("protected"), &mut told);
    if !told.is_empty() {
        notes.insert("vlan_warning".to_owned(), told.join("; "));
    }
    Ok((mode?, rules))
}

/// The VLAN settings of a Port; the schema has checked the columns' ranges.
#[derive(Clone, Default, Debug)]
struct Vlans<'a> {
    /// `tag`.
    tag: Option<VlanId>,
    /// `trunks`; empty: all.
    trunks: VlanSet,
    /// `cvlans`; empty: all.
    cvlans: VlanSet,
    /// `vlan_mode`.
    mode: Option<&'a str>,
    /// `other_config:qinq-ethtype`.
    ethertype: Option<&'a str>,
    /// Whether the switch looks at two VLAN tags of a frame.
    two_tags: bool,
}

/// How the port treats VLANs; what to tell about settings that contradict it goes to `told`.
fn vlan_mode(vlans: Vlans<'_>, told: &mut Vec<String>) -> Result<VlanMode, Refusal> {
    let native = vlans.tag.unwrap_or_default();
    if vlans.mode == Some("dot1q-tunnel") {
        return dot1q_tunnel(vlans, told);
    }
    without_tunnel(&vlans, told);
    let Vlans { tag, trunks, mode, .. } = vlans;
    Ok(match (mode, tag) {
        (Some("access"), _) | (None, Some(_)) => {
            if !trunks.is_empty() {
                told.push(format!(
                    "trunks={trunks} has no effect: this is an access port (tag={native}); clear the tag and vlan_mode to \
                     have a trunk, or set vlan_mode=native-untagged to carry both"
                ));
            }
            VlanMode::Access(native)
        }
        (Some("trunk") | None, _) => {
            if let Some(tag) = tag {
                told.push(format!(
                    "tag={tag} has no effect on a trunk; set vlan_mode=native-untagged or clear the tag"
                ));
            }
            VlanMode::Trunk(listed(trunks, None))
        }
        (Some("native-tagged"), _) => VlanMode::NativeTagged(native, listed(trunks, Some(native))),
        (Some("native-untagged"), _) => VlanMode::NativeUntagged(native, listed(trunks, Some(native))),
        (Some(other), _) => {
            return Err(format!(
                "vlan_mode={other} is unknown; use access, trunk, native-tagged, native-untagged or dot1q-tunnel"
            ));
        }
    })
}

/// The VLANs of a list, of which none means all, and the native one.
fn listed(mut vlans: VlanSet, native: Option<VlanId>) -> Trunks {
    if vlans.is_empty() {
        return Trunks::All;
    }
    vlans.extend(native);
    Trunks::Only(vlans)
}

fn dot1q_tunnel(vlans: Vlans<'_>, told: &mut Vec<String>) -> Result<VlanMode, Refusal> {
    let Vlans { tag, trunks, cvlans, ethertype, two_tags, .. } = vlans;
    let Some(vlan) = tag.filter(|&tag| tag != VlanId::UNTAGGED) else {
        let has = tag.map_or_else(|| "no tag".to_owned(), |tag| format!("tag={tag}"));
        return Err(format!(
            "vlan_mode=dot1q-tunnel with {has}: the frames of the port have no service VLAN to go into; set tag to one \
             from 1 to 4095"
        ));
    };
    if !trunks.is_empty() {
        told.push(format!("trunks={trunks} has no effect on a dot1q-tunnel port; cvlans are the VLANs that it takes"));
    }
    if !cvlans.is_empty() && !two_tags {
        told.push(format!(
            "cvlans={cvlans}: what comes from trunks counts as untagged here, as vlan-limit=1 (the default) hides the \
             customer's tag; 'vsctl set Open_vSwitch . other_config:vlan-limit=2' lets the switch see it"
        ));
    }
    let tpid = match ethertype {
        None | Some("802.1ad") => SERVICE,
        Some("802.1q") => CUSTOMER,
        Some(other) => {
            told.push(format!("qinq-ethtype={other} is neither 802.1ad nor 802.1q; using 802.1ad"));
            SERVICE
        }
    };
    Ok(VlanMode::Dot1qTunnel(Service { vlan, customers: listed(cvlans, None), tpid }))
}

/// Tells of settings that only dot1q-tunnel ports have.
fn without_tunnel(vlans: &Vlans<'_>, told: &mut Vec<String>) {
    let cvlans = Some(&vlans.cvlans).filter(|set| !set.is_empty()).map(|set| format!("cvlans={set}"));
    let ethertype = vlans.ethertype.map(|ethertype| format!("qinq-ethtype={ethertype}"));
    for setting in [cvlans, ethertype].into_iter().flatten() {
        told.push(format!("{setting} has no effect without vlan_mode=dot1q-tunnel"));
    }
}

/// How the port treats what leaves by it otherwise. As in Open vSwitch, `true` is an old word for `if-nonzero`.
fn rules(other_config: &Options<'_>, protected: bool, told: &mut Vec<String>) -> PortRules {
    let priority_tags = match other_config.get("priority-tags").copied() {
        None | Some("never" | "no" | "false") => PriorityTags::Never,
        Some("if-nonzero" | "true") => PriorityTags::IfNonzero,
        Some("always") => PriorityTags::Always,
        Some(other) => {
            told.push(format!("priority-tags={other} is neither never, if-nonzero nor always; using never"));
            PriorityTags::Never
        }
    };
    PortRules { priority_tags, protected }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vid(id: u16) -> VlanId {
        VlanId::new(id).unwrap()
    }

    fn set(ids: &[u16]) -> VlanSet {
        ids.iter().map(|&i| vid(i)).collect()
    }

    fn only(ids: &[u16]) -> Trunks {
        Trunks::Only(set(ids))
    }

    fn read(vlans: Vlans<'_>) -> Result<(VlanMode, String), Refusal> {
        let mut told = Vec::new();
        vlan_mode(vlans, &mut told).map(|mode| (mode, told.join("; ")))
    }

    fn vlans<'a>(tag: Option<u16>, trunks: &[u16], mode: Option<&'a str>) -> Vlans<'a> {
        Vlans { tag: tag.map(vid), trunks: set(trunks), mode, ..Vlans::default() }
    }

    #[test]
    fn modes_as_open_vswitch_reads_them() {
        for (tag, trunks, mode, expected) in [
            (None, &[][..], None, VlanMode::Trunk(Trunks::All)),
            (Some(10), &[], None, VlanMode::Access(vid(10))),
            (Some(10), &[], Some("access"), VlanMode::Access(vid(10))),
            (None, &[], Some("access"), VlanMode::Access(vid(0))),
            (None, &[1, 2], None, VlanMode::Trunk(only(&[1, 2]))),
            (None, &[1, 2], Some("trunk"), VlanMode::Trunk(only(&[1, 2]))),
            (Some(5), &[], Some("native-tagged"), VlanMode::NativeTagged(vid(5), Trunks::All)),
            (Some(5), &[1], Some("native-tagged"), VlanMode::NativeTagged(vid(5), only(&[1, 5]))),
            (Some(5), &[1, 5], Some("native-untagged"), VlanMode::NativeUntagged(vid(5), only(&[1, 5]))),
            (None, &[1], Some("native-untagged"), VlanMode::NativeUntagged(vid(0), only(&[0, 1]))),
        ] {
            let (got, told) = read(vlans(tag, trunks, mode)).unwrap();
            assert_eq!((got, told.as_str()), (expected, ""), "tag={tag:?} trunks={trunks:?} vlan_mode={mode:?}");
        }
    }

    #[test]
    fn dot1q_tunnels() {
        let tunnel = |cvlans: &[u16], ethertype| Vlans {
            cvlans: set(cvlans),
            ethertype,
            two_tags: true,
            ..vlans(Some(10), &[], Some("dot1q-tunnel"))
        };
        let expected = |customers, tpid| VlanMode::Dot1qTunnel(Service { vlan: vid(10), customers, tpid });
        for (port, customers, tpid) in [
            (tunnel(&[], None), Trunks::All, 0x88a8),
            (tunnel(&[0, 20], Some("802.1ad")), only(&[0, 20]), 0x88a8),
            (tunnel(&[], Some("802.1q")), Trunks::All, 0x8100),
        ] {
            assert_eq!(read(port).unwrap(), (expected(customers, tpid), String::new()));
        }
        let (mode, told) = read(tunnel(&[], Some("9100"))).unwrap();
        assert_eq!(mode, expected(Trunks::All, 0x88a8));
        assert!(told.contains("qinq-ethtype=9100 is neither 802.1ad nor 802.1q; using 802.1ad"), "{told}");
        let one_tag = Vlans { two_tags: false, ..tunnel(&[20, 30], None) };
        assert!(read(one_tag).unwrap().1.contains("cvlans=20,30: what comes from trunks counts as untagged"));
        for (tag, has) in [(None, "no tag"), (Some(0), "tag=0")] {
            let why = read(vlans(tag, &[], Some("dot1q-tunnel"))).unwrap_err();
            assert!(why.contains(has) && why.contains("set tag to one from 1 to 4095"), "{why}");
        }
    }

    #[test]
    fn contradictions_are_told() {
        let tunnel_only = Vlans { cvlans: set(&[7]), ethertype: Some("802.1q"), ..Vlans::default() };
        for (port, mode, text) in [
            (vlans(Some(10), &[20, 30], None), VlanMode::Access(vid(10)), "trunks=20,30 has no effect"),
            (vlans(Some(10), &[20], Some("trunk")), VlanMode::Trunk(only(&[20])), "tag=10 has no effect on a trunk"),
            (
                tunnel_only,
                VlanMode::Trunk(Trunks::All),
                "cvlans=7 has no effect without vlan_mode=dot1q-tunnel; qinq-ethtype=802.1q has no effect without",
            ),
        ] {
            let (got, told) = read(port).unwrap();
            assert_eq!(got, mode);
            assert!(told.starts_with(text), "{told}");
        }
        let (_, told) = read(vlans(Some(10), &[20], Some("dot1q-tunnel"))).unwrap();
        assert!(told.starts_with("trunks=20 has no effect on a dot1q-tunnel port"), "{told}");
        assert!(read(vlans(None, &[], Some("vepa"))).unwrap_err().contains("vlan_mode=vepa is unknown"));
    }

    #[test]
    fn words_for_priority_tags() {
        use PriorityTags::{Always, IfNonzero, Never};
        for (word, tags) in [
            ("never", Never),
            ("no", Never),
            ("false", Never),
            ("if-nonzero", IfNonzero),
            ("true", IfNonzero),
            ("always", Always),
        ] {
            let mut told = Vec::new();
            let got = rules(&Options::from([("priority-tags", word)]), true, &mut told);
            assert_eq!((got, told.len()), (PortRules { priority_tags: tags, protected: true }, 0), "{word}");
        }
        let mut told = Vec::new();
        assert_eq!(rules(&Options::from([("priority-tags", "maybe")]), false, &mut told), PortRules::default());
        assert_eq!(told, ["priority-tags=maybe is neither never, if-nonzero nor always; using never"]);
        assert_eq!(rules(&Options::new(), false, &mut told), PortRules::default());
    }
}
