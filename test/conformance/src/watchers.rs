//! Watchers on one server. A task reads each stream and appends the events of each watcher to a
//! list, however they were grouped into responses.

use anyhow::{Context, Result, bail};
use proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
    watch_request::RequestUnion,
};
use proto::mvccpb::Event;
use rpc::stubs::etcdserverpb::watch_client::WatchClient;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

/// The time limit for watchers to catch up.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(30);
/// The interval of progress requests: Go's etcd ignores them while a watcher is behind.
const ASK_AGAIN: Duration = Duration::from_millis(50);

/// What one watcher has received so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchRecord {
    /// Its events, in the order of arrival.
    pub events: Vec<Event>,
    /// Compact revision and reason, if the server canceled it.
    pub canceled: Option<(i64, String)>,
}

/// One watch stream.
#[derive(Debug)]
pub struct Stream {
    requests: mpsc::Sender<WatchRequest>,
    responses: mpsc::UnboundedReceiver<WatchResponse>,
    told: BTreeMap<i64, WatchRecord>,
    /// Watchers that the server canceled and that the client has not canceled yet. Go's etcd sends
    /// no progress on a stream with one.
    ended: Vec<i64>,
}

impl Stream {
    /// Opens a stream.
    ///
    /// # Errors
    /// When the server refuses it.
    pub async fn open(channel: Channel) -> Result<Stream> {
        let (requests, outgoing) = mpsc::channel(64);
        let (sender, responses) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut client = WatchClient::new(channel).max_decoding_message_size(64 * 1024 * 1024);
            let Ok(answer) = client.watch(ReceiverStream::new(outgoing)).await else { return };
            let mut incoming = answer.into_inner();
            while let Ok(Some(response)) = incoming.message().await {
                if sender.send(response).is_err() {
                    return;
                }
            }
        });
        Ok(Stream { requests, responses, told: BTreeMap::new(), ended: Vec::new() })
    }

    /// Creates a watcher. Returns its id, or the reason if it was refused.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn create(
        &mut self,
        request: WatchCreateRequest,
    ) -> Result<Result<i64, WatchRecord>> {
        self.send(RequestUnion::CreateRequest(request)).await?;
        loop {
            let response = self.next().await?;
            if !response.created {
                self.take(response);
                continue;
            }
            if response.canceled {
                let canceled = Some((response.compact_revision, response.cancel_reason));
                return Ok(Err(WatchRecord { events: Vec::new(), canceled }));
            }
            self.told.insert(response.watch_id, WatchRecord::default());
            return Ok(Ok(response.watch_id));
        }
    }

    /// Cancels a watcher.
    ///
    /// # Errors
    /// When the stream breaks.
    pub async fn cancel(&mut self, watch_id: i64) -> Result<()> {
        self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })).await?;
        while self.told.get(&watch_id).is_some_and(|told| told.canceled.is_none()) {
            let response = self.next().await?;
            self.take(response);
        }
        Ok(())
    }

    /// Reads until every watcher of the stream has received all events up to `revision`.
    ///
    /// # Errors
    /// When the stream breaks, or on a timeout.
    pub async fn catch_up(&mut self, revision: i64) -> Result<()> {
        let deadline = Instant::now() + CATCH_UP_TIME_MAX;
        loop {
            if self.told.values().all(|told| told.canceled.is_some()) {
                // Without watchers there is no progress to wait for.
                return Ok(());
            }
            for watch_id in std::mem::take(&mut self.ended) {
                self.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id })).await?;
            }
            self.send(RequestUnion::ProgressRequest(WatchProgressRequest {})).await?;
            let ask_again = Instant::now() + ASK_AGAIN;
            while let Ok(response) = tokio::time::timeout_at(ask_again, self.next()).await {
                let response = response?;
                let revision_told = response.header.as_ref().map_or(0, |header| header.revision);
                if response.watch_id == -1 && !response.created && revision_told >= revision {
                    return Ok(());
                }
                self.take(response);
            }
            if Instant::now() > deadline {
                bail!("a watch stream did not reach revision {revision}");
            }
        }
    }

    /// Removes and returns the record of a watcher.
    pub fn take_record(&mut self, watch_id: i64) -> WatchRecord {
        match self.told.get_mut(&watch_id) {
            None => WatchRecord::default(),
            Some(told) => WatchRecord {
                events: std::mem::take(&mut told.events),
                canceled: told.canceled.clone(),
            },
        }
    }

    /// Sends a request.
    ///
    /// # Errors
    /// When the stream is closed.
    pub async fn send(&self, request: RequestUnion) -> Result<()> {
        let request = WatchRequest { request_union: Some(request) };
        self.requests.send(request).await.context("the watch stream is closed")
    }

    /// The next response for any watcher.
    ///
    /// # Errors
    /// When the stream is closed, or on a timeout.
    pub async fn next(&mut self) -> Result<WatchResponse> {
        let response = timeout(CATCH_UP_TIME_MAX, self.responses.recv()).await;
        response.context("no watch response in time")?.context("the watch stream is closed")
    }

    fn take(&mut self, response: WatchResponse) {
        let Some(told) = self.told.get_mut(&response.watch_id) else { return };
        told.events.extend(response.events);
        if response.canceled && told.canceled.is_none() {
            told.canceled = Some((response.compact_revision, response.cancel_reason));
            self.ended.push(response.watch_id);
        }
    }
}
