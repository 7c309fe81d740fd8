//! The long forms of acceptance: named steps, each a command, run one after another; then a table
//! of what passed, how long it took, and the last line that it printed.
//!
//! Not here: what a step checks. Steps are test binaries and scripts of the crates they prove.

use anyhow::{Context, bail};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One step: a name, what it shows, the command and its environment.
#[derive(Clone, Copy, Debug)]
struct Step {
    name: &'static str,
    shows: &'static str,
    command: &'static [&'static str],
    environment: &'static [(&'static str, &'static str)],
}

/// A command that needs the programs of Go's etcds.
macro_rules! with_peers {
    ($command:expr) => {
        [
            "bash",
            "-c",
            concat!(
                "source .ci/peers.sh; ours='--server target/release/etcd --ctl \
                 target/release/etcdctl --utl target/release/etcdutl'; ",
                $command
            ),
        ]
    };
}

/// The steps of the issue about one member, end to end.
const ONE_MEMBER: &[Step] = &[
    Step {
        name: "tests",
        shows: "every test of the workspace passes",
        command: &["cargo", "test", "--workspace", "--release"],
        environment: &[("RETCD_LONG", "1")],
    },
    Step {
        name: "tidy",
        shows: "the rules of the tree hold",
        command: &["cargo", "test", "--package", "xtask"],
        environment: &[],
    },
    Step {
        name: "build",
        shows: "the release builds",
        command: &["cargo", "build", "--release", "--workspace", "--bins"],
        environment: &[],
    },
    Step {
        name: "kill",
        shows: "nothing acknowledged is lost by kill -9 under load",
        command: &["target/release/kill9", "--ours", "target/release/etcd", "--cycles", "200"],
        environment: &[],
    },
    Step {
        name: "crash",
        shows: "nothing acknowledged is lost at any point of a simulated disk",
        command: &["target/release/crash", "--every", "1", "--images", "16", "--faults", "500"],
        environment: &[],
    },
    Step {
        name: "space",
        shows: "space comes back under load",
        command: &["target/release/space", "--ours", "target/release/etcd"],
        environment: &[],
    },
    Step {
        name: "fuzz",
        shows: "no input makes a decoder panic",
        command: &["target/release/fuzz", "--seconds", "120", "--seed", "1"],
        environment: &[],
    },
    Step {
        name: "tour",
        shows: "ours prints what 3.7.1 printed",
        command: &with_peers!("target/release/tour $ours"),
        environment: &[],
    },
    Step {
        name: "tour-3.4.23",
        shows: "etcdctl 3.4.23 prints the same against our server as against its own",
        command: &with_peers!(
            "target/release/tour --server target/release/etcd --ctl $CTL34 --against $GO34"
        ),
        environment: &[],
    },
    Step {
        name: "tour-3.5.1",
        shows: "etcdctl 3.5.1 prints the same against our server as against its own",
        command: &with_peers!(
            "target/release/tour --server target/release/etcd --ctl $CTL351 --against $GO351"
        ),
        environment: &[],
    },
    Step {
        name: "tour-3.5.30",
        shows: "etcdctl 3.5.30 prints the same against our server as against its own",
        command: &with_peers!(
            "target/release/tour --server target/release/etcd --ctl $CTL35 --against $GO35"
        ),
        environment: &[],
    },
    Step {
        name: "tour-ours",
        shows: "our etcdctl prints the same against 3.5.30 as against our server",
        command: &with_peers!("target/release/tour $ours --against $GO35"),
        environment: &[],
    },
    Step {
        name: "scripts",
        shows: "expiry, and the grouping of watch responses, are as with 3.5.30",
        command: &with_peers!("target/release/scripts --ours target/release/etcd --theirs $GO35"),
        environment: &[],
    },
    Step {
        name: "conformance",
        shows: "100,000 requests get the same answers as from 3.5.30, with every listed row used",
        command: &with_peers!(
            "target/release/conformance --ours target/release/etcd --theirs $GO35 \
             --requests 100000 --all-rows"
        ),
        environment: &[],
    },
];

/// What became of the steps.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    shows: &'static str,
    passed: bool,
    took: Duration,
    last: String,
}

impl Table {
    /// Whether every step passed.
    pub(crate) fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.passed)
    }

    /// The table as Markdown.
    pub(crate) fn text(&self) -> String {
        let mut text =
            "| step | shows | result | seconds | last line |\n|---|---|---|---|---|".to_owned();
        for row in &self.rows {
            let result = if row.passed { "passed" } else { "FAILED" };
            text.push_str(&format!(
                "\n| {} | {} | {result} | {:.1} | {} |",
                row.name,
                row.shows,
                row.took.as_secs_f64(),
                row.last.replace('|', "\\|"),
            ));
        }
        text
    }
}

/// Runs the steps of an issue, or those that are named.
///
/// # Errors
/// When the issue has no steps, a name is unknown, or a command cannot be started.
pub(crate) fn run(root: &Path, issue: &str, names: &[&str]) -> anyhow::Result<Table> {
    let steps = match issue {
        "2" | "3" => ONE_MEMBER,
        other => bail!("nothing is to be proved for {other}"),
    };
    if let Some(unknown) = names.iter().find(|name| !steps.iter().any(|s| s.name == **name)) {
        let known: Vec<&str> = steps.iter().map(|s| s.name).collect();
        bail!("no step is called {unknown}; there are: {}", known.join(", "));
    }
    let mut rows = Vec::new();
    for step in steps.iter().filter(|s| names.is_empty() || names.contains(&s.name)) {
        rows.push(run_step(root, step)?);
    }
    Ok(Table { rows })
}

#[expect(clippy::print_stdout, reason = "the output of long steps is shown as they run")]
fn run_step(root: &Path, step: &Step) -> anyhow::Result<Row> {
    println!("== {}: {}", step.name, step.shows);
    let [program, arguments @ ..] = step.command else { bail!("{} has no command", step.name) };
    let started = Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .envs(step.environment.iter().copied())
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    Ok(Row {
        name: step.name,
        shows: step.shows,
        passed: output.status.success(),
        took: started.elapsed(),
        last: text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_says_what_failed() {
        let row = |name, passed| Row {
            name,
            shows: "x",
            passed,
            took: Duration::from_millis(1500),
            last: "a|b".to_owned(),
        };
        let table = Table { rows: vec![row("one", true), row("two", false)] };
        assert!(!table.passed());
        assert!(table.text().ends_with("\n| two | x | FAILED | 1.5 | a\\|b |"));
    }

    #[test]
    fn unknown_steps_are_refused() {
        assert!(run(Path::new("."), "2", &["nope"]).is_err());
        assert!(run(Path::new("."), "999", &[]).is_err());
    }
}
