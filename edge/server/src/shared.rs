//! The state that the threads share: the current moment, which readers clone, the queues of the
//! machines, and the mailboxes of the workers.

use crate::door::DOOR_UNITS;
use crate::error::Error;
use crate::forwarding::Forwarding;
use crate::gauges::WorkerGauges;
use crate::mailbox::Mailbox;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::queue::{PushError, Queue};
use crate::tokens::Tokens;
use executor::{ApplyInput, BackendInput, ConsensusInput, LogInput, Moment, RequestIds};
use proto::answer::Origin;
use proto::{Index, NodeId};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The maximum number of requests in a machine's queue. It is larger than the limit of the doors,
/// since a request that times out leaves its door before the queue.
const REQUESTS_MAX: usize = 2 * DOOR_UNITS;

/// A leader that has not ticked for longer than this may have been suspended, and another leader
/// may have been elected.
///
/// Source: etcd v3.7 server/etcdserver/server.go `isActive`.
const TICKS_MISSED_MAX: u32 = 3;

/// The ids of this member and its cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id.
    pub cluster: u64,
    /// The member's id.
    pub member: NodeId,
}

/// The queues of the four machines.
#[derive(Debug)]
pub(crate) struct Queues {
    pub(crate) consensus: Queue<ConsensusInput>,
    pub(crate) apply: Queue<ApplyInput>,
    pub(crate) log: Queue<LogInput>,
    pub(crate) backend: Queue<BackendInput>,
}

impl Queues {
    fn new() -> Queues {
        Queues {
            consensus: Queue::new(REQUESTS_MAX),
            apply: Queue::new(REQUESTS_MAX),
            // Clients send no requests to these.
            log: Queue::new(0),
            backend: Queue::new(0),
        }
    }
}

/// The state that one worker shares with the other threads.
#[derive(Debug, Default)]
pub(crate) struct WorkerShared {
    pub(crate) gauges: Arc<WorkerGauges>,
    pub(crate) mailbox: Mailbox,
}

/// The time of the last tick, and of the last election that this member won.
#[derive(Debug)]
pub(crate) struct TickClock {
    started: Instant,
    tick: Duration,
    /// The time of the last tick, in milliseconds since `started`.
    last_ms: AtomicU64,
    /// When this member was last elected.
    elected: Mutex<Option<Instant>>,
}

impl TickClock {
    fn new(tick: Duration) -> TickClock {
        TickClock {
            started: Instant::now(),
            tick,
            last_ms: AtomicU64::new(0),
            elected: Mutex::default(),
        }
    }

    pub(crate) fn ticked(&self) {
        let ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_ms.store(ms, Ordering::Relaxed);
    }

    /// False if the process or the thread was suspended for longer than [`TICKS_MISSED_MAX`] ticks.
    pub(crate) fn is_recent(&self) -> bool {
        let last = Duration::from_millis(self.last_ms.load(Ordering::Relaxed));
        self.started.elapsed() <= last + self.tick * TICKS_MISSED_MAX
    }
}

/// How far consensus is.
#[derive(Debug, Default)]
struct Progress {
    /// The index up to which the log is committed.
    commit: AtomicU64,
    /// How many rounds of reads have begun.
    read_rounds: AtomicU64,
}

/// Shared by all threads.
#[derive(Debug)]
pub(crate) struct Shared {
    moment: RwLock<Arc<Moment>>,
    progress: Progress,
    /// The bytes of the entries in memory.
    pub(crate) log_bytes: AtomicUsize,
    identity: Identity,
    pub(crate) ids: RequestIds,
    pub(crate) queues: Queues,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) forwarding: Arc<dyn Forwarding>,
    pub(crate) ticks: TickClock,
    pub(crate) tokens: Tokens,
    pub(crate) workers: Vec<WorkerShared>,
}

/// The metrics, the transports and the settings of a member's threads.
pub(crate) struct Surroundings {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) forwarding: Arc<dyn Forwarding>,
    /// The length of a tick.
    pub(crate) tick: Duration,
    /// How long a simple token is valid after its last use.
    pub(crate) token_ttl: Duration,
}

impl Shared {
    pub(crate) fn new(
        identity: Identity,
        moment: Arc<Moment>,
        ids: RequestIds,
        workers: usize,
        around: Surroundings,
    ) -> Shared {
        Shared {
            moment: RwLock::new(moment),
            progress: Progress::default(),
            log_bytes: AtomicUsize::new(0),
            identity,
            ids,
            queues: Queues::new(),
            metrics: around.metrics,
            peers: around.peers,
            forwarding: around.forwarding,
            ticks: TickClock::new(around.tick),
            tokens: Tokens::new(around.token_ttl),
            workers: (0..workers).map(|_| WorkerShared::default()).collect(),
        }
    }

    pub(crate) fn identity(&self) -> Identity {
        self.identity
    }

    pub(crate) fn origin(&self, moment: &Moment) -> Origin {
        let Identity { cluster, member } = self.identity;
        Origin { cluster_id: cluster, member_id: member.0, raft_term: moment.leadership.term.0 }
    }

    /// The moment that was published last. The lock is held only to clone it, so that nothing can
    /// panic under it.
    pub(crate) fn moment(&self) -> Arc<Moment> {
        Arc::clone(&self.moment.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// When this member was last elected.
    pub(crate) fn elected(&self) -> Option<Instant> {
        *self.ticks.elected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that this member is elected now.
    pub(crate) fn set_elected(&self) {
        *self.ticks.elected.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(crate) fn publish(&self, moment: Arc<Moment>) {
        let old = {
            let mut slot = self.moment.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *slot, moment)
        };
        // Dropped outside of the lock, since dropping the last reference to a view may free much
        // memory.
        drop(old);
    }

    pub(crate) fn commit(&self) -> Index {
        Index(self.progress.commit.load(Ordering::Acquire))
    }

    /// Sets the commit index. Must be called before the entries up to it are sent to the applier,
    /// so that no published moment is ahead of it.
    pub(crate) fn set_commit(&self, commit: Index) {
        self.progress.commit.store(commit.0, Ordering::Release);
    }

    /// How many rounds of reads have begun. As long as it is the same, the index of the next round is
    /// not chosen.
    pub(crate) fn read_rounds(&self) -> u64 {
        self.progress.read_rounds.load(Ordering::SeqCst)
    }

    /// A round of reads begins. Must be called before its index is chosen.
    pub(crate) fn begin_read_round(&self) {
        self.progress.read_rounds.fetch_add(1, Ordering::SeqCst);
    }

    /// Sends a request of a client to consensus.
    pub(crate) fn propose(&self, input: ConsensusInput) -> Result<(), Error> {
        self.queues.consensus.push_request(input).map_err(refused)
    }

    /// Sends a client's query to the applier.
    pub(crate) fn ask(&self, input: ApplyInput) -> Result<(), Error> {
        self.queues.apply.push_request(input).map_err(refused)
    }
}

fn refused(error: PushError) -> Error {
    match error {
        PushError::Full => Error::TooManyRequests,
        PushError::Closed => Error::Stopped,
    }
}
