//! A worker's handle on the member, which the services of its connections use. It and its clones
//! stay on the worker's thread.

use crate::door::{Door, Urgency};
use crate::error::Error;
use crate::gauges::WorkerGauges;
use crate::mailbox::Mail;
use crate::metrics::{CLIENT_VERSIONS_MAX, Metrics};
use crate::request::EncodedRequest;
use crate::shared::{Identity, Shared};
use crate::shared_reads::{JoinedGroup, SharedReads};
use crate::worker_watches::WorkerWatches;
use auth::Caller;
use executor::{ApplyInput, ConsensusInput, IdLane, Moment};
use member::Proposal;
use mvcc::View;
use prometheus::IntCounter;
use proto::answer::{Answer, Origin};
use proto::etcdserverpb::RequestHeader;
use proto::{ConfChange, Index, NodeId, Op};
use state::{Question, Reply};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{SemaphorePermit, oneshot};
use watch::Shard;

/// The time between two checks for the leader.
pub(crate) const LEADER_POLL: Duration = Duration::from_millis(10);

/// The limits of watchers. A further watcher is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatcherLimits {
    /// On one stream.
    pub stream: usize,
    /// On all streams of one connection.
    pub connection: usize,
    /// On all connections.
    pub total: usize,
}

/// The limits of a worker's requests.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest request in bytes, as it is proposed.
    pub request_bytes_max: usize,
    /// How long a request may take.
    pub request_time_max: Duration,
    /// How often watchers that request it are told of progress.
    pub progress_interval: Duration,
    /// The limits of watchers.
    pub watchers: WatcherLimits,
    /// The limit of the database's size.
    pub quota: state::quota::Quota,
    /// Whether membership changes that could lose the quorum are refused.
    pub strict_reconfiguration: bool,
    /// The election timeout.
    pub election: Duration,
    /// A read that takes longer is counted as slow.
    pub slow_read: Duration,
    /// Whether revocations of leases do not wait for other requests: the gate `PriorityRequest`.
    pub prefers_revocations: bool,
}

/// A worker's handle. Clones are the same worker.
#[derive(Clone, Debug)]
pub struct Worker(pub(crate) Rc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) limits: Limits,
    ids: RefCell<IdLane>,
    door: Door,
    pub(crate) waiting: Waiting,
    reads: RefCell<SharedReads>,
    pub(crate) watches: RefCell<WorkerWatches>,
    clients: RefCell<Vec<ClientVersion>>,
    pub(crate) started: Instant,
}

/// The counter of a version of clients. Few versions are in use, so a worker looks through them.
#[derive(Debug)]
struct ClientVersion {
    kind: &'static str,
    version: Box<[u8]>,
    counter: IntCounter,
}

/// The waiters by the id of their requests.
type Waiters<T> = BTreeMap<u64, oneshot::Sender<T>>;

/// All waiters of a worker.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    answers: RefCell<Waiters<Result<Answer, Error>>>,
    replies: RefCell<Waiters<Reply>>,
    files: RefCell<Waiters<bolt::View>>,
    pub(crate) applied: RefCell<Waiters<Result<(), Error>>>,
    pub(crate) raft: RefCell<Waiters<Box<raft::Status>>>,
}

/// A waiting request. When it is dropped, answered or not, its waiter is removed.
pub(crate) struct PendingRequest<'a, T> {
    waiters: &'a RefCell<Waiters<T>>,
    id: u64,
    pub(crate) receiver: oneshot::Receiver<T>,
    _under_way: UnderWay<'a>,
}

impl<T> Drop for PendingRequest<'_, T> {
    fn drop(&mut self) {
        self.waiters.borrow_mut().remove(&self.id);
    }
}

/// A request that has passed the door.
struct UnderWay<'a> {
    worker: &'a Inner,
    _permit: SemaphorePermit<'a>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.worker.gauges().waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inner {
    pub(crate) fn gauges(&self) -> &WorkerGauges {
        &self.shared.workers[self.index].gauges
    }

    pub(crate) fn next_id(&self) -> u64 {
        self.ids.borrow_mut().next_id()
    }

    /// Waits at the door, then registers a waiter under a new id.
    pub(crate) async fn wait_for<'a, T>(
        &'a self,
        waiters: &'a RefCell<Waiters<T>>,
        id: u64,
        bytes: usize,
    ) -> Result<PendingRequest<'a, T>, Error> {
        self.wait_urgently_for(waiters, id, (bytes, Urgency::Usual)).await
    }

    /// As [`Inner::wait_for`], with the urgency of the request.
    async fn wait_urgently_for<'a, T>(
        &'a self,
        waiters: &'a RefCell<Waiters<T>>,
        id: u64,
        (bytes, urgency): (usize, Urgency),
    ) -> Result<PendingRequest<'a, T>, Error> {
        let under_way = self.enter(bytes, urgency).await?;
        let (sender, receiver) = oneshot::channel();
        waiters.borrow_mut().insert(id, sender);
        Ok(PendingRequest { waiters, id, receiver, _under_way: under_way })
    }

    /// Waits at the door with a request of this many bytes.
    async fn enter(&self, bytes: usize, urgency: Urgency) -> Result<UnderWay<'_>, Error> {
        let permit = self.door.enter(bytes, urgency).await?;
        self.gauges().waiting.fetch_add(1, Ordering::Relaxed);
        Ok(UnderWay { worker: self, _permit: permit })
    }

    /// Joins the reads that consensus will confirm next, or asks it to confirm this one and sets
    /// `opened`.
    fn join_reads(&self, opened: &mut bool) -> JoinedGroup {
        let mut reads = self.reads.borrow_mut();
        let begun = self.shared.read_rounds();
        if let Some(joined) = reads.join(begun) {
            return joined;
        }
        *opened = true;
        let id = self.next_id();
        let joined = reads.open(id, begun);
        if let Err(error) = self.shared.propose(ConsensusInput::Read(id)) {
            reads.end(id, Err(error));
        }
        joined
    }
}

impl Worker {
    pub(crate) fn new(index: usize, shared: Arc<Shared>, limits: Limits) -> Worker {
        let shard_limits = watch::Limits {
            fragment_from: limits.request_bytes_max + 512 * 1024,
            stream_watchers: limits.watchers.stream,
            connection_watchers: limits.watchers.connection,
            ..watch::Limits::default()
        };
        let revision = shared.moment().published.view.revision();
        let door = Door::new(shared.workers.len());
        Worker(Rc::new(Inner {
            index,
            ids: RefCell::new(shared.ids.lane(index)),
            shared,
            limits,
            door,
            waiting: Waiting::default(),
            reads: RefCell::default(),
            watches: RefCell::new(WorkerWatches::new(Shard::new(revision, shard_limits))),
            clients: RefCell::default(),
            started: Instant::now(),
        }))
    }

    /// The moment that was published last.
    #[must_use]
    pub fn moment(&self) -> Arc<Moment> {
        self.0.shared.moment()
    }

    /// The index up to which the log is committed.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.0.shared.commit()
    }

    /// The ids of this member and its cluster.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.0.shared.identity()
    }

    /// The ids and the term for the header of an answer.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.shared.origin(&self.moment())
    }

    /// The limits of requests.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The metrics.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.0.shared.metrics
    }

    /// Counts a range that is answered from a view.
    pub fn count_range(&self) {
        self.0.gauges().ranges.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts the bytes of a message that has come from a client.
    pub fn count_received(&self, bytes: usize) {
        self.0.gauges().received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts the bytes of messages that go to a client.
    pub fn count_sent(&self, bytes: usize) {
        self.0.gauges().sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A view of all entries applied here, which is enough for a serializable read.
    #[must_use]
    pub fn view(&self) -> View {
        self.moment().published.view.clone()
    }

    /// A view that contains everything that was acknowledged before the call.
    ///
    /// # Errors
    /// [`Error::Timeout`] while there is no leader; [`Error::TooManyRequests`].
    pub async fn linearizable_view(&self) -> Result<View, Error> {
        let moment = self.moment();
        if moment.is_linearizable() {
            return Ok(moment.published.view.clone());
        }
        let mut opened = false;
        let confirmed = async {
            let _under_way = self.0.enter(0, Urgency::Usual).await?;
            self.0.join_reads(&mut opened).ended().await
        };
        let timed = tokio::time::timeout(self.0.limits.request_time_max, confirmed).await;
        let result = timed.unwrap_or(Err(Error::Timeout));
        // One read counts for the group that it opened.
        if let (true, Err(error)) = (opened, &result) {
            self.count_read_index(error);
        }
        result?;
        Ok(self.view())
    }

    /// Proposes a request and waits until it is applied. Adds its header, from which the permission is
    /// checked when the entry is applied.
    ///
    /// # Errors
    /// See [`Error`]. After [`Error::Timeout`] the request may still be applied.
    pub async fn propose(&self, caller: Caller, request: EncodedRequest) -> Result<Answer, Error> {
        let (op, begun) = (request.op(), Instant::now());
        let id = self.0.next_id();
        let Caller { user, auth_revision } = caller;
        let physical = request.physical_compaction();
        let data = request.with_header(&RequestHeader { id, username: user, auth_revision });
        let result = if data.len() > self.0.limits.request_bytes_max {
            Err(Error::RequestTooLarge)
        } else {
            let is_scheduled =
                |view: &View| physical.is_some_and(|at| at <= view.compact_revision());
            let is_urgent = self.0.limits.prefers_revocations && op == Op::LeaseRevoke;
            let urgency = if is_urgent { Urgency::First } else { Urgency::Usual };
            self.proposed(Proposal::request(id, data), urgency, is_scheduled).await
        };
        self.count_proposed(op, begun, &result);
        result
    }

    /// Counts a request that was proposed at `begun`. As in etcd, a request that was applied and
    /// rejected has succeeded, and one that was refused because there are too many is not counted.
    fn count_proposed(&self, op: Op, begun: Instant, result: &Result<Answer, Error>) {
        let succeeded = matches!(result, Ok(_) | Err(Error::Rejected(_)));
        if !matches!(result, Err(Error::TooManyRequests)) {
            let seconds = begun.elapsed().as_secs_f64();
            self.metrics().requests.total.observe(op, succeeded, seconds);
        }
    }

    fn count_read_index(&self, error: &Error) {
        let metrics = &self.metrics().raft.consensus;
        if *error == Error::Timeout {
            metrics.read_indexes_slow.inc();
        } else {
            metrics.read_indexes_failed.inc();
        }
    }

    /// Counts a read from a view that took this long, if that was slow.
    pub fn count_read(&self, took: Duration) {
        if took > self.0.limits.slow_read {
            self.metrics().raft.apply.slow.inc();
        }
    }

    /// Counts a call of this kind (`unary` or `stream`), by the version that the client gives.
    pub fn count_client(&self, kind: &'static str, version: &[u8]) {
        let mut clients = self.0.clients.borrow_mut();
        let known = clients.iter().find(|it| it.kind == kind && *it.version == *version);
        if let Some(known) = known {
            return known.counter.inc();
        }
        let counter = self.metrics().requests.clients.counter(kind, version);
        counter.inc();
        if clients.len() < CLIENT_VERSIONS_MAX {
            clients.push(ClientVersion { kind, version: version.into(), counter });
        }
    }

    /// Proposes a membership change and waits until it is applied. Fills in its id.
    ///
    /// # Errors
    /// As [`Worker::propose`]. A change that is proposed while another one is not applied ends with
    /// [`Error::Timeout`].
    pub async fn propose_change(&self, mut change: ConfChange) -> Result<Answer, Error> {
        change.id = self.0.next_id();
        self.proposed(Proposal::change(&change), Urgency::Usual, |_| false).await
    }

    /// Proposes, and waits for the answer. The time is limited, unless `is_applied`.
    async fn proposed(
        &self,
        proposal: Proposal,
        urgency: Urgency,
        is_applied: impl Fn(&View) -> bool,
    ) -> Result<Answer, Error> {
        let begun = Instant::now();
        let deadline = tokio::time::Instant::now() + self.0.limits.request_time_max;
        let size = (proposal.data.len(), urgency);
        let waiting = self.0.wait_urgently_for(&self.0.waiting.answers, proposal.id, size);
        let waiting = tokio::time::timeout_at(deadline, waiting).await;
        let mut waiting = waiting.unwrap_or(Err(Error::Timeout))?;
        self.0.shared.propose(ConsensusInput::Propose(proposal))?;
        match tokio::time::timeout_at(deadline, &mut waiting.receiver).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Stopped),
            // The deadline is for applying the request. The rest of a physical compaction may take
            // longer.
            Err(_) if is_applied(&self.view()) => {
                (&mut waiting.receiver).await.unwrap_or(Err(Error::Stopped))
            }
            Err(_) => Err(self.timed_out(begun)),
        }
    }

    /// Transfers the leadership to a voter, and waits until it leads.
    ///
    /// # Errors
    /// [`Error::Timeout`] if it does not lead within the time of a request.
    pub async fn transfer_leadership(&self, to: NodeId) -> Result<(), Error> {
        self.0.shared.propose(ConsensusInput::Transfer(to))?;
        let deadline = Instant::now() + self.0.limits.request_time_max;
        while self.moment().leadership.leader != to {
            if Instant::now() >= deadline {
                return Err(Error::Timeout);
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
        Ok(())
    }

    /// The user of a simple token, whose entry has an index up to `index`; `None` if the token is
    /// not valid. Waits until this member has applied that entry, at most as long as a request may
    /// take.
    pub async fn user_of_token(&self, token: &str, index: Index) -> Option<String> {
        let deadline = Instant::now() + self.0.limits.request_time_max;
        while self.moment().published.applied.index < index {
            if Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(LEADER_POLL).await;
        }
        self.0.shared.tokens.user_of(token, Instant::now())
    }

    /// A positive id for a lease whose client lets the server choose.
    #[must_use]
    pub fn new_lease_id(&self) -> i64 {
        loop {
            let id = (self.0.next_id() & 0x7fff_ffff_ffff_ffff).cast_signed();
            if id != 0 {
                return id;
            }
        }
    }

    /// Sends the applier a query, which needs no log entry.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Stopped`], [`Error::TooManyRequests`].
    pub async fn ask(&self, question: Question) -> Result<Reply, Error> {
        let id = self.0.next_id();
        let asked = async {
            let mut waiting = self.0.wait_for(&self.0.waiting.replies, id, 0).await?;
            self.0.shared.ask(ApplyInput::Ask(id, question))?;
            (&mut waiting.receiver).await.map_err(|_| Error::Stopped)
        };
        let timed = tokio::time::timeout(self.0.limits.request_time_max, asked).await;
        timed.unwrap_or(Err(Error::Timeout))
    }

    /// Commits the database, and returns a view of the file that contains all entries applied by
    /// now. Waits for the disk.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::TooManyRequests`].
    pub async fn flushed_file(&self) -> Result<bolt::View, Error> {
        let id = self.0.next_id();
        let mut waiting = self.0.wait_for(&self.0.waiting.files, id, 0).await?;
        self.0.shared.ask(ApplyInput::Flush(id))?;
        (&mut waiting.receiver).await.map_err(|_| Error::Stopped)
    }

    /// Whether a request that needs this many bytes fits the quota. If not, requests the NOSPACE
    /// alarm.
    #[must_use]
    pub fn fits_quota(&self, cost: u64) -> bool {
        let size = self.moment().published.view.read().file().map_or(0, bolt::View::size);
        let fits = self.0.limits.quota.fits(size, cost);
        if !fits && let Err(error) = self.0.shared.ask(ApplyInput::RaiseNoSpace) {
            tracing::debug!(%error, "the alarm NOSPACE cannot be requested");
        }
        fits
    }

    /// Delivers answers to the waiting requests. A request may have ended meanwhile.
    pub(crate) fn deliver(&self, mail: &mut Mail) {
        deliver(&self.0.waiting.answers, mail.answers.drain(..));
        deliver(&self.0.waiting.replies, mail.replies.drain(..));
        deliver(&self.0.waiting.files, mail.files.drain(..));
        let reads = mail.reads.drain(..);
        let mut shared = self.0.reads.borrow_mut();
        let others = reads.filter(|(id, outcome)| !shared.end(*id, outcome.clone()));
        deliver(&self.0.waiting.applied, others);
        deliver(&self.0.waiting.raft, mail.raft.drain(..));
    }
}

fn deliver<T>(waiters: &RefCell<Waiters<T>>, answers: impl Iterator<Item = (u64, T)>) {
    let mut waiters = waiters.borrow_mut();
    for (id, answer) in answers {
        if let Some(waiter) = waiters.remove(&id)
            && waiter.send(answer).is_err()
        {
            tracing::debug!(id, "the request ended before its answer came");
        }
    }
}
