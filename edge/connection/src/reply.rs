//! Passes the heads and ends of responses to the HTTP/2 machine.

use crate::head::is_of_http1;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, StatusCode, response};
use http_body::Body as _;
use http2::{Connection, End, StreamKey};
use rpc::body::Body;
use rpc::{Code, Status};

/// Writes the head of a response. `ended` is true if nothing follows.
pub(crate) fn send_head(
    http2: &mut Connection,
    stream: StreamKey,
    head: &response::Parts,
    body: &Body,
    ended: bool,
) {
    if !ended && is_usual(head) {
        return http2.send_grpc_head(stream);
    }
    let length = body
        .size_hint()
        .exact()
        .filter(|length| *length > 0 && !head.headers.contains_key(CONTENT_LENGTH));
    let length = length.map(|length| length.to_string());
    let length = length.iter().map(|length| (&b"content-length"[..], length.as_bytes()));
    let fields = head.headers.iter().filter(|(name, _)| !is_of_http1(name));
    let fields = fields.map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    http2.send_head(stream, head.status.as_u16(), fields.chain(length), ended);
}

/// Whether this is the usual head of a gRPC response, without further headers.
fn is_usual(head: &response::Parts) -> bool {
    head.status == StatusCode::OK
        && head.headers.len() == 1
        && head.headers.get(CONTENT_TYPE).is_some_and(|value| value == "application/grpc")
}

/// The end of a gRPC call.
pub(crate) fn end_of_call(status: &Status) -> End {
    if status.code == Code::Ok && status.message.is_empty() {
        return End::Success;
    }
    end_with(&status.to_trailers())
}

/// The end of a response with these trailers.
pub(crate) fn end_with(trailers: &HeaderMap) -> End {
    let copy = Bytes::copy_from_slice;
    let fields = trailers.iter().filter(|(name, _)| !is_of_http1(name));
    End::Trailers(
        fields
            .map(|(name, value)| (copy(name.as_str().as_bytes()), copy(value.as_bytes())))
            .collect(),
    )
}
