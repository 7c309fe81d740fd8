//! The report of a run.

use super::fault::{FaultKind, FaultTally};

/// How members that were behind have caught up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CatchUps {
    /// Snapshots of other members that were restored.
    pub snapshots: u64,
    /// Parts of the log that were read back for them.
    pub log_reads: u64,
}

/// Counts of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Answered calls of clients.
    pub operations: u64,
    /// Calls whose clients do not know whether they were executed.
    pub unknown: u64,
    /// Calls that were refused.
    pub refused: u64,
    /// Starts of members.
    pub boots: u64,
    /// Starts of members that were removed, because no other member knew of the removal.
    pub revivals: u64,
    /// How members have caught up.
    pub caught_up: CatchUps,
    /// Events that watches got.
    pub watched: u64,
    /// Leases that expired.
    pub expired: u64,
    /// Terms in which there was a leader.
    pub terms: u64,
    /// The faults.
    pub faults: FaultTally,
}

impl Counts {
    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Counts) {
        self.events += other.events;
        self.operations += other.operations;
        self.unknown += other.unknown;
        self.refused += other.refused;
        self.boots += other.boots;
        self.revivals += other.revivals;
        self.caught_up.snapshots += other.caught_up.snapshots;
        self.caught_up.log_reads += other.caught_up.log_reads;
        self.watched += other.watched;
        self.expired += other.expired;
        self.terms += other.terms;
        self.faults.add(&other.faults);
    }
}

/// The report of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterReport {
    /// A hash of all events of the run.
    pub trace: u64,
    /// The number of members.
    pub members: usize,
    /// The virtual time, in seconds.
    pub seconds: u64,
    /// Entries that were committed.
    pub entries: u64,
    /// The kinds of faults of this run.
    pub kinds: Vec<FaultKind>,
    /// The counts.
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
