//! The file of a listening unix socket.
//!
//! - The file of a server that has ended is replaced; that of one that listens is in use.
//! - No other file is ever removed. (etcd removes any file at the path.)
//! - The file is removed with its socket, unless another server has replaced it.
//!
//! Source: etcd client/pkg/transport/unix_listener.go @ v3.7.1.

use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The file of a bound socket. Dropping it removes the file.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    id: FileId,
}

/// The device, the inode, and the time of its creation where the file system has it, since the
/// number of an inode is used again.
type FileId = (u64, u64, Option<SystemTime>);

impl SocketFile {
    /// Creates a socket with a file at this path.
    pub(crate) fn bind(path: &Path) -> io::Result<(Socket, SocketFile)> {
        // A socket that is bound to no name gets one that no client can know.
        if path.as_os_str().is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let address = SockAddr::unix(path)?;
        remove_stale(path, &address)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.bind(&address)?;
        let id = id(path)?;
        Ok((socket, SocketFile { path: path.to_owned(), id }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = id(&self.path).is_ok_and(|id| id == self.id);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "cannot remove a socket's file");
        }
    }
}

fn id(path: &Path) -> io::Result<FileId> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino(), file.created().ok()))
}

/// Removes a socket's file without a listener.
fn remove_stale(path: &Path, address: &SockAddr) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(file) => file.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let client = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A listener whose queue is full would block.
    client.set_nonblocking(true)?;
    let refused = |error: io::Error| error.kind() == io::ErrorKind::ConnectionRefused;
    if !kind.is_socket() || !client.connect(address).is_err_and(refused) {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_of_a_socket_without_a_listener_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("localhost:1");
        let in_use = |path: &Path| {
            SocketFile::bind(path).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        };
        let (socket, file) = SocketFile::bind(&path).unwrap();
        socket.listen(1).unwrap();
        assert!(in_use(&path), "the first one listens");
        // The process ends without removing the file.
        drop(socket);
        let (second, of_second) = SocketFile::bind(&path).unwrap();
        drop(file);
        assert!(path.exists(), "it is the file of another socket now");
        drop((second, of_second));
        assert!(!path.exists());
        fs::write(&path, "data").unwrap();
        assert!(in_use(&path), "it is no socket");
        assert_eq!(fs::read_to_string(&path).unwrap(), "data");
        assert!(SocketFile::bind(Path::new("")).is_err());
    }
}
