//! The Watch service: what a client asks goes to the host's watchers, and what they have to say
//! into the stream. How watchers behave is `core/watch`'s.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3rpc/watch.go.

use crate::host::{Host, WatchStream};
use crate::service::Call;
use bytes::Bytes;
use hyper::body::Incoming;
use proto::etcdserverpb::WatchRequest;
use rpc::body::{Reply, framed, stream};
use rpc::frame::{Messages, decode_in_stream, in_stream};
use rpc::queue::{Feeder, queue};
use rpc::{Code, Error, Status};
use std::cell::RefCell;
use std::rc::Rc;

/// Messages longer than this, in bytes, are not kept.
const KEPT_MAX: usize = 64 * 1024;

/// The last message that went to any stream. When something happens, many streams are to hear
/// the same of it one after the other, and mostly to the byte.
#[derive(Debug, Default)]
pub(crate) struct LastFramed(RefCell<(Vec<Bytes>, Vec<Bytes>)>);

impl LastFramed {
    /// A message of `len` bytes with its prefix, from its parts.
    fn framed(&self, parts: Vec<Bytes>, len: usize) -> Vec<Bytes> {
        let mut last = self.0.borrow_mut();
        if same(&last.0, &parts) {
            return last.1.clone();
        }
        let pieces = framed(len, |to| parts.iter().for_each(|part| to.shared(part)));
        *last = if len <= KEPT_MAX { (parts, pieces.clone()) } else { Default::default() };
        pieces
    }
}

/// The first parts, which are short, are equal, and the others are the same bytes in memory.
fn same(left: &[Bytes], right: &[Bytes]) -> bool {
    let ([left_head, left @ ..], [right_head, right @ ..]) = (left, right) else { return false };
    let shared = |(left, right): (&Bytes, &Bytes)| {
        std::ptr::eq(left.as_ptr(), right.as_ptr()) && left.len() == right.len()
    };
    left.len() == right.len() && left_head == right_head && left.iter().zip(right).all(shared)
}

pub(crate) fn watch<H: Host>(call: Call<H>) -> Result<Reply, Status> {
    call.check_stream()?;
    let (feeder, receiver) = queue();
    let deadline = call.deadline();
    let requires_leader = call.requires_leader();
    let Call { service, messages, .. } = call;
    let (sink, framing) = (feeder.clone(), Rc::clone(&service));
    let deliver = move |parts, len| sink.pieces(framing.last_framed.framed(parts, len));
    let watchers = service.host.watch(Rc::new(deliver));
    tokio::task::spawn_local(async move {
        let status = tokio::select! {
            status = read(&watchers, messages) => status,
            () = drain(&watchers, &feeder) => Error::WatchCanceled.into(),
            status = crate::ends::early(&service, deadline, requires_leader) => status,
        };
        feeder.end(status);
    });
    Ok(stream(receiver))
}

/// Takes what the client asks. A client that asks no more goes on hearing.
async fn read<W: WatchStream>(watchers: &W, mut messages: Messages<Incoming>) -> Status {
    loop {
        match messages.next().await.map_err(in_stream) {
            Ok(Some(message)) => match decode_in_stream::<WatchRequest>(message) {
                Ok(request) => watchers.request(request),
                Err(status) => return status,
            },
            Ok(None) => return std::future::pending().await,
            Err(status) if status.code == Code::Cancelled => return Error::WatchCanceled.into(),
            Err(status) => return status,
        }
    }
}

/// Tells the watchers what the client has taken, until it is gone.
async fn drain<W: WatchStream>(watchers: &W, feeder: &Feeder) {
    while let Some(bytes) = feeder.drained().await {
        watchers.drained(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_messages_are_framed_once_and_others_anew() {
        let last = LastFramed::default();
        let events = Bytes::from(vec![1; 300]);
        let parts = |head: u8| vec![Bytes::from(vec![head; 4]), events.clone()];
        let first = last.framed(parts(1), 304);
        assert_eq!(first.concat(), [&[0, 0, 0, 1, 48, 1, 1, 1, 1][..], &events].concat());
        let again = last.framed(parts(1), 304);
        assert!(std::ptr::eq(first[0].as_ptr(), again[0].as_ptr()));
        assert_eq!(last.framed(parts(2), 304).concat()[5], 2);
        let twin = vec![Bytes::from(vec![2; 4]), Bytes::from(vec![3; 300])];
        assert_eq!(last.framed(twin, 304).concat()[9], 3);
    }

    #[test]
    fn long_messages_are_not_kept() {
        let last = LastFramed::default();
        let parts = vec![Bytes::from_static(b"h"), Bytes::from(vec![0; KEPT_MAX])];
        assert_eq!(last.framed(parts, KEPT_MAX + 1).concat().len(), KEPT_MAX + 6);
        assert!(last.0.borrow().0.is_empty());
    }
}
