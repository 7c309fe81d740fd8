//! The machine around `member`: it gathers proposals into rounds, sends batches to the log, and
//! sends committed entries to the applier as far as there is credit.

use crate::gathered::{Gathered, GatheringEnd};
use crate::ids::{IdLane, RequestIds};
use crate::joined::{LastAnswer, join_messages};
use crate::message::{
    ApplyInput, ClientMessage, ConsensusInput, Envelope, LogInput, RequestFailure, WakeFor,
    is_proposal,
};
use crate::reads::ReadRounds;
use member::{Effect, Input, Leadership, Member, Refusal};
use proto::{Entry, EntryId, Index, NodeId};
use raft::{Body, Message, RaftSnapshot, Read};
use state::Snapshot;
use std::collections::VecDeque;
use std::time::Duration;

/// How many batches of committed entries the applier may have at once: it applies one while the
/// next one waits. Further batches stay here, so that a slow database disk does not fill a queue.
pub const APPLY_BATCHES_MAX: usize = 2;

/// The ticks that a snapshot for other members is kept: it holds pages of the database. A member that
/// needs one later gets a newer one.
const PEER_SNAPSHOT_TICKS: u32 = 300;

/// A leader whose log write takes this many election timeouts hands its place over to another voter:
/// its disk has stalled, and what it has not written it cannot help to commit.
const STALLED_WRITE_TIMEOUTS: u64 = 2;

/// How long proposals are gathered for the next round before the current one has ended. If a round
/// takes longer in the network, rounds overlap. Longer rounds need less CPU for each proposal, since a
/// round costs each member a sync, two messages and several wake-ups. Between distant members, a
/// proposal may wait this long before it is sent.
pub const GATHERING_TIME: Duration = Duration::from_millis(5);
/// How many bytes are gathered at most.
const GATHERED_BYTES_MAX: usize = 8 << 20;

/// An item for the applier. Items are sent in order.
#[derive(Debug)]
enum Committed {
    Entries(Vec<Entry>),
    /// A snapshot of another member replaces everything before it.
    Restore(Snapshot),
}

/// Snapshots from and for other members.
#[derive(Debug, Default)]
struct Transfers {
    /// A received snapshot that is not durable yet.
    restoring: Option<Snapshot>,
    /// A snapshot was requested from the applier.
    is_wanted: bool,
    /// The newest snapshot for other members, with its file.
    newest: Option<(EntryId, bolt::View)>,
    /// The age of `newest`, in ticks.
    ticks: u32,
    /// A member that needs an entry up to this one gets a snapshot.
    released: Index,
}

/// How far the applier is.
#[derive(Debug, Default)]
struct Applying {
    /// The last index of each batch that it has, oldest first.
    batches: VecDeque<Index>,
    /// The index up to which it has reported that all is applied and published.
    applied: Index,
}

/// The ids of requests and of rounds of reads.
#[derive(Debug)]
struct Ids {
    requests: RequestIds,
    /// The lane of the applier's own proposals.
    own_lane: usize,
    /// The contexts of the rounds of reads.
    contexts: IdLane,
}

/// Drives `member`. See the crate's description.
#[derive(Debug)]
pub struct Consensus {
    member: Member,
    /// How many entries before a snapshot are kept for members that are behind: in memory, or only
    /// in the log if they are too large.
    catch_up_entries: u64,
    ids: Ids,
    gathered: Gathered,
    /// Committed batches that have no credit yet, oldest first.
    committed: VecDeque<Committed>,
    applying: Applying,
    /// The leadership that the applier has not been sent yet.
    unsent: Option<Leadership>,
    reads: ReadRounds,
    transfers: Transfers,
    last_answer: LastAnswer,
    /// The ticks since the current log write began.
    writing_ticks: u64,
}

impl Consensus {
    pub(crate) fn new(
        member: Member,
        catch_up_entries: u64,
        requests: RequestIds,
        own_lane: usize,
        contexts: IdLane,
    ) -> Consensus {
        let unsent = Some(member.leadership());
        Consensus {
            member,
            catch_up_entries,
            ids: Ids { requests, own_lane, contexts },
            gathered: Gathered::default(),
            committed: VecDeque::new(),
            applying: Applying::default(),
            unsent,
            reads: ReadRounds::default(),
            transfers: Transfers::default(),
            last_answer: LastAnswer::default(),
            writing_ticks: 0,
        }
    }

    /// The consensus state.
    #[must_use]
    pub fn member(&self) -> &Member {
        &self.member
    }

    /// The inputs that would have an effect now. The others may be taken later, with any of these.
    #[must_use]
    pub fn wake_for(&self) -> WakeFor {
        WakeFor {
            proposals: !self.gathers(),
            credits: !self.committed.is_empty(),
            reads: !self.reads.is_under_way(),
            durable: self.transfers.restoring.is_some() || self.member.waits_for_durable(),
            ..WakeFor::ALL
        }
    }

    /// True if [`Consensus::end_round`] has work: proposals to make, or reads to confirm.
    #[must_use]
    pub fn has_round(&self) -> bool {
        (!self.gathered.is_empty() && !self.gathers()) || self.reads.is_due()
    }

    /// True if [`Consensus::end_round`] begins a round of reads. Until it is called, further reads may
    /// count as part of those that were taken: the index of the round is not chosen yet.
    #[must_use]
    pub fn begins_reads(&self) -> bool {
        self.reads.is_due()
    }

    /// True while proposals are only gathered. If they were made at once, each round would have one
    /// or two entries, and cost a message to and from each member and a sync on each.
    fn gathers(&self) -> bool {
        let is_writing_alone = self.member.is_sole_voter() && self.member.is_writing();
        (is_writing_alone || self.overlapping_round().is_some())
            && self.gathered.bytes() < GATHERED_BYTES_MAX
    }

    /// The number of the current round, if proposals are gathered for the next one. If it takes
    /// longer than [`GATHERING_TIME`], the caller calls [`Consensus::end_gathering`].
    #[must_use]
    pub fn overlapping_round(&self) -> Option<u64> {
        let is_under_way = match self.gathered.end {
            GatheringEnd::Now => false,
            GatheringEnd::Commit(index) => self.member.leads() && self.member.commit() < index,
            GatheringEnd::Append => !self.member.leads(),
        };
        (is_under_way && !self.member.is_sole_voter()).then_some(self.gathered.rounds())
    }

    /// Lets the next round begin although the last one has not ended.
    pub fn end_gathering(&mut self) {
        self.gathered.end = GatheringEnd::Now;
    }

    /// Takes one input. Proposals and reads are only gathered: [`Consensus::end_round`] makes the
    /// proposals and requests an index for the reads.
    pub fn take(&mut self, input: ConsensusInput, out: &mut Vec<Envelope>) {
        match input {
            ConsensusInput::Tick => {
                self.end_gathering();
                self.reads.tick();
                self.forget_old_snapshot(out);
                self.step(Input::Tick, out);
                self.yield_if_stalled(out);
            }
            ConsensusInput::Propose(proposal) => self.gathered.add(proposal),
            ConsensusInput::Durable(receipt) => {
                self.writing_ticks = 0;
                // There is one write at a time, so this is the one with the snapshot.
                let restored = self.transfers.restoring.take();
                self.committed.extend(restored.map(Committed::Restore));
                self.step(Input::Durable(receipt), out);
            }
            ConsensusInput::Applied(index) => {
                self.applying.applied = index;
                while self.applying.batches.pop_front_if(|last| *last <= index).is_some() {}
                self.step(Input::Applied(index), out);
            }
            ConsensusInput::ConfChanged(change) => self.step(Input::ConfChanged(change), out),
            ConsensusInput::SaveSnapshot(snapshot) => {
                let hard_state = self.member.hard_state();
                out.push(Envelope::Log(LogInput::Snapshot(snapshot, hard_state)));
            }
            ConsensusInput::SnapshotSaved(index) => {
                let keep = index.0.saturating_sub(self.catch_up_entries);
                // A member that gets a snapshot next needs the entries after it.
                let sent = self.transfers.newest.as_ref().map_or(keep, |(id, _)| id.index.0);
                let keep = keep.min(sent);
                self.transfers.released = Index(keep);
                self.step(Input::Compact(Index(keep)), out);
            }
            ConsensusInput::Message(message) if is_proposal(&message) => {
                self.gathered.add_forwarded(message);
            }
            ConsensusInput::Message(message) => {
                let is_append = matches!(message.body, Body::Append { .. });
                if is_append && matches!(self.gathered.end, GatheringEnd::Append) {
                    self.end_gathering();
                }
                self.last_answer.received(&message);
                self.step(Input::Message(message), out);
            }
            ConsensusInput::Read(read) => {
                if !self.reads.add(read) {
                    out.push(Envelope::Client(ClientMessage::ReadRefused(read)));
                }
            }
            ConsensusInput::Status(id) => {
                let status = Box::new(self.member.status());
                out.push(Envelope::Client(ClientMessage::Status(id, status)));
            }
            ConsensusInput::PeerSnapshot(snapshot, file) => {
                self.transfers.is_wanted = false;
                self.transfers.newest = Some((snapshot.id, file));
                self.transfers.ticks = 0;
                self.step(Input::Snapshot(Some(snapshot)), out);
            }
            ConsensusInput::LogRead(read, part) => self.step(Input::LogRead(read, part), out),
            ConsensusInput::Transfer(to) => self.step(Input::Transfer(to), out),
            ConsensusInput::Unreachable(member) => self.step(Input::Unreachable(member), out),
            ConsensusInput::SnapshotSent { to, delivered } => {
                self.step(Input::SnapshotSent { to, delivered }, out);
            }
        }
    }

    /// Proposes the gathered requests as one batch, as far as they fit, and requests an index for the
    /// reads.
    pub fn end_round(&mut self, out: &mut Vec<Envelope>) {
        if !self.gathered.is_empty() && !self.gathers() {
            let (own, forwarded) = self.gathered.take();
            self.step(Input::Propose { own, forwarded }, out);
            self.gathered.end = if self.member.leads() {
                GatheringEnd::Commit(self.member.raft().last().index)
            } else if self.member.leadership().leader != NodeId::NONE {
                GatheringEnd::Append
            } else {
                GatheringEnd::Now
            };
        }
        if self.reads.is_due() {
            let context = self.ids.contexts.next_id();
            self.reads.begin(context);
            self.step(Input::Read(context), out);
        }
        join_messages(out, &mut self.last_answer);
    }

    fn step(&mut self, input: Input, out: &mut Vec<Envelope>) {
        let mut effects = Vec::new();
        self.member.step(input, &mut effects);
        for effect in effects {
            match effect {
                Effect::Append(append) => {
                    self.last_answer.will_send(&append.answers);
                    out.push(Envelope::Log(LogInput::Append(append)));
                }
                Effect::Apply(entries) => self.committed.push_back(Committed::Entries(entries)),
                Effect::Leadership(leadership) => {
                    self.end_gathering();
                    self.reads.retry();
                    self.unsent = Some(leadership);
                }
                Effect::Send(messages) => self.send(messages, out),
                Effect::Read(Read { context, index }) => {
                    let reads = self.reads.confirmed(context);
                    if index <= self.applying.applied {
                        let ready = |read| Envelope::Client(ClientMessage::ReadReady(read));
                        out.extend(reads.into_iter().map(ready));
                    } else if !reads.is_empty() {
                        out.push(Envelope::Apply(ApplyInput::Reads(index, reads)));
                    }
                }
                Effect::BadMessage(error) => {
                    tracing::warn!(%error, "dropped a message of another member");
                }
                Effect::ReadLog(read) if read.first <= self.transfers.released => {
                    out.push(Envelope::Consensus(ConsensusInput::LogRead(read, None)));
                }
                Effect::ReadLog(read) => out.push(Envelope::Log(LogInput::Read(read))),
                Effect::SnapshotWanted => {
                    if !std::mem::replace(&mut self.transfers.is_wanted, true) {
                        out.push(Envelope::Apply(ApplyInput::TakePeerSnapshot));
                    }
                }
                Effect::Restore(RaftSnapshot { id, conf_state, data }) => {
                    let snapshot = Snapshot { id, conf_state, data };
                    self.transfers.restoring = Some(snapshot.clone());
                    out.push(Envelope::Log(LogInput::Restore(snapshot)));
                }
                Effect::Refuse(id, Refusal::TooManyRequests | Refusal::NotLeader) => {
                    out.push(self.refusal(id));
                }
            }
        }
        self.send_committed(out);
    }

    /// Sends messages to other members; those with snapshots together with their files.
    fn send(&self, messages: Vec<Message>, out: &mut Vec<Envelope>) {
        let mut others = Vec::new();
        for message in messages {
            let Body::Snapshot(snapshot) = &message.body else {
                others.push(message);
                continue;
            };
            let newest = self.transfers.newest.as_ref().filter(|(id, _)| *id == snapshot.id);
            let Some((_, file)) = newest else {
                unreachable!("raft sends only the snapshot that it was given last");
            };
            out.push(Envelope::PeerSnapshot(Box::new(message), file.clone()));
        }
        if !others.is_empty() {
            out.push(Envelope::Peers(others));
        }
    }

    /// Transfers the leadership if the disk of the log is stalled. The attempt is repeated, since
    /// raft gives it up after an election timeout.
    fn yield_if_stalled(&mut self, out: &mut Vec<Envelope>) {
        if !self.member.is_writing() {
            return;
        }
        self.writing_ticks += 1;
        let stalled = STALLED_WRITE_TIMEOUTS * self.member.raft().election_ticks();
        if !self.writing_ticks.is_multiple_of(stalled) {
            return;
        }
        let Some(matched) = self.member.matched() else { return };
        let voters = self.member.conf_state().voters;
        let others = matched.into_iter().filter(|(id, _)| voters[..].contains(id));
        let me = self.member.raft().id();
        let best = others.filter(|(id, _)| *id != me).max_by_key(|(_, matched)| *matched);
        let Some((to, _)) = best else { return };
        tracing::warn!(
            ticks = self.writing_ticks,
            "transferee-member-id" = format_args!("{to:x}"),
            "a write of the log takes too long; handing the leadership over"
        );
        self.step(Input::Transfer(to), out);
    }

    fn forget_old_snapshot(&mut self, out: &mut Vec<Envelope>) {
        if self.transfers.newest.is_none() {
            return;
        }
        self.transfers.ticks += 1;
        if self.transfers.ticks >= PEER_SNAPSHOT_TICKS {
            self.transfers.newest = None;
            self.step(Input::Snapshot(None), out);
        }
    }

    /// Sends batches to the applier as far as there is credit.
    fn send_committed(&mut self, out: &mut Vec<Envelope>) {
        while self.applying.batches.len() < APPLY_BATCHES_MAX {
            let entries = match self.committed.pop_front() {
                None => Vec::new(),
                Some(Committed::Entries(entries)) => entries,
                Some(Committed::Restore(snapshot)) => {
                    self.applying.batches.push_back(snapshot.id.index);
                    out.push(Envelope::Apply(ApplyInput::Restore(snapshot)));
                    continue;
                }
            };
            if entries.is_empty() && self.unsent.is_none() {
                return;
            }
            self.applying.batches.extend(entries.last().map(|entry| entry.index));
            let leadership = self.unsent.take().unwrap_or_else(|| self.member.leadership());
            out.push(Envelope::Apply(ApplyInput::Committed { leadership, entries }));
        }
    }

    fn refusal(&self, id: u64) -> Envelope {
        if self.ids.requests.lane_of(id) == Some(self.ids.own_lane) {
            Envelope::Apply(ApplyInput::Refused(id))
        } else {
            Envelope::Client(ClientMessage::Answer(id, Err(RequestFailure::TooManyRequests)))
        }
    }
}
