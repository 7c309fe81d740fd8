//! When history is compacted without anybody asking: `--auto-compaction-mode`. Not here: what a
//! compaction does.
//!
//! Source: etcd v3.7 server/etcdserver/api/v3compactor/{periodic,revision}.go.

use std::collections::VecDeque;
use std::time::Duration;

/// The longest time between two compactions by time.
const INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);
/// Revisions are noted, and failures repeated, so often in an interval.
const NOTES: u32 = 10;
/// The time between two looks at how many revisions there are.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Which history is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    /// All.
    #[default]
    Off,
    /// That of this time, which is not zero.
    Periodic(Duration),
    /// So many revisions.
    Revision(u64),
}

/// Says when to compact, in times since the start that only grow.
#[derive(Debug)]
pub(crate) struct Compactor {
    keeps: AutoCompaction,
    next_look: Duration,
    /// The revisions at the last looks, the oldest first.
    noted: VecDeque<i64>,
    /// How long after the last success it is time again.
    interval: Duration,
    succeeded: Duration,
    /// The last revision that was compacted.
    last: i64,
}

impl Compactor {
    pub(crate) fn new(keeps: AutoCompaction) -> Compactor {
        let (next_look, interval) = match keeps {
            AutoCompaction::Off => (Duration::MAX, Duration::MAX),
            // Not before there is as much history as is kept.
            AutoCompaction::Periodic(period) => (Duration::ZERO, period),
            AutoCompaction::Revision(_) => (REVISION_INTERVAL, REVISION_INTERVAL),
        };
        let noted = VecDeque::new();
        Compactor { keeps, next_look, noted, interval, succeeded: Duration::ZERO, last: 0 }
    }

    /// How the log calls it, as etcd's does.
    pub(crate) fn mode(&self) -> &'static str {
        match self.keeps {
            AutoCompaction::Off | AutoCompaction::Periodic(_) => "periodic",
            AutoCompaction::Revision(_) => "revision",
        }
    }

    /// The revision to compact at, if it is time: only a leader does.
    pub(crate) fn look(&mut self, now: Duration, revision: i64, leads: bool) -> Option<i64> {
        if now < self.next_look {
            return None;
        }
        match self.keeps {
            AutoCompaction::Off => None,
            AutoCompaction::Periodic(period) => {
                let every = period.min(INTERVAL_MAX) / NOTES;
                self.next_look = now + every;
                let oldest = self.noted.front().copied();
                self.noted.push_back(revision);
                // The first one stands for the beginning of the period.
                let notes = period.as_nanos() / every.as_nanos().max(1) + 1;
                if self.noted.len() as u128 > notes {
                    self.noted.pop_front();
                }
                let is_time = leads && now.saturating_sub(self.succeeded) >= self.interval;
                let due = oldest.filter(|oldest| is_time && *oldest != self.last)?;
                self.interval = period.min(INTERVAL_MAX);
                Some(due)
            }
            AutoCompaction::Revision(kept) => {
                self.next_look = now + REVISION_INTERVAL;
                let due = revision.saturating_sub(i64::try_from(kept).unwrap_or(i64::MAX));
                (leads && due > 0 && due != self.last).then_some(due)
            }
        }
    }

    /// The compaction that was due is done.
    pub(crate) fn succeeded(&mut self, now: Duration, revision: i64) {
        (self.succeeded, self.last) = (now, revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks every 100 ms, with a new revision in each second; the compactions with their seconds.
    fn run(keeps: AutoCompaction, seconds: u64, works: impl Fn(u64) -> bool) -> Vec<(u64, i64)> {
        let mut compactor = Compactor::new(keeps);
        let mut done = Vec::new();
        for tenth in 0..seconds * 10 {
            let now = Duration::from_millis(tenth * 100);
            let revision = i64::try_from(tenth / 10).unwrap() + 1;
            if let Some(due) = compactor.look(now, revision, true) {
                done.push((tenth / 10, due));
                if works(tenth / 10) {
                    compactor.succeeded(now, due);
                }
            }
        }
        done
    }

    #[test]
    fn by_time_what_is_about_a_period_old_goes_once_in_each() {
        let keeps = AutoCompaction::Periodic(Duration::from_secs(10));
        let done = run(keeps, 45, |_| true);
        assert_eq!(done, [(10, 1), (20, 10), (30, 20), (40, 30)]);
    }

    #[test]
    fn a_long_period_is_waited_for_once_and_then_an_hour() {
        let keeps = AutoCompaction::Periodic(Duration::from_secs(2 * 3600));
        let done = run(keeps, 5 * 3600, |_| true);
        assert_eq!(done, [(7_200, 1), (10_800, 3_241), (14_400, 6_841)]);
    }

    #[test]
    fn by_revision_so_many_are_kept() {
        let done = run(AutoCompaction::Revision(400), 16 * 60, |_| true);
        assert_eq!(done, [(600, 201), (900, 501)]);
    }

    #[test]
    fn what_failed_is_tried_again_with_what_is_due_then() {
        let keeps = AutoCompaction::Periodic(Duration::from_secs(10));
        let done = run(keeps, 14, |second| second > 11);
        assert_eq!(done, [(10, 1), (11, 1), (12, 2)]);
    }

    #[test]
    fn who_does_not_lead_and_who_keeps_all_never_compacts() {
        let mut follower = Compactor::new(AutoCompaction::Periodic(Duration::from_secs(1)));
        let mut keeper = Compactor::new(AutoCompaction::Off);
        for second in 0..100 {
            assert_eq!(follower.look(Duration::from_secs(second), 9, false), None);
            assert_eq!(keeper.look(Duration::from_secs(second), 9, true), None);
        }
    }
}
