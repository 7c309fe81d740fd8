//! A worker's door: admission control for requests. It bounds the requests that are in progress, in
//! number and bytes. It also bounds the bytes of requests that wait to enter, since these are in
//! memory already.

use crate::error::Error;
use std::cell::Cell;
use tokio::sync::{Semaphore, SemaphorePermit};

/// How a request passes the door.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// In the order of arrival.
    Usual,
    /// With the gate `PriorityRequest`, revocations of leases have as many units of their own, which
    /// they use while the others are taken. So they do not wait for other requests.
    First,
}

/// The maximum of requests in progress at all workers together, in units of [`DOOR_UNIT_BYTES`].
/// Further requests wait at their worker's door. With as many urgent ones (see [`Urgency`]), this
/// bounds every queue that a request passes through, and the entries that are proposed and not yet
/// applied.
pub(crate) const DOOR_UNITS: usize = 4_096;
/// A request takes one unit, and one more for each full block of this many bytes.
const DOOR_UNIT_BYTES: usize = 16 << 10;
/// The bytes of requests that may wait at the doors of all workers together; further requests are
/// refused.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// The bytes that a waiting request takes besides its own: for its stream and its task.
const REQUEST_OVERHEAD: usize = 1 << 10;

/// The door of one worker, on the worker's thread.
#[derive(Debug)]
pub(crate) struct Door {
    units: usize,
    permits: Semaphore,
    /// For urgent requests alone.
    urgent: Semaphore,
    waiting_bytes: Cell<usize>,
    waiting_bytes_max: usize,
}

impl Door {
    /// The door of one of `workers` workers.
    pub(crate) fn new(workers: usize) -> Door {
        let units = (DOOR_UNITS / workers.max(1)).max(1);
        Door {
            units,
            permits: Semaphore::new(units),
            urgent: Semaphore::new(units),
            waiting_bytes: Cell::new(0),
            waiting_bytes_max: WAITING_BYTES_MAX / workers.max(1),
        }
    }

    /// Waits until a request of this many bytes may enter. It is in progress until the result is
    /// dropped. Requests of the same urgency enter in the order in which they arrived.
    ///
    /// # Errors
    /// [`Error::TooManyRequests`] if too many bytes wait already.
    pub(crate) async fn enter(
        &self,
        bytes: usize,
        urgency: Urgency,
    ) -> Result<SemaphorePermit<'_>, Error> {
        let units = (1 + bytes / DOOR_UNIT_BYTES).min(self.units);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        // Fails while other requests wait, since free permits belong to them first.
        if let Ok(permit) = self.permits.try_acquire_many(units) {
            return Ok(permit);
        }
        let line = match urgency {
            Urgency::Usual => &self.permits,
            Urgency::First => match self.urgent.try_acquire_many(units) {
                Ok(permit) => return Ok(permit),
                Err(_) => &self.urgent,
            },
        };
        let _place = self.place(bytes.saturating_add(REQUEST_OVERHEAD))?;
        line.acquire_many(units).await.map_err(|_| Error::Stopped)
    }

    fn place(&self, bytes: usize) -> Result<Place<'_>, Error> {
        let waiting = self.waiting_bytes.get().saturating_add(bytes);
        if waiting > self.waiting_bytes_max {
            return Err(Error::TooManyRequests);
        }
        self.waiting_bytes.set(waiting);
        Ok(Place { door: self, bytes })
    }
}

/// A request that waits at the door.
struct Place<'a> {
    door: &'a Door,
    bytes: usize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.door.waiting_bytes.set(self.door.waiting_bytes.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn requests_beyond_the_door_wait_and_beyond_the_bytes_that_may_wait_are_refused() {
        let door = Door::new(1);
        let Poll::Ready(Ok(under_way)) = poll(pin!(door.enter(usize::MAX, Urgency::Usual))) else {
            panic!("the door is free")
        };
        let half = WAITING_BYTES_MAX / 2;
        let mut first = Box::pin(door.enter(half, Urgency::Usual));
        assert!(poll(first.as_mut()).is_pending());
        // With the overhead, two halves are too much.
        let refused = poll(pin!(door.enter(half, Urgency::Usual)));
        assert!(matches!(refused, Poll::Ready(Err(Error::TooManyRequests))), "{refused:?}");
        let mut small = Box::pin(door.enter(0, Urgency::Usual));
        assert!(poll(small.as_mut()).is_pending());

        drop(under_way);
        let Poll::Ready(Ok(first)) = poll(first.as_mut()) else { panic!("its turn has come") };
        let Poll::Ready(Ok(small)) = poll(small.as_mut()) else { panic!("its turn has come") };
        drop((first, small));
        assert_eq!(door.waiting_bytes.get(), 0);
        assert_eq!(door.permits.available_permits(), DOOR_UNITS);
    }

    #[test]
    fn a_request_that_gives_up_leaves_the_line() {
        let door = Door::new(1);
        let Poll::Ready(Ok(_under_way)) = poll(pin!(door.enter(usize::MAX, Urgency::Usual))) else {
            panic!("the door is free")
        };
        let mut waiting = Box::pin(door.enter(1 << 20, Urgency::Usual));
        assert!(poll(waiting.as_mut()).is_pending());
        assert!(door.waiting_bytes.get() > 1 << 20);
        drop(waiting);
        assert_eq!(door.waiting_bytes.get(), 0);
    }

    #[test]
    fn urgent_requests_do_not_wait_for_the_usual_ones_and_have_a_bound_too() {
        let door = Door::new(1);
        let Poll::Ready(Ok(usual)) = poll(pin!(door.enter(usize::MAX, Urgency::Usual))) else {
            panic!("the door is free")
        };
        let mut waiting = Box::pin(door.enter(0, Urgency::Usual));
        assert!(poll(waiting.as_mut()).is_pending());
        let Poll::Ready(Ok(urgent)) = poll(pin!(door.enter(usize::MAX, Urgency::First))) else {
            panic!("urgent requests have units of their own")
        };
        let mut second = Box::pin(door.enter(0, Urgency::First));
        assert!(poll(second.as_mut()).is_pending());
        drop(urgent);
        assert!(matches!(poll(second.as_mut()), Poll::Ready(Ok(_))));
        assert!(poll(waiting.as_mut()).is_pending());
        drop(usual);
        assert!(matches!(poll(waiting.as_mut()), Poll::Ready(Ok(_))));
    }
}
