//! Listening sockets, each with a thread that accepts connections.
//!
//! SO_REUSEPORT is set only if the flag asks for it, so a port in use is an error. As in Go,
//! SO_REUSEADDR is set, and TCP_NODELAY and keep-alive for each connection. Unix sockets have none of
//! these options.
//!
//! Source: etcd client/pkg/transport/{listener,sockopt}.go @ v3.7.1.

use crate::socket::AcceptedSocket;
use crate::socket_file::SocketFile;
use crate::url::Url;
use socket2::{Domain, Protocol, Socket, TcpKeepalive, Type};
use std::fmt;
use std::io;
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::Path;
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
    /// `tcp` or `unix`.
    pub network: &'static str,
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
        } else if kind == io::ErrorKind::InvalidInput && self.network == "unix" {
            "invalid argument".to_owned()
        } else {
            let text = self.source.to_string().to_lowercase();
            text.split(" (os error").next().unwrap_or_default().to_owned()
        };
        write!(f, "listen {} {}: bind: {what}", self.network, self.address)
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A bound socket that does not accept connections yet.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    /// That of a unix socket.
    file: Option<SocketFile>,
    url: Url,
}

impl Listener {
    /// Binds and listens on a URL's host and port, or on a unix socket. As in Go, `localhost` means its IPv4 address where
    /// it has one, and `0.0.0.0` and an empty host mean every address, also of IPv6 where there is
    /// IPv6.
    ///
    /// # Errors
    /// [`BindError`].
    pub fn bind(url: &Url, options: SocketOptions) -> Result<Self, BindError> {
        let network = if url.scheme().is_unix() { "unix" } else { "tcp" };
        let error = |source| BindError { network, address: url.address(), source };
        if url.scheme().is_unix() {
            let (socket, file) = SocketFile::bind(Path::new(&url.address())).map_err(error)?;
            socket.listen(BACKLOG).map_err(error)?;
            return Ok(Self { socket, file: Some(file), url: url.clone() });
        }
        let port = port(url).map_err(error)?;
        let every = matches!(url.host(), "" | "0.0.0.0");
        if every && let Some(socket) = dual_stack(options) {
            listen(&socket, (Ipv6Addr::UNSPECIFIED, port).into()).map_err(error)?;
            return Ok(Self { socket, file: None, url: url.clone() });
        }
        let address = resolve(url, port).map_err(error)?;
        let socket = open(address, options).map_err(error)?;
        listen(&socket, address).map_err(error)?;
        Ok(Self { socket, file: None, url: url.clone() })
    }

    /// The URL that was asked for.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// The address that was bound; for port 0 the one that the kernel chose.
    ///
    /// # Errors
    /// What the system says; a unix socket has no such address.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let no_tcp = || io::Error::other("a unix socket has no port");
        self.socket.local_addr()?.as_socket().ok_or_else(no_tcp)
    }

    /// Starts a thread that passes each accepted connection to `sink`, in non-blocking mode and
    /// with its options set. While `sink` waits, connections wait in the kernel; [`Acceptor::stop`]
    /// waits for it.
    ///
    /// # Errors
    /// When the thread cannot be started or the socket cannot be cloned.
    pub fn accept(self, sink: impl Fn(AcceptedSocket) + Send + 'static) -> io::Result<Acceptor> {
        let stopping = Arc::new(AtomicBool::new(false));
        let address = self.url.address();
        let shared = self.socket.try_clone()?;
        let (flag, is_unix) = (Arc::clone(&stopping), self.file.is_some());
        let thread = std::thread::Builder::new()
            .name(format!("accept {}", self.url.port()))
            .spawn(move || accept_loop(&shared, is_unix, &flag, &sink))?;
        let Listener { socket, file, .. } = self;
        Ok(Acceptor { socket, file, stopping, thread: Some(thread), address })
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

fn accept_loop(
    socket: &Socket,
    is_unix: bool,
    stopping: &AtomicBool,
    sink: &(impl Fn(AcceptedSocket) + Send),
) {
    loop {
        let accepted = socket.accept();
        if stopping.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((connection, _)) => match prepared(connection, is_unix) {
                Ok(connection) => sink(connection),
                Err(error) => {
                    tracing::debug!(%error, "dropping a connection whose options cannot be set");
                }
            },
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

/// Sets the options of a connection.
fn prepared(connection: Socket, is_unix: bool) -> io::Result<AcceptedSocket> {
    connection.set_nonblocking(true)?;
    if is_unix {
        return Ok(AcceptedSocket::Unix(UnixStream::from(connection)));
    }
    connection.set_tcp_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    connection.set_tcp_keepalive(&keepalive)?;
    Ok(AcceptedSocket::Tcp(TcpStream::from(connection)))
}

/// A listening socket with its thread. Dropping it stops accepting and waits for the thread.
#[derive(Debug)]
pub struct Acceptor {
    socket: Socket,
    file: Option<SocketFile>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    address: String,
}

impl Acceptor {
    /// The address as the user wrote it.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Stops accepting: the port is closed, and the file of a unix socket is removed, when this
    /// returns. Connections are not touched.
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
        self.file = None;
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
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
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
        TcpStream::from(served).peer_addr()
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
        let AcceptedSocket::Tcp(server) = receiver.recv().unwrap() else { panic!("it is TCP") };
        assert!(server.nodelay().unwrap());
        client.write_all(b"x").unwrap();
        acceptor.stop();
        assert!(TcpStream::connect(address).is_err(), "the port is closed");
    }

    #[test]
    fn a_unix_socket_is_served_until_the_acceptor_stops_and_removes_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("localhost:1");
        let url = Url::parse(&format!("unix://{}", path.display())).unwrap();
        let listener = Listener::bind(&url, SocketOptions::default()).unwrap();
        let in_use = Listener::bind(&url, SocketOptions::default()).unwrap_err().to_string();
        assert_eq!(in_use, format!("listen unix {}: bind: address already in use", path.display()));
        let echo = |connection| {
            let AcceptedSocket::Unix(mut connection) = connection else { panic!("it is local") };
            if connection.write_all(b"served").is_err() {
                // It was the question whether the socket is in use.
            }
        };
        let mut acceptor = listener.accept(echo).unwrap();
        let mut text = String::new();
        UnixStream::connect(&path).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "served");
        acceptor.stop();
        assert!(!path.exists());
        let absent = Url::parse("unix:///absent/s").unwrap();
        let error = Listener::bind(&absent, SocketOptions::default()).unwrap_err().to_string();
        assert_eq!(error, "listen unix /absent/s: bind: no such file or directory");
    }
}
