//! How events are grouped into watch responses.
//!
//! Source: etcd v3.5 server/mvcc/{watchable_store,watcher_group}.go: a watcher that is up to date
//! gets a response for each revision; one that is behind gets up to 1,000 revisions at once.

use super::transcript::{Transcript, described, prefix};
use anyhow::Result;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, WatchCancelRequest, WatchCreateRequest,
    WatchProgressRequest, watch_create_request::FilterType, watch_request::RequestUnion,
};

pub(super) async fn run(transcript: &mut Transcript) -> Result<()> {
    as_they_come(transcript).await?;
    from_the_past(transcript).await?;
    with_fragments(transcript).await?;
    ends_and_refusals(transcript).await
}

async fn as_they_come(transcript: &mut Transcript) -> Result<()> {
    transcript.note("-- as they come");
    let mut stream = transcript.stream().await?;
    transcript.create(&mut stream, prefix("a")).await?;
    transcript.create(&mut stream, WatchCreateRequest { prev_kv: true, ..prefix("a/2") }).await?;
    let no_put = vec![FilterType::Noput.into()];
    transcript.create(&mut stream, WatchCreateRequest { filters: no_put, ..prefix("a") }).await?;
    let no_delete = vec![FilterType::Nodelete.into()];
    transcript
        .create(&mut stream, WatchCreateRequest { filters: no_delete, ..prefix("a") })
        .await?;
    transcript.put("a/1", "x").await?;
    transcript.receive(&mut stream, 2).await?;
    transcript.put_all(&["a/3", "a/1", "a/2", "b"], "y").await?;
    transcript.receive(&mut stream, 7).await?;
    transcript.put("a/2", "z").await?;
    transcript.receive(&mut stream, 3).await?;
    let all = prefix("a");
    let delete = DeleteRangeRequest { key: all.key, range_end: all.range_end, prev_kv: false };
    transcript.kv.delete_range(delete).await?;
    transcript.receive(&mut stream, 7).await?;
    stream.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await?;
    let progress = stream.next().await?;
    transcript.note(described(&progress));
    Ok(())
}

async fn from_the_past(transcript: &mut Transcript) -> Result<()> {
    transcript.note("-- from the past");
    for number in 0..1_250 {
        transcript.put_all(&["c/1", "c/2"], &number.to_string()).await?;
        transcript.put("c/3", "v").await?;
    }
    let mut stream = transcript.stream().await?;
    transcript.create(&mut stream, WatchCreateRequest { start_revision: 2, ..prefix("c") }).await?;
    transcript.receive(&mut stream, 3_750).await?;
    transcript
        .create(&mut stream, WatchCreateRequest { start_revision: 2_400, ..prefix("c/3") })
        .await?;
    transcript.receive(&mut stream, 53).await?;
    // A watcher whose start revision is in the future.
    let status = transcript
        .kv
        .range(proto::etcdserverpb::RangeRequest { key: "c/1".into(), ..Default::default() });
    let revision = status.await?.into_inner().header.map_or(0, |header| header.revision);
    let mut future = transcript.stream().await?;
    let start_revision = revision + 3;
    transcript.create(&mut future, WatchCreateRequest { start_revision, ..prefix("c") }).await?;
    for value in ["early", "early", "due", "late"] {
        transcript.put("c/4", value).await?;
    }
    transcript.receive(&mut future, 2).await
}

async fn with_fragments(transcript: &mut Transcript) -> Result<()> {
    transcript.note("-- fragments");
    let keys: Vec<String> = (0..6).map(|number| format!("d/{number}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let value = "x".repeat(200_000);
    let mut stream = transcript.stream().await?;
    // With the previous values, a response exceeds the size above which it is fragmented.
    let whole = WatchCreateRequest { prev_kv: true, ..prefix("d") };
    transcript.create(&mut stream, WatchCreateRequest { fragment: true, ..whole.clone() }).await?;
    transcript.create(&mut stream, whole).await?;
    for _ in 0..3 {
        transcript.put_all(&keys, &value).await?;
        transcript.receive(&mut stream, 12).await?;
    }
    Ok(())
}

async fn ends_and_refusals(transcript: &mut Transcript) -> Result<()> {
    transcript.note("-- ends and refusals");
    let mut stream = transcript.stream().await?;
    transcript.create(&mut stream, WatchCreateRequest { watch_id: 7, ..prefix("e") }).await?;
    transcript.create(&mut stream, WatchCreateRequest { watch_id: 7, ..prefix("e") }).await?;
    let empty = WatchCreateRequest { key: "e".into(), range_end: "a".into(), ..prefix("e") };
    transcript.create(&mut stream, empty).await?;
    stream.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 7 })).await?;
    let canceled = stream.next().await?;
    transcript.note(described(&canceled));
    transcript.kv.compact(CompactionRequest { revision: 2_000, physical: true }).await?;
    transcript.create(&mut stream, WatchCreateRequest { start_revision: 5, ..prefix("c") }).await?;
    let compacted = stream.next().await?;
    transcript.note(described(&compacted));
    Ok(())
}
