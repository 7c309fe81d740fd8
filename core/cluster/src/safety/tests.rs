//! Each rule at its border.

use super::*;
use UnsafeChange::{LearnerNotReady, NotEnoughStarted, Unhealthy};

const LONG: Duration = Duration::from_secs(6);

/// Voters 1 to `voters`, of which the first `started` have a name, then `learners` learners.
fn cluster(voters: u64, started: u64, learners: u64) -> Cluster {
    let mut cluster = Cluster::default();
    for id in 1..=voters + learners {
        let name = if id <= started { format!("m{id}") } else { String::new() };
        let is_learner = id > voters;
        let member = Member { id: NodeId(id), name, is_learner, ..Member::default() };
        cluster.members.insert(member.id, member);
    }
    cluster
}

/// Member 1 reaches these others for long enough.
fn reach(others: &[u64]) -> Reach {
    let others = others.iter().map(|id| (NodeId(*id), LONG)).collect();
    Reach { own: NodeId(1), others }
}

#[test]
fn a_single_voter_may_always_grow() {
    assert_eq!(cluster(1, 1, 0).check_add(false, &reach(&[])), Ok(()));
    assert_eq!(cluster(1, 1, 1).check_add(false, &reach(&[])), Ok(()));
    assert_eq!(cluster(1, 1, 0).check_add(true, &reach(&[])), Ok(()));
}

#[test]
fn a_voter_is_added_only_if_a_quorum_with_it_is_started() {
    // Two voters and the new one: a quorum is 2, and only one is started.
    assert_eq!(cluster(2, 1, 0).check_add(false, &reach(&[2])), Err(NotEnoughStarted));
    assert_eq!(cluster(2, 2, 0).check_add(false, &reach(&[2])), Ok(()));
    assert_eq!(cluster(3, 2, 0).check_add(false, &reach(&[2, 3])), Err(NotEnoughStarted));
    assert_eq!(cluster(3, 3, 0).check_add(false, &reach(&[2, 3])), Ok(()));
    assert_eq!(cluster(4, 3, 0).check_add(false, &reach(&[2, 3, 4])), Ok(()));
    // A single voter that has not published its name yet.
    assert_eq!(cluster(1, 0, 0).check_add(false, &reach(&[])), Err(NotEnoughStarted));
    // A learner changes no quorum.
    assert_eq!(cluster(3, 2, 0).check_add(true, &reach(&[2, 3])), Ok(()));
}

#[test]
fn a_member_is_added_only_if_a_quorum_with_it_is_connected() {
    for as_learner in [false, true] {
        assert_eq!(cluster(2, 2, 0).check_add(as_learner, &reach(&[])), Err(Unhealthy));
        assert_eq!(cluster(3, 3, 0).check_add(as_learner, &reach(&[3])), Err(Unhealthy));
        assert_eq!(cluster(3, 3, 0).check_add(as_learner, &reach(&[2, 3])), Ok(()));
        assert_eq!(cluster(5, 5, 0).check_add(as_learner, &reach(&[2, 3, 4])), Ok(()));
        assert_eq!(cluster(5, 5, 0).check_add(as_learner, &reach(&[2, 3])), Err(Unhealthy));
    }
}

#[test]
fn a_member_counts_as_connected_after_the_health_interval() {
    let mut reach = reach(&[2]);
    reach.others.insert(NodeId(2), HEALTH_INTERVAL);
    assert_eq!(cluster(2, 2, 0).check_add(false, &reach), Err(Unhealthy));
    reach.others.insert(NodeId(2), HEALTH_INTERVAL + Duration::from_millis(1));
    assert_eq!(cluster(2, 2, 0).check_add(false, &reach), Ok(()));
}

#[test]
fn a_voter_is_removed_only_if_a_quorum_of_the_others_is_started() {
    assert_eq!(cluster(1, 1, 0).check_remove(NodeId(1), &reach(&[])), Err(NotEnoughStarted));
    assert_eq!(cluster(2, 1, 0).check_remove(NodeId(1), &reach(&[])), Err(NotEnoughStarted));
    // The unstarted one itself may go.
    assert_eq!(cluster(2, 1, 0).check_remove(NodeId(2), &reach(&[])), Ok(()));
    assert_eq!(cluster(3, 2, 0).check_remove(NodeId(1), &reach(&[2])), Err(NotEnoughStarted));
}

#[test]
fn a_reached_voter_is_removed_only_if_a_quorum_of_the_others_is_connected() {
    // Of the two that remain, both are needed.
    assert_eq!(cluster(3, 3, 0).check_remove(NodeId(2), &reach(&[2])), Err(Unhealthy));
    assert_eq!(cluster(3, 3, 0).check_remove(NodeId(2), &reach(&[2, 3])), Ok(()));
    assert_eq!(cluster(3, 3, 0).check_remove(NodeId(1), &reach(&[3])), Err(Unhealthy));
    assert_eq!(cluster(3, 3, 0).check_remove(NodeId(1), &reach(&[2, 3])), Ok(()));
    assert_eq!(cluster(2, 2, 0).check_remove(NodeId(2), &reach(&[2])), Ok(()));
}

#[test]
fn a_voter_that_is_not_reached_and_a_learner_may_always_be_removed() {
    assert_eq!(cluster(3, 3, 0).check_remove(NodeId(3), &reach(&[])), Ok(()));
    assert_eq!(cluster(3, 1, 1).check_remove(NodeId(4), &reach(&[])), Ok(()));
    // A member that is reached, but not for long enough, counts among the active members.
    let mut short = reach(&[]);
    short.others.insert(NodeId(3), Duration::ZERO);
    assert_eq!(cluster(3, 3, 0).check_remove(NodeId(3), &short), Err(Unhealthy));
}

#[test]
fn a_learner_is_promoted_only_if_a_quorum_with_it_is_started() {
    assert_eq!(cluster(1, 1, 1).check_promote(), Ok(()));
    assert_eq!(cluster(2, 1, 1).check_promote(), Ok(()));
    assert_eq!(cluster(3, 1, 1).check_promote(), Err(NotEnoughStarted));
    assert_eq!(cluster(3, 2, 1).check_promote(), Ok(()));
}

#[test]
fn a_learner_is_in_sync_from_nine_tenths_of_the_leaders_log_on() {
    assert_eq!(check_in_sync(Index(89), Index(100)), Err(LearnerNotReady));
    assert_eq!(check_in_sync(Index(90), Index(100)), Ok(()));
    assert_eq!(check_in_sync(Index(0), Index(1)), Err(LearnerNotReady));
    assert_eq!(check_in_sync(Index(0), Index(0)), Ok(()));
    assert_eq!(check_in_sync(Index(u64::MAX), Index(u64::MAX)), Ok(()));
}

#[test]
fn the_texts_are_etcds() {
    for (error, text) in [
        (NotEnoughStarted, "etcdserver: re-configuration failed due to not enough started members"),
        (Unhealthy, "etcdserver: unhealthy cluster"),
        (
            LearnerNotReady,
            "etcdserver: can only promote a learner member which is in sync with leader",
        ),
    ] {
        assert_eq!(error.to_string(), text);
    }
}
