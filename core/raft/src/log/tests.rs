//! Examples, and a comparison with a simple model.

use super::*;
use bytes::Bytes;
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

fn log(terms: &[u64]) -> RaftLog {
    let at = Progressed { committed: Index(0), applied: Index(0) };
    RaftLog::new(EntryId::default(), entries(0, terms), at, usize::MAX).unwrap()
}

fn terms(log: &RaftLog) -> Vec<u64> {
    log.window.iter().map(|entry| entry.term.0).collect()
}

#[test]
fn conflicting_entries_are_dropped_and_agreeing_ones_kept() {
    // The stored log, what the leader sends behind which entry, and what is there then.
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
    assert_eq!(log.take_unwritten(1).len(), 2);
    log.accept(id(1, 1), entries(1, &[2])).unwrap();
    log.durable(1);
    assert_eq!(log.persisted(), Index(1));
    assert_eq!(log.take_unwritten(2), entries(1, &[2]));
    log.durable(2);
    assert_eq!(log.persisted(), Index(2));
    log.check();
}

#[test]
fn entries_appended_again_count_once_no_write_in_flight_can_remove_them() {
    // A is written, B overwrites it, A comes back: when the first A is durable, B may still hit the
    // disk. Comparing terms alone would count it.
    let mut log = log(&[1]);
    let (a, b) = (entries(1, &[1, 1]), entries(1, &[2, 2]));
    log.append(a.clone().into_iter());
    assert_eq!(log.take_unwritten(1), a);
    log.accept(id(1, 1), b.clone()).unwrap();
    assert_eq!(log.take_unwritten(2), b);
    log.accept(id(1, 1), a.clone()).unwrap();
    assert_eq!(log.take_unwritten(3), a);
    for (number, persisted) in [(1, 1), (2, 1), (3, 3)] {
        log.durable(number);
        assert_eq!(log.persisted(), Index(persisted), "after write {number}");
        log.check();
    }
}

#[test]
fn entries_are_applied_only_when_they_are_durable() {
    let mut log = log(&[1]);
    log.append(entries(1, &[1, 1]).into_iter());
    log.commit_to(Index(3));
    assert_eq!(log.take_applicable(usize::MAX), entries(0, &[1]));
    assert!(!log.has_applicable());
    log.take_unwritten(1);
    assert!(!log.has_applicable());
    log.durable(1);
    assert_eq!(log.take_applicable(usize::MAX), entries(1, &[1, 1]));
    log.check();
}

#[test]
fn handed_out_entries_are_bounded_in_bytes_but_at_least_one() {
    let data = Bytes::from(vec![0; 100]);
    let stored: Vec<Entry> =
        entries(0, &[1, 1, 1]).into_iter().map(|e| Entry { data: data.clone(), ..e }).collect();
    let at = Progressed { committed: Index(3), applied: Index(0) };
    let mut log = RaftLog::new(EntryId::default(), stored, at, usize::MAX).unwrap();
    assert_eq!(log.take_applicable(1).len(), 1);
    assert_eq!(log.take_applicable(250).len(), 2);
    assert_eq!(log.take_applicable(250).len(), 0);
}

#[test]
fn the_window_stays_within_its_limit_and_keeps_unapplied_entries() {
    let one = memory(&entries(0, &[1])[0]);
    let at = Progressed { committed: Index(5), applied: Index(1) };
    let mut log = RaftLog::new(EntryId::default(), entries(0, &[1; 6]), at, 2 * one).unwrap();
    assert_eq!(log.first_index(), Index(2), "1 alone is applied");
    log.take_applicable(usize::MAX);
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
    assert_eq!(log.take_unwritten(1)[0].data.as_ptr(), data.as_ptr());
}

#[test]
fn an_inconsistent_stored_log_is_refused() {
    let none = Progressed { committed: Index(0), applied: Index(0) };
    let fits = |base, stored, at| RaftLog::new(base, stored, at, usize::MAX).is_ok();
    assert!(fits(EntryId::default(), entries(0, &[1, 2]), none));
    assert!(!fits(EntryId::default(), entries(1, &[1]), none), "a gap");
    assert!(!fits(EntryId::default(), entries(0, &[2, 1]), none), "a falling term");
    assert!(!fits(id(2, 3), entries(3, &[1]), none), "a term below the snapshot's");
    assert!(!fits(id(2, 3), entries(3, &[2]), none), "the snapshot is not applied");
    let past = Progressed { committed: Index(3), applied: Index(0) };
    assert!(!fits(EntryId::default(), entries(0, &[1, 1]), past), "a commit past the end");
    let past = Progressed { committed: Index(0), applied: Index(3) };
    assert!(!fits(EntryId::default(), entries(0, &[1, 1]), past), "applied past the end");
}

#[test]
fn a_hint_skips_terms_that_cannot_match() {
    let log = log(&[1, 1, 1, 5, 5, 5]);
    assert_eq!(log.conflict_by_term(Index(6), Term(4)), id(1, 3));
    assert_eq!(log.conflict_by_term(Index(6), Term(5)), id(5, 6));
    assert_eq!(log.conflict_by_term(Index(2), Term(0)), id(0, 0));
}

/// The model: a disk that is written in order, entry by entry, and a log as a map.
#[derive(Default)]
struct Twin {
    /// Index to term.
    log: BTreeMap<u64, u64>,
    disk: BTreeMap<u64, u64>,
    /// Writes in flight.
    queue: Vec<(u64, Vec<(u64, u64)>)>,
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
        for entry in self.queue.iter().take(count).flat_map(|(_, entries)| entries) {
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
}

#[test]
fn the_log_agrees_with_its_model() {
    for seed in 1..=300 {
        let mut random = random::Random::new(seed);
        let (mut log, mut twin) = (log(&[]), Twin::default());
        let (mut term, mut number) = (1, 0);
        for _ in 0..200 {
            let last = twin.log.len() as u64;
            match random.below(7) {
                0 | 1 => {
                    let new = vec![term; 1 + usize::try_from(random.below(3)).unwrap()];
                    log.append(entries(last, &new).into_iter());
                    for entry in entries(last, &new) {
                        Twin::put(&mut twin.log, (entry.index.0, entry.term.0));
                    }
                }
                2 if last > twin.committed => {
                    // Another leader overwrites, in a later term; or an older one comes back.
                    let at = twin.committed + random.below(last - twin.committed);
                    let prev = twin.log.get(&at).copied().unwrap_or_default();
                    term = if random.below(2) == 0 { prev.max(1) } else { term + 1 };
                    let new = entries(at, &[term, term]);
                    log.accept(id(prev, at), new.clone()).unwrap();
                    if !new.iter().all(|e| twin.log.get(&e.index.0) == Some(&e.term.0)) {
                        let skip = new
                            .iter()
                            .take_while(|e| twin.log.get(&e.index.0) == Some(&e.term.0))
                            .count();
                        for entry in &new[skip..] {
                            Twin::put(&mut twin.log, (entry.index.0, entry.term.0));
                        }
                    }
                    term = twin.log.values().copied().max().unwrap();
                }
                3 => {
                    number += 1;
                    let taken = log.take_unwritten(number);
                    let pairs = taken.iter().map(|e| (e.index.0, e.term.0)).collect();
                    twin.queue.push((number, pairs));
                }
                4 if !twin.queue.is_empty() => {
                    // Several writes may be reported as one.
                    let count = 1 + usize::try_from(random.below(twin.queue.len() as u64)).unwrap();
                    twin.disk = twin.disk_after(count);
                    let done = twin.queue.drain(..count).next_back().unwrap();
                    log.durable(done.0);
                }
                5 => {
                    twin.committed += random.below(last - twin.committed + 1);
                    log.commit_to(Index(twin.committed));
                }
                _ => {
                    let taken = log.take_applicable(usize::MAX);
                    if let Some(last) = taken.last() {
                        log.applied_to(last.index);
                    }
                }
            }
            log.check();
            let found: Vec<u64> =
                (1..=last + 3).map_while(|i| log.term(Index(i))).map(|t| t.0).collect();
            assert!(found.iter().eq(twin.log.values()), "seed {seed}: the entries");
            assert!(
                log.persisted().0 <= twin.persisted(),
                "seed {seed}: {} counts as durable, but only {} is",
                log.persisted(),
                twin.persisted()
            );
            if twin.queue.is_empty() && !log.has_unwritten() {
                assert_eq!(log.persisted().0, twin.persisted(), "seed {seed}: all is durable");
            }
        }
    }
}
