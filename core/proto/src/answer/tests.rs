//! Answers against prost: the same content must give the same bytes, and come back from them.

use super::*;
use crate::etcdserverpb as pb;
use crate::mvccpb::KeyValue;
use prost::Message as _;

/// A small seeded generator (xorshift), so that the core needs no crate for randomness.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn number(&mut self) -> i64 {
        match self.below(4) {
            0 => 0,
            1 => i64::try_from(self.below(300)).unwrap(),
            2 => i64::from_le_bytes(self.next().to_le_bytes()),
            _ => i64::MAX,
        }
    }

    fn bytes(&mut self) -> Bytes {
        let len = [0, 1, 127, 128, 20_000][usize::try_from(self.below(5)).unwrap()];
        Bytes::from(vec![0x61; len])
    }
}

fn key_value(seeded: &mut Seeded) -> KeyValue {
    KeyValue {
        key: seeded.bytes(),
        create_revision: seeded.number(),
        mod_revision: seeded.number(),
        version: seeded.number(),
        value: seeded.bytes(),
        lease: seeded.number(),
    }
}

fn raw(kvs: &[KeyValue]) -> Vec<Bytes> {
    kvs.iter().map(|kv| kv.encode_to_vec().into()).collect()
}

fn kvs(seeded: &mut Seeded) -> Vec<KeyValue> {
    (0..seeded.below(4)).map(|_| key_value(seeded)).collect()
}

type Head = Option<pb::ResponseHeader>;

fn inner_head(revision: i64) -> Head {
    Some(pb::ResponseHeader { revision, ..pb::ResponseHeader::default() })
}

fn range(seeded: &mut Seeded) -> (RangeAnswer, pb::RangeResponse) {
    let (revision, kvs) = (seeded.number(), kvs(seeded));
    let (more, count) = (seeded.below(2) == 1, seeded.number());
    let answer = RangeAnswer { revision, kvs: raw(&kvs), more, count };
    (answer, pb::RangeResponse { header: inner_head(revision), kvs, more, count })
}

fn put(seeded: &mut Seeded) -> (PutAnswer, pb::PutResponse) {
    let revision = seeded.number();
    let prev_kv = (seeded.below(2) == 1).then(|| key_value(seeded));
    let prev = prev_kv.as_ref().map(|kv| kv.encode_to_vec().into());
    (PutAnswer { revision, prev }, pb::PutResponse { header: inner_head(revision), prev_kv })
}

fn delete(seeded: &mut Seeded) -> (DeleteAnswer, pb::DeleteRangeResponse) {
    let (revision, deleted, prev_kvs) = (seeded.number(), seeded.number(), kvs(seeded));
    let answer = DeleteAnswer { revision, deleted, prevs: raw(&prev_kvs) };
    (answer, pb::DeleteRangeResponse { header: inner_head(revision), deleted, prev_kvs })
}

fn txn(seeded: &mut Seeded, depth: u64) -> (TxnAnswer, pb::TxnResponse) {
    use pb::response_op::Response;
    let (revision, succeeded) = (seeded.number(), seeded.below(2) == 1);
    let (mut answers, mut responses) = (Vec::new(), Vec::new());
    for _ in 0..seeded.below(4) {
        let (answer, response) = match seeded.below(if depth == 0 { 3 } else { 4 }) {
            0 => {
                let (answer, response) = range(seeded);
                (OpAnswer::Range(answer), Response::ResponseRange(response))
            }
            1 => {
                let (answer, response) = put(seeded);
                (OpAnswer::Put(answer), Response::ResponsePut(response))
            }
            2 => {
                let (answer, response) = delete(seeded);
                (OpAnswer::Delete(answer), Response::ResponseDeleteRange(response))
            }
            _ => {
                let (answer, response) = txn(seeded, depth - 1);
                (OpAnswer::Txn(answer), Response::ResponseTxn(response))
            }
        };
        answers.push(answer);
        responses.push(pb::ResponseOp { response: Some(response) });
    }
    let answer = TxnAnswer { revision, succeeded, responses: answers };
    (answer, pb::TxnResponse { header: inner_head(revision), succeeded, responses })
}

const ORIGIN: Origin =
    Origin { cluster_id: u64::MAX, member_id: 0x8e9e_05c5_2164_694d, raft_term: 7 };

fn outer(head: &mut Head) {
    let head = head.as_mut().unwrap();
    head.cluster_id = ORIGIN.cluster_id;
    head.member_id = ORIGIN.member_id;
    head.raft_term = ORIGIN.raft_term;
}

#[test]
fn answers_have_the_bytes_of_prost() {
    for seed in 1..2_000u64 {
        let seeded = &mut Seeded(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));

        let (answer, mut response) = range(seeded);
        outer(&mut response.header);
        let bytes = answer.encode(ORIGIN).to_bytes();
        assert_eq!(bytes, response.encode_to_vec(), "seed {seed}");
        assert_eq!(pb::RangeResponse::decode(bytes).unwrap(), response, "seed {seed}");

        let (answer, mut response) = put(seeded);
        outer(&mut response.header);
        assert_eq!(answer.encode(ORIGIN).to_bytes(), response.encode_to_vec(), "seed {seed}");

        let (answer, mut response) = delete(seeded);
        outer(&mut response.header);
        assert_eq!(answer.encode(ORIGIN).to_bytes(), response.encode_to_vec(), "seed {seed}");

        let (answer, mut response) = txn(seeded, 5);
        outer(&mut response.header);
        let encoding = answer.encode(ORIGIN);
        let bytes = encoding.to_bytes();
        assert_eq!(bytes.len(), encoding.len(), "seed {seed}");
        assert_eq!(bytes, response.encode_to_vec(), "seed {seed}");
        assert_eq!(pb::TxnResponse::decode(bytes).unwrap(), response, "seed {seed}");
    }
}

#[test]
fn a_nested_transaction_without_a_revision_has_an_empty_header() {
    let inner = TxnAnswer { revision: 0, succeeded: true, responses: Vec::new() };
    let answer = TxnAnswer { revision: 2, succeeded: false, responses: vec![OpAnswer::Txn(inner)] };
    let bytes = answer.encode(Origin::default()).to_bytes();
    assert_eq!(bytes, [0x0a, 2, 0x18, 2, 0x1a, 6, 0x22, 4, 0x0a, 0, 0x10, 1][..]);
}

#[test]
fn deep_nesting_is_measured_once() {
    let mut answer = TxnAnswer::default();
    for _ in 0..1_000 {
        answer = TxnAnswer { responses: vec![OpAnswer::Txn(answer)], ..TxnAnswer::default() };
    }
    let encoding = answer.encode(ORIGIN);
    assert_eq!(encoding.to_bytes().len(), encoding.len());
}
