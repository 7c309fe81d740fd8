//! TLS of running servers: towards clients, between members, and on the metrics port.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod certificates;
mod hello;
mod negatives;
mod proxy;
mod rotation;
mod rules;
mod wire;

use client::{Client, Config, KeyPair, TlsOptions};
use proto::etcdserverpb as pb;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair as Key};
use std::io::{BufRead as _, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

/// A server; dropping it kills the process.
struct Server {
    child: Child,
    lines: Option<Lines<BufReader<ChildStderr>>>,
}

impl Server {
    fn start(data: &Path, arguments: &[String]) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_etcd"))
            .arg("--data-dir")
            .arg(data)
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Server { child, lines: Some(lines) }
    }

    /// Waits until clients are served.
    fn ready(mut self) -> Server {
        let mut lines = self.lines.take().unwrap();
        let serves = lines.any(|line| line.unwrap().contains("notified init daemon"));
        assert!(serves, "the server has ended");
        // Keep reading, so that the server does not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        self
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn free() -> String {
    format!("127.0.0.1:{}", ports::free().unwrap())
}

/// An authority whose certificates are files in a folder.
struct Authority {
    issuer: CertifiedIssuer<'static, Key>,
    folder: PathBuf,
}

impl Authority {
    fn new(folder: &Path) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "the authority");
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, Key::generate().unwrap()).unwrap();
        std::fs::write(folder.join("ca.pem"), issuer.pem()).unwrap();
        Authority { issuer, folder: folder.to_owned() }
    }

    fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for 127.0.0.1, in files of this name.
    fn issue(&self, name: &str) -> KeyPair {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let key = Key::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap();
        let file = |end: &str| self.folder.join(format!("{name}{end}"));
        let pair = KeyPair { cert: file(".pem"), key: file("-key.pem") };
        std::fs::write(&pair.cert, cert.pem()).unwrap();
        std::fs::write(&pair.key, key.serialize_pem()).unwrap();
        pair
    }

    /// The settings of a client with a certificate of this authority.
    fn client(&self) -> TlsOptions {
        self.client_named("client")
    }

    fn client_named(&self, name: &str) -> TlsOptions {
        let (pair, trusted_ca) = (Some(self.issue(name)), Some(self.ca()));
        TlsOptions { pair, trusted_ca, ..TlsOptions::default() }
    }

    /// Flags for certificates of servers: `prefix` is empty or `peer-`.
    fn flags(&self, prefix: &str) -> Vec<String> {
        let pair = self.issue(&format!("{prefix}server"));
        let flag = |name: &str, path: &Path| format!("--{prefix}{name}={}", path.display());
        vec![
            flag("cert-file", &pair.cert),
            flag("key-file", &pair.key),
            flag("trusted-ca-file", &self.ca()),
            format!("--{prefix}client-cert-auth"),
        ]
    }
}

fn client_urls(urls: &str) -> [String; 2] {
    [format!("--listen-client-urls={urls}"), format!("--advertise-client-urls={urls}")]
}

fn peer_urls(name: &str, url: &str, cluster: &str) -> [String; 4] {
    [
        format!("--name={name}"),
        format!("--listen-peer-urls={url}"),
        format!("--initial-advertise-peer-urls={url}"),
        format!("--initial-cluster={cluster}"),
    ]
}

/// A client that gives up soon where it cannot connect.
async fn connect(endpoint: &str, tls: Option<TlsOptions>) -> Client {
    let mut config = Config::new(vec![endpoint.to_owned()]);
    config.tls = tls;
    Client::connect(config).await.unwrap().with_timeout(Duration::from_secs(10))
}

async fn put(client: &Client, value: &str) -> Result<pb::PutResponse, client::Error> {
    let (key, value) = (b"key".to_vec().into(), value.as_bytes().to_vec().into());
    client.put(pb::PutRequest { key, value, ..Default::default() }).await
}

async fn value(client: &Client) -> Option<String> {
    let key = b"key".to_vec().into();
    let found = client.range(pb::RangeRequest { key, ..Default::default() }).await.unwrap();
    found.kvs.first().map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// Starts three members, all of their peers' URLs with TLS. Their clients' addresses.
fn cluster(folder: &Path, flags: &[String]) -> (Vec<Server>, Vec<String>) {
    let members = [(); 3].map(|()| (free(), free()));
    let listed: Vec<String> =
        members.iter().enumerate().map(|(at, (_, peer))| format!("m{at}=https://{peer}")).collect();
    let start = |(at, (client, peer)): (usize, &(String, String))| {
        let name = format!("m{at}");
        let mut arguments = flags.to_vec();
        arguments.extend(client_urls(&format!("https://{client}")));
        arguments.extend(peer_urls(&name, &format!("https://{peer}"), &listed.join(",")));
        Server::start(&folder.join(name), &arguments)
    };
    let started: Vec<Server> = members.iter().enumerate().map(start).collect();
    let servers = started.into_iter().map(Server::ready).collect();
    (servers, members.into_iter().map(|(client, _)| client).collect())
}

/// Writes at each member, and reads what the others have written.
async fn use_all(addresses: &[String], tls: &TlsOptions) {
    for (at, address) in addresses.iter().enumerate() {
        let client = connect(&format!("https://{address}"), Some(tls.clone())).await;
        let before = at.checked_sub(1).map(|before| before.to_string());
        assert_eq!(value(&client).await, before);
        put(&client, &at.to_string()).await.unwrap();
    }
}

#[test]
fn three_members_with_certificates_serve_those_who_have_one() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let flags = [authority.flags(""), authority.flags("peer-")].concat();
    let (_servers, addresses) = cluster(folder.path(), &flags);
    run(async {
        use_all(&addresses, &authority.client()).await;
        // Without a certificate, and without TLS.
        let none = TlsOptions { pair: None, ..authority.client() };
        for (scheme, tls) in [("https", Some(none)), ("http", None)] {
            let client = connect(&format!("{scheme}://{}", addresses[0]), tls).await;
            let error = put(&client.with_timeout(Duration::from_secs(1)), "bad").await;
            assert!(error.is_err(), "{scheme}");
        }
    });
}

#[test]
fn members_that_made_their_certificates_form_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--auto-tls".to_owned(), "--peer-auto-tls".to_owned()];
    let (_servers, addresses) = cluster(folder.path(), &flags);
    let tls = TlsOptions { skips_verification: true, ..TlsOptions::default() };
    run(use_all(&addresses, &tls));
}

#[test]
fn one_port_serves_with_tls_and_without() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let (client, peer, metrics) = (free(), free(), free());
    let mut arguments = authority.flags("");
    arguments.extend(client_urls(&format!("http://{client},https://{client}")));
    arguments.extend(peer_urls("m", &format!("http://{peer}"), &format!("m=http://{peer}")));
    arguments.push(format!("--listen-metrics-urls=https://{metrics}"));
    let _server = Server::start(&folder.path().join("m"), &arguments).ready();
    run(async {
        let plain = connect(&format!("http://{client}"), None).await;
        put(&plain, "plain").await.unwrap();
        let secure = connect(&format!("https://{client}"), Some(authority.client())).await;
        assert_eq!(value(&secure).await.as_deref(), Some("plain"));
        // An endpoint without a scheme has TLS where the client has.
        let secure = connect(&client, Some(authority.client())).await;
        assert_eq!(value(&secure).await.as_deref(), Some("plain"));
        let tls = net::tls::ClientTls::new(authority.client()).unwrap();
        let tcp = tokio::net::TcpStream::connect(&metrics).await.unwrap();
        let mut stream = tls.connect(tcp, "127.0.0.1").await.unwrap();
        let answer = get(&mut stream, "/health").await;
        assert!(answer.ends_with("{\"health\":\"true\",\"reason\":\"\"}"), "{answer}");
    });
}

async fn get<S>(stream: &mut S, path: &str) -> String
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn cve_2018_16886_the_name_in_a_certificate_is_the_user_but_not_through_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path());
    let (client, peer) = (free(), free());
    let mut arguments = authority.flags("");
    arguments.extend(client_urls(&format!("https://{client}")));
    arguments.extend(peer_urls("m", &format!("http://{peer}"), &format!("m=http://{peer}")));
    let _server = Server::start(&folder.path().join("m"), &arguments).ready();
    let url = format!("https://{client}");
    run(async {
        let root = connect(&url, Some(authority.client_named("root"))).await;
        let name = || "root".to_owned();
        let password = "secret".to_owned();
        let user = pb::AuthUserAddRequest { name: name(), password, ..Default::default() };
        root.user_add(user).await.unwrap();
        root.role_add(pb::AuthRoleAddRequest { name: name() }).await.unwrap();
        let grant = pb::AuthUserGrantRoleRequest { user: name(), role: name() };
        root.user_grant_role(grant).await.unwrap();
        root.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
        put(&root, "by root").await.unwrap();
        let other = connect(&url, Some(authority.client_named("other"))).await;
        let error = put(&other, "by nobody").await.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{error}");
        let tls = TlsOptions { protocols: vec!["http/1.1"], ..authority.client_named("root") };
        let tls = net::tls::ClientTls::new(tls).unwrap();
        let tcp = tokio::net::TcpStream::connect(&client).await.unwrap();
        let mut stream = tls.connect(tcp, "127.0.0.1").await.unwrap();
        let answer = get(&mut stream, "/v3/kv/range").await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert!(answer.contains("will be ignored and not used as expected"), "{answer}");
    });
}
