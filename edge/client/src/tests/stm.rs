//! Transactional memory: what each isolation reads and compares.

use super::run;
use super::server::{Hosts, Listener, Server};
use crate::{Client, Isolation, Stm};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::compare::{CompareResult, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::mvccpb::KeyValue;
use std::sync::Arc;

async fn one() -> (Client, Listener) {
    let hosts = Arc::new(Hosts::default());
    let listener = hosts.listen("a");
    (hosts.client(&["a"]).await, listener)
}

/// Responds to a transaction of reads at a revision: each key was changed at the revision given for
/// it, or does not exist if that is 0. Returns the request.
async fn answer(server: &mut Server, succeeded: bool, at: i64, changed: &[i64]) -> pb::TxnRequest {
    let (call, request) = server.unary::<pb::TxnRequest>("KV/Txn").await;
    let responses = changed.iter().map(|mod_revision| {
        let value = format!("of {mod_revision}").into();
        let kv = KeyValue { mod_revision: *mod_revision, value, ..KeyValue::default() };
        let kvs = if *mod_revision > 0 { vec![kv] } else { Vec::new() };
        let range = pb::RangeResponse { kvs, ..pb::RangeResponse::default() };
        pb::ResponseOp { response: Some(pb::response_op::Response::ResponseRange(range)) }
    });
    call.finish(&pb::TxnResponse {
        header: Some(pb::ResponseHeader { revision: at, ..pb::ResponseHeader::default() }),
        succeeded,
        responses: responses.collect(),
    });
    request
}

/// Reads as `KEY@REVISION`, with an `s` if they are serializable.
fn reads(operations: &[pb::RequestOp]) -> Vec<String> {
    let shown = operations.iter().map(|operation| {
        let Some(Request::RequestRange(range)) = &operation.request else { panic!("no read") };
        let key = String::from_utf8_lossy(&range.key).into_owned();
        format!("{key}@{}{}", range.revision, if range.serializable { "s" } else { "" })
    });
    shown.collect()
}

/// Comparisons as `KEY=REVISION` and `KEY<REVISION`.
fn comparisons(txn: &pb::TxnRequest) -> Vec<String> {
    let shown = txn.compare.iter().map(|compare| {
        let Some(TargetUnion::ModRevision(revision)) = compare.target_union else {
            panic!("compares something else")
        };
        let sign = if compare.result() == CompareResult::Equal { "=" } else { "<" };
        format!("{}{sign}{revision}", String::from_utf8_lossy(&compare.key))
    });
    shown.collect()
}

/// Reads `a` and `b` and writes `b` and `c`. Returns the requests: the reads and the commit.
async fn one_attempt(isolation: Isolation) -> [pb::TxnRequest; 3] {
    let (client, mut listener) = one().await;
    let task = tokio::spawn(async move {
        let mut stm = Stm::new(&client, isolation);
        assert_eq!(stm.get("a").await.unwrap().unwrap(), "of 5");
        assert_eq!(stm.get("b").await.unwrap(), None);
        stm.put("b", "new");
        // A key that was read is not read again, and a key that was written has its new value.
        assert_eq!((stm.revision("a").await.unwrap(), stm.revision("b").await.unwrap()), (5, 0));
        assert_eq!(stm.get("b").await.unwrap().unwrap(), "new");
        stm.delete("c");
        assert_eq!(stm.get("c").await.unwrap(), None);
        stm.commit().await.unwrap().expect("no conflict");
    });
    let mut server = listener.serve().await;
    let first = answer(&mut server, true, 7, &[5]).await;
    let second = answer(&mut server, true, 9, &[0]).await;
    let commit = answer(&mut server, true, 10, &[]).await;
    task.await.unwrap();
    assert_eq!(commit.success.len(), 2);
    assert!(matches!(&commit.success[0].request, Some(Request::RequestPut(put)) if put.key == "b"));
    let deletes = matches!(
        &commit.success[1].request,
        Some(Request::RequestDeleteRange(delete)) if delete.key == "c"
    );
    assert!(deletes);
    [first, second, commit]
}

#[test]
fn a_snapshot_reads_one_revision_and_compares_what_it_writes() {
    run(async {
        let [first, second, commit] = one_attempt(Isolation::SerializableSnapshot).await;
        assert_eq!(reads(&first.success), ["a@0"]);
        assert_eq!(reads(&second.success), ["b@7s"]);
        assert_eq!(comparisons(&commit), ["a=5", "b=0", "b<8", "c<8"]);
        assert_eq!(reads(&commit.failure), ["a@0", "b@0"]);
    });
}

#[test]
fn a_serializable_transaction_compares_what_it_read() {
    run(async {
        let [first, second, commit] = one_attempt(Isolation::Serializable).await;
        assert_eq!(
            (reads(&first.success), reads(&second.success)),
            (vec!["a@0".to_string()], vec!["b@7s".to_string()])
        );
        assert_eq!(comparisons(&commit), ["a=5", "b=0"]);
    });
}

#[test]
fn weaker_isolations_read_the_latest_state_of_any_member() {
    run(async {
        for (isolation, expected) in
            [(Isolation::RepeatableReads, vec!["a=5", "b=0"]), (Isolation::ReadCommitted, vec![])]
        {
            let [first, second, commit] = one_attempt(isolation).await;
            assert_eq!(reads(&first.success), ["a@0s"]);
            assert_eq!(reads(&second.success), ["b@0s"]);
            assert_eq!(comparisons(&commit), expected);
            assert_eq!(commit.failure, []);
        }
    });
}

#[test]
fn after_a_conflict_the_keys_are_known_already() {
    run(async {
        let (client, mut listener) = one().await;
        let task = tokio::spawn(async move {
            let mut stm = Stm::new(&client, Isolation::SerializableSnapshot);
            stm.prefetch(["a", "b", "a"]).await.unwrap();
            assert_eq!(stm.get("a").await.unwrap().unwrap(), "of 5");
            stm.put("a", "1");
            assert_eq!(stm.commit().await.unwrap(), None);
            // The writes are gone, and `a` needs no request.
            assert_eq!(stm.get("a").await.unwrap().unwrap(), "of 8");
            assert_eq!(stm.get("new").await.unwrap(), None);
            stm.put("a", "2");
            stm.commit().await.unwrap().expect("no conflict");
        });
        let mut server = listener.serve().await;
        let prefetch = answer(&mut server, true, 7, &[5, 6]).await;
        assert_eq!(reads(&prefetch.success), ["a@0", "b@0"]);
        let lost = answer(&mut server, false, 8, &[8, 6]).await;
        assert_eq!(comparisons(&lost), ["a=5", "b=6", "a<8"]);
        let read = answer(&mut server, true, 9, &[0]).await;
        assert_eq!(reads(&read.success), ["new@8s"]);
        let won = answer(&mut server, true, 9, &[]).await;
        assert_eq!(comparisons(&won), ["a=8", "new=0", "a<9"]);
        task.await.unwrap();
    });
}

#[test]
fn a_key_that_is_known_from_the_last_attempt_is_read_again_at_another_revision() {
    run(async {
        let (client, mut listener) = one().await;
        let task = tokio::spawn(async move {
            let mut stm = Stm::new(&client, Isolation::Serializable);
            stm.get("a").await.unwrap();
            assert_eq!(stm.commit().await.unwrap(), None);
            stm.get("new").await.unwrap();
            assert_eq!(stm.get("a").await.unwrap().unwrap(), "of 11");
        });
        let mut server = listener.serve().await;
        answer(&mut server, true, 7, &[5]).await;
        answer(&mut server, false, 8, &[8]).await;
        let read = answer(&mut server, true, 12, &[0]).await;
        assert_eq!(reads(&read.success), ["new@0"]);
        let again = answer(&mut server, true, 12, &[11]).await;
        assert_eq!(reads(&again.success), ["a@12s"]);
        task.await.unwrap();
    });
}
