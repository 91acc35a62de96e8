//! The server: sessions, requests, monitors, the log.

mod connection;
mod listen;
mod outbox;

use crate::jsonrpc::{Message, ProtocolError};
pub use connection::SessionId;
pub use listen::{ListenError, Listener, MAX_CONNECTIONS};
pub use outbox::{OUTBOX_BYTES, Outbox, OutboxReader, SendError, outbox};

/// What happens on a connection.
#[derive(Debug)]
pub enum SessionEvent {
    /// A client has connected.
    Opened {
        /// The new session.
        session: SessionId,
        /// Who it is, for log lines.
        peer: String,
        /// Where its messages go.
        out: Outbox,
    },
    /// It says something.
    Message {
        /// Who.
        session: SessionId,
        /// What.
        message: Message,
    },
    /// It says something that is no JSON-RPC; nothing more will come from it.
    Garbage {
        /// Who.
        session: SessionId,
        /// What is wrong with it.
        error: ProtocolError,
    },
    /// It has hung up, or is no longer listened to.
    Closed {
        /// Who.
        session: SessionId,
    },
}
