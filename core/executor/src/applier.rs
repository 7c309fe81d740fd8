//! The machine around `state`: it applies committed entries as far as the overlay has room,
//! publishes moments, hands batches to the database, and decides when a snapshot may be saved.

use crate::auto_compaction::{AutoCompaction, Compactor};
use crate::ids::IdLane;
use crate::message::{
    ApplyInput, BackendInput, ClientMessage, ConsensusInput, Envelope, RequestFailure,
};
use crate::moment::Moment;
use auth::TokenChange;
use cluster::Cluster;
use member::{Leadership, Proposal};
use prost::Message as _;
use proto::answer::Answer;
use proto::etcdserverpb::alarm_request::AlarmAction;
use proto::etcdserverpb::{
    AlarmRequest, AlarmType, CompactionRequest, InternalRaftRequest, RequestHeader,
};
use proto::{Entry, Index, NodeId};
use raft::RaftSnapshot;
use state::{Effect, Executed, Fatal, Input, Leader, Proposer, Published, Reject, Snapshot, State};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// How many applied batches may wait for the database; at this number, applying waits. The
/// overlay's limit in bytes is checked too.
pub const BACKEND_BATCHES_MAX: usize = 1_024;
/// While this many proposals of the applier itself have no answer, it makes no new ones. Leases
/// that expire meanwhile are revoked later.
pub const OWN_PROPOSALS_MAX: usize = 1_024;

/// The result of [`Applier::apply_next`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The number of entries.
    pub entries: usize,
}

fn in_ms(now: Duration) -> u64 {
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// A compaction that was proposed because it was due.
#[derive(Clone, Copy, Debug)]
struct AutoCompacting {
    id: u64,
    revision: i64,
    begun: Duration,
}

/// Proposals that the applier makes by itself.
#[derive(Debug)]
struct OwnProposals {
    ids: IdLane,
    /// The ids of proposals without an answer.
    waiting: BTreeSet<u64>,
    /// The NOSPACE alarm was proposed and is not raised yet.
    no_space: bool,
    compactor: Compactor,
    compacting: Option<AutoCompacting>,
}

/// The saving of snapshots by the log.
#[derive(Debug, Default)]
struct Saving {
    /// The newest snapshot that is due.
    due: Option<Snapshot>,
    /// The log is saving a snapshot.
    under_way: bool,
}

/// A waiter for a commit of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flush {
    /// A client, with the id of its [`ApplyInput::Flush`].
    Client(u64),
    /// The snapshot for other members.
    PeerSnapshot,
}

/// Snapshots from and for other members.
#[derive(Debug, Default)]
struct Transfers {
    /// The snapshot for other members that waits for its file, with the cluster when it was taken.
    /// If the cluster is still the same when the file comes, the file contains its members and
    /// versions.
    taking: Option<(Snapshot, Arc<Cluster>)>,
    /// A received snapshot whose file is being put in place.
    restoring: Option<Snapshot>,
}

/// Drives `state`. See the crate's description. Times are since the start of the process and never
/// decrease.
#[derive(Debug)]
pub struct Applier {
    state: State,
    member: NodeId,
    leadership: Leadership,
    /// Committed entries that are not applied yet, oldest first.
    unapplied: VecDeque<Vec<Entry>>,
    /// The last index of each batch that the database has not confirmed, oldest first.
    uncommitted: VecDeque<Index>,
    saving: Saving,
    /// Flushes that the database has not reported yet, oldest first.
    flushes: VecDeque<Flush>,
    transfers: Transfers,
    /// Confirmed reads that wait for their index to be applied, in the order of the indexes.
    reads: VecDeque<(Index, Vec<u64>)>,
    own: OwnProposals,
    moment: Arc<Moment>,
}

impl Applier {
    pub(crate) fn new(
        mut state: State,
        member: NodeId,
        auto_compaction: AutoCompaction,
        ids: IdLane,
    ) -> Applier {
        let leadership = Leadership::default();
        let published = state.published();
        let overlay_bytes = state.overlay_bytes();
        let moment = Arc::new(Moment { published, leadership, member, overlay_bytes });
        let own = OwnProposals {
            ids,
            waiting: BTreeSet::new(),
            no_space: false,
            compactor: Compactor::new(auto_compaction),
            compacting: None,
        };
        Applier {
            state,
            member,
            leadership,
            unapplied: VecDeque::new(),
            uncommitted: VecDeque::new(),
            saving: Saving::default(),
            flushes: VecDeque::new(),
            transfers: Transfers::default(),
            reads: VecDeque::new(),
            own,
            moment,
        }
    }

    /// The replicated state.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The moment that was published last.
    #[must_use]
    pub fn moment(&self) -> &Arc<Moment> {
        &self.moment
    }

    /// Takes one input. Committed entries are only queued: [`Applier::apply_next`] applies them.
    ///
    /// # Errors
    /// When the member must stop.
    pub fn take(
        &mut self,
        now: Duration,
        input: ApplyInput,
        out: &mut Vec<Envelope>,
    ) -> Result<(), Fatal> {
        match input {
            ApplyInput::Tick => self.tick(now, out)?,
            ApplyInput::Committed { leadership, entries } => {
                if !entries.is_empty() {
                    self.unapplied.push_back(entries);
                }
                self.lead(now, leadership, out)?;
            }
            ApplyInput::Refused(id) => {
                self.own_ended(now, id, &Err(RequestFailure::TooManyRequests))
            }
            ApplyInput::Reads(index, reads) => {
                // A later round may have an earlier index, since a new leader's commit index may
                // lag behind.
                let index = self.reads.back().map_or(index, |(last, _)| index.max(*last));
                self.reads.push_back((index, reads));
                self.release_reads(out);
            }
            ApplyInput::Ask(id, question) => self.step(now, Input::Ask(id, question), out)?,
            ApplyInput::Flush(id) => {
                self.flush(Flush::Client(id), out);
            }
            ApplyInput::MemberVersions(versions) => {
                self.step(now, Input::MemberVersions(versions), out)?;
            }
            ApplyInput::RaiseNoSpace => self.raise_no_space(out),
            ApplyInput::BackendDurable { batches, flushes, file } => {
                out.push(Envelope::Backend(BackendInput::ReportTaken));
                self.uncommitted.drain(..batches);
                let flushed: Vec<Flush> = self.flushes.drain(..flushes).collect();
                self.flushed(flushed, &file, out)?;
                self.step(now, Input::BackendDurable { batches, file }, out)?;
                self.save_snapshot(out);
            }
            ApplyInput::TakePeerSnapshot => {
                self.take_peer_snapshot(out);
            }
            ApplyInput::Restore(snapshot) => {
                self.unapplied.clear();
                out.push(Envelope::Backend(BackendInput::Replace(snapshot.id.index)));
                self.transfers.restoring = Some(snapshot);
            }
            ApplyInput::DatabaseReplaced(file) => self.restore(file, out)?,
            ApplyInput::SnapshotSaved => {
                self.saving.under_way = false;
                self.save_snapshot(out);
            }
        }
        Ok(())
    }

    fn flush(&mut self, flush: Flush, out: &mut Vec<Envelope>) {
        self.flushes.push_back(flush);
        out.push(Envelope::Backend(BackendInput::CommitNow));
    }

    fn take_peer_snapshot(&mut self, out: &mut Vec<Envelope>) {
        let cluster = Arc::clone(&self.moment.published.cluster);
        self.transfers.taking = Some((self.state.snapshot(), cluster));
        self.flush(Flush::PeerSnapshot, out);
    }

    /// Serves the waiters of flushes that a commit of the database has completed.
    fn flushed(
        &mut self,
        flushes: Vec<Flush>,
        file: &bolt::View,
        out: &mut Vec<Envelope>,
    ) -> Result<(), Fatal> {
        for flush in flushes {
            match flush {
                Flush::Client(id) => {
                    out.push(Envelope::Client(ClientMessage::File(id, file.clone())));
                }
                Flush::PeerSnapshot => self.finish_peer_snapshot(file, out)?,
            }
        }
        Ok(())
    }

    /// Hands out the snapshot for other members. If the members or versions have changed since it
    /// was taken, the file may contain either state, so another snapshot is taken.
    fn finish_peer_snapshot(
        &mut self,
        file: &bolt::View,
        out: &mut Vec<Envelope>,
    ) -> Result<(), Fatal> {
        let Some((taken, cluster)) = self.transfers.taking.take() else { return Ok(()) };
        // The published cluster is shared until it changes.
        if !Arc::ptr_eq(&cluster, &self.moment.published.cluster) {
            self.take_peer_snapshot(out);
            return Ok(());
        }
        let id = backend::ReadView::of_file(file.clone()).applied()?;
        let snapshot = RaftSnapshot { id, conf_state: taken.conf_state, data: taken.data };
        out.push(Envelope::Consensus(ConsensusInput::PeerSnapshot(snapshot, file.clone())));
        Ok(())
    }

    /// Continues from a received snapshot, whose file is in place.
    fn restore(&mut self, file: bolt::View, out: &mut Vec<Envelope>) -> Result<(), Fatal> {
        let Some(snapshot) = self.transfers.restoring.take() else {
            unreachable!("the database is replaced for a snapshot");
        };
        self.state = self.state.restored(file.clone(), &snapshot)?;
        self.uncommitted.clear();
        self.saving.due = None;
        self.own.waiting.clear();
        self.own.compacting = None;
        self.own.no_space = false;
        self.transfers.taking = None;
        for flush in std::mem::take(&mut self.flushes) {
            if let Flush::Client(id) = flush {
                out.push(Envelope::Client(ClientMessage::File(id, file.clone())));
            }
        }
        // Changes of users in the skipped entries are not known, so all tokens are dropped. Clients
        // request new ones.
        out.push(Envelope::Client(ClientMessage::Tokens(vec![TokenChange::AllGone])));
        let published = self.state.published();
        self.publish(published, out);
        out.push(Envelope::Client(ClientMessage::EventsLost));
        let index = snapshot.id.index;
        tracing::info!(snapshot_index = index.0, "applied a snapshot of another member");
        out.push(Envelope::Consensus(ConsensusInput::Applied(index)));
        Ok(())
    }

    /// Releases the reads whose index is in the published moment.
    fn release_reads(&mut self, out: &mut Vec<Envelope>) {
        let applied = self.moment.published.applied.index;
        while let Some((_, reads)) = self.reads.pop_front_if(|(index, _)| *index <= applied) {
            let ready = |read| Envelope::Client(ClientMessage::ReadReady(read));
            out.extend(reads.into_iter().map(ready));
        }
    }

    /// True if [`Applier::apply_next`] has entries and room for them.
    #[must_use]
    pub fn can_apply(&self) -> bool {
        self.transfers.restoring.is_none()
            && self.uncommitted.len() < BACKEND_BATCHES_MAX
            && self.unapplied.front().is_some_and(|entries| self.state.has_room_for(entries))
    }

    /// Applies the oldest committed batch, if the overlay has room for it.
    ///
    /// # Errors
    /// When the member cannot go on.
    pub fn apply_next(
        &mut self,
        now: Duration,
        out: &mut Vec<Envelope>,
    ) -> Result<Option<Applied>, Fatal> {
        self.apply_next_observed(now, &mut |_| {}, out)
    }

    /// As [`Applier::apply_next`]. Calls `observe` after each request of the batch, so that the
    /// caller can measure how long each took.
    ///
    /// # Errors
    /// As [`Applier::apply_next`].
    pub fn apply_next_observed(
        &mut self,
        now: Duration,
        observe: &mut dyn FnMut(Executed),
        out: &mut Vec<Envelope>,
    ) -> Result<Option<Applied>, Fatal> {
        if !self.can_apply() {
            return Ok(None);
        }
        let Some(entries) = self.unapplied.pop_front() else { return Ok(None) };
        let applied = Applied { entries: entries.len() };
        let mut effects = Vec::new();
        self.state.apply(in_ms(now), entries, observe, &mut effects)?;
        self.carry_out(now, effects, out);
        self.save_snapshot(out);
        Ok(Some(applied))
    }

    /// True if [`Applier::housekeep`] has something to do now.
    #[must_use]
    pub fn has_housekeeping(&self) -> bool {
        self.transfers.restoring.is_none()
            && self.uncommitted.len() < BACKEND_BATCHES_MAX
            && self.state.has_housekeeping()
    }

    /// Does one slice of housekeeping, that is, of a compaction.
    ///
    /// # Errors
    /// When the member cannot go on.
    pub fn housekeep(&mut self, now: Duration, out: &mut Vec<Envelope>) -> Result<(), Fatal> {
        if self.has_housekeeping() {
            self.step(now, Input::Idle, out)?;
        }
        Ok(())
    }

    fn leads(&self) -> bool {
        self.leadership.leader == self.member && self.member != NodeId::NONE
    }

    fn lead(
        &mut self,
        now: Duration,
        leadership: Leadership,
        out: &mut Vec<Envelope>,
    ) -> Result<(), Fatal> {
        if leadership == self.leadership {
            return Ok(());
        }
        self.leadership = leadership;
        // Proposals of an earlier term may be lost without an answer.
        self.own.waiting.clear();
        self.own.compacting = None;
        self.own.no_space = false;
        let leader = match leadership.leader {
            NodeId::NONE => Leader::Unknown,
            _ if self.leads() => Leader::Me,
            _ => Leader::Other,
        };
        self.step(now, Input::Leadership(leadership.term, leader), out)?;
        let published = self.moment.published.clone();
        self.publish(published, out);
        Ok(())
    }

    fn tick(&mut self, now: Duration, out: &mut Vec<Envelope>) -> Result<(), Fatal> {
        if self.own.waiting.len() < OWN_PROPOSALS_MAX {
            self.step(now, Input::Tick, out)?;
            self.compact_if_due(now, out);
        }
        Ok(())
    }

    /// Passes an input to `state` and turns its effects into messages. Messages to consensus come
    /// last, after the moment that contains the change is published.
    fn step(&mut self, now: Duration, input: Input, out: &mut Vec<Envelope>) -> Result<(), Fatal> {
        let mut effects = Vec::new();
        self.state.step(in_ms(now), input, &mut effects)?;
        self.carry_out(now, effects, out);
        Ok(())
    }

    /// Turns effects of `state` into messages.
    fn carry_out(&mut self, now: Duration, effects: Vec<Effect>, out: &mut Vec<Envelope>) {
        let mut to_consensus = Vec::new();
        for effect in effects {
            match effect {
                Effect::Commit(batch) => {
                    self.uncommitted.push_back(batch.applied().index);
                    out.push(Envelope::Backend(BackendInput::Batch(batch)));
                }
                Effect::Tokens(changes) => {
                    out.push(Envelope::Client(ClientMessage::Tokens(changes)));
                }
                Effect::Publish(published) => self.publish(*published, out),
                Effect::Events(events) => out.push(Envelope::Client(ClientMessage::Events(events))),
                Effect::Answer(id, result) => {
                    self.answer(now, id, result.map_err(RequestFailure::Rejected), out);
                }
                Effect::Reply(id, reply) => {
                    out.push(Envelope::Client(ClientMessage::Reply(id, reply)));
                }
                Effect::Propose(request, proposer) => {
                    self.propose(*request, proposer, out);
                }
                Effect::ConfChanged(change) => {
                    to_consensus.push(ConsensusInput::ConfChanged(change))
                }
                Effect::Applied(index) => to_consensus.push(ConsensusInput::Applied(index)),
                Effect::Snapshot(snapshot) => self.saving.due = Some(snapshot),
            }
        }
        out.extend(to_consensus.into_iter().map(Envelope::Consensus));
    }

    fn publish(&mut self, published: Published, out: &mut Vec<Envelope>) {
        if published.alarms.is_on(AlarmType::Nospace) {
            self.own.no_space = false;
        }
        self.moment = Arc::new(Moment {
            published,
            leadership: self.leadership,
            member: self.member,
            overlay_bytes: self.state.overlay_bytes(),
        });
        out.push(Envelope::Client(ClientMessage::Publish(Arc::clone(&self.moment))));
        self.release_reads(out);
    }

    fn answer(
        &mut self,
        now: Duration,
        id: u64,
        result: Result<Answer, RequestFailure>,
        out: &mut Vec<Envelope>,
    ) {
        if matches!(result, Err(RequestFailure::Rejected(Reject::NoSpace))) {
            self.raise_no_space(out);
        }
        self.own_ended(now, id, &result);
        out.push(Envelope::Client(ClientMessage::Answer(id, result)));
    }

    /// Sends the snapshot that is due to the log, once the database file contains all entries that
    /// it covers, and the log is not saving another one.
    fn save_snapshot(&mut self, out: &mut Vec<Envelope>) {
        let oldest = self.uncommitted.front();
        let is_in_file =
            |snapshot: &mut Snapshot| oldest.is_none_or(|oldest| *oldest > snapshot.id.index);
        if self.saving.under_way {
            return;
        }
        if let Some(snapshot) = self.saving.due.take_if(is_in_file) {
            self.saving.under_way = true;
            out.push(Envelope::Consensus(ConsensusInput::SaveSnapshot(snapshot)));
        }
    }

    fn raise_no_space(&mut self, out: &mut Vec<Envelope>) {
        let is_on = self.moment.published.alarms.is_on(AlarmType::Nospace);
        if is_on || std::mem::replace(&mut self.own.no_space, true) {
            return;
        }
        let alarm = AlarmRequest {
            action: AlarmAction::Activate.into(),
            member_id: self.member.0,
            alarm: AlarmType::Nospace.into(),
        };
        tracing::warn!("the database has reached its quota; raising the alarm NOSPACE");
        let request = InternalRaftRequest { alarm: Some(alarm), ..Default::default() };
        self.propose(request, Proposer::Member, out);
    }

    fn compact_if_due(&mut self, now: Duration, out: &mut Vec<Envelope>) {
        let leads = self.leads() && self.own.compacting.is_none();
        let revision = self.moment.published.view.revision();
        let Some(revision) = self.own.compactor.due(now, revision, leads) else { return };
        tracing::info!(revision, "starting auto {} compaction", self.own.compactor.mode());
        let compaction = CompactionRequest { revision, physical: false };
        let request = InternalRaftRequest { compaction: Some(compaction), ..Default::default() };
        let id = self.propose(request, Proposer::Leader, out);
        self.own.compacting = Some(AutoCompacting { id, revision, begun: now });
    }

    /// Records the result of a proposal of the applier itself.
    fn own_ended(&mut self, now: Duration, id: u64, result: &Result<Answer, RequestFailure>) {
        let OwnProposals { waiting, compactor, compacting, .. } = &mut self.own;
        if !waiting.remove(&id) {
            return;
        }
        let Some(AutoCompacting { revision, begun, .. }) =
            compacting.take_if(|compacting| compacting.id == id)
        else {
            return;
        };
        let mode = compactor.mode();
        match result {
            // A client may have compacted further meanwhile.
            Ok(_) | Err(RequestFailure::Rejected(Reject::Compacted)) => {
                compactor.succeeded(now, revision);
                let took = now.saturating_sub(begun);
                tracing::info!(revision, ?took, "completed auto {mode} compaction");
            }
            Err(error) => tracing::warn!(revision, %error, "failed auto {mode} compaction"),
        }
    }

    /// Proposes a request that no client waits for. Returns its id.
    fn propose(
        &mut self,
        mut request: InternalRaftRequest,
        proposer: Proposer,
        out: &mut Vec<Envelope>,
    ) -> u64 {
        let id = self.own.ids.next_id();
        let header = request.header.take().unwrap_or_default();
        request.header = Some(RequestHeader { id, ..header });
        if let Some(v2) = &mut request.v2 {
            v2.id = Some(id);
        }
        self.own.waiting.insert(id);
        let data = request.encode_to_vec().into();
        let mut proposal = Proposal::request(id, data);
        if proposer == Proposer::Leader {
            proposal.as_leader_of = Some(self.leadership.term);
        }
        out.push(Envelope::Consensus(ConsensusInput::Propose(proposal)));
        id
    }
}
