//! Calls from one handler to another on behalf of its client. Their requests take the same way as
//! those of a connection, with the client's metadata, so the same checks apply. Not here: metrics,
//! since etcd does not count these calls.

use crate::call::{Call, Router};
use crate::host::Host;
use crate::inbound::Inbound;
use crate::origin::CallOrigin;
use crate::shared::Shared;
use crate::spans::OpenSpan;
use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;
use rpc::body::{Body, BodyError};
use rpc::frame::{Messages, PREFIX_LEN, decode, prefix};
use rpc::{Code, Status};
use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;

/// Requests of a stream that wait for their handler.
const REQUESTS_MAX: usize = 1;

/// Makes calls on behalf of one client.
pub(crate) struct Onward<H> {
    service: Rc<Shared<H>>,
    /// The client's metadata.
    metadata: HeaderMap,
    origin: Rc<CallOrigin>,
    /// The client's own call.
    outer: Rc<http::request::Parts>,
    /// Its span.
    span: Option<Rc<OpenSpan>>,
    router: Router<H>,
}

impl<H: Host> Onward<H> {
    /// Makes calls on behalf of the client of `call`.
    pub(crate) fn of(call: &Call<H>) -> Onward<H> {
        let mut metadata = call.head.headers.clone();
        // These two apply to the client's own call only; the calls made here end with it.
        for own in ["grpc-timeout", "hasleader"] {
            metadata.remove(own);
        }
        Onward {
            service: Rc::clone(&call.service),
            metadata,
            origin: Rc::clone(&call.origin),
            outer: Rc::clone(&call.head),
            span: call.span.clone(),
            router: call.router,
        }
    }

    /// Calls a unary method.
    ///
    /// # Errors
    /// The status of the call.
    pub(crate) async fn unary<Q, A>(&self, path: &'static str, request: &Q) -> Result<A, Status>
    where
        Q: prost::Message,
        A: prost::Message + Default,
    {
        let (requests, mut responses) = self.stream(path, request).await?;
        drop(requests);
        match responses.next().await? {
            Some(response) => Ok(response),
            None => Err(Status::new(Code::Internal, "retcd: a call ended without a response")),
        }
    }

    /// Calls a streaming method with this first request. Returns the sender of further requests and
    /// the responses. The stream of requests ends when the sender is dropped.
    ///
    /// # Errors
    /// The status of a refused call.
    pub(crate) async fn stream<Q: prost::Message>(
        &self,
        path: &'static str,
        request: &Q,
    ) -> Result<(mpsc::Sender<Bytes>, Responses), Status> {
        let (requests, body) = mpsc::channel(REQUESTS_MAX);
        let queued = requests.try_send(framed(request));
        assert!(queued.is_ok(), "a new queue has room");
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.method = http::Method::POST;
        head.uri = http::Uri::from_static(path);
        head.headers.clone_from(&self.metadata);
        let call = Call {
            service: Rc::clone(&self.service),
            head: Rc::new(head),
            messages: Messages::new(Inbound::Own(body), self.service.limits.message_max()),
            deadline: None,
            streamed: None,
            origin: Rc::clone(&self.origin),
            outer: Some(Rc::clone(&self.outer)),
            audit: None,
            span: self.span.clone(),
            router: self.router,
        };
        let reply = (self.router)(call).await?;
        Ok((requests, Responses::new(reply.into_body())))
    }
}

fn framed<M: prost::Message>(message: &M) -> Bytes {
    framed_bytes(&message.encode_to_vec())
}

/// An encoded message with its prefix.
pub(crate) fn framed_bytes(message: &[u8]) -> Bytes {
    let mut buffer = BytesMut::with_capacity(PREFIX_LEN + message.len());
    buffer.put_slice(&prefix(message.len()));
    buffer.put_slice(message);
    buffer.freeze()
}

/// The responses of a call.
pub(crate) struct Responses {
    messages: Messages<Watched>,
    trailers: Rc<RefCell<HeaderMap>>,
}

/// A body whose trailers are kept for the reader of its messages.
struct Watched {
    body: Body,
    trailers: Rc<RefCell<HeaderMap>>,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => match frame.into_trailers() {
                Ok(trailers) => {
                    *self.trailers.borrow_mut() = trailers;
                    None
                }
                Err(data) => Some(Ok(data)),
            },
            other => other,
        })
    }
}

impl Responses {
    /// The responses in the body of a reply.
    pub(crate) fn new(body: Body) -> Responses {
        let trailers = Rc::default();
        let watched = Watched { body, trailers: Rc::clone(&trailers) };
        // No limit: the handlers bound the length of their messages.
        Responses { messages: Messages::new(watched, u32::MAX as usize), trailers }
    }

    /// The next response; `None` after the last one.
    ///
    /// # Errors
    /// The status of a call that has failed.
    pub(crate) async fn next<A: prost::Message + Default>(&mut self) -> Result<Option<A>, Status> {
        match self.next_message().await? {
            Some(message) => decode(message).map(Some),
            None => Ok(None),
        }
    }

    /// As [`Responses::next`], without decoding it.
    ///
    /// # Errors
    /// As [`Responses::next`].
    pub(crate) async fn next_message(&mut self) -> Result<Option<Bytes>, Status> {
        if let Some(message) = self.messages.next().await? {
            return Ok(Some(message));
        }
        let status = Status::from_headers(&self.trailers.borrow());
        if status.code == Code::Ok { Ok(None) } else { Err(status) }
    }
}
