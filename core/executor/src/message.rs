//! The messages between the machines, and from them to clients.

use crate::moment::Moment;
use auth::TokenChange;
use backend::Batch;
use cluster::Version;
use member::{Append, Leadership, Proposal, Receipt};
use mvcc::EventBatch;
use proto::answer::Answer;
use proto::{ConfChange, Entry, HardState, Index, NodeId};
use raft::{Body, LogPart, LogRead, Message, RaftSnapshot};
use state::{Question, Reject, Reply, Snapshot};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// A message and its destination.
#[derive(Debug)]
pub enum Envelope {
    /// To [`crate::Consensus`].
    Consensus(ConsensusInput),
    /// To [`crate::Applier`].
    Apply(ApplyInput),
    /// To [`crate::LogWriter`].
    Log(LogInput),
    /// To [`crate::BackendWriter`].
    Backend(BackendInput),
    /// To the workers that serve clients.
    Client(ClientMessage),
    /// To other members. They may get lost.
    Peers(Vec<Message>),
    /// A snapshot to another member, with the database file that belongs to it.
    /// [`ConsensusInput::SnapshotSent`] must follow.
    PeerSnapshot(Box<Message>, bolt::View),
}

/// An input of [`crate::Consensus`].
#[derive(Debug)]
pub enum ConsensusInput {
    /// A heartbeat interval has passed.
    Tick,
    /// Propose this request with the others of the same round.
    Propose(Proposal),
    /// The log write of this receipt is synced.
    Durable(Receipt),
    /// Every entry up to this index is applied. Returns one credit of
    /// [`crate::APPLY_BATCHES_MAX`].
    Applied(Index),
    /// A configuration change was applied; `None` if `state` found it invalid.
    ConfChanged(Option<ConfChange>),
    /// Save this snapshot; the database is durable up to its index.
    SaveSnapshot(Snapshot),
    /// The `.snap` file at this index is durable.
    SnapshotSaved(Index),
    /// A message of another member.
    Message(Message),
    /// Confirm a linearizable read, with the others of the same round. [`ClientMessage::ReadReady`]
    /// follows once everything that was acknowledged before is applied here; while there is no
    /// leader, it does not follow.
    Read(u64),
    /// Report the state of raft, as [`ClientMessage::Status`].
    Status(u64),
    /// A snapshot for members that are too far behind, and the database file of the same moment.
    PeerSnapshot(RaftSnapshot, bolt::View),
    /// The part of the log for a [`LogInput::Read`]; `None` if the log does not have it.
    LogRead(LogRead, Option<LogPart>),
    /// Transfer the leadership to this voter.
    Transfer(NodeId),
    /// A message to this member could not be sent.
    Unreachable(NodeId),
    /// A snapshot was delivered to a member, or could not be.
    SnapshotSent {
        /// The member.
        to: NodeId,
        /// Whether it has the snapshot.
        delivered: bool,
    },
}

/// The inputs for which the sleeping thread of a machine is woken. All inputs that are not listed
/// here wake it always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WakeFor {
    /// Proposals: of clients, or forwarded by other members.
    pub proposals: bool,
    /// Inputs that return a credit.
    pub credits: bool,
    /// Reads that ask for a confirmation.
    pub reads: bool,
    /// The end of a log write.
    pub durable: bool,
    /// The last of this many batches for the database. 0: every batch.
    pub batches: usize,
    /// The batch with which the batches for the database have this many bytes together.
    pub batch_bytes: usize,
}

impl WakeFor {
    /// Every input wakes the thread.
    pub const ALL: WakeFor = WakeFor {
        proposals: true,
        credits: true,
        reads: true,
        durable: true,
        batches: 0,
        batch_bytes: 0,
    };

    /// Whether this input of [`crate::Consensus`] wakes its thread.
    #[must_use]
    pub fn contains(self, input: &ConsensusInput) -> bool {
        match input {
            ConsensusInput::Propose(_) => self.proposals,
            ConsensusInput::Message(message) if is_proposal(message) => self.proposals,
            ConsensusInput::Applied(_) => self.credits,
            ConsensusInput::Read(_) => self.reads,
            ConsensusInput::Durable(_) => self.durable,
            ConsensusInput::Tick
            | ConsensusInput::ConfChanged(_)
            | ConsensusInput::SaveSnapshot(_)
            | ConsensusInput::SnapshotSaved(_)
            | ConsensusInput::Message(_)
            | ConsensusInput::Status(_)
            | ConsensusInput::PeerSnapshot(..)
            | ConsensusInput::LogRead(..)
            | ConsensusInput::Transfer(_)
            | ConsensusInput::Unreachable(_)
            | ConsensusInput::SnapshotSent { .. } => true,
        }
    }

    /// Whether this input of [`crate::BackendWriter`] wakes its thread. Counts it, if it is a batch.
    #[must_use]
    pub fn counts(&mut self, input: &BackendInput) -> bool {
        let BackendInput::Batch(batch) = input else { return true };
        self.batches = self.batches.saturating_sub(1);
        self.batch_bytes = self.batch_bytes.saturating_sub(batch.bytes());
        self.batches == 0 || self.batch_bytes == 0
    }
}

/// Whether a message forwards proposals of another member.
pub(crate) fn is_proposal(message: &Message) -> bool {
    matches!(message.body, Body::Propose { .. })
}

/// An input of [`crate::Applier`].
#[derive(Debug)]
pub enum ApplyInput {
    /// A heartbeat interval has passed.
    Tick,
    /// These entries are committed. `leadership` is at least as recent as they are. Takes one
    /// credit of [`crate::APPLY_BATCHES_MAX`] unless `entries` is empty.
    Committed {
        /// Term and leader.
        leadership: Leadership,
        /// The entries, which follow the ones committed before.
        entries: Vec<Entry>,
    },
    /// A proposal of the applier itself was refused.
    Refused(u64),
    /// These reads are linearizable once everything up to this index is applied.
    Reads(Index, Vec<u64>),
    /// A query, which needs no log entry.
    Ask(u64, Question),
    /// Commit now, and send a view of the database file that contains all entries applied by now.
    /// The commit is made even if there is nothing to commit, since it may return free space.
    Flush(u64),
    /// The known versions of the other members.
    MemberVersions(BTreeMap<NodeId, Version>),
    /// Raise the NOSPACE alarm for this member, unless it is raised or proposed already.
    RaiseNoSpace,
    /// The oldest batches are durable in this view of the file.
    BackendDurable {
        /// How many batches.
        batches: usize,
        /// How many of the oldest [`ApplyInput::Flush`]es are done.
        flushes: usize,
        /// The file that contains them.
        file: bolt::View,
    },
    /// The log has saved the snapshot.
    SnapshotSaved,
    /// Take a snapshot for members that are too far behind, as [`ConsensusInput::PeerSnapshot`].
    TakePeerSnapshot,
    /// Continue from this snapshot of another member, whose record is durable. It replaces the state
    /// and all entries that are not applied. Takes one credit of [`crate::APPLY_BATCHES_MAX`].
    Restore(Snapshot),
    /// The database is the file of the snapshot that is being restored.
    DatabaseReplaced(bolt::View),
}

/// An input of [`crate::LogWriter`].
#[derive(Debug)]
pub enum LogInput {
    /// Append these entries and this hard state, and sync.
    Append(Append),
    /// Save this snapshot. The hard state's commit index covers it.
    Snapshot(Snapshot, HardState),
    /// Read this part of the log for a member that is behind. At most one for each member.
    Read(LogRead),
    /// Save this snapshot of another member, which replaces the log. The next batch follows it.
    Restore(Snapshot),
}

/// An input of [`crate::BackendWriter`].
#[derive(Debug)]
pub enum BackendInput {
    /// Commit this batch, after those before it.
    Batch(Arc<Batch>),
    /// Commit without waiting for the interval; the report counts it as a flush.
    CommitNow,
    /// Drop all batches, and continue with the database file that was received with the snapshot at
    /// this index.
    Replace(Index),
    /// A [`ApplyInput::BackendDurable`] was taken. Returns one credit of
    /// [`crate::BACKEND_REPORTS_MAX`].
    ReportTaken,
}

/// A message to the workers that serve clients.
#[derive(Debug)]
pub enum ClientMessage {
    /// Reads use this moment from now on.
    Publish(Arc<Moment>),
    /// These tokens have become valid or invalid. Sent before the moment that contains the cause is
    /// published.
    Tokens(Vec<TokenChange>),
    /// Events for watchers, in order.
    Events(Vec<Arc<EventBatch>>),
    /// Events before the last published moment were lost: watchers must read them from the history.
    EventsLost,
    /// The result of the request with this id.
    Answer(u64, Result<Answer, RequestFailure>),
    /// The reply to the query with this id.
    Reply(u64, Reply),
    /// The file for the [`ApplyInput::Flush`] with this id.
    File(u64, bolt::View),
    /// The last published moment serves the [`ConsensusInput::Read`] with this id.
    ReadReady(u64),
    /// The [`ConsensusInput::Read`] with this id was refused: too many wait.
    ReadRefused(u64),
    /// The state of raft, for the [`ConsensusInput::Status`] with this id.
    Status(u64, Box<raft::Status>),
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestFailure {
    /// The entry was applied, and the request was rejected.
    Rejected(Reject),
    /// It was not proposed: too many entries are committed and not yet applied.
    TooManyRequests,
}

impl fmt::Display for RequestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestFailure::Rejected(reject) => write!(f, "{reject:?}"),
            RequestFailure::TooManyRequests => f.write_str("too many requests"),
        }
    }
}
