//! A small HTTP server for ports without load: peers and `--listen-metrics-urls`.
//!
//! One thread serves all listeners. The number of connections is limited, and so is the time of
//! each of their states ([`crate::limits`]). Clients are served by the workers instead.

mod body;

pub use body::{BodyError, ChunkSource, PlainBody, PlainRequest};

use crate::limits::{HEAD_TIME_MAX, PLAIN_WAITING_MAX};
use crate::seats::{Seat, Seats};
use crate::socket::AcceptedSocket;
use crate::tasks;
use crate::timed::TimedStream;
use crate::tls::{self, Security};
use bytes::Bytes;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// Answers the requests of a server.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; `path` and `query` are as the client sent them.
    fn answer(
        &self,
        method: &Method,
        path: &str,
        query: &str,
    ) -> impl Future<Output = Response<Bytes>>;

    /// Answers one request that may have a body; the answer's body may be a stream. By default it
    /// calls [`Handler::answer`].
    fn serve(&self, request: PlainRequest) -> impl Future<Output = Response<PlainBody>> {
        async move {
            let uri = &request.head.uri;
            let query = uri.query().unwrap_or("");
            self.answer(&request.head.method, uri.path(), query).await.map(PlainBody::whole)
        }
    }
}

/// A connection, and the security of its listener.
type Accepted = (AcceptedSocket, Security);

/// The running thread.
#[derive(Debug)]
pub struct Server {
    queue: Option<mpsc::Sender<Accepted>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts the thread, of this name. It serves at most `served_max` connections at a time.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be started.
    pub fn start<H: Handler>(name: &str, handler: Arc<H>, served_max: usize) -> io::Result<Self> {
        let (queue, connections) = mpsc::channel(PLAIN_WAITING_MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let endpoint = name.to_owned();
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let served = serve(endpoint.into(), connections, handler, served_max);
            LocalSet::new().block_on(&runtime, served);
        })?;
        Ok(Self { queue: Some(queue), thread: Some(thread) })
    }

    /// The sink for the connections of a listener with this security: see
    /// [`crate::Listener::accept`]. While the queue is full the sink waits, and further connections
    /// wait in the kernel.
    pub fn sink(&self, security: Security) -> impl Fn(AcceptedSocket) + Send + 'static {
        let queue = self.queue.clone();
        move |stream| {
            if let Some(queue) = &queue
                && queue.blocking_send((stream, security.clone())).is_err()
            {
                tracing::debug!("a connection for peers or metrics came after the end");
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
    endpoint: Rc<str>,
    mut connections: mpsc::Receiver<Accepted>,
    handler: Arc<H>,
    served_max: usize,
) {
    let seats = Seats::new(served_max);
    while let Some((stream, security)) = connections.recv().await {
        let Ok(stream) = stream.into_stream() else { continue };
        let (Some(seat), handler) = (seats.take().await, Arc::clone(&handler)) else { return };
        let endpoint = Rc::clone(&endpoint);
        tasks::spawn_local("connection for peers or metrics", async move {
            let remote = stream.remote();
            match security.open(stream, &seat).await {
                Ok(stream) => serve_one(stream, seat, handler).await,
                Err(error) => tls::log_rejected(&endpoint, remote, &error),
            }
        });
    }
}

/// Serves one connection until it ends or is closed in favour of another one.
async fn serve_one<H: Handler>(stream: tls::Stream, seat: Seat, handler: Arc<H>) {
    let seat = Rc::new(seat);
    let stream = TimedStream::new(stream);
    let stall_limit = stream.stall_limit();
    let seat_of_requests = Rc::clone(&seat);
    let service = service_fn(move |request: Request<Incoming>| {
        let (handler, in_use) = (Arc::clone(&handler), seat_of_requests.begin());
        let stall_limit = stall_limit.clone();
        async move {
            let mut response = handler.serve(PlainRequest::new(request)).await;
            response.body_mut().begin(in_use, &stall_limit);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .serve_connection(TokioIo::new(stream), service);
    tokio::select! {
        served = connection => if let Err(error) = served {
            tracing::debug!(%error, "a connection for peers or metrics broke");
        },
        () = seat.closing() => {
            tracing::debug!("an idle connection for peers or metrics makes room for another one");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::PLAIN_SERVED_MAX;
    use crate::{Listener, SocketOptions, Url};
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

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
    fn idle_connections_make_room_for_a_request() {
        let (listener, address) = listen();
        let server = Server::start("idle", Arc::new(Echo), PLAIN_SERVED_MAX).unwrap();
        let _acceptor = listener.accept(server.sink(Security::Plain)).unwrap();
        let mut idle: Vec<TcpStream> = Vec::new();
        for sent in ["", "GET", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
            for _ in 0..300 {
                let mut client = TcpStream::connect(address).unwrap();
                client.write_all(sent.as_bytes()).unwrap();
                idle.push(client);
            }
            let mut probe = TcpStream::connect(address).unwrap();
            probe.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let answer = get(&mut probe, "/version");
            assert!(answer.starts_with("HTTP/1.1 200 OK"), "{sent:?}: {answer}");
        }
    }

    #[test]
    fn a_handler_that_panics_ends_its_connection_only() {
        let (listener, address) = listen();
        let server = Server::start("panics", Arc::new(Echo), 1).unwrap();
        let _acceptor = listener.accept(server.sink(Security::Plain)).unwrap();
        let panics = tasks::panics();
        assert_eq!(get(&mut TcpStream::connect(address).unwrap(), "/panic"), "");
        let answer = get(&mut TcpStream::connect(address).unwrap(), "/a");
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "its slot is free again: {answer}");
        assert!(tasks::panics() > panics);
    }

    #[test]
    fn a_request_is_answered_and_the_server_stops() {
        let (listener, address) = listen();
        let mut server = Server::start("echo", Arc::new(Echo), PLAIN_SERVED_MAX).unwrap();
        let mut acceptor = listener.accept(server.sink(Security::Plain)).unwrap();
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
