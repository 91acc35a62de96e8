//! How large a packet a bridge's tunnels take from each of its ports. Pure.
//!
//! Asked by VLAN, so that a thousand ports and a thousand tunnels are no million of pairs.

use crate::reconcile::loops::leaves_tagged;
use datapath::switch::state::{Trunks, VlanMode};
use datapath::types::VlanId;
use datapath::wire::vlan::TAG_LEN;
use std::collections::HashMap;

/// What the narrowest of some tunnels takes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Limit<'a> {
    /// The largest layer-3 packet, in bytes.
    pub mtu: u32,
    /// The tunnel.
    pub tunnel: &'a str,
    /// Its bridge.
    pub bridge: &'a str,
    /// Whether a VLAN tag that the frames carry in the tunnel is accounted for.
    pub tagged: bool,
    /// What becomes of larger ones, in words.
    pub happens: &'a str,
}

/// A tunnel among others.
#[derive(Clone, Copy, Debug)]
pub struct Way<'a> {
    /// The tunnel.
    pub tunnel: &'a str,
    /// Its bridge.
    pub bridge: &'a str,
    /// Its mode.
    pub mode: &'a VlanMode,
    /// Its MTU.
    pub mtu: u32,
    /// What becomes of packets that are larger, in words.
    pub happens: &'a str,
}

/// The narrowest tunnel of a bridge, and of those that patch ports join to it, for every VLAN.
#[derive(Default, Debug)]
pub struct Limits<'a> {
    least: Option<Limit<'a>>,
    /// Of the trunks of all VLANs.
    trunks: Option<Limit<'a>>,
    /// Of all others: for untagged packets of ports that belong to the VLAN, and without regard to tags.
    by_vlan: HashMap<VlanId, [Limit<'a>; 2]>,
}

impl<'a> Limits<'a> {
    /// Of these tunnels.
    pub fn of(tunnels: impl IntoIterator<Item = Way<'a>>) -> Self {
        let mut limits = Self::default();
        for Way { tunnel, bridge, mode, mtu, happens } in tunnels {
            let limit = Limit { mtu, tunnel, bridge, tagged: false, happens };
            lower(&mut limits.least, limit);
            match trunks(mode) {
                Some(Trunks::All) if matches!(mode, VlanMode::Trunk(_)) => lower(&mut limits.trunks, limit),
                Some(Trunks::All) => (1..4096).filter_map(VlanId::new).for_each(|vlan| limits.add(vlan, mode, limit)),
                Some(Trunks::Only(set)) => set.iter().for_each(|vlan| limits.add(vlan, mode, limit)),
                None => {}
            }
            if !matches!(mode, VlanMode::Trunk(_)) {
                limits.add(native(mode), mode, limit);
            }
        }
        limits
    }

    fn add(&mut self, vlan: VlanId, mode: &VlanMode, limit: Limit<'a>) {
        let new = [with_tag(limit, leaves_tagged(mode, vlan)), limit];
        let old = self.by_vlan.entry(vlan).or_insert(new);
        *old = [old[0].min(new[0]), old[1].min(new[1])];
    }

    /// What goes through all tunnels, without a tag.
    #[must_use]
    pub fn least(&self) -> Option<Limit<'a>> {
        self.least
    }

    /// What goes through all tunnels that a port of this mode reaches. Its untagged packets count with the tag that they
    /// get there; those that it sends tagged, if any, count without.
    #[must_use]
    pub fn of_port(&self, mode: &VlanMode) -> Option<Limit<'a>> {
        let untagged = native(mode);
        let trunk = self.trunks.map(|limit| with_tag(limit, untagged != VlanId::UNTAGGED));
        let own = self.by_vlan.get(&untagged).map(|[limit, _]| *limit);
        let plain = |vlan| self.by_vlan.get(&vlan).map(|[_, limit]| *limit);
        let tagged = match trunks(mode) {
            None => None,
            Some(Trunks::All) => self.least,
            Some(Trunks::Only(set)) => set.iter().filter_map(plain).min(),
        };
        [trunk, own, tagged].into_iter().flatten().min()
    }
}

fn lower<'a>(least: &mut Option<Limit<'a>>, limit: Limit<'a>) {
    *least = Some(least.map_or(limit, |old| old.min(limit)));
}

fn with_tag(limit: Limit<'_>, tagged: bool) -> Limit<'_> {
    let tag = if tagged { u32::try_from(TAG_LEN).unwrap_or_default() } else { 0 };
    Limit { mtu: limit.mtu.saturating_sub(tag), tagged, ..limit }
}

/// The VLAN of a port's untagged packets.
fn native(mode: &VlanMode) -> VlanId {
    match mode {
        VlanMode::Access(own) | VlanMode::NativeTagged(own, _) | VlanMode::NativeUntagged(own, _) => *own,
        VlanMode::Dot1qTunnel(service) => service.vlan,
        VlanMode::Trunk(_) => VlanId::UNTAGGED,
    }
}

/// The VLANs of a port's tagged packets.
fn trunks(mode: &VlanMode) -> Option<&Trunks> {
    match mode {
        VlanMode::Access(_) | VlanMode::Dot1qTunnel(_) => None,
        VlanMode::Trunk(trunks) | VlanMode::NativeTagged(_, trunks) | VlanMode::NativeUntagged(_, trunks) => {
            Some(trunks)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vlan(id: u16) -> VlanId {
        VlanId::new(id).unwrap()
    }

    fn limits<'a>(tunnels: &[(&'a str, &'a VlanMode, u32)]) -> Limits<'a> {
        Limits::of(tunnels.iter().map(|&(tunnel, mode, mtu)| Way { tunnel, bridge: "br0", mode, mtu, happens: "" }))
    }

    fn only(ids: &[u16]) -> Trunks {
        Trunks::Only(ids.iter().map(|id| vlan(*id)).collect())
    }

    #[test]
    fn by_the_vlans_that_port_and_tunnel_share() {
        use VlanMode::{Access, NativeTagged, NativeUntagged, Trunk};
        let all = || Trunk(Trunks::All);
        for (port, tunnel, expected) in [
            (all(), all(), Some(1450)),
            (Access(vlan(0)), all(), Some(1450)),
            // The tag stays on in the tunnel.
            (Access(vlan(5)), all(), Some(1446)),
            (Access(vlan(5)), Trunk(only(&[5, 6])), Some(1446)),
            (Access(vlan(5)), NativeTagged(vlan(5), only(&[])), Some(1446)),
            (Access(vlan(5)), NativeUntagged(vlan(5), only(&[6])), Some(1450)),
            (NativeUntagged(vlan(5), Trunks::All), all(), Some(1446)),
            (Access(vlan(5)), NativeUntagged(vlan(5), Trunks::All), Some(1450)),
            (Access(vlan(6)), NativeUntagged(vlan(5), Trunks::All), Some(1446)),
            (Access(vlan(5)), Access(vlan(5)), Some(1450)),
            (all(), Access(vlan(5)), Some(1450)),
            (Trunk(only(&[4, 6])), Trunk(only(&[6, 7])), Some(1450)),
            // Kept apart.
            (Access(vlan(5)), Access(vlan(6)), None),
            (Access(vlan(5)), Trunk(only(&[6, 7])), None),
            (Trunk(only(&[4, 5])), Trunk(only(&[6, 7])), None),
        ] {
            let all = limits(&[("vx0", &tunnel, 1450)]);
            assert_eq!(all.of_port(&port).map(|l| l.mtu), expected, "{port:?} and {tunnel:?}");
            assert_eq!(all.least().map(|l| l.mtu), Some(1450));
        }
    }

    #[test]
    fn the_narrowest_of_several() {
        let modes = [VlanMode::Access(vlan(5)), VlanMode::Access(vlan(6)), VlanMode::Trunk(Trunks::All)];
        let all = limits(&[("a", &modes[0], 1400), ("b", &modes[1], 1300), ("c", &modes[2], 1450)]);
        let of = |mode: &VlanMode| all.of_port(mode).map(|l| (l.mtu, l.tunnel, l.tagged)).unwrap();
        assert_eq!(of(&modes[0]), (1400, "a", false));
        assert_eq!(of(&VlanMode::Access(vlan(7))), (1446, "c", true));
        assert_eq!(of(&modes[2]), (1300, "b", false));
        assert_eq!(all.least().unwrap().tunnel, "b");
        assert_eq!(Limits::default().of_port(&modes[2]), None);
    }
}
