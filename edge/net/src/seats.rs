//! Places for a limited number of connections. When none is left, the connection that has been idle
//! longest is closed in favour of the new one. A connection that has carried a request counts as
//! idle for less long, so that a flood of silent connections closes its own first. A connection
//! with a request under way is never closed.

use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The places of one port. Shared between threads.
#[derive(Debug)]
pub struct Seats {
    max: usize,
    taken: Mutex<BTreeMap<u64, Arc<SeatState>>>,
    ids: AtomicU64,
    /// Counts the moments at which a connection became idle. Orders them without a clock.
    turn: AtomicU64,
    /// Wakes the tasks that wait in [`Seats::take`].
    changed: Notify,
    is_closed: AtomicBool,
}

#[derive(Debug)]
struct SeatState {
    /// Requests under way.
    requests: AtomicUsize,
    /// Whether the connection has carried a request.
    was_used: AtomicBool,
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
            is_closed: AtomicBool::new(false),
        })
    }

    /// Waits for a place. If there is none, closes the connection that has been idle longest, as
    /// soon as one is idle. `None` after [`Seats::close`].
    pub async fn take(self: &Arc<Self>) -> Option<Seat> {
        loop {
            let mut changed = pin!(self.changed.notified());
            changed.as_mut().enable();
            {
                let mut taken = self.lock();
                if self.is_closed.load(Ordering::Acquire) {
                    return None;
                }
                if taken.len() < self.max {
                    return Some(self.seat(&mut taken));
                }
                if !taken.values().any(|state| state.is_closing.load(Ordering::Relaxed)) {
                    self.close_longest_idle(&taken);
                }
            }
            changed.await;
        }
    }

    /// Gives no more places: [`Seats::take`] returns `None`.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.changed.notify_waiters();
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
            was_used: AtomicBool::new(false),
            idle_since: AtomicU64::new(self.next_turn()),
            is_closing: AtomicBool::new(false),
            close: Notify::new(),
        });
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        taken.insert(id, Arc::clone(&state));
        Seat { seats: Arc::clone(self), id, state }
    }

    /// Tells the connection that has been idle longest to close.
    fn close_longest_idle(&self, taken: &BTreeMap<u64, Arc<SeatState>>) {
        let idle = taken.values().filter(|state| {
            state.requests.load(Ordering::Acquire) == 0 && !state.is_closing.load(Ordering::Relaxed)
        });
        // Less than the number of places: where all connections were used, the oldest of them still
        // comes before a new one, which has a quarter of that number of turns for its first
        // request.
        let ahead = self.max as u64 / 4 * 3;
        let rank = |state: &&Arc<SeatState>| {
            let since = state.idle_since.load(Ordering::Relaxed);
            if state.was_used.load(Ordering::Relaxed) { since.saturating_add(ahead) } else { since }
        };
        let Some(oldest) = idle.min_by_key(rank) else { return };
        oldest.is_closing.store(true, Ordering::Relaxed);
        oldest.close.notify_one();
    }
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
        self.state.was_used.store(true, Ordering::Relaxed);
        SeatInUse(Rc::clone(self))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.lock().remove(&self.id);
        self.seats.changed.notify_waiters();
    }
}

impl Drop for SeatInUse {
    fn drop(&mut self) {
        let Seat { seats, state, .. } = &*self.0;
        state.idle_since.store(seats.next_turn(), Ordering::Relaxed);
        if state.requests.fetch_sub(1, Ordering::AcqRel) == 1 {
            seats.changed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    /// A place, if there is one at once.
    fn take(seats: &Arc<Seats>) -> Option<Rc<Seat>> {
        match poll(pin!(seats.take())) {
            Poll::Ready(seat) => Some(Rc::new(seat.expect("the places are not closed"))),
            Poll::Pending => None,
        }
    }

    fn is_closing(seat: &Seat) -> bool {
        poll(pin!(seat.closing())).is_ready()
    }

    #[test]
    fn the_connection_that_was_idle_longest_is_closed_first() {
        let seats = Seats::new(3);
        let [first, second, third] = [(); 3].map(|()| take(&seats).unwrap());
        drop((first.begin(), second.begin(), third.begin()));
        // A request makes the first one the newest of the idle ones.
        drop(first.begin());
        assert!(take(&seats).is_none(), "the second has not closed yet");
        assert!(!is_closing(&first) && is_closing(&second) && !is_closing(&third));
        drop(second);
        let fourth = take(&seats).unwrap();
        assert_eq!(seats.taken(), 3);
        drop((first, third, fourth));
        assert_eq!(seats.taken(), 0);
    }

    /// Takes a place for which another connection has to close; returns the one that did.
    fn push_out(seats: &Arc<Seats>, all: &mut Vec<Rc<Seat>>) -> Rc<Seat> {
        assert!(take(seats).is_none(), "no place is free");
        let at = all.iter().position(|seat| is_closing(seat)).expect("one is told to close");
        let closed = all.remove(at);
        let id = closed.id;
        drop(closed);
        all.push(take(seats).unwrap());
        assert!(all.iter().all(|seat| seat.id != id));
        Rc::clone(all.last().unwrap())
    }

    #[test]
    fn a_flood_of_connections_without_requests_closes_its_own_first() {
        let seats = Seats::new(8);
        let mut all: Vec<Rc<Seat>> = (0..8).map(|_| take(&seats).unwrap()).collect();
        let client = all[0].id;
        drop(all[0].begin());
        for _ in 0..12 {
            drop(push_out(&seats, &mut all));
        }
        assert!(all.iter().any(|seat| seat.id == client), "12 are fewer than 8 and 6 turns");
    }

    #[test]
    fn a_new_connection_has_time_for_its_request_where_all_others_were_used() {
        let seats = Seats::new(8);
        let mut all: Vec<Rc<Seat>> = (0..8).map(|_| take(&seats).unwrap()).collect();
        for seat in &all {
            drop(seat.begin());
        }
        let new = push_out(&seats, &mut all).id;
        drop(push_out(&seats, &mut all));
        assert!(all.iter().any(|seat| seat.id == new), "the oldest used one is closed first");
    }

    #[test]
    fn a_connection_with_a_request_under_way_is_not_closed() {
        let seats = Seats::new(1);
        let first = take(&seats).unwrap();
        let requests = (first.begin(), first.begin());
        assert!(take(&seats).is_none());
        drop(requests.0);
        assert!(take(&seats).is_none());
        assert!(!is_closing(&first), "one of two requests is still under way");
        drop(requests.1);
        assert!(take(&seats).is_none());
        assert!(is_closing(&first));
    }

    #[test]
    fn all_who_wait_for_a_place_get_one_as_connections_become_idle_and_close() {
        let seats = Seats::new(1);
        let first = take(&seats).unwrap();
        let request = first.begin();
        let mut waiting = [Box::pin(seats.take()), Box::pin(seats.take())];
        assert!(waiting.iter_mut().all(|taking| poll(taking.as_mut()).is_pending()));
        assert!(!is_closing(&first));
        drop(request);
        assert!(waiting.iter_mut().all(|taking| poll(taking.as_mut()).is_pending()));
        assert!(is_closing(&first));
        drop(first);
        let [one, other] = &mut waiting;
        let Poll::Ready(Some(second)) = poll(one.as_mut()) else { panic!("a place is free") };
        assert!(poll(other.as_mut()).is_pending());
        assert!(is_closing(&second));
        drop(second);
        assert!(poll(other.as_mut()).is_ready());
    }

    #[test]
    fn nobody_waits_for_closed_places() {
        let seats = Seats::new(1);
        let _first = take(&seats).unwrap();
        let mut waiting = pin!(seats.take());
        assert!(poll(waiting.as_mut()).is_pending());
        seats.close();
        assert!(matches!(poll(waiting.as_mut()), Poll::Ready(None)));
    }
}
