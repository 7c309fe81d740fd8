//! One call: attempts, deadline and metadata.
//!
//! Source: etcd v3.7.1 client/v3/retry_interceptor.go, retry.go, ctx.go.

use crate::balance::{Balancer, Failed};
use crate::connect::{Connection, NO_PEER, is_unprocessed};
use crate::credentials::{AUTHENTICATE, Credentials};
use crate::{Error, VERSION};
use http::uri::PathAndQuery;
use prost::Message;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::codec::Codec;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// A client; clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) balancer: Arc<Balancer>,
    /// The time for one call with all its attempts; `None` for no limit.
    pub(crate) timeout: Option<Duration>,
    pub(crate) credentials: Arc<Credentials>,
}

/// Whether a request may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// A read: if the server stays silent, the request is sent to another one too.
    Read,
    /// A write that may be executed twice: it is sent again after a failure.
    Repeatable,
    /// Any other write: it is never sent again if it may have been executed.
    Once,
}

/// One attempt of a call.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attempt {
    pub(crate) deadline: Option<Instant>,
    /// The server, as grpc-go prints a peer; set once there is a connection.
    peer: Arc<OnceLock<String>>,
}

impl Attempt {
    fn goes_to(&self, connection: &Connection) {
        // A read may go to a second server; warnings name the first one.
        _ = self.peer.set(connection.peer.clone());
    }
}

/// The form of a call's messages.
pub(crate) trait Form:
    Codec<Encode: Clone + Send + Sync, Decode: Send + Sync> + Default + Send
{
}

impl<C> Form for C where C: Codec<Encode: Clone + Send + Sync, Decode: Send + Sync> + Default + Send {}

/// A request and its size in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing<T> {
    pub(crate) message: T,
    pub(crate) size: usize,
}

const ATTEMPTS_MAX: u32 = 100;
const BACKOFF: Duration = Duration::from_millis(25);

impl Client {
    pub(crate) async fn unary<Q, A>(
        &self,
        method: &'static str,
        policy: Policy,
        request: Q,
    ) -> Result<A, Error>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let size = request.encoded_len();
        self.unary_as::<ProstCodec<Q, A>>(method, policy, Outgoing { message: request, size }).await
    }

    /// As [`Client::unary`], for messages in any form.
    pub(crate) async fn unary_as<C: Form>(
        &self,
        method: &'static str,
        policy: Policy,
        request: Outgoing<C::Encode>,
    ) -> Result<C::Decode, Error> {
        let request = &request;
        let attempt = |attempt: Attempt| async move {
            let deadline = attempt.deadline;
            let connection = self.balancer.pick().await;
            attempt.goes_to(&connection);
            let first = self.send::<C>(connection.clone(), method, request.clone(), deadline);
            if policy != Policy::Read || self.balancer.config.endpoints.len() == 1 {
                return first.await;
            }
            let second = async {
                connection.silence_timer().silence().await;
                let other = self.balancer.pick_other(&connection).await;
                self.send::<C>(other, method, request.clone(), deadline).await
            };
            first_answer(first, second).await
        };
        self.retry(method, policy, attempt).await
    }

    /// Repeats an attempt as its policy allows, until the deadline.
    pub(crate) async fn retry<A, F>(
        &self,
        method: &'static str,
        policy: Policy,
        attempt: impl Fn(Attempt) -> F,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<A, Status>>,
    {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let members = self.balancer.config.endpoints.len();
        let quorum = u32::try_from(members / 2 + 1).unwrap_or(1);
        for number in 0.. {
            if number > 0 && number % quorum == 0 {
                tokio::time::sleep(BACKOFF).await;
            }
            let this = Attempt { deadline, peer: Arc::default() };
            let answer = before(deadline, attempt(this.clone())).await;
            let peer = this.peer.get().map_or(NO_PEER, String::as_str);
            let status = match answer {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(status)) => status,
                None => self.expired(peer),
            };
            self.balancer.warn(method, number, Failed { peer, status: &status });
            if deadline.is_some_and(|deadline| deadline <= Instant::now())
                && matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled)
            {
                return Err(Error::DeadlineExceeded(Box::new(status)));
            }
            if method != AUTHENTICATE && self.credentials.may_renew(&status) {
                if number + 1 == ATTEMPTS_MAX || self.renew_token().await.is_err() {
                    return Err(status.into());
                }
                continue;
            }
            if number + 1 == ATTEMPTS_MAX || !may_repeat(policy, &status, members) {
                return Err(status.into());
            }
        }
        unreachable!("the last attempt returns")
    }

    /// The result of a call that is not retried, or an error once its timeout has passed.
    pub(crate) async fn within_timeout<A>(
        &self,
        call: impl Future<Output = Result<A, Status>>,
    ) -> Result<A, Error> {
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        match before(deadline, call).await {
            Some(answer) => Ok(answer?),
            None => Err(Error::DeadlineExceeded(Box::new(self.expired(NO_PEER)))),
        }
    }

    /// Sends one request to one server.
    async fn send<C: Form>(
        &self,
        connection: Connection,
        method: &'static str,
        request: Outgoing<C::Encode>,
        deadline: Option<Instant>,
    ) -> Result<C::Decode, Status> {
        self.check_size(request.size)?;
        let mut grpc = self.grpc(connection);
        grpc.ready().await?;
        let request = self.request(request.message, deadline)?;
        let path = PathAndQuery::from_static(method);
        let answer = grpc.unary(request, path, C::default()).await;
        Ok(answer.map_err(with_text_of_go)?.into_inner())
    }

    /// Opens a stream, once.
    pub(crate) async fn stream<Q, A>(
        &self,
        method: &'static str,
        request: Request<impl tokio_stream::Stream<Item = Q> + Send + 'static>,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        self.stream_at(method, request, &Attempt::default()).await
    }

    /// As [`Client::stream`], as a part of an attempt.
    pub(crate) async fn stream_at<Q, A>(
        &self,
        method: &'static str,
        request: Request<impl tokio_stream::Stream<Item = Q> + Send + 'static>,
        attempt: &Attempt,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        let connection = self.balancer.pick().await;
        attempt.goes_to(&connection);
        self.stream_on(connection, method, request).await
    }

    /// Opens a stream on this connection.
    pub(crate) async fn stream_on<Q, A>(
        &self,
        connection: Connection,
        method: &'static str,
        request: Request<impl tokio_stream::Stream<Item = Q> + Send + 'static>,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + Clone + Default + 'static,
        A: Message + Default + 'static,
    {
        self.stream_as::<ProstCodec<Q, A>>(connection, method, request).await
    }

    /// As [`Client::stream_on`], for messages in any form.
    pub(crate) async fn stream_as<C: Form>(
        &self,
        connection: Connection,
        method: &'static str,
        request: Request<impl tokio_stream::Stream<Item = C::Encode> + Send + 'static>,
    ) -> Result<Streaming<C::Decode>, Status> {
        let mut grpc = self.grpc(connection);
        grpc.ready().await?;
        let path = PathAndQuery::from_static(method);
        let answer = grpc.streaming(request, path, C::default()).await;
        Ok(answer.map_err(with_text_of_go)?.into_inner())
    }

    fn grpc(&self, connection: Connection) -> Grpc<Connection> {
        let origin = connection.origin.clone();
        Grpc::with_origin(connection, origin)
            .max_decoding_message_size(self.balancer.config.answer_bytes_max)
            .max_encoding_message_size(usize::MAX)
    }

    /// The request with the metadata of every call.
    pub(crate) fn request<T>(
        &self,
        message: T,
        deadline: Option<Instant>,
    ) -> Result<Request<T>, Status> {
        let mut request = Request::new(message);
        if let Some(deadline) = deadline {
            request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        }
        let metadata = request.metadata_mut();
        metadata.insert("client-api-version", MetadataValue::from_static(VERSION));
        if let Some(token) = self.credentials.token() {
            let token = token.parse().map_err(|_| {
                Status::unauthenticated("the token has characters that cannot be sent")
            })?;
            metadata.insert("token", token);
        }
        Ok(request)
    }

    fn check_size(&self, size: usize) -> Result<(), Status> {
        let max = self.balancer.config.request_bytes_max;
        if size <= max {
            return Ok(());
        }
        let text = format!("trying to send message larger than max ({size} vs. {max})");
        Err(Status::resource_exhausted(text))
    }

    /// grpc-go's status when the deadline passed without a connection, or without a response.
    fn expired(&self, peer: &str) -> Status {
        match self.balancer.last_error() {
            Some(why) if peer == NO_PEER => {
                Status::deadline_exceeded(format!("latest balancer error: {why}"))
            }
            _ => Status::deadline_exceeded("context deadline exceeded"),
        }
    }
}

async fn before<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Option<T> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, work).await.ok(),
        None => Some(work.await),
    }
}

/// The first successful response of two; an error only if both fail.
async fn first_answer<A>(
    first: impl Future<Output = Result<A, Status>>,
    second: impl Future<Output = Result<A, Status>>,
) -> Result<A, Status> {
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    tokio::select! {
        biased;
        // `second` waits for the server's silence before it sends.
        answer = &mut first => answer,
        answer = &mut second => match answer {
            Ok(answer) => Ok(answer),
            Err(_) => first.await,
        },
    }
}

/// A write is repeated only if it cannot have been executed: it was not sent, its stream was
/// refused, or a learner does not serve it and another member may.
fn may_repeat(policy: Policy, status: &Status, members: usize) -> bool {
    const LEARNER: &str = "etcdserver: rpc not supported for learner";
    if status.code() != Code::Unavailable {
        return false;
    }
    if is_unprocessed(status) || (status.message() == LEARNER && members > 1) {
        return true;
    }
    match policy {
        Policy::Read | Policy::Repeatable => true,
        Policy::Once => ["there is no address available", "there is no connection available"]
            .contains(&status.message()),
    }
}

/// Replaces tonic's text for a response that is too long by grpc-go's.
fn with_text_of_go(status: Status) -> Status {
    let message = status.message();
    let Some(behind) = message.strip_prefix("Error, decoded message length too large: found ")
    else {
        return status;
    };
    let numbers: Vec<&str> = behind.split(|c: char| !c.is_ascii_digit()).collect();
    let mut numbers = numbers.into_iter().filter(|number| !number.is_empty());
    let (found, max) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    Status::resource_exhausted(format!(
        "grpc: received message larger than max ({found} vs. {max})"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_not_sent_twice() {
        let lost = Status::unavailable("error reading from server: EOF");
        assert!(may_repeat(Policy::Repeatable, &lost, 3));
        assert!(!may_repeat(Policy::Once, &lost, 3));
        let compacted =
            Status::out_of_range("etcdserver: mvcc: required revision has been compacted");
        assert!(!may_repeat(Policy::Repeatable, &compacted, 3));
    }

    #[test]
    fn a_too_large_response_has_the_message_of_grpc_go() {
        let status = Status::out_of_range(
            "Error, decoded message length too large: found 12 bytes, the limit is: 4 bytes",
        );
        let status = with_text_of_go(status);
        assert_eq!(status.message(), "grpc: received message larger than max (12 vs. 4)");
        assert_eq!(status.code(), Code::ResourceExhausted);
    }
}
