//! Serves the client connections of each worker: the gRPC services and the HTTP endpoints.

use crate::profiles;
use crate::status::MemberStatus;
use api::{Authenticator, HttpAnswer, Limits, Service, Traffic, WorkerHost};
use connection::ClientRequest;
use net::tls::{self, Security};
use net::{AcceptedSocket, RemoteName, Seat};
use rpc::body::Body;
use server::{Connections, TakeOver, Worker};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::watch;

/// A client's connection as it is passed to a worker.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) socket: AcceptedSocket,
    pub(crate) seat: Seat,
    /// Those of the listener.
    pub(crate) security: Security,
    pub(crate) traffic: Traffic,
}

/// Serves the clients' port on every worker.
#[derive(Debug)]
pub(crate) struct Clients {
    pub(crate) status: Arc<MemberStatus>,
    pub(crate) limits: Limits,
    pub(crate) authenticator: Arc<Authenticator>,
    /// Whether profiles are served.
    pub(crate) has_profiles: bool,
    /// Becomes true when the server stops.
    pub(crate) stopping: watch::Receiver<bool>,
}

impl Connections for Clients {
    fn open(&self, worker: Worker) -> TakeOver {
        let host = WorkerHost::new(worker, Arc::clone(&self.authenticator));
        let (status, has_profiles) = (Arc::clone(&self.status), self.has_profiles);
        let http = Rc::new(move |request| answer(Arc::clone(&status), has_profiles, request));
        let service = Service::new(host, self.limits.clone(), http);
        let stopping = self.stopping.clone();
        Box::new(move |mut guard| {
            let Some(place) = guard.take::<Place>() else {
                tracing::error!("a client's connection was closed: it came without a place");
                return;
            };
            spawn(guard, serve(service.clone(), *place, stopping.clone()));
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
    Place { socket, seat, security, traffic }: Place,
    mut stopping: watch::Receiver<bool>,
) {
    let io = match socket.into_stream() {
        Ok(io) => io,
        Err(error) => {
            tracing::warn!(%error, "cannot serve a connection");
            return;
        }
    };
    let remote = io.remote();
    let stream = match security.open(io, &seat).await {
        Ok(stream) => stream,
        Err(error) => return tls::log_rejected("client", remote, &error),
    };
    let service = service.from_address(remote).serving(traffic);
    let service = match stream.is_secure() {
        true => service.secured(stream.common_name()),
        false => service,
    };
    let stopped = async move {
        if stopping.wait_for(|stopping| *stopping).await.is_err() {
            tracing::debug!("the server is gone before its connections");
        }
    };
    if let Err(error) = service.serve(stream, seat, stopped).await {
        log_broken(remote, &error);
    }
}

/// Clients that break off are common; one that breaks the rules of HTTP/2 is not.
fn log_broken(remote: Option<RemoteName>, error: &connection::Error) {
    let remote = remote.map(|remote| remote.to_string());
    if matches!(error, connection::Error::Client(_)) {
        tracing::warn!("remote-addr" = remote, %error, "closed a client's connection");
    } else {
        tracing::debug!("remote-addr" = remote, %error, "a client's connection broke");
    }
}

/// Answers requests that are not gRPC.
fn answer(status: Arc<MemberStatus>, has_profiles: bool, request: ClientRequest) -> HttpAnswer {
    Box::pin(async move {
        let http::request::Parts { method, uri, .. } = &*request.head;
        let query = uri.query().unwrap_or("");
        if has_profiles && let Some(answer) = profiles::answer(uri.path(), query).await {
            return answer.map(Body::plain);
        }
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
