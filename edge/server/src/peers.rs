//! The interface to the transport between members, which is in `peer`, above this crate.

use cluster::Cluster;
use proto::NodeId;
use raft::Message;
use std::fmt;
use std::time::Instant;

/// Sends messages to other members. No call may wait: a message that cannot be queued is dropped.
pub trait Peers: Send + Sync + fmt::Debug {
    /// Sends messages to the members that they are addressed to.
    fn send(&self, messages: Vec<Message>);

    /// Sends a snapshot with its database file, then reports to
    /// [`crate::Handle::report_snapshot`].
    fn send_snapshot(&self, message: Message, file: bolt::View);

    /// Called when the members, their URLs or the removed members have changed.
    fn set_members(&self, cluster: &Cluster);

    /// Since when another member has been reached without a failure; `None` if it is not reached.
    fn active_since(&self, member: NodeId) -> Option<Instant>;
}

/// Sends nothing. For a cluster of one member, and for tests.
#[derive(Clone, Copy, Debug)]
pub struct NoPeers;

impl Peers for NoPeers {
    fn send(&self, _: Vec<Message>) {}

    fn send_snapshot(&self, _: Message, _: bolt::View) {}

    fn set_members(&self, _: &Cluster) {}

    fn active_since(&self, _: NodeId) -> Option<Instant> {
        None
    }
}
