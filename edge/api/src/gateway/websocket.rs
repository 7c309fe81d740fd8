//! WebSockets of the gateway: each message is the JSON of a request, and each line of the response is
//! a text message. The call begins with the handshake and ends with the WebSocket.
//!
//! A client names its user by the subprotocol `Bearer, TOKEN` or by the cookie `token`, since pages in
//! a browser cannot set other headers of a handshake. Messages are as long as requests may be; a
//! client that reads nothing is closed like any other connection (`net::limits`).
//!
//! Unlike etcd's, a WebSocket is closed with a close frame.
//!
//! Source: etcd v3.7 server/embed/serve.go createMux; grpc-websocket-proxy
//! wsproxy/websocket_proxy.go; gorilla/websocket 1.5.3 server.go; RFC 6455.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::{Bytes, BytesMut};
use connection::{Duplex, Switch};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{
    AUTHORIZATION, CONNECTION, COOKIE, ORIGIN, REFERER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use rpc::body::{Body, Reply};
use sha1::{Digest as _, Sha1};
use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Appended to the key of a handshake (RFC 6455 §1.3).
const KEY_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// The length of a key, in bytes.
const KEY_LEN: usize = 16;
/// The only version.
const VERSION: &str = "13";
/// The subprotocol that names a token.
const BEARER: &str = "Bearer";
/// The cookie that names a token.
const TOKEN_COOKIE: &str = "token";
/// The memory of a WebSocket for the bytes that it reads, in bytes.
const READ_BUFFER: usize = 16 * 1024;
/// Messages that wait for their call.
const MESSAGES_MAX: usize = 1;

/// Whether a request asks for a WebSocket.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    has_token(headers, &CONNECTION, "upgrade") && has_token(headers, &UPGRADE, "websocket")
}

/// Whether a header has this word in its list.
fn has_token(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|item| item.trim().eq_ignore_ascii_case(word))
}

/// Answers a handshake. The call is made over the connection that follows, with messages of at most
/// `max` bytes.
pub(super) fn answer<F: Future<Output = Reply> + 'static>(
    head: &Parts,
    switch: &Switch,
    max: usize,
    make_call: impl FnOnce(Parts, Messages) -> F + 'static,
) -> Reply {
    let accept = match accept(head) {
        Ok(accept) => accept,
        Err(status) => return refused(status),
    };
    let mut reply = Response::new(Body::plain(Bytes::new()));
    *reply.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = reply.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    if protocol(&head.headers).is_some_and(|protocol| protocol.starts_with(BEARER)) {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(BEARER));
    }
    let call = call_head(head);
    switch.to(Box::new(move |io| {
        Box::pin(async move {
            let (messages, body) = channel(MESSAGES_MAX);
            let call = async { lines(make_call(call, Messages(body)).await.into_body()) };
            converse(open(io, max).await, messages, call).await;
        })
    }));
    reply
}

/// The proof that a handshake was understood.
fn accept(head: &Parts) -> Result<HeaderValue, StatusCode> {
    if head.method != Method::GET {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let key = head.headers.get(SEC_WEBSOCKET_KEY).map_or(&b""[..], HeaderValue::as_bytes);
    let is_key = BASE64.decode(key).is_ok_and(|key| key.len() == KEY_LEN);
    if !has_token(&head.headers, &SEC_WEBSOCKET_VERSION, VERSION) || !is_key {
        return Err(StatusCode::BAD_REQUEST);
    }
    let digest = Sha1::new().chain_update(key).chain_update(KEY_SUFFIX).finalize();
    HeaderValue::from_str(&BASE64.encode(digest)).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

fn refused(status: StatusCode) -> Reply {
    let text = format!("{}\n", status.canonical_reason().unwrap_or_default());
    let mut reply = Response::new(Body::plain(text.into()));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers
        .insert(http::header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static(VERSION));
    reply
}

fn protocol(headers: &HeaderMap) -> Option<&str> {
    headers.get(SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()
}

/// The request that a handshake stands for. It has no further headers of the handshake.
fn call_head(head: &Parts) -> Parts {
    let mut call = Request::new(()).into_parts().0;
    call.method = Method::POST;
    call.uri = head.uri.clone();
    for name in [ORIGIN, REFERER] {
        if let Some(value) = head.headers.get(&name) {
            call.headers.insert(name, value.clone());
        }
    }
    let cookie = cookie_token(&head.headers);
    let of_protocol =
        || protocol(&head.headers)?.split_once("Bearer,").map(|(_, token)| token.trim());
    if let Some(token) = cookie.or_else(of_protocol)
        && let Ok(value) = HeaderValue::from_str(&format!("{BEARER} {token}"))
    {
        call.headers.insert(AUTHORIZATION, value);
    }
    call
}

fn cookie_token(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = all.flat_map(|cookies| cookies.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        Some((name, value.trim_matches('"')))
    });
    pairs.find(|(name, _)| *name == TOKEN_COOKIE).map(|(_, value)| value)
}

type Socket = WebSocketStream<Box<dyn Duplex>>;

async fn open(io: Box<dyn Duplex>, max: usize) -> Socket {
    let config = WebSocketConfig::default()
        .max_message_size(Some(max))
        .max_frame_size(Some(max))
        .read_buffer_size(READ_BUFFER)
        // A message is sent at once.
        .write_buffer_size(0);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Passes messages to the call and its lines to the client, until one side ends.
async fn converse(mut socket: Socket, messages: Sender<Bytes>, call: impl Future<Output = Lines>) {
    let mut call = std::pin::pin!(call);
    let (mut lines, mut slot) = (None::<Lines>, None);
    loop {
        tokio::select! {
            begun = call.as_mut(), if lines.is_none() => lines = Some(begun),
            line = next_line(&mut lines), if lines.is_some() => {
                let Some(line) = line else { break };
                if let Err(error) = socket.send(Message::Text(line)).await {
                    tracing::debug!(%error, "a WebSocket broke");
                    return;
                }
            }
            // A message is read when the call has taken the one before. A call that takes no
            // more still waits for the client to close.
            free = messages.clone().reserve_owned(), if slot.is_none() => slot = Some(free.ok()),
            message = socket.next(), if slot.is_some() => match message {
                Some(Ok(message)) if message.is_text() || message.is_binary() => {
                    if let Some(free) = slot.take().flatten() {
                        let mut text = BytesMut::from(&message.into_data()[..]);
                        text.extend_from_slice(b"\n");
                        free.send(text.freeze());
                    }
                }
                Some(Ok(message)) if message.is_close() => return close(socket).await,
                // The answer to a ping is sent by itself.
                Some(Ok(_)) => {}
                Some(Err(error)) => {
                    tracing::debug!(%error, "a WebSocket broke");
                    return close(socket).await;
                }
                None => return,
            },
        }
    }
    close(socket).await;
}

/// Sends a close frame, or the answer to the client's.
async fn close(mut socket: Socket) {
    let normal = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() };
    if let Err(error) = socket.close(Some(normal)).await {
        tracing::debug!(%error, "a WebSocket was closed by its client");
    }
}

/// The messages of a client as the body of a request.
pub(super) struct Messages(Receiver<Bytes>);

impl http_body::Body for Messages {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|message| message.map(|message| Ok(Frame::data(message))))
    }
}

/// The lines of a response.
struct Lines {
    body: Option<Body>,
    received: BytesMut,
}

fn lines(body: Body) -> Lines {
    Lines { body: Some(body), received: BytesMut::new() }
}

async fn next_line(lines: &mut Option<Lines>) -> Option<Utf8Bytes> {
    lines.as_mut()?.next().await
}

impl Lines {
    /// The next line without its line feed; `None` at the end. Empty lines are skipped. Loses
    /// nothing when it is dropped before it completes.
    async fn next(&mut self) -> Option<Utf8Bytes> {
        loop {
            let end = self.received.iter().position(|byte| *byte == b'\n');
            let line = match (end, &mut self.body) {
                (Some(end), _) => {
                    let line = self.received.split_to(end);
                    drop(self.received.split_to(1));
                    line
                }
                (None, Some(body)) => {
                    let frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await;
                    match frame.and_then(Result::ok).map(Frame::into_data) {
                        Some(Ok(data)) => self.received.extend_from_slice(&data),
                        Some(Err(_)) => {}
                        None => self.body = None,
                    }
                    continue;
                }
                (None, None) if self.received.is_empty() => return None,
                (None, None) => self.received.split(),
            };
            match Utf8Bytes::try_from(line.freeze()) {
                Ok(line) if line.is_empty() => {}
                Ok(line) => return Some(line),
                Err(error) => {
                    tracing::error!(%error, "a response is not UTF-8");
                    return None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::get("/v3/watch?method=PUT");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    const HANDSHAKE: [(&str, &str); 4] = [
        ("connection", "keep-alive, Upgrade"),
        ("upgrade", "WebSocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    /// The key and its answer are those of RFC 6455 §1.3.
    #[test]
    fn a_handshake_is_answered_with_its_key() {
        let asked = head(&HANDSHAKE);
        assert!(is_asked_for(&asked.headers));
        assert_eq!(accept(&asked).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!is_asked_for(&head(&HANDSHAKE[1..]).headers));
        assert!(!is_asked_for(&head(&[HANDSHAKE[0]]).headers));
        for (index, value) in [(2, "8"), (3, "c2hvcnQ="), (3, "!")] {
            let mut wrong = HANDSHAKE;
            wrong[index].1 = value;
            assert_eq!(accept(&head(&wrong)).unwrap_err(), StatusCode::BAD_REQUEST, "{value}");
        }
        let mut posted = head(&HANDSHAKE);
        posted.method = Method::POST;
        assert_eq!(accept(&posted).unwrap_err(), StatusCode::METHOD_NOT_ALLOWED);
    }

    #[test]
    fn a_call_has_the_token_of_the_cookie_or_the_subprotocol_and_is_always_a_post() {
        for (headers, token) in [
            (&[("sec-websocket-protocol", "Bearer, abc.1")][..], Some("Bearer abc.1")),
            (&[("sec-websocket-protocol", "Bearer,abc.1")], Some("Bearer abc.1")),
            (&[("cookie", "a=b; token=abc.2")], Some("Bearer abc.2")),
            (&[("sec-websocket-protocol", "Bearer, x"), ("cookie", "token=y")], Some("Bearer y")),
            (&[("sec-websocket-protocol", "json")], None),
            (&[("authorization", "abc")], None),
        ] {
            let call = call_head(&head(headers));
            let found = call.headers.get(AUTHORIZATION).map(|value| value.to_str().unwrap());
            assert_eq!((found, &call.method), (token, &Method::POST), "{headers:?}");
        }
        let call = call_head(&head(&[("origin", "http://a"), ("grpc-metadata-a", "b")]));
        assert_eq!(call.headers.len(), 1);
        assert_eq!(call.uri.path(), "/v3/watch");
    }
}
