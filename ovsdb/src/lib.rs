//! OVSDB (RFC 7047): the database, its protocol, a server and a client.

pub mod address;
mod atom;
pub mod client;
mod column_type;
pub mod db;
pub mod error;
pub mod jsonrpc;
mod members;
pub mod schema;
pub mod server;
pub mod value;
pub mod vswitch_schema;

/// What the kernel said, without Rust's "(os error 2)".
pub(crate) fn io_error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
