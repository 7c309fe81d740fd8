//! The clients of the cluster: they choose their next call and its member. Some write and read
//! keys, some hold leases, one compacts. A client has one call in flight. If it gives the call up,
//! it does not know whether it was executed.

use super::clock::SECOND;
use super::gateway::Request;
use crate::kv::calls::{Condition, KvCall, Operation};
use bytes::Bytes;
use proto::LeaseId;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request as OpRequest;
use proto::etcdserverpb::{
    CompactionRequest, Compare, DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest,
    LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use random::Random;
use state::LeaseQuery;
use std::collections::BTreeMap;

/// Keys that are put, deleted, and changed in transactions.
const KEYS: u64 = 14;
/// Keys that are only put, swapped and read: registers.
const REGISTERS: u64 = 4;
/// The prefix of keys with leases.
const LEASED: &str = "lease/";

/// The task of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Keys,
    Leases,
    Compactions,
}

/// The purpose of a call.
#[derive(Clone, Debug)]
pub(crate) enum Purpose {
    /// A call that is part of the history.
    Kv(KvCall),
    Serializable(Vec<Operation>),
    Grant(i64),
    LeasePut,
    KeepAlive(i64),
    Revoke(i64),
    Compact,
}

/// A call in flight.
#[derive(Clone, Debug)]
pub(crate) struct UnderWay {
    /// Its number among all calls of all clients.
    pub(crate) number: u64,
    pub(crate) begun: u64,
    /// The host of the called member.
    pub(crate) at: usize,
    pub(crate) purpose: Purpose,
    /// The newest revision that any client had seen when it began.
    pub(crate) floor: i64,
    /// The sum of all clock jumps when it began.
    pub(crate) jumped: u64,
    /// Its position in the history, if it is part of it.
    pub(crate) place: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct HeldLease {
    id: i64,
    /// How often it will still be used.
    uses: u64,
}

/// A client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) role: Role,
    random: Random,
    /// The host of the member that it prefers.
    pub(crate) at: usize,
    pub(crate) under_way: Option<UnderWay>,
    /// The last value that it saw of each register.
    known: BTreeMap<Bytes, Bytes>,
    lease: Option<HeldLease>,
    /// The mean time between two calls.
    think: u64,
}

fn key_of(number: u64) -> Bytes {
    format!("k/{number:02}").into()
}

fn register_of(number: u64) -> Bytes {
    format!("r/{number}").into()
}

impl Client {
    pub(crate) fn new(role: Role, at: usize, think: u64, random: Random) -> Client {
        Client { role, random, at, under_way: None, known: BTreeMap::new(), lease: None, think }
    }

    /// The time until its next call.
    pub(crate) fn pause(&mut self) -> u64 {
        match self.role {
            Role::Keys => self.think / 2 + self.random.below(self.think),
            Role::Leases => SECOND / 4 + self.random.below(SECOND),
            Role::Compactions => 2 * SECOND + self.random.below(20 * SECOND),
        }
    }

    /// How long it waits for a response.
    pub(crate) fn patience(&mut self) -> u64 {
        2 * SECOND + self.random.below(4 * SECOND)
    }

    /// Tries another member from now on.
    pub(crate) fn move_on(&mut self, members: &[usize], leader: Option<usize>) {
        self.at = match leader {
            Some(leader) if self.random.chance(128) => leader,
            Some(_) | None => match members {
                [] => self.at,
                members => members[self.random.index(members.len())],
            },
        };
    }

    /// Its next call.
    pub(crate) fn next(
        &mut self,
        number: u64,
        revision: i64,
        members: &[usize],
    ) -> (Purpose, Request) {
        if self.random.chance(6) {
            self.move_on(members, None);
        }
        match self.role {
            Role::Keys => self.next_of_keys(number),
            Role::Leases => self.next_of_leases(number),
            Role::Compactions => {
                let back = i64::try_from(self.random.below(300)).unwrap_or(0);
                let physical = self.random.chance(64);
                let revision = (revision - back).max(1);
                let compaction = Some(CompactionRequest { revision, physical });
                let request = InternalRaftRequest { compaction, ..Default::default() };
                (Purpose::Compact, Request::Propose(Box::new(request)))
            }
        }
    }

    fn value(&mut self, number: u64) -> Bytes {
        let mut value = format!("{number:x}").into_bytes();
        let len = match self.random.below(24) {
            0 => 600 + self.random.index(1_500),
            1..=4 => self.random.index(200),
            _ => 0,
        };
        value.resize(value.len() + len, b'.');
        value.into()
    }

    fn next_of_keys(&mut self, number: u64) -> (Purpose, Request) {
        let key = key_of(self.random.below(KEYS));
        let register = register_of(self.random.below(REGISTERS));
        let call = match self.random.below(100) {
            0..28 => KvCall::one(Operation::Put(key, self.value(number))),
            28..34 => KvCall::one(Operation::Delete(key)),
            34..48 => KvCall::one(Operation::Get(key)),
            48..52 => KvCall::one(Operation::Range("k/".into(), "k0".into())),
            52..60 => KvCall::one(Operation::Put(register, self.value(number))),
            60..70 => KvCall::one(Operation::Get(register)),
            70..80 => self.swap(register, number),
            80..90 => self.transaction(number),
            _ => {
                let operation = if self.random.chance(64) {
                    Operation::Range("k/".into(), "k0".into())
                } else {
                    Operation::Get(key)
                };
                let operations = vec![operation];
                let read = Request::Read { operations: operations.clone(), linearizable: false };
                return (Purpose::Serializable(operations), read);
            }
        };
        let request = request_of(&call);
        (Purpose::Kv(call), request)
    }

    fn swap(&mut self, register: Bytes, number: u64) -> KvCall {
        let Some(known) = self.known.get(&register).cloned() else {
            return KvCall::one(Operation::Get(register));
        };
        let value = self.value(number);
        KvCall {
            conditions: vec![Condition::Value(register.clone(), known)],
            then: vec![Operation::Put(register, value)],
            otherwise: Vec::new(),
        }
    }

    /// A transaction of some operations on different keys.
    fn transaction(&mut self, number: u64) -> KvCall {
        let first = self.random.below(KEYS);
        let operations = |random: &mut Random| {
            let count = 1 + random.below(4);
            let operations = (0..count).map(|at| {
                let key = key_of((first + at) % KEYS);
                match random.below(4) {
                    0 => Operation::Delete(key),
                    1 => Operation::Get(key),
                    _ => Operation::Put(key, format!("{number:x}-{at}").into()),
                }
            });
            operations.collect::<Vec<_>>()
        };
        let then = operations(&mut self.random);
        let otherwise = operations(&mut self.random);
        let is_conditional = self.random.chance(128);
        let condition = Condition::Modified(key_of(first), 0);
        let conditions = if is_conditional { vec![condition] } else { Vec::new() };
        let otherwise = if is_conditional { otherwise } else { Vec::new() };
        KvCall { conditions, then, otherwise }
    }

    fn next_of_leases(&mut self, number: u64) -> (Purpose, Request) {
        let propose = |request| Request::Propose(Box::new(request));
        let Some(lease) = self.lease.filter(|lease| lease.uses > 0) else {
            self.lease = None;
            let id = i64::try_from(number + 1).unwrap_or(1);
            let ttl = 2 + i64::try_from(self.random.below(8)).unwrap_or(0);
            let lease_grant = Some(LeaseGrantRequest { id, ttl });
            let request = InternalRaftRequest { lease_grant, ..Default::default() };
            return (Purpose::Grant(id), propose(request));
        };
        let id = lease.id;
        self.lease = Some(HeldLease { uses: lease.uses - 1, ..lease });
        match self.random.below(10) {
            0..4 => (Purpose::KeepAlive(id), Request::Lease(LeaseQuery::KeepAlive(LeaseId(id)))),
            4..9 => {
                let key = format!("{LEASED}{:02}", self.random.below(30)).into();
                let value = self.value(number);
                let put = Some(PutRequest { key, value, lease: id, ..PutRequest::default() });
                let request = InternalRaftRequest { put, ..Default::default() };
                (Purpose::LeasePut, propose(request))
            }
            _ if lease.uses == 1 => {
                let lease_revoke = Some(LeaseRevokeRequest { id });
                let request = InternalRaftRequest { lease_revoke, ..Default::default() };
                (Purpose::Revoke(id), propose(request))
            }
            _ => (Purpose::KeepAlive(id), Request::Lease(LeaseQuery::KeepAlive(LeaseId(id)))),
        }
    }

    /// Called when it has got a lease.
    pub(crate) fn hold(&mut self, id: i64) {
        self.lease = Some(HeldLease { id, uses: 1 + self.random.below(25) });
    }

    /// Called when its lease is gone.
    pub(crate) fn lose_lease(&mut self) {
        self.lease = None;
    }

    /// Called when it has seen the value of a register.
    pub(crate) fn saw(&mut self, key: &Bytes, value: &Bytes) {
        if key.starts_with(b"r/") {
            self.known.insert(key.clone(), value.clone());
        }
    }
}

/// A call of the history as a request.
fn request_of(call: &KvCall) -> Request {
    let reads_only =
        call.operations().all(|it| matches!(it, Operation::Get(_) | Operation::Range(..)));
    if call.conditions.is_empty() && reads_only {
        return Request::Read { operations: call.then.clone(), linearizable: true };
    }
    let mut request = InternalRaftRequest::default();
    match (&call.conditions[..], &call.then[..]) {
        ([], [Operation::Put(key, value)]) => {
            let (key, value) = (key.clone(), value.clone());
            request.put = Some(PutRequest { key, value, ..PutRequest::default() });
        }
        ([], [Operation::Delete(key)]) => {
            let key = key.clone();
            request.delete_range = Some(DeleteRangeRequest { key, ..Default::default() });
        }
        _ => {
            request.txn = Some(TxnRequest {
                compare: call.conditions.iter().map(compare_of).collect(),
                success: call.then.iter().map(op_of).collect(),
                failure: call.otherwise.iter().map(op_of).collect(),
            });
        }
    }
    Request::Propose(Box::new(request))
}

fn compare_of(condition: &Condition) -> Compare {
    let (target, key, union) = match condition {
        Condition::Value(key, value) => {
            (CompareTarget::Value, key, TargetUnion::Value(value.clone()))
        }
        Condition::Modified(key, revision) => {
            (CompareTarget::Mod, key, TargetUnion::ModRevision(*revision))
        }
    };
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.clone(),
        target_union: Some(union),
        ..Compare::default()
    }
}

fn op_of(operation: &Operation) -> RequestOp {
    let request = match operation.clone() {
        Operation::Put(key, value) => {
            OpRequest::RequestPut(PutRequest { key, value, ..PutRequest::default() })
        }
        Operation::Delete(key) => OpRequest::RequestDeleteRange(DeleteRangeRequest {
            key,
            ..DeleteRangeRequest::default()
        }),
        Operation::Get(key) => {
            OpRequest::RequestRange(RangeRequest { key, ..RangeRequest::default() })
        }
        Operation::Range(key, range_end) => {
            OpRequest::RequestRange(RangeRequest { key, range_end, ..RangeRequest::default() })
        }
    };
    RequestOp { request: Some(request) }
}
