//! OVSDB (RFC 7047).

pub mod jsonrpc;
