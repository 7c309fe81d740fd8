//! `--discovery-srv`: the endpoints of SRV records.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use nameserver::{Manner, Record};
use std::path::Path;
use std::process::Output;

/// The result of `endpoint health`, whose lines name the endpoints; `None` if this user cannot make a
/// mount namespace.
fn health(resolv_conf: &Path, flags: &[&str]) -> Option<Output> {
    let mut command = nameserver::command_with(resolv_conf, env!("CARGO_BIN_EXE_etcdctl"))?;
    command.args(["endpoint", "health", "--command-timeout=300ms", "--dial-timeout=300ms"]);
    Some(command.args(flags).output().unwrap())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_endpoints_of_srv_records_replace_the_given_ones() {
    let port = ports::free().unwrap();
    let record = |owner| Record { owner, port, target: "localhost" };
    let records = ["_etcd-client._tcp.example", "_etcd-client-ssl-blue._tcp.example"].map(record);
    let server = nameserver::start(records.to_vec(), Manner::Datagram).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let resolv_conf = folder.path().join("resolv.conf");
    std::fs::write(&resolv_conf, nameserver::resolv_conf(&[server])).unwrap();
    let other = format!("127.0.0.1:{}", ports::free().unwrap());
    let given = format!("--endpoints={other}");
    let Some(found) = health(&resolv_conf, &["-d", "example", &given]) else {
        eprintln!("skipped: this user cannot make a mount namespace");
        return;
    };
    let errors = text(&found.stderr);
    assert_eq!(found.status.code(), Some(1), "nobody listens there: {errors}");
    assert!(errors.contains(&format!("http://localhost:{port} is unhealthy")), "{errors}");
    assert!(!errors.contains(&other), "{errors}");

    let flags = ["-d", "example", "--discovery-srv-name=blue"];
    let errors = text(&health(&resolv_conf, &flags).unwrap().stderr);
    assert!(errors.contains(&format!("https://localhost:{port} is unhealthy")), "{errors}");

    // Without TLS, a verified discovery uses no endpoint and falls back to the given one.
    let flags = ["-d", "example", "--insecure-discovery=false", &given];
    let errors = text(&health(&resolv_conf, &flags).unwrap().stderr);
    let ignored = format!("ignoring discovered insecure endpoint \"http://localhost:{port}\"");
    assert!(errors.contains(&ignored), "{errors}");
    assert!(errors.contains(&format!("{other} is unhealthy")), "{errors}");

    let absent = health(&resolv_conf, &["-d", "absent.example"]).unwrap();
    let error = format!("lookup _etcd-client._tcp.absent.example on {server}: no such host");
    assert_eq!(absent.status.code(), Some(1));
    assert!(text(&absent.stderr).contains(&error), "{}", text(&absent.stderr));
}
