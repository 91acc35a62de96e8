//! One client's connection: bytes to messages, messages to bytes, nothing else.
//!
//! Two tasks: the reader frames what arrives and hands it to the server core as [`SessionEvent`]s; the
//! writer sends what the core put into the [`Outbox`](super::Outbox). Whichever ends first ends the
//! connection. A full event channel makes the reader wait, and through the socket its client.
//!
//! What a client may try: garbage or oversized messages (the scanner's limits; the core answers and closes),
//! not reading (the outbox' limit), going away at any point.

use super::SessionEvent;
use super::outbox::{OUTBOX_BYTES, OutboxReader, outbox};
use crate::jsonrpc::{Limits, Scanner};
use std::fmt;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

/// How long a client that has stopped sending may take to read its last replies.
const LINGER: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 64 << 10;

/// Names one connection for the life of the server; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// The first connection.
    pub fn first() -> SessionId {
        SessionId(0)
    }

    #[cfg(test)]
    pub(super) fn of(number: u64) -> SessionId {
        SessionId(number)
    }

    /// The one after this.
    #[must_use]
    pub fn next(self) -> SessionId {
        SessionId(self.0.wrapping_add(1))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix#{}", self.0)
    }
}

/// Serves one connection to its end.
pub(super) async fn run(stream: UnixStream, session: SessionId, events: mpsc::Sender<SessionEvent>) {
    let peer = describe(&stream);
    let (out, queue) = outbox(OUTBOX_BYTES);
    if events.send(SessionEvent::Opened { session, peer, out }).await.is_err() {
        return;
    }
    let (read_half, write_half) = stream.into_split();
    let mut writer = tokio::spawn(write(write_half, queue));
    tokio::select! {
        () = read(read_half, session, &events) => {}
        _ = &mut writer => {}
    }
    // Behind the session's last message in the channel, so the core answers that first. If the core is
    // gone, so is its end of the outbox, and the writer ends by itself.
    let _ = events.send(SessionEvent::Closed { session }).await;
    if !writer.is_finished() && tokio::time::timeout(LINGER, &mut writer).await.is_err() {
        writer.abort();
    }
}

/// The peer as named in log lines.
fn describe(stream: &UnixStream) -> String {
    match stream.peer_cred() {
        Ok(cred) => match cred.pid() {
            Some(pid) => format!("pid {pid}, uid {}", cred.uid()),
            None => format!("uid {}", cred.uid()),
        },
        Err(_) => "unknown peer".to_owned(),
    }
}

async fn read(mut from: OwnedReadHalf, session: SessionId, events: &mpsc::Sender<SessionEvent>) {
    let mut scanner = Scanner::new(Limits::SERVER);
    let mut piece = vec![0; READ_BYTES];
    loop {
        let Ok(count @ 1..) = from.read(&mut piece).await else { return };
        scanner.push(piece.get(..count).unwrap_or_default());
        loop {
            let event = match scanner.next_message() {
                Ok(None) => break,
                Ok(Some(message)) => SessionEvent::Message { session, message },
                Err(error) => SessionEvent::Garbage { session, error },
            };
            let last = matches!(event, SessionEvent::Garbage { .. });
            if events.send(event).await.is_err() || last {
                return;
            }
        }
    }
}

async fn write(mut to: OwnedWriteHalf, mut queue: OutboxReader) {
    while let Some(message) = queue.next().await {
        let written = tokio::select! {
            written = to.write_all(&message) => written,
            () = queue.aborted() => return,
        };
        if written.is_err() {
            return; // the client is gone
        }
    }
}
