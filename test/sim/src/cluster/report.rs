//! What happened in a run.

use super::fault::{FaultKind, FaultTally};

/// What has happened, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Answered calls of clients.
    pub operations: u64,
    /// Calls whose clients do not know what became of them.
    pub unknown: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Starts of members.
    pub boots: u64,
    /// Snapshots of other members that were restored.
    pub snapshots: u64,
    /// Events that watches got.
    pub watched: u64,
    /// Leases that expired.
    pub expired: u64,
    /// Terms in which there was a leader.
    pub terms: u64,
    /// Whole histories that could not be decided.
    pub undecided: u64,
    /// Histories of keys that could not be decided.
    pub undecided_keys: u64,
    /// The faults.
    pub faults: FaultTally,
}

impl Counts {
    /// Adds those of another run.
    pub fn add(&mut self, other: &Counts) {
        self.events += other.events;
        self.operations += other.operations;
        self.unknown += other.unknown;
        self.refused += other.refused;
        self.boots += other.boots;
        self.snapshots += other.snapshots;
        self.watched += other.watched;
        self.expired += other.expired;
        self.terms += other.terms;
        self.undecided += other.undecided;
        self.undecided_keys += other.undecided_keys;
        self.faults.add(&other.faults);
    }
}

/// What happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterReport {
    /// A number that depends on everything that has happened.
    pub trace: u64,
    /// The number of members.
    pub members: usize,
    /// The virtual time, in seconds.
    pub seconds: u64,
    /// Entries that were committed.
    pub entries: u64,
    /// The kinds of faults of this run.
    pub kinds: Vec<FaultKind>,
    /// All else.
    pub counts: Counts,
}

impl ClusterReport {
    /// How many cluster-hours it counts: an hour has at least 36,000 operations and 60 faults.
    #[must_use]
    pub fn hours(&self) -> f64 {
        let Counts { operations, faults, .. } = &self.counts;
        let hours = [(self.seconds, 3_600), (*operations, 36_000), (faults.total(), 60)];
        let hours = hours.map(|(count, each)| count as f64 / f64::from(each));
        hours.into_iter().fold(f64::MAX, f64::min)
    }
}
