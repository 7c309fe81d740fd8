//! Opens a stream of another member and reads it. Opens it again when it ends.
//!
//! Source: etcd v3.7 rafthttp/stream.go (`streamReader`).

use crate::http1::{Connection, head, read_text};
use crate::limits::REDIAL;
use crate::link::Link;
use crate::shared::Shared;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use std::sync::Arc;
use tokio::time::{sleep, timeout};
use wire::{
    AppendDecoder, MessageDecoder, Received, StreamKind, StreamRefusal, WireError,
    check_stream_response,
};

/// An open stream with its connection.
type Opened = (Connection<Empty<Bytes>>, Incoming);

/// Why a stream has ended.
enum Ended {
    /// This member was removed, so the stream is not opened again.
    Removed,
    /// It failed, and is opened again.
    Failed(&'static str, String),
}

pub(crate) async fn run(link: Arc<Link>, shared: Arc<Shared>, kind: StreamKind) {
    let (local, remote) = (format!("{:x}", shared.local.member), &link.name);
    let stream = kind.name();
    tracing::info!(
        "local-member-id" = local,
        "remote-peer-id" = remote,
        "stream-reader-type" = stream,
        "started stream reader with remote peer"
    );
    loop {
        let ended = match open(&link, &shared, kind).await {
            Ok(opened) => {
                tracing::info!(
                    "local-member-id" = local,
                    "remote-peer-id" = remote,
                    "stream-reader-type" = stream,
                    "established TCP streaming connection with remote peer"
                );
                let ended = read(&link, &shared, kind, opened).await;
                tracing::warn!(
                    "local-member-id" = local,
                    "remote-peer-id" = remote,
                    "stream-reader-type" = stream,
                    error = ended,
                    "lost TCP streaming connection with remote peer"
                );
                Ended::Failed("read", ended)
            }
            Err(ended) => ended,
        };
        match ended {
            Ended::Removed => {
                shared.deliver.removed();
                return;
            }
            Ended::Failed(action, error) => link.activity.failed(action, &error),
        }
        sleep(REDIAL).await;
    }
}

async fn open(link: &Link, shared: &Shared, kind: StreamKind) -> Result<Opened, Ended> {
    let failed = |error: String| Ended::Failed("dial", error);
    let url = link.urls.pick().ok_or_else(|| failed("the peer has no usable URL".to_owned()))?;
    let dial = async {
        let mut connection =
            Connection::open(&shared.options.dialer, &url).await.map_err(failed)?;
        let mut request = head("GET", &url, &kind.path(shared.local.member));
        for (name, value) in shared.local().request_headers(link.id) {
            request = request.header(name, value);
        }
        let request = request.body(Empty::new()).map_err(|error| failed(error.to_string()))?;
        let answer = timeout(shared.options.read_time_max, connection.send(request));
        let answer = answer.await.map_err(|_| failed("i/o timeout".to_owned()))?;
        Ok((connection, answer.map_err(failed)?))
    };
    let (connection, response) = dial.await.inspect_err(|_| link.urls.failed(&url))?;
    let (head, body) = response.into_parts();
    let version = head.headers.get(wire::headers::SERVER_VERSION);
    let version = version.and_then(|version| version.to_str().ok()).map(str::to_owned);
    let status = head.status.as_u16();
    if status == 200 && check_stream_response(status, version.as_deref(), "").is_ok() {
        link.activity.succeeded();
        return Ok((connection, body));
    }
    let text = timeout(shared.options.read_time_max, read_text(body)).await.unwrap_or_default();
    Err(match check_stream_response(status, version.as_deref(), &text) {
        Err(StreamRefusal::Removed) => Ended::Removed,
        Err(refusal) => {
            warn_refused(link, shared, &refusal);
            link.urls.failed(&url);
            failed(refusal.to_string())
        }
        Ok(()) => failed("an answer that is both good and bad".to_owned()),
    })
}

fn warn_refused(link: &Link, shared: &Shared, refusal: &StreamRefusal) {
    let (local, remote) = (format!("{:x}", shared.local.member), &link.name);
    let error = refusal.to_string();
    match refusal {
        StreamRefusal::IncompatibleVersion => tracing::warn!(
            "local-member-id" = local,
            "remote-peer-id" = remote,
            error,
            "request sent was ignored by remote peer due to server version incompatibility"
        ),
        StreamRefusal::ClusterMismatch => tracing::warn!(
            "local-member-id" = local,
            "remote-peer-id" = remote,
            "local-member-cluster-id" = format!("{:x}", shared.local.cluster),
            error,
            "request sent was ignored by remote peer due to cluster ID mismatch"
        ),
        StreamRefusal::Removed
        | StreamRefusal::Unsupported
        | StreamRefusal::NotFound
        | StreamRefusal::Other(..) => tracing::debug!(
            "local-member-id" = local,
            "remote-peer-id" = remote,
            error,
            "cannot open a stream of a peer"
        ),
    }
}

/// The decoder of a stream.
enum Decoder {
    Append(AppendDecoder),
    Message(MessageDecoder),
}

impl Decoder {
    fn push(&mut self, chunk: &[u8]) {
        match self {
            Decoder::Append(decoder) => decoder.push(chunk),
            Decoder::Message(decoder) => decoder.push(chunk),
        }
    }

    fn read_next(&mut self) -> Result<Option<Received>, WireError> {
        match self {
            Decoder::Append(decoder) => decoder.read_next(),
            Decoder::Message(decoder) => decoder.read_next(),
        }
    }
}

/// Reads until the stream ends. Returns the reason.
async fn read(link: &Link, shared: &Shared, kind: StreamKind, opened: Opened) -> String {
    let (_connection, mut body) = opened;
    let bytes_max = shared.message_bytes_max();
    let mut decoder = match kind {
        StreamKind::Append => {
            Decoder::Append(AppendDecoder::new(link.id, shared.local.member, bytes_max))
        }
        StreamKind::Message => Decoder::Message(MessageDecoder::new(bytes_max)),
    };
    let received = &shared.counters.metrics.raft.peers.received_bytes;
    let received = received.with_label_values(&[&link.name]);
    loop {
        let chunk = match timeout(shared.options.read_time_max, body.frame()).await {
            Err(_) => return "i/o timeout".to_owned(),
            Ok(None) => return "EOF".to_owned(),
            Ok(Some(Err(error))) => return error.to_string(),
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(chunk) => chunk,
                Err(_) => continue,
            },
        };
        received.inc_by(chunk.len() as u64);
        decoder.push(&chunk);
        loop {
            match decoder.read_next() {
                Ok(None) => break,
                Ok(Some(Received::LinkHeartbeat)) => {}
                Ok(Some(Received::Message(message))) => {
                    if let Err(error) = shared.receive(*message) {
                        tracing::debug!(error, "dropped a message of a peer");
                    }
                }
                Ok(Some(Received::Refused(error))) => {
                    tracing::warn!("remote-peer-id" = link.name, %error, "dropped a message of a peer");
                }
                Err(error) => return error.to_string(),
            }
        }
    }
}
