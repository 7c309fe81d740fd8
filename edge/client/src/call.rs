//! One call: attempts, deadline and metadata.
//!
//! Source: etcd v3.7.1 client/v3/retry_interceptor.go, retry.go, ctx.go.

use crate::balance::{Balancer, Failed};
use crate::connect::{Connection, NO_PEER};
use crate::{Error, VERSION};
use http::uri::PathAndQuery;
use prost::Message;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

/// A client; clones share its connections.
#[derive(Clone, Debug)]
pub struct Client {
    pub(crate) balancer: Arc<Balancer>,
    /// The time for one call with all its attempts; `None` for no limit.
    pub(crate) timeout: Option<Duration>,
    pub(crate) token: Option<String>,
}

/// Whether a request may be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Policy {
    /// It changes nothing, or is idempotent.
    Repeatable,
    /// It must not be sent again if it may have been executed.
    Once,
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
        let deadline = self.timeout.map(|timeout| Instant::now() + timeout);
        let quorum = u32::try_from(self.balancer.config.endpoints.len() / 2 + 1).unwrap_or(1);
        for attempt in 0.. {
            if attempt > 0 && attempt % quorum == 0 {
                tokio::time::sleep(BACKOFF).await;
            }
            let mut peer = NO_PEER.to_string();
            let sent = self.unary_once(method, request.clone(), deadline, &mut peer);
            let status = match before(deadline, sent).await {
                Some(Ok(answer)) => return Ok(answer),
                Some(Err(status)) => status,
                None => self.expired(&peer),
            };
            self.balancer.warn(method, attempt, Failed { peer: &peer, status: &status });
            if deadline.is_some_and(|deadline| deadline <= Instant::now())
                && matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled)
            {
                return Err(Error::DeadlineExceeded(Box::new(status)));
            }
            if attempt + 1 == ATTEMPTS_MAX || !may_repeat(policy, &status) {
                return Err(status.into());
            }
        }
        unreachable!("the last attempt returns")
    }

    async fn unary_once<Q, A>(
        &self,
        method: &'static str,
        request: Q,
        deadline: Option<Instant>,
        peer: &mut String,
    ) -> Result<A, Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let connection = self.balancer.pick().await;
        peer.clone_from(&connection.peer);
        self.check_size(request.encoded_len())?;
        let mut grpc = self.grpc(connection);
        grpc.ready().await?;
        let request = self.request(request, deadline)?;
        let path = PathAndQuery::from_static(method);
        let answer = grpc.unary(request, path, ProstCodec::<Q, A>::default()).await;
        Ok(answer.map_err(with_text_of_go)?.into_inner())
    }

    /// Opens a stream, once.
    pub(crate) async fn stream<Q, A>(
        &self,
        method: &'static str,
        request: Request<impl tokio_stream::Stream<Item = Q> + Send + 'static>,
    ) -> Result<Streaming<A>, Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let connection = self.balancer.pick().await;
        let mut grpc = self.grpc(connection);
        grpc.ready().await?;
        let path = PathAndQuery::from_static(method);
        let answer = grpc.streaming(request, path, ProstCodec::<Q, A>::default()).await;
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
        if let Some(token) = self.token.as_ref().filter(|token| !token.is_empty()) {
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

/// A write is repeated only if it cannot have been sent.
fn may_repeat(policy: Policy, status: &Status) -> bool {
    if status.code() != Code::Unavailable {
        return false;
    }
    match policy {
        Policy::Repeatable => true,
        Policy::Once => ["there is no address available", "there is no connection available"]
            .contains(&status.message()),
    }
}

/// Replaces the text of tonic's own errors by grpc-go's.
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
        assert!(may_repeat(Policy::Repeatable, &lost));
        assert!(!may_repeat(Policy::Once, &lost));
        let compacted =
            Status::out_of_range("etcdserver: mvcc: required revision has been compacted");
        assert!(!may_repeat(Policy::Repeatable, &compacted));
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
