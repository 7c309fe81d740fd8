//! The glue between a worker's shard of watchers and its streams: events go in, responses come
//! out as long as a client keeps up.

use crate::worker::Worker;
use auth::Permitted;
use mvcc::EventBatch;
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use watch::{Budget, CatchUp, CreateRequest, Response, Shard, StreamId};

/// How many bytes may be on their way to one client before its stream has to wait.
const IN_FLIGHT_MAX: usize = 1024 * 1024;
/// How often progress is looked at.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);

/// Takes responses, in order.
pub type Deliver = Rc<dyn Fn(Vec<Response>)>;

/// The watchers of a worker and where their responses go.
pub(crate) struct Watching {
    shard: Shard,
    streams: BTreeMap<StreamId, Out>,
    catching_up: bool,
    ticking: bool,
}

struct Out {
    deliver: Deliver,
    in_flight: usize,
}

impl fmt::Debug for Watching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watching").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl Watching {
    pub(crate) fn new(shard: Shard) -> Watching {
        Watching { shard, streams: BTreeMap::new(), catching_up: false, ticking: false }
    }
}

fn gauge(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// One stream of watches. Dropping it ends every watch on it.
#[derive(Debug)]
pub struct Stream {
    worker: Worker,
    id: StreamId,
}

impl Worker {
    /// Opens a stream of watches; `deliver` takes what it has to say.
    #[must_use]
    pub fn open_watch_stream(&self, deliver: Deliver) -> Stream {
        let id = {
            let mut watching = self.0.watching.borrow_mut();
            let interval = self.0.limits.progress_interval.as_millis();
            let interval = u64::try_from(interval).unwrap_or(u64::MAX);
            // Not all streams are due together: up to a tenth later.
            let jitter = (interval / 10).min(self.0.shared.next_id() % (interval / 10 + 1));
            let id = watching.shard.open_stream(self.now_ms(), interval.saturating_add(jitter));
            watching.streams.insert(id, Out { deliver, in_flight: 0 });
            self.metrics().store.watch.streams.inc();
            id
        };
        self.keep_ticking();
        Stream { worker: self.clone(), id }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Tells watchers what has happened.
    pub(crate) fn on_events(&self, batches: &[Arc<EventBatch>]) {
        let view = self.view();
        let mut watching = self.0.watching.borrow_mut();
        for batch in batches {
            if batch.revision <= watching.shard.revision() {
                // It was in the view already when the first watcher came.
                continue;
            }
            if let Err(error) = watching.shard.on_events(batch, &view) {
                tracing::error!(%error, "cannot read what watchers want to know");
                std::process::abort();
            }
        }
        drop(watching);
        self.send_ready();
        self.keep_catching_up();
    }

    /// Hands out responses to every stream whose client keeps up. Whatever changes the shard ends
    /// here, so that here its gauges are brought up to date.
    fn send_ready(&self) {
        loop {
            let ready = self.0.watching.borrow_mut().shard.next_ready();
            let Some(stream) = ready else { break };
            self.send(stream);
        }
        self.tell_gauges(&self.0.watching.borrow().shard);
    }

    fn tell_gauges(&self, shard: &Shard) {
        self.0.shared.workers[self.0.index].watch.set(&shard.stats());
    }

    fn send(&self, stream: StreamId) {
        let origin = self.origin();
        let mut responses = Vec::new();
        let mut watching = self.0.watching.borrow_mut();
        let Watching { shard, streams, .. } = &mut *watching;
        let Some(out) = streams.get_mut(&stream) else { return };
        let in_flight = out.in_flight;
        while out.in_flight < IN_FLIGHT_MAX
            && let Some(response) = shard.next(stream, &origin)
        {
            out.in_flight += response.len();
            responses.push(response);
        }
        if responses.is_empty() {
            return;
        }
        self.metrics().memory.watch_queues.add(gauge(out.in_flight - in_flight));
        let deliver = Rc::clone(&out.deliver);
        drop(watching);
        deliver(responses);
    }

    /// Reads history for the watchers that are behind, between other work.
    fn keep_catching_up(&self) {
        {
            let mut watching = self.0.watching.borrow_mut();
            if watching.catching_up || !watching.shard.has_behind() {
                return;
            }
            watching.catching_up = true;
        }
        let worker = self.clone();
        tokio::task::spawn_local(async move {
            loop {
                let view = worker.view();
                let step = worker.0.watching.borrow_mut().shard.catch_up(&view, &Budget::default());
                worker.send_ready();
                match step {
                    Ok(CatchUp::More) => tokio::task::yield_now().await,
                    Ok(CatchUp::Done | CatchUp::AwaitView) => break,
                    Err(error) => {
                        tracing::error!(%error, "cannot read what watchers want to know");
                        std::process::abort();
                    }
                }
            }
            worker.0.watching.borrow_mut().catching_up = false;
        });
    }

    /// Looks at progress as long as there is a stream.
    fn keep_ticking(&self) {
        if std::mem::replace(&mut self.0.watching.borrow_mut().ticking, true) {
            return;
        }
        let worker = self.clone();
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(PROGRESS_EVERY).await;
                {
                    let mut watching = worker.0.watching.borrow_mut();
                    if watching.streams.is_empty() {
                        watching.ticking = false;
                        return;
                    }
                    watching.shard.tick(worker.now_ms());
                }
                worker.send_ready();
                worker.keep_catching_up();
            }
        });
    }
}

impl Stream {
    /// Creates a watcher; the answer comes in the stream.
    pub fn create(&self, request: Permitted<CreateRequest>) {
        let worker = &self.worker;
        // From here on this worker gets every event; what the view has already is not missed.
        let wants = &worker.0.shared.workers[worker.0.index].wants_events;
        let wanted = wants.swap(true, Ordering::SeqCst);
        let view = worker.view();
        {
            let mut watching = worker.0.watching.borrow_mut();
            if !wanted {
                watching.shard.events_lost(&view);
            }
            watching.shard.create(self.id, request, &view);
        }
        worker.send_ready();
        worker.keep_catching_up();
    }

    /// Answers that a watcher was not created.
    pub fn refuse(&self, reason: &str) {
        self.worker.0.watching.borrow_mut().shard.refuse(self.id, reason);
        self.worker.send_ready();
    }

    /// Ends a watcher.
    pub fn cancel(&self, watch_id: i64) {
        self.worker.0.watching.borrow_mut().shard.cancel(self.id, watch_id);
        self.worker.send_ready();
    }

    /// Asks how far the whole stream is.
    pub fn request_progress(&self) {
        self.worker.0.watching.borrow_mut().shard.request_progress(self.id);
        self.worker.send_ready();
    }

    /// The client has taken this many bytes.
    pub fn drained(&self, bytes: usize) {
        {
            let mut watching = self.worker.0.watching.borrow_mut();
            let Some(out) = watching.streams.get_mut(&self.id) else { return };
            let drained = bytes.min(out.in_flight);
            out.in_flight -= drained;
            self.worker.metrics().memory.watch_queues.sub(gauge(drained));
        }
        self.worker.send(self.id);
        self.worker.send_ready();
        self.worker.keep_catching_up();
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut watching = self.worker.0.watching.borrow_mut();
        watching.shard.close_stream(self.id);
        self.worker.tell_gauges(&watching.shard);
        let Some(out) = watching.streams.remove(&self.id) else { return };
        let metrics = self.worker.metrics();
        metrics.memory.watch_queues.sub(gauge(out.in_flight));
        metrics.store.watch.streams.dec();
    }
}
