//! A Port's VLAN settings → how the datapath treats its VLANs, with Open vSwitch's defaults: a tag alone makes an access
//! port, no tag a trunk. Pure.

use super::Refusal;
use datapath::switch::state::{Trunks, VlanMode};
use datapath::types::VlanId;
use std::collections::BTreeSet;

/// The VLAN columns of a Port; the schema has checked their ranges.
#[derive(Clone, Default, Debug)]
pub struct Vlans<'a> {
    /// `tag`.
    pub tag: Option<VlanId>,
    /// `trunks`; empty: all.
    pub trunks: BTreeSet<VlanId>,
    /// `vlan_mode`.
    pub mode: Option<&'a str>,
}

/// How the port treats VLANs, and what to tell about settings that contradict it.
pub fn vlan_mode(vlans: Vlans<'_>) -> Result<(VlanMode, Option<String>), Refusal> {
    let Vlans { tag, trunks, mode } = vlans;
    let native = tag.unwrap_or_default();
    let listed = |trunks: &BTreeSet<VlanId>| trunks.iter().map(VlanId::to_string).collect::<Vec<_>>().join(",");
    let carried = |mut trunks: BTreeSet<VlanId>, native: Option<VlanId>| {
        if trunks.is_empty() {
            return Trunks::All;
        }
        trunks.extend(native);
        Trunks::Only(trunks)
    };
    Ok(match (mode, tag) {
        (Some("access"), _) | (None, Some(_)) => {
            let told = (!trunks.is_empty()).then(|| {
                let trunks = listed(&trunks);
                format!(
                    "trunks={trunks} has no effect: with tag={native} and no vlan_mode this is an access port; \
                     clear the tag, or set vlan_mode=native-untagged to carry both"
                )
            });
            (VlanMode::Access(native), told)
        }
        (Some("trunk"), Some(tag)) => {
            let told = format!("tag={tag} has no effect on a trunk; set vlan_mode=native-untagged or clear the tag");
            (VlanMode::Trunk(carried(trunks, None)), Some(told))
        }
        (Some("trunk") | None, None) => (VlanMode::Trunk(carried(trunks, None)), None),
        (Some("native-tagged"), _) => (VlanMode::NativeTagged(native, carried(trunks, Some(native))), None),
        (Some("native-untagged"), _) => (VlanMode::NativeUntagged(native, carried(trunks, Some(native))), None),
        (Some(other), _) => {
            return Err(format!(
                "vlan_mode={other} is not supported by this version; use access, trunk, native-tagged or \
                 native-untagged"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vid(id: u16) -> VlanId {
        VlanId::new(id).unwrap()
    }

    fn only(ids: &[u16]) -> Trunks {
        Trunks::Only(ids.iter().map(|&i| vid(i)).collect())
    }

    fn read(tag: Option<u16>, trunks: &[u16], mode: Option<&str>) -> Result<(VlanMode, Option<String>), Refusal> {
        vlan_mode(Vlans { tag: tag.map(vid), trunks: trunks.iter().map(|&i| vid(i)).collect(), mode })
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
            let (got, told) = read(tag, trunks, mode).unwrap();
            assert_eq!((got, told), (expected, None), "tag={tag:?} trunks={trunks:?} vlan_mode={mode:?}");
        }
    }

    #[test]
    fn contradictions_are_told_and_unsupported_modes_refused() {
        let (mode, told) = read(Some(10), &[20, 30], None).unwrap();
        assert_eq!(mode, VlanMode::Access(vid(10)));
        assert!(told.unwrap().contains("trunks=20,30 has no effect"));
        let (mode, told) = read(Some(10), &[20], Some("trunk")).unwrap();
        assert_eq!(mode, VlanMode::Trunk(only(&[20])));
        assert!(told.unwrap().contains("tag=10 has no effect"));
        assert!(read(Some(10), &[], Some("dot1q-tunnel")).unwrap_err().contains("vlan_mode=dot1q-tunnel"));
    }
}
