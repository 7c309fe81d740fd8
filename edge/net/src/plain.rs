//! A small HTTP server for ports without load: peers and `--listen-metrics-urls`.
//!
//! One thread serves all listeners. The number of connections is limited, and so is the time for a
//! request's headers. Clients are served by the workers instead.

use crate::tasks;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::LocalSet;

/// Connections served at a time, and connections that wait for one of them to end. Further
/// connections are closed when they are accepted.
#[derive(Clone, Copy, Debug)]
struct ConnectionLimits {
    served: usize,
    waiting: usize,
}

const LIMITS: ConnectionLimits = ConnectionLimits { served: 256, waiting: 64 };
/// etcd's limit for a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(300);

/// Answers the requests of a server.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; `path` and `query` are as the client sent them.
    fn answer(
        &self,
        method: &Method,
        path: &str,
        query: &str,
    ) -> impl Future<Output = Response<Bytes>>;
}

/// The running thread.
#[derive(Debug)]
pub struct Server {
    queue: Option<mpsc::Sender<TcpStream>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts the thread.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be started.
    pub fn start<H: Handler>(name: &str, handler: Arc<H>) -> io::Result<Self> {
        Self::start_with(name, handler, LIMITS)
    }

    fn start_with<H: Handler>(
        name: &str,
        handler: Arc<H>,
        limits: ConnectionLimits,
    ) -> io::Result<Self> {
        let (queue, connections) = mpsc::channel(limits.waiting);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            LocalSet::new().block_on(&runtime, serve(connections, handler, limits.served));
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// Where a listener's connections go: see [`crate::Listener::accept`].
    pub fn sink(&self) -> impl Fn(TcpStream) + Send + 'static {
        let queue = self.queue.clone();
        move |stream| {
            if let Some(queue) = &queue
                && queue.try_send(stream).is_err()
            {
                tracing::warn!("closing a connection for peers or metrics: too many are waiting");
            }
        }
    }

    /// Stops: open connections are dropped. Acceptors that feed this server are stopped first,
    /// since each holds an end of its queue.
    pub fn stop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread for peers and metrics panicked");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn serve<H: Handler>(
    mut connections: mpsc::Receiver<TcpStream>,
    handler: Arc<H>,
    served_max: usize,
) {
    let slots = Arc::new(Semaphore::new(served_max));
    // A connection stays in the queue until there is a slot for it, so the bound of the queue is
    // the limit of waiting connections.
    while let Ok(slot) = Arc::clone(&slots).acquire_owned().await
        && let Some(stream) = connections.recv().await
    {
        let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { continue };
        let handler = Arc::clone(&handler);
        tasks::spawn_local("connection for peers or metrics", async move {
            let _slot = slot;
            let service = service_fn(move |request: Request<Incoming>| {
                let handler = Arc::clone(&handler);
                async move { Ok::<_, Infallible>(respond(&*handler, &request).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection for peers or metrics broke");
            }
        });
    }
}

async fn respond<H: Handler>(handler: &H, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let uri = request.uri();
    let query = uri.query().unwrap_or("");
    handler.answer(request.method(), uri.path(), query).await.map(Full::new)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Listener, SocketOptions, Url};
    use std::io::{Read, Write};

    struct Echo;

    impl Handler for Echo {
        async fn answer(&self, method: &Method, path: &str, query: &str) -> Response<Bytes> {
            assert!(path != "/panic", "on purpose");
            Response::new(Bytes::from(format!("{method} {path} {query}")))
        }
    }

    fn listen() -> (Listener, std::net::SocketAddr) {
        let url = Url::parse("http://127.0.0.1:0").unwrap();
        let listener = Listener::bind(&url, SocketOptions::default()).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn get(client: &mut TcpStream, path: &str) -> String {
        write!(client, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn connections_beyond_the_limits_are_closed() {
        let (listener, address) = listen();
        let limits = ConnectionLimits { served: 2, waiting: 1 };
        let server = Server::start_with("narrow", Arc::new(Echo), limits).unwrap();
        let _acceptor = listener.accept(server.sink()).unwrap();
        let mut clients = Vec::new();
        let is_closed = |client: &mut TcpStream| {
            client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
            matches!(client.read(&mut [0]), Ok(0))
        };
        let closed = (0..8).any(|_| {
            clients.push(TcpStream::connect(address).unwrap());
            clients.last_mut().is_some_and(is_closed)
        });
        assert!(closed, "two are served and one waits");
        assert!(get(&mut clients[0], "/a").starts_with("HTTP/1.1 200 OK"));
    }

    #[test]
    fn a_handler_that_panics_ends_its_connection_only() {
        let (listener, address) = listen();
        let limits = ConnectionLimits { served: 1, waiting: 4 };
        let server = Server::start_with("panics", Arc::new(Echo), limits).unwrap();
        let _acceptor = listener.accept(server.sink()).unwrap();
        let panics = tasks::panics();
        assert_eq!(get(&mut TcpStream::connect(address).unwrap(), "/panic"), "");
        let answer = get(&mut TcpStream::connect(address).unwrap(), "/a");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "its slot is free again: {answer}");
        assert!(tasks::panics() > panics);
    }

    #[test]
    fn a_request_is_answered_and_the_server_stops() {
        let (listener, address) = listen();
        let mut server = Server::start("echo", Arc::new(Echo)).unwrap();
        let mut acceptor = listener.accept(server.sink()).unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let answer = get(&mut client, "/a?b=c");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("GET /a b=c"), "{answer}");
        // An idle connection does not keep the server.
        let _idle = TcpStream::connect(address).unwrap();
        acceptor.stop();
        server.stop();
    }
}
