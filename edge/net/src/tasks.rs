//! Tasks whose panics are reported: a panic ends only its own task, is logged with the task's name,
//! and is counted.
//!
//! A task releases its resources (a slot, a gauge) in the `Drop` of a guard, so that they are
//! released after a panic too.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

static PANICS: AtomicU64 = AtomicU64::new(0);

/// The number of tasks that have panicked since the process started.
#[must_use]
pub fn panics() -> u64 {
    PANICS.load(Ordering::Relaxed)
}

/// Starts a task on this thread. Must be called inside a `LocalSet`.
pub fn spawn_local(name: &'static str, task: impl Future<Output = ()> + 'static) {
    drop(tokio::task::spawn_local(watched(name, task)));
}

/// The task, for a runtime that starts it elsewhere.
pub fn watched<F: Future<Output = ()>>(
    name: &'static str,
    task: F,
) -> impl Future<Output = ()> + use<F> {
    NamedTask { name, task: Box::pin(task) }
}

struct NamedTask<F> {
    name: &'static str,
    task: Pin<Box<F>>,
}

impl<F: Future<Output = ()>> Future for NamedTask<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let name = self.name;
        caught(name, || self.task.as_mut().poll(cx)).unwrap_or(Poll::Ready(()))
    }
}

/// Runs a step of a task. `None` after a panic, which is logged and counted. The task must not run
/// again, because its state may be inconsistent.
pub fn caught<T>(name: &'static str, step: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(step)) {
        Ok(done) => Some(done),
        Err(panic) => {
            PANICS.fetch_add(1, Ordering::Relaxed);
            let message = message(&*panic);
            tracing::error!(task = name, panic = message, "a task panicked");
            None
        }
    }
}

/// The message of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else {
        "no message"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    struct GaugeGuard(Rc<Cell<i32>>);

    impl Drop for GaugeGuard {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }

    #[test]
    fn a_task_that_panics_is_counted_and_gives_back_what_it_took() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let gauge = Rc::new(Cell::new(2));
        let before = panics();
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let guard = GaugeGuard(Rc::clone(&gauge));
            spawn_local("first", async move {
                let _guard = guard;
                tokio::task::yield_now().await;
                panic!("on purpose");
            });
            let guard = GaugeGuard(Rc::clone(&gauge));
            spawn_local("second", async move { drop(guard) });
            while gauge.get() > 0 {
                tokio::task::yield_now().await;
            }
        });
        assert!(panics() > before);
    }
}
