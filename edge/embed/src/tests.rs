//! Command lines, environments and files, and the configurations or errors that they lead to:
//! `testdata/scripts`.
//!
//! The errors and exit codes were compared by hand with those of etcd 3.7.1.

use crate::config::Config;
use crate::environment::Variables;
use crate::start::{Decision, Plan, decide};
use crate::validate::join;
use script::Case;

/// `etcd`: each line an argument, or with `NAME=value` in capitals a variable.
/// `file`: the lines are a configuration file.
fn run(case: &Case) -> String {
    let lines = || case.input.lines().map(str::to_owned);
    let decision = match case.command.as_str() {
        "etcd" => {
            let is_variable = |line: &String| line.starts_with("ETCD_");
            let variables: Vec<(String, String)> = lines()
                .filter(is_variable)
                .filter_map(|l| l.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned())))
                .collect();
            let arguments: Vec<String> = lines().filter(|line| !is_variable(line)).collect();
            decide(&arguments, &variables)
        }
        "file" => {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("etcd.yml");
            std::fs::write(&path, &case.input).unwrap();
            let argument = format!("--config-file={}", path.display());
            // The environment and the other flags are ignored.
            let variables = [("ETCD_NAME".to_owned(), "ignored".to_owned())];
            decide(&[argument, "--name=ignored".to_owned()], &variables as &Variables)
        }
        other => panic!("unknown command {other}"),
    };
    show(decision)
}

fn show(decision: Decision) -> String {
    match decision {
        Decision::Print(text) => format!("exit 0: {}", text.lines().next().unwrap()),
        Decision::Complain(text, code) => {
            if code == 2 {
                assert!(text.contains("Usage:"), "a bad command line shows the usage: {text}");
            }
            format!("exit {code}: {}", text.lines().next().unwrap())
        }
        Decision::Serve(plan) => show_plan(*plan),
    }
}

fn show_plan(plan: Plan) -> String {
    let mut lines = Vec::new();
    for notice in plan.early.iter().chain(&plan.notices) {
        // Two notices that every command line without a name produces.
        if notice.message.starts_with("Running http") || notice.message.starts_with("it isn't") {
            continue;
        }
        if notice.message.starts_with("loaded server configuration") {
            continue;
        }
        let fields: Vec<_> = notice.fields.iter().map(|(k, v)| format!(" {k}={v}")).collect();
        lines.push(format!("{}: {}{}", notice.level, notice.message, fields.concat()));
    }
    match plan.config {
        Ok(config) => lines.push(summary(&config)),
        Err(error) => lines.push(format!("exit 1: {error}")),
    }
    lines.join("\n")
}

fn summary(config: &Config) -> String {
    format!(
        "{} in {}: peers {}, clients {}, told {} and {}; {}; {:?}; cache {}",
        config.member.name,
        config.member.data_dir.display(),
        join(&config.urls.listen_peer),
        join(&config.urls.listen_client),
        join(&config.urls.advertise_peer),
        join(&config.urls.advertise_client),
        config.bootstrap.initial_cluster,
        config.commits.auto_compaction,
        config.limits.backend_cache_bytes,
    )
}

#[test]
fn scripts() {
    for script in script::scripts(concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/scripts")) {
        script::run(script, run);
    }
}

/// The configuration, or the error, as text.
fn configured(arguments: &[&str], variables: &Variables) -> String {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let Decision::Serve(plan) = decide(&arguments, variables) else { panic!("{arguments:?}") };
    format!("{:?}", plan.config)
}

#[test]
fn an_old_flag_sets_what_its_newer_name_sets() {
    for (old, new) in [
        ("stop-grpc-service-on-defrag=true", "feature-gates=StopGRPCServiceOnDefrag=true"),
        ("initial-corrupt-check=true", "feature-gates=InitialCorruptCheck=true"),
        ("compact-hash-check-enabled=true", "feature-gates=CompactHashCheck=true"),
        (
            "txn-mode-write-with-shared-buffer=false",
            "feature-gates=TxnModeWriteWithSharedBuffer=false",
        ),
        ("enable-lease-checkpoint=true", "feature-gates=LeaseCheckpoint=true"),
        ("enable-lease-checkpoint-persist=true", "feature-gates=LeaseCheckpointPersist=true"),
        ("compact-hash-check-time=7s", "compact-hash-check-time=7s"),
        ("corrupt-check-time=7s", "corrupt-check-time=7s"),
        ("compaction-batch-limit=7", "compaction-batch-limit=7"),
        ("compaction-sleep-interval=7s", "compaction-sleep-interval=7s"),
        ("watch-progress-notify-interval=7s", "watch-progress-notify-interval=7s"),
        ("warning-apply-duration=7s", "warning-apply-duration=7s"),
        ("warning-unary-request-duration=7s", "warning-unary-request-duration=7s"),
        ("memory-mlock=true", "memory-mlock=true"),
        ("snapshot-catchup-entries=7", "snapshot-catchup-entries=7"),
        ("snapshot-catch-up-entries=7", "snapshot-catchup-entries=7"),
        ("downgrade-check-time=7s", "downgrade-check-time=7s"),
        ("peer-skip-client-san-verification=true", "peer-skip-client-san-verification=true"),
        ("enable-distributed-tracing=true", "enable-distributed-tracing=true"),
        ("distributed-tracing-address=x", "distributed-tracing-address=x"),
        ("distributed-tracing-service-name=x", "distributed-tracing-service-name=x"),
        ("distributed-tracing-instance-id=x", "distributed-tracing-instance-id=x"),
        ("distributed-tracing-sampling-rate=7", "distributed-tracing-sampling-rate=7"),
    ] {
        // The options of traces count only if traces are on.
        let is_of_traces = old.starts_with("distributed-tracing");
        let others = if is_of_traces { &["--enable-distributed-tracing"][..] } else { &[] };
        let with = |argument: &str| configured(&[others, &[argument]].concat(), &[]);
        let expected = with(&format!("--{new}"));
        assert_ne!(expected, configured(others, &[]), "{new}");
        assert_eq!(with(&format!("--experimental-{old}")), expected, "{old}");
        let (name, value) = old.split_once('=').unwrap();
        let variable = crate::environment::variable(&format!("experimental-{name}"));
        assert_eq!(configured(others, &[(variable, value.to_owned())]), expected, "{old}");
    }
    // Of 3.4, with other names.
    for (old, new) in [
        ("--debug", "--log-level=debug"),
        ("--log-output=stdout", "--log-outputs=stdout"),
        ("--experimental-backend-bbolt-freelist-type=array", "--backend-bbolt-freelist-type=array"),
        (
            "--experimental-bootstrap-defrag-threshold-megabytes=7",
            "--bootstrap-defrag-threshold-megabytes=7",
        ),
    ] {
        assert_eq!(configured(&[old], &[]), configured(&[new], &[]), "{old}");
    }
}

/// etcd accepts it, and then compacts without end or ends with a panic.
#[test]
fn ghsa_pm3m_32r3_7mfh_a_negative_retention_is_refused() {
    for (mode, negative) in [
        ("periodic", "-1"),
        ("periodic", "-5m"),
        ("periodic", "-1ns"),
        ("periodic", "-9223372036854775808"),
        ("revision", "-1"),
        ("revision", "-5m"),
    ] {
        let arguments = [
            format!("--auto-compaction-mode={mode}"),
            format!("--auto-compaction-retention={negative}"),
        ];
        let said = show(decide(&arguments, &[]));
        assert!(said.contains("CompactionRetention"), "{mode} {negative}: {said}");
    }
}

#[test]
fn the_defaults_are_etcds() {
    let config = Config::new();
    assert_eq!(config.member.snapshot_count, 10_000);
    assert_eq!(config.member.election_ticks(), 10);
    assert_eq!(config.member.request_timeout().as_secs(), 7);
    assert_eq!(config.limits.quota_bytes, Some(2_147_483_648));
    assert_eq!(config.limits.max_request_bytes, 1_572_864);
    assert_eq!(config.notices.watch_progress.as_secs(), 600);
    assert_eq!(config.notices.slow_apply.as_millis(), 100);
    assert_eq!(config.notices.slow_request.as_millis(), 300);
}

#[test]
fn help_names_every_flag_and_what_is_not_built() {
    let help = crate::help::help();
    for flag in crate::flags::FLAGS.iter().filter(|flag| flag.name != "version") {
        assert!(help.contains(&format!("\n  --{} '", flag.name)), "{}", flag.name);
    }
    for flag in crate::flags::FLAGS {
        if let crate::flags::Built::No(what) = flag.built {
            assert!(help.contains(&format!("Not built yet: {what}.")), "{}", flag.name);
        }
    }
    let version = crate::help::version();
    let first: Vec<&str> = version.lines().map(|l| l.split(':').next().unwrap()).collect();
    assert_eq!(first, ["etcd Version", "Git SHA", "Go Version", "Go OS/Arch"]);
}
