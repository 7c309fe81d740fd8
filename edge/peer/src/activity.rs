//! Tracks whether a member is reached, and since when.
//!
//! Source: etcd v3.7 rafthttp/peer_status.go.

use crate::counters::Counters;
use proto::NodeId;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A success of any channel makes the member active, a failure of any makes it inactive.
#[derive(Debug)]
pub(crate) struct Activity {
    peer: NodeId,
    counters: Counters,
    since: Mutex<Option<Instant>>,
}

impl Activity {
    pub(crate) fn new(peer: NodeId, counters: Counters) -> Activity {
        Activity { peer, counters, since: Mutex::default() }
    }

    pub(crate) fn since(&self) -> Option<Instant> {
        *self.lock()
    }

    pub(crate) fn succeeded(&self) {
        let mut since = self.lock();
        if since.is_none() {
            *since = Some(Instant::now());
            tracing::info!("peer-id" = format!("{:x}", self.peer), "peer became active");
            self.counters.active(self.peer, true);
        }
    }

    pub(crate) fn failed(&self, action: &'static str, error: &str) {
        let mut since = self.lock();
        if since.take().is_some() {
            let message = format!("failed to {action} ({error})");
            tracing::warn!(
                "peer-id" = format!("{:x}", self.peer),
                error = message,
                "peer became inactive (message send to peer failed)"
            );
            self.counters.active(self.peer, false);
            return;
        }
        tracing::debug!(
            "peer-id" = format!("{:x}", self.peer),
            action,
            error,
            "peer deactivated again"
        );
    }

    fn lock(&self) -> MutexGuard<'_, Option<Instant>> {
        self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
