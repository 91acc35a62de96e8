//! A set of VLANs: one bit for each of the 4,096, none at all while it is empty.

use crate::types::VlanId;

const WORDS: usize = 4096 / 64;

/// Some of the 4,096 VLANs. Asking it costs the same however many there are.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct VlanSet(Option<Box<[u64; WORDS]>>);

impl VlanSet {
    /// Whether `vlan` is one of them.
    #[inline]
    #[must_use]
    pub fn contains(&self, vlan: VlanId) -> bool {
        let (word, bit) = place(vlan);
        self.0.as_ref().is_some_and(|words| words[word] & bit != 0)
    }

    /// Whether there is none.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Adds one.
    pub fn insert(&mut self, vlan: VlanId) {
        let (word, bit) = place(vlan);
        self.0.get_or_insert_with(|| Box::new([0; WORDS]))[word] |= bit;
    }

    /// All of them, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = VlanId> {
        (0..4096).filter_map(VlanId::new).filter(|&vlan| self.contains(vlan))
    }
}

/// The word that a VLAN's bit is in, and the bit.
#[inline]
const fn place(vlan: VlanId) -> (usize, u64) {
    ((vlan.get() / 64) as usize % WORDS, 1 << (vlan.get() % 64))
}

impl Extend<VlanId> for VlanSet {
    fn extend<I: IntoIterator<Item = VlanId>>(&mut self, vlans: I) {
        vlans.into_iter().for_each(|vlan| self.insert(vlan));
    }
}

impl FromIterator<VlanId> for VlanSet {
    fn from_iter<I: IntoIterator<Item = VlanId>>(vlans: I) -> Self {
        let mut set = Self::default();
        set.extend(vlans);
        set
    }
}

impl std::fmt::Debug for VlanSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.iter().map(VlanId::get)).finish()
    }
}

impl std::fmt::Display for VlanSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let vlans: Vec<_> = self.iter().map(|vlan| vlan.to_string()).collect();
        f.write_str(&vlans.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_vlan_has_a_bit_of_its_own() {
        let all = || (0..4096).filter_map(VlanId::new);
        for vlan in all() {
            assert_eq!(VlanSet::from_iter([vlan]).iter().collect::<Vec<_>>(), [vlan]);
        }
        assert_eq!(all().collect::<VlanSet>().iter().count(), 4096);
    }

    #[test]
    fn an_empty_set_is_the_default_and_text_is_in_order() {
        let ids = |ids: &[u16]| ids.iter().filter_map(|&id| VlanId::new(id)).collect::<VlanSet>();
        assert_eq!(ids(&[]), VlanSet::default());
        assert!(ids(&[]).is_empty() && !ids(&[0]).is_empty());
        assert_eq!(ids(&[4095, 20, 0, 20]).to_string(), "0,20,4095");
        assert_eq!(format!("{:?}", ids(&[63, 64])), "{63, 64}");
    }
}
