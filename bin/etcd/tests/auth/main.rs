//! A server with authentication: who may call what, and where passwords must not be found.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod audit;
mod limits;
mod matrix;
mod tokens;

use client::{Client, Config, Error};
use proto::authpb::{Permission, UserAddOptions, permission::Type};
use proto::etcdserverpb as pb;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

const ROOT_PASSWORD: &str = "canary-of-root";
const USER_PASSWORD: &str = "canary-of-alice";

/// A server, ended when it is dropped.
struct Server {
    child: Child,
    endpoint: String,
    peer: String,
    data: tempfile::TempDir,
    log: Option<BufReader<std::process::ChildStderr>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    fn start() -> Server {
        Server::start_with(&[])
    }

    fn start_with(flags: &[String]) -> Server {
        Server::start_program(env!("CARGO_BIN_EXE_etcd").as_ref(), flags)
    }

    /// Another program with the same flags.
    fn start_program(program: &OsStr, flags: &[String]) -> Server {
        let data = tempfile::tempdir().unwrap();
        let [endpoint, peer] =
            [(); 2].map(|()| format!("http://127.0.0.1:{}", ports::free().unwrap()));
        let mut child = Command::new(program)
            .arg("--data-dir")
            .arg(data.path())
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--bcrypt-cost", "4"])
            .args(["--log-level", "debug"])
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("notified init daemon") {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the server has ended");
        }
        Server { child, endpoint, peer, data, log: Some(log) }
    }

    /// Ends the server in order.
    fn stop(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap();
    }

    fn metrics(&self) -> String {
        let address = self.endpoint.strip_prefix("http://").unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let request =
            format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    async fn client(&self, user: Option<(&str, &str)>) -> Result<Client, Error> {
        let mut config = Config::new(vec![self.endpoint.clone()]);
        config.user = user.map(|(name, password)| (name.to_owned(), password.to_owned()));
        Client::connect(config).await
    }

    fn token_of(&self, user: &str, password: &str) -> String {
        let body = format!(r#"{{"name":"{user}","password":"{password}"}}"#);
        let answer = post(&self.endpoint, "/v3/auth/authenticate", "", &body);
        let (_, token) = answer.split_once(r#""token":""#).unwrap();
        token.split_once('"').unwrap().0.to_owned()
    }

    async fn client_of_root(&self) -> Client {
        self.client(Some(("root", ROOT_PASSWORD))).await.unwrap()
    }

    /// Adds root, and alice who may read and write `a` to `c`; turns authentication on.
    async fn enable(&self) {
        let client = self.client(None).await.unwrap();
        for (name, password) in [("root", ROOT_PASSWORD), ("alice", USER_PASSWORD)] {
            let request = pb::AuthUserAddRequest {
                name: name.into(),
                password: password.into(),
                options: Some(UserAddOptions { no_password: false }),
                hashed_password: String::new(),
            };
            client.user_add(request).await.unwrap();
        }
        for name in ["root", "r"] {
            client.role_add(pb::AuthRoleAddRequest { name: name.into() }).await.unwrap();
        }
        let perm = Permission {
            perm_type: Type::Readwrite.into(),
            key: "a".into(),
            range_end: "d".into(),
        };
        let grant = pb::AuthRoleGrantPermissionRequest { name: "r".into(), perm: Some(perm) };
        client.role_grant_permission(grant).await.unwrap();
        for (user, role) in [("root", "root"), ("alice", "r")] {
            let grant = pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
            client.user_grant_role(grant).await.unwrap();
        }
        client.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
    }
}

/// The answer to a POST over HTTP/1.1.
fn post(url: &str, path: &str, headers: &str, body: &str) -> String {
    let address = url.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-length: {length}\r\n{headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn run(test: impl Future<Output = ()>) {
    run_within(60, test);
}

/// Runs a test that ends within so many seconds.
fn run_within(seconds: u64, test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let within = std::time::Duration::from_secs(seconds);
        tokio::time::timeout(within, test).await.expect("the test hangs");
    });
}

fn said<T>(result: Result<T, Error>) -> String {
    result.map_or_else(|error| error.message().to_owned(), |_| "ok".to_owned())
}

const EMPTY: &str = "etcdserver: user name is empty";
const DENIED: &str = "etcdserver: permission denied";

/// Calls for which only a user with the role root is let through.
async fn admin_calls(client: &Client) -> Vec<(&'static str, String)> {
    let urls = vec!["http://127.0.0.1:1".to_owned()];
    let add = pb::MemberAddRequest { peer_ur_ls: urls.clone(), is_learner: true };
    let update = pb::MemberUpdateRequest { id: 1, peer_ur_ls: urls };
    let mut alarm = pb::AlarmRequest { member_id: 1, alarm: 1, ..Default::default() };
    alarm.action = pb::alarm_request::AlarmAction::Deactivate.into();
    let snapshot = async {
        let mut chunks = client.snapshot().await?;
        chunks.next().await?.ok_or(Error::Config("no chunk".to_owned()))
    };
    vec![
        ("Snapshot", said(snapshot.await)),
        ("Defragment", said(client.defragment(pb::DefragmentRequest {}).await)),
        ("Hash", said(client.hash(pb::HashRequest {}).await)),
        ("HashKV", said(client.hash_kv(pb::HashKvRequest { revision: 0 }).await)),
        ("MoveLeader", said(client.move_leader(pb::MoveLeaderRequest { target_id: 1 }).await)),
        ("Alarm", said(client.alarm(alarm).await)),
        ("Compact", said(client.compact(pb::CompactionRequest::default()).await)),
        ("MemberAdd", said(client.member_add(add).await)),
        ("MemberUpdate", said(client.member_update(update).await)),
        ("MemberRemove", said(client.member_remove(pb::MemberRemoveRequest { id: 1 }).await)),
        ("MemberPromote", said(client.member_promote(pb::MemberPromoteRequest { id: 1 }).await)),
        ("UserList", said(client.user_list(pb::AuthUserListRequest {}).await)),
        ("RoleList", said(client.role_list(pb::AuthRoleListRequest {}).await)),
        ("AuthEnable", said(client.auth_enable(pb::AuthEnableRequest {}).await)),
    ]
}

/// Calls for which every user is let through.
async fn user_calls(client: &Client) -> Vec<(&'static str, String)> {
    let grant = pb::LeaseGrantRequest { ttl: 100, id: 0 };
    let lease = pb::LeaseTimeToLiveRequest { id: 1, keys: false };
    vec![
        ("MemberList", said(client.member_list(pb::MemberListRequest::default()).await)),
        ("Status", said(client.status(pb::StatusRequest {}).await)),
        ("Alarm", said(client.alarm(pb::AlarmRequest::default()).await)),
        ("LeaseGrant", said(client.lease_grant(grant).await)),
        ("LeaseLeases", said(client.lease_leases(pb::LeaseLeasesRequest {}).await)),
        ("LeaseTimeToLive", said(client.lease_time_to_live(lease).await)),
    ]
}

#[test]
fn cve_2026_33413_every_call_asks_for_what_it_needs() {
    let server = Server::start();
    run(async {
        server.enable().await;
        let nobody = server.client(None).await.unwrap();
        let alice = server.client(Some(("alice", USER_PASSWORD))).await.unwrap();
        let root = server.client_of_root().await;
        for (call, said) in admin_calls(&nobody).await.into_iter().chain(user_calls(&nobody).await)
        {
            assert_eq!(said, EMPTY, "{call} without a user");
        }
        for (call, said) in admin_calls(&alice).await {
            assert_eq!(said, DENIED, "{call} as alice");
        }
        let calls = admin_calls(&root).await;
        for (call, said) in calls.into_iter().chain(user_calls(&alice).await) {
            assert!(said != DENIED && said != EMPTY, "{call}: {said}");
        }
    });
}

/// A watch from a key on is checked for all keys that it would show.
#[test]
fn cve_2026_73499_a_user_watches_only_what_it_may_read() {
    let server = Server::start();
    run(async {
        server.enable().await;
        let nobody = server.client(None).await.unwrap();
        let alice = server.client(Some(("alice", USER_PASSWORD))).await.unwrap();
        let reason = async |client: &Client, key: &'static str, range_end: &'static [u8]| {
            let range_end = bytes::Bytes::from_static(range_end);
            let key = key.into();
            // A watch that is allowed has an event of the past.
            let request =
                pb::WatchCreateRequest { key, range_end, start_revision: 1, ..Default::default() };
            client.watch(request).await.next().await.unwrap().response.cancel_reason
        };
        for key in ["a", "b"] {
            let put = pb::PutRequest { key: key.into(), ..Default::default() };
            alice.put(put).await.unwrap();
        }
        assert!(reason(&nobody, "a", b"b").await.ends_with(EMPTY));
        for (key, end) in [("a", &[0][..]), ("a", b"e"), ("\0", &[0]), ("", &[0]), ("d", b"")] {
            let why = reason(&alice, key, end).await;
            assert!(why.ends_with(DENIED), "{key:?} to {end:?}: {why}");
        }
        for (key, end) in [("a", &b""[..]), ("a", b"d"), ("b", b"c")] {
            assert_eq!(reason(&alice, key, end).await, "", "{key:?} to {end:?}");
        }
    });
}

/// A user that has no password cannot log in with one, and the log says so by its name.
#[test]
fn ghsa_vjg6_93fv_qv64_the_log_names_a_user_without_a_password_that_tries_one() {
    let mut server = Server::start();
    run(async {
        server.enable().await;
        let root = server.client_of_root().await;
        let user = pb::AuthUserAddRequest {
            name: "by-certificate".into(),
            options: Some(UserAddOptions { no_password: true }),
            ..Default::default()
        };
        root.user_add(user).await.unwrap();
        let refused = server.client(Some(("by-certificate", "canary"))).await.map(drop);
        let why = "auth: authentication failed, password was given for no password user";
        assert_eq!(said(refused), why);
    });
    server.child.kill().unwrap();
    let mut log = String::new();
    server.log.take().unwrap().read_to_string(&mut log).unwrap();
    let named = |line: &&str| line.contains("no password user") && line.contains("by-certificate");
    assert!(log.lines().any(|line| named(&line)), "{log}");
}

#[test]
fn a_promotion_that_another_member_forwards_needs_the_token_of_an_administrator() {
    let server = Server::start();
    run(async {
        server.enable().await;
        let alice = server.token_of("alice", USER_PASSWORD);
        let root = server.token_of("root", ROOT_PASSWORD);
        for (token, status, text) in [
            ("", "500", "Internal Server Error"),
            ("made.up", "500", "Internal Server Error"),
            (&alice, "500", "Internal Server Error"),
            (&root, "404", "membership: ID not found"),
        ] {
            let header = format!("authorization: {token}\r\n");
            let header = if token.is_empty() { "" } else { &header };
            let answer = post(&server.peer, "/members/promote/7", header, "");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{token}: {answer}");
            assert!(answer.contains(text), "{token}: {answer}");
        }
    });
}

#[test]
fn tokens_end_with_the_password_and_clients_get_new_ones() {
    let server = Server::start();
    run(async {
        server.enable().await;
        let (alice, root) =
            (server.client(Some(("alice", USER_PASSWORD))).await.unwrap(), server.client_of_root());
        let root = root.await;
        let put = || pb::PutRequest { key: "a".into(), ..Default::default() };
        alice.put(put()).await.unwrap();
        // Every change of users and roles makes the revision of a request old; alice asks anew.
        root.role_add(pb::AuthRoleAddRequest { name: "x".into() }).await.unwrap();
        alice.put(put()).await.unwrap();
        let mut passwd =
            pb::AuthUserChangePasswordRequest { name: "alice".into(), ..Default::default() };
        passwd.password = "another".into();
        root.user_change_password(passwd).await.unwrap();
        assert_eq!(said(alice.put(put()).await), "etcdserver: invalid auth token");
        let wrong = server.client(Some(("alice", USER_PASSWORD))).await.map(drop);
        let failed = "etcdserver: authentication failed, invalid user ID or password";
        assert_eq!(said(wrong), failed);
        let unknown = server.client(Some(("nobody", "x"))).await.map(drop);
        assert_eq!(said(unknown), failed);
        server.client(Some(("alice", "another"))).await.unwrap();
        root.auth_disable(pb::AuthDisableRequest {}).await.unwrap();
        alice.put(put()).await.unwrap();
    });
}

fn contains(dir: &Path, canary: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return contains(&path, canary);
        }
        std::fs::read(&path).unwrap().windows(canary.len()).any(|window| window == canary)
    })
}

#[test]
fn ghsa_528j_9r78_wffx_cve_2021_28235_no_password_is_in_the_files_or_the_log() {
    let mut server = Server::start();
    run(async {
        server.enable().await;
        let root = server.client_of_root().await;
        drop(server.client(Some(("alice", "canary-that-is-wrong"))).await);
        let mut passwd =
            pb::AuthUserChangePasswordRequest { name: "alice".into(), ..Default::default() };
        passwd.password = "canary-of-later".into();
        root.user_change_password(passwd).await.unwrap();
    });
    server.child.kill().unwrap();
    let mut log = String::new();
    server.log.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("changed a password of a user"));
    assert!(!log.contains("canary"), "{log}");
    assert!(!contains(server.data.path(), b"canary"));
    assert!(contains(server.data.path(), b"alice"));
}
