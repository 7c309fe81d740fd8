//! A cluster of our servers as processes, which grows and shrinks.

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use proto::etcdserverpb::downgrade_request::DowngradeAction;
use proto::etcdserverpb::{
    DowngradeRequest, HashKvRequest, Member, MemberAddRequest, MemberListRequest,
    MemberPromoteRequest, MemberRemoveRequest, MemberUpdateRequest, MoveLeaderRequest,
    StatusRequest, StatusResponse,
};
use rpc::stubs::etcdserverpb::cluster_client::ClusterClient;
use rpc::stubs::etcdserverpb::kv_client::KvClient;
use rpc::stubs::etcdserverpb::lease_client::LeaseClient;
use rpc::stubs::etcdserverpb::maintenance_client::MaintenanceClient;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// The time limit of every wait.
const PATIENCE: Duration = Duration::from_secs(40);
/// The pause between two looks.
const POLL: Duration = Duration::from_millis(50);

/// One member.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its id; 0 while it is not known.
    pub id: u64,
    program: PathBuf,
    child: Option<Child>,
    dir: TempDir,
    client_port: u16,
    peer_port: u16,
    /// The port in its peer URL: `peer_port`, or the port of a proxy.
    advertised_port: u16,
    /// The flags for the initial cluster, and others.
    initial: Vec<String>,
}

/// The ports of a member.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    /// For clients.
    pub client: u16,
    /// For the other members.
    pub peer: u16,
    /// The port in its peer URL, which the other members connect to.
    pub advertised: u16,
}

impl Node {
    fn new(program: &Path, name: &str) -> Result<Node> {
        let peer = ports::free()?;
        let ports = Ports { client: ports::free()?, peer, advertised: peer };
        Node::planned(program, name, ports, Vec::new())
    }

    /// A member at these ports, with these flags besides the usual ones. It is not started yet.
    ///
    /// # Errors
    /// When its directory cannot be created.
    pub fn planned(program: &Path, name: &str, ports: Ports, flags: Vec<String>) -> Result<Node> {
        Ok(Node {
            name: name.to_owned(),
            id: 0,
            program: program.to_owned(),
            child: None,
            dir: TempDir::new()?,
            client_port: ports.client,
            peer_port: ports.peer,
            advertised_port: ports.advertised,
            initial: flags,
        })
    }

    /// Starts the first member of a new cluster.
    ///
    /// # Errors
    /// When it cannot be started, or does not answer.
    pub async fn found(program: &Path, name: &str) -> Result<Node> {
        let mut node = Node::new(program, name)?;
        node.initial = vec!["--initial-cluster".to_owned(), format!("{name}={}", node.peer_url())];
        node.start()?;
        node.wait_until_it_answers().await?;
        Ok(node)
    }

    /// Adds a member by a request to this one. It is not started yet.
    ///
    /// # Errors
    /// The status of the request, as text.
    pub async fn add(&self, name: &str, is_learner: bool) -> Result<Node> {
        let mut node = Node::new(&self.program, name)?;
        let peer_ur_ls = vec![node.peer_url()];
        let added = self.cluster()?.member_add(MemberAddRequest { peer_ur_ls, is_learner }).await;
        let added = added?.into_inner();
        node.id = added.member.context("no member")?.id;
        let mut all = Vec::new();
        for member in &added.members {
            let name = if member.id == node.id { name } else { &member.name };
            all.extend(member.peer_ur_ls.iter().map(|url| format!("{name}={url}")));
        }
        node.initial = ["--initial-cluster-state", "existing", "--initial-cluster", &all.join(",")]
            .map(str::to_owned)
            .to_vec();
        Ok(node)
    }

    /// Starts the process. Its log is appended to.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log())?;
        let child = Command::new(&self.program)
            .args(["--name", &self.name, "--data-dir"])
            .arg(self.data_dir())
            .args(["--listen-client-urls", &self.url(), "--advertise-client-urls", &self.url()])
            .args(["--listen-peer-urls", &format!("http://127.0.0.1:{}", self.peer_port)])
            .args(["--initial-advertise-peer-urls", &self.peer_url()])
            .args(&self.initial)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }

    /// Kills the process as `kill -9` does.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Asks the process to end, as SIGTERM does, and waits until it has.
    ///
    /// # Errors
    /// When it does not run, or does not end.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.ended().await
    }

    /// The status of a process that has ended by itself; `None` while it runs.
    ///
    /// # Errors
    /// When it was not started.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.as_mut().context("it was not started")?.try_wait()?)
    }

    /// The process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Stops the process as SIGSTOP does: it keeps its memory and its connections.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Continues a stopped process.
    ///
    /// # Errors
    /// When it does not run.
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.pid().context("it does not run")?;
        nix::sys::signal::kill(Pid::from_raw(i32::try_from(pid)?), signal)?;
        Ok(())
    }

    /// The directory of its data.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Sets the program and the flags of the next start.
    pub fn becomes(&mut self, program: &Path, flags: Vec<String>) {
        program.clone_into(&mut self.program);
        self.initial = flags;
    }

    /// Whether it runs this program.
    #[must_use]
    pub fn runs(&self, program: &Path) -> bool {
        self.program == program
    }

    /// Sends a request, such as `GET /version`, with the fields of a form. Returns the body of the
    /// response.
    ///
    /// # Errors
    /// When it does not answer, or answers with an error.
    pub async fn http(&self, request: &str, form: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.client_port)).await?;
        let (kind, len) = ("application/x-www-form-urlencoded", form.len());
        let text = format!(
            "{request} HTTP/1.0\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: \
             {len}\r\n\r\n{form}"
        );
        stream.write_all(text.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let text = String::from_utf8(answer)?;
        let (head, body) = text.split_once("\r\n\r\n").context("no body")?;
        let is_good = head.split(' ').nth(1).is_some_and(|status| status.starts_with('2'));
        ensure!(is_good, "{request}: {head}\n{body}");
        Ok(body.to_owned())
    }

    /// The cluster version that it reports at `/version`, such as `3.5.0`.
    ///
    /// # Errors
    /// When it does not answer, or not with a version.
    pub async fn cluster_version(&self) -> Result<String> {
        let body = self.http("GET /version", "").await?;
        let body: serde_json::Value = serde_json::from_str(&body)?;
        let version = body["etcdcluster"].as_str().context("no cluster version")?;
        Ok(version.to_owned())
    }

    /// Keeps its data and its log on the disk. Returns their directory.
    pub fn keep(&mut self) -> &Path {
        self.dir.disable_cleanup(true);
        self.dir.path()
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ended(&mut self) -> Result<ExitStatus> {
        let deadline = Instant::now() + PATIENCE;
        let child = self.child.as_mut().context("it was not started")?;
        loop {
            if let Some(status) = child.try_wait()? {
                self.child = None;
                return Ok(status);
            }
            if Instant::now() > deadline {
                bail!("{} does not end; its log:\n{}", self.name, self.last_lines());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Whether its log has this text.
    #[must_use]
    pub fn has_logged(&self, text: &str) -> bool {
        std::fs::read_to_string(self.log()).unwrap_or_default().contains(text)
    }

    /// The last lines of its log.
    #[must_use]
    pub fn last_lines(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    /// The file with its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// The URL for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// Its peer URL, which the other members connect to.
    #[must_use]
    pub fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.advertised_port)
    }

    /// A channel that connects when it is needed, and connects again after a failure.
    ///
    /// # Errors
    /// Never, since the URL is valid.
    pub fn channel(&self) -> Result<Channel> {
        Ok(Endpoint::from_shared(self.url())?.tcp_nodelay(true).connect_lazy())
    }

    /// A client of its KV service.
    ///
    /// # Errors
    /// As [`Node::channel`].
    pub fn kv(&self) -> Result<KvClient<Channel>> {
        Ok(KvClient::new(self.channel()?))
    }

    /// A client of its Lease service.
    ///
    /// # Errors
    /// As [`Node::channel`].
    pub fn lease(&self) -> Result<LeaseClient<Channel>> {
        Ok(LeaseClient::new(self.channel()?))
    }

    fn cluster(&self) -> Result<ClusterClient<Channel>> {
        Ok(ClusterClient::new(self.channel()?))
    }

    fn maintenance(&self) -> Result<MaintenanceClient<Channel>> {
        Ok(MaintenanceClient::new(self.channel()?))
    }

    /// Its status.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn status(&self) -> Result<StatusResponse> {
        Ok(self.maintenance()?.status(StatusRequest {}).await?.into_inner())
    }

    /// The hash of its keys at a revision.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn hash(&self, revision: i64) -> Result<u32> {
        let hash = self.maintenance()?.hash_kv(HashKvRequest { revision }).await?;
        Ok(hash.into_inner().hash)
    }

    /// The members, by a linearizable read.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn members(&self) -> Result<Vec<Member>> {
        let list = self.cluster()?.member_list(MemberListRequest { linearizable: true }).await?;
        Ok(list.into_inner().members)
    }

    /// Asks it to remove a member.
    ///
    /// # Errors
    /// The status of the request.
    pub async fn remove(&self, id: u64) -> Result<()> {
        self.cluster()?.member_remove(MemberRemoveRequest { id }).await?;
        Ok(())
    }

    /// Asks it to promote a member.
    ///
    /// # Errors
    /// The status of the request.
    pub async fn promote(&self, id: u64) -> Result<()> {
        self.cluster()?.member_promote(MemberPromoteRequest { id }).await?;
        Ok(())
    }

    /// Asks it to change the peer URLs of a member.
    ///
    /// # Errors
    /// The status of the request.
    pub async fn update(&self, id: u64, peer_ur_ls: Vec<String>) -> Result<()> {
        self.cluster()?.member_update(MemberUpdateRequest { id, peer_ur_ls }).await?;
        Ok(())
    }

    /// Asks it to transfer the leadership.
    ///
    /// # Errors
    /// The status of the request.
    pub async fn move_leader(&self, target_id: u64) -> Result<()> {
        self.maintenance()?.move_leader(MoveLeaderRequest { target_id }).await?;
        Ok(())
    }

    /// Asks it for a step of a downgrade. Returns the cluster's version.
    ///
    /// # Errors
    /// The status of the request.
    pub async fn downgrade(&self, action: DowngradeAction, version: &str) -> Result<String> {
        let request = DowngradeRequest { action: action.into(), version: version.to_owned() };
        Ok(self.maintenance()?.downgrade(request).await?.into_inner().version)
    }

    /// Waits until it serves clients, and learns its id.
    ///
    /// # Errors
    /// When it does not.
    pub async fn wait_until_it_answers(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(status) = self.status().await {
                let header = status.header.context("no header")?;
                ensure!(self.id == 0 || self.id == header.member_id, "another member answers");
                self.id = header.member_id;
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{} does not answer; its log:\n{}", self.name, self.last_lines());
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("could not kill {}: {error}", self.name);
        }
    }
}

/// Repeats an attempt until it succeeds. The errors before that must have this text.
///
/// # Errors
/// Another error, or the last one when the time is over.
pub async fn until_done<T, F: Future<Output = Result<T>>>(
    meanwhile: &str,
    mut attempt: impl FnMut() -> F,
) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt().await {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() > deadline => return Err(error),
            Err(error) => {
                let text = format!("{error:#}");
                ensure!(text.contains(meanwhile), "not {meanwhile:?}, but: {text}");
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until all members report the same leader, which is one of them.
///
/// # Errors
/// When they do not.
pub async fn leader(nodes: &[Node]) -> Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut said = Vec::new();
        for node in nodes {
            said.push(node.status().await.map_or(0, |status| status.leader));
        }
        let first = said.first().copied().unwrap_or(0);
        let known = nodes.iter().position(|node| node.id == first && first != 0);
        if let Some(at) = known.filter(|_| said.iter().all(|leader| *leader == first)) {
            return Ok(at);
        }
        ensure!(Instant::now() < deadline, "the members do not agree on a leader: {said:x?}");
        tokio::time::sleep(POLL).await;
    }
}
