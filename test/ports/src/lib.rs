//! TCP ports for the servers that tests start.
//!
//! A server takes its ports as flags, so a test has to choose them before the server listens. A
//! port that the kernel chose (`bind` to port 0) is not safe to hand on: once it is closed, the
//! kernel may choose it again, for another server or for the local end of a connection. The ports
//! here lie below the kernel's range for that, and no process gets one twice.

use std::io;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// The lowest port. All have five digits, so that tables of addresses have columns of one width.
const FIRST: u16 = 10_000;
/// The number of ports: all are below 32,768, where Linux' range for outgoing connections begins
/// (`net.ipv4.ip_local_port_range`).
const COUNT: u16 = 22_000;
/// The distance between the first ports of two processes with successive ids. It has no factor in
/// common with `COUNT`, so that processes with close ids start far apart.
const STRIDE: u32 = 1_009;

/// How many ports were tried in this process.
static TRIED: AtomicU16 = AtomicU16::new(0);

/// Returns a port of loopback without a listener. Each call in a process returns another one.
///
/// # Errors
/// When all ports are in use or were handed out.
pub fn free() -> io::Result<u16> {
    loop {
        let next = |tried: u16| (tried < COUNT).then(|| tried + 1);
        let tried = TRIED.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let tried = tried.map_err(|_| io::Error::other("every port for tests was tried"))?;
        let port = port(std::process::id(), tried);
        match TcpListener::bind(("127.0.0.1", port)) {
            Ok(_) => return Ok(port),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(error),
        }
    }
}

/// The port that a process tries after `tried` others.
fn port(process: u32, tried: u16) -> u16 {
    let offset = (u64::from(process) * u64::from(STRIDE) + u64::from(tried)) % u64::from(COUNT);
    FIRST + u16::try_from(offset).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_process_tries_every_port_once() {
        let ports: BTreeSet<u16> = (0..COUNT).map(|tried| port(4_711, tried)).collect();
        assert_eq!(ports, (FIRST..FIRST + COUNT).collect());
    }

    #[test]
    fn a_port_with_a_listener_is_passed_over() {
        let next = port(std::process::id(), TRIED.load(Ordering::Relaxed));
        // It fails if another process listens there, which serves as well.
        let _taken = TcpListener::bind(("127.0.0.1", next));
        assert_ne!(free().unwrap(), next);
    }
}
