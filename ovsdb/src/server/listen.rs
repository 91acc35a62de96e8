//! Listening sockets on which the database is offered, and their connections.
//!
//! A [`Listener`] accepts until it is dropped; its connections live on until their clients or the core end them.
//! A [`Remote`] is a listener that can be given up together with its connections: what a `Manager` row asks for.
//!
//! What a peer may try: to open connections without end (each group of listeners has a [`Room`] of its own, so
//! that strangers on TCP do not shut out the host's own tools), or to be silent (probes, on TCP only).

use super::connection::{self, Settings, Stream};
use super::target::Target;
use super::unix_socket::UnixSocket;
use super::{SessionEvent, SessionId};
use crate::io_error_text;
use crate::jsonrpc::Message;
use serde_json::Value;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

/// Connections at a time to a listener that shares its room with no other. Each may hold one unfinished message
/// and one outbox; the usual descriptor limit of 1024 leaves room for everything else.
pub const MAX_CONNECTIONS: usize = 256;
/// Pause after a failed accept, which usually means that descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Why a socket could not be opened.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Another server is there.
    #[error("{}: another server already answers on this socket; stop it, or choose another path", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not ours to remove is in the way.
    #[error("{}: exists and is not a socket", path.display())]
    NotASocket {
        /// The file in the way.
        path: PathBuf,
    },
    /// The kernel refused a Unix socket.
    #[error("{}: {action}: {}", path.display(), io_error_text(source))]
    Io {
        /// The socket or its directory.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused a TCP port.
    #[error("{at}: listen: {}", io_error_text(source))]
    Tcp {
        /// Where.
        at: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

impl ListenError {
    pub(super) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> ListenError {
        let path = path.to_owned();
        move |source| ListenError::Io { path, action, source }
    }
}

/// Where clients' words go, and the names they get: shared by all listeners of one server.
#[derive(Clone, Debug)]
pub struct Sessions {
    pub(super) events: mpsc::Sender<SessionEvent>,
    next: Arc<AtomicU64>,
}

impl From<mpsc::Sender<SessionEvent>> for Sessions {
    fn from(events: mpsc::Sender<SessionEvent>) -> Sessions {
        Sessions { events, next: Arc::default() }
    }
}

impl Sessions {
    fn name(&self) -> SessionId {
        SessionId::of(self.next.fetch_add(1, Ordering::Relaxed))
    }
}

/// How many connections a group of listeners may have together.
#[derive(Clone, Debug)]
pub struct Room {
    free: Arc<Semaphore>,
    size: usize,
}

impl Room {
    /// Room for `size` connections.
    pub fn new(size: usize) -> Room {
        Room { free: Arc::new(Semaphore::new(size)), size }
    }
}

/// A listening socket. The file of a Unix socket disappears with it.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    room: Room,
    /// Open connections.
    count: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum Socket {
    Unix(UnixSocket),
    Tcp(TcpListener),
}

impl Listener {
    /// Opens a listening socket at `path`, creating its directory. Needs a tokio runtime.
    pub fn bind(path: impl AsRef<Path>) -> Result<Listener, ListenError> {
        let path = path.as_ref();
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            let created = fs::DirBuilder::new().recursive(true).mode(0o755).create(dir);
            created.map_err(ListenError::io(path, "create its directory"))?;
        }
        Ok(Listener::of(Socket::Unix(UnixSocket::bind(path)?), Room::new(MAX_CONNECTIONS)))
    }

    /// Opens what a `Manager` row asks for; no directory is made for it. Its connections share `room` with others.
    pub async fn open(target: &Target, room: &Room) -> Result<Listener, ListenError> {
        let socket = match target {
            Target::Unix(path) => Socket::Unix(UnixSocket::bind(path)?),
            Target::Tcp(at) => {
                let bound = TcpListener::bind(at).await;
                Socket::Tcp(bound.map_err(|source| ListenError::Tcp { at: *at, source })?)
            }
        };
        Ok(Listener::of(socket, room.clone()))
    }

    fn of(socket: Socket, room: Room) -> Listener {
        Listener { socket, room, count: Arc::default() }
    }

    /// Accepts connections for ever, two tasks each. Ends when nobody receives the events of `sessions` any more.
    pub async fn run(self, sessions: impl Into<Sessions>) {
        self.accept_all(sessions.into(), None).await;
    }

    /// Accepts connections until the [`Remote`] is closed or dropped. On TCP, a client that is silent for `probe`
    /// is asked for a sign of life.
    pub fn start(self, sessions: Sessions, probe: Option<Duration>) -> Remote {
        let port = match &self.socket {
            Socket::Tcp(socket) => socket.local_addr().ok().map(|at| at.port()),
            Socket::Unix(_) => None,
        };
        let count = self.count.clone();
        let (settings, receiver) = watch::channel(probe);
        let task = tokio::spawn(self.accept_all(sessions, Some(receiver)));
        Remote { task, port, count, settings }
    }

    async fn accept_all(self, sessions: Sessions, settings: Option<Settings>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = sessions.events.closed() => return,
            };
            match (accepted, self.room.free.clone().try_acquire_owned()) {
                (Ok(stream), Ok(permit)) => {
                    let session = sessions.name();
                    let place = Place::take(&self.count);
                    let task = connection::run(stream, session, sessions.events.clone(), settings.clone(), place);
                    tokio::spawn(async move {
                        task.await;
                        drop(permit);
                    });
                }
                (Ok(stream), Err(_)) => {
                    let (room, peer) = (self.room.size, &stream.peer);
                    tracing::warn!("{}: connection of {peer} refused: {room} are open already", self.socket);
                    tokio::spawn(refuse(stream, room));
                }
                (Err(e), _) => {
                    tracing::warn!("{}: cannot accept a connection: {}", self.socket, io_error_text(&e));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Socket::Unix(unix) => unix.socket.accept().await.map(|(stream, _)| Stream::unix(stream)),
            Socket::Tcp(socket) => socket.accept().await.map(|(stream, peer)| Stream::tcp(stream, peer)),
        }
    }
}

impl std::fmt::Display for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Socket::Unix(unix) => write!(f, "{}", unix.path().display()),
            Socket::Tcp(socket) => match socket.local_addr() {
                Ok(at) => write!(f, "tcp {at}"),
                Err(_) => f.write_str("tcp"),
            },
        }
    }
}

/// A listener at work; dropped, it ends with all its connections.
#[derive(Debug)]
pub struct Remote {
    task: JoinHandle<()>,
    port: Option<u16>,
    count: Arc<AtomicUsize>,
    /// The probe interval. When this is gone, so are the connections.
    settings: watch::Sender<Option<Duration>>,
}

impl Remote {
    /// Number of open connections.
    pub fn connections(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// The TCP port that it listens on.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Changes after how much silence clients on TCP are asked for a sign of life; None: never.
    pub fn set_probe(&self, probe: Option<Duration>) {
        self.settings.send_if_modified(|old| std::mem::replace(old, probe) != probe);
    }

    /// Ends it; afterwards its address is free.
    pub async fn close(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Being counted as one connection.
#[derive(Debug)]
pub(super) struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(count: &Arc<AtomicUsize>) -> Place {
        count.fetch_add(1, Ordering::Relaxed);
        Place(count.clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn refuse(mut stream: Stream, room: usize) {
    let details = format!("the server has its maximum of {room} connections here; try again later");
    let message = Message::error(Value::Null, "resources exhausted", &details).encode();
    // A client that does not even take this gets nothing.
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.writer.write_all(&message)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net as std_net;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).expect("there").permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn the_socket_comes_with_its_directory_and_goes_with_the_listener() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("run/db.sock");
        let listener = Listener::bind(&path).expect("free");
        assert_eq!(mode(&path), 0o660);
        assert_eq!(listener.socket.to_string(), path.display().to_string());
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("db.sock");
        drop(std_net::UnixListener::bind(&path).expect("free"));
        assert!(path.exists(), "std leaves the file");
        let first = Listener::bind(&path).expect("stale");
        let error = Listener::bind(&path).expect_err("live").to_string();
        assert!(
            error.ends_with("db.sock: another server already answers on this socket; stop it, or choose another path")
        );
        fs::remove_file(&path).expect("there");
        let second = Listener::bind(&path).expect("free");
        drop(first);
        assert!(path.exists(), "the second's socket is not the first's to remove");
        drop(second);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().expect("tempdir");
        let path = dir.path().join("precious");
        fs::write(&path, "data").expect("room");
        let error = Listener::bind(&path).expect_err("a file").to_string();
        assert!(error.ends_with("precious: exists and is not a socket"), "{error}");
        assert_eq!(fs::read(&path).expect("there"), b"data");
        let long = dir.path().join("x".repeat(108));
        let error = Listener::bind(&long).expect_err("too long").to_string();
        assert!(error.ends_with(": listen: File name too long"), "{error}");
    }

    #[tokio::test]
    async fn a_target_gets_no_directory_and_its_own_words() {
        let dir = tempfile::tempdir().expect("tempdir");
        let room = Room::new(1);
        let lost = Target::Unix(dir.path().join("no/db.sock"));
        let error = Listener::open(&lost, &room).await.expect_err("no directory").to_string();
        assert!(error.ends_with("no/db.sock: listen: No such file or directory"), "{error}");
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("free").local_addr().expect("bound");
        let first = Listener::open(&Target::Tcp(taken), &room).await.expect("free again");
        let error = Listener::open(&Target::Tcp(taken), &room).await.expect_err("taken").to_string();
        assert_eq!(error, format!("{taken}: listen: Address already in use"));
        drop(first);
    }
}
