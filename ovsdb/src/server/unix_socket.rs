//! A listening Unix socket and its file.
//!
//! The socket is for root and its group (0660, never wider even for a moment). A socket file that a dead
//! daemon left is replaced; one that somebody answers on is not, nor is a file of any other kind.

use super::listen::ListenError;
use rustix::fs::{Mode, fchmod};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 128;
const MODE: u32 = 0o660;

/// A listening socket. Its file disappears with it.
#[derive(Debug)]
pub(super) struct UnixSocket {
    path: PathBuf,
    /// Device and inode of the socket file: a successor's is left alone.
    identity: Option<(u64, u64)>,
    pub socket: UnixListener,
}

impl UnixSocket {
    /// Opens a listening socket at `path`, whose directory must be there. Needs a tokio runtime.
    pub fn bind(path: &Path) -> Result<UnixSocket, ListenError> {
        let io = |action| ListenError::io(path, action);
        remove_stale(path)?;
        let socket = open_socket(path).map_err(io("listen"))?;
        fs::set_permissions(path, fs::Permissions::from_mode(MODE)).map_err(io("set its mode"))?;
        let socket = UnixListener::from_std(socket).map_err(io("listen"))?;
        Ok(UnixSocket { path: path.to_owned(), identity: identity(path), socket })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for UnixSocket {
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
    let io = |action| ListenError::io(path, action);
    match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        // Connecting to a file of another kind is refused just as by a dead socket.
        Ok(m) if !m.file_type().is_socket() => return Err(ListenError::NotASocket { path: path.to_owned() }),
        found => found.map_err(io("look at the socket"))?,
    };
    match try_connect(path) {
        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(io("remove a stale socket"))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Err(io("look who listens there")(e)),
        // Connected, or its backlog is full.
        _ => Err(ListenError::InUse { path: path.to_owned() }),
    }
}

/// Connects without waiting for a server that does not accept, and hangs up.
fn try_connect(path: &Path) -> io::Result<()> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    Ok(connect(&socket, &SocketAddrUnix::new(path)?)?)
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
