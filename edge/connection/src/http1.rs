//! HTTP/1.1, served by hyper.

use crate::body::RequestBody;
use crate::error::Error;
use crate::request::ClientRequest;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use net::limits::HEAD_TIME_MAX;
use net::{Seat, SeatInUse};
use rpc::body::{Body, BodyError, Reply};
use std::convert::Infallible;
use std::future::poll_fn;
use std::io::Cursor;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite};

/// Serves a connection that has begun with these bytes.
pub(crate) async fn serve<I, F>(
    io: I,
    begun: Bytes,
    seat: &Rc<Seat>,
    mut stop: Pin<&mut impl Future<Output = ()>>,
    service: impl Fn(ClientRequest) -> F,
) -> Result<(), Error>
where
    I: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Reply>,
{
    let answer = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let in_use = seat.begin();
        let (head, body) = request.into_parts();
        let body = RequestBody::of_http1(body);
        let answered = service(ClientRequest { head: Rc::new(head), body });
        async move {
            let reply = answered.await;
            Ok::<_, Infallible>(reply.map(|body| SeatedBody { body, _in_use: in_use }))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX);
    let (read, write) = tokio::io::split(io);
    let io = TokioIo::new(tokio::io::join(Cursor::new(begun).chain(read), write));
    let mut connection = pin!(builder.serve_connection(io, answer));
    let mut is_stopping = false;
    let served = poll_fn(|cx| {
        if !is_stopping && stop.as_mut().poll(cx).is_ready() {
            is_stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(cx)
    });
    served.await.map_err(Error::Http1)
}

/// A response that keeps its connection's seat in use until it is sent or its stream has ended.
struct SeatedBody {
    body: Body,
    _in_use: SeatInUse,
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
