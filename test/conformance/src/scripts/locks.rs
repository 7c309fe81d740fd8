//! The lock and election services: the order of contenders, the ends of waits, and the errors.
//!
//! Source: etcd v3.5 server/etcdserver/api/{v3lock,v3election}.

use super::transcript::{Transcript, put};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use proto::etcdserverpb::{
    LeaseGrantRequest, LeaseRevokeRequest, RangeRequest, ResponseHeader, WatchCreateRequest,
    watch_request::RequestUnion,
};
use proto::v3electionpb::{
    CampaignRequest, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ResignRequest,
};
use proto::v3lockpb::{LockRequest, UnlockRequest};
use rpc::stubs::etcdserverpb::lease_client::LeaseClient;
use rpc::stubs::v3electionpb::election_client::ElectionClient;
use rpc::stubs::v3lockpb::lock_client::LockClient;
use std::time::Duration;
use tonic::Code;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// The first id of the script's leases. The ids are fixed because keys contain them.
const LEASES: i64 = 0x1000;
/// The deadline of a call that is expected to reach it.
const SHORT: Duration = Duration::from_millis(300);

pub(super) async fn run(transcript: &mut Transcript) -> Result<()> {
    let mut leases = LeaseClient::new(transcript.channel.clone());
    for id in LEASES..LEASES + 6 {
        leases.lease_grant(LeaseGrantRequest { id, ttl: 600 }).await?;
    }
    locks(transcript, &mut leases).await?;
    elections(transcript).await?;
    errors(transcript).await
}

fn revision(header: Option<&ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn refused<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    match answer {
        Ok(answer) => format!("no error but {answer:?}"),
        Err(status) => format!("{:?}: {}", status.code(), status.message()),
    }
}

async fn lock(mut client: LockClient<Channel>, name: Bytes, lease: i64) -> Result<String, Status> {
    let response = client.lock(LockRequest { name, lease }).await?.into_inner();
    Ok(format!("locked {} at {}", text(&response.key), revision(response.header.as_ref())))
}

/// Watches the keys under a name, and waits until there are events that create or delete this many.
async fn changes(transcript: &Transcript, name: &str) -> Result<crate::watchers::Stream> {
    let mut stream = transcript.stream().await?;
    let (key, range_end) = (format!("{name}/").into(), format!("{name}0").into());
    let create = WatchCreateRequest { key, range_end, ..WatchCreateRequest::default() };
    stream.send(RequestUnion::CreateRequest(create)).await?;
    stream.next().await?;
    Ok(stream)
}

async fn locks(transcript: &mut Transcript, leases: &mut LeaseClient<Channel>) -> Result<()> {
    transcript.note("-- locks");
    let mut client = LockClient::new(transcript.channel.clone());
    let name = Bytes::from_static(b"l");
    let mut keys = changes(transcript, "l").await?;
    transcript.note(lock(client.clone(), name.clone(), LEASES).await?);
    transcript.note(lock(client.clone(), name.clone(), LEASES).await?);
    keys.next().await?;
    // Three contenders wait one after the other; the second one gives up.
    let mut waiting = Vec::new();
    for lease in LEASES + 1..LEASES + 4 {
        waiting.push(tokio::spawn(lock(client.clone(), name.clone(), lease)));
        keys.next().await?;
    }
    waiting.remove(1).abort();
    let gone = keys.next().await?;
    transcript
        .note(format!("given up: {}", text(&gone.events[0].kv.clone().unwrap_or_default().key)));
    ensure!(!waiting[0].is_finished() && !waiting[1].is_finished(), "a lock was given twice");
    let key = format!("l/{LEASES:x}").into();
    let unlocked = client.unlock(UnlockRequest { key }).await?.into_inner();
    transcript.note(format!("unlocked at {}", revision(unlocked.header.as_ref())));
    transcript.note(waiting.remove(0).await??);
    leases.lease_revoke(LeaseRevokeRequest { id: LEASES + 1 }).await?;
    transcript.note(waiting.remove(0).await??);
    // A deadline ends the wait, and the key is deleted.
    let mut keys = changes(transcript, "l").await?;
    let mut request = Request::new(LockRequest { name: name.clone(), lease: LEASES + 4 });
    request.set_timeout(SHORT);
    // The client ends the call with the first code, unless the server's answer comes first.
    let codes = [Code::Cancelled, Code::DeadlineExceeded];
    let ended = client.lock(request).await.err().context("the lock is held")?.code();
    ensure!(codes.contains(&ended), "the wait ended with {ended:?}");
    transcript.note("the wait ends with its time limit");
    keys.next().await?;
    let gone = keys.next().await?;
    transcript
        .note(format!("given up: {}", text(&gone.events[0].kv.clone().unwrap_or_default().key)));
    // A contender whose key is deleted while it waits.
    let loser = tokio::spawn(lock(client.clone(), name, LEASES + 5));
    keys.next().await?;
    for lease in [LEASES + 5, LEASES + 3] {
        let key = format!("l/{lease:x}").into();
        client.unlock(UnlockRequest { key }).await?;
    }
    transcript.note(refused(loser.await?));
    // Without a lease in the request, the server grants one.
    let answer = lock(client, Bytes::new(), 0).await?;
    transcript.note(answer.split_at(8).0);
    Ok(())
}

fn led(answer: &LeaderResponse) -> String {
    let kv = answer.kv.clone().unwrap_or_default();
    format!("{} = {} at {}", text(&kv.key), text(&kv.value), revision(answer.header.as_ref()))
}

async fn elections(transcript: &mut Transcript) -> Result<()> {
    transcript.note("-- elections");
    let mut client = ElectionClient::new(transcript.channel.clone());
    let name = Bytes::from_static(b"e");
    let leader = LeaderRequest { name: name.clone() };
    transcript.note(refused(client.leader(leader.clone()).await));
    // Go's etcd sends the headers of the stream only with the first leader.
    let observing = tokio::spawn({
        let (mut client, leader) = (client.clone(), leader.clone());
        async move { client.observe(leader).await }
    });
    let campaign = |value: &'static str, lease: i64| {
        let (mut client, name) = (client.clone(), name.clone());
        async move {
            let request = CampaignRequest { name, lease, value: value.into() };
            client.campaign(request).await.map(tonic::Response::into_inner)
        }
    };
    let first = campaign("one", LEASES).await?;
    let key = first.leader.context("no leader key")?;
    transcript.note(format!("{key:?} at {}", revision(first.header.as_ref())));
    let mut observed = observing.await??.into_inner();
    transcript.note(led(&observed.message().await?.context("ended")?));
    let again = campaign("uno", LEASES).await?;
    transcript.note(format!("{:?} at {}", again.leader, revision(again.header.as_ref())));
    transcript.note(led(&observed.message().await?.context("ended")?));
    let mut keys = changes(transcript, "e").await?;
    let second = tokio::spawn(campaign("two", LEASES + 2));
    keys.next().await?;
    let third = tokio::spawn(campaign("three", LEASES + 3));
    keys.next().await?;
    third.abort();
    let gone = keys.next().await?;
    transcript
        .note(format!("given up: {}", text(&gone.events[0].kv.clone().unwrap_or_default().key)));
    transcript.note(led(client.leader(leader.clone()).await?.get_ref()));
    let proclaim = ProclaimRequest { leader: Some(key.clone()), value: "eins".into() };
    let said = client.proclaim(proclaim.clone()).await?.into_inner();
    transcript.note(format!("proclaimed at {}", revision(said.header.as_ref())));
    transcript.note(led(&observed.message().await?.context("ended")?));
    ensure!(!second.is_finished(), "two lead");
    let resigned = client.resign(ResignRequest { leader: Some(key) }).await?.into_inner();
    transcript.note(format!("resigned at {}", revision(resigned.header.as_ref())));
    let second = second.await??;
    transcript.note(format!("{:?} at {}", second.leader, revision(second.header.as_ref())));
    transcript.note(led(&observed.message().await?.context("ended")?));
    transcript.note(refused(client.proclaim(proclaim).await));
    Ok(())
}

async fn errors(transcript: &mut Transcript) -> Result<()> {
    transcript.note("-- errors");
    let mut locks = LockClient::new(transcript.channel.clone());
    let mut elections = ElectionClient::new(transcript.channel.clone());
    let name = Bytes::from_static(b"x");
    let request = LockRequest { name: name.clone(), lease: 77 };
    transcript.note(refused(locks.lock(request).await));
    transcript.note(refused(locks.unlock(UnlockRequest::default()).await));
    let unlocked = locks.unlock(UnlockRequest { key: "none".into() }).await?;
    transcript.note(format!("{}", revision(unlocked.get_ref().header.as_ref())));
    let request = CampaignRequest { name: name.clone(), lease: 77, value: Bytes::new() };
    transcript.note(refused(elections.campaign(request).await));
    transcript.note(refused(elections.proclaim(ProclaimRequest::default()).await));
    transcript.note(refused(elections.resign(ResignRequest::default()).await));
    let leader = Some(LeaderKey { lease: LEASES, ..LeaderKey::default() });
    let request = ProclaimRequest { leader: leader.clone(), value: Bytes::new() };
    transcript.note(refused(elections.proclaim(request).await));
    transcript.note(refused(elections.resign(ResignRequest { leader }).await));
    // A foreign key under the prefix counts as the leader, since it was created first.
    transcript.kv.put(put("x/other", "v")).await?;
    let answer = elections.leader(LeaderRequest { name }).await?;
    transcript.note(led(answer.get_ref()));
    let all = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() };
    let left = transcript.kv.range(all).await?.into_inner();
    transcript.note(format!("{} keys are left", left.count));
    Ok(())
}
