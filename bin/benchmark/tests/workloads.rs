//! Each workload against a server, and its report.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::process::{Command, Output};
use std::sync::OnceLock;

/// The endpoint of the server of all tests, which runs in a thread of this process until it ends.
/// The benchmark waits for it to serve.
fn endpoint() -> &'static str {
    static ENDPOINT: OnceLock<String> = OnceLock::new();
    ENDPOINT.get_or_init(|| {
        let data = tempfile::tempdir().unwrap();
        let free = || format!("http://127.0.0.1:{}", ports::free().unwrap());
        let (client, peer) = (free(), free());
        let arguments = [
            "etcd".to_string(),
            format!("--data-dir={}", data.path().join("data").display()),
            format!("--listen-client-urls={client}"),
            format!("--advertise-client-urls={client}"),
            format!("--listen-peer-urls={peer}"),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster=default={peer}"),
            "--log-level=fatal".to_string(),
        ];
        std::thread::spawn(move || {
            let exit_code = embed::main(&arguments, &[]);
            drop(data);
            panic!("the server has ended with {exit_code}");
        });
        client
    })
}

fn run(words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_benchmark"));
    command.args(words).arg(format!("--endpoints={}", endpoint())).output().unwrap()
}

/// The standard output of a workload that succeeds and prints nothing else.
fn report(words: &[&str]) -> String {
    let Output { status, stdout, stderr } = run(words);
    assert_eq!(String::from_utf8(stderr).unwrap(), "", "{words:?}");
    assert!(status.success(), "{words:?}");
    let text = String::from_utf8(stdout).unwrap();
    assert!(!text.contains("Error distribution"), "{words:?}: {text}");
    text
}

/// The numbers of requests of the reports in a text, from their histograms.
fn requests(text: &str) -> Vec<u64> {
    let histograms = text.split("Response time histogram:\n").skip(1);
    let sum = |histogram: &str| {
        let lines = histogram.lines().map_while(|line| line.split_once(" [")?.1.split_once(']'));
        lines.map(|(count, _)| count.parse::<u64>().unwrap()).sum()
    };
    histograms.map(sum).collect()
}

#[test]
fn every_workload_reports_all_its_requests() {
    let workloads: [(&[&str], &[u64]); 15] = [
        (&["put", "--total=30", "--clients=4", "--conns=2", "--key-space-size=9"], &[30]),
        (&["put", "--total=10", "--sequential-keys", "--key-space-size=9", "--rate=1000"], &[10]),
        (&["range", "a", "--total=20"], &[20]),
        (&["range", "--prefix", "--total=5", "--stream", "--consistency=s"], &[5]),
        (&["range", "a", "z", "--total=5", "--paginate", "--keys-only"], &[5]),
        (&["txn-put", "--total=20", "--txn-ops=3", "--key-space-size=9"], &[20]),
        (&["lease-keepalive", "--total=6", "--clients=2"], &[6]),
        (&["stm", "--total=12", "--clients=3", "--keys=2", "--keys-per-txn=2"], &[12]),
        (&["stm", "--total=8", "--clients=2", "--isolation=ss", "--stm-locker=lock-client"], &[8]),
        (&["stm", "--total=8", "--clients=2", "--isolation=s", "--stm-locker=lock-rpc"], &[8]),
        (&["stm", "--total=3", "--isolation=c", "--txn-wr-percent=100"], &[3]),
        // 12 watchers; four keys, each with three watchers and five writes.
        (
            &["watch", "--streams=3", "--watch-per-stream=4", "--put-total=20", "--clients=2"],
            &[12, 20 * 12],
        ),
        (
            &[
                "watch",
                "--streams=3",
                "--watch-per-stream=4",
                "--put-total=20",
                "--watched-key-total=4",
                "--key-space-size=4",
                "--sequential-keys",
            ],
            &[12, 20 * 3],
        ),
        (
            &[
                "watch-latency",
                "--streams=2",
                "--watchers-per-stream=2",
                "--put-total=10",
                "--put-rate=1000",
                "--prevkv",
            ],
            &[10, 4 * 10],
        ),
        (&["put", "--total=0"], &[]),
    ];
    for (words, expected) in workloads {
        assert_eq!(requests(&report(words)), expected, "{words:?}");
    }
}

#[test]
fn reads_and_writes_of_a_mixed_load_are_counted_apart() {
    let text = report(&["txn-mixed", "", "--total=40", "--rw-ratio=1"]);
    let counts = requests(&text);
    assert_eq!(counts.iter().sum::<u64>(), 40, "{text}");
    assert!(text.starts_with("bench with linearizable range\nTotal Read Ops: "), "{text}");
    assert_eq!(requests(&report(&["txn-mixed", "", "--total=9", "--rw-ratio=0"])), [9]);
}

#[test]
fn reads_beside_watchers_are_reported() {
    let text = report(&["watch-get", "--watchers=200", "--events=3", "--streams=2"]);
    assert!(text.starts_with("Get during watch summary:\n"), "{text}");
    assert!(requests(&text)[0] > 0, "{text}");
}

#[test]
fn a_report_has_its_additions() {
    let dir = tempfile::tempdir().unwrap();
    let (image, pid) = (dir.path().join("put.svg"), std::process::id().to_string());
    let text = report(&[
        "put",
        "--total=50",
        "--sample",
        "--precise",
        "--check-hashkv",
        &format!("--svg={}", image.display()),
        &format!("--pid={pid}"),
    ]);
    let parts = [
        "\nSummary:\n  Total:\t",
        "\nLatency distribution:\n",
        "\nSample in one second (unix latency throughput):\nUNIX-SECOND,",
        "\nHashKV Summary:\n\tHashKV: ",
        "\nServers:\n  ",
    ];
    let places: Vec<_> = parts.iter().map(|part| text.find(part)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
    assert!(text.contains(&format!("(pid {pid}):\tCPU ")), "{text}");
    assert!(std::fs::read_to_string(&image).unwrap().contains(">put: 50 requests<"));
}

#[test]
fn wrong_command_lines_fail_as_with_etcd() {
    let fails = |words: &[&str], code, expected: &str| {
        let Output { status, stderr, .. } = run(words);
        let text = String::from_utf8(stderr).unwrap();
        assert_eq!(status.code(), Some(code), "{words:?}: {text}");
        assert!(text.contains(expected), "{words:?}: {text}");
    };
    fails(&["put", "--nonsense"], 255, "unknown flag: --nonsense");
    fails(&["range"], 1, "benchmark range key [end-range]");
    fails(&["range", "a", "--consistency=x"], 1, "benchmark range key [end-range]");
    fails(&["range", "a", "--paginate", "--limit=1"], 1, "mutually exclusive");
    fails(&["txn-put", "--txn-ops=2"], 1, "expected --txn-ops no larger than --key-space-size");
    fails(&["stm", "--stm-locker=x"], 1, "unexpected stm locker \"x\"");
    fails(&["put", "--pid=0"], 1, "there is no such process");
    fails(&["mvcc", "put"], 1, "mvcc is not built");
    fails(&["put", "--conns=0"], 1, "--conns must be at least 1");
}
