//! The queue of a machine's thread. It has three lanes: requests of clients, which are refused
//! beyond a bound; messages of other members, which are dropped beyond a bound; and messages of
//! other machines, which are always taken, since credits bound them (see `executor`). So no machine
//! ever waits for the queue of another one, and the threads cannot deadlock.

use executor::{ApplyInput, BackendInput, ConsensusInput, LogInput, WakeFor};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The maximum number of messages of machines in a queue. Credits keep the number far below it;
/// more messages mean that credits are counted wrongly.
const MESSAGES_MAX: usize = 16_384;

/// The maximum bytes of requests in a queue. The door alone does not bound them: a request that has
/// timed out leaves the door, but stays in the queue while the thread hangs.
const REQUEST_BYTES_MAX: usize = 64 << 20;

/// The maximum number of messages of other members in a queue. Further ones are dropped, as the
/// network may drop them.
const PEER_MESSAGES_MAX: usize = 4_096;

/// Why a request was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PushError {
    /// The maximum of requests is queued.
    Full,
    /// The thread has ended or is ending.
    Closed,
}

/// An item of a queue.
pub(crate) trait Item {
    /// Whether it wakes a reader that waits for these inputs. `wake` then holds what the reader
    /// still waits for.
    fn wakes(&self, _wake: &mut WakeFor) -> bool {
        true
    }

    /// The bytes of the client's request in it.
    fn request_bytes(&self) -> usize {
        0
    }
}

impl Item for ConsensusInput {
    fn wakes(&self, wake: &mut WakeFor) -> bool {
        wake.contains(self)
    }

    fn request_bytes(&self) -> usize {
        if let ConsensusInput::Propose(proposal) = self { proposal.data.len() } else { 0 }
    }
}

impl Item for ApplyInput {}
impl Item for LogInput {}
impl Item for BackendInput {
    fn wakes(&self, wake: &mut WakeFor) -> bool {
        wake.counts(self)
    }
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
    /// All lanes, in the order of arrival.
    items: VecDeque<T>,
    /// How many of them are requests.
    requests: usize,
    request_bytes: usize,
    /// How many of them are messages of other members.
    of_peers: usize,
    closed: bool,
    /// The inputs that wake the sleeping reader; `None` if it does not sleep.
    waiting: Option<WakeFor>,
}

impl<T: Item> Queue<T> {
    /// An empty queue that takes this many requests.
    pub(crate) fn new(requests_max: usize) -> Queue<T> {
        let lanes = Lanes {
            items: VecDeque::new(),
            requests: 0,
            request_bytes: 0,
            of_peers: 0,
            closed: false,
            waiting: None,
        };
        Queue { lanes: Mutex::new(lanes), ready: Condvar::new(), requests_max }
    }

    /// Ignores poisoning: only the check of [`MESSAGES_MAX`] can panic under the lock, and it
    /// leaves the lanes valid.
    fn lock(&self) -> MutexGuard<'_, Lanes<T>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request of a client.
    pub(crate) fn push_request(&self, item: T) -> Result<(), PushError> {
        let mut lanes = self.lock();
        if lanes.closed {
            return Err(PushError::Closed);
        }
        let bytes = lanes.request_bytes + item.request_bytes();
        if lanes.requests >= self.requests_max || bytes > REQUEST_BYTES_MAX {
            return Err(PushError::Full);
        }
        lanes.requests += 1;
        lanes.request_bytes = bytes;
        self.add(lanes, item);
        Ok(())
    }

    /// Queues a message of another member; false if it is dropped.
    pub(crate) fn push_of_peer(&self, item: T) -> bool {
        let mut lanes = self.lock();
        if lanes.closed || lanes.of_peers >= PEER_MESSAGES_MAX {
            return false;
        }
        lanes.of_peers += 1;
        self.add(lanes, item);
        true
    }

    /// Queues a report on a snapshot. It must not be dropped, since without it the leader sends
    /// that member nothing more. There is at most one for each snapshot that is being sent.
    pub(crate) fn push_report(&self, item: T) {
        let mut lanes = self.lock();
        if !lanes.closed {
            lanes.of_peers += 1;
            self.add(lanes, item);
        }
    }

    /// Queues a message of a machine. If the queue is closed, drops it, since the member is
    /// stopping.
    pub(crate) fn push(&self, item: T) {
        let lanes = self.lock();
        if lanes.closed {
            return;
        }
        let messages = lanes.items.len() - lanes.requests - lanes.of_peers;
        assert!(messages < MESSAGES_MAX, "credits bound the messages between machines");
        self.add(lanes, item);
    }

    fn add(&self, mut lanes: MutexGuard<'_, Lanes<T>>, item: T) {
        let woken = lanes.waiting.take_if(|wake| item.wakes(wake)).is_some();
        lanes.items.push_back(item);
        self.wake(lanes, woken);
    }

    /// Wakes the reader, outside of the lock.
    fn wake(&self, lanes: MutexGuard<'_, Lanes<T>>, woken: bool) {
        drop(lanes);
        if woken {
            self.ready.notify_one();
        }
    }

    /// Closes the queue. The reader still gets the queued items, and then learns of the end.
    pub(crate) fn close(&self) {
        let mut lanes = self.lock();
        lanes.closed = true;
        let woken = lanes.waiting.take().is_some();
        self.wake(lanes, woken);
    }

    /// Whether the queue is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Moves all queued items to the end of `into`. Waits for an item until `deadline`, or without
    /// limit if there is none. Returns false once the queue is closed and empty.
    pub(crate) fn drain(&self, into: &mut VecDeque<T>, deadline: Option<Instant>) -> bool {
        self.drain_woken_by(WakeFor::ALL, into, deadline)
    }

    /// As [`Queue::drain`], but only the inputs of `wake` end the wait. If any items are queued at the
    /// call, it returns at once.
    pub(crate) fn drain_woken_by(
        &self,
        wake: WakeFor,
        into: &mut VecDeque<T>,
        deadline: Option<Instant>,
    ) -> bool {
        let mut lanes = self.lock();
        let mut is_woken = !lanes.items.is_empty();
        while !is_woken && !lanes.closed {
            lanes.waiting = Some(wake);
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
            // A sender that wakes the reader takes `waiting`. After a spurious wake-up it is still
            // set.
            is_woken = lanes.waiting.is_none();
        }
        lanes.waiting = None;
        (lanes.requests, lanes.request_bytes, lanes.of_peers) = (0, 0, 0);
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

    /// 1 stands for a credit, 2 for a proposal.
    impl Item for u32 {
        fn wakes(&self, wake: &mut WakeFor) -> bool {
            match self {
                1 => wake.credits,
                2 => wake.proposals,
                _ => true,
            }
        }
    }

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
        assert_eq!(queue.push_request(4), Ok(()), "the bound holds for queued items");
    }

    #[test]
    fn requests_beyond_the_bytes_of_a_queue_are_refused() {
        let queue = Queue::new(8);
        let request = |bytes| {
            let data = bytes::Bytes::from(vec![0; bytes]);
            ConsensusInput::Propose(member::Proposal::request(1, data))
        };
        assert_eq!(queue.push_request(request(REQUEST_BYTES_MAX)), Ok(()));
        assert_eq!(queue.push_request(request(1)), Err(PushError::Full));
        assert_eq!(queue.push_request(ConsensusInput::Read(1)), Ok(()));
        queue.drain(&mut VecDeque::new(), None);
        assert_eq!(queue.push_request(request(1)), Ok(()), "the bound holds for queued items");
    }

    #[test]
    fn messages_of_members_beyond_the_bound_are_dropped_and_reports_are_not() {
        let queue = Queue::new(1);
        for _ in 0..PEER_MESSAGES_MAX {
            assert!(queue.push_of_peer(10));
        }
        assert!(!queue.push_of_peer(10));
        queue.push_report(11);
        assert_eq!(drained(&queue).last(), Some(&11));
        assert!(queue.push_of_peer(10), "the bound holds for queued items");
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
    fn a_reader_sleeps_through_the_items_it_does_not_wait_for() {
        let queue = Arc::new(Queue::new(8));
        let reader = {
            let queue = Arc::clone(&queue);
            std::thread::spawn(move || {
                let mut items = VecDeque::new();
                let wake = WakeFor { proposals: false, credits: false, ..WakeFor::ALL };
                queue.drain_woken_by(wake, &mut items, None);
                items
            })
        };
        while queue.lock().waiting.is_none() {
            std::thread::yield_now();
        }
        queue.push(1);
        assert_eq!(queue.push_request(2), Ok(()));
        assert!(queue.lock().waiting.is_some(), "the reader still sleeps");
        queue.push(3);
        assert_eq!(reader.join().unwrap(), [1, 2, 3]);
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
            if item % 3 == 0 {
                queue.push(item);
            } else if item % 3 == 1 {
                assert!(queue.push_of_peer(item));
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
