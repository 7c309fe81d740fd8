//! Requests that are not gRPC: the health and the metrics of a server and of the proxy.
//!
//! Source: etcd server/proxy/grpcproxy/{health,metrics}.go @ v3.7.1.

use crate::shared::Proxy;
use bytes::Bytes;
use client::Client;
use http::{Method, Response};
use net::endpoints::{health_answer, internal_error, metrics_answer, not_allowed, not_found};
use proto::etcdserverpb as pb;
use std::time::Duration;

/// The time limit of the read that `/health` makes. That of etcd.
const READ_TIME_MAX: Duration = Duration::from_secs(1);
/// The time limit of the watch that `/proxy/health` makes. That of etcd.
const WATCH_TIME_MAX: Duration = Duration::from_secs(3);
/// The time limit for the metrics of a server.
const METRICS_TIME_MAX: Duration = Duration::from_secs(10);
/// The key that is read and watched. That of etcd.
const KEY: &[u8] = b"a";

/// Answers a request.
pub(crate) async fn answer(
    proxy: &Proxy,
    method: &Method,
    path: &str,
    query: &str,
) -> Response<Bytes> {
    match path {
        "/metrics" => metrics_of_a_server(proxy).await,
        "/proxy/metrics" => metrics_answer(proxy.metrics.text()),
        "/health" | "/proxy/health" if method != Method::GET => not_allowed(),
        "/health" => counted(proxy, unhealthy(&proxy.client, &proxy.layers.prefix).await),
        "/proxy/health" => {
            let reason = match &proxy.itself {
                Some(itself) => proxy_unhealthy(itself).await,
                None => "no connection to proxy".to_owned(),
            };
            counted(proxy, reason)
        }
        _ => match proxy.profiles {
            Some(profiles) => {
                profiles(path.to_owned(), query.to_owned()).await.unwrap_or_else(not_found)
            }
            None => not_found(),
        },
    }
}

fn counted(proxy: &Proxy, reason: String) -> Response<Bytes> {
    let health = &proxy.metrics.health;
    if reason.is_empty() {
        health.successes.inc()
    } else {
        health.failures.inc()
    }
    health_answer(&reason)
}

async fn metrics_of_a_server(proxy: &Proxy) -> Response<Bytes> {
    match proxy.client.with_timeout(METRICS_TIME_MAX).metrics().await {
        Ok(text) => metrics_answer(text.into_bytes()),
        Err(error) => {
            tracing::warn!(%error, "cannot read the metrics of a server");
            internal_error()
        }
    }
}

/// Why the servers of a client do not answer a read; empty if they do. One without permission is an
/// answer, too.
async fn unhealthy(client: &Client, prefix: &Option<client::KeyPrefix>) -> String {
    let mut request = pb::RangeRequest { key: KEY.into(), ..Default::default() };
    if let Some(prefix) = prefix
        && let Err(error) = prefix.enter_range(&mut request)
    {
        return format!("GET ERROR:{error}");
    }
    match client.with_timeout(READ_TIME_MAX).range(request).await {
        Ok(_) => String::new(),
        Err(error) if error.message() == rpc::Error::PermissionDenied.text() => String::new(),
        Err(error) => format!("GET ERROR:{error}"),
    }
}

/// Why the proxy does not serve its clients; empty if it does.
async fn proxy_unhealthy(itself: &Client) -> String {
    let reason = unhealthy(itself, &None).await;
    if !reason.is_empty() {
        return reason;
    }
    let request = pb::WatchCreateRequest { key: KEY.into(), ..Default::default() };
    let watching = async {
        let mut watcher = itself.watch(request).await;
        watcher.created().await
    };
    // A watch that is refused is an answer, too, as for etcd.
    match tokio::time::timeout(WATCH_TIME_MAX, watching).await {
        Ok(_) => String::new(),
        Err(_) => "WATCH TIMEOUT".to_owned(),
    }
}
