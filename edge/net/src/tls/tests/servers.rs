//! Servers that a client refuses.

use super::authority::{Authority, Issued, Wish, days};
use super::{World, connection, run};
use crate::tls::{Allowed, ClientOptions, ClientTls, ServerOptions, ServerTls};
use tokio::io::AsyncWriteExt as _;

/// The client's error about a server with this certificate.
async fn error(world: &World, issued: &Issued, client: ClientOptions) -> Option<String> {
    let pair = issued.write(world.path(), "of-the-server");
    let server = ServerTls::new(ServerOptions { pair, ..world.server.clone() }).unwrap();
    let client = ClientTls::new(client).unwrap();
    let (near, far) = connection().await;
    let (_, made) = tokio::join!(server.accept(near), client.connect(far, "127.0.0.1"));
    made.err().map(|error| error.to_string())
}

#[test]
fn tob_017_a_server_must_have_a_certificate_for_the_host_that_is_connected_to() {
    let world = World::new();
    let other = Authority::new("another authority");
    let wish = Wish::default;
    let issue = |wish| world.ca.issue(&wish);
    let unknown =
        "tls: failed to verify certificate: x509: certificate signed by unknown authority";
    let old =
        "tls: failed to verify certificate: x509: certificate has expired or is not yet valid";
    for (what, issued, wanted) in [
        ("good", issue(wish()), None),
        ("another authority", other.issue(&wish()), Some(unknown)),
        ("self-signed", Authority::self_signed(&wish()), Some(unknown)),
        ("expired", issue(Wish { valid: days(-3, -1), ..wish() }), Some(old)),
        ("not yet valid", issue(Wish { valid: days(1, 3), ..wish() }), Some(old)),
        (
            "for clients only",
            issue(Wish { is_for_servers: false, ..wish() }),
            Some(
                "tls: failed to verify certificate: x509: certificate specifies an incompatible key \
                 usage",
            ),
        ),
        (
            "another host",
            issue(Wish { hosts: &["10.1.2.3", "a.example"], ..wish() }),
            Some(
                "tls: failed to verify certificate: x509: certificate is valid for 10.1.2.3, \
                 a.example, not 127.0.0.1",
            ),
        ),
        // A common name is not a host name.
        (
            "no host",
            issue(Wish { hosts: &[], common: "127.0.0.1", ..wish() }),
            Some(
                "tls: failed to verify certificate: x509: certificate is valid for , not 127.0.0.1",
            ),
        ),
    ] {
        run(async {
            let found = error(&world, &issued, world.good.clone()).await;
            assert_eq!(found.as_deref(), wanted, "{what}");
            let skips = ClientOptions { skips_verification: true, ..world.good.clone() };
            assert_eq!(error(&world, &issued, skips).await, None, "{what}, and none is checked");
        });
    }
}

#[test]
fn a_client_may_ask_for_another_name_than_that_of_the_host() {
    let world = World::new();
    let issued = world.ca.issue(&Wish { hosts: &["a.example"], ..Wish::default() });
    for (name, fits) in [("a.example", true), ("b.example", false), ("not a name", false)] {
        let server_name = Some(name.to_owned());
        let client = ClientOptions { server_name, ..world.good.clone() };
        run(async {
            let found = error(&world, &issued, client).await;
            assert_eq!(found.is_none(), fits, "{name}: {found:?}");
        });
    }
}

#[test]
fn only_servers_with_allowed_names_are_used() {
    let world = World::new();
    let issued = world.ca.issue(&Wish { common: "peer", ..Wish::default() });
    for (name, fits) in [("peer", true), ("other", false)] {
        let allowed = Allowed::CommonNames(vec![name.to_owned()]);
        let client = ClientOptions { allowed, ..world.good.clone() };
        run(async {
            let found = error(&world, &issued, client).await;
            assert_eq!(found.is_none(), fits, "{name}: {found:?}");
        });
    }
}

#[test]
fn a_server_without_tls_is_named_as_such() {
    let world = World::new();
    run(async {
        let client = ClientTls::new(world.good.clone()).unwrap();
        let (mut near, far) = connection().await;
        near.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let error = client.connect(far, "127.0.0.1").await.unwrap_err().to_string();
        assert_eq!(error, "tls: first record does not look like a TLS handshake");
    });
}
