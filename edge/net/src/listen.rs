//! Listening sockets, each with a thread that accepts connections.
//!
//! SO_REUSEPORT is set only if the flag asks for it, so a port in use is an error. As in Go,
//! SO_REUSEADDR is set, and TCP_NODELAY and keep-alive for each connection.
//!
//! Source: etcd client/pkg/transport/{listener,sockopt}.go @ v3.7.1.

use crate::url::Url;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::fmt;
use std::io;
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The kernel's queue of connections that are not accepted yet.
const BACKLOG: i32 = 4096;
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The pause of accepting when the process is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// Options of `--socket-reuse-port` and `--socket-reuse-address`.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketOptions {
    /// Share the port with other sockets that set this.
    pub reuse_port: bool,
    /// Take an address in TIME_WAIT. Go sets it always, and so does this crate.
    pub reuse_address: bool,
}

/// A URL could not be listened on.
#[derive(Debug)]
pub struct BindError {
    /// The address as the user wrote it.
    pub address: String,
    /// The error of the operating system.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = self.source.kind();
        let what = if kind == io::ErrorKind::AddrInUse {
            "address already in use".to_owned()
        } else if kind == io::ErrorKind::PermissionDenied {
            "permission denied".to_owned()
        } else if kind == io::ErrorKind::AddrNotAvailable {
            "cannot assign requested address".to_owned()
        } else {
            self.source.to_string()
        };
        write!(f, "listen tcp {}: bind: {what}", self.address)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// An address as the logs have it: a client of IPv4 at a listener for both kinds has its address of
/// IPv4.
#[must_use]
pub fn plain_address(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A bound socket that does not accept connections yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    url: Url,
}

impl Listener {
    /// Binds and listens on a URL's host and port. As in Go, `localhost` means its IPv4 address where
    /// it has one, and `0.0.0.0` and an empty host mean every address, also of IPv6 where there is
    /// IPv6.
    ///
    /// # Errors
    /// [`BindError`]; a unix socket is one too: not built.
    pub fn bind(url: &Url, options: SocketOptions) -> Result<Self, BindError> {
        let error = |source| BindError { address: url.address().to_owned(), source };
        if url.scheme().is_unix() {
            return Err(error(io::Error::other("unix sockets are not built yet")));
        }
        let port = port(url).map_err(error)?;
        let every = matches!(url.host(), "" | "0.0.0.0");
        if every && let Some(socket) = dual_stack(options) {
            listen(&socket, (Ipv6Addr::UNSPECIFIED, port).into()).map_err(error)?;
            return Ok(Self { socket: socket.into(), url: url.clone() });
        }
        let address = resolve(url, port).map_err(error)?;
        let socket = open(address, options).map_err(error)?;
        listen(&socket, address).map_err(error)?;
        Ok(Self { socket: socket.into(), url: url.clone() })
    }

    /// The URL that was asked for.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The address that was bound; for port 0 the one that the kernel chose.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Starts a thread that passes each accepted connection to `sink`, in non-blocking mode and
    /// with its options set. While `sink` waits, connections wait in the kernel; [`Acceptor::stop`]
    /// waits for it.
    ///
    /// # Errors
    /// When the thread cannot be started or the socket cannot be cloned.
    pub fn accept(self, sink: impl Fn(TcpStream) + Send + 'static) -> io::Result<Acceptor> {
        let stopping = Arc::new(AtomicBool::new(false));
        let address = self.url.address().to_owned();
        let shared = self.socket.try_clone()?;
        let flag = Arc::clone(&stopping);
        let thread = std::thread::Builder::new()
            .name(format!("accept {}", self.url.port()))
            .spawn(move || accept_loop(&shared, &flag, &sink))?;
        Ok(Acceptor { socket: self.socket.into(), stopping, thread: Some(thread), address })
    }
}

fn port(url: &Url) -> io::Result<u16> {
    let port = url.port();
    let invalid = |_| io::Error::new(io::ErrorKind::InvalidInput, format!("invalid port {port}"));
    port.parse().map_err(invalid)
}

fn resolve(url: &Url, port: u16) -> io::Result<SocketAddr> {
    let host = if url.host().is_empty() { "0.0.0.0" } else { url.host() };
    let all: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let found = all.iter().find(|a| a.is_ipv4()).or_else(|| all.first());
    found.copied().ok_or_else(|| io::Error::other("no such host"))
}

/// A socket of IPv6 that takes connections of IPv4, too; `None` on a machine without IPv6.
fn dual_stack(options: SocketOptions) -> Option<Socket> {
    // A kernel may create such sockets without an address of IPv6; binding tells.
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let probe = open(any, options).ok()?;
    probe.set_only_v6(false).ok()?;
    probe.bind(&any.into()).ok()?;
    let socket = open(any, options).ok()?;
    socket.set_only_v6(false).ok()?;
    Some(socket)
}

fn open(address: SocketAddr, options: SocketOptions) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    Ok(socket)
}

fn listen(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)
}

fn accept_loop(socket: &TcpListener, stopping: &AtomicBool, sink: &(impl Fn(TcpStream) + Send)) {
    loop {
        let accepted = socket.accept();
        if stopping.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((stream, _)) => {
                if let Err(error) = prepare(&stream) {
                    tracing::debug!(%error, "dropping a connection whose options cannot be set");
                    continue;
                }
                sink(stream);
            }
            // The client closed the connection before it was accepted, or a signal arrived.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted
                ) => {}
            Err(error) => {
                // Out of file descriptors or memory: the connections wait in the kernel.
                tracing::warn!(%error, "failed to accept a connection; trying again");
                std::thread::sleep(PAUSE);
            }
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    socket2::SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

/// A listening socket with its thread. Dropping it stops accepting and waits for the thread.
#[derive(Debug)]
pub struct Acceptor {
    socket: Socket,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    address: String,
}

impl Acceptor {
    /// The address as the user wrote it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Stops accepting: the port is closed when this returns. Connections are not touched.
    pub fn stop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        // On Linux this wakes a thread that waits in `accept`.
        if let Err(error) = self.socket.shutdown(Shutdown::Both) {
            tracing::debug!(%error, "the listening socket was closed already");
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!(address = self.address, "the accepting thread panicked");
        }
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::sync::mpsc;

    fn any_port() -> Url {
        Url::parse("http://127.0.0.1:0").unwrap()
    }

    #[test]
    fn a_port_in_use_is_an_error_with_the_message_of_go() {
        let first = Listener::bind(&any_port(), SocketOptions::default()).unwrap();
        let port = first.local_addr().unwrap().port();
        let url = Url::parse(&format!("http://127.0.0.1:{port}")).unwrap();
        let error = Listener::bind(&url, SocketOptions::default()).unwrap_err();
        let wanted = format!("listen tcp 127.0.0.1:{port}: bind: address already in use");
        assert_eq!(error.to_string(), wanted);
    }

    /// Accepts one connection at a URL from an address; returns the server's view of the client.
    fn client_seen(url: &str, from: &str) -> io::Result<SocketAddr> {
        let listener = Listener::bind(&Url::parse(url).unwrap(), SocketOptions::default()).unwrap();
        let port = listener.local_addr()?.port();
        let client = TcpStream::connect((from, port))?;
        let (served, _) = listener.socket.accept()?;
        drop(client);
        served.peer_addr()
    }

    #[test]
    fn a_listener_on_all_addresses_takes_ipv4_and_ipv6() {
        for url in ["http://0.0.0.0:0", "http://:0"] {
            let seen = client_seen(url, "127.0.0.1").unwrap();
            assert_eq!(seen.ip().to_canonical().to_string(), "127.0.0.1", "{url}");
            if TcpListener::bind("[::1]:0").is_ok() {
                assert_eq!(client_seen(url, "::1").unwrap().ip().to_string(), "::1", "{url}");
            }
        }
        assert!(client_seen("http://127.0.0.1:0", "::1").is_err(), "only all addresses mean both");
    }

    #[test]
    fn a_port_that_ipv4_uses_is_in_use_for_all_addresses() {
        let first = Listener::bind(&any_port(), SocketOptions::default()).unwrap();
        let port = first.local_addr().unwrap().port();
        let url = Url::parse(&format!("http://0.0.0.0:{port}")).unwrap();
        let error = Listener::bind(&url, SocketOptions::default()).unwrap_err();
        let wanted = format!("listen tcp 0.0.0.0:{port}: bind: address already in use");
        assert_eq!(error.to_string(), wanted);
    }

    #[test]
    fn connections_reach_the_sink_until_the_acceptor_stops() {
        let listener = Listener::bind(&any_port(), SocketOptions::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, receiver) = mpsc::channel();
        let mut acceptor = listener
            .accept(move |stream| sender.send(stream).expect("the test still listens"))
            .unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let server = receiver.recv().unwrap();
        assert!(server.nodelay().unwrap());
        client.write_all(b"x").unwrap();
        acceptor.stop();
        assert!(TcpStream::connect(address).is_err(), "the port is closed");
    }
}
