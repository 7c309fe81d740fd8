//! The metrics of one transport.

use proto::NodeId;
use server::metrics::Metrics;
use std::fmt;
use std::sync::Arc;

/// The metrics of one transport.
#[derive(Clone)]
pub(crate) struct Counters {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) local: NodeId,
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Counters").field("local", &self.local).finish_non_exhaustive()
    }
}

impl Counters {
    pub(crate) fn active(&self, peer: NodeId, is_active: bool) {
        let labels = [format!("{:x}", self.local), format!("{peer:x}")];
        let network = &self.metrics.network;
        if is_active {
            network.active_peers.with_label_values(&labels).inc();
        } else {
            network.active_peers.with_label_values(&labels).dec();
            network.disconnected_peers.with_label_values(&labels).inc();
        }
    }
}
