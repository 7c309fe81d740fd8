//! The HTTP responses of the gateway.

use super::json;
use crate::onward::Responses;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body::Frame;
use rpc::body::{Body, BodyError, Reply};
use rpc::{Code, Status};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// grpc-gateway passes the header of the call on.
const METADATA: HeaderName = HeaderName::from_static("grpc-metadata-content-type");

/// A response of a call that has succeeded.
pub(super) fn succeeded(body: Body) -> Reply {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response.headers_mut().insert(METADATA, HeaderValue::from_static("application/grpc"));
    response
}

/// The response of a call that has failed.
pub(super) fn refused(status: &Status) -> Reply {
    with_status(status, error_object(status))
}

/// The response of a call with a stream of responses that has failed before the first one.
pub(super) fn stream_refused(status: &Status) -> Reply {
    with_status(status, error_line(status))
}

fn with_status(status: &Status, text: String) -> Reply {
    let mut response = Response::new(Body::plain(text.into()));
    *response.status_mut() = http_status(status.code);
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

fn error_object(status: &Status) -> String {
    let message = serde_json::Value::from(&*status.message);
    format!("{{\"code\":{},\"message\":{message}}}", status.code as i32)
}

fn error_line(status: &Status) -> String {
    format!("{{\"error\":{}}}\n", error_object(status))
}

/// The response of a stream. Waits for its first message or its end.
pub(super) async fn stream(method: json::Method, mut messages: Responses) -> Result<Reply, Status> {
    let first = match messages.next_message().await {
        Ok(Some(message)) => method.response(message, true).await?,
        Ok(None) => return Ok(succeeded(Body::plain(Bytes::new()))),
        Err(status) => return Ok(stream_refused(&status)),
    };
    let lines = lines(method, messages);
    let body = Lines { first: Some(first), rest: Some(Box::pin(lines)) };
    Ok(succeeded(Body::plain_stream(Box::pin(body))))
}

type Line = Pin<Box<dyn Future<Output = (Bytes, Option<Stream>)>>>;
type Stream = (json::Method, Responses);

/// The next line, and the stream after it unless it has ended.
async fn lines(method: json::Method, mut messages: Responses) -> (Bytes, Option<Stream>) {
    let next = match messages.next_message().await {
        Ok(Some(message)) => method.response(message, true).await,
        Ok(None) => return (Bytes::new(), None),
        Err(status) => Err(status),
    };
    match next {
        Ok(line) => (line, Some((method, messages))),
        // The client is gone.
        Err(status) if status.code == Code::Cancelled && status.message == "context canceled" => {
            (Bytes::new(), None)
        }
        Err(status) => (error_line(&status).into(), None),
    }
}

/// A body of one line for each message.
struct Lines {
    first: Option<Bytes>,
    /// The next line; `None` after the last one.
    rest: Option<Line>,
}

impl http_body::Body for Lines {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(next) = &mut self.rest else { return Poll::Ready(None) };
        let (line, more) = ready!(next.as_mut().poll(cx));
        self.rest = more.map(|(method, messages)| Box::pin(lines(method, messages)) as Line);
        Poll::Ready((!line.is_empty()).then(|| Ok(Frame::data(line))))
    }
}

/// The HTTP status for a code.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // nginx's code for a request that its client has given up.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_its_code_twice() {
        let reply = refused(&Status::new(Code::NotFound, "no \"x\""));
        assert_eq!(reply.status(), 404);
        assert_eq!(
            error_object(&Status::new(Code::NotFound, "no \"x\"")),
            r#"{"code":5,"message":"no \"x\""}"#
        );
    }
}
