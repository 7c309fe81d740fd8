//! The watches of all clients: carries out the effects of [`Coalescer`] with the streams of clients and
//! the watches of servers. Not here: the requests of a stream (`watch`).

use crate::coalesce::{BroadcastId, Coalescer, Effect, Target};
use crate::layers::{Layers, Received};
use crate::upstream::with_token;
use bytes::Bytes;
use client::{Client, WatchHub};
use net::tasks::watched;
use prost::Message as _;
use proto::etcdserverpb as pb;
use rpc::queue::Feeder;
use rpc::{Code, Status};
use server::metrics::Metrics;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

/// A stream whose client leaves more unread, in bytes, is ended. Its client can open another one that
/// goes on after the last event.
const UNREAD_MAX: usize = 8 << 20;

/// The watches of a token at the servers, which share a stream.
type Hub = Mutex<WatchHub>;

/// The watches of all clients.
pub(crate) struct Watches {
    client: Client,
    layers: Rc<Layers>,
    metrics: Arc<Metrics>,
    coalescer: RefCell<Coalescer>,
    streams: RefCell<BTreeMap<u64, Feeder>>,
    last_stream: Cell<u64>,
    /// The tasks of the broadcasts.
    tasks: RefCell<BTreeMap<BroadcastId, AbortHandle>>,
    /// Each is kept by the tasks that use it.
    hubs: RefCell<BTreeMap<Option<Bytes>, Weak<Hub>>>,
}

impl Watches {
    pub(crate) fn new(client: Client, layers: Rc<Layers>, metrics: Arc<Metrics>) -> Rc<Watches> {
        Rc::new(Watches {
            client,
            layers,
            metrics,
            coalescer: RefCell::default(),
            streams: RefCell::default(),
            last_stream: Cell::new(0),
            tasks: RefCell::default(),
            hubs: RefCell::default(),
        })
    }

    /// Makes a step of the machine and carries out its effects.
    pub(crate) fn step<T>(self: &Rc<Watches>, step: impl FnOnce(&mut Coalescer) -> T) -> T {
        let (result, effects, sharing) = {
            let mut coalescer = self.coalescer.borrow_mut();
            let result = step(&mut coalescer);
            (result, coalescer.take_effects(), coalescer.sharing())
        };
        for effect in effects {
            match effect {
                Effect::Open { broadcast, target, start_revision } => {
                    let task = Rc::clone(self).broadcast(broadcast, target, start_revision);
                    let task = tokio::task::spawn_local(watched("broadcast", task));
                    self.tasks.borrow_mut().insert(broadcast, task.abort_handle());
                }
                Effect::Close(broadcast) => {
                    if let Some(task) = self.tasks.borrow_mut().remove(&broadcast) {
                        task.abort();
                    }
                }
                Effect::Send { stream, response } => self.send(stream, &response),
            }
        }
        let sharing = i64::try_from(sharing).unwrap_or(i64::MAX);
        self.metrics.store.proxy.watchers_coalescing.set(sharing);
        result
    }

    /// The number of a new stream, whose responses go to `feeder`. [`Watches::close`] must follow.
    pub(crate) fn open(&self, feeder: Feeder) -> u64 {
        let number = self.last_stream.get() + 1;
        self.last_stream.set(number);
        self.streams.borrow_mut().insert(number, feeder);
        number
    }

    /// Ends the watches of a stream.
    pub(crate) fn close(self: &Rc<Watches>, stream: u64) {
        self.streams.borrow_mut().remove(&stream);
        self.step(|coalescer| coalescer.end_stream(stream));
    }

    /// Whether no further watcher is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.coalescer.borrow().is_full()
    }

    fn send(&self, stream: u64, response: &pb::WatchResponse) {
        let Some(feeder) = self.streams.borrow().get(&stream).cloned() else { return };
        if feeder.queued() <= UNREAD_MAX {
            return feeder.encoded(response);
        }
        tracing::warn!(unread = feeder.queued(), "a client does not read its watches; ending them");
        let why = "retcd: the client reads its watches too slowly";
        feeder.end(Status::new(Code::Unavailable, why));
    }

    fn hub(&self, token: Option<&Bytes>) -> Rc<Hub> {
        let mut hubs = self.hubs.borrow_mut();
        let key = token.cloned();
        if let Some(hub) = hubs.get(&key).and_then(Weak::upgrade) {
            return hub;
        }
        hubs.retain(|_, hub| hub.strong_count() > 0);
        let hub = Rc::new(Mutex::new(with_token(&self.client, token).watch_hub()));
        hubs.insert(key, Rc::downgrade(&hub));
        hub
    }

    /// One watch at the servers. Dropping it ends the watch.
    async fn broadcast(self: Rc<Watches>, id: BroadcastId, target: Target, start_revision: i64) {
        let hub = self.hub(target.token.as_ref());
        let mut request = pb::WatchCreateRequest {
            key: target.key,
            range_end: target.range_end,
            start_revision,
            progress_notify: true,
            prev_kv: true,
            fragment: true,
            ..Default::default()
        };
        if let Some(prefix) = &self.layers.prefix {
            prefix.enter_watch(&mut request);
        }
        let mut watcher = hub.lock().await.watch(request).await;
        if watcher.created().await {
            let header = *watcher.creation_header();
            self.step(|coalescer| coalescer.created(id, header));
        }
        while let Some(update) = watcher.next().await {
            let mut response = update.response;
            if let Some(error) = update.error {
                if response.cancel_reason.is_empty() && response.compact_revision == 0 {
                    error.message().clone_into(&mut response.cancel_reason);
                }
                self.tasks.borrow_mut().remove(&id);
                return self.step(|coalescer| coalescer.ended(id, &response));
            }
            if let Some(prefix) = &self.layers.prefix {
                prefix.leave_watch(&mut response);
            }
            let others = self.step(|coalescer| coalescer.received(id, &response));
            self.metrics.store.proxy.events_coalescing.inc_by(others as u64);
        }
    }

    /// Whether the token may read the keys: a watch that is shared already is not checked by a server.
    pub(crate) async fn check(&self, target: &Target) -> Result<(), String> {
        let (mut key, mut range_end) = (target.key.clone(), target.range_end.clone());
        if key.is_empty() {
            (key, range_end) = (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
        }
        let message = pb::RangeRequest {
            key,
            range_end,
            limit: 1,
            serializable: true,
            count_only: true,
            ..Default::default()
        };
        let bytes = message.encode_to_vec().into();
        let client = with_token(&self.client, target.token.as_ref());
        let read = self.layers.range(&client, Received { message, bytes }).await;
        read.map(drop).map_err(|error| error.message().to_owned())
    }
}
