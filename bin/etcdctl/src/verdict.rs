//! Whether the writes of `check perf` were fast enough, and the lines about failed ones.
//!
//! Source: etcd v3.7.1 etcdctl/ctlv3/command/check.go.

use load::Statistics;
use std::fmt::Write as _;

/// `check perf` passes if the rate is above this share of the wanted rate.
const RATE_SHARE: f64 = 0.9;
/// The longest time that a request may take, in seconds.
const SLOWEST_S_MAX: f64 = 0.5;
/// The largest standard deviation of the times that is allowed, in seconds.
const DEVIATION_S_MAX: f64 = 0.1;

/// The lines about the errors; empty if there were none.
pub(crate) fn errors(of: &Statistics) -> String {
    let mut text = String::new();
    if !of.errors.is_empty() {
        text.push_str("FAIL: too many errors\n");
    }
    for (error, count) in &of.errors {
        _ = writeln!(text, "FAIL: ERROR({error}) -> {count}");
    }
    text
}

/// The lines of `check perf`, and whether the check has passed. `wanted` is the number of writes per
/// second.
pub(crate) fn verdict(of: &Statistics, wanted: u32) -> (String, bool) {
    let mut text = errors(of);
    let mut passed = text.is_empty();
    let mut judge = |fails: bool, failed: String, fine: String| {
        passed &= !fails;
        _ = writeln!(text, "{}", if fails { failed } else { fine });
    };
    #[expect(clippy::cast_possible_truncation, reason = "as Go does: the whole part")]
    let rate = of.rate as i64 + 1;
    judge(
        of.rate / f64::from(wanted) <= RATE_SHARE,
        format!("FAIL: Throughput too low: {rate} writes/s"),
        format!("PASS: Throughput is {rate} writes/s"),
    );
    judge(
        of.slowest > SLOWEST_S_MAX,
        format!("Slowest request took too long: {:.6}s", of.slowest),
        format!("PASS: Slowest request took {:.6}s", of.slowest),
    );
    judge(
        of.deviation > DEVIATION_S_MAX,
        format!("Stddev too high: {:.6}s", of.deviation),
        format!("PASS: Stddev is {:.6}s", of.deviation),
    );
    text.push_str(if passed { "PASS\n" } else { "FAIL\n" });
    (text, passed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use load::{Results, Start};
    use std::time::Duration;
    use tokio::time::Instant;

    fn statistics(times: &[u64], errors: &[&str], total_ms: u64) -> Statistics {
        let start = Start::now();
        let mut results = Results::since(start);
        for time in times {
            results.add(Instant::now(), Ok(Duration::from_millis(*time)));
        }
        let mut others = Results::since(start);
        errors.iter().for_each(|error| others.fail((*error).to_string()));
        results.join(others);
        results.statistics_of(Duration::from_millis(total_ms))
    }

    #[test]
    fn what_keeps_the_limits_passes() {
        // 10 writes in a second; exactly 500 ms are not too slow.
        let times = [100, 100, 100, 100, 100, 100, 100, 100, 100, 500];
        let (text, passed) = verdict(&statistics(&times, &[], 1000), 11);
        assert_eq!(
            text,
            "PASS: Throughput is 11 writes/s\nPASS: Slowest request took 0.500000s\nStddev too \
             high: 0.120000s\nFAIL\n"
        );
        assert!(!passed);
        let (text, passed) = verdict(&statistics(&[100, 300], &[], 1000), 2);
        assert_eq!(
            text,
            "PASS: Throughput is 3 writes/s\nPASS: Slowest request took 0.300000s\nPASS: Stddev is \
             0.100000s\nPASS\n"
        );
        assert!(passed);
    }

    #[test]
    fn each_limit_fails_by_itself() {
        let failing = |of: Statistics, wanted| {
            let (text, passed) = verdict(&of, wanted);
            assert!(!passed && text.ends_with("FAIL\n"), "{text}");
            let bad = |line: &&str| !line.starts_with("PASS") && *line != "FAIL";
            text.lines().filter(bad).map(str::to_owned).collect::<Vec<_>>()
        };
        // 9 of 10 are 90 %, which is too low.
        assert_eq!(
            failing(statistics(&[1; 9], &[], 1000), 10),
            ["FAIL: Throughput too low: 10 writes/s"]
        );
        assert_eq!(
            failing(statistics(&[501, 501], &[], 1000), 1),
            ["Slowest request took too long: 0.501000s"]
        );
        assert_eq!(failing(statistics(&[1, 202], &[], 1000), 1), ["Stddev too high: 0.100500s"]);
        assert_eq!(
            failing(statistics(&[1, 1], &["b", "a", "b"], 1000), 1),
            ["FAIL: too many errors", "FAIL: ERROR(a) -> 1", "FAIL: ERROR(b) -> 2"]
        );
    }

    #[test]
    fn without_a_success_the_numbers_are_gos() {
        let (text, passed) = verdict(&statistics(&[], &["down"], 1000), 150);
        assert_eq!(
            text,
            "FAIL: too many errors\nFAIL: ERROR(down) -> 1\nFAIL: Throughput too low: 1 \
             writes/s\nPASS: Slowest request took 0.000000s\nPASS: Stddev is NaNs\nFAIL\n"
        );
        assert!(!passed);
    }
}
