//! Round-robin balancing: each call uses the next endpoint that is connected.
//!
//! Each endpoint is connected by a task of its own, so that no call waits for an endpoint while
//! another can serve it. An endpoint that does not respond to a request is used only if there is no
//! other, and a new connection to it is opened. Once the SETTINGS arrive on that connection, the
//! endpoint is used like the others.
//!
//! Source: etcd v3.7.1 client/v3 (round robin); grpc-go's connection backoff.

use crate::Error;
use crate::config::{Config, Warning};
use crate::connect::{Connection, Dial};
use crate::endpoint::{Endpoint, authority, needs_tls};
use crate::transport::Network;
use net::tls::{ClientOptions as TlsOptions, ClientTls};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

#[derive(Debug)]
struct EndpointState {
    endpoint: Endpoint,
    connection: Option<Connection>,
    /// True while a task is connecting.
    connecting: bool,
    failures: u32,
    /// No connection is tried before this time.
    retry_at: Option<Instant>,
}

impl EndpointState {
    fn new(endpoint: Endpoint) -> EndpointState {
        EndpointState { endpoint, connection: None, connecting: false, failures: 0, retry_at: None }
    }

    fn open(&self) -> Option<&Connection> {
        self.connection.as_ref().filter(|connection| connection.is_open())
    }

    /// The connection, if its server is not silent.
    fn lively(&self) -> Option<&Connection> {
        self.open().filter(|connection| !connection.silence_timer().is_silent())
    }
}

#[derive(Debug)]
struct Endpoints {
    all: Vec<EndpointState>,
    next: usize,
    last_error: Option<String>,
}

impl Endpoints {
    /// The connection of the next endpoint that passes the test.
    fn choose<'a>(
        &'a mut self,
        test: impl Fn(&'a EndpointState) -> Option<&'a Connection>,
    ) -> Option<Connection> {
        let count = self.all.len();
        let order = (self.next..self.next + count).map(|at| at % count);
        let (at, found) =
            order.into_iter().find_map(|at| Some((at, test(&self.all[at])?.clone())))?;
        self.next = at + 1;
        Some(found)
    }

    /// Marks the endpoints that must be connected now, and returns their positions.
    fn start_due(&mut self, now: Instant) -> Vec<usize> {
        let alone = self.all.len() == 1;
        let mut due = Vec::new();
        for (at, state) in self.all.iter_mut().enumerate() {
            // The only endpoint is used even if it is silent.
            let is_served = state.lively().is_some() || (alone && state.open().is_some());
            if is_served || state.connecting || state.retry_at.is_some_and(|until| until > now) {
                continue;
            }
            state.connecting = true;
            due.push(at);
        }
        due
    }

    /// When the next endpoint may be connected.
    fn next_retry(&self) -> Option<Instant> {
        let waiting = self.all.iter().filter(|state| !state.connecting);
        waiting.filter_map(|state| state.retry_at).min()
    }
}

/// The endpoints and their connections.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) config: Config,
    pub(crate) network: Arc<dyn Network>,
    /// Invariant: the lock is never held across an await.
    endpoints: Mutex<Endpoints>,
    /// Notified when an attempt to connect has ended.
    changed: Notify,
}

impl Balancer {
    pub(crate) fn new(config: Config, network: Arc<dyn Network>) -> Result<Balancer, Error> {
        if config.endpoints.is_empty() {
            return Err(Error::Config("etcdclient: no available endpoints".to_string()));
        }
        let tls = tls(&config, &["h2"])?.map(Arc::new);
        let endpoints = config.endpoints.iter().map(|text| Endpoint::parse(text, tls.as_ref()));
        let all = endpoints.map(EndpointState::new).collect();
        let endpoints = Mutex::new(Endpoints { all, next: 0, last_error: None });
        Ok(Balancer { config, network, endpoints, changed: Notify::new() })
    }

    /// The target name of Go's client; the number distinguishes clients.
    pub(crate) fn target(self: &Arc<Self>) -> String {
        let first = authority(&self.config.endpoints[0]);
        format!("etcd-endpoints://{:p}/{first}", Arc::as_ptr(self))
    }

    fn lock(&self) -> MutexGuard<'_, Endpoints> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The error of the last connection attempt, if none has succeeded since.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.lock().last_error.clone()
    }

    /// As [`Balancer::last_error`], while no endpoint is connected.
    pub(crate) fn unconnected(&self) -> Option<String> {
        let endpoints = self.lock();
        let connected = endpoints.all.iter().any(|state| state.open().is_some());
        endpoints.last_error.clone().filter(|_| !connected)
    }

    /// Waits for a connection, without a time limit. One whose server is silent is used only if
    /// there is no other.
    pub(crate) async fn pick(self: &Arc<Self>) -> Connection {
        let choose = |endpoints: &mut Endpoints| {
            endpoints
                .choose(EndpointState::lively)
                .or_else(|| endpoints.choose(EndpointState::open))
        };
        self.wait_for(choose).await
    }

    /// Waits until there is a connection other than this one whose server is not silent.
    pub(crate) async fn pick_other(self: &Arc<Self>, than: &Connection) -> Connection {
        let other = |state: &EndpointState| state.lively().is_some_and(|found| !found.is(than));
        let choose = |endpoints: &mut Endpoints| {
            endpoints.choose(|state| state.lively().filter(|_| other(state)))
        };
        self.wait_for(choose).await
    }

    async fn wait_for(
        self: &Arc<Self>,
        choose: impl Fn(&mut Endpoints) -> Option<Connection>,
    ) -> Connection {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // Registers before looking, so that no change is missed.
            changed.as_mut().enable();
            let (found, retry) = self.look(&choose);
            if let Some(connection) = found {
                return connection;
            }
            let retry = async {
                match retry {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = changed => {}
                () = retry => {}
            }
        }
    }

    /// Chooses a connection, and starts the connection attempts that are due. Also returns the time
    /// of the next attempt.
    fn look(
        self: &Arc<Self>,
        choose: impl Fn(&mut Endpoints) -> Option<Connection>,
    ) -> (Option<Connection>, Option<Instant>) {
        let mut endpoints = self.lock();
        let due: Vec<(usize, Endpoint)> = endpoints
            .start_due(Instant::now())
            .into_iter()
            .map(|at| (at, endpoints.all[at].endpoint.clone()))
            .collect();
        let chosen = (choose(&mut endpoints), endpoints.next_retry());
        // A runtime that is shutting down drops new tasks at once, and dropping them takes the
        // lock.
        drop(endpoints);
        for (at, endpoint) in due {
            let attempt = ConnectTask { balancer: Arc::downgrade(self), at, result: None };
            tokio::spawn(attempt.run(Arc::clone(&self.network), endpoint, self.dial()));
        }
        chosen
    }

    fn dial(&self) -> Dial {
        /// grpc-go does not ping more often.
        const PING_TIME_MIN: Duration = Duration::from_secs(10);
        Dial {
            timeout: self.config.dial_timeout,
            keep_alive_time: (!self.config.keep_alive_time.is_zero())
                .then(|| self.config.keep_alive_time.max(PING_TIME_MIN)),
            pings_without_calls: self.config.pings_without_calls,
            keep_alive_timeout: self.config.keep_alive_timeout,
        }
    }

    fn finish(&self, at: usize, result: Result<Connection, String>) {
        let mut endpoints = self.lock();
        let state = &mut endpoints.all[at];
        state.connecting = false;
        match result {
            Ok(connection) => {
                state.failures = 0;
                state.retry_at = None;
                state.connection = Some(connection);
                endpoints.last_error = None;
            }
            Err(why) => {
                state.retry_at = Some(Instant::now() + backoff(state.failures));
                state.failures += 1;
                endpoints.last_error = Some(why);
            }
        }
        drop(endpoints);
        self.changed.notify_waiters();
    }

    pub(crate) fn warn(self: &Arc<Self>, method: &'static str, attempt: u32, status: Failed<'_>) {
        if let Some(warn) = &self.config.on_warning {
            warn(&Warning {
                target: self.target(),
                peer: status.peer.to_string(),
                method,
                attempt,
                error: Error::from(status.status.clone()).as_rpc_error(),
            });
        }
    }
}

/// The TLS configuration. If an endpoint needs TLS and none is configured, it trusts the
/// certificate authorities of the operating system. It offers these protocols (ALPN).
pub(crate) fn tls(config: &Config, protocols: &[&'static str]) -> Result<Option<ClientTls>, Error> {
    let is_needed = config.endpoints.iter().any(|endpoint| needs_tls(endpoint));
    let options = config.tls.clone().or_else(|| is_needed.then(TlsOptions::default));
    let with_protocol = |options| TlsOptions { protocols: protocols.to_vec(), ..options };
    let tls = options.map(|options| ClientTls::new(with_protocol(options))).transpose();
    tls.map_err(|error| Error::Config(error.to_string()))
}

/// The task that connects one endpoint. It reports its end even if it panics.
struct ConnectTask {
    balancer: Weak<Balancer>,
    at: usize,
    result: Option<Result<Connection, String>>,
}

impl ConnectTask {
    async fn run(mut self, network: Arc<dyn Network>, endpoint: Endpoint, dial: Dial) {
        self.result = Some(Connection::open(&*network, &endpoint, dial).await);
    }
}

impl Drop for ConnectTask {
    fn drop(&mut self) {
        let failed = || Err("connection error: desc = \"the client's task failed\"".to_string());
        if let Some(balancer) = self.balancer.upgrade() {
            balancer.finish(self.at, self.result.take().unwrap_or_else(failed));
        }
    }
}

/// A failed attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed<'a> {
    pub(crate) peer: &'a str,
    pub(crate) status: &'a tonic::Status,
}

/// grpc-go waits 1 s after the first failure, and 1.6 times as long after each further one.
fn backoff(failures: u32) -> Duration {
    const MAX: Duration = Duration::from_secs(120);
    Duration::from_secs(1).mul_f64(1.6_f64.powi(failures.min(12).cast_signed())).min(MAX)
}
