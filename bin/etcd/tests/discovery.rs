//! Members that find each other by the records of a name server, or through another cluster, and the
//! TCP gateway.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use client::{Client, Config};
use nameserver::{Manner, Record};
use proto::etcdserverpb as pb;
use std::io::{BufRead as _, BufReader, Lines};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_etcd");

/// A running program; dropping it kills the process.
struct Process {
    child: Child,
    lines: Option<Lines<BufReader<ChildStderr>>>,
    log: String,
}

impl Process {
    fn spawn(mut command: Command) -> Process {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = Some(BufReader::new(child.stderr.take().unwrap()).lines());
        Process { child, lines, log: String::new() }
    }

    /// Reads the log up to a line with this text.
    fn wait_for(&mut self, text: &str) {
        let mut lines = self.lines.take().unwrap();
        let found = lines.any(|line| {
            let line = line.unwrap();
            self.log.push_str(&line);
            self.log.push('\n');
            line.contains(text)
        });
        assert!(found, "no line has {text:?}: {}", self.log);
        // Keep reading, so that the process does not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
    }

    /// Waits for the end; returns the exit code and the log.
    fn end(mut self) -> (Option<i32>, String) {
        let lines: Vec<String> = self.lines.take().unwrap().map(Result::unwrap).collect();
        (self.child.wait().unwrap().code(), lines.join("\n"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A member with its name and addresses.
struct Member {
    name: &'static str,
    client: String,
    peer: String,
}

impl Member {
    fn new(name: &'static str) -> Member {
        let address = || format!("127.0.0.1:{}", ports::free().unwrap());
        Member { name, client: address(), peer: address() }
    }

    /// Adds the flags of the member.
    fn arguments(&self, mut command: Command, folder: &Path) -> Command {
        let (client, peer) = (format!("http://{}", self.client), format!("http://{}", self.peer));
        command
            .arg("--data-dir")
            .arg(folder.join(self.name))
            .args(["--name", self.name])
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command
    }

    fn start(&self, folder: &Path, flags: &[&str]) -> Process {
        let mut command = self.arguments(Command::new(PROGRAM), folder);
        command.args(flags);
        Process::spawn(command)
    }
}

const READY: &str = "successfully notified init daemon";

async fn client(address: &str) -> Client {
    Client::connect(Config::new(vec![address.to_owned()])).await.unwrap()
}

/// The names of the members of a cluster, sorted.
async fn names(address: &str) -> Vec<String> {
    let request = pb::MemberListRequest { linearizable: true };
    let answer = client(address).await.member_list(request).await.unwrap();
    let mut names: Vec<String> = answer.members.into_iter().map(|member| member.name).collect();
    names.sort();
    names
}

async fn put_size(service: &str, token: &str, size: &str) {
    let key = format!("/_etcd/registry/{token}/_config/size");
    let value = size.to_owned().into();
    let put = pb::PutRequest { key: key.into(), value, ..Default::default() };
    client(service).await.put(put).await.unwrap();
}

#[tokio::test]
async fn three_members_find_each_other_through_another_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let service = Member::new("service");
    let own = format!("service=http://{}", service.peer);
    let mut serving = service.start(folder.path(), &["--initial-cluster", &own]);
    serving.wait_for(READY);
    put_size(&service.client, "t", "3").await;
    let flags = ["--discovery-endpoints", &service.client, "--discovery-token", "t"];
    let members = ["a", "b", "c"].map(Member::new);
    let mut running = members.each_ref().map(|member| member.start(folder.path(), &flags));
    running.iter_mut().for_each(|process| process.wait_for(READY));
    for member in &members {
        assert_eq!(names(&member.client).await, ["a", "b", "c"]);
    }
    let (code, log) = Member::new("late").start(folder.path(), &flags).end();
    assert_eq!(code, Some(1));
    assert!(log.contains("failed to join discovery cluster (discovery: cluster is full)"), "{log}");
    assert!(log.contains("failed to bootstrap; discovery token was already used"), "{log}");
    // A member with data does not ask again.
    let [a, ..] = running;
    drop((a, serving));
    let mut again = members[0].start(folder.path(), &flags);
    again.wait_for("discovery token is ignored since cluster already initialized");
}

#[tokio::test]
async fn a_size_that_no_cluster_has_is_refused_and_a_member_that_waits_can_be_ended() {
    let folder = tempfile::tempdir().unwrap();
    let service = Member::new("service");
    let own = format!("service=http://{}", service.peer);
    let mut serving = service.start(folder.path(), &["--initial-cluster", &own]);
    serving.wait_for(READY);
    put_size(&service.client, "negative", "-1").await;
    put_size(&service.client, "two", "2").await;
    let flags = |token| ["--discovery-endpoints", &service.client, "--discovery-token", token];
    for (token, why) in [("negative", "size key is bad"), ("absent", "size key not found")] {
        let (code, log) = Member::new("one").start(folder.path(), &flags(token)).end();
        assert_eq!(code, Some(1));
        let text = format!("failed to join discovery cluster (discovery: {why}");
        assert!(log.contains(&text), "{log}");
    }
    let mut waiting = Member::new("one").start(folder.path(), &flags("two"));
    waiting.wait_for("waiting for peers from discovery service");
    let pid = waiting.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let ended = waiting.child.wait().unwrap();
    assert_eq!(ended.signal(), Some(15), "it ends by the signal");
}

#[tokio::test]
async fn members_and_a_gateway_find_the_cluster_by_srv_records() {
    let folder = tempfile::tempdir().unwrap();
    let members = ["a", "b", "c"].map(Member::new);
    let port = |address: &str| address.rsplit(':').next().unwrap().parse().unwrap();
    let record = |owner, address: &str| Record { owner, port: port(address), target: "localhost" };
    let peers = members.iter().map(|m| record("_etcd-server-blue._tcp.example", &m.peer));
    let clients = members.iter().map(|m| record("_etcd-client-blue._tcp.example", &m.client));
    let server = nameserver::start(peers.chain(clients).collect(), Manner::Datagram).unwrap();
    let resolv_conf = folder.path().join("resolv.conf");
    std::fs::write(&resolv_conf, nameserver::resolv_conf(&[server])).unwrap();
    let Some(_) = nameserver::command_with(&resolv_conf, PROGRAM) else {
        eprintln!("skipped: this user cannot make a mount namespace");
        return;
    };
    let etcd = || nameserver::command_with(&resolv_conf, PROGRAM).unwrap();
    let srv = ["--discovery-srv", "example", "--discovery-srv-name", "blue"];
    let mut running = members.each_ref().map(|member| {
        let mut command = member.arguments(etcd(), folder.path());
        command.args(srv);
        Process::spawn(command)
    });
    running.iter_mut().for_each(|process| process.wait_for(READY));
    assert_eq!(names(&members[0].client).await, ["a", "b", "c"]);

    let listen = format!("127.0.0.1:{}", ports::free().unwrap());
    let mut command = etcd();
    command.args(["gateway", "start", "--insecure-discovery", "--listen-addr", &listen]).args(srv);
    let mut gateway = Process::spawn(command);
    gateway.wait_for("ready to proxy client requests");
    assert_eq!(names(&listen).await, ["a", "b", "c"]);

    // Without TLS, verified discovery finds no endpoint and falls back to the given ones.
    let mut command = etcd();
    command.args(["gateway", "start", "--listen-addr", "127.0.0.1:0"]).args(srv);
    command.args(["--endpoints", &members[0].client]);
    let mut fallen_back = Process::spawn(command);
    fallen_back.wait_for("ready to proxy client requests");
    assert!(fallen_back.log.contains("failed to validate discovered endpoints"));
    assert!(fallen_back.log.contains(" is insecure"), "{}", fallen_back.log);

    // A member that the records do not name.
    let mut command = Member::new("other").arguments(etcd(), folder.path());
    command.args(srv);
    let (code, log) = Process::spawn(command).end();
    assert_eq!(code, Some(1));
    assert!(log.contains(r#"cannot find local etcd member \"other\" in SRV records"#), "{log}");
}

#[tokio::test]
async fn clients_use_a_server_through_the_gateway() {
    let folder = tempfile::tempdir().unwrap();
    let member = Member::new("a");
    let own = format!("a=http://{}", member.peer);
    let mut server = member.start(folder.path(), &["--initial-cluster", &own]);
    server.wait_for(READY);
    let listen = format!("127.0.0.1:{}", ports::free().unwrap());
    let gateway = |endpoint: &str| {
        let mut command = Command::new(PROGRAM);
        let endpoints = format!("--endpoints={endpoint}");
        command.args(["gateway", "start", &endpoints, "--listen-addr", &listen]);
        Process::spawn(command)
    };
    let (code, log) = gateway(&format!("http://{listen}")).end();
    assert_eq!(code, Some(1));
    assert!(log.contains("should not resolve to the gateway listen addr"), "{log}");
    let mut gateway = gateway(&format!("http://{}", member.client));
    gateway.wait_for("ready to proxy client requests");
    let through = client(&listen).await;
    let put = pb::PutRequest { key: "k".into(), value: "v".into(), ..Default::default() };
    through.put(put).await.unwrap();
    let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
    let direct = client(&member.client).await.range(range).await.unwrap();
    assert_eq!(direct.kvs[0].value, "v");
    let pid = gateway.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    assert_eq!(gateway.child.wait().unwrap().signal(), Some(15));
}
