//! The thread that drives the two machines: it turns what arrives into their inputs and carries
//! out their effects. What workers are told in one round reaches each of them in one message.

use crate::backend_writer::BackendWork;
use crate::compactor::Compactor;
use crate::error::Error;
use crate::log_writer::LogWork;
use crate::metrics::Metrics;
use crate::shared::{Current, Held, Shared};
use bytes::Bytes;
use member::{Effect as MemberEffect, Input as MemberInput, Leadership, Member, Proposal, Refusal};
use mvcc::EventBatch;
use prost::Message as _;
use proto::answer::Answer;
use proto::etcdserverpb::{CompactionRequest, InternalRaftRequest, RequestHeader};
use proto::{Entry, Index, NodeId};
use raft::Receipt;
use state::{Effect, Input, Published, Question, Reply, Snapshot, State};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc::UnboundedSender;

/// The most inputs that one round takes.
const ROUND_MAX: usize = 4_096;

/// Where the file is sent, once everything that is applied is in it.
pub(crate) type Flush = tokio::sync::oneshot::Sender<bolt::View>;

/// What reaches the core.
#[derive(Debug)]
pub(crate) enum CoreInput {
    /// A worker's request.
    Propose { worker: usize, id: u64, data: Bytes },
    /// A worker's question.
    Ask { worker: usize, id: u64, question: Question },
    /// A worker wants the file with everything that is applied in it.
    Flush(Flush),
    /// The alarm for want of space, for this member, unless it is on.
    RaiseNoSpace,
    /// A write of the log is synced.
    Durable(Receipt),
    /// A .snap file up to here is durable.
    Snapshotted(Index),
    /// Batches are in the file; who wanted it as it is now.
    BackendDurable { batches: usize, file: bolt::View, flushes: Vec<Flush> },
    /// A disk has failed.
    Failed(String),
    /// There is something to propose.
    Wake,
    /// The end.
    Stop,
}

/// What reaches a worker.
#[derive(Debug)]
pub(crate) enum WorkerInput {
    /// What one round of the core brought.
    Round(Box<Round>),
    /// A connection to serve.
    Connection(std::net::TcpStream),
    /// The end.
    Stop,
}

/// What one round of the core brought for one worker.
#[derive(Debug, Default)]
pub(crate) struct Round {
    pub(crate) answers: Vec<(u64, Result<Answer, Error>)>,
    pub(crate) replies: Vec<(u64, Reply)>,
    pub(crate) events: Vec<Arc<EventBatch>>,
}

impl Round {
    fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.replies.is_empty() && self.events.is_empty()
    }
}

/// The driver of the two machines.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) member: Member,
    pub(crate) state: State,
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Sender<LogWork>,
    pub(crate) backend: Sender<BackendWork>,
    pub(crate) workers: Vec<UnboundedSender<WorkerInput>>,
    pub(crate) tick: Duration,
    pub(crate) slice_interval: Duration,
    pub(crate) compactor: Compactor,
    pub(crate) slow_apply: Duration,
    pub(crate) catch_up_entries: u64,
    pub(crate) started: Instant,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) run: Run,
}

/// What the driver keeps between rounds.
#[derive(Debug, Default)]
pub(crate) struct Run {
    /// Which worker waits for which request or question.
    waiting: BTreeMap<u64, usize>,
    /// Committed entries that have to wait for the backend.
    unapplied: VecDeque<Vec<Entry>>,
    /// A snapshot that has to wait for the backend.
    snapshot: Option<Snapshot>,
    /// Batches that the backend has not confirmed, with the last index of each.
    uncommitted: VecDeque<Index>,
    published: Option<Arc<Published>>,
    leadership: Leadership,
    rounds: Vec<Round>,
    proposals: Vec<Proposal>,
    no_space_proposed: bool,
    /// The compaction that nobody asked for and that is on its way.
    auto_compaction: Option<AutoCompacting>,
    /// When the next slice of housekeeping may be done.
    next_slice: Option<Instant>,
    /// When the compaction that is under way had its first slice.
    compaction_begun: Option<Instant>,
    /// How many compactions have been counted.
    compactions: u64,
}

/// A compaction that was proposed because it was time.
#[derive(Clone, Copy, Debug)]
struct AutoCompacting {
    id: u64,
    revision: i64,
    begun: Instant,
}

/// Housekeeping takes at most one part in so many of the thread's time.
const SLICE_SHARE: u32 = 5;

impl Core {
    /// Works until it is told to stop, or cannot go on: then it says why.
    pub(crate) fn run(mut self, inputs: &Receiver<CoreInput>) -> Result<(), String> {
        self.run.rounds = self.workers.iter().map(|_| Round::default()).collect();
        self.run.leadership = self.member.leadership();
        let mut next_tick = Instant::now();
        loop {
            let now = Instant::now();
            if now >= next_tick {
                next_tick = now + self.tick;
                self.member_step(MemberInput::Tick)?;
                self.state_step(Input::Tick)?;
                self.compact_by_itself();
            }
            let next_slice = self.run.next_slice.filter(|_| self.state.has_housekeeping());
            let next = next_slice.map_or(next_tick, |slice| slice.min(next_tick));
            match inputs.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(first) => {
                    for input in std::iter::once(first).chain(inputs.try_iter()).take(ROUND_MAX) {
                        if matches!(input, CoreInput::Stop) {
                            return Ok(());
                        }
                        self.take(input)?;
                    }
                    self.propose()?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.housekeep()?;
            self.send_rounds();
        }
    }

    fn take(&mut self, input: CoreInput) -> Result<(), String> {
        match input {
            CoreInput::Propose { worker, id, data } => {
                self.run.waiting.insert(id, worker);
                self.run.proposals.push(Proposal { id, data });
            }
            CoreInput::Ask { worker, id, question } => {
                self.run.waiting.insert(id, worker);
                self.state_step(Input::Ask(id, question))?;
            }
            CoreInput::Flush(reply) => self.to_backend(BackendWork::Flush(reply))?,
            CoreInput::RaiseNoSpace => self.raise_no_space(),
            CoreInput::Durable(receipt) => self.member_step(MemberInput::Durable(receipt))?,
            CoreInput::Snapshotted(index) => {
                let keep = index.0.saturating_sub(self.catch_up_entries);
                self.member_step(MemberInput::Compact(Index(keep)))?;
            }
            CoreInput::BackendDurable { batches, file, flushes } => {
                self.run.uncommitted.drain(..batches);
                self.state_step(Input::BackendDurable { batches, file: file.clone() })?;
                for reply in flushes {
                    if reply.send(file.clone()).is_err() {
                        tracing::debug!("who wanted the database is gone");
                    }
                }
                self.apply_waiting()?;
                self.save_snapshot()?;
            }
            CoreInput::Failed(why) => return Err(why),
            CoreInput::Wake | CoreInput::Stop => {}
        }
        Ok(())
    }

    fn propose(&mut self) -> Result<(), String> {
        if self.run.proposals.is_empty() {
            return Ok(());
        }
        let proposals = std::mem::take(&mut self.run.proposals);
        self.member_step(MemberInput::Propose(proposals))
    }

    fn member_step(&mut self, input: MemberInput) -> Result<(), String> {
        let mut effects = Vec::new();
        self.member.step(input, &mut effects);
        for effect in effects {
            self.carry_out(effect)?;
        }
        Ok(())
    }

    fn carry_out(&mut self, effect: MemberEffect) -> Result<(), String> {
        match effect {
            MemberEffect::Append(append) => self.to_log(LogWork::Append(append)),
            MemberEffect::Apply(entries) => {
                self.run.unapplied.push_back(entries);
                self.apply_waiting()
            }
            MemberEffect::Refuse(id, Refusal::TooManyRequests) => {
                self.metrics.raft.consensus.failed.inc();
                self.answer(id, Err(Error::TooManyRequests));
                Ok(())
            }
            MemberEffect::Leadership(leadership) => self.lead(leadership),
        }
    }

    fn lead(&mut self, leadership: Leadership) -> Result<(), String> {
        let member = self.shared.identity().member;
        let term_led = |of: Leadership| (of.leader == member).then_some(of.term);
        let before = std::mem::replace(&mut self.run.leadership, leadership);
        if before.leader != leadership.leader {
            self.metrics.raft.consensus.leader_changes.inc();
            tracing::info!(
                local_member_id = format_args!("{:x}", self.shared.identity().member),
                leader = format_args!("{:x}", leadership.leader),
                term = leadership.term.0,
                "raft leader changed"
            );
        }
        let leads = term_led(leadership);
        if term_led(before) != leads {
            // What was proposed may have gone with the leadership.
            self.run.auto_compaction = None;
            self.state_step(Input::Leads(leads))?;
        }
        self.publish();
        Ok(())
    }

    fn leads(&self) -> bool {
        self.run.leadership.leader == self.shared.identity().member
    }

    /// Applies what is committed, as far as the backend has room.
    fn apply_waiting(&mut self) -> Result<(), String> {
        while let Some(entries) = self.run.unapplied.front() {
            if !self.state.has_room_for(entries) {
                return Ok(());
            }
            let Some(entries) = self.run.unapplied.pop_front() else { return Ok(()) };
            let (begun, count) = (Instant::now(), entries.len());
            self.state_step(Input::Apply(entries))?;
            let took = begun.elapsed();
            if took > self.slow_apply {
                let expected = self.slow_apply;
                tracing::warn!(
                    ?took,
                    "expected-duration" = ?expected,
                    entries = count,
                    "apply request took too long"
                );
            }
        }
        Ok(())
    }

    fn state_step(&mut self, input: Input) -> Result<(), String> {
        let mut effects = Vec::new();
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.state.step(now_ms, input, &mut effects).map_err(|fatal| fatal.to_string())?;
        for effect in effects {
            self.perform(effect)?;
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Commit(batch) => {
                self.run.uncommitted.push_back(batch.applied().index);
                self.to_backend(BackendWork::Batch(batch))?;
            }
            Effect::Publish(published) => {
                self.run.published = Some(Arc::from(published));
                self.publish();
            }
            Effect::Events(events) => {
                for (worker, round) in self.run.rounds.iter_mut().enumerate() {
                    if self.shared.workers[worker].wants_events.load(Ordering::SeqCst) {
                        round.events.extend(events.iter().cloned());
                    }
                }
            }
            Effect::Answer(id, result) => {
                if let Ok(answer) = &result {
                    self.count_lease(answer);
                }
                self.answer(id, result.map_err(Error::Rejected));
            }
            Effect::Reply(id, reply) => {
                if let Reply::KeptAlive { .. } = reply {
                    self.metrics.store.lease.renewed.inc();
                }
                if let Some(worker) = self.run.waiting.remove(&id) {
                    self.run.rounds[worker].replies.push((id, reply));
                }
            }
            Effect::Propose(request) => {
                self.propose_own(*request);
            }
            Effect::ConfChanged(change) => {
                self.member_step(MemberInput::ConfChanged(change))?;
            }
            Effect::Applied(index) => {
                self.member_step(MemberInput::Applied(index))?;
                self.publish();
            }
            Effect::Snapshot(snapshot) => {
                self.run.snapshot = Some(snapshot);
                self.save_snapshot()?;
            }
        }
        Ok(())
    }

    /// Writes the snapshot that waits, once the file has what it covers.
    fn save_snapshot(&mut self) -> Result<(), String> {
        let Some(snapshot) = &self.run.snapshot else { return Ok(()) };
        let oldest = self.run.uncommitted.front();
        if oldest.is_some_and(|oldest| *oldest <= snapshot.id.index) {
            return Ok(());
        }
        let Some(snapshot) = self.run.snapshot.take() else { return Ok(()) };
        let hard_state = self.member.hard_state();
        self.to_log(LogWork::Snapshot(snapshot, hard_state))
    }

    fn housekeep(&mut self) -> Result<(), String> {
        if !self.state.has_housekeeping() {
            return Ok(());
        }
        let now = Instant::now();
        if self.run.next_slice.is_some_and(|next| now < next) {
            return Ok(());
        }
        let done = self.state_step(Input::Idle);
        let took = now.elapsed();
        self.run.next_slice = Some(now + self.slice_interval.max(took * SLICE_SHARE));
        self.count_slice(now, took);
        done
    }

    /// Counts a slice of a compaction, and the compaction if that is done.
    fn count_slice(&mut self, slice_begun: Instant, took: Duration) {
        let metrics = &self.metrics.store.compaction;
        metrics.pause_ms.observe(took.as_secs_f64() * 1e3);
        let begun = *self.run.compaction_begun.get_or_insert(slice_begun);
        let totals = self.run.published.as_ref().map(|published| published.totals);
        let Some(totals) = totals else { return };
        Metrics::raise(&metrics.keys, totals.dropped);
        if totals.compactions > self.run.compactions {
            self.run.compactions = totals.compactions;
            self.run.compaction_begun = None;
            metrics.total_ms.observe(begun.elapsed().as_secs_f64() * 1e3);
            let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            // Whole seconds, as etcd's.
            metrics.last.set(Duration::from_secs(unix.as_secs()).as_secs_f64());
        }
    }

    /// Counts what an answer tells of leases: this is where every applied entry passes.
    fn count_lease(&self, answer: &Answer) {
        let metrics = &self.metrics.store.lease;
        if let Answer::LeaseGrant(grant) = answer {
            metrics.granted.inc();
            let ttl_s = u64::try_from(grant.ttl_s).unwrap_or(0);
            metrics.ttl.observe(Duration::from_secs(ttl_s).as_secs_f64());
        } else if let Answer::LeaseRevoke { .. } = answer {
            metrics.revoked.inc();
        }
    }

    fn raise_no_space(&mut self) {
        use proto::etcdserverpb::{AlarmRequest, AlarmType, alarm_request::AlarmAction};
        if std::mem::replace(&mut self.run.no_space_proposed, true) {
            return;
        }
        let alarm = AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: self.shared.identity().member.0,
            alarm: AlarmType::Nospace.into(),
        };
        tracing::warn!("the database is full; raising the alarm NOSPACE");
        self.propose_own(InternalRaftRequest { alarm: Some(alarm), ..Default::default() });
    }

    /// Compacts when it is time, one at a time.
    fn compact_by_itself(&mut self) {
        let leads = self.leads() && self.run.auto_compaction.is_none();
        let Some(published) = &self.run.published else { return };
        let revision = published.view.revision();
        let now = self.started.elapsed();
        let Some(revision) = self.compactor.look(now, revision, leads) else { return };
        tracing::info!(revision, "starting auto {} compaction", self.compactor.mode());
        let compaction = CompactionRequest { revision, physical: false };
        let request = InternalRaftRequest { compaction: Some(compaction), ..Default::default() };
        let id = self.propose_own(request);
        self.run.auto_compaction = Some(AutoCompacting { id, revision, begun: Instant::now() });
    }

    /// Takes note of what the compaction came to that was proposed because it was time.
    fn end_auto_compaction(&mut self, id: u64, result: &Result<Answer, Error>) {
        let Some(AutoCompacting { revision, begun, .. }) =
            self.run.auto_compaction.take_if(|compacting| compacting.id == id)
        else {
            return;
        };
        match result {
            // Somebody else may have compacted further.
            Ok(_) | Err(Error::Rejected(state::Reject::Compacted)) => {
                self.compactor.succeeded(self.started.elapsed(), revision);
                let (mode, took) = (self.compactor.mode(), begun.elapsed());
                tracing::info!(revision, ?took, "completed auto {mode} compaction");
            }
            Err(error) => {
                tracing::warn!(revision, %error, "failed auto {} compaction", self.compactor.mode());
            }
        }
    }

    /// Proposes what no worker waits for; says under which id.
    fn propose_own(&mut self, mut request: InternalRaftRequest) -> u64 {
        let id = self.shared.next_id();
        request.header = Some(RequestHeader { id, ..RequestHeader::default() });
        if let Some(v2) = &mut request.v2 {
            v2.id = Some(id);
        }
        self.run.proposals.push(Proposal { id, data: request.encode_to_vec().into() });
        // Taken up by the next round; an input makes sure that there is one.
        if self.shared.send(CoreInput::Wake).is_err() {
            tracing::debug!("the core is gone");
        }
        id
    }

    fn answer(&mut self, id: u64, result: Result<Answer, Error>) {
        if matches!(result, Err(Error::Rejected(state::Reject::NoSpace))) {
            self.raise_no_space();
        }
        self.end_auto_compaction(id, &result);
        if let Some(worker) = self.run.waiting.remove(&id) {
            self.run.rounds[worker].answers.push((id, result));
        }
    }

    fn publish(&mut self) {
        let published = match &self.run.published {
            Some(published) => Arc::clone(published),
            None => self.shared.current().published.clone(),
        };
        let nospace = proto::etcdserverpb::AlarmType::Nospace;
        if published.alarms.is_on(nospace) {
            self.run.no_space_proposed = false;
        }
        let Leadership { term, leader } = self.run.leadership;
        self.shared.publish(Current {
            published,
            term: term.0,
            leader,
            commit: self.member.commit(),
            is_linearizable: leader != NodeId::NONE && self.member.reads_are_linearizable(),
            held: Held {
                overlay_bytes: self.state.overlay_bytes(),
                log_bytes: self.member.log_bytes(),
                waiting: self.run.waiting.len(),
            },
        });
    }

    fn to_log(&self, work: LogWork) -> Result<(), String> {
        self.log.send(work).map_err(|_| "the log's thread is gone".to_string())
    }

    fn to_backend(&self, work: BackendWork) -> Result<(), String> {
        self.backend.send(work).map_err(|_| "the backend's thread is gone".to_string())
    }

    fn send_rounds(&mut self) {
        for (round, worker) in self.run.rounds.iter_mut().zip(&self.workers) {
            if !round.is_empty() {
                let round = Box::new(std::mem::take(round));
                if worker.send(WorkerInput::Round(round)).is_err() {
                    tracing::debug!("a worker is gone");
                }
            }
        }
    }
}
