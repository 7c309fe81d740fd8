//! The times of requests, and the errors of those that failed.

use crate::statistics::Statistics;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// The start of a load, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// For durations.
    pub(crate) instant: Instant,
    /// The same moment, for the seconds of a report.
    pub(crate) clock: SystemTime,
}

impl Start {
    /// A load that starts now.
    #[must_use]
    pub fn now() -> Start {
        Start { instant: Instant::now(), clock: SystemTime::now() }
    }
}

/// A request that succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    /// When it was sent, since the start of the load.
    pub(crate) at: Duration,
    pub(crate) took: Duration,
}

/// The requests of a load.
#[derive(Clone, Debug)]
pub struct Results {
    pub(crate) start: Start,
    pub(crate) samples: Vec<Sample>,
    /// How often each error occurred.
    pub(crate) errors: BTreeMap<String, u64>,
}

impl Results {
    /// No requests.
    #[must_use]
    pub fn since(start: Start) -> Results {
        Results { start, samples: Vec::new(), errors: BTreeMap::new() }
    }

    /// Adds a request that was sent at a moment: how long it took, or its error.
    pub fn add(&mut self, sent: Instant, result: Result<Duration, String>) {
        match result {
            Ok(took) => self.samples.push(Sample { at: sent - self.start.instant, took }),
            Err(error) => self.fail(error),
        }
    }

    /// Adds a request without a time.
    pub fn fail(&mut self, error: String) {
        *self.errors.entry(error).or_default() += 1;
    }

    /// Adds the requests of another client.
    pub fn join(&mut self, other: Results) {
        self.samples.extend(other.samples);
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }

    /// The number of requests, with those that failed.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.samples.len() as u64 + self.errors.values().sum::<u64>()
    }

    /// The error of a request that failed.
    #[must_use]
    pub fn first_error(&self) -> Option<&str> {
        self.errors.keys().next().map(String::as_str)
    }

    /// The statistics of a load that ends now.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        self.statistics_of(self.start.instant.elapsed())
    }

    /// The statistics of a load that took this long.
    #[must_use]
    pub fn statistics_of(&self, total: Duration) -> Statistics {
        let times = self.samples.iter().map(|sample| sample.took.as_secs_f64());
        Statistics::new(times.collect(), self.errors.clone(), total)
    }
}
