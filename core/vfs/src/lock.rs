//! File locks of the operating system, which never wait: `flock`, and open-file-description locks
//! over a whole file.

use rustix::fs::FlockOperation;
use std::fs::File;
use std::io;

/// Takes the `flock` of a file; false if another holds it.
pub(crate) fn try_flock(file: &File) -> io::Result<bool> {
    flock(file, FlockOperation::NonBlockingLockExclusive)
}

/// Releases the `flock` of a file.
pub(crate) fn unlock_flock(file: &File) -> io::Result<()> {
    flock(file, FlockOperation::Unlock).map(drop)
}

/// Takes an open-file-description lock over a whole file, or its `flock` on a kernel without such
/// locks; false if another holds it.
#[cfg(target_os = "linux")]
pub(crate) fn try_whole_file(file: &File) -> io::Result<bool> {
    use nix::errno::Errno;
    match set_whole_file(file, nix::libc::F_WRLCK) {
        Ok(()) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(Errno::EINVAL) => try_flock(file),
        Err(error) => Err(error.into()),
    }
}

/// Releases the lock of [`try_whole_file`].
#[cfg(target_os = "linux")]
pub(crate) fn unlock_whole_file(file: &File) -> io::Result<()> {
    match set_whole_file(file, nix::libc::F_UNLCK) {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::EINVAL) => unlock_flock(file),
        Err(error) => Err(error.into()),
    }
}

/// Takes the `flock` of a file; false if another holds it. There are no open-file-description locks.
#[cfg(not(target_os = "linux"))]
pub(crate) fn try_whole_file(file: &File) -> io::Result<bool> {
    try_flock(file)
}

/// Releases the lock of [`try_whole_file`].
#[cfg(not(target_os = "linux"))]
pub(crate) fn unlock_whole_file(file: &File) -> io::Result<()> {
    unlock_flock(file)
}

fn flock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    use rustix::io::Errno;
    loop {
        match rustix::fs::flock(file, operation) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(target_os = "linux")]
fn set_whole_file(file: &File, kind: nix::libc::c_int) -> Result<(), nix::errno::Errno> {
    use nix::errno::Errno;
    use nix::fcntl::{FcntlArg, fcntl};
    use nix::libc;
    let short = |number: libc::c_int| libc::c_short::try_from(number).unwrap_or_default();
    // A length of zero means up to the end, however far the file grows.
    let range = libc::flock {
        l_type: short(kind),
        l_whence: short(libc::SEEK_SET),
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    loop {
        match fcntl(file, FcntlArg::F_OFD_SETLK(&range)) {
            Ok(_) => return Ok(()),
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}
