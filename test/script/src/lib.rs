//! A runner for data-driven tests. It reads scripts of commands and expected outputs, calls a
//! function of the test for each command, and compares the output. With `REWRITE=1` in the
//! environment it writes the actual output to the script. Each crate defines its own commands.
//!
//! The format is that of github.com/cockroachdb/datadriven, so that the scripts of etcd's raft
//! library run unchanged:
//!
//! ```text
//! # a comment: why this case matters
//! put key=a value=(1, 2) lease
//! more input for the command,
//! any number of lines
//! ----
//! the expected output, up to the first blank line
//! ```
//!
//! - An argument is `name`, `name=value` or `name=(value, value)`. A backslash at the end of a
//!   command line continues it on the next.
//! - An output with blank lines is enclosed in two lines `----` at its start and two at its end.
//! - Rewriting a script keeps the comments and blank lines between cases.
//!
//! See the test of this crate for an example, and `core/raft/tests` for real scripts.

mod case;
mod parse;

pub use case::{Arg, Case};

use parse::Part;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Runs one script: `handler` gets each case in turn and must return the expected output. A newline
/// is added to an output that does not end in one. `REWRITE=1` does not change the scripts of
/// [`shared`], which belong to etcd.
///
/// # Panics
/// When an output differs, or the script cannot be read or is invalid: this is the assertion of a
/// test. All cases run before the differences are reported.
pub fn run(path: impl AsRef<Path>, handler: impl FnMut(&Case) -> String) {
    let path = path.as_ref();
    let text = fs::read_to_string(path)
        .unwrap_or_else(|error| panic!("cannot read the script {}: {error}", path.display()));
    let Report { rewritten, differences } = run_text(path, &text, handler);
    let given = env::var_os("RETCD_TESTDATA").is_some_and(|root| path.starts_with(root));
    if !given && env::var_os("REWRITE").is_some_and(|value| value == "1") {
        if rewritten != text {
            fs::write(path, rewritten).unwrap_or_else(|error| {
                panic!("cannot rewrite the script {}: {error}", path.display())
            });
        }
        return;
    }
    assert!(differences.is_empty(), "{}", differences.concat());
}

/// The scripts of a directory (`*.txt`, not in subdirectories), sorted by name.
///
/// # Panics
/// When the directory cannot be read or has no script.
#[must_use]
pub fn scripts(directory: impl AsRef<Path>) -> Vec<PathBuf> {
    let directory = directory.as_ref();
    let entries = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", directory.display()));
    let mut found: Vec<PathBuf> = entries
        .map(|entry| {
            entry.unwrap_or_else(|error| panic!("{}: {error}", directory.display())).path()
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    assert!(!found.is_empty(), "no script in {}", directory.display());
    found.sort();
    found
}

/// A file or directory of the shared test data, which `RETCD_TESTDATA` points to.
///
/// Returns `None` and prints what is skipped if the variable is not set.
///
/// # Panics
/// When the variable is set and the file is not there.
#[must_use]
#[expect(clippy::print_stderr, reason = "a test that skips must say so")]
pub fn shared(relative: &str) -> Option<PathBuf> {
    let Some(root) = env::var_os("RETCD_TESTDATA") else {
        eprintln!("skipped: RETCD_TESTDATA is not set, so {relative} is not at hand");
        return None;
    };
    let path = Path::new(&root).join(relative);
    assert!(path.exists(), "RETCD_TESTDATA is set, but {} is missing", path.display());
    Some(path)
}

/// The result of a script.
struct Report {
    /// The script with the actual outputs.
    rewritten: String,
    /// A message for each case whose output differs.
    differences: Vec<String>,
}

fn run_text(path: &Path, text: &str, mut handler: impl FnMut(&Case) -> String) -> Report {
    let parts = parse::parse(path, text)
        .unwrap_or_else(|(line, why)| panic!("{}:{line}: {why}", path.display()));
    let mut report = Report { rewritten: String::new(), differences: Vec::new() };
    for part in parts {
        match part {
            Part::Between(lines) => report.rewritten.push_str(&lines),
            Part::Case { case, source, expected } => {
                let mut actual = {
                    let _place = Place(&case);
                    handler(&case)
                };
                if !actual.is_empty() && !actual.ends_with('\n') {
                    actual.push('\n');
                }
                report.rewritten.push_str(&source);
                report.rewritten.push_str(&parse::framed(&actual));
                if actual != expected {
                    report.differences.push(format!(
                        "\n{}: `{source}`\nexpected:\n{expected}\nfound:\n{actual}",
                        case.place(),
                    ));
                }
            }
        }
    }
    report
}

/// Prints the current case if the handler panics.
struct Place<'a>(&'a Case);

impl Drop for Place<'_> {
    #[expect(clippy::print_stderr, reason = "belongs to the panic's message")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("while running {}", self.0.place());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "\
# what echo does
echo a=1 b=(2, 3) c
line one
line two
----
1 [2 3] true
line one
line two

# an output with blank lines
blank
----
----
up

down
----
----

silent
----
";

    fn handler(case: &Case) -> String {
        match case.command.as_str() {
            "echo" => {
                case.expect_only(&["a", "b", "c"]);
                let a: u64 = case.value("a").unwrap();
                let b: Vec<String> = case.values("b");
                format!("{a} [{}] {}\n{}", b.join(" "), case.has("c"), case.input)
            }
            "blank" => "up\n\ndown\n".into(),
            "silent" => String::new(),
            other => panic!("no command {other}"),
        }
    }

    fn report(text: &str) -> Report {
        run_text(Path::new("a script"), text, handler)
    }

    #[test]
    fn a_script_that_holds_has_no_differences_and_is_rewritten_as_it_was() {
        let report = report(SCRIPT);
        assert_eq!(report.differences, Vec::<String>::new());
        assert_eq!(report.rewritten, SCRIPT);
    }

    #[test]
    fn a_difference_is_reported_with_its_place_and_rewritten() {
        let report = report(&SCRIPT.replace("down", "dawn").replace("1 [2 3]", "wrong"));
        assert_eq!(report.differences.len(), 2);
        assert!(report.differences[0].contains("a script:2"), "{}", report.differences[0]);
        assert!(report.differences[1].contains("a script:11"), "{}", report.differences[1]);
        assert_eq!(report.rewritten, SCRIPT);
    }

    #[test]
    fn an_output_that_gains_blank_lines_gains_its_frame() {
        let report = report("blank\n----\nup\n\nsilent\n----\n");
        assert_eq!(report.rewritten, "blank\n----\n----\nup\n\ndown\n----\n----\n\nsilent\n----\n");
    }

    #[test]
    #[should_panic(expected = "unknown argument d")]
    fn an_argument_that_the_command_does_not_know_is_refused() {
        report("echo a=1 d=4\n----\n");
    }

    #[test]
    #[should_panic(expected = "a script:1: the command has no ---- line")]
    fn a_command_without_its_separator_is_refused() {
        report("echo a=1\ninput\n");
    }

    #[test]
    fn a_command_goes_on_behind_a_backslash() {
        assert_eq!(report("echo a=1 \\\n  b=2\n----\n1 [2] false\n").differences.len(), 0);
    }
}
