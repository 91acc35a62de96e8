//! Values with their unit in the type: addresses, identifiers, lengths.
//!
//! Pure data, no I/O. Everything here is `Copy` and cheap to compare.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

/// A 48-bit Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: Self = Self([0xff; 6]);
    /// `00:00:00:00:00:00`, never a valid sender.
    pub const ZERO: Self = Self([0; 6]);

    /// The group bit (IEEE 802.3 §3.2.3): multicast, broadcast included.
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// A group address that a bridge must not forward: 01:80:c2:00:00:00 to :0f (IEEE 802.1D-2004 table 7-10).
    #[must_use]
    pub const fn is_reserved_group(self) -> bool {
        let m = self.0;
        m[0] == 0x01 && m[1] == 0x80 && m[2] == 0xc2 && m[3] == 0 && m[4] == 0 && m[5] & 0xf0 == 0
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not six two-digit hexadecimal bytes separated by colons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an Ethernet address; write it as 02:00:00:00:00:01")]
pub struct BadMac(pub String);

impl FromStr for MacAddr {
    type Err = BadMac;

    fn from_str(s: &str) -> Result<Self, BadMac> {
        let mut mac = [0; 6];
        let mut parts = s.split(':');
        for byte in &mut mac {
            *byte = parts
                .next()
                .filter(|p| p.len() == 2)
                .and_then(|p| u8::from_str_radix(p, 16).ok())
                .ok_or_else(|| BadMac(s.to_owned()))?;
        }
        match parts.next() {
            None => Ok(Self(mac)),
            Some(_) => Err(BadMac(s.to_owned())),
        }
    }
}

/// A VLAN identifier, 0 to 4095; 0 is the VLAN of untagged frames, as in Open vSwitch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct VlanId(u16);

impl VlanId {
    /// Where untagged and priority-tagged frames live.
    pub const UNTAGGED: Self = Self(0);

    /// `None` above 4095.
    #[must_use]
    pub const fn new(id: u16) -> Option<Self> {
        if id < 4096 { Some(Self(id)) } else { None }
    }

    /// The VLAN identifier bits of a tag control information field.
    #[must_use]
    pub const fn of_tci(tci: u16) -> Self {
        Self(tci & 0x0fff)
    }

    /// The number, 0 to 4095.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for VlanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What tells apart the tunnels between two hosts: the network identifier of VXLAN and Geneve (24 bits), the key of GRE
/// (32 bits; 0: none).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct TunnelKey(pub u32);

impl fmt::Display for TunnelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A port of the datapath: an index into [`crate::switch::state::Snapshot::ports`], never reused within a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct PortId(pub u32);

/// Which remote end of a tunnel, by its place in the tunnel's list; the first of everything that has but one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct RemoteIndex(pub u16);

/// Where a station is: the port that it is behind and, at a tunnel with several remote ends, which of them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Place {
    /// The port.
    pub port: PortId,
    /// Its remote end.
    pub remote: RemoteIndex,
}

impl Place {
    /// At a port that leads to one place only.
    #[must_use]
    pub const fn of(port: PortId) -> Self {
        Self { port, remote: RemoteIndex(0) }
    }
}

/// A bridge of the datapath, never reused within a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct BridgeId(pub u32);

/// Something that workers receive from and send to: a network device or a TAP interface, the sockets below tunnels. Ordinary
/// ports own one; tunnels of a kind share one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct DeviceId(pub u32);

/// One of the queues that a device is received from by; each is one worker's at a time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct RxQueue {
    /// The device.
    pub device: DeviceId,
    /// Its place among those of the device, from 0.
    pub number: u16,
}

/// The largest layer-3 packet a link takes, in bytes, without Ethernet header and VLAN tags.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct L3Mtu(pub u32);

impl fmt::Display for L3Mtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The IPv4 addresses that begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ipv4Prefix {
    network: Ipv4Addr,
    len: u8,
}

impl Ipv4Prefix {
    /// Every address.
    pub const ALL: Self = Self { network: Ipv4Addr::UNSPECIFIED, len: 0 };

    /// The addresses that have the first `len` bits, 32 at most, with `address` in common.
    #[must_use]
    pub fn of(address: Ipv4Addr, len: u8) -> Self {
        let len = len.min(32);
        Self { network: Ipv4Addr::from_bits(address.to_bits() & Self::mask(len)), len }
    }

    /// The first of them.
    #[must_use]
    pub const fn network(self) -> Ipv4Addr {
        self.network
    }

    /// The number of bits in common.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.len
    }

    /// Whether `address` is one of them.
    #[must_use]
    pub fn contains(self, address: Ipv4Addr) -> bool {
        Self::of(address, self.len) == self
    }

    /// The first `len` bits.
    fn mask(len: u8) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0)
    }
}

impl fmt::Display for Ipv4Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.len)
    }
}

/// The text is no IPv4 prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPrefix {
    /// It does not read as one.
    #[error("'{0}' is not an IPv4 prefix; write it as 192.168.11.0/24")]
    Text(String),
    /// It has bits set after the prefix.
    #[error("'{0}' is an address within a prefix; the prefix is {1}")]
    HostBits(String, Ipv4Prefix),
}

impl FromStr for Ipv4Prefix {
    type Err = BadPrefix;

    /// An address without a length is a prefix of its own.
    fn from_str(s: &str) -> Result<Self, BadPrefix> {
        let (address, len) = s.split_once('/').unwrap_or((s, "32"));
        let len = len.parse().ok().filter(|&len: &u8| len <= 32);
        let (Ok(address), Some(len)) = (address.parse(), len) else { return Err(BadPrefix::Text(s.to_owned())) };
        let prefix = Self::of(address, len);
        if prefix.network == address { Ok(prefix) } else { Err(BadPrefix::HostBits(s.to_owned(), prefix)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mac_text_round_trips_and_bad_text_is_refused() {
        let mac: MacAddr = "02:00:5e:aB:00:ff".parse().unwrap();
        assert_eq!(mac, MacAddr([2, 0, 0x5e, 0xab, 0, 0xff]));
        assert_eq!(mac.to_string(), "02:00:5e:ab:00:ff");
        for bad in ["", "02:00:5e:ab:00", "02:00:5e:ab:00:ff:00", "2:0:5e:ab:0:ff", "02:00:5e:ab:00:fg"] {
            assert_eq!(bad.parse::<MacAddr>(), Err(BadMac(bad.to_owned())));
        }
    }

    #[test]
    fn reserved_groups_are_the_sixteen_of_8021d() {
        let last = |b| MacAddr([0x01, 0x80, 0xc2, 0, 0, b]);
        assert!((0..16).all(|b| last(b).is_reserved_group()));
        assert!(!last(16).is_reserved_group());
        assert!(!MacAddr::BROADCAST.is_reserved_group());
    }

    #[test]
    fn prefixes_are_read_with_their_length_and_without_host_bits() {
        let prefix: Ipv4Prefix = "192.168.11.0/24".parse().unwrap();
        assert_eq!(prefix, Ipv4Prefix::of(Ipv4Addr::new(192, 168, 11, 77), 24));
        assert_eq!(prefix.to_string(), "192.168.11.0/24");
        assert!(prefix.contains([192, 168, 11, 255].into()) && !prefix.contains([192, 168, 12, 0].into()));
        assert_eq!("0.0.0.0/0".parse(), Ok(Ipv4Prefix::ALL));
        assert!(Ipv4Prefix::ALL.contains([255; 4].into()));
        assert_eq!("192.168.11.7".parse(), Ok(Ipv4Prefix::of([192, 168, 11, 7].into(), 32)));
        for bad in ["", "192.168.11.0/33", "192.168.11/24", "192.168.11.0/", "fd00::/8"] {
            assert_eq!(bad.parse::<Ipv4Prefix>(), Err(BadPrefix::Text(bad.to_owned())));
        }
        let told = "192.168.11.7/24".parse::<Ipv4Prefix>().unwrap_err().to_string();
        assert_eq!(told, "'192.168.11.7/24' is an address within a prefix; the prefix is 192.168.11.0/24");
    }

    #[test]
    fn identifiers_are_bounded() {
        assert_eq!(VlanId::new(4095).map(VlanId::get), Some(4095));
        assert_eq!(VlanId::new(4096), None);
        assert_eq!(VlanId::of_tci(0xe00a), VlanId::new(10).unwrap());
    }
}
