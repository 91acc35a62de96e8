//! The database.

pub mod lock;
pub mod log;
mod record;
