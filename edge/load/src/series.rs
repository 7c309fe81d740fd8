//! The requests of each second.
//!
//! Source: etcd v3.7.1 pkg/report/timeseries.go.

use crate::results::Results;
use cli::duration::GoDuration;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

/// The requests that were sent in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Second {
    /// The second, since 1970.
    pub unix_s: u64,
    /// The shortest time of a request.
    pub fastest: Duration,
    /// The longest time of a request.
    pub slowest: Duration,
    /// The sum of the times.
    pub sum: Duration,
    /// The number of requests.
    pub count: u32,
}

/// Every second from the first request to the last one.
#[must_use]
pub fn seconds(results: &Results) -> Vec<Second> {
    let start = results.start.clock.duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut found: BTreeMap<u64, Second> = BTreeMap::new();
    for sample in &results.samples {
        let unix_s = (start + sample.at).as_secs();
        let new = Second { unix_s, fastest: sample.took, ..Second::default() };
        let second = found.entry(unix_s).or_insert(new);
        second.fastest = second.fastest.min(sample.took);
        second.slowest = second.slowest.max(sample.took);
        second.sum += sample.took;
        second.count += 1;
    }
    let (Some((&first, _)), Some((&last, _))) = (found.first_key_value(), found.last_key_value())
    else {
        return Vec::new();
    };
    let all = first..=last;
    let empty = |unix_s| Second { unix_s, ..Second::default() };
    all.map(|unix_s| found.remove(&unix_s).unwrap_or_else(|| empty(unix_s))).collect()
}

/// The table of the seconds as CSV, with etcd's heading.
pub(crate) fn csv(seconds: &[Second]) -> String {
    let heading = "UNIX-SECOND,MIN-LATENCY-MS,AVG-LATENCY-MS,MAX-LATENCY-MS,AVG-THROUGHPUT\n";
    let mut text = heading.to_string();
    for second in seconds {
        let average = second.sum.checked_div(second.count).unwrap_or_default();
        let [fastest, average, slowest] =
            [second.fastest, average, second.slowest].map(GoDuration::from);
        let (unix_s, count) = (second.unix_s, second.count);
        _ = writeln!(text, "{unix_s},{fastest},{average},{slowest},{count}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::Start;
    use tokio::time::Instant;

    #[test]
    fn every_second_has_a_line() {
        let clock = UNIX_EPOCH + Duration::from_millis(100_500);
        let start = Start { instant: Instant::now(), clock };
        let mut results = Results::since(start);
        for (at, took) in [(2_600, 40), (0, 10), (499, 21)] {
            let sent = start.instant + Duration::from_millis(at);
            results.add(sent, Ok(Duration::from_millis(took)));
        }
        results.fail("not counted".to_string());
        assert_eq!(
            csv(&seconds(&results)),
            "UNIX-SECOND,MIN-LATENCY-MS,AVG-LATENCY-MS,MAX-LATENCY-MS,AVG-THROUGHPUT\n\
             100,10ms,15.5ms,21ms,2\n101,0s,0s,0s,0\n102,0s,0s,0s,0\n103,40ms,40ms,40ms,1\n"
        );
        assert_eq!(seconds(&Results::since(start)), []);
    }
}
