//! The checks at the end of a run.

use super::group::Group;
use super::leases::LEASED;
use super::load::RANGE;
use super::probe::PREFIX;
use super::watchers::{Received, revision};
use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use proto::etcdserverpb::RangeRequest;
use proto::mvccpb::{Event, KeyValue, event::EventType};
use sim::kv::calls::{KvAnswer, KvHistory, Operation, Part};
use sim::kv::{registers, revisions, whole};
use sim::linearizable::Verdict;
use std::collections::{BTreeMap, BTreeSet};

/// The maximum number of steps of a search for a linearization.
const STEPS_MAX: u64 = 20_000_000;

/// Checks that all members have the same keys, and that these follow from the watchers' events.
/// Returns the hash.
pub(super) async fn equal(group: &Group, told: &[Received], last: i64) -> Result<u32> {
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

/// Checks that every watcher received the same events: every revision once, in order.
pub(super) fn complete(told: &[Received], last: i64) -> Result<()> {
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

/// Checks that every acknowledged write is among the events, at its revision.
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

/// The revisions that were not made by the clients of the load, with the earliest time of each.
pub(super) fn others(group: &Group, events: &[Event]) -> Vec<(i64, u64)> {
    let writes = group.probes.writes();
    let probes = events.iter().filter_map(|event| {
        let is_other = |key: &[u8]| [PREFIX, LEASED].iter().any(|prefix| key.starts_with(prefix));
        let kv = event.kv.as_ref().filter(|kv| is_other(&kv.key))?;
        Some((kv.mod_revision, writes.get(&kv.key).map_or(0, |(begun, _)| *begun)))
    });
    probes.collect()
}

/// Finds out from the events whether puts without an answer were executed. Each put has a value of
/// its own: if an event has that value, the put was executed at the event's revision; otherwise it
/// was not executed. Without this, the search would try each such put at every position. Deletions,
/// and transactions that also read, stay without an answer. [`complete`] must hold.
pub(super) fn settle(history: &mut KvHistory, events: &[Event]) {
    let mut put_at: BTreeMap<(&[u8], &[u8]), i64> = BTreeMap::new();
    for kv in events.iter().filter(|it| it.r#type() == EventType::Put).flat_map(|it| &it.kv) {
        put_at.insert((&kv.key, &kv.value), kv.mod_revision);
    }
    history.calls.retain_mut(|timed| {
        let answered = &mut timed.call;
        let (None, Some(Operation::Put(key, value))) =
            (&answered.answer, answered.call.then.first())
        else {
            return true;
        };
        let Some(revision) = put_at.get(&(&key[..], &value[..])) else { return false };
        if answered.call.then.len() == 1 {
            let parts = vec![Part::Put];
            answered.answer = Some(KvAnswer { revision: *revision, succeeded: true, parts });
        }
        true
    });
}

/// Checks that the history is linearizable: for each key, and as a whole. Returns the number of
/// searches that were given up.
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

#[cfg(test)]
mod tests {
    use super::*;
    use proto::mvccpb::KeyValue;
    use sim::kv::calls::{Answered, KvCall};
    use sim::linearizable::Timed;

    fn put(value: &'static str) -> KvCall {
        KvCall::one(Operation::Put("k/00".into(), value.into()))
    }

    fn event(value: &'static str, mod_revision: i64) -> Event {
        let (key, value) = ("k/00".into(), value.into());
        let kv = KeyValue { key, value, mod_revision, ..KeyValue::default() };
        Event { kv: Some(kv), ..Event::default() }
    }

    fn timed(call: KvCall, answer: Option<KvAnswer>) -> Timed<Answered> {
        let ended = answer.as_ref().map(|_| 2);
        Timed { begun: 1, ended, call: Answered { client: 0, call, answer } }
    }

    #[test]
    fn an_unknown_put_has_the_revision_of_its_event_or_did_not_happen() {
        let delete = KvCall::one(Operation::Delete("k/00".into()));
        let calls = vec![timed(put("a"), None), timed(put("b"), None), timed(delete, None)];
        let mut history = KvHistory { calls, ..KvHistory::default() };
        settle(&mut history, &[event("a", 2)]);
        let answers: Vec<_> = history
            .calls
            .iter()
            .map(|it| (it.ended, it.call.answer.as_ref().map(|answer| answer.revision)))
            .collect();
        assert_eq!(answers, [(None, Some(2)), (None, None)]);
    }

    #[test]
    fn a_gap_in_what_a_watcher_was_told_is_found() {
        let told = |events| vec![Received { events, ..Received::default() }];
        assert!(complete(&told(vec![event("a", 2), event("b", 3)]), 3).is_ok());
        assert!(complete(&told(vec![event("a", 2), event("b", 4)]), 4).is_err());
        assert!(complete(&told(vec![event("a", 2), event("b", 2)]), 2).is_err());
        assert!(complete(&told(vec![event("a", 2)]), 3).is_err());
    }

    #[test]
    fn a_read_that_misses_an_acknowledged_write_is_found() {
        let wrote = KvAnswer { revision: 2, succeeded: true, parts: vec![Part::Put] };
        let read = KvAnswer { revision: 2, succeeded: true, parts: vec![Part::Keys(Vec::new())] };
        let get = KvCall::one(Operation::Get("k/00".into()));
        let mut late = timed(get, Some(read));
        (late.begun, late.ended) = (3, Some(4));
        let calls = vec![timed(put("a"), Some(wrote)), late];
        assert!(linearizable(&KvHistory { calls, ..KvHistory::default() }).is_err());
    }
}
