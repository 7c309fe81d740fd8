//! Streams whose client sends requests and does not read their responses: the server stops reading
//! the requests, and goes on when the client reads.

use crate::fake::{Fake, serve_on_a_paused_clock};
use bytes::{Buf as _, Bytes, BytesMut};
use h2::{RecvStream, SendStream};
use prost::Message;
use proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, WatchCreateRequest, WatchRequest, WatchResponse,
    watch_request::RequestUnion,
};
use rpc::frame::{PREFIX_LEN, prefix};
use tokio::io::DuplexStream;
use tokio::sync::oneshot;

const WATCH: &str = "/etcdserverpb.Watch/Watch";
const KEEP_ALIVE: &str = "/etcdserverpb.Lease/LeaseKeepAlive";

/// More requests than responses fit a queue; all of them fit the server's window.
const REQUESTS: usize = 30_000;
/// The bytes of responses that may wait for a client before no further request is read.
const RESPONSES_MAX: usize = 64 * 1024;

/// Opens a stream of requests on a new connection with a window of 0, which opens on the signal.
async fn open(
    io: DuplexStream,
    path: &str,
    window: oneshot::Receiver<u32>,
) -> (SendStream<Bytes>, RecvStream) {
    let mut builder = h2::client::Builder::new();
    let (send, mut connection) = builder.initial_window_size(0).handshake(io).await.unwrap();
    tokio::task::spawn_local(async move {
        tokio::select! {
            ended = &mut connection => drop(ended),
            window = window => {
                connection.set_initial_window_size(window.unwrap()).unwrap();
                drop(connection.await);
            }
        }
    });
    let request = http::Request::post(format!("http://x{path}"))
        .header("content-type", "application/grpc")
        .body(())
        .unwrap();
    let mut send = send.ready().await.unwrap();
    let (response, requests) = send.send_request(request, false).unwrap();
    (requests, response.await.unwrap().into_body())
}

async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// The messages of a stream, in order.
struct Responses {
    body: RecvStream,
    bytes: BytesMut,
}

impl Responses {
    /// The next message.
    async fn next(&mut self) -> Bytes {
        loop {
            if let Some(head) = self.bytes.first_chunk::<PREFIX_LEN>() {
                let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
                if self.bytes.len() >= PREFIX_LEN + len {
                    self.bytes.advance(PREFIX_LEN);
                    return self.bytes.split_to(len).freeze();
                }
            }
            let data = self.body.data().await.unwrap().unwrap();
            self.body.flow_control().release_capacity(data.len()).unwrap();
            self.bytes.extend_from_slice(&data);
        }
    }
}

fn framed(message: &impl Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    [&prefix(message.len())[..], &message].concat()
}

/// Sends all requests, each with its number, to a client's stream that nobody reads; then reads.
fn requests_wait_while_nobody_reads(
    path: &'static str,
    request: impl Fn(i64) -> Vec<u8>,
    number: impl Fn(Bytes) -> (i64, usize),
) {
    let fake = Fake::default();
    let member = fake.clone();
    serve_on_a_paused_clock(&fake, |io| async move {
        let (opens, window) = oneshot::channel();
        let (mut requests, body) = open(io, path, window).await;
        let numbers = 1..=i64::try_from(REQUESTS).unwrap();
        let all: Vec<u8> = numbers.clone().flat_map(request).collect();
        requests.send_data(all.into(), false).unwrap();
        settle().await;
        let read = member.0.stream_requests.get();
        assert!(read > 0, "the first requests are read");
        assert!(read <= RESPONSES_MAX / 10, "{read} requests were read");
        settle().await;
        assert_eq!(member.0.stream_requests.get(), read, "no more are read later");

        opens.send(1 << 20).unwrap();
        let mut responses = Responses { body, bytes: BytesMut::new() };
        for expected in numbers {
            let (got, len) = number(responses.next().await);
            assert_eq!(got, expected);
            assert!(PREFIX_LEN + len >= 10, "the bound above is for longer responses");
        }
        assert_eq!(member.0.stream_requests.get(), REQUESTS);
    });
}

#[test]
fn a_watch_stream_is_not_read_while_its_responses_wait() {
    let create = |watch_id| {
        let create = WatchCreateRequest { watch_id, start_revision: 1, ..Default::default() };
        framed(&WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })
    };
    requests_wait_while_nobody_reads(WATCH, create, |response| {
        let len = response.len();
        (WatchResponse::decode(response).unwrap().watch_id, len)
    });
}

#[test]
fn a_keep_alive_stream_is_not_read_while_its_responses_wait() {
    let renew = |id| framed(&LeaseKeepAliveRequest { id: 1_000 + id });
    requests_wait_while_nobody_reads(KEEP_ALIVE, renew, |response| {
        let len = response.len();
        (LeaseKeepAliveResponse::decode(response).unwrap().id - 1_000, len)
    });
}
