//! Streams of messages cut into pieces in every way.

use super::*;
use http_body::Frame;
use std::collections::VecDeque;

/// A body of given pieces.
struct Pieces(VecDeque<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }
}

fn messages(pieces: &[&[u8]], max: usize) -> Messages<Pieces> {
    let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
    Messages::new(Pieces(pieces), max)
}

/// Reads all messages of a body that never waits.
fn all(mut messages: Messages<Pieces>) -> Result<Vec<Bytes>, Status> {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let mut got = Vec::new();
    loop {
        match messages.poll_next(&mut cx) {
            Poll::Ready(Ok(Some(message))) => got.push(message),
            Poll::Ready(Ok(None)) => return Ok(got),
            Poll::Ready(Err(status)) => return Err(status),
            Poll::Pending => panic!("pieces never wait"),
        }
    }
}

fn stream(messages: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        bytes.extend_from_slice(&prefix(message.len()));
        bytes.extend_from_slice(message);
    }
    bytes
}

#[test]
fn messages_come_out_whole_wherever_the_data_is_cut() {
    let want: [&[u8]; 4] = [b"one", b"", b"three", b"x"];
    let bytes = stream(&want);
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
            assert_eq!(all(messages(&pieces, 5)).unwrap(), want, "{first} {second}");
        }
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(all(messages(&single, 5)).unwrap(), want);
}

#[test]
fn a_message_in_one_piece_is_not_copied() {
    let bytes = Bytes::from(stream(&[b"payload"]));
    let at = bytes[PREFIX_LEN..].as_ptr();
    let got = all(Messages::new(Pieces([bytes].into()), 100)).unwrap();
    assert_eq!(got[0].as_ptr(), at);
}

#[test]
fn what_is_too_long_is_refused_before_it_has_come() {
    let status = all(messages(&[&[0, 0, 0x10, 0, 0]], 1_000_000)).unwrap_err();
    assert_eq!(status.code, Code::ResourceExhausted);
    assert_eq!(status.message, "grpc: received message larger than max (1048576 vs. 1000000)");
    let status = all(messages(&[&[0, 0xff], &[0xff, 0xff, 0xff]], 7)).unwrap_err();
    assert_eq!(status.message, "grpc: received message larger than max (4294967295 vs. 7)");
}

#[test]
fn a_stream_that_stops_inside_a_message_is_told() {
    let bytes = stream(&[b"one", b"two"]);
    for end in 1..bytes.len() {
        let got = all(messages(&[&bytes[..end]], 10));
        assert_eq!(got.is_ok(), end == 8, "{end}");
        assert_eq!(
            got.unwrap_or_else(|status| {
                assert_eq!(status, Status::new(Code::Unknown, "unexpected EOF"));
                vec![Bytes::from_static(b"one")]
            }),
            [&b"one"[..]]
        );
    }
}

#[test]
fn compressions_that_are_not_supported_are_refused() {
    let status = all(messages(&[&[1, 0, 0, 0, 0]], 9)).unwrap_err();
    assert_eq!(status.message, "grpc: compressed flag set with identity or empty encoding");
    let status = all(messages(&[&[7, 0, 0, 0, 0]], 9)).unwrap_err();
    assert_eq!(status.message, "grpc: received unexpected payload format 7");

    let mut headers = HeaderMap::new();
    assert_eq!(check_encoding(&headers), Ok(()));
    headers.insert("grpc-encoding", "gzip".parse().unwrap());
    assert_eq!(check_encoding(&headers), Ok(()));
    headers.insert("grpc-encoding", "snappy".parse().unwrap());
    let status = check_encoding(&headers).unwrap_err();
    assert_eq!(status.code, Code::Unimplemented);
    assert_eq!(status.message, "grpc: Decompressor is not installed for grpc-encoding \"snappy\"");
}

#[test]
fn broken_messages_have_the_errors_of_grpc_go() {
    let status = decode::<proto::etcdserverpb::PutRequest>(vec![0xff].into()).unwrap_err();
    assert_eq!(status.code, Code::Internal);
    assert_eq!(
        status.message,
        "grpc: error unmarshalling request: proto: cannot parse invalid wire-format data"
    );
    let name = vec![0x0a, 1, 0xff].into();
    let status = decode::<proto::etcdserverpb::AuthenticateRequest>(name).unwrap_err();
    assert_eq!(
        status.message,
        "grpc: error unmarshalling request: string field contains invalid UTF-8"
    );
}

#[test]
fn a_cut_is_within_a_message_except_between_two() {
    let bytes = [&prefix(3)[..], b"abc", &prefix(0), &prefix(1), b"d"].concat();
    let between = [0, 8, 13, 19];
    for first in 0..=bytes.len() {
        for second in first..=bytes.len() {
            let mut position = MessagePosition::default();
            position.advance(&bytes[..first]);
            position.advance(&bytes[first..second]);
            assert_eq!(
                position.is_within_message(),
                !between.contains(&second),
                "{first} {second}"
            );
        }
    }
}
