//! Operating system: signals, the file descriptor limit, locked memory, and systemd.
//!
//! Source: etcd pkg/osutil/interrupt_unix.go and server/etcdmain/main.go @ v3.7.1.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, raise};
use rustix::mm::{MlockAllFlags, mlockall};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// File descriptors that the server needs for files and internal use.
pub(crate) const FDS_RESERVED: u64 = 150;

/// The signals that stop the server.
fn stop_signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM].into_iter().collect()
}

/// Blocks the terminating signals in this thread and in the threads it starts, so that
/// [`wait_for_signal`] receives them.
pub(crate) fn block_signals() -> io::Result<()> {
    stop_signals().thread_block().map_err(io::Error::from)
}

/// Runs `work` while the terminating signals end the process by their default action, and blocks them
/// again. For work that may take for ever, before the server serves. Its threads must end with it.
pub(crate) fn with_signals<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    stop_signals().thread_unblock()?;
    let result = work();
    stop_signals().thread_block()?;
    Ok(result)
}

/// Waits for a terminating signal.
pub(crate) fn wait_for_signal() -> io::Result<Signal> {
    stop_signals().wait().map_err(io::Error::from)
}

/// The name of a signal in Go.
pub(crate) fn signal_name(signal: Signal) -> &'static str {
    if signal == Signal::SIGINT { "interrupt" } else { "terminated" }
}

/// Terminates the process by the signal's default action. Process 1 of a container, which ignores
/// that action, returns and exits with a code.
pub(crate) fn terminate_by(signal: Signal) {
    if std::process::id() == 1 {
        return;
    }
    if let Err(error) = stop_signals().thread_unblock().and_then(|()| raise(signal)) {
        tracing::warn!(%error, "cannot terminate the process by the signal");
    }
}

/// Locks the memory of the process in RAM: what is used now, and what will be, page by page as it is
/// used. The limit of locked memory applies, also later, unless the process may lock any amount
/// (`CAP_IPC_LOCK`).
pub(crate) fn lock_memory() -> io::Result<()> {
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    mlockall(flags).map_err(io::Error::from)
}

/// Raises the file descriptor limit to its maximum, as Go's runtime does, and returns it.
pub(crate) fn raise_fd_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        return Ok(hard);
    }
    Ok(soft)
}

/// The limit of file descriptors now.
pub(crate) fn fd_limit() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.0)
}

/// Notifies systemd that the program is ready, if systemd asks for it.
pub(crate) fn log_ready() {
    tracing::info!("notifying init daemon");
    match notify_ready() {
        Ok(()) => tracing::info!("successfully notified init daemon"),
        Err(error) => tracing::error!(%error, "failed to notify systemd for readiness"),
    }
}

fn notify_ready() -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let text = path.to_string_lossy();
    let address = match text.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(b"READY=1", &address)?;
    Ok(())
}
