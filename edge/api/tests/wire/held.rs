//! Answers that hold a view while they are sent, on a clock that the tests move: a client that
//! does not read loses them after a time, one that reads gets them whole.

use crate::fake::{Fake, serve_on_a_paused_clock};
use bytes::Bytes;
use h2::{Reason, RecvStream};
use prost::Message;
use proto::etcdserverpb::{RangeRequest, SnapshotRequest};
use rpc::frame::{PREFIX_LEN, prefix};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::DuplexStream;
use tokio::time::{Instant, advance};

const RANGE: &str = "/etcdserverpb.KV/Range";
const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";

/// The window of a client of these tests, in bytes: it is used up long before an answer's end.
const WINDOW: u32 = 1_000;
const STALLED_MAX: Duration = Duration::from_secs(60);
const STALLED: &str = "retcd: the client read nothing for 60 s";
const RANGE_AGE_MAX: Duration = Duration::from_secs(600);

/// A member whose ranges and snapshot are some megabytes long.
fn large_member() -> Fake {
    let fake = Fake::default();
    for at in 0..40 {
        fake.insert(&format!("{at:05}"), vec![7; 100_000].into());
    }
    *fake.0.snapshot.borrow_mut() = vec![7; 4_000_000];
    fake
}

fn all() -> RangeRequest {
    RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() }
}

/// Calls a method on a new connection, and returns its answer's body, of which nothing is read.
async fn call(
    io: DuplexStream,
    path: &str,
    headers: &[(&str, &str)],
    message: &impl Message,
) -> RecvStream {
    let mut builder = h2::client::Builder::new();
    let builder = builder.initial_window_size(WINDOW);
    let (mut send, connection) = builder.handshake::<_, Bytes>(io).await.unwrap();
    tokio::task::spawn_local(async move { drop(connection.await) });
    let mut request = http::Request::post(format!("http://x{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.header("content-type", "application/grpc").body(()).unwrap();
    let (response, mut body) = send.send_request(request, false).unwrap();
    let message = message.encode_to_vec();
    let message = [&prefix(message.len())[..], &message].concat();
    body.send_data(message.into(), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers().get("grpc-status").is_none(), "the call is refused");
    response.into_body()
}

/// Moves the clock and lets the server see it.
async fn pass(time: Duration) {
    advance(time).await;
    settle().await;
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Waits for the thread that reads a snapshot, which no clock knows of, to drop its view. While that
/// thread works the client's time does not count, so a further period may be needed.
async fn reader_ends(fake: &Fake) {
    for _ in 0..3 {
        let begun = std::time::Instant::now();
        while fake.views_held() > 0 && begun.elapsed() < Duration::from_secs(1) {
            std::thread::yield_now();
            tokio::task::yield_now().await;
        }
        if fake.views_held() > 0 {
            pass(STALLED_MAX + Duration::from_secs(1)).await;
        }
    }
}

/// The end of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// `grpc-status` and `grpc-message` of the trailers.
    Trailers(i32, String),
    /// The stream was reset.
    Reset(Reason),
}

/// A client's view of a response.
struct Reader {
    body: RecvStream,
    reset: Option<Reason>,
    /// All bytes that came.
    bytes: Vec<u8>,
}

impl Reader {
    fn new(body: RecvStream) -> Reader {
        Reader { body, reset: None, bytes: Vec::new() }
    }

    /// Reads up to `bytes`; returns how many came, fewer at the end.
    async fn read(&mut self, bytes: usize) -> usize {
        let mut got = 0;
        while got < bytes && self.reset.is_none() {
            match self.body.data().await {
                None => break,
                Some(Ok(data)) => {
                    got += data.len();
                    self.bytes.extend_from_slice(&data);
                    self.body.flow_control().release_capacity(data.len()).unwrap();
                }
                Some(Err(error)) => self.reset = Some(error.reason().unwrap()),
            }
        }
        got
    }

    /// Reads to the end; a response that is cut off within a message must be reset.
    async fn end(&mut self) -> End {
        self.read(usize::MAX).await;
        let mut rest = &self.bytes[..];
        while let Some(([_, len @ ..], message)) = rest.split_first_chunk::<PREFIX_LEN>() {
            let len = u32::from_be_bytes(*len) as usize;
            let Some(behind) = message.get(len..) else { break };
            rest = behind;
        }
        if let Some(reason) = self.reset {
            assert!(!rest.is_empty(), "reset between two messages");
            return End::Reset(reason);
        }
        assert!(rest.is_empty(), "trailers within a message");
        let trailers = self.body.trailers().await.unwrap().unwrap();
        let text = |name: &str| trailers.get(name).map_or("", |value| value.to_str().unwrap());
        End::Trailers(text("grpc-status").parse().unwrap(), text("grpc-message").to_owned())
    }
}

fn success() -> End {
    End::Trailers(0, String::new())
}

/// The end of a response that is cut off. The messages of a snapshot are shorter than a piece of
/// the body, so it is never cut off within one.
fn cut_off(path: &str, reset: Reason, trailers: (i32, &str)) -> End {
    if path == SNAPSHOT {
        End::Trailers(trailers.0, trailers.1.to_owned())
    } else {
        End::Reset(reset)
    }
}

/// Reads to the end: the number of bytes that came, and the end.
async fn read_all(body: RecvStream) -> (usize, End) {
    let mut reader = Reader::new(body);
    let end = reader.end().await;
    (reader.bytes.len(), end)
}

/// The client stops reading; the view goes when the time is up, and what it reads then ends with
/// the reason.
fn stalled_client_is_cut_off(path: &'static str, message: impl Message + 'static) {
    let member = large_member();
    let fake = member.clone();
    serve_on_a_paused_clock(&member, |io| async move {
        let mut body = call(io, path, &[], &message).await;
        // The first data has come; the window stays used up.
        let first = body.data().await.unwrap().unwrap();
        settle().await;
        assert_eq!(fake.views_held(), 1);
        pass(STALLED_MAX - Duration::from_secs(1)).await;
        assert_eq!(fake.views_held(), 1, "the client may still read");
        pass(Duration::from_secs(2)).await;
        if path == SNAPSHOT {
            reader_ends(&fake).await;
        }
        assert_eq!(fake.views_held(), 0, "the view is gone though nobody reads");
        body.flow_control().release_capacity(first.len()).unwrap();
        let mut reader = Reader { bytes: first.to_vec(), ..Reader::new(body) };
        let end = reader.end().await;
        assert!(reader.bytes.len() < 1_000_000, "{}", reader.bytes.len());
        assert_eq!(end, cut_off(path, Reason::ENHANCE_YOUR_CALM, (8, STALLED)));
    });
}

#[test]
fn a_large_range_is_cut_off_when_its_client_stops_reading() {
    stalled_client_is_cut_off(RANGE, all());
}

#[test]
fn a_range_stream_is_cut_off_when_its_client_stops_reading() {
    stalled_client_is_cut_off(RANGE_STREAM, all());
}

#[test]
fn a_snapshot_is_cut_off_when_its_client_stops_reading() {
    stalled_client_is_cut_off(SNAPSHOT, SnapshotRequest {});
}

/// One read in each half of the time that a stalled client has, until the body ends.
async fn read_slowly(body: RecvStream, bytes: usize) -> (usize, End, Duration) {
    let begun = Instant::now();
    let mut reader = Reader::new(body);
    while reader.read(bytes).await >= bytes {
        pass(STALLED_MAX / 2).await;
    }
    let end = reader.end().await;
    (reader.bytes.len(), end, begun.elapsed())
}

#[test]
fn a_client_that_reads_slowly_gets_its_whole_snapshot() {
    serve_on_a_paused_clock(&large_member(), |io| async move {
        let body = call(io, SNAPSHOT, &[], &SnapshotRequest {}).await;
        let (bytes, end, took) = read_slowly(body, 190_000).await;
        assert_eq!(end, success());
        assert!(bytes > 4_000_000, "{bytes}");
        assert!(took > RANGE_AGE_MAX, "{took:?}");
    });
}

#[test]
fn a_range_is_cut_off_at_its_age_however_its_client_reads() {
    let member = large_member();
    let fake = member.clone();
    serve_on_a_paused_clock(&member, |io| async move {
        let body = call(io, RANGE, &[], &all()).await;
        let (bytes, end, took) = read_slowly(body, 66_000).await;
        assert!(bytes < 3_000_000, "{bytes}");
        assert_eq!(end, End::Reset(Reason::ENHANCE_YOUR_CALM));
        assert!(took >= RANGE_AGE_MAX, "{took:?}");
        assert_eq!(fake.views_held(), 0);
    });
}

fn deadline_ends_the_answer(path: &'static str, message: impl Message + 'static) {
    let member = large_member();
    let fake = member.clone();
    serve_on_a_paused_clock(&member, |io| async move {
        let body = call(io, path, &[("grpc-timeout", "5S")], &message).await;
        pass(Duration::from_millis(4_900)).await;
        assert_eq!(fake.views_held(), 1);
        pass(Duration::from_millis(200)).await;
        if path == SNAPSHOT {
            reader_ends(&fake).await;
        }
        assert_eq!(fake.views_held(), 0);
        let (_, end) = read_all(body).await;
        assert_eq!(end, cut_off(path, Reason::CANCEL, (4, "context deadline exceeded")));
    });
}

/// Overwrites 100 keys of 1,000 bytes each, and returns how many pages the database keeps for readers.
fn overwrite(db: &mut bolt::Db, round: u8) -> u64 {
    let mut tx = db.begin();
    tx.create_bucket(b"key").unwrap();
    for key in 0..100 {
        tx.put(b"key", Bytes::copy_from_slice(&[key]), Bytes::from(vec![round; 1_000])).unwrap();
    }
    tx.commit().unwrap();
    db.free_pages().1
}

#[test]
fn the_pages_of_a_range_that_is_not_read_are_free_after_its_time() {
    let (disk, cache) = (vfs::SimDisk::new(1), Arc::new(bolt::PageCache::new(1 << 20)));
    let options = bolt::Options { new_page_size: 4096, cache, read_only: false };
    let mut db = bolt::Db::open(&disk, Path::new("db"), options).unwrap();
    let alone = (0..3).map(|round| overwrite(&mut db, round)).max().unwrap();
    let member = large_member();
    *member.0.file.borrow_mut() = Some(db.view());
    let fake = member.clone();
    serve_on_a_paused_clock(&member, |io| async move {
        let mut body = call(io, RANGE, &[], &all()).await;
        assert!(body.data().await.is_some());
        settle().await;
        fake.0.file.take();
        let kept = (0..10).map(|round| overwrite(&mut db, round)).max().unwrap();
        assert!(kept >= 10 * 25, "each round replaces 25 pages at least, not {kept} in all");
        pass(STALLED_MAX + Duration::from_secs(1)).await;
        let kept = (0..3).map(|round| overwrite(&mut db, round)).last().unwrap();
        assert!(kept <= alone, "{kept} pages are kept, and {alone} without any reader");
    });
}

/// Its answer is collected before it is sent, and holds no view but memory.
#[test]
fn a_long_collected_answer_is_cut_off_too() {
    serve_on_a_paused_clock(&large_member(), |io| async move {
        let request = RangeRequest { keys_only: true, ..all() };
        let body = call(io, RANGE, &[], &request).await;
        pass(STALLED_MAX + Duration::from_secs(1)).await;
        let (bytes, end) = read_all(body).await;
        assert!(bytes < 200_000, "{bytes}");
        assert_eq!(end, End::Reset(Reason::ENHANCE_YOUR_CALM));
    });
}

#[test]
fn a_deadline_ends_a_large_range_that_is_being_sent() {
    deadline_ends_the_answer(RANGE, all());
}

#[test]
fn a_deadline_ends_a_range_stream_and_a_snapshot() {
    deadline_ends_the_answer(RANGE_STREAM, all());
    deadline_ends_the_answer(SNAPSHOT, SnapshotRequest {});
}

#[test]
fn an_answer_that_was_read_to_its_end_holds_nothing_and_needs_no_time() {
    let member = large_member();
    let fake = member.clone();
    serve_on_a_paused_clock(&member, |io| async move {
        let body = call(io, RANGE, &[], &all()).await;
        let (bytes, end) = read_all(body).await;
        assert!(bytes > 4_000_000, "{bytes}");
        assert_eq!((end, fake.views_held()), (success(), 0));
    });
}
