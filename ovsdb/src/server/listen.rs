//! The Unix socket on which the database is offered.
//!
//! The socket is for root and its group (0660, never wider even for a moment). A socket file that a dead
//! daemon left is replaced; one that somebody answers on is not, nor is a file of any other kind.

use super::SessionEvent;
use super::connection::{self, SessionId};
use crate::io_error_text;
use crate::jsonrpc::Message;
use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use serde_json::Value;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

/// Connections at a time. Each may hold one unfinished message and one outbox; the usual descriptor limit
/// of 1024 leaves room for everything else.
pub const MAX_CONNECTIONS: usize = 256;
/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 128;
const MODE: u32 = 0o660;
/// Pause after a failed accept, which usually means that descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Why the socket could not be opened.
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
    /// The kernel refused.
    #[error("{}: {action}: {}", path.display(), io_error_text(source))]
    Io {
        /// The socket or its directory.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A listening socket. Its file disappears with it.
#[derive(Debug)]
pub struct Listener {
    path: PathBuf,
    /// Device and inode of the socket file: a successor's is left alone.
    identity: Option<(u64, u64)>,
    socket: UnixListener,
}

impl Listener {
    /// Opens a listening socket at `path`, creating its directory. Needs a tokio runtime.
    pub fn bind(path: impl AsRef<Path>) -> Result<Listener, ListenError> {
        let path = path.as_ref().to_owned();
        let io = |action| {
            let path = path.clone();
            move |source: io::Error| ListenError::Io { path, action, source }
        };
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(io("create its directory"))?;
        }
        remove_stale(&path)?;
        let socket = open_socket(&path).map_err(io("listen"))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(MODE)).map_err(io("set its mode"))?;
        let socket = UnixListener::from_std(socket).map_err(io("listen"))?;
        let identity = identity(&path);
        Ok(Listener { path, identity, socket })
    }

    /// The socket's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Accepts connections for ever, two tasks each; what their clients say arrives at `events`. Ends when
    /// the receiver of `events` is gone.
    pub async fn run(self, events: mpsc::Sender<SessionEvent>) {
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut session = SessionId::first();
        loop {
            let accepted = tokio::select! {
                accepted = self.socket.accept() => accepted,
                () = events.closed() => return,
            };
            match (accepted, room.clone().try_acquire_owned()) {
                (Ok((stream, _)), Ok(permit)) => {
                    let task = connection::run(stream, session, events.clone());
                    tokio::spawn(async move {
                        task.await;
                        drop(permit);
                    });
                    session = session.next();
                }
                (Ok((stream, _)), Err(_)) => {
                    tracing::warn!("{}: connection refused: {MAX_CONNECTIONS} are open already", self.path.display());
                    tokio::spawn(refuse(stream));
                }
                (Err(e), _) => {
                    tracing::warn!("{}: cannot accept a connection: {}", self.path.display(), io_error_text(&e));
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.identity.is_some() && self.identity == identity(&self.path) {
            // It may be gone already; there is nobody left to tell.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|m| (m.dev(), m.ino()))
}

/// Removes the socket file of a dead server.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let io = |action| move |source| ListenError::Io { path: path.to_owned(), action, source };
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        // Connecting to a file of another kind is refused just as by a dead socket.
        Ok(m) if !m.file_type().is_socket() => return Err(ListenError::NotASocket { path: path.to_owned() }),
        found => found.map_err(io("look at the socket"))?,
    };
    match std::os::unix::net::UnixStream::connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(io("remove a stale socket"))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(io("look who listens there")(e)),
        // Connected, or its backlog is full.
        _ => Err(ListenError::InUse { path: path.to_owned() }),
    }
}

/// Linux gives the socket file the mode of the socket, less the umask: set before bind, there is no moment at
/// which others could connect.
fn open_socket(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let address = SocketAddrUnix::new(path)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    fchmod(&socket, Mode::from_raw_mode(MODE))?;
    bind(&socket, &address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket.into())
}

async fn refuse(mut stream: UnixStream) {
    let details = format!("the server has its maximum of {MAX_CONNECTIONS} connections; try again later");
    let message = Message::error(Value::Null, "resources exhausted", &details).encode();
    // A client that does not even take this gets nothing.
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&message)).await;
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(listener.path(), path);
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
}
