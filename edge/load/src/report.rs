//! The report of etcd's `benchmark` as text.
//!
//! Source: etcd v3.7.1 pkg/report/report.go.

use crate::series::{Second, csv};
use crate::statistics::{PERCENTILES, Statistics};
use cli::go;
use std::fmt::Write as _;

/// The bars of the histogram have at most this many characters.
const BAR_MAX: usize = 40;
/// The histogram has one bucket more, for the slowest request.
const BUCKETS: u32 = 10;

/// How numbers are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// With four digits behind the point.
    Short,
    /// With all digits.
    Full,
}

impl Precision {
    fn number(self, number: f64) -> String {
        match self {
            Precision::Short => format!("{number:.4}"),
            Precision::Full => go::float(number),
        }
    }

    fn seconds(self, seconds: f64) -> String {
        format!("{} secs", self.number(seconds))
    }
}

/// The summary, the histogram, the percentiles, then the seconds, if any are given, and the errors.
#[must_use]
pub fn report(of: &Statistics, precision: Precision, seconds: Option<&[Second]>) -> String {
    let mut text = String::new();
    if !of.times.is_empty() {
        text.push_str(&summary(of, precision));
        text.push_str(&histogram(of, precision));
        text.push_str(&latencies(of, precision));
        if let Some(seconds) = seconds {
            _ = writeln!(
                text,
                "\nSample in one second (unix latency throughput):\n{}",
                csv(seconds)
            );
        }
    }
    if !of.errors.is_empty() {
        text.push_str("\nError distribution:\n");
        for (error, count) in &of.errors {
            _ = writeln!(text, "  [{count}]\t{error}");
        }
    }
    text
}

fn summary(of: &Statistics, precision: Precision) -> String {
    let mut text = "\nSummary:\n".to_string();
    for (name, seconds) in [
        ("Total", of.total),
        ("Slowest", of.slowest),
        ("Fastest", of.fastest),
        ("Average", of.average),
        ("Stddev", of.deviation),
    ] {
        _ = writeln!(text, "  {name}:\t{}.", precision.seconds(seconds));
    }
    _ = writeln!(text, "  Requests/sec:\t{}", precision.number(of.rate));
    text
}

fn histogram(of: &Statistics, precision: Precision) -> String {
    let width = (of.slowest - of.fastest) / f64::from(BUCKETS);
    let mut bounds: Vec<f64> = (0..BUCKETS).map(|i| of.fastest + width * f64::from(i)).collect();
    bounds.push(of.slowest);
    let mut counts = vec![0_usize; bounds.len()];
    let mut bucket = 0;
    for time in &of.times {
        while *time > bounds[bucket] && bucket < bounds.len() - 1 {
            bucket += 1;
        }
        counts[bucket] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or_default().max(1);
    let mut text = "\nResponse time histogram:\n".to_string();
    for (bound, count) in bounds.into_iter().zip(counts) {
        let bar = "∎".repeat(count * BAR_MAX / most);
        _ = writeln!(text, "  {} [{count}]\t|{bar}", precision.number(bound));
    }
    text
}

fn latencies(of: &Statistics, precision: Precision) -> String {
    let mut text = "\nLatency distribution:\n".to_string();
    let found = PERCENTILES.into_iter().zip(of.percentiles());
    for (percentile, seconds) in found.filter(|(_, seconds)| *seconds > 0.0) {
        _ = writeln!(text, "  {percentile}% in {}.", precision.seconds(seconds));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn statistics(times: &[f64], errors: &[(&str, u64)]) -> Statistics {
        let errors = errors.iter().map(|(error, count)| ((*error).to_string(), *count));
        Statistics::new(times.to_vec(), errors.collect(), Duration::from_millis(1500))
    }

    #[test]
    fn a_report_is_gos() {
        // As Go's report prints these times.
        let text = report(
            &statistics(&[0.5, 0.1, 0.2, 0.2], &[("b", 1), ("a", 2)]),
            Precision::Short,
            None,
        );
        let bar = |length| "∎".repeat(length);
        let expected = format!(
            "\nSummary:\n  Total:\t1.5000 secs.\n  Slowest:\t0.5000 secs.\n  Fastest:\t0.1000 \
             secs.\n  Average:\t0.2500 secs.\n  Stddev:\t0.1500 secs.\n  Requests/sec:\t2.6667\n\n\
             Response time histogram:\n  0.1000 [1]\t|{}\n  0.1400 [0]\t|\n  0.1800 [0]\t|\n  \
             0.2200 [2]\t|{}\n  0.2600 [0]\t|\n  0.3000 [0]\t|\n  0.3400 [0]\t|\n  0.3800 \
             [0]\t|\n  0.4200 [0]\t|\n  0.4600 [0]\t|\n  0.5000 [1]\t|{}\n\nLatency \
             distribution:\n  10% in 0.2000 secs.\n  25% in 0.2000 secs.\n  50% in 0.5000 \
             secs.\n\nError distribution:\n  [2]\ta\n  [1]\tb\n",
            bar(20),
            bar(40),
            bar(20)
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn full_precision_has_all_digits() {
        let text = report(&statistics(&[0.000_012_5, 0.25], &[]), Precision::Full, None);
        assert!(text.contains("  Fastest:\t1.25e-05 secs.\n"), "{text}");
        assert!(text.contains("  Requests/sec:\t1.3333333333333333\n"), "{text}");
    }

    #[test]
    fn without_a_success_there_are_only_errors() {
        let text = report(&statistics(&[], &[("down", 3)]), Precision::Short, Some(&[]));
        assert_eq!(text, "\nError distribution:\n  [3]\tdown\n");
        let nothing = Statistics::new(Vec::new(), BTreeMap::new(), Duration::ZERO);
        assert_eq!(report(&nothing, Precision::Short, None), "");
    }
}
