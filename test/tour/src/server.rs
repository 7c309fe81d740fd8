//! A server as a child process on loopback. Its advertised name and URLs are the same at every
//! start, although it listens on other ports, so that the member and cluster ids are the same, too.

use crate::process::wait_for;
use anyhow::{Context, Result, bail};
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// The time limit for a server to answer after its start.
const START_TIME_MAX: Duration = Duration::from_secs(60);

/// How many times other ports are tried.
const TRIES: usize = 3;

/// The flags for the advertised name and URLs. Restoring a directory needs the same ones.
const IDENTITY: [&str; 8] = [
    "--name",
    "default",
    "--initial-advertise-peer-urls",
    "http://localhost:2380",
    "--advertise-client-urls",
    "http://localhost:2379",
    "--initial-cluster",
    "default=http://localhost:2380",
];

/// A running server. It is killed when this is dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts a server on a data directory. Its output is appended to `log`.
    ///
    /// # Errors
    /// When it cannot be started or does not answer.
    pub fn start(program: &Path, data: &Path, log: &Path, flags: &[String]) -> Result<Server> {
        let mut last = None;
        for _ in 0..TRIES {
            let ports = (ports::free()?, ports::free()?);
            let child = spawn(program, data, log, (ports, flags))?;
            let mut server = Server { child, port: ports.0 };
            match server.wait_until_it_answers() {
                Ok(()) => return Ok(server),
                // Another process may have taken the port in the meantime.
                Err(error) => last = Some(error),
            }
        }
        let said = std::fs::read_to_string(log).unwrap_or_default();
        let error = last.context("never tried")?;
        Err(error.context(format!("{} said:\n{said}", program.display())))
    }

    /// The client endpoint.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        wait_for("an answer of the server", START_TIME_MAX, || {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended: {status}");
            }
            let healthy = self.http("/health").is_ok_and(|text| text.contains(r#""true""#));
            Ok(healthy.then_some(()))
        })
    }

    fn http(&self, path: &str) -> Result<String> {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        http_get(address, path, Duration::from_secs(5))
    }
}

/// The whole answer to a GET on a connection of its own.
///
/// # Errors
/// When there is no connection, or a read takes longer than `limit`.
pub fn http_get(address: SocketAddr, path: &str, limit: Duration) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if the process has exited already.
        if self.child.kill().is_ok() {
            drop(self.child.wait());
        }
    }
}

fn spawn(program: &Path, data: &Path, log: &Path, how: ((u16, u16), &[String])) -> Result<Child> {
    let ((client, peer), flags) = how;
    let log = OpenOptions::new().create(true).append(true).open(log)?;
    Command::new(program)
        .arg("--data-dir")
        .arg(data)
        .args(IDENTITY)
        .args(["--listen-client-urls", &format!("http://127.0.0.1:{client}")])
        .args(["--listen-peer-urls", &format!("http://127.0.0.1:{peer}")])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))
}
