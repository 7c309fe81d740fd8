//! Nodes in memory with a network that loses, repeats and reorders, disks that finish late, crashes
//! that keep a part of what was being written, and a configuration that changes meanwhile. Each
//! seed is one run: first with faults, while what must never happen is watched for; then without,
//! until everybody has everything.

#![expect(clippy::unwrap_used, reason = "a test")]

#[path = "cluster/member.rs"]
mod member;
#[path = "cluster/world.rs"]
mod world;

use world::World;

#[test]
fn members_never_disagree_and_agree_in_the_end() {
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
