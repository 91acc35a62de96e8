//! What became of a frame: the closed list of reasons for a drop.
//!
//! Every frame that is not forwarded is counted under exactly one reason. The names are read by people as
//! `drop_<reason>` in `Interface:statistics`, so they are part of the interface and never change meaning.

macro_rules! drop_reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal: $text:literal,)*) => {
        /// Why a frame was dropped. A closed list: adding one is a change of interface.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum DropReason {
            $(#[doc = $text] $variant,)*
        }

        impl DropReason {
            /// Every reason, in the order of their counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The name in `drop_<name>`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// One sentence for people.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

drop_reasons! {
    Malformed = "malformed": "The frame is too short or its headers contradict each other.",
    SourceGroup = "source_group": "The source address is a group address (or all zeros), which no sender may use.",
    ReservedGroup = "reserved_group": "A reserved group address (01:80:c2:00:00:0X), which a bridge must not forward.",
    VlanNotAllowed = "vlan_not_allowed": "The VLAN is not carried by the port.",
    Protected = "protected": "The frame came from a protected port and its destination is behind another one.",
    Hairpin = "hairpin": "The destination is behind the port that the frame came from.",
    NoOutput = "no_output": "No other port of the bridge carries the frame's VLAN.",
    BridgeSecure = "bridge_secure": "The bridge has fail_mode=secure and no controller: it forwards nothing.",
    PortDown = "port_down": "The port is down or its device is gone.",
    MirrorOutput = "mirror_output": "The port is the output of a mirror, which carries nothing but copies.",
    MirrorOverload = "mirror_overload": "A copy for a mirror, too many of which were waiting to be sent.",
    HopLimit = "hop_limit": "It went through too many patch ports: bridges are joined in a loop.",
    NoRoute = "no_route": "It is for the bridge's own address and neither its port nor a route of a layer-3 tunnel leads on.",
    NotRouted = "not_routed": "A layer-3 tunnel carries nothing but untagged IPv4 packets that a route leads to it.",
    TtlExpired = "ttl_expired": "Its time to live ended where it went into a layer-3 tunnel or came out of one.",
    ArpTaken = "arp_taken": "A request of ARP that the switch has answered, or an answer to its own.",
    ArpTimeout = "arp_timeout": "It came out of a layer-3 tunnel and nobody has answered to its destination's address.",
    ArpQueueFull = "arp_queue_full": "The same, and too many were waiting for an answer.",
    UnknownVni = "unknown_vni": "A tunnel packet whose VNI (of GRE: key; IP in IP has none) and sender belong to no port.",
    TunnelMalformed = "tunnel_malformed": "A tunnel packet with bad flags or too short for its headers.",
    TunnelPayload = "tunnel_payload": "A tunnel packet that carries something else than a frame, or of IP in IP an IPv4 packet to one host.",
    TunnelOption = "tunnel_option": "A tunnel packet with an option that must be understood and is not.",
    TunnelChecksum = "tunnel_checksum": "A tunnel packet whose own checksum is wrong.",
    TunnelEcn = "tunnel_ecn": "It met congestion on the way through a tunnel and is of a flow that cannot be told (RFC 6040).",
    Probe = "probe": "A probe of a tunnel ('vsctl doctor'): taken note of or answered, and not forwarded.",
    MtuExceeded = "mtu_exceeded": "It is larger than the way out of the port carries, and its sender could not be told.",
    MtuTold = "mtu_told": "It is larger than the way out of the port carries, and its sender was told what fits.",
    MtuUntold = "mtu_untold": "It is larger than the way out carries; too many behind its port were told in that second.",
    Unsegmentable = "unsegmentable": "A super-frame whose headers do not allow segmentation.",
    IngressRate = "ingress_rate": "It came in faster than the interface's ingress_policing columns allow.",
    EgressRate = "egress_rate": "It was to leave faster than the port's QoS allows.",
    RxOverflow = "rx_overflow": "The kernel dropped it because the switch did not read in time.",
    RxUnsupported = "rx_unsupported": "The kernel delivered a kind of frame that the switch does not take.",
    TxQueueFull = "tx_queue_full": "The device's queue was full.",
    TxTooBig = "tx_too_big": "The device refused it as larger than its MTU.",
    TxNoRoute = "tx_no_route": "No route or neighbour to the tunnel's remote end.",
    TxError = "tx_error": "The device refused it.",
}

impl From<crate::wire::Malformed> for DropReason {
    fn from(crate::wire::Malformed: crate::wire::Malformed) -> Self {
        Self::Malformed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn reasons_are_numbered_in_order_and_named_once() {
        let names: HashSet<_> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(names.len(), DropReason::COUNT);
        for (i, r) in DropReason::ALL.iter().enumerate() {
            assert_eq!(*r as usize, i);
            assert!(r.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", r.name());
            assert!(r.text().ends_with('.'), "{}", r.text());
        }
    }
}
