//! The lines that a client printed for our server and for Go's etcd, side by side.

use crate::list::Client;
use crate::session::Lines;
use std::collections::BTreeMap;

/// The last step of every program.
const END: &str = "end";

/// A known difference.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// The client's name, or empty for all of them.
    client: &'static str,
    /// Its version, or empty for all of them.
    version: &'static str,
    /// The beginning of the step's name.
    step: &'static str,
    /// The reason.
    pub reason: &'static str,
}

/// All known differences.
pub const EXPECTED: [Expected; 0] = [];

/// A step with different lines.
#[derive(Clone, Debug)]
pub struct Difference {
    /// The step.
    pub step: String,
    /// The lines with our server; may be empty.
    pub ours: Vec<String>,
    /// The lines with Go's etcd.
    pub theirs: Vec<String>,
    /// The reason, if the difference is expected.
    pub expected: Option<&'static str>,
}

/// The result of one client.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// The number of equal lines.
    pub equal: usize,
    /// The equal lines that report a failed call.
    pub errors: usize,
    /// The steps that differ.
    pub differences: Vec<Difference>,
    /// Rows that were not needed. The long run fails if there are any.
    pub unneeded: Vec<String>,
    /// Failures that make the whole comparison invalid.
    pub failures: Vec<String>,
}

impl Comparison {
    /// Whether all differences are expected. With `long`, also whether all expected differences
    /// occurred.
    #[must_use]
    pub fn passed(&self, long: bool) -> bool {
        let is_expected = self.differences.iter().all(|difference| difference.expected.is_some());
        self.failures.is_empty() && is_expected && (!long || self.unneeded.is_empty())
    }
}

/// Compares the lines of both servers.
#[must_use]
pub fn compare(client: &Client, ours: &Lines, theirs: &Lines, rows: &[Expected]) -> Comparison {
    let mut outcome = Comparison::default();
    // Without this check, a library that fails at once with both servers would count as equal.
    if theirs.failure.is_some() || theirs.lines.last().is_none_or(|line| step(line) != END) {
        outcome.failures.push(format!("with Go's etcd it did not end: {:?}", theirs.failure));
    }
    let rows: Vec<&Expected> = rows.iter().filter(|row| row.is_for(client)).collect();
    let mut needed = vec![false; rows.len()];
    let (ours, theirs) = (by_step(ours), by_step(theirs));
    for step in theirs.keys().chain(ours.keys().filter(|step| !theirs.contains_key(*step))) {
        let none = Vec::new();
        let (our, their) = (ours.get(step).unwrap_or(&none), theirs.get(step).unwrap_or(&none));
        if our == their {
            outcome.equal += our.len();
            outcome.errors += our.iter().filter(|line| line.contains("error")).count();
            continue;
        }
        let row = rows.iter().position(|row| step.starts_with(row.step));
        if let Some(row) = row {
            needed[row] = true;
        }
        outcome.differences.push(Difference {
            step: (*step).to_owned(),
            ours: our.iter().map(ToString::to_string).collect(),
            theirs: their.iter().map(ToString::to_string).collect(),
            expected: row.map(|row| rows[row].reason),
        });
    }
    for (row, _) in rows.iter().zip(needed).filter(|(_, needed)| !needed) {
        outcome.unneeded.push(format!("{} does not differ: {}", row.step, row.reason));
    }
    outcome
}

impl Expected {
    fn is_for(&self, client: &Client) -> bool {
        (self.client.is_empty() || self.client == client.name)
            && client.does == "steps"
            && (self.version.is_empty() || self.version == client.version)
    }
}

/// The name of a line's step.
fn step(line: &str) -> &str {
    line.split_once(": ").map_or(line, |(step, _)| step)
}

/// The results by step, in the order of printing. The end of the program counts as a step.
fn by_step(lines: &Lines) -> BTreeMap<&str, Vec<&str>> {
    let mut steps: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in &lines.lines {
        steps
            .entry(step(line))
            .or_default()
            .push(line.split_once(": ").map_or("", |(_, said)| said));
    }
    if let Some(failure) = &lines.failure {
        steps.entry(END).or_default().push(failure);
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::CLIENTS;

    fn lines(lines: &[&str]) -> Lines {
        Lines { lines: lines.iter().map(ToString::to_string).collect(), failure: None }
    }

    const ROW: Expected =
        Expected { client: CLIENTS[0].name, version: "", step: "endpoint.", reason: "a reason" };

    #[test]
    fn a_step_that_differs_or_is_missing_fails_the_client() {
        let theirs = lines(&["get: 1", "watch: a", "watch: b", "end: ok"]);
        assert!(compare(&CLIENTS[0], &theirs, &theirs, &[]).passed(true));
        let ours = lines(&["get: 1", "watch: b", "watch: a", "end: ok"]);
        assert!(!compare(&CLIENTS[0], &ours, &theirs, &[]).passed(true));
        assert!(!compare(&CLIENTS[0], &lines(&["get: 1", "end: ok"]), &theirs, &[]).passed(true));
        let more = lines(&["get: 1", "watch: a", "watch: b", "watch: b", "end: ok"]);
        assert!(!compare(&CLIENTS[0], &more, &theirs, &[]).passed(true));
    }

    #[test]
    fn a_program_that_fails_with_both_servers_fails() {
        let both = lines(&["get: error"]);
        assert!(!compare(&CLIENTS[0], &both, &both, &[]).passed(true));
    }

    #[test]
    fn an_expected_difference_passes_and_fails_the_long_run_once_it_is_gone() {
        let theirs = lines(&["endpoint.http: ok", "end: ok"]);
        let ours = lines(&["endpoint.http: refused", "end: ok"]);
        assert!(compare(&CLIENTS[0], &ours, &theirs, &[ROW]).passed(true));
        let gone = compare(&CLIENTS[0], &theirs, &theirs, &[ROW]);
        assert!(gone.passed(false) && !gone.passed(true));
        assert!(compare(&CLIENTS[1], &theirs, &theirs, &[ROW]).passed(true));
    }
}
