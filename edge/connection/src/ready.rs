//! The list of calls that must be polled. Each call has a waker of its own. A wake adds the call to
//! the list, and wakes the task of the connection if it sleeps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Wake, Waker};

/// The calls that were woken.
#[derive(Debug)]
pub(crate) struct Ready(Arc<Mutex<List>>);

#[derive(Debug)]
struct List {
    slots: Vec<usize>,
    /// The task of the connection.
    task: Waker,
    /// True if the task sleeps, so that it must be woken.
    is_asleep: bool,
}

/// The waker of a slot for calls. A late wake may hit the next call in the slot, which is then
/// polled once without need.
#[derive(Debug)]
pub(crate) struct Signal {
    slot: usize,
    /// True while the slot is in the list.
    is_listed: AtomicBool,
    list: Arc<Mutex<List>>,
}

fn lock(list: &Mutex<List>) -> MutexGuard<'_, List> {
    list.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ready {
    pub(crate) fn new() -> Ready {
        let list = List { slots: Vec::new(), task: Waker::noop().clone(), is_asleep: false };
        Ready(Arc::new(Mutex::new(list)))
    }

    /// A signal for this slot.
    pub(crate) fn signal(&self, slot: usize) -> Arc<Signal> {
        Arc::new(Signal { slot, is_listed: AtomicBool::new(false), list: Arc::clone(&self.0) })
    }

    /// Moves the list into `slots`, which must be empty.
    pub(crate) fn take(&self, slots: &mut Vec<usize>) {
        std::mem::swap(&mut lock(&self.0).slots, slots);
    }

    /// Registers the task of the connection to be woken with the next call. False if a call was
    /// woken already; then the task must not sleep.
    pub(crate) fn sleep(&self, cx: &Context<'_>) -> bool {
        let mut list = lock(&self.0);
        if !list.slots.is_empty() {
            return false;
        }
        list.task.clone_from(cx.waker());
        list.is_asleep = true;
        true
    }

    /// Records that the task of the connection is awake.
    pub(crate) fn wake_up(&self) {
        lock(&self.0).is_asleep = false;
    }
}

impl Signal {
    /// Called before the call of the slot is polled: from now on, a wake lists the slot again.
    pub(crate) fn clear(&self) {
        // Acquire: the poll sees all writes made before the last wake.
        self.is_listed.swap(false, Ordering::AcqRel);
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_listed.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut list = lock(&self.list);
        list.slots.push(self.slot);
        if std::mem::take(&mut list.is_asleep) {
            let task = list.task.clone();
            drop(list);
            task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wakes::Wakes;

    #[test]
    fn many_calls_wake_a_sleeping_connection_once_and_an_awake_one_never() {
        let count = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&count));
        let cx = Context::from_waker(&waker);
        let ready = Ready::new();
        let signals: Vec<_> = (0..3).map(|slot| ready.signal(slot)).collect();
        signals[0].wake_by_ref();
        assert!(!ready.sleep(&cx), "a call waits already");
        let mut slots = Vec::new();
        ready.take(&mut slots);
        assert_eq!(slots, [0]);
        assert!(ready.sleep(&cx));
        signals[0].wake_by_ref();
        assert_eq!(count.get(), 0, "it is listed until it is polled");
        for signal in &signals {
            signal.clear();
            signal.wake_by_ref();
            signal.wake_by_ref();
        }
        assert_eq!(count.get(), 1);
        slots.clear();
        ready.take(&mut slots);
        assert_eq!(slots, [0, 1, 2]);
    }
}
