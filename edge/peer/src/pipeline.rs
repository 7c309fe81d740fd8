//! Messages as single requests, while there is no stream for them.
//!
//! Source: etcd v3.7 rafthttp/pipeline.go.

use crate::http1::{Connection, head, read_text};
use crate::limits::POST_TIME_MAX;
use crate::link::Link;
use crate::shared::Shared;
use bytes::Bytes;
use http_body_util::Full;
use net::Url;
use std::sync::Arc;
use tokio::time::timeout;
use wire::encode_message;

/// Why a message did not reach its receiver.
pub(crate) enum PostFailure {
    /// This member was removed from the cluster.
    Removed,
    /// Anything else.
    Other(String),
}

pub(crate) async fn run(link: Arc<Link>, shared: Arc<Shared>) {
    let mut connection = None;
    loop {
        let message = link.outgoing.next_post().await;
        let body = encode_message(&message);
        let len = body.len() as u64;
        let Some(url) = link.urls.pick() else {
            shared.deliver.unreachable(link.id);
            continue;
        };
        let peers = &shared.counters.metrics.raft.peers;
        let posted = timeout(POST_TIME_MAX, post(&link, &shared, (&url, body), &mut connection));
        match posted.await.unwrap_or_else(|_| Err(PostFailure::Other("i/o timeout".to_owned()))) {
            Ok(()) => {
                link.activity.succeeded();
                peers.sent_bytes.with_label_values(&[&link.name]).inc_by(len);
            }
            Err(failure) => {
                connection = None;
                link.urls.failed(&url);
                peers.sent_failures.with_label_values(&[&link.name]).inc();
                match failure {
                    PostFailure::Removed => shared.deliver.removed(),
                    PostFailure::Other(error) => link.activity.failed("post message", &error),
                }
                shared.deliver.unreachable(link.id);
            }
        }
    }
}

async fn post(
    link: &Link,
    shared: &Shared,
    (url, body): (&Url, Bytes),
    kept: &mut Option<(Url, Connection<Full<Bytes>>)>,
) -> Result<(), PostFailure> {
    let other = PostFailure::Other;
    let is_usable = kept.as_ref().is_some_and(|(of, kept)| of == url && kept.is_usable());
    if !is_usable {
        let opened = Connection::open(&shared.options.dialer, url).await.map_err(other)?;
        *kept = Some((url.clone(), opened));
    }
    let Some((_, connection)) = kept else { return Err(other("no connection".to_owned())) };
    let mut request = head("POST", url, "/raft").header("Content-Type", "application/protobuf");
    for (name, value) in shared.local().request_headers(link.id) {
        request = request.header(name, value);
    }
    let request = request.body(Full::new(body)).map_err(|error| other(error.to_string()))?;
    let response = connection.send(request).await.map_err(other)?;
    let status = response.status().as_u16();
    let text = read_text(response.into_body()).await;
    check_post(link, status, &text)
}

/// Checks the answer to a request with a message.
pub(crate) fn check_post(link: &Link, status: u16, text: &str) -> Result<(), PostFailure> {
    match (status, text) {
        (204, _) => Ok(()),
        (403, _) => Err(PostFailure::Removed),
        (412, "incompatible version") => {
            tracing::error!("remote-peer-id" = link.name, "request sent was ignored by peer");
            Err(PostFailure::Other(text.to_owned()))
        }
        (412, "cluster ID mismatch") => {
            tracing::error!(
                "remote-peer-id" = link.name,
                "request sent was ignored due to cluster ID mismatch"
            );
            Err(PostFailure::Other(text.to_owned()))
        }
        (status, text) => {
            Err(PostFailure::Other(format!("unexpected http status {status}: {text}")))
        }
    }
}
