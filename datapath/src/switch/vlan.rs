//! Which VLAN a frame is in, which ports carry it, and the tag it leaves with: Open vSwitch's four port modes.
//!
//! | mode            | takes untagged¹ into | takes tagged     | a frame of VLAN v leaves                     |
//! |-----------------|----------------------|------------------|----------------------------------------------|
//! | access n        | n                    | nothing          | untagged, if v = n                           |
//! | trunk           | 0, if carried        | VLANs it carries | tagged; VLAN 0 untagged                      |
//! | native-tagged n | n                    | VLANs it carries | tagged                                       |
//! | native-untag. n | n                    | VLANs it carries | tagged; VLAN n untagged                      |
//!
//! ¹ or with a priority tag (VLAN 0), whose priority is kept where the frame leaves tagged. A native port always carries
//! its native VLAN and, since that is where untagged frames go, never VLAN 0. Only the outermost tag is looked at.

use super::state::VlanMode;
use super::verdict::DropReason;
use crate::packet::Frame;
use crate::types::VlanId;
use crate::wire::ethernet::ETHERTYPE;
use crate::wire::vlan::{CUSTOMER, Tag};

/// The bits of a tag that are not the VLAN: priority and drop eligibility.
const PRIORITY_BITS: u16 = 0xf000;

/// The VLAN of a frame inside the switch, and the tag that it came with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tagging {
    /// The VLAN that it is switched in.
    pub vlan: VlanId,
    /// Its outermost tag, still in its bytes.
    pub tag: Option<Tag>,
}

/// The VLAN of a frame that came in with `tag`; `None` when the mode does not allow it in.
#[inline]
#[must_use]
pub fn ingress(mode: &VlanMode, tag: Option<Tag>) -> Option<VlanId> {
    let tagged = tag.map(Tag::vlan).filter(|&v| v != VlanId::UNTAGGED);
    let vlan = match (mode, tagged) {
        (VlanMode::Access(_), Some(_)) => return None,
        (VlanMode::Access(own) | VlanMode::NativeTagged(own, _) | VlanMode::NativeUntagged(own, _), None) => *own,
        (VlanMode::Trunk(_), None) => VlanId::UNTAGGED,
        (_, Some(vlan)) => vlan,
    };
    carries(mode, vlan).then_some(vlan)
}

/// Whether frames of `vlan` come in and go out by a port of this mode.
#[inline]
#[must_use]
pub fn carries(mode: &VlanMode, vlan: VlanId) -> bool {
    match mode {
        VlanMode::Access(own) => *own == vlan,
        VlanMode::Trunk(trunks) => trunks.carries(vlan),
        VlanMode::NativeTagged(own, trunks) | VlanMode::NativeUntagged(own, trunks) => {
            *own == vlan || (vlan != VlanId::UNTAGGED && trunks.carries(vlan))
        }
    }
}

/// Gives the frame the tag that it has on the wire behind a port of this mode.
#[inline]
pub fn egress(mode: &VlanMode, frame: &mut Frame, tagging: Tagging) -> Result<(), DropReason> {
    let tagged = tagging.vlan != VlanId::UNTAGGED
        && match mode {
            VlanMode::Access(_) => false,
            VlanMode::Trunk(_) | VlanMode::NativeTagged(..) => true,
            VlanMode::NativeUntagged(own, _) => *own != tagging.vlan,
        };
    let done = match tagging.tag {
        None if tagged => frame.push_vlan(CUSTOMER, tagging.vlan.get()),
        None => true,
        Some(_) if !tagged => frame.pop_vlan(),
        Some(tag) if tag.vlan() == tagging.vlan => true,
        Some(tag) => rewrite(frame, tag.tci & PRIORITY_BITS | tagging.vlan.get()),
    };
    if done { Ok(()) } else { Err(DropReason::Headroom) }
}

/// Overwrites the outermost tag's control information.
fn rewrite(frame: &mut Frame, tci: u16) -> bool {
    let Some(field) = frame.bytes_mut().get_mut(ETHERTYPE + 2..ETHERTYPE + 4) else { return false };
    field.copy_from_slice(&tci.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::super::state::Trunks;
    use super::*;
    use crate::wire::vlan::SERVICE;

    fn vlan(n: u16) -> VlanId {
        VlanId::new(n).unwrap()
    }

    fn only(vlans: &[u16]) -> Trunks {
        Trunks::Only(vlans.iter().map(|&v| vlan(v)).collect())
    }

    fn modes() -> [(&'static str, VlanMode); 7] {
        [
            ("access", VlanMode::Access(vlan(10))),
            ("access 0", VlanMode::Access(vlan(0))),
            ("trunk all", VlanMode::Trunk(Trunks::All)),
            ("trunk", VlanMode::Trunk(only(&[20, 30]))),
            ("native-tagged", VlanMode::NativeTagged(vlan(10), only(&[0, 20]))),
            ("native-untagged", VlanMode::NativeUntagged(vlan(10), only(&[20]))),
            ("native all", VlanMode::NativeUntagged(vlan(10), Trunks::All)),
        ]
    }

    /// What comes in untagged, priority-tagged, with tag 10, 20 and 99.
    #[test]
    fn every_mode_on_the_way_in() {
        let expected = [
            [Some(10), Some(10), None, None, None],
            [Some(0), Some(0), None, None, None],
            [Some(0), Some(0), Some(10), Some(20), Some(99)],
            [None, None, None, Some(20), None],
            [Some(10), Some(10), Some(10), Some(20), None],
            [Some(10), Some(10), Some(10), Some(20), None],
            [Some(10), Some(10), Some(10), Some(20), Some(99)],
        ];
        for ((name, mode), expected) in modes().into_iter().zip(expected) {
            let tags = [None, Some(0xe000), Some(10), Some(0x6014), Some(99)];
            let seen = tags.map(|t| ingress(&mode, t.map(|tci| Tag { tpid: CUSTOMER, tci })).map(VlanId::get));
            assert_eq!(seen, expected, "{name}");
        }
    }

    /// Which of VLAN 0, 10, 20 and 99 each mode carries.
    #[test]
    fn every_mode_carries() {
        let expected = [
            [false, true, false, false],
            [true, false, false, false],
            [true, true, true, true],
            [false, false, true, false],
            [false, true, true, false],
            [false, true, true, false],
            [false, true, true, true],
        ];
        for ((name, mode), expected) in modes().into_iter().zip(expected) {
            assert_eq!([0, 10, 20, 99].map(|v| carries(&mode, vlan(v))), expected, "{name}");
        }
    }

    const UNTAGGED: [u8; 18] = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 8, 0, 9, 9, 9, 9];

    fn frame(tag: Option<Tag>) -> Frame {
        let mut frame = Frame::from_bytes(&UNTAGGED);
        assert!(tag.is_none_or(|t| frame.push_vlan(t.tpid, t.tci)));
        frame
    }

    /// The tag that is left after egress.
    fn leave(mode: &VlanMode, v: u16, tag: Option<Tag>) -> Option<Tag> {
        let mut frame = frame(tag);
        egress(mode, &mut frame, Tagging { vlan: vlan(v), tag }).unwrap();
        let left = crate::wire::parse::parse(frame.bytes()).unwrap().vlan;
        if left.is_some() {
            assert!(frame.pop_vlan());
        }
        assert_eq!(frame.bytes(), UNTAGGED, "nothing but the tag changes");
        left
    }

    #[test]
    fn every_mode_on_the_way_out() {
        let customer = |tci| Some(Tag { tpid: CUSTOMER, tci });
        let service = Some(Tag { tpid: SERVICE, tci: 0x700a });
        for (name, mode) in modes() {
            let untagged = name.starts_with("access") || name.starts_with("native-u") || name == "native all";
            assert_eq!(leave(&mode, 10, None), customer(10).filter(|_| !untagged), "{name}: from an access port");
            assert_eq!(leave(&mode, 10, customer(0xe000)), customer(0xe00a).filter(|_| !untagged), "{name}: priority");
            assert_eq!(leave(&mode, 10, service), service.filter(|_| !untagged), "{name}: its own tag");
            let access = name.starts_with("access");
            assert_eq!(leave(&mode, 20, customer(0x3014)), customer(0x3014).filter(|_| !access), "{name}: other VLAN");
        }
        let trunk = VlanMode::Trunk(Trunks::All);
        assert_eq!(leave(&trunk, 0, None), None);
        assert_eq!(leave(&trunk, 0, customer(0xe000)), None, "a priority tag does not leave");
    }

    #[test]
    fn no_room_for_a_tag_is_said() {
        let mut tight = Frame::new(vec![0; 60].into_boxed_slice(), 0);
        tight.set_len(60);
        let tagging = Tagging { vlan: vlan(10), tag: None };
        assert_eq!(egress(&VlanMode::Trunk(Trunks::All), &mut tight, tagging), Err(DropReason::Headroom));
    }
}
