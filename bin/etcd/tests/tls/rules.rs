//! Rules for names in certificates, plain ports, half-open handshakes, files that change, and flags
//! that a server refuses at its start.

use crate::certificates::{Authority, REVOKED, Wish, days, replace};
use crate::hello::Hello;
use crate::negatives::{Listeners, World, serves_calls};
use crate::wire;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Every listener with the answers that differ from what is expected.
fn differing(
    world: &World,
    listeners: &Listeners,
    cases: &[(&'static str, Wish, &'static str)],
) -> Vec<String> {
    let mut wrong = Vec::new();
    for (what, wish, expected) in cases {
        let identity = world.ca.issue(wish);
        for (listener, place) in &listeners.all {
            for is_new in [true, false] {
                let found = world.meet(place, Some(&identity), is_new);
                if found != *expected {
                    wrong.push(format!("{listener}: {what}: {found}, not {expected}"));
                }
            }
            let good = world.meet(place, Some(&world.good), true);
            assert_eq!(good, "served", "{listener}: a good client after {what}");
        }
    }
    wrong
}

#[test]
fn only_certificates_with_an_allowed_common_name_are_served() {
    let world = World::new();
    let names = "=bob,alice";
    let flags = ["client", "peer"].map(|side| format!("--{side}-cert-allowed-cn{names}"));
    let listeners = world.serve("names", &flags.each_ref().map(String::as_str));
    let wish = |common| Wish { common, ..Wish::default() };
    let cases = [
        ("another name", wish("eve"), "CertificateUnknown"),
        ("no name", wish(""), "CertificateUnknown"),
        ("capitals", wish("Alice"), "CertificateUnknown"),
        ("a part of a name", wish("ali"), "CertificateUnknown"),
        ("more than a name", wish("alice.example"), "CertificateUnknown"),
        ("a list of names", wish("bob,alice"), "CertificateUnknown"),
        ("a pattern", wish("*"), "CertificateUnknown"),
        ("a name with a blank", wish("alice "), "CertificateUnknown"),
        (
            "a name as a host",
            Wish { common: "", hosts: vec!["alice", "127.0.0.1"], ..Wish::default() },
            "CertificateUnknown",
        ),
        ("an allowed name, revoked", Wish { serial: REVOKED, ..wish("bob") }, "CertificateUnknown"),
        (
            "an allowed name, expired",
            Wish { valid: days(-3, -1), ..wish("bob") },
            "CertificateExpired",
        ),
        ("an allowed name", wish("bob"), "served"),
    ];
    let wrong = differing(&world, &listeners, &cases);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    serves_calls(&world, &listeners);
}

#[test]
fn only_certificates_with_an_allowed_host_are_served() {
    let world = World::new();
    let flags = ["client", "peer"]
        .map(|side| format!("--{side}-cert-allowed-hostname=localhost,a.example,b.c.example"));
    let listeners = world.serve("hosts", &flags.each_ref().map(String::as_str));
    // The address of the client is in all of them, as peers need it.
    let wish = |host| Wish { hosts: vec!["127.0.0.1", host], ..Wish::default() };
    let cases = [
        ("another host", wish("b.example"), "CertificateUnknown"),
        ("a host below", wish("x.a.example"), "CertificateUnknown"),
        ("a host above", wish("example"), "CertificateUnknown"),
        ("the start of a host", wish("a.exam"), "CertificateUnknown"),
        ("a host with more behind it", wish("a.example.org"), "CertificateUnknown"),
        ("the pattern of other hosts", wish("*.a.example"), "CertificateUnknown"),
        (
            "the host as a common name",
            Wish { common: "a.example", hosts: vec!["127.0.0.1"], ..Wish::default() },
            "CertificateUnknown",
        ),
        (
            "an allowed host, revoked",
            Wish { serial: REVOKED, ..wish("a.example") },
            "CertificateUnknown",
        ),
        ("an allowed host", wish("a.example"), "served"),
        ("a pattern of the host", wish("*.c.example"), "served"),
    ];
    let wrong = differing(&world, &listeners, &cases);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    serves_calls(&world, &listeners);
}

/// With a port of its own for HTTP, etcd accepted revoked certificates on the port for gRPC.
#[test]
fn ghsa_3wh4_j44w_pg92_a_revoked_certificate_is_refused_by_every_listener() {
    let world = World::new();
    let listeners = world.serve("revoked", &[]);
    let revoked = Wish { serial: REVOKED, ..Wish::default() };
    let cases = [("revoked", revoked, "CertificateUnknown")];
    let wrong = differing(&world, &listeners, &cases);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn tls_on_a_plain_port_is_refused() {
    let world = World::new();
    let listeners = world.serve_plain("plain");
    for (listener, place) in &listeners.all {
        for hello in [Hello::new(), Hello::of_1_2()] {
            let mut socket = place.connect();
            socket.write_all(&hello.record()).unwrap();
            socket.end();
            let mut answer = Vec::new();
            // What is not HTTP is answered in HTTP, or closed.
            let read = std::io::Read::read_to_end(&mut socket, &mut answer);
            let is_refused = answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 ");
            assert!(is_refused, "{listener}: {read:?}: {}", answer.escape_ascii());
        }
        for is_new in [true, false] {
            let found = world.meet(place, Some(&world.good), is_new);
            let is_refused = found == "closed" || found.starts_with("the client refuses");
            assert!(is_refused, "{listener}: {found}");
        }
        let mut socket = place.connect();
        socket
            .write_all(b"GET /version HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = [0; 9];
        std::io::Read::read_exact(&mut socket, &mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 ", "{listener}");
    }
}

/// Connections that wait in every state of a handshake.
const HALF_OPEN: usize = 40;

#[test]
fn half_open_handshakes_keep_nobody_from_being_served() {
    let world = World::new();
    let listeners = world.serve("half", &[]);
    let hello = Hello::new().record();
    let mut open = Vec::new();
    for (_, place) in &listeners.all {
        for at in 0..HALF_OPEN {
            let mut socket = place.connect();
            socket.write_all(&hello[..hello.len() * at / HALF_OPEN]).unwrap();
            open.push(socket);
        }
        // The server has answered this one, and waits for the rest.
        let mut socket = place.connect();
        assert_eq!(wire::send(&mut socket, &hello), "answered");
        open.push(socket);
    }
    for (listener, place) in &listeners.all {
        for is_new in [true, false] {
            assert_eq!(world.meet(place, Some(&world.good), is_new), "served", "{listener}");
        }
    }
    drop(open);
}

/// What a file is replaced with; `None` removes it.
type Content = Option<Vec<u8>>;

#[test]
fn a_file_that_is_not_valid_any_more_leaves_the_one_before_in_use() {
    let world = World::new();
    let listeners = world.serve("reload", &[]);
    let file = |name: &str| std::fs::read(world.path(name)).unwrap();
    let half = |name: &str| Some(file(name)[..file(name).len() / 2].to_vec());
    let other = Authority::new("another authority");
    let stranger = other.issue(&Wish::default());
    other.issue(&Wish::default()).write(world.folder.path(), "other");
    let garbage = || Some(b"garbage".to_vec());
    let broken =
        || Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec());
    let cases: Vec<(&str, &str, Content)> = vec![
        ("server.pem", "removed", None),
        ("server.pem", "empty", Some(Vec::new())),
        ("server.pem", "garbage", garbage()),
        ("server.pem", "half of it", half("server.pem")),
        ("server.pem", "a key", Some(file("server-key.pem"))),
        ("server.pem", "of another key", Some(file("other.pem"))),
        ("server.pem", "no certificate", broken()),
        ("server-key.pem", "removed", None),
        ("server-key.pem", "empty", Some(Vec::new())),
        ("server-key.pem", "garbage", garbage()),
        ("server-key.pem", "half of it", half("server-key.pem")),
        ("server-key.pem", "of another certificate", Some(file("other-key.pem"))),
        ("server-key.pem", "a certificate", Some(file("server.pem"))),
        ("ca.pem", "removed", None),
        ("ca.pem", "empty", Some(Vec::new())),
        ("ca.pem", "garbage", garbage()),
        ("ca.pem", "no certificate", broken()),
        ("ca.pem", "a key", Some(file("server-key.pem"))),
        ("crl.pem", "removed", None),
        ("crl.pem", "empty", Some(Vec::new())),
        ("crl.pem", "garbage", garbage()),
        ("crl.pem", "half of it", half("crl.pem")),
        ("crl.pem", "a certificate", Some(file("ca.pem"))),
    ];
    let revoked = world.ca.issue(&Wish { serial: REVOKED, ..Wish::default() });
    let holds = |what: &str| {
        for (listener, place) in &listeners.all {
            let good = world.meet(place, Some(&world.good), true);
            assert_eq!(good, "served", "{listener}: {what}");
            let found = world.meet(place, Some(&revoked), true);
            assert_eq!(found, "CertificateUnknown", "{listener}: {what}");
            let found = world.meet(place, Some(&stranger), true);
            assert_eq!(found, "UnknownCA", "{listener}: {what}");
        }
    };
    for (name, what, content) in cases {
        let before = file(name);
        match content {
            Some(content) => replace(&world.path(name), content),
            None => std::fs::remove_file(world.path(name)).unwrap(),
        }
        holds(&format!("{name}: {what}"));
        replace(&world.path(name), before);
        holds(&format!("{name}: as before, after {what}"));
    }
    // As with etcd, a list does not expire, and anybody may have signed it.
    replace(&world.path("crl.pem"), world.ca.revoke(&[REVOKED], days(-3, -1)));
    holds("a list that has expired");
    replace(&world.path("crl.pem"), other.revoke(&[REVOKED], days(-1, 1)));
    holds("a list of another authority");
    replace(&world.path("crl.pem"), world.ca.revoke(&[], days(-1, 1)));
    for (listener, place) in &listeners.all {
        assert_eq!(world.meet(place, Some(&revoked), true), "served", "{listener}: a new list");
    }
    serves_calls(&world, &listeners);
}

/// The last line of a server that refuses its flags.
fn refusal(data: &Path, arguments: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_etcd"))
        .arg("--data-dir")
        .arg(data)
        .args(arguments)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {log}");
    log.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn a_server_does_not_start_with_files_and_flags_that_are_not_valid() {
    let world = World::new();
    replace(&world.path("empty"), "");
    replace(&world.path("garbage"), "garbage");
    Authority::new("another authority").issue(&Wish::default()).write(world.folder.path(), "other");
    let no_pem = "failed to find any PEM data";
    let no_file = "no such file or directory";
    let no_list = "malformed certificate revocation list";
    let no_pair = "private key does not match public key";
    for prefix in ["", "peer-"] {
        let crl = if prefix.is_empty() { "client-crl-file" } else { "peer-crl-file" };
        let side = if prefix.is_empty() { "client" } else { "peer" };
        let flag =
            |name: &str, file: &str| format!("--{prefix}{name}={}", world.path(file).display());
        let crl_flag = |file: &str| format!("--{crl}={}", world.path(file).display());
        for (more, wanted) in [
            (flag("cert-file", "none"), no_file),
            (flag("cert-file", "empty"), no_pem),
            (flag("cert-file", "garbage"), no_pem),
            (flag("cert-file", "server-key.pem"), no_pem),
            (flag("cert-file", "other.pem"), no_pair),
            (flag("key-file", "none"), no_file),
            (flag("key-file", "empty"), no_pem),
            (flag("key-file", "garbage"), no_pem),
            (flag("key-file", "server.pem"), no_pem),
            (flag("key-file", "other-key.pem"), no_pair),
            (flag("trusted-ca-file", "none"), no_file),
            (flag("trusted-ca-file", "empty"), no_pem),
            (flag("trusted-ca-file", "garbage"), no_pem),
            (flag("trusted-ca-file", "server-key.pem"), no_pem),
            (crl_flag("none"), no_file),
            (crl_flag("empty"), no_list),
            (crl_flag("garbage"), no_list),
            (crl_flag("ca.pem"), no_list),
            ("--tls-min-version=TLS1.0".to_owned(), "TLS1.0"),
            ("--tls-min-version=TLS1.1".to_owned(), "TLS1.1"),
            ("--tls-max-version=SSL3".to_owned(), "SSL3"),
            ("--cipher-suites=TLS_RSA_WITH_RC4_128_SHA".to_owned(), "too weak"),
            ("--cipher-suites=TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA".to_owned(), "too weak"),
            ("--cipher-suites=TLS_NONE".to_owned(), "unexpected TLS cipher suite"),
        ] {
            let mut arguments = world.flags();
            arguments.push("--listen-client-urls=https://127.0.0.1:1".to_owned());
            arguments.push("--advertise-client-urls=https://127.0.0.1:1".to_owned());
            arguments.push("--listen-peer-urls=https://127.0.0.1:2".to_owned());
            // The last of two flags counts.
            arguments.push(more.clone());
            let said = refusal(&world.path("data"), &arguments);
            assert!(said.contains(wanted), "{side}: {more}: {said}");
        }
    }
}
