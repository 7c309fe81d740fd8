//! Commands whose server is dead, or accepts connections but never responds. Each command ends at
//! its timeout with etcdctl's exit code, or reports that it waits for a connection.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Far longer than `--command-timeout` here; a command that takes this long hangs.
const HANGS: Duration = Duration::from_secs(60);

fn start(endpoint: &str, words: &[&str], input: &str) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_etcdctl"))
        .arg(format!("--endpoints={endpoint}"))
        .arg("--command-timeout=300ms")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child
}

/// Runs a command to its end; one that hangs is killed, and the test fails.
fn run(endpoint: &str, words: &[&str], input: &str) -> Output {
    let child = start(endpoint, words, input);
    let pid = child.id().to_string();
    let (ended, end) = mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || ended.send(child.wait_with_output().unwrap()).unwrap());
        end.recv_timeout(HANGS).unwrap_or_else(|_| {
            Command::new("kill").arg(&pid).status().unwrap();
            panic!("{words:?} at {endpoint} hangs")
        })
    })
}

/// A server that accepts connections (through its backlog) and never responds, and an address
/// without a server.
fn endpoints() -> (TcpListener, [String; 2]) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let dead = format!("127.0.0.1:{}", ports::free().unwrap());
    let address = silent.local_addr().unwrap().to_string();
    (silent, [address, dead])
}

#[test]
fn every_command_without_a_server_ends_by_its_time_out() {
    let (_silent, endpoints) = endpoints();
    let file = std::env::temp_dir().join(format!("etcdctl-hanging-{}.db", std::process::id()));
    let file = file.to_str().unwrap();
    let txn = "mod(\"a\") > \"0\"\n\nget a\n\n\n";
    let commands: [(i32, &[&str], &str); 14] = [
        (1, &["get", "a"], ""),
        (1, &["get", "--stream", "a"], ""),
        (1, &["put", "a", "b"], ""),
        (1, &["txn"], txn),
        (1, &["compaction", "1"], ""),
        (1, &["member", "list"], ""),
        (1, &["alarm", "list"], ""),
        (1, &["endpoint", "status"], ""),
        (2, &["lease", "list"], ""),
        (2, &["lease", "timetolive", "5"], ""),
        (2, &["lease", "keep-alive", "--once", "5"], ""),
        (5, &["snapshot", "save", file], ""),
        (1, &["check", "perf"], ""),
        (1, &["check", "datascale"], ""),
    ];
    for endpoint in &endpoints {
        for (code, words, input) in commands {
            let output = run(endpoint, words, input);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(code), "{words:?}: {said}");
            assert!(said.contains("context deadline exceeded"), "{words:?}: {said}");
        }
    }
    assert!(!std::fs::exists(format!("{file}.part")).unwrap());
}

#[test]
fn a_watch_without_a_server_says_that_it_waits() {
    let (_silent, endpoints) = endpoints();
    for (endpoint, why) in endpoints.iter().zip(["server preface", "connection refused"]) {
        let mut child = start(endpoint, &["--dial-timeout=300ms", "watch", "a"], "");
        let said = BufReader::new(child.stderr.take().unwrap()).lines().next().unwrap().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let expected = format!("waiting for a connection to {endpoint}: connection error");
        assert!(said.starts_with(&expected) && said.contains(why), "{said}");
    }
}
