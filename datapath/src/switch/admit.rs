//! Whether a frame may come in by a port at all, and in which VLAN.

use super::state::{Bridge, Port};
use super::verdict::DropReason;
use super::vlan::{self, Stack, Tagging};
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
    let tagging = tagging(bridge, port, headers).ok_or(DropReason::VlanNotAllowed)?;
    if headers.dst.is_reserved_group() {
        return Err(DropReason::ReservedGroup);
    }
    Ok(tagging)
}

/// The VLAN that the frame comes in by the port in, if it may.
#[inline]
pub fn tagging(bridge: &Bridge, port: &Port, headers: &Headers) -> Option<Tagging> {
    let second = headers.second_vlan.filter(|_| bridge.vlans.two_tags);
    let tagging = vlan::ingress(&port.vlan, headers.vlan, second)?;
    let looked_at = u8::from(matches!(tagging.stack, Stack::Second(_)));
    Some(Tagging { below: headers.inner_vlans - looked_at, ..tagging })
}
