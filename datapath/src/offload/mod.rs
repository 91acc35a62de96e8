//! What a device would not do: finish checksums, cut super-frames into segments, put segments together again, fragment.
//!
//! Pure: frames in, frames out. What a frame's headers say is checked before anything is changed.

pub mod checksum;
pub mod fragment;
pub mod gro;
pub mod gso;
pub(crate) mod nested;
