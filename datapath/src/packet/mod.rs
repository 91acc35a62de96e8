//! Frames and the memory they live in. Knows nothing of sockets or of the switch.

pub mod batch;
pub mod frame;
pub mod pool;
mod sys;

pub use batch::Batch;
pub use frame::{ChecksumState, Frame, Gso, GsoKind, MAX_SEGMENTS, Meta, Outer};
pub use pool::Pool;
pub use sys::{Buffer, CHUNK, Region};
