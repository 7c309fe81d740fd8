//! A gRPC call on its way to its handler, and the first steps of every handler: receiving the
//! request and checking its metadata.

use crate::audit::{AuditRecord, Audited};
use crate::call_metrics::{StreamCounters, StreamMetrics};
use crate::host::Host;
use crate::inbound::Inbound;
use crate::needs::{Need, need};
use crate::origin::CallOrigin;
use crate::requests::{Requests, too_late};
use crate::session::Session;
use crate::shared::{Shared, requires_leader};
use crate::spans::OpenSpan;
use bytes::Bytes;
use net::limits::REQUEST_TIME_MAX;
use rpc::body::Reply;
use rpc::frame::Messages;
use rpc::queue::Feeder;
use rpc::{Code, Error, Status};
use std::pin::Pin;
use std::rc::Rc;
use tokio::time::Instant;

/// Calls the handler of a call's method.
pub(crate) type Router<H> = fn(Call<H>) -> Pin<Box<dyn Future<Output = Result<Reply, Status>>>>;

/// A call on its way to its handler.
pub(crate) struct Call<H> {
    pub(crate) service: Rc<Shared<H>>,
    pub(crate) head: Rc<http::request::Parts>,
    pub(crate) messages: Messages<Inbound>,
    /// The deadline, from the header `grpc-timeout`.
    pub(crate) deadline: Option<Instant>,
    /// The metrics of a streaming call.
    pub(crate) streamed: Option<Rc<StreamMetrics>>,
    pub(crate) origin: Rc<CallOrigin>,
    /// The call of the client, if this one is made on behalf of it.
    pub(crate) outer: Option<Rc<http::request::Parts>>,
    /// Its line in the audit log, if there is one.
    pub(crate) audit: Option<Rc<AuditRecord>>,
    /// Its span, if it is recorded.
    pub(crate) span: Option<Rc<OpenSpan>>,
    /// For handlers that call other handlers (see [`crate::onward`]).
    pub(crate) router: Router<H>,
}

impl<H: Host> Call<H> {
    /// Receives the request of a unary call and checks its metadata. `for_learners` decides whether
    /// a learner may answer the request.
    pub(crate) async fn request<M: prost::Message + Default + Audited>(
        self,
        for_learners: impl FnOnce(&M) -> bool,
    ) -> Result<(Session<H>, M), Status> {
        let Call { service, head, messages, origin, audit, span, .. } = self;
        let message = in_time(messages.only()).await?;
        let bytes = message.len();
        service.host.count_received(bytes);
        let request: M = rpc::frame::decode(message)?;
        if let Some(audit) = &audit {
            audit.about(&request);
        }
        if service.host.is_learner() && !for_learners(&request) {
            return Err(Error::NotSupportedForLearner.into());
        }
        service.check_metadata(&head.headers)?;
        let session = Session::new(service, &head.headers, &origin, audit).in_span(span);
        let session = session.admitted(bytes).await?;
        check_access(&session.host, head.uri.path()).await?;
        Ok((session, request))
    }

    /// As [`Call::request`], for a call with one request and a stream of responses.
    pub(crate) async fn stream_request<M: prost::Message + Default + Audited>(
        mut self,
        for_learners: bool,
    ) -> Result<(StreamCounters<H>, M), Status> {
        if self.service.host.is_learner() && !for_learners {
            return Err(Error::NotSupportedForLearner.into());
        }
        self.service.check_metadata(&self.head.headers)?;
        let message = in_time(self.messages.first()).await?;
        let bytes = message.len();
        let request: Result<M, Status> = rpc::frame::decode_in_stream(message);
        if let (Some(audit), Ok(request)) = (&self.audit, &request) {
            audit.about(request);
        }
        let session = Session::new(self.service, &self.head.headers, &self.origin, self.audit);
        let session = session.in_span(self.span).admitted(bytes).await?;
        check_access(&session.host, self.head.uri.path()).await?;
        let tally = StreamCounters::new(session, self.streamed);
        tally.received(bytes);
        Ok((tally, request?))
    }

    /// Checks the metadata of a bidirectional stream.
    pub(crate) fn check_stream(&self) -> Result<(), Status> {
        if self.service.host.is_learner() {
            return Err(Error::NotSupportedForLearner.into());
        }
        self.service.check_metadata(&self.head.headers)
    }

    /// Splits a bidirectional stream into its counters and its requests, whose responses go to
    /// `responses`. `api` is etcd's name for the stream, in its metrics.
    pub(crate) fn into_stream(
        self,
        responses: &Feeder,
        api: &'static str,
    ) -> (StreamCounters<H>, Requests<H>) {
        if let Some(audit) = &self.audit {
            audit.is_stream();
        }
        let session = Session::new(self.service, &self.head.headers, &self.origin, self.audit)
            .in_span(self.span);
        let tally = StreamCounters::new(session, self.streamed);
        let requests = Requests::new(self.messages, responses.clone(), tally.clone(), api);
        (tally, requests)
    }

    /// True if the client wants no response from a member that knows no leader.
    pub(crate) fn requires_leader(&self) -> bool {
        requires_leader(&self.head.headers)
    }
}

/// Checks that the client has the role that the method needs.
async fn check_access<H: Host>(host: &H, path: &str) -> Result<(), Status> {
    match need(path) {
        Some(Need::Nothing | Need::AdminLater) => Ok(()),
        Some(Need::User) => host.require_user().await,
        Some(Need::Admin) | None => host.require_admin().await,
    }
}

/// Receives the only request of a call within [`REQUEST_TIME_MAX`].
async fn in_time(request: impl Future<Output = Result<Bytes, Status>>) -> Result<Bytes, Status> {
    tokio::time::timeout(REQUEST_TIME_MAX, request).await.unwrap_or_else(|_| Err(too_late()))
}

/// The status when the host's answer is of another kind than the request. This is a bug of the
/// server; the client is told of it.
pub(crate) fn mismatch() -> Status {
    Status::new(Code::Internal, "retcd: the answer does not belong to the request")
}
