//! Runs etcd raft's quorum scripts: `committed` and `vote` for a majority `cfg` and, with `cfgj`,
//! a joint one. Each case also checks what must not change the result.

#![expect(clippy::unwrap_used, reason = "a test")]

use proto::{Index, NodeId};
use raft::quorum::{EVERYTHING, Joint, Majority};
use script::Case;
use std::collections::BTreeMap;

#[test]
fn the_quorum_scripts_of_etcd_raft_hold() {
    let Some(directory) = script::shared("raft-testdata/quorum/testdata") else { return };
    let scripts = script::scripts(directory);
    assert_eq!(scripts.len(), 4);
    for path in scripts {
        script::run(path, run);
    }
}

fn run(case: &Case) -> String {
    case.expect_only(&["cfg", "cfgj", "idx", "votes"]);
    let incoming: Vec<NodeId> = case.values("cfg").into_iter().map(NodeId).collect();
    let joint = case.has("cfgj");
    let outgoing: Vec<NodeId> = case
        .values::<String>("cfgj")
        .iter()
        .filter(|value| *value != "zero")
        .map(|value| NodeId(value.parse().unwrap()))
        .collect();
    // The values stand in the order of the voters, each voter once; `_` is no value.
    let mut order: Vec<NodeId> = Vec::new();
    for id in incoming.iter().chain(&outgoing) {
        if !order.contains(id) {
            order.push(*id);
        }
    }
    let majority: Majority = incoming.into_iter().collect();
    let both = Joint { incoming: majority.clone(), outgoing: outgoing.into_iter().collect() };
    let swapped = Joint { incoming: both.outgoing.clone(), outgoing: both.incoming.clone() };
    let values: Vec<String> = case.values(if case.command == "vote" { "votes" } else { "idx" });
    assert_eq!(order.len(), values.len(), "{}: a value for each voter", case.place());
    let given = || order.iter().copied().zip(&values).filter(|(_, value)| *value != "_");
    match case.command.as_str() {
        "committed" => {
            let acked: BTreeMap<NodeId, Index> =
                given().map(|(id, value)| (id, Index(value.parse().unwrap()))).collect();
            let index = both.committed(&acked);
            assert_eq!(swapped.committed(&acked), index, "the halves can change places");
            if !joint {
                same_in_other_ways(&majority, &acked, index);
            }
            format!("{}{}\n", both.describe(&acked), printed(index))
        }
        "vote" => {
            let votes: BTreeMap<NodeId, bool> =
                given().map(|(id, value)| (id, value == "y")).collect();
            let result = both.vote_result(&votes);
            assert_eq!(swapped.vote_result(&votes), result, "the halves can change places");
            if !joint {
                assert_eq!(majority.vote_result(&votes), result);
            }
            format!("{result}\n")
        }
        other => panic!("no command {other}"),
    }
}

fn same_in_other_ways(majority: &Majority, acked: &BTreeMap<NodeId, Index>, index: Index) {
    assert_eq!(majority.committed(acked), index);
    assert_eq!(dumb(majority, acked), index);
    let twice = Joint { incoming: majority.clone(), outgoing: majority.clone() };
    assert_eq!(twice.committed(acked), index, "a majority joined with itself is itself");
    // Lowering an index that is already below the committed index does not change the result.
    for (id, own) in acked.iter().filter(|(_, own)| **own < index) {
        for lower in [Index(own.0 - 1), Index(0)] {
            let mut lowered = acked.clone();
            lowered.insert(*id, lower);
            assert_eq!(majority.committed(&lowered), index, "{id} lowered to {lower}");
        }
    }
}

fn printed(index: Index) -> String {
    if index == EVERYTHING { "∞".into() } else { index.to_string() }
}

/// A simple computation: of all acknowledged indexes, the highest that a majority has reached.
fn dumb(majority: &Majority, acked: &BTreeMap<NodeId, Index>) -> Index {
    if majority.0.is_empty() {
        return EVERYTHING;
    }
    let has = |index: &Index| {
        majority.0.iter().filter(|id| acked.get(id).is_some_and(|own| own >= index)).count()
    };
    acked
        .values()
        .filter(|index| 2 * has(index) > majority.0.len())
        .max()
        .copied()
        .unwrap_or_default()
}

/// A number below `end` from a simple generator.
fn draw(state: &mut u64, end: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % end
}

#[test]
fn the_committed_index_is_what_counting_gives() {
    let mut seed = 0x5eed_0001;
    for round in 0..50_000 {
        let voters: Majority = (1..=draw(&mut seed, 8)).map(NodeId).collect();
        let mut acked = BTreeMap::new();
        for id in 1..=10 {
            if draw(&mut seed, 4) > 0 {
                acked.insert(NodeId(id), Index(draw(&mut seed, 6)));
            }
        }
        assert_eq!(voters.committed(&acked), dumb(&voters, &acked), "round {round}: {acked:?}");
    }
}

#[test]
fn a_vote_is_decided_as_soon_as_no_further_vote_can_change_it() {
    // A joint vote is won (lost) if and only if it is won for every (no) choice of the missing
    // votes.
    let mut seed = 0x5eed_0002;
    for round in 0..5_000 {
        let mut half =
            || -> Majority { (1..=5).filter(|_| draw(&mut seed, 2) == 0).map(NodeId).collect() };
        let voters = Joint { incoming: half(), outgoing: half() };
        let mut votes = BTreeMap::new();
        for id in 1..=5 {
            if let vote @ 0..2 = draw(&mut seed, 4) {
                votes.insert(NodeId(id), vote == 1);
            }
        }
        let wins = |votes: &BTreeMap<NodeId, bool>| {
            [&voters.incoming, &voters.outgoing].into_iter().all(|half| {
                let yes = half.0.iter().filter(|id| votes.get(id) == Some(&true)).count();
                half.0.is_empty() || 2 * yes > half.0.len()
            })
        };
        let outcomes: Vec<bool> = (0..32_u32)
            .map(|bits| {
                let mut all = votes.clone();
                for id in 1..=5 {
                    all.entry(NodeId(id)).or_insert(bits >> (id - 1) & 1 == 1);
                }
                wins(&all)
            })
            .collect();
        let expected = if wins(&votes) {
            "VoteWon"
        } else if outcomes.contains(&true) {
            "VotePending"
        } else {
            "VoteLost"
        };
        assert_eq!(voters.vote_result(&votes).to_string(), expected, "{round} {voters} {votes:?}");
    }
}
