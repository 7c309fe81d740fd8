//! Everything that an operator replaces while clients write: authorities, certificates, revocations,
//! and the keys of tokens. No request fails but those that must.

use crate::certificates::{Authority, Wish, days, replace};
use crate::{Server, client_urls, free, peer_urls, run};
use client::{Client, Config, KeyPair, TlsOptions};
use proto::etcdserverpb as pb;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Clients that write all the time. Every other one connects and logs in again for each round.
const CLIENTS: usize = 100;
/// What each client has to do between two changes; `RETCD_LONG` increases it.
fn rounds() -> u64 {
    if std::env::var_os("RETCD_LONG").is_some() { 30 } else { 2 }
}
/// The writes of a round.
const WRITES: u64 = 3;

const USER: &str = "root";
const PASSWORD: &str = "secret";
/// The serial numbers of the certificate that is revoked in the end, and of all others.
const MALLORY: u64 = 66;

/// The files of an operator.
struct Files {
    folder: TempDir,
    old: Authority,
    new: Authority,
}

impl Files {
    fn new() -> Files {
        let folder = tempfile::tempdir().unwrap();
        let files = Files { folder, old: Authority::new("old"), new: Authority::new("new") };
        replace(&files.path("ca.pem"), files.old.pem());
        replace(&files.path("crl.pem"), files.old.revoke(&[], days(-1, 1)));
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate of an authority, in files of this name.
    fn issue(&self, authority: &Authority, name: &str, serial: u64) -> KeyPair {
        let wish = Wish { common: "", serial, ..Wish::default() };
        authority.issue(&wish).write(self.folder.path(), name)
    }

    /// Replaces the key that signs tokens, and those that verify them.
    fn token_keys(&self, private: &rcgen::KeyPair, public: &[&rcgen::KeyPair]) {
        let pem: Vec<String> = public.iter().map(|key| key.public_key_pem()).collect();
        replace(&self.path("jwt.pub"), pem.concat());
        replace(&self.path("jwt.key"), private.serialize_pem());
    }

    fn start(&self, address: &str) -> Server {
        let flag = |name: &str, file: &str| format!("--{name}={}", self.path(file).display());
        let tokens = format!(
            "--auth-token=jwt,sign-method=ES256,pub-key={},priv-key={},ttl=1h",
            self.path("jwt.pub").display(),
            self.path("jwt.key").display()
        );
        let peer = free();
        let mut arguments = vec![
            flag("cert-file", "server.pem"),
            flag("key-file", "server-key.pem"),
            flag("trusted-ca-file", "ca.pem"),
            flag("client-crl-file", "crl.pem"),
            "--client-cert-auth".to_owned(),
            "--bcrypt-cost=4".to_owned(),
            tokens,
        ];
        arguments.extend(client_urls(&format!("https://{address}")));
        arguments.extend(peer_urls("m", &format!("http://{peer}"), &format!("m=http://{peer}")));
        Server::start(&self.path("data"), &arguments).ready()
    }
}

/// The server's address, and the certificate that clients use now.
struct Target {
    endpoint: String,
    ca: PathBuf,
    pair: RefCell<KeyPair>,
    rounds: Vec<Cell<u64>>,
    failures: RefCell<Vec<String>>,
    stops: Cell<bool>,
}

impl Target {
    fn config(&self, pair: KeyPair) -> Config {
        let mut config = Config::new(vec![self.endpoint.clone()]);
        let trusted_ca = Some(self.ca.clone());
        config.tls = Some(TlsOptions { pair: Some(pair), trusted_ca, ..TlsOptions::default() });
        config
    }

    async fn log_in(&self) -> Result<Client, client::Error> {
        let mut config = self.config(self.pair.borrow().clone());
        config.user = Some((USER.to_owned(), PASSWORD.to_owned()));
        Client::connect(config).await
    }

    /// Writes until the test stops.
    async fn write(&self, number: usize) {
        let connects_again = number.is_multiple_of(2);
        let mut client = None;
        while !self.stops.get() {
            let fresh = match client.take() {
                Some(client) => Ok(client),
                None => self.log_in().await,
            };
            match fresh {
                Ok(connected) => {
                    for _ in 0..WRITES {
                        let key = format!("{number}").into_bytes().into();
                        let put = pb::PutRequest { key, ..Default::default() };
                        self.note(number, connected.put(put).await.map(drop));
                    }
                    client = Some(connected).filter(|_| !connects_again);
                }
                Err(error) => self.note(number, Err(error)),
            }
            self.rounds[number].set(self.rounds[number].get() + 1);
            tokio::task::yield_now().await;
        }
    }

    fn note(&self, number: usize, result: Result<(), client::Error>) {
        if let Err(error) = result {
            self.failures.borrow_mut().push(format!("client {number}: {error}"));
        }
    }

    /// Waits until each client has done its rounds after a change; no request has failed.
    async fn go_on(&self, what: &str) {
        let before: Vec<u64> = self.rounds.iter().map(Cell::get).collect();
        let is_done =
            || self.rounds.iter().zip(&before).all(|(now, then)| now.get() >= then + rounds());
        while !is_done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let failures = self.failures.borrow();
        assert!(failures.is_empty(), "after {what}: {}", failures.join("\n"));
    }

    /// Whether a client with this certificate is served.
    async fn is_served(&self, pair: &KeyPair) -> bool {
        let mut config = self.config(pair.clone());
        config.user = Some((USER.to_owned(), PASSWORD.to_owned()));
        config.dial_timeout = Duration::from_secs(2);
        Client::connect(config).await.is_ok()
    }

    /// A token, from the JSON gateway.
    async fn token(&self) -> String {
        let mut tls = self.config(self.pair.borrow().clone()).tls.unwrap();
        tls.protocols = vec!["http/1.1"];
        let tls = net::tls::ClientTls::new(tls).unwrap();
        let address = self.endpoint.strip_prefix("https://").unwrap();
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let mut stream = tls.connect(tcp, "127.0.0.1").await.unwrap();
        let body = format!(r#"{{"name":"{USER}","password":"{PASSWORD}"}}"#);
        let length = body.len();
        let request = format!(
            "POST /v3/auth/authenticate HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (_, token) = answer.split_once(r#""token":""#).unwrap();
        token.split_once('"').unwrap().0.to_owned()
    }
}

async fn enable(client: &Client) {
    let name = || USER.to_owned();
    let password = PASSWORD.to_owned();
    let user = pb::AuthUserAddRequest { name: name(), password, ..Default::default() };
    client.user_add(user).await.unwrap();
    client.role_add(pb::AuthRoleAddRequest { name: name() }).await.unwrap();
    let grant = pb::AuthUserGrantRoleRequest { user: name(), role: name() };
    client.user_grant_role(grant).await.unwrap();
    client.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
}

/// Replaces the authority, the server's certificate and those of the clients.
async fn replace_certificates(files: &Files, target: &Target, old_pair: &KeyPair) {
    replace(&files.path("ca.pem"), [files.old.pem(), files.new.pem()].concat());
    target.go_on("two authorities are trusted").await;
    files.issue(&files.new, "server", 3);
    target.go_on("the server has another certificate").await;
    *target.pair.borrow_mut() = files.issue(&files.new, "client-of-new", 4);
    target.go_on("the clients have another certificate").await;
    assert!(target.is_served(old_pair).await, "both authorities are trusted");
    replace(&files.path("ca.pem"), files.new.pem());
    target.go_on("only the new authority is trusted").await;
    assert!(!target.is_served(old_pair).await, "its authority is not trusted any more");
}

/// Revokes the certificate of one client.
async fn revoke(files: &Files, target: &Target) {
    let mallory = files.issue(&files.new, "mallory", MALLORY);
    assert!(target.is_served(&mallory).await);
    replace(&files.path("crl.pem"), files.new.revoke(&[MALLORY], days(-1, 1)));
    assert!(!target.is_served(&mallory).await, "it is revoked");
    target.go_on("one certificate is revoked").await;
}

/// Replaces the key of tokens, by the steps of docs/security.md.
async fn replace_token_keys(files: &Files, target: &Target, first: &rcgen::KeyPair) {
    let second = rcgen::KeyPair::generate().unwrap();
    let mut config = target.config(target.pair.borrow().clone());
    config.token = Some(target.token().await);
    let with_token = Client::connect(config).await.unwrap();
    let put = || with_token.put(pb::PutRequest { key: "token".into(), ..Default::default() });
    put().await.unwrap();
    files.token_keys(first, &[first, &second]);
    target.go_on("two keys verify tokens").await;
    files.token_keys(&second, &[first, &second]);
    target.go_on("another key signs tokens").await;
    put().await.unwrap();
    files.token_keys(&second, &[&second]);
    // The server looks at these files once a second.
    let error = loop {
        match put().await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => break error,
        }
    };
    assert_eq!(error.message(), "etcdserver: invalid auth token");
    target.go_on("one key verifies tokens").await;
}

#[test]
fn all_keys_are_replaced_while_100_clients_write_and_no_request_fails() {
    let files = Files::new();
    let first = rcgen::KeyPair::generate().unwrap();
    files.token_keys(&first, &[&first]);
    files.issue(&files.old, "server", 1);
    let pair = files.issue(&files.old, "client-of-old", 2);
    let address = free();
    let _server = files.start(&address);
    let target = Rc::new(Target {
        endpoint: format!("https://{address}"),
        ca: files.path("ca.pem"),
        pair: RefCell::new(pair.clone()),
        rounds: (0..CLIENTS).map(|_| Cell::new(0)).collect(),
        failures: RefCell::default(),
        stops: Cell::new(false),
    });
    run(tokio::task::LocalSet::new().run_until(async {
        enable(&Client::connect(target.config(pair.clone())).await.unwrap()).await;
        let writer = |number| {
            let target = Rc::clone(&target);
            tokio::task::spawn_local(async move { target.write(number).await })
        };
        let writers: Vec<_> = (0..CLIENTS).map(writer).collect();
        target.go_on("the start").await;
        replace_certificates(&files, &target, &pair).await;
        revoke(&files, &target).await;
        replace_token_keys(&files, &target, &first).await;
        target.stops.set(true);
        for writer in writers {
            writer.await.unwrap();
        }
    }));
    let failures = target.failures.borrow();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
