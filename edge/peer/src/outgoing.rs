//! The messages to one member that wait for its streams or for requests of their own. The queues
//! are bounded: a message that does not fit is refused.
//!
//! Source: etcd v3.7 rafthttp/peer.go (`pick`), stream.go (`streamWriter`).

use crate::limits::{CHUNK_BYTES, PIPELINE_QUEUE_MAX, QUEUE_BYTES_MAX, STREAM_QUEUE_MAX};
use raft::{Body, Message};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;
use wire::StreamKind;

/// The queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// The queues to one member.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    queues: Mutex<Queues>,
    /// Wakes the senders of single requests.
    posted: Notify,
}

#[derive(Debug, Default)]
struct Queues {
    append: Stream,
    message: Stream,
    pipeline: Queue,
    is_closed: bool,
    /// The number of the next stream.
    next: u64,
}

#[derive(Debug, Default)]
struct Stream {
    /// The number of the open stream.
    open: Option<u64>,
    queue: Queue,
    waker: Option<Waker>,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Message>,
    bytes: usize,
}

/// About the bytes that a message holds.
fn size(message: &Message) -> usize {
    let of_entries = |entries: &[proto::Entry]| -> usize {
        entries.iter().map(|entry| entry.data.len() + 64).sum()
    };
    64 + match &message.body {
        Body::Append { entries, .. } | Body::Propose { entries } => of_entries(entries),
        Body::Snapshot(snapshot) => snapshot.data.len(),
        Body::AppendAccepted { .. }
        | Body::AppendRejected { .. }
        | Body::Vote { .. }
        | Body::VoteResponse { .. }
        | Body::PreVote { .. }
        | Body::PreVoteResponse { .. }
        | Body::Heartbeat { .. }
        | Body::HeartbeatResponse { .. }
        | Body::TransferLeader
        | Body::TimeoutNow
        | Body::ReadIndex { .. }
        | Body::ReadIndexResponse { .. }
        | Body::Stored { .. } => 0,
    }
}

impl Queue {
    fn push(&mut self, message: Message, count_max: usize) -> Result<(), QueueFull> {
        let size = size(&message);
        let is_full = self.messages.len() >= count_max || self.bytes + size > QUEUE_BYTES_MAX;
        if is_full && !self.messages.is_empty() {
            return Err(QueueFull);
        }
        self.bytes += size;
        self.messages.push_back(message);
        Ok(())
    }

    fn pop(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.bytes -= size(&message);
        Some(message)
    }

    /// As many messages as make one chunk.
    fn take_chunk(&mut self) -> Vec<Message> {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while bytes < CHUNK_BYTES {
            let Some(message) = self.pop() else { break };
            bytes += size(&message);
            chunk.push(message);
        }
        chunk
    }
}

impl Stream {
    /// Ends the open stream and drops its queue. Returns whether messages were in the queue.
    fn close(&mut self) -> bool {
        self.open = None;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        let lost = std::mem::take(&mut self.queue);
        !lost.messages.is_empty()
    }
}

impl Queues {
    fn stream(&mut self, kind: StreamKind) -> &mut Stream {
        match kind {
            StreamKind::Append => &mut self.append,
            StreamKind::Message => &mut self.message,
        }
    }
}

impl Outgoing {
    /// Queues a message: an append for the append stream if that is open, any message for the
    /// message stream if that is open, and otherwise as a request of its own. If a stream waits for
    /// it, adds its waker to `wakers`: the caller wakes all streams once it holds no lock and has
    /// queued all messages, so that their thread is woken once and finds them all.
    pub(crate) fn push(&self, message: Message, wakers: &mut Vec<Waker>) -> Result<(), QueueFull> {
        let mut queues = self.lock();
        let is_append = matches!(message.body, Body::Append { .. });
        let stream = if is_append && queues.append.open.is_some() {
            &mut queues.append
        } else {
            &mut queues.message
        };
        if stream.open.is_some() {
            stream.queue.push(message, STREAM_QUEUE_MAX)?;
            wakers.extend(stream.waker.take());
            return Ok(());
        }
        queues.pipeline.push(message, PIPELINE_QUEUE_MAX)?;
        drop(queues);
        self.posted.notify_one();
        Ok(())
    }

    /// Opens a stream in place of the one before. Returns its number, or `None` when the member was
    /// removed.
    pub(crate) fn open(&self, kind: StreamKind) -> Option<u64> {
        let mut queues = self.lock();
        if queues.is_closed {
            return None;
        }
        let number = queues.next;
        queues.next += 1;
        let stream = queues.stream(kind);
        stream.close();
        stream.open = Some(number);
        Some(number)
    }

    /// The next messages of an open stream; `None` when it has ended.
    pub(crate) fn poll_chunk(
        &self,
        (kind, number): (StreamKind, u64),
        cx: &Context<'_>,
    ) -> Poll<Option<Vec<Message>>> {
        let mut queues = self.lock();
        let stream = queues.stream(kind);
        if stream.open != Some(number) {
            return Poll::Ready(None);
        }
        let chunk = stream.queue.take_chunk();
        if chunk.is_empty() {
            stream.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Some(chunk))
    }

    /// Ends a stream, unless another one has replaced it. Returns whether it was the open one.
    pub(crate) fn end(&self, (kind, number): (StreamKind, u64)) -> bool {
        let mut queues = self.lock();
        let stream = queues.stream(kind);
        let is_open = stream.open == Some(number);
        if is_open {
            stream.close();
        }
        is_open
    }

    /// Waits for the next message to be sent as a request of its own.
    pub(crate) async fn next_post(&self) -> Message {
        loop {
            let posted = self.posted.notified();
            if let Some(message) = self.take_post() {
                return message;
            }
            posted.await;
        }
    }

    fn take_post(&self) -> Option<Message> {
        let mut queues = self.lock();
        let message = queues.pipeline.pop()?;
        if !queues.pipeline.messages.is_empty() {
            self.posted.notify_one();
        }
        Some(message)
    }

    /// Ends all streams and opens no more.
    pub(crate) fn close(&self) {
        let mut queues = self.lock();
        queues.is_closed = true;
        queues.append.close();
        queues.message.close();
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proto::{Entry, EntryId, Index, NodeId, Term};

    fn message(body: Body) -> Message {
        Message { from: NodeId(1), to: NodeId(2), term: Term(1), body }
    }

    fn vote() -> Message {
        message(Body::VoteResponse { granted: true })
    }

    fn append(bytes: usize) -> Message {
        let entry = Entry { data: Bytes::from(vec![0; bytes]), ..Entry::default() };
        let body =
            Body::Append { prev: EntryId::default(), entries: vec![entry], commit: Index(0) };
        message(body)
    }

    fn push(outgoing: &Outgoing, message: Message) -> Result<(), QueueFull> {
        outgoing.push(message, &mut Vec::new())
    }

    fn poll(outgoing: &Outgoing, stream: (StreamKind, u64)) -> Poll<Option<Vec<Message>>> {
        outgoing.poll_chunk(stream, &Context::from_waker(Waker::noop()))
    }

    #[test]
    fn messages_go_to_the_best_open_channel() {
        let outgoing = Outgoing::default();
        push(&outgoing, append(1)).unwrap();
        assert_eq!(outgoing.take_post(), Some(append(1)), "no stream is open");
        let others = (StreamKind::Message, outgoing.open(StreamKind::Message).unwrap());
        push(&outgoing, append(2)).unwrap();
        push(&outgoing, vote()).unwrap();
        assert_eq!(poll(&outgoing, others), Poll::Ready(Some(vec![append(2), vote()])));
        let appends = (StreamKind::Append, outgoing.open(StreamKind::Append).unwrap());
        push(&outgoing, append(3)).unwrap();
        push(&outgoing, vote()).unwrap();
        assert_eq!(poll(&outgoing, appends), Poll::Ready(Some(vec![append(3)])));
        assert_eq!(poll(&outgoing, others), Poll::Ready(Some(vec![vote()])));
        assert!(outgoing.end(others));
        push(&outgoing, vote()).unwrap();
        assert_eq!(outgoing.take_post(), Some(vote()));
    }

    #[test]
    fn a_stream_that_waits_is_woken_by_the_caller_after_its_first_message() {
        let outgoing = Outgoing::default();
        let stream = (StreamKind::Message, outgoing.open(StreamKind::Message).unwrap());
        assert_eq!(poll(&outgoing, stream), Poll::Pending);
        let mut wakers = Vec::new();
        outgoing.push(vote(), &mut wakers).unwrap();
        outgoing.push(vote(), &mut wakers).unwrap();
        assert_eq!(wakers.len(), 1);
        assert_eq!(poll(&outgoing, stream), Poll::Ready(Some(vec![vote(), vote()])));
    }

    #[test]
    fn queues_are_bounded_in_messages_and_bytes() {
        let outgoing = Outgoing::default();
        for _ in 0..PIPELINE_QUEUE_MAX {
            push(&outgoing, vote()).unwrap();
        }
        assert_eq!(push(&outgoing, vote()), Err(QueueFull));
        outgoing.open(StreamKind::Message).unwrap();
        for _ in 0..STREAM_QUEUE_MAX {
            push(&outgoing, vote()).unwrap();
        }
        assert_eq!(push(&outgoing, vote()), Err(QueueFull));
        outgoing.open(StreamKind::Append).unwrap();
        push(&outgoing, append(QUEUE_BYTES_MAX * 2)).unwrap();
        assert_eq!(push(&outgoing, append(1)), Err(QueueFull), "the first one is larger than all");
    }

    #[test]
    fn a_new_stream_replaces_the_one_before_and_starts_empty() {
        let outgoing = Outgoing::default();
        let first = (StreamKind::Message, outgoing.open(StreamKind::Message).unwrap());
        push(&outgoing, vote()).unwrap();
        let second = (StreamKind::Message, outgoing.open(StreamKind::Message).unwrap());
        assert_eq!(poll(&outgoing, first), Poll::Ready(None));
        assert!(!outgoing.end(first), "it has ended already");
        assert_eq!(poll(&outgoing, second), Poll::Pending);
        outgoing.close();
        assert_eq!(poll(&outgoing, second), Poll::Ready(None));
        assert_eq!(outgoing.open(StreamKind::Append), None);
    }
}
