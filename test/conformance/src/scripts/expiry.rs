//! Leases that expire: the time, the deleted keys, and the order of the events.
//!
//! Source: etcd v3.5 server/lease/lessor.go.

use super::transcript::{Transcript, prefix, put};
use anyhow::Result;
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest, PutRequest, RangeRequest,
};
use rpc::stubs::etcdserverpb::lease_client::LeaseClient;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;

/// A lease that does not expire during the script.
const KEPT: i64 = 300;

pub(super) async fn run(transcript: &mut Transcript) -> Result<()> {
    let mut lease = LeaseClient::new(transcript.channel.clone());
    let mut stream = transcript.stream().await?;
    transcript.create(&mut stream, prefix("k")).await?;
    // The TTL of the second is below the minimum.
    for (id, ttl) in [(100, 3), (200, 1), (KEPT, 60)] {
        let granted = lease.lease_grant(LeaseGrantRequest { ttl, id }).await?.into_inner();
        transcript
            .note(format!("granted {} for {} s {:?}", granted.id, granted.ttl, granted.error));
    }
    for (key, id) in [("k/b", 100), ("k/c", 100), ("k/a", 100), ("k/d", 200), ("k/e", KEPT)] {
        transcript.kv.put(PutRequest { lease: id, ..put(key, "v") }).await?;
    }
    // One key moves to another lease, one to no lease.
    transcript.kv.put(PutRequest { lease: KEPT, ..put("k/c", "w") }).await?;
    transcript.kv.put(PutRequest { lease: 200, ..put("k/f", "v") }).await?;
    transcript.put("k/f", "free").await?;
    transcript.receive(&mut stream, 8).await?;
    // The leases expire, the shorter TTL first, each in one response.
    transcript.receive(&mut stream, 3).await?;
    for id in [100, 200] {
        expired(transcript, &mut lease, id).await?;
    }
    let all = prefix("k");
    let left = RangeRequest { key: all.key, range_end: all.range_end, ..Default::default() };
    for kv in transcript.kv.range(left).await?.into_inner().kvs {
        transcript.note(format!("left: {} lease {}", String::from_utf8_lossy(&kv.key), kv.lease));
    }
    let leases = lease.lease_leases(LeaseLeasesRequest {}).await?.into_inner().leases;
    transcript
        .note(format!("leases: {:?}", leases.iter().map(|lease| lease.id).collect::<Vec<_>>()));
    let request = LeaseTimeToLiveRequest { id: KEPT, keys: true };
    let lives = lease.lease_time_to_live(request).await?.into_inner();
    let mut keys = lives.keys;
    keys.sort();
    transcript.note(format!("{KEPT} lives for {} s: {keys:?}", lives.granted_ttl));
    lease.lease_revoke(LeaseRevokeRequest { id: KEPT }).await?;
    transcript.receive(&mut stream, 2).await
}

/// Records the responses about a lease that has expired.
async fn expired(
    transcript: &mut Transcript,
    lease: &mut LeaseClient<Channel>,
    id: i64,
) -> Result<()> {
    let request = LeaseTimeToLiveRequest { id, keys: true };
    let lives = lease.lease_time_to_live(request).await?.into_inner();
    transcript.note(format!("{id}: {} of {} s, {:?}", lives.ttl, lives.granted_ttl, lives.keys));
    let ask = tokio_stream::once(LeaseKeepAliveRequest { id });
    let kept = lease.lease_keep_alive(ask).await?.into_inner().next().await;
    transcript.note(format!("{id}: kept alive for {:?} s", kept.transpose()?.map(|kept| kept.ttl)));
    let revoked = lease.lease_revoke(LeaseRevokeRequest { id }).await;
    transcript.note(format!("{id}: revoked: {:?}", revoked.err().map(|status| status.to_string())));
    let late = transcript.kv.put(PutRequest { lease: id, ..put("k/late", "v") }).await;
    transcript.note(format!("{id}: put: {:?}", late.err().map(|status| status.to_string())));
    Ok(())
}
