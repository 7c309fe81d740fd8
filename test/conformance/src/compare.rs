//! Sends the same sequence of steps to two servers. The responses must be equal in all fields,
//! except for the rows of [`crate::differences`] and for fields with server ids, times and sizes.

use crate::differences::{Differences, Executed, Moment};
use crate::generate::{Generator, LeaseStep, Step};
use crate::watchers::Stream;
use anyhow::{Result, bail, ensure};
use proto::etcdserverpb::{
    CompactionRequest, HashKvRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, RequestOp,
    ResponseHeader, TxnRequest, TxnResponse, WatchCreateRequest, request_op::Request,
    response_op::Response as OpResponse,
};
use rpc::stubs::etcdserverpb::kv_client::KvClient;
use rpc::stubs::etcdserverpb::lease_client::LeaseClient;
use rpc::stubs::etcdserverpb::maintenance_client::MaintenanceClient;
use std::fmt::Debug;
use tonic::transport::Channel;
use tonic::{Code, Status};

/// The number of steps after which HashKV is compared.
const HASH_EVERY: u64 = 1_000;
/// The number of steps after which the events of all watchers are compared.
const BARRIER_EVERY: u64 = 200;
/// The maximum number of watchers.
const WATCHERS_MAX: usize = 24;
/// The number of streams for the watchers.
const STREAMS: usize = 4;

/// The clients of one server.
#[derive(Debug)]
struct Side {
    kv: KvClient<Channel>,
    lease: LeaseClient<Channel>,
    maintenance: MaintenanceClient<Channel>,
    streams: Vec<Stream>,
}

impl Side {
    async fn new(channel: Channel) -> Result<Side> {
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            streams.push(Stream::open(channel.clone()).await?);
        }
        let large = 64 * 1024 * 1024;
        Ok(Side {
            kv: KvClient::new(channel.clone()).max_decoding_message_size(large),
            lease: LeaseClient::new(channel.clone()),
            maintenance: MaintenanceClient::new(channel),
            streams,
        })
    }
}

/// The counts of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Steps with equal responses.
    pub steps: u64,
    /// Steps among these whose responses were errors.
    pub errors: u64,
    /// Equal events of watchers.
    pub events: u64,
    /// Equal responses of HashKV.
    pub hashes: u64,
    /// How often each row of differences was needed.
    pub differences: Differences,
}

/// A pair of servers under comparison.
#[derive(Debug)]
pub struct Pair {
    ours: Side,
    theirs: Side,
    generator: Generator,
    /// Stream, and watch id on our server and on theirs.
    watchers: Vec<(usize, i64, i64)>,
    /// The highest revision at which a watcher starts.
    start_max: i64,
    report: Report,
}

impl Pair {
    /// Compares two servers over these connections.
    ///
    /// # Errors
    /// When one does not answer.
    pub async fn new(ours: Channel, theirs: Channel, seed: u64) -> Result<Pair> {
        Ok(Pair {
            ours: Side::new(ours).await?,
            theirs: Side::new(theirs).await?,
            generator: Generator::new(seed),
            watchers: Vec::new(),
            start_max: 0,
            report: Report::default(),
        })
    }

    /// Sends `steps` random steps to both.
    ///
    /// # Errors
    /// At the first difference that no row allows, with the request and both responses.
    pub async fn run(mut self, steps: u64) -> Result<Report> {
        for number in 1..=steps {
            let step = self.generator.step();
            self.step(step).await?;
            self.report.steps = number;
            if number.is_multiple_of(BARRIER_EVERY) || number == steps {
                self.barrier().await?;
            }
            if number.is_multiple_of(HASH_EVERY) || number == steps {
                self.hash().await?;
            }
        }
        Ok(self.report)
    }

    async fn step(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Range(request) => self.range(request).await,
            Step::Put(request) => {
                let ours = self.ours.kv.put(request.clone()).await;
                let theirs = self.theirs.kv.put(request.clone()).await;
                let answers = self.pair(&request, ours, theirs)?;
                self.same(&request, answers, |answer| &mut answer.header)
            }
            Step::Delete(request) => {
                let ours = self.ours.kv.delete_range(request.clone()).await;
                let theirs = self.theirs.kv.delete_range(request.clone()).await;
                let answers = self.pair(&request, ours, theirs)?;
                self.same(&request, answers, |answer| &mut answer.header)
            }
            Step::Txn(request) => self.txn(request).await,
            Step::Compact(revision) => self.compact(revision).await,
            Step::Watch(request) => self.watch(request).await,
            Step::Unwatch(nth) => self.unwatch(nth).await,
            Step::Lease(step) => self.lease(step).await,
        }
    }

    async fn range(&mut self, request: RangeRequest) -> Result<()> {
        let ours = self.ours.kv.range(request.clone()).await;
        let theirs = self.theirs.kv.range(request.clone()).await;
        let mut answers = self.pair(&request, ours, theirs)?;
        if let Some((ours, theirs)) = &mut answers {
            self.report.differences.range(&request, ours, theirs);
        }
        self.same(&request, answers, |answer| &mut answer.header)
    }

    async fn txn(&mut self, request: TxnRequest) -> Result<()> {
        let ours = self.ours.kv.txn(request.clone()).await;
        let theirs = self.theirs.kv.txn(request.clone()).await;
        if let (Err(ours), Err(theirs)) = (&ours, &theirs)
            && (ours.code(), ours.message()) != (theirs.code(), theirs.message())
        {
            let executed = self.executed(&request).await?;
            let errors = [ours.message(), theirs.message()];
            let allowed = self.report.differences.txn_status(&executed, errors);
            ensure!(allowed, "{request:#?}:\n{ours:?}\n{theirs:?}");
            self.report.errors += 1;
            return Ok(());
        }
        let mut answers = self.pair(&request, ours, theirs)?;
        if let Some((ours, theirs)) = &mut answers
            && ours.succeeded == theirs.succeeded
        {
            let succeeded = ours.succeeded;
            let (ours, theirs) = (&mut ours.responses, &mut theirs.responses);
            self.report.differences.txn(&request, ours, theirs, succeeded);
            ours.iter_mut().chain(theirs).for_each(|op| plain_headers(&mut op.response));
        }
        self.same(&request, answers, |answer| &mut answer.header)
    }

    /// The operations of a refused transaction that would be executed, and the keys and leases
    /// among those it needs that exist. Since both servers have refused it, their state has not
    /// changed.
    async fn executed(&mut self, request: &TxnRequest) -> Result<Executed> {
        let path = self.ours.kv.txn(only_nested(request)).await?.into_inner();
        let (revision, compacted) = (self.generator.revision, self.generator.compacted);
        let mut executed = Executed { at: Moment { revision, compacted }, ..Executed::default() };
        taken(request, &path, &mut executed.ops);
        for op in executed.ops.clone() {
            let Request::RequestPut(PutRequest { key, lease, .. }) = op else { continue };
            let leases = LeaseTimeToLiveRequest { id: lease, keys: false };
            if self.ours.lease.lease_time_to_live(leases).await?.into_inner().ttl >= 0 {
                executed.leases.insert(lease);
            }
            let range = RangeRequest { key: key.clone(), ..RangeRequest::default() };
            if self.ours.kv.range(range).await?.into_inner().count > 0 {
                executed.keys.insert(key);
            }
        }
        Ok(executed)
    }

    async fn compact(&mut self, revision: i64) -> Result<()> {
        let request = CompactionRequest { revision, physical: true };
        // A watcher that is behind may or may not receive events that are compacted meanwhile.
        self.barrier().await?;
        let ours = self.ours.kv.compact(request).await;
        let theirs = self.theirs.kv.compact(request).await;
        let answers = self.pair(&request, ours, theirs)?;
        if answers.is_some() {
            self.generator.compacted = revision;
        }
        self.same(&request, answers, |answer| &mut answer.header)
    }

    async fn lease(&mut self, step: LeaseStep) -> Result<()> {
        match step {
            LeaseStep::Grant(id, ttl) => {
                let request = LeaseGrantRequest { id, ttl };
                let ours = self.ours.lease.lease_grant(request).await;
                let theirs = self.theirs.lease.lease_grant(request).await;
                let answers = self.pair(&request, ours, theirs)?;
                self.same(&request, answers, |answer| &mut answer.header)
            }
            LeaseStep::Revoke(id) => {
                let request = LeaseRevokeRequest { id };
                let ours = self.ours.lease.lease_revoke(request).await;
                let theirs = self.theirs.lease.lease_revoke(request).await;
                let answers = self.pair(&request, ours, theirs)?;
                self.same(&request, answers, |answer| &mut answer.header)
            }
            LeaseStep::TimeToLive(id) => {
                let request = LeaseTimeToLiveRequest { id, keys: true };
                let ours = self.ours.lease.lease_time_to_live(request).await;
                let theirs = self.theirs.lease.lease_time_to_live(request).await;
                let mut answers = self.pair(&request, ours, theirs)?;
                if let Some((ours, theirs)) = &mut answers {
                    ensure!((ours.ttl - theirs.ttl).abs() <= 5, "{ours:?} and {theirs:?}");
                    ours.ttl = theirs.ttl;
                    ours.keys.sort();
                    theirs.keys.sort();
                }
                self.same(&request, answers, |answer| &mut answer.header)
            }
            LeaseStep::Leases => {
                let request = LeaseLeasesRequest {};
                let ours = self.ours.lease.lease_leases(request).await;
                let theirs = self.theirs.lease.lease_leases(request).await;
                let mut answers = self.pair(&request, ours, theirs)?;
                if let Some((ours, theirs)) = &mut answers {
                    ours.leases.sort_by_key(|lease| lease.id);
                    theirs.leases.sort_by_key(|lease| lease.id);
                }
                self.same(&request, answers, |answer| &mut answer.header)
            }
            LeaseStep::KeepAlive(id) => {
                let request = LeaseKeepAliveRequest { id };
                let ours = keep_alive(&mut self.ours.lease, request).await;
                let theirs = keep_alive(&mut self.theirs.lease, request).await;
                let answers = self.pair(&request, ours, theirs)?;
                self.same(&request, answers, |answer| &mut answer.header)
            }
        }
    }

    async fn watch(&mut self, request: WatchCreateRequest) -> Result<()> {
        if self.watchers.len() >= WATCHERS_MAX {
            return Ok(());
        }
        let stream = self.watchers.len() % STREAMS;
        let ours = self.ours.streams[stream].create(request.clone()).await?;
        let theirs = self.theirs.streams[stream].create(request.clone()).await?;
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => {
                self.start_max = self.start_max.max(request.start_revision);
                ensure!(ours == theirs, "{request:?}: watch ids {ours} and {theirs}");
                self.watchers.push((stream, ours, theirs));
            }
            (ours, theirs) => ensure!(ours == theirs, "{request:?}: {ours:?} and {theirs:?}"),
        }
        Ok(())
    }

    async fn unwatch(&mut self, nth: usize) -> Result<()> {
        if nth >= self.watchers.len() {
            return Ok(());
        }
        self.barrier().await?;
        if nth >= self.watchers.len() {
            return Ok(());
        }
        let (stream, ours, theirs) = self.watchers.remove(nth);
        self.ours.streams[stream].cancel(ours).await?;
        self.theirs.streams[stream].cancel(theirs).await?;
        let ours = self.ours.streams[stream].take_record(ours);
        let theirs = self.theirs.streams[stream].take_record(theirs);
        ensure!(ours == theirs, "a canceled watcher: {ours:?} and {theirs:?}");
        Ok(())
    }

    /// Waits until every watcher has reached the current revision, and compares their events.
    async fn barrier(&mut self) -> Result<()> {
        // A stream reports progress only once all of its watchers have started.
        while self.generator.revision < self.start_max {
            let request = PutRequest { key: "barrier".into(), ..PutRequest::default() };
            let ours = self.ours.kv.put(request.clone()).await;
            let theirs = self.theirs.kv.put(request.clone()).await;
            let answers = self.pair(&request, ours, theirs)?;
            self.same(&request, answers, |answer| &mut answer.header)?;
        }
        let revision = self.generator.revision;
        for stream in 0..STREAMS {
            if self.watchers.iter().any(|watcher| watcher.0 == stream) {
                self.ours.streams[stream].catch_up(revision).await?;
                self.theirs.streams[stream].catch_up(revision).await?;
            }
        }
        let mut live = Vec::new();
        for (stream, ours_id, theirs_id) in std::mem::take(&mut self.watchers) {
            let ours = self.ours.streams[stream].take_record(ours_id);
            let theirs = self.theirs.streams[stream].take_record(theirs_id);
            ensure!(ours == theirs, "watcher {ours_id}: {ours:#?} and {theirs:#?}");
            self.report.events += ours.events.len() as u64;
            if ours.canceled.is_none() {
                live.push((stream, ours_id, theirs_id));
            }
        }
        self.watchers = live;
        Ok(())
    }

    async fn hash(&mut self) -> Result<()> {
        let request = HashKvRequest { revision: 0 };
        let ours = self.ours.maintenance.hash_kv(request).await;
        let theirs = self.theirs.maintenance.hash_kv(request).await;
        let mut answers = self.pair(&request, ours, theirs)?;
        if let Some((ours, theirs)) = &mut answers {
            self.report.differences.hash_kv(ours, theirs);
            self.report.hashes += 1;
        }
        self.same(&request, answers, |answer| &mut answer.header)
    }

    /// Both responses, or `None` if both are the same error.
    fn pair<Q: Debug, A: Debug>(
        &mut self,
        request: &Q,
        ours: Result<tonic::Response<A>, Status>,
        theirs: Result<tonic::Response<A>, Status>,
    ) -> Result<Option<(A, A)>> {
        match (ours, theirs) {
            (Ok(ours), Ok(theirs)) => Ok(Some((ours.into_inner(), theirs.into_inner()))),
            (Err(ours), Err(theirs)) => {
                let text = |status: &Status| (status.code(), status.message().to_string());
                let same = text(&ours) == text(&theirs);
                ensure!(same, "{request:?}:\n{ours:?}\n{theirs:?}");
                ensure!(ours.code() != Code::Unavailable, "a server is gone: {ours:?}");
                self.report.errors += 1;
                Ok(None)
            }
            (ours, theirs) => bail!("{request:?}:\n  ours {ours:?}\n  theirs {theirs:?}"),
        }
    }

    /// Compares two responses without the ids of the servers.
    fn same<Q: Debug, A: Debug + PartialEq>(
        &mut self,
        request: &Q,
        answers: Option<(A, A)>,
        header: impl Fn(&mut A) -> &mut Option<ResponseHeader>,
    ) -> Result<()> {
        let Some((mut ours, mut theirs)) = answers else { return Ok(()) };
        for answer in [&mut ours, &mut theirs] {
            let header = header(answer);
            if let Some(header) = header {
                self.generator.revision = self.generator.revision.max(header.revision);
            }
            plain(header);
        }
        ensure!(ours == theirs, "{request:#?}:\n  ours {ours:#?}\n  theirs {theirs:#?}");
        Ok(())
    }
}

/// The transaction without its ranges, puts and deletions. Its response shows which branches are
/// taken.
fn only_nested(request: &TxnRequest) -> TxnRequest {
    let nested = |branch: &[RequestOp]| -> Vec<RequestOp> {
        let nested = branch.iter().filter_map(|op| match &op.request {
            Some(Request::RequestTxn(inner)) => Some(Request::RequestTxn(only_nested(inner))),
            _ => None,
        });
        nested.map(|inner| RequestOp { request: Some(inner) }).collect()
    };
    let (success, failure) = (nested(&request.success), nested(&request.failure));
    TxnRequest { compare: request.compare.clone(), success, failure }
}

/// Appends the operations of the taken branches. `path` is the response to [`only_nested`].
fn taken(request: &TxnRequest, path: &TxnResponse, ops: &mut Vec<Request>) {
    let branch = if path.succeeded { &request.success } else { &request.failure };
    let mut nested = path.responses.iter();
    for op in branch.iter().filter_map(|op| op.request.clone()) {
        let Request::RequestTxn(inner) = op else {
            ops.push(op);
            continue;
        };
        if let Some(OpResponse::ResponseTxn(path)) = nested.next().and_then(|r| r.response.as_ref())
        {
            taken(&inner, path, ops);
        }
    }
}

async fn keep_alive(
    client: &mut LeaseClient<Channel>,
    request: LeaseKeepAliveRequest,
) -> Result<tonic::Response<proto::etcdserverpb::LeaseKeepAliveResponse>, Status> {
    let mut answers = client.lease_keep_alive(tokio_stream::iter([request])).await?.into_inner();
    let first = answers.message().await?;
    first.map(tonic::Response::new).ok_or_else(|| Status::internal("no answer"))
}

/// Clears all fields but the revision, the only one that must be equal.
fn plain(header: &mut Option<ResponseHeader>) {
    if let Some(header) = header {
        *header = ResponseHeader { revision: header.revision, ..ResponseHeader::default() };
    }
}

fn plain_headers(response: &mut Option<OpResponse>) {
    match response {
        Some(OpResponse::ResponseRange(answer)) => plain(&mut answer.header),
        Some(OpResponse::ResponsePut(answer)) => plain(&mut answer.header),
        Some(OpResponse::ResponseDeleteRange(answer)) => plain(&mut answer.header),
        Some(OpResponse::ResponseTxn(answer)) => {
            plain(&mut answer.header);
            answer.responses.iter_mut().for_each(|op| plain_headers(&mut op.response));
        }
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::etcdserverpb::ResponseOp;

    #[test]
    fn the_operations_of_the_branches_that_are_taken_are_in_order() {
        let range = |revision| {
            let range = RangeRequest { revision, ..RangeRequest::default() };
            RequestOp { request: Some(Request::RequestRange(range)) }
        };
        let inner = TxnRequest {
            success: vec![range(2)],
            failure: vec![range(3)],
            ..TxnRequest::default()
        };
        let inner = RequestOp { request: Some(Request::RequestTxn(inner)) };
        let success = vec![range(1), inner, range(4)];
        let request = TxnRequest { success, failure: vec![range(5)], ..TxnRequest::default() };
        assert_eq!(only_nested(&request).success.len(), 1);

        let inner = OpResponse::ResponseTxn(TxnResponse::default());
        let responses = vec![ResponseOp { response: Some(inner) }];
        let path = TxnResponse { succeeded: true, responses, ..TxnResponse::default() };
        let mut ops = Vec::new();
        taken(&request, &path, &mut ops);
        let wanted: Vec<Request> =
            [1, 3, 4].into_iter().filter_map(|revision| range(revision).request).collect();
        assert_eq!(ops, wanted);
    }
}
