//! One other member: its URLs, its queues, its tasks.

use crate::activity::Activity;
use crate::counters::Counters;
use crate::outgoing::{Outgoing, QueueFull};
use crate::urls::UrlPicker;
use net::tasks::watched;
use proto::NodeId;
use raft::Message;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

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
    pub(crate) fn new(id: NodeId, urls: &[String], counters: Counters) -> Arc<Link> {
        Arc::new(Link {
            id,
            name: format!("{id:x}"),
            urls: UrlPicker::new(urls),
            outgoing: Outgoing::default(),
            activity: Activity::new(id, counters),
            tasks: Mutex::default(),
        })
    }

    pub(crate) fn spawn(
        &self,
        runtime: &Handle,
        name: &'static str,
        task: impl Future<Output = ()> + Send + 'static,
    ) {
        let handle = runtime.spawn(watched(name, task)).abort_handle();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(handle);
    }

    /// Queues a message. See [`Outgoing::push`].
    pub(crate) fn send(&self, message: Message, wakers: &mut Vec<Waker>) -> Result<(), QueueFull> {
        self.outgoing.push(message, wakers)
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
