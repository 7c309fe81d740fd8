//! A server on a pipe in memory, on one thread, with a paused clock that advances only when nothing
//! else can run; and frames written by hand.

use bytes::Bytes;
use connection::{ClientRequest, Error, Settings};
use net::{Seat, Seats};
use rpc::body::{self, Body, Reply, Source};
use rpc::queue::{Feeder, queue};
use rpc::{Code, Status};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, LocalSet};

/// The pipe's length in bytes, in each direction.
pub(crate) const PIPE: usize = 256 * 1024;

/// Runs a test.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = builder.enable_all().start_paused(true).build().unwrap();
    let within = Duration::from_secs(7 * 24 * 3600);
    let test = async { tokio::time::timeout(within, test).await.expect("the test hangs") };
    LocalSet::new().block_on(&runtime, test);
}

/// Lets all other tasks run until they wait.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

pub(crate) fn settings() -> Settings {
    Settings { streams_max: u32::MAX, pings: None, refused: Rc::new(|_| {}) }
}

/// Records of the handlers.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) log: RefCell<Vec<String>>,
    /// Pieces that the endless response has made.
    pub(crate) pieces: Cell<usize>,
    /// How often handlers of `/counted` were polled.
    pub(crate) polls: Cell<usize>,
    /// The feeders of the streams that a test feeds.
    pub(crate) feeders: RefCell<VecDeque<Feeder>>,
}

impl Seen {
    pub(crate) fn say(&self, what: impl Into<String>) {
        self.log.borrow_mut().push(what.into());
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.borrow().clone()
    }
}

/// A server with one connection.
pub(crate) struct Served {
    pub(crate) seen: Rc<Seen>,
    pub(crate) seats: Arc<Seats>,
    pub(crate) stop: Option<oneshot::Sender<()>>,
    pub(crate) ended: JoinHandle<Result<(), Error>>,
}

/// Serves a pipe.
pub(crate) async fn serve(settings: Settings) -> (DuplexStream, Served) {
    let (client, server) = tokio::io::duplex(PIPE);
    (client, serve_on(server, settings).await)
}

pub(crate) async fn serve_on<I>(io: I, settings: Settings) -> Served
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let seats = Seats::new(1);
    let seat: Seat = seats.take().await.unwrap();
    let seen = Rc::new(Seen::default());
    let (stop, stopped) = oneshot::channel();
    let handler = Rc::clone(&seen);
    let ended = tokio::task::spawn_local(async move {
        let stopped = async {
            // If the test has dropped its end, the server is not stopped.
            if stopped.await.is_err() {
                pending::<()>().await;
            }
        };
        let service = |request| answer(Rc::clone(&handler), request);
        connection::serve(io, &settings, seat, stopped, service).await
    });
    Served { seen, seats, stop: Some(stop), ended }
}

/// Logs that it is dropped.
pub(crate) struct OnDrop(pub(crate) Rc<Seen>, pub(crate) &'static str);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.say(self.1);
    }
}

/// A response that never ends and always has a piece.
struct Endless(Rc<Seen>);

impl Source for Endless {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        self.0.pieces.set(self.0.pieces.get() + 1);
        Poll::Ready(Some(Ok(Bytes::from_static(&[0; 1_000]))))
    }
}

async fn next(body: &mut connection::RequestBody) -> Option<Result<Bytes, String>> {
    let frame = poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut *body), cx)).await?;
    Some(frame.map(|frame| frame.into_data().unwrap()).map_err(|error| error.to_string()))
}

async fn read_all(mut body: connection::RequestBody) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    while let Some(data) = next(&mut body).await {
        all.extend_from_slice(&data?);
    }
    Ok(all)
}

/// Answers a request according to its path.
async fn answer(seen: Rc<Seen>, request: ClientRequest) -> Reply {
    let ClientRequest { head, body, .. } = request;
    match head.uri.path() {
        "/unary" => {
            let all = read_all(body).await.unwrap();
            body::message(all.len(), |to| to.slice(&all))
        }
        "/wait" => {
            let _dropped = OnDrop(Rc::clone(&seen), "handler dropped");
            pending().await
        }
        "/echo" => {
            let (feeder, receiver) = queue();
            tokio::task::spawn_local(echo(seen, body, feeder));
            body::stream(receiver)
        }
        "/fed" => {
            let (feeder, receiver) = queue();
            seen.feeders.borrow_mut().push_back(feeder);
            body::stream(receiver)
        }
        "/endless" => body::source(Box::new(Endless(seen))),
        "/counted" => {
            let (to, mut from) = oneshot::channel();
            to.send(()).unwrap();
            poll_fn(|cx| {
                seen.polls.set(seen.polls.get() + 1);
                Pin::new(&mut from).poll(cx)
            })
            .await
            .unwrap();
            body::message(0, |_| ())
        }
        "/refuse" => body::refuse(&Status::new(Code::InvalidArgument, "no")),
        "/fail" => {
            let (feeder, receiver) = queue();
            feeder.end(Status::new(Code::NotFound, "it is not there"));
            body::stream(receiver)
        }
        "/panic" => panic!("on purpose"),
        "/host" => {
            let host = head.headers.get("host").map_or(&b"none"[..], |host| host.as_bytes());
            http::Response::new(Body::plain(Bytes::copy_from_slice(host)))
        }
        path => {
            let all = read_all(body).await.unwrap();
            let text = format!("{} {path} {}", head.method, all.len());
            http::Response::new(Body::plain(text.into()))
        }
    }
}

async fn echo(seen: Rc<Seen>, mut body: connection::RequestBody, feeder: Feeder) {
    while let Some(data) = next(&mut body).await {
        match data {
            Ok(data) => feeder.pieces([data]),
            Err(error) => return seen.say(error),
        }
    }
    feeder.end(Status::OK);
}

/// The preface and the SETTINGS frame of a client.
pub(crate) fn opening() -> Vec<u8> {
    [http2::PREFACE, &frame(4, 0, 0, &[])].concat()
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The HEADERS frame of a request, without its end.
pub(crate) fn head(stream: u32, path: &str, authority: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (&b":method"[..], &b"POST"[..]),
        (b":scheme", b"http"),
        (b":path", path.as_bytes()),
        (b":authority", authority),
    ] {
        block.push(0);
        for text in [name, value] {
            let len = u8::try_from(text.len()).unwrap();
            assert!(len < 127);
            block.push(len);
            block.extend_from_slice(text);
        }
    }
    frame(1, 4, stream, &block)
}

/// A complete request.
pub(crate) fn request(stream: u32, path: &str, body: &[u8]) -> Vec<u8> {
    [head(stream, path, b"x"), frame(0, 1, stream, body)].concat()
}

/// The next frame: kind, flags, stream and payload.
pub(crate) async fn read_frame(io: &mut (impl AsyncRead + Unpin)) -> (u8, u8, u32, Vec<u8>) {
    let mut head = [0; 9];
    io.read_exact(&mut head).await.unwrap();
    let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; len as usize];
    io.read_exact(&mut payload).await.unwrap();
    (head[3], head[4], u32::from_be_bytes(head[5..].try_into().unwrap()), payload)
}

/// Reads frames up to one of this kind.
pub(crate) async fn read_until(
    io: &mut (impl AsyncRead + Unpin),
    kind: u8,
) -> (u8, u8, u32, Vec<u8>) {
    loop {
        let frame = read_frame(io).await;
        if frame.0 == kind {
            return frame;
        }
    }
}

/// Writes bytes.
pub(crate) async fn write(io: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) {
    io.write_all(bytes).await.unwrap();
}

/// A client of the `h2` crate, whose connection runs as a task.
pub(crate) async fn h2_client(
    io: DuplexStream,
) -> (h2::client::SendRequest<Bytes>, JoinHandle<Result<(), h2::Error>>) {
    let (send, connection) = h2::client::Builder::new().handshake(io).await.unwrap();
    (send, tokio::task::spawn_local(connection))
}

pub(crate) fn post(path: &str) -> http::Request<()> {
    http::Request::post(format!("http://x{path}")).body(()).unwrap()
}

/// The data and the trailers of a response.
pub(crate) async fn collect(
    response: http::Response<h2::RecvStream>,
) -> Result<(Vec<u8>, Option<http::HeaderMap>), h2::Error> {
    let mut body = response.into_body();
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len()).unwrap();
        all.extend_from_slice(&data);
    }
    Ok((all, body.trailers().await?))
}
