//! How fast a device says it is and what it does to frames: link modes and features over ethtool's generic netlink
//! (linux/ethtool_netlink.h; Linux 5.6, features 5.7).
//!
//! Not from /sys, which shows the network namespace that it was mounted in, not the daemon's. The kernel answers before
//! the system call that asks returns, so nothing here ever waits.

use rtnetlink::packet_core::{NetlinkBuffer, NlasIterator};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};
use std::io;
use tracing::debug;

// linux/genetlink.h
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
// linux/ethtool_netlink.h
const ETHTOOL_MSG_LINKMODES_GET: u8 = 4;
const ETHTOOL_A_LINKMODES_HEADER: u16 = 1;
const ETHTOOL_A_LINKMODES_SPEED: u16 = 5;
const ETHTOOL_A_LINKMODES_DUPLEX: u16 = 6;
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BITS_BIT: u16 = 1;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_HEADER_FLAGS: u16 = 3;
const ETHTOOL_FLAG_COMPACT_BITSETS: u32 = 1;
// linux/ethtool.h
const SPEED_UNKNOWN: u32 = u32::MAX;
const DUPLEX_HALF: u8 = 0;
const DUPLEX_FULL: u8 = 1;
// linux/netlink.h
const NLM_F_REQUEST: u16 = 1;
const NLA_F_NESTED: u16 = 1 << 15;
/// `struct genlmsghdr`.
const GENL_HEADER: usize = 4;

/// What a device says of its link; `None` where it says nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkMode {
    /// Bits a second.
    pub speed: Option<u64>,
    /// Whether both directions work at once.
    pub full_duplex: Option<bool>,
}

/// A socket to ask by, of the network namespace that it was made in.
pub struct Ethtool {
    socket: Socket,
    family: u16,
    sequence: u32,
}

impl Ethtool {
    /// Finds the kernel's ethtool.
    pub fn open() -> io::Result<Ethtool> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_non_blocking(true)?;
        let mut ethtool = Ethtool { socket, family: GENL_ID_CTRL, sequence: 0 };
        let reply = ethtool.ask(CTRL_CMD_GETFAMILY, &attribute(CTRL_ATTR_FAMILY_NAME, b"ethtool\0"))?;
        ethtool.family = family(&reply).ok_or_else(|| io::Error::other("the kernel has no ethtool netlink"))?;
        Ok(ethtool)
    }

    /// The link mode of a device; nothing if it has none.
    pub fn link_mode(&mut self, ifindex: u32) -> LinkMode {
        let device = attribute(ETHTOOL_A_HEADER_DEV_INDEX, &ifindex.to_ne_bytes());
        let flags = attribute(ETHTOOL_A_HEADER_FLAGS, &ETHTOOL_FLAG_COMPACT_BITSETS.to_ne_bytes());
        let header = attribute(ETHTOOL_A_LINKMODES_HEADER | NLA_F_NESTED, &[device, flags].concat());
        match self.ask(ETHTOOL_MSG_LINKMODES_GET, &header) {
            Ok(reply) => link_mode(&reply),
            Err(e) => {
                debug!("device {ifindex}: no link mode: {e}");
                LinkMode::default()
            }
        }
    }

    /// The names of the features that a device has on, as `ethtool -k` calls their bits; none if it does not tell.
    pub fn features(&mut self, ifindex: u32) -> Vec<String> {
        let device = attribute(ETHTOOL_A_HEADER_DEV_INDEX, &ifindex.to_ne_bytes());
        // Without the flag for compact bitsets, what is on is listed by name.
        let header = attribute(ETHTOOL_A_FEATURES_HEADER | NLA_F_NESTED, &device);
        match self.ask(ETHTOOL_MSG_FEATURES_GET, &header) {
            Ok(reply) => features(&reply),
            Err(e) => {
                debug!("device {ifindex}: no features: {e}");
                Vec::new()
            }
        }
    }

    /// The attributes of the answer to a request.
    fn ask(&mut self, command: u8, attributes: &[u8]) -> io::Result<Vec<u8>> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&request(self.family, command, self.sequence, attributes), 0)?;
        let mut buffer = Vec::with_capacity(16 << 10);
        loop {
            buffer.clear();
            self.socket.recv(&mut buffer, 0)?;
            let message = NetlinkBuffer::new_checked(&buffer[..]).map_err(io::Error::other)?;
            // An answer that was given up on may still be there.
            if message.sequence_number() == self.sequence {
                return answer(self.family, &message);
            }
        }
    }
}

fn answer(family: u16, message: &NetlinkBuffer<&[u8]>) -> io::Result<Vec<u8>> {
    const NLMSG_ERROR: u16 = 2;
    let payload = message.payload();
    if message.message_type() == NLMSG_ERROR {
        let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
    }
    match payload.get(GENL_HEADER..) {
        Some(attributes) if message.message_type() == family => Ok(attributes.to_vec()),
        _ => Err(io::Error::other("an answer to something else")),
    }
}

/// A netlink message with a generic header.
fn request(family: u16, command: u8, sequence: u32, attributes: &[u8]) -> Vec<u8> {
    const HEADERS: usize = 16 + GENL_HEADER;
    let length = u32::try_from(HEADERS + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADERS + attributes.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(family.to_ne_bytes());
    bytes.extend(NLM_F_REQUEST.to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]); // our port: the kernel knows it
    bytes.extend([command, 1, 0, 0]); // command, version, reserved
    bytes.extend(attributes);
    bytes
}

/// An attribute with its header, padded to four bytes (linux/netlink.h, `struct nlattr`).
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn family(attributes: &[u8]) -> Option<u16> {
    let id = NlasIterator::new(attributes).flatten().find(|a| a.kind() == CTRL_ATTR_FAMILY_ID)?;
    Some(u16::from_ne_bytes(*id.value().first_chunk()?))
}

fn features(attributes: &[u8]) -> Vec<String> {
    // Each level is a list of attributes; those of another kind are passed over.
    let nested = |attributes: &[u8], kind: u16| -> Vec<Vec<u8>> {
        let found = NlasIterator::new(attributes).flatten().filter(|a| a.kind() == kind);
        found.map(|a| a.value().to_vec()).collect()
    };
    let active = nested(attributes, ETHTOOL_A_FEATURES_ACTIVE);
    let bits = active.iter().flat_map(|set| nested(set, ETHTOOL_A_BITSET_BITS));
    let each = bits.flat_map(|bits| nested(&bits, ETHTOOL_A_BITSET_BITS_BIT));
    let names = each.flat_map(|bit| nested(&bit, ETHTOOL_A_BITSET_BIT_NAME));
    names.map(|name| String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned()).collect()
}

fn link_mode(attributes: &[u8]) -> LinkMode {
    let mut mode = LinkMode::default();
    for attribute in NlasIterator::new(attributes).flatten() {
        let value = attribute.value();
        match attribute.kind() {
            ETHTOOL_A_LINKMODES_SPEED => {
                let megabits = value.first_chunk().map(|mb| u32::from_ne_bytes(*mb));
                mode.speed = megabits.filter(|&mb| mb != 0 && mb != SPEED_UNKNOWN).map(|mb| u64::from(mb) * 1_000_000);
            }
            ETHTOOL_A_LINKMODES_DUPLEX => {
                mode.full_duplex = match value.first() {
                    Some(&DUPLEX_HALF) => Some(false),
                    Some(&DUPLEX_FULL) => Some(true),
                    _ => None,
                };
            }
            _ => {}
        }
    }
    mode
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(speed: u32, duplex: u8) -> Vec<u8> {
        let parts = [
            attribute(ETHTOOL_A_LINKMODES_HEADER | NLA_F_NESTED, &attribute(ETHTOOL_A_HEADER_DEV_INDEX, &[1, 0, 0, 0])),
            attribute(ETHTOOL_A_LINKMODES_SPEED, &speed.to_ne_bytes()),
            attribute(ETHTOOL_A_LINKMODES_DUPLEX, &[duplex]),
        ];
        parts.concat()
    }

    #[test]
    fn modes_as_the_kernel_tells_them() {
        for (speed, duplex, expected) in [
            (10_000, DUPLEX_FULL, LinkMode { speed: Some(10_000_000_000), full_duplex: Some(true) }),
            (10, DUPLEX_HALF, LinkMode { speed: Some(10_000_000), full_duplex: Some(false) }),
            (800_000, DUPLEX_FULL, LinkMode { speed: Some(800_000_000_000), full_duplex: Some(true) }),
            (SPEED_UNKNOWN, 0xff, LinkMode::default()),
            (0, 0xff, LinkMode::default()),
        ] {
            assert_eq!(link_mode(&mode(speed, duplex)), expected, "{speed}");
        }
        assert_eq!(link_mode(&[]), LinkMode::default());
        let whole = mode(10, DUPLEX_FULL);
        for cut in 0..whole.len() {
            let _ = link_mode(&whole[..cut]);
        }
    }

    #[test]
    fn features_as_the_kernel_lists_them() {
        let nested = |kind: u16, value: &[u8]| attribute(kind | NLA_F_NESTED, value);
        let bit = |name: &[u8]| nested(ETHTOOL_A_BITSET_BITS_BIT, &attribute(ETHTOOL_A_BITSET_BIT_NAME, name));
        let set = |bits: &[u8]| [attribute(1, &[]), nested(ETHTOOL_A_BITSET_BITS, bits)].concat();
        let on = set(&[bit(b"rx-lro\0"), bit(b"rx-gro\0")].concat());
        let other = set(&bit(b"rx-fcs\0"));
        let reply = [nested(2, &other), nested(ETHTOOL_A_FEATURES_ACTIVE, &on), nested(5, &other)].concat();
        assert_eq!(features(&reply), ["rx-lro", "rx-gro"]);
        for cut in 0..reply.len() {
            let _ = features(&reply[..cut]);
        }
    }

    #[test]
    fn a_request_on_the_wire() {
        let name = attribute(CTRL_ATTR_FAMILY_NAME, b"ethtool\0");
        assert_eq!(name[..4], [12u16.to_ne_bytes(), 2u16.to_ne_bytes()].concat());
        let bytes = request(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 7, &name);
        let message = NetlinkBuffer::new_checked(&bytes[..]).unwrap();
        assert_eq!((message.length(), message.message_type(), message.flags()), (32, 0x10, 1));
        assert_eq!((message.sequence_number(), message.payload()), (7, &[&[3, 1, 0, 0], &name[..]].concat()[..]));
        assert_eq!(attribute(6, &[1]), [&5u16.to_ne_bytes()[..], &6u16.to_ne_bytes(), &[1, 0, 0, 0]].concat());
    }

    #[test]
    fn answers_that_are_none() {
        let bytes = |kind: u16, payload: &[u8]| {
            let mut bytes = request(kind, 0, 1, &[]);
            bytes.truncate(16);
            bytes.extend(payload);
            let length = u32::try_from(bytes.len()).unwrap();
            bytes[..4].copy_from_slice(&length.to_ne_bytes());
            bytes
        };
        let ask = |bytes: &[u8]| answer(20, &NetlinkBuffer::new_checked(bytes).unwrap());
        assert_eq!(ask(&bytes(20, &[4, 1, 0, 0, 9])).unwrap(), [9]);
        const EOPNOTSUPP: i32 = 95;
        assert_eq!(ask(&bytes(2, &(-EOPNOTSUPP).to_ne_bytes())).unwrap_err().raw_os_error(), Some(EOPNOTSUPP));
        assert!(
            ask(&bytes(20, &[4])).is_err() && ask(&bytes(21, &[4, 1, 0, 0])).is_err() && ask(&bytes(2, &[])).is_err()
        );
        assert_eq!(family(&attribute(CTRL_ATTR_FAMILY_ID, &[21, 0])), Some(u16::from_ne_bytes([21, 0])));
        assert_eq!(family(&attribute(CTRL_ATTR_FAMILY_ID, &[21])), None);
    }

    #[test]
    fn the_kernel_answers() {
        let mut ethtool = Ethtool::open().unwrap();
        // The loopback device has no link mode; a device that does not exist has none either.
        assert_eq!((ethtool.link_mode(1), ethtool.link_mode(u32::MAX)), (LinkMode::default(), LinkMode::default()));
        assert!(ethtool.features(u32::MAX).is_empty());
        // It is looped back, and its frames are never merged beyond repair.
        let loopback = ethtool.features(1);
        assert!(loopback.iter().any(|name| name == "loopback"), "{loopback:?}");
        assert!(!loopback.iter().any(|name| name == "rx-lro"));
    }
}
