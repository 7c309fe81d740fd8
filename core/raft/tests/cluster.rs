//! Nodes in memory, with a network that loses, repeats and reorders messages, slow disks, crashes
//! that keep a part of the writes in flight, and configuration changes. Each seed is one run: first
//! with faults, while safety is checked; then without, until all members have all entries.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "cluster/member.rs"]
mod member;
#[path = "cluster/world.rs"]
mod world;

use world::World;

#[test]
fn logs_never_disagree_and_all_members_catch_up_without_faults() {
    let mut applied = 0;
    let mut reads = 0;
    let mut changes = 0;
    let mut terms = 0;
    let mut snapshots = 0;
    let mut log_reads = 0;
    for seed in 1..=64 {
        let mut world = World::new(seed);
        for _ in 0..8_000 {
            world.act();
        }
        world.heal();
        applied += world.committed.len();
        reads += world.reads_answered;
        changes += world.changes_applied;
        terms += world.invariants.leaders().len();
        snapshots += world.snapshots_sent;
        log_reads += world.log_reads;
    }
    // A run in which nothing happens proves nothing.
    assert!(applied > 64 * 20, "too little was committed: {applied}");
    assert!(reads > 64 * 3, "too few reads were answered: {reads}");
    assert!(terms > 64 * 2, "too few elections were won: {terms}");
    assert!(changes > 64, "too few configuration changes were made: {changes}");
    assert!(snapshots > 20, "too few snapshots were sent: {snapshots}");
    assert!(log_reads > 20, "the log file was read too rarely: {log_reads}");
}
