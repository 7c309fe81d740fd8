//! A progress bar on standard error, which is drawn only if that is a terminal.

use crate::output;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// The time between two drawings.
const PAUSE: Duration = Duration::from_millis(200);
/// The characters between the brackets.
const WIDTH: u64 = 40;

/// A bar that is drawn until it is dropped.
pub(crate) struct Bar {
    done: Arc<AtomicU64>,
    total: u64,
    task: Option<JoinHandle<()>>,
}

impl Bar {
    /// Starts to draw a bar of this many steps.
    pub(crate) fn start(total: u64) -> Bar {
        let done = Arc::new(AtomicU64::new(0));
        let shown = Arc::clone(&done);
        let task = output::is_watched().then(|| {
            tokio::spawn(async move {
                loop {
                    output::error_text(&drawn(shown.load(Ordering::Relaxed), total));
                    tokio::time::sleep(PAUSE).await;
                }
            })
        });
        Bar { done, total, task }
    }

    /// Adds a step.
    pub(crate) fn add(&self) {
        self.done.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the number of steps that are done.
    pub(crate) fn set(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
            output::error_line(&drawn(self.done.load(Ordering::Relaxed), self.total));
        }
    }
}

/// The text that draws the bar, starting with a carriage return.
fn drawn(done: u64, total: u64) -> String {
    let done = done.min(total);
    let of_total = |whole: u64| (done * whole).checked_div(total).unwrap_or(whole);
    let full = usize::try_from(of_total(WIDTH)).unwrap_or(usize::MAX);
    let rest = usize::try_from(WIDTH - of_total(WIDTH)).unwrap_or_default();
    let (full, rest) = ("#".repeat(full), "-".repeat(rest));
    format!("\r[{full}{rest}] {done}/{total} {:3}%", of_total(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_shows_its_share() {
        let bar = |full, rest| format!("\r[{}{}]", "#".repeat(full), "-".repeat(rest));
        assert_eq!(drawn(0, 60), bar(0, 40) + " 0/60   0%");
        assert_eq!(drawn(15, 60), bar(10, 30) + " 15/60  25%");
        assert_eq!(drawn(61, 60), bar(40, 0) + " 60/60 100%");
        assert_eq!(drawn(0, 0), bar(40, 0) + " 0/0 100%");
    }
}
