//! `cargo xtask prove NAME…`: the long runs, by name. Each is a command; a table at the end says
//! which passed, how long they took, and the last line that each one printed.
//!
//! Not here: what a run checks. The commands are programs and tests of the workspace.

use anyhow::{Context, bail};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One long run: a name, what it shows, the command and its environment.
#[derive(Clone, Copy, Debug)]
struct Proof {
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

/// All of them, in the order of `prove all`.
const PROOFS: &[Proof] = &[
    Proof {
        name: "tests",
        shows: "every test of the workspace passes",
        command: &["cargo", "test", "--workspace", "--release"],
        environment: &[("RETCD_LONG", "1")],
    },
    Proof {
        name: "tidy",
        shows: "the rules of the tree hold",
        command: &["cargo", "test", "--package", "xtask"],
        environment: &[],
    },
    Proof {
        name: "build",
        shows: "the release builds",
        command: &["cargo", "build", "--release", "--workspace", "--bins"],
        environment: &[],
    },
    Proof {
        name: "mutate",
        shows: "each change of the list breaks a test",
        command: &["cargo", "xtask", "mutate"],
        environment: &[],
    },
    Proof {
        name: "kill",
        shows: "nothing acknowledged is lost by kill -9 under load",
        command: &["target/release/kill9", "--ours", "target/release/etcd", "--cycles", "200"],
        environment: &[],
    },
    Proof {
        name: "members",
        shows: "members come and go under load, and no request fails but at elections",
        command: &["target/release/members", "--ours", "target/release/etcd", "--rounds", "10"],
        environment: &[],
    },
    Proof {
        name: "drop-in",
        shows: "Go's etcds and ours take each other's place: on one directory, with snapshots, after \
                downgrades, live, in mixed clusters",
        command: &with_peers!(
            "ours='--ours target/release/etcd'; all=$(printf -- '--theirs %s ' $GO34 $GO351 $GO35); \
             images=$(mktemp -d) && bbolt=$(target/release/dbcheck) && all=\"$all --bbolt $bbolt\" && \
             target/release/dropin $ours $all --long --jobs 2 && \
             target/release/dropin $ours $all --snapshots --long && \
             target/release/dropin $ours $all --downgrades $RETCD_TESTDATA/go-data --long && \
             target/release/dropin $ours $all --runbook docs/migrating.md && \
             target/release/crash --seeds 4 --write-images 500 --into $images && \
             target/release/dbcheck $images && rm -r $images && \
             for seed in 1 2 3; do for theirs in $GO34 $GO35; do \
             target/release/chaos $ours --theirs $theirs --mode replace --seed $seed || exit; done; \
             done; for mixed in 1 2; do target/release/chaos $ours --theirs $GO35 --mixed $mixed \
             --seconds 600 --every 10 || exit; done"
        ),
        environment: &[],
    },
    Proof {
        name: "chaos",
        shows: "three processes with kills, stops and cuts lose nothing and stay linearizable",
        command: &[
            "target/release/chaos",
            "--ours",
            "target/release/etcd",
            "--seconds",
            "600",
            "--every",
            "10",
        ],
        environment: &[],
    },
    Proof {
        name: "catch-up",
        shows: "a member 1 GiB behind catches up in bounded memory while the others serve",
        command: &[
            "target/release/chaos",
            "--ours",
            "target/release/etcd",
            "--mode",
            "catch-up",
            "--mib",
            "1024",
        ],
        environment: &[],
    },
    Proof {
        name: "crash",
        shows: "nothing acknowledged is lost at any point of a simulated disk",
        command: &[
            "target/release/crash",
            "--every",
            "1",
            "--images",
            "16",
            "--faults",
            "500",
            "--restarts",
            "500",
        ],
        environment: &[],
    },
    Proof {
        name: "cluster",
        shows: "clusters with faults keep every promise: at least 1,000 virtual cluster-hours",
        command: &[
            "target/release/cluster",
            "--seed",
            "1",
            "--seeds",
            "3000",
            "--minutes",
            "24",
            "--hours",
            "1000",
        ],
        environment: &[],
    },
    Proof {
        name: "space",
        shows: "space comes back under load",
        command: &["target/release/space", "--ours", "target/release/etcd"],
        environment: &[],
    },
    Proof {
        name: "fuzz",
        shows: "no input makes a decoder panic",
        command: &["target/release/fuzz", "--seconds", "120", "--seed", "1"],
        environment: &[],
    },
    Proof {
        name: "hostile",
        shows: "hostile clients, threads that stand still and overload take no more than their bounds",
        command: &with_peers!(
            "target/release/hostile --ours target/release/etcd --long && target/release/overload \
             --ours target/release/etcd ${GO35:+--theirs $GO35} --long"
        ),
        environment: &[],
    },
    Proof {
        name: "security",
        shows: "advisories, refusals of TLS, rotation under load and the permissions of every method",
        command: &with_peers!(
            "if [ -n \"${GO35:-}\" ]; then export GO35; fi; cargo test --release -p etcd --test auth \
             --test tls && cargo xtask mutate --only sec-"
        ),
        environment: &[("RETCD_LONG", "1")],
    },
    Proof {
        name: "tour",
        shows: "ours prints what 3.7.1 printed",
        command: &with_peers!("target/release/tour $ours"),
        environment: &[],
    },
    Proof {
        name: "tour-3.4.23",
        shows: "etcdctl 3.4.23 prints the same against our server as against its own",
        command: &with_peers!(
            "target/release/tour --server target/release/etcd --ctl $CTL34 --against $GO34"
        ),
        environment: &[],
    },
    Proof {
        name: "tour-3.5.1",
        shows: "etcdctl 3.5.1 prints the same against our server as against its own",
        command: &with_peers!(
            "target/release/tour --server target/release/etcd --ctl $CTL351 --against $GO351"
        ),
        environment: &[],
    },
    Proof {
        name: "tour-3.5.30",
        shows: "etcdctl 3.5.30 prints the same against our server as against its own",
        command: &with_peers!(
            "target/release/tour --server target/release/etcd --ctl $CTL35 --against $GO35"
        ),
        environment: &[],
    },
    Proof {
        name: "tour-ours",
        shows: "our etcdctl prints the same against 3.5.30 as against our server",
        command: &with_peers!("target/release/tour $ours --against $GO35"),
        environment: &[],
    },
    Proof {
        name: "dashboards",
        shows: "a Prometheus finds data for every panel and alert of etcd's dashboards",
        command: &[
            "bash",
            "-c",
            "source .ci/prometheus.sh; target/release/dashboards --ours target/release/etcd \
             --prometheus \"$PROMETHEUS\"",
        ],
        environment: &[],
    },
    Proof {
        name: "scripts",
        shows: "expiry, the grouping of watch responses and changes of members are as with 3.5.30",
        command: &with_peers!("target/release/scripts --ours target/release/etcd --theirs $GO35"),
        environment: &[],
    },
    Proof {
        name: "clients",
        shows: "real client libraries print the same lines with our server as with 3.5.30",
        command: &with_peers!(
            "target/release/clients --ours target/release/etcd --theirs $GO35 --long"
        ),
        environment: &[],
    },
    Proof {
        name: "conformance-grpc-go",
        shows: "20,000 requests sent by grpc-go get the same answers as from 3.5.30",
        command: &with_peers!(
            "relay=$(target/release/clients --build-relay) && target/release/conformance \
             --ours target/release/etcd --theirs $GO35 --requests 20000 --seed 3 --through $relay"
        ),
        environment: &[],
    },
    Proof {
        name: "conformance",
        shows: "100,000 requests get the same answers as from 3.5.30, with every listed row used",
        command: &with_peers!(
            "target/release/conformance --ours target/release/etcd --theirs $GO35 \
             --requests 100000 --all-rows"
        ),
        environment: &[],
    },
];

/// The results of the runs.
#[derive(Debug)]
pub(crate) struct Results {
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

impl Results {
    /// Whether every run passed.
    pub(crate) fn passed(&self) -> bool {
        self.rows.iter().all(|row| row.passed)
    }

    /// The table as Markdown.
    pub(crate) fn text(&self) -> String {
        let mut text =
            "| name | shows | result | seconds | last line |\n|---|---|---|---|---|".to_owned();
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

/// The names of all runs and what they show, one a line.
pub(crate) fn list() -> String {
    let lines = PROOFS.iter().map(|proof| format!("{:<20} {}", proof.name, proof.shows));
    lines.collect::<Vec<_>>().join("\n")
}

/// Does the named runs in the order of the list; `all` stands for every one.
///
/// # Errors
/// When a name is unknown, or a command cannot be started.
pub(crate) fn run(root: &Path, names: &[&str]) -> anyhow::Result<Results> {
    let is_known = |name: &str| name == "all" || PROOFS.iter().any(|proof| proof.name == name);
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        bail!("there is no {unknown}; `cargo xtask prove list` shows what there is");
    }
    let mut rows = Vec::new();
    for proof in PROOFS.iter().filter(|p| names.contains(&"all") || names.contains(&p.name)) {
        rows.push(run_one(root, proof)?);
    }
    Ok(Results { rows })
}

#[expect(clippy::print_stdout, reason = "the output of long runs is shown as they go")]
fn run_one(root: &Path, proof: &Proof) -> anyhow::Result<Row> {
    println!("== {}: {}", proof.name, proof.shows);
    let [program, arguments @ ..] = proof.command else { bail!("{} has no command", proof.name) };
    let started = Instant::now();
    let output = Command::new(program)
        .args(arguments)
        .envs(proof.environment.iter().copied())
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    Ok(Row {
        name: proof.name,
        shows: proof.shows,
        passed: output.status.success(),
        took: started.elapsed(),
        last: text.lines().rev().find(|l| !l.trim().is_empty()).unwrap_or("").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_table_says_what_failed() {
        let row = |name, passed| Row {
            name,
            shows: "x",
            passed,
            took: Duration::from_millis(1500),
            last: "a|b".to_owned(),
        };
        let table = Results { rows: vec![row("one", true), row("two", false)] };
        assert!(!table.passed());
        assert!(table.text().ends_with("\n| two | x | FAILED | 1.5 | a\\|b |"));
    }

    #[test]
    fn unknown_names_are_refused_before_anything_runs() {
        assert!(run(Path::new("."), &["build", "nope"]).is_err());
    }

    #[test]
    fn names_are_unique_and_listed() {
        let names: BTreeSet<&str> = PROOFS.iter().map(|proof| proof.name).collect();
        assert_eq!(names.len(), PROOFS.len());
        assert_eq!(list().lines().count(), PROOFS.len());
    }
}
