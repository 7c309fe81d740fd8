//! One whole member on one thread: what the threads of `server` do, cut into steps that a seeded
//! scheduler takes in any order the threads could. Here are the queues and the steps; the machines,
//! the boot, the log and the database are the real ones.

use crate::seed::Seed;
use backend::{Backend, Batch};
use member::{Append, Effect as MemberEffect, Input as MemberInput, Leadership, Member, Proposal};
use prost::Message as _;
use proto::answer::Answer;
use proto::etcdserverpb::{InternalRaftRequest, RequestHeader};
use proto::{Entry, HardState, Index, NodeId};
use raft::Receipt;
use server::{BootOptions, Booted};
use state::{Effect, Input, LeaseQuery, Published, Question, Reject, Reply, Snapshot, State};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use vfs::{SimDisk, Vfs};
use wal::snap::{self, SnapFile};
use wal::{SnapshotRecord, Wal};

const TICK_MS: u64 = 100;
/// How many .snap files and how many segments are kept.
const KEEP: (usize, usize) = (2, 2);
const CATCH_UP_ENTRIES: u64 = 20;

/// The options of a simulated member: everything happens often.
#[must_use]
pub fn options(seed: u64) -> BootOptions {
    let attributes = cluster::Attributes {
        name: "default".into(),
        client_urls: vec!["http://localhost:2379".into()],
    };
    BootOptions {
        data_dir: PathBuf::from("/data/default.etcd"),
        wal_dir: None,
        peer_urls: vec!["http://localhost:2380".into()],
        token: "etcd-cluster".into(),
        attributes: attributes.clone(),
        cache_bytes: 256 << 10,
        election_ticks: 10,
        raise_cluster_version: None,
        settings: state::Settings {
            member: NodeId::NONE,
            quota: state::quota::Quota::from_flag(0),
            snapshot_count: 50,
            compaction_slice: 40,
            lease_ttl_s_min: 2,
            lease_extend_ms: 1_000,
            learners_max: 1,
            raise_cluster_version: true,
            attributes,
        },
        seed,
        segment_bytes: 32 << 10,
    }
}

/// What the rest of the world gets to see of a member, in order.
#[derive(Debug)]
pub enum Seen {
    /// Entries are about to be written to the log; they replace what it holds from the first on.
    Appending(Vec<Entry>),
    /// An entry was handed out for applying.
    Applying(Entry),
    /// A request was answered.
    Answer(u64, Result<Answer, Reject>),
    /// A question was.
    Reply(Reply),
}

/// What reaches the core.
#[derive(Debug)]
enum CoreInput {
    Propose(Proposal),
    Durable(Receipt),
    Snapshotted(Index),
    BackendDurable(usize, bolt::View),
    Failed(String),
}

/// What is to be written to the log, a call to the disk or a few each.
#[derive(Debug)]
enum LogWork {
    Append(Append),
    Sync(Receipt),
    Tend,
    Snapshot(Snapshot, HardState),
    Vouch(Snapshot),
    Purge(Index),
}

/// The log's thread.
#[derive(Debug)]
struct Log {
    wal: Wal,
    snap_dir: PathBuf,
    /// What is asked for.
    work: VecDeque<LogWork>,
    /// What is left of the piece that was begun.
    begun: VecDeque<LogWork>,
    is_dead: bool,
    /// Says that a batch is durable before it is.
    lies: bool,
}

/// The backend's thread.
#[derive(Debug)]
struct File {
    backend: Backend,
    waiting: VecDeque<Arc<Batch>>,
    is_dead: bool,
}

/// What the core keeps between rounds.
#[derive(Debug)]
struct Core {
    inputs: VecDeque<CoreInput>,
    proposals: Vec<Proposal>,
    unapplied: VecDeque<Vec<Entry>>,
    snapshot: Option<Snapshot>,
    uncommitted: VecDeque<Index>,
    leadership: Leadership,
    published: Published,
    next_id: u64,
}

/// A running member.
#[derive(Debug)]
pub struct Driver {
    disk: SimDisk,
    member: Member,
    state: State,
    log: Log,
    file: File,
    core: Core,
    now_ms: u64,
    id: NodeId,
    seen: Vec<Seen>,
}

impl Driver {
    /// Starts a member as the server does. Its requests have ids from `first_id` on.
    ///
    /// # Errors
    /// Why it cannot start.
    pub fn boot(disk: &SimDisk, options: &BootOptions, first_id: u64) -> Result<Driver, String> {
        let vfs: Arc<dyn Vfs> = Arc::new(disk.clone());
        let booted = server::boot(&vfs, options).map_err(|error| format!("boot: {error}"))?;
        let Booted { member, mut state, wal, backend, metadata, snap_dir, .. } = booted;
        let core = Core {
            inputs: VecDeque::new(),
            proposals: Vec::new(),
            unapplied: VecDeque::new(),
            snapshot: None,
            uncommitted: VecDeque::new(),
            leadership: member.leadership(),
            published: state.published(),
            next_id: first_id,
        };
        let (work, begun) = (VecDeque::new(), VecDeque::new());
        Ok(Driver {
            disk: disk.clone(),
            member,
            state,
            log: Log { wal, snap_dir, work, begun, is_dead: false, lies: false },
            file: File { backend, waiting: VecDeque::new(), is_dead: false },
            core,
            now_ms: 0,
            id: metadata.node,
            seen: Vec::new(),
        })
    }

    /// From now on the log says that a batch is durable before it is synced: a fault that checks
    /// of crashes must find.
    pub fn lie(&mut self) {
        self.log.lies = true;
    }

    /// The last entry in the log.
    #[must_use]
    pub fn last_index(&self) -> Index {
        self.log.wal.last_index()
    }

    /// The file as of the last commit.
    #[must_use]
    pub fn file(&self) -> bolt::View {
        self.file.backend.view()
    }

    /// The last entry whose effects are in the file.
    #[must_use]
    pub fn in_file(&self) -> Index {
        self.file.backend.applied().index
    }

    /// What readers see.
    #[must_use]
    pub fn published(&self) -> &Published {
        &self.core.published
    }

    /// The members.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// This member's id.
    #[must_use]
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// True once linearizable reads are served at once.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.member.reads_are_linearizable()
    }

    /// What was seen since it was last asked.
    pub fn take_seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    /// A client's request arrives; its id.
    pub fn submit(&mut self, mut request: InternalRaftRequest) -> u64 {
        let id = self.core.next_id;
        self.core.next_id += 1;
        request.header = Some(RequestHeader { id, ..RequestHeader::default() });
        if let Some(v2) = &mut request.v2 {
            v2.id = Some(id);
        }
        let data = request.encode_to_vec().into();
        self.core.inputs.push_back(CoreInput::Propose(Proposal { id, data }));
        id
    }

    /// Asks something that needs no entry.
    ///
    /// # Errors
    /// When the member cannot go on.
    pub fn ask(&mut self, query: LeaseQuery) -> Result<Option<Reply>, String> {
        let question = Question { caller: auth::Caller::default(), query };
        self.state_step(Input::Ask(0, question))?;
        let last = self.seen.pop();
        match last {
            Some(Seen::Reply(reply)) => Ok(Some(reply)),
            other => {
                self.seen.extend(other);
                Ok(None)
            }
        }
    }

    /// Takes one step of some thread; false if there was nothing to do but to wait for a tick.
    ///
    /// # Errors
    /// Why the member stops.
    pub fn step(&mut self, seed: &mut Seed) -> Result<bool, String> {
        if seed.one_in(40) {
            self.tick()?;
        }
        let core = !self.core.inputs.is_empty() || !self.core.proposals.is_empty();
        let log = self.log.has_work();
        let file = !self.file.is_dead && !self.file.waiting.is_empty();
        let idle = self.state.has_housekeeping();
        if !(core || log || file || idle) {
            return Ok(false);
        }
        match seed.below(20) {
            0..9 if core => self.round(1 + seed.place(8))?,
            9..17 if log => self.log_step(),
            17 if file => self.commit(1 + seed.place(self.file.waiting.len())),
            18 if idle => self.state_step(Input::Idle)?,
            19 if seed.one_in(10) => self.commit(0),
            // Whoever was drawn has nothing to do, or is slow.
            _ => {}
        }
        Ok(true)
    }

    /// Works until nothing is left to do.
    ///
    /// # Errors
    /// Why the member stops.
    pub fn settle(&mut self) -> Result<(), String> {
        loop {
            if !self.core.inputs.is_empty() || !self.core.proposals.is_empty() {
                self.round(usize::MAX)?;
            } else if self.log.has_work() {
                self.log_step();
            } else if !self.file.is_dead && !self.file.waiting.is_empty() {
                self.commit(self.file.waiting.len());
            } else if self.state.has_housekeeping() {
                self.state_step(Input::Idle)?;
            } else {
                return Ok(());
            }
        }
    }

    /// Stops as the server does when it is told to.
    ///
    /// # Errors
    /// When the log cannot be closed.
    pub fn close(self) -> Result<(), String> {
        self.log.wal.close().map_err(|error| error.to_string())
    }

    /// A tick passes.
    ///
    /// # Errors
    /// Why the member stops.
    pub fn tick(&mut self) -> Result<(), String> {
        self.now_ms += TICK_MS;
        self.member_step(MemberInput::Tick)?;
        self.state_step(Input::Tick)
    }

    /// A round of the core.
    fn round(&mut self, inputs: usize) -> Result<(), String> {
        for _ in 0..inputs {
            let Some(input) = self.core.inputs.pop_front() else { break };
            self.take(input)?;
        }
        if self.core.proposals.is_empty() {
            return Ok(());
        }
        let proposals = std::mem::take(&mut self.core.proposals);
        self.member_step(MemberInput::Propose(proposals))
    }

    fn take(&mut self, input: CoreInput) -> Result<(), String> {
        match input {
            CoreInput::Propose(proposal) => self.core.proposals.push(proposal),
            CoreInput::Durable(receipt) => self.member_step(MemberInput::Durable(receipt))?,
            CoreInput::Snapshotted(index) => {
                let keep = Index(index.0.saturating_sub(CATCH_UP_ENTRIES));
                self.member_step(MemberInput::Compact(keep))?;
            }
            CoreInput::BackendDurable(batches, file) => {
                self.core.uncommitted.drain(..batches);
                self.state_step(Input::BackendDurable { batches, file })?;
                self.apply_waiting()?;
                self.save_snapshot();
            }
            CoreInput::Failed(why) => return Err(why),
        }
        Ok(())
    }

    fn member_step(&mut self, input: MemberInput) -> Result<(), String> {
        let mut effects = Vec::new();
        self.member.step(input, &mut effects);
        for effect in effects {
            match effect {
                MemberEffect::Append(append) => self.log.work.push_back(LogWork::Append(append)),
                MemberEffect::Apply(entries) => {
                    self.core.unapplied.push_back(entries);
                    self.apply_waiting()?;
                }
                MemberEffect::Leadership(leadership) => {
                    let term_led = |of: Leadership| (of.leader == self.id).then_some(of.term);
                    let before = std::mem::replace(&mut self.core.leadership, leadership);
                    let leads = term_led(leadership);
                    if term_led(before) != leads {
                        self.state_step(Input::Leads(leads))?;
                    }
                }
                other => return Err(format!("an effect that was not expected: {other:?}")),
            }
        }
        Ok(())
    }

    fn apply_waiting(&mut self) -> Result<(), String> {
        while let Some(entries) = self.core.unapplied.front() {
            if !self.state.has_room_for(entries) {
                break;
            }
            let Some(entries) = self.core.unapplied.pop_front() else { break };
            self.seen.extend(entries.iter().cloned().map(Seen::Applying));
            self.state_step(Input::Apply(entries))?;
        }
        Ok(())
    }

    fn state_step(&mut self, input: Input) -> Result<(), String> {
        let mut effects = Vec::new();
        self.state.step(self.now_ms, input, &mut effects).map_err(|fatal| fatal.to_string())?;
        for effect in effects {
            self.perform(effect)?;
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) -> Result<(), String> {
        match effect {
            Effect::Commit(batch) => {
                self.core.uncommitted.push_back(batch.applied().index);
                self.file.waiting.push_back(batch);
            }
            Effect::Publish(published) => self.core.published = *published,
            Effect::Answer(id, result) => self.seen.push(Seen::Answer(id, result)),
            Effect::Reply(_, reply) => self.seen.push(Seen::Reply(reply)),
            Effect::Propose(request) => {
                self.submit(*request);
            }
            Effect::ConfChanged(change) => self.member_step(MemberInput::ConfChanged(change))?,
            Effect::Applied(index) => self.member_step(MemberInput::Applied(index))?,
            Effect::Snapshot(snapshot) => {
                self.core.snapshot = Some(snapshot);
                self.save_snapshot();
            }
            // Nobody watches.
            Effect::Events(_) => {}
        }
        Ok(())
    }

    fn save_snapshot(&mut self) {
        let Some(snapshot) = &self.core.snapshot else { return };
        let oldest = self.core.uncommitted.front();
        if oldest.is_some_and(|oldest| *oldest <= snapshot.id.index) {
            return;
        }
        if let Some(snapshot) = self.core.snapshot.take() {
            let hard_state = self.member.hard_state();
            self.log.work.push_back(LogWork::Snapshot(snapshot, hard_state));
        }
    }

    /// The log's thread goes on by a call or two.
    fn log_step(&mut self) {
        let Some(work) = self.log.begun.pop_front().or_else(|| self.log.work.pop_front()) else {
            return;
        };
        if let LogWork::Append(append) = &work {
            self.seen.push(Seen::Appending(append.entries.clone()));
        }
        match self.log.work_on(&self.disk, work) {
            Ok(told) => self.core.inputs.extend(told),
            Err(error) => {
                self.log.is_dead = true;
                let why = format!("the log cannot be written: {error}");
                self.core.inputs.push_back(CoreInput::Failed(why));
            }
        }
    }

    /// The backend's thread commits this many of the batches that wait.
    fn commit(&mut self, count: usize) {
        if self.file.is_dead {
            return;
        }
        let batches: Vec<_> = self.file.waiting.drain(..count).collect();
        let told = match self.file.backend.commit(&batches) {
            Ok(view) => CoreInput::BackendDurable(batches.len(), view),
            Err(error) => {
                self.file.is_dead = true;
                CoreInput::Failed(format!("the database cannot be written: {error}"))
            }
        };
        self.core.inputs.push_back(told);
    }
}

impl Log {
    fn has_work(&self) -> bool {
        !self.is_dead && (!self.work.is_empty() || !self.begun.is_empty())
    }

    fn work_on(&mut self, disk: &SimDisk, work: LogWork) -> Result<Option<CoreInput>, wal::Error> {
        match work {
            LogWork::Append(append) => {
                self.wal.append(&append.entries, append.hard_state)?;
                self.begun.extend([LogWork::Sync(append.receipt), LogWork::Tend]);
                if self.lies {
                    self.begun.pop_front();
                    return Ok(Some(CoreInput::Durable(append.receipt)));
                }
            }
            LogWork::Sync(receipt) => {
                self.wal.sync()?;
                return Ok(Some(CoreInput::Durable(receipt)));
            }
            LogWork::Tend => self.wal.tend()?,
            LogWork::Snapshot(snapshot, hard_state) => {
                assert!(hard_state.commit >= snapshot.id.index, "what is applied is committed");
                let file = SnapFile {
                    id: snapshot.id,
                    conf_state: snapshot.conf_state.clone(),
                    data: snapshot.data.clone(),
                };
                snap::save(disk, &self.snap_dir, &file)?;
                self.begun.push_back(LogWork::Vouch(snapshot));
            }
            LogWork::Vouch(snapshot) => {
                let conf_state = Some(snapshot.conf_state);
                self.wal.save_snapshot(&SnapshotRecord { id: snapshot.id, conf_state })?;
                self.begun.push_back(LogWork::Purge(snapshot.id.index));
            }
            LogWork::Purge(index) => {
                self.wal.release_to(index);
                self.wal.purge(KEEP.1)?;
                snap::purge(disk, &self.snap_dir, KEEP.0);
                return Ok(Some(CoreInput::Snapshotted(index)));
            }
        }
        Ok(None)
    }
}
