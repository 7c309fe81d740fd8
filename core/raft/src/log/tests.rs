//! Examples, and a comparison with a simple model.

use super::*;
use crate::config::Config;
use bytes::Bytes;
use proto::{HardState, NodeId};
use std::collections::BTreeMap;

fn id(term: u64, index: u64) -> EntryId {
    EntryId { term: Term(term), index: Index(index) }
}

/// Entries with these terms after index `before`.
fn entries(before: u64, terms: &[u64]) -> Vec<Entry> {
    (before + 1..)
        .zip(terms)
        .map(|(index, term)| Entry { term: Term(*term), index: Index(index), ..Entry::default() })
        .collect()
}

fn limits() -> RaftLimits {
    let mut limits = Config::new(NodeId(1), 1).limits;
    limits.log_window_bytes_max = usize::MAX;
    limits
}

fn stored(base: EntryId, entries: Vec<Entry>, committed: u64, applied: u64) -> Restored {
    let hard_state = HardState { commit: Index(committed), ..HardState::default() };
    Restored { hard_state, snapshot: base, entries, applied: Index(applied), ..Restored::default() }
}

fn with(restored: Restored, limits: &RaftLimits) -> RaftLog {
    RaftLog::new(restored, limits, false).unwrap()
}

fn log(terms: &[u64]) -> RaftLog {
    with(stored(EntryId::default(), entries(0, terms), 0, 0), &limits())
}

fn terms(log: &RaftLog) -> Vec<u64> {
    log.window.iter().map(|entry| entry.term.0).collect()
}

#[test]
fn conflicting_entries_are_dropped_and_agreeing_ones_kept() {
    // The terms of the stored log, the entry before the leader's entries, their terms, the agreed
    // index, and the terms of the log afterwards.
    type Case = (&'static [u64], (u64, u64), &'static [u64], Option<u64>, &'static [u64]);
    let cases: [Case; 8] = [
        (&[1, 1, 2], (2, 3), &[2, 3], Some(5), &[1, 1, 2, 2, 3]),
        (&[1, 1, 2], (1, 1), &[1, 2], Some(3), &[1, 1, 2]),
        (&[1, 1, 2], (1, 1), &[1], Some(2), &[1, 1, 2]),
        (&[1, 1, 2], (1, 1), &[3], Some(2), &[1, 3]),
        (&[1, 1, 2], (1, 2), &[3, 3], Some(4), &[1, 1, 3, 3]),
        (&[1, 1, 2], (1, 2), &[], Some(2), &[1, 1, 2]),
        (&[1, 1, 2], (1, 3), &[3], None, &[1, 1, 2]),
        (&[1, 1, 2], (2, 4), &[3], None, &[1, 1, 2]),
    ];
    for (stored, prev, sent, agreed, then) in cases {
        let mut log = log(stored);
        let found = log.accept(id(prev.0, prev.1), entries(prev.1, sent)).unwrap();
        assert_eq!(found, agreed.map(Index), "{stored:?} {prev:?} {sent:?}");
        assert_eq!(terms(&log), then, "{stored:?} {prev:?} {sent:?}");
        log.check();
    }
}

#[test]
fn entries_that_conflict_with_committed_ones_are_refused() {
    let mut log = log(&[1, 1, 2]);
    log.commit_to(Index(2));
    assert!(log.accept(id(1, 1), entries(1, &[2])).is_err());
    assert_eq!(terms(&log), [1, 1, 2]);
    log.check();
}

#[test]
fn a_finished_write_of_overwritten_entries_does_not_count() {
    let mut log = log(&[1]);
    log.append(entries(1, &[1, 1]).into_iter());
    assert_eq!(log.take_unwritten().len(), 2);
    log.accept(id(1, 1), entries(1, &[2])).unwrap();
    for late in [id(1, 3), id(1, 2)] {
        log.durable(late);
        assert_eq!(log.persisted(), Index(1));
    }
    assert_eq!(log.take_unwritten(), entries(1, &[2]));
    log.durable(id(2, 2));
    assert_eq!(log.persisted(), Index(2));
    log.check();
}

#[test]
fn entries_are_applied_only_when_they_are_durable() {
    let mut log = log(&[1]);
    log.append(entries(1, &[1, 1]).into_iter());
    log.commit_to(Index(3));
    assert_eq!(log.take_applicable(), entries(0, &[1]));
    assert!(!log.has_applicable());
    log.take_unwritten();
    assert!(!log.has_applicable());
    log.durable(id(1, 3));
    assert_eq!(log.take_applicable(), entries(1, &[1, 1]));
    log.check();
}

#[test]
fn with_the_switch_entries_are_applied_before_they_are_durable() {
    let restored = stored(EntryId::default(), Vec::new(), 0, 0);
    let mut log = RaftLog::new(restored, &limits(), true).unwrap();
    log.append(entries(0, &[1, 1]).into_iter());
    log.commit_to(Index(1));
    assert_eq!(log.take_applicable(), entries(0, &[1]));
    log.applied_to(Index(1));
    log.release(Index(1));
    assert_eq!(log.first_index(), Index(1), "it is still to be written");
    log.check();
}

#[test]
fn handed_out_entries_are_bounded_in_bytes_but_at_least_one() {
    let data = Bytes::from(vec![0; 100]);
    let big: Vec<Entry> = entries(0, &[1; 5])
        .into_iter()
        .map(|entry| Entry { data: data.clone(), ..entry })
        .collect();
    let mut limits = limits();
    (limits.committed_bytes_max, limits.applying_bytes_max) = (1, 200);
    let mut log = with(stored(EntryId::default(), big, 5, 0), &limits);
    assert_eq!(log.take_applicable().len(), 1);
    assert_eq!(log.take_applicable().len(), 1);
    assert_eq!(log.take_applicable().len(), 0, "200 bytes are with the applier");
    assert_eq!(log.applied_to(Index(2)), 200);
    assert_eq!(log.take_applicable().len(), 1);
    log.check();
}

#[test]
fn a_snapshot_replaces_the_log_and_is_applied_before_what_follows() {
    let mut log = log(&[1, 1]);
    let snapshot = RaftSnapshot { id: id(2, 9), ..RaftSnapshot::default() };
    log.restore(snapshot.clone());
    log.accept(id(2, 9), entries(9, &[2])).unwrap();
    log.commit_to(Index(10));
    assert_eq!((log.last(), log.first_index()), (id(2, 10), Index(10)));
    assert_eq!(log.take_snapshot(), Some(snapshot));
    assert_eq!(log.take_unwritten(), entries(9, &[2]));
    log.durable(id(2, 10));
    assert!(!log.has_applicable(), "the snapshot is not applied");
    log.check();
    log.snapshot_durable(Index(8));
    assert!(log.has_pending_snapshot(), "it was another one");
    log.snapshot_durable(Index(9));
    assert_eq!((log.applied(), log.take_applicable()), (Index(9), entries(9, &[2])));
    log.check();
}

#[test]
fn a_snapshot_is_applied_although_a_newer_one_arrived_before_it_was_durable() {
    let mut log = log(&[1, 1]);
    log.restore(RaftSnapshot { id: id(2, 9), ..RaftSnapshot::default() });
    assert!(log.take_snapshot().is_some());
    log.restore(RaftSnapshot { id: id(2, 12), ..RaftSnapshot::default() });
    log.snapshot_durable(Index(9));
    assert!(log.has_pending_snapshot(), "the newer one");
    log.applied_to(Index(9));
    assert_eq!((log.applied(), log.has_applicable()), (Index(9), false));
    log.check();
    assert!(log.take_snapshot().is_some());
    log.snapshot_durable(Index(12));
    assert_eq!((log.applied(), log.has_pending_snapshot()), (Index(12), false));
    log.check();
}

#[test]
fn the_window_stays_within_its_limit_and_keeps_unapplied_entries() {
    let one = memory(&entries(0, &[1])[0]);
    let limits = RaftLimits { log_window_bytes_max: 2 * one, ..limits() };
    let mut log = with(stored(EntryId::default(), entries(0, &[1; 6]), 5, 1), &limits);
    assert_eq!(log.first_index(), Index(2), "1 alone is applied");
    log.take_applicable();
    log.applied_to(Index(3));
    assert_eq!(log.first_index(), Index(4));
    log.applied_to(Index(5));
    assert_eq!((log.first_index(), log.bytes()), (Index(5), 2 * one));
    log.release(Index(100));
    assert_eq!(log.first_index(), Index(6), "6 is not applied");
    assert_eq!(log.term(Index(5)), Some(Term(1)));
    assert_eq!(log.term(Index(4)), None);
    log.check();
}

#[test]
fn entries_share_their_data_with_the_window() {
    let data = Bytes::from(vec![7; 100]);
    let mut log = log(&[]);
    log.append([Entry { data: data.clone(), ..entries(0, &[1]).remove(0) }].into_iter());
    assert_eq!(log.take_unwritten()[0].data.as_ptr(), data.as_ptr());
}

#[test]
fn an_inconsistent_stored_log_is_refused() {
    let start = EntryId::default();
    let fits = |restored: Restored| RaftLog::new(restored, &limits(), false).is_ok();
    assert!(fits(stored(start, entries(0, &[1, 2]), 0, 0)));
    assert!(!fits(stored(start, entries(1, &[1]), 0, 0)), "a gap");
    assert!(!fits(stored(start, entries(0, &[2, 1]), 0, 0)), "a falling term");
    assert!(!fits(stored(id(2, 3), entries(3, &[1]), 0, 0)), "a term below the snapshot's");
    assert!(!fits(stored(id(2, 3), entries(3, &[2]), 0, 0)), "the snapshot is not applied");
    assert!(!fits(stored(start, entries(0, &[1, 1]), 3, 0)), "a commit past the end");
    assert!(!fits(stored(start, entries(0, &[1, 1]), 0, 3)), "applied past the end");
}

#[test]
fn a_hint_skips_terms_that_cannot_match() {
    let log = log(&[1, 1, 1, 5, 5, 5]);
    assert_eq!(log.conflict_by_term(Index(6), Term(4)), id(1, 3));
    assert_eq!(log.conflict_by_term(Index(6), Term(5)), id(5, 6));
    assert_eq!(log.conflict_by_term(Index(2), Term(0)), id(0, 0));
}

/// A write in flight: the term of the node and the last entry when it was handed out.
struct InFlight {
    term: u64,
    last: EntryId,
    entries: Vec<(u64, u64)>,
}

/// The model: a disk that is written in order, entry by entry, and a log as a map.
#[derive(Default)]
struct Twin {
    /// Index to term.
    log: BTreeMap<u64, u64>,
    disk: BTreeMap<u64, u64>,
    queue: Vec<InFlight>,
    committed: u64,
}

impl Twin {
    fn put(log: &mut BTreeMap<u64, u64>, entry: (u64, u64)) {
        log.retain(|index, _| *index < entry.0);
        log.insert(entry.0, entry.1);
    }

    /// The disk after the first `count` writes in flight are finished.
    fn disk_after(&self, count: usize) -> BTreeMap<u64, u64> {
        let mut disk = self.disk.clone();
        for entry in self.queue.iter().take(count).flat_map(|write| &write.entries) {
            Twin::put(&mut disk, *entry);
        }
        disk
    }

    /// The last index at which log and disk agree, whichever of the writes in flight finish.
    fn persisted(&self) -> u64 {
        let agree = |disk: &BTreeMap<u64, u64>| {
            self.log.iter().take_while(|(index, term)| disk.get(index) == Some(term)).count() as u64
        };
        (0..=self.queue.len()).map(|count| agree(&self.disk_after(count))).min().unwrap()
    }

    /// A leader's entries after one that both logs have.
    fn accept(&mut self, new: &[Entry]) {
        let known = |entry: &&Entry| self.log.get(&entry.index.0) == Some(&entry.term.0);
        let skip = new.iter().take_while(known).count();
        for entry in &new[skip..] {
            Twin::put(&mut self.log, (entry.index.0, entry.term.0));
        }
    }
}

/// One random event of a node in `term`; returns its term after it.
fn event(random: &mut random::Random, log: &mut RaftLog, twin: &mut Twin, mut term: u64) -> u64 {
    let last = twin.log.len() as u64;
    match random.below(7) {
        0 | 1 => {
            // It leads, in a term of its own.
            term += random.below(2);
            let new = entries(last, &vec![term; 1 + random.index(3)]);
            log.append(new.clone().into_iter());
            twin.accept(&new);
        }
        2 if last > twin.committed => {
            // Another leader overwrites with entries of its own, or brings older ones back.
            term += 1;
            let at = twin.committed + random.below(last - twin.committed);
            let prev = twin.log.get(&at).copied().unwrap_or_default();
            let theirs = if random.below(2) == 0 { prev.max(1) } else { term };
            let new = entries(at, &[theirs, theirs]);
            log.accept(id(prev, at), new.clone()).unwrap();
            twin.accept(&new);
            // A node that leads next has a term of its own.
            term += 1;
        }
        3 => {
            let last = log.last();
            let taken = log.take_unwritten();
            let entries = taken.iter().map(|entry| (entry.index.0, entry.term.0)).collect();
            twin.queue.push(InFlight { term, last, entries });
        }
        4 if !twin.queue.is_empty() => {
            twin.disk = twin.disk_after(1);
            let done = twin.queue.remove(0);
            // A report of an earlier term is ignored by the node.
            if done.term == term && log.has_unpersisted() {
                log.durable(done.last);
                if twin.queue.is_empty() && !log.has_unwritten() {
                    assert_eq!(log.persisted().0, twin.persisted(), "all is durable");
                }
            }
        }
        5 => {
            twin.committed += random.below(last - twin.committed + 1);
            log.commit_to(Index(twin.committed));
        }
        _ => {
            let taken = log.take_applicable();
            if let Some(last) = taken.last() {
                log.applied_to(last.index);
            }
        }
    }
    term
}

#[test]
fn the_log_agrees_with_its_model() {
    for seed in 1..=300 {
        let mut random = random::Random::new(seed);
        let (mut log, mut twin) = (log(&[]), Twin::default());
        let mut term = 1;
        for _ in 0..200 {
            term = event(&mut random, &mut log, &mut twin, term);
            log.check();
            let last = twin.log.len() as u64;
            let found: Vec<u64> =
                (1..=last + 3).map_while(|i| log.term(Index(i))).map(|t| t.0).collect();
            assert!(found.iter().eq(twin.log.values()), "seed {seed}: the entries");
            assert!(
                log.persisted().0 <= twin.persisted(),
                "seed {seed}: {} counts as durable, but only {} is",
                log.persisted(),
                twin.persisted()
            );
        }
    }
}
