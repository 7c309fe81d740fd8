//! The requests that a follower sends to the leader's peer port. They are implemented in `peer`,
//! which is above this crate.

use cluster::Member;
use proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use proto::{LeaseId, NodeId};
use std::fmt;
use std::pin::Pin;
use std::time::Duration;

/// Why a forwarded request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardingError {
    /// It could not be reached in time, or its answer could not be read.
    Unreachable(String),
    /// It has refused the request.
    Refused {
        /// The HTTP status.
        status: u16,
        /// The text of the answer.
        text: String,
    },
}

impl fmt::Display for ForwardingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForwardingError::Unreachable(why) => f.write_str(why),
            ForwardingError::Refused { status, text } => write!(f, "status {status}: {text}"),
        }
    }
}

impl std::error::Error for ForwardingError {}

/// The future answer to a forwarded request. It is awaited on a worker's thread.
pub type Forwarded<T> = Pin<Box<dyn Future<Output = Result<T, ForwardingError>>>>;

/// Forwards requests to the member at a peer URL. Each call has a time limit.
pub trait Forwarding: Send + Sync + fmt::Debug {
    /// Renews a lease. Returns its TTL in seconds.
    fn renew_lease(&self, url: &str, lease: LeaseId, time: Duration) -> Forwarded<i64>;

    /// The remaining time of a lease.
    fn lease_time_to_live(
        &self,
        url: &str,
        request: LeaseTimeToLiveRequest,
        time: Duration,
    ) -> Forwarded<LeaseTimeToLiveResponse>;

    /// Promotes a learner, with the token of the client, whose role the leader checks. Returns the
    /// new list of members.
    fn promote(
        &self,
        url: &str,
        member: NodeId,
        token: Option<String>,
        time: Duration,
    ) -> Forwarded<Vec<Member>>;
}

/// Reaches no member. For a cluster of one member, and for tests.
#[derive(Clone, Copy, Debug)]
pub struct NoForwarding;

fn unreachable<T>() -> Forwarded<T> {
    Box::pin(async { Err(ForwardingError::Unreachable("there are no other members".to_owned())) })
}

impl Forwarding for NoForwarding {
    fn renew_lease(&self, _: &str, _: LeaseId, _: Duration) -> Forwarded<i64> {
        unreachable()
    }

    fn lease_time_to_live(
        &self,
        _: &str,
        _: LeaseTimeToLiveRequest,
        _: Duration,
    ) -> Forwarded<LeaseTimeToLiveResponse> {
        unreachable()
    }

    fn promote(
        &self,
        _: &str,
        _: NodeId,
        _: Option<String>,
        _: Duration,
    ) -> Forwarded<Vec<Member>> {
        unreachable()
    }
}
