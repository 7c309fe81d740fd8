//! The watch streams of a worker. Events go into its shard; responses come out as long as the
//! client keeps up.

use crate::worker::Worker;
use crate::worker_watches::{Deliver, Delivery, WorkerWatches};
use auth::Permitted;
use mvcc::EventBatch;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use watch::{Budget, CatchUp, ConnectionId, CreateRequest, Shard, StreamId, WatcherPlace};

/// The bytes in flight to one client above which its stream waits.
const IN_FLIGHT_MAX: usize = 1024 * 1024;
/// The time between two checks for due progress notifications.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

fn gauge(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Ends the process, since watchers would miss events if the history cannot be read.
fn unreadable(error: &mvcc::Error) -> ! {
    tracing::error!(%error, "cannot read the history for watchers");
    std::process::abort()
}

/// One stream of watches. Dropping it ends every watch on it.
#[derive(Debug)]
pub struct Stream {
    worker: Worker,
    id: StreamId,
}

impl Worker {
    /// Opens a watch stream of a connection. The caller chooses the connection's number; `deliver`
    /// takes the responses.
    #[must_use]
    pub fn open_watch_stream(&self, connection: ConnectionId, deliver: Deliver) -> Stream {
        let id = {
            let mut watches = self.0.watches.borrow_mut();
            let interval = self.0.limits.progress_interval.as_millis();
            let interval = u64::try_from(interval).unwrap_or(u64::MAX);
            // Adds up to a tenth, so that not all streams are due at the same time.
            let jitter = (interval / 10).min(self.0.next_id() % (interval / 10 + 1));
            let interval = interval.saturating_add(jitter);
            let id = watches.shard.open_stream(connection, self.now_ms(), interval);
            watches.streams.insert(id, Delivery { deliver, in_flight: 0 });
            self.metrics().store.watch.streams.inc();
            id
        };
        self.keep_ticking();
        Stream { worker: self.clone(), id }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Passes events to the watchers. `None` means that events were dropped, so the watchers must
    /// read history.
    pub(crate) fn on_events(&self, batches: Option<&[Arc<EventBatch>]>) {
        let view = self.view();
        let mut watches = self.0.watches.borrow_mut();
        match batches {
            None => watches.shard.events_lost(&view),
            Some(batches) => {
                for batch in batches {
                    // The shard began with the view at the creation of its first watcher, which may
                    // contain these events already.
                    if batch.revision > watches.shard.revision()
                        && let Err(error) = watches.shard.on_events(batch, &view)
                    {
                        unreadable(&error);
                    }
                }
            }
        }
        drop(watches);
        self.send_ready();
        self.keep_catching_up();
    }

    /// Sends responses to every stream whose client keeps up. Every change of the shard is followed
    /// by this call, so the gauges are updated here.
    fn send_ready(&self) {
        loop {
            let ready = self.0.watches.borrow_mut().shard.next_ready();
            let Some(stream) = ready else { break };
            self.send(stream);
        }
        self.update_gauges(&self.0.watches.borrow().shard);
    }

    /// The watchers of all workers.
    fn watchers(&self) -> usize {
        let workers = self.0.shared.workers.iter();
        workers.map(|worker| worker.gauges.watch.watchers()).sum()
    }

    fn update_gauges(&self, shard: &Shard) {
        self.0.gauges().watch.set(&shard.stats());
    }

    fn send(&self, stream: StreamId) {
        let origin = self.origin();
        let mut responses = Vec::new();
        let mut watches = self.0.watches.borrow_mut();
        let WorkerWatches { shard, streams, .. } = &mut *watches;
        let Some(delivery) = streams.get_mut(&stream) else { return };
        let in_flight = delivery.in_flight;
        while delivery.in_flight < IN_FLIGHT_MAX
            && let Some(response) = shard.next(stream, &origin)
        {
            delivery.in_flight += response.len();
            responses.push(response);
        }
        if responses.is_empty() {
            return;
        }
        self.metrics().memory.watch_queues.add(gauge(delivery.in_flight - in_flight));
        let deliver = Rc::clone(&delivery.deliver);
        drop(watches);
        deliver(responses);
    }

    /// Reads history for the watchers that are behind, in pieces between other work.
    fn keep_catching_up(&self) {
        {
            let mut watches = self.0.watches.borrow_mut();
            if watches.catching_up || !watches.shard.has_behind() {
                return;
            }
            watches.catching_up = true;
        }
        let worker = self.clone();
        tokio::task::spawn_local(async move {
            loop {
                let view = worker.view();
                let step = worker.0.watches.borrow_mut().shard.catch_up(&view, &Budget::default());
                worker.send_ready();
                match step {
                    Ok(CatchUp::More) => tokio::task::yield_now().await,
                    Ok(CatchUp::Done | CatchUp::AwaitView) => break,
                    Err(error) => {
                        unreadable(&error);
                    }
                }
            }
            worker.0.watches.borrow_mut().catching_up = false;
        });
    }

    /// Checks for due progress notifications as long as there is a stream.
    fn keep_ticking(&self) {
        if std::mem::replace(&mut self.0.watches.borrow_mut().ticking, true) {
            return;
        }
        let worker = self.clone();
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(PROGRESS_EVERY).await;
                {
                    let mut watches = worker.0.watches.borrow_mut();
                    if watches.streams.is_empty() {
                        watches.ticking = false;
                        return;
                    }
                    watches.shard.tick(worker.now_ms());
                }
                worker.send_ready();
                worker.keep_catching_up();
            }
        });
    }
}

impl Stream {
    /// Creates a watcher; the response comes in the stream. `held` is dropped when the watcher ends
    /// or is refused.
    pub fn create(&self, request: Permitted<CreateRequest>, held: Option<WatcherPlace>) {
        let worker = &self.worker;
        // The worker gets every event that is published after `wants_events` is set. The view is
        // read after that, so it contains all earlier events.
        let wants = &worker.0.gauges().wants_events;
        let wanted = wants.swap(true, Ordering::SeqCst);
        let view = worker.view();
        {
            let mut watches = worker.0.watches.borrow_mut();
            if !wanted {
                watches.shard.events_lost(&view);
            }
            // Other workers may create watchers at the same time, so the limit can be exceeded by
            // the number of workers.
            if worker.watchers() >= worker.0.limits.watchers.total {
                watches.shard.refuse_for_limit(self.id);
            } else {
                watches.shard.create_holding(self.id, request, &view, held);
            }
        }
        worker.send_ready();
        worker.keep_catching_up();
    }

    /// Responds that a watcher was not created.
    pub fn refuse(&self, reason: &str) {
        self.worker.0.watches.borrow_mut().shard.refuse(self.id, reason);
        self.worker.send_ready();
    }

    /// Ends a watcher.
    pub fn cancel(&self, watch_id: i64) {
        self.worker.0.watches.borrow_mut().shard.cancel(self.id, watch_id);
        self.worker.send_ready();
    }

    /// Requests a progress notification for the whole stream.
    pub fn request_progress(&self) {
        self.worker.0.watches.borrow_mut().shard.request_progress(self.id);
        self.worker.send_ready();
    }

    /// Records that the client has taken this many bytes.
    pub fn drained(&self, bytes: usize) {
        {
            let mut watches = self.worker.0.watches.borrow_mut();
            let Some(delivery) = watches.streams.get_mut(&self.id) else { return };
            let drained = bytes.min(delivery.in_flight);
            delivery.in_flight -= drained;
            self.worker.metrics().memory.watch_queues.sub(gauge(drained));
        }
        self.worker.send(self.id);
        self.worker.send_ready();
        self.worker.keep_catching_up();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut watches = self.worker.0.watches.borrow_mut();
        watches.shard.close_stream(self.id);
        self.worker.update_gauges(&watches.shard);
        let Some(delivery) = watches.streams.remove(&self.id) else { return };
        let metrics = self.worker.metrics();
        metrics.memory.watch_queues.sub(gauge(delivery.in_flight));
        metrics.store.watch.streams.dec();
    }
}
