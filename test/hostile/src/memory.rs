//! Reads the memory of a process, once or repeatedly in a thread.

use anyhow::{Context, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(20);

/// A line of `/proc/PID/status` with a size, in bytes.
fn status(pid: u32, name: &str) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.with_context(|| format!("no {name}"))?.parse::<u64>()? * 1024)
}

/// Resident memory of a process in bytes.
///
/// # Errors
/// When the process is gone.
pub fn resident(pid: u32) -> Result<u64> {
    status(pid, "VmRSS")
}

/// Resident memory of a process in bytes, without mapped files.
///
/// # Errors
/// When the process is gone.
pub fn anonymous(pid: u32) -> Result<u64> {
    status(pid, "RssAnon")
}

/// The largest resident memory of a process in bytes, since its start or [`forget_peak`].
///
/// # Errors
/// When the process is gone.
pub fn peak(pid: u32) -> Result<u64> {
    status(pid, "VmHWM")
}

/// Resets [`peak`] to the current memory.
///
/// # Errors
/// When the process is gone, or belongs to another user.
///
/// Source: proc(5), `/proc/pid/clear_refs`.
pub fn forget_peak(pid: u32) -> Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    std::fs::write(&path, "5").with_context(|| format!("cannot write {path}"))
}

/// Remembers the largest resident memory of a process.
#[derive(Debug)]
pub struct PeakMemory {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl PeakMemory {
    /// Starts the thread.
    #[must_use]
    pub fn watch(pid: u32) -> PeakMemory {
        PeakMemory::watch_by(pid, resident)
    }

    /// Starts the thread for the memory without mapped files.
    #[must_use]
    pub fn watch_anonymous(pid: u32) -> PeakMemory {
        PeakMemory::watch_by(pid, anonymous)
    }

    fn watch_by(pid: u32, look: fn(u32) -> Result<u64>) -> PeakMemory {
        let (peak, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (highest, end) = (Arc::clone(&peak), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let Ok(bytes) = look(pid) else { return };
                highest.fetch_max(bytes, Ordering::Relaxed);
                std::thread::sleep(EVERY);
            }
        });
        PeakMemory { peak, stop, thread: Some(thread) }
    }

    /// Ends the thread and returns the peak in bytes.
    #[must_use]
    pub fn end(mut self) -> u64 {
        self.stop();
        self.peak.load(Ordering::Relaxed)
    }

    fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for PeakMemory {
    fn drop(&mut self) {
        self.stop();
    }
}
