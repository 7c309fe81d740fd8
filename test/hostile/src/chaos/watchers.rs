//! A watcher of all keys through each member, from the first revision on. After it has lost its
//! member, it resumes after the last revision that it received.

use super::group::Group;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest, watch_request::RequestUnion};
use proto::mvccpb::Event;
use rpc::stubs::etcdserverpb::watch_client::WatchClient;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;

/// The pause before a watcher resumes.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a watcher may take to catch up at the end.
const PATIENCE: Duration = Duration::from_secs(40);

/// The events that one watcher has received.
#[derive(Debug, Default)]
pub(super) struct Received {
    pub(super) events: Vec<Event>,
    /// How often it was created.
    pub(super) begun: u64,
    /// Why the server canceled it. This is a fault.
    pub(super) canceled: Option<String>,
}

impl Received {
    pub(super) fn last(&self) -> i64 {
        self.events.last().map_or(0, revision)
    }
}

/// The revision of an event.
pub(super) fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// The watchers, one of each member.
#[derive(Debug)]
pub(super) struct Watchers {
    told: Vec<Arc<Mutex<Received>>>,
    // The tasks end when this is dropped.
    tasks: JoinSet<()>,
}

fn lock(told: &Mutex<Received>) -> MutexGuard<'_, Received> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchers {
    pub(super) fn start(group: &Group) -> Result<Watchers> {
        let mut watchers = Watchers { told: Vec::new(), tasks: JoinSet::new() };
        for node in &group.nodes {
            let told = Arc::default();
            watchers.told.push(Arc::clone(&told));
            watchers.tasks.spawn(follow(node.channel()?, told));
        }
        Ok(watchers)
    }

    /// Waits until each watcher has received this revision. Returns all that they received.
    pub(super) async fn end(self, last: i64) -> Result<Vec<Received>> {
        let deadline = Instant::now() + PATIENCE;
        for (at, told) in self.told.iter().enumerate() {
            loop {
                let (reached, canceled) = {
                    let told = lock(told);
                    (told.last(), told.canceled.clone())
                };
                ensure!(canceled.is_none(), "the watcher of m{at} was canceled: {canceled:?}");
                if reached >= last {
                    break;
                }
                ensure!(
                    Instant::now() < deadline,
                    "the watcher of m{at} was told up to {reached}, the last revision is {last}"
                );
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(self.told.iter().map(|told| std::mem::take(&mut *lock(told))).collect())
    }
}

async fn follow(channel: Channel, told: Arc<Mutex<Received>>) {
    loop {
        // An error means that the member is lost. The next try resumes where this one ended.
        drop(follow_once(channel.clone(), &told).await);
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow_once(channel: Channel, told: &Mutex<Received>) -> Result<()> {
    let start_revision = lock(told).last() + 1;
    let create = WatchCreateRequest {
        // All keys.
        key: Bytes::from_static(b"\0"),
        range_end: Bytes::from_static(b"\0"),
        start_revision,
        ..WatchCreateRequest::default()
    };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut answers = client.watch(requests).await?.into_inner();
    lock(told).begun += 1;
    loop {
        let response = answers.message().await?.context("the stream has ended")?;
        let mut told = lock(told);
        if response.canceled {
            told.canceled = Some(response.cancel_reason);
        }
        told.events.extend(response.events);
    }
}
