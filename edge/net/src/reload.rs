//! A value that is made from files, and made again when they have changed.

use std::fmt::Display;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// What shows that a file has changed: its inode, size, and times of change. `None` if there is no
/// such file.
type Stamp = Option<(u64, u64, (i64, i64), (i64, i64))>;

/// How the value is made.
type Make<T, E> = Box<dyn Fn() -> Result<T, E> + Send + Sync>;

/// What the files are, for the log and the metrics.
#[derive(Debug)]
pub struct FileKind {
    /// Their name in log lines, such as `TLS files`.
    pub name: &'static str,
    /// How many times changed files were not valid since the process started.
    failed: AtomicU64,
}

impl FileKind {
    /// Files of this name.
    #[must_use]
    pub const fn new(name: &'static str) -> FileKind {
        FileKind { name, failed: AtomicU64::new(0) }
    }

    /// How many times changed files were not valid since the process started.
    #[must_use]
    pub fn failed_reloads(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }
}

/// A value and the files that it is made from.
pub struct Reloaded<T, E> {
    kind: &'static FileKind,
    files: Vec<PathBuf>,
    make: Make<T, E>,
    last: Mutex<LastRead<T>>,
}

struct LastRead<T> {
    /// Of the files when they were read last, valid or not.
    stamps: Vec<Stamp>,
    value: Arc<T>,
}

impl<T, E> std::fmt::Debug for Reloaded<T, E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloaded").field("files", &self.files).finish_non_exhaustive()
    }
}

impl<T, E: Display> Reloaded<T, E> {
    /// Makes the value for the first time.
    ///
    /// # Errors
    /// When the files are not valid.
    pub fn new(
        kind: &'static FileKind,
        files: Vec<PathBuf>,
        make: Make<T, E>,
    ) -> Result<Reloaded<T, E>, E> {
        let stamps = stamps(&files);
        let last = Mutex::new(LastRead { stamps, value: Arc::new(make()?) });
        Ok(Reloaded { kind, files, make, last })
    }

    /// The value of the files as they are now, or, where those are not valid, the one before.
    pub fn current(&self) -> Arc<T> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        // The stamps come first: a file that changes while it is read is read again.
        let stamps = stamps(&self.files);
        if last.stamps != stamps {
            last.stamps = stamps;
            let name = self.kind.name;
            match (self.make)() {
                Ok(value) => {
                    tracing::info!(files = ?self.files, "read changed {name}");
                    last.value = Arc::new(value);
                }
                Err(error) => {
                    self.kind.failed.fetch_add(1, Ordering::Relaxed);
                    let message =
                        format!("changed {name} are not valid; those of before stay in use");
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

/// The system's words for an error, as Go writes them: lower case, without the number.
#[must_use]
pub fn system_words(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}
