//! Leases that run out: when, what they take along, and in which order it is told.
//!
//! Source: etcd v3.5 server/lease/lessor.go.

use super::{Talk, prefix, put};
use anyhow::Result;
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest,
};
use rpc::stubs::etcdserverpb::lease_client::LeaseClient;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;

/// A lease that lives through the script.
const KEPT: i64 = 300;

pub(super) async fn run(talk: &mut Talk) -> Result<()> {
    let mut lease = LeaseClient::new(talk.channel.clone());
    let mut stream = talk.stream().await?;
    talk.create(&mut stream, prefix("k")).await?;
    // The second asks for less than the least.
    for (id, ttl) in [(100, 3), (200, 1), (KEPT, 60)] {
        let granted = lease.lease_grant(LeaseGrantRequest { ttl, id }).await?.into_inner();
        talk.say(format!("granted {} for {} s {:?}", granted.id, granted.ttl, granted.error));
    }
    for (key, id) in [("k/b", 100), ("k/c", 100), ("k/a", 100), ("k/d", 200), ("k/e", KEPT)] {
        talk.kv.put(PutRequest { lease: id, ..put(key, "v") }).await?;
    }
    // It goes over from one lease to the next, and this one to none.
    talk.kv.put(PutRequest { lease: KEPT, ..put("k/c", "w") }).await?;
    talk.kv.put(PutRequest { lease: 200, ..put("k/f", "v") }).await?;
    talk.put("k/f", "free").await?;
    talk.hear(&mut stream, 8).await?;
    // Then those that run out, the shorter one first, each in one response.
    talk.hear(&mut stream, 3).await?;
    for id in [100, 200] {
        gone(talk, &mut lease, id).await?;
    }
    let all = prefix("k");
    let left = RangeRequest { key: all.key, range_end: all.range_end, ..Default::default() };
    for kv in talk.kv.range(left).await?.into_inner().kvs {
        talk.say(format!("left: {} lease {}", String::from_utf8_lossy(&kv.key), kv.lease));
    }
    let leases = lease.lease_leases(LeaseLeasesRequest {}).await?.into_inner().leases;
    talk.say(format!("leases: {:?}", leases.iter().map(|lease| lease.id).collect::<Vec<_>>()));
    let request = LeaseTimeToLiveRequest { id: KEPT, keys: true };
    let lives = lease.lease_time_to_live(request).await?.into_inner();
    let mut keys = lives.keys;
    keys.sort();
    talk.say(format!("{KEPT} lives for {} s: {keys:?}", lives.granted_ttl));
    lease.lease_revoke(LeaseRevokeRequest { id: KEPT }).await?;
    talk.hear(&mut stream, 2).await
}

/// What is said of a lease that has run out.
async fn gone(talk: &mut Talk, lease: &mut LeaseClient<Channel>, id: i64) -> Result<()> {
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let lives = lease.lease_time_to_live(request).await?.into_inner();
    talk.say(format!("{id}: {} of {} s, {:?}", lives.ttl, lives.granted_ttl, lives.keys));
    let ask = tokio_stream::once(LeaseKeepAliveRequest { id });
    let kept = lease.lease_keep_alive(ask).await?.into_inner().next().await;
    talk.say(format!("{id}: kept alive for {:?} s", kept.transpose()?.map(|kept| kept.ttl)));
    let revoked = lease.lease_revoke(LeaseRevokeRequest { id }).await;
    talk.say(format!("{id}: revoked: {:?}", revoked.err().map(|status| status.to_string())));
    let late = talk.kv.put(PutRequest { lease: id, ..put("k/late", "v") }).await;
    talk.say(format!("{id}: put: {:?}", late.err().map(|status| status.to_string())));
    Ok(())
}
