//! The results of many requests, and whether they pass `check perf`.
//!
//! Source: etcd v3.7.1 pkg/report/report.go, etcdctl/ctlv3/command/check.go.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// `check perf` passes if the rate is above this share of the wanted rate.
const RATE_SHARE: f64 = 0.9;
/// The longest time that a request may take, in seconds.
const SLOWEST_S_MAX: f64 = 0.5;
/// The largest standard deviation of the times that is allowed, in seconds.
const DEVIATION_S_MAX: f64 = 0.1;

/// The durations of requests, and the errors of those that failed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Results {
    /// The times of the requests that did not fail, in seconds.
    times: Vec<f64>,
    /// How often each error occurred.
    errors: BTreeMap<String, u64>,
}

/// The statistics of [`Results`]. If all requests failed, the numbers are as Go computes them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Summary {
    /// Successful requests per second.
    rate: f64,
    /// The time of the slowest one in seconds.
    slowest: f64,
    /// The standard deviation of the times in seconds.
    deviation: f64,
    errors: BTreeMap<String, u64>,
}

impl Results {
    /// Adds a request: its time, or its error.
    pub(crate) fn add(&mut self, result: Result<Duration, String>) {
        match result {
            Ok(time) => self.times.push(time.as_secs_f64()),
            Err(error) => *self.errors.entry(error).or_default() += 1,
        }
    }

    /// Adds the requests of another client.
    pub(crate) fn join(&mut self, other: Results) {
        self.times.extend(other.times);
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }

    /// The summary of requests that took this long in all.
    pub(crate) fn summary(self, total: Duration) -> Summary {
        #[expect(clippy::cast_precision_loss, reason = "no count comes near 2^53")]
        let count = self.times.len() as f64;
        let average = self.times.iter().sum::<f64>() / count;
        let squares = self.times.iter().map(|time| (time - average).powi(2)).sum::<f64>();
        Summary {
            rate: count / total.as_secs_f64(),
            slowest: self.times.iter().copied().fold(0.0, f64::max),
            deviation: (squares / count).sqrt(),
            errors: self.errors,
        }
    }
}

impl Summary {
    /// The lines about the errors; empty if there were none.
    pub(crate) fn errors(&self) -> String {
        let mut text = String::new();
        if !self.errors.is_empty() {
            text.push_str("FAIL: too many errors\n");
        }
        for (error, count) in &self.errors {
            _ = writeln!(text, "FAIL: ERROR({error}) -> {count}");
        }
        text
    }

    /// The lines of `check perf`, and whether the check has passed. `wanted` is the number of
    /// writes per second.
    pub(crate) fn verdict(&self, wanted: u32) -> (String, bool) {
        let mut text = self.errors();
        let mut passed = text.is_empty();
        let mut judge = |fails: bool, failed: String, fine: String| {
            passed &= !fails;
            _ = writeln!(text, "{}", if fails { failed } else { fine });
        };
        #[expect(clippy::cast_possible_truncation, reason = "as Go does: the whole part")]
        let rate = self.rate as i64 + 1;
        judge(
            self.rate / f64::from(wanted) <= RATE_SHARE,
            format!("FAIL: Throughput too low: {rate} writes/s"),
            format!("PASS: Throughput is {rate} writes/s"),
        );
        judge(
            self.slowest > SLOWEST_S_MAX,
            format!("Slowest request took too long: {:.6}s", self.slowest),
            format!("PASS: Slowest request took {:.6}s", self.slowest),
        );
        judge(
            self.deviation > DEVIATION_S_MAX,
            format!("Stddev too high: {:.6}s", self.deviation),
            format!("PASS: Stddev is {:.6}s", self.deviation),
        );
        text.push_str(if passed { "PASS\n" } else { "FAIL\n" });
        (text, passed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(times: &[u64], errors: &[&str], total_ms: u64) -> Summary {
        let mut results = Results::default();
        for time in times {
            results.add(Ok(Duration::from_millis(*time)));
        }
        let mut others = Results::default();
        errors.iter().for_each(|error| others.add(Err((*error).to_string())));
        results.join(others);
        results.summary(Duration::from_millis(total_ms))
    }

    #[test]
    fn what_keeps_the_limits_passes() {
        // 10 writes in a second; exactly 500 ms are not too slow.
        let times = [100, 100, 100, 100, 100, 100, 100, 100, 100, 500];
        let (text, passed) = summary(&times, &[], 1000).verdict(11);
        assert_eq!(
            text,
            "PASS: Throughput is 11 writes/s\nPASS: Slowest request took 0.500000s\nStddev too \
             high: 0.120000s\nFAIL\n"
        );
        assert!(!passed);
        let (text, passed) = summary(&[100, 300], &[], 1000).verdict(2);
        assert_eq!(
            text,
            "PASS: Throughput is 3 writes/s\nPASS: Slowest request took 0.300000s\nPASS: Stddev is \
             0.100000s\nPASS\n"
        );
        assert!(passed);
    }

    #[test]
    fn each_limit_fails_by_itself() {
        let failing = |summary: Summary, wanted| {
            let (text, passed) = summary.verdict(wanted);
            assert!(!passed && text.ends_with("FAIL\n"), "{text}");
            let bad = |line: &&str| !line.starts_with("PASS") && *line != "FAIL";
            text.lines().filter(bad).map(str::to_owned).collect::<Vec<_>>()
        };
        // 9 of 10 are 90 %, which is too low.
        assert_eq!(
            failing(summary(&[1; 9], &[], 1000), 10),
            ["FAIL: Throughput too low: 10 writes/s"]
        );
        assert_eq!(
            failing(summary(&[501, 501], &[], 1000), 1),
            ["Slowest request took too long: 0.501000s"]
        );
        assert_eq!(failing(summary(&[1, 202], &[], 1000), 1), ["Stddev too high: 0.100500s"]);
        assert_eq!(
            failing(summary(&[1, 1], &["b", "a", "b"], 1000), 1),
            ["FAIL: too many errors", "FAIL: ERROR(a) -> 1", "FAIL: ERROR(b) -> 2"]
        );
    }

    #[test]
    fn without_a_success_the_numbers_are_gos() {
        let (text, passed) = summary(&[], &["down"], 1000).verdict(150);
        assert_eq!(
            text,
            "FAIL: too many errors\nFAIL: ERROR(down) -> 1\nFAIL: Throughput too low: 1 \
             writes/s\nPASS: Slowest request took 0.000000s\nPASS: Stddev is NaNs\nFAIL\n"
        );
        assert!(!passed);
    }
}
