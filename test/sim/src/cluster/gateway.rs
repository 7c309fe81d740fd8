//! The worker of a member: it hands requests of clients to the machines, keeps the waiting calls,
//! reads from the moment that was published last, and feeds the watchers. Its rules are those of
//! `server::Worker`.

use super::watchers::MemberWatches;
use crate::kv::calls::{Operation, Part, Seen};
use auth::{Caller, KeyRange};
use bytes::Bytes;
use cluster::{ChangeContext, Member, Reach};
use executor::{
    ApplyInput, ClientMessage, ConsensusInput, Envelope, IdLane, Moment, RequestFailure,
};
use member::Proposal;
use mvcc::RangeQuery;
use prost::Message as _;
use proto::answer::{Answer, OpAnswer, TxnAnswer};
use proto::etcdserverpb::{InternalRaftRequest, RequestHeader};
use proto::mvccpb::KeyValue;
use proto::raftpb::ConfChangeType;
use proto::{ConfChange, Index, NodeId};
use state::{LeaseQuery, Question, Reply};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A client's request.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Propose(Box<InternalRaftRequest>),
    Read {
        operations: Vec<Operation>,
        linearizable: bool,
    },
    Lease(LeaseQuery),
    /// A membership change, and the members that the called member reaches.
    Change(Box<MemberCall>, Reach),
}

/// A membership change, as an operator requests it.
#[derive(Clone, Debug)]
pub(crate) enum MemberCall {
    Add(Member),
    Remove(NodeId),
    Update(NodeId, Vec<String>),
    Promote(NodeId),
}

/// A member's answer.
#[derive(Clone, Debug)]
pub(crate) enum Response {
    /// A proposal was applied or refused.
    Applied(Result<Answer, RequestFailure>),
    /// The revision of a read, and its result.
    Keys(i64, Vec<Part>),
    Lease(Reply),
    /// Too many calls wait, the member is a learner, or the membership change is not safe.
    Refused,
}

/// A response to a client.
#[derive(Debug)]
pub(crate) struct Answering {
    /// The number of the client's call.
    pub(crate) call: u64,
    pub(crate) response: Response,
}

#[derive(Debug)]
enum Waiting {
    Applied(u64),
    Read(u64, Vec<Operation>),
    /// The leader first asks the others whether it still leads.
    StillLeads(u64, LeaseQuery),
    /// The committed entries must be applied first.
    CommitApplied(u64, LeaseQuery),
    Reply(u64),
    /// A promotion waits for the learner's log position.
    Promote(u64, NodeId),
}

/// Values that the worker reads from the other threads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) commit: Index,
    /// Whether the process has not been paused recently.
    pub(crate) is_recent: bool,
}

/// The worker of a member.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) moment: Arc<Moment>,
    ids: IdLane,
    /// Messages of the machines for the worker.
    pub(crate) mail: VecDeque<ClientMessage>,
    waiting: BTreeMap<u64, Waiting>,
    pub(crate) watches: MemberWatches,
}

impl Gateway {
    pub(crate) fn new(moment: Arc<Moment>, ids: IdLane) -> Gateway {
        let watches = MemberWatches::new(moment.published.view.revision());
        Gateway { moment, ids, mail: VecDeque::new(), waiting: BTreeMap::new(), watches }
    }

    /// Handles a request. Responses that are ready at once are added to `answers`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn ask(
        &mut self,
        (call, request): (u64, Request),
        facts: Facts,
        out: &mut Vec<Envelope>,
        answers: &mut Vec<Answering>,
    ) -> Result<(), String> {
        // As in `api`, a learner serves only serializable reads.
        let is_for_learners = matches!(request, Request::Read { linearizable: false, .. });
        if self.is_learner() && !is_for_learners {
            answers.push(Answering { call, response: Response::Refused });
            return Ok(());
        }
        match request {
            Request::Change(change, reach) => {
                if let Err(refused) = self.change(call, *change, &reach, out) {
                    answers.push(refused);
                }
            }
            Request::Propose(mut request) => {
                let id = self.ids.next_id();
                request.header = Some(RequestHeader { id, ..RequestHeader::default() });
                let data = request.encode_to_vec().into();
                self.waiting.insert(id, Waiting::Applied(call));
                out.push(consensus(ConsensusInput::Propose(Proposal::request(id, data))));
            }
            Request::Read { operations, linearizable } => {
                if !linearizable || self.moment.is_linearizable() {
                    answers.push(Answering { call, response: read(&self.moment, &operations)? });
                } else {
                    let id = self.ids.next_id();
                    self.waiting.insert(id, Waiting::Read(call, operations));
                    out.push(consensus(ConsensusInput::Read(id)));
                }
            }
            Request::Lease(query) => {
                if self.leads() && !facts.is_recent {
                    let id = self.ids.next_id();
                    self.waiting.insert(id, Waiting::StillLeads(call, query));
                    out.push(consensus(ConsensusInput::Read(id)));
                } else {
                    answers.extend(self.ask_applied(call, query, facts, out));
                }
            }
        }
        Ok(())
    }

    /// Whether the member has no vote.
    pub(crate) fn is_learner(&self) -> bool {
        let member = self.moment.published.cluster.member(self.moment.member);
        member.is_some_and(|member| member.is_learner)
    }

    /// Proposes a membership change if it is safe, as `server` does.
    fn change(
        &mut self,
        call: u64,
        change: MemberCall,
        reach: &Reach,
        out: &mut Vec<Envelope>,
    ) -> Result<(), Answering> {
        let cluster = &self.moment.published.cluster;
        let safe = match &change {
            MemberCall::Add(member) => cluster.check_add(member.is_learner, reach),
            MemberCall::Remove(id) => cluster.check_remove(*id, reach),
            MemberCall::Update(..) | MemberCall::Promote(_) => Ok(()),
        };
        safe.map_err(|_| Answering { call, response: Response::Refused })?;
        let (kind, member) = match change {
            MemberCall::Add(member) if member.is_learner => {
                (ConfChangeType::ConfChangeAddLearnerNode, member)
            }
            MemberCall::Add(member) => (ConfChangeType::ConfChangeAddNode, member),
            MemberCall::Update(id, peer_urls) => {
                let member = Member { id, peer_urls, ..Member::default() };
                (ConfChangeType::ConfChangeUpdateNode, member)
            }
            MemberCall::Remove(node) => {
                let kind = ConfChangeType::ConfChangeRemoveNode;
                self.propose_change(call, (kind, node, Bytes::new()), out);
                return Ok(());
            }
            MemberCall::Promote(node) => {
                let id = self.ids.next_id();
                self.waiting.insert(id, Waiting::Promote(call, node));
                out.push(consensus(ConsensusInput::Status(id)));
                return Ok(());
            }
        };
        let node = member.id;
        let context = ChangeContext { member, is_promote: false }.to_json().into();
        self.propose_change(call, (kind, node, context), out);
        Ok(())
    }

    fn propose_change(
        &mut self,
        call: u64,
        (kind, node, context): (ConfChangeType, NodeId, Bytes),
        out: &mut Vec<Envelope>,
    ) {
        let id = self.ids.next_id();
        self.waiting.insert(id, Waiting::Applied(call));
        let change = ConfChange { id, kind, node, context };
        out.push(consensus(ConsensusInput::Propose(Proposal::change(&change))));
    }

    /// Promotes a learner if this member leads and the learner has most of the log.
    fn promote(
        &mut self,
        (call, node): (u64, NodeId),
        matched: Option<BTreeMap<NodeId, Index>>,
        out: &mut Vec<Envelope>,
    ) -> Option<Answering> {
        let is_ready = matched.is_some_and(|matched| {
            let own = matched.get(&self.moment.member).copied().unwrap_or_default();
            let learner = matched.get(&node);
            learner.is_some_and(|learner| cluster::check_in_sync(*learner, own).is_ok())
        });
        if !is_ready || self.moment.published.cluster.check_promote().is_err() {
            return Some(Answering { call, response: Response::Refused });
        }
        let member = Member { id: node, ..Member::default() };
        let context = ChangeContext { member, is_promote: true }.to_json().into();
        self.propose_change(call, (ConfChangeType::ConfChangeAddNode, node, context), out);
        None
    }

    fn leads(&self) -> bool {
        self.moment.leadership.leader == self.moment.member
    }

    /// Queries a lease once all committed entries are applied, if this member leads.
    fn ask_applied(
        &mut self,
        call: u64,
        query: LeaseQuery,
        facts: Facts,
        out: &mut Vec<Envelope>,
    ) -> Option<Answering> {
        if !self.leads() {
            return Some(Answering { call, response: Response::Lease(Reply::NotLeader) });
        }
        let id = self.ids.next_id();
        if self.moment.published.applied.index < facts.commit {
            self.waiting.insert(id, Waiting::CommitApplied(call, query));
            out.push(Envelope::Apply(ApplyInput::Reads(facts.commit, vec![id])));
        } else {
            self.ask_now(id, call, query, out);
        }
        None
    }

    fn ask_now(&mut self, id: u64, call: u64, query: LeaseQuery, out: &mut Vec<Envelope>) {
        self.waiting.insert(id, Waiting::Reply(call));
        let question = Question { caller: None, query };
        out.push(Envelope::Apply(ApplyInput::Ask(id, question)));
    }

    /// Delivers a message. A published moment is visible at once; other messages wait for the
    /// worker.
    pub(crate) fn deliver(&mut self, message: ClientMessage) {
        if let ClientMessage::Publish(moment) = message {
            self.moment = moment;
        } else {
            self.mail.push_back(message);
        }
    }

    /// Handles one message of the mailbox.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(crate) fn work(
        &mut self,
        facts: Facts,
        out: &mut Vec<Envelope>,
        answers: &mut Vec<Answering>,
    ) -> Result<(), String> {
        let Some(message) = self.mail.pop_front() else { return Ok(()) };
        match message {
            ClientMessage::Answer(id, result) => {
                if let Some(Waiting::Applied(call)) = self.waiting.remove(&id) {
                    answers.push(Answering { call, response: Response::Applied(result) });
                }
            }
            ClientMessage::Reply(id, reply) => {
                if let Some(Waiting::Reply(call)) = self.waiting.remove(&id) {
                    answers.push(Answering { call, response: Response::Lease(reply) });
                }
            }
            ClientMessage::ReadReady(id) => match self.waiting.remove(&id) {
                Some(Waiting::Read(call, operations)) => {
                    answers.push(Answering { call, response: read(&self.moment, &operations)? });
                }
                Some(Waiting::StillLeads(call, query)) => {
                    answers.extend(self.ask_applied(call, query, facts, out));
                }
                Some(Waiting::CommitApplied(call, query)) => self.ask_now(id, call, query, out),
                Some(Waiting::Applied(_) | Waiting::Reply(_) | Waiting::Promote(..)) | None => {}
            },
            ClientMessage::ReadRefused(id) => {
                if let Some(Waiting::Read(call, _) | Waiting::StillLeads(call, _)) =
                    self.waiting.remove(&id)
                {
                    answers.push(Answering { call, response: Response::Refused });
                }
            }
            ClientMessage::Events(batches) => {
                self.watches.on_events(&batches, &self.moment.published.view)?;
            }
            ClientMessage::EventsLost => self.watches.events_lost(&self.moment.published.view),
            ClientMessage::Status(id, status) => {
                let progress = status.progress;
                let matched =
                    progress.map(|all| all.into_iter().map(|(id, at)| (id, at.matched)).collect());
                if let Some(Waiting::Promote(call, node)) = self.waiting.remove(&id) {
                    answers.extend(self.promote((call, node), matched, out));
                }
            }
            ClientMessage::Publish(_) | ClientMessage::Tokens(_) | ClientMessage::File(..) => {}
        }
        Ok(())
    }
}

fn consensus(input: ConsensusInput) -> Envelope {
    Envelope::Consensus(input)
}

/// Reads from a moment.
fn read(moment: &Moment, operations: &[Operation]) -> Result<Response, String> {
    let published = &moment.published;
    let mut parts = Vec::with_capacity(operations.len());
    for operation in operations {
        let keys = match operation {
            Operation::Get(key) => KeyRange::One(key.clone()),
            Operation::Range(from, end) => {
                KeyRange::Span { from: from.clone(), end: Some(end.clone()) }
            }
            Operation::Put(..) | Operation::Delete(_) => continue,
        };
        let query = published.auth.permit(&Caller::default(), RangeQuery::of(keys));
        let query = query.map_err(|denied| format!("a read: {denied}"))?;
        let cursor = published.view.range(&query).map_err(|error| format!("a read: {error:?}"))?;
        let (kvs, _) = cursor.read_all().map_err(|error| format!("a read: {error}"))?;
        parts.push(keys_of(kvs.iter())?);
    }
    Ok(Response::Keys(published.view.revision(), parts))
}

fn keys_of<'a>(kvs: impl Iterator<Item = &'a Bytes>) -> Result<Part, String> {
    let decode = |kv: &Bytes| {
        let kv = KeyValue::decode(kv.clone()).map_err(|error| format!("a key-value: {error}"))?;
        let KeyValue { key, value, create_revision, mod_revision, version, .. } = kv;
        Ok((key, Seen { value, create_revision, mod_revision, version }))
    };
    kvs.map(decode).collect::<Result<_, String>>().map(Part::Keys)
}

/// Converts the answer to a proposal: its revision, whether the conditions held, and the parts.
///
/// # Errors
/// When it is not an answer to a change of keys.
pub(crate) fn parts_of(answer: &Answer) -> Result<(i64, bool, Vec<Part>), String> {
    match answer {
        Answer::Put(put) => Ok((put.revision, true, vec![Part::Put])),
        Answer::Delete(delete) => Ok((delete.revision, true, vec![Part::Deleted(delete.deleted)])),
        Answer::Txn(TxnAnswer { revision, succeeded, responses }) => {
            let part = |response: &OpAnswer| match response {
                OpAnswer::Put(_) => Ok(Part::Put),
                OpAnswer::Delete(delete) => Ok(Part::Deleted(delete.deleted)),
                OpAnswer::Range(range) => keys_of(range.kvs.iter()),
                OpAnswer::Txn(_) => Err("a nested transaction".to_owned()),
            };
            let parts = responses.iter().map(part).collect::<Result<_, _>>()?;
            Ok((*revision, *succeeded, parts))
        }
        Answer::Range(_)
        | Answer::Compact { .. }
        | Answer::LeaseGrant(_)
        | Answer::LeaseRevoke { .. }
        | Answer::Alarm { .. }
        | Answer::Auth(_)
        | Answer::Done => Err(format!("an answer of another kind: {answer:?}")),
    }
}
