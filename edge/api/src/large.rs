//! A large range response. Its length is sent first. Its key-values are read while it is sent, so
//! the client's HTTP/2 window bounds the memory that it takes.

use crate::held::HeldSource;
use crate::host::{Item, Items, LargeRange};
use bytes::Bytes;
use proto::answer::{Header, Origin, RangeAnswer, Sink, field_len, put_field_head};
use rpc::body::{PIECE_MAX, Source};
use rpc::frame::{PREFIX_LEN, check_sent, prefix};
use rpc::{Code, Segments, Status};
use std::collections::VecDeque;
use std::task::{Context, Poll};

/// The body.
///
/// Invariant: either exactly as many bytes as the prefix announces are sent, or the stream ends with
/// an error.
pub(crate) struct LargeBody {
    items: Box<dyn Items>,
    /// The encoded fields after the items: `more` and `count`.
    tail: Bytes,
    /// Bytes of items that are still to come.
    items_left: usize,
    message_len: usize,
    pieces: VecDeque<Bytes>,
    done: bool,
}

impl LargeBody {
    /// # Errors
    /// When the message is too long to be sent.
    pub(crate) fn new(large: LargeRange, origin: Origin) -> Result<LargeBody, Status> {
        let LargeRange { answer, items_len, items } = large;
        let header = Header::new(origin, answer.revision);
        let tail = tail_of(&answer);
        let len = field_len(header.bytes().len()) + items_len + tail.len();
        check_sent(len)?;
        let mut head = Vec::with_capacity(PREFIX_LEN + 2 + header.bytes().len());
        head.extend_from_slice(&prefix(len));
        put_field_head(0x0a, header.bytes().len(), &mut head);
        head.extend_from_slice(header.bytes());
        let pieces = VecDeque::from([Bytes::from(head)]);
        let (items_left, message_len) = (items_len, len);
        Ok(LargeBody { items, tail, items_left, message_len, pieces, done: false })
    }

    /// Reads items for about one piece. Returns true if the task should yield first.
    fn fill(&mut self) -> Result<bool, Status> {
        let mut segments = Segments::new();
        let mut yields = false;
        while segments.len() < PIECE_MAX {
            match self.items.next()? {
                Item::Next(item) => {
                    let len = field_len(item.len());
                    let Some(left) = self.items_left.checked_sub(len) else {
                        return Err(wrong_length());
                    };
                    self.items_left = left;
                    put_field_head(0x12, item.len(), &mut segments);
                    segments.shared(&item);
                }
                Item::Yield => {
                    yields = true;
                    break;
                }
                Item::End => {
                    if self.items_left > 0 {
                        return Err(wrong_length());
                    }
                    segments.slice(&self.tail);
                    self.done = true;
                    break;
                }
            }
        }
        self.pieces.extend(segments.into_pieces());
        Ok(yields)
    }
}

/// The encoded fields after the key-values.
fn tail_of(answer: &RangeAnswer) -> Bytes {
    let nothing = RangeAnswer { kvs: Vec::new(), revision: 0, ..*answer };
    // Skips the empty header field, which takes two bytes.
    nothing.encode(Origin::default()).to_bytes().slice(2..)
}

/// The status when the index announced a wrong length. This is a bug; ending the stream keeps the
/// client from reading a garbled message.
fn wrong_length() -> Status {
    Status::new(
        Code::Internal,
        "retcd: the length of the range differs from the length in the index",
    )
}

impl Source for LargeBody {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Status>>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Poll::Ready(Some(Ok(piece)));
            }
            if self.done {
                return Poll::Ready(None);
            }
            match self.fill() {
                Err(status) => return Poll::Ready(Some(Err(status))),
                Ok(true) => {
                    cx.waker().wake_by_ref();
                    if self.pieces.is_empty() {
                        return Poll::Pending;
                    }
                }
                Ok(false) => {}
            }
        }
    }

    fn message_len(&self) -> usize {
        self.message_len
    }
}

impl HeldSource for LargeBody {}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;
    use proto::etcdserverpb::RangeResponse;
    use proto::mvccpb::KeyValue;

    struct Given(Vec<Item>);

    impl Items for Given {
        fn next(&mut self) -> Result<Item, Status> {
            Ok(if self.0.is_empty() { Item::End } else { self.0.remove(0) })
        }
    }

    fn body(values: &[usize], lie: usize) -> LargeBody {
        range(values, lie).unwrap()
    }

    fn range(values: &[usize], lie: usize) -> Result<LargeBody, Status> {
        let mut items = Vec::new();
        let mut items_len = lie;
        for len in values {
            let kv = KeyValue { value: vec![7; *len].into(), ..KeyValue::default() };
            let item = Bytes::from(kv.encode_to_vec());
            items_len += field_len(item.len());
            items.push(Item::Next(item));
            items.push(Item::Yield);
        }
        let answer = RangeAnswer { revision: 5, more: true, count: 300, ..Default::default() };
        let origin = Origin { cluster_id: 1, member_id: 2, raft_term: 3 };
        LargeBody::new(LargeRange { answer, items_len, items: Box::new(Given(items)) }, origin)
    }

    fn read(mut body: LargeBody) -> Result<Vec<u8>, Status> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut all = Vec::new();
        loop {
            match body.poll_piece(&mut cx) {
                Poll::Ready(Some(Ok(piece))) => {
                    assert!(piece.len() <= PIECE_MAX);
                    all.extend_from_slice(&piece);
                }
                Poll::Ready(Some(Err(status))) => return Err(status),
                Poll::Ready(None) => return Ok(all),
                Poll::Pending => {}
            }
        }
    }

    #[test]
    fn a_range_that_no_message_can_hold_is_refused() {
        let status = range(&[], rpc::frame::SENT_MAX).err().unwrap();
        assert_eq!(status.code, Code::ResourceExhausted);
        let why = "grpc: trying to send message larger than max (2147483662 vs. 2147483647)";
        assert_eq!(status.message, why);
    }

    #[test]
    fn a_large_range_is_the_message_that_prost_would_write() {
        let values = [10, 5_000, 0, 70_000, 200_000, 3];
        let bytes = read(body(&values, 0)).unwrap();
        assert_eq!(bytes[..PREFIX_LEN], prefix(bytes.len() - PREFIX_LEN));
        let response = RangeResponse::decode(&bytes[PREFIX_LEN..]).unwrap();
        assert_eq!(response.encode_to_vec(), bytes[PREFIX_LEN..]);
        let lens: Vec<usize> = response.kvs.iter().map(|kv| kv.value.len()).collect();
        assert_eq!((&lens[..], response.more, response.count), (&values[..], true, 300));
        assert_eq!(response.header.unwrap().revision, 5);
    }

    #[test]
    fn a_wrong_length_ends_in_an_error() {
        assert_eq!(read(body(&[10, 20], 1)).unwrap_err(), wrong_length());
        let mut short = body(&[10, 20], 0);
        short.items_left -= 1;
        assert_eq!(read(short).unwrap_err(), wrong_length());
    }
}
