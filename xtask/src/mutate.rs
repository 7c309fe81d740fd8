//! `cargo xtask mutate`: small changes to the shipped code that would lose or corrupt data, and
//! the proof that a test fails with each of them.
//!
//! The list is in `xtask/mutations`; its form is described in `list`.

mod list;
mod run;

use anyhow::{Context, bail, ensure};
use list::Mutation;
use run::{Copy, Verdict};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

/// Which mutations are run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Choice {
    /// Only the list is checked.
    check: bool,
    /// Only those whose ids begin with this.
    only: Option<String>,
    /// The seed of the part that is chosen.
    seed: u64,
    /// One in so many is run.
    part: Option<usize>,
}

/// One line of the table.
#[derive(Debug)]
struct Row {
    id: String,
    passed: bool,
    result: String,
    took: Duration,
}

/// Runs `cargo xtask mutate` with these arguments; whether every mutation was caught.
///
/// # Errors
/// When an argument is unknown, the list is wrong, or the tests fail without a mutation.
#[expect(clippy::print_stdout, reason = "progress and the table are for the user")]
pub(crate) fn run(root: &Path, arguments: &[&str]) -> anyhow::Result<bool> {
    let choice = Choice::parse(arguments)?;
    let list = list::read(root)?;
    if choice.check {
        let faults = faults(root)?;
        ensure!(faults.is_empty(), "{}", faults.join("\n"));
        println!("mutate: {} mutations, each found exactly once", list.len());
        return Ok(true);
    }
    let started = Instant::now();
    let chosen = choice.of(&list)?;
    println!("mutate: {} of {} mutations, seed {}", chosen.len(), list.len(), choice.seed);
    let copy = Copy::update(root)?;
    let tests: BTreeSet<&Vec<String>> = chosen.iter().map(|m| &m.test).collect();
    for test in tests {
        println!("without a mutation: cargo test {}", test.join(" "));
        copy.baseline(test)?;
    }
    println!("the tests pass without a mutation: {} s", started.elapsed().as_secs());
    let mut rows = Vec::new();
    for mutation in chosen {
        let begun = Instant::now();
        let verdict = copy.try_out(mutation)?;
        let (passed, result) = judge(mutation, &verdict);
        println!("{}: {result}", mutation.id);
        rows.push(Row { id: mutation.id.clone(), passed, result, took: begun.elapsed() });
    }
    println!("{}", table(&rows));
    let missed = rows.iter().filter(|row| !row.passed).count();
    let seconds = started.elapsed().as_secs();
    println!("mutate: {} caught, {missed} not, {seconds} s", rows.len() - missed);
    Ok(missed == 0)
}

/// Every mutation whose text is not found exactly once in its file, for `tidy`.
///
/// # Errors
/// When the list cannot be read.
pub(crate) fn faults(root: &Path) -> anyhow::Result<Vec<String>> {
    Ok(list::faults(root, &list::read(root)?))
}

fn judge(mutation: &Mutation, verdict: &Verdict) -> (bool, String) {
    match verdict {
        Verdict::Caught(test) => (true, test.clone()),
        Verdict::Hung if mutation.may_hang => (true, "the test did not end".to_owned()),
        Verdict::Hung => (false, "NOT CAUGHT: the test did not end".to_owned()),
        Verdict::Survived => {
            (false, format!("NOT CAUGHT by cargo test {}", mutation.test.join(" ")))
        }
        Verdict::Broken => (false, "BROKEN: it does not compile".to_owned()),
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = "| mutation | caught by | seconds |\n|---|---|---|".to_owned();
    for row in rows {
        text.push_str(&format!(
            "\n| {} | {} | {:.1} |",
            row.id,
            row.result,
            row.took.as_secs_f64()
        ));
    }
    text
}

impl Choice {
    fn parse(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut choice = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("{argument} needs a value"));
            match *argument {
                "--check" => choice.check = true,
                "--only" => choice.only = Some((*value()?).to_owned()),
                "--seed" => choice.seed = value()?.parse()?,
                "--part" => choice.part = Some(value()?.parse()?),
                other => {
                    bail!("unknown: {other}; there are --check, --only ID, --seed N, --part N")
                }
            }
        }
        ensure!(choice.part != Some(0), "--part counts from 1");
        Ok(choice)
    }

    /// The chosen mutations in the order of the list.
    fn of<'a>(&self, list: &'a [Mutation]) -> anyhow::Result<Vec<&'a Mutation>> {
        if let Some(id) = &self.only {
            let found: Vec<&Mutation> = list.iter().filter(|m| m.id.starts_with(id)).collect();
            ensure!(!found.is_empty(), "no mutation is called {id}");
            return Ok(found);
        }
        let mut order: Vec<usize> = (0..list.len()).collect();
        order.sort_by_key(|at| mixed(self.seed, *at));
        order.truncate(list.len().div_ceil(self.part.unwrap_or(1)));
        order.sort_unstable();
        Ok(order.into_iter().map(|at| &list[at]).collect())
    }
}

/// A number that depends on the seed and a place in no obvious way: FNV-1a.
fn mixed(seed: u64, at: usize) -> u64 {
    let bytes = seed.to_le_bytes().into_iter().chain((at as u64).to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> Vec<Mutation> {
        (0..40).map(|n| Mutation { id: n.to_string(), ..Mutation::default() }).collect()
    }

    #[test]
    fn a_part_depends_on_the_seed_and_has_its_share() {
        let list = list();
        let of = |seed| {
            let choice = Choice { seed, part: Some(4), ..Choice::default() };
            choice.of(&list).unwrap().into_iter().map(|m| m.id.clone()).collect::<Vec<_>>()
        };
        assert_eq!(of(1).len(), 10);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let together: BTreeSet<String> = (0..40).flat_map(of).collect();
        assert_eq!(together.len(), 40, "some mutation is never chosen");
    }

    #[test]
    fn some_are_chosen_by_the_beginning_of_their_ids() {
        let choice = Choice::parse(&["--only", "1"]).unwrap();
        assert_eq!(choice.of(&list()).unwrap().len(), 11);
        assert!(Choice::parse(&["--only", "x"]).unwrap().of(&list()).is_err());
        assert!(Choice::parse(&["--part", "0"]).is_err());
        assert!(Choice::parse(&["--fast"]).is_err());
    }

    #[test]
    fn only_a_failed_test_catches_a_mutation() {
        let strict = Mutation::default();
        let patient = Mutation { may_hang: true, ..Mutation::default() };
        assert!(judge(&strict, &Verdict::Caught("t".to_owned())).0);
        assert!(!judge(&strict, &Verdict::Survived).0);
        assert!(!judge(&strict, &Verdict::Broken).0);
        assert!(!judge(&strict, &Verdict::Hung).0);
        assert!(judge(&patient, &Verdict::Hung).0);
    }
}
