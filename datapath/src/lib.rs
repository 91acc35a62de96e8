//! The packet path of vswitch.
//!
//! ```text
//!  kernel ──▶ Device::receive ─▶ Batch ─▶ switch::pipeline ─▶ switch::egress ─▶ Device::send ──▶ kernel
//!             port/{packet,tap,udp}       admit → learn →     finish checksums,
//!                                         forward             segment, encapsulate
//! ```
//!
//! `worker::run` drives that walk on plain threads; `control` is the only way to change what it does: it opens
//! devices and publishes a new immutable [`switch::state::Snapshot`].

pub mod control;
pub mod offload;
pub mod packet;
pub mod port;
pub mod stats;
pub mod switch;
pub mod time;
pub mod tunnel;
pub mod types;
pub mod wire;
pub mod worker;
