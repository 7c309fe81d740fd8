//! `txn-put` and `txn-mixed`.
//!
//! Source: etcd v3.7.1 tools/benchmark/cmd/{txn_put,txn_mixed}.go.

use crate::bench::{Bench, never};
use crate::failure::CommandResult;
use crate::keys::{Keys, Random};
use crate::output;
use crate::range::{consistency, is_serializable};
use bytes::Bytes;
use client::{Client, from_key};
use load::{Results, Start};
use proto::etcdserverpb as pb;
use proto::etcdserverpb::request_op::Request;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::time::Instant;

pub(crate) async fn put(bench: &mut Bench) -> CommandResult {
    let space = bench.at_least("key-space-size", 1)?;
    let operations = bench.at_least("txn-ops", 0)?;
    if operations > space {
        return Err(format!(
            "expected --txn-ops no larger than --key-space-size, got txn-ops({operations}) \
             key-space-size({space})"
        )
        .into());
    }
    let keys = Keys::new(bench.size("key-size"), space)?;
    let (pace, clients) = (bench.pace()?, bench.clients().await?);
    let value = Random::new().bytes(bench.size("val-size"));
    let request = move |client: Client, number: u64| {
        let first = number * operations;
        let puts = (first..first + operations).map(|number| put_of(&keys, number, &value));
        let txn = pb::TxnRequest { success: puts.collect(), ..pb::TxnRequest::default() };
        async move { client.txn(txn).await.map(drop).map_err(|error| error.to_string()) }
    };
    let results = load::run(clients, pace, &never(), request).await;
    output::line(&bench.report("txn-put", results)?);
    Ok(())
}

fn put_of(keys: &Keys, number: u64, value: &Bytes) -> pb::RequestOp {
    let (key, value) = (keys.key(number), value.clone());
    let put = pb::PutRequest { key, value, ..pb::PutRequest::default() };
    pb::RequestOp { request: Some(Request::RequestPut(put)) }
}

/// The results of reads and writes.
struct Both {
    reads: Mutex<Results>,
    writes: Mutex<Results>,
}

pub(crate) async fn mixed(bench: &mut Bench) -> CommandResult {
    let keys = Keys::new(bench.size("key-size"), bench.at_least("key-space-size", 1)?)?;
    let read = read_of(bench)?;
    let ratio = bench.flags.float("rw-ratio");
    let reads_share = ratio / (1.0 + ratio);
    output::line(consistency(is_serializable(bench)?));
    let (pace, clients) = (bench.pace()?, bench.clients().await?);
    let random = Random::new();
    let value = random.bytes(bench.size("val-size"));
    let start = Start::now();
    let new = || Mutex::new(Results::since(start));
    let both = Arc::new(Both { reads: new(), writes: new() });
    let kept = Arc::clone(&both);
    let request = move |client: Client, number: u64| {
        let reads = random.share(number) < reads_share;
        let operation = if reads { read.clone() } else { put_of(&keys, number, &value) };
        let both = Arc::clone(&kept);
        async move {
            let sent = Instant::now();
            let txn = pb::TxnRequest { success: vec![operation], ..pb::TxnRequest::default() };
            let done = client.txn(txn).await;
            let done = done.map(|_| sent.elapsed()).map_err(|error| error.to_string());
            let results = if reads { &both.reads } else { &both.writes };
            results.lock().unwrap_or_else(PoisonError::into_inner).add(sent, done);
            Ok(())
        }
    };
    load::run(clients, pace, &never(), request).await;
    for (name, kind, results) in
        [("txn-mixed-read", "Read", &both.reads), ("txn-mixed-write", "Write", &both.writes)]
    {
        let results = results.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let count = results.count();
        let text = bench.report(name, results)?;
        output::line(&format!("Total {kind} Ops: {count}\nDetails:{text}"));
    }
    Ok(())
}

/// The read of `txn-mixed`: all keys, or those before `--end-key`.
fn read_of(bench: &Bench) -> CommandResult<pb::RequestOp> {
    let end = bench.flags.bytes("end-key");
    let range_end = if end.is_empty() { from_key() } else { end.to_vec() };
    let range = pb::RangeRequest {
        key: Bytes::from_static(&[0]),
        range_end: range_end.into(),
        limit: bench.flags.int("limit"),
        serializable: is_serializable(bench)?,
        ..pb::RangeRequest::default()
    };
    Ok(pb::RequestOp { request: Some(Request::RequestRange(range)) })
}
