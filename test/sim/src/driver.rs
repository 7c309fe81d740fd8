//! One member on one thread: the machines of `executor`, their queues, and a seeded scheduler that
//! calls them in any order that is possible with the threads of `server`. The member may stop
//! between any two calls, and a disk may fail in any of them.

use crate::seed::Seed;
use executor::boot::Files;
use executor::{
    ApplyInput, AutoCompaction, BackendInput, BootError, BootOptions, ClientMessage,
    ConsensusInput, Envelope, IdLane, LogInput, MachineOptions, Machines, RequestFailure,
    RequestIds,
};
use member::Proposal;
use prost::Message as _;
use proto::answer::Answer;
use proto::etcdserverpb::{InternalRaftRequest, RequestHeader};
use proto::{Entry, Index, NodeId};
use state::{LeaseQuery, Published, Question, Reject, Reply, State};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use vfs::{SimDisk, Vfs};

const TICK: Duration = Duration::from_millis(100);
/// The lanes of request ids: clients, the member itself, and its rounds of reads.
const LANES: usize = 3;

/// An observation of a member.
#[derive(Debug)]
pub enum Observation {
    /// Entries were handed to the log. They replace those that it holds from the first one on.
    Appending(Vec<Entry>),
    /// An entry was handed out for applying.
    Applying(Entry),
    /// A request was answered.
    Answer(u64, Result<Answer, Reject>),
    /// A query was answered.
    Reply(Reply),
    /// A moment was published.
    Moment {
        /// The last entry that it contains.
        applied: Index,
        /// Its revision.
        revision: i64,
        /// Whether reading it is a linearizable read.
        is_linearizable: bool,
    },
    /// Watchers were sent the events of these revisions.
    Events(Vec<i64>),
}

/// The inputs that wait for each machine.
#[derive(Debug, Default)]
struct Queues {
    consensus: VecDeque<ConsensusInput>,
    apply: VecDeque<ApplyInput>,
    log: VecDeque<LogInput>,
    backend: VecDeque<BackendInput>,
}

/// A running member.
#[derive(Debug)]
pub struct Driver {
    machines: Machines,
    queues: Queues,
    ids: IdLane,
    now: Duration,
    id: NodeId,
    observations: Vec<Observation>,
    /// Why a machine failed. The others may go on for a while, as threads do.
    failed: Option<String>,
}

impl Driver {
    /// Starts a member. Its request ids differ from those of every other `start`.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn boot(disk: &SimDisk, options: &BootOptions, start: u64) -> Result<Driver, BootError> {
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        Driver::boot_on(&vfs, options, start)
    }

    /// As [`Driver::boot`], on any disk.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn boot_on(
        vfs: &Arc<dyn Vfs>,
        options: &BootOptions,
        start: u64,
    ) -> Result<Driver, BootError> {
        let files = Files::open(vfs, options)?;
        let keys = files.read_keys();
        let log = files.open_log()?;
        let booted = files.start(keys, log)?;
        let id = booted.metadata.node;
        let ids = RequestIds::new(id, start << 20, LANES);
        let machine_options = MachineOptions {
            auto_compaction: AutoCompaction::Off,
            batch_interval: TICK,
            batch_limit: usize::MAX,
            catch_up_entries: 20,
            snapshots_max: 2,
            segments_max: 2,
            ids,
            own_lane: 1,
            contexts_lane: 2,
        };
        Ok(Driver {
            machines: Machines::new(Arc::clone(vfs), booted, &machine_options),
            queues: Queues::default(),
            ids: ids.lane(0),
            now: Duration::ZERO,
            id,
            observations: Vec::new(),
            failed: None,
        })
    }

    /// The last entry in the log.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.machines.log_writer.wal().last_index()
    }

    /// The database file as of the last commit.
    #[must_use]
    pub fn file(&self) -> bolt::View {
        self.machines.backend_writer.backend().view()
    }

    /// The last entry whose effects are in the database file.
    #[must_use]
    pub fn in_file(&self) -> Index {
        self.machines.backend_writer.backend().applied().index
    }

    /// The moment that readers see.
    #[must_use]
    pub fn published(&self) -> &Published {
        &self.machines.applier.moment().published
    }

    /// The replicated state.
    #[must_use]
    pub fn state(&self) -> &State {
        self.machines.applier.state()
    }

    /// This member's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// True once linearizable reads are served at once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.machines.applier.moment().is_linearizable()
    }

    /// Returns the observations since the last call.
    pub fn take_observations(&mut self) -> Vec<Observation> {
        std::mem::take(&mut self.observations)
    }

    /// Submits a client's request. Returns its id.
    pub fn submit(&mut self, mut request: InternalRaftRequest) -> u64 {
        let id = self.ids.next_id();
        request.header = Some(RequestHeader { id, ..RequestHeader::default() });
        if let Some(v2) = &mut request.v2 {
            v2.id = Some(id);
        }
        let data = request.encode_to_vec().into();
        self.queues.consensus.push_back(ConsensusInput::Propose(Proposal::request(id, data)));
        id
    }

    /// Submits a query, which needs no entry. Returns the reply if it is ready at once.
    ///
    /// # Errors
    /// When the member must stop.
    pub fn ask(&mut self, query: LeaseQuery) -> Result<Option<Reply>, String> {
        let id = self.ids.next_id();
        let question = Question { caller: None, query };
        self.apply_input(ApplyInput::Ask(id, question))?;
        match self.observations.pop() {
            Some(Observation::Reply(reply)) => Ok(Some(reply)),
            other => {
                self.observations.extend(other);
                Ok(None)
            }
        }
    }

    /// Makes one call of some machine. Returns false if nothing can happen before the next tick.
    ///
    /// # Errors
    /// When the member stops.
    pub fn step(&mut self, seed: &mut Seed) -> Result<bool, String> {
        if self.failed.is_some() && seed.one_in(4) {
            return self.stop().map(|()| false);
        }
        if seed.one_in(40) {
            self.queue_ticks();
        }
        let Machines { consensus, applier, log_writer, backend_writer } = &self.machines;
        let has_consensus = !self.queues.consensus.is_empty() || consensus.has_round();
        let has_log = !self.queues.log.is_empty() || log_writer.has_work();
        let has_apply = !self.queues.apply.is_empty() || applier.can_apply();
        let has_backend = !self.queues.backend.is_empty() || backend_writer.has_batches();
        let has_housekeeping = applier.has_housekeeping();
        if !(has_consensus || has_log || has_apply || has_backend || has_housekeeping) {
            return Ok(false);
        }
        match seed.below(24) {
            0..6 if has_consensus => self.consensus_round(1 + seed.place(8)),
            6..14 if has_log => self.log_step(),
            14..20 if has_apply => self.apply_step(seed.one_in(2))?,
            20..22 if has_backend => self.backend_step(Some(seed)),
            22 if has_housekeeping => self.housekeep()?,
            23 if seed.one_in(10) => self.commit(0),
            // The chosen machine has nothing to do, or is slow.
            _ => {}
        }
        Ok(true)
    }

    /// Works until nothing is left to do.
    ///
    /// # Errors
    /// When the member stops.
    pub fn settle(&mut self) -> Result<(), String> {
        loop {
            let Machines { consensus, applier, log_writer, backend_writer } = &self.machines;
            let wake = consensus.wake_for();
            let is_woken = self.queues.consensus.iter().any(|input| wake.contains(input));
            if is_woken || consensus.has_round() {
                self.consensus_round(usize::MAX);
            } else if !self.queues.log.is_empty() || log_writer.has_work() {
                self.log_step();
            } else if !self.queues.apply.is_empty() || applier.can_apply() {
                self.apply_step(true)?;
            } else if !self.queues.backend.is_empty() || backend_writer.has_batches() {
                self.backend_step(None);
            } else if applier.has_housekeeping() {
                self.housekeep()?;
            } else {
                return self.stop();
            }
            if self.failed.is_some() {
                return self.stop();
            }
        }
    }

    /// Stops in an orderly way, like the server.
    ///
    /// # Errors
    /// When the log cannot be closed.
    pub fn close(self) -> Result<(), String> {
        self.machines.log_writer.close().map_err(|error| error.to_string())
    }

    /// Advances by a tick, which consensus and the applier handle at once.
    ///
    /// # Errors
    /// When the member stops.
    pub fn tick(&mut self) -> Result<(), String> {
        self.now += TICK;
        let mut out = Vec::new();
        self.machines.consensus.take(ConsensusInput::Tick, &mut out);
        self.route(out);
        self.apply_input(ApplyInput::Tick)
    }

    fn queue_ticks(&mut self) {
        self.now += TICK;
        self.queues.consensus.push_back(ConsensusInput::Tick);
        self.queues.apply.push_back(ApplyInput::Tick);
    }

    /// Records the first failure.
    fn fail(&mut self, why: String) {
        self.failed.get_or_insert(why);
    }

    fn stop(&self) -> Result<(), String> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// Delivers messages.
    fn route(&mut self, messages: Vec<Envelope>) {
        for message in messages {
            match message {
                Envelope::Consensus(input) => self.queues.consensus.push_back(input),
                Envelope::Apply(input) => {
                    if let ApplyInput::Committed { entries, .. } = &input {
                        self.observations
                            .extend(entries.iter().cloned().map(Observation::Applying));
                    }
                    self.queues.apply.push_back(input);
                }
                Envelope::Log(input) => {
                    if let LogInput::Append(append) = &input {
                        self.observations.push(Observation::Appending(append.entries.clone()));
                    }
                    self.queues.log.push_back(input);
                }
                Envelope::Backend(input) => self.queues.backend.push_back(input),
                Envelope::Client(message) => self.observe(message),
                Envelope::Peers(_) | Envelope::PeerSnapshot(..) => {
                    self.fail("a sole member sends messages".into())
                }
            }
        }
    }

    fn observe(&mut self, message: ClientMessage) {
        match message {
            ClientMessage::Answer(id, Ok(answer)) => {
                self.observations.push(Observation::Answer(id, Ok(answer)))
            }
            ClientMessage::Answer(id, Err(RequestFailure::Rejected(reject))) => {
                self.observations.push(Observation::Answer(id, Err(reject)));
            }
            ClientMessage::Answer(_, Err(RequestFailure::TooManyRequests)) => {
                self.fail("a request was refused, though few were under way".into());
            }
            ClientMessage::Reply(_, reply) => self.observations.push(Observation::Reply(reply)),
            ClientMessage::Publish(moment) => self.observations.push(Observation::Moment {
                applied: moment.published.applied.index,
                revision: moment.published.view.revision(),
                is_linearizable: moment.is_linearizable(),
            }),
            ClientMessage::Events(batches) => {
                self.observations.push(Observation::Events(
                    batches.iter().map(|batch| batch.revision).collect(),
                ));
            }
            ClientMessage::File(..)
            | ClientMessage::EventsLost
            | ClientMessage::Tokens(_)
            | ClientMessage::ReadReady(_)
            | ClientMessage::ReadRefused(_)
            | ClientMessage::Status(..) => {}
        }
    }

    /// A round of consensus with at most this many inputs.
    fn consensus_round(&mut self, inputs: usize) {
        let mut out = Vec::new();
        let inputs = inputs.min(self.queues.consensus.len());
        for input in self.queues.consensus.drain(..inputs) {
            self.machines.consensus.take(input, &mut out);
        }
        self.machines.consensus.end_round(&mut out);
        self.route(out);
    }

    fn apply_input(&mut self, input: ApplyInput) -> Result<(), String> {
        let mut out = Vec::new();
        let taken = self.machines.applier.take(self.now, input, &mut out);
        self.route(out);
        taken.map_err(|fatal| fatal.to_string())
    }

    /// Lets the applier take an input, or apply a batch.
    fn apply_step(&mut self, prefers_input: bool) -> Result<(), String> {
        let can_apply = self.machines.applier.can_apply();
        if (prefers_input || !can_apply)
            && let Some(input) = self.queues.apply.pop_front()
        {
            return self.apply_input(input);
        }
        let mut out = Vec::new();
        let applied = self.machines.applier.apply_next(self.now, &mut out);
        self.route(out);
        applied.map(drop).map_err(|fatal| fatal.to_string())
    }

    fn housekeep(&mut self) -> Result<(), String> {
        let mut out = Vec::new();
        let done = self.machines.applier.housekeep(self.now, &mut out);
        self.route(out);
        done.map_err(|fatal| fatal.to_string())
    }

    /// Lets the log writer do its next step.
    fn log_step(&mut self) {
        for input in self.queues.log.drain(..) {
            self.machines.log_writer.take(input);
        }
        let mut out = Vec::new();
        if let Err(error) = self.machines.log_writer.step(&mut out) {
            self.fail(format!("the log cannot be written: {error}"));
        }
        self.route(out);
    }

    /// Lets the backend writer take its inputs and commit some of the queued batches; all of them
    /// if there is no seed.
    fn backend_step(&mut self, seed: Option<&mut Seed>) {
        let mut batches = 0;
        for input in self.queues.backend.drain(..) {
            self.machines.backend_writer.take(self.now, input);
        }
        if self.machines.backend_writer.has_batches() {
            batches = self.machines.backend_writer.batches();
            if let Some(seed) = seed {
                batches = 1 + seed.place(batches);
            }
        }
        if batches > 0 {
            self.commit(batches);
        }
    }

    /// Commits the oldest batches.
    fn commit(&mut self, count: usize) {
        let mut out = Vec::new();
        let committed = self.machines.backend_writer.commit_some(self.now, count, &mut out);
        if let Err(error) = committed {
            self.fail(format!("the database cannot be written: {error}"));
        }
        self.route(out);
    }
}
