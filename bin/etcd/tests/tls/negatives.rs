//! Clients that every listener of a server with TLS refuses, each with the refusal that it gets; and
//! after each of them the listener serves a good client.
//!
//! All listeners belong to one server: gRPC, HTTP for clients, peers, metrics, and a unix socket.

use crate::certificates::{Authority, Faults, Identity, REVOKED, Wish, days, replace};
use crate::hello::{Hello, bad_hellos, message, record};
use crate::wire::{self, ALERT, CHANGE_CIPHER, DATA, HANDSHAKE, Place, Records, Socket};
use crate::{Server, connect, free, put, run};
use client::TlsOptions;
use rcgen::{CidrSubnet, ExtendedKeyUsagePurpose, GeneralSubtree, NameConstraints};
use rustls::crypto::tls12::Prf;
use rustls::crypto::{ActiveKeyExchange, CryptoProvider, aws_lc_rs};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedCipherSuite};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

/// The listeners with TLS of a server.
pub(crate) struct Listeners {
    pub(crate) all: Vec<(&'static str, Place)>,
    pub(crate) _server: Server,
    grpc: String,
    unix: String,
}

/// The certificates of a test.
pub(crate) struct World {
    pub(crate) folder: TempDir,
    pub(crate) ca: Authority,
    pub(crate) good: Identity,
}

impl World {
    /// Files with an authority, a certificate for servers, and a list with [`REVOKED`].
    pub(crate) fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let ca = Authority::new("the authority");
        let good = ca.issue(&Wish::default());
        let world = World { folder, ca, good };
        replace(&world.path("ca.pem"), world.ca.pem());
        replace(&world.path("crl.pem"), world.ca.revoke(&[8, REVOKED], days(-1, 1)));
        world.ca.issue(&Wish::default()).write(world.folder.path(), "server");
        world.good.write(world.folder.path(), "good");
        world
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The flags for all files, for clients and for peers.
    pub(crate) fn flags(&self) -> Vec<String> {
        let flag = |name: &str, file: &str| format!("--{name}={}", self.path(file).display());
        let mut flags = Vec::new();
        for prefix in ["", "peer-"] {
            let crl = if prefix.is_empty() { "client-crl-file" } else { "peer-crl-file" };
            flags.extend([
                flag(&format!("{prefix}cert-file"), "server.pem"),
                flag(&format!("{prefix}key-file"), "server-key.pem"),
                flag(&format!("{prefix}trusted-ca-file"), "ca.pem"),
                flag(crl, "crl.pem"),
                format!("--{prefix}client-cert-auth"),
            ]);
        }
        flags
    }

    /// Starts a server with further flags, all of whose listeners have TLS.
    pub(crate) fn serve(&self, name: &str, more: &[&str]) -> Listeners {
        let mut arguments = self.flags();
        arguments.extend(more.iter().map(|&flag| flag.to_owned()));
        self.start(name, "https", arguments)
    }

    /// Starts a server without TLS.
    pub(crate) fn serve_plain(&self, name: &str) -> Listeners {
        self.start(name, "http", Vec::new())
    }

    fn start(&self, name: &str, scheme: &str, mut arguments: Vec<String>) -> Listeners {
        let [grpc, http, peer, metrics] = [(); 4].map(|()| free());
        let socket = self.path(&format!("{name}.sock"));
        let unix = if scheme == "https" { "unixs" } else { "unix" };
        let unix = format!("{unix}://{}", socket.display());
        arguments.extend([
            format!("--listen-client-urls={scheme}://{grpc},{unix}"),
            format!("--advertise-client-urls={scheme}://{grpc}"),
            format!("--listen-client-http-urls={scheme}://{http}"),
            format!("--listen-metrics-urls={scheme}://{metrics}"),
            format!("--listen-peer-urls={scheme}://{peer}"),
            format!("--initial-advertise-peer-urls={scheme}://{peer}"),
            format!("--initial-cluster=m={scheme}://{peer}"),
            "--name=m".to_owned(),
        ]);
        let server = Server::start(&self.path(name), &arguments).ready();
        let all = vec![
            ("grpc", Place::Tcp(grpc.clone())),
            ("client http", Place::Tcp(http)),
            ("peers", Place::Tcp(peer)),
            ("metrics", Place::Tcp(metrics)),
            ("unix socket", Place::Unix(socket)),
        ];
        Listeners { all, _server: server, grpc: format!("{scheme}://{grpc}"), unix }
    }

    /// A client's settings with this certificate.
    fn config(&self, identity: Option<&Identity>, provider: Arc<CryptoProvider>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let key = |identity: &Identity| {
            provider.key_provider.load_private_key(identity.key.clone_key()).unwrap()
        };
        let resolver = identity
            .map(|it| SingleCertAndKey::from(CertifiedKey::new(it.chain.clone(), key(it))))
            .map(Arc::new);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match resolver {
            Some(resolver) => builder.with_client_cert_resolver(resolver),
            None => builder.with_no_client_auth(),
        };
        config.resumption = rustls::client::Resumption::disabled();
        config.enable_secret_extraction = true;
        config
    }

    /// How a listener answers a client with this certificate.
    pub(crate) fn meet(&self, place: &Place, identity: Option<&Identity>, is_new: bool) -> String {
        self.talk(place, self.config(identity, Arc::new(of_version(is_new))))
    }

    fn talk(&self, place: &Place, config: ClientConfig) -> String {
        let mut conn = connection(config);
        wire::ask(&mut conn, &mut place.connect())
    }

    /// A connection after its handshake, whose records the test makes.
    fn records(&self, place: &Place, is_new: bool) -> Records {
        let mut provider = of_version(is_new);
        let chacha = |suite: &SupportedCipherSuite| format!("{suite:?}").contains("CHACHA20");
        provider.cipher_suites.retain(chacha);
        let mut conn = connection(self.config(Some(&self.good), Arc::new(provider)));
        let mut socket = place.connect();
        while conn.is_handshaking() || conn.wants_write() {
            conn.complete_io(&mut socket).unwrap();
        }
        Records::of(conn, socket)
    }
}

fn connection(config: ClientConfig) -> ClientConnection {
    let name = "127.0.0.1".try_into().unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

/// The suites of one version.
fn of_version(is_new: bool) -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    let fits = |suite: &SupportedCipherSuite| suite.tls13().is_some() == is_new;
    provider.cipher_suites.retain(fits);
    provider
}

/// The answer that a listener must give: the same at all of them, or another one at some.
struct Answer {
    usual: &'static str,
    others: &'static [(&'static str, &'static str)],
}

const fn all(usual: &'static str) -> Answer {
    Answer { usual, others: &[] }
}

impl Answer {
    fn at(&self, listener: &str) -> &'static str {
        let other = self.others.iter().find(|(name, _)| *name == listener);
        other.map_or(self.usual, |(_, answer)| answer)
    }
}

/// What a client does at a listener; its result is the listener's answer.
type Act = Box<dyn Fn(&World, &Place) -> String>;
type Row = (String, Act, Answer);

/// Clients with a certificate that is not right, each with both versions of TLS.
#[expect(clippy::too_many_lines, reason = "a table")]
fn certificates(world: &World) -> Vec<Row> {
    let wish = Wish::default;
    let issue = |wish: Wish| world.ca.issue(&wish);
    let other = Authority::new("another authority");
    let same_name = Authority::new("the authority");
    let below = |faults| world.ca.subordinate("between", faults);
    let by = |authority: &Authority| authority.issue(&wish()).with(authority.der());
    let middle = below(Faults::default());
    let good = world.ca.issue(&wish());
    let der = good.chain[0].to_vec();
    let mut forged = der.clone();
    *forged.last_mut().unwrap() ^= 1;
    let narrow = below(Faults { path_len: Some(0), ..Faults::default() });
    let too_deep = narrow.subordinate("below that", Faults::default());
    let deep = too_deep.issue(&wish()).with(too_deep.der()).with(narrow.der());
    let no_names = || NameConstraints { permitted_subtrees: vec![], excluded_subtrees: vec![] };
    let dns = vec![GeneralSubtree::DnsName("example.com".to_owned())];
    let permitted = NameConstraints { permitted_subtrees: dns, ..no_names() };
    let loopback = CidrSubnet::V4([127, 0, 0, 0], [255, 0, 0, 0]);
    let excluded_subtrees = vec![GeneralSubtree::IpAddress(loopback)];
    let excluded = NameConstraints { excluded_subtrees, ..no_names() };
    let purposes = |purposes: &[&'static str]| Wish { purposes: purposes.to_vec(), ..wish() };
    let servers_only = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let fill = |count: usize| {
        let issuers = std::iter::repeat_n(middle.der(), count);
        issuers.fold(world.ca.issue(&wish()), Identity::with)
    };
    let here = |identity: Identity| Some(identity);
    const WRONG_HOST: Answer = Answer { usual: "served", others: &[("peers", "closed")] };
    let rows: Vec<(&'static str, Option<Identity>, Answer)> = vec![
        ("no certificate", None, all("CertificateRequired")),
        ("another authority", here(other.issue(&wish())), all("UnknownCA")),
        ("another authority, with its certificate", here(by(&other)), all("UnknownCA")),
        ("another authority of the same name", here(same_name.issue(&wish())), all("DecryptError")),
        ("self-signed", here(Authority::self_signed(&wish())), all("UnknownCA")),
        (
            "self-signed, for an authority",
            here(Authority::self_signed(&Wish { is_ca: true, ..wish() })),
            all("CertificateUnknown"),
        ),
        (
            "an authority's certificate",
            here(issue(Wish { is_ca: true, ..wish() })),
            all("CertificateUnknown"),
        ),
        ("an issuer is missing", here(middle.issue(&wish())), all("UnknownCA")),
        (
            "the wrong issuer is there",
            here(middle.issue(&wish()).with(other.der())),
            all("UnknownCA"),
        ),
        (
            "issued by no authority",
            here(good.as_issuer().issue(&wish()).with(&good.chain[0])),
            all("CertificateUnknown"),
        ),
        (
            "an issuer without the flag of an authority",
            here(by(&below(Faults { is_none: true, ..Faults::default() }))),
            all("CertificateUnknown"),
        ),
        ("more authorities than the path may have", here(deep), all("CertificateUnknown")),
        (
            "an issuer for other names only",
            here(by(&below(Faults { names: Some(permitted), ..Faults::default() }))),
            all("CertificateUnknown"),
        ),
        (
            "an issuer that must not issue for this address",
            here(by(&below(Faults { names: Some(excluded), ..Faults::default() }))),
            all("CertificateUnknown"),
        ),
        (
            "an issuer for servers only",
            here(by(&below(Faults { purposes: servers_only, ..Faults::default() }))),
            all("UnsupportedCertificate"),
        ),
        (
            "an issuer that has expired",
            here(by(&below(Faults { valid: Some(days(-3, -1)), ..Faults::default() }))),
            all("CertificateExpired"),
        ),
        (
            "an issuer that is not yet valid",
            here(by(&below(Faults { valid: Some(days(1, 3)), ..Faults::default() }))),
            all("CertificateExpired"),
        ),
        (
            "an issuer that is revoked",
            here(by(&below(Faults { serial: Some(8), ..Faults::default() }))),
            all("CertificateUnknown"),
        ),
        ("expired", here(issue(Wish { valid: days(-3, -1), ..wish() })), all("CertificateExpired")),
        (
            "not yet valid",
            here(issue(Wish { valid: days(1, 3), ..wish() })),
            all("CertificateExpired"),
        ),
        ("revoked", here(issue(Wish { serial: REVOKED, ..wish() })), all("CertificateUnknown")),
        ("for servers only", here(issue(purposes(&["server"]))), all("UnsupportedCertificate")),
        ("for code only", here(issue(purposes(&["code"]))), all("UnsupportedCertificate")),
        ("for another host", here(issue(Wish { hosts: vec!["10.1.2.3"], ..wish() })), WRONG_HOST),
        (
            "with the key of another one",
            here(issue(wish()).with_key_of(&good)),
            all("DecryptError"),
        ),
        (
            "with another signature",
            here(issue(wish()).with_key_of(&good).presenting(&forged)),
            all("DecryptError"),
        ),
        ("truncated", here(issue(wish()).presenting(&der[..der.len() / 2])), all("BadCertificate")),
        (
            "with bytes behind it",
            here(issue(wish()).presenting(&[&der[..], &[0; 8]].concat())),
            all("BadCertificate"),
        ),
        ("random bytes", here(issue(wish()).presenting(&[0x5a; 300])), all("BadCertificate")),
        ("no bytes", here(issue(wish()).presenting(&[])), all("BadCertificate")),
        ("a key", here(issue(wish()).presenting(good.key.secret_der())), all("BadCertificate")),
        ("a chain of 64 KiB", here(fill(250)), all("closed")),
    ];
    let mut all_rows = Vec::new();
    for (what, identity, answer) in rows {
        let identity = Arc::new(identity);
        let Answer { usual, others } = answer;
        for (version, is_new) in [("TLS 1.3", true), ("TLS 1.2", false)] {
            let identity = Arc::clone(&identity);
            let act: Act =
                Box::new(move |world, place| world.meet(place, (*identity).as_ref(), is_new));
            all_rows.push((format!("{what}, {version}"), act, Answer { usual, others }));
        }
    }
    all_rows
}

/// Clients that send what is no handshake, or not all of one.
#[expect(clippy::too_many_lines, reason = "a table")]
fn first_bytes() -> Vec<Row> {
    let hello = Hello::new().record();
    let is_too_long = [&[HANDSHAKE, 3, 1, 0x48, 0x01][..], &[1; 0x4801]].concat();
    let large =
        |len: u8| [&[HANDSHAKE, 3, 1, 0x40, 0, 1, len, 0xff, 0xff][..], &[0; 16_380]].concat();
    let split = |at: usize| {
        let (one, two) =
            (Hello::new().message()[..at].to_vec(), Hello::new().message()[at..].to_vec());
        [record(HANDSHAKE, &one), record(DATA, b"x"), record(HANDSHAKE, &two)].concat()
    };
    let of_type = |kind: u8| record(HANDSHAKE, &message(kind, &[0; 40]));
    let sent: Vec<(&'static str, Vec<u8>, &'static str)> = vec![
        ("HTTP/1.1", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), "DecodeError"),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(), "DecodeError"),
        ("SSH", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec(), "DecodeError"),
        ("SMTP", b"EHLO example.com\r\n".to_vec(), "DecodeError"),
        ("Redis", b"*1\r\n$4\r\nPING\r\n".to_vec(), "DecodeError"),
        ("the PROXY protocol", b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n".to_vec(), "DecodeError"),
        ("PostgreSQL", vec![0, 0, 0, 8, 4, 0xd2, 0x16, 0x2f], "DecodeError"),
        ("zeros", vec![0; 1_000], "DecodeError"),
        ("ones", vec![0xff; 1_000], "DecodeError"),
        ("line feeds", b"\r\n\r\n\r\n\r\n".to_vec(), "DecodeError"),
        ("data first", record(DATA, b"hello"), "UnexpectedMessage"),
        ("an end of the handshake first", record(CHANGE_CIPHER, &[1]), "UnexpectedMessage"),
        ("an alert first", record(ALERT, &[2, 40]), "closed"),
        ("half an alert", record(ALERT, &[2]), "DecodeError"),
        ("a heartbeat", record(24, &[1, 0x40, 0]), "DecodeError"),
        ("an unknown record", record(99, b"hello"), "DecodeError"),
        ("an empty record", record(HANDSHAKE, &[]), "DecodeError"),
        (
            "a record of an unknown version",
            [&[HANDSHAKE, 9, 9], &hello[3..]].concat(),
            "DecodeError",
        ),
        ("a record that is too long", is_too_long, "DecodeError"),
        ("a handshake of 16 MiB", large(0xff), "closed"),
        ("a handshake of 128 KiB", large(0x02), "closed"),
        ("a hello with other data within", split(50), "closed"),
        ("a server's hello", of_type(2), "UnexpectedMessage"),
        ("a request for a hello", of_type(0), "UnexpectedMessage"),
        ("a certificate first", of_type(11), "DecodeError"),
        ("a key exchange first", of_type(16), "UnexpectedMessage"),
        ("a Finished first", of_type(20), "UnexpectedMessage"),
        ("an unknown message", of_type(99), "UnexpectedMessage"),
        ("a hello without content", record(HANDSHAKE, &message(1, &[])), "DecodeError"),
    ];
    let mut rows: Vec<Row> = Vec::new();
    for (what, bytes, usual) in sent.into_iter().chain(bad_hellos()) {
        let act: Act = Box::new(move |_, place| {
            let mut socket = place.connect();
            match wire::send(&mut socket, &bytes) {
                // What follows the server's hello is encrypted.
                answer if answer == "answered" => format!("answered, {}", last_answer(&mut socket)),
                answer => answer,
            }
        });
        rows.push((what.to_owned(), act, all(usual)));
    }
    let farewell = record(ALERT, &[1, 0]);
    for (what, bytes) in [
        ("nothing", &hello[..0]),
        ("half a head", &hello[..3]),
        ("a head", &hello[..5]),
        ("half a hello", &hello[..60]),
        ("a farewell", &farewell),
    ] {
        let bytes = bytes.to_vec();
        let act: Act = Box::new(move |_, place| {
            let mut socket = place.connect();
            std::io::Write::write_all(&mut socket, &bytes).unwrap();
            socket.end();
            wire::plain_answer(&mut socket)
        });
        rows.push((format!("{what} and the end"), act, all("closed")));
    }
    rows
}

/// What an honest client does not do behind its hello.
fn handshakes() -> Vec<Row> {
    let after_hello = |more: Vec<u8>| -> Act {
        Box::new(move |_, place| {
            let mut socket = place.connect();
            let answer = wire::send(&mut socket, &Hello::new().record());
            assert_eq!(answer, "answered");
            std::io::Write::write_all(&mut socket, &more).unwrap();
            socket.end();
            last_answer(&mut socket)
        })
    };
    let protocols = |protocols: &'static [&'static [u8]]| -> Act {
        Box::new(move |world, place| {
            let mut config = world.config(Some(&world.good), Arc::new(of_version(true)));
            config.alpn_protocols = protocols.iter().map(|it| it.to_vec()).collect();
            world.talk(place, config)
        })
    };
    let wrong_finished: Act = Box::new(|world, place| {
        let mut provider = of_version(false);
        provider.cipher_suites = vec![SupportedCipherSuite::Tls12(wrong_suite())];
        world.talk(place, world.config(Some(&world.good), Arc::new(provider)))
    });
    const NO_PROTOCOL: Answer = Answer {
        usual: "NoApplicationProtocol",
        others: &[("peers", "served"), ("metrics", "served")],
    };
    vec![
        ("a Finished that is wrong".to_owned(), wrong_finished, all("DecryptError")),
        ("an unknown protocol".to_owned(), protocols(&[b"h3"]), NO_PROTOCOL),
        ("protocols of others".to_owned(), protocols(&[b"spdy/3", b"smtp", b"h2c"]), NO_PROTOCOL),
        (
            "data without encryption".to_owned(),
            after_hello(record(DATA, b"GET / HTTP/1.1\r\n\r\n")),
            all("closed"),
        ),
        (
            "a certificate without encryption".to_owned(),
            after_hello(record(HANDSHAKE, &message(11, &[0; 4]))),
            all("closed"),
        ),
        (
            "a second hello without encryption".to_owned(),
            after_hello(Hello::new().record()),
            all("closed"),
        ),
        (
            "a record that cannot be decrypted".to_owned(),
            after_hello(record(DATA, &[7; 80])),
            all("closed"),
        ),
        ("no end of the handshake".to_owned(), after_hello(Vec::new()), all("closed")),
    ]
}

/// Reads to the end, since the answer is encrypted.
fn last_answer(socket: &mut Socket) -> String {
    loop {
        match wire::plain_answer(socket).as_str() {
            "answered" => {}
            other if other.starts_with("a record of type") => {}
            other => return other.to_owned(),
        }
    }
}

/// A function of TLS 1.2 that computes another end of the handshake than the server.
struct WrongFinished(&'static dyn Prf);

impl Prf for WrongFinished {
    fn for_key_exchange(
        &self,
        output: &mut [u8; 48],
        exchange: Box<dyn ActiveKeyExchange>,
        peer: &[u8],
        label: &[u8],
        seed: &[u8],
    ) -> Result<(), rustls::Error> {
        self.0.for_key_exchange(output, exchange, peer, label, seed)
    }

    fn for_secret(&self, output: &mut [u8], secret: &[u8], label: &[u8], seed: &[u8]) {
        self.0.for_secret(output, secret, label, seed);
        if label == b"client finished" {
            output[0] ^= 1;
        }
    }
}

/// A suite of TLS 1.2 with [`WrongFinished`]. It lives as long as the process, as rustls wants it.
fn wrong_suite() -> &'static rustls::Tls12CipherSuite {
    let of_1_2 = |suite: &SupportedCipherSuite| match suite {
        SupportedCipherSuite::Tls12(suite) => Some(*suite),
        SupportedCipherSuite::Tls13(_) => None,
    };
    let good = of_version(false).cipher_suites.iter().find_map(of_1_2).unwrap();
    Box::leak(Box::new(rustls::Tls12CipherSuite {
        common: rustls::crypto::CipherSuiteCommon { ..copy(&good.common) },
        prf_provider: Box::leak(Box::new(WrongFinished(good.prf_provider))),
        kx: good.kx,
        sign: good.sign,
        aead_alg: good.aead_alg,
    }))
}

fn copy(common: &rustls::crypto::CipherSuiteCommon) -> rustls::crypto::CipherSuiteCommon {
    rustls::crypto::CipherSuiteCommon {
        suite: common.suite,
        hash_provider: common.hash_provider,
        confidentiality_limit: common.confidentiality_limit,
    }
}

/// What an honest client does not do after its handshake.
#[expect(clippy::too_many_lines, reason = "a table")]
fn after_handshake() -> Vec<Row> {
    type Make = fn(&mut Records) -> Vec<u8>;
    let rows: Vec<(&'static str, bool, Make, &'static str)> = vec![
        ("nothing", true, |_| Vec::new(), "served"),
        ("nothing, TLS 1.2", false, |_| Vec::new(), "served"),
        (
            "a hello for other keys (renegotiation)",
            false,
            |to| to.sealed(HANDSHAKE, &Hello::of_1_2().message()),
            "NoRenegotiation",
        ),
        (
            "a request for a hello",
            false,
            |to| to.sealed(HANDSHAKE, &message(0, &[])),
            "UnexpectedMessage",
        ),
        (
            "a Finished again",
            false,
            |to| to.sealed(HANDSHAKE, &message(20, &[0; 12])),
            "UnexpectedMessage",
        ),
        (
            "a second hello",
            true,
            |to| to.sealed(HANDSHAKE, &Hello::new().message()),
            "UnexpectedMessage",
        ),
        (
            "a certificate",
            true,
            |to| to.sealed(HANDSHAKE, &message(11, &[0; 4])),
            "UnexpectedMessage",
        ),
        ("a ticket", true, |to| to.sealed(HANDSHAKE, &message(4, &[0; 20])), "DecodeError"),
        (
            "a Finished",
            true,
            |to| to.sealed(HANDSHAKE, &message(20, &[0; 32])),
            "UnexpectedMessage",
        ),
        (
            "a change of keys that is none",
            true,
            |to| to.sealed(HANDSHAKE, &message(24, &[7])),
            "IllegalParameter",
        ),
        (
            "a change of keys that is too long",
            true,
            |to| to.sealed(HANDSHAKE, &message(24, &[0, 0])),
            "DecodeError",
        ),
        (
            "a message of 16 MiB",
            true,
            |to| to.sealed(HANDSHAKE, &[11, 0xff, 0xff, 0xff, 0]),
            "closed",
        ),
        ("a record without a type", true, |to| to.sealed_inner(DATA, &[0; 50]), "closed"),
        ("a record of an unknown type", true, |to| to.sealed(99, b"x"), "DecodeError"),
        ("an end of the handshake", true, |to| to.sealed(CHANGE_CIPHER, &[1]), "UnexpectedMessage"),
        ("half an alert", true, |to| to.sealed(ALERT, &[2]), "DecodeError"),
        ("a record that is too long", true, |to| to.sealed(DATA, &[0; 16_385]), "RecordOverflow"),
        (
            "a record that is too long, TLS 1.2",
            false,
            |to| to.sealed(DATA, &[0; 16_385]),
            "RecordOverflow",
        ),
        ("a record with another tag", true, |to| tampered(to.sealed(DATA, b"x")), "BadRecordMac"),
        (
            "a record with another tag, TLS 1.2",
            false,
            |to| tampered(to.sealed(DATA, b"x")),
            "BadRecordMac",
        ),
        ("a record twice", true, |to| to.sealed(DATA, b"x").repeat(2), "BadRecordMac"),
        (
            "a record that is left out",
            true,
            |to| to.sealed(DATA, b"x").split_off(23),
            "BadRecordMac",
        ),
        (
            "a record without encryption",
            true,
            |_| record(DATA, b"GET / HTTP/1.1\r\n\r\n"),
            "BadRecordMac",
        ),
        ("an alert without encryption", true, |_| record(ALERT, &[2, 40]), "BadRecordMac"),
    ];
    let rows = rows.into_iter().map(|(what, is_new, make, usual)| {
        let act: Act = Box::new(move |world, place| {
            let mut records = world.records(place, is_new);
            let bytes = make(&mut records);
            records.send(&bytes)
        });
        (format!("after the handshake: {what}"), act, all(usual))
    });
    rows.collect()
}

/// With one bit of its tag changed.
fn tampered(mut record: Vec<u8>) -> Vec<u8> {
    *record.last_mut().unwrap() ^= 1;
    record
}

/// At least as many cases as each listener has to refuse.
const CASES_MIN: usize = 60;

#[test]
fn every_listener_refuses_every_bad_client_and_serves_a_good_one_after_it() {
    let world = World::new();
    let listeners = world.serve("m", &[]);
    let mut rows = certificates(&world);
    rows.extend(first_bytes());
    rows.extend(handshakes());
    rows.extend(after_handshake());
    let mut wrong = Vec::new();
    for (listener, place) in &listeners.all {
        let refused = rows.iter().filter(|row| row.2.at(listener) != "served").count();
        assert!(refused >= CASES_MIN, "{listener}: {refused} cases");
        for (what, act, answer) in &rows {
            let found = act(&world, place);
            if found != answer.at(listener) {
                wrong.push(format!("{listener}: {what}: {found}, not {}", answer.at(listener)));
            }
            let good = world.meet(place, Some(&world.good), true);
            assert_eq!(good, "served", "{listener}: a good client after {what}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    serves_calls(&world, &listeners);
}

/// Calls by gRPC, over TCP and over the unix socket.
pub(crate) fn serves_calls(world: &World, listeners: &Listeners) {
    run(async {
        for endpoint in [&listeners.grpc, &listeners.unix] {
            let pair = world.good.write(world.folder.path(), "good");
            let trusted_ca = Some(world.path("ca.pem"));
            let name = Some("127.0.0.1".to_owned());
            let pair = Some(pair);
            let tls = TlsOptions { pair, trusted_ca, server_name: name, ..TlsOptions::default() };
            put(&connect(endpoint, Some(tls)).await, "good").await.unwrap();
        }
    });
}
