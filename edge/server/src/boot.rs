//! Boots a member from its directory: waits for a lock that another process holds, and reads the
//! keys and the log at the same time.

use executor::boot::Files;
use executor::{BootError, BootOptions, Booted};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use vfs::Vfs;

/// How long another process may hold the directory before the start is given up.
const LOCK_TIME_MAX: Duration = Duration::from_secs(10);
/// The time between two tries.
const LOCK_TRY_EVERY: Duration = Duration::from_millis(50);

/// Why a member did not start.
#[derive(Debug)]
pub enum StartError {
    /// Another process kept the lock for 10 seconds.
    Locked(PathBuf),
    /// The directory cannot be used.
    Boot(BootError),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Locked(path) => write!(
                f,
                "{} is locked by another process, which did not release it within {} s",
                path.display(),
                LOCK_TIME_MAX.as_secs()
            ),
            StartError::Boot(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}

/// Opens a directory, or creates a new cluster of one member in it.
///
/// # Errors
/// When another process has the directory, a file is damaged or does not fit, or the disk fails.
pub fn boot(vfs: &Arc<dyn Vfs>, options: &BootOptions) -> Result<Booted, StartError> {
    let started = Instant::now();
    let files = unlocked(started, || Files::open(vfs, options))?;
    let (keys, log) = std::thread::scope(|scope| {
        let keys = scope.spawn(|| files.read_keys());
        let log = unlocked(started, || files.open_log());
        (keys.join(), log)
    });
    let keys = keys.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    files.start(keys, log?).map_err(StartError::Boot)
}

/// Tries again while another process holds a lock.
fn unlocked<T>(
    started: Instant,
    mut open: impl FnMut() -> Result<T, BootError>,
) -> Result<T, StartError> {
    loop {
        match open() {
            Err(BootError::Locked(path)) if started.elapsed() > LOCK_TIME_MAX => {
                return Err(StartError::Locked(path));
            }
            Err(BootError::Locked(_)) => std::thread::sleep(LOCK_TRY_EVERY),
            other => return other.map_err(StartError::Boot),
        }
    }
}
