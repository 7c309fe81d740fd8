//! A progress bar on standard error, which is drawn only if that is a terminal.

#![expect(clippy::print_stderr, reason = "this is the place that draws")]

use cli::go;
use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The time between two drawings.
const PAUSE: Duration = Duration::from_millis(200);
/// The characters between the brackets.
const WIDTH: u64 = 40;
/// Clears the line, after a carriage return.
const CLEAR: &str = "\r\x1b[K";

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Anything: requests, keys, seconds.
    Steps,
    /// Bytes, shown as `1.5 MB`.
    Bytes,
}

/// A bar that is drawn until it is dropped. While the total is 0, it is not known: the time that has
/// passed is drawn instead of the bar.
#[derive(Debug)]
pub struct Bar {
    progress: Arc<Progress>,
    /// Draws the bar; `None` if nobody watches.
    drawer: Option<Drawer>,
}

#[derive(Debug)]
struct Progress {
    start: Instant,
    unit: Unit,
    done: AtomicU64,
    total: AtomicU64,
}

#[derive(Debug)]
struct Drawer {
    /// The thread ends when this is dropped.
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
}

impl Bar {
    /// Starts to draw a bar of this many steps or bytes.
    #[must_use]
    pub fn start(total: u64, unit: Unit) -> Bar {
        let (done, total) = (AtomicU64::new(0), AtomicU64::new(total));
        let progress = Arc::new(Progress { start: Instant::now(), unit, done, total });
        let drawer = std::io::stderr().is_terminal().then(|| Drawer::start(Arc::clone(&progress)));
        Bar { progress, drawer }
    }

    /// Adds a step.
    pub fn add(&self) {
        self.progress.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the number of steps or bytes that are done.
    pub fn set(&self, done: u64) {
        self.progress.done.store(done, Ordering::Relaxed);
    }

    /// Changes the number of steps or bytes in all.
    pub fn set_total(&self, total: u64) {
        self.progress.total.store(total, Ordering::Relaxed);
    }

    /// Writes a line to the standard error; the bar continues below it.
    pub fn say(&self, text: &str) {
        let clear = if self.drawer.is_some() { CLEAR } else { "" };
        eprintln!("{clear}{text}");
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(Drawer { stop, thread }) = self.drawer.take() {
            drop(stop);
            // The thread cannot fail; if it did, only the last drawing would be missing.
            _ = thread.join();
        }
    }
}

impl Drawer {
    fn start(progress: Arc<Progress>) -> Drawer {
        let (stop, stopped) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                eprint!("{CLEAR}{}", progress.shown());
            }
            eprintln!("{CLEAR}{}", progress.shown());
        });
        Drawer { stop, thread }
    }
}

impl Progress {
    fn shown(&self) -> String {
        let (done, total) = (self.done.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
        drawn(self.unit, done, total, self.start.elapsed().as_secs())
    }
}

/// The text of the bar.
fn drawn(unit: Unit, done: u64, total: u64, seconds: u64) -> String {
    let shown = |number: u64| match unit {
        Unit::Steps => number.to_string(),
        Unit::Bytes => go::bytes(number),
    };
    if total == 0 {
        let done = if done > 0 { format!("{}, ", shown(done)) } else { String::new() };
        return format!("{done}{seconds} s");
    }
    let done = done.min(total);
    let of_total =
        |whole: u64| u64::try_from(u128::from(done) * u128::from(whole) / u128::from(total));
    let width = |count: u64| usize::try_from(count).unwrap_or_default();
    let full = of_total(WIDTH).unwrap_or_default();
    let bar = "#".repeat(width(full)) + &"-".repeat(width(WIDTH - full));
    let percent = of_total(100).unwrap_or_default();
    format!("[{bar}] {}/{} {percent:3}%", shown(done), shown(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_its_share() {
        let bar = |full, rest| format!("[{}{}]", "#".repeat(full), "-".repeat(rest));
        let steps = |done, total| drawn(Unit::Steps, done, total, 7);
        assert_eq!(steps(0, 60), bar(0, 40) + " 0/60   0%");
        assert_eq!(steps(15, 60), bar(10, 30) + " 15/60  25%");
        assert_eq!(steps(61, 60), bar(40, 0) + " 60/60 100%");
        assert_eq!(drawn(Unit::Bytes, 1_500, 6_000, 7), bar(10, 30) + " 1.5 kB/6.0 kB  25%");
        assert_eq!(steps(u64::MAX, u64::MAX), bar(40, 0) + &format!(" {0}/{0} 100%", u64::MAX));
    }

    #[test]
    fn without_a_total_the_time_is_shown() {
        assert_eq!(drawn(Unit::Steps, 0, 0, 7), "7 s");
        assert_eq!(drawn(Unit::Bytes, 1_500, 0, 7), "1.5 kB, 7 s");
    }
}
