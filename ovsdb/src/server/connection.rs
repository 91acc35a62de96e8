//! One client's connection: bytes to messages, messages to bytes, nothing else.
//!
//! Two tasks: the reader frames what arrives and hands it to the server core as [`SessionEvent`]s; the
//! writer sends what the core put into the [`Outbox`](super::Outbox). Whichever ends first ends the
//! connection. A full event channel makes the reader wait, and through the socket its client.
//!
//! What a client may try: garbage or oversized messages (the scanner's limits; the core answers and closes),
//! not reading (the outbox' limit), being silent for ever (probes, on TCP), going away at any point.

use super::SessionEvent;
use super::listen::Place;
use super::outbox::{OUTBOX_BYTES, OutboxReader, WeakOutbox, outbox};
use super::probe::{Due, Probe};
use crate::jsonrpc::{Limits, Message, Scanner};
use serde_json::json;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};

/// How long a client that has stopped sending may take to read its last replies.
const LINGER: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 64 << 10;
/// The id of probes, as Open vSwitch has it. Replies under it are for the connection, not for the core.
const PROBE_ID: &str = "echo";

/// Names one connection for the life of the server; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(u64);

impl SessionId {
    /// The first connection.
    pub fn first() -> SessionId {
        SessionId(0)
    }

    /// The one after this.
    #[must_use]
    pub fn next(self) -> SessionId {
        SessionId(self.0.wrapping_add(1))
    }

    pub(super) fn of(number: u64) -> SessionId {
        SessionId(number)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "session#{}", self.0)
    }
}

/// The interval of probes as it changes; its end is the end of the connection.
pub(super) type Settings = watch::Receiver<Option<Duration>>;

/// A byte stream to and from a client.
pub(super) struct Stream {
    /// Who it is, for log lines.
    pub peer: String,
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// The other end may be gone without a sign.
    is_remote: bool,
}

impl Stream {
    pub fn unix(stream: UnixStream) -> Stream {
        let peer = describe(&stream);
        let (reader, writer) = stream.into_split();
        Stream { peer, reader: Box::new(reader), writer: Box::new(writer), is_remote: false }
    }

    pub fn tcp(stream: TcpStream, peer: SocketAddr) -> Stream {
        // Replies are small, and clients wait for each. Without it they only wait longer.
        let _ = stream.set_nodelay(true);
        let (reader, writer) = stream.into_split();
        Stream { peer: format!("tcp {peer}"), reader: Box::new(reader), writer: Box::new(writer), is_remote: true }
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

/// Serves one connection to its end.
pub(super) async fn run(
    stream: Stream,
    session: SessionId,
    events: mpsc::Sender<SessionEvent>,
    settings: Option<Settings>,
    place: Place,
) {
    let Stream { peer, reader, writer, is_remote } = stream;
    let (out, queue) = outbox(OUTBOX_BYTES);
    let reader = Reader { from: reader, session, peer: peer.clone(), is_remote, settings, out: out.downgrade() };
    if events.send(SessionEvent::Opened { session, peer, out }).await.is_err() {
        return;
    }
    let mut writer = tokio::spawn(write(writer, queue));
    tokio::select! {
        () = reader.run(&events) => {}
        _ = &mut writer => {}
    }
    drop(place);
    // Behind the session's last message in the channel, so the core answers that first. If the core is
    // gone, so is its end of the outbox, and the writer ends by itself.
    let _ = events.send(SessionEvent::Closed { session }).await;
    if !writer.is_finished() && tokio::time::timeout(LINGER, &mut writer).await.is_err() {
        writer.abort();
    }
}

struct Reader {
    from: Box<dyn AsyncRead + Send + Unpin>,
    session: SessionId,
    peer: String,
    is_remote: bool,
    settings: Option<Settings>,
    /// Where probes go.
    out: WeakOutbox,
}

impl Reader {
    async fn run(mut self, events: &mpsc::Sender<SessionEvent>) {
        let interval = self.settings.as_ref().and_then(|settings| *settings.borrow());
        let mut probe = Probe::new(interval.filter(|_| self.is_remote), Instant::now());
        let mut scanner = Scanner::new(Limits::SERVER);
        let mut piece = vec![0; READ_BYTES];
        loop {
            let due = probe.deadline();
            tokio::select! {
                count = self.from.read(&mut piece) => {
                    let Ok(count @ 1..) = count else { return };
                    probe.hear(Instant::now());
                    scanner.push(piece.get(..count).unwrap_or_default());
                    if !forward(&mut scanner, self.session, events).await {
                        return;
                    }
                }
                interval = changed(&mut self.settings) => {
                    let Some(interval) = interval else { return };
                    probe.set(interval.filter(|_| self.is_remote), Instant::now());
                }
                () = sleep_until(due) => match probe.due(Instant::now()) {
                    Some(Due::Ask) => self.ask(),
                    Some(Due::GiveUp) => {
                        tracing::warn!("{} ({}): connection closed: no answer to a probe", self.session, self.peer);
                        return;
                    }
                    None => {}
                }
            }
        }
    }

    fn ask(&self) {
        let probe = Message::Request { id: json!(PROBE_ID), method: "echo".to_owned(), params: Vec::new() };
        if let Some(out) = self.out.upgrade() {
            // Where there is no room for it, the core is about to drop the client.
            let _ = out.send(probe.encode());
        }
    }
}

/// The new interval once it has changed; None once there is none any more.
async fn changed(settings: &mut Option<Settings>) -> Option<Option<Duration>> {
    match settings {
        None => std::future::pending().await,
        Some(settings) => settings.changed().await.ok().map(|()| *settings.borrow_and_update()),
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        None => std::future::pending().await,
        Some(at) => tokio::time::sleep_until(at.into()).await,
    }
}

/// Hands on what is complete. False when there will be no more.
async fn forward(scanner: &mut Scanner, session: SessionId, events: &mpsc::Sender<SessionEvent>) -> bool {
    loop {
        let event = match scanner.next_message() {
            Ok(None) => return true,
            Ok(Some(Message::Reply { id, .. })) if id == PROBE_ID => continue,
            Ok(Some(message)) => SessionEvent::Message { session, message },
            Err(error) => SessionEvent::Garbage { session, error },
        };
        let last = matches!(event, SessionEvent::Garbage { .. });
        if events.send(event).await.is_err() || last {
            return false;
        }
    }
}

async fn write(mut to: Box<dyn AsyncWrite + Send + Unpin>, mut queue: OutboxReader) {
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
