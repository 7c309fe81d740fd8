//! The list of mutations: the files in `xtask/mutations`, one for each area.
//!
//! A mutation is a paragraph; `#` begins a comment line, and `-` and `+` may be repeated:
//!
//! ```text
//! id: wal-sync
//! file: core/wal/src/write.rs
//! why: an acknowledged batch must be on disk
//! - let synced = tail.file.sync_data();
//! + let synced = Ok(());
//! test: -p wal --test it crash
//! ```
//!
//! The text behind `-` must occur exactly once in the file; runs of white space count as one.
//! `timeout: caught` says that the test may hang instead of failing.

use anyhow::{Context, bail, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// One change of the shipped code, and the test that must fail with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mutation {
    /// The name, unique in the list.
    pub(crate) id: String,
    /// The file below the workspace.
    pub(crate) file: String,
    /// The fault that the mutation causes.
    pub(crate) why: String,
    /// The text that is replaced.
    pub(crate) find: String,
    /// The text that takes its place; may be empty.
    pub(crate) replace: String,
    /// The arguments of `cargo test`.
    pub(crate) test: Vec<String>,
    /// Whether a test that does not end counts as failed.
    pub(crate) may_hang: bool,
}

/// All mutations, in the order of the files' names.
///
/// # Errors
/// When a file cannot be read, has another form, or an id occurs twice.
pub(crate) fn read(root: &Path) -> anyhow::Result<Vec<Mutation>> {
    let folder = root.join("xtask/mutations");
    let mut paths = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        paths.push(entry?.path());
    }
    paths.sort();
    let mut list = Vec::new();
    for path in paths {
        let text = fs::read_to_string(&path)?;
        list.extend(parse(&text).with_context(|| path.display().to_string())?);
    }
    let mut ids = BTreeSet::new();
    for mutation in &list {
        ensure!(ids.insert(&mutation.id), "the id {} occurs twice", mutation.id);
    }
    Ok(list)
}

/// The mutations of one file.
fn parse(text: &str) -> anyhow::Result<Vec<Mutation>> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let paragraphs = lines.collect::<Vec<_>>().join("\n");
    let paragraphs = paragraphs.split("\n\n").map(str::trim).filter(|p| !p.is_empty());
    paragraphs.map(|p| mutation(p).with_context(|| p.to_owned())).collect()
}

fn mutation(paragraph: &str) -> anyhow::Result<Mutation> {
    let mut made = Mutation::default();
    let (mut find, mut replace) = (Vec::new(), Vec::new());
    for line in paragraph.lines() {
        if let Some(text) = line.strip_prefix('-') {
            find.push(text.trim());
        } else if let Some(text) = line.strip_prefix('+') {
            replace.push(text.trim());
        } else {
            let (key, value) = line.split_once(':').context("a line without a key")?;
            let value = value.trim();
            match key {
                "id" => value.clone_into(&mut made.id),
                "file" => value.clone_into(&mut made.file),
                "why" => value.clone_into(&mut made.why),
                "test" => made.test = value.split_whitespace().map(str::to_owned).collect(),
                "timeout" if value == "caught" => made.may_hang = true,
                _ => bail!("an unknown line: {line}"),
            }
        }
    }
    made.find = find.join("\n");
    made.replace = replace.join("\n");
    for (key, value) in [("id", &made.id), ("file", &made.file), ("why", &made.why)] {
        ensure!(!value.is_empty(), "{key} is missing");
    }
    ensure!(!made.find.is_empty(), "there is no line with -");
    ensure!(made.find != made.replace, "nothing is changed");
    ensure!(made.test.first().is_some_and(|word| word == "-p"), "test begins with -p CRATE");
    Ok(made)
}

impl Mutation {
    /// The file's text with the mutation.
    ///
    /// # Errors
    /// When the text to replace does not occur exactly once.
    pub(crate) fn apply(&self, text: &str) -> anyhow::Result<String> {
        let places = places(text, &self.find);
        let [(start, end)] = places.as_slice() else {
            bail!("{}: occurs {} times in {}: {}", self.id, places.len(), self.file, self.find);
        };
        Ok(format!("{}{}{}", &text[..*start], self.replace, &text[*end..]))
    }
}

/// Where a text occurs: starts and ends. A run of white space is equal to any other.
fn places(text: &str, find: &str) -> Vec<(usize, usize)> {
    let words: Vec<&str> = find.split_whitespace().collect();
    let Some(first) = words.first() else { return Vec::new() };
    let starts = text.match_indices(first).map(|(start, _)| start);
    starts.filter_map(|start| Some((start, end_of(text, start, &words)?))).collect()
}

fn end_of(text: &str, start: usize, words: &[&str]) -> Option<usize> {
    let mut at = start;
    for (number, word) in words.iter().enumerate() {
        let rest = &text[at..];
        let blank = rest.len() - rest.trim_start().len();
        if (number > 0) != (blank > 0) || !rest[blank..].starts_with(word) {
            return None;
        }
        at += blank + word.len();
    }
    Some(at)
}

/// Every mutation whose text is not found exactly once in its file.
pub(crate) fn faults(root: &Path, list: &[Mutation]) -> Vec<String> {
    let check = |mutation: &Mutation| -> anyhow::Result<()> {
        let file = root.join(&mutation.file);
        let text = fs::read_to_string(file).with_context(|| mutation.file.clone())?;
        mutation.apply(&text).map(drop)
    };
    list.iter().filter_map(|m| Some(format!("xtask/mutations: {:#}", check(m).err()?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "id: a\nfile: x.rs\nwhy: it matters\n- let b = f(c)?;\n-  g(b);\n+ g(0);\n\
                       test: -p x --test it crash\n";

    #[test]
    fn a_paragraph_is_a_mutation() {
        let list = parse(&format!("# comment\n{ONE}\n\n{ONE}timeout: caught\n")).unwrap();
        let expected = Mutation {
            id: "a".to_owned(),
            file: "x.rs".to_owned(),
            why: "it matters".to_owned(),
            find: "let b = f(c)?;\ng(b);".to_owned(),
            replace: "g(0);".to_owned(),
            test: ["-p", "x", "--test", "it", "crash"].map(str::to_owned).to_vec(),
            may_hang: false,
        };
        assert_eq!(list[0], expected);
        assert_eq!(list[1], Mutation { may_hang: true, ..expected });
    }

    #[test]
    fn what_is_missing_or_unknown_is_refused() {
        for line in ["id: a", "file: x.rs", "why: it matters", "test: -p x --test it crash"] {
            assert!(parse(&ONE.replace(line, "")).is_err(), "{line}");
        }
        assert!(parse(&ONE.replace("- ", "+ ").replace("-  g(b);\n", "")).is_err());
        assert!(parse(&format!("{ONE}colour: red\n")).is_err());
    }

    #[test]
    fn the_text_must_occur_exactly_once_whatever_its_white_space() {
        let mutation = &parse(ONE).unwrap()[0];
        let text = "{\n        let b = f(c)?;\n        g(b);\n}\n";
        assert_eq!(mutation.apply(text).unwrap(), "{\n        g(0);\n}\n");
        assert!(mutation.apply(&format!("{text}{text}")).is_err());
        assert!(mutation.apply("let b = f(c)?; gg(b);").is_err());
        assert!(mutation.apply("let b = f (c)?; g(b);").is_err());
        assert!(mutation.apply("letb = f(c)?; g(b);").is_err());
    }
}
