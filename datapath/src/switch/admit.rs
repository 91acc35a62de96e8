//! Whether a frame may come in by a port at all, and in which VLAN.

use super::state::{Bridge, Port};
use super::verdict::DropReason;
use super::vlan::{self, Tagging};
use crate::types::MacAddr;
use crate::wire::parse::Headers;

/// The VLAN to switch the frame in, or why it goes no further. What is refused here is not learned from.
#[inline]
pub fn admit(bridge: &Bridge, port: &Port, headers: &Headers) -> Result<Tagging, DropReason> {
    if !port.up {
        return Err(DropReason::PortDown);
    }
    if port.mirrors.output {
        return Err(DropReason::MirrorOutput);
    }
    if bridge.secure {
        return Err(DropReason::BridgeSecure);
    }
    if headers.src.is_group() || headers.src == MacAddr::ZERO {
        return Err(DropReason::SourceGroup);
    }
    let Some(vlan) = vlan::ingress(&port.vlan, headers.vlan) else { return Err(DropReason::VlanNotAllowed) };
    if headers.dst.is_reserved_group() {
        return Err(DropReason::ReservedGroup);
    }
    Ok(Tagging { vlan, tag: headers.vlan })
}
