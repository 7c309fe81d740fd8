//! A short form of the program `cluster`: a few seeds, for a short time.

use sim::cluster::{ClusterPlan, FaultKind, FaultTally, run};
use std::collections::BTreeSet;

fn plan(seed: u64) -> ClusterPlan {
    ClusterPlan { seed, seconds: 60, members: 0, faults: Vec::new(), verbose: false }
}

#[test]
fn clusters_with_faults_keep_every_promise() {
    let mut faults = FaultTally::default();
    let (mut asked, mut operations, mut hours) = (BTreeSet::new(), 0, 0.0);
    let mut log_reads = 0;
    for seed in 1..=60 {
        let report = run(&plan(seed)).unwrap_or_else(|(why, _)| panic!("seed {seed}: {why}"));
        faults.add(&report.counts.faults);
        asked.extend(report.kinds.iter().copied());
        operations += report.counts.operations;
        log_reads += report.counts.caught_up.log_reads;
        hours += report.hours();
    }
    assert_eq!(asked.len(), FaultKind::ALL.len());
    assert!(log_reads > 10, "{log_reads} parts of logs were read for members that were behind");
    assert!(faults.total() > 100 && operations > 10_000 && hours > 0.2, "{faults:?}");
}

/// The kinds of faults that change the members, and some that interfere with these changes.
const OPERATED: [FaultKind; 12] = [
    FaultKind::MemberAdd,
    FaultKind::LearnerAdd,
    FaultKind::LearnerPromote,
    FaultKind::MemberRemove,
    FaultKind::LeaderRemove,
    FaultKind::MemberUpdate,
    FaultKind::LostDisk,
    FaultKind::LogFlip,
    FaultKind::DatabaseFlip,
    FaultKind::SnapFlip,
    FaultKind::Loss,
    FaultKind::Kill,
];

#[test]
fn clusters_whose_members_come_and_go_keep_every_promise() {
    let mut faults = FaultTally::default();
    for seed in 1..=12 {
        let members = 1 + usize::try_from(seed % 7).unwrap_or(0);
        let asked = ClusterPlan { seconds: 150, members, faults: OPERATED.to_vec(), ..plan(seed) };
        let report = run(&asked).unwrap_or_else(|(why, _)| panic!("seed {seed}: {why}"));
        faults.add(&report.counts.faults);
        assert_eq!(report.counts.revivals, 0, "seed {seed}: a member was left without its leader");
    }
    let silent: Vec<_> = OPERATED.iter().filter(|kind| faults.count(**kind) == 0).collect();
    assert!(silent.is_empty(), "these never happened: {silent:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let once = || run(&plan(7)).unwrap_or_else(|(why, _)| panic!("{why}"));
    assert_eq!(once(), once());
}

#[test]
fn a_cluster_that_is_left_alone_has_one_leader_and_refuses_little() {
    let kinds = vec![FaultKind::SlowClock];
    let report = run(&ClusterPlan { members: 3, faults: kinds, ..plan(1) });
    let report = report.unwrap_or_else(|(why, _)| panic!("{why}"));
    assert_eq!((report.counts.terms, report.counts.boots, report.counts.unknown), (1, 3, 0));
    assert!(report.counts.watched > 100 && report.counts.expired > 0, "{report:?}");
}
