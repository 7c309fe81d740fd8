//! Compares the names with those of a Go server.

use super::*;
use proto::Op;
use std::collections::BTreeSet;
use std::process::Command;

/// Names of Go runtime metrics, which make no sense here; listed in `docs/differences.md`.
fn is_go_runtime(name: &str) -> bool {
    ["go_gc_", "go_memstats_", "go_goroutines"].iter().any(|prefix| name.starts_with(prefix))
}

/// Names that a server shows only with peers.
fn is_peer(name: &str) -> bool {
    name.starts_with("etcd_network_peer_") || name.ends_with("_peers")
}

fn names_and_types(text: &str) -> BTreeSet<(String, String)> {
    text.lines()
        .filter_map(|l| l.strip_prefix("# TYPE "))
        .filter_map(|l| l.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

fn used() -> Metrics {
    let metrics = Metrics::new(true);
    let m = &metrics;
    m.identity.cluster_version.with_label_values(&["3.7"]).set(1);
    m.identity.server_version.with_label_values(&["3.7.1"]).set(1);
    m.identity.go_version.with_label_values(&["none"]).set(1);
    m.identity.server_id.with_label_values(&["1"]).set(1);
    m.identity.feature_enabled.with_label_values(&["AllBeta", "BETA"]).set(0);
    m.requests.apply.observe(Op::Put, true, 0.0);
    m.requests.range.observe(Op::Range, true, 0.0);
    m.requests.total.observe(Op::Put, true, 0.0);
    m.requests.clients.counter("unary", b"3.7").inc();
    metrics
}

#[test]
fn every_name_of_a_go_server_with_one_member_is_shown_with_its_type() {
    let Ok(shared) = std::env::var("RETCD_TESTDATA") else {
        println!("skipped: RETCD_TESTDATA is not set");
        return;
    };
    let file = format!("{shared}/go-data/3.7.1-metrics.txt.gz");
    let out = Command::new("zcat").arg(&file).output().unwrap();
    assert!(out.status.success(), "{file}: {}", String::from_utf8_lossy(&out.stderr));
    let theirs = names_and_types(&String::from_utf8(out.stdout).unwrap());
    let ours = names_and_types(&String::from_utf8(used().text()).unwrap());
    let missing: Vec<_> = theirs
        .iter()
        .filter(|(name, _)| !is_go_runtime(name) && !is_peer(name))
        .filter(|row| !ours.contains(*row))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(theirs.len() > 100, "the list was read");
}

#[test]
fn names_without_labels_are_there_from_the_start() {
    let text = String::from_utf8(Metrics::new(false).text()).unwrap();
    assert!(text.contains("\netcd_server_has_leader 0\n"), "{text}");
    assert!(text.contains("\netcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"} 0\n"));
    assert!(text.contains("\netcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"} 0\n"));
    assert!(!text.contains("grpc_server_handling_seconds"), "extensive only");
    let put = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"} 0\n";
    assert!(text.contains(&format!("grpc_server_started_total{{{put}")));
}

#[test]
fn bounds_from_a_million_on_are_written_as_by_go() {
    let text = String::from_utf8(Metrics::new(true).text()).unwrap();
    let bounds: Vec<&str> = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix("etcd_debugging_lease_ttl_total_bucket{le=\"")?.split_once('"')
        })
        .map(|(bound, _)| bound)
        .collect();
    let last = ["524288", "1.048576e+06", "2.097152e+06", "4.194304e+06", "8.388608e+06", "+Inf"];
    assert_eq!(bounds[19..], last);
    assert_eq!(bounds[0], "1");
    assert_eq!(go_exponent(1e20), "1e+20");
    // Nothing else changes.
    assert!(text.contains("\netcd_server_has_leader 0\n") && text.ends_with('\n'));
}

#[test]
fn a_call_counts_under_its_code() {
    let metrics = Metrics::new(true);
    let method = metrics.grpc.method("/etcdserverpb.KV/Put").unwrap();
    method.handled(11, 0.2);
    method.handled(99, 0.2);
    let text = String::from_utf8(metrics.text()).unwrap();
    let row = |code: &str| {
        format!(
            "grpc_server_handled_total{{grpc_code=\"{code}\",grpc_method=\"Put\",\
             grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}} 1\n"
        )
    };
    assert!(text.contains(&row("OutOfRange")));
    assert!(text.contains(&row("Unknown")));
    assert!(metrics.grpc.method("/etcdserverpb.KV/Nope").is_none());
}

#[test]
fn ada_etcd_22_client_versions_are_bounded_and_harmless() {
    let metrics = Metrics::new(false);
    for i in 0..500 {
        metrics.requests.clients.counter("unary", format!("9.{i}").as_bytes()).inc();
    }
    metrics.requests.clients.counter("unary", b"\xff\xfe").inc();
    let text = String::from_utf8(metrics.text()).unwrap();
    let rows = text.lines().filter(|l| l.starts_with("etcd_server_client_requests_total{")).count();
    assert!(rows <= 101, "{rows}");
}

#[test]
fn the_kernel_is_asked_about_this_process() {
    let text = String::from_utf8(Metrics::new(false).text()).unwrap();
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap();
        line.rsplit_once(' ').unwrap().1.parse().unwrap()
    };
    assert!(value("process_resident_memory_bytes") > 100_000.0);
    assert!(value("process_start_time_seconds") > 1.5e9);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("go_threads") >= 1.0);
}
