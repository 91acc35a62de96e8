//! The database.

pub mod load;
pub mod lock;
pub mod log;
mod record;
