//! A value that is made from files, and made again when they have changed.

use super::TlsError;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

static FAILED_RELOADS: AtomicU64 = AtomicU64::new(0);

/// How many times changed files were not valid since the process started.
#[must_use]
pub fn failed_reloads() -> u64 {
    FAILED_RELOADS.load(Ordering::Relaxed)
}

/// What shows that a file has changed: its inode, size, and times of change. `None` if there is no
/// such file.
type Stamp = Option<(u64, u64, (i64, i64), (i64, i64))>;

/// How the value is made.
type Make<T> = Box<dyn Fn() -> Result<T, TlsError> + Send + Sync>;

/// A value and the files that it is made from.
pub(super) struct Reloaded<T> {
    files: Vec<PathBuf>,
    make: Make<T>,
    last: Mutex<LastRead<T>>,
}

struct LastRead<T> {
    /// Of the files when they were read last, valid or not.
    stamps: Vec<Stamp>,
    value: Arc<T>,
}

impl<T> Reloaded<T> {
    /// Makes the value for the first time.
    pub(super) fn new(files: Vec<PathBuf>, make: Make<T>) -> Result<Reloaded<T>, TlsError> {
        let stamps = stamps(&files);
        let last = Mutex::new(LastRead { stamps, value: Arc::new(make()?) });
        Ok(Reloaded { files, make, last })
    }

    /// The value of the files as they are now, or, where those are not valid, the one before.
    pub(super) fn current(&self) -> Arc<T> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // The stamps come first: a file that changes while it is read is read again.
        let stamps = stamps(&self.files);
        if last.stamps != stamps {
            last.stamps = stamps;
            match (self.make)() {
                Ok(value) => {
                    tracing::info!(files = ?self.files, "read changed TLS files");
                    last.value = Arc::new(value);
                }
                Err(error) => {
                    FAILED_RELOADS.fetch_add(1, Ordering::Relaxed);
                    let message = "changed TLS files are not valid; those of before stay in use";
                    tracing::warn!(files = ?self.files, %error, "{message}");
                }
            }
        }
        Arc::clone(&last.value)
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |file: &PathBuf| {
        let it = std::fs::metadata(file).ok()?;
        let (modified, changed) = ((it.mtime(), it.mtime_nsec()), (it.ctime(), it.ctime_nsec()));
        Some((it.ino(), it.size(), modified, changed))
    };
    files.iter().map(stamp).collect()
}
