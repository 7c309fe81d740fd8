//! Checks the content of files: headers, sizes, forbidden words, and lists in documents.

use anyhow::Context;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The folders that hold Rust files.
const FOLDERS: [&str; 5] = ["core", "edge", "bin", "test", "xtask"];

/// Lines of a source file without its tests.
const LINES_MAX: usize = 800;

/// The path and the text of every Rust file of the workspace.
///
/// # Errors
/// When a folder or file cannot be read.
pub(crate) fn sources(root: &Path) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        walk(&root.join(folder), &mut files)?;
    }
    let read = |file: &PathBuf| {
        let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
        Ok((file.strip_prefix(root).unwrap_or(file).display().to_string(), text))
    };
    files.iter().map(read).collect()
}

/// Faults of these files.
pub(crate) fn faults(sources: &[(String, String)]) -> Vec<String> {
    sources.iter().flat_map(|(shown, text)| source(shown, text)).collect()
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                walk(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The root files of all libraries and programs, below the workspace.
///
/// # Errors
/// When a folder cannot be read.
pub(crate) fn crate_roots(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        walk(&root.join(folder), &mut files)?;
    }
    let is_root = |file: &Path| {
        let folder = file.parent().unwrap_or(file);
        let name = file.file_name().unwrap_or_default();
        (folder.ends_with("src") && (name == "lib.rs" || name == "main.rs"))
            || folder.ends_with("src/bin")
    };
    files.retain(|file| is_root(file));
    files.sort();
    let below = files.iter().map(|file| file.strip_prefix(root).unwrap_or(file));
    Ok(below.map(|file| file.display().to_string()).collect())
}

/// Words that say that something is not done; in two parts, so that this file passes.
const UNDONE: [(&str, &str); 7] = [
    ("FIX", "ME"),
    ("TO", "DO"),
    ("XX", "X:"),
    ("dbg", "!("),
    ("todo", "!("),
    ("unimplemented", "!("),
    ("#[ign", "ore"),
];

fn source(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    if !text.starts_with("//!") {
        faults.push(format!("{name}: does not begin with //! and what it is"));
    }
    let is_test = name.contains("/tests/") || name.ends_with("/tests.rs");
    let code = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
    if code > LINES_MAX && !is_test {
        faults.push(format!("{name}: {code} lines; the limit is {LINES_MAX} without tests"));
    }
    for (number, line) in text.lines().enumerate() {
        for (start, end) in UNDONE {
            if line.contains(&format!("{start}{end}")) {
                faults.push(format!("{name}:{}: {start}{end} must not stay", number + 1));
            }
        }
    }
    faults
}

/// Faults of the documents: the list of crates, the decisions, the dependencies.
///
/// # Errors
/// When a document cannot be read.
pub(crate) fn documents(
    root: &Path,
    members: &BTreeSet<String>,
    outside: &BTreeSet<String>,
) -> anyhow::Result<Vec<String>> {
    let read = |name: &str| {
        fs::read_to_string(root.join(name)).with_context(|| format!("cannot read {name}"))
    };
    let mut faults = lists(
        "ARCHITECTURE.md",
        &first_column(&read("ARCHITECTURE.md")?),
        members,
        "the workspace's crates",
    );
    faults.extend(lists(
        "docs/decisions/0002-dependencies.md",
        &first_column(&read("docs/decisions/0002-dependencies.md")?),
        outside,
        "the crates from outside that are named in a Cargo.toml",
    ));
    let mut decisions = BTreeMap::new();
    for entry in fs::read_dir(root.join("docs/decisions"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        decisions.insert(name, fs::read_to_string(&path)?);
    }
    faults.extend(numbered(&decisions));
    let mut sources = String::new();
    let mut files = Vec::new();
    for folder in ["core", "edge", "bin", "test"] {
        walk(&root.join(folder), &mut files)?;
    }
    for file in files {
        sources.push_str(&fs::read_to_string(&file)?);
    }
    let past_bugs = last_column(&read("docs/past-bugs.md")?);
    let architecture = test_names(&read("ARCHITECTURE.md")?);
    let (advisories, untested) = advisories(&read("docs/security.md")?);
    faults.extend(untested);
    for (document, tests) in [
        ("docs/past-bugs.md", past_bugs),
        ("ARCHITECTURE.md", architecture),
        ("docs/security.md", advisories),
    ] {
        for test in tests {
            if !root.join(&test).is_file() && !sources.contains(&format!("fn {test}(")) {
                faults.push(format!("{document}: there is no test {test}"));
            }
        }
    }
    Ok(faults)
}

/// The names in backticks at the end of each row of a document's tables.
fn last_column(text: &str) -> BTreeSet<String> {
    let cells = text.lines().filter_map(|line| line.strip_suffix("` |"));
    cells.filter_map(|line| line.rsplit_once("| `")).map(|(_, name)| name.to_owned()).collect()
}

/// The names of tests in a text: words in backticks with at least three underscores.
fn test_names(text: &str) -> BTreeSet<String> {
    let is_name = |name: &&str| {
        name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && name.matches('_').count() >= 3
    };
    text.split('`').skip(1).step_by(2).filter(is_name).map(str::to_owned).collect()
}

/// The tests in the table of advisories in `docs/security.md`, and the rows that have neither a test
/// nor a reason why there is none.
fn advisories(text: &str) -> (BTreeSet<String>, Vec<String>) {
    let (_, section) = text.split_once("\n## Advisories\n").unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = || section.lines().filter(|line| line.starts_with("| ")).skip(1);
    let tests =
        |row: &str| test_names(row.trim_end_matches(" |").rsplit(" | ").next().unwrap_or(""));
    let is_untested = |row: &&str| tests(row).is_empty() && !row.contains("| does not apply: ");
    let mut faults: Vec<String> = rows()
        .filter(is_untested)
        .map(|row| format!("docs/security.md: no test, nor `does not apply: `, in {row}"))
        .collect();
    if rows().next().is_none() {
        faults.push("docs/security.md: there is no table of advisories".to_owned());
    }
    (rows().flat_map(tests).collect(), faults)
}

/// The names in backticks at the start of each row of a document's tables.
fn first_column(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .filter_map(|line| line.split_once('`'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn lists(
    document: &str,
    listed: &BTreeSet<String>,
    real: &BTreeSet<String>,
    what: &str,
) -> Vec<String> {
    let missing =
        real.difference(listed).map(|n| format!("{document}: {n} is missing from {what}"));
    let extra = listed.difference(real).map(|n| format!("{document}: {n} is not among {what}"));
    missing.chain(extra).collect()
}

/// Each decision has a number of its own and says its status.
fn numbered(decisions: &BTreeMap<String, String>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut seen = BTreeMap::new();
    for (name, text) in decisions {
        let number = name.get(..4).filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
        let Some(number) = number else {
            faults.push(format!("docs/decisions/{name}: begins with no number"));
            continue;
        };
        if let Some(other) = seen.insert(number, name) {
            faults.push(format!("docs/decisions/{name}: has the number of {other}"));
        }
        if !text.lines().any(|line| line.starts_with("Status: ")) {
            faults.push(format!("docs/decisions/{name}: has no line Status: …"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_header_or_too_long_is_a_fault() {
        assert!(source("a.rs", "//! A file.\n").is_empty());
        assert_eq!(source("a.rs", "use x;\n").len(), 1);
        let long = format!("//! A file.\n{}", "x\n".repeat(LINES_MAX));
        assert_eq!(source("a.rs", &long), ["a.rs: 801 lines; the limit is 800 without tests"]);
        assert!(source("a/tests.rs", &long).is_empty());
        let tested = long.replacen("x\n", "#[cfg(test)]\n", 1);
        assert!(source("a.rs", &tested).is_empty());
        let undone = format!("//! A file.\n// {}{} later\n", "TO", "DO");
        assert_eq!(source("a.rs", &undone).len(), 1);
    }

    #[test]
    fn lists_must_equal_what_there_is() {
        let listed = first_column("| crate | is |\n|---|---|\n| `a` | x |\n| `b` | y |\n");
        let real = ["b", "c"].map(str::to_owned).into();
        let faults = lists("D", &listed, &real, "these");
        assert_eq!(faults, ["D: c is missing from these", "D: a is not among these"]);
    }

    #[test]
    fn the_test_of_a_bug_stands_at_the_end_of_its_row() {
        let text = "| bug | test |\n|---|---|\n| `a` was b | `it_is_b` |\n| x | `core/y.txt` |\n";
        let expected = ["core/y.txt", "it_is_b"].map(str::to_owned).into();
        assert_eq!(last_column(text), expected);
    }

    #[test]
    fn an_advisory_has_tests_or_a_reason_why_it_has_none() {
        let table = "x\n## Advisories\n\n| a | b | t |\n|---|---|---|\n\
                     | 1 | x | `one_of_the_tests`, `two_of_the_tests` |\n\
                     | 2 | `not_a_test_here` | does not apply: not built |\n";
        let tests = ["one_of_the_tests", "two_of_the_tests"].map(str::to_owned).into();
        assert_eq!(advisories(table), (tests, Vec::new()));
        let untested = format!("{table}| 3 | x | none |\n\n## Next\n| 4 | x | none |\n");
        assert_eq!(advisories(&untested).1.len(), 1);
        assert_eq!(advisories("").1.len(), 1);
    }

    #[test]
    fn a_name_with_three_underscores_in_backticks_is_a_tests() {
        let text =
            "**Invariant:** a holds (`a_b_c_d`,\n`e_f_g_h2`); `x_max` and `A_B_C_D` are none.";
        assert_eq!(test_names(text), ["a_b_c_d", "e_f_g_h2"].map(str::to_owned).into());
    }

    #[test]
    fn decisions_have_numbers_and_a_status() {
        let decisions = [
            ("0001-a.md", "Status: accepted\n"),
            ("0001-b.md", "Status: accepted\n"),
            ("0002-c.md", "none"),
            ("x.md", "Status: accepted\n"),
        ];
        let decisions = decisions.map(|(n, t)| (n.to_owned(), t.to_owned())).into();
        assert_eq!(numbered(&decisions).len(), 3);
    }
}
