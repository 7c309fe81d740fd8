//! Requests from a client and from the log: splits frames into messages, decodes the messages as
//! each type they may have, and applies them as requests of the log.
//!
//! The rest of the input arrives in pieces; the first byte is the length of a piece.

use backend::Backend;
use bolt::PageCache;
use bytes::Bytes;
use http_body::{Body, Frame};
use prost::Message;
use proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, HashKvRequest, InternalRaftRequest,
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    PutRequest, RangeRequest, TxnRequest, WatchRequest,
};
use proto::{Entry, EntryKind, Index, NodeId, Term};
use rpc::frame::{Messages, PREFIX_LEN, decode, decode_in_stream};
use state::{Effect, Input, Leader, State};
use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use vfs::SimDisk;

/// The largest message, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// How many messages of one input are applied.
const APPLIED_MAX: usize = 16;

/// The target; true if something was applied.
///
/// # Panics
/// When something is found.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let Some((pieces_of, rest)) = data.split_first() else { return false };
    let pieces =
        Pieces { rest: Bytes::copy_from_slice(rest), len: usize::from(*pieces_of).max(1) * 7 };
    let messages = cut(pieces);
    for message in &messages {
        assert!(message.len() <= MESSAGE_BYTES_MAX, "no message is longer than allowed");
        decode_all(message);
    }
    apply(&messages)
}

/// A connection that delivers the input in pieces.
struct Pieces {
    rest: Bytes,
    len: usize,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let len = self.len.min(self.rest.len());
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(len)))))
    }
}

fn cut(pieces: Pieces) -> Vec<Bytes> {
    let mut messages = Messages::new(pieces, MESSAGE_BYTES_MAX);
    let mut context = Context::from_waker(Waker::noop());
    let mut found = Vec::new();
    loop {
        match messages.poll_next(&mut context) {
            Poll::Ready(Ok(Some(message))) => found.push(message),
            Poll::Ready(Ok(None) | Err(_)) => return found,
            Poll::Pending => unreachable!("a body that is all there never waits"),
        }
    }
}

/// Checks that a decoded message is the same after encoding and decoding it.
fn one<M: Message + Default + PartialEq>(bytes: &Bytes) {
    assert_eq!(
        decode::<M>(bytes.clone()).is_ok(),
        decode_in_stream::<M>(bytes.clone()).is_ok(),
        "a message is one or not, wherever it comes"
    );
    if let Ok(message) = decode::<M>(bytes.clone()) {
        let encoded = message.encode_to_vec();
        assert_eq!(encoded.len(), message.encoded_len(), "the length is known before");
        assert!(decode::<M>(encoded.into()).is_ok_and(|again| again == message), "it is the same");
    }
}

fn decode_all(bytes: &Bytes) {
    one::<RangeRequest>(bytes);
    one::<PutRequest>(bytes);
    one::<DeleteRangeRequest>(bytes);
    one::<TxnRequest>(bytes);
    one::<CompactionRequest>(bytes);
    one::<WatchRequest>(bytes);
    one::<LeaseGrantRequest>(bytes);
    one::<LeaseRevokeRequest>(bytes);
    one::<LeaseKeepAliveRequest>(bytes);
    one::<LeaseTimeToLiveRequest>(bytes);
    one::<AlarmRequest>(bytes);
    one::<HashKvRequest>(bytes);
    one::<InternalRaftRequest>(bytes);
    drop(v2store::classify(bytes));
    drop(proto::ConfChange::decode(bytes.clone()));
    drop(Entry::decode(bytes.clone()));
}

/// Applies the messages as entries of a log to an empty state.
fn apply(messages: &[Bytes]) -> bool {
    let requests = messages.iter().filter(|message| v2store::classify(message).is_ok());
    let requests: Vec<&Bytes> = requests.take(APPLIED_MAX).collect();
    if requests.is_empty() {
        return false;
    }
    let mut state = empty_state();
    let mut effects = Vec::new();
    if state.step(0, Input::Leadership(Term(1), Leader::Me), &mut effects).is_err() {
        return false;
    }
    for (index, data) in (1..).zip(requests) {
        let entry = Entry {
            term: Term(1),
            index: Index(index),
            kind: EntryKind::Normal,
            data: data.clone(),
        };
        let now_ms = index * 100;
        if state.step(now_ms, Input::Apply(vec![entry]), &mut effects).is_err() {
            return false;
        }
        if state.step(now_ms, Input::Tick, &mut effects).is_err() {
            return false;
        }
        while state.has_housekeeping() {
            if state.step(now_ms, Input::Idle, &mut effects).is_err() {
                return false;
            }
        }
    }
    let applied = effects.iter().any(|effect| matches!(effect, Effect::Applied(_)));
    assert!(applied, "what was applied is told");
    true
}

fn empty_state() -> State {
    let disk = SimDisk::new(1);
    let cache = Arc::new(PageCache::new(64 * 1024));
    let options = bolt::Options { new_page_size: 1024, cache, read_only: false };
    let backend = Backend::open(&disk, Path::new("db"), options).expect("a new database");
    let attributes = cluster::Attributes {
        name: "default".into(),
        client_urls: vec!["http://localhost:2379".into()],
    };
    let settings = state::Settings {
        member: NodeId(7),
        quota: state::quota::Quota::from_flag(0),
        snapshot_count: 5,
        compaction_slice: 40,
        lease_ttl_s_min: 2,
        bcrypt_cost: 4,
        lease_extend_ms: 1_000,
        lease_checkpoints: state::LeaseCheckpoints::default(),
        learners_max: 1,
        raise_cluster_version: true,
        downgrade_check_ms: 5_000,
        attributes,
    };
    let log = state::LogTail { v2: None, snapshot_index: Index(0), entries: Vec::new() };
    State::open(settings, backend.view(), &log).expect("an empty database")
}

/// Corrects the length in the prefix, which makes the input one message.
#[must_use]
pub fn reseal(mut data: Vec<u8>) -> Vec<u8> {
    if data.len() < 1 + PREFIX_LEN {
        return data;
    }
    let Ok(len) = u32::try_from(data.len() - 1 - PREFIX_LEN) else { return data };
    data[1] = 0;
    data[2..1 + PREFIX_LEN].copy_from_slice(&len.to_be_bytes());
    data
}

/// Requests of every kind, alone and in sequences.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut all = vec![9];
    for message in messages() {
        let framed = [&prefix(message.len())[..], &message[..]].concat();
        seeds.push([&[255][..], &framed[..]].concat());
        seeds.push([&[0][..], &framed[..]].concat());
        all.extend_from_slice(&framed);
    }
    seeds.push(all);
    seeds
}

fn prefix(len: usize) -> [u8; PREFIX_LEN] {
    rpc::frame::prefix(len)
}

fn put() -> PutRequest {
    PutRequest { key: "key".into(), value: "value".into(), ..PutRequest::default() }
}

fn put_with_lease() -> PutRequest {
    PutRequest { lease: 3, prev_kv: true, ..put() }
}

fn range() -> RangeRequest {
    let (key, range_end) = ("a".into(), "z".into());
    RangeRequest { key, range_end, limit: 3, ..RangeRequest::default() }
}

fn delete() -> DeleteRangeRequest {
    DeleteRangeRequest { key: "k".into(), range_end: "l".into(), prev_kv: true }
}

fn txn() -> TxnRequest {
    use proto::etcdserverpb::{Compare, RequestOp, compare::TargetUnion, request_op::Request};
    let op = |request| RequestOp { request: Some(request) };
    let compare = Compare {
        result: 0,
        target: 2,
        key: "key".into(),
        range_end: "kez".into(),
        target_union: Some(TargetUnion::ModRevision(2)),
    };
    let inner = TxnRequest {
        compare: vec![compare.clone()],
        success: vec![op(Request::RequestRange(range()))],
        failure: vec![op(Request::RequestDeleteRange(delete()))],
    };
    TxnRequest {
        compare: vec![compare],
        success: vec![op(Request::RequestPut(put()))],
        failure: vec![op(Request::RequestTxn(inner)), op(Request::RequestPut(put()))],
    }
}

fn watch() -> WatchRequest {
    use proto::etcdserverpb::{WatchCreateRequest, watch_request::RequestUnion};
    let create = WatchCreateRequest {
        key: "a".into(),
        range_end: "z".into(),
        start_revision: 2,
        filters: vec![0, 1],
        ..WatchCreateRequest::default()
    };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

fn logged() -> [InternalRaftRequest; 10] {
    let none = InternalRaftRequest::default;
    let compaction = CompactionRequest { revision: 2, physical: true };
    let alarm = AlarmRequest { action: 1, member_id: 7, alarm: 1 };
    let version = proto::membershippb::ClusterVersionSetRequest { ver: "3.7.0".into() };
    [
        InternalRaftRequest { lease_grant: Some(LeaseGrantRequest { id: 3, ttl: 60 }), ..none() },
        InternalRaftRequest { put: Some(put_with_lease()), ..none() },
        InternalRaftRequest { put: Some(put()), ..none() },
        InternalRaftRequest { range: Some(range()), ..none() },
        InternalRaftRequest { txn: Some(txn()), ..none() },
        InternalRaftRequest { delete_range: Some(delete()), ..none() },
        InternalRaftRequest { compaction: Some(compaction), ..none() },
        InternalRaftRequest { lease_revoke: Some(LeaseRevokeRequest { id: 3 }), ..none() },
        InternalRaftRequest { alarm: Some(alarm), ..none() },
        InternalRaftRequest { cluster_version_set: Some(version), ..none() },
    ]
}

fn messages() -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = logged().iter().map(Message::encode_to_vec).collect();
    messages.extend([
        put_with_lease().encode_to_vec(),
        range().encode_to_vec(),
        delete().encode_to_vec(),
        txn().encode_to_vec(),
        watch().encode_to_vec(),
        LeaseGrantRequest { id: 3, ttl: 60 }.encode_to_vec(),
    ]);
    messages
}
