//! VLAN tags (IEEE 802.1Q §9): a tag protocol identifier and 16 bits of tag control information.

use crate::types::VlanId;

/// Bytes that a tag adds to a frame.
pub const TAG_LEN: usize = 4;
/// TPID of a customer tag, the usual one.
pub const CUSTOMER: u16 = 0x8100;
/// TPID of a service tag (802.1ad, QinQ).
pub const SERVICE: u16 = 0x88a8;

/// One tag.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tag {
    /// [`CUSTOMER`] or [`SERVICE`].
    pub tpid: u16,
    /// Priority (3 bits), drop eligible (1), VLAN identifier (12).
    pub tci: u16,
}

impl Tag {
    /// The VLAN; 0 on a tag that carries only a priority.
    #[must_use]
    pub const fn vlan(self) -> VlanId {
        VlanId::of_tci(self.tci)
    }

    /// The same tag with another VLAN.
    #[must_use]
    pub const fn with_vlan(self, vlan: VlanId) -> Self {
        Self { tci: self.tci & !0x0fff | vlan.get(), ..self }
    }

    /// The priority, 0 to 7.
    #[must_use]
    pub const fn priority(self) -> u8 {
        (self.tci >> 13) as u8
    }
}

/// Whether an Ethernet type announces a tag.
#[inline]
#[must_use]
pub const fn is_tpid(ethertype: u16) -> bool {
    matches!(ethertype, CUSTOMER | SERVICE)
}
