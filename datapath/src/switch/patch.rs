//! Patch ports: what leaves by one is received at its peer, on another bridge most often.
//!
//! Nothing recurses: a frame that has left waits in a worklist until the walk receives it, so a chain of bridges costs a
//! turn each and no stack. The VLAN rules of both ends apply, and both count the frame: as sent here, as received there.
//!
//! Bridges that are joined in a loop would pass a frame round for ever, and where the loop branches, in ever more copies.
//! So each copy has a limit of hops, and one received frame a limit for all its copies; what is beyond is dropped where it
//! would have been received, as [`super::verdict::DropReason::HopLimit`].

use super::state::Port;
use crate::packet::Frame;
use crate::types::{Place, PortId};

/// Patch ports that a frame may leave by, one after the other.
pub const MAX_HOPS: u8 = 32;
/// Patch ports that all copies of one received frame may leave by, taken together: enough to flood to as many bridges.
pub const MAX_CROSSINGS: u32 = 4096;

/// Takes a frame that leaves by `port` towards its peer.
#[inline]
pub fn cross(port: &Port, peer: PortId, mut frame: Frame, crossing: &mut Vec<Frame>) {
    port.counters.tx_packets.add(1);
    port.counters.tx_bytes.add(frame.len() as u64);
    frame.meta.ingress = Place::of(peer);
    frame.meta.hops = frame.meta.hops.saturating_add(1);
    crossing.push(frame);
}

/// Takes all hops from a frame that is one of too many.
#[inline]
pub fn ration(frame: &mut Frame, crossings: u32) {
    if crossings > MAX_CROSSINGS {
        frame.meta.hops = u8::MAX;
    }
}
