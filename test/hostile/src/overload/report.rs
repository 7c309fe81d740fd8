//! The table of an overload run.

use crate::attack::MIB;
use std::fmt;
use std::time::Duration;

/// One kind of load.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its name.
    pub name: &'static str,
    /// How long each put of the light client took.
    pub(super) times: Times,
    /// How long the row lasted.
    pub(super) lasted: Duration,
    /// The highest anonymous memory in bytes.
    pub peak: u64,
    /// A description of the work of the loads.
    pub(super) did: String,
}

/// The times of the light client's acknowledged puts, and how many others there were.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    pub(super) acknowledged: Vec<Duration>,
    /// Puts that were refused because of the quota.
    pub(super) refused: u64,
    /// Puts that failed for another reason, such as their deadline.
    pub(super) failed: u64,
    /// The error of the last put that failed.
    pub(super) failure: String,
}

impl Times {
    /// The quantile of the acknowledged puts' times.
    fn quantile(&self, share: f64) -> Duration {
        let mut all = self.acknowledged.clone();
        all.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a count"
        )]
        let at = (all.len() as f64 * share) as usize;
        all.get(at.min(all.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// One for each kind of load.
    pub rows: Vec<Row>,
    /// Anonymous memory in bytes after the first row.
    pub idle: u64,
    /// The same after all of them.
    pub after: u64,
    /// Puts of the light client that were acknowledged; all of them are stored.
    pub acknowledged: u64,
}

impl Report {
    /// For each row, the light client's 99th percentile divided by the one without load. Rows with
    /// a busy disk are compared with the row that has only a busy disk.
    pub(super) fn ratios(&self) -> Vec<f64> {
        let p99 = |row: &Row| row.times.quantile(0.99).as_secs_f64();
        let [alone, busy] = [0, 1].map(|at| self.rows.get(at).map_or(0.0, p99).max(1e-6));
        let last = self.rows.len().saturating_sub(1);
        let of = |(at, row)| match at {
            0 | 1 => 1.0,
            _ => p99(row) / if at == last { busy } else { alone },
        };
        self.rows.iter().enumerate().map(of).collect()
    }

    /// Memory after the run divided by memory before it.
    #[expect(clippy::cast_precision_loss, reason = "a ratio of memory")]
    #[must_use]
    pub fn kept(&self) -> f64 {
        self.after as f64 / self.idle.max(1) as f64
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| load | s | light puts acknowledged (refused, failed) | p50 ms | p99 ms | max ms | p99 / alone | peak MiB | the loads |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for (row, ratio) in self.rows.iter().zip(self.ratios()) {
            let ms = |share| row.times.quantile(share).as_secs_f64() * 1e3;
            writeln!(
                f,
                "| {} | {} | {} ({}, {}) | {:.1} | {:.1} | {:.1} | {ratio:.1} | {} | {} |",
                row.name,
                row.lasted.as_secs(),
                row.times.acknowledged.len(),
                row.times.refused,
                row.times.failed,
                ms(0.5),
                ms(0.99),
                ms(1.0),
                row.peak / MIB,
                row.did,
            )?;
        }
        write!(
            f,
            "idle {} MiB, afterwards {} MiB ({:.2} times); {} puts acknowledged, all stored",
            self.idle / MIB,
            self.after / MIB,
            self.kept(),
            self.acknowledged,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &'static str, ms: u64) -> Row {
        let acknowledged = vec![Duration::from_millis(ms); 10];
        let times = Times { acknowledged, ..Times::default() };
        Row { name, times, lasted: Duration::ZERO, peak: 0, did: String::new() }
    }

    #[test]
    fn the_last_row_is_compared_with_the_busy_disk_and_the_others_with_the_client_alone() {
        let rows = vec![row("alone", 2), row("busy disk", 10), row("ranges", 6), row("all", 30)];
        let report = Report { rows, ..Report::default() };
        assert_eq!(report.ratios(), [1.0, 1.0, 3.0, 3.0]);
    }

    #[test]
    fn quantiles_are_of_the_sorted_times() {
        let acknowledged = (0..100).rev().map(Duration::from_millis).collect();
        let times = Times { acknowledged, ..Times::default() };
        assert_eq!(times.quantile(0.5), Duration::from_millis(50));
        assert_eq!(times.quantile(0.99), Duration::from_millis(99));
        assert_eq!(times.quantile(1.0), Duration::from_millis(99));
        assert_eq!(Times::default().quantile(0.99), Duration::ZERO);
    }
}
