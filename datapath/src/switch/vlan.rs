//! Which VLAN a frame is in, which ports carry it, and the tag it leaves with: Open vSwitch's five port modes.
//!
//! | mode            | takes untagged¹ into | takes tagged             | a frame of VLAN v leaves                 |
//! |-----------------|----------------------|--------------------------|------------------------------------------|
//! | access n        | n                    | nothing                  | untagged, if v = n                       |
//! | trunk           | 0, if carried        | VLANs it carries         | tagged; VLAN 0 untagged²                 |
//! | native-tagged n | n                    | VLANs it carries         | tagged                                   |
//! | native-untag. n | n                    | VLANs it carries         | tagged; VLAN n untagged                  |
//! | dot1q-tunnel s  | s, if it has cvlan 0 | its cvlans, all into s   | with its customer's tag only³, if v = s  |
//!
//! ¹ or with a priority tag (VLAN 0), whose priority is kept where the frame leaves tagged. A native port always carries
//! its native VLAN and, since that is where untagged frames go, never VLAN 0 besides.
//! ² but for a priority tag of another priority than 0, which stays. `priority-tags` sets what becomes of them elsewhere.
//! ³ if the customer's VLAN is one of its cvlans. Only dot1q-tunnel ports take a frame that has a customer's VLAN below
//! its own, other than trunks; an access port doesn't.
//!
//! Of a frame's tags the outermost is looked at; on ports that are no access or dot1q-tunnel port the second, too, if the
//! bridge says so: that is then its customer's VLAN. What is below is payload. The ordinary case of one tag in and one
//! tag out is dealt with here, stacks of them in [`super::qinq`].

use super::qinq;
use super::state::{PriorityTags, VlanMode};
use super::verdict::DropReason;
use crate::packet::Frame;
use crate::types::VlanId;
use crate::wire::ethernet::ETHERTYPE;
use crate::wire::vlan::{CUSTOMER, TAG_LEN, Tag};

/// Bytes of all tags that a frame may get at one port.
pub const ROOM: usize = 2 * TAG_LEN;

/// The bits of a tag that are not the VLAN: priority and drop eligibility.
pub(super) const PRIORITY_BITS: u16 = 0xf000;

/// The VLAN of a frame inside the switch, and the tags that it came with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tagging {
    /// The VLAN that it is switched in.
    pub vlan: VlanId,
    /// Its outermost tag, still in its bytes.
    pub tag: Option<Tag>,
    /// What more there is.
    pub stack: Stack,
    /// Tags below those, which nobody looks at.
    pub below: u8,
}

/// What there is to a frame besides one VLAN and one tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stack {
    /// Nothing that is looked at.
    Plain,
    /// A second tag, still in its bytes.
    Second(Tag),
    /// The service VLAN that it was put in; what tag it has is its customer's. The TPID of the service tag.
    Service(u16),
}

impl Tagging {
    /// The tags that the frame came with, but for those [`Tagging::below`].
    #[must_use]
    pub fn on_wire(&self) -> [Option<Tag>; 2] {
        match self.stack {
            Stack::Second(second) => [self.tag, Some(second)],
            Stack::Plain | Stack::Service(_) => [self.tag, None],
        }
    }

    /// The customer's VLAN below the one that the frame is switched in; 0 if there is none.
    #[inline]
    #[must_use]
    pub fn customer(&self) -> VlanId {
        match self.stack {
            Stack::Plain => VlanId::UNTAGGED,
            Stack::Second(tag) => tag.vlan(),
            Stack::Service(_) => self.tag.map_or(VlanId::UNTAGGED, Tag::vlan),
        }
    }
}

/// The VLAN of a frame that came in with these tags; `None` when the mode does not allow it in.
#[inline]
#[must_use]
pub fn ingress(mode: &VlanMode, tag: Option<Tag>, second: Option<Tag>) -> Option<Tagging> {
    let tagged = tag.map_or(VlanId::UNTAGGED, Tag::vlan);
    let untagged = tagged == VlanId::UNTAGGED;
    let stack = second.map_or(Stack::Plain, Stack::Second);
    let (allowed, vlan, stack) = match mode {
        VlanMode::Access(own) => (untagged, *own, Stack::Plain),
        VlanMode::Trunk(trunks) => (trunks.carries(tagged), tagged, stack),
        VlanMode::NativeTagged(own, _) | VlanMode::NativeUntagged(own, _) if untagged => (true, *own, stack),
        VlanMode::NativeTagged(own, trunks) | VlanMode::NativeUntagged(own, trunks) => {
            (tagged == *own || trunks.carries(tagged), tagged, stack)
        }
        VlanMode::Dot1qTunnel(service) => {
            (service.customers.carries(tagged), service.vlan, Stack::Service(service.tpid))
        }
    };
    allowed.then_some(Tagging { vlan, tag, stack, below: 0 })
}

/// Whether frames of `vlan`, with this VLAN of a customer below it, go out by a port of this mode.
#[inline]
#[must_use]
pub fn carries(mode: &VlanMode, vlan: VlanId, customer: VlanId) -> bool {
    match mode {
        VlanMode::Access(own) => *own == vlan && customer == VlanId::UNTAGGED,
        VlanMode::Trunk(trunks) => trunks.carries(vlan),
        VlanMode::NativeTagged(own, trunks) | VlanMode::NativeUntagged(own, trunks) => {
            *own == vlan || (vlan != VlanId::UNTAGGED && trunks.carries(vlan))
        }
        VlanMode::Dot1qTunnel(service) => service.vlan == vlan && service.customers.carries(customer),
    }
}

/// Gives the frame, which has [`ROOM`] before it, the tag that it has on the wire behind a port of this mode.
#[inline]
pub fn egress(
    mode: &VlanMode,
    priority_tags: PriorityTags,
    frame: &mut Frame,
    tagging: Tagging,
) -> Result<(), DropReason> {
    let plain = tagging.stack == Stack::Plain && priority_tags == PriorityTags::Never;
    let done = if plain { one_tag(mode, frame, tagging) } else { qinq::egress(mode, priority_tags, frame, tagging) };
    if done { Ok(()) } else { Err(DropReason::Malformed) }
}

/// The tag that [`egress`] leaves a frame with; `None`: it is not known beforehand, or more than one tag is dealt with.
#[must_use]
pub fn leaves_with(mode: &VlanMode, priority_tags: PriorityTags, tagging: &Tagging) -> Option<Option<Tag>> {
    let Tagging { vlan, tag, stack, below } = *tagging;
    let plain = stack == Stack::Plain && below == 0 && priority_tags == PriorityTags::Never;
    let in_vlan = || tag.map_or(Tag { tpid: CUSTOMER, tci: vlan.get() }, |tag| tag.with_vlan(vlan));
    plain.then(|| is_tagged(mode, tagging).then(in_vlan))
}

/// Whether [`egress`] leaves a frame as it is, whatever is in it.
#[must_use]
pub fn leaves_as_it_came(mode: &VlanMode, priority_tags: PriorityTags, tagging: &Tagging) -> bool {
    leaves_with(mode, priority_tags, tagging) == Some(tagging.tag)
}

/// Whether a frame with one tag or none leaves with one.
#[inline]
fn is_tagged(mode: &VlanMode, &Tagging { vlan, tag, .. }: &Tagging) -> bool {
    let in_tag = || vlan != VlanId::UNTAGGED || tag.is_some_and(|tag| tag.priority() != 0);
    match mode {
        VlanMode::Access(_) | VlanMode::Dot1qTunnel(_) => false,
        VlanMode::NativeUntagged(own, _) if *own == vlan => false,
        VlanMode::Trunk(_) | VlanMode::NativeTagged(..) | VlanMode::NativeUntagged(..) => in_tag(),
    }
}

/// The same for a frame that leaves with one tag or with none.
#[inline]
fn one_tag(mode: &VlanMode, frame: &mut Frame, tagging: Tagging) -> bool {
    let (Tagging { vlan, tag, .. }, tagged) = (tagging, is_tagged(mode, &tagging));
    match tag {
        None if tagged => frame.push_vlan(CUSTOMER, vlan.get()),
        None => true,
        Some(_) if !tagged => frame.pop_vlan(),
        Some(tag) if tag.vlan() == vlan => true,
        Some(tag) => rewrite(frame, tag.with_vlan(vlan)),
    }
}

/// Overwrites the outermost tag's control information.
fn rewrite(frame: &mut Frame, tag: Tag) -> bool {
    let Some(field) = frame.bytes_mut().get_mut(ETHERTYPE + 2..ETHERTYPE + 4) else { return false };
    field.copy_from_slice(&tag.tci.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::super::state::{Service, Trunks};
    use super::*;
    use crate::wire::vlan::SERVICE;

    fn vlan(n: u16) -> VlanId {
        VlanId::new(n).unwrap()
    }

    fn only(vlans: &[u16]) -> Trunks {
        Trunks::Only(vlans.iter().map(|&v| vlan(v)).collect())
    }

    fn tunnel(customers: Trunks) -> VlanMode {
        VlanMode::Dot1qTunnel(Service { vlan: vlan(10), customers, tpid: SERVICE })
    }

    fn modes() -> [(&'static str, VlanMode); 9] {
        [
            ("access", VlanMode::Access(vlan(10))),
            ("access 0", VlanMode::Access(vlan(0))),
            ("trunk all", VlanMode::Trunk(Trunks::All)),
            ("trunk", VlanMode::Trunk(only(&[20, 30]))),
            ("native-tagged", VlanMode::NativeTagged(vlan(10), only(&[0, 20]))),
            ("native-untagged", VlanMode::NativeUntagged(vlan(10), only(&[20]))),
            ("native all", VlanMode::NativeUntagged(vlan(10), Trunks::All)),
            ("dot1q-tunnel", tunnel(Trunks::All)),
            ("dot1q-tunnel some", tunnel(only(&[20]))),
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
            [Some(10), Some(10), Some(10), Some(10), Some(10)],
            [None, None, None, Some(10), None],
        ];
        for ((name, mode), expected) in modes().into_iter().zip(expected) {
            let tags = [None, Some(0xe000), Some(10), Some(0x6014), Some(99)];
            let seen = tags.map(|t| {
                let tag = t.map(|tci| Tag { tpid: CUSTOMER, tci });
                ingress(&mode, tag, None).map(|tagging| tagging.vlan.get())
            });
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
            [false, true, false, false],
            [false, false, false, false],
        ];
        for ((name, mode), expected) in modes().into_iter().zip(expected) {
            assert_eq!([0, 10, 20, 99].map(|v| carries(&mode, vlan(v), vlan(0))), expected, "{name}");
        }
    }

    /// Which mode carries VLAN 10 with VLAN 0, 20 and 30 of a customer below.
    #[test]
    fn a_customers_vlan_keeps_a_frame_from_ports_that_do_not_take_it() {
        for (name, mode) in modes() {
            let expected = match name {
                "access" => [true, false, false],
                "access 0" | "trunk" => [false; 3],
                "dot1q-tunnel some" => [false, true, false],
                _ => [true; 3],
            };
            assert_eq!([0, 20, 30].map(|customer| carries(&mode, vlan(10), vlan(customer))), expected, "{name}");
        }
    }

    #[test]
    fn the_second_tag_is_the_customers_where_the_port_looks_at_it() {
        let customer = |vlan| Tag { tpid: CUSTOMER, tci: vlan };
        let service = Tag { tpid: SERVICE, tci: 10 };
        let seen = |mode: &VlanMode, tag, second| {
            let tagging = ingress(mode, Some(tag), second)?;
            Some((tagging.vlan.get(), tagging.customer().get()))
        };
        let trunk = VlanMode::Trunk(Trunks::All);
        assert_eq!(seen(&trunk, service, Some(customer(20))), Some((10, 20)));
        assert_eq!(seen(&trunk, service, None), Some((10, 0)));
        assert_eq!(seen(&tunnel(Trunks::All), customer(20), Some(customer(30))), Some((10, 20)));
        assert_eq!(seen(&VlanMode::Access(vlan(10)), customer(0), Some(customer(20))), Some((10, 0)));
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
        let tagging = Tagging { vlan: vlan(v), tag, stack: Stack::Plain, below: 0 };
        egress(mode, PriorityTags::Never, &mut frame, tagging).unwrap();
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
            let access = name.starts_with("access") || name.starts_with("dot1q-tunnel");
            let untagged = access || name.starts_with("native-u") || name == "native all";
            assert_eq!(leave(&mode, 10, None), customer(10).filter(|_| !untagged), "{name}: from an access port");
            assert_eq!(leave(&mode, 10, customer(0xe000)), customer(0xe00a).filter(|_| !untagged), "{name}: priority");
            assert_eq!(leave(&mode, 10, service), service.filter(|_| !untagged), "{name}: its own tag");
            assert_eq!(leave(&mode, 20, customer(0x3014)), customer(0x3014).filter(|_| !access), "{name}: other VLAN");
        }
        let trunk = VlanMode::Trunk(Trunks::All);
        assert_eq!(leave(&trunk, 0, None), None);
        assert_eq!(leave(&trunk, 0, customer(0xe000)), customer(0xe000), "a priority stays");
        assert_eq!(leave(&trunk, 0, customer(0x1000)), None, "a tag that says nothing goes");
        assert_eq!(leave(&VlanMode::Access(vlan(0)), 0, customer(0xe000)), None);
        assert_eq!(leave(&VlanMode::NativeUntagged(vlan(0), Trunks::All), 0, customer(0xe000)), None);
    }

    #[test]
    fn what_leaves_as_it_came_is_not_changed_and_nothing_else_is_left_alone() {
        let tags = [None, Some(10), Some(0xe00a), Some(0x3014), Some(0xe000), Some(0)];
        let stacks = [Stack::Plain, Stack::Service(SERVICE)];
        for (name, mode) in modes() {
            for (v, tci, stack) in combinations(&[0, 10, 20], &tags, &stacks) {
                let tag = tci.map(|tci| Tag { tpid: CUSTOMER, tci });
                let tagging = Tagging { vlan: vlan(v), tag, stack, below: 0 };
                let mut left = frame(tag);
                let before = left.bytes().to_vec();
                egress(&mode, PriorityTags::Never, &mut left, tagging).unwrap();
                let said = leaves_as_it_came(&mode, PriorityTags::Never, &tagging);
                let same = left.bytes() == before;
                assert!(if stack == Stack::Plain { said == same } else { !said }, "{name}: {tagging:?}");
                assert!(!leaves_as_it_came(&mode, PriorityTags::Always, &tagging), "that depends on more");
            }
        }
    }

    /// Each of these with each of those.
    fn combinations<A: Copy, B: Copy, C: Copy>(a: &[A], b: &[B], c: &[C]) -> Vec<(A, B, C)> {
        let pairs = a.iter().flat_map(|&a| b.iter().map(move |&b| (a, b)));
        pairs.flat_map(|(a, b)| c.iter().map(move |&c| (a, b, c))).collect()
    }

    #[test]
    fn a_frame_too_short_for_a_tag_gets_none() {
        for stack in [Stack::Plain, Stack::Service(SERVICE)] {
            let tagging = Tagging { vlan: vlan(10), tag: None, stack, below: 0 };
            let mut short = Frame::from_bytes(&UNTAGGED[..13]);
            let done = egress(&VlanMode::Trunk(Trunks::All), PriorityTags::Never, &mut short, tagging);
            assert_eq!(done, Err(DropReason::Malformed));
        }
    }
}
