//! What the reader of a watch is given.

use crate::Error;
use proto::etcdserverpb as pb;

/// One response of a watch.
#[derive(Clone, Debug)]
pub struct WatchUpdate {
    /// Events, or a notice of progress, or the end.
    pub response: pb::WatchResponse,
    /// Why the watch has ended: then nothing follows.
    pub error: Option<Error>,
}

impl WatchUpdate {
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

    /// The end of a watch that the server did not send.
    pub(super) fn ended(error: Error) -> WatchUpdate {
        let response = pb::WatchResponse { canceled: true, ..Default::default() };
        WatchUpdate { response, error: Some(error) }
    }
}
