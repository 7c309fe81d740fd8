//! Sends a message with a snapshot and the database file after it.
//!
//! Source: etcd v3.7 rafthttp/snapshot_sender.go.

use crate::http1::{Connection, head, read_text};
use crate::limits::{SNAPSHOT_ANSWER_MAX, SNAPSHOT_CHUNKS, SNAPSHOT_STALLED_MAX};
use crate::link::Link;
use crate::pipeline::{PostFailure, check_post};
use crate::shared::Shared;
use bolt::Copier;
use bytes::Bytes;
use http_body::{Body, Frame};
use net::Url;
use raft::Message;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use wire::encode_snapshot_head;

pub(crate) async fn run(link: Arc<Link>, shared: Arc<Shared>, message: Message, file: Copier) {
    let (name, size) = (&link.name, file.len());
    tracing::info!("remote-peer-id" = name, bytes = size, "sending database snapshot");
    let snapshots = shared.counters.metrics.raft.peer_snapshots.clone();
    let inflight = snapshots.send_inflight.with_label_values(&[name]);
    inflight.inc();
    let started = Instant::now();
    let result = match link.urls.pick() {
        Some(url) => {
            let sent = send(&link, &shared, &url, (&message, file)).await;
            sent.inspect_err(|_| link.urls.failed(&url))
        }
        None => Err(PostFailure::Other("the peer has no usable URL".to_owned())),
    };
    inflight.dec();
    match result {
        Ok(()) => {
            link.activity.succeeded();
            snapshots.send_success.with_label_values(&[name]).inc();
            let times = snapshots.send_seconds.with_label_values(&[name]);
            times.observe(started.elapsed().as_secs_f64());
            tracing::info!("remote-peer-id" = name, bytes = size, "sent database snapshot");
            shared.deliver.snapshot_sent(link.id, true);
        }
        Err(failure) => {
            let error = match failure {
                PostFailure::Removed => {
                    shared.deliver.removed();
                    "the member has been permanently removed from the cluster".to_owned()
                }
                PostFailure::Other(error) => error,
            };
            tracing::warn!(
                "remote-peer-id" = name,
                bytes = size,
                error,
                "failed to send database snapshot"
            );
            link.activity.failed("post snapshot", &error);
            snapshots.send_failures.with_label_values(&[name]).inc();
            shared.counters.metrics.raft.peers.sent_failures.with_label_values(&[name]).inc();
            shared.deliver.unreachable(link.id);
            shared.deliver.snapshot_sent(link.id, false);
        }
    }
}

async fn send(
    link: &Link,
    shared: &Shared,
    url: &Url,
    (message, file): (&Message, Copier),
) -> Result<(), PostFailure> {
    let other = PostFailure::Other;
    let mut connection = Connection::open(&shared.options.dialer, url).await.map_err(other)?;
    let (to, chunks) = mpsc::channel(SNAPSHOT_CHUNKS);
    let first = encode_snapshot_head(message);
    // Reading blocks on the disk.
    tokio::task::spawn_blocking(move || read_file(first, file, &to));
    let progress = Arc::new(AtomicU64::new(0));
    let body = FileBody { chunks, is_ended: false, taken: Arc::clone(&progress) };
    let mut request =
        head("POST", url, "/raft/snapshot").header("Content-Type", "application/octet-stream");
    for (name, value) in shared.local().request_headers(link.id) {
        request = request.header(name, value);
    }
    let request = request.body(body).map_err(|error| other(error.to_string()))?;
    let answer = async {
        let response = connection.send(request).await.map_err(other)?;
        let status = response.status().as_u16();
        let text = timeout(SNAPSHOT_STALLED_MAX, read_text(response.into_body())).await;
        check_post(link, status, &text.unwrap_or_default())
    };
    let result = tokio::select! {
        result = answer => result,
        () = stalled(&progress) => Err(other("the peer takes no bytes of the snapshot".to_owned())),
    };
    let sent = progress.load(Ordering::Relaxed) & !ENDED;
    shared.counters.metrics.raft.peers.sent_bytes.with_label_values(&[&link.name]).inc_by(sent);
    result
}

/// A flag in the progress counter: the body has ended.
const ENDED: u64 = 1 << 63;

/// Completes when no byte was taken for too long, or the answer takes too long.
async fn stalled(progress: &AtomicU64) {
    let mut before = progress.load(Ordering::Relaxed);
    loop {
        let limit = if before & ENDED == 0 { SNAPSHOT_STALLED_MAX } else { SNAPSHOT_ANSWER_MAX };
        sleep(limit).await;
        let now = progress.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
}

/// Reads the file ahead, as far as the channel has room. Stops when the receiver is gone.
fn read_file(first: Bytes, mut file: Copier, to: &mpsc::Sender<Result<Bytes, String>>) {
    let mut next = Ok(Some(first));
    loop {
        let piece = match next {
            Ok(None) => {
                // An empty piece marks the end. Without it, a panic of this thread would look like
                // the end of the file.
                drop(to.blocking_send(Ok(Bytes::new())));
                return;
            }
            Ok(Some(bytes)) => Ok(bytes),
            Err(error) => Err(error),
        };
        let is_over = piece.is_err();
        if to.blocking_send(piece).is_err() || is_over {
            return;
        }
        next = file.next_chunk().map_err(|error| error.to_string());
    }
}

struct FileBody {
    chunks: mpsc::Receiver<Result<Bytes, String>>,
    is_ended: bool,
    taken: Arc<AtomicU64>,
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        if self.is_ended {
            return Poll::Ready(None);
        }
        self.chunks.poll_recv(cx).map(|piece| match piece {
            None => Some(Err("the database was not read to its end".to_owned())),
            Some(Err(error)) => Some(Err(error)),
            Some(Ok(bytes)) if bytes.is_empty() => {
                self.is_ended = true;
                self.taken.fetch_or(ENDED, Ordering::Relaxed);
                None
            }
            Some(Ok(bytes)) => {
                self.taken.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                Some(Ok(Frame::data(bytes)))
            }
        })
    }
}
