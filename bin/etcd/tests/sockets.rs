//! The listeners of a running server besides gRPC and HTTP on one TCP port: unix sockets, a port for
//! HTTP alone, and WebSockets.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use client::{Client, Config, TlsOptions};
use futures_util::{SinkExt as _, StreamExt as _};
use proto::etcdserverpb as pb;
use std::io::{BufRead as _, BufReader, Lines, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

/// A server; dropping it kills the process.
struct Server {
    child: Child,
    lines: Option<Lines<BufReader<ChildStderr>>>,
}

impl Server {
    fn start(data: &Path, arguments: &[String]) -> Server {
        let mut child = Command::new(env!("CARGO_BIN_EXE_etcd"))
            .arg(format!("--data-dir={}", data.display()))
            .args(arguments)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        Server { child, lines: Some(lines) }
    }

    /// Waits until clients are served. Returns the log up to then, too.
    fn ready(mut self) -> (Server, String) {
        let mut lines = self.lines.take().unwrap();
        let mut log = String::new();
        let serves = lines.any(|line| {
            let line = line.unwrap();
            log.push_str(&line);
            line.contains("notified init daemon")
        });
        assert!(serves, "the server has ended: {log}");
        // Keep reading, so that the server does not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        (self, log)
    }

    /// Stops the server as a service manager does, and waits for its end.
    fn terminate(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap();
    }

    /// Waits for the end; returns the last line of the log.
    fn last_line(mut self) -> String {
        let last = self.lines.take().unwrap().map_while(Result::ok).last().unwrap();
        assert_eq!(self.child.wait().unwrap().code(), Some(1), "{last}");
        last
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

fn free() -> String {
    format!("127.0.0.1:{}", ports::free().unwrap())
}

fn clients(urls: &str) -> Vec<String> {
    vec![format!("--listen-client-urls={urls}"), format!("--advertise-client-urls={urls}")]
}

fn peers(name: &str, url: &str, cluster: &str) -> Vec<String> {
    vec![
        format!("--name={name}"),
        format!("--listen-peer-urls={url}"),
        format!("--initial-advertise-peer-urls={url}"),
        format!("--initial-cluster={cluster}"),
    ]
}

/// The arguments of a member without others, whose port for peers nobody uses.
fn alone() -> Vec<String> {
    let peer = format!("http://{}", free());
    peers("m", &peer, &format!("m={peer}"))
}

/// The URL of a socket in a folder. Its name is the host and the port.
fn unix(folder: &Path, name: &str) -> (String, PathBuf) {
    let file = folder.join(name);
    (format!("unix://{}", file.display()), file)
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

async fn connect(endpoint: &str, tls: Option<TlsOptions>) -> Client {
    let mut config = Config::new(vec![endpoint.to_owned()]);
    config.tls = tls;
    Client::connect(config).await.unwrap().with_timeout(Duration::from_secs(10))
}

async fn put(client: &Client, value: &'static str) -> Result<pb::PutResponse, client::Error> {
    let put = pb::PutRequest { key: "key".into(), value: value.into(), ..Default::default() };
    client.put(put).await
}

async fn value(client: &Client) -> String {
    let range = pb::RangeRequest { key: "key".into(), ..Default::default() };
    let found = client.range(range).await.unwrap();
    String::from_utf8_lossy(&found.kvs[0].value).into_owned()
}

/// The answer to a request, with its head.
fn ask(mut stream: impl std::io::Read + std::io::Write, request: &str) -> String {
    write!(stream, "{request}Host: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn get(stream: impl std::io::Read + std::io::Write, path: &str) -> String {
    ask(stream, &format!("GET {path} HTTP/1.1\r\n"))
}

fn tcp(address: &str) -> TcpStream {
    TcpStream::connect(address).unwrap()
}

#[test]
fn unix_sockets_serve_clients_and_metrics_until_the_server_ends() {
    let folder = tempfile::tempdir().unwrap();
    let ((client, file), (metrics, of_metrics)) =
        (unix(folder.path(), "localhost:1"), unix(folder.path(), "localhost:2"));
    let mut arguments = [clients(&client), alone()].concat();
    arguments.push(format!("--listen-metrics-urls={metrics}"));
    let data = folder.path().join("data");
    // The first one leaves its files.
    drop(Server::start(&data, &arguments).ready());
    assert!(file.exists() && of_metrics.exists());
    let (server, log) = Server::start(&data, &arguments).ready();
    assert!(log.contains(&format!("\"address\":\"{}\"", file.display())), "{log}");
    run(async {
        let client = connect(&client, None).await;
        put(&client, "local").await.unwrap();
        assert_eq!(value(&client).await, "local");
    });
    let healthy = "{\"health\":\"true\",\"reason\":\"\"}";
    for file in [&file, &of_metrics] {
        let answer = get(UnixStream::connect(file).unwrap(), "/health");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(healthy), "{answer}");
    }
    // A second server does not take over the sockets of a running one.
    let other = [clients(&client), alone()].concat();
    let line = Server::start(&folder.path().join("other"), &other).last_line();
    let why = format!("listen unix {}: bind: address already in use", file.display());
    assert!(line.contains(&why), "{line}");
    server.terminate();
    assert!(!file.exists() && !of_metrics.exists());
}

#[test]
fn members_reach_each_other_through_unix_sockets() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["a", "b"];
    let listed = names.map(|name| format!("{name}={}", unix(folder.path(), name).0)).join(",");
    let addresses = names.map(|_| free());
    let start = |(name, address): (&str, &String)| {
        let url = unix(folder.path(), name).0;
        let arguments = [clients(&format!("http://{address}")), peers(name, &url, &listed)];
        Server::start(&folder.path().join(format!("{name}.etcd")), &arguments.concat())
    };
    let started: Vec<Server> = names.into_iter().zip(&addresses).map(start).collect();
    let _servers: Vec<_> = started.into_iter().map(Server::ready).collect();
    run(async {
        put(&connect(&addresses[0], None).await, "by one").await.unwrap();
        assert_eq!(value(&connect(&addresses[1], None).await).await, "by one");
    });
}

#[test]
fn a_unix_socket_may_have_tls() {
    let folder = tempfile::tempdir().unwrap();
    let (client, file) = unix(folder.path(), "localhost:1");
    let client = client.replace("unix:", "unixs:");
    let mut arguments = [clients(&client), alone()].concat();
    arguments.push("--auto-tls".to_owned());
    let _server = Server::start(&folder.path().join("data"), &arguments).ready();
    run(async {
        let tls = TlsOptions { skips_verification: true, ..TlsOptions::default() };
        put(&connect(&client, Some(tls)).await, "secret").await.unwrap();
        let plain = connect(&format!("unix://{}", file.display()), None).await;
        assert!(put(&plain.with_timeout(Duration::from_secs(1)), "open").await.is_err());
    });
}

#[test]
fn http_and_grpc_have_ports_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let (grpc, http) = (free(), free());
    let flag = |address: &str| format!("--listen-client-http-urls=http://{address}");
    let base = [clients(&format!("http://{grpc}")), alone()].concat();
    let both = [base.clone(), vec![flag(&grpc)]].concat();
    let line = Server::start(&folder.path().join("none"), &both).last_line();
    let why = format!(
        "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url \
         http://{grpc}"
    );
    assert!(line.contains(&why), "{line}");
    let split = [base, vec![flag(&http)]].concat();
    let (_server, log) = Server::start(&folder.path().join("data"), &split).ready();
    for (traffic, address) in [("grpc", &grpc), ("http", &http)] {
        let fields = format!("\"traffic\":\"{traffic}\",\"address\":\"{address}\"");
        assert!(log.contains(&fields), "{fields} in {log}");
    }
    assert!(!log.contains("on single port"), "{log}");
    run(async {
        put(&connect(&grpc, None).await, "v").await.unwrap();
        let error = put(&connect(&http, None).await, "v").await.unwrap_err().to_string();
        assert!(error.contains("404"), "{error}");
    });
    for path in ["/health", "/metrics", "/version", "/debug/vars"] {
        assert!(get(tcp(&http), path).starts_with("HTTP/1.1 200 "), "{path}");
        assert!(get(tcp(&grpc), path).starts_with("HTTP/1.1 415 "), "{path}");
    }
    let range = "POST /v3/kv/range HTTP/1.1\r\nContent-Length: 14\r\n";
    let mut stream = tcp(&http);
    write!(stream, "{range}Host: x\r\nConnection: close\r\n\r\n{{\"key\":\"a2V5\"}}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("\"value\":\"dg==\""), "{answer}");
}

#[test]
fn several_metrics_ports_serve_metrics_and_health_only_and_name_no_origin() {
    let folder = tempfile::tempdir().unwrap();
    let (client, one, other) = (free(), free(), free());
    let mut arguments = [clients(&format!("http://{client}")), alone()].concat();
    arguments.push(format!("--listen-metrics-urls=http://{one},http://{other}"));
    // etcd applies neither to these ports.
    arguments.push("--host-whitelist=elsewhere".to_owned());
    let _server = Server::start(&folder.path().join("data"), &arguments).ready();
    assert!(get(tcp(&client), "/metrics").starts_with("HTTP/1.1 421 "));
    for address in [&one, &other] {
        for path in ["/metrics", "/health", "/livez", "/readyz"] {
            let answer = get(tcp(address), path).to_lowercase();
            assert!(answer.starts_with("http/1.1 200 "), "{path}: {answer}");
            assert!(!answer.contains("access-control-allow-origin"), "{path}: {answer}");
        }
        for path in ["/version", "/debug/vars", "/v3/kv/range"] {
            assert!(get(tcp(address), path).starts_with("HTTP/1.1 404 "), "{path}");
        }
    }
}

type WebSocket = WebSocketStream<tokio::net::TcpStream>;

/// Opens a WebSocket at a path. Returns the answer to the handshake, too.
async fn web_socket(address: &str, path: &str, headers: &str) -> (WebSocket, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{headers}\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    (socket, String::from_utf8(head).unwrap().to_lowercase())
}

async fn send(socket: &mut WebSocket, text: &str) {
    socket.send(Message::text(text)).await.unwrap();
}

/// The next text, as JSON; `None` when the server has closed the WebSocket.
async fn receive(socket: &mut WebSocket) -> Option<serde_json::Value> {
    let message = socket.next().await?.unwrap();
    message.is_text().then(|| serde_json::from_slice(&message.into_data()).unwrap())
}

#[test]
fn a_web_socket_carries_a_watch_and_a_lease() {
    let folder = tempfile::tempdir().unwrap();
    let address = free();
    let arguments = [clients(&format!("http://{address}")), alone()].concat();
    let _server = Server::start(&folder.path().join("data"), &arguments).ready();
    run(async {
        let (mut watch, head) = web_socket(&address, "/v3/watch", "").await;
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
        send(&mut watch, r#"{"create_request":{"key":"a2V5"}}"#).await;
        let created = receive(&mut watch).await.unwrap();
        assert_eq!(created["result"]["created"], true, "{created}");
        // Two requests on one stream.
        send(&mut watch, r#"{"create_request":{"key":"a2V5","watch_id":"7"}}"#).await;
        assert_eq!(receive(&mut watch).await.unwrap()["result"]["watch_id"], "7");
        let client = connect(&address, None).await;
        put(&client, "v").await.unwrap();
        let event = receive(&mut watch).await.unwrap();
        assert_eq!(event["result"]["events"][0]["kv"]["value"], "dg==", "{event}");
        let grant = pb::LeaseGrantRequest { ttl: 60, id: 77 };
        client.lease_grant(grant).await.unwrap();
        let (mut lease, _) = web_socket(&address, "/v3/lease/keepalive?method=GET", "").await;
        for _ in 0..2 {
            send(&mut lease, r#"{"ID":"77"}"#).await;
            assert_eq!(receive(&mut lease).await.unwrap()["result"]["TTL"], "60");
        }
        let (mut unary, _) = web_socket(&address, "/v3/kv/range", "").await;
        send(&mut unary, r#"{"key":"a2V5"}"#).await;
        assert_eq!(receive(&mut unary).await.unwrap()["count"], "1");
        assert_eq!(receive(&mut unary).await, None);
        let (mut unknown, _) = web_socket(&address, "/v3/none", "").await;
        assert_eq!(receive(&mut unknown).await.unwrap()["code"], 5);
        // An object that is no request ends the stream.
        let (mut wrong, _) = web_socket(&address, "/v3/watch", "").await;
        send(&mut wrong, r#"{"create_request":{"key":5}}"#).await;
        assert_eq!(receive(&mut wrong).await.unwrap()["code"], 3);
    });
    let wrong = "GET /v3/watch HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n";
    let answer = ask(tcp(&address), wrong).to_lowercase();
    assert!(answer.starts_with("http/1.1 400 "), "{answer}");
    assert!(answer.contains("sec-websocket-version: 13"), "{answer}");
}

#[test]
fn issue_21935_the_token_of_a_web_socket_is_in_its_subprotocol_or_in_a_cookie() {
    let folder = tempfile::tempdir().unwrap();
    let address = free();
    let arguments = [clients(&format!("http://{address}")), alone()].concat();
    let _server = Server::start(&folder.path().join("data"), &arguments).ready();
    run(async {
        let client = connect(&address, None).await;
        let (name, password) = (|| "root".to_owned(), "secret".to_owned());
        let user = pb::AuthUserAddRequest {
            name: name(),
            password: password.clone(),
            ..Default::default()
        };
        client.user_add(user).await.unwrap();
        client.role_add(pb::AuthRoleAddRequest { name: name() }).await.unwrap();
        let grant = pb::AuthUserGrantRoleRequest { user: name(), role: name() };
        client.user_grant_role(grant).await.unwrap();
        client.auth_enable(pb::AuthEnableRequest {}).await.unwrap();
        let (mut login, _) = web_socket(&address, "/v3/auth/authenticate", "").await;
        send(&mut login, r#"{"name":"root","password":"secret"}"#).await;
        let token = receive(&mut login).await.unwrap()["token"].as_str().unwrap().to_owned();
        for (headers, is_root) in [
            (format!("Sec-WebSocket-Protocol: Bearer, {token}\r\n"), true),
            (format!("Cookie: token={token}\r\n"), true),
            (String::new(), false),
        ] {
            let (mut socket, head) = web_socket(&address, "/v3/kv/range", &headers).await;
            assert_eq!(
                head.contains("sec-websocket-protocol: bearer\r\n"),
                headers.contains("Bearer"),
                "{head}"
            );
            send(&mut socket, r#"{"key":"a2V5"}"#).await;
            let answer = receive(&mut socket).await.unwrap();
            assert_eq!(answer.get("header").is_some(), is_root, "{headers:?}: {answer}");
        }
    });
}
