//! The watchers of one worker, and the streams that their responses go to.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use watch::{Response, Shard, StreamId};

/// Takes the responses of a stream, in order.
pub type Deliver = Rc<dyn Fn(Vec<Response>)>;

/// The watchers of a worker and their streams.
pub(crate) struct WorkerWatches {
    pub(crate) shard: Shard,
    pub(crate) streams: BTreeMap<StreamId, Delivery>,
    /// A task reads history for watchers that are behind.
    pub(crate) catching_up: bool,
    /// A task checks for due progress notifications.
    pub(crate) ticking: bool,
}

/// The delivery of a stream's responses.
pub(crate) struct Delivery {
    pub(crate) deliver: Deliver,
    /// Bytes that were delivered and that the client has not taken yet.
    pub(crate) in_flight: usize,
}

impl fmt::Debug for WorkerWatches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerWatches").field("shard", &self.shard).finish_non_exhaustive()
    }
}

impl WorkerWatches {
    pub(crate) fn new(shard: Shard) -> WorkerWatches {
        WorkerWatches { shard, streams: BTreeMap::new(), catching_up: false, ticking: false }
    }
}
