//! A worker's handle on the member: everything that the services of its connections need. It
//! lives on the worker's thread, like all that holds it.

use crate::core_loop::{CoreInput, Round};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::shared::{Current, Identity, Shared};
use bytes::Bytes;
use mvcc::View;
use prost::Message as _;
use proto::answer::{Answer, Origin};
use proto::etcdserverpb::{InternalRaftRequest, RequestHeader};
use state::{Question, Reply};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use watch::Shard;

use crate::watching::Watching;

/// How often a read looks whether the member knows a leader again.
const LEADER_POLL: Duration = Duration::from_millis(10);

/// The limits that a worker holds requests to.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest request in bytes, as it is proposed.
    pub request_bytes_max: usize,
    /// How long a request may take.
    pub request_time_max: Duration,
    /// How often watchers that ask for it are told of progress.
    pub progress_interval: Duration,
    /// The limit of the database's size.
    pub quota: state::quota::Quota,
}

/// A worker's handle. Clones are the same worker.
#[derive(Clone, Debug)]
pub struct Worker(pub(crate) Rc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) limits: Limits,
    answers: RefCell<BTreeMap<u64, oneshot::Sender<Result<Answer, Error>>>>,
    replies: RefCell<BTreeMap<u64, oneshot::Sender<Reply>>>,
    pub(crate) watching: RefCell<Watching>,
    pub(crate) started: Instant,
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>, limits: Limits) -> Worker {
        let shard_limits = watch::Limits {
            fragment_from: limits.request_bytes_max + 512 * 1024,
            ..watch::Limits::default()
        };
        let revision = shared.current().published.view.revision();
        Worker(Rc::new(Inner {
            index,
            shared,
            limits,
            answers: RefCell::default(),
            replies: RefCell::default(),
            watching: RefCell::new(Watching::new(Shard::new(revision, shard_limits))),
            started: Instant::now(),
        }))
    }

    /// The current moment.
    #[must_use]
    pub fn current(&self) -> Arc<Current> {
        self.0.shared.current()
    }

    /// Who this member is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.0.shared.identity()
    }

    /// Who answers, as of now.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.shared.origin(&self.current())
    }

    /// The limits that requests are held to.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// Where everything is counted.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.0.shared.metrics
    }

    /// Counts a range that is answered from a view.
    pub fn count_range(&self) {
        self.0.shared.workers[self.0.index].ranges.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the bytes of a message that has come from a client.
    pub fn count_received(&self, bytes: usize) {
        let gauges = &self.0.shared.workers[self.0.index];
        gauges.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts the bytes of messages that go to a client.
    pub fn count_sent(&self, bytes: usize) {
        let gauges = &self.0.shared.workers[self.0.index];
        gauges.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What is applied, which is all that a serializable read needs.
    #[must_use]
    pub fn view(&self) -> View {
        self.current().published.view.clone()
    }

    /// A view that contains everything that was acknowledged before the call.
    ///
    /// # Errors
    /// [`Error::Timeout`] while there is no leader.
    pub async fn linearizable_view(&self) -> Result<View, Error> {
        let current = self.current();
        if current.is_linearizable {
            return Ok(current.published.view.clone());
        }
        let deadline = Instant::now() + self.0.limits.request_time_max;
        while Instant::now() < deadline {
            tokio::time::sleep(LEADER_POLL).await;
            let current = self.current();
            if current.is_linearizable {
                return Ok(current.published.view.clone());
            }
        }
        Err(Error::Timeout)
    }

    /// Has a request committed and applied. Its header is filled in here.
    ///
    /// # Errors
    /// See [`Error`]; after [`Error::Timeout`] it may yet be carried out.
    pub async fn propose(&self, mut request: InternalRaftRequest) -> Result<Answer, Error> {
        let id = self.0.shared.next_id();
        request.header = Some(RequestHeader { id, ..RequestHeader::default() });
        let data = Bytes::from(request.encode_to_vec());
        if data.len() > self.0.limits.request_bytes_max {
            return Err(Error::RequestTooLarge);
        }
        let physical = request.compaction.filter(|compaction| compaction.physical);
        let (sender, mut receiver) = oneshot::channel();
        self.0.answers.borrow_mut().insert(id, sender);
        let worker = self.0.index;
        self.0.shared.send(CoreInput::Propose { worker, id, data })?;
        match tokio::time::timeout(self.0.limits.request_time_max, &mut receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Stopped),
            // The time is for applying it; a physical compaction may then take as long as it does.
            Err(_) if physical.is_some_and(|it| it.revision <= self.view().compact_revision()) => {
                receiver.await.unwrap_or(Err(Error::Stopped))
            }
            Err(_) => {
                self.0.answers.borrow_mut().remove(&id);
                Err(Error::Timeout)
            }
        }
    }

    /// The id that a lease gets whose client leaves the choice to the server: positive.
    #[must_use]
    pub fn new_lease_id(&self) -> i64 {
        loop {
            let id = (self.0.shared.next_id() & 0x7fff_ffff_ffff_ffff).cast_signed();
            if id != 0 {
                return id;
            }
        }
    }

    /// Asks what needs no entry.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`].
    pub async fn ask(&self, question: Question) -> Result<Reply, Error> {
        let id = self.0.shared.next_id();
        let (sender, receiver) = oneshot::channel();
        self.0.replies.borrow_mut().insert(id, sender);
        self.0.shared.send(CoreInput::Ask { worker: self.0.index, id, question })?;
        match tokio::time::timeout(self.0.limits.request_time_max, receiver).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => {
                self.0.replies.borrow_mut().remove(&id);
                Err(Error::Timeout)
            }
        }
    }

    /// The file with everything in it that is applied by now.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub async fn flushed_file(&self) -> Result<bolt::View, Error> {
        let (sender, receiver) = oneshot::channel();
        self.0.shared.send(CoreInput::Flush(sender))?;
        receiver.await.map_err(|_| Error::Stopped)
    }

    /// Whether a request of this cost fits the quota. If not, the alarm is asked for.
    #[must_use]
    pub fn fits_quota(&self, cost: u64) -> bool {
        let size = self.current().published.view.read().file().map_or(0, bolt::View::size);
        let fits = self.0.limits.quota.fits(size, cost);
        if !fits && self.0.shared.send(CoreInput::RaiseNoSpace).is_err() {
            tracing::debug!("the core is gone");
        }
        fits
    }

    /// Takes what one round of the core brought.
    pub(crate) fn take(&self, round: Round) {
        let mut answers = self.0.answers.borrow_mut();
        for (id, result) in round.answers {
            // Whoever waited may have given up.
            if let Some(waiting) = answers.remove(&id)
                && waiting.send(result).is_err()
            {
                tracing::debug!(id, "nobody waits for the answer any more");
            }
        }
        drop(answers);
        let mut replies = self.0.replies.borrow_mut();
        for (id, reply) in round.replies {
            if let Some(waiting) = replies.remove(&id)
                && waiting.send(reply).is_err()
            {
                tracing::debug!(id, "nobody waits for the reply any more");
            }
        }
        drop(replies);
        if !round.events.is_empty() {
            self.on_events(&round.events);
        }
    }
}
