//! Limits of the memory and the work that a client can cause.

use crate::world::{
    frame, head, opening, read_frame, read_until, request, run, serve, serve_on, settings, settle,
    write,
};
use connection::{Error, RefusedRequest, Settings};
use net::limits::STALLED_TIME_MAX;
use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, sleep};

/// The windows of a client that never waits for them.
fn wide() -> Vec<u8> {
    let window = 0x7fff_ffff_u32.to_be_bytes();
    let stream = frame(4, 0, 0, &[&[0, 4], &window[..]].concat());
    let more = (0x7fff_ffff_u32 - 65_535).to_be_bytes();
    [http2::PREFACE, &stream, &frame(8, 0, 0, &more)].concat()
}

#[test]
fn an_endless_response_is_made_no_faster_than_its_client_reads() {
    run(async {
        let (mut client, server) = tokio::io::duplex(1_000);
        let served = serve_on(server, settings()).await;
        write(&mut client, &wide()).await;
        write(&mut client, &request(1, "/endless", b"")).await;
        settle().await;
        let ahead = 64 + 16 + 2;
        let made = served.seen.pieces.get();
        assert!(made > 0 && made <= ahead, "{made} pieces of 1,000 bytes");
        // Byte by byte.
        for read in 1..=20_000 {
            client.read_exact(&mut [0]).await.unwrap();
            settle().await;
            let made = served.seen.pieces.get();
            assert!(made <= read / 1_000 + ahead, "{made} pieces after {read} bytes");
        }
        assert!(served.seen.pieces.get() > made, "it goes on");
    });
}

#[test]
fn endless_responses_take_turns() {
    run(async {
        let (mut io, _served) = serve(settings()).await;
        write(&mut io, &wide()).await;
        for stream in [1, 3, 5] {
            write(&mut io, &request(stream, "/endless", b"")).await;
        }
        let mut frames = Vec::new();
        for _ in 0..3_000 {
            frames.push(read_until(&mut io, 0).await.2);
        }
        for stream in [1, 3, 5] {
            let count = frames.iter().filter(|of| **of == stream).count();
            assert!(count > 900, "{count} frames of stream {stream}");
        }
        // The first stream begins before the others.
        let longest = frames[500..].chunk_by(|left, right| left == right).map(<[u32]>::len).max();
        assert!(longest < Some(20), "{longest:?} frames of 1,000 bytes behind each other");
    });
}

#[test]
fn a_client_that_takes_no_answers_is_not_read_any_more() {
    run(async {
        let (mut client, server) = tokio::io::duplex(1_000);
        let served = serve_on(server, settings()).await;
        write(&mut client, &opening()).await;
        let begun = Instant::now();
        let pings = frame(6, 0, 0, b"12345678").repeat(10_000);
        let mut taken = 0;
        let error = loop {
            match client.write(&pings[taken..]).await {
                Ok(len) => taken += len,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(taken < 100_000 && taken > 60_000, "{taken} bytes of pings");
        assert_eq!(begun.elapsed(), STALLED_TIME_MAX);
        let Err(Error::Io(error)) = served.ended.await.unwrap() else { panic!("no timeout") };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    });
}

#[test]
fn a_slow_reader_gets_all_answers_to_what_it_has_sent() {
    run(async {
        let (mut client, server) = tokio::io::duplex(100);
        let _served = serve_on(server, settings()).await;
        write(&mut client, &opening()).await;
        let (mut from, mut to) = tokio::io::split(client);
        let sending = async {
            for at in 0..9_000_u64 {
                write(&mut to, &frame(6, 0, 0, &at.to_be_bytes())).await;
            }
        };
        let reading = async {
            for at in 0..9_000_u64 {
                let (_, flags, _, payload) = read_until(&mut from, 6).await;
                assert_eq!((flags, payload), (1, at.to_be_bytes().to_vec()));
            }
        };
        tokio::join!(sending, reading);
    });
}

/// Streams that are reset before they are answered end the connection at once when there are too
/// many of them within a second, and their handlers with it.
#[test]
fn cve_2023_44487_rapid_resets_end_the_connection() {
    run(async {
        let (mut io, served) = serve(settings()).await;
        write(&mut io, &opening()).await;
        for at in 0..=http2::RESETS_MAX {
            let stream = 2 * at + 1;
            let reset = frame(3, 0, stream, &[0, 0, 0, 8]);
            let both = [request(stream, "/wait", b""), reset].concat();
            if io.write_all(&both).await.is_err() {
                break;
            }
            settle().await;
        }
        let (_, _, _, payload) = read_until(&mut io, 7).await;
        assert_eq!(payload[4..8], [0, 0, 0, 11], "ENHANCE_YOUR_CALM");
        assert!(served.ended.await.unwrap().is_err());
    });
}

/// A header block without an end is bounded in bytes, whatever the frames are that it comes in.
#[test]
fn cve_2023_45288_a_header_block_without_end_ends_the_connection() {
    // Empty frames, short ones, and the longest.
    for len in [0, 1, 16_384] {
        run(async {
            let (mut io, served) = serve(settings()).await;
            write(&mut io, &opening()).await;
            let first = head(1, "/unary", b"x");
            write(&mut io, &[&first[..4], &[0], &first[5..]].concat()).await;
            let more = frame(9, 0, 1, &vec![0; len]);
            let mut sent = 0;
            while sent <= http2::BLOCK_MAX + http2::USELESS_MAX as usize * 10 {
                if io.write_all(&more).await.is_err() {
                    break;
                }
                sent += more.len();
                tokio::task::yield_now().await;
            }
            assert!(served.ended.await.unwrap().is_err(), "frames of {len} bytes");
            assert!(served.seen.log().is_empty(), "no handler was called");
        });
    }
}

#[test]
fn streams_beyond_the_limit_are_refused_and_counted() {
    run(async {
        let refused = Rc::new(RefCell::new(Vec::new()));
        let counted = Rc::clone(&refused);
        let count: Rc<dyn Fn(RefusedRequest)> = Rc::new(move |why| counted.borrow_mut().push(why));
        let settings = Settings { streams_max: 2, refused: count, ..settings() };
        let (mut io, _served) = serve(settings).await;
        write(&mut io, &opening()).await;
        for stream in [1, 3, 5] {
            write(&mut io, &request(stream, "/wait", b"")).await;
        }
        assert_eq!(read_until(&mut io, 3).await, (3, 0, 5, vec![0, 0, 0, 7]));
        assert_eq!(*refused.borrow(), [RefusedRequest::Streams]);
        write(&mut io, &frame(3, 0, 1, &[0, 0, 0, 8])).await;
        write(&mut io, &request(7, "/unary", b"")).await;
        let (kind, _, stream, _) = read_frame(&mut io).await;
        assert_eq!((kind, stream), (1, 7));
    });
}

#[test]
fn what_a_client_sends_and_no_handler_reads_is_bounded_by_the_window() {
    run(async {
        let (mut io, served) = serve(settings()).await;
        let data = frame(0, 0, 1, &[7; 16_384]);
        write(&mut io, &[opening(), head(1, "/wait", b"x")].concat()).await;
        for _ in 0..64 {
            write(&mut io, &data).await;
        }
        settle().await;
        assert!(!served.ended.is_finished());
        write(&mut io, &data).await;
        assert_eq!(read_until(&mut io, 3).await.3, [0, 0, 0, 3], "FLOW_CONTROL_ERROR");
    });
}

/// The responses are complete and wait for a window, while unread request data still arrives.
#[test]
fn data_behind_an_answer_leaves_the_connections_window_to_others() {
    run(async {
        let (mut io, _served) = serve(settings()).await;
        let window_of_1 = frame(4, 0, 0, &[0, 4, 0, 0, 0, 1]);
        write(&mut io, &[http2::PREFACE, &window_of_1].concat()).await;
        for stream in [1, 3] {
            write(&mut io, &head(stream, "/host", b"xy")).await;
            assert_eq!(read_until(&mut io, 0).await.3, b"x");
            for _ in 0..64 {
                write(&mut io, &frame(0, 0, stream, &[7; 16_384])).await;
            }
        }
        let (.., stream, more) = read_until(&mut io, 8).await;
        assert_eq!((stream, more), (0, (2_u32 << 20).to_be_bytes().to_vec()));
    });
}

#[test]
fn a_slow_reader_is_not_taken_for_one_that_is_gone() {
    run(async {
        let (mut client, server) = tokio::io::duplex(1_000);
        let pings = Some((Duration::from_secs(60), Duration::from_secs(20)));
        let served = serve_on(server, Settings { pings, ..settings() }).await;
        write(&mut client, &[wide(), request(1, "/endless", b"")].concat()).await;
        for _ in 0..100 {
            client.read_exact(&mut [0; 100]).await.unwrap();
            sleep(Duration::from_secs(30)).await;
        }
        assert!(!served.ended.is_finished());
    });
}

/// tokio lets a task use 128 of its own resources in one poll, and a connection has more calls.
#[test]
fn each_of_many_calls_is_polled_once() {
    run(async {
        let (mut io, served) = serve(settings()).await;
        let calls: Vec<u8> = (0..200).flat_map(|at| request(2 * at + 1, "/counted", b"")).collect();
        write(&mut io, &[opening(), calls].concat()).await;
        for _ in 0..200 {
            read_until(&mut io, 0).await;
        }
        assert_eq!(served.seen.polls.get(), 200);
    });
}
