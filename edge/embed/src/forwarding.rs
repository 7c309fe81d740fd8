//! The requests that a follower forwards to the leader's peer port.

use cluster::Member;
use net::Url;
use peer::Dialer;
use peer::remote::{self, RemoteError};
use proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use proto::{LeaseId, NodeId};
use server::{Forwarded, Forwarding, ForwardingError};
use std::time::Duration;

/// Requests at peer URLs.
#[derive(Clone, Debug)]
pub(crate) struct AtPeerUrls(pub(crate) Dialer);

/// Sends a request to a URL; an error if the text is no URL.
fn ask<T: 'static, R: Future<Output = Result<T, RemoteError>> + 'static>(
    url: &str,
    request: impl FnOnce(Url) -> R,
) -> Forwarded<T> {
    match Url::parse(url) {
        Err(error) => Box::pin(async move { Err(ForwardingError::Unreachable(error.to_string())) }),
        Ok(url) => {
            let request = request(url);
            Box::pin(async move { request.await.map_err(converted) })
        }
    }
}

fn converted(error: RemoteError) -> ForwardingError {
    match error {
        RemoteError::Unreachable(why) => ForwardingError::Unreachable(why),
        RemoteError::Refused(status, text) => ForwardingError::Refused { status, text },
    }
}

impl Forwarding for AtPeerUrls {
    fn renew_lease(&self, url: &str, lease: LeaseId, time: Duration) -> Forwarded<i64> {
        let dialer = self.0.clone();
        ask(url, move |url| async move { remote::renew_lease(&dialer, &url, lease, time).await })
    }

    fn lease_time_to_live(
        &self,
        url: &str,
        request: LeaseTimeToLiveRequest,
        time: Duration,
    ) -> Forwarded<LeaseTimeToLiveResponse> {
        let dialer = self.0.clone();
        ask(url, move |url| async move {
            remote::lease_time_to_live(&dialer, &url, request, time).await
        })
    }

    fn promote(
        &self,
        url: &str,
        member: NodeId,
        token: Option<String>,
        time: Duration,
    ) -> Forwarded<Vec<Member>> {
        let dialer = self.0.clone();
        ask(
            url,
            move |url| async move { remote::promote(&dialer, &url, member, token, time).await },
        )
    }
}
