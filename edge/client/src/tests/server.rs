//! A server that a test controls step by step: accept, send SETTINGS, expect a request, respond,
//! fail, reset a stream, send GOAWAY, close, or stay silent.

use super::in_time;
use crate::endpoint::{Address, Endpoint};
use crate::transport::{Network, Transport, TransportFuture, step};
use crate::{Client, Config};
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use prost::Message;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;

/// The bytes that a pipe holds.
const PIPE: usize = 64 << 10;

#[derive(Debug)]
enum Host {
    Accepts(mpsc::UnboundedSender<Pipe>),
    Refuses,
    /// Drops every packet.
    BlackHole,
    Panics,
}

/// The hosts that a client can connect to.
#[derive(Debug, Default)]
pub(crate) struct Hosts(Mutex<HashMap<String, Host>>);

impl Hosts {
    fn add(&self, name: &str, host: Host) {
        self.0.lock().unwrap().insert(name.to_string(), host);
    }

    pub(crate) fn listen(&self, name: &str) -> Listener {
        let (sender, incoming) = mpsc::unbounded_channel();
        self.add(name, Host::Accepts(sender));
        Listener(incoming)
    }

    pub(crate) fn refuse(&self, name: &str) {
        self.add(name, Host::Refuses);
    }

    pub(crate) fn drop_packets(&self, name: &str) {
        self.add(name, Host::BlackHole);
    }

    pub(crate) fn panic(&self, name: &str) {
        self.add(name, Host::Panics);
    }

    /// A client of these endpoints, whose calls may take 5 s.
    pub(crate) async fn client(self: &Arc<Self>, endpoints: &[&str]) -> Client {
        let endpoints = endpoints.iter().map(ToString::to_string).collect();
        let mut config = Config::new(endpoints);
        config.dial_timeout = Duration::from_secs(2);
        let network = Arc::clone(self);
        let client = Client::connect_over(config, network).await.unwrap();
        client.with_timeout(Duration::from_secs(5))
    }
}

impl Network for Hosts {
    fn open<'a>(&'a self, endpoint: &'a Endpoint) -> TransportFuture<'a> {
        Box::pin(async {
            let Address::Tcp(name) = &endpoint.address else { panic!("not a host") };
            let listener = match self.0.lock().unwrap().get(name) {
                Some(Host::Accepts(listener)) => Ok(listener.clone()),
                Some(Host::Refuses) | None => Err(true),
                Some(Host::BlackHole) => Err(false),
                Some(Host::Panics) => Ok(mpsc::unbounded_channel().0),
            };
            if let Ok(listener) = &listener {
                let (ours, theirs) = tokio::io::duplex(PIPE);
                listener.send(Pipe(theirs)).expect("this host panics, or its listener lives");
                return Ok(Transport { stream: Box::new(ours), peer: name.clone() });
            }
            if let Err(true) = listener {
                return Err(format!("{}: connect: connection refused", step(endpoint)));
            }
            std::future::pending().await
        })
    }
}

/// The connections to a host that are not accepted yet.
#[derive(Debug)]
pub(crate) struct Listener(mpsc::UnboundedReceiver<Pipe>);

impl Listener {
    pub(crate) async fn accept(&mut self) -> Pipe {
        let accepted = in_time("a connection of the client", self.0.recv()).await;
        accepted.expect("the hosts live as long as the test")
    }

    /// Accepts a connection and sends SETTINGS.
    pub(crate) async fn serve(&mut self) -> Server {
        self.accept().await.greet().await
    }

    /// How many connections wait.
    pub(crate) fn waiting(&self) -> usize {
        self.0.len()
    }
}

/// An accepted connection on which nothing was sent.
#[derive(Debug)]
pub(crate) struct Pipe(DuplexStream);

impl Pipe {
    /// Sends SETTINGS and reads the client's.
    pub(crate) async fn greet(self) -> Server {
        let builder = h2::server::Builder::new();
        let handshake = builder.handshake::<_, Bytes>(self.0);
        let connection = in_time("the client's preface", handshake).await.unwrap();
        let (sender, calls) = mpsc::unbounded_channel();
        let (commands, inbox) = mpsc::unbounded_channel();
        tokio::spawn(drive(connection, sender, inbox));
        Server { calls, commands }
    }

    /// Sends SETTINGS, reads the headers of a request, and says with GOAWAY that it was not
    /// processed.
    pub(crate) async fn go_away_unprocessed(self) {
        in_time("the headers of a request", self.refuse_first_request()).await;
    }

    async fn refuse_first_request(mut self) {
        const HEADERS: u8 = 1;
        self.0.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        let mut preface = [0; 24];
        self.0.read_exact(&mut preface).await.unwrap();
        loop {
            let mut header = [0; 9];
            self.0.read_exact(&mut header).await.unwrap();
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.unwrap();
            if header[3] == HEADERS {
                break;
            }
        }
        // The last stream that was processed is 0; no error.
        let frame = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        self.0.write_all(&frame).await.unwrap();
    }

    /// Reads up to these bytes.
    pub(crate) async fn hear_until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut heard = Vec::new();
        while !heard.ends_with(end) {
            heard.push(in_time("a byte of the client", self.0.read_u8()).await.unwrap());
        }
        heard
    }

    /// Sends bytes that are not HTTP/2.
    pub(crate) async fn say(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }
}

#[derive(Debug)]
enum Act {
    GoAway,
    /// Nothing more is read or sent; the connection stays open.
    Stop(tokio::sync::oneshot::Receiver<()>),
}

async fn drive(
    mut connection: h2::server::Connection<DuplexStream, Bytes>,
    calls: mpsc::UnboundedSender<Call>,
    mut acts: mpsc::UnboundedReceiver<Act>,
) {
    loop {
        tokio::select! {
            biased;
            act = acts.recv() => match act {
                Some(Act::GoAway) => connection.graceful_shutdown(),
                Some(Act::Stop(go_on)) => _ = go_on.await,
                // The server was dropped: the connection is closed.
                None => return,
            },
            accepted = connection.accept() => {
                let Some(Ok((request, respond))) = accepted else { return };
                let path = request.uri().path().to_string();
                let requests = request.into_body();
                let buffer = BytesMut::new();
                _ = calls.send(Call { path, requests, buffer, respond, answers: None });
            }
        }
    }
}

/// A connection on which SETTINGS were sent. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct Server {
    calls: mpsc::UnboundedReceiver<Call>,
    commands: mpsc::UnboundedSender<Act>,
}

impl Server {
    /// Expects the next call, of this method.
    pub(crate) async fn call(&mut self, method: &str) -> Call {
        let call = in_time(method, self.calls.recv()).await.expect("the connection is open");
        assert!(call.path.ends_with(method), "{} instead of {method}", call.path);
        call
    }

    /// Expects a unary call. Returns its request.
    pub(crate) async fn unary<Q: Message + Default>(&mut self, method: &str) -> (Call, Q) {
        let mut call = self.call(method).await;
        let request = call.expect().await.expect("a request");
        (call, request)
    }

    /// How many calls wait.
    pub(crate) fn waiting(&self) -> usize {
        self.calls.len()
    }

    /// Refuses new calls with GOAWAY, and continues with the open ones.
    pub(crate) fn go_away(&self) {
        self.commands.send(Act::GoAway).unwrap();
    }

    /// Stops like a process that gets SIGSTOP, until the sender is dropped.
    pub(crate) fn stop(&self) -> tokio::sync::oneshot::Sender<()> {
        let (go_on, wait) = tokio::sync::oneshot::channel();
        self.commands.send(Act::Stop(wait)).unwrap();
        go_on
    }
}

/// One call at the server; dropping it resets its stream.
#[derive(Debug)]
pub(crate) struct Call {
    path: String,
    requests: RecvStream,
    buffer: BytesMut,
    respond: SendResponse<Bytes>,
    answers: Option<SendStream<Bytes>>,
}

impl Call {
    /// The next request; `None` when the client has ended or reset its side.
    pub(crate) async fn expect<Q: Message + Default>(&mut self) -> Option<Q> {
        const PREFIX: usize = 5;
        loop {
            if self.buffer.len() >= PREFIX {
                let length = (&self.buffer[1..PREFIX]).get_u32() as usize;
                if self.buffer.len() >= PREFIX + length {
                    let message = self.buffer.split_to(PREFIX + length);
                    return Some(Q::decode(&message[PREFIX..]).unwrap());
                }
            }
            let bytes = in_time("a request on the stream", self.requests.data()).await?.ok()?;
            self.requests.flow_control().release_capacity(bytes.len()).unwrap();
            self.buffer.extend_from_slice(&bytes);
        }
    }

    fn answers(&mut self) -> &mut SendStream<Bytes> {
        let respond = &mut self.respond;
        self.answers.get_or_insert_with(|| {
            let head = http::Response::builder().header("content-type", "application/grpc");
            respond.send_response(head.body(()).unwrap(), false).unwrap()
        })
    }

    /// Sends the head of the response.
    pub(crate) fn open(&mut self) {
        self.answers();
    }

    /// Sends an answer.
    pub(crate) fn answer(&mut self, message: &impl Message) {
        let bytes = framed(message);
        self.answers().send_data(bytes, false).unwrap();
    }

    /// Sends the first half of an answer.
    pub(crate) fn answer_in_part(&mut self, message: &impl Message) {
        let mut bytes = framed(message);
        bytes.truncate(bytes.len() / 2);
        self.answers().send_data(bytes, false).unwrap();
    }

    /// Sends an answer if the client's window has room for it at once.
    pub(crate) async fn answer_within_window(&mut self, message: &impl Message) -> bool {
        let bytes = framed(message);
        let length = bytes.len();
        let answers = self.answers();
        answers.reserve_capacity(length);
        while answers.capacity() < length {
            let more = std::future::poll_fn(|context| answers.poll_capacity(context));
            if tokio::time::timeout(Duration::from_secs(1), more).await.is_err() {
                return false;
            }
        }
        answers.send_data(bytes, false).unwrap();
        true
    }

    /// Sends the answer, and the status of success.
    pub(crate) fn finish(mut self, message: &impl Message) {
        self.answer(message);
        self.end(0, "");
    }

    /// Ends the call with an error.
    pub(crate) fn fail(mut self, code: tonic::Code, message: &str) {
        self.end(code as i32, message);
    }

    fn end(&mut self, code: i32, message: &str) {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", code.into());
        trailers.insert("grpc-message", message.parse().unwrap());
        self.answers().send_trailers(trailers).unwrap();
    }

    pub(crate) fn reset(mut self, reason: Reason) {
        self.respond.send_reset(reason);
    }
}

fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}
