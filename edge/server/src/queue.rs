//! The queue of a machine's thread. It has two lanes: requests of clients, whose number is bounded
//! and which are refused beyond the bound; and messages of other machines, which are always taken,
//! since credits bound them (see `executor`). So no machine ever waits for another one's queue, and
//! no circle of waiting threads can form.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How many messages of machines a queue holds at most. Credits keep it far below; more would
/// mean that a credit is counted wrongly.
const MESSAGES_MAX: usize = 16_384;

/// Why a request was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    /// As many requests as the bound are queued.
    Full,
    /// The thread has ended or is ending.
    Closed,
}

/// A queue with one reader.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    lanes: Mutex<Lanes<T>>,
    ready: Condvar,
    requests_max: usize,
}

#[derive(Debug)]
struct Lanes<T> {
    /// Both lanes, in the order of arrival.
    items: VecDeque<T>,
    /// How many of them are requests.
    requests: usize,
    closed: bool,
    /// The reader sleeps.
    waiting: bool,
}

impl<T> Queue<T> {
    /// An empty queue that takes this many requests.
    pub(crate) fn new(requests_max: usize) -> Queue<T> {
        let lanes = Lanes { items: VecDeque::new(), requests: 0, closed: false, waiting: false };
        Queue { lanes: Mutex::new(lanes), ready: Condvar::new(), requests_max }
    }

    /// Nothing that can panic runs under the lock but the check of [`MESSAGES_MAX`], after which
    /// the lanes are still valid.
    fn lock(&self) -> MutexGuard<'_, Lanes<T>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request of a client.
    pub(crate) fn push_request(&self, item: T) -> Result<(), PushError> {
        let mut lanes = self.lock();
        if lanes.closed {
            return Err(PushError::Closed);
        }
        if lanes.requests >= self.requests_max {
            return Err(PushError::Full);
        }
        lanes.requests += 1;
        lanes.items.push_back(item);
        self.wake(lanes);
        Ok(())
    }

    /// Queues a message of a machine. After the end it is dropped: the member is stopping.
    pub(crate) fn push(&self, item: T) {
        let mut lanes = self.lock();
        if lanes.closed {
            return;
        }
        let messages = lanes.items.len() - lanes.requests;
        assert!(messages < MESSAGES_MAX, "credits bound the messages between machines");
        lanes.items.push_back(item);
        self.wake(lanes);
    }

    fn wake(&self, mut lanes: MutexGuard<'_, Lanes<T>>) {
        let wake = std::mem::take(&mut lanes.waiting);
        drop(lanes);
        if wake {
            self.ready.notify_one();
        }
    }

    /// Takes nothing more. The reader gets what is queued, and then learns of the end.
    pub(crate) fn close(&self) {
        let mut lanes = self.lock();
        lanes.closed = true;
        self.wake(lanes);
    }

    /// Moves everything that is queued to the end of `into`. Waits for something until `deadline`,
    /// or for ever without one. False once the queue is closed and empty.
    pub(crate) fn drain(&self, into: &mut VecDeque<T>, deadline: Option<Instant>) -> bool {
        let mut lanes = self.lock();
        while lanes.items.is_empty() && !lanes.closed {
            lanes.waiting = true;
            lanes = match deadline {
                None => self.ready.wait(lanes).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    let waited = self.ready.wait_timeout(lanes, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        lanes.waiting = false;
        lanes.requests = 0;
        let has_ended = lanes.closed && lanes.items.is_empty();
        if into.is_empty() {
            std::mem::swap(into, &mut lanes.items);
        } else {
            into.append(&mut lanes.items);
        }
        !has_ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn drained(queue: &Queue<u32>) -> Vec<u32> {
        let mut items = VecDeque::new();
        queue.drain(&mut items, Some(Instant::now()));
        items.into()
    }

    #[test]
    fn requests_beyond_the_bound_are_refused_and_messages_are_not() {
        let queue = Queue::new(2);
        assert_eq!(queue.push_request(1), Ok(()));
        queue.push(10);
        assert_eq!(queue.push_request(2), Ok(()));
        assert_eq!(queue.push_request(3), Err(PushError::Full));
        queue.push(11);
        assert_eq!(drained(&queue), [1, 10, 2, 11]);
        assert_eq!(queue.push_request(4), Ok(()), "the bound is for what is queued");
    }

    #[test]
    fn a_closed_queue_gives_what_it_holds_and_then_its_end() {
        let queue = Queue::new(2);
        queue.push(1);
        queue.close();
        assert_eq!(queue.push_request(2), Err(PushError::Closed));
        queue.push(3);
        let mut items = VecDeque::new();
        assert!(queue.drain(&mut items, None));
        assert_eq!(items, [1]);
        assert!(!queue.drain(&mut items, None));
    }

    #[test]
    fn a_waiting_reader_is_woken_by_every_way_to_push() {
        let queue = Arc::new(Queue::new(8));
        let reader = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                let (mut all, mut items) = (Vec::new(), VecDeque::new());
                while queue.drain(&mut items, None) {
                    all.extend(items.drain(..));
                }
                all
            })
        };
        for item in 0..1_000 {
            if item % 2 == 0 {
                queue.push(item);
            } else {
                while queue.push_request(item) == Err(PushError::Full) {
                    std::thread::yield_now();
                }
            }
        }
        queue.close();
        assert_eq!(reader.join().unwrap(), (0..1_000).collect::<Vec<_>>());
    }
}
