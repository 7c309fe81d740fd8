//! The server under attack, with the addresses of its three ports.

use anyhow::{Context, Result, ensure};
use conformance::server::Server;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A running server. It is killed when this is dropped.
#[derive(Debug)]
pub struct Target {
    server: Server,
    /// The port of clients.
    pub clients: SocketAddr,
    /// The port of peers.
    pub peers: SocketAddr,
    /// The port of `--listen-metrics-urls`.
    pub metrics: SocketAddr,
    _wrapper: Option<TempDir>,
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Target {
    /// Starts `program`, with this limit of open files if there is one.
    ///
    /// # Errors
    /// When it cannot be started or does not answer.
    pub async fn start(program: &Path, files: Option<u64>) -> Result<Target> {
        Target::start_with(program, files, &[]).await
    }

    /// As [`Target::start`], with more flags.
    ///
    /// # Errors
    /// As [`Target::start`].
    pub async fn start_with(program: &Path, files: Option<u64>, more: &[&str]) -> Result<Target> {
        let metrics = ports::free()?;
        let url = format!("http://127.0.0.1:{metrics}");
        let flags = [&["--listen-metrics-urls", &url], more].concat();
        let wrapper = files.map(|files| wrap(program, files)).transpose()?;
        let path =
            wrapper.as_ref().map_or_else(|| program.to_path_buf(), |dir| dir.path().join("etcd"));
        let server = Server::start(&path, &flags).await?;
        let (clients, peers) = (local(server.client_port()), local(server.peer_port()));
        Ok(Target { server, clients, peers, metrics: local(metrics), _wrapper: wrapper })
    }

    /// All ports.
    #[must_use]
    pub fn ports(&self) -> [SocketAddr; 3] {
        [self.clients, self.peers, self.metrics]
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The directory of the database file.
    ///
    /// # Errors
    /// When it has none.
    pub fn dir(&self) -> Result<PathBuf> {
        Ok(self.server.db_file().parent().context("no directory")?.to_owned())
    }

    /// The size of the database file in bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn db_bytes(&self) -> Result<u64> {
        Ok(std::fs::metadata(self.server.db_file())?.len())
    }

    /// Fails if the server has logged a panic or an error of its own.
    ///
    /// # Errors
    /// When it has, or the log cannot be read.
    pub fn check_log(&self) -> Result<()> {
        let log = std::fs::read_to_string(self.server.log()).context("the server's log")?;
        let bad = log.lines().find(|line| {
            ["panic", "\"level\":\"fatal\"", "\"level\":\"error\""].iter().any(|w| line.contains(w))
        });
        ensure!(bad.is_none(), "the server has logged: {}", bad.unwrap_or_default());
        Ok(())
    }
}

/// A script that starts the program with a limit of open files.
fn wrap(program: &Path, files: u64) -> Result<TempDir> {
    let dir = TempDir::new()?;
    let program = std::path::absolute(program)?;
    let text = format!("#!/bin/sh\nulimit -n {files}\nexec '{}' \"$@\"\n", program.display());
    let path = dir.path().join("etcd");
    std::fs::write(&path, text)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(dir)
}
