//! The statistics of the times of requests.
//!
//! Source: etcd v3.7.1 pkg/report/report.go.

use std::collections::BTreeMap;
use std::time::Duration;

/// The percentiles that reports show.
pub(crate) const PERCENTILES: [f64; 8] = [10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9];

/// The statistics of [`Results`](crate::Results), in seconds. If all requests failed, the numbers
/// are as Go computes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// The time of the whole load.
    pub total: f64,
    /// Successful requests per second.
    pub rate: f64,
    /// The time of the fastest request.
    pub fastest: f64,
    /// The time of the slowest request.
    pub slowest: f64,
    /// The mean of the times.
    pub average: f64,
    /// The standard deviation of the times.
    pub deviation: f64,
    /// The times, in ascending order.
    pub(crate) times: Vec<f64>,
    /// How often each error occurred.
    pub errors: BTreeMap<String, u64>,
}

impl Statistics {
    pub(crate) fn new(
        mut times: Vec<f64>,
        errors: BTreeMap<String, u64>,
        total: Duration,
    ) -> Statistics {
        times.sort_by(f64::total_cmp);
        #[expect(clippy::cast_precision_loss, reason = "no count comes near 2^53")]
        let count = times.len() as f64;
        let average = times.iter().sum::<f64>() / count;
        let squares = times.iter().map(|time| (time - average).powi(2)).sum::<f64>();
        Statistics {
            total: total.as_secs_f64(),
            rate: count / total.as_secs_f64(),
            fastest: times.first().copied().unwrap_or_default(),
            slowest: times.last().copied().unwrap_or_default(),
            average,
            deviation: (squares / count).sqrt(),
            times,
            errors,
        }
    }

    /// The times at [`PERCENTILES`]; 0 for those that so few requests do not have.
    pub(crate) fn percentiles(&self) -> [f64; PERCENTILES.len()] {
        let mut found = [0.0; PERCENTILES.len()];
        let mut wanted = PERCENTILES.iter().zip(&mut found).peekable();
        #[expect(clippy::cast_precision_loss, reason = "no count comes near 2^53")]
        let share = |index: usize| index as f64 * 100.0 / self.times.len() as f64;
        for (index, time) in self.times.iter().enumerate() {
            let Some((percentile, place)) = wanted.peek_mut() else { break };
            if share(index) >= **percentile {
                **place = *time;
                wanted.next();
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_gos() {
        let of = |count: u32| {
            let times = (1..=count).map(f64::from).collect();
            Statistics::new(times, BTreeMap::new(), Duration::from_secs(1)).percentiles()
        };
        assert_eq!(of(1000), [101.0, 251.0, 501.0, 751.0, 901.0, 951.0, 991.0, 1000.0]);
        // One time is never two percentiles, so that the last ones are missing.
        assert_eq!(of(4), [2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(of(0), [0.0; 8]);
    }
}
