//! Starting the threads of a booted member, and ending them.

use crate::backend_writer::BackendWriter;
use crate::boot::Booted;
use crate::compactor::{AutoCompaction, Compactor};
use crate::core_loop::{Core, CoreInput, Run, WorkerInput};
use crate::log_writer::LogWriter;
use crate::metrics::Metrics;
use crate::shared::{Current, Held, Identity, Shared};
use crate::worker::{Limits, Worker};
use std::fmt;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use vfs::Vfs;

/// How a member is run.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many workers serve connections.
    pub workers: usize,
    /// The length of a tick.
    pub tick: Duration,
    /// The time between two slices of housekeeping.
    pub slice_interval: Duration,
    /// Which history is kept without anybody asking.
    pub auto_compaction: AutoCompaction,
    /// Applying a run of entries that takes longer is logged.
    pub slow_apply: Duration,
    /// How long batches are gathered before they are committed.
    pub batch_interval: Duration,
    /// How many batches are gathered at most.
    pub batch_limit: usize,
    /// How many entries stay in memory behind a snapshot.
    pub catch_up_entries: u64,
    /// How many .snap files are kept; 0 for all.
    pub snapshots_max: usize,
    /// How many segments of the log are kept; 0 for all.
    pub segments_max: usize,
    /// What requests are held to.
    pub limits: Limits,
    /// The time of the start, in milliseconds since 1970, from which request ids count on.
    pub unix_ms: u64,
    /// Where everything is counted.
    pub metrics: Arc<Metrics>,
}

/// Takes over a connection; its second argument is to be called when that has ended.
pub type TakeOver = Box<dyn Fn(TcpStream, Box<dyn FnOnce()>)>;

/// What serves the connections of a worker. Called once on each worker's thread, inside its
/// runtime.
pub trait Connections: Send + Sync + 'static {
    /// Makes the function that takes over one connection after the other, and returns at once.
    fn open(&self, worker: Worker) -> TakeOver;
}

/// A running member.
pub struct Running {
    handle: Handle,
    core: JoinHandle<Result<(), String>>,
    others: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

/// What can be done with a running member from any thread.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
    workers: Arc<Vec<UnboundedSender<WorkerInput>>>,
}

impl Handle {
    /// Gives a connection to the worker that has the fewest.
    pub fn accept(&self, connection: TcpStream) {
        let gauges = self.shared.workers.iter().enumerate();
        let fewest = gauges.min_by_key(|(_, gauge)| gauge.connections.load(Ordering::Relaxed));
        let Some((worker, gauge)) = fewest else { return };
        gauge.connections.fetch_add(1, Ordering::Relaxed);
        if self.workers[worker].send(WorkerInput::Connection(connection)).is_err() {
            tracing::debug!("a connection came after the end");
        }
    }

    /// The current moment.
    #[must_use]
    pub fn current(&self) -> Arc<Current> {
        self.shared.current()
    }

    /// Who this member is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.shared.identity()
    }

    /// How many ranges all workers have answered from views.
    #[must_use]
    pub fn ranges(&self) -> u64 {
        self.shared.workers.iter().map(|worker| worker.ranges.load(Ordering::Relaxed)).sum()
    }

    /// The bytes of all messages that came from clients, and of those that went to them.
    #[must_use]
    pub fn message_bytes(&self) -> (u64, u64) {
        let workers = self.shared.workers.iter();
        workers.fold((0, 0), |(received, sent), worker| {
            (
                received + worker.received_bytes.load(Ordering::Relaxed),
                sent + worker.sent_bytes.load(Ordering::Relaxed),
            )
        })
    }

    /// Watchers and events of all workers together; streams and bytes have gauges of their own.
    #[must_use]
    pub fn watched(&self) -> watch::Stats {
        let mut stats = watch::Stats::default();
        self.shared.workers.iter().for_each(|worker| worker.watch.add_to(&mut stats));
        stats
    }

    /// Asks the member to end; [`Running::wait`] returns then.
    pub fn stop(&self) {
        if self.shared.send(CoreInput::Stop).is_err() {
            tracing::debug!("the member has ended already");
        }
    }
}

impl Running {
    /// What can be done from any thread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Waits for the end of the member; whatever is applied is in the file then.
    ///
    /// # Errors
    /// Why it could not go on, if it was not asked to stop.
    pub fn wait(self) -> Result<(), String> {
        let result = match self.core.join() {
            Ok(result) => result,
            Err(_) => Err("the core broke one of its invariants".to_string()),
        };
        for worker in self.handle.workers.iter() {
            if worker.send(WorkerInput::Stop).is_err() {
                tracing::debug!("a worker has ended already");
            }
        }
        drop(self.handle);
        for thread in self.others {
            if thread.join().is_err() && result.is_ok() {
                return Err("a thread broke one of its invariants".to_string());
            }
        }
        result
    }
}

/// Starts the threads.
///
/// # Errors
/// When the operating system gives no threads.
pub fn start(
    vfs: Arc<dyn Vfs>,
    booted: Booted,
    options: Options,
    connections: Arc<dyn Connections>,
) -> std::io::Result<Running> {
    let log_limit = i64::try_from(raft::LOG_WINDOW_BYTES_MAX).unwrap_or(i64::MAX);
    options.metrics.memory.raft_log_limit.set(log_limit);
    let (core_sender, core_inputs) = mpsc::channel();
    let identity = Identity { cluster: booted.metadata.cluster, member: booted.metadata.node };
    let mut state = booted.state;
    let leadership = booted.member.leadership();
    let current = Current {
        published: Arc::new(state.published()),
        term: leadership.term.0,
        leader: leadership.leader,
        commit: booted.member.commit(),
        is_linearizable: false,
        held: Held::default(),
    };
    let shared = Arc::new(Shared::new(identity, current, core_sender.clone(), &options));
    let mut others = Vec::new();
    let (log, log_work) = mpsc::channel();
    let log_writer = LogWriter {
        vfs,
        wal: booted.wal,
        snap_dir: booted.snap_dir,
        keep: (options.snapshots_max, options.segments_max),
        core: core_sender.clone(),
        metrics: Arc::clone(&options.metrics),
    };
    others.push(spawn("log", move || log_writer.run(&log_work))?);
    let (backend, backend_work) = mpsc::channel();
    let backend_writer = BackendWriter {
        backend: booted.backend,
        interval: options.batch_interval,
        batches_max: options.batch_limit,
        core: core_sender,
        metrics: Arc::clone(&options.metrics),
    };
    others.push(spawn("backend", move || backend_writer.run(&backend_work))?);
    let mut workers = Vec::new();
    for index in 0..options.workers {
        let (sender, inputs) = unbounded_channel();
        workers.push(sender);
        let (shared, connections) = (Arc::clone(&shared), Arc::clone(&connections));
        let limits = options.limits;
        let run = move || serve(index, shared, limits, &*connections, inputs);
        others.push(spawn(&format!("worker-{index}"), run)?);
    }
    let core = Core {
        member: booted.member,
        state,
        shared: Arc::clone(&shared),
        log,
        backend,
        workers: workers.clone(),
        tick: options.tick,
        slice_interval: options.slice_interval,
        compactor: Compactor::new(options.auto_compaction),
        slow_apply: options.slow_apply,
        catch_up_entries: options.catch_up_entries,
        started: Instant::now(),
        metrics: options.metrics,
        run: Run::default(),
    };
    let core =
        std::thread::Builder::new().name("core".into()).spawn(move || core.run(&core_inputs))?;
    Ok(Running { handle: Handle { shared, workers: Arc::new(workers) }, core, others })
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(run)
}

/// One worker: a runtime of its own, fed by the core and the acceptors.
fn serve(
    index: usize,
    shared: Arc<Shared>,
    limits: Limits,
    connections: &dyn Connections,
    mut inputs: UnboundedReceiver<WorkerInput>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "cannot make a worker's runtime");
            return;
        }
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let worker = Worker::new(index, Arc::clone(&shared), limits);
        let open = connections.open(worker.clone());
        while let Some(input) = inputs.recv().await {
            match input {
                WorkerInput::Round(round) => worker.take(*round),
                WorkerInput::Connection(connection) => {
                    let shared = Arc::clone(&shared);
                    let closed = move || {
                        shared.workers[index].connections.fetch_sub(1, Ordering::Relaxed);
                    };
                    open(connection, Box::new(closed));
                }
                WorkerInput::Stop => break,
            }
        }
    });
}
