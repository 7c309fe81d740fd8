//! The rule that every metric is written somewhere: a metric that stays at 0 shows nothing, but a
//! dashboard takes it for a fact. Exceptions are named in `docs/differences.md`.

use std::path::Path;

/// The tables of the metrics.
const TABLES: &str = "edge/server/src/metrics.rs";
/// The histograms and counters that are no rows of the tables, as fields of `requests`.
const REQUESTS: [(&str, &str); 4] = [
    ("total", "etcd_server_request_duration_seconds"),
    ("apply", "etcd_server_apply_duration_seconds"),
    ("range", "etcd_server_range_duration_seconds"),
    ("clients", "etcd_server_client_requests_total"),
];
/// The methods that write a metric, or give a row of it.
const WRITES: [&str; 10] = [
    "inc(",
    "inc_by(",
    "dec(",
    "set(",
    "add(",
    "sub(",
    "observe(",
    "reset(",
    "clone(",
    "with_label_values(",
];

/// The faults of the tree at `root`, whose sources are in `sources` with their paths.
pub(super) fn faults(root: &Path, sources: &[(String, String)]) -> anyhow::Result<Vec<String>> {
    let read = |file: &str| std::fs::read_to_string(root.join(file));
    let own = |path: &str| path.starts_with("edge/server/src/metrics");
    let users = sources.iter().filter(|(path, _)| !own(path) && is_program(path));
    let mut users: Vec<String> = users.map(|(_, text)| without_space(text)).collect();
    // The few that the metrics write themselves; the rows with which a vector begins do not count.
    let tables = read(TABLES)?;
    users.push(tables.lines().filter(|line| line.contains("self.")).collect());
    Ok(unwritten(&tables, &users, &read("docs/differences.md")?))
}

fn is_program(path: &str) -> bool {
    ["edge/", "bin/"].iter().any(|it| path.starts_with(it))
        && path.contains("/src/")
        && !path.ends_with("tests.rs")
}

fn without_space(text: &str) -> String {
    text.split_whitespace().collect()
}

/// The metrics of `tables` that none of `users` writes and `differences` does not name.
fn unwritten(tables: &str, users: &[String], differences: &str) -> Vec<String> {
    let rows = tables.lines().filter_map(row).filter(|(field, _)| !is_written(field, users));
    let requests = REQUESTS.iter().copied();
    let requests = requests
        .filter(|(field, _)| !users.iter().any(|text| text.contains(&format!("requests.{field}"))));
    rows.chain(requests)
        .filter(|(_, name)| !differences.contains(&format!("`{name}`")))
        .map(|(field, name)| {
            format!(
                "{TABLES}: `{field}` is written nowhere, and docs/differences.md does not say that \
                 `{name}` is always 0"
            )
        })
        .collect()
}

/// The field and the name of a row `field: Kind = "name", …`.
fn row(line: &str) -> Option<(&str, &str)> {
    let (head, rest) = line.split_once(" = \"")?;
    let (field, kind) = head.trim().split_once(": ")?;
    let is_metric = ["Counter", "Gauge", "Histogram", "CounterVec", "GaugeVec", "HistogramVec"];
    is_metric.contains(&kind.trim_start_matches("Int")).then_some(())?;
    Some((field, rest.split_once('"')?.0))
}

/// Whether a text without white space writes the field, or passes it on.
fn is_written(field: &str, users: &[String]) -> bool {
    let access = format!(".{field}");
    users.iter().any(|text| {
        text.match_indices(&access).any(|(at, _)| {
            let rest = &text[at + access.len()..];
            let writes = rest
                .strip_prefix('.')
                .is_some_and(|rest| WRITES.iter().any(|method| rest.starts_with(method)));
            writes || rest.starts_with([',', ';', ')']) && is_borrowed(&text[..at])
        })
    })
}

/// Whether a path that ends here begins with `&`.
fn is_borrowed(before: &str) -> bool {
    let path = |c: char| c.is_ascii_alphanumeric() || "_.()".contains(c);
    before.trim_end_matches(path).ends_with('&')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "    Group {\n        slow: IntCounter = \"etcd_slow_total\", \"Slow.\";\n";

    #[test]
    fn a_metric_that_nothing_writes_is_a_fault_unless_it_is_documented() {
        let users = |text: &str| vec![without_space(text)];
        let all: String = REQUESTS.iter().map(|(field, _)| format!("requests.{field};")).collect();
        let faults = |text: &str, docs: &str| unwritten(TABLE, &users(&(all.clone() + text)), docs);
        assert_eq!(faults("", "").len(), 1);
        assert_eq!(faults("if metrics.slow.get() > 1 { a.slow }", "").len(), 1, "it is only read");
        assert_eq!(faults("", "always 0: `etcd_slow_total`").len(), 0);
        assert_eq!(faults("metrics.apply\n    .slow\n    .inc();", "").len(), 0);
        assert_eq!(faults("Metrics::raise(&m.slow, 3)", "").len(), 0);
        assert_eq!(unwritten("", &[], "").len(), REQUESTS.len());
    }
}
