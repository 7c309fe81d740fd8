//! Handshakes over real sockets, between both sides and with clients that break the rules.

mod authority;
mod reloading;
mod servers;

use super::{Allowed, ClientOptions, ClientTls, Crypto, ServerOptions, ServerTls, Stream, Version};
use crate::limits::HANDSHAKE_TIME_MAX;
use authority::{Authority, Issued, Wish, days};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

/// Runs with a clock that jumps to the next timer while nothing else happens.
fn run(test: impl Future<Output = ()>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().start_paused(true).build().unwrap().block_on(test);
}

/// Both ends of a connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (accepted, made) =
        tokio::join!(listener.accept(), TcpStream::connect(listener.local_addr().unwrap()));
    (accepted.unwrap().0, made.unwrap())
}

/// What a client does.
enum Client {
    Follows(ClientOptions),
    /// With a certificate and a key that need not fit together.
    Lies(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>),
    Sends(Vec<u8>),
    IsSilent,
}

impl Client {
    async fn meet(self, tcp: TcpStream) {
        match self {
            Client::Follows(options) => {
                let tls = ClientTls::new(options).unwrap();
                if let Ok(mut stream) = tls.connect(tcp, "127.0.0.1").await {
                    drop(stream.read(&mut [0]).await);
                }
            }
            Client::Lies(chain, key) => {
                let provider = Crypto::default().provider();
                let key = provider.key_provider.load_private_key(key).unwrap();
                let resolver = SingleCertAndKey::from(CertifiedKey::new(chain, key));
                let options = ClientOptions { skips_verification: true, ..Default::default() };
                let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
                    .with_protocol_versions(&Crypto::default().versions())
                    .unwrap()
                    .dangerous()
                    .with_custom_certificate_verifier(options.verifier(&provider).unwrap())
                    .with_client_cert_resolver(Arc::new(resolver));
                let connector = TlsConnector::from(Arc::new(config));
                let name = "localhost".try_into().unwrap();
                if let Ok(mut stream) = connector.connect(name, tcp).await {
                    drop(stream.read(&mut [0]).await);
                }
            }
            Client::Sends(bytes) => {
                let mut tcp = tcp;
                tcp.write_all(&bytes).await.unwrap();
                tcp.shutdown().await.unwrap();
                drop(tcp.read_to_end(&mut Vec::new()).await);
            }
            Client::IsSilent => {
                let mut tcp = tcp;
                drop(tcp.read(&mut [0]).await);
            }
        }
    }
}

/// Lets a server and a client meet. The common name of the client, or the server's error.
async fn meet(server: &ServerTls, client: Client) -> Result<String, String> {
    let (near, far) = connection().await;
    let accepted = async {
        let stream: Stream = server.accept(near).await.map_err(|error| error.to_string())?;
        assert!(stream.is_secure());
        Ok(stream.common_name().unwrap_or_default().to_owned())
    };
    tokio::join!(accepted, client.meet(far)).0
}

/// The certificates of a test, in files.
struct World {
    folder: TempDir,
    ca: Authority,
    good: ClientOptions,
    server: ServerOptions,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let ca = Authority::new("the authority");
        let path = folder.path();
        std::fs::write(path.join("ca.pem"), ca.pem()).unwrap();
        let server = ca.issue(&Wish::default()).write(path, "server");
        let good = ClientOptions {
            pair: Some(ca.issue(&Wish { common: "alice", ..Wish::default() }).write(path, "good")),
            trusted_ca: Some(path.join("ca.pem")),
            ..ClientOptions::default()
        };
        let server = ServerOptions {
            trusted_ca: Some(path.join("ca.pem")),
            client_cert_auth: true,
            ..ServerOptions::new(server)
        };
        World { folder, ca, good, server }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The good client, with another certificate.
    fn with(&self, issued: &Issued) -> Client {
        let number = std::fs::read_dir(self.path()).unwrap().count();
        let pair = Some(issued.write(self.path(), &format!("client-{number}")));
        Client::Follows(ClientOptions { pair, ..self.good.clone() })
    }

    fn wishing(&self, wish: &Wish<'_>) -> Client {
        self.with(&self.ca.issue(wish))
    }
}

/// A ClientHello of TLS 1.0 with one suite, after RFC 2246 §7.4.1.2.
fn old_hello() -> Vec<u8> {
    let body = [&[3, 1][..], &[7; 32], &[0, 0, 2, 0, 0x2f, 1, 0]].concat();
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap();
    let message = [&[1, 0, 0, length(&body)], &body[..]].concat();
    [&[22, 3, 1, 0, length(&message)], &message[..]].concat()
}

/// What a listener is for: each has its own settings.
fn listeners(world: &World) -> [(&'static str, ServerOptions); 2] {
    let clients = ServerOptions { protocols: vec!["h2", "http/1.1"], ..world.server.clone() };
    let peers = ServerOptions { checks_source: true, ..world.server.clone() };
    [("clients", clients), ("peers", peers)]
}

/// Clients that every listener refuses, and a part of its reason.
fn refused(world: &World) -> Vec<(&'static str, Client, &'static str)> {
    let wish = Wish::default;
    let other = Authority::new("another authority");
    let same_name = Authority::new("the authority");
    let middle = world.ca.subordinate("between");
    let good = world.ca.issue(&wish());
    let der = |issued: &Issued| CertificateDer::from_pem_slice(issued.cert.as_bytes()).unwrap();
    let key = |issued: &Issued| PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let truncated = der(&good).as_ref()[..200].to_vec();
    let protocols = vec!["h3"];
    let none = ClientOptions { pair: None, ..world.good.clone() };
    vec![
        ("no certificate", Client::Follows(none), "tls: client didn't provide a certificate"),
        ("another authority", world.with(&other.issue(&wish())), "signed by unknown authority"),
        (
            "another authority of the same name",
            world.with(&same_name.issue(&wish())),
            "x509: invalid signature",
        ),
        ("self-signed", world.with(&Authority::self_signed(&wish())), "unknown authority"),
        ("an issuer is missing", world.with(&middle.issue(&wish())), "unknown authority"),
        (
            "issued by no authority",
            world.with(&good.as_issuer().issue(&wish()).with_issuers(&[&good.cert])),
            "EndEntityUsedAsCa",
        ),
        (
            "expired",
            world.wishing(&Wish { valid: days(-3, -1), ..wish() }),
            "has expired or is not",
        ),
        ("not yet valid", world.wishing(&Wish { valid: days(1, 3), ..wish() }), "is not yet valid"),
        (
            "for servers only",
            world.wishing(&Wish { is_for_clients: false, ..wish() }),
            "x509: certificate specifies an incompatible key usage",
        ),
        (
            "with another key",
            Client::Lies(vec![der(&good)], key(&world.ca.issue(&wish()))),
            "x509: invalid signature",
        ),
        ("truncated", Client::Lies(vec![truncated.into()], key(&good)), "x509: "),
        (
            "plain HTTP",
            Client::Sends(b"GET / HTTP/1.1\r\n\r\n".to_vec()),
            "tls: first record does not look like a TLS handshake",
        ),
        (
            "plain HTTP/2",
            Client::Sends(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
            "tls: first record does not look like a TLS handshake",
        ),
        ("TLS 1.0", Client::Sends(old_hello()), "tls: peer is incompatible"),
        ("half a hello", Client::Sends(old_hello()[..20].to_vec()), "EOF"),
        ("nothing, and the end", Client::Sends(Vec::new()), "EOF"),
        ("nothing, and no end", Client::IsSilent, "tls: handshake timed out"),
        (
            "weak suites only",
            Client::Follows(ClientOptions {
                crypto: named("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
                ..world.good.clone()
            }),
            "tls: peer is incompatible",
        ),
        (
            "another protocol",
            Client::Follows(ClientOptions { protocols, ..world.good.clone() }),
            "",
        ),
    ]
}

/// TLS 1.2 with one suite.
fn named(suite: &str) -> Crypto {
    Crypto::new(Version::Tls12, Version::Tls12, &[suite.to_owned()]).unwrap()
}

#[test]
fn bad_clients_are_refused_and_good_ones_are_still_served() {
    let world = World::new();
    for (listener, options) in listeners(&world) {
        let server = ServerTls::new(options).unwrap();
        for (what, client, why) in refused(&world) {
            // The peers' listener takes every protocol.
            if what == "another protocol" && listener == "peers" {
                continue;
            }
            run(async {
                let error = meet(&server, client).await.expect_err(what);
                assert!(error.contains(why), "{listener}: {what}: {error}");
                let good = meet(&server, Client::Follows(world.good.clone())).await;
                assert_eq!(good.as_deref(), Ok("alice"), "{listener}: after {what}");
            });
        }
    }
}

/// However a client delays its handshake, it ends after ten seconds, as in etcd.
#[test]
fn cve_2026_73500_a_handshake_that_does_not_end_is_cut_off() {
    let world = World::new();
    let server = ServerTls::new(world.server).unwrap();
    let hello = old_hello();
    // Silent, silent after a part of the hello, and a byte in each second.
    for (sent, pause) in [(0, 0), (3, 0), (40, 0), (hello.len() - 1, 1)] {
        run(async {
            let (near, mut far) = connection().await;
            let begun = tokio::time::Instant::now();
            let sending = async {
                for byte in &hello[..sent] {
                    tokio::time::sleep(Duration::from_secs(pause)).await;
                    if far.write_all(&[*byte]).await.is_err() {
                        break;
                    }
                }
                std::future::pending::<()>().await;
            };
            let error = tokio::select! {
                accepted = server.accept(near) => accepted.unwrap_err().to_string(),
                () = sending => unreachable!("the client does not end"),
            };
            assert_eq!(error, "tls: handshake timed out", "{sent} bytes");
            assert_eq!(begun.elapsed(), HANDSHAKE_TIME_MAX, "{sent} bytes");
        });
    }
}

#[test]
fn versions_and_suites_are_held_to() {
    let world = World::new();
    let only = |version| Crypto::new(version, version, &[]).unwrap();
    let (old, new) = (|| only(Version::Tls12), || only(Version::Tls13));
    let gcm = || named("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
    let chacha = || named("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305");
    for (server, client, fits) in [
        (old(), new(), false),
        (new(), old(), false),
        (old(), Crypto::default(), true),
        (new(), Crypto::default(), true),
        (Crypto::default(), old(), true),
        (gcm(), gcm(), true),
        (gcm(), chacha(), false),
        (gcm(), new(), false),
    ] {
        let text = format!("{server:?} {client:?}");
        let options = ServerOptions { crypto: server, ..world.server.clone() };
        let server = ServerTls::new(options).unwrap();
        let client = ClientOptions { crypto: client, ..world.good.clone() };
        run(async {
            let met = meet(&server, Client::Follows(client)).await;
            assert_eq!(met.is_ok(), fits, "{text}: {met:?}");
        });
    }
}

#[test]
fn only_allowed_names_are_served() {
    let world = World::new();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let refusal = "tls: failed to verify certificate: client certificate authentication failed";
    let wish = || Wish { common: "bob", hosts: &["a.example", "10.1.2.3"], ..Wish::default() };
    for (allowed, fits) in [
        (Allowed::All, true),
        (Allowed::CommonNames(names(&["bob"])), true),
        (Allowed::CommonNames(names(&["alice", "bob"])), true),
        (Allowed::CommonNames(names(&["alice", "bo", "bobby", "Bob", ""])), false),
        // A host name is not a common name, nor the other way round.
        (Allowed::CommonNames(names(&["a.example"])), false),
        (Allowed::Hostnames(names(&["bob"])), false),
        (Allowed::Hostnames(names(&["a.example"])), true),
        (Allowed::Hostnames(names(&["b.example", "10.1.2.3"])), true),
        (Allowed::Hostnames(names(&["b.a.example", "example", "10.1.2.4", ""])), false),
    ] {
        let options = ServerOptions { allowed: allowed.clone(), ..world.server.clone() };
        let server = ServerTls::new(options).unwrap();
        run(async {
            let met = meet(&server, world.wishing(&wish())).await;
            let wanted = if fits { Ok("bob".to_owned()) } else { Err(refusal.to_owned()) };
            assert_eq!(met, wanted, "{allowed:?}");
        });
    }
}

#[test]
fn a_peer_must_come_from_an_address_of_its_certificate() {
    let world = World::new();
    for (hosts, refusal) in [
        (&["127.0.0.1"][..], None),
        (&["10.1.2.3", "127.0.0.1"], None),
        (&[], None),
        (&["localhost"], None),
        (&["10.1.2.3"], Some("x509: certificate is valid for 10.1.2.3, not 127.0.0.1")),
        (
            &["no-such-host.invalid"],
            Some("tls: \"127.0.0.1\" does not match any of DNSNames [\"no-such-host.invalid\"]"),
        ),
    ] {
        let [(_, clients), (_, peers)] = listeners(&world);
        for (options, is_checked) in [(clients, false), (peers, true)] {
            let server = ServerTls::new(options).unwrap();
            run(async {
                let met = meet(&server, world.wishing(&Wish { hosts, ..Wish::default() })).await;
                let refusal = refusal.filter(|_| is_checked);
                assert_eq!(met.err().as_deref(), refusal, "{hosts:?} {is_checked}");
            });
        }
    }
}

#[test]
fn without_authorities_no_certificate_is_asked_for() {
    let world = World::new();
    let server = ServerTls::new(ServerOptions::new(world.server.pair.clone())).unwrap();
    run(async {
        let client = ClientOptions { pair: None, ..world.good.clone() };
        assert_eq!(meet(&server, Client::Follows(client)).await, Ok(String::new()));
        // The common name counts only with `client_cert_auth`: not without a request for a
        // certificate, and not if it only must be issued by a trusted authority.
        assert_eq!(meet(&server, Client::Follows(world.good.clone())).await, Ok(String::new()));
        let options = ServerOptions { client_cert_auth: false, ..world.server.clone() };
        let server = ServerTls::new(options).unwrap();
        assert_eq!(meet(&server, Client::Follows(world.good.clone())).await, Ok(String::new()));
    });
}
