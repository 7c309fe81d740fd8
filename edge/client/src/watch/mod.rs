//! Watches. A hub multiplexes many watches over one stream, and opens a new stream when one breaks;
//! each watch then resumes after the last revision that was delivered to it.
//!
//! Every queue has a bound. While the queue of a reader is full, the stream is not read, so flow
//! control stops the server. Requests and cancellations are sent even then.
//!
//! Source: etcd v3.7.1 client/v3/watch.go.

mod hub;
#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
mod update;

use crate::call::Client;
use crate::credentials::is_stale;
use hub::{Delivery, Hub, Number, ProtocolViolation};
use proto::etcdserverpb as pb;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status, Streaming};
pub use update::WatchUpdate;

const METHOD: &str = "/etcdserverpb.Watch/Watch";
/// The pause before a broken stream is opened again.
const BACKOFF: Duration = Duration::from_millis(100);
/// Responses that are queued for one slow reader.
const RESPONSES_MAX: usize = 128;
/// Commands that are queued for the task of a hub. When the queue is full, [`WatchHub::watch`]
/// waits, and a request for progress is dropped.
const COMMANDS_MAX: usize = 64;
/// Requests that are queued for the server. When the queue is full, further requests wait in the
/// hub, which holds at most two for each watch.
const REQUESTS_MAX: usize = 16;

/// One watch. Dropping it cancels it.
///
/// ```no_run
/// # async fn example(client: client::Client) -> Result<(), client::Error> {
/// use proto::etcdserverpb::WatchCreateRequest;
///
/// let request = WatchCreateRequest { key: "a".into(), start_revision: 7, ..Default::default() };
/// let mut watcher = client.watch(request).await;
/// // When the connection breaks, the watch goes on at another endpoint after the last event that
/// // was delivered here: no event is missed, and none comes twice.
/// while let Some(update) = watcher.next().await {
///     // For example, the first revision was compacted.
///     if let Some(error) = update.error {
///         return Err(error);
///     }
///     for event in update.response.events {
///         println!("{:?} of {:?}", event.r#type(), event.kv);
///     }
/// }
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Watcher {
    answers: mpsc::Receiver<WatchUpdate>,
    /// Gets the header of the response that creates the watch; `None` once it was received.
    created: Option<oneshot::Receiver<pb::ResponseHeader>>,
    /// That header.
    header: pb::ResponseHeader,
    /// Wakes the task of the hub, which looks for watches whose receiver is closed.
    dropped: Arc<Notify>,
    /// The last response was returned.
    ended: bool,
}

impl Watcher {
    /// Waits until the server has the watch, so that it sends every later event. Returns false if
    /// the watch has ended before; [`Watcher::next`] then has the reason.
    pub async fn created(&mut self) -> bool {
        let Some(created) = &mut self.created else { return true };
        let Ok(header) = created.await else { return false };
        self.header = header;
        self.created = None;
        true
    }

    /// The header of the response that created the watch; empty before [`Watcher::created`] has
    /// returned true.
    #[must_use]
    pub fn creation_header(&self) -> &pb::ResponseHeader {
        &self.header
    }

    /// The next response; `None` once the watch has ended.
    pub async fn next(&mut self) -> Option<WatchUpdate> {
        if self.ended {
            return None;
        }
        // The last response of a watch has an error. If the queue closes without one, the task has
        // panicked.
        let update = self.answers.recv().await.unwrap_or_else(|| {
            WatchUpdate::ended(Status::internal("the client's task for watches has failed").into())
        });
        self.ended = update.error.is_some();
        Some(update)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.answers.close();
        self.dropped.notify_one();
    }
}

/// Watches that share one stream. They continue when the hub is dropped.
///
/// ```no_run
/// # async fn example(client: client::Client) {
/// use proto::etcdserverpb::WatchCreateRequest;
///
/// let mut hub = client.watch_hub();
/// let mut first = hub.watch(WatchCreateRequest { key: "a".into(), ..Default::default() }).await;
/// let mut second = hub.watch(WatchCreateRequest { key: "b".into(), ..Default::default() }).await;
/// tokio::select! {
///     update = first.next() => println!("a: {update:?}"),
///     update = second.next() => println!("b: {update:?}"),
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct WatchHub {
    next: Number,
    /// Invariant: `Some` until the hub is dropped.
    commands: Option<mpsc::Sender<Command>>,
    dropped: Arc<Notify>,
}

/// The sides of a watch that its [`Watcher`] does not have.
#[derive(Debug)]
struct Reader {
    updates: mpsc::Sender<WatchUpdate>,
    /// `None` once the server has the watch.
    created: Option<oneshot::Sender<pb::ResponseHeader>>,
}

#[derive(Debug)]
enum Command {
    Watch(Number, Box<pb::WatchCreateRequest>, Reader),
    Progress,
}

impl Client {
    /// A hub without watches. The first watch opens the stream.
    #[must_use]
    pub fn watch_hub(&self) -> WatchHub {
        let (commands, inbox) = mpsc::channel(COMMANDS_MAX);
        let dropped = Arc::new(Notify::new());
        let task = Task {
            client: self.clone(),
            commands: inbox,
            dropped: Arc::clone(&dropped),
            hub: Hub::default(),
            readers: BTreeMap::new(),
            pending: VecDeque::new(),
            requests: None,
        };
        tokio::spawn(task.run());
        WatchHub { next: 0, commands: Some(commands), dropped }
    }

    /// One watch with a stream of its own.
    pub async fn watch(&self, request: pb::WatchCreateRequest) -> Watcher {
        self.watch_hub().watch(request).await
    }
}

impl WatchHub {
    /// Starts a watch. Waits while too many commands are queued.
    pub async fn watch(&mut self, request: pb::WatchCreateRequest) -> Watcher {
        let (updates, answers) = mpsc::channel(RESPONSES_MAX);
        let (creation, created) = oneshot::channel();
        let reader = Reader { updates, created: Some(creation) };
        let number = self.next;
        self.next += 1;
        if let Some(commands) = &self.commands {
            // If the task of the hub has failed, the watcher reports it.
            _ = commands.send(Command::Watch(number, Box::new(request), reader)).await;
        }
        let dropped = Arc::clone(&self.dropped);
        let header = pb::ResponseHeader::default();
        Watcher { answers, created: Some(created), header, dropped, ended: false }
    }

    /// Requests a progress notification for each watch.
    pub fn request_progress(&self) {
        if let Some(commands) = &self.commands {
            _ = commands.try_send(Command::Progress);
        }
    }
}

impl Drop for WatchHub {
    fn drop(&mut self) {
        self.commands = None;
        self.dropped.notify_one();
    }
}

/// The task of a hub: connects [`Hub`] with the stream and the readers.
struct Task {
    client: Client,
    commands: mpsc::Receiver<Command>,
    dropped: Arc<Notify>,
    hub: Hub,
    /// The queues of the readers, until they are dropped or their watch has ended.
    readers: BTreeMap<Number, Reader>,
    /// The deliveries of one response of the server. The next response is read when all are made.
    pending: VecDeque<Delivery>,
    /// The queue of the stream's requests, while there is a stream.
    requests: Option<mpsc::Sender<pb::WatchRequest>>,
}

type StreamFuture =
    Pin<Box<dyn Future<Output = Result<Streaming<pb::WatchResponse>, Status>> + Send>>;

/// The stream of a hub.
enum Stream {
    /// There is no watch that needs a stream.
    Closed,
    /// The last stream broke.
    Paused(Pin<Box<tokio::time::Sleep>>),
    /// The server has not responded yet.
    Opening(StreamFuture),
    /// The stream is open.
    Open(Box<Streaming<pb::WatchResponse>>),
}

/// An event of the stream.
enum Happened {
    Opened(Box<Streaming<pb::WatchResponse>>),
    Answered(pb::WatchResponse),
    /// The pause is over; a new stream can be opened.
    Rested,
    /// The stream broke; another one may work.
    Broke,
    /// The server refused the stream; another one would be refused too.
    Refused(Status),
}

impl Stream {
    async fn next(&mut self) -> Happened {
        match self {
            Stream::Closed => std::future::pending().await,
            Stream::Paused(pause) => {
                pause.await;
                Happened::Rested
            }
            Stream::Opening(opening) => match opening.await {
                Ok(answers) => Happened::Opened(Box::new(answers)),
                Err(status) => failed(status),
            },
            Stream::Open(answers) => match answers.next().await {
                Some(Ok(answer)) => Happened::Answered(answer),
                Some(Err(status)) => failed(status),
                None => Happened::Broke,
            },
        }
    }
}

/// Waits until the queue of requests has room.
async fn room(requests: Option<&mpsc::Sender<pb::WatchRequest>>) {
    if let Some(requests) = requests
        && requests.reserve().await.is_ok()
    {
        return;
    }
    // Without a stream, waits for ever. A broken stream is reported by the side that reads the
    // responses.
    std::future::pending().await
}

fn failed(status: Status) -> Happened {
    if matches!(status.code(), Code::Unavailable | Code::Internal) {
        Happened::Broke
    } else {
        Happened::Refused(status)
    }
}

impl Task {
    async fn run(mut self) {
        let mut stream = Stream::Closed;
        while !self.is_done() {
            if matches!(stream, Stream::Closed) && !self.hub.is_empty() {
                stream = self.open();
            }
            tokio::select! {
                biased;
                () = self.dropped.notified() => self.forget_dropped(),
                Some(command) = self.commands.recv() => self.obey(command),
                () = room(self.requests.as_ref()), if self.hub.has_request() => self.send(),
                () = deliver(&mut self.pending, &mut self.readers),
                    if !self.pending.is_empty() => {}
                happened = stream.next(), if self.pending.is_empty() => {
                    self.take(happened, &mut stream);
                }
            }
        }
    }

    /// Whether there are no watches, and no commands can arrive.
    fn is_done(&self) -> bool {
        let no_commands = self.commands.is_closed() && self.commands.is_empty();
        no_commands && self.hub.is_empty() && self.pending.is_empty()
    }

    fn open(&mut self) -> Stream {
        let (requests, outbox) = mpsc::channel(REQUESTS_MAX);
        self.requests = Some(requests);
        let client = self.client.clone();
        let opening = async move {
            client.renew_token_of_stream().await?;
            let mut request = client.request(ReceiverStream::new(outbox), None)?;
            // Makes a member that loses its leader end the stream, instead of sending nothing.
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
            client.stream(METHOD, request).await
        };
        Stream::Opening(Box::pin(opening))
    }

    /// Queues the next request; there is room for it.
    fn send(&mut self) {
        if let (Some(requests), Some(request)) = (&self.requests, self.hub.next_request()) {
            // Fails only if the stream is broken, which the side of the responses reports.
            _ = requests.try_send(request);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Watch(number, request, reader) => {
                self.readers.insert(number, reader);
                self.hub.add(number, *request);
            }
            Command::Progress => self.hub.want_progress(),
        }
    }

    fn forget_dropped(&mut self) {
        let dropped = self.readers.extract_if(.., |_, reader| reader.updates.is_closed());
        for (number, _) in dropped {
            self.hub.forget(number);
        }
    }

    /// Tells a watcher that the server has its watch, if it has.
    fn announce_created(&mut self, number: Number, header: pb::ResponseHeader) {
        let reader = self.readers.get_mut(&number).filter(|_| self.hub.is_live(number));
        if let Some(created) = reader.and_then(|reader| reader.created.take()) {
            // An error means that nobody waits.
            _ = created.send(header);
        }
    }

    fn take(&mut self, happened: Happened, stream: &mut Stream) {
        match happened {
            Happened::Opened(answers) => *stream = Stream::Open(answers),
            // A new stream gets a new token.
            Happened::Answered(answer)
                if answer.created
                    && answer.canceled
                    && self.client.credentials.user.is_some()
                    && is_stale_reason(&answer.cancel_reason) =>
            {
                self.take(Happened::Broke, stream);
            }
            Happened::Answered(answer) => {
                let creating = self.hub.creating().filter(|_| answer.created);
                let header = answer.header.unwrap_or_default();
                match self.hub.receive(answer) {
                    Ok(deliveries) => self.pending.extend(deliveries),
                    Err(ProtocolViolation) => return self.take(Happened::Broke, stream),
                }
                if let Some(number) = creating {
                    self.announce_created(number, header);
                }
            }
            Happened::Rested => *stream = Stream::Closed,
            Happened::Broke => {
                self.hub.stream_ended();
                self.requests = None;
                *stream = Stream::Paused(Box::pin(tokio::time::sleep(BACKOFF)));
            }
            Happened::Refused(status) => {
                self.pending.extend(self.hub.refused(&status));
                self.requests = None;
                *stream = Stream::Closed;
            }
        }
    }
}

/// Whether a watch was refused because of its token.
///
/// Source: etcd v3.7.1 client/v3/watch.go `shouldRetryWatch`.
fn is_stale_reason(reason: &str) -> bool {
    reason.split_once(" desc = ").is_some_and(|(_, text)| is_stale(text))
}

/// Passes the first delivery to its reader; waits while the reader's queue is full. Safe to cancel.
async fn deliver(pending: &mut VecDeque<Delivery>, readers: &mut BTreeMap<Number, Reader>) {
    let Some(Delivery { number, update }) = pending.front() else { return };
    let (number, last) = (*number, update.error.is_some());
    let permit = match readers.get(&number) {
        Some(reader) => reader.updates.reserve().await.ok(),
        None => None,
    };
    // There is no permit if the reader was dropped; the delivery is dropped with it.
    let delivery = pending.pop_front();
    if let (Some(permit), Some(delivery)) = (permit, delivery) {
        permit.send(delivery.update);
    }
    if last {
        readers.remove(&number);
    }
}
