//! The Election service. The owner of the oldest key under a name's prefix is the leader; the value
//! of that key is the value that the leader proclaims.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3election/election.go,
//! client/v3/concurrency/election.go.

use crate::call::Call;
use crate::call_metrics::StreamCounters;
use crate::host::Host;
use crate::onward::Onward;
use crate::waiting::{
    by_creation, created_at, failure, key_of, op, prefix, put, read, unless_gone,
};
use bytes::Bytes;
use prost::Message as _;
use proto::etcdserverpb::range_request::SortOrder;
use proto::etcdserverpb::{
    DeleteRangeRequest, ResponseHeader, TxnRequest, request_op::Request, response_op::Response,
};
use proto::mvccpb::KeyValue;
use proto::mvccpb::event::EventType;
use proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use rpc::body::{Reply, encoded, stream};
use rpc::queue::{Feeder, queue};
use rpc::{Error, Status};
use std::rc::Rc;

pub(crate) async fn campaign<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let onward = Rc::new(Onward::of(&call));
    let (_, request) = call.request(|_: &CampaignRequest| false).await?;
    win(onward, request).await.map(|response| encoded(&response)).map_err(failure)
}

pub(crate) async fn proclaim<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let onward = Onward::of(&call);
    let (_, request) = call.request(|_: &ProclaimRequest| false).await?;
    let leader = request.leader.ok_or(Error::LeaderFieldMissing)?;
    let proclaimed = async {
        let lease = onward.session(leader.lease).await?;
        change(&onward, &LeaderKey { lease, ..leader }, &request.value).await
    };
    let header = proclaimed.await.map_err(failure)?;
    Ok(encoded(&ProclaimResponse { header }))
}

pub(crate) async fn resign<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let onward = Onward::of(&call);
    let (_, request) = call.request(|_: &ResignRequest| false).await?;
    let leader = request.leader.ok_or(Error::LeaderFieldMissing)?;
    let header = withdraw(&onward, &leader).await.map_err(failure)?;
    Ok(encoded(&ResignResponse { header }))
}

pub(crate) async fn leader<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let onward = Onward::of(&call);
    let (_, request) = call.request(|_: &LeaderRequest| false).await?;
    let first = by_creation(prefix(&request.name), SortOrder::Ascend);
    let found = onward.range(&first).await.map_err(failure)?;
    let Some(kv) = found.kvs.into_iter().next() else {
        return Err(Error::ElectionNoLeader.into());
    };
    Ok(encoded(&LeaderResponse { header: found.header, kv: Some(kv) }))
}

/// Streams the leader's current value and each later value.
pub(crate) async fn observe<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let onward = Onward::of(&call);
    let (deadline, requires_leader) = (call.deadline, call.requires_leader());
    let (tally, request) = call.stream_request::<LeaderRequest>(false).await?;
    let (feeder, receiver) = queue();
    net::tasks::spawn_local("election observer", async move {
        let observer = Observer { onward, feeder: feeder.clone(), tally: tally.clone() };
        let status = tokio::select! {
            ended = observer.run(&request.name) => ended.err().map_or(Status::OK, failure),
            () = async { while feeder.drained().await.is_some() {} } => return,
            status = crate::cancellation::wait(&tally.service, deadline, requires_leader) => status,
        };
        tally.end(status.code);
        feeder.end(status);
    });
    Ok(stream(receiver))
}

/// Enters the election and waits until the contender leads.
async fn win<H: Host>(
    onward: Rc<Onward<H>>,
    request: CampaignRequest,
) -> Result<CampaignResponse, Status> {
    let lease = onward.session(request.lease).await?;
    let range = prefix(&request.name);
    let key = key_of(&range.0, lease);
    let entered = onward.txn(TxnRequest {
        compare: vec![created_at(&key, 0)],
        success: vec![op(Request::RequestPut(put(&key, &request.value, lease)))],
        failure: vec![op(Request::RequestRange(read(&key)))],
    });
    let entered = entered.await?;
    let header = entered.header.unwrap_or_default();
    let mut leader = LeaderKey { name: request.name, key, rev: header.revision, lease };
    // If the key exists already, an earlier request of the same session created it.
    let own = match entered.responses.into_iter().next().and_then(|op| op.response) {
        Some(Response::ResponseRange(own)) => own.kvs.into_iter().next(),
        _ => None,
    };
    if let Some(own) = own {
        leader.rev = own.create_revision;
        if own.value != request.value
            && let Err(status) = change(&onward, &leader, &request.value).await
        {
            abandon(&onward, &leader).await;
            return Err(status);
        }
    }
    let (waiting, created) = (Rc::clone(&onward), leader.rev);
    let work = async move { waiting.wait_for_earlier(&range, created).await };
    let abandoned = leader.clone();
    let clean_up = async move { abandon(&onward, &abandoned).await };
    unless_gone("election campaign", work, clean_up).await?;
    Ok(CampaignResponse { header: Some(header), leader: Some(leader) })
}

/// Writes the leader's value.
async fn change<H: Host>(
    onward: &Onward<H>,
    leader: &LeaderKey,
    value: &Bytes,
) -> Result<Option<ResponseHeader>, Status> {
    let written = onward.txn(TxnRequest {
        compare: vec![created_at(&leader.key, leader.rev)],
        success: vec![op(Request::RequestPut(put(&leader.key, value, leader.lease)))],
        failure: Vec::new(),
    });
    let written = written.await?;
    if written.succeeded { Ok(written.header) } else { Err(Error::ElectionNotLeader.into()) }
}

/// Deletes the leader's key, unless it has been deleted and created anew since.
async fn withdraw<H: Host>(
    onward: &Onward<H>,
    leader: &LeaderKey,
) -> Result<Option<ResponseHeader>, Status> {
    let delete = DeleteRangeRequest { key: leader.key.clone(), ..DeleteRangeRequest::default() };
    let deleted = onward.txn(TxnRequest {
        compare: vec![created_at(&leader.key, leader.rev)],
        success: vec![op(Request::RequestDeleteRange(delete))],
        failure: Vec::new(),
    });
    Ok(deleted.await?.header)
}

/// Deletes the key of a contender that no longer waits.
async fn abandon<H: Host>(onward: &Onward<H>, leader: &LeaderKey) {
    if let Err(status) = withdraw(onward, leader).await {
        // The key is deleted when its lease expires.
        tracing::debug!(%status, "cannot delete the key of a campaign that nobody waits for");
    }
}

/// One stream of a leader's values.
struct Observer<H> {
    onward: Onward<H>,
    feeder: Feeder,
    tally: StreamCounters<H>,
}

impl<H: Host> Observer<H> {
    /// Follows one leader after the other. Ends only with an error.
    async fn run(&self, name: &[u8]) -> Result<(), Status> {
        let range = prefix(name);
        loop {
            let found = self.onward.range(&by_creation(range.clone(), SortOrder::Ascend)).await?;
            let mut header = found.header.unwrap_or_default();
            let kv = match found.kvs.into_iter().next() {
                Some(kv) => kv,
                None => match self.first_put(&range, header.revision + 1).await? {
                    Some((at, kv)) => {
                        header = ResponseHeader { revision: kv.mod_revision, ..at };
                        kv
                    }
                    None => continue,
                },
            };
            let key = kv.key.clone();
            self.send(header, kv).await?;
            self.follow(key, header.revision + 1).await?;
        }
    }

    /// The first put of any contender; `None` if the history since `from` is compacted.
    async fn first_put(
        &self,
        (key, range_end): &(Bytes, Bytes),
        from: i64,
    ) -> Result<Option<(ResponseHeader, KeyValue)>, Status> {
        let mut changes = self.onward.watch(key.clone(), range_end.clone(), from).await?;
        loop {
            let Some(change) = not_compacted(changes.next().await)? else { return Ok(None) };
            let put = change.events.into_iter().find(|event| event.r#type() == EventType::Put);
            if let Some(kv) = put.and_then(|put| put.kv) {
                return Ok(Some((change.header.unwrap_or_default(), kv)));
            }
        }
    }

    /// Sends each value of a key until it is deleted, or the history is compacted.
    async fn follow(&self, key: Bytes, from: i64) -> Result<(), Status> {
        let mut changes = self.onward.watch(key, Bytes::new(), from).await?;
        loop {
            let Some(change) = not_compacted(changes.next().await)? else { return Ok(()) };
            for event in change.events {
                if event.r#type() == EventType::Delete {
                    return Ok(());
                }
                if let Some(kv) = event.kv {
                    self.send(change.header.unwrap_or_default(), kv).await?;
                }
            }
        }
    }

    /// Sends a value as soon as the client's queue has room for it.
    async fn send(&self, header: ResponseHeader, kv: KeyValue) -> Result<(), Status> {
        if !self.feeder.room(crate::requests::RESPONSES_MAX).await {
            return Err(Error::RequestCanceled.into());
        }
        let response = LeaderResponse { header: Some(header), kv: Some(kv) };
        self.tally.sent(1, response.encoded_len());
        self.feeder.encoded(&response);
        Ok(())
    }
}

/// Turns the error that the history is compacted into `None`.
fn not_compacted<T>(result: Result<T, Status>) -> Result<Option<T>, Status> {
    match result {
        Err(status) if status == Status::from(Error::Compacted) => Ok(None),
        other => other.map(Some),
    }
}
