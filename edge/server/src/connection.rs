//! Counts the connections of a worker.

use crate::gauges::WorkerGauges;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A connection with what the code that serves it needs, of a type that this crate does not know.
/// Dropping it closes the connection.
pub type Accepted = Box<dyn Any + Send>;

/// Counts a connection at its worker until this is dropped, however the connection ends.
#[derive(Debug)]
pub struct ConnectionGuard {
    gauges: Arc<WorkerGauges>,
    accepted: Option<Accepted>,
}

impl ConnectionGuard {
    /// Counts one more connection.
    pub(crate) fn new(gauges: &Arc<WorkerGauges>, accepted: Accepted) -> ConnectionGuard {
        gauges.connections.fetch_add(1, Ordering::Relaxed);
        ConnectionGuard { gauges: Arc::clone(gauges), accepted: Some(accepted) }
    }

    /// Takes the connection; `None` if it is of another type or was taken before. One of another type
    /// is dropped.
    pub fn take<T: 'static>(&mut self) -> Option<Box<T>> {
        self.accepted.take()?.downcast().ok()
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.gauges.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes over a connection, and keeps the guard as long as it is open.
pub type TakeOver = Box<dyn Fn(ConnectionGuard)>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    #[test]
    fn a_connection_whose_task_panics_is_not_counted_any_more() {
        let gauges = Arc::new(WorkerGauges::default());
        let guard = ConnectionGuard::new(&gauges, Box::new(()));
        assert_eq!(gauges.connections.load(Ordering::Relaxed), 1);
        let served = catch_unwind(AssertUnwindSafe(move || {
            let _guard = guard;
            panic!("a handler's");
        }));
        assert!(served.is_err());
        assert_eq!(gauges.connections.load(Ordering::Relaxed), 0);
    }
}
