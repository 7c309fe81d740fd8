//! Places for a limited number of connections. When none is left, the connection that has been idle
//! longest is closed in favour of the new one. A connection that works on a request is never closed.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Closures that may be under way in [`Seats::take_now`]: so many connections may exceed the limit
/// for a moment.
const CLOSING_MAX: usize = 32;

/// The places of one port. Shared between threads.
#[derive(Debug)]
pub struct Seats {
    max: usize,
    taken: Mutex<BTreeMap<u64, Arc<SeatState>>>,
    ids: AtomicU64,
    /// Counts the moments at which a connection became idle. Orders them without a clock.
    turn: AtomicU64,
    /// Wakes the one who waits in [`Seats::take`].
    changed: Notify,
}

#[derive(Debug)]
struct SeatState {
    /// Requests under way.
    requests: AtomicUsize,
    /// The turn at which the connection became idle.
    idle_since: AtomicU64,
    /// Whether the connection was told to close.
    is_closing: AtomicBool,
    close: Notify,
}

/// The place of one connection. It is free again when this is dropped.
#[derive(Debug)]
pub struct Seat {
    seats: Arc<Seats>,
    id: u64,
    state: Arc<SeatState>,
}

/// A request under way, on the thread of its connection. While there is one, the connection is not
/// idle.
#[derive(Debug)]
pub struct SeatInUse(Rc<Seat>);

impl Seats {
    /// Places for `max` connections.
    #[must_use]
    pub fn new(max: usize) -> Arc<Seats> {
        Arc::new(Seats {
            max,
            taken: Mutex::default(),
            ids: AtomicU64::new(0),
            turn: AtomicU64::new(0),
            changed: Notify::new(),
        })
    }

    /// Waits for a place. If there is none, closes the connection that has been idle longest, as
    /// soon as one is idle. Only one caller may wait at a time.
    pub async fn take(self: &Arc<Self>) -> Seat {
        loop {
            let changed = self.changed.notified();
            {
                let mut taken = self.lock();
                if taken.len() < self.max {
                    return self.seat(&mut taken);
                }
                if !taken.values().any(|state| state.is_closing.load(Ordering::Relaxed)) {
                    close_longest_idle(&taken);
                }
            }
            changed.await;
        }
    }

    /// Takes a place without waiting. If there is none, the connection that has been idle longest
    /// is told to close; `None` if no connection is idle, or too many are closing already.
    #[must_use]
    pub fn take_now(self: &Arc<Self>) -> Option<Seat> {
        let mut taken = self.lock();
        let over = (taken.len() + 1).saturating_sub(self.max);
        if over > 0 && (over > CLOSING_MAX || !close_longest_idle(&taken)) {
            return None;
        }
        Some(self.seat(&mut taken))
    }

    /// How many places are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<SeatState>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_turn(&self) -> u64 {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    fn seat(self: &Arc<Self>, taken: &mut BTreeMap<u64, Arc<SeatState>>) -> Seat {
        let state = Arc::new(SeatState {
            requests: AtomicUsize::new(0),
            idle_since: AtomicU64::new(self.next_turn()),
            is_closing: AtomicBool::new(false),
            close: Notify::new(),
        });
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        taken.insert(id, Arc::clone(&state));
        Seat { seats: Arc::clone(self), id, state }
    }
}

/// Tells the connection that has been idle longest to close. Returns whether there was one.
fn close_longest_idle(taken: &BTreeMap<u64, Arc<SeatState>>) -> bool {
    let idle = taken.values().filter(|state| {
        state.requests.load(Ordering::Acquire) == 0 && !state.is_closing.load(Ordering::Relaxed)
    });
    let Some(oldest) = idle.min_by_key(|state| state.idle_since.load(Ordering::Relaxed)) else {
        return false;
    };
    oldest.is_closing.store(true, Ordering::Relaxed);
    oldest.close.notify_one();
    true
}

impl Seat {
    /// Completes when the connection is to be closed in favour of another one.
    pub async fn closing(&self) {
        self.state.close.notified().await;
    }

    /// Marks that a request is under way until the result is dropped.
    #[must_use]
    pub fn begin(self: &Rc<Self>) -> SeatInUse {
        self.state.requests.fetch_add(1, Ordering::AcqRel);
        SeatInUse(Rc::clone(self))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().remove(&self.id);
        self.seats.changed.notify_one();
    }
}

impl Drop for SeatInUse {
    fn drop(&mut self) {
        let Seat { seats, state, .. } = &*self.0;
        state.idle_since.store(seats.next_turn(), Ordering::Relaxed);
        if state.requests.fetch_sub(1, Ordering::AcqRel) == 1 {
            seats.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn is_closing(seat: &Seat) -> bool {
        poll(pin!(seat.closing())).is_ready()
    }

    #[test]
    fn the_connection_that_was_idle_longest_is_closed_first() {
        let seats = Seats::new(3);
        let [first, second, third] = [(); 3].map(|()| Rc::new(seats.take_now().unwrap()));
        // A request makes the first one the newest of the idle ones.
        drop(first.begin());
        let fourth = seats.take_now().unwrap();
        assert!(!is_closing(&first) && is_closing(&second) && !is_closing(&third));
        drop(second);
        assert_eq!(seats.taken(), 3);
        drop((first, third, fourth));
        assert_eq!(seats.taken(), 0);
    }

    #[test]
    fn a_connection_with_a_request_under_way_is_not_closed() {
        let seats = Seats::new(1);
        let first = Rc::new(seats.take_now().unwrap());
        let requests = (first.begin(), first.begin());
        assert!(seats.take_now().is_none());
        drop(requests.0);
        assert!(seats.take_now().is_none(), "one of two requests is still under way");
        drop(requests.1);
        assert!(seats.take_now().is_some());
        assert!(is_closing(&first));
    }

    #[test]
    fn a_place_is_waited_for_until_a_connection_is_idle_and_has_closed() {
        let seats = Seats::new(1);
        let first = Rc::new(seats.take_now().unwrap());
        let request = first.begin();
        let mut taking = pin!(seats.take());
        assert!(poll(taking.as_mut()).is_pending());
        assert!(!is_closing(&first));
        drop(request);
        assert!(poll(taking.as_mut()).is_pending(), "the first has not closed yet");
        assert!(is_closing(&first));
        drop(first);
        assert!(poll(taking.as_mut()).is_ready());
    }

    #[test]
    fn the_limit_is_exceeded_by_a_bounded_number_of_closing_connections() {
        let seats = Seats::new(CLOSING_MAX);
        let all: Vec<Seat> = std::iter::from_fn(|| seats.take_now()).take(1_000).collect();
        assert_eq!(all.len(), 2 * CLOSING_MAX);
    }
}
