//! What a client of HTTP/2 sends after the preface: frames, header blocks, windows. Every request is
//! answered, and its data taken.
//!
//! Also asserted: the same happens wherever the input is cut, streams and output stay within their
//! limits, and a connection that is served without an error has no window that leaks.

use bytes::Bytes;
use http2::{ClientEvent, Connection, End, Limits, Reason};

/// Streams at a time.
const STREAMS_MAX: usize = 4;
/// Response data waits from here on, in bytes.
const UNSENT_MAX: usize = 2_000;
/// The window of a connection, in bytes.
const WINDOW: u32 = 65_535;

/// What an input comes to.
#[derive(Debug, Default, PartialEq, Eq)]
struct ServedInput {
    happened: Vec<String>,
    written: Vec<u8>,
    fault: Option<Reason>,
}

/// The target; true if a request was served and no rule was broken. The first byte is the length of
/// a piece.
///
/// # Panics
/// When something is found.
#[must_use]
pub fn run(data: &[u8]) -> bool {
    let Some((piece, rest)) = data.split_first() else { return false };
    let whole = serve(rest, rest.len().max(1));
    let cut = serve(rest, usize::from(*piece).max(1));
    assert_eq!(whole.happened, cut.happened, "the same happens wherever the input is cut");
    assert_eq!(whole.fault, cut.fault, "the same happens wherever the input is cut");
    whole.fault.is_none() && whole.happened.iter().any(|what| what.starts_with("Request"))
}

fn serve(input: &[u8], piece: usize) -> ServedInput {
    let limits = Limits {
        streams_max: u32::try_from(STREAMS_MAX).unwrap_or(u32::MAX),
        stream_window: 5_000,
        connection_window: WINDOW,
        frame_max: 16_384,
        headers_max: 2_000,
        unsent_max: UNSENT_MAX,
    };
    let mut http2 = Connection::new(limits);
    let mut outcome = ServedInput::default();
    let mut waiting = Vec::new();
    for part in input.chunks(piece) {
        waiting.extend_from_slice(part);
        let mut used = 0;
        loop {
            let received = match http2.receive(&waiting[used..], 0) {
                Ok(received) => received,
                Err(fault) => {
                    assert!(!http2.unsent().is_empty(), "the client is told of {fault}");
                    outcome.fault = Some(fault.reason);
                    return outcome;
                }
            };
            used += received.used;
            let Some(event) = received.event else { break };
            outcome.happened.push(format!("{event:?}"));
            answer(&mut http2, &event);
            assert!(http2.streams() <= STREAMS_MAX, "{} streams", http2.streams());
            let unsent = http2.unsent().len();
            outcome.written.extend_from_slice(http2.unsent());
            http2.sent(unsent);
            while http2.next_with_room().is_some() {}
        }
        waiting.drain(..used);
    }
    outcome
}

fn answer(http2: &mut Connection, event: &ClientEvent<'_>) {
    match event {
        ClientEvent::Request { stream, head, ended } => {
            assert!(head.fields().len() <= 2_000 / 32, "the header list is within its limit");
            http2.send_grpc_head(*stream);
            if *ended {
                respond(http2, *stream);
            }
        }
        ClientEvent::Data { stream, data, ended } => {
            http2.take(*stream, data.len());
            if *ended {
                respond(http2, *stream);
            }
        }
        ClientEvent::Ended(stream) => respond(http2, *stream),
        ClientEvent::Reset(stream, _) => assert!(!http2.is_open(*stream)),
        ClientEvent::Refused(_) | ClientEvent::Alive => {}
    }
}

fn respond(http2: &mut Connection, stream: http2::StreamKey) {
    http2.send_data(stream, Bytes::from_static(&[7; 3_000]));
    http2.send_end(stream, End::Success);
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap_or(0).to_be_bytes();
    [&len[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Conversations as clients have them.
#[must_use]
pub fn seeds() -> Vec<Vec<u8>> {
    let settings = frame(4, 0, 0, &[0, 4, 0, 0, 1, 0, 0, 1, 0, 0, 0, 200]);
    // The usual fields; the path and the authority enter the table.
    let head = b"\x83\x86\x44\x04/a/b\x41\x01x\x5f\x10application/grpc\x40\x02te\x08trailers";
    let again = b"\x83\x86\xc1\xc0\xbf\xbe";
    let call = |stream: u8, head: &[u8]| {
        let data = frame(0, 1, stream, b"\0\0\0\0\x02hi");
        [frame(1, 4, stream, head), data].concat()
    };
    let window = frame(8, 0, 1, &[0, 0, 200, 0]);
    let ping = frame(6, 0, 0, b"12345678");
    let huffman = b"\x83\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
    let mut split = frame(1, 1, 5, &huffman[..4]);
    split.extend(frame(9, 4, 5, &huffman[4..]));
    let reset = frame(3, 0, 3, &[0, 0, 0, 8]);
    let trailers = frame(1, 5, 7, b"\0\x01a\x01b");
    let open = frame(1, 4, 7, again);
    let padded = frame(0, 9, 7, b"\x02abcd\0\0");
    [
        vec![settings.clone(), call(1, head), window.clone(), call(3, again)],
        vec![settings.clone(), call(1, head), open.clone(), trailers, ping],
        vec![settings.clone(), split],
        vec![settings.clone(), call(1, head), frame(1, 4, 3, again), reset, call(5, again)],
        vec![settings, call(1, head), open, padded, window],
    ]
    .into_iter()
    .map(|frames| [&[5][..], &frames.concat()].concat())
    .collect()
}

/// There is no checksum.
#[must_use]
pub fn reseal(input: Vec<u8>) -> Vec<u8> {
    input
}
