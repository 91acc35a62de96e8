//! The vswitch daemon.

pub mod mtu;
pub mod netlink;
