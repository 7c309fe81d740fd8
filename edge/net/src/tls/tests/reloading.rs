//! Files that are wrong at the start, and files that change.

use super::authority::{Authority, Wish, days};
use super::{Client, World, meet, run};
use crate::tls::{ClientOptions, ClientTls, ServerOptions, ServerTls, failed_reloads, self_signed};
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, UNIX_EPOCH};

const REVOKED: &str = "tls: failed to verify certificate: transport: certificate serial 09 revoked";

#[test]
fn files_that_are_not_valid_are_refused_by_name() {
    let world = World::new();
    let file = |name: &str| world.path().join(name);
    std::fs::write(file("empty"), "").unwrap();
    let half = std::fs::read_to_string(file("server.pem")).unwrap();
    std::fs::write(file("half"), &half[..half.len() / 2]).unwrap();
    std::fs::write(file("no-base64"), half.replace("MII", "!!!")).unwrap();
    let no_der = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    std::fs::write(file("no-der"), no_der).unwrap();
    let server = || world.server.clone();
    for (field, name, error) in [
        ("cert", "none", "open PATH: no such file or directory"),
        ("cert", "empty", "PATH: tls: failed to find any PEM data in certificate input"),
        ("cert", "half", "PATH: tls: missing section end marker"),
        ("cert", "no-base64", "PATH: tls: base64 decode error"),
        ("cert", "server-key.pem", "PATH: tls: failed to find any PEM data in certificate input"),
        ("key", "none", "open PATH: no such file or directory"),
        ("key", "empty", "PATH: tls: failed to find any PEM data in key input"),
        ("key", "server.pem", "PATH: tls: failed to find any PEM data in key input"),
        ("key", "good-key.pem", "PATH: tls: private key does not match public key"),
        ("ca", "none", "open PATH: no such file or directory"),
        ("ca", "empty", "PATH: tls: failed to find any PEM data in certificate input"),
        ("ca", "no-der", "PATH: x509: "),
        ("crl", "none", "open PATH: no such file or directory"),
        ("crl", "empty", "PATH: x509: malformed certificate revocation list"),
        ("crl", "server.pem", "PATH: x509: malformed certificate revocation list"),
    ] {
        let mut options = server();
        match field {
            "cert" => options.pair.cert = file(name),
            "key" => options.pair.key = file(name),
            "ca" => options.trusted_ca = Some(file(name)),
            _ => options.crl = Some(file(name)),
        }
        let wanted = error.replace("PATH", &file(name).display().to_string());
        let found = ServerTls::new(options).unwrap_err().to_string();
        assert!(found.starts_with(&wanted), "{field} {name}: {found}");
    }
}

#[test]
fn a_revoked_certificate_is_refused_as_soon_as_the_list_has_it() {
    let world = World::new();
    let list = world.path().join("revoked");
    let options = ServerOptions { crl: Some(list.clone()), ..world.server.clone() };
    let (none, some) = (world.ca.revoke(&[8]), world.ca.revoke(&[8, 9]));
    std::fs::write(&list, none.0).unwrap();
    let server = ServerTls::new(options).unwrap();
    let revoked = || world.wishing(&Wish { serial: 9, common: "eve", ..Wish::default() });
    run(async {
        assert_eq!(meet(&server, revoked()).await.as_deref(), Ok("eve"));
        for bytes in [some.0.into_bytes(), some.1] {
            std::fs::write(&list, bytes).unwrap();
            assert_eq!(meet(&server, revoked()).await, Err(REVOKED.to_owned()));
            let good = meet(&server, Client::Follows(world.good.clone())).await;
            assert_eq!(good.as_deref(), Ok("alice"));
        }
        // A list that is not valid changes nothing.
        let failed = failed_reloads();
        std::fs::write(&list, "nonsense").unwrap();
        assert_eq!(meet(&server, revoked()).await, Err(REVOKED.to_owned()));
        std::fs::remove_file(&list).unwrap();
        assert_eq!(meet(&server, revoked()).await, Err(REVOKED.to_owned()));
        assert!(failed_reloads() >= failed + 2);
        std::fs::write(&list, none.1).unwrap();
        assert_eq!(meet(&server, revoked()).await.as_deref(), Ok("eve"));
    });
}

#[test]
fn the_certificate_of_a_revoked_authority_between_is_refused() {
    let world = World::new();
    let list = world.path().join("revoked");
    let middle = world.ca.subordinate("between");
    let issued = middle.issue(&Wish::default()).with_issuers(&[&middle.pem()]);
    std::fs::write(&list, world.ca.revoke(&[]).0).unwrap();
    let options = ServerOptions { crl: Some(list.clone()), ..world.server.clone() };
    let server = ServerTls::new(options).unwrap();
    run(async {
        assert!(meet(&server, world.with(&issued)).await.is_ok());
        std::fs::write(&list, world.ca.revoke(&[2]).0).unwrap();
        let error = meet(&server, world.with(&issued)).await.unwrap_err();
        assert!(error.ends_with("transport: certificate serial 02 revoked"), "{error}");
    });
}

#[test]
fn new_authorities_count_at_the_next_connection() {
    let world = World::new();
    let server = ServerTls::new(world.server.clone()).unwrap();
    let next = Authority::new("the next authority");
    let new = next.issue(&Wish { common: "new", ..Wish::default() });
    // The client trusts the old authority, which has issued the server's certificate.
    let trusted_ca = Some(world.path().join("ca-of-clients.pem"));
    std::fs::write(world.path().join("ca-of-clients.pem"), world.ca.pem()).unwrap();
    let pair = Some(new.write(world.path(), "new"));
    let client =
        |pair| ClientOptions { pair, trusted_ca: trusted_ca.clone(), ..world.good.clone() };
    let (new, old) = (client(pair), client(world.good.pair.clone()));
    let both = [world.ca.pem(), next.pem()].concat();
    run(async {
        assert!(meet(&server, Client::Follows(new.clone())).await.is_err());
        std::fs::write(world.path().join("ca.pem"), both).unwrap();
        assert_eq!(meet(&server, Client::Follows(new.clone())).await.as_deref(), Ok("new"));
        assert_eq!(meet(&server, Client::Follows(old.clone())).await.as_deref(), Ok("alice"));
        std::fs::write(world.path().join("ca.pem"), next.pem()).unwrap();
        assert_eq!(meet(&server, Client::Follows(new)).await.as_deref(), Ok("new"));
        assert!(meet(&server, Client::Follows(old)).await.is_err());
    });
}

#[test]
fn a_new_certificate_is_used_once_its_key_is_there_too() {
    let world = World::new();
    let server = ServerTls::new(world.server.clone()).unwrap();
    // The client trusts only the next authority.
    let next = Authority::new("the next authority");
    std::fs::write(world.path().join("next-ca.pem"), next.pem()).unwrap();
    let trusted_ca = Some(world.path().join("next-ca.pem"));
    let client = ClientOptions { trusted_ca, ..world.good.clone() };
    let new = next.issue(&Wish::default());
    run(async {
        let failed = failed_reloads();
        std::fs::write(&world.server.pair.cert, &new.cert).unwrap();
        let old = meet(&server, Client::Follows(world.good.clone())).await;
        assert_eq!(old.as_deref(), Ok("alice"), "the pair of before is in use");
        assert!(failed_reloads() > failed);
        std::fs::write(&world.server.pair.key, &new.key).unwrap();
        assert_eq!(meet(&server, Client::Follows(client)).await.as_deref(), Ok("alice"));
    });
}

#[test]
fn a_client_uses_a_new_certificate_at_its_next_connection() {
    let world = World::new();
    let server = ServerTls::new(world.server.clone()).unwrap();
    let client = ClientTls::new(world.good.clone()).unwrap();
    let new = world.ca.issue(&Wish { common: "new", ..Wish::default() });
    run(async {
        for name in ["alice", "new"] {
            let (near, far) = super::connection().await;
            let (accepted, made) =
                tokio::join!(server.accept(near), client.connect(far, "127.0.0.1"));
            assert_eq!(accepted.unwrap().common_name(), Some(name));
            made.unwrap();
            new.write(world.path(), "good");
        }
    });
}

#[test]
fn a_made_certificate_is_kept_and_only_its_owner_reads_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("fixtures").join("client");
    let hosts = ["127.0.0.1".to_owned(), "localhost".to_owned()];
    let pair = self_signed(&directory, &hosts, 1).unwrap();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&pair.key), mode(&directory)), (0o600, 0o700));
    let first = std::fs::read(&pair.cert).unwrap();
    assert_eq!(self_signed(&directory, &hosts, 1).unwrap(), pair);
    assert_eq!(std::fs::read(&pair.cert).unwrap(), first, "it is used again");
    let server = ServerTls::new(ServerOptions::new(pair.clone())).unwrap();
    let client = ClientOptions { trusted_ca: Some(pair.cert), ..ClientOptions::default() };
    run(async {
        assert_eq!(meet(&server, Client::Follows(client)).await, Ok(String::new()));
    });
    for years in [0, u64::from(u32::MAX)] {
        assert!(self_signed(&folder.path().join("other"), &hosts, years).is_err(), "{years}");
    }
}

#[test]
fn the_expiry_is_that_of_the_first_certificate_in_the_files_as_they_are() {
    let world = World::new();
    let until = |seconds: u64| Wish {
        valid: (days(-1, 1).0, UNIX_EPOCH + Duration::from_secs(seconds)),
        ..Wish::default()
    };
    let pair = world.ca.issue(&until(4_000_000_000)).write(world.path(), "expiring");
    let server = ServerTls::new(ServerOptions::new(pair)).unwrap();
    assert_eq!(server.expires_unix_s(), 4_000_000_000);
    let issuer = Authority::self_signed(&until(3_000_000_000)).cert;
    let renewed = world.ca.issue(&until(4_100_000_000)).with_issuers(&[&issuer]);
    renewed.write(world.path(), "expiring");
    assert_eq!(server.expires_unix_s(), 3_000_000_000);
}
