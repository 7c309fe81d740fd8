//! Round-robin balancing: each call uses the next endpoint that can be connected to.
//!
//! Source: etcd v3.7.1 client/v3 (round robin, wait for ready); grpc-go's connection backoff.

use crate::Error;
use crate::connect::{Connection, Dial};
use crate::endpoint::{Endpoint, authority};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;

/// What is called with each [`Warning`].
pub type OnWarning = Arc<dyn Fn(&Warning) + Send + Sync>;

/// How a client reaches its servers.
#[derive(Clone)]
pub struct Config {
    /// `host:port`, `http://host:port` or `unix://path`; at least one.
    pub endpoints: Vec<String>,
    /// For one connection.
    pub dial_timeout: Duration,
    /// A ping is sent after this long without traffic; at least 10 s, as in grpc-go.
    pub keep_alive_time: Duration,
    /// A connection is given up when a ping is not answered for this long.
    pub keep_alive_timeout: Duration,
    /// The largest request in bytes.
    pub request_bytes_max: usize,
    /// The largest answer in bytes.
    pub answer_bytes_max: usize,
    /// Name and password; a token is asked for with them.
    pub user: Option<(String, String)>,
    /// A token, instead of name and password.
    pub token: Option<String>,
    /// Called with each failed attempt.
    pub on_warning: Option<OnWarning>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config").field("endpoints", &self.endpoints).finish_non_exhaustive()
    }
}

impl Config {
    /// etcd's defaults for these endpoints.
    #[must_use]
    pub fn new(endpoints: Vec<String>) -> Config {
        Config {
            endpoints,
            dial_timeout: Duration::from_secs(20),
            keep_alive_time: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(6),
            request_bytes_max: 2 << 20,
            answer_bytes_max: i32::MAX as usize,
            user: None,
            token: None,
            on_warning: None,
        }
    }
}

/// A failed attempt of a call.
#[derive(Clone, Debug)]
pub struct Warning {
    /// The endpoints, as Go's client names its target.
    pub target: String,
    /// The server, as grpc-go describes it.
    pub peer: String,
    /// The path of the method.
    pub method: &'static str,
    /// From 0.
    pub attempt: u32,
    /// What happened, as grpc-go prints it.
    pub error: String,
}

#[derive(Debug)]
struct EndpointState {
    endpoint: Endpoint,
    connection: Option<Connection>,
    failures: u32,
    /// No connection is tried before this time.
    retry_at: Option<Instant>,
}

#[derive(Debug)]
struct Endpoints {
    all: Vec<EndpointState>,
    next: usize,
}

/// The endpoints and their connections.
#[derive(Debug)]
pub(crate) struct Balancer {
    pub(crate) config: Config,
    endpoints: Mutex<Endpoints>,
    last_error: std::sync::Mutex<Option<String>>,
}

impl Balancer {
    pub(crate) fn new(config: Config) -> Result<Balancer, Error> {
        if config.endpoints.is_empty() {
            return Err(Error::Config("etcdclient: no available endpoints".to_string()));
        }
        let endpoints: Result<Vec<_>, _> =
            config.endpoints.iter().map(|text| Endpoint::parse(text)).collect();
        let state =
            |endpoint| EndpointState { endpoint, connection: None, failures: 0, retry_at: None };
        let all = endpoints?.into_iter().map(state).collect();
        Ok(Balancer {
            config,
            endpoints: Mutex::new(Endpoints { all, next: 0 }),
            last_error: std::sync::Mutex::new(None),
        })
    }

    /// The target name of Go's client; the number distinguishes clients.
    pub(crate) fn target(self: &Arc<Self>) -> String {
        let first = authority(&self.config.endpoints[0]);
        format!("etcd-endpoints://{:p}/{first}", Arc::as_ptr(self))
    }

    /// The error of the last connection attempt, if none has succeeded since.
    pub(crate) fn last_error(&self) -> Option<String> {
        self.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn note(&self, error: Option<String>) {
        *self.last_error.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = error;
    }

    /// Waits until there is a connection, without a limit.
    pub(crate) async fn pick(&self) -> Connection {
        loop {
            let mut endpoints = self.endpoints.lock().await;
            for _ in 0..endpoints.all.len() {
                let at = endpoints.next % endpoints.all.len();
                endpoints.next = at + 1;
                let state = &mut endpoints.all[at];
                if let Some(connection) = &state.connection
                    && connection.is_open()
                {
                    return connection.clone();
                }
                if state.retry_at.is_some_and(|until| until > Instant::now()) {
                    continue;
                }
                match Connection::open(&state.endpoint, self.dial()).await {
                    Ok(connection) => {
                        state.failures = 0;
                        state.connection = Some(connection.clone());
                        self.note(None);
                        return connection;
                    }
                    Err(why) => {
                        state.retry_at = Some(Instant::now() + backoff(state.failures));
                        state.failures += 1;
                        state.connection = None;
                        self.note(Some(why));
                    }
                }
            }
            let wake = endpoints.all.iter().filter_map(|state| state.retry_at).min();
            drop(endpoints);
            tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)).await;
        }
    }

    fn dial(&self) -> Dial {
        /// grpc-go does not ping more often.
        const PING_TIME_MIN: Duration = Duration::from_secs(10);
        Dial {
            timeout: self.config.dial_timeout,
            keep_alive_time: self.config.keep_alive_time.max(PING_TIME_MIN),
            keep_alive_timeout: self.config.keep_alive_timeout,
        }
    }

    pub(crate) fn warn(self: &Arc<Self>, method: &'static str, attempt: u32, status: Failed<'_>) {
        if let Some(tell) = &self.config.on_warning {
            tell(&Warning {
                target: self.target(),
                peer: status.peer.to_string(),
                method,
                attempt,
                error: Error::from(status.status.clone()).as_rpc_error(),
            });
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
