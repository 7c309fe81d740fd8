//! Decides when history is compacted automatically: `--auto-compaction-mode`. The compaction itself
//! is in `mvcc`.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3compactor/{periodic,revision}.go.

use std::collections::VecDeque;
use std::time::Duration;

/// The longest time between two compactions by time.
const INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);
/// How often the revision is sampled, and a failed compaction retried, in one interval.
const SAMPLES: u32 = 10;
/// The time between two checks of the number of revisions.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// How much history is kept automatically.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    /// All of it.
    #[default]
    Off,
    /// The history of this much time, which is not zero.
    Periodic(Duration),
    /// This many revisions.
    Revision(u64),
}

/// Decides when to compact. Times are since the start of the process and never decrease.
#[derive(Debug)]
pub(crate) struct Compactor {
    keeps: AutoCompaction,
    next_sample: Duration,
    /// The revisions that were sampled, oldest first.
    samples: VecDeque<i64>,
    /// The time from one successful compaction to the next.
    interval: Duration,
    succeeded: Duration,
    /// The revision of the last successful compaction.
    last: i64,
}

impl Compactor {
    pub(crate) fn new(keeps: AutoCompaction) -> Compactor {
        let (next_sample, interval) = match keeps {
            AutoCompaction::Off => (Duration::MAX, Duration::MAX),
            // The first one is due once there is as much history as is kept.
            AutoCompaction::Periodic(period) => (Duration::ZERO, period),
            AutoCompaction::Revision(_) => (REVISION_INTERVAL, REVISION_INTERVAL),
        };
        let samples = VecDeque::new();
        Compactor { keeps, next_sample, samples, interval, succeeded: Duration::ZERO, last: 0 }
    }

    /// The mode's name in log lines, as etcd's.
    pub(crate) fn mode(&self) -> &'static str {
        match self.keeps {
            AutoCompaction::Off | AutoCompaction::Periodic(_) => "periodic",
            AutoCompaction::Revision(_) => "revision",
        }
    }

    /// The revision to compact at, if a compaction is due. Only a leader compacts.
    pub(crate) fn due(&mut self, now: Duration, revision: i64, leads: bool) -> Option<i64> {
        if now < self.next_sample {
            return None;
        }
        match self.keeps {
            AutoCompaction::Off => None,
            AutoCompaction::Periodic(period) => {
                let every = period.min(INTERVAL_MAX) / SAMPLES;
                self.next_sample = now + every;
                let oldest = self.samples.front().copied();
                self.samples.push_back(revision);
                // One more sample than the period has intervals: the oldest one marks its
                // beginning.
                let wanted = period.as_nanos() / every.as_nanos().max(1) + 1;
                if self.samples.len() as u128 > wanted {
                    self.samples.pop_front();
                }
                let is_time = leads && now.saturating_sub(self.succeeded) >= self.interval;
                let due = oldest.filter(|oldest| is_time && *oldest != self.last)?;
                self.interval = period.min(INTERVAL_MAX);
                Some(due)
            }
            AutoCompaction::Revision(kept) => {
                self.next_sample = now + REVISION_INTERVAL;
                let due = revision.saturating_sub(i64::try_from(kept).unwrap_or(i64::MAX));
                (leads && due > 0 && due != self.last).then_some(due)
            }
        }
    }

    /// Records that a compaction to `revision` succeeded.
    pub(crate) fn succeeded(&mut self, now: Duration, revision: i64) {
        (self.succeeded, self.last) = (now, revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Asks every 100 ms, with a new revision each second. Returns the second and the revision of
    /// each compaction.
    fn run(keeps: AutoCompaction, seconds: u64, works: impl Fn(u64) -> bool) -> Vec<(u64, i64)> {
        let mut compactor = Compactor::new(keeps);
        let mut done = Vec::new();
        for tenth in 0..seconds * 10 {
            let now = Duration::from_millis(tenth * 100);
            let revision = i64::try_from(tenth / 10).unwrap() + 1;
            if let Some(due) = compactor.due(now, revision, true) {
                done.push((tenth / 10, due));
                if works(tenth / 10) {
                    compactor.succeeded(now, due);
                }
            }
        }
        done
    }

    #[test]
    fn periodic_mode_compacts_once_a_period_to_the_revision_of_one_period_ago() {
        let keeps = AutoCompaction::Periodic(Duration::from_secs(10));
        let done = run(keeps, 45, |_| true);
        assert_eq!(done, [(10, 1), (20, 10), (30, 20), (40, 30)]);
    }

    #[test]
    fn a_period_above_an_hour_compacts_hourly_after_the_first_period() {
        let keeps = AutoCompaction::Periodic(Duration::from_secs(2 * 3600));
        let done = run(keeps, 5 * 3600, |_| true);
        assert_eq!(done, [(7_200, 1), (10_800, 3_241), (14_400, 6_841)]);
    }

    #[test]
    fn revision_mode_keeps_the_given_number_of_revisions() {
        let done = run(AutoCompaction::Revision(400), 16 * 60, |_| true);
        assert_eq!(done, [(600, 201), (900, 501)]);
    }

    #[test]
    fn a_failed_compaction_is_retried_at_the_next_sample() {
        let keeps = AutoCompaction::Periodic(Duration::from_secs(10));
        let done = run(keeps, 14, |second| second > 11);
        assert_eq!(done, [(10, 1), (11, 1), (12, 2)]);
    }

    #[test]
    fn a_follower_and_mode_off_never_compact() {
        let mut follower = Compactor::new(AutoCompaction::Periodic(Duration::from_secs(1)));
        let mut keeper = Compactor::new(AutoCompaction::Off);
        for second in 0..100 {
            assert_eq!(follower.due(Duration::from_secs(second), 9, false), None);
            assert_eq!(keeper.due(Duration::from_secs(second), 9, true), None);
        }
    }
}
