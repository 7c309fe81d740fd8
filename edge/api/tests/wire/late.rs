//! Requests that do not arrive: a call whose client sends a part of a message and then nothing ends
//! at a time limit, on a clock that advances while nothing else happens.

use crate::fake::{Fake, serve_on_a_paused_clock};
use bytes::Bytes;
use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use net::limits::REQUEST_TIME_MAX;
use prost::Message;
use proto::etcdserverpb::{
    RangeRequest, WatchCreateRequest, WatchRequest, watch_request::RequestUnion,
};
use rpc::frame::prefix;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::time::{Instant, sleep};

const RANGE: &str = "/etcdserverpb.KV/Range";
const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

async fn connect(io: DuplexStream) -> SendRequest<Bytes> {
    let (send, connection) = h2::client::handshake(io).await.unwrap();
    tokio::task::spawn_local(async move { drop(connection.await) });
    send.ready().await.unwrap()
}

fn call(connection: &mut SendRequest<Bytes>, path: &str) -> (ResponseFuture, SendStream<Bytes>) {
    let request = http::Request::post(format!("http://x{path}"));
    let request = request.header("content-type", "application/grpc").body(()).unwrap();
    connection.send_request(request, false).unwrap()
}

fn framed(message: &impl Message) -> Bytes {
    let message = message.encode_to_vec();
    [&prefix(message.len())[..], &message].concat().into()
}

/// The `grpc-status` of a response: in its headers if it has no body, or else in its trailers.
async fn status(response: ResponseFuture) -> (i32, String) {
    let (head, mut body) = response.await.unwrap().into_parts();
    let end = match head.headers.contains_key("grpc-status") {
        true => head.headers,
        false => {
            while let Some(data) = body.data().await {
                body.flow_control().release_capacity(data.unwrap().len()).unwrap();
            }
            body.trailers().await.unwrap().unwrap()
        }
    };
    let text = |name: &str| end.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    (text("grpc-status").parse().unwrap(), text("grpc-message"))
}

fn late() -> (i32, String) {
    (4, "retcd: the request did not arrive within 300 s".to_owned())
}

#[test]
fn a_request_that_does_not_arrive_ends_its_call_at_the_limit() {
    let request = framed(&RangeRequest { key: "a".into(), ..RangeRequest::default() });
    for path in [RANGE, RANGE_STREAM] {
        for sent in [0, 3, request.len() - 1] {
            let part = request.slice(..sent);
            serve_on_a_paused_clock(&Fake::default(), |io| async move {
                let mut connection = connect(io).await;
                let (response, mut body) = call(&mut connection, path);
                body.send_data(part, false).unwrap();
                let begun = Instant::now();
                assert_eq!(status(response).await, late(), "{path}, {sent} bytes");
                assert_eq!(begun.elapsed(), REQUEST_TIME_MAX);
            });
        }
    }
}

#[test]
fn a_stream_without_requests_goes_on_and_half_a_request_ends_it() {
    let create = WatchCreateRequest { key: "a".into(), ..WatchCreateRequest::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let request = framed(&request);
    let fake = Fake::default();
    let member = fake.clone();
    serve_on_a_paused_clock(&fake, |io| async move {
        let mut connection = connect(io).await;
        let (response, mut body) = call(&mut connection, WATCH);
        sleep(10 * REQUEST_TIME_MAX).await;
        body.send_data(request.clone(), false).unwrap();
        sleep(10 * REQUEST_TIME_MAX).await;
        assert_eq!(member.0.stream_requests.get(), 1, "the stream goes on");
        // A request in two parts within the limit, and one whose rest does not arrive.
        body.send_data(request.slice(..7), false).unwrap();
        sleep(REQUEST_TIME_MAX - Duration::from_secs(1)).await;
        body.send_data(request.slice(7..), false).unwrap();
        sleep(Duration::from_secs(10)).await;
        assert_eq!(member.0.stream_requests.get(), 2);
        body.send_data(request.slice(..7), false).unwrap();
        let begun = Instant::now();
        assert_eq!(status(response).await, late());
        assert_eq!(begun.elapsed(), REQUEST_TIME_MAX);
    });
}
