//! `lease-keepalive`.
//!
//! Source: etcd v3.7.1 tools/benchmark/cmd/lease.go.

use crate::bench::{Bench, never};
use crate::failure::CommandResult;
use crate::output;
use client::Client;
use load::Pace;
use proto::etcdserverpb as pb;

const TTL_S: i64 = 100;

pub(crate) async fn keep_alive(bench: &mut Bench) -> CommandResult {
    let pace = Pace { count: Some(bench.at_least("total", 0)?), ..Pace::default() };
    let mut clients = Vec::new();
    for client in bench.clients().await? {
        let lease = client.lease_grant(pb::LeaseGrantRequest { ttl: TTL_S, id: 0 }).await?.id;
        clients.push((client, lease));
    }
    let request = |(client, lease): (Client, i64), _| async move {
        client.keep_alive_once(lease).await.map(drop).map_err(|error| error.to_string())
    };
    let results = load::run(clients, pace, &never(), request).await;
    output::text(&bench.report("lease-keepalive", results)?);
    Ok(())
}
