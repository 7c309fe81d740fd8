//! The KV service: checks requests, hands them to the host, and frames the host's answers.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/{key,quota}.go, server/etcdserver/v3_server.go.

use crate::call::{Call, mismatch};
use crate::call_metrics::StreamCounters;
use crate::checks;
use crate::held::{HeldSource, HoldLimits, held, message};
use crate::host::{Growth, Host, RangeChunks, RangeReply};
use crate::large::LargeBody;
use crate::spans::{RequestSpan, StreamedRange};
use bytes::Bytes;
use proto::answer::{Answer, RangeAnswer, field_len, put_field_head};
use proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, InternalRaftRequest, PutRequest,
    RangeRequest, TxnRequest,
};
use rpc::body::{Reply, Source, encoded, framed};
use rpc::frame::PREFIX_LEN;
use rpc::{Code, Error, Status};
use std::collections::VecDeque;
use std::task::{Context, Poll};

pub(crate) async fn range<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let deadline = call.deadline;
    let (service, request) = call.request(|request: &RangeRequest| request.serializable).await?;
    checks::range(&request)?;
    let _span = service.request_span(&request);
    match service.host.range(request).await? {
        RangeReply::Answer(answer) => {
            service.audit_revision(answer.revision);
            service.audit_revision(answer.revision);
            let encoding = answer.encode(service.host.origin());
            Ok(message(encoding.len(), deadline, |to| encoding.write(to)))
        }
        RangeReply::Large(large) => {
            service.audit_revision(large.answer.revision);
            let body = LargeBody::new(large, service.host.origin())?;
            Ok(held(body, HoldLimits::range(deadline)))
        }
    }
}

pub(crate) async fn put<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let deadline = call.deadline;
    let (service, request) = call.request(|_: &PutRequest| false).await?;
    if !service.host.fits_quota(Growth::Put(&request)) {
        return Err(Error::NoSpace.into());
    }
    checks::put(&request)?;
    let span = service.request_span(&request);
    let request = InternalRaftRequest { put: Some(request), ..InternalRaftRequest::default() };
    span.proposed();
    let answer = service.host.propose(request).await;
    span.answered(&answer);
    let Answer::Put(answer) = answer? else { return Err(mismatch()) };
    service.audit_revision(answer.revision);
    let encoding = answer.encode(service.host.origin());
    Ok(message(encoding.len(), deadline, |to| encoding.write(to)))
}

pub(crate) async fn delete_range<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let deadline = call.deadline;
    let (service, request) = call.request(|_: &DeleteRangeRequest| false).await?;
    checks::delete(&request)?;
    let span = service.request_span(&request);
    let request =
        InternalRaftRequest { delete_range: Some(request), ..InternalRaftRequest::default() };
    span.proposed();
    let answer = service.host.propose(request).await;
    span.answered(&answer);
    let Answer::Delete(answer) = answer? else { return Err(mismatch()) };
    service.audit_revision(answer.revision);
    let encoding = answer.encode(service.host.origin());
    Ok(message(encoding.len(), deadline, |to| encoding.write(to)))
}

pub(crate) async fn txn<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let deadline = call.deadline;
    let (service, request) = call.request(|_: &TxnRequest| false).await?;
    if !service.host.fits_quota(Growth::Txn(&request)) {
        return Err(Error::NoSpace.into());
    }
    checks::txn(&request, service.limits.txn_ops_max)?;
    let span = service.request_span(&request);
    let is_proposed = span.is_recorded() && !state::txn::is_read_only(&request);
    if is_proposed {
        span.proposed();
    }
    let answer = service.host.txn(request).await;
    if is_proposed {
        span.answered(&answer);
    }
    let answer = answer?;
    service.audit_revision(answer.revision);
    let encoding = answer.encode(service.host.origin());
    Ok(message(encoding.len(), deadline, |to| encoding.write(to)))
}

pub(crate) async fn compact<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let (service, request) = call.request(|_: &CompactionRequest| false).await?;
    let span = service.request_span(&request);
    let request =
        InternalRaftRequest { compaction: Some(request), ..InternalRaftRequest::default() };
    span.proposed();
    let answer = service.host.propose(request).await;
    span.answered(&answer);
    let Answer::Compact { revision } = answer? else { return Err(mismatch()) };
    service.audit_revision(revision);
    Ok(encoded(&CompactionResponse { header: service.header_or_current(revision) }))
}

pub(crate) async fn range_stream<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    let limits = HoldLimits::range(call.deadline);
    let (tally, request) = call.stream_request::<RangeRequest>(false).await?;
    checks::range_stream(&request)?;
    let span = tally.service.request_span(&StreamedRange(&request));
    let chunks = tally.service.host.range_stream(request).await?;
    Ok(held(RangeStream { tally, chunks, pieces: VecDeque::new(), _span: span }, limits))
}

/// Encodes chunks as messages while they are sent.
struct RangeStream<H> {
    tally: StreamCounters<H>,
    chunks: Box<dyn RangeChunks>,
    pieces: VecDeque<Bytes>,
    /// It ends with the stream.
    _span: RequestSpan,
}

impl<H: Host> Source for RangeStream<H> {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            match self.chunks.next() {
                Ok(Some(chunk)) => {
                    self.pieces = self.frame(&chunk).into();
                    let bytes: usize = self.pieces.iter().map(Bytes::len).sum();
                    self.tally.sent(1, bytes - PREFIX_LEN);
                }
                Ok(None) => {
                    self.tally.end(Code::Ok);
                    return Poll::Ready(None);
                }
                Err(status) => {
                    self.tally.end(status.code);
                    return Poll::Ready(Some(Err(status)));
                }
            }
        }
    }
}

impl<H: Host> HeldSource for RangeStream<H> {
    fn cut_off(&mut self, status: &Status) {
        self.tally.end(status.code);
    }
}

impl<H: Host> RangeStream<H> {
    /// Encodes a chunk as a `RangeStreamResponse`, whose only field is the range response. Only the
    /// last chunk, which has a revision, has a header.
    fn frame(&self, chunk: &RangeAnswer) -> Vec<Bytes> {
        if chunk.revision == 0 {
            let inner: usize = chunk.kvs.iter().map(|kv| field_len(kv.len())).sum();
            return framed(field_len(inner), |to| {
                put_field_head(0x0a, inner, to);
                for kv in &chunk.kvs {
                    put_field_head(0x12, kv.len(), to);
                    to.shared(kv);
                }
            });
        }
        let encoding = chunk.encode(self.tally.service.host.origin());
        framed(field_len(encoding.len()), |to| {
            put_field_head(0x0a, encoding.len(), to);
            encoding.write(to);
        })
    }
}
