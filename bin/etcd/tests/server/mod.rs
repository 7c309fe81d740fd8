//! A server in a process of its own, for several of the tests of this folder.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// A server on a new directory. Dropping it kills the process, if it has not ended.
pub(crate) struct Server {
    pub(crate) child: Child,
    /// The host and port for clients.
    pub(crate) address: String,
    _data: tempfile::TempDir,
}

impl Server {
    /// Starts a server with these flags, and returns once it serves.
    pub(crate) fn start(flags: &[&str]) -> Server {
        let data = tempfile::tempdir().unwrap();
        let free = || format!("127.0.0.1:{}", ports::free().unwrap());
        let (address, peer) = (free(), free());
        let (url, peer) = (format!("http://{address}"), format!("http://{peer}"));
        let mut child = Command::new(env!("CARGO_BIN_EXE_etcd"))
            .arg("--data-dir")
            .arg(data.path())
            .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let serves = lines.any(|line| line.unwrap().contains("notified init daemon"));
        assert!(serves, "the server has ended");
        // Keep reading, so that the server does not block on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Server { child, address, _data: data }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().ok();
        self.child.wait().unwrap();
    }
}
