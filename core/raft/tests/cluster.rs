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
    for seed in 1..=80 {
        let mut world = World::new(seed);
        for _ in 0..15_000 {
            world.act();
        }
        world.heal();
        applied += world.committed.len();
        reads += world.reads_answered;
        changes += world.changes_applied;
        terms += world.leaders.len();
    }
    // A run in which nothing happens proves nothing.
    assert!(applied > 80 * 40, "too little was committed: {applied}");
    assert!(reads > 80 * 5, "too few reads were answered: {reads}");
    assert!(terms > 80 * 3, "too few elections were won: {terms}");
    assert!(changes > 80 * 2, "too few configuration changes were made: {changes}");
}
