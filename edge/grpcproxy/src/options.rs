//! What a proxy is made of.

use bytes::Bytes;
use client::Config;
use http::Response;
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

/// Answers requests below `/debug/pprof` from their path and query; `None` for other paths.
pub type Profiles = fn(String, String) -> Pin<Box<dyn Future<Output = Option<Response<Bytes>>>>>;

/// What a proxy is made of.
#[derive(Clone)]
pub struct Options {
    /// The servers.
    pub servers: Config,
    /// The proxy itself, for `/proxy/health`; `None` if it advertises no address.
    pub itself: Option<Config>,
    /// The address that the list of members shows; empty to show the members of the cluster.
    pub advertised: String,
    /// The name of this machine.
    pub host_name: String,
    /// How the proxy makes itself known to other proxies.
    pub registration: Option<Registration>,
    /// The prefix that all keys get; empty for none.
    pub namespace: Vec<u8>,
    /// The revision that reads must have reached; `None` if they need no order.
    pub order: Option<i64>,
    /// The maximum number of open streams of a connection.
    pub streams_max: u32,
    /// The time of silence after which a client is pinged, and the time that it has to answer.
    pub pings: Option<(Duration, Duration)>,
    /// The maximum number of connections.
    pub connections_max: usize,
    /// The profiles, if they are served.
    pub profiles: Option<Profiles>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Options { servers, advertised, .. } = self;
        let mut options = f.debug_struct("Options");
        options.field("servers", servers).field("advertised", advertised).finish_non_exhaustive()
    }
}

/// A key with a lease for each proxy, from which all of them know each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The keys are below `PREFIX/`.
    pub prefix: String,
    /// The TTL of the lease, in seconds.
    pub ttl_s: i64,
}

/// What a port serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// gRPC and HTTP.
    All,
    /// Health and metrics.
    Http,
}
