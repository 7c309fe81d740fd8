//! Compares two transcripts of one script.

use crate::guide::{self, Shown};
use std::collections::BTreeMap;

/// The result of a comparison.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// The differences as text, with `-` for the left and `+` for the right.
    pub text: String,
    /// How often each row of `docs/differences.md` was needed.
    pub rows: BTreeMap<String, u64>,
}

/// Compares two transcripts of one script. If a command differs that a row of
/// `docs/differences.md` allows to differ, the row is counted.
#[must_use]
pub fn transcripts(left: &[Shown], right: &[Shown]) -> Differences {
    let mut differences = Differences::default();
    for (left, right) in left.iter().zip(right) {
        if left.output == right.output {
            continue;
        }
        if let Some(row) = &left.differs {
            *differences.rows.entry(row.clone()).or_default() += 1;
            continue;
        }
        differences.text.push_str(&format!("  $ {}\n", left.command.replace('\n', "\n    ")));
        differences.text.push_str(&lines(&left.output, &right.output));
    }
    differences
}

/// Compares a transcript with a recorded one. Steps that may differ between servers must be equal,
/// too: the record holds what our programs have to print.
#[must_use]
pub fn with_recorded(transcript: &[Shown], recorded: &str) -> Differences {
    let mut differences = Differences::default();
    let blocks = |text: &str| -> Vec<String> {
        format!("\n{text}").split("\n$ ").skip(1).map(str::to_owned).collect()
    };
    let (ours, recorded) = (blocks(&guide::text(transcript)), blocks(recorded));
    for (ours, recorded) in ours.iter().zip(&recorded) {
        let (ours, recorded) = (ours.trim_end_matches('\n'), recorded.trim_end_matches('\n'));
        if ours != recorded {
            let command = ours.lines().next().unwrap_or_default();
            differences.text.push_str(&format!("  $ {command}\n{}", lines(recorded, ours)));
        }
    }
    if ours.len() != recorded.len() {
        let (ours, recorded) = (ours.len(), recorded.len());
        differences.text.push_str(&format!("  {recorded} commands are recorded, not {ours}\n"));
    }
    differences
}

/// The lines in which two texts differ, without their common start and end.
#[must_use]
pub fn lines(left: &str, right: &str) -> String {
    let (left, right): (Vec<&str>, Vec<&str>) = (left.lines().collect(), right.lines().collect());
    let same = left.iter().zip(&right).take_while(|(left, right)| left == right).count();
    let (left, right) = (&left[same..], &right[same..]);
    let pairs = left.iter().rev().zip(right.iter().rev());
    let same = pairs.take_while(|(left, right)| left == right).count();
    let mut text = String::new();
    for line in &left[..left.len() - same] {
        text.push_str(&format!("  - {line}\n"));
    }
    for line in &right[..right.len() - same] {
        text.push_str(&format!("  + {line}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(output: &str, differs: Option<&str>) -> Shown {
        Shown {
            command: "ctl x".into(),
            output: output.into(),
            differs: differs.map(str::to_owned),
        }
    }

    #[test]
    fn only_what_differs_is_told() {
        let left = [shown("a\nb\nc\n", None), shown("same\n", None)];
        let right = [shown("a\nB\nc\n", None), shown("same\n", None)];
        assert_eq!(transcripts(&left, &right).text, "  $ ctl x\n  - b\n  + B\n");
        assert_eq!(transcripts(&left, &left).text, "");
    }

    #[test]
    fn a_listed_difference_is_counted() {
        let left = [shown("a\n", Some("row")), shown("a\n", Some("row"))];
        let right = [shown("b\n", Some("row")), shown("a\n", Some("row"))];
        let differences = transcripts(&left, &right);
        assert_eq!(differences.text, "");
        assert_eq!(differences.rows["row"], 1);
    }
}
