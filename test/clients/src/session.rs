//! One client program against one server. The program prints a line for each step. A line that
//! begins with `@` requests a fault; the answer is a line once the fault is done:
//!
//! - `@restart`: the server is killed and started again.
//! - `@cut PREFIX COUNT`: the relay is cut, `COUNT` keys are written to the server, and the relay
//!   is joined again.

use crate::list::Client;
use crate::prepare::Program;
use crate::relay::Relay;
use anyhow::{Context, Result, bail};
use conformance::server::Server;
use proto::etcdserverpb::PutRequest;
use rpc::stubs::etcdserverpb::kv_client::KvClient;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::NamedTempFile;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

/// The time limit for all steps of a client.
const SESSION_TIME_MAX: Duration = Duration::from_secs(240);

/// The output of a client.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// A line for each step, in the order of printing.
    pub lines: Vec<String>,
    /// Why it failed: its exit status or the time limit, with its standard error.
    pub failure: Option<String>,
}

/// A server with a relay in front of it.
struct Stage {
    server: Server,
    relay: Relay,
}

/// Runs a client against a new server.
///
/// # Errors
/// When the server or the client cannot be started, or a fault cannot be made.
pub async fn run(client: &Client, program: &Program, server: &Path) -> Result<Lines> {
    let server = Server::start(server, &[]).await?;
    let address = SocketAddr::from(([127, 0, 0, 1], server.client_port()));
    let mut stage = Stage { server, relay: Relay::start(address).await? };
    let errors = NamedTempFile::new()?;
    let mut child = Command::new(&program.words[0])
        .args(&program.words[1..])
        .arg(client.does)
        .current_dir(&program.dir)
        .env("ENDPOINT", address.to_string())
        .env("RELAY", stage.relay.address().to_string())
        .env("DEAD", format!("127.0.0.1:{}", ports::free()?))
        .env("UNIX", stage.relay.socket())
        .env("AUTHORITY", client.authority)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(errors.reopen()?)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start {:?}", program.words))?;
    let mut told = Lines::default();
    let done = tokio::time::timeout(SESSION_TIME_MAX, follow(&mut child, &mut stage, &mut told));
    let failure = match done.await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(format!("{error:#}")),
        Err(_) => Some(format!("not done within {SESSION_TIME_MAX:?}")),
    };
    told.failure = failure.map(|failure| {
        let text = std::fs::read_to_string(errors.path()).unwrap_or_default();
        let last = text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        format!("{failure}; {last}")
    });
    Ok(told)
}

/// Reads the client's lines until it ends, and executes the faults that they request.
async fn follow(child: &mut Child, stage: &mut Stage, told: &mut Lines) -> Result<()> {
    let output = child.stdout.take().context("the client has no output")?;
    let mut answers = child.stdin.take().context("the client has no input")?;
    let mut lines = BufReader::new(output).lines();
    while let Some(line) = lines.next_line().await? {
        match line.strip_prefix('@') {
            None => told.lines.push(line),
            Some(fault) => {
                stage.fault(fault).await.with_context(|| line.clone())?;
                answers.write_all(b"done\n").await?;
            }
        }
    }
    let status = child.wait().await?;
    if !status.success() {
        bail!("{status}");
    }
    Ok(())
}

impl Stage {
    async fn fault(&mut self, fault: &str) -> Result<()> {
        match fault.split(' ').collect::<Vec<_>>()[..] {
            ["restart"] => {
                self.server.kill()?;
                self.server.start_again().await
            }
            ["cut", prefix, count] => {
                self.relay.cut();
                let mut kv = KvClient::new(self.server.connect().await?);
                for number in 0..count.parse::<u32>()? {
                    let key = format!("{prefix}/{number}").into();
                    let value = number.to_string().into();
                    kv.put(PutRequest { key, value, ..PutRequest::default() }).await?;
                }
                self.relay.join();
                Ok(())
            }
            _ => bail!("there is no such fault"),
        }
    }
}
