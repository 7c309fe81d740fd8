//! Which events come in which response.
//!
//! Source: etcd v3.5 server/mvcc/{watchable_store,watcher_group}.go: a watcher that is up to date
//! gets a response for each revision; one that is behind gets up to 1,000 revisions at once.

use super::{Talk, prefix};
use anyhow::Result;
use proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, WatchCancelRequest, WatchCreateRequest,
    WatchProgressRequest, watch_create_request::FilterType, watch_request::RequestUnion,
};

pub(super) async fn run(talk: &mut Talk) -> Result<()> {
    as_they_come(talk).await?;
    from_the_past(talk).await?;
    with_fragments(talk).await?;
    ends(talk).await
}

async fn as_they_come(talk: &mut Talk) -> Result<()> {
    talk.say("-- as they come");
    let mut stream = talk.stream().await?;
    talk.create(&mut stream, prefix("a")).await?;
    talk.create(&mut stream, WatchCreateRequest { prev_kv: true, ..prefix("a/2") }).await?;
    let no_put = vec![FilterType::Noput.into()];
    talk.create(&mut stream, WatchCreateRequest { filters: no_put, ..prefix("a") }).await?;
    let no_delete = vec![FilterType::Nodelete.into()];
    talk.create(&mut stream, WatchCreateRequest { filters: no_delete, ..prefix("a") }).await?;
    talk.put("a/1", "x").await?;
    talk.hear(&mut stream, 2).await?;
    talk.put_all(&["a/3", "a/1", "a/2", "b"], "y").await?;
    talk.hear(&mut stream, 7).await?;
    talk.put("a/2", "z").await?;
    talk.hear(&mut stream, 3).await?;
    let all = prefix("a");
    let delete = DeleteRangeRequest { key: all.key, range_end: all.range_end, prev_kv: false };
    talk.kv.delete_range(delete).await?;
    talk.hear(&mut stream, 7).await?;
    stream.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await?;
    let progress = stream.next().await?;
    talk.say(super::described(&progress));
    Ok(())
}

async fn from_the_past(talk: &mut Talk) -> Result<()> {
    talk.say("-- from the past");
    for number in 0..1_250 {
        talk.put_all(&["c/1", "c/2"], &number.to_string()).await?;
        talk.put("c/3", "v").await?;
    }
    let mut stream = talk.stream().await?;
    talk.create(&mut stream, WatchCreateRequest { start_revision: 2, ..prefix("c") }).await?;
    talk.hear(&mut stream, 3_750).await?;
    talk.create(&mut stream, WatchCreateRequest { start_revision: 2_400, ..prefix("c/3") }).await?;
    talk.hear(&mut stream, 53).await?;
    // In the future: it waits for its revision.
    let status = talk
        .kv
        .range(proto::etcdserverpb::RangeRequest { key: "c/1".into(), ..Default::default() });
    let revision = status.await?.into_inner().header.map_or(0, |header| header.revision);
    let mut future = talk.stream().await?;
    let start_revision = revision + 3;
    talk.create(&mut future, WatchCreateRequest { start_revision, ..prefix("c") }).await?;
    for value in ["early", "early", "due", "late"] {
        talk.put("c/4", value).await?;
    }
    talk.hear(&mut future, 2).await
}

async fn with_fragments(talk: &mut Talk) -> Result<()> {
    talk.say("-- fragments");
    let keys: Vec<String> = (0..6).map(|number| format!("d/{number}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let value = "x".repeat(200_000);
    let mut stream = talk.stream().await?;
    // With what was there before a response is longer than the longest that is not cut.
    let whole = WatchCreateRequest { prev_kv: true, ..prefix("d") };
    talk.create(&mut stream, WatchCreateRequest { fragment: true, ..whole.clone() }).await?;
    talk.create(&mut stream, whole).await?;
    for _ in 0..3 {
        talk.put_all(&keys, &value).await?;
        talk.hear(&mut stream, 12).await?;
    }
    Ok(())
}

async fn ends(talk: &mut Talk) -> Result<()> {
    talk.say("-- ends and refusals");
    let mut stream = talk.stream().await?;
    talk.create(&mut stream, WatchCreateRequest { watch_id: 7, ..prefix("e") }).await?;
    talk.create(&mut stream, WatchCreateRequest { watch_id: 7, ..prefix("e") }).await?;
    let empty = WatchCreateRequest { key: "e".into(), range_end: "a".into(), ..prefix("e") };
    talk.create(&mut stream, empty).await?;
    stream.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 7 })).await?;
    let canceled = stream.next().await?;
    talk.say(super::described(&canceled));
    talk.kv.compact(CompactionRequest { revision: 2_000, physical: true }).await?;
    talk.create(&mut stream, WatchCreateRequest { start_revision: 5, ..prefix("c") }).await?;
    let compacted = stream.next().await?;
    talk.say(super::described(&compacted));
    Ok(())
}
