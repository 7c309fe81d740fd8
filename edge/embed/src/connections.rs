//! Serves the client connections of each worker: the gRPC services and the HTTP endpoints.

use crate::status::MemberStatus;
use api::{HttpAnswer, Limits, Service, WorkerHost};
use hyper::body::Incoming;
use net::Seat;
use rpc::body::Body;
use server::{Connections, TakeOver, Worker};
use std::net::TcpStream;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::watch;

/// Serves the clients' port on every worker.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) status: Arc<MemberStatus>,
    pub(crate) limits: Limits,
    /// Becomes true when the server stops.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Connections for Clients {
    fn open(&self, worker: Worker) -> TakeOver {
        let host = WorkerHost::new(worker);
        let status = Arc::clone(&self.status);
        let http = Rc::new(move |request| answer(Arc::clone(&status), request));
        let service = Service::new(host, self.limits.clone(), http);
        let stopping = self.stopping.clone();
        Box::new(move |stream, mut guard| {
            let Some(seat) = guard.take_attachment::<Seat>() else {
                tracing::error!("a client's connection was closed: it came without a place");
                return;
            };
            spawn(guard, serve(service.clone(), stream, *seat, stopping.clone()));
        })
    }
}

/// Runs the task of one connection. `guard` is kept until the task ends in any way.
fn spawn(guard: impl Sized + 'static, work: impl Future<Output = ()> + 'static) {
    net::tasks::spawn_local("client connection", async move {
        let _guard = guard;
        work.await;
    });
}

async fn serve(
    service: Service<WorkerHost>,
    stream: TcpStream,
    seat: Seat,
    mut stopping: watch::Receiver<bool>,
) {
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
    if let Err(error) = service.serve(io, seat, stopped).await {
        tracing::debug!(error = error.to_string(), "a client's connection broke");
    }
}

/// Answers requests that are not gRPC.
fn answer(status: Arc<MemberStatus>, request: http::Request<Incoming>) -> HttpAnswer {
    Box::pin(async move {
        let uri = request.uri();
        let query = uri.query().unwrap_or("");
        let method = request.method();
        let answer = net::endpoints::client(&*status, method, uri.path(), query).await;
        answer.unwrap_or_else(net::endpoints::not_found).map(Body::plain)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_whose_task_panics_gives_its_place_back() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let seats = net::Seats::new(1);
        let guard = Rc::new(());
        let kept = Rc::downgrade(&guard);
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let seat = seats.take().await.unwrap();
            spawn(guard, async move {
                let _seat = seat;
                panic!("on purpose")
            });
            assert_eq!((seats.taken(), kept.strong_count()), (1, 1));
            for _ in 0..10 {
                tokio::task::yield_now().await;
            }
        });
        assert_eq!((seats.taken(), kept.strong_count()), (0, 0));
    }
}
