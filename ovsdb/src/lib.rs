//! OVSDB (RFC 7047).

pub mod client;
pub mod db;
pub mod jsonrpc;

/// What the kernel said, without Rust's "(os error 2)".
pub(crate) fn io_error_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}
