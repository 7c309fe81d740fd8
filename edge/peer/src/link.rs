//! One other member: its URLs, its queues, its tasks.

use crate::activity::Activity;
use crate::limits::PIPELINE_CONNECTIONS;
use crate::outgoing::{Outgoing, QueueFull};
use crate::shared::Shared;
use crate::urls::UrlPicker;
use crate::{pipeline, probe, reader};
use net::tasks::watched;
use proto::NodeId;
use raft::Message;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::task::AbortHandle;
use wire::StreamKind;

/// Another member, or a sender that may become one.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) id: NodeId,
    /// [`Link::id`] as a label.
    pub(crate) name: String,
    pub(crate) urls: UrlPicker,
    pub(crate) outgoing: Outgoing,
    pub(crate) activity: Activity,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Link {
    pub(crate) fn new(id: NodeId, urls: &[String], shared: &Shared) -> Arc<Link> {
        Arc::new(Link {
            id,
            name: format!("{id:x}"),
            urls: UrlPicker::new(urls),
            outgoing: Outgoing::default(),
            activity: Activity::new(id, shared.counters.clone()),
            tasks: Mutex::default(),
        })
    }

    /// Opens the streams, and sends and probes.
    pub(crate) fn start(self: &Arc<Self>, shared: &Arc<Shared>) {
        self.start_remote(shared);
        for kind in [StreamKind::Append, StreamKind::Message] {
            let (link, all) = (Arc::clone(self), Arc::clone(shared));
            self.spawn(shared, "stream reader", reader::run(link, all, kind));
        }
        let (link, all) = (Arc::clone(self), Arc::clone(shared));
        self.spawn(shared, "prober", probe::run(link, all));
    }

    /// Sends single messages only.
    pub(crate) fn start_remote(self: &Arc<Self>, shared: &Arc<Shared>) {
        for _ in 0..PIPELINE_CONNECTIONS {
            let (link, all) = (Arc::clone(self), Arc::clone(shared));
            self.spawn(shared, "pipeline", pipeline::run(link, all));
        }
    }

    pub(crate) fn spawn(
        &self,
        shared: &Shared,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let handle = shared.runtime.spawn(watched(name, task)).abort_handle();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(handle);
    }

    pub(crate) fn send(&self, message: Message) -> Result<(), QueueFull> {
        self.outgoing.push(message)
    }

    /// Closes the streams and ends the tasks.
    pub(crate) fn stop(&self) {
        self.outgoing.close();
        for task in self.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        if self.activity.since().is_some() {
            self.activity.failed("stop", "the peer is no longer a member");
        }
    }
}
