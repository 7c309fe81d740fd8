//! The JSON gateway: each gRPC method has a path below `/v3/` that takes its request as JSON and
//! answers with the response as JSON. The calls go to the same handlers as those of gRPC, so the
//! same checks and limits apply.
//!
//! The mapping between JSON and messages is prost-reflect's, over the descriptors of the .proto
//! files. A stream is a sequence of objects: the requests follow each other in the body; each
//! response is a line `{"result":…}`, and a stream that fails ends with a line `{"error":…}`.
//!
//! Over a WebSocket, each message is an object.
//!
//! Source: etcd v3.7 server/embed/serve.go; grpc-gateway v2 runtime/{handler,errors,mux,context}.go.

mod json;
mod objects;
mod paths;
mod responses;
mod websocket;

use crate::call::{Call, Router};
use crate::host::Host;
use crate::inbound::Inbound;
use crate::onward::Responses;
use crate::origin::CallOrigin;
use crate::shared::Shared;
use bytes::Bytes;
use connection::ClientRequest;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, request::Parts};
use net::limits::REQUEST_TIME_MAX;
use objects::Objects;
use rpc::body::{Body, Reply};
use rpc::frame::Messages;
use rpc::{Code, Status};
use std::rc::Rc;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Marks a call that came through the gateway.
const THROUGH_GATEWAY: HeaderName = HeaderName::from_static("grpcgateway-accept");
/// Headers with this prefix become metadata; the prefix is removed.
const METADATA_PREFIX: &str = "grpc-metadata-";
/// Requests of a stream that wait for their handler.
const REQUESTS_MAX: usize = 1;
/// A body may be this many times as long as its message: values are in base64, and field names and
/// spaces take bytes too.
const TEXT_PER_BYTE: usize = 4;

/// How the gateway makes calls.
pub(crate) struct Door<H> {
    /// Makes a call within its deadline, and counts it.
    pub(crate) make: Router<H>,
    /// Passed to the handler, which makes its own calls with it.
    pub(crate) router: Router<H>,
}

/// Whether a path belongs to the gateway.
pub(crate) fn has(path: &str) -> bool {
    path.starts_with("/v3/") || path.starts_with("/v3beta/")
}

/// The response to a request whose path has empty segments or dots, or is only the prefix of the
/// gateway: the clean path, as Go's server tells it. `None` for any other path.
///
/// Source: Go 1.25 net/http/server.go `cleanPath`, `redirectToPathSlash`.
pub(crate) fn redirect(request: &Parts) -> Option<Reply> {
    let path = request.uri.path();
    let clean = match paths::cleaned(path) {
        Some(clean) => clean,
        None if path == "/v3" || path == "/v3beta" => format!("{path}/"),
        None => return None,
    };
    let query = request.uri.query().map_or_else(String::new, |query| format!("?{query}"));
    let location = HeaderValue::from_str(&format!("{clean}{query}")).ok()?;
    let text = match request.method {
        Method::GET => {
            let link = escaped(&format!("{clean}{query}"));
            format!("<a href=\"{link}\">Moved Permanently</a>.\n\n")
        }
        _ => String::new(),
    };
    let mut reply = http::Response::new(Body::plain(text.into()));
    *reply.status_mut() = http::StatusCode::MOVED_PERMANENTLY;
    reply.headers_mut().insert(http::header::LOCATION, location);
    if request.method == Method::GET || request.method == Method::HEAD {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        reply.headers_mut().insert(http::header::CONTENT_TYPE, html);
    }
    Some(reply)
}

/// A text as HTML, so that a path cannot add markup to the page that names it.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&#34;"),
            '\'' => html.push_str("&#39;"),
            _ => html.push(c),
        }
    }
    html
}

/// Answers a request to a path of the gateway.
pub(crate) async fn answer<H: Host>(
    service: Rc<Shared<H>>,
    door: Door<H>,
    request: ClientRequest,
    origin: Rc<CallOrigin>,
) -> Reply {
    let ClientRequest { head, body, switch } = request;
    if let Some(switch) = switch.filter(|_| websocket::is_asked_for(&head.headers)) {
        let max = text_max(&service);
        return websocket::answer(&head, &switch, max, move |head, messages| async move {
            called(service, door, (&head, messages), origin).await
        });
    }
    called(service, door, (&head, body), origin).await
}

/// Makes the call of a request.
async fn called<H: Host, B>(
    service: Rc<Shared<H>>,
    door: Door<H>,
    (head, body): (&Parts, B),
    origin: Rc<CallOrigin>,
) -> Reply
where
    B: http_body::Body<Data = Bytes> + Unpin + 'static,
{
    let call = async {
        let method = method_of(head)?;
        let objects = Objects::new(body, text_max(&service));
        Transcoded { service, door, method, origin }.call(head, objects).await
    };
    call.await.unwrap_or_else(|status| responses::refused(&status))
}

/// The length of the longest request, as JSON, in bytes.
fn text_max<H: Host>(service: &Shared<H>) -> usize {
    service.limits.message_max().saturating_mul(TEXT_PER_BYTE)
}

/// Refuses a client whose certificate has a common name. Over gRPC that name would be its user;
/// over the gateway the name is ignored, which the client may not expect.
///
/// Source: etcd v3.7 server/embed/serve.go.
pub(crate) fn name_ignored() -> Reply {
    let text = "CommonName of client sending a request against gateway will be ignored and not used \
                as expected\n";
    let mut reply = http::Response::new(Body::plain(text.into()));
    *reply.status_mut() = http::StatusCode::BAD_REQUEST;
    reply
}

/// The method of a request.
fn method_of(head: &Parts) -> Result<json::Method, Status> {
    let Some(path) = paths::grpc(head.uri.path()) else {
        return Err(Status::new(Code::NotFound, "Not Found"));
    };
    if head.method != Method::POST {
        return Err(Status::new(Code::Unimplemented, "Method Not Allowed"));
    }
    json::Method::find(path)
        .ok_or_else(|| Status::new(Code::Internal, format!("retcd: {path} has no descriptor")))
}

/// One call of a method.
struct Transcoded<H> {
    service: Rc<Shared<H>>,
    door: Door<H>,
    method: json::Method,
    origin: Rc<CallOrigin>,
}

impl<H: Host> Transcoded<H> {
    async fn call<B>(self, head: &Parts, mut objects: Objects<B>) -> Result<Reply, Status>
    where
        B: http_body::Body<Data = Bytes> + Unpin + 'static,
    {
        let deadline = rpc::status::timeout(&head.headers).map_err(|_| {
            let value = head.headers.get("grpc-timeout").map_or(&b""[..], HeaderValue::as_bytes);
            let value = String::from_utf8_lossy(value);
            Status::new(Code::InvalidArgument, format!("invalid grpc-timeout: {value}"))
        })?;
        let first = tokio::time::timeout(REQUEST_TIME_MAX, objects.next()).await;
        let first = first.unwrap_or_else(|_| Err(crate::requests::too_late()))?;
        let (requests, body) = mpsc::channel(REQUESTS_MAX);
        match first {
            Some(object) => send(&requests, self.method.request(&object)?),
            // Without a body, the request has no fields.
            None if !self.method.streams_requests() => send(&requests, Bytes::new()),
            None => {}
        }
        if self.method.streams_requests() {
            let method = self.method.clone();
            net::tasks::spawn_local("gateway requests", async move {
                forward(&method, objects, &requests).await;
            });
        } else {
            drop(requests);
        }
        let mut onward = Request::new(()).into_parts().0;
        onward.method = Method::POST;
        onward.uri = http::Uri::from_static(self.method.path);
        onward.headers = metadata(&head.headers);
        let reply = (self.door.make)(Call {
            messages: Messages::new(Inbound::Own(body), self.service.limits.message_max()),
            service: self.service,
            head: Rc::new(onward),
            deadline: deadline.and_then(|limit| Instant::now().checked_add(limit)),
            streamed: None,
            // The name in the certificate is not used.
            origin: Rc::new(CallOrigin {
                certificate_name: None,
                is_gateway: true,
                ..(*self.origin).clone()
            }),
            outer: None,
            audit: None,
            span: None,
            router: self.door.router,
        });
        let reply = match reply.await {
            Ok(reply) => reply,
            Err(status) if self.method.streams_responses() => {
                return Ok(responses::stream_refused(&status));
            }
            Err(status) => return Err(status),
        };
        let mut messages = Responses::new(reply.into_body());
        if self.method.streams_responses() {
            return responses::stream(self.method, messages).await;
        }
        let message = messages.next_message().await?.unwrap_or_default();
        let text = self.method.response(message, false).await?;
        Ok(responses::succeeded(Body::plain(text)))
    }
}

/// Queues the first message of a call, framed.
fn send(requests: &mpsc::Sender<Bytes>, message: Bytes) {
    let queued = requests.try_send(crate::onward::framed_bytes(&message));
    assert!(queued.is_ok(), "a new queue has room");
}

/// Sends the further requests of a stream until the last one, the first invalid one, or the end of
/// the call.
async fn forward<B>(method: &json::Method, mut objects: Objects<B>, requests: &mpsc::Sender<Bytes>)
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    let forwarded = async {
        while let Ok(Some(object)) = objects.next().await {
            let Ok(message) = method.request(&object) else { return };
            if requests.send(crate::onward::framed_bytes(&message)).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = forwarded => {}
        () = requests.closed() => {}
    }
}

/// The metadata of a call: the `authorization` header, and the headers marked as metadata.
fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        if name == http::header::AUTHORIZATION {
            metadata.append(name.clone(), value.clone());
        } else if let Some(name) = name.as_str().strip_prefix(METADATA_PREFIX)
            && let Ok(name) = HeaderName::from_bytes(name.as_bytes())
        {
            metadata.append(name, value.clone());
        }
    }
    metadata.insert(THROUGH_GATEWAY, HeaderValue::from_static("application/json"));
    metadata
}
