//! Writes that are in flight when a member ends.

use super::access::Access;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use proto::etcdserverpb::{PutRequest, RangeRequest};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

const WRITERS: u32 = 8;
/// How many writes must be acknowledged before the member may end.
const ACKNOWLEDGED: usize = 100;
/// How long these writes may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// A write that is not answered in this time counts as lost with its member.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// Writers, each with keys of its own below `burst/STEP/`.
#[derive(Debug)]
pub(super) struct Burst {
    prefix: String,
    acknowledged: BTreeSet<Bytes>,
    told: mpsc::UnboundedReceiver<Bytes>,
    writers: JoinSet<()>,
}

impl Burst {
    /// Begins the writes. Returns when [`ACKNOWLEDGED`] are acknowledged; the writers continue.
    pub(super) async fn begin(access: &Access, step: u32) -> Result<Burst> {
        let (tell, told) = mpsc::unbounded_channel();
        let prefix = format!("burst/{step}/");
        let mut burst =
            Burst { prefix, acknowledged: BTreeSet::new(), told, writers: JoinSet::new() };
        for writer in 0..WRITERS {
            let prefix = format!("{}{writer}/", burst.prefix);
            burst.writers.spawn(write(access.clone(), prefix, tell.clone()));
        }
        drop(tell);
        while burst.acknowledged.len() < ACKNOWLEDGED {
            let key = timeout(PATIENCE, burst.told.recv()).await.context("no write is answered")?;
            burst.acknowledged.insert(key.context("the writers have ended")?);
        }
        Ok(burst)
    }

    /// Waits until every writer knows that the member has ended.
    pub(super) async fn end(&mut self) -> Result<()> {
        while let Some(ended) = self.writers.join_next().await {
            ended?;
        }
        while let Some(key) = self.told.recv().await {
            self.acknowledged.insert(key);
        }
        Ok(())
    }

    /// Fails if more than `lost_max` acknowledged writes are missing. Returns the number of
    /// acknowledged writes and the number of missing ones.
    pub(super) async fn check(&self, access: &Access, lost_max: usize) -> Result<(usize, usize)> {
        let mut end = self.prefix.clone().into_bytes();
        // The byte after the slash.
        end.pop();
        end.push(b'0');
        let request = RangeRequest {
            key: self.prefix.clone().into(),
            range_end: end.into(),
            keys_only: true,
            ..RangeRequest::default()
        };
        let found = access.kv.clone().range(request).await?.into_inner().kvs;
        let found: BTreeSet<Bytes> = found.into_iter().map(|kv| kv.key).collect();
        let lost: Vec<&Bytes> = self.acknowledged.difference(&found).collect();
        ensure!(lost.len() <= lost_max, "acknowledged writes are lost: {lost:?}");
        Ok((self.acknowledged.len(), lost.len()))
    }
}

async fn write(access: Access, prefix: String, tell: mpsc::UnboundedSender<Bytes>) {
    let mut kv = access.kv;
    for number in 0_u64.. {
        let key = Bytes::from(format!("{prefix}{number:06}"));
        let put = PutRequest { key: key.clone(), value: key.clone(), ..PutRequest::default() };
        let Ok(Ok(_)) = timeout(ANSWER_TIME_MAX, kv.put(put)).await else { return };
        if tell.send(key).is_err() {
            return;
        }
    }
}
