//! Frames that have a tag below the one of their VLAN, or leave by a port with rules for priority tags: which tags are on
//! the wire behind a port. See [`super::vlan`] for the modes; ordinary frames never come here.
//!
//! As in Open vSwitch, a frame inside the switch has up to two tags. A port takes off what its mode says; a port with
//! rules for priority tags gives the outermost of what is left the priority that the frame came with. A tag that then
//! has neither VLAN nor priority is left out, with all below it, unless the port keeps such tags.

use super::state::{PriorityTags, VlanMode};
use super::vlan::{PRIORITY_BITS, Stack, Tagging};
use crate::packet::Frame;
use crate::types::VlanId;
use crate::wire::vlan::{CUSTOMER, Tag};

/// Up to two tags, the outermost first.
type Tags = [Option<Tag>; 2];

/// Gives the frame the tags that it has on the wire behind a port of this mode. `false` if there was no room for one.
pub(super) fn egress(mode: &VlanMode, priority_tags: PriorityTags, frame: &mut Frame, tagging: Tagging) -> bool {
    let mut wanted = match mode {
        VlanMode::Access(_) => [None, None],
        VlanMode::NativeUntagged(own, _) if *own == tagging.vlan => [inside(tagging)[1], None],
        VlanMode::Dot1qTunnel(_) => [inside(tagging)[1], None],
        VlanMode::Trunk(_) | VlanMode::NativeTagged(..) | VlanMode::NativeUntagged(..) => inside(tagging),
    };
    if priority_tags != PriorityTags::Never {
        wanted[0] = prioritised(wanted[0], tagging.tag);
    }
    replace(frame, tagging.on_wire(), without_empty(wanted, priority_tags))
}

/// The tags of the frame inside the switch: that of its VLAN, and the one below.
fn inside(tagging: Tagging) -> Tags {
    let Tagging { vlan, tag, stack, .. } = tagging;
    let new = |tpid| Tag { tpid, tci: vlan.get() };
    let own = || match tag {
        Some(tag) => Some(tag.with_vlan(vlan)),
        None => (vlan != VlanId::UNTAGGED).then(|| new(CUSTOMER)),
    };
    match stack {
        Stack::Plain => [own(), None],
        Stack::Second(second) => [own(), Some(second)],
        Stack::Service(tpid) => [Some(new(tpid)), tag],
    }
}

/// The outermost tag with the priority of the one that the frame came with; for the sake of that priority one is made.
fn prioritised(outermost: Option<Tag>, came_with: Option<Tag>) -> Option<Tag> {
    let bits = came_with.map_or(0, |tag| tag.tci & PRIORITY_BITS);
    match (outermost, came_with) {
        (Some(tag), _) => Some(Tag { tci: tag.tci & !PRIORITY_BITS | bits, ..tag }),
        (None, Some(came)) if came.priority() != 0 => Some(Tag { tpid: CUSTOMER, tci: bits }),
        (None, _) => None,
    }
}

/// Leaves out a tag that says nothing, and what is below it.
fn without_empty(tags: Tags, priority_tags: PriorityTags) -> Tags {
    let says = |tag: &Tag| tag.vlan() != VlanId::UNTAGGED || tag.priority() != 0;
    let stays = |tag: &Tag| priority_tags == PriorityTags::Always || says(tag);
    let outermost = tags[0].filter(stays);
    [outermost, tags[1].filter(stays).filter(|_| outermost.is_some())]
}

/// Takes off the tags that are there and puts on those that are wanted, but for what they have in common at the inside.
fn replace(frame: &mut Frame, there: Tags, wanted: Tags) -> bool {
    let mut there = there.iter().flatten().rev().peekable();
    let mut wanted = wanted.iter().flatten().rev().peekable();
    while there.peek().is_some() && there.peek() == wanted.peek() {
        there.next();
        wanted.next();
    }
    there.all(|_| frame.pop_vlan()) && wanted.all(|tag| frame.push_vlan(tag.tpid, tag.tci))
}

#[cfg(test)]
mod tests {
    use super::super::state::{Service, Trunks};
    use super::super::vlan::ingress;
    use super::*;
    use crate::wire::vlan::SERVICE;

    fn vlan(n: u16) -> VlanId {
        VlanId::new(n).unwrap()
    }

    const ADDRESSES: [u8; 12] = [2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1];
    const PAYLOAD: [u8; 4] = [0x88, 0xb5, 7, 7];

    fn bytes(tags: &[(u16, u16)]) -> Vec<u8> {
        let tags = tags.iter().flat_map(|(tpid, tci)| [tpid.to_be_bytes(), tci.to_be_bytes()]).flatten();
        ADDRESSES.into_iter().chain(tags).chain(PAYLOAD).collect()
    }

    /// What leaves by a port of the mode `to`, of a frame with these tags that came in by one of the mode `from`.
    fn walk(from: &VlanMode, to: &VlanMode, priority_tags: PriorityTags, tags: &[(u16, u16)]) -> Vec<u8> {
        let mut frame = Frame::from_bytes(&bytes(tags));
        let headers = crate::wire::parse::parse(frame.bytes()).unwrap();
        let tagging = ingress(from, headers.vlan, headers.second_vlan).unwrap();
        assert!(egress(to, priority_tags, &mut frame, tagging));
        frame.bytes().to_vec()
    }

    fn tunnel() -> VlanMode {
        VlanMode::Dot1qTunnel(Service { vlan: vlan(10), customers: Trunks::All, tpid: SERVICE })
    }

    fn trunk() -> VlanMode {
        VlanMode::Trunk(Trunks::All)
    }

    #[test]
    fn a_customers_frame_is_wrapped_and_unwrapped() {
        let never = PriorityTags::Never;
        for customer in [&[][..], &[(CUSTOMER, 0x6014)], &[(SERVICE, 20), (CUSTOMER, 30)]] {
            let wrapped = [&[(SERVICE, 10)], customer].concat();
            assert_eq!(walk(&tunnel(), &trunk(), never, customer), bytes(&wrapped));
            assert_eq!(walk(&trunk(), &tunnel(), never, &wrapped), bytes(customer));
            assert_eq!(walk(&tunnel(), &tunnel(), never, customer), bytes(customer));
            let native = VlanMode::NativeUntagged(vlan(10), Trunks::All);
            assert_eq!(walk(&tunnel(), &native, never, customer), bytes(customer));
        }
        assert_eq!(walk(&tunnel(), &VlanMode::Access(vlan(10)), never, &[(CUSTOMER, 0xa000)]), bytes(&[]));
    }

    #[test]
    fn a_tag_that_says_nothing_goes_with_all_below_it_unless_it_is_to_stay() {
        let empty = [(CUSTOMER, 0), (CUSTOMER, 20)];
        assert_eq!(walk(&trunk(), &trunk(), PriorityTags::Never, &empty), bytes(&[]));
        assert_eq!(walk(&trunk(), &trunk(), PriorityTags::Always, &empty), bytes(&empty));
        let below = [(CUSTOMER, 20), (CUSTOMER, 0)];
        assert_eq!(walk(&trunk(), &trunk(), PriorityTags::IfNonzero, &below), bytes(&below[..1]));
        assert_eq!(walk(&trunk(), &trunk(), PriorityTags::Always, &below), bytes(&below));
    }

    #[test]
    fn the_outermost_tag_has_the_priority_that_the_frame_came_with() {
        let access = VlanMode::Access(vlan(10));
        for rule in [PriorityTags::IfNonzero, PriorityTags::Always] {
            assert_eq!(walk(&trunk(), &access, rule, &[(SERVICE, 0xb00a)]), bytes(&[(CUSTOMER, 0xb000)]));
            assert_eq!(walk(&trunk(), &access, rule, &[(CUSTOMER, 10)]), bytes(&[]));
            assert_eq!(walk(&access, &access, rule, &[]), bytes(&[]));
            let wrapped = bytes(&[(SERVICE, 0x600a), (CUSTOMER, 0x6014)]);
            assert_eq!(walk(&tunnel(), &trunk(), rule, &[(CUSTOMER, 0x6014)]), wrapped);
        }
    }

    #[test]
    fn checksum_and_segmentation_offsets_move_with_the_tags() {
        let mut frame = Frame::from_bytes(&[0; 80]);
        frame.meta.csum = crate::packet::ChecksumState::Partial { start: 34, offset: 16 };
        let tagging = ingress(&tunnel(), None, None).unwrap();
        assert!(egress(&trunk(), PriorityTags::Never, &mut frame, tagging));
        assert_eq!(frame.meta.csum, crate::packet::ChecksumState::Partial { start: 38, offset: 16 });
    }
}
