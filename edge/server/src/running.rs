//! Starts the threads of a booted member, and ends them.

use crate::connection::{Accepted, ConnectionGuard};
use crate::error::Error;
use crate::forwarding::Forwarding;
use crate::metrics::Metrics;
use crate::peers::Peers;
use crate::shared::{Identity, Shared, Surroundings};
use crate::tasks::{self, TaskSender};
use crate::threads::apply::ApplyOptions;
use crate::threads::worker::Connections;
use crate::threads::{apply, backend, consensus, log, worker};
use crate::worker::{Limits, Worker};
use cluster::Version;
use executor::{
    ApplyInput, AutoCompaction, Booted, ConsensusInput, MachineOptions, Machines, Moment,
    RequestIds,
};
use proto::{Index, NodeId};
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use vfs::Vfs;

/// The intervals and batch limits of the machines and their threads.
#[derive(Clone, Debug)]
pub struct Tuning {
    /// The length of a tick.
    pub tick: Duration,
    /// The time between two slices of housekeeping.
    pub slice_interval: Duration,
    /// The automatic compaction.
    pub auto_compaction: AutoCompaction,
    /// Applying a batch of entries that takes longer is logged.
    pub slow_apply: Duration,
    /// How long applied batches are gathered before they are committed to the database.
    pub batch_interval: Duration,
    /// The maximum number of gathered batches.
    pub batch_limit: usize,
}

/// Limits on the files and entries that are kept.
#[derive(Clone, Debug)]
pub struct RetentionLimits {
    /// How many entries stay in memory behind a snapshot.
    pub catch_up_entries: u64,
    /// How many `.snap` files are kept; 0 keeps all.
    pub snapshots_max: usize,
    /// How many segments of the log are kept; 0 keeps all.
    pub segments_max: usize,
}

/// The options of a running member.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many workers serve connections.
    pub workers: usize,
    /// Intervals and batch limits.
    pub tuning: Tuning,
    /// Limits on the files and entries that are kept.
    pub retention: RetentionLimits,
    /// The limits of requests.
    pub limits: Limits,
    /// How long a simple token is valid after its last use.
    pub token_ttl: Duration,
    /// The time of the start, in milliseconds since 1970, from which request ids count.
    pub unix_ms: u64,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// Forwards requests that only the leader can answer.
    pub forwarding: Arc<dyn Forwarding>,
}

/// The exit of a thread: its name, and an error unless it was told to stop.
type ThreadExit = (String, Result<(), String>);

/// A running member.
pub struct Running {
    handle: Handle,
    exits: Receiver<ThreadExit>,
    /// The threads of the machines in the order in which they are stopped: senders stop before
    /// their receivers.
    machines: [JoinHandle<()>; 4],
    workers: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

/// A handle on a running member, for any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    /// One for each worker.
    tasks: Arc<[TaskSender]>,
}

impl Handle {
    /// Gives a connection to the worker that has the fewest connections.
    pub fn accept(&self, connection: Accepted) {
        let workers = self.shared.workers.iter();
        let connections =
            |gauges: &crate::gauges::WorkerGauges| gauges.connections.load(Ordering::Relaxed);
        let Some(worker) = workers.min_by_key(|worker| connections(&worker.gauges)) else { return };
        if !worker.mailbox.connect(ConnectionGuard::new(&worker.gauges, connection)) {
            tracing::warn!("a connection was closed: too many wait for a worker");
        }
    }

    /// The moment that was published last.
    #[must_use]
    pub fn moment(&self) -> Arc<Moment> {
        self.shared.moment()
    }

    /// The index up to which the log is committed.
    #[must_use]
    pub fn commit(&self) -> Index {
        self.shared.commit()
    }

    /// The bytes of the log entries in memory.
    #[must_use]
    pub fn log_bytes(&self) -> usize {
        self.shared.log_bytes.load(Ordering::Relaxed)
    }

    /// The ids of this member and its cluster.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.shared.identity()
    }

    /// Requests and queries without an answer.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let workers = self.shared.workers.iter();
        workers.map(|worker| worker.gauges.waiting.load(Ordering::Relaxed)).sum()
    }

    /// How many ranges all workers have answered from views.
    #[must_use]
    pub fn ranges(&self) -> u64 {
        let workers = self.shared.workers.iter();
        workers.map(|worker| worker.gauges.ranges.load(Ordering::Relaxed)).sum()
    }

    /// The bytes of all messages received from clients, and sent to them.
    #[must_use]
    pub fn message_bytes(&self) -> (u64, u64) {
        let workers = self.shared.workers.iter().map(|worker| &worker.gauges);
        workers.fold((0, 0), |(received, sent), worker| {
            (
                received + worker.received_bytes.load(Ordering::Relaxed),
                sent + worker.sent_bytes.load(Ordering::Relaxed),
            )
        })
    }

    /// The watchers and events of all workers together. Streams and bytes have gauges of their own.
    #[must_use]
    pub fn watch_stats(&self) -> watch::Stats {
        let mut stats = watch::Stats::default();
        self.shared.workers.iter().for_each(|worker| worker.gauges.watch.add_to(&mut stats));
        stats
    }

    /// Runs `work` with a worker's handle on that worker's thread. If this future is dropped, so is
    /// the work.
    ///
    /// # Errors
    /// [`Error::TooManyRequests`] if too much waits for the worker; [`Error::Stopped`].
    pub async fn on_worker<T, W, F>(&self, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: FnOnce(Worker) -> F + Send + 'static,
        F: Future<Output = T> + 'static,
    {
        let waiting =
            |index: &usize| self.shared.workers[*index].gauges.waiting.load(Ordering::Relaxed);
        let index = (0..self.tasks.len()).min_by_key(waiting).ok_or(Error::Stopped)?;
        self.tasks[index].run(work).await
    }

    /// Reports the known versions of the other members.
    pub fn report_versions(&self, versions: BTreeMap<NodeId, Version>) {
        if let Err(error) = self.shared.ask(ApplyInput::MemberVersions(versions)) {
            tracing::debug!(%error, "the versions of the members were dropped");
        }
    }

    /// Takes a message of another member. It is dropped if too many messages wait.
    pub fn receive(&self, message: raft::Message) {
        if !self.shared.queues.consensus.push_of_peer(ConsensusInput::Message(message)) {
            tracing::debug!("dropped a message of another member: too many wait");
        }
    }

    /// Reports that a message to a member could not be sent.
    pub fn report_unreachable(&self, member: NodeId) {
        self.shared.queues.consensus.push_of_peer(ConsensusInput::Unreachable(member));
    }

    /// Reports whether a snapshot was delivered to a member.
    pub fn report_snapshot(&self, to: NodeId, delivered: bool) {
        let report = ConsensusInput::SnapshotSent { to, delivered };
        self.shared.queues.consensus.push_report(report);
    }

    /// Asks the leader to transfer its leadership to a voter.
    pub fn transfer_leadership(&self, to: NodeId) {
        self.shared.queues.consensus.push_of_peer(ConsensusInput::Transfer(to));
    }

    /// Whether the member was asked to end, or has ended.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.shared.queues.consensus.is_closed()
    }

    /// Asks the member to end. Then [`Running::wait`] returns.
    pub fn stop(&self) {
        self.shared.queues.consensus.close();
    }
}

impl Running {
    /// A handle for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits for the end of the member: by [`Handle::stop`], or by the end of any thread, which
    /// ends all others. Then all applied entries are in the database file, unless the disk failed.
    ///
    /// # Errors
    /// When a thread failed; the error has its name.
    pub fn wait(self) -> Result<(), String> {
        let first = self.exits.recv();
        let queues = &self.handle.shared.queues;
        let [consensus, apply, log, backend] = self.machines;
        queues.consensus.close();
        join(consensus);
        queues.apply.close();
        join(apply);
        queues.log.close();
        join(log);
        queues.backend.close();
        join(backend);
        self.handle.shared.workers.iter().for_each(|worker| worker.mailbox.stop());
        self.workers.into_iter().for_each(join);
        let faults = first.into_iter().chain(self.exits.try_iter());
        let mut faults = faults.filter_map(|(name, result)| Some((name, result.err()?)));
        faults.next().map_or(Ok(()), |(name, why)| Err(format!("{name}: {why}")))
    }
}

/// Waits for a thread. The thread reports its end itself, also after a panic.
fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread ended without a report");
    }
}

/// Starts the threads.
///
/// # Errors
/// When the operating system cannot create the threads.
pub fn start(
    vfs: Arc<dyn Vfs>,
    booted: Booted,
    options: Options,
    connections: Arc<dyn Connections>,
    peers: Arc<dyn Peers>,
) -> std::io::Result<Running> {
    let Options { workers, tuning, limits, metrics, .. } = options;
    let log_limit = i64::try_from(raft::LOG_WINDOW_BYTES_MAX).unwrap_or(i64::MAX);
    metrics.memory.raft_log_limit.set(log_limit);
    let identity = Identity { cluster: booted.metadata.cluster, member: booted.metadata.node };
    // One lane for each worker, one for the applier, and one for the rounds of reads.
    let ids = RequestIds::new(identity.member, options.unix_ms, workers + 2);
    let machine_options = MachineOptions {
        auto_compaction: tuning.auto_compaction,
        batch_interval: tuning.batch_interval,
        batch_limit: tuning.batch_limit,
        catch_up_entries: options.retention.catch_up_entries,
        snapshots_max: options.retention.snapshots_max,
        segments_max: options.retention.segments_max,
        ids,
        own_lane: workers,
        contexts_lane: workers + 1,
    };
    let machines = Machines::new(vfs, booted, &machine_options);
    let moment = Arc::clone(machines.applier.moment());
    peers.set_members(&moment.published.cluster);
    let (tick, forwarding, token_ttl) = (tuning.tick, options.forwarding, options.token_ttl);
    let around = Surroundings { metrics, peers, forwarding, tick, token_ttl };
    let shared = Arc::new(Shared::new(identity, moment, ids, workers, around));
    shared.set_commit(machines.consensus.member().commit());
    let (to, exits) = channel();
    let machines = start_machines(machines, &shared, &tuning, &to)?;
    let (mut threads, mut tasks) = (Vec::new(), Vec::new());
    for index in 0..workers {
        let (shared, connections) = (Arc::clone(&shared), Arc::clone(&connections));
        let (sender, queue) = tasks::queue();
        tasks.push(sender);
        let run = move || worker::run(index, &shared, limits, (&*connections, queue));
        threads.push(spawn(&format!("worker-{index}"), &to, run)?);
    }
    let handle = Handle { shared, tasks: tasks.into() };
    Ok(Running { handle, exits, machines, workers: threads })
}

fn start_machines(
    machines: Machines,
    shared: &Arc<Shared>,
    tuning: &Tuning,
    exits: &Sender<ThreadExit>,
) -> std::io::Result<[JoinHandle<()>; 4]> {
    let Machines { consensus, applier, log_writer, backend_writer } = machines;
    let Tuning { tick, slice_interval, slow_apply, .. } = *tuning;
    let apply_options = ApplyOptions { tick, slice_interval, slow_apply };
    let of = || Arc::clone(shared);
    let (for_log, for_backend, for_apply, for_consensus) = (of(), of(), of(), of());
    let log = spawn("log", exits, move || log::run(log_writer, &for_log))?;
    let backend = spawn("backend", exits, move || backend::run(backend_writer, &for_backend))?;
    let apply = spawn("apply", exits, move || apply::run(applier, &for_apply, apply_options))?;
    let consensus = spawn("consensus", exits, move || {
        consensus::run(consensus, &for_consensus, tick);
        Ok(())
    })?;
    Ok([consensus, apply, log, backend])
}

/// Starts a thread that reports its end, also after a panic.
fn spawn(
    name: &str,
    exits: &Sender<ThreadExit>,
    run: impl FnOnce() -> Result<(), String> + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let (exits, reported) = (exits.clone(), name.to_owned());
    std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        let result = catch_unwind(AssertUnwindSafe(run))
            .unwrap_or_else(|_| Err("the thread panicked; its message is above".to_owned()));
        if exits.send((reported, result)).is_err() {
            tracing::debug!("a thread ended after the member");
        }
    })
}
