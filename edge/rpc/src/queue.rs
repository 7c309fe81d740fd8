//! The queue between the task that feeds a stream of responses and the body that HTTP/2 polls. Both
//! live on one thread.
//!
//! The feeder bounds the queue, since only it knows what to do at the bound: it sees how many bytes
//! are queued and how many were taken. Watchers stop at 1 MiB and read history later; a stream with
//! requests stops reading them at 64 KiB; a health watch sends one message.

use crate::{Status, frame};
use bytes::{Bytes, BytesMut};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Short pieces are joined up to this length, in bytes: the frame size that every client accepts.
const JOINED_MAX: usize = 16 * 1024;

#[derive(Debug, Default)]
struct Shared {
    pieces: VecDeque<Bytes>,
    /// The bytes in `pieces`.
    queued: usize,
    /// Bytes that the body has taken since the feeder last asked.
    drained: usize,
    /// The status with which the stream ends, once it is known.
    end: Option<Status>,
    /// True once the body is dropped: the client cancelled, or the connection broke.
    gone: bool,
    body: Option<Waker>,
    feeder: Option<Waker>,
}

impl Shared {
    fn wake_body(&mut self) {
        if let Some(waker) = self.body.take() {
            waker.wake();
        }
    }

    fn wake_feeder(&mut self) {
        if let Some(waker) = self.feeder.take() {
            waker.wake();
        }
    }

    /// The next piece. Short queued pieces are joined, since a frame costs more than a copy.
    fn take_piece(&mut self) -> Option<Bytes> {
        let first = self.pieces.pop_front()?;
        let fits = |joined: usize, next: &Bytes| joined + next.len() <= JOINED_MAX;
        if !self.pieces.front().is_some_and(|next| fits(first.len(), next)) {
            return Some(first);
        }
        let mut joined = BytesMut::with_capacity(self.queued.min(JOINED_MAX));
        joined.extend_from_slice(&first);
        while let Some(next) = self.pieces.pop_front_if(|next| fits(joined.len(), next)) {
            joined.extend_from_slice(&next);
        }
        Some(joined.freeze())
    }
}

/// Creates a queue.
#[must_use]
pub fn queue() -> (Feeder, Receiver) {
    let shared = Rc::new(RefCell::new(Shared::default()));
    (Feeder(Rc::clone(&shared)), Receiver(shared))
}

/// The sending end. Cheap to clone.
///
/// The stream ends with [`Feeder::end`]. If all feeders are dropped without it, the stream ends as
/// cancelled, so that the body does not wait for ever.
#[derive(Clone, Debug)]
pub struct Feeder(Rc<RefCell<Shared>>);

impl Feeder {
    /// Sends one message that prost encodes.
    pub fn encoded<M: prost::Message>(&self, message: &M) {
        let len = message.encoded_len();
        let mut buffer = BytesMut::with_capacity(frame::PREFIX_LEN + len);
        buffer.extend_from_slice(&frame::prefix(len));
        message.encode_raw(&mut buffer);
        self.pieces([buffer.freeze()]);
    }

    /// Sends pieces that are already framed.
    pub fn pieces(&self, pieces: impl IntoIterator<Item = Bytes>) {
        let mut shared = self.0.borrow_mut();
        if shared.gone || shared.end.is_some() {
            return;
        }
        for piece in pieces {
            shared.queued += piece.len();
            shared.pieces.push_back(piece);
        }
        shared.wake_body();
    }

    /// Ends the stream after the queued pieces. Only the first call has an effect.
    pub fn end(&self, status: Status) {
        let mut shared = self.0.borrow_mut();
        shared.end.get_or_insert(status);
        shared.wake_body();
        shared.wake_feeder();
    }

    /// How many bytes wait for the client.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.borrow().queued
    }

    /// True if the body is gone or the stream was ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let shared = self.0.borrow();
        shared.gone || shared.end.is_some()
    }

    /// Waits until the body has taken bytes. Returns their number since the last call, or `None`
    /// when the stream is over. Only one task may wait.
    pub async fn drained(&self) -> Option<usize> {
        poll_fn(|cx| self.poll_drained(cx)).await
    }

    /// As [`Feeder::drained`].
    pub fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<Option<usize>> {
        let mut shared = self.0.borrow_mut();
        if shared.gone || shared.end.is_some() {
            return Poll::Ready(None);
        }
        if shared.drained > 0 {
            return Poll::Ready(Some(std::mem::take(&mut shared.drained)));
        }
        shared.feeder = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Waits until at most `bytes` are queued. False when the stream is over. Only the task that
    /// waits for [`Feeder::drained`] may wait for this at the same time.
    pub async fn room(&self, bytes: usize) -> bool {
        poll_fn(|cx| {
            let mut shared = self.0.borrow_mut();
            if shared.gone || shared.end.is_some() {
                return Poll::Ready(false);
            }
            if shared.queued <= bytes {
                return Poll::Ready(true);
            }
            shared.feeder = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        // The last feeder: the other reference is the body's.
        if Rc::strong_count(&self.0) == 2 {
            self.end(Status::new(tonic::Code::Cancelled, "context canceled"));
        }
    }
}

/// The receiving end, for the body.
#[derive(Debug)]
pub struct Receiver(Rc<RefCell<Shared>>);

impl Receiver {
    /// Whether the stream was ended and no piece is queued.
    pub(crate) fn is_at_its_end(&self) -> bool {
        let shared = self.0.borrow();
        shared.pieces.is_empty() && shared.end.is_some()
    }

    /// The next piece, or the status at the end of the stream.
    pub(crate) fn poll_piece(&self, cx: &Context<'_>) -> Poll<Result<Bytes, Status>> {
        let mut shared = self.0.borrow_mut();
        if let Some(piece) = shared.take_piece() {
            shared.queued -= piece.len();
            shared.drained += piece.len();
            shared.wake_feeder();
            return Poll::Ready(Ok(piece));
        }
        if let Some(status) = &shared.end {
            return Poll::Ready(Err(status.clone()));
        }
        shared.body = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.gone = true;
        shared.pieces.clear();
        shared.queued = 0;
        shared.wake_feeder();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    fn poll(receiver: &Receiver) -> Poll<Result<Bytes, Status>> {
        receiver.poll_piece(&Context::from_waker(Waker::noop()))
    }

    fn drained(feeder: &Feeder) -> Poll<Option<usize>> {
        feeder.poll_drained(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn the_feeder_sees_queued_and_taken_bytes() {
        let (feeder, receiver) = queue();
        assert_eq!(drained(&feeder), Poll::Pending);
        feeder.pieces(crate::body::framed(3, |to| to.slice(b"abc")));
        assert_eq!(feeder.queued(), 8);
        assert_eq!(poll(&receiver), Poll::Ready(Ok(b"\0\0\0\0\x03abc"[..].into())));
        assert_eq!(poll(&receiver), Poll::Pending);
        assert_eq!(feeder.queued(), 0);
        assert_eq!(drained(&feeder), Poll::Ready(Some(8)));
        assert_eq!(drained(&feeder), Poll::Pending);
    }

    #[test]
    fn waiting_for_room_leaves_the_count_of_taken_bytes_alone() {
        let (feeder, receiver) = queue();
        feeder.pieces([Bytes::from_static(b"12345")]);
        let mut cx = Context::from_waker(Waker::noop());
        let mut room = std::pin::pin!(feeder.room(4));
        assert_eq!(room.as_mut().poll(&mut cx), Poll::Pending);
        assert!(poll(&receiver).is_ready());
        assert_eq!(room.poll(&mut cx), Poll::Ready(true));
        assert_eq!(drained(&feeder), Poll::Ready(Some(5)));
        drop(receiver);
        assert_eq!(std::pin::pin!(feeder.room(4)).poll(&mut cx), Poll::Ready(false));
    }

    #[test]
    fn short_pieces_are_joined_up_to_a_frame() {
        let (feeder, receiver) = queue();
        let lengths = [10_000, 6_384, 1, 20_000, 0, 3];
        feeder.pieces(lengths.map(|len| Bytes::from(vec![7; len])));
        let mut got = Vec::new();
        while let Poll::Ready(Ok(piece)) = poll(&receiver) {
            got.push(piece.len());
        }
        assert_eq!(got, [16_384, 1, 20_000, 3]);
        assert_eq!(drained(&feeder), Poll::Ready(Some(36_388)));
    }

    #[test]
    fn the_end_follows_the_queued_pieces() {
        let (feeder, receiver) = queue();
        feeder.encoded(&proto::etcdserverpb::WatchResponse::default());
        feeder.end(Status::OK);
        feeder.end(Status::new(Code::Internal, "too late"));
        feeder.pieces([Bytes::from_static(b"too late")]);
        assert!(matches!(poll(&receiver), Poll::Ready(Ok(_))));
        assert_eq!(poll(&receiver), Poll::Ready(Err(Status::OK)));
        assert_eq!(drained(&feeder), Poll::Ready(None));
    }

    #[test]
    fn a_dropped_body_frees_the_queue() {
        let (feeder, receiver) = queue();
        feeder.pieces([Bytes::from_static(b"x")]);
        drop(receiver);
        assert!(feeder.is_over());
        assert_eq!(feeder.queued(), 0);
        assert_eq!(drained(&feeder), Poll::Ready(None));
    }

    #[test]
    fn a_stream_without_feeders_is_cancelled() {
        let (feeder, receiver) = queue();
        let second = feeder.clone();
        drop(feeder);
        assert_eq!(poll(&receiver), Poll::Pending);
        drop(second);
        let Poll::Ready(Err(status)) = poll(&receiver) else { panic!("it hangs") };
        assert_eq!(status.code, Code::Cancelled);
    }
}
