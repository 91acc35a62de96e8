//! Worker threads: they join devices to the switch, and alone read the clock.

mod command;
mod devices;
mod poller;
mod run;
mod spin;
mod transmit;

pub use command::{Command, Remote};
pub use run::Worker;
