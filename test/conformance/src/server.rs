//! A server as a child process on loopback, with a data directory of its own.

use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// The time limit for a server to answer after its start.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// A running server. It is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    program: PathBuf,
    dir: TempDir,
    client_port: u16,
    peer_port: u16,
    flags: Vec<String>,
}

impl Server {
    /// Starts `program` with an empty data directory and these flags besides the usual ones.
    ///
    /// # Errors
    /// When it cannot be started or does not answer.
    pub async fn start(program: &Path, flags: &[&str]) -> Result<Server> {
        let dir = TempDir::new()?;
        let (client_port, peer_port) = (ports::free()?, ports::free()?);
        let flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        let child = spawn(program, &dir, (client_port, peer_port), &flags)?;
        let program = program.to_path_buf();
        let server = Server { child, program, dir, client_port, peer_port, flags };
        server.wait_until_it_answers().await?;
        Ok(server)
    }

    /// Kills it as `kill -9` does and waits for its exit.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Starts it again on the same directory and ports.
    ///
    /// # Errors
    /// When it cannot be started or does not answer.
    pub async fn start_again(&mut self) -> Result<()> {
        let ports = (self.client_port, self.peer_port);
        self.child = spawn(&self.program, &self.dir, ports, &self.flags)?;
        self.wait_until_it_answers().await
    }

    /// The client endpoint.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// The port of clients.
    #[must_use]
    pub fn client_port(&self) -> u16 {
        self.client_port
    }

    /// The port of peers.
    #[must_use]
    pub fn peer_port(&self) -> u16 {
        self.peer_port
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The output of the server.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    /// The last lines that the server printed.
    #[must_use]
    pub fn last_lines(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }

    /// The path of its database file.
    #[must_use]
    pub fn db_file(&self) -> PathBuf {
        self.dir.path().join("data/member/snap/db")
    }

    /// A connection to it.
    ///
    /// # Errors
    /// When it does not accept the connection.
    pub async fn connect(&self) -> Result<Channel> {
        connect(self.url()).await
    }

    async fn wait_until_it_answers(&self) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Ok(channel) = self.connect().await {
                let mut kv = rpc::stubs::etcdserverpb::kv_client::KvClient::new(channel);
                let request = proto::etcdserverpb::RangeRequest {
                    key: "health".into(),
                    ..Default::default()
                };
                if kv.range(request).await.is_ok() {
                    return Ok(());
                }
            }
            if started.elapsed() > START_TIME_MAX {
                let log = std::fs::read_to_string(self.log()).unwrap_or_default();
                bail!("{} does not answer; it said:\n{log}", self.program.display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.kill().is_err() {
            eprintln!("could not kill process {}", self.child.id());
        }
    }
}

/// A program between a client and a server that passes the requests on with another library. It is
/// killed when this is dropped.
#[derive(Debug)]
pub struct Relay {
    child: Child,
    address: String,
}

impl Relay {
    /// Starts `program`, which passes requests on to `server`.
    ///
    /// # Errors
    /// When it cannot be started or prints no address.
    pub fn start(program: &Path, server: &Server) -> Result<Relay> {
        let mut child = Command::new(program)
            .arg(format!("127.0.0.1:{}", server.client_port()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = child.stdout.take().context("the relay has no output")?;
        let mut relay = Relay { child, address: String::new() };
        BufReader::new(output).read_line(&mut relay.address)?;
        ensure!(!relay.address.is_empty(), "{} printed no address", program.display());
        Ok(relay)
    }

    /// A connection through it.
    ///
    /// # Errors
    /// When it does not accept the connection.
    pub async fn connect(&self) -> Result<Channel> {
        connect(format!("http://{}", self.address.trim())).await
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Both fail only if the process has exited already.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

async fn connect(url: String) -> Result<Channel> {
    Ok(Endpoint::from_shared(url)?.tcp_nodelay(true).connect().await?)
}

fn spawn(program: &Path, dir: &TempDir, ports: (u16, u16), flags: &[String]) -> Result<Child> {
    let client = format!("http://127.0.0.1:{}", ports.0);
    let peer = format!("http://127.0.0.1:{}", ports.1);
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.path().join("log"))?;
    Command::new(program)
        .args(["--name", "n1", "--data-dir"])
        .arg(dir.path().join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("n1={peer}")])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}
