//! The unix socket of the admin listener: for its owner only, and never taken from a server that lives.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::UnixListener;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 16;

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("{}: another server listens on this socket", .path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something is there that is no socket.
    #[error("{}: there is a file that is not a socket", .path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refuses.
    #[error("{}: {error}", .path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
}

/// The bound socket. Its file is removed when this is dropped, if it is still ours.
#[derive(Debug)]
pub struct AdminSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of our file.
    file: (u64, u64),
}

impl AdminSocket {
    /// Binds with mode 0600. A file that a dead server left is replaced. Needs a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        remove_stale(path)?;
        listen(path).map_err(|error| SocketError::Io { path: path.to_path_buf(), error })
    }

    pub(super) fn listener(&self) -> &UnixListener {
        &self.listener
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(path = %self.path.display(), %error, "the admin socket's file stays");
        }
    }
}

/// The mode is set between `bind` and `listen`: before `listen` nobody can connect, so there is no moment in which
/// others could.
fn listen(path: &Path) -> io::Result<AdminSocket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    let found = fs::symlink_metadata(path)?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let listener = UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))?;
    Ok(AdminSocket { listener, path: path.to_path_buf(), file: (found.dev(), found.ino()) })
}

/// Removes the socket of a dead server: a socket on which a connection is refused.
fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let io = |error| SocketError::Io { path: path.to_path_buf(), error };
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    if !found.file_type().is_socket() {
        return Err(SocketError::NotASocket { path: path.to_path_buf() });
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path).map_err(io),
        Ok(_) => Err(SocketError::InUse { path: path.to_path_buf() }),
        Err(error) => Err(io(error)),
    }
}
