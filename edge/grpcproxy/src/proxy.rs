//! The thread of a proxy, its ports and their connections.

use crate::layers::Layers;
use crate::leader::{self, Leader};
use crate::options::{Options, Traffic};
use crate::registry::{self, Registered};
use crate::service::answer;
use crate::shared::Proxy;
use crate::watches::Watches;
use client::{Client, Config};
use connection::{ClientRequest, Settings};
use net::tasks::spawn_local;
use net::tls::{Security, log_rejected};
use net::{AcceptedSocket, Acceptor, Listener, Seat, Seats};
use proto::etcdserverpb as pb;
use server::metrics::Metrics;
use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;

/// Accepted connections that wait for the thread.
const ACCEPTED_MAX: usize = 64;
/// The pause before the revision is asked for again. That of etcd.
const RECOVERY_PAUSE: Duration = Duration::from_secs(1);
/// The key that is read for the revision. That of etcd.
const RECOVERY_KEY: &[u8] = b"_";

/// A port of a proxy.
#[derive(Debug)]
pub struct Port {
    /// Where it listens.
    pub listener: Listener,
    /// Whether its connections have TLS.
    pub security: Security,
    /// What it serves.
    pub traffic: Traffic,
}

type Accepted = (AcceptedSocket, Security, Traffic);

/// A message that is never sent.
#[derive(Debug)]
enum Never {}

/// A proxy that serves. Dropping it closes its ports and its connections.
#[derive(Debug)]
pub struct GrpcProxy {
    acceptors: Vec<Acceptor>,
    /// The thread serves until this is dropped.
    serving: Option<oneshot::Sender<Never>>,
    thread: Option<JoinHandle<()>>,
}

impl GrpcProxy {
    /// Serves on a thread of its own.
    ///
    /// # Errors
    /// When the settings of a client are not valid, or there is no thread.
    pub fn start(options: Options, ports: Vec<Port>) -> Result<GrpcProxy, String> {
        let failed = |error: io::Error| format!("cannot serve: {error}");
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let connecting = async {
            let client = Client::connect(options.servers.clone()).await?;
            let itself = match &options.itself {
                Some(config) => Some(Client::connect(config.clone()).await?),
                None => None,
            };
            Ok((client, itself))
        };
        let (client, itself) =
            runtime.block_on(connecting).map_err(|error: client::Error| error.to_string())?;
        let (accepted, connections) = mpsc::channel(ACCEPTED_MAX);
        let (serving, ended) = oneshot::channel::<Never>();
        let thread = std::thread::Builder::new().name("grpc-proxy".to_owned()).spawn(move || {
            let serving = async {
                let served = serve(options, client, itself, connections);
                tokio::select! {
                    () = served => {}
                    _ = ended => {}
                }
            };
            LocalSet::new().block_on(&runtime, serving);
        });
        let thread = thread.map_err(failed)?;
        let mut acceptors = Vec::new();
        for Port { listener, security, traffic } in ports {
            let accepted = accepted.clone();
            let sink = move |socket| {
                if accepted.blocking_send((socket, security.clone(), traffic)).is_err() {
                    tracing::debug!("a connection came after the end");
                }
            };
            acceptors.push(listener.accept(sink).map_err(failed)?);
        }
        Ok(GrpcProxy { acceptors, serving: Some(serving), thread: Some(thread) })
    }
}

impl Drop for GrpcProxy {
    fn drop(&mut self) {
        // An acceptor may wait for the thread, whose end wakes it.
        self.serving = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the proxy panicked");
        }
        self.acceptors.iter_mut().for_each(Acceptor::stop);
    }
}

/// Serves connections until their queue is closed.
async fn serve(
    options: Options,
    client: Client,
    itself: Option<Client>,
    mut connections: mpsc::Receiver<Accepted>,
) {
    let settings = Rc::new(Settings {
        streams_max: options.streams_max,
        pings: options.pings,
        refused: Rc::new(|why| tracing::debug!(?why, "a request was refused")),
    });
    let seats = Seats::new(options.connections_max);
    let proxy = build(options, client, itself);
    while let Some((socket, security, traffic)) = connections.recv().await {
        let Some(seat) = seats.take().await else { return };
        let (proxy, settings) = (Rc::clone(&proxy), Rc::clone(&settings));
        spawn_local("client connection", async move {
            serve_connection(socket, seat, &security, &settings, move |request| {
                answer(Rc::clone(&proxy), traffic, request)
            })
            .await;
        });
    }
}

/// Makes the proxy and starts its tasks.
fn build(options: Options, client: Client, itself: Option<Client>) -> Rc<Proxy> {
    let metrics = Arc::new(Metrics::new(false));
    let layers = Rc::new(Layers::new(&client, options.namespace, options.order));
    let watches = Watches::new(client.clone(), Rc::clone(&layers), Arc::clone(&metrics));
    let (has_leader, leader) = Leader::new();
    spawn_local("leader", leader::follow(client.clone(), has_leader));
    let registry = Rc::default();
    let advertised = (!options.advertised.is_empty())
        .then_some(Registered { name: options.host_name, address: options.advertised });
    if let (Some(registration), Some(own)) = (options.registration, &advertised) {
        let follow = registry::follow(
            client.clone(),
            Rc::clone(&layers),
            registration.prefix.clone(),
            Rc::clone(&registry),
        );
        spawn_local("registry", follow);
        let (client, layers, own) = (client.clone(), Rc::clone(&layers), own.clone());
        spawn_local("registration", registry::register(client, layers, registration, own));
    }
    Rc::new(Proxy {
        client,
        itself,
        layers,
        cache: RefCell::default(),
        watches,
        leader,
        advertised,
        registry,
        metrics,
        profiles: options.profiles,
        calls: Cell::new(0),
    })
}

async fn serve_connection<F: Future<Output = rpc::body::Reply>>(
    socket: AcceptedSocket,
    seat: Seat,
    security: &Security,
    settings: &Settings,
    service: impl Fn(ClientRequest) -> F,
) {
    let io = match socket.into_stream() {
        Ok(io) => io,
        Err(error) => return tracing::warn!(%error, "cannot serve a connection"),
    };
    let remote = io.remote();
    let stream = match security.open(io, &seat).await {
        Ok(stream) => stream,
        Err(error) => return log_rejected("client", remote, &error),
    };
    let never = std::future::pending();
    if let Err(error) = connection::serve(stream, settings, seat, never, service).await {
        let remote = remote.map(|remote| remote.to_string());
        tracing::debug!("remote-addr" = remote, %error, "a client's connection broke");
    }
}

/// The revision of the cluster, from which ordered reads begin. Waits until a server answers.
///
/// # Errors
/// When the settings of the client are not valid.
pub fn recover_order(servers: &Config) -> Result<i64, String> {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot serve: {error}"))?;
    runtime.block_on(async {
        let client = Client::connect(servers.clone()).await.map_err(|error| error.to_string())?;
        loop {
            let request = pb::RangeRequest {
                key: RECOVERY_KEY.into(),
                keys_only: true,
                ..Default::default()
            };
            match client.range(request).await {
                Ok(response) => return Ok(response.header.map_or(0, |header| header.revision)),
                Err(error) => {
                    tracing::warn!(%error, "ordering recovery failed, retrying in 1s");
                    tokio::time::sleep(RECOVERY_PAUSE).await;
                }
            }
        }
    })
}
