//! The Watch service: passes requests to the host's watchers and their responses to the stream.
//! Not here: how watchers behave (see `core/watch`).
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/watch.go.

use crate::call::Call;
use crate::host::{Host, WatchStream};
use crate::requests::Requests;
use crate::session::Session;
use proto::etcdserverpb::{WatchRequest, watch_request::RequestUnion};
use rpc::body::{Reply, stream};
use rpc::queue::{Feeder, queue};
use rpc::{Code, Error, Status};
use std::rc::Rc;
use watch::Response;

pub(crate) fn watch<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    call.check_stream()?;
    let (feeder, receiver) = queue();
    let (deadline, connection) = (call.deadline, call.origin.connection);
    let requires_leader = call.requires_leader();
    let (tally, requests) = call.into_stream(&feeder, "watch");
    let (sink, counting) = (feeder.clone(), tally.clone());
    let deliver = move |responses: Vec<Response>| {
        counting.sent(responses.len(), responses.iter().map(Response::len).sum());
        match counting.service.last_framed.framed(responses) {
            Ok(pieces) => sink.pieces(pieces),
            Err(status) => sink.end(status),
        }
    };
    let watchers = tally.service.host.watch(connection, Rc::new(deliver));
    net::tasks::spawn_local("watch stream", async move {
        let status = tokio::select! {
            status = read(&tally.service, &watchers, requests) => status,
            () = drain(&watchers, &feeder) => Error::WatchCanceled.into(),
            status = crate::cancellation::wait(&tally.service, deadline, requires_leader) => status,
        };
        tally.end(status.code);
        feeder.end(status);
    });
    Ok(stream(receiver))
}

/// Handles the requests of the client. A client that closes its side still receives events.
async fn read<H: Host>(
    session: &Session<H>,
    watchers: &H::Watch,
    mut requests: Requests<H>,
) -> Status {
    loop {
        match requests.next().await {
            Ok(Some(request)) => pass_on(session, watchers, request).await,
            Ok(None) => return std::future::pending().await,
            Err(status) if status.code == Code::Cancelled => return Error::WatchCanceled.into(),
            Err(status) => return status,
        }
    }
}

/// Passes a request on. The audit log has a line for each watch that is created or refused.
async fn pass_on<H: Host>(session: &Session<H>, watchers: &H::Watch, request: WatchRequest) {
    // The span ends when the request is passed on.
    let creation = match &request.request_union {
        Some(RequestUnion::CreateRequest(create)) => Some(session.request_span(create)),
        Some(RequestUnion::CancelRequest(_) | RequestUnion::ProgressRequest(_)) | None => None,
    };
    if creation.is_none() || !session.is_audited() {
        // The client is told of a refusal in the stream.
        return watchers.request(request).await.unwrap_or_default();
    }
    let result = watchers.request(request.clone()).await;
    session.audit_request(&request, result.as_ref().copied()).await;
}

/// Tells the watchers how many bytes the client has taken, until it is gone.
async fn drain<W: WatchStream>(watchers: &W, feeder: &Feeder) {
    while let Some(bytes) = feeder.drained().await {
        watchers.drained(bytes);
    }
}
