//! What must hold at the end.

use super::group::Group;
use super::load::RANGE;
use super::probe::PREFIX;
use super::watchers::{Told, revision};
use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use proto::etcdserverpb::RangeRequest;
use proto::mvccpb::{Event, KeyValue, event::EventType};
use sim::kv::calls::{KvHistory, Operation, Part};
use sim::kv::{registers, revisions, whole};
use sim::linearizable::Verdict;
use std::collections::{BTreeMap, BTreeSet};

/// The steps of a search for an order.
const STEPS_MAX: u64 = 20_000_000;

/// All members have the same keys: those that the watchers were told. Returns the hash.
pub(super) async fn equal(group: &Group, told: &[Told], last: i64) -> Result<u32> {
    let mut model: BTreeMap<&Bytes, &KeyValue> = BTreeMap::new();
    for event in &told[0].events {
        let kv = event.kv.as_ref().context("an event without a key")?;
        match event.r#type() {
            EventType::Put => model.insert(&kv.key, kv),
            EventType::Delete => model.remove(&kv.key),
        };
    }
    let mut hashes = BTreeSet::new();
    for node in &group.nodes {
        for serializable in [false, true] {
            let all = RangeRequest {
                key: Bytes::from_static(b"\0"),
                range_end: Bytes::from_static(b"\0"),
                serializable,
                ..RangeRequest::default()
            };
            let mut kv = node.kv()?.max_decoding_message_size(usize::MAX);
            let found = kv.range(all).await?.into_inner().kvs;
            let differs = found.iter().ne(model.values().copied());
            ensure!(
                !differs,
                "{} has {} keys, which are not the {} that the watchers were told",
                node.name,
                found.len(),
                model.len()
            );
        }
        hashes.insert(node.hash(last).await?);
    }
    ensure!(hashes.len() == 1, "the hashes of the members differ: {hashes:x?}");
    hashes.first().copied().context("no member")
}

/// Every watcher was told every revision once, in order, and the same.
pub(super) fn complete(told: &[Told], last: i64) -> Result<()> {
    for (at, told) in told.iter().enumerate() {
        let mut reached = 1;
        let mut keys = BTreeSet::new();
        for event in &told.events {
            let now = revision(event);
            if now != reached {
                ensure!(
                    now == reached + 1,
                    "the watcher of m{at} was told revision {now} after {reached}"
                );
                reached = now;
                keys.clear();
            }
            let key = event.kv.as_ref().map(|kv| kv.key.clone());
            ensure!(keys.insert(key), "the watcher of m{at} was told twice: {event:?}");
        }
        ensure!(
            reached == last,
            "the watcher of m{at} was told up to {reached}, the last revision is {last}"
        );
    }
    for (at, other) in told.iter().enumerate().skip(1) {
        let differs = told[0].events.iter().zip(&other.events).find(|(one, two)| one != two);
        ensure!(differs.is_none(), "the watchers of m0 and m{at} differ: {differs:?}");
    }
    Ok(())
}

/// Every acknowledged write is among the events, at its revision.
pub(super) fn nothing_lost(group: &Group, history: &KvHistory, events: &[Event]) -> Result<u64> {
    let mut put: BTreeMap<(&[u8], i64), &Bytes> = BTreeMap::new();
    for kv in events.iter().filter(|it| it.r#type() == EventType::Put).flat_map(|it| &it.kv) {
        put.insert((&kv.key, kv.mod_revision), &kv.value);
    }
    let mut writes = 0;
    for timed in &history.calls {
        let Some(answer) = &timed.call.answer else { continue };
        let call = &timed.call.call;
        let done = if answer.succeeded { &call.then } else { &call.otherwise };
        for (operation, part) in done.iter().zip(&answer.parts) {
            if let (Operation::Put(key, value), Part::Put) = (operation, part) {
                writes += 1;
                let stored = put.get(&(key, answer.revision));
                ensure!(
                    stored == Some(&value),
                    "an acknowledged write is lost: {timed:?}; at its revision is {stored:?}"
                );
            }
        }
    }
    for (key, (_, acknowledged)) in group.probes.writes().iter() {
        let Some(at) = acknowledged else { continue };
        writes += 1;
        ensure!(
            put.contains_key(&(key, *at)),
            "an acknowledged write is lost: {key:?} at revision {at}"
        );
    }
    Ok(writes)
}

/// The revisions that others than the clients made, with the earliest times of those.
pub(super) fn others(group: &Group, events: &[Event]) -> Vec<(i64, u64)> {
    let writes = group.probes.writes();
    let probes = events.iter().filter_map(|event| {
        let kv = event.kv.as_ref().filter(|kv| kv.key.starts_with(PREFIX))?;
        Some((kv.mod_revision, writes.get(&kv.key).map_or(0, |(begun, _)| *begun)))
    });
    probes.collect()
}

/// The history is linearizable. Returns the number of searches that were given up.
pub(super) fn linearizable(history: &KvHistory) -> Result<u64> {
    if let Err(fault) = revisions::check(history) {
        bail!("the revisions: {fault}");
    }
    let mut undecided = match registers::check(history, STEPS_MAX) {
        Ok(undecided) => undecided,
        Err(fault) => bail!("the registers: {fault}"),
    };
    match whole::check(history, STEPS_MAX) {
        Ok(verdict) => undecided += u64::from(verdict == Verdict::Undecided),
        Err(fault) => bail!("the whole: {fault}"),
    }
    Ok(undecided)
}

/// The range of all keys of the clients.
pub(super) fn everything() -> Operation {
    Operation::Range(Bytes::from_static(RANGE.0), Bytes::from_static(RANGE.1))
}
