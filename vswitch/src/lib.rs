//! The vswitch daemon.

pub mod config;
pub mod mtu;
pub mod netlink;
