//! A small HTTP server for the ports that carry no load: peers and `--listen-metrics-urls`.
//!
//! One thread and one runtime serve all its listeners; connections are limited in number, and
//! each has a time limit for its headers. Not for clients: those go to the workers.

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::LocalSet;

/// Connections at a time; further ones wait.
const CONNECTIONS_MAX: usize = 256;
/// Connections that wait to be taken up before accepting drops them.
const QUEUE: usize = 64;
/// etcd's limit for a request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(300);

/// What a server says to a request.
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
        let (queue, connections) = mpsc::channel(QUEUE);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            LocalSet::new().block_on(&runtime, serve(connections, handler));
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
                tracing::warn!("too many connections wait at a port for peers or metrics");
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

async fn serve<H: Handler>(mut connections: mpsc::Receiver<TcpStream>, handler: Arc<H>) {
    let slots = Rc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(stream) = connections.recv().await {
        let Ok(stream) = tokio::net::TcpStream::from_std(stream) else { continue };
        let slots = Rc::clone(&slots);
        let handler = Arc::clone(&handler);
        tokio::task::spawn_local(async move {
            let Ok(_slot) = slots.acquire().await else { return };
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
                tracing::debug!(%error, "a connection of a peer or for metrics ended");
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
            Response::new(Bytes::from(format!("{method} {path} {query}")))
        }
    }

    #[test]
    fn a_request_is_answered_and_the_server_stops() {
        let url = Url::parse("http://127.0.0.1:0").unwrap();
        let listener = Listener::bind(&url, SocketOptions::default()).unwrap();
        let address = listener.local_addr().unwrap();
        let mut server = Server::start("echo", Arc::new(Echo)).unwrap();
        let mut acceptor = listener.accept(server.sink()).unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        let request = b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        client.write_all(request).unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.ends_with("GET /a b=c"), "{answer}");
        // An idle connection does not keep the server.
        let _idle = TcpStream::connect(address).unwrap();
        acceptor.stop();
        server.stop();
    }
}
