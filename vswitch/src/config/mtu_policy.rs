//! What becomes of packets that are larger than a port carries, as people write it. Pure.

use datapath::control::MtuPolicy as Enforced;

/// A bridge's `other_config:mtu-policy`, which a tunnel's `options:mtu-policy` overrides.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum MtuPolicy {
    /// TCP is cut, IPv4 fragmented where it may be, and the sender told otherwise.
    #[default]
    Fit,
    /// The same, but senders of TCP are told, too.
    Icmp,
    /// They are dropped.
    Drop,
    /// As `fit`, and a configuration in which a port does not fit a tunnel is refused.
    Strict,
}

impl MtuPolicy {
    /// The words that there are.
    pub const WORDS: &str = "fit, icmp, drop or strict";

    /// The policy of this name.
    #[must_use]
    pub fn of(word: &str) -> Option<Self> {
        Some(match word {
            "fit" => Self::Fit,
            "icmp" => Self::Icmp,
            "drop" => Self::Drop,
            "strict" => Self::Strict,
            _ => return None,
        })
    }

    /// What the datapath does.
    #[must_use]
    pub const fn enforced(self) -> Enforced {
        match self {
            Self::Fit | Self::Strict => Enforced::Fit,
            Self::Icmp => Enforced::Icmp,
            Self::Drop => Enforced::Drop,
        }
    }
}
