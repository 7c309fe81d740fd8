//! The calls of the clients and their answers, in the form that the checkers take.

use super::probe::Probes;
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RangeResponse, RequestOp, TxnRequest,
    request_op::Request, response_op::Response,
};
use rpc::stubs::etcdserverpb::kv_client::KvClient;
use sim::kv::calls::{Answered, Condition, KvAnswer, KvCall, Operation, Part, Seen};
use sim::linearizable::Timed;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;
use tonic::transport::Channel;

/// How long a client waits for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);

/// All calls of all clients.
#[derive(Debug)]
pub(super) struct Record {
    clock: Arc<Probes>,
    calls: Mutex<Vec<Timed<Answered>>>,
    /// How many calls were answered.
    answered: AtomicU64,
    /// The errors, and how often each occurred.
    errors: Mutex<BTreeMap<String, u64>>,
}

impl Record {
    pub(super) fn new(clock: Arc<Probes>) -> Record {
        Record {
            clock,
            calls: Mutex::default(),
            answered: AtomicU64::new(0),
            errors: Mutex::default(),
        }
    }

    /// How many calls were answered so far.
    pub(super) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// The errors so far, and how often each occurred.
    pub(super) fn errors(&self) -> BTreeMap<String, u64> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note_error(&self, error: String) {
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        *errors.entry(error).or_default() += 1;
    }

    /// Takes the calls that have ended.
    pub(super) fn take(&self) -> Vec<Timed<Answered>> {
        std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a call and records it. Returns `None` if there was no answer. A read without an answer
    /// is not recorded, since it shows nothing.
    pub(super) async fn call(
        &self,
        client: u32,
        channel: &Channel,
        call: KvCall,
    ) -> Option<KvAnswer> {
        let begun = self.clock.now();
        let answer = timeout(ANSWER_TIME_MAX, ask(channel, &call)).await;
        let answer = match answer {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                self.note_error(in_short(&error));
                None
            }
            Err(_) => {
                self.note_error("no answer in time".to_owned());
                None
            }
        };
        self.answered.fetch_add(u64::from(answer.is_some()), Ordering::Relaxed);
        let ended = answer.as_ref().map(|_| self.clock.now());
        let is_change = |it: &Operation| matches!(it, Operation::Put(..) | Operation::Delete(_));
        if answer.is_some() || call.operations().any(is_change) {
            let call = Answered { client, call, answer: answer.clone() };
            let timed = Timed { begun, ended, call };
            self.calls.lock().unwrap_or_else(PoisonError::into_inner).push(timed);
        }
        answer
    }
}

/// The code of a status, and its message if that is one of etcd's.
fn in_short(error: &anyhow::Error) -> String {
    let Some(status) = error.downcast_ref::<tonic::Status>() else { return format!("{error:#}") };
    let is_own = status.message().starts_with("etcdserver: ");
    let message = if is_own { status.message() } else { "the connection" };
    format!("{:?}: {message}", status.code())
}

/// Sends a call: single puts and reads as such, everything else as a transaction.
async fn ask(channel: &Channel, call: &KvCall) -> Result<KvAnswer> {
    let mut kv = KvClient::new(channel.clone());
    if call.conditions.is_empty()
        && let [only] = &call.then[..]
    {
        match request(only) {
            Request::RequestPut(put) => {
                let answer = kv.put(put).await?.into_inner();
                let revision = answer.header.context("no header")?.revision;
                return Ok(KvAnswer { revision, succeeded: true, parts: vec![Part::Put] });
            }
            Request::RequestRange(range) => {
                let answer = kv.range(range).await?.into_inner();
                let revision = answer.header.as_ref().context("no header")?.revision;
                return Ok(KvAnswer { revision, succeeded: true, parts: vec![keys(answer)] });
            }
            Request::RequestDeleteRange(_) | Request::RequestTxn(_) => {}
        }
    }
    let operations = |operations: &[Operation]| {
        let operation = |it: &Operation| RequestOp { request: Some(request(it)) };
        operations.iter().map(operation).collect()
    };
    let txn = TxnRequest {
        compare: call.conditions.iter().map(compare).collect(),
        success: operations(&call.then),
        failure: operations(&call.otherwise),
    };
    let answer = kv.txn(txn).await?.into_inner();
    let revision = answer.header.context("no header")?.revision;
    let parts = answer.responses.into_iter().map(|response| match response.response {
        Some(Response::ResponsePut(_)) => Ok(Part::Put),
        Some(Response::ResponseDeleteRange(deleted)) => Ok(Part::Deleted(deleted.deleted)),
        Some(Response::ResponseRange(range)) => Ok(keys(range)),
        Some(Response::ResponseTxn(_)) | None => bail!("an answer to nothing that was asked"),
    });
    let parts: Result<Vec<Part>> = parts.collect();
    Ok(KvAnswer { revision, succeeded: answer.succeeded, parts: parts? })
}

fn keys(range: RangeResponse) -> Part {
    let key = |kv: proto::mvccpb::KeyValue| {
        let seen = Seen {
            value: kv.value,
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
        };
        (kv.key, seen)
    };
    Part::Keys(range.kvs.into_iter().map(key).collect())
}

fn request(operation: &Operation) -> Request {
    let range = |key: &Bytes, range_end: Bytes| {
        Request::RequestRange(RangeRequest {
            key: key.clone(),
            range_end,
            ..RangeRequest::default()
        })
    };
    match operation {
        Operation::Put(key, value) => Request::RequestPut(PutRequest {
            key: key.clone(),
            value: value.clone(),
            ..PutRequest::default()
        }),
        Operation::Delete(key) => Request::RequestDeleteRange(DeleteRangeRequest {
            key: key.clone(),
            ..DeleteRangeRequest::default()
        }),
        Operation::Get(key) => range(key, Bytes::new()),
        Operation::Range(from, end) => range(from, end.clone()),
    }
}

fn compare(condition: &Condition) -> Compare {
    let (key, target, union) = match condition {
        Condition::Value(key, value) => {
            (key, CompareTarget::Value, TargetUnion::Value(value.clone()))
        }
        Condition::Modified(key, revision) => {
            (key, CompareTarget::Mod, TargetUnion::ModRevision(*revision))
        }
    };
    Compare {
        result: CompareResult::Equal.into(),
        target: target.into(),
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(union),
    }
}
