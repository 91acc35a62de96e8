//! The switch: what happens to a frame between the device it came from and the devices it leaves by. No I/O, no clock.

pub mod state;
pub mod verdict;
