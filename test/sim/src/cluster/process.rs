//! A running member: the shipped machines, their queues, and its worker. The caller decides which
//! machine does its next piece of work.

use super::clock::MemberClock;
use super::gateway::{Answering, Facts, Gateway, Request};
use cluster::Version;
use executor::boot::Files;
use executor::{
    ApplyInput, AutoCompaction, BackendInput, BootError, BootOptions, ClientMessage,
    ConsensusInput, Envelope, GATHERING_TIME, LogInput, MachineOptions, Machines, RequestFailure,
    RequestIds,
};
use proto::answer::Answer;
use proto::etcdserverpb::WatchResponse;
use proto::{Entry, Index, NodeId};
use raft::Message;
use random::Random;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use vfs::Vfs;

/// The lanes of request ids: clients, the member itself, and its rounds of reads.
const LANES: usize = 3;
/// As in `server`, a leader that has missed more ticks asks the others whether it still leads.
const TICKS_MISSED_MAX: u32 = 3;

/// A part of a member that does work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Machine {
    Consensus,
    Log,
    Applier,
    Backend,
    Worker,
}

impl Machine {
    pub(crate) const ALL: [Machine; 5] =
        [Machine::Consensus, Machine::Log, Machine::Applier, Machine::Backend, Machine::Worker];
}

/// Output of a member, and events to check.
#[derive(Debug)]
pub(crate) enum Outside {
    Message(Message),
    Snapshot(Box<Message>, bolt::View),
    /// Entries were handed out for applying.
    Committed(Vec<Entry>),
    /// A part of the log was read for a member that is behind.
    LogRead,
    /// The state was restored from another member's snapshot.
    Restored(Index),
    /// An entry was applied with this result.
    Applied(u64, Result<Answer, RequestFailure>),
    Answer(Answering),
    Watched(u64, WatchResponse),
}

/// Settings of a member's machines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tuning {
    pub(crate) batch_interval: Duration,
    pub(crate) batch_limit: usize,
    pub(crate) catch_up_entries: u64,
    pub(crate) snapshots_max: usize,
    pub(crate) segments_max: usize,
}

#[derive(Debug, Default)]
struct Queues {
    consensus: VecDeque<ConsensusInput>,
    apply: VecDeque<ApplyInput>,
    log: VecDeque<LogInput>,
}

/// A running member.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) machines: Machines,
    queues: Queues,
    pub(crate) gateway: Gateway,
    pub(crate) id: NodeId,
    pub(crate) outside: Vec<Outside>,
    /// A machine that has failed does nothing more.
    has_failed: [bool; Machine::ALL.len()],
    last_tick: Duration,
}

impl Process {
    /// Starts a member at this wall-clock time.
    ///
    /// # Errors
    /// When it cannot start.
    pub(crate) fn boot(
        vfs: &Arc<dyn Vfs>,
        options: &BootOptions,
        tuning: &Tuning,
        unix_ms: u64,
    ) -> Result<Process, BootError> {
        let files = Files::open(vfs, options)?;
        let keys = files.read_keys();
        let log = files.open_log()?;
        let booted = files.start(keys, log)?;
        let id = booted.metadata.node;
        let ids = RequestIds::new(id, unix_ms, LANES);
        let machine_options = MachineOptions {
            auto_compaction: AutoCompaction::Off,
            batch_interval: tuning.batch_interval,
            batch_limit: tuning.batch_limit,
            catch_up_entries: tuning.catch_up_entries,
            snapshots_max: tuning.snapshots_max,
            segments_max: tuning.segments_max,
            ids,
            own_lane: 1,
            contexts_lane: 2,
        };
        let machines = Machines::new(Arc::clone(vfs), booted, &machine_options);
        let gateway = Gateway::new(Arc::clone(machines.applier.moment()), ids.lane(0));
        Ok(Process {
            machines,
            queues: Queues::default(),
            gateway,
            id,
            outside: Vec::new(),
            has_failed: [false; Machine::ALL.len()],
            last_tick: Duration::ZERO,
        })
    }

    /// The delay after which a machine has something to do: at once, or when it is due by its
    /// clock. `None` while it waits for others.
    pub(crate) fn due(&self, machine: Machine, clock: &MemberClock, now: u64) -> Option<u64> {
        let Machines { consensus, applier, log_writer, backend_writer } = &self.machines;
        if self.has_failed[machine as usize] {
            return None;
        }
        let is_due = match machine {
            Machine::Consensus => {
                if consensus.overlapping_round().is_some() {
                    // The thread would stop gathering proposals after this time.
                    let time_max = u64::try_from(GATHERING_TIME.as_micros()).unwrap_or(u64::MAX);
                    return Some(if self.is_consensus_woken() { 0 } else { time_max });
                }
                self.is_consensus_woken()
            }
            Machine::Log => !self.queues.log.is_empty() || log_writer.has_work(),
            Machine::Applier => {
                !self.queues.apply.is_empty() || applier.can_apply() || applier.has_housekeeping()
            }
            Machine::Backend => {
                let due = backend_writer.next_commit(clock.now(now))?;
                return Some(clock.until(due, now));
            }
            Machine::Worker => !self.gateway.mail.is_empty() || self.gateway.watches.has_work(),
        };
        is_due.then_some(0)
    }

    /// Lets a machine do its next piece of work.
    ///
    /// # Errors
    /// When the member must stop.
    pub(crate) fn work(
        &mut self,
        machine: Machine,
        now: Duration,
        tick: u64,
        random: &mut Random,
    ) -> Result<(), String> {
        let mut out = Vec::new();
        if self.has_failed[machine as usize] {
            return Ok(());
        }
        let done = match machine {
            Machine::Consensus => {
                self.consensus_round(random, &mut out);
                Ok(())
            }
            Machine::Log => self.log_step(&mut out),
            Machine::Applier => self.apply(now, random, &mut out),
            Machine::Backend => self.commit(now, random, &mut out),
            Machine::Worker => self.serve(self.facts(now, tick), random, &mut out),
        };
        self.accept(now, out);
        self.has_failed[machine as usize] = done.is_err();
        done
    }

    fn is_consensus_woken(&self) -> bool {
        let consensus = &self.machines.consensus;
        let wake = consensus.wake_for();
        consensus.has_round() || self.queues.consensus.iter().any(|it| wake.contains(it))
    }

    /// A round of consensus, usually with all waiting inputs.
    fn consensus_round(&mut self, random: &mut Random, out: &mut Vec<Envelope>) {
        if !self.is_consensus_woken() {
            self.machines.consensus.end_gathering();
        }
        let len = self.queues.consensus.len();
        let taken = if random.chance(200) { len } else { len.min(1 + random.index(len)) };
        for input in self.queues.consensus.drain(..taken) {
            self.machines.consensus.take(input, out);
        }
        self.machines.consensus.end_round(out);
    }

    fn log_step(&mut self, out: &mut Vec<Envelope>) -> Result<(), String> {
        for input in self.queues.log.drain(..) {
            self.machines.log_writer.take(input);
        }
        let step = self.machines.log_writer.step(out);
        step.map(drop).map_err(|error| format!("the log cannot be written: {error}"))
    }

    fn apply(
        &mut self,
        now: Duration,
        random: &mut Random,
        out: &mut Vec<Envelope>,
    ) -> Result<(), String> {
        let applier = &mut self.machines.applier;
        let fatal = |fatal: state::Fatal| format!("entries cannot be applied: {fatal}");
        if let Some(input) = self.queues.apply.pop_front() {
            applier.take(now, input, out).map_err(fatal)?;
            if random.chance(64) {
                return Ok(());
            }
        }
        if applier.can_apply() {
            applier.apply_next(now, out).map_err(fatal)?;
        } else {
            applier.housekeep(now, out).map_err(fatal)?;
        }
        Ok(())
    }

    fn commit(
        &mut self,
        now: Duration,
        random: &mut Random,
        out: &mut Vec<Envelope>,
    ) -> Result<(), String> {
        let writer = &mut self.machines.backend_writer;
        if writer.next_commit(now).is_none_or(|due| due > now) {
            return Ok(());
        }
        let batches = writer.batches();
        // Batches that arrive during a commit go into the next one.
        let count = if random.chance(200) { batches } else { random.index(batches + 1) };
        let committed = writer.commit_some(now, count, out);
        committed.map_err(|error| format!("the database cannot be written: {error}"))
    }

    /// The values that the worker reads from the other threads.
    fn facts(&self, now: Duration, tick: u64) -> Facts {
        let commit = self.machines.consensus.member().commit();
        let is_recent = now <= self.last_tick + TICKS_MISSED_MAX * Duration::from_micros(tick);
        Facts { commit, is_recent }
    }

    /// Whether a machine has failed.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.contains(&true)
    }

    /// Handles a client's request.
    ///
    /// # Errors
    /// When the member must stop.
    pub(crate) fn ask(
        &mut self,
        now: Duration,
        tick: u64,
        call: u64,
        request: Request,
    ) -> Result<(), String> {
        let (mut out, mut answers) = (Vec::new(), Vec::new());
        let facts = self.facts(now, tick);
        let asked = self.gateway.ask((call, request), facts, &mut out, &mut answers);
        self.accept(now, out);
        self.outside.extend(answers.into_iter().map(Outside::Answer));
        asked
    }

    fn serve(
        &mut self,
        facts: Facts,
        random: &mut Random,
        out: &mut Vec<Envelope>,
    ) -> Result<(), String> {
        let mut answers = Vec::new();
        if let Some(ClientMessage::Answer(id, result)) = self.gateway.mail.front() {
            self.outside.push(Outside::Applied(*id, result.clone()));
        }
        self.gateway.work(facts, out, &mut answers)?;
        self.outside.extend(answers.into_iter().map(Outside::Answer));
        let Gateway { moment, watches, .. } = &mut self.gateway;
        let watched = watches.collect(&moment.published.view, || random.chance(24))?;
        self.outside.extend(watched.into_iter().map(|(to, it)| Outside::Watched(to, it)));
        Ok(())
    }

    /// Delivers messages to their machines.
    pub(crate) fn accept(&mut self, now: Duration, messages: Vec<Envelope>) {
        for message in messages {
            match message {
                Envelope::Consensus(input) => {
                    if matches!(input, ConsensusInput::LogRead(_, Some(_))) {
                        self.outside.push(Outside::LogRead);
                    }
                    self.queues.consensus.push_back(input);
                }
                Envelope::Apply(input) => {
                    if let ApplyInput::Committed { entries, .. } = &input
                        && !entries.is_empty()
                    {
                        self.outside.push(Outside::Committed(entries.clone()));
                    } else if let ApplyInput::Restore(snapshot) = &input {
                        self.outside.push(Outside::Restored(snapshot.id.index));
                    }
                    self.queues.apply.push_back(input);
                }
                Envelope::Log(input) => self.queues.log.push_back(input),
                Envelope::Backend(input) => self.take_backend(now, input),
                Envelope::Client(message) => {
                    self.gateway.deliver(message);
                }
                Envelope::Peers(messages) => {
                    self.outside.extend(messages.into_iter().map(Outside::Message));
                }
                Envelope::PeerSnapshot(message, file) => {
                    self.outside.push(Outside::Snapshot(message, file));
                }
            }
        }
    }

    fn take_backend(&mut self, now: Duration, input: BackendInput) {
        self.machines.backend_writer.take(now, input);
    }

    /// Queues an input of consensus.
    pub(crate) fn push(&mut self, input: ConsensusInput) {
        self.queues.consensus.push_back(input);
    }

    /// Passes on the versions of the other members, which the transport has asked for.
    pub(crate) fn learn_versions(&mut self, versions: BTreeMap<NodeId, Version>) {
        self.queues.apply.push_back(ApplyInput::MemberVersions(versions));
    }

    /// A tick passes.
    pub(crate) fn tick(&mut self, now: Duration) {
        self.last_tick = now;
        self.queues.consensus.push_back(ConsensusInput::Tick);
        self.queues.apply.push_back(ApplyInput::Tick);
        let now_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        self.gateway.watches.tick(now_ms);
    }
}
