//! A response that keeps its connection's seat in use until it is sent or its stream has ended.

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use net::SeatInUse;
use rpc::body::{Body, BodyError};
use std::pin::Pin;
use std::task::{Context, Poll};

/// A response's body with the use of its connection's seat.
pub(crate) struct SeatedBody {
    body: Body,
    _in_use: SeatInUse,
}

impl SeatedBody {
    pub(crate) fn new(body: Body, in_use: SeatInUse) -> SeatedBody {
        SeatedBody { body, _in_use: in_use }
    }
}

impl http_body::Body for SeatedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
