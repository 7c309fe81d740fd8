//! The checkers of clients' histories, with legal and illegal histories written by hand.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use random::Random;
use sim::kv::calls::{
    Answered, Condition, KeyChange, KvAnswer, KvCall, KvHistory, Operation, Part, Seen, SmallStore,
};
use sim::kv::witness::{self, Changes};
use sim::kv::{registers, revisions, text, whole};
use sim::linearizable::{Timed, Verdict};

const STEPS_MAX: u64 = 1_000_000;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> KvCall {
    KvCall::one(Operation::Put(bytes(key), bytes(value)))
}

fn get(key: &str) -> KvCall {
    KvCall::one(Operation::Get(bytes(key)))
}

fn delete(key: &str) -> KvCall {
    KvCall::one(Operation::Delete(bytes(key)))
}

fn swap(key: &str, from: &str, to: &str) -> KvCall {
    KvCall { conditions: vec![Condition::Value(bytes(key), bytes(from))], ..put(key, to) }
}

fn seen(value: &str, create_revision: i64, mod_revision: i64, version: i64) -> Part {
    let seen = Seen { value: bytes(value), create_revision, mod_revision, version };
    Part::Keys(vec![(bytes("k"), seen)])
}

fn answer(revision: i64, part: Part) -> Option<KvAnswer> {
    Some(KvAnswer { revision, succeeded: true, parts: vec![part] })
}

/// A call with its start and its end. A call without an answer has no end.
fn timed(begun: u64, ended: u64, call: KvCall, answer: Option<KvAnswer>) -> Timed<Answered> {
    let ended = answer.is_some().then_some(ended);
    Timed { begun, ended, call: Answered { client: 0, call, answer } }
}

fn history(calls: Vec<Timed<Answered>>) -> KvHistory {
    KvHistory { calls, others: Vec::new() }
}

/// The changes that the reads show, by revision.
fn shown(history: &KvHistory) -> Changes {
    let answers = history.calls.iter().filter_map(|timed| timed.call.answer.as_ref());
    let keys = answers.flat_map(|answer| &answer.parts).filter_map(|part| match part {
        Part::Keys(keys) => Some(keys),
        Part::Put | Part::Deleted(_) => None,
    });
    let change = |(key, seen): &(Bytes, Seen)| {
        let change = KeyChange { key: key.clone(), now: Some(seen.clone()) };
        (seen.mod_revision, vec![change])
    };
    keys.flatten().map(change).collect()
}

fn verdict(history: &KvHistory) -> Result<(), String> {
    verdict_with(history, &shown(history))
}

fn verdict_with(history: &KvHistory, changes: &Changes) -> Result<(), String> {
    revisions::check(history)?;
    witness::check(history, changes)?;
    assert_eq!(whole::check(history, STEPS_MAX)?, Verdict::Linearizable);
    assert_eq!(registers::check(history, STEPS_MAX)?, 0);
    Ok(())
}

/// Asserts that every checker that can detect the fault does so.
#[track_caller]
fn assert_illegal(history: &KvHistory, rule: &str, registers_see_it: bool) {
    let broken = revisions::check(history).unwrap_err();
    assert!(broken.contains(rule), "{broken}");
    whole::check(history, STEPS_MAX).unwrap_err();
    witness::check(history, &shown(history)).unwrap_err();
    assert_eq!(registers::check(history, STEPS_MAX).is_err(), registers_see_it);
}

#[test]
fn calls_one_after_the_other_and_calls_at_one_time_are_legal() {
    verdict(&history(vec![
        timed(0, 10, put("k", "a"), answer(2, Part::Put)),
        timed(5, 20, put("k", "b"), answer(3, Part::Put)),
        timed(6, 30, get("k"), answer(2, seen("a", 2, 2, 1))),
        timed(31, 40, get("k"), answer(3, seen("b", 2, 3, 2))),
        timed(41, 50, delete("k"), answer(4, Part::Deleted(1))),
        timed(51, 60, get("k"), answer(4, Part::Keys(Vec::new()))),
        timed(51, 60, delete("k"), answer(4, Part::Deleted(0))),
    ]))
    .unwrap();
}

#[test]
fn a_call_without_an_answer_may_take_effect_late_or_never() {
    let unknown = || timed(0, 0, put("k", "a"), None);
    verdict(&history(vec![
        unknown(),
        timed(10, 20, get("k"), answer(1, Part::Keys(Vec::new()))),
        timed(30, 40, get("k"), answer(2, seen("a", 2, 2, 1))),
    ]))
    .unwrap();
    verdict(&history(vec![unknown(), timed(10, 20, put("k", "b"), answer(2, Part::Put))])).unwrap();
    let two = vec![
        unknown(),
        timed(0, 0, put("k", "b"), None),
        timed(30, 40, get("k"), answer(3, seen("a", 2, 3, 2))),
    ];
    let history = history(two);
    let mut changes = shown(&history);
    let first = Seen { value: bytes("b"), create_revision: 2, mod_revision: 2, version: 1 };
    changes.insert(2, vec![KeyChange { key: bytes("k"), now: Some(first) }]);
    verdict_with(&history, &changes).unwrap();
}

/// Either call can have deleted the key, but only one of them puts the value that came after.
#[test]
fn a_call_without_an_answer_is_placed_where_its_value_was_put() {
    let swap_or_put = KvCall {
        conditions: vec![Condition::Value(bytes("k"), bytes("a"))],
        then: vec![Operation::Delete(bytes("k"))],
        otherwise: vec![Operation::Put(bytes("k"), bytes("b"))],
    };
    let history = history(vec![
        timed(0, 10, put("k", "a"), answer(2, Part::Put)),
        timed(11, 0, delete("k"), None),
        timed(11, 0, swap_or_put, None),
        timed(31, 40, get("k"), answer(4, seen("b", 4, 4, 1))),
    ]);
    let mut changes = shown(&history);
    changes.insert(3, vec![KeyChange { key: bytes("k"), now: None }]);
    verdict_with(&history, &changes).unwrap();
}

/// Either call can have made revision 3, but only one of them can have made revision 6.
#[test]
fn a_call_without_an_answer_leaves_an_earlier_revision_to_another_one() {
    let of_both = || KvCall {
        conditions: Vec::new(),
        then: vec![Operation::Delete(bytes("k")), Operation::Delete(bytes("l"))],
        otherwise: Vec::new(),
    };
    for order in [[delete("k"), of_both()], [of_both(), delete("k")]] {
        let [first, second] = order;
        let history = history(vec![
            timed(0, 10, put("k", "a"), answer(2, Part::Put)),
            timed(11, 0, first, None),
            timed(12, 0, second, None),
            timed(21, 30, put("k", "b"), answer(4, Part::Put)),
            timed(31, 40, put("l", "c"), answer(5, Part::Put)),
            timed(41, 50, get("k"), answer(6, Part::Keys(Vec::new()))),
        ]);
        let gone = |key| KeyChange { key: bytes(key), now: None };
        let changes = Changes::from([(3, vec![gone("k")]), (6, vec![gone("k"), gone("l")])]);
        verdict_with(&history, &changes).unwrap();
        let of_none = Changes::from([(3, vec![gone("k")]), (6, vec![gone("l")])]);
        verdict_with(&history, &of_none).unwrap_err();
    }
}

#[test]
fn a_stale_read_is_illegal() {
    let calls = vec![
        timed(0, 10, put("k", "a"), answer(2, Part::Put)),
        timed(11, 20, put("k", "b"), answer(3, Part::Put)),
        timed(21, 30, get("k"), answer(2, seen("a", 2, 2, 1))),
    ];
    assert_illegal(&history(calls), "does not follow revision 3", true);
}

/// Only the revisions show it, since the key itself did not change.
#[test]
fn a_read_of_an_old_revision_is_illegal_if_other_keys_have_changed() {
    let calls = vec![
        timed(0, 10, put("k", "a"), answer(2, Part::Put)),
        timed(11, 20, put("other", "b"), answer(3, Part::Put)),
        timed(21, 30, get("k"), answer(2, seen("a", 2, 2, 1))),
    ];
    assert_illegal(&history(calls), "does not follow revision 3", false);
}

#[test]
fn a_lost_write_is_illegal() {
    let put = || timed(0, 10, put("k", "a"), answer(2, Part::Put));
    let calls = vec![put(), timed(11, 20, get("k"), answer(2, Part::Keys(Vec::new())))];
    assert_illegal(&history(calls), "an acknowledged write is lost", true);
    let overwritten = vec![
        put(),
        timed(11, 20, self::put("k", "b"), answer(3, Part::Put)),
        timed(21, 30, get("k"), answer(4, seen("a", 2, 2, 1))),
    ];
    assert_illegal(&history(overwritten), "an acknowledged write is not seen", true);
}

#[test]
fn two_values_of_one_revision_are_illegal() {
    let calls = vec![
        timed(0, 0, put("k", "a"), None),
        timed(0, 0, put("k", "b"), None),
        timed(10, 20, get("k"), answer(2, seen("a", 2, 2, 1))),
        timed(10, 20, get("k"), answer(2, seen("b", 2, 2, 1))),
    ];
    assert_illegal(&history(calls), "two values of a revision", false);
    let writes = vec![
        timed(0, 10, put("k", "a"), answer(2, Part::Put)),
        timed(0, 10, put("k", "b"), answer(2, Part::Put)),
    ];
    assert_illegal(&history(writes), "revision 2 was made twice", false);
}

#[test]
fn a_write_that_takes_effect_twice_is_illegal() {
    let calls = vec![
        timed(0, 0, put("k", "a"), None),
        timed(10, 20, get("k"), answer(2, seen("a", 2, 2, 1))),
        timed(30, 40, get("k"), answer(3, seen("a", 2, 3, 2))),
    ];
    assert_illegal(&history(calls), "a value that nobody wrote at its revision", false);
    let acknowledged = vec![
        timed(0, 10, put("k", "a"), answer(2, Part::Put)),
        timed(30, 40, get("k"), answer(3, seen("a", 2, 3, 2))),
    ];
    assert_illegal(&history(acknowledged), "a value that nobody wrote at its revision", false);
}

#[test]
fn writes_in_another_order_than_time_are_illegal() {
    let calls = vec![
        timed(0, 10, put("k", "a"), answer(3, Part::Put)),
        timed(11, 20, put("k", "b"), answer(2, Part::Put)),
    ];
    assert_illegal(&history(calls), "does not follow revision 3", false);
}

#[test]
fn a_value_from_the_future_or_from_nowhere_is_illegal() {
    let calls = vec![
        timed(0, 10, get("k"), answer(2, seen("a", 2, 2, 1))),
        timed(11, 20, put("k", "a"), answer(2, Part::Put)),
    ];
    assert_illegal(&history(calls), "does not follow revision 2", true);
    let calls = vec![timed(0, 10, get("k"), answer(2, seen("x", 2, 2, 1)))];
    assert_illegal(&history(calls), "a value that nobody wrote", true);
}

#[test]
fn a_swap_that_succeeds_on_another_value_is_illegal() {
    let swapped = |revision, succeeded| {
        let parts = if succeeded { vec![Part::Put] } else { Vec::new() };
        Some(KvAnswer { revision, succeeded, parts })
    };
    let put = || timed(0, 10, put("k", "a"), answer(2, Part::Put));
    let legal = vec![put(), timed(11, 20, swap("k", "a", "b"), swapped(3, true))];
    verdict(&history(legal)).unwrap();
    for illegal in [
        timed(11, 20, swap("k", "x", "b"), swapped(3, true)),
        timed(11, 20, swap("k", "a", "b"), swapped(2, false)),
    ] {
        let history = history(vec![put(), illegal]);
        assert!(whole::check(&history, STEPS_MAX).is_err());
        assert!(witness::check(&history, &shown(&history)).is_err());
        assert!(registers::check(&history, STEPS_MAX).is_err());
    }
}

#[test]
fn changes_of_others_take_their_revisions() {
    let mut history = history(vec![
        timed(0, 10, put("k", "a"), answer(2, Part::Put)),
        timed(31, 40, put("k", "b"), answer(4, Part::Put)),
    ]);
    assert!(whole::check(&history, STEPS_MAX).is_err());
    assert!(witness::check(&history, &Changes::new()).is_err());
    history.others.push((3, 20));
    verdict(&history).unwrap();
}

/// A legal history of `len` calls, with the store's changes. Each call is executed at a random
/// moment between its start and its end.
fn random_history(seed: u64, len: u64) -> (KvHistory, Changes) {
    let mut random = Random::new(seed);
    let mut store = SmallStore::default();
    let (mut calls, mut all_changes) = (Vec::new(), Changes::new());
    for number in 0..len {
        let at = 10 * number + 1_000;
        let key = ["k", "l", "m"][random.index(3)];
        let call = match random.below(6) {
            0 => delete(key),
            1 | 2 => get(key),
            3 => KvCall::one(Operation::Range(bytes("k"), bytes("n"))),
            4 => {
                swap(key, &number.saturating_sub(random.below(9)).to_string(), &number.to_string())
            }
            _ => put(key, &number.to_string()),
        };
        let (answer, changes) = store.answer(&call);
        let is_lost = random.chance(20);
        if !(is_lost && random.chance(128)) {
            if !changes.is_empty() {
                all_changes.insert(answer.revision, changes.clone());
            }
            store.change(changes);
        }
        let answer = (!is_lost).then_some(answer);
        calls.push(timed(at - random.below(60), at + random.below(60), call, answer));
    }
    (history(calls), all_changes)
}

#[test]
fn histories_of_a_store_are_legal_and_changed_ones_are_not() {
    let mut caught = 0;
    for seed in 0..200 {
        let (mut history, changes) = random_history(seed, 200);
        verdict_with(&history, &changes).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        let mut random = Random::new(seed ^ 77);
        let reads: Vec<usize> = (0..history.calls.len())
            .filter(|at| history.calls[*at].call.answer.as_ref().is_some_and(|it| it.revision > 9))
            .collect();
        let at = reads[random.index(reads.len())];
        history.calls[at].call.answer.as_mut().unwrap().revision -= 8;
        caught += u32::from(verdict_with(&history, &changes).is_err());
    }
    // If the revision is changed by little, the history may still be legal because of concurrent
    // calls.
    assert!(caught > 195, "{caught}");
}

/// Alters an answer or a time of one call, so little that the history may stay legal.
fn alter(history: &mut KvHistory, random: &mut Random) {
    let at = random.index(history.calls.len());
    let Timed { begun, ended, call } = &mut history.calls[at];
    match (random.below(4), &mut call.answer) {
        (0, Some(answer)) => answer.revision = (answer.revision - 1).max(1),
        (1, Some(answer)) => answer.revision += 1,
        (2, Some(answer)) => answer.succeeded = !answer.succeeded,
        (_, Some(_)) => {
            *begun += 100;
            *ended = ended.map(|ended| ended + 100);
        }
        (_, None) => {}
    }
}

/// The changes contain more than the answers: a history may contradict them and still be legal with
/// other changes, which the search then finds. This is rare.
#[test]
fn the_order_of_revisions_and_the_search_agree_on_small_histories() {
    let (mut legal, mut illegal, mut legal_otherwise) = (0, 0, 0);
    for seed in 0..2_000 {
        let (mut history, changes) = random_history(seed, 30);
        let mut random = Random::new(seed ^ 77);
        let alterations = random.below(3);
        for _ in 0..alterations {
            alter(&mut history, &mut random);
        }
        let searched = whole::check(&history, STEPS_MAX);
        assert_ne!(searched, Ok(Verdict::Undecided), "seed {seed}");
        let found = witness::check(&history, &changes);
        match (&found, &searched) {
            (Ok(()), Ok(_)) => legal += 1,
            (Err(_), Err(_)) => illegal += 1,
            (Err(_), Ok(_)) if alterations > 0 => legal_otherwise += 1,
            _ => panic!("seed {seed}: {found:?}, but the search says {searched:?}"),
        }
    }
    assert!(legal > 500 && illegal > 500, "{legal} legal, {illegal} illegal");
    assert!(legal_otherwise < 20, "{legal_otherwise}");
}

#[test]
fn the_text_of_a_register_is_jepsens() {
    let swapped = Some(KvAnswer { revision: 3, succeeded: false, parts: Vec::new() });
    let history = history(vec![
        timed(0, 10, put("k", "a"), answer(2, Part::Put)),
        timed(5, 12, get("k"), answer(2, seen("a", 2, 2, 1))),
        timed(20, 30, swap("k", "b", "c"), swapped),
        timed(40, 0, put("k", "d"), None),
    ]);
    let registers = registers::of_keys(&history);
    let lines = text::lines(&registers[&bytes("k")]).unwrap();
    let expected = [
        "0 :invoke :write 1",
        "1 :invoke :read nil",
        "0 :ok :write 1",
        "1 :ok :read 1",
        "2 :invoke :cas [2 3]",
        "2 :fail :cas [2 3]",
        "3 :invoke :write 4",
        "3 :info :write 4 :timeout",
    ];
    assert_eq!(lines, expected.map(|line| format!("INFO  jepsen.util - {line}")));
}
