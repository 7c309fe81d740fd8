//! Watches. A hub multiplexes many watches over one stream, and opens a new stream when one breaks;
//! each watch then resumes after the last revision it has seen.
//!
//! Source: etcd v3.7.1 client/v3/watch.go.

use crate::Error;
use crate::call::Client;
use proto::etcdserverpb as pb;
use proto::etcdserverpb::watch_request::RequestUnion;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status, Streaming};

const METHOD: &str = "/etcdserverpb.Watch/Watch";
/// The pause before a broken stream is opened again.
const BACKOFF: Duration = Duration::from_millis(100);
/// Responses that are queued for one slow reader. When the queue is full, the whole stream waits
/// and the server notices by its flow control.
const RESPONSES_MAX: usize = 128;
/// Commands that are queued for the task of a hub. When the queue is full, [`WatchHub::watch`]
/// waits, and a request for progress is dropped.
const COMMANDS_MAX: usize = 64;
/// Requests that are queued for the server. When the queue is full, the task of the hub waits.
const REQUESTS_MAX: usize = 16;
/// The watch id of an answer that is for all watches of the stream, or for none.
const NO_WATCH: i64 = -1;

/// One response of a watch.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Events, or a notice of progress, or the end.
    pub response: pb::WatchResponse,
    /// Why the watch has ended: then nothing follows.
    pub error: Option<Error>,
}

impl Watched {
    /// True if it is a progress notification.
    #[must_use]
    pub fn is_progress(&self) -> bool {
        let response = &self.response;
        response.events.is_empty()
            && !response.canceled
            && !response.created
            && response.compact_revision == 0
            && response.header.as_ref().is_some_and(|header| header.revision != 0)
    }
}

/// One watch. Dropping it cancels it.
#[derive(Debug)]
pub struct Watcher {
    answers: mpsc::Receiver<Watched>,
    /// Wakes the task of the hub, which looks for watches whose receiver is closed.
    dropped: Arc<Notify>,
}

impl Watcher {
    /// The next answer; nothing once the watch has ended.
    pub async fn next(&mut self) -> Option<Watched> {
        self.answers.recv().await
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.answers.close();
        self.dropped.notify_one();
    }
}

/// Watches that share one stream.
#[derive(Debug)]
pub struct WatchHub {
    next: u64,
    commands: mpsc::Sender<Command>,
    dropped: Arc<Notify>,
}

#[derive(Debug)]
enum Command {
    Watch(u64, Box<Watch>),
    Progress,
}

#[derive(Debug)]
struct Watch {
    /// Its start revision is the one from which the watch resumes.
    request: pb::WatchCreateRequest,
    /// The watch id on the current stream.
    id: Option<i64>,
    /// The fragments of an incomplete response.
    fragments: Option<pb::WatchResponse>,
    answers: mpsc::Sender<Watched>,
}

impl Client {
    /// A stream for watches; it is opened by the first of them.
    #[must_use]
    pub fn watch_hub(&self) -> WatchHub {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let dropped = Arc::new(Notify::new());
        tokio::spawn(run(self.clone(), inbox, Arc::clone(&dropped)));
        WatchHub { next: 0, commands, dropped }
    }

    /// One watch with a stream of its own.
    pub async fn watch(&self, request: pb::WatchCreateRequest) -> Watcher {
        self.watch_hub().watch(request).await
    }
}

impl WatchHub {
    /// Starts a watch. Waits while too many commands are queued.
    pub async fn watch(&mut self, request: pb::WatchCreateRequest) -> Watcher {
        let (sender, answers) = mpsc::channel(RESPONSES_MAX);
        let number = self.next;
        self.next += 1;
        let watch = Watch { request, id: None, fragments: None, answers: sender };
        // The task of the hub lives as long as the hub; without it the watch has ended at once.
        _ = self.commands.send(Command::Watch(number, Box::new(watch))).await;
        Watcher { answers, dropped: Arc::clone(&self.dropped) }
    }

    /// Requests a progress notification for each watch.
    pub fn request_progress(&self) {
        _ = self.commands.try_send(Command::Progress);
    }
}

/// The state of the watches of a hub.
#[derive(Default)]
struct Hub {
    watches: BTreeMap<u64, Watch>,
    /// Watches that must be created on the server, at most as many as `watches`. They are created
    /// one at a time: responses are matched to requests by their order.
    to_create: VecDeque<u64>,
    creating: Option<u64>,
}

/// Why a stream has ended.
enum Left {
    /// There are no watches, and the hub was dropped.
    Unused,
    /// It broke; another stream may work.
    Broken,
    /// The server refused it; another stream would not help.
    Refused(Status),
}

async fn run(client: Client, mut commands: mpsc::Receiver<Command>, dropped: Arc<Notify>) {
    let mut hub = Hub::default();
    loop {
        while hub.to_create.is_empty() {
            // A request for progress is dropped here, since there is no stream.
            match commands.recv().await {
                Some(command) => _ = hub.obey(command),
                None => return,
            }
        }
        match stream(&client, &mut hub, &mut commands, &dropped).await {
            Left::Unused => return,
            Left::Broken => tokio::time::sleep(BACKOFF).await,
            Left::Refused(status) => hub.fail_all(&status).await,
        }
        hub.forget_stream();
    }
}

/// Serves the watches on one stream until it ends.
async fn stream(
    client: &Client,
    hub: &mut Hub,
    commands: &mut mpsc::Receiver<Command>,
    dropped: &Notify,
) -> Left {
    let (requests, outbox) = mpsc::channel(REQUESTS_MAX);
    hub.create_next(&requests).await;
    let mut answers = match open(client, outbox).await {
        Ok(answers) => answers,
        Err(status) => return why_left(status),
    };
    // A failed send to `requests` is a broken stream, which `answers` reports.
    loop {
        if hub.watches.is_empty() && commands.is_closed() && commands.is_empty() {
            return Left::Unused;
        }
        tokio::select! {
            Some(command) = commands.recv() => {
                if let Some(request) = hub.obey(command) {
                    _ = requests.send(request).await;
                }
                hub.create_next(&requests).await;
            }
            () = dropped.notified() => {
                for cancel in hub.cancel_dropped() {
                    _ = requests.send(cancel).await;
                }
            }
            answer = answers.next() => match answer {
                Some(Ok(answer)) => {
                    if answer.created {
                        // The watcher may have been dropped before the response came.
                        dropped.notify_one();
                    }
                    hub.take(answer).await;
                    hub.create_next(&requests).await;
                }
                Some(Err(status)) => return why_left(status),
                None => return Left::Broken,
            },
        }
    }
}

fn why_left(status: Status) -> Left {
    if matches!(status.code(), Code::Unavailable | Code::Internal) {
        Left::Broken
    } else {
        Left::Refused(status)
    }
}

async fn open(
    client: &Client,
    requests: mpsc::Receiver<pb::WatchRequest>,
) -> Result<Streaming<pb::WatchResponse>, Status> {
    let mut request = client.request(ReceiverStream::new(requests), None)?;
    // A member without a leader must end the stream instead of being silent.
    request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
    client.stream(METHOD, request).await
}

impl Hub {
    /// Executes a command; returns the request for the server, if any.
    fn obey(&mut self, command: Command) -> Option<pb::WatchRequest> {
        match command {
            Command::Watch(number, watch) => {
                self.watches.insert(number, *watch);
                self.to_create.push_back(number);
                None
            }
            Command::Progress => {
                Some(request(RequestUnion::ProgressRequest(pb::WatchProgressRequest {})))
            }
        }
    }

    /// Forgets the watches whose [`Watcher`] was dropped; returns the requests that cancel them.
    /// A watch that is being created has no id to cancel yet, and is left for later.
    fn cancel_dropped(&mut self) -> Vec<pb::WatchRequest> {
        let creating = self.creating;
        let dropped = self
            .watches
            .extract_if(.., |number, watch| watch.answers.is_closed() && Some(*number) != creating);
        let ids: Vec<Option<i64>> = dropped.map(|(_, watch)| watch.id).collect();
        self.to_create.retain(|number| self.watches.contains_key(number));
        let cancel =
            |watch_id| request(RequestUnion::CancelRequest(pb::WatchCancelRequest { watch_id }));
        ids.into_iter().flatten().map(cancel).collect()
    }

    async fn create_next(&mut self, requests: &mpsc::Sender<pb::WatchRequest>) {
        if self.creating.is_some() {
            return;
        }
        let Some(number) = self.to_create.pop_front() else { return };
        if let Some(watch) = self.watches.get(&number) {
            self.creating = Some(number);
            let create = RequestUnion::CreateRequest(watch.request.clone());
            _ = requests.send(request(create)).await;
        }
    }

    async fn take(&mut self, mut answer: pb::WatchResponse) {
        if answer.created {
            self.created(answer).await;
            return;
        }
        if answer.watch_id == NO_WATCH {
            for number in self.watches.keys().copied().collect::<Vec<_>>() {
                self.give(number, answer.clone()).await;
            }
            return;
        }
        let id = Some(answer.watch_id);
        let found = self.watches.iter().find(|(_, watch)| watch.id == id);
        let Some(number) = found.map(|(number, _)| *number) else { return };
        let Some(watch) = self.watches.get_mut(&number) else { return };
        if let Some(mut before) = watch.fragments.take() {
            before.events.append(&mut answer.events);
            answer = pb::WatchResponse { events: before.events, ..answer };
        }
        if answer.fragment {
            watch.fragments = Some(answer);
        } else {
            self.give(number, answer).await;
        }
    }

    async fn created(&mut self, answer: pb::WatchResponse) {
        let Some(number) = self.creating.take() else { return };
        if answer.canceled || answer.watch_id == NO_WATCH {
            let answer = pb::WatchResponse { canceled: true, ..answer };
            self.give(number, answer).await;
            return;
        }
        let Some(watch) = self.watches.get_mut(&number) else { return };
        watch.id = Some(answer.watch_id);
        if watch.request.start_revision == 0 {
            // Resume here after a broken connection, so that no event is missed.
            let revision = answer.header.map_or(0, |header| header.revision);
            watch.request.start_revision = revision + 1;
        }
    }

    /// Passes a response to its watch, waiting while its queue is full, and advances the revision
    /// from which the watch resumes.
    async fn give(&mut self, number: u64, response: pb::WatchResponse) {
        let Some(watch) = self.watches.get_mut(&number) else { return };
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let last = response.events.last().and_then(|event| event.kv.as_ref());
        let next = &mut watch.request.start_revision;
        match last {
            Some(last) => *next = last.mod_revision + 1,
            None => *next = (*next).max(revision + 1),
        }
        let error = response.canceled.then(|| why_canceled(&response));
        let ended = error.is_some();
        let unread = watch.answers.send(Watched { response, error }).await.is_err();
        if ended || unread {
            self.watches.remove(&number);
        }
    }

    async fn fail_all(&mut self, status: &Status) {
        for watch in std::mem::take(&mut self.watches).into_values() {
            let response = pb::WatchResponse { canceled: true, ..Default::default() };
            let error = Some(Error::from(status.clone()));
            _ = watch.answers.send(Watched { response, error }).await;
        }
    }

    /// Prepares all watches to be created again on the next stream.
    fn forget_stream(&mut self) {
        self.creating = None;
        self.watches.values_mut().for_each(|watch| {
            watch.id = None;
            watch.fragments = None;
        });
        self.to_create = self.watches.keys().copied().collect();
    }
}

fn request(union: RequestUnion) -> pb::WatchRequest {
    pb::WatchRequest { request_union: Some(union) }
}

fn why_canceled(response: &pb::WatchResponse) -> Error {
    const PREFIX: &str = "etcdserver: mvcc: required revision";
    if response.compact_revision != 0 {
        Status::out_of_range(format!("{PREFIX} has been compacted")).into()
    } else if response.cancel_reason.is_empty() {
        Status::out_of_range(format!("{PREFIX} is a future revision")).into()
    } else {
        Status::failed_precondition(response.cancel_reason.clone()).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hub() -> (Hub, mpsc::Receiver<Watched>) {
        let (sender, answers) = mpsc::channel(RESPONSES_MAX);
        let request = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
        let watch = Watch { request, id: None, fragments: None, answers: sender };
        let mut hub = Hub::default();
        assert!(hub.obey(Command::Watch(0, Box::new(watch))).is_none());
        (hub, answers)
    }

    fn answer(revision: i64, events: &[i64]) -> pb::WatchResponse {
        let event = |mod_revision: &i64| proto::mvccpb::Event {
            kv: Some(proto::mvccpb::KeyValue { mod_revision: *mod_revision, ..Default::default() }),
            ..Default::default()
        };
        pb::WatchResponse {
            header: Some(pb::ResponseHeader { revision, ..Default::default() }),
            watch_id: 7,
            events: events.iter().map(event).collect(),
            ..Default::default()
        }
    }

    #[tokio::test]
    async fn a_watch_goes_on_behind_the_last_revision_it_has_seen() {
        let (mut hub, mut answers) = hub();
        let (requests, mut outbox) = mpsc::channel(REQUESTS_MAX);
        hub.create_next(&requests).await;
        hub.take(pb::WatchResponse { created: true, ..answer(5, &[]) }).await;
        assert_eq!(hub.watches[&0].request.start_revision, 6, "from now, even if it breaks now");
        hub.take(answer(9, &[8])).await;
        assert_eq!(answers.recv().await.unwrap().response.events.len(), 1);
        hub.forget_stream();
        hub.create_next(&requests).await;
        assert!(outbox.recv().await.is_some());
        let Some(RequestUnion::CreateRequest(again)) = outbox.recv().await.unwrap().request_union
        else {
            panic!("not a create request")
        };
        assert_eq!(again.start_revision, 9);
    }

    #[tokio::test]
    async fn a_watch_that_is_dropped_is_cancelled() {
        let (mut hub, answers) = hub();
        let (requests, _outbox) = mpsc::channel(REQUESTS_MAX);
        hub.create_next(&requests).await;
        hub.take(pb::WatchResponse { created: true, ..answer(5, &[]) }).await;
        assert_eq!(hub.cancel_dropped(), []);
        drop(answers);
        let cancel = pb::WatchCancelRequest { watch_id: 7 };
        assert_eq!(hub.cancel_dropped(), [request(RequestUnion::CancelRequest(cancel))]);
        assert!(hub.watches.is_empty());
    }

    #[tokio::test]
    async fn fragments_are_put_together() {
        let (mut hub, mut answers) = hub();
        let (requests, _outbox) = mpsc::channel(REQUESTS_MAX);
        hub.create_next(&requests).await;
        hub.take(pb::WatchResponse { created: true, ..answer(5, &[]) }).await;
        hub.take(pb::WatchResponse { fragment: true, ..answer(9, &[8]) }).await;
        hub.take(answer(9, &[8, 9])).await;
        assert_eq!(answers.recv().await.unwrap().response.events.len(), 3);
    }

    #[tokio::test]
    async fn the_end_of_a_watch_says_why() {
        let (mut hub, mut answers) = hub();
        let (requests, _outbox) = mpsc::channel(REQUESTS_MAX);
        hub.create_next(&requests).await;
        hub.take(pb::WatchResponse { created: true, ..answer(5, &[]) }).await;
        let end = pb::WatchResponse { canceled: true, compact_revision: 3, ..answer(0, &[]) };
        hub.take(end).await;
        let error = answers.recv().await.unwrap().error.unwrap();
        assert_eq!(error.to_string(), "etcdserver: mvcc: required revision has been compacted");
        assert!(answers.recv().await.is_none() && hub.watches.is_empty());
    }
}
