//! The body of a stream that another member reads from this one.
//!
//! Source: etcd v3.7 rafthttp/stream.go (`streamWriter`).

use crate::limits::LINK_HEARTBEATS;
use crate::link::Link;
use crate::shared::Shared;
use bytes::{Bytes, BytesMut};
use net::plain::ChunkSource;
use raft::Message;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::{Interval, MissedTickBehavior, interval};
use wire::{AppendEncoder, StreamKind, put_heartbeat, put_message};

/// An open stream. It ends when another one replaces it or the member is removed.
pub(crate) struct StreamWriter {
    link: Arc<Link>,
    shared: Arc<Shared>,
    stream: (StreamKind, u64),
    appends: AppendEncoder,
    /// The first tick is due at once.
    heartbeat: Interval,
}

impl StreamWriter {
    /// Opens the stream. `None` if the member was removed.
    pub(crate) fn open(
        link: Arc<Link>,
        shared: Arc<Shared>,
        kind: StreamKind,
    ) -> Option<StreamWriter> {
        let number = link.outgoing.open(kind)?;
        let mut heartbeat = interval(shared.options.read_time_max / LINK_HEARTBEATS);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let appends = AppendEncoder::default();
        tracing::info!(
            "local-member-id" = format!("{:x}", shared.local.member),
            "remote-peer-id" = link.name,
            "stream-writer-type" = kind.name(),
            "established TCP streaming connection with remote peer"
        );
        Some(StreamWriter { link, shared, stream: (kind, number), appends, heartbeat })
    }

    fn encode(&mut self, messages: &[Message]) -> Bytes {
        let mut bytes = BytesMut::new();
        for message in messages {
            match self.stream.0 {
                StreamKind::Append => self.appends.put(&mut bytes, message),
                StreamKind::Message => put_message(&mut bytes, message),
            }
        }
        bytes.freeze()
    }

    fn encode_heartbeat(&self) -> Bytes {
        let mut bytes = BytesMut::new();
        match self.stream.0 {
            StreamKind::Append => self.appends.put_heartbeat(&mut bytes),
            StreamKind::Message => put_heartbeat(&mut bytes),
        }
        bytes.freeze()
    }
}

impl ChunkSource for StreamWriter {
    fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let chunk = match self.link.outgoing.poll_chunk(self.stream, cx) {
            Poll::Ready(None) => return Poll::Ready(None),
            Poll::Ready(Some(messages)) => self.encode(&messages),
            Poll::Pending => {
                if self.heartbeat.poll_tick(cx).is_pending() {
                    return Poll::Pending;
                }
                self.encode_heartbeat()
            }
        };
        let sent = &self.shared.counters.metrics.raft.peers.sent_bytes;
        sent.with_label_values(&[&self.link.name]).inc_by(chunk.len() as u64);
        Poll::Ready(Some(chunk))
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        if self.link.outgoing.end(self.stream) {
            tracing::warn!(
                "local-member-id" = format!("{:x}", self.shared.local.member),
                "remote-peer-id" = self.link.name,
                "stream-writer-type" = self.stream.0.name(),
                "lost TCP streaming connection with remote peer"
            );
            self.link.activity.failed("write", "the stream has ended");
            // Messages that were queued or in flight may be lost.
            self.shared.deliver.unreachable(self.link.id);
        }
    }
}
