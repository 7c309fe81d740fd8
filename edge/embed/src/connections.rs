//! Serves the client connections of each worker: the gRPC services and the HTTP endpoints.

use crate::facts::MemberFacts;
use api::{HttpAnswer, Limits, OfWorker, Service};
use hyper::body::Incoming;
use rpc::body::Body;
use server::{Connections, TakeOver, Worker};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::watch;

/// Serves the clients' port on every worker.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) facts: Arc<MemberFacts>,
    pub(crate) limits: Limits,
    /// Becomes true when the server stops.
    pub(crate) stopping: watch::Receiver<bool>,
    /// Connections that are open.
    pub(crate) open: Arc<AtomicUsize>,
}

impl Connections for Clients {
    fn open(&self, worker: Worker) -> TakeOver {
        let host = OfWorker::new(worker);
        let facts = Arc::clone(&self.facts);
        let http = Rc::new(move |request| answer(Arc::clone(&facts), request));
        let service = Service::new(host, self.limits.clone(), http);
        let (stopping, open) = (self.stopping.clone(), Arc::clone(&self.open));
        Box::new(move |stream, guard| {
            let work = serve(service.clone(), stream, stopping.clone());
            serve_counted(Arc::clone(&open), guard, work);
        })
    }
}

/// Runs the task of one connection. It is counted as open, and `guard` is kept, until the task
/// ends in any way.
fn serve_counted(
    open: Arc<AtomicUsize>,
    guard: impl Sized + 'static,
    work: impl Future<Output = ()> + 'static,
) {
    open.fetch_add(1, Ordering::Relaxed);
    let guards = (guard, OpenConnection(open));
    net::tasks::spawn_local("client connection", async move {
        let _guards = guards;
        work.await;
    });
}

/// Counts a connection as open until it is dropped.
struct OpenConnection(Arc<AtomicUsize>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn serve(service: Service<OfWorker>, stream: TcpStream, mut stopping: watch::Receiver<bool>) {
    let io = match tokio::net::TcpStream::from_std(stream) {
        Ok(io) => io,
        Err(error) => {
            tracing::warn!(%error, "cannot serve a connection");
            return;
        }
    };
    let stopped = async move {
        if stopping.wait_for(|stopping| *stopping).await.is_err() {
            tracing::debug!("the server is gone before its connections");
        }
    };
    if let Err(error) = service.serve(io, stopped).await {
        tracing::debug!(error = error.to_string(), "a client's connection broke");
    }
}

/// Answers requests that are not gRPC.
fn answer(facts: Arc<MemberFacts>, request: http::Request<Incoming>) -> HttpAnswer {
    Box::pin(async move {
        let uri = request.uri();
        let query = uri.query().unwrap_or("");
        let method = request.method();
        let answer = net::endpoints::client(&*facts, method, uri.path(), query).await;
        answer.unwrap_or_else(net::endpoints::not_found).map(Body::plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_whose_task_panics_gives_its_gauges_back() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let open = Arc::new(AtomicUsize::new(0));
        let guard = Rc::new(());
        let kept = Rc::downgrade(&guard);
        tokio::task::LocalSet::new().block_on(&runtime, async {
            serve_counted(Arc::clone(&open), guard, async { panic!("on purpose") });
            assert_eq!((open.load(Ordering::Relaxed), kept.strong_count()), (1, 1));
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        });
        assert_eq!((open.load(Ordering::Relaxed), kept.strong_count()), (0, 0));
    }
}
