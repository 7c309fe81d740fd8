//! The settings of a client, and its warnings.

use net::tls::ClientOptions as TlsOptions;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The callback for each [`Warning`].
pub type OnWarning = Arc<dyn Fn(&Warning) + Send + Sync>;

/// How a client reaches its servers.
#[derive(Clone)]
pub struct Config {
    /// `host:port`, `unix:path`, or with a scheme: `http`, `https`, `unix` or `unixs`; at least one.
    pub endpoints: Vec<String>,
    /// TLS for endpoints with the scheme `https` or `unixs`, and for those without a scheme. If it
    /// is `None`, endpoints without a scheme are connected in plain text, and the others trust the
    /// certificate authorities of the operating system.
    pub tls: Option<TlsOptions>,
    /// The time limit of a connection attempt, up to the server's SETTINGS.
    pub dial_timeout: Duration,
    /// A ping is sent after this long without traffic; at least 10 s, as in grpc-go. Zero for no pings.
    pub keep_alive_time: Duration,
    /// Whether pings are also sent while there is no call.
    pub pings_without_calls: bool,
    /// The connection is closed when a ping is not answered for this long.
    pub keep_alive_timeout: Duration,
    /// The maximum size of a request in bytes.
    pub request_bytes_max: usize,
    /// The maximum size of a response in bytes.
    pub answer_bytes_max: usize,
    /// Name and password, which the client exchanges for a token.
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
            tls: None,
            dial_timeout: Duration::from_secs(20),
            keep_alive_time: Duration::from_secs(10),
            keep_alive_timeout: Duration::from_secs(6),
            pings_without_calls: false,
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
    /// The server, as grpc-go prints a peer.
    pub peer: String,
    /// The path of the method.
    pub method: &'static str,
    /// From 0.
    pub attempt: u32,
    /// The error, as grpc-go prints it.
    pub error: String,
}
