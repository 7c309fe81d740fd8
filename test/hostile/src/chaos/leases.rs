//! Leases that are renewed through each member in turn, and one that is not renewed.

use super::group::{Group, MEMBERS};
use anyhow::{Context as _, Result, bail, ensure};
use conformance::cluster::{Node, until_done};
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest,
};
use rpc::stubs::etcdserverpb::lease_client::LeaseClient;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tonic::transport::Channel;

/// The first letters of the keys.
pub(super) const LEASED: &[u8] = b"leased/";
/// The TTL of the renewed leases, in seconds: longer than an election.
const RENEWED_TTL_S: i64 = 15;
/// The TTL of the lease that is not renewed.
const SHORT_TTL_S: i64 = 5;
/// The id of the first renewed lease. The lease that is not renewed has the id before it.
const FIRST: i64 = 1_000;
const SHORT: i64 = FIRST - 1;
/// The time from one renewal to the next.
const PAUSE: Duration = Duration::from_millis(300);
const ANSWER_TIME_MAX: Duration = Duration::from_secs(2);

/// The leases, with a key each.
#[derive(Debug)]
pub(super) struct Leases {
    stop: Arc<AtomicBool>,
    renewing: JoinHandle<Result<u64>>,
}

impl Leases {
    /// Grants one lease through each member, and begins to renew them. Grants another lease that is
    /// not renewed.
    pub(super) async fn start(group: &Group) -> Result<Leases> {
        let all: Vec<(i64, &Node)> = (FIRST..).zip(&group.nodes).collect();
        for (id, node) in all.iter().copied().chain([(SHORT, &group.nodes[0])]) {
            let ttl = if id == SHORT { SHORT_TTL_S } else { RENEWED_TTL_S };
            node.lease()?.lease_grant(LeaseGrantRequest { id, ttl }).await?;
            let put = PutRequest { key: key(id).into(), lease: id, ..PutRequest::default() };
            node.kv()?.put(put).await?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let channels: Result<Vec<Channel>> = group.nodes.iter().map(Node::channel).collect();
        let renewing = tokio::spawn(renew(channels?, Arc::clone(&stop)));
        Ok(Leases { stop, renewing })
    }

    /// Fails if a renewed lease has expired, or the other one has not. Returns the number of
    /// renewals.
    pub(super) async fn end(self, group: &Group) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let renewals = self.renewing.await??;
        ensure!(renewals > 0, "no lease was renewed");
        for node in &group.nodes {
            for (id, _) in (FIRST..).zip(0..MEMBERS) {
                let ask = LeaseTimeToLiveRequest { id, keys: true };
                let lives = node.lease()?.lease_time_to_live(ask).await?.into_inner();
                let is_kept =
                    lives.ttl > 0 && lives.granted_ttl == RENEWED_TTL_S && lives.keys == [key(id)];
                ensure!(is_kept, "the lease {id} at {}: {lives:?}", node.name);
            }
        }
        let node = &group.nodes[0];
        let gone = || async {
            let range = RangeRequest { key: key(SHORT).into(), ..RangeRequest::default() };
            let left = node.kv()?.range(range).await?.into_inner().count;
            if left == 0 { Ok(()) } else { bail!("not expired") }
        };
        until_done("not expired", gone).await?;
        Ok(renewals)
    }
}

fn key(id: i64) -> Vec<u8> {
    [LEASED, id.to_string().as_bytes()].concat()
}

/// Renews each lease through the members in turn. If a member does not answer, the next one is
/// tried.
async fn renew(channels: Vec<Channel>, stop: Arc<AtomicBool>) -> Result<u64> {
    let mut renewals = 0;
    for turn in 0_usize.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        for (number, id) in (0..MEMBERS).zip(FIRST..) {
            let channel = channels[(turn + number) % MEMBERS].clone();
            if let Ok(Ok(ttl)) = timeout(ANSWER_TIME_MAX, renewed(channel, id)).await {
                ensure!(ttl > 0, "the lease {id} is gone, though it was renewed");
                renewals += 1;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(renewals)
}

async fn renewed(channel: Channel, id: i64) -> Result<i64> {
    let ask = tokio_stream::once(LeaseKeepAliveRequest { id });
    let mut answers = LeaseClient::new(channel).lease_keep_alive(ask).await?.into_inner();
    Ok(answers.message().await?.context("no answer")?.ttl)
}
