//! Responses that are produced while they are sent, and what a client can make the server hold
//! with them: a view of the store or the file, or a long encoded message.
//!
//! HTTP/2 does not poll a body while the client's window is 0, so the body alone cannot notice
//! that its client has stopped reading. A timer task shares the source with the body. When a limit
//! is reached it drops the source at once; the client finds the reason in the trailers when it
//! reads on.
//!
//! - **Invariant:** a source is dropped at the latest at its deadline, at its age limit, or
//!   [`STALLED_MAX`] after the client took the last piece.

use bytes::Bytes;
use proto::answer::Sink;
use rpc::body::{self, PIECE_MAX, Reply, Source};
use rpc::frame::{PREFIX_LEN, check_sent};
use rpc::{Code, Status};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::task::AbortHandle;
use tokio::time::Instant;

/// A response is cut off when its client reads nothing for this long while a piece is ready.
pub(crate) const STALLED_MAX: Duration = Duration::from_secs(60);
/// A range is cut off when it is not read within this time. At 1 MiB/s this is 600 MiB.
pub(crate) const RANGE_AGE_MAX: Duration = Duration::from_secs(600);
/// A snapshot may take [`RANGE_AGE_MAX`] and the time that its file takes at this rate, in bytes
/// per second.
const SNAPSHOT_RATE_MIN: u64 = 64 * 1024;

/// How long a snapshot of a file of `size` bytes may take.
pub(crate) fn snapshot_age_max(size: u64) -> Duration {
    RANGE_AGE_MAX + Duration::from_secs(size / SNAPSHOT_RATE_MIN)
}

/// When a response is cut off even if its client reads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HoldLimits {
    /// The deadline that came with the call.
    pub(crate) deadline: Option<Instant>,
    /// The time from the first byte to the last.
    pub(crate) age_max: Duration,
}

impl HoldLimits {
    /// The limits of a response that is a range.
    pub(crate) fn range(deadline: Option<Instant>) -> HoldLimits {
        HoldLimits { deadline, age_max: RANGE_AGE_MAX }
    }
}

/// A source that can be cut off.
pub(crate) trait HeldSource: Source {
    /// Called before the source is dropped because a limit was reached; a stream counts its end
    /// here. (A unary call is counted when its handler returns.)
    fn cut_off(&mut self, _: &Status) {}
}

/// A response whose source is dropped when a limit is reached. Must be called inside a `LocalSet`.
pub(crate) fn held<S: HeldSource + 'static>(source: S, limits: HoldLimits) -> Reply {
    let now = Instant::now();
    let shared = Rc::new(RefCell::new(Shared {
        message_len: source.message_len(),
        source: Some(source),
        cut_off: None,
        stalled_since: Some(now),
        body: None,
    }));
    let timer = cut_off_in_time(Rc::downgrade(&shared), limits, now);
    let timer = tokio::task::spawn_local(timer).abort_handle();
    body::source(Box::new(HeldBody { shared, timer }))
}

/// A response of one message of `len` bytes, which `write` produces. If the message is too long to
/// be sent, the call is refused. A message of several pieces has the limits of a range.
///
/// # Panics
/// When `write` does not write `len` bytes.
pub(crate) fn message(
    len: usize,
    deadline: Option<Instant>,
    write: impl FnOnce(&mut dyn Sink),
) -> Reply {
    if let Err(status) = check_sent(len) {
        return body::refuse(&status);
    }
    if len <= PIECE_MAX - PREFIX_LEN {
        return body::message(len, write);
    }
    let pieces = body::framed(len, write).into();
    held(LongMessage { len, pieces }, HoldLimits::range(deadline))
}

/// A message of several pieces.
struct LongMessage {
    len: usize,
    pieces: VecDeque<Bytes>,
}

impl Source for LongMessage {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        Poll::Ready(self.pieces.pop_front().map(Ok))
    }

    fn message_len(&self) -> usize {
        self.len
    }
}

impl HeldSource for LongMessage {}

/// What the body and the timer share.
struct Shared<S> {
    /// `None` after the last piece, or once the response is cut off.
    source: Option<S>,
    message_len: usize,
    /// Why the response was cut off, until the body has reported it.
    cut_off: Option<Status>,
    /// Since when the client could have asked for the next piece; `None` while the source works
    /// on a piece that the client waits for.
    stalled_since: Option<Instant>,
    body: Option<Waker>,
}

struct HeldBody<S> {
    shared: Rc<RefCell<Shared<S>>>,
    timer: AbortHandle,
}

impl<S: HeldSource> Source for HeldBody<S> {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        let mut shared = self.shared.borrow_mut();
        if let Some(status) = shared.cut_off.take() {
            return Poll::Ready(Some(Err(status)));
        }
        let Some(source) = &mut shared.source else { return Poll::Ready(None) };
        let polled = source.poll_piece(cx);
        match &polled {
            Poll::Ready(Some(Ok(_))) => shared.stalled_since = Some(Instant::now()),
            Poll::Ready(Some(Err(_)) | None) => shared.source = None,
            Poll::Pending => {
                shared.stalled_since = None;
                shared.body = Some(cx.waker().clone());
            }
        }
        polled
    }

    fn message_len(&self) -> usize {
        self.shared.borrow().message_len
    }
}

impl<S> Drop for HeldBody<S> {
    fn drop(&mut self) {
        self.timer.abort();
    }
}

/// Waits until a limit is reached, then drops the source.
async fn cut_off_in_time<S: HeldSource>(
    shared: Weak<RefCell<Shared<S>>>,
    limits: HoldLimits,
    begun: Instant,
) {
    let age_end = begun + limits.age_max;
    loop {
        let now = Instant::now();
        let stalled_end = {
            let Some(shared) = shared.upgrade() else { return };
            let stalled_since = shared.borrow().stalled_since;
            stalled_since.unwrap_or(now) + STALLED_MAX
        };
        let (at, status) = first_limit(limits.deadline, age_end, stalled_end);
        if at <= now {
            let Some(shared) = shared.upgrade() else { return };
            cut_off(&shared, status());
            return;
        }
        tokio::time::sleep_until(at).await;
    }
}

/// The limit that is reached first, and the status for the client.
fn first_limit(
    deadline: Option<Instant>,
    age_end: Instant,
    stalled_end: Instant,
) -> (Instant, fn() -> Status) {
    let own: (Instant, fn() -> Status) =
        if stalled_end <= age_end { (stalled_end, stalled) } else { (age_end, too_old) };
    match deadline {
        Some(deadline) if deadline <= own.0 => (deadline, Status::deadline_exceeded),
        _ => own,
    }
}

fn stalled() -> Status {
    let why = format!("retcd: the client read nothing for {} s", STALLED_MAX.as_secs());
    Status::new(Code::ResourceExhausted, why)
}

fn too_old() -> Status {
    Status::new(Code::ResourceExhausted, "retcd: the client read the response too slowly")
}

fn cut_off<S: HeldSource>(shared: &RefCell<Shared<S>>, status: Status) {
    let mut borrowed = shared.borrow_mut();
    let Some(mut source) = borrowed.source.take() else { return };
    tracing::warn!(reason = %status.message, "cut off a response that its client does not read");
    source.cut_off(&status);
    borrowed.cut_off = Some(status);
    let body = borrowed.body.take();
    drop(borrowed);
    drop(source);
    if let Some(body) = body {
        body.wake();
    }
}
