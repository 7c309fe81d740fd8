//! HTTP/1.1, served by hyper, and the conversation in another protocol that may follow it.

use crate::body::RequestBody;
use crate::error::Error;
use crate::request::ClientRequest;
use crate::switch::{Duplex, Switch};
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
use std::pin::Pin;
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
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    F: Future<Output = Reply>,
{
    let switch = Switch::default();
    let answer = service_fn(|request: http::Request<hyper::body::Incoming>| {
        let in_use = seat.begin();
        let (head, body) = request.into_parts();
        let body = RequestBody::of_http1(body);
        let switch = Some(switch.clone());
        let answered = service(ClientRequest { head: Rc::new(head), body, switch });
        async move {
            let reply = answered.await;
            Ok::<_, Infallible>(reply.map(|body| SeatedBody { body, _in_use: in_use }))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX);
    let (read, write) = tokio::io::split(io);
    let io = TokioIo::new(tokio::io::join(Cursor::new(begun).chain(read), write));
    let mut connection = builder.serve_connection(io, answer);
    let mut is_stopping = false;
    let served = poll_fn(|cx| {
        if !is_stopping && stop.as_mut().poll(cx).is_ready() {
            is_stopping = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        Pin::new(&mut connection).poll(cx)
    });
    served.await.map_err(Error::Http1)?;
    if let Some(conversation) = switch.take() {
        // hyper leaves the socket open after an answer 101.
        let parts = connection.into_parts();
        let (read, write) = parts.io.into_inner().into_inner();
        let rest: Box<dyn Duplex> =
            Box::new(tokio::io::join(Cursor::new(parts.read_buf).chain(read), write));
        let _in_use = seat.begin();
        conversation(rest).await;
    }
    Ok(())
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
