//! Accepts connections and forwards them.

use crate::remotes::{Remote, Remotes};
use cli::duration::GoDuration;
use net::{AcceptedSocket, Acceptor, Listener};
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::copy_bidirectional_with_sizes;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Handle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// The time limit of connecting to an endpoint.
const DIAL_TIME_MAX: Duration = Duration::from_secs(5);
/// Keep-alive towards endpoints, as towards clients: the place of a host that is gone is freed.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// The buffer of each direction of a connection, in bytes.
const BUFFER_BYTES: usize = 16 * 1024;

/// What a gateway is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// The endpoints.
    pub remotes: Vec<Remote>,
    /// The time after which endpoints that could not be connected to are tried again.
    pub retry_delay: Duration,
    /// The maximum number of connections of clients. Each needs two file descriptors.
    pub connections_max: usize,
}

/// A gateway that serves. Dropping it closes its port and its connections.
#[derive(Debug)]
pub struct Gateway {
    acceptor: Acceptor,
    places: Arc<Semaphore>,
    /// The thread serves until this is dropped.
    serving: Option<oneshot::Sender<Never>>,
    thread: Option<JoinHandle<()>>,
}

/// A message that is never sent.
#[derive(Debug)]
enum Never {}

#[derive(Debug)]
struct Shared {
    remotes: Mutex<Remotes>,
    retry_delay: Duration,
    /// Where the gateway listens.
    local: SocketAddr,
}

impl Gateway {
    /// Serves on a thread of its own.
    ///
    /// # Errors
    /// When there is no thread, or the listener is not one of TCP.
    pub fn start(listener: Listener, options: Options) -> io::Result<Gateway> {
        let remotes = Remotes::new(options.remotes);
        tracing::info!(endpoints = ?remotes.addresses(), "ready to proxy client requests");
        let shared = Arc::new(Shared {
            remotes: Mutex::new(remotes),
            retry_delay: options.retry_delay,
            local: listener.local_addr()?,
        });
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let places = Arc::new(Semaphore::new(options.connections_max));
        let sink = sink(&shared, &places, runtime.handle().clone())?;
        let (serving, ended) = oneshot::channel::<Never>();
        let thread = std::thread::Builder::new().name("gateway".to_owned()).spawn(move || {
            runtime.spawn(monitor(shared));
            runtime.block_on(ended).ok();
        })?;
        let acceptor = listener.accept(sink)?;
        Ok(Gateway { acceptor, places, serving: Some(serving), thread: Some(thread) })
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The acceptor may wait for a place.
        self.places.close();
        self.acceptor.stop();
        self.serving = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the gateway panicked");
        }
    }
}

/// Where accepted connections go: each waits for its place.
fn sink(
    shared: &Arc<Shared>,
    places: &Arc<Semaphore>,
    handle: Handle,
) -> io::Result<impl Fn(AcceptedSocket) + Send + 'static> {
    let waiting = Builder::new_current_thread().build()?;
    let (shared, places) = (Arc::clone(shared), Arc::clone(places));
    Ok(move |socket| {
        if let Ok(place) = waiting.block_on(Arc::clone(&places).acquire_owned()) {
            handle.spawn(forward(Arc::clone(&shared), socket, place));
        }
    })
}

/// Forwards one connection until both directions have ended, or one of them has failed.
async fn forward(shared: Arc<Shared>, socket: AcceptedSocket, _place: OwnedSemaphorePermit) {
    let Ok(mut client) = socket.into_stream() else { return };
    let Some(mut server) = shared.connect().await else { return };
    let copied =
        copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER_BYTES, BUFFER_BYTES).await;
    if let Err(error) = copied {
        tracing::debug!(%error, "a connection has ended");
    }
}

impl Shared {
    fn remotes(&self) -> MutexGuard<'_, Remotes> {
        self.remotes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn interval(&self) -> String {
        GoDuration::from(self.retry_delay).to_string()
    }

    /// Connects to the next endpoint. Those that fail are left out. `None` if none is left.
    async fn connect(&self) -> Option<TcpStream> {
        loop {
            let (place, address) = {
                let mut remotes = self.remotes();
                let place = remotes.pick(|max| rand::random_range(1..=max))?;
                (place, remotes.address(place).to_owned())
            };
            match self.dial(&address).await {
                Ok(stream) => return Some(stream),
                Err(error) => {
                    self.remotes().set_active(place, false);
                    let interval = self.interval();
                    tracing::warn!(address, interval, error, "deactivated endpoint");
                }
            }
        }
    }

    /// Tries an endpoint that is left out.
    async fn reactivate(&self, place: usize) {
        let address = self.remotes().address(place).to_owned();
        match self.dial(&address).await {
            Ok(_) => {
                self.remotes().set_active(place, true);
                tracing::info!(address, "activated");
            }
            Err(error) => {
                let interval = self.interval();
                let message = "failed to activate endpoint (stay inactive for another interval)";
                tracing::warn!(address, interval, error, "{message}");
            }
        }
    }

    async fn dial(&self, address: &str) -> Result<TcpStream, String> {
        let connecting = tokio::time::timeout(DIAL_TIME_MAX, TcpStream::connect(address));
        let connected = connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        let failed = |error: &io::Error| {
            let text = error.to_string().to_lowercase();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            format!("dial tcp {address}: connect: {text}")
        };
        let stream = connected.map_err(|error| failed(&error))?;
        let remote = stream.peer_addr().map_err(|error| failed(&error))?;
        if leads_back(self.local, remote) {
            return Err(format!("{address} is the address of the gateway itself"));
        }
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
        let options = stream
            .set_nodelay(true)
            .and_then(|()| SockRef::from(&stream).set_tcp_keepalive(&keepalive));
        options.map_err(|error| failed(&error))?;
        Ok(stream)
    }
}

/// Tries the endpoints that are left out, again and again.
async fn monitor(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(shared.retry_delay).await;
        let inactive = shared.remotes().inactive();
        for place in inactive {
            let shared = Arc::clone(&shared);
            tokio::spawn(async move { shared.reactivate(place).await });
        }
    }
}

/// Whether a connection to an address reaches a listener on this machine: the listener's own address,
/// or any address of this machine if it listens on all of them.
#[must_use]
pub fn leads_back(listener: SocketAddr, to: SocketAddr) -> bool {
    let (own, to_ip) = (listener.ip().to_canonical(), to.ip().to_canonical());
    let is_any = own.is_unspecified() || to_ip.is_unspecified();
    listener.port() == to.port() && (own == to_ip || is_any && is_of_this_machine(to_ip))
}

/// Only addresses of this machine can be bound.
fn is_of_this_machine(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_leads_back_if_the_listener_takes_it() {
        for (listener, to, back) in [
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("127.0.0.1:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "192.0.2.1:1", false),
            ("127.0.0.1:1", "0.0.0.0:1", true),
            ("127.0.0.1:1", "[::ffff:127.0.0.1]:1", true),
        ] {
            let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
            assert_eq!(leads_back(parse(listener), parse(to)), back, "{listener} and {to}");
        }
    }
}
